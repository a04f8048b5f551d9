"""Save a run and resume it."""

from __future__ import annotations

from tinygrad_kr.saving.checkpoint import load, save
from tinygrad_kr.saving.formats import DamagedFileError

__all__ = ["DamagedFileError", "load", "save"]


def __dir__() -> list[str]:
    return __all__
