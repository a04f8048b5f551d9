"""Checks of labels and indices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.op import refuse_masked
from tinygrad_kr.ops.tracing import tracing


def integers(x: Any, what: str) -> ndarray:
    """The array of an integer argument. Raises TypeError for any other dtype.

    what: the function and the argument, "embedding: indices".
    """
    refuse_masked(x, what)
    array: ndarray = x._data if isinstance(x, Node) else np.asarray(x)
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"{what}: expected integers, got {array.dtype}{array.shape}. "
            "Convert with .astype(np.int64)"
        )
    return array


def refuse_outside(indices: ndarray, count: int, what: str, ignored: int | None = None) -> None:
    """Raise IndexError for the first index outside [0, count) that is not `ignored`.

    what: the function and the argument, "embedding: index".
    """
    if tracer := tracing():
        tracer.check(refuse_outside, indices, count, what, ignored)
    if not indices.size or (indices.min() >= 0 and indices.max() < count):
        return
    outside = (indices < 0) | (indices >= count)
    if ignored is not None:
        outside &= indices != ignored
    if outside.any():
        position = tuple(int(i) for i in np.argwhere(outside)[0])
        raise IndexError(
            f"{what}: expected one in [0, {count}), got {indices[position]} at {position}."
        )


def refuse_rows(key: Any, count: int) -> None:
    """Raise NumPy's IndexError for an integer outside [-count, count)."""
    if key.min() < -count or key.max() >= count:
        np.broadcast_to(np.zeros(1, bool), (count,))[key]
