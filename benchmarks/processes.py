"""Workloads in processes of their own: timed by turns, so that no two thread pools meet.

Run as a program, this file is such a process: `processes.py FRAMEWORK KEY TASK`.
"""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "Timed", "first_call", "limits", "once", "peak_memory", "quickest", "results", "time_in_turn",
]  # fmt: skip

THREADS = "BENCHMARK_THREADS"
"""Environment variable: the number of cores that a process may use."""
TURN = 0.05
"""Length of a turn; seconds."""
LEAST_TURNS = 7
COLD_CALLS = {"compiled": 3}
"""Calls until a framework has compiled, where it is not the first: ours records two."""
_CACHES = ("TINYGRAD_KR_CACHE", "TORCHINDUCTOR_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR")
_VECTORS = {
    "avx2": {
        "TINYGRAD_KR_VECTORS": "avx2", "OPENBLAS_CORETYPE": "Haswell",
        "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2", "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    },
    "avx512": {
        "TINYGRAD_KR_VECTORS": "avx512", "OPENBLAS_CORETYPE": "SkylakeX",
        "ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512", "XLA_FLAGS": "--xla_cpu_max_isa=AVX512",
    },
    "none": {
        "TINYGRAD_KR_VECTORS": "none", "OPENBLAS_CORETYPE": "Nehalem",
        "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2",
    },
}  # fmt: skip


def limits(threads: int, vectors: str | None) -> dict[str, str]:
    """An environment in which every framework has so many threads and such vectors."""
    counts = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), f"{threads}"
    )
    return {**os.environ, **counts, THREADS: f"{threads}", **_VECTORS.get(vectors or "", {})}


# ------------------------------------------------------------------ steps


def _start(framework: str, key: str, task: str, environment: Mapping[str, str]) -> Any:
    return subprocess.Popen(
        [sys.executable, __file__, framework, key, task],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if task != "steps" else subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env=dict(environment),
    )


class Timed:
    """A process that takes steps when told to."""

    def __init__(self, framework: str, key: str, environment: Mapping[str, str]) -> None:
        self._process = _start(framework, key, "steps", environment)
        self._length = 1
        self.turns: list[float] = []

    def able(self) -> bool:
        """Whether the framework can do such work; waits until it is warm."""
        if self._process.stdout.readline().strip() != "ready":
            return False
        self._length = max(1, int(TURN / self._run(1)))
        return True

    def turn(self) -> None:
        """One more measurement."""
        time.sleep(0.1)  # until the idle threads of the others have stopped spinning
        self._run(1)
        self.turns.append(self._run(self._length))

    def close(self) -> None:
        self._process.communicate("")

    def _run(self, steps: int) -> float:
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline()) / steps


def time_in_turn(
    names: list[str], key: str, seconds: float, environment: Mapping[str, str]
) -> dict[str, float]:
    """Median seconds of one step for each framework that can do it, `LEAST_TURNS` at least.

    Each is warm before the next one starts: what measures on its first call is alone then.
    """
    started: list[Timed] = []
    able: dict[str, Timed] = {}
    try:
        for name in names:
            started.append(Timed(name, key, environment))
            if started[-1].able():
                able[name] = started[-1]
        end = time.perf_counter() + seconds
        turns = 0
        while able and (time.perf_counter() < end or turns < LEAST_TURNS):
            for process in able.values():
                process.turn()
            turns += 1
    finally:
        for process in started:
            process.close()
    return {name: statistics.median(process.turns) for name, process in able.items()}


def quickest(medians: Mapping[str, float], names: Any) -> tuple[str, float] | None:
    """The fastest of these frameworks, and its seconds."""
    found = [(medians[name], name) for name in names if name in medians]
    return (min(found)[1], min(found)[0]) if found else None


# ------------------------------------------------------------------ once


def once(framework: str, key: str, task: str, environment: Mapping[str, str]) -> str | None:
    """What a process prints that does a task; None where it fails or cannot do the work."""
    process = _start(framework, key, task, environment)
    printed, errors = process.communicate("")
    if process.returncode and not errors.rstrip().endswith(UNABLE):
        last = errors.rstrip().splitlines()[-1:] or ["no message"]
        print(f"  {framework} cannot do {key}: {last[0][:120]}", file=sys.stderr)
    return None if process.returncode else printed


def first_call(framework: str, key: str, environment: Mapping[str, str]) -> float | None:
    """Seconds of the first call with nothing cached, imports and net not counted."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = {**environment, **dict.fromkeys(_CACHES, folder)}
        printed = once(framework, key, "first", fresh)
    return None if printed is None else float(printed.split()[-1])


def peak_memory(framework: str, key: str, environment: Mapping[str, str]) -> float | None:
    """Bytes: the high-water mark of steps 2 to 10, less what was resident with net and data."""
    printed = once(framework, key, "memory", environment)
    return None if printed is None else float(printed.split()[-1])


def results(
    framework: str, key: str, environment: Mapping[str, str]
) -> dict[str, np.ndarray] | None:
    """Loss and gradients by name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.npz"
        environment = {**environment, "BENCHMARK_RESULTS": str(path)}
        if once(framework, key, "results", environment) is None:
            return None
        with np.load(path) as arrays:
            return dict(arrays)


# ------------------------------------------------------------------ the process itself

UNABLE = "unable"


def _work(framework: str, key: str, task: str) -> None:
    allowed = os.environ.get(THREADS)
    if allowed and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(allowed)])
    import workloads

    work = workloads.make(framework, key)
    if allowed and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(allowed))
    if work is None:
        sys.exit(UNABLE)
    if task == "results":
        np.savez(os.environ["BENCHMARK_RESULTS"], allow_pickle=False, **work.results())
        return
    {"steps": _steps, "first": _first, "memory": _memory}[task](work.step, framework)


def _steps(step: Callable[[], Any], framework: str) -> None:
    """Read numbers of steps, write the seconds that they took."""
    for _ in range(5):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        steps = range(int(line))
        start = time.perf_counter()
        for _ in steps:
            step()
        print(time.perf_counter() - start, flush=True)


def _first(step: Callable[[], Any], framework: str) -> None:
    start = time.perf_counter()
    for _ in range(COLD_CALLS.get(framework, 1)):
        step()
    print(time.perf_counter() - start)


def _memory(step: Callable[[], Any], framework: str) -> None:
    gc.collect()
    before = _resident("VmRSS")
    step()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the high-water mark
    for _ in range(9):
        step()
    print(max(0, _resident("VmHWM") - before))


def _resident(field: str) -> int:
    """Bytes of resident memory, now or at most, as Linux counts them."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


if __name__ == "__main__":
    _work(*sys.argv[1:4])
