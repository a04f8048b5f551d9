"""Rows at integers that are known when a call begins: C reads and adds them."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import replace
from typing import Any

from tinygrad_kr.compile.ir.bindings import Constant
from tinygrad_kr.compile.ir.c_ops import C_TYPES
from tinygrad_kr.compile.ir.layout import FLOAT_DTYPES
from tinygrad_kr.compile.ir.program import Check, Instruction, Program, Value
from tinygrad_kr.compile.ir.rows import is_sum_of_rows, keys_of, table_of
from tinygrad_kr.compile.plan.steps import Rows
from tinygrad_kr.functional.checks import refuse_outside, refuse_rows
from tinygrad_kr.ops.indexing import getitem


def rows_of_inputs(program: Program, views: Container[object]) -> Iterator[Instruction]:
    """The ops that read or add rows at integers which are an input of the program or a view of one.

    They are checked before anything runs, so C need not look for integers outside.
    """
    known = set(program.inputs)
    for instruction in program.instructions:
        if instruction.op in views and known.issuperset(instruction.reads()):
            known.add(instruction.output)
        if _is_of_rows(instruction) and known.issuperset(keys_of(instruction)):
            yield instruction


def _is_of_rows(instruction: Instruction) -> bool:
    output, inputs = instruction.output, instruction.inputs
    if instruction.op is getitem:
        key = instruction.params["key"]
        fits = isinstance(key, Value) and output.dtype in C_TYPES
    else:
        fits = is_sum_of_rows(instruction) and output.dtype in FLOAT_DTYPES
    if not fits or not all(isinstance(x, Value) and x.dtype == output.dtype for x in inputs):
        return False
    return bool(output.size) and all(
        key.size and key.dtype.kind == "i" and key.dtype in C_TYPES for key in keys_of(instruction)
    )


def with_rows_checked(program: Program, lowerings: Any) -> Program:
    """The program with a check of each key that C reads, where none refuses more."""
    checks = list(program.checks)
    known = {
        (check.value, check.rest[0])
        for check in checks
        if check.function is refuse_outside and check.rest[2] is None
    }
    for instruction in program.instructions:
        if lowerings[instruction.output].kind is not Rows:
            continue
        count = table_of(instruction).shape[0]
        for key in keys_of(instruction):
            source = program.inputs.get(key)
            fixed = isinstance(source, Constant) and source.fixed
            if (key, count) not in known and not fixed:
                known.add((key, count))
                checks.append(Check(refuse_rows, key, (count,), 0))
    return replace(program, checks=checks)
