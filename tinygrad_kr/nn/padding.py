"""Padding layers: more elements at both ends of the spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tinygrad_kr.functional as F
from tinygrad_kr.functional.convolution import SPATIAL_AXES
from tinygrad_kr.nn.module import Module


class _Pad(Module):
    """Base class of the layers: widths before and after each axis, the last axis first."""

    _spatial: int
    _mode = "constant"
    value: float | None = None

    def __init__(self, padding: int | Sequence[int]) -> None:
        count = 2 * self._spatial
        widths = tuple(padding) if isinstance(padding, Sequence) else (padding,) * count
        if len(widths) != count:
            raise ValueError(
                f"{type(self).__name__}: expected an integer or {count} of them, got {padding!r}."
            )
        self.padding: tuple[int, ...] = widths

    def forward(self, input: Any) -> Any:
        if input.ndim not in (self._spatial + 1, self._spatial + 2):
            axes = SPATIAL_AXES[self._spatial]
            raise ValueError(
                f"{type(self).__name__}: expected input (N, C, {axes}) or (C, {axes}), got "
                f"{input.shape}."
            )
        return F.pad(input, self.padding, self._mode, self.value)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Any) -> Any:  # of any number of axes, as in PyTorch
        return F.pad(input, self.padding, self._mode, self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class _ZeroPad(_Pad):
    def forward(self, input: Any) -> Any:
        return F.pad(input, self.padding)


class ConstantPad1d(_ConstantPad):
    """`value` at both ends of one axis: (N, C, L) or (C, L).

    padding: one width, or (left, right). Negative widths remove elements.
    Raises ValueError for another number of widths.
    Options and gradient: see `functional.pad`.

    >>> nn.ConstantPad1d(1, 9.0)(tk.tensor([[1.0, 2.0, 3.0]]))
    Tensor([[9., 1., 2., 3., 9.]])
    """

    _spatial = 1


class ConstantPad2d(_ConstantPad):
    """`value` at both ends of two axes: (N, C, H, W) or (C, H, W).

    padding: one width, or (left, right, top, bottom). Errors: see `ConstantPad1d`.

    >>> nn.ConstantPad2d(1, 9.0)(tk.ones(1, 2, 3)).shape
    (1, 4, 5)
    """

    _spatial = 2


class ConstantPad3d(_ConstantPad):
    """`value` at both ends of three axes: (N, C, D, H, W) or (C, D, H, W).

    padding: one width, or (left, right, top, bottom, front, back). Errors: see `ConstantPad1d`.

    >>> nn.ConstantPad3d(1, 9.0)(tk.ones(1, 2, 3, 4)).shape
    (1, 4, 5, 6)
    """

    _spatial = 3


class ZeroPad1d(_ZeroPad):
    """Zeros at both ends of one axis: (N, C, L) or (C, L).

    padding: one width, or (left, right). Negative widths remove elements.
    Raises ValueError for another number of widths.
    Options and gradient: see `functional.pad`.

    >>> nn.ZeroPad1d(1)(tk.tensor([[1.0, 2.0, 3.0]]))
    Tensor([[0., 1., 2., 3., 0.]])
    """

    _spatial = 1


class ZeroPad2d(_ZeroPad):
    """Zeros at both ends of two axes: (N, C, H, W) or (C, H, W).

    padding: one width, or (left, right, top, bottom). Errors: see `ZeroPad1d`.

    >>> nn.ZeroPad2d(1)(tk.ones(1, 2, 3)).shape
    (1, 4, 5)
    """

    _spatial = 2


class ZeroPad3d(_ZeroPad):
    """Zeros at both ends of three axes: (N, C, D, H, W) or (C, D, H, W).

    padding: one width, or (left, right, top, bottom, front, back). Errors: see `ZeroPad1d`.

    >>> nn.ZeroPad3d(1)(tk.ones(1, 2, 3, 4)).shape
    (1, 4, 5, 6)
    """

    _spatial = 3


class ReflectionPad1d(_Pad):
    """The elements of one axis mirrored at both ends, without the edge: (N, C, L) or (C, L).

    padding: one width, or (left, right).
    Raises ValueError for another number of widths; a call for an axis too short for them.
    Options and gradient: see `functional.pad`.

    >>> nn.ReflectionPad1d(1)(tk.tensor([[1.0, 2.0, 3.0]]))
    Tensor([[2., 1., 2., 3., 2.]])
    """

    _spatial, _mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """The elements of two axes mirrored at both ends, without the edge: (N, C, H, W) or (C, H, W).

    padding: one width, or (left, right, top, bottom). Errors: see `ReflectionPad1d`.

    >>> nn.ReflectionPad2d(1)(tk.ones(1, 2, 3)).shape
    (1, 4, 5)
    """

    _spatial, _mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """Three axes mirrored at both ends, without the edge: (N, C, D, H, W) or (C, D, H, W).

    padding: one width, or (left, right, top, bottom, front, back). Errors: see `ReflectionPad1d`.

    >>> nn.ReflectionPad3d(1)(tk.ones(1, 2, 3, 4)).shape
    (1, 4, 5, 6)
    """

    _spatial, _mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """The outermost elements of one axis repeated at both ends: (N, C, L) or (C, L).

    padding: one width, or (left, right).
    Raises ValueError for another number of widths.
    Options and gradient: see `functional.pad`.

    >>> nn.ReplicationPad1d(1)(tk.tensor([[1.0, 2.0, 3.0]]))
    Tensor([[1., 1., 2., 3., 3.]])
    """

    _spatial, _mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """The outermost elements of two axes repeated at both ends: (N, C, H, W) or (C, H, W).

    padding: one width, or (left, right, top, bottom). Errors: see `ReplicationPad1d`.

    >>> nn.ReplicationPad2d(1)(tk.ones(1, 2, 3)).shape
    (1, 4, 5)
    """

    _spatial, _mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """The outermost elements of three axes repeated at both ends: (N, C, D, H, W) or (C, D, H, W).

    padding: one width, or (left, right, top, bottom, front, back). Errors: see `ReplicationPad1d`.

    >>> nn.ReplicationPad3d(1)(tk.ones(1, 2, 3, 4)).shape
    (1, 4, 5, 6)
    """

    _spatial, _mode = 3, "replicate"


class CircularPad1d(_Pad):
    """The elements of one axis continued from the other end: (N, C, L) or (C, L).

    padding: one width, or (left, right).
    Raises ValueError for another number of widths; a call for an axis too short for them.
    Options and gradient: see `functional.pad`.

    >>> nn.CircularPad1d(1)(tk.tensor([[1.0, 2.0, 3.0]]))
    Tensor([[3., 1., 2., 3., 1.]])
    """

    _spatial, _mode = 1, "circular"


class CircularPad2d(_Pad):
    """The elements of two axes continued from the other end: (N, C, H, W) or (C, H, W).

    padding: one width, or (left, right, top, bottom). Errors: see `CircularPad1d`.

    >>> nn.CircularPad2d(1)(tk.ones(1, 2, 3)).shape
    (1, 4, 5)
    """

    _spatial, _mode = 2, "circular"


class CircularPad3d(_Pad):
    """The elements of three axes continued from the other end: (N, C, D, H, W) or (C, D, H, W).

    padding: one width, or (left, right, top, bottom, front, back). Errors: see `CircularPad1d`.

    >>> nn.CircularPad3d(1)(tk.ones(1, 2, 3, 4)).shape
    (1, 4, 5, 6)
    """

    _spatial, _mode = 3, "circular"
