"""Freed memory that is kept between eager steps."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

import tinygrad_kr as tk
from tinygrad_kr import autodiff
from tinygrad_kr.compile.run import c_runner
from tinygrad_kr.native import memory
from tinygrad_kr.ops import kernels

STEPS = """
import resource
import numpy as np
import tinygrad_kr as tk

def step():
    arrays = [x := tk.tensor(np.ones(2**18, np.float32), requires_grad=True)]
    for _ in range(20):
        arrays.append(arrays[-1] * 1.5)
    arrays[-1].sum().backward()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(40):
    step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
"""
"""Page faults of ten steps with 20 MiB each."""


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Calls of `keep_freed_memory`, which does nothing."""
    calls: list[bool] = []
    monkeypatch.setattr(memory, "keep_freed_memory", lambda: calls.append(True))
    kernels.keep_freed_memory.cache_clear()
    first = [kernels.keep_freed_memory] + [bool] * (autodiff.MANY_WALKS - 1)
    monkeypatch.setattr(autodiff, "_first_walks", first)
    return calls


def test_after_some_backward_passes_and_once(kept: list[bool]) -> None:
    x = tk.tensor([2.0], requires_grad=True)
    for _ in range(autodiff.MANY_WALKS - 1):
        (x * x).sum().backward()
    assert not kept
    for _ in range(3):
        (x * x).sum().backward()
    assert kept == [True]


def test_a_compiled_step_does_not_count(kept: list[bool]) -> None:
    slope = tk.compile(tk.grad(lambda x: (x * x).sum()))
    for _ in range(2 * autodiff.MANY_WALKS):
        slope(3.0)
    assert not kept


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_user_has_set_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    assert not memory.keep_freed_memory()


def test_another_system_has_no_such_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert not memory.keep_freed_memory()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has such a rule")
def test_a_step_gets_the_memory_of_the_step_before() -> None:
    environment = {k: v for k, v in os.environ.items() if k not in memory._OWN}
    command = [sys.executable, "-c", STEPS]
    kept = int(subprocess.check_output(command, env=environment))
    environment["MALLOC_TRIM_THRESHOLD_"] = "131072"
    own = int(subprocess.check_output(command, env=environment))
    pages = 10 * 20 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    assert kept < pages // 20 < own, (kept, own)


@pytest.mark.parametrize(("size", "expected"), [(2**17, [True]), (100, [])])
def test_a_program_that_numpy_makes_large_arrays_for(
    size: int, expected: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(c_runner, "keep_freed_memory", lambda: calls.append(True))
    total = tk.compile(lambda x: tk.cumsum(x, 0).sum())
    for _ in range(3):
        total(tk.ones(size))
    assert calls == (expected if "C function" in str(total) else [])
