"""Large cotangents are added in place where nothing else refers to them, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.autodiff import MIN_SUMMED_IN_PLACE
from tinygrad_kr.ops.writes import _interface_address, address

SIZE = MIN_SUMMED_IN_PLACE
passing = tk.op(lambda x: x * 1.0, lambda g, y, x: g, name="passing")
giving_y = tk.op(lambda x: x * 1.0, lambda g, y, x: y, name="giving_y")
giving_x = tk.op(lambda x: x * 1.0, lambda g, y, x: x, name="giving_x")
giving_view = tk.op(lambda x: x * 1.0, lambda g, y, x: g[::1], name="giving_view")


def leaf() -> Tensor:
    return tk.tensor(np.linspace(1, 2, SIZE), requires_grad=True)


@pytest.mark.parametrize("record", [passing, giving_y, giving_x, giving_view])
def test_what_a_rule_hands_on_is_not_written_to(record: Any) -> None:
    """`h` gets a fresh cotangent first, then one that the graph still holds."""
    x = leaf()
    h = x * 3.0
    a, b = record(h), h * 5.0
    total = a * 7.0 + b
    start = np.linspace(2, 3, SIZE)
    given = tk.tensor(start.copy())
    before = [t.detach().numpy().copy() for t in (x, h, a)]
    total.backward(given, retain_graph=True)
    first = x.grad.numpy().copy()
    np.testing.assert_array_equal(given.numpy(), start)
    for t, kept in zip((x, h, a), before, strict=True):
        np.testing.assert_array_equal(t.detach().numpy(), kept)
    x.grad = None
    total.backward(given)
    np.testing.assert_array_equal(x.grad.numpy(), first)


def test_sums_of_many_terms() -> None:
    x = leaf()
    y = x * 2.0
    (y * y + y.exp() + y + y * 3.0).sum().backward()
    values = np.linspace(1, 2, SIZE)
    expected = 2 * (4 * values + np.exp(2 * values) + 4)
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-14)


def test_a_retained_gradient_is_not_changed_by_later_terms() -> None:
    x = leaf()
    y = x * 2.0
    z = y * 1.0
    z.retain_grad()
    (z * 3.0 + y * 4.0).sum().backward()
    np.testing.assert_array_equal(z.grad.numpy(), np.full(SIZE, 3.0))
    np.testing.assert_array_equal(x.grad.numpy(), np.full(SIZE, 14.0))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3), np.zeros((4, 4))[1:, ::-1], np.zeros(()), np.zeros((0, 2)),
        np.zeros(3).view(np.matrix), np.broadcast_to(np.zeros(1), (3,)),
        np.frombuffer(b"12345678", np.uint8)[1:],
    ],
)  # fmt: skip
def test_address_of_an_array(array: Any) -> None:
    assert address(array) == _interface_address(array) == array.ctypes.data


def test_address_of_what_is_no_array() -> None:
    number: Any = np.float64(1.0)
    assert isinstance(address(number), int)
    with pytest.raises(AttributeError):
        address(1.0)  # type: ignore[arg-type]
