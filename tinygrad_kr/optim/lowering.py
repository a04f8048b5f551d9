"""Pure update rules, lowered to in-place NumPy.

A rule such as `rules.adam` is an expression over whole arrays: evaluated as written, every operator
allocates. `lower` traces it once, with symbols for arrays and numbers, and writes two functions.
`numbers` is Python arithmetic, run once per step (bias corrections, step sizes). `update` calls one
ufunc per operator, with `out=` an array that is no longer needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from tinygrad_kr.escape import identifier
from tinygrad_kr.optim.in_c import loop_of

Rule = Callable[..., tuple[Any, Mapping[str, Any]]]
"""`rule(p, g, state, **options)` returns the new parameter and the new entries of the state."""

Structure = tuple[tuple[str, Any], ...]
"""The part of a group's options that a rule may branch on: nonzero numbers count as equal."""

Statement = tuple[str, list[str], str]
"""A ufunc, the names of its operands, and the name of its result."""

_NUMBER = "a number"
_COUNTS = {"ns_steps"}
"""Options of which a rule needs the number itself: how often it repeats something."""
_REGULAR = {"add", "subtract", "multiply", "negative", "positive", "square"}
"""Ufuncs that raise no floating-point warning to suppress."""
_OPERATORS = {
    np.add: "+",
    np.subtract: "-",
    np.multiply: "*",
    np.true_divide: "/",
    np.power: "**",
}


def structure_of(names: tuple[str, ...], values: tuple[Any, ...]) -> Structure:
    """The part of the options that decides which code of a rule runs."""
    return tuple((name, _known(name, value)) for name, value in zip(names, values, strict=True))


def _known(name: str, value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_known(name, item) for item in value)
    if isinstance(value, bool | str | None) or name in _COUNTS:
        return value
    if isinstance(value, int | float | np.integer | np.floating):
        return _NUMBER if value else 0.0
    raise TypeError(f"Optimizer: expected a number for {name}, got {type(value).__name__}.")


class UpdateProgram(NamedTuple):
    """A lowered rule: its two functions, and the operands of `update`."""

    numbers: Callable[..., tuple[tuple[float, ...], tuple[float, ...]]]
    """numbers(*options, *old_number_state) returns the constants of `update` and the new numbers.
    """
    update: Callable[..., None]
    """update(p, g, *arrays, *constants, *scratch) overwrites `p` and the arrays of the state."""
    number_state: tuple[str, ...]
    array_state: tuple[str, ...]
    constants: int
    scratch: int
    calls: int
    """The number of ufunc calls in `update`."""
    source: str
    whole: bool = False
    """Whether a step needs each parameter whole, in its own shape: it computes with matrices."""
    loop: str | None = None
    """The same as the body of a loop in C; None if C would round otherwise."""


@lru_cache(maxsize=256)
def lower(
    rule: Rule, structure: Structure, numbers: tuple[str, ...], arrays: tuple[str, ...]
) -> UpdateProgram:
    """The program of `rule` for options of this structure and a state with these entries.

    An option that is 0 is known here, so `if weight_decay:` is decided now. Other numbers are
    symbols. State entries that the rule creates are only written.

    Raises TypeError for a rule that cannot be lowered: a branch on a number, a reduction.
    """
    trace = _Trace()
    given = [trace.name(name) for name, _ in structure]
    options = {
        name: trace.option(spelled, known)
        for spelled, (name, known) in zip(given, structure, strict=True)
    }
    spelled = {name: trace.name(name) for name in (*numbers, *arrays)}
    given += [spelled[name] for name in numbers]
    state: dict[str, Any] = {name: _Symbol(trace, spelled[name], array=False) for name in numbers}
    state |= {name: _Symbol(trace, spelled[name], array=True) for name in arrays}
    p, g = _Symbol(trace, "p", array=True), _Symbol(trace, "g", array=True)
    updated, entries = rule(p, g, dict(state), **options)
    state |= entries
    number_state = {name: value for name, value in state.items() if not _is_array(value)}
    array_state = {name: value for name, value in state.items() if _is_array(value)}
    targets = {spelled.get(name) or trace.name(name): x for name, x in array_state.items()}
    lines, scratch = _in_place(trace, {"p": updated, **targets})
    constants = list(trace.constants.values())
    returned = [list(trace.constants), [_term(value) for value in number_state.values()]]
    source = "\n    ".join(
        [
            f"def numbers({', '.join(given)}):",
            *trace.arithmetic,
            f"return {', '.join(map(_tuple, returned))}",
        ]
    )
    operands = ["p", "g", *targets, *constants, *(f"s{i}" for i in range(scratch))]
    source += "\n\n\n" + "\n    ".join([f"def update({', '.join(operands)}):", *lines]) + "\n"
    namespace: dict[str, Any] = {"inf": math.inf, "nan": math.nan, **trace.functions}
    exec(compile(source, "<update rule in place>", "exec"), namespace)
    update = namespace["update"]
    if not _REGULAR.issuperset(trace.functions):
        update = np.errstate(all="ignore")(update)
    return UpdateProgram(
        namespace["numbers"],
        update,
        tuple(number_state),
        tuple(array_state),
        len(constants),
        scratch,
        len(lines),
        source,
        trace.whole,
        _loop(trace, {"p": updated, **targets}, len(constants)),
    )


# ------------------------------------------------------------------ tracing a rule


class _Symbol(NDArrayOperatorsMixin):
    """An array or a number of the rule that is traced."""

    __slots__ = ("array", "name", "trace")

    def __init__(self, trace: _Trace, name: str, array: bool) -> None:
        self.trace, self.name, self.array = trace, name, array

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs or ufunc.nout != 1 or not _gives_floats(ufunc):
            raise TypeError(
                f"update rule: expected elementwise arithmetic on floats, got {ufunc.__name__}."
            )
        return self.trace.record(ufunc, inputs)

    def through(self, function: Callable[..., Any], *numbers: Any) -> Any:
        """`function(self, *numbers, out=)`, which needs the array whole, as one statement."""
        return self.trace.record_whole(function, (self, *numbers))

    def __bool__(self) -> bool:
        if self.name in self.trace.nonzero:
            return True
        raise TypeError(
            "update rule: expected a branch on an option that is True, None or 0, got a branch on "
            "a number or an array."
        )


def _is_array(value: Any) -> bool:
    return isinstance(value, _Symbol) and value.array


def _gives_floats(ufunc: np.ufunc) -> bool:
    kinds: Any = (np.dtype(float),) * ufunc.nin + (None,) * ufunc.nout
    return ufunc.resolve_dtypes(kinds)[-1].kind == "f"


class _Trace:
    """What the rule computed, in order: Python arithmetic on numbers, and ufuncs on arrays."""

    def __init__(self) -> None:
        self.nonzero: set[str] = set()
        self.arithmetic: list[str] = []
        self.statements: list[Statement] = []
        self.constants: dict[str, str] = {}
        self.functions: dict[str, np.ufunc] = {"positive": np.positive}
        self.whole = False
        self._named = 0

    def name(self, text: str) -> str:
        """A name for an option, a state entry or a foreign ufunc."""
        self._named += 1
        return identifier(text, self._named)

    def function(self, ufunc: np.ufunc) -> str:
        """The name of a ufunc: NumPy's own name for a NumPy ufunc."""
        known = {function: name for name, function in self.functions.items()}
        own = getattr(np, ufunc.__name__, None) is ufunc
        name = known.get(ufunc) or (ufunc.__name__ if own else self.name(ufunc.__name__))
        self.functions[name] = ufunc
        return name

    def option(self, name: str, known: Any) -> Any:
        """An option as the rule receives it."""
        if isinstance(known, tuple):
            return tuple(self.option(f"{name}[{i}]", item) for i, item in enumerate(known))
        if known is not _NUMBER:
            return known
        self.nonzero.add(name)
        return _Symbol(self, name, array=False)

    def record(self, ufunc: np.ufunc, inputs: tuple[Any, ...]) -> Any:
        """The symbol of a result."""
        if ufunc is np.multiply:
            for factor, other in (inputs, inputs[::-1]):
                if not isinstance(factor, _Symbol) and factor == 1:
                    return other
        array = any(_is_array(x) for x in inputs)
        if array:
            name = f"a{len(self.statements)}"
            operands = [self.operand(x) for x in inputs]
            self.statements.append((self.function(ufunc), operands, name))
        else:
            name = f"n{len(self.arithmetic)}"
            self.arithmetic.append(f"{name} = {self.expression(ufunc, [_term(x) for x in inputs])}")
        return _Symbol(self, name, array)

    def record_whole(self, function: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
        """The symbol of what a function of whole arrays gives."""
        self.whole = True
        spelled = self.name("whole")
        self.functions[spelled] = function  # type: ignore[assignment]
        name = f"a{len(self.statements)}"
        self.statements.append((spelled, [self.operand(x) for x in inputs], name))
        return _Symbol(self, name, True)

    def expression(self, ufunc: np.ufunc, terms: list[str]) -> str:
        """Arithmetic on numbers, in Python's notation."""
        if ufunc in _OPERATORS:
            return f" {_OPERATORS[ufunc]} ".join(terms)
        return f"float({self.function(ufunc)}({', '.join(terms)}))"

    def operand(self, x: Any) -> str:
        """An operand of a ufunc: an array by its name, a number as one of the constants."""
        if _is_array(x):
            return str(x.name)
        return self.constants.setdefault(_term(x), f"c{len(self.constants)}")


def _term(x: Any) -> str:
    if isinstance(x, _Symbol):
        return x.name
    value = x if isinstance(x, int) else float(x)
    return f"({value!r})" if value < 0 else repr(value)


def _tuple(terms: list[str]) -> str:
    return f"({''.join(term + ', ' for term in terms)})"


# ------------------------------------------------------------------ writing the code


def _in_place(trace: _Trace, results: dict[str, _Symbol]) -> tuple[list[str], int]:
    """The statements with an output array each, and the number of scratch arrays.

    A result goes to its final array if that is no longer read. Otherwise it goes to an operand that
    is read here for the last time, or to a scratch array.
    """
    statements, final = _with_copies(trace.statements, results)
    ends = {x: i for i, (_, operands, _) in enumerate(statements) for x in operands}
    ends |= dict.fromkeys(
        [*final, *(name for name in results if results[name].name == name)], len(statements)
    )
    home = {name: name for name in ("p", *results)}
    holds = dict(home)
    free: list[str] = []
    lines: list[str] = []
    late: list[str] = []
    scratch = 0
    for i, (function, operands, result) in enumerate(statements):
        places = [home.get(x, x) for x in operands]
        dying = [home[x] for x in dict.fromkeys(operands) if x in home and ends[x] == i]
        target = final.get(result)
        if target is not None and ends.get(holds[target], -1) <= i:
            place = target
        elif usable := [x for x in dying if target is None or x not in results]:
            place = usable[0]
        elif free:
            place = free.pop()
        else:
            place, scratch = f"s{scratch}", scratch + 1
        free += [other for other in dying if other != place and other not in results]
        home[result], holds[place] = place, result
        lines.append(f"{function}({', '.join(places)}, out={place})")
        if target is not None and place != target:
            late.append(f"positive({place}, out={target})")
    return lines + late, scratch


def _loop(trace: _Trace, results: dict[str, _Symbol], constants: int) -> str | None:
    statements, final = _with_copies(trace.statements, results)
    made = {target: name for name, target in final.items()}
    values = {target: made.get(target, target) for target in results}
    arrays = ["p", "g", *(target for target in results if target != "p")]
    return loop_of(statements, values, arrays, constants)


def _with_copies(
    statements: list[Statement], results: dict[str, _Symbol]
) -> tuple[list[Statement], dict[str, str]]:
    """The statements, with a value of its own for every result, and the value of each result."""
    statements = list(statements)
    made = {name for _, _, name in statements}
    final: dict[str, str] = {}
    for target, symbol in results.items():
        name = symbol.name
        if name == target:
            continue
        if name in final or name not in made:
            name = f"a{len(statements)}"
            statements.append(("positive", [symbol.name], name))
        final[name] = target
    return statements, final
