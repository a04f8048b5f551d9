"""Normalisation to mean 0 and variance 1, over a batch or within a sample; and to norm 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_kr.arrays import reduction
from tinygrad_kr.arrays.joining import broadcast_tensors
from tinygrad_kr.arrays.operands import either_name, no_axes
from tinygrad_kr.linalg import vector_norm
from tinygrad_kr.ops import channels, kernels, network
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
    _demand_channels(
        "batch_norm",
        input,
        running_mean=running_mean, running_var=running_var, weight=weight, bias=bias,
    )  # fmt: skip
    by_batch = training or running_mean is None or running_var is None
    n = math.prod(input.shape) // max(input.shape[1], 1)
    if training and n == 1:
        raise ValueError(
            "batch_norm: expected more than one value per channel in training, got input "
            f"{input.shape}. Call eval() on the module, or use drop_last=True in the loader"
        )
    if _is_one_op(input, running_mean, running_var, weight, bias):
        known = _moments(input, 0) if by_batch else _copies(running_mean, running_var)
        if training:
            _move(running_mean, known[0], momentum)
            _move(running_var, known[1] * (n / (n - 1)), momentum)
        how = {"groups": 0, "eps": eps, "known": known, "fixed": not by_batch}
        return channels.channel_norm(input, weight, bias, **how)
    shape, axis = (input.shape[1], *[1] * (input.ndim - 2)), (0, *range(2, input.ndim))
    if not by_batch:
        y = (input - running_mean.reshape(shape)) * (running_var.reshape(shape) + eps) ** -0.5
        return _scaled(y, weight, bias, shape)
    if training and n:
        x = _values(input)
        _move(running_mean, mean_(x, axis=axis, keepdims=False), momentum)
        if running_var is not None:
            _move(running_var, var_(x, axis=axis, keepdims=False, ddof=1), momentum)
    return _scaled(network.normalize(input, axis=axis, eps=eps), weight, bias, shape)


def _is_one_op(input: Any, mean: Any, var: Any, *given: Any) -> bool:
    """Whether one op computes the norm: for elements of one dtype, outside of a trace.

    A trace has the simple ops, which a compiled step fuses with those around them.
    """
    if tracing() is not None or not math.prod(input.shape) or input.dtype.kind != "f":
        return False
    if any(isinstance(x, Node) and x._requires_grad for x in (mean, var)):
        return False
    return all(x is None or x.dtype == input.dtype for x in (mean, var, *given))


def _moments(input: Any, groups: int) -> channels.Moments:
    return channels.moments(input._data if isinstance(input, Node) else input, groups)


def _copies(*running: Any) -> Any:
    """Arrays of the running statistics, which a later step overwrites."""
    return tuple(np.array(x._data if isinstance(x, Node) else x) for x in running)


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
    last = _last_axes("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    if weight is not None and bias is not None and input.size >= kernels.MIN_ELEMENTS:
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
    if _is_one_op(input, None, None, weight, bias):
        known = _moments(input, num_groups)
        how = {"groups": num_groups, "eps": eps, "known": known}
        return channels.channel_norm(input, weight, bias, **how)
    n, size = input.shape[:2]
    grouped = input.reshape(n, num_groups, size // num_groups, *input.shape[2:])
    y = network.normalize(grouped, axis=tuple(range(2, grouped.ndim)), eps=eps)
    return _scaled(y.reshape(input.shape), weight, bias, (size, *[1] * (input.ndim - 2)))


def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """`batch_norm` of each sample alone: mean and variance of a channel over its spatial axes.

    input: (N, C, ...). weight, bias, running_mean, running_var: (C,) or None.
    use_input_stats: use these statistics. The running ones move towards their mean over the batch,
        in place, with the variance that divides by n - 1. False uses the running ones.

    Raises ValueError for shapes that do not fit, and with `use_input_stats` for one value per
    channel, which has no variance.
    Source: Ulyanov et al., Instance normalization (2016).

    >>> F.instance_norm(tk.tensor([[[1.0, 3.0], [0.0, 8.0]]])).numpy().round(3)
    array([[[-1.,  1.],
            [-1.,  1.]]], dtype=float32)
    """
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ValueError(
                "instance_norm: expected running_mean and running_var with use_input_stats=False, "
                "got None."
            )
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if input.ndim < 3 or math.prod(input.shape[2:]) == 1:
        raise ValueError(
            "instance_norm: expected input (N, C, ...) with more than one value per channel, got "
            f"{input.shape}."
        )
    _demand_channels(
        "instance_norm",
        input,
        running_mean=running_mean, running_var=running_var, weight=weight, bias=bias,
    )  # fmt: skip
    axis = tuple(range(2, input.ndim))
    if _is_one_op(input, running_mean, running_var, weight, bias):
        n, known = math.prod(input.shape[2:]), _moments(input, input.shape[1])
        _move(running_mean, known[0].mean(0), momentum)
        _move(running_var, known[1].mean(0) * (n / (n - 1)), momentum)
        how = {"groups": input.shape[1], "eps": eps, "known": known}
        return channels.channel_norm(input, weight, bias, **how)
    x = _values(input)
    if running_mean is not None:
        _move(running_mean, mean_(x, axis=(0, *axis), keepdims=False), momentum)
    if running_var is not None:
        each = var_(x, axis=axis, keepdims=False, ddof=1)
        _move(running_var, mean_(each, axis=(0,), keepdims=False), momentum)
    y = network.normalize(input, axis=axis, eps=eps)
    return _scaled(y, weight, bias, (-1, *[1] * len(axis)))


def rms_norm(
    input: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    eps: float | None = None,
) -> Any:
    """x / sqrt(mean(x^2) + eps) weight, over the last axes: `layer_norm` without a mean.

    input: (..., *normalized_shape); the result has its shape. weight: of shape `normalized_shape`.
    eps: default: the machine epsilon of the input's dtype.

    Raises ValueError if the input does not end with `normalized_shape`, or for another weight.
    Source: Zhang and Sennrich, Root mean square layer normalization (2019).

    >>> F.rms_norm(tk.tensor([[1.0, 7.0]]), 2).numpy().round(3)
    array([[0.2, 1.4]], dtype=float32)
    """
    last = _last_axes("rms_norm", input, normalized_shape, weight=weight)
    eps = float(np.finfo(input.dtype).eps) if eps is None else eps
    axis = tuple(range(-len(last), 0))
    y = input * (mean_(input * input, axis=axis, keepdims=True) + eps) ** -0.5
    return y if weight is None else y * weight


def _last_axes(
    name: str, input: Any, normalized_shape: int | Sequence[int], **given: Any
) -> tuple[int, ...]:
    """The sizes of the last axes, after a check of the input and the parameters."""
    last = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not last or input.shape[-len(last) :] != last:
        raise ValueError(
            f"{name}: expected input (..., {', '.join(map(str, last))}), got {input.shape}."
        )
    for key, value in given.items():
        if value is not None and value.shape != last:
            raise ValueError(f"{name}: expected {key} of shape {last}, got {value.shape}.")
    return last


def _demand_channels(name: str, input: Any, **given: Any) -> None:
    """Raise ValueError for a parameter or statistic that is no vector of the channels."""
    channels = input.shape[1]
    for key, value in given.items():
        if value is not None and value.shape != (channels,):
            raise ValueError(
                f"{name}: expected {key} of shape {(channels,)} for input {input.shape}, got "
                f"{value.shape}."
            )


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
def pairwise_distance(
    x1: Any,
    x2: Any,
    p: float = 2.0,
    eps: float = 1e-6,
    keepdim: bool = False,
    *,
    keepdims: bool = False,
) -> Any:
    """||x1 - x2 + eps||_p along the last axis: the distance of vectors.

    x1, x2: shapes that broadcast; the result lacks their last axis, but for `keepdim`.
    p: as `ord` of `tk.linalg.vector_norm`. eps: keeps the derivative finite for equal vectors.

    Source: torch.nn.functional.pairwise_distance.

    >>> F.pairwise_distance(tk.tensor([[0.0, 0.0]]), tk.tensor([[3.0, 4.0]])).numpy().round(3)
    array([5.], dtype=float32)
    """
    return vector_norm(x1 - x2 + eps, p, axis=-1, keepdims=keepdim)


@either_name
def cosine_similarity(
    x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8, *, axis: int | None = None
) -> Any:
    """x1 . x2 / (max(||x1||, eps) max(||x2||, eps)) along `dim`: the cosine of their angle.

    x1, x2: shapes that broadcast. dim: an axis of the common shape, which the result lacks.

    >>> F.cosine_similarity(tk.tensor([[1.0, 0.0]]), tk.tensor([[1.0, 1.0]])).numpy().round(4)
    array([0.7071], dtype=float32)
    """
    if x1.shape != x2.shape:
        x1, x2 = broadcast_tensors(x1, x2)
    if x1.ndim:
        axis_index(dim, x1.ndim, "cosine_similarity")
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
