"""Pooling: each window reduced to its largest element or its mean."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.arrays.indexing import peek
from tinygrad_kr.functional.convolution import SPATIAL_AXES, Sizes, _positive, _sizes
from tinygrad_kr.ops import shape, window
from tinygrad_kr.ops.node import Node, constant
from tinygrad_kr.ops.op import FLOAT16, widened
from tinygrad_kr.ops.reduction import mean_

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
    """The largest element of each window of one axis.

    input: (N, C, L) or (C, L). Options, gradient and errors: see `max_pool2d`.

    >>> F.max_pool1d(tk.tensor([[1.0, 5.0, 2.0, 3.0]]), kernel_size=2)
    Tensor([[5., 3.]])
    """
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
    """The largest element of each window; NaN if the window holds one.

    input: (N, C, H, W) or (C, H, W). Result: the same axes,
        H' = floor((H + 2 padding - dilation (kernel_size - 1) - 1) / stride) + 1.
    kernel_size, stride, padding, dilation: one number or one per axis.
    stride: default: kernel_size. padding: with -inf, at most half the kernel.
    ceil_mode: round H' up, so that a last window may extend beyond the edge. It starts within the
        input, or in the padding before it.
    return_indices: also return the position of each maximum in the flattened (H, W), int64.

    The gradient goes to the first of several equal maxima.
    Raises ValueError for axes or sizes that do not fit.

    >>> F.max_pool2d(tk.arange(16.0).reshape(1, 4, 4), kernel_size=2)
    Tensor([[[ 5.,  7.],
             [13., 15.]]])
    """
    args = (kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    return _max_pool("max_pool2d", 2, input, *args)


def max_pool3d(
    input: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window of three axes.

    input: (N, C, D, H, W) or (C, D, H, W). Options, gradient and errors: see `max_pool2d`.

    >>> F.max_pool3d(tk.arange(16.0).reshape(1, 2, 2, 4), kernel_size=2)
    Tensor([[[[13., 15.]]]])
    """
    args = (kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    return _max_pool("max_pool3d", 3, input, *args)


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
    dilations = _positive(dilation, spatial, f"{name}: dilation")
    widths = _widths(name, input.shape[-spatial:], kernel, strides, pads, dilations, ceil_mode)
    how = {"kernel": kernel, "stride": strides, "dilation": dilations}
    y = window.max_pool(_padded(input, widths, _lowest(input.dtype)), **how)
    if not return_indices:
        return y
    # An input of -inf must not lose against the padding.
    x = peek(input)
    least = np.iinfo(x.dtype).min + 1 if x.dtype.kind in "iu" else np.finfo(x.dtype).min
    x = _padded(np.maximum(x, least), widths, _lowest(x.dtype))
    index = window.window_argmax(x, window.max_pool(x, **how), **how)
    starts = tuple(a for a, _ in widths)
    found = _flat_positions(index, input.shape[-spatial:], kernel, strides, dilations, starts)
    return y, constant(found) if isinstance(y, Node) else found


def _lowest(dtype: Any) -> float:
    """What loses against every number of a dtype."""
    if dtype.kind in "iu":
        return int(np.iinfo(dtype).min)
    return -math.inf


def _flat_positions(
    index: ndarray,
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    starts: tuple[int, ...],
) -> ndarray:
    """Positions within windows as positions within the flattened spatial axes."""
    offsets = np.unravel_index(index, kernel)
    counts = index.shape[index.ndim - len(kernel) :]
    grid = np.ogrid[tuple(slice(n) for n in counts)]
    found = np.zeros(index.shape, np.int64)
    for size, offset, position, s, d, a in zip(
        sizes, offsets, grid, stride, dilation, starts, strict=True
    ):
        found = found * size + position * s + offset * d - a
    return found


def avg_pool1d(
    input: Any,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """The mean of each window of one axis.

    input: (N, C, L) or (C, L). Options and errors: see `avg_pool2d`.

    >>> F.avg_pool1d(tk.tensor([[1.0, 5.0, 2.0, 3.0]]), kernel_size=2)
    Tensor([[3. , 2.5]])
    """
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
    """The mean of each window.

    input: (N, C, H, W) or (C, H, W). Result: the same axes,
        H' = floor((H + 2 padding - kernel_size) / stride) + 1.
    kernel_size, stride, padding: one number or one per axis.
    stride: default: kernel_size. padding: with zeros, at most half the kernel.
    ceil_mode: round H' up, so that a last window may extend beyond the edge. What lies beyond the
        padding counts in no mean.
    count_include_pad: count the zeros of the padding in the mean.
    divisor_override: divide by this number instead.

    Raises ValueError for axes or sizes that do not fit, or a divisor of 0.

    >>> F.avg_pool2d(tk.arange(16.0).reshape(1, 4, 4), kernel_size=2)
    Tensor([[[ 2.5,  4.5],
             [10.5, 12.5]]])
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
    if getattr(input, "dtype", None) == FLOAT16:  # the sum may overflow where the mean does not
        options = (stride, padding, ceil_mode, count_include_pad, divisor_override)
        wide = _avg_pool(name, spatial, widened(input), kernel_size, *options)
        return wide.astype(FLOAT16)
    kernel, strides, pads = _geometry(name, spatial, input, kernel_size, stride, padding)
    ones = (1,) * spatial
    sizes = input.shape[-spatial:]
    widths = _widths(name, sizes, kernel, strides, pads, ones, ceil_mode)
    total = window.sum_pool(
        _padded(input, widths, 0.0), kernel=kernel, stride=strides, dilation=ones
    )
    if divisor_override is not None:
        if not divisor_override:
            raise ValueError(f"{name}: expected divisor_override != 0, got 0.")
        return total / divisor_override
    divisor = np.ones((), input.dtype)
    for n, k, s, p, width in zip(sizes, kernel, strides, pads, widths, strict=True):
        first, last = (-p, n + p) if count_include_pad else (0, n)
        start = np.arange(0, sum(width) + n - k + 1, s) - p
        counted = np.minimum(start + k, last) - np.maximum(start, first)
        divisor = divisor[..., None] * counted.astype(input.dtype)
    return total / divisor


def adaptive_avg_pool1d(input: Any, output_size: Sizes) -> Any:
    """The means of `output_size` bins of the last axis.

    input: (..., L), the result (..., output_size). Bins as in `adaptive_avg_pool2d`.

    >>> F.adaptive_avg_pool1d(tk.tensor([[1.0, 2.0, 3.0, 6.0]]), 2)
    Tensor([[1.5, 4.5]])
    """
    (bins,) = _positive(output_size, 1, "adaptive_avg_pool1d: output_size")
    return input @ _bins(input.shape[-1], bins, input.dtype).T


def adaptive_avg_pool2d(input: Any, output_size: Any) -> Any:
    """The means of n = `output_size` bins of each axis.

    Bin i of an axis of size H reaches from floor(i H / n) to ceil((i + 1) H / n).
    input: (N, C, H, W) or (C, H, W).
    output_size: one number of bins, or one for each of (H, W); None keeps that size.

    Raises ValueError for other shapes or sizes.

    >>> F.adaptive_avg_pool2d(tk.arange(16.0).reshape(1, 4, 4), (1, 2))
    Tensor([[[6.5, 8.5]]])
    """
    pair = (
        (output_size,) * 2 if output_size is None or isinstance(output_size, int) else output_size
    )
    if input.ndim not in (3, 4) or len(pair) != 2:
        raise ValueError(
            "adaptive_avg_pool2d: expected input (N, C, H, W) or (C, H, W) and two sizes, got "
            f"{input.shape} and {pair}."
        )
    rows, columns = (n if b is None else b for n, b in zip(input.shape[-2:], pair, strict=True))
    _positive((rows, columns), 2, "adaptive_avg_pool2d: output_size")
    if rows == columns == 1 and input.dtype.kind == "f":
        return mean_(input, axis=(-2, -1), keepdims=True)
    height, width = input.shape[-2:]
    return _bins(height, rows, input.dtype) @ (input @ _bins(width, columns, input.dtype).T)


def adaptive_max_pool1d(input: Any, output_size: Sizes, return_indices: bool = False) -> Any:
    """The largest elements of `output_size` bins of the last axis.

    input: (N, C, L) or (C, L). Options, gradient and errors: see `adaptive_max_pool2d`.

    >>> F.adaptive_max_pool1d(tk.tensor([[1.0, 2.0, 6.0, 3.0]]), 2)
    Tensor([[2., 6.]])
    """
    return _adaptive_max_pool("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """The largest elements of n = `output_size` bins of each axis. Bins: see `adaptive_avg_pool2d`.

    input: (N, C, H, W) or (C, H, W).
    output_size: one number of bins, or one for each of (H, W); None keeps that size.
    return_indices: also return the position of each maximum in the flattened (H, W), int64.

    The gradient goes to the first of several equal maxima of a bin.
    Raises ValueError for other shapes or sizes.

    >>> F.adaptive_max_pool2d(tk.arange(16.0).reshape(1, 4, 4), (1, 2))
    Tensor([[[13., 15.]]])
    """
    return _adaptive_max_pool("adaptive_max_pool2d", 2, input, output_size, return_indices)


def _adaptive_max_pool(
    name: str, spatial: int, input: Any, output_size: Any, return_indices: bool
) -> Any:
    given = output_size if isinstance(output_size, tuple | list) else (output_size,) * spatial
    sizes = input.shape[max(input.ndim - spatial, 0) :]
    if input.ndim not in (spatial + 1, spatial + 2) or len(given) != spatial or 0 in sizes:
        axes = SPATIAL_AXES[spatial]
        raise ValueError(
            f"{name}: expected input (N, C, {axes}) or (C, {axes}) and as many sizes, got "
            f"{input.shape} and {output_size}."
        )
    counts = tuple(n if b is None else b for n, b in zip(sizes, given, strict=True))
    _positive(counts, spatial, f"{name}: output_size")
    rows = [_members(n, bins) for n, bins in zip(sizes, counts, strict=True)]
    x = input
    for axis, members in zip(range(input.ndim - spatial, input.ndim), rows, strict=True):
        if members.size != x.shape[axis]:
            x = x[(slice(None),) * axis + (members.ravel(),)]
    kernel = tuple(members.shape[1] for members in rows)
    how = {"kernel": kernel, "stride": kernel, "dilation": (1,) * spatial}
    y = window.max_pool(x, **how)
    if not return_indices:
        return y
    found = _positions_in_bins(window.window_argmax(peek(x), peek(y), **how), rows, sizes)
    return y, constant(found) if isinstance(y, Node) else found


def _members(size: int, bins: int) -> ndarray:
    """The elements of each bin (bins, longest); those of shorter bins end with their last again."""
    number = np.arange(bins)[:, None]
    start, end = number * size // bins, -(-(number + 1) * size // bins)
    longest = int((end - start).max())
    members: ndarray = np.minimum(start + np.arange(longest), end - 1)
    return members


def _positions_in_bins(index: ndarray, rows: list[ndarray], sizes: tuple[int, ...]) -> ndarray:
    """Positions within bins as positions within the flattened spatial axes."""
    offsets = np.unravel_index(index, tuple(members.shape[1] for members in rows))
    grid = np.ogrid[tuple(slice(len(members)) for members in rows)]
    found = np.zeros(index.shape, np.int64)
    for size, members, number, offset in zip(sizes, rows, grid, offsets, strict=True):
        found = found * size + members[number, offset]
    return found


def _bins(size: int, bins: int, dtype: Any) -> ndarray:
    """The matrix (bins, size) that averages over each bin."""
    number = np.arange(bins)[:, None]
    start, end = number * size // bins, -(-(number + 1) * size // bins)
    position = np.arange(size)
    return (((position >= start) & (position < end)) / (end - start)).astype(dtype)


# ------------------------------------------------------------------ geometry of the windows


def _geometry(
    name: str, spatial: int, input: Any, kernel_size: Sizes, stride: Sizes | None, padding: Sizes
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    if input.ndim not in (spatial + 1, spatial + 2):
        axes = SPATIAL_AXES[spatial]
        raise ValueError(
            f"{name}: expected input (N, C, {axes}) or (C, {axes}), got {input.shape}."
        )
    kernel = _positive(kernel_size, spatial, f"{name}: kernel_size")
    given = None if stride in (None, (), []) else stride
    strides = kernel if given is None else _positive(given, spatial, f"{name}: stride")
    pads = _sizes(padding, spatial, f"{name}: padding", 0)
    if any(2 * p > k for p, k in zip(pads, kernel, strict=True)):
        raise ValueError(
            f"{name}: expected padding of at most half the kernel {kernel}, got {pads}."
        )
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
    """Padding before and after. The latter is extended for a last window that starts inside."""
    widths = []
    for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        last = -(-room // s) * s  # where the last window starts, from the start of the padding
        more = last - room if ceil_mode and 0 <= last < n + p else 0
        if not n or room + more < 0:
            raise ValueError(f"{name}: expected an input of at least {kernel}, got {sizes}.")
        widths.append((p, p + more))
    return tuple(widths)


def _padded(x: Any, widths: Pairs, value: float) -> Any:
    if not any(map(any, widths)):
        return x
    return shape.pad(x, widths=((0, 0),) * (x.ndim - len(widths)) + widths, value=value)
