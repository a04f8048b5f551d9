"""Loop rerolling: like turns of a loop of Python, recorded one by one, become one loop of C.

A turn is the body of a `scan`. An operand of turn i is the same for all turns, carried from an
earlier turn, made in turn i, or row a + b i of a stacked array. The backward pass of a loop is a
loop too, which reads the rows of the forward one in reverse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.body import Body, _known
from tinygrad_kr.compile.ir.bindings import Constant
from tinygrad_kr.compile.ir.body import BodyCheck, BodyStep, Code, Counts, Kind, Ref
from tinygrad_kr.compile.ir.layout import dense_strides
from tinygrad_kr.compile.ir.program import Instruction, Program, Value
from tinygrad_kr.compile.passes.periods import MIN_TURNS, Turns, periods
from tinygrad_kr.compile.passes.simplify import _hashable, _is_fixed, has_effect, without_dead_code
from tinygrad_kr.compile.passes.slices import with_rows_side_by_side
from tinygrad_kr.compile.run.scan_body import BodyPlan
from tinygrad_kr.compile.run.scan_loop import CLoop
from tinygrad_kr.native import deadline
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops.indexing import getitem
from tinygrad_kr.ops.linalg import matmul
from tinygrad_kr.ops.reduction import concatenate
from tinygrad_kr.ops.shape import reshape, stack, swapaxes, transpose

MIN_OPS = 1_000
"""Fewest ops of a loop that is rolled up. Shorter ones fuse with what is around them, and are
built soon."""
MIN_OPS_BESIDE = 200
"""The same in a program that has a longer one."""
MOST_TURNS_BACK = 3
"""Most turns from which a value is carried."""
MOST_WASTED = 1 << 20
"""Most bytes of rows that a loop keeps and nothing reads, where what it reads and keeps else is
less."""
_OF_NUMBERS = {e.add, e.subtract, e.multiply, e.divide}
"""Ops for which a number is an array with one element."""


def rerolled(program: Program) -> Program:
    """The program with the loops that it was recorded in, where C has all of their ops."""
    if len(program.instructions) < MIN_OPS:
        return program
    program = with_rows_side_by_side(without_dead_code(program))
    forms: dict[Any, int] = {}
    symbols = np.array(
        [forms.setdefault(_form(s), len(forms)) for s in program.instructions], np.int64
    )
    if not periods(symbols, MIN_OPS):
        return program
    return _Rerolling(program, periods(symbols, MIN_OPS_BESIDE)).program()


# ------------------------------------------------------------------ what is alike in all turns


def _form(s: Instruction) -> Any:
    """What ops have in common that may be one op of a body."""
    axes = _axes_of_rows(s)
    params = {**s.params, "key": _row_key(s, axes)} if axes else s.params
    inputs = s.inputs
    if _has_numbers(s):
        inputs = tuple(x if isinstance(x, Value) else "a number" for x in inputs)
    return s.op, _kinds(inputs), _kinds(params), s.output.shape, s.output.dtype


def _kinds(x: Any) -> Any:
    if isinstance(x, Value):
        return x.shape, x.dtype
    if isinstance(x, tuple | list):
        return type(x), *map(_kinds, x)
    if isinstance(x, dict):
        return tuple((name, _kinds(part)) for name, part in x.items())
    return _hashable(x)


def _has_numbers(s: Instruction) -> bool:
    """Whether the op has a number for an operand, in place of which an array may be."""
    if s.op not in _OF_NUMBERS or s.output.dtype.kind != "f":
        return False
    return all(
        x.dtype == s.output.dtype if isinstance(x, Value) else type(x) in (int, float)
        for x in s.inputs
    )


def _parts_of_key(s: Instruction) -> tuple[Any, ...]:
    key = s.params["key"]
    return key if isinstance(key, tuple) else (key,)


def _axes_of_rows(s: Instruction) -> list[int]:
    """The axes along which an index picks one row, of those before anything but whole slices."""
    axes: list[int] = []
    for axis, part in enumerate(_parts_of_key(s) if s.op is getitem else ()):
        if isinstance(part, int | np.integer) and not isinstance(part, bool):
            axes.append(axis)
        elif not isinstance(part, slice) or part != slice(None):
            break
    return axes


def _row_key(s: Instruction, axes: list[int]) -> tuple[Any, ...]:
    """The key with a mark for the number of each row."""
    return tuple("row" if i in axes else part for i, part in enumerate(_parts_of_key(s)))


def _varying_axes(ops: Sequence[Instruction]) -> list[int]:
    """The axes of rows along which turns pick different ones."""
    axes = _axes_of_rows(ops[0])
    return [axis for axis in axes if len({_parts_of_key(s)[axis] for s in ops}) > 1]


def _rest_of_key(s: Instruction, axis: int) -> tuple[Any, ...] | None:
    """What remains of a key without one axis; None if that takes all."""
    parts = _parts_of_key(s)
    rest = (*parts[:axis], *parts[axis + 1 :])
    return rest if any(not isinstance(x, slice) or x != slice(None) for x in rest) else None


# ------------------------------------------------------------------ a body


class Carry(NamedTuple):
    """What op `k` of the body gave some turns before. firsts: what it is in place of that in the
    first turns, the latest first."""

    k: int
    firsts: tuple[Value, ...]


class Made(NamedTuple):
    """What op `k` gives in this turn."""

    k: int


class Element(NamedTuple):
    """The value of each turn."""

    values: tuple[Value, ...]


class Numbers(NamedTuple):
    """The number of each turn, as one of this dtype."""

    values: tuple[float, ...]
    dtype: np.dtype[Any]


Operand = Carry | Made | Element | Numbers | Value


class ProductSum(NamedTuple):
    """The sum of a^T b over all turns, which is one product of all rows: of a weight's gradient.

    ops: those that it takes the place of; the last one adds. first: what the sum begins with.
    """

    ops: tuple[int, int, int]
    first: Value
    a: Made | Element
    b: Made | Element


@dataclass
class _Turn:
    """A body: by op, its inputs and parameters with operands; those that do not vary, and those
    that are rows of an array."""

    turns: Turns
    inputs: list[tuple[Any, ...]] = field(default_factory=list)
    params: list[dict[str, Any]] = field(default_factory=list)
    fixed: set[int] = field(default_factory=set)
    rows: dict[int, Element] = field(default_factory=dict)


class _Rerolling:
    """The program anew, op by op and loop by loop."""

    def __init__(self, program: Program, loops: Sequence[Turns]) -> None:
        self.given = program
        self.ops = program.instructions
        self.loops = {turns.start: turns for turns in loops}
        self.place = {value: -1 - i for i, value in enumerate(program.inputs)}
        self.place |= {s.output: i for i, s in enumerate(self.ops)}
        self.reads = [tuple(s.reads()) for s in self.ops]
        self.last_read = {value: i for i, values in enumerate(self.reads) for value in values}
        self.kept = program.kept() | {check.value for check in program.checks}
        self.last_read |= dict.fromkeys(self.kept, len(self.ops))
        self.inputs = dict(program.inputs)
        self.numbers = program.free_numbers()
        self.same: dict[Value, Value] = {}
        """Values that are another one."""
        self.row_of: dict[Value, tuple[Value, int]] = {}
        """Values that are row i of an array."""
        self.later: dict[Value, Instruction] = {}
        """Ops that are computed where they are read."""
        self.made = set(program.inputs)
        """What has been computed."""
        self.done: list[Instruction] = []
        self.line = ""

    def program(self) -> Program:
        """The program."""
        at, positions = 0, dict[int, int]()
        waiting = [check.after for check in self.given.checks]
        while at < len(self.ops):
            deadline.check()
            positions[at] = len(self.done)
            turns = self.loops.get(at)
            if turns is not None:
                whole = self.loop(turns) if not any(at < n < turns.stop for n in waiting) else None
                if whole is not None:
                    at = whole
                    continue
            self.op(self.ops[at])
            at += 1
        positions[at] = len(self.done)
        for value in dict.fromkeys(self.kept):
            self.keep(value)
        checks = []
        for check in self.given.checks:
            value = self.same.get(check.value, check.value)
            after = max([positions[check.after], *self.after(value)])
            checks.append(check._replace(value=value, after=after))
        return replace(self.given, inputs=self.inputs, instructions=self.done, checks=checks)

    def after(self, value: Value) -> list[int]:
        """The number of ops up to that of a value."""
        return [i + 1 for i, s in enumerate(self.done) if s.output is value]

    # -------------------------------------------------------------- single ops

    def op(self, s: Instruction) -> None:
        """An op as it was, on what its operands are now."""
        self.line = s.source_line
        if self.joins(s):
            self.joined(s)
            return
        if _axes_of_rows(s) == [0] and _rest_of_key(s, 0) is None:
            self.rows_of(self.same.get(s.inputs[0], s.inputs[0]), [s], 0)
            return
        self.done.append(s.renamed({value: self.read(value) for value in s.reads()}))
        self.made.add(s.output)

    def read(self, value: Value) -> Value:
        """What a value is now; a row of an array is taken out of it."""
        value = self.same.get(value, value)
        if value in self.made:
            return value
        if value in self.later:
            s = self.later[value]
            return self.add(s.op, (self.read(s.inputs[0]),), s.params, value)
        block, row = self.row_of[value]
        return self.add(getitem, (self.read(block),), {"key": row}, value)

    def add(self, op: Any, inputs: tuple[Any, ...], params: dict[str, Any], out: Value) -> Value:
        """An op more."""
        self.done.append(Instruction(op, inputs, params, out, self.line))
        self.made.add(out)
        return out

    def keep(self, value: Value) -> None:
        """Compute what outlives the program."""
        found = self.read(value)
        if found is not value:
            self.add(reshape, (found,), {"shape": value.shape}, value)

    def new(self, shape: tuple[int, ...], dtype: Any) -> Value:
        """A new value, in C order."""
        strides = tuple(step * dtype.itemsize for step in dense_strides(shape))
        return Value(next(self.numbers), shape, dtype, strides)

    def joins(self, s: Instruction) -> bool:
        """Whether an op puts together rows of loops."""
        if s.op not in (stack, concatenate) or s.params.get("axis", 0) != 0:
            return False
        if len(s.inputs) < MIN_TURNS or not all(isinstance(x, Value) for x in s.inputs):
            return False
        if len({(x.shape, x.dtype) for x in s.inputs}) > 1 or s.inputs[0].dtype != s.output.dtype:
            return False
        return sum(x in self.row_of for x in s.inputs) >= MIN_TURNS

    def joined(self, s: Instruction) -> None:
        """The same rows, of which many lie side by side."""
        rows = self.stacked(s.inputs)
        self.add(reshape, (rows,), {"shape": s.output.shape}, s.output)

    # -------------------------------------------------------------- arrays of rows

    def stacked(self, values: Sequence[Value]) -> Value:
        """An array with these rows."""
        values = [self.same.get(value, value) for value in values]
        if all(_is_fixed(self.inputs.get(value)) for value in values):
            return self.constant(np.stack([self.inputs[value].fetch() for value in values]))
        parts = [self.part(values, *run) for run in self.runs(values)]
        if len(parts) == 1:
            return parts[0]
        out = self.new((len(values), *values[0].shape), values[0].dtype)
        return self.add(concatenate, tuple(parts), {"axis": 0}, out)

    def constant(self, array: ndarray) -> Value:
        """A constant of the program."""
        array.flags.writeable = False
        value = Value(next(self.numbers), array.shape, array.dtype, array.strides)
        self.inputs[value] = Constant(array, fixed=True)
        self.made.add(value)
        return value

    def runs(self, values: Sequence[Value]) -> list[tuple[int, int, int]]:
        """Where rows lie at equal distances in one array: the first, how many, how far apart."""
        found: list[tuple[int, int, int]] = []
        for i, value in enumerate(values):
            place = self.row_of.get(value)
            if found and place is not None:
                first, count, step = found[-1]
                before = self.row_of.get(values[i - 1])
                if before is not None and before[0] is place[0]:
                    distance = place[1] - before[1]
                    if distance and (count == 1 or distance == step):
                        found[-1] = first, count + 1, distance
                        continue
            found.append((i, 1, 1))
        return found

    def part(self, values: Sequence[Value], first: int, count: int, step: int) -> Value:
        """A run of rows."""
        value = values[first]
        if value not in self.row_of:
            out = self.new((1, *value.shape), value.dtype)
            return self.add(reshape, (self.read(value),), {"shape": out.shape}, out)
        block, row = self.row_of[value]
        if count == block.shape[0] and step == 1:
            return self.read(block)
        stop = row + count * step
        key = slice(row, stop if stop >= 0 else None, step)
        out = self.new((count, *value.shape), value.dtype)
        return self.add(getitem, (self.read(block),), {"key": key}, out)

    # -------------------------------------------------------------- loops

    def loop(self, turns: Turns) -> int | None:
        """Roll up a loop; the op after it. None, with nothing done, where that cannot be."""
        while True:
            longest = self.consistent(turns)
            if longest is None or longest.times * longest.length < MIN_OPS_BESIDE:
                return None
            if longest == turns:
                break
            if longest.stop < turns.stop:
                rest = (turns.stop - longest.stop) // turns.length
                self.loops[longest.stop] = longest._replace(start=longest.stop, times=rest)
            if longest.start > turns.start:  # what is before it comes first, one by one
                self.loops[longest.start] = longest
                return None
            turns = longest
        turn = self.turn(turns)
        if turn is None:
            return None
        loop = _Rolled(self, turn)
        if not loop.is_built():
            return None
        loop.emit()
        return turns.stop

    def places(self, turns: Turns, only: int | None) -> ndarray:
        """By turn and operand, the place of the op that makes it; of one turn alone."""
        first, stop = (0, turns.times) if only is None else (only, only + 1)
        found = [
            [
                self.place[self.same.get(value, value)]
                for values in self.reads[start : start + turns.length]
                for value in values
            ]
            for start in (turns.start + i * turns.length for i in range(first, stop))
        ]
        return np.array(found, np.int64).reshape(stop - first, -1)

    def codes(self, turns: Turns, only: int | None = None) -> ndarray:
        """By turn and operand, from which op of which turn before it is; -1 from outside, other
        negative numbers from too far. only: of this turn alone."""
        places = self.places(turns, only)
        numbers = np.arange(turns.times) if only is None else np.array([only])
        starts = turns.start + turns.length * numbers[:, None]
        back = (starts - places + turns.length - 1) // turns.length
        codes = back * turns.length + (places - turns.start) % turns.length
        codes = np.where(back > MOST_TURNS_BACK, -2 - places, codes)
        return np.where(places < turns.start, -1, codes)

    def consistent(self, turns: Turns) -> Turns | None:
        """The longest part of a loop in which each operand comes from the like place."""
        if turns.times < MIN_TURNS:
            return None
        codes = self.codes(turns)
        middle = codes[turns.times // 2]
        if (middle < -1).any():  # of an early turn, as if it were before the loop
            latest = -2 - int(middle.min())
            skipped = (latest - turns.start) // turns.length + 1
            rest = turns.times - skipped
            return Turns(turns.start + skipped * turns.length, turns.length, rest)
        back = middle // turns.length
        early = (np.arange(turns.times)[:, None] < back) & (codes == -1)
        good = ((codes == middle) & (codes >= -1) | early).all(axis=1)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], good, [0]))))
        starts, stops = edges[::2], edges[1::2]
        if not len(starts):
            return None
        k = int(np.argmax(stops - starts))
        first, count = int(starts[k]), int(stops[k] - starts[k])
        if first and self.begins(codes[first - 1], middle, turns.length):
            first, count = first - 1, count + 1
        if count < MIN_TURNS:
            return None
        return Turns(turns.start + first * turns.length, turns.length, count)

    @staticmethod
    def begins(codes: ndarray, middle: ndarray, length: int) -> bool:
        """Whether a turn is like the others but for what is carried to it."""
        inside = (middle >= 0) & (middle < length)
        return bool(
            (codes[inside] == middle[inside]).all() and (codes[~inside] // length != 0).all()
        )

    def turn(self, turns: Turns) -> _Turn | None:
        """The body of a loop."""
        body = _Turn(turns)
        (codes,) = self.codes(turns, turns.times // 2)
        carried = {int(c) % turns.length for c in codes if c >= turns.length}
        self.find_rows(body, codes)
        column = 0
        for k in range(turns.length):
            ops = self.ops[turns.start + k : turns.stop : turns.length]
            operands: list[Operand] = []
            reads = self.reads[turns.start + k : turns.stop : turns.length]
            for values in zip(*reads, strict=True):
                operand = self.operand(body, values, int(codes[column]))
                if operand is None:
                    return None
                operands.append(operand)
                column += 1
            if not self.add_op(body, k, ops, operands, k in carried):
                return None
        return body

    def find_rows(self, body: _Turn, codes: ndarray) -> None:
        """Note the ops that pick a row of an array from outside. Ops before them may read it, from
        a turn before."""
        turns, column = body.turns, 0
        for k in range(turns.length):
            ops = self.ops[turns.start + k : turns.stop : turns.length]
            reads = self.reads[turns.start + k : turns.stop : turns.length]
            varying = _varying_axes(ops)
            if len(varying) == 1 and codes[column] < 0 and _rest_of_key(ops[0], varying[0]) is None:
                bases = {self.same.get(values[0], values[0]) for values in reads}
                if len(bases) == 1:
                    body.rows[k] = self.rows_of(bases.pop(), ops, varying[0])
            column += len(reads[0])

    def operand(self, body: _Turn, values: tuple[Value, ...], code: int) -> Operand | None:
        """What the values of all turns are."""
        back, k = divmod(code, body.turns.length)
        values = tuple(self.same.get(value, value) for value in values)
        if code < 0:
            return values[0] if len(set(values)) == 1 else Element(values)
        if k in body.rows:
            return Element(values) if back else body.rows[k]
        if not back:
            return self.ops[body.turns.start + k].output if k in body.fixed else Made(k)
        if any(self.place[value] >= body.turns.start for value in values[:back]):
            return None
        return Carry(k, values[:back][::-1])

    def add_op(
        self, body: _Turn, k: int, ops: list[Instruction], operands: list[Operand], carried: bool
    ) -> bool:
        """Add an op to the body; False where it cannot be part of one."""
        first = ops[0]
        if has_effect(first):
            return False
        inputs, params = _with_operands(first, operands)
        moved = False
        varying = _varying_axes(ops)
        if varying:
            base, axis = operands[0], varying[0]
            if not isinstance(base, Value) or len(varying) > 1:
                return False
            moved = True
            rest = _rest_of_key(first, axis)
            if k not in body.rows and rest is None and carried:
                return False
            rows = body.rows[k] if k in body.rows else self.rows_of(base, ops, axis)
            if rest is None:
                body.rows[k] = rows
            inputs, params = (rows,), {"key": rest}
        elif _has_numbers(first):
            inputs = tuple(
                x if isinstance(given, Value) else _number([s.inputs[j] for s in ops], first.output)
                for j, (x, given) in enumerate(zip(inputs, first.inputs, strict=True))
            )
            moved = any(isinstance(x, Numbers) for x in inputs)
        if not moved and not carried and all(isinstance(x, Value) for x in operands):
            body.fixed.add(k)
        body.inputs.append(inputs)
        body.params.append(params)
        return True

    def rows_of(self, base: Value, ops: list[Instruction], axis: int) -> Element:
        """The rows of an array along an axis that turns pick."""
        block = base
        if axis:
            order = (axis, *(a for a in range(len(base.shape)) if a != axis))
            block = self.new(tuple(base.shape[a] for a in order), base.dtype)
            self.later[block] = Instruction(transpose, (base,), {"axes": order}, block, self.line)
        whole = _rest_of_key(ops[0], axis) is None
        rows = []
        for s in ops:
            value = s.output if whole else self.new(block.shape[1:], base.dtype)
            self.row_of[value] = block, int(_parts_of_key(s)[axis]) % base.shape[axis]
            rows.append(value)
        return Element(tuple(rows))


def _operands(x: Any) -> Iterator[Any]:
    """The operands in nested tuples, lists and dicts."""
    if isinstance(x, Carry | Made | Element | Numbers | Value):
        yield x
    elif isinstance(x, dict):
        yield from _operands(tuple(x.values()))
    elif isinstance(x, tuple | list):
        for part in x:
            yield from _operands(part)


def _with_operands(s: Instruction, operands: list[Operand]) -> tuple[Any, dict[str, Any]]:
    """The inputs and the parameters of an op with operands for the values in them."""
    found = iter(operands)
    return _put(s.inputs, found), {name: _put(x, found) for name, x in s.params.items()}


def _put(x: Any, operands: Iterator[Operand]) -> Any:
    if isinstance(x, Value):
        return next(operands)
    if isinstance(x, tuple | list):
        return type(x)([_put(part, operands) for part in x])
    if isinstance(x, dict):
        return {name: _put(part, operands) for name, part in x.items()}
    return x


def _number(numbers: list[Any], like: Value) -> Any:
    """The number of all turns, or an element for each."""
    if len({(type(number), repr(number)) for number in numbers}) == 1:
        return numbers[0]
    return Numbers(tuple(map(float, numbers)), like.dtype)


# ------------------------------------------------------------------ the loop


class _Rolled:
    """A body as that of a `scan`, and what takes the place of its turns."""

    def __init__(self, program: _Rerolling, turn: _Turn) -> None:
        self.program, self.turn, self.turns = program, turn, turn.turns
        self.ops = [k for k in range(self.turns.length) if self._is_in_loop(k)]
        self.sums = self._product_sums()
        for product in self.sums:
            self.ops = [k for k in self.ops if k not in product.ops]
        self.multiplied = {x.k for s in self.sums for x in (s.a, s.b) if isinstance(x, Made)}
        """Ops whose results in all turns are multiplied after the loop."""
        self.carries: dict[Carry, int] = {}
        self.elements: dict[Element | Numbers, int] = {}
        self.constants: dict[Value, int] = {}
        for k in self.ops:
            self._collect((turn.inputs[k], turn.params[k]))
        carried = {carry.k for carry in self.carries if len(carry.firsts) == 1}
        self.stacked = [k for k in self.ops if k not in carried and self._kept(k)]
        self.reads_reversed = self._is_reversed()

    def _is_in_loop(self, k: int) -> bool:
        return k not in self.turn.fixed and k not in self.turn.rows

    def _kept(self, k: int) -> int:
        """The number of turns whose result of an op is read after the loop."""
        return self.turns.times if k in self.multiplied else sum(self._outside(k))

    def _product_sums(self) -> list[ProductSum]:
        uses = Counter(
            (type(x), x.k)
            for k in self.ops
            for x in _operands((self.turn.inputs[k], self.turn.params[k]))
            if isinstance(x, Carry | Made)
        )
        found = (self._product_sum(k, uses) for k in self.ops if self._op(k).op is e.add)
        return [product for product in found if product is not None]

    def _product_sum(self, k: int, uses: Counter[Any]) -> ProductSum | None:
        """The sum that op `k` makes, if nothing else reads a part of it or what it multiplies."""
        carry = next((x for x in self.turn.inputs[k] if isinstance(x, Carry) and x.k == k), None)
        term = next((x for x in self.turn.inputs[k] if isinstance(x, Made)), None)
        if carry is None or term is None or self._op(term.k).op is not matmul:
            return None
        left, b = self.turn.inputs[term.k]
        if not isinstance(left, Made) or self._op(left.k).op is not swapaxes:
            return None
        (a,) = self.turn.inputs[left.k]
        ops, once = (left.k, term.k, k), {(Carry, k), (Made, term.k), (Made, left.k)}
        if any(uses[use] != 1 for use in once) or uses[Made, k]:
            return None
        last_alone = [False] * (self.turns.times - 1) + [True]
        if self._outside(k) != last_alone or any(map(any, map(self._outside, ops[:2]))):
            return None
        values = [self._op(left.k).inputs[0], *self._op(term.k).inputs, *self._op(k).inputs]
        if not all(isinstance(x, Value) and len(x.shape) == 2 for x in values):
            return None
        rows, total = values[0], self._op(k).output
        if _nbytes(rows) * self.turns.times > max(MOST_WASTED, _nbytes(total) * self.turns.times):
            return None
        fits = isinstance(a, Made | Element) and isinstance(b, Made | Element)
        if not fits or self._op(term.k).output.shape != total.shape:
            return None
        return ProductSum(ops, carry.firsts[0], a, b)

    def _collect(self, x: Any) -> None:
        if isinstance(x, Carry):
            for level in range(1, len(x.firsts) + 1):
                carry = Carry(x.k, x.firsts[:level])
                self.carries.setdefault(carry, len(self.carries))
        elif isinstance(x, Element | Numbers):
            self.elements.setdefault(x, len(self.elements))
        elif isinstance(x, Value):
            self.constants.setdefault(x, len(self.constants))
        elif isinstance(x, dict):
            self._collect(tuple(x.values()))
        elif isinstance(x, tuple | list) and not isinstance(x, Made):
            for part in x:
                self._collect(part)

    def _op(self, k: int, turn: int = 0) -> Instruction:
        return self.program.ops[self.turns.start + turn * self.turns.length + k]

    def _outside(self, k: int) -> list[bool]:
        """By turn, whether anything after the loop reads the result of an op."""
        last, stop = self.program.last_read, self.turns.stop
        return [last.get(self._op(k, i).output, -1) >= stop for i in range(self.turns.times)]

    def _is_reversed(self) -> bool:
        """Whether most rows are read from the last to the first."""
        ahead = 0
        for element in self.elements:
            if isinstance(element, Element):
                runs = self.program.runs(element.values)
                ahead += sum(count if step > 0 else -count for _, count, step in runs if count > 1)
        return ahead < 0

    def is_built(self) -> bool:
        """Make the loop in C; False where there is no such loop, or where it does not pay."""
        if not self._pays():
            return False
        self.body = _known(Body(self._code()))
        made = BodyPlan(self.body.code)
        if made.is_in_place():
            for record in self.body.records.values():
                record.body_plan = made
            return True
        if self.body._loop is None:
            self.body._loop = CLoop(self.body.code)
        return self.body._loop.function is not None

    def _pays(self) -> bool:
        """Whether turns depend on one another or on rows, and few rows are kept for nothing.

        Turns that differ in constants alone are rows of a Jacobian, which are batched.
        """
        rows = (x.values for x in self.elements if isinstance(x, Element))
        known = self.program.inputs
        if not self.carries and all(_is_fixed(known.get(x)) for row in rows for x in row):
            return False
        wasted = used = 0
        for element in self.elements:
            used += 0 if isinstance(element, Numbers) else sum(map(_nbytes, element.values))
        for carry in self.carries:
            read = sum(self._outside(carry.k)) if len(carry.firsts) == 1 else 0
            used += read * _nbytes(carry.firsts[0])
            wasted += (self.turns.times - read) * _nbytes(carry.firsts[0])
        for k in self.stacked:
            read = self._kept(k)
            used += read * _nbytes(self._op(k).output)
            wasted += (self.turns.times - read) * _nbytes(self._op(k).output)
        return wasted <= max(MOST_WASTED, used)

    def _code(self) -> Code:
        kinds = [_kind(carry.firsts[0]) for carry in self.carries]
        for element in self.elements:
            if isinstance(element, Numbers):
                kinds.append(Kind((), element.dtype))
            else:
                kinds.append(_kind(element.values[0]))
        kinds += [_kind(value) for value in self.constants]
        self.slots = {k: len(kinds) + i for i, k in enumerate(self.ops)}
        kinds += [_kind(self._op(k).output) for k in self.ops]
        steps: list[BodyStep | BodyCheck] = []
        for k in self.ops:
            inputs, params = self._refs(self.turn.inputs[k]), self._refs(self.turn.params[k])
            steps.append(BodyStep(self._op(k).op, inputs, params, self.slots[k], False))
        results = []
        for carry in self.carries:
            before = Carry(carry.k, carry.firsts[:-1])
            results.append(self._refs(before if before.firsts else Made(carry.k)))
        results += [self._refs(Made(k)) for k in self.stacked]
        counts = Counts(
            len(self.carries), len(self.elements), len(self.constants), len(self.stacked), 0
        )
        return Code(counts, kinds, steps, tuple(results))

    def _refs(self, x: Any) -> Any:
        """The same with the numbers of values."""
        if isinstance(x, Made):
            return Ref(self.slots[x.k])
        if isinstance(x, Carry):
            return Ref(self.carries[x])
        if isinstance(x, Element | Numbers):
            return Ref(len(self.carries) + self.elements[x])
        if isinstance(x, Value):
            return Ref(len(self.carries) + len(self.elements) + self.constants[x])
        if isinstance(x, tuple | list):
            return type(x)([self._refs(part) for part in x])
        if isinstance(x, dict):
            return {name: self._refs(part) for name, part in x.items()}
        return x

    # -------------------------------------------------------------- in place of the turns

    def emit(self) -> None:
        """Compute what does not vary, then all turns; their results are rows."""
        program, n = self.program, self.turns.times
        for k in sorted(self.turn.fixed):
            program.op(self._op(k))
            program.same |= {self._op(k, i).output: self._op(k).output for i in range(1, n)}
        program.line = self._op(0).source_line
        arguments = [program.read(carry.firsts[-1]) for carry in self.carries]
        arguments += [self._rows(element) for element in self.elements]
        arguments += [program.read(value) for value in self.constants]
        params = {"n": n, "reverse": self.reads_reversed}
        flat: dict[Any, Value] = {}
        for dtype, record in self.body.records.items():
            flat[dtype] = program.new((self.body.size(dtype, n),), dtype)
            program.add(record, tuple(arguments), params, flat[dtype])
        for carry, i in self.carries.items():
            if len(carry.firsts) == 1:
                self._place(carry.k, self._block(i, flat), 0 if self.reads_reversed else 1)
        for i, k in enumerate(self.stacked, len(self.carries)):
            self._place(k, self._block(i, flat), 0)
        for product in self.sums:
            self._multiply(product)

    def _multiply(self, product: ProductSum) -> None:
        """Make a sum of products, as one product of all rows."""
        program, factors = self.program, []
        for x in (product.a, product.b):
            values = x.values if isinstance(x, Element) else self._results(x.k)
            block = program.stacked(values[:: -1 if self.reads_reversed else 1])
            n, rows, columns = block.shape
            out = program.new((n * rows, columns), block.dtype)
            factors.append(program.add(reshape, (block,), {"shape": out.shape}, out))
        a, b = factors
        turned = program.new(a.shape[::-1], a.dtype)
        program.add(swapaxes, (a,), {"axis1": -1, "axis2": -2}, turned)
        total = program.new((a.shape[1], b.shape[1]), a.dtype)
        program.add(matmul, (turned, b), {}, total)
        out = self._results(product.ops[-1])[-1]
        program.add(e.add, (program.read(product.first), total), {}, out)

    def _results(self, k: int) -> tuple[Value, ...]:
        """By turn, the result of an op."""
        return tuple(self._op(k, i).output for i in range(self.turns.times))

    def _rows(self, element: Element | Numbers) -> Value:
        step = -1 if self.reads_reversed else 1
        if isinstance(element, Numbers):
            return self.program.constant(np.array(element.values[::step], element.dtype))
        return self.program.stacked(element.values[::step])

    def _block(self, i: int, flat: dict[Any, Value]) -> Value:
        """The rows of a result, where anything reads them."""
        program, n, kind = self.program, self.turns.times, self.body.result_kinds[i]
        start, rows = self.body._end(i, kind.dtype, n), self.body.rows(i, n)
        assert rows is not None
        key = slice(start, start + self.body._extent(i, n))
        part = program.new((key.stop - start,), kind.dtype)
        block = program.new((rows, *kind.shape), kind.dtype)
        line = program.line
        program.later[part] = Instruction(getitem, (flat[kind.dtype],), {"key": key}, part, line)
        program.later[block] = Instruction(reshape, (part,), {"shape": block.shape}, block, line)
        return block

    def _place(self, k: int, block: Value, first: int) -> None:
        """Say in which row the result of each turn is."""
        n = self.turns.times
        for i in range(n):
            row = first + (n - 1 - i if self.reads_reversed else i)
            self.program.row_of[self._op(k, i).output] = block, row


def _kind(value: Value) -> Kind:
    return Kind(value.shape, value.dtype)


def _nbytes(value: Value) -> int:
    return value.size * value.dtype.itemsize


__all__ = ["rerolled"]
