"""A plan made to run: C functions, and one Python function that calls them in turn with the NumPy
calls between them.

Each call hands C all arrays in one tuple (see `arguments`). Results are new arrays at each call.
Gradients reuse the arrays of the call before, unless a `.grad` has been read since: what was read
stays as it was.
"""

from __future__ import annotations

import re
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.codegen.program import CProgram
from tinygrad_kr.compile.ir.bindings import Argument
from tinygrad_kr.compile.ir.program import Check, Program, Value
from tinygrad_kr.compile.plan.classify import is_for_library
from tinygrad_kr.compile.plan.plan import Plan
from tinygrad_kr.compile.plan.steps import OUTSIDE, Call, is_returned
from tinygrad_kr.compile.run.driver import _Driver
from tinygrad_kr.language import Text
from tinygrad_kr.native import choice
from tinygrad_kr.native import kernels as native_kernels
from tinygrad_kr.native.build import BuildError, build, included
from tinygrad_kr.native.compiler import SOURCE, HoldingLibrary
from tinygrad_kr.native.foreign import ctypes
from tinygrad_kr.native.memory import keep_freed_memory
from tinygrad_kr.ops import kernels, linalg
from tinygrad_kr.ops.writes import address

MAX_HOLDING = 100_000
"""Most elements of a program, about 10 us, that runs without releasing the interpreter lock."""

LARGE = 2**15
"""Threshold: elements of a result of NumPy's whose memory the next call gets without the system."""


def _work(plan: Plan) -> int:
    return sum(root.size for root in plan.roots)


class CRunner:
    """A program in C and NumPy calls: `run_if(condition, missed)(leaves)` is one call of the
    compiled function, given its flattened arguments."""

    def __init__(self, tracer: Any, program: Program, plan: Plan, code: CProgram) -> None:
        self.program, self.plan, self.code = program, plan, code
        driver = _Driver(plan, tracer, code.names.by_number)
        library: Any = None if code.is_empty else _built(code)
        if library is not None and _work(plan) < MAX_HOLDING:
            # So short a call is not worth to let other threads have the interpreter meanwhile.
            library = HoldingLibrary(library)
        for segment in plan.segments:
            first = segment.steps[0]
            if isinstance(first, Check):
                driver.check(first)
            elif isinstance(first, Call):
                driver.call(first.instruction)
            else:
                driver.part(library[segment.name], segment)
        driver.finish()
        if any(is_returned(step) and step.instruction.output.size > LARGE for step in plan.steps):
            keep_freed_memory()
        self.looped = None if plan.looped is None else Looped(plan, plan.looped)
        if self.looped is not None:
            self.looped.attach(library)
        self.python_source = driver.source()
        self.run_if = driver.compiled_if
        self.parts = driver.parts
        self.calls = driver.calls
        self.loops = sum(not isinstance(step, OUTSIDE) for step in plan.steps)
        self.products = sum(
            isinstance(step, Call) and step.instruction.op is linalg.matmul for step in plan.steps
        )
        self.workspace = driver.workspace
        self.arena = driver.arena

    @property
    def source(self) -> str:
        """The C, with the user's names and lines, and the Python that calls it."""
        return f"{self.code.shown()}\n{self.python_source}"

    def summary(self, lang: str | None = None) -> str:
        """The steps of the program, in one line."""
        text = _ONE_PART if len(self.parts) == 1 else _PARTS
        return text.say(
            lang,
            parts=len(self.parts),
            loops=self.loops,
            calls=self.calls,
            products=self.products,
            size=self.workspace,
        )


_REST = Text(
    "of {loops} loops, {calls} NumPy calls ({products} matrix products), {size:,} bytes of "
    "workspace",
    "반복문 {loops}개, NumPy 호출 {calls}번 (행렬 곱 {products}번), 작업 메모리 {size:,}바이트",
)
_PARTS = Text(f"{{parts}} C functions {_REST.en}", f"C 함수 {{parts}}개, {_REST.ko}")
_ONE_PART = Text(f"{{parts}} C function {_REST.en}", f"C 함수 {{parts}}개, {_REST.ko}")


def begin_products(program: Program) -> None:
    """Build the shared libraries that the program will need, in other threads, while Python goes
    on."""
    for instruction in program.instructions:
        if is_for_library(instruction):
            native_kernels.begin_library(choice.suffix_of(instruction.output.dtype.name))


def _built(code: CProgram) -> ctypes.CDLL:
    """The loaded program, connected with the shared library where it calls that.

    A BuildError says which of the user's lines the compiler complains of.
    """
    program = partial(build, code.text, included(code.text))
    try:
        for dtype in {dtype for dtype, _ in code.solvers.values()}:
            kernels.begin(("solving", dtype))
        library = (
            native_kernels.connected(program, code.products) if code.is_connected else program()
        )
        for pointer, (dtype, name) in code.solvers.items():
            solvers = kernels.of_header("solving", dtype)
            if solvers is None:
                raise OSError("the kernels of linear systems cannot be built")
            function = ctypes.cast(getattr(solvers, name), ctypes.c_void_p)
            ctypes.c_void_p.in_dll(library, pointer).value = function.value
        return library
    except BuildError as error:
        for number in dict.fromkeys(_NUMBERED.findall(error.output)):
            if origin := code.origin(int(number)):
                error.add_note(f"line {number} of {SOURCE} computes {origin}")
        raise


_NUMBERED = re.compile(rf"\b{re.escape(SOURCE)}[:(](\d+)")
"""The number of a line in what a compiler says."""


class Looped:
    """The whole step again and again without Python: for programs that are one C function.

    result: the value of each step that is kept.
    """

    CHUNK = 20_000
    """Most steps after which Python may interrupt."""
    SECONDS = 0.05
    """Most seconds after which it may, where a step takes less."""

    def __init__(self, plan: Plan, result: Value) -> None:
        self.result, self.given = result, plan.segments[0].roots
        noted = None if plan.status is None else plan.views[plan.status].root
        self.status = None if noted is None else self.given.index(noted)
        """Where in the call the array lies in which a check notes that it refuses an element."""
        self._roots = {
            source.index: plan.views[value].root
            for value, source in plan.program.inputs.items()
            if isinstance(source, Argument)
        }

    def attach(self, library: Any) -> None:
        """Find the function in the built library."""
        self.function = library["loop"]
        self.function.restype = ctypes.c_int64
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self.function.argtypes = [ctypes.py_object, *[number] * 3, *[pointer] * 3]

    def loop(self, n: int, advancing: dict[int, tuple[ndarray, int]]) -> LoopedCall:
        """n steps, before each of which argument i, now `array`, advances by `nbytes`, where
        `advancing[i]` is (array, nbytes)."""
        known = {self._roots[i]: given for i, given in advancing.items() if i in self._roots}
        return LoopedCall(self, n, known)


class NotInPlaceError(RuntimeError):
    """An argument that should advance is read from a copy."""


class RefusedError(RuntimeError):
    """A check refuses an element of the first step, of which nothing is done."""


class LoopedCall:
    """Takes the place of a program's C function in one call, and runs it n times.

    results: the result of every step, up to the first one that a check refuses.
    """

    def __init__(self, looped: Looped, n: int, advancing: dict[int, tuple[ndarray, int]]) -> None:
        self.looped, self.advancing = looped, advancing
        self.results = np.empty(n, looped.result.dtype)

    def __call__(self, call: tuple[ndarray, ...]) -> None:
        """Run all steps, or those before the first one that a check refuses.

        Raises NotInPlaceError or RefusedError, with nothing done, where that is none.
        """
        looped, results = self.looped, self.results
        for root, (array, _) in self.advancing.items():
            if call[looped.given.index(root)] is not array:
                raise NotInPlaceError
        roots = np.array([*self.advancing], np.int64)
        steps = np.array([nbytes for _, nbytes in self.advancing.values()], np.int64)
        done, chunk = 0, 1
        while done < len(results):
            stop, begun = min(done + chunk, len(results)), perf_counter()
            done = looped.function(
                call, done, stop, len(roots), address(roots), address(steps), address(results)
            )
            if done < stop:
                self._refuse(call, done)
                return
            slow = perf_counter() - begun > looped.SECONDS / 2
            chunk = max(chunk // 2, 1) if slow else min(2 * chunk, looped.CHUNK)

    def _refuse(self, call: tuple[ndarray, ...], done: int) -> None:
        """Keep the results of the steps done; Python calls the next one, which raises."""
        assert self.looped.status is not None
        call[self.looped.status][0] = 0
        self.results = self.results[:done]
        if not done:
            raise RefusedError
