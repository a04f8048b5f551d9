"""Causes that inspection finds in the loss and the output: certain where they are found."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.explain.diagnosis.causes_of_data import wider
from tinygrad_kr.explain.diagnosis.finding import STOPS, Code, Found, joined, kind
from tinygrad_kr.explain.diagnosis.look import Look
from tinygrad_kr.explain.diagnosis.mending import replace
from tinygrad_kr.explain.diagnosis.step_graph import PRODUCTS, RANGES, StepGraph, norm
from tinygrad_kr.language import Text
from tinygrad_kr.ops.node import Node

UNREACHED = 0.02
"""Threshold: the part of the targets' variance that an output's range leaves over."""


@kind(
    Text(
        "{layer}: softmax goes into a cross-entropy, which applies softmax itself. Twice, it keeps "
        "the probabilities near 1/{classes} and the gradients small.",
        "{layer}: 소프트맥스의 출력이 교차 엔트로피로 들어갑니다. 교차 엔트로피는 소프트맥스를 "
        "스스로 "
        "적용합니다. 두 번 적용하면 확률이 1/{classes} 근처에 머물고 기울기가 작아집니다.",
    ),
    Text("Give the loss the logits.", "손실 함수에 로짓을 넣으세요."),
)
def softmax_before_cross_entropy(look: Look) -> Iterator[Found]:
    """The input of a cross-entropy, or of a log-softmax, is the output of a softmax."""
    for node in look.graph.loss_nodes if look.graph else ():
        if node._op.__name__ in ("cross_entropy", "log_softmax") and node._inputs:
            source = look.step.before(node._inputs[0])
            classes = node._inputs[0]._data.shape[node._params["axis"]]
            if classes > 1 and source._op is not None and _sums_to_1(node):
                code = _cross_entropy(look, "output" if _is_of_loss(look, source) else "")
                yield _twice(look, source, "Softmax", {"classes": int(classes)}, code)
                return


def _sums_to_1(node: Node) -> bool:
    """Whether the input of a softmax is probabilities: positive, with a sum of 1."""
    x = node._inputs[0]._data  # type: ignore[index]
    total = x.sum(axis=node._params["axis"], dtype=np.float64)
    return bool(x.min() >= 0 and np.abs(total - 1).max() < 1e-4)


def _is_of_loss(look: Look, node: Node) -> bool:
    return node._made > look.step.copied.loss_began


def _cross_entropy(look: Look, logits: str) -> str:
    """Code of a cross-entropy of logits, or without them of probabilities."""
    if logits:
        return f"loss_function = lambda output, targets: F.cross_entropy({logits}, targets)"
    if look.target is not None and look.target.dtype.kind == "f":
        return (
            "loss_function = lambda output, targets: "
            "-(targets * (output + 1e-12).log()).sum(axis=1).mean()"
        )
    return "loss_function = lambda output, targets: F.nll_loss((output + 1e-12).log(), targets)"


@kind(
    Text(
        "{layer}: sigmoid goes into binary cross-entropy with logits, which applies sigmoid "
        "itself. Outputs between 0 and 1 reach probabilities from 0.5 to 0.73 only.",
        "{layer}: 시그모이드의 출력이 로짓을 받는 이진 교차 엔트로피로 들어갑니다. 이 손실은 "
        "시그모이드를 "
        "스스로 적용합니다. 0과 1 사이의 출력으로는 확률이 0.5에서 0.73까지만 됩니다.",
    ),
    Text("Give the loss the logits.", "손실 함수에 로짓을 넣으세요."),
)
def sigmoid_before_bce_with_logits(look: Look) -> Iterator[Found]:
    """The logits of a binary cross-entropy are the output of a sigmoid."""
    for node in look.graph.loss_nodes if look.graph else ():
        if node._op.__name__ == "binary_cross_entropy_with_logits" and node._inputs:
            source = look.step.before(node._inputs[0])
            if source._op is not None and look.step.meaning(source) == "sigmoid":
                code = "loss_function = nn.BCELoss()"
                if _is_of_loss(look, source):
                    code = "loss_function = nn.BCEWithLogitsLoss()"
                highest = float(source._data.max())
                yield _twice(look, source, "Sigmoid", {"highest": highest}, code)
                return


def _twice(look: Look, source: Node, name: str, evidence: dict[str, Any], code: str) -> Found:
    """Take out the module that repeats the loss, or choose a loss that does without it.

    A module that is called elsewhere too stays.
    """
    path = look.step.path_of(source)
    alone = path and look.step.calls(path) == 1
    if alone and type(look.model.get_submodule(path)).__name__ == name:
        remedy = replace(look.model, [path], "Identity")
        return Found(path, evidence, remedy.code, remedy.mend)
    return Found(path, evidence, code)


@kind(
    Text(
        "The output ends in {op}, between {low} and {high}: it cannot reach the targets, which run "
        "from {lowest} to {highest}.",
        "출력이 {op} 연산으로 끝나서 {low}부터 {high} 사이의 값만 냅니다. {lowest}부터 "
        "{highest}까지인 정답은 낼 수 없습니다.",
    ),
    Text(
        "End the net in an op that reaches the targets.",
        "정답의 범위를 모두 낼 수 있는 연산으로 끝내세요.",
    ),
)
def output_range(look: Look) -> Iterator[Found]:
    """The last op of the net has a range that leaves targets out."""
    op, path = look.last_op
    ends = RANGES.get(op) or _limits(look)
    if ends is None:
        return
    low, high = ends
    if look.error_kind == "output_range":
        wanted = (0.0, 1.0, "Sigmoid")
    elif look.graph is None:
        return
    else:
        found = _wanted_range(look, op, low, high)
        if found is None:
            return
        wanted = found
    lowest, highest, new = wanted
    evidence = {"op": op, "low": low, "high": high, "lowest": lowest, "highest": highest}
    if path and (look.graph is None or look.graph.calls(path) == 1):
        remedy = replace(look.model, [path], new)
        yield Found(path, evidence, remedy.code, remedy.mend)
    else:
        yield Found("", evidence, _scaled_targets(look, low, high, lowest, highest))


def _limits(look: Look) -> tuple[float, float] | None:
    """The limits of a clip or of an even power at the end of the net."""
    last = look.graph.last if look.graph else None
    if last is None:
        return None
    if last._op.__name__ == "power":
        exponent = (last._inputs or (None, None))[1]
        even = isinstance(exponent, int | float) and exponent > 0 and exponent % 2 == 0
        return (0.0, math.inf) if even else None
    if last._op.__name__ != "clip":
        return None
    low, high = last._params["low"], last._params["high"]
    if np.ndim(low) or np.ndim(high):
        return None
    return (-math.inf if low is None else float(low)), (math.inf if high is None else float(high))


def _wanted_range(look: Look, op: str, low: float, high: float) -> tuple[float, float, str] | None:
    """What targets or logits need, and the module to end with; None where the range will do."""
    ops, targets = look.step.loss_ops, look.counted_targets
    if "binary_cross_entropy_with_logits" in ops and op in ("relu", "tanh", "softplus"):
        return -math.inf, math.inf, "Identity"
    if ops & {"cross_entropy", "log_softmax"} and op in ("sigmoid", "tanh"):
        return -math.inf, math.inf, "Identity"
    if "binary_cross_entropy" in ops and op == "relu":
        return 0.0, 1.0, "Sigmoid"
    if not look.step.is_regression or targets is None or targets.dtype.kind not in "fiu":
        return None
    if look.output is None or targets.shape[1:] != look.output.shape[1:]:
        return None
    x = targets.astype(np.float64)
    left_over = norm(x - np.clip(x, low, high)) ** 2
    if left_over <= UNREACHED * norm(x - x.mean()) ** 2:
        return None
    return float(x.min()), float(x.max()), "Identity"


def _scaled_targets(look: Look, low: float, high: float, lowest: float, highest: float) -> Code:
    if not all(map(math.isfinite, (low, lowest, highest))):
        return Text(
            "# in forward(): return the values before the last activation",
            "# forward()에서: 마지막 활성화 함수를 지나기 전의 값을 돌려줍니다",
        )
    if math.isfinite(high):
        factor = (high - low) / ((highest - lowest) or 1.0)
        change = f"(targets - {lowest:.6g}) * {factor:.6g} + {low:g}"
    else:
        change = f"targets - {lowest - low:.6g}"
    if look.data.given == "arrays":
        return f"inputs, targets = data\ndata = inputs, {change}"
    return f"data = [(inputs, {change}) for inputs, targets in data]"


@kind(
    Text(
        "{layer}: the output is {value} whatever the input is, since a softmax over one unit is "
        "always 1.",
        "{layer}: 유닛 하나에 대한 소프트맥스는 항상 1이므로 입력과 상관없이 출력이 같습니다. "
        "출력: {value}",
    ),
    Text(
        "For two outcomes, one unit needs a sigmoid.",
        "두 가지 결과를 유닛 하나로 나타내려면 시그모이드를 쓰세요.",
    ),
)
def constant_output(look: Look) -> Iterator[Found]:
    """A softmax over one unit, or one output for several classes."""
    if look.error_kind == "constant_output":
        yield Found("", {"value": 1.0, "units": 1}, _one_unit())
        return
    for node in look.graph.nodes if look.graph else ():
        over = node._op.__name__ in ("softmax", "log_softmax", "cross_entropy")
        if over and node._inputs and node._inputs[0]._data.shape[node._params["axis"]] == 1:
            yield _over_one(look, node)
            return


def _over_one(look: Look, node: Node) -> Found:
    path = look.step.path_of(node)
    evidence = {"value": float(node._data.flat[0]), "units": 1}
    if path and type(look.model.get_submodule(path)).__name__ == "Softmax":
        new = "Identity" if _loss_takes_logits(look) else "Sigmoid"
        remedy = replace(look.model, [path], new)
        return Found(path, evidence, remedy.code, remedy.mend)
    if node._op.__name__ == "softmax":
        code = Text(
            "# in forward(): F.sigmoid(z), not softmax",
            "# forward()에서: softmax 대신 F.sigmoid(z)",
        )
        return Found(path, evidence, code)
    return Found(path, evidence, _one_unit())


def _loss_takes_logits(look: Look) -> bool:
    return "binary_cross_entropy_with_logits" in look.step.loss_ops


def _one_unit() -> str:
    return (
        "loss_function = lambda output, targets: F.binary_cross_entropy_with_logits(\n"
        "    output.reshape(-1), targets.reshape(-1).astype(np.float32)\n)"
    )


@kind(
    Text(
        "The targets are the indices of {classes} classes, and the loss takes them for quantities: "
        "class 2 is no nearer to class 3 than to class 0.",
        "정답은 클래스 {classes}개의 번호인데 손실 함수가 이를 양으로 다룹니다. 2번 클래스가 "
        "0번보다 3번에 더 "
        "가까운 것은 아닙니다.",
    ),
    Text("Use the cross-entropy.", "교차 엔트로피를 쓰세요."),
)
def loss_does_not_fit(look: Look) -> Iterator[Found]:
    """A loss of distances on class indices; one-hot rows for indices; probabilities for logits."""
    if look.error_kind == "loss_does_not_fit":
        yield _unfit_error(look)
        return
    graph = look.graph
    if graph is None:
        return
    indices = look.class_indices
    measured = graph.is_regression and _measures(look, graph)
    if measured and indices and not look.are_counts:
        yield Found("", {"classes": indices}, _as_classes(look, indices))
    elif "binary_cross_entropy" in graph.loss_ops and look.last_op[0] in PRODUCTS:
        yield Found("", {"classes": 2}, "loss_function = nn.BCEWithLogitsLoss()", None, LOGITS)
    elif "gather_labels" in graph.loss_ops and "log_softmax" not in graph.loss_ops:
        yield from _nll_of_others(look, graph)


def _measures(look: Look, graph: StepGraph) -> bool:
    """Whether the loss computes with the targets, and does not index by them."""
    known = np.unique(look.target) if look.target is not None else None
    for node in graph.loss_nodes:
        for x in node._inputs or ():
            y = x._data if isinstance(x, Node) and x._op is None else x
            if isinstance(y, ndarray) and known is not None and np.array_equal(np.unique(y), known):
                return True
    return False


LOGITS = Text(
    "The net ends in a linear layer, and the loss takes its outputs for probabilities. It raises "
    "as "
    "soon as one leaves the range from 0 to 1.",
    "신경망이 선형 층으로 끝나는데 손실 함수는 그 출력을 확률로 받습니다. 출력이 0과 1 사이를 "
    "벗어나는 순간 오류가 "
    "납니다.",
)


def _as_classes(look: Look, classes: int) -> Code:
    output = look.output
    loss = (
        "loss_function = lambda output, targets: "
        "F.cross_entropy(output, targets.reshape(-1).astype(np.int64))"
    )
    if output is not None and output.ndim > 1 and output.shape[1] >= classes:
        return loss
    return joined(wider(look, classes), loss)


def _unfit_error(look: Look) -> Found:
    assert look.error is not None
    text, output, target = str(look.error.cause), look.output, look.target
    evidence: dict[str, Any] = {"error": look.shown_error(), "classes": look.class_indices or 0}
    code: Code = look.on_batch("print(model(inputs).dtype, targets.dtype)")
    advice = Text("Choose the loss for these targets.", "이런 정답에 맞는 손실 함수를 고르세요.")
    if "gradient=" in text:
        code = (
            "each = loss_function\n"
            "loss_function = lambda output, targets: each(output, targets).mean()"
        )
        advice = Text("Reduce the loss to one number.", "손실을 수 하나로 줄이세요.")
    elif "probabilities in [0, 1]" in text:
        code = "loss_function = nn.BCEWithLogitsLoss()"
        advice = Text(
            "These are logits: use the loss for logits.",
            "이 값은 로짓이므로 로짓을 받는 손실을 쓰세요.",
        )
    elif output is not None and target is not None:
        code = _labels_code(look, output, target) or code
    return Found("", evidence, code, None, STOPS, advice)


def _labels_code(look: Look, output: ndarray, target: ndarray) -> Code:
    if target.shape == output.shape and output.ndim > 1 and output.shape[1] > 1:
        return (
            "loss_function = lambda output, targets: "
            "F.cross_entropy(output, targets.argmax(axis=1))"
        )
    if target.size == len(output) and output.ndim > 1:
        return _as_classes(look, look.class_indices or output.shape[1])
    return ""


def _nll_of_others(look: Look, graph: StepGraph) -> Iterator[Found]:
    """Negative log-likelihood of what is no log-probability: positive, or no sum of 1."""
    node = next(node for node in graph.loss_nodes if node._op.__name__ == "gather_labels")
    x = node._inputs[0]._data.astype(np.float64)  # type: ignore[index]
    total = np.exp(np.clip(x, -700, 700)).sum(axis=node._params["axis"])
    off = float(np.abs(total - 1).max())
    if off < 0.01:
        return
    message = Text(
        "The negative log-likelihood takes log-probabilities, whose exponentials sum to 1. Here "
        "they are off by {off}.",
        "음의 로그 가능도는 로그 확률을 받습니다. 로그 확률의 지수를 더하면 1입니다. 여기서는 "
        "{off}만큼 "
        "다릅니다.",
    )
    probabilities = (
        x.min() >= 0 and float(np.abs(x.sum(axis=node._params["axis"]) - 1).max()) < 0.01
    )
    code = "loss_function = nn.CrossEntropyLoss()"
    if probabilities:
        code = "loss_function = lambda output, targets: F.nll_loss((output + 1e-12).log(), targets)"
    yield Found("", {"off": off}, code, None, message)
