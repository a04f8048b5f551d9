"""NumPy's and PyTorch's names of arguments, one of them at a time, and PyTorch's options."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn

X = np.random.default_rng(5).normal(size=(2, 3, 3))
V = np.arange(3.0)
INDEX = np.zeros((2, 3, 3), int)
Call = Callable[..., Any]

BY_AXIS: dict[str, Call] = {
    **{
        name: lambda t, _name=name, **axis: getattr(tk, _name)(t, **axis)
        for name in (
            *("all", "amax", "amin", "any", "argmax", "argmin", "argsort", "count_nonzero"),
            *("cumprod", "cumsum", "diff", "flip", "gradient", "log_softmax", "logsumexp", "mean"),
            *("nanmean", "nansum", "norm", "prod", "softmax", "squeeze", "std", "std_mean", "sum"),
            *("trapezoid", "unbind", "unique", "unsqueeze", "var", "var_mean"),
        )
    },
    "chunk": lambda t, **axis: tk.chunk(t, 2, **axis),
    "concatenate": lambda t, **axis: tk.concatenate([t, t], **axis),
    "cross": lambda t, **axis: tk.cross(t, t[::-1], **axis),
    "gather": lambda t, **axis: tk.gather(t, index=INDEX, **axis),
    "index_select": lambda t, **axis: tk.index_select(t, index=[1, 0], **axis),
    "repeat_interleave": lambda t, **axis: tk.repeat_interleave(t, 2, **axis),
    "roll": lambda t, **axis: tk.roll(t, 1, **axis),
    "quantile": lambda t, **axis: tk.quantile(t, 0.3, **axis),
    "scatter": lambda t, **axis: tk.scatter(t, index=INDEX, src=t, **axis),
    "scatter_reduce": lambda t, **axis: tk.scatter_reduce(
        t, index=INDEX, src=t, reduce="mean", **axis
    ),
    "scatter_add": lambda t, **axis: tk.scatter_add(t, index=INDEX, src=t, **axis),
    "split": lambda t, **axis: tk.split(t, [1, 2], **axis),
    "stack": lambda t, **axis: tk.stack([t, t], **axis),
    "take": lambda t, **axis: tk.take(t, [1, 0], **axis),
    "take_along_axis": lambda t, **axis: tk.take_along_axis(t, INDEX, **axis),
    "topk": lambda t, **axis: tk.topk(t, 2, **axis),
    "unflatten": lambda t, **axis: t.unflatten(sizes=(3, 1), **axis),
    "Tensor.softmax": lambda t, **axis: t.softmax(**axis),
    "Tensor.log_softmax": lambda t, **axis: t.log_softmax(**axis),
    "Tensor.norm": lambda t, **axis: t.norm(1, **axis),
    "Tensor.sum": lambda t, **axis: t.sum(**axis),
    "linalg.norm": lambda t, **axis: tk.linalg.norm(t, **axis),
    "linalg.vecdot": lambda t, **axis: tk.linalg.vecdot(t, t, **axis),
    "linalg.vector_norm": lambda t, **axis: tk.linalg.vector_norm(t, **axis),
    "F.softmin": lambda t, **axis: F.softmin(t, **axis),
    "F.maxout": lambda t, **axis: F.maxout(t, 3, **axis),
    "F.normalize": lambda t, **axis: F.normalize(t, **axis),
    "F.cosine_similarity": lambda t, **axis: F.cosine_similarity(t, t[::-1], **axis),
    "nn.Softmax": lambda t, **axis: nn.Softmax(**axis)(t),
    "nn.LogSoftmax": lambda t, **axis: nn.LogSoftmax(**axis)(t),
    "nn.Maxout": lambda t, **axis: nn.Maxout(3, **axis)(t),
    "nn.Unflatten": lambda t, **axis: nn.Unflatten(unflattened_size=(1, 3), **axis)(t),
}


def parts_of(found: Any) -> list[Any]:
    return list(found) if isinstance(found, tuple) else [found]


@pytest.mark.parametrize("name", BY_AXIS)
def test_axis_and_dim_are_one_argument(name: str) -> None:
    call, t = BY_AXIS[name], Tensor(X)
    by_axis, by_dim = parts_of(call(t, axis=1)), parts_of(call(t, dim=1))
    for a, b in zip(by_axis, by_dim, strict=True):
        np.testing.assert_array_equal(a.data, b.data, strict=True)
    with pytest.raises(TypeError, match=r"expected (axis|axes|dim) once, got (axis|dim) and"):
        call(t, axis=1, dim=1)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (lambda t: t.sum(1, keepdim=True), lambda t: t.sum(1, keepdims=True)),
        (lambda t: t.max(1, keepdims=True).values, lambda t: t.max(axis=1, keepdims=True)),
        (lambda t: t.max(axis=1, keepdim=True), lambda t: t.max(axis=1, keepdims=True)),
        (lambda t: t.norm(dim=(0, 1), keepdim=True), lambda t: t.norm(axis=(0, 1), keepdims=True)),
        (
            lambda t: tk.linalg.matrix_norm(t, dim=(0, 1), keepdim=True),
            lambda t: tk.linalg.matrix_norm(t, axis=(0, 1), keepdims=True),
        ),
        (lambda t: t.flip(dims=(0, 2)), lambda t: t.flip(0, 2)),
        (lambda t: t.flip(axis=(0, 2)), lambda t: t.flip((0, 2))),
        (lambda t: t.flip(axes=(0, 2)), lambda t: t.flip(0, 2)),
        (lambda t: t.flip(axis=None), lambda t: t.flip()),
        (lambda t: t.roll(shifts=(1, 2), dims=(0, 1)), lambda t: t.roll((1, 2), (0, 1))),
        (lambda t: t.rot90(dims=(2, 0)), lambda t: t.rot90(axes=(2, 0))),
        (lambda t: t.nansum(1, keepdim=True), lambda t: t.nansum(1, keepdims=True)),
        (lambda t: t.quantile(0.3, 1, keepdim=True), lambda t: t.quantile(0.3, 1, True)),
        (lambda t: tk.var_mean(t, False)[0], lambda t: t.var(correction=0)),
        (lambda t: tk.std_mean(t, 1, unbiased=False)[0], lambda t: t.std(1, correction=0)),
        (lambda t: t.permute(dims=(2, 0, 1)), lambda t: t.permute(2, 0, 1)),
        (lambda t: t.permute(axes=(2, 0, 1)), lambda t: t.permute(2, 0, 1)),
        (lambda t: t.transpose(axes=(2, 0, 1)), lambda t: t.permute(2, 0, 1)),
        (lambda t: t.transpose(dim0=0, dim1=2), lambda t: t.swapaxes(0, 2)),
        (lambda t: t.swapaxes(dim1=0, dim2=2), lambda t: t.swapaxes(axis1=0, axis2=2)),
        (lambda t: t.diagonal(1, dim1=0, dim2=2), lambda t: t.diagonal(1, 0, 2)),
        (lambda t: t.diagonal(axis1=1, axis2=0), lambda t: t.diagonal(0, 1, 0)),
        (lambda t: t.trace(dim1=1, dim2=2), lambda t: t.trace(0, 1, 2)),
        (
            lambda t: tk.linalg.diagonal(t, axis1=0, axis2=1),
            lambda t: tk.linalg.diagonal(t, dim1=0, dim2=1),
        ),
        (lambda t: tk.tensordot(t, t, dims=([0], [0])), lambda t: tk.tensordot(t, t, ([0], [0]))),
    ],
)
def test_other_names_of_one_argument(mine: Call, theirs: Call) -> None:
    np.testing.assert_array_equal(mine(Tensor(X)).data, theirs(Tensor(X)).data, strict=True)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda t: t.sum(1, dim=1), "sum: expected axis once, got one without a name and dim"),
        (lambda t: t.max(1, axis=1), "max: expected dim once, got one without a name and axis"),
        (lambda t: t.flip(0, dims=1), "flip: expected axes once, got one without a name and dims"),
        (lambda t: t.flip(axis=0, dims=1), "flip: expected axes once, got axis and dims. Leave"),
        (lambda t: t.sum(1, keepdim=True, keepdims=True), "sum: expected keepdims once, got"),
        (lambda t: t.diagonal(axis1=0, dim1=1), "diagonal: expected axis1 once, got axis1 and dim"),
        (lambda t: nn.Softmax(1, axis=1), "Softmax: expected dim once, got one without a name"),
        (lambda t: t.transpose(dim0=0), "transpose: expected axes, or dim0 and dim1, got (), 0"),
        (lambda t: t.transpose(0, 1, 2, dim0=0, dim1=1), "transpose: expected axes, or dim0 and"),
        (lambda t: t.sum(along=1), "unexpected keyword argument 'along'"),
        (lambda t: t.sum(along=1, dim=1), "unexpected keyword argument 'along'"),
    ],
)
def test_an_argument_by_two_names_is_refused(call: Call, said: str) -> None:
    with pytest.raises(TypeError) as raised:
        call(Tensor(X))
    assert said in str(raised.value)


# ------------------------------------------------------------------ PyTorch's options


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "cumsum", "cumprod"])
def test_dtype_converts_first(name: str) -> None:
    t = Tensor(np.array([[0.1, 0.2], [3.0, 4.0]], np.float32), requires_grad=True)
    wide = getattr(t, name)(0, dtype=np.float64)
    expected = getattr(np, name)(t.data.astype(np.float64), 0)
    np.testing.assert_array_equal(wide.data, expected, strict=True)
    wide.sum().backward()
    assert t.grad is not None and t.grad.dtype == np.float32
    if name != "mean":
        whole = getattr(Tensor([1.6, 2.0]), name)(0, dtype=np.int64)
        np.testing.assert_array_equal(whole.data, getattr(np, name)([1, 2], 0), strict=True)
    assert getattr(tk, name)([1, 2], 0, dtype=np.float64).dtype == np.float64


def test_a_mean_of_integers_is_refused() -> None:
    with pytest.raises(TypeError, match="mean: expected a floating dtype, got int64"):
        Tensor([1.0]).mean(dtype=np.int64)


@pytest.mark.parametrize("name", ["var", "std"])
def test_unbiased_and_correction(name: str) -> None:
    call, numpys = getattr(Tensor(X), name), getattr(np, name)
    for found, ddof in (
        (call(0), 1),
        (call(0, unbiased=False), 0),
        (call(0, unbiased=True), 1),
        (call(0, correction=0), 0),
        (call(0, correction=1.5), 1.5),
        (call(0, ddof=0), 0),
    ):
        np.testing.assert_allclose(found.data, numpys(X, 0, ddof=ddof), rtol=1e-12)
    np.testing.assert_allclose(call(False).data, numpys(X), rtol=1e-12)
    np.testing.assert_allclose(call(True).data, numpys(X, ddof=1), rtol=1e-12)
    with pytest.warns(DeprecationWarning, match=f"{name}: the argument after the axis is unb") as w:
        found = call(0, False)
    assert w[0].filename == __file__
    np.testing.assert_allclose(found.data, numpys(X, 0), rtol=1e-12)
    with pytest.raises(TypeError, match=f"{name}: expected one of unbiased, correction and ddof"):
        call(0, unbiased=True, correction=1)


@pytest.mark.parametrize("as_method", [False, True])
def test_alpha_scales_the_second(as_method: bool) -> None:
    t = Tensor([1.0, 2.0], requires_grad=True)
    other = Tensor([3.0, 4.0], requires_grad=True)
    add, sub = (
        (t.add, t.sub)
        if as_method
        else (
            lambda *a, **k: tk.add(t, *a, **k),
            lambda *a, **k: tk.sub(t, *a, **k),
        )
    )
    assert add(other, alpha=2).tolist() == [7.0, 10.0]
    assert sub([3.0, 4.0], alpha=0.5).tolist() == [-0.5, 0.0]
    assert add(1).tolist() == [2.0, 3.0] and sub(1).tolist() == [0.0, 1.0]
    sub(other, alpha=3).sum().backward()
    assert t.grad is not None and t.grad.tolist() == [1.0, 1.0]
    assert other.grad is not None and other.grad.tolist() == [-3.0, -3.0]
    whole = Tensor([1, 2]).add(Tensor([1, 1]), alpha=2)
    assert whole.dtype == np.int64 and whole.tolist() == [3, 4]
    assert add([3.0, 4.0], alpha=2).dtype == np.float32


def test_rounding_mode() -> None:
    a, b = np.array([7, -7, 6, -6, 1, -1, 0]), np.array([2, 2, -3, 3, -5, 5, 4])
    for dtype in (np.int64, np.float32):
        x, y = Tensor(a.astype(dtype)), Tensor(b.astype(dtype))
        floor, trunc = x.div(y, rounding_mode="floor"), tk.divide(x, y, rounding_mode="trunc")
        np.testing.assert_array_equal(floor.data, np.floor(a / b).astype(dtype), strict=True)
        np.testing.assert_array_equal(trunc.data, np.trunc(a / b).astype(dtype), strict=True)
    np.testing.assert_allclose(tk.div(Tensor(a), Tensor(b)).data, (a / b).astype(np.float32))
    large = 2**62 + 1
    assert Tensor([-large]).div(2, rounding_mode="trunc").tolist() == [-(large // 2)]
    with pytest.raises(ValueError, match=r'^div: expected rounding_mode None, "trunc" or "floor"'):
        tk.div(1, 2, rounding_mode="round")


def test_random_tensors_of_a_dtype() -> None:
    whole = Tensor([[1, 2]])
    assert tk.rand_like(whole, dtype=np.float64).dtype == np.float64
    assert tk.randn_like(Tensor(X), dtype=np.float32, requires_grad=True).requires_grad
    with pytest.raises(TypeError, match="expected floats, got int64"):
        tk.rand_like(whole)
    assert tk.randint(3, (4,), dtype=np.float32).dtype == np.float32
    assert tk.randint(3, (4,)).dtype == tk.randperm(3).dtype == np.int64
    assert tk.randperm(3, dtype=np.int32).dtype == np.int32
    drawn = tk.randint_like(Tensor(X), 2, 4)
    assert drawn.shape == X.shape and drawn.dtype == X.dtype and set(drawn.data.ravel()) == {2, 3}
    assert tk.randint_like(whole, 2, dtype=np.float64).dtype == np.float64
    for name in ("zeros_like", "ones_like", "empty_like"):
        assert getattr(tk, name)(whole, dtype=np.float32).dtype == np.float32


# ------------------------------------------------------------------ what PyTorch has and we lack


@pytest.mark.parametrize(
    "make",
    [
        lambda **device: tk.tensor([1.0], **device),
        lambda **device: tk.zeros(2, **device),
        lambda **device: tk.eye(2, **device),
        lambda **device: tk.arange(2, **device),
        lambda **device: tk.ones_like(V, **device),
        lambda **device: tk.rand(2, **device),
        lambda **device: tk.randint(0, 2, (2,), **device),
        lambda **device: nn.Linear(2, 3, **device),
        lambda **device: nn.Conv2d(1, 2, 3, **device),
        lambda **device: nn.LSTM(2, 3, **device),
        lambda **device: nn.BatchNorm1d(2, **device),
    ],
)
def test_a_device_is_refused_with_the_fix(make: Call) -> None:
    make(device=None)
    with pytest.raises(TypeError, match=r"expected no device, got 'cuda'\. Leave it out"):
        make(device="cuda")


@pytest.mark.parametrize("thing", [Tensor([1.0]), nn.Linear(2, 3)])
def test_there_is_no_gpu_to_go_to(thing: Any) -> None:
    with pytest.raises(TypeError, match=r"expected a dtype, got the device 'cuda'\. Leave it out"):
        thing.cuda()
    with pytest.raises(TypeError, match=r"expected a dtype, got the device 'cpu'\. Leave it out"):
        thing.cpu()
    with pytest.raises(TypeError, match=r"expected no device, got 'cuda'\. Leave it out"):
        thing.to(device="cuda")


def test_a_module_of_the_users_may_have_a_device() -> None:
    class Net(nn.Module):
        def __init__(self, device: str) -> None:
            self.device = device

    assert Net(device="mine").device == "mine"


@pytest.mark.parametrize(
    ("name", "instead"),
    [("erf", "tk.erf"), ("expit", "tk.sigmoid"), ("log_expit", "F.logsigmoid")],
)
def test_a_ufunc_of_scipy_names_ours(name: str, instead: str) -> None:
    ufunc: Any = type("Ufunc", (), {"__name__": name})()
    with pytest.raises(TypeError, match=rf"scipy\.special\.{name} .*Use {instead}\(t\), or \.det"):
        Tensor(V).__array_ufunc__(ufunc, "__call__", Tensor(V))
    with pytest.raises(TypeError, match=r"^lgamma.* is not supported on Tensors. Use \.detach\(\)"):
        np.frompyfunc(math.lgamma, 1, 1)(Tensor(V))
