"""Convolutions in C, where that is faster than NumPy's products of columns.

Each function returns None for a convolution that NumPy computes: of other dtypes, small, or without
the C kernels (see `products`). Sizes are those of `window.convolve`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops import kernels, products
from tinygrad_kr.ops.kernels import channels_first, channels_last
from tinygrad_kr.ops.writes import address

_MAX_FEATURES = 2304
"""Capacity of `convolution.h`: elements of a filter, and outputs; of a group."""
_MAX_SCRATCH = 2**19
"""Capacity of `grouped.h`: elements of padded channels, and of sums, in scratch memory."""
_MAX_PLANE = 2**16
"""Capacity of `depthwise.h`: padded elements of a channel."""
_MIN_MULTIPLY_ADDS = 2**15
"""Threshold: NumPy computes smaller convolutions; multiply-adds."""
_MIN_MULTIPLY_ADDS_OF_GROUPS = 2**14
"""The same in groups, for which NumPy is slow."""

Sizes = tuple[int, ...]


def convolve(
    x: ndarray, weight: ndarray, bias: ndarray | None, counts: Sizes, **window: Any
) -> ndarray | None:
    """Products of every window with every filter: (samples, outputs, *counts)."""
    arrays = (x, weight) if bias is None else (x, weight, bias)
    kernels, kind = _kernels("y", len(x), weight.shape, counts, window, *arrays)
    if kernels is None:
        return None
    if kind is _PARTS:
        parts = (
            convolve(x[:, part], weight[:, part], None, counts, **window)
            for part in _parts(weight.shape)
        )
        return _sum(parts, bias)
    x = _in_place(x)
    bias = None if bias is None else _dense(bias)
    sizes = _sizes(x, weight.shape, counts, window)
    at = address(sizes), address(x)
    at_bias = None if bias is None else address(bias)
    if kind is _FEW:
        weight, y = _dense(weight), np.empty((len(x), len(weight), *counts), x.dtype)
        first, second = at
        kernels.convolve_groups(
            first, window["groups"], second, address(weight), at_bias, address(y)
        )
        return y
    y = np.empty((len(x), *counts, len(weight)), x.dtype)
    if kind is _DEPTHWISE:
        weight = _dense(weight)
        kernels.convolve_depthwise(*at, address(weight), at_bias, address(y))
    else:
        filters = _channels_last(weight)
        kernels.convolve(*at, address(filters), at_bias, address(y))
    return channels_first(y)


def convolve_transposed(g: ndarray, weight: ndarray, size: Sizes, **window: Any) -> ndarray | None:
    """The filters, scaled by every element of `g`, summed: (samples, channels, *size)."""
    counts, channels = g.shape[2:], weight.shape[1] * window["groups"]
    kernels, kind = _kernels("x", len(g), weight.shape, counts, window, g, weight)
    if kernels is None:
        return None
    if kind is _CONVOLUTION:
        same = as_convolution(g, weight, size, **window)
        done = None if same is None else convolve(g, same[0], None, size, **same[1])
        if done is not None:
            return done
        kind = _kind("x", weight.shape, counts, *_geometry(window), turned=False)
        if not kind:
            return None
    if kind is _PARTS:
        return _joined(
            convolve_transposed(g, weight[:, part], size, **window) for part in _parts(weight.shape)
        )
    if kind is _FEW:
        g, weight = _dense(g), _dense(weight)
        x = np.empty((len(g), channels, *size), g.dtype)
        sizes, at = _sizes(x, weight.shape, counts, window), (address(g), address(weight))
        kernels.convolve_groups_transposed(address(sizes), window["groups"], *at, address(x))
        return x
    g, y = _in_place(g), np.empty((len(g), *size, channels), g.dtype)
    x = channels_first(y)
    sizes = _sizes(x, weight.shape, counts, window, g)
    if kind is _DEPTHWISE:
        weight, run = _dense(weight), kernels.convolve_depthwise_transposed
    else:
        weight, run = _channels_last(weight), kernels.convolve_transposed
    run(address(sizes), address(g), address(weight), address(y))
    return x


def convolve_weight(x: ndarray, g: ndarray, kernel: Sizes, **window: Any) -> ndarray | None:
    """Products of `g` with its windows: (outputs, channels of a group, *kernel)."""
    counts, groups = g.shape[2:], window["groups"]
    shape = (g.shape[1], x.shape[1] // groups, *kernel)
    kernels, kind = _kernels("weight", len(x), shape, counts, window, x, g)
    if kernels is None:
        return None
    if kind is _PARTS:
        return _joined(convolve_weight(x[:, part], g, kernel, **window) for part in _parts(shape))
    x, g = _in_place(x), _dense(g) if kind is _FEW else _in_place(g)
    sizes = _sizes(x, shape, counts, window, g)
    at = address(sizes), address(x), address(g)
    if kind is _MANY:
        last = np.empty((shape[0], *kernel, shape[1]), x.dtype)
        kernels.convolve_weight(*at, address(last))
        return channels_first(last)
    weight = np.empty(shape, x.dtype)
    if kind is _DEPTHWISE:
        kernels.convolve_depthwise_weight(*at, address(weight))
    else:
        first, *rest = at
        kernels.convolve_groups_weight(first, groups, *rest, address(weight))
    return weight


# ------------------------------------------------------------------ which kernel

_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
_DEPTHWISE, _FEW, _MANY = "depthwise", "few channels", "many channels"
"""The kernels: of `depthwise.h`, `grouped.h` and `convolution.h`."""
_CONVOLUTION, _PARTS = "convolution", "parts"
"""How kernels are used: the adjoint as a convolution; `_MANY` for parts of the channels."""
_MIN_OUTPUTS, _MIN_LINE, _MIN_WINDOWS = 8, 28, 512
"""Thresholds of products of matrices: outputs of a group, as many for longer lines of windows; and
of sums over windows: windows of a sample."""
_FEW_FEATURES, _FEW_SUMS = 32, 64
"""Thresholds of sums over windows: elements of a filter, and of all filters of a group."""
_PACKED_BYTES = 1536
"""Block size of `grouped.h`: bytes of the elements of filters that are packed at once."""


def _kernels(
    of: str,
    samples: int,
    weight: Sizes,
    counts: Sizes,
    window: dict[str, Any],
    *arrays: ndarray,
) -> tuple[Any, str]:
    """The C kernels and the kind of kernel; None for a convolution that NumPy computes."""
    stride, dilation, groups = _geometry(window)
    least = _MIN_MULTIPLY_ADDS_OF_GROUPS if groups > 1 else _MIN_MULTIPLY_ADDS
    large = samples * math.prod(counts) * math.prod(weight) >= least
    dtype = arrays[0].dtype
    if not large or len(weight) > 4 or dtype not in _DTYPES:
        return None, ""
    for x in arrays:
        if x.dtype != dtype:
            return None, ""
    kind = _kind(of, weight, counts, stride, dilation, groups)
    return (products.kernels(dtype), kind) if kind else (None, "")


def _geometry(window: dict[str, Any]) -> tuple[Sizes, Sizes, int]:
    return window["stride"], window["dilation"], window["groups"]


@lru_cache(1024)
def _kind(
    of: str,
    weight: Sizes,
    counts: Sizes,
    stride: Sizes,
    dilation: Sizes,
    groups: int,
    turned: bool = True,
) -> str:
    """The kind of kernel for these sizes; "" for NumPy.

    of: "y", "x" or "weight", what is computed. turned: whether x may come of a convolution.
    """
    outputs, ins, *kernel = weight
    outs, elements = outputs // groups, math.prod(kernel)
    geometry = zip(kernel, counts, stride, dilation, strict=True)
    plane = math.prod((n - 1) * s + (k - 1) * d + s for k, n, s, d in geometry)
    if ins == outs == 1 < outputs and plane <= _MAX_PLANE:
        whole = of != "x" or max(stride) > 1 or not turned
        return _DEPTHWISE if whole else _CONVOLUTION
    single = max(stride) == 1
    packed = max(min(ins, _PACKED_BYTES // 8 // elements), 1)
    sums = outs * packed * elements * 16 if of == "weight" else 0
    fits = elements <= _MAX_FEATURES and max(packed * plane, sums) <= _MAX_SCRATCH
    if fits and _are_few(of, ins, outs, elements, counts, single):
        return _CONVOLUTION if of == "x" and single and turned and ins >= outs else _FEW
    if of == "x" and single and turned and groups > 1:
        return _CONVOLUTION
    if max(outs, ins * elements) <= _MAX_FEATURES:
        return _MANY
    return _PARTS if groups == 1 and max(outs, elements) <= _MAX_FEATURES else ""


def _are_few(of: str, ins: int, outs: int, elements: int, counts: Sizes, single: bool) -> bool:
    """Whether vectors of windows are faster than those of outputs. single: for stride 1."""
    features, windows = ins * elements, math.prod(counts)
    long = single and counts[-1] >= _MIN_LINE
    many = features > _MAX_FEATURES
    if of == "y":
        return outs < _MIN_OUTPUTS or (long and (outs == _MIN_OUTPUTS or many))
    if of == "x":
        few = ins < _MIN_OUTPUTS or (single and outs < _MIN_OUTPUTS)
        few = few or (single and elements == 1 and ins <= 2 * _MIN_OUTPUTS)
        return few or (long and (ins == _MIN_OUTPUTS or many))
    few = outs < _MIN_OUTPUTS or features <= _FEW_FEATURES
    small = features * outs <= _FEW_SUMS or features <= 2
    return small or (few and windows >= _MIN_WINDOWS) or (many and outs < _MIN_OUTPUTS)


def _parts(weight: Sizes) -> list[slice]:
    """Parts of the channels whose filters `convolution.h` can take."""
    most = _MAX_FEATURES // math.prod(weight[2:])
    count = -(-weight[1] // most)
    edges = [i * weight[1] // count for i in range(count + 1)]
    return [slice(*ends) for ends in pairwise(edges)]


def _sum(parts: Iterable[ndarray | None], bias: ndarray | None) -> ndarray | None:
    """The sum of what parts of the channels give; None if NumPy computes one of them."""
    total: ndarray | None = None
    for y in parts:
        if y is None:
            return None
        total = y if total is None else np.add(total, y, out=total)
    if total is not None and bias is not None:
        channels_last(total)[...] += bias
    return total


def _joined(parts: Iterable[ndarray | None]) -> ndarray | None:
    """What parts of the channels give, side by side; None if NumPy computes one of them."""
    found = []
    for part in parts:
        if part is None:
            return None
        found.append(channels_last(part))
    return channels_first(np.concatenate(found, axis=-1))


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
    weight: Sizes,
    counts: Sizes,
    window: dict[str, Any],
    g: ndarray | None = None,
) -> ndarray:
    """The struct `tk_sizes`; a single axis becomes the second of two. g: the cotangent."""
    steps = None if g is None else g.strides
    given = x.shape, x.strides, x.itemsize, weight, counts, steps
    return _struct(*given, window["padding"], *_geometry(window))


@lru_cache(1024)
def _struct(
    shape: Sizes,
    strides: Sizes,
    itemsize: int,
    weight: Sizes,
    counts: Sizes,
    cotangent: Sizes | None,
    padding: tuple[tuple[int, int], ...],
    stride: Sizes,
    dilation: Sizes,
    groups: int,
) -> ndarray:
    before = [first for first, _ in padding]
    size = shape[2:]
    steps = (0,) * 4 if cotangent is None else _steps(cotangent, counts, itemsize)
    return np.array(
        [
            *(*shape[:2], weight[0], *pair(size), *pair(weight[2:]), *pair(counts)),
            *(*pair(stride), *pair(before, 0), *pair(dilation)),
            *(*_steps(strides, size, itemsize), *steps, groups),
        ],
        np.int64,
    )


def _steps(strides: Sizes, size: Sizes, itemsize: int) -> Sizes:
    """Strides in elements. That of a missing axis is of no length: nothing steps along it."""
    sample, channel, *steps = (step // itemsize for step in strides)
    rows = 0 if len(steps) > 1 else steps[0] * size[-1]
    return (sample, channel, *pair(steps, rows))


def _channels_last(x: ndarray) -> ndarray:
    return kernels.with_channels(x, last=True)


def _dense(x: ndarray) -> ndarray:
    return kernels.with_channels(x, last=False) if x.ndim > 2 else kernels.dense(x)


def _in_place(x: ndarray) -> ndarray:
    return x if x.flags.aligned else x.copy()
