"""The IR of the body of a `scan`: ops on numbered values, the arguments first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np


class Ref(NamedTuple):
    """A value of the body by its number. detached: without its history."""

    slot: int
    detached: bool = False


class BodyStep(NamedTuple):
    """An op of the body. tracked: the result has a history if an input has one."""

    record: Any
    inputs: tuple[Any, ...]
    params: dict[str, Any]
    out: int
    tracked: bool


class BodyCheck(NamedTuple):
    """A check of an array's elements, which raises."""

    function: Callable[..., Any]
    array: Any
    rest: tuple[Any, ...]


class Kind(NamedTuple):
    """What an array of the body is like."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def is_float(self) -> bool:
        """Whether it has derivatives."""
        return self.dtype.kind == "f"


class Counts(NamedTuple):
    """How many carries, elements and constants a body is given, and how many results it has."""

    carries: int
    elements: int
    constants: int
    stacked: int
    summed: int


def split(items: Sequence[Any], *sizes: int) -> list[list[Any]]:
    """A sequence in parts of these sizes."""
    ends = list(accumulate(sizes, initial=0))
    return [list(items[start:stop]) for start, stop in pairwise(ends)]


class Code(NamedTuple):
    """A body: the kinds of its values, its ops and checks in order, and its results."""

    counts: Counts
    kinds: list[Kind]
    steps: list[BodyStep | BodyCheck]
    results: tuple[Any, ...]

    @property
    def arguments(self) -> int:
        """Number of carries, elements and constants."""
        return sum(self.counts[:3])

    def result_kinds(self) -> list[Kind]:
        """What each result is like."""
        return [
            self.kinds[x.slot] if isinstance(x, Ref) else Kind(np.shape(x), np.asarray(x).dtype)
            for x in self.results
        ]
