"""Sums, means and maxima of rows of a table: bags of words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.arrays.indexing import peek
from tinygrad_kr.functional.checks import integers, refuse_outside
from tinygrad_kr.ops import reduction
from tinygrad_kr.ops.elementwise import maximum, where
from tinygrad_kr.ops.node import Node

MODES = ("sum", "mean", "max")


def embedding_bag(
    input: Any,
    weight: Any,
    offsets: Any = None,
    *,
    mode: str = "mean",
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """The sum, mean or maximum of the table's rows that each bag of indices names.

    input: integers (bags, length), or (n,) with `offsets`. weight: (entries, features).
        Result: (bags, features).
    offsets: where each bag starts in `input` (n,); a bag ends where the next one starts.
    mode: "sum", "mean" or "max". An empty bag gives 0.
    per_sample_weights: a factor for each row, of the shape of `input`, with mode "sum".
    include_last_offset: the last offset is the end of the last bag.
    padding_idx: an index that counts in no bag, and whose row gets no gradient.

    Equal maxima share the gradient evenly.
    `tk.compile` runs a call with `offsets` as written: they decide which rows are added.
    Raises TypeError for indices that are not integers, IndexError for indices outside the table,
    ValueError for shapes, offsets or modes that do not fit.
    Source: torch.nn.functional.embedding_bag.

    >>> table = tk.tensor([[1.0], [2.0], [4.0]])
    >>> F.embedding_bag(np.array([[0, 1], [2, 2]]), table, mode="sum")
    Tensor([[3.],
            [8.]])
    """
    indices = integers(input, "embedding_bag: indices")
    refuse_outside(indices, len(weight), "embedding_bag: index")
    _check(indices, weight, offsets, mode, per_sample_weights)
    factors = per_sample_weights
    named: Any = input if isinstance(input, Node) else indices
    counted: Any = None if padding_idx is None else named != _row(padding_idx, len(weight))
    if offsets is not None:
        members = _members(offsets, indices.size, include_last_offset)
        real = members >= 0
        members = np.maximum(members, 0)
        named = named[members] if indices.size else np.zeros_like(members)
        counted = real if counted is None else counted[members] & real
        factors = None if factors is None else factors[members]
    rows = weight[named]
    if factors is not None:
        rows = rows * factors[..., None]
    return _reduced(rows, counted, mode)


def _check(indices: ndarray, weight: Any, offsets: Any, mode: str, factors: Any) -> None:
    """Raise ValueError for arguments that do not fit."""
    if mode not in MODES:
        raise ValueError(f"embedding_bag: expected mode {', '.join(MODES)}, got {mode!r}.")
    if weight.ndim != 2:
        raise ValueError(
            f"embedding_bag: expected a table (entries, features), got shape {weight.shape}."
        )
    if indices.ndim != (2 if offsets is None else 1):
        raise ValueError(
            "embedding_bag: expected indices (bags, length), or (n,) with offsets, got "
            f"{indices.shape}{'' if offsets is None else ' with offsets'}."
        )
    if factors is None:
        return
    if mode != "sum" or factors.shape != indices.shape:
        raise ValueError(
            f'embedding_bag: expected mode "sum" and per_sample_weights {indices.shape}, got '
            f"{mode!r} and {factors.shape}."
        )


def _row(padding_idx: int, entries: int) -> int:
    if not -entries <= padding_idx < entries:
        raise IndexError(
            f"embedding_bag: expected padding_idx in a table of {entries} rows, got {padding_idx}."
        )
    return padding_idx % entries


def _members(offsets: Any, count: int, include_last_offset: bool) -> ndarray:
    """The positions of each bag's indices (bags, longest), -1 beyond the end of a shorter bag."""
    starts = integers(peek(offsets), "embedding_bag: offsets")
    ends = starts[1:] if include_last_offset else np.append(starts[1:], count)
    first, last = starts[:1], starts[-1:]
    starts = starts[: len(ends)]
    if starts.ndim != 1 or first.any() or (last > count).any() or (ends < starts).any():
        raise ValueError(
            f"embedding_bag: expected offsets that rise from 0 to at most {count}, got "
            f"{np.asarray(offsets)}."
        )
    lengths = ends - starts
    number = np.arange(lengths.max(initial=0))
    members: ndarray = np.where(number < lengths[:, None], starts[:, None] + number, -1)
    return members


def _reduced(rows: Any, counted: Any, mode: str) -> Any:
    """Bags of rows (bags, length, features), reduced over the rows that count."""
    length = rows.shape[1]
    if counted is None:
        if mode == "max" and length:
            return reduction.max_(rows, axis=1)
        total = rows.sum(axis=1)
        return total / length if mode == "mean" and length else total
    if mode == "max" and length:
        least = float(np.finfo(rows.dtype).min)
        largest = reduction.max_(where(counted[..., None], rows, least), axis=1)
        return where(counted.any(axis=1)[:, None], largest, 0.0)
    total = where(counted[..., None], rows, 0.0).sum(axis=1)
    if mode != "mean":
        return total
    number = counted.sum(axis=1, dtype=rows.dtype)[:, None]
    return total / maximum(number, 1.0)
