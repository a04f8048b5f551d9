"""Checks of elements in compiled steps: in C, with the eager error, and with nothing half done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import backend as backend
from harness import needs_compiler

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim

X = Tensor(np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32))
LABELS = Tensor([0, 2, 1, 1, 0, 2])
ROWS = Tensor([[0, 1], [4, 2], [1, 1]])

Case = tuple[Callable[..., Any], list[Tensor], int, dict[str, Any], str]


def where_one_is(x: Tensor, number: float) -> Tensor:
    """The same with another last element."""
    array = np.array(x.data)
    array.ravel()[-1] = number
    return Tensor(array)


P = Tensor(np.linspace(0, 1, 6, dtype=np.float32))
CASES: dict[str, Case] = {
    "binary cross-entropy": (
        lambda w, p, t: F.binary_cross_entropy(p, t) * w.sum(),
        [P, Tensor(np.ones(6, np.float32))],
        0,
        {"above": 1.5, "below": -0.25, "infinite": np.inf},
        "binary_cross_entropy",
    ),
    "labels": (
        lambda w, x, y: F.cross_entropy(x * w, y),
        [X, LABELS],
        1,
        {"above": 3, "below": -1},
        "cross_entropy",
    ),
    "labels to ignore": (
        lambda w, x, y: F.cross_entropy(x * w, y, ignore_index=-100),
        [X, LABELS],
        1,
        {"above": 3, "below": -1},
        "cross_entropy",
    ),
    "embedding": (
        lambda w, i: F.embedding(i, w.reshape((3, 1)) * np.ones((3, 2), np.float32)).sum(),
        [Tensor([[0, 1], [2, 2]])],
        0,
        {"above": 3, "below": -1},
        "embedding",
    ),
    "variances": (
        lambda w, x, v: F.gaussian_nll_loss(x * w, x, v),
        [X, Tensor(np.ones((6, 3), np.float32))],
        1,
        {"below": -1.0},
        "gaussian_nll_loss",
    ),
}


def step_of(loss_of: Callable[..., Any], w: Tensor, optimizer: Any) -> Callable[..., Any]:
    def step(*given: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(w, *given)
        loss.backward()
        optimizer.step()
        return loss

    return step


def weights() -> Tensor:
    return Tensor(np.array([0.5, -1.0, 2.0], np.float32), requires_grad=True)


def state_of(w: Tensor, optimizer: Any) -> list[np.ndarray]:
    numbers = [w.data, *(x for x in optimizer.state_dict()["state"].values())]
    return [np.array(x) for x in _leaves(numbers)]


def _leaves(x: Any) -> list[Any]:
    if isinstance(x, dict):
        x = list(x.values())
    return [y for part in x for y in _leaves(part)] if isinstance(x, list) else [x]


@pytest.mark.parametrize("name", CASES)
def test_a_refused_element_raises_as_in_eager_mode_and_changes_nothing(
    name: str, backend: str
) -> None:
    loss_of, given, i, refused, begins = CASES[name]
    w = weights()
    optimizer = optim.Adam([w], lr=0.1)
    step = tk.compile(step_of(loss_of, w, optimizer))
    for _ in range(3):
        step(*given)
    for number in refused.values():
        bad = [*given]
        bad[i] = where_one_is(given[i], number)
        with pytest.raises((ValueError, IndexError)) as eager:
            loss_of(weights(), *bad)
        assert str(eager.value).startswith(begins)
        before = state_of(w, optimizer)
        with pytest.raises(type(eager.value)) as compiled:
            step(*bad)
        assert str(compiled.value) == str(eager.value)
        for a, b in zip(before, state_of(w, optimizer), strict=True):
            np.testing.assert_array_equal(a, b)
        step(*given)
    if backend == "c":
        assert " 0 NumPy calls" in str(step)


@needs_compiler
@pytest.mark.parametrize("name", CASES)
def test_repeat_goes_on_to_the_step_before_the_refused_one(name: str) -> None:
    """The steps up to it are done, as by single calls; the loop of C is left there."""
    loss_of, given, i, refused, _ = CASES[name]
    w, alike = weights(), weights()
    optimizer, other = optim.Adam([w], lr=0.1), optim.Adam([alike], lr=0.1)
    compiled, eager = step_of(loss_of, w, optimizer), step_of(loss_of, alike, other)
    step = tk.compile(compiled)
    step.repeat(6, *given)
    assert step.last_runner is not None and step.last_runner.looped is not None
    batches = [Tensor(np.stack([x.data] * 9)) for x in given]
    array = batches[i].data
    array[7] = where_one_is(given[i], next(iter(refused.values()))).data
    with pytest.raises((ValueError, IndexError)) as raised:
        step.scan(*batches)
    for _ in range(6 + 7):
        eager(*given)
    with pytest.raises(type(raised.value)) as expected:
        eager(*(Tensor(x.data[7]) for x in batches))
    assert str(raised.value) == str(expected.value)
    np.testing.assert_allclose(w.data, alike.data, 1e-4, 1e-6)
    assert [g["lr"] for g in optimizer.param_groups] == [0.1]
    np.testing.assert_allclose(step(*given).item(), eager(*given).item(), 1e-4)


@needs_compiler
def test_a_step_of_labels_is_one_loop_of_c() -> None:
    """A classifier's `repeat` needs Python once: the checks of labels are in C."""
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = optim.SGD(net.parameters(), lr=0.1)

    def train(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    step = tk.compile(train)
    losses = step.repeat(50, X, LABELS)
    assert "1 C function of" in str(step) and " 0 NumPy calls" in str(step)
    assert step.last_runner is not None and step.last_runner.looped is not None
    assert losses[-1].item() < losses[0].item()


def test_nan_is_a_probability_that_gives_nan(backend: str) -> None:
    step = tk.compile(lambda p, t: F.binary_cross_entropy(p, t))
    for p in P, P, where_one_is(P, np.nan):
        found = step(p, Tensor(np.ones(6, np.float32)))
    assert np.isnan(found.item())


def test_a_gradient_read_before_a_refusal_stays(backend: str) -> None:
    """A `.grad` of the step before is not overwritten by a step that raises."""
    loss_of, given, _, refused, _ = CASES["labels"]
    w = weights()
    optimizer = optim.SGD([w], lr=0.1)
    step = tk.compile(step_of(loss_of, w, optimizer))
    for _ in range(4):
        step(*given)
    assert w.grad is not None
    before = np.array(w.grad.data)
    for number in refused.values():
        with pytest.raises(IndexError):
            step(given[0], where_one_is(given[1], number))
        np.testing.assert_array_equal(w.grad.data, before)
