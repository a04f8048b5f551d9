"""Traps of shapes, dtypes and layouts (TRAPS.md, "Shapes, dtypes, layout"): one section a row.

Strides: every op at every layout is in test_ops.py. Losses, convolution and module paths are with
their functions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy import ndarray

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.testing import arrays, axes, broadcastable_shapes, check_grads, indices, shapes

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def leaf(array: Any, dtype: Any = None) -> Tensor:
    return Tensor(np.asarray(array, dtype), requires_grad=True)


def grad_of(x: Tensor) -> ndarray:
    assert x.grad is not None
    return x.grad.data


# ------------------------------------------------------------------ broadcasting

BINARY: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / (b * b + 1),
    lambda a, b: np.maximum(a, b),
    lambda a, b: np.arctan2(a, b * b + 1),
    lambda a, b: np.where(np.ones((1, 1), bool), a, b),
]


@given(st.data())
def test_broadcasting_keeps_the_gradients_shape(data: st.DataObject) -> None:
    f = data.draw(st.sampled_from(BINARY))
    first, second = data.draw(broadcastable_shapes())
    a, b = leaf(data.draw(arrays(first))), leaf(data.draw(arrays(second)))
    f(a, b).sum().backward()
    assert grad_of(a).shape == first
    assert grad_of(b).shape == second


@given(st.data())
def test_broadcasting_gives_the_right_gradient(data: st.DataObject) -> None:
    """The gradient of a broadcast operand is that of a copy, summed where it was repeated."""
    first, second = data.draw(broadcastable_shapes())
    a, b = leaf(data.draw(arrays(first))), leaf(data.draw(arrays(second)))
    y = a * b
    g = data.draw(arrays(y.shape))
    y.backward(g)
    for x, other in ((a, b), (b, a)):
        full = g * np.broadcast_to(other.data, y.shape)
        extra = y.ndim - x.ndim
        over = tuple(range(extra)) + tuple(
            i + extra for i, n in enumerate(x.shape) if n == 1 and y.shape[i + extra] != 1
        )
        np.testing.assert_allclose(grad_of(x), full.sum(axis=over).reshape(x.shape), atol=1e-12)


def test_broadcasting_0_d_stays_0_d() -> None:
    a, b = leaf(2.0), leaf(np.ones((3, 1)))
    y = a * b
    assert y.shape == (3, 1)
    y.sum().backward()
    assert grad_of(a).shape == ()
    assert type(grad_of(a)) is ndarray
    c = leaf(2.0)
    (c * 3.0 + np.float64(1)).backward()
    assert type(grad_of(c)) is ndarray
    assert grad_of(c).shape == ()
    assert type((c * 2).data) is ndarray
    assert type(c.sum().data) is ndarray
    assert type(leaf(np.ones(3))[1].data) is ndarray


def test_broadcasting_under_create_graph() -> None:
    check_grads(lambda a, b: np.exp(a * b) + a, (np.array([[0.5], [0.2]]), np.array(0.3)), order=3)


# ------------------------------------------------------------------ dtype drift

SCALARS: list[Any] = [
    2,
    2.0,
    True,
    np.float64(2),
    np.float32(2),
    np.int64(2),
    np.array(2.0),
    np.array(2),
    Tensor(np.float64(2)),
    Tensor(2),
    Tensor(True),
]

OPERATORS: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / b,
    lambda a, b: a**b,
    lambda a, b: a % b,
    lambda a, b: a // b,
    np.maximum,
    np.minimum,
    np.arctan2,
    np.hypot,
    np.logaddexp,
    lambda a, b: np.where(True, a, b),
]


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda s: f"{type(s).__name__}-{s!r}")
@pytest.mark.parametrize("dtype", [F32, F64])
def test_dtype_is_not_widened_by_a_scalar(scalar: Any, dtype: Any) -> None:
    for number, f in enumerate(OPERATORS):
        for flip in (False, True):
            x = leaf(np.full((2, 2), 1.5), dtype)
            y = f(scalar, x) if flip else f(x, scalar)
            assert isinstance(y, Tensor), (number, flip)
            assert y.dtype == dtype, (number, flip)
            if y.requires_grad:
                y.sum().backward()
                assert grad_of(x).dtype == dtype, (number, flip)


NUMBERS = {
    "bool": (np.array([True, False]), 0),
    "int64": (np.array([1, 2]), 1),
    "float32": (np.array([1.0, 2.0], np.float32), 2),
    "float64": (np.array([1.0, 2.0]), 3),
}


@pytest.mark.parametrize(("a", "b"), list(itertools.product(NUMBERS, NUMBERS)))
def test_dtype_of_two_arrays_is_pytorchs(a: str, b: str) -> None:
    wider = max(a, b, key=lambda name: NUMBERS[name][1])
    x, y = Tensor(NUMBERS[a][0]), Tensor(NUMBERS[b][0])
    assert (x + y).dtype == wider
    assert (x * NUMBERS[b][0]).dtype == wider
    assert (NUMBERS[a][0] * y).dtype == wider
    assert (x / (y + 1)).dtype == (wider if "float" in wider else "float32")
    assert (x < y).dtype == bool
    assert (NUMBERS[a][0] / (y + 1)).dtype == (wider if "float" in wider else "float32")
    assert np.where(np.array([True, False]), x, y).dtype == wider


def test_dtype_of_functions_of_integers_is_float32() -> None:
    x = Tensor([1, 2, 3])
    for f in (tk.exp, tk.sqrt, tk.sin, tk.tanh, tk.mean, tk.log):
        assert f(x).dtype == F32
    assert x.sigmoid().dtype == x.mean().dtype == x.std().dtype == F32
    assert x.sum().dtype == x.cumsum().dtype == np.int64
    assert Tensor([True, False]).sum().dtype == np.int64


def test_dtype_of_a_gradient_is_that_of_its_leaf_across_casts() -> None:
    x, w = leaf(np.ones(3), F32), leaf(np.ones(3), F64)
    y = (x.double() * w).sum()
    assert y.dtype == F64
    y.backward()
    assert grad_of(x).dtype == F32
    assert grad_of(w).dtype == F64
    half = leaf(np.ones(3), np.float16)
    (half * 2).sum().backward()
    assert grad_of(half).dtype == np.float16


@pytest.mark.parametrize("dtype", [F32, F64])
def test_dtype_through_a_whole_network_and_back_twice(dtype: Any) -> None:
    x, w = leaf(np.ones((2, 3)), dtype), leaf(np.ones((3, 2)), dtype)
    y = (np.tanh(x @ w) ** 2 / 3 + 0.5).sum() * np.float64(1.5)
    (dw,) = tk.autograd.grad(y, w, create_graph=True)
    (ddw,) = tk.autograd.grad((dw * dw).sum(), w)
    assert y.dtype == dw.dtype == ddw.dtype == dtype
    for derivative in (tk.grad, tk.hessian):
        assert derivative(lambda a: (np.exp(a) * 2.0).sum())(w.data).dtype == dtype


def test_dtype_of_python_numbers_and_lists() -> None:
    assert Tensor(1.0).dtype == Tensor([1.0]).dtype == Tensor([[1, 2.5]]).dtype == F32
    assert Tensor(1).dtype == Tensor([1]).dtype == np.int64
    assert Tensor(True).dtype == Tensor([True]).dtype == bool
    assert Tensor(np.float64(1)).dtype == Tensor(np.ones(2)).dtype == F64
    assert Tensor([1, 2], dtype=np.float64).dtype == F64
    assert np.add(leaf([1.0], F32), [1.0]).dtype == F32


# ------------------------------------------------------------------ NumPy on the left


@pytest.mark.parametrize(
    "left", [np.ones((2, 3)), np.float64(2), np.int64(2), np.array(2.0), np.ones(3, np.float32)]
)
def test_numpy_on_the_left_reaches_us(left: Any) -> None:
    x = leaf(np.full((2, 3), 2.0))
    for f in OPERATORS:
        y = f(left, x)
        assert isinstance(y, Tensor)
        assert y.shape == (2, 3)
        np.testing.assert_allclose(y.data, f(left, x.data))
    (left * x).sum().backward()
    np.testing.assert_allclose(grad_of(x), np.broadcast_to(left, (2, 3)))
    for compare in (np.less, np.equal, lambda a, b: a >= b, lambda a, b: a == b):
        y = compare(left, x)
        assert isinstance(y, Tensor)
        assert y.dtype == bool


def test_numpy_on_the_left_of_a_matrix_product() -> None:
    x = leaf(np.ones((3, 2)))
    y = np.ones((4, 3)) @ x
    assert isinstance(y, Tensor)
    y.sum().backward()
    np.testing.assert_array_equal(grad_of(x), np.full((3, 2), 4.0))


def test_numpy_in_place_on_the_left_explains_itself() -> None:
    x: Any = leaf(np.ones(3))
    a = np.ones(3)
    with pytest.raises(TypeError, match=r"an ndarray has no history.*detach"):
        a += x
    with pytest.raises(TypeError, match=r"an ndarray has no history.*detach"):
        np.add(a, a, out=x)
    with pytest.raises(TypeError, match="out="):
        np.sum(x, out=a)


# ------------------------------------------------------------------ integer or bool requires_grad


@pytest.mark.parametrize("data", [1, [1, 2], True, np.arange(3), np.array([True])])
def test_integer_requires_grad_raises_on_every_path(data: Any) -> None:
    ways: list[Callable[[], Any]] = [
        lambda: Tensor(data, requires_grad=True),
        lambda: tk.tensor(data, requires_grad=True),
        lambda: Tensor(data).requires_grad_(),
        lambda: setattr(Tensor(data), "requires_grad", True),
        lambda: Tensor(np.asarray(data, float), dtype=np.asarray(data).dtype, requires_grad=True),
        lambda: tk.zeros(2, dtype=np.asarray(data).dtype, requires_grad=True),
        lambda: tk.zeros_like(Tensor(data), requires_grad=True),
        lambda: tk.full((2,), data if np.ndim(data) == 0 else 1, requires_grad=True),
        lambda: setattr(leaf(np.ones(2)), "data", data),
    ]
    for way in ways:
        with pytest.raises(TypeError, match="expected floats"):
            way()
    with pytest.raises(TypeError, match="expected floats to differentiate with respect to, got"):
        tk.grad(lambda x: (x * 1.0).sum())(data)
    with pytest.raises(TypeError, match="expected floats to differentiate with respect to, got"):
        tk.jvp(lambda x: x * 1.0, (data,), (data,))


def test_integer_results_never_require_grad() -> None:
    x = leaf(np.array([1.5, 2.5]))
    results: list[Any] = [
        x > 1,
        x.argmax(),
        x.long(),
        x.floor(),
        x.sign(),
        x // 1,
        np.isnan(x),
        x.round(),
    ]
    for y in results:
        assert not y.requires_grad
    y = x * x.long() + x[x > 2].sum()
    y.sum().backward()
    assert grad_of(x).tolist() == [1.0, 4.0]  # the sum is added to both elements


# ------------------------------------------------------------------ matmul

MATMUL_SHAPES: list[tuple[int, ...]] = [
    (3,),
    (3, 3),
    (2, 3, 3),
    (1, 3, 3),
    (2, 1, 3, 3),
    (4, 2, 3, 3),
]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pair
        for pair in itertools.product(MATMUL_SHAPES, MATMUL_SHAPES)
        if {pair[0][0:1], pair[1][0:1]} != {(2,), (4,)} or min(map(len, pair)) > 3
    ],
)
def test_matmul_of_every_pair_of_ranks(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    """All sizes 3 (m == k): a transposed product would have the right shape and wrong values."""
    random = np.random.default_rng(0)
    a, b = random.standard_normal(first), random.standard_normal(second)
    try:
        expected = np.matmul(a, b)
    except ValueError:
        with pytest.raises(ValueError, match="matmul"):
            Tensor(a) @ Tensor(b)
        return
    products: list[Any] = [Tensor(a) @ Tensor(b), Tensor(a) @ b, a @ Tensor(b)]
    for y in [*products, np.matmul(Tensor(a), b)]:
        np.testing.assert_allclose(y.data, expected, rtol=1e-12, strict=True)
    check_grads(lambda a, b: a @ b, (a, b), order=2, fast=True)
    check_grads(lambda a, b: a @ b, (a, b), order=1, modes=("rev",))


def test_matmul_of_rectangles_and_empty_ones() -> None:
    random = np.random.default_rng(0)
    for first, second in [
        ((2, 3), (3, 4)),
        ((5, 2, 3), (3, 1)),
        ((3,), (5, 3, 2)),
        ((0, 3), (3, 2)),
    ]:
        a, b = random.standard_normal(first), random.standard_normal(second)
        check_grads(lambda a, b: a @ b, (a, b), order=2)
    wide, tall = leaf(np.ones((2, 0))), leaf(np.ones((0, 3)))
    y = wide @ tall
    assert y.tolist() == np.zeros((2, 3)).tolist()
    y.sum().backward()
    assert grad_of(wide).shape == (2, 0)
    assert grad_of(tall).shape == (0, 3)


# ------------------------------------------------------------------ einsum


@pytest.mark.parametrize(
    ("subscripts", "operands"),
    [
        ("ii->", [(3, 3)]),
        ("ii->i", [(3, 3)]),
        ("ii", [(3, 3)]),
        ("iij->ij", [(2, 2, 3)]),
        ("iij->j", [(2, 2, 3)]),
        ("iii->i", [(2, 2, 2)]),
        ("ij,ij->i", [(2, 3), (1, 3)]),
        ("ij,jk", [(2, 3), (3, 2)]),
        ("ba,b", [(2, 3), (2,)]),
        ("...ij,...jk->...ik", [(2, 2, 3), (3, 2)]),
        ("...ij,...jk->...ik", [(4, 1, 2, 3), (2, 3, 2)]),
        ("i...,i...->...", [(2, 3), (2, 1)]),
        ("...->...", [(2, 3)]),
        ("...i->...", [(2, 3)]),
        ("i,j,k->ijk", [(2,), (3,), (2,)]),
        ("ij->", [(2, 3)]),
        (",->", [(), ()]),
        (" i j , j -> i ", [(2, 3), (3,)]),
    ],
)
def test_einsum(subscripts: str, operands: list[tuple[int, ...]]) -> None:
    random = np.random.default_rng(0)
    values = tuple(random.standard_normal(shape) for shape in operands)

    def f(*tensors: Any) -> Any:
        return np.einsum(subscripts, *tensors)

    expected = np.einsum(subscripts, *values)
    np.testing.assert_allclose(f(*map(Tensor, values)).data, expected, rtol=1e-12, atol=1e-14)
    check_grads(f, values, order=2)


# ------------------------------------------------------------------ empty and 0-d


def test_empty_reductions() -> None:
    x = leaf(np.zeros((0, 3)))
    assert x.sum().item() == 0
    assert x.prod().item() == 1
    assert x.sum(axis=0).tolist() == [0, 0, 0]
    assert x.prod(axis=0).tolist() == [1, 1, 1]
    assert x.sum(axis=1).shape == (0,)
    assert x.logsumexp(axis=0).tolist() == [-np.inf] * 3
    assert not x.any().item()
    assert x.all().item()
    for name in ("max", "min", "argmax", "argmin"):
        with pytest.raises(ValueError, match=rf"{name}.*\(0, 3\)"):
            getattr(x, name)()
        with pytest.raises(ValueError, match=rf"{name}.*\(0, 3\)"):
            getattr(x, name)(axis=0)
    assert np.isnan(x.mean().item())
    assert np.isnan(x.var(axis=0).data).all()
    assert x.max(axis=1).shape == (0,)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.sum(),
        lambda x: x.prod(),
        lambda x: x.mean(),
        lambda x: (x @ np.ones((3, 2))).sum(),
        lambda x: x[x > 0].sum(),
        lambda x: x.reshape(3, 0).T.sum(),
        lambda x: np.exp(x).max(axis=1).sum(),
        lambda x: x.cumsum(axis=0).sum(),
        lambda x: x.logsumexp(axis=1).sum(),
        lambda x: np.concatenate([x, x]).sum(),
        lambda x: (x.std(axis=1) + x.var(axis=1)).sum(),
    ],
)
@pytest.mark.parametrize("dtype", [F32, F64])
def test_a_batch_of_length_0_goes_backward(f: Any, dtype: Any) -> None:
    x = leaf(np.zeros((0, 3)), dtype)
    f(x).backward()
    assert grad_of(x).shape == (0, 3)
    assert grad_of(x).dtype == dtype


def test_a_batch_of_length_0_gives_the_weights_a_gradient_of_zeros() -> None:
    x, w, b = leaf(np.zeros((0, 3))), leaf(np.ones((3, 2))), leaf(np.ones(2))
    np.tanh(x @ w + b).sum().backward()
    assert grad_of(w).tolist() == np.zeros((3, 2)).tolist()
    assert grad_of(b).tolist() == [0.0, 0.0]


@given(st.data())
def test_reductions_over_drawn_axes(data: st.DataObject) -> None:
    x = data.draw(arrays(shapes()))
    axis, keepdims = data.draw(axes(x.ndim)), data.draw(st.booleans())
    t = leaf(x)
    y = t.sum(axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(y.data, x.sum(axis=axis, keepdims=keepdims), atol=1e-12, strict=True)
    g = data.draw(arrays(y.shape))
    y.backward(g)
    expanded = g if keepdims else np.reshape(g, x.sum(axis=axis, keepdims=True).shape)
    np.testing.assert_array_equal(grad_of(t), np.broadcast_to(expanded, x.shape))
    if x.size:
        check_grads(lambda t: t.logsumexp(axis=axis, keepdims=keepdims), x, order=1)
        check_grads(lambda t: (t * t).mean(axis=axis, keepdims=keepdims), x, order=1)
        check_grads(lambda t: (t / 2).prod(axis=axis, keepdims=keepdims), x, order=1)


def test_0_d_tensors_reduce_to_themselves() -> None:
    for f in ("sum", "mean", "prod", "max", "min", "logsumexp", "var"):
        x = leaf(2.5)
        y = x.var(correction=0) if f == "var" else getattr(x, f)()
        y.backward()
        assert grad_of(x).shape == ()
        assert y.item() == (0.0 if f == "var" else 2.5)


# ------------------------------------------------------------------ fancy indexing


def test_fancy_indexing_accumulates_duplicates() -> None:
    x = leaf(np.arange(4.0))
    x[np.array([1, 1, 1, -1])].sum().backward()
    assert grad_of(x).tolist() == [0.0, 3.0, 0.0, 1.0]
    y = leaf(np.ones((3, 2)))
    y[[0, 0, 2], [1, 1, 0]].sum().backward()
    assert grad_of(y).tolist() == [[0.0, 2.0], [0.0, 0.0], [1.0, 0.0]]
    z = leaf(np.ones((3, 2)))
    z[Tensor([0, 0, 2])].backward(np.arange(6.0).reshape(3, 2))
    assert grad_of(z).tolist() == [[2.0, 4.0], [0.0, 0.0], [4.0, 5.0]]


@given(st.data())
def test_indexing_by_every_drawn_key(data: st.DataObject) -> None:
    x = data.draw(arrays(shapes(max_side=3)))
    key = data.draw(indices(x.shape))
    t = leaf(x)
    y = t[key]
    np.testing.assert_array_equal(y.data, x[key])
    assert y.shape == x[key].shape
    g = data.draw(arrays(y.shape))
    y.backward(g)
    expected = np.zeros(x.shape)
    np.add.at(expected, key, g)
    np.testing.assert_allclose(grad_of(t), expected, atol=1e-12)
    if x.size and y.size:
        check_grads(lambda t: t[key] ** 2, x, order=2)


def test_indexing_errors_name_the_key_and_the_shape() -> None:
    x = leaf(np.ones((2, 3)))
    with pytest.raises(IndexError, match=r"float64\(2, 3\), key=5.*out of bounds"):
        x[5]
    with pytest.raises(IndexError, match=r"\(2, 3\).*too many indices"):
        x[0, 0, 0]
    with pytest.raises(IndexError, match="expected integers or booleans, got float32"):
        x[Tensor([0.0])]
    with pytest.raises(IndexError, match=r"\(2, 3\)"):
        x[1.0]
    with pytest.raises(IndexError, match=r"boolean"):
        x[np.ones(4, bool)]


def test_indexing_by_an_array_that_changes_later() -> None:
    x, rows = leaf(np.arange(4.0)), np.array([0, 0, 1])
    y = x[rows]
    rows[...] = 3
    y.sum().backward()
    assert grad_of(x).tolist() == [2.0, 1.0, 0.0, 0.0]


# ------------------------------------------------------------------ shape errors


@pytest.mark.parametrize(
    ("f", "parts"),
    [
        (lambda x: x + np.ones(4), ["add", "(2, 3)", "(4,)"]),
        (lambda x: np.maximum(x, np.ones((3, 2))), ["maximum", "(2, 3)", "(3, 2)"]),
        (lambda x: x @ np.ones((2, 3)), ["matmul", "(2, 3)", "last axis of (2, 3), got 2"]),
        (lambda x: np.where(x > 0, x, np.ones(4)), ["where", "(2, 3)", "(4,)"]),
        (lambda x: x.reshape(4, 2), ["reshape", "(2, 3)", "(4, 2)"]),
        (lambda x: x.sum(axis=5), ["sum", "(2, 3)", "axis=5"]),
        (lambda x: x.logsumexp(axis=2), ["logsumexp", "(2, 3)", "axis=2"]),
        (lambda x: x.cumsum(axis=2), ["cumsum", "(2, 3)", "axis=2"]),
        (lambda x: np.concatenate([x, x[:, :2]]), ["concatenate", "(2, 3)", "(2, 2)", "axis=0"]),
        (lambda x: np.stack([x, x[:, :2]]), ["stack", "(2, 3)", "(2, 2)"]),
        (lambda x: x.permute(0), ["permute", "(2, 3)", "(0,)"]),
        (lambda x: x.expand(4, 4), ["expand", "(2, 3)", "(4, 4)"]),
        (lambda x: np.linalg.inv(x), ["inv", "(2, 3)"]),
        (lambda x: np.linalg.det(x), ["det", "(2, 3)"]),
        (lambda x: np.linalg.solve(x[:, :2], np.ones(3)), ["solve", "(2, 2)", "(3,)"]),
        (lambda x: np.einsum("ij,kj->ik", x, np.ones((2, 4))), ["einsum", "(2, 3)", "(2, 4)"]),
        (lambda x: x[0] @ x, ["matmul", "(3,)", "(2, 3)"]),
    ],
)
def test_shape_errors_name_the_op_both_shapes_and_the_axis(f: Any, parts: list[str]) -> None:
    with pytest.raises((ValueError, IndexError)) as caught:
        f(leaf(np.ones((2, 3))))
    for part in parts:
        assert part in str(caught.value), str(caught.value)


# ------------------------------------------------------------------ stack of Tensors


@pytest.mark.parametrize("f", [np.stack, np.array, np.concatenate, np.vstack, np.asarray])
def test_stack_of_tensors_has_no_object_array_path(f: Any) -> None:
    x = leaf(np.ones((2, 3)))
    try:
        y = f([x, x])
    except RuntimeError as error:
        assert f in (np.array, np.asarray)
        assert ".detach()" in str(error)
        assert "stack" in str(error)
        return
    assert isinstance(y, Tensor)
    assert y.dtype == F64
    y.sum().backward()
    assert grad_of(x).tolist() == np.full((2, 3), 2.0).tolist()


def test_a_list_of_tensors_is_refused_with_the_fix() -> None:
    x = leaf(np.ones(2))
    lists: list[Any] = [[x, x], (x, 1.0), [[x[0]], [x[1]]]]
    for data in lists:
        with pytest.raises(TypeError, match=r"stack"):
            Tensor(data)
        with pytest.raises(TypeError, match=r"stack"):
            tk.tensor(data)
    for data in ([x[0], 1.0], [x, x]):
        with pytest.raises(RuntimeError, match=r"\.detach\(\)"):
            np.array(data)


# ------------------------------------------------------------------ assigning into an ndarray


def test_assigning_a_tensor_into_an_ndarray_explains_itself() -> None:
    x, a = leaf(np.ones((2, 3))), np.zeros((2, 3))
    for key, value in ((0, x[0]), ((0, 0), x[0, 0]), (slice(None), x), (np.array([0]), x[:1])):
        with pytest.raises((RuntimeError, ValueError)) as caught:
            a[key] = value
        explained: BaseException | None = caught.value
        while explained is not None and ".detach()" not in str(explained):
            explained = explained.__cause__ or explained.__context__
        assert explained is not None, repr(caught.value)
    assert not a.any()
    a[0] = x.detach()[0]
    assert a[0].tolist() == [1.0] * 3


def test_numpy_of_a_tracked_tensor_is_refused() -> None:
    x = leaf(np.ones(2))
    for way in (x.numpy, lambda: np.asarray(x), lambda: np.array(x), lambda: list(np.asarray(x))):
        with pytest.raises(RuntimeError, match=r"\.detach\(\)"):
            way()
    assert np.asarray(x.detach()) is x.data


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_small_index_dtypes_reach_rows_of_large_tables(dtype: Any) -> None:
    table = Tensor(np.ones((300, 2)), requires_grad=True)
    rows = np.array([1, 2, 2], dtype)
    table[rows].sum().backward()
    assert table.grad is not None
    np.testing.assert_array_equal(table.grad.data[:4], [[0, 0], [1, 1], [2, 2], [0, 0]])


@pytest.mark.parametrize("kind", [np.matrix, np.ma.MaskedArray])
@pytest.mark.parametrize("f", [np.multiply, np.matmul, lambda t, m: t + m, lambda t, m: t @ m])
def test_subclasses_of_ndarray_are_refused(f: Any, kind: Any) -> None:
    x = Tensor(np.eye(2), requires_grad=True)
    with pytest.raises(TypeError, match=r"Convert it with np\.asarray"):
        f(x, np.array([[1.0, 2.0], [3.0, 4.0]]).view(kind))


def test_an_axis_named_twice_is_refused_at_any_size() -> None:
    for size in (2, 100):
        with pytest.raises(ValueError, match="axis"):
            Tensor(np.ones((size, size))).mean(axis=(0, 0), keepdims=True)
