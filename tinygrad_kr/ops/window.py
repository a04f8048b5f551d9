"""Sliding windows over the last axes: reading, adding back, convolution, sums and maxima.

Memory layouts are kept: channels that are contiguous in the input are contiguous in the result,
whatever the logical order (N, C, H, W). Convolutions make such results, so every layer of a network
runs along the channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops import convolutions, kernels
from tinygrad_kr.ops.elementwise import where_or_zero
from tinygrad_kr.ops.linalg import column_sums, rows_of
from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.op import Op, in_float32, op
from tinygrad_kr.ops.products import gemm
from tinygrad_kr.ops.shape import broadcast_to

Sizes = tuple[int, ...]
Widths = tuple[tuple[int, int], ...]


def windows_along(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Number of windows: floor((size - dilation (kernel - 1) - 1) / stride) + 1."""
    return (size - dilation * (kernel - 1) - 1) // stride + 1


def _counts(sizes: Sizes, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Sizes:
    """Number of windows along each of the last axes; ValueError where none fits."""
    sizes = sizes[len(sizes) - len(kernel) :]
    counts = tuple(map(windows_along, sizes, kernel, stride, dilation))
    if min(counts) < 1:
        raise ValueError(
            f"expected room for a window of {kernel} (dilation {dilation}), got {sizes}."
        )
    return counts


def _elements(counts: Sizes, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Iterator[Any]:
    """For each element of a window, in C order, its index in all windows at once."""
    for offset in product(*map(range, kernel)):
        yield (
            ...,
            *(
                slice(o * d, o * d + (n - 1) * s + 1, s)
                for o, n, s, d in zip(offset, counts, stride, dilation, strict=True)
            ),
        )


def _laid_out_like(x: ndarray, shape: Sizes, make: Any = np.zeros) -> ndarray:
    """A new array of `shape` with the memory order of the first axes of `x`."""
    order = sorted(range(len(shape)), key=lambda axis: -abs(x.strides[axis]))
    made: ndarray = make([shape[axis] for axis in order], x.dtype)
    return made.transpose(np.argsort(order))


_PART_BYTES = 2**21
"""Block size: the cache of one core; bytes."""


def _parts(samples: int, sample_bytes: int) -> Iterator[slice]:
    """Slices of samples that fit into the cache; single samples if they are larger."""
    size = max(_PART_BYTES // max(sample_bytes, 1), 1)
    return (slice(start, start + size) for start in range(0, samples, size))


# ------------------------------------------------------------------ windows and their adjoint


def _unfold(x: ndarray, *, kernel: Sizes, stride: Sizes, dilation: Sizes) -> ndarray:
    """Windows of the last axes as a view: (..., *positions, *kernel)."""
    kept = x.ndim - len(kernel)
    counts = _counts(x.shape, kernel, stride, dilation)
    steps = x.strides[kept:]
    return np.lib.stride_tricks.as_strided(
        x,
        x.shape[:kept] + counts + kernel,
        x.strides[:kept]
        + tuple(step * s for step, s in zip(steps, stride, strict=True))
        + tuple(step * d for step, d in zip(steps, dilation, strict=True)),
        writeable=False,
    )


@in_float32
def _fold(g: ndarray, *, shape: Sizes, kernel: Sizes, stride: Sizes, dilation: Sizes) -> ndarray:
    """Zeros of `shape` with every window of `g` added at its position."""
    spatial = len(kernel)
    counts = g.shape[g.ndim - 2 * spatial : g.ndim - spatial]
    out = _laid_out_like(g, shape)
    flat = g.reshape(*g.shape[: g.ndim - spatial], math.prod(kernel))
    for number, place in enumerate(_elements(counts, kernel, stride, dilation)):
        out[place] += flat[..., number]
    return out


# fmt: off
unfold: Op = op(_unfold, lambda g, y, x, **window: fold(g, shape=x.shape, **window))
fold: Op   = op(_fold,   lambda g, y, x, shape, **window: unfold(g, **window))
# fmt: on

# ------------------------------------------------------------------ convolution
# Batch on axis 0, channels on axis 1. A convolution is linear in its input and in its weight. Each
# of these three is the derivative of the other two.


@in_float32
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
    kernels.keep_freed_memory()
    kernel = weight.shape[2:]
    counts = _counts(_padded_sizes(x.shape[2:], padding), kernel, stride, dilation)
    window = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    done = convolutions.convolve(x, weight, bias, counts, **window)
    if done is not None:
        return done
    y = np.empty((len(x), *counts, len(weight)), np.result_type(x, weight))
    filters = _filters(weight, groups)
    features = math.prod(kernel) * x.shape[1]
    row = None if bias is None else np.tile(bias, (counts[-1], 1))
    for part in _parts(len(x), math.prod(counts) * features * x.itemsize):
        columns = _columns(_padded(x[part], padding), kernel, stride, dilation, groups)
        gemm(columns, filters, out=_by_group(y[part], groups))
        if row is not None:
            y[part] += row
    return np.moveaxis(y, -1, 1)


@in_float32
def _convolve_transposed(
    g: ndarray,
    weight: ndarray,
    *,
    size: Sizes,
    stride: Sizes,
    padding: Widths,
    dilation: Sizes,
    groups: int,
) -> Any:
    """The adjoint: each element of `g` (N, O, ...) adds its filter to an array (N, C, *size)."""
    kernel, channels = weight.shape[2:], weight.shape[1] * groups
    window: dict[str, Any] = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
    }
    done = convolutions.convolve_transposed(g, weight, size, **window)
    if done is not None:
        return done
    if len(weight) == groups == channels > 1:
        same = convolutions.as_convolution(g, weight, size, **window)
        if same is not None:
            return _convolve(g, same[0], **same[1])
    y = np.zeros((len(g), *size, channels), np.result_type(g, weight))
    spread = np.empty((len(g), *g.shape[2:], channels), y.dtype)
    rows, parts = _by_group(np.moveaxis(g, 1, -1), groups), _by_group(spread, groups)
    filters = _filters(weight, groups).mT.reshape(
        groups, len(weight) // groups, math.prod(kernel), weight.shape[1]
    )
    y, spread = np.moveaxis(y, -1, 1), np.moveaxis(spread, -1, 1)
    for number, offset in enumerate(product(*map(range, kernel))):
        starts = (o * d - a for o, d, (a, _) in zip(offset, dilation, padding, strict=True))
        inside: Iterable[Any] = map(_inside, starts, stride, g.shape[2:], size)
        place, kept = zip(*inside, strict=True)
        gemm(rows, filters[:, :, number], out=parts)
        y[..., *place] += spread[..., *kept]
    return y


def _inside(start: int, stride: int, count: int, size: int) -> tuple[slice, slice]:
    """The positions start, start + stride, ... within 0 ... size, and their numbers."""
    first = max(-(start // stride), 0)
    stop = max(min(count, -((start - size) // stride)), first)
    return slice(start + first * stride, max(start + stop * stride, 0), stride), slice(first, stop)


@in_float32
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
    outputs, features = g.shape[1], math.prod(kernel) * x.shape[1]
    window = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    done = convolutions.convolve_weight(x, g, kernel, **window)
    if done is not None:
        return done
    g = np.moveaxis(g, 1, -1)
    weight = np.zeros((groups, features // groups, outputs // groups), np.result_type(x, g))
    for part in _parts(len(x), math.prod(g.shape[1:-1]) * features * x.itemsize):
        columns = _columns(_padded(x[part], padding), kernel, stride, dilation, groups)
        weight += gemm(columns.mT, _by_group(g[part], groups))
    return np.moveaxis(weight.mT.reshape(outputs, *kernel, x.shape[1] // groups), -1, 1)


def _padded(x: ndarray, padding: Widths) -> ndarray:
    """Zeros around the spatial axes."""
    if not any(map(any, padding)):
        return x
    y = _laid_out_like(x, (*x.shape[:2], *_padded_sizes(x.shape[2:], padding)))
    inner: Any = tuple(slice(a, a + n) for n, (a, _) in zip(x.shape[2:], padding, strict=True))
    y[..., *inner] = x
    return y


def _padded_sizes(sizes: Sizes, padding: Widths) -> Sizes:
    return tuple(a + n + b for n, (a, b) in zip(sizes, padding, strict=True))


def _columns(x: ndarray, kernel: Sizes, stride: Sizes, dilation: Sizes, groups: int) -> ndarray:
    """Windows as rows of a matrix per group: (groups, positions, kernel x channels of a group).

    Contiguous channels or positions are copied in one run.
    """
    windows = _unfold(x, kernel=kernel, stride=stride, dilation=dilation)
    n, channels, *rest = windows.shape
    split = windows.reshape(n, groups, channels // groups, *rest)
    positions = (0, *range(3, 3 + len(kernel)))
    elements = (*range(3 + len(kernel), split.ndim), 2)
    features = math.prod(kernel) * (channels // groups)
    count = n * math.prod(rest[: len(kernel)])
    if channels > groups and x.strides[1] < x.strides[-1]:
        return split.transpose(1, *positions, *elements).reshape(groups, count, features)
    return split.transpose(1, *elements, *positions).reshape(groups, features, count).mT


def _filters(weight: ndarray, groups: int) -> ndarray:
    """Filters as the columns of a matrix for each group: (groups, kernel x channels, outputs)."""
    outputs = len(weight) // groups
    return np.moveaxis(weight, 1, -1).reshape(groups, outputs, math.prod(weight.shape[1:])).mT


def _by_group(y: ndarray, groups: int) -> ndarray:
    """Channels last to (groups, positions, channels of a group); a view where it can be."""
    channels = y.shape[-1]
    return y.reshape(math.prod(y.shape[:-1]), groups, channels // groups).swapaxes(0, 1)


def _convolve_bias(g: Any) -> Any:
    """The sum over all positions."""
    if type(g) is not ndarray or g.dtype.kind != "f":
        return g.sum(axis=(0, *range(2, g.ndim)))
    return column_sums(rows_of(np.moveaxis(g, 1, -1)))


# fmt: off
convolve: Op = op(_convolve,
    lambda g, y, x, w, *b, **p: convolve_transposed(g, w, size=x.shape[2:], **p),
    lambda g, y, x, w, *b, **p: convolve_weight(x, g, kernel=w.shape[2:], **p),
    lambda g, y, x, w, b, **p: _convolve_bias(g))
convolve_transposed: Op = op(_convolve_transposed,
    lambda g, y, c, w, size, **p: convolve(g, w, **p),
    lambda g, y, c, w, size, **p: convolve_weight(g, c, kernel=w.shape[2:], **p))
convolve_weight: Op = op(_convolve_weight,
    lambda g, y, x, c, kernel, **p: convolve_transposed(c, g, size=x.shape[2:], **p),
    lambda g, y, x, c, kernel, **p: convolve(x, g, **p))
# fmt: on

# ------------------------------------------------------------------ sums and maxima of windows


@in_float32
def _sum_pool(x: ndarray, *, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Any:
    """The sum of the elements of each window of the last axes."""
    return _accumulated(np.add, x, kernel, stride, dilation)


def _max_pool(x: ndarray, *, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Any:
    """The largest element of each window of the last axes; NaN wins. The first has the gradient."""
    return _accumulated(np.maximum, x, kernel, stride, dilation)


def _is_for_c(x: Any, kernel: Sizes) -> bool:
    """Whether these are windows of one or two axes, of enough elements."""
    return type(x) is ndarray and x.size >= kernels.MIN_ELEMENTS and len(kernel) <= 2


def _pool_in_c(
    name: str, x: Any, *, kernel: Sizes, stride: Sizes, dilation: Sizes
) -> ndarray | None:
    if not _is_for_c(x, kernel):
        return None
    from tinygrad_kr.ops import pooling

    counts = _counts(x.shape, kernel, stride, dilation)
    return pooling.pool(name, x, counts, kernel=kernel, stride=stride, dilation=dilation)


def _sum_pool_vjp(g: Any, x: Any, kernel: Sizes, **steps: Sizes) -> Any:
    if _is_for_c(x, kernel):
        from tinygrad_kr.ops import pooling

        found = pooling.sum_pool_vjp(g, x, kernel=kernel, **steps)
        if found is not None:
            return found
    return fold(_repeated(g, kernel), shape=x.shape, kernel=kernel, **steps)


def _max_pool_vjp_in_c(g: Any, x: Any, y: Any, **window: Sizes) -> ndarray | None:
    if not _is_for_c(x, window["kernel"]):
        return None
    from tinygrad_kr.ops import pooling

    return pooling.max_pool_vjp(g, x, y, **window)


def _accumulated(ufunc: np.ufunc, x: ndarray, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Any:
    counts = _counts(x.shape, kernel, stride, dilation)
    first, *rest = _elements(counts, kernel, stride, dilation)
    y = np.empty_like(x[first])
    for part in _samples(x, len(kernel)):
        y[part] = x[part][first]
        for place in rest:
            ufunc(y[part], x[part][place], out=y[part])
    return y


def _samples(x: ndarray, spatial: int) -> Iterable[Any]:
    """Parts of `x` along its first axis, where that is not one of the last, spatial ones."""
    return _parts(len(x), x[:1].nbytes) if x.ndim > spatial else [...]


def _repeated(g: Any, kernel: Sizes) -> Any:
    """`g` as windows of equal elements."""
    windows = g.reshape(*g.shape, *[1] * len(kernel))
    return broadcast_to(windows, shape=(*g.shape, *kernel))


def window_argmax(x: Any, y: Any, **window: Sizes) -> ndarray:
    """Index in C order, in each window, of its first largest element `y`, or of its first NaN."""
    index = _window_first(x, y, **window)
    return index._data if isinstance(index, Node) else index


def _argmax(x: ndarray, y: ndarray, *, kernel: Sizes, stride: Sizes, dilation: Sizes) -> ndarray:
    index: ndarray = np.zeros_like(y, np.int8 if math.prod(kernel) < 128 else np.int32)
    elements = list(_elements(y.shape[y.ndim - len(kernel) :], kernel, stride, dilation))
    for part in _samples(x, len(kernel)):
        for number, chosen in enumerate(_first_largest(x[part], y[part], elements)):
            index[part] += np.multiply(chosen, number, dtype=index.dtype)
    return index


def _first_largest(x: ndarray, y: ndarray, elements: list[Any]) -> Iterator[ndarray]:
    """For each element of a window, a mask of the windows in which it is the first that equals `y`.

    NaN equals NaN here.
    """
    any_nan = np.isnan(y.max(initial=0.0))
    free = np.ones_like(y, bool)
    for element in elements[:-1]:
        chosen = x[element] == y
        if any_nan:
            chosen |= np.isnan(y) & np.isnan(x[element])
        chosen &= free
        free ^= chosen
        yield chosen
    yield free


@in_float32
def _max_pool_vjp(g: ndarray, x: ndarray, y: ndarray, **window: Sizes) -> ndarray:
    """Zeros like `x` with `g` added to the first largest element of each window, `y`."""
    return _put(
        g, y, x.shape, lambda part, elements: _first_largest(x[part], y[part], elements), window
    )


def _max_pool_gather(x: ndarray, *, index: ndarray, **window: Sizes) -> Any:
    """The element of each window that `index` names."""
    flat = _unfold(x, **window).reshape(*index.shape, math.prod(window["kernel"]))
    return np.take_along_axis(flat, index[..., None], -1)[..., 0]


@in_float32
def _max_unpool(g: ndarray, *, index: ndarray, shape: Sizes, **window: Sizes) -> ndarray:
    """Zeros of `shape` with `g` added to the element of each window that `index` names."""
    return _put(
        g,
        index,
        shape,
        lambda part, elements: (index[part] == n for n in range(len(elements))),
        window,
    )


def _put(g: ndarray, like: ndarray, shape: Sizes, masks: Any, window: dict[str, Sizes]) -> ndarray:
    """Zeros of `shape`, laid out like `like`, with `g` added wherever one of the masks holds.

    `masks(part, elements)` gives one for each element of a window.
    """
    kernel = window["kernel"]
    if g.strides != like.strides:
        g, given = np.empty_like(like, g.dtype), g
        g[...] = given
    sizes, counts = shape[len(shape) - len(kernel) :], g.shape[g.ndim - len(kernel) :]
    apart = window["stride"] == kernel and max(window["dilation"]) == 1
    tiled = apart and all(n == c * k for n, c, k in zip(sizes, counts, kernel, strict=True))
    out = _laid_out_like(g, shape, np.empty if tiled else np.zeros)
    elements = list(_elements(counts, **window))
    for part in _samples(out, len(kernel)):
        for element, mask in zip(elements, masks(part, elements), strict=True):
            chosen = where_or_zero(g[part], mask)
            if apart:
                out[part][element] = chosen
            else:
                out[part][element] += chosen
    return out


# fmt: off
_window_first = op(_argmax, name="window_first", variable="_window_first", promote=False)
sum_pool = op(_sum_pool, lambda g, y, x, **window: _sum_pool_vjp(g, x, **window),
              kernel=partial(_pool_in_c, "sum_pool"))
max_pool = op(_max_pool, lambda g, y, x, **window: max_pool_vjp(g, x, y, **window),
              kernel=partial(_pool_in_c, "max_pool"))
max_pool_vjp: Op = op(_max_pool_vjp, lambda g, out, _, x, y, **window:
                max_pool_gather(g, index=window_argmax(x, y, **window), **window),
                kernel=_max_pool_vjp_in_c)
max_pool_gather: Op = op(_max_pool_gather, lambda g, y, x, index, **window:
                max_unpool(g, index=index, shape=x.shape, **window))
max_unpool: Op = op(_max_unpool, lambda g, y, x, index, shape, **window:
                max_pool_gather(g, index=index, **window))
# fmt: on
