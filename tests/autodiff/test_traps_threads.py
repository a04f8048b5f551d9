"""Several threads add to the `.grad` of one leaf: no gradient is lost, none is counted twice."""

from __future__ import annotations

import dis
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from interrupts import Interrupts

import tinygrad_kr as tk
from tinygrad_kr import Tensor, autodiff, nn, optim
from tinygrad_kr.ops import node

THREADS, ROUNDS = 4, 60


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns a thousand times as often as they do by default."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def leaf(*shape: int, dtype: Any = np.float64) -> Any:
    return Tensor(np.ones(shape, dtype), requires_grad=True)


def in_threads(work: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """What `work` of 0, 1, ... returns in as many threads, which start together."""
    start = threading.Barrier(threads)

    def run(number: int) -> Any:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def values(tensor: Any) -> list[float]:
    return sorted({*np.ravel(tensor.grad.data).tolist()})


# ------------------------------------------------------------------ many threads


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (3,), (40_000,)])
def test_every_gradient_arrives(dtype: Any, shape: tuple[int, ...]) -> None:
    leaves = [leaf(*shape, dtype=dtype) for _ in range(3)]

    def work(number: int) -> None:
        for _ in range(ROUNDS):
            a, b, c = leaves
            (a * 1 + b * 2 + c * (number + 1)).sum().backward()

    in_threads(work)
    total = THREADS * (THREADS + 1) / 2
    assert [values(x) for x in leaves] == [
        [ROUNDS * THREADS], [2 * ROUNDS * THREADS], [ROUNDS * total]
    ]  # fmt: skip
    assert all(x.grad.dtype == dtype for x in leaves)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_shared_graph_and_a_retained_gradient(create_graph: bool) -> None:
    x = leaf(5)
    shared = x * 3
    shared.retain_grad()

    def work(_: int) -> None:
        for _ in range(ROUNDS):
            (shared * 2).sum().backward(retain_graph=True, create_graph=create_graph)

    in_threads(work)
    assert values(shared) == [2 * ROUNDS * THREADS]
    assert values(x) == [6 * ROUNDS * THREADS]
    x.grad = shared.grad = None


@pytest.mark.usefixtures("restless")
def test_gradients_of_gradients_retained_by_another_way() -> None:
    """`autograd.grad` adds to `.grad` of what is retained, too."""
    x = leaf(5)
    shared = x * 3
    shared.retain_grad()

    def work(_: int) -> None:
        for _ in range(ROUNDS):
            tk.autograd.grad((shared * 2).sum(), x, retain_graph=True)

    in_threads(work)
    assert values(shared) == [2 * ROUNDS * THREADS]
    assert x.grad is None


@pytest.mark.usefixtures("restless")
def test_a_net_that_two_threads_train_on_batches_of_their_own() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).to(np.float64)
    batches = np.random.default_rng(0).normal(size=(THREADS, 5, 4))

    def loss(number: int) -> Any:
        return net(Tensor(batches[number])).square().sum()

    in_threads(lambda number: [loss(number).backward() for _ in range(ROUNDS)] and None)
    found = [p.grad.data for p in net.parameters()]
    net.zero_grad()
    for number in range(THREADS):
        loss(number).backward()
    for p, g in zip(net.parameters(), found, strict=True):
        np.testing.assert_allclose(g, p.grad.data * ROUNDS, rtol=1e-10)


@pytest.mark.usefixtures("restless")
def test_hooks_run_once_for_each_backward() -> None:
    x, calls = leaf(3), itertools.count()
    x.register_hook(lambda g: next(calls) * 0 + g * 2)
    in_threads(lambda _: [(x * 1).sum().backward() for _ in range(ROUNDS)] and None)
    assert next(calls) == ROUNDS * THREADS
    assert values(x) == [2 * ROUNDS * THREADS]


@pytest.mark.usefixtures("restless")
def test_who_takes_the_gradients_takes_each_once() -> None:
    """One thread reads `.grad` and sets it to None while others add: nothing is counted twice."""
    x, done, taken = leaf(1000), threading.Event(), []

    def take() -> None:
        g = x.grad
        if g is not None:
            (value,) = {*g.data.tolist()}  # a whole one, not half of a sum
            taken.append(value)

    def work(number: int) -> None:
        if number:
            for _ in range(ROUNDS):
                (x * 1).sum().backward()
            return
        while not done.is_set():
            take()

    thread = threading.Thread(target=work, args=(0,))
    thread.start()
    in_threads(lambda number: work(number + 1))
    done.set()
    thread.join()
    assert values(x) == [ROUNDS * THREADS]
    assert taken == sorted(taken)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("set_to_none", [True, False])
def test_steps_and_zero_grad_meanwhile(set_to_none: bool) -> None:
    x, other = leaf(100), leaf(3)
    optimizer = optim.SGD([x, other], lr=1e-3)
    done = threading.Event()

    def train() -> None:
        while not done.is_set():
            (other * 2).sum().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none)

    thread = threading.Thread(target=train)
    thread.start()
    in_threads(lambda _: [(x * 1).sum().backward() for _ in range(ROUNDS)] and None)
    done.set()
    thread.join()
    assert x.grad is None or len(values(x)) == 1
    assert np.isfinite(x.data).all()


@pytest.mark.usefixtures("restless")
def test_a_graph_that_another_thread_frees_is_refused_by_name() -> None:
    """Two backwards of one graph without `retain_graph`: one wins, the other has no part in it."""
    for _ in range(ROUNDS):
        x = leaf(4)
        y = x
        for _ in range(20):
            y = y * 1.0
        y = y.sum()

        def work(_: int, y: Any = y) -> str:
            try:
                y.backward()
            except RuntimeError as error:
                return str(error)
            return ""

        said = in_threads(work)
        assert x.grad is None or values(x) == [said.count("")]
        assert all("got one freed by an earlier backward" in each for each in said if each)


# ------------------------------------------------------------------ every interleaving of two


def interrupted_by(
    monkeypatch: pytest.MonkeyPatch, name: str, what: Callable[[], None], at: int
) -> None:
    """`what` happens after call number `at` of a function of `autodiff`."""
    real, calls = getattr(autodiff, name), itertools.count()

    def then(*args: Any) -> Any:
        result = real(*args)
        if next(calls) == at:
            what()
        return result

    monkeypatch.setattr(autodiff, name, then)


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("before", [False, True])
def test_another_backward_between_the_sum_and_the_store(
    before: bool, create_graph: bool, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaves = [leaf(3) for _ in range(3)]

    def add(factor: float) -> None:
        sum(x * factor for x in leaves).sum().backward(create_graph=create_graph)

    if before:
        add(1)
    name = "constant" if not (before or create_graph) else "_sum"
    interrupted_by(monkeypatch, name, lambda: add(10), at)
    add(100)
    assert [values(x) for x in leaves] == [[110.0 + before]] * 3
    for x in leaves:
        x.grad = None


@pytest.mark.parametrize("at", range(2))
def test_zero_grad_between_the_sum_and_the_store(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was forgotten does not come back; what comes later stays."""
    leaves = [leaf(3) for _ in range(2)]
    sum(x * 7 for x in leaves).sum().backward()

    def forget() -> None:
        for x in leaves:
            x.grad = None

    interrupted_by(monkeypatch, "_sum", forget, at)
    sum(x * 100 for x in leaves).sum().backward()
    assert [values(x) for x in leaves] == [[100.0]] * 2


@pytest.mark.parametrize(
    ("clip", "first", "expected"),
    [(optim.clip_grad_value_, 10.0, 11.0), (optim.clip_grad_norm_, 100.0, 50.5)],
)
def test_a_backward_between_a_clipped_gradient_and_its_store(
    clip: Callable[[Any, float], Any],
    first: float,
    expected: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, calls = leaf(1), itertools.count()
    (x * first).sum().backward()

    def constant(array: Any) -> Any:
        if not next(calls):
            (x * 1).sum().backward()
        return Tensor(array)

    monkeypatch.setattr(optim.clip, "constant", constant)
    clip(x, 50)
    assert values(x) == pytest.approx([expected], rel=1e-6)


@pytest.mark.parametrize("clip", [optim.clip_grad_value_, optim.clip_grad_norm_])
def test_zero_grad_while_gradients_are_clipped(
    clip: Callable[[Any, float], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    leaves = [leaf(1), leaf(1)]
    sum(x * 100 for x in leaves).sum().backward()

    def constant(array: Any) -> Any:
        for x in leaves:
            x.grad = None
        return Tensor(array)

    monkeypatch.setattr(optim.clip, "constant", constant)
    clip(leaves, 50)
    assert [x.grad for x in leaves] == [None, None]


def test_a_gradient_that_comes_while_an_optimizer_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step applies the gradients of one moment, in which this one may be."""
    x, other = leaf(1), leaf(1)
    other.sum().backward()
    optimizer = optim.SGD([x, other], lr=0.5)
    real = optimizer._alike

    def alike(*args: Any) -> Any:
        found = real(*args)
        if x.grad is None:
            (x * 2).sum().backward()
        return found

    monkeypatch.setattr(optimizer, "_alike", alike)
    optimizer.step()
    assert x.data == [0.0]
    assert other.data == [0.5]


@pytest.mark.parametrize("function", [autodiff._accumulate, node.replace_gradient])
def test_the_comparison_and_the_store_have_no_place_for_another_thread(function: Any) -> None:
    """CPython switches threads at calls, loops and starts of functions, and nowhere else."""
    code = list(dis.get_instructions(function))
    stores = [i for i, step in enumerate(code) if step.opname == "STORE_ATTR"]
    compared = [
        i
        for i, step in enumerate(code[: stores[0]])
        if step.opname == "IS_OP" or "NONE" in step.opname.split("_")
    ]
    loaded = max(i for i in range(compared[-1]) if code[i].argval == "_grad")
    starts = [loaded]  # of the store that is found equal; CPython 3.12 has one for each outcome
    starts += [max(i for i in range(s) if code[i].is_jump_target) for s in stores[1:]]
    for start, store in zip(starts, stores, strict=True):
        names = {step.opname for step in code[start : store + 1]}
        assert {"LOAD_ATTR", "STORE_ATTR"} <= names
        assert not [name for name in names if "CALL" in name or "BACKWARD" in name]
        assert not names & {"RESUME", "SEND", "YIELD_VALUE", "FOR_ITER"}


# ------------------------------------------------------------------ errors and interrupts


@pytest.mark.parametrize("create_graph", [False, True])
def test_an_error_leaves_every_gradient(
    create_graph: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum of the last leaf fails, when those of the others are there."""
    leaves = [leaf(3) for _ in range(3)]
    hidden = leaves[0] * 1
    hidden.retain_grad()
    sum(x * 1 for x in (hidden, *leaves)).sum().backward(retain_graph=True)
    before = [x.grad for x in (hidden, *leaves)]
    loss = sum(x * 2 for x in (hidden, *leaves)).sum()

    def fail() -> None:
        raise MemoryError

    interrupted_by(monkeypatch, "_sum", fail, 3)
    with pytest.raises(MemoryError):
        loss.backward(create_graph=create_graph)
    assert all(x.grad is g for x, g in zip((hidden, *leaves), before, strict=True))


def test_an_error_late_in_the_walk_leaves_what_is_retained() -> None:
    def rule(g: Any, y: Any, x: Any) -> Any:
        raise ArithmeticError

    broken = tk.op(lambda x: x + 0.0, rule, name="broken")
    x = leaf(3)
    hidden = broken(x) * 2
    hidden.retain_grad()
    with pytest.raises(ArithmeticError):
        hidden.sum().backward()
    assert hidden.grad is None


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 7])
@pytest.mark.parametrize("before", [False, True])
def test_an_interrupt_at_any_bytecode_blocks_nobody(before: bool, every: int) -> None:
    def two_leaves() -> tuple[list[Any], Any]:
        leaves = [leaf(3) for _ in range(2)]
        if before:
            sum(x * 1 for x in leaves).sum().backward()
        return leaves, sum(x * 10 for x in leaves).sum()

    interrupts = Interrupts(lambda code: code.co_filename == autodiff.__file__)
    totals = [interrupts.count(two_leaves()[1].backward) for _ in range(3)]
    assert totals[-1] > 300  # CPython 3.13 shows less of what is traced for the first time
    interrupted = 0
    for at in range(0, totals[-1], every):
        leaves, loss = two_leaves()
        interrupted += interrupts.at(at, loss.backward)
        found = [0.0 if x.grad is None else values(x)[0] for x in leaves]
        assert all(value in (before, 10 + before) for value in found)
        thread = threading.Thread(target=(sum(x * 100 for x in leaves).sum()).backward)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
        assert [values(x)[0] for x in leaves] == [100 + value for value in found]
    assert interrupted > 0.9 * totals[-1] / every
