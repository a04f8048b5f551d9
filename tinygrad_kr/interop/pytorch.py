"""PyTorch's state dicts: its tensors into our modules, and back."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.files import refuse_path
from tinygrad_kr.nn.module import LoadResult, Module

__all__ = ["from_torch_state_dict", "to_torch_state_dict"]


def __dir__() -> list[str]:
    return __all__


def from_torch_state_dict(
    model: Module, state: Mapping[str, Any], strict: bool = True
) -> LoadResult:
    """Write the values of PyTorch's `module.state_dict()` into a module: all of them, or none.

    The keys are PyTorch's, and our layers have the same. The values are copied.
    state: path -> tensor, on any device. Floats may be narrower than those of the module: bfloat16
        and float16 become float32. They may not be wider, as digits would be lost.
    strict: refuse missing and unexpected keys. False returns them.

    PyTorch need not be installed for a `state` of arrays.
    Raises RuntimeError that lists every missing or unexpected key and every wrong shape or dtype,
        before anything is written; TypeError for anything but a mapping, and for a tensor that
        NumPy cannot hold, such as a sparse one; ValueError for the path of a `.pt` file, with the
        code that converts it in PyTorch.
    Source: torch.nn.Module.load_state_dict.

    >>> net = nn.Linear(2, 1)
    >>> state = {"weight": np.ones((1, 2), np.float32), "bias": np.zeros(1, np.float16)}
    >>> tk.interop.from_torch_state_dict(net, state)
    LoadResult(missing_keys=[], unexpected_keys=[])
    >>> net.weight
    Parameter([[1., 1.]])
    """
    name = "from_torch_state_dict"
    _check_module(name, model, f" Give the net of tinygrad_kr first: {name}(net, state)")
    refuse_path(name, state, "a state dict")
    if not isinstance(state, Mapping):
        hint = " Call its .state_dict()" if hasattr(state, "state_dict") else ""
        raise TypeError(f"{name}: expected a state dict, got {type(state).__name__}.{hint}")
    wanted = {path: array.dtype for path, array in model.state_dict().items()}
    arrays = {
        path: _widened(_array(path, value), wanted.get(path)) for path, value in state.items()
    }
    return model.load_state_dict(arrays, strict)


def _check_module(function: str, model: Any, fix: str) -> None:
    if not isinstance(model, Module):
        of_torch = type(model).__module__.partition(".")[0] == "torch"
        found = ("torch." if of_torch else "") + type(model).__name__
        raise TypeError(f"{function}: expected a Module, got {found}.{fix}")


def _array(path: str, value: Any) -> ndarray:
    """A tensor of PyTorch's as an array, bfloat16 as float32."""
    if not hasattr(value, "detach") or not hasattr(value, "cpu"):
        return np.asarray(value)
    try:
        value = value.detach().cpu()
        array: ndarray = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    except (TypeError, RuntimeError) as error:
        raise TypeError(f"from_torch_state_dict: {path}: {error}") from error
    return array


def _widened(array: ndarray, dtype: np.dtype[Any] | None) -> ndarray:
    """Floats in a dtype that holds each of them; all else as it is."""
    if dtype is None or array.dtype.kind != "f" or not np.can_cast(array.dtype, dtype):
        return array
    return array.astype(dtype)


def to_torch_state_dict(model: Module) -> dict[str, Any]:
    """Copies of a module's parameters and buffers as PyTorch's tensors, by path.

    Load it there with `module.load_state_dict(state)`; the layers have the same names.
    Raises ImportError without PyTorch; TypeError for anything but a module, and for a dtype that
        PyTorch lacks.
    Source: torch.nn.Module.state_dict.

    >>> state = tk.interop.to_torch_state_dict(nn.Linear(2, 1))     # doctest: +SKIP
    >>> torch.nn.Linear(2, 1).load_state_dict(state)                # doctest: +SKIP
    <All keys matched successfully>
    """
    hint = " Call its .state_dict()" if hasattr(model, "state_dict") else ""
    _check_module("to_torch_state_dict", model, hint)
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise ImportError("to_torch_state_dict: needs PyTorch. pip install torch") from error
    return {path: torch.from_numpy(array) for path, array in model.state_dict().items()}
