"""Averages of weights over a training, with PyTorch's names: SWA (plain) and EMA (exponential)."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.optim.lr_scheduler import LRScheduler, _one_each
from tinygrad_kr.optim.optimizer import Optimizer
from tinygrad_kr.tensor import Tensor

if TYPE_CHECKING:
    from tinygrad_kr.nn.averaging import AveragedModel, update_bn

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]

Average = Callable[[Any, Any, Any], Any]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    """`AveragedModel` is a module: its file is in `nn`, which is imported when it is used."""
    if name in ("AveragedModel", "update_bn"):
        return getattr(importlib.import_module("tinygrad_kr.nn.averaging"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """An `avg_fn` of `AveragedModel`: average <- decay average + (1 - decay) parameter.

    decay: in [0, 1], else ValueError. The result takes the average, the parameter, and how many
    were averaged before.

    >>> average = optim.swa_utils.get_ema_avg_fn(0.75)
    >>> average(tk.tensor([4.0]), tk.tensor([8.0]), 1)
    Tensor([5.])
    """
    _check_decay("get_ema_avg_fn", decay)

    def ema_update(average: Any, parameter: Any, num_averaged: Any) -> Any:
        return decay * average + (1 - decay) * parameter

    return ema_update


def get_swa_avg_fn() -> Average:
    """An `avg_fn` of `AveragedModel`: average <- average + (parameter - average) / (n + 1).

    The plain mean. The result takes the average, the parameter, and n, how many were averaged
    before.

    >>> average = optim.swa_utils.get_swa_avg_fn()
    >>> average(tk.tensor([4.0]), tk.tensor([8.0]), 3)
    Tensor([5.])
    """

    def swa_update(average: Any, parameter: Any, num_averaged: Any) -> Any:
        return average + (parameter - average) / (num_averaged + 1)

    return swa_update


def get_ema_multi_avg_fn(decay: float = 0.999) -> Average:
    """A `multi_avg_fn` of `AveragedModel`: `get_ema_avg_fn` for lists, in place.

    >>> averages = [tk.tensor([4.0])]
    >>> optim.swa_utils.get_ema_multi_avg_fn(0.75)(averages, [tk.tensor([8.0])], 1)
    >>> averages
    [Tensor([5.])]
    """
    _check_decay("get_ema_multi_avg_fn", decay)
    return _each_in_place(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> Average:
    """A `multi_avg_fn` of `AveragedModel`: `get_swa_avg_fn` for lists, in place.

    >>> averages = [tk.tensor([4.0])]
    >>> optim.swa_utils.get_swa_multi_avg_fn()(averages, [tk.tensor([8.0])], 3)
    >>> averages
    [Tensor([5.])]
    """
    return _each_in_place(get_swa_avg_fn())


def _check_decay(name: str, decay: float) -> None:
    if not 0 <= decay <= 1:
        raise ValueError(f"{name}: expected decay in [0, 1], got {decay}.")


def _each_in_place(average_of: Average) -> Average:
    def update(averages: Sequence[Tensor], parameters: Sequence[Tensor], num_averaged: Any) -> None:
        with no_grad():
            for average, parameter in zip(averages, parameters, strict=True):
                average.copy_(average_of(average, parameter, num_averaged))

    return update


class SWALR(LRScheduler):
    """From the rate now set to `swa_lr` within `anneal_epochs` epochs, where it stays.

        lr_t = (1 - a) lr + a swa_lr,  a = (1 - cos(pi t / T)) / 2  ("cos"),  a = t / T  ("linear")

    for t up to T = anneal_epochs. A rate that something else has set meanwhile is one on this curve
    from then on: another schedule may do the first part of a training.

    swa_lr: one rate, or one per group. anneal_epochs: T, an integer, at least 0.
    anneal_strategy: "cos" or "linear". last_epoch: see `LRScheduler`.

    Raises ValueError for options that do not fit.
    Source: Izmailov et al., Averaging weights leads to wider optima and better generalization
    (2018).

    >>> w = tk.tensor([1.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=1.0)
    >>> scheduler = optim.swa_utils.SWALR(optimizer, swa_lr=0.5, anneal_epochs=2)
    >>> w.sum().backward(); optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.75]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        rates = _one_each(self, optimizer, "swa_lr", swa_lr)
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"SWALR: expected anneal_strategy 'cos' or 'linear', got {anneal_strategy!r}."
            )
        if isinstance(anneal_epochs, bool) or not isinstance(anneal_epochs, int):
            raise ValueError(f"SWALR: expected an integer anneal_epochs, got {anneal_epochs!r}.")
        if anneal_epochs < 0:
            raise ValueError(f"SWALR: expected anneal_epochs >= 0, got {anneal_epochs}.")
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["swa_lr"] = rate
        self.anneal_epochs, self.anneal_strategy = anneal_epochs, anneal_strategy
        self.from_lrs = [float(group["lr"]) for group in optimizer.param_groups]
        self._last_lr = list(self.from_lrs)
        super().__init__(optimizer, last_epoch)

    def _share(self, epoch: int) -> float:
        t = min(1.0, epoch / self.anneal_epochs) if self.anneal_epochs else 1.0
        return t if self.anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self) -> list[float]:
        """The rates at `last_epoch`, one per group."""
        before = self._share(self.last_epoch - 1) if self.last_epoch > 0 else 0.0
        share = self._share(self.last_epoch)
        ends = [float(group["swa_lr"]) for group in self.optimizer.param_groups]
        starts = list(self.from_lrs)
        for i, group in enumerate(self.optimizer.param_groups):
            lr = float(group["lr"])
            if lr != self._last_lr[i]:
                start = lr if before == 1 else (lr - before * ends[i]) / (1 - before)
                starts[i] = max(0.0, start)
        self.from_lrs = starts
        return [
            end if share == 1 else (1 - share) * start + share * end
            for start, end in zip(starts, ends, strict=True)
        ]
