"""The checker is only as good as the wrong rules that it catches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import global_state, leaks
from hypothesis import find, given, settings
from hypothesis import strategies as st
from numpy import ndarray

import tinygrad_kr as tk
from tinygrad_kr import Tensor, op
from tinygrad_kr.ops.node import grad_mode
from tinygrad_kr.ops.op import numpy_table
from tinygrad_kr.testing import (
    GradientError,
    arrays,
    axes,
    broadcastable_shapes,
    check_grads,
    check_taylor,
    indices,
    layouts,
    shapes,
    taylor_slope,
)

X = np.random.default_rng(0).uniform(0.5, 1.5, (3, 3))
V = np.random.default_rng(1).uniform(0.5, 1.5, 3)


def cube(rule: Callable[..., Any]) -> Callable[..., Any]:
    return op(lambda x: x**3, rule, name="cube")


def raw(x: Any) -> ndarray:
    return x.data if isinstance(x, Tensor) else x


def rounded(x: Any) -> Any:
    return x.astype(np.float32)


right = cube(lambda g, y, x: 3 * g * x**2)
swapped_sign = cube(lambda g, y, x: -3 * g * x**2)
missing_factor = cube(lambda g, y, x: g * x**2)
slightly_off = cube(lambda g, y, x: g * (3 + 3e-5) * x**2)
one_element = cube(
    lambda g, y, x: 3 * g * x**2 * (1 + 0.01 * (np.arange(x.size) == 5).reshape(3, 3))
)
wrong_second = cube(lambda g, y, x: g * (3 * raw(x) ** 2))
square = op(lambda x: x**2, lambda g, y, x: g * (2 * raw(x)), name="square")
wrong_third = cube(lambda g, y, x: g * square(x) * 3)
no_gradient = cube(lambda g, y, x: 0.0 * g)
not_a_number = cube(lambda g, y, x: g * float("nan"))
infinite = cube(lambda g, y, x: g * float("inf"))
float32 = cube(lambda g, y, x: rounded(3 * g * x**2))
float32_cotangent = cube(lambda g, y, x: 3 * rounded(g) * x**2)
constant_shape = cube(lambda g, y, x: (3 * g * x**2).sum(axis=0))
cut_shape = cube(lambda g, y, x: (3 * g * x**2)[:-1])
nonlinear = cube(lambda g, y, x: 3 * g * abs(g) * x**2)
drops_cotangent = cube(lambda g, y, x: 3 * x**2)
contiguous_only = cube(lambda g, y, x: 3 * g * raw(x).ravel(order="K").reshape(x.shape) ** 2)
contiguous_cotangent = cube(
    lambda g, y, x: 3 * raw(g).ravel(order="K").reshape(x.shape) * x**2 if g.ndim else g
)
writes_cotangent = cube(lambda g, y, x: np.multiply(raw(g), 3 * raw(x) ** 2, out=raw(g)))
writes_input = cube(lambda g, y, x: 3 * g * np.square(raw(x), out=raw(x)))

WRONG = {
    "swapped_sign": swapped_sign,
    "missing_factor": missing_factor,
    "slightly_off": slightly_off,
    "one_element": one_element,
    "no_gradient": no_gradient,
    "not_a_number": not_a_number,
    "infinite": infinite,
    "constant_shape": constant_shape,
    "nonlinear": nonlinear,
    "drops_cotangent": drops_cotangent,
    "float32": float32,
    "float32_cotangent": float32_cotangent,
    "contiguous_only": contiguous_only,
    "contiguous_cotangent": contiguous_cotangent,
    "writes_cotangent": writes_cotangent,
    "writes_input": writes_input,
}


def test_right_rule_passes_at_every_order() -> None:
    check_grads(right, X, order=4)
    check_grads(right, X, order=2, fast=True)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rule_is_caught_at_first_order(name: str) -> None:
    with pytest.raises(GradientError) as caught:
        check_grads(WRONG[name], X, order=1)
    assert caught.value.order == 1


def test_wrong_shape_is_caught() -> None:
    with pytest.raises(
        ValueError, match=r"backward of cube.*expected a cotangent of shape \(3, 3\), got \(2, 3\)"
    ):
        check_grads(cut_shape, X, order=1)


@pytest.mark.parametrize("name", ["swapped_sign", "missing_factor", "slightly_off", "one_element"])
@pytest.mark.parametrize("mode", ["rev", "fwd"])
@pytest.mark.parametrize("fast", [True, False])
def test_wrong_rule_is_caught_in_each_mode(name: str, mode: Any, fast: bool) -> None:
    with pytest.raises(GradientError) as caught:
        check_grads(WRONG[name], X, order=1, modes=[mode], fast=fast)
    assert caught.value.mode == mode


@pytest.mark.parametrize("mode", ["rev", "fwd"])
@pytest.mark.parametrize("fast", [True, False])
def test_right_at_first_order_wrong_at_second(mode: Any, fast: bool) -> None:
    check_grads(wrong_second, X, order=1)
    with pytest.raises(GradientError, match="order 2") as caught:
        check_grads(wrong_second, X, order=2, modes=[mode], fast=fast)
    assert caught.value.order == 2


def test_right_at_second_order_wrong_at_third() -> None:
    check_grads(wrong_third, X, order=2)
    with pytest.raises(GradientError, match="order 3"):
        check_grads(wrong_third, X, order=3)


def test_wrong_unbroadcast() -> None:
    """Summed over the wrong axis: the shape is right, since X is square."""
    wrong = op(lambda a, b: a * b, lambda g, y, a, b: g * b, lambda g, y, a, b: (g * a).sum(axis=1))
    with pytest.raises(GradientError, match="argument 1") as caught:
        check_grads(wrong, (X, V), order=1)
    assert caught.value.argument == "argument 1"
    unsummed = op(lambda a, b: a * b, lambda g, y, a, b: g * b, lambda g, y, a, b: (g * a)[0])
    with pytest.raises(GradientError, match="argument 1"):
        check_grads(unsummed, (X, V), order=1)


def test_error_names_the_worst_element_and_both_values() -> None:
    with pytest.raises(GradientError) as caught:
        check_grads(one_element, X, order=1, modes=["rev"])
    error = caught.value
    assert error.argument == "argument 0"
    assert error.index == (1, 2, 1, 2)
    np.testing.assert_allclose(error.found, 3.03 * X[1, 2] ** 2)
    np.testing.assert_allclose(error.expected, 3 * X[1, 2] ** 2)
    message = str(error)
    assert "result 0[1, 2] / d argument 0[1, 2]" in message
    assert repr(np.float64(error.found)) in message


def test_one_wrong_element_among_many_is_caught_by_a_direction() -> None:
    x = np.random.default_rng(0).uniform(0.5, 1.5, 3_000)
    mask = np.zeros(3_000)
    mask[1_234] = 0.01
    wrong = op(lambda x: x**3, lambda g, y, x: 3 * g * x**2 * (1 + mask))
    with pytest.raises(GradientError, match="random direction") as caught:
        check_grads(wrong, x, order=1)
    assert caught.value.index is None


def test_leaves_of_containers_are_named() -> None:
    def f(weights: Any, x: Any) -> Any:
        return {"y": weights["w"] * x, "z": [swapped_sign(weights["b"])]}

    with pytest.raises(GradientError, match="argument 0, leaf 1"):
        check_grads(f, ({"w": X, "b": V}, X), order=1)


def test_containers_several_results_and_integers_pass() -> None:
    def f(weights: Any, x: Any, rows: Any) -> Any:
        return {"y": weights["w"] @ x, "z": [right(weights["b"])[rows], (x > 1).sum()]}

    check_grads(f, ({"w": X, "b": V}, X, np.array([0, 2, 2])), order=2)


def test_scalars_and_python_floats_pass() -> None:
    check_grads(lambda x, y: x * y**2, (2.0, np.float64(3.0)), order=3)


def test_empty_arrays_pass() -> None:
    check_grads(lambda x: (x**3).sum(axis=0), np.zeros((0, 3)), order=2)


def test_what_is_random_is_refused() -> None:
    with pytest.raises(GradientError, match="differs when computed twice"):
        check_grads(lambda x: x * tk.rand(3, dtype=np.float64), V)


def test_a_function_that_writes_into_its_argument_is_refused() -> None:
    def f(x: Any) -> Any:
        x.data[...] = 1.0
        return x * 2

    with pytest.raises(GradientError, match="writes into its arguments"):
        check_grads(f, V)


def test_large_values_do_not_look_like_wrong_derivatives() -> None:
    """1e8 + x: the quotient of two such values is known to 1e-3 only."""
    check_grads(lambda x: x * 1e-3 + 1e8, V, order=2)
    with pytest.raises(GradientError):
        check_grads(lambda x: swapped_sign(x) + 1e8, V, order=1)


def test_errors_of_the_function_itself_pass_through() -> None:
    def f(x: Any) -> Any:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        check_grads(f, V)


def test_float32_is_refused() -> None:
    with pytest.raises(TypeError, match=r"got float32, in which differences are rounding only\."):
        check_grads(lambda x, y: x * y, (V, V.astype(np.float32)))
    with pytest.raises(TypeError, match=r"float64 results of float64 arguments, got float32\."):
        check_grads(lambda x: x.float(), V)


def test_nothing_to_check_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected an argument of floats, got none\."):
        check_grads(lambda x: x, np.arange(3))
    with pytest.raises(ValueError, match=r"and .fwd., got order 0 and modes \('rev', 'fwd'\)\."):
        check_grads(right, X, order=0)
    with pytest.raises(ValueError, match="expected order >= 1 and modes among"):
        check_grads(right, X, modes=())
    with pytest.raises(ValueError, match="expected order >= 1 and modes among"):
        check_grads(right, X, modes=["both"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="expected f to return a Tensor, got ndarray"):
        check_grads(lambda x: x.detach().numpy(), X)
    with pytest.raises(TypeError, match="expected f to return a floating-point Tensor, got none"):
        check_grads(lambda x: x > 0, X)


def test_check_grads_changes_no_argument() -> None:
    x = X.copy()
    t = Tensor(x, requires_grad=True)
    check_grads(right, t)
    np.testing.assert_array_equal(x, X)
    assert t.grad is None


# ------------------------------------------------------------------ Taylor


def test_taylor_slope_of_right_derivatives() -> None:
    assert taylor_slope(right, X) == pytest.approx(2.0, abs=0.05)
    assert taylor_slope(right, X, order=2) == pytest.approx(3.0, abs=0.1)
    assert taylor_slope(lambda x: 3 * x + 1, X) == float("inf")
    assert taylor_slope(lambda x: x * x, X, order=2) == float("inf")


@pytest.mark.parametrize("name", ["swapped_sign", "missing_factor", "slightly_off", "no_gradient"])
def test_taylor_catches_a_wrong_first_derivative(name: str) -> None:
    assert taylor_slope(WRONG[name], X) == pytest.approx(1.0, abs=0.5)
    with pytest.raises(GradientError, match=r"falls as h\^.*, not as h\^2"):
        check_taylor(WRONG[name], X)


def test_taylor_catches_a_wrong_second_derivative() -> None:
    check_taylor(wrong_second, X)
    assert taylor_slope(wrong_second, X, order=2) == pytest.approx(2.0, abs=0.1)
    with pytest.raises(GradientError, match=r"not as h\^3"):
        check_taylor(wrong_second, X, order=2)


def test_taylor_refuses_other_orders() -> None:
    with pytest.raises(ValueError, match=r"taylor_slope: expected order 1 or 2, got 3\."):
        taylor_slope(right, X, order=3)


# ------------------------------------------------------------------ layouts and strategies


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4), (0, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, bool])
def test_layouts(shape: tuple[int, ...], dtype: Any) -> None:
    x = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    found = layouts(x)
    for name, y in found.items():
        expected = x if name != "broadcast" else np.stack([x[0]] * len(x))
        np.testing.assert_array_equal(y, expected, strict=True)
    if x.size > 1 and x.ndim > 1:
        assert not found["fortran"].flags.c_contiguous
    if x.size > 1:
        assert not found["stepped"].flags.contiguous
        assert min(found["backward"].strides) < 0
        assert found["broadcast"].strides[0] == 0
    assert not found["read-only"].flags.writeable
    assert all(y.flags.writeable for n, y in found.items() if n not in ("read-only", "broadcast"))


@given(st.data())
def test_strategies_draw_what_they_promise(data: st.DataObject) -> None:
    shape = data.draw(shapes())
    x = data.draw(arrays(shape))
    assert x.shape == shape
    assert x.dtype == np.float64
    assert (np.abs(x) <= 2).all()
    x[data.draw(indices(shape))]
    x.sum(axis=data.draw(axes(x.ndim)))
    first, second, third = data.draw(broadcastable_shapes(3))
    np.broadcast_shapes(first, second, third)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "wanted",
    [
        lambda key: isinstance(key, ndarray) and key.dtype == bool and key.any(),
        lambda key: isinstance(key, tuple) and None in [k for k in key if k is None],
        lambda key: (
            isinstance(key, tuple) and any(isinstance(k, slice) and k.step == -1 for k in key)
        ),
        lambda key: (
            isinstance(key, tuple)
            and any(isinstance(k, list) and len(set(k)) < len(k) for k in key)
            and any(isinstance(k, slice) for k in key)
        ),
        lambda key: isinstance(key, tuple) and any(isinstance(k, ndarray) for k in key),
    ],
    ids=["mask", "newaxis", "negative step", "repeats beside a slice", "integer arrays"],
)
def test_indices_reach(wanted: Callable[[Any], bool]) -> None:
    find(
        indices((3, 2)),
        lambda key: bool(wanted(key)),
        settings=settings(database=None, max_examples=2_000),
    )


def test_shapes_reach_empty_and_scalars() -> None:
    once = settings(database=None)
    find(shapes(), lambda shape: shape == (), settings=once)
    find(shapes(), lambda shape: 0 in shape, settings=once)
    find(axes(3), lambda axis: isinstance(axis, tuple) and len(axis) == 2, settings=once)
    find(axes(3), lambda axis: isinstance(axis, int) and axis < 0, settings=once)


# ------------------------------------------------------------------ the fixtures of conftest.py


def test_leaks_of_global_state_are_named() -> None:
    before = global_state()
    assert leaks(before) == []
    token = grad_mode.set(0)
    assert leaks(before) == ["grad mode"]
    grad_mode.reset(token)
    with np.errstate(all="ignore"):
        assert leaks(before) == ["NumPy's error state"]
    with np.printoptions(precision=2):
        assert leaks(before) == ["NumPy's print options"]
    numpy_table[len] = len
    assert leaks(before) == ["the table of NumPy functions"]
    del numpy_table[len]
    assert leaks(before) == []
