"""NumPy's functions on Tensors: `np.sum(t, axis=0)`, `np.linalg.norm(t)`, `np.add.reduce(t)`.

There is one record for each of NumPy's functions, with NumPy's signature and meaning: `np.var(t)`
divides by n, `t.var()` by n - 1. Of integers and booleans it has NumPy's dtype: `np.sin(t)` is
float64, `t.sin()` float32. An unsupported argument raises TypeError. Functions without a derivative
return detached Tensors or plain numbers.

`np.array`, `np.asarray` and `np.full` cannot be overridden. They call `Tensor.__array__`, which
raises where a gradient would be lost. `np.stack` and `np.block` make one Tensor of several.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr import arrays, linalg
from tinygrad_kr.arrays import reduction
from tinygrad_kr.arrays.indexing import array_of, detach, peek
from tinygrad_kr.arrays.operands import cast as _cast
from tinygrad_kr.arrays.operands import floating, operands
from tinygrad_kr.ops import elementwise, shape
from tinygrad_kr.ops import linalg as matrices
from tinygrad_kr.ops.linalg import matmul
from tinygrad_kr.ops.node import Node, constant
from tinygrad_kr.ops.op import Op, numpy_table, op


class _Only:
    """The default of an argument of which only this value is supported."""

    def __init__(self, value: Any) -> None:
        self.value = value


ONLY_NONE, ONLY_TRUE, ONLY_FALSE = _Only(None), _Only(True), _Only(False)


_OWN = {id(value) for module in (elementwise, matrices) for value in vars(module).values()}


def _register(function: Any, served: Callable[..., Any]) -> None:
    """Put `served` into the table, unless it has a user's op of `function`."""
    known = numpy_table.get(function)
    if known is None or id(known) in _OWN:
        numpy_table[function] = served


def _serve(function: Any, served: Callable[..., Any]) -> None:
    """Register `served`, which has NumPy's signature, for `function` on Tensors."""
    if function is None:  # newer than this NumPy
        return
    name = _name_of(function)
    code = served.__code__
    positional = code.co_varnames[: code.co_argcount]
    defaults = served.__defaults__ or ()
    refused = {
        parameter: default
        for parameter, default in [
            *zip(positional[code.co_argcount - len(defaults) :], defaults, strict=True),
            *(served.__kwdefaults__ or {}).items(),
        ]
        if isinstance(default, _Only)
    }

    free = min(map(positional.index, refused.keys() & set(positional)), default=len(positional))

    def checked(*args: Any, **kwargs: Any) -> Any:
        if not kwargs and len(args) <= free:
            return served(*args)
        given = dict(zip(positional, args, strict=False)) | kwargs
        for parameter, only in refused.items():
            if parameter in given and given[parameter] is not only.value:
                raise TypeError(
                    f"{name}({parameter}=...) is not supported on Tensors. Use .detach().numpy() "
                    "where no gradient is needed"
                )
        return served(*args, **kwargs)

    served.__name__ = served.__qualname__ = name
    checked.__name__ = checked.__qualname__ = name
    checked.__wrapped__ = served  # type: ignore[attr-defined]
    _register(function, checked if refused else served)


def _name_of(function: Any) -> str:
    module = getattr(function, "__module__", None) or "numpy"
    return f"{module.replace('numpy', 'np', 1)}.{function.__name__}"


# ------------------------------------------------------------------ without a derivative


def _arrays_in(value: Any, read: Callable[[Any], Any]) -> Any:
    """`value` with every Tensor in it, also in lists, as the array that `read` gives."""
    if isinstance(value, list | tuple):
        return [_arrays_in(item, read) for item in value]
    return read(value)


def _tensors_in(value: Any) -> Any:
    if isinstance(value, list | tuple) and any(isinstance(item, ndarray) for item in value):
        return type(value)(_tensors_in(item) for item in value)
    return constant(value) if isinstance(value, ndarray) else value


def _serve_detached(function: Any, read: Callable[[Any], Any] = peek) -> None:
    """Register NumPy's own function of the arrays; array results become detached Tensors.

    read: gives an argument's array; `array_of` for a function of shapes and dtypes alone.
    """

    def served(*args: Any, **kwargs: Any) -> Any:
        kwargs = {name: read(value) for name, value in kwargs.items()}
        return _tensors_in(function(*(_arrays_in(arg, read) for arg in args), **kwargs))

    served.__name__ = served.__qualname__ = _name_of(function)
    _register(function, served)


_functions: Any = (
    *(np.min_scalar_type, np.iscomplex, np.isreal, np.isneginf, np.isposinf),
    *(np.allclose, np.array_equal, np.array_equiv, np.shares_memory, np.may_share_memory),
    *(np.nonzero, np.flatnonzero, np.argwhere, np.count_nonzero, np.argpartition),
    *(np.digitize, np.bincount, np.histogram, np.histogram_bin_edges, np.unique),
    *(np.isin, np.lexsort, np.unravel_index, np.ravel_multi_index, np.nanargmax, np.nanargmin),
    *(np.union1d, np.intersect1d, np.setdiff1d, np.setxor1d),
    *(np.einsum_path, np.imag, np.angle, np.array_repr, np.array_str, np.array2string),
)
for _function in _functions:
    _serve_detached(_function)
_functions = (
    *(np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.common_type),
    *(np.iscomplexobj, np.isrealobj, np.zeros_like, np.ones_like, np.empty_like),
)
for _function in _functions:
    _serve_detached(_function, array_of)

# fmt: off
_serve(np.round,  lambda a, decimals=0, out=ONLY_NONE: elementwise.round(a, decimals=decimals))
_serve(np.around, lambda a, decimals=0, out=ONLY_NONE: elementwise.round(a, decimals=decimals))
_serve(np.fix,    lambda x, out=ONLY_NONE: elementwise.trunc(x))
_serve(np.all,    lambda a, axis=None, out=ONLY_NONE, keepdims=False, *, where=True:
       reduction.all(_where(a, where, True), axis, keepdims))
_serve(np.any,    lambda a, axis=None, out=ONLY_NONE, keepdims=False, *, where=True:
       reduction.any(_where(a, where, False), axis, keepdims))
_serve(np.isclose, lambda a, b, rtol=1e-05, atol=1e-08, equal_nan=False:
       arrays.isclose(a, b, rtol, atol, equal_nan))
_serve(np.searchsorted, lambda a, v, side="left", sorter=None:
       arrays.searchsorted(a, v, side=side, sorter=sorter))
_serve(np.argmax, lambda a, axis=None, out=ONLY_NONE, *, keepdims=False:
       reduction.argmax(a, axis, keepdims))
_serve(np.argmin, lambda a, axis=None, out=ONLY_NONE, *, keepdims=False:
       reduction.argmin(a, axis, keepdims))
_serve(np.argsort, lambda a, axis=-1, kind=None, order=ONLY_NONE, *, stable=None:
       arrays.argsort(*_flat_without(a, axis)))

# ------------------------------------------------------------------ elementwise

_serve(np.sinc,         lambda x: elementwise.sinc(x))
_serve(np.real,         lambda val: val)
_serve(np.real_if_close, lambda a, tol=100: a)
_serve(np.copy,         lambda a, order="K", subok=False: a.clone())
_serve(np.nan_to_num,   lambda x, copy=True, nan=0.0, posinf=None, neginf=None:
       arrays.nan_to_num(x, nan, posinf, neginf))
_serve(np.clip,         lambda a, a_min=None, a_max=None, out=ONLY_NONE, *, min=None, max=None:
       arrays.clip(a, a_min if min is None else min, a_max if max is None else max))
_serve(np.where,        lambda condition, x=None, y=None:
       elementwise.where(detach(condition), *operands(x, y)) if x is not None
       else arrays.nonzero(condition, as_tuple=True))
_serve(np.select,       lambda condlist, choicelist, default=0:
       _select(condlist, choicelist, default))
_serve(np.full_like,    lambda a, fill_value, dtype=None, order="K", subok=True, shape=None, *,
       device=None: _full_like(a, fill_value, dtype, shape))
_serve(getattr(np, "astype", None), lambda x, dtype, *, copy=True, device=None: _cast(x, dtype))
_register(np.conjugate, elementwise.positive)
# fmt: on


def _flat_without(x: Any, axis: int | None) -> tuple[Any, int]:
    """The flattened array where no axis is given."""
    return (arrays.ravel(x), 0) if axis is None else (operands(x)[0], axis)


def _select(conditions: Any, choices: Any, default: Any) -> Any:
    if len(conditions) != len(choices):
        raise ValueError(f"np.select: {len(conditions)} conditions for {len(choices)} choices")
    *chosen, y = operands(*choices, default)
    for condition, choice in zip(reversed(conditions), reversed(chosen), strict=True):
        y = elementwise.where(detach(condition), choice, y)
    return y


def _full_like(a: Any, fill_value: Any, dtype: Any, size: Any) -> Any:
    fill = operands(fill_value)[0]
    fill = _cast(fill, a.dtype if dtype is None else dtype)
    target = a.shape if size is None else tuple(np.atleast_1d(size).tolist())
    filled = shape.broadcast_to(fill, shape=target)
    return filled if isinstance(filled, Node) else constant(np.array(filled))


# ------------------------------------------------------------------ reductions

# fmt: off
_serve(np.sum,  lambda a, axis=None, dtype=None, out=ONLY_NONE, keepdims=False, initial=None,
       where=True: _with_initial(np.add,
       reduction.sum(_where(_cast(a, dtype), where, 0), axis, keepdims), initial))
_serve(np.prod, lambda a, axis=None, dtype=None, out=ONLY_NONE, keepdims=False, initial=None,
       where=True: _with_initial(np.multiply,
       reduction.prod(_where(_cast(a, dtype), where, 1), axis, keepdims), initial))
_serve(np.mean, lambda a, axis=None, dtype=None, out=ONLY_NONE, keepdims=False, *, where=True:
       _mean(_cast(a, dtype), axis, keepdims, where))
_serve(np.nansum,  lambda a, axis=None, dtype=None, out=ONLY_NONE, keepdims=False,
       initial=None, where=True: _with_initial(np.add,
       arrays.nansum(_where(_cast(a, dtype), where, 0), axis, keepdims), initial))
_serve(np.nanmean, lambda a, axis=None, dtype=None, out=ONLY_NONE, keepdims=False, *,
       where=True: _mean(_cast(a, dtype), axis, keepdims, _present(a, where)))
_serve(np.var,  lambda a, axis=None, dtype=None, out=ONLY_NONE, ddof=0, keepdims=False, *,
       where=True, mean=None, correction=None: _spread(reduction.var, _cast(a, dtype), axis,
       _ddof(ddof, correction), keepdims, where, mean))
_serve(np.std,  lambda a, axis=None, dtype=None, out=ONLY_NONE, ddof=0, keepdims=False, *,
       where=True, mean=None, correction=None: _spread(reduction.std, _cast(a, dtype), axis,
       _ddof(ddof, correction), keepdims, where, mean))
_serve(np.nanvar, lambda a, axis=None, dtype=None, out=ONLY_NONE, ddof=0, keepdims=False, *,
       where=True, mean=None, correction=None: _spread(reduction.var, _cast(a, dtype), axis,
       _ddof(ddof, correction), keepdims, _present(a, where), mean))
_serve(np.nanstd, lambda a, axis=None, dtype=None, out=ONLY_NONE, ddof=0, keepdims=False, *,
       where=True, mean=None, correction=None: _spread(reduction.std, _cast(a, dtype), axis,
       _ddof(ddof, correction), keepdims, _present(a, where), mean))
_serve(np.nanprod, lambda a, axis=None, dtype=None, out=ONLY_NONE, keepdims=False, initial=None,
       where=True: _with_initial(np.multiply, reduction.prod(
       _where(_cast(a, dtype), _present(a, where), 1), axis, keepdims), initial))
_serve(np.nanmax, lambda a, axis=None, out=ONLY_NONE, keepdims=False, initial=None, where=True:
       _present_extreme(np.fmax, reduction.amax, a, axis, keepdims, initial, where))
_serve(np.nanmin, lambda a, axis=None, out=ONLY_NONE, keepdims=False, initial=None, where=True:
       _present_extreme(np.fmin, reduction.amin, a, axis, keepdims, initial, where))
_serve(np.nancumsum,  lambda a, axis=None, dtype=None, out=ONLY_NONE: reduction.cumsum(
       _where(_cast(a, dtype), _present(a, True), 0), axis if a.ndim else None))
_serve(np.nancumprod, lambda a, axis=None, dtype=None, out=ONLY_NONE: reduction.cumprod(
       _where(_cast(a, dtype), _present(a, True), 1), axis if a.ndim else None))
for _max, _min in ((np.max, np.min), (np.amax, np.amin)):
    _serve(_max, lambda a, axis=None, out=ONLY_NONE, keepdims=False, initial=None, where=True:
           _extreme(np.maximum, reduction.amax, a, axis, keepdims, initial, where))
    _serve(_min, lambda a, axis=None, out=ONLY_NONE, keepdims=False, initial=None, where=True:
           _extreme(np.minimum, reduction.amin, a, axis, keepdims, initial, where))
_serve(np.ptp,  lambda a, axis=None, out=ONLY_NONE, keepdims=False:
       reduction.max(a, axis, keepdims) - reduction.min(a, axis, keepdims))
_serve(np.average, lambda a, axis=None, weights=None, returned=False, *, keepdims=False:
       _average(a, axis, weights, keepdims, returned))
_serve(np.cumsum,  lambda a, axis=None, dtype=None, out=ONLY_NONE:
       reduction.cumsum(_cast(a, dtype), axis if a.ndim else None))
_serve(np.cumprod, lambda a, axis=None, dtype=None, out=ONLY_NONE:
       reduction.cumprod(_cast(a, dtype), axis if a.ndim else None))
_serve(getattr(np, "cumulative_sum", None), lambda x, *, axis=None, dtype=None, out=ONLY_NONE,
       include_initial=ONLY_FALSE: reduction.cumsum(_cast(x, dtype), _only_axis(x, axis)))
_serve(getattr(np, "cumulative_prod", None), lambda x, *, axis=None, dtype=None, out=ONLY_NONE,
       include_initial=ONLY_FALSE: reduction.cumprod(_cast(x, dtype), _only_axis(x, axis)))
_serve(np.median,  lambda a, axis=None, out=ONLY_NONE, overwrite_input=False, keepdims=False:
       arrays.quantile(a, 0.5, axis, keepdims))
_serve(np.quantile, lambda a, q, axis=None, out=ONLY_NONE, overwrite_input=False,
       method="linear", keepdims=False, *, weights=ONLY_NONE, interpolation=ONLY_NONE:
       _quantile(a, q, axis, method, keepdims))
_serve(np.percentile, lambda a, q, axis=None, out=ONLY_NONE, overwrite_input=False,
       method="linear", keepdims=False, *, weights=ONLY_NONE, interpolation=ONLY_NONE:
       _quantile(a, np.true_divide(q, 100), axis, method, keepdims))
_serve(np.cov, lambda m, y=None, rowvar=True, bias=False, ddof=None, fweights=None,
       aweights=None, *, dtype=None:
       _cov(m, y, rowvar, dtype, correction=_degrees(bias, ddof),
            fweights=fweights, aweights=aweights))
_serve(np.corrcoef, lambda x, y=None, rowvar=True, *, dtype=None:
       arrays.corrcoef(_variables_of(x, y, rowvar, dtype)))
_serve(np.trapezoid, lambda y, x=None, dx=1.0, axis=-1: arrays.trapezoid(y, x, dx, axis))
# fmt: on


def _outer_of(binary: Callable[..., Any]) -> Callable[..., Any]:
    def outer(a: Any, b: Any) -> Any:
        a, b = operands(a, b)
        return binary(a.reshape(a.shape + (1,) * b.ndim), b)

    return outer


def _over_first(reduced: Callable[..., Any]) -> Callable[..., Any]:
    return lambda a, axis=0, keepdims=False: reduced(a, axis, keepdims)


for _ufunc, _reduced in (
    (np.add, reduction.sum),
    (np.multiply, reduction.prod),
    (np.maximum, reduction.max),
    (np.minimum, reduction.min),
    (np.logaddexp, reduction.logsumexp),
    (np.logical_and, reduction.all),
    (np.logical_or, reduction.any),
):
    _register(_ufunc.reduce, _over_first(_reduced))
_register(np.add.accumulate, lambda a, axis=0: reduction.cumsum(a, axis))
_register(np.multiply.accumulate, lambda a, axis=0: reduction.cumprod(a, axis))
_register(np.maximum.accumulate, lambda array, axis=0: arrays.cummax(array, axis=axis))
_register(np.minimum.accumulate, lambda array, axis=0: arrays.cummin(array, axis=axis))
for _binary in (np.add, np.subtract, np.multiply, np.divide, np.power, np.maximum, np.minimum):
    _register(_binary.outer, _outer_of(numpy_table[_binary]))


def _where(a: Any, where: Any, neutral: float) -> Any:
    """`a` with the neutral element of a reduction where the mask `where` does not hold."""
    return a if where is True else elementwise.where(detach(where), a, neutral)


def _with_initial(combine: Callable[..., Any], y: Any, initial: Any) -> Any:
    return y if initial is None else combine(y, initial)


def _count(a: Any, axis: Any, keepdims: bool, where: Any) -> Any:
    """How many elements the mask `where` holds, in the floating dtype of `a`."""
    chosen = shape.broadcast_to(operands(detach(where))[0], shape=a.shape)
    return _cast(reduction.sum(_cast(chosen, bool), axis, keepdims), floating(a).dtype)


def _mean(a: Any, axis: Any, keepdims: bool, where: Any) -> Any:
    if where is True:
        return reduction.mean(a, axis, keepdims)
    n = _count(a, axis, keepdims, where)
    total = reduction.sum(_where(a, where, 0), axis, keepdims)
    return total / elementwise.where(n == 0, np.nan, n)


def _spread(
    of: Callable[..., Any], a: Any, axis: Any, ddof: float, keepdims: bool, where: Any, mean: Any
) -> Any:
    """The variance or the standard deviation of the elements that `where` holds, about `mean`."""
    if where is True and mean is None:
        return of(a, axis, keepdims=keepdims, ddof=ddof)
    a = floating(a)
    middle = _mean(a, axis, True, where) if mean is None else mean
    apart = _where(a - middle, where, 0)
    if of is reduction.var:
        total = reduction.sum(elementwise.square(apart), axis, keepdims)
    else:
        total = reduction.euclidean_norm(apart, axis, keepdims)
    n = _count(a, axis, keepdims, where) - ddof
    n = elementwise.where(n > 0, n, np.nan)
    return total / (n if of is reduction.var else elementwise.sqrt(n))


def _present(a: Any, where: Any) -> Any:
    """The mask of what is not NaN, and chosen."""
    present = elementwise.logical_not(elementwise.isnan(detach(a)))
    return present if where is True else elementwise.logical_and(present, detach(where))


def _present_extreme(
    larger: Any, reduced: Any, a: Any, axis: Any, keepdims: bool, initial: Any, where: Any
) -> Any:
    """The extreme of what is not NaN; NaN of none."""
    if a.dtype.kind != "f":
        kind = np.maximum if larger is np.fmax else np.minimum
        return _extreme(kind, reduced, a, axis, keepdims, initial, where)
    if initial is None and where is not True:
        raise ValueError(f"np.nan{larger.__name__[1:]}: expected initial= with where=, got none.")
    beyond = -np.inf if larger is np.fmax else np.inf
    y = reduced(_where(a, _present(a, where), beyond), axis, keepdims)
    y = elementwise.where(_count(a, axis, keepdims, _present(a, where)) == 0, np.nan, y)
    return y if initial is None else larger(y, initial)


def _extreme(
    larger: Callable[..., Any],
    reduced: Callable[..., Any],
    a: Any,
    axis: Any,
    keepdims: bool,
    initial: Any,
    where: Any,
) -> Any:
    if initial is None:
        if where is not True:
            raise ValueError(f"np.{larger.__name__[:3]}: expected initial= with where=, got none.")
        return reduced(a, axis, keepdims)
    a = _where(a, where, initial)
    y = reduction.sum(a, axis, keepdims) + initial if not a.size else reduced(a, axis, keepdims)
    return larger(y, initial)


def _only_axis(x: Any, axis: int | None) -> int:
    if axis is None and x.ndim != 1:
        raise ValueError(f"np.cumulative_sum: expected axis= for {x.ndim} axes, got none.")
    return axis or 0


_METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


def _quantile(a: Any, q: Any, axis: Any, method: str, keepdims: bool) -> Any:
    if method not in _METHODS:
        raise TypeError(f"np.quantile(method={method!r}) is not supported on Tensors: {_METHODS}")
    return arrays.quantile(a, q, axis, keepdims, interpolation=method)


def _degrees(bias: bool, ddof: float | None) -> float:
    return float(not bias) if ddof is None else ddof


def _cov(m: Any, y: Any, rowvar: bool, dtype: Any, **options: Any) -> Any:
    """NumPy's arguments: more variables in `y`, or variables in columns."""
    return arrays.cov(_variables_of(m, y, rowvar, dtype), **options)


def _variables_of(m: Any, y: Any, rowvar: bool, dtype: Any) -> Any:
    rows = [_variables(x, rowvar) for x in (m, y) if x is not None]
    return _cast(rows[0] if y is None else _concatenate(rows, 0), dtype)


def _variables(x: Any, rowvar: bool) -> Any:
    x = operands(x)[0]
    if x.ndim < 2:
        return x.reshape(1, -1)
    return x if rowvar or len(x) == 1 else x.transpose()


def _ddof(ddof: float, correction: float | None) -> float:
    return ddof if correction is None else correction


def _average(a: Any, axis: Any, weights: Any, keepdims: bool, returned: bool) -> Any:
    if weights is None:
        y = reduction.mean(a, axis, keepdims)
        return (y, y * 0 + a.size / max(y.size, 1)) if returned else y
    a, weights = operands(a, weights)
    if weights.shape != a.shape:
        if weights.ndim != 1 or not isinstance(axis, int):
            raise TypeError(f"np.average: weights {weights.shape} for {a.shape} along {axis}")
        weights = weights.reshape([-1 if i == axis % a.ndim else 1 for i in range(a.ndim)])
        weights = shape.broadcast_to(weights, shape=a.shape)
    total = reduction.sum(weights, axis, keepdims)
    y = reduction.sum(a * weights, axis, keepdims) / total
    return (y, total) if returned else y


# ------------------------------------------------------------------ shape

_concatenate, _stack = arrays.concatenate, arrays.stack

# fmt: off
_serve(np.reshape,  lambda a, shape, order="C", *, copy=None: _reshape(a, shape, order))
_serve(np.ravel,    lambda a, order="C": _reshape(a, -1, order))
_serve(np.squeeze,  lambda a, axis=None:
       a.reshape(np.squeeze(np.broadcast_to(0, a.shape), axis).shape))
_serve(np.expand_dims, lambda a, axis: arrays.expand_dims(a, axis))
_serve(np.transpose, lambda a, axes=None: a.transpose(axes))
_serve(np.matrix_transpose, lambda x: x.mT)
_serve(np.swapaxes, lambda a, axis1, axis2: a.swapaxes(axis1, axis2))
_serve(np.moveaxis, lambda a, source, destination: a.moveaxis(source, destination))
_serve(np.rollaxis, lambda a, axis, start=0: _rollaxis(a, axis, start))
_serve(np.broadcast_to, lambda array, shape, subok=False: array.broadcast_to(_sizes(shape)))
_serve(np.broadcast_arrays, lambda *args, subok=False: arrays.broadcast_tensors(*args))
_serve(np.flip,     lambda m, axis=None: shape.flip(m, axis=axis))
_serve(np.flipud,   lambda m: shape.flip(m, axis=0))
_serve(np.fliplr,   lambda m: shape.flip(m, axis=1))
_serve(np.rot90,    lambda m, k=1, axes=(0, 1): arrays.rot90(m, k, axes))
_serve(np.roll,     lambda a, shift, axis=None: shape.roll(a, shift=shift, axis=axis))
_serve(np.tile,     lambda A, reps: arrays.tile(A, reps))
_serve(np.repeat,   lambda a, repeats, axis=None: arrays.repeat_interleave(a, repeats, axis))
_serve(np.pad,      lambda array, pad_width, mode="constant", **kwargs:
       _pad(array, pad_width, mode, **kwargs))
_functions = (np.atleast_1d, np.atleast_2d, np.atleast_3d)
for _dimension, _function in enumerate(_functions, 1):
    _serve(_function, lambda *arys, _n=_dimension: _at_least_all(_n, arys))

_serve(np.split,       lambda ary, indices_or_sections, axis=0:
       _parts(ary, indices_or_sections, axis, equal=True))
_serve(np.array_split, lambda ary, indices_or_sections, axis=0:
       _parts(ary, indices_or_sections, axis, equal=False))
_serve(np.vsplit, lambda ary, indices_or_sections: _parts(ary, indices_or_sections, 0))
_serve(np.hsplit, lambda ary, indices_or_sections:
       _parts(ary, indices_or_sections, min(ary.ndim - 1, 1)))
_serve(np.dsplit, lambda ary, indices_or_sections: _parts(ary, indices_or_sections, 2))
_serve(getattr(np, "unstack", None), lambda x, *, axis=0: arrays.unbind(x, axis))

_serve(np.concatenate, lambda arrays, axis=0, out=ONLY_NONE, *, dtype=None, casting="same_kind":
       _cast(_concatenate(arrays, axis), dtype))
_serve(np.stack,  lambda arrays, axis=0, out=ONLY_NONE, *, dtype=None, casting="same_kind":
       _cast(_stack(arrays, axis), dtype))
_serve(np.vstack, lambda tup, *, dtype=None, casting="same_kind":
       _cast(_concatenate([_at_least(2, x) for x in tup], 0), dtype))
_serve(np.hstack, lambda tup, *, dtype=None, casting="same_kind":
       _cast(_hstack([_at_least(1, x) for x in tup]), dtype))
_serve(np.dstack, lambda tup: _concatenate([_at_least(3, x) for x in tup], 2))
_serve(np.column_stack, lambda tup: _concatenate([_column(x) for x in operands(*tup)], 1))
_serve(np.append, lambda arr, values, axis=None: _concatenate(operands(arr, values), axis))
_serve(np.block,  lambda arrays: _block(arrays))
_serve(np.meshgrid, lambda *xi, copy=True, sparse=False, indexing="xy":
       _sparse_grid(xi, indexing) if sparse else arrays.meshgrid(*xi, indexing=indexing))
_serve(np.vander, lambda x, N=None, increasing=False: _vander(x, N, increasing))
_serve(np.geomspace, lambda start, stop, num=50, endpoint=True, dtype=None, axis=0:
       _geomspace(start, stop, num, endpoint, dtype, axis))
_serve(np.logspace, lambda start, stop, num=50, endpoint=True, base=10.0, dtype=None, axis=0:
       _cast(base ** _linspace(start, stop, num, endpoint, None, axis), dtype))
_serve(np.linspace, lambda start, stop, num=50, endpoint=True, retstep=False, dtype=None,
       axis=0, *, device=None: _linspace_and_step(start, stop, num, endpoint, dtype, axis)
       if retstep else _linspace(start, stop, num, endpoint, dtype, axis))
# fmt: on


def _sizes(size: Any) -> tuple[int, ...]:
    return tuple(np.atleast_1d(peek(size)).tolist())


def _reshape(a: Any, size: Any, order: str) -> Any:
    if order == "C":
        return a.reshape(_sizes(size))
    if order != "F":
        raise TypeError(f"np.reshape(order={order!r}) is not supported on Tensors: 'C' or 'F'")
    return a.transpose().reshape(_sizes(size)[::-1]).transpose()


def _rollaxis(a: Any, axis: int, start: int) -> Any:
    axis, start = axis % a.ndim, start + a.ndim * (start < 0)
    return a.moveaxis(axis, start - (axis < start))


def _pad(array: Any, pad_width: Any, mode: str, constant_values: Any = 0) -> Any:
    if mode not in {"constant", "edge", "reflect", "symmetric", "wrap"}:
        raise TypeError(f"np.pad(mode={mode!r}) is not supported on Tensors")
    return arrays.pad(array, pad_width, mode, constant_values)


def _at_least(ndim: int, x: Any) -> Any:
    """`x` with the missing axes where NumPy adds them: a vector is a row, a matrix a slice."""
    x = operands(x)[0]
    missing = ndim - x.ndim
    if missing <= 0:
        return x
    after = 1 if ndim == 3 and x.ndim else 0
    return x.reshape((1,) * (missing - after) + x.shape + (1,) * after)


def _at_least_all(ndim: int, values: tuple[Any, ...]) -> Any:
    found = tuple(_at_least(ndim, x) for x in values)
    return found[0] if len(found) == 1 else found


def _parts(x: Any, sections: Any, axis: int, equal: bool = True) -> list[Any]:
    """Slices along an axis: `sections` of them, or between the given positions."""
    if x.ndim <= axis or axis < -x.ndim:
        raise ValueError(f"np.split: expected an axis of {x.shape}, got {axis}.")
    x = x.moveaxis(axis, 0)
    if equal and np.ndim(sections) == 0 and len(x) % sections:
        raise ValueError(
            f"np.split: expected {sections} equal parts, got {len(x)} elements. Use np.array_split"
        )
    places = np.array_split(np.arange(len(x)), sections)
    parts = [x[place[0] : place[-1] + 1] if place.size else x[:0] for place in places]
    return [part.moveaxis(0, axis) for part in parts]


def _hstack(parts: list[Any]) -> Any:
    return _concatenate(parts, 0 if parts and parts[0].ndim == 1 else 1)


def _column(x: Any) -> Any:
    return x if x.ndim > 1 else x.reshape(-1, 1)


def _block(nested: Any) -> Any:
    """The innermost lists joined along the last axis, the next along the one before, and so on."""
    depth = _depth(nested)

    def join(part: Any, level: int) -> Any:
        if not isinstance(part, list):
            return part.reshape((1,) * (ndim - part.ndim) + part.shape)
        return _concatenate([join(item, level + 1) for item in part], level - depth)

    leaves = list(_leaves(nested))
    ndim = max(depth, *(np.ndim(array_of(leaf)) for leaf in leaves))
    converted = iter(operands(*leaves))
    return join(_refilled(nested, converted), 0)


def _depth(nested: Any) -> int:
    if not isinstance(nested, list):
        return 0
    depths = {_depth(item) for item in nested}
    if len(depths) != 1:
        raise ValueError(
            f"np.block: expected lists of one depth, not empty, got depths {sorted(depths)}."
        )
    return 1 + depths.pop()


def _leaves(nested: Any) -> Any:
    if not isinstance(nested, list):
        return [nested]
    return [leaf for item in nested for leaf in _leaves(item)]


def _refilled(nested: Any, values: Any) -> Any:
    return (
        [_refilled(item, values) for item in nested] if isinstance(nested, list) else next(values)
    )


def _linspace(start: Any, stop: Any, num: int, endpoint: bool, dtype: Any, axis: int) -> Any:
    ends = operands(start, stop)
    if dtype is not None and np.dtype(dtype).kind == "f":
        ends = [end.astype(dtype) for end in ends]
    start, stop = arrays.broadcast_tensors(*map(floating, ends))
    steps = max(num - 1 if endpoint else num, 1)
    weights = (np.arange(num) / steps).astype(start.dtype).reshape(-1, *(1,) * start.ndim)
    y = arrays.moveaxis(start * (1 - weights) + stop * weights, 0, axis)
    if dtype is not None and np.dtype(dtype).kind in "iu":
        y = elementwise.floor(y)
    return _cast(y, dtype)


def _linspace_and_step(
    start: Any, stop: Any, num: int, endpoint: bool, dtype: Any, axis: int
) -> tuple[Any, Any]:
    start, stop = map(floating, operands(start, stop))
    steps = num - 1 if endpoint else num
    step = (stop - start) / (steps if steps > 0 else np.nan)
    return _linspace(start, stop, num, endpoint, dtype, axis), step


def _geomspace(start: Any, stop: Any, num: int, endpoint: bool, dtype: Any, axis: int) -> Any:
    """Of two ends of one sign: exact at the ends."""
    start, stop = map(floating, operands(start, stop))
    ratio = _linspace(start * 0, elementwise.log(stop / start), num, endpoint, None, axis)
    y = arrays.moveaxis(start * elementwise.exp(arrays.moveaxis(ratio, axis, 0)), 0, axis)
    return _cast(y, dtype)


def _sparse_grid(vectors: Any, indexing: str) -> tuple[Any, ...]:
    """Each vector along its own axis of the grid, with sizes of 1 along the others."""
    places = list(range(len(vectors)))
    if indexing == "xy":
        places[:2] = places[1::-1]
    return tuple(
        x.reshape([-1 if i == place else 1 for i in range(len(places))])
        for x, place in zip(operands(*vectors), places, strict=True)
    )


def _vander(x: Any, n: int | None, increasing: bool) -> Any:
    """The powers of each element, as a row."""
    powers = np.arange(len(x) if n is None else n)
    return x[:, None] ** (powers if increasing else powers[::-1])


# ------------------------------------------------------------------ indexing

# fmt: off
_serve(np.delete,   lambda arr, obj, axis=None:
       _moved(lambda i: np.delete(i, peek(obj), axis), arr))
_serve(np.insert,   lambda arr, obj, values, axis=None:
       _moved(lambda i, j: np.insert(i, peek(obj), j, axis), arr,
       _cast(operands(values)[0], operands(arr)[0].dtype)))
_serve(np.compress, lambda condition, a, axis=None, out=ONLY_NONE:
       _moved(lambda i: np.compress(peek(condition), i, axis), a))
_serve(np.extract,  lambda condition, arr: _moved(lambda i: np.extract(peek(condition), i), arr))
_serve(np.choose,   lambda a, choices, out=ONLY_NONE, mode="raise":
       _moved(lambda *parts: np.choose(peek(a), parts, mode=mode), *choices))
_serve(np.resize,   lambda a, new_shape: _moved(lambda i: np.resize(i, new_shape), a))
_serve(np.ediff1d,  lambda ary, to_end=None, to_begin=None:
       arrays.diff(arrays.ravel(ary), prepend=None) if to_end is None and to_begin is None
       else _concatenate([arrays.ravel(x) for x in operands(*[part for part in (
       to_begin, arrays.diff(arrays.ravel(ary)), to_end) if part is not None])], 0))
_serve(np.take, lambda a, indices, axis=None, out=ONLY_NONE, mode="raise":
       _take(a, indices, axis, mode))
_serve(np.take_along_axis, lambda arr, indices, axis=-1: arrays.take_along_axis(arr, indices, axis))
_serve(np.diag,     lambda v, k=0: v.diag(k))
_serve(np.diagflat, lambda v, k=0: v.reshape(-1).diag(k))
_serve(np.diagonal, lambda a, offset=0, axis1=0, axis2=1: a.diagonal(offset, axis1, axis2))
_serve(np.triu,     lambda m, k=0: _square_of(m).triu(k))
_serve(np.tril,     lambda m, k=0: _square_of(m).tril(k))
_serve(np.trace,    lambda a, offset=0, axis1=0, axis2=1, dtype=None, out=ONLY_NONE:
       _cast(a, dtype).trace(offset, axis1, axis2))
_serve(np.sort,     lambda a, axis=-1, kind=None, order=ONLY_NONE, *, stable=None:
       arrays.sort(a, axis=axis))
_serve(np.partition, lambda a, kth, axis=-1, kind="introselect", order=ONLY_NONE:
       _partition(*_flat_without(a, axis), kth))
_serve(np.diff,     lambda a, n=1, axis=-1, prepend=None, append=None:
       arrays.diff(a, n, axis, prepend=prepend, append=append))
_serve(np.gradient, lambda f, *varargs, axis=None, edge_order=1:
       _gradient(f, varargs, axis, edge_order))
# fmt: on


def _moved(places: Callable[..., Any], *parts: Any) -> Any:
    """The elements of all `parts` at the numbers that `places` makes of arrays of their numbers."""
    parts = tuple(operands(*parts))
    starts = np.cumsum([0, *(part.size for part in parts)])
    numbers = [
        start + np.arange(part.size).reshape(part.shape)
        for start, part in zip(starts[:-1], parts, strict=True)
    ]
    elements = [arrays.ravel(part) for part in parts]
    return arrays.take(_concatenate(elements, 0), places(*numbers))


def _take(a: Any, indices: Any, axis: int | None, mode: str) -> Any:
    x, along = _flat_without(a, axis)
    indices, size = np.asarray(peek(indices)), x.shape[along]
    if mode == "wrap":
        indices = indices % size
    elif mode == "clip":
        indices = np.clip(indices, 0, size - 1)
    return arrays.take(x, indices, along)


def _square_of(m: Any) -> Any:
    """A vector as the rows of a square matrix, NumPy's rule."""
    return m if m.ndim > 1 else m.broadcast_to(len(m), len(m))


def _partition(x: Any, axis: int, kth: Any) -> Any:
    return arrays.take_along_axis(x, np.argpartition(peek(x), kth, axis), axis)


def _gradient(f: Any, varargs: tuple[Any, ...], axis: Any, edge_order: int) -> Any:
    spacing = list(varargs) if len(varargs) > 1 else varargs[0] if varargs else 1.0
    if isinstance(spacing, list) and len(varargs) == 1:
        spacing = np.asarray(spacing)
    found = arrays.gradient(f, spacing=spacing, axis=axis, edge_order=edge_order)
    return found[0] if len(found) == 1 else found


# ------------------------------------------------------------------ functions of samples

# fmt: off
_serve(np.interp,  lambda x, xp, fp, left=None, right=None, period=None:
       _interp(operands(x, xp, fp), left, right, period))
_serve(np.polyval, lambda p, x: _polyval(p, x))
# fmt: on


def _interp(arrays_in: list[Any], left: Any, right: Any, period: Any) -> Any:
    """The function of x that is linear between the points (xp, fp), constant beyond them."""
    x, xp, fp = (floating(part) for part in arrays_in)
    xp, fp = (constant(array_of(part)) if isinstance(part, ndarray) else part for part in (xp, fp))
    if xp.ndim != 1 or xp.shape != fp.shape or not xp.size:
        raise ValueError(
            f"np.interp: expected points in vectors of one size, got {xp.shape} and {fp.shape}."
        )
    if period is not None:
        x, xp, fp = _over_a_period(x, xp, fp, period)
        left = right = None
    first, last = xp[0], xp[-1]
    y = fp[0]
    if len(xp) > 1:
        place = arrays.clip(arrays.searchsorted(xp, x, right=True) - 1, 0, len(xp) - 2)
        start, end = arrays.take(xp, place), arrays.take(xp, place + 1)
        step = end - start
        share = elementwise.where(
            step == 0, 1.0, (x - start) / elementwise.where(step == 0, 1.0, step)
        )
        y = arrays.lerp(arrays.take(fp, place), arrays.take(fp, place + 1), share)
    y = elementwise.where(x < first, fp[0] if left is None else left, y)
    y = elementwise.where(x > last, fp[-1] if right is None else right, y)
    return y if len(xp) == 1 else elementwise.where(elementwise.isnan(x), x, y)


def _over_a_period(x: Any, xp: Any, fp: Any, period: float) -> tuple[Any, Any, Any]:
    """`x` in the first period; the points in order there, with one more at each end."""
    period = abs(period)
    if not period:
        raise ValueError("np.interp: expected a period other than 0, got 0.")
    x, xp = x % period, xp % period
    order = arrays.argsort(xp)
    xp, fp = xp[order], fp[order]
    return (
        x,
        _concatenate([xp[-1:] - period, xp, xp[:1] + period]),
        _concatenate([fp[-1:], fp, fp[:1]]),
    )


def _polyval(p: Any, x: Any) -> Any:
    """p_0 x^n + ... + p_n, by Horner's rule."""
    if isinstance(x, np.poly1d) or isinstance(p, np.poly1d):
        raise TypeError("np.polyval of a poly1d is not supported on Tensors. Use its coefficients")
    *coefficients, x = operands(*p, x)
    y: Any = x * 0
    for i, coefficient in enumerate(coefficients):
        y = y * x + coefficient if i else coefficient + y
    return y


# ------------------------------------------------------------------ products

# fmt: off
_serve(np.dot,       lambda a, b, out=ONLY_NONE: arrays.dot(a, b))
_serve(np.inner,     lambda a, b: arrays.inner(a, b))
_serve(np.outer,     lambda a, b, out=ONLY_NONE: arrays.outer(a, b))
_serve(np.vdot,      lambda a, b: arrays.vdot(a, b))
_serve(np.tensordot, lambda a, b, axes=2: arrays.tensordot(a, b, axes))
_serve(np.kron,      lambda a, b: arrays.kron(a, b))
_serve(np.cross,     lambda a, b, axisa=-1, axisb=-1, axisc=-1, axis=None:
       _cross(a, b, *((axisa, axisb, axisc) if axis is None else (axis, axis, axis))))
_serve(np.convolve,  lambda a, v, mode="full": arrays.convolve(a, v, mode))
_serve(np.correlate, lambda a, v, mode="valid": _correlate(a, v, mode))
_serve(np.einsum,    lambda *operands, out=ONLY_NONE, optimize=False, dtype=None, order="K",
       casting="safe": _cast(arrays.einsum(*operands), dtype))
_register(np.matmul, lambda a, b: matmul(*operands(a, b)))
_register(np.vecdot, lambda a, b, axis=-1: linalg.vecdot(a, b, axis))
if hasattr(np, "matvec"):
    _register(np.matvec, lambda a, v: matmul(a, v[..., None])[..., 0])
    _register(np.vecmat, lambda v, a: matmul(v[..., None, :], a)[..., 0, :])
# fmt: on


def _cross(a: Any, b: Any, axis_a: int, axis_b: int, axis_y: int) -> Any:
    a, b = arrays.moveaxis(a, axis_a, -1), arrays.moveaxis(b, axis_b, -1)
    y = arrays.cross(a, b)
    return y if a.shape[-1] == b.shape[-1] == 2 else arrays.moveaxis(y, -1, axis_y)


def _correlate(a: Any, v: Any, mode: str) -> Any:
    """y_k = sum_n a_(n + k) v_n."""
    a, v = operands(a, v)
    if len(a) < len(v):
        return shape.flip(_correlate(v, a, mode))
    return arrays.convolve(a, shape.flip(v), mode)


# ------------------------------------------------------------------ linear algebra

_linalg: Any = np.linalg

# fmt: off
_serve(_linalg.norm,    lambda x, ord=None, axis=None, keepdims=False:
       linalg.norm(x, ord, axis, keepdims))
_serve(_linalg.cond,    lambda x, p=None: linalg.cond(x, p))
_serve(_linalg.det,     lambda a: linalg.det(a))
_serve(_linalg.slogdet, lambda a: linalg.slogdet(a))
_serve(_linalg.inv,     lambda a: linalg.inv(a))
_serve(_linalg.solve,   lambda a, b: matrices.solve(*operands(a, b)))
_serve(_linalg.pinv,    lambda a, rcond=None, hermitian=False, *, rtol=None:
       linalg.pinv(_symmetric(a, "L") if hermitian else a, rcond if rtol is None else rtol))
_serve(_linalg.tensorinv, lambda a, ind=2:
       linalg.inv(_matrix(a, ind)).reshape(a.shape[ind:] + a.shape[:ind]))
_serve(_linalg.tensorsolve, lambda a, b, axes=None: _tensorsolve(a, b, axes))
_serve(_linalg.qr,      lambda a, mode="reduced": _qr(a, mode))
_serve(_linalg.lstsq,   lambda a, b, rcond=None: tuple(linalg.lstsq(a, b, rcond)))
_serve(_linalg.matrix_rank, lambda A, tol=None, hermitian=False, *, rtol=None:
       linalg.matrix_rank(_symmetric(A, "L") if hermitian else A, tol, rtol=rtol))
_serve(_linalg.matrix_power, lambda a, n: linalg.matrix_power(a, n))
_serve(_linalg.multi_dot,    lambda arrays, *, out=ONLY_NONE: linalg.multi_dot(arrays))
_serve(_linalg.cholesky, lambda a, *, upper=False:
       linalg.cholesky(_symmetric(a, "U" if upper else "L"), upper=upper))
_serve(_linalg.eigh,     lambda a, UPLO="L": linalg.eigh(_symmetric(a, UPLO)))
_serve(_linalg.eigvalsh, lambda a, UPLO="L": linalg.eigvalsh(_symmetric(a, UPLO)))
_serve(_linalg.svd, lambda a, full_matrices=True, compute_uv=True, hermitian=False:
       _svd(_symmetric(a, "L") if hermitian else a, full_matrices, compute_uv))

_serve(_linalg.svdvals,   lambda x: linalg.svdvals(x))
_serve(_linalg.outer,     lambda x1, x2: arrays.outer(x1, x2))
_serve(_linalg.cross,     lambda x1, x2, *, axis=-1: arrays.cross(x1, x2, axis))
_serve(_linalg.matmul,    lambda x1, x2: matmul(*operands(x1, x2)))
_serve(_linalg.vecdot,    lambda x1, x2, *, axis=-1: linalg.vecdot(x1, x2, axis))
_serve(_linalg.tensordot, lambda x1, x2, *, axes=2: arrays.tensordot(x1, x2, axes))
_serve(_linalg.diagonal,  lambda x, *, offset=0: x.diagonal(offset, -2, -1))
_serve(_linalg.trace,     lambda x, *, offset=0, dtype=None: _cast(x, dtype).trace(offset, -2, -1))
_serve(_linalg.matrix_transpose, lambda x: x.mT)
_serve(_linalg.vector_norm, lambda x, *, axis=None, keepdims=False, ord=2:
       linalg.vector_norm(x, ord, axis, keepdims))
_serve(_linalg.matrix_norm, lambda x, *, keepdims=False, ord="fro":
       linalg.matrix_norm(x, ord, (-2, -1), keepdims))
# fmt: on


def _matrix(a: Any, rows: int) -> Any:
    """The first axes as rows, the others as columns."""
    return a.reshape(math.prod(a.shape[:rows]), math.prod(a.shape[rows:]))


def _tensorsolve(a: Any, b: Any, axes: Any) -> Any:
    a, b = operands(a, b)
    if axes is not None:
        a = arrays.moveaxis(a, tuple(axes), tuple(range(a.ndim - len(axes), a.ndim)))
    unknown = a.shape[b.ndim :]
    return matrices.solve(_matrix(a, b.ndim), b.reshape(-1)).reshape(unknown)


def _svd(a: Any, full_matrices: bool, compute_uv: bool) -> Any:
    return linalg.svd(a, full_matrices) if compute_uv else linalg.svdvals(a)


def _qr(a: Any, mode: str) -> Any:
    """NumPy's mode "r" gives R alone."""
    result = linalg.qr(a, mode)
    return result.R if mode == "r" else result


def _symmetric(a: Any, triangle: str) -> Any:
    """The symmetric matrix of one triangle of `a`; NumPy reads no more."""
    if triangle not in ("L", "U"):
        raise ValueError(f'eigh: expected UPLO "L" or "U", got {triangle!r}.')
    lower = _lower(a.shape[-1])
    return elementwise.where(lower if triangle == "L" else lower.T, a, a.mT)


@lru_cache(maxsize=4)
def _lower(n: int) -> ndarray:
    """Which elements of a matrix lie in the lower triangle; read-only by convention."""
    return np.tri(n, dtype=np.bool_)


# ------------------------------------------------------------------ integers and booleans


@dataclass(frozen=True)
class _Hole:
    """Where an array stood among the arguments of a call."""

    index: int


class _Call:
    """The arguments of a call of NumPy's, and the arrays that were in them."""

    def __init__(self, args: Any, kwargs: Any) -> None:
        self.arrays: list[Any] = []
        self.args, self.kwargs = self._without_arrays(args), self._without_arrays(kwargs)

    def _without_arrays(self, value: Any) -> Any:
        if isinstance(value, Node | ndarray):
            self.arrays.append(value)
            return _Hole(len(self.arrays) - 1)
        return _each(value, self._without_arrays)

    def filled(self, arrays: Any) -> tuple[Any, Any]:
        def fill(value: Any) -> Any:
            return arrays[value.index] if isinstance(value, _Hole) else _each(value, fill)

        return fill(self.args), fill(self.kwargs)

    def __eq__(self, other: object) -> bool:
        """Two calls of a compiled function have done the same: 1, 1.0 and True differ."""
        return isinstance(other, _Call) and bool(self._key == other._key)

    __hash__ = None  # type: ignore[assignment]

    @property
    def _key(self) -> Any:
        return _typed((self.args, self.kwargs))

    def __repr__(self) -> str:
        return "..."


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _typed(part) for name, part in value.items()}
    return list(map(_typed, value)) if type(value) in (list, tuple) else (type(value), value)


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """A list, tuple or dict with each of its values changed; anything else as it is."""
    if isinstance(value, dict):
        return {name: change(part) for name, part in value.items()}
    return type(value)(map(change, value)) if type(value) in (list, tuple) else value


@cache
def _op_of(function: Any) -> Op:
    """NumPy's own function as an op without a derivative, and without PyTorch's promotion."""

    def call(*arrays: Any, call: _Call) -> Any:
        args, kwargs = call.filled(arrays)
        return function(*args, **kwargs)

    return op(call, name=getattr(function, "__name__", "numpy"), promote=False)


def _has_float(value: Any) -> bool:
    if isinstance(value, Node | ndarray | np.generic):
        return bool(array_of(value).dtype.kind == "f")
    if isinstance(value, dict):
        return any(map(_has_float, value.values()))
    return any(map(_has_float, value)) if isinstance(value, list | tuple) else type(value) is float


def of_integers(function: Any, served: Any, args: Any, kwargs: Any) -> Any:
    """NumPy's own result, in its own dtype, of a call without a Tensor of floats.

    PyTorch's rules hold for our functions and methods: the sine of integers is float32.
    NotImplemented where `served`, which compiles to C, gives the same, or follows PyTorch.
    """
    if served is not _served.get(function):  # a user's op
        return NotImplemented
    if function in _OPERATORS and isinstance(args[0], ndarray | np.generic):
        return NotImplemented  # `array * t`, which is to be as `t * array`
    several = function in _SEVERAL or kwargs.get("returned") or kwargs.get("retstep")
    if served is not None and several:
        return served(*_as_float64(args), **_as_float64(kwargs))
    if function in _FRACTIONS or (function in _COMMON and _has_float((args, kwargs))):
        call = _Call(args, kwargs)
        return _op_of(function)(*call.arrays, call=call)
    return NotImplemented


def _named(names: str) -> set[Any]:
    """Those of NumPy's functions that this version has."""
    found = (
        getattr(np.linalg, name[7:], None)
        if name.startswith("linalg.")
        else getattr(np, name, None)
        for name in names.split()
    )
    return set(found) - {None}


_FRACTIONS = _named(
    "divide remainder fmod float_power power square reciprocal sqrt cbrt exp exp2 expm1 log log1p "
    "log2 log10 sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh deg2rad "
    "radians rad2deg degrees rint floor_divide copysign heaviside arctan2 hypot logaddexp "
    "logaddexp2 fabs "
    "conjugate vecdot sinc nan_to_num mean nanmean var std average median quantile percentile cov "
    "corrcoef trapezoid interp polyval linspace logspace nanvar nanstd nanprod nanmax nanmin "
    "nancumsum nancumprod vander geomspace ediff1d linalg.tensorinv linalg.tensorsolve "
    "linalg.norm linalg.cond linalg.det linalg.inv linalg.solve linalg.pinv linalg.cholesky "
    "linalg.eigvalsh linalg.svdvals linalg.matrix_power linalg.vecdot linalg.vector_norm "
    "linalg.matrix_norm"
)
"""Functions whose results of integers and booleans have another dtype in PyTorch, or here."""
_COMMON = _named(
    "add subtract multiply maximum minimum fmax fmin matmul clip where select "
    "concatenate append block stack vstack hstack dstack column_stack sum prod nansum max min amax "
    "amin diff dot inner outer vdot tensordot kron cross convolve correlate einsum"
)
"""Functions for which the same holds if a float is among the arguments."""
_SEVERAL = _named("gradient linalg.slogdet linalg.eigh linalg.svd linalg.qr linalg.lstsq")
"""Functions with several results, of integers those of float64."""
for _every in (value for value in vars(np).values() if isinstance(value, np.ufunc)):
    if _every.nout == 1:
        _of_it = (_every, _every.reduce, _every.accumulate, _every.outer)
        _FRACTIONS |= {f for f in _of_it if _every in _FRACTIONS or f not in numpy_table}
        _COMMON |= {f for f in _of_it if _every in _COMMON}
_OPERATORS = _named("add subtract multiply divide floor_divide remainder power matmul")
"""Functions that an array on the left of an operator calls."""
_served = {
    function: served
    for function, served in numpy_table.items()
    if served.__module__.startswith("tinygrad_kr.")
}


def _as_float64(value: Any) -> Any:
    if isinstance(value, Node):
        return _cast(value, np.float64)
    return _each(value, _as_float64)
