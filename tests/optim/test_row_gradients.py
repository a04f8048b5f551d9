"""Sparse gradients of embeddings: what is done with them, and the optimizers that take them."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import nn, optim
from tinygrad_kr.autodiff import RowGradient

INDICES = np.array([[1, 2], [4, 2]])
EXPECTED = np.array([0.0, 0, 2, 0, 1, 0])[:, None] * np.ones(3)
"""The gradient of the sum of the rows `INDICES`, row 1 left out."""


@pytest.fixture
def table() -> nn.Embedding:
    """A table after one backward pass."""
    net = nn.Embedding(6, 3, padding_idx=1, sparse=True)
    net(INDICES).sum().backward()
    return net


def is_sparse(net: nn.Embedding) -> bool:
    return type(net.weight.grad) is RowGradient and net.weight.grad.is_sparse


def test_a_gradient_has_the_rows_that_were_read(table: nn.Embedding) -> None:
    g: Any = table.weight.grad
    assert is_sparse(table) and g.shape == (6, 3) and g.dtype == np.float32
    assert np.array_equal(g.indices(), [[2, 4, 2]]) and g.values().shape == (3, 3)
    assert np.array_equal(g.coalesce().indices(), [[2, 4]])
    assert np.array_equal(g.coalesce().values()[:, 0], [2, 1])
    assert np.array_equal(g, EXPECTED) and np.array_equal(g.to_dense().data, EXPECTED)
    assert not g.to_dense().is_sparse and str(g) == str(tk.tensor(EXPECTED, dtype=np.float32))
    assert repr(table) == "Embedding(6, 3, padding_idx=1, sparse=True)"


def test_backward_adds_rows(table: nn.Embedding) -> None:
    table(INDICES).sum().backward()
    assert is_sparse(table) and np.array_equal(table.weight.grad, 2 * EXPECTED)
    for _ in range(5):  # more rows than the table has
        table(INDICES).sum().backward()
    assert is_sparse(table) and np.array_equal(table.weight.grad, 7 * EXPECTED)
    assert len(table.weight.grad.values()) <= 6


def test_several_reads_in_one_graph() -> None:
    net = nn.Embedding(6, 3, padding_idx=1, sparse=True)
    (net(INDICES).sum() + 2 * net(INDICES[:1]).sum()).backward()
    assert is_sparse(net)
    assert np.array_equal(net.weight.grad, EXPECTED + 2 * (np.arange(6) == 2)[:, None])


@pytest.mark.parametrize("sparse_first", [False, True])
def test_a_dense_gradient_makes_the_sum_dense(sparse_first: bool) -> None:
    net = nn.Embedding(6, 3, padding_idx=1, sparse=True)
    parts = [net(INDICES).sum(), (3 * net.weight).sum()]
    first, second = parts if sparse_first else parts[::-1]
    (first + second).backward()
    assert not net.weight.grad.is_sparse and np.array_equal(net.weight.grad, EXPECTED + 3)
    net.zero_grad()
    for loss in (net(INDICES).sum(), (3 * net.weight).sum())[:: 1 if sparse_first else -1]:
        loss.backward()
    assert not net.weight.grad.is_sparse and np.array_equal(net.weight.grad, EXPECTED + 3)


def test_the_cotangent_that_was_given_is_not_kept() -> None:
    net, g = nn.Embedding(4, 2, sparse=True), np.ones((1, 2), np.float32)
    net(np.array([3])).backward(g)
    g[:] = 9
    assert net.weight.grad.data.sum() == 2
    (alone,) = tk.autograd.grad(net(np.array([3])), net.weight, tk.Tensor(g))
    g[:] = 5
    assert alone.is_sparse and alone.data.sum() == 18


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clipping_keeps_the_rows(max_norm: float, table: nn.Embedding) -> None:
    norm = optim.clip_grad_norm_(table.parameters(), max_norm).item()
    assert is_sparse(table) and norm == pytest.approx(np.linalg.norm(EXPECTED))
    expected = EXPECTED * min(1, max_norm / norm)
    np.testing.assert_allclose(table.weight.grad.data, expected, rtol=1e-5)
    optim.clip_grad_value_(table.parameters(), 0.1)
    assert is_sparse(table) and table.weight.grad.data.max() == np.float32(0.1)


def test_hooks(table: nn.Embedding) -> None:
    seen: list[Any] = []
    table.zero_grad()
    first = table.weight.register_hook(seen.append)
    second = table.weight.register_hook(lambda g: 2 * g)
    table(INDICES).sum().backward()
    assert seen[0].is_sparse and is_sparse(table)
    assert np.array_equal(table.weight.grad, 2 * EXPECTED)
    first.remove()
    second.remove()
    table.weight.register_hook(lambda g: g + 1)
    table.zero_grad()
    table(INDICES).sum().backward()
    assert np.array_equal(table.weight.grad, EXPECTED + 1) and not table.weight.grad.is_sparse


def test_zero_grad(table: nn.Embedding) -> None:
    table.zero_grad(set_to_none=False)
    assert is_sparse(table) and not np.any(table.weight.grad)
    table(INDICES).sum().backward()
    assert is_sparse(table) and np.array_equal(table.weight.grad, EXPECTED)
    table.zero_grad()
    assert table.weight.grad is None


def test_writing_is_refused(table: nn.Embedding) -> None:
    g: Any = table.weight.grad
    for write in (lambda: g.mul_(2), lambda: g.fill_(1), lambda: g.__setitem__(0, 1.0)):
        with pytest.raises(RuntimeError, match=r"expected a dense gradient to write to"):
            write()
    with pytest.raises(ValueError, match="read-only"):
        g.data[0] = 1
    table.weight.grad = 0.5 * g
    assert is_sparse(table) and np.array_equal(table.weight.grad, EXPECTED / 2)


def test_copies(table: nn.Embedding) -> None:
    g: Any = table.weight.grad
    for made in (copy.deepcopy(g), copy.copy(g), pickle.loads(pickle.dumps(g)), g.clone()):
        assert type(made) is RowGradient and np.array_equal(made, EXPECTED)
        assert not np.shares_memory(made.values(), g.values())
    assert np.array_equal(copy.deepcopy(table).weight.grad, EXPECTED)


def test_where_gradients_are_dense() -> None:
    """Of a computed table, of a table in float16, in transformations, and to be differentiated."""
    weight = tk.tensor(np.ones((6, 3)), requires_grad=True)
    F.embedding(INDICES, 2 * weight, sparse=True).sum().backward()
    assert not weight.grad.is_sparse and weight.grad.data.sum() == 24
    half = tk.tensor(np.ones((6, 3), np.float16), requires_grad=True)
    F.embedding(INDICES, half, sparse=True).sum().backward()
    assert half.grad.dtype == np.float16 and half.grad.data.sum() == 12
    loss = lambda w: (F.embedding(INDICES, w, padding_idx=1, sparse=True) ** 3).sum()  # noqa: E731
    found = tk.grad(loss)(np.ones((6, 3)))
    assert type(found) is np.ndarray and np.array_equal(found, 3 * EXPECTED)
    (g,) = tk.autograd.grad(loss(weight), weight, create_graph=True)
    (second,) = tk.autograd.grad(g.sum(), weight)
    assert np.array_equal(second, 6 * EXPECTED)


# ------------------------------------------------------------------ optimizers

TAKEN: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "maximize": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.5}),
    ("SparseAdam", {"lr": 0.1}),
    ("SparseAdam", {"lr": 0.1, "maximize": True, "betas": (0.5, 0.9)}),
]


def trained(sparse: bool, name: str, options: dict[str, Any], compiled: bool = False) -> Any:
    """A net and its optimizer after some steps, each of other rows, with a change of lr."""
    tk.manual_seed(3)
    net = nn.Sequential(nn.Embedding(9, 3, sparse=sparse), nn.Linear(3, 2))
    optimizer = getattr(optim, name)(net.parameters(), **options)
    random = np.random.default_rng(5)

    def step(rows: Any) -> None:
        optimizer.zero_grad()
        (net(rows) ** 2).mean().backward()
        optimizer.step()

    run = tk.compile(step) if compiled else step
    for i in range(6):
        if i == 3:
            optimizer.param_groups[0]["lr"] = 0.05
        run(random.integers(0, 9, 4))
    return net, optimizer, run


@pytest.mark.parametrize(("name", "options"), TAKEN)
def test_the_rows_are_updated_as_by_a_dense_gradient(name: str, options: dict[str, Any]) -> None:
    (rows, by_rows, _), (dense, by_all, _) = (trained(s, name, options) for s in (True, False))
    assert is_sparse(rows[0])
    for one, other in zip(rows.parameters(), dense.parameters(), strict=True):
        np.testing.assert_allclose(one.data, other.data, rtol=1e-5, atol=1e-7)
    ours, theirs = by_rows.state_dict()["state"], by_all.state_dict()["state"]
    assert ours.keys() == theirs.keys()
    for i, entries in ours.items():
        assert entries.keys() == theirs[i].keys()
        for key, value in entries.items():
            np.testing.assert_allclose(value, theirs[i][key], rtol=1e-5, atol=1e-7)


def test_sparse_adam_updates_whole_rows() -> None:
    """An element that is 0 in a named row goes on with its momentum; other rows stay."""
    weight = tk.tensor(np.ones((3, 2)), requires_grad=True)
    optimizer = optim.SparseAdam([weight], lr=0.1)
    for cotangent in ([[1.0, 1.0]], [[0.0, 1.0]]):
        before = weight.data.copy()
        optimizer.zero_grad()
        F.embedding(np.array([1]), weight, sparse=True).backward(np.array(cotangent))
        optimizer.step()
        assert np.array_equal(weight.data != before, [[False] * 2, [True] * 2, [False] * 2])


@pytest.mark.parametrize(("name", "options"), TAKEN)
def test_a_state_is_saved_and_resumed(name: str, options: dict[str, Any]) -> None:
    net, optimizer, step = trained(True, name, options)
    weights = {key: value.copy() for key, value in net.state_dict().items()}
    state = optimizer.state_dict()
    step(np.array([1, 1, 8]))
    after = net.state_dict()
    other, again, resumed = trained(True, name, options)
    other.load_state_dict(weights)
    again.load_state_dict(state)
    resumed(np.array([1, 1, 8]))
    for key, value in other.state_dict().items():
        assert np.array_equal(value, after[key])


@pytest.mark.parametrize(("name", "options"), TAKEN)
def test_compiled_it_runs_as_written(name: str, options: dict[str, Any]) -> None:
    (net, _, _), (other, _, step) = (trained(True, name, options, c) for c in (False, True))
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        assert np.array_equal(one.data, two.data)
    assert "embedding(sparse=True)" in str(step.explain()) and is_sparse(other[0])


def test_a_compiled_step_of_gradients_from_before(table: nn.Embedding) -> None:
    optimizer = optim.SparseAdam(table.parameters(), lr=0.1)
    before = table.weight.data.copy()
    step = tk.compile(lambda: optimizer.step())
    step()
    changed = (table.weight.data != before).all(1)
    assert np.array_equal(changed, EXPECTED[:, 0] > 0) and "sparse gradient" in str(step.explain())


REFUSING = [
    name
    for name, cls in vars(optim).items()
    if inspect.isclass(cls)
    and issubclass(cls, optim.Optimizer)
    and name not in ("Optimizer", "SGD", "Adagrad", "SparseAdam", "LBFGS")
]


@pytest.mark.parametrize("name", REFUSING)
def test_others_refuse_them(name: str, table: nn.Embedding) -> None:
    before = table.weight.data.copy()
    with pytest.raises(RuntimeError, match=rf"{name} does not support sparse gradients"):
        getattr(optim, name)(table.parameters()).step()
    assert np.array_equal(table.weight.data, before)


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adagrad])
def test_weight_decay_is_refused(kind: Any, table: nn.Embedding) -> None:
    with pytest.raises(RuntimeError, match="weight_decay option is not compatible with sparse"):
        kind(table.parameters(), lr=0.1, weight_decay=0.1).step()


def test_gradients_may_change_their_kind(table: nn.Embedding) -> None:
    optimizer = optim.Adam(table.parameters())
    for sparse in (False, True):
        table.sparse = sparse
        optimizer.zero_grad()
        table(INDICES).sum().backward()
        if sparse:
            with pytest.raises(RuntimeError, match="Adam does not support sparse gradients"):
                optimizer.step()
        else:
            optimizer.step()


def test_a_rule_of_ones_own_takes_dense_gradients_alone(table: nn.Embedding) -> None:
    class Signs(optim.SGD):
        rule = staticmethod(lambda p, g, state, **options: (p - np.sign(g), {}))

    with pytest.raises(RuntimeError, match="Signs does not support sparse gradients"):
        Signs(table.parameters(), lr=0.1).step()


def test_a_step_of_a_large_table_touches_its_rows() -> None:
    """Memory of the step, as counted by NumPy's allocations, is not that of the table."""
    import tracemalloc

    net = nn.Embedding(200_000, 8, sparse=True)
    optimizer = optim.SGD(net.parameters(), lr=0.1)

    def step() -> None:
        optimizer.zero_grad()
        net(INDICES).sum().backward()
        optimizer.step()

    for _ in range(3):
        step()
    tracemalloc.start()
    step()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < net.weight.data.nbytes / 2
