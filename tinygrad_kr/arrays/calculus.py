"""Differences, integrals and convolutions of samples."""

from __future__ import annotations

from typing import Any

from numpy.lib.array_utils import normalize_axis_tuple

from tinygrad_kr.arrays.operands import floating, operands
from tinygrad_kr.arrays.shape import moveaxis
from tinygrad_kr.ops import linalg, shape
from tinygrad_kr.ops.window import unfold

__all__ = ["convolve", "diff", "gradient", "trapezoid"]


def diff(
    x: Any,
    n: int = 1,
    axis: int = -1,
    *,
    dim: int | None = None,
    prepend: Any = None,
    append: Any = None,
) -> Any:
    """The differences of neighbours along `axis`, `n` times over.

    prepend, append: what to put before and after first, of the size of `x` off the axis.
    """
    axis = axis if dim is None else dim
    x = operands(x)[0]
    if not x.ndim:
        raise ValueError("diff needs at least 1 axis, not a number")
    if n < 0:
        raise ValueError(f"diff: n = {n} is negative")
    ends = [part for part in (prepend, x, append) if part is not None]
    if len(ends) > 1:
        ends = [_widened(part, x.shape, axis) for part in operands(*ends)]
        x = shape.concatenate(*ends, axis=axis)
    x = moveaxis(x, axis, -1)
    for _ in range(n):
        x = x[..., 1:] != x[..., :-1] if x.dtype == bool else x[..., 1:] - x[..., :-1]
    return moveaxis(x, -1, axis)


def _widened(part: Any, size: tuple[int, ...], axis: int) -> Any:
    """A number as a slice of size 1 along the axis."""
    if part.ndim:
        return part
    thin = list(size)
    thin[axis] = 1
    return shape.broadcast_to(part, shape=tuple(thin))


def gradient(
    x: Any, *, spacing: Any = 1.0, axis: Any = None, dim: Any = None, edge_order: int = 1
) -> tuple[Any, ...]:
    """The slopes of sampled values along each axis: central differences, one-sided at the ends.

    spacing: the distance of samples, or a vector of their positions, for all axes or a list with
        one for each.
    axis: the axes (default: all).
    edge_order: 1 or 2, the accuracy of the differences at the ends.

    Exact for a quadratic inside (Fornberg 1988); needs edge_order + 1 samples.
    """
    x = floating(operands(x)[0])
    axis = axis if dim is None else dim
    axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim, "gradient")
    spacings = spacing if isinstance(spacing, list | tuple) else [spacing] * len(axes)
    if len(spacings) != len(axes):
        raise ValueError(f"gradient: {len(spacings)} spacings for {len(axes)} axes")
    if edge_order not in {1, 2}:
        raise ValueError(f"gradient: edge_order is 1 or 2, not {edge_order}")
    return tuple(_slopes(x, a, h, edge_order) for a, h in zip(axes, spacings, strict=True))


def _slopes(x: Any, axis: int, spacing: Any, edge_order: int) -> Any:
    f = moveaxis(x, axis, -1)
    n = f.shape[-1]
    if n <= edge_order:
        raise ValueError(f"gradient: {n} samples along axis {axis}; it takes {edge_order + 1}")
    spacing = operands(f, spacing)[1]
    if spacing.ndim and spacing.shape != (n,):
        raise ValueError(f"gradient: positions of shape {spacing.shape} for {n} samples")
    steps = diff(spacing) if spacing.ndim else shape.broadcast_to(spacing, shape=(n - 1,))
    steps = floating(steps)
    before, after = steps[:-1], steps[1:]
    chords = (f[..., 1:] - f[..., :-1]) / steps
    weight = before / (before + after)
    inside = (1 - weight) * chords[..., :-1] + weight * chords[..., 1:]
    first, last = chords[..., :1], chords[..., -1:]
    if edge_order == 2:
        bend = (chords[..., 1:] - chords[..., :-1]) / (before + after)
        first = first - bend[..., :1] * before[:1]
        last = last + bend[..., -1:] * after[-1:]
    return moveaxis(shape.concatenate(first, inside, last, axis=-1), -1, axis)


def trapezoid(
    y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1, *, dim: int | None = None
) -> Any:
    """The integral of samples by the trapezoidal rule: sum (y_i + y_(i+1)) / 2 (x_(i+1) - x_i).

    x: the positions, along the axis or of the shape of `y`; without them `dx` lies between two.
    """
    axis = axis if dim is None else dim
    y = operands(y)[0]
    if x is not None:
        x = operands(y, x)[1]
        dx = diff(x) if x.ndim == 1 else moveaxis(diff(x, axis=axis), axis, -1)
    y = moveaxis(y, axis, -1)
    return (dx * (y[..., 1:] + y[..., :-1]) * 0.5).sum(axis=-1)


def convolve(a: Any, v: Any, mode: str = "full") -> Any:
    """y_k = sum_i a_i v_(k - i) of two vectors.

    mode: "full" every k with a product, "same" the middle of it in the longer one's size, "valid"
        where they overlap completely.
    """
    a, v = operands(a, v)
    if a.ndim > 1 or v.ndim > 1 or not a.size or not v.size:
        raise ValueError(f"convolve takes two vectors that are not empty, not {a.shape}, {v.shape}")
    a, v = a.reshape(-1), v.reshape(-1)
    if len(v) > len(a):
        a, v = v, a
    m = len(v)
    modes = {"full": (m - 1, m - 1), "same": (m // 2, (m - 1) // 2), "valid": (0, 0)}
    if mode not in modes:
        raise ValueError(f'convolve: mode is "full", "same" or "valid", not {mode!r}')
    padded = shape.pad(a, widths=(modes[mode],))
    windows = unfold(padded, kernel=(m,), stride=(1,), dilation=(1,))
    return linalg.matmul(windows, shape.flip(v))
