"""Pooling: the index of each maximum found once, and relu after the maximum."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from tinygrad_kr.compile.ir.layout import dense_strides
from tinygrad_kr.compile.ir.ops import _window_first
from tinygrad_kr.compile.ir.program import Program, Readers, Statement, Value, readers_of
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops import window as w


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
                _window_first, inputs, statement.params, indices[output], statement.source_line
            )
            return (statement, first)
        if statement.op is w.window_put_first and statement.inputs[2] in indices:
            g, x, y = statement.inputs
            params = {"index": indices[y], "shape": x.shape, **statement.params}
            return (Statement(w.window_put, (g,), params, output, statement.source_line),)
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


def planned(program: Program) -> Program:
    """The program with every pass over windows."""
    return with_relu_after_maxima(with_remembered_maxima(program))
