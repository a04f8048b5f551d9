"""Long graphs folded by module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinygrad_kr.explain.graph import GraphNode, Group

if TYPE_CHECKING:
    from tinygrad_kr.explain.explanation import Explanation

MOST_LINES = 24
"""Lines of a graph that is not folded, or not more than it must be."""


class Folded:
    """The nodes of a module or name scope, written as one line.

    entries: what it reads of the graph, but for parameters. exits: what is read of it.
    """

    def __init__(
        self, group: Group, nodes: list[GraphNode], readers: dict[GraphNode, bool]
    ) -> None:
        self.group, self.nodes = group, nodes
        inside = set(nodes)
        read = [x for node in nodes for x in node.inputs if isinstance(x, GraphNode)]
        outside = dict.fromkeys(x for x in read if x not in inside)
        self.entries = [x for x in outside if x.op is not None or not _is_parameter(x, group)]
        self.exits = [node for node in nodes if readers.get(node, True)] or nodes[-1:]


def _is_parameter(node: GraphNode, group: Group) -> bool:
    if group.module is None:
        return node.requires_grad
    held = (*group.module.parameters(), *group.module.buffers())
    return any(tensor is node.tensor for tensor in held)


def folded(explanation: Explanation) -> list[GraphNode | Folded]:
    """The computed nodes in order, those of modules that are not open as one."""
    nodes = [node for node in explanation.nodes if node.op is not None]
    depth = _depth(nodes)
    labels = [_label(node, depth, explanation.opened) for node in nodes]
    items: list[GraphNode | Folded] = []
    members: dict[Group, list[GraphNode]] = {}
    for node, label in zip(nodes, labels, strict=True):
        if label is not None:
            members.setdefault(label, []).append(node)
    for node, label in zip(nodes, labels, strict=True):
        if label is None or len(members[label]) == 1:
            items.append(node)
        elif members[label][0] is node:
            items.append(Folded(label, members[label], _read_outside(nodes, labels, label)))
    return items


def _read_outside(
    nodes: list[GraphNode], labels: list[Group | None], label: Group
) -> dict[GraphNode, bool]:
    """For each node that is read: whether one outside of the group reads it."""
    found: dict[GraphNode, bool] = {}
    for node, own in zip(nodes, labels, strict=True):
        for x in node.inputs:
            if isinstance(x, GraphNode):
                found[x] = found.get(x, False) or own is not label
    return found


def _groups(node: GraphNode) -> list[Group]:
    """From the outermost to the innermost."""
    return [] if node.group is None else list(node.group.around())[::-1]


def _depth(nodes: list[GraphNode]) -> int | None:
    """How deep groups are open: as deep as the lines allow; None opens all."""
    if len(nodes) <= MOST_LINES:
        return None
    deepest = max((len(_groups(node)) for node in nodes), default=0)
    best = min(1, deepest)
    for depth in range(1, deepest + 1):
        keys = {
            groups[depth - 1] if len(groups := _groups(node)) >= depth else node for node in nodes
        }
        if len(keys) <= MOST_LINES:
            best = depth
    return best - 1


def _label(node: GraphNode, depth: int | None, opened: tuple[str, ...]) -> Group | None:
    """The outermost group of a node that is not open; None if all are."""
    if depth is None:
        return None
    for level, group in enumerate(_groups(node)):
        is_open = any(
            path == group.path or path.startswith((f"{group.path}.", f"{group.path}/"))
            for path in opened
        )
        if level >= depth and not is_open:
            return group
    return None
