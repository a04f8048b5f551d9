"""`tk.linalg`: values against NumPy, derivatives to second order, and the singular corners."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest
from numpy import ndarray

from tinygrad_kr import (
    Tensor,
    cdist,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    linalg,
    no_grad,
    value_and_grad,
)
from tinygrad_kr.ops import linalg as ops
from tinygrad_kr.testing import check_grads

RANDOM = np.random.default_rng(5)


def normal(*sizes: int) -> ndarray:
    return np.asarray(RANDOM.normal(size=sizes))


def regular(*sizes: int) -> ndarray:
    """Square matrices that are well invertible."""
    return normal(*sizes) + 3 * np.eye(sizes[-1])


def definite(*sizes: int) -> ndarray:
    """Symmetric positive definite matrices with eigenvalues apart."""
    x = normal(*sizes)
    return np.asarray(x @ x.swapaxes(-1, -2) + np.diag(np.arange(1, sizes[-1] + 1)))


def symmetric(a: Any) -> Any:
    return (a + a.mT) / 2


def leaf(values: Any) -> Tensor:
    return Tensor(np.array(values, np.float64), requires_grad=True)


def gradient_of(t: Tensor) -> ndarray:
    assert t.grad is not None
    return t.grad.data


Case = tuple[Callable[..., Any], Callable[..., Any], tuple[ndarray, ...]]
SQUARE = [(1, 1), (2, 2), (3, 3), (2, 3, 3), (2, 1, 2, 2)]
ANY = [(1, 1), (1, 3), (3, 1), (3, 3), (4, 2), (2, 4), (2, 3, 2)]
ORDERS: list[Any] = ["fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf]

CASES: dict[str, list[Case]] = {
    "det": [(linalg.det, np.linalg.det, (regular(*s),)) for s in SQUARE],
    "slogdet": [
        (lambda a: linalg.slogdet(a)[1], lambda a: np.linalg.slogdet(a)[1], (regular(*s),))
        for s in SQUARE
    ],
    "inv": [(linalg.inv, np.linalg.inv, (regular(*s),)) for s in SQUARE],
    "pinv": [(linalg.pinv, np.linalg.pinv, (normal(*s),)) for s in ANY],
    "solve": [
        (linalg.solve, np.linalg.solve, (regular(*a), normal(*b)))
        for a, b in [
            ((3, 3), (3,)),
            ((3, 3), (3, 2)),
            ((1, 1), (1,)),
            ((2, 3, 3), (3,)),
            ((2, 3, 3), (3, 2)),
            ((2, 3, 3), (2, 3, 1)),
            ((3, 3), (4, 3, 2)),
            ((2, 1, 2, 2), (3, 2, 1)),
        ]
    ],
    "cholesky": [
        *((linalg.cholesky, np.linalg.cholesky, (definite(*s),)) for s in SQUARE),
        (lambda a: linalg.cholesky(a, upper=True).mT, np.linalg.cholesky, (definite(3, 3),)),
    ],
    "eigh": [
        *((linalg.eigvalsh, np.linalg.eigvalsh, (definite(*s),)) for s in SQUARE),
        *(
            (lambda a: tuple(linalg.eigh(a)), lambda a: tuple(np.linalg.eigh(a)), (definite(*s),))
            for s in SQUARE
        ),
    ],
    "svd": [
        *(
            (linalg.svdvals, lambda a: np.linalg.svd(a, compute_uv=False), (normal(*s),))
            for s in ANY
        ),
        *(
            (
                lambda a: tuple(linalg.svd(a, full_matrices=False)),
                lambda a: tuple(np.linalg.svd(a, full_matrices=False)),
                (normal(*s),),
            )
            for s in ANY
        ),
        (lambda a: linalg.svd(a).S, lambda a: np.linalg.svd(a).S, (normal(3, 3),)),
    ],
    "norm": [
        *(
            (
                lambda a, o=o: linalg.norm(a, o, axis=(2, 0), keepdims=True),
                lambda a, o=o: np.linalg.norm(a, o, axis=(2, 0), keepdims=True),
                (normal(3, 2, 2),),
            )
            for o in ORDERS
        ),
        *(
            (
                lambda a, o=o: linalg.matrix_norm(a, o),
                lambda a, o=o: np.linalg.matrix_norm(a, ord=o),
                (normal(2, 3, 2),),
            )
            for o in ORDERS
        ),
        *(
            (lambda a, o=o: linalg.norm(a, o), lambda a, o=o: np.linalg.norm(a, o), (normal(3),))
            for o in (None, 1, 2, 3, 0.5, -1, np.inf, -np.inf)
        ),
        (linalg.norm, np.linalg.norm, (normal(2, 3, 2),)),
        (
            lambda a: linalg.norm(a, dim=0, keepdim=True),
            lambda a: np.linalg.norm(a, axis=0, keepdims=True),
            (normal(3, 2),),
        ),
        (
            lambda a: linalg.vector_norm(a, 3, dim=(0, 2)),
            lambda a: np.linalg.vector_norm(a, ord=3, axis=(0, 2)),
            (normal(2, 3, 2),),
        ),
    ],
    "cond": [
        (lambda a, p=p: linalg.cond(a, p), lambda a, p=p: np.linalg.cond(a, p), (regular(2, 3, 3),))
        for p in (None, 1, "fro", np.inf, -2)
    ],
    "matrix_power": [
        (
            lambda a, n=n: linalg.matrix_power(a, n),
            lambda a, n=n: np.linalg.matrix_power(a, n),
            (regular(2, 2, 2),),
        )
        for n in (1, 2, 3, 6, -1, -3)
    ],
    "multi_dot": [
        (
            lambda *abc: linalg.multi_dot(abc),
            lambda *abc: np.linalg.multi_dot(abc),
            tuple(normal(*s) for s in sizes),
        )
        for sizes in (
            [(2, 3), (3, 2)],
            [(3,), (3, 4), (4, 2), (2,)],
            [(5, 1), (1, 4), (4, 2), (2, 3)],
            [(2, 3), (3, 4), (4,)],
            [(3,), (3,)],
        )
    ],
    "lstsq": [
        (
            lambda a, b: linalg.lstsq(a, b).solution,
            lambda a, b: np.linalg.lstsq(a, b)[0],
            (normal(*a), normal(*b)),
        )
        for a, b in [((4, 2), (4,)), ((4, 2), (4, 3)), ((2, 4), (2,)), ((3, 3), (3, 1))]
    ],
    "residuals": [
        (
            lambda a, b: linalg.lstsq(a, b).residuals,
            lambda a, b: np.linalg.lstsq(a, b)[1],
            (normal(4, 2), normal(4, 3)),
        )
    ],
    "vecdot": [(linalg.vecdot, np.linalg.vecdot, (normal(2, 3), normal(3)))],
    "diagonal": [
        (
            lambda a: linalg.diagonal(a, 1),
            lambda a: np.linalg.diagonal(a, offset=1),
            (normal(2, 3, 4),),
        )
    ],
}
ALL_CASES = [
    pytest.param(mine, theirs, args, id=f"{name}-{i}")
    for name, cases in CASES.items()
    for i, (mine, theirs, args) in enumerate(cases)
]


@pytest.mark.parametrize(("mine", "theirs", "args"), ALL_CASES)
def test_values(
    mine: Callable[..., Any], theirs: Callable[..., Any], args: tuple[ndarray, ...]
) -> None:
    found, expected = mine(*map(leaf, args)), theirs(*args)
    single = not isinstance(found, tuple)
    for a, b in zip([found] if single else found, [expected] if single else expected, strict=True):
        assert isinstance(a, Tensor) and a.requires_grad and a.shape == np.shape(b)
        np.testing.assert_allclose(a.data, b, rtol=1e-9, atol=1e-11)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("mine", "theirs", "args"), ALL_CASES)
def test_derivatives_of_first_and_second_order(
    mine: Callable[..., Any], theirs: Callable[..., Any], args: tuple[ndarray, ...]
) -> None:
    check_grads(mine, args, order=2, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("mine", "theirs", "args"), ALL_CASES)
def test_float32_stays_float32(
    mine: Callable[..., Any], theirs: Callable[..., Any], args: tuple[ndarray, ...]
) -> None:
    tensors = [Tensor(x.astype(np.float32), requires_grad=True) for x in args]
    found = mine(*tensors)
    for part in found if isinstance(found, tuple) else [found]:
        assert part.dtype == np.float32
        part.sum().backward(retain_graph=True)
    assert all(gradient_of(t).dtype == np.float32 for t in tensors)


@pytest.mark.parametrize(
    "function",
    [ops.inv, ops.logabsdet, ops.pinv, ops.cholesky, linalg.eigvalsh, linalg.svdvals],
)
def test_third_derivatives(function: Callable[..., Any]) -> None:
    check_grads(function, (definite(3, 3),), order=3, rtol=1e-4, atol=1e-6, fast=True)


def test_third_derivative_of_a_determinant() -> None:
    check_grads(linalg.det, (regular(3, 3),), order=3)


def levi_civita(n: int) -> ndarray:
    """The n-th derivative of the determinant of n x n matrices, which is the same everywhere."""
    found = np.zeros((n, n) * n)
    for rows in permutations(range(n)):
        for columns in permutations(range(n)):
            places = tuple(i for pair in zip(rows, columns, strict=True) for i in pair)
            found[places] = np.linalg.det(np.eye(n)[list(rows)]) * np.linalg.det(
                np.eye(n)[list(columns)]
            )
    return found


@pytest.mark.parametrize(
    "a",
    [np.zeros((3, 3)), np.outer([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]), np.diag([1.0, 2.0, 0.0])],
)
def test_third_derivatives_of_singular_determinants(a: ndarray) -> None:
    third = jacobian(hessian(linalg.det))
    np.testing.assert_allclose(third(a), levi_civita(3), atol=1e-13)
    np.testing.assert_allclose(third(a + np.eye(3)), levi_civita(3), atol=1e-13)
    check_grads(linalg.det, (a,), order=3, fast=True)


@pytest.mark.parametrize("rank", [0, 1, 2, 3, 4])
def test_fourth_and_fifth_derivatives_of_determinants(rank: int) -> None:
    """Along a line, against the polynomial that the determinant is."""
    a = normal(4, rank) @ normal(rank, 4)
    h = normal(4, 4)
    points = np.arange(-2.0, 3.0)
    polynomial = np.polynomial.Polynomial.fit(
        points, [np.linalg.det(a + t * h) for t in points], 4, window=(-2, 2)
    ).convert()

    def line(t: Any) -> Any:
        return linalg.det(a + t * h)

    f: Any = line
    for order in range(1, 6):
        f = grad(f)
        expected = polynomial.deriv(order)(0.0)
        np.testing.assert_allclose(f(0.0), expected, atol=1e-9 * np.abs(polynomial.coef).max())


def test_derivatives_of_determinants_beyond_the_size_are_0() -> None:
    assert not jacobian(hessian(linalg.det))(np.array([[1.0, 2.0], [2.0, 4.0]])).any()
    assert not hessian(linalg.det)(np.ones((1, 1))).any()


def test_higher_derivatives_of_a_batch_of_determinants() -> None:
    batch = np.stack([RANK_1, RANK_2, regular(3, 3)])
    check_grads(linalg.det, (batch,), order=3, fast=True)
    third = grad(lambda a: hvp(lambda x: linalg.det(x).sum(), (a,), (batch[::-1],))[0].sum())
    alone = [
        grad(lambda a, h=h: hvp(linalg.det, (a,), (h,))[0].sum())(a)
        for a, h in zip(batch, batch[::-1], strict=True)
    ]
    np.testing.assert_allclose(third(batch), np.stack(alone), atol=1e-10)


@pytest.mark.parametrize("size", [1e-20, 1e20])
def test_cofactors_of_tiny_and_huge_matrices(size: float) -> None:
    a = np.array([[1.0, 2.0], [2.0, 4.0]]) * size
    np.testing.assert_allclose(grad(linalg.det)(a), np.array([[4.0, -2.0], [-2.0, 1.0]]) * size)


def test_slogdet_of_tiny_and_huge_matrices() -> None:
    """Where the determinant itself under- or overflows."""
    a = regular(4, 4)
    for size in (1e-150, 1e150):
        value, slope = value_and_grad(lambda a: linalg.slogdet(a).logabsdet)(a * size)
        expected = np.linalg.slogdet(a)[1] + 4 * np.log(size)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        np.testing.assert_allclose(slope * size, np.linalg.inv(a).T, rtol=1e-9)
    check_grads(lambda a: linalg.slogdet(a).logabsdet, (a,), order=3, fast=True)


@pytest.mark.parametrize("sizes", [(0, 0), (2, 0, 0)])
def test_empty_matrices(sizes: tuple[int, ...]) -> None:
    for function in (
        linalg.det,
        linalg.inv,
        linalg.cholesky,
        linalg.eigvalsh,
        linalg.svdvals,
        lambda a: linalg.slogdet(a).logabsdet,
        lambda a: linalg.solve(a, np.zeros((*sizes[:-1], 2))),
    ):
        t = leaf(np.zeros(sizes))
        function(t).sum().backward(create_graph=True)
        assert gradient_of(t).shape == sizes
    assert linalg.det(leaf(np.zeros(sizes))).tolist() == np.linalg.det(np.zeros(sizes)).tolist()


# ------------------------------------------------------------------ singular and degenerate

RANK_1 = np.outer([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
RANK_2 = RANK_1 + np.diag([0.0, 0.0, 1.0])


@pytest.mark.parametrize(
    "a", [RANK_1, RANK_2, np.zeros((3, 3)), np.zeros((2, 2)), np.zeros((1, 1)), RANK_1[:2, :2]]
)
def test_a_singular_determinant_has_exact_first_and_second_derivatives(a: ndarray) -> None:
    check_grads(linalg.det, (a,), order=2)


def test_the_gradient_of_a_singular_determinant_is_the_cofactor_matrix() -> None:
    t = leaf([[1.0, 2.0], [2.0, 4.0]])
    linalg.det(t).backward()
    np.testing.assert_allclose(gradient_of(t), [[4.0, -2.0], [-2.0, 1.0]], atol=1e-14)
    second = hessian(lambda x: linalg.det(x))(t.data)
    assert second[0, 0, 1, 1] == pytest.approx(1.0)
    assert second[0, 1, 1, 0] == pytest.approx(-1.0)


def test_singular_matrices_raise_and_name_the_operation() -> None:
    for call, name in (
        (lambda t: linalg.inv(t), "inv"),
        (lambda t: linalg.solve(t, [1.0, 2.0, 3.0]), "solve"),
        (lambda t: linalg.matrix_power(t, -1), "inv"),
        (lambda t: linalg.cholesky(t - np.eye(3)), "cholesky"),
    ):
        with pytest.raises(np.linalg.LinAlgError) as raised:
            call(leaf(np.zeros((3, 3))))
        assert name in str(raised.value) + "".join(getattr(raised.value, "__notes__", []))


def test_slogdet_of_a_singular_matrix_is_zero_and_minus_infinity() -> None:
    sign, logabsdet = linalg.slogdet(leaf(np.zeros((2, 2))))
    assert (sign.item(), logabsdet.item()) == (0.0, -np.inf)
    assert linalg.slogdet(leaf(-np.eye(3))).sign.item() == -1.0


@pytest.mark.parametrize(
    ("a", "slope"),
    [
        ([[0.0]], [[np.inf]]),
        ([[1.0, 2.0], [2.0, 4.0]], [[np.inf, -np.inf], [-np.inf, np.inf]]),
        ([[1.0, 0.0], [0.0, 0.0]], [[np.nan, np.nan], [np.nan, np.inf]]),
        ([[0.0, 0.0], [0.0, 0.0]], [[np.nan, np.nan], [np.nan, np.nan]]),
        (np.outer([1.0, 2.0, 4.0], [1.0, -2.0, 3.0]), np.full((3, 3), np.nan)),
    ],
)
def test_the_slope_of_slogdet_at_singular_matrices_is_cofactor_over_0(a: Any, slope: Any) -> None:
    def f(a: Any) -> Any:
        return linalg.slogdet(a).logabsdet

    a, slope = np.array(a), np.array(slope)
    np.testing.assert_array_equal(grad(f)(a), slope)
    batch = np.stack([a, 2 * np.eye(len(a))])
    np.testing.assert_array_equal(grad(lambda a: f(a).sum())(batch), [slope, np.eye(len(a)) / 2])
    assert not np.isfinite(hessian(f)(a)).any()
    assert not np.isfinite(jvp(f, (a,), (np.ones_like(a),))[1])


def test_norms_of_the_zero_matrix_have_gradient_zero() -> None:
    for order in ("fro", "nuc", 1, 2, np.inf, -1, -np.inf):
        t = leaf(np.zeros((3, 2)))
        linalg.matrix_norm(t, order).backward()
        assert not gradient_of(t).any()


def test_the_nuclear_norm_of_a_matrix_without_full_rank_has_the_least_subgradient() -> None:
    """U V^T of the singular values that are not 0, for tall, wide and square matrices."""
    for a in (RANK_1, RANK_1[:, :2], RANK_1[:2]):
        u, s, vt = np.linalg.svd(a)
        t = leaf(a)
        linalg.matrix_norm(t, "nuc").backward()
        np.testing.assert_allclose(gradient_of(t), np.outer(u[:, 0], vt[0]), atol=1e-12)
        assert linalg.matrix_norm(t, "nuc").item() == pytest.approx(s[0])


def test_singular_values_that_are_zero_leave_a_finite_gradient() -> None:
    for a in (np.zeros((3, 2)), np.zeros((2, 3)), RANK_1[:, :2]):
        t = leaf(a)
        linalg.svdvals(t).sum().backward()
        assert np.isfinite(gradient_of(t)).all()


def test_equal_eigenvalues_leave_symmetric_functions_of_them_exact() -> None:
    """The sum of eigenvalues is the trace, its gradient the identity, also where they are equal."""
    t = leaf(2 * np.eye(3))
    linalg.eigvalsh(t).sum().backward()
    np.testing.assert_allclose(gradient_of(t), np.eye(3))
    cubes = grad(lambda a: (linalg.eigvalsh(a) ** 3).sum())(np.diag([2.0, 2.0, 5.0]))
    np.testing.assert_allclose(cubes, 3 * np.diag([4.0, 4.0, 25.0]), atol=1e-12)


def test_only_the_symmetric_part_is_read_and_the_gradient_is_symmetric() -> None:
    a = definite(3, 3)
    lopsided = a + np.triu(np.ones((3, 3)), 1) - np.tril(np.ones((3, 3)), -1)
    for function in (linalg.cholesky, linalg.eigvalsh, lambda x: linalg.eigh(x, "U").eigenvalues):
        t = leaf(lopsided)
        y = function(t)
        np.testing.assert_allclose(y.data, function(Tensor(a)).data, rtol=1e-12, atol=1e-12)
        (y * y).sum().backward()
        np.testing.assert_allclose(gradient_of(t), gradient_of(t).T, atol=1e-12)


def test_what_is_computed_from_a_decomposition_and_put_together_again() -> None:
    """Through V diag(w) V^T and U S V^T the gradient is that of the identity."""
    weights = normal(3, 3)
    t = leaf(definite(3, 3))
    w, v = linalg.eigh(t)
    (((v * w) @ v.mT) * weights).sum().backward()
    np.testing.assert_allclose(gradient_of(t), symmetric(weights), atol=1e-10)
    for sizes in ((3, 2), (2, 3), (3, 3)):
        t, weights = leaf(normal(*sizes)), normal(*sizes)
        u, s, vh = linalg.svd(t, full_matrices=False)
        (((u * s) @ vh) * weights).sum().backward()
        np.testing.assert_allclose(gradient_of(t), weights, atol=1e-10)


def test_pinv_at_constant_rank_away_from_full() -> None:
    """Along directions that keep the rank, the derivative is the numeric one."""
    u, v = normal(4, 2), normal(2, 3)
    check_grads(lambda u, v: linalg.pinv(u @ v, rtol=1e-6), (u, v), order=2, rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------ what is not differentiated


def test_full_matrices_of_a_rectangle_are_refused_where_gradients_are_recorded() -> None:
    t = leaf(normal(3, 2))
    with pytest.raises(ValueError, match=r"derivative of full matrices, got shape \(3, 2\)\."):
        linalg.svd(t)
    with no_grad():
        assert linalg.svd(t).U.shape == (3, 3)
    u, s, vh = linalg.svd(t.detach())
    assert (u.shape, s.shape, vh.shape) == ((3, 3), (2,), (2, 2))
    assert linalg.svd(leaf(normal(2, 2))).U.requires_grad


def test_ranks_are_detached() -> None:
    assert linalg.matrix_rank(leaf(RANK_1)).item() == 1
    assert linalg.matrix_rank(leaf(RANK_2)).item() == 2
    assert linalg.matrix_rank(leaf(np.eye(3) * [1, 1e-3, 1]), tol=0.1).item() == 2
    assert linalg.matrix_rank(leaf(np.eye(3) * [9, 1, 9]), rtol=0.2).item() == 2
    assert not linalg.matrix_rank(leaf(RANK_1)).requires_grad
    found = linalg.lstsq(leaf(RANK_1), [1.0, 2.0, 3.0])
    assert found.rank.item() == 1 and found.residuals.shape == (0,)


@pytest.mark.parametrize(
    ("sizes", "cost"),
    [
        ((10, 100, 5, 50), 10 * 100 * 5 + 10 * 5 * 50),
        ((50, 5, 100, 10), 5 * 100 * 10 + 50 * 5 * 10),
        ((30, 35, 15, 5, 10, 20, 25), 15_125),  # Cormen et al., section 15.2
    ],
)
def test_multi_dot_takes_the_cheapest_order(
    sizes: tuple[int, ...], cost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = []

    def matmul(a: ndarray, b: ndarray) -> Any:
        spent.append(a.shape[0] * a.shape[1] * b.shape[1])
        return a @ b

    monkeypatch.setattr(linalg, "matmul", matmul)
    linalg.multi_dot([np.ones(pair) for pair in pairwise(sizes)])
    assert sum(spent) == cost


def test_power_zero_is_the_identity() -> None:
    assert linalg.matrix_power(leaf(normal(2, 2, 2)), 0).tolist() == [np.eye(2).tolist()] * 2


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda t: linalg.det(t), np.linalg.LinAlgError, "det(float64(2, 3))"),
        (lambda t: linalg.inv(t), np.linalg.LinAlgError, "inv(float64(2, 3))"),
        (lambda t: linalg.inv(t[0]), np.linalg.LinAlgError, "inv(float64(3,))"),
        (lambda t: linalg.cholesky(t), ValueError, "cholesky(float64(2, 3))"),
        (lambda t: linalg.solve(t[:, :2], t.mT), ValueError, "solve(float64(2, 2), float64(3, 2))"),
        (lambda t: linalg.matrix_power(t, 2), ValueError, "matrix_power: expected square matrices"),
        (lambda t: linalg.multi_dot([t]), ValueError, "multi_dot: expected two matrices or more"),
        (
            lambda t: linalg.multi_dot([t, t[None], t]),
            ValueError,
            "multi_dot: expected two matrices",
        ),
        (
            lambda t: linalg.norm(t[None], 1),
            ValueError,
            "norm: expected one or two axes with ord=1",
        ),
        (lambda t: linalg.norm(t, "l1"), ValueError, "norm: expected ord"),
        (lambda t: linalg.matrix_norm(t, 3), ValueError, "matrix_norm: expected ord"),
        (lambda t: linalg.matrix_norm(t, axis=(0,)), ValueError, "matrix_norm: expected two axes"),
        (lambda t: linalg.norm(t, axis=5), IndexError, "norm: expected axis in [-2, 2), got 5"),
        (lambda t: linalg.eigh(t, "X"), ValueError, 'expected UPLO "L" or "U"'),
    ],
)
def test_bad_input_names_the_operation(
    call: Callable[[Tensor], Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as raised:
        call(leaf(normal(2, 3)))
    assert said in str(raised.value)


# ------------------------------------------------------------------ distances


@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2.0, 3, np.inf])
@pytest.mark.parametrize("sizes", [((3, 2), (4, 2)), ((2, 1, 3, 2), (3, 1, 2)), ((2, 0), (3, 0))])
def test_cdist(p: float, sizes: tuple[tuple[int, ...], ...]) -> None:
    a, b = (normal(*size) for size in sizes)
    b += 4  # differences of nearly 0 have large derivatives for p < 2
    found = cdist(leaf(a), leaf(b), p)
    pairs = np.abs(a[..., :, None, :] - b[..., None, :, :])
    expected = pairs.max(-1, initial=0) if p == np.inf else (pairs**p).sum(-1) ** (1 / p)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.data, expected, rtol=1e-12, atol=1e-12)
    if a.size:
        check_grads(lambda a, b: cdist(a, b, p), (a, b), order=2, rtol=1e-5, atol=1e-7)


def test_cdist_counts_for_p_0_and_is_accurate_for_near_rows() -> None:
    a = np.array([[1.0, 2.0], [3.0, 2.0]])
    assert cdist(Tensor(a), Tensor(a), 0).tolist() == [[0.0, 1.0], [1.0, 0.0]]
    near = np.float32([[1000.0, 1000.0]])
    assert cdist(Tensor(near), Tensor(near + np.float32(0.0625))).item() == np.float32(
        0.0625 * np.sqrt(2)
    )
    x = leaf(a)
    cdist(x, x).sum().backward()
    assert gradient_of(x).tolist() == [[-2.0, 0.0], [2.0, 0.0]]


def test_cdist_refuses_what_does_not_fit() -> None:
    x = Tensor(normal(3, 2))
    for a, b, p in ((x, x.T, 2), (x[0], x, 2), (x, x, -1)):
        with pytest.raises(ValueError, match="cdist: expected rows of one size and p of at least"):
            cdist(a, b, p)
