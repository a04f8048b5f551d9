"""Many parameters in few calls: small ones joined into one array, large ones cut to fit in cache.

An update makes a dozen passes over its arrays. What it costs is, for small parameters, the number
of calls, and for large ones, how far away the memory is; so the unit of work is a block of about
`CHUNK` bytes, whatever the parameters are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.writes import owner
from tinygrad_kr.optim.lowering import Program

CHUNK = 1 << 17
"""Bytes of a parameter in one pass: with gradient, state and scratch it stays in a core's cache."""
SMALL = 1 << 14
"""Bytes of a parameter up to which copying it costs less than calls of its own."""
FEW_CALLS = 3
"""Calls of a rule up to which joining small parameters costs more than calls for each."""


class Slot:
    """What an optimizer keeps for one parameter: flat arrays, in C order, and numbers.

    Both are replaced as one, so that an interrupt leaves a state that was whole at some time.
    """

    __slots__ = ("_state", "param", "shape")

    def __init__(self, param: Node) -> None:
        self.param = param
        self.shape = param._data.shape
        self.keep({}, {})

    def keep(self, arrays: dict[str, ndarray], numbers: dict[str, float]) -> None:
        """From now on this is the state."""
        self._state = arrays, numbers

    @property
    def arrays(self) -> dict[str, ndarray]:
        """Its arrays by name, not to be changed in place."""
        return self._state[0]

    @property
    def numbers(self) -> dict[str, float]:
        """Its numbers by name, not to be changed in place."""
        return self._state[1]


class Cohort:
    """Parameters that one program updates alike: one group, one dtype, state of the same age.

    start: where its gradients begin among those of all parameters.
    """

    def __init__(
        self,
        group: dict[str, Any],
        names: tuple[str, ...],
        slots: list[Slot],
        program: Program,
        start: int,
    ) -> None:
        self.group, self.names, self.program = group, names, program
        self.options = self.current_options()
        self.group_values = tuple(group.values())
        self.applied: tuple[Any, ...] | None = None
        self.numbers = tuple(slots[0].numbers.values())
        dtype = slots[0].param._data.dtype
        self.constants = [np.empty((), dtype) for _ in range(program.constants)]
        parts = list(_partition(slots, join=program.calls > FEW_CALLS))
        widest = max((min(_size(part), _chunk(dtype)) for part in parts), default=0)
        self.scratch = [np.empty(widest, dtype) for _ in range(program.scratch)]
        self.slots = [slot for part in parts for slot in part]
        self.blocks: list[Block] = []
        for part in parts:
            array = part[0].param._data
            kind: Any = Joined
            if len(part) == 1 and array.flags.c_contiguous:
                kind = Whole if array.nbytes <= SMALL else Cut
            self.blocks.append(kind(self, part, start))
            start += len(part)

    def current_options(self) -> tuple[Any, ...]:
        """The group's options as they are now."""
        return tuple(map(self.group.__getitem__, self.names))

    def update(self, gradients: Sequence[ndarray]) -> None:
        """One step of all its parameters."""
        if self.numbers or self.options is not self.applied:
            self._apply_options()
        for block in self.blocks:
            block.update(gradients)
            block.numbers = self.numbers

    @np.errstate(all="ignore")
    def _apply_options(self) -> None:
        constants, self.numbers = self.program.numbers(*self.options, *self.numbers)
        for array, value in zip(self.constants, constants, strict=True):
            array[()] = value
        self.applied = self.options

    def settle(self) -> None:
        """Store the state in the slots. Each block gives that of its last finished step, since an
        interrupt may leave blocks at different steps."""
        for block in self.blocks:
            if block.numbers is not None:
                block.settle(dict(zip(self.program.number_state, block.numbers, strict=True)))

    def operands(self, state: Sequence[ndarray], start: int, stop: int) -> tuple[ndarray, ...]:
        """What an update of these elements is given after the parameter and the gradient."""
        scratch = [array[: stop - start] for array in self.scratch]
        return (*(array[start:stop] for array in state), *self.constants, *scratch)


class Block(Protocol):
    """Some parameters of a cohort, updated together.

    numbers: those of the cohort when an update was last finished; None before there was one.
    """

    numbers: tuple[float, ...] | None

    def update(self, gradients: Sequence[ndarray]) -> None: ...

    def settle(self, numbers: dict[str, float]) -> None: ...


class Joined:
    """Parameters copied into one flat array for the update, and back: any layout, any sizes."""

    numbers: tuple[float, ...] | None = None

    def __init__(self, cohort: Cohort, slots: list[Slot], start: int) -> None:
        self.slots, self.names = slots, cohort.program.array_state
        self.start, self.stop = start, start + len(slots)
        arrays = [slot.param._data for slot in slots]
        ends = np.cumsum([0, *(array.size for array in arrays)]).tolist()
        self.bounds = list(pairwise(ends))
        dtype = arrays[0].dtype
        self.p, self.g = np.empty(ends[-1], dtype), np.empty(ends[-1], dtype)
        self.state = [self._joined_state(name, dtype) for name in self.names]
        self.moves = [
            (x.reshape(-1), self.p[a:b])
            if x.flags.c_contiguous
            else (x, self.p[a:b].reshape(x.shape))
            for x, (a, b) in zip(arrays, self.bounds, strict=True)
        ]
        self.sources = [array for array, _ in self.moves]
        self.axis = None if any(array.ndim != 1 for array in self.sources) else 0
        self.call = cohort.program.update
        self.calls = [
            (self.p[a:b], self.g[a:b], *cohort.operands(self.state, a, b))
            for a, b in _cuts(ends[-1], _chunk(dtype))
        ]

    def _joined_state(self, name: str, dtype: np.dtype[Any]) -> ndarray:
        joined = np.empty(self.bounds[-1][1], dtype)
        for slot, (a, b) in zip(self.slots, self.bounds, strict=True):
            if name in slot.arrays:
                joined[a:b] = slot.arrays[name]
        return joined

    def update(self, gradients: Sequence[ndarray]) -> None:
        np.concatenate(self.sources, self.axis, self.p)
        np.concatenate([g.ravel() for g in gradients[self.start : self.stop]], 0, self.g)
        for operands in self.calls:
            self.call(*operands)
        for array, piece in self.moves:
            array[...] = piece

    def settle(self, numbers: dict[str, float]) -> None:
        for slot, (a, b) in zip(self.slots, self.bounds, strict=True):
            made = {name: array[a:b] for name, array in zip(self.names, self.state, strict=True)}
            slot.keep(slot.arrays | made, dict(numbers))


class Whole:
    """One small parameter of a rule of few calls, updated in its own shape."""

    numbers: tuple[float, ...] | None = None

    def __init__(self, cohort: Cohort, slots: list[Slot], start: int) -> None:
        (self.slot,), self.names, self.index = slots, cohort.program.array_state, start
        self.p = self.slot.param._data
        self.state = [self._own_state(name) for name in self.names]
        scratch = [array[: self.p.size].reshape(self.p.shape) for array in cohort.scratch]
        self.operands = (*self.state, *cohort.constants, *scratch)
        self.call = cohort.program.update

    def _own_state(self, name: str) -> ndarray:
        kept = self.slot.arrays.get(name)
        if kept is None:
            return np.empty(self.p.shape, self.p.dtype)
        return kept.astype(self.p.dtype, copy=False).reshape(self.p.shape)

    def update(self, gradients: Sequence[ndarray]) -> None:
        self.call(self.p, gradients[self.index], *self.operands)

    def settle(self, numbers: dict[str, float]) -> None:
        flat = [array.reshape(-1) for array in self.state]
        made = dict(zip(self.names, flat, strict=True))
        self.slot.keep(self.slot.arrays | made, numbers)


class Cut:
    """One contiguous parameter, updated where it is, piece by piece."""

    numbers: tuple[float, ...] | None = None

    def __init__(self, cohort: Cohort, slots: list[Slot], start: int) -> None:
        (self.slot,), self.names, self.index = slots, cohort.program.array_state, start
        array = self.slot.param._data
        self.size = array.size
        self.state = [self._own_state(name, array.dtype) for name in self.names]
        self.call = cohort.program.update
        flat = array.reshape(-1)
        self.calls = [
            (flat[a:b], slice(a, b), cohort.operands(self.state, a, b))
            for a, b in _cuts(self.size, _chunk(array.dtype))
        ]

    def _own_state(self, name: str, dtype: np.dtype[Any]) -> ndarray:
        kept = self.slot.arrays.get(name)
        return np.empty(self.size, dtype) if kept is None else kept.astype(dtype, copy=False)

    def update(self, gradients: Sequence[ndarray]) -> None:
        g = gradients[self.index].reshape(self.size)
        for p, piece, operands in self.calls:
            self.call(p, g[piece], *operands)

    def settle(self, numbers: dict[str, float]) -> None:
        made = dict(zip(self.names, self.state, strict=True))
        self.slot.keep(self.slot.arrays | made, numbers)


def _partition(slots: list[Slot], join: bool) -> Iterator[list[Slot]]:
    """Slots that are updated together: small ones up to a chunk's worth, each large one alone.

    join: it pays to join small ones; else each is alone.

    Parameters that overlap in memory are kept apart: each is updated from what the other left.
    """
    joined: list[Slot] = []
    total = 0
    neighbours: dict[int, list[ndarray]] = {}
    for slot in slots:
        array = slot.param._data
        if array.nbytes > SMALL or not join:
            yield [slot]
            continue
        same_memory = neighbours.setdefault(id(owner(array)), [])
        overlaps = any(np.may_share_memory(array, other) for other in same_memory)
        if overlaps or total + array.nbytes > CHUNK:
            yield joined
            joined, total, neighbours = [], 0, {}
        joined.append(slot)
        total += array.nbytes
        neighbours.setdefault(id(owner(array)), []).append(array)
    if joined:
        yield joined


def _size(slots: list[Slot]) -> int:
    return sum(slot.param._data.size for slot in slots)


def _chunk(dtype: np.dtype[Any]) -> int:
    return CHUNK // dtype.itemsize


def _cuts(size: int, chunk: int) -> list[tuple[int, int]]:
    return [(a, min(a + chunk, size)) for a in range(0, size, chunk)]
