"""Causes that a few steps of training on copies find. Each is confirmed by its own remedy.

A symptom may have several causes. So the remedy is made on another copy, which starts from the same
weights, and the finding is named only where the symptom is gone and the copy trains no worse.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tinygrad_kr.explain.evidence import Batch, StepError, moments
from tinygrad_kr.explain.finding import Found, Mend, kind
from tinygrad_kr.explain.look import Look, is_layer
from tinygrad_kr.explain.mending import Remedy, like_tanh, rates, reinitialize, replace
from tinygrad_kr.explain.step_graph import Activation, StepGraph
from tinygrad_kr.language import Text
from tinygrad_kr.ops.node import source_line_of
from tinygrad_kr.tensor import Tensor

LARGE_INPUT, SMALL_INPUT = 12.0, 0.01
"""Thresholds: root mean square of inputs."""
HUGE_INPUT = 50.0
"""Threshold: root mean square from which inputs need not be shown to train worse."""
OFF_CENTRE = 10.0
"""Threshold: mean of an input by its standard deviation."""
DEAD, DEAD_OF_FEW, FEW = 0.55, 0.95, 32
"""Thresholds: share of a layer's units that are 0 for every row; the same with fewer than 32 rows,
for all of which a sound unit may be 0."""
SATURATED = 0.4
"""Threshold: share of a layer's outputs where the slope is almost 0."""
VANISHED = 2e-4
"""Threshold: norm of the first layer's gradient by the largest of a parameter."""
EXPLODED = 8.0
"""Threshold: norm of all gradients by that of all parameters."""
GROWN = 15.0
"""Threshold: root mean square of the last layer's output by that of the input, or by 1."""
DIVERGED = 1.1
"""Threshold: loss after the steps by the loss before."""
SLOWER = 0.5
"""Threshold: loss at a lower rate by the loss at the optimizer's."""
LONGER = 4
"""How many times as long a copy trains, before a rate is said to be too high."""
FURTHER = 2.0
"""Threshold: fall of the loss at a lower rate, by its fall at the optimizer's."""
LEAPED = 0.15
"""Threshold: change of the parameters in a step, by their size."""
STILL = 1e-4
"""Threshold: change of the parameters in a step, by their size."""
SLOW = 0.03
"""Threshold: fall of the loss, by its fall at a higher rate."""
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

    @property
    def level(self) -> float:
        """The loss that the second half of the steps comes to, but for spikes: its first quartile."""
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
    except StepError:
        return Trial(math.inf, math.inf, [], math.inf)
    size = math.hypot(*(np.linalg.norm(p) for p in before)) or 1.0
    change = math.hypot(
        *(np.linalg.norm(p.data - old) for p, old in zip(copied.trained(), before, strict=True))
    )
    end = end if math.isfinite(end) and math.isfinite(losses[-1]) else math.inf
    return Trial(start, end, losses, change / size / max(len(losses), 1))


def as_given(look: Look) -> Trial:
    """The training as it was given, once."""
    if not hasattr(look, "_as_given"):
        look._as_given = trial(look)  # type: ignore[attr-defined]
    return look._as_given  # type: ignore[attr-defined, no-any-return]


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


# ------------------------------------------------------------------ inputs


@kind(
    Text(
        "The inputs are not scaled: from {lowest} to {highest}, root mean square {size}.",
        "입력이 정규화되지 않았습니다. {lowest}부터 {highest}까지, 제곱평균제곱근 {size}.",
    ),
    Text(
        "Subtract the mean and divide by the standard deviation.",
        "평균을 빼고 표준편차로 나누세요.",
    ),
)
def unscaled_inputs(look: Look) -> Iterator[Found]:
    """Inputs far from 0 mean and unit variance, where standardised ones train better."""
    x = look.data.inputs
    if x is None or not _goes_into_sums(look):
        return
    mean, std = moments(x)
    size = float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))
    centre = float(np.max(np.abs(mean) / np.maximum(std, 1e-12))) if np.any(std != 1) else 0.0
    uneven = float(np.max(std) / max(float(np.median(std)), 1e-12)) if np.ndim(std) else 1.0
    if SMALL_INPUT < size < LARGE_INPUT and not (centre > OFF_CENTRE and size > 3) and uneven < 100:
        return
    batches = look.data.standardized()
    scaled, given = trial(look, batches=batches), as_given(look)
    huge = size > HUGE_INPUT and scaled.end < scaled.start
    if scaled.end < 0.9 * given.end or huge or _calmed(look, batches[0]):
        evidence = {
            "lowest": float(x.min()), "highest": float(x.max()), "size": size,
            "loss": given.end, "loss_with_scaled": scaled.end,
        }  # fmt: skip
        yield Found("", evidence, _standardizing(look))


def _calmed(look: Look, scaled: Batch) -> bool:
    """Whether with scaled inputs the gradients no longer explode, or units are not at limits."""
    before, after = look.step, graph_after(look, None, scaled)
    if after is None:
        return False
    if explosion(before)[0] >= EXPLODED > explosion(after)[0]:
        return True
    pairs = list(zip(before.hidden, after.hidden, strict=False))
    return any(_stuck(one) >= SATURATED > _stuck(other) for one, other in pairs)


def _stuck(activation: Activation) -> float:
    share = dead_share if activation.op == "relu" else saturated_share
    return share(activation.op, activation.by_unit)


def _goes_into_sums(look: Look) -> bool:
    """Whether the first layer sums inputs, and is no embedding and no normalisation."""
    x = look.case.batches[0][0]
    given = x if not isinstance(x, tuple) else x[0]
    weights = look.step.weights
    if not weights or weights[0].node._op.__name__ == "getitem":
        return False
    names = {node._op.__name__ for node in look.step.model_nodes if node._made < weights[0].node._made}
    return getattr(given, "ndim", 0) > 0 and "normalize" not in names


def _standardizing(look: Look) -> str:
    by_column = ".mean(axis=0)", ".std(axis=0)"
    mean, std = by_column if look.data.inputs is not None and look.data.inputs.ndim == 2 else (
        ".mean()", ".std()",
    )  # fmt: skip
    change = f"((x - x0{mean}) / (x0{std} + 1e-8)).astype(np.float32)"
    if look.data.given == "arrays":
        return (
            "x, targets = np.asarray(data[0]), data[1]\n"
            f"data = {change.replace('x0', 'x')}, targets"
        )
    return (
        "x0 = np.concatenate([np.asarray(x) for x, _ in data])\n"
        f"data = [({change.replace('x -', 'np.asarray(x) -')}, targets) for x, targets in data]"
    )


# ------------------------------------------------------------------ units


def _shares(
    look: Look, mend: Mend | None, share: Any, ops: tuple[str, ...]
) -> list[tuple[Activation, float]]:
    """For each activation of some kinds, the share of its units or outputs, over the probes."""
    graphs = [graph_after(look, mend, batch) for batch in look.case.probes]
    known = [graph for graph in graphs if graph is not None]
    if not known or len({len(graph.activations) for graph in known}) > 1:
        return []
    found = []
    for several in zip(*(graph.activations for graph in known), strict=True):
        final = several[0].node is known[0].last
        if several[0].op in ops and not (final and share is saturated_share):
            try:
                values = np.concatenate([activation.by_unit for activation in several])
            except ValueError:
                continue
            found.append((several[0], share(several[0].op, values)))
    return found


def dead_share(_: str, y: np.ndarray) -> float:
    """The share of units that are 0 for all rows."""
    return float((y == 0).all(axis=0).mean())


def saturated_share(op: str, y: np.ndarray) -> float:
    """The share of outputs of sigmoid or tanh at which the slope is under 4 % of the largest."""
    swing = np.abs(2 * y - 1) if op == "sigmoid" else np.abs(y)
    return float((swing > 0.98).mean())


@kind(
    Text(
        "{layer}: {percent} % of its ReLU units are 0 for every row. Their gradient is 0 as well, "
        "so they stay dead.",
        "{layer}: ReLU 유닛의 {percent} %가 모든 입력에서 0입니다. 기울기도 0이므로 죽은 채로 남습니다.",
    ),
    Text(
        "Initialise by He with biases of 0; in a narrow and deep net also use tanh or Leaky ReLU.",
        "He 초기화와 0인 편향을 쓰세요. 좁고 깊은 신경망에는 tanh나 Leaky ReLU도 쓰세요.",
    ),
)
def dead_units(look: Look) -> Iterator[Found]:
    """Layers of ReLU units that are 0 for all rows, at the start."""
    found = _shares(look, None, dead_share, ("relu",))
    rows = sum(len(activation.by_unit) for activation, _ in found[:1]) * len(look.case.probes)
    limit = DEAD if rows >= FEW else DEAD_OF_FEW
    first = next((pair for pair in found if pair[1] >= limit), None)
    if first is None:
        return
    remedy = _revived(look, first[1])
    if remedy is not None:
        evidence = {"share": first[1], "percent": 100 * first[1], "layers": len(found)}
        yield Found(first[0].layer, evidence, remedy.code, remedy.mend)


def _revived(look: Look, share: float) -> Remedy | None:
    """The first remedy after which the share of dead units has halved in each layer."""
    remedies = [reinitialize(look.step, look.model)]
    modules = _modules(look, "relu", "ReLU")
    if modules:
        remedies = [
            *([] if len(modules) > 4 else remedies),
            replace(look.model, modules, "LeakyReLU") + remedies[0],
            replace(look.model, modules, "Tanh") + reinitialize(look.step, look.model, tanh=True),
        ]
        if _narrow(look) and len(modules) > 4:
            remedies = remedies[::-1]
    for remedy in remedies:
        after = _shares(look, remedy.mend, dead_share, ("relu",))
        worst = max((pair[1] for pair in after), default=0.0)
        if worst < share / 1.4 and no_worse(look, trial(look, remedy.mend)):
            return remedy
    return None


def _narrow(look: Look) -> bool:
    return min((w.parameter.shape[0] for w in look.step.products[:-1]), default=99) < 12


def _modules(look: Look, op: str, name: str) -> list[str]:
    """The paths of the modules of the hidden activations; empty if one is no module."""
    paths = [
        look.step.path_of(activation.node) for activation in look.step.hidden if activation.op == op
    ]
    known = all(
        is_layer(look.model, path) and type(look.model.get_submodule(path)).__name__ == name
        for path in paths
    )
    return list(dict.fromkeys(paths)) if known else []


@kind(
    Text(
        "{layer}: {percent} % of the outputs of {op} are at its limits, where the slope is almost "
        "0.",
        "{layer}: {op} 출력의 {percent} %가 한계값에 있습니다. 그곳의 기울기는 거의 0입니다.",
    ),
    Text("Initialise by Xavier.", "Xavier 초기화를 쓰세요."),
)
def saturated_units(look: Look) -> Iterator[Found]:
    """Hidden layers of sigmoid or tanh units at their limits, at the start."""
    found = _shares(look, None, saturated_share, ("sigmoid", "tanh"))
    first = next((pair for pair in found if pair[1] >= SATURATED), None)
    if first is None:
        return
    remedy = reinitialize(look.step, look.model)
    after = _shares(look, remedy.mend, saturated_share, ("sigmoid", "tanh"))
    if max((pair[1] for pair in after), default=1.0) < first[1] / 1.4 and no_worse(
        look, trial(look, remedy.mend)
    ):
        evidence = {"share": first[1], "percent": 100 * first[1], "op": first[0].op}
        yield Found(first[0].layer, evidence, remedy.code, remedy.mend)


# ------------------------------------------------------------------ gradients


@kind(
    Text(
        "{layer}: the gradient vanishes on the way back. Its norm is {gradient} in this layer and "
        "{largest} where it is largest, {ratio} of that.",
        "{layer}: 기울기 소실. 이 층의 기울기 노름은 {gradient}, 가장 큰 곳은 {largest}입니다. 비율 {ratio}.",
    ),
    Text(
        "Use tanh or ReLU with weights by Xavier or He, so that slopes do not multiply to 0.",
        "기울기의 곱이 0으로 가지 않도록 tanh나 ReLU를 Xavier 또는 He 초기화와 함께 쓰세요.",
    ),
)
def vanishing_gradient(look: Look) -> Iterator[Found]:
    """A gradient of the first layer that is a tiny part of the largest one."""
    ratio = gradient_ratio(look.step)
    if ratio is None or ratio >= VANISHED:
        return
    for remedy in _against_vanishing(look):
        after = graph_after(look, remedy.mend)
        healed = None if after is None else gradient_ratio(after)
        if healed is not None and healed > max(10 * ratio, 5 * VANISHED) and no_worse(
            look, trial(look, remedy.mend)
        ):
            first = _first(look.step)
            evidence = {
                "ratio": ratio, "gradient": first.norm, "largest": look.step.largest_gradient,
                "layers": len(look.step.products), "ratio_after_remedy": healed,
            }  # fmt: skip
            yield Found(first.layer, evidence, remedy.code, remedy.mend)
            return


def _first(graph: StepGraph) -> Any:
    weights = [w for w in graph.weights if w.node._op.__name__ != "getitem"]
    return (weights or graph.weights)[0]


def gradient_ratio(graph: StepGraph) -> float | None:
    """The norm of the first layer's gradient by the largest of a parameter; None for one layer."""
    if len(graph.weights) < 3 or not graph.largest_gradient:
        return None
    return float(_first(graph).norm / graph.largest_gradient)


def _against_vanishing(look: Look) -> Iterator[Remedy]:
    if any(activation.op == "sigmoid" for activation in look.step.hidden):
        modules = _modules(look, "sigmoid", "Sigmoid")
        if modules:
            anew = reinitialize(look.step, look.model, tanh=True)
            yield replace(look.model, modules, "Tanh") + anew
        else:
            yield like_tanh(look.step, look.model)
    yield reinitialize(look.step, look.model)


@kind(
    Text(
        "{layer}: values and gradients explode. The norm of the gradients is {ratio} times that of "
        "the weights; from input to output, values grow {growth} times.",
        "{layer}: 기울기 폭발. 기울기 노름이 가중치 노름의 {ratio}배이고, 값은 입력에서 출력까지 {growth}배로 "
        "커집니다.",
    ),
    Text(
        "Initialise by He or Xavier; if that is not enough, clip the gradients.",
        "He 또는 Xavier 초기화를 쓰세요. 부족하면 기울기를 잘라 내세요(클리핑).",
    ),
)
def exploding_gradient(look: Look) -> Iterator[Found]:
    """Gradients that are large beside the weights, or outputs that are large beside the inputs."""
    ratio, growth = explosion(look.step)
    if ratio < EXPLODED and growth < GROWN:
        return
    remedy = reinitialize(look.step, look.model)
    after = graph_after(look, remedy.mend)
    if after is None:
        return
    ratio_after, growth_after = explosion(after)
    calmer = ratio_after < ratio / 5 or (growth >= GROWN and growth_after < growth / 5)
    given = as_given(look).end
    if calmer and (given == math.inf or trial(look, remedy.mend).end < 0.9 * given):
        evidence = {"ratio": ratio, "growth": growth, "loss": float(np.mean(look.step.loss.data))}
        yield Found(_largest_layer(look.step), evidence, remedy.code, remedy.mend)


def explosion(graph: StepGraph) -> tuple[float, float]:
    """The norm of the gradients by that of the weights; the growth from input to last layer."""
    ratio = graph.total_gradient / (graph.total_weight or 1.0)
    layers = graph.products
    if not layers:
        return ratio, 1.0
    given = graph.data_input(layers[0].node)
    x = getattr(given, "_data", given)
    size = float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) if x is not None else 1.0
    out = np.sqrt(np.mean(np.square(layers[-1].node._data, dtype=np.float64)))
    return ratio, float(out) / max(size, 1.0)


def _largest_layer(graph: StepGraph) -> str:
    weights = graph.weights
    return max(weights, key=lambda w: w.norm).layer if weights else ""


# ------------------------------------------------------------------ rates


@kind(
    Text(
        "The learning rate {rate} is too high: after {steps} steps the loss is {loss}, and "
        "{loss_at_lower} at the rate {lower}.",
        "학습률 {rate} 값이 너무 큽니다. {steps}스텝 뒤의 손실은 {loss}, 학습률이 {lower}이면 {loss_at_lower}.",
    ),
    Text("Lower the learning rate.", "학습률을 낮추세요."),
)
def learning_rate_too_high(look: Look) -> Iterator[Found]:
    """A loss that rises, or falls much further at a lower rate."""
    if look.case.optimizer is None:
        return
    given = as_given(look)
    if given.level < LEARNED * baseline(look):
        return
    factors = [0.1, 0.01] if given.level < given.start else [0.1, 0.01, 0.001, 1e-4]
    lower = {factor: trial(look, factor=factor) for factor in factors}
    factor = min(lower, key=lambda f: lower[f].level)
    if not _falls_further(given, lower[factor]):
        return
    longer = [trial(look, factor=f, times=LONGER) for f in (1.0, factor)]
    if _falls_further(*longer):
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
        "학습률 {rate} 값이 너무 작습니다. 한 스텝이 가중치를 크기의 {moved}만큼만 바꿉니다. {steps}스텝 뒤의 손실은 "
        "{loss}, 학습률이 {higher}이면 {loss_at_higher}.",
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
    for power in range(1, 8):
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
            code = "with tk.detect_anomaly():\n    loss_function(model(inputs), targets).backward()"
            yield Found(graph.path_of(node), evidence, code)
            return


# ------------------------------------------------------------------ validation


@kind(
    Text(
        "The net overfits: the loss is {loss} on the training data and {validation_loss} on the "
        "validation data, where it was {lowest} at its lowest.",
        "과적합입니다. 학습 데이터의 손실은 {loss}, 검증 데이터의 손실은 {validation_loss}입니다. 검증 손실이 가장 "
        "낮았을 때는 {lowest}였습니다.",
    ),
    Text(
        "Use more data, a smaller net, dropout or weight decay, and stop at the lowest validation "
        "loss.",
        "데이터를 늘리거나, 신경망을 줄이거나, 드롭아웃이나 가중치 감쇠를 쓰고, 검증 손실이 가장 낮을 때 멈추세요.",
    ),
)
def overfitting(look: Look) -> Iterator[Found]:
    """A validation loss that is far above the training loss, and rises while that falls."""
    if look.case.validation is None:
        return
    copied = look.case.trainable()
    course = [_losses_in_eval(look, copied)]
    for _ in range(ROUNDS):
        copied.train(look.case.batches, look.case.steps)
        course.append(_losses_in_eval(look, copied))
        if not all(map(math.isfinite, course[-1])):
            return
        lowest = min(validation for _, validation in course)
        loss, validation = course[-1]
        risen = validation > OVERFITTED * loss and validation > RISEN * lowest
        if (risen or _always_apart(course)) and validation > LEARNED * baseline(look):
            yield _overfitted(look, loss, validation, lowest)
            return


ROUNDS = 10
"""Limit: how many times `steps` steps are trained to compare the two losses."""
OVERFITTED, RISEN = 1.5, 1.2
"""Thresholds: validation loss by training loss, and by its lowest."""


def _always_apart(course: list[tuple[float, float]]) -> bool:
    """Whether a net that was trained before has long fitted the training data alone."""
    loss, validation = course[0]
    return len(course) > 3 and validation > 4 * loss and course[-1][1] > 0.9 * validation


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
    code = "# early stopping"
    groups = look.case.optimizer.param_groups if look.case.optimizer is not None else ()
    if groups and "weight_decay" in groups[0]:
        code = 'for group in optimizer.param_groups:\n    group["weight_decay"] = 0.01'
    return Found("", evidence, code)
