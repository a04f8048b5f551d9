"""A training program in which one rank does something else than the others.

    mpirun -n 3 python tests/support/distributed_failures.py FAILURE RANK [compiled]

`none` fails nowhere. Each rank that comes to its end writes "rank N is done".
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import data, nn, optim
from tinygrad_kr.native import choice

TIMEOUT, AT = 5.0, 5
"""Seconds of silence, and the step in which it happens."""


class UnreadableError(Exception):
    """An error that cannot tell its message."""

    def __str__(self) -> str:
        raise ValueError


def happen(failure: str) -> None:
    """What ends one rank, or holds it up."""
    if failure == "raises":
        raise ValueError("no such sample")
    if failure == "unreadable":
        sys.excepthook = traceback.print_exception
        raise UnreadableError
    if failure == "interrupted":
        os.kill(os.getpid(), signal.SIGINT)
    if failure == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if failure == "says":
        sys.exit("no such file: train.csv")
    if failure in ("thread", "training thread"):
        thread = threading.Thread(target=fail, args=[failure == "training thread"], name="reader")
        thread.start()
        thread.join()
        sys.exit(0)
    if failure == "leaves":
        sys.exit(0)
    if failure == "vanishes":
        os._exit(0)
    if failure == "silent":
        time.sleep(1000)
    if failure == "asks":
        tk.distributed.init(TIMEOUT).all_reduce(1.0)


def fail(waits: bool) -> None:
    """The work of a thread: it raises, and has perhaps waited for an exchange before."""
    if waits:
        tk.distributed.init()._link.peers.wait(lambda: True)  # type: ignore[union-attr]
    raise OSError("disk is gone")


def prepare_the_start(ends: bool) -> None:
    """End before `init`, after the others may have begun to wait; or do not wait long for that."""
    from tinygrad_kr.distributed import failure

    if ends:
        sys.exit(0)
    time.sleep(2)
    failure.START_SECONDS = 3.0


def interrupt(run: Any) -> None:
    """Catch Ctrl-C in the midst of an exchange, as a notebook does, and go on."""
    threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
    try:
        run()
    except KeyboardInterrupt:
        print("caught", flush=True)


def main(failure: str, bad: int, mode: str = "eager", folder: str = "") -> None:
    """Train a small net; rank `bad` fails."""
    rank = int(os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK", "0")))
    if failure == "never starts":
        prepare_the_start(rank == bad)
    if failure == "measures" and rank == bad:
        measured_before = choice.text_of
        choice.text_of = lambda dtype: (time.sleep(2), measured_before(dtype))[1]
    group = tk.distributed.init(3.0 if failure == "measures" else TIMEOUT)
    tk.distributed.init(TIMEOUT)
    fails = group.rank == bad
    tk.manual_seed(3)
    random = np.random.default_rng(0)
    x, labels = random.standard_normal((72, 6)), random.integers(0, 4, 72)
    width = 7 if fails and failure == "shape" else 5
    net = group.broadcast(nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, 4)))
    optimizer = group.optimizer(optim.Adam(net.parameters(), lr=0.01))
    sampler = group.sampler(x, shuffle=True)
    loader = data.DataLoader((x.astype(np.float32), labels), 4, sampler=sampler)

    def step(x: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    if fails and failure == "peeks":
        next(iter(loader))
    if failure == "interrupted in fit":
        told = [lambda training: happen("interrupted" if fails else "none")]
        tk.fit(net, loader, F.cross_entropy, optimizer, 3, callbacks=told, progress=False)
    run: Any = tk.compile(step) if mode == "compiled" else step
    done = 0
    for _ in range(3):
        for batch, targets in loader:
            done += 1
            now = fails and done == AT
            if now and failure == "fewer steps":
                continue
            if now:
                happen(failure)
            run(batch * np.float32(np.nan) if now and failure == "nan" else batch, targets)
            if failure == "waits":
                Path(folder, str(group.rank)).touch()
                time.sleep(0.05)
            if done == AT and failure == "caught":
                if fails:
                    interrupt(partial(run, batch, targets))
                else:
                    time.sleep(1)
    if failure == "works at the end" and fails:
        tk.distributed.init(timeout=1)
        time.sleep(2.5)
        tk.save(Path(folder, "net.npz"), model=net)
    if failure == "works at the end":
        tk.distributed.init(timeout=1)
    if failure == "another reduction":
        group.all_reduce(np.zeros(3 if fails else 4))
    print(f"rank {group.rank} is done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
