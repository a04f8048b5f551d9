"""Arrays joined, broadcast together and padded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.arrays.indexing import take
from tinygrad_kr.arrays.operands import either_name, list_of, operands
from tinygrad_kr.ops import shape
from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.op import alias

__all__ = ["broadcast_tensors", "cat", "concat", "concatenate", "meshgrid", "pad", "stack"]


@either_name
def concatenate(tensors: Iterable[Any], axis: int | None = 0, *, dim: int | None = None) -> Any:
    """The Tensors one after the other along `axis`, flattened first for None.

    Gradient: each part's slice of g.
    Raises ValueError if the other axes differ, or if there are no Tensors.
    Source: np.concatenate, torch.cat.

    >>> tk.concatenate([tk.tensor([1, 2]), tk.tensor([3])])
    Tensor([1, 2, 3])
    """
    return shape.concatenate(*list_of(tensors, "concatenate"), axis=axis)


cat, concat = alias("cat", concatenate), alias("concat", concatenate)


@either_name
def stack(tensors: Iterable[Any], axis: int = 0, *, dim: int | None = None) -> Any:
    """Tensors of one shape side by side along a new axis.

    Gradient: each part's slice of g.
    Raises ValueError if the shapes differ, or if there are no Tensors.
    Source: np.stack, torch.stack.

    >>> tk.stack([tk.tensor([1, 2]), tk.tensor([3, 4])])
    Tensor([[1, 2],
            [3, 4]])
    """
    return shape.stack(*list_of(tensors, "stack"), axis=axis)


def broadcast_tensors(*tensors: Any) -> tuple[Any, ...]:
    """Each Tensor broadcast, without copying, to their common shape, as a tuple.

    Gradient: g summed over the repeated axes. Raises ValueError if the shapes do not broadcast.
    Source: torch.broadcast_tensors.

    >>> tk.broadcast_tensors(tk.tensor([1, 2]), tk.tensor(0))
    (Tensor([1, 2]), Tensor([0, 0]))
    """
    parts = operands(*tensors)
    together = np.broadcast_shapes(*(part.shape for part in parts))
    return tuple(shape.broadcast_to(part, shape=together) for part in parts)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Any, ...]:
    """Each vector spread over a grid with one axis per vector: y_i[a, b, ...] = x_i[(a, b, ...)_i].

    tensors: vectors, or one list of Tensors or arrays.
    indexing: "ij" (PyTorch's default), or "xy" with the first two axes exchanged (NumPy's).
    Gradient: g summed over the other axes.
    Raises ValueError for another `indexing`, or for anything but vectors.
    Source: torch.meshgrid, np.meshgrid.

    >>> tk.meshgrid(tk.tensor([1, 2]), tk.tensor([3, 4]))[0]
    Tensor([[1, 1],
            [2, 2]])
    """
    if indexing not in {"ij", "xy"}:
        raise ValueError(f'meshgrid: expected indexing "ij" or "xy", got {indexing!r}.')
    if len(tensors) == 1 and _is_list_of_arrays(tensors[0]):
        (tensors,) = tensors
    parts = operands(*tensors)
    order = list(range(len(parts)))
    if indexing == "xy":
        order[:2] = order[1::-1]
    grids = []
    for part, place in zip(parts, order, strict=True):
        if part.ndim > 1:
            raise ValueError(f"meshgrid: expected vectors, got shape {part.shape}.")
        grids.append(part.reshape([-1 if i == place else 1 for i in range(len(parts))]))
    return broadcast_tensors(*grids)


def _is_list_of_arrays(x: Any) -> bool:
    return isinstance(x, list | tuple) and any(isinstance(one, Node | ndarray) for one in x)


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Any:
    """`x` with elements around it (NumPy's `pad`; PyTorch's is `functional.pad`).

    pad_width: one number, (before, after) for every axis, or such a pair for each axis.
    mode: "constant" with `constant_values` (in the same forms), "edge" (the outermost element),
        "reflect" and "symmetric" (mirrored without and with it), "wrap" (from the other end).
    Gradient: g at the positions from which elements came, summed where several came from one.
    Raises ValueError for another mode or a negative width.
    Source: np.pad.

    >>> tk.pad(tk.tensor([1, 2]), 1)
    Tensor([0, 1, 2, 0])
    """
    x = operands(x)[0]
    widths = tuple((int(a), int(b)) for a, b in np.broadcast_to(pad_width, (x.ndim, 2)))
    if mode == "constant":
        return _constant_pad(x, widths, constant_values)
    if mode not in {"edge", "reflect", "symmetric", "wrap"}:
        raise ValueError(
            'pad: expected mode "constant", "edge", "reflect", "symmetric" or "wrap", '
            f"got {mode!r}."
        )
    for axis, width in enumerate(widths):
        if any(width):
            index = np.pad(np.arange(x.shape[axis]), width, mode)  # type: ignore[call-overload]
            x = take(x, index, axis)
    return x


def _constant_pad(x: Any, widths: tuple[tuple[int, int], ...], values: Any) -> Any:
    if np.ndim(values) == 0:
        return shape.pad(x, widths=widths, value=float(values))
    border = np.pad(np.zeros(x.shape, x.dtype), widths, constant_values=values)
    return shape.pad(x, widths=widths) + border
