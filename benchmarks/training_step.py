"""One training step (forward, backward, update) beside PyTorch, JAX and HIPS autograd, in one run.

    pip install -e ".[bench]"
    python benchmarks/training_step.py            # every workload and every peer that is installed
    python benchmarks/training_step.py --peers torch --only xor,mnist

Each workload has the same shapes, float32 data, loss and update rule everywhere. Each framework has
a process of its own; they take turns, and the figure is the median of the turns. Learning rates are
so small that nothing converges (converged nets have denormal gradients, which slow everything a
hundredfold). The machine should be idle: a neighbour makes threaded matrix products much slower.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

LEARNING_RATE = 1e-6
Step = Callable[[], Any]


@dataclass(frozen=True)
class Workload:
    """A net, its loss and update rule, the size of its batch, and the ratio to PyTorch to reach."""

    key: str
    title: str
    sizes: tuple[int, ...]
    activation: str
    loss: str
    optimizer: str
    batch: int
    target: float

    @property
    def convolutional(self) -> bool:
        return not self.sizes

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(0)
        if self.convolutional:
            x = generator.random((self.batch, 1, 28, 28), np.float32)
            return x, generator.integers(0, 10, self.batch)
        if self.loss == "bce":
            x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
            return x, np.array([[0], [1], [1], [0]], np.float32)
        x = generator.random((self.batch, self.sizes[0]), np.float32)
        return x, generator.integers(0, self.sizes[-1], self.batch)


WORKLOADS = [
    Workload("xor", "XOR 2-10-1 sigmoid, BCE, SGD", (2, 10, 1), "sigmoid", "bce", "sgd", 4, 0.40),
    Workload(
        "deep",
        "deep 2-(10 x 5)-1 ReLU, BCE, Adam",
        (2, *[5] * 10, 1),
        "relu",
        "bce",
        "adam",
        4,
        0.33,
    ),
    Workload(
        "mnist",
        "784-256-256-10 ReLU, CE, Adam",
        (784, 256, 256, 10),
        "relu",
        "ce",
        "adam",
        100,
        0.85,
    ),
    Workload(
        "wide",
        "784-1024-1024-10 ReLU, CE, Adam",
        (784, 1024, 1024, 10),
        "relu",
        "ce",
        "adam",
        512,
        1.0,
    ),
    Workload(
        "cnn", "CNN 32-64 conv3x3, pool, linear, CE, Adam", (), "relu", "ce", "adam", 100, 1.5
    ),
]

# ---------------------------------------------------------------------- the same step, four times


def module_step(workload: Workload, nn: Any, optim: Any, tensor: Callable[[Any], Any]) -> Step:
    """For frameworks with PyTorch's interface: ours and PyTorch itself."""
    if workload.convolutional:
        net = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(64 * 7 * 7, 10)),
        )
    else:
        layers = []
        for wide, narrow in zip(workload.sizes[:-2], workload.sizes[1:-1], strict=True):
            layers += [nn.Linear(wide, narrow), getattr(nn, activation_name(workload))()]
        net = nn.Sequential(*layers, nn.Linear(*workload.sizes[-2:]))
    loss_function = nn.BCEWithLogitsLoss() if workload.loss == "bce" else nn.CrossEntropyLoss()
    rule = optim.SGD if workload.optimizer == "sgd" else optim.Adam
    optimizer = rule(net.parameters(), lr=LEARNING_RATE)
    x, y = map(tensor, workload.data())

    def step() -> Any:
        optimizer.zero_grad()
        loss = loss_function(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def activation_name(workload: Workload) -> str:
    return {"relu": "ReLU", "sigmoid": "Sigmoid"}[workload.activation]


def ours(workload: Workload) -> Step:
    from tinygrad_kr import Tensor, nn, optim

    return module_step(workload, nn, optim, Tensor)


def pytorch(workload: Workload) -> Step:
    import torch

    return module_step(workload, torch.nn, torch.optim, torch.from_numpy)


def initial(workload: Workload) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    if workload.convolutional:
        shapes: list[tuple[int, ...]] = [
            (32, 1, 3, 3),
            (32,),
            (64, 32, 3, 3),
            (64,),
            (3136, 10),
            (10,),
        ]
    else:
        shapes = []
        for wide, narrow in zip(workload.sizes[:-1], workload.sizes[1:], strict=True):
            shapes += [(wide, narrow), (narrow,)]
    return [0.1 * generator.standard_normal(shape, np.float32) for shape in shapes]


def functional_loss(workload: Workload, np_: Any, x: Any, y: Any, convolve: Any = None) -> Any:
    """The loss as a function of the parameters, for frameworks that speak NumPy."""

    def loss(parameters: Any) -> Any:
        h = x
        if convolve is not None:
            for w, b in (parameters[0:2], parameters[2:4]):
                h = convolve(h, w) + b.reshape(1, -1, 1, 1)
                h = np_.maximum(h, 0)
                n, c, rows, columns = h.shape
                h = h.reshape(n, c, rows // 2, 2, columns // 2, 2).max(axis=(3, 5))
            h = h.reshape(len(h), -1)
            parameters = parameters[4:]
        for w, b in zip(parameters[0:-2:2], parameters[1:-2:2], strict=True):
            h = h @ w + b
            h = (
                np_.maximum(h, 0)
                if workload.activation == "relu"
                else 0.5 * np_.tanh(0.5 * h) + 0.5
            )
        z = h @ parameters[-2] + parameters[-1]
        if workload.loss == "bce":
            return np_.mean(np_.maximum(z, 0) - z * y + np_.log1p(np_.exp(-np_.abs(z))))
        top = z.max(axis=1, keepdims=True)
        z = z - top
        return np_.mean(np_.log(np_.sum(np_.exp(z), axis=1)) - z[np.arange(len(y)), y])

    return loss


def update(workload: Workload, np_: Any, p: Any, g: Any, m: Any, v: Any, t: Any) -> Any:
    if workload.optimizer == "sgd":
        return p - LEARNING_RATE * g, m, v
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g * g
    m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
    return p - LEARNING_RATE * m_hat / (np_.sqrt(v_hat) + 1e-8), m, v


def jax_jit(workload: Workload) -> Step:
    import jax
    import jax.numpy as jnp

    x, y = workload.data()
    convolve = None
    if workload.convolutional:

        def convolve(h: Any, w: Any) -> Any:
            return jax.lax.conv_general_dilated(h, w, (1, 1), "SAME")

    loss = functional_loss(workload, jnp, x, y, convolve)

    def step(state: Any) -> Any:
        parameters, ms, vs, t = state
        value, gradients = jax.value_and_grad(loss)(parameters)
        rows = [
            update(workload, jnp, p, g, m, v, t + 1)
            for p, g, m, v in zip(parameters, gradients, ms, vs, strict=True)
        ]
        new_p, new_m, new_v = (list(column) for column in zip(*rows, strict=True))
        return (new_p, new_m, new_v, t + 1), value

    compiled = jax.jit(step, donate_argnums=0)
    parameters = [jnp.asarray(p) for p in initial(workload)]
    state = (
        parameters,
        [jnp.zeros_like(p) for p in parameters],
        [jnp.zeros_like(p) for p in parameters],
        jnp.zeros((), jnp.int32),
    )

    def run() -> Any:
        nonlocal state
        state, value = compiled(state)
        return value.block_until_ready()

    return run


def hips(workload: Workload) -> Step | None:
    if workload.convolutional:
        return None  # its only convolution is far too slow to be a comparison
    import autograd
    import autograd.numpy as anp

    x, y = workload.data()
    slope = autograd.value_and_grad(functional_loss(workload, anp, x, y))
    parameters = initial(workload)
    ms = [np.zeros_like(p) for p in parameters]
    vs = [np.zeros_like(p) for p in parameters]
    t = 0

    def step() -> Any:
        nonlocal t
        t += 1
        value, gradients = slope(parameters)
        for i, g in enumerate(gradients):
            parameters[i], ms[i], vs[i] = update(workload, np, parameters[i], g, ms[i], vs[i], t)
        return value

    return step


PEERS = {"torch": "PyTorch eager", "jax": "JAX jit", "autograd": "HIPS autograd"}
FRAMEWORKS: dict[str, Callable[[Workload], Step | None]] = {
    "tinygrad_kr": ours,
    "torch": pytorch,
    "jax": jax_jit,
    "autograd": hips,
}

# ---------------------------------------------------------------------- measuring


class Worker:
    """One framework in a process of its own, so that no two thread pools meet."""

    def __init__(self, framework: str, workload: Workload) -> None:
        command = [sys.executable, __file__, "--worker", framework, "--only", workload.key]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.able = self.process.stdout.readline().strip() == "ready"
        self.length = 1
        self.turns: list[float] = []

    def run(self, steps: int) -> float:
        """Seconds that a step took, over so many of them."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline()) / steps

    def turn(self) -> None:
        time.sleep(0.1)  # until the idle threads of the others have stopped spinning
        self.run(1)
        self.turns.append(self.run(self.length))

    def close(self) -> None:
        self.process.communicate("")


def work(framework: str, workload: Workload) -> None:
    """The other end of a `Worker`: reads numbers of steps, writes the seconds they took."""
    step = FRAMEWORKS[framework](workload)
    print("ready" if step else "unable", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            step()  # type: ignore[misc]
        print(time.perf_counter() - start, flush=True)


def time_in_turn(frameworks: list[str], workload: Workload, seconds: float) -> dict[str, float]:
    """Median seconds of one step for each framework, measured by turns of about 50 ms."""
    workers = {name: Worker(name, workload) for name in frameworks}
    workers = {name: worker for name, worker in workers.items() if worker.able}
    for worker in workers.values():
        worker.run(5)
        worker.length = max(1, int(0.05 / worker.run(5)))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(worker.turns) < 7:
        for worker in workers.values():
            worker.turn()
    for worker in workers.values():
        worker.close()
    return {name: statistics.median(worker.turns) for name, worker in workers.items()}


def measure(workloads: list[Workload], peers: list[str], seconds: float) -> list[dict[str, Any]]:
    rows = []
    heading = "".join(f"{PEERS[p]:>16}" for p in peers)
    print(
        f"{'one step, microseconds':44}{'tinygrad_kr':>14}{heading}"
        f"{'/ PyTorch':>12}{'to reach':>10}"
    )
    for workload in workloads:
        medians = time_in_turn(["tinygrad_kr", *peers], workload, seconds)
        ratio = medians["tinygrad_kr"] / medians["torch"] if "torch" in medians else float("nan")
        cells = "".join(
            f"{medians[p] * 1e6:16,.0f}" if p in medians else f"{'-':>16}" for p in peers
        )
        print(
            f"{workload.title:44}{medians['tinygrad_kr'] * 1e6:14,.0f}{cells}"
            f"{ratio:12.2f}{workload.target:10.2f}",
            flush=True,
        )
        rows.append({"workload": workload.title, "seconds": medians, "target": workload.target})
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
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import training_step as t
step = t.FRAMEWORKS[{framework!r}](t.WORKLOADS[2])
status = lambda key: int(open("/proc/self/status").read().split(key + ":")[1].split()[0])
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
for _ in range(20): step()
print((status("VmHWM") - before) * 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def import_seconds(module: str) -> float:
    code = (
        "import time; start = time.perf_counter(); "
        f"import {module}; print(time.perf_counter() - start)"
    )
    return float(subprocess.check_output([sys.executable, "-c", code]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated; none for none")
    parser.add_argument(
        "--only",
        default="",
        help="comma-separated workloads: " + ", ".join(w.key for w in WORKLOADS),
    )
    parser.add_argument("--seconds", type=float, default=6.0, help="time for each workload")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, next(w for w in WORKLOADS if w.key == options.only))
        return
    peers = [p for p in options.peers.split(",") if p in PEERS and importlib.util.find_spec(p)]
    chosen = [w for w in WORKLOADS if not options.only or w.key in options.only.split(",")]
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.machine()}")
    rows = measure(chosen, peers, options.seconds)
    engine = overhead()
    memory = {
        name: peak_memory(name) for name in ("tinygrad_kr", *(p for p in peers if p == "torch"))
    }
    for name, size in memory.items():
        if size is not None:
            print(f"memory of MNIST steps, {name}: {size / 2**20:.1f} MiB beyond net and data")
    if options.json:
        figures = {"steps": rows, "engine": engine, "memory": memory}
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
