"""Batch norm and group norm: mean and variance of channels, scale and shift of each.

`groups` divides the channels (axis 1) of each sample. 0 stands for batch norm: each channel by
itself, over all samples. A C kernel keeps the memory order of channels, first or last.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops import kernels
from tinygrad_kr.ops.network import _normalize_vjp, normalize
from tinygrad_kr.ops.op import Op, in_float32, op, widened
from tinygrad_kr.ops.reduction import mean_, var_

Moments = tuple[ndarray, ndarray]
"""Mean and variance, which divides by n: (C,) for batch norm, else (N, groups)."""

_PIECE = 2**14
"""Elements that a thread takes at once."""


def moments(x: ndarray, groups: int) -> Moments:
    """Mean and variance of each channel over all samples, or of each group of each sample."""
    x = widened(x)
    sizes = (len(x), groups) if groups else (x.shape[1],)
    mean, var = np.empty(sizes, x.dtype), np.empty(sizes, x.dtype)
    if _in_c("channel_moments", groups, 0.0, {"x": x, "mean": mean, "var": var}):
        return mean, var
    by_group, axis = _by_group(x, groups), _axes(x, groups)
    found: Any = [f(by_group, axis=axis, keepdims=False) for f in (mean_, var_)]
    return found[0], found[1]


def _by_group(x: Any, groups: int) -> Any:
    """`x` with an axis of groups before that of the channels of a group."""
    if not groups:
        return x
    return x.reshape(len(x), groups, x.shape[1] // groups, *x.shape[2:])


def _axes(x: Any, groups: int) -> tuple[int, ...]:
    """The axes of `_by_group` that share moments."""
    return tuple(range(2, x.ndim + 1)) if groups else (0, *range(2, x.ndim))


def _along(x: Any, values: Any, groups: int) -> Any:
    """Moments with as many axes as `_by_group` has."""
    return values.reshape(*values.shape, *[1] * (x.ndim - 1 if groups else x.ndim - 2))


def _by_channel(x: Any, values: Any) -> Any:
    return values.reshape(values.shape[0], *[1] * (x.ndim - 2))


def _normal(x: ndarray, groups: int, eps: float, found: Moments) -> Any:
    """(x - mean) / sqrt(var + eps)."""
    mean, var = (_along(x, values, groups) for values in found)
    y = _by_group(x, groups) - mean
    y *= (var + eps) ** -0.5
    return y.reshape(x.shape)


@in_float32
def _channel_norm(
    x: ndarray,
    weight: ndarray | None = None,
    bias: ndarray | None = None,
    *,
    groups: int,
    eps: float,
    known: Moments | None = None,
    fixed: bool = False,
) -> Any:
    """(x - mean) / sqrt(var + eps) weight + bias, for each channel (axis 1).

    known: the moments, where they are computed already. fixed: they are constants.
    """
    found = moments(x, groups) if known is None else known
    y = _normal(x, groups, eps, found)
    if weight is not None:
        y = y * _by_channel(x, weight)
    return y if bias is None else y + _by_channel(x, bias)


def _channel_norm_in_c(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    groups: int,
    eps: float,
    known: Moments | None = None,
    fixed: bool = False,
) -> ndarray | None:
    if not _fits(x, weight, bias):
        return None
    weight, bias = _given(x, weight, bias)
    mean, var = moments(x, groups) if known is None else known
    y = np.empty_like(x)
    arrays = {"x": x, "weight": weight, "bias": bias, "mean": mean, "var": var, "y": y}
    return y if _in_c("channel_norm", groups, eps, arrays) else None


def _channel_norm_vjp_in_c(
    g: Any, x: Any, weight: Any, groups: int, eps: float, known: Any, fixed: bool
) -> list[Any] | None:
    if not _fits(x, weight, g):
        return None
    weight, _ = _given(x, weight, None)
    mean, var = moments(x, groups) if known is None else known
    dx, sums = np.empty_like(x), np.zeros((2, x.shape[1]), x.dtype)
    arrays = {"x": x, "weight": weight, "mean": mean, "var": var}
    arrays |= {"g": g, "y": dx, "dweight": sums[0], "dbias": sums[1]}
    if not _in_c("channel_norm_vjp", groups, eps, arrays, fixed):
        return None
    return [dx, sums[0], sums[1]]


def _channel_norm_vjp(
    g: Any,
    y: Any,
    x: Any,
    *given: Any,
    needs: tuple[bool, ...],
    groups: int,
    eps: float,
    known: Any = None,
    fixed: bool = False,
) -> list[Any]:
    weight = given[0] if given else None
    found = _channel_norm_vjp_in_c(g, x, weight, groups, eps, known, fixed)
    if found is not None:
        return found[: len(needs)]
    scaled, others = g if weight is None else g * _by_channel(x, weight), (0, *range(2, x.ndim))
    if fixed:
        mean, var = (_by_channel(x, values) for values in known)
        scale = (var + eps) ** -0.5
        normal, dx = (x - mean) * scale, scaled * scale
    else:
        across, axis = _by_group(x, groups), _axes(x, groups)
        normal = normalize(across, axis=axis, eps=eps)
        dx = _normalize_vjp(_by_group(scaled, groups), normal, across, axis=axis, eps=eps)
        normal, dx = normal.reshape(x.shape), dx.reshape(x.shape)
    return [dx, (g * normal).sum(axis=others), g.sum(axis=others)][: len(needs)]


def _given(x: ndarray, weight: Any, bias: Any) -> tuple[ndarray, ndarray]:
    """The scale and the shift of each channel, 1 and 0 where there is none."""
    size = x.shape[1]
    return (
        np.ones(size, x.dtype) if weight is None else weight,
        np.zeros(size, x.dtype) if bias is None else bias,
    )


def _fits(*arrays: Any) -> bool:
    """Whether these are arrays of one dtype, or None."""
    x = arrays[0]
    given = [array for array in arrays if array is not None]
    return all(type(array) is ndarray and array.dtype == x.dtype for array in given)


def _in_c(name: str, groups: int, eps: float, arrays: dict[str, Any], fixed: bool = False) -> bool:
    """Call a function of `channels.h`; False for NumPy. An output `y` is laid out like `x`."""
    x = arrays["x"]
    if x.size < kernels.MIN_ELEMENTS or any(a.dtype != x.dtype for a in arrays.values()):
        return False
    if (built := kernels.kernels("channels", *arrays.values())) is None:
        return False
    samples, channels, size = len(x), x.shape[1], math.prod(x.shape[2:])
    last = size == 1 or x.strides[1] < x.strides[-1]
    to: Any = kernels.channels_last(arrays["y"]) if "y" in arrays and last else arrays.get("y")
    whole = to if to is None or to.flags.c_contiguous else np.empty(to.shape, to.dtype)
    given = {key: kernels.with_channels(a, last) if key in "xg" else kernels.dense(a)
             for key, a in arrays.items() if key != "y"} | {"y": whole}  # fmt: skip
    sets = samples if groups else 1
    items = samples // sets * (size if last else 1)
    step = max(_PIECE // (channels * (1 if last else size)), 32 if last else 1)
    sizes = (sets, items, channels, groups or channels, 1 if last else size, last, step, fixed)
    places = (kernels.place(given.get(key)) for key in _NAMES)
    kernels.run(getattr(built, name), (*sizes, *places), sets * -(-items // step), 8 * x.size, eps)
    if whole is not to:
        to[...] = whole
    return True


_NAMES = ("x", "g", "weight", "bias", "mean", "var", "y", "dweight", "dbias")

channel_norm: Op = op(
    _channel_norm, _channel_norm_vjp, one_rule_for_all=True, kernel=_channel_norm_in_c
)
