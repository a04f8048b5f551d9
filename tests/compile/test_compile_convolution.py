"""Convolution and pooling, compiled: as the eager run has them, in whatever geometry, and fused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import harness
import numpy as np
import pytest
from harness import native_of, needs_compiler
from training import training_step

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn
from tinygrad_kr.compile import Compiled
from tinygrad_kr.compile.ir.ops import _window_first
from tinygrad_kr.compile.passes.expand import expanded
from tinygrad_kr.compile.passes.pooling import with_pooling_rewritten
from tinygrad_kr.compile.passes.simplify import simplified
from tinygrad_kr.compile.plan.steps import Call, Pooling, TiledConvolution
from tinygrad_kr.native import choice, kernels
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops import window as w
from tinygrad_kr.ops.reduction import sum_

RANDOM = np.random.default_rng(5)
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}

GEOMETRIES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((7, 3, 8, 9), (5, 3, 3, 3), {"padding": 1}),
    ((3, 1, 8, 8), (4, 1, 3, 3), {"padding": 1}),
    ((2, 4, 9, 7), (6, 4, 3, 2), {"stride": 2, "padding": 1}),
    ((2, 2, 11, 12), (3, 2, 3, 3), {"dilation": 2, "padding": 2}),
    ((2, 2, 6, 6), (3, 2, 5, 5), {"padding": 4, "stride": 3}),
    ((2, 3, 8, 10), (4, 3, 1, 3), {"padding": (0, 2), "stride": (2, 1)}),
    ((4, 3, 13), (5, 3, 4), {"padding": 2, "stride": 2}),
    ((4, 3, 13), (5, 3, 3), {"padding": 3, "dilation": 2}),
]
POOLS: list[dict[str, Any]] = [
    {"kernel_size": 2},
    {"kernel_size": 2, "stride": 1},
    {"kernel_size": 3, "stride": 2},
    {"kernel_size": 1, "stride": 2},
]


def draw(*shape: int, dtype: str) -> Tensor:
    return Tensor(RANDOM.standard_normal(shape).astype(dtype))


def pool_of(x: Any, pool: dict[str, Any] | None) -> Any:
    if pool is None:
        return x
    return (F.max_pool1d if x.ndim == 3 else F.max_pool2d)(x, **pool)


def net(
    settings: dict[str, Any], relu: str | None, pool: dict[str, Any] | None, flat: bool = False
) -> Callable[..., tuple[Any, ...]]:
    """Value and gradients of a convolution, relu and pool, weighed by a cotangent."""

    def value(x: Any, weight: Any, bias: Any) -> Any:
        y = (F.conv1d if x.ndim == 3 else F.conv2d)(x, weight, bias, **settings)
        y = F.relu(y) if relu == "before" else y
        y = pool_of(y, pool)
        y = F.relu(y) if relu == "after" else y
        return y.reshape(len(y), -1) if flat else y

    def function(x: Any, weight: Any, bias: Any) -> tuple[Any, ...]:
        leaves = [v.detach().requires_grad_() for v in (x, weight, bias)]
        y = value(*leaves)
        g = np.linspace(0.5, 1.5, y.size, dtype=y.dtype).reshape(y.shape)
        return y.detach(), *tk.autograd.grad((y * y * g).sum(), leaves)

    return function


def compare(function: Callable[..., Any], arrays: list[Tensor], tolerance: float) -> Compiled:
    return harness.compare(function, *arrays, scales=[1] * 4, rtol=tolerance, of_largest=True)


def steps_of(function: Compiled) -> list[Any]:
    return native_of(function).plan.steps


def called(compiled: Compiled) -> set[str]:
    return {s.instruction.op.__name__ for s in steps_of(compiled) if isinstance(s, Call)}


@pytest.mark.one_in(5)
@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_convolution_alone(geometry: Any, dtype: str) -> None:
    shape, weight, settings = geometry
    arrays = [draw(*shape, dtype=dtype), draw(*weight, dtype=dtype), draw(weight[0], dtype=dtype)]
    compiled = compare(net(settings, None, None), arrays, TOLERANCE[dtype])
    assert not called(compiled) & {"convolve", "convolve_weight", "convolve_transposed"}


@pytest.mark.one_in(9)
@needs_compiler
@pytest.mark.parametrize("relu", ["before", "after", None])
@pytest.mark.parametrize("pool", [*POOLS, None], ids=str)
@pytest.mark.parametrize("shape", [(5, 2, 7, 8), (5, 2, 9)], ids=["2-D", "1-D"])
def test_convolution_with_relu_and_pool(
    shape: tuple[int, ...], pool: Any, relu: str | None
) -> None:
    kernel = (3,) * (len(shape) - 2)
    for flat in (False, True):
        arrays = [draw(*s, dtype="float64") for s in (shape, (6, 2, *kernel), (6,))]
        compiled = compare(net({"padding": 1}, relu, pool, flat), arrays, 1e-12)
        assert not called(compiled) & {"convolve", "max_pool", "max_unpool", "max_pool_vjp"}


@pytest.mark.one_in(2)
@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ties_nan_and_infinities_are_where_the_eager_run_has_them(dtype: str) -> None:
    x = RANDOM.integers(-1, 2, (3, 2, 8, 8)).astype(dtype)
    weight = RANDOM.integers(-1, 2, (4, 2, 3, 3)).astype(dtype)
    arrays = [x, weight, np.zeros(4, dtype)]
    for pool in POOLS:
        compare(net({"padding": 1}, "before", pool), [Tensor(a) for a in arrays], 1e-6)
    for special in (np.nan, np.inf, -np.inf):
        for where in range(3):
            spoiled = [a.copy() for a in arrays]
            spoiled[where].flat[1] = special
            for relu in ("before", None):
                function = net({"padding": 1}, relu, POOLS[0])
                compare(function, [Tensor(a) for a in spoiled], 1e-6)


@pytest.mark.one_in(3)
@needs_compiler
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_pooling_alone(pool: dict[str, Any], last: bool) -> None:
    x = RANDOM.integers(-2, 3, (2, 6, 7, 20) if last else (2, 20, 6, 7)).astype(np.float32)
    x.flat[[3, 4, 50]] = np.nan

    def function(x: Any) -> tuple[Any, ...]:
        x = x.detach().requires_grad_()
        y = pool_of(x.permute(0, 3, 1, 2) if last else x, pool)
        g = np.linspace(0.5, 1.5, y.size, dtype=np.float32).reshape(y.shape)
        return y.detach(), *tk.autograd.grad(y, [x], Tensor(g))

    compiled = compare(function, [Tensor(x)], 1e-6)
    ops = [s.instruction.op for s in steps_of(compiled) if isinstance(s, Pooling)]
    assert ops == [w.max_pool, _window_first, w.max_unpool]


@pytest.mark.exact
@pytest.mark.trains
@needs_compiler
def test_a_convolutional_net_trains_as_it_does_eagerly() -> None:
    def trained(wrap: Callable[[Any], Any]) -> tuple[list[float], list[Any], Any]:
        tk.manual_seed(3)
        model = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(16 * 9, 5)),
        )
        for parameter in model.parameters():
            parameter.data = Tensor(np.asarray(parameter.data, np.float64))
        random = np.random.default_rng(0)
        x, y = Tensor(random.standard_normal((20, 1, 12, 12))), Tensor(random.integers(0, 5, 20))
        step = wrap(training_step(model, tk.optim.Adam(model.parameters(), lr=0.01)))
        losses = [float(step(x, y)) for _ in range(12)]
        return losses, [np.asarray(p.grad) for p in model.parameters()], step

    expected, gradients, _ = trained(lambda step: step)
    losses, found, compiled = trained(Compiled)
    assert losses[-1] < 0.9 * losses[0]
    np.testing.assert_allclose(losses, expected, 1e-11)
    for got, want in zip(found, gradients, strict=True):
        np.testing.assert_allclose(got, want, 1e-9, 1e-11)
    groups = [s for s in steps_of(compiled) if isinstance(s, TiledConvolution)]
    forward = {w.convolve, w.max_pool, _window_first, e.relu}
    backward = {e.where_or_zero, w.max_unpool, w.convolve_weight, sum_}
    members = [{s.op for s in group.instructions} for group in groups]
    assert members == [forward, forward, backward | {w.convolve_transposed}, backward]
    by_c = kernels.has_kernels() and choice.made("float64") != choice.BLAS
    assert called(compiled) == (set() if by_c else {"matmul"})


@needs_compiler
@pytest.mark.parametrize("case", ["groups", "no samples"])
def test_what_has_no_plan_of_its_own_is_called(case: str) -> None:
    groups, samples = (2, 3) if case == "groups" else (1, 0)
    shapes = [(samples, 4, 5, 5), (6, 4 // groups, 3, 3), (6,)]
    arrays = [draw(*shape, dtype="float64") for shape in shapes]
    compiled = compare(net({"groups": groups}, None, None), arrays, 1e-12)
    assert "convolve" in called(compiled)


@needs_compiler
def test_transposed_convolution_and_second_derivatives() -> None:
    def function(x: Any, weight: Any) -> tuple[Any, ...]:
        x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
        y = F.conv_transpose2d(x, weight, stride=2, padding=1)
        gx, gw = tk.autograd.grad((y**3).sum(), [x, weight], create_graph=True)
        return y.detach(), *tk.autograd.grad((gx * gx).sum() + (gw**2).sum(), [x, weight])

    arrays = [draw(3, 4, 5, 6, dtype="float64"), draw(4, 2, 3, 3, dtype="float64")]
    compiled = compare(function, arrays, 1e-11)
    assert not called(compiled) & {"convolve", "convolve_weight", "convolve_transposed"}


def recorded(function: Callable[..., Any], *arrays: Tensor) -> Any:
    """The program as it is before any pass over windows."""
    compiled = Compiled(function)
    for _ in range(3):
        compiled(*arrays)
    (entry,) = compiled._specialisations()
    assert entry.tracer is not None
    return simplified(expanded(simplified(entry.tracer.program)))


def relu_pool(use: str) -> Callable[[Any], Any]:
    def function(x: Any) -> Any:
        x = x.detach().requires_grad_()
        r = F.relu(x)
        (g,) = tk.autograd.grad((F.max_pool2d(r, 2) * 3).sum(), [x])
        return {"alone": g, "kept": (g, r.detach()), "read": (g, r.detach() * 2)}[use]

    return function


def test_relu_moves_behind_the_maximum_unless_it_is_read_otherwise() -> None:
    x = draw(2, 3, 4, 4, dtype="float64")
    for use, size in (("alone", 2), ("kept", 4), ("read", 4)):
        shape = (2, 3, size, size)
        program = with_pooling_rewritten(recorded(relu_pool(use), x))
        relus = [s for s in program.instructions if s.op is e.relu]
        assert [s.output.shape for s in relus] == [shape]
        masks = [s for s in program.instructions if s.op is e.where_or_zero]
        assert [s.output.shape for s in masks] == [shape]


def test_the_first_largest_is_looked_for_once() -> None:
    program = recorded(relu_pool("alone"), draw(2, 3, 4, 4, dtype="float64"))
    assert sum(s.op is w.max_pool_vjp for s in program.instructions) == 1
    instructions = with_pooling_rewritten(program).instructions
    (first,) = [s for s in instructions if s.op is _window_first]
    (put,) = [s for s in instructions if s.op is w.max_unpool]
    assert put.params["index"] is first.output
    assert first.output.dtype == np.int8
    assert not [s for s in instructions if s.op is w.max_pool_vjp]


@pytest.mark.parametrize("window", [{"kernel_size": 2}, {"kernel_size": 3, "stride": 1}])
def test_second_derivatives_of_pooling_follow_the_largest_elements(window: dict[str, int]) -> None:
    def total(x: Any) -> Any:
        return tk.sin(F.max_pool2d(x, **window)).sum()

    second = tk.grad(lambda x: tk.grad(total)(x).square().sum())
    harness.compare(second, tk.tensor(np.random.default_rng(1).normal(size=(2, 1, 6, 6))))
