"""GEMM of large float32 matrices, by a C kernel where that is faster than NumPy's BLAS.

OpenBLAS 0.3.31, NumPy 2.4's, takes an AMD Zen 5 for a Haswell and runs at half its speed. Its
threads spin for about 20 ms after each product, and so keep cores from the next ones.
`$TINYGRAD_KR_PRODUCTS=numpy` turns the kernel off.
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

MAX_DOT_SIZE = 4096
"""Threshold: a product with a factor of fewer elements may skip `gemm`; elements."""
MIN_MULTIPLY_ADDS = 2**20
"""Threshold: use the C kernel from this many multiply-adds. A lone product of up to 4x this size is
faster in BLAS, but a threaded BLAS call slows the C kernels around it."""
MIN_SIDE = 8
"""Threshold: minimum rows and columns for the C kernel; below it most of a tile is wasted."""
_MAX_PACKED_BYTES = 2**26
"""Largest `b` for the C kernel, which copies it into a buffer that it keeps; bytes."""


def gemm(a: Any, b: Any, out: ndarray | None = None) -> Any:
    """a @ b, into `out` if that is given.

    C and BLAS round float32 differently. Within a process, products of one shape always use the
    same kernel. Exception: products recorded before the library is built.
    """
    if type(a) is not ndarray or type(b) is not ndarray:
        return a @ b
    if a.ndim > 2 == b.ndim and out is None:
        rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
        return gemm(rows, b).reshape(*a.shape[:-1], b.shape[-1])
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
        and rows * depth * columns >= MIN_MULTIPLY_ADDS
        and min(rows, columns) >= MIN_SIDE
        and 4 * depth * columns <= _MAX_PACKED_BYTES
    )


def _write_product(product: Callable[..., None], a: ndarray, b: ndarray, out: ndarray) -> None:
    whole = out.flags.c_contiguous and out.flags.aligned and out.dtype == np.float32
    c = out if whole else np.empty(out.shape, np.float32)
    a, b = (x if x.flags.aligned else x.copy() for x in (a, b))
    product(*a.shape, b.shape[1], *_matrix_args(a), *_matrix_args(b), address(c))
    if c is not out:
        out[...] = c


def _matrix_args(x: ndarray) -> tuple[int, int, int]:
    """Address of a matrix and its strides in elements, down and across."""
    down, across = x.strides
    return address(x), down // 4, across // 4


def _product() -> Callable[..., None] | None:
    found = kernels()
    return None if found is None else found.product


def kernels() -> Any:
    """The C kernels, built at the first large product; None for NumPy.

    A trace for `tk.compile` does not build them: its products run once.
    """
    wanted = tracing() is None or _kernels.cache_info().currsize
    return _kernels() if wanted else None


@cache
def _kernels() -> Any:
    wanted = os.environ.get("TINYGRAD_KR_PRODUCTS", "")
    if wanted not in ("", "numpy"):
        raise ValueError(f"$TINYGRAD_KR_PRODUCTS: expected 'numpy' or nothing, got {wanted!r}.")
    if wanted:
        return None
    from tinygrad_kr.native.kernels import eager_kernels

    return eager_kernels()
