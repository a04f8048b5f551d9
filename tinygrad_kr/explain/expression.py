"""Formulas as text: `sigmoid(w*x + b)`. Arithmetic and known functions, and nothing else.

The text is parsed by Python's `ast`. Each node must be on a list; nothing is passed to `eval`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_kr import arrays
from tinygrad_kr.language import cells
from tinygrad_kr.ops import elementwise
from tinygrad_kr.ops.linalg import matmul
from tinygrad_kr.tensor import Tensor

__all__ = ["FUNCTIONS", "ExpressionError", "evaluated", "parsed_values"]

LONGEST = 2000
"""Characters of a formula."""
_REDUCTIONS = ("sum", "mean", "prod", "max", "min", "logsumexp")
FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(elementwise, name)
    for name in elementwise.__all__
    if getattr(getattr(elementwise, name), "rules", None)
} | {name: getattr(arrays, name) for name in _REDUCTIONS}
FUNCTIONS["abs"] = elementwise.absolute
"""The functions that a formula may call, by name."""
_OPERATORS: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: elementwise.add,
    ast.Sub: elementwise.subtract,
    ast.Mult: elementwise.multiply,
    ast.Div: elementwise.divide,
    ast.Pow: elementwise.power,
    ast.MatMult: matmul,
    ast.Mod: elementwise.remainder,
}
_OF_TWO = {"max": elementwise.maximum, "min": elementwise.minimum}
"""Python's names for functions of two numbers, beside those of one array."""
_CONSTANTS = {"pi": np.pi, "e": np.e}


class ExpressionError(ValueError):
    """A formula that is refused; a ValueError. Its message marks the place.

    text: the formula. position: of the first refused character.
    """

    def __init__(self, problem: str, text: str, position: int) -> None:
        self.text, self.position = text, position
        super().__init__(f"{problem}\n  {text}\n  {' ' * cells(text[:position])}^")


def evaluated(text: str, values: Mapping[str, Tensor]) -> Tensor:
    """The value of a formula, a Tensor with its graph.

    text: numbers, the names of `values`, pi and e, + - * / % ** @, brackets, and calls of
        `FUNCTIONS`.
    Raises ExpressionError for anything else, and where an op refuses its arguments.
    """
    if len(text) > LONGEST:
        raise ExpressionError(f"expected at most {LONGEST} characters, got {len(text)}", "", 0)
    if "\n" in text or "\0" in text:
        text = text.replace("\n", " ").replace("\0", " ")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ExpressionError(
            "expected a formula", text.strip(), (error.offset or 1) - 1
        ) from error
    except (RecursionError, MemoryError, ValueError) as error:
        raise ExpressionError("expected a formula with fewer brackets", text.strip(), 0) from error
    try:
        found = _Evaluation(text.strip(), values).value(tree)
    except RecursionError as error:
        raise ExpressionError("expected a formula with fewer brackets", text.strip(), 0) from error
    return found if isinstance(found, Tensor) else Tensor(np.float64(found))


class _Evaluation:
    """The value of each node of a tree."""

    def __init__(self, text: str, values: Mapping[str, Tensor]) -> None:
        self.text, self.values = text, values

    def value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            number = node.value
            if type(number) is not int and type(number) is not float:
                raise self._refused(node, f"a number, got {number!r:.20}")
            return self._number(node, number)
        if isinstance(node, ast.Name):
            return self._named(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            given = self.value(node.operand)
            return given if isinstance(node.op, ast.UAdd) else -given
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return self._applied(
                node, _OPERATORS[type(node.op)], [self.value(node.left), self.value(node.right)]
            )
        if isinstance(node, ast.Call):
            return self._called(node)
        raise self._refused(node, f"arithmetic and functions, got {_kind(node)}")

    def _number(self, node: ast.expr, value: float) -> float:
        try:
            return float(value)
        except OverflowError:
            raise self._refused(node, "a number that a float64 holds") from None

    def _named(self, node: ast.Name) -> Any:
        if node.id in self.values:
            return self.values[node.id]
        if node.id in _CONSTANTS:
            return _CONSTANTS[node.id]
        if node.id in FUNCTIONS:
            raise self._refused(node, f"{node.id}(...), got no arguments")
        given = ", ".join(self.values) or "none"
        raise self._refused(node, f"one of the given names ({given}), got {node.id}")

    def _called(self, node: ast.Call) -> Any:
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
            name = node.func.id if isinstance(node.func, ast.Name) else _kind(node.func)
            raise self._refused(node, f"one of {', '.join(sorted(FUNCTIONS))}; got {name}")
        if node.keywords:
            raise self._refused(node, "arguments without names")
        name = node.func.id
        given = [self.value(argument) for argument in node.args]
        if name in _OF_TWO and len(given) == 2:
            return self._applied(node, _OF_TWO[name], given)
        wanted = 1 if name in _REDUCTIONS else len(FUNCTIONS[name].rules)  # type: ignore[attr-defined]
        if len(given) != wanted:
            raise self._refused(node, f"{name} of {wanted} arguments, got {len(given)}")
        return self._applied(node, FUNCTIONS[name], given)

    def _applied(self, node: ast.expr, op: Callable[..., Any], given: Sequence[Any]) -> Any:
        tensors = [x if isinstance(x, Tensor) else np.float64(x) for x in given]
        if not any(isinstance(x, Tensor) for x in tensors) and tensors:
            tensors[0] = Tensor(tensors[0])
        try:
            with np.errstate(all="ignore"):
                return op(*tensors)
        except (TypeError, ValueError) as error:
            raise ExpressionError(str(error), self.text, self._position(node)) from error

    def _refused(self, node: ast.expr, expected: str) -> ExpressionError:
        return ExpressionError(f"expected {expected}", self.text, self._position(node))

    def _position(self, node: ast.expr) -> int:
        """The column of a node. Those of ast count bytes of UTF-8."""
        return len(self.text.encode()[: node.col_offset].decode(errors="ignore"))


_SIGNS = {
    "FloorDiv": "//", "LShift": "<<", "RShift": ">>", "BitOr": "|", "BitXor": "^", "BitAnd": "&",
    "Not": "not", "Invert": "~", "And": "and", "Or": "or", "IfExp": "if",
}  # fmt: skip
"""How what is refused is written."""


def _kind(node: ast.AST) -> str:
    name = type(getattr(node, "op", node)).__name__
    return _SIGNS.get(name, name.lower())


def parsed_values(assignments: Sequence[str]) -> dict[str, Tensor]:
    """The Tensors of `w=-2` and `x=[1,2]`, in float64, which require grad.

    Raises ExpressionError for anything but a name and numbers.
    """
    values: dict[str, Tensor] = {}
    for assignment in assignments:
        name, sign, text = (part.strip() for part in assignment.partition("="))
        if not sign or not name.isidentifier():
            raise ExpressionError("expected name=number", assignment, 0)
        if name in values:
            raise ExpressionError(f"expected {name} once, got it twice", assignment, 0)
        try:
            array = np.asarray(ast.literal_eval(text), dtype=np.float64)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
            position = assignment.index("=") + 1
            problem = "expected a number, or lists of numbers"
            raise ExpressionError(problem, assignment, position) from error
        values[name] = Tensor(array, requires_grad=True)
        values[name].name = name
    return values
