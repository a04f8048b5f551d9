"""Operations that move elements without changing them. Their adjoints move them back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.op import Op, op
from tinygrad_kr.ops.reduction import concatenate as concatenate


def _reshape(x: ndarray, *, shape: tuple[int, ...]) -> ndarray:
    """The same elements in C order in another shape; one size may be -1."""
    return x.reshape(shape)


def _transpose(x: ndarray, *, axes: tuple[int, ...] | None = None) -> ndarray:
    """The axes in another order, reversed for None."""
    return x.transpose(axes)


def _swapaxes(x: ndarray, *, axis1: int, axis2: int) -> ndarray:
    """Two axes exchanged."""
    return x.swapaxes(axis1, axis2)


def _broadcast_to(x: ndarray, *, shape: tuple[int, ...]) -> ndarray:
    """`x` repeated to `shape` by broadcasting, without copying."""
    if not x.ndim:  # 8 times faster than np.broadcast_to
        y: ndarray = np.ndarray(shape, x.dtype, x, 0, (0,) * len(shape))
        y.flags.writeable = False
        return y
    return np.broadcast_to(x, shape)


def _flip(x: ndarray, *, axis: Any = None) -> ndarray:
    """The order of the elements reversed along `axis` (all axes for None)."""
    return np.flip(x, axis)


def _roll(x: ndarray, *, shift: Any, axis: Any = None) -> ndarray:
    """The elements moved along `axis` by `shift`; those pushed out come in at the other end."""
    return np.roll(x, shift, axis)


def _opposite(shift: Any) -> Any:
    return tuple(-s for s in shift) if isinstance(shift, tuple | list) else -shift


def _stack(*parts: ndarray, axis: int = 0) -> ndarray:
    """Arrays of one shape side by side along a new axis."""
    return np.stack(parts, axis)


def _unstacked(g: Any, index: int, axis: int) -> Any:
    place: list[Any] = [slice(None)] * g.ndim
    place[axis] = index
    return g[tuple(place)]


def inverse_permutation(axes: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes `axes`."""
    return tuple(int(i) for i in np.argsort([a % len(axes) for a in axes]))


# fmt: off
reshape      = op(_reshape,      lambda g, y, x, shape: g.reshape(x.shape))
transpose    = op(_transpose,    lambda g, y, x, axes=None:
                  g.transpose(None if axes is None else inverse_permutation(axes)))
swapaxes     = op(_swapaxes,     lambda g, y, x, axis1, axis2: g.swapaxes(axis1, axis2))
broadcast_to = op(_broadcast_to, lambda g, y, x, shape: g)
flip: Op = op(_flip,         lambda g, y, x, axis=None: flip(g, axis=axis))
roll: Op = op(_roll,         lambda g, y, x, shift, axis=None:
                  roll(g, shift=_opposite(shift), axis=axis))
stack        = op(_stack,        lambda g, y, *parts, needs, axis=0:
                  [_unstacked(g, i, axis) if need else None for i, need in enumerate(needs)],
                  one_rule_for_all=True)
# fmt: on


def _pad(x: ndarray, *, widths: tuple[tuple[int, int], ...], value: float = 0.0) -> ndarray:
    """`x` with `widths` (before, after) elements of `value` around it on each axis.

    The order of the axes in memory is kept.
    """
    if any(width < 0 for pair in widths for width in pair):
        raise ValueError(f"expected widths of at least 0, got {widths}.")
    sizes = [a + n + b for n, (a, b) in zip(x.shape, widths, strict=True)]
    order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    made = np.full([sizes[axis] for axis in order], value, x.dtype)
    y = made.transpose(sorted(range(x.ndim), key=order.__getitem__))
    y[tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, widths, strict=True))] = x
    return y


def _inner(g: Any, x: Any, widths: tuple[tuple[int, int], ...]) -> Any:
    return g[tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, widths, strict=True))]


pad = op(_pad, lambda g, y, x, widths, value=0.0: _inner(g, x, widths))


def unbind(x: Any, axis: int = 0) -> tuple[Any, ...]:
    """The slices along `axis`, without that axis."""
    return tuple(x[(*(slice(None),) * axis, i)] for i in range(x.shape[axis]))
