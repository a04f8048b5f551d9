"""GEMM of large matrices, by a C kernel where that is as fast as NumPy's BLAS.

Which of the two is measured once on each machine (`native.choice`). The threads of OpenBLAS spin
for 25 to 110 ms after each product, and so keep cores from the next ones.
`$TINYGRAD_KR_PRODUCTS=numpy` turns the kernel off; `c` turns it on without a measurement.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.tracing import tracing

MIN_MULTIPLY_ADDS = 2**18 + 1
"""Threshold: smaller products are BLAS's; multiply-adds. A larger one builds the C kernels.

OpenBLAS computes the smaller ones on one core. For larger ones it wakes its threads.
"""
MIN_STACK_MULTIPLY_ADDS = 2**18
"""The same of all products of a stack together."""
MIN_SIDE = 8
"""Threshold: minimum rows and columns for the C kernel; below it most of a tile is wasted."""
_MAX_PACKED_BYTES = 2**26
"""Largest `b` for the C kernel, which copies it into a buffer that it keeps; bytes."""
_TYPES = (np.dtype(np.float32), np.dtype(np.float64))


def gemm(a: Any, b: Any, out: ndarray | None = None) -> Any:
    """a @ b, into `out` if that is given.

    C and BLAS round differently. Within a process, products of one shape always use the same
    kernel. Exception: recorded products, which are BLAS's, so that their bits do not depend on what
    the process has built before.
    """
    if type(a) is not ndarray or type(b) is not ndarray:
        return a @ b
    if a.ndim > 2 == b.ndim and out is None:
        rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
        return gemm(rows, b).reshape(*a.shape[:-1], b.shape[-1])
    if not _is_large(a, b) or (product := _product(a.dtype, a.ndim > 2)) is None:
        if a.ndim == 3 == b.ndim and a.shape[2] == 1 == b.shape[1] and out is None:
            return np.einsum("ni,nj->nij", a[..., 0], b[:, 0])
        return a.dot(b) if a.ndim == 2 == b.ndim and out is None else np.matmul(a, b, out=out)
    if out is None:
        out = np.empty((*a.shape[:-1], b.shape[-1]), a.dtype)
    whole = out.flags.c_contiguous and out.flags.aligned and out.dtype == a.dtype
    c = out if whole else np.empty(out.shape, a.dtype)
    product(*(x if x.flags.aligned else x.copy() for x in (a, b)), c)
    if c is not out:
        out[...] = c
    return out


def _is_large(a: ndarray, b: ndarray) -> bool:
    """Whether a product or a stack of them may be one for C."""
    axes = a.ndim
    if a.dtype not in _TYPES or a.dtype != b.dtype or not 2 <= axes == b.ndim <= 4:
        return False
    (rows, depth), (inner, columns) = a.shape[-2:], b.shape[-2:]
    size = math.prod(a.shape) * columns
    return (
        depth == inner
        and a.shape[:-2] == b.shape[:-2]
        and size >= (MIN_MULTIPLY_ADDS if axes == 2 else MIN_STACK_MULTIPLY_ADDS)
        and min(rows, columns) >= MIN_SIDE
        and a.itemsize * depth * columns <= _MAX_PACKED_BYTES
    )


def _product(dtype: Any, stacked: bool) -> Any:
    """`product(a, b, c)`, which writes a @ b into a dense c by C; None for BLAS."""
    found = _built(dtype)
    if found is None:
        return None
    library, single, several, choice = found
    if not (choice.stacked if stacked else choice.single):
        return None
    write = several if stacked else single
    return lambda a, b, c: write(library, a, b, c)


def kernels(dtype: Any = _TYPES[0]) -> Any:
    """The C kernels of convolutions of a dtype, built at the first large one; None for NumPy.

    No measurement decides: without them a convolution copies its windows for BLAS, as in a trace.
    Those of float32 are one library with the products.
    """
    if tracing() is not None:
        return None
    return _library() if dtype.itemsize == 4 else _convolutions_f64()


def _built(dtype: Any) -> Any:
    """What `_found` gives. A trace for `tk.compile` has none: its products run once, by BLAS."""
    if tracing() is not None:
        return None
    return _kernels() if dtype.itemsize == 4 else _kernels_f64()


@cache
def _library() -> Any:
    """The C kernels of float32 products and convolutions; None where NumPy computes them."""
    return _unless_pinned("float32", "eager_kernels")


@cache
def _convolutions_f64() -> Any:
    return _unless_pinned("float64", "eager_convolutions_f64")


def _unless_pinned(dtype: str, kernels_of: str) -> Any:
    """A library of `native.kernels`; None where `$TINYGRAD_KR_PRODUCTS` leaves all to NumPy."""
    asked = os.environ.get("TINYGRAD_KR_PRODUCTS")
    if asked == "numpy" and "tinygrad_kr.native.choice" not in sys.modules:
        return None  # no other process's choice was adopted, which would count for more
    from tinygrad_kr.native import choice
    from tinygrad_kr.native import kernels as native

    return getattr(native, kernels_of)() if choice.unmeasured(dtype).single else None


@cache
def _kernels() -> Any:
    return _found("float32", _library)


@cache
def _kernels_f64() -> Any:
    return _found("float64", lambda: _unless_pinned("float64", "eager_products_f64"))


def _found(dtype: str, library_of: Callable[[], Any]) -> Any:
    """The C kernels for a dtype, what calls them, and the choice; None without C kernels."""
    library = library_of()
    if library is None:
        return None
    from tinygrad_kr.native import choice

    made = choice.made(dtype, lambda: library)
    return library, choice.write_product, choice.write_stack, made
