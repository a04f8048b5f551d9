"""Learning rate schedules: closed forms, saved state, and what goes wrong."""

from __future__ import annotations

import copy
import gc
import json
import math
import pickle
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor, optim
from tinygrad_kr.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
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
    expected = [formula(t) for t in range(21)]
    seen = rates(make(optimizer_of(0.8)), 20)
    assert seen == pytest.approx(expected, rel=1e-12, abs=1e-15)
    assert min(seen) >= 0


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


# ------------------------------------------------------------------ several on one optimizer

SCALING = [name for name in CLOSED_FORMS if name not in ("lambda", "restarts", "longer restarts")]


@pytest.mark.parametrize("first", SCALING)
@pytest.mark.parametrize("second", ["step", "constant", "linear", "exponential"])
def test_two_schedules_on_one_optimizer(first: str, second: str) -> None:
    """The rate is a function of both epochs, in whichever order the steps come."""
    optimizer = optimizer_of(0.8, momentum=0.5)
    (make_a, form_a), (make_b, form_b) = CLOSED_FORMS[first], CLOSED_FORMS[second]
    a, b = make_a(optimizer), make_b(optimizer)
    counts = [0, 0]
    for which in (0, 1, 1, 0, 0, 0, 1, 1, 1, 0, 1, 0, 0, 0, 1, 1, 0, 1, 0, 1):
        (a, b)[which].step()
        counts[which] += 1
        expected = form_a(counts[0]) * form_b(counts[1]) / 0.8
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-12)


def test_a_schedule_that_passes_through_0_keeps_the_change_of_another() -> None:
    optimizer = optimizer_of(1.0)
    wave, fall = CosineAnnealingLR(optimizer, 2), StepLR(optimizer, 2, 0.1)
    seen = []
    for _ in range(4):
        fall.step()
        wave.step()
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx([0.5, 0, 0.05, 0.01], rel=1e-12, abs=1e-17)


def test_a_rate_that_something_else_sets_is_gone_on_from() -> None:
    optimizer = optimizer_of(1.0, 0.5)
    fall, low = StepLR(optimizer, 2, 0.5), ConstantLR(optimizer, 0.25, 3)
    plateau = ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
    seen = []
    for metric in (1.0, 1.0, 1.0, 0.5):
        fall.step()
        low.step()
        plateau.step(metric)
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx([0.25, 0.25 * 0.5 * 0.1, 0.5 * 0.01, 0.25 * 0.01], rel=1e-12)
    optimizer.param_groups[1]["lr"] = 7.0
    fall.step()
    fall.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.00125, 3.5])


@pytest.mark.parametrize("kept", [True, False])
def test_a_second_schedule_goes_on_where_the_first_ended(kept: bool) -> None:
    optimizer = optimizer_of(1.0)
    first: Any = ExponentialLR(optimizer, 0.5)
    rates(first, 3)
    first = first if kept else None
    assert rates(StepLR(optimizer, 1, 0.1), 2) == pytest.approx([0.125, 0.0125, 0.00125])


@pytest.mark.parametrize("make", [lambda o: LinearLR(o, end_factor=0), lambda o: PolynomialLR(o)])
def test_a_new_rate_after_a_schedule_that_ended_at_0(make: Any) -> None:
    optimizer = optimizer_of(1.0)
    first = make(optimizer)
    assert rates(first, 7)[-1] == 0
    optimizer.param_groups[0]["lr"] = 0.5
    assert rates(ExponentialLR(optimizer, 0.5), 2) == [0.5, 0.25, 0.125]
    first.step()
    assert optimizer.param_groups[0]["lr"] == 0


def test_from_the_first_rate_alone() -> None:
    """As in PyTorch: these set the rate whatever was there before."""
    optimizer = optimizer_of(0.8)
    first = ExponentialLR(optimizer, 0.5)
    rates(first, 3)
    assert LambdaLR(optimizer, lambda t: 1 / (1 + t)).get_last_lr() == [0.8]
    rates(first, 1)
    assert CosineAnnealingWarmRestarts(optimizer, 4).get_last_lr() == [0.8]


def test_schedules_of_a_copied_optimizer() -> None:
    optimizer = optimizer_of(0.8)
    schedules = [ExponentialLR(optimizer, 0.5), StepLR(optimizer, 2, 0.1), LinearLR(optimizer)]
    rates(schedules[0], 3)
    copies = copy.deepcopy(schedules)
    for schedule in (*schedules, *copies):
        schedule.step()
    ours, theirs = (s[0].optimizer.param_groups[0]["lr"] for s in (schedules, copies))
    assert theirs == ours == pytest.approx(0.8 * 0.5**4 * (1 / 3 + 2 / 15))
    again = pickle.loads(pickle.dumps(schedules))
    rates(again[1], 1)
    assert again[1].get_last_lr() == pytest.approx([ours / 10])


def test_schedules_do_not_keep_an_optimizer_alive() -> None:
    optimizer = optimizer_of(0.8)
    schedules = [ExponentialLR(optimizer, 0.5), StepLR(optimizer, 2, 0.1)]
    schedules[0].step()
    gone = weakref.ref(optimizer)
    gc.disable()
    try:
        del optimizer, schedules
        assert gone() is None
    finally:
        gc.enable()


# ------------------------------------------------------------------ more


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


def test_a_cycle() -> None:
    """Exact at both ends, in every cycle, and never below 0."""
    optimizer = optimizer_of(0.8, momentum=0.9)
    schedule = CyclicLR(optimizer, 0.0, 0.3, 3, 7, base_momentum=0.5, max_momentum=0.75)
    seen = []
    for _ in range(60):
        seen.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
        schedule.step()
    assert seen[::10] == [(0.0, 0.75)] * 6 and seen[3::10] == [(0.3, 0.5)] * 6
    assert seen[:10] == seen[50:] and min(seen)[0] == 0.0
    assert seen[8][0] == pytest.approx(0.3 * 2 / 7)


def test_a_chain_in_a_sequence_is_refused() -> None:
    optimizer = optimizer_of(1.0)
    chained = ChainedScheduler([ExponentialLR(optimizer, 0.5)])
    with pytest.raises(ValueError, match=r"^SequentialLR: expected a schedule that starts anew"):
        SequentialLR(optimizer, [chained], [])


# ------------------------------------------------------------------ state

STATEFUL: dict[str, Callable[[Any], Any]] = {name: make for name, (make, _) in CLOSED_FORMS.items()}
STATEFUL["cyclic"] = lambda o: CyclicLR(o, 0.1, 0.5, 3, 2, "exp_range", 0.9)
STATEFUL["multiplicative"] = lambda o: MultiplicativeLR(o, lambda t: 1 / (1 + t % 3))
STATEFUL["chained"] = lambda o: ChainedScheduler([ConstantLR(o, 0.1, 4), CyclicLR(o, 0.1, 0.5, 3)])
STATEFUL["one cycle"] = lambda o: OneCycleLR(o, 2.0, total_steps=40, three_phase=True)


@pytest.mark.parametrize("make", STATEFUL.values(), ids=STATEFUL)
@pytest.mark.parametrize("steps", [0, 1, 3, 4, 5, 7, 9, 12, 25])
def test_goes_on_from_its_state(make: Callable[[Any], Any], steps: int) -> None:
    optimizer = optimizer_of(0.8, momentum=0.9)
    scheduler = make(optimizer)
    for _ in range(steps):
        scheduler.step()
    saved = json.loads(json.dumps(scheduler.state_dict(), allow_nan=False))
    groups = json.loads(json.dumps(optimizer.state_dict(), allow_nan=False))
    resumed = make(optimizer_of(5.0, momentum=0.1))
    resumed.load_state_dict(saved)
    resumed.optimizer.load_state_dict(groups)
    assert rates(resumed, 12) == rates(scheduler, 12)
    assert resumed.state_dict() == scheduler.state_dict()


def test_two_schedules_go_on_from_their_states() -> None:
    def made(lr: float) -> list[Any]:
        optimizer = optimizer_of(lr)
        return [CosineAnnealingLR(optimizer, 5, 0.01), StepLR(optimizer, 3), ConstantLR(optimizer)]

    def stepped(schedules: list[Any]) -> float:
        for schedule in schedules:
            schedule.step()
        return float(schedules[0].optimizer.param_groups[0]["lr"])

    schedules = made(0.7)
    for _ in range(9):
        states = json.loads(json.dumps([s.state_dict() for s in schedules]))
        groups = json.loads(json.dumps(schedules[0].optimizer.state_dict()))
        resumed = made(5.0)
        for schedule, state in zip(resumed, states, strict=True):
            schedule.load_state_dict(state)
        resumed[0].optimizer.load_state_dict(groups)
        went_on = [stepped(resumed) for _ in range(2)]
        copied = copy.deepcopy(schedules)
        assert went_on == [stepped(copied) for _ in range(2)]
        stepped(schedules)


FINISHED: dict[str, Callable[[Any], Any]] = {
    "one cycle": lambda o: OneCycleLR(o, 0.3, total_steps=10),
    "one cycle, linear": lambda o: OneCycleLR(o, 0.3, total_steps=10, anneal_strategy="linear"),
    "one cycle, three phases": lambda o: OneCycleLR(o, 0.3, total_steps=10, three_phase=True),
    "linear": lambda o: LinearLR(o, end_factor=0.0, total_iters=10),
    "linear, thirds": lambda o: LinearLR(o, 1 / 3, 1e-20, total_iters=7),
    "polynomial": lambda o: PolynomialLR(o, 10, 0.9),
    "cosine": lambda o: CosineAnnealingLR(o, 10),
    "cosine, odd": lambda o: CosineAnnealingLR(o, 3, 0.0),
}


@pytest.mark.parametrize("make", FINISHED.values(), ids=FINISHED)
def test_a_finished_schedule(make: Any) -> None:
    """Its rate is never below 0, its state loads, and the optimizer goes on."""
    x = Tensor([1.0], requires_grad=True)
    optimizer = optim.SGD([x], lr=0.1, momentum=0.9)
    schedule = make(optimizer)
    for _ in range(10):
        optimizer.zero_grad()
        x.sum().backward()
        optimizer.step()
        schedule.step()
    assert 0 <= optimizer.param_groups[0]["lr"] <= 0.1
    other = optim.SGD([x], lr=0.1, momentum=0.9)
    resumed = make(other)
    other.load_state_dict(json.loads(json.dumps(_plain_state(optimizer))))
    resumed.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    optimizer.zero_grad()
    x.sum().backward()
    other.step()


def _plain_state(optimizer: Any) -> Any:
    state = optimizer.state_dict()
    buffers = {i: {k: v.tolist() for k, v in s.items()} for i, s in state["state"].items()}
    return {**state, "state": buffers}


def test_one_cycle_stays_at_its_end() -> None:
    for strategy in ("cos", "linear"):
        optimizer = optimizer_of(1.0, momentum=0.5)
        schedule = OneCycleLR(optimizer, 2.0, total_steps=9, anneal_strategy=strategy)
        seen = rates(schedule, 9)
        assert seen[8] == seen[9] == 2.0 / 25 / 1e4


def test_numbers_of_numpy_are_saved_as_pythons() -> None:
    optimizer = optimizer_of(0.5)
    schedules: list[Any] = [
        StepLR(optimizer, np.int64(3), np.float32(0.5)),  # type: ignore[arg-type]
        MultiStepLR(optimizer, np.array([2, 5]), np.float64(0.5)),
        ReduceLROnPlateau(optimizer, min_lr=[np.float32(0.25)]),  # type: ignore[list-item]
    ]
    schedules[2].step(np.float32(1.5))
    for schedule in schedules:
        state = json.loads(json.dumps(schedule.state_dict()))
        schedule.load_state_dict(state)
        assert schedule.state_dict() == state


@pytest.mark.parametrize("count", [-1, 2.5, float("nan"), float("inf"), True, None, "3"])
@pytest.mark.parametrize("name", ["last_epoch", "_step_count"])
def test_a_count_that_is_none(name: str, count: Any) -> None:
    schedule = StepLR(optimizer_of(1.0), 3)
    before = schedule.state_dict()
    with pytest.raises(ValueError, match=rf"StepLR.load_state_dict: expected an integer {name}"):
        schedule.load_state_dict({**before, name: count})
    assert schedule.state_dict() == before


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
        (lambda s: s.pop("gamma"), r"others: missing \['gamma'\], unexpected nothing\. Load"),
        (lambda s: s.update(T_max=3), r"missing nothing, unexpected \['T_max'\]\."),
        (lambda s: s.update(_last_lr=[1.0, 2.0]), r"a state of 1 parameter groups, got 2\."),
        (lambda s: s.update(base_lrs=[]), r"a state of 1 parameter groups, got 0\."),
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
    with pytest.raises(ValueError, match=r"missing \['gamma'\], unexpected nothing\."):
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
        (lambda o: StepLR(o, 0), r"StepLR: expected an integer step_size >= 1, got 0\."),
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
        (lambda o: StepLR(o, 3, -0.5), r"StepLR: expected gamma >= 0, got -0\.5\."),
        (lambda o: MultiStepLR(o, [3], math.nan), r"MultiStepLR: expected gamma >= 0, got nan\."),
        (lambda o: ExponentialLR(o, -1), r"ExponentialLR: expected gamma >= 0, got -1\."),
        (lambda o: PolynomialLR(o, 3, -2), r"PolynomialLR: expected power >= 0, got -2\."),
        (lambda o: CosineAnnealingLR(o, 3, -0.1), r"expected eta_min >= 0, got -0\.1\."),
        (lambda o: CosineAnnealingWarmRestarts(o, 3, 1, -0.1), r"eta_min >= 0, got -0\.1\."),
        (lambda o: LambdaLR(o, [len, len]), r"1 values of lr_lambda, one per group, got 2\."),
        (lambda o: CyclicLR(o, 0.1, 1.0, mode="square"), r"or a scale_fn, got 'square'\."),
        (lambda o: CyclicLR(o, 0.1, 1.0, scale_mode="epoch"), r"'iterations', got 'epoch'\."),
        (lambda o: CyclicLR(o, [0.1, 0.2], 1.0), r"1 values of base_lr, one per group, got 2\."),
        (lambda o: ChainedScheduler([]), r"at least one schedule, got none\."),
        (lambda o: ChainedScheduler([ReduceLROnPlateau(o)]), "an LRScheduler for schedule 0"),
        (
            lambda o: ChainedScheduler([ExponentialLR(optimizer_of(1.0), 0.5)], o),
            "one optimizer, got another for 0",
        ),
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
    ("make", "name"),
    [
        (lambda o: StepLR(o, 1), "StepLR"),
        (ReduceLROnPlateau, "ReduceLROnPlateau"),
        (lambda o: SequentialLR(o, [], []), "SequentialLR"),
    ],
)
def test_a_schedule_needs_an_optimizer(make: Any, name: str) -> None:
    with pytest.raises(TypeError, match=rf"{name}: expected an Optimizer, got list\."):
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


@pytest.mark.parametrize(
    ("entry", "value"), [("step_size", 0), ("step_size", None), ("base_lrs", ["a"])]
)
def test_a_state_without_a_next_rate_is_refused(entry: str, value: Any) -> None:
    optimizer = optim.SGD([tk.ones(1, requires_grad=True)], lr=0.1)
    schedule = optim.lr_scheduler.StepLR(optimizer, 2)
    before = schedule.state_dict()
    with pytest.raises(ValueError, match=r"StepLR\.load_state_dict: expected a state from which"):
        schedule.load_state_dict({**before, entry: value})
    assert schedule.state_dict() == before


def test_a_schedule_that_resumes_starts_from_initial_lr() -> None:
    parameter = Tensor(np.ones(2), requires_grad=True)
    optimizer = optim.SGD([{"params": [parameter], "lr": 0.125, "initial_lr": 1.0}], lr=0.125)
    schedule = optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5, last_epoch=3)
    assert schedule.base_lrs == [1.0]
