"""The tracer: it runs a function once and writes all that it does into a `Program`."""

from __future__ import annotations

import inspect
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from itertools import count
from threading import get_ident
from time import perf_counter
from typing import Any, NoReturn

import numpy as np
from numpy import ndarray

from tinygrad_kr import tree
from tinygrad_kr.compile.ir.bindings import (
    Argument,
    Constant,
    Gradient,
    GradientWrite,
    Leaf,
    LeafWrite,
)
from tinygrad_kr.compile.ir.ops import _assigned
from tinygrad_kr.compile.ir.program import Check, Instruction, Program, Value, values_in
from tinygrad_kr.compile.trace.living import Living, Views
from tinygrad_kr.compile.trace.optimizer_step import TracedStep
from tinygrad_kr.compile.trace.unrolled import enclosing_loop
from tinygrad_kr.compile.trace.uses import Places
from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.native import deadline
from tinygrad_kr.ops.indexing import getitem, index_add
from tinygrad_kr.ops.node import (
    CAPTURE,
    NAMED,
    ON,
    PACKAGE,
    Node,
    constant,
    current_mode,
    grad_mode,
    user_frame,
)
from tinygrad_kr.ops.tracing import current_tracer, tracers
from tinygrad_kr.ops.writes import owner

_INDEXING = (getitem, index_add)
_SAMPLED = 256
"""One in so many ops is looked at for the loop it is in."""
MOST_INSTRUCTIONS = 200_000


class CaptureError(RuntimeError):
    """A function needs the elements of a Tensor while it is traced; a RuntimeError.

    A number or a branch that depends on them would be frozen in the program.

    >>> step = tk.compile(lambda x: x if x.sum() > 0 else -x)
    >>> step(tk.tensor([-1.0]))
    Traceback (most recent call last):
    ...
    tinygrad_kr.compile.trace.tracer.CaptureError: bool() or `if` needs the elements of a Tensor...
    """


_MAKERS = ("tinygrad_kr.tensor", "tinygrad_kr.ops.node", __name__)
_CREATING = ("tinygrad_kr.creation", "tinygrad_kr.random")


class Tracer:
    """Notes every op of one thread, and the writes to Tensors, gradients and optimizer state."""

    keeps_tensors = False
    composes = False
    expands = True

    def __init__(
        self,
        leaves: Iterable[Any] = (),
        seconds: float = math.inf,
        arrays: Iterable[ndarray] = (),
    ) -> None:
        """leaves, arrays: what the function can reach. seconds: the longest recording."""
        self.program = Program()
        self.places = Places(arrays)
        self._end = perf_counter() + seconds
        self.is_over = self.is_late = False
        self.loops: Counter[str] = Counter()
        """The user's loops in which a sample of the ops ran."""
        self._leaves = {id(leaf._data): leaf for leaf in leaves}
        self._owners = {id(owner(leaf._data)): leaf for leaf in leaves}
        self.reason: str | None = None
        """Why the function cannot be compiled; None if it can."""
        self.absent: list[Any] = []
        self.present: list[Any] = []
        """Leaves whose `.grad` from before the call was read: without a gradient, with one."""
        self._created = Living()
        """The Tensors made in the run; of each, whether the user's code names it."""
        self._tensors: set[Value] = set()
        self._given: list[Any] = []
        self._values = Living()
        """By array, its value. A result of an op lives as long as the function keeps it."""
        self._numbers = count()
        self._found: dict[Value, ndarray] = {}
        """The arrays of the program's inputs."""
        self._stale = Living()
        self._views = Views()
        self._before_write: dict[Any, ndarray] = {}
        self._gradients: dict[Any, Any] = {}
        self._states: dict[int, tuple[Any, Any]] = {}
        """The generators that were drawn from, and their states before."""
        self._writes: dict[Any, Value] = {}
        self.steps: list[TracedStep] = []
        self.remarks: dict[str, None] = {}
        """What `explain()` says of the program."""
        self.states: dict[Any, Any] = {}
        """The Tensors that a step in this run has left as state, by slot and name."""

    # -------------------------------------------------------------- running

    def run(self, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Run and trace function(*args, **kwargs), with arrays among the arguments as Tensors.

        Returns the function's result. If it raises, parameters, gradients, optimizer state and
        generators are restored.
        """
        self.function, self.argument_names = function, argument_names(function, args, kwargs)
        leaves, rebuild = tree.flatten((tuple(args), kwargs))
        self.plain_arguments = {i for i, leaf in enumerate(leaves) if isinstance(leaf, ndarray)}
        given = [self._argument(i, leaf) for i, leaf in enumerate(leaves)]
        original = args, kwargs
        args, kwargs = rebuild(given)
        kept = _copied((args, kwargs))
        context = copy_context()  # which ends with the call, whatever interrupts it
        context.run(current_tracer.set, self)
        if current_mode() in (ON, NAMED):
            context.run(grad_mode.set, CAPTURE)
        thread = get_ident()
        tracers[thread] = self
        try:
            result = context.run(function, *args, **kwargs)
            if tracers.get(thread) is not self:
                self.give_up("it computes in an empty context")
        except BaseException:
            self._undo()
            raise
        finally:
            tracers.pop(thread, None)
        if not _is_same((args, kwargs), kept):
            self.give_up("it changes a list or dict among its arguments")
            callers = {id(x): leaf for x, leaf in zip(given, leaves, strict=True)}
            _write_back(original, (args, kwargs), callers)
        return self._finish(result)

    def _argument(self, index: int, leaf: Any) -> Any:
        """A fresh Tensor per argument, so that aliasing with other arguments or captured Tensors is
        not baked into the program."""
        if not isinstance(leaf, Node | ndarray):
            return leaf
        array = (leaf._data if isinstance(leaf, Node) else leaf).view()
        self.live(array, Argument(index))
        given = constant(array)
        if isinstance(leaf, Node):
            given._requires_grad, given._grad = leaf._requires_grad, leaf._grad
        self._given.append(given)
        return given

    def _undo(self) -> None:
        for step in reversed(self.steps):
            step.undo()
        for node, array in self._before_write.items():
            node._data[...] = array
        for leaf, gradient in self._gradients.items():
            leaf._grad = gradient
        for generator, state in self._states.values():
            generator.bit_generator.state = state

    def about_to_draw(self, generator: Any) -> None:
        """Random numbers will be drawn from a generator: its state is kept for `_undo`."""
        if id(generator) not in self._states:
            self._states[id(generator)] = generator, generator.bit_generator.state

    # -------------------------------------------------------------- values

    def created(self, node: Any) -> None:
        """A Tensor was made while the function ran, by its code or by an op."""
        self.places.note(node._data, Tracer.run.__code__)
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_globals.get("__name__") in _MAKERS:
            frame = frame.f_back
        creates = frame.f_globals.get("__name__") in _CREATING
        by_name = creates or not frame.f_code.co_filename.startswith(PACKAGE)
        self._created.put(node, by_name)

    def _define(self, array: ndarray) -> Value:
        value = Value(next(self._numbers), array.shape, array.dtype, array.strides)
        self._values.put(array, value)
        self._views.add(array)
        return value

    def live(self, array: ndarray, source: Any) -> Value:
        """Define an array as an input that `source` fetches at each call."""
        value = self._define(array)
        self.program.inputs[value] = source
        self._found[value] = array
        return value

    def read(self, x: Any) -> Any:
        """The value of a Tensor or array; anything else unchanged."""
        array = x._data if isinstance(x, Node) else x
        if not isinstance(array, ndarray):
            return x
        if array is x:
            self.places.note(array, Tracer.run.__code__)
        value = self._values.get(array)
        if value is None:
            if array in self._stale:
                self.give_up("it reads a view of a Tensor that was overwritten since")
            value = self.live(array, self._source(x, array))
        return value

    def _source(self, x: Any, array: ndarray) -> Leaf | Constant:
        """Where an array comes from that no op has made. A new Tensor may have the array of one
        that was there before."""
        leaf = self._leaves.get(id(array))
        if leaf is not None:
            return Leaf(leaf)
        if isinstance(x, Node) and x not in self._created:
            return Leaf(x)
        if id(owner(array)) in self._owners:
            self.give_up("it reads a part of the bare array of a Tensor")
        return Leaf(x) if isinstance(x, Node) else Constant(array)

    def _inside(self, item: Any) -> Any:
        """A parameter of an op, with values for the arrays in it."""
        if isinstance(item, Node | ndarray):
            return self.read(item)
        if isinstance(item, tuple):
            if hasattr(item, "_fields"):
                return type(item)(*map(self._inside, item))
            return tuple(map(self._inside, item))
        if isinstance(item, list):
            return [self._inside(part) for part in item]
        return item

    # -------------------------------------------------------------- what happens

    def note(self, record: Any, inputs: Sequence[Any], params: dict[str, Any], out: Node) -> None:
        """An op has computed `out`."""
        if self.is_over:
            return
        array = out._data
        self.created(out)
        if any((x._data if isinstance(x, Node) else x) is array for x in inputs):
            return
        if any(isinstance(x, ndarray) and self._is_of_a_tensor(x) for x in inputs):
            self.give_up(f"{record.__name__} is given the bare array of a Tensor")
        read = tuple(self.read(x) for x in inputs)
        inside = {name: self._inside(param) for name, param in params.items()}
        indices = values_in(tuple(inside.values())) if record in _INDEXING else ()
        if any(value.dtype == np.bool_ and not self._is_constant(value) for value in indices):
            self.give_up("an index of truth values, which gives as many elements as are true")
        output = self._define(array)
        self.program.instructions.append(Instruction(record, read, inside, output, source_line()))
        self._look_at_length()

    def _look_at_length(self) -> None:
        """Stop noting what is too long to be built."""
        number = len(self.program.instructions)
        late = perf_counter() > self._end
        if late or number % _SAMPLED == 0:
            loop = enclosing_loop(Tracer.run.__code__)
            if loop is not None:
                self.loops[loop] += 1
            if late or number >= MOST_INSTRUCTIONS:
                self.is_over = True
                if self.reason is None:
                    self.reason, self.is_late = self.too_long(), True

    def too_long(self) -> str:
        """Why a function is not compiled whose program is too long, and what to do."""
        number = len(self.program.instructions)
        common = self.loops.most_common(1)
        loop = f", most of them in the loop at {common[0][0]}," if common else ""
        return (
            f"its {number:,} ops{loop} would take more than {deadline.SECONDS:g} s to record and "
            "build: a loop is recorded turn by turn. Write it with tk.scan, whose body is "
            "recorded once, or compile the body of the loop and use its .repeat or .scan"
        )

    def copied(self, node: Any, data: Any) -> None:
        """A Tensor was made of another's elements without an op."""
        if node._data is data._data:
            if isinstance(self.program.inputs.get(self.read(data)), Leaf):
                return
            node._data = node._data.view()
        read = self.read(data)
        params = {"shape": node._data.shape, "dtype": node._data.dtype}
        output = self._define(node._data)
        self.program.instructions.append(
            Instruction(_assigned, (read,), params, output, source_line())
        )

    def _is_constant(self, value: Value) -> bool:
        return isinstance(self.program.inputs.get(value), Constant)

    def _is_of_a_tensor(self, array: ndarray) -> bool:
        """Whether computing with this bare array would escape the trace."""
        value = self._values.get(array)
        return value is not None and not isinstance(self.program.inputs.get(value), Constant)

    def check(self, function: Callable[..., Any], array: Any, *rest: Any) -> None:
        """Note `function(array, *rest)`, which raises for invalid arrays, for each replay."""
        value = self.read(array)
        after = len(self.program.instructions)
        self.program.checks.append(Check(function, value, rest, after))

    def about_to_write(self, node: Any) -> None:
        """Called before the array of a Tensor is overwritten."""
        if any(np.may_share_memory(node._data, given._data) for given in self._given):
            self.give_up("it writes to an argument")
        if node not in self._before_write:
            self._before_write[node] = node._data.copy()
        self.read(node)

    def written(self, node: Any, key: Any, value: Any, what: str) -> None:
        """Called after `node[key] = value`."""
        if key is not ...:
            self.give_up(f"{what} with an index")
            return
        array = node._data
        new = self.read(value)
        if not isinstance(new, Value) or (new.shape, new.dtype) != (array.shape, array.dtype):
            params = {"shape": array.shape, "dtype": array.dtype}
            output = Value(next(self._numbers), array.shape, array.dtype, array.strides)
            self.program.instructions.append(
                Instruction(_assigned, (new,), params, output, source_line())
            )
            new = output
        for view in self._views.of(array):
            if view is array or not np.may_share_memory(view, array):
                continue
            if self._values.pop(view) is not None:
                self._stale.put(view, True)
        self.stands_for(array, new)
        self._writes[node] = new

    def touch_gradient(self, leaf: Any) -> None:
        """Called before the `.grad` of a leaf is replaced."""
        if any(leaf is given for given in self._given):
            self.give_up("it has backward() fill the .grad of an argument (use tk.grad)")
        self._gradients.setdefault(leaf, leaf._grad)

    def touch_gradients(self, leaves: Iterable[Any], set_to_none: bool) -> None:
        """The same for many leaves; `set_to_none`: they are set to None."""
        for leaf in leaves:
            if not set_to_none:
                self.read_gradient(leaf)
            self.touch_gradient(leaf)

    def read_gradient(self, leaf: Any) -> None:
        """Called before the `.grad` of a leaf, perhaps from before this run, is read."""
        gradient = leaf._grad
        if any(leaf is given for given in self._given) and leaf._data.dtype.kind == "f":
            self.give_up("it reads the .grad of an argument")
        if leaf not in self._gradients and leaf not in self._created:
            seen = self.absent if gradient is None else self.present
            if not any(leaf is one for one in seen):
                seen.append(leaf)
        made = gradient in self._created
        if gradient is not None and not made and gradient._data not in self._values:
            self.live(gradient._data, Gradient(leaf))

    def add_gradient(self, leaf: Any, g: Any) -> None:
        """Backward has found the gradient `g` of a leaf."""
        self.read_gradient(leaf)
        self.touch_gradient(leaf)
        with no_grad():
            leaf._grad = g if leaf._grad is None else leaf._grad + g
        self.gives_tensor(leaf._grad)

    def gives_tensor(self, node: Node) -> None:
        """A gradient, which is a Tensor also where everything it depends on was an array."""
        self._tensors.add(self.read(node))

    def step(self, optimizer: Any) -> None:
        """An optimizer's step, by its rule on Tensors."""
        step = TracedStep(optimizer)
        self.steps.append(step)
        with no_grad():
            step.carry_out(self)

    def stands_for(self, array: ndarray, value: Value) -> None:
        """An array has got the elements of a value."""
        self._values.put(array, value)

    # -------------------------------------------------------------- what cannot be

    def refuse(self, what: str) -> NoReturn:
        """Raise CaptureError: the function reads a Tensor's elements."""
        raise CaptureError(
            f"{what} needs the elements of a Tensor, at {source_line()}: a compiled function is "
            "recorded once and replayed, so a number or a branch that depends on them would be "
            "frozen. Return the Tensor and look at it outside, or use tk.where for the branch"
        )

    def remark(self, what: str) -> None:
        """Note what `explain()` says of the program."""
        self.remarks[f"{what}, at {source_line()}"] = None

    def give_up(self, what: str) -> None:
        """Note why the function cannot be replayed: it will run eagerly."""
        if self.reason is None:
            self.reason = f"{what}, at {source_line()}"

    # -------------------------------------------------------------- the end

    def _finish(self, result: Any) -> Any:
        program = self.program
        leaves, rebuild = tree.flatten(result)
        returned = [self._returned(leaf) for leaf in leaves]
        program.results = [given for given, _ in returned]
        for node, value in self._writes.items():
            if node not in self._created:
                self._refuse_overlap(node)
                program.outputs.append(LeafWrite(node, value))
        for leaf in self._gradients:
            gradient = None if leaf._grad is None else self.read(leaf._grad)
            if leaf not in self._created:
                program.outputs.append(GradientWrite(leaf, gradient))
        program.outputs.extend(self._last_states())
        self.rebuild = rebuild
        self.single = isinstance(result, Node | ndarray) or type(result) in (int, float, bool)
        """Whether the function returns one thing, in no container."""
        self._forget()
        plain = self._plain_values(self.plain_arguments)
        self.plain = {value for value in program.results if isinstance(value, Value)} & plain
        outward = [self._outward(*pair) for pair in returned]
        return rebuild(outward)

    def _last_states(self) -> list[Any]:
        """The optimizers' states after the last step."""
        last: dict[Any, Any] = {}
        for step in self.steps:
            for binding in step.outputs:
                last[binding.key] = binding
        return list(last.values())

    def _refuse_overlap(self, node: Any) -> None:
        """Give up where another input overlaps an overwritten Tensor: it may be written first."""
        array = node._data
        for value in self.program.inputs:
            other = self._found[value]
            if other is not array and np.may_share_memory(other, array):
                self.give_up("it writes to memory that it reads through another Tensor too")

    def _forget(self) -> None:
        """Let go of the arrays. A Tensor that the function made is a constant."""
        self._values.clear()
        self._found.clear()
        self._views.clear()
        self._stale.clear()
        inputs = self.program.inputs
        for value, source in list(inputs.items()):
            if isinstance(source, Leaf) and source.node in self._created:
                if self._created.get(source.node):
                    self._tensors.add(value)
                array, before = source.node._data, self._before_write.get(source.node)
                inputs[value] = (
                    Constant(array) if before is None else Constant(before, origin=array)
                )
        self._created.clear()
        self._before_write.clear()
        self._gradients.clear()
        self._writes.clear()
        self.states.clear()
        self._given.clear()
        for step in self.steps:
            step.settle()

    def _plain_values(self, plain_arguments: set[int]) -> set[Value]:
        """What depends on arrays alone, so that the function itself would return an array."""
        if not plain_arguments:
            return set()
        inputs = self.program.inputs
        plain = {
            value
            for value, source in inputs.items()
            if (isinstance(source, Constant) and value not in self._tensors)
            or (isinstance(source, Argument) and source.index in plain_arguments)
        }
        for instruction in self.program.instructions:
            reads = list(instruction.reads())
            if instruction.output in self._tensors:
                continue
            if reads and all(value in plain for value in reads):
                plain.add(instruction.output)
        return plain

    def _returned(self, leaf: Any) -> tuple[Any, Any]:
        """What a replay returns for this, and what this run does."""
        if isinstance(leaf, ndarray):
            value = self._values.get(leaf)
            if value is None:
                self.give_up("it returns an array that no op has made")
            return leaf if value is None else value, leaf
        if not isinstance(leaf, Node):
            return leaf, leaf
        made = leaf in self._created or any(leaf is given for given in self._given)
        if leaf._requires_grad and leaf._op is not None and leaf._inputs is not None:
            self.give_up(
                "it returns a Tensor with its history (call it under no_grad(), or have it "
                "call backward() itself)"
            )
        elif leaf._requires_grad and leaf._op is None and made:
            self.give_up("it returns a new Tensor that requires grad")
        source = self.program.inputs.get(self._values.get(leaf._data))
        if not made and not isinstance(source, Gradient):
            return leaf, leaf
        return self.read(leaf), leaf

    def _outward(self, result: Any, leaf: Any) -> Any:
        """What this run returns for it, as a replay does: without history, and an array where the
        function, given arrays, would have returned one."""
        if not isinstance(result, Value) or not isinstance(leaf, Node):
            return leaf
        array = leaf._data
        if result not in self.plain:
            return constant(array) if leaf._requires_grad and self.reason is None else leaf
        return array if array.ndim else array[()]


def source_line() -> str:
    """The user's line that is running."""
    frame = user_frame()
    if frame is None:
        return "an unknown place"
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def argument_names(
    function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> list[str]:
    """A name for each leaf of the flattened arguments: its parameter's, numbered inside one."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names += [f"argument_{i}" for i in range(len(names), len(args))]
    found = []
    for name, argument in [*zip(names, args, strict=False), *kwargs.items()]:
        count = len(tree.flatten(argument)[0])
        found += [name] if count == 1 else [f"{name}_{i}" for i in range(count)]
    return found


def _copied(containers: Any) -> Any:
    """The lists and dicts of the arguments as they were, with the same leaves."""
    if isinstance(containers, dict):
        return {key: _copied(item) for key, item in containers.items()}
    if isinstance(containers, tuple | list):
        return [_copied(item) for item in containers]
    return containers


def _is_same(now: Any, before: Any) -> bool:
    if isinstance(now, dict):
        keys = isinstance(before, dict) and [*now] == [*before]
        return keys and all(_is_same(now[key], before[key]) for key in now)
    if isinstance(now, tuple | list):
        alike = isinstance(before, list) and len(now) == len(before)
        return alike and all(map(_is_same, now, before))
    return now is before


def _write_back(given: Any, changed: Any, leaves: dict[int, Any]) -> None:
    """Make the changes of lists and dicts, which the run made to copies, in those of the caller.

    leaves: by id of what the run was given, the caller's own array, Tensor or number.
    """
    if isinstance(given, dict):
        held = given.copy()
        given.clear()
        for key, item in changed.items():
            given[key] = _callers(held.get(key), item, leaves)
    elif isinstance(given, tuple | list):
        padded = [*given, *[None] * max(len(changed) - len(given), 0)]
        made = [_callers(one, item, leaves) for one, item in zip(padded, changed, strict=False)]
        if isinstance(given, list):
            given[:] = made


def _callers(given: Any, item: Any, leaves: dict[int, Any]) -> Any:
    """What the caller's container holds in place of an item of the copy."""
    if isinstance(item, dict | list | tuple) and type(given) is type(item):
        _write_back(given, item, leaves)
        return given
    return leaves.get(id(item), item)
