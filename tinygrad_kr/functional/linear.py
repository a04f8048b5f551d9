"""Affine maps, lookup tables and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.arrays.indexing import detach
from tinygrad_kr.autodiff import RowGradient
from tinygrad_kr.functional.checks import integers, refuse_outside
from tinygrad_kr.grad_mode import is_transforming
from tinygrad_kr.ops import linalg, network
from tinygrad_kr.ops.elementwise import where
from tinygrad_kr.ops.indexing import index_add
from tinygrad_kr.ops.node import OFF, Node, current_mode
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


def dropout1d(
    input: Any, p: float = 0.5, training: bool = True, *, generator: Generator | None = None
) -> Any:
    """`dropout` of whole channels of sequences: (N, C, L) or (C, L).

    Neighbours within a channel are alike, so that dropping single ones would hide little.
    Options and gradient: see `dropout`. Raises ValueError for another number of axes.
    Source: Tompson et al., Efficient object localization using convolutional networks (2015).

    >>> y = F.dropout1d(tk.ones(4, 8, 5), p=0.5)
    >>> all(len(set(channel.tolist())) == 1 for channel in y.reshape(-1, 5))
    True
    """
    return _dropped_channels("dropout1d", (2, 3), input, p, training, generator)


def dropout2d(
    input: Any, p: float = 0.5, training: bool = True, *, generator: Generator | None = None
) -> Any:
    """`dropout` of whole channels of images (N, C, H, W), or of sequences (N, C, L), as in PyTorch.

    Options, gradient and source: see `dropout1d`. Raises ValueError for another number of axes.

    >>> y = F.dropout2d(tk.ones(4, 8, 5, 5), p=0.5)
    >>> all(len(set(channel.tolist())) == 1 for channel in y.reshape(-1, 25))
    True
    """
    return _dropped_channels("dropout2d", (3, 4), input, p, training, generator)


def _dropped_channels(
    name: str,
    ranks: tuple[int, int],
    input: Any,
    p: float,
    training: bool,
    generator: Generator | None,
) -> Any:
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: expected p, the share dropped, in [0, 1], got {p}.")
    if input.ndim not in ranks:
        raise ValueError(f"{name}: expected {ranks[0]} or {ranks[1]} axes, got {input.shape}.")
    if not training or p == 0:
        return input
    channels = 1 if input.ndim == 2 else 2  # axes of a sample's channels
    each = input[(slice(None),) * channels + (slice(1),) * (input.ndim - channels)]
    return input * network.dropout_mask(each, p=p, generator=resolve(generator, name))


def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Any:
    """x1^T W x2 + b, for each output.

    input1: (..., in1). input2: (..., in2), the other axes equal. weight: (out, in1, in2). bias:
        (out,) or None. Result: (..., out).

    Raises ValueError where shapes do not agree.

    >>> F.bilinear(tk.tensor([1.0, 2.0]), tk.tensor([3.0]), tk.ones(1, 2, 1))
    Tensor([9.])
    """
    outputs, first, second = weight.shape
    alike = input1.shape[:-1] == input2.shape[:-1]
    if not alike or input1.shape[-1] != first or input2.shape[-1] != second:
        raise ValueError(
            f"bilinear: expected inputs (..., {first}) and (..., {second}) of the same first axes, "
            f"got {input1.shape} and {input2.shape}."
        )
    rows = weight.transpose(0, 2, 1).reshape(outputs * second, first)
    products = linalg.linear(input1, rows, None).reshape(*input1.shape[:-1], outputs, second)
    y = (products * input2.reshape(*input2.shape[:-1], 1, second)).sum(axis=-1)
    return y if bias is None else y + bias


def _table_rows(x: ndarray, *, rows: ndarray, padding_idx: int | None) -> Any:
    return x[rows]


def _table_rows_vjp(g: Any, y: Any, x: Any, rows: ndarray, padding_idx: int | None) -> Any:
    named = rows.ravel()
    kept = slice(None) if padding_idx is None else named != padding_idx % len(x)
    values = g.reshape(named.size, *x.shape[1:])[kept]
    if isinstance(g, Node):
        return index_add(values, key=named[kept], shape=x.shape)
    return RowGradient(named[kept], values, x.shape)


_table_rows_op = op(_table_rows, _table_rows_vjp, name="table_rows", variable="_table_rows_op")


def _has_row_gradient(weight: Any) -> bool:
    """Whether `backward` may give the table a gradient of rows."""
    if not isinstance(weight, Node) or not weight._requires_grad or weight._op is not None:
        return False
    if current_mode() == OFF or is_transforming() or weight._data.dtype.itemsize < 4:
        return False
    if tracer := tracing():
        tracer.give_up("embedding(sparse=True): its gradient has a size of its own in each call")
        return False
    return True


def embedding(
    input: Any, weight: Any, padding_idx: int | None = None, *, sparse: bool = False
) -> Any:
    """The rows of a table that the indices name.

    input: integers (...). weight: (entries, features). Result: (..., features).
    padding_idx: a row that gets no gradient. The gradient of a repeated row is the sum.
    sparse: `backward()` gives a leaf its gradient as rows and their values, in time and memory of
        the rows alone. `optim.SGD` without weight decay, `Adagrad` and `SparseAdam` take it. A
        compiled function runs as it is written then.

    Raises TypeError for indices that are not integers, IndexError for indices outside the table.

    >>> F.embedding(np.array([2, 0]), tk.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]))
    Tensor([[4., 5.],
            [0., 1.]])
    """
    indices = integers(input, "embedding: indices")
    entries = weight.shape[0]
    refuse_outside(indices, entries, "embedding: index")
    if padding_idx is not None and not -entries <= padding_idx < entries:
        raise IndexError(
            f"embedding: expected padding_idx in a table of {entries} rows, got {padding_idx}."
        )
    if sparse and _has_row_gradient(weight):
        return _table_rows_op(weight, rows=indices, padding_idx=padding_idx)
    rows = weight[indices]
    if padding_idx is None:
        return rows
    named = input if isinstance(input, Node) else indices  # a Tensor, that `compile` follows it
    padded = (named == padding_idx % entries)[..., None]
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
