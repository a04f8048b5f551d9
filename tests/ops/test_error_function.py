"""The error function in blocks: accuracy, ends, sizes, layouts; and GELU, which is built on it."""

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
from tinygrad_kr.ops.error_function import _BLOCK, _MIN_SIZE

every_float = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def exact(x: ndarray) -> ndarray:
    return np.fromiter(map(math.erf, x.ravel().tolist()), np.float64).reshape(x.shape)


def errors(x: ndarray) -> ndarray:
    """In units in the last place of `math.erf`, which has up to one itself for float64."""
    expected = exact(x)
    unit = np.spacing(np.abs(expected).astype(x.dtype)).astype(np.float64)
    found: ndarray = np.abs(tk.erf(Tensor(x)).data - expected) / unit
    return found


@every_float
def test_accuracy(dtype: Any) -> None:
    random = np.random.default_rng(0)
    tiny = 10.0 ** random.uniform(-37 if dtype == np.float32 else -300, 0, 20_000)
    edges = [side + random.uniform(-1e-3, 1e-3, 2000) for side in (0.84375, 1.0, 3.95, 6.0)]
    x = np.concatenate([random.uniform(-6.5, 6.5, 100_000), tiny, -tiny, *edges]).astype(dtype)
    assert errors(x).max() <= (1.5 if dtype == np.float32 else 2)
    assert errors(x).mean() < 0.5


@every_float
def test_ends(dtype: Any) -> None:
    ends = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 30.0, -1e30, 7.0], dtype)
    x = np.tile(ends, _MIN_SIZE)
    found = tk.erf(Tensor(x)).data.reshape(-1, len(ends))
    np.testing.assert_array_equal(
        found, np.tile([0, -0.0, 1, -1, np.nan, 1, -1, 1], (_MIN_SIZE, 1))
    )
    assert np.signbit(found[:, 1]).all() and not np.signbit(found[:, 0]).any()
    smallest = np.finfo(dtype).smallest_subnormal
    assert (tk.erf(Tensor(np.full(_MIN_SIZE, smallest))).data == smallest).all()


@every_float
@pytest.mark.parametrize(
    "size", [0, 1, _MIN_SIZE - 1, _MIN_SIZE, _BLOCK - 1, _BLOCK, _BLOCK + 1, 2 * _BLOCK + 5]
)
def test_sizes(size: int, dtype: Any) -> None:
    x = np.linspace(-4, 4, size, dtype=dtype)
    found = tk.erf(Tensor(x)).data
    assert (found.shape, found.dtype) == (x.shape, dtype)
    np.testing.assert_allclose(found, exact(x), rtol=4 * np.finfo(dtype).eps)


LAYOUTS: dict[str, Callable[[ndarray], ndarray]] = {
    "transposed": lambda x: x.T,
    "every third": lambda x: x[::3],
    "reversed": lambda x: x[::-1, ::-1],
    "broadcast": lambda x: np.broadcast_to(x[:1], (50, 40)),
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
}


@every_float
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str, dtype: Any) -> None:
    x = LAYOUTS[name](np.random.default_rng(0).normal(size=(60, 40)).astype(dtype))
    x.flags.writeable = False
    found = np.asarray(tk.erf(x))
    assert found.shape == x.shape
    np.testing.assert_allclose(found, exact(x), rtol=4 * np.finfo(dtype).eps)


def test_float16_and_integers() -> None:
    x = np.linspace(-4, 4, 1000).astype(np.float16)
    found = tk.erf(Tensor(x)).data
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, exact(x).astype(np.float16))
    whole = Tensor(np.arange(-500, 500))
    assert tk.erf(whole).dtype == np.float32
    np.testing.assert_allclose(tk.erf(whole).data, exact(whole.data), rtol=2e-7)


# ------------------------------------------------------------------ GELU


@every_float
@pytest.mark.parametrize("size", [5, 3000])
def test_gelu_and_its_derivatives(size: int, dtype: Any) -> None:
    """x Phi, Phi + x phi, (2 - x^2) phi."""
    at = np.linspace(-5, 5, size).astype(dtype)
    at[size // 2] = 0
    phi = np.exp(-np.square(at.astype(float)) / 2) / math.sqrt(2 * math.pi)
    share = (1 + exact(at.astype(float) / math.sqrt(2))) / 2
    x = Tensor(at, requires_grad=True)
    y = F.gelu(x)
    (slope,) = tk.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = tk.autograd.grad(slope.sum(), x)
    (plain,) = tk.autograd.grad(F.gelu(x).sum(), x)
    bound = 4 * float(np.finfo(dtype).eps)
    for found, expected in (
        (y, at * share),
        (slope, share + at * phi),
        (plain, share + at * phi),
        (second, (2 - np.square(at.astype(float))) * phi),
    ):
        assert found.dtype == dtype
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=bound, atol=2 * bound)


@every_float
def test_compiled_gelu_is_eager_gelu(dtype: Any) -> None:
    @tk.compile
    def both(x: Any) -> Any:
        leaf = x.detach().requires_grad_()
        y = F.gelu(leaf)
        y.sum().backward()
        return y, leaf.grad, tk.erf(leaf)

    for seed in range(3):
        x = Tensor(np.random.default_rng(seed).normal(size=2000).astype(dtype), requires_grad=True)
        y = F.gelu(x)
        (g,) = tk.autograd.grad(y.sum(), x)
        bound = 6 * float(np.finfo(dtype).eps)
        for found, expected in zip(both(x.detach()), (y, g, tk.erf(x)), strict=True):
            np.testing.assert_allclose(
                found.detach().numpy(), expected.detach().numpy(), rtol=bound, atol=bound
            )
