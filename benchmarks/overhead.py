"""What the engine itself costs beside NumPy: one tiny op, the import, each op of a long chain.

python benchmarks/overhead.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import timeit

import numpy as np

from tinygrad_kr import Tensor

CALLS = 20_000


def multiplication() -> tuple[float, float]:
    """Seconds of a product of two numbers: NumPy's and ours, medians of turns."""
    a, b = np.array([1.5], np.float32), np.array([2.5], np.float32)
    names = {"np": np, "a": a, "b": b, "t": Tensor(a, requires_grad=True), "u": Tensor(b)}
    raw, engine = [], []
    for _ in range(15):
        raw.append(timeit.timeit("np.multiply(a, b)", globals=names, number=CALLS) / CALLS)
        engine.append(timeit.timeit("t * u", globals=names, number=CALLS) / CALLS)
    return statistics.median(raw), statistics.median(engine)


def import_seconds(module: str) -> float:
    """Median seconds of an import in a new process."""
    code = (
        "import time; start = time.perf_counter(); "
        f"import {module}; print(time.perf_counter() - start)"
    )
    run = [sys.executable, "-c", code]
    return statistics.median(float(subprocess.check_output(run)) for _ in range(7))


def chain(length: int) -> float:
    """Seconds for each op of a chain: built, differentiated, freed."""
    start = time.perf_counter()
    x = Tensor([1.0], requires_grad=True)
    y = x
    for _ in range(length):
        y = y * x
    y.backward()
    del y
    return (time.perf_counter() - start) / length


if __name__ == "__main__":
    raw, engine = multiplication()
    print(f"a product of two numbers: NumPy {raw * 1e9:.0f} ns, ours {engine * 1e9:.0f} ns")
    of_numpy, of_ours = import_seconds("numpy"), import_seconds("tinygrad_kr")
    print(f"import: NumPy {of_numpy * 1e3:.0f} ms, ours {(of_ours - of_numpy) * 1e3:.0f} ms more")
    for length in (10_000, 100_000, 1_000_000):
        print(f"each op of a chain of {length:,}: {chain(length) * 1e6:.2f} us")
