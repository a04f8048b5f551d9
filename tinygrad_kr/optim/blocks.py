"""Updates of many parameters in few calls.

An update makes a dozen passes over its arrays. For small parameters the number of calls decides the
cost; for large ones the memory traffic does. Small parameters are therefore flattened into one
array, and large ones are updated in chunks of `CHUNK` bytes, which stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.writes import owner
from tinygrad_kr.optim.in_c import loop_for
from tinygrad_kr.optim.lowering import UpdateProgram

CHUNK = 1 << 17
"""Chunk of a parameter: with gradient, state and scratch it fits a core's cache; bytes."""
SMALL = 1 << 14
"""Threshold: a parameter up to this size is copied and flattened with others; bytes."""
FEW_CALLS = 3
"""Threshold: a rule of at most this many ufunc calls updates small parameters one by one."""


class ParamState:
    """The optimizer state of one parameter: flat C-ordered arrays, and numbers.

    `keep` replaces both in one assignment. An interrupt therefore never leaves half a state.
    """

    __slots__ = ("_state", "param", "shape")

    def __init__(self, param: Node) -> None:
        self.param = param
        self.shape = param._data.shape
        self.keep({}, {})

    def keep(self, arrays: dict[str, ndarray], numbers: dict[str, float]) -> None:
        """Replace the state."""
        self._state = arrays, numbers

    @property
    def arrays(self) -> dict[str, ndarray]:
        """The arrays by name; do not change the dict in place."""
        return self._state[0]

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers by name; do not change the dict in place."""
        return self._state[1]


class ParamBlock:
    """Parameters of one group that one program updates: one dtype, equal numbers in the state.

    start: the index of its first gradient among those of all parameters.
    """

    def __init__(
        self,
        group: dict[str, Any],
        names: tuple[str, ...],
        param_states: list[ParamState],
        program: UpdateProgram,
        start: int,
    ) -> None:
        self.group, self.names, self.program = group, names, program
        self.options = self.current_options()
        self.group_values = tuple(group.values())
        self.applied: tuple[Any, ...] | None = None
        self.numbers = tuple(param_states[0].numbers.values())
        dtype = param_states[0].param._data.dtype
        self.constants = [np.empty((), dtype) for _ in range(program.constants)]
        chosen = list(_partition(param_states, join=program.calls > FEW_CALLS))
        most = _chunk(dtype)
        if program.whole:
            chosen, most = [[one] for one in param_states], max(map(_size, chosen), default=0)
        widest = max((min(_size(some), most) for some in chosen), default=0)
        self.scratch = [np.empty(widest, dtype) for _ in range(program.scratch)]
        self.param_states = [param_state for some in chosen for param_state in some]
        self.parts: list[BlockPart] = []
        for some in chosen:
            array = some[0].param._data
            kind: Any = Flattened
            if program.whole:
                kind = InPlace
            elif len(some) == 1 and array.flags.c_contiguous:
                kind = InPlace if array.nbytes <= SMALL else Chunked
            self.parts.append(kind(self, some, start))
            start += len(some)

    def current_options(self) -> tuple[Any, ...]:
        """The current options of the group."""
        return tuple(map(self.group.__getitem__, self.names))

    def update(self, gradients: Sequence[ndarray]) -> None:
        """One step of all parameters of the block."""
        if self.numbers or self.options is not self.applied:
            self._apply_options()
        for part in self.parts:
            part.update(gradients)
            part.numbers = self.numbers

    @np.errstate(all="ignore")
    def _apply_options(self) -> None:
        constants, self.numbers = self.program.numbers(*self.options, *self.numbers)
        for array, value in zip(self.constants, constants, strict=True):
            array[()] = value
        self.applied = self.options

    def write_back(self) -> None:
        """Store the state in the `ParamState`s.

        Each part stores the numbers of its own last finished step: an interrupt may leave the parts
        at different steps.
        """
        for part in self.parts:
            if part.numbers is not None:
                part.write_back(dict(zip(self.program.number_state, part.numbers, strict=True)))

    def operands(self, state: Sequence[ndarray], start: int, stop: int) -> tuple[ndarray, ...]:
        """The arguments of `update` for elements start to stop, after parameter and gradient."""
        scratch = [array[: stop - start] for array in self.scratch]
        return (*(array[start:stop] for array in state), *self.constants, *scratch)


class BlockPart(Protocol):
    """Parameters of a block that are updated in one go.

    numbers: the block's numbers after the last finished update; None before the first.
    """

    numbers: tuple[float, ...] | None

    def update(self, gradients: Sequence[ndarray]) -> None: ...

    def write_back(self, numbers: dict[str, float]) -> None: ...


class Flattened:
    """Parameters of any layout and size, copied into one flat array for the update, then back."""

    numbers: tuple[float, ...] | None = None

    def __init__(self, block: ParamBlock, param_states: list[ParamState], start: int) -> None:
        self.param_states, self.names = param_states, block.program.array_state
        self.start, self.stop = start, start + len(param_states)
        arrays = [param_state.param._data for param_state in param_states]
        ends = np.cumsum([0, *(array.size for array in arrays)]).tolist()
        self.bounds = list(pairwise(ends))
        dtype = arrays[0].dtype
        self.p, self.g = np.empty(ends[-1], dtype), np.empty(ends[-1], dtype)
        self.state = [self._flattened_state(name, dtype) for name in self.names]
        self.moves = [
            (x.reshape(-1), self.p[a:b])
            if x.flags.c_contiguous
            else (x, self.p[a:b].reshape(x.shape))
            for x, (a, b) in zip(arrays, self.bounds, strict=True)
        ]
        self.sources = [array for array, _ in self.moves]
        self.axis = None if any(array.ndim != 1 for array in self.sources) else 0
        self.call = block.program.update
        self.calls = [
            (self.p[a:b], self.g[a:b], *block.operands(self.state, a, b))
            for a, b in _cuts(ends[-1], _chunk(dtype))
        ]

    def _flattened_state(self, name: str, dtype: np.dtype[Any]) -> ndarray:
        flat = np.empty(self.bounds[-1][1], dtype)
        for param_state, (a, b) in zip(self.param_states, self.bounds, strict=True):
            if name in param_state.arrays:
                flat[a:b] = param_state.arrays[name]
        return flat

    def update(self, gradients: Sequence[ndarray]) -> None:
        np.concatenate(self.sources, self.axis, self.p)
        np.concatenate([g.ravel() for g in gradients[self.start : self.stop]], 0, self.g)
        for operands in self.calls:
            self.call(*operands)
        for array, piece in self.moves:
            array[...] = piece

    def write_back(self, numbers: dict[str, float]) -> None:
        for param_state, (a, b) in zip(self.param_states, self.bounds, strict=True):
            made = {name: array[a:b] for name, array in zip(self.names, self.state, strict=True)}
            param_state.keep(param_state.arrays | made, dict(numbers))


class InPlace:
    """One parameter, updated in its own shape: a small one by a rule of few calls, or a matrix."""

    numbers: tuple[float, ...] | None = None

    def __init__(self, block: ParamBlock, param_states: list[ParamState], start: int) -> None:
        (self.param_state,), self.names, self.index = param_states, block.program.array_state, start
        self.p = self.param_state.param._data
        self.state = [self._own_state(name) for name in self.names]
        scratch = [array[: self.p.size].reshape(self.p.shape) for array in block.scratch]
        self.operands = (*self.state, *block.constants, *scratch)
        self.call = block.program.update

    def _own_state(self, name: str) -> ndarray:
        kept = self.param_state.arrays.get(name)
        if kept is None:
            return np.empty(self.p.shape, self.p.dtype)
        return kept.astype(self.p.dtype, copy=False).reshape(self.p.shape)

    def update(self, gradients: Sequence[ndarray]) -> None:
        self.call(self.p, gradients[self.index], *self.operands)

    def write_back(self, numbers: dict[str, float]) -> None:
        flat = [array.reshape(-1) for array in self.state]
        made = dict(zip(self.names, flat, strict=True))
        self.param_state.keep(self.param_state.arrays | made, numbers)


class Chunked:
    """One large contiguous parameter, updated in place, chunk by chunk."""

    numbers: tuple[float, ...] | None = None

    def __init__(self, block: ParamBlock, param_states: list[ParamState], start: int) -> None:
        (self.param_state,), self.names, self.index = param_states, block.program.array_state, start
        array = self.param_state.param._data
        self.size = array.size
        self.state = [self._own_state(name, array.dtype) for name in self.names]
        self.call = block.program.update
        self.flat = flat = array.reshape(-1)
        self.constants = block.constants
        self.at_once = loop_for(block.program, flat)
        self.calls = [
            (flat[a:b], slice(a, b), block.operands(self.state, a, b))
            for a, b in _cuts(self.size, _chunk(array.dtype))
        ]

    def _own_state(self, name: str, dtype: np.dtype[Any]) -> ndarray:
        kept = self.param_state.arrays.get(name)
        return np.empty(self.size, dtype) if kept is None else kept.astype(dtype, copy=False)

    def update(self, gradients: Sequence[ndarray]) -> None:
        g = gradients[self.index].reshape(self.size)
        if self.at_once is not None and self.at_once(self.flat, g, self.state, self.constants):
            return
        for p, piece, operands in self.calls:
            self.call(p, g[piece], *operands)

    def write_back(self, numbers: dict[str, float]) -> None:
        made = dict(zip(self.names, self.state, strict=True))
        self.param_state.keep(self.param_state.arrays | made, numbers)


def _partition(param_states: list[ParamState], join: bool) -> Iterator[list[ParamState]]:
    """The parameters of each part: small ones together up to `CHUNK` bytes, each large one alone.

    join: flatten small ones together; otherwise each is alone.

    Parameters that overlap in memory go to different parts: the second update reads the first's
    result.
    """
    joined: list[ParamState] = []
    total = 0
    neighbours: dict[int, list[ndarray]] = {}
    for param_state in param_states:
        array = param_state.param._data
        if array.nbytes > SMALL or not join:
            yield [param_state]
            continue
        same_memory = neighbours.setdefault(id(owner(array)), [])
        overlaps = any(np.may_share_memory(array, other) for other in same_memory)
        if overlaps or total + array.nbytes > CHUNK:
            yield joined
            joined, total, neighbours = [], 0, {}
        joined.append(param_state)
        total += array.nbytes
        neighbours.setdefault(id(owner(array)), []).append(array)
    if joined:
        yield joined


def _size(param_states: list[ParamState]) -> int:
    return sum(param_state.param._data.size for param_state in param_states)


def _chunk(dtype: np.dtype[Any]) -> int:
    return CHUNK // dtype.itemsize


def _cuts(size: int, chunk: int) -> list[tuple[int, int]]:
    return [(a, min(a + chunk, size)) for a in range(0, size, chunk)]
