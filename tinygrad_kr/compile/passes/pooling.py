"""Pooling: the index of each maximum found once, and relu after the maximum."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from tinygrad_kr.compile.ir.layout import dense_strides
from tinygrad_kr.compile.ir.ops import _window_first
from tinygrad_kr.compile.ir.program import Instruction, Program, Readers, Value, readers_of
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops import window as w


def with_remembered_maxima(program: Program) -> Program:
    """Which element of a window is its maximum is found once, where the maximum is."""
    makers = {instruction.output: instruction for instruction in program.instructions}
    numbers = program.free_numbers()
    indices: dict[Value, Value] = {}

    def seek(instruction: Instruction) -> None:
        g, x, y, *_ = instruction.inputs
        maker = makers.get(y) if isinstance(y, Value) else None
        if maker is None or maker.op is not w.max_pool or y in indices:
            return
        if maker.inputs[0] is x and maker.params == instruction.params and isinstance(g, Value):
            small = math.prod(instruction.params["kernel"]) < 128
            dtype = np.dtype(np.int8 if small else np.int32)
            steps = dense_strides(y.shape, y.strides)
            strides = tuple(step * dtype.itemsize for step in steps)
            indices[y] = Value(next(numbers), y.shape, dtype, strides)

    for instruction in program.instructions:
        if instruction.op is w.max_pool_vjp:
            seek(instruction)

    def rewrite(instruction: Instruction) -> Iterable[Instruction]:
        output = instruction.output
        if instruction.op is w.max_pool and output in indices:
            inputs = (instruction.inputs[0], output)
            first = Instruction(
                _window_first, inputs, instruction.params, indices[output], instruction.source_line
            )
            return (instruction, first)
        if instruction.op is w.max_pool_vjp and instruction.inputs[2] in indices:
            g, x, y = instruction.inputs
            params = {"index": indices[y], "shape": x.shape, **instruction.params}
            return (Instruction(w.max_unpool, (g,), params, output, instruction.source_line),)
        return (instruction,)

    return program.rewritten(rewrite)


def with_relu_after_maxima(program: Program) -> Program:
    """The maximum of windows of relu(x) is the relu of their maxima: fewer elements, and backward
    masks what is put back before it is spread.

    Where all of a window is cut off, another element may be the first largest; but there backward
    puts nothing.
    """
    readers, kept = readers_of(program), program.kept()
    numbers = program.free_numbers()
    moved: dict[Value, list[Instruction]] = {}
    for instruction in program.instructions:
        if instruction.op is e.relu and instruction.output not in kept:
            moved |= _moved(instruction, readers, kept, numbers)
    return program.rewritten(lambda s: moved.get(s.output, (s,)))


def _moved(
    relu: Instruction, readers: Readers, kept: set[Value], numbers: Iterator[int]
) -> dict[Value, list[Instruction]]:
    """What takes the place of a relu and of those that read it; nothing if it has other readers."""
    (x,), r = relu.inputs, relu.output
    by_op = {s.op: s for s in readers.get(r, [])}
    maximum = by_op.get(w.max_pool)
    first, mask = by_op.get(_window_first), by_op.get(e.where_or_zero)
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
    if index in kept or len(puts) != 1 or puts[0].op is not w.max_unpool:
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


def with_pooling_rewritten(program: Program) -> Program:
    """The program with every pass over windows."""
    return with_relu_after_maxima(with_remembered_maxima(program))
