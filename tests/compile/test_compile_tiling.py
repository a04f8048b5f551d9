"""Convolutions in C: sizes at every edge, whichever way they are divided, threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from harness import native_of, needs_compiler
from numpy import ndarray
from numpy_alone import without_our_products
from platforms import needs_fork
from test_compile_convolution import GEOMETRIES, POOLS, compare, draw, net, steps_of
from training import training_step

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim
from tinygrad_kr.compile import Compiled
from tinygrad_kr.compile.plan import tiling
from tinygrad_kr.compile.plan.steps import Call, TiledConvolution
from tinygrad_kr.compile.plan.tiling import division, scratch
from tinygrad_kr.native import cpu, kernels

Geometry = tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]

EDGES: list[Geometry] = [
    ((5, 1, 9, 7), (1, 1, 3, 3), {"padding": 1}),
    ((1, 3, 10, 11), (10, 3, 3, 3), {}),
    ((7, 33, 6, 5), (65, 33, 3, 3), {"padding": 1}),
    ((3, 33, 9, 9), (10, 33, 2, 3), {"stride": 2, "dilation": 2, "padding": 1}),
    ((3, 3, 4, 4), (65, 3, 7, 6), {"padding": 3}),
    ((2, 2, 3, 3), (3, 2, 5, 5), {"padding": 2, "dilation": 1, "stride": 3}),
    ((9, 16, 6, 6), (32, 16, 1, 1), {}),
    ((40, 4, 5, 5), (31, 4, 5, 5), {}),
    ((11, 3, 29), (33, 3, 5), {"stride": 3, "padding": 4}),
    ((1, 1, 1, 1), (1, 1, 1, 1), {}),
]


def divide(monkeypatch: pytest.MonkeyPatch, pieces: int = 5, block: int = 2**11) -> None:
    """Small convolutions in as many parts as large ones: pieces, samples and lines of windows."""
    monkeypatch.setattr(tiling, "MAX_PIECES", pieces)
    monkeypatch.setattr(tiling, "MIN_PIECE_WORK", 1)
    monkeypatch.setattr(tiling, "BLOCK_BYTES", block)
    monkeypatch.setattr(tiling, "MIN_WINDOWS", 1)


def arrays(geometry: Geometry, dtype: str = "float32") -> list[Tensor]:
    shape, weight, _ = geometry
    return [draw(*s, dtype=dtype) for s in (shape, weight, weight[:1])]


def kinds(compiled: Compiled) -> set[type]:
    steps = {type(step) for step in steps_of(compiled)}
    return steps & {Call, TiledConvolution}


# ------------------------------------------------------------------ what is computed


@pytest.mark.one_in(7)
@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("divided", [True, False], ids=["divided", "whole"])
@pytest.mark.parametrize("geometry", [*EDGES, *GEOMETRIES], ids=str)
def test_every_geometry(
    geometry: Geometry, divided: bool, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if divided:
        divide(monkeypatch)
    tolerance = {"float32": 2e-5, "float64": 1e-12}[dtype]
    compiled = compare(net(geometry[2], None, None), arrays(geometry, dtype), tolerance)
    assert kinds(compiled) == {TiledConvolution}


@pytest.mark.one_in(7)
@needs_compiler
@pytest.mark.parametrize("relu", ["before", "after", None])
@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_relu_and_pool(pool: Any, relu: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    divide(monkeypatch)
    geometry = ((7, 2, 7, 8), (6, 2, 3, 3), {"padding": 1})
    for flat in (False, True):
        compiled = compare(net(geometry[2], relu, pool, flat), arrays(geometry), 2e-5)
        assert kinds(compiled) == {TiledConvolution}


def gradient_of(which: int) -> Callable[..., Any]:
    def function(x: Any, weight: Any) -> Any:
        leaves = [v.detach() for v in (x, weight)]
        leaves[which].requires_grad_()
        y = F.conv2d(*leaves, padding=1)
        return tk.autograd.grad((y * y).sum(), [leaves[which]])

    return function


@pytest.mark.one_in(2)
@needs_compiler
@pytest.mark.parametrize("which", [0, 1], ids=["input", "weight"])
def test_one_gradient_alone(which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is scratch memory for what is computed, and for nothing else."""
    divide(monkeypatch)
    given = arrays(((6, 3, 8, 8), (5, 3, 3, 3), {}))[:2]
    compiled = compare(gradient_of(which), given, 2e-5)
    backward = [s for s in steps_of(compiled) if isinstance(s, TiledConvolution)][-1]
    assert ("whole" in backward.arrays) == (which == 1)
    assert ("panels" in backward.arrays) == (which == 0)


@needs_compiler
def test_what_lies_beyond_the_edges_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles read it: there may be anything, NaN among others."""
    divide(monkeypatch)
    geometry = EDGES[2]
    given = arrays(geometry)
    compiled = compare(net(geometry[2], "before", POOLS[0]), given, 2e-5)
    before = [np.asarray(y).copy() for y in compiled(*given)]
    native = native_of(compiled)
    native.arena.memory.fill(255)  # every float32 a NaN
    for now, then in zip(compiled(*given), before, strict=True):
        np.testing.assert_array_equal(np.asarray(now), then)


@needs_compiler
def test_nan_stays_in_its_sample_and_output() -> None:
    given = [np.array(t) for t in arrays(((6, 3, 8, 8), (65, 3, 3, 3), {}))]
    given[0][4], given[1][64] = np.nan, np.inf
    compiled = Compiled(lambda x, weight, bias: F.conv2d(x, weight, bias, padding=1))
    with np.errstate(invalid="ignore"):
        for _ in range(3):
            y = np.asarray(compiled(*map(Tensor, given)))
    assert kinds(compiled) == {TiledConvolution}
    finite = np.ones(y.shape, bool)
    finite[4] = finite[:, 64] = False
    np.testing.assert_array_equal(np.isfinite(y), finite)


@pytest.mark.one_in(7)
@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("geometry", [*EDGES, *GEOMETRIES], ids=str)
def test_without_threads_of_our_own(
    geometry: Geometry, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows: tiles of 16 bytes, on the calling thread."""
    without_our_products(monkeypatch)
    divide(monkeypatch)
    tolerance = {"float32": 2e-5, "float64": 1e-12}[dtype]
    compiled = compare(net(geometry[2], "before", None), arrays(geometry, dtype), tolerance)
    assert kinds(compiled) == {TiledConvolution}
    assert "TK_AVX" not in compiled.source


# ------------------------------------------------------------------ who computes it


def results(geometry: Geometry, given: list[Tensor]) -> list[ndarray]:
    compiled = Compiled(net(geometry[2], "before", None))
    for _ in range(3):
        found = compiled(*given)
    for _ in range(20):
        again = compiled(*given)
        for y, z in zip(found, again, strict=True):
            np.testing.assert_array_equal(np.asarray(y), np.asarray(z))
    assert kinds(compiled) == {TiledConvolution}
    return [np.asarray(y) for y in found]


@pytest.mark.slow
@needs_compiler
def test_several_threads_give_the_bits_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    divide(monkeypatch, pieces=7, block=2**13)
    geometry = ((23, 5, 12, 11), (17, 5, 3, 3), {"padding": 1})
    given = arrays(geometry)
    found = []
    for helpers in (0, 1, 3):
        monkeypatch.setattr(cpu, "helpers", lambda helpers=helpers: helpers)
        found.append(results(geometry, given))
    for several in found[1:]:
        for y, z in zip(several, found[0], strict=True):
            np.testing.assert_array_equal(y, z)


@needs_compiler
def test_two_python_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the two has the helpers; both are one library, with memory of their own."""
    divide(monkeypatch)
    monkeypatch.setattr(cpu, "helpers", lambda: 3)
    geometry = ((20, 4, 16, 16), (16, 4, 3, 3), {"padding": 1})
    made, expected, wrong = [], [], []
    for _ in range(2):
        given = arrays(geometry)
        compiled = compare(net(geometry[2], None, None), given, 2e-5)
        made.append((compiled, given))
        expected.append([np.asarray(y).copy() for y in compiled(*given)])

    def work(number: int) -> None:
        compiled, given = made[number]
        for _ in range(100):
            for y, z in zip(compiled(*given), expected[number], strict=True):
                if not np.array_equal(np.asarray(y), z):
                    wrong.append(number)

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, range(2)))
    assert not wrong


@needs_compiler
@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_process(monkeypatch: pytest.MonkeyPatch) -> None:
    divide(monkeypatch)
    monkeypatch.setattr(cpu, "helpers", lambda: 3)
    geometry = EDGES[2]
    given = arrays(geometry)
    compiled = compare(net(geometry[2], None, None), given, 2e-5)
    expected = [np.asarray(y).copy() for y in compiled(*given)]
    child = os.fork()
    if child == 0:
        good = all(
            np.array_equal(np.asarray(y), z)
            for _ in range(30)
            for y, z in zip(compiled(*given), expected, strict=True)
        )
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0


# ------------------------------------------------------------------ how it is divided


@pytest.mark.slow
@needs_compiler
def test_a_small_convolution_is_not_handed_out_and_a_large_one_is() -> None:
    for samples, handed in ((1, False), (64, True)):
        geometry = ((samples, 4, 12, 12), (8, 4, 3, 3), {"padding": 1})
        compiled = compare(net(geometry[2], None, None), arrays(geometry), 2e-5)
        assert ("  tk_parallel_for(" in compiled.source) == handed


def convolution(shape: tuple[int, ...], weight: tuple[int, ...]) -> list[TiledConvolution]:
    compiled = Compiled(net({"padding": 1}, None, None))
    for _ in range(3):
        compiled(*arrays((shape, weight, {})))
    return [step for step in steps_of(compiled) if isinstance(step, TiledConvolution)]


@needs_compiler
def test_how_a_convolution_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Into columns that fit a cache, and not by how many threads there are."""
    forward, backward = convolution((3, 40, 64, 64), (64, 40, 3, 3))
    for step in (forward, backward):
        sizes = []
        for helpers in (0, 3):
            monkeypatch.setattr(cpu, "helpers", lambda helpers=helpers: helpers)
            assert division(step.geometry) == (3, 1, 3)
            arrays_of, size = scratch(step, division(step.geometry))
            sizes.append(size)
        rows, columns = kernels.tile()
        read = (3 * 64 + rows - 1) * 360, (64 * 64 + rows - 1) * 64 + columns
        own = arrays_of["columns"].apart, arrays_of["rows"].apart
        assert all(a <= b < a + 16 for a, b in zip(read, own, strict=True))
        assert sizes[1] - sizes[0] == 3 * sum(own)
    monkeypatch.setattr(tiling, "MAX_PIECES", 1)
    assert division(forward.geometry)[:2] == (1, 1)
    monkeypatch.undo()
    large = convolution((8, 256, 5, 5), (512, 256, 3, 3))[1].geometry
    assert division(large).pieces == 4
    assert division(large).lines * 5 >= 50


# ------------------------------------------------------------------ the whole step


def small_net() -> tuple[Callable[..., Any], nn.Module]:
    tk.manual_seed(3)
    model = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(16 * 9, 5)),
    )
    return training_step(model, optim.SGD(model.parameters(), lr=0.01), F.mse_loss), model


@needs_compiler
def test_a_convolutional_net_is_one_c_function_that_runs_again_and_again() -> None:
    x, y = draw(20, 1, 12, 12, dtype="float32"), draw(20, 5, dtype="float32")
    eager, twin = small_net()
    losses = [eager(x, y).item() for _ in range(30)]
    step, model = small_net()
    compiled = tk.compile(step)
    found = [*compiled.repeat(20, x, y).numpy(), *(compiled(x, y).item() for _ in range(10))]
    np.testing.assert_allclose(found, losses, 1e-5)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), 1e-4, 1e-6)
    native = compiled.last_runner
    assert native.looped is not None
    assert native.calls == 0


@needs_compiler
def test_convolutions_share_their_scratch_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = draw(20, 1, 12, 12, dtype="float32"), draw(20, 5, dtype="float32")
    compiled = tk.compile(small_net()[0])
    for _ in range(3):
        compiled(x, y)
    native = compiled.last_runner
    steps = [s for s in native.plan.steps if isinstance(s, TiledConvolution)]
    assert len(steps) == 4
    sizes = [step.scratch.size * 4 for step in steps]
    arena = native.arena.memory
    starts = [native.arena.starts[native.plan.views[step.scratch].root] for step in steps]
    assert all(s >= 0 and s + n <= arena.nbytes for s, n in zip(starts, sizes, strict=True))
    assert native.workspace == arena.nbytes < sum(sizes)
