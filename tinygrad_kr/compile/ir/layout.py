"""Memory layout: views, strides and loop nests, all in elements."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

Shape = tuple[int, ...]
FLOAT_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True, slots=True)
class View:
    """The view of memory that a value has: the root, the first element, the strides."""

    root: int
    offset: int
    strides: Shape


def dense_strides(shape: Shape, like: Shape | None = None) -> Shape:
    """Strides of a dense array, in C order or with the axis order of the strides `like`."""
    axes = range(len(shape))
    order = sorted(axes, key=lambda axis: -like[axis]) if like is not None else list(axes)
    strides = [0] * len(shape)
    step = 1
    for axis in reversed(order):
        strides[axis] = step
        step *= max(shape[axis], 1)
    return tuple(strides)


def is_dense(shape: Shape, strides: Shape) -> bool:
    """Whether these strides leave no gap and visit no element twice."""
    axes = [axis for axis, n in enumerate(shape) if n != 1]
    step = 1
    for axis in sorted(axes, key=lambda axis: strides[axis]):
        if strides[axis] != step:
            return False
        step *= shape[axis]
    return True


def empty(shape: Shape, dtype: Any, strides: Shape) -> ndarray:
    """A dense array with these strides that owns its memory, so a view of it keeps it alive."""
    return np.ndarray(
        shape, dtype, strides=tuple(step * np.dtype(dtype).itemsize for step in strides)
    )


def loops(shape: Shape, *operands: Shape) -> tuple[Shape, list[Shape]]:
    """The fewest nested loops over `shape`, outermost first, and each operand's strides in them.

    The first operand, the output, gives the order. Axes that are contiguous in all operands are
    joined.
    """
    axes = [axis for axis, n in enumerate(shape) if n != 1]
    axes.sort(key=lambda axis: -operands[0][axis])
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in operands]
    for axis in axes:
        n = shape[axis]
        joined = sizes and all(
            step[-1] == operand[axis] * n for step, operand in zip(steps, operands, strict=True)
        )
        if joined:
            sizes[-1] *= n
            for step, operand in zip(steps, operands, strict=True):
                step[-1] = operand[axis]
        else:
            sizes.append(n)
            for step, operand in zip(steps, operands, strict=True):
                step.append(operand[axis])
    return tuple(sizes), [tuple(step) for step in steps]


def broadcast_strides(strides: Shape, shape: Shape, to: Shape) -> Shape:
    """The strides of an operand of `shape` broadcast to the shape `to`."""
    missing = len(to) - len(shape)
    return (0,) * missing + tuple(
        0 if n == 1 else step for n, step in zip(shape, strides, strict=True)
    )


def extent(shape: Shape) -> int:
    """Number of elements."""
    return math.prod(shape)
