"""What a picture of a graph shows: nodes, folded groups as one box each, and the wires between."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from tinygrad_kr.explain.graph import Edge, Graph, GraphNode, Group

__all__ = ["Box", "View", "Wire", "homes", "view_of"]

COMFORTABLE = 40
"""Boxes of a picture up to which groups are opened by themselves."""


@dataclass(eq=False)
class Box:
    """A node, or a folded group. group: the one around it, as far as the picture shows it.

    folded: the group that the box stands for, or None. inside: the nodes that it stands for.
    outputs: those of them that are read elsewhere or are results of the graph.
    outside: it lies outside the group whose picture this is.
    """

    group: Group | None
    folded: Group | None = None
    inside: list[GraphNode] = field(default_factory=list)
    outputs: list[GraphNode] = field(default_factory=list)
    outside: bool = False

    @property
    def node(self) -> GraphNode:
        """The node whose value the box shows: itself, or the folded group's first output."""
        return (self.outputs or self.inside)[0]

    @property
    def ops(self) -> int:
        """How many ops the box stands for."""
        return sum(node.op is not None for node in self.inside)


@dataclass(eq=False)
class Wire:
    """The edges that lead from one box to another, of one node."""

    source: Box
    target: Box
    node: GraphNode
    edges: list[Edge] = field(default_factory=list)


class View:
    """The boxes and wires of a picture, and its frames: the groups that are open."""

    def __init__(self, boxes: list[Box], wires: list[Wire], frames: list[Group]) -> None:
        self.boxes, self.wires, self.frames = boxes, wires, frames

    @property
    def folded(self) -> list[Box]:
        """The boxes that stand for a group."""
        return [box for box in self.boxes if box.folded is not None]


def homes(graph: Graph) -> dict[GraphNode, tuple[Group, ...]]:
    """The groups of each node, the outermost first.

    A parameter or buffer of a module belongs to the innermost call of it that holds all its
    readers, and a leaf of a name scope to that scope. Other leaves belong to no group.
    """
    chains: dict[GraphNode, tuple[Group, ...]] = {}
    readers: dict[GraphNode, list[GraphNode]] = {}
    for edge in graph.edges:
        readers.setdefault(edge.source, []).append(edge.target)
    owned: dict[Group, set[int]] = {}
    for node in graph.nodes:
        group = node.group
        if node.op is None and group is None:
            around = [reader.group for reader in readers.get(node, ())]
            group = _common(around)
            while group is not None and not _owns(group, node, owned):
                group = group.parent
        chains[node] = () if group is None else tuple(reversed(list(group.around())))
    return chains


def _common(groups: list[Group | None]) -> Group | None:
    """The innermost group around all of them."""
    first, *others = groups or [None]
    around = list(first.around()) if first is not None else []
    for group in others:
        theirs = set(group.around()) if group is not None else set()
        around = [one for one in around if one in theirs]
    return around[0] if around else None


def _owns(group: Group, leaf: GraphNode, owned: dict[Group, set[int]]) -> bool:
    if group.module is None:
        return leaf.requires_grad
    if group not in owned:
        module = group.module
        owned[group] = {id(x) for x in (*module.parameters(), *module.buffers())}
    return id(leaf.tensor) in owned[group]


def view_of(
    graph: Graph,
    chains: dict[GraphNode, tuple[Group, ...]],
    within: Group | None = None,
    opened: Collection[Group] = (),
) -> View:
    """The picture of a graph, or of one group with what leads into it.

    opened: groups that are opened in any case. The others are opened level by level, as long as
    the picture does not have more than `COMFORTABLE` boxes.
    """
    inside = [node for node in graph.nodes if within is None or within in chains[node]]
    frames = {group for one in opened for group in one.around()}
    if within is not None:
        frames.update(within.around())
    while True:
        folded = {_shown(chains[node], frames) for node in inside} - {None}
        wider = frames | folded
        shown = {_shown(chains[node], wider) or node for node in inside}
        if not folded or len(shown) > max(COMFORTABLE, len(folded)):
            return _assembled(graph, chains, inside, frames, within)
        frames = wider


def _shown(chain: tuple[Group, ...], frames: Collection[Group]) -> Group | None:
    """The folded group that stands for a node; None for a node that is shown itself."""
    return next((group for group in chain if group not in frames), None)


def _assembled(
    graph: Graph,
    chains: dict[GraphNode, tuple[Group, ...]],
    inside: Iterable[GraphNode],
    frames: set[Group],
    within: Group | None,
) -> View:
    """The boxes of the nodes inside, those outside that they read, and the wires between."""
    boxes: dict[Any, Box] = {}
    of: dict[GraphNode, Box] = {}
    for node in inside:
        folded = _shown(chains[node], frames)
        key = node if folded is None else folded
        if key not in boxes:
            innermost = chains[node][-1] if chains[node] else None
            boxes[key] = Box(innermost if folded is None else folded.parent, folded)
        boxes[key].inside.append(node)
        of[node] = boxes[key]
    wires: dict[tuple[Box, Box, GraphNode, int], Wire] = {}
    results = dict.fromkeys(node for node in graph.outputs if node in of)
    for edge in graph.edges:
        source, target = of.get(edge.source), of.get(edge.target)
        if source is not target and source is not None:
            results[edge.source] = None
        if target is None or source is target:
            continue
        if source is None:
            source = of[edge.source] = Box(None, inside=[edge.source], outside=True)
            results[edge.source] = None
        between = (source, target, edge.source, -1 if target.folded else edge.position)
        if between not in wires:
            wires[between] = Wire(source, target, edge.source)
        wires[between].edges.append(edge)
    for node in results:
        of[node].outputs.append(node)
    shown = list(dict.fromkeys(of.values()))
    around = {group for box in shown if box.group for group in box.group.around()}
    around.difference_update(() if within is None else within.around())
    return View(shown, list(wires.values()), [group for group in graph.groups if group in around])
