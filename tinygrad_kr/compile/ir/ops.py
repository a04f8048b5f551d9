"""Ops that only compiled programs have."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.indexing import index_add
from tinygrad_kr.ops.network import bce_with_logits
from tinygrad_kr.ops.op import op
from tinygrad_kr.ops.window import _window_first as _window_first


def _logistic_terms(x: Any, a: Any) -> Any:
    """softplus(x) - a x, in float64."""
    return bce_with_logits.forward(np.asarray(x, np.float64), np.asarray(a, np.float64))


_logistic_term = op(_logistic_terms, name="logistic_term", variable="_logistic_term", promote=False)


def _assign(x: Any, *, shape: tuple[int, ...], dtype: Any) -> ndarray:
    """What an array of `shape` and `dtype` holds after `array[...] = x`."""
    return np.broadcast_to(np.asarray(x).astype(dtype), shape)


_assigned = op(_assign, name="assigned", variable="_assigned", promote=False)


def _add_rows(*parts: Any, keys: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    """The sum of `index_add(part, key=key, shape=shape)` over all parts and their keys."""
    made = [index_add.forward(g, key=key, shape=shape) for g, key in zip(parts, keys, strict=True)]
    return sum(made[1:], made[0])


_rows_added = op(_add_rows, name="rows_added", variable="_rows_added", variadic=True)
