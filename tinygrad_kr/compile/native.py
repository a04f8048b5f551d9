"""A plan made to run: C functions on fixed memory, and one Python function that calls them in turn
with the NumPy calls between them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.build import build
from tinygrad_kr.compile.c_code import c_function, c_source
from tinygrad_kr.compile.layout import empty
from tinygrad_kr.compile.plan import Call, Plan, Step, read_by
from tinygrad_kr.compile.program import Check, Program, Statement, Value
from tinygrad_kr.compile.sources import StaleError
from tinygrad_kr.ops import linalg


class Native:
    """`native(sources)` gives the arrays of the kept values by value."""

    def __init__(self, program: Program) -> None:
        plan = self.plan = Plan(program)
        self.kept = sorted(plan.program.kept(), key=lambda value: value.number)
        segments = _segments(plan.steps)
        functions = [
            c_function(plan, segment, f"part{i}")
            for i, segment in enumerate(segments)
            if not isinstance(segment[0], Call | Check)
        ]
        self.c_source = c_source(functions)
        library = build(self.c_source, {"mathematics.h": _mathematics()}) if functions else None
        self.memory = (ctypes.c_void_p * max(len(plan.roots), 1))()
        driver = _Driver(plan, self.memory, self.kept)
        for i, segment in enumerate(segments):
            first = segment[0]
            if isinstance(first, Check):
                driver.check(first)
            elif isinstance(first, Call):
                driver.call(first.statement)
            else:
                driver.part(getattr(library, f"part{i}"), segment)
        self.source = driver.source()
        self._run = driver.compiled()

    def __call__(self, sources: Sequence[ndarray]) -> list[ndarray]:
        """The kept values, in the order of `kept`; StaleError for sources laid out otherwise."""
        return self._run(sources)


def _mathematics() -> str:
    return files("tinygrad_kr.compile").joinpath("mathematics.h").read_text()


def _segments(steps: list[Step]) -> list[list[Step]]:
    """Runs of steps that are one C function, and the others by themselves."""
    segments: list[list[Step]] = []
    for step in steps:
        outside = isinstance(step, Call | Check)
        if not outside and segments and not isinstance(segments[-1][0], Call | Check):
            segments[-1].append(step)
        else:
            segments.append([step])
    return segments


class _Driver:
    """Writes the Python function, and holds what its names stand for."""

    def __init__(self, plan: Plan, memory: Any, kept: list[Value]) -> None:
        self.plan, self.memory, self.kept = plan, memory, kept
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            "memory": memory,
            "empty": np.empty,
            "address": _address,
            "laid": _laid,
            "matmul": np.matmul,
        }
        self._arrays: dict[Value, str] = {}
        self._held: list[ndarray] = []
        self._sources(list(plan.program.sources))

    def name(self, thing: Any, hint: str) -> str:
        """A name for an object."""
        for name, known in self.names.items():
            if known is thing:
                return name
        name = f"{hint.strip('_<>')}_{len(self.names)}"
        self.names[name] = thing
        return name

    def _sources(self, sources: list[Value]) -> None:
        written = set(self.plan.in_place.values())
        given = [f"a{value.number}" for value in sources]
        if given:
            self.lines.append(f"{''.join(name + ', ' for name in given)}= sources")
        self.names["held"] = held = [None] * len(sources)
        self.names["Stale"] = StaleError
        for i, (value, name) in enumerate(zip(sources, given, strict=True)):
            place = self.plan.places[value]
            strides = tuple(step * value.dtype.itemsize for step in place.strides)
            self._arrays[value] = name
            self.lines.append(f"if {name} is not held[{i}]:")
            if value.size > 1:
                self.lines.append(f"    if {name}.strides != {strides}:")
                if value in written:
                    self.lines.append("        raise Stale")
                else:
                    layout = self.name(place.strides, "strides")
                    self.lines.append(f"        {name} = laid({name}, {layout})")
            self.lines.append(f"    held[{i}] = {name}")
            self.lines.append(f"    memory[{place.root}] = address({name})")
        del held

    def array(self, value: Value) -> str:
        """The name of the array of a value, made from what it is a view of if need be."""
        if value in self._arrays:
            return self._arrays[value]
        if value in self.plan.in_place:
            return self.array(self.plan.in_place[value])
        view = self.plan.views[value]
        terms = self._terms(view)
        name = f"a{value.number}"
        self.lines.append(f"{name} = {self.name(view.op.forward, view.op.__name__)}({terms})")
        self._arrays[value] = name
        return name

    def _terms(self, statement: Statement) -> str:
        terms = [self._term(x) for x in statement.inputs]
        terms += [f"{name}={self._term(x)}" for name, x in statement.params.items()]
        return ", ".join(terms)

    def _term(self, x: Any) -> str:
        if isinstance(x, Value):
            return self.array(x)
        if x is None or x is ... or isinstance(x, bool | str) or type(x) is int:
            return repr(x) if x is not ... else "..."
        if type(x) is tuple:
            return f"({''.join(self._term(part) + ', ' for part in x)})"
        if type(x) is list:
            return f"[{', '.join(map(self._term, x))}]"
        return self.name(x, "given")

    def _own(self, value: Value) -> None:
        """Memory for a value: its own at each call if it outlives the call, else always the same.
        """
        if value in self._arrays or value in self.plan.in_place:
            return
        place = self.plan.places[value]
        if self.plan.roots[place.root] is not value:
            return
        if value in self.kept:
            name = f"a{value.number}"
            dtype = self.name(value.dtype, "dtype")
            self.lines.append(f"{name} = empty({value.shape}, {dtype})")
            if place.strides != _c_order(value.shape):
                layout = self.name(place.strides, "strides")
                make = self.name(empty, "empty_like")
                self.lines[-1] = f"{name} = {make}({value.shape}, {dtype}, {layout})"
            self.lines.append(f"memory[{place.root}] = address({name})")
        else:
            array = empty(value.shape, value.dtype, place.strides)
            name = self.name(array, f"buffer{value.number}")
            self.memory[place.root] = array.ctypes.data
        self._arrays[value] = name

    def part(self, function: Any, steps: list[Step]) -> None:
        """A C function."""
        from tinygrad_kr.compile.c_code import written_by

        for step in steps:
            for value in written_by(self.plan, step):
                self._own(value)
        function.restype = None
        self.lines.append(f"{self.name(function, 'part')}(memory)")

    def call(self, statement: Statement) -> None:
        """A NumPy call, whose result C may come to read."""
        output = statement.output
        forward = self.name(statement.op.forward, statement.op.__name__)
        place = self.plan.places[output]
        if statement.op is linalg.matmul and len(output.shape) > 1:
            terms = self._terms(statement)
            self._own(output)
            self.lines.append(f"matmul({terms}, out={self._arrays[output]})")
            return
        name = f"a{output.number}"
        dtype, layout = self.name(output.dtype, "dtype"), self.name(place.strides, "strides")
        made = f"{forward}({self._terms(statement)})"
        self.lines.append(f"{name} = laid({made}, {layout}, {dtype})")
        self.lines.append(f"memory[{place.root}] = address({name})")
        self._arrays[output] = name

    def check(self, check: Check) -> None:
        """A function that may raise."""
        terms = ", ".join([self.array(check.value), *map(self._term, check.rest)])
        self.lines.append(f"{self.name(check.function, 'check')}({terms})")

    def source(self) -> str:
        """The whole function."""
        results = ", ".join(self.array(value) for value in self.kept)
        lines = [*self.lines, f"return [{results}]"]
        return "def run(sources):\n    " + "\n    ".join(lines) + "\n"

    def compiled(self) -> Callable[[Sequence[ndarray]], list[ndarray]]:
        """The function itself."""
        namespace = dict(self.names)
        exec(compile(self.source(), "<compiled step>", "exec"), namespace)
        run: Callable[[Sequence[ndarray]], list[ndarray]] = namespace["run"]
        return np.errstate(all="ignore")(run)


def _address(array: ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _c_order(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def _laid(array: Any, strides: tuple[int, ...], dtype: Any = None) -> ndarray:
    """The array with its elements in these places: itself, or a copy."""
    array = np.asarray(array)
    if dtype is not None and array.dtype != dtype:
        array = array.astype(dtype)
    if array.size > 1 and array.strides != tuple(s * array.itemsize for s in strides):
        laid = empty(array.shape, array.dtype, strides)
        laid[...] = array
        return laid
    return array


__all__ = ["Native", "read_by"]
