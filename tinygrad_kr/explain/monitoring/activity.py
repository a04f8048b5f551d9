"""What the recorded graph of a loss shows: activations by layer, and the first NaN.

Layers and functions are judged alike. `nn.ReLU()` and `F.relu` both record the op `relu`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from tinygrad_kr.nn.module import Module
from tinygrad_kr.ops.node import PACKAGE, Node, source_line_of
from tinygrad_kr.tensor import Tensor

BINS = 32
"""Bins of a histogram."""
_MOST = 1 << 13
"""Limit: elements that a histogram counts; of more, every n-th."""
_FLAT = 0.01
"""Threshold: a slope below this share of the steepest is that of a saturated unit."""


class Layer(NamedTuple):
    """Parameters that one module holds.

    path: of the module in the model, "" for the model itself.
    """

    path: str
    parameters: tuple[Tensor, ...]

    @property
    def matrix(self) -> Tensor | None:
        """The first parameter of two or more axes: the weight of a Linear or a convolution."""
        return next((p for p in self.parameters if p._data.ndim > 1), None)


def layers_of(model: Module) -> list[Layer]:
    """The modules that hold parameters, in the order of `named_parameters()`."""
    found: dict[str, list[Tensor]] = {}
    for path, parameter in model.named_parameters():
        found.setdefault(path.rpartition(".")[0], []).append(parameter)
    return [Layer(path, tuple(parameters)) for path, parameters in found.items()]


# ------------------------------------------------------------------ activations


class Activation(NamedTuple):
    """A result of an activation function.

    layer: the path of the layer whose result it was applied to; of a second function on the same
    layer, with the function behind it. made: the time of the op.
    """

    layer: str
    kind: str
    values: ndarray
    made: int


class Activity(NamedTuple):
    """layers: those that the loss depends on, in the order in which they ran."""

    layers: list[str]
    activations: list[Activation]


def activity_of(order: Sequence[Node], layers: Sequence[Layer]) -> Activity:
    """The activations among nodes in order of execution."""
    owners = {id(p): layer.path for layer in layers for p in layer.parameters if p._data.ndim > 1}
    rank: dict[str, int] = {}
    layer_of: dict[Node, str] = {}
    kinds = dict(_activations(order))
    found: dict[str, Activation] = {}
    for node in order:
        paths = [
            owners.get(id(x)) if x._op is None else layer_of.get(x)
            for x in node._inputs or ()
            if isinstance(x, Node)
        ]
        met = [path for path in paths if path is not None]
        if met:
            for path in met:
                rank.setdefault(path, len(rank))
            layer_of[node] = max(met, key=rank.__getitem__)
        if node in kinds:
            name, kind = layer_of.get(node, ""), kinds[node]
            if name in found and found[name].kind != kind:
                name = f"{name} {kind}".strip()
            found[name] = Activation(name, kind, node._data, node._made)
    return Activity(list(rank), list(found.values()))


def _activations(order: Sequence[Node]) -> Iterator[tuple[Node, str]]:
    """The nodes that are results of activation functions, with the function's name.

    ELU, SiLU and Mish of few elements are composed: their parts are not taken for a ReLU, sigmoid
    or tanh.
    """
    read_by: dict[Node, list[Node]] = {}
    for node in order:
        for x in node._inputs or ():
            if isinstance(x, Node):
                read_by.setdefault(x, []).append(node)
    for node in order:
        name = node._op.__name__
        if name not in _FUNCTIONS or not node._inputs:
            continue
        x = node._inputs[0]
        beside = read_by.get(x, []) if isinstance(x, Node) else []
        behind = read_by.get(node, [])
        if name == "relu" and any(n._op.__name__ == "where_or_zero" for n in beside):
            composed = next((n for n in behind if n._op.__name__ == "add"), None)
            if composed is not None:
                yield composed, "elu" if _has_expm1(composed) else "leaky_relu"
        elif name == "sigmoid" and (gated := {*beside} & {*behind}):
            yield min(gated, key=lambda n: n._made), "silu"
        elif name == "tanh" and isinstance(x, Node) and _name(x) == "softplus":
            if behind:
                yield behind[0], "mish"
        else:
            yield node, name


_FUNCTIONS = {"relu", "sigmoid", "tanh", "gelu", "elu", "leaky_relu", "silu", "mish"}


def _name(node: Node) -> str:
    return "" if node._op is None else str(node._op.__name__)


def _has_expm1(add: Node) -> bool:
    return any(
        isinstance(y, Node) and _name(y) == "expm1"
        for x in add._inputs or ()
        if isinstance(x, Node)
        for y in (x._inputs or ())
    )


def silent_units(activation: Activation) -> ndarray | None:
    """Which units are 0 for every example, of a ReLU; None for other functions.

    A unit is a feature, the last axis; of images, a channel, the second.
    """
    values = activation.values
    if activation.kind != "relu" or not values.size:
        return None
    if values.ndim < 2:
        return np.asarray(values <= 0).reshape(-1)
    unit = 1 if values.ndim > 3 else values.ndim - 1
    others = tuple(axis for axis in range(values.ndim) if axis != unit)
    return np.asarray(~(values > 0).any(axis=others))


def saturated_share(activation: Activation) -> float | None:
    """The share of values at which a sigmoid or tanh is flat; None for other functions."""
    y = activation.values
    if activation.kind not in ("sigmoid", "tanh") or not y.size:
        return None
    slope = 4 * y * (1 - y) if activation.kind == "sigmoid" else 1 - y * y
    return float((slope < _FLAT).mean())


class Histogram(NamedTuple):
    """How many values lie in each of `BINS` equal bins from `low` to `high`."""

    low: float
    high: float
    counts: ndarray


def histogram(values: ndarray) -> Histogram:
    """The histogram of at most `_MOST` of the finite values."""
    flat = values.reshape(-1)
    flat = flat[:: max(1, -(-flat.size // _MOST))].astype(np.float64)
    flat = flat[np.isfinite(flat)]
    low, high = (float(flat.min()), float(flat.max())) if flat.size else (0.0, 0.0)
    width = (high - low) or 1.0
    places = np.minimum(((flat - low) / width * BINS).astype(int), BINS - 1)
    return Histogram(low, high, np.bincount(places, minlength=BINS))


# ------------------------------------------------------------------ the first NaN


class Origin(NamedTuple):
    """Where numbers ceased to be finite.

    op: the op, "" for a parameter or for data. parameter: its path, "" for an op or data.
    function, line: the source line of the op, as `step` and `train.py:12`; empty where the line is
    in this package. layer: the path of the layer in which the op ran.
    """

    op: str = ""
    parameter: str = ""
    function: str = ""
    line: str = ""
    layer: str = ""


def origin_of(order: Sequence[Node], model: Module) -> Origin:
    """The first op of a loss that is not finite whose result is not finite, of finite inputs.

    An infinity that becomes a NaN further on counts where it arose. An infinite constant, as a mask
    holds, does not count.
    """
    names = {id(p): path for path, p in model.named_parameters()}
    culprit = _first_nan(order, names)
    if culprit is None:
        above = order
    elif isinstance(culprit, Origin):
        return culprit
    else:
        reached = _ancestors(culprit)
        above = [*(node for node in order if node in reached), culprit]
    found = _first_infinity(above, names)
    if isinstance(found, Origin):
        return found
    found = culprit if found is None else found
    return Origin() if found is None else _described(found, order, model)


def _first_nan(order: Sequence[Node], names: dict[int, str]) -> Node | Origin | None:
    """The first node that is NaN, or what it read that was NaN: a parameter, or data."""
    for node in order:
        for x, value in _leaves(node):
            if _has_nan(value):
                return Origin(parameter=names.get(id(x), ""))
        if _has_nan(node._data):
            return node
    return None


def _first_infinity(order: Sequence[Node], names: dict[int, str]) -> Node | Origin | None:
    """The first node that is not finite, or the parameter that it read and that was not.

    One that is infinite because a constant is, such as a mask, does not count.
    """
    inherited: set[Node] = set()
    for node in order:
        masked = False
        for x, value in _leaves(node):
            if _is_not_finite(value):
                if id(x) in names:
                    return Origin(parameter=names[id(x)])
                masked = True
        if _is_not_finite(node._data):
            inputs = (x for x in node._inputs or () if isinstance(x, Node))
            if not masked and not any(x in inherited for x in inputs):
                return node
            inherited.add(node)
    return None


def _leaves(node: Node) -> Iterator[tuple[Any, Any]]:
    """The inputs of a node that no op computed, with their arrays."""
    for x, value in zip(node._inputs or (), node._values, strict=False):
        if not isinstance(x, Node) or x._op is None:
            yield x, value


def _ancestors(node: Node) -> set[Node]:
    found: set[Node] = set()
    waiting = [node]
    while waiting:
        for x in waiting.pop()._inputs or ():
            if isinstance(x, Node) and x._op is not None and x not in found:
                found.add(x)
                waiting.append(x)
    return found


def _has_nan(value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype.kind == "f" and bool(np.isnan(array).any())


def _is_not_finite(value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype.kind == "f" and not bool(np.isfinite(array).all())


def _described(node: Node, order: Sequence[Node], model: Module) -> Origin:
    layers = layers_of(model)
    until = [n for n in order if n._made <= node._made and (n in _ancestors(node) or n is node)]
    ran = activity_of(until, layers).layers
    layer = ran[-1] if ran else ""
    if node._code.co_filename.startswith(PACKAGE):
        return Origin(op=node._op.__name__, layer=layer)
    place = source_line_of(node).rpartition(" (in ")[0]
    line = place.replace("\\", "/").rpartition("/")[2]
    return Origin(node._op.__name__, "", node._code.co_name, line, layer)
