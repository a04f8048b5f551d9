"""Ctrl-C at any bytecode: nothing is corrupted, and the next steps are those of an eager twin that
starts from what the interrupt left."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import pytest
from harness import backend as backend
from interrupts import (
    Interrupts,
    Learner,
    batches,
    check_goes_on,
    drawn,
    is_ours,
    small,
    varied,
)

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn, optim
from tinygrad_kr.ops import anomaly
from tinygrad_kr.ops.node import ON, current_mode, grad_mode

Make = Callable[[Any], optim.Optimizer]

HERE = Path(__file__).parents[1]
OPTIMIZERS: dict[str, Make] = {
    "Adam": lambda parameters: optim.Adam(parameters, 0.01),
    "momentum": lambda parameters: optim.SGD(parameters, 0.002, momentum=0.9),
}


def without_state(parameters: Any) -> optim.Optimizer:
    """The second call of such a step builds, the third is its first replay."""
    return optim.SGD(parameters, 0.002)


FEW, SOME, MANY, EVERY = 20, 300, 1_000, 10**9
"""How many bytecodes of a kind of call are tried: in the ordinary suite, and in the slow tests of
what takes long and of the rest."""
LONG, SHORT = 200, 20
"""How many steps are compared after the first of every ten interrupts, and after the others."""


def settled(make: Make, compiled: bool, calls: int = 4, build: Any = small) -> Learner:
    learner = Learner(make, compiled, build)
    x, y = (stacked[0] for stacked in batches(1))
    for _ in range(calls):
        learner.step(x, y)
    return learner


# ------------------------------------------------------------------ calls that were made before


def eager(learner: Learner) -> Callable[[], Any]:
    x, y = (stacked[0] for stacked in batches(1))
    return lambda: learner.step(x, y)


def replayed(learner: Learner) -> Callable[[], Any]:
    return eager(learner)


def repeated(learner: Learner) -> Callable[[], Any]:
    x, y = (stacked[0] for stacked in batches(1))
    return lambda: learner.step.repeat(2, x, y)  # type: ignore[attr-defined]


def scanned(learner: Learner) -> Callable[[], Any]:
    xs, ys = batches(2)
    return lambda: learner.step.scan(xs, ys)  # type: ignore[attr-defined]


def interrupt_in_turn(
    call_of: Callable[[Learner], Callable[[], Any]], make: Make, n: int, build: Any = small
) -> None:
    """Interrupt such a call at n of its bytecodes, always the same learner."""
    learner = settled(make, compiled=call_of is not eager, build=build)
    call, interrupts = call_of(learner), Interrupts()
    total = interrupts.count(call)
    assert total > 50
    for i, at in enumerate(drawn(total, n, seed=total)):
        assert interrupts.at(at, call) or interrupts.left >= 0
        check_goes_on(learner, make, SHORT if i % 10 else LONG)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_eager_step(optimizer: str) -> None:
    interrupt_in_turn(eager, OPTIMIZERS[optimizer], FEW)


@pytest.mark.parametrize("call", [replayed, repeated, scanned])
def test_a_replay(call: Any, backend: str) -> None:
    interrupt_in_turn(call, OPTIMIZERS["Adam"], FEW)


@pytest.mark.parametrize("call", [eager, replayed])
def test_a_net_of_many_parts(call: Any, backend: str) -> None:
    interrupt_in_turn(call, OPTIMIZERS["momentum"], FEW // 5, varied)


@pytest.mark.slow
@pytest.mark.parametrize("call", [eager, replayed])
def test_a_net_of_many_parts_at_many_bytecodes(call: Any, backend: str) -> None:
    interrupt_in_turn(call, OPTIMIZERS["momentum"], SOME, varied)


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "n"), [("Adam", EVERY), ("momentum", MANY)])
def test_an_eager_step_at_every_bytecode(optimizer: str, n: int) -> None:
    """The other optimizer's step differs in what it keeps alone."""
    interrupt_in_turn(eager, OPTIMIZERS[optimizer], n)


@pytest.mark.slow
@pytest.mark.parametrize("call", [replayed, repeated, scanned])
def test_a_replay_at_every_bytecode(call: Any, backend: str) -> None:
    """Without C, which alone writes to addresses, `repeat` and `scan` are a loop of replays."""
    n = MANY if backend == "numpy" and call is not replayed else EVERY
    interrupt_in_turn(call, OPTIMIZERS["Adam"], n)


# ------------------------------------------------------------------ the first calls of a step

SETTING = {
    "compile/trace/tracer.py": {"run", "_undo"},
    "compile/function.py": {
        *("__call__", "_call", "_keep", "_specialisation", "specialisation", "trace", "replay")
    },
    "grad_mode.py": {"__enter__", "__exit__", "_scope", "_mode", "__init__"},
    "compile/run/c_runner.py": {"__call__"},
    "compile/run/driver.py": {"compiled_if", "options", "state", "__call__", "again"},
    "ops/node.py": {"current_mode", "__new__"},
    "ops/tracing.py": {"tracing"},
    "compile/run/numpy_runner.py": {"run_if"},
    "compile/trace/optimizer_step.py": {
        *("carry_out", "_update", "_kept_numbers", "undo", "load", "take_over")
    },
    "compile/ir/bindings.py": {"load"},
}
"""The functions that set the tracer, the grad mode, what C is given, or an optimizer's state."""


COMPILED_STEP = {"replay", "run"}
PACKAGE = Path(tk.__file__).parent


@pytest.mark.parametrize("file", SETTING)
def test_what_sets_something_is_still_called_so(file: str) -> None:
    text = (PACKAGE / file).read_text(encoding="utf-8")
    assert SETTING[file] == {name for name in SETTING[file] if f"def {name}(" in text}


@cache
def known_to_set(file: str, name: str) -> bool:
    """Whether a function of a file is one of `SETTING`, or a compiled step."""
    if file == "<compiled step>":
        return name in COMPILED_STEP
    inside = Path(file).is_relative_to(PACKAGE)
    return inside and name in SETTING.get(Path(file).relative_to(PACKAGE).as_posix(), ())


def sets_something(code: CodeType) -> bool:
    return known_to_set(code.co_filename, code.co_name)


def first_times(places: list[tuple[CodeType, int]]) -> list[int]:
    """Where bytecodes come for the first time in a call, each of them once."""
    first: dict[tuple[CodeType, int], int] = {}
    for number, place in enumerate(places):
        first.setdefault(place, number)
    return sorted(first.values())


def interrupt_anew(before: int, make: Make, setting: int, others: int, steps: int = LONG) -> None:
    """Interrupt the call after `before` others of a new step, at so many bytecodes of those that
    set something, and at so many others.

    steps: so many are compared after the first of every ten interrupts.
    """
    x, y = (stacked[0] for stacked in batches(1))
    anywhere, where_set = Interrupts(), Interrupts(sets_something)
    for interrupts in (anywhere, where_set, anywhere):  # the first fills caches
        interrupts.count(partial(settled(make, compiled=True, calls=before).step, x, y))
    total, known = len(anywhere.places), first_times(where_set.places)
    assert len(known) > 50
    chosen = [(where_set, known[i]) for i in drawn(len(known), setting, seed=before)]
    chosen += [(anywhere, at) for at in drawn(total, others, seed=before)]
    for i, (interrupts, at) in enumerate(chosen):
        learner = settled(make, compiled=True, calls=before)
        interrupts.at(at, partial(learner.step, x, y))
        check_goes_on(learner, make, SHORT if i % 10 else steps)


@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_one_of_the_first_calls(before: int) -> None:
    interrupt_anew(before, OPTIMIZERS["Adam"], FEW // 10, FEW // 20, steps=SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("before", [0, 1])
def test_the_first_calls_wherever_something_is_set(before: int) -> None:
    """And at a few hundred other bytecodes."""
    interrupt_anew(before, OPTIMIZERS["Adam"], EVERY, SOME)


@pytest.mark.slow
@pytest.mark.parametrize("before", [2, 3])
def test_the_call_that_builds_and_the_next(before: int, backend: str) -> None:
    """A build takes a million bytecodes."""
    setting, others = (SOME, FEW) if before == 2 else (SOME // 2, FEW)
    interrupt_anew(before, OPTIMIZERS["Adam"], setting, others)


@pytest.mark.slow
@pytest.mark.parametrize("before", [2, 3])
def test_the_first_replays_wherever_something_is_set(before: int, backend: str) -> None:
    """And at many other bytecodes."""
    interrupt_anew(before, without_state, EVERY, MANY if backend == "c" else SOME, steps=50)


# ------------------------------------------------------------------ what an interrupt could leave


def each_interrupt(call: Callable[[], Any], every: int) -> int:
    """Interrupt a call at each `every`th of its bytecodes, and look at the mode and the tracer
    after each; how many bytecodes there are."""
    interrupts = Interrupts()
    total = [interrupts.count(call) for _ in range(3)][-1]
    for at in range(0, total, every):
        interrupts.at(at, call)
        assert current_mode() == ON
        t = Tensor(np.ones(2), requires_grad=True)
        (t * t).sum().backward()
        assert t.grad is not None
        assert t.sum().item() == 2
    return total


def under_no_grad() -> None:
    weight = Tensor(np.ones(2), requires_grad=True)
    (weight * 2).sum().backward()
    with tk.no_grad():
        weight -= 0.1 * weight.grad


@tk.no_grad()
def decorated() -> Tensor:
    return Tensor(np.ones(2)) * 2


def nested() -> None:
    with tk.no_grad(), tk.enable_grad(), tk.set_grad_enabled(False), tk.no_grad():
        Tensor(np.ones(2)).sum()


def with_anomalies() -> None:
    with tk.detect_anomaly():
        t = Tensor(np.ones(2), requires_grad=True)
        (t * t).sum().backward()


def transformed() -> None:
    tk.grad(lambda x: (x * x).sum())(np.ones(2))


def by_a_closure() -> None:
    weight = Tensor(np.ones(2), requires_grad=True)
    optimizer = optim.SGD([weight], 0.1)

    def closure() -> Tensor:
        loss = (weight * weight).sum()
        loss.backward()
        return loss

    optimizer.step(closure)


# An interrupt inside a destructor is printed, not raised.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 5])
@pytest.mark.parametrize(
    "call", [under_no_grad, decorated, nested, with_anomalies, transformed, by_a_closure]
)
def test_no_mode_is_left_behind(call: Callable[[], Any], every: int) -> None:
    assert each_interrupt(call, every) > 50
    assert grad_mode.get() == ON


class Kept:
    """Calls with a mode in a variable, and the interrupts of all, whose tracebacks refer to frames
    as those of the latest error do in an interactive session."""

    def __init__(self) -> None:
        self.mode = tk.no_grad()
        self.interrupts: list[KeyboardInterrupt] = []

    def __call__(self) -> None:
        try:
            with self.mode, self.mode:
                Tensor(np.ones(2)).sum()
            with tk.enable_grad(), tk.no_grad():
                Tensor(np.ones(2)).sum()
        except KeyboardInterrupt as interrupt:
            self.interrupts.append(interrupt)
            raise


def test_no_mode_is_left_behind_by_what_is_kept() -> None:
    kept = Kept()
    total = each_interrupt(kept, 1)
    assert (
        0.7 * total < len(kept.interrupts) <= total
    )  # CPython 3.13 shows some bytecodes not always
    assert total > 100
    with kept.mode:
        assert not tk.is_grad_enabled()
    assert tk.is_grad_enabled()


def test_a_replay_sees_that_a_mode_was_left_behind() -> None:
    net = nn.Linear(3, 1)
    x = Tensor(np.ones((2, 3), np.float32))

    @tk.compile
    def evaluate(x: Tensor) -> Any:
        return net(x)

    with tk.no_grad():
        for _ in range(4):
            assert not evaluate(x).requires_grad
    tk.no_grad().__enter__()  # as where an interrupt came before anything was reset
    assert evaluate(x).requires_grad


def test_a_task_keeps_the_mode_that_it_was_started_in() -> None:
    async def seen() -> list[bool]:
        before = tk.is_grad_enabled()
        await asyncio.sleep(0.01)
        return [before, tk.is_grad_enabled()]

    async def started() -> list[bool]:
        with tk.no_grad():
            task = asyncio.create_task(seen())
            await asyncio.sleep(0)
        assert tk.is_grad_enabled()
        return await task

    assert asyncio.run(started()) == [False, False]
    with tk.no_grad():
        context = contextvars.copy_context()
    assert not context.run(tk.is_grad_enabled)


def test_modes_set_for_good_do_not_pile_up() -> None:
    tracemalloc.start()
    try:
        for i in range(2_000):
            tk.set_grad_enabled(i % 2 == 1)
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_interrupt_while_a_failed_step_is_undone(make: Make) -> None:
    """The optimizer's numbers stay those of its arrays."""
    x, y = (stacked[0] for stacked in batches(1))
    interrupts = Interrupts(lambda code: is_ours(code) and code.co_name in ("undo", "keep"))

    def failing_step() -> tuple[Learner, Any]:
        learner = Learner(make, compiled=False)

        @tk.compile
        def failing(x: Tensor, y: Tensor) -> None:
            learner.plain(x, y)
            raise ZeroDivisionError

        def call() -> None:
            with suppress(ZeroDivisionError):
                failing(x, y)

        return learner, call

    total = [interrupts.count(failing_step()[1]) for _ in range(3)][-1]
    assert total > 30
    for at in range(0, total, 3):
        learner, call = failing_step()
        interrupts.at(at, call)
        twin = learner.twin(make)
        losses = [learner.step(x, y).item() for _ in range(3)]
        np.testing.assert_allclose(losses, [twin.step(x, y).item() for _ in range(3)], 1e-7)


def test_arrays_that_a_lost_graph_had_locked_are_unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where an interrupt comes in the destructor of the last node that needed them."""
    learner = settled(OPTIMIZERS["Adam"], compiled=True)
    x, y = (stacked[0] for stacked in batches(1))
    replays = learner.step.last_runner  # type: ignore[attr-defined]
    with tk.detect_anomaly():
        loss = (learner.net(x) - y).square().mean()
    weight = next(iter(learner.net.parameters())).data
    assert not weight.flags.writeable
    monkeypatch.delattr(anomaly.LockedInputs, "__del__")
    del loss
    assert anomaly._families
    learner.step(x, y)
    assert weight.flags.writeable
    assert not anomaly._families
    assert learner.step.last_runner is replays  # type: ignore[attr-defined]


def test_a_step_that_never_fits_is_no_longer_recorded() -> None:
    weight = Tensor(np.ones(4), requires_grad=True)

    @tk.compile
    def step() -> None:
        with tk.no_grad():
            weight.copy_(weight * 2)

    for k in range(60):
        step()
        if k % 2:  # another dtype before each first replay
            weight.data = np.ones(4, np.float32 if k % 4 == 1 else np.float64)
    assert "changes at nearly every call" in step.explain()


def test_a_mode_that_is_set_for_good_stays() -> None:
    tk.set_grad_enabled(False)
    try:
        assert not tk.is_grad_enabled()
        with tk.enable_grad():
            assert tk.is_grad_enabled()
        assert not tk.is_grad_enabled()
        t = Tensor(np.ones(2), requires_grad=True)
        assert not (t * 2).requires_grad
    finally:
        tk.set_grad_enabled(True)
    assert tk.is_grad_enabled()


def test_a_mode_that_is_held_in_a_variable_stays_while_its_block_runs() -> None:
    mode = tk.no_grad()
    with mode:
        del mode
        assert not tk.is_grad_enabled()
    assert tk.is_grad_enabled()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no timer signal")
@pytest.mark.parametrize("seconds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_random_interrupts(seconds: int) -> None:
    code = [
        sys.executable,
        "-W",
        "ignore",
        str(HERE / "support" / "interrupts.py"),
        "--seconds",
        str(seconds),
    ]
    run = subprocess.run(code, capture_output=True, text=True, timeout=120, encoding="utf-8")
    assert run.returncode == 0, run.stderr[-2000:]
    assert int(run.stdout.split()[0]) > 10 * seconds
