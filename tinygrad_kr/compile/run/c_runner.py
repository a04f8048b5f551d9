"""A plan made to run: C functions, and one Python function that calls them in turn with the NumPy
calls between them.

Each call hands C all arrays in one tuple (see `arguments`). Results are new arrays at each call.
Gradients reuse the arrays of the call before, unless a `.grad` has been read since: what was read
stays as it was.
"""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.codegen.arguments import LOOK_UP, Arguments
from tinygrad_kr.compile.codegen.convolution import Kernel, kernels
from tinygrad_kr.compile.codegen.loops import c_function, c_source
from tinygrad_kr.compile.codegen.naming import Names
from tinygrad_kr.compile.ir.bindings import (
    Argument,
    Gradient,
    GradientWrite,
)
from tinygrad_kr.compile.ir.c_ops import C_TYPES
from tinygrad_kr.compile.ir.program import Check, Program, Value
from tinygrad_kr.compile.plan.plan import Plan, written_by
from tinygrad_kr.compile.plan.steps import OUTSIDE, Call, Convolution, Step, read_by, statements_of
from tinygrad_kr.compile.run.driver import _Driver
from tinygrad_kr.native import kernels as native_kernels
from tinygrad_kr.native.build import build, included
from tinygrad_kr.native.compiler import HoldingLibrary
from tinygrad_kr.ops import linalg
from tinygrad_kr.ops.writes import address

QUICK = 100_000
"""Elements in all up to which a program takes some 10 microseconds."""


def _work(plan: Plan) -> int:
    return sum(root.size for root in plan.roots)


class Native:
    """`native.run_if(condition, missed)(leaves)`: one call of the compiled function, given its
    flattened arguments."""

    def __init__(self, recording: Any, program: Program) -> None:
        plan = Plan(program)
        self.plan = plan
        names = Names(plan.program, recording, plan.roots)
        driver = _Driver(plan, recording, names)
        segments = _segments(plan.steps)
        functions = [LOOK_UP]
        given: list[Arguments] = []
        for i, segment in enumerate(segments):
            texts, arguments = _texts(driver, segment, f"part{i}")
            functions += map(names, texts)
            given.append(arguments)
        self.looped = _looped(plan, recording, segments, given)
        if self.looped is not None:
            functions.append(names(self.looped.c_source()))
        self.c_source = c_source(functions)
        library: Any = _built(self.c_source) if len(functions) > 1 else None
        if library is not None and _work(plan) < QUICK:
            # So short a call is not worth to let other threads have the interpreter meanwhile.
            library = HoldingLibrary(library)
        for i, (segment, arguments) in enumerate(zip(segments, given, strict=True)):
            first = segment[0]
            if isinstance(first, Check):
                driver.check(first)
            elif isinstance(first, Call):
                driver.call(first.statement)
            elif isinstance(first, Convolution):
                driver.convolution(first, f"part{i}", library, arguments)
            else:
                driver.part(library[f"part{i}"], segment, arguments)
        driver.finish()
        if self.looped is not None:
            self.looped.attach(library)
        self.source = driver.source()
        self.run_if = driver.compiled_if
        self.parts = driver.parts
        self.calls = driver.calls
        self.loops = sum(not isinstance(step, OUTSIDE) for step in plan.steps)
        self.products = sum(
            isinstance(step, Call) and step.statement.op is linalg.matmul for step in plan.steps
        )
        self.workspace = driver.workspace
        self.arena = driver.arena
        self.given = given
        """What each segment's C functions are given."""


def _built(source: str) -> ctypes.CDLL:
    """The loaded program, connected with the library of products where it calls them."""
    program = partial(build, source, included(source))
    return (
        native_kernels.connected(program) if native_kernels.SHARE_POINTER in source else program()
    )


def _texts(driver: _Driver, segment: list[Step], name: str) -> tuple[list[str], Arguments]:
    """The C functions of a segment, and the arrays that they are given."""
    plan, first = driver.plan, segment[0]
    size = len(plan.roots)
    if isinstance(first, Convolution):
        found = kernels(plan, first, name)
        roots = {root for kernel in found for root in kernel.roots}
        arguments = Arguments(roots, driver.arena.starts)
        return [_of_a_convolution(kernel, arguments, size) for kernel in found], arguments
    if isinstance(first, OUTSIDE):
        return [], Arguments((), {})
    values = {value for step in segment for value in (*read_by(step), *written_by(plan, step))}
    arguments = Arguments({plan.places[value].root for value in values}, driver.arena.starts)
    return [c_function(plan, segment, name) + arguments.entry(name, size)], arguments


def _of_a_convolution(kernel: Kernel, arguments: Arguments, size: int) -> str:
    return (
        f"{kernel.source('static')}\n"
        f"EXPORT void {kernel.name}_of(const void *call, void **own, int64_t start, "
        f"int64_t count) {{\n{arguments.found(size)}  {kernel.name}(memory, own, start, count);\n"
        "}\n"
    )


class Looped:
    """The whole step again and again without Python: for programs that are one C function.

    result: the value of each step that is kept.
    """

    CHUNK = 20_000
    """Steps after which Python may interrupt."""

    def __init__(self, plan: Plan, result: Value, arguments: Arguments) -> None:
        self.plan, self.result, self.given = plan, result, arguments
        self._roots = {
            source.index: plan.places[value].root
            for value, source in plan.program.sources.items()
            if isinstance(source, Argument)
        }

    def c_source(self) -> str:
        """A loop around the one function; `steps` are the bytes by which `roots` advance."""
        kind, root = C_TYPES[self.result.dtype], self.plan.places[self.result].root
        return (
            "EXPORT void many(const void *call, int64_t start, int64_t stop, int64_t advancing,\n"
            f"                 const int64_t *roots, const int64_t *steps, {kind} *results) {{\n"
            f"{self.given.found(len(self.plan.roots))}"
            "  for (int64_t k = 0; k < advancing; k++)\n"
            "    memory[roots[k]] = (char *)memory[roots[k]] + start * steps[k];\n"
            "  for (int64_t i = start; i < stop; i++) {\n"
            "    part0_(memory);\n"
            f"    results[i] = *({kind} *)memory[{root}];\n"
            "    for (int64_t k = 0; k < advancing; k++)\n"
            "      memory[roots[k]] = (char *)memory[roots[k]] + steps[k];\n"
            "  }\n"
            "}\n"
        )

    def attach(self, library: Any) -> None:
        """Find the function in the built library."""
        self.function = library["many"]
        self.function.restype = None
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self.function.argtypes = [ctypes.py_object, *[number] * 3, *[pointer] * 3]

    def loop(self, n: int, advancing: dict[int, tuple[ndarray, int]]) -> Loop:
        """n steps, before each of which argument i, now `array`, advances by `nbytes`, where
        `advancing[i]` is (array, nbytes)."""
        known = {self._roots[i]: given for i, given in advancing.items() if i in self._roots}
        return Loop(self, n, known)


class NotInPlaceError(RuntimeError):
    """An argument that should advance is read from a copy."""


class Loop:
    """Takes the place of a program's C function in one call, and runs it n times.

    results: the result of every step.
    """

    def __init__(self, looped: Looped, n: int, advancing: dict[int, tuple[ndarray, int]]) -> None:
        self.looped, self.advancing = looped, advancing
        self.results = np.empty(n, looped.result.dtype)

    def __call__(self, call: tuple[ndarray, ...]) -> None:
        """Run all steps. Raises NotInPlaceError, with nothing done, where none can be run."""
        looped, results = self.looped, self.results
        for root, (array, _) in self.advancing.items():
            if call[looped.given.roots.index(root)] is not array:
                raise NotInPlaceError
        roots = np.array([*self.advancing], np.int64)
        steps = np.array([nbytes for _, nbytes in self.advancing.values()], np.int64)
        for start in range(0, len(results), looped.CHUNK):
            stop = min(start + looped.CHUNK, len(results))
            looped.function(
                call, start, stop, len(roots), address(roots), address(steps), address(results)
            )


def _looped(
    plan: Plan, recording: Any, segments: list[list[Step]], given: list[Arguments]
) -> Looped | None:
    """A loop in C, if a step is one C function that leaves all where the next one reads it."""
    program = plan.program
    if len(segments) != 1 or isinstance(segments[0][0], OUTSIDE):
        return None
    result = program.results[0] if recording.single and program.results else None
    if not isinstance(result, Value) or result.shape or result not in program.kept():
        return None
    if any(isinstance(source, Gradient) for source in program.sources.values()):
        return None
    for effect in program.effects:
        settled = isinstance(effect, GradientWrite) or effect.value in plan.in_place
        if not settled:
            return None
    made = {s.output for step in plan.steps for s in statements_of(step)}
    if result not in made or result.dtype not in C_TYPES:
        return None
    return Looped(plan, result, given[0])


def _segments(steps: list[Step]) -> list[list[Step]]:
    """Runs of steps that are one C function, and the others by themselves."""
    segments: list[list[Step]] = []
    for step in steps:
        outside = isinstance(step, OUTSIDE)
        if not outside and segments and not isinstance(segments[-1][0], OUTSIDE):
            segments[-1].append(step)
        else:
            segments.append([step])
    return segments
