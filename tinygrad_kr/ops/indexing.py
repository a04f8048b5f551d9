"""Reading and adding at an index: each is the adjoint of the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.op import Op, in_float32, op


def _getitem(x: ndarray, *, key: Any) -> Any:
    """`x[key]` for every basic and advanced NumPy index."""
    return x[key]


@in_float32
def _index_add(g: ndarray, *, key: Any, shape: tuple[int, ...]) -> ndarray:
    """Zeros of `shape` with `g` added at `key`; an index named twice is added twice."""
    out = np.zeros(shape, g.dtype)
    if is_basic(key):
        out[key] = g
    elif isinstance(key, ndarray) and key.dtype.kind in "iu" and key.ndim and len(shape) > 1:
        _add_rows(out, key, g)
    else:
        np.add.at(out, key, g)
    return out


def is_basic(key: Any) -> bool:
    """Whether a key names no element twice: ints, slices, None, `...`, or one boolean mask."""
    parts = key if isinstance(key, tuple) else (key,)
    if all(
        part is None or isinstance(part, int | slice | np.integer) or part is ... for part in parts
    ):
        return True
    return len(parts) == 1 and getattr(parts[0], "dtype", None) == np.dtype(bool)


def _add_rows(out: ndarray, rows: ndarray, g: ndarray) -> None:
    """`out[rows] += g` with repeated rows summed; sorting is faster than `np.add.at` on rows."""
    if not rows.size:
        return
    rows = np.arange(len(out))[rows.ravel()]
    order = np.argsort(rows, kind="stable")
    rows, g = rows[order], g.reshape(len(rows), *out.shape[1:])[order]
    starts = np.flatnonzero(np.concatenate(([True], rows[1:] != rows[:-1])))
    out[rows[starts]] = np.add.reduceat(g, starts, axis=0)


def _take_along_axis(x: ndarray, *, indices: ndarray, axis: int) -> Any:
    """y[i, j, k] = x[i, indices[i, j, k], k] for axis 1; off it `indices` may be smaller."""
    return x[_along(indices, axis)]


@in_float32
def _add_along_axis(g: ndarray, *, indices: ndarray, axis: int, shape: tuple[int, ...]) -> ndarray:
    """Zeros of `shape` with `g` added at `indices` along `axis`."""
    out = np.zeros(shape, g.dtype)
    np.add.at(out, _along(indices, axis), g)
    return out


def _along(indices: ndarray, axis: int) -> tuple[ndarray, ...]:
    grid: list[Any] = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    grid[axis] = indices
    return tuple(grid)


# fmt: off
getitem         = op(_getitem,         lambda g, y, x, key: index_add(g, key=key, shape=x.shape))
index_add: Op = op(_index_add,       lambda g, y, x, key, shape: getitem(g, key=key))
take_along_axis = op(_take_along_axis, lambda g, y, x, indices, axis:
                     add_along_axis(g, indices=indices, axis=axis, shape=x.shape))
add_along_axis: Op = op(_add_along_axis,  lambda g, y, x, indices, axis, shape:
                     take_along_axis(g, indices=indices, axis=axis))
# fmt: on


def _triu(x: ndarray, *, k: int = 0) -> ndarray:
    """The upper triangle of the last two axes, from diagonal `k`; zeros below."""
    return np.triu(x, k)


def _tril(x: ndarray, *, k: int = 0) -> ndarray:
    """The lower triangle of the last two axes, up to diagonal `k`; zeros above."""
    return np.tril(x, k)


def _diagonal(x: ndarray, *, offset: int = 0, axis1: int = 0, axis2: int = 1) -> ndarray:
    """The diagonal of two axes, as the last axis of the result."""
    return np.diagonal(x, offset, axis1, axis2)


def _put_diagonal(
    g: ndarray, *, offset: int, axis1: int, axis2: int, shape: tuple[int, ...]
) -> ndarray:
    """Zeros of `shape` with `g` on the diagonal of two axes."""
    out = np.zeros(shape, g.dtype)
    diagonal = np.diagonal(out, offset, axis1, axis2)
    diagonal.flags.writeable = True
    diagonal[...] = g
    return out


# fmt: off
triu: Op = op(_triu, lambda g, y, x, k=0: triu(g, k=k))
tril: Op = op(_tril, lambda g, y, x, k=0: tril(g, k=k))
diagonal = op(_diagonal, lambda g, y, x, offset=0, axis1=0, axis2=1:
              put_diagonal(g, offset=offset, axis1=axis1, axis2=axis2, shape=x.shape))
put_diagonal: Op = op(_put_diagonal, lambda g, y, x, offset, axis1, axis2, shape:
                  diagonal(g, offset=offset, axis1=axis1, axis2=axis2))
# fmt: on
