"""What is trained is learned whichever kernel of BLAS, number of threads and code computes it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

FIND_OUT = """
import json, threadpoolctl
import numpy
from tinygrad_kr.native.build import find_compiler
from tinygrad_kr.ops import products
(blas,) = (x for x in threadpoolctl.threadpool_info() if x["user_api"] == "blas")
print(json.dumps({
    "kernel": blas.get("architecture"),
    "threads": blas["num_threads"],
    "compiler": find_compiler() is not None,
    "C": products.kernels() is not None,
}))
"""


def kernels() -> list[str | None]:
    """Those of OpenBLAS to be tried here; None is the one that it takes by itself."""
    if chosen := os.environ.get("OPENBLAS_CORETYPE"):
        return [chosen]
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return [None]
    from numpy._core import _multiarray_umath

    has = _multiarray_umath.__cpu_features__
    kinds: list[str | None] = ["Haswell"] if has.get("AVX2") and has.get("FMA3") else []
    return [*kinds, "SkylakeX"] if has.get("AVX512_SKX") else kinds or [None]


def environments() -> list[tuple[str | None, int, str]]:
    """Kernels, numbers of threads and codes.

    Each kernel with one thread and with two, with our C and with all products its own. Where BLAS
    has all products, the rest is C once and NumPy once: no kernel has a part in it.
    """
    first, last = kernels()[0], kernels()[-1]
    return [(first, 1, "no compiler"), (first, 2, "C"), (last, 1, "C"), (last, 2, "BLAS alone")]


def files_that_train() -> list[str]:
    """The tests' files that use the marker: collecting the others takes as long as they do."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(file) for file in files if "mark.trains" in file.read_text(encoding="utf-8")]


def own_environment() -> dict[str, str]:
    """This process's, without what pytest and its workers keep there."""
    return {name: v for name, v in os.environ.items() if not name.startswith("PYTEST_")}


def environment(kernel: str | None, threads: int, code: str, folder: Path) -> dict[str, str]:
    made = own_environment() | {"OPENBLAS_NUM_THREADS": str(threads)}
    made["OPENBLAS_THREAD_TIMEOUT"] = "4"  # else its second thread spins where others want to run
    if kernel is not None:
        made["OPENBLAS_CORETYPE"] = kernel
    if code == "BLAS alone":
        made["TINYGRAD_KR_PRODUCTS"] = "numpy"
    if code == "no compiler":
        (folder / "nothing").mkdir()
        (folder / "ziglang.py").write_text("raise ImportError('not here')", encoding="utf-8")
        made |= {"PATH": str(folder / "nothing"), "PYTHONPATH": str(folder), "CC": ""}
        made["TINYGRAD_KR_CACHE"] = str(folder / "cache")
    return made


def is_openblas() -> bool:
    config: Any = np.show_config(mode="dicts")
    return "openblas" in config["Build Dependencies"]["blas"]["name"]


def training_tests(marks: str, env: dict[str, str], folder: Path, *options: str) -> None:
    """Everything so marked, in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-m", marks, "-p", "no:cacheprovider"]
    own = ["--basetemp", str(folder / "tests"), *options, *files_that_train()]
    done = subprocess.run(
        [*command, *own],
        env=env,
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=1_800,
        encoding="utf-8",
    )
    assert done.returncode == 0, f"{done.stdout[-6_000:]}\n{done.stderr[-2_000:]}"
    assert " passed" in done.stdout


@pytest.mark.parametrize(("kernel", "threads", "code"), environments(), ids=str)
def test_everything_that_trains(
    kernel: str | None, threads: int, code: str, tmp_path: Path
) -> None:
    env = environment(kernel, threads, code, tmp_path)
    asked = [sys.executable, "-c", FIND_OUT]
    found = json.loads(subprocess.run(asked, env=env, capture_output=True, check=True).stdout)
    if is_openblas():
        assert found["threads"] == min(threads, os.cpu_count() or 1)
        assert kernel is None or found["kernel"] == kernel
    assert found["compiler"] == (code != "no compiler")
    assert not found["C"] or code == "C"
    training_tests("trains", env, tmp_path)


def test_everything_that_trains_rounded_otherwise(tmp_path: Path) -> None:
    """No test hangs on the path of one run: last bits of every step may differ."""
    training_tests("trains and not exact", own_environment(), tmp_path, "--rounding", "1")
