"""The functions of `science.py` in JAX: float64, and `lax.scan` where its users take it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.linalg import cho_solve

from workloads.science import FUNCTIONS, arguments_of, called, kalman_step, tanh_net
from workloads.work import Work

__all__ = ["work"]


def gaussian_process(logs: Any, x: Any, y: Any) -> Any:
    squares = (x[:, None] - x[None, :]) ** 2
    kernel = jnp.exp(2 * logs[1] - 0.5 * squares * jnp.exp(-2 * logs[0]))
    root = jnp.linalg.cholesky(kernel + jnp.exp(2 * logs[2]) * jnp.eye(len(x)))
    return 0.5 * y @ cho_solve((root, True), y) + jnp.sum(jnp.log(jnp.diagonal(root)))


def pinn(parameters: Any, x: Any) -> Any:
    def u(point: Any) -> Any:
        return tanh_net(jnp, parameters, point[None])[0]

    curvature = jax.vmap(jax.grad(jax.grad(u)))(x[:, 0])
    residual = curvature + np.pi**2 * jnp.sin(np.pi * x[:, 0])
    ends = jax.vmap(u)(jnp.array([0.0, 1.0]))
    return jnp.mean(residual**2) + jnp.sum(ends**2)


def sinkhorn(points: Any, others: Any) -> Any:
    distances = jnp.sum((points[:, None, :] - others[None, :, :]) ** 2, axis=2)
    kernel = jnp.exp(-distances / 0.5)
    share = 1 / len(others)

    def iteration(state: Any, _: Any) -> Any:
        u = share / (kernel @ state[1])
        return (u, share / (kernel.T @ u)), None

    (u, v), _ = lax.scan(iteration, (jnp.ones(len(points)), jnp.ones(len(others))), length=30)
    return jnp.sum(u[:, None] * kernel * v[None, :] * distances)


def kalman(logs: Any, track: Any) -> Any:
    q, r = jnp.exp(2 * logs[0]) * jnp.eye(4), jnp.exp(2 * logs[1]) * jnp.eye(2)
    step = partial(kalman_step, jnp, q, r)
    return lax.scan(step, (jnp.zeros(4), jnp.eye(4)), track)[1].sum()


OWN: dict[str, Callable[..., Any]] = {
    "gp": gaussian_process,
    "pinn": pinn,
    "sinkhorn": sinkhorn,
    "kalman": kalman,
}


def work(key: str) -> Work:
    jax.config.update("jax_enable_x64", True)
    row = FUNCTIONS[key]
    function = OWN.get(key) or row.make(jnp)
    if row.derivative == "gradient":
        derivative = jax.value_and_grad(function)
    elif row.derivative == "hessian":
        derivative = jax.hessian(function)
    else:
        derivative = jax.vmap(jax.grad(function), in_axes=(None, 0, 0))
    compiled = jax.jit(derivative)

    def numpy_in_and_out(*arguments: Any) -> Any:
        return jax.tree.map(np.asarray, compiled(*arguments))

    return called(numpy_in_and_out, arguments_of(key))
