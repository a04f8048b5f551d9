"""Reductions and running sums with NumPy's and PyTorch's keywords."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_kr.ops.op import Op
from tinygrad_kr.ops.reduction import (
    Axis,
    all_,
    any_,
    argmax_,
    argmin_,
    count_nonzero_,
    cumprod_,
    cumsum_,
    logsumexp_,
    max_,
    mean_,
    min_,
    norm_,
    prod_,
    std_,
    sum_,
    var_,
)

__all__ = [
    "all", "amax", "amin", "any", "argmax", "argmin", "count_nonzero", "cumprod", "cumsum",
    "logsumexp", "mean", "prod", "std", "sum", "var",
]  # fmt: skip


def _public(primitive: Op) -> Callable[..., Any]:
    """Give a reduction PyTorch's keywords beside NumPy's."""

    def reduction(
        x: Any,
        axis: Axis = None,
        keepdims: bool = False,
        *,
        dim: Axis = None,
        keepdim: bool = False,
        **params: Any,
    ) -> Any:
        if dim is not None:
            axis = dim
        if type(axis) is list:
            axis = tuple(axis)
        elif isinstance(axis, np.integer):
            axis = int(axis)
        return primitive(x, axis=axis, keepdims=keepdims or keepdim, **params)

    reduction.__name__ = reduction.__qualname__ = primitive.__name__
    reduction.__doc__ = primitive.__doc__
    return reduction


sum = _public(sum_)


mean = _public(mean_)


def var(
    x: Any,
    axis: Axis = None,
    keepdims: bool = False,
    *,
    correction: float = 1,
    ddof: float | None = None,
    **torch_names: Any,
) -> Any:
    """Variance with PyTorch's default: sum((x - mean)^2) / (n - correction), correction 1.

    `ddof` is NumPy's name for `correction`. `np.var(t)` keeps NumPy's default of 0.
    """
    ddof = correction if ddof is None else ddof
    return _var_public(x, axis, keepdims, ddof=ddof, **torch_names)


def std(
    x: Any,
    axis: Axis = None,
    keepdims: bool = False,
    *,
    correction: float = 1,
    ddof: float | None = None,
    **torch_names: Any,
) -> Any:
    """Standard deviation, the square root of `var`, with PyTorch's default correction 1.

    Its gradient is 0 where all elements are equal. `np.std(t)` keeps NumPy's default `ddof=0`.
    """
    ddof = correction if ddof is None else ddof
    return _std_public(x, axis, keepdims, ddof=ddof, **torch_names)


_var_public, _std_public = _public(var_), _public(std_)


max = _public(max_)


min = _public(min_)


amax, amin = max, min


argmax, argmin = _public(argmax_), _public(argmin_)


any, all = _public(any_), _public(all_)


count_nonzero = _public(count_nonzero_)


logsumexp = _public(logsumexp_)


euclidean_norm = _public(norm_)


prod = _public(prod_)


def _along(primitive: Op) -> Callable[..., Any]:
    """A cumulative op with NumPy's default: the flattened array where no axis is given."""

    def cumulative(x: Any, axis: int | None = None, *, dim: int | None = None) -> Any:
        axis = dim if dim is not None else axis
        if axis is None:
            return primitive(x.reshape(-1), axis=0)
        return primitive(x, axis=axis)

    cumulative.__name__ = cumulative.__qualname__ = primitive.__name__
    cumulative.__doc__ = primitive.__doc__
    return cumulative


cumsum, cumprod = _along(cumsum_), _along(cumprod_)
