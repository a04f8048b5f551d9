"""`compile`: the function that records, checks that the record still holds, and replays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any, Protocol

import numpy as np
from numpy import ndarray

from tinygrad_kr import tree
from tinygrad_kr.compile.build import find_compiler
from tinygrad_kr.compile.capture import Recorder
from tinygrad_kr.compile.expand import expanded
from tinygrad_kr.compile.native import Native
from tinygrad_kr.compile.numpy_code import compiled_by_numpy
from tinygrad_kr.compile.optimizing import RecordedStep
from tinygrad_kr.compile.passes import simplified
from tinygrad_kr.compile.program import Program, Value, difference
from tinygrad_kr.compile.sources import Argument, LeafWrite, StaleError
from tinygrad_kr.ops.node import ANOMALY, Node, constant, grad_mode, recorder

TRIES = 4
"""How often a function may be recorded without two runs in a row doing the same."""


class Runner(Protocol):
    """A program ready to run."""

    program: Program
    source: str
    run: Callable[[Sequence[Any]], Any]
    """What the function would return for these flattened arguments; StaleError, with nothing done,
    if it must be recorded anew."""


class NativeRunner:
    """A program in C and NumPy calls."""

    def __init__(self, recording: Recorder, program: Program) -> None:
        self.program = program
        self.native = Native(recording, program)
        self.source = f"{self.native.c_source}\n{self.native.source}"
        self.run = self.native.run


class NumPyRunner:
    """A program in NumPy calls alone."""

    def __init__(self, recording: Recorder, program: Program) -> None:
        self.program = program
        self.rebuild = recording.rebuild
        self.steps: list[RecordedStep] = recording.steps
        self.plain = recording.plain
        self.sources = list(program.sources.items())
        self.kept = sorted(program.kept(), key=lambda value: value.number)
        self._run, self.source = compiled_by_numpy(program)

    def run(self, leaves: Sequence[Any]) -> Any:
        """One call."""
        for step in self.steps:
            step.prepare()
        made = dict(zip(self.kept, self._run(self._arrays(leaves)), strict=True))
        new = {value: self._own(array) for value, array in made.items()}
        for effect in self.program.effects:
            effect.apply(None if effect.value is None else new[effect.value])
            if isinstance(effect, LeafWrite):
                effect.announce()
        return self.rebuild([self._result(result, made) for result in self.program.results])

    def _arrays(self, leaves: Sequence[Any]) -> list[ndarray]:
        arrays = []
        for value, source in self.sources:
            if isinstance(source, Argument):
                leaf = leaves[source.index]
                array = leaf._data if isinstance(leaf, Node) else leaf
            else:
                array = source.fetch()
            if array.shape != value.shape or array.dtype != value.dtype:
                raise StaleError
            arrays.append(array)
        return arrays

    @staticmethod
    def _own(array: Any) -> ndarray:
        owned: ndarray = np.asarray(array)
        return owned if owned.flags.owndata else owned.copy()

    def _result(self, result: Any, made: dict[Value, Any]) -> Any:
        if not isinstance(result, Value):
            return result
        array = np.array(made[result])
        if result in self.plain:
            return array if array.ndim else array[()]
        return constant(array)


def runner_of(recording: Recorder) -> Runner:
    """The best way there is on this computer to run what was recorded."""
    program = simplified(expanded(simplified(recording.program)))
    if find_compiler() is None:
        return NumPyRunner(recording, program)
    return NativeRunner(recording, program)


class Entry:
    """What is known of one kind of call (shapes, dtypes, modes)."""

    __slots__ = ("reason", "recording", "runner", "tries")

    def __init__(self) -> None:
        self.recording: Recorder | None = None
        self.runner: Runner | None = None
        self.reason: str | None = None
        self.tries = 0

    def record(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run the function and compare what it did with what it did the last time."""
        recording = Recorder()
        result = recording.run(function, args, kwargs)
        before, self.recording = self.recording, recording
        self.runner = None
        self.tries += 1
        if recording.reason is not None:
            self.reason = recording.reason
        elif before is not None:
            parted = difference(before.program, recording.program)
            if parted is None:
                self.runner = runner_of(recording)
                self.tries = 0
            elif self.tries > TRIES:
                self.reason = f"two runs in a row did not do the same: {parted}"
        return result


class Compiled:
    """A function that is recorded when it is first called and replayed from then on."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._entries: dict[Any, Entry] = {}
        update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        mode = grad_mode.get()
        if mode == ANOMALY or recorder() is not None:
            return self.function(*args, **kwargs)
        leaves, _ = tree.flatten((args, kwargs))
        if mode and any(isinstance(leaf, Node) and leaf._requires_grad for leaf in leaves):
            return self.function(*args, **kwargs)
        key = (mode, len(args), *kwargs, *map(_kind, leaves))
        entry = self._entries.setdefault(key, Entry())
        if entry.reason is not None:
            return self.function(*args, **kwargs)
        if entry.runner is not None:
            try:
                return entry.runner.run(leaves)
            except StaleError:
                entry.runner = None
        return entry.record(self.function, args, kwargs)

    @property
    def programs(self) -> list[Program]:
        """What was recorded, one program for each kind of call."""
        return [entry.runner.program for entry in self._entries.values() if entry.runner]

    def explain(self) -> str:
        """Why calls are run as they are written, where they are."""
        reasons = [entry.reason for entry in self._entries.values() if entry.reason]
        return "\n".join(reasons) if reasons else "every call is compiled"


def _kind(leaf: Any) -> Any:
    if isinstance(leaf, Node):
        return Node, leaf._data.shape, leaf._data.dtype
    if isinstance(leaf, ndarray):
        return ndarray, leaf.shape, leaf.dtype
    return type(leaf), leaf


def compile(function: Callable[..., Any]) -> Compiled:
    """`function`, recorded once and replayed."""
    return Compiled(function)
