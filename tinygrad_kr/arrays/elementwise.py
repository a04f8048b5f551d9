"""Elements limited, masked or replaced."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_kr.arrays.operands import array_function
from tinygrad_kr.ops import elementwise
from tinygrad_kr.ops.elementwise import isnan, where
from tinygrad_kr.ops.node import Node

__all__ = ["clamp", "clip", "masked_fill", "nan_to_num"]


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


clamp = clip


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
