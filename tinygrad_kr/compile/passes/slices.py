"""The gradients of many rows of an array, `x[i]` or `x[:, i]`, put side by side.

The derivative of a row is an array of zeros but for it. n of them cost n arrays of n rows; one
`stack` costs their rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from tinygrad_kr.compile.ir.bindings import Constant
from tinygrad_kr.compile.ir.layout import dense_strides
from tinygrad_kr.compile.ir.program import Instruction, Program, Readers, Value, readers_of
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops.indexing import index_add
from tinygrad_kr.ops.shape import stack, transpose

MIN_ROWS = 4
"""Fewest rows that are put side by side."""


class _Row(NamedTuple):
    """Where the gradient of a row lies in the array."""

    axis: int
    number: int


class _Sum(NamedTuple):
    """A sum of gradients. adds: all values that it makes on the way. rows: by value, its row.
    others: what it adds beside rows."""

    adds: list[Value]
    rows: dict[Value, _Row]
    others: list[Value]


def with_rows_side_by_side(program: Program) -> Program:
    """The program with each sum of gradients of rows as one array of them."""
    if sum(s.op is index_add for s in program.instructions) < MIN_ROWS:
        return program
    sums = _sums(program)
    return _Stacking(program, sums).program() if sums else program


def _row(s: Instruction) -> _Row | None:
    """The row of an `index_add` of one whole row."""
    key, output = s.params["key"], s.output
    parts = [part for part in (key if isinstance(key, tuple) else (key,)) if part is not ...]
    whole = [isinstance(part, slice) and part == slice(None) for part in parts]
    if sum(whole) != len(parts) - 1 or ... in (key if isinstance(key, tuple) else ())[:-1]:
        return None
    axis = whole.index(False)
    number, x = parts[axis], s.inputs[0]
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        return None
    shape = (*output.shape[:axis], *output.shape[axis + 1 :])
    if not isinstance(x, Value) or (x.shape, x.dtype) != (shape, output.dtype):
        return None
    return _Row(axis, int(number) % output.shape[axis])


def _sums(program: Program) -> dict[Value, _Sum]:
    """By result, the sums of enough rows of one axis."""
    readers, kept = readers_of(program), program.kept() | {c.value for c in program.checks}
    makers = {s.output: s for s in program.instructions}
    taken: set[Value] = set()
    found: dict[Value, _Sum] = {}
    for s in reversed(program.instructions):
        if s.op is e.add and s.output not in taken and s.inputs[0] is not s.inputs[1]:
            whole = _sum_of(s, makers, readers, kept)
            taken.update(whole.adds)
            axes = {row.axis for row in whole.rows.values()}
            if len(whole.rows) >= MIN_ROWS and len(axes) == 1:
                found[s.output] = whole
    return found


def _sum_of(
    root: Instruction, makers: dict[Value, Instruction], readers: Readers, kept: set[Value]
) -> _Sum:
    found, left = _Sum([root.output], {}, []), [*root.inputs][::-1]
    while left:
        x = left.pop()
        s = makers.get(x) if isinstance(x, Value) else None
        like = s is not None and (x.shape, x.dtype) == (root.output.shape, root.output.dtype)
        if s is None or not like or x in kept or len(readers[x]) > 1:
            found.others.append(x)
        elif s.op is e.add and s.inputs[0] is not s.inputs[1]:
            found.adds.append(x)
            left += s.inputs[::-1]
        elif s.op is index_add and (row := _row(s)) is not None:
            found.rows[x] = row
        else:
            found.others.append(x)
    return found


class _Stacking:
    """The program anew, with the sums of `sums` as arrays of rows."""

    def __init__(self, program: Program, sums: dict[Value, _Sum]) -> None:
        self.given, self.sums = program, sums
        self.inputs, self.numbers = dict(program.inputs), program.free_numbers()
        self.root_of = {x: root for root, whole in sums.items() for x in whole.rows}
        self.dropped = {x for root, whole in sums.items() for x in whole.adds if x is not root}
        self.parts: dict[Value, dict[int, Value]] = {root: {} for root in sums}
        """By sum, the gradient of each row up to here."""

    def program(self) -> Program:
        """The program."""
        return replace(self.given.rewritten(self._rewritten), inputs=self.inputs)

    def _new(self, shape: tuple[int, ...], dtype: Any) -> Value:
        strides = tuple(step * dtype.itemsize for step in dense_strides(shape))
        return Value(next(self.numbers), shape, dtype, strides)

    def _rewritten(self, s: Instruction) -> Iterator[Instruction]:
        if s.output in self.dropped:
            return
        root = self.root_of.get(s.output)
        if root is not None:
            yield from self._part(s, self.parts[root], self.sums[root].rows[s.output].number)
        elif s.output in self.sums:
            yield from self._whole(s, self.sums[s.output])
        else:
            yield s

    def _part(self, s: Instruction, parts: dict[int, Value], number: int) -> Iterator[Instruction]:
        """One more gradient of a row."""
        x = s.inputs[0]
        if number in parts:
            total = self._new(x.shape, x.dtype)
            yield Instruction(e.add, (parts[number], x), {}, total, s.source_line)
            x = total
        parts[number] = x

    def _whole(self, s: Instruction, whole: _Sum) -> Iterator[Instruction]:
        """All rows side by side, and what else is added."""
        parts, output, line = self.parts[s.output], s.output, s.source_line
        axis = next(iter(whole.rows.values())).axis
        n = output.shape[axis]
        if len(parts) < n:
            some = next(iter(parts.values()))
            zeros = self._new(some.shape, some.dtype)
            nothing = np.zeros(some.shape, some.dtype)
            nothing.flags.writeable = False
            self.inputs[zeros] = Constant(nothing, fixed=True)
            parts = {i: parts.get(i, zeros) for i in range(n)}
        rows = tuple(parts[i] for i in range(n))
        made = [Instruction(stack, rows, {"axis": 0}, self._stacked(output, axis), line)]
        if axis:
            axes = (*range(1, axis + 1), 0, *range(axis + 1, len(output.shape)))
            turned = self._new(output.shape, output.dtype)
            made.append(Instruction(transpose, (made[0].output,), {"axes": axes}, turned, line))
        for x in whole.others:
            total = self._new(output.shape, output.dtype)
            made.append(Instruction(e.add, (made[-1].output, x), {}, total, line))
        made[-1] = made[-1]._replace(output=output)
        yield from made

    def _stacked(self, output: Value, axis: int) -> Value:
        shape = output.shape
        return self._new((shape[axis], *shape[:axis], *shape[axis + 1 :]), output.dtype)
