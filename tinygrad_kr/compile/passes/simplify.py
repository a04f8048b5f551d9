"""Simplifications: each pass is a function from a program to an equivalent one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.ir.bindings import Constant
from tinygrad_kr.compile.ir.program import Instruction, Program, Value, replaced
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops.op import astype

MAX_FOLDED = 4096
"""Most elements of a folded constant; larger ones are computed at each call."""


def without_dead_code(program: Program) -> Program:
    """Dead-code elimination; ops with an effect stay, such as those that draw random numbers."""
    needed = program.kept() | {check.value for check in program.checks}

    def is_needed(instruction: Instruction) -> bool:
        return instruction.output in needed or has_effect(instruction)

    for instruction in reversed(program.instructions):
        if is_needed(instruction):
            needed.update(instruction.reads())
    left = program.rewritten(lambda instruction: [instruction] if is_needed(instruction) else [])
    return replace(left, inputs={v: s for v, s in program.inputs.items() if v in needed})


def has_effect(instruction: Instruction) -> bool:
    """Whether an op does more than compute: it draws random numbers, or says so itself."""
    if instruction.op.has_effect:
        return True
    return any(isinstance(param, np.random.Generator) for param in instruction.params.values())


def with_constants_folded(program: Program) -> Program:
    """Constant folding."""
    known, protected = dict(program.inputs), program.kept()

    def fold(instruction: Instruction) -> Iterable[Instruction]:
        output = instruction.output
        fixed = all(_is_fixed(known.get(value)) for value in instruction.reads())
        if not fixed or output.size > MAX_FOLDED or output in protected or has_effect(instruction):
            return [instruction]
        arrays = {value: known[value].fetch() for value in instruction.reads()}
        inputs, params = replaced(instruction.inputs, arrays), replaced(instruction.params, arrays)
        made = np.array(instruction.op.forward(*inputs, **params), output.dtype)
        known[output] = Constant(_frozen(made), fixed=True)
        return []

    with np.errstate(all="ignore"):
        return replace(program.rewritten(fold), inputs=known)


def _is_fixed(source: Any) -> bool:
    return isinstance(source, Constant) and source.fixed


def _frozen(array: ndarray) -> ndarray:
    array.flags.writeable = False
    return array


def without_idle_ops(program: Program) -> Program:
    """Without redundant copies, casts to the same type, x * 1 and x / 1.

    x + 0 stays: it makes 0 of -0.
    """
    same: dict[Value, Value] = {}
    protected = program.kept()

    def leave_out(instruction: Instruction) -> Iterable[Instruction]:
        kept = _given_back(instruction)
        if kept is None or instruction.output in protected:
            return [instruction]
        same[instruction.output] = kept
        return []

    return program.rewritten(leave_out, same)


def _given_back(instruction: Instruction) -> Value | None:
    """The input that an op returns unchanged, if it does."""
    op, inputs, output = instruction.op, instruction.inputs, instruction.output
    x = inputs[0] if inputs else None
    if op is e.multiply and _is_one(x):
        x = inputs[1]
    elif op in (e.multiply, e.divide):
        x = x if _is_one(inputs[1]) else None
    elif op not in (e.positive, astype):
        return None
    alike = isinstance(x, Value) and (x.shape, x.dtype) == (output.shape, output.dtype)
    return x if alike else None


def _is_one(x: Any) -> bool:
    return isinstance(x, int | float) and x == 1


def with_common_subexpressions(program: Program) -> Program:
    """Common-subexpression elimination."""
    seen: dict[Any, Value] = {}
    same: dict[Value, Value] = {}
    protected = program.kept()

    def once(instruction: Instruction) -> Iterable[Instruction]:
        if has_effect(instruction):
            return [instruction]
        output = instruction.output
        key = (instruction.op, _hashable(instruction.inputs), _hashable(instruction.params))
        before = seen.setdefault(key, output)
        if before is output:
            return [instruction]
        if output in protected:
            copy = Instruction(e.positive, (before,), {}, output, instruction.source_line)
            return [copy if output.dtype.kind != "b" else instruction]
        same[output] = before
        return []

    return program.rewritten(once, same)


def _hashable(item: Any) -> Any:
    """A key that two items share if and only if they are bitwise equal."""
    if isinstance(item, tuple | list):
        return (type(item), *map(_hashable, item))
    if isinstance(item, dict):
        return tuple((name, _hashable(item[name])) for name in sorted(item))
    if isinstance(item, slice):
        return ("slice", *map(_hashable, (item.start, item.stop, item.step)))
    if isinstance(item, float):
        return ("float", item.hex())
    if isinstance(item, Value | np.dtype | int | str | bool | None):
        return (type(item), item)
    return ("object", id(item))


def with_results_made_in_place(program: Program) -> Program:
    """A result that is a copy of a value with no other use becomes that value."""
    protected = program.kept()
    made = {instruction.output for instruction in program.instructions}
    renamed: dict[Value, Value] = {}
    for instruction in program.instructions:
        if instruction.op is e.positive and instruction.output in protected:
            (original,) = instruction.inputs
            known = isinstance(original, Value) and original.dtype == instruction.output.dtype
            if known and original in made and original not in {*protected, *renamed}:
                renamed[original] = instruction.output

    def without_copy(instruction: Instruction) -> Iterable[Instruction]:
        copies_itself = any(x is instruction.output for x in instruction.inputs)
        return [] if copies_itself else [instruction]

    return program.rewritten(without_copy, renamed)


def simplified(program: Program) -> Program:
    """All passes of this module, each before those that profit from it."""
    program = without_dead_code(program)
    program = with_constants_folded(program)
    program = without_idle_ops(program)
    program = with_common_subexpressions(program)
    program = with_results_made_in_place(program)
    return without_dead_code(program)
