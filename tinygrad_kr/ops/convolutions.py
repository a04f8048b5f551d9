"""Convolutions of float32 in C, where that is faster than NumPy's products of columns.

Each function returns None for a convolution that NumPy computes: of other dtypes, small, or without
the C kernels (see `products`). Sizes are those of `window.convolve`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops import kernels, products
from tinygrad_kr.ops.writes import address

_MAX_FEATURES = 2304
"""Capacity of `convolution.h`: elements of a filter, and outputs; of a group."""
_MAX_FEW, _MAX_FEWER, _MIN_LINE = 8, 4, 16
"""Thresholds: with more channels or outputs per group, products of matrices are faster; the smaller
for strides, for lines of fewer windows, and for the gradient of the weight."""
_MAX_SCRATCH = 2**18
"""Capacity of `grouped.h`: padded elements of the channels of a group, and sums; elements."""
_MAX_PLANE = 2**16
"""Capacity of `depthwise.h`: padded elements of a channel."""
_MIN_MULTIPLY_ADDS = 2**15
"""Threshold: NumPy computes smaller convolutions; multiply-adds."""
_MIN_MULTIPLY_ADDS_OF_GROUPS = 2**14
"""The same in groups, for which NumPy is slow."""


def convolve(
    x: ndarray, weight: ndarray, bias: ndarray | None, counts: tuple[int, ...], **window: Any
) -> ndarray | None:
    """Products of every window with every filter: (samples, *counts, outputs)."""
    arrays = (x, weight) if bias is None else (x, weight, bias)
    kernels, kind = _kernels(len(x), weight.shape, counts, window, *arrays)
    if kernels is None:
        return None
    x = _in_place(x)
    bias = None if bias is None else _dense(bias)
    sizes = _sizes(x, weight.shape, counts, window)
    at = address(sizes), address(x)
    at_bias = None if bias is None else address(bias)
    if kind is _FEW:
        weight, y = _dense(weight), np.empty((len(x), len(weight), *counts), np.float32)
        first, second = at
        kernels.convolve_groups(
            first, window["groups"], second, address(weight), at_bias, address(y)
        )
        return np.moveaxis(y, 1, -1)
    y = np.empty((len(x), *counts, len(weight)), np.float32)
    if kind is _DEPTHWISE:
        weight = _dense(weight)
        kernels.convolve_depthwise(*at, address(weight), at_bias, address(y))
    else:
        filters = _channels_last(weight)
        kernels.convolve(*at, address(filters), at_bias, address(y))
    return y


def convolve_transposed(
    g: ndarray, weight: ndarray, size: tuple[int, ...], **window: Any
) -> ndarray | None:
    """The filters, scaled by every element of `g`, summed: (samples, *size, channels)."""
    counts, channels = g.shape[2:], weight.shape[1] * window["groups"]
    kernels, kind = _kernels(len(g), weight.shape, counts, window, g, weight)
    if kernels is None:
        return None
    single = kind is _MANY and window["groups"] == 1
    if not single and (same := as_convolution(g, weight, size, **window)) is not None:
        done = convolve(g, same[0], None, size, **same[1])
        if done is not None:
            return done
    sizes = partial(_sizes, weight=weight.shape, counts=counts, window=window)
    if kind is _FEW:
        g, weight = _dense(g), _dense(weight)
        x = np.empty((len(g), channels, *size), np.float32)
        at = (address(g), address(weight), address(x))
        kernels.convolve_groups_transposed(address(sizes(x)), window["groups"], *at)
        return np.moveaxis(x, 1, -1)
    g, y = _in_place(g), np.empty((len(g), *size, channels), np.float32)
    given = sizes(np.moveaxis(y, -1, 1), g=g)
    if kind is _DEPTHWISE:
        weight, run = _dense(weight), kernels.convolve_depthwise_transposed
    else:
        weight, run = _channels_last(weight), kernels.convolve_transposed
    run(*map(address, (given, g, weight, y)))
    return y


def convolve_weight(
    x: ndarray, g: ndarray, kernel: tuple[int, ...], **window: Any
) -> ndarray | None:
    """Products of `g` with its windows: (outputs, channels of a group, *kernel)."""
    counts, groups = g.shape[2:], window["groups"]
    shape = (g.shape[1], x.shape[1] // groups, *kernel)
    kernels, kind = _kernels(len(x), shape, counts, window, x, g, most=_MAX_FEWER)
    if kernels is None:
        return None
    x, g = _in_place(x), _dense(g) if kind is _FEW else _in_place(g)
    sizes = _sizes(x, shape, counts, window, g)
    at = address(x), address(g)
    if kind is _MANY:
        outs, features = shape[0] // groups, math.prod(shape[1:])
        sums = np.empty((groups, features, outs), np.float32)
        kernels.convolve_weight(address(sizes), *at, address(sums))
        return np.moveaxis(sums.mT.reshape(shape[0], *kernel, shape[1]), -1, 1)
    weight = np.empty(shape, np.float32)
    if kind is _DEPTHWISE:
        kernels.convolve_depthwise_weight(address(sizes), *at, address(weight))
    else:
        kernels.convolve_groups_weight(address(sizes), groups, *at, address(weight))
    return weight


# ------------------------------------------------------------------ which kernel

_DEPTHWISE, _FEW, _MANY = "depthwise", "few channels", "many channels"
"""The kernels: of `depthwise.h`, `grouped.h` and `convolution.h`."""


def _kernels(
    samples: int,
    weight: tuple[int, ...],
    counts: tuple[int, ...],
    window: dict[str, Any],
    *arrays: ndarray,
    most: int = _MAX_FEW,
) -> tuple[Any, str]:
    """The C kernels and the kind of kernel; None for a convolution that NumPy computes."""
    groups = window["groups"]
    least = _MIN_MULTIPLY_ADDS_OF_GROUPS if groups > 1 else _MIN_MULTIPLY_ADDS
    large = samples * math.prod(counts) * math.prod(weight) >= least
    if not large or len(weight) > 4 or any(a.dtype != np.float32 for a in arrays):
        return None, ""
    kind = _kind(weight, counts, window, most)
    return (products.kernels(), kind) if kind else (None, "")


def _kind(
    weight: tuple[int, ...], counts: tuple[int, ...], window: dict[str, Any], most: int
) -> str:
    """The kind of kernel for these sizes; "" for NumPy."""
    outputs, channels, *kernel = weight
    each, elements = outputs // window["groups"], math.prod(kernel)
    geometry = zip(kernel, counts, window["stride"], window["dilation"], strict=True)
    plane = math.prod((n - 1) * s + (k - 1) * d + s for k, n, s, d in geometry)
    if channels == each == 1 < outputs and plane <= _MAX_PLANE:
        return _DEPTHWISE
    fits = max(channels * plane, each * channels * elements * 16) <= _MAX_SCRATCH
    fits = fits and elements <= _MAX_FEATURES
    lines = max(window["stride"]) == 1 and counts[-1] >= _MIN_LINE
    few = max(channels, each) <= (most if lines else _MAX_FEWER)
    if fits and (few or (each < products.MIN_SIDE and elements > 1)):
        return _FEW
    if each < products.MIN_SIDE and elements == 1:  # a product of few columns: BLAS's
        return ""
    return _MANY if max(each, channels * elements) <= _MAX_FEATURES else ""


# ------------------------------------------------------------------ the adjoint as a convolution


def as_convolution(
    g: ndarray, weight: ndarray, size: tuple[int, ...], **window: Any
) -> tuple[ndarray, dict[str, Any]] | None:
    """The filters and the window of a convolution of `g` that equals `convolve_transposed`.

    None for another stride than 1, for padding that would be negative, and for filters that are not
    finite, whose products with zeros around `g` are NaN.
    """
    if max(window["stride"]) > 1 or not np.isfinite(weight).all():
        return None
    outputs, channels, *kernel = weight.shape
    reach = [d * (k - 1) for k, d in zip(kernel, window["dilation"], strict=True)]
    before = [r - a for r, (a, _) in zip(reach, window["padding"], strict=True)]
    after = [n + r - c - b for n, r, c, b in zip(size, reach, g.shape[2:], before, strict=True)]
    if min(*before, *after) < 0:
        return None
    groups = window["groups"]
    by_group = weight.reshape(groups, outputs // groups, channels, *kernel).swapaxes(1, 2)
    filters = by_group.reshape(channels * groups, outputs // groups, *kernel)
    filters = np.flip(filters, tuple(range(2, filters.ndim)))
    return filters, {**window, "padding": tuple(zip(before, after, strict=True))}


# ------------------------------------------------------------------ what C is given


def pair(sizes: Any, missing: int = 1) -> tuple[int, int]:
    """Sizes along two axes, where there may be only one."""
    return (missing, *sizes) if len(sizes) == 1 else tuple(sizes)


def _sizes(
    x: ndarray,
    weight: tuple[int, ...],
    counts: tuple[int, ...],
    window: dict[str, Any],
    g: ndarray | None = None,
) -> ndarray:
    """The struct `tk_sizes`; a single axis becomes the second of two. g: the cotangent."""
    before = [first for first, _ in window["padding"]]
    size = x.shape[2:]
    return np.array(
        [
            *(len(x), x.shape[1], weight[0], *pair(size), *pair(weight[2:]), *pair(counts)),
            *(*pair(window["stride"]), *pair(before, 0), *pair(window["dilation"])),
            *(*_strides(x), *((0,) * 4 if g is None else _strides(g)), window["groups"]),
        ],
        np.int64,
    )


def _strides(x: ndarray) -> tuple[int, ...]:
    """Strides in elements. That of a missing axis is of no length: nothing steps along it."""
    sample, channel, *steps = (step // 4 for step in x.strides)
    rows = 0 if len(steps) > 1 else steps[0] * x.shape[-1]
    return (sample, channel, *pair(steps, rows))


def _channels_last(x: ndarray) -> ndarray:
    return kernels.with_channels(x, last=True)


def _dense(x: ndarray) -> ndarray:
    return kernels.with_channels(x, last=False) if x.ndim > 2 else kernels.dense(x)


def _in_place(x: ndarray) -> ndarray:
    return x if x.flags.aligned else x.copy()
