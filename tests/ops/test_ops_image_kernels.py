"""Kernels for images (norms of channels, pooling, relu) give what NumPy gives, in any order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy import ndarray
from numpy_alone import leave_all_to_numpy

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import nn
from tinygrad_kr.native import compiler
from tinygrad_kr.native.blocks import block_source, declared
from tinygrad_kr.native.build import find_compiler, included
from tinygrad_kr.native.compiler import SOURCE, Compiler, compiled
from tinygrad_kr.ops import channels, kernels, network, window
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.testing import check_grads

needs_c = pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler")
every_float = pytest.mark.parametrize("dtype", [np.float32, np.float64])
every_order = pytest.mark.parametrize("order", ["first", "last", "neither"])
RANDOM = np.random.default_rng(5)


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels compute small arrays too, and threads share them."""
    for name in ("MIN_ELEMENTS", "MIN_SHARED_WORK", "MIN_SELECTED", "MIN_TRANSPOSED"):
        monkeypatch.setattr(kernels, name, 0)


@pytest.fixture
def numpy_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No kernel is found."""
    leave_all_to_numpy(monkeypatch)
    yield


def draw(*shape: int, dtype: Any = np.float64, order: str = "first") -> ndarray:
    """Normal elements, with channels first or last in memory, or with gaps."""
    if order == "last":
        x = RANDOM.standard_normal((shape[0], *shape[2:], shape[1])).astype(dtype)
        return kernels.channels_first(x)
    if order == "neither":
        return RANDOM.standard_normal((*shape, 2)).astype(dtype)[..., 1]
    return RANDOM.standard_normal(shape).astype(dtype)


def same(found: Any, expected: Any) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    tolerance = {np.dtype(np.float32): 4e-5, np.dtype(np.float64): 4e-13}[expected.dtype]
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=tolerance)


# ------------------------------------------------------------------ norms

NORMS = [
    ((3, 5), 0),
    ((700, 3), 0),
    ((33, 16, 8, 8), 0),
    ((1, 1, 7, 5), 0),
    ((2, 70, 3, 3), 0),
    ((300, 2, 2, 2), 0),
    ((2, 3, 40, 41), 0),
    ((2, 4, 3, 2, 3), 0),
    ((5, 6, 9), 1),
    ((5, 6, 9), 3),
    ((2, 6, 9, 5), 6),
    ((7, 12), 4),
]


def norm_of(x: Any, weight: Any, bias: Any, groups: int) -> Any:
    """The norm as a composition of simple ops."""
    across = x.reshape(len(x), groups, -1, *x.shape[2:]) if groups else x
    axis = tuple(range(2, across.ndim)) if groups else (0, *range(2, x.ndim))
    normal = network.normalize(across, axis=axis, eps=1e-5).reshape(x.shape)
    along = (-1, *[1] * (x.ndim - 2))
    return normal * weight.reshape(along) + bias.reshape(along)


def check_norm(shape: tuple[int, ...], groups: int, order: str, dtype: Any, in_c: bool) -> None:
    x = draw(*shape, dtype=dtype, order=order) + dtype(3)
    weight, bias = draw(shape[1], dtype=dtype), draw(shape[1], dtype=dtype)
    g, how = draw(*shape, dtype=dtype), {"groups": groups, "eps": 1e-5}
    leaves = [tk.tensor(each, requires_grad=True) for each in (x, weight, bias)]
    y = norm_of(*leaves, groups)
    y.backward(g)
    found = channels.channel_norm(x, weight, bias, **how)
    same(found, y.detach().numpy())
    slopes = channels._channel_norm_vjp(g, found, x, weight, bias, needs=(True,) * 3, **how)
    for slope, leaf in zip(slopes, leaves, strict=True):
        assert leaf.grad is not None
        same(slope, leaf.grad.numpy())
    computed = channels.channel_norm.kernel(x, weight, bias, **how)
    slopes = channels._channel_norm_vjp_in_c(g, x, weight, groups, 1e-5, None, False)
    assert in_c == (computed is not None) == (slopes is not None)
    if in_c:
        dense = x.copy("K")
        assert channels.channel_norm(dense, weight, bias, **how).strides == dense.strides


@pytest.mark.usefixtures("early")
@every_float
@every_order
@pytest.mark.parametrize(("shape", "groups"), NORMS)
def test_norms_of_channels(shape: tuple[int, ...], groups: int, order: str, dtype: Any) -> None:
    check_norm(shape, groups, order, dtype, in_c=find_compiler() is not None)


@pytest.mark.usefixtures("early", "numpy_only")
@pytest.mark.parametrize(("shape", "groups"), NORMS[2:5] + NORMS[9:])
def test_norms_of_channels_by_numpy(shape: tuple[int, ...], groups: int) -> None:
    check_norm(shape, groups, "last", np.float64, in_c=False)


@pytest.mark.usefixtures("early")
@every_float
@every_order
def test_norms_with_constant_moments(order: str, dtype: Any) -> None:
    x, g = (draw(6, 5, 3, 4, dtype=dtype, order=order) for _ in range(2))
    weight, bias, mean = (draw(5, dtype=dtype) for _ in range(3))
    var, along = (mean**2 + 1).astype(dtype), (5, 1, 1)
    leaves = [tk.tensor(each, requires_grad=True) for each in (x, weight, bias)]
    normal = (leaves[0] - mean.reshape(along)) * (var.reshape(along) + 0.1) ** -0.5
    y = normal * leaves[1].reshape(along) + leaves[2].reshape(along)
    y.backward(g)
    how = {"groups": 0, "eps": 0.1, "known": (mean, var), "fixed": True}
    found = channels.channel_norm(x, weight, bias, **how)
    same(found, y.detach().numpy())
    slopes = channels._channel_norm_vjp(g, found, x, weight, bias, needs=(True,) * 3, **how)
    for slope, leaf in zip(slopes, leaves, strict=True):
        assert leaf.grad is not None
        same(slope, leaf.grad.numpy())


@pytest.mark.usefixtures("early")
def test_moments_far_from_zero() -> None:
    """Squares of the elements would leave no digit of the variance."""
    x = draw(40, 3, 16, 16, dtype=np.float32, order="last") + np.float32(3000)
    mean, var = channels.moments(x, 0)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(var, exact.var((0, 2, 3)), rtol=1e-4)


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize(
    "norm",
    [
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        lambda x, w, b: F.batch_norm(x, tk.ones(4) / 3, tk.ones(4) * 2, w, b),
        lambda x, w, b: F.batch_norm(x, None, None, None, b, training=True) * w[0],
        lambda x, w, b: F.group_norm(x, 2, w, b),
        lambda x, w, b: F.instance_norm(x, None, None, w, b),
    ],
)
def test_norms_have_second_derivatives(norm: Callable[..., Any]) -> None:
    check_grads(norm, (draw(3, 4, 2, 2), draw(4), draw(4)), order=2)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "batch": lambda: nn.BatchNorm2d(6),
    "plain average": lambda: nn.BatchNorm2d(6, momentum=None),
    "no parameters": lambda: nn.BatchNorm2d(6, affine=False),
    "no bias": lambda: nn.BatchNorm2d(6, bias=False),
    "no statistics": lambda: nn.BatchNorm2d(6, track_running_stats=False),
    "group": lambda: nn.GroupNorm(3, 6),
    "group without parameters": lambda: nn.GroupNorm(2, 6, affine=False),
    "instance": lambda: nn.InstanceNorm2d(6),
    "instance with all": lambda: nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
}


def run_layer(name: str, compile: bool = False) -> list[ndarray]:
    """What a layer gives in two steps of training, and in one of evaluation."""
    layer = LAYERS[name]().double()
    generator = np.random.default_rng(2)
    x = tk.tensor(generator.standard_normal((5, 6, 4, 3)), requires_grad=True)
    g = generator.standard_normal((5, 6, 4, 3))

    def step() -> Any:
        x.grad = None
        layer.zero_grad()
        y = layer(x)
        y.backward(g)
        return y.detach()

    run = tk.compile(step) if compile else step
    found = []
    for training in (True, True, False):
        layer.train(training)
        found.append(run().numpy().copy())
        assert x.grad is not None
        found.append(x.grad.numpy().copy())
        found += [p.grad.numpy().copy() for p in layer.parameters() if p.grad is not None]
    return found + [b.numpy().copy() for _, b in layer.named_buffers() if b is not None]


@pytest.mark.parametrize("name", LAYERS)
def test_layers_eager_compiled_and_by_numpy(
    name: str, early: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    eager, replayed = run_layer(name), run_layer(name, compile=True)
    leave_all_to_numpy(monkeypatch)
    for a, b, c in zip(eager, replayed, run_layer(name), strict=True):
        np.testing.assert_allclose(a, c, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(b, c, rtol=1e-9, atol=1e-11)


def test_statistics_that_move_later_change_no_gradient() -> None:
    x, mean, var = tk.tensor(draw(4, 3), requires_grad=True), tk.zeros(3), tk.ones(3)
    mean, var = mean.double(), var.double()
    y = F.batch_norm(x, mean, var, eps=0.0)
    var.fill_(100.0)
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), np.ones((4, 3)))


def test_running_statistics_with_a_gradient_have_one() -> None:
    x, mean = tk.tensor(draw(4, 3)), tk.tensor(np.zeros(3), requires_grad=True)
    F.batch_norm(x, mean, tk.ones(3).double(), eps=0.0).sum().backward()
    assert mean.grad is not None
    np.testing.assert_allclose(mean.grad.numpy(), [-4.0] * 3)


# ------------------------------------------------------------------ windows

WINDOWS = [
    ((2, 3, 9, 11), 2, 2, 1),
    ((1, 1, 5, 5), 3, 2, 1),
    ((2, 300, 6, 6), 2, 1, 2),
    ((2, 5, 17), 3, 3, 1),
    ((1, 4, 700), 2, 2, 1),
    ((3, 7, 8), 1, 1, 1),
    ((2, 3, 9, 8), 3, 4, 2),
]


@pytest.mark.usefixtures("early")
@every_float
@every_order
@pytest.mark.parametrize("pool", ["max_pool", "sum_pool"])
@pytest.mark.parametrize(("shape", "size", "stride", "dilation"), WINDOWS)
def test_pooling(
    shape: tuple[int, ...], size: int, stride: int, dilation: int, pool: str, order: str, dtype: Any
) -> None:
    x, axes = draw(*shape, dtype=dtype, order=order), len(shape) - 2
    if pool == "max_pool":
        x[...] = np.round(x, 1)
        for value in (np.nan, np.inf, -np.inf):
            x[RANDOM.random(shape) < 0.03] = value
    how = {"kernel": (size,) * axes, "stride": (stride,) * axes, "dilation": (dilation,) * axes}
    record = getattr(window, pool)
    y = record.forward.__wrapped__(x, **how)
    g = draw(*y.shape, dtype=dtype)
    found = record(x, **how)
    if find_compiler() is not None:
        assert record.kernel(x, **how) is not None
    if pool == "max_pool":
        np.testing.assert_array_equal(found, y)
        slope, expected = window.max_pool_vjp(g, x, y, **how), window._max_pool_vjp(g, x, y, **how)
    else:
        same(found, y)
        slope = window._sum_pool_vjp(g, x, **how)
        repeated = window._repeated(g, how["kernel"])
        expected = window._fold(repeated, shape=x.shape, **how)
    same(slope, expected)
    if order == "last" and x.shape[1] > 1:
        assert slope.strides == x.strides


@pytest.mark.usefixtures("early")
def test_pooling_has_second_derivatives() -> None:
    check_grads(lambda x: F.max_pool2d(x, 2, 1) ** 2, draw(2, 3, 4, 5), order=2)
    check_grads(lambda x: F.avg_pool2d(x, 3, 2, 1) ** 3, draw(2, 3, 4, 5), order=2)


@pytest.mark.parametrize("order", ["first", "last"])
def test_the_mean_over_one_bin(order: str) -> None:
    x = draw(40, 5, 6, 7, order=order)
    y = F.adaptive_avg_pool2d(tk.tensor(x), 1).numpy()
    np.testing.assert_allclose(y, x.mean((2, 3), keepdims=True), rtol=0, atol=1e-14)
    assert F.adaptive_avg_pool2d(tk.tensor(x[0]), (1, 1)).shape == (5, 1, 1)


@pytest.mark.parametrize("axis", [(1, 2, 3), (2, 3), (0, 2, 3), (0, 3, 2), (3, 1), (0, 1, 2, 3)])
@pytest.mark.parametrize("order", ["first", "last"])
def test_sums_over_several_axes(axis: tuple[int, ...], order: str) -> None:
    x = draw(8, 9, 10, 11, dtype=np.float32, order=order)
    exact = x.astype(np.float64).sum(axis=axis)
    np.testing.assert_allclose(tk.tensor(x).sum(axis).numpy(), exact, atol=2e-5)
    kept = tk.tensor(x).sum(axis, keepdim=True)
    assert kept.shape == x.sum(axis, keepdims=True).shape


# ------------------------------------------------------------------ elements and their order


@pytest.mark.usefixtures("early")
@every_float
@every_order
def test_relu_keeps_the_order(order: str, dtype: Any) -> None:
    x = draw(4, 5, 20, 21, dtype=dtype, order=order)
    x[0, 0, 0, :5] = [np.nan, np.inf, -np.inf, 0.0, -0.0]
    y, g = e.relu(x), draw(4, 5, 20, 21, dtype=dtype)
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    assert y.strides == x.copy("K").strides
    slope = e.relu.rules[0](g, y, x)
    np.testing.assert_array_equal(slope, np.where(y != 0, g, 0))
    assert slope.strides == y.strides


@pytest.mark.usefixtures("early")
@every_float
@every_order
def test_selection(order: str, dtype: Any) -> None:
    a, b = (draw(4, 5, 20, 21, dtype=dtype, order=order) for _ in range(2))
    a[0, 0, 0, :3], mask = [np.nan, np.inf, -np.inf], b > 0
    for chosen in ((a, b), (a, 2.5), (-1, b), (np.nan, b), (a, dtype(3)), (True, b), (a, b[:1])):
        found, expected = e.where(mask, *chosen), np.where(mask, *chosen)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
    np.testing.assert_array_equal(e.where_or_zero(a, mask), np.where(mask, a, 0))
    np.testing.assert_array_equal(e.where_or_zero(a, mask[:1]), np.where(mask[:1], a, 0))
    single = a.astype(np.float32)
    assert e.where(mask, single, np.float64(0)).dtype == np.float64
    if find_compiler() is not None and order != "neither":
        assert kernels.choose(mask, a, b) is not None
        assert kernels.choose(mask, a, 0.0) is not None


@pytest.mark.usefixtures("early")
def test_gelu_keeps_the_order() -> None:
    x, g = draw(4, 5, 6, 7, order="last"), draw(4, 5, 6, 7)
    y = e.gelu(x)
    assert y.strides == x.strides
    same(y, e.gelu.forward.__wrapped__(x))
    same(e._gelu_rule(g, y, x), g * e._gelu_vjp(x, y))


@pytest.mark.usefixtures("early")
@every_float
def test_sigmoid(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x, g = (draw(4, 5, 6, 7, dtype=dtype, order="last") for _ in range(2))
    x[0, 0, 0, :6] = [np.nan, np.inf, -np.inf, 0.0, 88.0, -88.0]
    y = e.sigmoid(x)
    slope = e._sigmoid_rule(g, y, x)
    monkeypatch.setattr(kernels, "MIN_SELECTED", x.size + 1)
    expected = e.sigmoid(x)
    np.testing.assert_allclose(y, expected, rtol=20 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(slope, e._sigmoid_rule(g, y, x))
    assert y.strides == slope.strides == x.strides


@pytest.mark.usefixtures("early")
@every_float
@pytest.mark.parametrize("shape", [(3, 5, 4, 9), (1, 40, 33), (2, 17, 1), (2, 1, 5, 5), (0, 3, 2)])
def test_channels_move(shape: tuple[int, ...], dtype: Any) -> None:
    x = draw(*shape, dtype=dtype)
    last = kernels.with_channels(x, last=True)
    assert last.flags.c_contiguous
    np.testing.assert_array_equal(last, np.moveaxis(x, 1, -1))
    first = kernels.with_channels(kernels.channels_first(last), last=False)
    assert first.flags.c_contiguous
    np.testing.assert_array_equal(first, x)


# ------------------------------------------------------------------ every processor


@pytest.mark.one_in(2)
@needs_c
@pytest.mark.skipif(
    "x86" not in os.uname().machine if hasattr(os, "uname") else True, reason="needs x86"
)
@pytest.mark.parametrize("flag", ["-mno-avx512f", "-mno-avx"])
def test_with_shorter_vectors(
    flag: str, early: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = find_compiler()
    assert found is not None
    other = Compiler(found.command, (*found.flags, flag))
    made: dict[Any, Any] = {}
    for header in ("channels", "pooling", "selection", "orders"):
        source = block_source(header, "float")
        work = tmp_path / header
        work.mkdir()
        library = compiler.load(compiled({SOURCE: source, **included(source)}, other, work))
        made[header, np.dtype(np.float32)] = declared(header, library)
    monkeypatch.setattr(kernels, "_built", made)
    for order in ("first", "last"):
        test_norms_of_channels((2, 70, 3, 3), 0, order, np.float32)
        test_pooling((2, 3, 9, 11), 2, 2, 1, "max_pool", order, np.float32)
        test_relu_keeps_the_order(order, np.float32)
