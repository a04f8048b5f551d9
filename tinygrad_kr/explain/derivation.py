"""`tk.check_derivation`: gradients derived by hand beside those of the chain rule.

A slip is recognised by making it: the gradient is computed again with the slip in it, and compared
with what was given.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from tinygrad_kr.arrays.operands import as_array
from tinygrad_kr.explain.derivative import Adjust, flow
from tinygrad_kr.explain.explanation import checked_output
from tinygrad_kr.explain.formula import number
from tinygrad_kr.explain.graph import Edge, Graph, GraphNode, graph_of
from tinygrad_kr.language import Text
from tinygrad_kr.tensor import Tensor

__all__ = ["CheckedGradient", "DerivationReport", "check_derivation"]

MOST_EDGES = 400
"""Edges of a graph in which slips are looked for one by one."""

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
    forgotten path; and two of them at once where one is a sign or a factor.
    Right is what differs from the chain rule by at most 1e-4 of its largest element in float32,
    1e-7 in float64. Neither the graph nor `.grad` changes.

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
    found = _Slip("right") if _is_close(array, gradient) else _slip(graph, node, array, gradient)
    where, factor = _where(array, gradient), _factor(array, gradient)
    kinds = () if found.kind == "right" else tuple(k for k in (found.kind, found.second) if k)
    values = _described(array, gradient, where) | dict(found.values or {})
    said = tuple(SLIPS[kind] for kind in kinds)
    return CheckedGradient(node.name, array, gradient, kinds, where, factor, said, values)


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


class _Variant(NamedTuple):
    """The gradient with a slip in it."""

    array: ndarray
    slip: _Slip


def _slip(graph: Graph, node: GraphNode, given: ndarray, gradient: ndarray) -> _Slip:
    """The first slip that gives what was given; before a factor all slips without one."""
    makers = (_simple, _axes, _missing, _forgotten)
    variants = [variant for make in makers for variant in make(graph, node, gradient)]
    for variant in variants:
        if variant.slip.kind != "right" and _is_close(given, variant.array):
            return variant.slip
    counts = _averaged(graph)
    for variant in variants:
        found = _compared(given, variant, counts)
        if found is not None:
            return found
    return _Slip("other" if given.shape == gradient.shape else "wrong_shape")


def _compared(given: ndarray, variant: _Variant, counts: set[int]) -> _Slip | None:
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
    return _Slip(slip.kind, kind, values) if known else _Slip(kind, "", values)


def _of_factor(factor: float, counts: set[int]) -> tuple[str, dict[str, Any]]:
    if abs(factor + 1) < 1e-4:
        return "sign", {}
    for count in sorted(counts):
        if abs(factor / count - 1) < 1e-4:
            return "not_averaged", {"factor": number(round(factor, 4)), "count": count}
        if abs(factor * count - 1) < 1e-4:
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


def _averaged(graph: Graph) -> set[int]:
    """The numbers over which a batch could be averaged: lengths and sizes, from 2 on.

    Beside a square, a factor of 2 is its own.
    """
    shapes = {node.shape for node in graph.nodes}
    first = {shape[0] for shape in shapes if shape}
    sizes = {int(np.prod(shape)) for shape in shapes}
    least = 2 if any(node.op in ("square", "power") for node in graph.nodes) else 1
    return {count for count in first | sizes if count > least}


# ------------------------------------------------------------------ gradients with a slip


def _simple(graph: Graph, node: GraphNode, gradient: ndarray) -> Iterator[_Variant]:
    if gradient.ndim == 2:
        yield _Variant(gradient.T, _Slip("transposed"))
    yield _Variant(gradient, _Slip("right"))


def _missing(graph: Graph, node: GraphNode, gradient: ndarray) -> Iterator[_Variant]:
    """Without the derivative of one function of one array, or of all."""
    edges = [edge for edge in graph.edges if _is_function(edge)]
    if not 0 < len(edges) <= MOST_EDGES:
        return
    for edge in edges:
        values = {"op": edge.target.op, "place": edge.target.name}
        slip = _Slip("missing_derivative", "", values)
        yield _Variant(_adjusted(graph, node, _passing({edge})), slip)
    if len(edges) > 1:
        names = ", ".join(edge.target.name for edge in edges[:4])
        values = {"op": ", ".join(dict.fromkeys(str(e.target.op) for e in edges)), "place": names}
        slip = _Slip("missing_derivative", "", values)
        yield _Variant(_adjusted(graph, node, _passing(set(edges))), slip)


def _is_function(edge: Edge) -> bool:
    """Whether the op computes an array of the same shape from this one alone."""
    arrays = [x for x in edge.target.inputs if isinstance(x, GraphNode)]
    numbers = [x for x in edge.target.inputs if not isinstance(x, GraphNode)]
    plain = len(arrays) == 1 and (not numbers or edge.target.op == "power")
    return plain and edge.source.shape == edge.target.shape and edge.source.requires_grad


def _forgotten(graph: Graph, node: GraphNode, gradient: ndarray) -> Iterator[_Variant]:
    """Without one of the edges of a node that is read more than once."""
    readers: dict[GraphNode, list[Edge]] = {}
    for edge in graph.edges:
        if edge.source.requires_grad:
            readers.setdefault(edge.source, []).append(edge)
    several = [edge for edges in readers.values() if len(edges) > 1 for edge in edges]
    for edge in several[:MOST_EDGES]:
        slip = _Slip("forgotten_path", "", {"place": f"{edge.target.name} <- {edge.source.name}"})
        yield _Variant(_adjusted(graph, node, _dropping(edge)), slip)


def _axes(graph: Graph, node: GraphNode, gradient: ndarray) -> Iterator[_Variant]:
    """Summed over other axes, or over none, where the input was broadcast."""
    found = flow(graph, [node])
    for edge in graph.edges:
        if edge.source is not node or edge.target not in found.cotangents:
            continue
        if edge.source.shape == edge.target.shape:
            continue
        whole = found.of(edge.target)
        for axis in range(whole.ndim):
            summed = whole.sum(axis=axis)
            if summed.shape != gradient.shape or not np.allclose(summed, gradient):
                yield _Variant(summed, _Slip("wrong_axis", "", {"axis": axis}))
        if whole.shape != gradient.shape:
            values = {"given": whole.shape, "wanted": gradient.shape}
            yield _Variant(whole, _Slip("not_summed", "", values))


def _adjusted(graph: Graph, node: GraphNode, adjust: Adjust) -> ndarray:
    return flow(graph, [node], adjust=adjust).of(node)


def _passing(edges: set[Edge]) -> Callable[[Edge, ndarray, ndarray], ndarray]:
    """Passes the cotangent on as if the derivative were 1."""
    return lambda edge, gx, g: g.astype(gx.dtype) if edge in edges else gx


def _dropping(dropped: Edge) -> Callable[[Edge, ndarray, ndarray], ndarray | None]:
    return lambda edge, gx, g: None if edge is dropped else gx
