"""Mutants of the package: small faults drawn from its source, put into the functions that run.

A mutant replaces one piece of text in one file. It is applied to live functions: their code objects
are exchanged, so that closures, rules of ops and decorated functions change wherever they are held.
"""

from __future__ import annotations

import ast
import difflib
import gc
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tinygrad_kr"
KINDS = ("sign", "factor", "operand", "un-broadcast", "comparison", "constant")

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Edit = tuple[str, int, int, bytes]
"""Kind, start, end, new text."""


@dataclass(frozen=True)
class Mutant:
    """One edit of one file. `start` and `end` are offsets in its bytes."""

    file: str
    line: int
    kind: str
    start: int
    end: int
    new: str

    def rank(self, seed: int) -> bytes:
        """Its place among others: arbitrary, but the same wherever its line stands."""
        old = source_of(self.file).bytes
        first = old.rfind(b"\n", 0, self.start) + 1
        last = old.find(b"\n", self.end)
        parts = (self.file, self.kind, old[first:last].decode(), self.start - first, self.new)
        return sha256(f"{seed} {parts}".encode()).digest()

    @property
    def source(self) -> bytes:
        """The whole file with the fault."""
        old = (ROOT / self.file).read_bytes()
        return old[: self.start] + self.new.encode() + old[self.end :]

    @property
    def diff(self) -> list[str]:
        """The lines that go, with `-`, and those that come, with `+`."""
        old = (ROOT / self.file).read_text(encoding="utf-8").splitlines()
        lines = difflib.unified_diff(old, self.source.decode().splitlines(), n=0, lineterm="")
        return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


# ------------------------------------------------------------------ faults

ARITHMETIC: dict[type[ast.operator], tuple[str, bytes, bytes]] = {
    ast.Add: ("sign", b"+", b"-"),
    ast.Sub: ("sign", b"-", b"+"),
    ast.Mult: ("factor", b"*", b"/"),
    ast.Div: ("factor", b"/", b"*"),
    ast.FloorDiv: ("factor", b"//", b"*"),
    ast.Pow: ("factor", b"**", b"*"),
    ast.MatMult: ("factor", b"@", b"*"),
    ast.BitAnd: ("comparison", b"&", b"|"),
    ast.BitOr: ("comparison", b"|", b"&"),
}
COMPARISONS: dict[type[ast.cmpop], tuple[bytes, bytes]] = {
    ast.Lt: (b"<", b"<="),
    ast.LtE: (b"<=", b"<"),
    ast.Gt: (b">", b">="),
    ast.GtE: (b">=", b">"),
    ast.Eq: (b"==", b"!="),
    ast.NotEq: (b"!=", b"=="),
    ast.Is: (b"is", b"is not"),
    ast.IsNot: (b"is not", b"is"),
    ast.In: (b"in", b"not in"),
    ast.NotIn: (b"not in", b"in"),
}
SHAPE_FUNCTIONS = {"unbroadcast", "broadcast_to", "expand_dims"}
"""Functions whose first argument stands in for the call."""
SHAPE_METHODS = {"sum", "mean", "reshape", "transpose", "swapaxes"}
"""Methods, all of the shape, whose receiver stands in for the call."""


class Source:
    """The bytes of a file, its syntax tree, and the offset of each node."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.bytes = file.read_bytes()
        self.tree = ast.parse(self.bytes)
        self.code = compile(self.bytes, str(file), "exec")
        self.lines = [0]
        for line in self.bytes.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))

    def span(self, node: Any) -> tuple[int, int]:
        """The offsets of a node's first byte and of the byte after its last."""
        return (
            self.lines[node.lineno - 1] + node.col_offset,
            self.lines[node.end_lineno - 1] + node.end_col_offset,
        )

    def text(self, node: ast.AST) -> bytes:
        start, end = self.span(node)
        return self.bytes[start:end]

    def between(self, left: ast.AST, right: ast.AST, old: bytes, new: bytes) -> Iterator[Any]:
        """The edit of the one operator between two operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        gap = self.bytes[start:end]
        if gap.count(old) == 1:
            at = start + gap.index(old)
            yield at, at + len(old), new


def edits(source: Source, node: ast.AST) -> Iterator[Edit]:
    """The faults at one node of the tree."""
    whole = source.span(node) if hasattr(node, "lineno") else (0, 0)
    match node:
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            kind, old, new = ARITHMETIC[type(op)]
            for edit in source.between(left, right, old, new):
                yield (kind, *edit)
            if kind != "comparison":
                for operand in (left, right):
                    yield ("operand", *whole, b"(" + source.text(operand) + b")")
        case ast.AugAssign(target=target, op=op, value=value) if type(op) in ARITHMETIC:
            kind, old, new = ARITHMETIC[type(op)]
            for edit in source.between(target, value, old + b"=", new + b"="):
                yield (kind, *edit)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant()):
            pass  # a negative number; its digits are a constant
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield ("sign", *whole, b"(" + source.text(operand) + b")")
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield ("comparison", *whole, b"(" + source.text(operand) + b")")
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            operands = [left, *comparators]
            for i, op in enumerate(ops):
                if type(op) in COMPARISONS:
                    old, new = COMPARISONS[type(op)]
                    for edit in source.between(operands[i], operands[i + 1], old, new):
                        yield ("comparison", *edit)
        case ast.BoolOp(op=op, values=values):
            old, new = (b"and", b"or") if isinstance(op, ast.And) else (b"or", b"and")
            for left, right in pairwise(values):
                for edit in source.between(left, right, old, new):
                    yield ("comparison", *edit)
        case ast.IfExp(body=body, orelse=orelse):
            for operand in (body, orelse):
                yield ("comparison", *whole, b"(" + source.text(operand) + b")")
        case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in SHAPE_FUNCTIONS:
            yield ("un-broadcast", *whole, b"(" + source.text(first) + b")")
        case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in SHAPE_METHODS:
            if not (isinstance(value, ast.Name) and value.id in ("np", "self", "super")):
                yield ("un-broadcast", *whole, b"(" + source.text(value) + b")")
        case ast.Constant(value=bool() as value):
            yield ("constant", *whole, str(not value).encode())
        case ast.Constant(value=int() as value):
            yield ("constant", *whole, str(value + 1).encode())
        case ast.Constant(value=float() as value):
            yield ("constant", *whole, repr(value * 1.25 if value else 0.5).encode())


def visited(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes whose change is one of behaviour: no annotation, no message, no warning."""
    yield node
    for name, child in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        if isinstance(node, ast.keyword) and node.arg == "strict":  # an assertion of zip
            continue
        for each in child if isinstance(child, list) else [child]:
            if isinstance(each, ast.AST) and not isinstance(each, ast.JoinedStr | ast.Raise):
                yield from visited(each)


@lru_cache(None)
def source_of(file: str) -> Source:
    return Source(ROOT / file)


def mutants_of(file: str) -> list[Mutant]:
    """Every mutant of a file that compiles and can be applied, in order."""
    source = source_of(file)
    found = {}
    for node in visited(source.tree):
        for kind, start, end, new in edits(source, node):
            line = source.bytes.count(b"\n", 0, start) + 1
            lost = source.bytes.count(b"\n", start, end) - new.count(b"\n")
            if lost:  # other lines keep their numbers
                new = new[:-1] + b"\n" * lost + new[-1:]
            mutant = Mutant(file, line, kind, start, end, new.decode())
            found[mutant] = None
    return list(found)


def files_of(parts: tuple[str, ...]) -> list[str]:
    """The Python files of modules and subpackages, by their path from the root."""
    found = []
    for part in parts:
        folder = PACKAGE / part
        files = sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{part}.py"]
        found += [file.relative_to(ROOT).as_posix() for file in files]
    return found


def draw(seed: int, count: int, parts: tuple[str, ...]) -> list[Mutant]:
    """`count` mutants, each kind in turn. Fewer are a beginning of more, for one seed.

    The order comes from a hash of each mutant and its line. A change elsewhere moves few of them.
    """
    piles: dict[str, list[Mutant]] = {kind: [] for kind in KINDS}
    for file in files_of(parts):
        for mutant in mutants_of(file):
            piles[mutant.kind].append(mutant)
    for pile in piles.values():
        pile.sort(key=lambda mutant: mutant.rank(seed))
    found: list[Mutant] = []
    while len(found) < count and any(piles.values()):
        for kind in KINDS:
            while piles[kind] and len(found) < count:
                mutant = piles[kind].pop()
                if changes_of(mutant) is not None:
                    found.append(mutant)
                    break
    return found


# ------------------------------------------------------------------ application

Codes = dict[CodeType, CodeType]
COMPREHENSIONS = ("<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>")


@dataclass
class Changes:
    """What a mutant replaces in a running process, and the lines that show it."""

    codes: Codes
    defaults: tuple[CodeType, ast.FunctionDef] | None = None
    constant: tuple[str, ast.expr] | None = None
    lines: frozenset[int] = frozenset()


def children(code: CodeType) -> list[CodeType]:
    return [x for x in code.co_consts if isinstance(x, CodeType)]


def outside(code: CodeType) -> Any:
    """A code object without the functions in it."""
    shown = [x for x in code.co_consts if not isinstance(x, CodeType)]
    return code.co_code, repr(shown), code.co_names, code.co_varnames


def is_same(old: CodeType, new: CodeType) -> bool:
    """Whether two functions do the same; their columns may differ."""
    before, after = children(old), children(new)
    return (
        outside(old) == outside(new)
        and len(before) == len(after)
        and all(map(is_same, before, after))
    )


def compare_codes(old: CodeType, new: CodeType, codes: Codes, strict: bool = True) -> bool:
    """Collect the functions that differ. False where one cannot take the place of the other.

    strict: False for functions that are made anew whenever the one around them is called.
    """
    before, after = children(old), children(new)
    if len(before) != len(after):
        return not strict
    for x, y in zip(before, after, strict=True):
        if is_same(x, y):
            continue
        if strict and x.co_freevars != y.co_freevars:
            return False
        if not compare_codes(x, y, codes, strict):
            return False
        codes[x] = y
    return True


@lru_cache(None)
def changes_of(mutant: Mutant) -> Changes | None:
    """How to apply a mutant; None if it changes nothing or code that runs at import alone."""
    source = source_of(mutant.file)
    try:
        text = mutant.source
        code = compile(text, str(source.file), "exec")
    except SyntaxError:
        return None
    codes: Codes = {}
    if not compare_codes(source.code, code, codes):
        return None
    if codes:
        if changes := defaults_of(source, text, mutant):
            changes.codes = codes  # of the function around the one whose defaults change
            return changes
        changes = Changes(codes, lines=statement_lines(source, mutant.line))
        # A class body or a module that differs itself: the mutant is not in a function.
        changed = [x for x in codes if x.co_flags & 1 == 0 and outside(x) != outside(codes[x])]
        at_import = all(x.co_name in COMPREHENSIONS for x in codes)
        return None if changed or at_import else changes
    if outside(source.code) == outside(code):
        return None
    return defaults_of(source, text, mutant) or constant_of(source, text, mutant)


def statement_lines(source: Source, line: int) -> frozenset[int]:
    """The lines of the innermost statement around a line; of a compound one, its head."""
    best = range(line, line + 1)
    size = sys.maxsize
    for node in ast.walk(source.tree):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0):
            body = getattr(node, "body", None)
            end = body[0].lineno - 1 if body else node.end_lineno or line
            if line <= max(end, node.lineno) and end - node.lineno < size:
                size = end - node.lineno
                best = range(node.lineno, max(end, node.lineno) + 1)
    return frozenset(best)


def functions_in(tree: ast.AST) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def defaults_of(source: Source, text: bytes, mutant: Mutant) -> Changes | None:
    """The change of a default argument of a function or method."""
    for old, new in zip(functions_in(source.tree), functions_in(ast.parse(text)), strict=True):
        if ast.dump(old.args) == ast.dump(new.args):
            continue
        first = min([old.lineno, *(x.lineno for x in old.decorator_list)])
        for code in all_codes(source.code):
            if code.co_name == old.name and code.co_firstlineno == first:
                new.decorator_list = []
                lines = range(old.body[0].lineno, (old.end_lineno or 0) + 1)
                return Changes({}, defaults=(code, new), lines=frozenset(lines))
    return None


def constant_of(source: Source, text: bytes, mutant: Mutant) -> Changes | None:
    """The change of `NAME = number` in a module."""
    pairs = zip(source.tree.body, ast.parse(text).body, strict=True)
    changed = [new for old, new in pairs if ast.dump(old) != ast.dump(new)]
    match changed:
        case [ast.Assign(targets=[ast.Name(id=name)], value=value)] if is_plain(value):
            pattern = re.compile(rf"\b{name}\b")
            shown = source.bytes.decode().splitlines()
            lines = frozenset(i for i, line in enumerate(shown, 1) if pattern.search(line))
            return Changes({}, constant=(name, value), lines=lines)
    return None


def is_plain(value: ast.expr) -> bool:
    """Whether an expression is numbers and operators, or a tuple of them."""
    kinds = (ast.Constant, ast.BinOp, ast.UnaryOp, ast.Tuple, ast.operator, ast.unaryop, ast.Load)
    return all(isinstance(node, kinds) for node in ast.walk(value))


def all_codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for child in children(code):
        yield from all_codes(child)


def live_functions(codes: Any, file: str) -> list[FunctionType]:
    """Functions of this process that run one of the code objects of a file."""
    return [
        x
        for x in gc.get_objects()
        if type(x) is FunctionType and x.__code__.co_filename == file and x.__code__ in codes
    ]


def swap(codes: Codes, file: str) -> tuple[int, Callable[[], None]]:
    """Exchange the code of live functions. Returns their number, and what puts it back."""
    functions = live_functions(codes, file)
    before = [(f, f.__code__) for f in functions]
    for f in functions:
        f.__code__ = codes[f.__code__]

    def undo() -> None:
        for f, code in before:
            f.__code__ = code
        # Functions that the mutants made meanwhile.
        back = {new: old for old, new in codes.items()}
        for f in live_functions(back, file):
            f.__code__ = back[f.__code__]

    return len(before), undo


@contextmanager
def applied(changes: Changes, file: str) -> Iterator[int]:
    """Live functions with the fault. Gives how many functions or names changed.

    file: as in the code objects of the module.
    """
    undo: list[Callable[[], None]] = []
    touched = 0
    if changes.codes:
        touched, back = swap(changes.codes, file)
        undo.append(back)
    module = next(m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == file)
    if changes.defaults:
        code, node = changes.defaults
        space = dict(vars(module))
        tree = ast.fix_missing_locations(ast.Module([node], []))
        exec(compile(tree, file, "exec"), space)
        made = space[node.name]
        for f in live_functions({code}, file):
            undo.append(_restored(f, "__defaults__", f.__defaults__))
            undo.append(_restored(f, "__kwdefaults__", f.__kwdefaults__))
            f.__defaults__, f.__kwdefaults__ = made.__defaults__, made.__kwdefaults__
            touched += 1
    if changes.constant:
        name, expression = changes.constant
        new = eval(compile(ast.Expression(expression), file, "eval"))
        touched += _set(module, name, new, undo)
        for made, value in _made_of(module, name):
            _set(module, made, value, undo)
    try:
        yield touched
    finally:
        for back in reversed(undo):
            back()


def _set(module: Any, name: str, new: Any, undo: list[Callable[[], None]]) -> int:
    """Set a global of a module, and wherever it was imported; in how many modules."""
    old, touched = vars(module)[name], 0
    for user in [m for n, m in sys.modules.items() if n.startswith(("tinygrad_kr", "test_"))]:
        if vars(user).get(name) is old:
            undo.append(_restored(user, name, old))
            setattr(user, name, new)
            touched += 1
    return touched


def _made_of(module: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The globals that are numbers computed from a changed one, and their new values."""
    changed = {name}
    for statement in Source(Path(module.__file__)).tree.body:
        if not isinstance(statement, ast.Assign):
            continue
        read = {x.id for x in ast.walk(statement.value) if isinstance(x, ast.Name)}
        if not read & changed:
            continue
        space = dict(vars(module))
        exec(compile(ast.Module([statement], []), module.__file__, "exec"), space)
        for target in ast.walk(ast.Tuple(statement.targets, ast.Store())):
            numbers = int | float | tuple | list | np.ndarray
            if isinstance(target, ast.Name) and isinstance(vars(module)[target.id], numbers):
                changed.add(target.id)
                yield target.id, space[target.id]


def _restored(owner: Any, name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(owner, name, value)


@contextmanager
def mutated(mutant: Mutant) -> Iterator[int]:
    """The process with a drawn mutant."""
    changes = changes_of(mutant)
    assert changes is not None, mutant
    with applied(changes, str(ROOT / mutant.file)) as touched:
        yield touched


@contextmanager
def substituted(function: Any, old: str, new: str) -> Iterator[None]:
    """The process with the one match of the pattern `old` in a function's source replaced."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = function.__code__
    file = Path(code.co_filename)
    source = Source(file)
    node = next(
        x
        for x in functions_in(source.tree)
        if x.name == code.co_name
        and min([x.lineno, *(y.lineno for y in x.decorator_list)]) == code.co_firstlineno
    )
    start, end = source.span(node)
    changed, count = re.subn(old, new, source.bytes[start:end].decode())
    assert count == 1, f"{old!r} is {count} times in {code.co_qualname}"
    text = source.bytes[:start] + changed.encode() + source.bytes[end:]
    codes: Codes = {}
    assert compare_codes(source.code, compile(text, str(file), "exec"), codes, strict=False)
    with applied(Changes(codes), str(file)) as touched:
        assert touched, f"no function runs {code.co_qualname}"
        yield
