"""Saving and loading take at most twice the size of the file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from saved_runs import SUFFIXES

import tinygrad_kr as tk

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, which Linux has")

RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""With these, memory that is freed is returned at once, and counts again when it is taken."""
PROGRAM = """
import gc, os, sys
import numpy as np
import tinygrad_kr as tk
from tinygrad_kr import nn, optim

path, width, adam = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "adam"

def memory(name):
    for line in open("/proc/self/status"):
        if line.startswith(name):
            return 1024 * int(line.split()[1])

def peak(call):
    gc.collect()
    open("/proc/self/clear_refs", "w").write("5")
    before = memory("VmRSS")
    call()
    return memory("VmHWM") - before

def parts():
    net = nn.Sequential(*(nn.Linear(width, width) for _ in range(8)))
    return {"model": net} | ({"optimizer": optim.Adam(net.parameters())} if adam else {})

tk.save(path, **{"model": nn.Linear(1, 1)})
tk.load(path, **{"model": nn.Linear(1, 1)})
run = parts()
if adam:
    for p in run["model"].parameters():
        p.grad = tk.ones(*p.shape)
    run["optimizer"].step()
saving = peak(lambda: tk.save(path, **run))
run = parts()
loading = peak(lambda: tk.load(path, **run))
print(os.path.getsize(path), saving, loading)
"""


def check(path: Path, width: int, parts: str) -> None:
    root = str(Path(tk.__file__).parents[1])
    paths = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), str(width), parts], capture_output=True,
        check=True, text=True, encoding="utf-8",
        env={**os.environ, "PYTHONPATH": paths, **RETURNED},
    )  # fmt: skip
    size, saving, loading = map(int, result.stdout.split())
    print(f"{size / 1e6:.0f} MB: saving {saving / size:.2f}, loading {loading / size:.2f}")
    assert saving < 0.5 * size
    assert loading < (1.5 if parts == "model" else 2) * size


@linux
@pytest.mark.parametrize("parts", ["model", "adam"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_memory_for_20_mb(tmp_path: Path, suffix: str, parts: str) -> None:
    check(tmp_path / f"net{suffix}", 460 if parts == "adam" else 800, parts)


@linux
@pytest.mark.slow
@pytest.mark.parametrize("parts", ["model", "adam"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_memory_for_200_mb(tmp_path: Path, suffix: str, parts: str) -> None:
    check(tmp_path / f"net{suffix}", 1460 if parts == "adam" else 2500, parts)
