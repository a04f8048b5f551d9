"""`AveragedModel`: a copy of a net that holds the average of its weights over a training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.nn.module import Module
from tinygrad_kr.nn.normalization import _BatchNorm
from tinygrad_kr.optim.swa_utils import get_swa_avg_fn
from tinygrad_kr.tensor import Tensor

Average = Callable[[Any, Any, Any], Any]


class AveragedModel(Module):
    """A copy of a net whose parameters are an average of that net's over a training.

    Call `update_parameters(model)` after a step or an epoch. The first call copies the parameters;
    each further one averages: by default average + (parameter - average) / (n + 1), the plain mean
    (SWA). With `avg_fn=get_ema_avg_fn(decay)` it is an exponential moving average (EMA).

    model: the net; it is copied. avg_fn: gives the new average of the average, the parameter, and
        the number n of those averaged before, a Tensor.
    multi_avg_fn: instead of `avg_fn`, one that takes lists and writes into the averages.
    use_buffers: average the buffers too. Otherwise they are copied at each call.

    `state_dict()` has the keys of `model`, each after `module.`, and `n_averaged`; the functions
    are not part of it.

    Raises ValueError for both functions at once, and on an update from another kind of net.
    Source: Izmailov et al., Averaging weights leads to wider optima and better generalization
    (2018).

    >>> net = nn.Linear(1, 1, bias=False)
    >>> averaged = optim.swa_utils.AveragedModel(net)
    >>> for weight in (1.0, 2.0, 6.0):
    ...     with tk.no_grad():
    ...         _ = net.weight.fill_(weight)
    ...     averaged.update_parameters(net)
    >>> averaged(tk.tensor([[1.0]])).item()
    3.0
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        *,
        avg_fn: Average | None = None,
        multi_avg_fn: Average | None = None,
        use_buffers: bool = False,
    ) -> None:
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("AveragedModel: expected avg_fn or multi_avg_fn, got both.")
        self.module = copy.deepcopy(model)
        self.register_buffer("n_averaged", Tensor(np.array(0)))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Average the parameters of `model` into these.

        Raises ValueError where `model` has other parameters or buffers than the net that was
        copied.

        >>> averaged = optim.swa_utils.AveragedModel(nn.Linear(2, 1))
        >>> averaged.update_parameters(averaged.module)
        >>> averaged.n_averaged.item()
        1
        """
        averaged, copied = self._pairs(model)
        with no_grad():
            if int(self.n_averaged.data) == 0:
                copied, averaged = averaged + copied, []
            for mine, given in copied:
                mine.copy_(given)
            if averaged:
                self._average(averaged)
            self.n_averaged.copy_(self.n_averaged + 1)

    def _pairs(self, model: Module) -> tuple[list[Any], list[Any]]:
        """Averages with what goes into them, and copies with their originals."""
        parameters: list[Any] = [list(net.parameters()) for net in (self.module, model)]
        buffers: list[Any] = [list(net.buffers()) for net in (self.module, model)]
        own, given = ([x.shape for x in (*parameters[i], *buffers[i])] for i in (0, 1))
        if own != given:
            raise ValueError(
                "AveragedModel.update_parameters: expected a net with parameters and buffers of "
                f"shapes {own}, got {given}."
            )
        averaged, copied = (list(zip(*both, strict=True)) for both in (parameters, buffers))
        return (averaged + copied, []) if self.use_buffers else (averaged, copied)

    def _average(self, pairs: list[Any]) -> None:
        if self.multi_avg_fn is not None:
            by_dtype: dict[Any, list[Any]] = {}
            for mine, given in pairs:
                by_dtype.setdefault(mine.dtype, []).append((mine.detach(), given.detach()))
            for alike in by_dtype.values():
                averages, parameters = map(list, zip(*alike, strict=True))
                self.multi_avg_fn(averages, parameters, self.n_averaged)
            return
        average_of = self.avg_fn or get_swa_avg_fn()
        for mine, given in pairs:
            mine.copy_(average_of(mine.detach(), given.detach(), self.n_averaged))


def update_bn(loader: Iterable[Any], model: Module) -> None:
    """Give the batch norms of a net the statistics of all batches of a loader, for its weights now.

    loader: yields batches, or tuples and lists whose first element is the batch. model: the net. It
    is called on each batch in training mode, without gradients, and is in its own mode afterwards.
    A net without batch norms is left alone.

    >>> net = nn.BatchNorm1d(1)
    >>> optim.swa_utils.update_bn([tk.tensor([[1.0], [3.0]]), tk.tensor([[5.0], [7.0]])], net)
    >>> net.running_mean
    Tensor([4.])
    """
    momenta = {m: m.momentum for m in model.modules() if isinstance(m, _BatchNorm)}
    if not momenta:
        return
    modes = {module: module.training for module in model.modules()}
    try:
        model.train()
        for norm in momenta:
            norm.reset_running_stats()
            norm.momentum = None
        with no_grad():
            for batch in loader:
                model(batch[0] if isinstance(batch, tuple | list) else batch)
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for module, training in modes.items():
            module.training = training
