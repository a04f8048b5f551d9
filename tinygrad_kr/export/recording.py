"""A model recorded at several batch sizes: one list of calls, with the sizes that follow the batch.

The recording is that of `tk.compile`: one run under a `Tracer` gives one program. Three runs with
batches of 2, 3 and 5 rows give the same ops. A number that differs between them must be
factor * batch + offset; two runs give the factor and the offset, and the third confirms them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr import tree
from tinygrad_kr.compile.ir.bindings import Argument, Constant, Leaf
from tinygrad_kr.compile.ir.program import Instruction, Program, Value
from tinygrad_kr.compile.trace.tracer import CaptureError, Tracer, argument_names
from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.nn.module import Module

BATCHES = (2, 3, 5)
"""The batch sizes of the recordings. None is 1, which would broadcast."""


class ExportError(ValueError):
    """A model that cannot be written as an ONNX graph; a ValueError. Nothing is written.

    The message names the op, the module and the line, and says what to do.

    >>> issubclass(tk.export.ExportError, ValueError)
    True
    """


def refuse(expected: str, got: str, fix: str) -> ExportError:
    """The error of an export."""
    return ExportError(f"export.onnx: expected {expected}, got {got}. {fix}")


@dataclass(frozen=True, slots=True)
class Size:
    """A whole number that follows the batch: factor * batch + offset."""

    factor: int
    offset: int

    def __str__(self) -> str:
        name = "batch" if self.factor == 1 else f"{self.factor}*batch"
        return f"{name}{self.offset:+}" if self.offset else name


@dataclass(frozen=True, slots=True)
class Share:
    """A number that is divided by the batch: total / batch."""

    total: float


@dataclass(frozen=True, slots=True)
class Repeated:
    """A constant that follows the batch in its shape alone."""

    array: ndarray
    """Of length 1 along the axes that follow the batch."""
    shape: tuple[int | Size, ...]


@dataclass(frozen=True, slots=True)
class Counted:
    """A constant start, start + step, ... whose length follows the batch."""

    start: int
    step: int
    length: Size
    shape: tuple[int | Size, ...]
    dtype: np.dtype[Any]


Call = Instruction
"""An instruction of all recordings, with the sizes that follow the batch in its parameters. Its
source line names the module too."""


@dataclass
class Recording:
    """The calls, and what they start from and return."""

    inputs: dict[Value, Any]
    """A Tensor for what the model holds, the argument's number, or a constant."""
    calls: list[Call]
    results: list[Value]
    shapes: dict[Value, tuple[int | Size, ...]] = field(default_factory=dict)
    argument_names: list[str] = field(default_factory=list)


# ------------------------------------------------------------------ running


class _PathTracer(Tracer):
    """A tracer that notes for each instruction which module called it."""

    composes = True
    expands = True

    def __init__(self, leaves: Iterable[Any], model: Any) -> None:
        super().__init__(leaves)
        modules = model.named_modules() if isinstance(model, Module) else ()
        self._paths = {id(module): path for path, module in modules}
        self.paths: list[str] = []
        self.given_up_in = ""

    def give_up(self, what: str) -> None:
        """Note why the function cannot be recorded, and in which module."""
        if self.reason is None:
            self.given_up_in = self._path()
        super().give_up(what)

    def note(self, record: Any, inputs: Sequence[Any], params: dict[str, Any], out: Any) -> None:
        """An op has computed `out`."""
        super().note(record, inputs, params, out)
        path = self._path()
        self.paths += [path] * (len(self.program.instructions) - len(self.paths))

    def _path(self) -> str:
        """The path of the innermost module whose method runs."""
        frame: Any = sys._getframe(2)
        while frame is not None:
            if frame.f_code.co_varnames[:1] == ("self",):
                found = self._paths.get(id(frame.f_locals.get("self")))
                if found is not None:
                    return found
            frame = frame.f_back
        return ""


def record(
    model: Any,
    example: tuple[Any, ...],
    axes: Sequence[int | None],
    check: Callable[[Sequence[Call]], None],
) -> Recording:
    """Run `model(*example)` at each batch size and merge the programs.

    axes: for each array of the example, the axis of the batch; None where it has none.
    check: raises for calls that cannot be exported.
    """
    sizes = BATCHES if any(axis is not None for axis in axes) else BATCHES[:2]
    first = _run(model, example, axes, sizes[0])
    wanted = _wanted(first)
    check([call for call in _calls(first) if call.output in wanted])
    runs = [first, *(_run(model, example, axes, batch) for batch in sizes[1:])]
    return _Merged(runs, sizes, wanted).recording()


def _calls(run: _PathTracer) -> list[Call]:
    pairs = zip(run.program.instructions, run.paths, strict=True)
    return [one._replace(source_line=_place(one, path)) for one, path in pairs]


def _place(instruction: Instruction, path: str) -> str:
    return f"{path or 'the model'} ({instruction.source_line})"


def _wanted(run: _PathTracer) -> set[Value]:
    """The values that the results depend on."""
    results = [value for value in run.program.results if isinstance(value, Value)]
    calls = needed(_calls(run), results)
    return {*results, *(call.output for call in calls), *(v for c in calls for v in c.reads())}


def _run(
    model: Any, example: tuple[Any, ...], axes: Sequence[int | None], batch: int
) -> _PathTracer:
    leaves, rebuild = tree.flatten(example)
    rows = [_resized(leaf, axis, batch) for leaf, axis in zip(leaves, axes, strict=True)]
    held = [*model.parameters(), *model.buffers()] if isinstance(model, Module) else []
    tracer = _PathTracer(held, model)
    arguments = rebuild(rows)
    try:
        with no_grad():
            tracer.run(model, arguments, {})
    except CaptureError as error:
        raise ExportError(f"export.onnx: {error}") from error
    except Exception as error:
        error.add_note(f"export.onnx: the model ran under no_grad(), with a batch of {batch}.")
        raise
    if tracer.reason is not None:
        where = f"{tracer.given_up_in}: " if tracer.given_up_in else ""
        raise refuse(
            "a model that can be recorded", where + tracer.reason, "Compute it with tk's ops."
        )
    if tracer.program.outputs:
        raise refuse(
            "a forward that changes no Tensor",
            f"one that writes {_written(tracer.program.outputs[0], model)}",
            "Return the new values instead, or skip the update when not self.training. A function "
            "is exported as it is: call net.eval() first.",
        )
    named = model.forward if isinstance(model, Module) else model
    tracer.argument_names = argument_names(named, arguments, {})
    tracer.paths += [""] * (len(tracer.program.instructions) - len(tracer.paths))
    return tracer


def _written(output: Any, model: Any) -> str:
    """What a program writes to, in words."""
    names = names_of(model)
    if hasattr(output, "leaf"):
        return f"{names.get(id(output.leaf), 'a Tensor')}.grad"
    return names.get(id(getattr(output, "node", None)), "a Tensor that it captures")


def names_of(model: Any) -> dict[int, str]:
    """The first name of each parameter and buffer, by id."""
    if not isinstance(model, Module):
        return {}
    names: dict[int, str] = {}
    for name, held in [*model.named_parameters(), *model.named_buffers()]:
        names.setdefault(id(held), name)
    return names


def _resized(array: ndarray, axis: int | None, batch: int) -> ndarray:
    """The rows of the example, repeated or cut to `batch`."""
    if axis is None:
        return array
    taken: ndarray = np.take(array, np.arange(batch) % array.shape[axis], axis)
    return taken


# ------------------------------------------------------------------ merging


class _Merged:
    """The merge of programs that differ in the batch alone."""

    def __init__(self, runs: list[_PathTracer], batches: Sequence[int], wanted: set[Value]) -> None:
        """wanted: the first run's values that the results depend on."""
        self.runs, self.batches, self.wanted = runs, batches, wanted
        self.programs: list[Program] = [run.program for run in runs]
        self.first: list[dict[Value, Value]] = [{} for _ in runs]
        """For each run, the first run's value for each of its own."""
        self.shapes: dict[Value, tuple[int | Size, ...]] = {}
        self.where = "the model"

    def recording(self) -> Recording:
        self._check_ops()
        inputs = self._merged_inputs()
        calls = self._merged_calls()
        self.where = "what the model returns"
        results = self._together([program.results for program in self.programs])
        if not results:
            raise refuse("a model that returns Tensors", "none", "Return what it computes.")
        for result in results:
            if not isinstance(result, Value):
                raise refuse(
                    "Tensors that the model computes as its results",
                    f"a {type(result).__name__}",
                    "Return Tensors computed from the inputs.",
                )
        names = list(self.runs[0].argument_names)
        return Recording(inputs, calls, list(results), self.shapes, names)

    def _check_ops(self) -> None:
        lists = [program.instructions for program in self.programs]
        for found in zip(*lists, strict=False):
            if any(each.op is not found[0].op for each in found):
                self._refuse_ops(found)
        longest = max(lists, key=len)
        shortest = min(map(len, lists))
        if len(longest) > shortest:
            self._refuse_ops([longest[shortest]])

    def _merged_calls(self) -> list[Call]:
        calls = []
        lists = [program.instructions for program in self.programs]
        for number, found in enumerate(zip(*lists, strict=True)):
            one, path = found[0], self.runs[0].paths[number]
            if one.output not in self.wanted:
                continue
            place = _place(one, path)
            self.where = f"{one.op.__name__} in {place}"
            read = tuple(self._together([each.inputs for each in found]))
            params = self._together([each.params for each in found])
            output = self._define([each.output for each in found])
            calls.append(Call(one.op, read, params, output, place))
        return calls

    def _refuse_ops(self, found: Sequence[Instruction]) -> None:
        names = ", ".join(f"{each.op.__name__} ({each.source_line})" for each in found)
        raise refuse(
            "the same ops at every batch size",
            f"other ops at batch sizes {', '.join(map(str, self.batches))}: {names}",
            "Let no branch depend on the size of the batch.",
        )

    def _define(self, values: Sequence[Value]) -> Value:
        one = values[0]
        for first, value in zip(self.first, values, strict=True):
            first[value] = one
        if len({(len(value.shape), value.dtype) for value in values}) > 1:
            raise self._mismatch(" and ".join(map(str, values)))
        self.shapes[one] = self._together([value.shape for value in values])
        return one

    # -------------------------------------------------------------- inputs

    def _merged_inputs(self) -> dict[Value, Any]:
        lists = [list(program.inputs.items()) for program in self.programs]
        inputs: dict[Value, Any] = {}
        if len({len(one) for one in lists}) > 1:
            raise self._mismatch("other Tensors and constants")
        for found in zip(*lists, strict=True):
            sources = [source for _, source in found]
            if found[0][0] not in self.wanted and not isinstance(sources[0], Argument):
                continue
            self.where = f"a constant of shape {found[0][0].shape}"
            value = self._define([value for value, _ in found])
            inputs[value] = self._source(sources, value)
        return inputs

    def _source(self, sources: list[Any], value: Value) -> Any:
        one = sources[0]
        if isinstance(one, Argument) and all(one.same(other) for other in sources):
            return one.index
        if isinstance(one, Leaf) and all(one.same(other) for other in sources):
            return one.node
        if all(isinstance(source, Constant) for source in sources):
            return self._constant([source.array for source in sources], value)
        raise self._mismatch(" and ".join(type(source).__name__ for source in sources))

    def _constant(self, arrays: list[ndarray], value: Value) -> Any:
        """An array that does not follow the batch, or how it does."""
        one, shape = arrays[0], self.shapes[value]
        same = all(each.shape == one.shape for each in arrays)
        if same and all(each.tobytes() == one.tobytes() for each in arrays):
            return one.copy()
        if same and one.size == 1:
            return self._number([each.item() for each in arrays])
        axes = tuple(axis for axis, size in enumerate(shape) if isinstance(size, Size))
        rows = [_first_along(each, axes) for each in arrays]
        equal = all(row.tobytes() == rows[0].tobytes() for row in rows)
        pairs = zip(arrays, rows, strict=True)
        if axes and equal and all(np.array_equal(each, _spread(row, each)) for each, row in pairs):
            return Repeated(rows[0].copy(), shape)
        counted = self._counted(arrays, axes, value) if len(axes) == 1 else None
        if counted is None:
            raise self._mismatch(f"other elements at batch sizes {self.batches}")
        return counted

    def _counted(self, arrays: list[ndarray], axes: tuple[int, ...], value: Value) -> Any:
        one, shape = arrays[0], self.shapes[value]
        length = shape[axes[0]]
        if one.dtype.kind not in "iuf" or one.size != one.shape[axes[0]] or one.size < 2:
            return None
        if not np.isfinite(one).all():
            return None
        start, step = (int(x) for x in (one.flat[0], one.flat[1] - one.flat[0]))
        for each in arrays:
            if not np.array_equal(each.ravel(), start + step * np.arange(each.size)):
                return None
        return Counted(start, step, length, shape, one.dtype)  # type: ignore[arg-type]

    # -------------------------------------------------------------- numbers

    def _together(self, items: Sequence[Any]) -> Any:
        """The same nested parameter of every run, with what follows the batch as sizes."""
        one = items[0]
        if any(type(item) is not type(one) for item in items):
            raise self._mismatch(" and ".join(type(item).__name__ for item in items))
        if isinstance(one, Value):
            if all(first.get(item) is one for first, item in zip(self.first, items, strict=True)):
                return one
            raise self._mismatch("another array")
        if isinstance(one, tuple | list):
            if any(len(item) != len(one) for item in items):
                raise self._mismatch(f"lists of {' and '.join(str(len(i)) for i in items)}")
            return tuple(self._together(parts) for parts in zip(*items, strict=True))
        if isinstance(one, dict):
            return {key: self._together([item[key] for item in items]) for key in one}
        if isinstance(one, slice):
            return slice(
                *(self._together([getattr(i, n) for i in items]) for n in ("start", "stop", "step"))
            )
        if isinstance(one, int | float | np.number) and not isinstance(one, bool):
            return self._number([i.item() if isinstance(i, np.number) else i for i in items])
        if all(item is one or item == one for item in items):
            return one
        raise self._mismatch(" and ".join(map(repr, items)))

    def _number(self, numbers: list[Any]) -> Any:
        one = numbers[0]
        if all(number == one or number != number for number in numbers):
            return one
        b = self.batches
        factor = (numbers[1] - one) / (b[1] - b[0])
        offset = one - factor * b[0]
        fits = [factor * n + offset for n in b] == numbers
        if fits and factor == int(factor) and offset == int(offset):
            return Size(int(factor), int(offset))
        totals = [number * n for number, n in zip(numbers, b, strict=True)]
        if isinstance(one, float) and np.allclose(totals, totals[0], rtol=1e-12, atol=0):
            return Share(totals[0])
        raise self._mismatch(f"the numbers {', '.join(f'{n:g}' for n in numbers)}")

    def _mismatch(self, got: str) -> ExportError:
        return refuse(
            f"numbers that follow the batch as a * batch + b in {self.where}",
            got,
            "Compute what depends on the batch from the inputs with tk's ops.",
        )


def _first_along(array: ndarray, axes: tuple[int, ...]) -> ndarray:
    return array[tuple(slice(0, 1) if a in axes else slice(None) for a in range(array.ndim))]


def _spread(row: ndarray, array: ndarray) -> ndarray:
    return np.broadcast_to(row, array.shape)


def needed(calls: Sequence[Call], results: Iterable[Value]) -> list[Call]:
    """The calls that the results depend on."""
    wanted = set(results)
    kept = []
    for call in reversed(calls):
        if call.output in wanted:
            kept.append(call)
            wanted.update(call.reads())
    return kept[::-1]
