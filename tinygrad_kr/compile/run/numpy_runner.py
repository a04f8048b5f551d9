"""A program as one Python function of NumPy calls: the plan where there is no C compiler.

Each line writes into an array that was allocated once. An optimizer updates its parameters itself:
`Optimizer.step` is already in place, and joins small parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.codegen.naming import Names, Namespace
from tinygrad_kr.compile.ir.bindings import (
    Argument,
    Constant,
    Gradient,
    GradientWrite,
    Leaf,
    LeafWrite,
    StaleError,
)
from tinygrad_kr.compile.ir.layout import dense_strides, is_dense
from tinygrad_kr.compile.ir.ops import _assigned
from tinygrad_kr.compile.ir.program import Check, Program, Statement, Value
from tinygrad_kr.compile.passes.expand import expanded
from tinygrad_kr.compile.passes.simplify import simplified, without_dead_code
from tinygrad_kr.compile.trace.condition import Condition
from tinygrad_kr.compile.trace.optimizer_step import Option, RecordedStep, StateArray, StateNumber
from tinygrad_kr.compile.trace.tracer import Recorder
from tinygrad_kr.escape import argument, comment, string
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops import linalg, shape
from tinygrad_kr.ops.indexing import getitem, is_basic
from tinygrad_kr.ops.node import constant
from tinygrad_kr.ops.op import astype
from tinygrad_kr.ops.reduction import max_, min_, sum_
from tinygrad_kr.ops.window import window_put_first
from tinygrad_kr.ops.writes import note_writes, owner
from tinygrad_kr.optim.optimizer import Optimizer

FEW = 4096
"""Elements up to which a sum is faster as a product with ones, and as accurate."""

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_INTEGERS = {4: np.dtype(np.int32), 8: np.dtype(np.int64)}
_POWERS = {2: np.square, 1: np.positive, 0.5: np.sqrt, -1: np.reciprocal}
_EXTREMES = {max_: np.maximum.reduce, min_: np.minimum.reduce}
_VIEWS = (shape.reshape, shape.transpose, shape.swapaxes, shape.broadcast_to, getitem)


class NumPyRunner:
    """A program in NumPy calls alone."""

    looped = None

    def __init__(self, recording: Recorder) -> None:
        program = simplified(stepped_by_optimizers(recording))
        self.program = program = simplified(expanded(_with_maxima_masked(program)))
        code = _Code(program, recording)
        self._run: Callable[[Sequence[Any]], Any] = code.compiled()
        self.source = Names(program, recording, ()).in_python(code.source())
        self._calls, self._workspace = code.calls, code.workspace

    def run_if(self, condition: Condition, missed: Any, /) -> Callable[..., Any]:
        """The function; `missed`, with nothing done, where a condition does not hold."""
        return condition.before("return run(leaves)", {"run": self._run}, missed)

    def summary(self) -> str:
        """What was made of what was recorded, in one line."""
        return (
            f"{self._calls} NumPy calls (there is no C compiler here; "
            'pip install "tinygrad_kr[compile]" brings one), '
            f"{self._workspace:,} bytes of workspace"
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


def stepped_by_optimizers(recording: Recorder) -> Program:
    """The program without the updates that its optimizers can make by themselves at its end; as it
    is where something reads what an update has made, or changes it further."""
    program, steps = recording.program, recording.steps
    written = {effect.node: effect.value for effect in _writes(program)}
    made = {}
    for parameter, was, _, now in (update for step in steps for update in step.updates):
        source = program.sources.get(was)
        untouched = isinstance(source, Leaf) and source.node is parameter
        if not untouched or written.get(parameter) is not now:
            return program
        made[parameter] = now
    left = without_dead_code(replace(program, effects=_with_steps(program, steps, made)))
    read_again = {statement.output for statement in left.statements} & set(made.values())
    return program if read_again else left


def _with_steps(program: Program, steps: list[RecordedStep], made: dict[Any, Value]) -> list[Any]:
    """The effects, with steps of optimizers on the gradients of that moment for what these do."""
    effects: list[Any] = []
    given: dict[Any, Value | None] = {}
    for step in steps:
        gradients = {parameter: gradient for parameter, _, gradient, _ in step.updates}
        for parameter in step.optimizer._param_states:
            gradient = gradients.get(parameter)
            if gradient is None or not isinstance(program.sources.get(gradient), Gradient):
                effects.append(GradientWrite(parameter, gradient))
                given[parameter] = gradient
        effects.append(OptimizerStep(step.optimizer, list(gradients)))
    for effect in program.effects:
        done = isinstance(effect, StateArray | StateNumber)
        if isinstance(effect, LeafWrite):
            done = effect.node in made
        elif isinstance(effect, GradientWrite):
            done = effect.leaf in given and given[effect.leaf] is effect.value
        if not done:
            effects.append(effect)
    return effects


def _writes(program: Program) -> list[LeafWrite]:
    return [effect for effect in program.effects if isinstance(effect, LeafWrite)]


def _with_maxima_masked(program: Program) -> Program:
    """Gradients go through a relu before they go back from maxima to the windows of these: there
    are fewer of them. Where the relu gave 0, so did the maximum at that place."""
    makers = {statement.output: statement for statement in program.statements}
    numbers = program.free_numbers()

    def earlier(statement: Statement) -> list[Statement]:
        spread = makers.get(statement.inputs[0]) if statement.op is e.masked else None
        if spread is None or spread.op is not window_put_first:
            return [statement]
        g, x, y = spread.inputs
        if statement.inputs[1] is not x:
            return [statement]
        kept = replace(g, number=next(numbers))
        return [
            statement._replace(inputs=(g, y), output=kept),
            spread._replace(inputs=(kept, x, y), output=statement.output),
        ]

    return program.rewritten(earlier)


# ------------------------------------------------------------------ the function


class _Code(Namespace):
    """Writes the Python function, and holds what its names stand for.

    A value is in a `fixed` array, which is the same one at each call (a buffer or a view of one),
    or in one that the call finds or makes.
    """

    def __init__(self, program: Program, recording: Recorder) -> None:
        self.program, self.recording = program, recording
        self.calls = self.workspace = 0
        self.lines: list[str] = []
        super().__init__(
            {
                "Stale": StaleError,
                "constant": constant,
                "copyto": np.copyto,
                "empty": np.empty,
            }
        )
        self._numbers: dict[Any, str] = {}
        self._held: list[str] = []
        self._fixed: dict[Value, ndarray] = {}
        self._memory = _Memory(program, self._shares)
        returned = [result for result in program.results if isinstance(result, Value)]
        gradients = [s.value for s in program.effects if isinstance(s, GradientWrite)]
        self._outliving = {*returned, *gradients} - {None}
        self._own: set[Value] = set()
        """Values in new memory that nothing else holds yet."""
        self._sources()
        self._statements()
        self._end()

    def source(self) -> str:
        """The whole function."""
        first = [f"global {', '.join(self._held)}"] if self._held else []
        return "def run(leaves):\n    " + "\n    ".join([*first, *self.lines]) + "\n"

    def compiled(self) -> Callable[[Sequence[Any]], Any]:
        """The function itself."""
        exec(compile(self.source(), "<compiled step>", "exec"), self.names)
        run: Callable[[Sequence[Any]], Any] = np.errstate(all="ignore")(self.names.pop("run"))
        return run

    # -------------------------------------------------------------- sources

    def _sources(self) -> None:
        written = [effect.node for effect in _writes(self.program)]
        for effect in self.program.effects:
            if isinstance(effect, OptimizerStep):
                written += effect.updated
                optimizer = self.name(effect.optimizer, "optimizer")
                parameters = len(effect.optimizer._param_states)
                self.lines += [
                    f"if len({optimizer}._param_states) != {parameters}:",
                    "    raise Stale",
                ]
        if written:
            may = [f"{self.name(leaf, 'leaf')}._data.flags.writeable" for leaf in written]
            self.lines += [f"if not ({' and '.join(may)}):", "    raise Stale"]
        sources = self.program.sources.values()
        if any(isinstance(source, Option | StateArray | StateNumber) for source in sources):
            for step in self.recording.steps:
                self.lines.append(f"{self.name(step.prepare, 'prepare')}()")
        for value, source in self.program.sources.items():
            name = f"a{value.number}"
            if isinstance(source, Constant):
                self.names[name] = self._fixed[value] = source.array
            elif isinstance(source, Argument):
                plain = source.index in self.recording.plain_arguments
                self.lines.append(f"{name} = leaves[{source.index}]{'' if plain else '._data'}")
            elif isinstance(source, Leaf):
                held = f"h{value.number}"
                self.names[held] = None
                self._held.append(held)
                self.lines.append(f"{name} = {self.name(source.node, 'leaf')}._data")
                self.lines.append(f"if {name} is not {held}:")
                self.lines += [f"    {line}" for line in self._checked(value, name)]
                self.lines.append(f"    {held} = {name}")
            else:
                self.lines.append(f"{name} = {self.name(source.fetch, 'fetch')}()")
                self.lines += self._checked(value, name)

    def _checked(self, value: Value, name: str) -> list[str]:
        dtype = self.name(value.dtype, "dtype")
        return [f"if {name}.shape != {value.shape} or {name}.dtype != {dtype}:", "    raise Stale"]

    # -------------------------------------------------------------- statements

    def _statements(self) -> None:
        checks = sorted(self.program.checks, key=lambda check: check.after)
        for i, statement in enumerate(self.program.statements):
            while checks and checks[0].after <= i:
                self._check(checks.pop(0))
            self._statement(i, statement)
            self._memory.release(i)
        for check in checks:
            self._check(check)

    def _check(self, check: Check) -> None:
        terms = ", ".join(map(self.term, (check.value, *check.rest)))
        self.lines.append(f"{self.name(check.function, 'check')}({terms})")

    def _statement(self, i: int, statement: Statement) -> None:
        output = statement.output
        out = f"a{output.number}"
        if self._view(statement):
            return
        lines = self._spell(statement, out)
        where = f"  # {comment(statement.op.__name__)}, {comment(statement.place)}"
        if lines is None:
            lines = [self._call(statement, out)]
        elif output in self._outliving:
            dtype = self.name(output.dtype, "dtype")
            self.lines.append(f"{out} = empty({output.shape}, {dtype})")
            self._own.add(output)
        else:
            over = statement if isinstance(statement.op.forward, np.ufunc) else None
            self._fix(output, self._memory.take(i, output, over))
        self.calls += len(lines)
        self.lines += [f"{line}{where}" for line in lines]

    def _fix(self, value: Value, array: ndarray) -> None:
        self.names[f"a{value.number}"] = self._fixed[value] = array
        self.workspace = self._memory.bytes

    def _view(self, statement: Statement) -> bool:
        """Whether a value is a view of a fixed array, and so fixed itself."""
        if not _is_view(statement) or statement.inputs[0] not in self._fixed:
            return False
        base = statement.inputs[0]
        array = self._fixed[base]
        seen = statement.op.forward(array, *statement.inputs[1:], **statement.params)
        if not isinstance(seen, ndarray) or owner(seen) is not owner(array):
            return False
        self._fix(statement.output, seen)
        return True

    def _shares(self, statement: Statement) -> bool:
        """Whether a result may lie in the memory of what the op was given."""
        return self._spell(statement, "") is None

    def _call(self, statement: Statement, out: str) -> str:
        """A call of the op's own function."""
        reads = [self.term(value) for value in dict.fromkeys(statement.reads())]
        made = self._spelled_view(statement)
        if made is None:
            terms = [self.term(x) for x in statement.inputs]
            terms += [argument(name, self.term(x)) for name, x in statement.params.items()]
            forward = self.name(statement.op.forward, statement.op.__name__)
            dtype = self.name(statement.output.dtype, "dtype")
            made = f"{forward}({', '.join(terms)})"
            made = f"{self.name(_in_dtype, 'in_dtype')}({made}, {dtype})"
        if statement.output in self._outliving:
            self._own.add(statement.output)
            made = f"{self.name(_owned, 'owned')}({', '.join([made, *reads])})"
        return f"{out} = {made}"

    def _spelled_view(self, statement: Statement) -> str | None:
        """What moves elements only, as a method of the array: a quarter of what a call costs."""
        if not _is_view(statement):
            return None
        base, params = self.term(statement.inputs[0]), statement.params
        if statement.op is shape.swapaxes:
            return f"{base}.swapaxes({self.term(params['axis1'])}, {self.term(params['axis2'])})"
        if statement.op is shape.transpose:
            return f"{base}.transpose({self.term(params.get('axes'))})"
        if statement.op is shape.reshape:
            return f"{base}.reshape({self.term(params['shape'])})"
        if statement.op is getitem:
            return f"{base}[{self.term(params['key'])}]"
        return None

    def term(self, x: Any) -> str:
        """An input or parameter as the source writes it."""
        if isinstance(x, Value):
            return f"a{x.number}"
        if x is ...:
            return "..."
        if x is None or isinstance(x, bool) or type(x) is int:
            return repr(x)
        if type(x) is str:
            return string(x)
        if type(x) is float and math.isfinite(x):
            return repr(x)
        if type(x) is tuple:
            return f"({''.join(self.term(part) + ', ' for part in x)})"
        if type(x) is list:
            return f"[{', '.join(map(self.term, x))}]"
        return self.name(x, "given")

    # -------------------------------------------------------------- ops that write into an array

    def _spell(self, statement: Statement, out: str) -> list[str] | None:
        """The lines that compute an op into the array `out`, exactly as its own function would;
        None where that is to be called."""
        op, output, params = statement.op, statement.output, statement.params
        first: Any = statement.inputs[0] if statement.inputs else None
        if op in (astype, _assigned):
            same = isinstance(first, Value)
            return [f'copyto({out}, {self.term(first)}, "unsafe")'] if same else None
        kinds = [_kind(x) for x in statement.inputs]
        if isinstance(op.forward, np.ufunc) and not params:
            return self._ufunc(op.forward, statement.inputs, kinds, output.dtype, out)
        if output.dtype not in _FLOATS or kinds[:1] != [output.dtype]:
            return None
        x = self.term(first)
        if op is e.relu:
            return [f"{self.name(np.maximum, 'maximum')}({x}, {self._zeros(output)}, out={out})"]
        if op is e.sigmoid:
            return self._sigmoid(x, output, out)
        if op is e.power:
            return self._power(statement, kinds, out)
        if op is e.masked and isinstance(statement.inputs[1], Value):
            return self._masked(x, statement.inputs[1], output, out)
        if op is linalg.matmul and kinds[1] == output.dtype:
            return self._product(first, statement.inputs[1], output, out)
        if op is sum_:
            return self._sum(first, output, out, **params)
        if op in _EXTREMES:
            reduce = self.name(_EXTREMES[op], op.__name__)
            return [self._reduced(reduce, x, out, **params)]
        return None

    def _ufunc(
        self, ufunc: np.ufunc, inputs: Sequence[Any], kinds: list[Any], dtype: Any, out: str
    ) -> list[str] | None:
        if object in kinds or ufunc.nout != 1:
            return None
        try:
            loop = ufunc.resolve_dtypes((*kinds, None))
        except TypeError:
            return None
        if loop[-1] != dtype:
            return None
        terms = [
            self.term(x) if isinstance(x, Value) else self._zero_d(x, kind)
            for x, kind in zip(inputs, loop, strict=False)
        ]
        given = f"out={out}" if ufunc in (np.maximum, np.minimum) else out
        return [f"{self.name(ufunc, ufunc.__name__)}({', '.join(terms)}, {given})"]

    def number(self, x: float, like: Value) -> str:
        """A number as an array of no axes: NumPy takes twice as long with a Python number."""
        return self._zero_d(x, like.dtype)

    def _zero_d(self, x: Any, dtype: Any) -> str:
        key = repr(x), dtype
        if key not in self._numbers:
            self._numbers[key] = self.name(np.array(x, dtype), "number")
        return self._numbers[key]

    def _zeros(self, like: Value) -> str:
        """Zeros to compare a value with: NumPy is four times as fast with an array as with one."""
        sample = like if like.size <= FEW * 8 else _first_of(like)
        if not FEW / 4 < sample.size <= FEW * 8:
            return self.number(0, like)
        key = "zeros", sample.shape, sample.strides, like.dtype
        if key not in self._numbers:
            memory = np.zeros(sample.size * like.dtype.itemsize, np.uint8)
            self._numbers[key] = self.name(_laid_out(memory, sample), "zeros")
        return self._numbers[key]

    def _sigmoid(self, x: str, output: Value, out: str) -> list[str]:
        return [
            f"{self.name(np.negative, 'negative')}({x}, {out})",
            f"{self.name(np.exp, 'exp')}({out}, {out})",
            f"{self.name(np.add, 'add')}({out}, {self.number(1, output)}, {out})",
            f"{self.name(np.reciprocal, 'reciprocal')}({out}, {out})",
        ]

    def _power(self, statement: Statement, kinds: list[Any], out: str) -> list[str] | None:
        base, exponent = statement.inputs
        dtype = statement.output.dtype
        if isinstance(exponent, int | float) and exponent in _POWERS:
            return self._ufunc(_POWERS[exponent], [base], kinds[:1], dtype, out)
        return self._ufunc(np.power, [base, exponent], kinds, dtype, out)

    def _masked(self, x: str, mask: Value, output: Value, out: str) -> list[str]:
        """The bits, read as an integer, times 0 or 1: for x may be infinite or NaN."""
        integer = self.name(_INTEGERS[output.dtype.itemsize], "integer")
        lines, truth = [], self.term(mask)
        if mask.dtype != np.bool_:
            zero = self._zero_d(0, mask.dtype)
            lines.append(f"truth = {self.name(np.not_equal, 'not_equal')}({truth}, {zero})")
            truth = "truth"
        return [
            *lines,
            f"{self.name(np.multiply, 'multiply')}({x}.view({integer}), "
            f"{truth}.view({self.name(np.int8, 'int8')}), {out}.view({integer}))",
        ]

    def _product(self, a: Value, b: Value, made: Value, out: str) -> list[str] | None:
        x, y = self.term(a), self.term(b)
        if len(a.shape) == 2 == len(b.shape) and _in_c_order(made):
            return [f"{x}.dot({y}, {out})"]
        if len(a.shape) < 2 or len(b.shape) < 2:
            return None
        return [f"{self.name(np.matmul, 'matmul')}({x}, {y}, {out})"]

    def _sum(
        self, x: Value, made: Value, out: str, axis: Any = None, keepdims: bool = False
    ) -> list[str]:
        term, dims, length = self.term(x), len(x.shape), x.shape[0] if x.shape else 0
        if 0 < x.size <= FEW and not made.shape:
            every = self.name(linalg.ones(x.size, x.dtype), "ones")
            return [f"{every}.dot({term}{'.ravel()' * (dims != 1)}, {out})"]
        if dims == 2 and axis in (0, (0,)) and 0 < length <= FEW and x.shape[1]:
            ones = linalg.ones(length, x.dtype)
            if keepdims:
                ones = ones.reshape(1, length)
            return [f"{self.name(ones, 'ones')}.dot({term}, {out})"]
        if axes := _channels_last(x, axis):
            channels = x.shape[axes[-1]]
            every = self.name(linalg.ones(x.size // channels, x.dtype), "ones")
            output = f"{out}.reshape({channels})" if keepdims else out
            return [f"{every}.dot({term}.transpose({axes}).reshape(-1, {channels}), {output})"]
        reduce = self.name(np.add.reduce, "sum")
        if type(axis) is not tuple or len(axis) < 2 or x.size <= FEW:
            return [self._reduced(reduce, term, out, axis, keepdims)]
        first, *others = sorted(a % dims for a in axis)
        return [
            f"partial = {reduce}({term}, {self.term(tuple(others))}, None, None, True)",
            self._reduced(reduce, "partial", out, (first, *others), keepdims),
        ]

    def _reduced(
        self, reduce: str, x: str, out: str, axis: Any = None, keepdims: bool = False
    ) -> str:
        return f"{reduce}({x}, {self.term(axis)}, None, {out}, {self.term(keepdims)})"

    # -------------------------------------------------------------- the end

    def _end(self) -> None:
        """What a call returns and leaves behind."""
        results = [self._result(i, result) for i, result in enumerate(self.program.results)]
        terms = [self._lasting(effect) for effect in self.program.effects]
        steps = [s for s in self.program.effects if isinstance(s, OptimizerStep)]
        leaves = [
            f"{self.name(s.leaf, 'leaf')}._grad"
            for s in self.program.effects
            if isinstance(s, GradientWrite)
        ]
        indent = ""
        if steps and leaves:
            indent = "    "
            self.lines += [f"before = [{', '.join(leaves)}]", "try:"]
        for effect, term in zip(self.program.effects, terms, strict=True):
            if isinstance(effect, GradientWrite):
                leaf = self.name(effect.leaf, "leaf")
                self.lines.append(f"{indent}{leaf}._grad = {term}")
            else:
                self.calls += 1
                apply = self.name(effect.apply, "step" if effect in steps else "write")
                self.lines.append(f"{indent}{apply}({'' if effect in steps else term})")
        if indent:
            restored = f"    {', '.join(leaves)}, = before"
            self.lines += ["except BaseException:", restored, "    raise"]
        if nodes := [effect.node for effect in _writes(self.program)]:
            note = self.name(note_writes, "note_writes")
            self.lines.append(f'{note}({self.name(nodes, "leaves")}, "a compiled step")')
        if self.recording.single:
            self.lines.append(f"return {results[0]}")
        else:
            rebuild = self.name(self.recording.rebuild, "rebuild")
            self.lines.append(f"return {rebuild}([{', '.join(results)}])")

    def _result(self, i: int, result: Any) -> str:
        if not isinstance(result, Value):
            return self.name(result, "result")
        made = self._given(result)
        if result not in self.recording.plain:
            made = f"constant({made})"
        elif not result.shape:
            made = f"{made}[()]"
        self.lines.append(f"result{i} = {made}")
        return f"result{i}"

    def _lasting(self, effect: Any) -> str:
        """What an effect is given: never what lies in memory that another effect writes to."""
        if effect.value is None:
            return "None"
        if isinstance(effect, GradientWrite):
            return f"constant({self._given(effect.value)})"
        if effect.value in self._fixed or effect.value in self._own:
            return self.term(effect.value)
        return self._given(effect.value)

    def _given(self, value: Value) -> str:
        """An array for somebody to keep."""
        if value in self._own:
            self._own.remove(value)
            return self.term(value)
        copy = f"copy{len(self.lines)}"
        self.lines.append(f"{copy} = {self.term(value)}.copy()")
        return copy


def _is_view(statement: Statement) -> bool:
    """Whether an op only looks at its one array in another way; or copies it, of some layouts."""
    if statement.op not in _VIEWS or list(statement.reads()) != [statement.inputs[0]]:
        return False
    return statement.op is not getitem or is_basic(statement.params["key"])


def _kind(x: Any) -> Any:
    """What an input is to NumPy's promotion: a dtype, or the type of a Python number; object for
    what is neither (None would equal float64)."""
    if isinstance(x, Value):
        return x.dtype
    return type(x) if type(x) in (int, float) else object


def _first_of(x: Value) -> Value:
    """A value of the kind of `x[0]`."""
    return replace(x, shape=x.shape[1:], strides=x.strides[1:])


def _channels_last(x: Value, axis: Any) -> tuple[int, ...]:
    """The axes in their order in memory, where all but the last one are summed over: a product
    with ones is five times as fast."""
    dims = len(x.shape)
    if type(axis) is not tuple or len(axis) != dims - 1 or not x.size:
        return ()
    summed = sorted(a % dims for a in axis)
    axes = *summed, *(set(range(dims)) - set(summed))
    turned = replace(
        x, shape=tuple(x.shape[a] for a in axes), strides=tuple(x.strides[a] for a in axes)
    )
    return axes if _in_c_order(turned) else ()


def _in_c_order(x: Value) -> bool:
    return tuple(step // x.dtype.itemsize for step in x.strides) == dense_strides(x.shape)


def _in_dtype(array: Any, dtype: np.dtype[Any]) -> ndarray:
    if type(array) is ndarray and array.dtype is dtype:
        return array
    return np.asarray(array).astype(dtype, copy=False)


def _owned(array: ndarray, *others: ndarray) -> ndarray:
    """The array, if its memory is its own."""
    alone = array.flags.owndata and all(array is not other for other in others)
    return array if alone else array.copy()


class _Memory:
    """Buffers for values, each used again once nothing reads what is in it any more."""

    def __init__(self, program: Program, shares: Callable[[Statement], bool]) -> None:
        self.bytes = 0
        self._free: dict[int, list[ndarray]] = {}
        self._used: dict[Value, ndarray] = {}
        self._last: dict[Value, int] = {}
        """The last statement that reads what lies in the memory of a value."""
        self._dying: dict[int, list[Value]] = {}
        homes: dict[Value, set[Value]] = {value: set() for value in program.sources}
        for i, statement in enumerate(program.statements):
            output = statement.output
            read = [homes[value] for value in statement.reads()]
            for home in set().union(*read):
                self._last[home] = i
            homes[output] = set().union(*read) if shares(statement) else {output}
            self._last.setdefault(output, i)
        for check in program.checks:
            for home in homes[check.value]:
                self._last[home] = max(self._last[home], check.after)
        for value in program.kept():
            for home in homes[value]:
                self._last[home] = len(program.statements)
        for value, i in self._last.items():
            self._dying.setdefault(i, []).append(value)

    def take(self, i: int, value: Value, over: Statement | None) -> ndarray:
        """An array for a value; in the place of what the ufunc `over` is the last to read, if it
        has such an input."""
        size = value.size * value.dtype.itemsize
        alike = value.shape, value.dtype, value.strides
        memory: ndarray | None = None
        for x in over.inputs if over is not None else ():
            dying = isinstance(x, Value) and x in self._used and self._last[x] == i
            if dying and (x.shape, x.dtype, x.strides) == alike:
                memory = self._used.pop(x)
                break
        if memory is None and self._free.get(size):
            memory = self._free[size].pop()
        if memory is None:
            memory = np.empty(size, np.uint8)
            self.bytes += size
        self._used[value] = memory
        return _laid_out(memory, value)

    def release(self, i: int) -> None:
        """Statement i has run."""
        for value in self._dying.get(i, ()):
            memory = self._used.pop(value, None)
            if memory is not None:
                self._free.setdefault(memory.size, []).append(memory)


def _laid_out(memory: ndarray, value: Value) -> ndarray:
    """Memory as the array of a value, its axes in the order in which they were when recorded."""
    size = value.dtype.itemsize
    strides = tuple(step // size for step in value.strides)
    if not is_dense(value.shape, strides):
        strides = dense_strides(value.shape)
    array: ndarray = np.ndarray(
        value.shape, value.dtype, memory, 0, tuple(step * size for step in strides)
    )
    return array
