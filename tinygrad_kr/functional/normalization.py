"""Normalisation to mean 0 and variance 1, over a batch or within a sample; and to norm 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinygrad_kr.arrays import reduction
from tinygrad_kr.arrays.joining import broadcast_tensors
from tinygrad_kr.arrays.operands import either_name, no_axes
from tinygrad_kr.linalg import vector_norm
from tinygrad_kr.ops import network
from tinygrad_kr.ops.axes import axis_index
from tinygrad_kr.ops.elementwise import absolute, maximum
from tinygrad_kr.ops.node import Node, constant
from tinygrad_kr.ops.reduction import mean_, norm_, p_norm_, var_
from tinygrad_kr.ops.tracing import tracing


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """(x - mean) / sqrt(var + eps) weight + bias, for each channel (axis 1).

    input: (N, C, ...). weight, bias, running_mean, running_var: (C,) or None.
    training: use the mean and variance of the batch and the spatial axes. The running ones move
        towards them in place, r + momentum (batch - r), with the variance that divides by n - 1.
        False uses the running ones.

    Raises ValueError for shapes that do not fit, and in training for one value per channel, which
    has no variance.
    Source: Ioffe and Szegedy, Batch normalization (2015).

    >>> x = tk.tensor([[1.0], [3.0]])
    >>> F.batch_norm(x, None, None, training=True).numpy().round(3)
    array([[-1.],
           [ 1.]], dtype=float32)
    """
    if input.ndim < 2:
        raise ValueError(f"batch_norm: expected input (N, C, ...), got shape {input.shape}.")
    channels = input.shape[1]
    given = {
        "running_mean": running_mean,
        "running_var": running_var,
        "weight": weight,
        "bias": bias,
    }
    for name, value in given.items():
        if value is not None and value.shape != (channels,):
            raise ValueError(
                f"batch_norm: expected {name} of shape {(channels,)} for input {input.shape}, got "
                f"{value.shape}."
            )
    shape = (channels, *[1] * (input.ndim - 2))
    if training or running_mean is None or running_var is None:
        y = _by_batch(input, running_mean, running_var, training, momentum, eps)
    else:
        y = (input - running_mean.reshape(shape)) * (running_var.reshape(shape) + eps) ** -0.5
    return _scaled(y, weight, bias, shape)


def _by_batch(
    input: Any, running_mean: Any, running_var: Any, training: bool, momentum: float, eps: float
) -> Any:
    axis = (0, *range(2, input.ndim))
    n = math.prod(input.shape[a] for a in axis)
    if training and n == 1:
        raise ValueError(
            "batch_norm: expected more than one value per channel in training, got input "
            f"{input.shape}. Call eval() on the module, or use drop_last=True in the loader"
        )
    if training and n:
        x = _values(input)
        _move(running_mean, mean_(x, axis=axis, keepdims=False), momentum)
        if running_var is not None:
            _move(running_var, var_(x, axis=axis, keepdims=False, ddof=1), momentum)
    return network.normalize(input, axis=axis, eps=eps)


def _move(running: Any, batch: Any, momentum: float) -> None:
    """running += momentum (batch - running), in place."""
    if running is None:
        return
    old = _values(running)
    new = (old + momentum * (batch - old)).astype(old.dtype)
    if isinstance(running, Node):
        running.copy_(new)  # type: ignore[attr-defined]
    else:
        running[...] = new


def _values(x: Any) -> Any:
    """`x` without its history: an array, or a Tensor while `compile` traces."""
    if not isinstance(x, Node):
        return x
    return x._data if tracing() is None else constant(x._data)


def _scaled(y: Any, weight: Any, bias: Any, shape: tuple[int, ...]) -> Any:
    if weight is not None:
        y = y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


def layer_norm(
    input: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Any:
    """(x - mean) / sqrt(var + eps) weight + bias, over the last axes of each sample.

    normalized_shape: the sizes of these axes, and the shape of `weight` and `bias`.
    input: (..., *normalized_shape); the result has its shape.

    Raises ValueError if `input` does not end with `normalized_shape`.
    Source: Ba et al., Layer normalization (2016).

    >>> F.layer_norm(tk.tensor([[1.0, 3.0], [0.0, 8.0]]), 2).numpy().round(3)
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    """
    last = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not last or input.shape[-len(last) :] != last:
        raise ValueError(
            f"layer_norm: expected input (..., {', '.join(map(str, last))}), got {input.shape}."
        )
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and value.shape != last:
            raise ValueError(f"layer_norm: expected {name} of shape {last}, got {value.shape}.")
    if weight is not None and bias is not None:
        return network.layer_norm(input, weight, bias, axes=len(last), eps=eps)
    y = network.normalize(input, axis=tuple(range(-len(last), 0)), eps=eps)
    return _scaled(y, weight, bias, last)


def group_norm(
    input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """`layer_norm` over each of `num_groups` groups of channels (axis 1).

    input: (N, C, ...); the result has its shape. weight, bias: (C,) or None.

    Raises ValueError if the channels do not divide into the groups.
    Source: Wu and He, Group normalization (2018).

    >>> F.group_norm(tk.tensor([[1.0, 3.0, 0.0, 8.0]]), num_groups=2).numpy().round(3)
    array([[-1.,  1., -1.,  1.]], dtype=float32)
    """
    if input.ndim < 2 or num_groups < 1 or input.shape[1] % num_groups:
        raise ValueError(
            f"group_norm: expected channels (axis 1) that divide into {num_groups} groups, got "
            f"input {input.shape}."
        )
    n, channels = input.shape[:2]
    grouped = input.reshape(n, num_groups, channels // num_groups, *input.shape[2:])
    y = network.normalize(grouped, axis=tuple(range(2, grouped.ndim)), eps=eps)
    return _scaled(y.reshape(input.shape), weight, bias, (channels, *[1] * (input.ndim - 2)))


@either_name
def normalize(
    input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12, *, axis: int | None = None
) -> Any:
    """x / max(||x||_p, eps) along `dim`: vectors of norm 1.

    input: any shape; the result has its shape. p: as `ord` of `tk.linalg.vector_norm`.
    A vector shorter than eps is divided by eps, so 0 stays 0.

    >>> F.normalize(tk.tensor([[3.0, 4.0]]))
    Tensor([[0.6, 0.8]])
    """
    if input.ndim:
        axis_index(dim, input.ndim, "normalize")
    else:
        no_axes(dim)
    return input / _norm_of_at_least(input, p, dim, eps)


@either_name
def cosine_similarity(
    x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8, *, axis: int | None = None
) -> Any:
    """x1 . x2 / (max(||x1||, eps) max(||x2||, eps)) along `dim`: the cosine of their angle.

    x1, x2: shapes that broadcast. dim: an axis of the common shape, which the result lacks.

    >>> F.cosine_similarity(tk.tensor([[1.0, 0.0]]), tk.tensor([[1.0, 1.0]])).numpy().round(4)
    array([0.7071], dtype=float32)
    """
    for x in (x1, x2):
        if x.ndim:
            axis_index(dim, x.ndim, "cosine_similarity")
    if x1.shape != x2.shape:
        x1, x2 = broadcast_tensors(x1, x2)
    return reduction.sum(normalize(x1, 2.0, dim, eps) * normalize(x2, 2.0, dim, eps), axis=dim)


def _norm_of_at_least(x: Any, p: float, dim: int, eps: float) -> Any:
    """max(||x||_p, eps) along `dim`."""
    if not x.ndim:
        return maximum(absolute(x), eps)
    if p == 2:
        return norm_(x, axis=dim, keepdims=True, least=float(eps))
    if p in (math.inf, 1):
        reduced = reduction.amax if p == math.inf else reduction.sum
        return maximum(reduced(absolute(x), dim, True), eps)
    if isinstance(p, int | float) and p > 1:
        return p_norm_(x, p=float(p), axis=dim, keepdims=True, least=float(eps))
    return maximum(vector_norm(x, p, axis=dim, keepdims=True), eps)
