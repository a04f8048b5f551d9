"""Losses as modules, called with predictions and targets. Sources are with the functions.

reduction: "mean", "sum" or "none" for all of them; any other raises ValueError.
"""

from __future__ import annotations

from typing import Any

import tinygrad_kr.functional as F
from tinygrad_kr.nn.module import Module
from tinygrad_kr.tensor import Tensor


class _Loss(Module):
    """Base class of the losses: checks the reduction when the loss is made."""

    _reductions: tuple[str, ...] = ("mean", "sum", "none")

    def __init__(self, *, reduction: str = "mean") -> None:
        if reduction not in self._reductions:
            raise ValueError(
                f"{type(self).__name__}: expected reduction in {', '.join(self._reductions)}, got "
                f"{reduction!r}."
            )
        self.reduction = reduction

    def _buffer(self, name: str, values: Any) -> None:
        """Keep weights as a buffer: they are saved, and change dtype with the module."""
        self.register_buffer(name, None if values is None else Tensor(values))

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


class MSELoss(_Loss):
    """The mean squared error: the mean of (input - target)^2.

    Called with input and target of one shape (else ValueError).
    reduction: "mean" over all elements (default), "sum", or "none" for the input's shape.

    >>> nn.MSELoss()(tk.tensor([1.0, 2.0]), tk.tensor([1.0, 4.0]))
    Tensor(2.)
    """

    def forward(self, input: Any, target: Any) -> Any:
        return F.mse_loss(input, target, reduction=self.reduction)


class L1Loss(_Loss):
    """The mean absolute error: the mean of |input - target|. The slope at 0 is 0.

    Called with input and target of one shape (else ValueError).
    reduction: "mean" over all elements (default), "sum", or "none" for the input's shape.

    >>> nn.L1Loss()(tk.tensor([1.0, 2.0]), tk.tensor([1.0, 4.0]))
    Tensor(1.)
    """

    def forward(self, input: Any, target: Any) -> Any:
        return F.l1_loss(input, target, reduction=self.reduction)


class SmoothL1Loss(_Loss):
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, for d = input - target.

    Called with input and target of one shape (else ValueError). beta 0 is the l1 loss.
    reduction: "mean" over all elements (default), "sum", or "none" for the input's shape.

    >>> nn.SmoothL1Loss()(tk.tensor([0.5]), tk.tensor([0.0]))
    Tensor(0.125)
    """

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        self.beta = beta

    def forward(self, input: Any, target: Any) -> Any:
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class HuberLoss(_Loss):
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), for d = input - target.

    Called with input and target of one shape (else ValueError).
    reduction: "mean" over all elements (default), "sum", or "none" for the input's shape.

    >>> nn.HuberLoss(delta=2.0)(tk.tensor([3.0]), tk.tensor([0.0]))
    Tensor(4.)
    """

    def __init__(self, *, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        self.delta = delta

    def forward(self, input: Any, target: Any) -> Any:
        return F.huber_loss(input, target, reduction=self.reduction, delta=self.delta)


class BCELoss(_Loss):
    """-(t log p + (1 - t) log(1 - p)) for probabilities p and targets t.

    Called with p and t of one shape, p in [0, 1] (else ValueError). Each logarithm is at least
    -100.
    weight: a factor per element, kept as a buffer.
    reduction: "mean" over all elements (default), "sum", or "none" for the input's shape.

    >>> nn.BCELoss()(tk.tensor([0.5]), tk.tensor([1.0])).item()
    0.693...
    """

    weight: Tensor | None

    def __init__(self, weight: Any = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self._buffer("weight", weight)

    def forward(self, input: Any, target: Any) -> Any:
        return F.binary_cross_entropy(input, target, weight=self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_Loss):
    """-(w t log p + (1 - t) log(1 - p)) for p = sigmoid(input), exact in both tails.

    Called with logits and targets of one shape (else ValueError).
    weight: a factor per element. pos_weight: w, per class. Both are kept as buffers.
    reduction: "mean" over all elements (default), "sum", or "none" for the input's shape.

    >>> nn.BCEWithLogitsLoss()(tk.tensor([0.0]), tk.tensor([1.0])).item()
    0.693...
    """

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
    ) -> None:
        super().__init__(reduction=reduction)
        self._buffer("weight", weight)
        self._buffer("pos_weight", pos_weight)

    def forward(self, input: Any, target: Any) -> Any:
        return F.binary_cross_entropy_with_logits(
            input, target, self.weight, self.reduction, self.pos_weight
        )


class CrossEntropyLoss(_Loss):
    """-log softmax(input)[target], with the classes on axis 1.

    Called with logits (N, C) or (N, C, ...), and integer labels (N,) or (N, ...), or probabilities
    of the logits' shape.
    weight: a factor per class, kept as a buffer.
    ignore_index: a label that does not count.
    reduction: "mean" (default; weighted by the labels' weights), "sum" or "none".
    label_smoothing: the share of each label that is spread evenly over the classes, in [0, 1].

    Errors: see `functional.cross_entropy`.

    >>> nn.CrossEntropyLoss()(tk.tensor([[0.0, 0.0]]), np.array([1])).item()
    0.693...
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Any = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction=reduction)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(
                f"CrossEntropyLoss: expected label_smoothing in [0, 1], got {label_smoothing}."
            )
        self._buffer("weight", weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: Any, target: Any) -> Any:
        return F.cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(_Loss):
    """-input[target] for log-probabilities, with the classes on axis 1.

    Called with log-probabilities (N, C) or (N, C, ...) and integer labels (N,) or (N, ...).
    weight, ignore_index, reduction: as in `CrossEntropyLoss`.

    >>> nn.NLLLoss()(tk.tensor([[-0.5, -1.0]]), np.array([0]))
    Tensor(0.5)
    """

    weight: Tensor | None

    def __init__(
        self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction=reduction)
        self._buffer("weight", weight)
        self.ignore_index = ignore_index

    def forward(self, input: Any, target: Any) -> Any:
        return F.nll_loss(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )


class KLDivLoss(_Loss):
    """t (log t - x), the divergence of log-probabilities x from probabilities t.

    Called with x and t of shapes that broadcast (else ValueError).
    log_target: `target` holds logarithms as well.
    reduction: "mean" over all elements (default), "batchmean" (the sum divided by the batch size,
        the divergence by its definition), "sum" or "none".

    >>> p = tk.tensor([[0.5, 0.5]])
    >>> nn.KLDivLoss(reduction="batchmean")(p.log(), p)
    Tensor(0.)
    """

    _reductions = ("mean", "batchmean", "sum", "none")

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction=reduction)
        self.log_target = log_target

    def forward(self, input: Any, target: Any) -> Any:
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


class GaussianNLLLoss(_Loss):
    """(log v + (input - target)^2 / v) / 2 for v = max(var, eps): -log of a normal density.

    Called with input, target and var: shapes and errors as in `functional.gaussian_nll_loss`.
    full: add log(2 pi) / 2. eps: the least variance.
    reduction: "mean" over all elements (default), "sum", or "none" for the input's shape.

    >>> nn.GaussianNLLLoss()(tk.tensor([0.0]), tk.tensor([2.0]), tk.tensor([1.0]))
    Tensor(2.)
    """

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.full, self.eps = full, eps

    def forward(self, input: Any, target: Any, var: Any) -> Any:
        return F.gaussian_nll_loss(input, target, var, self.full, self.eps, self.reduction)


class PoissonNLLLoss(_Loss):
    """exp(x) - t x: -log of the Poisson probability of counts t with mean exp(x), without log t!.

    Called with x and t of one shape (else ValueError).
    log_input: False takes the mean itself. full: add Stirling's approximation of log t!.
    eps: added to a mean in its logarithm.
    reduction: "mean" over all elements (default), "sum", or "none" for the input's shape.

    >>> nn.PoissonNLLLoss()(tk.tensor([0.0]), tk.tensor([3.0]))
    Tensor(1.)
    """

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        *,
        eps: float = 1e-8,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        self.log_input, self.full, self.eps = log_input, full, eps

    def forward(self, input: Any, target: Any) -> Any:
        return F.poisson_nll_loss(
            input, target, self.log_input, self.full, self.eps, self.reduction
        )


class CTCLoss(_Loss):
    """-log of the probability of a label sequence, summed over its alignments with the steps.

    Called with log_probs (T, N, C), targets (N, S), input_lengths (N,) and target_lengths (N,).
    Other shapes and errors: see `functional.ctc_loss`.
    blank: the class that stands for no label.
    reduction: "mean" (default; of each loss divided by its number of labels), "sum" or "none".
    zero_infinity: 0 in place of inf for a sequence that does not fit into its steps.

    >>> log_probs = tk.full((2, 1, 2), 0.5).log()
    >>> nn.CTCLoss()(log_probs, np.array([[1]]), [2], [1]).exp()
    Tensor(1.3333334)
    """

    def __init__(
        self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False
    ) -> None:
        super().__init__(reduction=reduction)
        self.blank, self.zero_infinity = blank, zero_infinity

    def forward(self, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any) -> Any:
        return F.ctc_loss(
            log_probs,
            targets,
            input_lengths,
            target_lengths,
            self.blank,
            self.reduction,
            self.zero_infinity,
        )


class TripletMarginLoss(_Loss):
    """max(0, d(a, p) - d(a, n) + margin) for the distance d(x, y) = || x - y + eps ||_p.

    Called with anchor, positive and negative of one shape (N, D) or (D,) (else ValueError).
    margin: above 0. p: the order of the norm. swap: d(p, n) for d(a, n) where it is smaller.
    reduction: "mean" over the triplets (default), "sum", or "none" for (N,).

    >>> a, p, n = tk.tensor([[0.0]]), tk.tensor([[1.0]]), tk.tensor([[1.5]])
    >>> nn.TripletMarginLoss()(a, p, n).numpy().round(4)
    np.float32(0.5)
    """

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        *,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        if not margin > 0:
            raise ValueError(f"TripletMarginLoss: expected margin > 0, got {margin}.")
        self.margin, self.p, self.eps, self.swap = margin, p, eps, swap

    def forward(self, anchor: Any, positive: Any, negative: Any) -> Any:
        return F.triplet_margin_loss(
            anchor, positive, negative, self.margin, self.p, self.eps, self.swap, self.reduction
        )


class MarginRankingLoss(_Loss):
    """max(0, margin - t (x1 - x2)): for t = 1 the first score should be higher, for t = -1 lower.

    Called with x1, x2 and t of one shape (else ValueError).
    margin: by how much the higher one should be higher.
    reduction: "mean" over all elements (default), "sum", or "none" for the inputs' shape.

    >>> nn.MarginRankingLoss(1.0)(tk.tensor([2.0]), tk.tensor([1.5]), tk.tensor([1.0]))
    Tensor(0.5)
    """

    def __init__(self, margin: float = 0.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.margin = margin

    def forward(self, input1: Any, input2: Any, target: Any) -> Any:
        return F.margin_ranking_loss(input1, input2, target, self.margin, self.reduction)


class HingeEmbeddingLoss(_Loss):
    """x where t = 1, max(0, margin - x) where t = -1: like pairs near, others a margin apart.

    Called with distances x and t of one shape (else ValueError).
    reduction: "mean" over all elements (default), "sum", or "none" for the input's shape.

    >>> nn.HingeEmbeddingLoss()(tk.tensor([0.25]), tk.tensor([-1.0]))
    Tensor(0.75)
    """

    def __init__(self, margin: float = 1.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.margin = margin

    def forward(self, input: Any, target: Any) -> Any:
        return F.hinge_embedding_loss(input, target, self.margin, self.reduction)


class CosineEmbeddingLoss(_Loss):
    """1 - cos where t = 1, max(0, cos - margin) where t = -1, for the cosine of two vectors.

    Called with vectors (N, D) and t (N,), or (D,) and a number (else ValueError).
    margin: the cosine from which on unlike vectors cost, in [-1, 1].
    reduction: "mean" over the pairs (default), "sum", or "none" for t's shape.

    >>> x1, x2 = tk.tensor([[1.0, 0.0]]), tk.tensor([[0.0, 2.0]])
    >>> nn.CosineEmbeddingLoss()(x1, x2, tk.tensor([1.0]))
    Tensor(1.)
    """

    def __init__(self, margin: float = 0.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.margin = margin

    def forward(self, input1: Any, input2: Any, target: Any) -> Any:
        return F.cosine_embedding_loss(input1, input2, target, self.margin, self.reduction)


class MultiLabelSoftMarginLoss(_Loss):
    """-(t log p + (1 - t) log(1 - p)), p = sigmoid(x), averaged over the classes of a sample.

    Called with logits (N, C) or (C,) and targets of one shape (else ValueError).
    weight: a factor per class, kept as a buffer.
    reduction: "mean" over the samples (default), "sum", or "none" for (N,).

    >>> nn.MultiLabelSoftMarginLoss()(tk.tensor([[0.0, 20.0]]), tk.tensor([[1.0, 1.0]])).item()
    0.346...
    """

    weight: Tensor | None

    def __init__(self, weight: Any = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self._buffer("weight", weight)

    def forward(self, input: Any, target: Any) -> Any:
        return F.multilabel_soft_margin_loss(input, target, self.weight, self.reduction)
