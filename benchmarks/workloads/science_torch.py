"""The functions of `science.py` in PyTorch, eager and by `torch.compile`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from workloads.science import FUNCTIONS, OBSERVED, TRANSITION, arguments_of, called
from workloads.work import Work

__all__ = ["compiled", "work"]


def rosenbrock(x: Any) -> Any:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def gaussian_process(logs: Any, x: Any, y: Any) -> Any:
    squares = (x[:, None] - x[None, :]) ** 2
    kernel = torch.exp(2 * logs[1] - 0.5 * squares * torch.exp(-2 * logs[0]))
    kernel = kernel + torch.exp(2 * logs[2]) * torch.eye(len(x), dtype=x.dtype)
    root = torch.linalg.cholesky(kernel)
    solved = torch.cholesky_solve(y[:, None], root)[:, 0]
    return 0.5 * y @ solved + root.diagonal().log().sum()


def logistic(w: Any, x: Any, y: Any) -> Any:
    logits = x @ w
    return (torch.nn.functional.softplus(logits, threshold=700) - y * logits).sum()


def tanh_net(parameters: Any, x: Any) -> Any:
    w1, b1, w2, b2, w3, b3 = parameters
    return torch.tanh(torch.tanh(x @ w1 + b1) @ w2 + b2) @ w3 + b3


def pinn(parameters: Any, x: Any) -> Any:
    x = x.detach().requires_grad_()
    u = tanh_net(parameters, x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
    residual = curvature + np.pi**2 * torch.sin(np.pi * x)
    ends = tanh_net(parameters, x.new_tensor([[0.0], [1.0]]))
    return (residual**2).mean() + (ends**2).sum()


def sinkhorn(points: Any, others: Any) -> Any:
    distances = ((points[:, None, :] - others[None, :, :]) ** 2).sum(2)
    kernel = torch.exp(-distances / 0.5)
    share = 1 / len(others)
    v = torch.ones(len(others), dtype=points.dtype)
    for _ in range(30):
        u = share / (kernel @ v)
        v = share / (kernel.T @ u)
    return (u[:, None] * kernel * v[None, :] * distances).sum()


def kalman(logs: Any, track: Any) -> Any:
    transition, observed = torch.from_numpy(TRANSITION), torch.from_numpy(OBSERVED)
    q = torch.exp(2 * logs[0]) * torch.eye(4, dtype=track.dtype)
    r = torch.exp(2 * logs[1]) * torch.eye(2, dtype=track.dtype)
    mean, covariance = torch.zeros(4, dtype=track.dtype), torch.eye(4, dtype=track.dtype)
    total = 0.0
    for y in track:
        mean = transition @ mean
        covariance = transition @ covariance @ transition.T + q
        surprise = y - observed @ mean
        spread = observed @ covariance @ observed.T + r
        gain = torch.linalg.solve(spread, observed @ covariance).T
        fit = surprise @ torch.linalg.solve(spread, surprise)
        total = total + 0.5 * (fit + torch.linalg.slogdet(spread)[1])
        mean, covariance = mean + gain @ surprise, covariance - gain @ observed @ covariance
    return total


def sample_loss(parameters: Any, x: Any, y: Any) -> Any:
    return ((tanh_net(parameters, x) - y) ** 2).sum()


OWN: dict[str, Callable[..., Any]] = {
    "gradient": rosenbrock,
    "hessian": rosenbrock,
    "gp": gaussian_process,
    "logistic": logistic,
    "pinn": pinn,
    "sinkhorn": sinkhorn,
    "kalman": kalman,
    "samples": sample_loss,
}


def tensors(value: Any) -> Any:
    return [tensors(v) for v in value] if isinstance(value, list) else torch.from_numpy(value)


def value_and_gradient(function: Callable[..., Any], *arguments: Any) -> Any:
    first, *others = map(tensors, arguments)
    wanted = first if isinstance(first, list) else [first]
    for tensor in wanted:
        tensor.requires_grad_()
    value = function(first, *others)
    gradients = torch.autograd.grad(value, wanted)
    return value.detach().numpy(), *(g.numpy() for g in gradients)


def hessian(function: Callable[..., Any], *arguments: Any) -> Any:
    first, *others = map(tensors, arguments)
    return torch.autograd.functional.hessian(lambda x: function(x, *others), first).numpy()


def sample_gradients(derivative: Callable[..., Any], *arguments: Any) -> Any:
    return [g.numpy() for g in derivative(*map(tensors, arguments))]


def work(key: str, wrap: Callable[[Any], Any] = lambda function: function) -> Work:
    row, function = FUNCTIONS[key], OWN[key]
    if row.derivative == "gradient":
        return called(partial(value_and_gradient, wrap(function)), arguments_of(key))
    if row.derivative == "hessian":
        return called(partial(hessian, wrap(function)), arguments_of(key))
    derivative = torch.func.vmap(torch.func.grad(function), in_dims=(None, 0, 0))
    return called(partial(sample_gradients, wrap(derivative)), arguments_of(key))


def compiled(key: str) -> Work | None:
    """None for what `torch.compile` does not do: second derivatives of a compiled function."""
    torch._logging.set_logs(all=logging.ERROR)
    if FUNCTIONS[key].derivative == "hessian" or key == "pinn":
        return None
    return work(key, torch.compile)
