"""`repeat` and `scan`: what as many calls would give, in C where the whole step is C."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import alike, twins
from harness import backend as backend

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim
from tinygrad_kr.native.build import find_compiler

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float64)
Y = np.array([[0], [1], [1], [0]], np.float64)


def xor_net() -> nn.Sequential:
    tk.manual_seed(0)
    layers = nn.Linear(2, 10, dtype=np.float64), nn.Sigmoid(), nn.Linear(10, 1, dtype=np.float64)
    return nn.Sequential(*layers)


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9),
    "Adam": lambda parameters: optim.Adam(parameters, lr=0.01),
}


def training(net: nn.Module, optimizer: Any) -> Callable[[Any, Any], Any]:
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(net(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


@pytest.mark.exact
@pytest.mark.trains
@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_repeat_gives_the_losses_of_as_many_steps(rule: str, backend: str) -> None:
    def build() -> tuple[nn.Module, Any]:
        net = xor_net()
        return net, OPTIMIZERS[rule](net.parameters())

    plain, compiled = twins(lambda learner: training(learner.net, learner.optimizer), build)
    x, y = Tensor(X), Tensor(Y)
    losses = compiled.step.repeat(50, x, y)
    expected = [plain.step(x, y).item() for _ in range(50)]
    np.testing.assert_allclose(losses.numpy(), expected, 1e-10)
    alike(plain, compiled, rtol=1e-10, atol=1e-14)
    assert compiled.step(x, y).item() == pytest.approx(plain.step(x, y).item(), rel=1e-9)


def test_the_xor_step_is_one_c_function() -> None:
    if find_compiler() is None:
        return
    net = xor_net()
    step = tk.compile(training(net, optim.SGD(net.parameters(), lr=0.1)))
    step.repeat(5, Tensor(X), Tensor(Y))
    assert step.last_runner is not None
    assert step.last_runner.looped is not None
    assert "1 C function" in str(step)
    assert "binary_cross_entropy" not in step.source
    assert "sigmoid" in step.source


def test_scan_runs_through_stacked_batches(backend: str) -> None:
    net = xor_net()
    other = copy.deepcopy(net)
    step = tk.compile(training(net, optim.SGD(net.parameters(), lr=0.1)))
    plain = training(other, optim.SGD(other.parameters(), lr=0.1))
    xs, ys = np.random.default_rng(0).random((20, 4, 2)), np.tile(Y, (20, 1, 1))
    losses = step.scan(Tensor(xs), Tensor(ys))
    expected = [plain(Tensor(x), Tensor(y)).item() for x, y in zip(xs, ys, strict=True)]
    np.testing.assert_allclose(losses.numpy(), expected, 1e-10)
    again = step.scan(Tensor(xs), Tensor(ys)).numpy()
    assert again[0] == pytest.approx(plain(Tensor(xs[0]), Tensor(ys[0])).item(), rel=1e-9)


@pytest.mark.parametrize(
    "xs",
    [
        pytest.param(lambda random: random((4, 20, 2)).swapaxes(0, 1), id="in themselves"),
        pytest.param(lambda random: random((60, 4, 2))[::3], id="from one another"),
        pytest.param(lambda random: random((20, 4, 2))[::-1], id="backwards"),
    ],
)
def test_scan_of_batches_that_lie_apart(xs: Any, backend: str) -> None:
    net = xor_net()
    step = tk.compile(training(net, optim.SGD(net.parameters(), lr=0.0)))
    xs = xs(np.random.default_rng(0).random)
    ys = np.tile(Y, (20, 1, 1))
    losses = step.scan(Tensor(xs), Tensor(ys)).numpy()
    expected = [step(Tensor(x), Tensor(y)).item() for x, y in zip(xs, ys, strict=True)]
    np.testing.assert_allclose(losses, expected, 1e-12)


def test_results_of_any_structure_are_stacked(backend: str) -> None:
    double = tk.compile(lambda x: {"twice": x * 2, "sum": x.sum()})
    found = double.scan(Tensor(np.arange(6.0).reshape(3, 2)))
    np.testing.assert_array_equal(found["twice"].numpy(), [[0, 2], [4, 6], [8, 10]])
    np.testing.assert_array_equal(found["sum"].numpy(), [1, 5, 9])
    assert tk.compile(lambda: None).repeat(3) is None


def test_a_wrong_number_of_calls_or_batches_is_refused() -> None:
    step = tk.compile(lambda x: x * 2)
    with pytest.raises(ValueError, match="number of calls"):
        step.repeat(-1, Tensor([1.0]))
    with pytest.raises(ValueError, match=r"\(3,\), \(2,\)"):
        step.scan(Tensor([1.0, 2.0, 3.0]), Tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="no arrays"):
        step.scan()
    assert step.repeat(0, Tensor([1.0])) is None


@pytest.mark.parametrize("place", [np.s_[7:1:-1], np.s_[:6]], ids=["backwards", "before it"])
def test_an_argument_in_the_memory_of_a_parameter_is_read_as_it_was(
    place: slice, backend: str
) -> None:
    memory, others_memory = np.arange(8.0), np.arange(8.0)
    weight, other = nn.Parameter(tk.zeros(6)), nn.Parameter(tk.zeros(6))
    weight.data, other.data = memory[2:], others_memory[2:]

    def step_of(w: Any) -> Callable[[Any], Any]:
        optimizer = optim.SGD([w], lr=0.1)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = (w * w * x).sum()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step

    compiled, plain = tk.compile(step_of(weight)), step_of(other)
    for i in range(8):
        x = memory[place] if i > 3 else memory[place].copy()
        found, expected = compiled(x), plain(others_memory[place].copy())
        assert found.item() == pytest.approx(expected.item())
        np.testing.assert_allclose(memory, others_memory)
    assert compiled.programs, compiled.explain()


def test_a_shape_that_depends_on_elements_is_not_compiled(backend: str) -> None:
    chosen = tk.compile(lambda x: x[x > 1] * 2)
    for values in ([1, 2, 3], [0, 2, 3], [0, 3, 3], [0, 0, 0], [2, 3, 4]):
        x = np.array(values, np.float64)
        np.testing.assert_array_equal(chosen(Tensor(x)).numpy(), x[x > 1] * 2)
    assert "truth values" in chosen.explain()
    assert not chosen.programs
