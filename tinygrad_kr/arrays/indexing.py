"""Elements chosen by position along an axis: sorted, gathered, taken, and added back.

Compositions of the ops of `ops.indexing` with PyTorch's signatures; `axis` may be called `dim`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from tinygrad_kr.arrays import reduction
from tinygrad_kr.arrays.operands import (
    EitherName,
    array_function,
    either_name,
    floating,
    no_axes,
    number_as_vector,
    operands,
    warn_user,
)
from tinygrad_kr.ops import elementwise, indexing
from tinygrad_kr.ops.axes import axis_index, axis_indices
from tinygrad_kr.ops.elementwise import where
from tinygrad_kr.ops.indexing import (
    add_along_axis,
    extreme_along_axis,
    getitem,
    put_along_axis,
    put_diagonal,
)
from tinygrad_kr.ops.node import Node, constant
from tinygrad_kr.ops.op import op, refuse_masked
from tinygrad_kr.ops.reduction import median_, prod_
from tinygrad_kr.ops.shape import broadcast_to, reshape
from tinygrad_kr.ops.tracing import tracing

__all__ = [
    "argsort", "bucketize", "cummax", "cummin", "diag", "gather", "index_select", "kthvalue",
    "max", "median", "min", "mode", "nonzero", "scatter", "scatter_add", "scatter_reduce",
    "searchsorted", "sort", "take", "take_along_axis", "topk", "tril", "triu", "unique",
]  # fmt: skip


class _Pair(NamedTuple):
    values: Any
    indices: Any


class Chosen(_Pair):
    """Elements chosen along an axis, and their indices. Arithmetic raises: it is no array."""

    __slots__ = ()

    def __eq__(self, other: object) -> Any:
        return tuple.__eq__(self, other) if isinstance(other, tuple) else _no_arithmetic(self)

    def __ne__(self, other: object) -> Any:
        return tuple.__ne__(self, other) if isinstance(other, tuple) else _no_arithmetic(self)

    __hash__ = tuple.__hash__

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"pair: expected an array with {name!r}, got {_PAIR}")


_PAIR = (
    "(values, indices), which max, min, sort and others give, as in PyTorch. Write axis= for the "
    "values alone, or .values"
)
_ARITHMETIC = (
    "add sub mul truediv floordiv mod pow matmul and or xor radd rsub rmul rtruediv rfloordiv rmod "
    "rpow rmatmul rand ror rxor neg pos abs invert float int lt le gt ge array"
)


def _no_arithmetic(pair: Chosen, *others: Any, **options: Any) -> Any:
    """Refuse to take a pair for an array."""
    raise TypeError(f"pair: expected an array, got {_PAIR}")


for _name in _ARITHMETIC.split():
    setattr(Chosen, f"__{_name}__", _no_arithmetic)


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
        refuse_masked(index, name)
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


def _along(x: Any, axis: int, name: str) -> tuple[Any, int]:
    """`x`, a number as a vector of one element, and its axis, at least 0."""
    if x.ndim:
        return x, axis_index(axis, x.ndim, name)
    no_axes(axis)
    return x.reshape(1), 0


@array_function
@either_name
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
    return _taken("take", *((x.reshape(-1), 0) if axis is None else (x, axis)), indices)


def _taken(name: str, x: Any, axis: int, indices: Any) -> Any:
    x, axis = _along(x, axis, name)
    indices = index_array(indices, x.shape[axis], name)
    return getitem(x, key=(*(slice(None),) * axis, indices) if axis else indices)


@array_function
@either_name
def index_select(x: Any, dim: int, index: Any, *, axis: int | None = None) -> Any:
    """The slices at the positions `index`, a vector of integers, along `dim` (or `axis`).

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
    one = index.reshape(()) if not x.ndim else index if index.ndim else index.reshape(1)
    return _taken("index_select", x, dim, one)


@array_function
@either_name
def gather(x: Any, dim: int, index: Any, *, axis: int | None = None) -> Any:
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
    if not np.ndim(array_of(index)):
        return gather(x, dim, _vector(index)).reshape(())
    x, dim = _along(x, dim, "gather")
    index = index_array(index, x.shape[dim], "gather")
    _demand_fits(index, x, dim, "gather")
    return indexing.take_along_axis(x, indices=index, axis=dim)


@array_function
@either_name
def scatter_add(x: Any, dim: int, index: Any, src: Any, *, axis: int | None = None) -> Any:
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
    if not x.ndim:
        return scatter_add(x.reshape(1), dim, _vector(index), _vector(src)).reshape(())
    dim, index, src = _places(x, dim, index, src, "scatter_add")
    return x + add_along_axis(src, indices=index, axis=dim, shape=x.shape)


def _places(x: Any, dim: int, index: Any, src: Any, name: str) -> tuple[int, ndarray, Any]:
    """The axis, the index, and `src` in its shape, as every function that scatters takes them."""
    dim = axis_index(dim, x.ndim, name)
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
    src = src if isinstance(src, Node | ndarray) else np.asarray(src, x.dtype)
    if not x.ndim:
        x, index, src = (_vector(part) for part in (x, index, src))
        return scatter(x, dim, index, src, reduce=reduce).reshape(())
    if not src.ndim:
        src = broadcast_to(src, shape=np.shape(array_of(index)))
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
        src = src if isinstance(src, Node | ndarray) else np.asarray(src, x.dtype)
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
    y = prod_(indexing.index_add(src, key=key, shape=size) + absent, axis=0)
    return y.astype(src.dtype) if src.dtype == bool else y


def _demand_fits(index: ndarray, x: Any, dim: int, name: str) -> None:
    if index.ndim != x.ndim or any(
        n > m for a, (n, m) in enumerate(zip(index.shape, x.shape, strict=True)) if a != dim
    ):
        raise ValueError(
            f"{name}: expected an index with the axes of {x.shape}, none but axis {dim} larger, "
            f"got {index.shape}."
        )


@array_function
@either_name
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
    x, axis = (
        (x.reshape(-1), 0) if axis is None else (x, axis_index(axis, x.ndim, "take_along_axis"))
    )
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
@number_as_vector
@either_name
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
    axis = axis_index(axis, x.ndim, "argsort")
    order = _order(peek(x), axis, descending)
    return constant(order) if isinstance(x, Node) else order


def _order(x: ndarray, axis: int, descending: bool) -> Any:
    if not descending:
        return np.argsort(x, axis, kind="stable")
    backwards = np.argsort(np.flip(x, axis), axis, kind="stable")
    return x.shape[axis] - 1 - np.flip(backwards, axis)


def _pair(
    numpys: Callable[..., Any] | None = None,
) -> Callable[[Callable[..., Chosen]], Callable[..., Any]]:
    """PyTorch's function, which gives (values, indices). With `axis=` it gives values alone.

    numpys: computes them, with the same arguments, where NumPy's are not those of the pair.
    """

    def decorate(function: Callable[..., Chosen]) -> Callable[..., Any]:
        call = EitherName(function)
        others = call.others

        @wraps(function)
        def choose(*args: Any, **kwargs: Any) -> Any:
            if not kwargs or others.isdisjoint(kwargs):
                return function(*args, **kwargs)
            args, moved = call(args, kwargs)
            if "axis" not in kwargs:
                return function(*args, **moved)
            return function(*args, **moved).values if numpys is None else numpys(*args, **moved)

        return choose

    return decorate


def _chosen(x: Any, dim: int, name: str, indices_of: Callable[..., ndarray]) -> Chosen:
    """The elements along `dim` at `indices_of(array, axis)`. A number counts as a vector."""
    lanes = x if x.ndim else x.reshape(1)
    axis = axis_index(dim, lanes.ndim, name)
    indices = indices_of(lanes, axis)
    values = indexing.take_along_axis(lanes, indices=indices, axis=axis)
    pair = Chosen(values, constant(indices).clone() if isinstance(x, Node) else indices)
    return pair if x.ndim or not indices.size else Chosen(*(part.reshape(()) for part in pair))


def _chosen_one(
    x: Any, dim: int, keepdim: bool, name: str, indices_of: Callable[..., ndarray]
) -> Chosen:
    """One element for each lane along `dim`; ValueError for lanes without elements."""
    if not isinstance(dim, int | np.integer):
        raise TypeError(
            f"{name}: expected one axis, got {dim!r}. Write axis= for the values alone, over "
            "several axes"
        )
    axis = axis_index(dim, x.ndim, name) if x.ndim else 0
    if x.ndim and not x.shape[axis]:
        raise ValueError(f"{name}: expected an element along axis {dim}, got shape {x.shape}.")
    pair = _chosen(x, dim, name, indices_of)
    if keepdim or not x.ndim:
        return pair
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    return Chosen(*(part.reshape(shape) for part in pair))


def _sorted(x: Any, dim: int | None = -1, descending: bool = False, *, stable: bool = True) -> Any:
    """NumPy's `sort`: the values; of the flattened array for None."""
    if dim is None:
        x, dim = x.reshape(-1), 0
    return sort(x, dim, descending).values


@array_function
@_pair(_sorted)
def sort(
    x: Any,
    dim: int = -1,
    descending: bool = False,
    *,
    stable: bool = True,
    axis: int | None = None,
) -> Chosen:
    """The elements in order along `dim`, and the indices they had, as (values, indices).

    axis: in place of `dim`, for the values alone; None for those of the flattened array.
    descending: largest first. The sort is always stable, whatever `stable` says; NaN is the
        largest.
    Gradient: g at the position each element had.
    Raises IndexError if there is no such axis. Source: torch.sort, np.sort.

    >>> tk.sort(tk.tensor([3.0, 1.0, 2.0])).values
    Tensor([1., 2., 3.])
    >>> tk.sort(tk.tensor([3.0, 1.0, 2.0]), axis=0)
    Tensor([1., 2., 3.])
    """
    return _chosen(x, dim, "sort", lambda lanes, axis: _order(peek(lanes), axis, descending))


@array_function
@either_name
def topk(
    x: Any,
    k: int,
    dim: int = -1,
    largest: bool = True,
    sorted: bool = True,
    *,
    axis: int | None = None,
) -> Chosen:
    """The `k` largest elements along `dim` in order, and their indices, as (values, indices).

    axis: NumPy's name for `dim`; the result is a pair all the same.
    largest: False for the smallest ones. Of equal elements the first ones are taken.
    sorted: for PyTorch's sake; the result is always sorted.
    Gradient: g at the position each element had.
    Raises ValueError if `k` is negative or more than the axis has. Source: torch.topk.

    >>> tk.topk(tk.tensor([3.0, 1.0, 2.0]), 2).values
    Tensor([3., 2.])
    """

    def first(lanes: Any, axis: int) -> Any:
        if not 0 <= k <= lanes.shape[axis]:
            raise ValueError(f"topk: expected k from 0 to {lanes.shape[axis]}, got {k}.")
        order = _order(peek(lanes), axis, descending=largest)
        return order[(*(slice(None),) * axis, slice(k))]

    return _chosen(x, dim, "topk", first)


@array_function
@_pair()
def kthvalue(
    x: Any,
    k: int,
    dim: int = -1,
    keepdim: bool = False,
    *,
    axis: int | None = None,
    keepdims: bool = False,
) -> Chosen:
    """The `k`-th smallest element along `dim`, from 1 on, and its index, as (values, indices).

    axis: in place of `dim`, for the values alone.
    keepdim, keepdims: keep the axis, with size 1.
    NaN is the largest. Of equal elements the index is that of a stable sort.
    Gradient: g at the index.
    Raises ValueError unless `k` is from 1 to the size of the axis. Source: torch.kthvalue.

    >>> tk.kthvalue(tk.tensor([3.0, 1.0, 2.0]), 2).values
    Tensor(2.)
    """

    def kth(lanes: Any, axis: int) -> Any:
        if not 1 <= k <= lanes.shape[axis]:
            raise ValueError(f"kthvalue: expected k from 1 to {lanes.shape[axis]}, got {k}.")
        order = _order(peek(lanes), axis, descending=False)
        return order[(*(slice(None),) * axis, slice(k - 1, k))]

    return _chosen_one(x, dim, keepdim, "kthvalue", kth)


def _averaged_median(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """NumPy's `median`: the mean of the two in the middle; NaN where there is one."""
    axes = axis_indices(range(x.ndim) if dim is None else dim, x.ndim, "median")
    kept = [1 if a in axes else n for a, n in enumerate(x.shape)]
    shape = tuple(kept) if keepdim else tuple(n for a, n in enumerate(x.shape) if a not in axes)
    others = tuple(a for a in range(x.ndim) if a not in axes)
    n = math.prod(x.shape[a] for a in axes)
    rows = floating(x).transpose(others + axes).reshape((math.prod(shape), n))
    if not n:
        return rows.sum(axis=1).reshape(shape) * math.nan
    rows = sort(rows, 1).values
    low, high, last = rows[:, (n - 1) // 2], rows[:, n // 2], rows[:, -1]
    middle = low if n % 2 else where(low == high, low, low * 0.5 + high * 0.5)
    return where(elementwise.isnan(last), last, middle).reshape(shape)


@array_function
@_pair(_averaged_median)
def median(
    x: Any,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    axis: Any = None,
    keepdims: bool = False,
) -> Any:
    """The element in the middle, the lower of two: of all elements, or (values, indices) on `dim`.

    axis: an int, a tuple or None, in place of `dim`, for NumPy's median: its values alone, which
        are the mean of the two in the middle.
    keepdim, keepdims: keep the axis, with size 1.
    NaN wins. Integers become float32 with `axis`.
    Gradient: g at the index; without `dim` shared evenly by equal elements; with `axis` half of it
        for each of the two in the middle.
    Raises ValueError for no elements along `dim`; without `dim` their median is NaN.
    Source: torch.median, np.median.

    >>> x = tk.tensor([4.0, 1.0, 2.0, 3.0])
    >>> x.median(), x.median(axis=0)
    (Tensor(2.), Tensor(2.5))
    """
    if dim is None:
        return median_(x)
    return _chosen_one(x, dim, keepdim, "median", _median_index)


def _median_index(x: Any, axis: int) -> Any:
    array = peek(x)
    order = _order(array, axis, descending=False)
    middle = (array.shape[axis] - 1) // 2
    index = order[(*(slice(None),) * axis, slice(middle, middle + 1))]
    missing = np.isnan(array)
    any_missing = missing.any(axis=axis, keepdims=True)
    return np.where(any_missing, missing.argmax(axis=axis, keepdims=True), index)


@array_function
@_pair()
def mode(
    x: Any,
    dim: int = -1,
    keepdim: bool = False,
    *,
    axis: int | None = None,
    keepdims: bool = False,
) -> Chosen:
    """The most frequent element along `dim`, and its last index, as (values, indices).

    axis: in place of `dim`, for the values alone.
    keepdim, keepdims: keep the axis, with size 1.
    Of equally frequent elements the smallest. A NaN equals nothing.
    Gradient: g at the index. Raises ValueError for no elements. Source: torch.mode.

    >>> tk.mode(tk.tensor([3.0, 1.0, 3.0])).values
    Tensor(3.)
    """
    return _chosen_one(x, dim, keepdim, "mode", _mode_index)


def _mode_index(x: Any, axis: int) -> Any:
    """The index of the last of the longest run in order."""
    array = np.moveaxis(peek(x), axis, -1)
    order = _order(array, -1, descending=False)
    ordered = np.take_along_axis(array, order, -1)
    positions = np.arange(array.shape[-1])
    starts = np.ones(array.shape, bool)
    starts[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    length = positions - np.maximum.accumulate(np.where(starts, positions, 0), -1)
    index = np.take_along_axis(order, length.argmax(-1, keepdims=True), -1)
    return np.moveaxis(index, -1, axis)


_RUNNING = """The {0} element so far along `dim`, and its index, as (values, indices).

y_k is the {0} of x_0 ... x_k. NaN wins. Of equal elements the index is that of the last.
axis: in place of `dim`, for the values alone.
Gradient: g added at the indices.
Raises IndexError if there is no such axis. Source: torch.{1}.

>>> tk.{1}(tk.tensor([1.0, 3.0, 2.0]), axis=0)
Tensor({2})
"""


def _index_of_running(x: ndarray, *, axis: int, extreme: np.ufunc) -> ndarray:
    """The index of the running extreme along `axis`, the last of equal ones; a NaN stays."""
    reached = (x == extreme.accumulate(x, axis)) | np.isnan(x)
    positions = np.arange(x.shape[axis]).reshape([-1] + [1] * (x.ndim - 1 - axis))
    return np.maximum.accumulate(np.where(reached, positions, 0), axis)


_running_index = op(_index_of_running, name="accumulate", variable="_running_index")


def _running(name: str, extreme: np.ufunc, doc: str) -> Callable[..., Any]:
    """`cummax` or `cummin`: the running `extreme`."""

    def indices_of(x: Any, axis: int) -> Any:
        return array_of(_running_index(x, axis=axis, extreme=extreme))

    def running(x: Any, dim: int, *, axis: int | None = None) -> Chosen:
        return _chosen(x, dim, name, indices_of)

    running.__name__ = running.__qualname__ = name
    running.__doc__ = doc
    return array_function(_pair()(running))


cummax = _running("cummax", np.maximum, _RUNNING.format("largest", "cummax", "[1., 3., 3.]"))
cummin = _running("cummin", np.minimum, _RUNNING.format("smallest", "cummin", "[1., 1., 1.]"))


def _extreme(
    name: str,
    reduced: Callable[..., Any],
    first: Callable[..., Any],
    larger: Callable[..., Any],
    doc: str,
) -> Callable[..., Any]:
    """`max` or `min`: `reduced` over axes, `first` for the index, `larger` of two arrays."""

    def index_of(x: Any, axis: int) -> Any:
        return array_of(first(x, axis, True))

    def numpys(
        x: Any, dim: Any = None, keepdim: bool = False, *, return_indices: bool | None = None
    ) -> Any:
        if return_indices is not None:
            warn_user(f"{name}: return_indices= is for one release. {_FOR_INDICES}")
        if return_indices:
            return _chosen_one(x, dim, keepdim, name, index_of)
        return reduced(x, dim, keepdim)

    def extreme(
        x: Any,
        dim: Any = None,
        keepdim: bool = False,
        *,
        other: Any = None,
        axis: Any = None,
        keepdims: bool = False,
        return_indices: bool | None = None,
    ) -> Any:
        if return_indices is not None:
            return numpys(x, dim, keepdim, return_indices=return_indices)
        other = dim if isinstance(dim, Node | ndarray) else other
        if other is not None:
            return larger(x, other)
        if dim is None:
            return reduced(x, None, keepdim)
        return _chosen_one(x, dim, keepdim, name, index_of)

    extreme.__name__ = extreme.__qualname__ = name
    extreme.__doc__ = doc
    return array_function(_pair(numpys)(extreme))


_FOR_INDICES = "Write dim= for (values, indices), axis= for the values alone"
_EXTREME_DOC = """The {0} of all elements, or (values, indices) along `dim`; NaN wins.

dim: one axis. A Tensor or an array in its place is `other`.
axis: an int, a tuple or None, in place of `dim`, for the values alone.
keepdim, keepdims: keep the reduced axes, with size 1.
other: a Tensor or an array, for the {0} of both, elementwise: see `tk.{3}`.
return_indices: give (values, indices) with `axis` too; for this release.
Gradient: shared evenly by equal elements; along `dim` the first has all of it.
Raises ValueError for no elements, TypeError for a `dim` that is not one axis.
Source: torch.{1}, np.{1}.

>>> x = tk.tensor([[1.0, 5.0], [3.0, 2.0]])
>>> tk.{1}(x, axis=1)
Tensor({2})
>>> tk.{1}(x, 1).indices
Tensor({4})
"""

max = _extreme(
    "max",
    reduction.max,
    reduction.argmax,
    elementwise.maximum,
    _EXTREME_DOC.format("largest", "max", "[5., 3.]", "maximum", "[1, 0]"),
)
min = _extreme(
    "min",
    reduction.min,
    reduction.argmin,
    elementwise.minimum,
    _EXTREME_DOC.format("smallest", "min", "[1., 2.]", "minimum", "[0, 1]"),
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
    axis = None if axis is None else axis_index(axis, x.ndim, "unique")
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


_WHOLE = (int, type(None), type(...))


def _plain_part(part: Any) -> Any:
    kind = type(part)
    if kind in _WHOLE or (
        kind is slice
        and type(part.start) in _WHOLE
        and type(part.stop) in _WHOLE
        and part.step is None
    ):
        return part
    tracer = tracing()
    if isinstance(part, Node):
        if tracer is not None:
            tracer.read(part)
        part = part._data
    elif isinstance(part, list):
        part = np.asarray(part, dtype=None if part else np.int64)
    elif isinstance(part, slice):
        ends = (part.start, part.stop, part.step)
        return slice(*(e.item() if hasattr(e, "item") else e for e in ends))
    if not isinstance(part, ndarray):
        return part
    refuse_masked(part, "index")
    if part.dtype.kind not in "iub":
        raise IndexError(
            f"index: expected integers or booleans, got {part.dtype}. Use .astype(int)"
        )
    return part.copy() if tracer is None else part
