"""A program as one Python function of NumPy calls: the plan where there is no C compiler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.capture import Recorder
from tinygrad_kr.compile.optimizing import RecordedStep
from tinygrad_kr.compile.program import Check, Program, Statement, Value
from tinygrad_kr.compile.sources import Argument, LeafWrite, StaleError
from tinygrad_kr.ops.node import Node, constant


class Code:
    """Python source as it grows, and the objects that its names stand for."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {}

    def name(self, value: Any, hint: str) -> str:
        """A name for an object."""
        name = f"{hint}{len(self.names)}"
        self.names[name] = value
        return name

    def term(self, x: Any) -> str:
        """An input or parameter as the source writes it."""
        if isinstance(x, Value):
            return f"v{x.number}"
        if x is None or isinstance(x, bool | int | str) or x is ...:
            return repr(x) if x is not ... else "..."
        if type(x) is float and np.isfinite(x):
            return repr(x)
        if type(x) is tuple:
            return f"({''.join(self.term(part) + ', ' for part in x)})"
        if type(x) is list:
            return f"[{', '.join(map(self.term, x))}]"
        return self.name(x, "c")


def numpy_source(program: Program) -> tuple[str, dict[str, Any]]:
    """The source of `run(sources) -> kept values`, and what its names stand for.

    A result of a ufunc that is only read inside is written to an array that it owns; what outlives
    the call is new at each call.
    """
    code = Code()
    kept = program.kept()
    buffers = _buffers(program, kept)
    if program.sources:
        given = "".join(f"v{value.number}, " for value in program.sources)
        code.lines.append(f"{given}= sources")
    checks = {check.after: [] for check in program.checks}  # type: ignore[var-annotated]
    for check in program.checks:
        checks[check.after].append(check)
    for i, statement in enumerate(program.statements):
        for check in checks.get(i, []):
            code.lines.append(_checked(code, check))
        code.lines.append(_line(code, statement, buffers))
    for check in checks.get(len(program.statements), []):
        code.lines.append(_checked(code, check))
    code.lines.append(f"return [{', '.join(f'v{value.number}' for value in _ordered(kept))}]")
    body = "\n    ".join(code.lines)
    return f"def run(sources):\n    {body}\n", code.names


def _ordered(kept: set[Value]) -> list[Value]:
    return sorted(kept, key=lambda value: value.number)


def _checked(code: Code, check: Check) -> str:
    terms = ", ".join(map(code.term, (check.value, *check.rest)))
    return f"{code.name(check.function, 'check')}({terms})"


def _line(code: Code, statement: Statement, buffers: dict[Value, ndarray]) -> str:
    forward = statement.op.forward
    terms = [code.term(x) for x in statement.inputs]
    terms += [f"{name}={code.term(x)}" for name, x in statement.params.items()]
    hint = statement.op.__name__.strip("_") + "_"
    output = statement.output
    buffer = buffers.get(output)
    if buffer is not None:
        terms.append(f"out={code.name(buffer, 'buffer')}")
        call = f"{code.name(forward, hint)}({', '.join(terms)})"
    else:
        dtype = code.name(output.dtype, "dtype")
        call = f"{code.name(forward, hint)}({', '.join(terms)})"
        call = f"{code.name(_in_dtype, 'as_dtype')}({call}, {dtype})"
    return f"v{output.number} = {call}  # {statement.place}"


def _in_dtype(array: Any, dtype: np.dtype[Any]) -> ndarray:
    if type(array) is ndarray and array.dtype is dtype:
        return array
    return np.asarray(array).astype(dtype, copy=False)


def _buffers(program: Program, kept: set[Value]) -> dict[Value, ndarray]:
    """An array of its own for each result of a ufunc that nothing outside can come to hold."""
    escaping = set(kept)
    for statement in reversed(program.statements):
        if statement.output in escaping and not isinstance(statement.op.forward, np.ufunc):
            escaping.update(statement.reads())
    buffers: dict[Value, ndarray] = {}
    for statement in program.statements:
        output = statement.output
        if not isinstance(statement.op.forward, np.ufunc) or output in escaping:
            continue
        dtypes = [x.dtype for x in statement.inputs if isinstance(x, Value)]
        if any(dtype != output.dtype for dtype in dtypes) or statement.params:
            continue
        buffers[output] = np.empty(output.shape, output.dtype)
    return buffers


def compiled_by_numpy(program: Program) -> tuple[Callable[[Sequence[ndarray]], list[Any]], str]:
    """`run` itself, and its source."""
    source, names = numpy_source(program)
    namespace = dict(names)
    exec(compile(source, "<compiled step>", "exec"), namespace)
    run = np.errstate(all="ignore")(namespace["run"])
    return run, source


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
        self.looped = None
        self.writes = [effect for effect in program.effects if isinstance(effect, LeafWrite)]

    def summary(self) -> str:
        """What was made of what was recorded, in one line."""
        return f"{len(self.program.statements)} NumPy calls (there is no C compiler here)"

    def run(self, leaves: Sequence[Any]) -> Any:
        """One call."""
        if not all(effect.node._data.flags.writeable for effect in self.writes):
            raise StaleError
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
