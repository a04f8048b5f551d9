"""Integers and booleans count as float32 in functions whose results have a fraction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.ops import elementwise

DTYPES = [bool, np.int8, np.uint8, np.int16, np.int32, np.int64]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=[np.dtype(d).name for d in DTYPES])

UNARY = {
    "arccos": np.arccos, "arcsin": np.arcsin, "arcsinh": np.arcsinh, "arctan": np.arctan,
    "cbrt": np.cbrt, "cos": np.cos, "cosh": np.cosh, "deg2rad": np.deg2rad, "exp": np.exp,
    "exp2": np.exp2, "expm1": np.expm1, "log1p": np.log1p, "rad2deg": np.rad2deg,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "sin": np.sin, "sinh": np.sinh,
    "softplus": lambda x: np.logaddexp(x, 0), "sqrt": np.sqrt, "tan": np.tan, "tanh": np.tanh,
    "erf": lambda x: np.where(x > 0, 0.8427007929497148, 0.0),
}  # fmt: skip


@every_dtype
@pytest.mark.parametrize("name", UNARY)
def test_functions_have_the_precision_of_float32(name: str, dtype: Any) -> None:
    f = getattr(tk, name)
    x = np.array([1, 0, 1], dtype)
    expected = UNARY[name](x.astype(np.float64))
    for given in (Tensor(x), Tensor(x[0]), Tensor(x[:0])):
        assert f(given).dtype == np.float32
    np.testing.assert_allclose(f(Tensor(x)).data, expected, rtol=3e-7, atol=1e-8)


@every_dtype
@pytest.mark.parametrize("name", ["arctan2", "hypot", "logaddexp", "logaddexp2", "divide"])
def test_functions_of_two_have_the_precision_of_float32(name: str, dtype: Any) -> None:
    f, x, y = getattr(elementwise, name), np.array([1, 0, 1], dtype), np.ones(3, dtype)
    expected = getattr(np, name)(x.astype(np.float64), y.astype(np.float64))
    for found in (f(Tensor(x), Tensor(y)), f(Tensor(x), y)):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found.data, expected, rtol=2e-7)


@every_dtype
@pytest.mark.parametrize("name", ["mean", "std", "var", "logsumexp"])
def test_reductions_have_the_precision_of_float32(name: str, dtype: Any) -> None:
    x = np.array([1, 0, 1], dtype)
    found = getattr(Tensor(x), name)()
    assert found.dtype == np.float32
    expected = getattr(Tensor(x.astype(np.float64)), name)()
    np.testing.assert_allclose(found.data, expected.data, rtol=2e-7)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_no_warning_of_a_narrower_float(dtype: Any) -> None:
    """exp2(100) is no float16, and -x no uint8."""
    x = np.array([1, 0, 100], dtype)
    assert tk.exp2(Tensor(x)).tolist() == [2.0, 1.0, 2.0**100]
    np.testing.assert_allclose(tk.sigmoid(Tensor(x)).data, 1 / (1 + np.exp(-x.astype(float))))
    np.testing.assert_allclose(tk.softplus(Tensor(x)).data, np.logaddexp(x.astype(float), 0))
    with pytest.warns(RuntimeWarning, match="overflow"):  # e^100 is no float32 either
        assert tk.exp(Tensor(x)).tolist()[2] == np.inf


def test_division_of_integers_by_0_still_warns() -> None:
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        _ = Tensor([1, 2]) // Tensor([0, 1])
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        tk.log(Tensor([0, 1]))


def test_sign_of_booleans_is_boolean() -> None:
    """As torch.sign."""
    for f in (tk.sign, np.sign):
        found = f(Tensor([True, False]))
        assert (found.dtype, found.tolist()) == (np.bool_, [True, False])
    assert np.sign(Tensor([-2, 0])).tolist() == [-1, 0]


def test_powers_of_booleans_are_int64() -> None:
    """NumPy's are int8: 200 times one overflowed."""
    x = Tensor([True, False])
    for f in (tk.square, lambda x: x**x, Tensor.square):
        y = f(x)
        assert y.dtype == np.int64 and (y * 200).tolist() == [200, 200 * int(y[1])]
    compiled = tk.compile(tk.square)
    for _ in range(3):
        assert compiled(x).dtype == np.int64 and (compiled(x) * 200).tolist() == [200, 0]
    assert compiled.programs


@every_dtype
def test_sums_and_products_have_the_dtype_that_is_asked_for(dtype: Any) -> None:
    """NumPy's of narrow integers and booleans are int64."""
    x = Tensor([[1, 2], [0, 3]])
    for f, expected in ((tk.sum, [3, 3]), (tk.prod, [2, 0])):
        for axis in (1, None):
            assert f(x, axis, dtype=dtype).dtype == dtype
        assert f(x, 1, dtype=dtype).tolist() == [dtype(number) for number in expected]


def test_reciprocals_of_integers_are_floats() -> None:
    """As torch.reciprocal; NumPy's are 0."""
    for x in (Tensor([2, -4]), Tensor(np.array([2, -4], np.int8))):
        compiled = tk.compile(tk.reciprocal)
        for found in (tk.reciprocal(x), x.reciprocal(), *(compiled(x) for _ in range(3))):
            assert (found.dtype, found.tolist()) == (np.float32, [0.5, -0.25])


def test_heaviside_keeps_the_dtype_of_integers() -> None:
    """As torch.heaviside."""
    x = Tensor([-1, 0, 2])
    y = tk.heaviside(x, Tensor([5, 5, 5]))
    assert (y.dtype, y.tolist()) == (np.int64, [0, 5, 1])
    y = tk.heaviside(Tensor([True, False, False]), Tensor([False, True, False]))
    assert (y.dtype, y.tolist()) == (np.bool_, [True, True, False])
    y = tk.heaviside(x, 0.5)
    assert (y.dtype, y.tolist()) == (np.float32, [0.0, 0.5, 1.0])


def test_conditions_and_indices_keep_their_dtype() -> None:
    assert tk.where(Tensor([True, False]), 1.5, 2).tolist() == [1.5, 2.0]
    found = tk.functional.cross_entropy(Tensor([[1, 3], [2, 2]]).float(), Tensor([0, 1]))
    assert found.dtype == np.float32


def test_a_mask_times_floats_keeps_their_dtype() -> None:
    mask = Tensor([True, False])
    for dtype in (np.float16, np.float32, np.float64):
        assert (mask * Tensor(np.ones(2, dtype))).dtype == dtype
        assert np.hypot(mask, Tensor(np.ones(2, dtype))).dtype == dtype


@every_dtype
def test_compiled_functions_of_integers(dtype: Any) -> None:
    f = tk.compile(lambda x: (tk.exp(x), tk.sigmoid(x), x.mean(), tk.softplus(x), tk.sign(x)))
    x = Tensor(np.array([1, 0, 1], dtype))
    for _ in range(3):
        found = f(x)
        assert [y.dtype for y in found[:4]] == [np.float32] * 4
        np.testing.assert_allclose(found[0].data, np.exp(x.data.astype(float)), rtol=2e-7)
        np.testing.assert_allclose(found[1].data, 1 / (1 + np.exp(-x.data.astype(float))))
        assert found[4].dtype == dtype
