"""Update rules, the simplest first: pure functions of a parameter, its gradient and a state.

    parameter, new state = rule(parameter, gradient, state, **options)

A state starts as `{}`. It holds arrays of the parameter's shape, and numbers. A rule returns the
entries that are new.

Rules are elementwise arithmetic, but for `muon`. They run on arrays, on Tensors, and on many
parameters flattened into one. The optimizer lowers them to in-place NumPy (`optim.lowering`). A
rule may branch on options and on the presence of a state entry, on nothing else.

Names, defaults and numbers are PyTorch's. The options are explained at the optimizer classes.
"""

from __future__ import annotations

from functools import partial
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


def adamax(
    p: Any,
    g: Any,
    state: State,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> Update:
    """The rule of `optim.Adamax`.

    m <- beta1 m + (1 - beta1) g,  u <- max(beta2 u, |g| + eps),
    p <- p - lr / (1 - beta1^t) m / u
    """
    beta1, beta2 = betas
    step = state.get("step", 0) + 1
    g = descent(p, g, weight_decay, maximize)
    m = towards(state.get("exp_avg", 0.0), g, 1 - beta1)
    u = np.maximum(beta2 * state.get("exp_inf", 0.0), abs(g) + eps)
    rate = lr / (1 - beta1**step)
    return p - rate * (m / u), {"step": step, "exp_avg": m, "exp_inf": u}


def radam(
    p: Any,
    g: Any,
    state: State,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> Update:
    """The rule of `optim.RAdam`.

    m, v as Adam's,  R = 2 / (1 - beta2) - 1,  r = R - 2 t beta2^t / (1 - beta2^t),
    p <- p - lr m / (1 - beta1^t) c sqrt(1 - beta2^t) / (sqrt(v) + eps)  where r > 5,
    p <- p - lr m / (1 - beta1^t)                                        before,
    c^2 = (r - 4) (r - 2) R / ((R - 4) (R - 2) r)

    A rule does not branch on numbers: `adapts` is 1 where r > 5, else 0.
    """
    beta1, beta2 = betas
    step = state.get("step", 0) + 1
    p, g = decayed(p, g, lr, weight_decay, decoupled_weight_decay, maximize)
    m = towards(state.get("exp_avg", 0.0), g, 1 - beta1)
    v = beta2 * state.get("exp_avg_sq", 0.0) + (1 - beta2) * (g * g)
    most = 2 / (1 - beta2) - 1
    length = most - 2 * step * beta2**step / (1 - beta2**step)
    adapts = np.maximum(np.sign(length - 5.0), 0.0)
    r, limit = np.maximum(length, 5.0), np.maximum(most, 5.0)
    variance = (r - 4) * (r - 2) * limit / ((limit - 4) * (limit - 2) * r)
    factor = adapts * (variance * (1 - beta2**step)) ** 0.5 + (1 - adapts)
    rate = lr / (1 - beta1**step) * factor
    p = p - rate * (m / (adapts * np.sqrt(v) + (adapts * eps + (1 - adapts))))
    return p, {"step": step, "exp_avg": m, "exp_avg_sq": v}


def rprop(
    p: Any,
    g: Any,
    state: State,
    *,
    lr: float,
    etas: tuple[float, float] = (0.5, 1.2),
    step_sizes: tuple[float, float] = (1e-6, 50.0),
    maximize: bool = False,
) -> Update:
    """The rule of `optim.Rprop`.

    d <- eta+ d  where g has the sign of the last gradient,  eta- d  where it has the other one;
    in the latter case g <- 0;  p <- p - sign(g) d
    """
    lower, higher = etas
    smallest, largest = step_sizes
    g = descent(p, g, 0.0, maximize)
    sign = np.sign(g * state["prev"] if "prev" in state else 0.0 * g)
    same, turned = np.maximum(sign, 0.0), np.maximum(-sign, 0.0)
    factor = same * higher + turned * lower + (1 - abs(sign))
    d = np.minimum(np.maximum(state.get("step_size", lr) * factor, smallest), largest)
    g = g * (1 - turned)
    step = state.get("step", 0) + 1
    return p - np.sign(g) * d, {"step": step, "prev": g, "step_size": d}


def asgd(
    p: Any,
    g: Any,
    state: State,
    *,
    lr: float,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> Update:
    """The rule of `optim.ASGD`.

    p <- (1 - lambd eta) p - eta g,  a <- a + mu (p - a);  for the next step
    eta <- lr / (1 + lambd lr t)^alpha,  mu <- 1 / max(1, t - t0)
    """
    step = state.get("step", 0) + 1
    eta, mu = state.get("eta", lr), state.get("mu", 1.0)
    g = descent(p, g, weight_decay, maximize)
    p = (1 - lambd * eta) * p - eta * g
    average = mu * p + (1 - mu) * state["ax"] if "ax" in state else p
    eta = lr / (1 + lambd * lr * step) ** alpha
    mu = 1 / np.maximum(step - t0, 1.0)
    return p, {"step": step, "eta": eta, "mu": mu, "ax": average}


def lion(
    p: Any,
    g: Any,
    state: State,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> Update:
    """The rule of `optim.Lion`.

    p <- (1 - lr weight_decay) p - lr sign(beta1 m + (1 - beta1) g),
    m <- beta2 m + (1 - beta2) g
    """
    beta1, beta2 = betas
    p, g = decayed(p, g, lr, weight_decay, True, maximize)
    m = state.get("exp_avg", 0.0)
    sign = np.sign(beta1 * m + (1 - beta1) * g)
    return p - lr * sign, {"exp_avg": beta2 * m + (1 - beta2) * g}


def sparse_adam(
    p: Any,
    g: Any,
    state: State,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    maximize: bool = False,
) -> Update:
    """The rule of `optim.SparseAdam`: Adam's for elements with g != 0, others stay as they are."""
    return _adam_of(abs(np.sign(g)), p, g, state, lr, betas, eps, maximize)


def sparse_adam_rows(
    p: Any,
    g: Any,
    state: State,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    maximize: bool = False,
) -> Update:
    """The rule of `optim.SparseAdam` for the rows that a sparse gradient names."""
    return _adam_of(1.0, p, g, state, lr, betas, eps, maximize)


def _adam_of(
    touched: Any,
    p: Any,
    g: Any,
    state: State,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    maximize: bool,
) -> Update:
    beta1, beta2 = betas
    step = state.get("step", 0) + 1
    g = descent(p, g, 0.0, maximize)
    m = state.get("exp_avg", 0.0)
    v = state.get("exp_avg_sq", 0.0)
    m = m + touched * ((1 - beta1) * (g - m))
    v = v + touched * ((1 - beta2) * (g * g - v))
    rate = lr * (1 - beta2**step) ** 0.5 / (1 - beta1**step)
    p = p - rate * (touched * m / (np.sqrt(v) + eps))
    return p, {"step": step, "exp_avg": m, "exp_avg_sq": v}


def muon(
    p: Any,
    g: Any,
    state: State,
    *,
    lr: float,
    weight_decay: float = 0.1,
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
    eps: float = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: str | None = None,
) -> Update:
    """The rule of `optim.Muon`, for matrices.

    b <- momentum b + (1 - momentum) g,  u = (1 - momentum) g + momentum b  (nesterov; else b),
    p <- (1 - lr weight_decay) p - lr r O(u)
    """
    b = towards(state.get("momentum_buffer", 0.0), g, 1 - momentum)
    update = towards(g, b, momentum if nesterov else 1.0)
    function = partial(orthogonalized, steps=ns_steps, adjust=adjust_lr_fn)
    numbers = (*ns_coefficients, eps)
    through = getattr(update, "through", None)  # when it is lowered
    turned = function(update, *numbers) if through is None else through(function, *numbers)
    if weight_decay:
        p = (1 - lr * weight_decay) * p
    return p - lr * turned, {"momentum_buffer": b}


def orthogonalized(
    x: Any,
    a: Any,
    b: Any,
    c: Any,
    eps: Any,
    out: Any = None,
    *,
    steps: int,
    adjust: str | None,
) -> Any:
    """r O(x): the singular values of a matrix brought near 1, times r for the shape of the matrix.

    X <- x / max(||x||, eps), then `steps` times X <- a X + (b A + c A A) X with A = X X^T.
    r = sqrt(max(1, rows / columns)), or 0.2 sqrt(max(rows, columns)) for "match_rms_adamw".
    """
    rows, columns = x.shape
    tall = rows > columns
    y = x.T if tall else x
    y = y / np.maximum(np.sqrt((y * y).sum()), eps)
    for _ in range(steps):
        gram = y @ y.T
        y = a * y + (b * gram + c * (gram @ gram)) @ y
    ratio = max(1.0, rows / max(columns, 1)) ** 0.5
    if adjust == "match_rms_adamw":
        ratio = 0.2 * float(max(rows, columns)) ** 0.5
    y = ratio * (y.T if tall else y)
    if out is None:
        return y
    out[...] = y
    return out


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
