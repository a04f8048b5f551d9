"""How long recording and building a compiled function may take together.

A loop of Python is recorded in full, each turn of it. The passes look at the clock, and the C
compiler gets the time that is left.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, copy_context
from time import perf_counter
from typing import Any, TypeVar

Result = TypeVar("Result")
SECONDS = 20.0
"""Most seconds of recording and building."""

_end: ContextVar[float | None] = ContextVar("end", default=None)


class TooLongError(RuntimeError):
    """The time is over."""


def within(seconds: float, function: Callable[..., Result], *args: Any) -> Result:
    """`function(*args)`, in which `check` raises TooLongError after so many seconds."""
    context = copy_context()  # which ends with the call, whatever interrupts it
    context.run(_end.set, perf_counter() + seconds)
    return context.run(function, *args)


def check() -> None:
    """Raise TooLongError if the time is over."""
    end = _end.get()
    if end is not None and perf_counter() > end:
        raise TooLongError


def left(seconds: float) -> float:
    """The seconds that are left, at most `seconds`."""
    end = _end.get()
    return seconds if end is None else max(0.0, min(seconds, end - perf_counter()))
