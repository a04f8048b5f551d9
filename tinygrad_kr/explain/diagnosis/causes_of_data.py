"""Causes that inspection finds in data and shapes: certain where they are found."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr import nn
from tinygrad_kr.explain.diagnosis.evidence import values_of
from tinygrad_kr.explain.diagnosis.finding import STOPS, Code, Found, kind
from tinygrad_kr.explain.diagnosis.look import Look
from tinygrad_kr.explain.diagnosis.mending import spelled
from tinygrad_kr.explain.diagnosis.step_graph import RANGES, REGRESSION, StepGraph
from tinygrad_kr.language import Text
from tinygrad_kr.ops.node import Node, source_line_of

ANOMALY = "with tk.detect_anomaly():\n    loss_function(model(inputs), targets).backward()"
ELEMENTWISE = {"subtract", "add", "multiply", "divide", "maximum", "minimum", "power", "hypot"}


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
    where = look.on_batch(ANOMALY)
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


BAD_DATA = {
    "inputs": Text(
        "The inputs hold {count} NaNs or infinities: every result of the step becomes NaN.",
        "입력에 NaN 또는 무한대가 {count}개 있습니다. 스텝의 결과가 모두 NaN이 됩니다.",
    ),
    "targets": Text(
        "The targets hold {count} NaNs or infinities: every result of the step becomes NaN.",
        "정답에 NaN 또는 무한대가 {count}개 있습니다. 스텝의 결과가 모두 NaN이 됩니다.",
    ),
}


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
    advice = Text(
        "Leave these rows out, or fill the missing values.",
        "이런 행을 빼거나 빠진 값을 채우세요.",
    )
    evidence = {"count": count, "data": name, "op": name, "line": name}
    return Found("", evidence, code, message=BAD_DATA[name], advice=advice)


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
        "손실은 유한하지만 기울기가 유한하지 않습니다. 파라미터: {name}, 처음 나온 역전파 연산: "
        "{op}, "
        "위치: {line}",
    )
    return Found(
        name.rpartition(".")[0], {"name": name, "op": op, "line": line}, where, None, message
    )


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
    Text(
        "Bring the targets into the range of the loss.", "정답을 손실 함수가 받는 범위에 맞추세요."
    ),
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


def _shifted(look: Look, lowest: float, highest: float, low: float, high: float) -> Code:
    if look.graph is not None and look.graph.number_of_classes() is None:
        change = f"(targets - {lowest:g}) / {highest - lowest:g}"
    elif highest - lowest <= high - low:
        change = f"targets - {lowest:g}"
    else:
        if lowest >= 0:
            return wider(look, int(highest) + 1)
        return last_linear(int(highest - lowest) + 1)
    if look.data.given == "arrays":
        return f"inputs, targets = data\ndata = inputs, {change}"
    return f"data = [(inputs, {change}) for inputs, targets in data]"


def last_linear(outputs: int) -> Text:
    """A comment: which layer the net needs at its end."""
    code = f"# nn.Linear(..., {outputs})"
    return Text(f"{code} at the end of the net", f"{code}: 신경망의 마지막 층")


def wider(look: Look, classes: int) -> Code:
    """Code that puts a linear layer of more outputs at the end of the net."""
    linears = [(path, m) for path, m in look.model.named_modules() if isinstance(m, nn.Linear)]
    path, last = linears[-1] if linears else ("", None)
    if (
        last is None
        or not path
        or look.output is None
        or last.out_features != look.output.shape[-1]
    ):
        return last_linear(classes)
    place = spelled(look.model, path)
    code = f"{place} = nn.Linear({last.in_features}, {classes})"
    op, end = look.last_op
    if end and op in RANGES:
        code = f"{spelled(look.model, end)} = nn.Identity()\n{code}"
    if look.case.optimizer is not None:
        code += f'\noptimizer.add_param_group({{"params": [*{place}.parameters()]}})'
    return code


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
        sides = [getattr(values_of(x), "shape", ()) for x in node._inputs or ()]
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
    return look.on_batch("print(model(inputs).shape, targets.shape)")


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
        column &= all(user._op.__name__ in REGRESSION for user in graph.consumers.get(id(node), ()))
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
