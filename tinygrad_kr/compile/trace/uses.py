"""Where the user's code uses an array from outside: handed to an op, or computed with by NumPy.

A replay reads an array anew that an op was given; what NumPy made of it while the function was
recorded is a constant of the program. `Places` notes, while recording, the expressions in which an
op was given an array; `are_all_noted` looks in the source at every expression that uses it.
"""

from __future__ import annotations

import ast
import functools
import linecache
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from numpy import ndarray

from tinygrad_kr.ops.node import PACKAGE
from tinygrad_kr.ops.writes import owner

Position = tuple[int, int, int, int]
_Place = tuple[str, Position]
Name = tuple[str, str]
"""How code spells an array: "global", "variable" (of a function around),
"parameter" or "attribute", and it."""

_ABOUT = {"shape", "ndim", "dtype", "size", "nbytes", "itemsize", "strides"}
"""Attributes that depend on the layout, which is compared."""
_VIEWS = {"T", "mT", "reshape", "transpose", "view", "swapaxes", "squeeze", "real"}
_ITERATED = {"zip", "enumerate", "reversed", "iter", "tuple", "list"}
_LAYOUT = {"len", "isinstance", "type"}


class Places:
    """The expressions in which ops were given arrays from outside."""

    def __init__(self, arrays: Iterable[ndarray] = ()) -> None:
        self._owners = {id(owner(array)) for array in arrays}
        self.expressions: dict[int, set[_Place]] = {}
        """By the id of the array's owner: file and place of each call or operator."""
        self.locals: dict[int, set[tuple[CodeType, str]]] = {}
        """The local variables that held the array meanwhile."""

    def note(self, array: ndarray, recording: CodeType) -> None:
        """An op was given the array, or a Tensor was made of it."""
        if not self._owners or id(owner(array)) not in self._owners:
            return
        key = id(owner(array))
        expressions = self.expressions.setdefault(key, set())
        variables = self.locals.setdefault(key, set())
        frame = sys._getframe(1)
        while frame is not None and frame.f_code is not recording:
            code = frame.f_code
            if not code.co_filename.startswith(PACKAGE):
                position = _position(code, frame.f_lasti)
                if position is not None:
                    expressions.add((code.co_filename, position))
                held = frame.f_locals
                variables.update((code, name) for name, x in held.items() if _holds(x, key))
            frame = frame.f_back  # type: ignore[assignment]

    def are_all_noted(
        self,
        array: ndarray,
        names: set[Name],
        beside: Iterable[ndarray],
        functions: Iterable[FunctionType],
    ) -> bool | None:
        """Whether every use of the array in the functions' code is one of these places, or asks for
        its layout alone. None if the code does not name it.

        beside: other arrays that have a name in common with it, such as that of a list.
        """
        key = id(owner(array))
        places = self.expressions.get(key, set())
        others = [self.expressions.get(id(owner(one)), set()) for one in beside]
        found = None
        for function in functions:
            codes = set(codes_of(function.__code__))
            local = {name for code, name in self.locals.get(key, ()) if code in codes}
            for source in _sources(function.__code__, names, local):
                if source is None:
                    return False
                uses = _Uses(source, places, set().union(*others))
                if not uses.are_noted():
                    return False
                found = found or uses.any
        return found


def codes_of(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_of(constant)


def _position(code: CodeType, instruction: int) -> Position | None:
    for i, (line, end, column, end_column) in enumerate(code.co_positions()):
        if 2 * i == instruction:
            if line is None or end is None or column is None or end_column is None:
                return None
            return line, column, end, end_column
    return None


def _holds(thing: Any, key: int, depth: int = 3) -> bool:
    """Whether it is a view of the array, or a container of one."""
    if isinstance(thing, ndarray):
        return id(owner(thing)) == key
    if depth and isinstance(thing, dict):
        return any(_holds(item, key, depth - 1) for item in thing.values())
    if depth and isinstance(thing, list | tuple):
        return any(_holds(item, key, depth - 1) for item in thing)
    return False


# ------------------------------------------------------------------ the source


class _Source(NamedTuple):
    """A function in its file, and the names by which it uses an array."""

    file: str
    node: ast.AST
    parents: dict[ast.AST, ast.AST]
    names: frozenset[Name]


def _sources(code: CodeType, names: set[Name], local: set[str]) -> Iterator[_Source | None]:
    """A function's source if its code has one of the names; None for no source."""
    codes = list(codes_of(code))
    variables = {v for c in codes for v in (*c.co_varnames, *c.co_cellvars)}
    loaded = {v for c in codes for v in (*c.co_names, *c.co_consts) if isinstance(v, str)}
    used = {("local", name) for name in local}
    for kind, name in names:
        if kind in ("variable", "parameter"):
            held = code.co_freevars if kind == "variable" else code.co_varnames
            used |= {("local", name)} if name in held else set()
        elif name in loaded and (kind == "attribute" or name not in variables):
            used.add((kind, name))
    if not used:
        return
    found = False
    for node, parents in _functions(code, code.co_filename):
        found = True
        yield _Source(code.co_filename, node, parents, frozenset(used))
    if not found:
        yield None


@functools.lru_cache(maxsize=256)
def _functions(code: CodeType, file: str) -> list[tuple[ast.AST, dict[ast.AST, ast.AST]]]:
    """The functions in the source that may be the code's."""
    return list(_find_functions(code, file))  # codes of two files may be equal


def _find_functions(code: CodeType, file: str) -> Iterator[tuple[ast.AST, dict[ast.AST, ast.AST]]]:
    tree, parents = _parsed("".join(linecache.getlines(file)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda):
            if code.co_name == "<lambda>" and _is_inside(code, node.body):
                yield node, parents
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if node.name == code.co_name and first == code.co_firstlineno:
                yield node, parents


def _is_inside(code: CodeType, body: ast.expr) -> bool:
    """Whether a lambda's code is that of this expression: several can be on one line."""
    if not body.lineno >= code.co_firstlineno or body.end_lineno is None:
        return False
    start, end = (body.lineno, body.col_offset), (body.end_lineno, body.end_col_offset or 0)
    places = [p for p in code.co_positions() if None not in p and p[2:] != (0, 0)]
    return bool(places) and (
        min((p[0], p[2]) for p in places if p[0] is not None and p[2] is not None) == start
        and max((p[1], p[3]) for p in places if p[1] is not None and p[3] is not None) == end
    )


@functools.lru_cache(maxsize=32)
def _parsed(source: str) -> tuple[ast.AST, dict[ast.AST, ast.AST]]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ast.Module([], []), {}
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    return tree, parents


# ------------------------------------------------------------------ the uses


class _Uses:
    """How one function uses an array, followed from each name to what takes it."""

    def __init__(self, source: _Source, own: set[_Place], others: set[_Place]) -> None:
        """own, others: where an op was given the array, or another of one of its names."""
        self._node, self._parents = source.node, source.parents
        self._attributes = {name for kind, name in source.names if kind == "attribute"}
        self._variables = {name for kind, name in source.names if kind != "attribute"}
        self._own = {place for file, place in own if file == source.file}
        self._others = {place for file, place in others if file == source.file}
        self._taken: Counter[ast.AST] = Counter()
        """How many uses end in each expression."""
        self.any = False

    def are_noted(self) -> bool:
        """Whether all are known."""
        before = -1
        while before != len(self._variables):  # new names of the array are found on the way
            before = len(self._variables)
            self._taken.clear()
            if not all(map(self._is_noted, self._loads())):
                return False
        # With two of its names in one expression, another array may be the one that was noted.
        return all(number == 1 or _is_at(node, self._own) for node, number in self._taken.items())

    def _loads(self) -> Iterator[ast.AST]:
        for node in ast.walk(self._node):
            match node:
                case ast.Name(ctx=ast.Load()) if node.id in self._variables:
                    yield node
                case ast.Attribute(ctx=ast.Load()) if node.attr in self._attributes:
                    yield node
                case ast.Call(func=ast.Name("getattr"), args=[_, ast.Constant(name), *_]):
                    if name in self._attributes:
                        yield node
                case ast.MatchClass():
                    yield node  # which nothing takes
                case ast.ImportFrom():
                    for imported in node.names:
                        if imported.name in self._attributes:
                            self._variables.add(imported.asname or imported.name)

    def _is_noted(self, node: ast.AST) -> bool:
        """Whether what takes this expression is an op, or does not depend on its elements."""
        self.any = True
        parent = self._parents[node]
        match parent:
            case ast.Attribute():
                return parent.attr in _ABOUT or (
                    parent.attr in _VIEWS and self._is_noted(self._result(parent))
                )
            case ast.Subscript() if parent.value is node:
                return isinstance(parent.ctx, ast.Load) and self._is_noted(parent)
            case ast.keyword() | ast.Starred() | ast.Tuple() | ast.List() | ast.Dict():
                return self._is_noted(parent)
            case ast.Call():
                called = parent.func.id if isinstance(parent.func, ast.Name) else ""
                if called in _ITERATED and self._is_noted(parent):
                    return True
                return called in _LAYOUT or self._is_place(parent)
            case ast.Compare(ops=[ast.Is() | ast.IsNot()]) | ast.Expr():
                return True
            case ast.BinOp() | ast.UnaryOp() | ast.Compare() | ast.AugAssign() | ast.Subscript():
                return self._is_place(parent)
            case ast.IfExp() if parent.test is not node:
                return self._is_noted(parent)
            case ast.NamedExpr():
                return self._renamed(parent.target) and self._is_noted(parent)
            case ast.Assign():
                return all(map(self._renamed, parent.targets))
            case ast.AnnAssign() | ast.For() | ast.comprehension():
                return self._renamed(parent.target)
        return False

    def _result(self, attribute: ast.Attribute) -> ast.AST:
        """A property, or the call of a method."""
        call = self._parents[attribute]
        return call if isinstance(call, ast.Call) and call.func is attribute else attribute

    def _renamed(self, target: ast.AST) -> bool:
        """Follow the variables that are assigned."""
        match target:
            case ast.Name():
                self._variables.add(target.id)
                return True
            case ast.Tuple() | ast.List():
                return all(map(self._renamed, target.elts))
            case ast.Starred():
                return self._renamed(target.value)
        return False

    def _is_place(self, node: ast.AST) -> bool:
        """Whether an op was given the array here."""
        self._taken[node] += 1
        return _is_at(node, self._own) or _is_at(node, self._others)


def _is_at(node: Any, places: set[Position]) -> bool:
    """Whether a place is this expression. (The call of a method may begin at its name.)"""
    start = node.lineno, node.col_offset
    exact = not isinstance(node, ast.Call)
    return any(
        place[:2] == start if exact else place[:2] >= start
        for place in places
        if place[2:] == (node.end_lineno, node.end_col_offset)
    )
