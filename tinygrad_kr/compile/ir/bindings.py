"""Bindings: the inputs of a program at each call, and its outputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.ir.program import Value
from tinygrad_kr.ops.node import constant
from tinygrad_kr.ops.writes import bump_versions, owner


class StaleError(RuntimeError):
    """The inputs no longer fit the program: trace again."""


@dataclass(slots=True)
class Argument:
    """Input: an array among the flattened arguments."""

    index: int

    def fetch(self) -> ndarray:
        """It is passed in with each call."""
        raise LookupError("an argument comes with the call")

    def same(self, other: Any) -> bool:
        """Whether both are the same argument."""
        return isinstance(other, Argument) and other.index == self.index


@dataclass(slots=True)
class Constant:
    """Input: an array that the function creates itself or captures.

    origin: the function's own array, where `array` is a copy of its first elements.
    """

    array: ndarray
    fixed: bool = False
    """Whether the function creates it at each call, so that its elements never change."""
    origin: ndarray | None = None

    @property
    def found(self) -> ndarray:
        """The array whose memory tells whether the function made it."""
        return self.array if self.origin is None else self.origin

    def fetch(self) -> ndarray:
        """The array; a captured one as it is now."""
        return self.array

    def same(self, other: Any) -> bool:
        """Whether both hold the same elements."""
        if not isinstance(other, Constant):
            return False
        a, b = self.array, other.array
        if a is b:
            return True
        return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


@dataclass(slots=True)
class Leaf:
    """Input: the elements of a captured Tensor, such as a parameter or a buffer."""

    node: Any

    def fetch(self) -> ndarray:
        """Its array as it is now."""
        array: ndarray = self.node._data
        return array

    def same(self, other: Any) -> bool:
        """Whether both are the same Tensor."""
        return isinstance(other, Leaf) and other.node is self.node


@dataclass(slots=True)
class Gradient:
    """Input: the `.grad` that a leaf has before the call."""

    leaf: Any

    def fetch(self) -> ndarray:
        """Its array; StaleError if there is none."""
        if self.leaf._grad is None:
            raise StaleError
        array: ndarray = self.leaf._grad._data
        return array

    def same(self, other: Any) -> bool:
        """Whether both are of the same leaf."""
        return isinstance(other, Gradient) and other.leaf is self.leaf


@dataclass(slots=True)
class LeafWrite:
    """Output: new elements of a Tensor."""

    node: Any
    value: Value | None

    def apply(self, array: Any) -> None:
        """Write into its own array; ValueError if that is read-only."""
        self.node._data[...] = array

    def replaces(self, source: Any) -> bool:
        """Whether it writes to where `source` reads."""
        return isinstance(source, Leaf) and source.node is self.node

    def announce(self) -> None:
        """Let `backward()` of older graphs take notice."""
        bump_versions([self.node], "a compiled step")

    def same(self, other: Any) -> bool:
        """Whether both write to the same Tensor."""
        return isinstance(other, LeafWrite) and other.node is self.node


@dataclass(slots=True)
class GradientWrite:
    """Output: a new `.grad` of a leaf, or none."""

    leaf: Any
    value: Value | None

    def apply(self, array: Any) -> None:
        """A new Tensor of the array, which is the leaf's own; None for no gradient."""
        self.leaf._grad = None if array is None else constant(np.asarray(array))

    def replaces(self, source: Any) -> bool:
        """Never: a gradient has memory of its own."""
        return False

    def same(self, other: Any) -> bool:
        """Whether both are of the same leaf."""
        return isinstance(other, GradientWrite) and other.leaf is self.leaf


# ------------------------------------------------------------------ optimizers


@dataclass(slots=True, eq=False)
class Cohort:
    """Parameters that a rule updates alike, and the numbers (of steps) that their states share."""

    group: dict[str, Any]
    structure: Any
    slots: list[Any]
    arrays: tuple[str, ...]
    numbers: dict[str, ndarray] = field(default_factory=dict)
    kinds: dict[str, type] = field(default_factory=dict)

    def load(self) -> None:
        """Read the numbers from the states; StaleError if these are not what they were."""
        for slot in self.slots:
            if tuple(slot.arrays) != self.arrays or slot.numbers.keys() != self.numbers.keys():
                raise StaleError
        for name, number in self.numbers.items():
            value = self.slots[0].numbers[name]
            if any(slot.numbers[name] != value for slot in self.slots):
                raise StaleError
            number[()] = value

    def settle(self) -> None:
        """Write the numbers back."""
        numbers = {name: self.kinds[name](number) for name, number in self.numbers.items()}
        for slot in self.slots:
            slot.keep(slot.arrays, dict(numbers))


@dataclass(slots=True)
class Option:
    """Input: an option of a parameter group, or one of a pair."""

    cohort: Cohort
    name: str
    index: int | None

    def fetch(self) -> ndarray:
        """The number as it is now."""
        value = self.cohort.group[self.name]
        return np.asarray(value if self.index is None else value[self.index], np.float64)

    def same(self, other: Any) -> bool:
        """Whether both are the same option of the same group."""
        return (
            isinstance(other, Option)
            and other.cohort.group is self.cohort.group
            and (other.name, other.index) == (self.name, self.index)
        )


@dataclass(slots=True)
class StateNumber:
    """Input or output: a number in the optimizer's state, such as the count of steps."""

    cohort: Cohort
    name: str
    value: Value | None = None

    @property
    def key(self) -> Any:
        """Which state it is."""
        return self.cohort.slots[0], self.name

    def fetch(self) -> ndarray:
        """The number as it is now."""
        return self.cohort.numbers[self.name]

    def apply(self, array: Any) -> None:
        """Keep the new number."""
        self.cohort.numbers[self.name][()] = array

    def replaces(self, source: Any) -> bool:
        """Whether `source` reads this number."""
        return (
            isinstance(source, StateNumber)
            and source.cohort is self.cohort
            and source.name == self.name
        )

    def same(self, other: Any) -> bool:
        """Whether both are the same number of the same parameters."""
        return (
            isinstance(other, StateNumber)
            and other.name == self.name
            and other.cohort.slots == self.cohort.slots
        )


@dataclass(slots=True)
class StateArray:
    """Input or output: an array in the optimizer's state, in its parameter's shape."""

    slot: Any
    name: str
    value: Value | None = None

    @property
    def key(self) -> Any:
        """Which state it is."""
        return self.slot, self.name

    def fetch(self) -> ndarray:
        """The array as it is now."""
        array: ndarray = self.slot.arrays[self.name].reshape(self.slot.shape)
        return array

    def apply(self, array: Any) -> None:
        """Overwrite it."""
        self.slot.arrays[self.name].reshape(self.slot.shape)[...] = array

    def replaces(self, source: Any) -> bool:
        """Whether `source` reads this array."""
        return (
            isinstance(source, StateArray) and source.slot is self.slot and source.name == self.name
        )

    def same(self, other: Any) -> bool:
        """Whether both are of the same parameter's state."""
        return (
            isinstance(other, StateArray)
            and other.slot is self.slot
            and other.name == self.name
            and (other.value is None) == (self.value is None)
        )


# ------------------------------------------------------------------ constants


def tell_fixed(before: Iterable[Any], now: Iterable[Any]) -> str | None:
    """Note which constants a function makes itself: those that two runs had in different memory.
    (Counts of references would say less, and differ between versions of Python.)

    before, now: the inputs of two runs. Returns why the function cannot be compiled, if it
    overwrites what it found.
    """
    for old, source in zip(before, now, strict=False):
        if not isinstance(old, Constant) or not isinstance(source, Constant):
            continue
        memory = owner(source.found)
        source.fixed = memory is not owner(old.found) and memory.base is None
        if source.fixed:
            source.array = source.array.copy()  # a caller that holds the array may write to it
        elif source.origin is not None:
            return "it writes to a new Tensor of an array that it found"
    return None
