"""Tensors made from nothing: NumPy's values, PyTorch's default dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.testing import check_grads

F32 = np.dtype(np.float32)


@pytest.mark.parametrize("name", ["zeros", "ones", "empty"])
def test_sizes_come_as_a_list_or_one_by_one(name: str) -> None:
    make = getattr(tk, name)
    for t in (make(2, 3), make((2, 3)), make([2, 3]), make(np.int64(2), 3)):
        assert t.shape == (2, 3)
        assert t.dtype == F32
        assert not t.requires_grad
    assert make().shape == make(()).shape == ()
    assert make(0, 3).shape == (0, 3)
    assert make(2, dtype=np.float64).dtype == np.float64
    assert make(2, dtype=np.int64).dtype == np.int64
    assert make(2, requires_grad=True).requires_grad


def test_values() -> None:
    assert tk.zeros(2).tolist() == [0.0, 0.0]
    assert tk.ones(2).tolist() == [1.0, 1.0]
    assert tk.full((2,), 3.5).tolist() == [3.5, 3.5]
    assert tk.full(2, 3.5).shape == (2,)
    assert tk.eye(2).tolist() == [[1, 0], [0, 1]]
    assert tk.eye(2, 3).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert tk.arange(4).tolist() == [0, 1, 2, 3]
    assert tk.arange(1, 4).tolist() == [1, 2, 3]
    assert tk.arange(1, 2, 0.5).tolist() == [1.0, 1.5]
    assert tk.arange(3, 0, -1).tolist() == [3, 2, 1]
    assert tk.linspace(0, 1, 5).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_default_dtypes() -> None:
    assert tk.full((2,), 1).dtype == np.int64
    assert tk.full((2,), 1.0).dtype == F32
    assert tk.full((2,), True).dtype == bool
    assert tk.full((2,), np.float64(1)).dtype == np.float64
    assert tk.full((2,), 1, dtype=np.float64).dtype == np.float64
    assert tk.arange(3).dtype == np.int64
    assert tk.arange(3.0).dtype == F32
    assert tk.arange(0, 1, 0.1).dtype == F32
    assert tk.arange(3, dtype=np.float64).dtype == np.float64
    assert tk.linspace(0, 1, 3).dtype == tk.eye(2).dtype == F32
    assert tk.linspace(0, 1, 3, dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize("make", [tk.zeros_like, tk.ones_like, tk.empty_like])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, bool])
def test_like(make: Callable[..., Tensor], dtype: Any) -> None:
    for x in (Tensor(np.ones((2, 3), dtype)), np.ones((2, 3), dtype)):
        t = make(x)
        assert t.shape == (2, 3)
        assert t.dtype == dtype
        assert not t.requires_grad
        assert make(x, dtype=np.float64, requires_grad=True).requires_grad
        assert not np.shares_memory(t.data, x)
    tracked = Tensor(np.ones(2), requires_grad=True)
    assert not make(tracked).requires_grad
    assert tk.full_like(tracked, 2.5).tolist() == [2.5, 2.5]
    assert tk.full_like(tracked, 2.5).dtype == np.float64


def test_random_like() -> None:
    x = Tensor(np.zeros((2, 3)))
    for make in (tk.rand_like, tk.randn_like):
        t = make(x, generator=np.random.default_rng(0))
        assert t.shape == (2, 3)
        assert t.dtype == np.float64
        np.testing.assert_array_equal(t.data, make(x, generator=np.random.default_rng(0)).data)


def test_tensor_copies_and_the_class_does_not() -> None:
    a = np.ones(2)
    copied, shared = tk.tensor(a), Tensor(a)
    a[0] = 5.0
    assert copied.tolist() == [1.0, 1.0]
    assert shared.tolist() == [5.0, 1.0]
    assert shared.data is a


def test_tensor_of_a_tensor_is_detached() -> None:
    x = Tensor([1.0], requires_grad=True)
    for t in (tk.tensor(x), Tensor(x), tk.tensor(x * 2)):
        assert not t.requires_grad
        assert t.is_leaf


def test_each_may_require_grad() -> None:
    for t in (
        tk.zeros(2, requires_grad=True),
        tk.full((2,), 1.0, requires_grad=True),
        tk.eye(2, requires_grad=True),
        tk.arange(2.0, requires_grad=True),
        tk.linspace(0, 1, 2, requires_grad=True),
        tk.tensor([1.0, 2.0], requires_grad=True),
        tk.rand(2, requires_grad=True),
        tk.randn(2, requires_grad=True),
    ):
        assert t.requires_grad
        (t * t).sum().backward()
        assert t.grad is not None
        np.testing.assert_array_equal(t.grad.data, 2 * t.data)


@pytest.mark.parametrize("sizes", [(2.5,), ("3",), ((2, 1.0),), (None,), (-1,)])
def test_sizes_that_are_none(sizes: Any) -> None:
    for make in (tk.zeros, tk.ones, tk.empty, tk.rand, tk.randn):
        with pytest.raises((TypeError, ValueError)):
            make(*sizes)
    with pytest.raises((TypeError, ValueError)):
        tk.full(sizes, 1.0)


def test_bad_data_is_refused_by_name() -> None:
    for data, message in (
        ("abc", "real numbers, got <U3"),
        (None, "real numbers, got object"),
        ([object()], "real numbers, got object"),
        ({1: 2}, "real numbers, got object"),
        (np.array(["2020-01-01"], "datetime64[D]"), "real numbers, got datetime64"),
    ):
        with pytest.raises(TypeError, match=message):
            Tensor(data)
    with pytest.raises(ValueError, match="inhomogeneous"):
        Tensor([[1.0], [1.0, 2.0]])


def test_as_tensor_and_from_numpy_share_memory() -> None:
    array, x = np.array([1.0, 2.0]), tk.tensor([1.0], requires_grad=True)
    assert tk.as_tensor(array).data is tk.from_numpy(array).data is array
    assert tk.as_tensor(x) is x
    assert tk.as_tensor(x, dtype=np.float32) is x
    assert tk.as_tensor(x * 2, dtype=np.float64).requires_grad
    assert tk.as_tensor([1, 2]).dtype == np.int64 and tk.as_tensor(0.5).dtype == F32
    assert tk.as_tensor(array, dtype=np.int64).tolist() == [1, 2]
    with pytest.raises(TypeError, match=r"from_numpy: expected an ndarray, got list"):
        tk.from_numpy([1.0])
    with pytest.raises(TypeError, match="complex"):
        tk.from_numpy(np.array([1j]))


def test_logspace() -> None:
    assert tk.logspace(0, 2, 3).tolist() == [1.0, 10.0, 100.0]
    assert tk.logspace(0, 2, 3).dtype == F32
    assert tk.logspace(1, 3, 3, base=2, dtype=np.int64).tolist() == [2, 4, 8]
    for end in (4.3, tk.tensor(4.3)):  # PyTorch's value: the ends lose their fractions
        assert tk.logspace(-2.9, end, 3, dtype=np.int64).tolist() == [0, 10, 10000]
    assert tk.logspace(1, 3, 1).tolist() == [10.0] and tk.logspace(1, 3, 0).shape == (0,)
    assert tk.logspace(0, 1, 2, requires_grad=True).is_leaf
    end = Tensor(np.float64(2.0), requires_grad=True)
    check_grads(lambda a, b: tk.logspace(a, b, 4, base=3.0), (np.array(0.5), np.array(1.2)))
    assert tk.logspace(0.0, end, 3).dtype == np.float64
    assert tk.logspace(tk.tensor(0.0), 2, 3).dtype == F32
    with pytest.raises(ValueError, match="logspace: expected steps of at least 0, got -1"):
        tk.logspace(0, 1, -1)
