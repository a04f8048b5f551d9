"""Convolutions, windows and padding. Axis 0 is the batch, axis 1 the channels, then spatial axes.

Filters are not flipped: this is the cross-correlation that networks call convolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from tinygrad_kr.ops import shape, window

Sizes = int | Sequence[int]
Padding = int | Sequence[int] | Literal["same", "valid"]
SPATIAL_AXES = {1: "L", 2: "H, W", 3: "D, H, W"}
"""Names of the spatial axes in messages, by their number."""

# ------------------------------------------------------------------ convolution


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Any:
    """Cross-correlation over one spatial axis: `conv2d` for sequences.

    input: (N, C, L) or (C, L). weight: (O, C / groups, k). bias: (O,).
    Result: (N, O, L') or (O, L'), L' = floor((L + 2 padding - dilation (k - 1) - 1) / stride) + 1.
    stride, padding, dilation, groups, errors: see `conv2d`.

    >>> x, w = tk.tensor([[[1.0, 2.0, 4.0]]]), tk.tensor([[[1.0, -1.0]]])
    >>> F.conv1d(x, w)
    Tensor([[[-1., -2.]]])
    """
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Any:
    """The product of every window of the input with every filter, summed, plus a bias.

        y[n, o, i, j] = b[o] + sum over c, p, q of w[o, c, p, q] x[n, c, i stride + p, j stride + q]

    input: (N, C, H, W) or (C, H, W). weight: (O, C / groups, kh, kw). bias: (O,).
    Result: (N, O, H', W') or (O, H', W'),
        H' = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1.
    stride, dilation: one number or one per axis.
    padding: zeros on both sides, one number or one per axis; "valid" for none, "same" for as many
        as keep the size (stride 1).
    groups: the number of channel groups; each output channel sees the inputs of its own group.

    Raises ValueError where channels, groups or sizes do not agree.

    >>> x = tk.arange(9.0).reshape(1, 1, 3, 3)
    >>> F.conv2d(x, tk.ones(1, 1, 2, 2))
    Tensor([[[[ 8., 12.],
              [20., 24.]]]])
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Any:
    """Cross-correlation over three spatial axes: `conv2d` for volumes or films.

    input: (N, C, D, H, W) or (C, D, H, W). weight: (O, C / groups, kd, kh, kw). bias: (O,).
    stride, padding, dilation, groups, errors: see `conv2d`.

    >>> F.conv3d(tk.ones(1, 1, 2, 3, 2), tk.ones(1, 1, 2, 2, 2))
    Tensor([[[[[8.],
               [8.]]]]])
    """
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def _conv(
    name: str,
    spatial: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Sizes,
    padding: Padding,
    dilation: Sizes,
    groups: int,
) -> Any:
    if input.ndim == spatial + 1:
        args = (weight, bias, stride, padding, dilation, groups)
        return _conv(name, spatial, input[None], *args)[0]
    _check_ranks(name, spatial, input, weight)
    outputs, per_group = weight.shape[:2]
    if groups < 1 or outputs % groups or input.shape[1] != per_group * groups:
        raise ValueError(
            f"{name}: weight {weight.shape} with groups={groups}: expected {per_group * groups} "
            f"input channels and a multiple of {groups} outputs, got input {input.shape} with "
            f"{input.shape[1]} channels."
        )
    _check_bias(name, bias, outputs)
    strides = _positive(stride, spatial, f"{name}: stride")
    dilations = _positive(dilation, spatial, f"{name}: dilation")
    kernel = weight.shape[2:]
    widths = _padding(name, padding, kernel, strides, dilations)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    sizes = [a + n + b for n, (a, b) in zip(input.shape[2:], widths, strict=True)]
    if any(n < r for n, r in zip(sizes, reach, strict=True)):
        raise ValueError(
            f"{name}: expected a padded input of at least the kernel's extent {tuple(reach)}, got "
            f"{tuple(sizes)}."
        )
    more = () if bias is None else (bias,)
    return window.convolve(
        input, weight, *more, stride=strides, padding=widths, dilation=dilations, groups=groups
    )


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Any:
    """The adjoint of `conv1d`: every input element adds a scaled filter to the result.

    input: (N, O, L') or (O, L'). weight: (O, C / groups, k). bias: (C,).
    Result: (N, C, L) or (C, L),
        L = (L' - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1.
    Options and errors: see `conv_transpose2d`.

    >>> F.conv_transpose1d(tk.tensor([[[1.0, 2.0]]]), tk.tensor([[[1.0, 10.0]]]))
    Tensor([[[ 1., 12., 20.]]])
    """
    return _conv_transpose(
        "conv_transpose1d",
        1,
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
    )


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Any:
    """The adjoint of `conv2d`: every input element adds a scaled filter to the result.

    input: (N, O, H', W') or (O, H', W'). weight: (O, C / groups, kh, kw). bias: (C,).
    Result: (N, C, H, W) or (C, H, W),
        H = (H' - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1.
    stride, padding, dilation, output_padding: one number or one per axis.
    output_padding: rows and columns to add at the end, fewer than the stride or the dilation.

    Raises ValueError where channels, groups or sizes do not agree, or `output_padding` is too
    large.

    >>> F.conv_transpose2d(tk.ones(1, 1, 1, 2), tk.ones(1, 1, 1, 2))
    Tensor([[[[1., 2., 1.]]]])
    """
    return _conv_transpose(
        "conv_transpose2d",
        2,
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
    )


def _conv_transpose(
    name: str,
    spatial: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Sizes,
    padding: Sizes,
    output_padding: Sizes,
    groups: int,
    dilation: Sizes,
) -> Any:
    if input.ndim == spatial + 1:
        args = (weight, bias, stride, padding, output_padding, groups, dilation)
        return _conv_transpose(name, spatial, input[None], *args)[0]
    _check_ranks(name, spatial, input, weight)
    if groups < 1 or input.shape[1] != weight.shape[0] or input.shape[1] % groups:
        raise ValueError(
            f"{name}: weight {weight.shape} with groups={groups}: expected {weight.shape[0]} input "
            f"channels, a multiple of the groups, got input {input.shape} with {input.shape[1]}."
        )
    _check_bias(name, bias, weight.shape[1] * groups)
    strides = _positive(stride, spatial, f"{name}: stride")
    dilations = _positive(dilation, spatial, f"{name}: dilation")
    pads = _sizes(padding, spatial, f"{name}: padding", 0)
    extra = _sizes(output_padding, spatial, f"{name}: output_padding", 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        raise ValueError(
            f"{name}: expected output_padding below stride {strides} or dilation {dilations}, got "
            f"{extra}."
        )
    reach = tuple(
        (n - 1) * s + d * (k - 1) + 1
        for n, s, d, k in zip(input.shape[2:], strides, dilations, weight.shape[2:], strict=True)
    )
    size = tuple(r - 2 * p + e for r, p, e in zip(reach, pads, extra, strict=True))
    if min(size) < 1:
        raise ValueError(
            f"{name}: expected an output of at least one element per axis, got {size} from input "
            f"{input.shape} and padding {pads}."
        )
    cut = tuple((p, max(p - e, 0)) for p, e in zip(pads, extra, strict=True))
    y = window.convolve_transposed(
        input,
        weight,
        size=tuple(r - a - b for r, (a, b) in zip(reach, cut, strict=True)),
        stride=strides,
        padding=cut,
        dilation=dilations,
        groups=groups,
    )
    beyond = tuple((0, max(e - p, 0)) for p, e in zip(pads, extra, strict=True))
    if any(map(any, beyond)):
        y = shape.pad(y, widths=((0, 0), (0, 0), *beyond))
    return y if bias is None else y + bias.reshape(-1, *[1] * spatial)


def _check_ranks(name: str, spatial: int, input: Any, weight: Any) -> None:
    if input.ndim != spatial + 2 or weight.ndim != spatial + 2:
        raise ValueError(
            f"{name}: expected input (N, C, {SPATIAL_AXES[spatial]}) and weight of {spatial + 2} "
            f"axes, got {input.shape} and {weight.shape}."
        )


def _check_bias(name: str, bias: Any, outputs: int) -> None:
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"{name}: expected bias of shape {(outputs,)}, got {bias.shape}.")


# ------------------------------------------------------------------ sizes, one or one per axis


def _sizes(value: Sizes, count: int, name: str, least: int) -> tuple[int, ...]:
    sizes: Any = tuple(value) if isinstance(value, tuple | list) else (value,) * count
    if len(sizes) == 1:
        sizes *= count
    if len(sizes) != count or not all(
        isinstance(n, int | np.integer) and n >= least for n in sizes
    ):
        expected = "an integer" if count == 1 else f"an integer or {count} of them"
        raise ValueError(f"{name}: expected {expected}, at least {least}, got {value!r}.")
    return tuple(int(n) for n in sizes)


def _positive(value: Sizes, count: int, name: str) -> tuple[int, ...]:
    return _sizes(value, count, name, 1)


def _padding(
    name: str,
    padding: Padding,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    """Zeros before and after on each axis."""
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * len(kernel)
        if padding != "same":
            raise ValueError(
                f'{name}: expected padding "same", "valid", an integer or one per axis, got '
                f"{padding!r}."
            )
        if any(s != 1 for s in stride):
            raise ValueError(f'{name}: expected stride 1 with padding="same", got {stride}.')
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((p, p) for p in _sizes(padding, len(kernel), f"{name}: padding", 0))


# ------------------------------------------------------------------ windows as columns


def unfold(
    input: Any, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1
) -> Any:
    """Windows as columns, the input of a convolution as a matrix.

    input: (N, C, H, W), the result (N, C kh kw, number of windows). Without N in one, without it in
    the other.
    kernel_size, dilation, padding, stride: one number or one per axis.

    Raises ValueError for another number of axes.

    >>> F.unfold(tk.arange(6.0).reshape(1, 1, 2, 3), kernel_size=2)
    Tensor([[[0., 1.],
             [1., 2.],
             [3., 4.],
             [4., 5.]]])
    """
    if input.ndim == 3:
        return unfold(input[None], kernel_size, dilation, padding, stride)[0]
    if input.ndim != 4:
        raise ValueError(f"unfold: expected input (N, C, H, W) or (C, H, W), got {input.shape}.")
    kernel = _positive(kernel_size, 2, "unfold: kernel_size")
    windows = window.unfold(
        _zero_padded(input, padding),
        kernel=kernel,
        stride=_positive(stride, 2, "unfold: stride"),
        dilation=_positive(dilation, 2, "unfold: dilation"),
    )
    n, channels, rows, columns = windows.shape[:4]
    return windows.transpose(0, 1, 4, 5, 2, 3).reshape(
        n, channels * kernel[0] * kernel[1], rows * columns
    )


def fold(
    input: Any,
    output_size: Sizes,
    kernel_size: Sizes,
    dilation: Sizes = 1,
    padding: Sizes = 0,
    stride: Sizes = 1,
) -> Any:
    """The adjoint of `unfold`: adds windows up at their positions.

    input: (N, C kh kw, L), the result (N, C, H, W) with (H, W) = output_size. Without N in one,
    without it in the other.
    Raises ValueError if the rows or windows are not as many as `unfold` gives for `output_size`.

    >>> F.fold(tk.ones(1, 2, 2), output_size=(1, 3), kernel_size=(1, 2))
    Tensor([[[[1., 2., 1.]]]])
    """
    if input.ndim == 2:
        return fold(input[None], output_size, kernel_size, dilation, padding, stride)[0]
    kernel, size = (
        _positive(kernel_size, 2, "fold: kernel_size"),
        _positive(output_size, 2, "fold: output_size"),
    )
    strides, dilations = (
        _positive(stride, 2, "fold: stride"),
        _positive(dilation, 2, "fold: dilation"),
    )
    pads = _sizes(padding, 2, "fold: padding", 0)
    padded = tuple(n + 2 * p for n, p in zip(size, pads, strict=True))
    counts = tuple(map(window.windows_along, padded, kernel, strides, dilations))
    area, n_windows = math.prod(kernel), math.prod(counts)
    if input.ndim != 3 or input.shape[1] % area or input.shape[2] != n_windows or min(counts) < 1:
        raise ValueError(
            f"fold: output_size {size}: expected {n_windows} columns of a multiple of {area} rows, "
            f"got input {input.shape}."
        )
    n, channels = input.shape[0], input.shape[1] // area
    windows = input.reshape(n, channels, *kernel, *counts).transpose(0, 1, 4, 5, 2, 3)
    y = window.fold(
        windows, shape=(n, channels, *padded), kernel=kernel, stride=strides, dilation=dilations
    )
    return y[..., pads[0] : pads[0] + size[0], pads[1] : pads[1] + size[1]]


def _zero_padded(x: Any, padding: Sizes) -> Any:
    widths = tuple((p, p) for p in _sizes(padding, 2, "unfold: padding", 0))
    return shape.pad(x, widths=((0, 0), (0, 0), *widths)) if any(map(any, widths)) else x


# ------------------------------------------------------------------ channels as space


def pixel_shuffle(input: Any, upscale_factor: int) -> Any:
    """Channels as pixels: (..., C r r, H, W) -> (..., C, H r, W r) with r = upscale_factor.

        y[c, h r + i, w r + j] = x[c r r + i r + j, h, w]

    After a convolution it enlarges an image without the pattern of `conv_transpose2d`.
    Raises ValueError for channels that are no multiple of r r.
    Source: Shi et al., Real-time single image and video super-resolution (2016).

    >>> F.pixel_shuffle(tk.arange(4.0).reshape(4, 1, 1), 2)
    Tensor([[[0., 1.],
             [2., 3.]]])
    """
    r = _factor("pixel_shuffle", input, upscale_factor)
    *first, channels, height, width = input.shape
    if channels % (r * r):
        raise ValueError(
            f"pixel_shuffle: expected a multiple of {r * r} channels, got shape {input.shape}."
        )
    sizes = (channels // (r * r), height * r, width * r)
    blocks = input.reshape(math.prod(first), sizes[0], r, r, height, width)
    return blocks.transpose(0, 1, 4, 2, 5, 3).reshape(*first, *sizes)


def pixel_unshuffle(input: Any, downscale_factor: int) -> Any:
    """The inverse of `pixel_shuffle`: (..., C, H r, W r) -> (..., C r r, H, W).

    Raises ValueError for a height or width that is no multiple of r = downscale_factor.

    >>> F.pixel_unshuffle(tk.arange(4.0).reshape(1, 2, 2), 2).shape
    (4, 1, 1)
    """
    r = _factor("pixel_unshuffle", input, downscale_factor)
    *first, channels, height, width = input.shape
    if height % r or width % r:
        raise ValueError(
            f"pixel_unshuffle: expected multiples of {r} on the last axes, got {input.shape}."
        )
    blocks = input.reshape(math.prod(first), channels, height // r, r, width // r, r)
    sizes = (channels * r * r, height // r, width // r)
    return blocks.transpose(0, 1, 3, 5, 2, 4).reshape(*first, *sizes)


def _factor(name: str, input: Any, factor: int) -> int:
    if input.ndim < 3:
        raise ValueError(f"{name}: expected input (..., C, H, W), got {input.shape}.")
    (r,) = _positive(factor, 1, f"{name}: factor")
    return r


# ------------------------------------------------------------------ padding

_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """Add elements at both ends of the last axes.

    pad: (before, after) of the last axis, then of the last but one, and so on. Negative numbers
        remove elements. "circular" removes them first and repeats what is left.
    mode: "constant" (`value`, default 0), "reflect" (without the edge), "replicate" or "circular".

    The gradient of a repeated element is the sum over its copies.
    Raises ValueError for an odd or too long `pad`, an unknown mode, or an axis too short for it.

    >>> F.pad(tk.tensor([1.0, 2.0, 3.0]), (1, 1), mode="reflect")
    Tensor([2., 1., 2., 3., 2.])
    """
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ValueError(f"pad: expected pairs for at most {input.ndim} axes, got {tuple(pad)}.")
    pairs = [(int(a), int(b)) for a, b in list(pairwise(pad))[::2]]
    if mode == "constant":
        return _padded_by(input, pairs, 0.0 if value is None else value)
    if mode not in _MODES:
        raise ValueError(
            f'pad: expected mode "constant", "reflect", "replicate" or "circular", got {mode!r}.'
        )
    if value is not None:
        raise ValueError(f'pad: expected mode "constant" with a value, got {mode!r}.')
    for i, pair in enumerate(pairs):
        if any(pair):
            input = _extended(input, input.ndim - 1 - i, pair, mode)
    return input


def _padded_by(x: Any, pairs: list[tuple[int, int]], value: float) -> Any:
    widths = [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1]
    if any(n + min(a, 0) + min(b, 0) < 0 for n, (a, b) in zip(x.shape, widths, strict=True)):
        raise ValueError(f"pad: expected to remove at most shape {x.shape}, got widths {widths}.")
    if min(map(min, widths), default=0) < 0:
        x = x[
            tuple(
                slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, widths, strict=True)
            )
        ]
    return shape.pad(x, widths=tuple((max(a, 0), max(b, 0)) for a, b in widths), value=value)


def _extended(x: Any, axis: int, pair: tuple[int, int], mode: str) -> Any:
    """One axis, extended by its own elements."""
    size = x.shape[axis]
    if size + sum(pair) < 0:
        raise ValueError(f"pad: expected to remove at most shape {x.shape}, got widths {pair}.")
    rows = np.arange(size)
    if mode == "circular":  # PyTorch removes first, then repeats
        rows = _cut(rows, pair)
        size = len(rows)
    longest = {"reflect": size - 1, "circular": size, "replicate": max(pair) if size else 0}[mode]
    if max(pair) > longest:
        raise ValueError(
            f"pad: expected widths up to {longest} for mode {mode!r} on axis {axis} of shape "
            f"{x.shape}, got {pair}."
        )
    before, after = max(pair[0], 0), max(pair[1], 0)
    rows = np.pad(rows, (before, after), _MODES[mode])  # type: ignore[call-overload]
    rows = rows if mode == "circular" else _cut(rows, pair)
    return x.swapaxes(0, axis)[rows].swapaxes(0, axis)


def _cut(rows: np.ndarray, pair: tuple[int, int]) -> np.ndarray:
    """Without as many rows at both ends as the negative widths say."""
    return rows[max(-pair[0], 0) : max(len(rows) + min(pair[1], 0), 0)]
