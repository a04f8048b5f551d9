"""An explanation in words: the same lines as plain text, as Markdown with LaTeX, and as HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tinygrad_kr import html
from tinygrad_kr.explain.derivative import LocalDerivative, cotangent_name, symbol_of
from tinygrad_kr.explain.element import Step, followed
from tinygrad_kr.explain.folding import Folded, folded
from tinygrad_kr.explain.formula import (
    Call,
    Expression,
    LatexNumberWriter,
    LatexWriter,
    NumberWriter,
    ShapeWriter,
    Symbol,
    Writer,
    latex_name,
    latex_text,
    number,
)
from tinygrad_kr.explain.graph import GraphNode
from tinygrad_kr.language import Text, cells, language, ljust
from tinygrad_kr.ops.linalg import matmul
from tinygrad_kr.tensor import Tensor

if TYPE_CHECKING:
    from tinygrad_kr.explain.explanation import Difference, Explanation, Path

__all__ = ["MOST_PATHS", "in_html", "markdown", "text"]

MOST_ARRAYS = 16
"""Arrays that are listed with their shapes; of more only those that require no gradient."""
MOST_DIFFERENCES = 8
"""Inputs whose central differences are computed one by one; of more there is one for all."""
MOST_LINES = 120
"""Lines of a section."""
MOST_FACTORS = 40
"""Factors of a product along a path; of more the middle is left out."""
MOST_PATHS = 1000
"""Paths that are written out; of more the sum is taken by nodes."""

FORWARD = Text("Forward: values", "순전파: 값")
LOCAL = Text("Local derivatives", "국소 미분")
BACKWARD = Text("Backward: gradients of {output}", "역전파: {output}의 기울기")
CHAIN = Text("Chain rule", "연쇄 법칙")
ELEMENT = Text("One element: {name}", "원소 하나: {name}")
RESULT = Text("Gradients", "기울기")
PATHS = Text("{count} paths, added:", "경로 {count}개를 더합니다:")
BY_NODES = Text(
    "{count} paths, more than {most}: added node by node",
    "경로 {count}개, {most}개보다 많음: 노드마다 더했습니다",
)
NO_PATH = Text(
    "{output} does not depend on {name}: no path, gradient 0",
    "{output}에서 {name}까지 경로가 없습니다: 기울기 0",
)
DIFFERENCE = Text(
    "central difference{at}: {numeric}, error {error}",
    "중심 차분{at}: {numeric}, 오차 {error}",
)
NO_DIFFERENCE = Text(
    "central difference: an op on the way cannot be computed again",
    "중심 차분: 다시 계산할 수 없는 연산이 있습니다",
)
OPS = Text("{count} ops", "연산 {count}개")
ALL = Text(
    "length of the gradient of all inputs: {length}", "모든 입력에 대한 기울기의 길이: {length}"
)
PARAMETERS = Text("{count} parameters", "파라미터 {count}개")
INPUT = Text("input {number}", "입력 {number}")
OTHERS = Text("{count} more", "그 밖에 {count}개")


class Line(NamedTuple):
    """A line of a page: plain, in LaTeX (None if it has no formula), and what stands beside it."""

    plain: str
    latex: str | None = None
    note: str = ""
    indent: int = 0


class Section(NamedTuple):
    """A heading and its lines."""

    title: str
    lines: list[Line]


# ------------------------------------------------------------------ the three forms


def text(explanation: Explanation, lang: str | None) -> str:
    """The page as plain text."""
    sections = _sections(explanation, language(lang))
    return "\n\n".join(f"{section.title}\n{_plain(section)}" for section in sections)


def _plain(section: Section) -> str:
    """The lines of a section, with what stands beside them in a column."""
    width = min(60, max((_width(line) for line in section.lines if line.note), default=0))
    lines = []
    for line in section.lines:
        plain = "  " * (line.indent + 1) + line.plain
        lines.append(f"{ljust(plain, width + 2)}  {line.note}".rstrip() if line.note else plain)
    return "\n".join(lines)


def _width(line: Line) -> int:
    return cells(line.plain) + 2 * (line.indent + 1)


def markdown(explanation: Explanation, lang: str | None) -> str:
    """The page as Markdown, its formulas in LaTeX."""
    blocks = []
    for section in _sections(explanation, language(lang)):
        lines = [f"### {section.title}", ""]
        for line in section.lines:
            body = f"${line.latex}$" if line.latex is not None else line.plain
            note = f" `{line.note}`" if line.note else ""
            lines.append(f"{'  ' * line.indent}- {body}{note}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def in_html(explanation: Explanation, lang: str | None) -> str:
    """The page as HTML, for notebooks."""
    sections = _sections(explanation, language(lang))
    return "".join(html.block(section.title, html.plain(_plain(section))) for section in sections)


def _sections(explanation: Explanation, lang: str) -> Iterator[Section]:
    """The sections, long ones without their middle."""
    for title, lines in _whole_sections(explanation, lang):
        left_out = len(lines) - MOST_LINES
        if left_out > 0:
            half = MOST_LINES // 2
            middle = Line(f"... ({OTHERS.say(lang, count=left_out)})")
            lines = [*lines[:half], middle, *lines[-half:]]
        yield Section(title, lines)


def _whole_sections(explanation: Explanation, lang: str) -> Iterator[Section]:
    scalar = explanation.is_scalar
    yield Section(FORWARD.say(lang), _forward(explanation, lang))
    if explanation.edges:
        if scalar:
            yield Section(LOCAL.say(lang), _local(explanation, lang))
        else:
            title = BACKWARD.say(lang, output=explanation.output.name)
            yield Section(title, _backward(explanation, lang))
    if explanation.element is not None and explanation.wanted:
        name = _with_index(explanation.wanted[0].name, explanation.element)
        yield Section(ELEMENT.say(lang, name=name), _element(explanation, lang))
    result = CHAIN if scalar else RESULT
    yield Section(result.say(lang), list(_results(explanation, lang)))


# ------------------------------------------------------------------ forward


def _forward(explanation: Explanation, lang: str) -> list[Line]:
    given = [node for node in explanation.nodes if node.op is None]
    lines = []
    numbers = [
        f"{node.name} = {number(node.value.item())}" for node in given if node.value.size == 1
    ]
    arrays = [f"{node.name} {node.shape}" for node in given if node.value.size != 1]
    if len(arrays) > MOST_ARRAYS:
        plain = [node for node in given if node.value.size != 1 and not node.requires_grad]
        count = PARAMETERS.say(lang, count=len(arrays) - len(plain))
        arrays = [*(f"{node.name} {node.shape}" for node in plain[:MOST_ARRAYS]), count]
    for parts in (numbers, arrays):
        rows = (parts[start : start + 8] for start in range(0, len(parts), 8))
        lines += [Line(", ".join(row)) for row in rows]
    for item in folded(explanation):
        lines += [_of_group(item, lang) if isinstance(item, Folded) else _of_node(item)]
    return lines


def _of_node(node: GraphNode) -> Line:
    """name = formula = numbers = value, or the shapes beside it."""
    formula = formula_of(node)
    plain, latex = Writer().write(formula), LatexWriter().write(formula)
    left = latex_name(node.name)
    if node.value.size == 1 and all(x.value.size == 1 for x in _read(node)):
        value = number(node.value.item())
        steps = dict.fromkeys([plain, NumberWriter().write(formula), value])
        shown = dict.fromkeys([latex, LatexNumberWriter().write(formula), value])
        return Line(f"{node.name} = {' = '.join(steps)}", f"{left} = {' = '.join(shown)}")
    written = shapes(formula)
    value = f" = {number(node.value.item())}" if node.value.size == 1 else ""
    note = f"{written} -> {node.shape}" if written else str(node.shape)
    return Line(f"{node.name} = {plain}{value}", f"{left} = {latex}{value}", note)


def formula_of(node: GraphNode) -> Expression:
    """What the op of a node computes, from the names of its inputs."""
    inputs = tuple(symbol_of(x) for x in node.inputs)
    return Call(node.record, inputs, tuple(node.params.items()), node.shape)


def _read(node: GraphNode) -> list[GraphNode]:
    return [x for x in node.inputs if isinstance(x, GraphNode)]


def shapes(formula: Expression) -> str:
    """A product of matrices with shapes for names; nothing for other formulas."""
    is_product = isinstance(formula, Call) and formula.record is matmul
    return ShapeWriter().write(formula) if is_product else ""


def _of_group(group: Folded, lang: str) -> Line:
    kind = "" if group.group.module is None else f" ({type(group.group.module).__name__})"
    inputs = ", ".join(str(node.shape) for node in group.entries) or "()"
    outputs = ", ".join(str(node.shape) for node in group.exits)
    count = OPS.say(lang, count=len(group.nodes))
    names = ", ".join(node.name for node in group.exits)
    return Line(f"{names} = {group.group.path}{kind}, {count}", None, f"{inputs} -> {outputs}")


# ------------------------------------------------------------------ backward


def _d(explanation: Explanation, name: str) -> str:
    return f"d{explanation.output.name}/d{name}"


def _local(explanation: Explanation, lang: str) -> list[Line]:
    lines = []
    edges = explanation.edges
    same = Counter(map(_ends, edges))
    for edge in edges:
        left = f"d{edge.target.name}/d{edge.source.name}"
        several = same[_ends(edge)] > 1
        note = INPUT.say(lang, number=edge.edge.position + 1) if several else ""
        plain, latex = formula_texts(edge)
        value = number(edge.derivative)
        steps, shown = {plain: None}, {latex: None}
        if edge.formula is not None:
            steps[NumberWriter().write(edge.formula)] = None
            shown[LatexNumberWriter().write(edge.formula)] = None
        steps[value] = shown[value] = None
        lines.append(
            Line(f"{left} = {' = '.join(steps)}", f"{latex_name(left)} = {' = '.join(shown)}", note)
        )
    return lines


def _ends(edge: LocalDerivative) -> tuple[GraphNode, GraphNode]:
    return edge.source, edge.target


def formula_texts(edge: LocalDerivative) -> tuple[str, str]:
    """The formula of an edge, plain and in LaTeX; `op'` where its rule cannot be read."""
    if edge.formula is None:
        return _of_unreadable(edge)
    return Writer().write(edge.formula), LatexWriter().write(edge.formula)


def _of_unreadable(edge: LocalDerivative) -> tuple[str, str]:
    """`op'` at the names; between arrays it is the Jacobian that the cotangent is multiplied by."""
    read = ", ".join(node.name for node in _read(edge.edge.target))
    plain, latex = f"{edge.target.op}'({read})", rf"\mathrm{{{latex_text(edge.target.op or '')}}}'"
    if edge.derivative is not None:
        return plain, latex
    along = cotangent_name(edge.target)
    if not edge.target.shape:
        return f"{along} * {plain}", rf"{latex_name(along)} \cdot {latex}"
    return f"{plain}^T @ {along}", rf"{{{latex}}}^\top \, {latex_name(along)}"


def _backward(explanation: Explanation, lang: str) -> list[Line]:
    by_source: dict[GraphNode, list[LocalDerivative]] = {}
    for edge in explanation.edges:
        by_source.setdefault(edge.source, []).append(edge)
    output = explanation.output
    lines = [Line(f"{_d(explanation, output.name)} = 1")]
    shown = folded(explanation)
    hidden = {node for item in shown if isinstance(item, Folded) for node in item.nodes}
    for item in reversed(shown):
        if isinstance(item, Folded):
            lines.append(_norms(explanation, item))
        elif any(edge.target not in hidden for edge in by_source.get(item, ())):
            lines.append(_of_source(explanation, item, by_source[item]))
    for node in explanation.nodes:
        edges = by_source.get(node, [])
        if node.op is None and edges and _is_shown(node, edges, hidden, explanation):
            lines.append(_of_source(explanation, node, edges))
    return lines


def _is_shown(
    node: GraphNode,
    edges: Sequence[LocalDerivative],
    hidden: set[GraphNode],
    explanation: Explanation,
) -> bool:
    """Whether a leaf's gradient is written: in a folded graph where its module was opened."""
    if not hidden:
        return True
    opened = tuple(f"{path}." for path in explanation.opened)
    return node.name.startswith(opened) and all(edge.target not in hidden for edge in edges)


def _of_source(explanation: Explanation, node: GraphNode, edges: Sequence[LocalDerivative]) -> Line:
    """The cotangent of a node: the sum of what comes along its edges."""
    name, left = explanation.output.name, _d(explanation, node.name)
    texts = [formula_texts(edge) for edge in edges]
    plain = " + ".join(plain for plain, _ in texts).replace("d@/d", f"d{name}/d")
    latex = " + ".join(latex for _, latex in texts)
    latex = latex.replace(r"\partial @", rf"\partial {latex_name(name)}")
    one = edges[0].formula if len(edges) == 1 else None
    written = "" if one is None else shapes(one)
    note = f"{written} -> {node.shape}" if written else str(node.shape)
    return Line(f"{left} = {plain}", f"{latex_name(left)} = {latex}", note)


def _norms(explanation: Explanation, group: Folded) -> Line:
    """How the gradient of a folded module's output became that of its input."""

    def sizes(nodes: Sequence[GraphNode]) -> str:
        flowing = [node for node in nodes if node in explanation.flow.cotangents]
        norms = (_norm(explanation, node) for node in flowing)
        pairs = zip(flowing, norms, strict=True)
        return ", ".join(f"|{_d(explanation, node.name)}| = {norm}" for node, norm in pairs)

    return Line(f"{sizes(group.exits)} -> {sizes(group.entries) or '0'}", None, group.group.path)


def _norm(explanation: Explanation, node: GraphNode) -> str:
    return number(np.linalg.norm(explanation.flow.of(node).astype(np.float64)))


# ------------------------------------------------------------------ results


def _results(explanation: Explanation, lang: str) -> Iterator[Line]:
    for wanted, count in zip(explanation.asked, explanation.path_counts, strict=True):
        yield from _of_wanted(explanation, wanted, count, lang)
    if not explanation.is_scalar and len(explanation.wanted) > MOST_DIFFERENCES:
        found = explanation.difference_of_all()
        yield Line(ALL.say(lang, length=number(found.gradient)))
        yield _of_difference(found, "", lang)


def _of_wanted(
    explanation: Explanation, wanted: GraphNode | Tensor, count: int, lang: str
) -> Iterator[Line]:
    output = explanation.output.name
    if count == 0 or not isinstance(wanted, GraphNode):
        yield Line(NO_PATH.say(lang, output=output, name=explanation.name_of(wanted)))
        return
    if explanation.is_scalar:
        yield from _chain(explanation, wanted, count, lang)
        yield _difference(explanation, wanted, lang)
    else:
        gradient, left = explanation.flow.of(wanted), _d(explanation, wanted.name)
        small = gradient.size <= 6
        shown = _values(gradient) if small else f"|{left}| = {_norm(explanation, wanted)}"
        plain = f"{left} = {shown}" if small else shown
        if len(explanation.wanted) > MOST_DIFFERENCES:
            yield Line(plain, None, str(wanted.shape))
            return
        difference = _difference(explanation, wanted, lang).plain
        yield Line(plain, None, f"{wanted.shape!s:<12}  {difference}")


def _values(array: np.ndarray) -> str:
    if array.ndim == 0:
        return number(array.item())
    return "[" + ", ".join(_values(part) for part in array) + "]"


def _chain(explanation: Explanation, wanted: GraphNode, count: int, lang: str) -> Iterator[Line]:
    left = _d(explanation, wanted.name)
    total = number(explanation.flow.of(wanted).item())
    if count > MOST_PATHS:
        yield Line(f"{left} = {total}")
        yield Line(BY_NODES.say(lang, count=count, most=MOST_PATHS), indent=1)
        return
    paths = explanation.paths_to(wanted)
    if len(paths) == 1:
        yield _of_path(left, paths[0])
        return
    yield Line(f"{left}: {PATHS.say(lang, count=len(paths))}")
    for path in paths:
        route = " <- ".join(_shortened([node.name for node in path.nodes]))
        line = _of_path("", path)
        yield Line(f"{route}: {line.plain}", line.latex, indent=1)
    products = [number(path.product) for path in paths]
    added = " + ".join(f"({p})" if p.startswith("-") else p for p in products)
    yield Line(f"{left} = {added} = {total}", f"{latex_name(left)} = {added} = {total}", indent=1)


def _of_path(left: str, path: Path) -> Line:
    """df/dw = df/dg * dg/dw = 1 * x = 1 * 5 = 5."""
    if not path.edges:
        return Line(f"{left} = 1", f"{latex_name(left)} = 1")
    names = [f"d{edge.target.name}/d{edge.source.name}" for edge in path.edges]
    numbers = [number(factor) for factor in path.factors]
    product = number(path.product)
    binds = 3 if len(path.edges) > 1 else 0
    formulas = [_factor(edge, Writer().write, binds) for edge in path.edges]
    spelled = [_factor(edge, LatexWriter().write, binds) for edge in path.edges]
    bracketed = [f"({n})" if n.startswith("-") and binds else n for n in numbers]
    names, formulas, spelled, bracketed = map(_shortened, (names, formulas, spelled, bracketed))
    plain = [left, *map(" * ".join, (names, formulas, bracketed)), product]
    fractions = [latex_name(name) for name in names]
    latex = [
        latex_name(left) if left else "",
        *map(r" \cdot ".join, (fractions, spelled, bracketed)),
    ]
    latex.append(product)
    return Line(
        " = ".join(step for step in dict.fromkeys(plain) if step),
        " = ".join(step for step in dict.fromkeys(latex) if step),
    )


def _shortened(parts: list[str]) -> list[str]:
    """The parts without their middle if they are many."""
    half = MOST_FACTORS // 2
    return parts if len(parts) <= MOST_FACTORS else [*parts[:half], "...", *parts[-half:]]


def _factor(edge: LocalDerivative, write: Callable[[Expression, int], str], binds: int) -> str:
    if edge.formula is None:
        return f"{edge.target.op}'"
    text = write(edge.formula, binds)
    return text if not isinstance(edge.formula, Symbol) else write(edge.formula, 0)


def _difference(explanation: Explanation, wanted: GraphNode, lang: str) -> Line:
    index = explanation.element if len(explanation.wanted) == 1 else None
    if not wanted.value.size:
        return Line(NO_DIFFERENCE.say(lang), indent=1)
    found = explanation.difference(wanted, index)
    at = f" [{', '.join(map(str, found.index))}]" if found.index and wanted.value.size > 1 else ""
    return _of_difference(found, at, lang)


def _of_difference(found: Difference, at: str, lang: str) -> Line:
    if found.numeric is None or found.error is None:
        return Line(NO_DIFFERENCE.say(lang), indent=1)
    numeric, error = f"{found.numeric:.8g}", f"{found.error:.1e}"
    return Line(DIFFERENCE.say(lang, at=at, numeric=numeric, error=error), indent=1)


# ------------------------------------------------------------------ one element


def _with_index(name: str, index: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, index))}]" if index else name


def _element(explanation: Explanation, lang: str) -> list[Line]:
    assert explanation.element is not None
    steps = followed(explanation, explanation.wanted[0], explanation.element)
    return [line for step in steps for line in _of_step(explanation, step, lang)]


def _of_step(explanation: Explanation, step: Step, lang: str) -> Iterator[Line]:
    name = _with_index(step.node.name, step.index)
    left = _d(explanation, name)
    if not step.terms:
        yield Line(f"{left} = {number(step.total)}")
        return
    names, numbers = [], []
    for term in step.terms:
        target = _with_index(term.node.name, term.index)
        names.append(f"{_d(explanation, target)} * d{target}/d{name}")
        factors = (number(term.cotangent), number(term.derivative))
        numbers.append(" * ".join(f"({x})" if x.startswith("-") else x for x in factors))
    rest = f" + ... ({OTHERS.say(lang, count=step.others)})" if step.others else ""
    yield Line(f"{left} = {' + '.join(names)}{rest}")
    yield Line(f"= {' + '.join(numbers)}{rest} = {number(step.total)}", indent=1)
