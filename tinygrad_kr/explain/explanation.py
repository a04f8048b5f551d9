"""`tk.explain`: why a gradient is what it is, in the numbers of the graph."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import FrameType
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.explain import page
from tinygrad_kr.explain.derivative import (
    Flow,
    LocalDerivative,
    central_difference,
    directional_difference,
    flow,
    leading_to,
)
from tinygrad_kr.explain.graph import Graph, GraphNode, graph_of
from tinygrad_kr.explain.names import Names
from tinygrad_kr.language import language
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.tensor import Tensor

__all__ = ["Difference", "Explanation", "Path", "explain"]


@dataclass(frozen=True, eq=False)
class Path:
    """One way from the output to an input.

    nodes: from the output to the input. edges: between them. factors: the local derivatives.
    product: of the factors, the part of the gradient that comes along this path.
    """

    nodes: tuple[GraphNode, ...]
    edges: tuple[LocalDerivative, ...]

    @property
    def factors(self) -> list[float]:
        """The local derivatives along the path, from the output on."""
        return [edge.derivative for edge in self.edges if edge.derivative is not None]

    @property
    def product(self) -> float:
        """The product of the factors."""
        return float(np.prod(self.factors))


@dataclass(frozen=True)
class Difference:
    """A gradient beside its central difference, for one element.

    index: of the element. gradient: by the chain rule. numeric: (f(x + h) - f(x - h)) / 2h in
    float64; None if the ops cannot be computed again.
    """

    index: tuple[int, ...]
    gradient: float
    numeric: float | None

    @property
    def error(self) -> float | None:
        """The distance of the two."""
        return None if self.numeric is None else abs(self.numeric - self.gradient)


class Explanation:
    """Why a gradient is what it is. What `tk.explain` returns; see there.

    graph: the recorded graph as data. nodes: its nodes, each with `.name`, `.value`, `.op`.
    edges: where a gradient flows, each with `.source`, `.target`, `.formula`, `.derivative` (a
    number between numbers, else None) and `.cotangent`, what flows along it.
    asked: the inputs as nodes; a Tensor on which the output does not depend is there itself.
    """

    def __init__(
        self,
        graph: Graph,
        wanted: Sequence[GraphNode | Tensor],
        single: bool,
        element: tuple[int, ...] | None,
        opened: tuple[str, ...],
        unconnected: Mapping[int, str] | None = None,
        lang: str | None = None,
    ) -> None:
        self.lang = lang
        self.graph, self.asked, self._single = graph, wanted, single
        self._unconnected = unconnected or {}
        self.element, self.opened = element, opened
        self.wanted = [node for node in wanted if isinstance(node, GraphNode)]
        self.flow: Flow = flow(graph, self.wanted, formulas=True)
        self._widened: dict[int, ndarray] = {}

    # -------------------------------------------------------------- data

    @property
    def output(self) -> GraphNode:
        """The node that is explained."""
        return self.graph.outputs[0]

    @property
    def nodes(self) -> list[GraphNode]:
        """The nodes of the graph, in the order of execution."""
        return self.graph.nodes

    @property
    def edges(self) -> list[LocalDerivative]:
        """The edges along which a gradient flows, from the output on."""
        return list(self.flow.locals.values())

    @property
    def gradient(self) -> Any:
        """The gradient, an array; a list of arrays for several inputs."""
        found = [self.gradient_of(node) for node in self.asked]
        return found[0] if self._single else found

    def gradient_of(self, wanted: GraphNode | Tensor) -> ndarray:
        """The gradient with respect to one input; zeros if the output does not depend on it."""
        if isinstance(wanted, GraphNode):
            return np.asarray(self.flow.of(wanted))
        return np.zeros(wanted.shape, wanted.dtype)

    def name_of(self, wanted: GraphNode | Tensor) -> str:
        """The name of an input, also of one on which the output does not depend."""
        return wanted.name if isinstance(wanted, GraphNode) else self._unconnected[id(wanted)]

    @property
    def is_scalar(self) -> bool:
        """Whether every node on the way is one number."""
        on_the_way = [self.output, *(edge.source for edge in self.edges)]
        return all(node.value.size == 1 for node in on_the_way)

    @cached_property
    def path_counts(self) -> list[int]:
        """The number of paths to each input."""
        return [self._count(node) if isinstance(node, GraphNode) else 0 for node in self.asked]

    @cached_property
    def paths(self) -> Any:
        """The paths of a graph of numbers, a list; a list of lists for several inputs.

        Empty between arrays, and for more than 1,000 paths.
        """
        found = [
            list(self._paths_to(node)) if isinstance(node, GraphNode) and count else []
            for node, count in zip(self.asked, self.path_counts, strict=True)
        ]
        return found[0] if self._single else found

    def paths_to(self, wanted: GraphNode | Tensor) -> list[Path]:
        """The paths to one input."""
        if self._single:
            return list(self.paths)
        # `is`: a Tensor on which the output does not depend compares by its elements
        return next(paths for x, paths in zip(self.asked, self.paths, strict=True) if x is wanted)

    def _count(self, wanted: GraphNode) -> int:
        ways = {self.output: 1}
        for edge in self.flow.locals:
            if edge.target in ways:
                ways[edge.source] = ways.get(edge.source, 0) + ways[edge.target]
        return ways.get(wanted, 0)

    def _paths_to(self, wanted: GraphNode) -> Iterator[Path]:
        if not self.is_scalar or self._count(wanted) > page.MOST_PATHS:
            return
        reaching = leading_to(self.graph, [wanted])
        into: dict[GraphNode, list[LocalDerivative]] = {}
        for edge in self.edges:
            if edge.source in reaching:
                into.setdefault(edge.target, []).append(edge)
        waiting: list[tuple[GraphNode, tuple[LocalDerivative, ...]]] = [(self.output, ())]
        while waiting:
            node, edges = waiting.pop()
            if node is wanted:
                yield Path((self.output, *(edge.source for edge in edges)), edges)
                continue
            waiting += [(edge.source, (*edges, edge)) for edge in reversed(into.get(node, []))]

    def difference(
        self, wanted: GraphNode | Tensor, index: tuple[int, ...] | None = None
    ) -> Difference:
        """The gradient of one element beside its central difference.

        index: of the element; by default that of the largest gradient.
        """
        gradient = self.gradient_of(wanted)
        if index is None:
            index = _largest(gradient)
        own = float(gradient[index])
        if not isinstance(wanted, GraphNode):
            return Difference(index, own, 0.0)
        try:
            numeric = central_difference(self.graph, wanted, index, self._widened)
        except Exception:  # such as of an op that computes no other values
            return Difference(index, own, None)
        return Difference(index, own, numeric)

    def difference_of_all(self) -> Difference:
        """The slope along the gradient of all inputs at once, beside its central difference.

        The slope is the length of the gradient. Its index is empty.
        """
        gradients = {node: self.flow.of(node).astype(np.float64) for node in self.wanted}
        length = float(np.sqrt(sum(float((g * g).sum()) for g in gradients.values())))
        try:
            directions = {node: g / (length or 1.0) for node, g in gradients.items()}
            numeric = directional_difference(self.graph, directions, self._widened)
        except Exception:  # such as of an op that computes no other values
            return Difference((), length, None)
        return Difference((), length, numeric)

    # -------------------------------------------------------------- in words

    def text(self, lang: str | None = None) -> str:
        """The explanation as plain text, in English ("en") or Korean ("ko")."""
        return page.text(self, lang or self.lang)

    def markdown(self, lang: str | None = None) -> str:
        """The explanation as Markdown, its formulas as LaTeX."""
        return page.markdown(self, lang or self.lang)

    def _repr_html_(self) -> str:
        return page.in_html(self, self.lang)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        names = ", ".join(node.name for node in self.wanted)
        return f"<Explanation of {self.output.name} by {names or 'nothing'}>"


def _largest(gradient: ndarray) -> tuple[int, ...]:
    """The index of the largest element; of a NaN if there is one."""
    if not gradient.size:
        raise ValueError(f"explain: expected an element, got none in shape {gradient.shape}.")
    sizes = np.abs(gradient.astype(np.float64))
    flat = int(np.argmax(np.where(np.isnan(sizes), np.inf, sizes)))
    return tuple(int(i) for i in np.unravel_index(flat, gradient.shape))


# ------------------------------------------------------------------ the function


def explain(
    y: Tensor,
    wrt: Tensor | Iterable[Tensor] | None = None,
    *,
    element: int | tuple[int, ...] | None = None,
    open: str | Iterable[str] = (),
    lang: str | None = None,
    frame: FrameType | None = None,
) -> Explanation:
    """Why the gradient of y is what it is; see `tinygrad_kr.explain`."""
    output = checked_output(y, "explain")
    lang = lang and language(lang)
    frame = frame if frame is not None else sys._getframe(1)
    graph = graph_of([output], frame, "explain")
    single, tensors = _asked(graph, wrt)
    wanted = [_found(graph, x) for x in tensors]
    opened = tuple(group.path for group in graph.groups_at(open, "explain"))
    index = _checked_element(element, wanted)
    others = _names_of([x for x in wanted if isinstance(x, Tensor)], frame)
    return Explanation(graph, wanted, single, index, opened, others, lang)


def _names_of(tensors: Sequence[Tensor], frame: FrameType) -> dict[int, str]:
    """What the Tensors outside of the graph are called, by their ids."""
    if not tensors:
        return {}
    names = Names(frame)
    return {id(x): names.of_tensor(x) or "wrt" for x in tensors}


def checked_output(y: Any, name: str) -> Tensor:
    """y, if a gradient of it can be explained by the function of this name."""
    if tracer := tracing():
        tracer.give_up(f"{name} shows numbers")
    if not isinstance(y, Tensor):
        raise TypeError(f"{name}: expected a Tensor, got {type(y).__name__}. Compute it with tk")
    if y.size != 1:
        raise ValueError(
            f"{name}: expected one number, got shape {tuple(y.shape)}. Take y.sum(), or one "
            "element, y[0] say"
        )
    if not y.requires_grad:
        raise ValueError(
            f"{name}: expected a Tensor that was computed from one with requires_grad=True, got a "
            "constant. Set requires_grad=True on the inputs before computing it, outside of "
            "no_grad and of a compiled step, which frees its graph"
        )
    return y


def _asked(graph: Graph, wrt: Any) -> tuple[bool, list[Any]]:
    """Whether one gradient is asked for, and the Tensors."""
    if wrt is None:
        leaves = [node.tensor for node in graph.leaves]
        return len(leaves) == 1, leaves
    if isinstance(wrt, Tensor):
        return True, [wrt]
    if isinstance(wrt, Iterable):
        asked = list(wrt)
        if all(isinstance(x, Tensor) for x in asked):
            return False, asked
        wrt = next(x for x in asked if not isinstance(x, Tensor))
    raise TypeError(
        f"explain: expected a Tensor or a list of Tensors as wrt, got {type(wrt).__name__}."
    )


def _found(graph: Graph, x: Tensor) -> GraphNode | Tensor:
    node = graph.node_of(x)
    if node is not None and not node.requires_grad:
        raise ValueError(
            f"explain: expected {node.name} to require grad, got a constant. Set "
            "requires_grad=True before computing the output"
        )
    return x if node is None else node


def _checked_element(element: Any, wanted: Sequence[GraphNode | Tensor]) -> tuple[int, ...] | None:
    if element is None:
        return None
    if len(wanted) != 1:
        raise ValueError(f"explain: expected one Tensor as wrt with element=, got {len(wanted)}.")
    shape = tuple(wanted[0].shape)
    index = element if isinstance(element, tuple) else (element,)
    try:
        np.empty(shape)[index].item()
        return tuple(int(i) % n for i, n in zip(index, shape, strict=True))
    except (IndexError, ValueError, TypeError) as error:
        raise IndexError(
            f"explain: expected the index of one element of shape {shape}, got {element!r}."
        ) from error
