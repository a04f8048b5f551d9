"""Functions composed of ops, compiled: values and gradients of the eager run.

What only asks a Tensor for its shape or dtype keeps no function from being compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import backend as backend
from harness import compare, settled

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor

X = np.random.default_rng(2).normal(size=(3, 4))
Y = np.random.default_rng(3).normal(size=(3, 4))
INDEX = np.array([[0, 1, 1, 2], [2, 0, 0, 1], [3, 3, 3, 3]])

DIFFERENTIABLE: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "addmm": lambda x, y: tk.addmm(x[0], x, y.T @ x, beta=0.5, alpha=2.0),
    "addcdiv": lambda x, y: x.addcdiv(y, 2.0 + y * y, value=0.3),
    "lerp": lambda x, y: x.lerp(y, x * y),
    "fmod": lambda x, y: x.fmod(0.3) + tk.copysign(x, y) + tk.heaviside(x, y),
    "rot90": lambda x, y: tk.rot90(x) @ y,
    "scatter": lambda x, y: x.scatter(1, INDEX, y),
    "scatter_reduce mean": lambda x, y: x.scatter_reduce(1, INDEX, y, "mean"),
    "scatter_reduce amax": lambda x, y: x.scatter_reduce(1, INDEX, y, "amax", include_self=False),
    "scatter_reduce prod": lambda x, y: x.scatter_reduce(1, INDEX, y, "prod"),
    "nanmean": lambda x, y: tk.where(x > 1, np.nan, x).nanmean(0) + y.nansum(1, keepdim=True),
    "var_mean": lambda x, y: sum(tk.var_mean(x, 1)) + sum(tk.std_mean(y, 1)),
    "cov": lambda x, y: tk.cov(x) + tk.corrcoef(y),
    "cdist": lambda x, y: tk.cdist(x, y),
    "interpolate": lambda x, y: F.interpolate(x[None], size=7, mode="linear"),
    "bicubic": lambda x, y: F.interpolate((x * y)[None, None], size=(5, 3), mode="bicubic"),
    "np.interp": lambda x, y: np.interp(x, [-1.0, 0.0, 1.0], y[0, :3]),
    "np.polyval": lambda x, y: np.polyval(y[0], x),
    "np.sum": lambda x, y: np.sum(x, 1, where=y > 0, initial=1.0) + np.mean(y, 1, where=x > -9),
    "np.maximum.accumulate": lambda x, y: np.maximum.accumulate(x, 1) + np.minimum.accumulate(y),
}
CONSTANT: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "isclose": lambda x, y: tk.isclose(x, y, atol=0.5),
    "np.isclose": lambda x, y: np.isclose(x, x + 0.5 * y, 0.1),
    "searchsorted": lambda x, y: tk.searchsorted([-0.5, 0.0, 0.5], x, right=True),
    "bucketize": lambda x, y: tk.bucketize(x, y[0] * 0 + Tensor(np.arange(4.0))),
    "histc": lambda x, y: tk.histc(x, 5, -1, 1),
    "histogram": lambda x, y: tk.histogram(x, 5, weight=y).hist,
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_values_and_gradients_are_those_of_the_eager_run(name: str, backend: str) -> None:
    def step(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
        found = DIFFERENTIABLE[name](x, y)
        loss = (found * np.linspace(0.5, 1.5, found.size).reshape(found.shape)).sum()
        gradients = tk.autograd.grad(loss, [x, y], materialize_grads=True)
        return (found.detach(), *gradients)

    compare(step, Tensor(X), Tensor(Y))


@pytest.mark.parametrize("name", CONSTANT)
def test_constants_are_computed_anew_at_each_call(name: str, backend: str) -> None:
    compare(CONSTANT[name], Tensor(X), Tensor(Y))


@pytest.mark.parametrize("reduce", [None, "sum", "mean", "amax", "amin"])
def test_an_index_that_is_an_argument_is_read_at_each_call(
    reduce: str | None, backend: str
) -> None:
    def step(x: Tensor, y: Tensor, index: Tensor) -> tuple[Tensor, ...]:
        x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
        found = (
            x.scatter(1, index, y)
            if reduce is None
            else x.scatter_reduce(1, index, y, reduce, include_self=False)
        )
        return (found.detach(), *tk.autograd.grad((found * found).sum(), [x, y]))

    compiled = tk.compile(step)
    for shift in range(5):
        given = Tensor(X), Tensor(Y), Tensor((INDEX + shift) % 4)
        for found, expected in zip(compiled(*given), step(*given), strict=True):
            np.testing.assert_allclose(found.data, expected.data, rtol=1e-12)
    assert compiled.explain() == "every call is compiled"


@pytest.mark.parametrize(
    "name",
    [
        "shape", "ndim", "size", "result_type", "common_type", "iscomplexobj", "isrealobj",
        "zeros_like", "ones_like", "empty_like",
    ],
)  # fmt: skip
def test_shapes_and_dtypes_keep_no_function_from_being_compiled(name: str) -> None:
    function = getattr(np, name)

    def step(x: Tensor) -> Tensor:
        function(x)
        return x * 2

    compiled = tk.compile(step)
    for size in (2, 3, 2):
        assert settled(compiled, Tensor(np.ones(size))).tolist() == [2.0] * size
    assert compiled.explain() == "every call is compiled"


def test_what_numpy_says_of_a_shape_is_used_as_a_number() -> None:
    def mean(x: Tensor) -> Tensor:
        return x.sum() / np.size(x) + np.zeros_like(x).sum() + np.ones_like(x)[0] * np.ndim(x)

    compiled = tk.compile(mean)
    for size in (2, 3, 2, 4):
        x = np.arange(float(size))
        assert settled(compiled, Tensor(x)).item() == x.mean() + 1
    assert compiled.explain() == "every call is compiled"


def test_a_leaf_is_written_in_place_in_a_compiled_step(backend: str) -> None:
    def step(w: Tensor, x: Tensor) -> Tensor:
        loss = ((w * x) ** 2).sum()
        loss.backward()
        with tk.no_grad():
            assert w.grad is not None
            w.sub_(w.grad, alpha=0.1)
            w.clamp_(-1, 1)
            w.grad.zero_()
        return loss.detach()

    plain, quick = (Tensor(X.copy(), requires_grad=True) for _ in range(2))
    compiled = tk.compile(lambda x: step(quick, x))
    for i in range(5):
        expected = step(plain, Tensor(Y * i))
        found = compiled(Tensor(Y * i))
        np.testing.assert_allclose(found.data, expected.data, rtol=1e-12)
        np.testing.assert_allclose(quick.data, plain.data, rtol=1e-12)
    assert compiled.explain() == "every call is compiled"
