"""A program without C: one Python function that calls `op.forward` for each instruction in turn.

An optimizer updates its parameters itself, since `Optimizer.step` already works in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.codegen.naming import SymbolNames
from tinygrad_kr.compile.ir.bindings import (
    Argument,
    Constant,
    Gradient,
    GradientWrite,
    Leaf,
    LeafWrite,
    Option,
    StaleError,
    StateArray,
    StateNumber,
)
from tinygrad_kr.compile.ir.globals import Globals
from tinygrad_kr.compile.ir.program import Check, Instruction, Program, Value
from tinygrad_kr.compile.passes.expand import expanded, with_elements_checked
from tinygrad_kr.compile.passes.simplify import simplified, without_dead_code
from tinygrad_kr.compile.trace.condition import Condition
from tinygrad_kr.compile.trace.optimizer_step import TracedStep
from tinygrad_kr.compile.trace.tracer import Tracer
from tinygrad_kr.escape import argument, comment
from tinygrad_kr.language import Text
from tinygrad_kr.native.foreign import why_never
from tinygrad_kr.ops import shape
from tinygrad_kr.ops.node import constant
from tinygrad_kr.ops.writes import bump_versions
from tinygrad_kr.optim.optimizer import Optimizer


class NumPyRunner:
    """A program replayed by the ops' own functions."""

    looped = None

    def __init__(self, tracer: Tracer) -> None:
        program = with_elements_checked(simplified(stepped_by_optimizers(tracer)))
        if any(instruction.op is shape.stack for instruction in program.instructions):
            program = simplified(expanded(program))  # rows computed alike become one computation
        self.program = program
        replay = _Replay(program, tracer)
        self.source = SymbolNames(program, tracer, ()).in_python(replay.source())
        self._run = replay.compiled()

    def run_if(self, condition: Condition, missed: Any, /) -> Callable[..., Any]:
        """The function; `missed`, with nothing done, where a condition does not hold."""
        return condition.before("return run(leaves)", {"run": self._run}, missed)

    def summary(self, lang: str | None = None) -> str:
        """What the trace became, in one line."""
        remedy = why_never() or 'pip install "tinygrad_kr[compile]" brings one'
        return _SUMMARY.say(lang, calls=len(self.program.instructions), remedy=remedy)


_SUMMARY = Text(
    "{calls} NumPy calls (there is no C compiler here; {remedy})",
    "NumPy 호출 {calls}번 (C 컴파일러 없음: {remedy})",
)


# ------------------------------------------------------------------ optimizers


@dataclass(slots=True)
class OptimizerStep:
    """The optimizer updates those of its parameters that have gradients."""

    optimizer: Any
    updated: list[Any]
    value: Value | None = None

    def apply(self, array: Any = None) -> None:
        """One step."""
        Optimizer.step(self.optimizer)

    def replaces(self, source: Any) -> bool:
        """Never what a program reads after it."""
        return False

    def same(self, other: Any) -> bool:
        """Whether both are steps of the same optimizer."""
        return isinstance(other, OptimizerStep) and other.optimizer is self.optimizer


def stepped_by_optimizers(tracer: Tracer) -> Program:
    """The program without the updates that its optimizers can make by themselves at its end; as it
    is where something reads what an update has made, or changes it further."""
    program, steps = tracer.program, tracer.steps
    written = {e.node: e.value for e in program.outputs if isinstance(e, LeafWrite)}
    made = {}
    for parameter, was, _, now in (update for step in steps for update in step.updates):
        source = program.inputs.get(was)
        untouched = isinstance(source, Leaf) and source.node is parameter
        if not untouched or written.get(parameter) is not now:
            return program
        made[parameter] = now
    left = without_dead_code(replace(program, outputs=_with_steps(program, steps, made)))
    read_again = {instruction.output for instruction in left.instructions} & set(made.values())
    return program if read_again else left


def _with_steps(program: Program, steps: list[TracedStep], made: dict[Any, Value]) -> list[Any]:
    """The outputs, with steps of optimizers on the gradients of that moment for what these do."""
    outputs: list[Any] = []
    given: dict[Any, Value | None] = {}
    for step in steps:
        gradients = {parameter: gradient for parameter, _, gradient, _ in step.updates}
        for parameter in step.optimizer._param_states:
            gradient = gradients.get(parameter)
            if gradient is None or not isinstance(program.inputs.get(gradient), Gradient):
                outputs.append(GradientWrite(parameter, gradient))
                given[parameter] = gradient
        outputs.append(OptimizerStep(step.optimizer, list(gradients)))
    for output in program.outputs:
        done = isinstance(output, StateArray | StateNumber)
        if isinstance(output, LeafWrite):
            done = output.node in made
        elif isinstance(output, GradientWrite):
            done = output.leaf in given and given[output.leaf] is output.value
        if not done:
            outputs.append(output)
    return outputs


# ------------------------------------------------------------------ the replay


class _Replay(Globals):
    """Writes the Python function, a line for each instruction, and holds what its names stand for.

    The array of a result, gradient or written Tensor is copied unless its memory is new.
    """

    def __init__(self, program: Program, tracer: Tracer) -> None:
        super().__init__({"Stale": StaleError, "constant": constant})
        self.program, self.tracer = program, tracer
        self.lines: list[str] = []
        self._kept = program.kept()
        self._given: set[Value] = set(program.inputs)
        """Values whose array is in other hands."""
        self._sources()
        self._statements()
        self._end()

    def source(self) -> str:
        """The whole function."""
        return "def run(leaves):\n    " + "\n    ".join(self.lines) + "\n"

    def compiled(self) -> Callable[[Sequence[Any]], Any]:
        """The function itself."""
        exec(compile(self.source(), "<compiled step>", "exec"), self.names)
        run: Callable[[Sequence[Any]], Any] = np.errstate(all="ignore")(self.names.pop("run"))
        return run

    def _stale_if(self, condition: str) -> None:
        self.lines += [f"if {condition}:", "    raise Stale"]

    def _sources(self) -> None:
        for output in self.program.outputs:
            written = [output.node] if isinstance(output, LeafWrite) else []
            if isinstance(output, OptimizerStep):
                written = output.updated
                optimizer = self.name(output.optimizer, "optimizer")
                parameters = len(output.optimizer._param_states)
                self._stale_if(f"len({optimizer}._param_states) != {parameters}")
            for leaf in written:
                self._stale_if(f"not {self.name(leaf, 'leaf')}._data.flags.writeable")
        sources = self.program.inputs
        if any(isinstance(s, Option | StateArray | StateNumber) for s in sources.values()):
            for step in self.tracer.steps:
                self.lines.append(f"{self.name(step.prepare, 'prepare')}()")
        for value, source in sources.items():
            name = self.term(value)
            if isinstance(source, Constant):
                self.names[name] = source.array
            elif isinstance(source, Argument):
                plain = source.index in self.tracer.plain_arguments
                self.lines.append(f"{name} = leaves[{source.index}]{'' if plain else '._data'}")
            else:
                dtype = self.name(value.dtype, "dtype")
                self.lines.append(f"{name} = {self.name(source.fetch, 'fetch')}()")
                self._stale_if(f"{name}.shape != {value.shape} or {name}.dtype != {dtype}")

    def _statements(self) -> None:
        instructions = self.program.instructions
        checks = sorted(self.program.checks, key=lambda check: check.after)
        lasting = {*self._kept, *self._given, *(check.value for check in checks)}
        last = {
            value: i for i, instruction in enumerate(instructions) for value in instruction.reads()
        }
        for i, instruction in enumerate(instructions):
            while checks and checks[0].after <= i:
                self._check(checks.pop(0))
            self._statement(instruction)
            read = {value for value in instruction.reads() if last[value] == i} - lasting
            if read:
                self.lines.append(f"del {', '.join(map(self.term, read))}")
        for check in checks:
            self._check(check)

    def _check(self, check: Check) -> None:
        terms = ", ".join(map(self.term, (check.value, *check.rest)))
        self.lines.append(f"{self.name(check.function, 'check')}({terms})")

    def _statement(self, instruction: Instruction) -> None:
        op, output = instruction.op, instruction.output
        terms = [self.term(x) for x in instruction.inputs]
        terms += [argument(name, self.term(x)) for name, x in instruction.params.items()]
        made = f"{self.name(op.forward, op.__name__)}({', '.join(terms)})"
        if not _gives_its_dtype(instruction):
            made = f"{self.name(_in_dtype, 'in_dtype')}({made}, {self.name(output.dtype, 'dtype')})"
        if output in self._kept and not isinstance(op.forward, np.ufunc):
            made = f"{self.name(_owned, 'owned')}({made})"
        where = f"{comment(op.__name__)}, {comment(instruction.source_line)}"
        self.lines.append(f"{self.term(output)} = {made}  # {where}")

    def array(self, value: Value) -> str:
        """The variable that holds a value's array."""
        return f"a{value.number}"

    # -------------------------------------------------------------- the end

    def _end(self) -> None:
        """What a call returns and leaves behind."""
        outputs = self.program.outputs
        results = [self._result(i, result) for i, result in enumerate(self.program.results)]
        terms = [self._lasting(output) for output in outputs]
        gradients = [
            f"{self.name(output.leaf, 'leaf')}._grad"
            for output in outputs
            if isinstance(output, GradientWrite)
        ]
        self.lines += [f"before = [{', '.join(gradients)}]", "try:", "    pass"]
        for output, term in zip(outputs, terms, strict=True):
            if isinstance(output, GradientWrite):
                self.lines.append(f"    {self.name(output.leaf, 'leaf')}._grad = {term}")
            else:
                self.lines.append(f"    {self.name(output.apply, 'apply')}({term})")
        self.lines += [
            "except BaseException:",
            f"    [{', '.join(gradients)}] = before",
            "    raise",
        ]
        if nodes := [output.node for output in outputs if isinstance(output, LeafWrite)]:
            note = self.name(bump_versions, "note_writes")
            self.lines.append(f'{note}({self.name(nodes, "leaves")}, "a compiled step")')
        if self.tracer.single:
            self.lines.append(f"return {results[0]}")
        else:
            rebuild = self.name(self.tracer.rebuild, "rebuild")
            self.lines.append(f"return {rebuild}([{', '.join(results)}])")

    def _result(self, i: int, result: Any) -> str:
        if not isinstance(result, Value):
            return self.name(result, "result")
        made = self._own(result)
        if result not in self.tracer.plain:
            made = f"constant({made})"
        elif not result.shape:
            made = f"{made}[()]"
        self.lines.append(f"result{i} = {made}")
        return f"result{i}"

    def _lasting(self, output: Any) -> str:
        """The array that an output takes; never memory that another output writes to."""
        if output.value is None:
            return "" if isinstance(output, OptimizerStep) else "None"
        own = self._own(output.value)
        return f"constant({own})" if isinstance(output, GradientWrite) else own

    def _own(self, value: Value) -> str:
        """An array of the value that nothing else has."""
        if value not in self._given:
            self._given.add(value)
            return self.term(value)
        copy = f"copy{len(self.lines)}"
        self.lines.append(f"{copy} = {self.term(value)}.copy()")
        return copy


def _gives_its_dtype(instruction: Instruction) -> bool:
    """Whether `forward` gives an array of the traced dtype: a ufunc whose arrays have it too."""
    ufunc, output = isinstance(instruction.op.forward, np.ufunc), instruction.output
    return bool(ufunc and output.shape) and all(
        x.dtype == output.dtype for x in instruction.inputs if isinstance(x, Value)
    )


def _in_dtype(array: Any, dtype: np.dtype[Any]) -> ndarray:
    if type(array) is ndarray and array.dtype is dtype:
        return array
    return np.asarray(array).astype(dtype, copy=False)


def _owned(array: ndarray) -> ndarray:
    """The array, if its memory is its own."""
    return array if array.flags.owndata else array.copy()
