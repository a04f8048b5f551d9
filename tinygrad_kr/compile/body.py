"""The body of a `scan`: recorded once, with the derivative of the whole loop, and run in C.

A body is a function of (carries, elements, constants), arrays all of them, that gives new carries,
results to stack and results to sum. Its adjoint is a body too, which runs over the same rows the
other way. So derivatives of every order are scans.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.autodiff import walk
from tinygrad_kr.batching import Check, Recorder, Seen, Step, vmap
from tinygrad_kr.compile.ir.body import BodyCheck, BodyStep, Code, Counts, Kind, Ref, split
from tinygrad_kr.compile.run.scan_loop import CLoop
from tinygrad_kr.ops.batch_rules import Call, Rows, expanded, node_of, plain
from tinygrad_kr.ops.elementwise import add
from tinygrad_kr.ops.node import Node, constant
from tinygrad_kr.ops.op import astype, op
from tinygrad_kr.ops.reduction import concatenate
from tinygrad_kr.ops.shape import reshape, swapaxes
from tinygrad_kr.ops.tracing import tracing

SMALL = 64
"""Threshold: most elements of a Tensor made in the body that is a constant, not an argument."""
MIN_WORK = 50_000
"""Threshold: ops after which a body is built in C."""

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
            len(self.parts[0]),
            len(self.parts[1]),
            len(self.parts[2]) + len(self.constants),
            len(stacked),
            len(summed),
        )
        self.body = _known(Body(Code(counts, kinds, made, tuple(map(self._ref, results)))))

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

    def __init__(self, code: Code) -> None:
        self.code = code
        self.counts, self.kinds, self.steps, self.results = counts, _, _, _ = code
        self.result_kinds = code.result_kinds()
        outputs = split(self.result_kinds, counts.carries, counts.stacked, counts.summed)
        self.carries, self.stacked, self.summed = outputs
        dtypes = dict.fromkeys(kind.dtype for kind in self.result_kinds)
        self.records = {dtype: _record(self, dtype) for dtype in dtypes}
        """By dtype, the op that gives all results of that dtype, of all steps, in one array."""
        self._adjoints: dict[tuple[bool, ...], tuple[Body, list[Any]]] = {}
        self._loop: CLoop | None = None
        self._work = 0

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
        values = [*arguments, *[None] * (len(self.kinds) - len(arguments))]
        for step in self.steps:
            if isinstance(step, BodyCheck):
                _check(step, _found(step.array, values))
                continue
            params = {key: plain(_found(param, values)) for key, param in step.params.items()}
            y = node_of(step.record(*_found(step.inputs, values), **params))
            if y._data.dtype != self.kinds[step.out].dtype:
                y = astype(y, dtype=self.kinds[step.out].dtype)
            values[step.out] = y if step.tracked or not y._requires_grad else constant(y._data)
        return [node_of(_found(x, values)) for x in self.results]

    # -------------------------------------------------------------- the loop

    def run(self, arguments: Sequence[ndarray], n: int, reverse: bool) -> dict[Any, ndarray]:
        """The results of n steps, by dtype: carries before and after each, stacked, summed."""
        flat = {dtype: np.empty(self.size(dtype, n), dtype) for dtype in self.records}
        out = [self.block(flat[k.dtype], i, n) for i, k in enumerate(self.result_kinds)]
        given = [
            np.asarray(x, kind.dtype, order="C")
            for x, kind in zip(arguments, self.kinds, strict=False)
        ]
        carries = self.counts.carries
        for block, first in zip(out[:carries], given[:carries], strict=True):
            block[n if reverse else 0] = first
        for total in out[carries + self.counts.stacked :]:
            total[...] = 0
        if not n:
            return flat
        loop = self._built_loop(n)
        if loop is None or not loop.run(given, out, n, reverse):
            self._by_numpy(given, out, n, reverse)
        return flat

    def _built_loop(self, n: int) -> CLoop | None:
        self._work += n * len(self.steps)
        if self._loop is None and self._work > MIN_WORK:
            self._loop = CLoop(self.code)
        return self._loop

    @np.errstate(all="ignore")
    def _by_numpy(self, given: list[ndarray], out: list[ndarray], n: int, reverse: bool) -> None:
        counts = self.counts
        _, elements, constants = split(given, *counts[:3])
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
        for step in self.steps:
            if isinstance(step, BodyCheck):
                step.function(_found(step.array, values), *step.rest)
                continue
            params = {key: _found(param, values) for key, param in step.params.items()}
            y = step.record.forward(*_found(step.inputs, values), **params)
            values[step.out] = np.asarray(y, self.kinds[step.out].dtype)
        return [_found(x, values) for x in self.results]

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

    def adjoint(self, wanted: tuple[bool, ...], arguments: Sequence[Any]) -> tuple[Body, list[Any]]:
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
        elements = [x[0, ...] if len(x) else np.ones(x.shape[1:], x.dtype) for x in elements]
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
            found = [_zeros_like(x) if (g := ends.get(x)) is None else node_of(g) for x in given]
            return split(found, *counts[:3])

        found = recording.run(pulled, *recording.parts)
        _, of_elements, of_constants = split(wanted, *counts[:3])
        recording.finish(
            [g for g, kind in zip(found[0], self.carries, strict=True) if kind.is_float],
            [g for g, want in zip(found[1], of_elements, strict=True) if want],
            [g for g, want in zip(found[2], of_constants, strict=True) if want],
        )
        return recording.body, recording.constants


def _found(x: Any, values: Sequence[Any]) -> Any:
    """What stands for an input or a parameter, by the values of this step."""
    if isinstance(x, Ref):
        value = values[x.slot]
        return constant(value._data) if x.detached and isinstance(value, Node) else value
    if isinstance(x, tuple | list):
        return type(x)([_found(part, values) for part in x])
    return x


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
    record: Any = op(forward, *rules, name="scan", one_rule_for_all=bool(rules), promote=False)
    record.batch_rule = partial(_batched, body, dtype)
    return record


def _batched(body: Body, dtype: Any, call: Call) -> Any:
    """All scans of a batch as one, whose body is for all rows."""
    counts, n = body.counts, call.params["n"]
    carries, elements, constants = split(call.inputs, *counts[:3])
    carries = [Rows(expanded(x, call)) for x in carries]
    axes = tuple(0 if isinstance(x, Rows) else None for x in (*carries, *elements, *constants))
    given = [x.tensor for x in carries]
    given += [swapaxes(x.tensor, axis1=0, axis2=1) if isinstance(x, Rows) else x for x in elements]
    given += [x.tensor if isinstance(x, Rows) else x for x in constants]
    firsts, rows, shared = split([_array(x) for x in given], *counts[:3])
    rows = [x[0, ...] if n else np.zeros(x.shape[1:], x.dtype) for x in rows]
    recording = Recording("scan", (firsts, rows, shared))
    applied = vmap(lambda *arguments: body.applied(arguments), axes)
    results = recording.run(lambda *parts: applied(*(x for part in parts for x in part)),
                            *recording.parts)  # fmt: skip
    recording.finish(*split(results, *counts[:1], *counts[3:]))
    batch = recording.body
    flat = batch.records[dtype](*given, *recording.constants, **call.params)
    parts = []
    for i, kind in enumerate(batch.result_kinds):
        if kind.dtype == dtype:
            block = batch.block(flat, i, n)
            block = block if batch.rows(i, n) is None else swapaxes(block, axis1=0, axis2=1)
            size = math.prod(block._data.shape[1:])
            parts.append(reshape(block, shape=(call.n, size)))
    return concatenate(*parts, axis=1)


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
