"""What functions of arrays are given: Tensors, ndarrays, lists and numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.op import common_dtype

P = ParamSpec("P")
R = TypeVar("R")


def operands(*values: Any) -> list[Any]:
    """Tensors and ndarrays as they are; lists and numbers as arrays in the dtype of those."""
    given = [x for x in values if isinstance(x, Node | ndarray)]
    dtype = common_dtype(given) if given else None
    return [x if isinstance(x, Node | ndarray) else _as_operand(x, dtype) for x in values]


def _as_operand(x: Any, dtype: Any) -> ndarray:
    array = as_array(x)
    return as_array(x, dtype) if dtype is not None and array.dtype.kind == "f" else array


def list_of(tensors: Any, name: str) -> list[Any]:
    parts = list(tensors)
    if not parts:
        raise ValueError(f"{name} needs at least one Tensor")
    return operands(*parts)


def array_function(function: Callable[P, R]) -> Callable[P, R]:
    """Let the first argument of a function of arrays be a list or a number as well.

    `Tensor` takes the function itself, which is `__wrapped__`, as its method.
    """

    @wraps(function)
    def of_operand(x: Any, /, *args: Any, **kwargs: Any) -> R:
        if not isinstance(x, Node | ndarray):
            x = operands(x)[0]
        return function(x, *args, **kwargs)

    return of_operand  # type: ignore[return-value]


def floating(x: Any) -> Any:
    """Integers as float32."""
    return x if x.dtype.kind == "f" else x.astype(np.float32)


def as_array(data: Any, dtype: Any = None) -> ndarray:
    """`data` as a real array: Python floats become float32, ints int64; an ndarray keeps its dtype.

    Raises TypeError for complex, text and object data, and for lists that hold Tensors.
    """
    if isinstance(data, Node):
        data = data._data
    if isinstance(data, ndarray | np.generic):
        array = np.asarray(data, dtype=dtype)
    else:
        if _holds_tensor(data):
            raise TypeError(
                "a list of Tensors is not a Tensor: use tk.stack(...) or tk.concatenate(...)"
            )
        array = np.asarray(data, dtype=dtype)
        if dtype is None and array.dtype.kind == "f":
            array = array.astype(np.float32)
    if array.dtype.kind == "c":
        raise TypeError(
            "complex numbers are not supported: make two real Tensors of .real and .imag"
        )
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"a Tensor holds real numbers, not {array.dtype} (from {type(data).__name__})"
        )
    return array


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """What `to` was given; TypeError, that there is none, for a device."""
    if isinstance(dtype, str) and dtype.partition(":")[0] in {"cpu", "cuda", "gpu", "mps"}:
        raise TypeError(
            f"to() takes a dtype, not the device {dtype!r}: everything is in NumPy arrays on the "
            "CPU, so leave it out"
        )
    found: np.dtype[Any] = np.dtype(dtype)
    return found


def _holds_tensor(data: Any) -> bool:
    return isinstance(data, list | tuple) and any(
        isinstance(item, Node) or _holds_tensor(item) for item in data
    )
