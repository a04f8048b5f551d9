"""`tk.draw`: the graph as the lectures' circuit, in SVG, HTML and DOT.

Values stand above the wires, gradients below. The layout is Graphviz's, from the package
pygraphviz; the SVG is written here, so that it has the same form everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr import html
from tinygrad_kr.explain.derivative import Flow, flow
from tinygrad_kr.explain.drawing.layout import MOST_BOXES, Layout, Place, Size, laid_out
from tinygrad_kr.explain.drawing.view import Box, View, Views, Wire
from tinygrad_kr.explain.graph import Graph, GraphNode, Group, graph_of
from tinygrad_kr.files import replacing
from tinygrad_kr.language import Text, language
from tinygrad_kr.ops.node import Node, user_frame
from tinygrad_kr.ops.tracing import tracing

__all__ = ["Drawing", "draw"]

SIZE, LETTER = 12, 7.3
"""Height and width of a letter; pixels."""
HEIGHT = 44
"""Of a box, with the texts above and below its wire; pixels."""
ROWS, COLUMNS = 3, 4
"""Of an array that are shown over a box."""
LONGEST = 24
"""Letters of a name in a picture; the whole name is in the text of the box."""
VALUE, GRADIENT = "#2c8a4b", "#d6453d"
"""On any ground: a contrast above 4 with white and with #111."""
ON_WHITE = {VALUE: "#1d7038", GRADIENT: "#b3261e"}
_SYMBOLS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "power": "^", "matmul": "@",
    "negative": "-x",
}  # fmt: skip
_OPEN = (
    "var d=this.closest('[data-drawing]').querySelector('[data-part=\\'{number}\\']'),o=!d.open;"
    "for(var e=d;e;e=e.parentElement.closest('details'))if(o||e===d)e.open=o;"
    "if(o)d.scrollIntoView({{block:'nearest'}})"
)
"""JavaScript: show or hide a folded module, with what is around it."""
_FONT = 'font-family="ui-monospace,Menlo,Consolas,DejaVu Sans Mono,monospace" font-size="12"'

_TITLE = Text("graph of {name} (ops: {ops})", "계산 그래프 {name} (연산 {ops}개)")
_LEGEND = Text(
    "Above a wire: the value, of an array its shape. Below: the gradient of {name}, of an array "
    "its norm.",
    "선 위: 값, 배열은 모양. 선 아래: {name}의 기울기, 배열은 노름.",
)
_LEGEND_OF_SUM = Text(
    "Above a wire: the value, of an array its shape. Below: the gradient of the sum of {name}, of "
    "an array its norm.",
    "선 위: 값, 배열은 모양. 선 아래: {name}의 원소를 모두 더한 값의 기울기, 배열은 노름.",
)
_NO_GRADIENTS = Text("Above a wire: the value, of an array its shape.", "선 위: 값, 배열은 모양.")
_VALUE, _GRADIENT = Text("value", "값"), Text("gradient", "기울기")
_SHAPE, _NAME, _LINE = Text("shape", "모양"), Text("name", "이름"), Text("line", "줄")
_OP, _TABLE = Text("op", "연산"), Text("as a table", "표로 보기")
_OPS = Text("ops: {ops}, parameters: {parameters:,}", "연산 {ops}개, 파라미터 {parameters:,}개")
_FOLDED = Text("folded modules: {count}", "접은 모듈 {count}개")
_INSTALL = Text(
    'There is no picture without the package pygraphviz: pip install "tinygrad_kr[draw]"',
    '그림을 그리려면 pygraphviz 패키지가 필요합니다: pip install "tinygrad_kr[draw]"',
)

_TOO_MANY = Text(
    "There are more than {most:,} boxes in one picture. Compute parts in modules, or in "
    "`with tk.name_scope(...)`, which are folded.",
    "한 그림의 상자가 {most:,}개를 넘습니다. 계산을 모듈이나 `with tk.name_scope(...)` 안에서 하면 "
    "접어서 그립니다.",
)


def draw(y: Any, *, open: str | Iterable[str] = (), lang: str | None = None) -> Drawing:
    """The graph that computed `y`, as a circuit: forward values above the wires, gradients below.

    y: a Tensor. Gradients are those of `y`, of its sum if it has several elements. They are
        computed beside the graph: neither `.grad` nor the graph changes, no hook is called.
    open: paths of modules or name scopes that are not folded, such as "net.2". Others are folded
        to one box each where the picture would have more than 40 boxes.
    lang: "en" or "ko", by default the language of `tk.set_language`.

    The result has `.svg`, `.html` and `.dot` as strings, `.graph` as data, and `.save(path)`. In a
    notebook it is shown. With the mouse over a box or a wire its arrays are shown; a click on a
    folded module opens it below. The layout needs pygraphviz, which brings Graphviz along:
    `pip install "tinygrad_kr[draw]"`. The DOT text needs no package.

    Raises TypeError for anything but a Tensor, RuntimeError if the graph was freed by an earlier
        backward, ValueError for a path that `open` does not find, ImportError for a picture
        without pygraphviz.
    Source: the circuits of Stanford's CS231n; `make_dot` of torchviz.

    >>> w, x, b = (tk.tensor(v, requires_grad=True) for v in (-2.0, 5.0, 3.0))
    >>> tk.draw(w * x + b)
    <Drawing of h: 2 ops>
    """
    if tracer := tracing():
        tracer.give_up("draw shows numbers")
    if not isinstance(y, Node):
        raise TypeError(
            f"draw: expected a Tensor, got {type(y).__name__}. Only a Tensor knows what computed it"
        )
    if tracer := tracing():
        tracer.give_up("draw shows numbers")
    graph = graph_of([y], user_frame(), "draw")
    return Drawing(graph, flow(graph, graph.leaves), graph.groups_at(open, "draw"), language(lang))


class Drawing:
    """The result of `tk.draw`.

    graph: the nodes and edges as data. svg, html, dot: the picture as text.

    >>> x = tk.tensor(3.0, requires_grad=True)
    >>> print(tk.draw(x * x).dot)
    digraph {
    ...
    """

    def __init__(self, graph: Graph, flowing: Flow, opened: list[Group], lang: str) -> None:
        self.graph, self._flow, self._opened, self._lang = graph, flowing, opened, lang
        self._views = Views(graph)
        self._view = self._views.view(opened=opened)

    def __repr__(self) -> str:
        ops = sum(node.op is not None for node in self.graph.nodes)
        return f"<Drawing of {self._output.name}: {ops} ops>"

    @property
    def _output(self) -> GraphNode:
        return self.graph.outputs[0]

    @cached_property
    def svg(self) -> str:
        """The picture as an SVG file on a white ground. With the mouse over a box, its arrays.

        Raises ImportError without pygraphviz, ValueError for a picture of too many boxes.
        """
        return _Picture(self, self._view, {}).text(ground=True)

    @cached_property
    def html(self) -> str:
        """The picture as a page of its own, with its folded modules and tables.

        Raises ImportError without pygraphviz, ValueError for a picture of too many boxes.
        """
        title = html.escape(self._title())
        return (
            f'<!doctype html>\n<html lang="{self._lang}"><head><meta charset="utf-8">'
            f"<title>{title}</title><style>:root{{color-scheme:light dark}}"
            "body{font-family:sans-serif;margin:1.5em}</style></head>\n"
            f"<body>{self._shown()}</body></html>\n"
        )

    @cached_property
    def dot(self) -> str:
        """The picture in Graphviz's language, for other tools.

        >>> x = tk.tensor(3.0, requires_grad=True)
        >>> tk.draw(x * x).dot.splitlines()[0]
        'digraph {'
        """
        return _dot(self, self._view)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture: `.svg`, `.html`, `.dot` or `.gv`.

        Raises ValueError for another ending, FileNotFoundError without the folder.
        """
        ending = os.path.splitext(os.fspath(path))[1].lower()
        forms = {".svg": "svg", ".html": "html", ".dot": "dot", ".gv": "dot"}
        if ending not in forms:
            raise ValueError(
                f"Drawing.save: expected a path that ends with {', '.join(forms)}, got {path!r}."
            )
        text: str = getattr(self, forms[ending])
        with replacing(path) as stream:
            stream.write(text.encode("utf-8"))

    def _repr_html_(self) -> str:
        try:
            return self._shown()
        except ImportError:
            told = _INSTALL.say(self._lang)
        except ValueError:
            told = _TOO_MANY.say(self._lang, most=MOST_BOXES)
        return html.block(self._title(), html.line(told), self._table(self._view))

    # -------------------------------------------------------------- texts

    def _title(self) -> str:
        ops = sum(node.op is not None for node in self.graph.nodes)
        return _TITLE.say(self._lang, name=self._output.name, ops=ops)

    def _legend(self) -> str:
        if not self._flow.cotangents:
            return _NO_GRADIENTS.say(self._lang)
        text = _LEGEND if self._output.value.size == 1 else _LEGEND_OF_SUM
        return text.say(self._lang, name=self._output.name)

    def gradient(self, node: GraphNode) -> ndarray | None:
        """The gradient of the output with respect to a node; None where none flows to it."""
        return self._flow.cotangents.get(node)

    def told(self, node: GraphNode) -> str:
        """A node in words: what computed it, its shape, value, gradient and line."""
        lines = [f"{node.name} = {_call(node)}" if node.op is not None else node.name]
        lines.append(f"{_SHAPE.say(self._lang)} {node.shape} {node.value.dtype}")
        lines.append(_labelled(_VALUE.say(self._lang), _array(node.value)))
        gradient = self.gradient(node)
        if gradient is not None:
            lines.append(_labelled(_GRADIENT.say(self._lang), _array(gradient)))
        if node.source_line:
            folder, name = os.path.split(node.source_line)
            lines.append(name if folder else node.source_line)
        return "\n".join(lines)

    def told_of(self, box: Box) -> str:
        """A box in words: a node, or a folded group and what comes out of it."""
        if box.folded is None:
            return self.told(box.node)
        shown = [self._of_group(box)]
        if box.folded.module is not None:
            shown.append(_elided(repr(box.folded.module), 400))
        return "\n".join([*shown, *(self.told(node) for node in box.outputs[:4])])

    def _of_group(self, box: Box) -> str:
        """The path of a folded group, its class, its ops and parameters."""
        assert box.folded is not None
        module = box.folded.module
        kind = "" if module is None else f" {type(module).__name__}"
        count = sum(n.value.size for n in box.inside if n.op is None and n.requires_grad)
        told = _OPS.say(self._lang, ops=box.ops, parameters=count)
        return f"{box.folded.path}{kind} ({told})"

    def _table(self, view: View) -> str:
        """The boxes as a table: the picture for readers that show none."""
        names = (_NAME, _OP, _SHAPE, _VALUE, _GRADIENT, _LINE)
        rows, first = [], dict[GraphNode, Box]()
        for box in view.boxes:
            first.setdefault(box.node, box)
        for box in first.values():
            node, gradient = box.node, self.gradient(box.node)
            called = (
                self._of_group(box) if box.folded is not None else _call(node) if node.op else ""
            )
            value = _short(node.value) if node.value.size == 1 else ""
            slope = "" if gradient is None else _short(gradient)
            line = os.path.basename(node.source_line)
            rows.append((node.name, called, str(node.shape), value, slope, line))
        shown = html.table([name.say(self._lang) for name in names], rows)
        return html.folded(_TABLE.say(self._lang), shown)

    def _shown(self) -> str:
        """The picture, below it each folded module, and the table."""
        inside = self._with_parts(self._view, count())
        whole = html.block(self._title(), html.line(self._legend()), inside)
        return f'<div data-drawing="">{whole}</div>'

    def _with_parts(self, view: View, numbers: Iterator[int]) -> str:
        """A view, and in `<details>` the views of its folded groups."""
        numbered = {box: next(numbers) for box in view.folded}
        parts = []
        for box, number in numbered.items():
            inner = self._with_parts(self._views.view(box.folded), numbers)
            title = f'<summary style="cursor:pointer">{html.escape(self._of_group(box))}</summary>'
            parts.append(
                f'<details data-part="{number}" style="margin-left:1em">{title}{inner}</details>'
            )
        heading = _FOLDED.say(self._lang, count=len(parts))
        shown = html.folded(heading, "".join(parts)) if parts else ""
        return _Picture(self, view, numbered).text(ground=False) + shown + self._table(view)


# ------------------------------------------------------------------ words of a node


def _call(node: GraphNode) -> str:
    """The op with its inputs and parameters: `sum(x, axis=0)`."""
    inputs = [x.name if isinstance(x, GraphNode) else f"{x!r:.20}" for x in node.inputs]
    params = [f"{name}={value!r:.40}" for name, value in node.params.items()]
    return f"{node.op}({', '.join([*inputs, *params])})"


def _symbol(node: GraphNode) -> str:
    """What stands in a gate: `*`, `+1`, `exp`."""
    symbol = _SYMBOLS.get(node.op or "")
    if symbol is None:
        return _elided(node.op or "", LONGEST)
    plain = [None if isinstance(x, GraphNode) else x for x in node.inputs]
    if len(plain) == 2:
        for i, x in enumerate(plain):
            if x is not None and np.ndim(x) == 0:
                number = f"{float(x):.4g}"
                return f"{number}{symbol}x" if i == 0 else f"{symbol}{number}"
    return symbol


def _array(array: ndarray) -> str:
    """A number, or the first rows and columns of an array."""
    if array.ndim == 0:
        return _short(array)
    if not array.size:
        return "[]"
    rows = array[(0,) * (array.ndim - 2)] if array.ndim > 1 else array[None]
    lines = []
    for row in rows[:ROWS]:
        numbers = ", ".join(f"{float(x):.4g}" for x in row[:COLUMNS])
        lines.append(f"[{numbers}{', …' * (len(row) > COLUMNS)}]")
    more = array.ndim > 2 or len(rows) > ROWS
    return "\n".join([*lines, *(["…"] * more)])


def _labelled(label: str, text: str) -> str:
    return f"{label}\n{text}" if "\n" in text else f"{label} {text}"


def _short(array: ndarray) -> str:
    """A number, or the norm of an array."""
    if array.size == 1:
        return f"{array.item():.4g}"
    if array.dtype.kind != "f":
        return ""
    numbers = array.astype(np.float64).ravel()
    scale = float(np.abs(numbers).max(initial=0.0)) or 1.0
    with np.errstate(all="ignore"):
        return f"|{html.number(scale * float(np.linalg.norm(numbers / scale)))}|"


def _elided(text: str, most: int) -> str:
    return text if len(text) <= most else f"…{text[1 - most :]}"


def _width(text: str) -> float:
    """Of a text in pixels. Korean letters are as wide as two others."""
    return LETTER * sum(2 if ord(letter) > 0x1100 else 1 for letter in text)


# ------------------------------------------------------------------ SVG


class _Picture:
    """A view as SVG. numbers: of the folded boxes that a click opens."""

    def __init__(self, drawing: Drawing, view: View, numbers: dict[Box, int]) -> None:
        self.drawing, self.view, self.numbers = drawing, view, numbers
        self.gates = {box: _gate(box) for box in view.boxes}
        sizes = {}
        for box in view.boxes:
            above, below = self._above(box), self._below(box)
            wire = max(_width(above), _width(below)) + 14
            sizes[box] = Size(self._gate_width(box) + wire, HEIGHT)
        self.layout: Layout = laid_out(view, sizes)

    def _above(self, box: Box) -> str:
        node = box.node
        inside = "" if box.group is None else box.group.path.partition("#")[0] + "."
        name = _elided(node.name.removeprefix(inside), LONGEST) + " …" * (len(box.outputs) > 1)
        value = f" = {_short(node.value)}" if node.value.size == 1 else f" {node.shape}"
        return name + value

    def _below(self, box: Box) -> str:
        gradient = self.drawing.gradient(box.node)
        return "" if gradient is None else _short(gradient)

    def _gate_width(self, box: Box) -> float:
        lines = self.gates[box]
        if not lines:
            return 8
        if box.folded is None and len(lines[0]) <= 3:
            return 34
        return max(map(_width, lines)) + 18

    def text(self, ground: bool) -> str:
        """The SVG. ground: white, for a file; else the letters have the page's own colour."""
        width, height = (side + 16 for side in self.layout.size)
        title = self.drawing._title()
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="-8 -8 {width:.0f} {height:.0f}" role="img" {_FONT} '
            f'style="max-width:none;margin:.4em 0{";color:#222" if ground else ""}">',
            f"<title>{html.escape(title)}</title>",
            f"<desc>{html.escape(self.drawing._legend())}</desc>",
        ]
        if ground:
            parts.append('<rect x="-8" y="-8" width="100%" height="100%" fill="#fff"/>')
        parts += [self._frame(group, place) for group, place in self.layout.frames.items()]
        parts += [self._wire(wire, points) for wire, points in self.layout.wires.items()]
        parts += [self._box(box, place) for box, place in self.layout.boxes.items()]
        picture = "".join([*parts, "</svg>"])
        for colour, darker in ON_WHITE.items() if ground else ():
            picture = picture.replace(colour, darker)
        return picture

    def _frame(self, group: Group, place: Place) -> str:
        return (
            f'<g><rect x="{place.x:.1f}" y="{place.y:.1f}" width="{place.width:.1f}" '
            f'height="{place.height:.1f}" rx="6" fill="#888" fill-opacity=".08" stroke="#888" '
            'stroke-dasharray="4 3"/>'
            f"{_words(place.x + 8, place.y + 13, group.path, 'start', 'currentColor')}</g>"
        )

    def _wire(self, wire: Wire, points: list[tuple[float, float]]) -> str:
        (x, y), *rest = points
        curve = " ".join(f"{a:.1f},{b:.1f}" for a, b in rest)
        return (
            f'<g><path d="M{x:.1f},{y:.1f}C{curve}" fill="none" stroke="currentColor" '
            f'stroke-opacity=".65"/><path d="M{x:.1f},{y:.1f}C{curve}" fill="none" '
            f'stroke="transparent" stroke-width="10"/>{self._title_of(wire)}</g>'
        )

    def _title_of(self, wire: Wire) -> str:
        """What flows back along a wire."""
        locals_ = self.drawing._flow.locals
        flowing = [locals_[edge].cotangent for edge in wire.edges if edge in locals_]
        lines = [f"{wire.node.name} → {edge.target.name}" for edge in wire.edges[:4]]
        label = _GRADIENT.say(self.drawing._lang)
        lines += [f"{label} {_short(gradient)}" for gradient in flowing[:4]]
        return f"<title>{html.escape(chr(10).join(lines))}</title>"

    def _box(self, box: Box, place: Place) -> str:
        y, gate = place.y + place.height / 2, self._gate_width(box)
        start, end = place.x + gate, place.x + place.width
        lines = self.gates[box]
        dashed = ' stroke-dasharray="2 3"' if box.outside else ""
        parts = [f'<path d="M{start:.1f},{y:.1f}H{end:.1f}" stroke="currentColor"{dashed}/>']
        if lines:
            parts.append(self._gate(box, place, gate, lines))
        else:
            parts.append(f'<circle cx="{start:.1f}" cy="{y:.1f}" r="2.5" fill="currentColor"/>')
        middle = (start + end) / 2
        parts.append(_words(middle, y - 6, self._above(box), "middle", VALUE, bold=True))
        if below := self._below(box):
            parts.append(_words(middle, y + 15, below, "middle", GRADIENT, bold=True))
        told = html.escape(self.drawing.told_of(box))
        return f"<g{self._click(box)}><title>{told}</title>{''.join(parts)}</g>"

    def _gate(self, box: Box, place: Place, width: float, lines: list[str]) -> str:
        tall = 34 if box.folded is None else 38
        top, middle = place.y + (place.height - tall) / 2, place.x + width / 2
        corner, fill = (17, "#888") if box.folded is None else (4, html.COLOURS[0])
        shape = (
            f'<rect x="{place.x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{tall}" '
            f'rx="{corner}" fill="{fill}" fill-opacity=".16" stroke="currentColor"/>'
        )
        first = place.y + place.height / 2 + 4.5 - 7.5 * (len(lines) - 1)
        return shape + "".join(
            _words(middle, first + 15 * i, line, "middle", "currentColor")
            for i, line in enumerate(lines)
        )

    def _click(self, box: Box) -> str:
        if box not in self.numbers:
            return ""
        code = _OPEN.format(number=self.numbers[box])
        return (
            f' role="button" tabindex="0" style="cursor:pointer" onclick="{code}" '
            "onkeydown=\"if(event.key==='Enter')this.onclick()\""
        )


def _gate(box: Box) -> list[str]:
    """The lines in a box: the op, or the path and the class of a folded group."""
    if box.folded is None:
        return [] if box.node.op is None or box.outside else [_symbol(box.node)]
    module = box.folded.module
    lines = [_elided(box.folded.path, LONGEST)]
    return lines if module is None else [*lines, _elided(type(module).__name__, LONGEST)]


def _words(x: float, y: float, text: str, anchor: str, fill: str, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}"{weight}>'
        f"{html.escape(text)}</text>"
    )


# ------------------------------------------------------------------ DOT


def _dot(drawing: Drawing, view: View) -> str:
    names = {box: f"n{i}" for i, box in enumerate(view.boxes)}
    members: dict[Group | None, list[Box]] = {}
    for box in view.boxes:
        members.setdefault(box.group if box.group in view.frames else None, []).append(box)
    children: dict[Group | None, list[Group]] = {}
    for group in view.frames:
        parent = group.parent if group.parent in view.frames else None
        children.setdefault(parent, []).append(group)
    lines = ["digraph {", "  rankdir=LR", "  node [shape=box, fontname=monospace]"]

    def write(group: Group | None, indent: str) -> None:
        for box in members.get(group, ()):
            lines.append(f"{indent}{names[box]} [{_attributes(drawing, box)}]")
        for inner in children.get(group, ()):
            lines.append(f"{indent}subgraph cluster{view.frames.index(inner)} {{")
            lines.append(f"{indent}  label={_quoted(inner.path)}")
            write(inner, indent + "  ")
            lines.append(f"{indent}}}")

    write(None, "  ")
    lines += [f"  {names[wire.source]} -> {names[wire.target]}" for wire in view.wires]
    return "\n".join([*lines, "}"]) + "\n"


def _attributes(drawing: Drawing, box: Box) -> str:
    node, gradient = box.node, drawing.gradient(box.node)
    value = f" = {_short(node.value)}" if node.value.size == 1 else f" {node.shape}"
    shown = [*_gate(box), node.name + value]
    if gradient is not None:
        shown.append(f"{_GRADIENT.say(drawing._lang)} {_short(gradient)}")
    shape = ", shape=plaintext" if box.folded is None and node.op is None else ""
    return f"label={_quoted(chr(10).join(shown))}{shape}"


def _quoted(text: str) -> str:
    """A text as DOT reads it."""
    kept = html.shown(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{kept}"'
