"""Causes in inputs, units and gradients of the first step. Each is confirmed by its remedy.

A symptom may have several causes. So the remedy is made on another copy, which starts from the same
weights, and the finding is named only where the symptom is gone and the copy trains no worse.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygrad_kr.autodiff import gradients
from tinygrad_kr.explain.diagnosis.evidence import Batch, StepError, moments, values_of
from tinygrad_kr.explain.diagnosis.finding import Found, Mend, kind
from tinygrad_kr.explain.diagnosis.look import Look, is_layer
from tinygrad_kr.explain.diagnosis.mending import Remedy, like_tanh, reinitialize, replace
from tinygrad_kr.explain.diagnosis.step_graph import Activation, StepGraph, norm
from tinygrad_kr.explain.diagnosis.trials import (
    as_given,
    graph_after,
    no_worse,
    stays_the_same_for_all,
    trial,
)
from tinygrad_kr.language import Text
from tinygrad_kr.tensor import Tensor

LARGE_INPUT, SMALL_INPUT = 12.0, 0.01
"""Thresholds: root mean square of inputs."""
HUGE_INPUT = 50.0
"""Threshold: root mean square from which inputs need not be shown to train worse."""
OFF_CENTRE = 10.0
"""Threshold: mean of an input by its standard deviation."""
DEAD, DEAD_OF_FEW, FEW = 0.7, 0.95, 32
"""Thresholds: share of a layer's units that are 0 for every row; the same with fewer than 32 rows,
for all of which a sound unit may be 0."""
SATURATED = 0.4
"""Threshold: share of a layer's outputs where the slope is almost 0."""
VANISHED = 5e-5
"""Threshold: norm of the first layer's gradient by that of a random one at the output."""
GONE = 1e-6
"""Threshold: the same, from which a remedy need not be shown to train in these steps."""
EXPLODED = 25.0
"""Threshold: norm of all gradients by that of all parameters."""
GROWN = 20.0
"""Threshold: root mean square of the last layer's output by that of the input, or by 1."""


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
    x = look.data.sample
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
    weights = look.step.weights
    if not all(isinstance(x, Tensor) for x, _ in look.case.batches) or not weights:
        return False
    if weights[0].node._op.__name__ == "getitem":
        return False
    names = {
        node._op.__name__ for node in look.step.model_nodes if node._made < weights[0].node._made
    }
    return not names & {"normalize", "layer_norm", "channel_norm"} and not _scaled_inside(look)


def _scaled_inside(look: Look) -> bool:
    """Whether the first layer reads inputs that the model itself has scaled, as by `x / 255`."""
    given = look.step.data_input(look.step.weights[0].node)
    read, x = values_of(getattr(given, "_data", given)), values_of(look.case.batches[0][0])
    if (
        read is None
        or x is None
        or (read.size == x.size and np.array_equal(read.ravel(), x.ravel()))
    ):
        return False
    size = float(np.sqrt(np.mean(np.square(read, dtype=np.float64))))
    return SMALL_INPUT < size < LARGE_INPUT


def _standardizing(look: Look) -> str:
    axis = "axis=0" if look.data.inputs is not None and look.data.inputs.ndim == 2 else ""
    mean, std = f".mean({axis})", f".std({axis})"
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
        "{layer}: ReLU 유닛의 {percent} %가 모든 입력에서 0입니다. 기울기도 0이므로 죽은 채로 "
        "남습니다.",
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
    remedies = [reinitialize(look.step, look.model)]
    if all(activation.op == "sigmoid" for activation in look.step.hidden):
        remedies.append(like_tanh(look.step, look.model))
    helped = [(trial(look, remedy.mend), remedy) for remedy in remedies if remedy.mend]
    helped = [pair for pair in helped if no_worse(look, pair[0])]
    for _, remedy in sorted(helped, key=lambda pair: pair[0].end):
        after = _shares(look, remedy.mend, saturated_share, ("sigmoid", "tanh"))
        if max((pair[1] for pair in after), default=1.0) < first[1] / 1.4:
            evidence = {"share": first[1], "percent": 100 * first[1], "op": first[0].op}
            yield Found(first[0].layer, evidence, remedy.code, remedy.mend)
            return


# ------------------------------------------------------------------ gradients


@kind(
    Text(
        "{layer}: the gradient vanishes on the way back. Its norm is {gradient} in this layer and "
        "{largest} where it is largest, {ratio} of that.",
        "{layer}: 기울기 소실. 이 층의 기울기 노름: {gradient}, 가장 큰 층의 노름: {largest}, "
        "비율: {ratio}.",
    ),
    Text(
        "Use tanh or ReLU with weights by Xavier or He, so that slopes do not multiply to 0.",
        "기울기의 곱이 0으로 가지 않도록 tanh나 ReLU를 Xavier 또는 He 초기화와 함께 쓰세요.",
    ),
)
def vanishing_gradient(look: Look) -> Iterator[Found]:
    """Of a random gradient at the output, hardly anything comes back to the first layer.

    It is random because the gradient of a loss may happen to be small.
    """
    ratio = gradient_ratio(look.step)
    if ratio is None or ratio >= VANISHED or (ratio == 0 and _comes_back(look)):
        return
    tried = [(remedy, _ratio_after(look, remedy)) for remedy in _against_vanishing(look)]
    healing = [pair for pair in tried if pair[1] > max(10 * ratio, 5 * VANISHED)]
    training = (pair for pair in healing if no_worse(look, trial(look, pair[0].mend)))
    chosen = next(training, healing[0] if healing and ratio < GONE else None)
    if chosen is not None:
        (remedy, healed), first, largest = chosen, _first(look.step), look.step.largest_gradient
        evidence = {
            "gradient": first.norm, "largest": largest, "ratio": first.norm / largest,
            "came_back": ratio, "came_back_after_remedy": healed,
            "layers": len(look.step.products),
        }  # fmt: skip
        yield Found(first.layer, evidence, remedy.code, remedy.mend)


def _ratio_after(look: Look, remedy: Remedy) -> float:
    """The `gradient_ratio` after a remedy; 0 where there is none."""
    after = graph_after(look, remedy.mend)
    return 0.0 if after is None else gradient_ratio(after) or 0.0


def _comes_back(look: Look) -> bool:
    """Whether a gradient of 0 is another after a step: it was that of one layer of zeros."""
    copied, batch = look.case.trainable(), look.case.batches[0]
    try:
        copied.step(batch)
        ratio = gradient_ratio(StepGraph(copied, batch))
    except StepError:
        return False
    return ratio is not None and ratio >= VANISHED


def _first(graph: StepGraph) -> Any:
    weights = [w for w in graph.weights if w.node._op.__name__ != "getitem"]
    return (weights or graph.weights)[0]


def gradient_ratio(graph: StepGraph) -> float | None:
    """The norm of the first layer's gradient by that of a random gradient at the output.

    By the largest norm of a parameter's gradient, if that is larger. None for fewer than 3 weights.
    """
    output = graph.main_output
    if len(graph.weights) < 3 or output is None or output._op is None:
        return None
    noise = np.random.default_rng(0).standard_normal(output.shape).astype(output.dtype)
    weights = [weight.parameter for weight in graph.weights]
    found = gradients(output, weights, noise, retain_graph=True, allow_unused=True)
    norms = [0.0 if g is None else norm(g.data) for g in found]
    first = next(i for i, w in enumerate(graph.weights) if w is _first(graph))
    return norms[first] / max(norm(noise), *norms)


def _against_vanishing(look: Look) -> Iterator[Remedy]:
    if any(activation.op == "sigmoid" for activation in look.step.hidden):
        modules = _modules(look, "sigmoid", "Sigmoid")
        if modules:
            anew = reinitialize(look.step, look.model, tanh=True)
            yield replace(look.model, modules, "Tanh") + anew
        else:
            yield like_tanh(look.step, look.model)
    yield reinitialize(look.step, look.model)
    modules = _modules(look, "relu", "ReLU")
    if modules:
        anew = reinitialize(look.step, look.model, tanh=True)
        yield replace(look.model, modules, "Tanh") + anew


@kind(
    Text(
        "{layer}: values and gradients explode. The norm of the gradients is {ratio} times that of "
        "the weights; from input to output, values grow {growth} times.",
        "{layer}: 기울기 폭발. 기울기 노름이 가중치 노름의 {ratio}배이고, 값은 입력에서 출력까지 "
        "{growth}배로 커집니다.",
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
    for remedy in (
        reinitialize(look.step, look.model),
        reinitialize(look.step, look.model, small=True),
    ):
        if _calms(look, remedy, ratio, growth):
            size = float(np.mean(look.step.loss.data))
            evidence = {"ratio": ratio, "growth": growth, "loss": size}
            yield Found(_largest_layer(look.step), evidence, remedy.code, remedy.mend)
            return


def _calms(look: Look, remedy: Remedy, ratio: float, growth: float) -> bool:
    """Whether values and gradients are smaller after a remedy, and the copy trains."""
    after = graph_after(look, remedy.mend)
    if after is None:
        return False
    ratio_after, growth_after = explosion(after)
    calmer = ratio_after < ratio / 5 or (growth >= GROWN and growth_after < growth / 5)
    if not calmer:
        return False
    given, mended = as_given(look).end, trial(look, remedy.mend)
    if given == math.inf:
        return mended.end < mended.start
    return mended.end < 0.9 * given


def explosion(graph: StepGraph) -> tuple[float, float]:
    """The norm of the gradients by that of the weights; the growth from input to last layer.

    Both come from products over layers: of one layer alone the first is 0, the second 1.
    """
    ratio = graph.total_gradient / (graph.total_weight or 1.0)
    layers = graph.products
    if not layers:
        return ratio, 1.0
    if len(layers) == 1:
        return 0.0, 1.0
    given = graph.data_input(layers[0].node)
    x = getattr(given, "_data", given)
    size = float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) if x is not None else 1.0
    out = np.sqrt(np.mean(np.square(layers[-1].node._data, dtype=np.float64)))
    return ratio, float(out) / max(size, 1.0)


def _largest_layer(graph: StepGraph) -> str:
    weights = graph.weights
    return max(weights, key=lambda w: w.norm).layer if weights else ""


# ------------------------------------------------------------------ output


@kind(
    Text("The output is {value} for every input.", "어떤 입력에도 출력이 같습니다. 출력: {value}"),
    Text("Look for what ignores its input.", "입력을 무시하는 부분을 찾으세요."),
)
def constant_output(look: Look) -> Iterator[Found]:
    """An output that is the same for all rows, before and after the steps."""
    if _same_for_all(look) and stays_the_same_for_all(look):
        assert look.output is not None
        code = look.on_batch("print(model(inputs))")
        yield Found("", {"value": float(look.output.flat[0])}, code)


def _same_for_all(look: Look) -> bool:
    """Whether all rows of the output are equal, and those of the input are not."""
    inputs, y = values_of(look.case.batches[0][0]), look.output
    if inputs is None or y is None or y.ndim < 1 or len(y) < 2 or len(inputs) != len(y):
        return False
    spread = float(np.abs(y - y[:1]).max())
    return spread == 0.0 and bool((inputs != inputs[:1]).any())
