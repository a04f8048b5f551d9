"""`examples/larger_than_memory.py`: the memory that it takes, what it learns and prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
from lecture_programs import FOLDER, module

from tinygrad_kr.data import MemoryMapped

PROGRAM = FOLDER.parent / "larger_than_memory.py"
LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the memory")


class Shown(NamedTuple):
    """Rows trained on, percent right, megabytes before the table was opened and at most."""

    rows: int
    right: float
    before: float
    most: float


def run(folder: Path, *options: str) -> Shown:
    """The program in a process of its own."""
    command = [sys.executable, str(PROGRAM), "--lang", "en", "--out", str(folder), *options]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    found = re.search(
        r"trained on ([\d,]+) rows in .*\naccuracy on 10,000 other rows: ([\d.]+)%\n"
        r"anonymous memory: (\S+) MB before the table was opened, at most (\S+) MB after",
        done.stdout,
    )
    assert found, done.stdout
    assert not os.listdir(folder)
    return Shown(int(found[1].replace(",", "")), *map(float, found.groups()[1:]))


@LINUX
@pytest.mark.trains
def test_a_small_table_takes_less_memory_than_its_size(tmp_path: Path) -> None:
    """20 MB: beside an array in memory, which would take 20 MB, batches and an order take few."""
    shown = run(tmp_path, "--gigabytes", "0.02")
    assert shown.rows == 66_000
    assert shown.right > 70
    assert shown.most - shown.before < 10


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--parquet",)], ids=["npy", "parquet"])
def test_two_gigabytes_with_less_than_one_of_memory(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    if options:
        pytest.importorskip("pyarrow")
    shown = run(tmp_path, "--gigabytes", "2", *options)
    assert shown.rows == 7_682_000
    assert shown.right > 95
    assert shown.most < (1000 if options else 200)


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return module(PROGRAM)


def test_both_formats_hold_the_same_table(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(example, "PIECE", 300)
    npy = MemoryMapped(*example.write_npy(tmp_path, 1000, 0))
    parquet = MemoryMapped(*example.write_parquet(tmp_path, 1000, 0))
    for one, other in zip(npy[:], parquet[:], strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), strict=True)
    assert 0.35 < npy[:][1].numpy().mean() < 0.65
    npy.close()
    parquet.close()


def test_it_speaks_korean(
    example: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = [PROGRAM.name, "--gigabytes", "0.001", "--lang", "ko", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    try:
        example.main()
    finally:
        example.tk.set_language(None)
    shown = capsys.readouterr().out
    assert "다른 행 10,000개의 정확도" in shown and "익명 메모리" in shown
