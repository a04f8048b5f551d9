"""A module as a pure function of its parameters, for `grad`, `vjp`, `hessian` and the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinygrad_kr.nn.module import Module
from tinygrad_kr.tensor import Tensor


def functional_call(
    module: Module, tensors: Mapping[str, Any], args: Any = (), kwargs: Any = None
) -> Any:
    """module(*args, **kwargs) with other Tensors in place of some parameters and buffers.

    tensors: path -> Tensor (or array) of the same shape. A shared parameter is replaced everywhere.
        Afterwards the module is as before, also after an exception.
    args: a tuple of positional arguments, or the only one.

    Raises KeyError for a path that names no parameter or buffer, ValueError for another shape.
    Source: `torch.func.functional_call`.

    >>> net, x = nn.Linear(2, 1, bias=False), tk.ones(1, 2)
    >>> nn.functional_call(net, {"weight": tk.tensor([[3.0, 4.0]])}, x)
    Tensor([[7.]])
    """
    own: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    own |= dict(module.named_buffers(remove_duplicate=False))
    replacements: dict[int, Tensor] = {}
    for path, value in tensors.items():
        if path not in own:
            raise KeyError(
                f"functional_call: expected a parameter or buffer of {type(module).__name__}, got "
                f"{path!r}."
            )
        tensor = value if isinstance(value, Tensor) else Tensor(value)
        if tensor.shape != own[path].shape:
            raise ValueError(
                f"functional_call: expected shape {own[path].shape} for {path}, got {tensor.shape}."
            )
        replacements[id(own[path])] = tensor
    originals = _replace(module, replacements)
    try:
        return module(*(args if isinstance(args, tuple) else (args,)), **(kwargs or {}))
    finally:
        for attributes, name, tensor in originals:
            attributes[name] = tensor


def _replace(
    module: Module, replacements: dict[int, Tensor]
) -> list[tuple[dict[str, Any], str, Tensor]]:
    """Put the replacements in place. Returns the originals with their owners."""
    originals = []
    for part in module.modules():
        attributes = vars(part)
        for name, value in attributes.items():
            if isinstance(value, Tensor) and id(value) in replacements:
                originals.append((attributes, name, value))
                attributes[name] = replacements[id(value)]
    return originals
