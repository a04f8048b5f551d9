"""Products of large float32 matrices: C of ours where it is faster than NumPy's BLAS.

OpenBLAS 0.3.31, NumPy 2.4's, takes an AMD Zen 5 for a Haswell and computes at half its speed; and
its threads spin for some 20 milliseconds after each product, on the cores that the next ones want.
`$TINYGRAD_KR_PRODUCTS=numpy` leaves all to NumPy.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.ops.writes import address

FEW = 4096
"""Elements of a factor up to which callers need not ask `multiply`."""
LARGE = 2**20
"""Multiplications from which on nets are as fast with C. Up to four times as many, a product by
itself is faster by BLAS, but one call of BLAS with threads takes a core from those in C."""
NARROW = 8
"""Rows and columns with fewer of which BLAS is faster: most of a tile of `gemm.h` is idle."""
_MOST_COPIED = 2**26
"""Bytes of b, which C copies and keeps the memory."""


def multiply(a: Any, b: Any, out: ndarray | None = None) -> Any:
    """a @ b, into `out` if that is given.

    float32 is rounded differently in C and by BLAS; within a process it is always the same one of
    the two that computes a product of the same shapes, but for recordings before there is the C.
    """
    if type(a) is not ndarray or type(b) is not ndarray:
        return a @ b
    if a.ndim > 2 == b.ndim and out is None:
        rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
        return multiply(rows, b).reshape(*a.shape[:-1], b.shape[-1])
    if not _is_large(a, b) or (product := _product()) is None:
        return a.dot(b) if a.ndim == 2 == b.ndim and out is None else np.matmul(a, b, out=out)
    if out is None:
        out = np.empty((*a.shape[:-1], b.shape[-1]), np.float32)
    if a.ndim == 2:
        _write_product(product, a, b, out)
    else:
        for matrices in zip(a, b, out, strict=True):
            _write_product(product, *matrices)
    return out


def _is_large(a: ndarray, b: ndarray) -> bool:
    if a.dtype != np.float32 or b.dtype != np.float32 or not 2 <= a.ndim == b.ndim <= 3:
        return False
    (rows, depth), (inner, columns) = a.shape[-2:], b.shape[-2:]
    return (
        depth == inner
        and a.shape[:-2] == b.shape[:-2]
        and rows * depth * columns >= LARGE
        and min(rows, columns) >= NARROW
        and 4 * depth * columns <= _MOST_COPIED
    )


def _write_product(product: Callable[..., None], a: ndarray, b: ndarray, out: ndarray) -> None:
    whole = out.flags.c_contiguous and out.flags.aligned and out.dtype == np.float32
    c = out if whole else np.empty(out.shape, np.float32)
    a, b = (x if x.flags.aligned else x.copy() for x in (a, b))
    product(*a.shape, b.shape[1], *_place(a), *_place(b), address(c))
    if c is not out:
        out[...] = c


def _place(x: ndarray) -> tuple[int, int, int]:
    """Where a matrix is, and how many elements are from one to the next, down and across."""
    down, across = x.strides
    return address(x), down // 4, across // 4


def _product() -> Callable[..., None] | None:
    found = kernels()
    return None if found is None else found.product


def kernels() -> Any:
    """The functions in C, built when the first large product comes; None for NumPy.

    What only a recording for `tk.compile` computes is not worth the wait for another build.
    """
    wanted = tracing() is None or _kernels.cache_info().currsize
    return _kernels() if wanted else None


@cache
def _kernels() -> Any:
    wanted = os.environ.get("TINYGRAD_KR_PRODUCTS", "")
    if wanted not in ("", "numpy"):
        raise ValueError(f"$TINYGRAD_KR_PRODUCTS is {wanted!r}; it is 'numpy' or not set")
    if wanted:
        return None
    from tinygrad_kr.native.kernels import eager_kernels

    return eager_kernels()
