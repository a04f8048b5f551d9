"""`compile`: the function that records, checks that the record still holds, and replays."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import update_wrapper
from inspect import iscoroutinefunction, isgeneratorfunction
from threading import RLock
from time import perf_counter
from types import MethodType
from typing import Any, Protocol

import numpy as np
from numpy import ndarray

from tinygrad_kr import tree
from tinygrad_kr.compile.codegen.program import CProgram, c_program
from tinygrad_kr.compile.ir.bindings import StaleError, tell_fixed
from tinygrad_kr.compile.ir.calling import are_found
from tinygrad_kr.compile.ir.program import Program, difference
from tinygrad_kr.compile.loop import array_of, repeat, scan
from tinygrad_kr.compile.passes.pipeline import lowered
from tinygrad_kr.compile.plan.plan import Plan
from tinygrad_kr.compile.run.c_runner import Native, NotInPlaceError
from tinygrad_kr.compile.run.numpy_runner import NumPyRunner
from tinygrad_kr.compile.trace.condition import Condition
from tinygrad_kr.compile.trace.guards import Guards
from tinygrad_kr.compile.trace.tracer import Recorder
from tinygrad_kr.native.build import find_compiler
from tinygrad_kr.native.compiler import NoCompilerError
from tinygrad_kr.ops.node import (
    ANOMALY,
    Node,
    current_mode,
    grad_mode,
    recorder,
    recorders,
    user_frame,
)

TRIES = 4
"""How often a function may be recorded without two runs in a row doing the same."""
ENTRIES = 8
"""Ways of going that are kept for one kind of call."""
MANY, MANY_KINDS = 16, 64
"""New ways or kinds that are too many where few calls were replayed."""


class Runner(Protocol):
    """A program ready to run."""

    program: Program
    looped: Any
    """The whole step in a loop of C, where there can be one."""

    @property
    def source(self) -> str:
        """The generated program."""
        ...

    def run_if(self, condition: Condition, missed: Any, /) -> Callable[..., Any]:
        """A function of the flattened arguments that does what the recorded one would; `missed`,
        with nothing done, where a condition does not hold.

        It raises StaleError, with nothing done, where the function must be recorded anew. Where
        there is a `looped`, its second parameter is what runs in place of the C function.
        """
        ...

    def summary(self) -> str:
        """What was made of what was recorded, in one line."""
        ...


class NativeRunner:
    """A program in C and NumPy calls."""

    def __init__(self, recording: Recorder, program: Program, plan: Plan, code: CProgram) -> None:
        self.program, self.code = program, code
        self.native = Native(recording, plan, code)
        self.looped = self.native.looped
        self.run_if = self.native.run_if

    @property
    def source(self) -> str:
        """The C, with the user's names and lines, and the Python that calls it."""
        return f"{self.code.shown()}\n{self.native.source}"

    def summary(self) -> str:
        """What was made of what was recorded, in one line."""
        native = self.native
        plural = "s" * (len(native.parts) != 1)
        return (
            f"{len(native.parts)} C function{plural} of {native.loops} loops, "
            f"{native.calls} NumPy calls "
            f"({native.products} matrix products), {native.workspace:,} bytes of workspace"
        )


def runner_of(recording: Recorder) -> Runner:
    """The best way there is on this computer to run what was recorded."""
    if find_compiler() is None or not are_found():
        return NumPyRunner(recording)
    program = lowered(recording.program)
    plan = Plan(program, recording.single)
    return NativeRunner(recording, program, plan, c_program(plan, recording))


class Entry:
    """One way in which calls of one kind go: what the function reads is as it was."""

    __slots__ = (
        *("_condition", "_replay", "alike", "count", "guards", "mode", "reason", "recorded"),
        *("recording", "runner", "seconds", "stale", "tries"),
    )

    def __init__(self, kind: Kind, roots: Sequence[Any]) -> None:
        self.mode, self.alike, self.count = kind.mode, kind.alike, kind.count
        self.guards = Guards(roots)
        self.recording: Recorder | None = None
        self.runner: Runner | None = None
        self.reason: str | None = None
        self.tries = self.recorded = self.stale = 0
        self.seconds = 0.0
        self._condition: Condition | None = None
        self._replay: Callable[..., Any] = _missed

    @property
    def replay(self) -> Callable[..., Any]:
        """What the program does for flattened arguments; MISSED, with nothing done, where they
        are of another kind or a guard does not hold. Raises StaleError, with nothing done, where
        the function must be recorded anew."""
        runner, guarded = self.runner, self.guards.condition
        if runner is None:
            return _missed
        if self._condition is not guarded:
            names = {"mode_set": grad_mode.get, "mode_now": current_mode, "mode": self.mode}
            names |= {"count": self.count} | self.alike.names | guarded.names
            in_mode = "(mode_set() is mode or mode_now() == mode)"
            text = f"{in_mode} and {self.alike.text} and {guarded.text}"
            self._replay = runner.run_if(Condition(text, names, "count.replays += 1"), MISSED)
            self._condition = guarded
        return self._replay

    def outdated(self) -> None:
        """The program no longer fits its inputs. It is recorded again, or given up if that happens
        at nearly every call."""
        self.runner = None
        self.count.replays -= 1  # it was not one
        self.stale += 1
        if self.stale > MANY and self.count.replays < 2 * self.stale:
            self.reason = (
                "the shape, dtype or memory layout of what it reads or overwrites changes at "
                "nearly every call"
            )

    def record(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run the function and compare what it did with what it did the last time.

        Nothing learned takes effect until all of it is known: after an interrupt the entry has no
        runner, and the next call records again.
        """
        if self.recording is not None and find_compiler() is None:
            warn_of_no_compiler()
        self.runner = None
        recording = Recorder()
        result = recording.run(function, args, kwargs)
        before, tries, runner = self.recording, self.tries + 1, None
        reason = recording.reason or self.guards.changed_by_the_run(recording.drawn_from)
        if before is not None:
            sources = before.program.sources.values(), recording.program.sources.values()
            reason = reason or tell_fixed(*sources)
        self.guards.learn(recording)
        if reason is None and before is not None:
            parted = difference(before.program, recording.program)
            if parted is None:
                start = perf_counter()
                runner = runner_of(recording)
                self.recorded = len(recording.program.statements)
                self.seconds = perf_counter() - start
                tries = 0
            elif tries > TRIES:
                reason = f"two runs in a row did not do the same: {parted}"
        self.recording = None if reason is not None else recording
        self.tries, self.reason, self._condition = tries, reason, None
        self.runner = runner
        return result


class Count:
    """How many calls were replayed: apart from `Kind`, so that programs do not refer to theirs."""

    __slots__ = ("replays",)

    def __init__(self) -> None:
        self.replays = 0


class Kind:
    """Calls whose arguments are alike: the newest way first in which they went."""

    __slots__ = ("alike", "born", "count", "entries", "mode", "objects", "reason")

    def __init__(self, mode: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.mode = mode
        self.alike = BY_KEY if kwargs else _alike(args)
        leaves, _ = tree.flatten((args, kwargs))
        self.objects = [leaf for leaf in leaves if not isinstance(leaf, Node | ndarray)]
        self.entries: list[Entry] = []
        self.reason: str | None = None
        self.born = 0
        self.count = Count()

    @property
    def replays(self) -> int:
        """How many calls were replayed."""
        return self.count.replays

    def entry(self, function: Callable[..., Any]) -> Entry:
        """The entry whose guards hold, if need be a new one."""
        entries = self.entries
        for i, entry in enumerate(entries):
            if entry.guards.hold():
                if i:
                    self.entries = [entry, *entries[:i], *entries[i + 1 :]]
                return entry
        entry = Entry(self, [function, *self.objects])
        self.born += 1
        if self.born > MANY and self.replays < 2 * self.born:
            what = entry.guards.difference(entries[0].guards)
            self.reason = f"what it reads is another thing at nearly each call: {what}"
        self.entries = [entry, *entries[: ENTRIES - 1]]
        return entry


class Compiled:
    """A function that is recorded when it is first called and replayed from then on.

    Each kind of call (shapes, dtypes, other arguments by value, grad mode) is recorded by itself,
    twice; so is what the function reads besides (see `guards`).
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._kinds: dict[Any, Kind] = {}
        self._born = 0
        self._eager: dict[str, None] = {}
        self._lock = RLock()
        self._latest: Entry | None = None
        self._replay: Callable[..., Any] = _missed
        """That of the latest entry, where it tells calls of another kind."""
        update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not (kwargs or recorders):
            with self._lock:
                try:
                    result = self._replay(args)
                except StaleError:
                    result = MISSED
            if result is not MISSED:
                return result
        return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call that is not like the latest one: by another entry, recorded, or as written."""
        if recorder() is not None:
            return self.function(*args, **kwargs)
        with self._lock:
            entry, leaves = self._entry(args, kwargs)
            if entry is not None and entry.runner is not None:
                try:
                    result = entry.replay(leaves)
                except StaleError:
                    entry.outdated()
                else:
                    if result is not MISSED:
                        self._keep(entry)
                        return result
            self._keep(None)
            if entry is not None and not entry.reason:
                return entry.record(self.function, args, kwargs)
        return self.function(*args, **kwargs)

    def _keep(self, entry: Entry | None) -> None:
        """Have the next call try this entry first."""
        alike = entry is not None and entry.alike is not BY_KEY
        self._replay = entry.replay if entry is not None and alike else _missed
        self._latest = entry

    def _entry(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Entry | None, Sequence[Any]]:
        """The entry for a call, and its flattened arguments; None where it cannot be compiled."""
        mode = int(current_mode())
        leaves, _ = tree.flatten((args, kwargs))
        reason = _reason_against(mode, leaves)
        if reason is not None:
            self._eager[reason] = None
            return None, leaves
        key = (mode, *map(_form, args), *((name, _form(x)) for name, x in kwargs.items()))
        kind = self._kinds.get(key)
        if kind is None:
            replays = sum(kind.replays for kind in self._kinds.values())
            if self._born > MANY_KINDS and replays < 2 * self._born:
                self._eager["its arguments are of a new kind at nearly each call"] = None
                return None, leaves
            kind = self._kinds[key] = Kind(mode, args, kwargs)
            self._born += 1
            while len(self._kinds) > MANY_KINDS:
                del self._kinds[next(iter(self._kinds))]
        if kind.reason:
            return None, leaves
        entry = kind.entry(self.function)
        return None if kind.reason else entry, leaves

    def _loop(
        self, n: int, args: tuple[Any, ...], kwargs: dict[str, Any], steps: dict[int, int]
    ) -> ndarray | None:
        """The results of n calls in C, before each of which but the first argument i advances by
        `steps[i]` bytes; None, with nothing done, where they cannot be."""
        if recorder() is not None:
            return None
        with self._lock:
            entry, leaves = self._entry(args, kwargs)
            looped = None if entry is None or entry.runner is None else entry.runner.looped
            if entry is None or looped is None:
                return None
            loop = looped.loop(n, {i: (array_of(leaves[i]), step) for i, step in steps.items()})
            try:
                result = entry.replay(leaves, loop)
            except (StaleError, NotInPlaceError):
                return None
            if result is MISSED:
                return None
            self._keep(entry)
        results: ndarray = loop.results
        return results

    @property
    def last_runner(self) -> Runner | None:
        """What the latest call was run by; None where that was the function itself."""
        return None if self._latest is None else self._latest.runner

    # -------------------------------------------------------------- as a method

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a method: each instance has a compiled function of its own."""
        if instance is None:
            return self
        name = f"compiled {self.function.__name__}"
        own = vars(instance)
        if name not in own:
            own[name] = _Method(self, instance)
        return own[name]

    # -------------------------------------------------------------- what became of it

    def repeat(self, n: int, *args: Any, **kwargs: Any) -> Any:
        """n calls with the same arguments; their results, stacked along a new first axis.

        Where the whole step is one C function, Python has no part in it.
        """
        return repeat(self, n, args, kwargs)

    def scan(self, *batches: Any) -> Any:
        """A call for every index along the first axis of the arguments; their stacked results.

        ValueError where the arguments are not arrays of one length.
        """
        return scan(self, batches)

    @property
    def source(self) -> str:
        """The generated programs: C, and the Python that calls it; empty before there is one."""
        runners = [entry.runner for entry in self._entries()]
        return "\n".join(runner.source for runner in runners if runner is not None)

    def __str__(self) -> str:
        name = getattr(self.function, "__name__", "function")
        lines = [f"compiled {name}"]
        for entry in self._entries():
            if entry.runner is not None:
                lines.append(
                    f"  {entry.recorded} ops recorded, {len(entry.runner.program.statements)} left "
                    f"to compute, {entry.runner.summary()}, built in {entry.seconds * 1000:.0f} ms"
                )
            elif entry.reason is not None:
                lines.append(f"  run as it is: {entry.reason}")
        return "\n".join(lines)

    @property
    def programs(self) -> list[Program]:
        """What was recorded, one program for each kind of call."""
        return [entry.runner.program for entry in self._entries() if entry.runner]

    def _entries(self) -> Iterator[Entry]:
        for kind in list(self._kinds.values()):
            yield from kind.entries

    def explain(self) -> str:
        """Why calls are run as they are written, where they are."""
        reasons = dict(self._eager)
        for kind in list(self._kinds.values()):
            reasons |= {reason: None for reason in [kind.reason] if reason}
        reasons |= {entry.reason: None for entry in self._entries() if entry.reason}
        return "\n".join(reasons) if reasons else "every call is compiled"


MISSED = object()
BY_KEY = Condition("True", {})
"""For calls that must be looked at wholly to know their kind."""


def _missed(leaves: Sequence[Any], *_: Any) -> Any:
    return MISSED


class _Method(Compiled):
    """A compiled method of one instance; a copy of the instance gets a new one."""

    def __init__(self, method: Compiled, instance: Any) -> None:
        super().__init__(MethodType(method.function, instance))
        self._of = method, instance

    def __reduce__(self) -> Any:
        return getattr, (self._of[1], self._of[0].function.__name__)


def _reason_against(mode: int, leaves: Sequence[Any]) -> str | None:
    if mode == ANOMALY:
        return "detect_anomaly() is on"
    for leaf in leaves:
        if isinstance(leaf, Node):
            if leaf._requires_grad and mode:
                return "an argument requires grad"
        elif isinstance(leaf, ndarray) and type(leaf) is not ndarray:
            return f"an argument is a {type(leaf).__name__}"
        elif hasattr(type(leaf), "__next__"):
            return "an argument is an iterator"
    return None


class _Same:
    """An object as part of a key: it equals nothing but itself."""

    __slots__ = ("thing",)

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)


def _form(x: Any) -> Any:
    """What must be the same of an argument for two calls to be of one kind."""
    if isinstance(x, Node):
        return type(x), x._data.shape, x._data.dtype, x._requires_grad
    if isinstance(x, ndarray):
        return ndarray, x.shape, x.dtype
    if isinstance(x, tuple | list):
        return type(x), *map(_form, x)
    if isinstance(x, dict):
        return dict, *((_form(key), _form(value)) for key, value in x.items())
    if isinstance(x, float | np.floating):
        return type(x), repr(x)
    if isinstance(x, int | str | bytes | np.generic | np.dtype | type(None)):
        return type(x), x
    return _Same(x)


def _alike(args: tuple[Any, ...]) -> Condition:
    """A test that a call's arguments are Tensors and arrays like these and nothing else; BY_KEY
    where no such test can be written."""
    names: dict[str, Any] = {}
    terms = [f"len(leaves) == {len(args)}"]
    for i, x in enumerate(args):
        if not isinstance(x, Node) and type(x) is not ndarray:
            return BY_KEY
        array = x._data if isinstance(x, Node) else x
        names |= {f"type{i}": type(x), f"dtype{i}": array.dtype}
        terms.append(f"type(x{i} := leaves[{i}]) is type{i}")
        if isinstance(x, Node):
            terms.append(f"x{i}._requires_grad is {x._requires_grad}")
            terms.append(f"(x{i} := x{i}._data).shape == {array.shape}")
        else:
            terms.append(f"x{i}.shape == {array.shape}")
        terms.append(f"x{i}.dtype is dtype{i}")
    return Condition(" and ".join(terms), names)


def compile(function: Callable[..., Any]) -> Compiled:
    """`function`, recorded once and replayed."""
    if iscoroutinefunction(function) or isgeneratorfunction(function) or not callable(function):
        raise TypeError(
            f"compile takes a function that computes and returns, not {type(function).__name__} "
            f"{function!r:.60}; of a coroutine or generator, compile what it calls"
        )
    return Compiled(function)


class NoCompilerWarning(RuntimeWarning):
    """Compiled functions run as NumPy calls, because no C compiler works here."""


def warn_of_no_compiler() -> None:
    """Say once in a process, at the user's line, that there is none, and what to do."""
    global _said
    if _said:
        return
    _said = True
    frame = user_frame()
    place = ("<unknown>", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)
    warnings.warn_explicit(
        "tinygrad_kr: there is no C compiler here, so compiled functions run as NumPy calls, "
        f"several times slower than C: {NoCompilerError.fix}",
        NoCompilerWarning,
        *place,
    )


_said = False
