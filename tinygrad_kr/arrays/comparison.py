"""Comparison of floats within a tolerance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.arrays.operands import array_function, operands
from tinygrad_kr.ops.op import op

__all__ = ["allclose", "isclose"]


def _close(a: ndarray, b: ndarray, *, rtol: float, atol: float, equal_nan: bool) -> Any:
    """Whether |a - b| <= atol + rtol |b|, in the wider of the dtypes."""
    return np.isclose(a, b, rtol, atol, equal_nan)


_isclose = op(_close, name="isclose", variable="_isclose")


@array_function
def isclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """Elementwise test that |a - b| <= atol + rtol |b|.

    a, b: Tensors, arrays or numbers whose shapes broadcast. Infinities of one sign are close.
    equal_nan: whether NaN is close to NaN.
    The result is boolean, without a gradient.
    Raises ValueError for a negative tolerance, or if the shapes do not broadcast.
    Source: torch.isclose, np.isclose.

    >>> tk.isclose(tk.tensor([1.0, 2.0]), tk.tensor([1.0, 2.1]))
    Tensor([ True, False])
    """
    if rtol < 0 or atol < 0:
        raise ValueError(f"isclose: expected tolerances of at least 0, got {rtol} and {atol}.")
    return _isclose(*operands(a, b), rtol=rtol, atol=atol, equal_nan=equal_nan)


@array_function
def allclose(
    a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Test that all elements are close: |a - b| <= atol + rtol |b|; a Python bool.

    a, b, rtol, atol, equal_nan, errors: see `isclose`.
    Source: torch.allclose, np.allclose.

    >>> tk.allclose(tk.tensor([1.0, 2.0]), tk.tensor([1.0, 2.1]), rtol=0.1)
    True
    """
    return bool(isclose(a, b, rtol, atol, equal_nan).all())
