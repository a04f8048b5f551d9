"""What C can do with a statement."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_kr.compile.ir.c_ops import expression
from tinygrad_kr.compile.ir.layout import FLOAT_DTYPES, extent
from tinygrad_kr.compile.ir.program import Statement, Value
from tinygrad_kr.compile.plan.concat import assembled
from tinygrad_kr.compile.plan.convolution import is_pooling
from tinygrad_kr.compile.plan.steps import (
    Assembly,
    Labels,
    Pooling,
    Product,
    Reduction,
    Step,
    TiledProduct,
    values_of_params,
)
from tinygrad_kr.native.kernels import COLUMNS, ROWS, has_wide_vectors
from tinygrad_kr.ops import linalg, network
from tinygrad_kr.ops.reduction import max_, min_, sum_

FEW = 500_000
"""Multiplications up to which idle parts of tiles cost less than a call of NumPy."""


def is_tiled(statement: Statement) -> bool:
    """Whether a matrix product is one for `gemm.h`: of float32, and of few idle parts.

    Ten columns of 32 are enough: one call of BLAS between such products leaves its threads
    spinning, and takes a core from the next ones (a wide net's step took 25 ms, not 14).
    """
    a, b = statement.inputs
    if not isinstance(a, Value) or not isinstance(b, Value) or not has_wide_vectors():
        return False
    if len(a.shape) != 2 or len(b.shape) != 2 or not (a.size and b.size):
        return False
    if any(value.dtype != np.float32 for value in (a, b, statement.output)):
        return False
    rows, columns = statement.output.shape
    whole = -(-rows // ROWS) * ROWS * -(-columns // COLUMNS) * COLUMNS
    return 4 * rows * columns >= whole or extent((rows, columns, a.shape[1])) <= FEW


SMALL_PRODUCT = 12_000
"""Multiplications up to which a loop in C is as fast as a call of BLAS."""


def is_c(statement: Statement) -> bool:
    """Whether the code generator knows the op, for inputs of this kind."""
    return expression(statement) is not None or _single_kind(statement) is not None


def _single(statement: Statement) -> Step:
    kind = _single_kind(statement)
    assert kind is not None
    step: Step = kind(statement)
    return step


def _single_kind(statement: Statement) -> Any:
    op, output = statement.op, statement.output
    if op in (sum_, max_, min_):
        (x,) = statement.inputs
        floats = isinstance(x, Value) and x.dtype == output.dtype and x.dtype in FLOAT_DTYPES
        full = floats and (x.size > 0 or op is sum_)
        return Reduction if full and not values_of_params(statement) else None
    if is_pooling(statement):
        return Pooling
    if assembled(statement) is not None:
        return Assembly
    if op is linalg.matmul:
        if _is_small_product(statement):
            return Product
        return TiledProduct if is_tiled(statement) else None
    if op in (network.label_pick, network.label_put):
        x, labels = statement.inputs
        fits = isinstance(x, Value) and isinstance(labels, Value) and x.dtype == output.dtype
        return Labels if fits and labels.dtype.kind == "i" and output.size else None
    return None


def _is_small_product(statement: Statement) -> bool:
    a, b = statement.inputs
    if not isinstance(a, Value) or not isinstance(b, Value):
        return False
    if len(a.shape) < 2 or len(b.shape) < 2 or not a.size or not b.size:
        return False
    if a.dtype != b.dtype or a.dtype not in FLOAT_DTYPES or statement.output.dtype != a.dtype:
        return False
    return extent(statement.output.shape) * a.shape[-1] <= SMALL_PRODUCT
