"""Normalisation layers: mean 0 and variance 1, then a learned scale and shift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import tinygrad_kr.functional as F
from tinygrad_kr.nn import init
from tinygrad_kr.nn.module import Module
from tinygrad_kr.nn.parameter import Parameter, parameter, size
from tinygrad_kr.tensor import Tensor


class _BatchNorm(Module):
    """Base class of the batch normalisations."""

    _ranks: tuple[int, ...]
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    across: Any = None
    """The group whose ranks share the statistics in training (`Group.broadcast`); None: its own."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        self.num_features = size("num_features", num_features)
        self.eps, self.momentum = eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        shape = (num_features,)
        self.weight = parameter(shape, dtype, 1.0) if affine else None
        self.bias = parameter(shape, dtype) if affine and bias else None
        dtype = parameter(shape, dtype).dtype
        kept = track_running_stats
        self.register_buffer("running_mean", Tensor(np.zeros(shape, dtype)) if kept else None)
        self.register_buffer("running_var", Tensor(np.ones(shape, dtype)) if kept else None)
        self.register_buffer("num_batches_tracked", Tensor(np.array(0)) if kept else None)

    def reset_running_stats(self) -> None:
        """Reset the running mean to 0, the running variance to 1 and the number of batches to 0."""
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1.0)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Reset the weight to 1, the bias to 0, and the running statistics."""
        self.reset_running_stats()
        _reset(self.weight, self.bias)

    def forward(self, input: Any) -> Any:
        if input.ndim not in self._ranks:
            ranks = " or ".join(map(str, self._ranks))
            raise ValueError(f"{type(self).__name__}: expected {ranks} axes, got {input.ndim}.")
        momentum = self.momentum
        if momentum is None and not self.training:
            momentum = 0.0
        elif momentum is None:
            seen = self.num_batches_tracked
            momentum = 0.0 if seen is None else 1 / (int(seen.data) + 1)
        given = input, self.running_mean, self.running_var, self.weight, self.bias
        if self.across is not None and self.training:
            output = self.across.batch_norm(*given, momentum, self.eps)
        else:
            by_batch = self.training or self.running_mean is None
            output = F.batch_norm(*given, by_batch, momentum, self.eps)
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.copy_(self.num_batches_tracked + 1)
        return output

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


def normalises_by_batch(module: Module) -> bool:
    """Whether a module is a batch normalisation, so that ranks may share its statistics."""
    return isinstance(module, _BatchNorm) and not isinstance(module, _InstanceNorm)


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L): (x - mean) / sqrt(var + eps) weight + bias.

    Mean and variance are those of each channel (axis 1). In training they are the batch's, and the
    running ones move towards them: running + momentum (batch - running), with the variance that
    divides by n - 1. In eval the running ones are used.
    Parameters: `weight` and `bias` (C,), start as 1 and 0. Buffers: `running_mean`, `running_var`,
    `num_batches_tracked`.

    num_features: C. eps: keeps the divisor away from 0.
    momentum: None for the plain average of all batches so far.
    affine: have `weight` and `bias`. bias: False for no `bias`.
    track_running_stats: False always uses the batch's statistics.
    dtype: of the parameters, default float32.

    Raises ValueError for another number of axes, and in training for one value per channel.
    Source: Ioffe and Szegedy (2015).

    >>> nn.BatchNorm1d(1)(tk.tensor([[1.0], [3.0]])).detach().numpy().round(3)
    array([[-1.],
           [ 1.]], dtype=float32)
    """

    _ranks = (2, 3)

    def wanted_input(self) -> str:
        return f"(N, {self.num_features}) or (N, {self.num_features}, L)"


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images (N, C, H, W), with mean and variance over N, H and W.

    Formula, parameters, options and errors: see `BatchNorm1d`. Source: Ioffe and Szegedy (2015).

    >>> nn.BatchNorm2d(3)(tk.rand(2, 3, 4, 4)).shape
    (2, 3, 4, 4)
    """

    _ranks = (4,)

    def wanted_input(self) -> str:
        return f"(N, {self.num_features}, H, W)"


class _InstanceNorm(_BatchNorm):
    """Base class of the instance normalisations: a batch normalisation of each sample alone."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        settings = (num_features, eps, momentum, affine, track_running_stats)
        super().__init__(*settings, bias=bias, dtype=dtype)

    def forward(self, input: Any) -> Any:
        axes = self._ranks[0]
        if input.ndim == axes - 1:
            return self.forward(input[None])[0]
        if input.ndim != axes or input.shape[1] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: expected {axes} axes, or {axes - 1} without a batch, and "
                f"{self.num_features} channels, got {input.shape}."
            )
        return F.instance_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )


class InstanceNorm1d(_InstanceNorm):
    """Normalisation of each channel of each sample: (x - mean) / sqrt(var + eps) weight + bias.

    Called with (N, C, L) or (C, L). Mean and variance are over L.
    Parameters: with `affine`, `weight` and `bias` (C,), start as 1 and 0. Buffers: with
    `track_running_stats`, `running_mean` and `running_var`, which move towards the batch's in
    training and are used in eval; `num_batches_tracked` stays 0, as in PyTorch.

    num_features: C. eps: keeps the divisor away from 0. momentum: of the running statistics.
    bias: False for no `bias`. dtype: of the parameters, default float32.

    A call raises ValueError for other axes or channels, and for one value per channel.
    Source: Ulyanov et al. (2016).

    >>> nn.InstanceNorm1d(1)(tk.tensor([[[1.0, 3.0]]])).numpy().round(3)
    array([[[-1.,  1.]]], dtype=float32)
    """

    _ranks = (3,)

    def wanted_input(self) -> str:
        return f"(N, {self.num_features}, L) or ({self.num_features}, L)"


class InstanceNorm2d(_InstanceNorm):
    """Normalisation of each channel of each image (N, C, H, W) or (C, H, W), over H and W.

    Formula, parameters, options, errors and source: see `InstanceNorm1d`.

    >>> nn.InstanceNorm2d(3)(tk.rand(2, 3, 4, 4)).shape
    (2, 3, 4, 4)
    """

    _ranks = (4,)

    def wanted_input(self) -> str:
        return f"(N, {self.num_features}, H, W) or ({self.num_features}, H, W)"


class GroupNorm(Module):
    """(x - mean) / sqrt(var + eps) weight + bias, over each group of channels of each sample.

    Called with (N, C, ...). Parameters: `weight` and `bias` (C,), start as 1 and 0.
    num_groups: divides num_channels, C. affine: have `weight` and `bias`. bias: False for no
    `bias`. dtype: of the parameters, default float32.

    Raises ValueError for channels that do not divide into the groups. Source: Wu and He (2018).

    >>> y = nn.GroupNorm(2, 4)(tk.tensor([[1.0, 3.0, 0.0, 8.0]]))
    >>> y.detach().numpy().round(3)
    array([[-1.,  1., -1.,  1.]], dtype=float32)
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        self.num_groups = size("num_groups", num_groups)
        self.num_channels = size("num_channels", num_channels)
        if num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: expected num_channels, a multiple of {num_groups} groups, got "
                f"{num_channels}."
            )
        self.eps, self.affine = eps, affine
        self.weight = parameter((num_channels,), dtype, 1.0) if affine else None
        self.bias = parameter((num_channels,), dtype) if affine and bias else None

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        _reset(self.weight, self.bias)

    def forward(self, input: Any) -> Any:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"

    def wanted_input(self) -> str:
        return f"(N, {self.num_channels}, ...)"


def _reset(weight: Parameter | None, bias: Parameter | None) -> None:
    if weight is not None:
        init.ones_(weight)
    if bias is not None:
        init.zeros_(bias)


class LayerNorm(Module):
    """(x - mean) / sqrt(var + eps) weight + bias, over the last axes of each sample.

    Parameters: `weight` and `bias` of shape `normalized_shape`, start as 1 and 0.
    normalized_shape: the sizes of the last axes.
    elementwise_affine: have `weight` and `bias`. bias: False for no `bias`.
    dtype: of the parameters, default float32.

    Raises ValueError if the input does not end with `normalized_shape`. Source: Ba et al. (2016).

    >>> nn.LayerNorm(2)(tk.tensor([[1.0, 3.0]])).detach().numpy().round(3)
    array([[-1.,  1.]], dtype=float32)
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: Any = None,
    ) -> None:
        self.normalized_shape = _last_sizes("LayerNorm", normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        affine = elementwise_affine
        self.weight = parameter(self.normalized_shape, dtype, 1.0) if affine else None
        self.bias = parameter(self.normalized_shape, dtype) if affine and bias else None

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        _reset(self.weight, self.bias)

    def forward(self, input: Any) -> Any:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )

    def wanted_input(self) -> str:
        return f"(..., {', '.join(map(str, self.normalized_shape))})"


class RMSNorm(Module):
    """x / sqrt(mean(x^2) + eps) weight, over the last axes of each sample.

    Parameter: `weight` of shape `normalized_shape`, starts as 1.
    normalized_shape: the sizes of the last axes. eps: default: the machine epsilon of the input.
    elementwise_affine: have `weight`. dtype: of the weight, default float32.

    Raises ValueError if the input does not end with `normalized_shape`.
    Source: Zhang and Sennrich (2019).

    >>> nn.RMSNorm(2)(tk.tensor([[1.0, 7.0]])).detach().numpy().round(3)
    array([[0.2, 1.4]], dtype=float32)
    """

    weight: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: Any = None,
    ) -> None:
        self.normalized_shape = _last_sizes("RMSNorm", normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        shape = self.normalized_shape
        self.weight = parameter(shape, dtype, 1.0) if elementwise_affine else None

    def reset_parameters(self) -> None:
        """Weight 1."""
        _reset(self.weight, None)

    def forward(self, input: Any) -> Any:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )

    def wanted_input(self) -> str:
        return f"(..., {', '.join(map(str, self.normalized_shape))})"


def _last_sizes(name: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    sizes = normalized_shape if isinstance(normalized_shape, Sequence) else [normalized_shape]
    if not sizes:
        raise ValueError(f"{name}: expected at least one axis in normalized_shape, got none.")
    return tuple(size("normalized_shape", n) for n in sizes)
