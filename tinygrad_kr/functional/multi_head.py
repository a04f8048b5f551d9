"""Attention of several heads, with the projections before and after it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_kr.arrays.joining import cat
from tinygrad_kr.arrays.operands import operands
from tinygrad_kr.arrays.shape import broadcast_to
from tinygrad_kr.functional.attention import attention_weights, scaled_dot_product_attention
from tinygrad_kr.functional.convolution import pad
from tinygrad_kr.functional.linear import dropout, linear
from tinygrad_kr.ops.elementwise import logical_not, where

_NAME = "multi_head_attention_forward"


def multi_head_attention_forward(
    query: Any,
    key: Any,
    value: Any,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Any,
    in_proj_bias: Any,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Any,
    out_proj_bias: Any,
    training: bool = True,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Any = None,
    k_proj_weight: Any = None,
    v_proj_weight: Any = None,
    static_k: Any = None,
    static_v: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
    *,
    batch_first: bool = False,
) -> tuple[Any, Any]:
    """Attention of each head on its projections, joined and projected; and the weights, or None.

        y = concat over h of attention(x_q Q_h^T, x_k K_h^T, x_v V_h^T) O^T

    query: (L, N, E) or (L, E). key, value: (S, N, E') or (S, E'). Result: (L, N, E) or (L, E).
    in_proj_weight: (3 E, E), the rows of Q, K and V; or `q_proj_weight`, `k_proj_weight` and
        `v_proj_weight` with `use_separate_proj_weight`. in_proj_bias: (3 E,) or None.
    bias_k, bias_v: a key and a value to add, (1, 1, E) or None. add_zero_attn: add a key and a
        value of zeros. static_k, static_v: in place of the projections, (N H, S, E / H).
    dropout_p: the share of the weights to drop in `training`.
    key_padding_mask: (N, S) or (S,). attn_mask: (L, S) or (N H, L, S). Booleans: True is hidden.
        Floats: added to the scores.
    need_weights: also return the weights, (N, L, S): the mean of the heads, or with
        `average_attn_weights=False` (N, H, L, S).
    is_causal: a hint that `attn_mask` is causal.
    batch_first: query, key, value and result are (N, L, E); not in PyTorch's function.

    A query that sees no key gets 0 from every head. (PyTorch gives NaN with `need_weights`.)
    Raises ValueError for shapes that do not fit, and for `is_causal` without an `attn_mask`.
    Source: Vaswani et al., Attention is all you need (2017).

    >>> x, w = tk.ones(3, 1, 2), tk.ones(6, 2)
    >>> y, weights = F.multi_head_attention_forward(
    ...     x, x, x, 2, 1, w, None, None, None, False, 0.0, tk.ones(2, 2), None)
    >>> y.shape, weights.shape
    ((3, 1, 2), (1, 3, 3))
    """
    if is_causal and attn_mask is None:
        raise ValueError(
            f"{_NAME}: expected an attn_mask with is_causal, got None. Use "
            "nn.Transformer.generate_square_subsequent_mask"
        )
    batched = bool(query.ndim == 3)
    q, k, v = _batch_first(query, key, value, batched and not batch_first)
    _check(q, k, v, embed_dim_to_check, num_heads)
    if use_separate_proj_weight:
        q, k, v = _separate(q, k, v, (q_proj_weight, k_proj_weight, v_proj_weight), in_proj_bias)
    else:
        q, k, v = _packed(q, k, v, in_proj_weight, in_proj_bias)
    batch, length, features = q.shape
    if not batched and key_padding_mask is not None:
        key_padding_mask = key_padding_mask[None]
    more = int(add_zero_attn)
    if bias_k is not None:
        k, v, more = _appended(k, bias_k), _appended(v, bias_v), more + 1
    q, k, v = (_by_head(x, num_heads) for x in (q, k, v))
    head_shape = (batch, num_heads, -1, features // num_heads)
    k = k if static_k is None else static_k.reshape(head_shape)
    v = v if static_v is None else static_v.reshape(head_shape)
    if add_zero_attn:
        k, v = (cat([x, np.zeros((batch, num_heads, 1, x.shape[-1]), x.dtype)], 2) for x in (k, v))
    dropout_p = dropout_p if training else 0.0
    if is_causal and key_padding_mask is None and not need_weights and not more:
        y, weights = scaled_dot_product_attention(q, k, v, None, dropout_p, True), None
    else:
        sizes = (batch, num_heads, length, k.shape[2] - more)
        mask = _mask(attn_mask, key_padding_mask, sizes, more)
        if need_weights:
            weights = dropout(attention_weights(q, k, mask), dropout_p)
            y = weights @ v
        else:
            y, weights = scaled_dot_product_attention(q, k, v, mask, dropout_p), None
    if weights is not None and average_attn_weights:
        weights = weights.mean(axis=1)
    y = _joined(y, out_proj_weight, out_proj_bias)
    if not batched:
        return y[0], None if weights is None else weights[0]
    return y if batch_first else y.swapaxes(0, 1), weights


def _batch_first(query: Any, key: Any, value: Any, swapped: bool) -> tuple[Any, Any, Any]:
    """(N, L, E) of (L, N, E) or (L, E). Arguments that are one Tensor remain one."""
    if query.ndim not in (2, 3) or not query.ndim == key.ndim == value.ndim:
        raise ValueError(
            f"{_NAME}: expected query, key and value of 3 axes, or of 2 without a batch, got "
            f"{query.shape}, {key.shape} and {value.shape}."
        )
    if query.ndim == 3 and not swapped:
        return query, key, value
    own = {id(x): x.swapaxes(0, 1) if swapped else x[None] for x in (query, key, value)}
    return own[id(query)], own[id(key)], own[id(value)]


def _check(q: Any, k: Any, v: Any, features: int, heads: int) -> None:
    """Raise ValueError where shapes do not fit."""
    if q.shape[-1] != features or features % heads:
        raise ValueError(
            f"{_NAME}: expected queries of {features} features, a multiple of {heads} heads, got "
            f"{q.shape[-1]}."
        )
    if k.shape[:-1] != v.shape[:-1] or k.shape[0] != q.shape[0]:
        raise ValueError(
            f"{_NAME}: expected as many values as keys, and one batch size, got {q.shape[:-1]} "
            f"queries, {k.shape[:-1]} keys and {v.shape[:-1]} values (batch, length)."
        )


# ------------------------------------------------------------------ projections


def _packed(q: Any, k: Any, v: Any, weight: Any, bias: Any) -> tuple[Any, Any, Any]:
    """The three projections; one product for arguments that are the same."""
    n = weight.shape[0] // 3
    if k.shape[-1] != n or v.shape[-1] != n:
        raise ValueError(
            f"{_NAME}: expected keys and values of {n} features, got {k.shape[-1]} and "
            f"{v.shape[-1]}."
        )
    if q is k and k is v:
        every = linear(q, weight, bias)
        return every[..., :n], every[..., n : 2 * n], every[..., 2 * n :]
    biases = [None] * 3 if bias is None else [bias[:n], bias[n : 2 * n], bias[2 * n :]]
    projected = linear(q, weight[:n], biases[0])
    if k is v:
        both = linear(k, weight[n:], None if bias is None else bias[n:])
        return projected, both[..., :n], both[..., n:]
    keys, values = linear(k, weight[n : 2 * n], biases[1]), linear(v, weight[2 * n :], biases[2])
    return projected, keys, values


def _separate(q: Any, k: Any, v: Any, weights: Any, bias: Any) -> tuple[Any, Any, Any]:
    n = weights[0].shape[0]
    biases = [None] * 3 if bias is None else [bias[:n], bias[n : 2 * n], bias[2 * n :]]
    found = (linear(x, w, b) for x, w, b in zip((q, k, v), weights, biases, strict=True))
    first, second, third = found
    return first, second, third


def _appended(x: Any, row: Any) -> Any:
    """(N, S, E) with one more row for each sample."""
    rows = broadcast_to(row.reshape(1, 1, -1), (x.shape[0], 1, x.shape[2]))
    return cat([x, rows], 1)


def _by_head(x: Any, heads: int) -> Any:
    """(N, L, E) as (N, H, L, E / H)."""
    batch, length, features = x.shape
    return x.reshape(batch, length, heads, features // heads).swapaxes(1, 2)


def _joined(y: Any, weight: Any, bias: Any) -> Any:
    """(N, H, L, E / H), joined to (N, L, E) and projected."""
    batch, heads, length, features = y.shape
    return linear(y.swapaxes(1, 2).reshape(batch, length, heads * features), weight, bias)


# ------------------------------------------------------------------ masks


def _mask(attn_mask: Any, padding_mask: Any, sizes: tuple[int, int, int, int], more: int) -> Any:
    """Both masks as one of `scaled_dot_product_attention`, whose True takes part; or None.

    sizes: batch, heads, queries, keys. more: keys that were added, which every query sees.
    """
    batch, heads, length, keys = sizes
    found = []
    fits = {(length, keys): (length, keys), (batch * heads, length, keys): sizes}
    for name, mask, fitting in (
        ("attn_mask", attn_mask, fits),
        ("key_padding_mask", padding_mask, {(batch, keys): (batch, 1, 1, keys)}),
    ):
        if mask is None:
            continue
        (mask,) = operands(mask)
        if mask.shape not in fitting:
            shapes = " or ".join(map(str, fitting))
            raise ValueError(f"{_NAME}: expected {name} of shape {shapes}, got {mask.shape}.")
        if mask.dtype.kind not in "bf":
            raise TypeError(
                f"{_NAME}: expected {name} of booleans or floats, got {mask.dtype}. Convert with "
                ".astype(bool)"
            )
        mask = mask.reshape(fitting[mask.shape])
        found.append(pad(mask, (0, more), value=0) if more else mask)
    if not found:
        return None
    if all(mask.dtype.kind == "b" for mask in found):
        return logical_not(found[0] if len(found) == 1 else found[0] | found[1])
    added = [where(m, -np.inf, 0.0) if m.dtype.kind == "b" else m for m in found]
    return added[0] if len(added) == 1 else added[0] + added[1]
