"""Elements chosen by position along an axis: sorted, gathered, taken, and added back.

Compositions of the ops of `ops.indexing` with PyTorch's signatures; `axis` may be called `dim`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray
from numpy.lib.array_utils import normalize_axis_index

from tinygrad_kr.arrays import reduction
from tinygrad_kr.arrays.operands import array_function, either_name, operands
from tinygrad_kr.ops import elementwise, indexing
from tinygrad_kr.ops.indexing import (
    add_along_axis,
    extreme_along_axis,
    getitem,
    put_along_axis,
    put_diagonal,
)
from tinygrad_kr.ops.node import Node, constant
from tinygrad_kr.ops.reduction import prod_
from tinygrad_kr.ops.shape import broadcast_to, reshape
from tinygrad_kr.ops.tracing import tracing

__all__ = [
    "argsort", "bucketize", "diag", "gather", "index_select", "max", "min", "nonzero", "scatter",
    "scatter_add", "scatter_reduce", "searchsorted", "sort", "take", "take_along_axis", "topk",
    "tril", "triu", "unique",
]  # fmt: skip


class Chosen(NamedTuple):
    """Elements chosen along an axis, and their indices."""

    values: Any
    indices: Any


def array_of(x: Any) -> Any:
    """The ndarray of a Tensor, to pass on; anything else as it is."""
    return x._data if isinstance(x, Node) else x


def detach(x: Any) -> Any:
    """A Tensor without its history; anything else as it is."""
    return constant(x._data) if isinstance(x, Node) else x


def peek(x: Any) -> Any:
    """The ndarray of a Tensor, to inspect; anything else as it is.

    Decisions by its values are not recorded, so a function that makes them is not compiled.
    """
    if not isinstance(x, Node):
        return x
    if tracer := tracing():
        tracer.give_up("it sorts, counts or looks otherwise at the elements of a Tensor")
    return x._data


def index_array(index: Any, size: int, name: str) -> ndarray:
    """A copy of `index` as integers, for backward to read.

    Raises TypeError for other dtypes, IndexError for an index outside the axis.
    """
    tracer = tracing()
    if tracer is not None and isinstance(index, Node):
        array = index._data
        tracer.check(_refuse_outside, array, size, name)
    else:
        array = np.array(array_of(index))
    if not array.size and not isinstance(index, Node | ndarray):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integer indices, got {array.dtype}. Use .astype(int)")
    _refuse_outside(array, size, name)
    return array


def _refuse_outside(array: ndarray, size: int, name: str) -> None:
    wrong = array[(array < -size) | (array >= size)]
    if wrong.size:
        raise IndexError(
            f"{name}: expected indices from {-size} to {size - 1}, got {wrong[0]}. The axis has "
            f"{size} elements"
        )


def _axis_of(x: Any, axis: int, name: str) -> int:
    return normalize_axis_index(axis, x.ndim, name)


@array_function
def take(x: Any, indices: Any, axis: int | None = None, *, dim: int | None = None) -> Any:
    """The elements at `indices` along `axis`, or of the flattened array for None.

    indices: integers of any shape; negative ones count from the end. Their axes take the place of
        `axis`.
    Gradient: g added at the indices; an element that is named twice receives both.
    Raises TypeError for indices that are not integers, IndexError for one out of range.
    Source: np.take.

    >>> tk.take(tk.tensor([1.0, 2.0, 3.0]), [2, 0])
    Tensor([3., 1.])
    """
    axis = axis if dim is None else dim
    x, axis = (x.reshape(-1), 0) if axis is None else (x, _axis_of(x, axis, "take"))
    indices = index_array(indices, x.shape[axis], "take")
    return getitem(x, key=(*(slice(None),) * axis, indices) if axis else indices)


@array_function
def index_select(x: Any, dim: int, index: Any) -> Any:
    """The slices at the positions `index`, a vector of integers, along `dim`.

    Gradient: g added at the indices; a slice that is named twice receives both.
    Raises TypeError for an index that is not of integers, IndexError for one out of range.
    Source: torch.index_select.

    >>> tk.index_select(tk.tensor([[1, 2], [3, 4]]), 1, [1])
    Tensor([[2],
            [4]])
    """
    if np.ndim(array_of(index)) > 1:
        raise IndexError(f"index_select: expected a vector, got shape {np.shape(array_of(index))}.")
    if not isinstance(index, Node):
        index = np.atleast_1d(index)
    return take(x, index if index.ndim else index.reshape(1), dim)


@array_function
def gather(x: Any, dim: int, index: Any) -> Any:
    """One element per index along `dim`: y[i, j, k] = x[i, index[i, j, k], k] for dim 1.

    index: integers, with as many axes as `x`. Off `dim` it may be smaller. The result has its
        shape.
    Gradient: g added at the indices; an element that is named twice receives both.
    Raises TypeError for an index that is not of integers, IndexError for one out of range,
        ValueError for a shape that does not fit.
    Source: torch.gather.

    >>> tk.gather(tk.tensor([[1, 2], [3, 4]]), 1, [[1], [0]])
    Tensor([[2],
            [3]])
    """
    dim = _axis_of(x, dim, "gather")
    index = index_array(index, x.shape[dim], "gather")
    _demand_fits(index, x, dim, "gather")
    return indexing.take_along_axis(x, indices=index, axis=dim)


@array_function
def scatter_add(x: Any, dim: int, index: Any, src: Any) -> Any:
    """`x` with y[i, index[i, j, k], k] += src[i, j, k] for dim 1: the adjoint of `gather`.

    index: integers, with as many axes as `x`. Off `dim` it may be smaller.
    src: at least as large as `index` along each axis; elements beyond `index` are not read.
    Gradient: g for `x`, g at the indices for `src`.
    Raises TypeError for an index that is not of integers, IndexError for one out of range,
        ValueError for shapes that do not fit.
    Source: torch.scatter_add.

    >>> tk.scatter_add(tk.zeros(3), 0, [0, 2, 2], tk.tensor([1.0, 2.0, 3.0]))
    Tensor([1., 0., 5.])
    """
    dim, index, src = _places(x, dim, index, src, "scatter_add")
    return x + add_along_axis(src, indices=index, axis=dim, shape=x.shape)


def _places(x: Any, dim: int, index: Any, src: Any, name: str) -> tuple[int, ndarray, Any]:
    """The axis, the index, and `src` in its shape, as every function that scatters takes them."""
    dim = _axis_of(x, dim, name)
    index = index_array(index, x.shape[dim], name)
    _demand_fits(index, x, dim, name)
    src = src if isinstance(src, Node | ndarray) else np.asarray(src, x.dtype)
    if src.ndim != index.ndim or any(n > m for n, m in zip(index.shape, src.shape, strict=True)):
        raise ValueError(f"{name}: expected src to cover index {index.shape}, got {src.shape}.")
    if src.shape != index.shape:
        src = src[tuple(slice(n) for n in index.shape)]
    return dim, index, src


@array_function
@either_name
def scatter(
    x: Any,
    dim: int,
    index: Any,
    src: Any = None,
    *,
    value: Any = None,
    reduce: str | None = None,
    axis: int | None = None,
) -> Any:
    """`x` with y[i, index[i, j, k], k] = src[i, j, k] for dim (or axis) 1.

    index: integers, with as many axes as `x`. Off `dim` it may be smaller. Of equal indices the
        last one counts.
    src: at least as large as `index` along each axis, or a number; `value` is its other name.
    reduce: "add" or "multiply" to y instead.
    Gradient: g for `x` where nothing was written; g at the indices for `src`, 0 for a value that
        was overwritten.
    Raises TypeError for an index that is not of integers, IndexError for one out of range,
        ValueError for shapes that do not fit.
    Source: torch.scatter.

    >>> tk.scatter(tk.zeros(3), 0, [2, 0], tk.tensor([1.0, 2.0]))
    Tensor([2., 0., 1.])
    """
    src = value if src is None else src
    if src is None:
        raise TypeError("scatter: expected src or value, got neither.")
    if not x.ndim:
        x, index, src = (_vector(part) for part in (x, index, src))
        return scatter(x, dim, index, src, reduce=reduce).reshape(())
    if not np.ndim(array_of(src)):
        src = broadcast_to(operands(x, src)[1], shape=np.shape(array_of(index)))
    if reduce is not None:
        if reduce not in {"add", "multiply"}:
            raise ValueError(f'scatter: expected reduce "add" or "multiply", got {reduce!r}.')
        return scatter_reduce(x, dim, index, src, "sum" if reduce == "add" else "prod")
    dim, index, src = _places(x, dim, index, src, "scatter")
    return put_along_axis(x, src, indices=index, axis=dim)


@array_function
@either_name
def scatter_reduce(
    x: Any,
    dim: int,
    index: Any,
    src: Any,
    reduce: str,
    *,
    include_self: bool = True,
    axis: int | None = None,
) -> Any:
    """`x` with the elements of `src` reduced into it: y[i, index[i, j, k], k] for dim (or axis) 1.

    index, src: as for `scatter_add`.
    reduce: "sum", "prod", "mean", "amax" or "amin", of all that comes to one element.
    include_self: count the element of `x` too. Else it stays only where nothing comes.
    Gradient: of the reduction; for "amax" and "amin" shared evenly by equal elements, for "prod"
        exact where elements are 0.
    Raises TypeError for an index that is not of integers, IndexError for one out of range,
        ValueError for another reduction, or for shapes that do not fit.
    Source: torch.scatter_reduce.

    >>> tk.scatter_reduce(tk.zeros(3), 0, [0, 0, 2], tk.tensor([1.0, 5.0, 3.0]), "amax")
    Tensor([5., 0., 3.])
    """
    if reduce not in {"sum", "prod", "mean", "amax", "amin"}:
        raise ValueError(
            'scatter_reduce: expected reduce "sum", "prod", "mean", "amax" or "amin", got '
            f"{reduce!r}."
        )
    if not x.ndim:
        x, index, src = (_vector(part) for part in (x, index, src))
        return scatter_reduce(x, dim, index, src, reduce, include_self=include_self).reshape(())
    if reduce == "prod":
        index = peek(index)  # how many layers there are depends on its elements
    dim, index, src = _places(x, dim, index, src, "scatter_reduce")
    at: dict[str, Any] = {"indices": index, "axis": dim}
    if reduce in {"amax", "amin"}:
        largest = reduce == "amax"
        return extreme_along_axis(x, src, largest=largest, include_self=include_self, **at)
    if not include_self:
        neutral = np.full(index.shape, float(reduce == "prod"), x.dtype)
        x = put_along_axis(x, neutral, **at)
    if reduce == "prod":
        return x * _scattered_product(x, src, index, dim)
    total = x + add_along_axis(src, shape=x.shape, **at)
    if reduce == "sum":
        return total
    each = np.ones(index.shape, np.int64)
    n = add_along_axis(constant(each) if tracing() else each, shape=x.shape, **at)
    n = n + 1 if include_self else elementwise.maximum(n, 1)
    return total // n if total.dtype.kind in "iu" else total / n.astype(total.dtype)


def _vector(number: Any) -> Any:
    """A number as a vector of one element, as PyTorch takes it where an axis is named."""
    return reshape(number, shape=(1,)) if isinstance(number, Node) else np.reshape(number, 1)


def _scattered_product(x: Any, src: Any, index: ndarray, dim: int) -> Any:
    """The product of the elements of `src` that come to each element of `x`; 1 of none.

    One layer holds the first that comes to each, the next one the second: their product has a rule
    that is exact at zeros.
    """
    place = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    place[dim] = index % x.shape[dim]
    flat = np.ravel_multi_index(np.broadcast_arrays(*place), x.shape).ravel()
    order = np.argsort(flat, kind="stable")
    first = np.searchsorted(flat[order], flat[order])
    turn = np.empty(index.shape, np.int64)
    turn.ravel()[order] = np.arange(flat.size) - first
    size = (int(turn.max(initial=-1)) + 1, *x.shape)
    key = (turn, *place)
    absent = np.ones(size, x.dtype)
    absent[key] = 0
    return prod_(indexing.index_add(src, key=key, shape=size) + absent, axis=0)


def _demand_fits(index: ndarray, x: Any, dim: int, name: str) -> None:
    if index.ndim != x.ndim or any(
        n > m for a, (n, m) in enumerate(zip(index.shape, x.shape, strict=True)) if a != dim
    ):
        raise ValueError(
            f"{name}: expected an index with the axes of {x.shape}, none but axis {dim} larger, "
            f"got {index.shape}."
        )


@array_function
def take_along_axis(x: Any, indices: Any, axis: int | None = -1, *, dim: int | None = None) -> Any:
    """NumPy's `gather`: `x` and `indices` broadcast against each other off the axis.

    indices: integers, with as many axes as `x`.
    axis: None for the flattened array.
    Gradient: g added at the indices; an element that is named twice receives both.
    Raises TypeError for indices that are not integers, IndexError for one out of range, ValueError
        for a shape that does not fit.
    Source: np.take_along_axis.

    >>> tk.take_along_axis(tk.tensor([[1, 2], [3, 4]]), [[1], [0]])
    Tensor([[2],
            [3]])
    """
    axis = axis if dim is None else dim
    x, axis = (x.reshape(-1), 0) if axis is None else (x, _axis_of(x, axis, "take_along_axis"))
    indices = index_array(indices, x.shape[axis], "take_along_axis")
    if indices.ndim != x.ndim:
        raise ValueError(
            f"take_along_axis: expected indices with {x.ndim} axes, got {indices.shape}."
        )
    off_axis = [(*a.shape[:axis], 1, *a.shape[axis + 1 :]) for a in (x, indices)]
    common = list(np.broadcast_shapes(*off_axis))
    common[axis] = indices.shape[axis]
    if indices.shape != tuple(common):
        indices = broadcast_to(constant(indices), shape=tuple(common))._data
    common[axis] = x.shape[axis]
    if x.shape != tuple(common):
        x = broadcast_to(x, shape=tuple(common))
    return indexing.take_along_axis(x, indices=indices, axis=axis)


@array_function
def argsort(
    x: Any, axis: int = -1, descending: bool = False, *, dim: int | None = None, stable: bool = True
) -> Any:
    """The indices that sort along `axis`; int64, without a gradient.

    descending: largest first. The sort is always stable, whatever `stable` says; NaN is the
        largest.
    Raises IndexError if there is no such axis. Source: torch.argsort.

    >>> tk.argsort(tk.tensor([3.0, 1.0, 2.0]))
    Tensor([1, 2, 0])
    """
    axis = _axis_of(x, axis if dim is None else dim, "argsort")
    order = _order(peek(x), axis, descending)
    return constant(order) if isinstance(x, Node) else order


def _order(x: ndarray, axis: int, descending: bool) -> Any:
    if not descending:
        return np.argsort(x, axis, kind="stable")
    backwards = np.argsort(np.flip(x, axis), axis, kind="stable")
    return x.shape[axis] - 1 - np.flip(backwards, axis)


@array_function
def sort(
    x: Any, axis: int = -1, descending: bool = False, *, dim: int | None = None, stable: bool = True
) -> Chosen:
    """The elements in order along `axis`, and the indices they had, as (values, indices).

    descending: largest first. The sort is always stable, whatever `stable` says; NaN is the
        largest.
    Gradient: g at the position each element had.
    Raises IndexError if there is no such axis. Source: torch.sort.

    >>> tk.sort(tk.tensor([3.0, 1.0, 2.0])).values
    Tensor([1., 2., 3.])
    """
    axis = _axis_of(x, axis if dim is None else dim, "sort")
    return _chosen(x, _order(peek(x), axis, descending), axis)


@array_function
def topk(
    x: Any,
    k: int,
    axis: int = -1,
    largest: bool = True,
    sorted: bool = True,
    *,
    dim: int | None = None,
) -> Chosen:
    """The `k` largest elements along `axis` in order, and their indices, as (values, indices).

    largest: False for the smallest ones. Of equal elements the first ones are taken.
    sorted: for PyTorch's sake; the result is always sorted.
    Gradient: g at the position each element had.
    Raises ValueError if `k` is negative or more than the axis has. Source: torch.topk.

    >>> tk.topk(tk.tensor([3.0, 1.0, 2.0]), 2).values
    Tensor([3., 2.])
    """
    axis = _axis_of(x, axis if dim is None else dim, "topk")
    if not 0 <= k <= x.shape[axis]:
        raise ValueError(f"topk: expected k from 0 to {x.shape[axis]}, got {k}.")
    order = _order(peek(x), axis, descending=largest)
    return _chosen(x, order[(*(slice(None),) * axis, slice(k))], axis)


def _chosen(x: Any, indices: ndarray, axis: int) -> Chosen:
    values = indexing.take_along_axis(x, indices=indices, axis=axis)
    return Chosen(values, constant(indices).clone() if isinstance(x, Node) else indices)


def _extreme(
    name: str, reduced: Callable[..., Any], first: Callable[..., Any], doc: str
) -> Callable[..., Any]:
    """`max` or `min`: `reduced`, which can give indices as well."""

    def extreme(
        x: Any,
        axis: Any = None,
        keepdims: bool = False,
        *,
        dim: Any = None,
        keepdim: bool = False,
        return_indices: bool = False,
    ) -> Any:
        keepdims = keepdims or keepdim
        axis = axis if dim is None else dim
        if not return_indices:
            return reduced(x, axis, keepdims)
        if not isinstance(axis, int):
            raise TypeError(f"{name}: expected one axis with return_indices=True, got {axis!r}.")
        chosen = _chosen(x, array_of(first(x, axis, True)), _axis_of(x, axis, name))
        return chosen if keepdims else Chosen(*(part.squeeze(axis) for part in chosen))

    extreme.__name__ = extreme.__qualname__ = name
    extreme.__doc__ = doc
    return array_function(extreme)


_EXTREME_DOC = """The {0} element over `axis`, or over all axes; NaN wins.

axis, dim: an int, a tuple, or None for all axes.
keepdims, keepdim: keep the reduced axes, with size 1.
return_indices: give (values, indices) along one axis, as PyTorch does.
Gradient: shared evenly by equal elements; with `return_indices` the first has all of it.
Raises ValueError for no elements, TypeError for `return_indices` without one axis.
Source: np.{1}, torch.{1}.

>>> tk.{1}(tk.tensor([[1.0, 5.0], [3.0, 2.0]]), axis=1)
Tensor({2})
"""

max = _extreme(
    "max", reduction.max, reduction.argmax, _EXTREME_DOC.format("largest", "max", "[5., 3.]")
)
min = _extreme(
    "min", reduction.min, reduction.argmin, _EXTREME_DOC.format("smallest", "min", "[1., 2.]")
)


@array_function
def nonzero(x: Any, as_tuple: bool = False) -> Any:
    """The positions of the elements that are not 0; int64, without a gradient.

    as_tuple: one vector of indices for each axis, instead of one row for each element.
    Source: torch.nonzero.

    >>> tk.nonzero(tk.tensor([[0, 5], [7, 0]]))
    Tensor([[0, 1],
            [1, 0]])
    """
    found = np.nonzero(np.atleast_1d(peek(x)))
    if as_tuple:
        return tuple(map(constant, found)) if isinstance(x, Node) else found
    rows = np.stack(found, -1)[:, : x.ndim]
    return constant(rows) if isinstance(x, Node) else rows


@array_function
@either_name
def unique(
    x: Any,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    dim: int | None = None,
) -> Any:
    """The different elements of `x`, in order, without a gradient.

    sorted: for PyTorch's sake; the result is always sorted.
    return_inverse: also the index of each element of `x` in the result.
    return_counts: also how often each one is there. With either the result is a tuple.
    axis, dim: give the different slices along an axis; None for elements.
    Each NaN differs from all others. Source: torch.unique, np.unique.

    >>> tk.unique(tk.tensor([3, 1, 3]), return_counts=True)
    (Tensor([1, 3]), Tensor([1, 2]))
    """
    array = np.asarray(peek(x))
    values, inverse, counts = np.unique(
        array, return_inverse=True, return_counts=True, axis=axis, equal_nan=False
    )
    inverse = inverse.reshape(array.shape if axis is None else -1)
    parts = [values, *[inverse] * return_inverse, *[counts] * return_counts]
    found = tuple(map(constant, parts)) if isinstance(x, Node) else tuple(parts)
    return found if len(found) > 1 else found[0]


# ------------------------------------------------------------------ places in an order


def searchsorted(
    sorted_sequence: Any,
    values: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Any = None,
) -> Any:
    """The indices at which `values` would keep the last axis of `sorted_sequence` in order.

        y = i where s_(i-1) < v <= s_i;  with right=True where s_(i-1) <= v < s_i

    sorted_sequence: a vector, or vectors along the last axis.
    values: a number or any shape for a vector; else with the same axes before the last.
    side: "right" for right=True, "left" for False. sorter: the `argsort` of a sequence that is
        not in order. out_int32: give int32, not int64.
    The result has the shape of `values`, without a gradient.
    Raises ValueError for shapes that do not fit, or another side. Source: torch.searchsorted.

    >>> tk.searchsorted(tk.tensor([1.0, 3.0, 5.0]), tk.tensor([3.0, 4.0]))
    Tensor([1, 2])
    """
    if side not in {None, "left", "right"} or (side == "left" and right):
        raise ValueError(
            f'searchsorted: expected side "left" or "right" that agrees with right={right}, got '
            f"{side!r}."
        )
    ordered, values = operands(sorted_sequence, values)
    if not ordered.ndim or (ordered.ndim > 1 and ordered.shape[:-1] != values.shape[:-1]):
        raise ValueError(
            "searchsorted: expected a vector, or values with the same axes before the last, got "
            f"{ordered.shape} and {values.shape}."
        )
    extra = () if sorter is None else (index_array(sorter, ordered.shape[-1], "searchsorted"),)
    if extra and extra[0].shape != ordered.shape:
        raise ValueError(
            f"searchsorted: expected a sorter of shape {ordered.shape}, got {extra[0].shape}."
        )
    found = indexing.searchsorted(
        ordered, values, *extra, side="right" if right or side == "right" else "left"
    )
    return found.astype(np.int32) if out_int32 else found


@array_function
def bucketize(x: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False) -> Any:
    """The index of the bucket of each element: i where b_(i-1) < x <= b_i.

    boundaries: a vector in order; n boundaries make n + 1 buckets.
    right: i where b_(i-1) <= x < b_i instead. out_int32: give int32, not int64.
    The result has the shape of `x`, without a gradient.
    Raises ValueError for anything but a vector of boundaries. Source: torch.bucketize.

    >>> tk.bucketize(tk.tensor([0.5, 3.0, 9.0]), [1.0, 3.0, 5.0])
    Tensor([0, 1, 3])
    """
    boundaries = operands(x, boundaries)[1]
    if boundaries.ndim != 1:
        raise ValueError(
            f"bucketize: expected a vector of boundaries, got shape {boundaries.shape}."
        )
    return searchsorted(boundaries, x, out_int32=out_int32, right=right)


# ------------------------------------------------------------------ triangles and diagonals


@array_function
def triu(x: Any, diagonal: int = 0, *, k: int | None = None) -> Any:
    """The upper triangle of the last two axes, from diagonal `diagonal` on; zeros below it.

    k: NumPy's name for `diagonal`.
    Gradient: g in the triangle, 0 below. Source: torch.triu, np.triu.

    >>> tk.triu(tk.tensor([[1, 2], [3, 4]]))
    Tensor([[1, 2],
            [0, 4]])
    """
    return indexing.triu(x, k=diagonal if k is None else k)


@array_function
def tril(x: Any, diagonal: int = 0, *, k: int | None = None) -> Any:
    """The lower triangle of the last two axes, up to diagonal `diagonal`; zeros above it.

    k: NumPy's name for `diagonal`.
    Gradient: g in the triangle, 0 above. Source: torch.tril, np.tril.

    >>> tk.tril(tk.tensor([[1, 2], [3, 4]]))
    Tensor([[1, 0],
            [3, 4]])
    """
    return indexing.tril(x, k=diagonal if k is None else k)


@array_function
def diag(x: Any, diagonal: int = 0, *, k: int | None = None) -> Any:
    """A matrix with the vector `x` on a diagonal, or that diagonal of the matrix `x`.

    k: NumPy's name for `diagonal`.
    Gradient: the diagonal of g, or g on the diagonal.
    Raises ValueError unless `x` has one or two axes. Source: torch.diag, np.diag.

    >>> tk.diag(tk.tensor([1, 2]))
    Tensor([[1, 0],
            [0, 2]])
    """
    offset = diagonal if k is None else k
    if x.ndim == 2:
        return indexing.diagonal(x, offset=offset)
    if x.ndim != 1:
        raise ValueError(f"diag: expected a vector or a matrix, got shape {x.shape}.")
    n = x.shape[0] + abs(offset)
    return put_diagonal(x, offset=offset, axis1=0, axis2=1, shape=(n, n))


def plain_key(key: Any) -> Any:
    """An index without Tensors and lists. Its arrays are copies, for backward to read.

    Raises IndexError for an index that is neither integer nor boolean.
    """
    if isinstance(key, tuple):
        return tuple(_plain_part(part) for part in key)
    return _plain_part(key)


def _plain_part(part: Any) -> Any:
    tracer = tracing()
    if isinstance(part, Node):
        if tracer is not None:
            tracer.read(part)
        part = part._data
    elif isinstance(part, list):
        part = np.asarray(part, dtype=None if part else np.int64)
    elif isinstance(part, slice):
        ends = (part.start, part.stop, part.step)
        return slice(*(e._data.item() if isinstance(e, Node) else e for e in ends))
    if not isinstance(part, ndarray):
        return part
    if part.dtype.kind not in "iub":
        raise IndexError(
            f"index: expected integers or booleans, got {part.dtype}. Use .astype(int)"
        )
    return part.copy() if tracer is None else part
