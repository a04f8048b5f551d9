"""Convolutions of float32 in C, where that is faster than NumPy's products of columns.

Each function returns None for a convolution that NumPy computes: of other dtypes, in groups, small,
or without the C kernels (see `products`). Sizes are those of `window.convolve`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops import products
from tinygrad_kr.ops.writes import address

_MAX_FEATURES = 2304
"""Capacity of `convolution.h`: elements of a filter, and outputs."""


def convolve(
    x: ndarray, weight: ndarray, bias: ndarray | None, counts: tuple[int, ...], **window: Any
) -> ndarray | None:
    """Products of every window with every filter: (samples, *counts, outputs)."""
    arrays = (x, weight) if bias is None else (x, weight, bias)
    kernels = _kernels(weight.shape, len(x) * math.prod(counts), window, *arrays)
    if kernels is None:
        return None
    x, filters = _in_place(x), _channels_last(weight)
    bias = None if bias is None else _dense(bias)
    y = np.empty((len(x), *counts, len(weight)), np.float32)
    sizes = _sizes(x.shape, x.strides, weight.shape, counts, window)
    at_bias = None if bias is None else address(bias)
    kernels.convolve(address(sizes), address(x), address(filters), at_bias, address(y))
    return y


def convolve_transposed(
    g: ndarray, weight: ndarray, size: tuple[int, ...], **window: Any
) -> ndarray | None:
    """The filters, scaled by every element of `g`, summed: (samples, *size, channels)."""
    kernels = _kernels(weight.shape, len(g) * math.prod(g.shape[2:]), window, g, weight)
    if kernels is None:
        return None
    rows, filters = _channels_last(g), _channels_last(weight)
    y = np.empty((len(g), *size, weight.shape[1]), np.float32)
    x = np.moveaxis(y, -1, 1)
    sizes = _sizes(x.shape, x.strides, weight.shape, g.shape[2:], window)
    kernels.convolve_transposed(*map(address, (sizes, rows, filters, y)))
    return y


def convolve_weight(
    x: ndarray, g: ndarray, kernel: tuple[int, ...], **window: Any
) -> ndarray | None:
    """Products of `g` with its windows: (elements of a filter, channels last; outputs)."""
    shape = (g.shape[1], x.shape[1], *kernel)
    kernels = _kernels(shape, len(g) * math.prod(g.shape[2:]), window, x, g)
    if kernels is None:
        return None
    x, rows = _in_place(x), _channels_last(g)
    weight = np.empty((math.prod(shape[1:]), shape[0]), np.float32)
    sizes = _sizes(x.shape, x.strides, shape, g.shape[2:], window)
    kernels.convolve_weight(*map(address, (sizes, x, rows, weight)))
    return weight


def _kernels(
    weight: tuple[int, ...], windows: int, window: dict[str, Any], *arrays: ndarray
) -> Any:
    """The C kernels, or None for a convolution that NumPy computes."""
    outputs, features = weight[0], math.prod(weight[1:])
    large = windows * features * outputs >= products.MIN_MULTIPLY_ADDS
    if not large or outputs < products.MIN_SIDE or max(outputs, features) > _MAX_FEATURES:
        return None
    if window["groups"] != 1 or len(weight) > 4:
        return None
    return products.kernels() if all(a.dtype == np.float32 for a in arrays) else None


def pair(sizes: Any, missing: int = 1) -> tuple[int, int]:
    """Sizes along two axes, where there may be only one."""
    return (missing, *sizes) if len(sizes) == 1 else tuple(sizes)


def _sizes(
    x: tuple[int, ...],
    strides: tuple[int, ...],
    weight: tuple[int, ...],
    counts: tuple[int, ...],
    window: dict[str, Any],
) -> ndarray:
    """The struct `tk_sizes`; a single axis becomes the second of two."""
    before = [first for first, _ in window["padding"]]
    sample, channel, *steps = (step // 4 for step in strides)
    return np.array(
        [
            *(x[0], x[1], weight[0], *pair(x[2:]), *pair(weight[2:]), *pair(counts)),
            *(*pair(window["stride"]), *pair(before, 0), *pair(window["dilation"])),
            *(sample, channel, *pair(steps, 0)),
        ],
        np.int64,
    )


def _channels_last(x: ndarray) -> ndarray:
    return _dense(np.moveaxis(x, 1, -1))


def _dense(x: ndarray) -> ndarray:
    dense: ndarray = np.require(x, requirements=["C", "A"])
    return dense


def _in_place(x: ndarray) -> ndarray:
    return x if x.flags.aligned else x.copy()
