"""Ops of networks expanded to simpler ones, which the code generator fuses.

Each expansion is the formula of its op, one op per line. An op without one stays whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tinygrad_kr.compile.ir.builder import Builder
from tinygrad_kr.compile.ir.ops import _logistic_term
from tinygrad_kr.compile.ir.program import Check, Instruction, Program, Value
from tinygrad_kr.compile.passes.batch_rows import with_rows_batched
from tinygrad_kr.compile.passes.cells import CELLS, is_cell
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops import linalg, network, shape
from tinygrad_kr.ops.anomaly import shapes_of
from tinygrad_kr.ops.reduction import max_, mean_, sum_, var_


def _linear(b: Builder, x: Value, weight: Value, bias: Value | None = None) -> Value:
    y = b(linalg.matmul, x, b(shape.swapaxes, weight, axis1=-1, axis2=-2))
    if bias is None:
        return y
    if len(bias.shape) > 1:
        bias = b(shape.reshape, bias, shape=(*bias.shape[:-1], 1, bias.shape[-1]))
    return b(e.add, y, bias)


def _matmul(b: Builder, x: Value, y: Value) -> Value:
    """A vector is a matrix of one row or column; rows times one matrix are a single product."""
    if len(x.shape) > 2 == len(y.shape):
        flat = b(shape.reshape, x, shape=(math.prod(x.shape[:-1]), x.shape[-1]))
        single = b(linalg.matmul, flat, y)
        return b(shape.reshape, single, shape=(*x.shape[:-1], y.shape[1]))
    row, column = len(x.shape) == 1, len(y.shape) == 1
    left = b(shape.reshape, x, shape=(1, x.size)) if row else x
    right = b(shape.reshape, y, shape=(y.size, 1)) if column else y
    product = b(linalg.matmul, left, right)
    *batch, rows, columns = product.shape
    kept = (*batch, *(() if row else (rows,)), *(() if column else (columns,)))
    return b(shape.reshape, product, shape=kept)


def _along(b: Builder, record: Any, x: Value, axis: Any) -> Value:
    return b(record, x, axis=axis, keepdims=True)


def _softmax(b: Builder, x: Value, axis: int) -> Value:
    shifted = b(e.subtract, x, _along(b, max_, x, axis))
    exponentials = b(e.exp, shifted)
    return b(e.divide, exponentials, _along(b, sum_, exponentials, axis))


def _log_softmax(b: Builder, x: Value, axis: int) -> Value:
    shifted = b(e.subtract, x, _along(b, max_, x, axis))
    total = _along(b, sum_, b(e.exp, shifted), axis)
    return b(e.subtract, shifted, b(e.log, total))


def _cross_entropy(b: Builder, x: Value, labels: Value, axis: int) -> Value:
    shifted = b(e.subtract, x, _along(b, max_, x, axis))
    total = b(sum_, b(e.exp, shifted), axis=axis, keepdims=False)
    return b(e.subtract, b(e.log, total), b(network.gather_labels, shifted, labels, axis=axis))


def _bce_with_logits(b: Builder, x: Value, a: Value, *, reduction: str = "none") -> Value:
    terms = b(_logistic_term, x, a)
    if reduction == "none":
        return terms
    return b(mean_ if reduction == "mean" else sum_, terms, axis=None, keepdims=False)


def _bce(b: Builder, p: Value, t: Value) -> Value:
    of_ones = b(e.maximum, b(e.log, p), -100.0)
    of_zeros = b(e.maximum, b(e.log1p, b(e.negative, p)), -100.0)
    zeros = b(e.multiply, b(e.subtract, t, 1.0), of_zeros)
    return b(e.subtract, zeros, b(e.multiply, t, of_ones))


def _mean(b: Builder, x: Value, axis: Any = None, keepdims: bool = False) -> Value:
    total = b(sum_, x, axis=axis, keepdims=keepdims)
    return b(e.divide, total, x.size // total.size)


def _var(b: Builder, x: Value, axis: Any = None, keepdims: bool = False, ddof: float = 0) -> Value:
    centred = b(e.subtract, x, _along(b, mean_, x, axis))
    total = b(sum_, b(e.square, centred), axis=axis, keepdims=keepdims)
    return b(e.divide, total, x.size // total.size - ddof)


def _normalize(b: Builder, x: Value, axis: tuple[int, ...], eps: float) -> Value:
    centred = b(e.subtract, x, _along(b, mean_, x, axis))
    variance = _along(b, mean_, b(e.square, centred), axis)
    return b(e.multiply, centred, b(e.power, b(e.add, variance, eps), -0.5))


def _layer_norm(b: Builder, x: Value, weight: Value, bias: Value, axes: int, eps: float) -> Value:
    normal = b(network.normalize, x, axis=tuple(range(-axes, 0)), eps=eps)
    return b(e.add, b(e.multiply, normal, weight), bias)


def _gelu(b: Builder, x: Value) -> Value:
    error = b(e.erf, b(e.multiply, x, math.sqrt(0.5)))
    return b(e.multiply, x, b(e.multiply, 0.5, b(e.add, 1.0, error)))


def _round(b: Builder, x: Value, decimals: int = 0) -> Value:
    if not decimals:
        return b(e.rint, x)
    scale, back = (e.multiply, e.divide) if decimals > 0 else (e.divide, e.multiply)
    factor = 10.0 ** abs(decimals)
    return b(back, b(e.rint, b(scale, x, factor)), factor)


def _subgradient_product(
    b: Builder, g: Value, slope: Value, link: Value, transposed: bool = False
) -> Value:
    return b(e.multiply, g, slope)


def _power_derivative(b: Builder, x: Value, y: Value, *, by_base: int, by_exponent: int) -> Value:
    """The first derivatives of x^y: y x^(y - 1), 0 at y = 0; x^y log x, 0 at x = 0 and y >= 0."""
    if by_base:
        slope = b(e.multiply, y, b(e.power, x, b(e.subtract, y, 1.0)))
        return b(e.where_or_zero, slope, b(e.not_equal, y, 0.0))
    slope = b(e.multiply, b(e.power, x, y), b(e.log, x))
    return b(e.where_or_zero, slope, b(e.logical_or, b(e.not_equal, x, 0.0), b(e.less, y, 0.0)))


EXPANSIONS: dict[Any, Callable[..., Value]] = {
    e.gelu: _gelu,
    e.round: _round,
    e.subgradient_product: _subgradient_product,
    e.power_derivative: _power_derivative,
    linalg.linear: _linear,
    linalg.matmul: _matmul,
    network.softmax: _softmax,
    network.log_softmax: _log_softmax,
    network.bce: _bce,
    network.cross_entropy: _cross_entropy,
    network.bce_with_logits: _bce_with_logits,
    network.normalize: _normalize,
    network.layer_norm: _layer_norm,
    mean_: _mean,
    var_: _var,
    **CELLS,
}


def expanded(program: Program) -> Program:
    """The program with every op that has an expansion written out, for all rows at once."""
    numbers = program.free_numbers().__next__
    program = with_elements_checked(program)
    return with_rows_batched(program.rewritten(lambda s: _expand(s, numbers)))


def with_elements_checked(program: Program) -> Program:
    """The program with a check before each op that refuses elements: its expansion does not, and
    its function does not name the op."""
    checks = list(program.checks)
    for after, instruction in enumerate(program.instructions):
        if instruction.op is network.bce and _fits(instruction):
            called = f"{instruction.op.__name__}({shapes_of(instruction.inputs)}): "
            p = instruction.inputs[0]
            checks.append(Check(network.refuse_improbable, p, (called,), after))
    return replace(program, checks=checks)


def _expand(instruction: Instruction, numbers: Callable[[], int]) -> list[Instruction]:
    expansion = EXPANSIONS.get(instruction.op)
    if expansion is None or not _fits(instruction):
        return [instruction]
    builder = Builder(instruction.source_line, numbers)
    made = expansion(builder, *instruction.inputs, **instruction.params)
    if made.shape != instruction.output.shape:
        return [instruction]
    whole = builder.finish(made, instruction.output)
    return [part for inner in whole for part in _expand(inner, numbers)]


def _fits(instruction: Instruction) -> bool:
    """Whether an expansion is for such inputs: arrays of floats with elements, few enough."""
    first = instruction.inputs[0]
    if not all(isinstance(x, Value) for x in instruction.inputs):
        return False
    if instruction.op is network.bce_with_logits and len(instruction.inputs) > 2:
        return False
    if instruction.op in CELLS and not is_cell(instruction):
        return False
    if instruction.op is network.bce and len({x.dtype for x in instruction.inputs}) > 1:
        return False
    if instruction.op is e.power_derivative and sum(instruction.params.values()) > 1:
        return False
    if instruction.op is linalg.matmul:
        left, right = (len(x.shape) for x in instruction.inputs)
        if min(left, right) > 1 and not left > 2 == right:
            return False
    floats = first.dtype in (np.float32, np.float64)
    return bool(floats and first.size and instruction.output.dtype.kind == "f")
