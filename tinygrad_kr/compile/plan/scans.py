"""A `scan` as a step: where its arguments are copied to, and the memory of its body."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tinygrad_kr.compile.ir.layout import View, dense_strides
from tinygrad_kr.compile.ir.program import Instruction, Value
from tinygrad_kr.compile.plan.steps import Scan

_LINE = 64
"""Bytes of a cache line, at which arrays begin."""


def body_of(instruction: Instruction) -> Any:
    """The plan of the body of a `scan` that can be a step of C; None for any other op."""
    return getattr(instruction.op, "body_plan", None)


def scan_step(
    instruction: Instruction,
    views: Mapping[Value, View],
    numbers: Iterator[int],
    noting: Callable[[], Value],
) -> Scan:
    """The step of a `scan`. noting: gives where linear systems note that they have no solution."""
    body, n = body_of(instruction), instruction.params["n"]
    code, size = body.code, 0

    def taken(nbytes: int) -> int:
        nonlocal size
        start, size = size, size - (-nbytes // _LINE) * _LINE
        return start

    carries, elements = code.counts.carries, code.counts.elements
    copied = {}
    for i, value in enumerate(instruction.inputs):
        is_element = carries <= i < carries + elements
        if i >= carries and not _lies_ready(value, views[value], is_element):
            copied[i] = taken(value.size * value.dtype.itemsize)
    other = {}
    for i, kind in enumerate(code.result_kinds()):
        if kind.dtype != instruction.output.dtype:
            rows = n + 1 if i < carries else n
            other[i] = taken(rows * int(np.prod(kind.shape)) * kind.dtype.itemsize)
    arena = taken(body.plan.arena.nbytes)
    scratch = Value(next(numbers), (max(size // 8, 1),), np.dtype(np.float64), (8,))
    status = None if body.plan.status is None else noting()
    return Scan(instruction, body, scratch, copied, other, arena, status)


def _lies_ready(value: Value, view: View, is_element: bool) -> bool:
    """Whether an argument, or each row of it, lies in C order."""
    shape, strides = value.shape, view.strides
    if is_element:
        shape, strides = shape[1:], strides[1:]
    dense = dense_strides(shape)
    return all(n == 1 or s == d for n, s, d in zip(shape, strides, dense, strict=True))
