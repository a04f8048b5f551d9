"""Batches that a thread makes ahead: the same ones, errors and interrupts included."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr.data import DataLoader, prefetch

COUNT = 10


class Noted:
    """A data set that notes which samples were made, and in which thread."""

    def __init__(self, broken: int = -1) -> None:
        self.broken, self.made, self.threads = broken, [], set()  # type: ignore[var-annotated]
        self.seen = threading.Condition()

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> int:
        if index == self.broken:
            raise KeyError(f"sample {index}")
        with self.seen:
            self.made.append(index)
            self.threads.add(threading.current_thread().name)
            self.seen.notify_all()
        return index

    def wait_for(self, count: int) -> None:
        with self.seen:
            assert self.seen.wait_for(lambda: len(self.made) >= count, timeout=30)


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("DataLoader")]


@pytest.mark.parametrize("ahead", [1, 3, 50])
@pytest.mark.parametrize("shuffle", [False, True])
def test_the_same_batches(ahead: int, shuffle: bool) -> None:
    def batches(prefetch: int) -> list[list[int]]:
        generator = np.random.default_rng(0)
        loader = DataLoader(Noted(), 3, shuffle, generator=generator, prefetch=prefetch)
        return [batch.tolist() for _ in range(2) for batch in loader]

    assert batches(ahead) == batches(0)
    assert threads() == []


def test_so_many_are_made_ahead() -> None:
    data = Noted()
    batches = iter(DataLoader(data, 1, prefetch=2))
    assert next(batches).tolist() == [0]
    data.wait_for(4)  # the one that is used, two in the queue, one that waits for its place
    time.sleep(0.05)
    assert data.made == [0, 1, 2, 3] and data.threads == {"DataLoader prefetch"}
    next(batches)
    data.wait_for(5)
    batches.close()  # type: ignore[attr-defined]
    assert threads() == []


def test_an_error_comes_where_its_batch_was_due() -> None:
    loader = DataLoader(Noted(broken=5), 2, prefetch=3)
    seen = []
    with pytest.raises(KeyError, match="sample 5") as raised:
        seen.extend(batch.tolist() for batch in loader)
    assert seen == [[0, 1], [2, 3]] and loader.state_dict()["position"] == 4
    assert any(entry.name == "__getitem__" for entry in raised.traceback)
    assert threads() == []


@pytest.mark.parametrize("ending", ["break", "error", "interrupt", "forgotten"])
def test_the_thread_ends_with_the_pass(ending: str) -> None:
    loader = DataLoader(Noted(), 1, prefetch=2)
    errors = {"error": ValueError, "interrupt": KeyboardInterrupt}
    if ending == "forgotten":
        batches: Any = iter(loader)
        next(batches)
        del batches
    elif ending == "break":
        for _ in loader:
            break
    else:
        with pytest.raises(errors[ending]):
            for _ in loader:
                raise errors[ending]
    gc.collect()
    assert threads() == []
    assert loader.state_dict()["position"] == 1
    assert len(list(loader)) == COUNT


def test_an_interrupt_while_waiting_leaves_the_position(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = DataLoader((np.arange(COUNT),), 2, prefetch=2)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()

    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(prefetch, "_next", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(batches)
    assert threads() == []
    again = loader.state_dict()
    assert again["position"] == state["position"] == 2
    loader.load_state_dict(again)
    assert [batch.tolist() for (batch,) in loader] == [[2, 3], [4, 5], [6, 7], [8, 9]]


def test_without_threads_each_is_made_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    data = Noted()
    batches = iter(DataLoader(data, 2, prefetch=3))
    assert next(batches).tolist() == [0, 1] and data.made == [0, 1]
    assert len(list(batches)) == 4


def test_grad_mode_is_that_of_the_loop() -> None:
    x = tk.ones(COUNT, requires_grad=True)
    with tk.no_grad():
        assert not any(batch.requires_grad for batch in DataLoader(x, 5, prefetch=2))
    for batch in DataLoader(x, 5, prefetch=2):
        batch.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1] * COUNT


def test_a_batch_that_was_used_is_free() -> None:
    batches = iter(DataLoader((np.zeros((6, 1000)),), 2, prefetch=1))
    (batch,) = next(batches)
    kept = weakref.ref(batch.data)
    del batch
    next(batches)
    assert kept() is None
