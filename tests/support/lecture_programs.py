"""Loads programs that import from their own folder, such as the lectures', and checks pictures."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest

from tinygrad_kr import data
from tinygrad_kr.native.build import find_compiler

FOLDER = Path(__file__).parents[2] / "examples/lectures"
SHARED = os.environ.get("TINYGRAD_KR_DATA", "")
STRICT = ["-W", "error"] + ["-W", "ignore::RuntimeWarning"] * (find_compiler() is None)
"""Options of Python: a warning is an error, but for that of a machine without a compiler."""

needs_tables = pytest.mark.skipif(
    not SHARED, reason="the lectures' files are needed: set TINYGRAD_KR_DATA to the folder above"
)


def module(path: Path) -> ModuleType:
    """The program as a module, found as if it were run."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(loaded)
    finally:
        sys.path.remove(str(path.parent))
    return loaded


def program(name: str) -> ModuleType:
    """A lecture's program as a module."""
    return module(FOLDER / f"{name}.py")


def figures_of(module: ModuleType, *args: Any, **settings: Any) -> Any:
    """A fixture: the figures of one run of a program, for all tests of a file."""

    @pytest.fixture(scope="module", name="figures")
    def figures() -> Any:
        return module.run(*args, **settings)

    return figures


def large_digits(split: Literal["train", "test"]) -> tuple[np.ndarray, np.ndarray]:
    """The small digits of the package, each pixel a square of nine, in MNIST's format."""
    images, labels = data.digits(split)
    return np.pad(np.kron(images, np.ones((3, 3), np.float32)), ((0, 0), (2, 2), (2, 2))), labels


@pytest.fixture
def made_up_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """In place of the lectures' tables: tables of the same form, and what they are made of."""
    rng = np.random.default_rng(0)
    tests = 75 + 15 * rng.normal(size=(25, 1)) + 4 * rng.normal(size=(25, 3))
    final = tests @ [0.4, 0.5, 1.1] + rng.normal(size=25)  # a plane and a little noise
    scores = np.column_stack([tests, final]).round()
    rng = np.random.default_rng(0)
    traits = rng.uniform(-1, 1, size=(100, 8))
    ill = traits @ np.arange(8.0) + rng.logistic(size=100) > 0
    rng = np.random.default_rng(0)
    kinds = np.arange(50) % 7
    animals = rng.integers(0, 2, (50, 16)).astype(float)
    animals[:, 0], animals[:, 1] = 3 * np.cos(kinds), 3 * np.sin(kinds)  # tell the kinds apart
    animals[0, :2] = animals[1, :2]  # but for one
    tables = {
        "data-01-test-score.csv": scores,
        "data-03-diabetes.csv": np.column_stack([traits, ill]),
        "data-04-zoo.csv": np.column_stack([animals, kinds]),
    }
    (tmp_path / "lectures").mkdir()
    for name, table in tables.items():
        data.write_csv(tmp_path / "lectures" / name, table)
    monkeypatch.setenv("TINYGRAD_KR_DATA", str(tmp_path))
    return tables


def check_picture(shown: str, path: Path) -> None:
    """With matplotlib the picture is there, named and not blank; without, a line says what to
    install."""
    if importlib.util.find_spec("matplotlib") is None:
        assert 'pip install "tinygrad_kr[examples]"' in shown
        assert not path.exists()
        return
    assert f"picture saved: {path}" in shown
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < 150_000
    from matplotlib.image import imread

    assert np.ptp(imread(path)) > 0.5
