"""Nets and trainings that workers of a sweep import."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim

_RANDOM = np.random.default_rng(0)
# Deep enough that OpenBLAS with two threads rounds otherwise than with one.
X = Tensor(_RANDOM.normal(size=(100, 784)).astype(np.float32))
Y = Tensor(_RANDOM.integers(0, 2, (100, 1)).astype(np.float32))


def build(generator: np.random.Generator) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(784, 64, generator=generator),
        nn.Tanh(),
        nn.Linear(64, 16, generator=generator),
        nn.ReLU(),
        nn.Linear(16, 1, generator=generator),
    )


def train(nets: Any) -> dict[str, Any]:
    """A compiled step, then eager ones, and a draw from the default generator."""
    optimizer = optim.Adam(nets.parameters(), lr=0.01)
    noise = tk.randn(100, 784) * 0.01

    def step() -> Any:
        z = nets(X + noise)
        loss = F.binary_cross_entropy_with_logits(z, Y.expand_as(z), reduction="none")
        loss = loss.mean((-2, -1))
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        return loss

    compiled = tk.compile(step)
    for _ in range(3):
        compiled()
    loss = step()
    return {"loss": loss, "weight": nets[0].weight, "right": loss.data < 0.6}


def with_process(nets: Any) -> dict[str, Any]:
    return train(nets) | {"process": np.full(len(nets[0].weight), os.getpid())}


def is_of_seed(nets: Any, seed: int) -> bool:
    """Whether the first of the nets is that of a seed."""
    return np.array_equal(nets[0].weight.data[0], build(np.random.default_rng(seed))[0].weight.data)


def killed_at_seed_4(nets: Any) -> dict[str, Any]:
    if is_of_seed(nets, 4):
        os.kill(os.getpid(), signal.SIGKILL)
    return train(nets)


class KilledOnce:
    """A training in whose midst, at seed 4, the worker is killed, the first time only."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __call__(self, nets: Any) -> dict[str, Any]:
        if is_of_seed(nets, 4) and not Path(self.mark).exists():
            train(nets)
            Path(self.mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return train(nets)


class KilledAfter:
    """A training after which the worker, which holds its results, is killed: `times` in all."""

    def __init__(self, folder: str, times: int) -> None:
        self.folder, self.times = folder, times

    def __call__(self, nets: Any) -> dict[str, Any]:
        found = train(nets)
        for k in range(self.times):
            with contextlib.suppress(FileExistsError):
                Path(self.folder, f"kill {k}").touch(exist_ok=False)
                kill = (os.getpid(), signal.SIGKILL)
                threading.Timer(0.004 * k, os.kill, kill).start()
                break
        return found


class FailsOnce:
    """A training that raises an error the first time."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __call__(self, nets: Any) -> dict[str, Any]:
        if not Path(self.mark).exists():
            Path(self.mark).touch()
            raise ZeroDivisionError("no such rate")
        return train(nets)


class UnreadableError(Exception):
    """Can be pickled, but not be read again: it is made of two values and keeps one."""

    def __init__(self, shown: str, lock: Any) -> None:
        super().__init__(shown)


class UnsendableError(Exception):
    """Cannot be pickled."""

    def __init__(self, shown: str) -> None:
        super().__init__(shown)
        self.lock = threading.Lock()


def fails_by_a_cause(nets: Any) -> dict[str, Any]:
    try:
        raise KeyError("deep")
    except KeyError as cause:
        raise ZeroDivisionError("no such rate") from cause


def fails_at_length(nets: Any) -> dict[str, Any]:
    raise ZeroDivisionError("no such rate" + "." * 20_000)


def fails_unreadably(nets: Any) -> dict[str, Any]:
    raise UnreadableError("no such rate", None)


def fails_unsendably(nets: Any) -> dict[str, Any]:
    raise UnsendableError("no such rate")


def interrupts(nets: Any) -> dict[str, Any]:
    raise KeyboardInterrupt


def wide(generator: np.random.Generator) -> nn.Sequential:
    return nn.Sequential(nn.Linear(100, 800, generator=generator))


def shapes(nets: Any) -> dict[str, Any]:
    count = len(nets[0].weight)
    return {"nets": np.full(count, count)}
