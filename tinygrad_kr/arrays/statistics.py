"""Statistics of samples: moments, quantiles, covariances and histograms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from tinygrad_kr.arrays import reduction
from tinygrad_kr.arrays.elementwise import clip, lerp
from tinygrad_kr.arrays.indexing import array_of, peek
from tinygrad_kr.arrays.operands import array_function, cast, either_name, floating, operands
from tinygrad_kr.arrays.shape import moveaxis
from tinygrad_kr.ops import indexing as ops_indexing
from tinygrad_kr.ops.axes import axis_indices
from tinygrad_kr.ops.elementwise import isfinite, isnan, logical_not, sqrt, where
from tinygrad_kr.ops.indexing import diagonal
from tinygrad_kr.ops.linalg import matmul
from tinygrad_kr.ops.node import Node, constant
from tinygrad_kr.ops.op import astype, op
from tinygrad_kr.ops.reduction import Axis, count

__all__ = [
    "corrcoef", "cov", "histc", "histogram", "nanmean", "nansum", "quantile", "std_mean",
    "var_mean",
]  # fmt: skip


class Histogram(NamedTuple):
    """The counts of a histogram, and the edges of its bins."""

    hist: Any
    bin_edges: Any


# ------------------------------------------------------------------ sums and moments


def _check_axes(x: Any, axis: Axis, name: str) -> None:
    """AxisError in the name of the call. A number has the axes 0 and -1; a bool is `unbiased`."""
    if axis is not None and not isinstance(axis, bool):
        axis_indices(axis, x.ndim or 1, name)


@array_function
@either_name
def nansum(
    x: Any,
    axis: Axis = None,
    keepdims: bool = False,
    *,
    dtype: Any = None,
    dim: Axis = None,
    keepdim: bool = False,
) -> Any:
    """The sum of the elements over `axis` that are not NaN; 0 of none.

    axis, dim: an int, a tuple, or None for all axes.
    keepdims, keepdim: keep the reduced axes, with size 1.
    dtype: of the sum, that of `x` by default.
    Gradient: g where `x` is not NaN, else 0.
    Source: torch.nansum, np.nansum.

    >>> tk.nansum(tk.tensor([1.0, np.nan, 3.0]))
    Tensor(4.)
    """
    _check_axes(x, axis, "nansum")
    x = where(isnan(x), 0.0, x) if x.dtype.kind == "f" else x
    return reduction.sum(cast(x, dtype), axis, keepdims)


@array_function
@either_name
def nanmean(
    x: Any,
    axis: Axis = None,
    keepdims: bool = False,
    *,
    dtype: Any = None,
    dim: Axis = None,
    keepdim: bool = False,
) -> Any:
    """The arithmetic mean over `axis` of the elements that are not NaN; NaN of none.

    axis, dim: an int, a tuple, or None for all axes.
    keepdims, keepdim: keep the reduced axes, with size 1. dtype: of the mean, that of `x` by
        default; integers become float32.
    Gradient: g / n where `x` is not NaN, else 0; n elements are not NaN.
    Source: torch.nanmean, np.nanmean.

    >>> tk.nanmean(tk.tensor([1.0, np.nan, 3.0]))
    Tensor(2.)
    """
    _check_axes(x, axis, "nanmean")
    x = floating(x) if dtype is None else cast(x, dtype)
    present = logical_not(isnan(x)).astype(x.dtype)
    n = reduction.sum(present, axis, keepdims)
    return reduction.sum(where(isnan(x), 0.0, x), axis, keepdims) / where(n == 0, math.nan, n)


@either_name
def var_mean(
    x: Any,
    axis: Axis = None,
    unbiased: bool | None = None,
    keepdims: bool = False,
    *,
    correction: float | None = None,
    dim: Axis = None,
    keepdim: bool = False,
) -> tuple[Any, Any]:
    """The variance and the mean over `axis`, as a tuple: see `var` and `mean`.

    axis, dim: an int, a tuple, or None for all axes.
    unbiased, keepdims, keepdim, correction: see `var`.
    Source: torch.var_mean.

    >>> tk.var_mean(tk.tensor([1.0, 2.0, 3.0]))
    (Tensor(1.), Tensor(2.))
    """
    return _with_mean(reduction.var, "var_mean", x, axis, unbiased, keepdims, correction)


@either_name
def std_mean(
    x: Any,
    axis: Axis = None,
    unbiased: bool | None = None,
    keepdims: bool = False,
    *,
    correction: float | None = None,
    dim: Axis = None,
    keepdim: bool = False,
) -> tuple[Any, Any]:
    """The standard deviation and the mean over `axis`, as a tuple: see `std` and `mean`.

    axis, dim: an int, a tuple, or None for all axes.
    unbiased, keepdims, keepdim, correction: see `std`.
    Source: torch.std_mean.

    >>> tk.std_mean(tk.tensor([1.0, 2.0, 3.0]))
    (Tensor(1.), Tensor(2.))
    """
    return _with_mean(reduction.std, "std_mean", x, axis, unbiased, keepdims, correction)


def _with_mean(
    spread: Callable[..., Any],
    name: str,
    x: Any,
    axis: Axis,
    unbiased: bool | None,
    keepdims: bool,
    correction: float | None,
) -> tuple[Any, Any]:
    """`spread` and the mean, in the name of the call."""
    x = operands(x)[0]
    _check_axes(x, axis, name)
    y = spread(x, axis, unbiased=unbiased, keepdims=keepdims, correction=correction)
    return y, reduction.mean(x, None if isinstance(axis, bool) else axis, keepdims)


# ------------------------------------------------------------------ quantiles

_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


@array_function
@either_name
def quantile(
    x: Any,
    q: Any,
    axis: Axis = None,
    keepdims: bool = False,
    *,
    interpolation: str = "linear",
    dim: Axis = None,
    keepdim: bool = False,
) -> Any:
    """The value below which the share `q` of the elements over `axis` lies.

        y = s_i + (r - i) (s_(i+1) - s_i),  r = q (n - 1), i = floor(r), s sorted

    q: a number or an array in [0, 1]. The axes of `q` come first in the result.
    axis, dim: an int, a tuple, or None for all axes.
    keepdims, keepdim: keep the reduced axes, with size 1.
    interpolation: "linear"; "lower" s_i; "higher" s_(i+1); "midpoint" their mean; "nearest".
    NaN among the elements gives NaN. Integers become float32.
    Gradient: to s_i and s_(i+1) with their weights; by `q` (n - 1) (s_(i+1) - s_i), 0 where r is an
        integer.
    Raises ValueError for a `q` outside [0, 1], another interpolation, or no elements.
    Source: torch.quantile, np.quantile.

    >>> tk.quantile(tk.tensor([0.0, 1.0, 2.0, 3.0]), 0.5)
    Tensor(1.5)
    """
    if interpolation not in _INTERPOLATIONS:
        raise ValueError(
            f"quantile: expected interpolation {', '.join(_INTERPOLATIONS)}, got {interpolation!r}."
        )
    x = floating(x)
    everywhere = axis is None or not x.ndim  # a number has the axes 0 and -1, as in PyTorch
    axes = axis_indices(range(x.ndim) if everywhere else axis, x.ndim, "quantile")
    ordered = _sorted_over(x, axes)
    y = _at_share(ordered, q, interpolation)
    y = where(isnan(ordered[..., -1]), ordered[..., -1], y)
    if keepdims:
        kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
        y = y.reshape(y.shape[: y.ndim - ordered.ndim + 1] + kept)
    return y


def _sorted_over(x: Any, axes: tuple[int, ...]) -> Any:
    """The elements over `axes` in order, on one last axis."""
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    n = count(x, axes)
    if not n:
        raise ValueError(f"quantile: expected at least one element, got shape {x.shape}.")
    x = x.transpose(kept + axes).reshape((*(x.shape[a] for a in kept), n))
    return ops_indexing.take_along_axis(x, indices=np.argsort(peek(x), -1, kind="stable"), axis=-1)


def _at_share(ordered: Any, q: Any, interpolation: str) -> Any:
    """The elements at the shares `q`, whose axes come first."""
    if not isinstance(q, Node):
        q = np.asarray(q, np.float64)
    shares = peek(q)
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"quantile: expected q in [0, 1], got {shares!r:.60}.")
    rank = q * (ordered.shape[-1] - 1)
    place = peek(rank)
    below, above = np.floor(place).astype(np.int64), np.ceil(place).astype(np.int64)
    if interpolation == "linear":
        weight = astype(rank - below, dtype=ordered.dtype)
        weight = weight.reshape(weight.shape + (1,) * (ordered.ndim - 1))
        return _between(_at(ordered, below), _at(ordered, above), weight)
    if interpolation == "midpoint":
        return _between(_at(ordered, below), _at(ordered, above), 0.5)
    nearest = np.rint(place).astype(np.int64)
    return _at(ordered, {"lower": below, "higher": above, "nearest": nearest}[interpolation])


def _at(ordered: Any, index: ndarray) -> Any:
    """The elements at `index`, the axes of which come first."""
    return moveaxis(ordered, -1, 0)[index]


def _between(low: Any, high: Any, weight: Any) -> Any:
    """low + weight (high - low); beside an infinity that infinity, NaN between both."""
    finite = isfinite(low) & isfinite(high)
    if peek(finite).all():
        return lerp(low, high, weight)
    y = lerp(where(finite, low, 0.0), where(finite, high, 0.0), weight)
    return where(finite, y, low + high)


# ------------------------------------------------------------------ covariance


@array_function
def cov(x: Any, *, correction: float = 1, fweights: Any = None, aweights: Any = None) -> Any:
    """The covariances of variables in rows, of observations in columns.

        C = sum_k w_k (x_k - m)(x_k - m)^T / N,  m = sum_k w_k x_k / sum(w)

    N = sum(w) - correction sum(w aweights) / sum(w); without `aweights` sum(w) - correction.
    x: (variables, observations), or a vector of observations, whose variance is the result.
    correction: 1 by default. fweights: how often each observation was met. aweights: its
        importance. w = fweights aweights.
    Gradient: through `x` and the weights. NaN where N <= 0.
    Raises ValueError for more than two axes, or weights of another shape.
    Source: torch.cov, np.cov.

    >>> tk.cov(tk.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]))
    Tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    if x.ndim > 2:
        raise ValueError(f"cov: expected at most 2 axes, got shape {x.shape}.")
    x = floating(x)
    x = x.reshape(1, -1) if x.ndim < 2 else x
    n = x.shape[1]
    weights = [_weights(w, x, name) for w, name in ((fweights, "fweights"), (aweights, "aweights"))]
    w = _product(*weights)
    total = n if w is None else w.sum()
    scale = total - correction
    if weights[1] is not None:
        scale = total - correction * (w * weights[1]).sum() / total
    if w is None:
        scale = scale if scale > 0 else math.nan
        centred = x - x.sum(axis=1, keepdims=True) / (n or math.nan)
        y = matmul(centred, centred.mT) / scale
    else:
        centred = x - (x * w).sum(axis=1, keepdims=True) / total
        y = matmul(centred * w, centred.mT) / where(scale > 0, scale, math.nan)
    return y.reshape(()) if y.size == 1 else y


def _weights(weights: Any, x: Any, name: str) -> Any:
    if weights is None:
        return None
    weights = operands(x, weights)[1]
    if weights.shape != x.shape[1:]:
        raise ValueError(f"cov: expected {name} of shape {x.shape[1:]}, got {weights.shape}.")
    return astype(weights, dtype=x.dtype)


def _product(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a * b


@array_function
def corrcoef(x: Any) -> Any:
    """The correlation coefficients of variables in rows: C_ij / sqrt(C_ii C_jj), C = cov(x).

    x: (variables, observations), or a vector of observations, whose correlation is 1.
    Gradient: through `cov`; NaN where a variable is constant.
    Raises ValueError for more than two axes.
    Source: torch.corrcoef, np.corrcoef.

    >>> tk.corrcoef(tk.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]))
    Tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    c = cov(x)
    if not c.ndim:
        return c / c
    deviation = sqrt(diagonal(c))
    return clip(c / deviation.reshape(-1, 1) / deviation, -1, 1)


# ------------------------------------------------------------------ histograms


def _counts_between(x: ndarray, *, bins: int, low: float, high: float) -> ndarray:
    """How many elements lie in each of `bins` equal parts of [low, high]."""
    if low == high and x.size:
        low, high = float(x.min()), float(x.max())
    if low == high:
        low, high = low - 1, high + 1
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"expected finite elements, or a min and a max, got {low} ... {high}.")
    inside = x[(x >= low) & (x <= high)].astype(np.float64)
    place = np.minimum(((inside - low) * bins / (high - low)).astype(np.int64), bins - 1)
    return np.bincount(place, minlength=bins).astype(x.dtype)


def _edges_of(x: ndarray, *, bins: int, range: Any) -> ndarray:
    """The edges of `bins` equal bins between the extremes, or over `range`."""
    return np.histogram_bin_edges(x, bins, range).astype(x.dtype)


def _counts_of(x: ndarray, edges: ndarray, weight: Any = None, *, density: bool) -> ndarray:
    """How many elements lie in each bin, or their total weight."""
    found, _ = np.histogram(x, edges, weights=weight, density=density)
    return found.astype(x.dtype)


_histc = op(_counts_between, name="histc", variable="_histc")
_histogram_edges = op(_edges_of, name="histogram", variable="_histogram_edges")
_histogram = op(_counts_of, name="histogram", variable="_histogram")


@array_function
def histc(x: Any, bins: int = 100, min: float = 0, max: float = 0) -> Any:
    """The number of elements in each of `bins` equal parts of [min, max], in the dtype of `x`.

    min, max: by default, and where both are equal, the extremes of `x`. Elements outside and NaN
        are not counted; the last bin includes `max`. Integers become float32.
    No gradient: the result is a constant.
    Raises ValueError if `bins` is below 1, `min` above `max`, or a bound not finite.
    Source: torch.histc.

    >>> tk.histc(tk.tensor([1.0, 2.0, 1.0]), bins=4, min=0, max=3)
    Tensor([0., 2., 1., 0.])
    """
    if bins < 1 or min > max:
        raise ValueError(f"histc: expected bins >= 1 and min <= max, got {bins}, {min}, {max}.")
    return _histc(floating(x), bins=int(bins), low=float(min), high=float(max))


@array_function
def histogram(
    x: Any, bins: Any, *, range: Any = None, weight: Any = None, density: bool = False
) -> Histogram:
    """The number of elements in each bin, and the edges of the bins, as (hist, bin_edges).

    bins: their number, or a vector of their edges in order. The last bin includes its right edge.
    range: (first edge, last edge) for a number of bins, the extremes of `x` by default.
    weight: of each element, of the shape of `x`; `hist` is then the total weight. density: divide
        by the total and by the width, so that the integral is 1.
    Both are in the dtype of `x`, integers become float32. No gradient: the results are constants.
    Raises ValueError for bins below 1 or out of order, or a range that is not finite.
    Source: torch.histogram.

    >>> tk.histogram(tk.tensor([1.0, 2.0, 1.0]), bins=3, range=(0, 3)).hist
    Tensor([0., 2., 1.])
    """
    x = floating(x)
    if np.ndim(array_of(bins)):
        edges = astype(operands(x, bins)[1], dtype=x.dtype)
        edges = constant(edges) if isinstance(x, Node) and not isinstance(edges, Node) else edges
    else:
        edges = _histogram_edges(x, bins=int(bins), range=range)
    weights = () if weight is None else operands(x, weight)[1:]
    return Histogram(_histogram(x, edges, *weights, density=density), edges)
