"""What a picture of a graph shows: nodes, folded groups as one box each, and the wires between."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from tinygrad_kr.explain.graph import Edge, Graph, GraphNode, Group

__all__ = ["Box", "View", "Views", "Wire"]

COMFORTABLE = 40
"""Boxes of a picture up to which groups are opened by themselves."""
FAN_OUT = 4
"""Readers of a node to which wires lead. For more readers, its name stands at each but one."""
FAR = 20
"""Columns that a wire crosses. Farther away, the name of the node stands."""
FEW = 5
"""Boxes of a picture that shows too little."""


@dataclass(eq=False)
class Box:
    """A node, or a folded group. group: the one around it, as far as the picture shows it.

    folded: the group that the box stands for, or None. inside: the nodes that it stands for.
    outputs: those of them that are read elsewhere or are results of the graph.
    outside: it stands for a node that is drawn elsewhere, or outside the group of the picture.
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


class Views:
    """The pictures of a graph: of the whole, and of each group.

    A parameter or buffer of a module belongs to the innermost call of it that holds all its
    readers, and a leaf of a name scope to that scope. Other leaves belong to no group.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._read: dict[GraphNode, list[Edge]] = {node: [] for node in graph.nodes}
        self._readers: dict[GraphNode, list[Edge]] = {node: [] for node in graph.nodes}
        for edge in graph.edges:
            self._read[edge.target].append(edge)
            self._readers[edge.source].append(edge)
        self._when = {node: i for i, node in enumerate(graph.nodes)}
        self._owned: dict[Group, set[int]] = {}
        self._chains: dict[GraphNode, tuple[Group, ...]] = {}
        self._members: dict[Group | None, list[GraphNode]] = {None: graph.nodes}
        for node in graph.nodes:
            group = self._home(node)
            chain = () if group is None else tuple(reversed(list(group.around())))
            self._chains[node] = chain
            for one in chain:
                self._members.setdefault(one, []).append(node)

    def _home(self, node: GraphNode) -> Group | None:
        """The innermost group to which a node belongs."""
        if node.op is not None or node.group is not None:
            return node.group
        group = _common([edge.target.group for edge in self._readers[node]])
        while group is not None and not self._owns(group, node):
            group = group.parent
        return group

    def _owns(self, group: Group, leaf: GraphNode) -> bool:
        if group.module is None:
            return leaf.requires_grad
        if group not in self._owned:
            module = group.module
            self._owned[group] = {id(x) for x in (*module.parameters(), *module.buffers())}
        return id(leaf.tensor) in self._owned[group]

    def view(self, within: Group | None = None, opened: Collection[Group] = ()) -> View:
        """The picture of the graph, or of one group with what leads into it.

        opened: groups that are opened in any case. The others are opened level by level, as long
        as the picture has at most `COMFORTABLE` boxes, or three times as many in place of a few.
        """
        inside = self._members[within]
        frames = {group for one in opened for group in one.around()}
        if within is not None:
            frames.update(within.around())
        shown = {self._shown(node, frames) for node in inside}
        while folded := {box for box in shown if isinstance(box, Group)}:
            parts = {self._shown(node, frames | folded) for node in inside}
            room = COMFORTABLE if len(shown) >= FEW else 3 * COMFORTABLE
            if len(parts) > max(room, len(folded)):
                break
            frames |= folded
            shown = parts
        return self._assembled(inside, frames, within)

    def _shown(self, node: GraphNode, frames: Collection[Group]) -> GraphNode | Group:
        """The folded group that stands for a node, or the node itself."""
        return next((group for group in self._chains[node] if group not in frames), node)

    def _assembled(self, inside: list[GraphNode], frames: set[Group], within: Group | None) -> View:
        """The boxes of the nodes inside, those outside that they read, and the wires between."""
        of: dict[GraphNode, Box] = {}
        boxes: dict[GraphNode | Group, Box] = {}
        for node in inside:
            key = self._shown(node, frames)
            if key not in boxes:
                chain = self._chains[node]
                folded = key if isinstance(key, Group) else None
                innermost = chain[-1] if chain else None
                boxes[key] = Box(innermost if folded is None else folded.parent, folded)
            boxes[key].inside.append(node)
            of[node] = boxes[key]
        wires: dict[tuple[Box, Box, GraphNode, int], Wire] = {}
        for target in inside:
            for edge in self._read[target]:
                if edge.source not in of:
                    of[edge.source] = Box(None, inside=[edge.source], outside=True)
                source, box = of[edge.source], of[target]
                if source is not box:
                    key_of = (source, box, edge.source, -1 if box.folded else edge.position)
                    wires.setdefault(key_of, Wire(*key_of[:3])).edges.append(edge)
        for node, box in of.items():
            readers = (of.get(edge.target) for edge in self._readers[node])
            if node in self.graph.outputs or any(reader is not box for reader in readers):
                box.outputs.append(node)
        shown = sorted(dict.fromkeys(of.values()), key=self._begin)
        drawn = list(wires.values())
        shown = sorted([*shown, *_named_at_readers(shown, drawn)], key=self._begin)
        around = {group for box in shown if box.group for group in box.group.around()}
        around.difference_update(() if within is None else within.around())
        open_ = [group for group in self.graph.groups if group in around]
        return View(shown, drawn, open_)

    def _begin(self, box: Box) -> int:
        """When the first op of a box ran; of what no op computed, where the graph lists it."""
        computed = (node for node in box.inside if node.op is not None)
        return self._when[next(computed, box.inside[0])]


def _named_at_readers(boxes: list[Box], wires: list[Wire]) -> list[Box]:
    """Boxes for nodes that are read at many places or far away: wires would hide the picture.

    Their wires begin at these boxes from now on.
    """
    columns = _columns(boxes, wires)
    of: dict[GraphNode, list[Wire]] = {}
    for wire in wires:
        of.setdefault(wire.node, []).append(wire)
    names: dict[tuple[GraphNode, Box], Box] = {}
    for node, leaving in of.items():
        many = len({wire.target for wire in leaving}) > FAN_OUT
        for wire in leaving:
            far = columns[wire.target] - columns[wire.source] > FAR
            if far or (many and wire.target is not leaving[0].target):
                name = Box(wire.target.group, None, [node], [node], outside=True)
                wire.source = names.setdefault((node, wire.target), name)
    return list(names.values())


def _columns(boxes: list[Box], wires: list[Wire]) -> dict[Box, int]:
    """The column of each box: behind all that it reads, and what reads nothing before its reader.

    Of folded groups that read each other, what is read later does not count.
    """
    entering: dict[Box, list[Box]] = {}
    first: dict[Box, int] = {}
    for wire in wires:
        entering.setdefault(wire.target, []).append(wire.source)
    columns: dict[Box, int] = {}
    for box in boxes:
        before = [columns[source] for source in entering.get(box, ()) if source in columns]
        columns[box] = max(before, default=-1) + 1
    for wire in wires:
        near = columns[wire.target] - 1
        if wire.source not in entering:
            first[wire.source] = min(first.get(wire.source, near), near)
    return columns | first


def _common(groups: list[Group | None]) -> Group | None:
    """The innermost group around all of them."""
    first, *others = groups or [None]
    around = list(first.around()) if first is not None else []
    for group in others:
        theirs = set(group.around()) if group is not None else set()
        around = [one for one in around if one in theirs]
    return around[0] if around else None
