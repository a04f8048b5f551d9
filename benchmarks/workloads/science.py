"""Derivatives of functions of float64 arrays, in NumPy's interface: ours and HIPS autograd.

What `xp` stands for is NumPy for ours, whose functions take Tensors, `jax.numpy` for JAX and
`autograd.numpy` for HIPS autograd. Arrays go in and come out as NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from workloads.work import Work

__all__ = ["FUNCTIONS", "Function", "hips", "ours"]


@dataclass(frozen=True)
class Function:
    """A function of arrays, and which derivative of it is wanted.

    make is called with `xp` and returns the function. derivative: "gradient" (of the first
    argument, with the value), "hessian", or "sample gradients" (one for each row of the second and
    third argument).
    """

    key: str
    title: str
    make: Callable[[Any], Callable[..., Any]]
    arguments: Callable[[np.random.Generator], tuple[Any, ...]]
    derivative: str = "gradient"


# ------------------------------------------------------------------ Rosenbrock's function


def rosenbrock(xp: Any) -> Callable[..., Any]:
    def value(x: Any) -> Any:
        return xp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    return value


def rosenbrock_point(_: np.random.Generator) -> tuple[Any, ...]:
    return (np.linspace(-1.5, 1.5, 100),)


# ------------------------------------------------------------------ Gaussian process


def gaussian_process(xp: Any) -> Callable[..., Any]:
    """Minus the log marginal likelihood (Rasmussen and Williams 2006, equation 2.30)."""

    def loss(logs: Any, x: Any, y: Any) -> Any:
        """logs: logarithms of length scale, standard deviation, and that of the noise."""
        squares = (x[:, None] - x[None, :]) ** 2
        kernel = xp.exp(2 * logs[1] - 0.5 * squares * xp.exp(-2 * logs[0]))
        kernel = kernel + xp.exp(2 * logs[2]) * np.eye(len(x))
        root = xp.linalg.cholesky(kernel)
        fit = xp.dot(y, xp.linalg.solve(kernel, y))
        return 0.5 * fit + xp.sum(xp.log(xp.diag(root)))

    return loss


def noisy_sine(generator: np.random.Generator) -> tuple[Any, ...]:
    x = np.sort(generator.uniform(0, 10, 100))
    return np.array([0.0, 0.1, -1.5]), x, np.sin(x) + 0.2 * generator.standard_normal(100)


# ------------------------------------------------------------------ logistic regression


def logistic(xp: Any) -> Callable[..., Any]:
    def loss(w: Any, x: Any, y: Any) -> Any:
        logits = x @ w
        return xp.sum(xp.logaddexp(0.0, logits) - y * logits)

    return loss


def two_classes(generator: np.random.Generator) -> tuple[Any, ...]:
    x = generator.standard_normal((2000, 8))
    y = (x @ generator.standard_normal(8) > 0).astype(np.float64)
    return 0.1 * generator.standard_normal(8), x, y


# ------------------------------------------------------------------ a differential equation


def pinn_start(generator: np.random.Generator) -> tuple[Any, ...]:
    sizes = (1, 32, 32, 1)
    parameters = []
    for wide, narrow in pairwise(sizes):
        parameters += [generator.standard_normal((wide, narrow)) / wide**0.5, np.zeros(narrow)]
    return parameters, np.linspace(0, 1, 100)[:, None]


def tanh_net(xp: Any, parameters: Any, x: Any) -> Any:
    w1, b1, w2, b2, w3, b3 = parameters
    return xp.tanh(xp.tanh(x @ w1 + b1) @ w2 + b2) @ w3 + b3


def pinn(xp: Any) -> Callable[..., Any]:
    """The residual of u'' = -pi^2 sin(pi x), u(0) = u(1) = 0 (Raissi et al. 2019)."""
    import tinygrad_kr as tk

    def slope(function: Any) -> Any:
        return tk.grad(lambda x: function(x).sum())

    def loss(parameters: Any, x: Any) -> Any:
        u = partial(tanh_net, xp, parameters)
        residual = slope(slope(u))(x) + np.pi**2 * np.sin(np.pi * x)
        ends = u(np.array([[0.0], [1.0]]))
        return xp.mean(residual**2) + xp.sum(ends**2)

    return loss


def pinn_hips(xp: Any) -> Callable[..., Any]:
    from autograd import elementwise_grad

    def loss(parameters: Any, x: Any) -> Any:
        u = partial(tanh_net, xp, parameters)
        residual = elementwise_grad(elementwise_grad(u))(x) + np.pi**2 * np.sin(np.pi * x)
        ends = u(np.array([[0.0], [1.0]]))
        return xp.mean(residual**2) + xp.sum(ends**2)

    return loss


# ------------------------------------------------------------------ optimal transport


def sinkhorn(xp: Any) -> Callable[..., Any]:
    """Entropic optimal transport between two clouds of points (Cuturi 2013), 30 iterations."""

    def cost(points: Any, others: Any) -> Any:
        distances = xp.sum((points[:, None, :] - others[None, :, :]) ** 2, axis=2)
        kernel = xp.exp(-distances / 0.5)
        share = 1 / len(others)
        v = np.ones(len(others))
        for _ in range(30):
            u = share / (kernel @ v)
            v = share / (kernel.T @ u)
        return xp.sum(u[:, None] * kernel * v[None, :] * distances)

    return cost


def two_clouds(generator: np.random.Generator) -> tuple[Any, ...]:
    return generator.standard_normal((60, 2)), 0.5 + generator.standard_normal((60, 2))


# ------------------------------------------------------------------ Kalman filter

TRANSITION = np.array([[1.0, 0, 0.1, 0], [0, 1, 0, 0.1], [0, 0, 1, 0], [0, 0, 0, 1]])
OBSERVED = np.eye(2, 4)


def kalman_step(xp: Any, q: Any, r: Any, state: Any, y: Any) -> Any:
    """Predict and update; (mean, covariance), and minus the log likelihood of y."""
    mean, covariance = state
    mean = TRANSITION @ mean
    covariance = TRANSITION @ covariance @ TRANSITION.T + q
    surprise = y - OBSERVED @ mean
    spread = OBSERVED @ covariance @ OBSERVED.T + r
    gain = xp.linalg.solve(spread, OBSERVED @ covariance).T
    loss = 0.5 * (surprise @ xp.linalg.solve(spread, surprise) + xp.linalg.slogdet(spread)[1])
    return (mean + gain @ surprise, covariance - gain @ OBSERVED @ covariance), loss


def kalman(xp: Any) -> Callable[..., Any]:
    def loss(logs: Any, track: Any) -> Any:
        """logs: logarithms of the standard deviations of motion and of measurement."""
        q, r = xp.exp(2 * logs[0]) * np.eye(4), xp.exp(2 * logs[1]) * np.eye(2)
        state, total = (np.zeros(4), np.eye(4)), 0.0
        for y in track:
            state, term = kalman_step(xp, q, r, state, y)
            total = total + term
        return total

    return loss


def track_of_50(generator: np.random.Generator) -> tuple[Any, ...]:
    state, track = np.array([0.0, 0, 1, 0.5]), []
    for _ in range(50):
        state = TRANSITION @ state + 0.1 * generator.standard_normal(4)
        track.append(OBSERVED @ state + 0.3 * generator.standard_normal(2))
    return np.log([0.1, 0.3]), np.array(track)


# ------------------------------------------------------------------ a gradient for each sample


def sample_loss(xp: Any) -> Callable[..., Any]:
    def loss(parameters: Any, x: Any, y: Any) -> Any:
        return xp.sum((tanh_net(xp, parameters, x) - y) ** 2)

    return loss


def samples(generator: np.random.Generator) -> tuple[Any, ...]:
    sizes = (20, 64, 64, 2)
    parameters = []
    for wide, narrow in pairwise(sizes):
        parameters += [generator.standard_normal((wide, narrow)) / wide**0.5, np.zeros(narrow)]
    return parameters, generator.standard_normal((64, 20)), generator.standard_normal((64, 2))


FUNCTIONS = {
    function.key: function
    for function in (
        Function("gradient", "Rosenbrock-100, gradient", rosenbrock, rosenbrock_point),
        Function("hessian", "Rosenbrock-100, Hessian", rosenbrock, rosenbrock_point, "hessian"),
        Function("gp", "Gaussian process, n = 100", gaussian_process, noisy_sine),
        Function("logistic", "logistic Hessian 2000 x 8", logistic, two_classes, "hessian"),
        Function("pinn", "PINN with u'', 100 points", pinn, pinn_start),
        Function("sinkhorn", "Sinkhorn 60 x 60 x 30", sinkhorn, two_clouds),
        Function("kalman", "Kalman likelihood, 50 steps", kalman, track_of_50),
        Function(
            "samples", "gradients of 64 samples, MLP 20-64-64-2",
            sample_loss, samples, "sample gradients",
        ),
    )
}  # fmt: skip


def arguments_of(key: str) -> tuple[Any, ...]:
    return FUNCTIONS[key].arguments(np.random.default_rng(0))


def arrays(value: Any) -> dict[str, np.ndarray]:
    """The arrays of nested tuples and lists, numbered."""
    if isinstance(value, (tuple, list)):
        leaves = [leaf for part in value for leaf in arrays(part).values()]
    else:
        leaves = [np.array(value)]
    return {f"result {i}": leaf for i, leaf in enumerate(leaves)}


def called(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Work:
    step = partial(function, *arguments)
    return Work(step, lambda: arrays(step()))


def ours(key: str, compiled: bool = False) -> Work:
    import tinygrad_kr as tk

    row = FUNCTIONS[key]
    function = row.make(np)
    if row.derivative == "gradient":
        derivative = tk.value_and_grad(function)
    elif row.derivative == "hessian":
        derivative = tk.hessian(function)
    else:
        derivative = tk.vmap(tk.grad(function), in_axes=(None, 0, 0))
    return called(tk.compile(derivative) if compiled else derivative, arguments_of(key))


def hips(key: str) -> Work | None:
    import autograd
    import autograd.numpy as anp

    row = FUNCTIONS[key]
    if row.derivative == "sample gradients":
        return None
    function = pinn_hips(anp) if key == "pinn" else row.make(anp)
    make = {"gradient": autograd.value_and_grad, "hessian": autograd.hessian}[row.derivative]
    return called(make(function), arguments_of(key))
