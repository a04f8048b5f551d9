"""The recorded graph as data: each node with its name, its value and its place in the modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from types import FrameType
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.explain.names import Names
from tinygrad_kr.nn.module import Module
from tinygrad_kr.ops.node import Node, notes_of, source_line_of

__all__ = ["Edge", "Graph", "GraphNode", "Group", "graph_of"]


class Group:
    """A call of a module, or a name scope: the nodes that were computed in it.

    path: as in `net.2` or `block/net.2`; a second call of the same module is `net.2#2`.
    module: None for a name scope. parent: the group around it.
    """

    def __init__(self, path: str, module: Module | None, parent: Group | None) -> None:
        self.path, self.module, self.parent = path, module, parent

    def __repr__(self) -> str:
        return f"<Group {self.path}>"

    def around(self) -> Iterator[Group]:
        """This group and those around it, the innermost first."""
        group: Group | None = self
        while group is not None:
            yield group
            group = group.parent


@dataclass(eq=False, repr=False)
class GraphNode:
    """A Tensor of the graph, or an array that an op read.

    tensor: the Tensor, or the array. name: as the text and pictures call it. op: the op's name,
    None for what no op of this graph computed. inputs: what the op read, plain numbers as they
    are. group: the innermost module call or name scope, or None.
    """

    tensor: Any
    name: str = ""
    op: str | None = None
    record: Any = None
    inputs: tuple[Any, ...] = ()
    params: dict[str, Any] = field(default_factory=dict)
    group: Group | None = None
    read: ndarray | None = None
    """What the first op read of it: a leaf may have another value since."""

    def __repr__(self) -> str:
        return f"<GraphNode {self.name}>"

    @property
    def value(self) -> ndarray:
        """The array, as it was recorded."""
        if self.read is not None:
            return self.read
        array: ndarray = self.tensor._data if isinstance(self.tensor, Node) else self.tensor
        return array

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.value.shape

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient flows to it."""
        return isinstance(self.tensor, Node) and self.tensor._requires_grad

    @property
    def source_line(self) -> str:
        """Where its op was called, as `file:line (in function)`; empty for what no op computed."""
        return source_line_of(self.tensor) if self.op is not None else ""


@dataclass(frozen=True, eq=False, repr=False)
class Edge:
    """Input `position` of the op of `target` is `source`."""

    source: GraphNode
    target: GraphNode
    position: int

    def __repr__(self) -> str:
        return f"<Edge {self.source.name} -> {self.target.name}>"


class Graph:
    """The graph of some outputs. nodes: in the order of execution, what no op computed first."""

    def __init__(self, outputs: list[GraphNode], nodes: list[GraphNode]) -> None:
        self.outputs, self.nodes = outputs, nodes

    @cached_property
    def edges(self) -> list[Edge]:
        """Each array that an op read, in the order of execution."""
        return [
            Edge(source, node, position)
            for node in self.nodes
            for position, source in enumerate(node.inputs)
            if isinstance(source, GraphNode)
        ]

    @cached_property
    def leaves(self) -> list[GraphNode]:
        """The nodes that require a gradient and that no op of this graph computed."""
        return [node for node in self.nodes if node.op is None and node.requires_grad]

    @cached_property
    def groups(self) -> list[Group]:
        """The calls of modules and the name scopes, those around others first."""
        found: dict[Group, None] = {}
        for node in self.nodes:
            if node.group is not None:
                found.update(dict.fromkeys(reversed(list(node.group.around()))))
        return list(found)

    def groups_at(self, paths: str | Iterable[str], name: str) -> list[Group]:
        """The groups at the paths. ValueError, in which `name` stands, for any other path."""
        known = {group.path: group for group in self.groups}
        found = []
        for path in [paths] if isinstance(paths, str) else paths:
            if path not in known:
                some = ", ".join(list(known)[:20]) or "no modules and no name scopes"
                raise ValueError(f"{name}: expected open= to name one of {some}, got {path!r}.")
            found.append(known[path])
        return found

    def node_of(self, tensor: Node) -> GraphNode | None:
        """The node of a Tensor; None if the outputs do not depend on it."""
        return self._by_tensor.get(id(tensor))

    @cached_property
    def _by_tensor(self) -> dict[int, GraphNode]:
        return {id(node.tensor): node for node in self.nodes}


def graph_of(outputs: Iterable[Node], frame: FrameType | None = None, name: str = "") -> Graph:
    """The graph that computed `outputs`.

    frame: whose variables, and those of its callers, name Tensors and modules.
    Raises RuntimeError, in which `name` stands, where the graph was freed by an earlier backward.
    """
    outputs = list(outputs)
    nodes = _nodes(outputs, name)
    computed = sorted((node for node in nodes.values() if node.op is not None), key=_when)
    read = [x for node in computed for x in node.inputs if isinstance(x, GraphNode)]
    given = [node for node in (*read, *nodes.values()) if node.op is None]
    ordered = [*dict.fromkeys(given), *computed]
    graph = Graph([nodes[id(output)] for output in outputs], ordered)
    names = Names(frame)
    _group(graph, names)
    _name(graph, names)
    return graph


def _when(node: GraphNode) -> int:
    made: int = node.tensor._made
    return made


def _nodes(outputs: list[Node], name: str) -> dict[int, GraphNode]:
    """The nodes by the ids of their Tensors, each with its inputs."""
    nodes: dict[int, GraphNode] = {}
    waiting: list[Any] = list(outputs)
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in nodes:
            continue
        node = nodes[id(tensor)] = GraphNode(tensor)
        if not isinstance(tensor, Node) or tensor._op is None:
            continue
        inputs = tensor._inputs
        if inputs is None:
            raise RuntimeError(
                f"{name or 'graph'}: expected the graph through {tensor._op.__name__}, recorded at "
                f"{source_line_of(tensor)}, got one freed by an earlier backward. Call it before "
                "backward(), or pass retain_graph=True to that backward"
            )
        node.op, node.record, node.params = tensor._op.__name__, tensor._op, tensor._params
        waiting += [x for x in inputs if _is_array(x)]
    for node in nodes.values():
        if node.op is not None:
            node.inputs = tuple(nodes[id(x)] if _is_array(x) else x for x in node.tensor._inputs)
            for x, value in zip(node.inputs, node.tensor._values, strict=True):
                if isinstance(x, GraphNode) and x.read is None and x.op is None:
                    x.read = np.asarray(value)
    return nodes


def _is_array(x: Any) -> bool:
    """Whether an input is shown as a node: a Tensor, or an array that is more than a number."""
    return isinstance(x, Node) or (isinstance(x, np.ndarray) and x.ndim > 0)


# ------------------------------------------------------------------ modules and scopes


@dataclass(eq=False)
class _Call:
    """A call of a module that a node ended; `starts` of the modules of a Sequential."""

    module: Module
    start: int
    end: GraphNode
    starts: list[int] | None
    members: list[GraphNode]


def _calls(graph: Graph) -> list[_Call]:
    """The calls of modules, those around others first."""
    calls: list[_Call] = []
    for node in graph.nodes:
        if node.op is None:
            continue
        inner: _Call | None = None
        call = getattr(node.tensor, "_call", None)
        chain = []
        while call is not None:
            chain.append(call)
            call = call[2]
        for module, start, _ in reversed(chain):  # from the innermost
            starts = start if isinstance(start, list) else None
            begin = start[0] if isinstance(start, list) else start
            if inner is not None and inner.module is module:  # noted by Sequential, then by call
                inner.start = begin
                continue
            inner = _Call(module, begin, node, starts, [])
            calls.append(inner)
    for call in calls:
        call.members = _members(call)
    return sorted(calls, key=lambda call: (call.start, -len(call.members)))


def _members(call: _Call) -> list[GraphNode]:
    """What the call computed: the ancestors of its result that are younger than its start."""
    found = {call.end: None}
    waiting = [call.end]
    while waiting:
        for x in waiting.pop().inputs:
            if not isinstance(x, GraphNode) or x.op is None or x in found:
                continue
            if x.tensor._made > call.start:
                found[x] = None
                waiting.append(x)
    return list(found)


def _group(graph: Graph, names: Names) -> None:
    """Find the group of each node."""
    depth: dict[GraphNode, int] = dict.fromkeys(graph.nodes, 0)
    met: dict[tuple[Any, tuple[str, ...]], Group] = {}
    paths: dict[str, int] = {}
    for call in _calls(graph):
        scopes = min((_scope(node) for node in call.members), key=len)
        for node in call.members:
            _enter_scopes(node, scopes, depth, met)
        parent = call.members[0].group
        if parent is not None and parent.module is call.module:  # a part of a Sequential
            group = parent
        else:
            path = _path(call.module, parent, names)
            paths[path] = paths.get(path, 0) + 1
            if paths[path] > 1:
                path += f"#{paths[path]}"
            group = Group(path, call.module, parent)
        for node in call.members:
            node.group = group
        if call.starts is not None:
            _divide(call, group)
    for node in graph.nodes:
        _enter_scopes(node, _scope(node), depth, met)


def _scope(node: GraphNode) -> tuple[str, ...]:
    return notes_of(node.tensor).scope if isinstance(node.tensor, Node) else ()


def _enter_scopes(
    node: GraphNode,
    scopes: tuple[str, ...],
    depth: dict[GraphNode, int],
    met: dict[tuple[Any, tuple[str, ...]], Group],
) -> None:
    """Put a node into the groups of its scopes from `depth` on."""
    for i in range(depth[node], len(scopes)):
        key = (node.group, scopes[: i + 1])
        if key not in met:
            before = f"{node.group.path}/" if node.group is not None else ""
            met[key] = Group(before + scopes[i], None, node.group)
        node.group = met[key]
    depth[node] = max(depth[node], len(scopes))


def _divide(call: _Call, group: Group) -> None:
    """Put the nodes of a Sequential into the groups of its modules."""
    assert call.starts is not None
    modules = [pair for pair in vars(call.module).items() if isinstance(pair[1], Module)]
    if len(modules) != len(call.starts):  # it has changed since
        return
    for (name, module), start, end in zip(
        modules, call.starts, [*call.starts[1:], None], strict=True
    ):
        inner = [
            node
            for node in call.members
            if node.tensor._made > start and (end is None or node.tensor._made <= end)
        ]
        part = Group(f"{group.path}.{name}", module, group)
        for node in inner:
            node.group = part


def _path(module: Module, parent: Group | None, names: Names) -> str:
    """The path of a module inside the module around it; the outermost by its variable."""
    within = "" if parent is None else parent.path + "/" * (parent.module is None)
    around = next((g for g in parent.around() if g.module is not None), None) if parent else None
    if around is not None and around.module is not None:
        for path, found in around.module.named_modules():
            if found is module and path:
                base = around.path if parent is around else within.rstrip("/")
                return f"{base}.{path}" if parent is around else f"{base}/{path}"
    own = names.of_module(module)
    return f"{within}.{own}" if within and not within.endswith("/") else within + own


# ------------------------------------------------------------------ names


def _name(graph: Graph, names: Names) -> None:
    """Give each node a name of its own."""
    for group in graph.groups:
        if group.module is not None:
            names.know(group.module, group.path.partition("#")[0])
    taken: dict[str, int] = {}
    unnamed = graph.nodes
    for tell in (names.of_tensor, names.assigned):
        told = [(node, tell(node.tensor)) for node in unnamed]
        unnamed = [node for node, name in told if name is None]
        for node, name in told:
            if name is not None:
                node.name = _free(name, taken)
    for group in graph.groups:  # a letter is no module's name either
        if group.parent is None:
            taken.setdefault(group.path.partition("#")[0], 1)
    for node in unnamed:
        node.name = names.next_letter(taken)


def _free(name: str, taken: dict[str, int]) -> str:
    """`name`, or with a number if another node has it."""
    taken[name] = taken.get(name, 0) + 1
    return name if taken[name] == 1 else _free(f"{name}_{taken[name]}", taken)
