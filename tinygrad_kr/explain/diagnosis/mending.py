"""Remedies: code that can be pasted, and the same change as a function."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tinygrad_kr import nn
from tinygrad_kr.explain.diagnosis.finding import Mend
from tinygrad_kr.explain.diagnosis.step_graph import StepGraph, Weight
from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.nn import init
from tinygrad_kr.nn.containers import ModuleList, Sequential
from tinygrad_kr.nn.module import Module


class Remedy(NamedTuple):
    """Code, and what it does to a model and its optimizer; None where it is not of the model."""

    code: str
    mend: Mend | None = None

    def __add__(self, other: Any) -> Remedy:
        """Both, one after the other."""
        first, second = self.mend, other.mend

        def both(model: Module, optimizer: Any) -> None:
            for mend in (first, second):
                if mend is not None:
                    mend(model, optimizer)

        code = "\n".join(part for part in (self.code, other.code) if part)
        return Remedy(code, both if first or second else None)


NOTHING = Remedy("")


def spelled(model: Module, path: str) -> str:
    """The expression for a module or parameter at a path: `model.layers[2].weight`."""
    text, module = "model", model
    for name in path.split(".") if path else ():
        numbered = isinstance(module, Sequential | ModuleList) and name.isdigit()
        text += f"[{name}]" if numbered else f".{name}"
        module = getattr(module, name)
    return text


def tuple_of(items: Sequence[str]) -> str:
    """The code of a tuple."""
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"


NUMBER = re.compile(r"\[(\d+)\](?=[^\[\]]*$)")
"""The last number in brackets."""


def counted(places: Sequence[str]) -> tuple[str, str] | None:
    """`("range(0, 5, 2)", "model[i].bias")` for the `model[0].bias`, `model[2].bias`, ...

    None for fewer than three places, or for others.
    """
    found = [NUMBER.search(place) for place in places]
    numbers = [int(match[1]) for match in found if match]
    spellings = {NUMBER.sub("[i]", place) for place in places}
    if len(numbers) < 3 or len(numbers) < len(places) or len(spellings) > 1:
        return None
    step = numbers[1] - numbers[0] or 1
    loop = range(numbers[0], numbers[-1] + (1 if step > 0 else -1), step)
    return (repr(loop), spellings.pop()) if list(loop) == numbers else None


# ------------------------------------------------------------------ weights

MANY_USES = 3
"""Threshold: uses of a weight in a step, above which it is one of a recurrence."""
RELUS = {"relu", "relu6", "gelu", "maximum", "where_or_zero"}


def reinitialize(
    graph: StepGraph, model: Module, tanh: bool = False, small: bool = False
) -> Remedy:
    """Every weight by He (before a ReLU) or Xavier (before anything else), every bias 0.

    tanh: Xavier for all. small: Xavier with a gain of 0.3 for all, for values that add up from
    block to block.
    """
    weights = graph.weights
    by_rule: dict[str, list[str]] = {}
    for weight in weights:
        rule = SMALL if small else _rule(graph, weight, tanh)
        by_rule.setdefault(rule, []).append(weight.name)
    remedy = NOTHING
    for rule, names in by_rule.items():
        remedy += _loop("weight", rule, names, model)
    held = {name.rpartition(".")[0] for names in by_rule.values() for name in names}
    biases = [
        name
        for name, p in graph.copied.names.items()
        if p.ndim == 1 and name.rpartition(".")[0] in held and "bias" in name.rpartition(".")[2]
    ]
    return remedy + _loop("bias", "nn.init.zeros_({})", biases, model) if biases else remedy


def _rule(graph: StepGraph, weight: Weight, tanh: bool) -> str:
    name, inputs = weight.node._op.__name__, weight.node._inputs or ()
    if name == "getitem":
        return "nn.init.normal_({})"
    if name.endswith("_scan") or len(graph.consumers.get(id(weight.parameter), [])) > MANY_USES:
        return "nn.init.orthogonal_({})"
    if not tanh and follows(graph, weight) in RELUS:
        turned = name == "matmul" and len(inputs) > 1 and inputs[1] is weight.parameter
        mode = ', mode="fan_out"' if turned else ""
        return f'nn.init.kaiming_normal_({{}}, nonlinearity="relu"{mode})'
    return "nn.init.xavier_uniform_({})"


def follows(graph: StepGraph, weight: Weight) -> str:
    """The op that a layer's output meets first, besides sums, products and normalisation."""
    node = weight.node
    for _ in range(12):
        further = graph.consumers.get(id(node), [])
        if not further:
            return ""
        known = graph.composite_of.get(id(node))
        if known is not None:
            return known.name
        node = further[0]
        name: str = node._op.__name__
        if name not in _PASSED:
            return name
    return ""


_PASSED = {
    *("add", "multiply", "normalize", "layer_norm", "channel_norm"),
    *("reshape", "max_pool", "sum_pool"),
}
SMALL = "nn.init.xavier_uniform_({}, gain=0.3)"
_RULES: dict[str, Callable[[Any], Any]] = {
    "nn.init.normal_({})": init.normal_,
    "nn.init.zeros_({})": init.zeros_,
    "nn.init.orthogonal_({})": init.orthogonal_,
    "nn.init.xavier_uniform_({})": init.xavier_uniform_,
    SMALL: lambda w: init.xavier_uniform_(w, gain=0.3),
    'nn.init.kaiming_normal_({}, nonlinearity="relu")': lambda w: init.kaiming_normal_(
        w, nonlinearity="relu"
    ),
    'nn.init.kaiming_normal_({}, nonlinearity="relu", mode="fan_out")': lambda w: (
        init.kaiming_normal_(w, nonlinearity="relu", mode="fan_out")
    ),
}


def _loop(variable: str, rule: str, names: Sequence[str], model: Module) -> Remedy:
    places = [spelled(model, name) for name in names]
    if len(places) == 1:
        code = rule.format(places[0])
    elif (loop := counted(places)) is not None:
        code = f"for i in {loop[0]}:\n    {rule.format(loop[1])}"
    else:
        code = f"for {variable} in {tuple_of(places)}:\n    {rule.format(variable)}"

    def mend(model: Module, _: Any) -> None:
        for name in names:
            _RULES[rule](model.get_parameter(name))

    return Remedy(code, mend)


def like_tanh(graph: StepGraph, model: Module) -> Remedy:
    """Start a sigmoid net as the tanh net with Xavier weights that computes the same.

    sigmoid(z) = (1 + tanh(z / 2)) / 2. So weights that read sigmoids are 4 times as large, and each
    bias takes away half of their sum.
    """
    rows: list[tuple[str, str, float, bool]] = []
    for weight in graph.products:
        bias = f"{weight.layer}.bias" if weight.layer else "bias"
        if weight.node._op.__name__ != "linear" or bias not in graph.copied.names:
            return NOTHING
        reads = graph.before(graph.data_input(weight.node))
        read = reads._op is not None and graph.meaning(reads) == "sigmoid"
        gain = (2.0 if read else 1.0) * (2.0 if follows(graph, weight) == "sigmoid" else 1.0)
        rows.append((weight.name, bias, gain, read))
    lines = ["with tk.no_grad():"]
    for name, bias, gain, read in rows:
        w, b = spelled(model, name), spelled(model, bias)
        lines.append(f"    nn.init.xavier_uniform_({w}, gain={gain:g})")
        lines.append(f"    {b}[:] = -{w}.sum(1) / 2" if read else f"    {b}[:] = 0")

    def mend(model: Module, _: Any) -> None:
        with no_grad():
            for name, bias, gain, read in rows:
                w, b = model.get_parameter(name), model.get_parameter(bias)
                init.xavier_uniform_(w, gain=gain)
                b[:] = -w.sum(1) / 2 if read else 0

    return Remedy("\n".join(lines), mend)


# ------------------------------------------------------------------ modules


def replace(model: Module, paths: Sequence[str], new: str) -> Remedy:
    """Put new modules in the places of others. new: a class of `nn` with default arguments."""
    places = [spelled(model, path) for path in paths]
    if (loop := counted(places)) is not None:
        code = f"for i in {loop[0]}:\n    {loop[1]} = nn.{new}()"
    else:
        code = "\n".join(f"{place} = nn.{new}()" for place in places)

    def mend(model: Module, _: Any) -> None:
        for path in paths:
            holder, _, name = path.rpartition(".")
            setattr(model.get_submodule(holder), name, getattr(nn, new)())

    return Remedy(code, mend)


def activations_behind(model: Module, paths: Sequence[str]) -> Remedy:
    """A ReLU behind each of the modules."""
    remedy = NOTHING
    for path in reversed(paths):  # from the end: the numbers before it stay
        holder, _, name = path.rpartition(".")
        inside = isinstance(model.get_submodule(holder), Sequential) and name.isdigit()
        remedy += _inserted(model, holder, int(name)) if inside else _wrapped(model, path)
    loop = counted([spelled(model, path) for path in reversed(paths)])
    if loop is not None and loop[1].endswith("[i]") and ".insert(" in remedy.code:
        code = f"for i in {loop[0]}:\n    {loop[1][:-3]}.insert(i + 1, nn.ReLU())"
        return remedy._replace(code=code)
    return remedy


def _inserted(model: Module, holder: str, index: int) -> Remedy:
    def mend(model: Module, _: Any) -> None:
        inside: Any = model.get_submodule(holder)
        inside.insert(index + 1, nn.ReLU())

    return Remedy(f"{spelled(model, holder)}.insert({index + 1}, nn.ReLU())", mend)


def _wrapped(model: Module, path: str) -> Remedy:
    place = spelled(model, path)

    def mend(model: Module, _: Any) -> None:
        holder, _, name = path.rpartition(".")
        inside = model.get_submodule(holder)
        setattr(inside, name, Sequential(getattr(inside, name), nn.ReLU()))

    return Remedy(f"{place} = nn.Sequential({place}, nn.ReLU())", mend)


# ------------------------------------------------------------------ the optimizer


def rates(optimizer: Any, factor: float) -> Remedy:
    """Multiply the learning rates; the results are rounded to three digits."""
    values = {group["lr"] for group in optimizer.param_groups}

    def mend(_: Module, optimizer: Any) -> None:
        if optimizer is None:
            raise ValueError(
                "apply: expected the optimizer, whose learning rate is changed, got none. "
                "Write apply(model, optimizer)"
            )
        for group in optimizer.param_groups:
            group["lr"] = _rounded(group["lr"] * factor)

    one = len(values) == 1
    change = f"= {_rounded(values.pop() * factor)}" if one else f"*= {factor:g}"
    return Remedy(f'for group in optimizer.param_groups:\n    group["lr"] {change}', mend)


def _rounded(rate: float) -> float:
    return float(f"{rate:.3g}")


def add_parameters(model: Module, names: Sequence[str]) -> Remedy:
    """Give parameters to the optimizer."""
    places = ", ".join(spelled(model, name) for name in names)

    def mend(model: Module, optimizer: Any) -> None:
        if optimizer is None:
            raise ValueError(
                "apply: expected the optimizer, which lacks parameters, got none. "
                "Write apply(model, optimizer)"
            )
        optimizer.add_param_group({"params": [model.get_parameter(name) for name in names]})

    return Remedy(f'optimizer.add_param_group({{"params": [{places}]}})', mend)
