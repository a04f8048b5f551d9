"""Loads programs that import from their own folder, such as the lectures', and checks pictures."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Literal

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


def large_digits(split: Literal["train", "test"]) -> tuple[np.ndarray, np.ndarray]:
    """The small digits of the package, each pixel a square of nine, in MNIST's format."""
    images, labels = data.digits(split)
    return np.pad(np.kron(images, np.ones((3, 3), np.float32)), ((0, 0), (2, 2), (2, 2))), labels


def check_picture(shown: str, path: Path) -> None:
    """With matplotlib the picture is there and named; without, a line says what to install."""
    if importlib.util.find_spec("matplotlib") is None:
        assert 'pip install "tinygrad_kr[examples]"' in shown
        assert not path.exists()
        return
    assert f"picture saved: {path}" in shown
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < 150_000
