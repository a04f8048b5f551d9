"""The body of a `scan`: recorded once, with the derivative of the whole loop, and run in C.

A body is a function of (carries, elements, constants), arrays all of them, that gives new carries,
results to stack and results to sum. Its adjoint is a body too, which runs over the same rows the
other way. So derivatives of every order are scans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from tinygrad_kr.autodiff import walk
from tinygrad_kr.batching import Check, Recorder, Seen, Step
from tinygrad_kr.compile.codegen.arguments import found
from tinygrad_kr.compile.codegen.program import CProgram
from tinygrad_kr.compile.codegen.naming import SymbolNames
from tinygrad_kr.compile.ir.bindings import Argument, Constant
from tinygrad_kr.compile.ir.calling import are_found
from tinygrad_kr.compile.ir.layout import dense_strides
from tinygrad_kr.compile.ir.ops import _assigned
from tinygrad_kr.compile.ir.program import Instruction, Program, Value
from tinygrad_kr.compile.passes.pipeline import lowered
from tinygrad_kr.compile.plan.plan import Plan
from tinygrad_kr.compile.run.arena import Arena
from tinygrad_kr.compile.run.c_runner import _built
from tinygrad_kr.native import deadline
from tinygrad_kr.native.build import BuildError, find_compiler
from tinygrad_kr.native.foreign import ctypes
from tinygrad_kr.ops.batch_rules import node_of, plain
from tinygrad_kr.ops.elementwise import add
from tinygrad_kr.ops.node import Node, constant
from tinygrad_kr.ops.op import astype, op
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.ops.writes import address

SMALL = 64
"""Threshold: most elements of a Tensor made in the body that is a constant, not an argument."""
MIN_WORK = 50_000
"""Threshold: ops after which a body is built in C."""
CHUNK = 20_000
"""Steps after which Python may interrupt."""


class Ref(NamedTuple):
    """A value of the body by its number. detached: without its history."""

    slot: int
    detached: bool = False


class BodyStep(NamedTuple):
    """An op of the body. tracked: the result has a history if an input has one."""

    record: Any
    inputs: tuple[Any, ...]
    params: dict[str, Any]
    out: int
    tracked: bool


class BodyCheck(NamedTuple):
    """A check of an array's elements, which raises."""

    function: Callable[..., Any]
    array: Any
    rest: tuple[Any, ...]


class Kind(NamedTuple):
    """What an array of the body is like."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def is_float(self) -> bool:
        """Whether it has derivatives."""
        return self.dtype.kind == "f"


class Counts(NamedTuple):
    """How many carries, elements and constants a body is given, and how many results it has."""

    carries: int
    elements: int
    constants: int
    stacked: int
    summed: int


def split(items: Sequence[Any], *sizes: int) -> list[list[Any]]:
    """A sequence in parts of these sizes."""
    ends = list(accumulate(sizes, initial=0))
    return [list(items[a:b]) for a, b in zip(ends, ends[1:], strict=False)]


# ------------------------------------------------------------------ recording


class Recording:
    """A function that was run once on the arrays of a step.

    given: its carries, elements and constants. body: equal for equal functions. constants: arrays
    and Tensors from outside that it reads, which the body takes after those given.
    """

    def __init__(self, name: str, given: Sequence[Sequence[Any]]) -> None:
        self.nodes = [constant(_array(x).view()) for part in given for x in part]
        for node in self.nodes:
            node._requires_grad = node._data.dtype.kind == "f"
        self.parts = split(self.nodes, *map(len, given))
        self.recorder = Recorder(self.nodes, name, in_full=True)

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """The function's result. `recorder.reason` says why it may not be used."""
        return self.recorder.run(function, args, {})

    def finish(self, carries: Sequence[Any], stacked: Sequence[Any], summed: Sequence[Any]) -> None:
        """Make the body, from what the function returned."""
        results = [self.recorder.seen(x) for x in (*carries, *stacked, *summed)]
        steps = _needed(self.recorder.steps, results)
        self.constants: list[Any] = []
        self._slots = {id(node): number for number, node in enumerate(self.nodes)}
        for step in steps:
            self._find_constants(step.array if isinstance(step, Check) else step.inputs)
            if isinstance(step, Step):
                self._find_constants(tuple(step.params.values()))
        self._find_constants(tuple(results))
        arguments = [*self.nodes, *self.constants]
        kinds = [Kind(_array(x).shape, _array(x).dtype) for x in arguments]
        made: list[BodyStep | BodyCheck] = []
        for step in steps:
            if isinstance(step, Check):
                made.append(BodyCheck(step.function, self._ref(step.array), step.rest))
                continue
            inputs = tuple(map(self._ref, step.inputs))
            params = {key: self._ref(param) for key, param in step.params.items()}
            self._slots[id(step.out)] = len(kinds)
            tracked = step.out._requires_grad
            made.append(BodyStep(step.record, inputs, params, len(kinds), tracked))
            kinds.append(Kind(step.out._data.shape, step.out._data.dtype))
        counts = Counts(
            *map(len, self.parts[:2]),
            len(self.parts[2]) + len(self.constants),
            len(stacked),
            len(summed),
        )
        self.body = _known(Body(counts, kinds, made, tuple(map(self._ref, results))))

    def _find_constants(self, x: Any) -> None:
        if isinstance(x, Seen):
            return
        if isinstance(x, tuple | list):
            for part in x:
                self._find_constants(part)
        elif self._is_outside(x) and id(x) not in self._slots:
            self._slots[id(x)] = len(self.nodes) + len(self.constants)
            self.constants.append(x)

    def _is_outside(self, x: Any) -> bool:
        if isinstance(x, Node) and id(x) not in self.recorder.constants:
            return True
        if isinstance(x, Node):
            return x._data.size > SMALL
        return isinstance(x, ndarray) and x.size > 1

    def _ref(self, x: Any) -> Any:
        if isinstance(x, Seen):
            return Ref(self._slots[id(x.node)], x.detached)
        if isinstance(x, tuple | list):
            return type(x)(map(self._ref, x))
        if id(x) in self._slots and self._is_outside(x):
            return Ref(self._slots[id(x)])
        return _array(x) if isinstance(x, Node) else x


def _array(x: Any) -> Any:
    return x._data if isinstance(x, Node) else x


def _needed(steps: Sequence[Step | Check], results: Sequence[Any]) -> list[Step | Check]:
    wanted = set(_ids(results))
    kept: list[Step | Check] = []
    for step in reversed(steps):
        if isinstance(step, Check):
            wanted.update(_ids(step.array))
        elif id(step.out) in wanted:
            wanted.update(_ids((*step.inputs, *step.params.values())))
        else:
            continue
        kept.append(step)
    return kept[::-1]


def _ids(x: Any) -> list[int]:
    if isinstance(x, Seen):
        return [id(x.node)]
    return [key for part in x for key in _ids(part)] if isinstance(x, tuple | list) else []


MOST_BODIES = 128
_bodies: dict[Any, Body] = {}


def _known(body: Body) -> Body:
    """The body that was made before of the same ops, if there is one."""
    key = body.key()
    known = _bodies.pop(key, body)
    _bodies[key] = known
    while len(_bodies) > MOST_BODIES:
        _bodies.pop(next(iter(_bodies)), None)
    return known


def _key(x: Any) -> Any:
    """What equals that of an equal thing, and of nothing else."""
    if isinstance(x, Ref):
        return x
    if isinstance(x, ndarray):
        return x.dtype.str, x.shape, x.tobytes()
    if isinstance(x, tuple | list):
        return type(x), *map(_key, x)
    if isinstance(x, slice):
        return slice, x.start, x.stop, x.step
    if isinstance(x, int | float | np.generic):
        return type(x), repr(x)
    return x


# ------------------------------------------------------------------ the body


class Body:
    """The ops of a step on numbered values: first the arguments, then the results of the ops."""

    def __init__(
        self,
        counts: Counts,
        kinds: list[Kind],
        steps: list[BodyStep | BodyCheck],
        results: tuple[Any, ...],
    ) -> None:
        self.counts, self.kinds, self.steps, self.results = counts, kinds, steps, results
        self.result_kinds = [
            kinds[x.slot] if isinstance(x, Ref) else Kind(np.shape(x), np.asarray(x).dtype)
            for x in results
        ]
        outputs = split(self.result_kinds, counts.carries, counts.stacked, counts.summed)
        self.carries, self.stacked, self.summed = outputs
        dtypes = dict.fromkeys(kind.dtype for kind in self.result_kinds)
        self.records = {dtype: _record(self, dtype) for dtype in dtypes}
        """By dtype, the op that gives all results of that dtype, of all steps, in one array."""
        self._adjoints: dict[tuple[bool, ...], tuple[Body, list[Any]]] = {}
        self._loop: CLoop | None = None
        self._work = 0

    @property
    def arguments(self) -> int:
        """Number of carries, elements and constants."""
        return sum(self.counts[:3])

    def key(self) -> Any:
        """What is equal for equal bodies."""
        steps = [
            (step.record, _key(step.inputs), _key(tuple(step.params.items())), step.tracked)
            if isinstance(step, BodyStep)
            else (step.function, _key(step.array), _key(step.rest))
            for step in self.steps
        ]
        return self.counts, tuple(self.kinds), tuple(steps), _key(self.results)

    def applied(self, arguments: Sequence[Any]) -> list[Any]:
        """The results of one step, with a history."""
        values: dict[int, Any] = dict(enumerate(arguments))

        def value(x: Any) -> Any:
            if isinstance(x, Ref):
                found = values[x.slot]
                return constant(found._data) if x.detached else found
            return type(x)(map(value, x)) if isinstance(x, tuple | list) else x

        for step in self.steps:
            if isinstance(step, BodyCheck):
                _check(step, value(step.array))
                continue
            params = {key: plain(value(param)) for key, param in step.params.items()}
            y = node_of(step.record(*map(value, step.inputs), **params))
            if y._data.dtype != self.kinds[step.out].dtype:
                y = astype(y, dtype=self.kinds[step.out].dtype)
            values[step.out] = y if step.tracked or not y._requires_grad else constant(y._data)
        return [node_of(value(x)) for x in self.results]

    # -------------------------------------------------------------- the loop

    def run(self, arguments: Sequence[ndarray], n: int, reverse: bool) -> dict[Any, ndarray]:
        """The results of n steps, by dtype: carries before and after each, stacked, summed."""
        flat = {dtype: np.zeros(self.size(dtype, n), dtype) for dtype in self.records}
        out = [self.block(flat[k.dtype], i, n) for i, k in enumerate(self.result_kinds)]
        given = [
            np.ascontiguousarray(x, kind.dtype)
            for x, kind in zip(arguments, self.kinds, strict=False)
        ]
        carries = self.counts.carries
        for block, first in zip(out[:carries], given[:carries], strict=True):
            block[n if reverse else 0] = first
        if not n:
            return flat
        loop = self._built_loop(n)
        if loop is None or not loop.run(given, out, n, reverse):
            self._by_numpy(given, out, n, reverse)
        return flat

    def _built_loop(self, n: int) -> CLoop | None:
        self._work += n * len(self.steps)
        if self._loop is None and self._work > MIN_WORK:
            self._loop = CLoop(self)
        return self._loop

    @np.errstate(all="ignore")
    def _by_numpy(
        self, given: list[ndarray], out: list[ndarray], n: int, reverse: bool
    ) -> None:
        counts = self.counts
        carries, elements, constants = split(given, *counts[:3])
        for t in range(n)[:: -1 if reverse else 1]:
            before, after = (t + 1, t) if reverse else (t, t + 1)
            rows = [block[before, ...] for block in out[: counts.carries]]
            rows += [x[t, ...] for x in elements]
            results = self._step([*rows, *constants])
            for i, (block, y) in enumerate(zip(out, results, strict=True)):
                if i < counts.carries:
                    block[after] = y
                elif i < counts.carries + counts.stacked:
                    block[t] = y
                else:
                    block += y

    def _step(self, arguments: list[ndarray]) -> list[Any]:
        values: list[Any] = [*arguments, *[None] * (len(self.kinds) - len(arguments))]

        def value(x: Any) -> Any:
            if isinstance(x, Ref):
                return values[x.slot]
            return type(x)(map(value, x)) if isinstance(x, tuple | list) else x

        for step in self.steps:
            if isinstance(step, BodyCheck):
                step.function(value(step.array), *step.rest)
                continue
            params = {key: value(param) for key, param in step.params.items()}
            y = step.record.forward(*map(value, step.inputs), **params)
            values[step.out] = np.asarray(y, self.kinds[step.out].dtype)
        return [value(x) for x in self.results]

    # -------------------------------------------------------------- where the results are

    def size(self, dtype: Any, n: int) -> int:
        """Elements of the array of all results of a dtype."""
        return self._end(len(self.result_kinds), dtype, n)

    def _end(self, number: int, dtype: Any, n: int) -> int:
        """Elements of the results of a dtype before that of this number."""
        kinds = enumerate(self.result_kinds[:number])
        return sum(self._extent(i, n) for i, kind in kinds if kind.dtype == dtype)

    def _extent(self, i: int, n: int) -> int:
        rows = self.rows(i, n)
        return int(np.prod(self.result_kinds[i].shape, dtype=np.int64)) * (
            1 if rows is None else rows
        )

    def rows(self, i: int, n: int) -> int | None:
        """How many rows result `i` has; None for a sum."""
        if i < self.counts.carries:
            return n + 1
        return n if i < self.counts.carries + self.counts.stacked else None

    def block(self, flat: Any, i: int, n: int) -> Any:
        """Result `i` in the array, or the Tensor, of all results of its dtype."""
        kind, rows = self.result_kinds[i], self.rows(i, n)
        start = self._end(i, kind.dtype, n)
        part = flat[start : start + self._extent(i, n)]
        return part.reshape(kind.shape if rows is None else (rows, *kind.shape))

    def row(self, flat: Any, i: int, n: int, number: int) -> Any:
        """One row of result `i`."""
        kind = self.result_kinds[i]
        size = int(np.prod(kind.shape, dtype=np.int64))
        start = self._end(i, kind.dtype, n) + number * size
        return flat[start : start + size].reshape(kind.shape)

    # -------------------------------------------------------------- the derivative

    def adjoint(
        self, wanted: tuple[bool, ...], arguments: Sequence[Any]
    ) -> tuple[Body, list[Any]]:
        """The body of the derivative by those arguments that are wanted, and its last constants.

        Its carries are the cotangents of the carries. Its elements are the carries before the step,
        the elements, and the cotangents of what follows the step: of carries, of stacked results.
        Its constants are the constants and the cotangents of sums. It stacks the cotangents of the
        elements, and sums those of the constants.
        """
        if wanted not in self._adjoints:
            self._adjoints[wanted] = self._made_adjoint(wanted, arguments)
        return self._adjoints[wanted]

    def _made_adjoint(
        self, wanted: tuple[bool, ...], arguments: Sequence[Any]
    ) -> tuple[Body, list[Any]]:
        counts = self.counts
        carries, elements, constants = split([_array(x) for x in arguments], *counts[:3])
        elements = [
            x[0, ...] if len(x) else np.ones(x.shape[1:], x.dtype) for x in elements
        ]
        floats = [
            [np.ones(kind.shape, kind.dtype) for kind in kinds if kind.is_float]
            for kinds in (self.carries, self.stacked, self.summed)
        ]
        before, following = list(floats[0]), [*floats[0], *floats[1]]
        recording = Recording("scan", (before, [*carries, *elements, *following],
                                       [*constants, *floats[2]]))  # fmt: skip

        def pulled(cotangents: Any, rows: Any, shared: Any) -> Any:
            own, later = rows[: len(carries) + len(elements)], rows[len(carries) + len(elements) :]
            given = [*own, *shared[: counts.constants]]
            after, of_stacked = split(later, len(before), len(floats[1]))
            after = [a + b for a, b in zip(cotangents, after, strict=True)]
            starts = [*after, *of_stacked, *shared[counts.constants :]]
            ends = _pulled_back(self.applied(given), starts, given)
            found = [
                _zeros_like(x) if (g := ends.get(x)) is None else node_of(g) for x in given
            ]
            return split(found, *counts[:3])

        found = recording.run(pulled, *recording.parts)
        of_carries, of_elements, of_constants = split(wanted, *counts[:3])
        recording.finish(
            [g for g, kind in zip(found[0], self.carries, strict=True) if kind.is_float],
            [g for g, want in zip(found[1], of_elements, strict=True) if want],
            [g for g, want in zip(found[2], of_constants, strict=True) if want],
        )
        return recording.body, recording.constants


def _zeros_like(x: Any) -> Any:
    return constant(np.zeros(x._data.shape, x._data.dtype))


def _pulled_back(results: Sequence[Any], starts: Sequence[Any], given: Sequence[Any]) -> Any:
    """The cotangents of the arguments of a step, of those of its results that are floats."""
    cotangents: dict[Any, Any] = {}
    floats = [y for y in results if y._data.dtype.kind == "f"]
    for y, g in zip(floats, starts, strict=True):
        if y._requires_grad:
            cotangents[y] = add(cotangents[y], g) if y in cotangents else g
    wanted = {x for x in given if x._requires_grad}
    return walk(cotangents, wanted, create_graph=True, retain_graph=True)


def _check(check: BodyCheck, array: Any) -> None:
    array = _array(array)
    if tracer := tracing():
        tracer.check(check.function, array, *check.rest)
    check.function(array, *check.rest)


# ------------------------------------------------------------------ the op


def _record(body: Body, dtype: Any) -> Any:
    """The op of all steps: its result is every result of one dtype, flat and side by side."""

    def forward(*arguments: Any, n: int, reverse: bool) -> ndarray:
        return body.run(arguments, n, reverse)[dtype]

    def rule(
        g: Any, y: Any, *arguments: Any, needs: tuple[bool, ...], n: int, reverse: bool
    ) -> list[Any]:
        return _cotangents(body, dtype, g, y, arguments, needs, n, reverse)

    rules = (rule,) if dtype.kind == "f" else ()
    return op(forward, *rules, name="scan", one_rule_for_all=bool(rules), promote=False)


def _cotangents(
    body: Body,
    dtype: Any,
    g: Any,
    y: Any,
    arguments: tuple[Any, ...],
    needs: tuple[bool, ...],
    n: int,
    reverse: bool,
) -> list[Any]:
    """The cotangents of the arguments: a scan of the adjoint the other way."""
    counts = body.counts
    flat = {dtype: y}
    for other in {kind.dtype for kind in body.carries} - {dtype}:
        flat[other] = body.records[other](*arguments, n=n, reverse=reverse)
    here, there = (slice(1, None), slice(None, n)) if reverse else (slice(None, n), slice(1, None))
    before = [body.block(flat[k.dtype], i, n)[here] for i, k in enumerate(body.carries)]
    blocks = [
        body.block(g, i, n) if kind.dtype == dtype else np.zeros(_shape(body, i, n), kind.dtype)
        for i, kind in enumerate(body.result_kinds)
        if kind.is_float
    ]
    floats = [sum(k.is_float for k in kinds) for kinds in (body.carries, body.stacked, body.summed)]
    of_carries, of_stacked, of_summed = split(blocks, *floats)
    elements, constants = split(arguments, *counts[:3])[1:]
    adjoint, more = body.adjoint(needs, arguments)
    last = [np.zeros(kind.shape, kind.dtype) for kind in body.carries if kind.is_float]
    given = [*last, *before, *elements, *(x[there] for x in of_carries), *of_stacked]
    given += [*constants, *of_summed, *more]
    results = {
        kind: record(*given, n=n, reverse=not reverse) for kind, record in adjoint.records.items()
    }
    found = iter(
        [
            adjoint.row(results[kind.dtype], i, n, n if reverse else 0)
            if i < adjoint.counts.carries
            else adjoint.block(results[kind.dtype], i, n)
            for i, kind in enumerate(adjoint.result_kinds)
        ]
    )
    first = n if reverse else 0
    cotangents: list[Any] = []
    own = iter(of_carries)
    for kind, need in zip(body.carries, needs, strict=False):
        if kind.is_float:
            total = next(found) + next(own)[first]
        cotangents.append(total if kind.is_float and need else None)
    return cotangents + [next(found) if need else None for need in needs[counts.carries :]]


def _shape(body: Body, i: int, n: int) -> tuple[int, ...]:
    rows = body.rows(i, n)
    return body.result_kinds[i].shape if rows is None else (rows, *body.result_kinds[i].shape)


# ------------------------------------------------------------------ the loop in C


class CLoop:
    """The loop over all steps as one C function; None in `function` where it cannot be."""

    def __init__(self, body: Body) -> None:
        self._lock = Lock()
        self.function: Any = None
        self.body = body
        if find_compiler() is None or not are_found():
            return
        if not body.steps or any(isinstance(step, BodyCheck) for step in body.steps):
            return
        try:
            deadline.within(deadline.SECONDS, self._build)
        except (BuildError, deadline.TooLongError):
            self.function = None

    def _build(self) -> None:
        body, counts = self.body, self.body.counts
        program, arguments, results = _program(body)
        plan = Plan(program)
        if len(plan.segments) != 1 or not plan.segments[0].is_c or plan.program.checks:
            return
        segment = plan.segments[0]
        for value in results:
            view = plan.views[value]
            dense = view.strides == dense_strides(value.shape)
            if plan.roots[view.root] is not value or view.offset or not dense or not value.size:
                return
        self._constants = {
            plan.views[value].root: _laid(source.array, plan.views[value].strides)
            for value, source in plan.program.inputs.items()
            if isinstance(source, Constant)
        }
        self._given = {
            plan.views[value].root: source.index
            for value, source in plan.program.inputs.items()
            if isinstance(source, Argument)
        }
        self._out = {plan.views[value].root: i for i, value in enumerate(results)}
        known = {*self._constants, *self._given, *self._out}
        if not known.issuperset(segment.roots):
            return
        self._roots, self._arena = segment.roots, Arena(plan).memory
        self.in_arena = bool(segment.in_arena)
        first = counts.carries + counts.stacked
        at = {index: root for root, index in self._given.items()}
        self._sums = [
            (plan.views[results[i]].root, at[body.arguments + i - first], i)
            for i in range(first, len(results))
        ]
        if not set(segment.roots).issuperset(root for pair in self._sums for root in pair[:2]):
            return
        code = CProgram(plan, SymbolNames(program, _Unnamed(body.arguments + counts.summed), plan.roots))
        code.text += _LOOP.format(found=found(segment, len(plan.roots)), name=segment.name)
        function = _built(code)["scan_loop"]
        function.restype = None
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        function.argtypes = [
            ctypes.py_object, *[number] * 3, *[pointer] * 2, number, *[pointer] * 3,
        ]  # fmt: skip
        self.function = function

    def run(self, given: list[ndarray], out: list[ndarray], n: int, reverse: bool) -> bool:
        """Run all steps, if there is a function in C."""
        if self.function is None:
            return False
        counts, rows = self.body.counts, {}
        bases: dict[int, ndarray] = dict(self._constants)
        partial = [np.zeros_like(x) for x in out[counts.carries + counts.stacked :]]
        last = counts.carries + counts.elements
        for root, index in self._given.items():
            if index < counts.carries:
                bases[root], rows[root] = _from(out[index], n if reverse else 0, reverse)
            elif index < last:
                bases[root], rows[root] = _from(given[index], n - 1 if reverse else 0, reverse)
            elif index < self.body.arguments:
                bases[root] = given[index]
            else:
                bases[root] = out[index - self.body.arguments + counts.carries + counts.stacked]
        for root, i in self._out.items():
            if i < counts.carries:
                bases[root], rows[root] = _from(out[i], n - 1 if reverse else 1, reverse)
            elif i < counts.carries + counts.stacked:
                bases[root], rows[root] = _from(out[i], n - 1 if reverse else 0, reverse)
            else:
                bases[root] = partial[i - counts.carries - counts.stacked]
        advancing = {root: step for root, step in rows.items() if root in self._roots}
        numbers = [np.array(x, np.int64) for x in (
            [*advancing], [*advancing.values()], *zip(*self._sums_with(out), strict=True),
        )]  # fmt: skip
        numbers += [np.zeros(0, np.int64)] * (5 - len(numbers))
        roots, steps, sources, targets, sizes = numbers
        call = tuple(bases[root] for root in self._roots)
        with self._lock:
            call = (*call, self._arena) if self.in_arena else call
            for start in range(0, n, CHUNK):
                self.function(
                    call, start, min(start + CHUNK, n), len(roots), address(roots), address(steps),
                    len(sources), address(sources), address(targets), address(sizes),
                )  # fmt: skip
        return True

    def _sums_with(self, out: list[ndarray]) -> list[tuple[int, int, int]]:
        return [(source, target, out[i].nbytes) for source, target, i in self._sums]


def _from(array: ndarray, row: int, reverse: bool) -> tuple[ndarray, int]:
    """The rows of an array from one on, and the bytes to the next."""
    step = array.strides[0] if len(array) > 1 else array.nbytes
    return array[row:], -step if reverse else step


def _laid(array: ndarray, strides: tuple[int, ...]) -> ndarray:
    if array.size < 2 or array.strides == tuple(s * array.itemsize for s in strides):
        return array
    laid = np.lib.stride_tricks.as_strided(
        np.empty(array.size, array.dtype), array.shape, [s * array.itemsize for s in strides]
    )
    laid[...] = array
    return laid


class _Unnamed:
    """A body has no names of the user's."""

    def __init__(self, arguments: int) -> None:
        self.argument_names = [f"argument_{i}" for i in range(arguments)]

    @staticmethod
    def function() -> None:
        """Nothing."""


_LOOP = """
EXPORT void scan_loop(const void *call, int64_t start, int64_t stop, int64_t advancing,
                      const int64_t *roots, const int64_t *steps, int64_t copied,
                      const int64_t *sources, const int64_t *targets, const int64_t *sizes) {{
{found}  for (int64_t k = 0; k < advancing; k++)
    memory[roots[k]] = (char *)memory[roots[k]] + start * steps[k];
  for (int64_t i = start; i < stop; i++) {{
    {name}_(memory);
    for (int64_t k = 0; k < copied; k++)
      __builtin_memcpy(memory[targets[k]], memory[sources[k]], sizes[k]);
    for (int64_t k = 0; k < advancing; k++)
      memory[roots[k]] = (char *)memory[roots[k]] + steps[k];
  }}
}}
"""


def _program(body: Body) -> tuple[Program, list[Value], list[Value]]:
    """The body as a program whose results all have memory of their own.

    A sum is an argument too: what was summed before.
    """
    program = Program()
    values: list[Value] = []

    def value(kind: Kind) -> Value:
        size = kind.dtype.itemsize
        strides = tuple(s * size for s in dense_strides(kind.shape))
        values.append(Value(len(values), kind.shape, kind.dtype, strides))
        return values[-1]

    for i, kind in enumerate(body.kinds):
        made = value(kind)
        if i < body.arguments:
            program.inputs[made] = Argument(i)

    def read(x: Any) -> Any:
        if isinstance(x, Ref):
            return values[x.slot]
        if isinstance(x, ndarray):
            made = value(Kind(x.shape, x.dtype))
            program.inputs[made] = Constant(np.ascontiguousarray(x), fixed=True)
            return made
        return x

    def inside(x: Any) -> Any:
        return type(x)(map(inside, x)) if isinstance(x, tuple | list) else read(x)

    for step in body.steps:
        assert isinstance(step, BodyStep)
        params = {key: inside(param) for key, param in step.params.items()}
        inputs = tuple(map(read, step.inputs))
        program.instructions.append(
            Instruction(step.record, inputs, params, values[step.out], "the body of a scan")
        )
    results = [read(x if isinstance(x, Ref) else np.asarray(x)) for x in body.results]
    first = body.counts.carries + body.counts.stacked
    for i, kind in enumerate(body.summed):
        before, total = value(kind), value(kind)
        program.inputs[before] = Argument(body.arguments + i)
        term = results[first + i]
        program.instructions.append(
            Instruction(add, (before, term), {}, total, "the body of a scan")
        )
        results[first + i] = total
    program.results = list(results)
    program = lowered(program)
    numbers = program.free_numbers()
    made = {s.output for s in program.instructions}
    for i, result in enumerate(program.results):
        if result not in made or result in program.results[:i]:
            copy = replace(result, number=next(numbers))
            params = {"shape": result.shape, "dtype": result.dtype}
            program.instructions.append(
                Instruction(_assigned, (result,), params, copy, "the body of a scan")
            )
            program.results[i] = copy
    return program, values[: body.arguments], list(program.results)
