"""Sums and products of float16 are carried in float32, forward, backward and compiled.

In float16 2048 + 1 is 2048, and 65,520 is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy import ndarray

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr import functional as F

HALF = np.float16
N = 5000
ONES = np.ones((N, 2), HALF)
SIGNS = Tensor(np.where(np.arange(N) % 2, 1, -1)[:, None].astype(HALF))
LARGE_THEN_SMALL = Tensor(np.repeat([2.0**8, 2.0**-8, 1], [10, 10, N - 20])[:, None].astype(HALF))
ZEROS = np.zeros(N, int)
NOTHING = Tensor(np.zeros((1, 1), HALF))

FORWARD: dict[str, tuple[Callable[[Any], Any], float]] = {
    "sum": (lambda x: x.sum(0), N),
    "sum of several axes": (lambda x: x.sum((0, 1)), 2 * N),
    "sum that passes 65,504": (lambda x: (x * 60_000 * SIGNS).sum(0), 0),
    "mean": (lambda x: (x * 30_000).mean(0), 30_000),
    "var": (lambda x: (x * 200 * SIGNS).var(0, ddof=0), 40_000),
    "std": (lambda x: (x * 300 * SIGNS).std(0, ddof=0), 300),
    "norm": (lambda x: np.linalg.norm(x * 300, axis=0), 300 * math.sqrt(N)),
    "cumsum": (lambda x: x.cumsum(0)[-1], N),
    "prod": (lambda x: (x * LARGE_THEN_SMALL).prod(0), 1),
    "cumprod": (lambda x: (x * (1 + 2**-10)).cumprod(0)[999], (1 + 2**-10) ** 1000),
    "logsumexp": (lambda x: x.logsumexp(0), math.log(N) + 1),
    "softmax": (lambda x: F.softmax(x, 0)[0], 1 / N),
    "log_softmax": (lambda x: F.log_softmax(x, 0)[0], -math.log(N)),
    "cross_entropy": (lambda x: F.cross_entropy(x.T, Tensor([0, 0])), math.log(N)),
    "matmul": (lambda x: x.T @ x, N),
    "linear": (lambda x: F.linear(x.T, x.T), N),
    "einsum": (lambda x: tk.einsum("ij,ij->j", x, x), N),
    "trapezoid": (lambda x: np.trapezoid(x, axis=0), N - 1),
    "avg_pool1d": (lambda x: F.avg_pool1d((x * 30).T, N), 30),
    "conv1d": (lambda x: F.conv1d(x.T[None], Tensor(np.ones((1, 2, N), HALF))), 2 * N),
    "scatter_add": (lambda x: tk.scatter_add(NOTHING, 0, ZEROS[:, None], x[:, :1]), N),
}


@pytest.mark.parametrize("name", FORWARD)
def test_forward(name: str) -> None:
    f, expected = FORWARD[name]
    compiled = tk.compile(f)
    for found in (f(Tensor(ONES)), *(compiled(Tensor(ONES)) for _ in range(3))):
        assert found.dtype == HALF
        np.testing.assert_allclose(found.data.astype(float), expected, rtol=1e-3, atol=1e-3)


def ones(*shape: int) -> Tensor:
    return Tensor(np.ones(shape, HALF))


BACKWARD: dict[str, tuple[Callable[[Any], Any], ndarray, float]] = {
    "broadcasting": (lambda a: a + ones(N), np.ones(1, HALF), N),
    "broadcasting of several axes": (lambda a: a * ones(N, 3), np.ones((1, 1), HALF), 3 * N),
    "expand": (lambda a: a.expand(N), np.ones(1, HALF), N),
    "an index": (lambda a: a[ZEROS], np.ones(1, HALF), N),
    "rows": (lambda a: a[ZEROS], np.ones((1, 2), HALF), N),
    "take_along_axis": (lambda a: np.take_along_axis(a, ZEROS, 0), np.ones(1, HALF), N),
    "embedding": (lambda a: F.embedding(Tensor(ZEROS), a), np.ones((1, 2), HALF), N),
    "many uses": (lambda a: sum((a for _ in range(3000)), a * 0), np.ones(1, HALF), 3000),
    "many slices": (lambda a: sum((a[:1] for _ in range(3000)), a * 0), np.ones(1, HALF), 3000),
    "ties of max": (lambda a: a.max(axis=0) * 60_000, np.ones(70_000, HALF), 60_000 / 70_000),
    "softmax": (
        lambda a: F.softmax(a, 0) * Tensor((np.arange(N) < N // 2).astype(HALF)) * N,
        np.zeros(N, HALF),
        math.nan,
    ),
    "weight of linear": (lambda a: F.linear(ones(N, 1), a), np.ones((1, 1), HALF), N),
    "bias of linear": (lambda a: F.linear(ones(N, 1), ones(1, 1), a), np.ones(1, HALF), N),
    "weight of conv": (lambda a: F.conv1d(ones(1, 1, N), a), np.ones((1, 1, 1), HALF), N),
    "bias of conv": (
        lambda a: F.conv1d(ones(1, 1, N), ones(1, 1, 1), a), np.ones(1, HALF), N,
    ),
    "cumsum": (lambda a: a.cumsum(0)[:, None] * ones(1, 1), np.ones(N, HALF), math.nan),
}  # fmt: skip


@pytest.mark.parametrize("name", BACKWARD)
def test_backward(name: str) -> None:
    """Gradients with `backward`, recorded and compiled; NaN: those of float64 are expected."""
    f, at, given = BACKWARD[name]
    expected: Any = given
    if math.isnan(given):
        x = Tensor(at.astype(np.float64), requires_grad=True)
        f(x).sum().backward()
        assert x.grad is not None
        expected = x.grad.data
    x = Tensor(at, requires_grad=True)
    with np.errstate(over="ignore"):
        f(x).sum().backward()
        (recorded,) = tk.autograd.grad(f(x).sum(), x, create_graph=True)
    assert x.grad is not None
    found = [x.grad.data, recorded.data]
    if not name.startswith("many"):

        @tk.compile
        def step(x: Any) -> Any:
            leaf = x.detach().requires_grad_()
            f(leaf).sum().backward()
            return leaf.grad

        with np.errstate(over="ignore"):
            found += [step(Tensor(at)).data for _ in range(3)]
    for g in found:
        assert (g.dtype, g.shape) == (HALF, at.shape)
        np.testing.assert_allclose(g.astype(float), np.broadcast_to(expected, g.shape), rtol=2e-3)


def test_hooks_and_retained_gradients_are_float16() -> None:
    seen: list[Any] = []
    x = Tensor(np.ones(3, HALF), requires_grad=True)
    y = x * 2
    y.register_hook(lambda g: seen.append(g.dtype))
    x.register_hook(lambda g: seen.append(g.dtype))
    y.retain_grad()
    (y * 3).sum().backward()
    assert x.grad is not None and y.grad is not None
    assert [*seen, x.grad.dtype, y.grad.dtype] == [HALF] * 4
    assert all(g.dtype == HALF for g in tk.autograd.grad((x * 2 * x).sum(), [x]))


def test_a_cotangent_between_two_dtypes() -> None:
    x = Tensor(np.ones(3, HALF), requires_grad=True)
    (x.double() * x.float()).sum().backward()
    assert x.grad is not None
    assert (x.grad.dtype, x.grad.tolist()) == (HALF, [2.0] * 3)
