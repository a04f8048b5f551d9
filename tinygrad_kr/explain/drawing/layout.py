"""Where the boxes of a picture lie: by Graphviz's `dot`, which pygraphviz brings with it.

No text is given to Graphviz. Sizes in, places out; so no font of the machine decides anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tinygrad_kr.explain.drawing.view import Box, View, Wire
from tinygrad_kr.explain.graph import Group

__all__ = ["MOST_BOXES", "Layout", "Place", "Size", "laid_out"]

MOST_BOXES = 2000
"""Boxes of one picture that can be laid out in some seconds."""
_POINTS = 72.0
"""Points of an inch; a point of Graphviz is a pixel here."""
FRAME = 18
"""Room between a frame and its boxes, in which its name stands; pixels."""


class Size(NamedTuple):
    """Width and height in pixels."""

    width: float
    height: float


class Place(NamedTuple):
    """A rectangle: its left, its top, its width and its height."""

    x: float
    y: float
    width: float
    height: float


Point = tuple[float, float]


@dataclass(eq=False)
class Layout:
    """Places in pixels from the upper left corner. wires: the points of cubic Bezier curves."""

    size: Size
    boxes: dict[Box, Place] = field(default_factory=dict)
    frames: dict[Group, Place] = field(default_factory=dict)
    wires: dict[Wire, list[Point]] = field(default_factory=dict)


def _library() -> Any:
    try:
        import pygraphviz
    except ImportError as error:
        raise ImportError(
            "draw: expected the package pygraphviz, which lays out the picture, got none. Install "
            'it with pip install "tinygrad_kr[draw]". The DOT text needs no package'
        ) from error
    return pygraphviz


def laid_out(view: View, sizes: dict[Box, Size]) -> Layout:
    """The layout of a picture, from left to right.

    Raises ImportError without pygraphviz, ValueError for more than `MOST_BOXES` boxes.
    """
    if len(view.boxes) > MOST_BOXES:
        raise ValueError(
            f"draw: expected at most {MOST_BOXES:,} boxes in one picture, got "
            f"{len(view.boxes):,}. Compute parts in modules, or in `with tk.name_scope(...)`, "
            "which are folded"
        )
    names = {box: f"n{i}" for i, box in enumerate(view.boxes)}
    frames = {group: f"cluster{i}" for i, group in enumerate(view.frames)}
    graph = _library().AGraph(_source(view, sizes, names, frames))
    graph.layout(prog="dot")
    _, _, width, height = _numbers(graph.graph_attr["bb"])
    layout = Layout(Size(width, height))
    for box, name in names.items():
        x, y = _numbers(graph.get_node(name).attr["pos"])
        size = sizes[box]
        left, top = x - size.width / 2, height - y - size.height / 2
        layout.boxes[box] = Place(left, top, *size)
    places = {part.get_name(): part.graph_attr["bb"] for part in _parts(graph)}
    for group, name in frames.items():
        left, bottom, right, top = _numbers(places[name])
        layout.frames[group] = Place(left, height - top, right - left, top - bottom)
    for i, wire in enumerate(view.wires):
        edge = graph.get_edge(names[wire.source], names[wire.target], f"e{i}")
        points = [_numbers(point) for point in edge.attr["pos"].split() if point[0] not in "es"]
        layout.wires[wire] = [(x, height - y) for x, y in points]
    return layout


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _parts(graph: Any) -> list[Any]:
    """The subgraphs at every depth."""
    found: list[Any] = []
    waiting = [graph]
    while waiting:
        inner = waiting.pop().subgraphs()
        found += inner
        waiting += inner
    return found


def _source(
    view: View, sizes: dict[Box, Size], names: dict[Box, str], frames: dict[Group, str]
) -> str:
    """The picture for `dot`: sizes and names of our own."""
    lines = [
        "digraph { rankdir=LR ranksep=0.3 nodesep=0.18 nslimit=1 nslimit1=1",
        'node [shape=box label="" fixedsize=true] edge [arrowhead=none]',
    ]
    children: dict[Group | None, list[Group]] = {}
    for group in view.frames:
        parent = group.parent if group.parent in frames else None
        children.setdefault(parent, []).append(group)
    members: dict[Group | None, list[Box]] = {}
    for box in view.boxes:
        members.setdefault(box.group if box.group in frames else None, []).append(box)

    def write(group: Group | None) -> None:
        for box in members.get(group, ()):
            width, height = (side / _POINTS for side in sizes[box])
            lines.append(f"{names[box]} [width={width:.4f} height={height:.4f}]")
        for inner in children.get(group, ()):
            lines.append(f"subgraph {frames[inner]} {{ margin={FRAME}")
            write(inner)
            lines.append("}")

    write(None)
    for i, wire in enumerate(view.wires):
        ends = f"{names[wire.source]}:e -> {names[wire.target]}:w"
        lines.append(f"{ends} [key=e{i}]")
    return "\n".join([*lines, "}"])
