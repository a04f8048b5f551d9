"""Twenty workloads beside PyTorch, JAX and HIPS autograd: time, first call and memory of a step.

    pip install -e ".[bench]"
    python benchmarks/suite.py                              # every row; about half an hour
    python benchmarks/suite.py --only gpt,lstm --threads 1 --vectors avx2
    python benchmarks/suite.py --peers torch --json out/suite.json

A workload is the same in every framework: weights, data, loss and update rule. Loss and gradients
are compared first, and a row whose frameworks disagree is not timed. Each framework has a process
of its own. They take turns, and a figure is the median of the turns. Learning rates are so small
that nothing converges (converged nets have denormal gradients, which slow everything a
hundredfold). The machine should be idle: a neighbour makes threaded matrix products much slower.

--vectors limits every framework to such vector instructions. Without it each takes what it finds.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import io
import json
import math
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import processes
import workloads

OURS = ("eager", "compiled")
PEERS = {
    "torch": "PyTorch",
    "torch.compile": "torch.compile",
    "jax": "JAX jit",
    "autograd": "HIPS",
}
COLUMNS = {"eager": "eager", "compiled": "tk.compile", **PEERS}
TOLERANCES = {"float32": 1e-4, "float64": 1e-6}
"""Largest relative difference, in the 2-norm, of the results of two frameworks."""
LEAST_MEMORY = 8 * 2**20
"""Rows below this on both sides are not judged; bytes."""
FIRST_CALL = 1.0
"""A first call this short is quick enough beside any peer; seconds."""
AIMS = {
    "eager / PyTorch": (1.0, 0.5),
    "compiled / best": (1.0, 0.45),
    "first / JAX": (1.3, 0.7),
    "memory / PyTorch": (1.2, 0.7),
}
"""For each ratio: the most in any row, and the most of the geometric mean."""
ROW_AIMS = {
    "xor": ("jax", 1 / 10),
    workloads.REPEATED: ("jax", 1 / 80),
    "mnist": ("jax", 0.7),
    "wide": ("jax", 0.9),
    "cnn": ("torch", 0.35),
}
"""Rows with a peer and a ratio of their own to reach."""
Figures = dict[str, Any]


def agree(found: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """Where results of two frameworks differ, in words; empty where they agree."""
    (first, reference), *others = found.items()
    for name, results in others:
        if results.keys() != reference.keys():
            return f"{name} and {first} have different results"
        for what, array in results.items():
            expected = reference[what]
            difference = float(np.linalg.norm(np.ravel(array) - np.ravel(expected)))
            scale = max(float(np.linalg.norm(np.ravel(expected))), 1e-6)
            if not difference <= TOLERANCES[expected.dtype.name] * scale:
                return f"{what}: {name} and {first} differ by {difference / scale:.1e}"
    return ""


def ratios(figures: Figures) -> dict[str, float]:
    """The ratios of one row that are judged, by the names of `AIMS`."""
    found: dict[str, float] = {}
    if "lax.scan" in figures:
        return found
    steps, memory, first = (figures.get(part, {}) for part in ("steps", "memory", "first call"))
    if "eager" in steps and "torch" in steps:
        found["eager / PyTorch"] = steps["eager"] / steps["torch"]
    best = processes.quickest(steps, ("torch", "torch.compile", "jax"))
    if "compiled" in steps and best:
        found["compiled / best"] = steps["compiled"] / best[1]
    if "compiled" in first and "jax" in first:
        found["first / JAX"] = first["compiled"] / first["jax"]
    if "eager" in memory and "torch" in memory:
        ours = max(memory[name] for name in OURS if name in memory)
        if max(ours, memory["torch"]) >= LEAST_MEMORY:
            found["memory / PyTorch"] = ours / memory["torch"]
    return found


def missed(key: str, figures: Figures) -> list[str]:
    """What a row does not reach, in words."""
    texts = []
    for name, ratio in ratios(figures).items():
        quick = name == "first / JAX" and figures["first call"]["compiled"] <= FIRST_CALL
        if ratio > AIMS[name][0] and not quick:
            texts.append(f"{name} {ratio:.2f}, to reach {AIMS[name][0]}")
    peer, aim = ROW_AIMS.get(key, ("", 0.0))
    steps = figures.get("steps", {})
    if peer in steps and "compiled" in steps and steps["compiled"] / steps[peer] > aim:
        texts.append(
            f"compiled / {COLUMNS[peer]} {steps['compiled'] / steps[peer]:.3f}, to reach {aim:.3g}"
        )
    return texts


def means(rows: Mapping[str, Figures]) -> dict[str, float]:
    """Geometric means over the rows."""
    columns: dict[str, list[float]] = {}
    for figures in rows.values():
        for name, ratio in ratios(figures).items():
            columns.setdefault(name, []).append(max(ratio, 1e-6))
    return {
        name: math.exp(sum(map(math.log, column)) / len(column)) for name, column in columns.items()
    }


# ------------------------------------------------------------------ one row


def measure(key: str, names: list[str], options: argparse.Namespace) -> Figures:
    """Results, steps, first calls and memory of one row."""
    environment = processes.limits(options.threads, options.vectors)
    if key == workloads.REPEATED:
        return repeated(names, options.seconds, environment)
    figures: Figures = {}
    alone = [name for name in names if name not in ("compiled", "torch.compile")]
    found = {name: processes.results(name, key, environment) for name in alone}
    able = {name: arrays for name, arrays in found.items() if arrays is not None}
    difference = agree(able) if able else "no framework can do it"
    if difference:
        return {"error": difference}
    names = [name for name in names if name in able or name not in alone]
    figures["steps"] = processes.time_in_turn(names, key, options.seconds, environment)
    if "first" in options.parts:
        compilers = [name for name in ("compiled", "jax") if name in figures["steps"]]
        seconds = {name: processes.first_call(name, key, environment) for name in compilers}
        figures["first call"] = {name: s for name, s in seconds.items() if s is not None}
    if "memory" in options.parts and sys.platform == "linux":
        of = [name for name in ("eager", "compiled", "torch") if name in figures["steps"]]
        peaks = {name: processes.peak_memory(name, key, environment) for name in of}
        figures["memory"] = {name: size for name, size in peaks.items() if size is not None}
    return figures


def repeated(names: list[str], seconds: float, environment: dict[str, str]) -> Figures:
    """A step of ours within `repeat` beside one call of JAX, and a step within JAX's own loop."""
    chosen = [name for name in ("compiled", "jax") if name in names]
    loops = processes.time_in_turn(chosen, workloads.REPEATED, seconds, environment)
    per_step = {name: total / workloads.REPEATS for name, total in loops.items()}
    calls = processes.time_in_turn(["jax"], "xor", seconds, environment) if "jax" in chosen else {}
    return {"steps": {**per_step, **calls}, "lax.scan": per_step.get("jax")}


# ------------------------------------------------------------------ table

TITLE = 42


def heading(names: list[str]) -> str:
    cells = "".join(f"{COLUMNS[name]:>14}" for name in names)
    return f"{'one step, microseconds':{TITLE}}{cells}" + "".join(f"{name:>18}" for name in AIMS)


def line(key: str, names: list[str], figures: Figures) -> str:
    """One row of the table."""
    title = workloads.TITLES[key]
    if "error" in figures:
        return f"{title:{TITLE}}not timed: {figures['error']}"
    steps, found = figures["steps"], ratios(figures)
    cells = "".join(f"{microseconds(steps.get(name)):>14}" for name in names)
    cells += "".join(f"{found[name]:18.3f}" if name in found else f"{'-':>18}" for name in AIMS)
    return "\n".join(
        [f"{title:{TITLE}}{cells}", *(f"    missed: {m}" for m in missed(key, figures))]
    )


def microseconds(seconds: float | None) -> str:
    """Three digits of what is small, whole numbers of what is not."""
    if seconds is None:
        return "-"
    return f"{seconds * 1e6:,.0f}" if seconds >= 1e-4 else f"{seconds * 1e6:.3g}"


def summary(rows: Mapping[str, Figures]) -> str:
    lines = []
    for name, mean in means(rows).items():
        worst = AIMS[name]
        verdict = "reached" if mean <= worst[1] else "missed"
        count = sum(name in ratios(figures) for figures in rows.values())
        lines.append(
            f"geometric mean of {name}, {count} rows: {mean:.3f} (at most {worst[1]}: {verdict})"
        )
    return "\n".join(lines)


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """Processor, versions and limits, for the file."""
    packages = ("numpy", "torch", "jax", "autograd", "tinygrad_kr")
    versions = {}
    for package in packages:
        if importlib.util.find_spec(package):
            try:
                versions[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                versions[package] = "not installed as a package"
    return {
        "processor": processor(),
        "python": platform.python_version(),
        "versions": versions,
        "threads": options.threads,
        "vectors": options.vectors or "as found",
        "OPENBLAS_CORETYPE": os.environ.get("OPENBLAS_CORETYPE", ""),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }


def processor() -> str:
    with io.StringIO() as text:
        if sys.platform == "linux":
            text.write(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        names = [
            row.partition(":")[2] for row in text.getvalue().splitlines() if "model name" in row
        ]
    return names[0].strip() if names else platform.processor() or platform.machine()


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    add = parser.add_argument
    add("--only", default="", help=f"comma-separated rows: {', '.join(workloads.TITLES)}")
    add("--peers", default=",".join(PEERS), help="comma-separated; none for none")
    add("--threads", type=int, default=cores, help="threads of every framework")
    add("--vectors", choices=("avx2", "avx512", "none"), help="widest vector instructions")
    add("--seconds", type=float, default=4.0, help="time for each row")
    add("--parts", default="steps,first,memory", help="what is measured")
    add("--json", type=Path, help="also write the figures here, after every row")
    options = parser.parse_args(arguments)
    options.parts = options.parts.split(",")
    wanted = options.only.split(",") if options.only else list(workloads.TITLES)
    unknown = [key for key in wanted if key not in workloads.TITLES]
    if unknown:
        parser.error(
            f"--only: no such row: {', '.join(unknown)}. Rows: {', '.join(workloads.TITLES)}"
        )
    options.rows = wanted
    return options


def installed(framework: str) -> bool:
    module = workloads.MODULES.get(framework, framework)
    return importlib.util.find_spec(module) is not None


def main() -> None:
    options = parse_arguments()
    wanted = options.peers.split(",")
    names = [*OURS, *(name for name in PEERS if name in wanted and installed(name))]
    found = {"machine": machine(options), "rows": {}}
    rows: dict[str, Figures] = found["rows"]
    print(found["machine"]["processor"], f"{options.threads} threads", sep=", ")
    print(heading(names), flush=True)
    for key in options.rows:
        rows[key] = measure(key, names, options)
        print(line(key, names, rows[key]), flush=True)
        if options.json:
            found["means"] = means(rows)
            options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(summary(rows))


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # "?" for a letter that the console does not know
    main()
