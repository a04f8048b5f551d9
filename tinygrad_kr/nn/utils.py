"""Helpers for parameters: clipping, one vector of all of them, weight normalisation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, TypeVar

from tinygrad_kr.arrays.joining import cat
from tinygrad_kr.arrays.operands import either_name
from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.linalg import vector_norm
from tinygrad_kr.nn.module import Module
from tinygrad_kr.nn.parameter import Parameter
from tinygrad_kr.optim.clip import clip_grad_norm_, clip_grad_value_
from tinygrad_kr.tensor import Tensor, note_change

M = TypeVar("M", bound=Module)

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "parameters_to_vector",
    "remove_weight_norm",
    "vector_to_parameters",
    "weight_norm",
]


def __dir__() -> list[str]:
    return __all__


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters as one vector, in their order; it is differentiable.

    Raises ValueError for no parameters. Source: torch.nn.utils.parameters_to_vector.

    >>> nn.utils.parameters_to_vector(nn.Linear(2, 3).parameters()).shape
    (9,)
    """
    parts = [parameter.reshape(-1) for parameter in parameters]
    if not parts:
        raise ValueError("parameters_to_vector: expected at least one parameter, got none.")
    vector: Tensor = cat(parts, 0)
    return vector


def vector_to_parameters(vec: Any, parameters: Iterable[Tensor]) -> None:
    """Write a vector into the parameters, the reverse of `parameters_to_vector`. They stay leaves.

    vec: (n,), with as many elements as the parameters have.
    Raises ValueError for another shape, before anything is written.
    Source: torch.nn.utils.vector_to_parameters.

    >>> layer = nn.Linear(1, 2)
    >>> nn.utils.vector_to_parameters(tk.arange(4.0), layer.parameters())
    >>> layer.bias
    Parameter([2., 3.])
    """
    owners = list(parameters)
    total = sum(parameter.size for parameter in owners)
    if tuple(vec.shape) != (total,):
        raise ValueError(f"vector_to_parameters: expected shape {(total,)}, got {vec.shape}.")
    start = 0
    with no_grad():
        for parameter in owners:
            end = start + parameter.size
            parameter.copy_(vec[start:end].reshape(parameter.shape))
            start = end


Weights = tuple[tuple[str, int | None], ...]  # names, and the axis of the lengths of each


@cache
def _subclass(base: Any, weights: Weights) -> Any:
    """A subclass of the same name in which each weight is a property, g v / ||v||."""

    def reduce_ex(module: Module, protocol: Any) -> Any:
        return _empty, (base, weights), vars(module)

    own: dict[str, Any] = {name: property(_weight_of(name, dim)) for name, dim in weights}
    own |= {"__module__": base.__module__, "__doc__": base.__doc__, "__reduce_ex__": reduce_ex}
    return type(base.__name__, (base,), own | {"_base": base, "_weights": weights})


def _weight_of(name: str, dim: int | None) -> Callable[[Module], Any]:
    def weight(module: Module) -> Any:
        length, direction = (vars(module)[f"{name}_{part}"] for part in "gv")
        return direction * (length / _length(direction, dim))

    return weight


def _empty(base: Any, weights: Weights) -> Any:
    """A module to unpickle into."""
    cls = _subclass(base, weights)
    return cls.__new__(cls)


def _become(module: Any, base: Any, weights: Weights) -> None:
    note_change()
    module.__class__ = _subclass(base, weights) if weights else base


def _length(v: Any, dim: int | None) -> Any:
    """The norm over all axes but `dim`, which are kept; over all of them for None."""
    axes = tuple(axis for axis in range(v.ndim) if axis != dim)
    return vector_norm(v, axis=axes, keepdims=dim is not None) if axes else abs(v)


@either_name
def weight_norm(module: M, name: str = "weight", dim: int | None = 0, *, axis: int | None = 0) -> M:
    """Learn the length and the direction of a weight apart: w = g v / ||v||. Returns the module.

    The parameter `name` becomes two: `name`_g, its norms, and `name`_v, its values. The weight is
    computed from them whenever it is read. Make the optimizer after that.
    dim: the axis whose slices have a length each: 0 for one per output. None, or -1 as in PyTorch,
        for one length.

    Raises ValueError for a name that is no parameter, or is normalised already, or for `dim`.
    Source: Salimans and Kingma, Weight normalization (2016); torch.nn.utils.weight_norm.

    >>> layer = nn.utils.weight_norm(nn.Linear(2, 3))
    >>> {key: value.shape for key, value in layer.state_dict().items()}
    {'bias': (3,), 'weight_g': (3, 1), 'weight_v': (3, 2)}
    """
    weight = vars(module).get(name)
    if not isinstance(weight, Parameter):
        raise ValueError(
            f"weight_norm: expected the name of a parameter of {type(module).__name__}, got "
            f"{name!r}."
        )
    if dim is not None and not -1 <= dim < weight.ndim:
        raise ValueError(f"weight_norm: expected dim of shape {weight.shape}, or None, got {dim}.")
    dim = None if dim == -1 else dim
    delattr(module, name)
    values = weight.detach()
    module.register_parameter(f"{name}_g", Parameter(_length(values, dim)))
    module.register_parameter(f"{name}_v", Parameter(values))
    base, weights = _normalised(module)
    _become(module, base, (*weights, (name, dim)))
    return module


def _normalised(module: Any) -> tuple[Any, Weights]:
    """The class that a module was made of, and which of its weights are normalised."""
    cls = type(module)
    return getattr(cls, "_base", cls), getattr(cls, "_weights", ())


def remove_weight_norm(module: M, name: str = "weight") -> M:
    """Make the weight one parameter again, with its values as they are. Returns the module.

    Raises ValueError for a weight that is not normalised.

    >>> layer = nn.utils.remove_weight_norm(nn.utils.weight_norm(nn.Linear(2, 3)))
    >>> [name for name, _ in layer.named_parameters()]
    ['bias', 'weight']
    """
    base, weights = _normalised(module)
    kept = tuple(pair for pair in weights if pair[0] != name)
    if kept == weights:
        raise ValueError(
            f"remove_weight_norm: expected a weight with weight_norm in {type(module).__name__}, "
            f"got {name!r}."
        )
    weight = getattr(module, name).detach()
    _become(module, base, kept)
    for part in "gv":
        delattr(module, f"{name}_{part}")
    module.register_parameter(name, Parameter(weight))
    return module
