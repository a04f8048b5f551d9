"""The table of the loader: for each ONNX operator, a function of our ops.

Inputs are positional, attributes are keywords with ONNX's defaults; an input that is left out is
None. Shapes, axes and other numbers that decide a shape are NumPy arrays, all else are Tensors.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from functools import cache, reduce
from itertools import pairwise
from typing import Any

import numpy as np
from numpy import ndarray

import tinygrad_kr.functional as F
from tinygrad_kr import arrays
from tinygrad_kr.functional import recurrent
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops import linalg, network, reduction, shape, window
from tinygrad_kr.ops.op import astype
from tinygrad_kr.tensor import Tensor

MOST_ELEMENTS = 2**31
"""The limit of an array whose size a file decides."""


def _demand(holds: bool, expected: str, got: Any) -> None:
    if not holds:
        raise ValueError(f"load_onnx: expected {expected}, got {got}.")


def _ints(x: Any) -> list[int]:
    """The numbers of a shape or of axes."""
    array = x.numpy() if isinstance(x, Tensor) else np.asarray(x)
    return [int(n) for n in array.ravel()]


def _int(x: Any) -> int:
    (number,) = _ints(x)
    return number


def _is_float(x: Any) -> bool:
    return bool(x.dtype.kind == "f")


def _rank(x: Any) -> int:
    return len(x.shape)


def _limited(count: int) -> None:
    _demand(count <= MOST_ELEMENTS, f"at most {MOST_ELEMENTS} elements", count)


# ------------------------------------------------------------------ elementwise


def _div(a: Any, b: Any) -> Any:
    if _is_float(a) or _is_float(b):
        return e.divide(a, b)
    quotient = e.floor_divide(abs(a), abs(b))
    return quotient * e.sign(a) * e.sign(b)


def _mod(a: Any, b: Any, *, fmod: int = 0) -> Any:
    return e.fmod(a, b) if fmod else e.remainder(a, b)


def _clip(x: Any, min: Any = None, max: Any = None) -> Any:
    x = x if min is None else e.maximum(x, min)
    return x if max is None else e.minimum(x, max)


def _gelu(x: Any, *, approximate: str = "none") -> Any:
    return F.gelu(x, approximate)


def _hard_sigmoid(x: Any, *, alpha: float = 0.2, beta: float = 0.5) -> Any:
    return arrays.clip(x * alpha + beta, 0.0, 1.0)


def _selu(x: Any, *, alpha: float = 1.6732632423543772, gamma: float = 1.0507009873554805) -> Any:
    return gamma * F.elu(x, alpha)


def _isinf(x: Any, *, detect_negative: int = 1, detect_positive: int = 1) -> Any:
    found = e.isinf(x)
    if not detect_negative:
        found = e.logical_and(found, x > 0)
    return found if detect_positive else e.logical_and(found, x < 0)


def _cast(x: Any, *, to: int, saturate: int = 1, round_mode: str = "up") -> Any:
    return astype(x, dtype=_dtype(to))


def _dtype(number: int) -> np.dtype[Any]:
    names = {
        1: "f4", 2: "u1", 3: "i1", 4: "u2", 5: "i2", 6: "i4", 7: "i8", 9: "?", 10: "f2", 11: "f8",
        12: "u4", 13: "u8",
    }  # fmt: skip
    _demand(number in names, "a number type that NumPy has", f"type {number}")
    return np.dtype(names[number])


# ------------------------------------------------------------------ products and windows


def _gemm(
    a: Any, b: Any, c: Any = None, *,
    alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0,
) -> Any:  # fmt: skip
    a = a.T if transA else a
    if transB and alpha == 1:
        y = linalg.linear(a, b)
    else:
        y = linalg.matmul(a, b.T if transB else b)
        y = y if alpha == 1 else y * alpha
    return y if c is None else y + (c if beta == 1 else c * beta)


AUTO_PADS = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


def _pairs(
    sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int],
    pads: Any, auto_pad: str, ceil: bool = False,
) -> tuple[tuple[int, int], ...]:  # fmt: skip
    """The padding before and after each spatial axis."""
    _demand(auto_pad in AUTO_PADS, f"auto_pad of {', '.join(AUTO_PADS)}", auto_pad)
    fit = not pads or (len(pads) == 2 * len(kernel) and min(pads) >= 0)
    _demand(fit, "two pads of at least 0 for each axis", pads)
    found = []
    for i, (n, k, s, d) in enumerate(zip(sizes, kernel, stride, dilation, strict=True)):
        reach = d * (k - 1) + 1
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            total = max((-(-n // s) - 1) * s + reach - n, 0)
            less, more = total // 2, total - total // 2
            found.append((less, more) if auto_pad == "SAME_UPPER" else (more, less))
            continue
        given = auto_pad != "VALID" and pads
        before, after = (pads[i], pads[i + len(kernel)]) if given else (0, 0)
        room = n + before + after - reach
        last = -(-room // s) * s
        found.append((before, after + (last - room if ceil and 0 <= last < n + before else 0)))
    _limited(math.prod(n + a + b for n, (a, b) in zip(sizes, found, strict=True)))
    return tuple(found)


def _settings(
    spatial: int, strides: Any, dilations: Any
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    ones = (1,) * spatial
    return tuple(strides or ones), tuple(dilations or ones)


def _kernel(w: Any, kernel_shape: Any) -> tuple[int, ...]:
    """The lengths of a kernel, as its weight has them."""
    found: tuple[int, ...] = tuple(w.shape[2:])
    _demand(tuple(kernel_shape or found) == found, f"kernel_shape {found}", kernel_shape)
    return found


def _conv(
    x: Any, w: Any, b: Any = None, *, auto_pad: str = "NOTSET", dilations: Any = None,
    group: int = 1, kernel_shape: Any = None, pads: Any = None, strides: Any = None,
) -> Any:  # fmt: skip
    kernel = _kernel(w, kernel_shape)
    stride, dilation = _settings(len(kernel), strides, dilations)
    padding = _pairs(x.shape[2:], kernel, stride, dilation, pads, auto_pad)
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": group}
    return window.convolve(x, w, *(() if b is None else (b,)), **how)


def _conv_transpose(
    x: Any, w: Any, b: Any = None, *, auto_pad: str = "NOTSET", dilations: Any = None,
    group: int = 1, kernel_shape: Any = None, output_padding: Any = None, output_shape: Any = None,
    pads: Any = None, strides: Any = None,
) -> Any:  # fmt: skip
    _demand(auto_pad == "NOTSET" and not output_shape, "ConvTranspose with pads", auto_pad)
    kernel = _kernel(w, kernel_shape)
    spatial = len(kernel)
    stride, dilation = _settings(spatial, strides, dilations)
    more, pads = output_padding or (0,) * spatial, pads or (0,) * 2 * spatial
    padding = tuple((pads[i], pads[i + spatial]) for i in range(spatial))
    size = tuple(
        (n - 1) * s + d * (k - 1) + 1 - a - z + m
        for n, k, s, d, (a, z), m in zip(
            x.shape[2:], kernel, stride, dilation, padding, more, strict=True
        )
    )
    _limited(math.prod(size))
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": group}
    y = window.convolve_transposed(x, w, size=size, **how)
    return y if b is None else y + b.reshape(-1, *(1,) * spatial)


def _widened(x: Any, pairs: Sequence[tuple[int, int]], value: float) -> Any:
    if not any(map(any, pairs)):
        return x
    return shape.pad(x, widths=((0, 0),) * (_rank(x) - len(pairs)) + tuple(pairs), value=value)


def _max_pool(
    x: Any, *, auto_pad: str = "NOTSET", ceil_mode: int = 0, dilations: Any = None,
    kernel_shape: Any, pads: Any = None, storage_order: int = 0, strides: Any = None,
) -> Any:  # fmt: skip
    kernel = tuple(kernel_shape)
    stride, dilation = _settings(len(kernel), strides, dilations)
    sizes = x.shape[2:]
    pairs = _pairs(sizes, kernel, stride, dilation, pads, auto_pad, bool(ceil_mode))
    padded = _widened(x, pairs, -math.inf)
    return window.max_pool(padded, kernel=kernel, stride=stride, dilation=dilation)


def _average_pool(
    x: Any, *, auto_pad: str = "NOTSET", ceil_mode: int = 0, count_include_pad: int = 0,
    dilations: Any = None, kernel_shape: Any, pads: Any = None, strides: Any = None,
) -> Any:  # fmt: skip
    kernel = tuple(kernel_shape)
    stride, dilation = _settings(len(kernel), strides, dilations)
    sizes, how = x.shape[2:], {"kernel": kernel, "stride": stride, "dilation": dilation}
    plain = _pairs(sizes, kernel, stride, dilation, pads, auto_pad)
    pairs = _pairs(sizes, kernel, stride, dilation, pads, auto_pad, bool(ceil_mode))
    counted = np.ones(sizes, x.dtype)
    if count_include_pad:
        counted = np.pad(counted, plain, constant_values=1)
    beyond = [(a, b) for (a, b) in pairs]
    if count_include_pad:
        beyond = [(0, b - z) for (_, b), (_, z) in zip(pairs, plain, strict=True)]
    divisor = window.sum_pool.forward(np.pad(counted, beyond), **how)
    return window.sum_pool(_widened(x, pairs, 0.0), **how) / divisor


def _spatial(x: Any) -> tuple[int, ...]:
    return tuple(range(2, _rank(x)))


# ------------------------------------------------------------------ normalisation


def _batch_norm(
    x: Any, scale: Any, b: Any, mean: Any, var: Any, *,
    epsilon: float = 1e-5, momentum: float = 0.9, training_mode: int = 0, spatial: int = 1,
) -> Any:  # fmt: skip
    _demand(not training_mode, "a graph for inference", "BatchNormalization with training_mode=1")
    return F.batch_norm(x, mean, var, scale, b, False, 0.0, epsilon)


def _layer_norm(
    x: Any, scale: Any, b: Any = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Any:
    axes = tuple(range(axis % _rank(x), _rank(x)))
    y = network.normalize(x, axis=axes, eps=epsilon) * scale
    return y if b is None else y + b


def _instance_norm(x: Any, scale: Any, b: Any, *, epsilon: float = 1e-5) -> Any:
    ones = (1,) * (_rank(x) - 2)
    y = network.normalize(x, axis=_spatial(x), eps=epsilon)
    return y * scale.reshape(-1, *ones) + b.reshape(-1, *ones)


def _dropout(
    x: Any, ratio: Any = None, training_mode: Any = None, *, seed: int | None = None
) -> Any:
    active = training_mode is not None and bool(training_mode.any())
    _demand(not active, "a graph for inference", "Dropout with training_mode=True")
    return x


# ------------------------------------------------------------------ shapes


def _reshape(x: Any, sizes: Any, *, allowzero: int = 0) -> Any:
    wanted = [x.shape[i] if n == 0 and not allowzero else n for i, n in enumerate(_ints(sizes))]
    return x.reshape(tuple(wanted))


def _flatten(x: Any, *, axis: int = 1) -> Any:
    axis = axis + _rank(x) if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _transpose(x: Any, *, perm: Any = None) -> Any:
    return shape.transpose(x, axes=None if perm is None else tuple(perm))


def _expand(x: Any, sizes: Any) -> Any:
    wanted = np.broadcast_shapes(tuple(x.shape), tuple(_ints(sizes)))
    _limited(math.prod(wanted))
    return shape.broadcast_to(x, shape=wanted)


def _squeeze(x: Any, axes: Any = None) -> Any:
    rank = _rank(x)
    chosen = range(rank) if axes is None else [a % rank for a in _ints(axes)]
    _demand(axes is None or all(x.shape[a] == 1 for a in chosen), "axes of length 1", x.shape)
    kept = [n for a, n in enumerate(x.shape) if a not in chosen or n != 1]
    return x.reshape(tuple(kept))


def _unsqueeze(x: Any, axes: Any) -> Any:
    rank = _rank(x) + len(_ints(axes))
    new, old = {a % rank for a in _ints(axes)}, iter(x.shape)
    return x.reshape(tuple(1 if a in new else next(old) for a in range(rank)))


def _concat(*parts: Any, axis: int) -> Any:
    return shape.concatenate(*parts, axis=axis)


def _split(
    x: Any, split: Any = None, *, axis: int = 0, num_outputs: int | None = None, outputs: int = 1
) -> tuple[Any, ...]:
    axis, total = axis % _rank(x), x.shape[axis % _rank(x)]
    size = -(-total // outputs)
    counts = [min(size, total - i * size) for i in range(outputs)]
    counts = counts if split is None else _ints(split)
    _demand(outputs == len(counts) == (num_outputs or outputs), f"{outputs} parts", counts)
    _demand(sum(counts) == total and min(counts) >= 0, f"a split of {total}", counts)
    ends = np.cumsum([0, *counts]).tolist()
    before = (slice(None),) * axis
    return tuple(x[(*before, slice(a, b))] for a, b in pairwise(ends))


def _slice(x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    begin, end = _ints(starts), _ints(ends)
    places = range(len(begin)) if axes is None else _ints(axes)
    strides = [1] * len(begin) if steps is None else _ints(steps)
    key = [slice(None)] * _rank(x)
    for a, b, z, s in zip(places, begin, end, strides, strict=True):
        key[a] = slice(max(b, -x.shape[a]) if s < 0 else b, z, s)
    return x[tuple(key)]


def _gather(x: Any, indices: Any, *, axis: int = 0) -> Any:
    before = (slice(None),) * (axis % _rank(x))
    if isinstance(indices, ndarray) and not indices.ndim:
        found = x[(*before, int(indices))]
        return np.asarray(found) if isinstance(x, ndarray) else found
    return x[(*before, indices)]


def _gather_elements(x: Any, indices: Any, *, axis: int = 0) -> Any:
    wanted = tuple(slice(n) for n in indices.shape)
    key = (*wanted[: axis % _rank(x)], slice(None), *wanted[axis % _rank(x) + 1 :])
    return arrays.take_along_axis(x[key], indices, axis % _rank(x))


def _gather_nd(x: Any, indices: Any, *, batch_dims: int = 0) -> Any:
    _demand(not batch_dims, "GatherND with batch_dims=0", batch_dims)
    return x[tuple(indices[..., i] for i in range(indices.shape[-1]))]


def _scatter_elements(
    x: Any, indices: Any, updates: Any, *, axis: int = 0, reduction: str = "none"
) -> Any:
    _demand(reduction in ("none", "add"), 'reduction "none" or "add"', reduction)
    write = arrays.scatter if reduction == "none" else arrays.scatter_add
    return write(x, axis, indices, updates)


def _pad(x: Any, pads: Any, value: Any = None, axes: Any = None, *, mode: str = "constant") -> Any:
    numbers, rank = _ints(pads), _rank(x)
    places = range(rank) if axes is None else [a % rank for a in _ints(axes)]
    pairs = [(0, 0)] * rank
    for i, a in enumerate(places):
        pairs[a] = (numbers[i], numbers[i + len(places)])
    _limited(math.prod(n + a + b for n, (a, b) in zip(x.shape, pairs, strict=True)))
    modes = {"constant": "constant", "edge": "replicate", "reflect": "reflect", "wrap": "circular"}
    _demand(mode in modes, f"a mode of {', '.join(modes)}", mode)
    flat = [n for pair in pairs[::-1] for n in pair]
    while len(flat) > 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    if mode != "constant":
        return F.pad(x, flat, mode=modes[mode])
    return F.pad(x, flat, value=0.0 if value is None else float(np.asarray(value).item()))


def _depth_to_space(x: Any, *, blocksize: int, mode: str = "DCR") -> Any:
    n, channels, height, width = x.shape
    parts, rest = (blocksize, blocksize), channels // blocksize**2
    if mode == "CRD":
        x = x.reshape(n, rest, *parts, height, width).transpose(0, 1, 4, 2, 5, 3)
    else:
        x = x.reshape(n, *parts, rest, height, width).transpose(0, 3, 4, 1, 5, 2)
    return x.reshape(n, rest, height * blocksize, width * blocksize)


def _space_to_depth(x: Any, *, blocksize: int) -> Any:
    n, channels, height, width = x.shape
    low, wide = height // blocksize, width // blocksize
    x = x.reshape(n, channels, low, blocksize, wide, blocksize).transpose(0, 3, 5, 1, 2, 4)
    return x.reshape(n, channels * blocksize**2, low, wide)


def _col2im(
    x: Any, image_shape: Any, block_shape: Any, *,
    dilations: Any = None, pads: Any = None, strides: Any = None,
) -> Any:  # fmt: skip
    size, block = _ints(image_shape), _ints(block_shape)
    _demand(len(size) == 2, "Col2Im of images", f"{len(size)} axes")
    before, after = (pads or [0] * 4)[:2], (pads or [0] * 4)[2:]
    _demand(list(before) == list(after), "Col2Im with equal pads before and after", pads)
    _limited(math.prod(x.shape[:2]) * math.prod(size))
    return F.fold(
        x, tuple(size), tuple(block), tuple(dilations or (1, 1)), tuple(before),
        tuple(strides or (1, 1)),
    )  # fmt: skip


_NEAREST = {
    ("asymmetric", "floor"): "nearest", ("half_pixel", "round_prefer_ceil"): "nearest-exact",
}  # fmt: skip
_SMOOTH = {
    ("linear", 3): "linear", ("linear", 4): "bilinear", ("linear", 5): "trilinear",
    ("cubic", 4): "bicubic",
}  # fmt: skip
_PLACES = ("half_pixel", "pytorch_half_pixel", "align_corners")
"""Resize: how nearest elements are chosen, modes by number of axes, and places between elements."""


def _resize(
    x: Any, roi: Any = None, scales: Any = None, sizes: Any = None, *,
    antialias: int = 0, axes: Any = None, coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75, exclude_outside: int = 0, extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch", mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Any:  # fmt: skip
    """Resize as PyTorch writes it: every axis but the first two, by `F.interpolate`."""
    places = coordinate_transformation_mode
    if mode == "nearest":
        chosen = _NEAREST.get((places, nearest_mode))
    else:
        chosen = _SMOOTH.get((mode, _rank(x))) if places in _PLACES else None
    how = f"{mode}, {places}, {nearest_mode}" if mode == "nearest" else f"{mode}, {places}"
    _demand(chosen is not None, "Resize as torch.onnx.export writes it", how)
    plain = not antialias and not exclude_outside and keep_aspect_ratio_policy == "stretch"
    _demand(plain and math.isclose(cubic_coeff_a, -0.75), "Resize without other options", how)
    by_size = sizes is not None and np.size(sizes) > 0
    given = _of_axes(x, axes, sizes if by_size else scales, by_size)
    old = x.shape[2:]
    new = given if by_size else [int(k * n) for k, n in zip(given, old, strict=True)]
    _limited(math.prod([*x.shape[:2], *new]))
    if places == "pytorch_half_pixel":  # which takes the first element where one is left
        for axis in (i for i, n in enumerate(new, start=2) if n == 1):
            x = x[(slice(None),) * axis + (slice(0, 1),)]
            given[axis - 2] = 1
    named = {"size": tuple(new)} if by_size else {"scale_factor": tuple(map(float, given))}
    corners = {"align_corners": True} if places == "align_corners" else {}
    return F.interpolate(x, mode=str(chosen), **named, **corners)


def _of_axes(x: Any, axes: Any, numbers: Any, are_sizes: bool) -> list[Any]:
    """The sizes or scales of all axes but the first two, which stay as they are."""
    given: list[Any] = list(x.shape) if are_sizes else [1.0] * _rank(x)
    named = range(_rank(x)) if axes is None else _ints(axes)
    values = np.asarray(numbers).ravel().tolist()
    _demand(len(values) == len(named), f"{len(named)} sizes or scales of Resize", len(values))
    kept = list(given[:2])
    for axis, value in zip(named, values, strict=True):
        given[axis] = value
    _demand(given[:2] == kept, "Resize that keeps batch and channels", given[:2])
    return given[2:]


def _tile(x: Any, repeats: Any) -> Any:
    counts = tuple(_ints(repeats))
    _limited(math.prod(x.shape) * math.prod(counts))
    return arrays.tile(x, counts)


def _shape(x: Any, *, start: int = 0, end: int | None = None) -> ndarray:
    return np.array(tuple(x.shape)[start:end], np.int64)


def _size(x: Any) -> ndarray:
    return np.array(math.prod(x.shape), np.int64)


def _constant(
    *, value: Any = None, value_float: Any = None, value_floats: Any = None, value_int: Any = None,
    value_ints: Any = None,
) -> ndarray:  # fmt: skip
    if value is not None:
        return np.asarray(value)
    for given, dtype in (
        (value_float, np.float32), (value_floats, np.float32), (value_int, np.int64),
        (value_ints, np.int64),
    ):  # fmt: skip
        if given is not None:
            return np.array(given, dtype)
    raise ValueError("load_onnx: expected a value in Constant, got none.")


def _constant_of_shape(sizes: Any, *, value: Any = None) -> ndarray:
    one = np.zeros(1, np.float32) if value is None else np.asarray(value)
    _limited(math.prod(_ints(sizes)))
    return np.broadcast_to(one.reshape(()), tuple(_ints(sizes)))


def _range(start: Any, limit: Any, delta: Any) -> ndarray:
    a, b, step = (np.asarray(x).item() for x in (start, limit, delta))
    fit = step != 0 and all(map(math.isfinite, (a, b, step)))
    _demand(fit, "finite numbers, and a step other than 0", (a, b, step))
    _limited(math.ceil(abs((b - a) / step)))
    counted: ndarray = np.arange(a, b, step).astype(np.asarray(start).dtype)
    return counted


def _trilu(x: Any, k: Any = None, *, upper: int = 1) -> Any:
    return (arrays.triu if upper else arrays.tril)(x, 0 if k is None else _int(k))


# ------------------------------------------------------------------ reductions


def _reduced(compute: Callable[..., Any]) -> Callable[..., Any]:
    def run(x: Any, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Any:
        chosen = () if axes is None else tuple(_ints(axes))
        if not chosen and noop_with_empty_axes:
            return x
        return compute(x, axis=chosen or None, keepdims=bool(keepdims))

    return run


def _l1(x: Any, **how: Any) -> Any:
    return reduction.sum_(abs(x), **how)


def _sum_square(x: Any, **how: Any) -> Any:
    return reduction.sum_(x * x, **how)


def _log_sum(x: Any, **how: Any) -> Any:
    return e.log(reduction.sum_(x, **how))


def _arg(compute: Callable[..., Any]) -> Callable[..., Any]:
    def run(x: Any, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Any:
        _demand(not select_last_index, "select_last_index=0", select_last_index)
        return compute(x, axis=axis, keepdims=bool(keepdims))

    return run


def _cumsum(x: Any, axis: Any, *, exclusive: int = 0, reverse: int = 0) -> Any:
    y = reduction.cumsum_(x, axis=_int(axis), reverse=bool(reverse))
    return y - x if exclusive else y


# ------------------------------------------------------------------ recurrent nets


def _by_gate(rows: Any, order: Sequence[int]) -> Any:
    """The rows of ONNX's gates in our order."""
    hidden = rows.shape[0] // len(order)
    if len(order) == 1:
        return rows
    return shape.concatenate(*(rows[i * hidden : (i + 1) * hidden] for i in order), axis=0)


def _sequences(
    function: Callable[..., Any], order: Sequence[int], x: Any, w: Any, r: Any, b: Any,
    lengths: Any, states: Sequence[Any], direction: str, layout: int,
) -> tuple[Any, ...]:  # fmt: skip
    """Every direction of a net; the states of all steps, then the last of each state."""
    _demand(lengths is None, "sequences of one length", "sequence_lens")
    _demand(layout == 0, "layout=0, the steps first", layout)
    reverses = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    _demand(direction in reverses, "a direction", direction)
    batch, hidden = x.shape[1], r.shape[2]
    found = []
    for i, reverse in enumerate(reverses[direction]):
        zeros = np.zeros((batch, hidden), x.dtype)
        first = [zeros if state is None else state[i] for state in states]
        half = w.shape[1]
        biases = (None, None) if b is None else (b[i, :half], b[i, half:])
        given = [None if rows is None else _by_gate(rows, order) for rows in (w[i], r[i], *biases)]
        found.append(function(x, *first, *given, reverse=reverse))
    every, *last = zip(*found, strict=True)
    return (shape.stack(*every, axis=1), *(shape.stack(*kind, axis=0) for kind in last))


def _demand_plain(
    kind: str, activations: Any, usual: Sequence[str], clip: Any, direction: str
) -> None:
    count = 2 if direction == "bidirectional" else 1
    given = tuple(activations or tuple(usual) * count)
    _demand(given == tuple(usual) * count, f"{kind} with {', '.join(usual)}", given)
    _demand(not clip, f"{kind} without clip", clip)


def _lstm(
    x: Any, w: Any, r: Any, b: Any = None, sequence_lens: Any = None, initial_h: Any = None,
    initial_c: Any = None, p: Any = None, *, activation_alpha: Any = None,
    activation_beta: Any = None, activations: Any = None, clip: Any = None,
    direction: str = "forward", hidden_size: int | None = None, input_forget: int = 0,
    layout: int = 0,
) -> tuple[Any, ...]:  # fmt: skip
    _demand_plain("LSTM", activations, ("Sigmoid", "Tanh", "Tanh"), clip, direction)
    _demand(p is None and not input_forget, "LSTM without peepholes", "P or input_forget")
    states = (initial_h, initial_c)
    order = (0, 2, 3, 1)
    return _sequences(recurrent.lstm, order, x, w, r, b, sequence_lens, states, direction, layout)


def _gru(
    x: Any, w: Any, r: Any, b: Any = None, sequence_lens: Any = None, initial_h: Any = None, *,
    activation_alpha: Any = None, activation_beta: Any = None, activations: Any = None,
    clip: Any = None, direction: str = "forward", hidden_size: int | None = None, layout: int = 0,
    linear_before_reset: int = 0,
) -> tuple[Any, ...]:  # fmt: skip
    _demand_plain("GRU", activations, ("Sigmoid", "Tanh"), clip, direction)
    _demand(linear_before_reset == 1, "GRU with linear_before_reset=1", linear_before_reset)
    states = (initial_h,)
    return _sequences(
        recurrent.gru, (1, 0, 2), x, w, r, b, sequence_lens, states, direction, layout
    )


def _rnn(
    x: Any, w: Any, r: Any, b: Any = None, sequence_lens: Any = None, initial_h: Any = None, *,
    activation_alpha: Any = None, activation_beta: Any = None, activations: Any = None,
    clip: Any = None, direction: str = "forward", hidden_size: int | None = None, layout: int = 0,
) -> tuple[Any, ...]:  # fmt: skip
    relu = bool(activations) and activations[0] == "Relu"
    _demand_plain("RNN", activations, ("Relu" if relu else "Tanh",), clip, direction)

    def run(*given: Any, reverse: bool) -> tuple[Any, Any]:
        kind = "relu" if relu else "tanh"
        return recurrent.rnn(*given, nonlinearity=kind, reverse=reverse)

    states = (initial_h,)
    return _sequences(run, (0,), x, w, r, b, sequence_lens, states, direction, layout)


# ------------------------------------------------------------------ the table


def _folded(compute: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *parts: reduce(compute, parts)


def _one(record: Any) -> Callable[..., Any]:
    return lambda x: record(x)


def _two(record: Any) -> Callable[..., Any]:
    return lambda a, b: record(a, b)


# fmt: off
_UNARY = {
    "Abs": e.absolute, "Acos": e.arccos, "Acosh": e.arccosh, "Asin": e.arcsin, "Asinh": e.arcsinh,
    "Atan": e.arctan, "Atanh": e.arctanh, "BitwiseNot": e.invert, "Ceil": e.ceil, "Cos": e.cos,
    "Cosh": e.cosh, "Erf": e.erf, "Exp": e.exp, "Floor": e.floor, "IsNaN": e.isnan, "Log": e.log,
    "Neg": e.negative, "Not": e.logical_not, "Reciprocal": e.reciprocal, "Relu": e.relu,
    "Round": e.rint, "Sigmoid": e.sigmoid, "Sign": e.sign, "Sin": e.sin, "Sinh": e.sinh,
    "Softplus": e.softplus, "Sqrt": e.sqrt, "Tan": e.tan, "Tanh": e.tanh, "Mish": F.mish,
    "Softsign": F.softsign,
}
_BINARY = {
    "Add": e.add, "And": e.logical_and, "BitwiseAnd": e.bitwise_and, "BitwiseOr": e.bitwise_or,
    "BitwiseXor": e.bitwise_xor, "Equal": e.equal, "Greater": e.greater,
    "GreaterOrEqual": e.greater_equal, "Less": e.less, "LessOrEqual": e.less_equal,
    "MatMul": linalg.matmul, "Mul": e.multiply, "Or": e.logical_or, "Pow": e.power,
    "Sub": e.subtract, "Xor": e.logical_xor,
}
LAYERS: dict[str, Callable[..., Any]] = {
    **{kind: _one(record) for kind, record in _UNARY.items()},
    **{kind: _two(record) for kind, record in _BINARY.items()},
    "ArgMax": _arg(reduction.argmax_), "ArgMin": _arg(reduction.argmin_),
    "AveragePool": _average_pool, "BatchNormalization": _batch_norm, "Cast": _cast,
    "CastLike": lambda x, y, *, saturate=1: astype(x, dtype=y.dtype),
    "Celu": lambda x, *, alpha=1.0: F.celu(x, alpha), "Clip": _clip, "Col2Im": _col2im,
    "Concat": _concat,
    "Constant": _constant, "ConstantOfShape": _constant_of_shape, "Conv": _conv,
    "ConvTranspose": _conv_transpose, "CumSum": _cumsum, "DepthToSpace": _depth_to_space,
    "Div": _div, "Dropout": _dropout,
    "Einsum": lambda *operands, equation: arrays.einsum(equation, *operands),
    "Elu": lambda x, *, alpha=1.0: F.elu(x, alpha), "Expand": _expand, "Flatten": _flatten,
    "GRU": _gru, "Gather": _gather, "GatherElements": _gather_elements, "GatherND": _gather_nd,
    "Gelu": _gelu, "Gemm": _gemm,
    "GlobalAveragePool": lambda x: reduction.mean_(x, axis=_spatial(x), keepdims=True),
    "GlobalMaxPool": lambda x: reduction.max_(x, axis=_spatial(x), keepdims=True),
    "HardSigmoid": _hard_sigmoid, "HardSwish": lambda x: x * _hard_sigmoid(x, alpha=1 / 6),
    "Identity": lambda x: x, "InstanceNormalization": _instance_norm, "IsInf": _isinf,
    "LSTM": _lstm, "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda x, *, alpha=0.01: F.leaky_relu(x, alpha),
    "LogSoftmax": lambda x, *, axis=-1: F.log_softmax(x, axis), "Max": _folded(e.maximum),
    "MaxPool": _max_pool, "Mean": lambda *parts: reduce(e.add, parts) / len(parts),
    "Min": _folded(e.minimum), "Mod": _mod,
    "PRelu": lambda x, slope: e.where(x > 0, x, x * slope), "Pad": _pad, "RNN": _rnn,
    "Range": _range, "ReduceL1": _reduced(_l1), "ReduceL2": _reduced(reduction.norm_),
    "ReduceLogSum": _reduced(_log_sum), "ReduceLogSumExp": _reduced(reduction.logsumexp_),
    "ReduceMax": _reduced(reduction.max_), "ReduceMean": _reduced(reduction.mean_),
    "ReduceMin": _reduced(reduction.min_), "ReduceProd": _reduced(reduction.prod_),
    "ReduceSum": _reduced(reduction.sum_), "ReduceSumSquare": _reduced(_sum_square),
    "Reshape": _reshape, "Resize": _resize, "ScatterElements": _scatter_elements, "Selu": _selu,
    "Shape": _shape, "Size": _size, "Slice": _slice,
    "Softmax": lambda x, *, axis=-1: F.softmax(x, axis), "SpaceToDepth": _space_to_depth,
    "Split": _split, "Squeeze": _squeeze, "Sum": _folded(e.add), "Tile": _tile,
    "Transpose": _transpose, "Trilu": _trilu, "Unsqueeze": _unsqueeze,
    "Where": lambda condition, a, b: e.where(condition, a, b),
}
"""What each operator is here."""

DECIDES_SHAPE: dict[str, tuple[int, ...]] = {
    "Col2Im": (1, 2), "ConstantOfShape": (0,), "CumSum": (1,), "Expand": (1,), "Pad": (1, 2, 3),
    "Range": (0, 1, 2), "Reshape": (1,), "Resize": (1, 2, 3), "Slice": (1, 2, 3, 4), "Split": (1,),
    "Squeeze": (1,), "Tile": (1,), "Trilu": (1,), "Unsqueeze": (1,), "Dropout": (1, 2),
    **{kind: (1,) for kind in LAYERS if kind.startswith("Reduce")},
}
"""The inputs that must be known numbers."""
SCALES = {"Resize": (1, 2)}
"""Those of them that are floats."""
STATISTICS = {"BatchNormalization": (3, 4)}
"""The inputs that are not trained."""
FLAT = {
    "And", "ArgMax", "ArgMin", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil",
    "Equal", "Floor", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not",
    "Or", "Round", "Shape", "Sign", "Size", "Xor",
}
"""The operators without a derivative."""
# fmt: on


OUTPUTS = {"LSTM": 3, "GRU": 2, "RNN": 2}
"""How many outputs are computed, where there may be more than one; those of Split are all."""


def computed(kind: str, outputs: Sequence[str]) -> Sequence[str]:
    """The outputs of a node that are computed here."""
    return outputs if kind == "Split" else outputs[: OUTPUTS.get(kind, 1)]


def is_known(kind: str) -> bool:
    """Whether an operator is read."""
    return kind in LAYERS


@cache
def signature_of(kind: str) -> inspect.Signature:
    """The inputs and attributes of an operator."""
    return inspect.signature(LAYERS[kind])


def bound(kind: str, inputs: Sequence[Any], attributes: dict[str, Any]) -> inspect.BoundArguments:
    """TypeError for inputs or attributes that the operator does not have."""
    return signature_of(kind).bind(*inputs, **attributes)


def counts_outputs(kind: str) -> bool:
    """Whether the function of an operator asks how many outputs it has."""
    return "outputs" in signature_of(kind).parameters
