"""What a Monitor warns of: the texts, the thresholds, and the judgement of one sample."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from tinygrad_kr.explain.monitoring.activity import (
    Activation,
    Activity,
    Layer,
    origin_of,
    saturated_share,
    silent_units,
)
from tinygrad_kr.language import Text
from tinygrad_kr.nn.module import Module
from tinygrad_kr.ops.node import Node, user_frame

VANISHED, EXPLODED = 1e-4, 1e4
"""Thresholds: the gradient of a layer by that of a later one, root mean squares of elements."""
DEAD, SATURATED = 0.75, 0.9
"""Thresholds: shares of dead units, and of values at which a hidden sigmoid or tanh is flat."""
EXAMPLES = 200
"""A unit is dead if this many examples in a row, or all that there are, leave it at 0."""
FEW, MANY = 4, 32
"""Sizes of a batch: below the first, one batch shows no dead layer; below the second, units that
are 0 for every example are common in sound nets, so only a layer without another unit counts."""
LARGE_UPDATE = 1.0
"""Threshold: an update by the weights that it changes, in two samples in a row."""

SINCE = Text("{what} since step {step}", "{what}: {step}번째 스텝부터")
FROM_LINE = Text(
    ", from {op} in {function}, {line}", ", {function} 함수의 {op} 연산에서 시작, {line}"
)
FROM_LAYER = Text(
    ", from {op} in layer {layer}, backward() in {line}",
    ", 층 {layer}의 {op} 연산에서 시작, backward()의 위치 {line}",
)
FROM_OP = Text(
    ", from {op}, backward() in {line}", ", {op} 연산에서 시작, backward()의 위치 {line}"
)
FROM_PARAMETER = Text(
    ": the parameter {name} has not been finite since the update before",
    ": 바로 앞 스텝의 갱신 뒤로 파라미터 {name}의 값이 유한하지 않음",
)
FROM_DATA = Text(": the data are not finite", ": 데이터에 유한하지 않은 값이 있음")
UNKNOWN = Text(
    ". For the op, watch the function as written: monitor.watch(step.function)",
    ". 어느 연산인지 알려면 원래 함수를 지켜볼 것: monitor.watch(step.function)",
)
INFINITY = Text("infinite loss", "무한대 손실")
WHOLE = Text("the model", "모델")
LAYER, LAYERS = Text("layer {names}", "층 {names}"), Text("layers {names}", "층 {names}")

KINDS: dict[str, Text] = {
    "vanishing_gradient": Text(
        "vanishing gradient at step {step}: an element of {layers} has {ratio:.1g} of the "
        "gradient of one of {other}",
        "기울기 소실, {step}번째 스텝: {layers}, 가중치당 기울기가 {other}의 {ratio:.1g}배",
    ),
    "exploding_gradient": Text(
        "exploding gradient at step {step}: an element of {layers} has {ratio:.1g} times the "
        "gradient of one of {other}",
        "기울기 폭발, {step}번째 스텝: {layers}, 가중치당 기울기가 {other}의 {ratio:.1g}배",
    ),
    "zero_gradient": Text(
        "zero gradient at step {step}: that of {layers} is exactly 0, so there is no learning",
        "기울기 0, {step}번째 스텝: {layers}의 기울기가 정확히 0이어서 학습되지 않음",
    ),
    "dead_units": Text(
        "dead units at step {step}: {share:.0%} of the ReLU units of {layers} are 0 for every "
        "example",
        "죽은 유닛, {step}번째 스텝: {layers}, 모든 예제에서 0인 ReLU 유닛 {share:.0%}",
    ),
    "saturated_units": Text(
        "saturated units at step {step}: {share:.0%} of the values of {layers} lie where the "
        "{function} is flat",
        "포화된 유닛, {step}번째 스텝: {layers}, {function}의 평평한 구간에 있는 값 {share:.0%}",
    ),
    "learning_rate_too_high": Text(
        "learning rate too high at step {step}: an update of {layers} is {ratio:.1f} times as "
        "large as its weights",
        "너무 높은 학습률, {step}번째 스텝: {layers}의 갱신이 가중치 크기의 {ratio:.1f}배",
    ),
    "gradients_not_cleared": Text(
        "gradients not cleared at step {step}: backward() adds to those of the step before. Call "
        "optimizer.zero_grad() in each step",
        "지우지 않은 기울기, {step}번째 스텝: backward()가 앞 스텝의 기울기에 새 기울기를 더함. "
        "스텝마다 optimizer.zero_grad()를 호출할 것",
    ),
    "nothing_seen": Text(
        "nothing seen until step {step}: backward() of this model ran in no step. Wrap a compiled "
        "step: step = monitor.watch(step); give tk.fit compile=False",
        "{step}번째 스텝까지 이 모델의 backward()가 보이지 않음. 컴파일한 스텝은 감쌀 것: "
        "step = monitor.watch(step). tk.fit에는 compile=False를 줄 것",
    ),
}


class MonitorWarning(UserWarning):
    """A training goes wrong, says a `Monitor`; a UserWarning.

    >>> import warnings
    >>> warnings.simplefilter("error", tk.MonitorWarning)  # stop there
    >>> warnings.simplefilter("default", tk.MonitorWarning)
    """


class Verdict(NamedTuple):
    """Something that is wrong: a kind, the path of a layer, and the values of the kind's text."""

    kind: str
    layer: str
    values: dict[str, Any]

    def text(self, step: int, layers: list[str]) -> Text:
        """The warning. layers: all of which it is true."""
        return KINDS[self.kind].filled(step=step, layers=named(*layers), **self.values)


def named(*layers: str) -> Text:
    """Layers in a text."""
    text = LAYER if len(layers) == 1 else LAYERS
    return text.filled(names=", ".join(layers)) if all(layers) else WHOLE


def norm(arrays: Sequence[Any]) -> float:
    """The Euclidean norm of all elements."""
    wide = (a.astype(np.float32) if a.dtype == np.float16 else a for a in arrays)
    return math.sqrt(sum(float(np.vdot(a, a)) for a in wide))


def finite(x: float) -> float | None:
    """A number as JSON holds it: None for one that is not finite."""
    return x if math.isfinite(x) else None


class Judge:
    """Measures and judges the samples of one training, in turn."""

    def __init__(self, layers: list[Layer]) -> None:
        self._layers = layers
        self._silent_for: dict[str, ndarray] = {}
        """For how many examples in a row each unit of a layer was silent."""
        self._examples: dict[str, int] = {}
        self._large: set[str] = set()
        """Layers whose last update was large."""
        self._judged = 0

    def measure(self, activity: Activity, before: list[list[ndarray]]) -> dict[str, Any]:
        """The numbers of one sample. before: the parameters of each layer before the update."""
        norms: dict[str, Any] = {}
        ratios: dict[str, Any] = {}
        for layer, olds in zip(self._layers, before, strict=True):
            gradients = [p._grad._data for p in layer.parameters if p._grad is not None]
            norms[layer.path] = finite(norm(gradients)) if gradients else None
            size = norm(olds)
            news = (p._data for p in layer.parameters)
            update = norm([new - old for new, old in zip(news, olds, strict=True)])
            ratios[layer.path] = finite(update / size) if size > 0 else None
        dead: dict[str, float] = {}
        saturated: dict[str, float] = {}
        for one in activity.activations:
            if (silent := silent_units(one)) is not None:
                dead[one.layer] = self._dead_share(one.layer, silent, len(one.values))
            if (share := saturated_share(one)) is not None:
                saturated[one.layer] = share
        numbers = (norms, ratios, dead, saturated)
        return dict(zip(QUANTITIES, numbers, strict=True))

    def _dead_share(self, layer: str, silent: ndarray, examples: int) -> float:
        """The share of units that the last `EXAMPLES` examples left at 0."""
        before = self._silent_for.get(layer)
        if before is None or before.shape != silent.shape:
            before = np.zeros(silent.shape, np.int64)
            self._examples[layer] = 0
        now = self._silent_for[layer] = np.where(silent, before + examples, 0)
        self._examples[layer] += examples
        return float((now >= min(EXAMPLES, self._examples[layer])).mean())

    def verdicts(self, sample: dict[str, Any], activity: Activity) -> Iterator[Verdict]:
        """What is wrong in a sample. That a dead layer stops all gradients is no second finding."""
        closed = False
        for one in activity.activations:
            dead = sample["dead"].get(one.layer, 0.0)
            closed |= dead == 1
            if self._are_dead(one, dead):
                yield Verdict("dead_units", one.layer, {"share": dead})
            share = sample["saturated"].get(one.layer, 0.0)
            if share > SATURATED and one.layer.split(" ")[0] != activity.layers[-1]:
                values = {"share": share, "function": one.kind}
                yield Verdict("saturated_units", one.layer, values)
        self._judged += 1
        if not closed:
            yield from self._of_gradients(activity)
        yield from self._of_updates(sample["update_ratio"])

    def _are_dead(self, activation: Activation, share: float) -> bool:
        """Whether a share of silent units is a finding."""
        batch, many = len(activation.values), self._examples.get(activation.layer, 0) >= EXAMPLES
        if share == 1:
            return many or batch >= FEW
        return share > DEAD and many and batch >= MANY

    def _of_gradients(self, activity: Activity) -> Iterator[Verdict]:
        """Compare the gradients of the layers' weights, in the order in which they ran."""
        sizes = self._element_sizes(activity)
        paths = list(sizes)
        for i, path in enumerate(paths):
            later = paths[i + 1 :]
            if sizes[path] == 0:
                if self._judged == 1:  # later a net may have nothing left to learn
                    yield Verdict("zero_gradient", path, {})
            elif later:
                most, least = max(later, key=sizes.__getitem__), min(later, key=sizes.__getitem__)
                if sizes[path] < VANISHED * sizes[most]:
                    values = {"ratio": sizes[path] / sizes[most], "other": named(most)}
                    yield Verdict("vanishing_gradient", path, values)
                elif sizes[path] > EXPLODED * sizes[least] > 0:
                    values = {"ratio": sizes[path] / sizes[least], "other": named(least)}
                    yield Verdict("exploding_gradient", path, values)

    def _element_sizes(self, activity: Activity) -> dict[str, float]:
        """The root mean square of the elements of each weight's gradient."""
        matrices = {layer.path: layer.matrix for layer in self._layers}
        sizes = {}
        for path in activity.layers:
            matrix = matrices.get(path)
            if matrix is not None and matrix._grad is not None:
                size = norm([matrix._grad._data]) / math.sqrt(matrix._data.size or 1)
                if math.isfinite(size):
                    sizes[path] = size
        return sizes

    def _of_updates(self, ratios: dict[str, Any]) -> Iterator[Verdict]:
        for layer in self._layers:
            ratio = ratios[layer.path]
            large = ratio is not None and ratio > LARGE_UPDATE and layer.matrix is not None
            if large and layer.path in self._large:
                yield Verdict("learning_rate_too_high", layer.path, {"ratio": ratio})
            (self._large.add if large else self._large.discard)(layer.path)


QUANTITIES = ("gradient_norm", "update_ratio", "dead", "saturated")
"""What is measured by layer."""


def cause_of_nan(order: list[Node], model: Module) -> Text:
    """From where a loss that is not finite became so, as the end of a sentence."""
    origin = origin_of(order, model)
    if origin.parameter:
        return FROM_PARAMETER.filled(name=origin.parameter)
    if not origin.op:
        return FROM_DATA
    if origin.line:
        return FROM_LINE.filled(op=origin.op, function=origin.function, line=origin.line)
    frame = user_frame()
    line = (
        "?" if frame is None else f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
    )
    if origin.layer:
        return FROM_LAYER.filled(op=origin.op, layer=origin.layer, line=line)
    return FROM_OP.filled(op=origin.op, line=line)


def number(value: Any) -> float:
    """A Tensor of one element, or a number, as a float."""
    return float(value._data.item() if isinstance(value, Node) else value)
