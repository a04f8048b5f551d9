"""One piece of memory for what passes between steps: nothing that is alive is written over, nothing
that one C function is given overlaps, and no more is taken than what is alive at once."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from harness import native_of, needs_compiler
from hypothesis import given
from hypothesis import strategies as st
from training import training_step

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn, optim
from tinygrad_kr.compile import Compiled
from tinygrad_kr.compile.plan.memory import LINE, packed
from tinygrad_kr.compile.plan.plan import MAX_WORKER_STEPS, Plan
from tinygrad_kr.compile.plan.steps import Call, Lifetime, Step
from tinygrad_kr.compile.run.c_runner import CRunner
from tinygrad_kr.ops.node import Node

# ------------------------------------------------------------------ where the pieces lie


@st.composite
def some_lifetimes(draw: st.DrawFn) -> list[Lifetime]:
    pieces = []
    for _ in range(draw(st.integers(0, 30))):
        first = draw(st.integers(0, 12))
        last = draw(st.integers(first, 12))
        size = draw(st.one_of(st.integers(0, 500), st.integers(4000, 9000)))
        pieces.append(Lifetime(size, first, last))
    return pieces


def meet(a: Lifetime, b: Lifetime) -> bool:
    return a.first <= b.last and b.first <= a.last


def padded(size: int) -> int:
    return -(-size // LINE) * LINE + LINE


@given(some_lifetimes())
def test_pieces_of_one_time_lie_apart(pieces: list[Lifetime]) -> None:
    placed = list(zip(pieces, packed(pieces), strict=True))
    for _, start in placed:
        assert start >= 0
        assert start % LINE == 0
    for (a, start), (b, other) in combinations(placed, 2):
        if meet(a, b):
            assert start + a.size + LINE <= other or other + b.size + LINE <= start


@given(some_lifetimes())
def test_no_piece_lies_higher_than_it_must(pieces: list[Lifetime]) -> None:
    for start, piece in zip(packed(pieces), pieces, strict=True):
        larger = [other for other in pieces if other.size >= piece.size and meet(other, piece)]
        taken = sum(padded(other.size) for other in larger) - padded(piece.size)
        gaps = len(larger) * (piece.size + 2 * LINE)
        assert start <= taken + gaps


def starts(*pieces: Lifetime) -> list[int]:
    return packed(pieces)


def test_pieces_of_different_times_share_memory() -> None:
    assert starts(Lifetime(640, 0, 1), Lifetime(640, 2, 3), Lifetime(64, 4, 9)) == [0, 0, 0]


def test_pieces_that_meet_at_a_moment_do_not() -> None:
    assert starts(Lifetime(640, 0, 2), Lifetime(640, 2, 3)) == [0, 640 + LINE]


def test_a_gap_is_used_only_where_a_piece_fits() -> None:
    """Of three neighbours the middle one ends; what is as large takes its place, no larger one."""
    neighbours = [Lifetime(960, 0, 9), Lifetime(640, 0, 3), Lifetime(320, 0, 9)]
    assert starts(*neighbours) == [0, 1024, 1728]
    assert starts(*neighbours, Lifetime(640, 4, 9)) == [0, 1024, 1728, 1024]
    assert starts(*neighbours, Lifetime(704, 4, 9)) == [0, 1024, 1792, 1024]


# ------------------------------------------------------------------ the memory of compiled nets

Make = Callable[[], tuple[Callable[..., Any], list[Any], list[Node]]]


def perceptron() -> tuple[Callable[..., Any], list[Any], list[Node]]:
    tk.manual_seed(1)
    net = nn.Sequential(
        nn.Linear(100, 60), nn.ReLU(), nn.Linear(60, 60), nn.ReLU(), nn.Linear(60, 9)
    )
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    x = Tensor(np.random.default_rng(1).standard_normal((30, 100)), dtype=np.float32)
    labels = Tensor(np.arange(30) % 9)
    return training_step(net, optimizer), [x, labels], list(net.parameters())


def convolutions() -> tuple[Callable[..., Any], list[Any], list[Node]]:
    tk.manual_seed(2)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(24, 5),
    )  # fmt: skip
    optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    x = Tensor(np.random.default_rng(2).standard_normal((20, 1, 8, 8)), dtype=np.float32)
    labels = Tensor(np.arange(20) % 5)
    return training_step(net, optimizer), [x, labels], list(net.parameters())


def chain() -> tuple[Callable[..., Any], list[Any], list[Node]]:
    """Many more loops than one C function has, none of which lets another join it."""
    weight = Tensor(np.linspace(-1, 1, 7), requires_grad=True)

    def step(x: Tensor) -> Tensor:
        weight.grad = None
        for _ in range(30):
            x = x * weight + x.sum(0).tanh()
        loss = (x * x).sum().log1p()
        loss.backward()
        return loss

    return step, [Tensor(np.linspace(-0.1, 0.1, 21).reshape(3, 7))], [weight]


itself = tk.op(lambda x: x[...], lambda g, y, x: -g)
"""A user's op whose result is a view of what it was given, with its gradient reversed."""


def deep(x: Any, weight: Tensor) -> Any:
    for _ in range(4):
        x = (x @ weight).tanh()
    return x


def handed_through() -> tuple[Callable[..., Any], list[Any], list[Node]]:
    """NumPy calls that return views: one is read, of another what it was given is read, when much
    else has been computed."""
    weight = Tensor(np.linspace(-1, 1, 60 * 60).reshape(60, 60) / 30, requires_grad=True)

    def step(x: Tensor) -> Tensor:
        weight.grad = None
        late = itself(x @ weight)
        given = (x + 1) @ weight
        early = itself(given) @ weight
        loss = (deep(x, weight) * late * given + early).sum()
        loss.backward()
        return loss

    return step, [Tensor(np.linspace(-1, 1, 40 * 60).reshape(40, 60))], [weight]


def remembering() -> tuple[Callable[..., Any], list[Any], list[Node]]:
    """New elements of a Tensor that are computed first and written when all is done."""
    weight = Tensor(np.linspace(-1, 1, 60 * 60).reshape(60, 60) / 30, requires_grad=True)
    state = Tensor(np.linspace(1, 2, 40 * 60).reshape(40, 60))

    def step(x: Tensor) -> Tensor:
        weight.grad = None
        before = state.clone()
        with tk.no_grad():
            state.copy_(state @ weight + 0)
        loss = (deep(x, weight) * before).sum()
        loss.backward()
        return loss

    return step, [Tensor(np.linspace(-1, 1, 40 * 60).reshape(40, 60))], [weight, state]


def run(make: Make, calls: int, wrap: Callable[[Any], Any], between: Any = None) -> list[Any]:
    """The loss and the gradients of each call, and the elements of the leaves at the end."""
    step, inputs, leaves = make()
    function = wrap(step)
    found = []
    for _ in range(calls):
        found.append(function(*inputs).detach().numpy().copy())
        found += [leaf.grad.numpy().copy() for leaf in leaves if leaf.grad is not None]
        if between is not None:
            between(function)
    return [*found, *(leaf.detach().numpy().copy() for leaf in leaves)]


def spoil(compiled: Compiled) -> None:
    """No call may read what the one before left in the memory of the steps."""
    if compiled.last_runner is not None:
        native_of(compiled).arena.memory[:] = 0xFF


def moments(plan: Plan) -> list[list[Step]]:
    """The steps that run workers_of."""
    return [worker for segment in plan.segments for worker in segment.workers]


NETS = [perceptron, convolutions, chain, handed_through, remembering]


@pytest.mark.exact
@pytest.mark.trains
@needs_compiler
@pytest.mark.parametrize("make", NETS)
def test_compiled_is_as_eager(make: Make) -> None:
    with np.errstate(all="ignore"):
        eager, compiled = run(make, 6, lambda f: f), run(make, 6, Compiled, spoil)
    for wanted, found in zip(eager, compiled, strict=True):
        single = wanted.dtype == np.float32
        np.testing.assert_allclose(found, wanted, *((2e-5, 2e-5) if single else (1e-12, 1e-12)))


@pytest.fixture(autouse=True, scope="module")
def _programs_go_with_this_file() -> Iterator[None]:
    yield
    compiled_net.cache_clear()
    gc.collect()  # a program and its function refer to one another


@cache
def compiled_net(make: Make) -> CRunner:
    """The C of a net, which tests only look at."""
    step, inputs, _ = make()
    compiled = Compiled(step)
    for _ in range(4):
        compiled(*inputs)
    return native_of(compiled)


def called_with(make: Make) -> list[tuple[str, tuple[np.ndarray, ...]]]:
    """The C functions of one replay, by name, with the arrays that each was given."""
    step, inputs, _ = make()
    compiled = Compiled(step)
    for _ in range(4):
        compiled(*inputs)
    names = compiled._replay.__globals__ if hasattr(compiled._replay, "__globals__") else {}
    if "last_write" not in names:  # under np.errstate
        names = compiled._replay.__wrapped__.__globals__  # type: ignore[attr-defined]
    seen: list[tuple[str, tuple[np.ndarray, ...]]] = []

    def watched(name: str, function: Any) -> Any:
        def call(arrays: tuple[np.ndarray, ...]) -> None:
            seen.append((name, arrays))
            function(arrays)

        return call

    entry = compiled._latest
    assert entry is not None
    parts = [name for name in names if re.fullmatch(r"part_\d+", name) and callable(names[name])]
    names |= {name: watched(name, names[name]) for name in parts}
    entry._condition = None  # written anew, with the watched functions
    entry.replay(inputs)
    return seen


@needs_compiler
@pytest.mark.parametrize("make", NETS)
def test_what_one_c_function_is_given_lies_apart(make: Make) -> None:
    """In the very source that is built: all memory is `restrict` there."""
    native = compiled_net(make)
    functions = re.findall(r"^  \w+\((.*memory\[.*)\);$", native.code.text, re.M)
    given = [{int(root) for root in re.findall(r"memory\[(\d+)\]", line)} for line in functions]
    assert given
    for roots in given:
        spans = []
        for root in roots & native.arena.starts.keys():
            start = native.arena.starts[root]
            spans.append((start, start + native.arena.pieces[root].size))
        spans.sort()
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))


@needs_compiler
@pytest.mark.parametrize("make", [perceptron, convolutions, chain, remembering])
def test_every_array_that_c_is_given_lies_apart(make: Make) -> None:
    """Results and gradients from one another, from the arena and from what is read. (Only what is
    read, as by `handed_through`, may share memory.)"""
    calls = called_with(make)
    assert calls
    for name, arrays in calls:
        spans = sorted((a.ctypes.data, a.ctypes.data + a.nbytes) for a in arrays if a.size)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans)), name


@needs_compiler
@pytest.mark.parametrize("make", NETS)
def test_less_memory_than_all_values_take(make: Make) -> None:
    native = compiled_net(make)
    pieces = list(native.arena.pieces.values())
    at_once = [
        sum(piece.size for piece in pieces if piece.first <= moment <= piece.last)
        for moment in range(len(moments(native.plan)) + 1)
    ]
    assert native.arena.nbytes <= 1.25 * max(at_once) + 2 * LINE * len(pieces)
    assert native.arena.nbytes < sum(piece.size for piece in pieces)


@needs_compiler
@pytest.mark.parametrize("make", NETS)
def test_every_piece_lies_in_the_arena(make: Make) -> None:
    arena = compiled_net(make).arena
    assert arena.memory.ctypes.data % LINE == 0
    assert arena.pieces.keys() == arena.starts.keys()
    for root, piece in arena.pieces.items():
        assert arena.starts[root] % LINE == 0
        assert arena.starts[root] + piece.size <= arena.nbytes


@needs_compiler
def test_a_chain_is_more_than_one_c_function() -> None:
    native = compiled_net(chain)
    assert len(native.plan.steps) > 3 * MAX_WORKER_STEPS
    assert not any(isinstance(step, Call) for step in native.plan.steps)
    assert len(moments(native.plan)) == -(-len(native.plan.steps) // MAX_WORKER_STEPS)


# ------------------------------------------------------------------ memory of gradients


@needs_compiler
def test_the_mnist_step_takes_no_more_than_eager_peaks_at() -> None:
    """Eager peaks at the gradients, 1,051 KiB, and 204 KiB, which the benchmark measures."""
    tk.manual_seed(3)
    widths = [784, 256, 256, 10]
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    net = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    compiled = Compiled(training_step(net, optim.Adam(net.parameters())))
    for _ in range(4):
        compiled(tk.zeros(100, 784), Tensor(np.arange(100) % 10))
    assert 100 * 256 * 4 <= native_of(compiled).workspace < 410 * 1024


@needs_compiler
@pytest.mark.parametrize("what", ["kept", "kept as an array", "forgotten", "replaced", "rebound"])
def test_gradients_that_somebody_has_stay(what: str) -> None:
    """Whatever happens to gradients between calls, those that are held stay as they were."""
    found: list[Any] = []
    for wrap in (lambda f: f, Compiled):
        step, inputs, leaves = perceptron()
        function = wrap(step)
        held: list[Any] = []
        for _ in range(8):
            function(*inputs)
            for leaf in leaves:
                grad = leaf.grad
                assert grad is not None
                if what == "kept as an array":
                    held.append(grad.numpy())
                elif what in ("kept", "replaced"):
                    held.append(grad)
                if what == "replaced":
                    leaf.grad = Tensor(grad.numpy() * 2)
                elif what == "forgotten":
                    held.append(grad.numpy().copy())
                    leaf.grad = None
                elif what == "rebound":
                    held.append(grad.numpy())
                    grad.data = grad.numpy() * 2
        found.append([np.array(array) for array in held])
    for eager, compiled in zip(*found, strict=True):
        np.testing.assert_allclose(compiled, eager, 2e-5, 2e-5)


def accumulating() -> tuple[Callable[..., Any], list[Any], list[Node]]:
    weight = Tensor(np.linspace(-1, 1, 60 * 60).reshape(60, 60) / 30, requires_grad=True)

    def step(x: Tensor) -> Tensor:
        loss = (deep(x, weight)).sum()
        loss.backward()
        return loss

    return step, [Tensor(np.linspace(-0.1, 0.1, 40 * 60).reshape(40, 60))], [weight]


turned = tk.op(lambda x: x * 1, lambda g, y, x: turned(g))
"""A user's op whose rule is a call of it."""


def called_backwards() -> tuple[Callable[..., Any], list[Any], list[Node]]:
    """A user's op that runs after the gradient of the second layer is written."""
    first, second = (Tensor(np.ones((60, 60)) / 90, requires_grad=True) for _ in range(2))

    def step(x: Tensor) -> Tensor:
        first.grad = second.grad = None
        loss = (turned(x @ first).tanh() @ second).square().sum()
        loss.backward()
        return loss

    return step, [Tensor(np.linspace(-0.1, 0.1, 40 * 60).reshape(40, 60))], [first, second]


def keeps_gradients(make: Make) -> bool:
    """Whether the gradients of a call lie where those of the call before were."""
    step, inputs, leaves = make()
    compiled = Compiled(step)
    for _ in range(5):
        compiled(*inputs)
    before = [leaf._grad._data for leaf in leaves if leaf._grad is not None]
    compiled(*inputs)
    after = [leaf._grad._data for leaf in leaves if leaf._grad is not None]
    return all(a is b for a, b in zip(before, after, strict=True))


@needs_compiler
def test_gradients_are_overwritten_where_none_is_read_added_to_or_left_by_an_error() -> None:
    """The error of a user's op leaves all as it was, also before the first gradient."""
    assert keeps_gradients(perceptron)
    assert keeps_gradients(handed_through)
    assert not keeps_gradients(accumulating)
    assert not keeps_gradients(called_backwards)


READ_BY_VIEW: dict[str, Callable[[Any, Any], Any]] = {
    "transposed, times itself": lambda b, g: b.T @ b,
    "transposed, times another": lambda b, g: b.T @ g,
    "rows": lambda b, g: b[:2] + 0.0,
    "transposed rows": lambda b, g: b.T[:, :2] * 1.5,
    "reshaped": lambda b, g: b.reshape(2, 5)[:, :2] * 2.0,
}


@pytest.mark.parametrize("read", READ_BY_VIEW.values(), ids=READ_BY_VIEW)
def test_what_is_written_over_a_tensor_may_be_read_by_a_view(read: Callable[..., Any]) -> None:
    """The new elements are then not only where the old ones were."""

    def run(wrap: Callable[[Any], Any]) -> list[np.ndarray]:
        kept, read_anew = Tensor(np.ones((5, 2))), Tensor(np.zeros((2, 2)))

        def step(g: Any) -> None:
            b = kept + g
            read_anew.copy_(read(b, g))
            kept.copy_(b)

        function, found = wrap(step), []
        for i in range(4):
            function(Tensor(np.arange(10.0).reshape(5, 2) + i))
            found += [kept.data.copy(), read_anew.data.copy()]
        return found

    for compiled, eager in zip(run(Compiled), run(lambda step: step), strict=True):
        np.testing.assert_allclose(compiled, eager, rtol=1e-12)
