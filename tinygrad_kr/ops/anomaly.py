"""Anomaly mode: raises at a new NaN, and locks the arrays that backward will read."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.node import (
    ANOMALY,
    CAPTURE,
    Node,
    current_mode,
    own_notes,
    source_line_of,
    user_frame,
)
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.ops.writes import _bases, owner


class AnomalyError(FloatingPointError):
    """A NaN appeared while `detect_anomaly()` was on; a FloatingPointError.

    >>> with tk.detect_anomaly(), np.errstate(invalid="ignore"):
    ...     tk.log(tk.tensor([-1.0], requires_grad=True))
    Traceback (most recent call last):
    ...
    tinygrad_kr.ops.anomaly.AnomalyError: log: expected no new NaN, got one from float32(1,) at ...
    """


def inspect(node: Node, mode: int) -> None:
    """Note the name scopes of a new node, report it to a tracer, and check it in anomaly mode.

    That finds the user's line, refuses a NaN, and locks its arrays.
    """
    if names := getattr(current_mode(), "names", ()):
        own_notes(node).scope = names
    if mode == CAPTURE:
        tracer = tracing()
        if tracer is not None:
            tracer.note(node._op, node._inputs or (), node._params, node)
        return
    if current_mode() != ANOMALY:
        return
    frame = user_frame()
    if frame is not None:
        node._code, node._instruction = frame.f_code, frame.f_lasti
    arrays = [x._data if isinstance(x, Node) else x for x in node._inputs or ()]
    if has_nan(node._data) and not any(has_nan(array) for array in arrays):
        raise AnomalyError(
            f"{node._op.__name__}: expected no new NaN, got one from "
            f"{shapes_of(node._inputs or ())} at {source_line_of(node)}."
        )
    node._inputs = LockedInputs(node._inputs or (), (*arrays, node._data))


def has_nan(array: Any) -> bool:
    """Whether a float array (or number) holds a NaN."""
    array = np.asarray(array)
    return array.dtype.kind == "f" and bool(np.isnan(array).any())


def shapes_of(inputs: Iterable[Any]) -> str:
    """The shapes and dtypes of an op's inputs, for messages."""
    return ", ".join(
        f"{x.dtype}{tuple(x.shape)}" if hasattr(x, "shape") else f"{type(x).__name__} {x!r:.40}"
        for x in inputs
    )


class _Holder:
    """Kept by a recorded node for as long as its arrays must not change."""

    __slots__ = ("__weakref__",)


class _Family:
    """Arrays that share memory, and the recorded nodes that will read them."""

    def __init__(self, memory: ndarray) -> None:
        self.memory = memory
        self.arrays: list[ndarray] = []
        self.holders: dict[int, weakref.ref[_Holder]] = {}

    def is_held(self) -> bool:
        """Whether a node that reads the arrays is alive."""
        return any(reference() is not None for reference in self.holders.copy().values())

    def unlock(self) -> None:
        """Make the arrays writeable, the owner of the memory first: a view follows its base."""
        for array in sorted(self.arrays, key=lambda array: len(list(_bases(array)))):
            array.flags.writeable = True


_families: dict[int, _Family] = {}


def are_arrays_locked() -> bool:
    """Whether a recorded node keeps arrays read-only.

    Arrays that no live node reads are unlocked first: an interrupt may have left them locked.
    """
    for key, family in _families.copy().items():
        if not family.is_held():
            family.unlock()
            _families.pop(key, None)
    return bool(_families)


class LockedInputs(tuple[Any, ...]):
    """The inputs of a node, whose arrays stay read-only for as long as this tuple lives."""

    keys: set[int] | frozenset[int] = frozenset()
    holder: _Holder | None = None

    def __new__(cls, inputs: Iterable[Any], arrays: Iterable[Any]) -> LockedInputs:
        self = super().__new__(cls, inputs)
        self.holder, self.keys = _Holder(), set()
        for array in arrays:
            if isinstance(array, ndarray):
                _lock(array, self.holder, self.keys)
        return self

    def __del__(self) -> None:
        for key in self.keys:
            family = _families.get(key)
            if family is not None:
                family.holders.pop(id(self.holder), None)
                if not family.holders:
                    family.unlock()
                    _families.pop(key, None)


def _lock(array: ndarray, holder: _Holder, keys: set[int]) -> None:
    memory = owner(array)
    keys.add(id(memory))
    family = _families.setdefault(id(memory), _Family(memory))
    family.holders[id(holder)] = weakref.ref(holder)
    for view in _bases(array):
        if view.flags.writeable:
            family.arrays.append(view)
            view.flags.writeable = False
