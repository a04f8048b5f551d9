"""Large matrix products in C, where a processor has vectors that BLAS may not know."""

from __future__ import annotations

import os
from functools import cache

import numpy as np

from tinygrad_kr.compile.layout import extent
from tinygrad_kr.compile.machine import machine
from tinygrad_kr.compile.program import Statement, Value

ROWS, COLUMNS = 14, 32
"""Of the tiles of `products.h`; those at the edges are computed whole."""
FEW = 500_000
"""Multiplications up to which idle parts of tiles cost less than a call of NumPy."""


@cache
def has_wide_vectors() -> bool:
    """Whether `products.h` is made for this processor."""
    return os.name == "posix" and "avx512f" in machine().split()


def is_tiled(statement: Statement) -> bool:
    """Whether a matrix product is one for `products.h`: of float32, and of few idle parts.

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


def call(places: list[tuple[str, tuple[int, ...]]], statement: Statement) -> str:
    """The call of the function in C: `places` are where a, b and the output begin, and strides."""
    rows, columns = statement.output.shape
    depth = statement.inputs[0].shape[1]
    (a, a_strides), (b, b_strides), (out, _) = places
    given = (rows, depth, columns, a, *a_strides, b, *b_strides, out)
    return f"tk_product({', '.join(map(str, given))});"
