"""Convolutions of float32 in C, where that is faster than NumPy's products of columns.

Each function returns None for a convolution that NumPy computes: of other dtypes, small, or without
the C kernels (see `products`). Sizes are those of `window.convolve`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops import kernels, products
from tinygrad_kr.ops.writes import address

_MAX_FEATURES = 2304
"""Capacity of `convolution.h`: elements of a filter, and outputs."""
_MAX_CHANNELS_OF_GROUP = 16
"""Threshold: with more channels or outputs per group, products of matrices are faster."""
_MAX_SCRATCH = 2**18
"""Capacity of `grouped.h`: padded elements of the channels of a group, and sums; elements."""


def convolve(
    x: ndarray, weight: ndarray, bias: ndarray | None, counts: tuple[int, ...], **window: Any
) -> ndarray | None:
    """Products of every window with every filter: (samples, *counts, outputs)."""
    arrays = (x, weight) if bias is None else (x, weight, bias)
    if window["groups"] > 1:
        found = _convolve_groups(arrays, counts, window)
        return found if found is not None else _convolve_each(arrays, counts, window)
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
    if window["groups"] > 1:
        found = _convolve_groups_transposed(g, weight, size, window)
        return found if found is not None else _convolve_each_transposed(g, weight, size, window)
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
    """Products of `g` with its windows: (outputs, channels of a group, *kernel)."""
    if window["groups"] > 1:
        found = _convolve_groups_weight(x, g, kernel, window)
        return found if found is not None else _convolve_each_weight(x, g, kernel, window)
    shape = (g.shape[1], x.shape[1], *kernel)
    kernels = _kernels(shape, len(g) * math.prod(g.shape[2:]), window, x, g)
    if kernels is None:
        return None
    x, rows = _in_place(x), _channels_last(g)
    weight = np.empty((math.prod(shape[1:]), shape[0]), np.float32)
    sizes = _sizes(x.shape, x.strides, shape, g.shape[2:], window)
    kernels.convolve_weight(*map(address, (sizes, x, rows, weight)))
    return np.moveaxis(weight.T.reshape(g.shape[1], *kernel, x.shape[1]), -1, 1)


def _kernels(
    weight: tuple[int, ...], windows: int, window: dict[str, Any], *arrays: ndarray
) -> Any:
    """The C kernels, or None for a convolution that NumPy computes."""
    outputs, features = weight[0], math.prod(weight[1:])
    large = windows * features * outputs >= products.MIN_MULTIPLY_ADDS
    if not large or outputs < products.MIN_SIDE or max(outputs, features) > _MAX_FEATURES:
        return None
    if len(weight) > 4:
        return None
    return products.kernels() if all(a.dtype == np.float32 for a in arrays) else None


# ------------------------------------------------------------------ in groups of few channels


def _convolve_groups(
    arrays: tuple[ndarray, ...], counts: tuple[int, ...], window: dict[str, Any]
) -> ndarray | None:
    x, weight, *bias = arrays
    kernels = _kernels_of_groups(len(x), weight.shape, counts, window, *arrays)
    if kernels is None:
        return None
    x, weight, *bias = _in_place(x), *map(_dense, (weight, *bias))
    y = np.empty((len(x), len(weight), *counts), np.float32)
    sizes = _sizes(x.shape, x.strides, weight.shape, counts, window)
    at_bias = address(bias[0]) if bias else None
    at = (address(x), address(weight), at_bias, address(y))
    kernels.convolve_groups(address(sizes), window["groups"], *at)
    return np.moveaxis(y, 1, -1)


def _convolve_groups_transposed(
    g: ndarray, weight: ndarray, size: tuple[int, ...], window: dict[str, Any]
) -> ndarray | None:
    counts, groups = g.shape[2:], window["groups"]
    kernels = _kernels_of_groups(len(g), weight.shape, counts, window, g, weight)
    if kernels is None:
        return None
    if (same := as_convolution(g, weight, size, **window)) is not None:
        return _convolve_groups((g, same[0]), size, same[1])
    g, weight = _dense(g), _dense(weight)
    x = np.empty((len(g), weight.shape[1] * groups, *size), np.float32)
    sizes = _sizes(x.shape, x.strides, weight.shape, counts, window)
    kernels.convolve_groups_transposed(address(sizes), groups, *map(address, (g, weight, x)))
    return np.moveaxis(x, 1, -1)


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


def _convolve_groups_weight(
    x: ndarray, g: ndarray, kernel: tuple[int, ...], window: dict[str, Any]
) -> ndarray | None:
    counts, groups = g.shape[2:], window["groups"]
    shape = (g.shape[1], x.shape[1] // groups, *kernel)
    kernels = _kernels_of_groups(len(x), shape, counts, window, x, g)
    if kernels is None:
        return None
    x, g, weight = _in_place(x), _dense(g), np.empty(shape, np.float32)
    sizes = _sizes(x.shape, x.strides, shape, counts, window)
    kernels.convolve_groups_weight(address(sizes), groups, *map(address, (x, g, weight)))
    return weight


def _kernels_of_groups(
    samples: int,
    weight: tuple[int, ...],
    counts: tuple[int, ...],
    window: dict[str, Any],
    *arrays: ndarray,
) -> Any:
    """The C kernels, or None for a convolution in groups that NumPy computes."""
    outputs, channels, *kernel = weight
    if samples * math.prod(counts) * math.prod(weight) < products.MIN_MULTIPLY_ADDS // 4:
        return None
    each = outputs // window["groups"]
    if len(weight) > 4 or max(channels, each) > _MAX_CHANNELS_OF_GROUP:
        return None
    geometry = zip(kernel, counts, window["stride"], window["dilation"], strict=True)
    plane = math.prod((n - 1) * s + (k - 1) * d + s for k, n, s, d in geometry)
    sums = each * channels * math.prod(kernel) * 16
    if max(channels * plane, sums) > _MAX_SCRATCH or math.prod(kernel) > _MAX_FEATURES:
        return None
    return products.kernels() if all(a.dtype == np.float32 for a in arrays) else None


# ------------------------------------------------------------------ in groups of many channels


def _convolve_each(
    arrays: tuple[ndarray, ...], counts: tuple[int, ...], window: dict[str, Any]
) -> ndarray | None:
    """One convolution for each group, where C computes that."""
    x, weight, *biases = arrays
    bias = np.split(biases[0], window["groups"]) if biases else [None] * window["groups"]
    parts = zip(*_by_group(window, (x, 1), (weight, 0)), bias, strict=True)
    alone = {**window, "groups": 1}
    return _joined((convolve(a, w, b, counts, **alone) for a, w, b in parts), -1)


def _convolve_each_transposed(
    g: ndarray, weight: ndarray, size: tuple[int, ...], window: dict[str, Any]
) -> ndarray | None:
    parts = zip(*_by_group(window, (g, 1), (weight, 0)), strict=True)
    alone = {**window, "groups": 1}
    return _joined((convolve_transposed(c, w, size, **alone) for c, w in parts), -1)


def _convolve_each_weight(
    x: ndarray, g: ndarray, kernel: tuple[int, ...], window: dict[str, Any]
) -> ndarray | None:
    parts = zip(*_by_group(window, (x, 1), (g, 1)), strict=True)
    alone = {**window, "groups": 1}
    return _joined((convolve_weight(a, c, kernel, **alone) for a, c in parts), 0)


def _by_group(window: dict[str, Any], *arrays: tuple[ndarray, int]) -> list[list[ndarray]]:
    """For each array its parts by group, which divide the given axis."""
    return [np.split(array, window["groups"], axis) for array, axis in arrays]


def _joined(parts: Iterator[ndarray | None], axis: int) -> ndarray | None:
    """All parts along an axis; None, with no more computed, where NumPy computes one."""
    found: list[ndarray] = []
    for part in parts:
        if part is None:
            return None
        found.append(part)
    return np.concatenate(found, axis)


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
    return kernels.with_channels(x, last=True)


def _dense(x: ndarray) -> ndarray:
    return kernels.with_channels(x, last=False) if x.ndim > 2 else kernels.dense(x)


def _in_place(x: ndarray) -> ndarray:
    return x if x.flags.aligned else x.copy()
