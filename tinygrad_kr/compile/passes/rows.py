"""Rows at integers: their sums that are added to one another become one array."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.ir.bindings import Constant
from tinygrad_kr.compile.ir.ops import _rows_added
from tinygrad_kr.compile.ir.program import Instruction, Program, Value, readers_of
from tinygrad_kr.compile.ir.rows import is_sum_of_rows, keys_of
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops.indexing import getitem, index_add


def with_keys_as_constants(program: Program) -> Program:
    """Arrays of integers at which rows are read or added become constants of the program."""
    inputs, numbers = dict(program.inputs), program.free_numbers()

    def with_value(instruction: Instruction) -> Iterable[Instruction]:
        key = instruction.params.get("key")
        if instruction.op not in (getitem, index_add) or not isinstance(key, ndarray):
            return [instruction]
        if key.dtype.kind not in "iu" or not key.size or key.dtype == np.uint64:
            return [instruction]
        fixed = np.array(key, np.int64)
        fixed.flags.writeable = False
        value = Value(next(numbers), fixed.shape, fixed.dtype, fixed.strides)
        inputs[value] = Constant(fixed, fixed=True)
        return [instruction._replace(params={**instruction.params, "key": value})]

    return replace(program.rewritten(with_value), inputs=inputs)


def with_sums_of_rows_joined(program: Program) -> Program:
    """The gradients of two reads of one table are added into one array of zeros."""
    readers, kept = readers_of(program), program.kept()
    makers: dict[Value, Instruction] = {}
    joined: set[Value] = set()

    def maker_of(x: Any, whole: Instruction) -> Instruction | None:
        """What made `x`, a sum of rows that nothing else reads."""
        if not isinstance(x, Value) or x in kept or len(readers.get(x, ())) != 1:
            return None
        found = makers.get(x)
        same = found is not None and (x.shape, x.dtype) == (whole.output.shape, whole.output.dtype)
        return found if same and is_sum_of_rows(found) else None

    def join(instruction: Instruction) -> Iterable[Instruction]:
        if instruction.op is e.add and instruction.inputs[0] is not instruction.inputs[1]:
            found = [maker_of(x, instruction) for x in instruction.inputs]
            if all(found):
                joined.update(x for x in instruction.inputs)
                instruction = _joined(instruction, [part for part in found if part])
        makers[instruction.output] = instruction
        return [instruction]

    whole = program.rewritten(join)
    return whole.rewritten(lambda s: [] if s.output in joined else [s]) if joined else program


def _joined(whole: Instruction, parts: list[Instruction]) -> Instruction:
    inputs = tuple(x for part in parts for x in part.inputs)
    keys = tuple(key for part in parts for key in keys_of(part))
    params = {"keys": keys, "shape": whole.output.shape}
    return Instruction(_rows_added, inputs, params, whole.output, whole.source_line)
