"""One training step (forward, backward, update) beside PyTorch, JAX and HIPS autograd, in one run.

    pip install -e ".[bench]"
    python benchmarks/training_step.py            # every workload and every peer that is installed
    python benchmarks/training_step.py --peers torch --only xor,mnist

Two tables: the eager step beside PyTorch's, and what the engine itself costs; then the compiled
step, gradient and Hessian beside `torch.compile` and JAX's `jit`. Each workload has the same
shapes, float32 data, loss and update rule everywhere. Each framework has a process of its own; they
take turns, and the figure is the median of the turns. Learning rates are so small that nothing
converges (converged nets have denormal gradients, which slow everything a hundredfold). The machine
should be idle: a neighbour makes threaded matrix products much slower.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import compiled_step
import numpy as np
from frameworks import MODULES, NETS, Workload
from turns import in_new_process, time_in_turn

PEERS = {"torch": "PyTorch eager", "jax": "JAX jit", "autograd": "HIPS autograd"}


def measure(
    workloads: list[Workload], names: list[str], seconds: float
) -> dict[str, dict[str, float]]:
    """Print the table of eager steps; the medians of all frameworks, by workload."""
    rows = {}
    peers = [p for p in PEERS if p in names]
    heading = "".join(f"{PEERS[p]:>16}" for p in peers)
    print(
        f"{'one step, microseconds':44}{'tinygrad_kr':>14}{heading}"
        f"{'/ PyTorch':>12}{'to reach':>10}"
    )
    for workload in workloads:
        medians = time_in_turn(names, workload.key, seconds)
        ratio = medians["tinygrad_kr"] / medians["torch"] if "torch" in medians else float("nan")
        cells = "".join(
            f"{medians[p] * 1e6:16,.0f}" if p in medians else f"{'-':>16}" for p in peers
        )
        print(
            f"{workload.title:44}{medians['tinygrad_kr'] * 1e6:14,.0f}{cells}"
            f"{ratio:12.2f}{workload.target:10.2f}",
            flush=True,
        )
        rows[workload.key] = medians
    return rows


def overhead() -> dict[str, float]:
    """What the engine itself costs: one tiny op, the import, a long chain, the memory of a step."""
    import timeit

    from tinygrad_kr import Tensor

    a, b = np.array([1.5], np.float32), np.array([2.5], np.float32)
    names = {"np": np, "a": a, "b": b, "t": Tensor(a, requires_grad=True), "u": Tensor(b)}
    pairs = [
        (
            timeit.timeit("np.multiply(a, b)", globals=names, number=20_000),
            timeit.timeit("t * u", globals=names, number=20_000),
        )
        for _ in range(15)
    ]
    raw, engine = (statistics.median(column) / 20_000 for column in zip(*pairs, strict=True))
    print(f"\nsize-1 multiply: NumPy {raw * 1e9:.0f} ns, engine {engine * 1e9:.0f} ns", end="")
    print(f", {engine / raw:.2f} x (to reach 3.5)")

    imports = {
        module: statistics.median(import_seconds(module) for _ in range(7))
        for module in ("numpy", "tinygrad_kr")
    }
    extra = imports["tinygrad_kr"] - imports["numpy"]
    print(
        f"import: NumPy {imports['numpy'] * 1e3:.0f} ms, ours {extra * 1e3:+.0f} ms (to reach +40)"
    )

    per_op = {}
    for n in (10_000, 100_000, 1_000_000):
        start = time.perf_counter()
        x = Tensor([1.0], requires_grad=True)
        y = x
        for _ in range(n):
            y = y * x
        y.backward()
        del y
        per_op[n] = (time.perf_counter() - start) / n
    chain = ", ".join(f"{n:,}: {seconds * 1e6:.2f} us" for n, seconds in per_op.items())
    print(f"chained ops, build + backward + free, each: {chain}")

    return {"multiply_ratio": engine / raw, "import_extra": extra, "per_op": per_op[1_000_000]}


def peak_memory(framework: str) -> float | None:
    """Bytes by which MNIST steps raise the resident memory of a process with the net (Linux)."""
    code = f"""
import frameworks
step = frameworks.make({framework!r}, "mnist")
status = lambda key: int(open("/proc/self/status").read().split(key + ":")[1].split()[0])
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
for _ in range(20): step()
print((status("VmHWM") - before) * 1024)
"""
    printed = in_new_process(code)
    return None if printed is None else float(printed)


def import_seconds(module: str) -> float:
    code = (
        "import time; start = time.perf_counter(); "
        f"import {module}; print(time.perf_counter() - start)"
    )
    return float(subprocess.check_output([sys.executable, "-c", code]))


def installed(framework: str) -> bool:
    return importlib.util.find_spec(MODULES.get(framework, framework)) is not None


def main() -> None:
    columns = compiled_step.COLUMNS
    others = [name for name in columns if name not in ("tinygrad_kr", "compiled")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=",".join(others), help="comma-separated; none for none")
    parser.add_argument(
        "--only",
        default="",
        help=f"comma-separated rows (no overhead): {', '.join(compiled_step.KEYS)}",
    )
    parser.add_argument("--seconds", type=float, default=6.0, help="time for each row")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    wanted = options.peers.split(",")
    peers = [p for p in others if p in wanted and installed(p)]
    chosen = options.only.split(",") if options.only else compiled_step.KEYS
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.machine()}")
    figures: dict[str, Any] = {}
    nets = [net for key, net in NETS.items() if key in chosen]
    known = measure(nets, ["tinygrad_kr", "compiled", *peers], options.seconds) if nets else {}
    if not options.only:
        figures["engine"] = overhead()
        figures["memory"] = {
            name: peak_memory(name) for name in ("tinygrad_kr", *(p for p in peers if p == "torch"))
        }
        for name, size in figures["memory"].items():
            if size is not None:
                print(f"memory of MNIST steps, {name}: {size / 2**20:.1f} MiB beyond net and data")
    figures["steps"] = known
    figures["compiled"] = compiled_step.measure(chosen, known, peers, options.seconds)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # "?" for a letter that the console does not know
    main()
