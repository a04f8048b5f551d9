"""Sums over no elements: NumPy's values, gradients of zeros, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import compare

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor

Shape = tuple[int, ...]

PRODUCTS: list[tuple[Shape, Shape]] = [
    ((0,), (0,)),
    ((0,), (0, 4)),
    ((3, 0), (0,)),
    ((3, 0), (0, 4)),
    ((2, 3, 0), (0,)),
    ((2, 3, 0), (0, 4)),
    ((2, 3, 0), (2, 0, 4)),
    ((2, 1, 3, 0), (5, 0, 4)),
    ((0,), (2, 0, 3)),
    ((0, 3), (3, 4)),
    ((2, 0, 3), (3, 4)),
    ((0, 2, 3), (3, 4)),
    ((2, 2, 3), (3, 0)),
    ((0, 0, 0), (0, 0)),
]
LINEAR: list[tuple[Shape, ...]] = [
    ((0,), (4, 0), (4,)),
    ((3, 0), (4, 0), (4,)),
    ((2, 3, 0), (4, 0), (4,)),
    ((2, 3, 0), (4, 0)),
    ((0, 3), (4, 3), (4,)),
    ((2, 0, 3), (4, 3), (4,)),
    ((2, 3), (0, 3), (0,)),
    ((2, 2, 3), (0, 3), (0,)),
]
CONVOLUTIONS: list[tuple[Shape, Shape, int, int]] = [  # input, weight, outputs, groups
    ((2, 0, 5, 5), (3, 0, 3, 3), 3, 1),
    ((0, 2, 5, 5), (3, 2, 3, 3), 3, 1),
    ((2, 2, 5, 5), (0, 2, 3, 3), 0, 1),
    ((0, 4, 5, 5), (4, 2, 3, 3), 4, 2),
    ((0, 4, 5, 5), (4, 1, 3, 3), 4, 4),
    ((2, 0, 5), (3, 0, 3), 3, 1),
]
TRANSPOSED: list[tuple[Shape, Shape, int, int]] = [
    ((2, 0, 5, 5), (0, 3, 3, 3), 3, 1),
    ((0, 2, 5, 5), (2, 3, 3, 3), 3, 1),
    ((2, 2, 5, 5), (2, 0, 3, 3), 0, 1),
    ((0, 4, 5, 5), (4, 1, 3, 3), 4, 4),
    ((2, 0, 5), (0, 3, 3), 3, 1),
]


def numbers(*shapes: Shape) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for shape in shapes]


def check(function: Callable[..., Any], *inputs: np.ndarray, expected: Any) -> None:
    """The value, gradients in the shapes of the inputs and without NaN, and all that compiled."""

    def step(*given: Any) -> Any:
        y, vjp = tk.vjp(function, *given)
        return y, *vjp(np.ones(y.shape, y.dtype))

    y, *gradients = step(*map(Tensor, inputs))
    np.testing.assert_allclose(y.data, expected, rtol=1e-14)
    assert y.shape == np.shape(expected)
    for x, gradient in zip(inputs, gradients, strict=True):
        assert gradient.shape == x.shape and np.isfinite(gradient.data).all()
        if not y.size:
            assert not gradient.data.any()
    compare(step, *map(Tensor, inputs), scales=(1, 2, 1))


@pytest.mark.parametrize(("left", "right"), PRODUCTS)
def test_products_of_no_terms(left: Shape, right: Shape) -> None:
    a, b = numbers(left, right)
    check(lambda a, b: a @ b, a, b, expected=a @ b)


@pytest.mark.parametrize("shapes", LINEAR)
def test_layers_of_no_features(shapes: tuple[Shape, ...]) -> None:
    x, w, *b = numbers(*shapes)
    check(F.linear, x, w, *b, expected=x @ w.T + (b[0] if b else 0.0))


@pytest.mark.parametrize(
    ("subscripts", "left", "right"),
    [
        ("ij,jk->ik", (3, 0), (0, 4)),
        ("ij,jk->ik", (0, 3), (3, 4)),
        ("bij,jk->bik", (2, 3, 0), (0, 4)),
        ("bij,bjk->bik", (2, 3, 0), (2, 0, 4)),
        ("ii,j->j", (0, 0), (3,)),
        ("i,j->", (0,), (3,)),
    ],
)
def test_einsum_of_no_terms(subscripts: str, left: Shape, right: Shape) -> None:
    a, b = numbers(left, right)
    check(lambda a, b: tk.einsum(subscripts, a, b), a, b, expected=np.einsum(subscripts, a, b))


@pytest.mark.parametrize(("input", "weight", "outputs", "groups"), CONVOLUTIONS)
def test_convolutions_of_no_terms(input: Shape, weight: Shape, outputs: int, groups: int) -> None:
    x, w, b = numbers(input, weight, (outputs,))
    function = F.conv2d if x.ndim == 4 else F.conv1d
    expected = np.zeros((len(x), outputs, *[3] * (x.ndim - 2)))
    expected += b.reshape(-1, *[1] * (x.ndim - 2)) if outputs else 0.0
    check(lambda x, w, b: function(x, w, b, groups=groups), x, w, b, expected=expected)


@pytest.mark.parametrize(("input", "weight", "outputs", "groups"), TRANSPOSED)
def test_transposed_convolutions_of_no_terms(
    input: Shape, weight: Shape, outputs: int, groups: int
) -> None:
    x, w, b = numbers(input, weight, (outputs,))
    function = F.conv_transpose2d if x.ndim == 4 else F.conv_transpose1d
    expected = np.zeros((len(x), outputs, *[7] * (x.ndim - 2)))
    expected += b.reshape(-1, *[1] * (x.ndim - 2)) if outputs else 0.0
    check(lambda x, w, b: function(x, w, b, groups=groups), x, w, b, expected=expected)


@pytest.mark.parametrize(
    ("function", "empty"),
    [
        (lambda x, a: x.sum(a), 0.0),
        (lambda x, a: x.prod(a), 1.0),
        (lambda x, a: x.logsumexp(a), -np.inf),
        (lambda x, a: x.norm(axis=a), 0.0),
        (lambda x, a: x.norm(1, axis=a), 0.0),
        (lambda x, a: x.norm(3, axis=a), 0.0),
        (lambda x, a: x.mean(a), np.nan),
        (lambda x, a: x.var(a), np.nan),
        (lambda x, a: x.std(a), np.nan),
    ],
)
def test_reductions_of_no_elements(function: Callable[..., Any], empty: float) -> None:
    (x,) = numbers((3, 0, 2))
    for axis, shape in ((1, (3, 2)), ((0, 1), (2,)), (None, ()), (0, (0, 2))):
        check(lambda x, axis=axis: function(x, axis), x, expected=np.full(shape, empty))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.cumsum(1),
        lambda x: x.cumprod(0),
        lambda x: F.softmax(x, 1),
        lambda x: F.log_softmax(x, 0),
        lambda x: F.normalize(x),
        lambda x: x.flip(0),
    ],
)
def test_functions_along_an_axis_of_no_elements(function: Callable[..., Any]) -> None:
    for shape in ((3, 0), (0, 3)):
        check(function, np.zeros(shape), expected=np.zeros(shape))


def test_vectors_of_no_elements_have_no_cosine() -> None:
    a, b = numbers((3, 0), (3, 0))
    check(F.cosine_similarity, a, b, expected=np.zeros(3))


def test_second_derivatives_of_a_product_of_no_terms() -> None:
    def loss(a: Any, b: Any) -> Any:
        return (a @ b).square().sum()

    hessian = tk.hessian(loss, argnums=(0, 1))(np.zeros((2, 1, 0)), np.zeros((0, 2)))
    assert hessian[0][1].shape == (2, 1, 0, 0, 2)
