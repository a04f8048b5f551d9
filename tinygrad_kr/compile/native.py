"""A plan made to run: C functions on fixed memory, and one Python function that calls them in turn
with the NumPy calls between them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from sys import getrefcount
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile import products
from tinygrad_kr.compile.build import build, included
from tinygrad_kr.compile.c_code import c_function, c_source, written_by
from tinygrad_kr.compile.compiler import HoldingLibrary
from tinygrad_kr.compile.guards import Condition
from tinygrad_kr.compile.layout import Place, empty
from tinygrad_kr.compile.memory import LINE, Arena, is_returned
from tinygrad_kr.compile.names import Names, Namespace
from tinygrad_kr.compile.optimizing import Option, StateArray, StateNumber
from tinygrad_kr.compile.plan import (
    OUTSIDE,
    Call,
    Plan,
    Step,
    may_raise,
    read_by,
    statements_of,
)
from tinygrad_kr.compile.program import Check, Program, Statement, Value
from tinygrad_kr.compile.sources import (
    Argument,
    Constant,
    Gradient,
    GradientWrite,
    Leaf,
    LeafWrite,
    StaleError,
)
from tinygrad_kr.compile.spelling import C_TYPES
from tinygrad_kr.compile.window_code import Runner, kernels
from tinygrad_kr.compile.windows import Convolution
from tinygrad_kr.escape import argument, string
from tinygrad_kr.ops import linalg
from tinygrad_kr.ops.node import _families, address, constant, last_write, note_writes, tick

QUICK = 100_000
"""Elements in all up to which a program takes some 10 microseconds."""


def _work(plan: Plan) -> int:
    return sum(root.size for root in plan.roots)


class Native:
    """`native.run(leaves)`: one call of the compiled function, given its flattened arguments."""

    def __init__(self, recording: Any, program: Program) -> None:
        plan = Plan(program)
        self.plan = plan
        names = Names(plan.program, recording, plan.roots)
        segments = _segments(plan.steps)
        functions = [
            names(c_function(plan, segment, f"part{i}"))
            for i, segment in enumerate(segments)
            if not isinstance(segment[0], OUTSIDE)
        ]
        for i, (first, *_) in enumerate(segments):
            if isinstance(first, Convolution):
                functions += [kernel.source() for kernel in kernels(plan, first, f"part{i}")]
        self.looped = _looped(plan, recording, functions)
        if self.looped is not None:
            functions.append(self.looped.c_source())
        self.c_source = c_source(functions)
        library: Any = _built(self.c_source) if functions else None
        if library is not None and _work(plan) < QUICK:
            # So short a call is not worth to let other threads have the interpreter meanwhile.
            library = HoldingLibrary(library)
        driver = _Driver(plan, recording, names)
        for i, segment in enumerate(segments):
            first = segment[0]
            if isinstance(first, Check):
                driver.check(first)
            elif isinstance(first, Call):
                driver.call(first.statement)
            elif isinstance(first, Convolution):
                driver.convolution(first, f"part{i}", library)
            else:
                driver.part(library[f"part{i}"], segment)
        driver.finish()
        if self.looped is not None:
            self.looped.attach(library, driver)
        self.source = driver.source()
        self.run = driver.compiled()
        self.run_if = driver.compiled_if
        self.parts = driver.parts
        self.calls = driver.calls
        self.loops = sum(not isinstance(step, OUTSIDE) for step in plan.steps)
        self.products = sum(
            isinstance(step, Call) and step.statement.op is linalg.matmul for step in plan.steps
        )
        self.workspace = driver.workspace
        self.arena = driver.arena
        self.memory = driver.memory


def _built(source: str) -> ctypes.CDLL:
    """The loaded program, connected with the library of products where it calls them."""
    program = partial(build, source, included(source))
    return products.connected(program) if products.SHARE_POINTER in source else program()


class Looped:
    """The whole step again and again without Python: for programs that are one C function.

    result: the value of each step that is kept; arguments: the roots of those that may advance.
    """

    CHUNK = 20_000
    """Steps after which Python may interrupt."""

    def __init__(self, plan: Plan, result: Value) -> None:
        self.plan, self.result = plan, result
        self.arguments = {
            source.index: plan.places[value].root
            for value, source in plan.program.sources.items()
            if isinstance(source, Argument)
        }

    def c_source(self) -> str:
        """A loop around the one function; `steps` are the bytes by which `roots` advance."""
        kind, root = C_TYPES[self.result.dtype], self.plan.places[self.result].root
        return (
            "EXPORT void many(void **memory, int64_t n, int64_t advancing, const int64_t *roots,\n"
            f"                 const int64_t *steps, {kind} *results) {{\n"
            "  for (int64_t i = 0; i < n; i++) {\n"
            "    part0(memory);\n"
            f"    results[i] = *({kind} *)memory[{root}];\n"
            "    for (int64_t k = 0; k < advancing; k++)\n"
            "      memory[roots[k]] = (char *)memory[roots[k]] + steps[k];\n"
            "  }\n"
            "}\n"
        )

    def attach(self, library: Any, driver: _Driver) -> None:
        """Find the function in the built library."""
        self.memory, self.pointer = driver.memory, driver.pointer
        self.function = library["many"]
        self.function.restype = None
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self.function.argtypes = [pointer, number, number, pointer, pointer, pointer]

    def reads(self, index: int, array: ndarray) -> bool:
        """Whether C reads an argument where it lies, not from a copy."""
        root = self.arguments.get(index)
        return root is None or self.memory[root] == address(array)

    def run(self, n: int, steps: dict[int, int]) -> ndarray:
        """n more steps, argument i advancing by `steps[i]` bytes before each; the n results."""
        results = np.empty(n, self.result.dtype)
        advancing = [(self.arguments[i], step) for i, step in steps.items() if i in self.arguments]
        roots = np.array([root for root, _ in advancing], np.int64)
        sizes = np.array([step for _, step in advancing], np.int64)
        before = [self.memory[root] for root, _ in advancing]
        try:
            for root, step in advancing:
                self.memory[root] = (self.memory[root] or 0) + step
            for start in range(0, n, self.CHUNK):
                part = results[start : start + self.CHUNK]
                self.function(
                    self.pointer, len(part), len(roots), address(roots), address(sizes),
                    address(part),
                )  # fmt: skip
        finally:
            for (root, _), was in zip(advancing, before, strict=True):
                self.memory[root] = was
        return results


def _looped(plan: Plan, recording: Any, functions: list[str]) -> Looped | None:
    """A loop in C, if a step is one C function that leaves all where the next one reads it."""
    program = plan.program
    if len(functions) != 1 or any(isinstance(step, OUTSIDE) for step in plan.steps):
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
    return Looped(plan, result) if result in made and result.dtype in C_TYPES else None


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


class Fresh:
    """Makes the arrays of results: a new one where somebody holds the one before."""

    __slots__ = ("dtype", "memory", "root", "shape", "strides")

    def __init__(self, value: Value, strides: tuple[int, ...], memory: Any, root: int) -> None:
        self.shape, self.dtype, self.strides = value.shape, value.dtype, strides
        self.memory, self.root = memory, root

    def __call__(self) -> Any:
        """A Tensor with memory of its own, which C writes to from now on."""
        array = empty(self.shape, self.dtype, self.strides)
        self.memory[self.root] = address(array)
        return constant(array)


class Guest:
    """Puts a value into the memory of a gradient that is computed later: `guest(gradient)`."""

    def __init__(self, value: Value, place: Place, start: int, memory: Any) -> None:
        self.value, self.root, self.start, self.memory = value, place.root, start, memory
        self.strides = tuple(step * value.dtype.itemsize for step in place.strides)

    def __call__(self, gradient: ndarray) -> ndarray:
        """Its array, which does not hold the gradient: that somebody does is counted."""
        value = self.value
        first = -(-address(gradient) // LINE) * LINE
        self.memory[self.root] = start = first + self.start
        raw = (ctypes.c_char * (value.size * value.dtype.itemsize)).from_address(start)
        return np.ndarray(value.shape, value.dtype, memoryview(raw), 0, self.strides)


class _Driver(Namespace):
    """Writes the Python function, and holds what its names stand for."""

    def __init__(self, plan: Plan, recording: Any, names: Names) -> None:
        self.plan, self.recording, self._in_python = plan, recording, names.in_python
        self.memory = (ctypes.c_void_p * max(len(plan.roots), 1))()
        self.pointer = ctypes.addressof(self.memory)
        self.lines: list[str] = []
        self._counts_readers = False
        self.parts: list[Any] = []
        self.calls = 0
        self._changing: list[str] = []
        self._reseated: dict[str, str] = {}
        self._may_raise = any(isinstance(step, OUTSIDE) for step in plan.steps)
        first = next((i for i, s in enumerate(plan.steps) if not isinstance(s, Check)), 0)
        self._raises_late = any(map(may_raise, plan.steps[first:]))
        super().__init__(
            {
                "memory": self.memory,
                "where": ctypes.byref(self.memory),  # what ctypes passes on at once
                "address": address,
                "laid": _laid,
                "matmul": np.matmul,
                "frozen": _frozen,
                "references": getrefcount,
                "Stale": StaleError,
                "tick": tick,
                "last_write": last_write,
            }
        )
        self.names |= {"rebound": last_write.rebound, "read_before": None}
        self._arrays: dict[Value, str] = {}
        self._fresh: dict[Value, str] = {}
        self._kept = plan.program.kept()
        lasting = {value for value in self._kept if not self._only_copied(value)}
        self.arena = Arena(plan, lasting, filter(self._lends, lasting))
        self.workspace = self.arena.nbytes
        sources = [plan.program.sources[value] for value in plan.in_place.values()]
        self._overwritten = [source for source in sources if isinstance(source, Leaf)]
        written = {effect.node for effect in plan.program.effects if isinstance(effect, LeafWrite)}
        self._written = {
            value
            for value, source in plan.program.sources.items()
            if isinstance(source, Leaf) and source.node in written
        }
        if written:
            self.names["locked"] = _families
            self.lines += ["if locked:", "    raise Stale"]
        self._sources()

    # -------------------------------------------------------------- sources

    def _sources(self) -> None:
        self._steps()
        for value, source in self.plan.program.sources.items():
            name = f"a{value.number}"
            self._arrays[value] = name
            if isinstance(source, Argument):
                given = f"leaves[{source.index}]"
                tensor = source.index not in self.recording.plain_arguments
                self.lines.append(f"{name} = {given}._data" if tensor else f"{name} = {given}")
                self._seat(value, name)
            elif isinstance(source, Leaf):
                self.lines.append(f"{name} = {self.name(source.node, 'leaf')}._data")
                self._seat(value, name)
            elif isinstance(source, Constant):
                self.names[name] = source.array
                self._constant(value, source)
            elif isinstance(source, Option | StateArray | StateNumber) and not self._called(value):
                continue
            else:
                fetch = self.name(source.fetch, "fetch")
                self.lines.append(f"{name} = {fetch}()")
                self._seat(value, name)

    def _called(self, value: Value) -> bool:
        """Whether a NumPy call reads an array, so that it is wanted in Python too."""
        root = self.plan.places[value].root
        return any(
            self.plan.places[read].root == root
            for step in self.plan.steps
            if isinstance(step, Call | Check)
            for read in read_by(step)
        )

    def _constant(self, value: Value, source: Constant) -> None:
        place = self.plan.places[value]
        array = _laid(source.array, place.strides)
        if array is source.array or source.fixed:
            self.memory[place.root] = address(array)
            self.names[f"a{value.number}"] = array
            return
        layout = self.name(place.strides, "strides")
        name = f"a{value.number}"
        original = self.name(source.array, "original")
        self.lines.append(f"{name} = laid({original}, {layout})")
        self.lines.append(f"memory[{place.root}] = address({name})")

    def _seat(self, value: Value, name: str) -> None:
        """Tell C where an array is, unless it is where it was."""
        place = self.plan.places[value]
        held = f"h{value.number}"
        self.names[held] = None
        strides = tuple(step * value.dtype.itemsize for step in place.strides)
        dtype = self.name(value.dtype, "dtype")
        self.lines.append(f"if {name} is not {held}:")
        self.lines.append(f"    if {name}.shape != {value.shape} or {name}.dtype != {dtype}:")
        self.lines.append("        raise Stale")
        if value in self._written:
            self.lines.append(f"    if not {name}.flags.writeable:")
            self.lines.append("        raise Stale")
        if value.size > 1:
            self.lines.append(f"    if {name}.strides != {strides}:")
            if value in self.plan.in_place.values():
                self.lines.append("        raise Stale")
            else:
                layout = self.name(place.strides, "strides")
                self.lines.append(f"        {name} = laid({name}, {layout})")
        self.lines.append(f"    {held} = {name}")
        written = [leaf.node for leaf in self._overwritten]
        if written and isinstance(self.plan.program.sources[value], Argument):
            # An argument in the memory of what the step overwrites is read as it was at the start.
            overlaps = self.name(_Overlap(written), "overlaps")
            self.lines.append(f"    if {overlaps}({name}):")
            self.lines.append(
                f"        {name}, {held} = laid({name}.copy(), {place.strides}), None"
            )
        self.lines.append(f"    memory[{place.root}] = address({name})")

    def _steps(self) -> None:
        """The optimizers' states and options, looked at again only where something is another."""
        for step in self.recording.steps:
            loader = _Loader(self, step)
            name = self.name(step, "step")
            optimizer = self.name(step.optimizer, "optimizer")
            load = self.name(loader, "load")
            self.lines.append(f"if {optimizer}._plan is not {name}:")
            self.lines.append(f"    {load}.state()")
            for cohort in step.cohorts:
                group = self.name(cohort.group, "group")
                seen = f"seen_{len(self.names)}"
                self.names[seen] = None
                self.lines.append(f"if {group} != {seen}:")
                self.lines.append(f"    {load}.options()")
                self.lines.append(f"    {seen} = frozen({group})")

    # -------------------------------------------------------------- arrays

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
        terms += [argument(name, self._term(x)) for name, x in statement.params.items()]
        return ", ".join(terms)

    def _term(self, x: Any) -> str:
        if isinstance(x, Value):
            return self.array(x)
        if x is ...:
            return "..."
        if x is None or isinstance(x, bool) or type(x) is int:
            return repr(x)
        if type(x) is str:
            return string(x)
        if type(x) is tuple:
            return f"({''.join(self._term(part) + ', ' for part in x)})"
        if type(x) is list:
            return f"[{', '.join(map(self._term, x))}]"
        return self.name(x, "given")

    def _own(self, value: Value) -> None:
        """Memory for a value: its own at each call if it outlives it, else always the same."""
        place = self.plan.places[value]
        known = value in self._arrays or value in self.plan.in_place
        if known or self.plan.roots[place.root] is not value:
            return
        if value in self._kept and not self._only_copied(value):
            self._new_memory(value, Fresh(value, place.strides, self.memory, place.root))
            return
        if value in self.arena.host:
            self._own(self.arena.host[value])
            return
        array = self.arena.array(value)
        name = self.name(array, f"buffer{value.number}")
        self.memory[place.root] = address(array)
        self._arrays[value] = name

    def _new_memory(self, value: Value, fresh: Fresh) -> None:
        """A Tensor for a result, and its array: those of the call before, if only we and the leaf
        whose gradient it is hold them."""
        tensor, array = f"t{value.number}", f"a{value.number}"
        make = self.name(fresh, "new")
        self.names[tensor] = made = fresh()
        self.names[array] = made._data
        self._fresh[value] = tensor
        self._arrays[value] = array
        self._changing += [tensor, array]
        leaf = None if self._raises_late else self._gradient_alone(value)
        counted = f"references({tensor}) + references({array})"
        if leaf is None:
            self.lines.append(f"if {counted} > 5:")
        else:
            self._counts_readers = True
            self.lines.append(
                f"if {leaf}._grad is not {tensor} or read is not read_before and {counted} > 6:"
            )
        self.lines.append(f"    {tensor} = {make}()")
        self.lines.append(f"    {array} = {tensor}._data")
        if leaf is not None and not self._may_raise:
            self.lines.append(f"    {leaf}._grad = {tensor}")
        for guest, start in self.arena.guests.get(value, []):
            name = self._arrays[guest] = f"buffer{guest.number}"
            put = Guest(guest, self.plan.places[guest], start, self.memory)
            self.names[name] = put(made._data)
            self._changing.append(name)
            self.lines.append(f"    {name} = {self.name(put, 'put')}({array})")

    def _gradient_alone(self, value: Value) -> str | None:
        """The leaf, if a value is its gradient and nothing else."""
        effect = self._only_effect(value)
        return self.name(effect.leaf, "leaf") if isinstance(effect, GradientWrite) else None

    def _only_effect(self, value: Value) -> Any:
        """What a value is kept for, if that is one effect and nothing else."""
        program = self.plan.program
        effects = [effect for effect in program.effects if effect.value is value]
        returned = any(result is value for result in program.results)
        return effects[0] if len(effects) == 1 and not returned else None

    def _lends(self, value: Value) -> bool:
        """Whether a value is a gradient that nobody reads and no error leaves behind before it is
        computed."""
        sources, steps = self.plan.program.sources.values(), self.plan.steps
        read = any(isinstance(source, Gradient) for source in sources)
        safe = not read and not any(map(is_returned, steps))
        return safe and isinstance(self._only_effect(value), GradientWrite)

    def _only_copied(self, value: Value) -> bool:
        """Whether all that a value is kept for is to be copied into memory that is there."""
        program = self.plan.program
        effects = [effect for effect in program.effects if effect.value is value]
        returned = any(result is value for result in program.results)
        return not returned and not any(isinstance(e, GradientWrite) for e in effects)

    # -------------------------------------------------------------- steps

    def part(self, function: Any, steps: list[Step]) -> None:
        """A C function."""
        for step in steps:
            for value in written_by(self.plan, step):
                self._own(value)
        function.restype = None
        self.parts.append(function)
        self.lines.append(f"{self.name(function, 'part')}(where)")

    def call(self, statement: Statement) -> None:
        """A NumPy call, whose result C may come to read."""
        self.calls += 1
        output = statement.output
        place = self.plan.places[output]
        if statement.op is linalg.matmul and len(output.shape) > 1:
            terms = self._terms(statement)
            self._own(output)
            self.lines.append(f"matmul({terms}, out={self._arrays[output]})")
            return
        forward = self.name(statement.op.forward, statement.op.__name__)
        name = f"a{output.number}"
        dtype, layout = self.name(output.dtype, "dtype"), self.name(place.strides, "strides")
        made = f"{forward}({self._terms(statement)})"
        self.lines.append(f"{name} = laid({made}, {layout}, {dtype})")
        self.lines.append(f"memory[{place.root}] = address({name})")
        self._arrays[output] = name

    def convolution(self, step: Convolution, name: str, library: Any) -> None:
        """The products of a convolution, and what runs along with them."""
        self.calls += 1
        for statement in step.statements:
            if statement.output not in step.inside:
                self._own(statement.output)
        runner = Runner(self.plan, step, name, library, self.pointer)
        self.workspace += runner.bytes
        self.lines.append(f"{self.name(runner.run, 'convolution')}()")

    def check(self, check: Check) -> None:
        """A function that may raise."""
        self.calls += 1
        terms = ", ".join([self.array(check.value), *map(self._term, check.rest)])
        self.lines.append(f"{self.name(check.function, 'check')}({terms})")

    # -------------------------------------------------------------- the end

    def finish(self) -> None:
        """What a call leaves behind, and what it returns."""
        written = []
        for effect in self.plan.program.effects:
            value = effect.value
            if isinstance(effect, GradientWrite):
                leaf = self.name(effect.leaf, "leaf")
                if value in self._fresh and self._gradient_alone(value) and not self._may_raise:
                    continue
                self.lines.append(f"{leaf}._grad = {self._tensor(value)}")
            else:
                if isinstance(effect, LeafWrite):
                    written.append(effect.node)
                if value is not None and value not in self.plan.in_place:
                    apply = self.name(effect.apply, "write")
                    self.lines.append(f"{apply}({self.array(value)})")
        if written:
            announce = self.name(_Announcement(written), "written")
            self.lines.append(f"last_write.time = {announce}.write.time = tick()")
            self.lines.append(f"if last_write.write is not {announce}.write:")
            self.lines.append(f"    {announce}()")
            for leaf in written:
                self._reseated[self.name(leaf, "leaf")] = announce
        if self._counts_readers:
            self.lines.append("read_before = read")
        results = [self._result(result) for result in self.plan.program.results]
        if self.recording.single:
            self.lines.append(f"return {results[0]}")
        else:
            rebuild = self.name(self.recording.rebuild, "rebuild")
            self.lines.append(f"return {rebuild}([{', '.join(results)}])")

    def _tensor(self, value: Value | None) -> str:
        if value is None:
            return "None"
        if value in self._fresh:
            return self._fresh[value]
        copied = self.name(_copied, "copied")
        return f"{copied}({self.array(value)})"

    def _result(self, result: Any) -> str:
        if not isinstance(result, Value):
            return self.name(result, "result")
        if result in self.recording.plain:
            array = self.array(result)
            return f"{array}.copy()" if result.shape else f"{array}[()]"
        return self._tensor(result)

    def source(self) -> str:
        """The whole function."""
        return f"def run(leaves):\n    {self._body()}\n"

    def _body(self) -> str:
        held = [name for name in self.names if name[0] == "h" and name[1:].isdigit()]
        held += self._changing
        held += [name for name in self.names if name.startswith("seen_")]
        held += ["rebound"] if self._fresh else []
        held += ["read_before"] if self._counts_readers else []
        first = [f"global {', '.join(held)}"] if held else []
        if self._fresh:
            # Nobody's gradient is `...`, and so many hold it that another Tensor is made.
            first += [
                "if last_write.rebound is not rebound:",
                "    rebound = last_write.rebound",
                f"    {' = '.join(self._fresh.values())} = ...",
            ]
        first += ["read = last_write.read"] if self._counts_readers else []
        lines = [self._with_announcement(line) for line in self.lines]
        return self._in_python("\n    ".join([*first, *lines]))

    def _with_announcement(self, line: str) -> str:
        """Where a written leaf has another array than before, its writes are noted anew."""
        for leaf, announce in self._reseated.items():
            if line.endswith(f"= {leaf}._data"):
                name = line.split(" = ")[0]
                return f"{line}\n    if {name} is not h{name[1:]}:\n        {announce}.again()"
        return line

    def compiled(self) -> Callable[[Sequence[Any]], Any]:
        """The function itself."""
        self._held = {self._in_python(name): thing for name, thing in self.names.items()}
        exec(compile(self.source(), "<compiled step>", "exec"), self._held)
        return self._quiet(self._held.pop("run"))  # which refers to what is held: no cycle

    def compiled_if(self, condition: Condition, missed: Any) -> Callable[[tuple[Any, ...]], Any]:
        """The same, but `missed`, with nothing done, where a condition does not hold."""
        return self._quiet(
            condition.before(f"leaves = args\n    {self._body()}", self._held, missed)
        )

    def _quiet(self, run: Callable[..., Any]) -> Callable[..., Any]:
        return np.errstate(all="ignore")(run) if self.calls else run


class _Loader:
    """Where C finds an optimizer's options and state."""

    def __init__(self, driver: _Driver, step: Any) -> None:
        self.step, self.memory = step, driver.memory
        self._options: list[tuple[Option, ndarray]] = []
        self._state: list[tuple[Any, int, Value]] = []
        plan = driver.plan
        for value, source in plan.program.sources.items():
            root = plan.places[value].root
            if isinstance(source, Option) and source.cohort in step.cohorts:
                array = np.array(source.fetch())
                self.memory[root] = address(array)
                self._options.append((source, array))
            elif isinstance(source, StateNumber) and source.cohort in step.cohorts:
                self.memory[root] = address(source.fetch())
            elif isinstance(source, StateArray):
                slots = [slot for cohort in step.cohorts for slot in cohort.slots]
                if any(source.slot is slot for slot in slots):
                    self._state.append((source, root, value))
                    self.memory[root] = address(source.fetch())

    def options(self) -> None:
        """Read the options again; StaleError where they are of another kind."""
        self.step.check_options()
        for option, array in self._options:
            array[()] = option.fetch()

    def state(self) -> None:
        """Read the state again; StaleError where it is of another kind, or elsewhere."""
        self.step.load()
        for source, root, value in self._state:
            now = source.fetch()
            if now.shape != value.shape or now.dtype != value.dtype:
                raise StaleError
            self.memory[root] = address(now)


def _frozen(group: dict[str, Any]) -> dict[str, Any]:
    """A copy that a list among the options, which may change where it is, does not equal."""
    params = group["params"]
    lists = {name: tuple(x) for name, x in group.items() if type(x) is list and x is not params}
    return {**group, **lists}


class _Announcement:
    """Lets graphs that were recorded before a call know what it has overwritten."""

    def __init__(self, nodes: list[Any]) -> None:
        self.nodes = nodes
        self.again()

    def again(self) -> None:
        """Note the writes for the arrays that the Tensors have now."""
        self.write, self.written = note_writes(self.nodes, "a compiled step")

    def __call__(self) -> None:
        """This was the latest write to them."""
        last_write.write = self.write
        for each in self.written:
            each.last = self.write


class _Overlap:
    """Whether an array lies in the memory of one of these Tensors."""

    def __init__(self, nodes: list[Any]) -> None:
        self.nodes = nodes

    def __call__(self, array: ndarray) -> bool:
        return any(np.may_share_memory(array, node._data) for node in self.nodes)


def _copied(array: ndarray) -> Any:
    return constant(np.array(array))


def _laid(array: Any, strides: tuple[int, ...], dtype: Any = None) -> ndarray:
    """The array with its elements in these places: itself, or a copy."""
    array = np.asarray(array)
    if dtype is not None and array.dtype != dtype:
        array = array.astype(dtype)
    if array.size > 1 and array.strides != tuple(s * array.itemsize for s in strides):
        laid = empty(array.shape, array.dtype, strides)
        laid[...] = array
        return laid
    laid_array: ndarray = array
    return laid_array
