"""Random expressions: graphs with reuse, broadcasting, indexing and reductions of every kind.

Hypothesis draws a program over a few leaves; its gradient is compared with central differences, and
with itself in float32, in anomaly mode and under `checkpoint`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import ndarray

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.testing import arrays, axes, broadcastable_shapes, check_grads, indices

Values = list[Any]
Step = Callable[[Values], Any]


def apart(x: Any) -> Any:
    """`x` with offsets that leave no two elements near each other: no ties for `max` or `sort`."""
    offsets = np.sqrt(2.0 + np.arange(x.size)).reshape(x.shape).astype(x.dtype)
    return np.tanh(x) * 0.1 + offsets


# Each stays smooth and bounded whatever it is given.
UNARY: dict[str, Callable[[Any], Any]] = {
    "sin": np.sin,
    "tanh": np.tanh,
    "exp": lambda x: np.exp(-x * x),
    "log": lambda x: np.log(x * x + 1),
    "sqrt": lambda x: np.sqrt(x * x + 0.5),
    "arctan": np.arctan,
    "sigmoid": tk.sigmoid,
    "softplus": tk.softplus,
    "erf": tk.erf,
    "reciprocal": lambda x: 1 / (x * x + 1),
    "cube": lambda x: np.tanh(x) ** 3,
    "relu": lambda x: tk.relu(x * x + 0.5),
    "abs": lambda x: np.abs(np.cosh(np.tanh(x))),
    "clip": lambda x: np.clip(np.sin(x), -2, 2),
    "negative": lambda x: -x,
    "flat": lambda x: x.reshape(-1),
    "transposed": lambda x: x.T,
    "new axis": lambda x: x[None],
    "flipped": np.flip,
    "rolled": lambda x: np.roll(x, 1),
    "cumsum": lambda x: np.tanh(np.cumsum(x.reshape(-1))),
    "cumprod": lambda x: np.cumprod(np.cos(x).reshape(-1)),
    "sorted": lambda x: np.sort(apart(x).reshape(-1)),
    "stacked": lambda x: np.stack([x, np.sin(x)]),
    "joined": lambda x: np.concatenate([x.reshape(-1), np.cos(x).reshape(-1)]),
    "gram": lambda x: x.reshape(-1)[:, None] @ np.tanh(x).reshape(-1)[None],
    "einsum": lambda x: np.einsum("i,j,i->j", x.reshape(-1), x.reshape(-1), np.sin(x).reshape(-1)),
    "padded": lambda x: np.pad(x.reshape(-1), (1, 2)),
}

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: np.tanh(a) * b,
    "divide": lambda a, b: a / (b * b + 1),
    "power": lambda a, b: (a * a + 0.5) ** np.tanh(b),
    "arctan2": lambda a, b: np.arctan2(a, b * b + 1),
    "hypot": lambda a, b: np.hypot(a, b * b + 1),
    "logaddexp": np.logaddexp,
    "maximum": lambda a, b: np.maximum(np.tanh(a), np.tanh(b) + 2.5),
    "where": lambda a, b: np.where(np.arange(1) == 0, a, b) + b * 0.5,
    "outer": lambda a, b: np.outer(a, np.sin(b)),
    "tensordot": lambda a, b: np.tensordot(a, b, 0),
}

REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": np.sum,
    "mean": np.mean,
    "prod": lambda x, axis: np.prod(np.cos(x), axis=axis),
    "var": lambda x, axis: np.var(x, axis=axis),
    "std": lambda x, axis: np.std(apart(x), axis=axis) if x.size > 1 else x,
    "max": lambda x, axis: np.max(apart(x), axis=axis),
    "min": lambda x, axis: np.min(apart(x), axis=axis),
    "norm": lambda x, axis: np.sqrt(np.sum(x * x + 0.1, axis=axis)),
    "logsumexp": lambda x, axis: tk.logsumexp(x, axis),
}

LARGEST = 40


def bounded(x: Any) -> Any:
    """Keeps sizes small, so that a graph can be deep."""
    return np.tanh(x) if x.size <= LARGEST else np.mean(x.reshape(-1)[: LARGEST * 4])


def fitting(a: Any, b: Any) -> Any:
    """`b`, or its mean where it cannot be broadcast with `a`."""
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        return np.mean(b)
    return b


@st.composite
def programs(draw: st.DrawFn) -> tuple[list[ndarray], Callable[..., Any]]:
    """Leaves, and a function of them that returns one number; every value reaches the result."""
    leaves = [
        draw(arrays(shape))
        for shape in draw(broadcastable_shapes(draw(st.integers(1, 3)), max_dims=2, min_side=1))
    ]
    values: Values = list(leaves)
    steps: list[Step] = []
    for _ in range(draw(st.integers(1, 7))):
        step = draw(step_on(values))
        values.append(step(values))
        steps.append(step)

    def run(*inputs: Any) -> Any:
        values: Values = list(inputs)
        for step in steps:
            values.append(step(values))
        total = values[-1].sum()
        for k, value in enumerate(values[:-1]):
            total = total + (value * value).sum() * (0.1 + 0.07 * k)
        return total

    return leaves, run


def step_on(values: Values) -> st.SearchStrategy[Step]:
    place = st.integers(0, len(values) - 1)

    def unary(name: str, i: int) -> Step:
        return lambda values: bounded(UNARY[name](values[i]))

    def binary(name: str, i: int, j: int) -> Step:
        return lambda values: bounded(BINARY[name](values[i], fitting(values[i], values[j])))

    def reduction(name: str, i: int, axis: Any) -> Step:
        return lambda values: bounded(REDUCTIONS[name](values[i], axis=axis))

    def indexed(i: int, key: Any) -> Step:
        return lambda values: values[i][key]

    return st.one_of(
        st.builds(unary, st.sampled_from(sorted(UNARY)), place),
        st.builds(binary, st.sampled_from(sorted(BINARY)), place, place),
        place.flatmap(
            lambda i: st.builds(
                reduction, st.sampled_from(sorted(REDUCTIONS)), st.just(i), axes(values[i].ndim)
            )
        ),
        place.flatmap(lambda i: st.builds(indexed, st.just(i), keys(values[i]))),
    )


def keys(x: Any) -> st.SearchStrategy[Any]:
    """Indices that leave something."""
    return indices(x.shape).filter(lambda key: 0 < np.asarray(x[key]).size <= LARGEST)


def gradients(f: Callable[..., Any], leaves: list[ndarray]) -> list[ndarray]:
    tensors = [Tensor(x.copy(), requires_grad=True) for x in leaves]
    f(*tensors).backward()
    return [np.zeros_like(t.data) if t.grad is None else t.grad.data for t in tensors]


@settings(max_examples=40)
@given(programs())
def test_random_graph_has_the_numeric_gradient(program: Any) -> None:
    leaves, f = program
    check_grads(f, tuple(leaves), order=1, fast=False)


@settings(max_examples=20)
@given(programs())
def test_random_graph_has_the_numeric_second_derivative(program: Any) -> None:
    leaves, f = program
    check_grads(f, tuple(leaves), order=2, fast=True)


@pytest.mark.slow
@settings(max_examples=200)
@given(programs())
def test_many_random_graphs_have_the_numeric_derivatives(program: Any) -> None:
    leaves, f = program
    check_grads(f, tuple(leaves), order=1, fast=False)
    check_grads(f, tuple(leaves), order=2, fast=True)


@given(programs())
def test_random_graph_gives_numpys_value(program: Any) -> None:
    leaves, f = program
    np.testing.assert_allclose(f(*map(Tensor, leaves)).data, f(*leaves), rtol=1e-12)


@given(programs())
def test_random_graph_stays_in_float32(program: Any) -> None:
    leaves, f = program
    exact = gradients(f, leaves)
    single = gradients(f, [x.astype(np.float32) for x in leaves])
    for g, h in zip(exact, single, strict=True):
        assert h.dtype == np.float32
        np.testing.assert_allclose(h, g, rtol=1e-3, atol=1e-3)


@given(programs())
def test_random_graph_is_the_same_by_every_road(program: Any) -> None:
    """`grad`, anomaly mode, `checkpoint`, `create_graph` and the transpose of `jvp`."""
    leaves, f = program
    expected = gradients(f, leaves)
    every = tuple(range(len(leaves)))
    with tk.detect_anomaly():
        watched = gradients(f, leaves)
    tensors = [Tensor(x, requires_grad=True) for x in leaves]
    recorded = tk.autograd.grad(f(*tensors), tensors, create_graph=True, materialize_grads=True)
    for other in (
        tk.grad(f, every)(*leaves),
        watched,
        gradients(lambda *xs: tk.checkpoint(f, *xs), leaves),
        [g.data for g in recorded],
    ):
        for g, h in zip(expected, other, strict=True):
            np.testing.assert_allclose(h, g, rtol=1e-12, atol=1e-14)
    direction = [np.cos(np.arange(x.size)).reshape(x.shape) for x in leaves]
    _, slope = tk.jvp(f, tuple(leaves), tuple(direction))
    inner = sum(np.sum(g * v) for g, v in zip(expected, direction, strict=True))
    np.testing.assert_allclose(slope, inner, rtol=1e-11, atol=1e-13)
