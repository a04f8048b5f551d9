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

from tinygrad_kr.arrays.operands import array_function, either_name, no_axes
from tinygrad_kr.ops import indexing, shape
from tinygrad_kr.ops.axes import axis_index, axis_indices
from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.op import alias, passes_on
from tinygrad_kr.ops.shape import broadcast_to as _broadcast_to
from tinygrad_kr.ops.tracing import tracing

__all__ = [
    "broadcast_to", "chunk", "diagonal", "expand_dims", "flatten", "flip", "moveaxis", "movedim",
    "permute", "ravel", "repeat", "repeat_interleave", "reshape", "roll", "rot90", "split",
    "squeeze", "swapaxes", "swapdims", "tile", "trace", "transpose", "unbind", "unsqueeze",
]  # fmt: skip


def sizes_of(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """Sizes that were given one by one, or as one tuple or list."""
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = tuple(sizes[0])
    return tuple(map(index, sizes))


# ------------------------------------------------------------------ another shape


@array_function
def reshape(x: Any, *sizes: Any) -> Any:
    """The same elements, in C order, in another shape.

    sizes: integers one by one, or one tuple. One may be -1 and follows from the others.
    Gradient: g in the shape of `x`.
    Raises ValueError if the number of elements differs.
    Source: torch.reshape.

    >>> tk.reshape(tk.tensor([1, 2, 3, 4]), 2, -1)
    Tensor([[1, 2],
            [3, 4]])
    """
    return shape.reshape(x, shape=sizes_of(sizes))


@array_function
def ravel(x: Any) -> Any:
    """All elements on one axis, in C order.

    Gradient: g in the shape of `x`. Source: torch.ravel.

    >>> tk.ravel(tk.tensor([[1, 2], [3, 4]]))
    Tensor([1, 2, 3, 4])
    """
    return shape.reshape(x, shape=(-1,))


@array_function
def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """The axes from `start_dim` to `end_dim`, both included, merged into one.

    A 0-d Tensor becomes one of shape (1,).
    Gradient: g in the shape of `x`.
    Raises ValueError if `start_dim` comes after `end_dim`, IndexError if there is no such axis.
    Source: torch.flatten.

    >>> tk.flatten(tk.ones(2, 3, 4), 1).shape
    (2, 12)
    """
    if not x.ndim:
        return x.reshape(1)
    start, end = axis_indices((start_dim, end_dim), x.ndim, "flatten", True)
    if start > end:
        raise ValueError(
            f"flatten: expected start_dim up to end_dim, got {start_dim} and {end_dim}."
        )
    merged = int(np.prod(x.shape[start : end + 1]))
    return x.reshape(*x.shape[:start], merged, *x.shape[end + 1 :])


@array_function
@either_name
def unflatten(x: Any, dim: int, sizes: tuple[int, ...], *, axis: int | None = None) -> Any:
    """One axis split into several: the inverse of `flatten`.

    sizes: of the new axes. One may be -1 and follows from the others.
    Gradient: g in the shape of `x`.
    Raises ValueError if the sizes do not multiply to that of the axis.
    Source: torch.unflatten.

    >>> tk.ones(2, 12).unflatten(1, (3, 4)).shape
    (2, 3, 4)
    """
    dim = axis_index(dim, x.ndim, "unflatten")
    if -1 in sizes:
        known = int(np.prod([n for n in sizes if n != -1]))
        sizes = tuple(x.shape[dim] // known if n == -1 else n for n in sizes)
    return x.reshape(*x.shape[:dim], *sizes, *x.shape[dim + 1 :])


@array_function
@either_name
def squeeze(x: Any, axis: Any = None, *, dim: Any = None) -> Any:
    """Without the axes of size 1, or without those of them that `axis` names.

    axis: an int or a tuple. Named axes of another size stay (PyTorch's rule).
    Gradient: g in the shape of `x`. Source: torch.squeeze.

    >>> tk.squeeze(tk.ones(1, 3, 1)).shape
    (3,)
    """
    if axis is not None and not x.ndim:
        axis = no_axes(axis)
    if axis is not None:
        axis = tuple(a for a in axis_indices(axis, x.ndim, "squeeze") if x.shape[a] == 1)
    return x.reshape(np.squeeze(np.broadcast_to(0, x.shape), axis).shape)


@array_function
@either_name
def unsqueeze(x: Any, axis: int | None = None, *, dim: int | None = None) -> Any:
    """With a new axis of size 1 at position `axis`, 0 by default.

    Gradient: g in the shape of `x`.
    Raises IndexError if `axis` is not from -ndim - 1 to ndim.
    Source: torch.unsqueeze, np.expand_dims.

    >>> tk.unsqueeze(tk.ones(3), 1).shape
    (3, 1)
    """
    axis = axis or 0
    added = len(axis) if isinstance(axis, tuple | list) else 1
    axes = axis_indices(axis, x.ndim + added, "unsqueeze")
    sizes = iter(x.shape)
    return x.reshape(tuple(1 if a in axes else next(sizes) for a in range(x.ndim + added)))


expand_dims = alias("expand_dims", unsqueeze)


@array_function
@passes_on("broadcast_to")
def expand(x: Any, *sizes: Any) -> Any:
    """Axes of size 1 repeated to `sizes` without copying.

    sizes: integers one by one, or one tuple. -1 keeps a size. New axes come first.
    Gradient: g summed over the repeated axes.
    Raises ValueError if an axis of another size would change.
    Source: torch.Tensor.expand.

    >>> tk.tensor([[1], [2]]).expand(-1, 3)
    Tensor([[1, 1, 1],
            [2, 2, 2]])
    """
    sizes = sizes_of(sizes)
    extra = len(sizes) - x.ndim
    target = tuple(x.shape[i - extra] if n == -1 and i >= extra else n for i, n in enumerate(sizes))
    return _broadcast_to(x, shape=target)


@array_function
def expand_as(x: Any, other: Any) -> Any:
    """Broadcast to the shape of `other`, without copying.

    Gradient: g summed over the repeated axes.
    Raises ValueError if the shape does not broadcast.
    Source: torch.Tensor.expand_as.

    >>> tk.tensor([1, 2]).expand_as(tk.ones(2, 2))
    Tensor([[1, 2],
            [1, 2]])
    """
    return _broadcast_to(x, shape=other.shape)


@array_function
def broadcast_to(x: Any, *sizes: Any) -> Any:
    """Broadcast to a shape, without copying.

    sizes: integers one by one, or one tuple.
    Gradient: g summed over the repeated axes.
    Raises ValueError if the shape does not broadcast.
    Source: np.broadcast_to.

    >>> tk.broadcast_to(tk.tensor([1, 2]), 2, 2)
    Tensor([[1, 2],
            [1, 2]])
    """
    return _broadcast_to(x, shape=sizes_of(sizes))


# ------------------------------------------------------------------ another order


@array_function
@either_name
def transpose(
    x: Any, *axes: Any, dims: Any = None, dim0: int | None = None, dim1: int | None = None
) -> Any:
    """The axes in another order.

    axes, dims: none reverses all of them (NumPy). Two integers exchange these two (PyTorch). A
        tuple, or as many integers as axes, is the new order (NumPy).
    dim0, dim1: the two that are exchanged, by PyTorch's names.
    Gradient: g in the inverse order.
    Raises IndexError or ValueError if the axes are not those of `x`, TypeError for one of dim0 and
        dim1 alone.
    Source: np.transpose, torch.transpose.

    >>> tk.transpose(tk.ones(2, 3, 4), 0, 1).shape
    (3, 2, 4)
    """
    if dim0 is not None or dim1 is not None:
        if axes or dim0 is None or dim1 is None:
            raise TypeError(
                f"transpose: expected axes, or dim0 and dim1, got {axes}, {dim0} and {dim1}."
            )
        axes = (dim0, dim1)
    order = sizes_of(axes) if axes and axes != (None,) else None
    if order is not None and len(order) == 2 and not isinstance(axes[0], tuple | list):
        return _swapped("transpose", x, *order)
    return shape.transpose(x, axes=order)


@array_function
@passes_on("transpose")
@either_name
def permute(x: Any, *axes: Any, dims: Any = None) -> Any:
    """The axes in the order `axes` (or `dims`), one by one or as one tuple.

    Gradient: g in the inverse order.
    Raises ValueError if `axes` is not a permutation.
    Source: torch.permute.

    >>> tk.permute(tk.ones(2, 3, 4), 2, 0, 1).shape
    (4, 2, 3)
    """
    return shape.transpose(x, axes=sizes_of(axes))


@array_function
@either_name
def swapaxes(
    x: Any, axis1: int, axis2: int, *, dim1: int | None = None, dim2: int | None = None
) -> Any:
    """Two axes exchanged.

    Gradient: g with the same two exchanged. Raises IndexError if there is no such axis.
    Source: np.swapaxes.

    >>> tk.swapaxes(tk.ones(2, 3, 4), 0, 2).shape
    (4, 3, 2)
    """
    return _swapped("swapaxes", x, axis1, axis2)


def _swapped(name: str, x: Any, axis1: int, axis2: int) -> Any:
    if x.ndim:
        first, second = (axis_index(axis, x.ndim, name) for axis in (axis1, axis2))
        return shape.swapaxes(x, axis1=first, axis2=second)
    no_axes(axis1)
    no_axes(axis2)
    return shape.transpose(x)


swapdims = alias("swapdims", swapaxes)


@array_function
@either_name
def flip(x: Any, *axes: Any, axis: Any = None, dim: Any = None, dims: Any = None) -> Any:
    """The elements in reverse order along `axes`, or along all axes.

    axes: integers one by one, or one tuple; by name `axis`, `axes`, `dim` or `dims`.
    Gradient: g, reversed. Raises IndexError if there is no such axis.
    Source: torch.flip, np.flip.

    >>> tk.flip(tk.tensor([1, 2, 3]))
    Tensor([3, 2, 1])
    """
    axis = sizes_of(axes) if axes and axes != (None,) else None
    if axis is not None and not x.ndim:
        axis = no_axes(axis)
    return shape.flip(x, axis=axis)


@array_function
@either_name
def roll(
    x: Any,
    shift: Any,
    axis: Any = None,
    *,
    shifts: Any = None,
    dim: Any = None,
    dims: Any = None,
) -> Any:
    """The elements moved by `shift` along `axis`; those pushed out come in at the other end.

    shift, axis: two integers, or two tuples. Without `axis` the flattened array is rolled.
    shifts, dim, dims: PyTorch's names.
    Gradient: g, rolled back. Source: np.roll, torch.roll.

    >>> tk.roll(tk.tensor([1, 2, 3]), 1)
    Tensor([3, 1, 2])
    """
    return shape.roll(x, shift=shift, axis=axis)


@array_function
@either_name
def rot90(x: Any, k: int = 1, axes: Any = (0, 1), *, dims: Any = None) -> Any:
    """The elements turned by `k` times 90 degrees in the plane of two axes.

    axes, dims: two axes; the turn is from the first towards the second.
    Gradient: g, turned back.
    Raises ValueError for anything but two different axes, IndexError if there is no such axis.
    Source: torch.rot90, np.rot90.

    >>> tk.rot90(tk.tensor([[1, 2], [3, 4]]))
    Tensor([[2, 4],
            [1, 3]])
    """
    axes = tuple(axes)
    if len(axes) != 2 or len({axis_index(a, x.ndim, "rot90") for a in axes}) != 2:
        raise ValueError(f"rot90: expected two different axes, got {axes}.")
    first, second = axes
    if k % 4 == 0:
        return x.reshape(x.shape)
    if k % 4 == 2:
        return shape.flip(x, axis=axes)
    if k % 4 == 1:
        return shape.flip(x, axis=second).swapaxes(first, second)
    return shape.flip(x.swapaxes(first, second), axis=second)


@array_function
def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """Some axes moved to other positions; the others keep their order.

    source, destination: two integers, or two tuples of the same length.
    Gradient: g, moved back. Raises IndexError or ValueError if they do not fit.
    Source: np.moveaxis, torch.movedim.

    >>> tk.moveaxis(tk.ones(2, 3, 4), 0, -1).shape
    (3, 4, 2)
    """
    if not x.ndim:
        no_axes(source)
        no_axes(destination)
        return shape.transpose(x)
    source = axis_indices(source, x.ndim, "moveaxis")
    destination = axis_indices(destination, x.ndim, "moveaxis")
    if len(source) != len(destination):
        raise ValueError(
            f"moveaxis: expected as many destinations as sources, got {destination} for {source}."
        )
    order = [a for a in range(x.ndim) if a not in source]
    for to, axis in sorted(zip(destination, source, strict=True)):
        order.insert(to, axis)
    return x.transpose(tuple(order))


movedim = alias("movedim", moveaxis)


# ------------------------------------------------------------------ parts


@array_function
@either_name
def unbind(x: Any, axis: int = 0, *, dim: int | None = None) -> tuple[Any, ...]:
    """The slices along `axis`, without that axis, as a tuple.

    Gradient: each slice's g at its position. Raises IndexError if there is no such axis.
    Source: torch.unbind.

    >>> tk.unbind(tk.tensor([[1, 2], [3, 4]]))
    (Tensor([1, 2]), Tensor([3, 4]))
    """
    return shape.unbind(x, axis_index(axis, x.ndim, "unbind"))


@array_function
@either_name
def diagonal(
    x: Any,
    offset: int = 0,
    axis1: int = 0,
    axis2: int = 1,
    *,
    dim1: int | None = None,
    dim2: int | None = None,
) -> Any:
    """The diagonal of two axes, as the last axis of the result: x[..., i, i + offset].

    axis1, axis2: the axes; dim1 and dim2 are PyTorch's names.
    Gradient: g on the diagonal, 0 elsewhere. Raises IndexError if there is no such axis.
    Source: np.diagonal, torch.diagonal.

    >>> tk.diagonal(tk.tensor([[1, 2], [3, 4]]))
    Tensor([1, 4])
    """
    return indexing.diagonal(x, offset=offset, axis1=axis1, axis2=axis2)


@array_function
@either_name
def trace(
    x: Any,
    offset: int = 0,
    axis1: int = 0,
    axis2: int = 1,
    *,
    dim1: int | None = None,
    dim2: int | None = None,
) -> Any:
    """The sum of a diagonal: sum_i x[..., i, i + offset].

    axis1, axis2: the axes of the diagonal; dim1 and dim2 are other names.
    Gradient: g on the diagonal, 0 elsewhere. Raises IndexError if there is no such axis.
    Source: np.trace.

    >>> tk.trace(tk.tensor([[1, 2], [3, 4]]))
    Tensor(5)
    """
    axis1, axis2 = axis_indices((axis1, axis2), x.ndim, "trace")
    return indexing.diagonal(x, offset=offset, axis1=axis1, axis2=axis2).sum(axis=-1)


def _slice(x: Any, axis: int, start: int, stop: int) -> Any:
    return x[(*(slice(None),) * axis, slice(start, stop))]


@array_function
@either_name
def split(x: Any, sizes: Any, axis: int = 0, *, dim: int | None = None) -> tuple[Any, ...]:
    """Parts along `axis`, as a tuple.

    sizes: one size for all parts (the last may be smaller), or a list of sizes.
    Gradient: the parts' g, joined.
    Raises ValueError if the sizes do not add up to that of the axis.
    Source: torch.split.

    >>> tk.split(tk.tensor([1, 2, 3]), 2)
    (Tensor([1, 2]), Tensor([3]))
    """
    axis = axis_index(axis, x.ndim, "split")
    length = x.shape[axis]
    if isinstance(sizes, int):
        if sizes < 1:
            raise ValueError(f"split: expected a size of at least 1, got {sizes}.")
        sizes = [sizes] * max(1, math.ceil(length / sizes))
        sizes[-1] += length - sum(sizes)
    if sum(sizes) != length or min(sizes, default=0) < 0:
        raise ValueError(
            f"split: expected sizes that add up to {length}, got {list(sizes)} for axis {axis}."
        )
    ends = list(accumulate(sizes))
    return tuple(_slice(x, axis, end - n, end) for end, n in zip(ends, sizes, strict=True))


@array_function
@either_name
def chunk(x: Any, chunks: int, axis: int = 0, *, dim: int | None = None) -> tuple[Any, ...]:
    """At most `chunks` parts of equal size along `axis`; the last may be smaller.

    Gradient: the parts' g, joined. Raises ValueError if `chunks` is below 1.
    Source: torch.chunk.

    >>> tk.chunk(tk.tensor([1, 2, 3]), 2)
    (Tensor([1, 2]), Tensor([3]))
    """
    if chunks < 1:
        raise ValueError(f"chunk: expected at least 1 chunk, got {chunks}.")
    axis = axis_index(axis, x.ndim, "chunk")
    return split(x, max(1, math.ceil(x.shape[axis] / chunks)), axis)


def _counts(counts: tuple[Any, ...], name: str) -> tuple[int, ...]:
    if len(counts) == 1 and isinstance(counts[0], tuple | list):
        counts = tuple(counts[0])
    if any(n < 0 for n in counts):
        raise ValueError(f"{name}: expected counts of at least 0, got {counts}.")
    return tuple(int(n) for n in counts)


@array_function
def tile(x: Any, *counts: Any) -> Any:
    """Copies of `x` side by side, `counts` times along each axis.

    counts: integers one by one, or one tuple. Missing axes and missing counts are 1.
    Gradient: g summed over the copies. Raises ValueError for a negative count.
    Source: np.tile, torch.tile.

    >>> tk.tile(tk.tensor([1, 2]), 2)
    Tensor([1, 2, 1, 2])
    """
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
    """PyTorch's `repeat`: like `tile`, with a count for every axis.

    NumPy's `repeat` is `repeat_interleave`.
    Gradient: g summed over the copies. Raises ValueError if an axis has no count.
    Source: torch.Tensor.repeat.

    >>> tk.repeat(tk.tensor([1, 2]), 2, 1)
    Tensor([[1, 2],
            [1, 2]])
    """
    if len(_counts(counts, "repeat")) < x.ndim:
        raise ValueError(
            f"repeat: expected a count for each axis of {x.shape}, got {_counts(counts, 'repeat')}."
        )
    return tile(x, *counts)


@array_function
@either_name
def repeat_interleave(
    x: Any,
    repeats: Any,
    axis: int | None = None,
    *,
    dim: int | None = None,
    output_size: int | None = None,
) -> Any:
    """Each element along `axis` repeated in place, `repeats` times.

    repeats: one integer, or one for each element along the axis.
    axis: None for the flattened array. output_size: the size along it afterwards, if known.
    Gradient: g summed over the copies.
    Raises ValueError if `repeats` does not fit the axis, or `output_size` the result.
    Source: torch.repeat_interleave, np.repeat.

    >>> tk.repeat_interleave(tk.tensor([1, 2]), 2)
    Tensor([1, 1, 2, 2])
    """
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis)
    axis = axis_index(axis, x.ndim, "repeat_interleave")
    if isinstance(repeats, Node) and (tracer := tracing()):
        tracer.give_up("repeat_interleave: the repeats decide the shape")
    numbers = np.asarray(repeats._data if isinstance(repeats, Node) else repeats)
    if output_size is not None and output_size != np.broadcast_to(numbers, x.shape[axis]).sum():
        raise ValueError(
            f"repeat_interleave: expected the sum of repeats as output_size, got {output_size}."
        )
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    if not numbers.ndim:
        copied = _broadcast_to(
            x.reshape((*x.shape[: axis + 1], 1, *after)),
            shape=(*x.shape[: axis + 1], int(numbers), *after),
        )
        return copied.reshape((*before, x.shape[axis] * int(numbers), *after))
    if numbers.shape not in {(1,), (x.shape[axis],)} or numbers.dtype.kind not in "iu":
        raise ValueError(
            f"repeat_interleave: expected repeats for {x.shape[axis]} elements along axis {axis}, "
            f"got {numbers.dtype}{numbers.shape}."
        )
    return x[(*(slice(None),) * axis, np.repeat(np.arange(x.shape[axis]), numbers))]
