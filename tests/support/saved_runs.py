"""Runs that the tests of `tk.save` and `tk.load` save and resume."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import nn, optim

needs_safetensors = pytest.mark.skipif(
    find_spec("safetensors") is None, reason="needs the library safetensors"
)
SUFFIXES = [".npz", pytest.param(".safetensors", marks=needs_safetensors)]
INPUTS = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
LABELS = (INPUTS.sum(1) > 0).astype(np.int64)

MakeOptimizer = Callable[[Any], optim.Optimizer]
MakeScheduler = Callable[[optim.Optimizer], Any]


def cosine(optimizer: optim.Optimizer) -> Any:
    return optim.lr_scheduler.CosineAnnealingLR(optimizer, 9)


class Run:
    """An MLP with dropout and batch norm, its optimizer, schedule and shuffled loader."""

    def __init__(
        self,
        seed: int = 0,
        optimizer: MakeOptimizer = lambda p: optim.Adam(p, 0.01),
        scheduler: MakeScheduler = cosine,
        own_generators: bool = True,
    ) -> None:
        tk.manual_seed(seed)

        def generator(kind: Any) -> Any:
            return np.random.Generator(kind(seed)) if own_generators else None

        self.model = nn.Sequential(
            nn.Linear(4, 6),
            nn.BatchNorm1d(6),
            nn.Dropout(0.3, generator=generator(np.random.MT19937)),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(6, 2),
        )
        self.optimizer = optimizer(self.model.parameters())
        self.scheduler = scheduler(self.optimizer)
        self.loader = tk.data.DataLoader(
            (INPUTS, LABELS), 6, shuffle=True, generator=generator(np.random.Philox)
        )
        self.losses: list[float] = []

    @property
    def parts(self) -> dict[str, Any]:
        names = ("model", "optimizer", "scheduler", "loader")
        return {name: getattr(self, name) for name in names}

    def batch(self, x: tk.Tensor, y: tk.Tensor) -> tk.Tensor:
        self.optimizer.zero_grad()
        loss = tk.functional.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss

    def train(
        self, steps: int, compiled: bool = False, after: dict[int, Callable[[], Any]] | None = None
    ) -> list[float]:
        """That many steps; `after` is called after a step of this number, counted from 1.

        A step that is compiled is compiled anew after each such call.
        """
        step, done = tk.compile(self.batch) if compiled else self.batch, 0
        while done < steps:
            for x, y in self.loader:
                self.losses.append(step(x, y).item())
                if isinstance(self.scheduler, optim.lr_scheduler.ReduceLROnPlateau):
                    self.scheduler.step(self.losses[-1])
                else:
                    self.scheduler.step()
                done += 1
                if after and done in after:
                    after[done]()
                    step = tk.compile(self.batch) if compiled else self.batch
                if done == steps:
                    break
        return self.losses

    def state(self) -> Any:
        """All that a resumed run must have, in plain values that compare bit for bit."""
        return {
            **{name: plain(part.state_dict()) for name, part in self.parts.items()},
            "default": tk.random.generator_state(tk.random.default_generator()),
            "dropout": plain(
                [m.generator and tk.random.generator_state(m.generator) for m in self.model
                 if isinstance(m, nn.Dropout)]
            ),
        }  # fmt: skip


def plain(value: Any) -> Any:
    """A state as JSON has it; arrays as dtype, shape and bytes."""
    if isinstance(value, dict):
        return {str(key): plain(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [plain(x) for x in value]
    if isinstance(value, np.ndarray):
        return [str(value.dtype), list(value.shape), value.tobytes().hex()]
    return copy.deepcopy(value)


def same(a: Any, b: Any) -> bool:
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
