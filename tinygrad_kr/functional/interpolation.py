"""Images, sequences and volumes at another size. Axis 0 is the batch, axis 1 the channels.

Each spatial axis is resampled in turn: an output is a weighted sum of few neighbours along it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from operator import index as as_index
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.arrays.operands import floating
from tinygrad_kr.arrays.shape import moveaxis
from tinygrad_kr.functional.pooling import adaptive_avg_pool1d
from tinygrad_kr.ops.indexing import take_weighted
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.tensor import Tensor

__all__ = ["interpolate"]

Taps = list[tuple[ndarray, ndarray]]  # indices and weights of one neighbour of each output

_RANKS = {
    "nearest": (3, 4, 5), "nearest-exact": (3, 4, 5), "area": (3, 4, 5), "linear": (3,),
    "bilinear": (4,), "bicubic": (4,), "trilinear": (5,),
}  # fmt: skip
"""The modes, and the numbers of axes that they take."""
_SMOOTH = ("linear", "bilinear", "bicubic", "trilinear")
_CUBIC = -0.75
"""Slope parameter of the cubic kernel, OpenCV's and PyTorch's."""


def interpolate(
    input: Any,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    """The input resampled to another size of its spatial axes.

    input: (N, C, L), (N, C, H, W) or (N, C, D, H, W).
    size: of the spatial axes, one for all or one for each. scale_factor: size = floor(input size
        times scale_factor) instead.
    mode: "nearest" (the element at floor(i n_in / n_out)), "nearest-exact" (the one whose centre
        is nearest), "area" (the mean of a bin, as `adaptive_avg_pool2d`), "linear" for 3 axes,
        "bilinear" and "bicubic" for 4, "trilinear" for 5.
    align_corners: for the last four modes, whether the centres of the corner elements coincide:
        output i lies at i (n_in - 1) / (n_out - 1). By default at (i + 1/2) n_in / n_out - 1/2.
    recompute_scale_factor: derive n_in / n_out from the sizes, not from `scale_factor`.
    antialias: False; PyTorch's filter for smaller images is not there.
    Integers become float32, but for the nearest modes.
    Gradient: each element's weights times g.
    Raises ValueError for other modes, axes or sizes, for both or none of `size` and
        `scale_factor`, or for `align_corners` with another mode.
    Source: torch.nn.functional.interpolate; Keys, Cubic convolution interpolation (1981).

    >>> F.interpolate(tk.tensor([[[1.0, 3.0]]]), size=4, mode="linear")
    Tensor([[[1. , 1.5, 2.5, 3. ]]])
    """
    if mode not in _RANKS or input.ndim not in _RANKS[mode]:
        raise ValueError(
            f"interpolate: expected a mode of {', '.join(_RANKS)} for its number of axes, got "
            f"{mode!r} for {input.shape}."
        )
    if antialias:
        raise ValueError("interpolate: expected antialias=False, got True. Use F.avg_pool2d first")
    if align_corners is not None and mode not in _SMOOTH:
        raise ValueError(
            f"interpolate: expected align_corners with {', '.join(_SMOOTH)}, got it with {mode!r}."
        )
    sizes, ratios = _sizes(input.shape[2:], size, scale_factor, recompute_scale_factor)
    input = input if mode.startswith("nearest") else floating(input)
    for axis, (n, ratio) in enumerate(zip(sizes, ratios, strict=True), start=2):
        input = _resampled(input, axis, n, ratio, mode, bool(align_corners))
    return input


def _sizes(
    sizes: tuple[int, ...], size: Any, scale_factor: Any, recompute: bool | None
) -> tuple[list[int], list[float | None]]:
    """The new sizes, and n_in / n_out where a scale factor says it."""
    if (size is None) == (scale_factor is None):
        raise ValueError(
            f"interpolate: expected size or scale_factor, got {size} and {scale_factor}."
        )
    given: Any = scale_factor if size is None else size
    given = tuple(given) if isinstance(given, tuple | list) else (given,) * len(sizes)
    if len(given) != len(sizes):
        raise ValueError(f"interpolate: expected {len(sizes)} sizes or factors, got {given}.")
    if size is None:
        found = [math.floor(n * float(factor)) for n, factor in zip(sizes, given, strict=True)]
        ratios = [None if recompute else 1 / float(factor) for factor in given]
    else:
        found, ratios = [as_index(n) for n in given], [None] * len(sizes)
    if min(found) < 1 or min(sizes) < 1:
        raise ValueError(f"interpolate: expected sizes of at least 1, got {sizes} to {found}.")
    return found, ratios


def _resampled(x: Any, axis: int, n: int, ratio: float | None, mode: str, corners: bool) -> Any:
    """`x` with `n` elements along `axis`."""
    if mode == "area":
        return moveaxis(adaptive_avg_pool1d(moveaxis(x, axis, -1), n), -1, axis)
    size = x.shape[axis]
    if n == size and ratio in {None, 1.0}:
        return x
    if type(x) is Tensor and x._data.dtype in _IN_ONE_PASS and tracing() is None:
        indices, weights = _tap_arrays(size, n, ratio, mode, corners, x._data.dtype)
        return take_weighted(x, indices=indices, weights=weights, axis=axis, size=size)
    x = moveaxis(x, axis, 0)  # the adjoint adds whole slices, which is faster than elements
    if mode in {"nearest", "nearest-exact"}:
        return moveaxis(x[_nearest(size, n, ratio, mode == "nearest-exact")], 0, axis)
    y: Any = 0.0
    for index, weight in _taps(size, n, ratio, mode, corners):
        y = y + x[index] * weight.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
    return moveaxis(y, 0, axis)


_IN_ONE_PASS = (np.dtype(np.float32), np.dtype(np.float64))


@lru_cache(maxsize=64)
def _tap_arrays(
    size: int, n: int, ratio: float | None, mode: str, corners: bool, dtype: np.dtype[Any]
) -> tuple[ndarray, ndarray]:
    """Indices and weights of all neighbours, (t, n) each; read-only by convention."""
    if mode in {"nearest", "nearest-exact"}:
        return _nearest(size, n, ratio, mode == "nearest-exact")[None], np.ones((1, n), dtype)
    indices, weights = zip(*_taps(size, n, ratio, mode, corners), strict=True)
    return np.stack(indices), np.stack(weights).astype(dtype)


def _taps(size: int, n: int, ratio: float | None, mode: str, corners: bool) -> Taps:
    """The neighbours of each output, with their weights."""
    place = _place(size, n, ratio, corners)
    return _cubic(place, size) if mode == "bicubic" else _linear(place, size)


def _nearest(size: int, n: int, ratio: float | None, exact: bool) -> ndarray:
    """The nearest element of each output, in float32 as PyTorch has it."""
    scale = np.float32(size / n if ratio is None else ratio)
    number = np.arange(n, dtype=np.float32)
    if exact:
        number = number + np.float32(0.5)
    found: ndarray = np.minimum((number * scale).astype(np.int64), size - 1)
    return found


def _place(size: int, n: int, ratio: float | None, corners: bool) -> ndarray:
    """Where each output lies among the elements."""
    if corners:
        return np.linspace(0.0, size - 1, n)
    return (np.arange(n) + 0.5) * (size / n if ratio is None else ratio) - 0.5


def _linear(place: ndarray, size: int) -> Taps:
    place = np.clip(place, 0, size - 1)
    low = np.floor(place).astype(np.int64)
    share = place - low
    return [(low, 1 - share), (np.minimum(low + 1, size - 1), share)]


def _cubic(place: ndarray, size: int) -> Taps:
    """Four neighbours; beyond an edge the outermost element counts again."""
    low = np.floor(place).astype(np.int64)
    share = place - low
    return [
        (np.clip(low + k, 0, size - 1), _cubic_kernel(np.abs(share - k))) for k in (-1, 0, 1, 2)
    ]


def _cubic_kernel(t: ndarray) -> ndarray:
    near = ((_CUBIC + 2) * t - (_CUBIC + 3)) * t * t + 1
    far = ((_CUBIC * t - 5 * _CUBIC) * t + 8 * _CUBIC) * t - 4 * _CUBIC
    kernel: ndarray = np.where(t <= 1, near, far)
    return kernel
