"""Averaged weights: SWA and EMA, their batch norms, their learning rate, their state."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn, optim
from tinygrad_kr.optim.swa_utils import (
    SWALR,
    AveragedModel,
    get_ema_avg_fn,
    get_ema_multi_avg_fn,
    get_swa_multi_avg_fn,
    update_bn,
)

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.standard_normal((12, 3)).astype(np.float32)


def net(seed: int = 0) -> nn.Sequential:
    tk.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def stepped(model: nn.Module, optimizer: Any, x: Any) -> None:
    optimizer.zero_grad()
    (model(x) ** 2).mean().backward()
    optimizer.step()


def weights_over(steps: int, averaged: list[AveragedModel]) -> list[dict[str, Any]]:
    """The states of a net after each step, all of which the averages were given."""
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    states = []
    for i in range(steps):
        stepped(model, optimizer, Tensor(INPUTS[i % 3 :: 3]))
        for one in averaged:
            one.update_parameters(model)
        states.append({key: np.array(value) for key, value in model.state_dict().items()})
    return states


def test_means_and_exponential_averages() -> None:
    plain, ema = AveragedModel(net(1)), AveragedModel(net(1), avg_fn=get_ema_avg_fn(0.75))
    states = weights_over(5, [plain, ema])
    for key in ("0.weight", "0.bias", "1.weight", "3.weight"):
        each = [state[key] for state in states]
        found = plain.state_dict()[f"module.{key}"]
        np.testing.assert_allclose(found, np.mean(each, 0), rtol=1e-5, atol=1e-6)
        expected = each[0]
        for value in each[1:]:
            expected = 0.75 * expected + 0.25 * value
        np.testing.assert_allclose(ema.state_dict()[f"module.{key}"], expected, rtol=1e-5)
    last = states[-1]
    np.testing.assert_array_equal(plain.module[1].running_mean.data, last["1.running_mean"])
    assert plain.n_averaged.item() == 5 and plain.module[1].num_batches_tracked.item() == 5


@pytest.mark.parametrize("use_buffers", [False, True])
def test_functions_of_lists_give_the_same(use_buffers: bool) -> None:
    made = [
        AveragedModel(net(), use_buffers=use_buffers, **functions)
        for functions in (
            {},
            {"multi_avg_fn": get_swa_multi_avg_fn()},
            {"avg_fn": get_ema_avg_fn(0.9)},
            {"multi_avg_fn": get_ema_multi_avg_fn(0.9)},
        )
    ]
    weights_over(4, made)
    for one, other in (made[:2], made[2:]):
        for key, value in one.state_dict().items():
            np.testing.assert_array_equal(value, other.state_dict()[key])
    assert not np.array_equal(made[0].module[0].weight.data, made[2].module[0].weight.data)


def test_buffers_are_averaged_if_asked() -> None:
    averaged = AveragedModel(net(), use_buffers=True)
    states = weights_over(4, [averaged])
    expected = np.mean([state["1.running_mean"] for state in states], 0)
    np.testing.assert_allclose(averaged.module[1].running_mean.data, expected, rtol=1e-5)


def test_it_is_a_copy_without_gradients() -> None:
    model = net()
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    before = copy.deepcopy(averaged.state_dict())
    stepped(model, optim.SGD(model.parameters(), lr=0.5), Tensor(INPUTS))
    for key, value in averaged.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
    averaged.update_parameters(model)
    assert all(p.grad is None and p.is_leaf for p in averaged.parameters())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^AveragedModel: expected avg_fn or multi_avg_fn, got"):
        AveragedModel(net(), avg_fn=max, multi_avg_fn=max)
    averaged = AveragedModel(net())
    with pytest.raises(ValueError, match=r"^AveragedModel\.update_parameters: expected a net with"):
        averaged.update_parameters(nn.Linear(3, 4))
    assert averaged.n_averaged.item() == 0
    for make in (get_ema_avg_fn, get_ema_multi_avg_fn):
        with pytest.raises(ValueError, match=r"_avg_fn: expected decay in \[0, 1\], got 1\.5\."):
            make(1.5)


@pytest.mark.parametrize("averages", [{}, {"avg_fn": get_ema_avg_fn(0.8)}], ids=["swa", "ema"])
def test_a_saved_run_goes_on(tmp_path: Path, averages: dict[str, Any]) -> None:
    def run(saved: bool) -> dict[str, Any]:
        model, averaged = net(), AveragedModel(net(), **averages)
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        for i in range(6):
            stepped(model, optimizer, Tensor(INPUTS[i % 3 :: 3]))
            averaged.update_parameters(model)
            if saved and i == 2:
                tk.save(tmp_path / "model.npz", model=model, optimizer=optimizer)
                tk.save(tmp_path / "average.npz", model=averaged)
                model, averaged = net(5), AveragedModel(net(6), **averages)
                optimizer = optim.Adam(model.parameters(), lr=0.1)
                tk.load(tmp_path / "model.npz", model=model, optimizer=optimizer)
                tk.load(tmp_path / "average.npz", model=averaged)
        return dict(averaged.state_dict())

    once, again = run(False), run(True)
    for key, value in once.items():
        np.testing.assert_array_equal(value, again[key])


def test_in_a_compiled_step_it_runs_as_written() -> None:
    results = []
    for wrap in (lambda f: f, tk.compile):
        model = net()
        averaged = AveragedModel(model)
        optimizer = optim.SGD(model.parameters(), lr=0.5)

        def step(x: Any, model: Any = model, optimizer: Any = optimizer, a: Any = averaged) -> None:
            stepped(model, optimizer, x)
            a.update_parameters(model)

        run = wrap(step)
        for i in range(5):
            run(Tensor(INPUTS[i % 3 :: 3]))
        results.append(averaged.state_dict())
    for key, value in results[0].items():
        np.testing.assert_allclose(value, results[1][key], rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------ batch norms


def test_batch_norms_get_the_statistics_of_all_batches() -> None:
    model = net().eval()
    model[2].train()
    norm: Any = model[1]
    batches = np.split(INPUTS, 4)
    update_bn([(Tensor(x), None) for x in batches], model)
    hidden = [model[0](Tensor(x)).data for x in batches]
    np.testing.assert_allclose(
        norm.running_mean.data, np.mean(np.concatenate(hidden), 0), rtol=1e-4
    )
    spread = np.mean([h.var(0, ddof=1) for h in hidden], 0)
    np.testing.assert_allclose(norm.running_var.data, spread, rtol=1e-4)
    assert norm.momentum == 0.1 and norm.num_batches_tracked.item() == 4
    assert [m.training for m in model] == [False, False, True, False] and not model.training


def test_a_broken_batch_leaves_the_modes() -> None:
    model = net().eval()
    with pytest.raises(ValueError, match="expected"):
        update_bn([Tensor(INPUTS[:, :2])], model)
    assert not model.training and model[1].momentum == 0.1
    update_bn([], nn.Linear(1, 1))


# ------------------------------------------------------------------ learning rate


def rate_after(schedule: Any, steps: int) -> list[float]:
    rates = []
    schedule.optimizer._stepped = True
    for _ in range(steps):
        rates.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.step()
    return rates


def sgd(lr: float = 1.0) -> optim.SGD:
    return optim.SGD([tk.tensor([1.0], requires_grad=True)], lr=lr)


def test_rates() -> None:
    assert rate_after(SWALR(sgd(), 0.5, 2), 4) == [1.0, 0.75, 0.5, 0.5]
    assert rate_after(SWALR(sgd(), 0.5, 4, "linear"), 6) == [1.0, 0.875, 0.75, 0.625, 0.5, 0.5]
    assert rate_after(SWALR(sgd(), 0.5, 0), 3) == [0.5, 0.5, 0.5]


def test_a_rate_set_by_hand_is_on_the_curve_from_then_on() -> None:
    schedule = SWALR(sgd(), 0.5, 4, "linear")
    rate_after(schedule, 2)
    schedule.optimizer.param_groups[0]["lr"] = 1.0
    assert rate_after(schedule, 4) == pytest.approx([1.0, 0.75, 0.5, 0.5])


@pytest.mark.parametrize("steps", [0, 1, 3, 7])
@pytest.mark.parametrize("strategy", ["cos", "linear"])
def test_the_schedule_goes_on_from_its_state(steps: int, strategy: str) -> None:
    schedule = SWALR(sgd(0.8), 0.1, 5, strategy)
    rate_after(schedule, steps)
    resumed = SWALR(sgd(3.0), 0.7, 5, strategy)
    resumed.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    resumed.optimizer.load_state_dict(json.loads(json.dumps(schedule.optimizer.state_dict())))
    assert rate_after(resumed, 6) == rate_after(schedule, 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"swa_lr": [0.1, 0.2]}, r"^SWALR: expected 1 values of swa_lr, one per group, got 2\."),
        ({"swa_lr": 0.1, "anneal_strategy": "up"}, r"^SWALR: expected .* 'linear', got 'up'\."),
        ({"swa_lr": 0.1, "anneal_epochs": -1}, r"^SWALR: expected anneal_epochs >= 0, got -1\."),
        ({"swa_lr": 0.1, "anneal_epochs": 1.5}, r"^SWALR: expected an integer anneal_epochs"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SWALR(sgd(), **options)
