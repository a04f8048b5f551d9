"""Transformers: layers of attention and of two affine maps, with residual connections."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_kr.functional as F
from tinygrad_kr.arrays.operands import as_dtype
from tinygrad_kr.nn import init
from tinygrad_kr.nn.attention import MultiheadAttention
from tinygrad_kr.nn.containers import ModuleList
from tinygrad_kr.nn.dropout import Dropout
from tinygrad_kr.nn.linear import Linear
from tinygrad_kr.nn.module import Module
from tinygrad_kr.nn.normalization import LayerNorm
from tinygrad_kr.nn.parameter import size
from tinygrad_kr.random import Generator
from tinygrad_kr.tensor import Tensor

Activation = str | Callable[[Any], Any]
_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {"relu": F.relu, "gelu": F.gelu}


class _TransformerLayer(Module):
    """Base class of the layers: attention to itself, two affine maps, norms and dropouts."""

    _norms = 2

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        if isinstance(activation, str) and activation not in _ACTIVATIONS:
            raise ValueError(
                f'{type(self).__name__}: expected activation "relu", "gelu" or a function, got '
                f"{activation!r}."
            )
        how: dict[str, Any] = {"dtype": dtype, "generator": generator}
        for name in ("self_attn", "multihead_attn")[: self._norms - 1]:
            attention = MultiheadAttention(
                d_model, nhead, dropout, bias, batch_first=batch_first, **how
            )
            setattr(self, name, attention)
        self.linear1 = Linear(d_model, dim_feedforward, bias, **how)
        self.dropout = Dropout(dropout, generator=generator)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **how)
        self.norm_first = norm_first
        for i in range(1, self._norms + 1):
            norm = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
            setattr(self, f"norm{i}", norm)
        for i in range(1, self._norms + 1):
            setattr(self, f"dropout{i}", Dropout(dropout, generator=generator))
        self.activation = _ACTIVATIONS[activation] if isinstance(activation, str) else activation

    def _attention(
        self, attend: Any, x: Any, memory: Any, mask: Any, padding_mask: Any, is_causal: bool
    ) -> Any:
        y, _ = attend(
            x, memory, memory,
            key_padding_mask=padding_mask, need_weights=False, attn_mask=mask, is_causal=is_causal,
        )  # fmt: skip
        return y

    def _feed_forward(self, x: Any) -> Any:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class TransformerEncoderLayer(_TransformerLayer):
    """Attention of a sequence to itself, then two affine maps; each added to its input and normed.

        x = norm1(x + attention(x)),  y = norm2(x + linear2(activation(linear1(x))))

    Called with (L, N, d_model), or (L, d_model); returns the same shape.
    Modules: `self_attn`, `linear1`, `linear2`, `norm1`, `norm2`, and dropouts.

    d_model: features. nhead: heads. dim_feedforward: features between the affine maps.
    dropout: the share dropped of weights, of activations and of what is added.
    activation: "relu", "gelu" or a function. layer_norm_eps: `eps` of the norms.
    batch_first: (N, L, d_model). norm_first: norm before attention and maps, not after.
    bias: False for no biases.
    dtype: of the parameters, default float32. generator: for the initial values and dropout.

    Raises ValueError for sizes or an activation that make no sense. Source: Vaswani et al. (2017).

    >>> nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16)(tk.ones(5, 3, 8)).shape
    (5, 3, 8)
    """

    self_attn: MultiheadAttention

    def forward(
        self,
        src: Any,
        src_mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool = False,
    ) -> Any:
        """The layer on `src`. Masks and hint: see `MultiheadAttention.forward`."""

        def attention(x: Any) -> Any:
            masks = (src_mask, src_key_padding_mask)
            return self.dropout1(self._attention(self.self_attn, x, x, *masks, is_causal))

        x = src
        if self.norm_first:
            x = x + attention(self.norm1(x))
            return x + self.dropout2(self._feed_forward(self.norm2(x)))
        x = self.norm1(x + attention(x))
        return self.norm2(x + self.dropout2(self._feed_forward(x)))

    dropout1: Dropout
    dropout2: Dropout
    norm1: LayerNorm
    norm2: LayerNorm


class TransformerDecoderLayer(_TransformerLayer):
    """An encoder layer that also attends to a second sequence, `memory`, in between.

        x = norm1(x + attention(x)),  x = norm2(x + attention(x, memory)),
        y = norm3(x + linear2(activation(linear1(x))))

    Called with target (L, N, d_model) and memory (S, N, d_model), or without N in both; returns
    the target's shape. Modules: `self_attn`, `multihead_attn`, `linear1`, `linear2`, `norm1`,
    `norm2`, `norm3`, and dropouts. Options, errors and source: see `TransformerEncoderLayer`.

    >>> layer = nn.TransformerDecoderLayer(8, nhead=2, dim_feedforward=16)
    >>> layer(tk.ones(5, 3, 8), tk.ones(7, 3, 8)).shape
    (5, 3, 8)
    """

    _norms = 3
    self_attn: MultiheadAttention
    multihead_attn: MultiheadAttention

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Any:
        """The layer on `tgt` and `memory`. Masks and hints: see `MultiheadAttention.forward`."""

        def to_itself(x: Any) -> Any:
            masks = (tgt_mask, tgt_key_padding_mask)
            return self.dropout1(self._attention(self.self_attn, x, x, *masks, tgt_is_causal))

        def to_memory(x: Any) -> Any:
            masks = (memory_mask, memory_key_padding_mask)
            y = self._attention(self.multihead_attn, x, memory, *masks, memory_is_causal)
            return self.dropout2(y)

        x = tgt
        if self.norm_first:
            x = x + to_itself(self.norm1(x))
            x = x + to_memory(self.norm2(x))
            return x + self.dropout3(self._feed_forward(self.norm3(x)))
        x = self.norm1(x + to_itself(x))
        x = self.norm2(x + to_memory(x))
        return self.norm3(x + self.dropout3(self._feed_forward(x)))

    dropout1: Dropout
    dropout2: Dropout
    dropout3: Dropout
    norm1: LayerNorm
    norm2: LayerNorm
    norm3: LayerNorm


class _Stack(Module):
    """Base class of encoder and decoder: copies of a layer, and a norm at the end."""

    norm: Module | None

    def _set_layers(self, layer: Module, num_layers: int, norm: Module | None) -> None:
        self.num_layers = size("num_layers", num_layers)
        self.layers = ModuleList(copy.deepcopy(layer) for _ in range(num_layers))
        self.norm = norm


class TransformerEncoder(_Stack):
    """`num_layers` copies of an encoder layer in sequence, then an optional norm.

    The copies start with equal parameters, as in PyTorch.
    encoder_layer: a `TransformerEncoderLayer`. norm: a module.
    enable_nested_tensor, mask_check: accepted for PyTorch's sake; there are no nested tensors.

    Source: Vaswani et al. (2017).

    >>> layer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16)
    >>> nn.TransformerEncoder(layer, 2, nn.LayerNorm(8))(tk.ones(5, 3, 8)).shape
    (5, 3, 8)
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        self._set_layers(encoder_layer, num_layers, norm)

    def forward(
        self,
        src: Any,
        mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool | None = None,
    ) -> Any:
        """All layers on `src`. Masks and hint: see `MultiheadAttention.forward`."""
        x = src
        for layer in self.layers:
            x = layer(x, mask, src_key_padding_mask, bool(is_causal))
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(_Stack):
    """`num_layers` copies of a decoder layer in sequence, then an optional norm.

    Each attends to the same `memory`. The copies start with equal parameters, as in PyTorch.
    decoder_layer: a `TransformerDecoderLayer`. norm: a module.

    Source: Vaswani et al. (2017).

    >>> layer = nn.TransformerDecoderLayer(8, nhead=2, dim_feedforward=16)
    >>> nn.TransformerDecoder(layer, 2)(tk.ones(5, 3, 8), tk.ones(7, 3, 8)).shape
    (5, 3, 8)
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        self._set_layers(decoder_layer, num_layers, norm)

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Any:
        """All layers on `tgt`. Masks and hints: see `MultiheadAttention.forward`."""
        x = tgt
        for layer in self.layers:
            x = layer(
                x, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
                bool(tgt_is_causal), memory_is_causal,
            )  # fmt: skip
        return x if self.norm is None else self.norm(x)


class Transformer(Module):
    """An encoder of a source sequence and a decoder of a target, with a norm after each.

    Called with source (S, N, d_model) and target (L, N, d_model), or without N in both; returns
    the target's shape. Modules: `encoder` and `decoder`. All matrices start as Xavier's uniform.

    num_encoder_layers, num_decoder_layers: numbers of layers.
    custom_encoder, custom_decoder: modules in their place.
    Other options and errors: see `TransformerEncoderLayer`. Source: Vaswani et al. (2017).

    >>> net = nn.Transformer(8, 2, 1, 1, dim_feedforward=16)
    >>> net(tk.ones(7, 3, 8), tk.ones(5, 3, 8)).shape
    (5, 3, 8)
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        custom_encoder: Any = None,
        custom_decoder: Any = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        settings = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps,
                    batch_first, norm_first, bias)  # fmt: skip
        how: dict[str, Any] = {"dtype": dtype, "generator": generator}

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)

        if custom_encoder is None:
            layer: Module = TransformerEncoderLayer(*settings, **how)
            custom_encoder = TransformerEncoder(layer, num_encoder_layers, norm())
        if custom_decoder is None:
            layer = TransformerDecoderLayer(*settings, **how)
            custom_decoder = TransformerDecoder(layer, num_decoder_layers, norm())
        self.encoder, self.decoder = custom_encoder, custom_decoder
        self._start(generator)

    def _start(self, generator: Generator | None) -> None:
        for weight in self.parameters():
            if weight.ndim > 1:
                init.xavier_uniform_(weight, generator=generator)

    def forward(
        self,
        src: Any,
        tgt: Any,
        src_mask: Any = None,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        src_key_padding_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Any:
        """The decoder on `tgt`, with the encoder's result for `src` as its memory.

        Masks and hints: see `MultiheadAttention.forward`.
        """
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        return self.decoder(
            tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
            tgt_is_causal, memory_is_causal,
        )  # fmt: skip

    @staticmethod
    def generate_square_subsequent_mask(sz: int, dtype: Any = None) -> Tensor:
        """A mask (sz, sz) with 0 for the past and present and -inf for the future.

        dtype: default float32.
        """
        dtype = np.dtype(np.float32) if dtype is None else as_dtype(dtype)
        return Tensor(np.triu(np.full((sz, sz), -np.inf, dtype), 1))
