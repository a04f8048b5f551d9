"""Causes that inspection finds in data, loss and output: certain where they are found."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr import nn
from tinygrad_kr.explain.evidence import values_of
from tinygrad_kr.explain.finding import STOPS, Found, kind
from tinygrad_kr.explain.look import Look
from tinygrad_kr.explain.mending import replace, spelled
from tinygrad_kr.explain.step_graph import RANGES, StepGraph, norm
from tinygrad_kr.language import Text
from tinygrad_kr.ops.node import Node, source_line_of

ELEMENTWISE = {"subtract", "add", "multiply", "divide", "maximum", "minimum", "power", "hypot"}
UNREACHED = 0.02
"""Threshold: the part of the targets' variance that an output's range leaves over."""


@kind(
    Text(
        "A NaN or an infinity appears in the first step: first in {op}, at {line}.",
        "첫 스텝에서 NaN 또는 무한대가 나옵니다. 처음 나온 연산: {op}, 위치: {line}",
    ),
    Text(
        "Keep the input of {op} inside its domain, for example log(x + 1e-7).",
        "연산의 입력이 정의역을 벗어나지 않게 하세요. 예를 들어 log(x + 1e-7). 연산: {op}",
    ),
)
def nan_or_infinity(look: Look) -> Iterator[Found]:
    """The data, the first op of the forward pass, or the backward pass."""
    where = "with tk.detect_anomaly():\n    loss_function(model(inputs), targets).backward()"
    for name, values in (("inputs", look.data.inputs), ("targets", look.data.targets)):
        if values is not None and values.dtype.kind == "f" and not np.isfinite(values).all():
            yield _bad_data(look, name, values)
            return
    if look.error_kind == "nan_or_infinity":
        yield Found("", {"error": look.shown_error(), "op": "", "line": ""}, where, message=STOPS)
        return
    if look.graph is None:
        return
    bad = [name for name, p in look.case.names.items() if not np.isfinite(p.data).all()]
    if bad:
        yield _bad_parameters(look, bad)
        return
    node = look.graph.first_not_finite()
    if node is not None:
        line, layer = source_line_of(node).partition(" (`with")[0], look.graph.path_of(node)
        yield Found(layer, {"op": node._op.__name__, "line": line}, where)
        return
    for p, g in zip(look.graph.copied.trained(), look.graph.gradients, strict=True):
        if g is not None and not np.isfinite(g.data).all():
            yield _bad_gradient(look, p, where)
            return


def _bad_data(look: Look, name: str, values: ndarray) -> Found:
    count = int((~np.isfinite(values)).sum())
    if look.data.given == "arrays":
        code = (
            "inputs, targets = data\nrows = np.isfinite(np.asarray(inputs)).reshape(len(inputs), "
            "-1).all(axis=1)\nrows &= np.isfinite(np.asarray(targets)).reshape(len(targets), "
            "-1).all(axis=1)\ndata = inputs[rows], targets[rows]"
        )
    else:
        code = (
            "data = [(x, y) for x, y in data if np.isfinite(np.asarray(x)).all() "
            "and np.isfinite(np.asarray(y)).all()]"
        )
    message = Text(
        "The {data} hold {count} NaNs or infinities: every result of the step becomes NaN.",
        "데이터에 NaN 또는 무한대가 {count}개 있습니다. 스텝의 결과가 모두 NaN이 됩니다. 위치: {data}",
    )
    advice = Text(
        "Leave these rows out, or fill the missing values.",
        "이런 행을 빼거나 빠진 값을 채우세요.",
    )
    evidence = {"count": count, "data": name, "op": name, "line": name}
    return Found("", evidence, code, message=message, advice=advice)


def _bad_parameters(look: Look, names: list[str]) -> Found:
    message = Text(
        "The parameter {name} holds a NaN or an infinity before the first step.",
        "첫 스텝 전부터 파라미터에 NaN 또는 무한대가 있습니다: {name}",
    )
    advice = Text("Initialise it anew.", "다시 초기화하세요.")
    remedy = "\n".join(f"nn.init.normal_({spelled(look.model, name)}, std=0.05)" for name in names)
    evidence = {"name": names[0], "count": len(names), "op": names[0], "line": names[0]}
    return Found(names[0].rpartition(".")[0], evidence, remedy, None, message, advice)


def _bad_gradient(look: Look, parameter: Any, where: str) -> Found:
    name = next((n for n, p in look.copied.names.items() if p is parameter), "")
    op, line = _op_of_backward(look)
    message = Text(
        "The loss is finite, but the gradient of {name} is not: first in the backward of {op}, "
        "recorded at {line}.",
        "손실은 유한하지만 기울기가 유한하지 않습니다. 파라미터: {name}, 처음 나온 역전파 연산: {op}, "
        "위치: {line}",
    )
    return Found(name.rpartition(".")[0], {"name": name, "op": op, "line": line}, where, None, message)


def _op_of_backward(look: Look) -> tuple[str, str]:
    """The op at whose inputs the derivative is not finite: walked from the loss."""
    from tinygrad_kr.autodiff import gradients

    graph = look.step
    for node in reversed(graph.nodes):
        inputs = [x for x in node._inputs or () if isinstance(x, Node) and x._requires_grad]
        if not inputs:
            continue
        found = gradients(graph.loss, (node, *inputs), retain_graph=True, allow_unused=True)
        if any(g is not None and not np.isfinite(g.data).all() for g in found[1:]):
            return node._op.__name__, source_line_of(node).partition(" (`with")[0]
    return "", ""


# ------------------------------------------------------------------ targets


@kind(
    Text(
        "All {rows} targets are equal: there is nothing to learn.",
        "정답 {rows}개가 모두 같습니다. 배울 것이 없습니다.",
    ),
    Text("Look at how the targets were read.", "정답을 어떻게 읽었는지 확인하세요."),
)
def labels_constant(look: Look) -> Iterator[Found]:
    """Equal targets in all rows."""
    targets = look.counted_targets
    if targets is None or len(targets) < 2:
        return
    first = targets[:1].astype(np.float64)
    spread = float(np.abs(targets - first).max()) if np.isfinite(first).all() else math.nan
    if spread <= 1e-12 * max(1.0, float(np.abs(first).max())):
        code = "print(np.unique(np.asarray(data[1]), return_counts=True))"
        yield Found("", {"rows": len(targets), "value": float(first.flat[0])}, code)


@kind(
    Text(
        "Targets run from {lowest} to {highest}, outside {low} to {high}, the range of the loss.",
        "정답은 {lowest}부터 {highest}까지인데 손실 함수가 받는 범위는 {low}부터 {high}까지입니다.",
    ),
    Text("Bring the targets into the range of the loss.", "정답을 손실 함수의 범위로 옮기세요."),
)
def labels_out_of_range(look: Look) -> Iterator[Found]:
    """Labels of classes that the net does not have, or targets that are no probabilities."""
    targets = look.counted_targets
    if targets is None or not targets.size:
        return
    low, high = _range_of_loss(look)
    lowest, highest = float(targets.min()), float(targets.max())
    if lowest >= low and highest <= high:
        return
    evidence = {
        "lowest": lowest, "highest": highest, "low": low, "high": high,
        "share": float(((targets < low) | (targets > high)).mean()),
    }  # fmt: skip
    yield Found("", evidence, _shifted(look, lowest, highest, low, high))


def _range_of_loss(look: Look) -> tuple[float, float]:
    everything = -math.inf, math.inf
    if look.error_kind == "labels_out_of_range" and look.output is not None:
        return 0.0, float(look.output.shape[min(1, look.output.ndim - 1)] - 1)
    if look.graph is None:
        return everything
    classes = look.graph.number_of_classes()
    if classes is not None:
        same = look.target is not None and look.target.dtype.kind in "iu"
        return (0.0, float(classes - 1)) if same else everything
    if look.graph.loss_ops & {"binary_cross_entropy", "binary_cross_entropy_with_logits"}:
        return 0.0, 1.0
    return everything


def _shifted(look: Look, lowest: float, highest: float, low: float, high: float) -> str:
    if look.graph is not None and look.graph.number_of_classes() is None:
        change = f"(targets - {lowest:g}) / {highest - lowest:g}"
    elif highest - lowest <= high - low:
        change = f"targets - {lowest:g}"
    else:
        if lowest >= 0:
            return _wider(look, int(highest) + 1)
        return f"# nn.Linear(..., {highest - lowest + 1:g}) at the end of the net"
    if look.data.given == "arrays":
        return f"inputs, targets = data\ndata = inputs, {change}"
    return f"data = [(inputs, {change}) for inputs, targets in data]"


# ------------------------------------------------------------------ shapes


@kind(
    Text(
        "The loss compares an output {output} with targets {target}: they broadcast to {result}.",
        "손실이 출력 {output}, 정답 {target} 모양을 비교합니다. 브로드캐스트한 모양: {result}",
    ),
    Text(
        "Give both one shape before they are compared.",
        "비교하기 전에 두 배열을 같은 모양으로 만드세요.",
    ),
)
def shape_broadcast(look: Look) -> Iterator[Found]:
    """An output that a loss widens, or shapes that stop the step."""
    if look.error_kind == "shape_broadcast":
        yield _stopped(look)
        return
    graph = look.graph
    if graph is None:
        return
    node = next((node for node in graph.loss_nodes if _widens(graph, node)), None)
    if node is not None:
        sides = [np.shape(values_of(x)) for x in node._inputs or ()]
        evidence = {"output": sides[0], "target": sides[1], "result": node._data.shape}
        yield Found("", evidence, _reshaped(look))


def _stopped(look: Look) -> Found:
    assert look.error is not None
    path = getattr(look.error.cause, "_module_error_path", None)
    layer = path.path.removeprefix(".") if path is not None and look.error.phase == "model" else ""
    shapes = {
        "output": () if look.output is None else look.output.shape,
        "target": () if look.target is None else look.target.shape,
    }
    code = _reshaped(look) if look.error.phase == "loss" else ""
    return Found(layer, {"error": look.shown_error(), **shapes, "result": ()}, code, message=STOPS)


def _reshaped(look: Look) -> str:
    output, target = look.output, look.target
    if output is not None and target is not None and output.size == target.size:
        return (
            "unshaped = loss_function\n"
            "loss_function = lambda output, targets: "
            "unshaped(output, targets.reshape(output.shape))"
        )
    if output is not None and target is not None and target.size == len(output):
        return (
            "unshaped = loss_function\n"
            "loss_function = lambda output, targets: unshaped(output, targets.reshape(-1))"
        )
    return "print(model(inputs).shape, targets.shape)"


def _widens(graph: StepGraph, node: Node) -> bool:
    """Whether an op of the loss repeats the model's output to fit a constant, by broadcasting."""
    inputs = node._inputs or ()
    if node._op.__name__ not in ELEMENTWISE or len(inputs) != 2:
        return False
    for x, other in (inputs, inputs[::-1]):
        y = values_of(other)
        if not isinstance(x, Node) or x._op is None or y is None or y.size < 2 or x._data.size < 2:
            continue
        if isinstance(other, Node) and other._op is not None:
            continue
        if node._data.size > x._data.size and not _made_to_widen(graph, x, y, node):
            return True
        column = y.ndim == 2 and y.shape[1] == 1 and len(y) == len(node._data) > 1
        if column and x._data.ndim == 2 and x._data.shape[1] > 1 and _is_target(graph, y):
            return True
    return False


def _is_target(graph: StepGraph, y: ndarray) -> bool:
    target = values_of(graph.batch[1])
    return target is not None and target.shape == y.shape and bool((target == y).all())


def _made_to_widen(graph: StepGraph, x: Node, y: ndarray, node: Node) -> bool:
    """Whether the loss itself gave `x` an axis of length 1: then it means to broadcast."""
    outer = x._data.size == y.size and node._data.size == x._data.size * y.size
    of_loss = x._made > graph.copied.loss_began
    reshaped = x._op.__name__ in ("reshape", "getitem", "broadcast_to", "swapaxes")
    return of_loss and reshaped and not outer


# ------------------------------------------------------------------ loss and output


@kind(
    Text(
        "{layer}: softmax goes into a cross-entropy, which applies softmax itself. Twice, it keeps "
        "the probabilities near 1/{classes} and the gradients small.",
        "{layer}: 소프트맥스의 출력이 크로스 엔트로피로 들어갑니다. 크로스 엔트로피는 소프트맥스를 스스로 "
        "적용합니다. 두 번 적용하면 확률이 1/{classes} 근처에 머물고 기울기가 작아집니다.",
    ),
    Text("Give the loss the logits.", "손실 함수에 로짓을 넣으세요."),
)
def softmax_before_cross_entropy(look: Look) -> Iterator[Found]:
    """The input of a cross-entropy, or of a log-softmax, is the output of a softmax."""
    for node in look.graph.loss_nodes if look.graph else ():
        if node._op.__name__ in ("cross_entropy", "log_softmax") and node._inputs:
            source = look.step.before(node._inputs[0])
            if source._op is not None and source._op.__name__ == "softmax":
                if source._data.shape[source._params["axis"]] == 1:
                    return
                classes = node._inputs[0]._data.shape[node._params["axis"]]
                path = look.step.path_of(source)
                yield _twice(look, path, "Softmax", {"classes": int(classes)}, (
                    "loss_function = lambda output, targets: "
                    "F.nll_loss((output + 1e-12).log(), targets)"
                ))  # fmt: skip
                return


@kind(
    Text(
        "{layer}: sigmoid goes into binary cross-entropy with logits, which applies sigmoid "
        "itself. Outputs between 0 and 1 reach probabilities from 0.5 to 0.73 only.",
        "{layer}: 시그모이드의 출력이 로짓을 받는 이진 크로스 엔트로피로 들어갑니다. 이 손실은 시그모이드를 "
        "스스로 적용합니다. 0과 1 사이의 출력으로는 확률이 0.5에서 0.73까지만 됩니다.",
    ),
    Text("Give the loss the logits.", "손실 함수에 로짓을 넣으세요."),
)
def sigmoid_before_bce_with_logits(look: Look) -> Iterator[Found]:
    """The logits of a binary cross-entropy are the output of a sigmoid."""
    for node in look.graph.loss_nodes if look.graph else ():
        if node._op.__name__ == "binary_cross_entropy_with_logits" and node._inputs:
            source = look.step.before(node._inputs[0])
            if source._op is not None and source._op.__name__ == "sigmoid":
                code = "loss_function = nn.BCELoss()"
                path = look.step.path_of(source)
                highest = float(source._data.max())
                yield _twice(look, path, "Sigmoid", {"highest": highest}, code)
                return


def _twice(look: Look, path: str, name: str, evidence: dict[str, Any], code: str) -> Found:
    """Take out the module that repeats the loss, or choose a loss that does without it."""
    if type(look.model.get_submodule(path)).__name__ == name and path:
        remedy = replace(look.model, [path], "Identity")
        return Found(path, evidence, remedy.code, remedy.mend)
    return Found(path, evidence, code)


@kind(
    Text(
        "The output ends in {op}, between {low} and {high}: it cannot reach the targets, which run "
        "from {lowest} to {highest}.",
        "출력이 {op} 연산으로 끝나서 {low}부터 {high} 사이의 값만 냅니다. {lowest}부터 {highest}까지인 "
        "정답에 닿을 수 없습니다.",
    ),
    Text("End the net in an op that reaches the targets.", "정답에 닿는 연산으로 신경망을 끝내세요."),
)
def output_range(look: Look) -> Iterator[Found]:
    """The last op of the net has a range that leaves targets out."""
    op, path = look.last_op
    if op not in RANGES:
        return
    low, high = RANGES[op]
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
    if path:
        remedy = replace(look.model, [path], new)
        yield Found(path, evidence, remedy.code, remedy.mend)
    else:
        yield Found("", evidence, _scaled_targets(look, low, high, lowest, highest))


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


def _scaled_targets(look: Look, low: float, high: float, lowest: float, highest: float) -> str:
    if not all(map(math.isfinite, (low, high, lowest, highest))):
        return "# in forward(): return the values before the last activation"
    factor = (high - low) / ((highest - lowest) or 1.0)
    change = f"(targets - {lowest:.6g}) * {factor:.6g} + {low:g}"
    if look.data.given == "arrays":
        return f"inputs, targets = data\ndata = inputs, {change}"
    return f"data = [(inputs, {change}) for inputs, targets in data]"


@kind(
    Text(
        "{layer}: the output is {value} whatever the input is, since a softmax over one unit is "
        "always 1.",
        "{layer}: 유닛 하나에 대한 소프트맥스는 항상 1이므로 입력과 상관없이 출력이 {value}입니다.",
    ),
    Text(
        "For two outcomes, one unit needs a sigmoid.",
        "두 가지 결과를 유닛 하나로 나타내려면 시그모이드를 쓰세요.",
    ),
)
def constant_output(look: Look) -> Iterator[Found]:
    """A softmax over one unit; or an output that is the same for all rows."""
    if look.error_kind == "constant_output":
        yield Found("", {"value": 1.0, "units": 1}, _one_unit())
        return
    for node in look.graph.nodes if look.graph else ():
        if node._op.__name__ in ("softmax", "log_softmax", "cross_entropy") and node._inputs:
            if node._inputs[0]._data.shape[node._params["axis"]] == 1:
                yield _over_one(look, node)
                return
    if look.graph is not None and _same_for_all(look):
        message = Text(
            "The output is {value} for every input.",
            "어떤 입력에도 출력이 {value}입니다.",
        )
        advice = Text(
            "Look for what ignores its input.", "입력을 무시하는 부분을 찾으세요."
        )
        assert look.output is not None
        value = float(look.output.flat[0])
        yield Found("", {"value": value}, "print(model(inputs))", None, message, advice)


def _over_one(look: Look, node: Node) -> Found:
    path = look.step.path_of(node)
    evidence = {"value": float(node._data.flat[0]), "units": 1}
    if path and type(look.model.get_submodule(path)).__name__ == "Softmax":
        new = "Identity" if _loss_takes_logits(look) else "Sigmoid"
        remedy = replace(look.model, [path], new)
        return Found(path, evidence, remedy.code, remedy.mend)
    if node._op.__name__ == "softmax":
        return Found(path, evidence, "# in forward(): F.sigmoid(z), not softmax")
    return Found(path, evidence, _one_unit())


def _loss_takes_logits(look: Look) -> bool:
    return "binary_cross_entropy_with_logits" in look.step.loss_ops


def _one_unit() -> str:
    return (
        "loss_function = lambda output, targets: F.binary_cross_entropy_with_logits(\n"
        "    output.reshape(-1), targets.reshape(-1).astype(np.float32)\n)"
    )


def _same_for_all(look: Look) -> bool:
    """Whether all rows of the output are equal, and those of the input are not."""
    inputs, y = values_of(look.case.batches[0][0]), look.output
    if inputs is None or y is None or y.ndim < 1 or len(y) < 2 or len(inputs) != len(y):
        return False
    spread = float(np.abs(y - y[:1]).max())
    return spread == 0.0 and bool((inputs != inputs[:1]).any())


@kind(
    Text(
        "The targets are the indices of {classes} classes, and the loss takes them for quantities: "
        "class 2 is no nearer to class 3 than to class 0.",
        "정답은 클래스 {classes}개의 번호인데 손실 함수가 이를 양으로 다룹니다. 2번 클래스가 0번보다 3번에 더 "
        "가까운 것은 아닙니다.",
    ),
    Text("Use the cross-entropy.", "크로스 엔트로피를 쓰세요."),
)
def loss_does_not_fit(look: Look) -> Iterator[Found]:
    """A loss of distances on class indices; one-hot rows for indices; probabilities for logits."""
    if look.error_kind == "loss_does_not_fit":
        yield _unfit_error(look)
        return
    graph = look.graph
    if graph is None:
        return
    if graph.is_regression and look.class_indices:
        yield Found("", {"classes": look.class_indices}, _as_classes(look, look.class_indices))
    elif "gather_labels" in graph.loss_ops and "log_softmax" not in graph.loss_ops:
        yield from _nll_of_others(look, graph)


def _as_classes(look: Look, classes: int) -> str:
    output = look.output
    loss = (
        "loss_function = lambda output, targets: "
        "F.cross_entropy(output, targets.reshape(-1).astype(np.int64))"
    )
    if output is not None and output.ndim > 1 and output.shape[1] >= classes:
        return loss
    return f"{_wider(look, classes)}\n{loss}"


def _wider(look: Look, classes: int) -> str:
    """Code that puts a linear layer of more outputs at the end of the net."""
    linears = [(path, m) for path, m in look.model.named_modules() if isinstance(m, nn.Linear)]
    path, last = linears[-1] if linears else ("", None)
    if last is None or not path or look.output is None or last.out_features != look.output.shape[-1]:
        return f"# nn.Linear(..., {classes}) at the end of the net"
    place = spelled(look.model, path)
    code = f"{place} = nn.Linear({last.in_features}, {classes})"
    op, end = look.last_op
    if end and op in RANGES:
        code = f"{spelled(look.model, end)} = nn.Identity()\n{code}"
    if look.case.optimizer is not None:
        code += f'\noptimizer.add_param_group({{"params": [*{place}.parameters()]}})'
    return code


def _unfit_error(look: Look) -> Found:
    assert look.error is not None
    text, output, target = str(look.error.cause), look.output, look.target
    evidence: dict[str, Any] = {"error": look.shown_error(), "classes": look.class_indices or 0}
    code = "print(model(inputs).dtype, targets.dtype)"
    advice = Text("Choose the loss for these targets.", "이런 정답에 맞는 손실 함수를 고르세요.")
    if "gradient=" in text:
        code = "each = loss_function\nloss_function = lambda output, targets: each(output, targets).mean()"
        advice = Text("Reduce the loss to one number.", "손실을 수 하나로 줄이세요.")
    elif "probabilities in [0, 1]" in text:
        code = "loss_function = nn.BCEWithLogitsLoss()"
        advice = Text(
            "These are logits: use the loss for logits.", "이 값은 로짓이므로 로짓을 받는 손실을 쓰세요."
        )
    elif output is not None and target is not None:
        code = _labels_code(look, output, target) or code
    return Found("", evidence, code, None, STOPS, advice)


def _labels_code(look: Look, output: ndarray, target: ndarray) -> str:
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
        "음의 로그 가능도는 로그 확률을 받습니다. 로그 확률의 지수를 더하면 1입니다. 여기서는 {off}만큼 "
        "다릅니다.",
    )
    probabilities = x.min() >= 0 and float(np.abs(x.sum(axis=node._params["axis"]) - 1).max()) < 0.01
    code = "loss_function = nn.CrossEntropyLoss()"
    if probabilities:
        code = "loss_function = lambda output, targets: F.nll_loss((output + 1e-12).log(), targets)"
    yield Found("", {"off": off}, code, None, message)
