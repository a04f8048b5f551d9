"""The fuzz targets: on their corpus, and on inputs that Hypothesis damages."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from driver import HERE, Target, check, corpus

NAMES = sorted(file.stem.removeprefix("fuzz_") for file in HERE.glob("fuzz_*.py"))


def target_of(name: str) -> Target:
    target: Target = importlib.import_module(f"fuzz_{name}").target
    return target


def test_every_target_has_a_corpus() -> None:
    assert sorted(folder.name for folder in (HERE / "corpus").iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_corpus(name: str) -> None:
    inputs = corpus(name)
    assert inputs
    for data in inputs:
        target_of(name)(data)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_inputs(name: str) -> None:
    check(target_of(name), name, 60)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_damaged_inputs(name: str) -> None:
    check(target_of(name), name, 2_000)


@pytest.mark.slow
def test_the_command() -> None:
    file = HERE / "fuzz_index.py"
    subprocess.run([sys.executable, str(file), "--examples=20"], check=True, cwd=Path(HERE))
