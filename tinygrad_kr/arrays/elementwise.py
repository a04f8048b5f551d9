"""Sums and quotients with PyTorch's options; elements limited, masked or interpolated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.arrays.operands import array_function, operands
from tinygrad_kr.ops import elementwise
from tinygrad_kr.ops.elementwise import isnan, where
from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.op import alias

__all__ = [
    "add", "addcdiv", "addcmul", "clamp", "clip", "div", "divide", "lerp", "masked_fill",
    "nan_to_num", "sub", "subtract",
]  # fmt: skip


def add(a: Any, b: Any, *, alpha: float = 1) -> Any:
    """a + alpha b, elementwise.

    a, b: shapes that broadcast. alpha: a number.
    Gradient: g for `a`, alpha g for `b`.
    Raises ValueError if the shapes do not broadcast. Source: torch.add, np.add.

    >>> tk.add(tk.tensor([1.0, 2.0]), 3, alpha=10)
    Tensor([31., 32.])
    """
    return elementwise.add(a, b if _is_one(alpha) else _scaled(a, b, alpha))


def subtract(a: Any, b: Any, *, alpha: float = 1) -> Any:
    """a - alpha b, elementwise.

    a, b: shapes that broadcast. alpha: a number.
    Gradient: g for `a`, -alpha g for `b`.
    Raises ValueError if the shapes do not broadcast. Source: torch.sub, np.subtract.

    >>> tk.subtract(tk.tensor([1.0, 2.0]), 3, alpha=10)
    Tensor([-29., -28.])
    """
    return elementwise.subtract(a, b if _is_one(alpha) else _scaled(a, b, alpha))


sub = alias("sub", subtract)


def _is_one(alpha: Any) -> bool:
    return type(alpha) is int and alpha == 1


def _scaled(a: Any, b: Any, alpha: float) -> Any:
    return elementwise.multiply(operands(a, b)[1], alpha)


def divide(a: Any, b: Any, *, rounding_mode: str | None = None) -> Any:
    """a / b, elementwise.

    a, b: shapes that broadcast. Integers become float32, unless the quotient is rounded.
    rounding_mode: "trunc" rounds it towards 0, "floor" down, None not at all.
    Gradient: g / b for `a`, -g a / b^2 for `b`; none of a rounded quotient, a constant.
    Raises ValueError for another `rounding_mode`, or if the shapes do not broadcast.
    Source: torch.div, np.divide.

    >>> tk.divide(tk.tensor([7, -7]), 2)
    Tensor([ 3.5, -3.5])
    >>> tk.divide(tk.tensor([7, -7]), 2, rounding_mode="trunc")
    Tensor([ 3, -3])
    """
    if rounding_mode is None:
        return elementwise.divide(a, b)
    if rounding_mode not in {"trunc", "floor"}:
        raise ValueError(
            f'divide: expected rounding_mode None, "trunc" or "floor", got {rounding_mode!r}.'
        )
    a, b = operands(a, b)
    if rounding_mode == "floor":
        return elementwise.floor_divide(a, b)
    if a.dtype.kind == "f" or b.dtype.kind == "f":
        return elementwise.trunc(elementwise.divide(a, b))
    below = elementwise.floor_divide(a, b)
    inexact = elementwise.not_equal(below * b, a)
    return below + elementwise.logical_and(inexact, elementwise.less(below, 0))


div = alias("div", divide)


@array_function
def clip(x: Any, min: Any = None, max: Any = None) -> Any:
    """`x` limited to [min, max], elementwise.

    min, max: numbers, arrays or Tensors; None for no bound. One of them at least is needed.
    Gradient: 1 where `x` was inside, bounds included, else 0. A bound that is a Tensor has a
        gradient too; then both have half of it where they are equal.
    Raises ValueError without a bound. Source: np.clip, torch.clamp.

    >>> tk.clip(tk.tensor([-1.0, 0.5, 2.0]), 0, 1)
    Tensor([0. , 0.5, 1. ])
    """
    if not isinstance(min, Node) and not isinstance(max, Node):
        return elementwise.clip(x, low=min, high=max)
    y = x if min is None else elementwise.maximum(x, min)
    return y if max is None else elementwise.minimum(y, max)


clamp = alias("clamp", clip)


@array_function
def masked_fill(x: Any, mask: Any, value: float) -> Any:
    """`x` with `value` where `mask` holds.

    mask: booleans that broadcast with `x`. value: a number, converted to the dtype of `x`.
    Gradient: g where `mask` does not hold, else 0. Source: torch.Tensor.masked_fill.

    >>> tk.masked_fill(tk.tensor([1.0, 2.0]), [True, False], 0.0)
    Tensor([0., 2.])
    """
    if isinstance(value, bool | int | float) and x.dtype.kind in "biu":
        value = x.dtype.type(value)
    return where(mask, value, x)


@array_function
def nan_to_num(
    x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Any:
    """`x` with NaN and infinities replaced by finite numbers.

    nan: for NaN. posinf, neginf: for inf and -inf, the largest numbers of the dtype by default.
    Gradient: g, and 0 where something was replaced. Source: np.nan_to_num.

    >>> tk.nan_to_num(tk.tensor([1.0, np.nan]))
    Tensor([1., 0.])
    """
    if x.dtype.kind != "f":
        return x
    largest = float(np.finfo(x.dtype).max)
    x = where(x == math.inf, largest if posinf is None else posinf, x)
    x = where(x == -math.inf, -largest if neginf is None else neginf, x)
    return where(isnan(x), nan, x)


@array_function
def addcmul(x: Any, a: Any, b: Any, *, value: float = 1) -> Any:
    """x + value a b, elementwise.

    a, b: Tensors, arrays or numbers that broadcast with `x`.
    Gradient: g for `x`, value b g for `a`, value a g for `b`.
    Raises ValueError if the shapes do not broadcast. Source: torch.addcmul.

    >>> tk.addcmul(tk.tensor([1.0, 2.0]), tk.tensor([3.0, 4.0]), 10.0, value=0.1)
    Tensor([4., 6.])
    """
    x, a, b = operands(x, a, b)
    return x + (a * b if value == 1 else value * a * b)


@array_function
def addcdiv(x: Any, a: Any, b: Any, *, value: float = 1) -> Any:
    """x + value a / b, elementwise.

    a, b: Tensors, arrays or numbers that broadcast with `x`.
    Gradient: g for `x`, value g / b for `a`, -value a g / b^2 for `b`.
    Raises ValueError if the shapes do not broadcast. Source: torch.addcdiv.

    >>> tk.addcdiv(tk.tensor([1.0, 2.0]), tk.tensor([3.0, 4.0]), 2.0)
    Tensor([2.5, 4. ])
    """
    x, a, b = operands(x, a, b)
    return x + (a / b if value == 1 else value * (a / b))


@array_function
def lerp(start: Any, end: Any, weight: Any) -> Any:
    """start + weight (end - start), elementwise; exactly `start` at weight 0 and `end` at 1.

    end, weight: Tensors, arrays or numbers that broadcast with `start`.
    Gradient: (1 - weight) g for `start`, weight g for `end`, (end - start) g for `weight`.
    Raises ValueError if the shapes do not broadcast. Source: torch.lerp.

    >>> tk.lerp(tk.tensor([0.0, 2.0]), tk.tensor([4.0, 4.0]), 0.25)
    Tensor([1. , 2.5])
    """
    start, end = operands(start, end)
    way = end - start
    if not isinstance(weight, Node | ndarray | list):
        return start + weight * way if abs(weight) < 0.5 else end - way * (1 - weight)
    weight = operands(start, weight)[1]
    return where(abs(weight) < 0.5, start + weight * way, end - way * (1 - weight))
