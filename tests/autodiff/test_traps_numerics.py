"""Traps of numerics (TRAPS.md, "Numerics" and its policy for kinks): one section a row.

Losses, batch norm and dropout are with their functions. Where PyTorch was asked for the expected
value, it is written down here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy import ndarray

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.testing import arrays, check_grads, shapes

INF, NAN = math.inf, math.nan


def leaf(*values: float) -> Tensor:
    return Tensor(np.array(values), requires_grad=True)


def gradient(f: Callable[[Any], Any], *values: float) -> list[float]:
    x = leaf(*values)
    with np.errstate(all="ignore"):
        f(x).sum().backward()
    assert x.grad is not None
    return x.grad.tolist()  # type: ignore[no-any-return]


def same(found: Any, expected: Any) -> None:
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected, float))


# ------------------------------------------------------------------ the policy for kinks


@pytest.mark.parametrize(
    ("f", "at", "slope"),
    [
        # minimum-norm subgradient
        (lambda x: x.relu(), [0.0, -0.0, 1.0, INF, -INF], [0, 0, 1, 1, 0]),
        (np.abs, [0.0, -0.0, -2.0], [0, 0, -1]),
        (lambda x: np.maximum(x, 0), [0.0, 1.0, -1.0], [0.5, 1, 0]),
        (lambda x: np.minimum(x, 0.0), [0.0, 1.0, -1.0], [0.5, 0, 1]),
        (lambda x: x.clip(-1, 1), [-1.0, 1.0, -1.5, 1.5, NAN], [1, 1, 0, 0, 0]),
        (lambda x: np.hypot(x, 0.0), [0.0, 2.0, -2.0], [0, 1, -1]),
        # continuity, infinity allowed
        (np.sqrt, [0.0, 4.0], [INF, 0.25]),
        (np.cbrt, [0.0, -8.0], [INF, 1 / 12]),
        (np.log, [0.0, 2.0], [INF, 0.5]),
        (np.log1p, [-1.0, 1.0], [INF, 0.5]),
        (np.arcsin, [1.0, -1.0], [INF, INF]),
        (np.arccos, [1.0, -1.0], [-INF, -INF]),
        (np.arctanh, [1.0], [INF]),
        (lambda x: 1 / x, [0.0], [-INF]),
        # NaN outside the domain
        (np.sqrt, [-1.0], [NAN]),
        (np.arcsin, [2.0], [NAN]),
        (np.arccosh, [0.5], [NAN]),
        # flat far away, without overflow
        (lambda x: x.sigmoid(), [-1e4, 1e4], [0, 0]),
        (lambda x: x.softplus(), [-1e4, 1e4], [0, 1]),
        (np.tanh, [-1e4, 1e4], [0, 0]),
        (np.sinc, [0.0], [0]),
    ],
)
def test_kinks_follow_the_published_order(f: Any, at: list[float], slope: list[float]) -> None:
    same(gradient(f, *at), slope)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [-1e4, -800.0, -90.0, 0.0, 90.0, 800.0, 1e4])
@pytest.mark.parametrize("f", ["sigmoid", "softplus", "tanh", "logsumexp", "relu", "erf"])
def test_tails_raise_no_warning(f: str, value: float, dtype: Any) -> None:
    """Warnings are errors here: no overflow may be reported for a finite result."""
    x = Tensor(np.array([value], dtype), requires_grad=True)
    y = getattr(x, f)()
    y.sum().backward()
    assert np.isfinite(y.data).all()
    assert x.grad is not None
    assert np.isfinite(x.grad.data).all()
    (dx,) = tk.autograd.grad(getattr(x, f)().sum(), x, create_graph=True)
    dx.sum().backward()
    assert np.isfinite(x.grad.data).all()


@pytest.mark.parametrize("x", [-700.0, -36.0, -1e-3, 0.0, 1e-20, 0.5, 36.0, 700.0])
def test_sigmoid_and_softplus_are_exact_in_both_tails(x: float) -> None:
    e = Fraction(math.exp(-abs(x)))
    near, far = float(1 / (1 + e)), float(e / (1 + e))
    assert Tensor(np.array(x)).sigmoid().item() == pytest.approx(near if x >= 0 else far, rel=4e-16)
    expected = max(x, 0.0) + math.log1p(math.exp(-abs(x)))
    assert Tensor(np.array(x)).softplus().item() == pytest.approx(expected, rel=4e-16)


# ------------------------------------------------------------------ max/min ties


@pytest.mark.parametrize("name", ["max", "min"])
def test_ties_are_split_evenly(name: str) -> None:
    sign = 1 if name == "max" else -1
    x = sign * np.array([[1.0, 2.0, 2.0], [3.0, 3.0, 3.0]])

    def of(axis: Any, g: Any = None, keepdims: bool = False) -> Any:
        t = Tensor(x, requires_grad=True)
        y = getattr(t, name)(axis=axis, keepdims=keepdims)
        y.backward(g)
        assert t.grad is not None
        return t.grad.data

    third = 1 / 3
    np.testing.assert_allclose(of(None), np.array([[0, 0, 0], [third, third, third]]))
    np.testing.assert_allclose(of(1, np.ones(2)), np.array([[0, 0.5, 0.5], [third, third, third]]))
    np.testing.assert_allclose(of(0, np.ones(3)), np.array([[0, 0, 0], [1, 1, 1]]))
    np.testing.assert_allclose(of((0, 1), None), of(None))
    np.testing.assert_allclose(of(-1, np.ones((2, 1)), keepdims=True), of(1, np.ones(2)))


def test_ties_of_two_arrays_are_split_evenly() -> None:
    a, b = leaf(1.0, 2.0, 3.0), leaf(1.0, 3.0, 2.0)
    for f in (np.maximum, np.minimum, np.fmax, np.fmin):
        a.grad = b.grad = None
        f(a, b).sum().backward()
        assert a.grad is not None and b.grad is not None
        assert a.grad.tolist()[0] == b.grad.tolist()[0] == 0.5
        same(a.grad.data + b.grad.data, [1, 1, 1])


def test_ties_of_an_index_take_one_index() -> None:
    x = leaf(1.0, 2.0, 2.0)
    assert x.argmax().item() == 1
    x[x.argmax()].backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 0.0]
    same(gradient(lambda x: x.topk(1)[0], 2.0, 1.0, 2.0), [1, 0, 0])
    same(gradient(lambda x: x.max(dim=0).values, 1.0, 2.0, 2.0), [0, 1, 0])
    same(gradient(lambda x: x.min(dim=0).values, 2.0, 1.0, 1.0), [0, 1, 0])


def test_max_of_nan_is_nan_and_its_gradient_goes_there() -> None:
    assert math.isnan(leaf(1.0, NAN, 2.0).max().item())
    same(gradient(lambda x: x.max(), 1.0, NAN, 2.0), [0, 1, 0])
    same(gradient(lambda x: np.maximum(x, 1.0), NAN, 2.0), [1, 1])
    same(gradient(lambda x: np.fmax(x, 1.0), NAN, 2.0), [0, 1])
    same(gradient(lambda x: x.max(), -INF, -INF), [0.5, 0.5])


# ------------------------------------------------------------------ sort and topk


def test_sort_scatters_by_saved_stable_indices() -> None:
    weights = np.array([1.0, 10.0, 100.0, 1000.0])

    def f(x: Any) -> Any:
        return np.sort(x) * weights

    same(gradient(f, 2.0, 1.0, 2.0, 0.0), [100, 10, 1000, 1])
    check_grads(lambda x: np.sort(x, axis=0) ** 2, np.array([[2.0, 1.0], [0.5, 3.0]]), order=2)


def test_sort_is_not_changed_by_a_later_write_to_its_indices() -> None:
    x = leaf(3.0, 1.0, 2.0)
    values, order = tk.sort(x)
    order.fill_(0)
    (values * np.array([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3.0, 1.0, 2.0]


# ------------------------------------------------------------------ norm at 0


@pytest.mark.parametrize("order", [None, 1, 2, 3, 1.5, INF, -INF])
@pytest.mark.parametrize("axis", [None, 0])
def test_norm_at_0_has_gradient_0(order: Any, axis: Any) -> None:
    same(gradient(lambda x: np.linalg.norm(x, order, axis=axis), 0.0, 0.0), [0, 0])


def test_norm_of_one_zero_row_among_others() -> None:
    x = Tensor(np.array([[0.0, 0.0], [3.0, 4.0]]), requires_grad=True)
    np.linalg.norm(x, axis=1).sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.data, np.array([[0, 0], [0.6, 0.8]]))
    second = tk.hessian(lambda x: np.linalg.norm(x, axis=1).sum())(x.data)
    assert np.isnan(second[0, :, 0]).all()
    assert np.isfinite(np.delete(second.reshape(16), [0, 1, 4, 5])).all()


# ------------------------------------------------------------------ std at 0; var with n == ddof


def test_std_at_0_has_gradient_0() -> None:
    same(gradient(lambda x: x.std(), 2.0, 2.0, 2.0), [0, 0, 0])
    same(gradient(np.std, 2.0, 2.0), [0, 0])
    rows = np.array([[1.0, 1.0], [1.0, 3.0]])
    x = Tensor(rows, requires_grad=True)
    x.std(axis=1).sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.data, np.array([[0, 0], [-(0.5**0.5), 0.5**0.5]]))
    second = tk.hessian(lambda x: x.std(axis=1).sum())(rows)
    assert np.isnan(second[0, :, 0]).all() and np.isfinite(second[1]).all()


def test_var_with_n_equal_to_ddof_is_nan_of_the_right_shape() -> None:
    for f in ("var", "std"):
        x = Tensor(np.ones((3, 1)), requires_grad=True)
        y = getattr(x, f)(axis=1)
        assert y.shape == (3,)
        assert np.isnan(y.data).all()
        y.sum().backward()
        assert x.grad is not None
        assert x.grad.shape == (3, 1)
        assert np.isnan(x.grad.data).all()
        assert math.isnan(getattr(leaf(1.0, 2.0), f)(correction=2).item())
        assert math.isnan(getattr(leaf(1.0, 2.0), f)(ddof=3).item())


def test_var_of_large_numbers_does_not_cancel() -> None:
    x = np.array([1e8, 1e8 + 1, 1e8 + 2])
    assert Tensor(x).var().item() == 1.0
    assert Tensor(x).std(correction=0).item() == pytest.approx((2 / 3) ** 0.5, rel=1e-15)


# ------------------------------------------------------------------ where


def test_where_selects_and_never_multiplies() -> None:
    for bad in (NAN, INF, -INF):
        x, other = leaf(1.0, 2.0), leaf(3.0, 4.0)
        x.where(np.array([True, False]), other).backward(np.array([1.0, bad]))
        assert x.grad is not None and other.grad is not None
        assert x.grad.tolist() == [1.0, 0.0]
        same(other.grad.data, [0, bad])


def test_where_lets_no_nan_of_the_other_branch_through() -> None:
    same(gradient(lambda x: np.where(x > 0, np.log(x), x), -1.0, 2.0), [1, 0.5])
    safe = gradient(lambda x: np.where(x > 0, np.log(np.where(x > 0, x, 1.0)), x), 0.0, 2.0)
    same(safe, [1, 0.5])


def test_where_of_large_arrays_is_exact_too() -> None:
    """Above some size another code path takes over."""
    x = np.tile([1.0, INF, NAN, -2.0], 5_000)
    mask = np.tile([True, False, False, True], 5_000)
    for dtype in (np.float32, np.float64, np.float16):
        t = Tensor(np.ones(len(x), dtype), requires_grad=True)
        t.where(mask, 0).backward(x.astype(dtype))
        assert t.grad is not None
        same(t.grad.data, np.tile([1.0, 0.0, 0.0, -2.0], 5_000))
        u = Tensor(np.ones((len(x), 2), dtype).T, requires_grad=True)
        u.relu().backward(np.stack([x, x]).astype(dtype))
        assert u.grad is not None
        same(u.grad.data, np.stack([x, x]))


BUILT_INS: list[tuple[str, Callable[[Any], Any], list[float]]] = [
    ("sinc", lambda x: np.sinc(x), [0.0, 1.0]),
    ("logaddexp", lambda x: np.logaddexp(x, -INF), [-INF, 1.0]),
    ("logsumexp", lambda x: x.logsumexp(), [-INF, -INF]),
    ("power", lambda x: x**2.0, [0.0, -1.0]),
    ("power of an array", lambda x: x ** np.array([2.0, 1.0]), [0.0, 0.0]),
    ("prod", lambda x: x.prod(), [0.0, 0.0]),
    ("cumprod", lambda x: x.cumprod(0), [0.0, 0.0]),
]


@pytest.mark.parametrize(("name", "f", "at"), BUILT_INS)
def test_built_ins_are_safe_where_another_branch_is_nan(name: str, f: Any, at: Any) -> None:
    assert np.isfinite(gradient(f, *at)).all()
    with np.errstate(all="ignore"):
        assert np.isfinite(tk.hessian(lambda x: f(x).sum())(np.array(at))).all()


# ------------------------------------------------------------------ pow


def test_pow_at_base_0() -> None:
    """Exponent 0: 0 whatever the base. Between 0 and 1: inf. Above 1: 0."""
    for exponent, slope in ((0.0, 0), (0.5, INF), (1.0, 1), (1.5, 0), (2.0, 0), (3.0, 0)):
        ways: list[Any] = [exponent, np.float64(exponent), np.array([exponent]), leaf(exponent)]
        if exponent == int(exponent):
            ways += [int(exponent), np.array([int(exponent)])]
        for b in ways:
            same(gradient(lambda x, b=b: x**b, 0.0), [slope])  # type: ignore[misc]


def test_pow_of_a_negative_base() -> None:
    same(gradient(lambda x: x**3, -2.0), [12])
    same(gradient(lambda x: x**-1, -2.0), [-0.25])
    same(gradient(lambda x: x ** np.array([3.0]), -2.0), [12])
    same(gradient(lambda x: x**0.5, -2.0), [NAN])
    check_grads(lambda x: x ** np.array([2.0, 3.0, 0.0]), np.array([-1.5, -0.5, -2.0]), order=3)


def test_pow_derivative_of_the_exponent() -> None:
    """0 at base 0 for exponents >= 0 (PyTorch's choice), NaN at a negative base."""
    base = np.array([0.0, 0.0, 2.0, -2.0])
    same(gradient(lambda b: base**b, 0.0, 2.0, 3.0, 2.0), [0, 0, 8 * math.log(2), NAN])
    same(gradient(lambda b: 0.0**b, 0.0, 1.0), [0, 0])
    same(gradient(lambda b: 2.0**b, 3.0), [8 * math.log(2)])


def test_pow_takes_no_log_unless_needed() -> None:
    """A negative base under a constant exponent warns of nothing."""
    x = leaf(-2.0, 0.0)
    (x**2).sum().backward()
    (x ** np.array([2.0, 3.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [-8.0, 0.0]


def test_pow_second_derivatives_at_0() -> None:
    same(tk.hessian(lambda x: (x**2).sum())(np.array([0.0])), [[2]])
    same(tk.hessian(lambda x: (x**1).sum())(np.array([0.0])), [[0]])
    same(tk.hessian(lambda x: (x**0).sum())(np.array([0.0])), [[0]])
    found = tk.hessian(lambda x: (x ** np.array([3.0, 2.0, 1.0, 0.0])).sum())(np.zeros(4))
    same(found, np.diag([0, 2, 0, 0]))


# ------------------------------------------------------------------ prod and cumprod with zeros

PRODUCTS = [
    [0.0, 2.0, 3.0],
    [0.0, 0.0, 3.0],
    [0.0, 0.0, 0.0],
    [2.0, 0.0, 3.0, 0.0, 5.0],
    [1.0, 2.0, 3.0, 4.0],
    [7.0],
]


def others_product(x: list[float], *without: int) -> float:
    return math.prod(v for i, v in enumerate(x) if i not in without)


@pytest.mark.parametrize("values", PRODUCTS)
def test_prod_with_zeros_is_exact_also_twice(values: list[float]) -> None:
    n, x = range(len(values)), np.array(values)
    same(tk.grad(lambda x: x.prod())(x), [others_product(values, i) for i in n])
    same(
        tk.hessian(lambda x: x.prod())(x),
        [[0 if i == j else others_product(values, i, j) for j in n] for i in n],
    )


def test_prod_with_zeros_to_third_order() -> None:
    third = tk.jacobian(tk.hessian(lambda x: x.prod()))(np.array([0.0, 0.0, 3.0]))
    expected = np.zeros((3, 3, 3))
    for i, j, k in itertools.permutations(range(3)):
        expected[i, j, k] = 1
    same(third, expected)


def test_prod_with_zeros_over_axes() -> None:
    x = np.array([[[0.0, 2.0], [3.0, 0.0]], [[1.0, 5.0], [0.0, 0.0]]])
    for axis in (0, 1, -1, (0, 2), (1, 2), None):
        check_grads(lambda x, axis=axis: x.prod(axis=axis), x, order=3, modes=("rev",))


@pytest.mark.parametrize("values", PRODUCTS)
def test_cumprod_with_zeros_is_exact_also_twice(values: list[float]) -> None:
    n, x = range(len(values)), np.array(values)
    first = [[others_product(values[: k + 1], i) if i <= k else 0 for i in n] for k in n]
    same(tk.jacobian(lambda x: x.cumprod(0))(x), first)
    second = [
        [
            [others_product(values[: k + 1], i, j) if i != j and max(i, j) <= k else 0 for j in n]
            for i in n
        ]
        for k in n
    ]
    same(tk.jacobian(tk.jacobian(lambda x: x.cumprod(0)))(x), second)


# ------------------------------------------------------------------ logsumexp


def test_logsumexp_of_all_minus_infinity() -> None:
    assert leaf(-INF, -INF).logsumexp().item() == -INF
    same(gradient(lambda x: x.logsumexp(), -INF, -INF), [0, 0])
    same(tk.hessian(lambda x: x.logsumexp())(np.array([-INF, -INF])), np.zeros((2, 2)))
    rows = Tensor(np.array([[-INF, -INF], [0.0, 0.0]]), requires_grad=True)
    rows.logsumexp(axis=1).sum().backward()
    assert rows.grad is not None
    assert rows.grad.tolist() == [[0.0, 0.0], [0.5, 0.5]]


def test_logsumexp_of_extremes() -> None:
    assert leaf(1e4, 1e4).logsumexp().item() == 1e4 + math.log(2)
    assert leaf(-1e4, -1e4).logsumexp().item() == -1e4 + math.log(2)
    same(gradient(lambda x: x.logsumexp(), -INF, 1.0), [0, 1])
    assert leaf(INF, 1.0).logsumexp().item() == INF
    assert math.isnan(leaf(NAN, 1.0).logsumexp().item())
    assert leaf(5.0).logsumexp().item() == 5.0


@given(st.data())
def test_logsumexp_shifts_exactly(data: st.DataObject) -> None:
    """log sum exp(x + c) = c + log sum exp(x), at any c: nothing overflows on the way."""
    x = data.draw(arrays(shapes(min_dims=1, min_side=1)))
    shift = data.draw(st.sampled_from([-1e5, -1e3, 1e3, 1e5]))
    plain, moved = Tensor(x).logsumexp(axis=-1).data, Tensor(x + shift).logsumexp(axis=-1).data
    np.testing.assert_allclose(moved - shift, plain, atol=1e-10)


# ------------------------------------------------------------------ complex


@pytest.mark.parametrize(
    "f",
    [
        lambda: Tensor(1j),
        lambda: Tensor([1 + 2j]),
        lambda: Tensor(np.ones(2, complex)),
        lambda: Tensor(np.complex64(1)),
        lambda: tk.tensor([1j]),
        lambda: Tensor([1.0], dtype=complex),
        lambda: tk.zeros(2, dtype=complex),
        lambda: leaf(1.0) * 1j,
        lambda: 1j * leaf(1.0),
        lambda: leaf(1.0) + np.ones(1, complex),
        lambda: np.ones(1, complex) * leaf(1.0),
        lambda: np.complex128(1) * leaf(1.0),
        lambda: leaf(1.0).astype(complex),
        lambda: complex(leaf(1.0)),
        lambda: tk.grad(lambda x: x * x)(1j),
        lambda: np.fft.fft(leaf(1.0, 2.0)),
        lambda: np.linalg.eig(Tensor(np.eye(2))),
    ],
)
def test_complex_is_refused_clearly(f: Any) -> None:
    with pytest.raises(TypeError, match=r"complex|real numbers|not supported"):
        f()


def test_a_negative_base_gives_nan_and_not_a_complex_number() -> None:
    with np.errstate(invalid="ignore"):
        assert math.isnan(((leaf(-1.0)) ** 0.5).item())
        assert math.isnan(leaf(-1.0).sqrt().item())


# ------------------------------------------------------------------ accuracy in float32


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("exp", (-5, 5)),
        ("log", (0.1, 5)),
        ("tanh", (-5, 5)),
        ("sigmoid", (-5, 5)),
        ("softplus", (-5, 5)),
        ("erf", (-3, 3)),
        ("sqrt", (0.1, 5)),
        ("expm1", (-1e-3, 1e-3)),
        ("log1p", (-1e-3, 1e-3)),
        ("arctan", (-5, 5)),
    ],
)
def test_float32_gradients_are_those_of_float64(name: str, domain: tuple[float, float]) -> None:
    x = np.random.default_rng(0).uniform(*domain, 200)

    def slope(x: ndarray) -> Any:
        return tk.grad(lambda x: getattr(x, name)().sum())(x)

    np.testing.assert_allclose(
        slope(x.astype(np.float32)),
        slope(x.astype(np.float32).astype(np.float64)),
        rtol=2e-5,
        atol=1e-6,
    )


def test_backward_through_infinite_slopes_and_values_warns_of_nothing() -> None:
    zero = Tensor([0.0], requires_grad=True)
    zero.expand(2).sqrt().backward(Tensor([1.0, -1.0]))
    assert zero.grad is not None and np.isnan(zero.grad.data).all()
    with np.errstate(over="ignore"):
        large = Tensor([1000.0], requires_grad=True)
        grown = large.exp()
    tk.where(large > 0, 0.0, grown).sum().backward()


def test_sum_over_several_axes_of_channels_last_memory() -> None:
    images = np.random.default_rng(0).random((100, 28, 28, 8), np.float32).transpose(0, 3, 1, 2)
    exact = images.sum(axis=(0, 2, 3), dtype=np.float64)
    for total in (Tensor(images).sum(axis=(0, 2, 3)), Tensor(images).mean(axis=(0, 2, 3)) * 78400):
        assert np.abs(total.data / exact - 1).max() < 2e-6


def test_power_of_nan_at_exponent_0_has_gradient_0() -> None:
    x = Tensor(np.array([np.nan, 0.0, np.inf, 2.0]), requires_grad=True)
    (x**0).sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.data, 0.0)


POWERS_AT = list(itertools.product([2.0, 0.5, 3.0], [0.0, 1.0, 2.0, 3.0, -1.0, 0.5]))


@pytest.mark.parametrize(("a", "b"), POWERS_AT)
def test_every_mixed_derivative_of_a_power(a: float, b: float) -> None:
    """The polynomials in b and log a, from a^b = exp(b log a)."""
    log, f = math.log(a), lambda p: p[0] ** p[1]
    mixed = a ** (b - 1) * (1 + b * log)
    hessian = [[b * (b - 1) * a ** (b - 2), mixed], [mixed, a**b * log**2]]
    np.testing.assert_allclose(tk.hessian(f)(np.array([a, b])), hessian, rtol=1e-12, atol=1e-15)
    by_base = [
        [b * (b - 1) * (b - 2) * a ** (b - 3), a ** (b - 2) * (2 * b - 1 + b * (b - 1) * log)],
        [0, a ** (b - 1) * (2 * log + b * log**2)],
    ]
    by_base[1][0] = by_base[0][1]
    third = tk.jacobian(tk.hessian(f))(np.array([a, b]))
    np.testing.assert_allclose(third[:, :, 0], by_base, rtol=1e-12, atol=1e-14)
    assert math.isclose(third[1, 1, 1], a**b * log**3, rel_tol=1e-12)


@pytest.mark.parametrize(
    ("b", "by_base", "by_exponent", "both"),
    [
        (2.0, [0, 2, 0], [0, 0], 0),
        (3.0, [0, 0, 6], [0, 0], 0),
        (1.0, [1, 0, 0], [0, 0], -INF),
        (0.5, [INF, -INF, INF], [0, 0], -INF),
        (0.0, [0, 0, 0], [0, NAN], NAN),
    ],
)
def test_derivatives_of_a_power_at_base_0(
    b: float, by_base: list[float], by_exponent: list[float], both: float
) -> None:
    """The limits from above; at exponent 0 the first derivative by it is 0 by convention."""
    by_a = lambda a, b: tk.grad(lambda a: a**b)(a)  # noqa: E731
    f: Any = lambda a: a ** np.array(b)  # noqa: E731
    for slope in by_base:
        f = tk.grad(f)
        same(f(0.0), slope)
    g: Any = lambda b: 0.0**b  # noqa: E731
    for slope in by_exponent:
        g = tk.grad(g)
        same(g(b), slope)
    same(tk.grad(by_a, 1)(0.0, b), both)


@pytest.mark.parametrize("b", [0.0, 1.0, 2.0, 3.0])
def test_derivatives_of_a_power_at_a_negative_base(b: float) -> None:
    f: Any = lambda a: a ** np.array(b)  # noqa: E731
    same(tk.grad(f)(-2.0), b * (-2.0) ** (b - 1))
    same(tk.grad(tk.grad(f))(-2.0), b * (b - 1) * (-2.0) ** (b - 2))
    same(tk.grad(lambda b: np.power(np.array(-2.0), b))(b), NAN)


@pytest.mark.parametrize("base", [0.0, np.array(0.0), np.array(2.0)])
def test_forward_mode_of_a_power_by_its_exponent(base: Any) -> None:
    value, slope = tk.jvp(lambda b: base**b, (2.5,), (1.0,))
    assert (value, slope) == (base**2.5, (base**2.5 * np.log(2.0) if base else 0.0))


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 11, -1, -2, -3, -4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_powers_are_exact_to_two_roundings(n: int, dtype: Any) -> None:
    x = np.random.default_rng(0).normal(size=1000).astype(dtype)
    found, exact = np.asarray(tk.power(x, n)), x.astype(np.longdouble) ** n
    assert found.dtype == dtype
    assert (np.abs(found / exact - 1) <= 1.5 * np.finfo(dtype).eps).all()
    ends = np.array([0.0, -0.0, INF, -INF, NAN, 1e30, -1e-30], dtype)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(tk.power(ends, n), np.power(ends, dtype(n)), rtol=4e-7)


def test_whole_powers_reach_the_ends_of_float32() -> None:
    """1 / x^2 would overflow on the way, 1 / x squared does not."""
    x = np.float32([2.0**70, -(2.0**66)])
    np.testing.assert_array_equal(tk.power(x, -2), np.float32([2.0**-140, 2.0**-132]))


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_arctan2_of_tiny_and_huge_sides(size: float) -> None:
    a, b = (Tensor(np.array(size), requires_grad=True) for _ in range(2))
    np.arctan2(a, b).backward()
    assert a.grad is not None and b.grad is not None
    np.testing.assert_allclose([a.grad.item(), b.grad.item()], [0.5 / size, -0.5 / size])


def test_arctan2_at_the_origin_has_gradient_0() -> None:
    a, b = (Tensor(np.zeros(()), requires_grad=True) for _ in range(2))
    np.arctan2(a, b).backward()
    assert a.grad is not None and b.grad is not None
    assert a.grad.item() == b.grad.item() == 0
    with np.errstate(all="ignore"):
        assert np.isnan(tk.hessian(lambda p: np.arctan2(p[0], p[1]))(np.zeros(2))).all()


def test_float16_means_do_not_overflow() -> None:
    x = Tensor(np.full(100_000, 2, np.float16))
    assert (x.mean().item(), x.var().item(), x.mean().dtype) == (2.0, 0.0, np.float16)


def test_logsumexp_of_integers() -> None:
    found = Tensor([3, 4]).logsumexp(axis=0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.item(), np.logaddexp(3, 4), rtol=1e-6)


# ------------------------------------------------------------------ over- and underflow on the way


@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (np.arcsinh, lambda x: 1 / abs(x)),
        (np.arccosh, lambda x: 1 / x if x > 0 else NAN),
        (np.arctan, lambda x: 1 / x / x),
        (np.log1p, lambda x: 1 / x),
    ],
)
@pytest.mark.parametrize("x", [1e10, 1e20, 3e38, -1e20, -1e10])
def test_slopes_far_away_in_float32(f: Any, slope: Callable[[float], float], x: float) -> None:
    if f is np.log1p and x < 0:
        return
    with np.errstate(all="ignore"):
        found = tk.grad(f)(np.float32(x))
    np.testing.assert_allclose(found, np.float32(slope(x)), rtol=1e-6, atol=2e-45)
    np.testing.assert_allclose(tk.grad(f)(1e200), slope(1e200), rtol=1e-12, atol=0)


@pytest.mark.parametrize("f", [np.arcsinh, np.arctan])
def test_slopes_at_infinity(f: Any) -> None:
    for x in (INF, -INF):
        assert tk.grad(f)(x) == 0
        assert tk.grad(tk.grad(f))(x) == 0


@pytest.mark.parametrize(("f", "bound"), [(np.arcsinh, 4e-16), (np.arctan, 6e-16)])
def test_slopes_are_exact_near_and_far(f: Any, bound: float) -> None:
    for x in (1e-9, 0.3, 1.0, 37.5, 9.9e8, 1.01e9, 1e15):
        root = math.hypot(1.0, x)
        assert math.isclose(tk.grad(f)(x), 1 / root if f is np.arcsinh else 1 / root / root,
                            rel_tol=bound)  # fmt: skip


# ------------------------------------------------------------------ logaddexp, logsumexp, softplus

PAIRS = [
    (INF, 1.0, [1, 0]),
    (1.0, INF, [0, 1]),
    (-INF, 1.0, [0, 1]),
    (INF, -INF, [1, 0]),
    (INF, INF, [0.5, 0.5]),
    (-INF, -INF, [0, 0]),
]


@pytest.mark.parametrize(("a", "b", "slopes"), PAIRS)
@pytest.mark.parametrize(
    "total",
    [
        lambda p: np.logaddexp(p[0], p[1]),
        lambda p: np.logaddexp2(p[0], p[1]),
        lambda p: p.logsumexp(),
    ],
)
def test_sums_of_exponentials_of_infinities(a: float, b: float, slopes: Any, total: Any) -> None:
    at = np.array([a, b])
    same(tk.grad(total)(at), slopes)
    same(tk.hessian(total)(at), np.zeros((2, 2)))
    same(tk.jvp(total, (at,), (np.array([2.0, 4.0]),))[1], np.dot(slopes, [2.0, 4.0]))


def test_logsumexp_of_infinities_by_rows() -> None:
    rows = np.array([[INF, 1, INF], [0, 0, 0], [-INF, -INF, -INF], [INF, -INF, 2], [NAN, 1, INF]])
    x = Tensor(rows, requires_grad=True)
    x.logsumexp(axis=1).backward(np.ones(5))
    assert x.grad is not None
    third = 1 / 3
    expected = [[0.5, 0, 0.5], [third] * 3, [0, 0, 0], [1, 0, 0], [NAN] * 3]
    np.testing.assert_allclose(x.grad.data, expected)


SMOOTH_STEPS: dict[str, Callable[[Any], Any]] = {
    "softplus": lambda x: tk.softplus(x),
    "F.softplus": lambda x: tk.functional.softplus(x),
    "logsigmoid": lambda x: tk.functional.logsigmoid(x),
    "logaddexp": lambda x: np.logaddexp(x, 0.0),
    "logaddexp of 0": lambda x: np.logaddexp(0.0, x),
    "bce_with_logits": lambda x: tk.functional.binary_cross_entropy_with_logits(x, np.array(0.25)),
    "logaddexp2": lambda x: np.logaddexp2(x / math.log(2), 0.0) * math.log(2),
}


@pytest.mark.parametrize("name", SMOOTH_STEPS)
@pytest.mark.parametrize("x", [-40.0, -9.0, -1.0, 0.5, 9.0, 19.0])
def test_higher_derivatives_of_a_smooth_step_keep_their_digits(name: str, x: float) -> None:
    """s' = p q and s'' = p q (q - p) with p = 1 / (1 + e^-x), q = 1 - p."""
    f = SMOOTH_STEPS[name]
    p, q = 1 / (1 + math.exp(-x)), 1 / (1 + math.exp(x))
    sign = -1 if name == "logsigmoid" else 1
    second, third = tk.grad(tk.grad(f)), tk.grad(tk.grad(tk.grad(f)))
    assert math.isclose(second(x), sign * p * q, rel_tol=1e-14)
    assert math.isclose(third(x), sign * p * q * (q - p), rel_tol=1e-13)
    np.testing.assert_allclose(second(np.float32(x)), sign * p * q, rtol=5e-6)
    assert second(-1e4) == second(1e4) == 0


@pytest.mark.parametrize(
    ("x", "t", "loss", "slope"),
    [
        (-INF, 0.0, 0, 0),
        (INF, 1.0, 0, 0),
        (INF, 0.0, INF, 1),
        (INF, 0.25, INF, 0.75),
        (-INF, 1.0, INF, -1),
        (-INF, 0.25, INF, -0.25),
        (NAN, 1.0, NAN, NAN),
    ],
)
@pytest.mark.parametrize("weight", [None, 2.0])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_bce_of_infinite_logits(
    x: float, t: float, loss: float, slope: float, weight: float | None, reduction: str
) -> None:
    given = None if weight is None else np.array([weight])
    logit = Tensor(np.array([x]), requires_grad=True)
    value = tk.functional.binary_cross_entropy_with_logits(
        logit, np.array([t]), pos_weight=given, reduction=reduction
    )
    value.sum().backward()
    assert logit.grad is not None
    same(value.sum().data, loss)
    same(logit.grad.data, [slope * weight if weight and x < 0 else slope])
