"""Convolutional layers. Axis 0 is the batch, axis 1 the channels, then spatial axes."""

from __future__ import annotations

from typing import Any, Literal

import tinygrad_kr.functional as F
from tinygrad_kr.functional.convolution import (
    SPATIAL_AXES,
    Padding,
    Sizes,
    _padding,
    _positive,
    _sizes,
)
from tinygrad_kr.nn.init import uniform_by_fan_in
from tinygrad_kr.nn.module import Module
from tinygrad_kr.nn.parameter import Parameter, parameter, size
from tinygrad_kr.random import Generator

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class _Convolution(Module):
    """Base class of the layers: sizes per spatial axis, and the parameters."""

    _spatial: int
    weight: Parameter
    bias: Parameter | None
    padding_mode: PaddingMode = "zeros"

    def _set_sizes(
        self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes,
        dilation: Sizes, groups: int,
    ) -> None:  # fmt: skip
        self.in_channels = size("in_channels", in_channels)
        self.out_channels = size("out_channels", out_channels)
        self.groups = size("groups", groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{type(self).__name__}: expected channels that divide into {groups} groups, got "
                f"{in_channels} input and {out_channels} output channels."
            )
        self.kernel_size = _positive(kernel_size, self._spatial, "kernel_size")
        self.stride = _positive(stride, self._spatial, "stride")
        self.dilation = _positive(dilation, self._spatial, "dilation")

    def _set_parameters(
        self, first: int, second: int, bias: bool, dtype: Any, generator: Generator | None
    ) -> None:
        shape = (first, second // self.groups, *self.kernel_size)
        self.weight = parameter(shape, dtype)
        self.bias = parameter((self.out_channels,), dtype) if bias else None
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the initial values again."""
        uniform_by_fan_in(self.weight, self.bias, generator)

    def extra_repr(self) -> str:
        shown = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}",
            f"stride={self.stride}",
        ]
        ones, zeros = (1,) * self._spatial, (0,) * self._spatial
        usual = {"padding": zeros, "dilation": ones, "output_padding": zeros, "groups": 1}
        shown += [
            f"{name}={getattr(self, name)!r}"
            for name, default in usual.items()
            if getattr(self, name, default) != default
        ]
        if self.bias is None:
            shown.append("bias=False")
        if self.padding_mode != "zeros":
            shown.append(f"padding_mode={self.padding_mode!r}")
        return ", ".join(shown)

    def wanted_input(self) -> str:
        axes = SPATIAL_AXES[self._spatial]
        return f"(N, {self.in_channels}, {axes}) or ({self.in_channels}, {axes})"


class _Conv(_Convolution):
    _function: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Padding = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        *,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        name = type(self).__name__
        self._set_sizes(in_channels, out_channels, kernel_size, stride, dilation, groups)
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ValueError(
                f'{name}: expected padding_mode "zeros", "reflect", "replicate" or "circular", got '
                f"{padding_mode!r}."
            )
        self.padding_mode = padding_mode
        widths = _padding(name, padding, self.kernel_size, self.stride, self.dilation)
        self.padding = (
            padding if isinstance(padding, str) else _sizes(padding, self._spatial, "padding", 0)
        )
        self._widths = [width for pair in reversed(widths) for width in pair]
        self._set_parameters(out_channels, in_channels, bias, dtype, generator)

    def forward(self, input: Any) -> Any:
        padding: Padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._widths, mode=self.padding_mode), 0
        return self._function(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )


class Conv1d(_Conv):
    """Cross-correlation over one axis: (N, in_channels, L) -> (N, out_channels, L').

    L' = floor((L + 2 padding - dilation (k - 1) - 1) / stride) + 1.
    Parameters: `weight` (out_channels, in_channels / groups, k) and `bias` (out_channels,). Both
    start as U(+-1 / sqrt(fan_in)) with fan_in = in_channels k / groups.
    Options and errors: see `Conv2d`.

    >>> nn.Conv1d(2, 4, kernel_size=3)(tk.ones(1, 2, 8)).shape
    (1, 4, 6)
    """

    _function, _spatial = staticmethod(F.conv1d), 1


class Conv2d(_Conv):
    """Cross-correlation over two axes: (N, in_channels, H, W) -> (N, out_channels, H', W').

    H' = floor((H + 2 padding - dilation (kernel_size - 1) - 1) / stride) + 1.
    Parameters: `weight` (out_channels, in_channels / groups, kh, kw) and `bias` (out_channels,).
    Both start as U(+-1 / sqrt(fan_in)) with fan_in = in_channels kh kw / groups.

    kernel_size, stride, dilation: one number or one per axis.
    padding: the same, or "same" or "valid".
    groups: the number of channel groups. bias: False for none.
    padding_mode: what to pad with: "zeros", "reflect", "replicate" or "circular".
    dtype: of the parameters, default float32. generator: for the initial values.

    Raises ValueError for sizes that do not fit.

    >>> nn.Conv2d(1, 8, kernel_size=3, padding="same")(tk.ones(2, 1, 28, 28)).shape
    (2, 8, 28, 28)
    """

    _function, _spatial = staticmethod(F.conv2d), 2


class Conv3d(_Conv):
    """Cross-correlation over three axes: (N, in_channels, D, H, W) to (N, out_channels, ...).

    Parameters: `weight` (out_channels, in_channels / groups, kd, kh, kw) and `bias`
    (out_channels,), which start as those of `Conv2d`. Formula, options and errors: see `Conv2d`.

    >>> nn.Conv3d(1, 2, kernel_size=3)(tk.ones(1, 1, 4, 5, 6)).shape
    (1, 2, 2, 3, 4)
    """

    _function, _spatial = staticmethod(F.conv3d), 3


class _ConvTranspose(_Convolution):
    """Base class of the adjoints."""

    _function: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        *,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        self._set_sizes(in_channels, out_channels, kernel_size, stride, dilation, groups)
        self.padding = _sizes(padding, self._spatial, "padding", 0)
        self.output_padding = _sizes(output_padding, self._spatial, "output_padding", 0)
        self._set_parameters(in_channels, out_channels, bias, dtype, generator)

    def forward(self, input: Any) -> Any:
        return self._function(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )


class ConvTranspose1d(_ConvTranspose):
    """The adjoint of `Conv1d`, which lengthens: (N, in_channels, L) -> (N, out_channels, L').

    Parameters: `weight` (in_channels, out_channels / groups, k) and `bias` (out_channels,).
    Formula, start, options and errors: see `ConvTranspose2d`.

    >>> nn.ConvTranspose1d(4, 1, kernel_size=2, stride=2)(tk.ones(1, 4, 7)).shape
    (1, 1, 14)
    """

    _function, _spatial = staticmethod(F.conv_transpose1d), 1


class ConvTranspose2d(_ConvTranspose):
    """The adjoint of `Conv2d`, which enlarges: (N, in_channels, H, W) -> (N, out_channels, H', W').

    H' = (H - 1) stride - 2 padding + dilation (kernel_size - 1) + output_padding + 1.
    Parameters: `weight` (in_channels, out_channels / groups, kh, kw) and `bias` (out_channels,).
    Both start as U(+-1 / sqrt(n)) with n = out_channels kh kw / groups, as in PyTorch.

    output_padding: rows and columns to add at the end. Other options and errors: see `Conv2d`.

    >>> nn.ConvTranspose2d(4, 1, kernel_size=2, stride=2)(tk.ones(1, 4, 7, 7)).shape
    (1, 1, 14, 14)
    """

    _function, _spatial = staticmethod(F.conv_transpose2d), 2
