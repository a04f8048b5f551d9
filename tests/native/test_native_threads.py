"""Long loops: several threads share them, and nobody can tell."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from platforms import needs_fork

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.compile.codegen import parallel
from tinygrad_kr.compile.plan import plan
from tinygrad_kr.native import cpu
from tinygrad_kr.native.build import find_compiler
from tinygrad_kr.native.kernels import has_kernels

pytestmark = pytest.mark.skipif(
    find_compiler() is None or os.name != "posix",
    reason="needs POSIX threads" if find_compiler() else "there is no C compiler",
)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is long begins early, so that small arrays meet every way through `threads.h`."""
    monkeypatch.setattr(plan, "MIN_PARALLEL", 1000)
    monkeypatch.setattr(parallel, "PIECE", 64)
    monkeypatch.setattr(cpu, "helpers", lambda: 3)
    yield


def f(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    return np.tanh(x) * y + b  # type: ignore[return-value]


def compiled_f(*given: Tensor) -> tk.compile.Compiled:  # type: ignore[name-defined]
    compiled = tk.compile(f)
    for _ in range(3):
        compiled(*given)
    assert "tk_parallel_for(" in compiled.source
    return compiled


def arrays(*shapes: tuple[int, ...]) -> list[Tensor]:
    rng = np.random.default_rng(0)
    return [Tensor(rng.normal(size=shape)) for shape in shapes]


@pytest.mark.parametrize("shape", [(1000,), (7919,), (3, 1001), (1001, 3), (11, 13, 17), (1, 4096)])
def test_every_element_is_computed_once(short: None, shape: tuple[int, ...]) -> None:
    given = arrays(shape, shape[-1:], shape)
    compiled = compiled_f(*given)
    for _ in range(200):
        np.testing.assert_allclose(compiled(*given).data, f(*given).data, 1e-12, 1e-14)


def test_one_function_is_one_library(short: None) -> None:
    """In whatever order sets are: a library in the cache serves every process."""
    given = arrays((1000,), (1000,), (1000,))
    runners = [compiled_f(*given).last_runner for _ in range(6)]
    assert len({runner.code.text for runner in runners}) == 1


def test_layouts(short: None) -> None:
    x, y, b = arrays((40, 50), (40, 50), (40, 1))
    for given in ([x.T, y.T, b.T], [x[::-1], y, b], [x.T, y.reshape(50, 40), b.T]):
        compiled = compiled_f(*given)
        np.testing.assert_allclose(compiled(*given).data, f(*given).data, 1e-12, 1e-14)


def test_the_caller_waits_for_the_last_piece(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two long pieces the helper's begins later, and ends later, with the last element."""
    monkeypatch.setattr(parallel, "PIECE", 50_000)

    def chain(x: Tensor, y: Tensor) -> Tensor:
        for _ in range(30):
            x = np.tanh(x * y)  # type: ignore[assignment]
        return x

    x, y = arrays((100_000,), (100_000,))
    given = [(x * i, y + 1) for i in range(1, 21)]
    compiled = tk.compile(chain)
    last = [compiled(*each).data[-1] for each in given]
    assert "tk_parallel_for(" in compiled.source
    expected = [chain(x[-1:], y[-1:]).item() for x, y in given]
    np.testing.assert_allclose(last, expected, 1e-12)


def test_two_python_threads_at_once(short: None) -> None:
    """One of the two has the helpers, the other one computes alone."""
    x, y, b = arrays((300_000,), (300_000,), (300_000,))
    given = [(x, i * y, b) for i in range(10)]
    expected = [f(*each).data[::500] for each in given]
    made = [compiled_f(x, y, b) for _ in range(2)]
    wrong = []

    def work(compiled: tk.compile.Compiled) -> None:  # type: ignore[name-defined]
        for i in [*range(10)] * 10:
            found = compiled(*given[i]).data[::500]
            wrong.extend([i] * (not np.allclose(found, expected[i], 1e-12)))

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, made))
    assert not wrong


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_process_has_helpers_of_its_own(short: None) -> None:
    given = arrays((5000,), (5000,), (5000,))
    compiled = compiled_f(*given)
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # ends it where it waits for threads that it does not have
        good = all(np.allclose(compiled(*given).data, f(*given).data, 1e-12) for _ in range(50))
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_allclose(compiled(*given).data, f(*given).data, 1e-12)


@pytest.mark.parametrize(
    ("cores", "openblas", "omp", "expected"),
    [(1, "", "", 0), (2, "", "", 1), (2, "1", "", 0), (2, "", "1", 0), (4, "2", "", 1),
     (16, "", "", 3), (4, "many", "0", 3)],
)  # fmt: skip
def test_helpers_are_as_many_as_cores_and_limits_allow(
    monkeypatch: pytest.MonkeyPatch, cores: int, openblas: str, omp: str, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", openblas)
    monkeypatch.setenv("OMP_NUM_THREADS", omp)
    assert cpu.helpers() == expected


@pytest.mark.parametrize("size", [plan.MIN_PARALLEL - 1, plan.MIN_PARALLEL])
def test_short_loops_have_no_threads(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(cpu, "helpers", lambda: 3)
    x = tk.ones(size)
    compiled = tk.compile(np.tanh)
    for _ in range(3):
        compiled(x)
    assert ("tk_parallel_for(" in compiled.source) == (size == plan.MIN_PARALLEL)


@pytest.mark.skipif(not has_kernels(), reason="needs POSIX threads")
@pytest.mark.parametrize("missing", [0, 1])
def test_loops_beside_large_products_are_shared_sooner(
    monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    monkeypatch.setattr(cpu, "helpers", lambda: 1)
    a, x = tk.ones(60, 60), tk.ones(plan.MIN_PARALLEL_BESIDE_PRODUCTS - missing)
    compiled = tk.compile(lambda a, x: (a @ a, np.tanh(x)))
    for _ in range(3):
        compiled(a, x)
    assert "tk_gemm(" in compiled.source
    assert ("tk_parallel_for(" in compiled.source) == (not missing)
