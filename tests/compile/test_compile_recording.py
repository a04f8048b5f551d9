"""What a recording holds: no value that the function itself has let go of."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import needs_compiler

import tinygrad_kr as tk
from tinygrad_kr import nn, optim
from tinygrad_kr.compile.trace.living import Living, Views
from tinygrad_kr.compile.trace.tracer import Tracer
from tinygrad_kr.native import memory

# ------------------------------------------------------------------ tables


class Thing:
    """Something that can be referred to weakly."""


def test_a_note_is_there_as_long_as_its_thing() -> None:
    notes = Living()
    thing, other = Thing(), Thing()
    notes.put(thing, "first")
    notes.put(other, "other")
    notes.put(thing, "second")
    assert (notes.get(thing), notes.get(other), len(notes)) == ("second", "other", 2)
    del thing
    assert len(notes) == 1
    assert notes.pop(other) == "other"
    assert other not in notes
    notes.put(other, "again")
    assert notes.get(other) == "again"


def test_a_new_thing_has_no_note_of_one_that_had_its_id() -> None:
    notes = Living()
    ids = set()
    for _ in range(20):
        thing = Thing()
        assert thing not in notes
        notes.put(thing, True)
        ids.add(id(thing))
        del thing
    assert len(ids) < 20


def test_a_thing_in_a_cycle_is_forgotten_when_it_is_collected() -> None:
    notes = Living()
    thing: Any = Thing()
    thing.own = thing
    notes.put(thing, True)
    del thing
    gc.collect()
    assert len(notes) == 0


def test_views_of_one_owner_are_found_while_they_live() -> None:
    views, whole, other = Views(), np.zeros(4), np.zeros(4)
    first, second = whole[:2], whole[2:]
    for array in (whole, first, second, other):
        views.add(array)
    assert {id(view) for view in views.of(first)} == {id(whole), id(first), id(second)}
    del first
    assert {id(view) for view in views.of(whole)} == {id(whole), id(second)}
    assert [*views.of(np.zeros(4))] == []


# ------------------------------------------------------------------ recorded runs

SIZE = 1 << 18
NBYTES = 4 * SIZE


def peak_of(function: Callable[..., Any], *args: Any) -> int:
    """The most bytes that NumPy and Python hold at once during a call, beyond those before."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        function(*args)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def chain(x: Any) -> Any:
    for _ in range(30):
        x = (x * 1.5).sin()
    return x


def test_a_value_is_gone_when_the_function_drops_it() -> None:
    alive: list[bool] = []

    def step(x: Any) -> Any:
        h = x * 2.0
        seen = weakref.ref(h._data)
        y = h + 1.0
        del h
        alive.append(seen() is not None)
        return y

    compiled = tk.compile(step)
    x = tk.tensor([1.0, 2.0])
    for _ in range(2):
        np.testing.assert_array_equal(compiled(x).numpy(), [3.0, 5.0])
    assert alive == [False, False]


def test_a_recording_holds_as_much_as_the_function() -> None:
    x = tk.ones(SIZE)
    compiled = tk.compile(chain)
    assert peak_of(chain, x) < 4 * NBYTES
    assert peak_of(compiled, x) < 4 * NBYTES


def test_a_recorded_backward_frees_the_graph_as_it_goes() -> None:
    """Sixty values wait for backward; the cotangents come and go."""
    weight = tk.ones(SIZE, requires_grad=True)

    def step() -> Any:
        weight.grad = None
        loss = chain(weight * 0.5).sum()
        loss.backward()
        return loss

    eager, compiled = peak_of(step), peak_of(tk.compile(step))
    assert compiled < eager + 10 * NBYTES


def adam_step() -> tuple[Any, Any]:
    net = nn.Linear(512, 512, generator=np.random.default_rng(0))
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    x = tk.ones(2, 512)

    def step() -> Any:
        optimizer.zero_grad()
        loss = (net(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    return tk.compile(step), optimizer


def test_after_a_run_nothing_is_kept_to_undo_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Adam there stay two arrays of state and the gradient."""
    tracers: list[Any] = []
    finish = Tracer._finish

    def noting(self: Any, result: Any) -> Any:
        tracers.append(self)
        return finish(self, result)

    monkeypatch.setattr(Tracer, "_finish", noting)
    step, _ = adam_step()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(2):
            step()
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(tracers) == 2
    assert held < 3.5 * 4 * 512 * 512


def test_an_array_with_the_id_of_a_dropped_one_is_another_value() -> None:
    """The memory of one value is often that of the next one: each is found as what it is."""

    def step(x: Any) -> Any:
        total = x.sum()
        for i in range(50):
            total = total + (x * float(i)).sum() * 0.5
        return total

    compiled = tk.compile(step)
    for value in (1.0, 2.0, 3.0, 4.0):
        x = tk.tensor([value, -2.0 * value, 4.0])
        assert compiled(x).item() == step(x).item()
    assert compiled.explain() == "every call is compiled"


def test_two_steps_of_an_optimizer_in_one_run_find_each_others_state() -> None:
    """The second one reads the state where the first one has left it."""

    def build() -> Any:
        weight = tk.tensor([1.0, -2.0, 3.0], requires_grad=True)
        optimizer = optim.Adam([weight], lr=0.1)

        def step() -> Any:
            for _ in range(2):
                optimizer.zero_grad()
                loss = (weight**2).sum()
                loss.backward()
                optimizer.step()
            return loss

        return weight, step

    weight, step = build()
    other, same = build()
    compiled = tk.compile(same)
    for _ in range(5):
        assert step().item() == pytest.approx(compiled().item(), rel=1e-6)
    assert compiled.explain() == "every call is compiled"
    np.testing.assert_allclose(other.detach().numpy(), weight.detach().numpy(), rtol=1e-6)


def test_of_many_views_that_are_gone_few_are_known() -> None:
    """A loop over slices would look at all earlier ones each time."""
    base, views, others, most = np.zeros(100), Views(), [], 0
    for i in range(1000):
        view = base[i % 50 :]
        views.add(view)
        del view
        others.append(np.empty(1))  # takes the id
        most = max(most, *map(len, views._by_owner.values()))
    assert most <= 64
    assert not [*views.of(base)]


# ------------------------------------------------------------------ what is given back


def test_freed_memory_goes_back_to_the_system_after_each_recording(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(memory, "_trim", lambda: calls.append)
    compiled = tk.compile(chain)
    x = tk.ones(3)
    compiled(x)
    recorded = len(calls)
    assert recorded
    compiled(x)
    assert len(calls) > recorded
    built = len(calls)
    compiled(x)
    assert len(calls) == built
    assert {*calls} == {0}


def test_where_the_c_library_has_no_trim_nothing_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "_trim", lambda: None)
    memory.give_back()
    for system in ("win32", "darwin"):
        monkeypatch.undo()
        memory._trim.cache_clear()
        monkeypatch.setattr("sys.platform", system)
        assert memory._trim() is None
    monkeypatch.undo()
    memory._trim.cache_clear()
    memory.give_back()


@needs_compiler
def test_a_plan_keeps_no_sample_of_its_arrays() -> None:
    compiled = tk.compile(chain)
    x = tk.ones(1 << 16)
    for _ in range(3):
        compiled(x)
    runner: Any = compiled.last_runner
    assert runner.plan._samples == {}
