"""Rows at integers and thin products, compiled: in C, and as eager mode has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import backend as backend
from harness import compare, needs_compiler, together, twins

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim

RANDOM = np.random.default_rng(5)


def of_both(table: Any, reading: Any, *keys: Any) -> list[Tensor]:
    """Rows and the gradient of a weighted sum of them. reading: of table and keys, the rows."""
    table = table.detach().requires_grad_()
    rows = reading(table, *keys)
    weights = np.arange(1, rows.size + 1, dtype=rows.dtype).reshape(rows.shape)
    (g,) = tk.autograd.grad((rows**2 * weights).sum(), [table])
    return [rows.detach(), g]


KEYS: dict[str, Any] = {
    "one axis": np.array([4, 1, 4, 0, 4]),
    "two axes": np.array([[0, 5, 2], [2, 2, -1]]),
    "negative": np.array([-6, -1, 3]),
    "one": np.array([3]),
    "a number": np.array(2),
    "backwards": np.array([0, 1, 2, 5])[::-1],
    "a column": np.array([[0, 9], [3, 9], [3, 9]])[:, :1],
}
TABLES: dict[str, Any] = {
    "numbers": RANDOM.standard_normal(6),
    "rows": RANDOM.standard_normal((6, 5)),
    "Fortran": np.asfortranarray(RANDOM.standard_normal((6, 5))),
    "gaps": RANDOM.standard_normal((6, 10))[:, ::2],
    "planes": RANDOM.standard_normal((6, 2, 3)),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("index", ["int64", "int32"])
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
def test_rows_at_an_argument(key: Any, index: str, dtype: str, backend: str) -> None:
    for table in TABLES.values():
        given = Tensor(table.astype(dtype)), Tensor(key.astype(index))
        compiled = compare(lambda x, k: of_both(x, lambda x, k: x[k], k), *given, scales=(1, 1, 1))
        if backend == "c":
            assert "1 C function of" in str(compiled) and " 0 NumPy calls" in str(compiled)


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
def test_rows_at_a_constant(key: Any, backend: str) -> None:
    compiled = compare(lambda x: of_both(x, lambda x: x[key]), Tensor(TABLES["rows"]))
    if backend == "c":
        # The array may change, so C checks it at each call.
        assert "1 C function of" in str(compiled) and " 0 NumPy calls" in str(compiled)


def test_whole_numbers_and_truth_values(backend: str) -> None:
    key = Tensor(np.array([2, 0, 2, -1]))
    for dtype in ("int64", "int32", "bool"):
        table = Tensor((np.arange(12).reshape(4, 3) % 5).astype(dtype))
        compare(lambda x, k: [x[k], x[k] == x[k[::-1]]], table, key, scales=(1, 1, 1))


def test_several_reads_of_one_table(backend: str) -> None:
    def reads(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return tk.cat([x[a].sum(1), x[b[:, 0]] * 2, F.embedding(b, x).sum(1)])

    keys = Tensor(KEYS["two axes"] % 6), Tensor(KEYS["two axes"].T % 6)
    table = Tensor(TABLES["rows"])
    compare(lambda x, a, b: of_both(x, reads, a, b), table, *keys, scales=(1, 1, 1))


@needs_compiler
def test_the_gradients_of_several_reads_are_added_into_one_array() -> None:
    def f(x: Any, a: Any, b: Any) -> Any:
        return (x[a] ** 2).sum() + (x[b] ** 3).sum() + x[b + 0].sum()

    compiled = tk.compile(tk.grad(f))
    table, a, b = TABLES["rows"], np.array([1, 1, 0]), np.array([[5, 1], [2, 1]])
    for _ in range(3):
        np.testing.assert_allclose(compiled(table, a, b), tk.grad(f)(table, a, b), 1e-12)
    (program,) = compiled.programs
    assert [s.op.__name__ for s in program.instructions].count("rows_added") == 1


def test_a_gradient_that_is_read_otherwise_too(backend: str) -> None:
    def f(x: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
        x = x.detach().requires_grad_()
        (g,) = tk.autograd.grad((x[a] ** 2).sum(), [x], create_graph=True)
        (h,) = tk.autograd.grad((x[b] ** 2 * g[b]).sum(), [x])
        return [g.detach(), h, g.detach() + g.detach()]

    keys = Tensor(np.array([0, 2, 2])), Tensor(np.array([2, 5, 0, 0]))
    compare(f, Tensor(TABLES["rows"]), *keys, scales=(1, 1, 1))


@pytest.mark.parametrize("wrong", [6, -7, 1000])
def test_an_index_outside_is_numpys_error(wrong: int, backend: str) -> None:
    compiled = tk.compile(lambda x, k: x[k] * 2)
    table, good = Tensor(TABLES["rows"]), np.array([1, -6, 5])
    for _ in range(3):
        compiled(table, Tensor(good))
    assert compiled.programs
    for key in (np.array([0, wrong, 1]), np.array([wrong, 1, 2])):
        with pytest.raises(IndexError, match=f"index {wrong} is out of bounds"):
            compiled(table, Tensor(key))
    np.testing.assert_array_equal(compiled(table, Tensor(good)).numpy(), 2 * table.numpy()[good])


def test_an_index_that_is_computed(backend: str) -> None:
    def f(x: Tensor, k: Tensor) -> list[Tensor]:
        return of_both(x, lambda x, k: x[tk.where(k > 3, k - 3, k)], k)

    compiled = compare(f, Tensor(TABLES["rows"]), Tensor(KEYS["one axis"]), scales=(1, 1, 1))
    with pytest.raises(IndexError):
        compiled(Tensor(TABLES["rows"]), Tensor(np.array([0, 1, 9, 0, 0])))


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.Adagrad], ids=lambda m: m.__name__)
def test_a_step_of_two_embeddings(make: Any, backend: str) -> None:
    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.contexts = nn.Embedding(7, 3), nn.Embedding(7, 3)

        def forward(self, word: Tensor, near: Tensor, far: Tensor) -> Tensor:
            v = self.words(word)
            close = (v * self.contexts(near)).sum(1)
            wide = (self.contexts(far) @ v.unsqueeze(2)).squeeze(2)
            return (F.softplus(-close) + F.softplus(wide).sum(1)).mean()

    def step_of(learner: Any) -> Any:
        def step(*words: Tensor) -> Tensor:
            learner.optimizer.zero_grad()
            loss = learner.net(*words)
            loss.backward()
            learner.optimizer.step()
            return loss

        return step

    def build() -> tuple[nn.Module, Any]:
        net = Pairs()
        return net, make(net.parameters(), lr=0.1)

    calls = [
        tuple(Tensor(RANDOM.integers(0, 7, shape)) for shape in (4, 4, (4, 2))) for _ in range(5)
    ]
    together(*twins(step_of, build), calls, rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------ thin products


SHAPES = [
    ((20, 9), (9, 1)), ((1, 9), (9, 20)), ((300, 40), (40, 1)), ((1, 40), (40, 300)),
    ((3, 4, 33), (3, 33, 1)), ((3, 1, 33), (3, 33, 4)), ((2, 3, 5, 20), (3, 20, 1)),
    ((9, 40), (5, 40, 1)), ((9, 4), (2, 5, 4, 1)), ((5, 9, 1), (5, 1, 6)), ((700, 1), (1, 30)),
    ((1, 100), (100, 1)), ((6, 1, 3), (6, 3, 1)), ((2000, 8), (8, 8, 1)), ((5, 100, 1), (1, 4)),
]  # fmt: skip


@pytest.mark.one_in(2)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("left", "right"), SHAPES, ids=str)
def test_thin_products(left: Any, right: Any, dtype: str, backend: str) -> None:
    """Each factor in C order, and transposed in memory."""
    a, b = (RANDOM.standard_normal(shape).astype(dtype) for shape in (left, right))

    def turned(x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)

    def f(x: Any, y: Any) -> list[Any]:
        return [x @ y, (x * 2) @ y + 1]

    for x, y in (
        (a, b),
        (turned(a), b),
        (a, turned(b)),
        (turned(a), np.repeat(b, 2, -2)[..., ::2, :]),
    ):
        compare(
            f, Tensor(x), Tensor(y), rtol=1e-5 if dtype == "float32" else 1e-12, of_largest=True
        )


@needs_compiler
def test_the_hessian_of_a_logistic_loss_is_one_c_function() -> None:
    def loss(w: Any, x: Any, y: Any) -> Any:
        logits = x @ w
        return np.sum(np.logaddexp(0.0, logits) - y * logits)

    x, w = RANDOM.standard_normal((300, 8)), RANDOM.standard_normal(8)
    y = (x @ w > 0.3).astype(float)
    compiled = tk.compile(tk.hessian(loss))
    chance = 1 / (1 + np.exp(-x @ w))
    for _ in range(3):
        found = compiled(w, x, y)
        np.testing.assert_allclose(found, (x.T * chance * (1 - chance)) @ x, 1e-10, 1e-12)
    assert "1 C function of" in str(compiled) and " 0 NumPy calls" in str(compiled)
    assert len([s for s in compiled.programs[0].instructions if s.op.__name__ == "matmul"]) == 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinite_and_finite(dtype: str, backend: str) -> None:
    given = np.array([0, -0.0, 1, -np.inf, np.inf, np.nan, 1e-40, 1e38], dtype)
    compare(lambda x: [np.isinf(x), np.isfinite(x), np.isnan(x)], Tensor(given))
