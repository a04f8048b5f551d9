"""The IR: a trace as a straight-line list of instructions on values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy import ndarray

from tinygrad_kr.native import deadline
from tinygrad_kr.ops.node import Node


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """An array of the program: its number, shape, dtype and strides in bytes."""

    number: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    strides: tuple[int, ...]

    def __repr__(self) -> str:
        return f"v{self.number}: {self.dtype}{self.shape}"

    @property
    def size(self) -> int:
        """Number of elements."""
        size = 1
        for n in self.shape:
            size *= n
        return size


class Instruction(NamedTuple):
    """One op: its inputs (values, and numbers unchanged), its output, and the user's line."""

    op: Any
    inputs: tuple[Any, ...]
    params: dict[str, Any]
    output: Value
    source_line: str

    def reads(self) -> Iterator[Value]:
        """The values among its inputs and parameters."""
        yield from values_in(self.inputs)
        yield from values_in(tuple(self.params.values()))

    def renamed(self, by: Mapping[Value, Value]) -> Instruction:
        """The same with values replaced as `by` says."""
        return self._replace(
            inputs=replaced(self.inputs, by),
            params=replaced(self.params, by),
            output=by.get(self.output, self.output),
        )


class Check(NamedTuple):
    """A function that raises for invalid values, such as labels outside of the classes."""

    function: Any
    value: Value
    rest: tuple[Any, ...]
    after: int
    """The number of instructions before it."""


class Input(Protocol):
    """Where a program finds an array that it starts from."""

    def fetch(self) -> ndarray:
        """The array as it is now."""
        ...

    def same(self, other: Any) -> bool:
        """Whether another run of the function started from the same."""
        ...


class Output(Protocol):
    """What outlives a call: a parameter's new elements, a gradient."""

    value: Value | None

    def apply(self, array: Any) -> None:
        """Write it."""
        ...

    def same(self, other: Any) -> bool:
        """Whether another run of the function wrote the same thing."""
        ...

    def replaces(self, source: Any) -> bool:
        """Whether it overwrites what the input `source` reads."""
        ...


@dataclass(slots=True)
class Program:
    """Everything that one run of a function did: an instruction for each op, in order.

    inputs: where the arrays come from that it starts with. outputs: what it leaves behind.
    results: what it returns, values or, of what is no array, the thing itself.
    """

    inputs: dict[Value, Input] = field(default_factory=dict)
    instructions: list[Instruction] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    """Values, or, of what is no array, the thing itself."""

    def kept(self) -> set[Value]:
        """The values that outlive a run."""
        made = {binding.value for binding in self.outputs if binding.value is not None}
        return made | {result for result in self.results if isinstance(result, Value)}

    def free_numbers(self) -> Iterator[int]:
        """Unused value numbers."""
        taken = [v.number for v in self.inputs] + [s.output.number for s in self.instructions]
        return count(max(taken, default=-1) + 1)

    def rewritten(
        self,
        rewrite: Callable[[Instruction], Iterable[Instruction]],
        renamed: Mapping[Value, Value] = MappingProxyType({}),
    ) -> Program:
        """The program with each instruction replaced by those that `rewrite` returns for it.

        renamed: values to replace in later instructions and in checks; `rewrite` may add to it.
        """
        instructions: list[Instruction] = []
        positions = [0]
        for instruction in self.instructions:
            deadline.check()
            instructions += rewrite(instruction.renamed(renamed) if renamed else instruction)
            positions.append(len(instructions))
        checks = [
            check._replace(
                after=positions[check.after], value=renamed.get(check.value, check.value)
            )
            for check in self.checks
        ]
        return replace(self, instructions=instructions, checks=checks)


def values_in(items: Sequence[Any]) -> Iterator[Value]:
    """The values in nested tuples, lists and dicts."""
    for item in items:
        if isinstance(item, Value):
            yield item
        elif isinstance(item, tuple | list):
            yield from values_in(item)
        elif isinstance(item, dict):
            yield from values_in(tuple(item.values()))


def replaced(item: Any, by: Mapping[Value, Any]) -> Any:
    """`item` with the values nested in it replaced as `by` says."""
    if isinstance(item, Value):
        return by.get(item, item)
    if isinstance(item, tuple):
        return tuple(replaced(part, by) for part in item)
    if isinstance(item, list):
        return [replaced(part, by) for part in item]
    if isinstance(item, dict):
        return {key: replaced(part, by) for key, part in item.items()}
    return item


def difference(a: Program, b: Program) -> str | None:
    """The first difference between two traces in words; None if they are equal."""
    match: dict[Value, Value] = {}
    if len(a.inputs) != len(b.inputs):
        return "it read different Tensors"
    for (v, source), (w, other) in zip(a.inputs.items(), b.inputs.items(), strict=True):
        if (v.shape, v.dtype) != (w.shape, w.dtype) or not source.same(other):
            return f"{source} is not what it was"
        match[v] = w
    for s, t in zip(a.instructions, b.instructions, strict=False):
        alike = s.op is t.op and _alike(s.inputs, t.inputs, match)
        if not alike or not _alike(s.params, t.params, match):
            return f"{s.op.__name__} at {s.source_line} was not given the same"
        if (s.output.shape, s.output.dtype) != (t.output.shape, t.output.dtype):
            return f"{s.op.__name__} at {s.source_line} gave another shape or dtype"
        match[s.output] = t.output
    if len(a.instructions) != len(b.instructions):
        return f"it ran {len(a.instructions)} ops, then {len(b.instructions)}"
    if len(a.checks) != len(b.checks) or len(a.outputs) != len(b.outputs):
        return "it did not change the same things"
    for binding, other_binding in zip(a.outputs, b.outputs, strict=True):
        if not binding.same(other_binding) or not _alike(binding.value, other_binding.value, match):
            return f"{binding} was not left the same"
    if not _alike(a.results, b.results, match):
        return "it returned something else"
    return None


def _alike(a: Any, b: Any, match: dict[Value, Value]) -> bool:
    if isinstance(a, Value):
        return match.get(a) is b
    if type(a) is not type(b):
        return False
    if isinstance(a, Node):
        return a is b
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(_alike(x, y, match) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_alike(a[key], b[key], match) for key in a)
    if isinstance(a, ndarray):
        return a is b or (a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    if isinstance(a, float):
        return a == b or (a != a and b != b)
    return a is b or bool(a == b)


def is_basic_key(key: Any) -> bool:
    """Whether an index has only ints, slices, None and `...`, so that it gives a view."""
    return all(
        part is None
        or part is ...
        or isinstance(part, slice)
        or (isinstance(part, int | np.integer) and not isinstance(part, bool))
        for part in (key if isinstance(key, tuple) else (key,))
    )


Readers = dict[Value, list[Instruction]]


def readers_of(program: Program) -> Readers:
    """The ops that read each value."""
    readers: Readers = {}
    for instruction in program.instructions:
        for value in dict.fromkeys(instruction.reads()):
            readers.setdefault(value, []).append(instruction)
    return readers
