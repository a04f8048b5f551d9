"""Norms at extremes, and what has a subgradient but no second derivative."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import backend as backend
from harness import compare

import tinygrad_kr as tk
from tinygrad_kr import functional as F
from tinygrad_kr.ops.elementwise import kink
from tinygrad_kr.testing import check_grads

INF = math.inf
Function = Callable[[Any], Any]

# ------------------------------------------------------------------ subgradients

KINKS: list[tuple[str, Function]] = [
    ("norm", np.linalg.norm),
    ("3-norm", lambda x: tk.linalg.vector_norm(x, 3)),
    ("1.5-norm", lambda x: tk.linalg.vector_norm(x, 1.5)),
    ("0.5-norm", lambda x: tk.linalg.vector_norm(x, 0.5)),
    ("-1-norm", lambda x: tk.linalg.vector_norm(x, -1)),
    ("frobenius", lambda x: tk.linalg.matrix_norm(x.reshape(1, 2))),
    ("std", np.std),
    ("hypot", lambda x: np.hypot(x[0], x[1])),
    ("arctan2", lambda x: np.arctan2(x[0], x[1])),
]
every_kink = pytest.mark.parametrize("f", [f for _, f in KINKS], ids=[name for name, _ in KINKS])
ZERO = np.zeros(2)


def squared(f: Function) -> Function:
    return lambda x: f(x) ** 2


@every_kink
def test_the_gradient_is_0_and_later_derivatives_are_nan(f: Function) -> None:
    np.testing.assert_array_equal(tk.grad(f)(ZERO), 0.0)
    assert np.isnan(tk.hessian(f)(ZERO)).all()
    assert np.isnan(tk.jacobian(tk.hessian(f))(ZERO)).all()
    assert tk.jvp(f, (ZERO,), (np.array([1.0, -1.0]),))[1] == 0


Way = Callable[[Function, Any, Any], Any]

WAYS: dict[str, Way] = {
    "grad of grad": lambda f, x, v: tk.grad(lambda x: (tk.grad(f)(x) * v).sum())(x),
    "jvp of grad": lambda f, x, v: tk.jvp(tk.grad(f), (x,), (v,))[1],
    "grad of jvp": lambda f, x, v: tk.grad(lambda x: tk.jvp(f, (x,), (v,))[1])(x),
    "jvp of jvp": lambda f, x, v: tk.jvp(lambda x: tk.jvp(f, (x,), (v,))[1], (x,), (v,))[1],
    "hvp": lambda f, x, v: tk.hvp(f, (x,), (v,))[0],
    "vjp of grad": lambda f, x, v: tk.vjp(tk.grad(f), x)[1](v)[0],
    "hessian": lambda f, x, v: tk.hessian(f)(x) @ v,
    "jacobian of grad": lambda f, x, v: tk.jacobian(tk.grad(f))(x) @ v,
    "jacobian of jvp": lambda f, x, v: tk.jacobian(lambda x: tk.jvp(f, (x,), (v,))[1])(x),
}
"""The second derivative by every order of modes; along `v`, or in all directions."""
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)

SCALED: dict[str, Callable[[Function], Function]] = {
    "itself": lambda f: f,
    "negative": lambda f: lambda x: -f(x),
    "square": squared,
    "bell": lambda f: lambda x: np.exp(-(f(x) ** 2)),
    "product": lambda f: lambda x: f(x) * x[0],
}
"""Of a kink k: k, -k, k^2, exp(-k^2), k x; the last three have a first derivative of 0 there."""


@pytest.mark.one_in(3)
@every_way
@every_kink
@pytest.mark.parametrize("scaled", SCALED.values(), ids=SCALED)
def test_every_way_to_a_second_derivative_is_nan(
    scaled: Callable[[Function], Function], f: Function, way: Way
) -> None:
    """A factor of 0 does not hide it: the rule cannot know the second derivative of a square."""
    np.testing.assert_array_equal(tk.grad(scaled(f))(ZERO), 0.0)
    assert np.isnan(way(scaled(f), ZERO, np.array([1.0, 0.0]))).all()


@pytest.mark.one_in(3)
@every_kink
def test_every_compiled_way_is_nan(f: Function, backend: str) -> None:
    def second(x: Any) -> Any:
        return [way(squared(f), x, np.array([1.0, -2.0])) for way in WAYS.values()]

    compiled = compare(second, tk.Tensor(np.array([3.0, 4.0])), scales=[1, 0, 1])
    for found in compiled(tk.Tensor(ZERO)):
        assert np.isnan(found.data).all()


def test_the_second_derivative_by_a_tangent_or_a_factor_is_nan() -> None:
    """Of jvp and grad by what they are linear in, at 0."""
    for f in (np.linalg.norm, np.std, lambda x: np.hypot(x[0], x[1])):
        slope = tk.grad(lambda x, v: tk.jvp(f, (x,), (v,))[1])  # noqa: B023
        assert np.isnan(tk.jacobian(slope, 1)(ZERO, ZERO)).all()
        product = lambda s, x: tk.hvp(lambda x: s * f(x), (x,), (np.ones(2),))[0]  # noqa: B023, E731
        assert np.isnan(tk.jacobian(product)(np.zeros(()), ZERO)).all()


SINGULAR: list[tuple[str, Function, np.ndarray]] = [
    ("nuclear norm", lambda a: tk.linalg.matrix_norm(a, "nuc"), np.diag([1.0, 0.0])),
    ("squares of singular values", lambda a: (tk.linalg.svdvals(a) ** 2).sum(), np.zeros((2, 2))),
    ("squares of eigenvalues", lambda a: (tk.linalg.eigvalsh(a) ** 2).sum(), np.eye(2)),
    ("squares of distances", lambda x: (tk.cdist(x, np.eye(2)) ** 2).sum(), np.eye(2)),
]


@every_way
@pytest.mark.parametrize(
    ("f", "at"), [row[1:] for row in SINGULAR], ids=[name for name, *_ in SINGULAR]
)
def test_every_way_agrees_for_matrices(f: Function, at: np.ndarray, way: Way) -> None:
    flat: Function = lambda x: f(x.reshape(at.shape))  # noqa: E731
    assert np.isnan(way(flat, at.reshape(-1), np.array([1.0, -2.0, 3.0, 0.5]))).any()


@every_way
@every_kink
def test_a_direction_of_0_stays_0(f: Function, way: Way) -> None:
    if way not in (WAYS["hessian"], WAYS["jacobian of grad"]):  # all directions
        np.testing.assert_array_equal(way(f, ZERO, ZERO), 0.0)


@every_way
def test_a_row_at_0_leaves_the_others_second_derivatives(way: Way) -> None:
    def f(x: Any) -> Any:
        return (np.linalg.norm(x.reshape(2, 2), axis=1) ** 2).sum()

    found = way(f, np.array([0.0, 0.0, 3.0, 4.0]), np.array([0.0, 0.0, 1.0, 2.0]))
    if way is WAYS["jvp of jvp"]:
        np.testing.assert_allclose(found, 10.0)
    else:
        np.testing.assert_allclose(found[2:], [2.0, 4.0])


def test_a_kink_has_no_derivative_of_any_order() -> None:
    f: Any = lambda x: kink(x, np.array([True, False])).sum()  # noqa: E731
    assert f(np.ones(2)) == 0
    for _ in range(4):
        f = tk.jacobian(f)
        found = f(np.ones(2)).reshape(-1)
        assert np.isnan(found[0]) and found[-1] == 0


@pytest.mark.parametrize(("p", "undefined"), [(3.0, False), (1.5, True), (0.5, True)])
def test_one_element_at_0_leaves_the_others_second_derivatives(p: float, undefined: bool) -> None:
    def f(x: Any) -> Any:
        return tk.linalg.vector_norm(x, p)

    found = tk.hessian(f)(np.array([0.0, 1.0, 2.0]))
    assert np.isnan(found[0, 0]) == undefined
    np.testing.assert_array_equal([*found[0, 1:], *found[1:, 0]], 0.0)
    np.testing.assert_allclose(found[1:, 1:], tk.hessian(f)(np.array([1.0, 2.0])), rtol=1e-12)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.relu(),
        np.abs,
        lambda x: np.maximum(x, 0.0),
        lambda x: np.minimum(x, 0.0),
        lambda x: x.clip(0.0, 1.0),
        lambda x: x.max(),
        lambda x: tk.linalg.vector_norm(x, 1),
        lambda x: tk.linalg.vector_norm(x, INF),
    ],
)
def test_piecewise_linear_functions_keep_0(f: Function) -> None:
    np.testing.assert_array_equal(tk.hessian(lambda x: f(x).sum())(ZERO), 0.0)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, INF])
def test_normalize_at_0_is_linear(p: float) -> None:
    """Below eps it divides by eps, so that all derivatives exist."""
    x = np.array([[0.0, 0.0], [3.0, 4.0]])
    slope = tk.jacobian(lambda x: F.normalize(x, p))(x)
    np.testing.assert_allclose(slope[0, :, 0], 1e12 * np.eye(2), rtol=1e-12)
    second = tk.jacobian(tk.jacobian(lambda x: F.normalize(x, p)))(x)
    assert np.isfinite(second).all() and not second[0].any()
    check_grads(lambda x: F.normalize(x, p), x[1:], order=2)


def test_cosine_similarity_at_0_is_linear_in_the_short_vector() -> None:
    y = np.array([[3.0, 4.0]])
    slope = tk.grad(lambda x: F.cosine_similarity(x, y).sum())
    np.testing.assert_allclose(slope(np.zeros((1, 2))), [[0.6e8, 0.8e8]])
    np.testing.assert_array_equal(tk.jacobian(slope)(np.zeros((1, 2))), 0.0)


def test_a_compiled_hessian_is_nan_where_the_eager_one_is(backend: str) -> None:
    def both(x: Any) -> Any:
        rows = tk.hessian(lambda x: np.linalg.norm(x, axis=1).sum())(x)
        return rows, tk.hessian(lambda x: np.std(x) ** 2)(x)

    compare(both, tk.Tensor(np.array([[0.0, 0.0], [3.0, 4.0]])), scales=[1, 0, 1])


# ------------------------------------------------------------------ neither over- nor underflow

NORMS: list[tuple[str, Function]] = [
    ("norm", np.linalg.norm),
    ("rows", lambda x: np.linalg.norm(x.reshape(2, 2), axis=1).sum()),
    ("frobenius", lambda x: np.linalg.norm(x.reshape(2, 2))),
    ("std", np.std),
    ("hypot", lambda x: np.hypot(x[:2], x[2:]).sum()),
    *(
        (f"{p}-norm", lambda x, p=p: tk.linalg.vector_norm(x, p))
        for p in (1, 1.5, 3, 10, 0.5, -1, -2.5, INF, -INF)
    ),
    *(
        (f"matrix {p}", lambda x, p=p: np.linalg.norm(x.reshape(2, 2), p))
        for p in ("nuc", 2, -2, 1, -1, INF)
    ),
]
SIZES = {
    "float16": [1e-5, 1.0, 1e3],
    "float32": [1e-36, 1e-20, 1.0, 1e20, 1e36],
    "float64": [1e-300, 1e-160, 1.0, 1e160, 1e300],
}
POINT = np.array([3.0, -4.0, 1.0, 7.0])


def with_gradient(f: Function) -> Function:
    return lambda x: tk.value_and_grad(f)(x)


@pytest.mark.parametrize(("name", "f"), NORMS, ids=[name for name, _ in NORMS])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_norm_is_homogeneous_at_every_size(name: str, f: Function, dtype: str) -> None:
    value, slope = with_gradient(f)(POINT)
    for size in SIZES[dtype]:
        x = (POINT * size).astype(dtype)
        found, gradient = with_gradient(f)(x)
        assert found.dtype == gradient.dtype == dtype
        rtol = 1e-5 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(found / size, value, rtol=rtol)
        np.testing.assert_allclose(gradient, slope, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_compiled_norms_at_every_size(dtype: str, backend: str) -> None:
    def all_norms(x: Any) -> Any:
        return [with_gradient(f)(x) for _, f in NORMS]

    point = tk.Tensor(POINT.astype(dtype))
    sizes = SIZES[dtype]
    compare(all_norms, point, scales=[sizes[2], *sizes], of_largest=False)


@pytest.mark.parametrize("f", [np.linalg.norm, np.std, NORMS[6][1]])
def test_float16_norms_are_carried_in_float32(f: Function) -> None:
    for size in SIZES["float16"]:
        x = (POINT * size).astype(np.float16)
        found, gradient = with_gradient(f)(x)
        value, slope = with_gradient(f)(x.astype(np.float64))
        assert found.dtype == gradient.dtype == np.float16
        np.testing.assert_allclose(found, value, rtol=1e-3)
        np.testing.assert_allclose(gradient, slope, rtol=2e-2, atol=1e-3)


def test_rows_of_every_size_beside_each_other() -> None:
    rows = np.array([[3e-30, 4e-30], [3.0, 4.0], [3e30, 4e30], [0.0, 0.0]], np.float32)
    found, slope = tk.value_and_grad(lambda x: (np.linalg.norm(x, axis=1) * [1, 1, 1, 1]).sum())(
        rows
    )
    assert found == np.float32(5e30)
    np.testing.assert_allclose(slope, [[0.6, 0.8]] * 3 + [[0.0, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(
        np.linalg.norm(tk.Tensor(rows), axis=1).data, [5e-30, 5, 5e30, 0], rtol=1e-6
    )


@pytest.mark.parametrize("f", [np.linalg.norm, lambda x: tk.linalg.vector_norm(x, 3)])
def test_norms_of_infinite_and_missing_numbers(f: Function) -> None:
    assert f(tk.Tensor([INF, 1.0])).item() == f(tk.Tensor([-INF, INF])).item() == INF
    assert math.isnan(f(tk.Tensor([math.nan, 1.0])).item())
    whole = np.float64 if f is np.linalg.norm else np.float32  # NumPy's dtype in its functions
    assert f(tk.Tensor([3, -4], dtype=np.int32)).dtype == whole
    assert f(tk.Tensor([1_000_000, 0], dtype=np.int32)).item() == 1e6
    assert f(tk.Tensor(np.zeros(0))).item() == 0


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, INF])
def test_normalize_at_every_size(p: float) -> None:
    for size in (1e-36, 1e-20, 1e20, 1e36):
        x = np.array([[3.0, -4.0]]) * size
        found = F.normalize(tk.Tensor(x.astype(np.float32)), p, eps=0.0).data
        np.testing.assert_allclose(found, x / np.linalg.norm(x[0] / size, p) / size, rtol=1e-6)


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0, INF])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_compiled_clip_has_the_norm_of_the_eager_one(
    dtype: str, order: float, backend: str
) -> None:
    def clipped(x: Any) -> Any:
        w = x.detach().requires_grad_()
        (w * x.detach()).sum().backward()
        norm = tk.optim.clip_grad_norm_([w], 1.0, order)
        return norm, w.grad

    x = tk.Tensor(np.array([[3.0, -4.0], [30.0, 40.0]], dtype))
    compare(clipped, x, scales=[1, *([1e-36, 1e36] if dtype == "float32" else [1000])])


def test_std_of_one_element_is_flat() -> None:
    x = np.array([[1.0], [2.0]])
    second = tk.hessian(lambda x: np.std(x, axis=1).sum())(x)
    np.testing.assert_array_equal(second, np.zeros((2, 1, 2, 1)))
