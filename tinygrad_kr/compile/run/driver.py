"""The Python function that calls the functions in C."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

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
from tinygrad_kr.compile.ir.layout import dense_strides, empty
from tinygrad_kr.compile.ir.program import Check, Instruction, Program, Value
from tinygrad_kr.compile.plan.plan import Plan
from tinygrad_kr.compile.plan.solutions import NAMES
from tinygrad_kr.compile.plan.steps import (
    NO_MEMORY,
    Refusal,
    Segment,
    may_raise,
    written_by,
)
from tinygrad_kr.compile.run.arena import Arena
from tinygrad_kr.compile.trace.condition import Condition
from tinygrad_kr.escape import argument
from tinygrad_kr.native.foreign import ctypes
from tinygrad_kr.ops import kernels, linalg
from tinygrad_kr.ops.anomaly import _families, are_arrays_locked
from tinygrad_kr.ops.node import NodeType, constant, constant_lines, tick
from tinygrad_kr.ops.writes import bump_versions, last_write


class _Driver(Globals):
    """Writes the Python function that replays a plan, and holds its globals."""

    def __init__(self, plan: Plan, tracer: Any, names: Mapping[int, str]) -> None:
        self.plan, self.tracer, self._value_names = plan, tracer, names
        self.lines: list[str] = []
        self.parts: list[Any] = []
        self.calls = 0
        super().__init__(
            {
                "laid": _laid,
                "empty": np.empty,
                "laid_out": empty,
                "constant": constant,
                "new": object.__new__,
                "result_type": NodeType,
                "matmul": np.matmul,
                "frozen": _frozen,
                "Stale": StaleError,
                "tick": tick,
                "last_write": last_write,
            }
        )
        accumulates = any(isinstance(s, Gradient) for s in plan.program.inputs.values())
        self._keeps_gradients = not (plan.raises_late or accumulates)
        """Whether to reuse the memory of gradients: no error can leave them half written, and no
        step reads those of the step before."""
        self._seen: list[str] = []
        """Names that the function rebinds: arrays and options that were checked."""
        self._arrays: dict[Value, str] = {}
        self._fresh: dict[Value, str] = {}
        self._tensors: dict[Value, str] = {}
        self.arena = Arena(plan)
        self.workspace = self.arena.nbytes
        self.names["arena"] = self.arena.memory
        if plan.status is not None:
            self._arrays[plan.status] = "status"
            self.names |= {"status": np.zeros(1, np.int64), "unsolved": _unsolved}
        inputs = plan.program.inputs
        overwritten = [inputs[value] for value in plan.in_place.values()]
        self._overwritten = {source.node for source in overwritten if isinstance(source, Leaf)}
        written = [
            binding.node for binding in plan.program.outputs if isinstance(binding, LeafWrite)
        ]
        self._announcement = _Announcement(written) if written else None
        if written:
            self.names |= {"families": _families, "locked": are_arrays_locked}
            self.lines += ["if families and locked():", "    raise Stale"]
        self._optimizers()
        self._inputs()
        self._gradients()

    # -------------------------------------------------------------- names

    def _array_name(self, value: Value) -> str:
        return f"{self._value_names.get(value.number, f'value_{value.number}')}_array"

    def _seen_name(self, value: Value) -> str:
        """The array that the call before had."""
        return f"{self._array_name(value)}_before"

    def _tensor_name(self, value: Value) -> str:
        return f"{self._value_names.get(value.number, f'value_{value.number}')}_tensor"

    # -------------------------------------------------------------- inputs

    def _inputs(self) -> None:
        inputs = self.plan.program.inputs
        arguments = [self._seen_name(v) for v, s in inputs.items() if isinstance(s, Argument)]
        for value, source in inputs.items():
            if isinstance(source, Leaf):
                self._arrays[value] = name = self._array_name(value)
                self.lines.append(f"{name} = {self.name(source.node, 'leaf')}._data")
                overwritten = source.node in self._overwritten
                # An argument may lie in the memory that a parameter has now.
                self._check(value, name, arguments if overwritten else [])
        for value, source in inputs.items():
            if not isinstance(source, Leaf):
                self._arrays[value] = self._array_name(value)
                self._source(value, source, self._array_name(value))

    def _source(self, value: Value, source: Any, name: str) -> None:
        if isinstance(source, Argument):
            given = f"leaves[{source.index}]"
            tensor = source.index not in self.tracer.plain_arguments
            self.lines.append(f"{name} = {given}._data" if tensor else f"{name} = {given}")
            self._check(value, name)
        elif isinstance(source, Constant):
            self._constant(value, source, name)
        elif isinstance(source, Option | StateArray | StateNumber):
            self.names.setdefault(name, None)
        else:
            self.lines.append(f"{name} = {self.name(source.fetch, 'fetch')}()")
            self._check(value, name)

    def _constant(self, value: Value, source: Constant, name: str) -> None:
        view = self.plan.views[value]
        array = _laid(source.array, view.strides)
        if array is source.array or source.fixed:
            self.names[name] = array
            return
        layout = self.name(view.strides, "strides")
        self.lines.append(f"{name} = laid({self.name(source.array, 'original')}, {layout})")

    def _check(self, value: Value, name: str, forgotten: Sequence[str] = ()) -> None:
        """Check an array, unless it is the one that the call before checked.

        forgotten: names of arrays to check again when this one changes.
        """
        seen = self._seen_name(value)
        self.names[seen] = None
        self._seen.append(seen)
        check = self.name(self._check_of(value), "checked")
        self.lines.append(f"if {name} is not {seen}:")
        if forgotten:
            self.lines.append(f"    {' = '.join(forgotten)} = None")
        self.lines.append(f"    {name} = {seen} = {check}({name})")

    def _check_of(self, value: Value) -> _Checked:
        source, view = self.plan.program.inputs[value], self.plan.views[value]
        in_place = value in self.plan.in_place.values()
        apart_from: Collection[Any] = ()
        copied = isinstance(source, Argument)
        if copied:
            apart_from = self._overwritten
        elif isinstance(source, Leaf):
            leaves = [s for s in self.plan.program.inputs.values() if isinstance(s, Leaf)]
            nodes = [leaf.node for leaf in leaves] if in_place else self._overwritten
            apart_from = [node for node in nodes if node is not source.node]
        written = isinstance(source, Leaf) and any(
            isinstance(binding, LeafWrite) and binding.node is source.node
            for binding in self.plan.program.outputs
        )
        announcement = self._announcement if written else None
        return _Checked(value, view.strides, in_place, apart_from, copied, announcement)

    def _optimizers(self) -> None:
        """Read the optimizers' states and options again only where they were rebound or changed."""
        for step in self.tracer.steps:
            loader = _Loader(self.plan.program, step, self.names, self._array_name)
            name = self.name(step, "step")
            optimizer = self.name(step.optimizer, "optimizer")
            load = self.name(loader, "load")
            self.lines.append(f"if {optimizer}._plan is not {name}:")
            state = [self._array_name(value) for value in loader.state_values]
            found = f"{', '.join(state)}, = " if state else ""
            self.lines.append(f"    {found}{load}.state()")
            # Only when all of the state is known, the step becomes the optimizer's plan.
            self.lines.append(f"    {load}.take_over()")
            self._seen += state
            for cohort in step.cohorts:
                group = self.name(cohort.group, "group")
                seen = f"seen_{len(self.names)}"
                self.names[seen] = None
                self._seen.append(seen)
                self.lines.append(f"if {group} != {seen}:")
                self.lines.append(f"    {load}.options()")
                self.lines.append(f"    {seen} = frozen({group})")

    def _gradients(self) -> None:
        """Tensors for the gradients. New ones are made where a `.grad` was read: it may be kept."""
        if not self._keeps_gradients:
            return
        program, renewed = self.plan.program, []
        for binding in program.outputs:
            value = binding.value
            if isinstance(binding, GradientWrite) and value and self._is_only_a_gradient(value):
                view = self.plan.views[value]
                if self.plan.roots[view.root] is value and value not in self._arrays:
                    self._arrays[value] = self._fresh[value] = self._array_name(value)
                    self._tensors[value] = self._tensor_name(value)
                    renewed.append(value)
        if not renewed:
            return
        self.names["seen_read"] = None
        self._seen += ["seen_read", *(self._arrays[v] for v in renewed)]
        self._seen += [self._tensors[v] for v in renewed]
        self.lines += ["read = last_write.read", "if read is not seen_read:"]
        for value in renewed:
            array, tensor = self._arrays[value], self._tensors[value]
            self.names |= {array: None, tensor: None}
            self.lines.append(f"    {array} = {self._made(value)}")
            self.lines.append(f"    {tensor} = constant({array})")
        self.lines.append("    seen_read = read")

    def _is_only_a_gradient(self, value: Value) -> bool:
        program = self.plan.program
        bindings = [binding for binding in program.outputs if binding.value is value]
        return len(bindings) == 1 and not any(result is value for result in program.results)

    # -------------------------------------------------------------- arrays

    def array(self, value: Value) -> str:
        """The name of the array of a value; a view is made on first use."""
        if value in self._arrays:
            return self._arrays[value]
        if value in self.plan.in_place:
            return self.array(self.plan.in_place[value])
        view = self.plan.view_ops[value]
        terms = self._terms(view)
        name = self._array_name(value)
        self.lines.append(f"{name} = {self.name(view.op.forward, view.op.__name__)}({terms})")
        self._arrays[value] = name
        return name

    def _terms(self, instruction: Instruction) -> str:
        terms = [self.term(x) for x in instruction.inputs]
        terms += [argument(name, self.term(x)) for name, x in instruction.params.items()]
        return ", ".join(terms)

    def _own(self, value: Value) -> None:
        """Memory for a value: new at each call if it outlives it, else a piece of the arena."""
        view = self.plan.views[value]
        known = value in self._arrays or value in self.plan.in_place
        if known or self.plan.roots[view.root] is not value:
            return
        if value in self.plan.lasting:
            self._arrays[value] = self._fresh[value] = name = self._array_name(value)
            self.lines.append(f"{name} = {self._made(value)}")
        else:
            self._arrays[value] = self.name(self.arena.array(value), f"buffer{value.number}")

    def _made(self, value: Value) -> str:
        """A new array for a value."""
        strides = self.plan.views[value].strides
        made = f"{value.shape}, {self.name(value.dtype, 'dtype')}"
        if strides == dense_strides(value.shape):
            return f"empty({made})"
        return f"laid_out({made}, {self.name(strides, 'strides')})"

    def _of_root(self, root: int) -> str:
        """The name of the array that a piece of memory was allocated for."""
        return self.array(self.plan.roots[root])

    def _call_of(self, segment: Segment) -> str:
        """The tuple for a C function."""
        items = [self._of_root(root) for root in segment.roots]
        items += ["arena"] * bool(segment.in_arena)
        return f"({', '.join(items)},)" if items else "()"

    # -------------------------------------------------------------- steps

    def part(self, function: Any, segment: Segment) -> None:
        """Call the C function of a segment."""
        self._announce()
        for step in segment.steps:
            for value in written_by(step):
                self._own(value)
        function.restype, function.argtypes = None, [ctypes.py_object]
        self.parts.append(function)
        self.lines.append(f"{self.name(function, 'part')}({self._call_of(segment)})")
        if any(map(may_raise, segment.steps)):
            self.lines.append("if status[0]:")
            for step in segment.steps:
                if isinstance(step, Refusal):
                    refused = self.name(_Refused(step, self.plan), "refused")
                    root = self.plan.views[step.check.value].root
                    self.lines.append(f"    {refused}(status, {self._of_root(root)})")
            self.lines.append("    unsolved(status)")

    def call(self, instruction: Instruction) -> None:
        """Call NumPy; C may read the result."""
        self._announce()
        self.calls += 1
        output = instruction.output
        view = self.plan.views[output]
        if instruction.op is linalg.matmul and len(output.shape) > 1:
            terms = self._terms(instruction)
            self._own(output)
            self.lines.append(f"matmul({terms}, out={self._arrays[output]})")
            return
        op, forward = instruction.op, instruction.op.forward
        forward = forward if op.kernel is None else kernels.in_program(forward)
        forward = self.name(forward, op.__name__)
        name = self._array_name(output)
        dtype, layout = self.name(output.dtype, "dtype"), self.name(view.strides, "strides")
        made = f"{forward}({self._terms(instruction)})"
        self.lines.append(f"{name} = laid({made}, {layout}, {dtype})")
        self._arrays[output] = name

    def check(self, check: Check) -> None:
        """Call a check, which may raise."""
        self.calls += 1
        terms = ", ".join([self.array(check.value), *map(self.term, check.rest)])
        self.lines.append(f"{self.name(check.function, 'check')}({terms})")

    # -------------------------------------------------------------- the end

    def _announce(self) -> None:
        """Bump the version counters before anything is overwritten, for graphs made earlier."""
        announcement = self._announcement
        if announcement is None or id(announcement) in self._known:
            return
        announce = self.name(announcement, "written")
        self.lines.append(f"last_write.time = {announce}.write.time = tick()")
        self.lines.append(f"if last_write.write is not {announce}.write:")
        self.lines.append(f"    {announce}()")

    def finish(self) -> None:
        """Write the outputs and return the results."""
        self._announce()
        program = self.plan.program
        for binding in program.outputs:
            if isinstance(binding, GradientWrite):
                tensor = self._tensor(binding.value)
                self.lines.append(f"{self.name(binding.leaf, 'leaf')}._grad = {tensor}")
        for binding in program.outputs:
            value = binding.value
            left = not isinstance(binding, GradientWrite) and value not in self.plan.in_place
            if left and value is not None:
                apply = self.name(binding.apply, "write")
                self.lines.append(f"{apply}({self.array(value)})")
        results = [self._result(result) for result in program.results]
        if self.tracer.single:
            self.lines.append(f"return {results[0]}")
        else:
            rebuild = self.name(self.tracer.rebuild, "rebuild")
            self.lines.append(f"return {rebuild}([{', '.join(results)}])")

    def _tensor(self, value: Value | None) -> str:
        """The name of a new Tensor of a value."""
        if value is None:
            return "None"
        if value not in self._fresh:
            return f"{self.name(_copied, 'copied')}({self.array(value)})"
        if value not in self._tensors:
            self._tensors[value] = tensor = self._tensor_name(value)
            self.lines += constant_lines(tensor, self._fresh[value])
        return self._tensors[value]

    def _result(self, result: Any) -> str:
        if not isinstance(result, Value):
            return self.name(result, "result")
        if result in self.tracer.plain:
            array = self.array(result)
            if not result.shape:
                return f"{array}[()]"
            own = result in self._fresh and result not in self._tensors
            return array if own else f"{array}.copy()"
        return self._tensor(result)

    def source(self) -> str:
        """The whole function."""
        return f"def run(leaves):\n    {self._body()}\n"

    def _body(self) -> str:
        first = [f"global {', '.join(self._seen)}"] if self._seen else []
        return "\n    ".join([*first, *self.lines])

    def compiled_if(self, condition: Condition, missed: Any) -> Callable[..., Any]:
        """The function; `missed`, with nothing done, where a condition does not hold.

        Given a `LoopedCall` as well, it runs that in place of its one C function.
        """
        run = condition.before(self._body(), self.names, missed, self._loop())
        return np.errstate(all="ignore")(run) if self.calls else run

    def _loop(self) -> str:
        """A parameter for what is to run in place of the only C function."""
        if len(self.parts) != 1:
            return ""
        part = self.name(self.parts[0], "part")
        return f", {part}={part}"


class _Checked:
    """The array of an input: itself, or a copy in the layout that C reads.

    Raises StaleError for another shape or dtype, and for an array to be overwritten that is
    read-only, has another layout or overlaps another input.
    """

    def __init__(
        self,
        value: Value,
        strides: tuple[int, ...],
        in_place: bool,
        apart_from: Collection[Any],
        copied: bool,
        announcement: _Announcement | None,
    ) -> None:
        self.value, self.strides, self.in_place = value, strides, in_place
        self.apart_from, self.copied, self.announcement = apart_from, copied, announcement

    def __call__(self, array: ndarray) -> ndarray:
        """Raises StaleError."""
        if array.shape != self.value.shape or array.dtype != self.value.dtype:
            raise StaleError
        if self.announcement is not None:
            if not array.flags.writeable:
                raise StaleError
            self.announcement.again()
        laid = _laid(array, self.strides)
        if self.in_place and laid is not array:
            raise StaleError
        if any(np.may_share_memory(array, node._data) for node in self.apart_from):
            if not self.copied:
                raise StaleError
            return laid if laid is not array else _laid(array.copy(), self.strides)
        return laid


class _Loader:
    """Where C finds an optimizer's options and state."""

    def __init__(
        self,
        program: Program,
        step: Any,
        names: dict[str, Any],
        array_name: Callable[[Value], str],
    ) -> None:
        self.step = step
        self.take_over = step.take_over
        self._options: list[tuple[Option, ndarray]] = []
        self._state: list[tuple[StateArray, Value]] = []
        for value, source in program.inputs.items():
            name = array_name(value)
            if isinstance(source, Option) and source.cohort in step.cohorts:
                names[name] = array = np.array(source.fetch())
                self._options.append((source, array))
            elif isinstance(source, StateNumber) and source.cohort in step.cohorts:
                names[name] = source.fetch()
            elif isinstance(source, StateArray):
                slots = [slot for cohort in step.cohorts for slot in cohort.slots]
                if any(source.slot is slot for slot in slots):
                    self._state.append((source, value))
                    names[name] = source.fetch()

    @property
    def state_values(self) -> list[Value]:
        """The values that `state()` finds."""
        return [value for _, value in self._state]

    def options(self) -> None:
        """Read the options again; StaleError for another type or structure."""
        self.step.check_options()
        for option, array in self._options:
            array[()] = option.fetch()

    def state(self) -> list[ndarray]:
        """Read the state again; its arrays. StaleError for another shape, dtype or structure."""
        self.step.load()
        found = [source.fetch() for source, _ in self._state]
        for array, (_, value) in zip(found, self._state, strict=True):
            if array.shape != value.shape or array.dtype != value.dtype:
                raise StaleError
        return found


class _Refused:
    """Raises what a check raises, where `status` tells that C refused an element."""

    def __init__(self, step: Refusal, plan: Plan) -> None:
        self.step, self.view = step, plan.views[step.check.value]

    def __call__(self, status: ndarray, root: ndarray) -> None:
        """root: the array in whose memory the value lies, dense."""
        if status[0] != self.step.number:
            return
        status[0] = 0
        value, as_strided = self.step.check.value, np.lib.stride_tricks.as_strided
        size = value.dtype.itemsize
        elements = as_strided(root, (root.size,), (size,))[self.view.offset :]
        array = as_strided(elements, value.shape, [step * size for step in self.view.strides])
        self.step.check.function(array, *self.step.check.rest)
        raise StaleError  # the check has no objection: run as written


def _unsolved(status: ndarray) -> None:
    """The error of the linear system that has no solution, as `status` tells."""
    number, status[0] = int(status[0]), 0
    if number == NO_MEMORY:
        raise MemoryError("no memory for the kernel")
    name = NAMES[number]
    if name == "logabsdet_slope":  # NumPy's has a result: run as written
        raise StaleError
    reason = "Matrix is not positive definite" if name == "cholesky" else "Singular matrix"
    raise np.linalg.LinAlgError(f"{name}: {reason}")


def _frozen(group: dict[str, Any]) -> dict[str, Any]:
    """A copy with tuples for lists, which may change in place: so it never equals the group."""
    params = group["params"]
    lists = {name: tuple(x) for name, x in group.items() if type(x) is list and x is not params}
    return {**group, **lists}


class _Announcement:
    """Bumps the version counters of overwritten Tensors, for graphs made before the call."""

    def __init__(self, nodes: list[Any]) -> None:
        self.nodes = nodes
        self.again()

    def again(self) -> None:
        """Look up the counters of the arrays that the Tensors have now."""
        self.write, self.written = bump_versions(self.nodes, "a compiled step")

    def __call__(self) -> None:
        """Set the latest write of each counter."""
        for each in self.written:
            each.last = self.write
        last_write.write = self.write


def _copied(array: ndarray) -> Any:
    return constant(np.array(array))


def _laid(array: Any, strides: tuple[int, ...], dtype: Any = None) -> ndarray:
    """The array in this layout: itself, or a copy."""
    array = np.asarray(array)
    if dtype is not None and array.dtype != dtype:
        array = array.astype(dtype)
    if array.size > 1 and array.strides != tuple(s * array.itemsize for s in strides):
        laid = empty(array.shape, array.dtype, strides)
        laid[...] = array
        return laid
    laid_array: ndarray = array
    return laid_array
