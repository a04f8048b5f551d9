"""Formulas: what an op computes and what its rule computes, as expressions that print themselves.

A rule is run once on Tensors. Each op that it calls is noted, and the notes are the formula. So
there is no second table of derivatives, and an op of the user's has formulas as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from threading import get_ident
from typing import Any, NoReturn

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops import elementwise, indexing, reduction, shape
from tinygrad_kr.ops.linalg import matmul
from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.op import astype
from tinygrad_kr.ops.tracing import current_tracer, tracers
from tinygrad_kr.transformations import _alias

__all__ = ["Call", "Expression", "Literal", "Notebook", "Opaque", "Symbol", "simplified"]


# ------------------------------------------------------------------ expressions


@dataclass(frozen=True)
class Symbol:
    """Something with a name: a node of the graph, or a cotangent."""

    name: str
    shape: tuple[int, ...] = ()
    value: ndarray | None = None


@dataclass(frozen=True)
class Literal:
    """A number."""

    value: float


@dataclass(frozen=True)
class Opaque:
    """An array that no noted op computed."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """An op of expressions."""

    record: Any
    inputs: tuple[Expression, ...]
    params: tuple[tuple[str, Any], ...]
    shape: tuple[int, ...]


Expression = Symbol | Literal | Opaque | Call


def parts(expression: Expression) -> Iterator[Expression]:
    """The expression and all that it is made of."""
    yield expression
    if isinstance(expression, Call):
        for x in expression.inputs:
            yield from parts(x)


def is_readable(expression: Expression) -> bool:
    """Whether every part has a name, and a person would read the whole."""
    found = list(parts(expression))
    return len(found) <= LONGEST and not any(map(_is_unreadable, found))


def _is_unreadable(part: Expression) -> bool:
    """Whether a part has no name, or is the op of a kernel that computes all cotangents at once."""
    if isinstance(part, Call):
        return part.record.kernel is not None and not part.record.rules
    return isinstance(part, Opaque)


LONGEST = 24
"""Parts of a formula; a longer one is written as op' instead."""


# ------------------------------------------------------------------ what a rule computes


class Unreadable(Exception):
    """A rule looked at numbers, so that its formula would hold for these numbers alone."""


class Notebook:
    """A tracer that notes each op that is called: its record, its inputs and its parameters."""

    keeps_tensors = False
    composes = False
    expands = True

    def __init__(self) -> None:
        self._calls: dict[int, tuple[Any, Sequence[Any], dict[str, Any]]] = {}
        self._kept: list[Any] = []

    def note(self, record: Any, inputs: Sequence[Any], params: dict[str, Any], out: Node) -> None:
        """An op computed `out`."""
        self._calls[id(out)] = record, tuple(inputs), dict(params)
        self._kept.append(out)

    def expression(self, x: Any, symbols: Mapping[int, Expression]) -> Expression:
        """How `x` was computed from the symbols, which are found by the ids of their Tensors."""
        if id(x) in symbols:
            return symbols[id(x)]
        if id(x) in self._calls:
            record, inputs, params = self._calls[id(x)]
            read = tuple(self.expression(each, symbols) for each in inputs)
            return Call(record, read, tuple(params.items()), tuple(x.shape))
        return constant_of(x)

    # The other reports of a traced function are of no interest.

    def created(self, node: Any) -> None: ...
    def check(self, function: Callable[..., Any], array: Any, *rest: Any) -> None: ...
    def about_to_draw(self, generator: Any) -> None: ...
    def about_to_write(self, node: Any) -> None: ...
    def written(self, node: Any, key: Any, value: Any, what: str) -> None: ...
    def touch_gradient(self, leaf: Any) -> None: ...
    def touch_gradients(self, leaves: Iterable[Any], set_to_none: bool) -> None: ...
    def read_gradient(self, leaf: Any) -> None: ...
    def add_gradient(self, leaf: Any, g: Any) -> None: ...
    def copied(self, node: Node, data: Node) -> None: ...
    def gives_tensor(self, node: Node) -> None: ...
    def step(self, optimizer: Any) -> None: ...
    def remark(self, what: str) -> None: ...

    def read(self, x: Any) -> Any:
        """The elements of an array, which become constants."""
        return x._data if isinstance(x, Node) else x

    def refuse(self, what: str) -> NoReturn:
        """A value is needed."""
        raise Unreadable(what)

    def give_up(self, what: str) -> NoReturn:
        """A value was looked at."""
        raise Unreadable(what)

    def run(self, function: Callable[[], Any]) -> Any:
        """Call a function of no arguments and note the ops that it calls."""
        context = copy_context()
        context.run(current_tracer.set, self)
        thread = get_ident()
        with _tracing(thread, self):
            return context.run(function)


@contextmanager
def _tracing(thread: int, tracer: Notebook) -> Iterator[None]:
    before = tracers.get(thread)
    tracers[thread] = tracer
    try:
        yield
    finally:
        if before is None:
            tracers.pop(thread, None)
        else:
            tracers[thread] = before


def constant_of(x: Any) -> Expression:
    """What stands for something that no op computed."""
    array = x._data if isinstance(x, Node) else x
    if isinstance(array, bool | int | float | np.number | np.bool_):
        return Literal(float(array))
    if isinstance(array, ndarray) and array.size and array.dtype.kind in "fiub":
        first = array.flat[0]
        if array.size == 1 or (array == first).all():
            return Literal(float(first))
    return Opaque(tuple(getattr(array, "shape", ())))


# ------------------------------------------------------------------ simpler


def simplified(expression: Expression) -> Expression:
    """The expression without what changes no number: factors of 1, copies, conversions."""
    if not isinstance(expression, Call):
        return expression
    inputs = tuple(simplified(x) for x in expression.inputs)
    call = Call(expression.record, inputs, expression.params, expression.shape)
    if call.record in _SAME:
        return inputs[0]
    small = inputs and _size(call.shape) == 1 == _size(_shape(inputs[0]))
    if call.record in _OF_ONE and (small or _shape(inputs[0]) == call.shape):
        return inputs[0]
    if call.record is elementwise.multiply:
        return _product(call)
    if call.record is elementwise.power_derivative:
        return _slope_of_power(call)
    if call.record is elementwise.where_or_zero and inputs[0] == Literal(1.0):
        if is_condition(inputs[1]):
            return inputs[1]
        return Call(elementwise.not_equal, (inputs[1], Literal(0.0)), (), call.shape)
    if call.record is elementwise.power and inputs[1] == Literal(1.0):
        return inputs[0]
    if call.record is elementwise.divide and _is(inputs[0], elementwise.negative):
        inner = Call(elementwise.divide, (inputs[0].inputs[0], inputs[1]), (), call.shape)  # type: ignore[union-attr]
        return Call(elementwise.negative, (inner,), (), call.shape)
    if call.record is elementwise.divide and inputs[1] == Literal(1.0):
        return inputs[0]
    if call.record is elementwise.negative and isinstance(inputs[0], Literal):
        return Literal(-inputs[0].value)
    if call.record is elementwise.negative and _is(inputs[0], elementwise.negative):
        return inputs[0].inputs[0]  # type: ignore[union-attr]
    if call.record in (elementwise.add, elementwise.subtract) and inputs[1] == Literal(0.0):
        return inputs[0]
    return call


def _slope_of_power(call: Call) -> Expression:
    """b * a**(b - 1) or a**b * log(a) for the op that computes them at every a; else the call."""
    (a, b), orders = call.inputs, dict(call.params)
    if (orders["by_base"], orders["by_exponent"]) == (1, 0):
        less = Call(elementwise.subtract, (b, Literal(1.0)), (), _shape(b))
        return _times(b, Call(elementwise.power, (a, less), (), call.shape), call)
    if (orders["by_base"], orders["by_exponent"]) == (0, 1):
        power = Call(elementwise.power, (a, b), (), call.shape)
        return _times(power, Call(elementwise.log, (a,), (), _shape(a)), call)
    return call


def _times(a: Expression, b: Expression, call: Call) -> Expression:
    return Call(elementwise.multiply, (a, b), (), call.shape)


def is_condition(expression: Expression) -> bool:
    """Whether the elements are true or false."""
    if not isinstance(expression, Call):
        return False
    if expression.record in _BITWISE:
        return all(map(is_condition, expression.inputs))
    return expression.record in _CONDITIONS


def _product(call: Call) -> Expression:
    a, b = call.inputs
    if a == b and not isinstance(a, Literal):
        return Call(elementwise.square, (a,), (), call.shape)
    for one, other in ((a, b), (b, a)):
        if one == Literal(1.0) and _shape(other) in (call.shape, ()):
            return other
        if one == Literal(-1.0):
            return simplified(Call(elementwise.negative, (other,), (), call.shape))
    if isinstance(a, Literal) and isinstance(b, Literal):
        return Literal(a.value * b.value)
    for one, other in ((a, b), (b, a)):  # 1 / x times y is y / x
        if _is(one, elementwise.divide) and one.inputs[0] == Literal(1.0):  # type: ignore[union-attr]
            return Call(elementwise.divide, (other, one.inputs[1]), (), call.shape)  # type: ignore[union-attr]
        if _is(one, elementwise.negative):
            inner = Call(elementwise.multiply, (one.inputs[0], other), (), call.shape)  # type: ignore[union-attr]
            return Call(elementwise.negative, (simplified(inner),), (), call.shape)
    return call


def _is(expression: Expression, record: Any) -> bool:
    return isinstance(expression, Call) and expression.record is record


def _shape(expression: Expression) -> tuple[int, ...]:
    return () if isinstance(expression, Literal) else expression.shape


def _size(form: tuple[int, ...]) -> int:
    return int(np.prod(form, dtype=np.int64))


_SAME = {astype, _alias, elementwise.positive, shape.broadcast_to}
"""Ops that are not written: copies, conversions, and the broadcasting that operators do anyway."""
_BITWISE = {elementwise.bitwise_and: ("and", r"\land"), elementwise.bitwise_or: ("or", r"\lor")}
"""Ops that are those of logic between conditions, and how they are written then."""
_CONDITIONS = {
    elementwise.greater, elementwise.less, elementwise.greater_equal, elementwise.less_equal,
    elementwise.equal, elementwise.not_equal, elementwise.isnan, elementwise.isinf,
    elementwise.isfinite, elementwise.logical_not, elementwise.logical_and, elementwise.logical_or,
}  # fmt: skip
"""Ops whose elements are true or false."""
_OF_ONE = {shape.reshape, reduction.sum_, reduction.mean_}
"""Ops that are not written where their input has as many elements as their output."""


# ------------------------------------------------------------------ printing

_INFIX: dict[Any, tuple[str, int]] = {
    elementwise.add: ("+", 1),
    elementwise.subtract: ("-", 1),
    elementwise.multiply: ("*", 2),
    elementwise.divide: ("/", 2),
    matmul: ("@", 2),
    elementwise.power: ("**", 4),
    elementwise.greater: (">", 0),
    elementwise.less: ("<", 0),
    elementwise.greater_equal: (">=", 0),
    elementwise.less_equal: ("<=", 0),
    elementwise.equal: ("==", 0),
    elementwise.not_equal: ("!=", 0),
}
"""Operators and how tightly they bind."""
_LATEX_INFIX: dict[Any, tuple[str, int]] = {
    elementwise.multiply: (r"\cdot", 2),
    matmul: (r"\,", 2),
    elementwise.greater_equal: (r"\ge", 0),
    elementwise.less_equal: (r"\le", 0),
    elementwise.equal: ("=", 0),
    elementwise.not_equal: (r"\ne", 0),
}
_LATEX_FUNCTIONS: dict[Any, str] = {
    elementwise.exp: r"\exp",
    elementwise.log: r"\log",
    elementwise.sin: r"\sin",
    elementwise.cos: r"\cos",
    elementwise.tan: r"\tan",
    elementwise.tanh: r"\tanh",
    elementwise.sigmoid: r"\sigma",
    elementwise.maximum: r"\max",
    elementwise.minimum: r"\min",
}
_TRANSPOSED = (shape.transpose, shape.swapaxes)


class Writer:
    """Writes an expression as plain text, with the names of the symbols."""

    def symbol(self, symbol: Symbol) -> str:
        """How a symbol is written."""
        return symbol.name

    def opaque(self, opaque: Opaque) -> str:
        """How an array without a name is written."""
        return f"array{opaque.shape}"

    def write(self, expression: Expression, binds: int = 0) -> str:
        """The text; in brackets if what stands around binds more tightly."""
        text, own = self._written(expression)
        return f"({text})" if own < binds else text

    def _written(self, expression: Expression) -> tuple[str, int]:
        if isinstance(expression, Symbol):
            name = self.symbol(expression)
            return name, 9 if not name.startswith("-") and "/" not in name else 3
        if isinstance(expression, Opaque):
            return self.opaque(expression), 9
        if isinstance(expression, Literal):
            return number(expression.value), 9 if expression.value >= 0 else 1
        record, inputs = expression.record, expression.inputs
        if record in _INFIX and len(inputs) == 2:
            sign, own = _INFIX[record]
            left = self.write(inputs[0], own + (sign == "**"))
            right = _bracketed(self.write(inputs[1], own + 1))
            return (f"{left}**{right}" if sign == "**" else f"{left} {sign} {right}"), own
        if record in _BITWISE and is_condition(expression):
            sign = self.sign_of_logic(record)
            return f"{self.write(inputs[0])} {sign} {self.write(inputs[1], 1)}", 0
        if record is elementwise.logical_not:
            return f"{self.sign_of_logic(record)} {self.write(inputs[0], 1)}", 0
        if record is elementwise.negative:
            return f"-{_bracketed(self.write(inputs[0], 2))}", 1
        if record is elementwise.square:
            return f"{self.write(inputs[0], 5)}**2", 4
        if self._is_transposed(expression):
            return f"{self.write(inputs[0], 5)}^T", 6
        if record is indexing.getitem:
            return f"{self.write(inputs[0], 5)}[{key(dict(expression.params)['key'])}]", 9
        if record is elementwise.where_or_zero:
            condition = self.write(inputs[1], 1) + " != 0"
            if is_condition(inputs[1]):
                condition = self.write(inputs[1])
            return f"{self.write(inputs[0], 2)} * ({condition})", 2
        given = [self.write(x) for x in inputs]
        given += [f"{name}={value}" for name, value in spelled(expression)]
        return f"{record.__name__}({', '.join(given)})", 9

    def sign_of_logic(self, record: Any) -> str:
        """How "and", "or" and "not" are written."""
        return _BITWISE[record][0] if record in _BITWISE else "not"

    @staticmethod
    def _is_transposed(call: Call) -> bool:
        if call.record not in _TRANSPOSED or not call.inputs:
            return False
        before = _shape(call.inputs[0])
        return len(before) >= 2 and call.shape == (*before[:-2], before[-1], before[-2])


def _bracketed(text: str) -> str:
    """In brackets if a sign stands before it."""
    return f"({text})" if text.startswith("-") else text


class ShapeWriter(Writer):
    """Writes the shapes in the place of the names."""

    def symbol(self, symbol: Symbol) -> str:
        """The shape of a symbol, transposed by whoever transposes it."""
        return str(symbol.shape)

    def _written(self, expression: Expression) -> tuple[str, int]:
        if isinstance(expression, Call) and self._is_transposed(expression):
            return str(expression.shape), 9
        return super()._written(expression)


class NumberWriter(Writer):
    """Writes the numbers of symbols of one element in the place of their names."""

    def symbol(self, symbol: Symbol) -> str:
        """The number of a symbol."""
        if symbol.value is None or symbol.value.size != 1:
            return symbol.name
        return number(symbol.value.item())


class LatexWriter(Writer):
    """Writes an expression as LaTeX."""

    def symbol(self, symbol: Symbol) -> str:
        """A name in LaTeX; a cotangent as a fraction."""
        return latex_name(symbol.name)

    def _written(self, expression: Expression) -> tuple[str, int]:
        if isinstance(expression, Symbol):
            name = self.symbol(expression)
            return name, 3 if name.startswith("-") else 9
        if not isinstance(expression, Call):
            return super()._written(expression)
        record, inputs = expression.record, expression.inputs
        if record is elementwise.divide:
            return rf"\frac{{{self.write(inputs[0])}}}{{{self.write(inputs[1])}}}", 8
        if record is elementwise.sqrt:
            return rf"\sqrt{{{self.write(inputs[0])}}}", 8
        if record is elementwise.square:
            return f"{self.write(inputs[0], 5)}^2", 4
        if record is elementwise.power:
            return f"{self.write(inputs[0], 5)}^{{{self.write(inputs[1])}}}", 4
        if self._is_transposed(expression):
            return rf"{self.write(inputs[0], 5)}^\top", 6
        if record in _LATEX_INFIX:
            sign, own = _LATEX_INFIX[record]
            right = _bracketed(self.write(inputs[1], own + 1))
            return f"{self.write(inputs[0], own)} {sign} {right}", own
        if record in _INFIX or record is elementwise.negative:
            return super()._written(expression)
        if record in (*_BITWISE, elementwise.logical_not) and is_condition(expression):
            return super()._written(expression)
        if record is elementwise.where_or_zero:
            zero = "" if is_condition(inputs[1]) else r" \ne 0"
            mask = f"[{self.write(inputs[1])}{zero}]"
            return rf"{self.write(inputs[0], 2)} \, {mask}", 2
        head = _LATEX_FUNCTIONS.get(record, rf"\operatorname{{{latex_text(record.__name__)}}}")
        given = [self.write(x) for x in inputs]
        given += [
            rf"\mathrm{{{latex_text(name)}}}={latex_text(value)}"
            for name, value in spelled(expression)
        ]
        return rf"{head}\left({', '.join(given)}\right)", 9

    def sign_of_logic(self, record: Any) -> str:
        """The signs of logic."""
        return _BITWISE[record][1] if record in _BITWISE else r"\lnot"


class LatexNumberWriter(LatexWriter):
    """Writes the numbers of symbols of one element in the place of their names, as LaTeX."""

    def symbol(self, symbol: Symbol) -> str:
        """The number of a symbol."""
        if symbol.value is None or symbol.value.size != 1:
            return super().symbol(symbol)
        return number(symbol.value.item())


def latex_name(name: str) -> str:
    """A name as LaTeX writes it: dL/dw as a fraction, longer names upright."""
    upper, slash, lower = name.partition("/d")
    if slash and name.startswith("d"):
        return rf"\frac{{\partial {latex_name(upper[1:])}}}{{\partial {latex_name(lower)}}}"
    letter, _, index = name.partition("_")
    if len(letter) == 1 and index.isdigit():
        return f"{letter}_{{{index}}}"
    if len(name) > 1 and name[0].isalpha() and name[1:].isdigit():
        return f"{name[0]}_{{{name[1:]}}}"
    return name if len(name) == 1 else rf"\mathrm{{{latex_text(name)}}}"


def latex_text(text: str) -> str:
    """Text within LaTeX, its special letters escaped."""
    return "".join(f"\\{letter}" if letter in "_#$%&{}" else letter for letter in text)


def number(value: Any) -> str:
    """A number with five digits that count; whole numbers below a million in full."""
    value = float(value)
    whole = np.isfinite(value) and value == int(value) and abs(value) < 1e6
    return f"{int(value)}" if whole else f"{value:.5g}"


def key(value: Any) -> str:
    """An index as Python writes it."""
    if isinstance(value, tuple):
        return ", ".join(map(key, value))
    if isinstance(value, slice):
        ends = ("" if x is None else str(x) for x in (value.start, value.stop))
        return ":".join(ends) + (f":{value.step}" if value.step is not None else "")
    return "..." if value is Ellipsis else parameter(value)


def spelled(call: Call) -> Iterator[tuple[str, str]]:
    """The parameters that are given, each as text; an index in its brackets."""
    for name, value in call.params:
        if value is not None and value is not False:
            yield name, f"[{key(value)}]" if name == "key" else parameter(value)


def parameter(value: Any) -> str:
    """A parameter, short."""
    if isinstance(value, Node):
        value = value._data
    if isinstance(value, ndarray):
        return f"array{value.shape}"
    if isinstance(value, np.dtype):
        return value.name
    text = repr(value)
    return text if len(text) <= 24 else f"{text[:21]}..."
