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
    """x W^T + b: input (..., in), weight (out, in), bias (out,), result (..., out).

    ValueError where the features do not agree.
    """
    return linalg.linear(input, weight, bias)


def dropout(
    input: Any, p: float = 0.5, training: bool = True, *, generator: Generator | None = None
) -> Any:
    """Each element 0 with probability `p`, else divided by 1 - p: its mean is unchanged.

    p: the DROP rate, as in PyTorch ("keep 0.7" of the first lectures is p = 0.3).
        ValueError outside [0, 1].
    training: False returns the input as it is.
    generator: default: the one that `tk.manual_seed` seeds.

    Source: Srivastava et al. (2014).
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p is a probability, the share dropped, not {p}")
    if not training or p == 0:
        return input
    return input * network.dropout_mask(input, p=p, generator=resolve(generator))


def embedding(input: Any, weight: Any, padding_idx: int | None = None) -> Any:
    """Rows of a table: input of indices (...), weight (entries, features), result (..., features).

    padding_idx: the row that gets no gradient.

    TypeError for indices that are no integers, IndexError for those outside the table.
    """
    indices = integers(input, "embedding: indices")
    entries = weight.shape[0]
    refuse_outside(indices, entries, "embedding: index")
    rows = weight[indices]
    if padding_idx is None:
        return rows
    if not -entries <= padding_idx < entries:
        raise IndexError(f"embedding: padding_idx {padding_idx} in a table of {entries} rows")
    padded = (indices == padding_idx % entries)[..., None]
    return where(padded, detach(rows), rows)


def _one_hot(x: ndarray, *, num_classes: int) -> Any:
    return np.equal(x[..., None], np.arange(num_classes)).astype(np.int64)


_one_hot_op = op(_one_hot, name="one_hot", variable="_one_hot_op")


def one_hot(tensor: Any, num_classes: int = -1) -> Any:
    """1 at the place each integer names, else 0: (...) becomes (..., num_classes), int64.

    num_classes: default: one more than the largest. TypeError for floats, IndexError for an integer
    outside [0, num_classes).
    """
    indices = integers(tensor, "one_hot: input")
    if num_classes == -1:
        if not indices.size:
            raise ValueError("one_hot: num_classes cannot be guessed from no indices; give it")
        num_classes = int(indices.max()) + 1
        if tracer := tracing():
            tracer.give_up("one_hot() without num_classes, which is then the largest label's")
    refuse_outside(indices, num_classes, "one_hot: index")
    return _one_hot_op(tensor if isinstance(tensor, Node) else indices, num_classes=num_classes)
