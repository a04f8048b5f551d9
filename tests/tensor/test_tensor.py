"""`Tensor`: what it is made of, what it shows, how it is written to, and its methods."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy import ndarray

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.autograd import MutationError
from tinygrad_kr.ops.node import NodeType, constant, constant_lines
from tinygrad_kr.testing import check_grads

A = np.random.default_rng(0).uniform(0.2, 2.0, (2, 3, 4))


def leaf(array: Any) -> Tensor:
    return Tensor(np.asarray(array, float), requires_grad=True)


# ------------------------------------------------------------------ what it is


def test_an_ndarray_is_not_copied_and_keeps_its_dtype() -> None:
    for dtype in (np.float16, np.float32, np.float64, np.int8, np.int64, np.uint8, bool):
        a = np.ones((2, 3), dtype)
        assert Tensor(a).data is a
        assert Tensor(a).dtype == dtype
    assert Tensor(A, dtype=np.float32).dtype == np.float32


def test_shape_and_its_relatives() -> None:
    t = Tensor(A)
    assert t.shape == (2, 3, 4)
    assert t.ndim == t.dim() == 3
    assert t.size == t.numel() == 24
    assert len(t) == 2
    assert t.T.shape == (4, 3, 2)
    assert t.mT.shape == (2, 4, 3)
    with pytest.raises(ValueError, match=r"mT: expected at least 2 axes, got shape \(3,\)"):
        Tensor(np.ones(3)).mT  # noqa: B018
    with pytest.raises(TypeError):
        len(Tensor(1.0))


def test_numbers_out_of_it() -> None:
    assert Tensor([[2.5]]).item() == 2.5
    assert type(Tensor(3).item()) is int
    assert type(Tensor(True).item()) is bool
    assert float(Tensor([2.5])) == 2.5
    assert int(Tensor([2.7])) == 2
    assert bool(Tensor([0.0])) is False
    assert [10, 20, 30][Tensor(1)] == 20
    assert Tensor(A).tolist() == A.tolist()
    assert f"{Tensor(3.14159):.2f}" == "3.14"
    assert float(leaf(2.0)) == 2.0
    for convert in (float, int, Tensor.item):
        with pytest.raises((TypeError, ValueError), match=r"one element, got shape \(2,\)"):
            convert(Tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="ambiguous"):
        bool(Tensor([1.0, 2.0]))
    with pytest.raises(TypeError):
        [1, 2][Tensor(1.0)]


def test_iteration_is_over_the_first_axis_and_differentiable() -> None:
    x = leaf(A)
    rows = list(x)
    assert [row.shape for row in rows] == [(3, 4)] * 2
    (rows[0].sum() + 2 * rows[1].sum()).backward()
    assert x.grad is not None
    assert x.grad.data[0].tolist() == np.ones((3, 4)).tolist()
    assert x.grad.data[1].tolist() == np.full((3, 4), 2.0).tolist()
    with pytest.raises(TypeError, match="got a 0-d Tensor"):
        iter(Tensor(1.0))
    first, second = x
    assert first.shape == second.shape == (3, 4)


def test_membership_and_comparison() -> None:
    t = Tensor([1.0, 2.0])
    assert 2.0 in t
    assert 3.0 not in t
    assert (t == t).tolist() == [True, True]
    assert (t != 1.0).tolist() == [False, True]
    assert (t > 1).tolist() == [False, True]
    assert np.less(1, t).tolist() == [False, True]
    assert ((t > 0) & ~(t > 1)).tolist() == [True, False]
    assert hash(t) != hash(Tensor([1.0, 2.0]))
    assert t in {t}


def test_repr_shows_values_dtype_and_the_op_that_made_it() -> None:
    assert repr(Tensor([1.0, 2.0])) == "Tensor([1., 2.])"
    assert repr(Tensor(np.ones(2))) == "Tensor([1., 1.], dtype=float64)"
    assert repr(Tensor([1, 2])) == "Tensor([1, 2])"
    assert repr(Tensor([1.0], requires_grad=True)) == "Tensor([1.], requires_grad=True)"
    assert repr(Tensor([1.0], requires_grad=True) * 2) == "Tensor([2.], op=multiply)"
    assert "shape=(0, 3)" in repr(tk.zeros(0, 3))
    assert len(repr(tk.zeros(1000, 1000))) < 1000
    assert str(Tensor(2.0)) == f"{Tensor(2.0)}" == "Tensor(2.)"


def test_detach_shares_and_clone_copies() -> None:
    x = leaf([1.0, 2.0])
    assert x.detach().data is x.data
    assert not x.detach().requires_grad
    y = x.clone()
    assert not np.shares_memory(y.data, x.data)
    (y * 3).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3.0, 3.0]
    for t in (Tensor([1, 2]), Tensor([True, False]), Tensor([1.0])):
        c = t.clone()
        assert c.dtype == t.dtype
        assert c.tolist() == t.tolist()
        assert not np.shares_memory(c.data, t.data)


def test_numpy_shares_memory() -> None:
    t = Tensor(np.ones(2))
    assert t.numpy() is t.data
    assert np.asarray(t) is t.data
    assert np.array(t) is not t.data
    assert np.asarray(t, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError):
        np.asarray(t, dtype=np.float32, copy=False)


# ------------------------------------------------------------------ requires_grad and grad


def test_requires_grad_may_be_switched_on_leaves_only() -> None:
    x = Tensor([1.0])
    assert x.requires_grad_() is x
    assert x.requires_grad
    assert x.is_leaf
    x.requires_grad = False
    assert not x.requires_grad
    y = leaf([1.0]) * 2
    assert not y.is_leaf
    y.requires_grad_()
    with pytest.raises(
        RuntimeError, match=r"expected a leaf, got a computed Tensor. Use \.detach\(\)"
    ):
        y.requires_grad = False


def test_grad_is_checked_when_it_is_set() -> None:
    x = leaf([1.0, 2.0])
    with pytest.raises(ValueError, match=r"grad: expected shape \(2,\), got \(3,\)"):
        x.grad = Tensor(np.ones(3))
    with pytest.raises(TypeError, match="grad: expected float64, got float32"):
        x.grad = Tensor([1.0, 2.0])
    x.grad = np.ones(2)
    assert isinstance(x.grad, Tensor)
    x.grad = None
    assert x.grad is None


def test_replacing_data_by_another_shape_is_not_a_silent_wrong_gradient() -> None:
    x = leaf([1.0, 2.0])
    for other in (np.ones(3), np.ones(2, np.float32)):
        x.data = np.ones(2)
        y = x.sum()
        x.data = other
        with pytest.raises(
            MutationError,
            match=r"expected float64\(2,\), as it read, got .* from \.data = \.\.\. at",
        ):
            y.backward()
        assert x.grad is None


# ------------------------------------------------------------------ writing


def test_in_place_operators_write_into_leaves_and_constants() -> None:
    memory = np.array([1.0, 2.0])
    t = Tensor(memory)
    alias = t
    t += 1
    t -= Tensor(np.array([0.5, 0.5]))
    t *= 4
    t /= 2
    t **= 2
    assert t is alias
    assert t.data is memory
    assert memory.tolist() == [9.0, 25.0]


def test_in_place_operators_refuse_a_result_that_does_not_fit() -> None:
    t = Tensor([1, 2])
    with pytest.raises(TypeError, match="expected a result of int64, got float32"):
        t /= 2
    with pytest.raises(TypeError, match="expected a result of int64, got float32"):
        t += 0.5
    with pytest.raises(ValueError, match="broadcast"):
        t += np.ones((3, 2), int)
    assert t.tolist() == [1, 2]
    f = Tensor([1.0])
    f += np.float64(1)
    f += np.ones(1)
    assert f.dtype == np.float32


@pytest.mark.parametrize(
    "key", [0, -1, slice(1), (0, 1), ..., (slice(None), 2), [1, 0], np.array([True, False])]
)
def test_setitem_is_numpys(key: Any) -> None:
    ours, theirs = Tensor(A[0, :2].copy()), A[0, :2].copy()
    for value in (5.0, ours.data[key] * 2, Tensor(ours.data[key] * 3)):
        ours[key] = value
        theirs[key] = value.data if isinstance(value, Tensor) else value
        np.testing.assert_array_equal(ours.data, theirs)


def test_setitem_takes_tensors_as_keys() -> None:
    t = tk.zeros(4)
    t[Tensor([0, 2])] = 1.0
    t[t == 0] = 5.0
    t[Tensor(1) : Tensor(2)] = 7.0
    assert t.tolist() == [1.0, 7.0, 1.0, 5.0]


def test_writes_return_the_tensor() -> None:
    t = tk.ones(2)
    assert t.fill_(3.0) is t
    assert t.copy_([4.0, 5.0]).tolist() == [4.0, 5.0]
    assert t.zero_().tolist() == [0.0, 0.0]
    with pytest.raises(ValueError):
        t.copy_([1.0, 2.0, 3.0])


IN_PLACE: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("add", (0.5,), {}),
    ("add", (0.5,), {"alpha": 3}),
    ("sub", (np.ones(3),), {"alpha": 2.0}),
    ("subtract", (0.5,), {}),
    ("mul", (2.0,), {}),
    ("multiply", (2.0,), {}),
    ("div", (3.0,), {"rounding_mode": "floor"}),
    ("divide", (3.0,), {}),
    ("true_divide", (3.0,), {}),
    ("pow", (2,), {}),
    ("remainder", (0.3,), {}),
    ("addcmul", (np.ones(3), 2.0), {"value": 0.5}),
    ("addcdiv", (np.ones(3), 2.0), {"value": 0.5}),
    ("addmm", (np.ones((2, 4)), np.ones((4, 3))), {"alpha": 0.5}),
    ("lerp", (1.0, 0.5), {}),
    ("clamp", (), {"min": 0.5}),
    ("clip", (0.5, 1.0), {}),
    ("masked_fill", (np.array([True, False, True]), 7.0), {}),
    ("tril", (), {}),
    ("triu", (1,), {}),
    ("round", (1,), {}),
    ("scatter", (1, [[0], [1]], 7.0), {}),
    ("scatter_add", (1, [[0], [1]], np.ones((2, 1))), {}),
    ("scatter_reduce", (1, [[0], [1]], np.ones((2, 1)), "prod"), {}),
    *(
        (name, (), {})
        for name in (
            *("abs", "absolute", "ceil", "cos", "exp", "floor", "log", "nan_to_num", "neg"),
            *("negative", "reciprocal", "relu", "sigmoid", "sign", "sin", "sqrt", "square"),
            *("tanh", "trunc"),
        )
    ),
]


@pytest.mark.parametrize(("name", "args", "options"), IN_PLACE)
def test_a_method_in_place_writes_what_the_method_gives(
    name: str, args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    start = np.array([[0.25, 0.5, 1.5], [1.0, 2.0, 0.7]], np.float32)
    expected = getattr(Tensor(start.copy()), name)(*args, **options)
    for t in (Tensor(start.copy()), Tensor(start.copy(), requires_grad=True)):
        array = t.data
        with tk.no_grad():
            assert getattr(t, f"{name}_")(*args, **options) is t
        assert t.data is array and t.is_leaf
        np.testing.assert_array_equal(array, expected.data.astype(np.float32), strict=True)


def test_every_method_in_place_is_tested() -> None:
    """And PyTorch's names end in _ as ours do."""
    there = {name[:-1] for name in dir(Tensor) if name.endswith("_") and not name.startswith("_")}
    known = {"copy", "fill", "zero", "requires_grad", "normal", "uniform"}
    assert there - known == {name for name, *_ in IN_PLACE}


@pytest.mark.parametrize("name", ["add_", "mul_", "clamp_", "exp_", "zero_", "normal_"])
def test_a_write_where_gradients_flow_says_what_to_do(name: str) -> None:
    write = getattr(Tensor, name)
    args = {"add_": (1.0,), "mul_": (2.0,), "clamp_": (0.0,)}.get(name, ())
    x = leaf([1.0, 2.0])
    said = rf"{'fill' if name == 'zero_' else name[:-1]}_: expected a constant, got a leaf"
    with pytest.raises(RuntimeError, match=said):
        write(x, *args)
    y = x * 2
    with tk.no_grad(), pytest.raises(RuntimeError, match="the result of multiply, part of a graph"):
        write(y, *args)
    assert x.tolist() == [1.0, 2.0] and y.tolist() == [2.0, 4.0]


def test_what_a_method_in_place_cannot_hold_is_refused() -> None:
    with pytest.raises(RuntimeError, match="add_: expected a constant value, got a Tensor that"):
        tk.zeros(1).add_(leaf([1.0]).float())
    with pytest.raises(TypeError, match="div_: expected a result of int64, got float32"):
        tk.tensor([1, 2]).div_(2)
    with pytest.raises(ValueError, match=r"mul_: expected a result of shape \(2,\), got \(3, 2\)"):
        tk.zeros(2).mul_(tk.ones(3, 2))


def test_backward_notices_a_method_in_place() -> None:
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    with tk.no_grad():
        x.mul_(2.0)
    with pytest.raises(MutationError, match="mul_"):
        y.backward()


def test_random_numbers_in_place() -> None:
    t = tk.zeros(1000, dtype=np.float64)
    drawn = t.normal_(3.0, 0.5, generator=np.random.default_rng(0)).data.copy()
    assert abs(drawn.mean() - 3) < 0.1 and abs(drawn.std() - 0.5) < 0.05
    np.testing.assert_array_equal(
        t.normal_(3.0, 0.5, generator=np.random.default_rng(0)).data, drawn
    )
    t.uniform_(-2.0, -1.0)
    assert -2 <= t.data.min() < -1.9 and -1.1 < t.data.max() < -1
    with pytest.raises(TypeError, match="expected floats"):
        tk.tensor([1]).normal_()


def test_writing_a_tracked_tensor_would_lose_its_gradient() -> None:
    x, buffer = leaf([1.0]), Tensor(np.zeros(1))
    with pytest.raises(
        RuntimeError, match="expected a constant value, got a Tensor that requires grad"
    ):
        buffer.copy_(x)
    with pytest.raises(
        RuntimeError, match="expected a constant value, got a Tensor that requires grad"
    ):
        buffer[0] = x[0]
    with tk.no_grad():
        buffer.copy_(x)
        buffer[0] = x[0] * 2
    assert buffer.tolist() == [2.0]


# ------------------------------------------------------------------ copying


def test_copies_are_leaves_with_their_own_memory_and_gradient() -> None:
    x = leaf([1.0, 2.0])
    (x * x).sum().backward()
    for c in (copy.copy(x), copy.deepcopy(x)):
        assert c.requires_grad
        assert c.tolist() == x.tolist()
        assert not np.shares_memory(c.data, x.data)
        assert c.grad is not None
        assert x.grad is not None
        assert c.grad.tolist() == x.grad.tolist()
        assert not np.shares_memory(c.grad.data, x.grad.data)
    shared = copy.deepcopy([x, x])
    assert shared[0] is shared[1]
    again = pickle.loads(pickle.dumps(x))
    assert again.requires_grad
    assert again.tolist() == x.tolist()
    for way in (copy.deepcopy, copy.copy, pickle.dumps):
        with pytest.raises(RuntimeError, match="expected a leaf, got a computed Tensor"):
            way(x * 2)


# ------------------------------------------------------------------ methods

METHODS: list[tuple[str, Callable[[Any], Any], Callable[[ndarray], Any]]] = [
    ("abs", lambda t: t.abs(), np.abs),
    ("neg", lambda t: -t, np.negative),
    ("neg()", lambda t: t.neg(), np.negative),
    ("copy", lambda t: t.copy(), np.copy),
    ("softmax", lambda t: t.softmax(dim=1), lambda a: np.exp(a) / np.exp(a).sum(1)[:, None]),
    ("log_softmax", lambda t: t.log_softmax(0), lambda a: a - np.log(np.exp(a).sum(0))),
    ("pos", lambda t: +t, np.positive),
    ("reciprocal", lambda t: t.reciprocal(), lambda a: 1 / a),
    ("pow", lambda t: t.pow(3), lambda a: a**3),
    ("rpow", lambda t: 2**t, lambda a: 2**a),
    ("rdiv", lambda t: 1 / t, lambda a: 1 / a),
    ("rsub", lambda t: 1 - t, lambda a: 1 - a),
    ("rmod", lambda t: 5 % t, lambda a: 5 % a),
    ("clip", lambda t: t.clip(0.5, 1.5), lambda a: a.clip(0.5, 1.5)),
    ("clamp", lambda t: t.clamp(min=0.5), lambda a: np.maximum(a, 0.5)),
    ("clip by a Tensor", lambda t: t.clip(max=Tensor(np.array(1.0))), lambda a: np.minimum(a, 1)),
    ("where", lambda t: t.where(t > 1, -t), lambda a: np.where(a > 1, a, -a)),
    ("masked_fill", lambda t: t.masked_fill(t > 1, 0.0), lambda a: np.where(a > 1, 0, a)),
    ("sum", lambda t: t.sum(dim=1, keepdim=True), lambda a: a.sum(1, keepdims=True)),
    ("sum over a list", lambda t: t.sum(axis=[0, 2]), lambda a: a.sum((0, 2))),
    ("mean", lambda t: t.mean((0, 1)), lambda a: a.mean((0, 1))),
    ("var", lambda t: t.var(1), lambda a: a.var(1, ddof=1)),
    ("var 0", lambda t: t.var(1, correction=0), lambda a: a.var(1)),
    ("std", lambda t: t.std(dim=-1), lambda a: a.std(-1, ddof=1)),
    ("prod", lambda t: t.prod(0), lambda a: a.prod(0)),
    ("amax", lambda t: t.amax(dim=(0, 1)), lambda a: a.max((0, 1))),
    ("amin", lambda t: t.amin(), lambda a: a.min()),
    ("cumsum", lambda t: t.cumsum(dim=1), lambda a: a.cumsum(1)),
    ("cumsum flat", lambda t: t.cumsum(), lambda a: a.cumsum()),
    ("cumprod", lambda t: t.cumprod(-1), lambda a: a.cumprod(-1)),
    ("norm", lambda t: t.norm(), lambda a: np.sqrt((a * a).sum())),
    ("reshape", lambda t: t.reshape(6, -1), lambda a: a.reshape(6, -1)),
    ("reshape by a tuple", lambda t: t.reshape((4, 6)), lambda a: a.reshape(4, 6)),
    ("view", lambda t: t.view(-1), lambda a: a.ravel()),
    ("ravel", lambda t: t.ravel(), lambda a: a.ravel()),
    ("flatten", lambda t: t.flatten(), lambda a: a.ravel()),
    ("flatten 1", lambda t: t.flatten(1), lambda a: a.reshape(2, 12)),
    ("flatten to 1", lambda t: t.flatten(0, 1), lambda a: a.reshape(6, 4)),
    ("flatten -2", lambda t: t.flatten(-2, -1), lambda a: a.reshape(2, 12)),
    ("unflatten", lambda t: t.unflatten(2, (2, -1)), lambda a: a.reshape(2, 3, 2, 2)),
    ("T", lambda t: t.T, lambda a: a.T),
    ("mT", lambda t: t.mT, lambda a: a.mT),
    ("transpose", lambda t: t.transpose(), lambda a: a.T),
    ("transpose 2", lambda t: t.transpose(0, 2), lambda a: a.swapaxes(0, 2)),
    ("transpose 3", lambda t: t.transpose(2, 0, 1), lambda a: a.transpose(2, 0, 1)),
    ("transpose tuple", lambda t: t.transpose((1, 0, 2)), lambda a: a.transpose(1, 0, 2)),
    ("permute", lambda t: t.permute(2, 0, 1), lambda a: a.transpose(2, 0, 1)),
    ("swapaxes", lambda t: t.swapaxes(0, -1), lambda a: a.swapaxes(0, -1)),
    ("movedim", lambda t: t.movedim(0, 2), lambda a: np.moveaxis(a, 0, 2)),
    ("squeeze", lambda t: t[:1].squeeze(), lambda a: a[0]),
    ("squeeze 0", lambda t: t[:1].squeeze(0), lambda a: a[0]),
    ("squeeze not 1", lambda t: t.squeeze(0), lambda a: a),
    ("unsqueeze", lambda t: t.unsqueeze(-1), lambda a: a[..., None]),
    ("unsqueeze dim", lambda t: t.unsqueeze(dim=1), lambda a: a[:, None]),
    ("expand", lambda t: t[:, :1].expand(-1, 5, 4), lambda a: a[:, :1].repeat(5, 1)),
    ("expand more", lambda t: t.expand(2, 2, 3, 4), lambda a: np.stack([a, a])),
    ("expand_as", lambda t: t[:1].expand_as(t), lambda a: np.stack([a[0], a[0]])),
    ("broadcast_to", lambda t: t[0, 0].broadcast_to(2, 4), lambda a: np.stack([a[0, 0]] * 2)),
    ("flip", lambda t: t.flip(0, 2), lambda a: np.flip(a, (0, 2))),
    ("flip all", lambda t: t.flip(), lambda a: np.flip(a)),
    ("roll", lambda t: t.roll(1), lambda a: np.roll(a, 1)),
    ("roll 2", lambda t: t.roll((1, -1), (0, 2)), lambda a: np.roll(a, (1, -1), (0, 2))),
    ("repeat", lambda t: t.repeat(2, 1, 1), lambda a: np.tile(a, (2, 1, 1))),
    ("tile", lambda t: t.tile((2, 1)), lambda a: np.tile(a, (2, 1))),
    ("diagonal", lambda t: t.diagonal(1, 1, 2), lambda a: a.diagonal(1, 1, 2)),
    ("trace", lambda t: t.trace(), lambda a: a.trace()),
    ("tril", lambda t: t.tril(), np.tril),
    ("triu", lambda t: t.triu(1), lambda a: np.triu(a, 1)),
    ("matmul", lambda t: t.matmul(t.mT), lambda a: a @ a.mT),
    ("dot", lambda t: t[0].dot(t[1].T), lambda a: a[0] @ a[1].T),
    ("outer", lambda t: t[0, 0].outer(t[1, 1]), lambda a: np.outer(a[0, 0], a[1, 1])),
    ("contiguous", lambda t: t.T.contiguous(), lambda a: a.T),
    ("to", lambda t: t.to(np.float64), lambda a: a),
    ("double", lambda t: t.double(), lambda a: a),
    ("type_as", lambda t: t.type_as(Tensor(A)), lambda a: a),
    ("contains every unary", lambda t: t.exp().log().sqrt().square().tanh(), np.tanh),
    ("floor", lambda t: t.floor() + t, lambda a: np.floor(a) + a),
]


@pytest.mark.parametrize(("name", "ours", "theirs"), METHODS, ids=[m[0] for m in METHODS])
def test_methods_against_numpy_and_differences(name: str, ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours(Tensor(A)).data, theirs(A), rtol=1e-13, atol=1e-15)
    check_grads(ours, A, order=2, fast=True)


def test_to_is_itself_where_nothing_changes() -> None:
    x = leaf([1.0])
    assert x.to(np.float64) is x
    assert x.double() is x
    assert x.float().dtype == np.float32
    assert x.long().dtype == np.int64


@pytest.mark.parametrize(
    "f",
    [
        lambda t: t.flatten(3),
        lambda t: t.flatten(0, 3),
        lambda t: t.flatten(-4),
        lambda t: t.unflatten(3, (1,)),
        lambda t: t.swapaxes(0, 3),
        lambda t: t.permute(0, 1),
        lambda t: t.transpose(0, 3),
        lambda t: t.unsqueeze(5),
        lambda t: t.squeeze(3),
        lambda t: t.flip(3),
        lambda t: t.sum(dim=3),
        lambda t: t.cumsum(3),
        lambda t: t.diagonal(0, 0, 3),
        lambda t: t.expand(4),
    ],
)
def test_axes_out_of_range_raise(f: Any) -> None:
    with pytest.raises((IndexError, ValueError)):
        f(Tensor(A))


def test_flatten_refuses_its_ends_the_wrong_way_round() -> None:
    with pytest.raises(ValueError, match="expected start_dim up to end_dim, got 2 and 1"):
        Tensor(A).flatten(2, 1)
    assert Tensor(1.0).flatten().shape == (1,)
    assert tk.zeros(0, 3).flatten().shape == (0,)


def test_rounding_methods_are_detached() -> None:
    x = leaf([1.25, -1.75])
    for name in ("floor", "ceil", "sign", "isnan", "isinf", "isfinite", "long"):
        assert not getattr(x, name)().requires_grad
    assert x.round(1).tolist() == [1.2, -1.8]
    assert x.round().tolist() == [1.0, -2.0]


# ------------------------------------------------------------------ `.data`, an ndarray


WRITES: list[Callable[[Tensor], None]] = [
    lambda p: write(p, p.data.__isub__(0.1 * gradient_of_leaf(p))),
    lambda p: write(p, p.data - 0.1 * gradient_of_leaf(p)),
    lambda p: p.data.__setitem__(slice(None), p.data - 0.1 * gradient_of_leaf(p)),
    lambda p: np.subtract(p.data, 0.1 * gradient_of_leaf(p), out=p.data),  # type: ignore[arg-type]
]


def gradient_of_leaf(p: Tensor) -> Tensor:
    assert p.grad is not None
    return p.grad


def write(p: Tensor, value: Any) -> None:
    p.data = value


@pytest.mark.parametrize("update", WRITES)
def test_a_step_written_into_data(update: Callable[[Tensor], None]) -> None:
    p = Tensor(np.array([1.0, 2.0], np.float32), requires_grad=True)
    (p * p).sum().backward()
    update(p)
    assert isinstance(p.data, np.ndarray) and p.requires_grad and p.is_leaf
    np.testing.assert_allclose(p.data, [0.8, 1.6], rtol=1e-6)
    assert p.dtype == np.float32


def test_augmented_assignments_of_data() -> None:
    p = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    array, t = p.data, Tensor(np.array([2.0, 4.0]))
    p.data += t
    p.data *= t
    p.data /= t
    p.data **= Tensor(2.0)
    assert p.data is array and array.tolist() == [9.0, 36.0]
    with pytest.raises(TypeError, match=r"same_kind|Cannot cast"):
        Tensor([1, 2]).data.__iadd__(Tensor([0.5, 0.5]))


def test_backward_notices_a_step_written_into_data() -> None:
    p = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    loss = (p * p).sum()
    p.data -= Tensor(np.array([0.5, 0.5]))
    with pytest.raises(MutationError, match=r"\.data = \.\.\."):
        loss.backward()


def test_a_history_is_not_written_into_data() -> None:
    p = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    with pytest.raises(TypeError, match=r"np.subtract: expected no `out=` .*\.detach\(\)"):
        p.data -= p * 0.1
    with pytest.raises(RuntimeError, match=r"\.detach\(\)"):
        p.data[:] = p * 0.1
    assert p.data.tolist() == [1.0, 2.0]
    with tk.no_grad():
        p.data -= p * 0.5
    assert p.data.tolist() == [0.5, 1.0]


def test_a_step_written_into_data_is_not_compiled_away() -> None:
    p = Tensor(np.array([1.0, 2.0]), requires_grad=True)

    @tk.compile
    def step() -> None:
        p.grad = None
        (p * p).sum().backward()
        p.data -= 0.25 * gradient_of_leaf(p)

    for half in (0.5, 0.25, 0.125):
        step()
        assert p.data.tolist() == [half, 2 * half]


# ------------------------------------------------------------------ other libraries


@pytest.mark.parametrize(
    "read",
    [
        lambda t: copy.copy(t * 2),  # matplotlib's plot
        lambda t: np.asarray(t),
        lambda t: np.array(t, dtype=object),  # pandas
        lambda t: t.numpy(),
        lambda t: np.asarray([t, t], np.float64),  # scikit-learn
        lambda t: float_of_array(t),
    ],
)
def test_a_library_that_reads_a_tensor_with_history_is_told_to_detach(
    read: Callable[[Tensor], Any],
) -> None:
    with pytest.raises((RuntimeError, TypeError), match=r"\.detach\(\)"):
        read(Tensor([1.0, 2.0], requires_grad=True))


def float_of_array(t: Tensor) -> Any:
    """A ufunc of another library."""
    return np.frompyfunc(float, 1, 1)(t)


@pytest.mark.parametrize(
    "join",
    [
        lambda s: np.r_[s, s],
        lambda s: np.r_[s, 1.0],
        lambda s: np.c_[s, s],
        lambda s: np.array([s, s]),
        lambda s: np.array([[s, 1.0], [2.0, s]]),
        lambda s: np.asarray((s, 1.0), np.float64),
        lambda s: np.sum([s, s]),
        lambda s: np.mean((s, s)),
        lambda s: np.max([s, 1.0]),
        lambda s: np.sin([s, s]),
        lambda s: np.dot([s, s], [1.0, 2.0]),
        lambda s: np.linalg.norm([s, s]),
        lambda s: np.add(np.ones(2), [s, s]),
        lambda s: Tensor([1.0, 2.0]).add([s, s]),
        lambda s: tk.tensor([s, s]),
        lambda s: tk.mean([s, s]),
        lambda s: np.array([s.reshape(1), s.reshape(1)]),
    ],
)
def test_a_list_that_numpy_does_not_hand_over_names_stack(join: Callable[[Tensor], Any]) -> None:
    s = Tensor([1.0, 2.0], requires_grad=True).sum()
    with pytest.raises((RuntimeError, TypeError), match=r"tk\.stack"):
        join(s)


# ------------------------------------------------------------------ other names

ALIASES = {
    "abs": "absolute", "acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh",
    "atan": "arctan", "atan2": "arctan2", "atanh": "arctanh", "eq": "equal", "fix": "trunc",
    "ge": "greater_equal", "gt": "greater", "le": "less_equal", "lt": "less", "mul": "multiply",
    "ne": "not_equal", "neg": "negative", "pow": "power", "swapdims": "swapaxes",
    "concat": "concatenate", "cat": "concatenate", "clamp": "clip", "movedim": "moveaxis",
}  # fmt: skip


ONE = Tensor([1.0, 2.0])
WRONG: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(
        ("abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "fix", "neg"), (ONE, ONE)
    ),
    **dict.fromkeys(("swapdims", "movedim"), (ONE, 0, 7)),
    **dict.fromkeys(("cat", "concat"), ([ONE], 7)),
    "clamp": (ONE,),
}
"""Arguments that an alias refuses; by default two shapes that do not broadcast."""


@pytest.mark.parametrize("name", ALIASES)
def test_pytorchs_other_names(name: str) -> None:
    for owner in (tk, Tensor):
        if hasattr(owner, name) and hasattr(owner, ALIASES[name]):
            function, other = getattr(owner, name), getattr(owner, ALIASES[name])
            assert function.__wrapped__ in (other, getattr(other, "__wrapped__", None))
            assert function.__doc__ == other.__doc__ and function.__name__ == name
            assert pickle.loads(pickle.dumps(function)) is function
            with pytest.raises((TypeError, ValueError, IndexError), match=rf"^{name}[(:]"):
                function(*WRONG.get(name, (Tensor([1.0, 2.0]), Tensor([1.0, 2.0, 3.0]))))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: tk.amax(x, 7), "amax"),
        (lambda x: x.amin(7), "amin"),
        (lambda x: x.permute(0, 7), "permute"),
        (lambda x: x.expand(7, 7), "expand"),
        (lambda x: x.view(7), "view"),
        (lambda x: tk.trapezoid(x.sum()), "trapezoid"),
        (lambda x: tk.rand_like(x, generator=0), "rand_like"),
        (lambda x: tk.randn_like(x, generator=0), "randn_like"),
        (lambda x: tk.randint_like(x, 9, 9), "randint_like"),
        (lambda x: x.uniform_(generator=0), "uniform_"),
        (lambda x: x.normal_(generator=0), "normal_"),
        (lambda x: x.abs_(x), "abs_"),
        (lambda x: x.sub_(np.ones(7)), "sub_"),
        (lambda x: x.subtract_(np.ones(7)), "subtract_"),
        (lambda x: x.true_divide_(np.ones(7)), "true_divide_"),
        (lambda x: tk.var_mean(x, 7), "var_mean"),
        (lambda x: tk.std_mean(x, 7), "std_mean"),
        (lambda x: tk.floor(x, x), "floor"),
        (lambda x: tk.eq(x, x, x), "eq"),
    ],
)
def test_errors_begin_with_the_name_that_was_called(call: Any, name: str) -> None:
    x = Tensor(np.ones((2, 3), np.float32))
    with pytest.raises((TypeError, ValueError, IndexError), match=rf"^{name}[(:]"):
        call(x)
    assert x.tolist() == [[1.0] * 3] * 2


@pytest.mark.parametrize(
    "name",
    [
        "add", "sub", "mul", "div", "true_divide", "pow", "remainder", "fmod", "floor_divide",
        "maximum", "minimum", "fmax", "fmin", "hypot", "logaddexp", "copysign", "heaviside",
        "eq", "ne", "not_equal", "lt", "le", "gt", "ge", "less", "less_equal", "greater",
        "greater_equal", "logical_and", "logical_or", "logical_xor", "atan2", "lerp", "isclose",
    ],
)  # fmt: skip
def test_a_binary_method_is_the_function(name: str) -> None:
    a, b, more = Tensor(A), Tensor(A[::-1] - 1), (0.3,) * (name == "lerp")
    found, expected = getattr(a, name)(b, *more), getattr(tk, name)(a, b, *more)
    np.testing.assert_array_equal(found.data, expected.data, strict=True)


def test_dtypes_by_pytorchs_names() -> None:
    for name in ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8"):
        dtype = getattr(tk, name)
        assert tk.zeros(2, dtype=dtype).dtype is dtype
        assert dtype == getattr(np, name) == np.dtype(name)
    assert (tk.half, tk.float, tk.double) == (np.float16, np.float32, np.float64)
    assert (tk.short, tk.int, tk.long, tk.bool) == (np.int16, np.int32, np.int64, np.bool_)
    assert Tensor([1, 2]).to(tk.float64).dtype == tk.double
    assert tk.tensor([0, 1], dtype=tk.bool).tolist() == [False, True]


def test_constant_written_out_is_constant() -> None:
    array = np.ones(3)
    names: dict[str, Any] = {"new": object.__new__, "result_type": NodeType, "array": array}
    exec("\n".join(constant_lines("made", "array")), names)
    made, expected = names["made"], constant(array)
    assert type(made) is type(expected) is Tensor
    absent = object()
    for base in Tensor.__mro__:
        for slot in getattr(base, "__slots__", ()):
            if slot != "__weakref__":
                assert getattr(made, slot, absent) is getattr(expected, slot, absent), slot
