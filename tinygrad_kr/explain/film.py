"""The film of a training."""

from typing import Any


def save_film(path: Any, monitors: Any, lang: str) -> None: ...
