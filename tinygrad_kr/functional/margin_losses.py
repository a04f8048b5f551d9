"""Losses of distances and scores that stop at a margin.

Every `reduction` is "mean", "sum" or "none"; any other raises ValueError. So does the mean of an
empty batch. At the margin itself the slope is that of the side outside it, as in PyTorch.
"""

from __future__ import annotations

from typing import Any

from tinygrad_kr.functional.losses import _like, _one_shape, _reduced, _shape
from tinygrad_kr.linalg import vector_norm
from tinygrad_kr.ops.elementwise import clip, minimum, sqrt, square, where
from tinygrad_kr.ops.reduction import sum_


def margin_ranking_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> Any:
    """max(0, margin - t (x1 - x2)): for t = 1 the first score should be higher, for t = -1 lower.

    input1, input2, target: one shape; t is 1 or -1.
    margin: by how much the higher one should be higher.
    reduction: "mean" over all elements, "sum", or "none" for the inputs' shape.

    Raises ValueError for different shapes, an unknown reduction, or the mean of no elements.
    Source: Herbrich, Graepel and Obermayer, Large margin rank boundaries for ordinal regression
    (2000).

    >>> x1, x2 = tk.tensor([2.0, 2.0]), tk.tensor([1.5, 1.5])
    >>> F.margin_ranking_loss(x1, x2, tk.tensor([1.0, -1.0]), margin=1.0, reduction="none")
    Tensor([0.5, 1.5])
    """
    _one_shape("margin_ranking_loss", input1, input2, target)
    difference = input1 - _like(input2, input1)
    loss = clip(margin - _like(target, input1) * difference, low=0)
    return _reduced("margin_ranking_loss", loss, reduction)


def hinge_embedding_loss(
    input: Any, target: Any, margin: float = 1.0, reduction: str = "mean"
) -> Any:
    """x where t = 1, max(0, margin - x) where t = -1: like pairs near, others a margin apart.

    input, target: one shape, distances x and t = 1 or -1.
    reduction: "mean" over all elements, "sum", or "none" for the input's shape.

    Raises ValueError for different shapes, an unknown reduction, or the mean of no elements.
    Source: PyTorch, `torch.nn.functional.hinge_embedding_loss`.

    >>> x, t = tk.tensor([0.25, 0.25]), tk.tensor([1.0, -1.0])
    >>> F.hinge_embedding_loss(x, t, reduction="none")
    Tensor([0.25, 0.75])
    """
    _one_shape("hinge_embedding_loss", input, target)
    target = _like(target, input)
    apart = where(target == 1, 0.0, clip(margin - input, low=0))
    loss = where(target == -1, 0.0, input) + apart
    return _reduced("hinge_embedding_loss", loss, reduction)


def cosine_embedding_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> Any:
    """1 - cos where t = 1, max(0, cos - margin) where t = -1, for the cosine of two vectors.

    cos = x1 . x2 / sqrt((x1 . x1 + e) (x2 . x2 + e)),  e = 1e-12.

    input1, input2: vectors (N, D), or one pair (D,). target: (N,), or a number; 1 or -1.
    margin: the cosine from which on unlike vectors cost, in [-1, 1].
    reduction: "mean" over the pairs, "sum", or "none" for the target's shape.

    Raises ValueError for shapes that do not fit, an unknown reduction, or the mean of no pairs.
    Source: PyTorch, `torch.nn.functional.cosine_embedding_loss`.

    >>> x1, x2 = tk.tensor([[1.0, 0.0]]), tk.tensor([[0.0, 2.0]])
    >>> F.cosine_embedding_loss(x1, x2, tk.tensor([1.0]))
    Tensor(1.)
    """
    _one_shape("cosine_embedding_loss", input1, input2)
    if input1.ndim not in (1, 2) or _shape(target) != input1.shape[:-1]:
        raise ValueError(
            "cosine_embedding_loss: expected input (N, D) and target (N,), or (D,) and a number, "
            f"got {input1.shape} and {_shape(target)}."
        )
    input2, target = _like(input2, input1), _like(target, input1)
    squares = [sum_(square(x), axis=-1) + 1e-12 for x in (input1, input2)]
    cosine = sum_(input1 * input2, axis=-1) / sqrt(squares[0] * squares[1])
    apart = where(target == -1, clip(cosine - margin, low=0), 0.0)
    loss = where(target == 1, 1 - cosine, 0.0) + apart
    return _reduced("cosine_embedding_loss", loss, reduction)


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """max(0, d(a, p) - d(a, n) + margin): the like one nearer than the unlike one by a margin.

    d(x, y) = || x - y + eps ||_p over the last axis.

    anchor, positive, negative: one shape, (N, D) or (D,). margin: above 0.
    p: the order of the norm. swap: d(p, n) in place of d(a, n) where it is smaller.
    reduction: "mean" over the triplets, "sum", or "none" for (N,) or a number.

    Raises ValueError for different shapes, a number, margin <= 0, an unknown reduction, or the mean
    of no triplets.
    Source: Balntas et al., Learning local feature descriptors with triplets (2016).

    >>> a, p, n = tk.tensor([[0.0, 0.0]]), tk.tensor([[0.0, 1.0]]), tk.tensor([[1.5, 0.0]])
    >>> F.triplet_margin_loss(a, p, n).item()
    0.5...
    """
    _one_shape("triplet_margin_loss", anchor, positive, negative)
    if not anchor.ndim:
        raise ValueError("triplet_margin_loss: expected vectors (N, D) or (D,), got a number.")
    if not margin > 0:
        raise ValueError(f"triplet_margin_loss: expected margin > 0, got {margin}.")
    positive, negative = _like(positive, anchor), _like(negative, anchor)

    def distance(x: Any, y: Any) -> Any:
        return vector_norm(x - y + eps, p, axis=-1)

    far = distance(anchor, negative)
    if swap:
        far = minimum(far, distance(positive, negative))
    loss = clip(margin + distance(anchor, positive) - far, low=0)
    return _reduced("triplet_margin_loss", loss, reduction)
