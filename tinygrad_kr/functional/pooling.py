"""Windows reduced to one number each: their largest, or their mean."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.arrays.indexing import peek
from tinygrad_kr.functional.convolution import Sizes, _positive, _sizes
from tinygrad_kr.ops import shape, window
from tinygrad_kr.ops.node import Node, constant

Pairs = tuple[tuple[int, int], ...]


def max_pool1d(
    input: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """`max_pool2d` over one spatial axis: (N, C, L) or (C, L)."""
    args = (kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    return _max_pool("max_pool1d", 1, input, *args)


def max_pool2d(
    input: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window: (N, C, H, W) or (C, H, W). NaN wins.

    The first of several largest gets the gradient. stride: default the kernel's size.
    padding: of -inf, at most half the kernel. ceil_mode: a last window that sticks out counts.
    return_indices: also where each one was found, counted in the flattened (H, W), int64.
    """
    args = (kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    return _max_pool("max_pool2d", 2, input, *args)


def _max_pool(
    name: str,
    spatial: int,
    input: Any,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Sizes,
    dilation: Sizes,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    kernel, strides, pads = _geometry(name, spatial, input, kernel_size, stride, padding)
    dilations = _positive(dilation, spatial, "dilation")
    widths = _widths(name, input.shape[-spatial:], kernel, strides, pads, dilations, ceil_mode)
    how = {"kernel": kernel, "stride": strides, "dilation": dilations}
    y = window.max_pool(_padded(input, widths, -math.inf), **how)
    if not return_indices:
        return y
    # Nothing that was given may lose against the padding.
    x = peek(input)
    x = _padded(np.maximum(x, np.finfo(x.dtype).min), widths, -math.inf)
    index = window.window_argmax(x, window.max_pool(x, **how), **how)
    starts = tuple(a for a, _ in widths)
    found = _places(index, input.shape[-spatial:], kernel, strides, dilations, starts)
    return y, constant(found) if isinstance(y, Node) else found


def _places(
    index: ndarray,
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    starts: tuple[int, ...],
) -> ndarray:
    """Numbers within windows as numbers within the flattened spatial axes."""
    offsets = np.unravel_index(index, kernel)
    counts = index.shape[index.ndim - len(kernel) :]
    grid = np.ogrid[tuple(slice(n) for n in counts)]
    found = np.zeros(index.shape, np.int64)
    for size, offset, place, s, d, a in zip(
        sizes, offsets, grid, stride, dilation, starts, strict=True
    ):
        found = found * size + place * s + offset * d - a
    return found


def avg_pool1d(
    input: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """`avg_pool2d` over one spatial axis: (N, C, L) or (C, L)."""
    args = (kernel_size, stride, padding, ceil_mode, count_include_pad, None)
    return _avg_pool("avg_pool1d", 1, input, *args)


def avg_pool2d(
    input: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean of each window: (N, C, H, W) or (C, H, W).

    stride: default the kernel's size. padding: of zeros, at most half the kernel; they are counted
    unless `count_include_pad` is False. divisor_override: divide by it instead.
    """
    args = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return _avg_pool("avg_pool2d", 2, input, *args)


def _avg_pool(
    name: str,
    spatial: int,
    input: Any,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Sizes,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Any:
    kernel, strides, pads = _geometry(name, spatial, input, kernel_size, stride, padding)
    ones = (1,) * spatial
    sizes = input.shape[-spatial:]
    widths = _widths(name, sizes, kernel, strides, pads, ones, ceil_mode)
    total = window.sum_pool(
        _padded(input, widths, 0.0), kernel=kernel, stride=strides, dilation=ones
    )
    if divisor_override is not None:
        if not divisor_override:
            raise ValueError(f"{name}: divisor_override must not be 0")
        return total / divisor_override
    divisor = np.ones((), input.dtype)
    for n, k, s, p, width in zip(sizes, kernel, strides, pads, widths, strict=True):
        first, last = (-p, n + p) if count_include_pad else (0, n)
        start = np.arange(0, sum(width) + n - k + 1, s) - p
        counted = np.minimum(start + k, last) - np.maximum(start, first)
        divisor = divisor[..., None] * counted.astype(input.dtype)
    return total / divisor


def adaptive_avg_pool1d(input: Any, output_size: Sizes) -> Any:
    """`adaptive_avg_pool2d` over one spatial axis."""
    (bins,) = _positive(output_size, 1, "output_size")
    return input @ _bins(input.shape[-1], bins, input.dtype).T


def adaptive_avg_pool2d(input: Any, output_size: Any) -> Any:
    """The means of n = `output_size` bins of each axis; from floor(i H / n) to ceil((i + 1) H / n).

    output_size: a number of bins, or one for each of (H, W), where None keeps that size.
    """
    pair = (
        (output_size,) * 2 if output_size is None or isinstance(output_size, int) else output_size
    )
    if input.ndim not in (3, 4) or len(pair) != 2:
        raise ValueError(
            f"adaptive_avg_pool2d: input (N, C, H, W), two sizes wanted, not {input.shape}, {pair}"
        )
    rows, columns = (n if b is None else b for n, b in zip(input.shape[-2:], pair, strict=True))
    _positive((rows, columns), 2, "output_size")
    height, width = input.shape[-2:]
    return _bins(height, rows, input.dtype) @ (input @ _bins(width, columns, input.dtype).T)


def _bins(size: int, bins: int, dtype: Any) -> ndarray:
    """The matrix (bins, size) that averages over each bin."""
    number = np.arange(bins)[:, None]
    start, end = number * size // bins, -(-(number + 1) * size // bins)
    place = np.arange(size)
    return (((place >= start) & (place < end)) / (end - start)).astype(dtype)


# ------------------------------------------------------------------ what both share


def _geometry(
    name: str, spatial: int, input: Any, kernel_size: Sizes, stride: Sizes | None, padding: Sizes
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    if input.ndim not in (spatial + 1, spatial + 2):
        axes = "H, W" if spatial == 2 else "L"
        raise ValueError(f"{name}: input (N, C, {axes}) or (C, {axes}) wanted, not {input.shape}")
    kernel = _positive(kernel_size, spatial, "kernel_size")
    strides = kernel if stride is None else _positive(stride, spatial, "stride")
    pads = _sizes(padding, spatial, "padding", 0)
    if any(2 * p > k for p, k in zip(pads, kernel, strict=True)):
        raise ValueError(f"{name}: padding {pads} is more than half of the kernel {kernel}")
    return kernel, strides, pads


def _widths(
    name: str,
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    ceil_mode: bool,
) -> Pairs:
    """Padding before and after, the latter extended for a last window that starts inside."""
    widths = []
    for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        if room < 0:
            raise ValueError(f"{name}: a window of {kernel} does not fit into {sizes}")
        more = -room % s if ceil_mode and -(-room // s) * s < n + p else 0
        widths.append((p, p + more))
    return tuple(widths)


def _padded(x: Any, widths: Pairs, value: float) -> Any:
    if not any(map(any, widths)):
        return x
    return shape.pad(x, widths=((0, 0),) * (x.ndim - len(widths)) + widths, value=value)
