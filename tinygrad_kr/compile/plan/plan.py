"""The plan of a program: its steps in order, and a view of memory for every value."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.ir.bindings import Constant, Gradient, GradientWrite, LeafWrite
from tinygrad_kr.compile.ir.c_checks import condition
from tinygrad_kr.compile.ir.c_ops import C_TYPES
from tinygrad_kr.compile.ir.layout import View, dense_strides, empty, extent, is_dense
from tinygrad_kr.compile.ir.program import Check, Instruction, Program, Value
from tinygrad_kr.compile.plan import memory
from tinygrad_kr.compile.plan.classify import Lowering, classify, is_chosen
from tinygrad_kr.compile.plan.concat import concat, with_ellipsis
from tinygrad_kr.compile.plan.convolution import channels_last, pooled_like
from tinygrad_kr.compile.plan.copies import with_owned_results, with_parts
from tinygrad_kr.compile.plan.rows import with_rows_checked
from tinygrad_kr.compile.plan.scans import scan_step
from tinygrad_kr.compile.plan.solutions import solution
from tinygrad_kr.compile.plan.steps import (
    FIRST_REFUSAL,
    OUTSIDE,
    ArenaLayout,
    Call,
    ConvolutionGroup,
    Labels,
    Loop,
    Pooling,
    Product,
    Reduction,
    Refusal,
    Rows,
    Scan,
    Segment,
    Solution,
    Step,
    TiledConvolution,
    TiledProduct,
    Triangle,
    _outputs,
    instructions_of,
    is_noting,
    is_returned,
    may_raise,
    read_by,
    values_of_params,
    written_by,
)
from tinygrad_kr.compile.plan.tiling import tiled
from tinygrad_kr.native import cpu, deadline
from tinygrad_kr.ops import linalg, shape
from tinygrad_kr.ops.indexing import diagonal, getitem
from tinygrad_kr.ops.window import convolve, convolve_weight
from tinygrad_kr.ops.writes import address, owner

_VIEWS = (
    shape.reshape, shape.transpose, shape.swapaxes, shape.broadcast_to, shape.flip, getitem,
    diagonal,
)  # fmt: skip


_STEPS: dict[Any, Callable[[Instruction], Step]] = {
    kind: kind for kind in (Reduction, Product, TiledProduct, Labels, Rows, Triangle, Pooling)
}
"""Steps of one instruction."""


class Plan:
    """A program in steps, with a view of memory for every value.

    single: whether the function returns its one result itself, in no container. in_c_order: values
    of loops that lie in C order, whatever the loops read.
    """

    def __init__(
        self, program: Program, single: bool = False, in_c_order: Collection[Value] = ()
    ) -> None:
        self._in_c_order = in_c_order
        self._lowerings = classify(program, _VIEWS)
        program = with_rows_checked(program, self._lowerings)
        program = with_owned_results(program, self._lowerings, _VIEWS)
        program, self._parts = with_parts(program, self._lowerings)
        self.program = program
        self.views: dict[Value, View] = {}
        self.roots: list[Value] = []
        """The value for which each piece of memory is allocated."""
        self.in_place: dict[Value, Value] = {}
        """By result, the input over which it is written."""
        self.status: Value | None = None
        """Where C notes that a linear system has no solution, or that a check refuses an element;
        None if there is neither."""
        self.view_ops: dict[Value, Instruction] = {}
        self._samples: dict[Value, ndarray] = {}
        self._whole: dict[Value, View] = {}
        """By concatenation, its view, once one of its parts has one."""
        self._kept = program.kept()
        self._numbers = program.free_numbers()
        groups = [lowering.group for lowering in self._lowerings.values()]
        self._inside = {value for group in groups if group is not None for value in group.inside}
        self._unplaced = {s.output: len(set(s.reads())) for s in program.instructions}
        """How many of the values that an op reads have no view yet."""
        self._effects = [s for s in reversed(program.instructions) if s.op.has_effect]
        """Ops with an effect that have no step yet, the next one last."""
        self._placed: list[Value] = []
        """Results of ops all of whose inputs have got a view lately."""
        self._awaited: defaultdict[Value, list[Value]] = defaultdict(list)
        for instruction in program.instructions:
            for value in set(instruction.reads()):
                self._awaited[value].append(instruction.output)
        self._checks: defaultdict[Value, list[Check]] = defaultdict(list)
        """By value, the checks of it that C makes."""
        for check in program.checks:
            if condition(check) is not None:
                self._checks[check.value].append(check)
        self._checkable: list[Check] = []
        """Checks in C of values that have got a view lately."""
        self._refusals = 0
        for value in program.inputs:
            self._allocate(value, _given_strides(value))
        self.steps = self._schedule()
        bodies = [step.body.plan.all_steps for step in self.steps if isinstance(step, Scan)]
        self.all_steps: list[Step] = [*self.steps, *chain.from_iterable(bodies)]
        """Its steps, with those in the bodies of its scans."""
        self._samples.clear()
        self._write_in_place()
        self._readers: defaultdict[int, set[int]] = defaultdict(set)
        """By root, the ids of the steps that read it."""
        self._decide_loops()
        self.lasting = {value for value in self._kept if not _is_only_copied(program, value)}
        """Values with memory of their own, new at each call."""
        workers = [workers_of(run) for run in _runs(self.steps, self._first_writing())]
        self.arena = self._arena([worker for run in workers for worker in run])
        self.segments = [self._segment(i, run) for i, run in enumerate(workers)]
        self.raises_late = self._raises_late()
        """Whether a step can raise when a gradient is half written."""
        self.looped = self._looped() if single else None
        """The result of each step, where steps may follow one another in a loop of C."""

    # -------------------------------------------------------------- functions

    def _decide_loops(self) -> None:
        """What each loop stores, and whether several threads share it."""
        for step in self.steps:
            for value in read_by(step):
                self._readers[self.views[value].root].add(id(step))
        for step in self.steps:
            if isinstance(step, Loop):
                outside = self.read_outside(step)
                step.stored = [s.output for s in step.instructions if s.output in outside]
                step.parallel = is_parallel(step, self.steps)

    def _arena(self, workers: list[list[Step]]) -> ArenaLayout:
        """Where all temporaries lie that NumPy does not allocate."""
        times = memory.lifetimes(workers, self.views, self.roots, self._kept)
        apart = {*self.lasting, *self.program.inputs}
        apart |= {step.instruction.output for step in self.steps if is_returned(step)}
        if self.status is not None:
            apart.add(self.status)
        return memory.arena({r: t for r, t in times.items() if self.roots[r] not in apart})

    def _segment(self, number: int, workers: list[list[Step]]) -> Segment:
        steps = [step for worker in workers for step in worker]
        if isinstance(steps[0], Call | Check):
            return Segment(f"part{number}", workers, [], {})
        values = {value for step in steps for value in (*read_by(step), *written_by(step))}
        used = sorted({self.views[value].root for value in values})
        starts = self.arena.starts
        return Segment(
            f"part{number}",
            workers,
            [root for root in used if root not in starts],
            {root: starts[root] for root in used if root in starts},
        )

    def _looped(self) -> Value | None:
        """The result, if a step is one C function that leaves all where the next one reads it."""
        program = self.program
        if len(self.segments) != 1 or not self.segments[0].is_c or self.raises_late:
            return None
        if any(map(is_noting, self.steps)):
            return None
        result = program.results[0] if program.results else None
        if not isinstance(result, Value) or result.shape or result not in self._kept:
            return None
        if any(isinstance(source, Gradient) for source in program.inputs.values()):
            return None
        for binding in program.outputs:
            if not isinstance(binding, GradientWrite) and binding.value not in self.in_place:
                return None
        made = {s.output for step in self.steps for s in instructions_of(step)}
        return result if result in made and result.dtype in C_TYPES else None

    def _raises_late(self) -> bool:
        gradients = {e.value for e in self.program.outputs if isinstance(e, GradientWrite)}
        roots = {self.views[value].root for value in gradients if value is not None}
        written = (
            any(self.views[value].root in roots for value in written_by(step))
            for step in self.steps
        )
        first = next((i for i, writes in enumerate(written) if writes), len(self.steps))
        return any(may_raise(step) or is_returned(step) for step in self.steps[first:])

    # -------------------------------------------------------------- views

    def _allocate(self, value: Value, strides: tuple[int, ...]) -> None:
        part = self._parts.get(value)
        if part is not None:
            whole, key = part
            if whole not in self._whole:
                self._whole[whole] = self._new_root(whole, dense_strides(whole.shape))
            self._see(value, self._samples[whole][key], self._whole[whole].root)
        elif value in self._whole:
            self._put(value, self._whole[value])
        else:
            self._put(value, self._new_root(value, strides))

    def _put(self, value: Value, view: View) -> None:
        self.views[value] = view
        self._checkable += self._checks.get(value, ())
        for output in self._awaited[value]:
            self._unplaced[output] -= 1
            if not self._unplaced[output]:
                self._placed.append(output)

    def _new_root(self, value: Value, strides: tuple[int, ...]) -> View:
        self.roots.append(value)
        self._samples[value] = empty(value.shape, value.dtype, strides)
        return View(len(self.roots) - 1, 0, strides)

    def _see(self, value: Value, seen: ndarray, root: int) -> None:
        """Give a value the view that a part of the sample of a root has."""
        whole = self._samples[self.roots[root]]
        start = address(seen) - address(whole)
        size = seen.dtype.itemsize
        strides = tuple(step // size for step in seen.strides)
        self._put(value, View(root, start // size, strides))
        self._samples[value] = seen

    def _view(self, instruction: Instruction) -> bool:
        """Give the result of a view op its view; False if it is a copy."""
        if instruction.op not in _VIEWS:
            return False
        base = instruction.inputs[0]
        if not isinstance(base, Value) or any(True for _ in values_of_params(instruction)):
            return False
        sample = self._samples[base]
        seen = instruction.op.forward(sample, *instruction.inputs[1:], **instruction.params)
        if instruction.op is getitem and isinstance(seen, np.generic):
            seen = sample[with_ellipsis(instruction.params["key"])]
        if not isinstance(seen, ndarray) or owner(seen) is not owner(sample):
            return False
        self._see(instruction.output, seen, self.views[base].root)
        self.view_ops[instruction.output] = instruction
        return True

    # -------------------------------------------------------------- order

    def _schedule(self) -> list[Step]:
        """Stage by stage: the loops of a stage, then the NumPy calls that end it."""
        self._take_views_of_inputs()
        steps: list[Step] = []
        self._take_checks(steps)
        early = [c for c in self.program.checks if c.value in self.views and condition(c) is None]
        steps += early
        checks = [c for c in self.program.checks if c not in early and condition(c) is None]
        pending = [s for s in self.program.instructions if s.output not in self.views]
        stages = _stages(self.program, self._is_quick, self._kept)
        stage, last = 0, max(stages.values(), default=0)
        while pending:
            deadline.check()
            before = len(pending)
            due = [s for s in pending if stages[s.output] <= stage]
            self._take_loops(self._alone(due), steps)
            ready = [check for check in checks if check.value in self.views]
            steps += ready
            checks = [check for check in checks if check not in ready]
            stage += 1
            left = [s for s in pending if s.output not in self.views]
            calls = [s for s in left if stages[s.output] <= stage and not self._is_single(s)]
            self._take_calls(self._take_views(calls), steps)
            self._take_checks(steps)
            done = self._inside | self.views.keys()
            pending = [s for s in self.program.instructions if s.output not in done]
            assert len(pending) < before or stage <= last, "a value that nothing makes is read"
        return steps + checks

    def _is_quick(self, instruction: Instruction) -> bool:
        """Whether an op needs no call: it is a view, C has it, or it comes with another one's."""
        lowering = self._lowerings[instruction.output]
        if instruction.op in _VIEWS or lowering.is_single:
            return True
        return lowering.group is not None and instruction is not lowering.group.instructions[0]

    def _is_single(self, instruction: Instruction) -> bool:
        """Whether an op is in C and in no group."""
        return self._lowerings[instruction.output].is_single

    def _is_elementwise(self, instruction: Instruction) -> bool:
        return self._lowerings[instruction.output].kind is Loop

    def _alone(self, instructions: list[Instruction]) -> list[Instruction]:
        return [s for s in instructions if self._lowerings[s.output].group is None]

    def _take_views_of_inputs(self) -> None:
        """Place the views of inputs, so that checks of them come before all that reads them."""
        for instruction in self.program.instructions:
            if instruction.op in _VIEWS and self._ready(instruction):
                self._view(instruction)
        self._placed.clear()

    def _take_checks(self, steps: list[Step]) -> None:
        """The checks in C of values that have got a view, before anything reads them."""
        for check in self._checkable:
            refused = condition(check)
            assert refused is not None
            self._refusals += 1
            steps.append(Refusal(check, refused, FIRST_REFUSAL + self._refusals, self._noting()))
        self._checkable.clear()

    def _ready(self, instruction: Instruction) -> bool:
        return not self._unplaced[instruction.output]

    def _take_views(self, pending: list[Instruction]) -> list[Instruction]:
        return [s for s in pending if not (self._ready(s) and self._view(s))]

    def _take_loops(self, due: list[Instruction], steps: list[Step]) -> None:
        """All steps that need no call, each as soon as what it reads has a place.

        Concatenations come first: they are short, and their readers can fuse.
        """
        ready = _Ready(due, self._unplaced, self._lowerings)
        self._take_ready_views(ready)
        while True:
            deadline.check()
            self._take_checks(steps)
            for instruction in ready.taken_from(ready.concats):
                keys = self._lowerings[instruction.output].keys
                assert keys is not None
                steps.append(concat(instruction, keys))
                self._allocate(instruction.output, dense_strides(instruction.output.shape))
                ready.add(self._placed)
                self._take_checks(steps)
            first = next(ready.taken_from(ready.singles), None)
            if first is None:
                return
            if self._is_elementwise(first):
                self._fuse(first, ready, steps)
            elif self._lowerings[first.output].kind is Solution:
                steps.append(solution(first, self._noting()))
                self._allocate(first.output, dense_strides(first.output.shape))
            elif self._lowerings[first.output].kind is Scan:
                step = scan_step(first, self.views, self._numbers, self._noting)
                steps.append(step)
                self._allocate(step.scratch, (1,))
                self._allocate(first.output, (1,))
            else:
                steps.append(_STEPS[self._lowerings[first.output].kind](first))
                self._allocate(first.output, self._strides_of(first))
            ready.add(self._placed)
            self._take_ready_views(ready)

    def _noting(self) -> Value:
        """Where C notes that a linear system has no solution, or that a check refuses a value."""
        if self.status is None:
            number = next(self._numbers)
            self.status = Value(number, (1,), np.dtype(np.int64), (8,))
            self._allocate(self.status, (1,))
        return self.status

    def _first_writing(self) -> int:
        """The step before which Python learns whether all systems had a solution: that after the
        last one, if anything is overwritten then."""
        solved = [i for i, step in enumerate(self.steps) if is_noting(step)]
        return solved[-1] + 1 if solved and self.in_place else 0

    def _take_ready_views(self, ready: _Ready) -> None:
        for instruction in ready.taken_from(ready.views):
            if self._view(instruction):
                ready.add(self._placed)
            else:
                ready.put_back(instruction)

    def _fuse(self, first: Instruction, ready: _Ready, steps: list[Step]) -> None:
        """A loop of `first` and of all that can run with it, over the same shape."""
        loop = Loop(first.output.shape)
        missing: dict[Value, int] = {}
        """Of readers of the loop, how many of their inputs are neither placed nor in it."""
        joining = [ready.order[first.output], *ready.of_shape.pop(loop.shape, ())]
        heapq.heapify(joining)
        while joining:
            instruction = ready.due[heapq.heappop(joining)]
            output = instruction.output
            if output in loop.expressions or (instruction is not first and not ready.take(output)):
                continue
            loop.instructions.append(instruction)
            loop.expressions[output] = self._lowerings[output].spelled
            for reader in self._awaited[output]:
                number = ready.order.get(reader)
                if number is None or reader.shape != loop.shape or reader in ready.taken:
                    continue
                missing[reader] = missing.get(reader, self._unplaced[reader]) - 1
                if not missing[reader] and self._is_elementwise(ready.due[number]):
                    heapq.heappush(joining, number)
        like = self._layout_of(loop)
        for instruction in loop.instructions:
            output = instruction.output
            order = None if output in self._in_c_order else like
            self._allocate(output, dense_strides(loop.shape, order))
        steps.append(loop)

    def _strides_of(self, instruction: Instruction) -> tuple[int, ...]:
        """The layout of a result: in C order, or, of pooling, like what it reads."""
        pools = self._lowerings[instruction.output].kind is Pooling
        strides = self.views[pooled_like(instruction)].strides if pools else None
        return dense_strides(instruction.output.shape, strides)

    def _layout_of(self, loop: Loop) -> tuple[int, ...] | None:
        """The strides of the first input of the loop's own shape that has no gaps."""
        for instruction in loop.instructions:
            for value in instruction.reads():
                view = self.views.get(value)
                if view and value.shape == loop.shape and is_dense(value.shape, view.strides):
                    return view.strides
        return None

    def _take_calls(self, pending: list[Instruction], steps: list[Step]) -> list[Instruction]:
        groups = [self._lowerings[instruction.output].group for instruction in pending]
        for group in dict.fromkeys(groups):
            if group is not None:
                self._take_group(group, steps)
        pending = self._take_views([s for s in pending if s.output not in self.views])
        ready = [s for s in self._alone(pending) if self._ready(s) and self._is_its_turn(s)]
        for instruction in ready:
            steps.append(Call(instruction))
            strides = _given_strides(instruction.output)
            if instruction.op is linalg.matmul:
                strides = dense_strides(instruction.output.shape)
            self._allocate(instruction.output, strides)
        return [s for s in pending if s not in ready]

    def _is_its_turn(self, instruction: Instruction) -> bool:
        """Whether a call has no effect, or is the next that has one: all programs of a function
        make them in the order of its code, so that processes that exchange arrays agree."""
        if not self._effects or not instruction.op.has_effect:
            return True
        if instruction is not self._effects[-1]:
            return False
        self._effects.pop()
        return True

    def _take_group(self, group: ConvolutionGroup, steps: list[Step]) -> None:
        """A convolution with its neighbours, if all that they read is computed."""
        taken = any(instruction.output in self.views for instruction in group.instructions)
        if taken or not all(value in self.views for value in read_by(group)):
            return
        step = tiled(group, self._numbers)
        self._allocate(step.scratch, (1,))
        steps.append(step)
        for instruction in group.instructions:
            output = instruction.output
            if output not in group.inside:
                last = len(output.shape) > 2 and not self._flattened(output)
                weight = instruction.op is convolve_weight
                plain = dense_strides(output.shape)
                self._allocate(
                    output, channels_last(output.shape) if last and not weight else plain
                )

    def _flattened(self, value: Value) -> bool:
        """Whether a reshape reads the value, and no convolution does."""
        readers = [s for s in self.program.instructions if value in s.reads()]
        joins = any(s.op is shape.reshape for s in readers)
        return joins and not any(s.op in (convolve, convolve_weight) for s in readers)

    def read_outside(self, loop: Loop) -> set[Value]:
        """Of a loop's results, those that another step reads or that outlive the call."""
        return {
            value
            for value in _outputs(loop)
            if value in self._kept or self._readers[self.views[value].root] - {id(loop)}
        }

    # -------------------------------------------------------------- writing over what is replaced

    def _write_in_place(self) -> None:
        """Parameters are updated in place when no later step reads the old elements."""
        replaces = {source: value for value, source in _replacements(self.program)}
        raising = max((i for i, step in enumerate(self.steps) if may_raise(step)), default=-1)
        taken: set[Value] = set()
        for source, value in replaces.items():
            made_in = next(
                (
                    i
                    for i, s in enumerate(self.steps)
                    if isinstance(s, Loop) and value in _outputs(s)
                ),
                None,
            )
            if made_in is None or value in taken or source in self._kept:
                continue
            if made_in < raising:
                continue
            old, new = self.views[source], self.views[value]
            if old.strides != new.strides or value.dtype != source.dtype:
                continue
            if self._is_viewed(value):
                continue
            if value in _result_values(self.program):
                continue
            readers = [i for i, step in enumerate(self.steps) if self._touches(step, old.root)]
            if any(i > made_in for i in readers) or not self._aligned(self.steps[made_in], source):
                continue
            taken.add(value)
            self.in_place[value] = source
            self.views[value] = old

    def _is_viewed(self, value: Value) -> bool:
        """Whether another value, a transpose or a slice of this one, lies in the same memory."""
        root = self.views[value].root
        return any(view.root == root for other, view in self.views.items() if other is not value)

    def _touches(self, step: Step, root: int) -> bool:
        return any(self.views[value].root == root for value in read_by(step))

    def _aligned(self, step: Step, source: Value) -> bool:
        """Whether a loop reads this memory only element by element as it goes."""
        view = self.views[source]
        return all(
            self.views[value] == view and value.shape == source.shape
            for value in read_by(step)
            if self.views[value].root == view.root
        )


class _Ready:
    """The instructions of a stage whose inputs have a place, by kind, each in the order of the
    program.

    due: the instructions of the stage. order: by result, the place among them.
    """

    def __init__(
        self,
        due: list[Instruction],
        unplaced: dict[Value, int],
        lowerings: dict[Value, Lowering],
    ) -> None:
        self.due, self._lowerings = due, lowerings
        self.order = {s.output: number for number, s in enumerate(due)}
        self.views: list[int] = []
        self.concats: list[int] = []
        self.singles: list[int] = []
        self.of_shape: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        """The elementwise ones, also among the singles."""
        self.taken: set[Value] = set()
        self.add([s.output for s in due if not unplaced[s.output]])

    def add(self, placed: list[Value]) -> None:
        """These have all that they read now; the list is emptied."""
        for output in placed:
            number = self.order.get(output)
            if number is not None and output not in self.taken:
                instruction = self.due[number]
                if instruction.op in _VIEWS:
                    heapq.heappush(self.views, number)
                else:
                    self.put_back(instruction)
        placed.clear()

    def put_back(self, instruction: Instruction) -> None:
        """One that is no view."""
        output = instruction.output
        number, lowering = self.order[output], self._lowerings[output]
        self.taken.discard(output)
        if lowering.keys is not None:
            heapq.heappush(self.concats, number)
        elif lowering.is_single:
            heapq.heappush(self.singles, number)
            if lowering.kind is Loop:
                self.of_shape[output.shape].append(number)

    def take(self, output: Value) -> bool:
        """Take an instruction; False if it was taken before."""
        if output in self.taken:
            return False
        self.taken.add(output)
        return True

    def taken_from(self, numbers: list[int]) -> Iterator[Instruction]:
        """The instructions of a heap, those included that come while one is worked on."""
        while numbers:
            instruction = self.due[heapq.heappop(numbers)]
            if self.take(instruction.output):
                yield instruction


def _stages(
    program: Program, is_quick: Callable[[Instruction], bool], kept: set[Value]
) -> dict[Value, int]:
    """Schedule: NumPy calls one stage after what they read, all else as late as its readers
    allow, so that elementwise ops fuse with their consumers and keep nothing in memory meanwhile.
    """
    quick = {s.output for s in program.instructions if is_quick(s)}
    early: dict[Value, int] = dict.fromkeys(program.inputs, 0)
    for instruction in program.instructions:
        at = max((early[value] for value in instruction.reads()), default=0)
        early[instruction.output] = at if instruction.output in quick else at + 1
    late: dict[Value, int] = {}
    for instruction in reversed(program.instructions):
        output = instruction.output
        at = early[output]
        if output in quick and output not in kept:
            at = max(at, late.get(output, at))
        late[output] = at
        needed = at if output in quick else at - 1
        for value in instruction.reads():
            late[value] = min(late.get(value, needed), needed)
    return late


def _replacements(program: Program) -> list[tuple[Value, Value]]:
    """Pairs of a new value and the input whose elements it replaces."""
    pairs = []
    for binding in program.outputs:
        if binding.value is None:
            continue
        for value, source in program.inputs.items():
            if type(source) is not Constant and binding.replaces(source):
                pairs.append((binding.value, value))
    return pairs


def _result_values(program: Program) -> set[Value]:
    """The values that must lie in memory of their own: results, gradients."""
    values = [binding.value for binding in program.outputs if not _owns(binding)]
    counted = [binding.value for binding in program.outputs if _owns(binding)]
    twice = [value for value in counted if counted.count(value) > 1]
    return {v for v in (*values, *twice, *program.results) if isinstance(v, Value)}


def _owns(binding: Any) -> bool:
    """Whether a binding writes into memory that is there already."""
    return isinstance(binding, LeafWrite) or not hasattr(binding, "leaf")


def _is_only_copied(program: Program, value: Value) -> bool:
    """Whether all that a value is kept for is to be copied into memory that is there."""
    bindings = [binding for binding in program.outputs if binding.value is value]
    returned = any(result is value for result in program.results)
    return not returned and not any(isinstance(e, GradientWrite) for e in bindings)


def _given_strides(value: Value) -> tuple[int, ...]:
    size = value.dtype.itemsize
    strides = tuple(step // size for step in value.strides)
    return strides if is_dense(value.shape, strides) else dense_strides(value.shape)


# ------------------------------------------------------------------ functions


def _runs(steps: list[Step], cut: int = 0) -> list[list[Step]]:
    """Runs of steps that are one C function, and the others by themselves.

    cut: the number of a step with which a run begins.
    """
    runs: list[list[Step]] = []
    for i, step in enumerate(steps):
        outside = isinstance(step, OUTSIDE)
        if not outside and i != cut and runs and not isinstance(runs[-1][0], OUTSIDE):
            runs[-1].append(step)
        else:
            runs.append([step])
    return runs


MAX_WORKER_STEPS = 16
"""Most steps in one C function: the compiler's time grows faster than the function's length."""


def workers_of(steps: list[Step]) -> list[list[Step]]:
    """The steps of each function: up to `MAX_WORKER_STEPS`.

    A large product, a convolution or a check has a function of its own. So values that are last
    read before it share memory with those that are first written after it.
    """
    groups: list[list[Step]] = []
    for step in steps:
        latest = groups[-1] if groups else []
        alone = any(
            isinstance(each, TiledProduct | TiledConvolution | Refusal)
            for each in [step, *latest[-1:]]
        )
        if latest and not alone and len(latest) < MAX_WORKER_STEPS:
            latest.append(step)
        else:
            groups.append([step])
    return groups


MIN_PARALLEL = 500_000
"""Minimum elements of a loop that several threads share.

Measured: a helper takes some 30 us to wake up. Adam's update of 200,704 elements takes 43 us on one
core and on two; that of 1,048,576 takes 283 us on one and 143 on two.
"""
MIN_PARALLEL_BESIDE_PRODUCTS = 50_000
"""The same in a program with large products, for which helpers are awake.

Measured: in half of its runs the longest loop of an MNIST step, 77 us on one core, let them fall
asleep.
"""


def is_parallel(step: Loop, steps: list[Step]) -> bool:
    """Whether a loop of the program is one for several threads."""
    size = extent(step.shape)
    enough = size >= MIN_PARALLEL or (
        size >= MIN_PARALLEL_BESIDE_PRODUCTS
        and any(isinstance(other, TiledProduct | TiledConvolution) for other in steps)
    )
    return enough and cpu.helpers() > 0


def chosen_dtypes(plan: Plan) -> set[str]:
    """The dtypes of the products that a plan has in C by `choice`."""
    products = (step.instruction for step in plan.all_steps if isinstance(step, TiledProduct))
    return {each.output.dtype.name for each in products if is_chosen(each)}
