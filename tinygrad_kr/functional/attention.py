"""Attention: each query takes the mean of the values, weighted by how well the keys fit it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_kr.arrays.operands import operands
from tinygrad_kr.arrays.shape import repeat_interleave
from tinygrad_kr.ops import attention, network
from tinygrad_kr.random import resolve


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

    A query that sees no key gets 0, and no gradient. With a C compiler the scores need no memory.
    Raises ValueError for shapes that do not fit, for `is_causal` with a mask, or for dropout_p
    outside [0, 1]; TypeError for a mask of integers.
    Sources: Vaswani et al., Attention is all you need (2017); Dao et al., FlashAttention (2022).

    >>> q, k, v = tk.zeros(1, 2), tk.ones(2, 2), tk.tensor([[1.0], [3.0]])
    >>> F.scaled_dot_product_attention(q, k, v)
    Tensor([[2.]])
    """
    _check(query, key, value)
    if enable_gqa:
        key, value = (_for_heads(x, query) for x in (key, value))
    if not 0 <= dropout_p <= 1:
        raise ValueError(f"{_NAME}: expected dropout_p in [0, 1], got {dropout_p}.")
    mask = None if attn_mask is None else _mask_of(attn_mask, query, is_causal)
    masks = [] if mask is None else [mask]
    if dropout_p:
        masks.append(_kept(query, key, value, mask, dropout_p))
    return attention.attention(
        query,
        key,
        value,
        *masks,
        scale=_scale(query) if scale is None else float(scale),
        is_causal=bool(is_causal),
        dropped=dropout_p > 0,
    )


_NAME = "scaled_dot_product_attention"


def _check(query: Any, key: Any, value: Any) -> None:
    """Raise ValueError for shapes that do not fit."""
    shapes = query.shape, key.shape, value.shape
    fit = min(map(len, shapes)) > 1 and shapes[0][-1] == shapes[1][-1]
    if not fit or shapes[1][-2] != shapes[2][-2]:
        raise ValueError(
            f"{_NAME}: expected query (..., L, E), key (..., S, E) and value (..., S, V), got "
            f"{shapes[0]}, {shapes[1]} and {shapes[2]}."
        )


def _mask_of(mask: Any, query: Any, is_causal: bool) -> Any:
    """A mask of booleans, or of floats of the queries' dtype."""
    if is_causal:
        raise ValueError(f"{_NAME}: expected is_causal or attn_mask, got both.")
    (mask,) = operands(mask)
    if mask.dtype.kind not in "bf":
        raise TypeError(
            f"{_NAME}: expected attn_mask of booleans or floats, got {mask.dtype}. Convert with "
            ".astype(bool)"
        )
    return mask if mask.dtype.kind == "b" else mask.astype(query.dtype)


def _kept(query: Any, key: Any, value: Any, mask: Any, p: float) -> Any:
    """For each weight 0 with probability p, else 1 / (1 - p)."""
    axes = [x.shape[:-2] for x in (query, key, value)]
    axes += [] if mask is None else [mask.shape[:-2]]
    shape = (*np.broadcast_shapes(*axes), query.shape[-2], key.shape[-2])
    weights = np.broadcast_to(np.zeros((), query.dtype), shape)
    return network.dropout_mask(weights, p=p, generator=resolve(None, _NAME))


def _for_heads(x: Any, query: Any) -> Any:
    """Keys or values repeated for each of the queries' heads that share one."""
    heads, own = query.shape[-3], x.shape[-3]
    if heads % own:
        raise ValueError(f"{_NAME}: expected a multiple of {own} query heads, got {heads}.")
    return x if heads == own else repeat_interleave(x, heads // own, -3)


def _scale(query: Any) -> float:
    return 1 / math.sqrt(query.shape[-1] or 1)


def attention_weights(
    query: Any, key: Any, mask: Any = None, is_causal: bool = False, scale: float | None = None
) -> Any:
    """softmax(query key^T scale + mask), 0 for a query that sees no key."""
    if mask is not None:
        mask = _mask_of(mask, query, is_causal)
    scale = _scale(query) if scale is None else float(scale)
    return attention.probabilities(query, key, mask, scale, is_causal)
