"""What `tk.compile` gains beside PyTorch, `torch.compile` and JAX: the second table of
`training_step.py`, which runs this."""

from __future__ import annotations

import os
import statistics
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from frameworks import NETS, REPEATS
from turns import in_new_process, time_in_turn


@dataclass(frozen=True)
class Row:
    """Work, and the ratio to reach of our compiled step to another framework's."""

    key: str
    title: str
    peer: str
    target: Fraction

    def ratio(self, medians: dict[str, float]) -> float | None:
        """Ours compiled / the peer's, where both were measured."""
        both = "compiled" in medians and self.peer in medians
        return medians["compiled"] / medians[self.peer] if both else None


ROWS = [
    Row("xor", NETS["xor"].title, "jax", Fraction(1, 20)),
    Row("xor-repeat", f"the same, repeat({REPEATS:_}), per step", "jax", Fraction(1, 80)),
    Row("deep", NETS["deep"].title, "jax", Fraction(1, 15)),
    Row("mnist", NETS["mnist"].title, "jax", Fraction(3, 4)),
    Row("wide", NETS["wide"].title, "jax", Fraction(19, 20)),
    Row("cnn", NETS["cnn"].title, "torch", Fraction(1)),
    Row("gradient", "gradient of 100-dim. Rosenbrock, float64", "jax", Fraction(1, 8)),
    Row("hessian", "its dense Hessian", "jax", Fraction(1)),
]
KEYS = [*(row.key for row in ROWS), "first-call", "memory"]
COLUMNS = {
    "tinygrad_kr": "eager",
    "compiled": "tk.compile",
    "torch": "PyTorch",
    "torch.compile": "torch.compile",
    "jax": "JAX jit",
    "autograd": "HIPS",
}
COLD_TARGET, WARM_TARGET = 1.0, 0.1


def measure(
    chosen: list[str], known: dict[str, dict[str, float]], peers: list[str], seconds: float
) -> dict[str, Any]:
    """Print the table; `known` has the medians of nets that were measured already."""
    names = ["tinygrad_kr", "compiled", *peers]
    heading = "".join(f"{COLUMNS[name]:>14}" for name in names)
    if any(row.key in chosen for row in ROWS):
        print(f"\n{'compiled, microseconds':44}{heading}   to reach")
    figures: dict[str, Any] = {}
    for row in ROWS:
        if row.key not in chosen:
            continue
        medians = known[row.key] if row.key in known else time_in_turn(names, row.key, seconds)
        if row.key == "xor-repeat":
            medians = _per_step(medians, known.get("xor", {}))
        print(line(row, medians, names), flush=True)
        figures[row.key] = medians
    if "jax scan" in figures.get("xor-repeat", {}):
        print(f"  (JAX's own loop, lax.scan: {figures['xor-repeat']['jax scan'] * 1e6:.2f} a step)")
    if "first-call" in chosen:
        figures["first-call"] = first_calls(names)
    if "memory" in chosen:
        figures["memory"] = memory()
    return figures


def _per_step(medians: dict[str, float], one_call: dict[str, float]) -> dict[str, float]:
    """The loop beside one call of each framework; what JAX's own loop takes goes beside that."""
    own = {"compiled": medians["compiled"] / REPEATS}
    if "jax" in medians:
        own["jax scan"] = medians["jax"] / REPEATS
    return {**one_call, **own}


def line(row: Row, medians: dict[str, float], names: list[str]) -> str:
    """One row of the table."""
    cells = "".join(
        f"{figure(medians[name] * 1e6):>14}" if name in medians else f"{'-':>14}" for name in names
    )
    ratio = row.ratio(medians)
    wanted = f"{row.target} x {COLUMNS[row.peer]}"
    if ratio is None:
        return f"{row.title:44}{cells}   {wanted}"
    found = f"{ratio:.2f}" if row.target > Fraction(1, 4) else f"1/{1 / ratio:.1f}"
    verdict = "reached" if ratio <= row.target else "missed"
    return f"{row.title:44}{cells}   {wanted}: {found}, {verdict}"


def figure(microseconds: float) -> str:
    """Three digits of what is small, whole numbers of what is not."""
    return f"{microseconds:,.0f}" if microseconds >= 100 else f"{microseconds:.3g}"


# ------------------------------------------------------------------ the first call

_FIRST = """
import time, frameworks, {modules}
step = frameworks.{maker}
start = time.perf_counter()
for _ in range({calls}): step()
print(time.perf_counter() - start)
"""
_NET = 'frameworks.NETS["mnist"]'
_FIRST_CALLS = {
    "compiled": ("tinygrad_kr.compile", f"ours_compiled({_NET})", 3),
    "torch.compile": ("torch._dynamo", f"pytorch_compiled({_NET}, tried=False)", 1),
    "jax": ("jax", f"jax_jit({_NET})", 1),
}
_CACHES = ("TINYGRAD_KR_CACHE", "TORCHINDUCTOR_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR")


def first_calls(names: list[str]) -> dict[str, dict[str, float]]:
    """Seconds until the MNIST step is compiled, with nothing cached and with what that left.

    Ours records two calls and compiles in the second, so its first three are counted.
    """
    seconds: dict[str, dict[str, float]] = {}
    for framework, (modules, maker, calls) in _FIRST_CALLS.items():
        if framework not in names:
            continue
        code = _FIRST.format(modules=modules, maker=maker, calls=calls)
        runs = [_cold_and_warm(code) for _ in range(1 if framework == "torch.compile" else 3)]
        found = [run for run in runs if run is not None]
        if found:
            cold, warm = (statistics.median(column) for column in zip(*found, strict=True))
            seconds[framework] = {"cold": cold, "warm": warm}
    for kind, target in (("cold", COLD_TARGET), ("warm", WARM_TARGET)):
        cells = ", ".join(
            f"{COLUMNS[framework]} {each[kind]:.2f}" for framework, each in seconds.items()
        )
        ours = seconds["compiled"][kind]
        verdict = "reached" if ours <= target else "missed"
        print(f"first call of the MNIST step, {kind} cache, seconds: {cells}", end="")
        print(f" (to reach {target:.1f}: {verdict})")
    return seconds


def _cold_and_warm(code: str) -> tuple[float, float] | None:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, **dict.fromkeys(_CACHES, folder)}
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        printed = [in_new_process(code, environment) for _ in range(2)]
    cold, warm = (None if text is None else float(text.split()[-1]) for text in printed)
    return None if cold is None or warm is None else (cold, warm)


# ------------------------------------------------------------------ memory

_EAGER_PEAK = """
import tracemalloc, frameworks
own = frameworks.ours_training(frameworks.NETS["mnist"])
for _ in range(3): own.step(own.x, own.y)
gradients = sum(p.grad.data.nbytes for p in own.net.parameters())
own.optimizer.zero_grad()
tracemalloc.start()
for _ in range(5): own.step(own.x, own.y)
print(tracemalloc.get_traced_memory()[1], gradients)
"""
_COMPILED_PEAK = """
import tracemalloc, frameworks
step = frameworks.make("compiled", "mnist")
for _ in range(4): step()
tracemalloc.start()
for _ in range(5): step()
print(step.func.last_runner.workspace, tracemalloc.get_traced_memory()[1])
"""


def memory() -> dict[str, float]:
    """Bytes that a step needs beyond net, data and the optimizer's state."""
    eager, compiled = in_new_process(_EAGER_PEAK), in_new_process(_COMPILED_PEAK)
    if eager is None or compiled is None:
        print("memory of the MNIST step: not measured (there is no C compiler here)")
        return {}
    peak, gradients = map(int, eager.split())
    workspace, more = map(int, compiled.split())
    print(
        f"memory of the MNIST step beside net, data and state, KiB: eager peaks at "
        f"{peak / 1024:,.0f}, {gradients / 1024:,.0f} of it gradients; compiled has "
        f"{workspace / 1024:,.0f} of workspace beside the gradients and allocates "
        f"{more / 1024:,.0f} in a call (workspace at most eager's peak: "
        f"{'reached' if workspace <= peak else 'missed'})"
    )
    return {"eager": peak, "gradients": gradients, "workspace": workspace, "in calls": more}
