"""Causes that the course of some steps shows: rates that do not fit, NaN, overfitting."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from tinygrad_kr.explain.diagnosis.causes_of_data import ANOMALY
from tinygrad_kr.explain.diagnosis.evidence import StepError, values_of
from tinygrad_kr.explain.diagnosis.finding import Code, Found, kind
from tinygrad_kr.explain.diagnosis.look import Look
from tinygrad_kr.explain.diagnosis.mending import rates
from tinygrad_kr.explain.diagnosis.step_graph import StepGraph
from tinygrad_kr.explain.diagnosis.trials import LEARNED, Trial, as_given, baseline, trial
from tinygrad_kr.language import Text
from tinygrad_kr.ops.node import source_line_of

DIVERGED = 1.1
"""Threshold: loss after the steps by the loss before."""
SLOWER = 0.5
"""Threshold: loss at a lower rate by the loss at the optimizer's."""
LONGER = 4
"""How many times as long a copy trains, before a rate is said to be too high."""
FURTHER = 2.0
"""Threshold: fall of the loss at a lower rate, by its fall at the optimizer's."""
LEAPED = 0.2
"""Threshold: change of the parameters in a step, by their size."""
STILL = 1e-4
"""Threshold: change of the parameters in a step, by their size."""
SLOW = 0.03
"""Threshold: fall of the loss, by its fall at a higher rate."""
ROUNDS, MORE_ROUNDS, FEW_ROWS = 10, 60, 60
"""Limits: how many times `steps` steps are trained to compare the two losses; the same with few
rows, which a net may fit one by one; and how many are few."""
OVERFITTED, RISEN, APART = 1.5, 1.2, 10.0
"""Thresholds: validation loss by training loss, if it is as far above its lowest; and if not."""


# ------------------------------------------------------------------ rates


@kind(
    Text(
        "The learning rate {rate} is too high: after {steps} steps the loss is {loss}, and "
        "{loss_at_lower} at the rate {lower}.",
        "학습률({rate})이 너무 큽니다. {steps}스텝 뒤의 손실은 {loss}, 학습률 {lower}에서는 "
        "{loss_at_lower}.",
    ),
    Text("Lower the learning rate.", "학습률을 낮추세요."),
)
def learning_rate_too_high(look: Look) -> Iterator[Found]:
    """A loss that rises, or falls much further at a lower rate."""
    if look.case.optimizer is None:
        return
    given = as_given(look)
    if given.level < LEARNED * baseline(look) and given.moved < LEAPED:
        return
    factors = [0.1, 0.01] if given.level < given.start else [0.1, 0.01, 0.001, 1e-4]
    lower = {factor: trial(look, factor=factor) for factor in factors}
    factor = min(lower, key=lambda f: lower[f].level)
    if not _falls_further(given, lower[factor]):
        return
    longer = [trial(look, factor=f, times=LONGER) for f in (1.0, factor)]
    if given.moved > LEAPED or _falls_further(*longer):
        best = lower[factor].level
        rate = look.case.optimizer.param_groups[0]["lr"]
        evidence = {
            "rate": float(rate), "lower": float(rate * factor), "loss": given.level,
            "loss_before": given.start, "loss_at_lower": best, "steps": look.case.steps,
        }  # fmt: skip
        remedy = rates(look.case.optimizer, factor)
        yield Found("", evidence, remedy.code, remedy.mend)


def _falls_further(given: Trial, lower: Trial) -> bool:
    """Whether a lower rate trains, and the optimizer's diverges or is far behind."""
    best, fall = lower.level, given.start - given.level
    if not math.isfinite(best) or not best < given.start:
        return False
    diverges = given.level > DIVERGED * given.start or given.moved > LEAPED
    behind = best < 0.9 * given.level and given.start - best > FURTHER * fall
    return (diverges and best < given.level) or behind or best < SLOWER * given.level - 0.01


@kind(
    Text(
        "The learning rate {rate} is too low: a step changes the weights by {moved} of their size. "
        "After {steps} steps the loss is {loss}, and {loss_at_higher} at the rate {higher}.",
        "학습률({rate})이 너무 작습니다. 한 스텝에 가중치가 그 크기의 {moved}배만큼만 바뀝니다. "
        "{steps}스텝 뒤의 손실은 "
        "{loss}, 학습률 {higher}에서는 {loss_at_higher}.",
    ),
    Text("Raise the learning rate.", "학습률을 높이세요."),
)
def learning_rate_too_low(look: Look) -> Iterator[Found]:
    """Steps that hardly change the weights, where larger ones train."""
    if look.case.optimizer is None:
        return
    given = as_given(look)
    if not given.moved < STILL or given.start < LEARNED * baseline(look):
        return
    best, factor = given, 1.0
    first = _first_power(given.moved)
    for power in range(first, first + 9):
        tried = trial(look, factor=10.0**power)
        if tried.end < best.end:
            best, factor = tried, 10.0**power
        elif best is not given:
            break
    fall, best_fall = given.start - given.end, given.start - best.end
    slow = SLOW if given.moved > STILL / 10 else 5 * SLOW
    if factor >= 10 and best_fall > 0.01 * abs(given.start) and fall < slow * best_fall:
        rate = look.case.optimizer.param_groups[0]["lr"]
        evidence = {
            "rate": float(rate), "higher": float(rate * factor), "loss": given.end,
            "loss_before": given.start, "loss_at_higher": best.end, "moved": given.moved,
            "steps": look.case.steps,
        }  # fmt: skip
        remedy = rates(look.case.optimizer, factor)
        yield Found("", evidence, remedy.code, remedy.mend)


def _first_power(moved: float) -> int:
    """The power of ten by which steps change the weights by a tenth of `STILL`; 4 for no change.

    From no change in float32 it is not known how far away one is.
    """
    if moved <= 0:
        return 4
    return max(1, math.floor(math.log10(STILL / 10 / moved)))


@kind(
    Text(
        "A NaN or an infinity appears in step {step}: first in {op}, at {line}.",
        "스텝 {step}에서 NaN 또는 무한대가 나옵니다. 처음 나온 연산: {op}, 위치: {line}",
    ),
    Text(
        "Keep the input of {op} inside its domain, for example log(x + 1e-7).",
        "연산의 입력이 정의역을 벗어나지 않게 하세요. 예를 들어 log(x + 1e-7). 연산: {op}",
    ),
)
def nan_or_infinity(look: Look) -> Iterator[Found]:
    """A loss that is not finite in a later step."""
    if math.isfinite(as_given(look).end):
        return
    copied = look.case.trainable()
    for step in range(1, look.case.steps + 1):
        batch = look.case.batches[(step - 1) % len(look.case.batches)]
        try:
            graph = StepGraph(copied, batch)
            node = graph.first_not_finite()
            copied.step(batch)
        except StepError:
            return
        if node is not None:
            line = source_line_of(node).partition(" (`with")[0]
            evidence = {"step": step, "op": node._op.__name__, "line": line}
            yield Found(graph.path_of(node), evidence, look.on_batch(ANOMALY))
            return


# ------------------------------------------------------------------ validation


@kind(
    Text(
        "The net overfits: the loss is {loss} on the training data and {validation_loss} on the "
        "validation data, where it was {lowest} at its lowest.",
        "과적합입니다. 학습 데이터의 손실: {loss}, 검증 데이터의 손실: {validation_loss}, "
        "검증 손실이 가장 낮았을 때의 값: {lowest}.",
    ),
    Text(
        "Use more data, a smaller net, dropout or weight decay, and stop at the lowest validation "
        "loss.",
        "데이터를 늘리거나, 신경망을 줄이거나, 드롭아웃이나 가중치 감쇠를 쓰고, 검증 손실이 가장 "
        "낮을 때 멈추세요.",
    ),
)
def overfitting(look: Look) -> Iterator[Found]:
    """A validation loss that is far above the training loss, and rises while that falls."""
    if look.case.validation is None:
        return
    copied = look.case.trainable()
    course = [_losses_in_eval(look, copied)]
    for _ in range(_rounds(look)):
        copied.train(look.case.batches, look.case.steps)
        course.append(_losses_in_eval(look, copied))
        if not all(map(math.isfinite, course[-1])):
            return
        lowest = min(validation for _, validation in course)
        loss, validation = course[-1]
        risen = validation > OVERFITTED * loss and validation > RISEN * lowest
        apart = validation > APART * loss and validation > 0.95 * lowest
        if (risen or (apart and len(course) > 3)) and validation > LEARNED * baseline(look):
            yield _overfitted(look, loss, validation, lowest)
            return


def _rounds(look: Look) -> int:
    inputs = [values_of(x) for x, _ in look.case.batches]
    rows = sum(len(x) if x is not None and x.ndim else 1 for x in inputs)
    return MORE_ROUNDS if rows < FEW_ROWS else ROUNDS


def _losses_in_eval(look: Look, copied: Any) -> tuple[float, float]:
    """Training and validation loss in evaluation mode."""
    modes = [(module, module.training) for module in copied.model.modules()]
    copied.model.eval()
    assert look.case.validation is not None
    losses = copied.loss_on(look.case.probes), copied.loss_on(look.case.validation.batches)
    for module, mode in modes:
        module.training = mode
    return losses


def _overfitted(look: Look, loss: float, validation: float, lowest: float) -> Found:
    evidence = {"loss": loss, "validation_loss": validation, "lowest": lowest}
    code: Code = Text("# early stopping", "# 조기 종료")
    groups = look.case.optimizer.param_groups if look.case.optimizer is not None else ()
    if groups and "weight_decay" in groups[0]:
        code = 'for group in optimizer.param_groups:\n    group["weight_decay"] = 0.01'
    return Found("", evidence, code)
