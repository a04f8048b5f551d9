"""`Parameter`: a Tensor that a module registers and an optimizer trains."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_kr.tensor import Tensor


class Parameter(Tensor):
    """A leaf Tensor that a `Module` registers when it is assigned to an attribute.

    data: an ndarray or Tensor, whose memory is shared; or Python floats, which become float32.
    requires_grad: False freezes it: it stays in `state_dict()` and gets no gradient.

    Raises TypeError for integers and booleans with requires_grad (make them a buffer).

    >>> nn.Parameter([1.0, 2.0])
    Parameter([1., 2.])
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad=requires_grad)

    def __reduce__(self) -> Any:
        return type(self), (self._data, self._requires_grad)

    def __repr__(self) -> str:
        body = super().__repr__().removeprefix("Tensor").replace("\n", "\n   ")
        return f"Parameter{body.replace(', requires_grad=True', '')}"


def size(name: str, value: Any) -> int:
    """A count of features or channels. Raises ValueError below 1, TypeError for no integer."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}.")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}.")
    return int(value)


def parameter(shape: tuple[int, ...], dtype: Any, fill: float = 0.0) -> Parameter:
    """A new parameter of a floating dtype, float32 by default."""
    dtype = np.dtype(np.float32 if dtype is None else dtype)
    if dtype.kind != "f":
        raise TypeError(f"Parameter: expected a floating dtype, got {dtype}.")
    return Parameter(np.full(shape, fill, dtype))
