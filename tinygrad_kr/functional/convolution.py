"""Convolutions, windows and padding. Batch on axis 0, channels on axis 1, then the spatial axes.

A filter is not flipped: this is the cross-correlation that networks call convolution.
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
    """`conv2d` over one spatial axis: input (N, C, L), weight (O, C / groups, k)."""
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
    """The products of every window of the input with every filter, summed, plus a bias.

    Input (N, C, H, W), weight (O, C / groups, kh, kw), bias (O,), result (N, O, H', W') with
    H' = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1.
    padding: zeros on both sides, "valid" for none, "same" for as many as keep the size (stride 1).
    groups: input and output channels in so many groups that do not see each other.
    An input without the batch axis gives a result without it.

    ValueError where channels, groups or sizes do not agree.
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


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
            f"{name}: weight {weight.shape} with groups={groups} wants {per_group * groups} input "
            f"channels and a multiple of {groups} outputs; input {input.shape} has "
            f"{input.shape[1]} channels"
        )
    _check_bias(name, bias, outputs)
    strides = _positive(stride, spatial, "stride")
    dilations = _positive(dilation, spatial, "dilation")
    kernel = weight.shape[2:]
    widths = _padding(name, padding, kernel, strides, dilations)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    sizes = [a + n + b for n, (a, b) in zip(input.shape[2:], widths, strict=True)]
    if any(n < r for n, r in zip(sizes, reach, strict=True)):
        raise ValueError(
            f"{name}: a kernel that reaches over {tuple(reach)} does not fit into the padded "
            f"input, {tuple(sizes)}"
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
    """`conv_transpose2d` over one spatial axis."""
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
    """The adjoint of `conv2d`: every element of the input spreads a filter over the result.

    Input (N, O, H', W'), weight (O, C / groups, kh, kw), bias (C,), result (N, C, H, W) with
    H = (H' - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1.

    ValueError where channels, groups or sizes do not agree, or output_padding is not below the
    stride or the dilation.
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
            f"{name}: weight {weight.shape} with groups={groups} wants {weight.shape[0]} input "
            f"channels, a multiple of the groups; input {input.shape} has {input.shape[1]}"
        )
    _check_bias(name, bias, weight.shape[1] * groups)
    strides = _positive(stride, spatial, "stride")
    dilations = _positive(dilation, spatial, "dilation")
    pads = _sizes(padding, spatial, "padding", 0)
    extra = _sizes(output_padding, spatial, "output_padding", 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        raise ValueError(
            f"{name}: output_padding {extra} must be smaller than stride {strides} or "
            f"dilation {dilations}"
        )
    reach = tuple(
        (n - 1) * s + d * (k - 1) + 1
        for n, s, d, k in zip(input.shape[2:], strides, dilations, weight.shape[2:], strict=True)
    )
    size = tuple(r - 2 * p + e for r, p, e in zip(reach, pads, extra, strict=True))
    if min(size) < 1:
        raise ValueError(
            f"{name}: input {input.shape} and padding {pads} leave an output of {size}"
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
        axes = "HW" if spatial == 2 else "L"
        raise ValueError(
            f"{name}: input (N, C, {', '.join(axes)}) and weight of {spatial + 2} axes wanted, not "
            f"{input.shape} and {weight.shape}"
        )


def _check_bias(name: str, bias: Any, outputs: int) -> None:
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"{name}: bias of shape {bias.shape} for {outputs} output channels")


# ------------------------------------------------------------------ sizes given once or per axis


def _sizes(value: Sizes, count: int, name: str, least: int) -> tuple[int, ...]:
    sizes: Any = tuple(value) if isinstance(value, tuple | list) else (value,) * count
    if len(sizes) == 1:
        sizes *= count
    if len(sizes) != count or not all(
        isinstance(n, int | np.integer) and n >= least for n in sizes
    ):
        wanted = "an integer" if count == 1 else f"an integer or {count} of them"
        raise ValueError(f"{name} must be {wanted}, at least {least}, not {value!r}")
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
                f'{name}: padding is "same", "valid", an integer or one per axis, not {padding!r}'
            )
        if any(s != 1 for s in stride):
            raise ValueError(f'{name}: padding="same" needs stride 1, not {stride}')
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((p, p) for p in _sizes(padding, len(kernel), "padding", 0))


# ------------------------------------------------------------------ windows as columns


def unfold(
    input: Any, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1
) -> Any:
    """Windows as columns: input (N, C, H, W), result (N, C kh kw, number of windows).

    An input (C, H, W) gives (C kh kw, number of windows).
    """
    if input.ndim == 3:
        return unfold(input[None], kernel_size, dilation, padding, stride)[0]
    if input.ndim != 4:
        raise ValueError(f"unfold: input (N, C, H, W) wanted, not {input.shape}")
    kernel = _positive(kernel_size, 2, "kernel_size")
    windows = window.unfold(
        _zero_padded(input, padding),
        kernel=kernel,
        stride=_positive(stride, 2, "stride"),
        dilation=_positive(dilation, 2, "dilation"),
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
    """The adjoint of `unfold`: windows (N, C kh kw, L) added up at their places in (N, C, H, W).

    ValueError if the numbers of rows or windows are not those `unfold` gives for `output_size`.
    """
    if input.ndim == 2:
        return fold(input[None], output_size, kernel_size, dilation, padding, stride)[0]
    kernel, size = (
        _positive(kernel_size, 2, "kernel_size"),
        _positive(output_size, 2, "output_size"),
    )
    strides, dilations = _positive(stride, 2, "stride"), _positive(dilation, 2, "dilation")
    pads = _sizes(padding, 2, "padding", 0)
    padded = tuple(n + 2 * p for n, p in zip(size, pads, strict=True))
    counts = tuple(map(window.windows_along, padded, kernel, strides, dilations))
    area, places = math.prod(kernel), math.prod(counts)
    if input.ndim != 3 or input.shape[1] % area or input.shape[2] != places or min(counts) < 1:
        raise ValueError(
            f"fold: output_size {size} with these windows has {places} places for columns of a "
            f"multiple of {area}; input has shape {input.shape}"
        )
    n, channels = input.shape[0], input.shape[1] // area
    windows = input.reshape(n, channels, *kernel, *counts).transpose(0, 1, 4, 5, 2, 3)
    y = window.fold(
        windows, shape=(n, channels, *padded), kernel=kernel, stride=strides, dilation=dilations
    )
    return y[..., pads[0] : pads[0] + size[0], pads[1] : pads[1] + size[1]]


def _zero_padded(x: Any, padding: Sizes) -> Any:
    widths = tuple((p, p) for p in _sizes(padding, 2, "padding", 0))
    return shape.pad(x, widths=((0, 0), (0, 0), *widths)) if any(map(any, widths)) else x


# ------------------------------------------------------------------ padding

_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """More elements at both ends of the last axes, in PyTorch's order: last axis first.

    pad: (before, after) of the last axis, then of the last but one, ...; negative ones cut off.
    mode: "constant" (`value`, default 0), "reflect" (without the edge), "replicate" or "circular".

    ValueError for an odd or too long `pad`, an unknown mode, or one that an axis is too short for.
    """
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ValueError(f"pad: pairs for at most {input.ndim} axes wanted, not {tuple(pad)}")
    pairs = [(int(a), int(b)) for a, b in list(pairwise(pad))[::2]]
    if mode == "constant":
        return _padded_by(input, pairs, 0.0 if value is None else value)
    if mode not in _MODES:
        raise ValueError(
            f'pad: mode is "constant", "reflect", "replicate" or "circular", not {mode!r}'
        )
    if value is not None:
        raise ValueError(f"pad: value is for the constant mode, not for {mode!r}")
    for i, pair in enumerate(pairs):
        if any(pair):
            input = _extended(input, input.ndim - 1 - i, pair, mode)
    return input


def _padded_by(x: Any, pairs: list[tuple[int, int]], value: float) -> Any:
    widths = [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1]
    if any(a + n + b < 0 for n, (a, b) in zip(x.shape, widths, strict=True)):
        raise ValueError(f"pad: {widths} cuts more off than shape {x.shape} has")
    if min(map(min, widths), default=0) < 0:
        x = x[
            tuple(
                slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, widths, strict=True)
            )
        ]
    return shape.pad(x, widths=tuple((max(a, 0), max(b, 0)) for a, b in widths), value=value)


def _extended(x: Any, axis: int, pair: tuple[int, int], mode: str) -> Any:
    """One axis continued by its own elements."""
    size = x.shape[axis]
    longest = {"reflect": size - 1, "circular": size, "replicate": max(pair) if size else 0}[mode]
    if max(pair) > longest:
        raise ValueError(f"pad: {mode} {pair} needs an axis longer than {size} (shape {x.shape})")
    before, after = max(pair[0], 0), max(pair[1], 0)
    places = np.pad(np.arange(size), (before, after), _MODES[mode])  # type: ignore[call-overload]
    places = places[max(-pair[0], 0) : len(places) - max(-pair[1], 0)]
    return x.swapaxes(0, axis)[places].swapaxes(0, axis)
