"""L-BFGS: it finds minima, goes on from its state, and refuses what does not fit."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn, optim
from tinygrad_kr.compile import CaptureError

START = np.array([-1.2, 1.0, -1.2, 1.0])


def rosenbrock(x: Any) -> Any:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def closure_of(optimizer: Any, loss_of: Callable[[], Any]) -> Callable[[], Any]:
    def closure() -> Any:
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        return loss

    return closure


def made(**options: Any) -> tuple[Tensor, optim.LBFGS, Callable[[], Any]]:
    x = Tensor(START.copy(), requires_grad=True)
    optimizer = optim.LBFGS([x], **options)
    return x, optimizer, closure_of(optimizer, lambda: rosenbrock(x))


@pytest.mark.parametrize("history", [3, 100])
def test_it_finds_the_minimum(history: int) -> None:
    options = {"line_search_fn": "strong_wolfe", "tolerance_change": 1e-14}
    x, optimizer, closure = made(history_size=history, **options)
    for _ in range(8):
        optimizer.step(closure)
    np.testing.assert_allclose(x.data, 1, atol=1e-6)
    assert optimizer.state[x]["func_evals"] < 200


def test_a_quadratic_takes_as_many_moves_as_dimensions() -> None:
    """With exact curvature the search is a conjugate gradient method."""
    a = np.diag([1.0, 10.0, 100.0])
    x = Tensor(np.ones(3), requires_grad=True)
    optimizer = optim.LBFGS([x], line_search_fn="strong_wolfe", max_iter=30, max_eval=100)
    optimizer.step(closure_of(optimizer, lambda: 0.5 * x @ (Tensor(a) @ x)))
    np.testing.assert_allclose(x.data, 0, atol=1e-6)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_what_a_step_gives_and_when_it_ends(search: str | None) -> None:
    x, optimizer, closure = made(line_search_fn=search, lr=0.001, max_iter=3, max_eval=40)
    before = rosenbrock(x).item()
    assert optimizer.step(closure).item() == before
    assert optimizer.state[x]["n_iter"] == 3
    assert rosenbrock(x).item() < before
    evaluations = optimizer.state[x]["func_evals"]
    assert evaluations == 3 if search is None else evaluations >= 4
    at_rest = Tensor(np.ones(4), requires_grad=True)
    other = optim.LBFGS([at_rest])
    other.step(closure_of(other, lambda: rosenbrock(at_rest)))
    assert other.state[at_rest] == {"func_evals": 1, "n_iter": 0}


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_it_goes_on_from_its_state(tmp_path: Path, search: str | None) -> None:
    options = {"line_search_fn": search, "lr": 0.001 if search is None else 1.0, "max_iter": 4}
    x, optimizer, closure = made(**options)
    optimizer.step(closure)
    state, where = copy.deepcopy(optimizer.state_dict()), x.data.copy()
    path = tmp_path / "run.npz"
    tk.save(path, optimizer=optimizer)
    once = [optimizer.step(closure).item() for _ in range(3)]
    for how in ("dict", "file", "pickle"):
        y, resumed, again = made(**options)
        if how == "dict":
            resumed.load_state_dict(pickle.loads(pickle.dumps(state)))
        elif how == "file":
            tk.load(path, optimizer=resumed)
        else:
            resumed._memory = pickle.loads(pickle.dumps(optimizer)).state and state["state"][0]
        with tk.no_grad():
            y.copy_(where)
        assert [resumed.step(again).item() for _ in range(3)] == once, how


def test_several_parameters_of_one_net() -> None:
    tk.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    x = Tensor(np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]], np.float32))
    t = Tensor(np.array([[0.0], [1], [1], [0]], np.float32))
    optimizer = optim.LBFGS(net.parameters(), line_search_fn="strong_wolfe")
    closure = closure_of(optimizer, lambda: ((net(x) - t) ** 2).mean())
    losses = [optimizer.step(closure).item() for _ in range(4)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]
    assert all(p.dtype == np.float32 for p in net.parameters())


def test_the_closure_may_be_compiled_but_not_the_step() -> None:
    ends = []
    for compiled in (False, True):
        x = Tensor(START.copy(), requires_grad=True)
        options: dict[str, Any] = {"line_search_fn": "strong_wolfe", "tolerance_change": 1e-14}
        optimizer = optim.LBFGS([x], **options)

        def closure(x: Tensor = x, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = rosenbrock(x)
            loss.backward()
            return loss.detach()

        evaluate: Any = tk.compile(closure) if compiled else closure
        for _ in range(8):
            optimizer.step(evaluate)
        assert not compiled or evaluate.programs, evaluate.explain()
        ends.append(x.data)
    np.testing.assert_allclose(ends, 1, atol=1e-5)
    with pytest.raises(CaptureError, match=r"LBFGS\.step\(\) needs the elements"):
        tk.compile(lambda: optimizer.step(closure))()


def test_an_error_in_the_closure_leaves_the_parameters() -> None:
    x, optimizer, closure = made(line_search_fn="strong_wolfe")
    optimizer.step(closure)
    where, state, calls = x.data.copy(), optimizer.state_dict(), []

    def broken() -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return closure()

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(broken)
    np.testing.assert_array_equal(x.data, where)
    assert optimizer.state_dict()["state"][0]["n_iter"] == state["state"][0]["n_iter"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda x: optim.LBFGS([x], line_search_fn="armijo"),
            "'strong_wolfe' or None, got 'arm",
        ),
        (lambda x: optim.LBFGS([x], lr=-1), r"expected lr in \[0, inf\), got -1"),
        (lambda x: optim.LBFGS([{"params": [x]}, {"params": []}]), "one group of parameters"),
        (lambda x: optim.LBFGS([x]).step(), "expected a closure that computes the loss, got none"),
        (lambda x: optim.LBFGS([x]).load_state_dict({}), "expected the keys"),
    ],
)
def test_what_does_not_fit_is_refused(make: Callable[[Any], Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^LBFGS.*{message}"):
        make(Tensor(START, requires_grad=True))


@pytest.mark.parametrize(
    "change",
    [{"d": np.zeros(3)}, {"t": np.zeros(2)}, {"more": 1}, {"ro": ["a"]}, {"old_dirs": [np.eye(4)]}],
)
def test_a_state_that_does_not_fit_changes_nothing(change: dict[str, Any]) -> None:
    _, optimizer, closure = made(max_iter=3, lr=0.001)
    optimizer.step(closure)
    state = optimizer.state_dict()
    fresh = made()[1]
    with pytest.raises(ValueError, match=r"^LBFGS\.load_state_dict: expected"):
        fresh.load_state_dict(state | {"state": {0: state["state"][0] | change}})
    assert fresh.state == {}
