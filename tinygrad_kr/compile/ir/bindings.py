"""Where a program's arrays come from at each call, and what a call leaves behind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.ir.program import Value
from tinygrad_kr.ops.node import constant
from tinygrad_kr.ops.writes import note_writes, owner


class StaleError(RuntimeError):
    """What a program starts from is no longer what it was recorded with: record again."""


@dataclass(slots=True)
class Argument:
    """An array among the arguments, counted in the flattened ones."""

    index: int

    def fetch(self) -> ndarray:
        """It is passed in with each call."""
        raise LookupError("an argument comes with the call")

    def same(self, other: Any) -> bool:
        """Whether both are the same argument."""
        return isinstance(other, Argument) and other.index == self.index


@dataclass(slots=True)
class Constant:
    """An array that the function made from nothing that changes, or that it found.

    origin: the array as the function had it, where `array` is a copy of what was in it at first.
    """

    array: ndarray
    fixed: bool = False
    """Whether the function makes it anew at each call, so that its elements will never change."""
    origin: ndarray | None = None

    @property
    def found(self) -> ndarray:
        """The array whose memory tells whether the function made it."""
        return self.array if self.origin is None else self.origin

    def fetch(self) -> ndarray:
        """The array itself; where the function found it, what it holds now."""
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
    """The elements of a Tensor that outlives the call: a parameter, a buffer."""

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
    """The `.grad` that a leaf had before the call."""

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
    """A Tensor's elements are replaced."""

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
        note_writes([self.node], "a compiled step")

    def same(self, other: Any) -> bool:
        """Whether both write to the same Tensor."""
        return isinstance(other, LeafWrite) and other.node is self.node


@dataclass(slots=True)
class GradientWrite:
    """A leaf gets another `.grad`, or none."""

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


def tell_fixed(before: Iterable[Any], now: Iterable[Any]) -> str | None:
    """Note which constants a function makes itself: those that two runs had in different memory.
    (A count of references would tell less, and another thing in each version of Python.)

    before, now: the sources of two runs. Returns why the function cannot be compiled, if it
    overwrites what it found.
    """
    for old, source in zip(before, now, strict=False):
        if not isinstance(old, Constant) or not isinstance(source, Constant):
            continue
        memory = owner(source.found)
        source.fixed = memory is not owner(old.found) and memory.base is None
        if source.fixed:
            source.array = source.array.copy()  # who was given the array may write to it
        elif source.origin is not None:
            return "it writes to a new Tensor of an array that it found"
    return None
