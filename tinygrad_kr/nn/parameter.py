"""`Parameter`: a Tensor that a module finds and an optimizer trains."""

from __future__ import annotations

from typing import Any

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
