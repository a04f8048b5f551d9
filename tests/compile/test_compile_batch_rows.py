"""Jacobians and Hessians, compiled: all rows at once, and as eager mode has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import harness
import numpy as np
import pytest
from harness import backend as backend

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor
from tinygrad_kr.compile import Compiled

GENERATOR = np.random.default_rng(5)
ROWS = GENERATOR.normal(size=(4, 3))
WEIGHT = GENERATOR.normal(size=(3, 5))


def compare(f: Callable[..., Any], *arrays: np.ndarray) -> int:
    """Compiled calls are like the eager ones; the number of ops that are left to compute."""
    found = harness.compare(f, *arrays, scales=(1, 1, 0.5, -1), of_largest=True)
    assert len(found.programs) == 1, found.explain()
    return len(found.programs[0].instructions)


def rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@pytest.mark.one_in(3)
@pytest.mark.parametrize("n", [3, 4, 30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_hessian_of_a_chain_is_as_long_for_any_size(n: int, dtype: Any, backend: str) -> None:
    assert compare(tk.hessian(rosenbrock), np.linspace(-1.5, 1.5, n).astype(dtype)) < 40


def test_two_rows_are_two_ops(backend: str) -> None:
    def f(x: Any) -> Any:
        return tk.stack([tk.sin(x * unit.copy()) for unit in np.eye(len(x))])

    assert compare(f, ROWS[0, :2]) == 2 * 2 + 1
    assert compare(f, ROWS[0]) == 2
    compare(tk.hessian(rosenbrock), np.array([0.5, 2.0]))


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "elementwise": lambda x: tk.exp(x) * tk.sin(x) / (1 + x * x),
    "sums and extremes": lambda x: (x * x).sum(1) * x.max(axis=1) + x.min(axis=0).sum() - x.mean(),
    "sums that keep axes": lambda x: x * x.sum(-1, keepdims=True) / (x**2).sum((0, 1)),
    "a product from the left": lambda x: tk.tanh(x @ WEIGHT),
    "a product from the right": lambda x: tk.tanh(WEIGHT.T @ x.T),
    "its own product": lambda x: x.T @ x,
    "a quadratic form": lambda x: x[:, 0] @ (ROWS @ ROWS.T) @ x[:, 0] * x[0],
    "products of vectors": lambda x: (x @ x[0]) * (x[:, 1] @ x[:, 0]),
    "vectors and batches": lambda x: x[:2, 0] @ x.reshape(3, 2, 2) + x.reshape(3, 2, 2) @ x[1:3, 1],
    "products of batches": lambda x: x.reshape(2, 2, 3) @ x.T,
    "other axes": lambda x: x.T.reshape(2, 6).swapaxes(0, 1) * np.arange(2.0),
    "slices": lambda x: x[1:, ::-2] * x[0, 1] + x[:-1, None, 0].sum(),
    "joined": lambda x: tk.cat([x * x, x[:1] ** 3]) * tk.stack([x[0], x[1], x[2], x[3], x[1]]),
    "spread": lambda x: np.broadcast_to(x[:, :1], (4, 3)) * x,
    "choices": lambda x: tk.where(x > 0, x * x, tk.relu(-x)) * tk.maximum(x, 0.25),
    "softmax": lambda x: F.softmax(x, 1) * F.log_softmax(x, 0),
    "deviations": lambda x: (x - x.mean(0)) / x.var(0).sqrt(),
    "sums along an axis": lambda x: tk.cumsum(x * x, 0) * x,
    "rows that are chosen": lambda x: x[np.array([2, 0, 2])] ** 2,
    "a number": lambda x: (x * x).sum(),
    "a line": lambda x: (x * x).sum(0),
    "a constant row": lambda x: x * 2 + tk.stack([tk.zeros(3)] * 4),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("f", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_jacobians(f: Callable[[Any], Any], backend: str) -> None:
    compare(tk.jacobian(f), ROWS)


APART = ["sums along an axis", "rows that are chosen"]
TOGETHER = [name for name in FUNCTIONS if name not in [*APART, "a number", "a constant row"]]


@pytest.mark.one_in(5)
@pytest.mark.parametrize("name", TOGETHER)
def test_all_rows_are_computed_together(name: str, backend: str) -> None:
    def twice(x: Any) -> Any:
        return tk.cat([FUNCTIONS[name](x).reshape(-1)] * 2)

    f = FUNCTIONS[name]
    assert compare(tk.jacobian(twice), ROWS) <= compare(tk.jacobian(f), ROWS) + 12


def test_hessians_of_a_net_by_all_its_weights(backend: str) -> None:
    x, labels = GENERATOR.normal(size=(6, 3)), np.array([0, 2, 1, 1, 0, 2])

    def loss(weights: dict[str, Any]) -> Any:
        hidden = tk.tanh(x @ weights["first"] + weights["bias"])
        return F.cross_entropy(hidden @ weights["second"], labels)

    given = {"first": WEIGHT[:, :4], "bias": WEIGHT[0, :4], "second": WEIGHT.T[:4]}
    names = list(given)

    def hessians(*arrays: Any) -> Any:
        return tk.hessian(loss)(dict(zip(names, arrays, strict=True)))

    compare(hessians, *given.values())


def test_jacobians_by_several_arguments_and_of_several_results(backend: str) -> None:
    def f(x: Any, y: Any) -> Any:
        return x @ y, {"square": (x * x).sum(1), "both": y.sum() * x}

    assert compare(tk.jacobian(f, (0, 1)), ROWS, ROWS.T.copy()) < 60


def test_what_one_row_has_of_its_own_keeps_them_apart(backend: str) -> None:
    def states(x: Any) -> Any:
        state, found = x[0], []
        for i in range(4):
            state = tk.tanh(state + x[i])
            found.append(state)
        return tk.stack(found), found[2]

    compare(states, ROWS)
    compare(lambda x: tk.stack([x[0] * 2, x[1] * 2, x[2] * 3]), ROWS)
    compare(lambda x: tk.stack([x[0] * 2, x[0] * 2, tk.exp(x[0])]), ROWS)
    compare(lambda x: tk.stack([tk.sin(x[0]), tk.sin(x[1]), tk.sin(x[2])]), ROWS)


def test_a_row_that_is_read_elsewhere_stays_by_itself(backend: str) -> None:
    def rows(x: Any) -> list[Any]:
        return [tk.sin(x * unit.copy()) for unit in np.eye(5)]

    together = compare(lambda x: tk.stack(rows(x)), ROWS[0, [0, 1, 2, 0, 1]])

    def f(x: Any) -> Any:
        found = rows(x)
        return tk.stack(found), found[1] * 2

    assert compare(f, ROWS[0, [0, 1, 2, 0, 1]]) > together == 2

    def g(x: Any) -> Any:
        found = rows(x)
        return tk.stack(found), found[1]

    assert compare(g, ROWS[0, [0, 1, 2, 0, 1]]) > together


def test_rows_that_begin_with_arguments(backend: str) -> None:
    compare(lambda x, y, z: tk.stack([tk.sin(x), tk.sin(y), tk.sin(z)]), *ROWS[:3])


def test_rows_of_noise_are_drawn_one_by_one(backend: str) -> None:
    def noisy(x: Any) -> Any:
        return tk.stack([tk.rand(3) * x[0] for _ in range(4)])

    compiled = Compiled(noisy)
    for _ in range(4):
        tk.manual_seed(3)
        expected = noisy(Tensor(ROWS))
        tk.manual_seed(3)
        np.testing.assert_array_equal(compiled(Tensor(ROWS)).numpy(), expected.numpy())


def test_a_unit_vector_that_is_returned_may_be_written_to(backend: str) -> None:
    def f(x: Any) -> Any:
        ones = tk.ones(3)
        return ones[1:], x * ones

    compiled = Compiled(f)
    for _ in range(4):
        part, product = compiled(Tensor(ROWS))
        assert part.tolist() == [1, 1]
        np.testing.assert_array_equal(product.numpy(), ROWS)
        part[...] = 7.0
