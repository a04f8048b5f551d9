"""One piece of memory for all temporaries: those whose lifetimes do not overlap share a place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple, TypeGuard

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.ir.program import Value
from tinygrad_kr.compile.plan.plan import Plan, together, written_by
from tinygrad_kr.compile.plan.steps import OUTSIDE, Call, Step, read_by, statements_of
from tinygrad_kr.ops import linalg
from tinygrad_kr.ops.writes import address

LINE = 64
"""Bytes of a cache line: every array begins at one, and one lies between two arrays."""


class Life(NamedTuple):
    """How many bytes a piece of memory has, and the moments from which and up to which it is
    used, both included."""

    size: int
    first: int
    last: int


def arranged(pieces: Sequence[Life]) -> list[int]:
    """The byte at which each piece begins: the largest first, each as low as those of its time
    allow."""
    found = [0] * len(pieces)
    taken: list[tuple[int, Life]] = []
    for i in sorted(range(len(pieces)), key=lambda i: -pieces[i].size):
        found[i] = _lowest(pieces[i], taken)
        taken.append((found[i], pieces[i]))
    return found


def _lowest(piece: Life, taken: list[tuple[int, Life]]) -> int:
    """The first gap that is wide enough between the pieces of the same time."""
    start = 0
    for begin, other in sorted(taken):
        if other.first <= piece.last and piece.first <= other.last:
            if _padded(start + piece.size) <= begin:
                break
            start = max(start, _padded(begin + other.size))
    return start


def _padded(size: int) -> int:
    return -(-size // LINE) * LINE + LINE


def moments(steps: Iterable[Step]) -> list[list[Step]]:
    """The steps that run together: one call, or all of one C function that works.

    C takes the arrays of such a function to lie apart (`restrict`), those too of which it uses one
    only before the other: two that share memory must never meet in one.
    """
    found: list[list[Step]] = []
    for outside, some in groupby(steps, lambda step: isinstance(step, OUTSIDE)):
        run = list(some)
        found += [[step] for step in run] if outside else together(run)
    return found


def lives(plan: Plan) -> dict[int, Life]:
    """By root, the time of each piece of memory that a step uses; what outlives the call is used
    once more when all steps are done."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    together = moments(plan.steps)
    for moment, steps in enumerate(together):
        for root in {plan.places[value].root for step in steps for value in _touched(plan, step)}:
            first.setdefault(root, moment)
            last[root] = moment
    last |= {plan.places[value].root: len(together) for value in plan.program.kept()}
    for step in reversed(plan.steps):
        if is_returned(step):
            # What NumPy returns may be a view of what it was given.
            made = last[plan.places[step.statement.output].root]
            for value in read_by(step):
                root = plan.places[value].root
                last[root] = max(last[root], made)
    sizes = {root: plan.roots[root].size * plan.roots[root].dtype.itemsize for root in first}
    return {root: Life(sizes[root], first[root], last[root]) for root in first}


def is_returned(step: Step) -> TypeGuard[Call]:
    """Whether NumPy makes the array of a step's result."""
    return isinstance(step, Call) and step.statement.op is not linalg.matmul


def _touched(plan: Plan, step: Step) -> set[Value]:
    if isinstance(step, OUTSIDE):
        written = [s.output for s in statements_of(step) if s.output in plan.places]
    else:
        written = written_by(plan, step)
    return read_by(step) | set(written)


class Arena:
    """One array for the values that no call leaves behind.

    lasting: values that have memory of their own.
    """

    def __init__(self, plan: Plan, lasting: set[Value]) -> None:
        self.plan = plan
        times = lives(plan)
        returned = {s.statement.output for s in plan.steps if is_returned(s)}
        apart = {*lasting, *plan.program.sources, *returned}
        self.pieces = {root: t for root, t in times.items() if plan.roots[root] not in apart}
        self.starts = dict(zip(self.pieces, arranged([*self.pieces.values()]), strict=True))
        """By root, the byte at which its piece begins."""
        ends = [self.starts[root] + piece.size for root, piece in self.pieces.items()]
        self.nbytes = max(ends, default=0)
        raw = np.empty(self.nbytes + LINE, np.uint8)
        start = -address(raw) % LINE
        self.memory = raw[start : start + self.nbytes]

    def array(self, value: Value) -> ndarray:
        """The piece of a value that lies in the arena, as an array."""
        place = self.plan.places[value]
        strides = tuple(step * value.dtype.itemsize for step in place.strides)
        return np.ndarray(value.shape, value.dtype, self.memory, self.starts[place.root], strides)
