"""Learning rate schedules: closed forms, saved state, and what goes wrong."""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tinygrad_kr import Tensor, optim
from tinygrad_kr.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)


def optimizer_of(*rates: float, kind: Any = optim.SGD, **options: Any) -> Any:
    """An optimizer with a group for each rate, which may be stepped without gradients."""
    groups = [{"params": [Tensor([1.0], requires_grad=True)], "lr": lr} for lr in rates]
    optimizer = kind(groups, **options)
    optimizer._stepped = True
    return optimizer


def rates(scheduler: Any, steps: int) -> list[float]:
    """The first group's rate now and after each of `steps` steps."""
    seen = [scheduler.optimizer.param_groups[0]["lr"]]
    for _ in range(steps):
        scheduler.step()
        seen.append(scheduler.optimizer.param_groups[0]["lr"])
        assert scheduler.get_last_lr()[0] == seen[-1]
    return seen


def cosine(t: float, period: float, low: float, high: float) -> float:
    return low + (high - low) * (1 + math.cos(math.pi * t / period)) / 2


CLOSED_FORMS: dict[str, tuple[Callable[[Any], Any], Callable[[int], float]]] = {
    "step": (lambda o: StepLR(o, 4, 0.5), lambda t: 0.8 * 0.5 ** (t // 4)),
    "milestones": (
        lambda o: MultiStepLR(o, [9, 2, 9], 0.5),
        lambda t: 0.8 * 0.5 ** ((t >= 2) + 2 * (t >= 9)),
    ),
    "constant": (lambda o: ConstantLR(o, 0.25, 6), lambda t: 0.8 * (0.25 if t < 6 else 1)),
    "linear": (lambda o: LinearLR(o, 0.25, 0.75, 10), lambda t: 0.8 * (0.25 + min(t, 10) * 0.05)),
    "exponential": (lambda o: ExponentialLR(o, 0.9), lambda t: 0.8 * 0.9**t),
    "polynomial": (lambda o: PolynomialLR(o, 12, 2), lambda t: 0.8 * max(0, 1 - t / 12) ** 2),
    "cosine": (lambda o: CosineAnnealingLR(o, 7, 0.1), lambda t: cosine(t, 7, 0.1, 0.8)),
    "restarts": (
        lambda o: CosineAnnealingWarmRestarts(o, 5, eta_min=0.1),
        lambda t: cosine(t % 5, 5, 0.1, 0.8),
    ),
    "longer restarts": (
        lambda o: CosineAnnealingWarmRestarts(o, 4, 2),
        lambda t: (
            cosine(t, 4, 0, 0.8)
            if t < 4
            else cosine((t - 4) % 8, 8, 0, 0.8)
            if t < 12
            else cosine(t - 12, 16, 0, 0.8)
        ),
    ),
    "lambda": (lambda o: LambdaLR(o, lambda t: 1 / (1 + t)), lambda t: 0.8 / (1 + t)),
    "sequence": (
        lambda o: SequentialLR(o, [LinearLR(o, 0.5, 1, 4), ExponentialLR(o, 0.9)], [4]),
        lambda t: 0.8 * (0.5 + t / 8) if t < 4 else 0.8 * 0.9 ** (t - 4),
    ),
    "sequence in a sequence": (
        lambda o: SequentialLR(
            o,
            [
                ConstantLR(o, 0.5, 100),
                SequentialLR(o, [StepLR(o, 2, 0.5), ExponentialLR(o, 0.9)], [5]),
                SequentialLR(o, [StepLR(o, 2, 0.5), ExponentialLR(o, 0.9)], [5]),
            ],
            [3, 12],
        ),
        lambda t: (
            0.4
            if t < 3
            else 0.8 * (0.5 ** ((t - 3) % 9 // 2) if (t - 3) % 9 < 5 else 0.9 ** ((t - 3) % 9 - 5))
        ),
    ),
    "a sequence first": (
        lambda o: SequentialLR(
            o,
            [SequentialLR(o, [LinearLR(o, 0.5, 1, 4), StepLR(o, 3)], [4]), ExponentialLR(o, 0.9)],
            [9],
        ),
        lambda t: (
            0.8 * (0.5 + t / 8 if t < 4 else 0.1 ** ((t - 4) // 3) if t < 9 else 0.9 ** (t - 9))
        ),
    ),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_form(name: str) -> None:
    make, formula = CLOSED_FORMS[name]
    steps = 12 if name == "polynomial" else 20
    expected = [formula(t) for t in range(steps + 1)]
    assert rates(make(optimizer_of(0.8)), steps) == pytest.approx(expected, rel=1e-10, abs=1e-14)


def test_one_cycle() -> None:
    optimizer = optimizer_of(1.0, momentum=0.5)
    scheduler = OneCycleLR(optimizer, 2.0, total_steps=11, pct_start=0.4, div_factor=4)
    assert optimizer.param_groups[0]["momentum"] == 0.95
    seen = rates(scheduler, 10)
    assert seen[0] == pytest.approx(0.5)
    assert max(seen) <= 2.0
    assert seen.index(max(seen)) in (3, 4)
    assert seen[10] == pytest.approx(0.5 / 1e4)
    assert optimizer.param_groups[0]["momentum"] == pytest.approx(0.95)
    scheduler.step()
    with pytest.raises(ValueError, match=r"OneCycleLR: expected at most 11 steps, got step 12\."):
        scheduler.step()


def test_one_cycle_whose_rise_has_no_length() -> None:
    scheduler = OneCycleLR(optimizer_of(1.0, momentum=0.5), 2.0, total_steps=10, pct_start=0.1)
    assert rates(scheduler, 9)[0] == pytest.approx(2.0)


def test_every_group_has_its_own_rate() -> None:
    optimizer = optimizer_of(0.8, 0.1)
    scheduler = LambdaLR(optimizer, [lambda t: 0.5**t, lambda t: 1 + t])
    scheduler.step()
    assert scheduler.get_last_lr() == [0.4, 0.2]
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.8, 0.1]


def test_two_schedules_on_one_optimizer() -> None:
    optimizer = optimizer_of(1.0)
    first, second = ExponentialLR(optimizer, 0.5), StepLR(optimizer, 2, 0.1)
    for _ in range(4):
        first.step()
        second.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5**4 * 0.1**2)


def test_what_get_last_lr_gives_is_a_copy() -> None:
    scheduler = ExponentialLR(optimizer_of(1.0), 0.5)
    scheduler.get_last_lr()[0] = 7.0
    assert scheduler.get_last_lr() == [1.0]


def test_plateau() -> None:
    optimizer = optimizer_of(1.0)
    scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=1, cooldown=1, min_lr=0.2)
    seen = []
    for metric in (5.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0):
        scheduler.step(Tensor(metric))
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2, 0.2]
    assert scheduler.best == 3.0


# ------------------------------------------------------------------ state

STATEFUL: dict[str, Callable[[Any], Any]] = {name: make for name, (make, _) in CLOSED_FORMS.items()}
STATEFUL["one cycle"] = lambda o: OneCycleLR(o, 2.0, total_steps=40, three_phase=True)


@pytest.mark.parametrize("make", STATEFUL.values(), ids=STATEFUL)
def test_goes_on_from_its_state(make: Callable[[Any], Any]) -> None:
    optimizer = optimizer_of(0.8, momentum=0.9)
    scheduler = make(optimizer)
    rates(scheduler, 7)
    saved = json.loads(json.dumps(scheduler.state_dict(), allow_nan=False))
    groups = json.loads(json.dumps(optimizer.state_dict(), allow_nan=False))
    resumed = make(optimizer_of(5.0, momentum=0.1))
    resumed.load_state_dict(saved)
    resumed.optimizer.load_state_dict(groups)
    assert rates(resumed, 12) == rates(scheduler, 12)
    assert resumed.state_dict() == scheduler.state_dict()


def test_plateau_goes_on_from_its_state() -> None:
    scheduler = ReduceLROnPlateau(optimizer_of(1.0), patience=1)
    json.dumps(scheduler.state_dict(), allow_nan=False)
    for metric in (3.0, 3.0):
        scheduler.step(metric)
    resumed = ReduceLROnPlateau(optimizer_of(1.0), patience=50)
    resumed.load_state_dict(json.loads(json.dumps(scheduler.state_dict())))
    resumed.step(3.0)
    assert resumed.get_last_lr() == [0.1]


def test_a_state_dict_is_a_copy() -> None:
    scheduler = MultiStepLR(optimizer_of(1.0), [3, 5])
    saved = scheduler.state_dict()
    kept = copy.deepcopy(saved)
    rates(scheduler, 4)
    assert saved == kept
    saved["milestones"].append(4)
    assert scheduler.milestones == [3, 5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("gamma"), r"state lacks \['gamma'\] and has the unexpected nothing\."),
        (lambda s: s.update(T_max=3), r"lacks nothing and has the unexpected \['T_max'\]\."),
        (lambda s: s.update(_last_lr=[1.0, 2.0]), r"a state of 1 parameter groups, got 2\."),
    ],
)
def test_a_wrong_state_dict_changes_nothing(change: Any, message: str) -> None:
    scheduler = StepLR(optimizer_of(1.0), 3)
    before = scheduler.state_dict()
    wrong = {**before, "last_epoch": 17}
    change(wrong)
    with pytest.raises(ValueError, match=message):
        scheduler.load_state_dict(wrong)
    assert scheduler.state_dict() == before


def test_a_wrong_part_of_a_sequence_changes_nothing() -> None:
    optimizer = optimizer_of(1.0)
    scheduler = SequentialLR(optimizer, [StepLR(optimizer, 3), ExponentialLR(optimizer, 0.9)], [4])
    before = copy.deepcopy(scheduler.state_dict())
    wrong = copy.deepcopy(before)
    wrong["_schedulers"][0]["last_epoch"] = 17
    del wrong["_schedulers"][1]["gamma"]
    with pytest.raises(ValueError, match=r"lacks \['gamma'\] and has the unexpected nothing\."):
        scheduler.load_state_dict(wrong)
    assert scheduler.state_dict() == before
    wrong["_schedulers"].pop()
    with pytest.raises(ValueError, match=r"expected 2 schedules, got 1\."):
        scheduler.load_state_dict(wrong)


def test_going_on_at_an_epoch() -> None:
    optimizer = optimizer_of(0.4)
    with pytest.raises(KeyError, match=r"in group 0 to continue at epoch 4, got none\."):
        StepLR(optimizer, 3, last_epoch=4)
    optimizer.param_groups[0]["initial_lr"] = 0.8
    scheduler = CosineAnnealingLR(optimizer, 10, last_epoch=4)
    assert scheduler.last_epoch == 5
    optimizer.param_groups[0]["lr"] = cosine(5, 10, 0, 0.8)
    scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([cosine(6, 10, 0, 0.8)])


# ------------------------------------------------------------------ what goes wrong


def test_a_step_before_the_optimizers_warns_once() -> None:
    x = Tensor([1.0], requires_grad=True)
    optimizer = optim.SGD([x], lr=1.0)
    scheduler = ExponentialLR(optimizer, 0.5)
    with pytest.warns(
        UserWarning, match=r"ExponentialLR.step\(\) before optimizer.step\(\)"
    ) as seen:
        scheduler.step()
    assert seen[0].filename == __file__
    scheduler.step()


def test_no_warning_in_the_right_order() -> None:
    x = Tensor([1.0], requires_grad=True)
    optimizer = optim.SGD([x], lr=1.0)
    scheduler = CosineAnnealingWarmRestarts(optimizer, 5)
    for _ in range(3):
        optimizer.zero_grad()
        x.sum().backward()
        optimizer.step()
        scheduler.step()
    assert x.data.tolist() == pytest.approx([1 - sum(cosine(t, 5, 0, 1) for t in range(3))])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: StepLR(o, 0), r"^StepLR: expected an integer step_size >= 1, got 0\."),
        (lambda o: StepLR(o, 2.5), r"expected an integer step_size >= 1, got 2\.5\."),
        (lambda o: CosineAnnealingLR(o, 0), r"expected an integer T_max >= 1, got 0\."),
        (lambda o: CosineAnnealingWarmRestarts(o, 0), r"expected an integer T_0 >= 1, got 0\."),
        (lambda o: CosineAnnealingWarmRestarts(o, 5, 0), r"an integer T_mult >= 1, got 0\."),
        (lambda o: CosineAnnealingWarmRestarts(o, 5).step(-1), r"expected epoch >= 0, got -1\."),
        (lambda o: ConstantLR(o, 1.5), r"ConstantLR: expected factor in \(0, 1\], got 1\.5\."),
        (lambda o: LinearLR(o, 0), r"LinearLR: expected start_factor in \(0, 1\], got 0\."),
        (lambda o: LinearLR(o, end_factor=2), r"expected end_factor in \[0, 1\], got 2\."),
        (lambda o: LinearLR(o, total_iters=0), r"expected an integer total_iters >= 1, got 0\."),
        (lambda o: PolynomialLR(o, 0), r"expected an integer total_iters >= 1, got 0\."),
        (lambda o: LambdaLR(o, [len, len]), r"1 values of lr_lambda, one per group, got 2\."),
        (lambda o: OneCycleLR(o, 1.0), "total_steps, or epochs and steps_per_epoch"),
        (lambda o: OneCycleLR(o, 1.0, total_steps=-4), r"an integer total_steps >= 1, got -4\."),
        (lambda o: OneCycleLR(o, 1.0, epochs=0, steps_per_epoch=3), r"epochs >= 1, got 0\."),
        (lambda o: OneCycleLR(o, 1.0, 10, pct_start=1.5), r"pct_start in \[0, 1\], got 1\.5\."),
        (lambda o: OneCycleLR(o, 1.0, 10, anneal_strategy="up"), r"or 'linear', got 'up'\."),
        (lambda o: OneCycleLR(o, [1.0, 2.0], 10), r"1 values of max_lr, one per group, got 2\."),
        (lambda o: SequentialLR(o, [], []), "0 schedules"),
        (
            lambda o: SequentialLR(o, [StepLR(o, 1)], [3]),
            r"SequentialLR: expected 0 milestones for 1 schedules, got 1\.",
        ),
        (
            lambda o: SequentialLR(o, [StepLR(o, 1), ReduceLROnPlateau(o)], [3]),
            r"SequentialLR: expected an LRScheduler for schedule 1, got ReduceLROnPlateau\.",
        ),
        (
            lambda o: SequentialLR(o, [StepLR(o, 1), StepLR(optimizer_of(1.0), 1)], [3]),
            r"SequentialLR: expected schedules of one optimizer, got another for 1\.",
        ),
        (lambda o: ReduceLROnPlateau(o, factor=1.0), r"expected factor in \(0, 1\), got 1\.0\."),
        (lambda o: ReduceLROnPlateau(o, mode="low"), r"mode 'min' or 'max', got 'low'\."),
        (lambda o: ReduceLROnPlateau(o, threshold_mode="x"), r"'rel' or 'abs', got 'x'\."),
        (lambda o: ReduceLROnPlateau(o, min_lr=[0.1, 0.1]), r"of min_lr, one per group, got 2\."),
    ],
)
def test_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(optimizer_of(1.0, momentum=0.5))


@pytest.mark.parametrize(
    "make", [lambda o: StepLR(o, 1), ReduceLROnPlateau, lambda o: SequentialLR(o, [], [])]
)
def test_a_schedule_needs_an_optimizer(make: Any) -> None:
    with pytest.raises(
        TypeError,
        match=r"^(StepLR|ReduceLROnPlateau|SequentialLR): expected an Optimizer, got list\.",
    ):
        make([1.0])


def test_one_cycle_without_momentum() -> None:
    optimizer = optimizer_of(1.0, kind=optim.Adagrad)
    with pytest.raises(ValueError, match=r"expected an optimizer with momentum, got Adagrad\."):
        OneCycleLR(optimizer, 1.0, total_steps=5)
    assert "max_lr" not in optimizer.param_groups[0]
    OneCycleLR(optimizer, 1.0, total_steps=5, cycle_momentum=False)


def test_a_group_added_after_the_schedule() -> None:
    optimizer = optimizer_of(1.0)
    schedulers = StepLR(optimizer, 3), ReduceLROnPlateau(optimizer, min_lr=[0.1])
    optimizer.add_param_group({"params": [Tensor([1.0], requires_grad=True)]})
    with pytest.raises(ValueError, match=r"StepLR\.step: expected 1 parameter groups, got 2\."):
        schedulers[0].step()
    with pytest.raises(ValueError, match=r"expected 2 values of min_lr, one per group, got 1\."):
        for _ in range(20):
            schedulers[1].step(1.0)


def test_the_rates_are_used() -> None:
    x = Tensor(np.zeros(1), requires_grad=True)
    optimizer = optim.SGD([x], lr=1.0)
    scheduler = MultiStepLR(optimizer, [1, 2], 0.5)
    moves = []
    for _ in range(3):
        x.grad = Tensor(np.ones(1))
        before = x.item()
        optimizer.step()
        scheduler.step()
        moves.append(before - x.item())
    assert moves == [1.0, 0.5, 0.25]


class EveryOther(LRScheduler):
    """0 in odd epochs."""

    def next_lr(self, lr: float, base: float) -> float:
        return base * (1 - self.last_epoch % 2)


def test_a_schedule_of_ones_own() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rates(EveryOther(optimizer_of(0.5)), 3) == [0.5, 0, 0.5, 0]
