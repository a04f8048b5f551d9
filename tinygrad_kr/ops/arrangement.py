"""Arrays cut apart, repeated and with axes moved: compositions of the primitives of `shape`.

The names and signatures are PyTorch's; `axis` may be called `dim`.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.shape import broadcast_to


def _axis_of(x: Any, axis: int | None, dim: int | None, name: str) -> int:
    chosen: Any = axis if dim is None else dim
    return normalize_axis_index(chosen, x.ndim, name)


def _slice(x: Any, axis: int, start: int, stop: int) -> Any:
    return x[(*(slice(None),) * axis, slice(start, stop))]


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


def chunk(x: Any, chunks: int, axis: int = 0, *, dim: int | None = None) -> tuple[Any, ...]:
    """At most `chunks` parts along `axis`, of equal size but for the last."""
    if chunks < 1:
        raise ValueError(f"chunk: {chunks} chunks")
    axis = _axis_of(x, axis, dim, "chunk")
    return split(x, max(1, math.ceil(x.shape[axis] / chunks)), axis)


def unbind(x: Any, axis: int = 0, *, dim: int | None = None) -> tuple[Any, ...]:
    """The slices along `axis`, without that axis."""
    axis = _axis_of(x, axis, dim, "unbind")
    return tuple(x[(*(slice(None),) * axis, i)] for i in range(x.shape[axis]))


def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """Some axes moved to other places, the rest staying in order."""
    order = np.moveaxis(np.empty(tuple(range(x.ndim))), source, destination).shape
    return x.transpose(tuple(order))


movedim = moveaxis


def _counts(counts: tuple[Any, ...], name: str) -> tuple[int, ...]:
    if len(counts) == 1 and isinstance(counts[0], tuple | list):
        counts = tuple(counts[0])
    if any(n < 0 for n in counts):
        raise ValueError(f"{name}: counts {counts} must not be negative")
    return tuple(int(n) for n in counts)


def tile(x: Any, *counts: Any) -> Any:
    """`x` side by side `counts` times along each axis; missing axes and counts are 1."""
    numbers = _counts(counts, "tile")
    ndim = max(len(numbers), x.ndim)
    sizes = (1,) * (ndim - x.ndim) + x.shape
    numbers = (1,) * (ndim - len(numbers)) + numbers
    apart = tuple(size for n in sizes for size in (1, n))
    copied = tuple(size for pair in zip(numbers, sizes, strict=True) for size in pair)
    repeated = broadcast_to(x.reshape(apart), shape=copied)
    return repeated.reshape(tuple(n * size for n, size in zip(numbers, sizes, strict=True)))


def repeat(x: Any, *counts: Any) -> Any:
    """PyTorch's: like `tile`, with a count for every axis. NumPy's is `repeat_interleave`."""
    if len(_counts(counts, "repeat")) < x.ndim:
        raise ValueError(f"repeat: {len(_counts(counts, 'repeat'))} counts for shape {x.shape}")
    return tile(x, *counts)


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
        copied = broadcast_to(
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
