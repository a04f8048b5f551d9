"""Public names of version 0.1.0 at their old places: for one release, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping
from typing import Any

MOVED = {
    "tinygrad_kr.arrays": {"norm": "tinygrad_kr.norm"},
    "tinygrad_kr.transformations": {"checkpoint": "tinygrad_kr.checkpoint"},
}
"""Module -> old name -> the place of what it named."""


def keep_old_names() -> None:
    """Let the modules of `MOVED` answer for the names that they had."""
    for module, names in MOVED.items():
        sys.modules[module].__getattr__ = _answer(module, names)  # type: ignore[method-assign]


def _answer(module: str, names: Mapping[str, str]) -> Any:
    def answer(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, new = names[name].rpartition(".")
        warnings.warn(f"{module}.{name} is now {names[name]}", DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(home), new)

    return answer
