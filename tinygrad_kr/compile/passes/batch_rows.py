"""Work that repeats for each row of a result is batched into one op.

A Jacobian is traced as one backward pass for each output: the same ops on other unit vectors,
stacked at the end. From the stack back to the unit vectors, each n ops that are alike become one
on arrays with the n rows as their first axis.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np

from tinygrad_kr.compile.ir.bindings import Constant
from tinygrad_kr.compile.ir.builder import Builder
from tinygrad_kr.compile.ir.c_ops import ELEMENTWISE
from tinygrad_kr.compile.ir.layout import extent
from tinygrad_kr.compile.ir.program import Input, Instruction, Program, Value, is_basic_key
from tinygrad_kr.compile.passes.simplify import _frozen, _hashable, _is_fixed
from tinygrad_kr.ops import linalg, shape
from tinygrad_kr.ops.indexing import getitem, index_add
from tinygrad_kr.ops.reduction import max_, min_, sum_
from tinygrad_kr.ops.writes import address

Batch = tuple[Value, ...]
"""The values of one op, one for each row."""

MIN_ROWS = 3
"""Fewest rows that are batched."""


def with_rows_batched(program: Program) -> Program:
    """The program with all stacks of equally computed rows batched."""
    program = with_constants_once(program)
    found: dict[int, list[Instruction]] = defaultdict(list)
    for instruction in program.instructions:
        stacked = instruction.op is shape.stack and instruction.params.get("axis", 0) == 0
        rows = instruction.inputs
        if stacked and len(rows) >= MIN_ROWS and all(isinstance(row, Value) for row in rows):
            found[len(rows)].append(instruction)
    for stacks in found.values():
        together = _batched(program, stacks)
        if together is None and len(stacks) > 1:
            for stack in stacks:
                program = _batched(program, [stack]) or program
        program = together or program
    return program


def with_constants_once(program: Program) -> Program:
    """Constants with equal memory, shape and strides become one, such as views of one array."""
    seen: dict[Any, Value] = {}
    same: dict[Value, Value] = {}
    for value, source in program.inputs.items():
        if isinstance(source, Constant):
            array = source.array
            before = seen.setdefault(
                (address(array), array.shape, array.strides, array.dtype), value
            )
            if before is not value:
                same[value] = before
    return program.rewritten(lambda instruction: [instruction], same) if same else program


def _batched(program: Program, stacks: list[Instruction]) -> Program | None:
    """The program with the rows of these stacks computed at once, if they can be."""
    made = _Batches(program, stacks)
    return made.program() if made.collect() else None


class _Batches:
    """The ops of some rows in batches, from the stacked results back to where the rows start."""

    def __init__(self, given: Program, stacks: list[Instruction]) -> None:
        self.given, self.stacks = given, stacks
        self.n = len(stacks[0].inputs)
        self.makers = {s.output: (i, s) for i, s in enumerate(given.instructions)}
        self.readers: dict[Value, set[Value]] = defaultdict(set)
        for instruction in given.instructions:
            for value in instruction.reads():
                self.readers[value].add(instruction.output)
        self.kept = given.kept() | {check.value for check in given.checks}
        self.batches: dict[Batch, list[Instruction]] = {}
        """The instructions of each batch, those that are read after those that read them."""

    def collect(self) -> bool:
        """Find all batches; False where rows differ, or where another op reads a row's value."""
        gone = {stack.output for stack in self.stacks}
        waiting: list[tuple[int, int, Batch]] = []
        ties = count()
        seen: set[Batch] = set()

        def want(batch: Batch) -> bool:
            if self.starts(batch) or batch in seen:
                return True
            if any(value not in self.makers for value in batch):
                return False
            seen.add(batch)
            heapq.heappush(waiting, (-self.makers[batch[0]][0], next(ties), batch))
            return True

        if not all(want(stack.inputs) for stack in self.stacks):
            return False
        while waiting:
            _, _, batch = heapq.heappop(waiting)
            instructions = [self.makers[value][1] for value in batch]
            alone = all(self.readers[v] <= gone and v not in self.kept for v in batch)
            if not (alone and _alike(instructions)):
                return False
            self.batches[batch] = instructions
            gone.update(batch)
            if not all(
                want(batch) for batch in _operands(instructions) if isinstance(batch[0], Value)
            ):
                return False
        return bool(self.batches)

    def starts(self, batch: Batch) -> bool:
        """Whether the rows begin here: with one value for all, or with a constant for each."""
        inputs = self.given.inputs
        return len(set(batch)) == 1 or all(_is_fixed(inputs.get(value)) for value in batch)

    def program(self) -> Program:
        """The program with an op for each batch, where the last of its rows was."""
        numbers = self.given.free_numbers().__next__
        inputs = dict(self.given.inputs)
        rows: dict[Batch, Value] = {}
        added: dict[Value, list[Instruction]] = defaultdict(list)
        for batch, instructions in reversed(self.batches.items()):
            operands = [self.operand(p, rows, inputs, numbers) for p in _operands(instructions)]
            builder = Builder(instructions[0].source_line, numbers)
            rows[batch] = _rule(instructions[0])(builder, instructions[0], self.n, operands)
            added[max(batch, key=lambda value: self.makers[value][0])] += builder.instructions
        for stack in self.stacks:
            builder = Builder(stack.source_line, numbers)
            first = self.operand(stack.inputs, rows, inputs, numbers)
            made = first.repeated(builder, self.n)
            added[stack.output] = builder.finish(made, stack.output)
        gone = {value for batch in self.batches for value in batch}
        gone |= {stack.output for stack in self.stacks}

        def exchange(s: Instruction) -> list[Instruction]:
            return [*([] if s.output in gone else [s]), *added[s.output]]

        return replace(self.given.rewritten(exchange), inputs=inputs)

    def operand(
        self,
        batch: tuple[Any, ...],
        rows: dict[Batch, Value],
        inputs: dict[Value, Input],
        numbers: Callable[[], int],
    ) -> _Operand:
        """What takes the place of the operands that the rows have here."""
        first = batch[0]
        if not isinstance(first, Value) or len(set(batch)) == 1:
            return _Operand(first, False)
        if batch not in rows:
            array = _frozen(np.stack([inputs[value].fetch() for value in batch]))
            rows[batch] = Value(numbers(), array.shape, array.dtype, array.strides)
            inputs[rows[batch]] = Constant(array, fixed=True)
        return _Operand(rows[batch], True)


def _operands(instructions: list[Instruction]) -> list[tuple[Any, ...]]:
    return list(zip(*(instruction.inputs for instruction in instructions), strict=True))


def _alike(instructions: list[Instruction]) -> bool:
    """Whether these ops are one, on other values, and one that can be done for all at once."""
    form = _form(instructions[0])
    return all(_form(s) == form for s in instructions[1:]) and _rule(instructions[0]) is not None


def _form(s: Instruction) -> Any:
    inputs = [
        (x.shape, x.dtype) if isinstance(x, Value) else ("as it is", _hashable(x)) for x in s.inputs
    ]
    return s.op, inputs, _hashable(s.params), s.output.shape, s.output.dtype


# ------------------------------------------------------------------ one op for all rows


class _Operand:
    """An operand of all rows: a value with an axis for them, or the same for each of them."""

    def __init__(self, value: Any, per_row: bool) -> None:
        self.value, self.per_row = value, per_row

    def aligned(self, b: Builder, axes: int) -> Any:
        """With as many axes behind that of the rows as given, or as broadcasting adds."""
        value = self.value
        missing = axes + 1 - len(value.shape) if self.per_row else 0
        if missing <= 0:
            return value
        n, *rest = value.shape
        return b(shape.reshape, value, shape=(n, *(1,) * missing, *rest))

    def repeated(self, b: Builder, n: int) -> Value:
        """With the axis of the rows."""
        if self.per_row:
            row: Value = self.value
            return row
        return b(shape.broadcast_to, self.value, shape=(n, *self.value.shape))


def _rule(instruction: Instruction) -> Any:
    """How an op is done for all rows; None if there is no way."""
    if instruction.op in ELEMENTWISE and not set(instruction.params) - {"dtype"}:
        return _elementwise
    if instruction.op in (getitem, index_add) and not is_basic_key(instruction.params["key"]):
        return None
    if instruction.op is linalg.matmul and min(len(x.shape) for x in instruction.inputs) < 2:
        return None
    return _RULES.get(instruction.op)


def _elementwise(b: Builder, s: Instruction, n: int, operands: list[_Operand]) -> Value:
    axes = len(s.output.shape)
    made = b(s.op, *(x.aligned(b, axes) for x in operands), **s.params)
    return made if made.shape[:1] == (n,) else b(shape.broadcast_to, made, shape=(n, *made.shape))


def _reduction(b: Builder, s: Instruction, n: int, operands: list[_Operand]) -> Value:
    (x,) = operands
    axis, axes = s.params.get("axis"), len(s.inputs[0].shape)
    given = range(axes) if axis is None else (axis,) if isinstance(axis, int) else axis
    shifted = tuple(a % axes + 1 for a in given)
    return b(s.op, x.repeated(b, n), **{**s.params, "axis": shifted})


def _matmul(b: Builder, s: Instruction, n: int, operands: list[_Operand]) -> Value:
    left, right = operands
    if left.per_row and not right.per_row and len(right.value.shape) == 2:
        *rows, inner = left.value.shape
        flat = b(shape.reshape, left.value, shape=(extent(tuple(rows)), inner))
        return b(shape.reshape, b(s.op, flat, right.value), shape=(n, *s.output.shape))
    axes = len(s.output.shape)
    return b(s.op, left.aligned(b, axes), right.aligned(b, axes))


def _reshape(b: Builder, s: Instruction, n: int, operands: list[_Operand]) -> Value:
    return b(shape.reshape, operands[0].repeated(b, n), shape=(n, *s.output.shape))


def _broadcast_to(b: Builder, s: Instruction, n: int, operands: list[_Operand]) -> Value:
    x = operands[0].aligned(b, len(s.output.shape))
    return b(shape.broadcast_to, x, shape=(n, *s.output.shape))


def _transpose(b: Builder, s: Instruction, n: int, operands: list[_Operand]) -> Value:
    axes = len(s.output.shape)
    order = s.params.get("axes") or range(axes)[::-1]
    moved = (0, *(a % axes + 1 for a in order))
    return b(shape.transpose, operands[0].repeated(b, n), axes=moved)


def _swapaxes(b: Builder, s: Instruction, n: int, operands: list[_Operand]) -> Value:
    axes = len(s.output.shape)
    moved = {name: axis % axes + 1 for name, axis in s.params.items()}
    return b(shape.swapaxes, operands[0].repeated(b, n), **moved)


def _getitem(b: Builder, s: Instruction, n: int, operands: list[_Operand]) -> Value:
    return b(getitem, operands[0].repeated(b, n), key=_behind_rows(s.params["key"]))


def _index_add(b: Builder, s: Instruction, n: int, operands: list[_Operand]) -> Value:
    key = _behind_rows(s.params["key"])
    return b(index_add, operands[0].repeated(b, n), key=key, shape=(n, *s.params["shape"]))


def _behind_rows(key: Any) -> tuple[Any, ...]:
    return (slice(None), *(key if isinstance(key, tuple) else (key,)))


def _joined(b: Builder, s: Instruction, n: int, operands: list[_Operand]) -> Value:
    axis = s.params.get("axis", 0) % len(s.output.shape) + 1
    return b(s.op, *(x.repeated(b, n) for x in operands), axis=axis)


_RULES: dict[Any, Callable[[Builder, Instruction, int, list[_Operand]], Value]] = {
    sum_: _reduction,
    max_: _reduction,
    min_: _reduction,
    linalg.matmul: _matmul,
    shape.reshape: _reshape,
    shape.broadcast_to: _broadcast_to,
    shape.transpose: _transpose,
    shape.swapaxes: _swapaxes,
    shape.stack: _joined,
    getitem: _getitem,
    index_add: _index_add,
}
