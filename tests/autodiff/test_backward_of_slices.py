"""The gradient of many slices of one Tensor: gathered in place, never in what another holds."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.testing import check_grads

X = np.arange(12.0).reshape(4, 3) / 7 - 0.6


def leaf(array: Any = X) -> Tensor:
    return Tensor(np.array(array), requires_grad=True)


def gradient(x: Tensor) -> np.ndarray:
    assert x.grad is not None
    return x.grad.data


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[0] * x[1] + x[1] * x[-1],
        lambda x: (x[1:] * x[:-1]).sum() + x[1:3, ::-1].sum(),
        lambda x: x[:, None, 0] * x[..., 1] + x[2, 2],
        lambda x: x[x.detach() > 0].sum() * x[0, 0] + x[[0, 0, 2]].sum(),
        lambda x: sum((part**3).sum() for part in x.unbind(1)) * x.sum(),
        lambda x: tk.cat([part * part.sum() for part in x.split([1, 0, 3])]) * x,
        lambda x: x[1][2] * x[1][0] + x.T[0][1],
    ],
)
def test_derivatives(function: Any) -> None:
    check_grads(function, (X,), order=2)


def test_a_gradient_shared_with_another_is_not_written_to() -> None:
    """`x + z` hands one array to both: what x gets besides must not show in z."""
    for slices_first in (True, False):
        x, z, start = leaf(), leaf(), np.ones((4, 3))
        pieces = x[0] * 5 + x[2]
        both = x + z
        if not slices_first:
            pieces = x[0] * 5 + x[2]
        tk.cat([both, pieces[None]]).backward(np.ones((5, 3)))
        np.testing.assert_array_equal(gradient(z), start)
        np.testing.assert_array_equal(gradient(x), start + np.array([[5.0], [0], [1], [0]]))


def test_the_gradient_that_the_user_passes_is_not_written_to() -> None:
    x = leaf()
    y = x * 1
    g = np.ones((4, 3))
    first = y[0].sum()
    tk.autograd.grad([y, first], [x], [Tensor(g), Tensor(np.array(7.0))])
    np.testing.assert_array_equal(g, np.ones((4, 3)))


def test_backward_twice_and_accumulation() -> None:
    x = leaf()
    loss = (x[0] * x[1]).sum() + (x[1] * 2).sum()
    loss.backward(retain_graph=True)
    once = gradient(x).copy()
    loss.backward()
    np.testing.assert_array_equal(gradient(x), 2 * once)


def test_a_hook_sees_the_whole_gradient_once() -> None:
    x, seen = leaf(), []
    y = x * 1
    y.register_hook(lambda g: seen.append(g.data.copy()))
    (y[0].sum() + 2 * y[1:].sum() + y[1].sum()).backward()
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], np.array([[1.0], [3], [2], [2]]) * np.ones(3))
    np.testing.assert_array_equal(gradient(x), seen[0])


def test_only_what_is_wanted_is_computed() -> None:
    x, z = leaf(), leaf()
    x.register_hook(lambda g: pytest.fail("nobody asked for the gradient of x"))
    y = (x[0] * z[1]).sum() + z[0].sum()
    (found,) = tk.autograd.grad(y, [z])
    np.testing.assert_array_equal(found.data[1], X[0])
    part = x[0]
    (found,) = tk.autograd.grad((part * 2).sum(), [part])
    np.testing.assert_array_equal(found.data, np.full(3, 2.0))
    assert x.grad is None and z.grad is None


def test_a_number_and_an_infinite_gradient() -> None:
    x = leaf(np.array(3.0))
    (x[()] * 2 + x * 3 + x[None].sum() + x[...] * 4).backward()
    assert gradient(x) == 10 and gradient(x).shape == ()
    z = leaf()
    tk.stack([z[0] * 1, z[0] * 2]).backward(np.array([[np.inf] * 3, [-np.inf] * 3]))
    assert np.isnan(gradient(z)[0]).all() and not gradient(z)[1:].any()


def test_float32_stays_float32() -> None:
    x = leaf(X.astype(np.float32))
    (x[0].astype(np.float64) * 2 + x[1]).sum().backward()
    assert gradient(x).dtype == np.float32


def seconds(cut: Any, count: int) -> float:
    taken = []
    for _ in range(3):
        x = leaf(np.zeros((count, 3000), np.float32))
        start = time.process_time()
        total: Any = 0.0
        for part in cut(x, count):
            total = total + part
        total.sum().backward()
        taken.append(time.process_time() - start)
    return min(taken)


@pytest.mark.parametrize(
    "cut",
    [
        lambda x, count: x.unbind(),
        lambda x, count: x.split(1),
        lambda x, count: (x[i] for i in range(count)),
    ],
    ids=["unbind", "split", "index"],
)
def test_cost_is_linear_in_the_number_of_slices(cut: Any) -> None:
    """8 times the slices cost 8 times as much; with a full array for each it is about 60."""
    assert seconds(cut, 1000) < 25 * seconds(cut, 125)
