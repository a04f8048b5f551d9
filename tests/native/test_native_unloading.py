"""Libraries are unloaded when no program uses them, and never under a thread."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compile_fakes import own_cache as own_cache
from platforms import needs_fork

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn, optim
from tinygrad_kr.compile import clear_cache, function
from tinygrad_kr.compile.plan import plan
from tinygrad_kr.native import build as building
from tinygrad_kr.native import cpu, kernels
from tinygrad_kr.native.build import build, find_compiler
from tinygrad_kr.native.compiler import HoldingLibrary

MAPS = Path("/proc/self/maps")
pytestmark = pytest.mark.skipif(
    find_compiler() is None or not MAPS.exists(), reason="needs a C compiler and Linux"
)


@pytest.fixture(autouse=True)
def no_garbage_collection(own_cache: Path) -> Iterator[None]:
    """What is unloaded is unloaded by the end of its last reference."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def mapped(folder: Path) -> set[str]:
    """The libraries of the cache that are in this process's memory."""
    lines = MAPS.read_text(encoding="utf-8").splitlines()
    return {line.split()[-1] for line in lines if f"{folder}/" in line}


TWICE = "double twice(double x) { return 2 * x; }\n"


def twice(library: Any) -> Any:
    function = library["twice"]
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double]
    return function


@pytest.mark.parametrize("kind", [lambda library: library, HoldingLibrary])
def test_a_library_is_unloaded_with_its_last_function(
    kind: Callable[[Any], Any], own_cache: Path
) -> None:
    library = kind(build(TWICE))
    first, second = twice(library), twice(library)
    assert len(mapped(own_cache)) == 1
    del library
    assert first(2.0) == 4.0
    del first
    assert second(3.0) == 6.0
    assert len(mapped(own_cache)) == 1
    del second
    assert not mapped(own_cache)
    assert not building._loaded
    assert twice(build(TWICE))(4.0) == 8.0
    assert not mapped(own_cache)


def test_two_users_share_a_library(own_cache: Path) -> None:
    one, other = build(TWICE), build(TWICE)
    assert one is other
    del one
    assert twice(other)(1.0) == 2.0
    clear_cache()
    assert build(TWICE) is not other
    assert twice(other)(1.0) == 2.0
    del other
    assert not mapped(own_cache)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    library = build(TWICE)
    assert not hasattr(library, "thrice")
    with pytest.raises(AttributeError, match="no function 'thrice'"):
        library["thrice"]


SLOW = """
#include <time.h>
static volatile int begun = 0;
int has_begun(void) { return begun; }
int slow(void) {
  struct timespec pause = {0, 400000000};
  begun = 1;
  nanosleep(&pause, 0);
  return 7;
}
"""


def test_a_library_stays_while_a_thread_runs_in_it(own_cache: Path) -> None:
    library: Any = build("#define _POSIX_C_SOURCE 199309L\n" + SLOW)
    begun, running = library["has_begun"], [library["slow"]]
    del library
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(running.pop()()))
    thread.start()
    while not begun():
        pass
    del begun
    assert not running
    assert len(mapped(own_cache)) == 1
    assert thread.is_alive()
    thread.join()
    assert results == [7]
    del thread
    assert not mapped(own_cache)


def test_of_many_recordings_those_that_are_kept_stay_loaded(own_cache: Path) -> None:
    scale = [0.0]
    step = tk.compile(lambda x: (x * scale[0]).sum())
    x = np.ones(4)
    for k in range(3 * function.MAX_SPECIALISATIONS):
        scale[0] = k + 0.5
        for _ in range(30):
            assert step(x) == 4 * scale[0]
    assert step.programs
    assert 1 <= len(mapped(own_cache)) <= function.MAX_SPECIALISATIONS + 1


def training_step(net: Any, x: Tensor, optimizer: Any = optim.SGD) -> Any:
    steps = optimizer(net.parameters(), 0.01)

    def step(x: Tensor) -> Tensor:
        steps.zero_grad()
        loss = (net(x) ** 2).mean()
        loss.backward()
        steps.step()
        return loss

    compiled = tk.compile(step)
    for _ in range(4):
        compiled(x)
    compiled.repeat(3, x)
    return compiled


def draw(*shape: int, dtype: Any = np.float32) -> Tensor:
    return Tensor(np.random.default_rng(0).normal(size=shape).astype(dtype))


def small() -> Any:
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    return training_step(net, draw(4, 3), optim.Adam)


def with_products() -> Any:
    net = nn.Sequential(nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 50))
    return training_step(net, draw(120, 200))


def with_convolutions(dtype: Any = np.float32) -> Any:
    net = nn.Sequential(nn.Conv2d(2, 8, 3, dtype=dtype), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    return training_step(net, draw(16, 2, 14, 14, dtype=dtype))


def with_long_loops() -> Any:
    compiled = tk.compile(lambda x: np.tanh(x) * 2 + 1)
    for _ in range(4):
        compiled(draw(50, 40))
    return compiled


class Scaled:
    def __init__(self) -> None:
        self.weight = tk.ones(3)

    @tk.compile
    def step(self, x: Any) -> Any:
        return (self.weight * x).sum()


def method() -> Any:
    scaled = Scaled()
    for _ in range(4):
        scaled.step(tk.ones(3))
    return scaled.step


@pytest.mark.one_in(6)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "called"),
    [
        (small, ""),
        (with_products, "tk_gemm("),
        (with_convolutions, "tk_parallel_for("),
        (lambda: with_convolutions(np.float64), ""),
        (with_long_loops, "tk_parallel_for("),
        (method, ""),
    ],
    ids=["small", "products", "convolutions", "BLAS convolutions", "long loops", "method"],
)
@needs_fork
def test_a_program_is_unloaded_with_its_function(
    make: Callable[[], Any], called: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the library whose threads never end stays; what it shares with programs is no reason."""
    monkeypatch.setattr(cpu, "helpers", lambda: 2)
    monkeypatch.setattr(plan, "MIN_PARALLEL", 1000)
    for _ in range(2):
        compiled = make()
        assert compiled.programs, compiled.explain()
        shared = "tk_parallel_for)(" in compiled.source
        assert not called or not kernels.has_kernels() or called in compiled.source
        assert '"threads.h"' not in compiled.source
        assert len(mapped(own_cache)) >= 1 + shared
        del compiled
        gc.collect()  # the function and its programs refer to one another
        assert len(mapped(own_cache)) == shared
    before = len(mapped(own_cache))
    child = os.fork()
    if child == 0:
        ended = 1
        try:
            make()
            ended = 0
        finally:
            os._exit(ended)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(mapped(own_cache)) == before


@pytest.mark.parametrize("others", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_a_program_runs_on_while_others_are_unloaded(others: int, own_cache: Path) -> None:
    kept, x = tk.compile(lambda x: np.tanh(x) * 3 + 1), draw(50)
    expected = (np.tanh(x) * 3 + 1).data
    for _ in range(4):
        kept(x)
    wrong: list[Any] = []
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            wrong.extend([1] * (not np.allclose(kept(x).data, expected, 1e-6)))

    worker = threading.Thread(target=work)
    worker.start()
    for k in range(others):
        other = tk.compile(lambda x, k=k: x * (k + 0.5) + 1)
        for _ in range(4):
            other(x)
        del other
        gc.collect()
    stop.set()
    worker.join()
    assert not wrong
    assert len(mapped(own_cache)) == 1


@pytest.mark.one_in(3)
@pytest.mark.parametrize("run", range(3))
def test_the_end_of_python_unloads_nothing_under_a_running_thread(run: int) -> None:
    code = (
        "import threading, time, numpy as np, tinygrad_kr as tk\n"
        "f = tk.compile(lambda x: np.tanh(x) * 2)\n"
        "x = np.ones(300_000)\n"
        "for _ in range(4): f(x)\n"
        "assert f.programs\n"
        "def work():\n"
        "    while True: f(x)\n"
        "for _ in range(2): threading.Thread(target=work, daemon=True).start()\n"
        "time.sleep(0.2)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
