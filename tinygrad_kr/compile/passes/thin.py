"""Thin matrix products: outer products, stacks of vectors, and axes of length 1 put in."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tinygrad_kr.compile.ir.builder import Builder
from tinygrad_kr.compile.ir.layout import FLOAT_DTYPES
from tinygrad_kr.compile.ir.program import Instruction, Program, Value, is_basic_key
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops import linalg, shape
from tinygrad_kr.ops.indexing import index_add


def with_thin_products(program: Program) -> Program:
    """Thin products as what is faster: one wide product, or elementwise ops, which fuse."""
    numbers = program.free_numbers().__next__
    return program.rewritten(lambda instruction: _rewritten(instruction, numbers))


def _rewritten(instruction: Instruction, numbers: Callable[[], int]) -> list[Instruction]:
    builder = Builder(instruction.source_line, numbers)
    made: Value | None = None
    if instruction.op is linalg.matmul and _are_matrices(instruction):
        made = _product(builder, *instruction.inputs)
    elif instruction.op is index_add and _covers_all(instruction):
        made = builder(shape.reshape, instruction.inputs[0], shape=instruction.output.shape)
    if made is None:
        return [instruction]
    return builder.finish(made, instruction.output)


def _are_matrices(instruction: Instruction) -> bool:
    a, b = instruction.inputs
    if not (isinstance(a, Value) and isinstance(b, Value) and a.size and b.size):
        return False
    same = a.dtype == b.dtype == instruction.output.dtype
    return same and a.dtype in FLOAT_DTYPES and min(len(a.shape), len(b.shape)) > 1


def _product(b: Builder, x: Value, y: Value) -> Value | None:
    """x @ y for an outer product, and for one matrix times a stack of columns."""
    if x.shape[-1] == 1:
        return b(e.multiply, x, y)
    if len(x.shape) == 2 < len(y.shape) and y.shape[-1] == 1:
        flat = b(shape.reshape, y, shape=(math.prod(y.shape[:-2]), y.shape[-2]))
        rows = b(linalg.matmul, flat, b(shape.swapaxes, x, axis1=-1, axis2=-2))
        return b(shape.reshape, rows, shape=(*y.shape[:-2], x.shape[0], 1))
    return None


def _covers_all(instruction: Instruction) -> bool:
    """Whether a slice and its adjoint only put in or take out axes of length 1."""
    key, (g,) = instruction.params["key"], instruction.inputs
    if not is_basic_key(key) or not isinstance(g, Value) or g.size != instruction.output.size:
        return False
    whole = np.empty(instruction.output.shape, bool)
    seen = np.asarray(whole[key])
    flags = seen.flags.c_contiguous and seen.size == whole.size and seen.shape == g.shape
    return flags and g.dtype == instruction.output.dtype
