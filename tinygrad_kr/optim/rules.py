"""Update rules, the simplest first: pure functions of a parameter, its gradient and a state.

    parameter, new state = rule(parameter, gradient, state, **options)

A state starts as `{}`. It holds arrays of the parameter's shape, and numbers. A rule returns the
entries that are new.

Rules are elementwise arithmetic. They run on arrays, on Tensors, and on many parameters flattened
into one. The optimizer lowers them to in-place NumPy (`optim.lowering`). A rule may branch on
options and on the presence of a state entry, on nothing else.

Names, defaults and numbers are PyTorch's. The options are explained at the optimizer classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

State = dict[str, Any]
Update = tuple[Any, State]


def sgd(
    p: Any,
    g: Any,
    state: State,
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
) -> Update:
    """The rule of `optim.SGD`.

    b <- momentum b + (1 - dampening) g  (b = g at first),  p <- p - lr b;
    nesterov: p <- p - lr (g + momentum b).
    """
    g = descent(p, g, weight_decay, maximize)
    if not momentum:
        return p - lr * g, {}
    b = g
    if "momentum_buffer" in state:
        b = momentum * state["momentum_buffer"] + (1 - dampening) * g
    return p - lr * (g + momentum * b if nesterov else b), {"momentum_buffer": b}


def adagrad(
    p: Any,
    g: Any,
    state: State,
    *,
    lr: float,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
    maximize: bool = False,
) -> Update:
    """The rule of `optim.Adagrad`.

    s <- s + g^2,  p <- p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)
    """
    step = state.get("step", 0) + 1
    g = descent(p, g, weight_decay, maximize)
    s = state.get("sum", initial_accumulator_value) + g * g
    rate = lr / (1 + (step - 1) * lr_decay)
    return p - rate * (g / (np.sqrt(s) + eps)), {"step": step, "sum": s}


def rmsprop(
    p: Any,
    g: Any,
    state: State,
    *,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    maximize: bool = False,
) -> Update:
    """The rule of `optim.RMSprop`.

    v <- alpha v + (1 - alpha) g^2,  p <- p - lr g / (sqrt(v) + eps);
    centered: v - m^2 in place of v, with m <- alpha m + (1 - alpha) g;
    momentum: b <- momentum b + g / (sqrt(v) + eps),  p <- p - lr b.
    """
    g = descent(p, g, weight_decay, maximize)
    v = alpha * state.get("square_avg", 0.0) + (1 - alpha) * (g * g)
    new: State = {"step": state.get("step", 0) + 1, "square_avg": v}
    if centered:
        m = new["grad_avg"] = towards(state.get("grad_avg", 0.0), g, 1 - alpha)
        v = v - m * m
    g = g / (np.sqrt(v) + eps)
    if momentum:
        g = new["momentum_buffer"] = momentum * state.get("momentum_buffer", 0.0) + g
    return p - lr * g, new


def adadelta(
    p: Any,
    g: Any,
    state: State,
    *,
    lr: float = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> Update:
    """The rule of `optim.Adadelta`.

    v <- rho v + (1 - rho) g^2,  d = sqrt(u + eps) / sqrt(v + eps) g,
    u <- rho u + (1 - rho) d^2,  p <- p - lr d
    """
    g = descent(p, g, weight_decay, maximize)
    u = state["acc_delta"] if "acc_delta" in state else 0.0 * g
    v = rho * state.get("square_avg", 0.0) + (1 - rho) * (g * g)
    d = np.sqrt(u + eps) / np.sqrt(v + eps) * g
    u = rho * u + (1 - rho) * (d * d)
    return p - lr * d, {"step": state.get("step", 0) + 1, "square_avg": v, "acc_delta": u}


def adam(
    p: Any,
    g: Any,
    state: State,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
) -> Update:
    """The rule of `optim.Adam` and `optim.AdamW`.

    m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2,
    p <- p - lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    Computed as in the paper's section 2, with the corrections in two numbers:
    lr' m / (sqrt(v) + eps').
    """
    beta1, beta2 = betas
    step = state.get("step", 0) + 1
    p, g = decayed(p, g, lr, weight_decay, decoupled_weight_decay, maximize)
    m = towards(state.get("exp_avg", 0.0), g, 1 - beta1)
    v = beta2 * state.get("exp_avg_sq", 0.0) + (1 - beta2) * (g * g)
    new: State = {"step": step, "exp_avg": m, "exp_avg_sq": v}
    if amsgrad:
        v = new["max_exp_avg_sq"] = np.maximum(state.get("max_exp_avg_sq", 0.0), v)
    correction = (1 - beta2**step) ** 0.5
    rate = lr * correction / (1 - beta1**step)
    return p - rate * (m / (np.sqrt(v) + eps * correction)), new


def nadam(
    p: Any,
    g: Any,
    state: State,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> Update:
    """The rule of `optim.NAdam`.

    mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2),  m, v as Adam's,
    p <- p - lr ((1 - mu_t) g / (1 - mu_1 ... mu_t) + mu_(t+1) m / (1 - mu_1 ... mu_(t+1)))
               / (sqrt(v / (1 - beta2^t)) + eps)
    """
    beta1, beta2 = betas
    step = state.get("step", 0) + 1
    p, g = decayed(p, g, lr, weight_decay, decoupled_weight_decay, maximize)
    mu = beta1 * (1 - 0.5 * 0.96 ** (step * momentum_decay))
    mu_next = beta1 * (1 - 0.5 * 0.96 ** ((step + 1) * momentum_decay))
    product = state.get("mu_product", 1.0) * mu
    m = towards(state.get("exp_avg", 0.0), g, 1 - beta1)
    v = beta2 * state.get("exp_avg_sq", 0.0) + (1 - beta2) * (g * g)
    correction = (1 - beta2**step) ** 0.5
    now = lr * correction * (1 - mu) / (1 - product)
    ahead = lr * correction * mu_next / (1 - product * mu_next)
    p = p - (now * g + ahead * m) / (np.sqrt(v) + eps * correction)
    return p, {"step": step, "mu_product": product, "exp_avg": m, "exp_avg_sq": v}


# ------------------------------------------------------------------ shared by the rules


def descent(p: Any, g: Any, weight_decay: float, maximize: bool) -> Any:
    """The gradient of the loss (negated with `maximize`) + weight_decay |p|^2 / 2."""
    if maximize:
        g = -g
    return g + weight_decay * p if weight_decay else g


def decayed(
    p: Any, g: Any, lr: float, weight_decay: float, decoupled: bool, maximize: bool
) -> tuple[Any, Any]:
    """Parameter and gradient after weight decay: the parameter shrinks (decoupled) or g grows."""
    if decoupled and weight_decay:
        return (1 - lr * weight_decay) * p, -g if maximize else g
    return p, descent(p, g, weight_decay, maximize)


def towards(average: Any, value: Any, weight: float) -> Any:
    """A running average, moved towards a new value: (1 - weight) average + weight value."""
    return average + weight * (value - average)
