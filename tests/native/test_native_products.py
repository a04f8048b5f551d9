"""Large matrix products in C: every shape at the edges of tiles, every layout, several threads."""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy import ndarray
from numpy_alone import without_our_products

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.compile.run import c_runner
from tinygrad_kr.compile.run.c_runner import MAX_HOLDING
from tinygrad_kr.native import cpu
from tinygrad_kr.native import kernels as native_kernels
from tinygrad_kr.native.build import build, find_compiler
from tinygrad_kr.native.kernels import has_kernels, tile

pytestmark = pytest.mark.skipif(
    find_compiler() is None or not has_kernels(),
    reason="needs POSIX threads" if find_compiler() else "there is no C compiler",
)


ROWS, COLUMNS = tile()


def multiply(a: Any, b: Any) -> Any:
    return a @ b


def compiled_for(a: ndarray, b: ndarray, tiled: bool = True) -> Any:
    compiled = tk.compile(multiply)
    for _ in range(3):
        compiled(a, b)
    assert ("tk_gemm(" in compiled.source) == tiled, compiled.source
    return compiled


def close(found: ndarray, a: ndarray, b: ndarray) -> None:
    """To the rounding of sums of this length."""
    exact = a.astype(np.float64) @ b.astype(np.float64)
    size = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    assert found.dtype == a.dtype
    unit = {4: 1e-6, 8: 1e-14}[a.itemsize]
    np.testing.assert_array_less(np.abs(found - exact), unit * size + 1e-30)


def normal(*shape: int) -> ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def test_without_our_kernels_blas_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    without_our_products(monkeypatch)
    a, b = normal(200, 100), normal(100, 300)
    close(compiled_for(a, b, tiled=False)(a, b), a, b)


@pytest.mark.parametrize(
    ("rows", "depth", "columns"),
    [(ROWS, 513, COLUMNS), (4 * ROWS - 1, 255, 2 * COLUMNS - 1),
     (4 * ROWS + 1, 257, 3 * COLUMNS + 1), (300, 1, 300)],
)  # fmt: skip
def test_shapes_at_the_edges_of_tiles(rows: int, depth: int, columns: int) -> None:
    a, b = normal(rows, depth), normal(depth, columns)
    close(compiled_for(a, b, tiled=depth > 1)(a, b), a, b)


STACKS = [
    ((3, 100, 90), (90, 70)), ((6, 33, 40), (1, 40, 50)), ((1, 33, 40), (6, 40, 50)),
    ((2, 3, 32, 16), (2, 3, 16, 32)), ((2, 1, 40, 70), (5, 70, 20)), ((2, 3, 4, 20, 33), (33, 20)),
    ((2, 1, 4, 20, 33), (3, 1, 33, 20)), ((400, 9, 8), (400, 8, 16)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("left", "right"), STACKS, ids=str)
def test_stacks(left: tuple[int, ...], right: tuple[int, ...], dtype: Any) -> None:
    """In order, and as transposed views of what another op computes."""
    a, b = normal(*left).astype(dtype), normal(*right).astype(dtype)
    swapped = [a.swapaxes(-1, -2).copy(), b.swapaxes(-1, -2).copy()]
    compiled = tk.compile(lambda a, b, c, d: (a @ b, (c * 2).mT @ (d * 3).mT))
    for n in range(4):
        plain, turned = compiled(a * n, b, swapped[0] * n, swapped[1])
        close(np.asarray(plain), a * n, b)
        close(np.asarray(turned), 6 * n * a, b)
    suffix = "" if dtype == np.float32 else "_f64"
    calls = re.findall(rf"^ +tk_gemm(?:_stack)?{suffix}\(", compiled.source, re.MULTILINE)
    assert len(calls) == 2
    assert "matmul(" not in compiled.source.split("def run")[1]


def test_heads_of_attention_are_one_call() -> None:
    """Of a view (batch, heads, time, size) of (batch, time, heads, size): two strides."""
    x = normal(4, 32, 8 * 16)

    def scores(x: Any) -> Any:
        heads = (x * 1.5).reshape(4, 32, 8, 16).transpose(1, 2)
        return heads @ heads.mT

    compiled = tk.compile(scores)
    for _ in range(3):
        found = compiled(Tensor(x))
    heads = 1.5 * x.reshape(4, 32, 8, 16).swapaxes(1, 2)
    close(found.numpy(), heads, heads.swapaxes(-1, -2))
    assert compiled.source.count("  tk_gemm_stack(") == 1
    assert "for (int64_t n0" not in compiled.source


def test_rows_of_a_stack_that_meet_one_matrix_are_one_product() -> None:
    a, b = normal(7, 50, 40), normal(40, 60)
    assert "  tk_gemm(350, 40, 60, " in compiled_for(a, b).source


@pytest.mark.parametrize(
    ("rows", "depth", "columns"), [(90, 64, 90), (301, 257, 130), (5, 300, 33), (165, 1, 165)]
)
def test_float64(rows: int, depth: int, columns: int) -> None:
    a = normal(rows, depth).astype(np.float64)
    b = normal(columns, depth).astype(np.float64).T
    compiled = tk.compile(multiply)
    for _ in range(3):
        found = compiled(a, b)
    close(found, a, b)
    assert ("  tk_gemm_f64(" in compiled.source) == (depth > 1)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("helpers", [0, 1, 3])
@pytest.mark.parametrize(
    ("rows", "depth", "columns"),
    [(90, 64, 90), (90, 63, 90), (91, 64, 90), (101, 515, 257), (511, 257, 513), (509, 257, 513)],
)
def test_cores_that_copy_all_of_a_small_factor(
    monkeypatch: pytest.MonkeyPatch, rows: int, depth: int, columns: int, helpers: int
) -> None:
    """And, beyond each of the three limits, cores that share copies."""
    monkeypatch.setattr(cpu, "helpers", lambda: helpers)
    a, b = normal(rows, depth), normal(depth, columns)
    compiled = tk.compile(lambda a, b: (a @ b, (a - 1) @ b))
    for n in range(20):
        plain, less = compiled(a * n, b)
        close(plain, a * n, b)
        close(less, a * n - 1, b)
    assert compiled.source.count("  tk_gemm(") == 2


def layouts(rows: int, columns: int) -> dict[str, ndarray]:
    wide = normal(2 * rows + 1, 3 * columns + 2)
    return {
        "in order": normal(rows, columns),
        "transposed": normal(columns, rows).T,
        "part": wide[1 : rows + 1, 2 : columns + 2],
        "every other": wide[: 2 * rows : 2, : 3 * columns : 3],
        "backwards": normal(rows, columns)[::-1, ::-1],
        "broadcast": np.broadcast_to(normal(1, columns), (rows, columns)),
    }


@pytest.mark.parametrize(
    ("left", "right"), [*zip(layouts(2, 2), [*layouts(2, 2)][::-1], strict=True)]
)
def test_layouts(left: str, right: str) -> None:
    a, b = layouts(70, 90)[left], layouts(90, 65)[right]
    compiled = tk.compile(lambda a, b: (a @ b, (a * 1.5) @ b))
    for _ in range(3):
        plain, inside = compiled(a, b)
    assert compiled.source.count("  tk_gemm(") == 2
    close(plain, a, b)
    close(inside, 1.5 * a, b)


def test_views_of_values_begin_where_they_begin() -> None:
    a, b = normal(120, 80), normal(80, 70)
    compiled = tk.compile(lambda a, b: (a * 2)[3:90, 5:].T[:, 1:].T @ (b + 1)[5:, 2:])
    for _ in range(3):
        found = compiled(a, b)
    assert "tk_gemm(" in compiled.source
    close(found, (a * 2)[4:90, 5:], (b + 1)[5:, 2:])


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_nan_and_infinities_stay_in_their_row_and_column(special: float) -> None:
    a, b = normal(57, 300), normal(300, 70)
    compiled = compiled_for(a, b)
    a[56, 299] = special
    with np.errstate(invalid="ignore"):
        expected = a @ b
        found = compiled(a, b)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    np.testing.assert_array_equal(found[56], expected[56])


def test_a_larger_product_after_a_smaller_one() -> None:
    """In one program: the memory of copies grows."""
    squares = [normal(n, n) for n in (40, 300, 50)]
    compiled = tk.compile(lambda *squares: [square @ square for square in squares])
    for _ in range(3):
        found = compiled(*squares)
    assert compiled.source.count("  tk_gemm(") == 3
    for product, square in zip(found, squares, strict=True):
        close(product, square, square)


def test_products_are_built_once_for_all_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    monkeypatch.setattr(c_runner, "build", lambda *given: built.append(given[0]) or build(*given))
    kernels = native_kernels.library("")
    for n in (70, 80):
        square = normal(n, n)
        close(compiled_for(square, square)(square, square), square, square)
    assert native_kernels.library("") is kernels
    assert len(built) == 2
    assert not any('"gemm.h"' in source for source in built)


def test_all_libraries_share_the_threads_of_one() -> None:
    """Else helpers of one, which spin for a while, would keep cores from those of another."""
    libraries = [native_kernels.library(products) for products in (native_kernels.F64, "", None)]
    pool = libraries[-1]
    assert pool in native_kernels._pools.values()
    address = ctypes.cast(pool["share"], ctypes.c_void_p).value
    for library in libraries[:-1]:
        assert ctypes.c_void_p.in_dll(library, "tk_pool").value == address


def test_a_program_without_products_needs_none_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its long loops need threads alone."""
    wanted: list[str | None] = []
    real = native_kernels.library
    monkeypatch.setattr(
        native_kernels, "library", lambda *given: wanted.append(*given or [None]) or real(*given)
    )
    x = normal(600_000)
    compiled = tk.compile(lambda x: x.exp() * x)
    for _ in range(3):
        found = compiled(Tensor(x))
    np.testing.assert_allclose(found.data, np.exp(x) * x, 1e-5)
    assert ("tk_parallel_for(" in compiled.source) == bool(wanted)
    assert not any(isinstance(products, str) for products in wanted)


def test_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(cpu, "helpers", lambda: 0)
    square = normal(71, 71)
    close(compiled_for(square, square)(square, square), square, square)


SLOW = """#!/bin/sh
if grep -sq tk_gemm program.c; then echo $$ >> "$STARTED"; exec sleep 30; fi
exec "$REAL" "$@"
"""


@pytest.mark.parametrize("interrupts", [1, 2])
def test_ctrl_c_stops_both_compilers_at_once(tmp_path: Path, interrupts: int) -> None:
    found = find_compiler()
    assert found is not None
    real, compiler = tmp_path / "real", tmp_path / "cc"
    real.write_text(f'#!/bin/sh\nexec {shlex.join(found.command)} "$@"\n', encoding="utf-8")
    compiler.write_text(SLOW, encoding="utf-8")
    real.chmod(0o700)
    compiler.chmod(0o700)
    code = "import numpy as np, tinygrad_kr as tk; f = tk.compile(lambda a: a @ a)\n"
    code += "for _ in range(3): f(np.ones((100, 100), np.float32))"
    cache, started = tmp_path / "cache", tmp_path / "started"
    environment = {"CC": str(compiler), "REAL": str(real), "STARTED": str(started)}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **environment, "TINYGRAD_KR_CACHE": str(cache)},
        stderr=subprocess.PIPE,
    )
    compilers: list[int] = []
    for _ in range(200):
        time.sleep(0.05)
        compilers = (
            [int(pid) for pid in started.read_text(encoding="utf-8").split()]
            if started.exists()
            else []
        )
        if len(compilers) == 2:
            break
    assert len(compilers) == 2
    for _ in range(interrupts):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    assert b"KeyboardInterrupt" in process.communicate(timeout=10)[1]
    for pid in compilers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not [*cache.rglob(".build-*")]


def test_several_python_threads() -> None:
    """Each multiplies other matrices in the same C function, so large that others may run."""
    a, b = normal(300, 200), normal(200, 260)
    assert a.size + b.size > MAX_HOLDING
    given = [(a, b), (-2 * a, b + 1), (a[::-1].copy(), 3 * b)]
    compiled = [compiled_for(a, b) for _ in given]
    found: list[list[ndarray]] = [[] for _ in given]

    def work(i: int) -> None:
        found[i].extend(compiled[i](*given[i]) for _ in range(50))

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, range(len(given))))
    for results, factors in zip(found, given, strict=True):
        assert len(results) == 50
        close(results[0], *factors)
        for product in results:
            np.testing.assert_array_equal(product, results[0])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (normal(100, 100), normal(100, 100).astype(np.float64)),
        (normal(2000, 500), normal(500, 2)),
        (normal(100, 0), normal(0, 100)),
        (normal(3, 100, 0), normal(3, 0, 100)),
    ],
    ids=["two dtypes", "two columns", "empty", "empty stack"],
)
def test_what_stays_with_blas(a: ndarray, b: ndarray) -> None:
    compiled = compiled_for(a, b, tiled=False)
    np.testing.assert_allclose(compiled(a, b), a @ b, 1e-6, 1e-5)


def test_a_step_of_large_products_is_one_c_function_and_shares_memory() -> None:
    net = tk.nn.Sequential(tk.nn.Linear(200, 100), tk.nn.ReLU(), tk.nn.Linear(100, 50))
    twin = tk.nn.Sequential(tk.nn.Linear(200, 100), tk.nn.ReLU(), tk.nn.Linear(100, 50))
    twin.load_state_dict(net.state_dict())
    x = Tensor(normal(120, 200))

    def step_of(net: Any) -> Any:
        optimizer = tk.optim.SGD(net.parameters(), 0.1)

        def step(x: Tensor) -> Tensor:
            optimizer.zero_grad()
            loss = (net(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        return step

    eager, compiled = step_of(twin), tk.compile(step_of(net))
    losses = [(eager(x).item(), compiled(x).item()) for _ in range(5)]
    losses += list(
        zip([eager(x).item() for _ in range(20)], compiled.repeat(20, x).numpy(), strict=True)
    )
    np.testing.assert_allclose(*zip(*losses, strict=True), 1e-5)
    assert "tk_gemm(" in compiled.source
    assert "matmul(" not in compiled.source.split("def run")[1]
    c_runner = compiled.last_runner
    assert c_runner.looped is not None
    assert c_runner.arena.nbytes < sum(piece.size for piece in c_runner.arena.pieces.values())
