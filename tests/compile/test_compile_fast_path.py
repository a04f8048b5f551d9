"""A replay looks at little, and at all that it relies on: what is another is noticed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from types import FrameType
from typing import Any

import harness
import numpy as np
import pytest
from training import training_step

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim

X = Tensor(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32))
Y = Tensor(np.array([[0], [1], [1], [0]], np.float32))


class Twins:
    """One net in two copies: one steps eagerly, one compiled."""

    def __init__(self) -> None:
        def build() -> tuple[nn.Module, optim.SGD]:
            net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
            return net, optim.SGD(net.parameters(), 0.1)

        self.learners = harness.twins(
            lambda learner: training_step(learner.net, learner.optimizer, F.mse_loss), build
        )
        self.nets = [(learner.net, learner.step) for learner in self.learners]

    def agree(self, x: Tensor = X, y: Tensor = Y) -> None:
        harness.together(*self.learners, [(x, y)], atol=1e-6)

    def settle(self) -> None:
        for _ in range(4):
            self.agree()


@pytest.fixture
def twins() -> Twins:
    made = Twins()
    made.settle()
    return made


def test_gradients_whose_data_was_replaced(twins: Twins) -> None:
    old = []
    for net, _ in twins.nets:
        for parameter in net.parameters():
            old.append(parameter.grad.data)
            parameter.grad.data = np.full(parameter.shape, 7, np.float32)
    kept = [array.copy() for array in old]
    twins.settle()
    for before, now in zip(kept, old, strict=True):
        np.testing.assert_array_equal(now, before)


def test_a_result_whose_data_was_replaced() -> None:
    double = tk.compile(lambda x: x * 2)
    for x in np.arange(12.0).reshape(6, 2):
        made = double(Tensor(x))
        np.testing.assert_array_equal(made.data, 2 * x)
        made.data = np.full(2, 7.0)
        del made


def test_gradients_that_were_cleared_after_some_data_was_replaced(twins: Twins) -> None:
    for _, step in twins.nets:
        step(X, Y)  # nobody has read the gradients since
    Tensor([1.0]).data = np.zeros(1)
    for net, _ in twins.nets:
        net.zero_grad()
    twins.agree()


def _trained(result: Tensor) -> Any:
    result.requires_grad = True
    result.register_hook(lambda g: 2 * g)
    (result * result).sum().backward()
    assert result.grad is not None
    return result.grad.numpy()


def _with_a_gradient(result: Tensor) -> Any:
    before, result.grad = result.grad, result + 1
    return before is None


def test_a_number_among_the_results_stays() -> None:
    code = (
        "import numpy as np\n"
        "import tinygrad_kr as tk\n"
        "double = tk.compile(lambda x: (x * 2, 0))\n"
        "for _ in range(4): double(np.ones(3))\n"
        "tk.Tensor([1.0]).data = np.zeros(1)\n"
        "for _ in range(2): print(double(np.ones(3))[1])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert run.stdout.split() == ["0", "0"]


@pytest.mark.parametrize("use", [_trained, _with_a_gradient])
def test_what_was_made_of_a_result_is_not_there_in_the_next(use: Callable[[Tensor], Any]) -> None:
    double = tk.compile(lambda x: x * 2)
    for k in range(6):
        x = Tensor(np.full(3, float(k)))
        np.testing.assert_array_equal(use(double(x)), use(x * 2))


def test_a_step_by_another_thread_while_a_gradient_is_read(twins: Twins) -> None:
    net, step = twins.nets[1]
    weight = net[0].weight

    def stepping(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code is type(weight).grad.fget.__code__:  # type: ignore[attr-defined]
            step(X, Y)
            return stepping
        return None

    sys.settrace(stepping)
    try:
        held = weight.grad
    finally:
        sys.settrace(None)
    assert held is not None
    kept = held.numpy().copy()
    for _ in range(3):
        step(X, Y)
    np.testing.assert_array_equal(held.numpy(), kept)


def test_gradients_that_are_read_while_a_step_runs_stay_from_then_on(twins: Twins) -> None:
    net, step = twins.nets[1]
    held = []

    def reading(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != "<compiled step>":
            return None
        if event == "line" and "read" in frame.f_locals and len(held) < 3:
            held.append(net[0].weight.grad)
        return reading

    step(X, Y)
    sys.settrace(reading)
    try:
        step(X, Y)
    finally:
        sys.settrace(None)
    kept = [grad.numpy().copy() for grad in held]
    assert len(kept) == 3
    for _ in range(3):
        step(X, Y)
    for before, grad in zip(kept, held, strict=True):
        np.testing.assert_array_equal(grad.numpy(), before)


def test_an_argument_that_requires_grad_after_others_that_did_not() -> None:
    double = tk.compile(lambda x: x * 2)
    for _ in range(4):
        assert not double(X).requires_grad
    assert double(Tensor(X.data, requires_grad=True)).requires_grad


def test_results_and_gradients_that_are_held_stay(twins: Twins) -> None:
    losses = [step(X, Y) for _, step in twins.nets]
    grads = [p.grad for net, _ in twins.nets for p in net.parameters()]
    arrays = [p.grad.numpy() for net, _ in twins.nets for p in net.parameters()]
    kept = [loss.item() for loss in losses], [g.numpy().copy() for g in grads]
    twins.settle()
    assert [loss.item() for loss in losses] == kept[0]
    for held in (grads, arrays):
        for before, now in zip(kept[1], held, strict=True):
            np.testing.assert_array_equal(np.asarray(now), before)


def test_other_shapes_dtypes_keywords_and_modes_in_turn(twins: Twins) -> None:
    for _ in range(3):
        twins.agree()
        twins.agree(X[:2], Y[:2])
        with tk.no_grad():
            for _, step in twins.nets:
                with pytest.raises(RuntimeError):
                    step(X, Y)
        for _, step in twins.nets:
            step(x=X, y=Y)
        twins.agree()


def test_an_array_that_is_reshaped_where_it_is() -> None:
    double = tk.compile(lambda x: x * 2)
    x = np.arange(6.0).reshape(2, 3)
    for _ in range(4):
        assert double(x).shape == (2, 3)
    x.resize(3, 2)
    assert double(x).shape == (3, 2)


def test_the_wrong_number_of_arguments(twins: Twins) -> None:
    _, step = twins.nets[1]
    with pytest.raises(TypeError, match="argument"):
        step(X)
    with pytest.raises(TypeError, match="argument"):
        step(X, Y, Y)
    twins.settle()


@pytest.mark.parametrize("take", [lambda p: p.grad, lambda p: p.grad.numpy(), lambda p: p.grad.T])
def test_gradients_that_nobody_reads_again_stay(twins: Twins, take) -> None:  # type: ignore[no-untyped-def]
    net, step = twins.nets[1]
    held = [take(p) for p in net.parameters()]
    kept = [np.array(grad) for grad in held]
    for _ in range(3):
        step(X, Y)
    for before, now in zip(kept, held, strict=True):
        np.testing.assert_array_equal(np.asarray(now), before)


def test_gradients_that_nobody_has_read_are_written_again(twins: Twins) -> None:
    net, step = twins.nets[1]
    assert net[0].weight.grad is not None
    step(X, Y)
    place = id(net[0].weight._grad)
    for _ in range(3):
        step(X, Y)
    assert id(net[0].weight._grad) == place


@pytest.mark.parametrize(
    "make",
    [
        lambda ps: optim.SGD(ps, 0.1, momentum=0.9),
        lambda ps: optim.Adam(ps, 0.1),
        lambda ps: optim.Adagrad(ps, 0.1),
        lambda ps: optim.RMSprop(ps, 0.1, momentum=0.9),
    ],
)
def test_an_optimizer_outside_keeps_nothing_of_the_gradients(make) -> None:  # type: ignore[no-untyped-def]
    found = []
    for wrap in (lambda f: f, tk.compile):
        tk.manual_seed(0)
        net = nn.Linear(2, 1)
        optimizer = make(net.parameters())

        def backward(x: Tensor, net: nn.Module = net) -> None:
            net.zero_grad()
            (net(x) - Y).pow(2).mean().backward()

        run = wrap(backward)
        for k in range(6):
            run(Tensor(X.numpy() * (k + 1)))
            optimizer.step()
        found.append([p.numpy().copy() for p in map(Tensor.detach, net.parameters())])
    for eager, compiled in zip(*found, strict=True):
        np.testing.assert_allclose(compiled, eager, 1e-4, 1e-6)


@pytest.mark.parametrize("made", [lambda x: x * 2, lambda x: (x * 2).T, lambda x: x @ x.T])
def test_a_view_of_a_result_stays(made) -> None:  # type: ignore[no-untyped-def]
    compiled = tk.compile(made)
    for number in range(4):
        compiled(Tensor(np.full((6, 5), float(number))))
    result = compiled(Tensor(np.ones((6, 5))))
    part, turned = result.data[1:], result.T
    del result
    kept = part.copy(), turned.numpy().copy()
    compiled(Tensor(np.full((6, 5), 7.0)))
    np.testing.assert_array_equal(part, kept[0])
    np.testing.assert_array_equal(turned.numpy(), kept[1])


def test_an_option_that_is_a_list_may_change_where_it_is() -> None:
    found = []
    for wrap in (lambda f: f, tk.compile):
        tk.manual_seed(0)
        net = nn.Linear(2, 1)
        optimizer = optim.Adam(net.parameters(), 0.1)
        betas = optimizer.param_groups[0]["betas"] = [0.9, 0.99]

        def step(net: nn.Module = net, optimizer: optim.Adam = optimizer) -> None:
            optimizer.zero_grad()
            (net(X) - Y).pow(2).mean().backward()
            optimizer.step()

        run = wrap(step)
        for k in range(8):
            betas[0] = 0.1 * k
            run()
        found.append(net.weight.data.copy())
    np.testing.assert_allclose(found[1], found[0], 1e-4)


def test_a_gradient_written_where_the_one_before_was_is_not_that_one() -> None:
    net = nn.Linear(2, 1)

    @tk.compile
    def backward() -> None:
        net.zero_grad()
        (net(X) - Y).pow(2).mean().backward()

    for _ in range(5):
        backward()
    optimizer = optim.SGD(net.parameters(), 0.1)
    for _ in range(3):
        backward()
        optimizer.step()
    stale = optim.SGD(net.parameters(), 0.1)
    stale.step()
    with pytest.warns(UserWarning, match="the gradients of the step before again"):
        stale.step()


def test_a_parameter_that_gets_the_memory_of_an_argument() -> None:
    """C writes the parameter where it lies, and reads the argument as it was at the start."""
    found = []
    for wrap in (lambda f: f, tk.compile):
        x = Tensor(np.linspace(-1, 1, 9, dtype=np.float32).reshape(3, 3))
        weight = Tensor(np.eye(3, dtype=np.float32), requires_grad=True)
        optimizer = optim.SGD([weight], 0.1)

        def step(x: Tensor, weight: Tensor = weight, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = ((x @ weight) ** 2).mean() + (x * weight).sum()
            loss.backward()
            optimizer.step()
            return loss

        run = wrap(step)
        losses = [run(x).item() for _ in range(5)]
        weight.data = x.data
        losses += [run(x).item() for _ in range(5)]
        found.append((losses, weight.data.copy()))
    np.testing.assert_allclose(found[1][0], found[0][0], 1e-5)
    np.testing.assert_allclose(found[1][1], found[0][1], 1e-5, 1e-6)


def test_what_is_only_read_comes_to_share_memory_with_what_is_written() -> None:
    """C would read what the same loop has written."""

    def run(compiled: bool) -> np.ndarray:
        total, part = Tensor(np.ones(40)), Tensor(np.ones(40))

        def add(x: Tensor) -> Tensor:
            with tk.no_grad():
                total[...] = total + part * x
            return (x * 2).sum()

        step = tk.compile(add) if compiled else add
        x = Tensor(np.ones(40))
        memory = np.arange(41.0)
        for _ in range(4):
            step(x)
        total.data = memory[1:]
        step(x)
        part.data = memory[:-1]
        for _ in range(3):
            step(x)
        return total.data.copy()

    np.testing.assert_array_equal(run(compiled=True), run(compiled=False))


def test_two_parameters_that_come_to_share_memory() -> None:
    found = []
    for wrap in (lambda f: f, tk.compile):
        whole = np.linspace(-1, 1, 12, dtype=np.float32)
        a, b = (Tensor(whole[i : i + 6].copy(), requires_grad=True) for i in (0, 6))
        optimizer = optim.SGD([a, b], 0.1)

        def step(a: Tensor = a, b: Tensor = b, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = (a * b).sum() + (a * a).sum()
            loss.backward()
            optimizer.step()
            return loss

        run = wrap(step)
        losses = [run().item() for _ in range(5)]
        a.data, b.data = whole[:6], whole[3:9]
        losses += [run().item() for _ in range(5)]
        found.append((losses, whole.copy()))
    np.testing.assert_allclose(found[1][0], found[0][0], 1e-5)
    np.testing.assert_allclose(found[1][1], found[0][1], 1e-5, 1e-6)


def test_a_large_array_that_a_function_makes_and_gives_away() -> None:
    """What it computed with is what it made, not what others wrote into it later."""
    given = []

    @tk.compile
    def scaled(x: Tensor) -> Tensor:
        weights = np.arange(500.0)
        given.append(weights)
        return x * weights

    x = np.ones(500)
    for _ in range(3):
        scaled(Tensor(x))
        given[-1][...] = -1
    np.testing.assert_array_equal(scaled(Tensor(x)).numpy(), np.arange(500.0))


def test_a_large_array_that_a_function_finds_is_read_anew() -> None:
    weights = np.arange(500.0)
    scaled = tk.compile(lambda x: x * weights)
    x = Tensor(np.ones(500))
    for _ in range(4):
        scaled(x)
    weights[...] = 7
    np.testing.assert_array_equal(scaled(x).numpy(), np.full(500, 7.0))


def test_every_result_is_a_new_array() -> None:
    double = tk.compile(lambda x: (x * 2, x + 1))
    x = Tensor(np.ones(3))
    made = [y.data for _ in range(6) for y in double(x)]
    assert len({id(array) for array in made}) == len(made)
    for a, b in combinations(made, 2):
        assert not np.shares_memory(a, b)
