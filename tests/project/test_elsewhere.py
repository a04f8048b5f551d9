"""The files of the wheel work from another folder, with nothing around them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "support" / "elsewhere.py"
NO_CODE = shutil.ignore_patterns("__pycache__")


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file, with its time of change and its size."""
    found = {}
    for path in folder.rglob("*"):
        status = path.stat()
        found[str(path)] = status.st_mtime_ns, status.st_size
    return found


def test_the_package_trains_without_compiler_home_or_a_folder_to_write(tmp_path: Path) -> None:
    site, work = tmp_path / "site-packages", tmp_path / "work"
    shutil.copytree(ROOT / "tinygrad_kr", site / "tinygrad_kr", ignore=NO_CODE)
    work.mkdir()
    for path in (*site.rglob("*"), site, work):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = files(tmp_path)
    try:
        done = subprocess.run(
            [sys.executable, "-B", str(PROGRAM)],
            cwd=work,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=300,
            env={**os.environ, "PYTHONPATH": str(site), "PYTHONUTF8": "1"},
        )
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert Path(lines[-1]) == site / "tinygrad_kr"
        assert any(line.startswith("--  C compiler: none") for line in lines)
        assert files(tmp_path) == before
    finally:
        for path in (work, site, *site.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize("missing", ["native/include/gemm.h", "py.typed"])
def test_a_file_that_is_not_packed_is_noticed(missing: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tinygrad_kr", tmp_path / "tinygrad_kr", ignore=NO_CODE)
    (tmp_path / "tinygrad_kr" / missing).unlink()
    code = "import elsewhere as e; e.without_home_and_compiler(); e.read_what_is_packed()"
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(PROGRAM.parent)])},
    )
    assert done.returncode == 1
    assert f"AssertionError: {missing}" in done.stderr
