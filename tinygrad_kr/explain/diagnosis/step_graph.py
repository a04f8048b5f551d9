"""One step of a copy, read from its recorded graph: layers, activations, loss, gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from tinygrad_kr.autodiff import gradients, topological_order
from tinygrad_kr.explain.diagnosis.composites import Composite, composites
from tinygrad_kr.explain.diagnosis.evidence import Batch, Copy, StepError, values_of
from tinygrad_kr.nn.parameter import Parameter
from tinygrad_kr.ops.node import Node, tick
from tinygrad_kr.tensor import Tensor

SHAPE_OPS = {
    "reshape", "transpose", "swapaxes", "broadcast_to", "flip", "roll", "pad", "astype", "getitem",
    "concatenate", "stack", "diagonal", "unfold", "positive", "negative",
}  # fmt: skip
"""Ops that move elements."""
LINEAR_OPS = SHAPE_OPS | {
    "add", "subtract", "multiply", "divide", "matmul", "linear", "einsum", "convolve",
    "convolve_transposed", "sum", "mean", "sum_pool", "cumsum", "fold",
}  # fmt: skip
"""Ops that are linear in each input."""
PRODUCTS = {"linear", "matmul", "einsum", "convolve", "convolve_transposed"}
"""Ops of weight layers."""
RANGES = {
    "relu": (0.0, math.inf), "sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "softmax": (0.0, 1.0),
    "softplus": (0.0, math.inf), "exp": (0.0, math.inf), "square": (0.0, math.inf),
    "sin": (-1.0, 1.0), "cos": (-1.0, 1.0), "relu6": (0.0, 6.0), "hardsigmoid": (0.0, 1.0),
    "hardtanh": (-1.0, 1.0), "softsign": (-1.0, 1.0), "absolute": (0.0, math.inf),
    "sqrt": (0.0, math.inf),
}  # fmt: skip
"""The values that an op at the end of a net can have."""
REGRESSION = {"square", "power", "absolute"}
PROBABILITIES = {
    "cross_entropy", "gather_labels", "log_softmax", "logsumexp", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "log", "log1p", "softplus", "exp",
}  # fmt: skip


class Weight(NamedTuple):
    """A weight of at least two axes, and the op that applies it."""

    name: str
    parameter: Tensor
    node: Node
    gradient: ndarray | None

    @property
    def layer(self) -> str:
        """The path of its module."""
        return self.name.rpartition(".")[0]

    @property
    def norm(self) -> float:
        """The norm of its gradient."""
        return 0.0 if self.gradient is None else norm(self.gradient)


class Activation(NamedTuple):
    """A ReLU, sigmoid or tanh between layers."""

    op: str
    node: Node
    layer: str
    """The path of the layer whose output it takes."""

    @property
    def by_unit(self) -> ndarray:
        """Its values, (samples, units): the units are the last axis, of images the channels."""
        y = self.node._data
        if y.ndim > 2:
            y = np.moveaxis(y, 1 if y.ndim == 4 else -1, -1)
        return y.reshape(-1, y.shape[-1]) if y.ndim > 1 else y.reshape(-1, 1)


def norm(x: Any) -> float:
    """The Euclidean norm, in float64."""
    return float(np.linalg.norm(np.asarray(x, np.float64).ravel()))


class StepGraph:
    """A forward and backward pass of a copy on a batch. Raises StepError."""

    def __init__(self, copied: Copy, batch: Batch) -> None:
        self.copied, self.batch = copied, batch
        self._calls: list[tuple[int, int, str]] = []
        self.output, self.loss = self._run()
        if not isinstance(self.loss, Tensor):
            raise StepError("backward", TypeError("the loss is no Tensor"), self.output)
        self.gradients = copied.gradients(self.loss, self.output, keep=True)
        self.nodes = topological_order([self.loss])
        self.consumers: dict[int, list[Node]] = {}
        for node in self.nodes:
            for x in node._inputs or ():
                if isinstance(x, Node):
                    self.consumers.setdefault(id(x), []).append(node)

    def _run(self) -> tuple[Any, Any]:
        """Forward, with the times at which each module began and ended."""
        began: dict[str, list[int]] = {}
        handles = []
        for path, module in self.copied.model.named_modules():
            starts = began.setdefault(path, [])

            def begin(*_: Any, starts: list[int] = starts) -> None:
                starts.append(tick())

            def end(*_: Any, starts: list[int] = starts, path: str = path) -> None:
                self._calls.append((starts.pop(), tick(), path))

            handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
        try:
            return self.copied.forward(self.batch)
        finally:
            for handle in handles:
                handle.remove()

    # -------------------------------------------------------------- nodes

    @cached_property
    def loss_nodes(self) -> list[Node]:
        """The ops of the loss function."""
        return [node for node in self.nodes if node._made > self.copied.loss_began]

    @cached_property
    def loss_ops(self) -> set[str]:
        """Their names."""
        return {node._op.__name__ for node in self.loss_nodes}

    @cached_property
    def model_nodes(self) -> list[Node]:
        """The ops of the model."""
        return [node for node in self.nodes if node._made < self.copied.loss_began]

    def path_of(self, node: Node) -> str:
        """The path of the innermost module that computed a node."""
        inside = [call for call in self._calls if call[0] < node._made < call[1]]
        return min(inside, key=lambda call: call[1] - call[0])[2] if inside else ""

    def calls(self, path: str) -> int:
        """How often the module at a path was called."""
        return sum(call[2] == path for call in self._calls)

    def is_constant(self, x: Any) -> bool:
        """Whether a value depends on parameters and numbers alone, not on data."""
        if not isinstance(x, Node):
            return not (isinstance(x, ndarray) and x.ndim)
        if isinstance(x, Parameter):
            return True
        if x._op is None or (x._op.__name__ == "getitem" and _by_index(x)):
            return x._data.ndim == 0
        return all(map(self.is_constant, x._inputs or ()))

    @cached_property
    def main_output(self) -> Tensor | None:
        """The output; of several, the first."""
        return next(tensors_in(self.output), None)

    @cached_property
    def last(self) -> Node | None:
        """The op that gives the output its values: behind it, elements are only moved."""
        node: Any = self.main_output
        while isinstance(node, Node) and node._op is not None and node._op.__name__ in SHAPE_OPS:
            if node._op.__name__ == "negative" or not node._inputs:
                break
            node = node._inputs[0]
        return node if isinstance(node, Node) and node._op is not None else None

    def before(self, node: Node, through: set[str] = SHAPE_OPS) -> Node:
        """The first node on the way back that is no op of `through`."""
        while node._op is not None and node._op.__name__ in through and node._inputs:
            inner = [x for x in node._inputs if isinstance(x, Node) and not self.is_constant(x)]
            if len(inner) != 1:
                break
            node = inner[0]
        return node

    # -------------------------------------------------------------- layers

    @cached_property
    def weights(self) -> list[Weight]:
        """The weights of two axes and more that the loss depends on, in order of execution."""
        by_parameter = dict(zip(map(id, self.copied.trained()), self.gradients, strict=True))
        found = []
        for name, parameter in self.copied.names.items():
            if parameter.ndim >= 2 and (node := self._applied(parameter)) is not None:
                g = by_parameter.get(id(parameter))
                found.append(Weight(name, parameter, node, None if g is None else g.data))
        return sorted(found, key=lambda weight: weight.node._made)

    def _applied(self, parameter: Tensor) -> Node | None:
        """The first op that combines a parameter with data."""
        waiting: list[Any] = [parameter]
        for x in waiting:  # grows during the loop
            for node in self.consumers.get(id(x), ()):
                if not self.is_constant(node):
                    return node
                waiting.append(node)
        return None

    @cached_property
    def products(self) -> list[Weight]:
        """The weights of linear layers and convolutions."""
        return [weight for weight in self.weights if weight.node._op.__name__ in PRODUCTS]

    def data_input(self, node: Node) -> Any:
        """The input of a layer's op that depends on data."""
        inputs = [x for x in node._inputs or () if not self.is_constant(x)]
        return inputs[0] if inputs else None

    def layer_of(self, node: Node) -> str:
        """The path of the nearest weight layer before a node; else of the module around it."""
        made = node._made
        before = [weight for weight in self.weights if weight.node._made <= made]
        ancestors = self._ancestors(node)
        near = [weight for weight in before if id(weight.node) in ancestors]
        return near[-1].layer if near else self.path_of(node)

    def _ancestors(self, node: Node) -> set[int]:
        seen, waiting = {id(node)}, [node]
        for x in waiting:  # grows during the loop
            for inner in x._inputs or ():
                if isinstance(inner, Node) and inner._op is not None and id(inner) not in seen:
                    seen.add(id(inner))
                    waiting.append(inner)
        return seen

    @cached_property
    def composites(self) -> dict[int, Composite]:
        """The functions that several ops compute together, by the id of their last op."""
        return composites(self.nodes, self.consumers)

    @cached_property
    def composite_of(self) -> dict[int, Composite]:
        """The same, by the id of the value that each is a function of."""
        return {id(known.source): known for known in self.composites.values()}

    def meaning(self, node: Node) -> str:
        """The function that an op ends: "sigmoid" of `1 / (1 + exp(-x))`; else its own name."""
        known = self.composites.get(id(node))
        name: str = node._op.__name__ if known is None else known.name
        return name

    @cached_property
    def activations(self) -> list[Activation]:
        """Each ReLU, sigmoid and tanh of the model. A Leaky ReLU or an ELU is none of them."""
        found = []
        inside = {id(part) for known in self.composites.values() for part in known.parts[1:]}
        for node in self.model_nodes:
            name = self.meaning(node)
            if id(node) in self.composites and name in ("relu", "relu6", "sigmoid", "tanh"):
                found.append(Activation(name.rstrip("6"), node, self.layer_of(node)))
            elif name in ("relu", "sigmoid", "tanh") and node._inputs and id(node) not in inside:
                beside = [other._op.__name__ for other in self.consumers[id(node._inputs[0])]]
                gated = name == "sigmoid" and "multiply" in beside  # SiLU: x sigmoid(x)
                leaky = name == "relu" and "where_or_zero" in beside
                if not gated and not leaky:
                    found.append(Activation(name, node, self.layer_of(node)))
        return found

    @cached_property
    def hidden(self) -> list[Activation]:
        """The activations but the one at the end."""
        return [activation for activation in self.activations if activation.node is not self.last]

    def number_of_classes(self) -> int | None:
        """The size of the axis of classes, where the loss takes labels."""
        for node in self.loss_nodes:
            if node._op.__name__ in ("cross_entropy", "gather_labels") and node._inputs:
                return int(node._inputs[0]._data.shape[node._params["axis"]])
        return None

    @property
    def is_regression(self) -> bool:
        """Whether the loss is one of distances: squares or absolute values of differences."""
        return (
            "subtract" in self.loss_ops
            and bool(self.loss_ops & REGRESSION)
            and not self.loss_ops & PROBABILITIES
        )

    # -------------------------------------------------------------- figures

    @cached_property
    def largest_gradient(self) -> float:
        """The largest norm of the gradient of a parameter or the output."""
        found = [g for g in self.gradients if g is not None]
        if self.main_output is not None and self.main_output._op is not None:
            end = gradients(self.loss, self.main_output, retain_graph=True, allow_unused=True)
            found += [g for g in end if g is not None]
        return max((norm(g.data) for g in found), default=0.0) or 1.0

    @cached_property
    def total_gradient(self) -> float:
        """The norm of all gradients together."""
        return math.hypot(*(norm(g.data) for g in self.gradients if g is not None))

    @cached_property
    def total_weight(self) -> float:
        """The norm of all trained parameters together."""
        return math.hypot(*(norm(p.data) for p in self.copied.trained()))

    def first_not_finite(self) -> Node | None:
        """The first op with a NaN or an infinity, where its inputs have none."""
        for node in self.nodes:
            values = [values_of(x) for x in node._inputs or ()]
            if not _finite(node._data) and all(v is None or _finite(v) for v in values):
                return node
        return None


def _finite(x: ndarray) -> bool:
    return x.dtype.kind != "f" or bool(np.isfinite(x).all())


def _by_index(node: Node) -> bool:
    """Whether a getitem reads at an array of indices, as an embedding does."""
    key = node._params.get("key")
    parts = key if isinstance(key, tuple) else (key,)
    return any(isinstance(part, ndarray | Tensor) for part in parts)


def tensors_in(x: Any) -> Iterator[Tensor]:
    """The Tensors in an output: a Tensor, or tuples and dicts of them."""
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, tuple | list):
        for member in x:
            yield from tensors_in(member)
    elif isinstance(x, dict):
        yield from tensors_in(list(x.values()))
