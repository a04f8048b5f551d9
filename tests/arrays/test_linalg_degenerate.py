"""Decompositions at equal, zero, tiny and huge values: right, or NaN, never finite and wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import backend as backend
from harness import compare
from numpy import ndarray

import tinygrad_kr as tk
from tinygrad_kr import linalg
from tinygrad_kr.testing import check_grads

Function = Callable[[Any], Any]
EYE = np.eye(2)
WEIGHTS = np.array([[1.0, 2.0, -1.0], [3.0, 4.0, 0.5], [0.2, -2.0, 1.0]])


def rotated(*values: float) -> ndarray:
    """A symmetric matrix of these eigenvalues."""
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(len(values),) * 2))
    return np.asarray(q * np.array(values) @ q.T)


def shaped(m: int, n: int, *values: float) -> ndarray:
    """An m x n matrix of these singular values."""
    random = np.random.default_rng(2)
    u, _ = np.linalg.qr(random.normal(size=(m, len(values))))
    v, _ = np.linalg.qr(random.normal(size=(n, len(values))))
    return np.asarray(u * np.array(values) @ v.T)


# ------------------------------------------------------------------ equal values


def by_eigh(a: Any) -> Any:
    w, v = linalg.eigh(a)
    return (v * w) @ v.mT


def by_svd(a: Any) -> Any:
    u, s, vh = linalg.svd(a, full_matrices=False)
    return (u * s) @ vh


REBUILT: list[tuple[str, Function, ndarray]] = [
    ("eigh of I", by_eigh, np.eye(3)),
    ("eigh of 0", by_eigh, np.zeros((3, 3))),
    ("eigh", by_eigh, rotated(2.0, 2.0, 5.0)),
    ("eigh within rounding", by_eigh, rotated(2.0, 2.0 + 1e-15, 5.0)),
    ("svd of I", by_svd, np.eye(3)),
    ("svd of 0", by_svd, np.zeros((3, 3))),
    ("tall svd of 0", by_svd, np.zeros((3, 2))),
    ("wide svd of 0", by_svd, np.zeros((2, 3))),
    ("eigh with zeros", by_eigh, np.diag([0.0, 0.0, 5.0])),
    ("svd with a zero", by_svd, np.diag([0.0, 3.0, 5.0])),
    ("svd with zeros", by_svd, np.diag([0.0, 0.0, 5.0])),
    ("tall svd with a zero", by_svd, np.diag([0.0, 3.0, 5.0])[:, 1:] * [1, 0]),
    ("wide svd with a zero", by_svd, np.diag([0.0, 3.0, 5.0])[:2]),
    ("svd", by_svd, shaped(3, 3, 2.0, 2.0, 5.0)),
    ("tall svd", by_svd, shaped(4, 3, 2.0, 2.0, 5.0)),
    ("wide svd", by_svd, shaped(2, 3, 2.0, 2.0)),
    ("tall svd without full rank", by_svd, shaped(4, 3, 2.0, 1.0)),
    ("wide svd without full rank", by_svd, shaped(3, 4, 2.0, 1.0)),
]


@pytest.mark.parametrize(("name", "f", "a"), REBUILT, ids=[name for name, *_ in REBUILT])
def test_a_matrix_rebuilt_from_its_factors(name: str, f: Function, a: ndarray) -> None:
    """f is the identity: its derivative is that, or NaN where the factors do not give it."""
    weights = np.random.default_rng(0).normal(size=a.shape)
    expected = (weights + weights.T) / 2 if f is by_eigh else weights
    found = tk.grad(lambda a: (f(a) * weights).sum())(a)
    assert np.isnan(found).any() or np.allclose(found, expected)
    _, tangent = tk.jvp(f, (a,), (weights,))
    assert np.isnan(tangent).any() or np.allclose(tangent, expected)


@pytest.mark.parametrize(("name", "f", "a"), REBUILT, ids=[name for name, *_ in REBUILT])
def test_the_second_derivative_of_a_rebuilt_matrix(name: str, f: Function, a: ndarray) -> None:
    """f is the identity: that of the sum of its squares is 2, or NaN."""
    h = np.random.default_rng(0).normal(size=a.shape)
    expected = h + h.T if f is by_eigh else 2 * h
    (found,) = tk.hvp(lambda a: (f(a) ** 2).sum(), (a,), (h,))
    assert np.isnan(found).any() or np.allclose(found, expected)


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bound_is_8_n_eps(size: float, dtype: str) -> None:
    eps = float(np.finfo(dtype).eps)
    for gap, undefined in ((15.0, True), (17.0, False)):
        a = (np.diag([1.0 - gap * eps, 1.0]) * size).astype(dtype)
        for f in (lambda a: linalg.eigh(a).eigenvectors, lambda a: linalg.svd(a).U):
            found = tk.grad(lambda a: f(a)[0, 0] * 1.0)(a)  # noqa: B023
            assert np.isnan(found).all() == undefined


def test_a_vector_apart_keeps_its_derivative_beside_equal_ones() -> None:
    def last(a: Any) -> Any:
        return linalg.eigh(a).eigenvectors[:, 2] ** 2

    def first(a: Any) -> Any:
        return linalg.svd(a, full_matrices=False).U[:, 0] ** 2

    check_grads(last, rotated(2.0, 2.0, 5.0), order=1)
    check_grads(first, shaped(4, 3, 5.0, 2.0, 2.0), order=1)


# ------------------------------------------------------------------ one value beside equal ones


def span(v: Any) -> Any:
    return v[:, None] * v


APART: list[tuple[str, Function, ndarray]] = [
    ("eigenvalue", lambda a: linalg.eigh(a).eigenvalues[2] ** 3, rotated(2.0, 2.0, 5.0)),
    ("eigenvalue alone", lambda a: linalg.eigvalsh(a)[0] ** 3, rotated(1.0, 2.0, 2.0, 2.0)),
    ("eigenvector", lambda a: span(linalg.eigh(a).eigenvectors[:, 2]), rotated(2.0, 2.0, 5.0)),
    ("of diagonal", lambda a: span(linalg.eigh(a).eigenvectors[:, 2]), np.diag([2.0, 2.0, 5.0])),
    ("zeros", lambda a: span(linalg.eigh(a).eigenvectors[:, 2]), np.diag([0.0, 0.0, 5.0])),
    ("singular value", lambda a: linalg.svd(a).S[0] ** 3, shaped(3, 3, 5.0, 2.0, 2.0)),
    ("spectral norm", lambda a: linalg.matrix_norm(a, 2), shaped(4, 3, 5.0, 2.0, 2.0)),
    ("left", lambda a: span(linalg.svd(a).U[:, 0]), shaped(3, 3, 5.0, 2.0, 2.0)),
    ("tall left", lambda a: span(linalg.svd(a, False).U[:, 0]), shaped(4, 3, 5.0, 2.0, 2.0)),
    ("wide left", lambda a: span(linalg.svd(a, False).U[:, 2]), shaped(3, 4, 5.0, 5.0, 2.0)),
    ("right", lambda a: span(linalg.svd(a, False).Vh[0]), shaped(3, 4, 5.0, 2.0, 2.0)),
    ("without full rank", lambda a: span(linalg.svd(a, False).U[:, 0]), shaped(4, 3, 5.0)),
]
every_apart = pytest.mark.parametrize(
    ("f", "a"), [row[1:] for row in APART], ids=[name for name, *_ in APART]
)


@every_apart
def test_a_value_apart_has_both_derivatives_beside_equal_ones(f: Function, a: ndarray) -> None:
    check_grads(f, a, order=2)


@every_apart
def test_every_way_beside_equal_values_agrees(f: Function, a: ndarray) -> None:
    """Every order of modes gives the difference of gradients beside `a`."""
    random = np.random.default_rng(4)
    weights, h = random.normal(size=f(a).shape), random.normal(size=a.shape)

    def summed(a: Any) -> Any:
        return (f(a) * weights).sum()

    slope = tk.grad(summed)
    expected = (slope(a + 1e-5 * h) - slope(a - 1e-5 * h)) / 2e-5
    for found in second_derivatives(summed, a, h):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    along = tk.jvp(lambda a: tk.jvp(summed, (a,), (h,))[1], (a,), (h,))[1]
    np.testing.assert_allclose(along, (expected * h).sum(), rtol=1e-6)


def second_derivatives(f: Function, a: ndarray, h: ndarray) -> list[ndarray]:
    return [
        tk.grad(lambda a: (tk.grad(f)(a) * h).sum())(a),
        tk.jvp(tk.grad(f), (a,), (h,))[1],
        tk.grad(lambda a: tk.jvp(f, (a,), (h,))[1])(a),
        tk.hvp(f, (a,), (h,))[0],
        np.tensordot(tk.hessian(f)(a), h),
    ]


@pytest.mark.one_in(2)
def test_compiled_second_derivatives_beside_equal_values(backend: str) -> None:
    h = np.random.default_rng(4).normal(size=(3, 3))
    _, f, a = APART[2]

    def compiled(a: Any) -> Any:
        return second_derivatives(lambda a: (f(a) * WEIGHTS).sum(), a, h)

    compare(compiled, tk.Tensor(a), scales=[1, 1, 2])


# ------------------------------------------------------------------ functions of matrices


def spectral(g: Function) -> Function:
    def f(a: Any) -> Any:
        w, v = linalg.eigh(a)
        return (v * g(w)) @ v.mT

    return f


def odd(g: Function) -> Function:
    def f(a: Any) -> Any:
        u, s, vh = linalg.svd(a, full_matrices=False)
        return (u * g(s)) @ vh

    return f


ZERO_AT_1: dict[str, tuple[Function, float]] = {
    "log": (np.log, 1.0),
    "w - 1": (lambda w: w - 1, 1.0),
    "sqrt(w) - 1": (lambda w: np.sqrt(w) - 1, 0.5),
    "w^0.1 - 1": (lambda w: w**0.1 - 1, 0.1),
    "sin(w - 1)": (lambda w: np.sin(w - 1), 1.0),
    "(w - 1) (w - 2)": (lambda w: (w - 1) * (w - 2), -1.0),
    "(w - 1)^2": (lambda w: (w - 1) ** 2, 0.0),
}
"""Functions that are 0 at 1, and their derivatives there."""
UNITS = [np.eye(9)[i].reshape(3, 3) for i in range(9)]


@pytest.mark.parametrize("make", [spectral, odd])
@pytest.mark.parametrize(("g", "slope"), ZERO_AT_1.values(), ids=ZERO_AT_1)
@pytest.mark.parametrize("third", [1.0, 5.0])
def test_a_function_of_matrices_that_is_0_is_never_wrong(
    make: Callable[[Function], Function], g: Function, slope: float, third: float
) -> None:
    """In the block of ones its derivative is g'(1): vectors with a factor of 0 do not give it."""
    a = np.diag([1.0, 1.0, third])
    for weights in (WEIGHTS, *UNITS):
        found = tk.grad(lambda a: (make(g)(a) * weights).sum())(a)[:2, :2]  # noqa: B023
        expected = slope * (weights + weights.T)[:2, :2] / 2  # g(1) = 0 for an antisymmetric part
        assert np.isnan(found).any() or np.allclose(found, expected, atol=1e-12), weights
    rows = tk.jacobian(make(g))(a)
    assert slope == 0 or np.isnan(rows[0, 1]).any()
    assert slope == 0 or np.isnan(tk.jvp(make(g), (a,), (UNITS[1] + UNITS[3],))[1]).any()


@pytest.mark.parametrize("shape", [(3, 3), (4, 3), (3, 4)])
@pytest.mark.parametrize("values", [(0.0, 0.0, 0.0), (5.0, 0.0, 0.0), (5.0, 2.0, 0.0)])
def test_a_matrix_rebuilt_at_singular_values_of_0_is_never_wrong(
    shape: tuple[int, int], values: tuple[float, ...]
) -> None:
    """Every row of the Jacobian of the identity, with coordinate axes as vectors."""
    a = np.zeros(shape)
    np.fill_diagonal(a, values)
    for f in (by_svd, by_eigh) if shape == (3, 3) else (by_svd,):
        for i, row in enumerate(tk.jacobian(f)(a).reshape(-1, *shape)):
            unit = np.eye(a.size)[i].reshape(shape)
            expected = (unit + unit.T) / 2 if f is by_eigh else unit
            assert np.isnan(row).any() or np.allclose(row, expected)


@pytest.mark.parametrize(
    ("f", "a"),
    [
        (lambda a: (np.log(linalg.eigvalsh(a)) ** 2).sum(), EYE),
        (lambda a: ((linalg.eigvalsh(a) - 1) ** 2).sum(), EYE),
        (lambda a: ((linalg.eigh(a).eigenvalues - 1) ** 2).sum(), np.diag([1.0, 1.0, 5.0])),
        (lambda a: ((linalg.svdvals(a) - 1) ** 2).sum(), EYE),
        (lambda a: (linalg.svdvals(a) ** 2).sum(), np.zeros((2, 2))),
        (lambda a: (linalg.svdvals(a) ** 2).sum(), np.diag([1.0, 0.0])),
        (lambda a: (linalg.svdvals(a) ** 2).sum(), np.zeros((3, 2))),
        (lambda a: (spectral(lambda w: (w - 1) ** 2)(a) * [[0, 1], [1, 0]]).sum(), EYE),
    ],
)
def test_functions_of_values_are_never_wrong_to_second_order(f: Function, a: ndarray) -> None:
    """A first derivative of 0 at equal values does not hide that the second is not known."""
    h = np.random.default_rng(0).normal(size=a.shape)
    for found in second_derivatives(f, a, h):
        assert np.isnan(found).any()


def test_vectors_of_equal_values_are_turned_only_where_they_are_recorded() -> None:
    assert np.array_equal(abs(linalg.eigh(np.eye(3)).eigenvectors), np.eye(3))
    v = linalg.eigh(tk.Tensor(np.eye(3), requires_grad=True)).eigenvectors.data
    assert (abs(v) > 0.1).all()
    np.testing.assert_allclose(v @ v.T, np.eye(3), atol=1e-15)
    for shape in ((3, 3), (4, 3), (3, 5)):
        a = np.stack([shaped(*shape, 5.0, 2.0, 2.0), shaped(*shape, 5.0), np.zeros(shape)])
        u, s, vh = linalg.svd(tk.Tensor(a, requires_grad=True), full_matrices=False)
        np.testing.assert_allclose(((u * s[:, None]) @ vh).data, a, atol=1e-14)
        for q in (u.mT.data, vh.data):
            np.testing.assert_allclose(q @ q.mT, [np.eye(3)] * 3, atol=1e-14)


def test_principal_directions_of_points_without_full_rank() -> None:
    """Centred points have a singular value of 0; the directions before it have derivatives."""
    points = np.random.default_rng(3).normal(size=(3, 4))

    def projection(x: Any) -> Any:
        u, s, vh = linalg.svd(x - x.mean(axis=0), full_matrices=False)
        return (u[:, :2] * s[:2]) @ vh[:2]

    check_grads(projection, points, order=1, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("f", "equal"),
    [
        (lambda a: linalg.eigh(a).eigenvectors, EYE),
        (lambda a: linalg.svd(a).U, EYE),
        (lambda a: linalg.svd(a).Vh, EYE),
        (lambda a: linalg.svd(a, full_matrices=False).U, shaped(3, 2, 1.0, 1.0)),
        (lambda a: linalg.svd(a, full_matrices=False).Vh, shaped(2, 3, 1.0, 1.0)),
    ],
)
def test_vectors_of_equal_values_have_no_derivative(f: Function, equal: ndarray) -> None:
    assert np.isnan(tk.grad(lambda a: f(a)[0, 0])(equal)).all()
    direction = np.random.default_rng(0).normal(size=equal.shape)
    for way in (direction, direction + direction.T if equal.shape == (2, 2) else direction):
        assert np.isnan(tk.jvp(f, (equal,), (way,))[1]).any()


def test_a_square_matrix_with_one_zero_value_is_rebuilt_with_its_derivative() -> None:
    """There the factors do give it: a singular value of 0 changes sign with its vectors."""
    weights = np.random.default_rng(0).normal(size=(3, 3))
    for a in (np.diag([0.0, 3.0, 5.0]), shaped(3, 3, 3.0, 1.0)):
        found = tk.grad(lambda a: (by_svd(a) * weights).sum())(a)
        np.testing.assert_allclose(found, weights, atol=1e-12)


def test_one_matrix_of_a_batch_leaves_the_others() -> None:
    batch = np.stack([np.eye(3), rotated(1.0, 2.0, 5.0)])
    found = tk.grad(lambda a: (linalg.eigh(a).eigenvectors ** 2 * WEIGHTS).sum())(batch)
    assert np.isnan(found[0]).all()
    alone = tk.grad(lambda a: (linalg.eigh(a).eigenvectors ** 2 * WEIGHTS).sum())(batch[1])
    np.testing.assert_allclose(found[1], alone, rtol=1e-12)


# ------------------------------------------------------------------ values alone


def test_equal_eigenvalues_alone_have_a_first_derivative() -> None:
    for f, slope in ((np.square, 4.0), (np.exp, np.exp(2.0)), (np.log, 0.5)):
        found = tk.grad(lambda a: f(linalg.eigvalsh(a)).sum())(2 * np.eye(3))  # noqa: B023
        np.testing.assert_allclose(found, slope * np.eye(3), atol=1e-14)
    found = tk.grad(lambda a: linalg.svdvals(a).sum())(-2 * np.eye(3))
    np.testing.assert_allclose(found, -np.eye(3), atol=1e-14)


@pytest.mark.parametrize(
    ("f", "a"),
    [
        (lambda a: (linalg.eigvalsh(a) ** 2).sum(), EYE),
        (lambda a: linalg.eigvalsh(a)[0], EYE),
        (lambda a: linalg.svdvals(a)[0], EYE),
        (lambda a: linalg.matrix_norm(a, "nuc"), EYE),
        (lambda a: linalg.matrix_norm(a, 2), EYE),
        (lambda a: linalg.matrix_norm(a, -2), EYE),
        (lambda a: linalg.cond(a), EYE),
        (lambda a: linalg.matrix_norm(a, "nuc"), np.zeros((2, 2))),
        (lambda a: linalg.matrix_norm(a, "nuc"), np.diag([1.0, 0.0])),
        (lambda a: linalg.svd(a).S.sum(), np.diag([1.0, 0.0])),
        (lambda a: linalg.matrix_norm(a, "nuc"), shaped(3, 2, 1.0, 0.0)),
        (lambda a: linalg.matrix_norm(a, 2), np.zeros((3, 2))),
    ],
)
def test_values_alone_have_no_second_derivative_where_equal_or_0(f: Function, a: ndarray) -> None:
    assert np.isfinite(tk.grad(f)(a)).all()
    assert np.isnan(tk.hessian(f)(a)).any()
    assert np.isnan(tk.hvp(f, (a,), (np.ones(a.shape),))[0]).all()


def test_a_simple_value_beside_equal_ones_has_a_second_derivative() -> None:
    check_grads(lambda a: linalg.eigvalsh(a)[2], rotated(2.0, 2.0, 5.0), order=2, modes=("rev",))
    norm = shaped(3, 3, 5.0, 2.0, 2.0)
    check_grads(lambda a: linalg.matrix_norm(a, 2), norm, order=2, modes=("rev",))


@pytest.mark.parametrize("sizes", [(3, 3), (4, 3), (3, 4)])
def test_zero_singular_values_have_the_least_subgradient(sizes: tuple[int, int]) -> None:
    a = shaped(*sizes, 3.0, 1.0)
    u, _, vh = np.linalg.svd(a, full_matrices=False)
    weights = np.array([1.0, 2.0, 4.0])
    found = tk.grad(lambda a: (linalg.svdvals(a) * weights).sum())(a)
    np.testing.assert_allclose(found, (u * [1.0, 2.0, 0.0]) @ vh, atol=1e-12)
    for order, slope in (("nuc", [1, 1, 0]), (2, [1, 0, 0]), (-2, [0, 0, 0])):
        found = tk.grad(lambda a: linalg.matrix_norm(a, order))(a)  # noqa: B023
        np.testing.assert_allclose(found, (u * slope) @ vh, atol=1e-12)


def test_the_condition_number_of_a_singular_matrix_has_no_derivative() -> None:
    for a in (np.diag([1.0, 0.0]), np.outer([1.0, 2.0], [3.0, 4.0])):
        for p in (None, 2, -2):
            with np.errstate(divide="ignore"):
                assert np.isnan(tk.grad(lambda a: linalg.cond(a, p))(a)).all()  # noqa: B023


# ------------------------------------------------------------------ tiny and huge

SMOOTH: list[tuple[str, Function, int]] = [
    ("eigenvalues", lambda a: (linalg.eigvalsh(a) * [1, 2, 4]).sum(), 1),
    ("eigenvectors", lambda a: (linalg.eigh(a).eigenvectors ** 2 * WEIGHTS).sum(), 0),
    ("singular values", lambda a: (linalg.svdvals(a) * [1, 2, 4]).sum(), 1),
    ("left vectors", lambda a: (linalg.svd(a).U ** 2 * WEIGHTS).sum(), 0),
    ("right vectors", lambda a: (linalg.svd(a).Vh ** 2 * WEIGHTS).sum(), 0),
    ("tall", lambda a: (linalg.svd(a[:, :2], False).U ** 2 * WEIGHTS[:, :2]).sum(), 0),
    ("wide", lambda a: (linalg.svd(a[:2], False).Vh ** 2 * WEIGHTS[:2]).sum(), 0),
    ("nuclear norm", lambda a: linalg.matrix_norm(a, "nuc"), 1),
    ("condition", lambda a: linalg.cond(a), 0),
    ("pinv", lambda a: (linalg.pinv(a[:, :2]) * WEIGHTS[:2]).sum(), -1),
]


@pytest.mark.parametrize(("name", "f", "degree"), SMOOTH, ids=[name for name, *_ in SMOOTH])
@pytest.mark.parametrize(
    ("dtype", "size"),
    [("float32", 1e-17), ("float32", 1e17), ("float64", 1e-150), ("float64", 1e150)],
)
def test_derivatives_are_homogeneous(
    name: str, f: Function, degree: int, dtype: str, size: float
) -> None:
    a = rotated(1.0, 2.5, -4.0) + np.diag([0.1, 0.2, 0.3])
    value, slope = tk.value_and_grad(f)(a)
    found, gradient = tk.value_and_grad(f)((a * size).astype(dtype))
    rtol = 1e-4 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(found, value * size**degree, rtol=rtol)
    np.testing.assert_allclose(
        gradient, slope * size ** (degree - 1), rtol=rtol, atol=rtol * size ** (degree - 1)
    )


def test_compiled_decompositions_are_nan_where_eager_ones_are(backend: str) -> None:
    def slopes(a: Any) -> Any:
        return [
            tk.grad(lambda a: (linalg.eigh(a).eigenvectors ** 2 * WEIGHTS).sum())(a),
            tk.grad(lambda a: (linalg.svd(a).U ** 2 * WEIGHTS).sum())(a),
            tk.grad(lambda a: linalg.matrix_norm(a, "nuc"))(a),
        ]

    def of_both(x: Any) -> Any:
        return slopes(x[0]), slopes(x[1])

    given = tk.Tensor(np.stack([np.eye(3), rotated(1.0, 2.0, 5.0)]))
    compare(of_both, given, scales=[1, 1, 2, 0])


@pytest.mark.parametrize("shape", [(0, 0), (2, 0, 0), (0, 3, 3), (1, 1, 0, 0)])
def test_vectors_of_matrices_without_elements(shape: tuple[int, ...]) -> None:
    for function in (tk.linalg.eigh, lambda t: tk.linalg.svd(t, full_matrices=False)):
        t = tk.Tensor(np.zeros(shape), requires_grad=True)
        sum(part.sum() for part in function(t)).backward()
        assert t.grad.shape == shape


def test_by_cotangents_of_vectors_of_equal_values_there_is_no_derivative() -> None:
    """The gradient by the matrix is 0 for cotangents of 0, and NaN right beside them."""
    a = tk.tensor(np.eye(2), requires_grad=True)
    c = tk.zeros((2, 2), dtype=np.float64, requires_grad=True)
    _values, vectors = tk.linalg.eigh(a)
    (first,) = tk.autograd.grad((c * vectors).sum(), a, create_graph=True)
    (second,) = tk.autograd.grad(first.sum(), a, create_graph=True)
    assert (second.data == 0).all()
    (third,) = tk.autograd.grad(second.sum(), c)
    assert np.isnan(third.data).all()


def test_the_second_derivative_of_an_svd_without_singular_values() -> None:
    a = tk.zeros((0, 3), dtype=np.float64, requires_grad=True)
    u, s, v = tk.linalg.svd(a, full_matrices=False)
    (g,) = tk.autograd.grad(u.sum() + s.sum() + v.sum(), a, create_graph=True)
    (second,) = tk.autograd.grad(g.sum(), a)
    assert second.shape == (0, 3)
