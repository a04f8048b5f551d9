"""What a workload is: its rows, its data, its starting weights, and a step in one framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["LEARNING_RATE", "OPTIMIZERS", "Work", "gradient_names", "starting_weights"]

LEARNING_RATE = 1e-6
"""Small, so that no net converges: converged nets have denormal gradients, which are slow."""
OPTIMIZERS: dict[str, dict[str, float]] = {
    "SGD": {"lr": LEARNING_RATE},
    "momentum": {"lr": LEARNING_RATE, "momentum": 0.9},
    "Adam": {"lr": LEARNING_RATE},
    "AdamW": {"lr": LEARNING_RATE, "weight_decay": 0.01},
}
"""Update rules by name, and their options in PyTorch's terms."""


@dataclass(frozen=True)
class Work:
    """One workload in one framework.

    step: does the work once and waits until it is done. results: the arrays that every framework
    must agree on, computed before the first step: loss and gradients.
    """

    step: Callable[[], Any]
    results: Callable[[], Mapping[str, np.ndarray]]


def starting_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights by PyTorch's names: normal of variance 1 / fan_in, biases 0, scales of norms 1."""
    generator = np.random.default_rng(0)
    weights = {}
    for name in sorted(shapes):
        shape = shapes[name]
        if len(shape) > 1:
            fan_in = int(np.prod(shape[1:]))
            weights[name] = generator.standard_normal(shape, np.float32) / np.float32(fan_in**0.5)
        else:
            weights[name] = np.full(shape, name.endswith("weight"), np.float32)
    return weights


def gradient_names(names: Any) -> list[str]:
    return [f"gradient of {name}" for name in names]
