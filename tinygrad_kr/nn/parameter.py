"""`Parameter`: a Tensor that a module finds and an optimizer trains."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_kr.tensor import Tensor


class Parameter(Tensor):
    """A leaf Tensor that a `Module` registers when it is assigned to one of its attributes.

    data: shares memory with an ndarray or Tensor; Python floats become float32.
    requires_grad: False freezes it: it stays in `state_dict()` and gets no gradient.

    Raises TypeError for integers and booleans that should require grad (make them a buffer).
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
    """A count of features or channels; ValueError below 1, TypeError if it is no integer."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
    return int(value)


def parameter(shape: tuple[int, ...], dtype: Any, fill: float = 0.0) -> Parameter:
    """A new parameter of a floating dtype, float32 by default."""
    dtype = np.dtype(np.float32 if dtype is None else dtype)
    if dtype.kind != "f":
        raise TypeError(f"parameters have a floating dtype, not {dtype}")
    return Parameter(np.full(shape, fill, dtype))
