"""Nets, data and training loops that one process and several ranks run alike.

    mpirun -n 2 python tests/support/distributed_recipes.py FOLDER NAME ...

Each rank leaves `NAME-RANK.npz` in the folder: its parameters and buffers after training.
"""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import data, nn, optim

EXAMPLES, BATCH, STEPS = 48, 12, 200
SHAPES = {"mlp": (5,), "cnn": (2, 6, 6), "lstm": (4, 3)}


class LastOutput(nn.Module):
    """The output of an LSTM at the last time."""

    def __init__(self, dtype: Any) -> None:
        self.lstm = nn.LSTM(3, 6, batch_first=True, dtype=dtype)
        self.linear = nn.Linear(6, 3, dtype=dtype)

    def forward(self, x: Any) -> Any:
        return self.linear(self.lstm(x)[0][:, -1])


def net_of(kind: str, dtype: Any) -> nn.Module:
    """A small net: an MLP, a CNN with batch normalisation, or an LSTM."""
    if kind == "mlp":
        layers = nn.Linear(5, 8, dtype=dtype), nn.Tanh(), nn.Linear(8, 3, dtype=dtype)
        return nn.Sequential(*layers)
    if kind == "lstm":
        return LastOutput(dtype)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, dtype=dtype),
        nn.BatchNorm2d(4, dtype=dtype),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 6, dtype=dtype),
        nn.BatchNorm1d(6, dtype=dtype),
        nn.Tanh(),
        nn.Linear(6, 3, dtype=dtype),
    )


def examples(kind: str, dtype: Any) -> tuple[ndarray, ndarray]:
    """Inputs and labels, the same on every rank."""
    random = np.random.default_rng(1)
    x = random.standard_normal((EXAMPLES, *SHAPES[kind])).astype(dtype)
    return x, random.integers(0, 3, EXAMPLES)


def trained(
    kind: str,
    optimizer: str,
    dtype: str = "float64",
    mode: str = "eager",
    *,
    max_norm: float | None = None,
    parts: int = 1,
    steps: int = STEPS,
) -> dict[str, ndarray]:
    """Train, and return parameters and buffers by name. The global batch is BATCH on any group.

    mode: "eager" or "compiled". parts: into how many a rank's batch is cut to accumulate.
    """
    group = tk.distributed.init(timeout=60)
    tk.manual_seed(group.rank)  # the broadcast makes them equal
    net = net_of(kind, dtype) if group.rank else seeded_net(kind, dtype)
    group.broadcast(net, batch_norm="synchronised")
    made: optim.Optimizer
    if optimizer == "adam":
        made = optim.Adam(net.parameters(), lr=3e-3)
    elif dtype == "float64":
        made = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    else:  # roundings grow as fast as the net learns
        made = optim.SGD(net.parameters(), lr=0.02)
    made = group.optimizer(made, bucket_bytes=512)
    x, labels = examples(kind, dtype)
    sampler = group.sampler(x, shuffle=True, seed=7)
    loader = data.DataLoader((x, labels), BATCH // group.size, sampler=sampler)

    def backward(x: Any, labels: Any) -> None:
        (F.cross_entropy(net(x), labels) / parts).backward()

    def step(x: Any, labels: Any) -> None:
        made.zero_grad()
        size = len(x) // parts
        with group.no_sync():
            for i in range(parts - 1):
                backward(x[i * size : (i + 1) * size], labels[i * size : (i + 1) * size])
        backward(x[(parts - 1) * size :], labels[(parts - 1) * size :])
        if max_norm is not None:
            optim.clip_grad_norm_(net.parameters(), max_norm)
        made.step()

    def simple_step(x: Any, labels: Any) -> Any:
        made.zero_grad()
        loss = F.cross_entropy(net(x), labels)
        loss.backward()
        if max_norm is not None:
            optim.clip_grad_norm_(net.parameters(), max_norm)
        made.step()
        return loss

    chosen: Any = step if mode == "eager" else tk.compile(simple_step)
    done = 0
    while done < steps:
        for batch in loader:
            chosen(*batch)
            done += 1
    if mode == "compiled":
        told = chosen.explain().splitlines()
        assert told[0] == "every call is compiled", told
        assert group.size == 1 or "averaged over the ranks between two programs" in told[1]
    held = [*net.named_parameters(), *net.named_buffers()]
    return {name: tensor.data.copy() for name, tensor in held}


def seeded_net(kind: str, dtype: Any) -> nn.Module:
    """The net that one process begins with."""
    tk.manual_seed(0)
    return net_of(kind, dtype)


def accumulated() -> dict[str, ndarray]:
    """Two backward passes a step, the first under `no_sync`."""
    return trained("mlp", "sgd", parts=2, steps=40)


def clipped(mode: str = "eager") -> dict[str, ndarray]:
    """Gradients scaled to a norm that is always exceeded."""
    return trained("mlp", "sgd", mode=mode, max_norm=0.05)


class Branches(nn.Module):
    """Two layers of which one is used, and one that never is."""

    def __init__(self) -> None:
        self.layers = nn.ModuleList([nn.Linear(5, 3, dtype=np.float64) for _ in range(3)])

    def forward(self, x: Any, choice: int) -> Any:
        return self.layers[choice](x)


def unused() -> dict[str, ndarray]:
    """Rank 0 uses one layer and rank 1 another: each gradient is half of its only one."""
    group = tk.distributed.init(timeout=60)
    tk.manual_seed(0)
    net = group.broadcast(Branches())
    optimizer = group.optimizer(optim.Adam(net.parameters(), lr=0.01))
    x, labels = examples("mlp", np.float64)
    for _ in range(3):
        optimizer.zero_grad()
        for choice in (0, 1) if group.size == 1 else (min(group.rank, 1),):
            (F.cross_entropy(net(x, choice), labels) / (2 if group.size == 1 else 1)).backward()
        assert all(p.grad is None for p in net.layers[2].parameters())
        assert all(p.grad is not None for i in (0, 1) for p in net.layers[i].parameters())
        optimizer.step()
    return {name: p.data.copy() for name, p in net.named_parameters()}


def sparse() -> dict[str, ndarray]:
    """An embedding whose gradients are rows; each rank reads other ones."""
    group = tk.distributed.init(timeout=60)
    tk.manual_seed(0)
    table = nn.Embedding(10, 4, sparse=True, dtype=np.float64)
    group.broadcast(table)
    optimizer = group.optimizer(optim.SparseAdam(table.parameters(), lr=0.1))
    rows = np.arange(12) % 7
    mine = rows[group.rank :: group.size]
    for _ in range(5):
        optimizer.zero_grad()
        (table(mine) ** 2).sum(axis=1).mean().backward()
        assert table.weight.grad.is_sparse
        optimizer.step()
    return {"weight": table.weight.data.copy()}


def sparse_zeros(compiled: bool = False) -> dict[str, ndarray]:
    """Rows that are read and whose gradients are 0: SparseAdam moves them by their momentum."""
    group = tk.distributed.init(timeout=60)
    tk.manual_seed(0)
    table = group.broadcast(nn.Embedding(10, 4, sparse=True, dtype=np.float64))
    optimizer = group.optimizer(optim.SparseAdam(table.parameters(), lr=0.1))

    def step(rows: Any, weights: Any) -> None:
        optimizer.zero_grad()
        ((table(rows) ** 2).sum(axis=1) * weights).mean().backward()
        optimizer.step()

    run: Any = tk.compile(step) if compiled else step
    rows = np.arange(12) % 7
    for i in range(6):
        weights = np.where(rows < 3, float(i < 4), 1.0)
        run(rows[group.rank :: group.size], weights[group.rank :: group.size])
    return {"weight": table.weight.data.copy()}


def two_optimizers() -> dict[str, ndarray]:
    """Both step the same parameters; `.grad` adds up over two backward passes."""
    group = tk.distributed.init(timeout=60)
    net = group.broadcast(seeded_net("mlp", np.float64))
    sgd = group.optimizer(optim.SGD(net.parameters(), lr=0.05), bucket_bytes=64)
    adam = group.optimizer(optim.Adam(net.parameters(), lr=1e-3))
    x, labels = (part[group.rank :: group.size] for part in examples("mlp", np.float64))
    for _ in range(10):
        sgd.zero_grad()
        for half in (slice(0, 12), slice(12, 24)):
            half = half if group.size > 1 else slice(2 * half.start, 2 * half.stop)
            F.cross_entropy(net(x[half]), labels[half]).backward()
        sgd.step()
        adam.step()
    return {name: p.data.copy() for name, p in net.named_parameters()}


class TwoTypes(nn.Module):
    """Parameters of two dtypes, in turn."""

    def __init__(self) -> None:
        self.a = nn.Linear(5, 8, dtype=np.float64)
        self.scale = nn.Parameter(np.ones(8, np.float32))
        self.b = nn.Linear(8, 3, dtype=np.float64)

    def forward(self, x: Any) -> Any:
        return self.b(F.tanh(self.a(x)) * self.scale.astype(np.float64))


def modes() -> dict[str, ndarray]:
    """Rank 0 runs the step as it is written, the others compile it; a layer freezes and thaws."""
    group = tk.distributed.init(timeout=60)
    tk.manual_seed(0)
    net = group.broadcast(TwoTypes())
    optimizer = group.optimizer(optim.SGD(net.parameters(), lr=0.05), bucket_bytes=64)
    x, labels = examples("mlp", np.float64)

    def step(x: Any, labels: Any) -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        optimizer.step()

    run: Any = tk.compile(step) if group.rank else step
    for i in range(18):
        net.a.weight.requires_grad_(not 6 <= i < 12)
        run(x[group.rank :: group.size], labels[group.rank :: group.size])
    return {name: p.data.copy() for name, p in net.named_parameters()}


def copies() -> dict[str, ndarray]:
    """A net and its optimizer train on as copies, by `deepcopy` and by pickle."""
    group = tk.distributed.init(timeout=60)
    net: Any = group.broadcast(seeded_net("mlp", np.float64))
    optimizer: Any = group.optimizer(optim.Adam(net.parameters(), lr=0.01), bucket_bytes=64)
    x, labels = (part[group.rank :: group.size] for part in examples("mlp", np.float64))
    for again in (copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both)), lambda both: both):
        for _ in range(3):
            net, optimizer = again((net, optimizer))
            optimizer.zero_grad()
            F.cross_entropy(net(x), labels).backward()
            if again is copy.deepcopy:  # which keeps `.grad`
                net, optimizer = copy.deepcopy((net, optimizer))
            optimizer.step()
    return {name: p.data.copy() for name, p in net.named_parameters()}


def lbfgs() -> dict[str, ndarray]:
    """A line search that must see the same losses on every rank."""
    group = tk.distributed.init(timeout=60)
    net = seeded_net("mlp", np.float64)
    group.broadcast(net)
    made = optim.LBFGS(net.parameters(), max_iter=4, line_search_fn="strong_wolfe")
    optimizer = group.optimizer(made)
    x, labels = (part[group.rank :: group.size] for part in examples("mlp", np.float64))

    def closure() -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), labels)
        loss.backward()
        return loss

    for _ in range(4):
        optimizer.step(closure)
    return {name: p.data.copy() for name, p in net.named_parameters()}


EAGER = [f"{kind}-{optimizer}-eager" for kind in SHAPES for optimizer in ("sgd", "adam")]
COMPILED = ["mlp-adam-compiled", "cnn-sgd-compiled", "lstm-sgd-compiled"]
SINGLE = [f"{kind}-float32-eager" for kind in SHAPES] + ["mlp-float32-compiled"]


def run(name: str) -> dict[str, ndarray]:
    """Run a recipe of `EAGER`, `COMPILED` or `SINGLE`, or a function of this module by its name."""
    if name in OTHERS:
        return OTHERS[name]()
    kind, how, mode = name.split("-")
    optimizer, dtype = ("sgd", how) if how == "float32" else (how, "float64")
    return trained(kind, optimizer, dtype, mode)


OTHERS: dict[str, Callable[[], dict[str, ndarray]]] = {
    "clipped": clipped,
    "clipped_compiled": lambda: clipped("compiled"),
    "accumulated": accumulated,
    "unused": unused,
    "sparse": sparse,
    "sparse_zeros": sparse_zeros,
    "sparse_zeros_compiled": lambda: sparse_zeros(True),
    "two_optimizers": two_optimizers,
    "modes_float32": modes,
    "copies": copies,
    "lbfgs": lbfgs,
}


if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    for name in names:
        state = run(name)
        np.savez(Path(folder) / f"{name}-{tk.distributed.init().rank}.npz", **state)
