"""One element of a gradient, followed through the graph in numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray

from tinygrad_kr.explain.derivative import local
from tinygrad_kr.explain.graph import Edge, GraphNode
from tinygrad_kr.ops.node import Node
from tinygrad_kr.tensor import Tensor
from tinygrad_kr.transformations import jvp

if TYPE_CHECKING:
    from tinygrad_kr.explain.explanation import Explanation

SHOWN = 4
"""Terms of a sum that are written out: the largest."""


@dataclass(frozen=True)
class Term:
    """A part of a gradient: that of an element of `node`, times what the element changes by."""

    node: GraphNode
    index: tuple[int, ...]
    cotangent: float
    derivative: float


@dataclass(frozen=True)
class Step:
    """The gradient of one element as a sum over the elements that it changes.

    terms: the largest. others: how many are not among them. total: the sum of all.
    """

    node: GraphNode
    index: tuple[int, ...]
    terms: list[Term]
    others: int
    total: float


def followed(explanation: Explanation, node: GraphNode, index: tuple[int, ...]) -> Iterator[Step]:
    """From an element to the output, along the largest term of each sum."""
    while True:
        step = _step(explanation, node, index)
        yield step
        if not step.terms:
            return
        node, index = step.terms[0].node, step.terms[0].index


def _step(explanation: Explanation, node: GraphNode, index: tuple[int, ...]) -> Step:
    terms: list[Term] = []
    for edge in explanation.flow.locals:
        if edge.source is node:
            terms += _terms(edge, explanation.flow.of(edge.target), index)
    terms.sort(key=lambda term: -abs(term.cotangent * term.derivative))
    total = float(explanation.flow.of(node)[index])
    return Step(node, index, terms[:SHOWN], max(0, len(terms) - SHOWN), total)


def _terms(edge: Edge, g: ndarray, index: tuple[int, ...]) -> list[Term]:
    """The elements of the target that the element changes, each with its cotangent."""
    tangent = _changed(edge, index)
    if not edge.target.shape:
        return [Term(edge.target, (), float(g), float(tangent))]
    places = [tuple(int(i) for i in place) for place in np.argwhere(tangent)]
    return [Term(edge.target, at, float(g[at]), float(tangent[at])) for at in places]


def _changed(edge: Edge, index: tuple[int, ...]) -> ndarray:
    """How much each element of the target changes with one element of the source."""
    target, position = edge.target, edge.position
    given = list(target.tensor._values)
    direction = np.zeros_like(edge.source.value)
    direction[index] = 1

    def op(x: Tensor) -> Tensor:
        inputs = [
            x if i == position else Tensor(value) if isinstance(original, Node) else value
            for i, (value, original) in enumerate(zip(given, target.tensor._inputs, strict=True))
        ]
        result: Tensor = target.record(*inputs, **target.params)
        return result

    try:
        _, tangent = jvp(op, (Tensor(given[position]),), (Tensor(direction),))
    except Exception:  # a rule for arrays alone, which cannot be differentiated
        return _row_by_row(edge, index)
    return np.asarray(tangent.data)


def _row_by_row(edge: Edge, index: tuple[int, ...]) -> ndarray:
    """The same, by the op's rule once for each element of the target."""
    changes = np.zeros(edge.target.shape, edge.target.value.dtype)
    for at in np.ndindex(changes.shape):
        g = np.zeros_like(changes)
        g[at] = 1
        changes[at] = local(edge.target, [edge], g, formulas=False)[0].cotangent[index]
    return changes
