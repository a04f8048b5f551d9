"""Reading and adding at an index: each is the adjoint of the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops import kernels
from tinygrad_kr.ops.elementwise import isnan, where_or_zero
from tinygrad_kr.ops.op import Op, in_float32, op


def _getitem(x: ndarray, *, key: Any) -> Any:
    """`x[key]` for every basic and advanced NumPy index."""
    if type(key) is ndarray and key.dtype.kind == "i" and x.ndim > 1 and x.flags.c_contiguous:
        return x.take(key, 0)  # whole rows, in half the time
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


_BASIC = (int, slice)


def is_basic(key: Any) -> bool:
    """Whether a key names no element twice: ints, slices, None, `...`, or one boolean mask."""
    if type(key) in _BASIC:
        return True
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
    g = g.reshape(len(rows), *out.shape[1:])
    arrays = {"labels": rows, "g": kernels.dense(g), "y": out}
    if out.dtype == g.dtype and kernels.rows("add_rows", *_matrix(g), len(rows), arrays):
        return
    order = np.argsort(rows, kind="stable")
    rows, g = rows[order], g[order]
    starts = np.flatnonzero(np.concatenate(([True], rows[1:] != rows[:-1])))
    out[rows[starts]] = np.add.reduceat(g, starts, axis=0)


def _matrix(g: ndarray) -> tuple[int, int]:
    """The sizes of an array as a matrix of its rows."""
    return len(g), g.size // len(g)


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


# ------------------------------------------------------------------ weighted reads along an axis


def _take_weighted(
    x: ndarray, *, indices: ndarray, weights: ndarray, axis: int, size: int
) -> ndarray:
    """y_i = sum over t of weights_ti x[indices_ti], along `axis`.

    indices: (t, n) integers in [0, size); weights: (t, n). size: of the axis of `x`.
    """
    weights = weights.astype(x.dtype, copy=False)
    found = kernels.resample("take_weighted", x, indices, weights, axis, indices.shape[1])
    if found is not None:
        return found
    terms = (
        x.take(index, axis) * _along_one(weight, x.ndim, axis)
        for index, weight in zip(indices, weights, strict=True)
    )
    return np.asarray(sum(terms))


def _add_weighted(
    g: ndarray, *, indices: ndarray, weights: ndarray, axis: int, size: int
) -> ndarray:
    """Zeros with weights_ti g_i added at indices_ti along `axis`, which has `size` elements."""
    weights = weights.astype(g.dtype, copy=False)
    found = kernels.resample("add_weighted", g, indices, weights, axis, size)
    if found is not None:
        return found
    out = np.zeros((size, *np.delete(g.shape, axis)), g.dtype)
    for index, weight in zip(indices, weights, strict=True):
        np.add.at(out, index, np.moveaxis(g * _along_one(weight, g.ndim, axis), axis, 0))
    return np.moveaxis(out, 0, axis)


def _along_one(weight: ndarray, ndim: int, axis: int) -> ndarray:
    """A vector with the axes behind `axis` added."""
    return weight.reshape(-1, *(1,) * (ndim - axis - 1))


take_weighted = op(_take_weighted, lambda g, y, x, **taps: add_weighted(g, **taps))
add_weighted: Op = op(_add_weighted, lambda g, y, x, **taps: take_weighted(g, **taps))


# ------------------------------------------------------------------ writing along an axis


def _put_along_axis(x: ndarray, src: ndarray, *, indices: ndarray, axis: int) -> ndarray:
    """`x` with y[i, indices[i, j, k], k] = src[i, j, k] for axis 1; of equal indices the last wins.

    src: of the shape of `indices`.
    """
    y = x.astype(np.result_type(x, src))
    y[_along(indices, axis)] = src
    return y


def _clear_along_axis(x: ndarray, *, indices: ndarray, axis: int) -> ndarray:
    """`x` with 0 at `indices` along `axis`."""
    y = x.copy()
    y[_along(indices, axis)] = 0
    return y


def _take_winners(x: ndarray, *, indices: ndarray, axis: int) -> Any:
    """`take_along_axis` with 0 for all but the last of equal indices."""
    place = _along(indices, axis)
    number = np.arange(indices.size).reshape(indices.shape)
    latest = np.zeros(x.shape, np.int64)
    latest[place] = number
    return np.where(latest[place] == number, x[place], np.zeros((), x.dtype))


# fmt: off
clear_along_axis: Op = op(_clear_along_axis, lambda g, y, x, indices, axis:
                     clear_along_axis(g, indices=indices, axis=axis))
put_along_axis: Op = op(_put_along_axis,
                     lambda g, y, x, src, indices, axis:
                     clear_along_axis(g, indices=indices, axis=axis),
                     lambda g, y, x, src, indices, axis:
                     take_winners(g, indices=indices, axis=axis))
take_winners: Op = op(_take_winners, lambda g, y, x, indices, axis:
                     put_along_axis(np.zeros(x.shape, g.dtype), g, indices=indices, axis=axis))
# fmt: on


def _extreme_along_axis(
    x: ndarray, src: ndarray, *, indices: ndarray, axis: int, largest: bool, include_self: bool
) -> ndarray:
    """The largest or smallest of the elements of `src` at an index, and of `x` there.

    src: of the shape of `indices`. include_self: count the element of `x` too.
    """
    place, y = _along(indices, axis), x.astype(np.result_type(x, src))
    if not include_self:
        y[place] = _least(y.dtype, largest)
    (np.maximum if largest else np.minimum).at(y, place, src)
    return y


def _least(dtype: np.dtype[Any], largest: bool) -> Any:
    """The neutral element of the maximum, or of the minimum."""
    if dtype.kind == "b":
        return not largest
    if dtype.kind == "f":
        return -np.inf if largest else np.inf
    return np.iinfo(dtype).min if largest else np.iinfo(dtype).max


def _extreme_rule(
    g: Any, y: Any, x: Any, src: Any, indices: ndarray, axis: int, include_self: bool
) -> list[Any]:
    """An even share of g for each element that is the extreme one."""
    mine = (x == y) | isnan(x)
    if not include_self:
        mine = clear_along_axis(mine, indices=indices, axis=axis)
    others = (src == take_along_axis(y, indices=indices, axis=axis)) | isnan(src)
    ties = mine.astype(y.dtype) + add_along_axis(
        others.astype(y.dtype), indices=indices, axis=axis, shape=x.shape
    )
    share = g / ties
    return [
        where_or_zero(share, mine),
        where_or_zero(take_along_axis(share, indices=indices, axis=axis), others),
    ]


extreme_along_axis = op(
    _extreme_along_axis,
    lambda g, y, x, src, needs, indices, axis, largest, include_self: _extreme_rule(
        g, y, x, src, indices, axis, include_self
    ),
    one_rule_for_all=True,
)


def _searchsorted(
    ordered: ndarray, values: ndarray, sorter: ndarray | None = None, *, side: Any
) -> ndarray:
    """Where each value belongs along the last axis of `ordered`; int64."""
    if sorter is not None:
        ordered = np.take_along_axis(ordered, sorter, -1)
    if ordered.ndim == 1:
        return np.asarray(np.searchsorted(ordered, values, side))
    found = np.empty(values.shape, np.int64)
    for row in np.ndindex(ordered.shape[:-1]):
        found[row] = np.searchsorted(ordered[row], values[row], side)
    return found


searchsorted = op(_searchsorted)


MAX_MASK = 2**16
"""Threshold: largest triangle whose mask is kept; elements."""


@lru_cache(maxsize=16)
def _mask(rows: int, columns: int, k: int, triangle: Callable[..., ndarray]) -> ndarray:
    """Which elements of a matrix lie in a triangle; read-only by convention."""
    return triangle(np.ones((rows, columns), np.bool_), k)


def _kept(x: ndarray, k: int, triangle: Callable[..., ndarray]) -> ndarray:
    """The triangle, with zeros elsewhere. Making the mask takes NumPy longer than using it."""
    if x.ndim < 2 or x.shape[-1] * x.shape[-2] > MAX_MASK:
        return triangle(x, k)
    return np.where(_mask(*x.shape[-2:], k, triangle), x, np.zeros(1, x.dtype))


def _triu(x: ndarray, *, k: int = 0) -> ndarray:
    """The upper triangle of the last two axes, from diagonal `k`; zeros below."""
    return _kept(x, k, np.triu)


def _tril(x: ndarray, *, k: int = 0) -> ndarray:
    """The lower triangle of the last two axes, up to diagonal `k`; zeros above."""
    return _kept(x, k, np.tril)


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
