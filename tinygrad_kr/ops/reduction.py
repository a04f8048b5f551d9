"""Reductions and cumulative operations.

An axis is an int, a tuple of ints, or None for all. `arrays.reduction` adds PyTorch's keywords.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.lib.array_utils import normalize_axis_tuple

from tinygrad_kr.ops.elementwise import (
    absolute,
    isinf,
    isnan,
    logical_not,
    power,
    sign,
    times_subgradient,
    where,
    where_or_zero,
)
from tinygrad_kr.ops.op import FLOAT16, Op, in_float32, op, widened

Axis = Any  # int, tuple of ints, or None


def _restored(g: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
    """A reduced array with its reduced axes back, as 1s."""
    if keepdims or axis is None:
        return g
    axes = (axis,) if isinstance(axis, int) else axis
    kept = list(x.shape)
    for a in axes:
        kept[a] = 1
    return g.reshape(tuple(kept))


def count(x: Any, axis: Axis) -> int:
    """Number of elements in each result of a reduction over `axis`."""
    if axis is None:
        return int(x.size)
    return math.prod(x.shape[a] for a in ((axis,) if isinstance(axis, int) else axis))


# ------------------------------------------------------------------ sums


def _sum(x: ndarray, *, axis: Axis = None, keepdims: Any = False) -> Any:
    """Sum of the elements over `axis`; 0 where there are none.

    Several axes are summed in two stages. NumPy adds one by one along all but the innermost axis,
    which costs float32 two digits on the channels of a batch of images. It adds float16 that way
    too: they are carried in float32.
    """
    if x.dtype is FLOAT16:
        total = _sum(x.astype(np.float32), axis=axis, keepdims=keepdims)
        return total.astype(FLOAT16)
    if type(axis) is tuple and len(axis) > 1 and x.size > 4096:
        axis = normalize_axis_tuple(axis, x.ndim)
        last = _last_axes(axis, x.ndim) if x.flags.c_contiguous else 0
        if last > 1:
            rows = x.reshape(*x.shape[:-last], math.prod(x.shape[-last:]))
            partial = np.add.reduce(rows, axis=-1).reshape(*x.shape[:-last], *[1] * last)
            others = tuple(a for a in axis if a < x.ndim - last)
            total = np.add.reduce(partial, axis=others, keepdims=True) if others else partial
        else:
            partial = np.add.reduce(x, axis=axis[1:], keepdims=True)
            total = np.add.reduce(partial, axis=axis[0], keepdims=True)
        return total if keepdims else np.squeeze(total, axis)
    return np.add.reduce(x, axis=axis, keepdims=keepdims)


def _last_axes(axis: tuple[int, ...], axes: int) -> int:
    """How many of the last axes a reduction is over."""
    last = 0
    while last < axes and axes - last - 1 in axis:
        last += 1
    return last


def _mean(x: ndarray, *, axis: Axis = None, keepdims: Any = False) -> Any:
    """Arithmetic mean of the elements over `axis`; NaN where there are none."""
    x = widened(x)
    total = _sum(x, axis=axis, keepdims=keepdims)  # which refuses an axis that is not there
    n = count(x, axis)
    return total / n if n else total + np.float32("nan")


def _var(x: ndarray, *, axis: Axis = None, keepdims: Any = False, ddof: float = 0) -> Any:
    """Variance over `axis`: sum((x - mean)^2) / (n - ddof); NaN where n <= ddof."""
    x = widened(x)
    total = _sum(np.square(_centered(x, axis)), axis=axis, keepdims=keepdims)
    return total * _inverse(count(x, axis) - ddof)


def _std(x: ndarray, *, axis: Axis = None, keepdims: Any = False, ddof: float = 0) -> Any:
    """Standard deviation over `axis`: sqrt(var); its gradient is 0 where it is 0."""
    centered = _centered(widened(x), axis)
    return _root_sum_square(centered, axis, keepdims, _inverse(count(x, axis) - ddof))


def _centered(x: Any, axis: Axis) -> Any:
    return x - mean_(x, axis=axis, keepdims=True)


def _inverse(n: float) -> float:
    return 1 / n if n > 0 else math.nan


def _std_vjp(g: Any, y: Any, x: Any, axis: Axis, keepdims: bool, ddof: float) -> Any:
    y = _restored(y, x, axis, keepdims)
    scale = _restored(g, x, axis, keepdims) * _inverse(count(x, axis) - ddof)
    if count(x, axis) == 1:  # of one element it is 0 everywhere
        return scale * _centered(x, axis)
    centered, flat = _centered(x, axis), y == 0
    return times_subgradient(scale, centered / where(flat, 1.0, y), flat, centered)


# fmt: off
sum_ = op(_sum, lambda g, y, x, axis=None, keepdims=False: _restored(g, x, axis, keepdims),
          variable="sum_")
mean_ = op(_mean, lambda g, y, x, axis=None, keepdims=False:
           _restored(g, x, axis, keepdims) / count(x, axis), variable="mean_")
var_ = op(_var, lambda g, y, x, axis=None, keepdims=False, ddof=0:
          _restored(g, x, axis, keepdims) * (2 * _inverse(count(x, axis) - ddof))
          * _centered(x, axis), variable="var_")
std_ = op(_std, lambda g, y, x, axis=None, keepdims=False, ddof=0:
          _std_vjp(g, y, x, axis, keepdims, ddof), variable="std_")
# fmt: on

# ------------------------------------------------------------------ extremes


def _max(x: ndarray, *, axis: Axis = None, keepdims: Any = False) -> Any:
    """Largest element over `axis`; ties share the gradient evenly. NaN wins."""
    return np.maximum.reduce(x, axis=axis, keepdims=keepdims)


def _min(x: ndarray, *, axis: Axis = None, keepdims: Any = False) -> Any:
    """Smallest element over `axis`; ties share the gradient evenly. NaN wins."""
    return np.minimum.reduce(x, axis=axis, keepdims=keepdims)


def _median(x: ndarray) -> Any:
    """The element in the middle, the lower of two; ties share the gradient evenly. NaN wins."""
    if not x.size:
        return np.full((), np.nan, x.dtype if x.dtype.kind == "f" else np.float32)
    flat, middle = x.reshape(-1), (x.size - 1) // 2
    ordered = np.partition(flat, (middle, x.size - 1))  # NaN comes last
    return ordered[-1] if np.isnan(ordered[-1]) else ordered[middle]


def _extreme(g: Any, y: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
    winners = (x == _restored(y, x, axis, keepdims)) | isnan(x)
    ties = winners.sum(axis=axis, keepdims=True).astype(x.dtype)
    return where_or_zero(_restored(g, x, axis, keepdims) / ties, winners)


# fmt: off
max_ = op(_max, lambda g, y, x, axis=None, keepdims=False: _extreme(g, y, x, axis, keepdims),
          variable="max_")
min_ = op(_min, lambda g, y, x, axis=None, keepdims=False: _extreme(g, y, x, axis, keepdims),
          variable="min_")
median_ = op(_median, lambda g, y, x: _extreme(g, y, x, None, False), variable="median_")
# fmt: on


def _argmax(x: ndarray, *, axis: int | None = None, keepdims: bool = False) -> Any:
    """Index of the first largest element along `axis` (of the flattened array for None)."""
    return np.argmax(x, axis=axis, keepdims=keepdims)


def _argmin(x: ndarray, *, axis: int | None = None, keepdims: bool = False) -> Any:
    """Index of the first smallest element along `axis` (of the flattened array for None)."""
    return np.argmin(x, axis=axis, keepdims=keepdims)


def _any(x: ndarray, *, axis: Axis = None, keepdims: Any = False) -> Any:
    """Whether any element over `axis` is nonzero."""
    return np.logical_or.reduce(x, axis=axis, keepdims=keepdims)


def _all(x: ndarray, *, axis: Axis = None, keepdims: Any = False) -> Any:
    """Whether every element over `axis` is nonzero."""
    return np.logical_and.reduce(x, axis=axis, keepdims=keepdims)


def _count_nonzero(x: ndarray, *, axis: Axis = None, keepdims: Any = False) -> Any:
    """How many elements over `axis` are not zero."""
    return np.count_nonzero(x, axis=axis, keepdims=keepdims)


argmax_ = op(_argmax, variable="argmax_")
argmin_ = op(_argmin, variable="argmin_")
any_ = op(_any, variable="any_")
all_ = op(_all, variable="all_")
count_nonzero_ = op(_count_nonzero, variable="count_nonzero_")

# ------------------------------------------------------------------ logsumexp and norm


@in_float32
def _logsumexp(x: ndarray, *, axis: Axis = None, keepdims: Any = False) -> Any:
    """log(sum(exp(x))) over `axis` without overflow; -inf where every element is -inf."""
    x = x if x.dtype.kind == "f" else x.astype(np.float64)
    top = np.maximum.reduce(x, axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, np.zeros((), x.dtype))
    with np.errstate(divide="ignore"):
        y = np.log(np.add.reduce(np.exp(x - top), axis=axis, keepdims=True)) + top
    return y if keepdims else np.squeeze(y, axis)


def _norm(x: ndarray, *, axis: Axis = None, keepdims: Any = False, least: float = 0.0) -> Any:
    """Euclidean norm over `axis`, at least `least`; where it is `least`, the gradient is 0."""
    y = _root_sum_square(x, axis, keepdims)
    return np.maximum(y, least) if least else y


def _norm_vjp(g: Any, y: Any, x: Any, axis: Axis, keepdims: bool, least: float) -> Any:
    g, y = _restored(g, x, axis, keepdims), _restored(y, x, axis, keepdims)
    flat = y <= least
    if least:
        return g * where(flat, 0.0, x / y)
    return times_subgradient(g, x / where(flat, 1.0, y), flat, x, axis=axis)


def _root_sum_square(x: Any, axis: Axis, keepdims: Any, factor: float = 1.0) -> Any:
    """sqrt(factor sum(x^2)) without over- and underflow.

    The plain sum of squares is right if it is finite and far above the smallest normal number.
    Otherwise the sum is taken in units of the largest element.
    """
    x = widened(x) if x.dtype.kind == "f" else x.astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        total = _sum(np.square(x), axis=axis, keepdims=keepdims)
        if _MIN_TOTAL[total.dtype] <= total.min(initial=1.0) and total.max(initial=1.0) < math.inf:
            return np.sqrt(total * factor)
        unit = _unit(np.abs(x), axis)
        scaled = np.sqrt(_sum(np.square(x / unit), axis=axis, keepdims=keepdims) * factor)
        return scaled * unit.reshape(scaled.shape)


_MIN_TOTAL = {np.dtype(t): np.finfo(t).tiny / np.finfo(t).eps for t in (np.float32, np.float64)}
"""Least sum of squares to which squares that underflow add nothing that counts; by dtype."""


def _unit(sizes: ndarray, axis: Axis, least: bool = False) -> ndarray:
    """The largest (least) size over `axis`, whose axes are kept; 1 in place of 0, inf and NaN."""
    if least:
        unit = np.minimum.reduce(sizes, axis=axis, keepdims=True, initial=np.inf)
    else:
        unit = np.maximum.reduce(sizes, axis=axis, keepdims=True, initial=0)
    usable = (unit > 0) & (unit < np.inf)
    return np.where(usable, unit, np.ones((), sizes.dtype))


def _p_norm(
    x: ndarray, *, p: float, axis: Axis = None, keepdims: Any = False, least: float = 0.0
) -> Any:
    """(sum |x|^p)^(1/p) over `axis`, at least `least`, for a finite p that is not 0."""
    sizes = np.abs(widened(x) if x.dtype.kind == "f" else x.astype(np.float64))
    unit = _unit(sizes, axis, least=p < 0)
    with np.errstate(all="ignore"):
        total = _sum((sizes / unit) ** p, axis=axis, keepdims=keepdims)
        y = total ** (1 / p) * unit.reshape(total.shape)
    return np.maximum(y, least) if least else y


def _p_norm_vjp(g: Any, y: Any, x: Any, p: float, axis: Axis, keepdims: bool, least: float) -> Any:
    """g sign(x) (|x| / y)^(p - 1); 0 where y is `least`, and for p < 2 where x is 0.

    Both sizes are taken in units of the largest, so that neither power overflows.
    """
    unit = _p_norm_unit(x, p=p, axis=axis)
    g, y = _restored(g, x, axis, keepdims), _restored(y, x, axis, keepdims)
    zero, flat = (x == 0) & (p < 2), y <= least
    sizes = power(where(zero, 1.0, absolute(x) / unit), p - 1)
    slope = sign(x) * sizes * power(unit / where(flat, 1.0, y), p - 1)
    slope = where(zero | flat, 0.0, slope)
    if least:
        return times_subgradient(g, slope, zero & ~flat, x)
    origin = flat & (x == 0)
    return times_subgradient(g, slope, zero | origin, x, axis=axis, joint=origin)


def _unit_of(x: ndarray, *, p: float, axis: Axis = None) -> ndarray:
    return _unit(np.abs(x), axis, least=p < 0)


_p_norm_unit = op(_unit_of, variable="_p_norm_unit")


@in_float32
@np.errstate(invalid="ignore")
def _shares(x: ndarray, *, axis: Axis, y: ndarray | None = None) -> Any:
    """exp(x - logsumexp(x)) over `axis`: equal for all +inf, 0 where all are -inf.

    y: the logsumexp with its reduced axes as 1s, computed if not given.
    """
    y = _logsumexp(x, axis=axis, keepdims=True) if y is None else widened(y)
    e = np.exp(x - np.where(y == -np.inf, 0, y))
    if (infinite := y == np.inf).any():
        largest = x == np.inf
        ties = np.add.reduce(largest, axis=axis, keepdims=True)
        e = np.where(infinite, largest / np.maximum(ties, 1), e)
    return e.astype(x.dtype, copy=False)


def _shares_of_result(x: Any, y: Any, axis: Axis, keepdims: bool) -> Any:
    if type(x) is ndarray:
        return _shares(x, axis=axis, y=_restored(y, x, axis, keepdims))
    return shares(x, axis=axis)


def _shares_vjp(g: Any, p: Any, x: Any, axis: Axis) -> Any:
    """p (g - sum(g p)), as of a softmax; 0 at a tie of infinities, as at a tie of max."""
    slope = p * (g - sum_(g * p, axis=axis, keepdims=True))
    return where_or_zero(slope, logical_not(isinf(x)))


# fmt: off
shares: Op = op(_shares, lambda g, y, x, axis: _shares_vjp(g, y, x, axis))
logsumexp_ = op(_logsumexp, lambda g, y, x, axis=None, keepdims=False:
                _restored(g, x, axis, keepdims) * _shares_of_result(x, y, axis, keepdims),
                variable="logsumexp_")
norm_ = op(_norm, lambda g, y, x, axis=None, keepdims=False, least=0.0:
           _norm_vjp(g, y, x, axis, keepdims, least), variable="norm_")
p_norm_ = op(_p_norm, lambda g, y, x, p, axis=None, keepdims=False, least=0.0:
             _p_norm_vjp(g, y, x, p, axis, keepdims, least), variable="p_norm_")
# fmt: on

# ------------------------------------------------------------------ along one axis


@in_float32
def _cumsum(x: ndarray, *, axis: int, reverse: bool = False) -> Any:
    """Running sum along `axis`, from the end if `reverse`."""
    return np.flip(np.cumsum(np.flip(x, axis), axis), axis) if reverse else np.cumsum(x, axis)


@in_float32
def _recurrence(b: ndarray, a: ndarray, *, axis: int, reverse: bool = False) -> ndarray:
    """r_i = b_i + a_i r_(i-1) along `axis`; r_i = b_i + a_i r_(i+1) if `reverse`."""
    order = -1 if reverse else 1
    b, a = np.moveaxis(b, axis, 0)[::order], np.moveaxis(a, axis, 0)[::order]
    r = np.empty(b.shape, np.result_type(a, b))
    last: Any = 0.0
    for i in range(len(b)):
        last = r[i] = b[i] + a[i] * last
    return np.moveaxis(r[::order], 0, axis)


def _shifted(x: Any, axis: int, step: int, fill: float) -> Any:
    """`x` moved by one position along `axis`, with `fill` at the free end. step: 1 or -1."""
    size = x.shape[axis]
    if not size:
        return x
    before: list[Any] = [slice(None)] * x.ndim
    before[axis] = slice(None, size - 1) if step == 1 else slice(1, None)
    edge: list[Any] = list(x.shape)
    edge[axis] = 1
    border = np.full(edge, fill, x.dtype)
    kept = x[tuple(before)]
    return (
        concatenate(border, kept, axis=axis) if step == 1 else concatenate(kept, border, axis=axis)
    )


def _concatenate(*parts: ndarray, axis: int | None = 0) -> ndarray:
    """The parts one after the other along `axis` (flattened first for None)."""
    return np.concatenate(parts, axis)


def _parts(g: Any, parts: tuple[Any, ...], needs: tuple[bool, ...], axis: int | None) -> Any:
    """The slices of `g` at the positions of the parts."""
    sizes = [part.size if axis is None else part.shape[axis] for part in parts]
    before = (slice(None),) * (0 if axis is None else axis % g.ndim)
    pieces = zip(accumulate(sizes, initial=0), sizes, parts, needs, strict=False)
    return [
        g[(*before, slice(start, start + n))].reshape(part.shape) if need else None
        for start, n, part, need in pieces
    ]


@in_float32
def _cumprod(x: ndarray, *, axis: int, reverse: bool = False) -> Any:
    """Running product along `axis`, from the end if `reverse`."""
    return np.flip(np.cumprod(np.flip(x, axis), axis), axis) if reverse else np.cumprod(x, axis)


def _cumprod_vjp(g: Any, x: Any, axis: int, reverse: bool) -> Any:
    """sum_(k >= i) g_k prod_(j <= k, j != i) x_j, without dividing: exact where x has zeros."""
    step = -1 if reverse else 1
    before = _shifted(cumprod_(x, axis=axis, reverse=reverse), axis, step, 1.0)
    after = recurrence(g, _shifted(x, axis, -step, 0.0), axis=axis, reverse=not reverse)
    return before * after


@in_float32
def _prod(x: ndarray, *, axis: Axis = None, keepdims: Any = False) -> Any:
    """Product of the elements over `axis`; 1 where there are none."""
    return np.multiply.reduce(x, axis=axis, keepdims=keepdims)


def _others_product(x: Any, axis: Axis) -> Any:
    """For each element the product of all others over `axis`, without dividing."""
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
    axes = tuple(a % x.ndim for a in axes)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    order = kept + axes
    moved = x.transpose(order)
    flat = moved.reshape((*(x.shape[a] for a in kept), count(x, axes)))
    last = flat.ndim - 1
    before = _shifted(cumprod_(flat, axis=last), last, 1, 1.0)
    after = _shifted(cumprod_(flat, axis=last, reverse=True), last, -1, 1.0)
    back = tuple(int(i) for i in np.argsort(order))
    return (before * after).reshape(moved.shape).transpose(back)


# fmt: off
concatenate = op(_concatenate, lambda g, y, *parts, needs, axis=0: _parts(g, parts, needs, axis),
                 one_rule_for_all=True)
cumsum_: Op = op(_cumsum,  lambda g, y, x, axis, reverse=False:
              cumsum_(g, axis=axis, reverse=not reverse), variable="cumsum_")
recurrence: Op = op(_recurrence,
                lambda g, y, b, a, axis, reverse=False:
                recurrence(g, _shifted(a, axis, 1 if reverse else -1, 0.0), axis=axis,
                           reverse=not reverse),
                lambda g, y, b, a, axis, reverse=False:
                recurrence(g, _shifted(a, axis, 1 if reverse else -1, 0.0), axis=axis,
                           reverse=not reverse) * _shifted(y, axis, -1 if reverse else 1, 0.0))
cumprod_: Op = op(_cumprod, lambda g, y, x, axis, reverse=False:
                  _cumprod_vjp(g, x, axis, reverse), variable="cumprod_")
prod_ = op(_prod, lambda g, y, x, axis=None, keepdims=False:
           _restored(g, x, axis, keepdims) * _others_product(x, axis), variable="prod_")
# fmt: on
