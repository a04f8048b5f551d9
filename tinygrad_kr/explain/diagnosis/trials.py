"""Some steps of training on copies: as given, after a remedy, at other rates, on other inputs."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tinygrad_kr.explain.diagnosis.evidence import Batch, StepError
from tinygrad_kr.explain.diagnosis.finding import Mend
from tinygrad_kr.explain.diagnosis.look import Look
from tinygrad_kr.explain.diagnosis.step_graph import StepGraph, tensors_in
from tinygrad_kr.tensor import Tensor

LEARNED = 0.3
"""Threshold: loss by that of a constant answer, under which a net has learned much already."""


class Trial(NamedTuple):
    """Some steps of training of a copy."""

    start: float
    end: float
    """The loss on the same batches; infinity where it is not finite or the step raised."""
    losses: list[float]
    moved: float
    """The mean change of the parameters in a step, by their norm."""
    error: StepError | None = None
    """What a step raised."""

    @property
    def level(self) -> float:
        """The loss of the second half of the steps, but for spikes: its first quartile."""
        if not math.isfinite(self.end):
            return math.inf
        return float(np.quantile([*self.losses[len(self.losses) // 2 :], self.end], 0.25))


def trial(
    look: Look, mend: Mend | None = None, factor: float = 1.0, batches: list[Batch] | None = None,
    times: int = 1,
) -> Trial:  # fmt: skip
    """Train a copy: after a remedy, at other rates, on other batches, or some times as long."""
    case = look.case
    batches = batches or case.batches
    copied = case.trainable()
    try:
        if mend is not None:
            mend(copied.model, copied.optimizer)
        copied.scale_rates(factor)
        probes = batches[: len(case.probes)]
        start = copied.loss_on(probes)
        before = [p.data.astype(np.float64) for p in copied.trained()]
        losses = copied.train(batches, times * case.steps)
        end = copied.loss_on(probes)
    except StepError as error:
        return Trial(math.inf, math.inf, [], math.inf, error)
    size = math.hypot(*(np.linalg.norm(p) for p in before)) or 1.0
    change = math.hypot(
        *(np.linalg.norm(p.data - old) for p, old in zip(copied.trained(), before, strict=True))
    )
    end = end if math.isfinite(end) and math.isfinite(losses[-1]) else math.inf
    return Trial(start, end, losses, change / size / max(len(losses), 1))


def as_given(look: Look) -> Trial:
    """The training as it was given, once."""
    if look.given is None:
        look.given = trial(look)
    given: Trial = look.given
    return given


def baseline(look: Look) -> float:
    """The loss of a constant answer: the mean of the outputs for every row."""
    graph = look.step
    output, targets = graph.main_output, look.case.batches[0][1]
    start = float(np.mean(graph.loss.data))
    if output is None or output is not graph.output or output.ndim < 2:
        return start
    mean = np.broadcast_to(output.data.mean(axis=0, keepdims=True), output.shape)
    try:
        loss = float(np.mean(look.copied.loss_function(Tensor(mean.copy()), targets).data))
    except Exception:
        return start
    return loss if math.isfinite(loss) else start


def stays_the_same_for_all(look: Look) -> bool:
    """Whether the output is the same for all rows after the steps too."""
    copied = look.case.trainable()
    try:
        copied.train(look.case.batches, look.case.steps)
        output = next(tensors_in(copied.forward(look.case.batches[0])[0]), None)
    except StepError:
        return False
    return output is not None and not (output.data != output.data[:1]).any()


def graph_after(look: Look, mend: Mend | None, batch: Batch | None = None) -> StepGraph | None:
    """The first step of a copy after a remedy; None where it raises."""
    copied = look.case.copy()
    try:
        if mend is not None:
            mend(copied.model, copied.optimizer)
        return StepGraph(copied, batch or look.case.batches[0])
    except (StepError, ValueError):
        return None


def no_worse(look: Look, mended: Trial) -> bool:
    """Whether the loss of a copy falls, or is nearly that of the net as it is."""
    fell = mended.end < mended.start or mended.end <= as_given(look).end * 1.05 + 0.02
    return math.isfinite(mended.end) and fell
