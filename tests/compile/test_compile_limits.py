"""A program too long to be recorded and built is run as written, with a message that says why."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from harness import backend as backend

import tinygrad_kr as tk
from tinygrad_kr import nn, optim
from tinygrad_kr.compile.plan import memory
from tinygrad_kr.compile.plan.memory import Lifetime
from tinygrad_kr.compile.trace import tracer as tracer_module
from tinygrad_kr.native import deadline

pytestmark = pytest.mark.usefixtures("backend")
X = tk.ones(3)


def turns(x: Any, number: int = 2000) -> Any:
    for _ in range(number):
        x = tk.sin(x) + 1.0

    return x


LOOP = inspect.getsourcelines(turns)[1] + 1


def helped(x: Any) -> Any:
    return [x := one(x) for _ in range(1000)][-1]


def one(x: Any) -> Any:
    return tk.sin(x) + 1.0


def differentiated(x: Any) -> Any:
    return tk.grad(lambda x: turns(x, 500).sum())(x)


@pytest.mark.parametrize("f", [turns, helped, differentiated])
def test_too_many_ops(f: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracer_module, "MOST_INSTRUCTIONS", 1024)
    step = tk.compile(f)
    with pytest.warns(tk.compile.LongProgramWarning, match="Write it with tk.scan"):
        found = step(X)
    np.testing.assert_array_equal(found.data, f(X).data)
    for _ in range(3):
        np.testing.assert_array_equal(step(X).data, f(X).data)
    assert not step.programs
    line = inspect.getsourcelines(helped)[1] + 1 if f is helped else LOOP
    assert f"the loop at {__file__}:{line}," in step.explain()
    assert "1,024 ops" in step.explain()


def test_the_limit_is_20_seconds() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from tinygrad_kr.native import deadline; print(deadline.SECONDS)"],
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.stdout.strip() == "20.0"


def test_no_loop_is_named_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracer_module, "MOST_INSTRUCTIONS", 4)
    monkeypatch.setattr(tracer_module, "_SAMPLED", 1)
    function: Any = eval("lambda x: " + "tk.sin(" * 8 + "x" + ")" * 8, {"tk": tk})
    step = tk.compile(function)
    with pytest.warns(tk.compile.LongProgramWarning):
        step(X)
    assert re.match(r"its 4 ops would take", step.explain())


def test_recording_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "SECONDS", 0.05)

    def slow(x: Any) -> Any:
        for _ in range(20):
            sum(range(500_000))
            x = x + 1
        return x

    step = tk.compile(slow)
    with pytest.warns(tk.compile.LongProgramWarning, match="0.05 s"):
        assert step(X).tolist() == [21, 21, 21]
    assert step(X).tolist() == [21, 21, 21]
    assert not step.programs


@pytest.mark.parametrize(
    "place",
    [
        "tinygrad_kr.compile.passes.pipeline.simplified",
        "tinygrad_kr.compile.function.Plan",
        "tinygrad_kr.compile.function.c_program",
    ],
)
def test_the_passes_look_at_the_clock(
    place: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend != "c":
        return  # there are no passes without a compiler
    name = place.rpartition(".")
    module: Any = __import__(name[0], fromlist=["_"])
    inner = getattr(module, name[2])

    def late(*args: Any) -> Any:
        monkeypatch.setattr(deadline, "perf_counter", lambda: time.perf_counter() + 600)
        return inner(*args)

    monkeypatch.setattr(module, name[2], late)
    net = nn.Linear(3, 2)
    optimizer = optim.SGD(net.parameters(), lr=0.1)

    @tk.compile
    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = (net(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    x = tk.ones(4, 3)
    step(x)
    with pytest.warns(tk.compile.LongProgramWarning):
        before = step(x).item()
    assert step(x).item() < before  # it goes on as written
    assert not step.programs


def test_the_compiler_gets_what_is_left(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend != "c":
        return
    monkeypatch.setattr(deadline, "left", lambda seconds: 0.0)
    monkeypatch.setattr(deadline, "check", _over_after_compiler)
    step = tk.compile(lambda x: tk.sin(x) * 1.2345)
    step(X)
    with pytest.warns(tk.compile.LongProgramWarning):
        step(X)
    np.testing.assert_allclose(step(X).data, np.sin(X.data) * np.float32(1.2345), 1e-6)


def _over_after_compiler() -> None:
    if inspect.stack()[1].function == "run":
        raise deadline.TooLongError


def test_time_is_counted_inside_only() -> None:
    with pytest.raises(deadline.TooLongError):
        deadline.within(-1, deadline.check)
    deadline.check()
    assert deadline.left(7.0) == 7.0
    assert deadline.within(5, deadline.left, 7.0) <= 5


def test_a_long_program_is_planned_in_little_time() -> None:
    """100 steps of Runge and Kutta took a minute, most of it in the plan."""
    step = tk.compile(lambda x: turns(x, 1000))
    start = time.process_time()
    step(X)
    eager = time.process_time() - start
    start = time.process_time()
    step(X)
    assert time.process_time() - start < 40 * eager + 2
    assert step.programs, step.explain()


def test_packed_pieces_share_memory_only_at_different_times() -> None:
    rng = np.random.default_rng(0)
    pieces = []
    for _ in range(120):
        first = int(rng.integers(30))
        pieces.append(Lifetime(int(rng.integers(1, 500)), first, first + int(rng.integers(6))))
    starts = memory.packed(pieces)
    for i, (a, start) in enumerate(zip(pieces, starts, strict=True)):
        assert start % memory.LINE == 0
        for b, other in zip(pieces[:i], starts[:i], strict=True):
            together = a.first <= b.last and b.first <= a.last
            assert not together or start >= other + b.size or other >= start + a.size
    assert max(map(sum, zip(starts, (p.size for p in pieces), strict=True))) < sum(
        p.size for p in pieces
    )
