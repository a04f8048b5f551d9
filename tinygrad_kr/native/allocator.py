"""Memory that the C library holds back after NumPy has freed it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from tinygrad_kr.native.foreign import ctypes

__all__ = ["give_back"]


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
