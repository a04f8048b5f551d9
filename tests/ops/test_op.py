"""`op`: one expression makes a differentiable function, as good as the engine's own."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy import ndarray
from package_modules import package_modules

import tinygrad_kr as tk
from tinygrad_kr import Tensor, op
from tinygrad_kr import functional as F
from tinygrad_kr.ops.node import source_line_of
from tinygrad_kr.ops.op import common_dtype, numpy_table
from tinygrad_kr.testing import check_grads

X = np.array([0.5, -1.5, 2.0])


def leaf(*values: float, dtype: Any = np.float64) -> Tensor:
    return Tensor(np.array(values, dtype), requires_grad=True)


def grad_of(x: Tensor) -> ndarray:
    assert x.grad is not None
    return x.grad.data


# ------------------------------------------------------------------ one expression

cube = op(lambda x: x**3, lambda g, y, x: g * 3 * x**2, name="cube")
fused = op(
    lambda x, w, b: np.tanh(x @ w + b),
    lambda g, y, x, w, b: (g * (1 - y * y)) @ w.mT,
    lambda g, y, x, w, b: x.mT @ (g * (1 - y * y)),
    lambda g, y, x, w, b: g * (1 - y * y),
    name="fused",
)
power_of = op(lambda x, *, n: x**n, lambda g, y, x, n: g * n * x ** (n - 1), name="power_of")
summed = op(
    lambda *parts, scale=1.0: scale * sum(parts),
    lambda g, y, *parts, index, scale=1.0: scale * (index + 1) * g / (index + 1),
    name="summed",
    variadic=True,
)


def test_one_expression_makes_an_op_of_every_order() -> None:
    check_grads(cube, X, order=4)
    random = np.random.default_rng(0)
    check_grads(
        fused, tuple(random.standard_normal(s) for s in ((4, 3), (3, 2), (2,))), order=3, fast=True
    )


def test_bias_is_unbroadcast_by_the_walker_and_not_by_the_rule() -> None:
    x, w, b = Tensor(np.ones((4, 3))), Tensor(np.ones((3, 2))), leaf(0.1, 0.2)
    fused(x, w, b).sum().backward()
    assert grad_of(b).shape == (2,)


def test_parameters_are_passed_by_keyword() -> None:
    check_grads(lambda x: power_of(x, n=3), X, order=3)


def test_parameters_hold_no_gradient_and_say_so() -> None:
    scaled = op(lambda x, *, s: x * s, lambda g, y, x, s: g * s, name="scaled")
    with pytest.raises((RuntimeError, TypeError)):
        scaled(leaf(1.0), s=leaf(2.0))


def test_variadic() -> None:
    check_grads(lambda a, b, c: summed(a, b, c, scale=2.0), (X, X + 1, X * 2), order=2)
    a, b = leaf(1.0), leaf(1.0)
    summed(a, Tensor(np.ones(1)), b).sum().backward()
    assert grad_of(a).tolist() == grad_of(b).tolist() == [1.0]


def test_joint_computes_all_cotangents_in_one_call() -> None:
    calls: list[tuple[bool, ...]] = []

    def both(g: Any, y: Any, a: Any, b: Any, needs: tuple[bool, ...]) -> list[Any]:
        calls.append(needs)
        return [g * b if needs[0] else None, g * a if needs[1] else None]

    product = op(lambda a, b: a * b, both, name="product", one_rule_for_all=True)
    check_grads(product, (X, X + 1), order=3)
    calls.clear()
    a, b, c = leaf(2.0), leaf(3.0), Tensor(np.array([5.0]))
    product(a, b).sum().backward()
    product(a, c).sum().backward()
    product(c, b).sum().backward()
    tk.autograd.grad(product(a, b).sum(), b)
    assert calls == [(True, True), (True, False), (False, True), (False, True)]
    assert grad_of(a).tolist() == [8.0]
    assert grad_of(b).tolist() == [7.0]


def test_joint_may_give_none_for_zero() -> None:
    lazy = op(lambda a, b: a + 0 * b, lambda g, y, a, b, needs: [g, None], one_rule_for_all=True)
    a, b = leaf(2.0), leaf(3.0)
    lazy(a, b).sum().backward()
    assert grad_of(a).tolist() == [1.0]
    assert grad_of(b).tolist() == [0.0]


@pytest.mark.parametrize("shape", [(2, 3), (3,), (4, 2, 3)])
@pytest.mark.parametrize("product", ["matmul", "linear"])
def test_a_cotangent_may_be_an_array_where_the_backward_is_recorded(
    product: str, shape: tuple[int, ...]
) -> None:
    """The rule of `total` gives an array, from which the rules of products go on with Tensors."""
    total = op(lambda x: x.sum(), lambda g, y, x: np.ones(x.shape), name="total")
    a, w = leaf(*np.arange(float(np.prod(shape)))).reshape(*shape), leaf(*range(6)).reshape(2, 3)
    y = a @ w.T if product == "matmul" else F.linear(a, w)
    by_a, by_w = tk.autograd.grad(total(y), (a, w), create_graph=True)
    assert np.array_equal(by_a.data, np.broadcast_to(w.data.sum(0), shape))
    assert np.array_equal(by_w.data, np.tile(a.data.reshape(-1, 3).sum(0), (2, 1)))
    (mixed,) = tk.autograd.grad(by_a.sum(), w)
    assert np.array_equal(mixed.data, np.full((2, 3), a.size / 3))


def test_without_rules_the_result_is_detached() -> None:
    halves = op(lambda x: np.floor(x * 2), name="halves")
    y = halves(leaf(0.3, 0.8))
    assert not y.requires_grad
    assert y.is_leaf
    assert y.tolist() == [0.0, 1.0]


def test_a_rule_of_none_stops_the_gradient() -> None:
    gate: Any = op(np.multiply.outer, None, lambda g, y, a, b: g.T @ a, name="gate")  # type: ignore[arg-type]
    a, b = leaf(1.0, 2.0), leaf(3.0)
    gate(a, b).sum().backward()
    assert a.grad is None
    assert grad_of(b).tolist() == [3.0]
    y = gate(a, b)
    leaf(1.0).detach().zero_()  # something was written: the walk is careful now
    y.sum().backward()
    assert a.grad is None
    assert grad_of(b).tolist() == [6.0]


def test_rules_run_only_where_a_gradient_is_needed() -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("this rule is not needed")

    a, b = Tensor(X), Tensor(X, requires_grad=True)
    op(lambda a, b: a * b, never, lambda g, y, a, b: g * a)(a, b).sum().backward()
    c = Tensor(X, requires_grad=True)
    y = op(lambda a, b: a * b, never, lambda g, y, a, b: g * a)(c, b)
    tk.autograd.grad(y.sum(), b)


# ------------------------------------------------------------------ arrays, Tensors, both


def test_without_a_tensor_it_runs_raw() -> None:
    assert type(cube(X)) is ndarray
    assert cube(2.0) == 8.0
    assert type(cube(np.float64(2.0))) is np.float64
    assert type(fused(np.ones((4, 3)), np.ones((3, 2)), np.ones(2))) is ndarray


def test_numbers_lists_and_arrays_beside_a_tensor() -> None:
    add3 = op(
        lambda a, b, c: a + b + c,
        lambda g, y, *_: g,
        lambda g, y, *_: g,
        lambda g, y, *_: g,
        name="add3",
    )
    x = leaf(1.0, 2.0)
    for other in (1, 1.0, True, np.float32(1), np.ones(2), np.ones(2, int), [1.0, 1.0], (1, 1)):
        y = add3(other, x, other)
        assert isinstance(y, Tensor)
        assert y.dtype == np.float64
        y.sum().backward()
    assert grad_of(x).tolist() == [8.0, 8.0]


def test_results_that_are_numpy_scalars_become_0_d() -> None:
    total = op(lambda x: x.sum(), lambda g, y, x: g, name="total")
    y = total(leaf(1.0, 2.0))
    assert type(y.data) is ndarray
    assert y.shape == ()
    check_grads(total, X, order=2)


def test_a_constant_rule_may_be_a_number() -> None:
    triple = op(lambda x: 3 * x, lambda g, y, x: 3.0, name="triple")
    x = leaf(1.0, 2.0)
    triple(x).backward(np.ones(2))
    assert grad_of(x).tolist() == [3.0, 3.0]


# ------------------------------------------------------------------ dtypes


def test_a_forward_that_widens_is_cast_back() -> None:
    wide = op(lambda x: x.astype(np.float64) * 2, lambda g, y, x: 2 * g, name="wide")
    x = leaf(1.0, dtype=np.float32)
    y = wide(x)
    assert y.dtype == np.float32
    y.sum().backward()
    assert grad_of(x).dtype == np.float32


def test_promote_false_keeps_what_forward_gives() -> None:
    wide = op(lambda x: x.astype(np.float64), lambda g, y, x: g, promote=False, name="wide")
    x = leaf(1.0, dtype=np.float32)
    y = wide(x)
    assert y.dtype == np.float64
    y.sum().backward()
    assert grad_of(x).dtype == np.float32


def test_an_integer_result_is_detached() -> None:
    rounded = op(lambda x: x.astype(int), lambda g, y, x: g, name="rounded")
    assert not rounded(leaf(1.5)).requires_grad
    kept = op(lambda x: x.astype(int), lambda g, y, x: g, name="kept", promote=False)
    assert not kept(leaf(1.5)).requires_grad


def test_a_complex_result_is_refused() -> None:
    rotated = op(lambda x: x * 1j, lambda g, y, x: g, name="rotated")
    with pytest.raises(TypeError, match=r"rotated.*got a result of complex128"):
        rotated(leaf(1.5))


def test_common_dtype() -> None:
    f32, f64 = np.ones(2, np.float32), np.ones(2)
    assert common_dtype([f32, f64]) == np.float64
    assert common_dtype([f32, np.float64(1), 1.0, np.array(1.0)]) == np.float32
    assert common_dtype([Tensor(f32), Tensor(np.float64(1))]) == np.float32
    assert common_dtype([Tensor(np.float64(1)), 1]) == np.float64
    assert common_dtype([np.ones(2, int), 1.0]) == np.float32
    assert common_dtype([]) == np.float32


# ------------------------------------------------------------------ names, places, errors


def test_name_doc_and_place() -> None:
    def _curve(x: ndarray) -> ndarray:
        """What it draws."""
        return np.asarray(x * x)

    curve = op(_curve, lambda g, y, x: 2 * g * x)
    assert curve.__name__ == "curve"
    assert curve.__doc__ == "What it draws."
    y = curve(leaf(1.0))
    line = inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]
    assert source_line_of(y).startswith(f"{__file__}:{line} (in test_name_doc_and_place)")
    assert "op=curve" in repr(y)


def test_the_place_is_the_users_line_also_through_our_functions() -> None:
    y = np.linalg.norm(leaf(3.0, 4.0))
    assert isinstance(y, Tensor)
    assert source_line_of(y).startswith(__file__)
    tk.grad(lambda x: _check_place(x * 2).sum())(np.ones(2))


def test_the_place_of_a_layers_op_is_the_layer_and_in_anomaly_mode_the_users_line() -> None:
    net = tk.nn.Sequential(tk.nn.Linear(2, 3))
    place = source_line_of(net(leaf(3.0, 4.0).float()))
    assert "linear.py" in place
    assert "detect_anomaly" in place
    with tk.detect_anomaly():
        assert source_line_of(net(leaf(3.0, 4.0).float())).startswith(__file__)


def _check_place(y: Any) -> Any:
    assert "in <lambda>" in source_line_of(y)
    return y


def test_errors_of_forward_keep_their_kind_and_name_the_op() -> None:
    def fails(x: ndarray, *, how: Any) -> ndarray:
        raise how("no")

    broken = op(fails, lambda g, y, x, how: g, name="broken")
    for how in (ValueError, TypeError, IndexError, np.linalg.LinAlgError, MemoryError):
        with pytest.raises(how, match=r"broken\(float64\(1,\), how=.*\): no"):
            broken(leaf(1.0), how=how)
    with pytest.raises(ZeroDivisionError) as caught:
        broken(leaf(1.0), how=ZeroDivisionError)
    assert any("in broken(float64(1,)" in note for note in caught.value.__notes__)
    with pytest.raises(ValueError, match="no"):
        broken(X, how=ValueError)


def test_what_cannot_be_computed_with_is_named() -> None:
    for wrong in ("text", None, {1}, object(), 1j):
        with pytest.raises(TypeError, match=r"add\(float64\(1,\)"):
            leaf(1.0) + wrong


# ------------------------------------------------------------------ NumPy's names


@pytest.mark.usefixtures("own_numpy_table")
def test_an_op_on_a_ufunc_serves_numpys_name() -> None:
    mine = op(np.spacing, lambda g, y, x: 0 * g)
    assert numpy_table[np.spacing] is mine
    x = leaf(1.0)
    y: Any = np.spacing(x)
    assert isinstance(y, Tensor)
    y.sum().backward()
    assert grad_of(x).tolist() == [0.0]


@pytest.mark.usefixtures("own_numpy_table")
def test_an_op_may_serve_further_numpy_functions() -> None:
    op(lambda x: np.i0(x), lambda g, y, x: g, name="bessel", numpy=[np.i0])
    y: Any = np.i0(leaf(0.5))
    assert isinstance(y, Tensor)
    assert y.requires_grad


def test_an_op_of_ones_own_function_serves_no_numpy_name() -> None:
    before = dict(numpy_table)
    op(lambda x: x, lambda g, y, x: g)
    assert numpy_table == before


def test_ops_nest_in_forward_and_in_rules() -> None:
    sixth = op(lambda x: cube(x) ** 2, lambda g, y, x: g * 2 * cube(x) * 3 * x**2, name="sixth")
    check_grads(sixth, X, order=3)


def test_where_takes_three_inputs_alone() -> None:
    """NumPy's function gives positions for one: as many as there are elements that are true."""
    for given in ((), (1.0,)):
        with pytest.raises(TypeError, match=r"where\(.*a condition, a and b, got .*tk\.nonzero"):
            tk.where(tk.tensor([True, False]), *given)


# ------------------------------------------------------------------ pickle, help and signatures


def ops_of_the_package() -> Iterator[tuple[str, Any]]:
    for module in package_modules():
        name = module.__name__
        if not hasattr(module, "__path__") and not name.endswith(".grads"):
            for attribute, value in vars(module).items():
                if inspect.isfunction(value) and hasattr(value, "rules"):
                    yield f"{name}.{attribute}", value


def test_every_op_of_the_package_is_pickled_as_the_variable_that_holds_it() -> None:
    found = dict(ops_of_the_package())
    assert len(found) > 150
    lost = [name for name, value in found.items() if pickle.loads(pickle.dumps(value)) is not value]
    assert not lost


@pytest.mark.parametrize("made", [cube, power_of, summed, tk.relu, tk.matmul])
def test_an_op_is_pickled_and_copied_by_name(made: Any) -> None:
    assert pickle.loads(pickle.dumps(made)) is made
    assert copy.copy(made) is copy.deepcopy(made) is made
    assert pickle.loads(pickle.dumps(tk.nn.Sequential(Holder(made))))[0].function is made


class Holder(tk.nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function


_hidden = op(lambda x: 2 * x, lambda g, y, x: 2 * g, name="shown", variable="_hidden")


def test_the_variable_of_an_op_may_have_another_name() -> None:
    assert pickle.loads(pickle.dumps(_hidden)) is _hidden
    assert repr(_hidden(leaf(1.0))) == "Tensor([2.], dtype=float64, op=shown)"
    nameless = op(lambda x: 2 * x, lambda g, y, x: 2 * g)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(nameless)


@pytest.mark.parametrize(
    ("made", "signature"),
    [
        (tk.exp, "(x)"),
        (tk.relu, "(x)"),
        (tk.multiply, "(a, b)"),
        (tk.power, "(a, b)"),
        (tk.matmul, "(a, b)"),
        (tk.where, "(condition, a, b)"),
        (tk.round, "(x, decimals=0)"),
        (cube, "(x)"),
        (fused, "(x, w, b)"),
        (power_of, "(x, *, n)"),
        (summed, "(*parts, scale=1.0)"),
    ],
)
def test_an_op_shows_the_signature_of_its_inputs(made: Any, signature: str) -> None:
    assert str(inspect.signature(made)) == signature


def test_an_op_has_the_docstring_of_its_function_but_never_numpys() -> None:
    def _tripled(x: ndarray) -> Any:
        """3 x."""
        return 3 * x

    assert op(_tripled, lambda g, y, x: 3 * g).__doc__ == "3 x."
    assert op(_tripled, lambda g, y, x: 3 * g, doc="Another.").__doc__ == "Another."
    assert all(made.__doc__ != np.exp.__doc__ for made in (tk.exp, Tensor.exp))
    assert "__wrapped__" in vars(tk.exp) and tk.exp.__module__ == "tinygrad_kr.ops.elementwise"


def test_a_ufunc_of_one_input_writes_into_no_second_one() -> None:
    x, y = Tensor([-1.0, -2.0]), Tensor([5.0, 6.0])
    with pytest.raises(TypeError, match=r"^abs\(.*\): expected 1 input, got 2"):
        tk.abs(x, y)
    assert y.tolist() == [5.0, 6.0]
