"""Random programs with state: ops with sharing and views, writes, hooks, several backward passes.

Hypothesis draws the statements one by one. Each is executed by the engine and by a model that knows
no derivative rule: plain arrays, and four displacements of each along one direction of the leaves.
Their differences give the first and second derivative that `backward` and `grad` must agree with.
At the end the whole program is run again, eager and compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from harness import BACKENDS, close, without_compiler
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from numpy import ndarray
from test_random_graphs import BINARY, LARGEST, REDUCTIONS, UNARY, bounded, fitting

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.autograd import MutationError
from tinygrad_kr.compile import Compiled
from tinygrad_kr.ops.writes import owner
from tinygrad_kr.testing import axes, indices

STEP = 2e-3
TIMES = (-2 * STEP, -STEP, STEP, 2 * STEP)
"""The displacements of the leaves, in units of their directions."""

# Each returns a view where NumPy does.
VIEWS: dict[str, Callable[[Any], Any]] = {
    "transposed": lambda x: x.T,
    "flat": lambda x: x.reshape(-1),
    "column": lambda x: x.reshape(-1, 1),
    "new axis": lambda x: x[None],
    "reversed": lambda x: x[::-1] if x.ndim else x,
    "broadcast": lambda x: np.broadcast_to(x, (2, *x.shape)) if x.ndim < 3 else x,
}


# ------------------------------------------------------------------ the model


@dataclass(eq=False)
class Value:
    """An array, its displacements, and what it was recorded from."""

    array: ndarray
    moved: list[ndarray]
    parents: list[Value] = field(default_factory=list)
    made: int = 0
    recorded: bool = False
    freed: bool = False

    @property
    def is_leaf(self) -> bool:
        return not self.parents

    def displaced(self, i: int) -> ndarray:
        return self.array + self.moved[i]

    def first(self) -> tuple[float, float]:
        """The derivative of the sum along the direction, and the error to expect."""
        a, b, c, d = (float(moved.sum()) for moved in self.moved)
        simple = (c - b) / (2 * STEP)
        slope = (8 * (c - b) - (d - a)) / (12 * STEP)
        return slope, 0.02 * abs(slope - simple)

    def second(self) -> tuple[float, float]:
        a, b, c, d = (float(moved.sum()) for moved in self.moved)
        simple = (b + c) / STEP**2
        curve = (16 * (b + c) - (a + d)) / (12 * STEP**2)
        return curve, 0.02 * abs(curve - simple)

    def graph(self) -> list[Value]:
        """The recorded results that this one depends on, itself included."""
        seen = {self} if self.recorded and not self.is_leaf else set()
        order = list(seen)
        for value in order:
            for parent in value.parents:
                if parent.recorded and not parent.is_leaf and parent not in seen:
                    seen.add(parent)
                    order.append(parent)
        return order


def agrees(found: float, expected: tuple[float, float], rtol: float) -> None:
    value, error = expected
    assert abs(found - value) <= rtol * (1 + abs(value)) + error, (found, value, error)


# ------------------------------------------------------------------ statements, on Tensors


@dataclass
class Statement:
    """One line of a program: what it does with the values so far."""

    kind: str
    inputs: tuple[int, ...]
    function: Callable[..., Any] | None = None
    recorded: bool = True
    factor: float | None = None
    key: Any = None
    number: float = 0.0
    retain: bool = False


def scale_by(factor: float) -> Callable[[Tensor], Tensor]:
    return lambda g: g * factor


def execute(statement: Statement, values: list[Any], leaves: list[Any], found: list[Any]) -> None:
    """Run a statement with the engine. Results of `grad` go to `found`."""
    chosen = [values[i] for i in statement.inputs]
    match statement.kind:
        case "op":
            assert statement.function is not None
            if statement.recorded:
                out = statement.function(*chosen)
            else:
                with tk.no_grad():
                    out = statement.function(*chosen)
            if statement.factor is not None and out.requires_grad:
                out.register_hook(scale_by(statement.factor))
            values.append(out)
        case "detach":
            values.append(chosen[0].detach())
        case "write":
            target = chosen[0] if chosen[0].is_leaf else chosen[0].detach()
            with tk.no_grad():
                target[statement.key] = statement.number
        case "zero":
            for leaf in leaves:
                leaf.grad = None
        case "backward":
            chosen[0].sum().backward(retain_graph=statement.retain)
        case "grad":
            total = chosen[0].sum()
            options: Any = {"materialize_grads": True, "retain_graph": statement.retain}
            found.extend(tk.autograd.grad(total, leaves, **options))
        case "second":
            total = chosen[0].sum()
            slope = along(
                tk.autograd.grad(total, leaves, create_graph=True, materialize_grads=True)
            )
            found.append(slope)
            if slope.requires_grad:
                again = tk.autograd.grad(
                    slope, leaves, materialize_grads=True, retain_graph=statement.retain
                )
                found.append(along(again))


def added_to_zero(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *values: function(*values) + 0.0


def weighted_squares(*values: Any) -> Any:
    """A number that depends on every value; not large, so that differences stay exact."""
    parts = [np.sum(np.tanh(x) ** 2) * (0.1 + 0.07 * k) for k, x in enumerate(values)]
    return sum(parts) / len(parts)


def direction(i: int, shape: tuple[int, ...]) -> ndarray:
    """The direction in which the model moves leaf number i."""
    size = int(np.prod(shape))
    return np.cos(1.0 + 2.3 * i + 1.7 * np.arange(size)).reshape(shape)


def along(gradients: Any) -> Any:
    """The derivative along the directions of all leaves."""
    return sum((g * direction(i, g.shape)).sum() for i, g in enumerate(gradients))


# ------------------------------------------------------------------ the machine


class Programs(RuleBasedStateMachine):
    """Draws statements; engine and model execute each, and must agree."""

    backend = "numpy"
    largest_start = 12
    """Most ops that a program begins with."""
    largest_compiled = 40
    """Most statements of a program that is compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Value] = []
        self.tensors: list[Any] = []
        self.leaves: list[Any] = []
        self.start: list[ndarray] = []
        self.statements: list[Statement] = []
        self.writes: list[tuple[int, ndarray]] = []
        self.time = 0
        self.total = (0.0, 0.0)
        """What the leaves' `.grad` must give along the directions."""

    @initialize(
        shapes=st.lists(
            st.sampled_from([(), (1,), (3,), (2, 3), (3, 1), (2, 1, 2)]), min_size=1, max_size=3
        ),
        data=st.data(),
    )
    def begin(self, shapes: list[tuple[int, ...]], data: st.DataObject) -> None:
        """Leaves, and the first ops of them."""
        number = st.integers(-96, 96).map(lambda n: n / 64)
        for i, shape in enumerate(shapes):
            size = int(np.prod(shape))
            drawn = data.draw(st.lists(number, min_size=size, max_size=size))
            array = np.array(drawn, float).reshape(shape)
            self.start.append(array.copy())
            moved = [t * direction(i, shape) for t in TIMES]
            self.values.append(Value(array, moved, recorded=True))
            self.leaves.append(tk.tensor(array.copy(), requires_grad=True))
        self.tensors = list(self.leaves)
        for _ in range(data.draw(st.integers(0, self.largest_start))):
            self.draw_op(data)

    # -------------------------------------------------------------- statements that make a value

    def make(
        self,
        function: Callable[..., Any],
        inputs: list[int],
        recorded: bool = True,
        factor: float | None = None,
    ) -> None:
        values = [self.values[i] for i in inputs]
        if factor is not None and not any(v.recorded for v in values):
            factor = None
        if factor is not None:
            # A rule that reads its output would pass the hook again at second order; that of + not.
            function = added_to_zero(function)
        array = np.asarray(function(*(v.array for v in values)))
        moved = [
            (function(*(v.displaced(i) for v in values)) - array) * (recorded and (factor or 1.0))
            for i in range(len(TIMES))
        ]
        is_recorded = recorded and any(v.recorded for v in values)
        self.run(Statement("op", tuple(inputs), function, recorded, factor))
        out = self.tensors[-1]
        made = Value(array, moved, values if is_recorded else [], self.time, is_recorded)
        if out is self.tensors[inputs[0]]:  # the engine gave the same Tensor
            made = values[0]
        self.values.append(made)
        assert out.requires_grad == is_recorded
        np.testing.assert_allclose(out.data, array, rtol=1e-11, atol=1e-13)

    def run(self, statement: Statement) -> list[Any]:
        found: list[Any] = []
        execute(statement, self.tensors, self.leaves, found)
        self.statements.append(statement)
        self.time += 1
        return found

    @rule(data=st.data(), count=st.integers(1, 8))
    def compute(self, data: st.DataObject, count: int) -> None:
        """Ops of one or two values and reductions; some under `no_grad`, some with a hook."""
        for _ in range(count):
            self.draw_op(data)

    def draw_op(self, data: st.DataObject) -> None:
        i, j = self.choose(data), self.choose(data)
        recorded = data.draw(st.sampled_from([True] * 7 + [False]))
        factor = data.draw(st.sampled_from([None] * 9 + [-0.5, 2.0]))
        function, inputs = data.draw(self.operations(i, j))
        self.make(function, inputs, recorded, factor)

    def operations(self, i: int, j: int) -> st.SearchStrategy[Any]:
        """Functions with their inputs: one or both of two values."""

        def unary(name: str) -> Any:
            return lambda x: bounded(UNARY[name](x)), [i]

        def binary(name: str) -> Any:
            return lambda a, b: bounded(BINARY[name](a, fitting(a, b))), [i, j]

        def reduction(name: str, axis: Any) -> Any:
            return lambda x: bounded(REDUCTIONS[name](x, axis=axis)), [i]

        return st.one_of(
            st.builds(unary, st.sampled_from(sorted(UNARY))),
            st.builds(binary, st.sampled_from(sorted(BINARY))),
            st.builds(
                reduction, st.sampled_from(sorted(REDUCTIONS)), axes(self.values[i].array.ndim)
            ),
        )

    @rule()
    def join(self) -> None:
        """A sum over every value whose graph is there: a graph of the whole program."""
        chosen = [i for i, v in enumerate(self.values) if not v.freed]
        self.make(weighted_squares, chosen)

    @rule(data=st.data(), name=st.sampled_from(sorted(VIEWS)))
    def view(self, data: st.DataObject, name: str) -> None:
        self.make(VIEWS[name], [self.choose(data)])

    @rule(data=st.data())
    def index(self, data: st.DataObject) -> None:
        i = self.choose(data)
        array = self.values[i].array
        fitting_keys = indices(array.shape).filter(
            lambda key: 0 < np.asarray(array[key]).size <= LARGEST
        )
        key = data.draw(fitting_keys)
        self.make(lambda x: x[key], [i])

    @rule(data=st.data())
    def detach(self, data: st.DataObject) -> None:
        i = self.choose(data)
        array = self.values[i].array
        self.run(Statement("detach", (i,)))
        self.values.append(Value(array, [np.zeros_like(array)] * len(TIMES), made=self.time))

    # -------------------------------------------------------------- statements that change state

    @rule(data=st.data(), number=st.integers(-32, 32).map(lambda n: n / 32))
    def write(self, data: st.DataObject, number: float) -> None:
        """Overwrite a part of a value's memory. The displacements stay: no derivative flows."""
        i = self.choose(data)
        array = self.values[i].array
        if not array.flags.writeable or not array.ndim:
            return
        key = data.draw(indices(array.shape))
        self.run(Statement("write", (i,), key=key, number=number))
        array[key] = number
        self.writes.append((self.time, owner(array)))
        for value, tensor in zip(self.values, self.tensors, strict=True):
            np.testing.assert_allclose(tensor.data, value.array, rtol=1e-11, atol=1e-13)

    @rule()
    def zero(self) -> None:
        self.run(Statement("zero", ()))
        self.total = (0.0, 0.0)

    @precondition(lambda self: any(v.recorded for v in self.values))
    @rule(data=st.data(), retain=st.sampled_from([True, True, True, False]))
    def backward(self, data: st.DataObject, retain: bool) -> None:
        i = self.choose_output(data)
        value = self.values[i]
        before = [None if t.grad is None else t.grad.data.copy() for t in self.leaves]
        if self.raises(Statement("backward", (i,), retain=retain), value):
            for t, grad in zip(self.leaves, before, strict=True):
                np.testing.assert_array_equal(t.grad.data if t.grad is not None else None, grad)
            return
        slope, error = value.first()
        self.total = (self.total[0] + slope, self.total[1] + error)
        gradients = [t.grad if t.grad is not None else Tensor(0.0 * t.data) for t in self.leaves]
        agrees(float(along(g.data for g in gradients)), self.total, 1e-6)
        for a, b in pairwise(t.grad for t in self.leaves):
            assert a is None or b is None or not np.shares_memory(a.data, b.data)
        if not retain:
            self.free(value)

    @precondition(lambda self: any(v.recorded for v in self.values))
    @rule(data=st.data(), retain=st.sampled_from([True, True, True, False]))
    def grad(self, data: st.DataObject, retain: bool) -> None:
        i = self.choose_output(data)
        value = self.values[i]
        found: list[Any] = []
        if self.raises(Statement("grad", (i,), retain=retain), value, found):
            return
        agrees(float(along(g.data for g in found)), value.first(), 1e-6)
        if not retain:
            self.free(value)

    @precondition(lambda self: any(v.recorded for v in self.values))
    @rule(data=st.data(), retain=st.sampled_from([True, True, True, False]))
    def second(self, data: st.DataObject, retain: bool) -> None:
        i = self.choose_output(data)
        value = self.values[i]
        found: list[Any] = []
        if self.raises(Statement("second", (i,), retain=retain), value, found):
            return
        agrees(found[0].item(), value.first(), 1e-6)
        agrees(found[1].item() if len(found) > 1 else 0.0, value.second(), 1e-4)
        if not retain and len(found) > 1:
            self.free(value)

    # -------------------------------------------------------------- helpers

    def choose(self, data: st.DataObject, recorded: bool = False) -> int:
        """The index of a value; the latest more often, one whose graph was freed seldom."""
        freed = data.draw(st.sampled_from([False] * 7 + [True]))
        possible = [
            i
            for i, v in enumerate(self.values)
            if (v.recorded or not recorded) and (freed or not v.freed)
        ]
        latest = data.draw(st.booleans())
        return int(data.draw(st.sampled_from(possible[-4:] if latest else possible)))

    def choose_output(self, data: st.DataObject) -> int:
        """The index of a recorded value; half the time a sum over the whole program."""
        if data.draw(st.booleans()):
            self.join()
            return len(self.values) - 1
        return self.choose(data, recorded=True)

    def raises(self, statement: Statement, value: Value, found: list[Any] | None = None) -> bool:
        """Run a backward pass. True if it refuses, with reason."""
        graph = value.graph()
        freed = any(v.freed for v in graph)
        try:
            results = self.run(statement)
        except MutationError:
            assert any(self.written_since(v) for v in graph), "no write explains the refusal"
            # What `second` and `backward` walked before they met the write may be freed.
            self.forget(graph, statement)
            return True
        except RuntimeError as error:
            assert "freed by an earlier backward" in str(error)
            assert freed or self.is_half_freed(graph), "no backward explains the refusal"
            return True
        assert not freed or statement.kind != "backward"
        if found is not None:
            found.extend(results)
        return False

    def forget(self, graph: list[Value], statement: Statement) -> None:
        if not statement.retain:
            for v in graph:
                v.freed = v.freed or self.tensors[self.values.index(v)]._inputs is None

    def is_half_freed(self, graph: list[Value]) -> bool:
        return any(self.tensors[self.values.index(v)]._inputs is None for v in graph)

    def free(self, value: Value) -> None:
        for v in value.graph():
            v.freed = True

    def written_since(self, value: Value) -> bool:
        """Whether memory of a result, or of what it was computed from, was overwritten."""
        memory = [owner(v.array) for v in (value, *value.parents)]
        return any(
            time > value.made and any(array is written for array in memory)
            for time, written in self.writes
        )

    def teardown(self) -> None:
        """The whole program once more, eager and compiled."""
        if not self.leaves or not 0 < len(self.statements) <= self.largest_compiled:
            return
        with pytest.MonkeyPatch.context() as patch:
            if self.backend == "numpy":
                without_compiler(patch)
            compiled = Compiled(self.program)
            for scale in (1.0, 1.0, 0.75):
                arrays = [scale * x for x in self.start]
                close(self.program(*arrays), compiled(*arrays), f"scale {scale}", 1e-8, 1e-8)

    def program(self, *arrays: ndarray) -> tuple[Any, ...]:
        """Every value, every result of `grad`, and the leaves' `.grad`."""
        leaves = [tk.tensor(x, requires_grad=True) for x in arrays]
        values: list[Any] = list(leaves)
        found: list[Any] = []
        for statement in self.statements:
            execute(statement, values, leaves, found)
        kept = [x.detach() for x in (*values, *found)]
        return (*kept, *(x.grad for x in leaves))


def check(machine: type[Programs], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_random_program(backend: str) -> None:
    machine = type("Programs", (Programs,), {"backend": backend})
    check(machine, 10 if backend == "numpy" else 2, 25)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_long_random_program(backend: str) -> None:
    largest = {"numpy": 200, "c": 50}  # a C compiler takes seconds for more
    settings_of = {"backend": backend, "largest_start": 100, "largest_compiled": largest[backend]}
    machine = type("Programs", (Programs,), settings_of)
    check(machine, 12 if backend == "numpy" else 10, 200)
