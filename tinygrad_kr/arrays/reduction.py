"""Reductions and running sums with NumPy's and PyTorch's keywords."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_kr.arrays.operands import no_axes, number_as_vector
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


def _axis(axis: Axis, dim: Axis, x: Any) -> Axis:
    """The axis that NumPy's or PyTorch's keyword names, as an int, a tuple or None.

    Axis 0 or -1 of a number is None: all of its axes, of which it has none.
    """
    if dim is not None:
        axis = dim
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
        if axis is not None or dim is not None:
            axis = _axis(axis, dim, x)
        return primitive(x, axis=axis, keepdims=keepdims or keepdim)

    name = primitive.__name__
    reduction.__name__ = reduction.__qualname__ = name
    reduction.__doc__ = _DOC.format(name=name, summary=summary, more=more, output=output, axes=axes)
    return reduction


sum = _public(
    sum_,
    "The sum of the elements over `axis`; 0 of no elements.",
    "Floats keep their dtype; booleans become int64.\nGradient: g, broadcast to `x`.",
    "[3., 7.]",
)
mean = _public(
    mean_,
    "The arithmetic mean over `axis`, sum(x) / n; NaN of no elements.",
    "Integers become float32.\nGradient: g / n, broadcast to `x`.",
    "[1.5, 3.5]",
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
amax, amin = max, min
prod = _public(
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
    return p_norm_(x, p=float(p), axis=_axis(axis, None, x), keepdims=keepdims)


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
    return logsumexp_(x, axis=_axis(axis, dim, x), keepdims=keepdims or keepdim)


def var(
    x: Any,
    axis: Axis = None,
    keepdims: bool = False,
    *,
    correction: float = 1,
    ddof: float | None = None,
    dim: Axis = None,
    keepdim: bool = False,
) -> Any:
    """The variance over `axis`: sum((x - mean)^2) / (n - correction); NaN for n <= correction.

    axis, dim: an int, a tuple, or None for all axes.
    keepdims, keepdim: keep the reduced axes, with size 1.
    correction: 1 by default, as in PyTorch. `np.var(t)` keeps NumPy's default of 0.
    ddof: NumPy's name for `correction`.
    Integers become float32.
    Gradient: 2 g (x - mean) / (n - correction).
    Source: torch.var, np.var.

    >>> tk.var(tk.tensor([1.0, 2.0, 3.0]))
    Tensor(1.)
    """
    ddof = correction if ddof is None else ddof
    return var_(x, axis=_axis(axis, dim, x), keepdims=keepdims or keepdim, ddof=ddof)


def std(
    x: Any,
    axis: Axis = None,
    keepdims: bool = False,
    *,
    correction: float = 1,
    ddof: float | None = None,
    dim: Axis = None,
    keepdim: bool = False,
) -> Any:
    """The standard deviation over `axis`: sqrt(sum((x - mean)^2) / (n - correction)).

    axis, dim: an int, a tuple, or None for all axes.
    keepdims, keepdim: keep the reduced axes, with size 1.
    correction: 1 by default, as in PyTorch. `np.std(t)` keeps NumPy's default of 0.
    ddof: NumPy's name for `correction`.
    Integers become float32.
    Gradient: g (x - mean) / ((n - correction) y), 0 where all elements are equal. The second
        derivative is NaN there.
    Source: torch.std, np.std.

    >>> tk.std(tk.tensor([1.0, 2.0, 3.0]))
    Tensor(1.)
    """
    ddof = correction if ddof is None else ddof
    return std_(x, axis=_axis(axis, dim, x), keepdims=keepdims or keepdim, ddof=ddof)


_CUMULATIVE = """The running {what} along `axis`: y_k is that of x_0 ... x_k.

axis, dim: an int, or None for the flattened array. Along axis 0 a number stays a number.
Gradient: {gradient}.
Source: np.{name}.

>>> tk.{name}(tk.tensor([1.0, 2.0, 3.0]))
Tensor({output})
"""


def _along(primitive: Op, what: str, gradient: str, output: str) -> Callable[..., Any]:
    """A cumulative op with NumPy's default: the flattened array where no axis is given."""

    def cumulative(x: Any, axis: int | None = None, *, dim: int | None = None) -> Any:
        axis = dim if dim is not None else axis
        if axis is None:
            return primitive(x.reshape(-1), axis=0)
        return primitive(x, axis=axis) if x.ndim else of_number(x, axis=axis)

    of_number = number_as_vector(primitive)
    name = primitive.__name__
    cumulative.__name__ = cumulative.__qualname__ = name
    cumulative.__doc__ = _CUMULATIVE.format(what=what, gradient=gradient, name=name, output=output)
    return cumulative


cumsum = _along(cumsum_, "sum", "the running sum of g from the end", "[1., 3., 6.]")
cumprod = _along(cumprod_, "product", "exact where elements are 0", "[1., 2., 6.]")
