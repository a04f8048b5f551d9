"""Causes that inspection finds in the model and its optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr import nn
from tinygrad_kr.explain.diagnosis.evidence import StepError
from tinygrad_kr.explain.diagnosis.finding import STOPS, Found, kind
from tinygrad_kr.explain.diagnosis.look import Look
from tinygrad_kr.explain.diagnosis.mending import (
    Remedy,
    activations_behind,
    add_parameters,
    reinitialize,
    spelled,
)
from tinygrad_kr.explain.diagnosis.step_graph import LINEAR_OPS, PRODUCTS, StepGraph, Weight
from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.language import Text
from tinygrad_kr.nn.module import Module
from tinygrad_kr.ops.node import Node
from tinygrad_kr.tensor import Tensor

EQUAL = 1e-6
"""Threshold: units whose weights differ by less, relative to the largest, are equal."""
PASSED = LINEAR_OPS - PRODUCTS
"""Ops between two layers that make no nonlinearity."""


# ------------------------------------------------------------------ initialisation


@kind(
    Text(
        "{layer}: all weights are 0, so the next layer gets the same from every input, and the "
        "gradient dg/dx = w = 0 does not come back.",
        "{layer}: 가중치가 모두 0입니다. 어떤 입력에도 다음 층이 같은 값을 받고, dg/dx = w = 0이라 "
        "기울기가 "
        "되돌아오지 않습니다.",
    ),
    Text(
        "Initialise the weights at random: He before a ReLU, Xavier otherwise.",
        "가중치를 무작위로 초기화하세요. ReLU 앞에는 He, 그 밖에는 Xavier 초기화.",
    ),
)
def zero_initialization(look: Look) -> Iterator[Found]:
    """Weights of 0 in a hidden layer, behind which nothing depends on the input any more."""
    if look.graph is None:
        return
    zero = [weight for weight in look.graph.weights if not weight.parameter.data.any()]
    hidden = [weight for weight in zero if weight is not look.graph.weights[-1]]
    last = look.graph.weights[-1] if look.graph.weights else None
    if hidden and last is not None and _is_same_for_all(look.graph.data_input(last.node)):
        remedy = reinitialize(look.graph, look.model)
        evidence = {"zero_weights": len(zero), "weights": len(look.graph.weights)}
        yield Found(hidden[0].layer, evidence, remedy.code, remedy.mend)


def _is_same_for_all(x: Any) -> bool:
    if isinstance(x, Node) and x._op is not None and _drops(x):
        x = x._inputs[0]  # type: ignore[index]
    y = x._data if isinstance(x, Node) else x
    if not isinstance(y, ndarray) or not y.ndim or len(y) < 2:
        return False
    return float(np.abs(y - y[:1]).max()) <= 1e-7 * max(1.0, float(np.abs(y).max()))


@kind(
    Text(
        "{layer}: {equal} of {units} units have the same weights. They get the same gradients and "
        "stay equal: the layer is as one unit.",
        "{layer}: 유닛 {units}개 중 {equal}개의 가중치가 같습니다. 기울기도 같아서 계속 같은 "
        "값으로 남고, 이 층은 "
        "유닛 하나와 같습니다.",
    ),
    Text(
        "Initialise the weights at random: He before a ReLU, Xavier otherwise.",
        "가중치를 무작위로 초기화하세요. ReLU 앞에는 He, 그 밖에는 Xavier 초기화.",
    ),
)
def symmetric_initialization(look: Look) -> Iterator[Found]:
    """Equal units in a hidden layer."""
    if look.graph is None or "zero_initialization" in look.broken:
        return
    for weight in look.graph.products[:-1]:
        units, equal = _equal_units(weight)
        if units >= 2 and equal > units / 2 and weight.parameter.data.any():
            remedy = reinitialize(look.graph, look.model)
            yield Found(weight.layer, {"equal": equal, "units": units}, remedy.code, remedy.mend)
            return


def _equal_units(weight: Weight) -> tuple[int, int]:
    """The number of units, and the largest number among them with equal weights."""
    w = weight.parameter.data
    turned = weight.node._op.__name__ == "matmul" and w.ndim == 2
    rows = (w.T if turned else w).reshape(w.shape[1] if turned else len(w), -1)
    if rows.shape[1] == 1 and weight.layer:
        return len(rows), 1  # one number a unit may well be equal to another
    near = np.round(rows / (float(np.abs(rows).max()) or 1.0) / EQUAL)
    _, counts = np.unique(near, axis=0, return_counts=True)
    return len(rows), int(counts.max())


# ------------------------------------------------------------------ structure


@kind(
    Text(
        "{layer}: nothing nonlinear stands between this layer and the next, so {layers} layers "
        "compute what one linear layer can.",
        "{layer}: 이 층과 다음 층 사이에 비선형 함수가 없습니다. 층 {layers}개가 선형 층 하나와 "
        "같습니다.",
    ),
    Text("Put an activation between the layers.", "층 사이에 활성화 함수를 넣으세요."),
)
def no_nonlinearity(look: Look) -> Iterator[Found]:
    """A layer that reads another through linear ops alone, unless the first is a bottleneck."""
    if look.graph is None:
        return
    joined = [
        first
        for weight in look.graph.products
        if (first := _read_linearly(look.graph, weight)) is not None
    ]
    if joined or _is_linear(look.graph):
        joined = joined or look.graph.products[:-1]
        places = [path for weight in joined if (path := _module_with(look.model, weight))]
        remedy = activations_behind(look.model, places) if places else Remedy("")
        evidence = {"layers": len(joined) + 1}
        yield Found(joined[0].layer, evidence, remedy.code, remedy.mend)


def _is_linear(graph: StepGraph) -> bool:
    """Whether every layer of several reads the one before through linear ops."""
    layers = graph.products
    nodes = [weight.node for weight in layers]
    chain = [_behind(graph, graph.data_input(node)) for node in nodes[1:]]
    return len(layers) > 1 and all(
        source is node for source, node in zip(chain, nodes[:-1], strict=True)
    )


def _read_linearly(graph: StepGraph, weight: Weight) -> Weight | None:
    """The layer whose output a layer reads through linear ops, where that is of no use."""
    source = _behind(graph, graph.data_input(weight.node))
    first = next((w for w in graph.products if w.node is source), None)
    if _is_recurrent(graph, weight):
        return None
    if first is None or "convolve" in (first.node._op.__name__, weight.node._op.__name__):
        alike = first is not None and first.node._op is weight.node._op
        return first if alike else None
    w, v = first.parameter.shape, weight.parameter.shape
    middle = first.node._data.shape[-1]
    return first if middle >= min(*_sides(w, middle), *_sides(v, middle)) else None


def _is_recurrent(graph: StepGraph, weight: Weight) -> bool:
    """Whether a layer is of an RNN, LSTM or GRU: before these, a linear layer embeds the inputs."""
    module = graph.copied.model.get_submodule(weight.layer)
    return isinstance(module, nn.RNN | nn.LSTM | nn.GRU)


def _behind(graph: StepGraph, x: Any) -> Any:
    """What a chain of linear ops starts from: each reads one value, which no other op reads.

    Batch norm counts as linear, as it is once it has trained; layer norm does not.
    """
    while isinstance(x, Node) and x._op is not None and len(graph.consumers[id(x)]) == 1:
        over_batch = _is_over_batch(x)
        inner = [y for y in x._inputs or () if not graph.is_constant(y)]
        if len(inner) == 2 and _is_mask(inner):
            inner = inner[:1]
        if not (over_batch or x._op.__name__ in PASSED) or len(inner) != 1:
            return x
        x = inner[0]
    return None


def _is_over_batch(x: Node) -> bool:
    """Whether an op is a batch norm."""
    name, params = x._op.__name__, x._params
    if name == "channel_norm":
        return not params["groups"]
    return name == "normalize" and 0 in params["axis"]


def _is_mask(inputs: list[Any]) -> bool:
    """Whether the second input is a dropout mask: 0 or one other number."""
    y = inputs[1]
    return isinstance(y, Node) and y._op is None and len(np.unique(y._data)) <= 2


def _sides(shape: tuple[int, ...], middle: int) -> tuple[int, ...]:
    """The sizes of a weight but the one that it shares with the other layer."""
    rest = list(shape)
    if middle in rest:
        rest.remove(middle)
    return tuple(rest) or (middle,)


def _module_with(model: Module, weight: Weight) -> str:
    """The path of the module that holds a weight and no module; empty where there is none."""
    return (
        weight.layer
        if weight.layer and not list(model.get_submodule(weight.layer).children())
        else ""
    )


# ------------------------------------------------------------------ parameters


@kind(
    Text(
        "{layer}: the loss does not depend on {names}, so the gradient is None and nothing trains "
        "it.",
        "{layer}: 손실이 이 파라미터에 의존하지 않습니다. 기울기가 None이라 학습되지 않습니다: "
        "{names}",
    ),
    Text(
        "Use the layer in forward(), and keep .detach(), .data, .numpy() and no_grad() out of it.",
        "forward()에서 이 층을 쓰고 .detach(), .data, .numpy(), no_grad()를 빼세요.",
    ),
)
def parameter_without_gradient(look: Look) -> Iterator[Found]:
    """Parameters that require a gradient and get none in any batch."""
    if look.error_kind == "parameter_without_gradient":
        evidence = {"error": look.shown_error(), "names": "", "parameters": len(look.case.names)}
        yield Found("", evidence, "", None, STOPS)
        return
    if look.graph is None:
        return
    reached = _reached(look)
    lost = [n for n, p in look.copied.names.items() if p.requires_grad and n not in reached]
    for layer, names in _by_layer(lost).items():
        evidence = {"names": ", ".join(names), "parameters": len(names)}
        yield Found(layer, evidence, f"print({spelled(look.model, names[0])}.grad)")


def _by_layer(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.rpartition(".")[0], []).append(name)
    return found


def _reached(look: Look) -> set[str]:
    """The names of the parameters that have a gradient in one of the first batches."""
    copied, found = look.copied, set()
    by_id = {id(p): name for name, p in copied.names.items()}
    gradients: list[Any] = look.step.gradients
    for batch in [None, *look.case.batches[1:4]]:
        if batch is not None:
            try:
                output, loss = copied.forward(batch)
                gradients = copied.gradients(loss, output)
            except StepError:
                continue
        for p, g in zip(copied.trained(), gradients, strict=True):
            if g is not None and id(p) in by_id:
                found.add(by_id[id(p)])
    return found


@kind(
    Text(
        "{layer}: the optimizer does not have {names}, so a step leaves it as it is.",
        "{layer}: 옵티마이저에 이 파라미터가 없어서 스텝이 값을 바꾸지 않습니다: {names}",
    ),
    Text("Give the parameters to the optimizer.", "파라미터를 옵티마이저에 넣으세요."),
)
def parameter_not_in_optimizer(look: Look) -> Iterator[Found]:
    """Parameters of the model, or modules in plain lists, that no group of the optimizer has."""
    if look.case.optimizer is None:
        return
    held = {id(p) for group in look.case.optimizer.param_groups for p in group["params"]}
    missing = [n for n, p in look.case.names.items() if p.requires_grad and id(p) not in held]
    trained = [n for n, p in look.case.names.items() if p.requires_grad]
    if missing and len(missing) == len(trained):
        yield _missing(look, "", missing)
    else:
        for layer, names in _by_layer(missing).items():
            yield _missing(look, layer, names)
    yield from _in_plain_lists(look)


def _missing(look: Look, layer: str, names: list[str]) -> Found:
    remedy = add_parameters(look.model, names)
    evidence = {"names": ", ".join(names), "parameters": len(names)}
    return Found(layer, evidence, remedy.code, remedy.mend)


def _in_plain_lists(look: Look) -> Iterator[Found]:
    """Modules and parameters in lists and dicts, which are not registered, but which are used."""
    model, graph = look.copied.model, look.graph
    held = {id(p) for group in look.copied.optimizer.param_groups for p in group["params"]}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if type(value) not in (list, dict) or name == "_persistent":
                continue
            members: Iterable[Any] = value.values() if isinstance(value, dict) else value
            lost = [
                p
                for member in members
                if isinstance(member, Module | nn.Parameter)
                for p in (member.parameters() if isinstance(member, Module) else [member])
                if p.requires_grad
                and id(p) not in held
                and (graph is None or id(p) in graph.consumers)
            ]
            known = {id(p) for p in look.copied.names.values()}
            if lost and not known.intersection(map(id, lost)):
                place = f"{path}.{name}" if path else name
                yield _unregistered(look.model, path, place, name, value, len(lost))


def _unregistered(model: Module, path: str, place: str, name: str, value: Any, count: int) -> Found:
    listed = "ModuleList" if any(isinstance(x, Module) for x in value) else "ParameterList"
    kept = "ModuleDict" if isinstance(value, dict) else listed
    holder = spelled(model, path)
    code = (
        f"{holder}.{name} = nn.{kept}({holder}.{name})\n"
        f'optimizer.add_param_group({{"params": [*{holder}.{name}.parameters()]}})'
    )

    def mend(model: Module, optimizer: Any) -> None:
        inside = model.get_submodule(path)
        setattr(inside, name, getattr(nn, kept)(getattr(inside, name)))
        if optimizer is not None:
            optimizer.add_param_group({"params": list(getattr(inside, name).parameters())})

    message = Text(
        "{layer}: a plain {names}, so its {parameters} parameters are not registered: "
        "parameters() does not yield them, and the optimizer does not have them.",
        "{layer}: 파이썬의 {names} 타입이라 파라미터 {parameters}개가 등록되지 않았습니다. "
        "parameters()에 "
        "나오지 않고 옵티마이저에도 없습니다.",
    )
    evidence = {"names": type(value).__name__, "parameters": count}
    return Found(place, evidence, code, mend, message)


# ------------------------------------------------------------------ mode


@kind(
    Text(
        "{layer}: in evaluation mode dropout and batch norm do not train.",
        "{layer}: 평가 모드입니다. 드롭아웃과 배치 정규화가 학습 때처럼 동작하지 않습니다.",
    ),
    Text("Switch to training before the loop.", "학습하기 전에 학습 모드로 바꾸세요."),
)
def wrong_mode(look: Look) -> Iterator[Found]:
    """Evaluation mode where it matters; or a dropout that drops in evaluation mode too."""
    model = look.model
    if not model.training and _mode_matters(look):
        yield Found("", {"modules": len(list(model.modules()))}, "model.train()", _train)
        return
    for path, module in model.named_modules():
        if model.training and not module.training and _wrong_alone(module):
            code = f"{spelled(model, path)}.train()"

            def mend(model: Module, _: Any, path: str = path) -> None:
                model.get_submodule(path).train()

            yield Found(path, {"modules": 1}, code, mend)
    if look.graph is not None:
        yield from _always_dropping(look)


def _train(model: Module, _: Any) -> None:
    model.train()


def _wrong_alone(module: Module) -> bool:
    """Whether one layer in evaluation mode is a mistake, and no frozen batch norm."""
    if isinstance(module, nn.Dropout):
        return module.p > 0
    trained = getattr(module, "num_batches_tracked", None)
    return trained is not None and not np.any(trained.data)


def _mode_matters(look: Look) -> bool:
    """Whether the output in training mode differs from that in evaluation mode."""
    if any(_wrong_alone(module) for module in look.model.modules()):
        return True
    outputs = []
    for mode in (True, False):
        copied = look.case.copy()
        copied.model.train(mode)
        with no_grad():
            try:
                output = copied.forward(look.case.batches[0])[0]
            except StepError:
                return False
        outputs.append(output)
    first, second = outputs
    if not (isinstance(first, Tensor) and isinstance(second, Tensor)):
        return False
    size = float(np.abs(second.data).max()) if second.size else 0.0
    return bool(np.abs(first.data - second.data).max() > 1e-4 * max(size, 1e-6))


def _always_dropping(look: Look) -> Iterator[Found]:
    """A mask of dropout in evaluation mode: F.dropout without `self.training`."""
    copied = look.case.copy()
    copied.model.eval()
    inputs, targets = look.case.batches[0]
    if isinstance(inputs, Tensor) and inputs.dtype.kind == "f":
        inputs = Tensor(inputs.data, requires_grad=True)  # so that dropout of inputs is recorded
    try:
        graph = StepGraph(copied, (inputs, targets))
    except StepError:
        return
    dropped = next((node for node in graph.model_nodes if _drops(node)), None)
    if dropped is not None:
        message = Text(
            "{layer}: dropout drops in evaluation mode too: {percent} % of the values are 0.",
            "{layer}: 평가 모드에서도 드롭아웃이 값의 {percent} %를 0으로 만듭니다.",
        )
        advice = Text(
            "Give F.dropout the mode of the module.", "F.dropout에 모듈의 모드를 넘기세요."
        )
        share = 100 * float((dropped._inputs[1]._data == 0).mean())  # type: ignore[index]
        call = "F.dropout(x, p, self.training)"
        code = Text(f"# in forward(): {call}", f"# forward()에서: {call}")
        path = graph.path_of(dropped)
        yield Found(path, {"percent": share}, code, None, message, advice)


def _drops(node: Node) -> bool:
    """Whether an op multiplies by a mask of dropout: 0 and one number above 1."""
    inputs = node._inputs or ()
    mask = inputs[1] if node._op.__name__ == "multiply" and len(inputs) == 2 else None
    if not isinstance(mask, Node) or mask._op is not None or mask._data.shape != node._data.shape:
        return False
    found = np.unique(mask._data)
    return len(found) == 2 and found[0] == 0 and found[1] > 1
