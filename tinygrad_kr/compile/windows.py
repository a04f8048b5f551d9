"""Convolution and pooling in compiled programs: what is rewritten, and what runs as one step.

Between two matrix products of a convolution lie its columns, its bias, an activation and a maximum
of windows, forward; the way back of each, backward. `grouped` finds such neighbours. A
`Convolution` does all of them for a few samples at a time, so that what passes between them stays
in the cache, and what only they read is never stored whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinygrad_kr.compile.layout import Shape, dense_strides
from tinygrad_kr.compile.program import Program, Statement, Value
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops import window as w
from tinygrad_kr.ops.op import op
from tinygrad_kr.ops.reduction import sum_

Readers = dict[Value, list[Statement]]

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_INDICES = (np.dtype(np.int8), np.dtype(np.int32), np.dtype(np.int64))
_MANY_ELEMENTS = 32
"""Elements of a window up to which each is a line of the generated code."""

_window_first = op(w.window_argmax, name="window_first", promote=False)
"""Which element of each window is its first largest: kept for backward, which then need not look
for it."""


# ------------------------------------------------------------------ rewriting


def with_remembered_maxima(program: Program) -> Program:
    """Which element of a window is its maximum is found once, where the maximum is."""
    makers = {statement.output: statement for statement in program.statements}
    numbers = program.free_numbers()
    indices: dict[Value, Value] = {}

    def seek(statement: Statement) -> None:
        g, x, y, *_ = statement.inputs
        maker = makers.get(y) if isinstance(y, Value) else None
        if maker is None or maker.op is not w.window_max or y in indices:
            return
        if maker.inputs[0] is x and maker.params == statement.params and isinstance(g, Value):
            small = math.prod(statement.params["kernel"]) < 128
            dtype = np.dtype(np.int8 if small else np.int32)
            steps = dense_strides(y.shape, y.strides)
            strides = tuple(step * dtype.itemsize for step in steps)
            indices[y] = Value(next(numbers), y.shape, dtype, strides)

    for statement in program.statements:
        if statement.op is w.window_put_first:
            seek(statement)

    def rewrite(statement: Statement) -> Iterable[Statement]:
        output = statement.output
        if statement.op is w.window_max and output in indices:
            inputs = (statement.inputs[0], output)
            first = Statement(
                _window_first, inputs, statement.params, indices[output], statement.place
            )
            return (statement, first)
        if statement.op is w.window_put_first and statement.inputs[2] in indices:
            g, x, y = statement.inputs
            params = {"index": indices[y], "shape": x.shape, **statement.params}
            return (Statement(w.window_put, (g,), params, output, statement.place),)
        return (statement,)

    return program.rewritten(rewrite)


def with_relu_after_maxima(program: Program) -> Program:
    """The maximum of windows of relu(x) is the relu of their maxima: fewer elements, and backward
    masks what is put back before it is spread.

    Where all of a window is cut off, another element may be the first largest; but there backward
    puts nothing.
    """
    readers, kept = readers_of(program), program.kept()
    numbers = program.free_numbers()
    moved: dict[Value, list[Statement]] = {}
    for statement in program.statements:
        if statement.op is e.relu and statement.output not in kept:
            moved |= _moved(statement, readers, kept, numbers)
    return program.rewritten(lambda s: moved.get(s.output, (s,)))


def _moved(
    relu: Statement, readers: Readers, kept: set[Value], numbers: Iterator[int]
) -> dict[Value, list[Statement]]:
    """What takes the place of a relu and of those that read it; nothing if it has other readers."""
    (x,), r = relu.inputs, relu.output
    by_op = {s.op: s for s in readers.get(r, [])}
    maximum = by_op.get(w.window_max)
    first, mask = by_op.get(_window_first), by_op.get(e.masked)
    if maximum is None or not isinstance(x, Value):
        return {}
    if len(readers[r]) != 1 + (first is not None) + (mask is not None):
        return {}
    y = maximum.output
    least = replace(y, number=next(numbers))
    moved = {
        r: [],
        y: [
            maximum._replace(inputs=(x,), output=least),
            relu._replace(inputs=(least,), output=y),
        ],
    }
    if first is None and mask is None:
        return moved
    if first is None or mask is None or first.inputs != (r, y):
        return {}
    index = first.output
    puts = readers.get(index, [])
    if index in kept or len(puts) != 1 or puts[0].op is not w.window_put:
        return {}
    (put,) = puts
    alone = put.output not in kept and readers.get(put.output) == [mask]
    if not alone or mask.inputs != (put.output, r):
        return {}
    (g,) = put.inputs
    masked = replace(y, number=next(numbers), dtype=put.output.dtype)
    moved[index] = [first._replace(inputs=(x, least))]
    moved[put.output] = [mask._replace(inputs=(g, y), output=masked)]
    moved[mask.output] = [put._replace(inputs=(masked,), output=mask.output)]
    return moved


def readers_of(program: Program) -> Readers:
    """The ops that read each value."""
    readers: Readers = {}
    for statement in program.statements:
        for value in dict.fromkeys(statement.reads()):
            readers.setdefault(value, []).append(statement)
    return readers


# ------------------------------------------------------------------ steps


@dataclass(slots=True)
class Pooling:
    """Maxima of windows, which elements they are, or values put back there, as loops in C."""

    statement: Statement


@dataclass(slots=True)
class Convolution:
    """The products of a convolution and what surrounds them, a few samples at a time.

    statements: in order; inside: the values that only these read, and that have no memory.
    """

    statements: list[Statement]
    inside: set[Value]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes of a convolution over two axes (one of length 1 added where there is only one).

    x (samples, channels, *sizes), weight (outputs, channels, *kernel), y (samples, outputs,
    *counts). padding: zeros before the first element of each axis.
    """

    samples: int
    channels: int
    outputs: int
    sizes: tuple[int, int]
    kernel: tuple[int, int]
    counts: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @property
    def features(self) -> int:
        """Elements of a filter."""
        return self.channels * self.kernel[0] * self.kernel[1]

    @property
    def places(self) -> int:
        """Windows in a sample."""
        return self.counts[0] * self.counts[1]


def geometry(statement: Statement) -> Geometry | None:
    """The sizes of one of the three convolution ops; None for what stays a NumPy call."""
    params = statement.params
    if statement.op is w.convolve:
        x, weight, y = *statement.inputs[:2], statement.output
    elif statement.op is w.convolve_transposed:
        y, weight, x = *statement.inputs, statement.output
    elif statement.op is w.convolve_weight:
        x, y, weight = *statement.inputs, statement.output
    else:
        return None
    arrays = (*statement.inputs, statement.output)
    if not all(isinstance(v, Value) and v.dtype == x.dtype and v.size for v in arrays):
        return None
    if x.dtype not in _FLOATS or params["groups"] != 1 or len(x.shape) not in (3, 4):
        return None
    return Geometry(
        x.shape[0],
        x.shape[1],
        y.shape[1],
        _pair(x.shape[2:]),
        _pair(weight.shape[2:]),
        _pair(y.shape[2:]),
        _pair(params["stride"]),
        _pair([before for before, _ in params["padding"]], 0),
        _pair(params["dilation"]),
    )


def _pair(sizes: Any, missing: int = 1) -> tuple[int, int]:
    return (missing, *sizes) if len(sizes) == 1 else tuple(sizes)


def is_pooling(statement: Statement) -> bool:
    """Whether pooling has loops in C, for inputs of this kind."""
    if statement.op not in (w.window_max, _window_first, w.window_put):
        return False
    x, output = statement.inputs[0], statement.output
    if not isinstance(x, Value) or x.dtype not in _FLOATS or not x.size or not output.size:
        return False
    if math.prod(statement.params["kernel"]) > _MANY_ELEMENTS:
        return False
    if statement.op is _window_first:
        return output.dtype in _INDICES
    index = statement.params.get("index")
    indexed = isinstance(index, Value) and index.dtype in _INDICES
    return output.dtype == x.dtype and (statement.op is w.window_max or indexed)


def pooled_like(statement: Statement) -> Value | None:
    """Of pooling in C, the value in whose layout the result is written."""
    if not is_pooling(statement):
        return None
    like: Value = statement.params.get("index", statement.inputs[0])
    return like


def channels_last(shape: Shape) -> Shape:
    """Strides of an array (samples, channels, ...) whose channels lie side by side."""
    order = (len(shape), 0, *range(len(shape) - 1, 1, -1))
    return dense_strides(shape, order)


# ------------------------------------------------------------------ groups


def grouped(program: Program) -> list[Convolution]:
    """The convolutions, each with the neighbours that run along with it."""
    readers, kept = readers_of(program), program.kept()
    makers = {statement.output: statement for statement in program.statements}
    position = {s.output: i for i, s in enumerate(program.statements)}
    steps: list[Convolution] = []
    taken: set[Value] = set()
    for statement in program.statements:
        if statement.output in taken or geometry(statement) is None:
            continue
        if statement.op is w.convolve:
            members = _forward(statement, readers, kept)
        else:
            members = _backward(statement, readers, kept, makers)
        members.sort(key=lambda member: position[member.output])
        if taken & {member.output for member in members} or not _free(members, position):
            members = [statement]
        made = {member.output for member in members}
        inside = {
            value
            for value in made
            if value not in kept and all(s.output in made for s in readers.get(value, []))
        }
        steps.append(Convolution(members, inside))
        taken |= made
    return steps


def _forward(convolve: Statement, readers: Readers, kept: set[Value]) -> list[Statement]:
    """A convolution, the maxima of windows that alone read it, and the relu of these."""
    members = [convolve]
    pooled = _pooled(convolve.output, readers, kept)
    members += pooled
    last = pooled[0].output if pooled else convolve.output
    after = [s for s in readers.get(last, []) if s not in pooled]
    if last not in kept and [s.op for s in after] == [e.relu]:
        members += after
    return members


def _pooled(y: Value, readers: Readers, kept: set[Value]) -> list[Statement]:
    found = readers.get(y, [])
    by_op = {s.op: s for s in found}
    maximum, first = by_op.get(w.window_max), by_op.get(_window_first)
    pooled = [s for s in (maximum, first) if s is not None]
    if y in kept or maximum is None or len(pooled) != len(found):
        return []
    if len(maximum.params["kernel"]) != len(y.shape) - 2 or not all(map(is_pooling, pooled)):
        return []
    if first is not None and first.inputs != (y, maximum.output):
        return []
    return pooled


def _backward(
    statement: Statement, readers: Readers, kept: set[Value], makers: dict[Value, Statement]
) -> list[Statement]:
    """Both products with one cotangent, how it came about, and its sum for the bias."""
    g = _cotangent(statement)
    sizes = geometry(statement)
    found = readers[g]
    products = [
        s
        for s in found
        if s.op in (w.convolve_weight, w.convolve_transposed)
        and _cotangent(s) is g
        and list(s.inputs).count(g) == 1
        and geometry(s) == sizes
    ]
    products = list({s.op: s for s in reversed(products)}.values())
    if statement not in products:
        return [statement]
    maker = makers.get(g)
    head: list[Statement] = []
    sums = [s for s in found if _sums_over_places(s, g)][:1]
    if maker is not None and g not in kept and len(products) + len(sums) == len(found):
        if maker.op is w.window_put and is_pooling(maker):
            head = [maker]
            (x,) = maker.inputs
            before = makers.get(x)
            if before is not None and x not in kept and readers[x] == [maker]:
                head += [before] if _is_mask(before) else []
        elif _is_mask(maker):
            head = [maker]
    return [*head, *products, *sums]


def _cotangent(statement: Statement) -> Value:
    g: Value = statement.inputs[statement.op is w.convolve_weight]
    return g


def _is_mask(statement: Statement) -> bool:
    if statement.op is not e.masked:
        return False
    x, mask = statement.inputs
    return (
        isinstance(x, Value)
        and isinstance(mask, Value)
        and x.shape == mask.shape == statement.output.shape
        and x.dtype == statement.output.dtype
        and (mask.dtype == x.dtype or mask.dtype.kind == "b")
    )


def _sums_over_places(statement: Statement, g: Value) -> bool:
    if statement.op is not sum_ or statement.inputs != (g,) or statement.output.dtype != g.dtype:
        return False
    axis = statement.params.get("axis")
    axes = {a % len(g.shape) for a in axis} if isinstance(axis, tuple) else set()
    return axes == set(range(len(g.shape))) - {1}


def _free(members: list[Statement], position: dict[Value, int]) -> bool:
    """Whether all that is read from outside is there before the first product: nothing of it can
    then depend on the group itself."""
    made = {member.output for member in members}
    first = min(
        position[s.output]
        for s in members
        if s.op in (w.convolve, w.convolve_weight, w.convolve_transposed)
    )
    outside = {value for s in members for value in s.reads() if value not in made}
    return all(position.get(value, -1) < first for value in outside)


def planned(program: Program) -> Program:
    """The program with every pass over windows."""
    return with_relu_after_maxima(with_remembered_maxima(program))
