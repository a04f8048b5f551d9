"""`tk.check_derivation`: gradients derived by hand beside those of the chain rule.

A slip is recognised by making it: the gradient is computed again with the slip in it, and compared
with what was given.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from tinygrad_kr.arrays.operands import as_array
from tinygrad_kr.autograd import grad
from tinygrad_kr.explain.derivative import Adjust, flow, in_float64
from tinygrad_kr.explain.explanation import checked_output
from tinygrad_kr.explain.formula import number
from tinygrad_kr.explain.graph import Edge, Graph, GraphNode, graph_of
from tinygrad_kr.grad_mode import enable_grad
from tinygrad_kr.language import Text
from tinygrad_kr.tensor import Tensor

__all__ = ["CheckedGradient", "DerivationReport", "check_derivation"]

MOST_EDGES = 400
"""Edges of a graph in which slips are looked for one by one."""
MOST_COMPOSED = 8
"""Ops of a function that is composed of several, as 1 / (1 + exp(-z)) is."""

SLIPS: dict[str, Text] = {
    "transposed": Text("it is transposed", "전치되어 있습니다"),
    "sign": Text("its sign is wrong", "부호가 반대입니다"),
    "not_averaged": Text(
        "it is {factor} times too large: not averaged over {count} rows or elements",
        "옳은 값의 {factor}배입니다: {count}개에 대해 평균을 내지 않았습니다",
    ),
    "averaged_twice": Text(
        "it is {factor} times the right one: averaged once too often over {count}",
        "옳은 값의 {factor}배입니다: {count}개에 대해 평균을 한 번 더 냈습니다",
    ),
    "factor": Text("it is {factor} times the right one", "옳은 값의 {factor}배입니다"),
    "missing_derivative": Text(
        "the derivative of {op} is missing ({place})", "{op} 함수의 미분이 빠졌습니다 ({place})"
    ),
    "wrong_axis": Text(
        "it is summed over axis {axis}, not over the axes that were broadcast",
        "축 {axis} 방향으로 더했습니다. 브로드캐스팅된 축 방향으로 더해야 합니다",
    ),
    "not_summed": Text(
        "it is not summed over the axes that were broadcast: shape {given}, not {wanted}",
        "브로드캐스팅된 축 방향의 합이 빠졌습니다: 모양 {given}, 옳은 모양 {wanted}",
    ),
    "forgotten_path": Text(
        "the path through {place} is forgotten", "경로 하나가 빠졌습니다: {place}"
    ),
    "wrong_shape": Text("its shape is {given}, not {wanted}", "모양 {given}, 옳은 모양 {wanted}"),
    "other": Text(
        "it is wrong in {count} of {size} elements, most in {where}: {given}, not {wanted}",
        "원소 {size}개 가운데 {count}개가 틀렸습니다. 가장 크게 틀린 원소 {where}: {given}, "
        "옳은 값 {wanted}",
    ),
}
"""What each slip is, in words."""
SIGN_AT = Text("a sign is wrong ({place})", "부호 하나가 반대입니다 ({place})")
TRANSPOSED_AT = Text(
    "{name} is to be transposed on the way back through {place}",
    "{place}의 역전파에서 {name}의 전치가 빠졌습니다",
)
INSIDE: dict[str, Text] = {"sign": SIGN_AT, "transposed": TRANSPOSED_AT}
"""What a slip is that was made on the way."""
RIGHT, WRONG = Text("right", "맞습니다"), Text("wrong", "틀렸습니다")
_AND = Text(", and ", ". 또 ")


@dataclass(frozen=True, eq=False)
class CheckedGradient:
    """A gradient derived by hand, beside that of the chain rule.

    name: of the input. given: by hand. gradient: by the chain rule. slips: what was probably done
    wrong, as keys of `SLIPS`, the first first; empty where it is right. where: the index of the
    largest error, None for another shape. factor: given / gradient, where that is one number.
    """

    name: str
    given: ndarray
    gradient: ndarray
    slips: tuple[str, ...]
    where: tuple[int, ...] | None
    factor: float | None
    _said: tuple[Text, ...]
    _values: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        """Whether it is right."""
        return not self.slips

    @property
    def slip(self) -> str | None:
        """The likely slip, a key of `SLIPS`; None where the gradient is right."""
        return self.slips[0] if self.slips else None

    def message(self, lang: str | None = None) -> str:
        """What is wrong, in English ("en") or Korean ("ko")."""
        if self.ok:
            return f"{self.name}: {RIGHT.say(lang)}"
        texts = [text.say(lang, **self._values) for text in self._said]
        return f"{self.name}: {WRONG.say(lang)}: {_AND.say(lang).join(texts)}"


class DerivationReport(list[CheckedGradient]):
    """The gradients that were checked, in the order in which they were given."""

    @property
    def ok(self) -> bool:
        """Whether all are right."""
        return all(checked.ok for checked in self)

    def text(self, lang: str | None = None) -> str:
        """A line for each, in English ("en") or Korean ("ko")."""
        return "\n".join(checked.message(lang) for checked in self)

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        from tinygrad_kr import html

        return html.plain(self.text())


def check_derivation(y: Tensor, gradients: Mapping[Tensor, Any]) -> DerivationReport:
    """Check gradients that were derived by hand: which is wrong, where, and by what likely slip.

    y: a Tensor of one element.
    gradients: for each input of `y` what was derived, dy / d input: an array, Tensor or number.

    A slip is recognised by making it. These are: transposed, a wrong sign, a factor, not averaged
    over the batch, a missing derivative of an activation, summed over a wrong axis or not at all, a
    forgotten path; and two of them at once where one is a sign or a factor. An activation may be
    one op or several, as 1 / (1 + exp(-z)) is; a sign or a matrix may be wrong on the way.
    Right is what differs from the chain rule by at most 1e-4 of its largest element in float32,
    1e-7 in float64. A graph of float32 is computed again in float64 before anything is called
    wrong. Neither the graph nor `.grad` changes.

    Returns a list of `CheckedGradient`, with `.ok` and `.text(lang=)`.
    Raises TypeError for gradients that are no numbers, ValueError for an input on which y does not
    depend or a `y` of several elements.

    >>> w = tk.tensor([1.0, 2.0], requires_grad=True)
    >>> x = tk.tensor([[1.0, 3.0], [2.0, 4.0]])
    >>> y = (x @ w).mean()
    >>> print(tk.check_derivation(y, {w: [3.0, 7.0]}).text("en"))
    w: wrong: it is 2 times too large: not averaged over 2 rows or elements
    """
    output = checked_output(y, "check_derivation")
    if not isinstance(gradients, Mapping):
        raise TypeError(
            "check_derivation: expected a dict from inputs to gradients, got "
            f"{type(gradients).__name__}. Write {{w: my_dw}}"
        )
    graph = graph_of([output], sys._getframe(1), "check_derivation")
    return DerivationReport(_checked(graph, x, given) for x, given in gradients.items())


def _checked(graph: Graph, x: Any, given: Any) -> CheckedGradient:
    if not isinstance(x, Tensor):
        raise TypeError(f"check_derivation: expected Tensors as keys, got {type(x).__name__}.")
    node = graph.node_of(x)
    if node is None or not node.requires_grad:
        name = repr(x.shape) if node is None else node.name
        raise ValueError(
            f"check_derivation: expected an input on which y depends, got {name}. Set "
            "requires_grad=True before computing y"
        )
    try:
        array = np.asarray(as_array(given), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"check_derivation: expected numbers for {node.name}. {error}") from error
    gradient = flow(graph, [node]).of(node)
    if _is_close(array, gradient) or _is_close_in_float64(graph, node, array, gradient):
        found = _Slip("right")
    else:
        found = _slip(graph, node, array, gradient)
    where, factor = _where(array, gradient), _factor(array, gradient)
    kinds = () if found.kind == "right" else tuple(k for k in (found.kind, found.second) if k)
    values = _described(array, gradient, where) | dict(found.values or {})
    said = tuple(
        INSIDE[kind] if found.inside and kind == found.kind else SLIPS[kind] for kind in kinds
    )
    return CheckedGradient(node.name, array, gradient, kinds, where, factor, said, values)


def _is_close_in_float64(graph: Graph, node: GraphNode, given: ndarray, gradient: ndarray) -> bool:
    """Whether it is right, and it is the float32 of the graph that is less accurate."""
    if gradient.dtype == np.float64 or given.shape != gradient.shape:
        return False
    try:
        wide, nodes = in_float64(graph)
        exact = flow(wide, [nodes[node]]).of(nodes[node])
    except Exception:  # such as of an op that computes no other values
        return False
    return _is_close(given, exact.astype(gradient.dtype))


def _described(given: ndarray, gradient: ndarray, where: tuple[int, ...] | None) -> dict[str, Any]:
    if where is None:
        return {"given": given.shape, "wanted": gradient.shape}
    wrong = int((np.abs(given - gradient) > _tolerance(gradient)).sum())
    return {
        "count": wrong,
        "size": gradient.size,
        "where": list(where),
        "given": number(given[where]),
        "wanted": number(gradient[where]),
    }


def _where(given: ndarray, gradient: ndarray) -> tuple[int, ...] | None:
    if given.shape != gradient.shape or not given.size:
        return None
    error = np.abs(given - gradient)
    flat = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    return tuple(int(i) for i in np.unravel_index(flat, given.shape))


# ------------------------------------------------------------------ slips


class _Slip(NamedTuple):
    """A slip, perhaps with a second one, and what their texts need."""

    kind: str
    second: str = ""
    values: Mapping[str, Any] | None = None
    inside: bool = False


class _Variant(NamedTuple):
    """The gradient with a slip in it."""

    array: ndarray
    slip: _Slip


def _slip(graph: Graph, node: GraphNode, given: ndarray, gradient: ndarray) -> _Slip:
    """The first slip that gives what was given; before a factor all slips without one."""
    variants: list[_Variant] = []
    for make in (_simple, _axes, _missing, _forgotten, _missing_together, _inside):
        for variant in make(graph, node, gradient):
            if variant.slip.kind != "right" and _is_close(given, variant.array):
                return variant.slip
            variants.append(variant)
    counts = _averaged(graph)
    for variant in variants:
        found = _compared(given, variant, counts)
        if found is not None:
            return found
    return _Slip("other" if given.shape == gradient.shape else "wrong_shape")


def _compared(given: ndarray, variant: _Variant, counts: _Counts) -> _Slip | None:
    """The variant's slip with the sign or factor with which it gives what was given, or None."""
    array, slip = variant
    if given.shape != array.shape:
        return None
    factor = _factor(given, array)
    if factor is None:
        return None
    known = slip.kind != "right"
    kind, values = _of_factor(factor, counts)
    if known and kind == "factor":
        return None  # of any number: too weak beside another slip
    values = dict(slip.values or {}) | values
    return _Slip(slip.kind, kind, values, slip.inside) if known else _Slip(kind, "", values)


def _of_factor(factor: float, counts: _Counts) -> tuple[str, dict[str, Any]]:
    if abs(factor + 1) < 1e-4:
        return "sign", {}
    for count in counts.all:
        if abs(factor / count - 1) < 1e-4:
            return "not_averaged", {"factor": number(round(factor, 4)), "count": count}
        if count >= counts.least and abs(factor * count - 1) < 1e-4:
            return "averaged_twice", {"factor": f"1/{count}", "count": count}
    return "factor", {"factor": number(round(factor, 4))}


def _factor(given: ndarray, array: ndarray) -> float | None:
    """The one number by which every element was multiplied; None if there is none."""
    if given.shape != array.shape or not given.size:
        return None
    exact = array.astype(np.float64)
    norm = float((exact * exact).sum())
    if norm == 0 or not np.isfinite(norm):
        return None
    factor = float((given * exact).sum()) / norm
    fits = np.isfinite(factor) and abs(factor) > 1e-12 and _is_close(given / factor, array)
    return factor if fits else None


def _is_close(given: ndarray, array: ndarray) -> bool:
    if given.shape != array.shape:
        return False
    with np.errstate(all="ignore"):
        near = np.abs(given - array) <= _tolerance(array)
    return bool((near | (given == array) | (np.isnan(given) & np.isnan(array))).all())


def _tolerance(array: ndarray) -> float:
    exact = array.astype(np.float64)
    largest = float(np.abs(exact[np.isfinite(exact)]).max(initial=0.0))
    return largest * (1e-7 if array.dtype == np.float64 else 1e-4)


class _Counts(NamedTuple):
    """The numbers over which a batch could be averaged, from 2 on.

    least: of those that a division too much may be by. Beside a square 1/2 is a factor of its own.
    """

    all: list[int]
    least: int


def _averaged(graph: Graph) -> _Counts:
    found: set[int] = set()
    for node in graph.nodes:
        read = [x for x in node.inputs if isinstance(x, GraphNode) and x.requires_grad]
        if len(read) == 1 and node.op not in _NO_SUMS:
            found |= _summed(node, read[0])
        if node.op == "divide" and isinstance(node.inputs[1], int) and node.inputs[1] > 2:
            found.add(node.inputs[1])  # by hand; a half is of a square
    squares = any(node.op in ("square", "power") for node in graph.nodes)
    return _Counts(sorted(count for count in found if count > 1), 3 if squares else 2)


_NO_SUMS = {"getitem", "matmul", "linear", "einsum"}
"""Ops that make an array smaller, but not over a batch."""


def _summed(node: GraphNode, given: GraphNode) -> set[int]:
    """How many rows and elements an op adds to one; of a mean also how many in a row."""
    if not 0 < node.value.size < given.value.size:
        return set()
    if node.shape[:1] == given.shape[:1] and node.op != "mean":  # a loss of each row
        return set()
    rows, elements = given.shape[0], given.value.size // node.value.size
    return {rows, elements} | ({elements // rows} if node.op != "sum" else set())


# ------------------------------------------------------------------ gradients with a slip


def _simple(graph: Graph, node: GraphNode, gradient: ndarray) -> Iterator[_Variant]:
    yield _Variant(gradient, _Slip("right"))
    yield _Variant(-gradient, _Slip("sign"))
    if gradient.ndim == 2:
        yield _Variant(gradient.T, _Slip("transposed"))


def _axes(graph: Graph, node: GraphNode, gradient: ndarray) -> Iterator[_Variant]:
    """Summed over other axes, or over none, where the input was broadcast."""
    found = flow(graph, [node])
    wholes = [
        _not_summed(edge, found.of(edge.target), each.cotangent)
        for edge, each in found.locals.items()
        if edge.source is node
    ]
    shapes = {whole.shape for whole in wholes}
    if len(shapes) != 1 or shapes == {gradient.shape}:
        return
    whole: ndarray = np.sum(wholes, axis=0)
    for axis in range(whole.ndim):
        for keepdims in (False, True):
            summed = whole.sum(axis=axis, keepdims=keepdims)
            if summed.shape != gradient.shape or not np.allclose(summed, gradient):
                yield _Variant(summed, _Slip("wrong_axis", "", {"axis": axis}))
    values = {"given": whole.shape, "wanted": gradient.shape}
    yield _Variant(whole, _Slip("not_summed", "", values))


def _not_summed(edge: Edge, g: ndarray, summed: ndarray) -> ndarray:
    """What flows along an edge to an input that was broadcast, before it is summed."""
    shape = edge.target.shape
    if edge.source.shape == shape:
        return summed
    original = edge.target.tensor
    given = [Tensor(x) if isinstance(x, ndarray) else x for x in original._values]
    try:
        wide = np.broadcast_to(edge.source.value, shape)
        given[edge.position] = leaf = Tensor(wide.copy(), requires_grad=True)
        with enable_grad():
            again = edge.target.record(*given, **edge.target.params)
        (gx,) = grad(again, (leaf,), Tensor(g))
        return np.asarray(gx.data)
    except Exception:  # not an op of elements, such as a bias within `linear`
        return g


def _missing(graph: Graph, node: GraphNode, gradient: ndarray) -> Iterator[_Variant]:
    """Without the derivative of one function of one array."""
    for edge in _functions(graph):
        yield _without(graph, node, {edge}, edge.target.name)


def _functions(graph: Graph) -> list[Edge]:
    edges = [edge for edge in graph.edges if _is_function(edge)]
    return edges if len(edges) <= MOST_EDGES else []


def _is_function(edge: Edge) -> bool:
    """Whether the op computes an array of the same shape from this one alone."""
    arrays = [x for x in edge.target.inputs if isinstance(x, GraphNode)]
    numbers = [x for x in edge.target.inputs if not isinstance(x, GraphNode)]
    plain = len(arrays) == 1 and (not numbers or edge.target.op == "power")
    same = edge.source.shape == edge.target.shape and edge.source.requires_grad
    return plain and same and edge.target.op != "negative"  # of which the derivative is a sign


def _missing_together(graph: Graph, node: GraphNode, gradient: ndarray) -> Iterator[_Variant]:
    """Without the derivatives of all functions, all of one op, or one that several ops compute."""
    edges = _functions(graph)
    inner = [edge for edge in edges if edge.target.op not in ("square", "power")]
    ops = dict.fromkeys(edge.target.op for edge in edges)
    groups = [edges, inner, *([e for e in edges if e.target.op == op] for op in ops)]
    for group in groups:
        if len(group) > 1:
            yield _without(graph, node, set(group), ", ".join(e.target.name for e in group[:4]))
    into: dict[GraphNode, list[Edge]] = {}
    for edge in graph.edges:
        if edge.source.requires_grad:
            into.setdefault(edge.target, []).append(edge)
    alike: dict[tuple[str | None, ...], list[_Composed]] = {}
    for end in list(into)[:MOST_EDGES]:
        for part in _composed(end, into):
            yield _without(graph, node, part.along, end.name, part.beside)
            both = part.along | part.beside
            kind = tuple(edge.target.op for edge in graph.edges if edge in both)
            alike.setdefault(kind, []).append(part)
    for parts in alike.values():
        if len(parts) > 1:
            along = frozenset().union(*(part.along for part in parts))
            beside = frozenset().union(*(part.beside for part in parts))
            place = ", ".join(part.end.name for part in parts[:4])
            yield _without(graph, node, along, place, beside)


class _Composed(NamedTuple):
    """A part of the graph that computes `end` from one array: a way through, the other edges."""

    end: GraphNode
    along: frozenset[Edge]
    beside: frozenset[Edge]


def _composed(end: GraphNode, into: Mapping[GraphNode, list[Edge]]) -> Iterator[_Composed]:
    """From the last op back: a part ends where all that was read comes from one array."""
    waiting = {end}
    part: list[Edge] = []
    way: dict[GraphNode, Edge] = {}
    while len(way) < MOST_COMPOSED:
        node = max(waiting, key=lambda x: x.tensor._made if x in into else -1)  # the youngest
        edges = into.get(node, [])
        if not edges or any(edge.source.shape != end.shape for edge in edges):
            return
        waiting.remove(node)
        way[node] = edges[0]
        part += edges
        waiting.update(edge.source for edge in edges)
        if len(waiting) == 1 and len(way) > 1:
            along, at = set(), end
            while at in way:
                along.add(way[at])
                at = way[at].source
            yield _Composed(end, frozenset(along), frozenset(part) - along)


def _without(
    graph: Graph,
    node: GraphNode,
    along: Collection[Edge],
    place: str,
    beside: Collection[Edge] = (),
) -> _Variant:
    """The gradient as if the derivatives along these edges were 1, and 0 beside them."""
    ops = dict.fromkeys(
        str(edge.target.op) for edge in graph.edges if edge in along or edge in beside
    )
    values = {"op": ", ".join(ops), "place": place}

    def adjust(edge: Edge, gx: ndarray, g: ndarray) -> ndarray | None:
        if edge in beside:
            return None
        return g.astype(gx.dtype) if edge in along else gx

    return _Variant(_adjusted(graph, node, adjust), _Slip("missing_derivative", "", values))


def _forgotten(graph: Graph, node: GraphNode, gradient: ndarray) -> Iterator[_Variant]:
    """Without one of the edges of a node that is read more than once, or with one of many."""
    readers: dict[GraphNode, list[Edge]] = {}
    for edge in graph.edges:
        if edge.source.requires_grad:
            readers.setdefault(edge.source, []).append(edge)
    several = [edges for edges in readers.values() if len(edges) > 1]
    dropped = [{edge} for edges in several for edge in edges]
    dropped += [set(edges) - {one} for edges in several if len(edges) > 2 for one in edges]
    for edges in dropped[:MOST_EDGES]:
        place = ", ".join(f"{e.target.name} <- {e.source.name}" for e in graph.edges if e in edges)
        slip = _Slip("forgotten_path", "", {"place": place})
        yield _Variant(_adjusted(graph, node, _dropping(edges)), slip)


def _inside(graph: Graph, node: GraphNode, gradient: ndarray) -> Iterator[_Variant]:
    """A sign or a transposed matrix that was forgotten on the way."""
    for edge in graph.edges[:MOST_EDGES]:
        place = {"place": edge.target.name}
        if edge.target.op == "negative" or (edge.target.op, edge.position) == ("subtract", 1):
            array = _adjusted(graph, node, _changing(edge, lambda gx, g: -gx))
            yield _Variant(array, _Slip("sign", "", place, True))
        if edge.target.op in ("matmul", "linear") and edge.position == 0:
            matrix = edge.target.inputs[1]
            if matrix.value.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
                continue
            other = matrix.value if edge.target.op == "matmul" else matrix.value.T
            array = _adjusted(graph, node, _changing(edge, _times(other)))
            slip = _Slip("transposed", "", place | {"name": matrix.name}, True)
            yield _Variant(array, slip)


def _adjusted(graph: Graph, node: GraphNode, adjust: Adjust) -> ndarray:
    return flow(graph, [node], adjust=adjust).of(node)


def _changing(changed: Edge, change: Callable[[ndarray, ndarray], ndarray]) -> Adjust:
    return lambda edge, gx, g: change(gx, g) if edge is changed else gx


def _times(matrix: ndarray) -> Callable[[ndarray, ndarray], ndarray]:
    return lambda gx, g: g @ matrix


def _dropping(dropped: Collection[Edge]) -> Adjust:
    return lambda edge, gx, g: None if edge in dropped else gx
