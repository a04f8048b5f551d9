"""A table of vectors that are learned."""

from __future__ import annotations

from typing import Any

import tinygrad_kr.functional as F
from tinygrad_kr.functional.bags import MODES
from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.nn import init
from tinygrad_kr.nn.module import Module
from tinygrad_kr.nn.parameter import Parameter, parameter, size
from tinygrad_kr.random import Generator
from tinygrad_kr.tensor import Tensor


class _Table(Module):
    """Base class of the layers that look rows up."""

    def _set_table(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None,
        dtype: Any,
        generator: Generator | None,
    ) -> None:
        self.num_embeddings = size("num_embeddings", num_embeddings)
        self.embedding_dim = size("embedding_dim", embedding_dim)
        self.padding_idx = self._row(padding_idx)
        self.weight = parameter((num_embeddings, embedding_dim), dtype)
        self.reset_parameters(generator)

    def _row(self, padding_idx: int | None) -> int | None:
        count = self.num_embeddings
        if padding_idx is not None and not -count <= padding_idx < count:
            raise ValueError(
                f"{type(self).__name__}: expected padding_idx in a table of {count} rows, got "
                f"{padding_idx}."
            )
        return None if padding_idx is None else padding_idx % count

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the initial values again."""
        init.normal_(self.weight, generator=generator)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    def wanted_input(self) -> str:
        return f"integers in [0, {self.num_embeddings})"


class Embedding(_Table):
    """One vector per integer: integers (...) -> (..., embedding_dim).

    Parameter: `weight` (num_embeddings, embedding_dim), starts as N(0, 1).
    padding_idx: a row that starts at 0 and gets no gradient.
    sparse: the gradient has the rows that a batch reads, and no others: see `F.embedding`.
    dtype: of the weight, default float32. generator: for the initial values.

    A call raises IndexError for integers outside [0, num_embeddings), TypeError for floats.

    >>> nn.Embedding(10, 3)(np.array([[1, 2], [4, 9]])).shape
    (2, 2, 3)
    """

    sparse = False

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        sparse: bool = False,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        self._set_table(num_embeddings, embedding_dim, padding_idx, dtype, generator)
        self.sparse = sparse

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Any,
        freeze: bool = True,
        padding_idx: int | None = None,
        *,
        sparse: bool = False,
    ) -> Embedding:
        """An Embedding with a copy of the table (entries, features).

        freeze: the table gets no gradient. Raises ValueError for another number of axes.
        """
        table = Tensor(embeddings)
        if table.ndim != 2:
            raise ValueError(
                "Embedding.from_pretrained: expected a table (entries, features), got shape "
                f"{table.shape}."
            )
        rows, features = table.shape
        module = cls(rows, features, padding_idx, sparse=sparse, dtype=table.dtype)
        module.weight = Parameter(table.data.copy(), requires_grad=not freeze)
        return module

    def forward(self, input: Any) -> Any:
        return F.embedding(input, self.weight, self.padding_idx, sparse=self.sparse)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        sparse = ", sparse=True" if self.sparse else ""
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}{sparse}"


class EmbeddingBag(_Table):
    """The sum, mean or maximum of the rows that each bag of integers names: (N, L) -> (N, dim).

    Parameter: `weight` (num_embeddings, embedding_dim), starts as N(0, 1).
    Called with integers (N, L); or with integers (n,) and `offsets` (N,), where each bag starts.
    mode: "mean", "sum" or "max". An empty bag gives 0.
    include_last_offset: the last offset is the end of the last bag.
    padding_idx: an index that counts in no bag; its row starts at 0 and gets no gradient.
    dtype: of the weight, default float32. generator: for the initial values.

    Raises ValueError for another mode; a call: see `functional.embedding_bag`.
    Source: torch.nn.EmbeddingBag.

    >>> nn.EmbeddingBag(10, 3)(np.array([[1, 2, 4], [9, 9, 0]])).shape
    (2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        mode: str = "mean",
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"EmbeddingBag: expected mode {', '.join(MODES)}, got {mode!r}.")
        self.mode, self.include_last_offset = mode, include_last_offset
        self._set_table(num_embeddings, embedding_dim, padding_idx, dtype, generator)

    def forward(self, input: Any, offsets: Any = None, per_sample_weights: Any = None) -> Any:
        """The bags, (N, embedding_dim). per_sample_weights: a factor per row, with mode "sum"."""
        return F.embedding_bag(
            input, self.weight, offsets,
            mode=self.mode, per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset, padding_idx=self.padding_idx,
        )  # fmt: skip

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}, mode={self.mode!r}{padding}"
