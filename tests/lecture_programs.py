"""Loads programs of examples/lectures that import `common` from their own folder."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "examples/lectures"
SHARED = os.environ.get("TINYGRAD_KR_DATA", "")
needs_tables = pytest.mark.skipif(
    not SHARED, reason="the lectures' files are needed: set TINYGRAD_KR_DATA to the folder above"
)


def program(name: str) -> ModuleType:
    """The program as a module, found as if it were run."""
    spec = importlib.util.spec_from_file_location(f"lectures_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(FOLDER))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


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
