"""Ops that read rows at integers, or add rows at integers into zeros."""

from __future__ import annotations

from typing import Any

from tinygrad_kr.compile.ir.ops import _rows_added
from tinygrad_kr.compile.ir.program import Instruction, Value
from tinygrad_kr.ops.indexing import getitem, index_add


def is_sum_of_rows(instruction: Instruction | None) -> bool:
    """Whether an op adds rows at integers into zeros."""
    if instruction is None:
        return False
    if instruction.op is _rows_added:
        return True
    key = instruction.params.get("key")
    return instruction.op is index_add and isinstance(key, Value) and key.dtype.kind in "iu"


def keys_of(instruction: Instruction) -> tuple[Any, ...]:
    """The integers at which rows are read, or at which those of each input are added."""
    params = instruction.params
    keys: tuple[Any, ...] = params["keys"] if instruction.op is _rows_added else (params["key"],)
    return keys


def table_of(instruction: Instruction) -> Value:
    """The array whose rows the integers name."""
    table: Value = instruction.inputs[0] if instruction.op is getitem else instruction.output
    return table
