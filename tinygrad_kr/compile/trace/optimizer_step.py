"""A traced optimizer step: its pure rule on Tensors, with options read anew at each call."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.ir.bindings import Cohort, Option, StaleError, StateArray, StateNumber
from tinygrad_kr.compile.ir.program import Value
from tinygrad_kr.ops.node import constant
from tinygrad_kr.optim.lowering import lower, structure_of
from tinygrad_kr.tensor import Tensor

__all__ = ["LiveNumber", "TracedStep"]


class LiveNumber(Tensor):
    """A number that a rule computes with, known only when the program runs; never 0."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return True


class TracedStep:
    """One call of `Optimizer.step`; between the calls of a program it is the optimizer's plan."""

    ran = True

    def __init__(self, optimizer: Any) -> None:
        optimizer._write_back()
        optimizer._plan = None
        self.optimizer = optimizer
        self.cohorts: list[Cohort] = []
        self.outputs: list[Any] = []
        self.updates: list[tuple[Any, Value, Value, Value]] = []
        """Of each parameter, itself, what it was, its gradient, and what it is now."""
        self._parameters = len(optimizer._param_states)
        slots = optimizer._param_states
        self._before = [(slot, slot.arrays, slot.numbers) for slot in slots.values()]
        self._old_arrays: list[tuple[ndarray, ndarray]] = []
        """The arrays of the state that were overwritten, and what they were."""

    def carry_out(self, tracer: Any) -> None:
        """Update every parameter that has a gradient, its state too."""
        optimizer = self.optimizer
        for group in optimizer.param_groups:
            optimizer._check_options(group)
            absent: list[Any] = []
            for slots in optimizer._alike(group["params"], absent):
                self._update(tracer, group, slots)
            for parameter in absent:
                tracer.read_gradient(parameter)
        optimizer._plan = self
        optimizer._stepped = True

    def _update(self, tracer: Any, group: dict[str, Any], slots: list[Any]) -> None:
        optimizer = self.optimizer
        names = tuple(optimizer.defaults)
        structure = structure_of(names, tuple(group[name] for name in names))
        cohort = Cohort(group, structure, slots, tuple(slots[0].arrays))
        self.cohorts.append(cohort)
        options = {name: self._option(tracer, cohort, name, known) for name, known in structure}
        first = slots[0]
        program = lower(type(optimizer).rule, structure, tuple(first.numbers), tuple(first.arrays))
        numbers = {}
        for name, value in first.numbers.items():
            cohort.numbers[name] = np.array(value, np.float64)
            cohort.kinds[name] = type(value)
            known = tracer.states.get((first, name))
            if known is None:
                tracer.live(cohort.numbers[name], StateNumber(cohort, name))
            numbers[name] = _live(cohort.numbers[name] if known is None else known._data)
        made: dict[Any, dict[str, ndarray]] = {}
        for slot in slots:
            parameter = slot.param
            tracer.read_gradient(parameter)
            given = tracer.read(parameter), tracer.read(parameter._grad)
            state: dict[str, Any] = dict(numbers)
            for name, array in slot.arrays.items():
                known = tracer.states.get((slot, name))
                if known is None:
                    shaped = array.reshape(slot.shape)
                    tracer.live(shaped, StateArray(slot, name))
                    known = constant(shaped)
                state[name] = known
            updated, entries = type(optimizer).rule(
                parameter, parameter._grad, dict(state), **options
            )
            state |= entries
            parameter._overwrite(..., updated, optimizer._writer)
            self.updates.append((parameter, *given, tracer.read(parameter)))
            made[slot] = {}
            for name in program.array_state:
                self._keep_array(tracer, slot, name, state[name], made[slot])
        entries = {name: state[name] for name in program.number_state}
        kept = self._kept_numbers(tracer, cohort, entries)
        for slot, arrays in made.items():
            slot.keep(slot.arrays | arrays, dict(kept))

    @staticmethod
    def _option(tracer: Any, cohort: Cohort, name: str, known: Any) -> Any:
        value = cohort.group[name]
        if isinstance(known, tuple):
            return tuple(
                part if _is_known(part) else _number(tracer, Option(cohort, name, i))
                for i, part in enumerate(known)
            )
        return value if _is_known(known) else _number(tracer, Option(cohort, name, None))

    def _keep_array(
        self, tracer: Any, slot: Any, name: str, value: Any, new: dict[str, ndarray]
    ) -> None:
        if not isinstance(value, Tensor):
            value = constant(np.full(slot.shape, value, slot.param._data.dtype))
        if value.dtype != slot.param._data.dtype:
            value = value.astype(slot.param._data.dtype)
        binding = StateArray(slot, name, tracer.read(value))
        if name in slot.arrays:
            array = slot.arrays[name]
            self._old_arrays.append((array, array.copy()))
            binding.apply(value._data)
        else:
            array = new[name] = np.array(value._data).reshape(-1)
        # A later step in this run finds the elements there: no second array is kept for it.
        left = constant(array.reshape(slot.shape))
        tracer.stands_for(left._data, binding.value)
        tracer.states[slot, name] = left
        source = tracer.program.inputs.get(binding.value)
        if source is None or not binding.replaces(source):
            self.outputs.append(binding)

    def _kept_numbers(self, tracer: Any, cohort: Cohort, numbers: dict[str, Any]) -> dict[str, Any]:
        """The new numbers of the states, after they are noted as what the step leaves."""
        for name, value in numbers.items():
            if not isinstance(value, Tensor):
                value = constant(np.asarray(value, np.float64))
            binding = StateNumber(cohort, name, tracer.read(value))
            source = tracer.program.inputs.get(binding.value)
            if source is None or not binding.replaces(source):
                self.outputs.append(binding)
            tracer.states[cohort.slots[0], name] = value
            if name not in cohort.numbers:
                cohort.numbers[name] = np.zeros(())
                cohort.kinds[name] = int if name == "step" else float
            cohort.numbers[name][()] = value._data
        return {name: cohort.kinds[name](number) for name, number in cohort.numbers.items()}

    def settle(self) -> None:
        """The run has ended, and need not be undone."""
        self._before.clear()
        self._old_arrays.clear()

    def undo(self) -> None:
        """Put the optimizer's state back as it was."""
        self.optimizer._plan = None  # first, for a plan would hand its numbers to the slots again
        for slot, arrays, numbers in self._before:
            slot.keep(arrays, numbers)
        for array, old in self._old_arrays:
            array[...] = old

    # -------------------------------------------------------------- the plan between calls

    def gradients(self, check_options: Any = None) -> None:
        """An ordinary step after a compiled one makes a plan of its own."""
        return

    def prepare(self) -> None:
        """Before each call: StaleError where groups, options or states are of another kind."""
        self.check_options()
        if self.optimizer._plan is not self:
            self.load()
            self.take_over()

    def check_options(self) -> None:
        """StaleError where an option has become 0, or another kind of thing."""
        names = tuple(self.optimizer.defaults)
        for cohort in self.cohorts:
            self.optimizer._check_options(cohort.group)
            values = tuple(cohort.group[name] for name in names)
            if structure_of(names, values) != cohort.structure:
                raise StaleError

    def load(self) -> None:
        """Read the states that the optimizer has; StaleError where they are of other kinds."""
        self.optimizer._write_back()
        slots = self.optimizer._param_states
        if len(slots) != self._parameters:
            raise StaleError
        for cohort in self.cohorts:
            if any(slots.get(slot.param) is not slot for slot in cohort.slots):
                raise StaleError
            cohort.load()

    def write_back(self) -> None:
        """Store the numbers of every cohort in the optimizer's state."""
        for cohort in self.cohorts:
            cohort.write_back()

    def take_over(self) -> None:
        """From now on the optimizer's numbers are those that were loaded."""
        self.optimizer._plan = self


def _is_known(value: Any) -> bool:
    return value != "a number" or value is None


def _live(array: ndarray) -> LiveNumber:
    number = LiveNumber.__new__(LiveNumber)
    Tensor.__init__(number, array)
    return number


def _number(tracer: Any, option: Option) -> LiveNumber:
    array = np.array(option.fetch())
    tracer.live(array, option)
    return _live(array)
