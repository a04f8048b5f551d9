"""The engine in 100 lines: its derivatives are the package's, and it learns XOR."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import BroadcastableShapes, mutually_broadcastable_shapes
from numpy import ndarray

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn, optim

PROGRAM = Path(__file__).parents[2] / "examples/engine_in_100_lines.py"
sys.path.insert(0, str(PROGRAM.parent))
import engine_in_100_lines as small  # noqa: E402

sys.path.remove(str(PROGRAM.parent))

Shape = tuple[int, ...]
Function = Callable[..., Any]


def sum_to(x: Any, shape: Shape) -> Any:
    """The package's sum over the axes along which `shape` was broadcast."""
    padded = (1,) * (x.ndim - len(shape)) + shape
    axes = tuple(axis for axis, size in enumerate(padded) if size == 1)
    return tk.sum(x, axis=axes, keepdims=True).reshape(shape)


UNARY: dict[str, Function] = {
    "exp": tk.exp,
    "log": tk.log,
    "tanh": tk.tanh,
    "relu": tk.relu,
}
BINARY: dict[str, Function] = {"add": tk.add, "multiply": tk.multiply}
OTHERS: dict[str, Function] = {
    "matmul": tk.matmul,
    "power": tk.power,
    "transpose": lambda x: x.mT,
    "sum_to": sum_to,
}

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 4)
two_shapes = mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3)
one_shape = st.lists(sizes, max_size=3).map(tuple)


def draw(seed: int, *shapes: Shape, positive: bool = False) -> list[ndarray]:
    normal = np.random.default_rng(seed).standard_normal
    arrays = [np.asarray(normal(shape)) for shape in shapes]
    return [np.abs(x) + 0.1 for x in arrays] if positive else arrays


def check(here: Function, there: Function, inputs: list[ndarray]) -> None:
    """Two functions agree in value, gradient and second derivative, along random directions."""
    y = there(*map(Tensor, inputs))
    weight, *directions = draw(0, y.shape, *(x.shape for x in inputs))

    def here_loss(*xs: Any) -> Any:
        return small.sum_to(here(*xs) * weight, shape=())

    def there_loss(*xs: Any) -> Any:
        return (there(*xs) * weight).sum()

    def there_slope(*xs: Any) -> Any:
        gradients = tk.grad(there_loss, argnums=tuple(range(len(xs))))(*xs)
        return sum((g * v).sum() for g, v in zip(gradients, directions, strict=True))

    xs = [small.Tensor(x) for x in inputs]
    np.testing.assert_allclose(here(*xs).data, y.data, rtol=1e-12)

    loss = here_loss(*xs)
    loss.backward()
    numbers = tuple(range(len(inputs)))
    for x, expected in zip(xs, tk.grad(there_loss, argnums=numbers)(*inputs), strict=True):
        assert x.grad.shape == x.shape
        np.testing.assert_allclose(x.grad, expected, rtol=1e-11, atol=1e-13)

    first = small.walk(here_loss(*xs), create_graph=True)
    slope = sum(small.sum_to(first[x] * v, shape=()) for x, v in zip(xs, directions, strict=True))
    second = small.walk(slope) if small.is_tensor(slope) else {}
    for x, expected in zip(xs, tk.grad(there_slope, argnums=numbers)(*inputs), strict=True):
        np.testing.assert_allclose(
            np.broadcast_to(second.get(x, 0.0), x.shape), expected, rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("name", UNARY)
@given(shape=one_shape, seed=seeds)
def test_ops_of_one_input(name: str, shape: Shape, seed: int) -> None:
    inputs = draw(seed, shape, positive=name == "log")
    check(getattr(small, name), UNARY[name], inputs)


@pytest.mark.parametrize("name", BINARY)
@given(shapes=two_shapes, seed=seeds)
def test_ops_of_two_inputs_undo_broadcasting(
    name: str, shapes: BroadcastableShapes, seed: int
) -> None:
    check(getattr(small, name), BINARY[name], draw(seed, *shapes.input_shapes))


@given(batches=two_shapes, rows=sizes, inner=sizes, columns=sizes, seed=seeds)
def test_matmul_of_stacks_that_broadcast(
    batches: BroadcastableShapes, rows: int, inner: int, columns: int, seed: int
) -> None:
    first, second = batches.input_shapes
    inputs = draw(seed, (*first, rows, inner), (*second, inner, columns))
    check(small.matmul, tk.matmul, inputs)
    check(lambda a, b: a @ b, lambda a, b: a @ b, inputs)


@given(batch=one_shape, rows=sizes, columns=sizes, seed=seeds)
def test_transpose(batch: Shape, rows: int, columns: int, seed: int) -> None:
    inputs = draw(seed, (*batch, rows, columns))
    check(small.transpose, OTHERS["transpose"], inputs)
    check(lambda x: x.mT, lambda x: x.mT, inputs)


def test_a_vector_is_no_matrix() -> None:
    matrix, vector = small.Tensor(np.ones((2, 2))), small.Tensor(np.ones(2))
    with pytest.raises(ValueError, match="dim"):
        (matrix @ vector).backward()
    with pytest.raises(ValueError, match="dim"):
        (vector @ matrix).backward()


@given(shape=one_shape, n=st.sampled_from([-1.5, -1.0, 0.5, 1.0, 2.0, 3.0]), seed=seeds)
def test_power(shape: Shape, n: float, seed: int) -> None:
    check(lambda x: x**n, lambda x: x**n, draw(seed, shape, positive=True))


@given(shapes=two_shapes, seed=seeds)
def test_sum_to_is_the_transpose_of_broadcasting(shapes: BroadcastableShapes, seed: int) -> None:
    small_shape = shapes.input_shapes[0]
    (x,) = draw(seed, shapes.result_shape)
    check(
        lambda x: small.sum_to(x * x, shape=small_shape), lambda x: sum_to(x * x, small_shape), [x]
    )


@given(shapes=two_shapes, seed=seeds)
def test_operators(shapes: BroadcastableShapes, seed: int) -> None:
    def f(a: Any, b: Any) -> Any:
        return (3 - a) * b / (a * a + 2.0) - (-b) + 0.5 * a * b**2 + 1 / (b * b + 1.0)

    check(f, f, draw(seed, *shapes.input_shapes))


def test_comparisons_are_arrays() -> None:
    x, y = small.Tensor([1.0, 2.0, 3.0]), small.Tensor([2.0, 2.0, 2.0])
    for two in (2, y, y.data):
        np.testing.assert_array_equal(x < two, [True, False, False])
        np.testing.assert_array_equal(x > two, [False, False, True])
        np.testing.assert_array_equal(two > x, [True, False, False])


@given(seed=seeds)
def test_a_net_with_weights_used_twice(seed: int) -> None:
    x, *weights = draw(seed, (5, 3), (3, 4), (4,), (4, 4), (1,))

    def net(tanh: Function, relu: Function) -> Function:
        return lambda w, b, v, c: relu(tanh(tanh(x @ w + b) @ v + b) @ v + c) * 2.0 + b

    check(net(small.tanh, small.relu), net(tk.tanh, tk.relu), weights)


def test_every_op_is_checked_and_there_are_ten() -> None:
    ops = {name for name, value in vars(small).items() if hasattr(value, "rules")}
    assert ops == {*UNARY, *BINARY, *OTHERS}
    assert len(ops) == 10


def test_each_node_is_met_once() -> None:
    x = y = small.Tensor(1.0)
    for _ in range(60):
        y = y + y  # 2 ** 60 paths lead back to x
    y.backward()
    assert x.grad == 2.0**60


def test_gradients_add_up_over_walks() -> None:
    x = small.Tensor([1.0, 2.0])
    for _ in range(2):
        (x * x).backward()
    np.testing.assert_array_equal(x.grad, [4.0, 8.0])


def test_grad_goes_to_any_order() -> None:
    third = small.grad(small.grad(small.grad(small.tanh)))
    expected = tk.grad(tk.grad(tk.grad(tk.tanh)))(0.3)
    for x in (0.3, np.array(0.3), small.Tensor(0.3)):
        np.testing.assert_allclose(third(x).data, expected, rtol=1e-12)


def test_grad_is_zero_where_nothing_depends_on_x() -> None:
    second = small.grad(small.grad(small.relu))([-1.0, 2.0])
    np.testing.assert_array_equal(second.data, [0.0, 0.0])


def test_a_net_trains_as_in_the_package() -> None:
    """As docs/reading.md says: from the same weights, the same losses in float64."""
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = np.array([[0.0], [1.0], [1.0], [0.0]])
    start = draw(0, (2, 10), (10,), (10, 1), (1,))
    weights = [small.Tensor(a) for a in start]
    net = nn.Sequential(nn.Linear(2, 10), nn.Tanh(), nn.Linear(10, 1))
    for parameter, a in zip(net.parameters(), start, strict=True):
        parameter.data = a.T.copy()
    optimizer = optim.SGD(net.parameters(), lr=0.5)
    for _ in range(100):
        w1, b1, w2, b2 = weights
        z = small.tanh(x @ w1 + b1) @ w2 + b2
        loss = small.sum_to(small.log(1 + small.exp((1 - 2 * y) * z)), shape=()) / 4
        loss.backward()
        for w in weights:
            w.data, w.grad = w.data - 0.5 * w.grad, 0.0
        expected = nn.BCEWithLogitsLoss()(net(Tensor(x)), Tensor(y))
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        np.testing.assert_allclose(loss.data, expected.item(), rtol=1e-10)


@pytest.mark.trains
def test_xor_is_learned_from_nearly_every_seed() -> None:
    answers = [small.learn_xor(seed).ravel() for seed in range(20)]
    solved = [bool(np.all(np.abs(answer - [0, 1, 1, 0]) < 0.1)) for answer in answers]
    assert sum(solved) >= 18


def test_at_most_100_lines() -> None:
    lines = PROGRAM.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 100


def test_the_program_runs_as_it_stands() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM)],
        capture_output=True, encoding="utf-8", timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "tanh'''(0) = -2.0" in done.stdout
