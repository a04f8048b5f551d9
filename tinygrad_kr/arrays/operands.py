"""The arguments of functions of arrays: Tensors, ndarrays, lists and numbers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import wraps
from types import CodeType
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy import ndarray
from numpy.exceptions import AxisError

from tinygrad_kr.ops.node import Node, user_frame
from tinygrad_kr.ops.op import astype, common_dtype, refuse_masked
from tinygrad_kr.ops.op import begin_with as begin_with

P = ParamSpec("P")
R = TypeVar("R")
Call = tuple[tuple[Any, ...], dict[str, Any]]  # the arguments of a call, by position and by name


def operands(*values: Any) -> list[Any]:
    """Tensors and ndarrays as they are; lists and numbers as arrays in the dtype of those."""
    given = [x for x in values if isinstance(x, _ARRAYS)]
    for x in given:
        refuse_masked(x)
    if len(given) == len(values):
        return given
    dtype = common_dtype(given) if given else None
    return [x if isinstance(x, _ARRAYS) else _as_operand(x, dtype) for x in values]


_ARRAYS = (Node, ndarray)


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
        if not isinstance(x, _ARRAYS):
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


# ------------------------------------------------------------------ names of arguments

_SYNONYMS = (
    ("axis", "dim", "axes", "dims"),
    ("keepdims", "keepdim"),
    ("axis1", "dim1"),
    ("axis2", "dim2"),
    ("shift", "shifts"),
)
"""What NumPy and PyTorch call one argument."""


class EitherName:
    """The synonyms in the signature of a function, and a call in the names that it reads.

    It reads the first synonym of its signature; `others` are moved there. The first may be `*axes`.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.name = function.__qualname__.removesuffix(".__init__")
        code = function.__code__
        names = _parameters(code)
        self.position = {name: i for i, name in enumerate(code.co_varnames[: code.co_argcount])}
        self.variadic = names[0] if code.co_flags & _VARIADIC else ""
        if self.variadic:
            self.position[self.variadic] = code.co_argcount
        self.first = {
            other: found[0]
            for synonyms in _SYNONYMS
            if (found := [name for name in names if name in synonyms])
            for other in (found if found[0] == self.variadic else found[1:])
        }
        self.others = frozenset(self.first)

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Raises TypeError where an argument is given by two names."""
        moved: dict[str, Any] = {}
        for name, value in kwargs.items():
            first = self.first.get(name, name)
            without_name = len(args) > self.position.get(first, math.inf)
            if first in moved or without_name:
                given = ["one without a name"] if without_name else []
                given += [n for n in kwargs if self.first.get(n, n) == first]
                raise TypeError(
                    f"{self.name}: expected {first} once, got {' and '.join(given)}. Leave one out"
                )
            moved[first] = value
        if self.variadic in moved:
            args = (*args, moved.pop(self.variadic))
        return args, moved


_VARIADIC = 0x04
"""Flag of a code object: it takes *args."""


def _parameters(code: CodeType) -> list[str]:
    """The names of parameters, `*args` first, then in the order of the signature."""
    count = code.co_argcount + code.co_kwonlyargcount
    variadic = code.co_varnames[count : count + 1] if code.co_flags & _VARIADIC else ()
    return [*variadic, *code.co_varnames[:count]]


def either_name(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function take an argument by NumPy's or by PyTorch's name: `axis` or `dim`.

    Its signature has both; the function reads the first. TypeError where both are given.
    """
    call = EitherName(function)
    others = call.others

    @wraps(function)
    def with_either(*args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs and not others.isdisjoint(kwargs):
            args, kwargs = call(args, kwargs)  # type: ignore[assignment]
        return function(*args, **kwargs)

    return with_either


def without_device(function: Callable[P, R]) -> Callable[P, R]:
    """Say what to write for PyTorch's `device=`; None is accepted, as there."""

    @wraps(function)
    def on_cpu(*args: P.args, **kwargs: P.kwargs) -> R:
        if "device" in kwargs and (device := kwargs.pop("device")) is not None:
            constructs = function.__name__ == "__init__"
            name = type(args[0]).__name__ if constructs else function.__qualname__
            raise TypeError(
                f"{name}: expected no device, got {device!r}. Leave it out: all is in NumPy arrays "
                "on the CPU"
            )
        return function(*args, **kwargs)

    return on_cpu


def warn_user(message: str, category: type[Warning] = DeprecationWarning) -> None:
    """A warning at the user's line."""
    frame = user_frame()
    if frame is not None:
        warnings.warn_explicit(
            message,
            category,
            frame.f_code.co_filename,
            frame.f_lineno,
            frame.f_globals.get("__name__"),
            frame.f_globals.setdefault("__warningregistry__", {}),
        )


# ------------------------------------------------------------------ dtypes


def floating(x: Any) -> Any:
    """Integers as float32."""
    return x if x.dtype.kind == "f" else x.astype(np.float32)


def cast(x: Any, dtype: Any) -> Any:
    """`x` in a dtype; as it is for None."""
    return x if dtype is None else astype(operands(x)[0], dtype=np.dtype(dtype))


def as_array(data: Any, dtype: Any = None) -> ndarray:
    """`data` as a real array. Python floats become float32, ints int64; an ndarray keeps its dtype.

    Raises TypeError for complex, text and object data, masked arrays, and lists that hold Tensors.
    """
    if isinstance(data, Node):
        data = data._data
    elif type(data) is not ndarray:
        refuse_masked(data)
    if type(data) is ndarray and dtype is None:
        array = data
    elif isinstance(data, ndarray | np.generic):
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
