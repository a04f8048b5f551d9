"""Attention of several heads as a layer."""

from __future__ import annotations

from typing import Any

import tinygrad_kr.functional as F
from tinygrad_kr.nn import init
from tinygrad_kr.nn.linear import Linear
from tinygrad_kr.nn.module import Module
from tinygrad_kr.nn.parameter import Parameter, parameter, size
from tinygrad_kr.random import Generator


class MultiheadAttention(Module):
    """Attention of each head on its projections, joined and projected; and the weights.

        y = concat over h of softmax(x_q Q_h^T (x_k K_h^T)^T / sqrt(E / H)) x_v V_h^T, times O^T

    Called with query (L, N, E), key and value (S, N, ...): returns (L, N, E) and the weights
    (N, L, S), the mean of the heads. Without N in one, without it in all.
    Parameters: `in_proj_weight` (3 E, E), the rows of Q, K and V, or with other `kdim` or `vdim`
    `q_proj_weight`, `k_proj_weight` and `v_proj_weight`; `in_proj_bias` (3 E,); `out_proj`, a
    Linear. The weights start as Xavier's uniform, `out_proj` as Linear, the biases as 0.

    embed_dim: E. num_heads: H, which divides E. dropout: the share of the weights to drop.
    bias: False for no biases. add_bias_kv: learn a key and a value more, `bias_k` and `bias_v`.
    add_zero_attn: add a key and a value of zeros. kdim, vdim: features of keys and values.
    batch_first: query, key, value and result are (N, L, E).
    dtype: of the parameters, default float32. generator: for the initial values.

    A query that sees no key gets 0 from every head. (PyTorch gives NaN with `need_weights`.)
    Raises ValueError for sizes that do not fit. Source: Vaswani et al. (2017).

    >>> attend, x = nn.MultiheadAttention(8, num_heads=2, batch_first=True), tk.ones(3, 5, 8)
    >>> y, weights = attend(x, x, x)
    >>> y.shape, weights.shape
    ((3, 5, 8), (3, 5, 5))
    """

    in_proj_weight: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        *,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        self.embed_dim, self.num_heads = size("embed_dim", embed_dim), size("num_heads", num_heads)
        if embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: expected embed_dim, a multiple of {num_heads} heads, got "
                f"{embed_dim}."
            )
        if not 0 <= dropout <= 1:
            raise ValueError(f"MultiheadAttention: expected dropout in [0, 1], got {dropout}.")
        self.kdim = embed_dim if kdim is None else size("kdim", kdim)
        self.vdim = embed_dim if vdim is None else size("vdim", vdim)
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        packed = self.kdim == self.vdim == embed_dim
        rows = {"in": (3 * embed_dim, embed_dim), "q": (embed_dim, embed_dim),
                "k": (embed_dim, self.kdim), "v": (embed_dim, self.vdim)}  # fmt: skip
        for name, shape in rows.items():
            there = packed == (name == "in")
            setattr(self, f"{name}_proj_weight", parameter(shape, dtype) if there else None)
        self.in_proj_bias = parameter((3 * embed_dim,), dtype) if bias else None
        for name in ("bias_k", "bias_v"):
            setattr(self, name, parameter((1, 1, embed_dim), dtype) if add_bias_kv else None)
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype=dtype, generator=generator)
        self._start(generator)

    def _start(self, generator: Generator | None) -> None:
        """The initial values of all but `out_proj.weight`."""
        weights = (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        for weight in weights:
            if weight is not None:
                init.xavier_uniform_(weight, generator=generator)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)
        for row in (self.bias_k, self.bias_v):
            if row is not None:
                init.xavier_normal_(row, generator=generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the initial values again."""
        self.out_proj.reset_parameters(generator)
        self._start(generator)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Any, Any]:
        """The result and the weights; None for them with `need_weights=False`, which is faster.

        key_padding_mask: (N, S). attn_mask: (L, S) or (N H, L, S). Booleans: True is hidden.
            Floats: added to the scores.
        average_attn_weights: False for the weights of each head, (N, H, L, S).
        is_causal: a hint that `attn_mask` is causal.
        """
        return F.multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads,
            self.in_proj_weight, self.in_proj_bias, self.bias_k, self.bias_v, self.add_zero_attn,
            self.dropout, self.out_proj.weight, self.out_proj.bias, self.training,
            key_padding_mask, need_weights, attn_mask, self.in_proj_weight is None,
            self.q_proj_weight, self.k_proj_weight, self.v_proj_weight,
            average_attn_weights=average_attn_weights, is_causal=is_causal,
            batch_first=self.batch_first,
        )  # fmt: skip

    def wanted_input(self) -> str:
        axes = "N, L" if self.batch_first else "L, N"
        return f"queries ({axes}, {self.embed_dim}) or (L, {self.embed_dim})"
