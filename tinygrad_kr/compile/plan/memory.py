"""Lifetimes of temporaries, and where each lies in the arena: disjoint lifetimes share memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.ir.layout import View
from tinygrad_kr.compile.ir.program import Value
from tinygrad_kr.compile.plan.steps import (
    ArenaLayout,
    Lifetime,
    Step,
    is_returned,
    read_by,
    written_by,
)
from tinygrad_kr.native import deadline

LINE = 64
"""Bytes of a cache line: arrays begin at lines, with a line between two of one time."""


def packed(pieces: Sequence[Lifetime]) -> list[int]:
    """The byte at which each piece begins: greedy, the largest first, each as low as possible."""
    found = [0] * len(pieces)
    taken = np.zeros((0, 4), np.int64)  # begin, padded end, first and last moment; by begin
    for i in sorted(range(len(pieces)), key=lambda i: -pieces[i].size):
        deadline.check()
        piece = pieces[i]
        found[i] = begin = _lowest(piece, taken)
        row = begin, _padded(begin + piece.size), piece.first, piece.last
        taken = np.insert(taken, np.searchsorted(taken[:, 0], begin, "right"), row, axis=0)
    return found


def _lowest(piece: Lifetime, taken: ndarray) -> int:
    """The first gap that is wide enough between pieces with overlapping lifetimes."""
    beside = taken[(taken[:, 2] <= piece.last) & (piece.first <= taken[:, 3])]
    ends = np.concatenate(([0], np.maximum.accumulate(beside[:, 1])))
    wide = np.flatnonzero(_padded(ends[:-1] + piece.size) <= beside[:, 0])
    return int(ends[wide[0]] if wide.size else ends[-1])


def _padded(size: Any) -> Any:
    return -(-size // LINE) * LINE + LINE


def lifetimes(
    moments: Sequence[Sequence[Step]],
    views: Mapping[Value, View],
    roots: Sequence[Value],
    kept: Iterable[Value],
) -> dict[int, Lifetime]:
    """By root, the lifetime of each piece of memory that a step uses; what outlives the call lives
    until one moment after the last step.

    moments: the steps that run together: one call, or all of one C function. In C all arrays of a
    function are `restrict`, so no two of them may share memory, even if their uses do not overlap.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for moment, steps in enumerate(moments):
        for root in {views[value].root for step in steps for value in _touched(step)}:
            first.setdefault(root, moment)
            last[root] = moment
    last |= {views[value].root: len(moments) for value in kept}
    for step in (step for steps in reversed(moments) for step in reversed(steps)):
        if is_returned(step):
            # What NumPy returns may be a view of what it was given.
            made = last[views[step.instruction.output].root]
            for value in read_by(step):
                root = views[value].root
                last[root] = max(last[root], made)
    sizes = {root: roots[root].size * roots[root].dtype.itemsize for root in first}
    return {root: Lifetime(sizes[root], first[root], last[root]) for root in first}


def _touched(step: Step) -> set[Value]:
    return read_by(step) | set(written_by(step))


def arena(times: Mapping[int, Lifetime]) -> ArenaLayout:
    """Where each piece begins in one array for all."""
    return ArenaLayout(dict(times), dict(zip(times, packed([*times.values()]), strict=True)))
