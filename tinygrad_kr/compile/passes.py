"""Programs made simpler: each pass is a function from a program to an equal one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.program import Program, Statement, Value, replaced
from tinygrad_kr.compile.sources import Constant
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops.op import astype


def without_dead_code(program: Program) -> Program:
    """Without ops that nothing comes of; those that draw random numbers stay."""
    needed = program.kept() | {check.value for check in program.checks}
    kept: list[bool] = []
    for statement in reversed(program.statements):
        alive = statement.output in needed or draws(statement)
        kept.append(alive)
        if alive:
            needed.update(statement.reads())
    kept.reverse()
    positions = np.cumsum([0, *kept]).tolist()
    statements = [s for s, alive in zip(program.statements, kept, strict=True) if alive]
    checks = [check._replace(after=positions[check.after]) for check in program.checks]
    sources = {v: source for v, source in program.sources.items() if v in needed}
    return Program(sources, statements, checks, program.effects, program.results)


def draws(statement: Statement) -> bool:
    """Whether an op takes from a random generator, so that each run of it is another."""
    return any(isinstance(param, np.random.Generator) for param in statement.params.values())


def with_common_subexpressions(program: Program) -> Program:
    """What is computed twice from the same values is computed once."""
    seen: dict[Any, Value] = {}
    same: dict[Value, Value] = {}
    protected = program.kept()

    def decide(statement: Statement) -> Statement | None:
        statement = statement._replace(
            inputs=replaced(statement.inputs, same), params=replaced(statement.params, same)
        )
        if draws(statement):
            return statement
        key = (statement.op, _hashable(statement.inputs), _hashable(statement.params))
        before = seen.setdefault(key, statement.output)
        if before is statement.output:
            return statement
        if statement.output in protected:
            copy = Statement(e.positive, (before,), {}, statement.output, statement.place)
            return copy if statement.output.dtype.kind != "b" else statement
        same[statement.output] = before
        return None

    return _rewritten(program, decide, same)


def without_idle_ops(program: Program) -> Program:
    """Without copies of what is never overwritten, casts to the same type, and x * 1, x + 0, x / 1
    where these change no bit."""
    same: dict[Value, Value] = {}
    protected = program.kept()

    def decide(statement: Statement) -> Statement | None:
        statement = statement._replace(
            inputs=replaced(statement.inputs, same), params=replaced(statement.params, same)
        )
        kept = _idle(statement)
        if kept is None or statement.output in protected:
            return statement
        same[statement.output] = kept
        return None

    return _rewritten(program, decide, same)


def with_results_made_in_place(program: Program) -> Program:
    """A result that is only a copy of something made for it alone is that thing itself."""
    protected = program.kept()
    makers = {statement.output: statement for statement in program.statements}
    renamed: dict[Value, Value] = {}
    for statement in program.statements:
        if statement.op is not e.positive or statement.output not in protected:
            continue
        (original,) = statement.inputs
        maker = makers.get(original) if isinstance(original, Value) else None
        taken = original in protected or original in renamed
        if maker is not None and not taken and original.dtype == statement.output.dtype:
            renamed[original] = statement.output
    statements = []
    positions = [0]
    for statement in program.statements:
        first = statement.inputs[0] if statement.inputs else None
        if not (isinstance(first, Value) and renamed.get(first) is statement.output):
            statements.append(
                statement._replace(
                    inputs=replaced(statement.inputs, renamed),
                    params=replaced(statement.params, renamed),
                    output=renamed.get(statement.output, statement.output),
                )
            )
        positions.append(len(statements))
    checks = [
        check._replace(after=positions[check.after], value=renamed.get(check.value, check.value))
        for check in program.checks
    ]
    return Program(program.sources, statements, checks, program.effects, program.results)


def _idle(statement: Statement) -> Value | None:
    """The input that an op returns unchanged, if it does."""
    inputs = statement.inputs
    first = inputs[0] if inputs else None
    if statement.op in (e.positive, astype):
        same = isinstance(first, Value) and first.dtype == statement.output.dtype
        return first if same else None
    ones = {e.multiply: (0, 1), e.divide: (1,)}.get(statement.op, ())
    for place in ones:
        other = inputs[1 - place]
        number = inputs[place]
        if (
            isinstance(number, int | float)
            and number == 1
            and isinstance(other, Value)
            and (other.shape, other.dtype) == (statement.output.shape, statement.output.dtype)
        ):
            return other
    return None


def with_constants_folded(program: Program) -> Program:
    """What depends on constants alone is computed now."""
    sources = dict(program.sources)
    statements: list[Statement] = []
    positions = [0]
    protected = program.kept()
    for statement in program.statements:
        reads = list(statement.reads())
        constant = all(_fixed(sources.get(value)) for value in reads)
        small = statement.output.size <= 4096
        if constant and small and not draws(statement) and statement.output not in protected:
            arrays = {value: sources[value].fetch() for value in reads}
            inputs, params = replaced(statement.inputs, arrays), replaced(statement.params, arrays)
            with np.errstate(all="ignore"):
                made = np.asarray(statement.op.forward(*inputs, **params))
            made = made.astype(statement.output.dtype, copy=True)
            sources[statement.output] = Constant(_frozen(made), fixed=True)
        else:
            statements.append(statement)
        positions.append(len(statements))
    checks = [check._replace(after=positions[check.after]) for check in program.checks]
    return Program(sources, statements, checks, program.effects, program.results)


def _fixed(source: Any) -> bool:
    return isinstance(source, Constant) and source.fixed


def _frozen(array: ndarray) -> ndarray:
    array.flags.writeable = False
    return array


def _rewritten(program: Program, decide: Any, same: dict[Value, Value]) -> Program:
    """The program with each statement replaced by what `decide` makes of it, or left out."""
    statements: list[Statement] = []
    positions = [0]
    for statement in program.statements:
        made = decide(statement)
        if made is not None:
            statements.append(made)
        positions.append(len(statements))
    checks = [
        check._replace(after=positions[check.after], value=same.get(check.value, check.value))
        for check in program.checks
    ]
    return Program(program.sources, statements, checks, program.effects, program.results)


def _hashable(item: Any) -> Any:
    if isinstance(item, tuple | list):
        return (type(item), *map(_hashable, item))
    if isinstance(item, dict):
        return tuple((name, _hashable(item[name])) for name in sorted(item))
    if isinstance(item, slice):
        return ("slice", item.start, item.stop, item.step)
    if isinstance(item, float):
        return ("float", item.hex())
    if isinstance(item, Value | np.dtype | int | str | bool | None):
        return (type(item), item)
    return ("object", id(item))


def simplified(program: Program) -> Program:
    """Every pass, in the order in which they help one another."""
    program = without_dead_code(program)
    program = with_constants_folded(program)
    program = without_idle_ops(program)
    program = with_common_subexpressions(program)
    program = with_results_made_in_place(program)
    return without_dead_code(program)
