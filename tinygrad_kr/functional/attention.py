"""Attention: each query takes the mean of the values, weighted by how well the keys fit it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_kr.arrays.operands import operands
from tinygrad_kr.arrays.shape import repeat_interleave
from tinygrad_kr.functional.linear import dropout
from tinygrad_kr.ops import network
from tinygrad_kr.ops.elementwise import where


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """softmax(query key^T scale + mask) value: the values' mean by the fit of keys to queries.

    query: (..., L, E). key: (..., S, E). value: (..., S, V). Result: (..., L, V). The first axes
        broadcast.
    attn_mask: broadcasts to (..., L, S). Booleans: True takes part. Floats: added to the scores.
    dropout_p: the share of the weights to drop, also in evaluation, as in PyTorch.
    is_causal: query i sees the keys up to i; without an `attn_mask`.
    scale: default 1 / sqrt(E).
    enable_gqa: query (..., H n, L, E) for key and value (..., H, S, ...): n heads share a key.

    A query that sees no key gets 0, and no gradient.
    Raises ValueError for shapes that do not fit, or for `is_causal` with a mask; TypeError for a
    mask of integers.
    Source: Vaswani et al., Attention is all you need (2017).

    >>> q, k, v = tk.zeros(1, 2), tk.ones(2, 2), tk.tensor([[1.0], [3.0]])
    >>> F.scaled_dot_product_attention(q, k, v)
    Tensor([[2.]])
    """
    if min(query.ndim, key.ndim, value.ndim) < 2 or query.shape[-1] != key.shape[-1]:
        raise ValueError(
            "scaled_dot_product_attention: expected query (..., L, E), key (..., S, E) and value "
            f"(..., S, V), got {query.shape}, {key.shape} and {value.shape}."
        )
    if enable_gqa:
        key, value = (_for_heads(x, query) for x in (key, value))
    weights = attention_weights(query, key, attn_mask, is_causal, scale)
    return dropout(weights, dropout_p) @ value


def _for_heads(x: Any, query: Any) -> Any:
    """Keys or values repeated for each of the queries' heads that share one."""
    heads, own = query.shape[-3], x.shape[-3]
    if heads % own:
        raise ValueError(
            f"scaled_dot_product_attention: expected a multiple of {own} query heads, got {heads}."
        )
    return x if heads == own else repeat_interleave(x, heads // own, -3)


def attention_weights(
    query: Any, key: Any, mask: Any = None, is_causal: bool = False, scale: float | None = None
) -> Any:
    """softmax(query key^T scale + mask), 0 for a query that sees no key."""
    scale = 1 / math.sqrt(query.shape[-1] or 1) if scale is None else scale
    scores = (query * scale) @ key.mT
    if is_causal:
        if mask is not None:
            raise ValueError(
                "scaled_dot_product_attention: expected is_causal or attn_mask, got both."
            )
        past = np.arange(scores.shape[-2])[:, None] >= np.arange(scores.shape[-1])
        scores = where(past, scores, _least(scores))
    if mask is None:
        return network.softmax(scores, axis=-1)
    seen, scores = _masked(scores, mask)
    return where(seen, network.softmax(where(seen, scores, _least(scores)), axis=-1), 0.0)


def _masked(scores: Any, mask: Any) -> tuple[Any, Any]:
    """Which keys each query sees, and the scores with a mask of floats added."""
    (mask,) = operands(mask)
    if mask.dtype.kind == "b":
        return mask, scores
    if mask.dtype.kind != "f":
        raise TypeError(
            "scaled_dot_product_attention: expected attn_mask of booleans or floats, got "
            f"{mask.dtype}. Convert with .astype(bool)"
        )
    seen = mask != -math.inf
    return seen, scores + where(seen, mask, 0.0).astype(scores.dtype)


def _least(scores: Any) -> float:
    """A score whose exponential is 0 beside any other."""
    return float(np.finfo(scores.dtype).min)
