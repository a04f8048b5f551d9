"""Linear systems in C, where that is faster than a call of LAPACK: see `solving.h`.

Each function takes what the op of its name takes. It returns the result, or None for what NumPy
computes: large or tiny matrices, other dtypes, and matrices without a solution, for NumPy's error.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops import kernels
from tinygrad_kr.ops.writes import address

MIN_WORK = 2**15
"""Threshold: multiply-adds of a call from which a kernel is built and called."""
MAX_LU_SIDE, MAX_SIDE = 128, 256
"""Threshold: largest matrices that are not faster in LAPACK, with and without pivots; rows."""
BY_ROWS = ("cholesky_", "cholesky_vjp_", "solve_triangular_")
"""Functions without pivots."""
UPPER, UNIT = 1, 2
"""Flags of a triangle, as in `solving.h`."""


def solve(a: ndarray, b: ndarray) -> ndarray | None:
    """a^-1 b by an LU decomposition."""
    if b.ndim == 1:
        y = solve(a, b[:, None])
        return None if y is None else y[..., 0]
    return _systems("solve_", a, b)


def inv(a: ndarray) -> ndarray | None:
    """The solution for the columns of the identity."""
    return _systems("solve_", a, None)


def logabsdet_slope(a: ndarray) -> ndarray | None:
    """The inverse of a^T."""
    return inv(a.mT) if a.ndim > 1 else None


def solve_triangular(a: ndarray, b: ndarray, *, upper: bool, unit: bool) -> ndarray | None:
    """t^-1 b for the triangle t of `a`, by substitution."""
    return _systems("solve_triangular_", a, b, UPPER * upper + UNIT * unit)


def cholesky(a: ndarray) -> ndarray | None:
    """The root of the symmetric part."""
    return _systems("cholesky_", a, None)


def cholesky_vjp(g: Any, y: Any) -> ndarray | None:
    """The cotangent of the symmetric matrix with the root `y`, from that of `y`."""
    if type(g) is not ndarray or type(y) is not ndarray or g.shape != y.shape:
        return None
    return _systems("cholesky_vjp_", y, g)


def logabsdet(a: ndarray) -> ndarray | None:
    """The sum of the logarithms of the pivots."""
    return _numbers("logabsdet_", a)


def signdet(a: ndarray) -> ndarray | None:
    """The sign of the product of the pivots."""
    return _numbers("signdet_", a)


def _systems(name: str, a: ndarray, b: ndarray | None, flags: int = 0) -> ndarray | None:
    """The results of systems with columns; those of the identity if `b` is None."""
    n, columns = a.shape[-1] if a.ndim else 0, 0
    if b is not None:
        if b.ndim < 2 or b.shape[-2] != n:
            return None
        columns = b.shape[-1]
    columns = columns if b is not None else n
    if not _fits(name, a, (a.size + (0 if b is None else b.size)) * n) or not columns:
        return None
    found = kernels.kernels("solving", a) if b is None else kernels.kernels("solving", a, b)
    if found is None:
        return None
    batch = a.shape[:-2]
    if b is not None and b.shape[:-2] != batch:
        batch = np.broadcast_shapes(batch, b.shape[:-2])
    y = np.empty((*batch, n, columns), a.dtype)
    second = (0, 0, 0, 0) if b is None else (b := _placed(b, batch), *_matrices(b))[1:]
    a = _placed(a, batch)
    given = [math.prod(batch), n, columns, flags, *_matrices(a), *second, address(y), n * columns]
    return y if kernels.run(getattr(found, name), given, 1, 0) else None


def _numbers(name: str, a: ndarray) -> ndarray | None:
    """A number for each matrix."""
    if not _fits(name, a, a.size * a.shape[-1] if a.ndim else 0):
        return None
    found = kernels.kernels("solving", a)
    if found is None:
        return None
    y, n = np.empty(a.shape[:-2], a.dtype), a.shape[-1]
    a = _placed(a, y.shape)
    given = [y.size, n, 0, 0, *_matrices(a), 0, 0, 0, 0, address(y), 1]
    return y if kernels.run(getattr(found, name), given, 1, 0) else None


def _fits(name: str, a: ndarray, work: int) -> bool:
    """Whether matrices are square, and neither few and tiny nor large."""
    limit = MAX_SIDE if name in BY_ROWS else MAX_LU_SIDE
    return work >= MIN_WORK and a.ndim > 1 and a.shape[-1] == a.shape[-2] <= limit


def _placed(x: ndarray, batch: tuple[int, ...]) -> ndarray:
    """The matrices with at most one axis before them; aligned."""
    if x.shape[:-2] != batch:
        x = np.broadcast_to(x, (*batch, *x.shape[-2:]))
    if len(batch) > 1:
        x = x.reshape(math.prod(batch), *x.shape[-2:])
    return x if x.flags.aligned else x.copy()


def _matrices(x: ndarray) -> tuple[int, int, int, int]:
    """The address, and the strides in elements: apart, down and across."""
    size = x.itemsize
    *apart, down, across = x.strides
    return address(x), apart[0] // size if apart else 0, down // size, across // size
