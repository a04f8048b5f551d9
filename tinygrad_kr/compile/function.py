"""`compile`: the function that records, checks that the record still holds, and replays."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import update_wrapper
from inspect import iscoroutinefunction, isgeneratorfunction
from threading import RLock
from time import perf_counter
from types import MethodType
from typing import Any, Protocol

import numpy as np
from numpy import ndarray

from tinygrad_kr import tree
from tinygrad_kr.arrays.operands import warn_user
from tinygrad_kr.compile.codegen.program import c_program
from tinygrad_kr.compile.ir.bindings import StaleError, tell_fixed
from tinygrad_kr.compile.ir.calling import are_found
from tinygrad_kr.compile.ir.program import Program, difference
from tinygrad_kr.compile.loop import array_of, repeat, scan
from tinygrad_kr.compile.passes.pipeline import lowered
from tinygrad_kr.compile.plan.plan import Plan, chosen_dtypes
from tinygrad_kr.compile.reroll import rerolled
from tinygrad_kr.compile.run.c_runner import (
    CRunner,
    NotInPlaceError,
    RefusedError,
    begin_products,
)
from tinygrad_kr.compile.run.numpy_runner import NumPyRunner
from tinygrad_kr.compile.trace.condition import Condition
from tinygrad_kr.compile.trace.guards import Guards
from tinygrad_kr.compile.trace.reads import Reads
from tinygrad_kr.compile.trace.tracer import Tracer
from tinygrad_kr.native import choice, deadline, memory
from tinygrad_kr.native.compiler import NoCompilerError, likely, remedy
from tinygrad_kr.ops.node import ANOMALY, NAMED, ON, Node, current_mode, grad_mode
from tinygrad_kr.ops.tracing import tracers, tracing

MAX_TRIES = 4
"""Most traces of a function without two in a row that are the same."""
MAX_SPECIALISATIONS = 8
"""Specialisations kept per signature."""
MANY_SPECIALISATIONS, MANY_SIGNATURES = 16, 64
"""Give up after this many new specialisations or signatures with few replays."""


class Runner(Protocol):
    """A program ready to run."""

    program: Program
    looped: Any
    """The whole step as a loop of C; None where it is not one C function."""

    @property
    def source(self) -> str:
        """The generated program."""
        ...

    def run_if(self, condition: Condition, missed: Any, /) -> Callable[..., Any]:
        """A function of the flattened arguments that replays the program; `missed`,
        with nothing done, where a condition does not hold.

        It raises StaleError, with nothing done, where the function must be traced anew. Where
        there is a `looped`, its second parameter is what runs in place of the C function.
        """
        ...

    def summary(self, lang: str | None = None) -> str:
        """The steps of the program, in one line."""
        ...


def runner_of(tracer: Tracer) -> Runner:
    """The fastest runner for a trace on this computer: C, or NumPy calls without a compiler."""
    if likely() is None or not are_found():
        return NumPyRunner(tracer)
    program = lowered(rerolled(tracer.program))
    plan = Plan(program, tracer.single)
    dtypes = chosen_dtypes(plan)
    code = c_program(plan, tracer)
    try:
        runner = CRunner(tracer, program, plan, code)
    except NoCompilerError:  # the only one did not stand its trial
        warn_of_no_compiler()
        return NumPyRunner(tracer)
    if choice.are_as_expected(dtypes):
        return runner
    plan = Plan(program, tracer.single)  # BLAS was measured to be faster than the C expected
    return CRunner(tracer, program, plan, c_program(plan, tracer))


class Specialisation:
    """One specialisation: a program and the guards under which it is valid."""

    __slots__ = (
        *("_condition", "_replay", "matches", "count", "guards", "mode", "reason", "traced"),
        *("tracer", "runner", "seconds", "spent", "stale", "tries", "sibling"),
    )

    def __init__(
        self, signature: Signature, roots: Sequence[Any], before: Specialisation | None = None
    ) -> None:
        """before: the latest one for the same signature."""
        self.sibling = before
        self.mode, self.matches, self.count = signature.mode, signature.matches, signature.count
        self.guards = Guards(roots)
        self.tracer: Tracer | None = None
        self.runner: Runner | None = None
        self.reason = self.guards.reason
        self.tries = self.traced = self.stale = 0
        self.seconds = 0.0
        self.spent = 0.0
        """Seconds of recording since the last program was built."""
        self._condition: Condition | None = None
        self._replay: Callable[..., Any] = _missed

    @property
    def replay(self) -> Callable[..., Any]:
        """The program as a function of flattened arguments.

        It returns MISSED, with nothing done, where they have another signature or a guard does
        not hold. It raises StaleError, with nothing done, where the function must be traced anew.
        """
        runner, guarded = self.runner, self.guards.condition
        if runner is None:
            return _missed
        if self._condition is not guarded:
            names = {"mode_set": grad_mode.get, "mode_now": current_mode, "mode": self.mode}
            names |= {"count": self.count} | self.matches.names | guarded.names
            in_mode = "(mode_set() is mode or mode_now() == mode)"
            text = f"{in_mode} and {self.matches.text} and {guarded.text}"
            self._replay = runner.run_if(Condition(text, names, "count.replays += 1"), MISSED)
            self._condition = guarded
        return self._replay

    def discard(self) -> None:
        """Drop a program that no longer fits its inputs; give up if that happens at nearly every
        call."""
        self.runner = None
        self.count.replays -= 1  # it was not one
        self.stale += 1
        if self.stale > MANY_SPECIALISATIONS and self.count.replays < 2 * self.stale:
            self.reason = (
                "the shape, dtype or memory layout of what it reads or overwrites changes at "
                "nearly every call"
            )

    def _twin(self, tracer: Tracer) -> Specialisation | None:
        """The specialisation before, where only elements of arrays differ, and the program does
        not: these arrays are read anew at each call. Or where that one's run filled a cache."""
        other, self.sibling = self.sibling, None
        if other is None or other.tracer is None:
            return None
        alike = other.guards.is_outdated or self.guards.differs_in_elements_only(other.guards)
        same = alike and difference(other.tracer.program, tracer.program) is None
        return other if same else None

    def trace(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run the function, and compile it if its trace equals the one before.

        Nothing learned takes effect until all of it is known: after an interrupt there is no
        runner, and the next call traces again.
        """
        if likely() is None and self.tracer is not None:
            warn_of_no_compiler()
        self.runner = None
        start = perf_counter()
        tracer = Tracer(self.guards.leaves, deadline.SECONDS - self.spent, self.guards.arrays)
        self.guards.about_to_run()
        result = tracer.run(function, args, kwargs)
        memory.give_back()
        self.spent += perf_counter() - start
        before, tries, runner, late = self.tracer, self.tries + 1, None, tracer.is_late
        reason = tracer.reason or self.guards.changed_by_the_run(tracer.program)
        twin = None if before is not None else self._twin(tracer)
        if twin is not None:
            before = twin.tracer
        if before is not None:
            inputs = before.program.inputs.values(), tracer.program.inputs.values()
            reason = reason or tell_fixed(*inputs)
        self.guards.learn(tracer)
        if twin is not None:
            self.guards.forget(twin.guards)
        reason = reason or self.guards.reason
        if reason is None and before is None:
            begin_products(tracer.program)
        elif reason is None and before is not None:
            parted = difference(before.program, tracer.program)
            if parted is None:
                start = perf_counter()
                try:
                    runner = deadline.within(deadline.SECONDS - self.spent, runner_of, tracer)
                except deadline.TooLongError:
                    reason, late = tracer.too_long(), True
                self.traced = len(tracer.program.instructions)
                self.seconds = perf_counter() - start
                self.spent, tries = 0.0, 0
            elif tries > MAX_TRIES:
                reason = f"two runs in a row did not do the same: {parted}"
        if late:
            warn_user(
                f"tinygrad_kr: {_name_of(function)} is not compiled: {reason}", LongProgramWarning
            )
        self.tracer = None if reason is not None else tracer
        self.tries, self.reason, self._condition = tries, reason, None
        self.runner = runner
        del before, twin, tracer
        memory.give_back()
        return result


class ReplayCount:
    """How many calls were replayed. It is no part of `Signature`, to which programs would refer."""

    __slots__ = ("replays",)

    def __init__(self) -> None:
        self.replays = 0


class Signature:
    """Calls with equal shapes, dtypes and other arguments: their specialisations, latest first."""

    __slots__ = ("count", "created", "matches", "mode", "objects", "reason", "specialisations")

    def __init__(self, mode: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.mode = mode
        self.matches = BY_KEY if kwargs else _matches(args)
        leaves, _ = tree.flatten((args, kwargs))
        self.objects = [leaf for leaf in leaves if not isinstance(leaf, Node | ndarray)]
        self.objects += dict.fromkeys(_container_classes((args, kwargs)))
        self.specialisations: list[Specialisation] = []
        self.reason: str | None = None
        self.created = 0
        self.count = ReplayCount()

    @property
    def replays(self) -> int:
        """How many calls were replayed."""
        return self.count.replays

    def specialisation(self, function: Callable[..., Any]) -> Specialisation:
        """The specialisation whose guards hold, if need be a new one."""
        known = self.specialisations
        for i, specialisation in enumerate(known):
            if specialisation.guards.hold():
                if i:
                    self.specialisations = [specialisation, *known[:i], *known[i + 1 :]]
                return specialisation
        before = known[0] if known else None
        specialisation = Specialisation(self, [function, *self.objects], before)
        self.created += 1
        if self.created > MANY_SPECIALISATIONS and self.replays < 2 * self.created:
            what = specialisation.guards.difference(known[0].guards)
            self.reason = f"what it reads is another thing at nearly each call: {what}"
        self.specialisations = [specialisation, *known[: MAX_SPECIALISATIONS - 1]]
        return specialisation


class Compiled:
    """A function that is traced at its first calls and replayed from then on.

    There is one program for each signature (shapes, dtypes, other arguments by value, grad mode)
    and for each state of the variables that the function reads (see `guards`). Each is traced
    twice.

    explain(): why calls run eagerly, if they do.
    repeat(n, *args): n calls, whose results are stacked. scan(*batches): one call per index.
    source: the generated code. programs: the simplified traces.
    function: the function as written. last_runner: what replayed the latest call, or None.

    >>> doubled = tk.compile(lambda x: 2 * x)
    >>> doubled(tk.tensor([1.0, 2.0]))
    Tensor([2., 4.])
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._signatures: dict[Any, Signature] = {}
        self._created = 0
        self._eager: dict[str, None] = {}
        self._lock = RLock()
        self._key = f"compiled {getattr(function, '__qualname__', '')}"
        """Under which an instance keeps its compiled method."""
        self._latest: Specialisation | None = None
        self._replay: Callable[..., Any] = _missed
        """Fast path: the latest program, where its test rejects calls of other signatures."""
        update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not (kwargs or tracers):
            with self._lock:
                try:
                    result = self._replay(args)
                except StaleError:
                    result = MISSED
            if result is not MISSED:
                return result
        return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call that the latest specialisation missed: by another one, traced, or eager."""
        if tracing() is not None:
            return self.function(*args, **kwargs)
        with self._lock:
            specialisation, leaves = self._specialisation(args, kwargs)
            if specialisation is not None and specialisation.runner is not None:
                try:
                    result = specialisation.replay(leaves)
                except StaleError:
                    specialisation.discard()
                else:
                    if result is not MISSED:
                        self._keep(specialisation)
                        return result
            self._keep(None)
            if specialisation is not None and not specialisation.reason:
                return specialisation.trace(self.function, args, kwargs)
        return self.function(*args, **kwargs)

    def _keep(self, specialisation: Specialisation | None) -> None:
        """Set the specialisation that the next call tries first."""
        fast = specialisation is not None and specialisation.matches is not BY_KEY
        fast = fast and specialisation.guards.walk is None  # type: ignore[union-attr]
        self._replay = specialisation.replay if specialisation is not None and fast else _missed
        self._latest = specialisation

    def _specialisation(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Specialisation | None, Sequence[Any]]:
        """The specialisation for a call, None where it runs eagerly; the flattened arguments."""
        mode = int(current_mode())
        mode = ON if mode == NAMED else mode
        leaves, _ = tree.flatten((args, kwargs))
        reason = _reason_against(mode, leaves, (args, kwargs))
        if reason is not None:
            self._eager[reason] = None
            return None, leaves
        named = ((name, _signature_of(x)) for name, x in kwargs.items())
        key = (mode, *map(_signature_of, args), *named)
        signature = self._signatures.get(key)
        if signature is None:
            replays = sum(signature.replays for signature in self._signatures.values())
            if self._created > MANY_SIGNATURES and replays < 2 * self._created:
                self._eager["its arguments are of a new kind at nearly each call"] = None
                return None, leaves
            signature = self._signatures[key] = Signature(mode, args, kwargs)
            self._created += 1
            while len(self._signatures) > MANY_SIGNATURES:
                del self._signatures[next(iter(self._signatures))]
        if signature.reason:
            return None, leaves
        specialisation = signature.specialisation(self.function)
        walk = specialisation.guards.walk
        if walk is not None and _are_shared(walk, (args, kwargs), set()):
            self._eager["it compares the identities of arguments, which are the same"] = None
            return None, leaves
        return None if signature.reason else specialisation, leaves

    def _loop(
        self, n: int, args: tuple[Any, ...], kwargs: dict[str, Any], steps: dict[int, int]
    ) -> ndarray | None:
        """The results of n calls in C, before each of which but the first argument i advances by
        `steps[i]` bytes, up to the first call that raises; None, with nothing done, where there
        would be none."""
        if tracing() is not None:
            return None
        with self._lock:
            specialisation, leaves = self._specialisation(args, kwargs)
            if specialisation is None or specialisation.runner is None:
                return None
            looped = specialisation.runner.looped
            if looped is None:
                return None
            loop = looped.loop(n, {i: (array_of(leaves[i]), step) for i, step in steps.items()})
            try:
                result = specialisation.replay(leaves, loop)
            except (StaleError, NotInPlaceError, RefusedError):
                return None
            if result is MISSED:
                return None
            self._keep(specialisation)
        results: ndarray = loop.results
        return results

    @property
    def last_runner(self) -> Runner | None:
        """The runner of the latest call; None if that call ran eagerly."""
        return None if self._latest is None else self._latest.runner

    # -------------------------------------------------------------- copies, not compiled yet

    def __copy__(self) -> Compiled:
        return Compiled(self.function)

    def __deepcopy__(self, memo: dict[int, Any]) -> Compiled:
        return Compiled(deepcopy(self.function, memo))

    def __reduce__(self) -> Any:
        name = getattr(self, "__qualname__", "")
        found: Any = sys.modules.get(self.__module__)
        for part in name.split("."):
            found = getattr(found, part, None)
        return name if found is self else (Compiled, (self.function,))

    # -------------------------------------------------------------- as a method

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """A method: each instance has a compiled function of its own."""
        if instance is None:
            return self
        own = instance.__dict__
        try:
            method = own[self._key]
            compiled, holder = method._of
            if compiled is self and holder is instance:  # else that of what this is a copy of
                return method
        except KeyError:
            pass
        own[self._key] = method = _Method(self, instance)
        return method

    # -------------------------------------------------------------- loops and reports

    def repeat(self, n: int, *args: Any, **kwargs: Any) -> Any:
        """`n` calls with the same arguments; their results, stacked along a new first axis.

        If the whole step is one C function, the loop runs in C.

        >>> step = tk.compile(lambda x: 2 * x)
        >>> step.repeat(3, tk.tensor([1.0])).shape
        (3, 1)
        """
        return repeat(self, n, args, kwargs)

    def scan(self, *batches: Any) -> Any:
        """One call for every index along the first axis of the arguments; their results, stacked.

        Raises ValueError if the arguments are not arrays of one length.

        >>> step = tk.compile(lambda x: 2 * x)
        >>> step.scan(tk.tensor([[1.0], [2.0]]))
        Tensor([[2.],
                [4.]])
        """
        return scan(self, batches)

    @property
    def source(self) -> str:
        """The generated programs, C and the Python that calls it; empty before the first."""
        runners = [one.runner for one in self._specialisations()]
        return "\n".join(runner.source for runner in runners if runner is not None)

    def __repr__(self) -> str:
        name = _name_of(self.function)
        lines = [f"compiled {name}"]
        for one in self._specialisations():
            if one.runner is not None:
                lines.append(
                    f"  {one.traced} ops traced, {len(one.runner.program.instructions)} left "
                    f"to compute, {one.runner.summary('en')}, built in {one.seconds * 1000:.0f} ms"
                )
            elif one.reason is not None:
                lines.append(f"  run as it is: {one.reason}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """In a notebook: the programs, why calls run eagerly, if they do, and the source."""
        from tinygrad_kr import html
        from tinygrad_kr.language import Text

        header = (
            Text("ops traced", "기록한 연산").say(),
            Text("left to compute", "남은 연산").say(),
            Text("steps of the program", "프로그램의 단계").say(),
            Text("built in ms", "만든 시간(ms)").say(),
        )
        built = [(one, one.runner) for one in self._specialisations() if one.runner is not None]
        rows = [
            (
                one.traced,
                len(runner.program.instructions),
                runner.summary(),
                round(1e3 * one.seconds),
            )
            for one, runner in built
        ]
        table = html.table(header, rows) if rows else ""
        code = html.folded(Text("source", "소스").say(), html.plain(self.source)) if rows else ""
        title = Text("compiled {name}", "컴파일한 {name}").say(name=_name_of(self.function))
        told = self.explain()
        states = {
            NOTHING_YET: Text(
                NOTHING_YET,
                "아직 컴파일한 것이 없습니다: 같은 일을 하고 끝난 호출이 둘이 되지 않았습니다",
            ),
            COMPILED: Text(COMPILED, "모든 호출이 컴파일되었습니다"),
        }
        told = states[told].say() if told in states else told
        return html.block(title, table, html.plain(told), code)

    @property
    def programs(self) -> list[Program]:
        """The simplified traces, one program for each specialisation.

        >>> step = tk.compile(lambda x: 2 * x)
        >>> y = step(tk.tensor([1.0])), step(tk.tensor([1.0]))
        >>> len(step.programs), step.programs[0].instructions[0].op.__name__
        (1, 'multiply')
        """
        return [one.runner.program for one in self._specialisations() if one.runner]

    def _specialisations(self) -> Iterator[Specialisation]:
        for signature in list(self._signatures.values()):
            yield from signature.specialisations

    def explain(self) -> str:
        """The reasons for which calls run eagerly, one a line; else "every call is compiled".

        >>> step = tk.compile(lambda x: 2 * x)
        >>> y = step(tk.tensor([1.0]))
        >>> step.explain()
        'every call is compiled'
        """
        reasons = dict(self._eager)
        for signature in list(self._signatures.values()):
            reasons |= {reason: None for reason in [signature.reason] if reason}
        reasons |= {one.reason: None for one in self._specialisations() if one.reason}
        if reasons:
            return "\n".join(reasons)
        if not any(one.runner for one in self._specialisations()):
            return NOTHING_YET
        tracers = (one.tracer for one in self._specialisations())
        remarks = {remark: None for tracer in tracers if tracer for remark in tracer.remarks}
        return "\n".join([COMPILED, *remarks])


NOTHING_YET = "nothing is compiled yet: no two calls have ended and done the same"
COMPILED = "every call is compiled"
"""What `explain` says where there is no reason."""
MISSED = object()
BY_KEY = Condition("True", {})
"""In place of a test, for calls whose signature must be computed."""


def _missed(leaves: Sequence[Any], *_: Any) -> Any:
    return MISSED


class _Method(Compiled):
    """A compiled method of one instance; a copy of the instance gets a new one."""

    def __init__(self, method: Compiled, instance: Any) -> None:
        super().__init__(MethodType(method.function, instance))
        self._of = method, instance

    def __copy__(self) -> Compiled:
        return _Method(*self._of)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return getattr(deepcopy(self._of[1], memo), self._of[0].function.__name__)

    def __reduce__(self) -> Any:
        return getattr, (self._of[1], self._of[0].function.__name__)


def _reason_against(mode: int, leaves: Sequence[Any], arguments: Any) -> str | None:
    if mode == ANOMALY:
        return "detect_anomaly() is on"
    for kind in _container_classes(arguments):
        if not hasattr(kind, "_fields"):  # a copy of it is not of its class
            return f"an argument is a {kind.__name__}"
    for leaf in leaves:
        if isinstance(leaf, Node):
            if leaf._requires_grad and mode:
                return "an argument requires grad"
        elif isinstance(leaf, ndarray) and type(leaf) is not ndarray:
            return f"an argument is a {type(leaf).__name__}"
        elif hasattr(type(leaf), "__next__"):
            return "an argument is an iterator"
    return None


class _ByIdentity:
    """An object as part of a key: it equals nothing but itself."""

    __slots__ = ("thing",)

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)


def _are_shared(walk: Reads, argument: Any, met: set[int]) -> bool:
    """Whether an object is among the arguments twice, or also reached by the function itself."""
    if isinstance(argument, Node | ndarray | list | dict):
        if id(argument) in met or walk.knows(argument):
            return True
        met.add(id(argument))
    if isinstance(argument, dict):
        argument = tuple(argument.values())
    inside = argument if isinstance(argument, tuple | list) else ()
    return any(_are_shared(walk, item, met) for item in inside)


def _container_classes(arguments: Any) -> Iterator[type]:
    """The classes of containers among the arguments that are no plain tuple, list or dict."""
    if isinstance(arguments, tuple | list | dict):
        if type(arguments) not in (tuple, list, dict):
            yield type(arguments)
        for item in arguments.values() if isinstance(arguments, dict) else arguments:
            yield from _container_classes(item)


def _signature_of(x: Any) -> Any:
    """What must be equal in an argument for two calls to have one signature."""
    if isinstance(x, Node):
        return type(x), x._data.shape, x._data.dtype, x._requires_grad
    if isinstance(x, ndarray):
        return ndarray, x.shape, x.dtype
    if isinstance(x, tuple | list):
        return type(x), *map(_signature_of, x)
    if isinstance(x, dict):
        return dict, *((_signature_of(key), _signature_of(value)) for key, value in x.items())
    if type(x) is float or isinstance(x, np.floating):
        return type(x), repr(x)
    if type(x) in (int, bool, str, bytes, type(None)) or isinstance(x, np.generic | np.dtype):
        return type(x), x
    return _ByIdentity(x)


def _matches(args: tuple[Any, ...]) -> Condition:
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
    """`function`, traced once for each signature and replayed; a decorator.

    Raises TypeError for a coroutine, a generator, or anything that cannot be called.

    >>> step = tk.compile(lambda x: 2 * x)
    >>> step(tk.tensor([1.0]))
    Tensor([2.])
    """
    if iscoroutinefunction(function) or isgeneratorfunction(function) or not callable(function):
        raise TypeError(
            f"compile: expected a function that returns its result, got {type(function).__name__} "
            f"{function!r:.60}. Of a coroutine or generator, compile the functions that it calls"
        )
    return Compiled(function)


class NoCompilerWarning(RuntimeWarning):
    """No C compiler works here, so compiled functions run as NumPy calls; a RuntimeWarning.

    >>> import warnings
    >>> warnings.simplefilter("ignore", tk.compile.NoCompilerWarning)
    """


class LongProgramWarning(RuntimeWarning):
    """A function would take too long to record and build, and runs as written; a RuntimeWarning.

    >>> import warnings
    >>> warnings.simplefilter("ignore", tk.compile.LongProgramWarning)
    """


def warn_of_no_compiler() -> None:
    """Warn once per process, at the user's line, that no C compiler was found."""
    global _said
    if _said:
        return
    _said = True
    warn_user(
        "tinygrad_kr: there is no C compiler here, so compiled functions run as NumPy calls, "
        f"several times slower than C: {remedy()}",
        NoCompilerWarning,
    )


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", "function")


_said = False
