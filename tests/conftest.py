"""What every test gets: a seed, and a check that it left the library's global state as it was."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads spin where a neighbour is busy
os.environ.setdefault("PYTHONIOENCODING", "utf-8")  # of child processes, whose output tests read

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tinygrad_kr import numpy_protocol as numpy_protocol  # its table fills when first used
from tinygrad_kr.ops.node import NodeType, grad_mode
from tinygrad_kr.ops.op import numpy_table
from tinygrad_kr.random import default_generator, manual_seed

settings.register_profile(
    "default",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def global_state() -> dict[str, Any]:
    """Everything that a test may change for the tests after it, by name."""
    return {
        "grad mode": grad_mode.get(),
        "NumPy's error state": (np.geterr(), np.geterrcall()),
        "NumPy's print options": np.get_printoptions(),
        "the class of results": NodeType.cls,
        "the default generator": id(default_generator()),
        "the table of NumPy functions": dict(numpy_table),
    }


def leaks(before: dict[str, Any]) -> list[str]:
    """The names of what is no longer as it was."""
    after = global_state()
    return [name for name, value in before.items() if after[name] != value]


@pytest.fixture(autouse=True)
def _global_state_kept() -> Iterator[None]:
    manual_seed(0)
    before = global_state()
    yield
    left = leaks(before)
    assert not left, f"this test leaked {', '.join(left)}"


@pytest.fixture
def own_numpy_table() -> Iterator[None]:
    """For tests that define ops on NumPy's own functions: puts the table back."""
    before = dict(numpy_table)
    yield
    numpy_table.clear()
    numpy_table.update(before)
