"""`objective` against derivatives by hand; SciPy itself where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.interop.scipy import Objective, objective

A = np.random.default_rng(4).standard_normal((3, 3))
SYMMETRIC = A @ A.T + np.eye(3)
TREE = {"b": np.array([0.5, -1.0]), "a": (2.0, [Tensor([[1.5]])])}
FLAT = np.array([0.5, -1.0, 2.0, 1.5])


def quadratic(p: Any) -> Any:
    return p @ tk.tensor(SYMMETRIC) @ p / 2


def test_it_is_a_tuple_of_four_in_float64() -> None:
    problem = objective(quadratic, np.ones(3, np.float32))
    fun, jac, hessp, x0 = problem
    assert isinstance(problem, Objective) and problem.fun is fun
    assert x0.dtype == np.float64 and x0.tolist() == [1, 1, 1]
    x, v = np.array([0.1, 0.2, 0.3]), np.array([1.0, -1.0, 2.0])
    value = fun(x)
    assert type(value) is float and value == pytest.approx(x @ SYMMETRIC @ x / 2, rel=1e-14)
    for found, expected in ((jac(x), SYMMETRIC @ x), (hessp(x, v), SYMMETRIC @ v)):
        assert type(found) is np.ndarray and found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_parameters_keep_their_order_structure_and_kind() -> None:
    seen = []

    def f(p: Any) -> Any:
        seen.append(p)
        return p["b"].sum() * p["a"][0] + p["a"][1][0].sum()

    problem = objective(f, TREE)
    np.testing.assert_array_equal(problem.x0, FLAT)
    assert problem.fun(FLAT) == -0.5 * 2 + 1.5
    assert problem.jac(FLAT).tolist() == [2, 2, -0.5, 1]
    given = tk.tree.flatten(seen[0])[0]
    assert all(isinstance(t, Tensor) and t.dtype == np.float64 for t in given)
    assert [t.shape for t in given] == [(2,), (), (1, 1)]
    back = problem.unflatten(FLAT + 1)
    assert list(back) == ["b", "a"] and type(back["b"]) is np.ndarray
    assert back["b"].tolist() == [1.5, 0.0]
    assert type(back["a"][0]) is float and back["a"][0] == 3.0
    assert isinstance(back["a"][1][0], Tensor) and back["a"][1][0].tolist() == [[2.5]]


def test_rows_are_unflattened_along_the_last_axis_into_memory_of_their_own() -> None:
    problem = objective(lambda p: p["b"].sum(), {"b": np.ones((1, 2)), "c": 1.0})
    matrix = np.arange(12.0).reshape(4, 3)
    back = problem.unflatten(matrix)
    assert back["b"].shape == (4, 1, 2)
    assert back["c"].tolist() == [2, 5, 8, 11]
    back["b"][:] = -1
    assert matrix.min() == 0


@pytest.mark.parametrize(("m", "n"), [(0, 2), (1, 3), (3, 3), (7, 2), (2, 7)])
def test_residuals_give_a_jacobian(m: int, n: int) -> None:
    matrix = np.random.default_rng(m).standard_normal((m, n))
    problem = objective(lambda p: tk.tensor(matrix) @ p**2, np.ones(n))
    x, v = np.linspace(1.0, 2.0, n), np.linspace(-1.0, 1.0, n)
    residuals, jacobian = problem.fun(x), problem.jac(x)
    assert type(residuals) is np.ndarray and type(jacobian) is np.ndarray
    assert residuals.shape == (m,) and jacobian.shape == (m, n)
    np.testing.assert_allclose(residuals, matrix @ x**2, rtol=1e-12)
    np.testing.assert_allclose(jacobian, 2 * matrix * x, rtol=1e-12)
    hessian = jacobian.T @ jacobian + np.diag(2 * matrix.T @ residuals)
    np.testing.assert_allclose(problem.hessp(x, v), hessian @ v, rtol=1e-9, atol=1e-9)


def test_further_arguments_are_passed_on_and_read_at_each_call() -> None:
    problem = objective(lambda p, scale, shift: (scale * p + shift).sum(), np.ones(2))
    scale = np.array([2.0, 3.0])
    x = np.ones(2)
    assert problem.fun(x, scale, 1.0) == 7
    scale *= 2
    assert problem.jac(x, scale, 1.0).tolist() == [4, 6]
    assert problem.hessp(x, x, scale, 1.0).tolist() == [0, 0]


def test_a_call_without_arguments_is_not_continued_with_them() -> None:
    fun, jac, hessp, _ = objective(lambda p, scale=1.0: (p * p * scale).sum(), np.ones(2))
    x = np.ones(2)
    assert (fun(x), jac(x, 3.0).tolist(), jac(x).tolist()) == (2.0, [6.0, 6.0], [2.0, 2.0])
    assert (hessp(x, x).tolist(), hessp(x, x, 3.0).tolist()) == ([2.0, 2.0], [6.0, 6.0])


def test_jac_continues_fun_at_the_same_vector_alone() -> None:
    calls = []

    def f(p: Any) -> Any:
        calls.append(1)
        return (p**3).sum()

    problem = objective(f, np.ones(2))
    x = np.array([1.0, 2.0])
    assert problem.fun(x) == 9
    assert problem.jac(x).tolist() == [3, 12]
    assert len(calls) == 1
    x[0] = 5  # solvers write into one array
    assert problem.jac(x).tolist() == [75, 12]
    assert len(calls) == 2
    assert problem.hessp(x, np.ones(2)).tolist() == [30, 12]
    assert problem.hessp(x, np.array([1.0, 0.0])).tolist() == [30, 0]
    assert len(calls) == 3
    assert problem.fun(x) == 133
    assert len(calls) == 4


def test_results_do_not_share_memory_with_what_is_kept() -> None:
    """Solvers scale residuals in place; the rule of exp reads its output."""
    problem = objective(tk.exp, np.ones(3))
    x = np.arange(3.0)
    problem.fun(x)[:] = 7
    for _ in range(2):
        jacobian = problem.jac(x)
        np.testing.assert_allclose(jacobian, np.diag(np.exp(x)))
        jacobian[:] = 7
    problem.x0[:] = 9
    assert problem.fun(np.zeros(3)).tolist() == [1, 1, 1]
    assert problem.unflatten(np.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("mode", [tk.no_grad, tk.enable_grad])
def test_the_history_of_other_tensors_is_left_out(mode: Any) -> None:
    w = tk.tensor([2.0, 3.0], requires_grad=True)
    with mode():
        one = objective(lambda p: (w * p**2).sum(), np.ones(2))
        several = objective(lambda p: tk.concatenate((w * p**2, p)), np.ones(2))
        x = np.array([1.0, 2.0])
        assert one.fun(x) == 14 and type(one.jac(x)) is np.ndarray
        assert one.hessp(x, x).tolist() == [4, 12]
        assert type(several.fun(x)) is np.ndarray
        assert several.jac(x).tolist() == [[4, 0], [0, 12], [1, 0], [0, 1]]
    assert w.grad is None


def test_a_function_that_ignores_its_parameters_has_a_gradient_of_0() -> None:
    problem = objective(lambda p: 3.0, np.ones(2))
    assert (problem.fun(problem.x0), problem.jac(problem.x0).tolist()) == (3.0, [0, 0])
    assert problem.hessp(problem.x0, problem.x0).tolist() == [0, 0]


def test_what_is_no_objective_is_refused() -> None:
    with pytest.raises(TypeError, match="objective: expected real numbers in x0_tree, got <U1"):
        objective(quadratic, {"a": "b"})
    with pytest.raises(TypeError, match="objective: expected floats from f, got int64"):
        objective(lambda p: 3, np.ones(2)).fun(np.ones(2))
    with pytest.raises(TypeError, match=r"objective: expected a Tensor of one number.*got dict\."):
        objective(lambda p: {"loss": p.sum()}, np.ones(2)).fun(np.ones(2))
    with pytest.raises(ValueError, match=r"expected one number of shape \(\), or residuals.*\(2, "):
        objective(lambda p: p.reshape(2, 1), np.ones(2)).fun(np.ones(2))
    problem = objective(quadratic, np.ones(3))
    with pytest.raises(ValueError, match=r"objective: expected x of shape \(3,\), got \(2,\)"):
        problem.fun(np.ones(2))
    for wrong in (np.ones(2), 3.0):
        with pytest.raises(ValueError, match="unflatten: expected 3 numbers along the last axis"):
            problem.unflatten(wrong)


# ------------------------------------------------------------------ with SciPy


def rosenbrock(p: Any) -> Any:
    return (1 - p["x"]) ** 2 + 100 * (p["y"] - p["x"] ** 2) ** 2


def test_a_vector_of_another_length_has_no_hessian_product() -> None:
    hessp = objective(lambda p: (p**2).sum(), np.ones(2)).hessp
    assert hessp(np.ones(2), [1, 2]).tolist() == [2, 4]
    with pytest.raises(
        ValueError, match=r"hessp: expected v of shape \(2,\), as x has, got \(3,\)"
    ):
        hessp(np.ones(2), np.ones(3))


@pytest.mark.parametrize("method", ["BFGS", "L-BFGS-B", "Newton-CG", "trust-ncg", "trust-krylov"])
def test_minimize(method: str) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    fun, jac, hessp, x0 = problem = objective(rosenbrock, {"x": -1.2, "y": 1.0})
    assert optimize.check_grad(fun, jac, x0) < 1e-3
    second = {} if "BFGS" in method else {"hessp": hessp}
    result = optimize.minimize(fun, x0, jac=jac, method=method, tol=1e-8, **second)
    assert problem.unflatten(result.x) == pytest.approx({"x": 1.0, "y": 1.0}, abs=1e-4)


@pytest.mark.parametrize("method", ["trf", "dogbox", "lm"])
def test_least_squares(method: str) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    t = np.linspace(0, 1, 20)

    def residuals(p: Any, y: np.ndarray) -> Any:
        return p["height"] * tk.exp(-p["rate"] * t) - y

    problem = objective(residuals, {"height": 1.0, "rate": 1.0})
    result = optimize.least_squares(
        problem.fun, problem.x0, problem.jac, method=method, args=(2 * np.exp(-3 * t),)
    )
    assert problem.unflatten(result.x) == pytest.approx({"height": 2.0, "rate": 3.0}, rel=1e-6)
