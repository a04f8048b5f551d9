"""`F.interpolate` as one weighted read per axis: in C, in NumPy, and composed of ops in a trace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy import ndarray

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr.native.build import find_compiler
from tinygrad_kr.ops import indexing, kernels

needs_c = pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler")
MODES = {
    "nearest": (4, 6, 12, 20), "nearest-exact": (4, 6, 12, 20), "bilinear": (4, 6, 12, 20),
    "bicubic": (4, 6, 12, 20), "linear": (8, 6, 60), "trilinear": (2, 3, 6, 12, 10),
}  # fmt: skip


def value_and_gradient(x: ndarray, **options: Any) -> tuple[Any, ndarray, ndarray]:
    leaf = tk.tensor(x, requires_grad=True)
    y = F.interpolate(leaf, **options)
    g = np.random.default_rng(1).standard_normal(y.shape).astype(x.dtype)
    y.backward(tk.tensor(g))
    return y._op, y.detach().numpy(), leaf.grad.numpy()


@needs_c
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [2, 0.6])
@pytest.mark.parametrize("mode", MODES)
def test_kernel_numpy_and_composition_agree(mode: str, scale: float, dtype: Any) -> None:
    x = np.random.default_rng(0).standard_normal(MODES[mode]).astype(dtype)
    assert kernels.kernels("resample", x) is not None
    record, *found = value_and_gradient(x, scale_factor=scale, mode=mode)
    assert record is indexing.take_weighted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "resample", lambda *_: None)
        _, *by_numpy = value_and_gradient(x, scale_factor=scale, mode=mode)
        patch.setattr("tinygrad_kr.functional.interpolation._IN_ONE_PASS", ())
        other, *composed = value_and_gradient(x, scale_factor=scale, mode=mode)
    assert other is not indexing.take_weighted
    tolerance = 32 * np.finfo(dtype).eps
    for expected in (by_numpy, composed):
        for one, same in zip(found, expected, strict=True):
            assert one.dtype == dtype
            np.testing.assert_allclose(one, same, rtol=tolerance, atol=4 * tolerance)


def test_views_and_second_derivatives() -> None:
    x = np.random.default_rng(0).standard_normal((12, 20, 6, 4)).T

    def value(x: Any) -> Any:
        return (F.interpolate(x, size=(9, 31), mode="bicubic") ** 3).sum()

    tangent = np.random.default_rng(2).standard_normal(x.shape)
    (found,) = tk.hvp(value, (x,), (tangent,))
    step = 1e-5
    slopes = [tk.grad(value)(x + sign * step * tangent) for sign in (1, -1)]
    np.testing.assert_allclose(found, (slopes[0] - slopes[1]) / (2 * step), rtol=1e-5, atol=1e-5)


def test_a_trace_records_the_composition() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 10)).astype(np.float32)
    expected = F.interpolate(tk.tensor(x), scale_factor=2, mode="bilinear").numpy()
    step = tk.compile(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"))
    for _ in range(3):
        np.testing.assert_allclose(step(tk.tensor(x)).numpy(), expected, rtol=1e-5, atol=1e-6)
    by_rows = tk.vmap(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"))(x[:, None])
    np.testing.assert_allclose(by_rows[:, 0], expected, rtol=1e-5, atol=1e-6)


def test_integers_and_halves_take_the_composition() -> None:
    x = np.arange(12).reshape(1, 1, 3, 4)
    found = F.interpolate(tk.tensor(x), scale_factor=2, mode="nearest")
    np.testing.assert_array_equal(found.numpy(), x.repeat(2, 2).repeat(2, 3))
    assert found.dtype.kind == "i"
    half = F.interpolate(tk.tensor(x.astype(np.float16)), scale_factor=2, mode="bilinear")
    assert half.dtype == np.float16
