"""The local derivatives of a graph: for each edge its formula, its numbers and its cotangent.

Each op is walked on its own, by the walk of `backward`, between an output and inputs that stand in
for those of the graph. So nothing of the graph changes, and no hook is called.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.autodiff import walk
from tinygrad_kr.explain.formula import (
    Expression,
    Literal,
    Notebook,
    Symbol,
    constant_of,
    is_readable,
    simplified,
)
from tinygrad_kr.explain.graph import Edge, Graph, GraphNode
from tinygrad_kr.ops.node import Node, constant
from tinygrad_kr.ops.op import astype
from tinygrad_kr.tensor import Tensor

__all__ = [
    "Flow", "LocalDerivative", "central_difference", "directional_difference", "flow",
    "in_float64", "leading_to", "local",
]  # fmt: skip


@dataclass(eq=False)
class LocalDerivative:
    """What flows along an edge.

    cotangent: that of the source, as far as it comes along this edge. formula: how it is computed
    from the cotangent of the target; of numbers, the derivative itself. None where the rule cannot
    be read: then `op'` stands for it.
    """

    edge: Edge
    cotangent: ndarray
    formula: Expression | None
    derivative: float | None = None
    """That of a number by a number; None between arrays."""

    @property
    def source(self) -> GraphNode:
        """The input of the op."""
        return self.edge.source

    @property
    def target(self) -> GraphNode:
        """The output of the op."""
        return self.edge.target


@dataclass(eq=False)
class Flow:
    """The cotangents of a graph. locals: by edge, of those that lead to what is asked for."""

    graph: Graph
    locals: dict[Edge, LocalDerivative]
    cotangents: dict[GraphNode, ndarray]

    def of(self, node: GraphNode) -> ndarray:
        """The cotangent of a node; zeros where the output does not depend on it."""
        found = self.cotangents.get(node)
        return np.zeros(node.shape, node.value.dtype) if found is None else found


Adjust = Callable[[Edge, ndarray, ndarray], Any]
"""Replaces the cotangent of an edge: from it and that of the target; None drops the edge."""


def leading_to(graph: Graph, wanted: Collection[GraphNode]) -> set[GraphNode]:
    """The nodes through which a gradient flows to `wanted`."""
    needed = set(wanted)
    for node in graph.nodes:
        if any(x in needed for x in node.inputs if isinstance(x, GraphNode)):
            needed.add(node)
    return needed


def flow(
    graph: Graph,
    wanted: Collection[GraphNode],
    *,
    formulas: bool = False,
    adjust: Adjust | None = None,
) -> Flow:
    """The cotangents of the one output with respect to each node that leads to `wanted`."""
    output = graph.outputs[0]
    needed = leading_to(graph, wanted)
    cotangents: dict[GraphNode, ndarray] = {}
    if output in needed:
        cotangents[output] = np.ones(output.shape, output.value.dtype)
    found: dict[Edge, LocalDerivative] = {}
    into: dict[GraphNode, list[Edge]] = {}
    for edge in graph.edges:
        if edge.source in needed and edge.source.requires_grad:
            into.setdefault(edge.target, []).append(edge)
    for node in reversed(graph.nodes):
        if node not in cotangents or node not in into:
            continue
        g = cotangents[node]
        for derivative in local(node, into[node], g, formulas):
            edge, gx = derivative.edge, derivative.cotangent
            if adjust is not None:
                gx = adjust(edge, gx, g)
                if gx is None:
                    continue
            before = cotangents.get(edge.source)
            with np.errstate(all="ignore"):
                cotangents[edge.source] = gx if before is None else before + gx
            found[edge] = derivative
    return Flow(graph, found, cotangents)


def local(
    node: GraphNode, edges: list[Edge], g: ndarray, formulas: bool = True
) -> list[LocalDerivative]:
    """What flows from `node`, whose cotangent is `g`, along each of its edges."""
    plain = _walked(node, edges, g, None)
    if not formulas:
        return plain
    numbers = all(x.value.size == 1 for x in (node, *(edge.source for edge in edges)))
    if numbers or (node.value.ndim == 0 and g.item() == 1.0):
        readable = _walked(node, edges, np.ones_like(g), Literal(1.0))
    else:
        readable = _walked(node, edges, g, Symbol(cotangent_name(node), node.shape, g))
    return [
        LocalDerivative(
            edge, each.cotangent, read.formula, float(read.cotangent.item()) if numbers else None
        )
        for edge, each, read in zip(edges, plain, readable, strict=True)
    ]


def cotangent_name(node: GraphNode) -> str:
    """How the cotangent of a node is written; the explanation puts the output's name for `@`."""
    return f"d@/d{node.name}"


def _walked(
    node: GraphNode, edges: list[Edge], g: ndarray, name: Expression | None
) -> list[LocalDerivative]:
    copy, inputs = _stand_in(node)
    wanted = [inputs[edge.position] for edge in edges]
    given = constant(g)
    notebook = Notebook()
    readable = name is not None

    def run() -> dict[Node, Any]:
        start = given if readable else g
        return walk({copy: start}, set(wanted), retain_graph=True)

    if readable:
        try:
            found = notebook.run(run)
        except Exception:  # Unreadable, or a rule for arrays alone; below it runs on those
            readable = False
    if not readable:
        found = run()
    derivatives = []
    symbols = {} if name is None else _symbols(node, copy, inputs) | {id(given): name}
    for edge, leaf in zip(edges, wanted, strict=True):
        gx = found.get(leaf)
        array = np.zeros(edge.source.shape, edge.source.value.dtype) if gx is None else gx
        formula = None
        if readable:
            read = Literal(0.0) if gx is None else notebook.expression(gx, symbols)
            formula = simplified(read)
            formula = formula if is_readable(formula) else None
        cotangent = array._data if isinstance(array, Node) else np.asarray(array)
        derivatives.append(LocalDerivative(edge, cotangent, formula))
    return derivatives


def _stand_in(node: GraphNode) -> tuple[Node, list[Any]]:
    """A node like that of the graph, alone: its inputs are leaves, another one for each."""
    original = node.tensor
    inputs: list[Any] = []
    for x, array in zip(original._inputs, original._values, strict=True):
        if isinstance(x, Node):
            leaf = constant(array)
            leaf._requires_grad = x._requires_grad
            inputs.append(leaf)
        else:
            inputs.append(x)
    copy = object.__new__(Tensor)
    copy._data, copy._grad, copy._hooks, copy._call = original._data, None, None, None
    copy._requires_grad, copy._op, copy._inputs = True, original._op, tuple(inputs)
    copy._values, copy._params, copy._made = original._values, original._params, original._made
    copy._code, copy._instruction = original._code, original._instruction
    return copy, inputs


def _symbols(node: GraphNode, copy: Node, inputs: list[Any]) -> dict[int, Expression]:
    symbols: dict[int, Expression] = {id(copy): Symbol(node.name, node.shape, node.value)}
    for x, stand_in in zip(node.inputs, inputs, strict=True):
        if isinstance(x, GraphNode):
            symbols[id(stand_in)] = symbol_of(x)
    return symbols


def symbol_of(x: Any) -> Expression:
    """A node by its name, anything else as the constant that it is."""
    if isinstance(x, GraphNode):
        return Symbol(x.name, x.shape, x.value)
    return constant_of(x)


# ------------------------------------------------------------------ by differences


def central_difference(
    graph: Graph, leaf: GraphNode, index: tuple[int, ...], widened: dict[int, ndarray] | None = None
) -> float:
    """The slope (f(x + h) - f(x - h)) / 2h by an element of `leaf`, computed in float64.

    Computes the recorded ops again. Raises whatever an op raises.
    widened: keeps the arrays in float64 for the next call.
    """
    direction = np.zeros(leaf.shape)
    direction[index] = max(1.0, abs(float(leaf.value[index])))
    slope = directional_difference(graph, {leaf: direction}, widened)
    return slope / float(direction[index])


def directional_difference(
    graph: Graph, directions: Mapping[GraphNode, ndarray], widened: dict[int, ndarray] | None = None
) -> float:
    """The slope of the output along a direction in several leaves, computed in float64."""
    widened = {} if widened is None else widened
    h = float(np.cbrt(np.finfo(np.float64).eps))
    ends = [
        _recomputed(
            graph,
            {x: x.value.astype(np.float64) + step * d for x, d in directions.items()},
            widened,
        )
        for step in (h, -h)
    ]
    return (ends[0] - ends[1]) / (2.0 * h)


@np.errstate(all="ignore")
def _recomputed(
    graph: Graph, changed: Mapping[GraphNode, ndarray], widened: dict[int, ndarray]
) -> float:
    arrays: dict[Any, Any] = dict(changed)
    for node in graph.nodes:
        if node in arrays or node.op is None:
            continue
        if any(x in arrays for x in node.inputs if isinstance(x, GraphNode)):
            arrays[node] = _computed(node, _given(node, arrays, widened))
    return float(np.asarray(arrays.get(graph.outputs[0], graph.outputs[0].value)).item())


def _given(node: GraphNode, arrays: Mapping[Any, Any], widened: dict[int, ndarray]) -> list[Any]:
    """What the op of a node reads: the new arrays, what it read before in float64."""
    return [
        arrays[x] if isinstance(x, GraphNode) and x in arrays else _widened(value, widened)
        for x, value in zip(node.inputs, node.tensor._values, strict=True)
    ]


def _computed(node: GraphNode, values: list[Any]) -> ndarray:
    """The op of a node, of these values."""
    if node.record is astype:
        return np.asarray(values[0])
    return np.asarray(node.record.forward(*values, **node.params))


@np.errstate(all="ignore")
def in_float64(graph: Graph) -> tuple[Graph, dict[GraphNode, GraphNode]]:
    """The graph computed again in float64, and for each node its own there.

    Raises whatever an op raises.
    """
    widened: dict[int, ndarray] = {}
    arrays: dict[Any, Any] = {}
    copies: dict[GraphNode, GraphNode] = {}
    for node in graph.nodes:
        if node.op is None:
            values: list[Any] = []
            arrays[node] = _widened(node.value, widened)
        else:
            values = _given(node, arrays, widened)
            arrays[node] = _computed(node, values)
        inputs = tuple(copies[x] if isinstance(x, GraphNode) else x for x in node.inputs)
        tensor = _wide_tensor(node, arrays[node], inputs, values)
        copies[node] = GraphNode(tensor, node.name, node.op, node.record, inputs, node.params)
    return Graph([copies[node] for node in graph.outputs], list(copies.values())), copies


def _wide_tensor(
    node: GraphNode, array: ndarray, inputs: tuple[Any, ...], values: list[Any]
) -> Any:
    if not isinstance(node.tensor, Node):
        return array
    if node.op is None:
        leaf = constant(array)
        leaf._requires_grad = node.requires_grad
        return leaf
    copy, _ = _stand_in(node)
    copy._data, copy._values = array, tuple(values)
    copy._inputs = tuple(x.tensor if isinstance(x, GraphNode) else x for x in inputs)
    return copy


def _widened(value: Any, known: dict[int, ndarray]) -> Any:
    if not isinstance(value, ndarray) or value.dtype.kind != "f":
        return value
    if id(value) not in known:
        known[id(value)] = value.astype(np.float64)
    return known[id(value)]
