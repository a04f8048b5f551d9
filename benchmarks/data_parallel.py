"""Data-parallel training with 1 and 2 ranks, beside PyTorch's DistributedDataParallel with gloo.

    python benchmarks/data_parallel.py [--torch-python PATH] [--out FILE]

Each process has one thread. Weak scaling: each rank has the same batch, whatever the number of
ranks. A step is timed with and without the exchange, in turn; the share of time in
communication is the difference. Needs mpirun and mpi4py; PyTorch where its Python is given.
Ranks of more than the cores (`oversubscribed`) serve `benchmarks/scaling_model.py` as a check.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "data_parallel.json"
NETS = {"mlp": 64, "cnn": 32, "lstm": 32}
"""The nets, and the batch of a rank."""
ROUNDS, SECONDS = 7, 0.15
"""Rounds of each way of a step, and how long one takes."""
SIZES = [8 << (2 * k) for k in range(11)]
"""Bytes of the exchanges whose times are measured."""
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TINYGRAD_KR_THREADS"), "1"
)

Step = Callable[[], Any]


# ------------------------------------------------------------------ the three nets, in both


def example(net: str) -> tuple[np.ndarray, np.ndarray]:
    """A batch: inputs float32, labels."""
    random, batch = np.random.default_rng(0), NETS[net]
    shape = {"mlp": (784,), "cnn": (1, 28, 28), "lstm": (28, 28)}[net]
    return random.standard_normal((batch, *shape)).astype(np.float32), random.integers(0, 10, batch)


def layers(net: str, nn: Any) -> list[Any]:
    """The layers, which have the same names in both libraries."""
    if net == "mlp":
        widths = (784, 512, 512)
        hidden = [f for i, o in zip(widths, widths[1:]) for f in (nn.Linear(i, o), nn.ReLU())]  # noqa: B905, RUF007
        return [*hidden, nn.Linear(512, 10)]
    blocks = [
        f
        for i, o in ((1, 16), (16, 32))
        for f in (nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2))
    ]
    return [*blocks, nn.Flatten(), nn.Linear(32 * 49, 10)]


def our_steps(net: str, group: Any, compiled: bool) -> tuple[Step, Step]:
    """A step with the exchange, and one without."""
    import tinygrad_kr as tk
    import tinygrad_kr.functional as F
    from tinygrad_kr import nn, optim

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            self.lstm, self.linear = nn.LSTM(28, 128, batch_first=True), nn.Linear(128, 10)

        def forward(self, x: Any) -> Any:
            return self.linear(self.lstm(x)[0][:, -1])

    model = group.broadcast(Recurrent() if net == "lstm" else nn.Sequential(*layers(net, nn)))
    x, labels = example(net)
    x, labels = tk.tensor(x), tk.tensor(labels)

    def step_of(model: Any, joined: bool) -> Step:
        adam = optim.Adam(model.parameters(), lr=1e-3)
        optimizer = group.optimizer(adam) if joined else adam

        def step(x: Any, labels: Any) -> Any:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            return loss

        run: Any = tk.compile(step) if compiled else step
        return lambda: run(x, labels)

    return step_of(model, True), step_of(copy.deepcopy(model), False)


def torch_steps(net: str, ranks: int) -> tuple[Step, Step, int]:
    """The same in PyTorch; also the bytes of the gradients."""
    import torch
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.linear = nn.LSTM(28, 128, batch_first=True), nn.Linear(128, 10)

        def forward(self, x: Any) -> Any:
            return self.linear(self.lstm(x)[0][:, -1])

    torch.set_num_threads(1)
    model: Any = Recurrent() if net == "lstm" else nn.Sequential(*layers(net, nn))
    count = sum(p.numel() * 4 for p in model.parameters())
    if ranks > 1:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, labels = map(torch.from_numpy, example(net))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    def alone() -> None:
        with model.no_sync() if ranks > 1 else nullcontext():
            step()

    return step, alone, count if ranks > 1 else 0


# ------------------------------------------------------------------ one rank


def seconds_of(steps: tuple[Step, Step], agree: Callable[[float], float]) -> tuple[float, float]:
    """The least time of a step with the exchange and of one without, over rounds in turn.

    agree: gives every rank the largest of the ranks' numbers, so that all make as many steps.
    """
    for step in steps:
        for _ in range(5):
            step()
    start = time.perf_counter()
    steps[0]()
    count = max(3, int(SECONDS / agree(time.perf_counter() - start)))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for step, found in zip(steps, times, strict=True):
            agree(0.0)
            start = time.perf_counter()
            for _ in range(count):
                step()
            found.append(agree((time.perf_counter() - start) / count))
    return min(times[0]), min(times[1])


def described(net: str, ranks: int, both: tuple[float, float], sent: float) -> dict[str, Any]:
    """One row of the results."""
    with_exchange, alone = both
    return {
        "ms": round(1e3 * with_exchange, 4),
        "ms_without_exchange": round(1e3 * alone, 4),
        "examples_per_second": round(ranks * NETS[net] / with_exchange, 1),
        "share_in_communication": round(max(0.0, 1 - alone / with_exchange), 4),
        "bytes_per_step": round(sent),
    }


def our_rank(compiled: bool) -> dict[str, Any]:
    """What one of our ranks measures, for every net."""
    import tinygrad_kr as tk

    group = tk.distributed.init(timeout=60)
    found = {}
    for net in NETS:
        steps = our_steps(net, group, compiled)
        steps[0]()
        before = group.bytes_sent
        steps[0]()
        sent = group.bytes_sent - before
        both = seconds_of(steps, lambda x: float(group.all_reduce(x, "max")))
        found[net] = described(net, group.size, both, sent)
    return found if group.rank == 0 else {}


def torch_rank() -> dict[str, Any]:
    """What one of PyTorch's ranks measures."""
    import torch
    import torch.distributed as dist

    ranks, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    if ranks > 1:
        dist.init_process_group("gloo")

    def agree(x: float) -> float:
        value = torch.tensor([x], dtype=torch.float64)
        if ranks > 1:
            dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return float(value)

    found = {}
    for net in NETS:
        *steps, sent = torch_steps(net, ranks)
        found[net] = described(net, ranks, seconds_of((steps[0], steps[1]), agree), sent)
    if ranks > 1:
        dist.destroy_process_group()
    return found if rank == 0 else {}


class Message:
    """An array that is summed over the ranks as a bucket of gradients is."""

    def __init__(self, flat: np.ndarray) -> None:
        self.flat, self.request = flat, None

    def is_ready(self) -> bool:
        """Whether it is complete."""
        return True


def messages_rank() -> dict[str, Any]:
    """The least times of exchanges by their bytes, as a step makes them."""
    import tinygrad_kr as tk

    group = tk.distributed.init(timeout=60)
    link = group._link
    assert link is not None
    found = {}
    for size in SIZES:
        message, times = Message(np.zeros(size // 4, np.float32)), []
        for _ in range(200 if size < 1 << 17 else 20):
            group.barrier()
            start = time.perf_counter()
            link.settle(link.propose("a measured exchange"))
            link.queue.append(message)
            link.start_sums()
            link.finish_sums([message])
            times.append(float(group.all_reduce(time.perf_counter() - start, "max")))
        found[str(size)] = min(times)
    return found if group.rank == 0 else {}


# ------------------------------------------------------------------ all ranks


def launched(ranks: int, kind: str) -> dict[str, Any]:
    """Start ranks of ours, and read what rank 0 writes."""
    beside = Path(sys.executable).with_name("mpirun")
    mpirun = str(beside) if beside.exists() else shutil.which("mpirun")
    if mpirun is None:
        sys.exit('error: mpirun is needed: pip install ".[mpi]"')
    environment = os.environ | ONE_THREAD | {
        "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = [mpirun, "-n", str(ranks), sys.executable, __file__, "--rank", kind]
    done = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return _result(done.stdout, done.returncode, done.stderr)


def launched_torch(ranks: int, python: str) -> dict[str, Any]:
    """Start ranks of PyTorch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = os.environ | ONE_THREAD | {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks),
    }  # fmt: skip
    command = [python, __file__, "--rank", "torch"]
    started = [
        subprocess.Popen(
            command,
            env=common | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        for rank in range(ranks)
    ]
    texts = [process.communicate()[0] for process in started]
    return _result(texts[0], started[0].returncode, "")


def _result(text: str, code: int, error: str) -> dict[str, Any]:
    lines = [line for line in text.splitlines() if line.startswith("{")]
    if code or not lines:
        sys.exit(f"error: the ranks ended with {code}\n{error}")
    found: dict[str, Any] = json.loads(lines[0])
    return found


def measured(torch_python: str | None, oversubscribed: list[int]) -> Iterator[tuple[str, Any]]:
    """Everything, by name."""
    yield "nets", NETS
    yield "cores", len(os.sched_getaffinity(0))
    for kind in ("eager", "compiled"):
        yield kind, {str(ranks): launched(ranks, kind) for ranks in (1, 2)}
    if torch_python is not None:
        yield "torch", {str(ranks): launched_torch(ranks, torch_python) for ranks in (1, 2)}
    yield "oversubscribed", {str(ranks): launched(ranks, "eager") for ranks in oversubscribed}
    yield "messages", {str(ranks): launched(ranks, "messages") for ranks in (2, *oversubscribed)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--torch-python", help="a Python that has PyTorch")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--oversubscribed", type=int, nargs="*", default=[4, 8])
    parser.add_argument("--rank", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rank is not None:
        kinds: dict[str, Callable[[], dict[str, Any]]] = {
            "eager": lambda: our_rank(False),
            "compiled": lambda: our_rank(True),
            "messages": messages_rank,
            "torch": torch_rank,
        }
        found = kinds[given.rank]()
        if found:
            print(json.dumps(found), flush=True)
        return
    results = dict(measured(given.torch_python, given.oversubscribed))
    given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for kind in ("eager", "compiled", "torch"):
        for ranks, rows in results.get(kind, {}).items():
            for net, row in rows.items():
                print(f"{kind:9} {ranks} rank(s) {net:5} {row}")


if __name__ == "__main__":
    main()
