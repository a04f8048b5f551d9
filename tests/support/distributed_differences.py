"""Programs whose ranks come to differ in the midst of training.

mpirun -n 2 python tests/support/distributed_differences.py CASE
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

import numpy as np

import tinygrad_kr as tk
from tinygrad_kr import nn, optim


class Heads(nn.Module):
    """Two layers, of which a number chooses one."""

    def __init__(self) -> None:
        self.layers = nn.ModuleList([nn.Linear(5, 3) for _ in range(2)])

    def forward(self, x: Any, choice: int) -> Any:
        return self.layers[choice](x)


def heads(group: Any) -> None:
    """A recorded program meets another rank's second head, after a later one was recorded."""
    net = group.broadcast(Heads())
    optimizer = group.optimizer(optim.SGD(net.parameters(), lr=0.1))

    @tk.compile
    def step(x: Any, choice: int) -> None:
        optimizer.zero_grad()
        net(x, choice).sum().backward()
        optimizer.step()

    for count, second in ((8, 0), (9, 1), (8, 1)):
        for _ in range(3):
            x = np.ones((count if group.rank == 0 else 8, 5), np.float32)
            step(x, second if group.rank else 0)


def paused_heads(group: Any) -> None:
    """The same where the program was recorded inside an outer `no_sync`."""
    net = group.broadcast(Heads())
    optimizer = group.optimizer(optim.SGD(net.parameters(), lr=0.1))

    @tk.compile
    def backward(x: Any, choice: int) -> None:
        net(x, choice).sum().backward()

    x = tk.ones(8, 5)
    with group.no_sync():
        for _ in range(3):
            backward(x, group.rank)
            optimizer.zero_grad()
    backward(x, group.rank)


def reduction(group: Any) -> None:
    """Arrays of other sizes, one of them large."""
    group.all_reduce(np.zeros(3 if group.rank else 4_000_000))


def skipped(group: Any) -> None:
    """Two optimizers of large nets; rank 1 leaves out a backward pass of the first."""
    nets = [group.broadcast(nn.Linear(600, width)) for width in (600, 300)]
    optimizers = [group.optimizer(optim.SGD(net.parameters(), lr=0.1)) for net in nets]
    for i in range(3):
        for net, optimizer in zip(nets, optimizers, strict=True):
            if net is nets[0] and i == 1 and group.rank == 1:
                continue
            optimizer.zero_grad()
            net(tk.ones(4, 600)).sum().backward()
            optimizer.step()


def _steps(net: Any, optimizer: Any) -> None:
    for _ in range(3):
        optimizer.zero_grad()
        net(tk.ones(2, 5)).sum().backward()
        optimizer.step()


def options(group: Any) -> None:
    """Rank 1 lowers its learning rate by its own loss."""
    net = group.broadcast(nn.Linear(5, 3))
    optimizer = group.optimizer(optim.SGD(net.parameters(), lr=0.5))
    _steps(net, optimizer)
    optimizer.param_groups[0]["lr"] = 0.5 - 0.25 * group.rank
    _steps(net, optimizer)


def values(group: Any) -> None:
    """Nobody broadcasts nets of other seeds."""
    tk.manual_seed(group.rank)
    net = nn.Linear(5, 3)
    _steps(net, group.optimizer(optim.SGD(net.parameters(), lr=0.5)))


def state(group: Any) -> None:
    """Rank 0 alone loads the state of the optimizer."""
    net = group.broadcast(nn.Linear(5, 3))
    optimizer = group.optimizer(optim.Adam(net.parameters(), lr=0.5))
    loaded = optim.Adam([nn.Parameter(p.data) for p in net.parameters()], lr=0.5)
    loaded.param_groups[0]["params"][0].sum().backward()
    loaded.step()
    if group.rank == 0:
        optimizer.load_state_dict(loaded.state_dict())
    _steps(net, optimizer)


def state_later(group: Any) -> None:
    """The same in the midst of training."""
    net = group.broadcast(nn.Linear(5, 3))
    optimizer = group.optimizer(optim.Adam(net.parameters(), lr=0.5))
    _steps(net, optimizer)
    kept = optimizer.state_dict()
    _steps(net, optimizer)
    optimizer.load_state_dict(optimizer.state_dict() if group.rank else kept)
    _steps(net, optimizer)


def state_once(group: Any) -> None:
    """Rank 1 alone loads a state in the midst of training."""
    net = group.broadcast(nn.Linear(5, 3))
    optimizer = group.optimizer(optim.Adam(net.parameters(), lr=0.5))
    _steps(net, optimizer)
    if group.rank:
        optimizer.load_state_dict(optimizer.state_dict())
    _steps(net, optimizer)


def fewer_groups(group: Any) -> None:
    """Rank 1 gives its optimizer a parameter less."""
    net = group.broadcast(nn.Linear(5, 3))
    optimizer = group.optimizer(optim.SGD([net.weight], lr=0.5))
    _steps(net, optimizer)
    if group.rank == 0:
        optimizer.add_param_group({"params": [net.bias]})
    _steps(net, optimizer)


def swapped(group: Any) -> None:
    """Two nets alike; rank 1 comes to train them in the other order."""
    pairs = []
    for _ in range(2):
        net = group.broadcast(nn.Linear(5, 3))
        pairs.append((net, group.optimizer(optim.SGD(net.parameters(), lr=0.1))))
    for order in (pairs, pairs[::-1] if group.rank else pairs):
        for net, optimizer in order:
            _steps(net, optimizer)


def caught(group: Any, mode: str = "compiled") -> None:
    """Rank 0 is interrupted while it waits in an exchange, and goes on."""
    net = group.broadcast(nn.Linear(5, 3))
    optimizer = group.optimizer(optim.SGD(net.parameters(), lr=0.1))

    def step(x: Any) -> None:
        optimizer.zero_grad()
        net(x).sum().backward()
        optimizer.step()

    run: Any = tk.compile(step) if mode == "compiled" else step
    for i in range(8):
        if i == 5 and group.rank == 1:
            time.sleep(1)
        if i == 5 and group.rank == 0:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            run(tk.ones(2, 5))
        except KeyboardInterrupt:
            print("rank 0 goes on", flush=True)


def caught_as_written(group: Any) -> None:
    """The same in eager mode."""
    caught(group, "eager")


def raised(group: Any) -> None:
    """Rank 1 catches an error of its backward pass, before any sum has begun."""
    net = group.broadcast(nn.Linear(5, 3))
    optimizer = group.optimizer(optim.SGD(net.parameters(), lr=0.1))
    for i in range(3):
        y = net(tk.ones(2, 5))
        if i == 1 and group.rank == 1:
            y.register_hook(lambda g: 1 / 0)
        try:
            y.sum().backward()
        except ZeroDivisionError:
            optimizer.zero_grad()


def infinities(group: Any) -> None:
    """Opposite infinities, of which no rank has a NaN."""
    net = group.broadcast(nn.Linear(2, 1))
    optimizer = group.optimizer(optim.SGD(net.parameters(), lr=0.1))
    x = np.array([[1.0, np.inf if group.rank else -np.inf]], np.float32)
    net.weight.register_hook(lambda g: x)
    net(tk.ones(1, 2)).sum().backward()
    optimizer.step()


def overflow(group: Any) -> None:
    """A NaN that no rank's gradient has, nor an infinity: the sum itself overflows."""
    link = group._link
    w = nn.Parameter(np.zeros(3))
    optimizer = group.optimizer(optim.SGD([w], lr=0.1))
    finish = link.finish_sums

    def overflowing(sums: Any) -> None:
        finish(sums)
        sums[0].flat[1] = np.nan

    link.finish_sums = overflowing
    w.sum().backward()
    optimizer.step()


if __name__ == "__main__":
    tk.manual_seed(0)
    globals()[sys.argv[1]](tk.distributed.init(10))
    print("trained", flush=True)
