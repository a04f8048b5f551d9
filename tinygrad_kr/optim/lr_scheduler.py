"""Learning rate schedules, with PyTorch's names.

Call `step()` after the optimizer's step: once per epoch, or per batch where a schedule says so.
A rate is a function of the epoch and of the first rate. Several schedules may act on one optimizer:
their factors multiply. A rate that something else sets (a `ReduceLROnPlateau`, an assignment to
`group["lr"]`) is where a schedule of factors goes on from, as in PyTorch.
"""

from __future__ import annotations

import math
import operator
import warnings
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from types import SimpleNamespace
from typing import Any, SupportsFloat

import numpy as np

from tinygrad_kr.changes import Change, make_all
from tinygrad_kr.files import refuse_torch_file
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.optim.optimizer import Optimizer

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]


def __dir__() -> list[str]:
    return __all__


class LRScheduler:
    """Base class of the schedules: sets the learning rate of every parameter group at each epoch.

    optimizer: its groups' current rates are the first rates lr_0.
    last_epoch: the epoch to continue from; -1 starts anew. Raises KeyError where a group has no
        `initial_lr` to continue from.

    A subclass defines `next_lr`, the rate of one group from its last and its first rate, or
    `get_lr`, the rates of all groups.

    Raises TypeError for an optimizer that is none.

    >>> class HalfLR(optim.lr_scheduler.LRScheduler):
    ...     def next_lr(self, lr, base):
    ...         return base if self.last_epoch == 0 else lr / 2
    >>> w = tk.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=0.1)
    >>> HalfLR(optimizer).get_last_lr()
    [0.1]
    """

    _unsaved: tuple[str, ...] = ("optimizer", "_place")
    _place = -1
    """The place among the schedules of one optimizer whose factors multiply; -1: not among them."""

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = _checked(self, optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"{type(self).__name__}: expected initial_lr in group {i} to continue at epoch "
                    f"{last_epoch}, got none. Load the optimizer's state first"
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch, self._step_count = last_epoch, 0
        self.step()

    def step(self) -> None:
        """Advance to the next epoch. Warns before the optimizer's first step.

        Raises ValueError where the optimizer has got a new parameter group.
        """
        self._count_step()
        self._take_rates()
        self._go_to(self.last_epoch + 1)
        self._set(self.get_lr())

    def _take_rates(self) -> None:
        """Before a step: go on from rates that something else has set, if this schedule does."""

    def _go_to(self, epoch: int) -> None:
        self.last_epoch = epoch

    def _scale(self) -> tuple[float, float] | None:
        """The factor and the lowest rate of a schedule that scales; None for any other."""
        return None

    def _count_step(self) -> None:
        if tracer := tracing():
            tracer.give_up(f"{type(self).__name__}.step(): call it outside, after the function")
        if self._step_count == 1 and not self.optimizer._stepped:
            warnings.warn(
                f"{type(self).__name__}.step() before optimizer.step() skips the schedule's first "
                "learning rate; call optimizer.step() first",
                stacklevel=3,
            )
        if len(self.base_lrs) != len(self.optimizer.param_groups):
            raise ValueError(
                f"{type(self).__name__}.step: expected {len(self.base_lrs)} parameter groups, got "
                f"{len(self.optimizer.param_groups)}. Make the schedule again"
            )
        self._step_count += 1

    def _set(self, rates: Sequence[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        self._last_lr = list(rates)

    def get_lr(self) -> list[float]:
        """The rates at `last_epoch`, one per group."""
        groups = self.optimizer.param_groups
        return [self.next_lr(g["lr"], base) for g, base in zip(groups, self.base_lrs, strict=True)]

    def next_lr(self, lr: float, base: float) -> float:
        """The rate of one group at `last_epoch`.

        lr: the rate of the epoch before. base: the first rate.
        """
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The rates set last, one per group."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """The state for `load_state_dict`: plain values that JSON can hold."""
        return {
            name: _plain(value)
            for name, value in self.__dict__.items()
            if name not in self._unsaved
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a `state_dict()`. The current rates are part of the optimizer's state.

        Raises ValueError that names the missing or unexpected entries; nothing is changed then.
        """
        make_all(self._loading(state_dict))

    def _loading(self, state_dict: Mapping[str, Any]) -> Iterator[Change]:
        """The change that loads a state, after all its checks."""
        return self._updating(self._tried_state(state_dict))

    def _updating(self, state: dict[str, Any]) -> Iterator[Change]:
        own = self.__dict__
        before = {name: own[name] for name in state}
        return iter([(partial(own.update, state), partial(own.update, before))])

    def _tried_state(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """A checked state from which the next rates follow; ValueError for any other."""
        state = self._checked_state(state_dict)
        trial: Any = object.__new__(type(self))  # known to no optimizer
        trial.__dict__.update({**vars(self), **state})
        groups = [dict(group) for group in self.optimizer.param_groups]
        trial.optimizer = SimpleNamespace(param_groups=groups)
        try:
            trial.last_epoch = max(1, trial.last_epoch)
            sum(trial._rates_alone())
        except NotImplementedError:
            pass  # a schedule of the user's, with a step of its own
        except Exception as error:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: expected a state from which the next "
                f"rates follow, got {type(error).__name__}: {error}."
            ) from error
        return state

    def _rates_alone(self) -> list[float]:
        """The rates that no other schedule has scaled."""
        return self.get_lr()

    def _checked_state(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        refuse_torch_file(f"{type(self).__name__}.load_state_dict", state_dict)
        names, given = set(self.state_dict()), set(state_dict)
        if names != given:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: expected its own entries, got others: "
                f"missing {sorted(names - given) or 'nothing'}, unexpected "
                f"{sorted(given - names) or 'nothing'}. Load it into the kind of schedule that was "
                "saved"
            )
        expected = len(self.optimizer.param_groups)
        for name in ("_last_lr", "base_lrs"):
            got = len(state_dict[name]) if name in state_dict else expected
            if got != expected:
                raise ValueError(
                    f"{type(self).__name__}.load_state_dict: expected a state of {expected} "
                    f"parameter groups, got {got}."
                )
        for name in ("last_epoch", "_step_count"):
            count = state_dict.get(name, 0)
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise ValueError(
                    f"{type(self).__name__}.load_state_dict: expected an integer {name} >= 0, got "
                    f"{count!r}."
                )
        return {name: _plain(value) for name, value in state_dict.items()}


def _plain(value: Any) -> Any:
    """A copy of a value in types that JSON holds: lists, and numbers of Python's."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _checked(schedule: object, optimizer: Any) -> Optimizer:
    if not isinstance(optimizer, Optimizer):
        name = type(schedule).__name__
        raise TypeError(f"{name}: expected an Optimizer, got {type(optimizer).__name__}.")
    return optimizer


def _positive(schedule: object, name: str, value: Any) -> int:
    try:
        count = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = 0
    if count < 1:
        raise ValueError(
            f"{type(schedule).__name__}: expected an integer {name} >= 1, got {value!r}."
        )
    return count


def _nonnegative(schedule: object, name: str, value: Any) -> float:
    number = float(value)
    if not 0 <= number < math.inf:
        raise ValueError(f"{type(schedule).__name__}: expected {name} >= 0, got {value!r}.")
    return number


def _one_each(schedule: object, optimizer: Optimizer, name: str, value: Any) -> list[Any]:
    """One value per group, from a list with one each or from one value for all."""
    groups = len(_checked(schedule, optimizer).param_groups)
    if not isinstance(value, list | tuple):
        return [value] * groups
    if len(value) != groups:
        raise ValueError(
            f"{type(schedule).__name__}: expected {groups} values of {name}, one per group, got "
            f"{len(value)}."
        )
    return list(value)


# ------------------------------------------------------------------ schedules that scale

_schedules: weakref.WeakKeyDictionary[Optimizer, weakref.WeakSet[LRScheduler]] = (
    weakref.WeakKeyDictionary()
)
"""The schedules of each optimizer that scale, or did."""


def _scaling(optimizer: Optimizer) -> list[LRScheduler]:
    """The schedules of an optimizer whose factors multiply, in the order in which they do."""
    groups = len(optimizer.param_groups)
    found = [
        schedule
        for schedule in _schedules.get(optimizer, ())
        if schedule._place >= 0 and len(schedule.base_lrs) == groups and schedule._scale()
    ]
    return sorted(found, key=operator.attrgetter("_place"))


def _enroll(schedule: LRScheduler) -> None:
    others = _schedules.setdefault(schedule.optimizer, weakref.WeakSet())
    others.add(schedule)
    if schedule._place < 0:
        schedule._place = 1 + max(other._place for other in others)


def _scaled_rates(schedules: Sequence[LRScheduler]) -> list[float]:
    """The rate of each group: the base rate, scaled by one schedule after another."""
    rates = [float(base) for base in schedules[0].base_lrs]
    for schedule in schedules:
        factor, lowest = schedule._scale() or (1.0, 0.0)
        rates = [_between(lowest, lr, factor) for lr in rates]
    return rates


def _follow(optimizer: Optimizer) -> list[LRScheduler]:
    """The schedules that scale, with base rates from which they give the rates now set."""
    schedules = _scaling(optimizer)
    rates = _scaled_rates(schedules) if schedules else []
    for i, expected in enumerate(rates):
        lr = float(optimizer.param_groups[i]["lr"])
        if lr == expected:
            continue
        for schedule in reversed(schedules):
            factor, lowest = schedule._scale() or (1.0, 0.0)
            base = lowest + (lr - lowest) / factor if factor else math.inf
            if base < math.inf:
                lr = max(base, 0.0)
            else:
                schedule._place = -1  # a factor of 0: out until its own next step
        for schedule in schedules:
            schedule.base_lrs[i] = lr
    return _scaling(optimizer)


def _between(low: float, high: float, part: float) -> float:
    """low + part (high - low), exact at both ends, and not below 0 where neither end is."""
    return float(high * part + low * (1 - part)) if low else float(high * part)


class _ScalingLR(LRScheduler):
    """lr_t = f(t) lr, with the rate lr before this schedule and a function f of the epoch.

    With a lowest rate `eta_min`: lr_t = eta_min + f(t) (lr - eta_min).
    """

    eta_min = 0.0

    def _factor(self, epoch: int) -> float:
        raise NotImplementedError

    def _scale(self) -> tuple[float, float] | None:
        return self._factor(self.last_epoch), self.eta_min

    def _take_rates(self) -> None:
        is_new = self._step_count == 1
        if not is_new:
            _enroll(self)
        others = _follow(self.optimizer)
        if is_new and self.last_epoch == -1:
            groups = self.optimizer.param_groups
            rates = others[0].base_lrs if others else [group["lr"] for group in groups]
            self.base_lrs = [float(lr) for lr in rates]
        _enroll(self)

    def get_lr(self) -> list[float]:
        """The rates at `last_epoch`, one per group."""
        return _scaled_rates(_scaling(self.optimizer))

    def _rates_alone(self) -> list[float]:
        return _scaled_rates([self])

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _schedules.setdefault(self.optimizer, weakref.WeakSet()).add(self)


# ------------------------------------------------------------------ by a factor


class LambdaLR(LRScheduler):
    """lr_t = lr_0 f(t), with any function f of the epoch t.

    lr_lambda: f, or a list with one function per group. Functions are not part of `state_dict()`.
    last_epoch: see `LRScheduler`.

    >>> w = tk.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=1.0)
    >>> scheduler = optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch))
    >>> w.sum().backward(); optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.5]
    """

    _unsaved = (*LRScheduler._unsaved, "lr_lambdas")

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas: list[Callable[[int], float]] = _one_each(
            self, optimizer, "lr_lambda", lr_lambda
        )
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """lr_0 f(t) of every group."""
        return [
            base * factor(self.last_epoch)
            for factor, base in zip(self.lr_lambdas, self.base_lrs, strict=True)
        ]


class MultiplicativeLR(LRScheduler):
    """lr_t = lr_(t-1) f(t), with any function f of the epoch t = 1, 2, ...

    lr_lambda: f, or a list with one function per group. Functions are not part of `state_dict()`.
    last_epoch: see `LRScheduler`.

    Raises ValueError for another number of functions than groups.

    >>> w = tk.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=1.0)
    >>> scheduler = optim.lr_scheduler.MultiplicativeLR(optimizer, lambda epoch: 0.5)
    >>> w.sum().backward(); optimizer.step()
    >>> scheduler.step(); scheduler.step()
    >>> scheduler.get_last_lr()
    [0.25]
    """

    _unsaved = (*LRScheduler._unsaved, "lr_lambdas", "_begins")

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas: list[Callable[[int], float]] = _one_each(
            self, optimizer, "lr_lambda", lr_lambda
        )
        self._begins = True
        super().__init__(optimizer, last_epoch)
        self._begins = False

    def get_lr(self) -> list[float]:
        """lr f(t) of every group; the rates as they are at the start."""
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        if self._begins or self.last_epoch == 0:
            return rates
        return [lr * f(self.last_epoch) for lr, f in zip(rates, self.lr_lambdas, strict=True)]


class StepLR(_ScalingLR):
    """lr <- gamma lr, every `step_size` epochs.

    step_size: epochs between two changes, at least 1. gamma: the factor, at least 0 (else
        ValueError). last_epoch: see `LRScheduler`.

    >>> w = tk.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=0.5)
    >>> scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    >>> w.sum().backward(); optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.25]
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size = _positive(self, "step_size", step_size)
        self.gamma = _nonnegative(self, "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch: int) -> float:
        return self.gamma ** (epoch // self.step_size)


class MultiStepLR(_ScalingLR):
    """lr <- gamma lr, at every milestone.

    milestones: epochs; one that is listed twice counts twice.
    gamma: the factor, at least 0 (else ValueError). last_epoch: see `LRScheduler`.

    >>> w = tk.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=0.5)
    >>> scheduler = optim.lr_scheduler.MultiStepLR(optimizer, milestones=[1, 20], gamma=0.5)
    >>> w.sum().backward(); optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones, self.gamma = sorted(milestones), _nonnegative(self, "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch: int) -> float:
        return self.gamma ** bisect_right(self.milestones, epoch)


class ConstantLR(_ScalingLR):
    """factor lr for the first `total_iters` epochs, then lr.

    factor: in (0, 1] (else ValueError). total_iters: in epochs. last_epoch: see `LRScheduler`.

    >>> w = tk.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=0.5)
    >>> optim.lr_scheduler.ConstantLR(optimizer, factor=0.5).get_last_lr()
    [0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < factor <= 1:
            raise ValueError(f"ConstantLR: expected factor in (0, 1], got {factor}.")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch: int) -> float:
        return self.factor if epoch < self.total_iters else 1.0


# ------------------------------------------------------------------ along a curve


class LinearLR(_ScalingLR):
    """A straight line from start_factor lr_0 to end_factor lr_0 in `total_iters` epochs: a warm-up.

    start_factor: in (0, 1]. end_factor: in [0, 1]. total_iters: at least 1.
    last_epoch: see `LRScheduler`.

    Raises ValueError for values out of range.

    >>> w = tk.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=1.0)
    >>> scheduler = optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> w.sum().backward(); optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.75]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(f"LinearLR: expected start_factor in (0, 1], got {start_factor}.")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"LinearLR: expected end_factor in [0, 1], got {end_factor}.")
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = _positive(self, "total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch: int) -> float:
        return _between(self.start_factor, self.end_factor, min(epoch / self.total_iters, 1.0))


class ExponentialLR(_ScalingLR):
    """lr <- gamma lr, every epoch.

    gamma: the factor, at least 0 (else ValueError). last_epoch: see `LRScheduler`.

    >>> w = tk.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=1.0)
    >>> scheduler = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    >>> w.sum().backward(); optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = _nonnegative(self, "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch: int) -> float:
        return self.gamma**epoch


class PolynomialLR(_ScalingLR):
    """lr_t = lr_0 (1 - t / total_iters)^power, and 0 from `total_iters` on.

    total_iters: at least 1. power: at least 0 (else ValueError); 1 is a straight line.
    last_epoch: see `LRScheduler`.

    >>> w = tk.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=1.0)
    >>> scheduler = optim.lr_scheduler.PolynomialLR(optimizer, total_iters=4)
    >>> w.sum().backward(); optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.75]
    """

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        self.total_iters = _positive(self, "total_iters", total_iters)
        self.power = _nonnegative(self, "power", power)
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch: int) -> float:
        return float((1 - min(epoch / self.total_iters, 1.0)) ** self.power)


class CosineAnnealingLR(_ScalingLR):
    """Half a cosine down, then up: lr_t = eta_min + (lr_0 - eta_min) (1 + cos(pi t / T_max)) / 2.

    T_max: epochs of half a period, at least 1. eta_min: the lowest rate, at least 0 (else
        ValueError).
    last_epoch: see `LRScheduler`.

    Source: Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts (2017),
    without restarts.

    >>> w = tk.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=1.0)
    >>> scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
    >>> w.sum().backward(); optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.5...]
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max = _positive(self, "T_max", T_max)
        self.eta_min = _nonnegative(self, "eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch: int) -> float:
        return _half_cosine(epoch, self.T_max)


def _half_cosine(t: float, period: float) -> float:
    """(1 + cos(pi t / period)) / 2: from 1 to 0 in one period."""
    return (1 + math.cos(math.pi * t / period)) / 2


class CosineAnnealingWarmRestarts(LRScheduler):
    """eta_min + (lr_0 - eta_min) (1 + cos(pi T_cur / T_i)) / 2, restarted every T_i epochs.

    T_0: the first T_i, at least 1. T_mult: the factor on T_i at every restart, at least 1.
    eta_min: the lowest rate, at least 0. last_epoch: see `LRScheduler`.

    Raises ValueError for a value out of range.
    Source: Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts (2017).

    >>> w = tk.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=1.0)
    >>> scheduler = optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2)
    >>> w.sum().backward(); optimizer.step()
    >>> scheduler.step(2.0)
    >>> scheduler.get_last_lr()
    [1.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self.T_0 = self.T_i = _positive(self, "T_0", T_0)
        self.T_mult = _positive(self, "T_mult", T_mult)
        self.eta_min = _nonnegative(self, "eta_min", eta_min)
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rates at T_cur on the curve, one per group."""
        part = _half_cosine(self.T_cur, self.T_i)
        return [_between(self.eta_min, base, part) for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Advance to the next epoch, or to a given one, which may be a fraction.

        Raises ValueError for epoch < 0.
        """
        if epoch is not None and not 0 <= epoch < math.inf:
            raise ValueError(f"CosineAnnealingWarmRestarts.step: expected epoch >= 0, got {epoch}.")
        self._count_step()
        self._go_to(self.last_epoch + 1 + self.T_cur % 1 if epoch is None else epoch)
        self._set(self.get_lr())

    def _go_to(self, epoch: float) -> None:
        self.last_epoch = math.floor(epoch)
        self.T_cur, self.T_i = epoch, self.T_0
        if self.T_mult == 1:
            self.T_cur %= self.T_i
        while self.T_cur >= self.T_i:
            self.T_cur -= self.T_i
            self.T_i *= self.T_mult


class OneCycleLR(LRScheduler):
    """Up from max_lr / div_factor to max_lr, then down to a fraction of the start. Step per batch.

    Momentum (or beta1) moves the other way: from max_momentum to base_momentum and back.

    max_lr: one rate, or one per group.
    total_steps: the number of steps; or give `epochs` and `steps_per_epoch`.
    pct_start: the share of the steps that go up, in [0, 1].
    anneal_strategy: "cos" or "linear".
    cycle_momentum: False leaves the momentum alone. base_momentum, max_momentum: its bounds.
    div_factor: the first rate is max_lr / div_factor.
    final_div_factor: the last rate is the first one / final_div_factor.
    three_phase: come down as steeply as up, then go on down to the end.
    last_epoch: see `LRScheduler`.

    Raises ValueError for options that do not fit, and on a step past the last.
    Source: Smith and Topin, Super-convergence: very fast training of neural networks using large
    learning rates (2018).

    >>> w = tk.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=0.1, momentum=0.9)
    >>> scheduler = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10)
    >>> scheduler.get_last_lr()
    [0.04...]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError(
                    "OneCycleLR: expected total_steps, or epochs and steps_per_epoch, got neither."
                )
            total_steps = _positive(self, "epochs", epochs) * _positive(
                self, "steps_per_epoch", steps_per_epoch
            )
        if not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: expected pct_start in [0, 1], got {pct_start}.")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"OneCycleLR: expected anneal_strategy 'cos' or 'linear', got {anneal_strategy!r}."
            )
        self.total_steps = _positive(self, "total_steps", total_steps)
        self.anneal_strategy, self.cycle_momentum = anneal_strategy, cycle_momentum
        self.phases = _phases(pct_start * total_steps, total_steps, three_phase)
        lrs = _one_each(self, optimizer, "max_lr", max_lr)
        highs = _one_each(self, optimizer, "max_momentum", max_momentum)
        lows = _one_each(self, optimizer, "base_momentum", base_momentum)
        if cycle_momentum:
            _refuse_without_momentum(self, optimizer)
        if last_epoch == -1:
            for group, lr, high, low in zip(optimizer.param_groups, lrs, highs, lows, strict=True):
                group["initial_lr"], group["max_lr"] = lr / div_factor, lr
                group["min_lr"] = group["initial_lr"] / final_div_factor
                if cycle_momentum:
                    group["max_momentum"], group["base_momentum"] = high, low
        super().__init__(optimizer, last_epoch)

    def _go_to(self, epoch: int) -> None:
        if epoch > self.total_steps:
            raise ValueError(
                f"OneCycleLR: expected at most {self.total_steps} steps, got step {epoch}."
            )
        super()._go_to(epoch)

    def get_lr(self) -> list[float]:
        """The rates of this step. Sets the momenta as well."""
        ends = [end for end, *_ in self.phases]
        last = len(ends) - 1
        index = next((i for i, end in enumerate(ends) if self.last_epoch <= end), last)
        start, end = ends[index - 1] if index else 0.0, ends[index]
        part = min((self.last_epoch - start) / (end - start), 1.0) if end != start else 1.0
        if self.anneal_strategy == "cos":
            part = 1 - _half_cosine(part, 1)
        names = self.phases[index][1:]
        rates = []
        for group in self.optimizer.param_groups:
            from_lr, to_lr, from_momentum, to_momentum = (group.get(n, 0.0) for n in names)
            rates.append(_between(from_lr, to_lr, part))
            if self.cycle_momentum:
                _set_momentum(group, _between(from_momentum, to_momentum, part))
        return rates


def _phases(up: float, total: int, three: bool) -> list[list[Any]]:
    """Of each phase: its last step, and the names of the rates and momenta at its two ends."""
    rise = [up - 1, "initial_lr", "max_lr", "max_momentum", "base_momentum"]
    if not three:
        return [rise, [total - 1, "max_lr", "min_lr", "base_momentum", "max_momentum"]]
    return [
        rise,
        [2 * up - 2, "max_lr", "initial_lr", "base_momentum", "max_momentum"],
        [total - 1, "initial_lr", "min_lr", "max_momentum", "max_momentum"],
    ]


class CyclicLR(LRScheduler):
    """Up from base_lr to max_lr and down again, over and over. Step per batch.

        lr = base_lr + (max_lr - base_lr) h s

    h goes from 0 to 1 in `step_size_up` steps and back to 0 in `step_size_down`. Momentum (or
    beta1) moves the other way: max_momentum - (max_momentum - base_momentum) h s.

    base_lr, max_lr: one rate, or one per group.
    step_size_up, step_size_down: steps, at least 1; None comes down as fast as up.
    mode: the scale s: "triangular" 1, "triangular2" 1/2^(c - 1) in cycle c = 1, 2, ...,
        "exp_range" gamma^t at step t.
    scale_fn, scale_mode: a function for s in place of `mode`, of c ("cycle") or t ("iterations").
        It is not part of `state_dict()`.
    cycle_momentum: False leaves the momentum alone. base_momentum, max_momentum: its bounds.
    last_epoch: see `LRScheduler`.

    Raises ValueError for options that do not fit.
    Source: Smith, Cyclical learning rates for training neural networks (2017).

    >>> w = tk.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=0.1, momentum=0.9)
    >>> scheduler = optim.lr_scheduler.CyclicLR(optimizer, 0.25, 0.75, step_size_up=2)
    >>> w.sum().backward(); optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.5]
    """

    _unsaved = (*LRScheduler._unsaved, "scale_fn")

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[int], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise ValueError(
                "CyclicLR: expected mode 'triangular', 'triangular2' or 'exp_range', or a "
                f"scale_fn, got {mode!r}."
            )
        if scale_mode not in ("cycle", "iterations"):
            raise ValueError(
                f"CyclicLR: expected scale_mode 'cycle' or 'iterations', got {scale_mode!r}."
            )
        self.step_size_up = _positive(self, "step_size_up", step_size_up)
        down = step_size_up if step_size_down is None else step_size_down
        self.step_size_down = _positive(self, "step_size_down", down)
        self.mode, self.gamma, self.scale_fn = mode, _nonnegative(self, "gamma", gamma), scale_fn
        self.scale_mode, self.cycle_momentum = scale_mode, cycle_momentum
        lows = _one_each(self, optimizer, "base_lr", base_lr)
        self.max_lrs = _one_each(self, optimizer, "max_lr", max_lr)
        self.base_momentums = _one_each(self, optimizer, "base_momentum", base_momentum)
        self.max_momentums = _one_each(self, optimizer, "max_momentum", max_momentum)
        if cycle_momentum:
            _refuse_without_momentum(self, optimizer)
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, lows, strict=True):
                group["lr"] = lr
        super().__init__(optimizer, last_epoch)
        self.base_lrs = lows
        self._set(self.get_lr())

    def _scale_at(self, cycle: int, step: int) -> float:
        if self.scale_fn is not None:
            return float(self.scale_fn(cycle if self.scale_mode == "cycle" else step))
        if self.mode == "exp_range":
            return float(self.gamma**step)
        return 0.5 ** (cycle - 1) if self.mode == "triangular2" else 1.0

    def get_lr(self) -> list[float]:
        """The rates of this step. Sets the momenta as well."""
        cycles, place = divmod(self.last_epoch, self.step_size_up + self.step_size_down)
        up, down = self.step_size_up, self.step_size_down
        height = place / up if place <= up else (up + down - place) / down
        height *= self._scale_at(1 + cycles, self.last_epoch)
        groups = self.optimizer.param_groups
        if self.cycle_momentum:
            bounds = zip(groups, self.max_momentums, self.base_momentums, strict=True)
            for group, high, low in bounds:
                _set_momentum(group, high - (high - low) * height)
        lows_and_highs = zip(self.base_lrs, self.max_lrs, strict=True)
        return [low + (high - low) * height for low, high in lows_and_highs]


def _refuse_without_momentum(schedule: object, optimizer: Optimizer) -> None:
    if not {"momentum", "betas"} & set(optimizer.defaults):
        raise ValueError(
            f"{type(schedule).__name__}: expected an optimizer with momentum, got "
            f"{type(optimizer).__name__}. Pass cycle_momentum=False"
        )


def _set_momentum(group: dict[str, Any], momentum: float) -> None:
    if "betas" in group:
        group["betas"] = (momentum, *group["betas"][1:])
    else:
        group["momentum"] = momentum


# ------------------------------------------------------------------ sequences and plateaus


class SequentialLR(_ScalingLR):
    """One schedule after another: `schedulers[i]` starts at epoch `milestones[i - 1]`.

    schedulers: `LRScheduler`s of the same optimizer. milestones: one less than the schedules.

    Raises ValueError for another number of milestones, a schedule of another optimizer, or a
    `ReduceLROnPlateau`.

    >>> w = tk.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=1.0)
    >>> warm_up = optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> decay = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    >>> optim.lr_scheduler.SequentialLR(optimizer, [warm_up, decay], milestones=[2]).get_last_lr()
    [0.5]
    """

    _unsaved = (*LRScheduler._unsaved, "_schedulers")

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
    ) -> None:
        _checked(self, optimizer)
        if len(milestones) != len(schedulers) - 1 or not schedulers:
            raise ValueError(
                f"SequentialLR: expected {len(schedulers) - 1} milestones for {len(schedulers)} "
                f"schedules, got {len(milestones)}."
            )
        _check_parts(self, schedulers, optimizer)
        for i, scheduler in enumerate(schedulers):
            if isinstance(scheduler, ChainedScheduler):
                raise ValueError(
                    f"SequentialLR: expected a schedule that starts anew for {i}, got a "
                    "ChainedScheduler."
                )
        self._schedulers, self.milestones = list(schedulers), list(milestones)
        for scheduler in schedulers:
            scheduler._place = -1
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        super().__init__(optimizer)

    def _active(self) -> LRScheduler:
        return self._schedulers[bisect_right(self.milestones, self.last_epoch)]

    def _scale(self) -> tuple[float, float] | None:
        return self._active()._scale()

    def _go_to(self, epoch: int) -> None:
        super()._go_to(epoch)
        index = bisect_right(self.milestones, epoch)
        active = self._schedulers[index]
        start = self.milestones[index - 1] if index else 0
        active._go_to(epoch - start)
        if epoch == start and active._scale() is None:
            for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
                group["lr"] = base

    def get_lr(self) -> list[float]:
        """The rates of the schedule whose turn it is, one per group."""
        active = self._active()
        active._set(super().get_lr() if active._scale() else active.get_lr())
        return active.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """The epoch, and the state of every schedule."""
        return super().state_dict() | {"_schedulers": [s.state_dict() for s in self._schedulers]}

    def _tried_state(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        return self._checked_state(state_dict)  # its parts try theirs

    def _loading(self, state_dict: Mapping[str, Any]) -> Iterator[Change]:
        state = self._checked_state(state_dict)
        return chain(_loading_parts(self, state.pop("_schedulers")), self._updating(state))


class ChainedScheduler(LRScheduler):
    """Several schedules at once: a step of this one is a step of each. Their factors multiply.

    schedulers: `LRScheduler`s of one optimizer. optimizer: that one, or None.

    Raises ValueError for no schedule, one of another optimizer, or a `ReduceLROnPlateau`.

    >>> w = tk.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=1.0)
    >>> warm_up = optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2)
    >>> decay = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    >>> scheduler = optim.lr_scheduler.ChainedScheduler([warm_up, decay])
    >>> w.sum().backward(); optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.25]
    """

    _unsaved = (*LRScheduler._unsaved, "_schedulers")

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        if not schedulers:
            raise ValueError("ChainedScheduler: expected at least one schedule, got none.")
        if optimizer is None:
            optimizer = getattr(schedulers[0], "optimizer", None)
        self.optimizer = _checked(self, optimizer)
        _check_parts(self, schedulers, self.optimizer)
        self._schedulers = list(schedulers)
        self._last_lr = [float(group["lr"]) for group in self.optimizer.param_groups]

    def step(self) -> None:
        """Advance every schedule to its next epoch. Warns and raises as they do."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = [float(group["lr"]) for group in self.optimizer.param_groups]

    def get_lr(self) -> list[float]:
        """The rates now set, one per group."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The last rates, and the state of every schedule."""
        return super().state_dict() | {"_schedulers": [s.state_dict() for s in self._schedulers]}

    def _tried_state(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        return self._checked_state(state_dict)  # its parts try theirs

    def _loading(self, state_dict: Mapping[str, Any]) -> Iterator[Change]:
        state = self._checked_state(state_dict)
        return chain(_loading_parts(self, state.pop("_schedulers")), self._updating(state))


def _check_parts(whole: object, schedulers: Sequence[Any], optimizer: Optimizer) -> None:
    name = type(whole).__name__
    for i, scheduler in enumerate(schedulers):
        if not isinstance(scheduler, LRScheduler):
            raise ValueError(
                f"{name}: expected an LRScheduler for schedule {i}, got "
                f"{type(scheduler).__name__}. (ReduceLROnPlateau needs a metric)"
            )
        if scheduler.optimizer is not optimizer:
            raise ValueError(f"{name}: expected schedules of one optimizer, got another for {i}.")


def _loading_parts(whole: Any, states: Sequence[Mapping[str, Any]]) -> Iterator[Change]:
    """The changes that load the states of the schedules of which one is made."""
    if len(states) != len(whole._schedulers):
        raise ValueError(
            f"{type(whole).__name__}.load_state_dict: expected {len(whole._schedulers)} schedules, "
            f"got {len(states)}."
        )
    parts = zip(whole._schedulers, states, strict=True)
    return chain(*[scheduler._loading(state) for scheduler, state in parts])


class ReduceLROnPlateau:
    """lr <- factor lr, where a metric has not improved for more than `patience` epochs.

    mode: "min" or "max", the better direction of the metric.
    factor: in (0, 1).
    patience: epochs without improvement that are allowed.
    threshold, threshold_mode: the least improvement that counts, as a share of the best value
        ("rel") or as a difference ("abs").
    cooldown: epochs after a reduction that do not count.
    min_lr: the lowest rate, one for all groups or one each. eps: the smallest change that is made.

    With an optimizer of `tk.distributed` it takes the mean of the ranks' metrics, so that their
    rates stay equal: every rank must call `step`.
    Raises ValueError for values out of range.

    >>> w = tk.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=1.0)
    >>> scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    >>> for loss in (1.0, 1.0):
    ...     scheduler.step(loss)
    >>> scheduler.get_last_lr()
    [0.1]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if not 0 < factor < 1:
            raise ValueError(f"ReduceLROnPlateau: expected factor in (0, 1), got {factor}.")
        if mode not in ("min", "max"):
            raise ValueError(f"ReduceLROnPlateau: expected mode 'min' or 'max', got {mode!r}.")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(
                f"ReduceLROnPlateau: expected threshold_mode 'rel' or 'abs', got "
                f"{threshold_mode!r}."
            )
        _one_each(self, optimizer, "min_lr", min_lr)
        self.min_lr = min_lr
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.cooldown, self.eps = cooldown, eps
        self.best: float | None = None
        self.cooldown_counter = self.num_bad_epochs = self.last_epoch = 0
        self._last_lr = [group["lr"] for group in optimizer.param_groups]

    def step(self, metrics: SupportsFloat) -> None:
        """Record the metric of this epoch, and reduce the rate if it is due."""
        current = float(metrics)
        if self.optimizer.exchange is not None:
            link, what = self.optimizer.exchange.link, "the metric of a schedule"
            current = float(link.reduced(np.array(current), "mean", what))
        self.last_epoch += 1
        if self._is_better(current):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _is_better(self, current: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.best is None:
            return sign * current > -math.inf
        margin = sign * self.threshold
        bar = self.best * (1 + margin) if self.threshold_mode == "rel" else self.best + margin
        return sign * current > sign * bar

    def _reduce(self) -> None:
        lowest_rates = _one_each(self, self.optimizer, "min_lr", self.min_lr)
        for group, lowest in zip(self.optimizer.param_groups, lowest_rates, strict=True):
            lr = max(group["lr"] * self.factor, lowest)
            if group["lr"] - lr > self.eps:
                group["lr"] = lr

    get_last_lr = LRScheduler.get_last_lr
    state_dict = LRScheduler.state_dict
    load_state_dict = LRScheduler.load_state_dict
    _loading = LRScheduler._loading
    _updating = LRScheduler._updating
    _checked_state = LRScheduler._checked_state
    _tried_state = _checked_state
    _unsaved = LRScheduler._unsaved
