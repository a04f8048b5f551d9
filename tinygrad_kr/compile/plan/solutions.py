"""Which linear systems and decompositions a program computes by functions of `solving.h`."""

from __future__ import annotations

import os
from typing import Any

from tinygrad_kr.compile.ir.layout import FLOAT_DTYPES
from tinygrad_kr.compile.ir.program import Instruction, Value
from tinygrad_kr.compile.plan.steps import NO_MEMORY, Solution, values_of_params
from tinygrad_kr.ops import linalg, solving

FUNCTIONS: dict[Any, str] = {
    linalg.solve: "solve_",
    linalg.inv: "solve_",
    linalg.logabsdet_slope: "solve_",
    linalg.solve_triangular: "solve_triangular_",
    linalg.cholesky: "cholesky_",
    linalg.logabsdet: "logabsdet_",
    linalg.signdet: "signdet_",
}
"""By op, the function in C."""

NAMES = dict(enumerate((op.__name__ for op in FUNCTIONS), NO_MEMORY + 1))
"""The ops, by the number that `status` has where one of them has no solution."""
_NUMBERS = {name: number for number, name in NAMES.items()}

_ALWAYS = {linalg.logabsdet, linalg.signdet}
"""Ops that have a result for every matrix."""


def is_solved(instruction: Instruction) -> bool:
    """Whether C computes an op, of square matrices that are not large."""
    op, output = instruction.op, instruction.output
    if op not in FUNCTIONS or os.environ.get("TINYGRAD_KR_PRODUCTS") == "numpy":
        return False
    a, *rest = instruction.inputs
    if not all(isinstance(x, Value) and x.dtype == output.dtype for x in instruction.inputs):
        return False
    if output.dtype not in FLOAT_DTYPES or values_of_params(instruction) or not output.size:
        return False
    if len(a.shape) < 2 or a.shape[-1] != a.shape[-2] or not a.size:
        return False
    limit = solving.MAX_SIDE if FUNCTIONS[op] in solving.BY_ROWS else solving.MAX_LU_SIDE
    if op is linalg.solve_triangular and len(rest[0].shape) < 2:
        return False
    return int(a.shape[-1]) <= limit


def solution(instruction: Instruction, status: Value) -> Solution:
    """The step of an op that `is_solved`."""
    op = instruction.op
    noting = None if op in _ALWAYS else status
    return Solution(instruction, FUNCTIONS[op], _NUMBERS[op.__name__], noting)
