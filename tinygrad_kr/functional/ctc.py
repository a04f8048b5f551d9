"""Connectionist temporal classification: the loss of a label sequence without its timing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_kr.functional.checks import integers, refuse_outside
from tinygrad_kr.functional.losses import _floats, _reduced
from tinygrad_kr.ops.ctc import composed_ctc, ctc
from tinygrad_kr.ops.elementwise import where
from tinygrad_kr.ops.node import Node, constant
from tinygrad_kr.ops.op import astype
from tinygrad_kr.ops.tracing import tracing


def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Any:
    """-log of the probability of a label sequence, summed over all its alignments with the steps.

    An alignment has one class per step. Runs of one class count once; then blanks are dropped.
    Let l' be the labels with a blank before, between and after. With log-probabilities y_t,

        a_t(s) = y_t(l'_s) + logsumexp(a_{t-1}(s), a_{t-1}(s - 1), a_{t-1}(s - 2)),
        loss = -logsumexp(a_T(2S), a_T(2S - 1)),  S labels, s = 0 ... 2S

    where s - 2 counts only if l'_s is no blank and differs from l'_{s-2}.

    log_probs: (T, N, C) as from `log_softmax(2)`, or (T, C) for one sequence.
    targets: integer labels (N, S), padded with anything; (S,) for one sequence; or the labels of
        all sequences one after the other, 1-D.
    input_lengths, target_lengths: the number of steps and of labels of each sequence (N,), or one
        number each for one sequence.
    blank: the class that stands for no label.
    reduction: "mean" (each loss divided by its number of labels, at least 1, then the mean over the
        batch), "sum", or "none" for (N,) or a number.
    zero_infinity: 0 in place of inf for a sequence that does not fit into its steps.

    The gradient is that of the formula. PyTorch's assumes a `log_softmax` before: it adds
    exp(log_probs), which that function's gradient takes away. Of the logits both are the same.

    A sequence of no steps has the loss 0 without labels, and inf with them. Where the loss is inf,
    the gradient is 0.

    Raises TypeError for log_probs of integers or labels of floats; IndexError for a label outside
    [0, C); ValueError for shapes and lengths that do not fit, an unknown reduction, or the mean of
    an empty batch.
    Source: Graves et al., Connectionist temporal classification (2006).

    >>> log_probs = tk.tensor([[0.5, 0.5], [0.5, 0.5]]).log()  # two steps; a blank and one letter
    >>> F.ctc_loss(log_probs, np.array([1]), 2, 1).exp()  # 1 / 0.75: "1-", "-1" and "11"
    Tensor(1.3333334)
    """
    _floats("ctc_loss", log_probs)
    if log_probs.ndim == 2:
        steps, labels = (np.reshape(_known(x), (1,)) for x in (input_lengths, target_lengths))
        one, targets = log_probs[:, None], _known(targets)[None]
        batched = ctc_loss(one, targets, steps, labels, blank, reduction, zero_infinity)
        return batched[0] if reduction == "none" else batched
    if log_probs.ndim != 3 or not log_probs.shape[0]:
        raise ValueError(
            f"ctc_loss: expected log_probs (T, N, C) or (T, C), got {log_probs.shape}."
        )
    steps, batch, classes = log_probs.shape
    if not 0 <= blank < classes:
        raise ValueError(f"ctc_loss: expected blank in [0, {classes}), got {blank}.")
    input_lengths = _lengths("input_lengths", input_lengths, batch, steps)
    counts = _lengths("target_lengths", target_lengths, batch, None)
    labels = _padded(targets, counts, batch, blank, classes)
    tracer = tracing()
    whole = ctc if tracer is None or not tracer.composes else composed_ctc
    loss = whole(log_probs, labels, input_lengths, counts, blank=int(blank))
    if zero_infinity:
        loss = where(loss == math.inf, 0.0, loss)
    if reduction == "mean":
        loss = loss / astype(where(counts > 0, counts, 1), dtype=log_probs.dtype)
    return _reduced("ctc_loss", loss, reduction)


def _known(x: Any) -> Any:
    """An integer argument as a Tensor or array; under a trace as a Tensor."""
    if isinstance(x, Node):
        return x
    array = np.asarray(x)
    if not array.size:  # NumPy makes floats of an empty list
        array = array.astype(np.int64)
    return array if tracing() is None else constant(array)


def _lengths(name: str, given: Any, batch: int, most: int | None) -> Any:
    given = _known(given)
    if given.shape != (batch,):
        raise ValueError(f"ctc_loss: expected {name} of shape {(batch,)}, got {given.shape}.")
    _refuse_lengths(integers(given, f"ctc_loss: {name}"), name, most)
    return given


def _refuse_lengths(lengths: Any, name: str, most: int | None) -> None:
    """Raise ValueError for a length below 0 or above the number of steps or labels."""
    if tracer := tracing():
        tracer.check(_refuse_lengths, lengths, name, most)
    if lengths.size and (lengths.min() < 0 or (most is not None and lengths.max() > most)):
        interval = "[0, inf)" if most is None else f"[0, {most}]"
        raise ValueError(f"ctc_loss: expected {name} in {interval}, got {lengths.tolist()}.")


def _padded(targets: Any, counts: Any, batch: int, blank: int, classes: int) -> Any:
    """Checked labels (N, S); a blank where a sequence has no more of them."""
    labels = integers(targets, "ctc_loss: targets")
    targets = _known(targets)
    if labels.ndim == 1:
        targets = _apart(targets, counts)
    if targets.ndim != 2 or targets.shape[0] != batch:
        raise ValueError(
            f"ctc_loss: expected targets of shape ({batch}, S), or all labels in one axis, got "
            f"{labels.shape}."
        )
    _refuse_lengths(integers(counts, "ctc_loss"), "target_lengths", targets.shape[1])
    present = np.arange(targets.shape[1]) < counts.reshape((batch, 1))
    padded = where(present, targets, blank)
    refuse_outside(integers(padded, "ctc_loss: targets"), classes, "ctc_loss: label")
    return padded


def _apart(targets: Any, counts: Any) -> Any:
    """Labels that stand one after the other, as rows (N, S)."""
    if tracer := tracing():
        tracer.give_up("ctc_loss with all labels in one axis: their lengths decide the shapes")
    lengths = integers(counts, "ctc_loss: target_lengths")
    total = int(lengths.sum())
    if total != targets.shape[0]:
        raise ValueError(
            f"ctc_loss: expected {total} labels, the sum of target_lengths, got {targets.shape[0]}."
        )
    width = int(lengths.max(initial=0))
    starts = np.cumsum(lengths) - lengths
    index = np.minimum(starts[:, None] + np.arange(width), max(total - 1, 0))
    return targets[index] if total else np.zeros((len(lengths), 0), np.int64)
