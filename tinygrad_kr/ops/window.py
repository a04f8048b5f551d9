"""Sliding windows over the last axes: `unfold` reads them, its adjoint `fold` adds them back.

Convolution and pooling are built on these in `functional`.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.op import op

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


def _offset_slices(
    offset: Sizes, counts: Sizes, stride: Sizes, dilation: Sizes
) -> tuple[Any, ...]:
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
        out[_offset_slices(offset, counts, stride, dilation)] += g[(..., *offset)]
    return out


def _zeros_laid_out_like(g: ndarray, shape: Sizes, spatial: int) -> ndarray:
    """Zeros whose axes lie in memory in the order in which those of `g` do."""
    strides = g.strides[: g.ndim - spatial]
    order = sorted(range(len(shape)), key=lambda axis: -abs(strides[axis]))
    back = np.argsort(order)
    return np.zeros([shape[axis] for axis in order], g.dtype).transpose(back)


# fmt: off
unfold = op(_unfold, lambda g, y, x, **window: fold(g, shape=x.shape, **window))
fold   = op(_fold,   lambda g, y, x, shape, **window: unfold(g, **window))
# fmt: on

# ------------------------------------------------------------------ maxima of windows


def _window_argmax(x: ndarray, *, kernel: Sizes, stride: Sizes, dilation: Sizes) -> ndarray:
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


def _window_max(x: ndarray, *, kernel: Sizes, stride: Sizes, dilation: Sizes) -> ndarray:
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
    return x if isinstance(x, ndarray) else x._data  # type: ignore[no-any-return]


# fmt: off
window_max  = op(_window_max,  lambda g, y, x, **window:
                 window_put(g, index=_window_argmax(_raw(x), **window), shape=x.shape, **window))
window_pick = op(_window_pick, lambda g, y, x, index, **window:
                 window_put(g, index=index, shape=x.shape, **window))
window_put  = op(_window_put,  lambda g, y, x, index, shape, **window:
                 window_pick(g, index=index, **window))
# fmt: on
