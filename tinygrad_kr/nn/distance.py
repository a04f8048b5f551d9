"""How far vectors are apart, and how alike their directions."""

from __future__ import annotations

from typing import Any

import tinygrad_kr.functional as F
from tinygrad_kr.arrays.operands import either_name
from tinygrad_kr.nn.module import Module


class CosineSimilarity(Module):
    """The cosine of the angle between x1 and x2 along `dim`.

    eps: the least norm to divide by. Called with x1 and x2, whose shapes broadcast.

    >>> nn.CosineSimilarity()(tk.tensor([[1.0, 0.0]]), tk.tensor([[2.0, 0.0]]))
    Tensor([1.])
    """

    @either_name
    def __init__(self, dim: int = 1, eps: float = 1e-8, *, axis: int | None = None) -> None:
        self.dim, self.eps = dim, eps

    def forward(self, x1: Any, x2: Any) -> Any:
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """||x1 - x2 + eps||_p along the last axis, which the result lacks, but for `keepdim`.

    Called with x1 and x2, whose shapes broadcast. eps keeps the derivative finite for equal
    vectors.

    >>> nn.PairwiseDistance(p=1)(tk.tensor([[0.0, 0.0]]), tk.tensor([[3.0, 4.0]])).numpy().round(3)
    array([7.], dtype=float32)
    """

    @either_name
    def __init__(
        self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False, *, keepdims: bool = False
    ) -> None:
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1: Any, x2: Any) -> Any:
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
