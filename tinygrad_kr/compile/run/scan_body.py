"""The body of a `scan` as a program of its own, and its plan: one C function."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.ir.bindings import Argument, Constant
from tinygrad_kr.compile.ir.body import BodyCheck, BodyStep, Code, Kind, Ref
from tinygrad_kr.compile.ir.layout import dense_strides
from tinygrad_kr.compile.ir.ops import _assigned
from tinygrad_kr.compile.ir.program import Instruction, Program, Value
from tinygrad_kr.compile.passes.pipeline import lowered
from tinygrad_kr.compile.plan.plan import Plan
from tinygrad_kr.compile.plan.steps import Scan, TiledConvolution
from tinygrad_kr.ops.elementwise import add


class BodyPlan:
    """The plan of a body.

    given: by root, the number of the argument that lies there. out: by root, that of the result.
    constants: by root, the array. is_one_function: whether one C function computes the results,
    each into dense memory of its own, and solves no linear system.
    """

    is_one_function = _is_alone = False

    def __init__(self, code: Code) -> None:
        self.code = code
        if not code.steps or any(isinstance(step, BodyCheck) for step in code.steps):
            return
        self.program, self.results = body_program(code)
        self.plan = plan = Plan(self.program, in_c_order=set(self.results))
        if len(plan.segments) != 1 or not plan.segments[0].is_c or plan.program.checks:
            return
        self.segment = plan.segments[0]
        for value in self.results:
            view = plan.views[value]
            dense = view.strides == dense_strides(value.shape)
            if plan.roots[view.root] is not value or view.offset or not dense or not value.size:
                return
        inputs = plan.program.inputs.items()
        self.constants = {
            plan.views[value].root: laid(source.array, plan.views[value].strides)
            for value, source in inputs
            if isinstance(source, Constant)
        }
        self.given = {
            plan.views[value].root: source.index
            for value, source in inputs
            if isinstance(source, Argument)
        }
        self.out = {plan.views[value].root: i for i, value in enumerate(self.results)}
        known = {*self.constants, *self.given, *self.out}
        self.is_one_function = known.issuperset(self.segment.roots)
        status = set() if plan.status is None else {plan.views[plan.status].root}
        self._is_alone = (known | status).issuperset(self.segment.roots)

    def is_in_place(self) -> bool:
        """Whether the function can be a part of another program: it has no convolution, and no
        scan of its own."""
        if not self._is_alone or self.code.counts.summed:
            return False
        if any(array.size > MOST_CONSTANTS for array in self.constants.values()):
            return False
        return not any(isinstance(step, TiledConvolution | Scan) for step in self.plan.steps)


MOST_CONSTANTS = 64
"""Most elements of a constant that is written out in C."""


def laid(array: ndarray, strides: tuple[int, ...]) -> ndarray:
    """The array in this layout, in elements: itself, or a copy."""
    if array.size < 2 or array.strides == tuple(s * array.itemsize for s in strides):
        return array
    made = np.lib.stride_tricks.as_strided(
        np.empty(array.size, array.dtype), array.shape, [s * array.itemsize for s in strides]
    )
    made[...] = array
    return made


def body_program(body: Code) -> tuple[Program, list[Value]]:
    """The body as a program, and its results, which all have memory of their own.

    A sum is an argument too: what was summed before.
    """
    made = _Made(body)
    for step in body.steps:
        assert isinstance(step, BodyStep)
        params = {key: made.read(param) for key, param in step.params.items()}
        made.add(step.record, made.read(step.inputs), params, made.values[step.out])
    results = [made.read(x if isinstance(x, Ref) else np.asarray(x)) for x in body.results]
    first = body.counts.carries + body.counts.stacked
    for i, term in enumerate(results[first:]):
        before, total = (made.value(Kind(term.shape, term.dtype)) for _ in range(2))
        made.program.inputs[before] = Argument(body.arguments + i)
        made.add(add, (before, term), {}, total)
        results[first + i] = total
    made.program.results = list(results)
    program = lowered(made.program)
    computed = {s.output for s in program.instructions}
    numbers = program.free_numbers()
    for i, result in enumerate(program.results):
        if result not in computed or result in program.results[:i]:
            copy = replace(result, number=next(numbers))
            params = {"shape": result.shape, "dtype": result.dtype}
            program.instructions.append(Instruction(_assigned, (result,), params, copy, _LINE))
            program.results[i] = copy
    return program, list(program.results)


_LINE = "the body of a scan"


class _Made:
    """A program that is made of a body."""

    def __init__(self, body: Code) -> None:
        self.program = Program()
        self.values: list[Value] = []
        for i, kind in enumerate(body.kinds):
            value = self.value(kind)
            if i < body.arguments:
                self.program.inputs[value] = Argument(i)

    def value(self, kind: Kind) -> Value:
        """A new value, in C order."""
        size = kind.dtype.itemsize
        strides = tuple(s * size for s in dense_strides(kind.shape))
        self.values.append(Value(len(self.values), kind.shape, kind.dtype, strides))
        return self.values[-1]

    def add(self, record: Any, inputs: Any, params: dict[str, Any], output: Value) -> None:
        """One more instruction."""
        self.program.instructions.append(Instruction(record, inputs, params, output, _LINE))

    def read(self, x: Any) -> Any:
        """An input or a parameter with values for the arrays in it."""
        if isinstance(x, Ref):
            return self.values[x.slot]
        if isinstance(x, tuple | list):
            return type(x)([self.read(part) for part in x])
        if isinstance(x, ndarray):
            made = self.value(Kind(x.shape, x.dtype))
            self.program.inputs[made] = Constant(np.array(x, order="C"), fixed=True)
            return made
        return x
