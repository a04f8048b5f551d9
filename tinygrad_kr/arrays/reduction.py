"""Reductions and running sums with NumPy's and PyTorch's keywords."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from tinygrad_kr.arrays.operands import cast, either_name, no_axes, number_as_vector, warn_user
from tinygrad_kr.ops.op import Op, alias
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
    p_norm_,
    prod_,
    std_,
    sum_,
    var_,
)

__all__ = [
    "all", "amax", "amin", "any", "argmax", "argmin", "count_nonzero", "cumprod", "cumsum",
    "logsumexp", "mean", "prod", "std", "sum", "var",
]  # fmt: skip


_DOC = """{summary}

axis, dim: {axes}, or None for all axes.
keepdims, keepdim: keep the reduced axes, with size 1.
{more}
Source: np.{name}.

>>> tk.{name}(tk.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=1)
Tensor({output})
"""


def _axis(axis: Axis, x: Any) -> Axis:
    """An axis as an int, a tuple or None.

    Axis 0 or -1 of a number is None: all of its axes, of which it has none.
    """
    if axis is None:
        return None
    if not getattr(x, "ndim", 1):
        return no_axes(axis) or None
    if type(axis) is list:
        return tuple(axis)
    return int(axis) if isinstance(axis, np.integer) else axis


def _public(
    primitive: Op, summary: str, more: str, output: str, axes: str = "an int, a tuple"
) -> Callable[..., Any]:
    """A reduction with PyTorch's keywords beside NumPy's, and its docstring."""

    def reduction(
        x: Any,
        axis: Axis = None,
        keepdims: bool = False,
        *,
        dim: Axis = None,
        keepdim: bool = False,
    ) -> Any:
        if axis is not None:
            axis = _axis(axis, x)
        return primitive(x, axis=axis, keepdims=keepdims)

    return _named(reduction, primitive.__name__, summary, more, output, axes)


def _public_sum(
    primitive: Op, summary: str, more: str, output: str, floats: bool = False
) -> Callable[..., Any]:
    """A reduction that takes a dtype: a floating one only with `floats`."""

    def reduction(
        x: Any,
        axis: Axis = None,
        keepdims: bool = False,
        *,
        dtype: Any = None,
        dim: Axis = None,
        keepdim: bool = False,
    ) -> Any:
        if axis is not None:
            axis = _axis(axis, x)
        if dtype is not None:
            if floats and np.dtype(dtype).kind != "f":
                raise TypeError(f"{name}: expected a floating dtype, got {np.dtype(dtype)}.")
            return cast(primitive(cast(x, dtype), axis=axis, keepdims=keepdims), dtype)
        return primitive(x, axis=axis, keepdims=keepdims)

    name = primitive.__name__
    more = f"dtype: of the result; `x` is converted first.\n{more}"
    return _named(reduction, name, summary, more, output, "an int, a tuple")


def _named(
    reduction: Callable[..., Any], name: str, summary: str, more: str, output: str, axes: str
) -> Callable[..., Any]:
    reduction.__name__ = reduction.__qualname__ = name
    reduction.__doc__ = _DOC.format(name=name, summary=summary, more=more, output=output, axes=axes)
    return either_name(reduction)


sum = _public_sum(
    sum_,
    "The sum of the elements over `axis`; 0 of no elements.",
    "Floats keep their dtype; booleans become int64.\nGradient: g, broadcast to `x`.",
    "[3., 7.]",
)
mean = _public_sum(
    mean_,
    "The arithmetic mean over `axis`, sum(x) / n; NaN of no elements.",
    "Integers become float32.\nGradient: g / n, broadcast to `x`.",
    "[1.5, 3.5]",
    floats=True,
)
max = _public(
    max_,
    "The largest element over `axis`; NaN wins.",
    "Gradient: shared evenly by equal elements.\nRaises ValueError for no elements.",
    "[2., 4.]",
)
min = _public(
    min_,
    "The smallest element over `axis`; NaN wins.",
    "Gradient: shared evenly by equal elements.\nRaises ValueError for no elements.",
    "[1., 3.]",
)
amax, amin = alias("amax", max), alias("amin", min)
prod = _public_sum(
    prod_,
    "The product of the elements over `axis`; 1 of no elements.",
    "Gradient: g times the product of the others, exact where elements are 0.",
    "[ 2., 12.]",
)
any = _public(
    any_,
    "Test over `axis` whether any element is nonzero; False of no elements.",
    "The result is boolean, without a gradient.",
    "[ True,  True]",
)
all = _public(
    all_,
    "Test over `axis` whether all elements are nonzero; True of no elements.",
    "The result is boolean, without a gradient.",
    "[ True,  True]",
)
count_nonzero = _public(
    count_nonzero_,
    "The number of elements over `axis` that are not 0.",
    "The result is int64, without a gradient.",
    "[2, 2]",
)
argmax = _public(
    argmax_,
    "The index of the largest element along `axis`; of equal ones the first, NaN wins.",
    "None counts in the flattened array. The result is int64, without a gradient.\n"
    "Raises ValueError for no elements.",
    "[1, 1]",
    axes="an int",
)
argmin = _public(
    argmin_,
    "The index of the smallest element along `axis`; of equal ones the first, NaN wins.",
    "None counts in the flattened array. The result is int64, without a gradient.\n"
    "Raises ValueError for no elements.",
    "[0, 0]",
    axes="an int",
)
euclidean_norm = _public(
    norm_, "The Euclidean norm over `axis`.", "Gradient: g x / y, 0 where y = 0.", "[2.236068, 5.]"
)


def power_norm(x: Any, p: Any, axis: Axis, keepdims: bool) -> Any:
    """(sum |x|^p)^(1/p) over `axis`, for a finite p that is not 0."""
    return p_norm_(x, p=float(p), axis=_axis(axis, x), keepdims=keepdims)


@either_name
def logsumexp(
    x: Any, axis: Axis = None, keepdims: bool = False, *, dim: Axis = None, keepdim: bool = False
) -> Any:
    """log(sum(exp(x))) over `axis`, without overflow; -inf of no elements.

    axis, dim: an int, a tuple, or None for all axes.
    keepdims, keepdim: keep the reduced axes, with size 1.
    Integers become float32.
    Gradient: g softmax(x).
    Source: torch.logsumexp.

    >>> tk.logsumexp(tk.tensor([0.0, 0.0])).round(3)
    Tensor(0.693)
    """
    return logsumexp_(x, axis=_axis(axis, x), keepdims=keepdims)


def _once_keepdims(function: Callable[..., Any]) -> Callable[..., Any]:
    """Warn of an argument after the axis: PyTorch's `unbiased`, in version 0.1.0 `keepdims`."""

    @wraps(function)
    def warned(*args: Any, **kwargs: Any) -> Any:
        if len(args) > 2:
            warn_user(
                f"{function.__name__}: the argument after the axis is unbiased, as in PyTorch; it "
                "was keepdims. Write its name"
            )
        return function(*args, **kwargs)

    return warned


@_once_keepdims
@either_name
def var(
    x: Any,
    axis: Axis = None,
    unbiased: bool | None = None,
    keepdims: bool = False,
    *,
    correction: float | None = None,
    ddof: float | None = None,
    dim: Axis = None,
    keepdim: bool = False,
) -> Any:
    """The variance over `axis`: sum((x - mean)^2) / (n - correction); NaN for n <= correction.

    axis, dim: an int, a tuple, or None for all axes.
    keepdims, keepdim: keep the reduced axes, with size 1.
    unbiased: True for a correction of 1, False for 0. A boolean `axis` is it, as in PyTorch.
    correction: 1 by default, as in PyTorch. `np.var(t)` keeps NumPy's default of 0.
    ddof: NumPy's name for `correction`.
    Integers become float32.
    Raises TypeError where two of `unbiased`, `correction` and `ddof` are given.
    Gradient: 2 g (x - mean) / (n - correction).
    Source: torch.var, np.var.

    >>> tk.var(tk.tensor([1.0, 2.0, 3.0]))
    Tensor(1.)
    """
    axis, ddof = _corrected("var", axis, unbiased, correction, ddof)
    return var_(x, axis=_axis(axis, x), keepdims=keepdims, ddof=ddof)


@_once_keepdims
@either_name
def std(
    x: Any,
    axis: Axis = None,
    unbiased: bool | None = None,
    keepdims: bool = False,
    *,
    correction: float | None = None,
    ddof: float | None = None,
    dim: Axis = None,
    keepdim: bool = False,
) -> Any:
    """The standard deviation over `axis`: sqrt(sum((x - mean)^2) / (n - correction)).

    axis, dim: an int, a tuple, or None for all axes.
    keepdims, keepdim: keep the reduced axes, with size 1.
    unbiased: True for a correction of 1, False for 0. A boolean `axis` is it, as in PyTorch.
    correction: 1 by default, as in PyTorch. `np.std(t)` keeps NumPy's default of 0.
    ddof: NumPy's name for `correction`.
    Integers become float32.
    Raises TypeError where two of `unbiased`, `correction` and `ddof` are given.
    Gradient: g (x - mean) / ((n - correction) y), 0 where all elements are equal. The second
        derivative is NaN there.
    Source: torch.std, np.std.

    >>> tk.std(tk.tensor([1.0, 2.0, 3.0]))
    Tensor(1.)
    """
    axis, ddof = _corrected("std", axis, unbiased, correction, ddof)
    return std_(x, axis=_axis(axis, x), keepdims=keepdims, ddof=ddof)


def _corrected(
    name: str, axis: Axis, unbiased: bool | None, correction: float | None, ddof: float | None
) -> tuple[Axis, float]:
    """The axis, and what is subtracted from the number of elements."""
    if type(axis) is bool and unbiased is None:
        axis, unbiased = None, axis
    given = [n for n in (correction, ddof, unbiased) if n is not None]
    if len(given) > 1:
        raise TypeError(
            f"{name}: expected one of unbiased, correction and ddof, got {len(given)}. Leave the "
            "others out"
        )
    return axis, given[0] if given else 1


_CUMULATIVE = """The running {what} along `axis`: y_k is that of x_0 ... x_k.

axis, dim: an int, or None for the flattened array. Along axis 0 a number stays a number.
dtype: convert to it first.
Gradient: {gradient}.
Source: np.{name}.

>>> tk.{name}(tk.tensor([1.0, 2.0, 3.0]))
Tensor({output})
"""


def _along(primitive: Op, what: str, gradient: str, output: str) -> Callable[..., Any]:
    """A cumulative op with NumPy's default: the flattened array where no axis is given."""

    def cumulative(
        x: Any, axis: int | None = None, *, dtype: Any = None, dim: int | None = None
    ) -> Any:
        x = cast(x, dtype)
        if axis is None:
            return primitive(x.reshape(-1), axis=0)
        return primitive(x, axis=axis) if x.ndim else of_number(x, axis=axis)

    of_number = number_as_vector(primitive)
    name = primitive.__name__
    cumulative.__name__ = cumulative.__qualname__ = name
    cumulative.__doc__ = _CUMULATIVE.format(what=what, gradient=gradient, name=name, output=output)
    return either_name(cumulative)


cumsum = _along(cumsum_, "sum", "the running sum of g from the end", "[1., 3., 6.]")
cumprod = _along(cumprod_, "product", "exact where elements are 0", "[1., 2., 6.]")
