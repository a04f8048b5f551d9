"""The elements of one array in another shape, order or number.

Names and signatures are PyTorch's where it has the function, else NumPy's; `axis` may be called
`dim`. Gradients move back to where the elements came from.
"""

from __future__ import annotations

import math
from itertools import accumulate
from operator import index
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from tinygrad_kr.arrays.operands import array_function
from tinygrad_kr.ops import indexing, shape
from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.shape import broadcast_to as _broadcast_to

__all__ = [
    "broadcast_to", "chunk", "diagonal", "expand_dims", "flatten", "flip", "moveaxis", "movedim",
    "permute", "ravel", "repeat", "repeat_interleave", "reshape", "roll", "split", "squeeze",
    "swapaxes", "tile", "trace", "transpose", "unbind", "unsqueeze",
]  # fmt: skip


def sizes_of(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """Sizes that were given one by one, or as one tuple or list."""
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = tuple(sizes[0])
    return tuple(map(index, sizes))


def _axis_of(x: Any, axis: int | None, dim: int | None, name: str) -> int:
    chosen: Any = axis if dim is None else dim
    return normalize_axis_index(chosen, x.ndim, name)


# ------------------------------------------------------------------ another shape


@array_function
def reshape(x: Any, *sizes: Any) -> Any:
    """The same elements in another shape; one size may be -1."""
    return shape.reshape(x, shape=sizes_of(sizes))


@array_function
def ravel(x: Any) -> Any:
    """All elements in one axis."""
    return shape.reshape(x, shape=(-1,))


@array_function
def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """The axes from `start_dim` to `end_dim` merged into one."""
    if not x.ndim:
        return x.reshape(1)
    start, end = normalize_axis_tuple((start_dim, end_dim), x.ndim, "flatten", True)
    if start > end:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    merged = int(np.prod(x.shape[start : end + 1]))
    return x.reshape(*x.shape[:start], merged, *x.shape[end + 1 :])


@array_function
def unflatten(x: Any, dim: int, sizes: tuple[int, ...]) -> Any:
    """One axis split into several."""
    (dim,) = normalize_axis_tuple(dim, x.ndim, "unflatten")
    if -1 in sizes:
        known = int(np.prod([n for n in sizes if n != -1]))
        sizes = tuple(x.shape[dim] // known if n == -1 else n for n in sizes)
    return x.reshape(*x.shape[:dim], *sizes, *x.shape[dim + 1 :])


@array_function
def squeeze(x: Any, axis: Any = None, *, dim: Any = None) -> Any:
    """Without the axes of size 1, or those of them that `axis` names (PyTorch's rule)."""
    axis = axis if dim is None else dim
    if axis is not None:
        axes = axis if isinstance(axis, tuple | list) else (axis,)
        axis = tuple(a for a in normalize_axis_tuple(axes, x.ndim) if x.shape[a] == 1)
    return x.reshape(np.squeeze(np.broadcast_to(0, x.shape), axis).shape)


@array_function
def unsqueeze(x: Any, axis: int | None = None, *, dim: int | None = None) -> Any:
    """With a new axis of size 1."""
    axis = axis if dim is None else dim
    return x.reshape(np.expand_dims(np.broadcast_to(0, x.shape), axis or 0).shape)


expand_dims = unsqueeze


@array_function
def expand(x: Any, *sizes: Any) -> Any:
    """Axes of size 1 repeated to `sizes` without copying; -1 keeps a size."""
    sizes = sizes_of(sizes)
    extra = len(sizes) - x.ndim
    target = tuple(x.shape[i - extra] if n == -1 and i >= extra else n for i, n in enumerate(sizes))
    return _broadcast_to(x, shape=target)


@array_function
def expand_as(x: Any, other: Any) -> Any:
    """Broadcast to the shape of `other`."""
    return _broadcast_to(x, shape=other.shape)


@array_function
def broadcast_to(x: Any, *sizes: Any) -> Any:
    """Broadcast to a shape without copying."""
    return _broadcast_to(x, shape=sizes_of(sizes))


# ------------------------------------------------------------------ another order


@array_function
def transpose(x: Any, *axes: Any) -> Any:
    """All axes reversed if none is named, two exchanged (PyTorch), or all in a new order."""
    order = sizes_of(axes) if axes and axes != (None,) else None
    if order is not None and len(order) == 2 and not isinstance(axes[0], tuple | list):
        return shape.swapaxes(x, axis1=order[0], axis2=order[1])
    return shape.transpose(x, axes=order)


@array_function
def permute(x: Any, *axes: Any) -> Any:
    """The axes in another order."""
    return shape.transpose(x, axes=sizes_of(axes))


@array_function
def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """Two axes exchanged."""
    return shape.swapaxes(x, axis1=axis1, axis2=axis2)


@array_function
def flip(x: Any, *axes: Any) -> Any:
    """The order reversed along some axes (all, if none is named)."""
    return shape.flip(x, axis=sizes_of(axes) if axes and axes != (None,) else None)


@array_function
def roll(x: Any, shift: Any, axis: Any = None) -> Any:
    """Moved along an axis, what is pushed out coming in at the other end."""
    return shape.roll(x, shift=shift, axis=axis)


@array_function
def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """Some axes moved to other places, the rest staying in order."""
    order = np.moveaxis(np.empty(tuple(range(x.ndim))), source, destination).shape
    return x.transpose(tuple(order))


movedim = moveaxis


# ------------------------------------------------------------------ parts


@array_function
def unbind(x: Any, axis: int = 0, *, dim: int | None = None) -> tuple[Any, ...]:
    """The slices along `axis`, without that axis."""
    return shape.unbind(x, _axis_of(x, axis, dim, "unbind"))


@array_function
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The diagonal of two axes, as the last axis."""
    return indexing.diagonal(x, offset=offset, axis1=axis1, axis2=axis2)


@array_function
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Sum of a diagonal."""
    return indexing.diagonal(x, offset=offset, axis1=axis1, axis2=axis2).sum(axis=-1)


def _slice(x: Any, axis: int, start: int, stop: int) -> Any:
    return x[(*(slice(None),) * axis, slice(start, stop))]


@array_function
def split(x: Any, sizes: Any, axis: int = 0, *, dim: int | None = None) -> tuple[Any, ...]:
    """Parts along `axis`: of one size (the last may be smaller), or of the listed sizes."""
    axis = _axis_of(x, axis, dim, "split")
    length = x.shape[axis]
    if isinstance(sizes, int):
        if sizes < 1:
            raise ValueError(f"split: parts of size {sizes}")
        sizes = [sizes] * max(1, math.ceil(length / sizes))
        sizes[-1] += length - sum(sizes)
    if sum(sizes) != length or min(sizes, default=0) < 0:
        raise ValueError(f"split: sizes {list(sizes)} do not add up to axis {axis} of {length}")
    ends = list(accumulate(sizes))
    return tuple(_slice(x, axis, end - n, end) for end, n in zip(ends, sizes, strict=True))


@array_function
def chunk(x: Any, chunks: int, axis: int = 0, *, dim: int | None = None) -> tuple[Any, ...]:
    """At most `chunks` parts along `axis`, of equal size but for the last."""
    if chunks < 1:
        raise ValueError(f"chunk: {chunks} chunks")
    axis = _axis_of(x, axis, dim, "chunk")
    return split(x, max(1, math.ceil(x.shape[axis] / chunks)), axis)


def _counts(counts: tuple[Any, ...], name: str) -> tuple[int, ...]:
    if len(counts) == 1 and isinstance(counts[0], tuple | list):
        counts = tuple(counts[0])
    if any(n < 0 for n in counts):
        raise ValueError(f"{name}: counts {counts} must not be negative")
    return tuple(int(n) for n in counts)


@array_function
def tile(x: Any, *counts: Any) -> Any:
    """`x` side by side `counts` times along each axis; missing axes and counts are 1."""
    numbers = _counts(counts, "tile")
    ndim = max(len(numbers), x.ndim)
    sizes = (1,) * (ndim - x.ndim) + x.shape
    numbers = (1,) * (ndim - len(numbers)) + numbers
    apart = tuple(size for n in sizes for size in (1, n))
    copied = tuple(size for pair in zip(numbers, sizes, strict=True) for size in pair)
    repeated = _broadcast_to(x.reshape(apart), shape=copied)
    return repeated.reshape(tuple(n * size for n, size in zip(numbers, sizes, strict=True)))


@array_function
def repeat(x: Any, *counts: Any) -> Any:
    """PyTorch's: like `tile`, with a count for every axis. NumPy's is `repeat_interleave`."""
    if len(_counts(counts, "repeat")) < x.ndim:
        raise ValueError(f"repeat: {len(_counts(counts, 'repeat'))} counts for shape {x.shape}")
    return tile(x, *counts)


@array_function
def repeat_interleave(
    x: Any, repeats: Any, axis: int | None = None, *, dim: int | None = None
) -> Any:
    """Each element along `axis` (of the flattened array for None) `repeats` times in a row.

    repeats: one number, or one for each element.
    """
    axis = axis if dim is None else dim
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis)
    axis = _axis_of(x, axis, None, "repeat_interleave")
    numbers = np.asarray(repeats._data if isinstance(repeats, Node) else repeats)
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    if not numbers.ndim:
        copied = _broadcast_to(
            x.reshape((*x.shape[: axis + 1], 1, *after)),
            shape=(*x.shape[: axis + 1], int(numbers), *after),
        )
        return copied.reshape((*before, x.shape[axis] * int(numbers), *after))
    if numbers.shape not in {(1,), (x.shape[axis],)} or numbers.dtype.kind not in "iu":
        raise ValueError(
            f"repeat_interleave: repeats of {numbers.dtype}{numbers.shape} for {x.shape[axis]} "
            f"elements along axis {axis}"
        )
    return x[(*(slice(None),) * axis, np.repeat(np.arange(x.shape[axis]), numbers))]
