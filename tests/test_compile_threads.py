"""Long loops: several threads share them, and nobody can tell."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.compile import long_loops, threads
from tinygrad_kr.compile.build import find_compiler

pytestmark = pytest.mark.skipif(
    find_compiler() is None or os.name != "posix", reason="needs a C compiler and POSIX threads"
)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is long begins early, so that small arrays meet every way through `threads.h`."""
    monkeypatch.setattr(long_loops, "LONG", 1000)
    monkeypatch.setattr(long_loops, "PIECE", 64)
    monkeypatch.setattr(threads, "helpers", lambda: 3)
    yield


def f(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    return np.tanh(x) * y + b  # type: ignore[return-value]


def compiled_f(*given: Tensor) -> tk.compile.Compiled:  # type: ignore[name-defined]
    compiled = tk.compile(f)
    for _ in range(3):
        compiled(*given)
    assert "tk_share(" in compiled.source
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


def test_layouts(short: None) -> None:
    x, y, b = arrays((40, 50), (40, 50), (40, 1))
    for given in ([x.T, y.T, b.T], [x[::-1], y, b], [x.T, y.reshape(50, 40), b.T]):
        compiled = compiled_f(*given)
        np.testing.assert_allclose(compiled(*given).data, f(*given).data, 1e-12, 1e-14)


def test_two_python_threads_at_once(short: None) -> None:
    """One of the two has the helpers, the other one computes alone."""
    given = arrays((300_000,), (300_000,), (300_000,))
    expected = f(*given).data
    made = [compiled_f(*given) for _ in range(2)]
    wrong = []

    def work(compiled: tk.compile.Compiled) -> None:  # type: ignore[name-defined]
        results = (compiled(*given).data for _ in range(100))
        wrong.extend(made for made in results if not np.allclose(made, expected, 1e-12))

    workers = [threading.Thread(target=work, args=(compiled,)) for compiled in made]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    assert not wrong


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_process_has_helpers_of_its_own(short: None) -> None:
    given = arrays((5000,), (5000,), (5000,))
    compiled = compiled_f(*given)
    child = os.fork()
    if child == 0:
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
    assert threads.helpers() == expected


def test_short_loops_have_no_threads() -> None:
    given = arrays((1000,), (1000,), (1000,))
    compiled = tk.compile(f)
    for _ in range(3):
        compiled(*given)
    assert "threads.h" not in compiled.source
