"""Sliding windows over the last axes: `unfold` reads them, its adjoint `fold` adds them back.

Convolution and pooling are built on these in `functional`.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.op import Op, op
from tinygrad_kr.ops.shape import broadcast_to

Sizes = tuple[int, ...]


def windows_along(size: int, kernel: int, stride: int, dilation: int) -> int:
    """How many windows fit: floor((size - dilation (kernel - 1) - 1) / stride) + 1."""
    return (size - dilation * (kernel - 1) - 1) // stride + 1


def _unfold(x: ndarray, *, kernel: Sizes, stride: Sizes, dilation: Sizes) -> ndarray:
    """Windows of the last axes as a view: (..., *positions, *kernel)."""
    spatial = len(kernel)
    sizes = x.shape[x.ndim - spatial :]
    counts = tuple(map(windows_along, sizes, kernel, stride, dilation))
    if min(counts) < 1:
        raise ValueError(f"a window of {kernel} (dilation {dilation}) does not fit into {sizes}")
    steps = x.strides[x.ndim - spatial :]
    return np.lib.stride_tricks.as_strided(
        x,
        x.shape[: x.ndim - spatial] + counts + kernel,
        x.strides[: x.ndim - spatial]
        + tuple(step * s for step, s in zip(steps, stride, strict=True))
        + tuple(step * d for step, d in zip(steps, dilation, strict=True)),
        writeable=False,
    )


def _offset_slices(offset: Sizes, counts: Sizes, stride: Sizes, dilation: Sizes) -> tuple[Any, ...]:
    """Where the windows' elements at `offset` lie in the unfolded axes."""
    return (
        ...,
        *(
            slice(o * d, o * d + (n - 1) * s + 1, s)
            for o, n, s, d in zip(offset, counts, stride, dilation, strict=True)
        ),
    )


def _fold(g: ndarray, *, shape: Sizes, kernel: Sizes, stride: Sizes, dilation: Sizes) -> ndarray:
    """Zeros of `shape` with every window of `g` added at its place."""
    spatial = len(kernel)
    counts = g.shape[g.ndim - 2 * spatial : g.ndim - spatial]
    out = _zeros_laid_out_like(g, shape, spatial)
    for offset in product(*map(range, kernel)):
        place: tuple[Any, ...] = (..., *offset)
        out[_offset_slices(offset, counts, stride, dilation)] += g[place]
    return out


def _zeros_laid_out_like(g: ndarray, shape: Sizes, spatial: int) -> ndarray:
    """Zeros whose axes lie in memory in the order in which those of `g` do."""
    strides = g.strides[: g.ndim - spatial]
    order = sorted(range(len(shape)), key=lambda axis: -abs(strides[axis]))
    back = np.argsort(order)
    return np.zeros([shape[axis] for axis in order], g.dtype).transpose(back)


# fmt: off
unfold: Op = op(_unfold, lambda g, y, x, **window: fold(g, shape=x.shape, **window))
fold: Op = op(_fold,   lambda g, y, x, shape, **window: unfold(g, **window))
# fmt: on

# ------------------------------------------------------------------ convolution
# Batch on axis 0, channels on axis 1. Convolution is linear in input and weight, and each of these three is the derivative of the other two.

Widths = tuple[tuple[int, int], ...]


def _columns(
    x: ndarray, kernel: Sizes, stride: Sizes, padding: Widths, dilation: Sizes, groups: int
) -> Any:
    """Windows as rows of a matrix per group: (groups, positions, channels of a group x kernel)."""
    spatial = len(kernel)
    padded = np.pad(x, ((0, 0), (0, 0), *padding))
    windows = _unfold(padded, kernel=kernel, stride=stride, dilation=dilation)
    n, channels, *counts = windows.shape[: 2 + spatial]
    split = windows.reshape(n, groups, channels // groups, *counts, *kernel)
    order = (1, 0, *range(3, 3 + spatial), 2, *range(3 + spatial, 3 + 2 * spatial))
    return split.transpose(order).reshape(groups, n * math.prod(counts), -1)


def _as_rows(g: ndarray, groups: int) -> Any:
    """(N, O, *positions) as (groups, N x positions, O / groups)."""
    n, outputs, *counts = g.shape
    split = g.reshape(n, groups, outputs // groups, -1)
    return split.transpose(1, 0, 3, 2).reshape(groups, n * math.prod(counts), outputs // groups)


def _convolve(
    x: ndarray,
    weight: ndarray,
    bias: ndarray | None = None,
    *,
    stride: Sizes,
    padding: Widths,
    dilation: Sizes,
    groups: int,
) -> Any:
    """Products of every window of `x` (N, C, ...) with every filter (O, C / groups, ...)."""
    kernel, outputs = weight.shape[2:], weight.shape[0]
    columns = _columns(x, kernel, stride, padding, dilation, groups)
    y = columns @ weight.reshape(groups, outputs // groups, -1).mT
    sizes = [n + a + b for n, (a, b) in zip(x.shape[2:], padding, strict=True)]
    counts = tuple(map(windows_along, sizes, kernel, stride, dilation))
    y = np.moveaxis(y.reshape(groups, len(x), *counts, -1), (0, -1), (1, 2))
    y = y.reshape(len(x), outputs, *counts)
    return y if bias is None else y + bias.reshape(-1, *[1] * len(kernel))


def _convolve_transposed(
    g: ndarray,
    weight: ndarray,
    *,
    size: Sizes,
    stride: Sizes,
    padding: Widths,
    dilation: Sizes,
    groups: int,
) -> ndarray:
    """Every element of `g` (N, O, ...) spreads its filter over an array (N, C, *size)."""
    kernel, per_group = weight.shape[2:], weight.shape[1]
    spread = _as_rows(g, groups) @ weight.reshape(groups, len(weight) // groups, -1)
    windows = spread.reshape(groups, len(g), *g.shape[2:], per_group, *kernel)
    windows = np.moveaxis(windows, (0, 2 + len(kernel)), (1, 2))
    channels = groups * per_group
    padded = tuple(a + n + b for n, (a, b) in zip(size, padding, strict=True))
    y = _fold(
        windows.reshape(len(g), channels, *g.shape[2:], *kernel),
        shape=(len(g), channels, *padded),
        kernel=kernel,
        stride=stride,
        dilation=dilation,
    )
    inner: list[Any] = [slice(a, a + n) for n, (a, _) in zip(size, padding, strict=True)]
    return y[..., *inner]


def _convolve_weight(
    x: ndarray,
    g: ndarray,
    *,
    kernel: Sizes,
    stride: Sizes,
    padding: Widths,
    dilation: Sizes,
    groups: int,
) -> Any:
    """Products of `g` (N, O, ...) with its windows of `x`: (O, C / groups, *kernel)."""
    columns = _columns(x, kernel, stride, padding, dilation, groups)
    weight = _as_rows(g, groups).mT @ columns
    return weight.reshape(g.shape[1], x.shape[1] // groups, *kernel)


# fmt: off
convolve: Op = op(_convolve,
              lambda g, y, x, w, *b, **p: convolve_transposed(g, w, size=x.shape[2:], **p),
              lambda g, y, x, w, *b, **p: convolve_weight(x, g, kernel=w.shape[2:], **p),
              lambda g, y, x, w, b, **p: g.sum(axis=(0, *range(2, g.ndim))))
convolve_transposed: Op = op(_convolve_transposed,
              lambda g, y, c, w, size, **p: convolve(g, w, **p),
              lambda g, y, c, w, size, **p: convolve_weight(g, c, kernel=w.shape[2:], **p))
convolve_weight: Op = op(_convolve_weight,
              lambda g, y, x, c, kernel, **p: convolve_transposed(c, g, size=x.shape[2:], **p),
              lambda g, y, x, c, kernel, **p: convolve(x, g, **p))
# fmt: on

# ------------------------------------------------------------------ sums of windows


def _window_sum(x: ndarray, *, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Any:
    """The sum of the elements of each window of the last axes."""
    counts = tuple(map(windows_along, x.shape[x.ndim - len(kernel) :], kernel, stride, dilation))
    offsets = product(*map(range, kernel))
    y = x[_offset_slices(next(offsets), counts, stride, dilation)].copy("K")
    for offset in offsets:
        y += x[_offset_slices(offset, counts, stride, dilation)]
    return y


def _repeated(g: Any, kernel: Sizes) -> Any:
    """`g` as windows whose elements are all equal."""
    windows = g.reshape(*g.shape, *[1] * len(kernel))
    return broadcast_to(windows, shape=(*g.shape, *kernel))


# fmt: off
window_sum = op(_window_sum, lambda g, y, x, kernel, **p:
                fold(_repeated(g, kernel), shape=x.shape, kernel=kernel, **p))
# fmt: on

# ------------------------------------------------------------------ maxima of windows


def window_argmax(x: ndarray, *, kernel: Sizes, stride: Sizes, dilation: Sizes) -> ndarray:
    """Which element of each window is its first largest (or first NaN), counted in C order."""
    counts = tuple(map(windows_along, x.shape[x.ndim - len(kernel) :], kernel, stride, dilation))
    best: Any = None
    for number, offset in enumerate(product(*map(range, kernel))):
        element = x[_offset_slices(offset, counts, stride, dilation)]
        if best is None:
            best = element
            index = np.zeros_like(element, dtype=np.int32)
            continue
        better = ~(element <= best) & (best == best)
        index[better] = number
        best = np.maximum(best, element)
    return index


def _window_max(x: ndarray, *, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Any:
    """The largest element of each window of the last axes."""
    spatial = len(kernel)
    counts = tuple(map(windows_along, x.shape[x.ndim - spatial :], kernel, stride, dilation))
    if min(counts) < 1:
        raise ValueError(f"a window of {kernel} does not fit into {x.shape[x.ndim - spatial :]}")
    offsets = product(*map(range, kernel))
    y = x[_offset_slices(next(offsets), counts, stride, dilation)].copy("K")
    for offset in offsets:
        np.maximum(y, x[_offset_slices(offset, counts, stride, dilation)], out=y)
    return y


def _window_pick(x: ndarray, *, index: ndarray, **window: Sizes) -> ndarray:
    """The element of each window that `index` names."""
    spatial = len(window["kernel"])
    flat = _unfold(x, **window).reshape(*index.shape, -1)
    assert flat.ndim == x.ndim + 1 and spatial
    return np.take_along_axis(flat, index[..., None], -1)[..., 0]


def _window_put(g: ndarray, *, index: ndarray, shape: Sizes, **window: Sizes) -> ndarray:
    """Zeros of `shape` with `g` added to the element of each window that `index` names."""
    kernel, stride, dilation = window["kernel"], window["stride"], window["dilation"]
    counts = g.shape[g.ndim - len(kernel) :]
    out = _zeros_laid_out_like(g, shape, 0)
    for number, offset in enumerate(product(*map(range, kernel))):
        part = out[_offset_slices(offset, counts, stride, dilation)]
        np.add(part, g, out=part, where=index == number)
    return out


def _raw(x: Any) -> ndarray:
    return x if isinstance(x, ndarray) else x._data


# fmt: off
window_max  = op(_window_max,  lambda g, y, x, **window:
                 window_put(g, index=window_argmax(_raw(x), **window), shape=x.shape, **window))
window_pick: Op = op(_window_pick, lambda g, y, x, index, **window:
                 window_put(g, index=index, shape=x.shape, **window))
window_put: Op = op(_window_put,  lambda g, y, x, index, shape, **window:
                 window_pick(g, index=index, **window))
# fmt: on
