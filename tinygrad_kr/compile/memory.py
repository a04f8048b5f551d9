"""One piece of memory for all that passes from step to step: what is never alive at the same time
lies in the same place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeGuard

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.c_code import TOGETHER, written_by
from tinygrad_kr.compile.plan import OUTSIDE, Call, Plan, Step, read_by, statements_of
from tinygrad_kr.compile.program import Value
from tinygrad_kr.ops import linalg

LINE = 64
"""Bytes of a cache line: every array begins at one, and one lies between two arrays."""


class Life(NamedTuple):
    """How many bytes a piece of memory has, and the moments from which and up to which it is
    used, both included."""

    size: int
    first: int
    last: int


def offsets(lives: Sequence[Life]) -> list[int]:
    """Where each piece begins: the largest first, each as low as those of its time allow."""
    found = [0] * len(lives)
    placed: list[tuple[int, int, Life]] = []
    for i in sorted(range(len(lives)), key=lambda i: -lives[i].size):
        size, first, last = lives[i]
        start = 0
        for begin, end, other in placed:
            if other.first <= last and first <= other.last:
                if _padded(start + size) <= begin:
                    break
                start = max(start, end)
        found[i] = start
        placed.append((start, _padded(start + size), lives[i]))
        placed.sort(key=lambda place: place[:2])
    return found


def _padded(size: int) -> int:
    return -(-size // LINE) * LINE + LINE


def moments(steps: Iterable[Step]) -> list[list[Step]]:
    """The steps that run together: one call, or all of one C function that works.

    C takes the arrays of such a function to lie apart (`restrict`), those too of which it uses one
    only before the other: two that share memory must never meet in one.
    """
    found: list[list[Step]] = []
    for step in steps:
        latest = found[-1] if found else []
        alone = isinstance(step, OUTSIDE) or not latest or isinstance(latest[0], OUTSIDE)
        if alone or len(latest) == TOGETHER:
            found.append([step])
        else:
            latest.append(step)
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
        if _is_returned(step):
            # What NumPy returns may be a view of what it was given.
            made = last[plan.places[step.statement.output].root]
            for value in read_by(step):
                root = plan.places[value].root
                last[root] = max(last[root], made)
    sizes = {root: plan.roots[root].size * plan.roots[root].dtype.itemsize for root in first}
    return {root: Life(sizes[root], first[root], last[root]) for root in first}


def _is_returned(step: Step) -> TypeGuard[Call]:
    """Whether NumPy makes the array of a step's result."""
    return isinstance(step, Call) and step.statement.op is not linalg.matmul


def _touched(plan: Plan, step: Step) -> set[Value]:
    if isinstance(step, OUTSIDE):
        written = [s.output for s in statements_of(step) if s.output in plan.places]
    else:
        written = written_by(plan, step)
    return read_by(step) | set(written)


class Arena:
    """The memory of what no call leaves behind, in one array: `arena.array(value)`.

    lasting: values that have memory of their own; offsets: where a root begins, in bytes.
    """

    def __init__(self, plan: Plan, lasting: set[Value]) -> None:
        self.plan = plan
        returned = {s.statement.output for s in plan.steps if _is_returned(s)}
        apart = {*lasting, *plan.program.sources, *returned}
        pieces = {root: life for root, life in lives(plan).items() if plan.roots[root] not in apart}
        self.offsets = dict(zip(pieces, offsets([*pieces.values()]), strict=True))
        self.nbytes = max((self.offsets[root] + pieces[root].size for root in pieces), default=0)
        raw = np.empty(self.nbytes + LINE, np.uint8)
        start = -raw.__array_interface__["data"][0] % LINE
        self.memory = raw[start : start + self.nbytes]

    def array(self, value: Value) -> ndarray:
        """The piece of a value, as an array."""
        place = self.plan.places[value]
        strides = tuple(step * value.dtype.itemsize for step in place.strides)
        start = self.offsets[place.root]
        return np.ndarray(value.shape, value.dtype, self.memory, start, strides)
