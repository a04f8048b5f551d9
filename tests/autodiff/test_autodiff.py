"""`backward`, `autograd.grad`, hooks, and JAX's transformations in all their nestings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy import ndarray

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.testing import check_grads

X = np.array([0.5, -1.2, 2.0])


def leaf(*values: float) -> Tensor:
    return Tensor(np.array(values), requires_grad=True)


def grad_of(x: Tensor) -> ndarray:
    assert x.grad is not None
    return x.grad.data


def cubes(x: Any) -> Any:
    return (x**3).sum()


def mixed(a: Any, b: Any) -> Any:
    return (np.sin(a) * b**2).sum() + (a * b).prod()


class Weights(NamedTuple):
    w: Any
    b: Any


# ------------------------------------------------------------------ backward


def test_backward_of_a_product() -> None:
    a, b = leaf(2.0), leaf(3.0)
    (a * b + a).backward()
    assert grad_of(a).tolist() == [4.0]
    assert grad_of(b).tolist() == [2.0]


def test_backward_with_a_gradient_is_a_vector_jacobian_product() -> None:
    for gradient in (Tensor(np.array([1.0, 10.0])), np.array([1.0, 10.0]), [1.0, 10.0]):
        x = leaf(2.0, 3.0)
        (x * x).backward(gradient)
        assert grad_of(x).tolist() == [4.0, 60.0]


def test_backward_with_create_graph_can_be_differentiated_again() -> None:
    x = leaf(2.0)
    (x**3).backward(create_graph=True)
    assert x.grad is not None
    first = x.grad
    assert first.requires_grad
    x.grad = None
    (first * first).backward()
    assert grad_of(x).tolist() == [2 * 12.0 * 12.0]


def test_backward_with_create_graph_accumulates_differentiably() -> None:
    x = leaf(2.0)
    (x**2).backward(create_graph=True)
    (x**3).backward(create_graph=True)
    total = x.grad
    assert total is not None
    assert total.tolist() == [16.0]
    (dd,) = tk.autograd.grad(total, x)
    assert dd.tolist() == [2.0 + 12.0]
    x.grad = None


def test_backward_inside_no_grad_may_still_create_a_graph() -> None:
    x = leaf(2.0)
    y = x**3
    with tk.no_grad():
        (dx,) = tk.autograd.grad(y, x, create_graph=True)
        assert not tk.is_grad_enabled()
    assert dx.requires_grad
    assert tk.autograd.grad(dx, x)[0].tolist() == [12.0]


def test_backward_stops_at_detach() -> None:
    x = leaf(2.0)
    (x * x.detach()).backward()
    assert grad_of(x).tolist() == [2.0]


# ------------------------------------------------------------------ autograd.grad


def test_grad_leaves_grad_untouched() -> None:
    a, b = leaf(2.0), leaf(3.0)
    da, db = tk.autograd.grad(a * b, [a, b])
    assert (da.tolist(), db.tolist()) == ([3.0], [2.0])
    assert a.grad is None
    assert not da.requires_grad


def test_grad_with_respect_to_a_computed_tensor() -> None:
    x = leaf(2.0)
    y = x * x
    z = (y * y).sum()
    (dy,) = tk.autograd.grad(z, y, retain_graph=True)
    assert dy.tolist() == [8.0]
    dx, dy = tk.autograd.grad(z, [x, y])
    assert (dx.tolist(), dy.tolist()) == ([32.0], [8.0])


def test_grad_with_respect_to_the_output_itself() -> None:
    x = leaf(2.0)
    y = x * x
    dy, dx = tk.autograd.grad(y, [y, x])
    assert (dy.tolist(), dx.tolist()) == ([1.0], [4.0])


def test_grad_with_several_outputs_and_cotangents() -> None:
    x = leaf(2.0, 3.0)
    y, z = x * x, x.sum()
    (dx,) = tk.autograd.grad([y, z], x, [np.array([1.0, 10.0]), None])
    assert dx.tolist() == [4.0 + 1, 60.0 + 1]
    with pytest.raises(ValueError, match=r"autograd\.grad: expected 2 grad_outputs, got 1\."):
        tk.autograd.grad([x.sum(), x.sum()], x, [np.array(1.0)])


def test_grad_of_the_same_input_twice() -> None:
    x = leaf(2.0)
    a, b = tk.autograd.grad(x * x, [x, x])
    assert a.tolist() == b.tolist() == [4.0]


def test_grad_frees_only_what_it_walked() -> None:
    x, w = leaf(2.0), leaf(3.0)
    y = x * x
    z = y * w
    tk.autograd.grad(z, w)
    with pytest.raises(RuntimeError, match="freed"):
        z.backward()
    y.backward()
    assert grad_of(x).tolist() == [4.0]


# ------------------------------------------------------------------ hooks


def test_hooks_see_and_replace_the_gradient() -> None:
    x = leaf(2.0)
    y = x * 3
    seen: list[Any] = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    y.register_hook(lambda g: g * 10)
    y.register_hook(lambda g: seen.append(g.tolist()))
    (y * 2).backward()
    assert seen == [[2.0], [20.0]]
    assert grad_of(x).tolist() == [60.0]


def test_hook_on_a_leaf_runs_once_on_the_whole_gradient() -> None:
    x = leaf(2.0)
    seen: list[Any] = []
    x.register_hook(lambda g: seen.append(g.tolist()))
    (x + x * x).backward()
    assert seen == [[5.0]]


def test_hooks_can_be_removed_each_by_itself() -> None:
    x = leaf(2.0)
    calls: list[str] = []
    first = x.register_hook(lambda g: calls.append("first"))
    x.register_hook(lambda g: calls.append("second"))
    first.remove()
    first.remove()
    third = x.register_hook(lambda g: calls.append("third"))
    first.remove()
    x.sum().backward()
    assert calls == ["second", "third"]
    third.remove()
    x.sum().backward()
    assert calls == ["second", "third", "second"]


def test_hook_result_has_the_shape_and_dtype_of_its_tensor() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    x.register_hook(lambda g: g.data.astype(np.float64) * 2)
    x.sum().backward()
    assert grad_of(x).dtype == np.float32
    assert grad_of(x).tolist() == [2.0, 2.0]
    y = Tensor([1.0, 2.0], requires_grad=True)
    y.register_hook(lambda g: g.sum())
    with pytest.raises(ValueError, match=r"expected a gradient of shape \(2,\), got \(\)\."):
        y.sum().backward()
    assert y.grad is None


def test_hook_result_is_not_aliased() -> None:
    x, mine = leaf(1.0), Tensor(np.array([5.0]))
    x.register_hook(lambda g: mine)
    x.sum().backward()
    assert grad_of(x).tolist() == [5.0]
    assert not np.shares_memory(grad_of(x), mine.data)


def test_hooks_are_differentiated_through() -> None:
    x = leaf(2.0)
    y = x * 1
    y.register_hook(lambda g: g * x)
    (dx,) = tk.autograd.grad(y**2, x, create_graph=True)
    assert dx.tolist() == [8.0]
    # dx = 2 y x, y = x. Through y, where the hook acts again, 2 x * x; directly 2 y.
    assert tk.autograd.grad(dx, x)[0].tolist() == [8.0 + 4.0]


def test_hook_on_what_requires_no_grad_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"a Tensor that requires grad, got one without\."):
        Tensor([1.0]).register_hook(lambda g: g)


def test_retain_grad() -> None:
    x = leaf(2.0)
    y = x * x
    y.retain_grad()
    y.retain_grad()
    y.register_hook(lambda g: g * 10)
    z = y * 3
    z.backward(retain_graph=True)
    assert grad_of(y).tolist() == [30.0]
    assert grad_of(x).tolist() == [120.0]
    z.backward()
    assert grad_of(y).tolist() == [60.0]
    assert z.grad is None
    x.retain_grad()
    with pytest.raises(RuntimeError, match=r"a Tensor that requires grad, got one without\."):
        Tensor([1.0]).retain_grad()


def test_retain_grad_keeps_its_own_copy_and_earlier_hooks_can_go() -> None:
    x = leaf(2.0)
    y = x * 1
    handle = y.register_hook(lambda g: g * 10)
    y.retain_grad()
    handle.remove()
    y.sum().backward()
    assert grad_of(y).tolist() == [1.0]
    grad_of(y)[...] = 7
    assert grad_of(x).tolist() == [1.0]


# ------------------------------------------------------------------ grad and value_and_grad


def test_grad_of_arrays_tensors_and_numbers() -> None:
    found = tk.grad(cubes)(X)
    assert type(found) is ndarray
    np.testing.assert_allclose(found, 3 * X**2)
    as_tensor = tk.grad(cubes)(Tensor(X))
    assert isinstance(as_tensor, Tensor)
    assert not as_tensor.requires_grad
    assert tk.grad(lambda x: x**3)(2.0) == 12.0
    assert tk.grad(lambda x: x**3)(np.float64(2.0)) == 12.0
    value, slope = tk.value_and_grad(cubes)(X)
    assert value == pytest.approx((X**3).sum())
    np.testing.assert_allclose(slope, found)


def test_grad_does_not_touch_its_argument() -> None:
    x = leaf(2.0)
    y = tk.grad(cubes)(x)
    assert y.tolist() == [12.0]
    assert x.grad is None
    a = X.copy()
    tk.grad(cubes)(a)
    np.testing.assert_array_equal(a, X)


@pytest.mark.parametrize("argnums", [0, 1, -1, (0,), (0, 1), (1, 0), [0, 1]])
def test_argnums(argnums: Any) -> None:
    a, b = X, X + 1
    both = (np.cos(a) * b**2 + (a * b).prod() / a, 2 * np.sin(a) * b + (a * b).prod() / b)
    found = tk.grad(mixed, argnums)(a, b)
    if isinstance(argnums, int):
        np.testing.assert_allclose(found, both[argnums])
    else:
        assert isinstance(found, tuple)
        for g, n in zip(found, argnums, strict=True):
            np.testing.assert_allclose(g, both[n])


@pytest.mark.parametrize("argnums", [1, -2, (0, 1), 5])
@pytest.mark.parametrize("of", [tk.grad, tk.value_and_grad, tk.jacobian, tk.hessian])
def test_argnums_out_of_range(of: Any, argnums: Any) -> None:
    with pytest.raises(ValueError, match="expected argnums among 1 positional arguments, got"):
        of(cubes, argnums)(X)


def test_keyword_arguments_are_passed_on() -> None:
    assert tk.grad(lambda x, *, n: (x**n).sum())(2.0, n=3) == 12.0


def test_has_aux() -> None:
    def f(x: Any) -> Any:
        y = x * x
        return y.sum(), {"y": y, "note": "kept"}

    slope, aux = tk.grad(f, has_aux=True)(X)
    np.testing.assert_allclose(slope, 2 * X)
    np.testing.assert_allclose(aux["y"], X * X)
    assert aux["note"] == "kept"
    (value, aux), slope = tk.value_and_grad(f, has_aux=True)(Tensor(X))
    assert value.item() == pytest.approx((X * X).sum())
    assert isinstance(aux["y"], Tensor)


CONTAINERS: list[tuple[str, Any]] = [
    ("dict", {"w": X, "b": X[:1]}),
    ("list", [X, X[:1]]),
    ("tuple", (X, X[:1])),
    ("namedtuple", Weights(X, X[:1])),
    ("nested", {"layers": [{"w": X, "b": X[:1]}, (X, None)], "scale": 2.0}),
    ("of Tensors", {"w": Tensor(X), "b": [Tensor(X[:1])]}),
]


@pytest.mark.parametrize(("name", "tree"), CONTAINERS, ids=[c[0] for c in CONTAINERS])
def test_containers_keep_their_structure(name: str, tree: Any) -> None:
    from tinygrad_kr.tree import flatten

    def f(tree: Any) -> Any:
        return sum((leaf**2).sum() for leaf in flatten(tree)[0])

    found = tk.grad(f)(tree)
    leaves, slopes = flatten(tree)[0], flatten(found)[0]
    assert type(found) is type(tree)
    for x, g in zip(leaves, slopes, strict=True):
        assert isinstance(g, Tensor) == isinstance(x, Tensor)
        np.testing.assert_allclose(np.asarray(g), 2 * np.asarray(x))
    check_grads(f, (tree,), order=2)


def test_grad_of_what_is_no_scalar_is_refused() -> None:
    for f, message in (
        (lambda x: x * 2, r"expected a function with one float result, got float64\(3,\)\."),
        (lambda x: x.argmax(), r"expected a function with one float result, got int64\(\)\."),
        (lambda x: None, r"grad: expected a function that returns a Tensor, got NoneType\."),
        (lambda x: [x.sum()], r"grad: expected a function that returns a Tensor, got list\."),
    ):
        with pytest.raises(TypeError, match=message):
            tk.grad(f)(X)


def test_grad_of_a_constant_is_zero() -> None:
    assert tk.grad(lambda x: 3.0)(X).tolist() == [0.0] * 3
    assert tk.grad(lambda x: x.detach().sum())(X).tolist() == [0.0] * 3
    assert tk.grad(lambda x: Tensor(2.0))(X).tolist() == [0.0] * 3


# ------------------------------------------------------------------ every order, every nesting


def test_grad_of_grad_of_grad() -> None:
    f: Any = lambda x: x**5  # noqa: E731
    expected = [32.0, 80.0, 160.0, 240.0, 240.0, 120.0, 0.0]
    for value in expected:
        assert float(f(2.0)) == value
        f = tk.grad(f)


def test_nested_grad_does_not_confuse_its_variables() -> None:
    """d/dx (x * d/dy (x + y)) = 1: the classic perturbation confusion."""
    assert tk.grad(lambda x: x * tk.grad(lambda y: x + y)(1.0))(1.0) == 1.0
    assert tk.grad(lambda x: x * tk.grad(lambda y: x * y)(2.0))(3.0) == 6.0
    assert tk.grad(lambda x: tk.grad(lambda y: x * x * y * y)(x))(2.0) == 2 * 3 * 4.0


def test_grad_inside_a_function_of_outer_tensors() -> None:
    """A closure over a Tensor that requires grad: the inner derivative can be differentiated."""
    w = leaf(3.0)
    inner = tk.grad(lambda x: (w * x**2).sum())(np.array([2.0]))
    assert isinstance(inner, Tensor)
    assert inner.tolist() == [12.0]
    inner.sum().backward()
    assert grad_of(w).tolist() == [4.0]


def test_grad_inside_a_function_of_computed_outer_tensors() -> None:
    w = leaf(3.0)
    h = w * w
    inner = tk.grad(lambda x: (h * x**2).sum())(np.array([2.0]))
    (inner.sum() + h.sum()).backward()
    assert grad_of(w).tolist() == [2 * 3.0 * 4.0 + 6.0]


@pytest.mark.parametrize("outer", [tk.grad, tk.hessian, tk.jacobian])
def test_derivatives_under_no_grad_are_the_same_and_detached(outer: Any) -> None:
    expected = outer(cubes)(X)
    w = leaf(1.0)
    with tk.no_grad():
        np.testing.assert_array_equal(outer(cubes)(X), expected)
        found = outer(lambda x: (w * x**3).sum())(X)
        assert not isinstance(found, Tensor) or not found.requires_grad
        np.testing.assert_allclose(np.asarray(found), expected)
        assert not tk.is_grad_enabled()


def test_a_function_may_switch_recording_off_for_a_part() -> None:
    def f(x: Any) -> Any:
        with tk.no_grad():
            scale = x.sum()
        return (scale * x).sum()

    np.testing.assert_allclose(tk.grad(f)(X), [X.sum()] * 3)


@pytest.mark.parametrize(
    "f",
    [lambda x: x * math.sin(x), lambda x: float(x) ** 2, lambda x: np.float64(x) * x],
    ids=["math.sin", "float", "np.float64"],
)
@pytest.mark.parametrize("way", [tk.grad, tk.jacobian, tk.hessian])
def test_a_number_taken_from_a_traced_tensor_is_refused(way: Any, f: Any) -> None:
    with pytest.raises((TypeError, RuntimeError), match="has no history"):
        way(f)(np.float64(0.5))
    with pytest.raises(TypeError, match=r"np\.sin for math\.sin"):
        way(math.sin)(np.float64(0.5))


def test_a_traced_tensor_assigned_into_an_array_is_told_to_stack() -> None:
    def f(x: Any) -> Any:
        out = np.zeros(3)
        out[0] = x[0]
        return out.sum()

    with pytest.raises(ValueError, match="setting an array element") as caught:
        tk.grad(f)(X)
    assert "tk.stack" in str(caught.value.__cause__)


def test_a_mere_number_is_had_by_item_without_recording_and_outside() -> None:
    def f(x: Any) -> Any:
        with tk.no_grad():
            scale = float(x.sum())
        return (scale * x).sum() * (1.0 if x.sum().item() > 0 else 2.0)

    np.testing.assert_allclose(tk.grad(f)(X), [X.sum()] * 3 if X.sum() > 0 else [2 * X.sum()] * 3)
    assert float(leaf(2.0)) == 2.0


def test_backward_through_a_transformation() -> None:
    """A gradient penalty: the loss contains a derivative."""
    x, w = Tensor(X), leaf(0.5, -0.3, 0.8)

    def penalty(w: Any) -> Any:
        slope = tk.grad(lambda x: np.tanh(w * x).sum())(x)
        return (slope**2).sum()

    penalty(w).backward()
    expected = tk.grad(penalty)(w.data)
    np.testing.assert_allclose(grad_of(w), np.asarray(expected))
    check_grads(penalty, w.data, order=2)


# ------------------------------------------------------------------ vjp and jvp


def linear_map(x: Any) -> Any:
    return np.exp(x) @ np.arange(6.0).reshape(3, 2)


def test_vjp() -> None:
    y, pull_back = tk.vjp(linear_map, X)
    np.testing.assert_allclose(y, np.exp(X) @ np.arange(6.0).reshape(3, 2))
    jacobian = tk.jacobian(linear_map)(X)
    for v in (np.array([1.0, 0.0]), np.array([-2.0, 3.0])):
        (g,) = pull_back(v)
        np.testing.assert_allclose(g, v @ jacobian)
    with pytest.raises(ValueError, match=r"vjp: expected shape \(2,\), got \(3,\)\."):
        pull_back(np.ones(3))


def test_jvp() -> None:
    v = np.array([1.0, -2.0, 0.5])
    y, tangent = tk.jvp(linear_map, (X,), (v,))
    np.testing.assert_allclose(y, linear_map(X))
    np.testing.assert_allclose(tangent, tk.jacobian(linear_map)(X) @ v)
    wrong: list[Any] = [X, [1.0], (X, X)]
    for bad in wrong:
        with pytest.raises((TypeError, ValueError)):
            tk.jvp(linear_map, (X,), bad)
    with pytest.raises(ValueError, match=r"jvp: expected shape \(3,\), got \(2,\)\."):
        tk.jvp(linear_map, (X,), (np.ones(2),))


def test_jvp_and_vjp_of_containers_and_several_results() -> None:
    def f(weights: Any, x: Any) -> Any:
        y = weights["w"] * x
        return {"y": y, "sum": (y + weights["b"]).sum(), "x": x}

    at = ({"w": X, "b": X + 1}, X * 2)
    along = ({"w": X * 0 + 1, "b": X}, X)
    _, tangents = tk.jvp(f, at, along)
    np.testing.assert_allclose(tangents["y"], at[1] + X * X)
    np.testing.assert_allclose(tangents["sum"], (at[1] + X * X + X).sum())
    np.testing.assert_allclose(tangents["x"], X)
    cotangents = {"y": X, "sum": np.array(2.0), "x": X * 0}
    _, pull_back = tk.vjp(f, *at)
    weights, x = pull_back(cotangents)
    np.testing.assert_allclose(weights["w"], (X + 2) * at[1])
    np.testing.assert_allclose(weights["b"], np.full(3, 2.0))
    left = sum(np.sum(cotangents[k] * tangents[k]) for k in cotangents)
    right = sum(np.sum(weights[k] * along[0][k]) for k in weights) + np.sum(x * along[1])
    assert left == pytest.approx(right)


def test_jvp_of_what_ignores_an_argument() -> None:
    _, tangent = tk.jvp(lambda a, b: a * 2, (X, X), (X, X))
    np.testing.assert_allclose(tangent, 2 * X)
    _, tangent = tk.jvp(lambda a: Tensor(np.ones(2)), (X,), (X,))
    assert tangent.tolist() == [0.0, 0.0]


def test_the_same_tensor_as_two_results() -> None:
    def f(x: Any) -> Any:
        y = x * x
        return y, y, x

    _, tangents = tk.jvp(f, (X,), (X * 0 + 1,))
    for found, expected in zip(tangents, (2 * X, 2 * X, X * 0 + 1), strict=True):
        np.testing.assert_allclose(found, expected)
    _, pull_back = tk.vjp(f, X)
    (g,) = pull_back((X * 0 + 1, X * 0 + 10, X * 0 + 100))
    np.testing.assert_allclose(g, 22 * X + 100)


# ------------------------------------------------------------------ jacobian, hessian, hvp


def test_jacobian_shapes() -> None:
    a, b = np.ones((2, 3)), np.ones(3)
    found = tk.jacobian(lambda a, b: a @ b, (0, 1))(a, b)
    assert [block.shape for block in found] == [(2, 2, 3), (2, 3)]
    assert tk.jacobian(lambda x: x.sum())(a).shape == (2, 3)
    assert tk.jacobian(lambda x: x * 2)(1.0).shape == ()
    assert tk.jacobian(lambda x: x[:0])(b).shape == (0, 3)
    assert tk.jacobian(lambda x: x * 2)(np.ones((0, 2))).shape == (0, 2, 0, 2)


def test_jacobian_values() -> None:
    matrix = np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(tk.jacobian(lambda x: matrix @ x)(X), matrix)
    np.testing.assert_allclose(tk.jacobian(np.exp)(X), np.diag(np.exp(X)))


def test_jacobian_of_containers() -> None:
    def f(weights: Any) -> Any:
        return {"p": weights["w"] * 2, "q": weights["b"].sum()}

    found = tk.jacobian(f)({"w": X, "b": X[:2]})
    np.testing.assert_allclose(found["p"]["w"], 2 * np.eye(3))
    assert not found["p"]["b"].any()
    assert found["p"]["b"].shape == (3, 2)
    assert found["q"]["b"].tolist() == [1.0, 1.0]


def test_hessian_of_a_quadratic_and_of_two_arguments() -> None:
    matrix = np.array([[2.0, 1.0, 0.0], [1.0, 3.0, -1.0], [0.0, -1.0, 4.0]])
    np.testing.assert_allclose(tk.hessian(lambda x: x @ matrix @ x / 2)(X), matrix)
    blocks = tk.hessian(lambda a, b: (a * a * b).sum(), (0, 1))(X, X + 1)
    np.testing.assert_allclose(blocks[0][0], np.diag(2 * (X + 1)))
    np.testing.assert_allclose(blocks[0][1], np.diag(2 * X))
    np.testing.assert_allclose(blocks[1][0], np.diag(2 * X))
    assert not blocks[1][1].any()
    tree = tk.hessian(lambda p: (p["a"] ** 2 * p["b"]).sum())({"a": X, "b": X})
    np.testing.assert_allclose(tree["a"]["b"], np.diag(2 * X))


def test_second_derivatives_of_a_net_on_plain_arrays() -> None:
    """The data are an array, as a user has them: their product with a weight is of both kinds."""
    data = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.25]])
    weight = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])
    f: Any = lambda w: np.sum((data @ w) ** 2)  # noqa: E731
    (found,) = tk.hvp(f, (weight,), (np.ones((2, 3)),))
    np.testing.assert_allclose(found, 2 * data.T @ data @ np.ones((2, 3)))
    check_grads(lambda w: np.tanh(np.dot(data, w)), (weight,), order=2)
    check_grads(lambda w: np.tanh(w @ weight), (data,), order=2)


def test_hvp_is_the_hessian_times_a_vector() -> None:
    def f(x: Any) -> Any:
        return np.sin(x).prod() + (x**4).sum()

    v = np.array([1.0, -2.0, 0.5])
    (found,) = tk.hvp(f, (X,), (v,))
    np.testing.assert_allclose(found, tk.hessian(f)(X) @ v)
    a, b = tk.hvp(mixed, (X, X + 1), (v, v))
    blocks = tk.hessian(mixed, (0, 1))(X, X + 1)
    np.testing.assert_allclose(a, (blocks[0][0] + blocks[0][1]) @ v)
    np.testing.assert_allclose(b, (blocks[1][0] + blocks[1][1]) @ v)
    with pytest.raises(TypeError, match=r"and a tuple of tangents, got ndarray and ndarray\."):
        tk.hvp(f, X, v)  # type: ignore[arg-type]


def test_third_derivatives() -> None:
    third = tk.jacobian(tk.hessian(cubes))(X)
    expected = np.zeros((3, 3, 3))
    for i in range(3):
        expected[i, i, i] = 6
    np.testing.assert_allclose(third, expected)


@pytest.mark.parametrize(
    ("outer", "inner"), list(itertools.product([tk.grad, tk.jacobian], [tk.grad, tk.jacobian]))
)
def test_transformations_nest_in_any_order(outer: Any, inner: Any) -> None:
    found = outer(lambda x: inner(cubes)(x).sum())(X)
    np.testing.assert_allclose(found, 6 * X)


def test_forward_over_reverse_and_reverse_over_forward() -> None:
    v = np.array([1.0, -2.0, 0.5])
    _, forward = tk.jvp(tk.grad(cubes), (X,), (v,))
    np.testing.assert_allclose(forward, 6 * X * v)
    reverse = tk.grad(lambda x: tk.jvp(cubes, (x,), (v,))[1])(X)
    np.testing.assert_allclose(reverse, 6 * X * v)
    twice = tk.jvp(lambda x: tk.jvp(cubes, (x,), (v,))[1], (X,), (v,))[1]
    np.testing.assert_allclose(twice, (6 * X * v * v).sum())


def test_derivative_along_a_tangent_with_respect_to_the_tangent() -> None:
    found = tk.grad(lambda v: tk.jvp(cubes, (X,), (v,))[1])(X)
    np.testing.assert_allclose(found, 3 * X**2)
    found = tk.grad(lambda v: tk.vjp(linear_map, X)[1](v)[0].sum())(np.ones(2))
    np.testing.assert_allclose(found, tk.jacobian(linear_map)(X).sum(axis=1))


# ------------------------------------------------------------------ checkpoint


def block(x: Any, w: Any) -> Any:
    return np.tanh(x @ w) * x.sum()


def gradients_of(f: Callable[..., Any], *shapes: tuple[int, ...]) -> list[ndarray]:
    random = np.random.default_rng(0)
    leaves = [Tensor(random.standard_normal(s), requires_grad=True) for s in shapes]
    f(*leaves).sum().backward()
    return [grad_of(x) for x in leaves]


def same_gradients(f: Callable[..., Any], g: Callable[..., Any], *shapes: tuple[int, ...]) -> None:
    for a, b in zip(gradients_of(f, *shapes), gradients_of(g, *shapes), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


def test_checkpoint_gives_the_same_value_and_gradient() -> None:
    same_gradients(block, lambda x, w: tk.checkpoint(block, x, w), (2, 3), (3, 3))


def test_checkpoint_runs_again_in_backward_and_keeps_nothing() -> None:
    calls = []

    def f(x: Any) -> Any:
        calls.append(1)
        return np.exp(np.sin(x))

    x = leaf(*X)
    y = tk.checkpoint(f, x)
    assert len(calls) == 1
    y.sum().backward()
    assert len(calls) == 2


def test_checkpoint_replays_the_generator() -> None:
    def noisy(x: Any) -> Any:
        return x * tk.rand(3, dtype=np.float64)

    tk.manual_seed(1)
    plain = leaf(*X)
    noisy(plain).sum().backward()
    after = tk.rand(2).tolist()
    tk.manual_seed(1)
    x = leaf(*X)
    y = tk.checkpoint(noisy, x)
    assert tk.rand(2).tolist() == after
    state = tk.default_generator().bit_generator.state
    y.sum().backward()
    assert tk.default_generator().bit_generator.state == state
    np.testing.assert_array_equal(grad_of(x), grad_of(plain))


def test_checkpoint_reaches_parameters_in_the_closure() -> None:
    w = leaf(0.3, 0.2, 0.1)
    ways: list[Any] = [
        lambda x: np.tanh(w * x),
        lambda x: tk.checkpoint(lambda x: np.tanh(w * x), x),
    ]
    for f in ways:
        f(leaf(*X)).sum().backward()
    half = grad_of(w) / 2
    np.testing.assert_allclose(half, X * (1 - np.tanh(w.data * X) ** 2))
    w.grad = None
    tk.checkpoint(lambda: np.tanh(w * X)).sum().backward()
    np.testing.assert_allclose(grad_of(w), half)


def test_checkpoint_reaches_computed_tensors_in_the_closure() -> None:
    def total(use: Callable[..., Any]) -> tuple[ndarray, ndarray]:
        w, x = leaf(3.0), leaf(2.0)
        h = w * w
        y = use(lambda a: a * h * w, x) + h + use(lambda a: h, x)
        y.sum().backward()
        return grad_of(w), grad_of(x)

    expected = total(lambda f, x: f(x))
    for a, b in zip(total(tk.checkpoint), expected, strict=True):
        np.testing.assert_allclose(a, b)


def test_checkpoint_double_backward() -> None:
    w = np.array([0.3, 0.2, 0.1])

    def f(x: Any, w: Any) -> Any:
        return tk.checkpoint(lambda x: np.tanh(w * x) * x, x)

    check_grads(f, (X, w), order=3, fast=True)
    check_grads(lambda x: tk.checkpoint(np.exp, tk.checkpoint(np.sin, x)), X, order=2)


def test_checkpoint_with_several_results_and_containers() -> None:
    def f(tree: Any) -> Any:
        return {"a": tree["x"] * 2, "b": (tree["x"].sum(), tree["y"] ** 2)}

    def through(x: Any, y: Any) -> Any:
        found = tk.checkpoint(f, {"x": x, "y": y})
        return found["a"].sum() + found["b"][0] * found["b"][1].sum()

    def plain(x: Any, y: Any) -> Any:
        found = f({"x": x, "y": y})
        return found["a"].sum() + found["b"][0] * found["b"][1].sum()

    same_gradients(plain, through, (3,), (2, 2))


def test_checkpoint_of_one_result_used_only_in_part() -> None:
    def f(x: Any) -> Any:
        return np.exp(x), np.sin(x)

    same_gradients(lambda x: f(x)[1], lambda x: tk.checkpoint(f, x)[1], (3,))


def test_checkpoint_nests() -> None:
    def inner(x: Any) -> Any:
        return np.sin(x) * x

    same_gradients(
        lambda x: np.exp(inner(x)),
        lambda x: tk.checkpoint(lambda x: np.exp(tk.checkpoint(inner, x)), x),
        (3,),
    )


def test_checkpoint_of_nothing_to_differentiate() -> None:
    y = tk.checkpoint(np.exp, Tensor(X))
    assert not y.requires_grad
    np.testing.assert_allclose(y.data, np.exp(X))
    with tk.no_grad():
        assert not tk.checkpoint(np.exp, leaf(*X)).requires_grad
    assert tk.checkpoint(lambda x: x, leaf(*X)).requires_grad
    same_gradients(lambda x: x * 1, lambda x: tk.checkpoint(lambda x: x, x), (3,))


def test_checkpoint_passes_integers_and_keywords_on() -> None:
    def f(x: Any, rows: Any, *, scale: float) -> Any:
        return x[rows] * scale

    rows = Tensor([0, 0, 2])
    same_gradients(
        lambda x: f(x, rows, scale=3.0), lambda x: tk.checkpoint(f, x, rows, scale=3.0), (3,)
    )


def test_checkpoint_with_a_broadcast_input() -> None:
    same_gradients(
        lambda x, b: np.exp(x + b),
        lambda x, b: tk.checkpoint(lambda x, b: np.exp(x + b), x, b),
        (2, 3),
        (3,),
    )


def test_checkpoint_in_float32_stays_float32() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = tk.checkpoint(lambda x: np.tanh(x) * 2.0, x)
    assert y.dtype == np.float32
    y.sum().backward()
    assert grad_of(x).dtype == np.float32


def test_checkpoint_keeps_the_kind_of_every_result() -> None:
    x = Tensor(np.array([1.0, 3.0]), requires_grad=True)
    a, index, b, number, none = tk.checkpoint(
        lambda x: (x * 2, x.argmax(), x.astype(np.float32) * x.dtype.itemsize, 3.0, None), x
    )
    assert [t.dtype for t in (a, index, b)] == [np.float64, np.int64, np.float32]
    assert (index.item(), index.requires_grad, number, none) == (1, False, 3.0, None)
    (a.sum() + b.sum()).backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.data, [10.0, 10.0])


@pytest.mark.parametrize("argnums", [(0, 0), (0, -2)])
def test_argnums_twice(argnums: Any) -> None:
    with pytest.raises(ValueError, match=r"grad: expected each of argnums once, got \(0,"):
        tk.grad(lambda x, y: x * y, argnums)(2.0, 3.0)


def test_set_grad_enabled_takes_effect_at_once_or_for_a_while() -> None:
    x = leaf(1.0)
    tk.set_grad_enabled(False)
    assert not tk.is_grad_enabled()
    tk.set_grad_enabled(True)
    assert (x * 2).requires_grad
    with tk.set_grad_enabled(False) as nothing:
        assert nothing is None and not (x * 2).requires_grad
    assert tk.is_grad_enabled()

    @tk.set_grad_enabled(False)
    def twice() -> Tensor:
        return x * 2

    assert tk.is_grad_enabled()
    assert not twice().requires_grad and not twice().requires_grad
    assert tk.is_grad_enabled()
