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
    """Limited to [min, max]; the gradient passes where it was inside, bounds included.

    A bound that is a Tensor gets its gradient too (half of it where they are equal).
    """
    if not isinstance(min, Node) and not isinstance(max, Node):
        return elementwise.clip(x, low=min, high=max)
    y = x if min is None else elementwise.maximum(x, min)
    return y if max is None else elementwise.minimum(y, max)


clamp = clip


@array_function
def masked_fill(x: Any, mask: Any, value: float) -> Any:
    """`value` where `mask` holds."""
    return where(mask, value, x)


@array_function
def nan_to_num(
    x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Any:
    """`x` with NaN and infinities replaced by finite numbers (the largest of the dtype by default).

    The gradient is 0 where something was replaced.
    """
    if x.dtype.kind != "f":
        return x
    largest = float(np.finfo(x.dtype).max)
    x = where(x == math.inf, largest if posinf is None else posinf, x)
    x = where(x == -math.inf, -largest if neginf is None else neginf, x)
    return where(isnan(x), nan, x)
