"""Layers that only rearrange or resample."""

from __future__ import annotations

import math
from typing import Any

import tinygrad_kr.functional as F
from tinygrad_kr.arrays.operands import either_name
from tinygrad_kr.functional.convolution import Sizes
from tinygrad_kr.nn.module import Module


class Flatten(Module):
    """Merge the axes from `start_dim` to `end_dim`: by default (N, C, H, W) -> (N, C H W).

    >>> nn.Flatten()(tk.ones(2, 3, 4, 4)).shape
    (2, 48)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Any) -> Any:
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Split one axis into several, the inverse of `Flatten`: (N, 12) -> (N, 3, 2, 2).

    dim: the axis. unflattened_size: its new sizes, one of which may be -1.

    >>> nn.Unflatten(1, (3, 2, 2))(tk.ones(5, 12)).shape
    (5, 3, 2, 2)
    """

    @either_name
    def __init__(
        self,
        dim: int,
        unflattened_size: tuple[int, ...] | list[int],
        *,
        axis: int | None = None,
    ) -> None:
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Any) -> Any:
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"

    def wanted_input(self) -> str:
        if -1 in self.unflattened_size:
            return ""
        return f"{math.prod(self.unflattened_size)} elements on axis {self.dim}"


class Unfold(Module):
    """Windows as columns: (N, C, H, W) -> (N, C kh kw, number of windows).

    kernel_size, dilation, padding, stride: one number or one per axis.
    A call raises ValueError for another number of axes.

    >>> nn.Unfold(kernel_size=2)(tk.ones(1, 3, 4, 4)).shape
    (1, 12, 9)
    """

    def __init__(
        self, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1
    ) -> None:
        self.kernel_size, self.dilation = kernel_size, dilation
        self.padding, self.stride = padding, stride

    def forward(self, input: Any) -> Any:
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
            f"stride={self.stride}"
        )


class Fold(Module):
    """The adjoint of `Unfold`, which adds windows up: (N, C kh kw, L) -> (N, C, *output_size).

    kernel_size, dilation, padding, stride: one number or one per axis.
    A call raises ValueError for another number of rows or windows than `Unfold` gives.

    >>> nn.Fold(output_size=4, kernel_size=2)(tk.ones(1, 12, 9)).shape
    (1, 3, 4, 4)
    """

    def __init__(
        self,
        output_size: Sizes,
        kernel_size: Sizes,
        dilation: Sizes = 1,
        padding: Sizes = 0,
        stride: Sizes = 1,
    ) -> None:
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, input: Any) -> Any:
        return F.fold(
            input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        )

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, "
            f"dilation={self.dilation}, padding={self.padding}, stride={self.stride}"
        )


class PixelShuffle(Module):
    """Channels as pixels: (..., C r r, H, W) -> (..., C, H r, W r) with r = upscale_factor.

    A call raises ValueError for channels that are no multiple of r r. Source: Shi et al. (2016).

    >>> nn.PixelShuffle(2)(tk.ones(1, 8, 3, 3)).shape
    (1, 2, 6, 6)
    """

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = upscale_factor

    def forward(self, input: Any) -> Any:
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """The inverse of `PixelShuffle`: (..., C, H r, W r) -> (..., C r r, H, W).

    A call raises ValueError for a height or width that is no multiple of r = downscale_factor.

    >>> nn.PixelUnshuffle(2)(tk.ones(1, 2, 6, 6)).shape
    (1, 8, 3, 3)
    """

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = downscale_factor

    def forward(self, input: Any) -> Any:
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class Upsample(Module):
    """The input resampled to another size of its spatial axes: `functional.interpolate`.

    size: of the spatial axes, one for all or one for each. scale_factor: of the sizes, instead.
    mode: "nearest", "linear", "bilinear", "bicubic" or "trilinear".
    align_corners, recompute_scale_factor, formulas and errors: see `functional.interpolate`.

    >>> nn.Upsample(scale_factor=2)(tk.tensor([[[1.0, 2.0]]]))
    Tensor([[[1., 1., 2., 2.]]])
    """

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        each = isinstance(scale_factor, tuple | list)
        if scale_factor is not None:
            scale_factor = tuple(map(float, scale_factor)) if each else float(scale_factor)
        self.size, self.scale_factor, self.mode = size, scale_factor, mode
        self.align_corners, self.recompute_scale_factor = align_corners, recompute_scale_factor

    def forward(self, input: Any) -> Any:
        return F.interpolate(
            input, self.size, self.scale_factor, self.mode, self.align_corners,
            self.recompute_scale_factor,
        )  # fmt: skip

    def extra_repr(self) -> str:
        given = "size" if self.scale_factor is None else "scale_factor"
        return f"{given}={getattr(self, given)}, mode={self.mode!r}"
