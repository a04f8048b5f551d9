"""Learning rate schedules, with PyTorch's names and recurrences.

Call `step()` after the optimizer's step: once per epoch, or per batch where a schedule says so.
Most schedules compute the next rate from the current one, so several may act on one optimizer.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, SupportsFloat

from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.optim.optimizer import Optimizer

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
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

    >>> class HalfLR(optim.lr_scheduler.LRScheduler):
    ...     def next_lr(self, lr, base):
    ...         return base if self.last_epoch == 0 else lr / 2
    >>> w = tk.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=0.1)
    >>> HalfLR(optimizer).get_last_lr()
    [0.1]
    """

    _unsaved: tuple[str, ...] = ("optimizer", "_initial")

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
        self.last_epoch = last_epoch
        self._begin()

    def _begin(self) -> None:
        self._step_count = 0
        self._initial = True
        self.step()
        self._initial = False

    def step(self) -> None:
        """Advance to the next epoch. Warns before the optimizer's first step.

        Raises ValueError where the optimizer has got a new parameter group.
        """
        self._count_step()
        self.last_epoch += 1
        self._set(self.get_lr())

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

    def _restart(self) -> None:
        """Restart at epoch 0, whatever the current rates are: used by `SequentialLR`."""
        self.last_epoch = 0
        self._set(self.first_lr())

    def get_lr(self) -> list[float]:
        """The rates at `last_epoch`, from those of the epoch before."""
        groups = self.optimizer.param_groups
        return [self.next_lr(g["lr"], base) for g, base in zip(groups, self.base_lrs, strict=True)]

    def next_lr(self, lr: float, base: float) -> float:
        """The rate of one group at `last_epoch`.

        lr: the rate of the epoch before. base: the first rate.
        """
        raise NotImplementedError

    def first_lr(self) -> list[float]:
        """The rates of epoch 0."""
        return list(self.base_lrs)

    def get_last_lr(self) -> list[float]:
        """The rates set last, one per group."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """The state for `load_state_dict`: plain values that JSON can hold."""
        return {
            name: list(value) if isinstance(value, list) else value
            for name, value in self.__dict__.items()
            if name not in self._unsaved
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a `state_dict()`. The current rates are part of the optimizer's state.

        Raises ValueError that names the missing or unexpected entries; nothing is changed then.
        """
        self.__dict__.update(self._checked_state(state_dict))

    def _checked_state(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        names, given = set(self.state_dict()), set(state_dict)
        if names != given:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: the state lacks "
                f"{sorted(names - given) or 'nothing'} and has the unexpected "
                f"{sorted(given - names) or 'nothing'}."
            )
        got, expected = len(state_dict["_last_lr"]), len(self.optimizer.param_groups)
        if got != expected:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: expected a state of {expected} parameter "
                f"groups, got {got}."
            )
        return {
            name: list(value) if isinstance(value, list | tuple) else value
            for name, value in state_dict.items()
        }


def _checked(schedule: object, optimizer: Any) -> Optimizer:
    if not isinstance(optimizer, Optimizer):
        name = type(schedule).__name__
        raise TypeError(f"{name}: expected an Optimizer, got {type(optimizer).__name__}.")
    return optimizer


def _positive(schedule: object, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"{type(schedule).__name__}: expected an integer {name} >= 1, got {value!r}."
        )
    return value


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

    first_lr = get_lr


class StepLR(LRScheduler):
    """lr <- gamma lr, every `step_size` epochs.

    step_size: epochs between two changes, at least 1 (else ValueError).
    gamma: the factor. last_epoch: see `LRScheduler`.

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
        self.step_size, self.gamma = _positive(self, "step_size", step_size), gamma
        super().__init__(optimizer, last_epoch)

    def next_lr(self, lr: float, base: float) -> float:
        """gamma lr where the epoch is a multiple of step_size."""
        due = self.last_epoch > 0 and self.last_epoch % self.step_size == 0
        return lr * self.gamma if due else lr


class MultiStepLR(LRScheduler):
    """lr <- gamma lr, at every milestone.

    milestones: epochs; one that is listed twice counts twice.
    gamma: the factor. last_epoch: see `LRScheduler`.

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
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def next_lr(self, lr: float, base: float) -> float:
        """gamma lr at a milestone."""
        times = self.milestones.count(self.last_epoch)
        return float(lr * self.gamma**times) if times else lr

    def first_lr(self) -> list[float]:
        """The rates of epoch 0."""
        return [base * self.gamma ** self.milestones.count(0) for base in self.base_lrs]


class ConstantLR(LRScheduler):
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

    def next_lr(self, lr: float, base: float) -> float:
        """factor lr at epoch 0, undone at total_iters."""
        if self.last_epoch == 0:
            return lr * self.factor
        return lr * (1 / self.factor) if self.last_epoch == self.total_iters else lr

    def first_lr(self) -> list[float]:
        """The rates of epoch 0."""
        factor = self.factor if self.total_iters > 0 else 1.0
        return [base * factor for base in self.base_lrs]


# ------------------------------------------------------------------ along a curve


class LinearLR(LRScheduler):
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

    def next_lr(self, lr: float, base: float) -> float:
        """The rate times the ratio of two neighbours on the line."""
        if self.last_epoch == 0:
            return lr * self.start_factor
        if self._initial or self.last_epoch > self.total_iters:
            return lr
        rise = self.end_factor - self.start_factor
        before = self.total_iters * self.start_factor + (self.last_epoch - 1) * rise
        return lr * (1 + rise / before)

    def first_lr(self) -> list[float]:
        """The rates of epoch 0."""
        return [base * self.start_factor for base in self.base_lrs]


class ExponentialLR(LRScheduler):
    """lr <- gamma lr, every epoch.

    gamma: the factor. last_epoch: see `LRScheduler`.

    >>> w = tk.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=1.0)
    >>> scheduler = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    >>> w.sum().backward(); optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def next_lr(self, lr: float, base: float) -> float:
        """gamma lr."""
        return lr if self._initial else lr * self.gamma


class PolynomialLR(LRScheduler):
    """lr_t = lr_0 (1 - t / total_iters)^power, and 0 from `total_iters` on.

    total_iters: at least 1 (else ValueError). power: 1 is a straight line.
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
        self.total_iters, self.power = _positive(self, "total_iters", total_iters), power
        super().__init__(optimizer, last_epoch)

    def next_lr(self, lr: float, base: float) -> float:
        """The rate times the ratio of two neighbours on the curve."""
        if self._initial or self.last_epoch > self.total_iters:
            return lr
        now, before = (1 - t / self.total_iters for t in (self.last_epoch, self.last_epoch - 1))
        return float(lr * (now / before) ** self.power)


class CosineAnnealingLR(LRScheduler):
    """Half a cosine down, then up: lr_t = eta_min + (lr_0 - eta_min) (1 + cos(pi t / T_max)) / 2.

    T_max: epochs of half a period, at least 1 (else ValueError). eta_min: the lowest rate.
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
        self.T_max, self.eta_min = _positive(self, "T_max", T_max), eta_min
        super().__init__(optimizer, last_epoch)

    def next_lr(self, lr: float, base: float) -> float:
        """eta_min plus the distance from it, times the ratio of two neighbours on the curve."""
        if self._initial:
            return lr
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:
            return lr + (base - self.eta_min) * (1 - math.cos(math.pi / self.T_max)) / 2
        now, before = (
            1 + math.cos(math.pi * t / self.T_max) for t in (self.last_epoch, self.last_epoch - 1)
        )
        return now / before * (lr - self.eta_min) + self.eta_min


class CosineAnnealingWarmRestarts(LRScheduler):
    """eta_min + (lr_0 - eta_min) (1 + cos(pi T_cur / T_i)) / 2, restarted every T_i epochs.

    T_0: the first T_i, at least 1. T_mult: the factor on T_i at every restart, at least 1.
    eta_min: the lowest rate. last_epoch: see `LRScheduler`.

    Raises ValueError for a T_0 or T_mult out of range.
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
        self.T_mult, self.eta_min = _positive(self, "T_mult", T_mult), eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def next_lr(self, lr: float, base: float) -> float:
        """The rate at T_cur on the curve."""
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return self.eta_min + (base - self.eta_min) * height

    first_lr = LRScheduler.get_lr

    def step(self, epoch: float | None = None) -> None:
        """Advance to the next epoch, or to a given one, which may be a fraction.

        Raises ValueError for epoch < 0.
        """
        self._count_step()
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            self.last_epoch += 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        else:
            if epoch < 0:
                raise ValueError(
                    f"CosineAnnealingWarmRestarts.step: expected epoch >= 0, got {epoch}."
                )
            self.last_epoch = math.floor(epoch)
            self._locate(epoch)
        self._set(self.get_lr())

    def _locate(self, epoch: float) -> None:
        restarts = int(epoch // self.T_0)
        if self.T_mult > 1:
            restarts = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
            before = self.T_0 * (self.T_mult**restarts - 1) / (self.T_mult - 1)
        else:
            before = self.T_0 * restarts
        self.T_i = self.T_0 * self.T_mult**restarts
        self.T_cur = epoch - before


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
        if cycle_momentum and not {"momentum", "betas"} & set(optimizer.defaults):
            raise ValueError(
                f"OneCycleLR: expected an optimizer with momentum, got {type(optimizer).__name__}. "
                "Pass cycle_momentum=False"
            )
        if last_epoch == -1:
            for group, lr, high, low in zip(optimizer.param_groups, lrs, highs, lows, strict=True):
                group["initial_lr"], group["max_lr"] = lr / div_factor, lr
                group["min_lr"] = group["initial_lr"] / final_div_factor
                if cycle_momentum:
                    group["max_momentum"], group["base_momentum"] = high, low
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rates of this step. Sets the momenta as well."""
        if self.last_epoch > self.total_steps:
            raise ValueError(
                f"OneCycleLR: expected at most {self.total_steps} steps, got step "
                f"{self.last_epoch}."
            )
        ends = [end for end, *_ in self.phases]
        last = len(ends) - 1
        index = next((i for i, end in enumerate(ends) if self.last_epoch <= end), last)
        start, end = ends[index - 1] if index else 0.0, ends[index]
        part = (self.last_epoch - start) / (end - start) if end != start else 1.0
        names = self.phases[index][1:]
        rates = []
        for group in self.optimizer.param_groups:
            from_lr, to_lr, from_momentum, to_momentum = (group.get(name) for name in names)
            rates.append(self._between(from_lr, to_lr, part))
            if self.cycle_momentum:
                _set_momentum(group, self._between(from_momentum, to_momentum, part))
        return rates

    first_lr = get_lr

    def _between(self, start: Any, end: Any, part: float) -> float:
        if self.anneal_strategy == "linear":
            return float((end - start) * part + start)
        return float(end + (start - end) / 2 * (1 + math.cos(math.pi * part)))


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


def _set_momentum(group: dict[str, Any], momentum: float) -> None:
    if "betas" in group:
        group["betas"] = (momentum, *group["betas"][1:])
    else:
        group["momentum"] = momentum


# ------------------------------------------------------------------ sequences and plateaus


class SequentialLR(LRScheduler):
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
        self.optimizer = _checked(self, optimizer)
        if len(milestones) != len(schedulers) - 1 or not schedulers:
            raise ValueError(
                f"SequentialLR: expected {len(schedulers) - 1} milestones for {len(schedulers)} "
                f"schedules, got {len(milestones)}."
            )
        for i, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler):
                raise ValueError(
                    f"SequentialLR: expected an LRScheduler for schedule {i}, got "
                    f"{type(scheduler).__name__}. (ReduceLROnPlateau needs a metric)"
                )
            if scheduler.optimizer is not optimizer:
                raise ValueError(
                    f"SequentialLR: expected schedules of one optimizer, got another for {i}."
                )
        self._schedulers, self.milestones = list(schedulers), list(milestones)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        self._take_back()
        self._begin()

    def _take_back(self) -> None:
        """Undo the first step that every schedule made when it was created."""
        for scheduler in self._schedulers:
            if isinstance(scheduler, SequentialLR):
                scheduler._take_back()
            else:
                scheduler.last_epoch -= 1

    def _first(self) -> LRScheduler:
        self.last_epoch = 0
        return self._schedulers[bisect_right(self.milestones, 0)]

    def _begin(self) -> None:
        first = self._first()
        first._begin()
        self._last_lr = first.get_last_lr()

    def _restart(self) -> None:
        first = self._first()
        first._restart()
        self._last_lr = first.get_last_lr()

    def step(self) -> None:
        """Advance to the next epoch, and to the next schedule at a milestone."""
        self.last_epoch += 1
        index = bisect_right(self.milestones, self.last_epoch)
        scheduler = self._schedulers[index]
        if index > 0 and self.milestones[index - 1] == self.last_epoch:
            scheduler._restart()
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """The epoch, and the state of every schedule."""
        return super().state_dict() | {"_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a `state_dict()`, all or nothing.

        Raises ValueError as `LRScheduler` does.
        """
        state = self._checked_state(state_dict)
        parts = state.pop("_schedulers")
        if len(parts) != len(self._schedulers):
            raise ValueError(
                f"SequentialLR.load_state_dict: expected {len(self._schedulers)} schedules, got "
                f"{len(parts)}."
            )
        for scheduler, part in zip(self._schedulers, parts, strict=True):
            scheduler._checked_state(part)
        for scheduler, part in zip(self._schedulers, parts, strict=True):
            scheduler.load_state_dict(part)
        self.__dict__.update(state)


class ReduceLROnPlateau:
    """lr <- factor lr, where a metric has not improved for more than `patience` epochs.

    mode: "min" or "max", the better direction of the metric.
    factor: in (0, 1).
    patience: epochs without improvement that are allowed.
    threshold, threshold_mode: the least improvement that counts, as a share of the best value
        ("rel") or as a difference ("abs").
    cooldown: epochs after a reduction that do not count.
    min_lr: the lowest rate, one for all groups or one each. eps: the smallest change that is made.

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
    _checked_state = LRScheduler._checked_state
    _unsaved = LRScheduler._unsaved
