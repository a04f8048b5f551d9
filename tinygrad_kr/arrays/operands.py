"""The arguments of functions of arrays: Tensors, ndarrays, lists and numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy import ndarray
from numpy.exceptions import AxisError

from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.op import astype, common_dtype, refuse_masked
from tinygrad_kr.ops.tracing import tracers

P = ParamSpec("P")
R = TypeVar("R")


def operands(*values: Any) -> list[Any]:
    """Tensors and ndarrays as they are; lists and numbers as arrays in the dtype of those."""
    given = [x for x in values if isinstance(x, Node | ndarray)]
    for x in given:
        refuse_masked(x)
    dtype = common_dtype(given) if given else None
    return [x if isinstance(x, Node | ndarray) else _as_operand(x, dtype) for x in values]


def _as_operand(x: Any, dtype: Any) -> ndarray:
    array = as_array(x)
    return as_array(x, dtype) if dtype is not None and array.dtype.kind == "f" else array


def list_of(tensors: Any, name: str) -> list[Any]:
    parts = list(tensors)
    if not parts:
        raise ValueError(f"{name}: expected at least one Tensor, got none.")
    return operands(*parts)


def array_function(function: Callable[P, R]) -> Callable[P, R]:
    """Accept a list or a number as the first argument of a function of arrays.

    The method of `Tensor` is the function itself, `__wrapped__`.
    """

    @wraps(function)
    def of_operand(x: Any, /, *args: Any, **kwargs: Any) -> R:
        if not isinstance(x, Node | ndarray):
            x = operands(x)[0]
        elif isinstance(x, ndarray):
            refuse_masked(x, function.__name__)
        return function(x, *args, **kwargs)

    return of_operand  # type: ignore[return-value]


def number_as_vector(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function along one axis accept a number, as PyTorch does.

    The function receives a vector of one element. Its results become numbers again.
    """

    @wraps(function, updated=())  # of an op it is no op
    def of_vector(x: Any, /, *args: Any, **kwargs: Any) -> Any:
        if x.ndim:
            return function(x, *args, **kwargs)
        result: Any = function(x.reshape(1), *args, **kwargs)
        if isinstance(result, tuple):
            return type(result)(*(part.reshape(()) for part in result))
        return result.reshape(())

    return of_vector  # type: ignore[return-value]


def no_axes(axis: Any) -> tuple[()]:
    """The axes of a number, where `axis` is 0 or -1 or a tuple of one; AxisError for others."""
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    for a in axes:
        if a not in (0, -1):
            raise AxisError(a, 0)
    if len(axes) > 1:
        raise ValueError(f"expected an axis once, got {axis} of a 0-d array.")
    return ()


def cast_floating(x: Any, dtype: Any, name: str) -> Any:
    """`x` in a floating dtype, or as it is for None; TypeError for other dtypes."""
    if dtype is None:
        return x
    if np.dtype(dtype).kind != "f":
        raise TypeError(f"{name}: expected a floating dtype, got {np.dtype(dtype)}.")
    return astype(x, dtype=np.dtype(dtype))


def floating(x: Any) -> Any:
    """Integers as float32."""
    return x if x.dtype.kind == "f" else x.astype(np.float32)


def as_array(data: Any, dtype: Any = None) -> ndarray:
    """`data` as a real array. Python floats become float32, ints int64; an ndarray keeps its dtype.

    Raises TypeError for complex, text and object data, masked arrays, and lists that hold Tensors.
    """
    if isinstance(data, Node):
        if tracers and dtype is not None and data._data.dtype != dtype:
            data = data.astype(dtype)  # type: ignore[attr-defined]  # which `compile` records
        data = data._data
    elif type(data) is not ndarray:
        refuse_masked(data)
    if isinstance(data, ndarray | np.generic):
        array = np.asarray(data, dtype=dtype)
    else:
        if _holds_tensor(data):
            raise TypeError(
                "Tensor: expected numbers, got a list of Tensors. Use tk.stack(...) or "
                "tk.concatenate(...)"
            )
        array = np.asarray(data, dtype=dtype)
        if dtype is None and array.dtype.kind == "f":
            array = array.astype(np.float32)
    if array.dtype.kind == "c":
        raise TypeError(
            "Tensor: expected real numbers, got complex ones. Make two Tensors of .real and .imag"
        )
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"Tensor: expected real numbers, got {array.dtype} from {type(data).__name__}."
        )
    return array


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """The dtype that `to` was given; TypeError for a device, of which there is none."""
    if isinstance(dtype, str) and dtype.partition(":")[0] in {"cpu", "cuda", "gpu", "mps"}:
        raise TypeError(
            f"to: expected a dtype, got the device {dtype!r}. Leave it out: all is in NumPy arrays "
            "on the CPU"
        )
    found: np.dtype[Any] = np.dtype(dtype)
    return found


def _holds_tensor(data: Any) -> bool:
    if not isinstance(data, list | tuple):
        refuse_masked(data)
        return False
    return any(isinstance(item, Node) or _holds_tensor(item) for item in data)
