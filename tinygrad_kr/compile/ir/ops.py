"""Ops that only compiled programs have."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

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
