"""Maxima and sums of windows in C. Memory orders of channels are kept: first or last.

Each function returns None for what NumPy computes.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops import kernels

Sizes = tuple[int, ...]

_PIECE = 2**14
"""Elements that a thread takes at once."""


def fits(x: Any, kernel: Sizes) -> bool:
    """Whether these are windows of one or two axes, of enough elements."""
    return type(x) is ndarray and x.size >= kernels.MIN_ELEMENTS and len(kernel) <= 2


def pool(name: str, x: ndarray, counts: Sizes, **window: Sizes) -> ndarray | None:
    """The maximum or the sum of each window of the last axes. counts: numbers of windows."""
    shape = x.shape[: x.ndim - len(counts)] + counts
    last = _has_channels_last(x, counts)
    y = _new(shape, x.dtype, last)
    return y if _call(name, {"x": x, "y": y}, last, **window) else None


def max_pool_vjp(g: Any, x: ndarray, y: Any, **window: Sizes) -> ndarray | None:
    """Zeros like `x` with `g` added to the first largest element of each window, `y`."""
    if type(g) is not ndarray or type(y) is not ndarray or g.shape != y.shape:
        return None
    last = _has_channels_last(x, window["kernel"])
    dx = _new(x.shape, x.dtype, last)
    return dx if _call("max_pool_vjp", {"x": x, "g": g, "y": y, "dx": dx}, last, **window) else None


def sum_pool_vjp(g: Any, x: Any, **window: Sizes) -> ndarray | None:
    """Zeros like `x` with `g` added to all elements of each window."""
    if type(g) is not ndarray or type(x) is not ndarray or g.dtype != x.dtype:
        return None
    last = _has_channels_last(x, window["kernel"])
    dx = _new(x.shape, x.dtype, last)
    return dx if _call("sum_pool_vjp", {"g": g, "dx": dx}, last, **window) else None


def _has_channels_last(x: ndarray, spatial: Sizes) -> bool:
    return x.ndim == len(spatial) + 2 and x.strides[1] < x.strides[-1]


def _new(shape: Sizes, dtype: Any, last: bool) -> ndarray:
    if not last:
        return np.empty(shape, dtype)
    return kernels.channels_first(np.empty((shape[0], *shape[2:], shape[1]), dtype))


def _call(
    name: str, arrays: dict[str, ndarray], last: bool, kernel: Sizes, stride: Sizes, dilation: Sizes
) -> bool:
    """Call a function of `pooling.h`; False for NumPy."""
    x, y = arrays.get("x", arrays.get("dx")), arrays.get("y", arrays.get("g"))
    assert x is not None and y is not None
    built = kernels.kernels("pooling", *arrays.values())
    if built is None:
        return False
    order = kernels.dense if x.ndim < 3 else partial(kernels.with_channels, last=last)
    given = {key: order(array) for key, array in arrays.items()}
    sizes, counts = _pair(x.shape[-len(kernel) :]), _pair(y.shape[-len(kernel) :])
    channels = x.shape[1] if last else 1
    planes = x.size // (math.prod(sizes) * channels)
    step = max(_PIECE // (math.prod(sizes) * channels), 1)
    window = (*_pair(kernel), *_pair(stride), *_pair(dilation))
    places = (kernels.place(given.get(key)) for key in ("x", "g", "y", "dx"))
    numbers = (planes, *sizes, channels, *counts, *window, step, *places)
    work = y.size * math.prod(kernel)
    return kernels.run(getattr(built, name), numbers, -(-planes // step), work)


def _pair(sizes: Sizes) -> Sizes:
    """Sizes along two axes, where there may be only one."""
    return (1, *sizes) if len(sizes) == 1 else sizes
