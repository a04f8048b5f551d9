"""Several changes that are made together: all of them, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeAlias

Change: TypeAlias = tuple[Callable[[], object], Callable[[], object]]
"""Makes a change; and restores what was there before, also where it was made in part or not."""


def make_all(changes: Iterable[Change]) -> None:
    """Make the changes in order. An exception, also an interrupt, undoes those made so far.

    changes: may be computed one by one, each after the one before was made.
    """
    undo: list[Callable[[], object]] = []
    try:
        for make, restore in changes:
            undo.append(restore)
            make()
    except BaseException:
        _undo(undo)
        raise


def _undo(restores: list[Callable[[], object]]) -> None:
    """Restore in reverse order. One that fails leaves the others; an interrupt repeats one."""
    while restores:
        with suppress(BaseException):
            while restores:
                with suppress(Exception):
                    restores[-1]()
                restores.pop()
