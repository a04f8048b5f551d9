"""Least squares, triangular systems, QR, and the arguments that PyTorch's functions take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import backend as backend
from harness import compare
from numpy import ndarray

import tinygrad_kr as tk
from tinygrad_kr import Tensor, linalg, no_grad
from tinygrad_kr.testing import check_grads

RANDOM = np.random.default_rng(11)
Function = Callable[..., Any]


def normal(*sizes: int) -> ndarray:
    return np.asarray(RANDOM.normal(size=sizes))


def triangular(*sizes: int) -> ndarray:
    """Square matrices, also outside the triangle, with a diagonal away from 0."""
    return normal(*sizes) + 3 * np.eye(sizes[-1])


# ------------------------------------------------------------------ least squares


def polynomial_fit(degree: int) -> tuple[ndarray, ndarray]:
    """An ill-conditioned problem: powers of 60 points."""
    t = np.linspace(0, 1, 60)
    return np.vander(t, degree + 1), np.exp(t) * np.cos(5 * t)


@pytest.mark.parametrize("degree", [4, 10, 16])
def test_least_squares_are_as_accurate_as_numpys(degree: int) -> None:
    a, b = polynomial_fit(degree)
    residual = np.abs(a @ np.linalg.lstsq(a, b)[0] - b).max()
    for found in (
        linalg.lstsq(Tensor(a), Tensor(b)).solution,
        np.linalg.lstsq(Tensor(a), Tensor(b))[0],
        linalg.lstsq(Tensor(a), Tensor(b[:, None])).solution[:, 0],
    ):
        assert np.abs(a @ found.data - b).max() <= 2 * residual


def test_gradients_of_an_ill_conditioned_fit() -> None:
    """Against the normal equations in exact arithmetic."""
    a, b = polynomial_fit(6)
    weights = np.arange(1.0, 8)
    found = tk.grad(lambda a, b: (linalg.lstsq(a, b).solution * weights).sum(), (0, 1))(a, b)
    exact = a.astype(np.longdouble)
    q, r = np.linalg.qr(a)
    x = np.linalg.solve(r, q.T @ b)
    z = q @ np.linalg.solve(r.T, weights)
    w = np.linalg.solve(r, np.linalg.solve(r.T, weights))
    residual = (b - exact @ x).astype(np.float64)
    np.testing.assert_allclose(found[1], z, rtol=1e-8, atol=1e-10 * np.abs(z).max())
    slope = np.outer(residual, w) - np.outer(z, x)
    np.testing.assert_allclose(found[0], slope, rtol=1e-6, atol=1e-8 * np.abs(slope).max())


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((4, 2), (4,)),
        ((4, 2), (4, 3)),
        ((2, 4), (2, 2)),
        ((2, 4, 2), (2, 4, 1)),
        ((4, 2), (3, 4, 1)),
        ((2, 1, 2, 3), (3, 2, 1)),
    ],
)
def test_batches_of_least_squares(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    left, right = normal(*a), normal(*b)
    columns = right[..., None] if right.ndim == 1 else right
    expected = np.linalg.pinv(left) @ columns
    found = linalg.lstsq(Tensor(left), Tensor(right)).solution
    np.testing.assert_allclose(found.data.reshape(expected.shape), expected, rtol=1e-10, atol=1e-12)
    check_grads(lambda a, b: linalg.lstsq(a, b).solution, (left, right), order=2, fast=True)


def test_least_squares_at_constant_rank() -> None:
    u, v, b = normal(5, 2), normal(2, 3), normal(5, 2)
    check_grads(
        lambda u, v, b: linalg.lstsq(u @ v, b, rcond=1e-6).solution, (u, v, b), order=2, rtol=1e-5
    )
    assert linalg.lstsq(Tensor(u @ v), Tensor(b)).rank.item() == 2


def test_compiled_pinv_with_a_tensor_for_rtol() -> None:
    def step(a: Tensor, rtol: Tensor) -> tuple[Tensor, Tensor]:
        a = a.detach().requires_grad_()
        y = linalg.pinv(a, rtol=rtol)
        return y.detach(), tk.autograd.grad(y.sum(), a)[0]

    compiled, a = tk.compile(step), Tensor(np.diag([1.0, 0.5]))
    for rtol in (0.1, 0.1, 0.1, 0.7, 0.7, 0.1):
        for found, expected in zip(
            compiled(a, tk.tensor(rtol)), step(a, tk.tensor(rtol)), strict=True
        ):
            np.testing.assert_array_equal(found.data, expected.data, strict=True)
        assert compiled(a, tk.tensor(rtol))[0].data[1, 1] == (2 if rtol < 0.5 else 0)


def test_arguments_of_lstsq() -> None:
    a, b = Tensor(np.diag([1.0, 0.1])), Tensor(np.ones(2))
    for driver in (None, "gels", "gelsy", "gelsd", "gelss"):
        np.testing.assert_allclose(linalg.lstsq(a, b, driver=driver).solution.data, [1, 10])
    tall = Tensor(np.eye(3, 2)), Tensor(np.ones((3, 4)))  # PyTorch's shapes of what is computed
    for driver, shapes in {
        None: [(4,), (), (2,)],
        "gels": [(4,), (0,), (0,)],
        "gelsy": [(0,), (), (0,)],
        "gelsd": [(4,), (), (2,)],
        "gelss": [(4,), (), (2,)],
    }.items():
        assert [part.shape for part in linalg.lstsq(*tall, driver=driver)[1:]] == shapes
    for found in (linalg.lstsq(a, b, 0.5), linalg.lstsq(a, b, rtol=0.5)):
        np.testing.assert_allclose(found.solution.data, [1, 0], atol=1e-15)
        assert found.rank.item() == 1
    with pytest.raises(ValueError, match="lstsq: expected a driver among gels, gelsy"):
        linalg.lstsq(a, b, driver="qr")


# ------------------------------------------------------------------ triangular systems


@pytest.mark.parametrize("upper", [True, False])
@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("unitriangular", [True, False])
@pytest.mark.parametrize("batch", [(), (2,), (2, 1)])
def test_triangular_systems(
    upper: bool, left: bool, unitriangular: bool, batch: tuple[int, ...]
) -> None:
    a, b = triangular(*batch, 3, 3), normal(*(3,) * bool(batch), 3, 2).swapaxes(-1, -2)
    b = b.swapaxes(-1, -2) if left else b
    t = np.triu(a) if upper else np.tril(a)
    if unitriangular:
        t = t - t * np.eye(3) + np.eye(3)

    def solve(a: Any, b: Any) -> Any:
        return linalg.solve_triangular(a, b, upper=upper, left=left, unitriangular=unitriangular)

    if batch:
        b = b[:1] if batch == (2, 1) else b[:2]
    x = solve(Tensor(a), Tensor(b)).data
    np.testing.assert_allclose(t @ x if left else x @ t, np.broadcast_to(b, x.shape), atol=1e-12)
    check_grads(solve, (a, b), order=2, fast=True)
    gradient = tk.grad(lambda a: solve(a, b).sum())(a)
    outside = np.tril(gradient, -1) if upper else np.triu(gradient, 1)
    assert not outside.any()
    assert unitriangular != np.diagonal(gradient, axis1=-2, axis2=-1).any()


def test_what_is_outside_the_triangle_is_not_read() -> None:
    a = np.where(np.tri(3), triangular(3, 3), np.nan)
    x = linalg.solve_triangular(Tensor(a), Tensor(normal(3, 2)), upper=False)
    assert np.isfinite(x.data).all()
    np.fill_diagonal(a, np.nan)
    x = linalg.solve_triangular(Tensor(a), Tensor(normal(3, 2)), upper=False, unitriangular=True)
    assert np.isfinite(x.data).all()


@pytest.mark.parametrize("upper", [True, False])
def test_substitution_is_as_accurate_for_graded_triangles(upper: bool) -> None:
    """Row exchanges would lose the small solutions."""
    n = 12
    t = (np.triu if upper else np.tril)(np.full((n, n), 1.0)) * np.logspace(0, 200, n)[:, None]
    x = np.arange(1.0, n + 1)[:, None]
    found = linalg.solve_triangular(Tensor(t), Tensor(t @ x), upper=upper).data
    np.testing.assert_allclose(found, x, rtol=1e-12)


def test_triangular_systems_refused() -> None:
    a = Tensor(triangular(3, 3))
    with pytest.raises(ValueError, match="solve_triangular: expected square matrices"):
        linalg.solve_triangular(a, Tensor(normal(3)), upper=True)
    with pytest.raises(np.linalg.LinAlgError, match="solve_triangular"):
        linalg.solve_triangular(Tensor(np.zeros((2, 2))), Tensor(normal(2, 1)), upper=True)


# ------------------------------------------------------------------ QR

SHAPES = [(3, 3), (4, 2), (2, 4), (1, 1), (2, 3, 2), (2, 1, 2, 3)]


@pytest.mark.parametrize("sizes", SHAPES)
@pytest.mark.parametrize("mode", ["reduced", "complete", "r"])
def test_qr_has_numpys_values(sizes: tuple[int, ...], mode: str) -> None:
    a = normal(*sizes)
    found = linalg.qr(Tensor(a), mode)
    if mode == "r":
        assert found.Q.shape == (0,)
        np.testing.assert_allclose(found.R.data, np.linalg.qr(a, mode), atol=1e-12)
        np.testing.assert_allclose(np.linalg.qr(Tensor(a), mode).data, found.R.data)
        return
    expected = np.linalg.qr(a, mode)
    for x, y, z in zip(found, expected, np.linalg.qr(Tensor(a), mode), strict=True):
        assert x.shape == y.shape
        np.testing.assert_allclose(x.data, y, atol=1e-12)
        np.testing.assert_allclose(z.data, y, atol=1e-12)


@pytest.mark.parametrize("sizes", SHAPES)
def test_derivatives_of_qr(sizes: tuple[int, ...]) -> None:
    a = normal(*sizes)
    check_grads(lambda a: tuple(linalg.qr(a)), (a,), order=2, fast=True)
    check_grads(lambda a: linalg.qr(a, "r").R, (a,), order=2, fast=True)
    weights = normal(*sizes)
    found = tk.grad(lambda a: (linalg.matmul(*linalg.qr(a)) * weights).sum())(a)
    np.testing.assert_allclose(found, weights, atol=1e-11)


@pytest.mark.parametrize("sizes", [(3, 3), (4, 2), (2, 3)])
def test_third_derivatives_of_qr(sizes: tuple[int, int]) -> None:
    a = normal(*sizes)
    check_grads(lambda a: linalg.qr(a).Q, (a,), order=3, fast=True, rtol=1e-4, atol=1e-5)


def test_qr_of_dependent_columns_has_no_derivative() -> None:
    for a in (np.zeros((3, 2)), np.ones((3, 2)), np.outer([1.0, 2.0], [3.0, 4.0])):
        for part in (0, 1):
            f = lambda a: linalg.qr(a)[part].sum()  # noqa: E731, B023
            assert np.isnan(tk.grad(f)(a)).all()
            assert np.isnan(tk.jvp(f, (a,), (np.ones(a.shape),))[1]).all()


def test_a_complete_qr_is_refused_where_gradients_are_recorded() -> None:
    t = Tensor(normal(3, 2), requires_grad=True)
    with pytest.raises(ValueError, match=r'qr: .* got shape \(3, 2\)\. Pass mode="reduced"'):
        linalg.qr(t, "complete")
    with no_grad():
        assert linalg.qr(t, "complete").Q.shape == (3, 3)
    assert linalg.qr(Tensor(normal(2, 3), requires_grad=True), "complete").Q.requires_grad
    with pytest.raises(ValueError, match='qr: expected mode "reduced", "complete" or "r"'):
        linalg.qr(t, "raw")


# ------------------------------------------------------------------ tolerances and symmetric input

SYMMETRIC = np.array([[2.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, -4.0]])
LOPSIDED = SYMMETRIC + np.array([[0.0, 7.0, 8.0], [0.0, 0.0, 9.0], [0.0, 0.0, 0.0]])


def test_tolerances_of_pinv() -> None:
    a = np.diag([1.0, 0.1, 0.001])
    for options, kept in (
        ({}, 3),
        ({"rtol": 0.01}, 2),
        ({"rcond": 0.01}, 2),
        ({"atol": 0.5}, 1),
        ({"atol": 0.05, "rtol": 0.5}, 1),
        ({"atol": 0.05, "rtol": 0.0}, 2),
        ({"atol": np.array([0.5]), "rtol": np.array([0.0])}, 1),
    ):
        expected = np.diag([1.0, 10.0, 1000.0]) * (np.arange(3) < kept)
        given: dict[str, Any] = options
        found = linalg.pinv(Tensor(a[None]), **given).data[0]
        np.testing.assert_allclose(found, expected, atol=1e-12)
        rank = {"rtol" if k == "rcond" else k: v for k, v in given.items()}
        assert linalg.matrix_rank(Tensor(a[None]), **rank).item() == kept
    batch = np.stack([a, a])
    ranks = linalg.matrix_rank(Tensor(batch), atol=np.array([0.5, 0.01])).tolist()
    assert ranks == linalg.matrix_rank(batch, np.array([0.5, 0.01])).tolist() == [1, 2]


def test_hermitian_reads_the_symmetric_part() -> None:
    symmetric = (LOPSIDED + LOPSIDED.T) / 2
    for function in (
        lambda a, **options: linalg.pinv(a, **options),
        lambda a, **options: linalg.matrix_rank(a, **options),
    ):
        found = function(Tensor(LOPSIDED), hermitian=True).data
        np.testing.assert_allclose(found, function(Tensor(symmetric)).data, atol=1e-12)
    slope = tk.grad(lambda a: linalg.pinv(a, hermitian=True)[0, 1])(LOPSIDED)
    np.testing.assert_allclose(slope, slope.T, atol=1e-12)
    check_grads(lambda a: linalg.pinv(a, hermitian=True), (LOPSIDED,), order=2, fast=True)
    with pytest.raises(ValueError, match="pinv: expected square matrices with hermitian=True"):
        linalg.pinv(Tensor(normal(2, 3)), hermitian=True)


def test_numpys_hermitian_reads_the_lower_triangle() -> None:
    lower = np.tril(LOPSIDED)
    t = Tensor(lower)
    np.testing.assert_allclose(
        np.linalg.pinv(t, hermitian=True).data, np.linalg.pinv(lower, hermitian=True), atol=1e-12
    )
    assert np.linalg.matrix_rank(t, hermitian=True).item() == 3
    found = np.linalg.svd(t, hermitian=True)
    np.testing.assert_allclose(found.S.data, np.linalg.svd(SYMMETRIC).S)
    np.testing.assert_allclose((found.U * found.S @ found.Vh).data, SYMMETRIC, atol=1e-12)
    values = np.linalg.svd(t, compute_uv=False, hermitian=True)
    np.testing.assert_allclose(values.data, np.linalg.svd(SYMMETRIC).S)


def test_drivers_of_svd() -> None:
    a = Tensor(normal(3, 2))
    for driver in (None, "gesvd", "gesvdj", "gesvda"):
        np.testing.assert_array_equal(linalg.svdvals(a, driver=driver), linalg.svdvals(a))
        assert linalg.svd(a, False, driver=driver).U.shape == (3, 2)
    for function in (linalg.svd, linalg.svdvals):
        with pytest.raises(ValueError, match="expected a driver among gesvd, gesvdj, gesvda"):
            function(a, driver="gels")


# ------------------------------------------------------------------ dtypes and compiling


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_compiled_solutions_are_the_eager_ones(dtype: str, backend: str) -> None:
    def solutions(a: Any, b: Any) -> Any:
        def loss(a: Any, b: Any) -> Any:
            q, r = linalg.qr(a)
            x = linalg.solve_triangular(r, q.mT @ b, upper=True)
            return (x**2).sum() + (linalg.pinv(a, atol=1e-3, rtol=0.0) ** 2).sum()

        return tk.grad(loss, (0, 1))(a, b)

    a, b = normal(4, 3) + 2 * np.eye(4, 3), normal(4, 2)
    given = Tensor(a.astype(dtype)), Tensor(b.astype(dtype))
    compare(solutions, *given, rtol=1e-3 if dtype == "float32" else 1e-9, of_largest=True)


@pytest.mark.parametrize(
    "f",
    [
        lambda a, b: linalg.lstsq(a, b).solution,
        lambda a, b: linalg.solve_triangular(a[:2], b[:2], upper=True),
        lambda a, b: linalg.qr(a).Q,
        lambda a, b: linalg.qr(a).R,
        lambda a, b: linalg.pinv(a, atol=0.1, hermitian=False),
    ],
)
def test_float32_and_integers(f: Function) -> None:
    a, b = np.array([[2, 1], [1, 3], [1, -4]]), np.array([[1, 2], [3, 4], [5, 6]])
    exact = f(Tensor(a.astype(np.float64)), Tensor(b.astype(np.float64))).data
    for x, y in ((a, b), (a.astype(np.float32), b.astype(np.float32))):
        found = f(Tensor(x), Tensor(y))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found.data, exact, rtol=1e-5, atol=1e-6)
    t = Tensor(a.astype(np.float32), requires_grad=True)
    f(t, Tensor(b.astype(np.float32))).sum().backward()
    assert t.grad is not None and t.grad.dtype == np.float32
