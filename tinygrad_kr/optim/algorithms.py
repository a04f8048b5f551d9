"""The optimizers: an update rule each, with PyTorch's signatures, defaults and permitted values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinygrad_kr.optim import rules
from tinygrad_kr.optim.optimizer import Optimizer, Parameters

_NONNEGATIVE = dict.fromkeys(["lr", "eps", "weight_decay"], "[0, inf)")


class SGD(Optimizer):
    """Gradient descent, with momentum where that is not 0; see `rules.sgd`."""

    rule = staticmethod(rules.sgd)
    intervals = dict.fromkeys(["lr", "momentum", "weight_decay"], "[0, inf)") | {
        "dampening": "(-inf, inf)"
    }

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _check_options(self, group: Mapping[str, Any]) -> None:
        super()._check_options(group)
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ValueError(
                "SGD: nesterov needs a momentum above 0 and a dampening of 0, not "
                f"momentum={group['momentum']}, dampening={group['dampening']}"
            )


class Adagrad(Optimizer):
    """A step size for every element, which only shrinks; see `rules.adagrad`."""

    rule = staticmethod(rules.adagrad)
    intervals = _NONNEGATIVE | dict.fromkeys(["lr_decay", "initial_accumulator_value"], "[0, inf)")

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "maximize": maximize,
        }
        super().__init__(params, defaults)


class RMSprop(Optimizer):
    """Gradients in units of their recent size; see `rules.rmsprop`."""

    rule = staticmethod(rules.rmsprop)
    intervals = _NONNEGATIVE | dict.fromkeys(["alpha", "momentum"], "[0, inf)")

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)


class Adadelta(Optimizer):
    """Steps in the parameter's own units; see `rules.adadelta`."""

    rule = staticmethod(rules.adadelta)
    intervals = _NONNEGATIVE | {"rho": "[0, 1]"}

    def __init__(
        self,
        params: Parameters,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)


class Adam(Optimizer):
    """Momentum, and gradients in units of their recent size; see `rules.adam`."""

    rule = staticmethod(rules.adam)
    intervals = _NONNEGATIVE | {"betas": "[0, 1)"}

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)


class AdamW(Adam):
    """Adam whose weight decay acts on the parameters directly, not by way of the gradient."""

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
        )


class NAdam(Optimizer):
    """Adam with Nesterov's look ahead; see `rules.nadam`."""

    rule = staticmethod(rules.nadam)
    intervals = _NONNEGATIVE | {"betas": "[0, 1)", "momentum_decay": "[0, inf)"}

    def __init__(
        self,
        params: Parameters,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)
