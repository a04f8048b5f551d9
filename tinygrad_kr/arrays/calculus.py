"""Differences, integrals and convolutions of samples."""

from __future__ import annotations

from typing import Any

from tinygrad_kr.arrays.operands import either_name, floating, operands
from tinygrad_kr.arrays.shape import moveaxis
from tinygrad_kr.ops import linalg, shape
from tinygrad_kr.ops.axes import axis_index, axis_indices
from tinygrad_kr.ops.op import passes_on
from tinygrad_kr.ops.window import unfold

__all__ = ["convolve", "diff", "gradient", "trapezoid"]


@either_name
def diff(
    x: Any,
    n: int = 1,
    axis: int = -1,
    prepend: Any = None,
    append: Any = None,
    *,
    dim: int | None = None,
) -> Any:
    """The differences of neighbours along `axis`, x_(i+1) - x_i, applied `n` times.

    prepend, append: put before and after `x` first: a number, or an array of its size off the
        axis.
    The axis has `n` elements less. Booleans give x_(i+1) != x_i. n = 0 gives `x`, nothing put on.
    Raises ValueError for a number, or for a negative `n`.
    Source: np.diff, torch.diff.

    >>> tk.diff(tk.tensor([1.0, 4.0, 9.0]))
    Tensor([3., 5.])
    """
    x = operands(x)[0]
    if n == 0:
        return x
    if not x.ndim:
        raise ValueError("diff: expected at least 1 axis, got a number.")
    if n < 0:
        raise ValueError(f"diff: expected n of at least 0, got {n}.")
    axis = axis_index(axis, x.ndim, "diff")
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


@either_name
def gradient(
    x: Any, *, spacing: Any = None, axis: Any = None, dim: Any = None, edge_order: int = 1
) -> tuple[Any, ...]:
    """The slopes of samples along each axis: central differences, one-sided at the ends.

    spacing: the distance of samples, 1 by default, or a vector of their positions; a list gives one
        per axis.
    axis, dim: the axes, all by default. The result is a tuple with one array per axis.
    edge_order: 1 or 2, the accuracy of the differences at the ends.
    Exact inside for a quadratic. Integers become float32.
    Raises ValueError for fewer than edge_order + 1 samples, or a spacing that does not fit.
    Source: Fornberg, Generation of finite difference formulas (1988); torch.gradient.

    >>> tk.gradient(tk.tensor([0.0, 1.0, 4.0]))
    (Tensor([1., 2., 3.]),)
    """
    x = floating(operands(x)[0])
    axes = axis_indices(range(x.ndim) if axis is None else axis, x.ndim, "gradient")
    spacing = 1.0 if spacing is None else spacing
    spacings = spacing if isinstance(spacing, list | tuple) else [spacing] * len(axes)
    if len(spacings) != len(axes):
        raise ValueError(f"gradient: expected {len(axes)} spacings, got {len(spacings)}.")
    if edge_order not in {1, 2}:
        raise ValueError(f"gradient: expected edge_order 1 or 2, got {edge_order}.")
    return tuple(_slopes(x, a, h, edge_order) for a, h in zip(axes, spacings, strict=True))


def _slopes(x: Any, axis: int, spacing: Any, edge_order: int) -> Any:
    f = moveaxis(x, axis, -1)
    n = f.shape[-1]
    if n <= edge_order:
        raise ValueError(
            f"gradient: expected at least {edge_order + 1} samples along axis {axis}, got {n}."
        )
    spacing = operands(f, spacing)[1]
    if spacing.ndim and spacing.shape != (n,):
        raise ValueError(f"gradient: expected {n} positions, got shape {spacing.shape}.")
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


@passes_on("diff")
@either_name
def trapezoid(
    y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1, *, dim: int | None = None
) -> Any:
    """The integral of samples by the trapezoidal rule: sum (y_i + y_(i+1)) / 2 (x_(i+1) - x_i).

    x: the positions, a vector along the axis or an array of the shape of `y`.
    dx: the distance of two samples where there is no `x`.
    Gradient: through `y`, `x` and `dx`.
    Raises ValueError if the positions do not broadcast.
    Source: np.trapezoid, torch.trapezoid.

    >>> tk.trapezoid(tk.tensor([0.0, 1.0, 4.0]))
    Tensor(3.)
    """
    y = operands(y)[0]
    axis = axis_index(axis, y.ndim, "trapezoid")
    if x is not None:
        x = operands(y, x)[1]
        dx = diff(x) if x.ndim == 1 else moveaxis(diff(x, axis=axis), axis, -1)
    y = moveaxis(y, axis, -1)
    return (dx * (y[..., 1:] + y[..., :-1]) * 0.5).sum(axis=-1)


def convolve(a: Any, v: Any, mode: str = "full") -> Any:
    """The convolution of two vectors: y_k = sum_i a_i v_(k - i).

    mode: "full" for every k with a product, "same" for the middle of it in the longer vector's
        size, "valid" for complete overlap.
    Gradient: through both vectors.
    Raises ValueError for other modes, for empty vectors, or for anything but vectors.
    Source: np.convolve.

    >>> tk.convolve(tk.tensor([1.0, 2.0, 3.0]), tk.tensor([1.0, 1.0]))
    Tensor([1., 3., 5., 3.])
    """
    a, v = operands(a, v)
    if a.ndim > 1 or v.ndim > 1 or not a.size or not v.size:
        raise ValueError(f"convolve: expected two vectors, not empty, got {a.shape} and {v.shape}.")
    a, v = a.reshape(-1), v.reshape(-1)
    if len(v) > len(a):
        a, v = v, a
    m = len(v)
    modes = {"full": (m - 1, m - 1), "same": (m // 2, (m - 1) // 2), "valid": (0, 0)}
    if mode not in modes:
        raise ValueError(f'convolve: expected mode "full", "same" or "valid", got {mode!r}.')
    padded = shape.pad(a, widths=(modes[mode],))
    windows = unfold(padded, kernel=(m,), stride=(1,), dilation=(1,))
    return linalg.matmul(windows, shape.flip(v))
