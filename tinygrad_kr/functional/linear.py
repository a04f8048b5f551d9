"""Affine maps, lookup tables and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.arrays.indexing import detach
from tinygrad_kr.functional.checks import integers, refuse_outside
from tinygrad_kr.ops import linalg, network
from tinygrad_kr.ops.elementwise import where
from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.op import op
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.random import Generator, resolve


def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """x W^T + b.

    input: (..., in). weight: (out, in). bias: (out,) or None. Result: (..., out).
    Raises ValueError where the features do not agree.

    >>> F.linear(tk.tensor([1.0, 2.0]), tk.tensor([[1.0, 1.0], [0.0, 3.0]]))
    Tensor([3., 6.])
    """
    return linalg.linear(input, weight, bias)


def dropout(
    input: Any, p: float = 0.5, training: bool = True, *, generator: Generator | None = None
) -> Any:
    """Set each element to 0 with probability `p`, else divide it by 1 - p: the mean stays the same.

    p: the share DROPPED, as in PyTorch ("keep 0.7" of the first lectures is p = 0.3).
    training: False returns the input itself.
    generator: default: the one that `tk.manual_seed` seeds.

    input: any shape. The gradient is scaled, or 0, where the input is.
    Raises ValueError for p outside [0, 1], TypeError for integers.
    Source: Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting
    (2014).

    >>> y = F.dropout(tk.ones(1000), p=0.5)
    >>> sorted(set(y.tolist()))
    [0.0, 2.0]
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: expected p, the share dropped, in [0, 1], got {p}.")
    if not training or p == 0:
        return input
    return input * network.dropout_mask(input, p=p, generator=resolve(generator, "dropout"))


def embedding(input: Any, weight: Any, padding_idx: int | None = None) -> Any:
    """The rows of a table that the indices name.

    input: integers (...). weight: (entries, features). Result: (..., features).
    padding_idx: a row that gets no gradient. The gradient of a repeated row is the sum.

    Raises TypeError for indices that are not integers, IndexError for indices outside the table.

    >>> F.embedding(np.array([2, 0]), tk.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]))
    Tensor([[4., 5.],
            [0., 1.]])
    """
    indices = integers(input, "embedding: indices")
    entries = weight.shape[0]
    refuse_outside(indices, entries, "embedding: index")
    rows = weight[indices]
    if padding_idx is None:
        return rows
    if not -entries <= padding_idx < entries:
        raise IndexError(
            f"embedding: expected padding_idx in a table of {entries} rows, got {padding_idx}."
        )
    padded = (indices == padding_idx % entries)[..., None]
    return where(padded, detach(rows), rows)


def _one_hot(x: ndarray, *, num_classes: int) -> Any:
    return np.equal(x[..., None], np.arange(num_classes)).astype(np.int64)


_one_hot_op = op(_one_hot, name="one_hot", variable="_one_hot_op")


def one_hot(tensor: Any, num_classes: int = -1) -> Any:
    """1 at the position that each integer names, else 0: (...) becomes (..., num_classes), int64.

    num_classes: default: the largest integer + 1.

    No gradient. Raises TypeError for floats, IndexError for an integer outside [0, num_classes),
    ValueError for no integers and no `num_classes`.

    >>> F.one_hot(np.array([2, 0]))
    array([[0, 0, 1],
           [1, 0, 0]])
    """
    indices = integers(tensor, "one_hot: input")
    if num_classes == -1:
        if not indices.size:
            raise ValueError("one_hot: expected num_classes or some integers, got neither.")
        num_classes = int(indices.max()) + 1
        if tracer := tracing():
            tracer.give_up("one_hot() without num_classes: the largest label decides the shape")
    refuse_outside(indices, num_classes, "one_hot: index")
    return _one_hot_op(tensor if isinstance(tensor, Node) else indices, num_classes=num_classes)
