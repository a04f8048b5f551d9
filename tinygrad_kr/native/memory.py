"""Freed memory that the C library keeps for the next step, or gives back, where that is glibc."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

from tinygrad_kr.native.foreign import ctypes

__all__ = ["give_back", "keep_freed_memory"]

KEPT = 128 * 2**20
"""Free memory at the end of the heap that is kept; bytes.

Measured: by its own rule glibc returns what a step has freed to the system, and the next step gets
it page by page. An LSTM's eager step took 17.0 ms, not 9.1, and a GRU's 14.2, not 6.9.
"""
LARGEST = 32 * 2**20
"""Arrays below this come from the heap; bytes. It is the most that glibc allows."""
_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")
"""Variables with which a user sets these rules."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> bool:
    """Set glibc's thresholds; False where the user has set them, or for another C library."""
    if not sys.platform.startswith("linux") or any(os.environ.get(name) for name in _OWN):
        return False
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(_MMAP_THRESHOLD, LARGEST) and mallopt(_TRIM_THRESHOLD, KEPT))
    return False


def give_back() -> None:
    """Return freed memory to the system.

    glibc keeps what was freed for what is allocated next, up to 64 MB of it. That is fast between
    the like steps of a loop. A recorded run is not followed by another one. Other C libraries, and
    other systems, need no call.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], Any] | None:
    """glibc's `malloc_trim`; None where there is none."""
    if sys.platform != "linux":
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
