"""Copies that a plan needs: of views that outlive the call, and of parts that lie elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from dataclasses import replace

from tinygrad_kr.compile.ir.program import Instruction, Program, Value
from tinygrad_kr.compile.plan.classify import Lowerings, lowering_of
from tinygrad_kr.compile.plan.steps import Key, Rows
from tinygrad_kr.ops.elementwise import positive
from tinygrad_kr.ops.op import astype


def with_owned_results(program: Program, lowerings: Lowerings, views: Container[object]) -> Program:
    """What outlives the call is copied where it would be a view, or lies in parts.

    views: ops that give one. `lowerings` gets what is added.
    """
    kept, numbers = program.kept(), program.free_numbers()

    def copied(instruction: Instruction) -> list[Instruction]:
        output = instruction.output
        lowering = lowerings[output]
        shares = instruction.op in views and lowering.kind is not Rows
        shares |= lowering.keys is not None
        if not shares or output not in kept:
            return [instruction]
        view = replace(output, number=next(numbers))
        copy = Instruction(positive, (view,), {}, output, instruction.source_line)
        lowerings[view], lowerings[output] = lowering, lowering_of(copy)
        return [instruction._replace(output=view), copy]

    return program.rewritten(copied)


def with_parts(
    program: Program, lowerings: Lowerings
) -> tuple[Program, dict[Value, tuple[Value, Key]]]:
    """The program with a copy of each part that cannot itself lie in what it is a part of, and
    which values are parts of what, and where.

    `lowerings` gets what is added.
    """
    numbers = program.free_numbers()
    able = _able(program, lowerings)
    parts: dict[Value, tuple[Value, Key]] = {}

    def divide(instruction: Instruction) -> list[Instruction]:
        keys = lowerings[instruction.output].keys
        if keys is None:
            return [instruction]
        copies: list[Instruction] = []
        inputs: list[Value] = []
        for x in instruction.inputs:
            if x not in able or x in inputs or x.dtype != instruction.output.dtype:
                copies.append(_copy(x, instruction, next(numbers)))
                x = copies[-1].output
                lowerings[x] = lowering_of(copies[-1])
            inputs.append(x)
        parts.update({x: (instruction.output, key) for x, key in zip(inputs, keys, strict=True)})
        return [*copies, instruction._replace(inputs=tuple(inputs))]

    return program.rewritten(divide), parts


def _able(program: Program, lowerings: Lowerings) -> set[Value]:
    """What loops make and only C reads, for one array that is put together."""
    kept = program.kept() | {check.value for check in program.checks}
    made: set[Value] = set()
    wanted: Counter[Value] = Counter()
    for instruction in program.instructions:
        lowering = lowerings[instruction.output]
        if lowering.expression is not None and lowering.group is None:
            made.add(instruction.output)
        if lowering.keys is not None:
            wanted.update(set(instruction.inputs))
        elif lowering.expression is None:
            kept.update(instruction.reads())
    return {value for value in made - kept if wanted[value] == 1}


def _copy(x: Value, whole: Instruction, number: int) -> Instruction:
    dtype = whole.output.dtype
    output = replace(x, number=number, dtype=dtype)
    if x.dtype == dtype:
        return Instruction(positive, (x,), {}, output, whole.source_line)
    return Instruction(astype, (x,), {"dtype": dtype}, output, whole.source_line)
