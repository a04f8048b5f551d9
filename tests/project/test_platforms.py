"""What differs between systems, where it can be shown on one of them."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest

from tinygrad_kr import workers
from tinygrad_kr.compile.trace import reads
from tinygrad_kr.native import compiler

ROOT = Path(__file__).parents[2]

# ------------------------------------------------------------------ paths

FROM_ABOVE = """
import sys
sys.path.insert(0, {path!r})
sys.meta_path = [finder for finder in sys.meta_path if "ditable" not in repr(finder)]
import numpy as np
import tinygrad_kr as tk
from tinygrad_kr.ops.node import source_line_of, user_frame
assert ".." in tk.__file__ or sys.platform == "win32", tk.__file__
w = tk.Tensor(np.ones(3), requires_grad=True)
with tk.detect_anomaly():
    print(source_line_of(tk.nn.ReLU()(w)))

@tk.compile
def step(x):
    return float((w.detach() * x).sum().item())

try:
    step(w.detach())
except RuntimeError as error:
    print(error)
print(step.explain())
"""


def test_a_package_that_is_reached_by_a_path_with_dots_still_names_the_users_lines(
    tmp_path: Path,
) -> None:
    """As `sys.path.insert(0, "../..")` has it. Python does not resolve the dots on every system."""
    path = os.path.join(ROOT, "tests", "..")
    script = tmp_path / "script.py"
    script.write_text(FROM_ABOVE.format(path=path), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert "tinygrad_kr" not in done.stdout.replace("tinygrad_kr.", "")
    assert f"{script}:11" in done.stdout
    assert f"{script}:15" in done.stdout


def test_a_drive_in_small_letters_is_the_same_drive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "_PACKAGE", "c:\\users\\kim\\tinygrad_kr\\")
    monkeypatch.setattr(reads, "_LIBRARY", ("c:\\python311\\lib\\",))
    monkeypatch.setattr(os.path, "abspath", lambda path: path)
    monkeypatch.setattr(os.path, "normcase", lambda path: path.replace("/", "\\").lower())
    home_of = reads.home_of.__wrapped__
    assert home_of("C:\\Users\\kim\\tinygrad_kr\\tensor.py") == "ours"
    assert home_of("C:/Python311/Lib/ast.py") == "python"
    assert home_of("C:\\Users\\kim\\train.py") == "user"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (r"C:\mingw64\bin\gcc.exe -m64", [r"C:\mingw64\bin\gcc.exe", "-m64"]),
        (r'"C:\Program Files\LLVM\clang.exe" -O1', [r"C:\Program Files\LLVM\clang.exe", "-O1"]),
        ("zig cc", ["zig", "cc"]),
    ],
)
def test_a_compiler_in_a_windows_path(
    line: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        found = compiler._words(line)
    assert found == words


# ------------------------------------------------------------------ processes


def test_a_sweep_starts_no_more_processes_than_windows_can_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    class Pool:
        _processes: dict[int, Any] = {}  # noqa: RUF012

        def __init__(self, jobs: int, *_: object) -> None:
            asked.append(jobs)

        def shutdown(self) -> None:
            pass

    monkeypatch.setattr(futures, "ProcessPoolExecutor", Pool)
    for platform in ("win32", "linux"):
        monkeypatch.setattr(sys, "platform", platform)
        with workers._processes(100):
            pass
    assert asked == [61, 100]


SOURCES = [
    path
    for folder in ("tinygrad_kr", "examples", "benchmarks", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


STARTS = ("ProcessPoolExecutor", "Pool", "Process", "get_context")


def unmarked_forks(source: str) -> Iterator[int]:
    """Lines of functions that fork without `needs_fork`, and of pools that might."""
    if not any(word in source for word in ("os.fork", *STARTS)):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and "os.fork" in source:
            marks = {ast.unparse(decorator) for decorator in node.decorator_list}
            if "needs_fork" not in marks and "os.fork()" in ast.unparse(node):
                yield node.lineno
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in STARTS and node.args and "spawn" not in ast.unparse(node):
                yield node.lineno


def test_processes_are_spawned_and_forks_are_marked() -> None:
    """Windows has no fork, and macOS none that goes with threads."""
    found = {
        f"{path.relative_to(ROOT).as_posix()}:{line}"
        for path in SOURCES
        if path not in (Path(__file__), ROOT / "tests" / "mutation.py")  # a command: it says so
        for line in unmarked_forks(path.read_text(encoding="utf-8"))
    }
    assert found == set()


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("def test():\n    os.fork()", [1]),
        ("@needs_fork\ndef test():\n    os.fork()", []),
        ("@needs_fork\ndef test():\n    run('os.fork()')", []),
        ("ProcessPoolExecutor(4)", [1]),
        ("ProcessPoolExecutor(4, get_context('spawn'))", []),
        ("multiprocessing.get_context('fork')", [1]),
    ],
)
def test_the_check_sees_forks(code: str, lines: list[int]) -> None:
    assert list(unmarked_forks(code)) == lines
