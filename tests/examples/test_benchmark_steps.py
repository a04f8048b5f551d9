"""`benchmarks/training_step.py`: what it times is what it says, and it runs without any peer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(FOLDER))
    import compiled_step
    import frameworks

    yield frameworks, compiled_step


@pytest.mark.trains
def test_ours_compiled_takes_the_steps_of_ours(modules: Any) -> None:
    import tinygrad_kr as tk

    frameworks, _ = modules
    for key in ("xor", "deep"):
        losses = []
        for name in ("tinygrad_kr", "compiled"):
            tk.manual_seed(0)
            step = frameworks.make(name, key)
            losses.append([step().item() for _ in range(6)])
        np.testing.assert_allclose(*losses, rtol=1e-6)


def test_functions_are_those_of_the_formula(modules: Any) -> None:
    frameworks, _ = modules
    x = frameworks.POINT
    inner = 200 * (x[1:] - x[:-1] ** 2)
    expected = np.zeros(100)
    expected[1:] += inner
    expected[:-1] -= 2 * x[:-1] * inner + 2 * (1 - x[:-1])
    for name in ("tinygrad_kr", "compiled"):
        found = frameworks.make(name, "gradient")()
        assert type(found) is np.ndarray
        np.testing.assert_allclose(found, expected, 1e-12, 1e-10)
    hessian = frameworks.make("tinygrad_kr", "hessian")()
    np.testing.assert_allclose(np.diagonal(hessian, 1), -400 * x[:-1], 1e-12)


def test_a_row_says_whether_its_ratio_is_reached(modules: Any) -> None:
    _, compiled_step = modules
    row = compiled_step.Row("xor", "XOR", "jax", Fraction(1, 20))
    names = ["compiled", "jax"]
    assert "1/25.0, reached" in compiled_step.line(row, {"compiled": 2e-6, "jax": 50e-6}, names)
    assert "1/10.0, missed" in compiled_step.line(row, {"compiled": 5e-6, "jax": 50e-6}, names)
    assert compiled_step.line(row, {"compiled": 5e-6}, names).endswith("1/20 x JAX jit")


@pytest.mark.slow
def test_it_runs_without_peers(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    options = ["--peers", "none", "--only", "xor,xor-repeat", "--seconds", "0", "--json", file]
    done = subprocess.run(
        [sys.executable, FOLDER / "training_step.py", *map(str, options)],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    assert "XOR 2-10-1" in done.stdout
    figures = json.loads(file.read_text(encoding="utf-8"))
    assert figures["steps"]["xor"].keys() == {"tinygrad_kr", "compiled"}
    assert (
        0 < figures["compiled"]["xor-repeat"]["compiled"] < figures["steps"]["xor"]["tinygrad_kr"]
    )
