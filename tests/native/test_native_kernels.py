"""The kernels of products and convolutions for every processor, in C, against naive loops.

`support/kernel_driver.c` is built for each vectors that this processor has, and by zig for aarch64,
where QEMU runs it.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tinygrad_kr.native import compiler as compilers
from tinygrad_kr.native import cpu, kernels
from tinygrad_kr.native.build import find_compiler

SUPPORT = Path(__file__).parents[1] / "support"
HEADERS = Path(kernels.__file__).with_name("include")
needs_kernels = pytest.mark.skipif(
    find_compiler() is None or not kernels.has_kernels(),
    reason="needs a C compiler and POSIX threads",
)


def driver(work: Path, command: Sequence[str], *macros: str, options: Sequence[str]) -> Path:
    program = work / "driver"
    defined = [f"-D{macro}" for macro in ("TK_F64", *macros)]
    line = [*command, "-std=gnu99", "-ffp-contract=off", *options, *defined, f"-I{HEADERS}"]
    built = [str(SUPPORT / "kernel_driver.c"), "-o", str(program), "-lm", "-lpthread"]
    subprocess.run([*line, *built], check=True, timeout=900, capture_output=True)
    return program


def right(*command: str) -> bool:
    """Whether all that the driver compares is right."""
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=900, check=False)
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout.endswith(" right\n")


@pytest.mark.one_in(3)
@needs_kernels
@pytest.mark.skipif(cpu.vectors() == "neon", reason="aarch64 has its own test")
@pytest.mark.parametrize("vectors", ["avx512", "avx2", "none"])
def test_vectors_of_this_processor(
    vectors: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYGRAD_KR_VECTORS", vectors)
    if cpu.vectors() != vectors:
        pytest.skip("needs AVX-512" if vectors == "avx512" else "needs AVX2")
    found = find_compiler()
    assert found is not None
    target = [] if vectors == "none" else [f"TK_{vectors.upper()}"]
    options = ["-O1", cpu.architecture()]
    assert right(str(driver(tmp_path, found.command, *target, "TK_HELPERS=2", options=options)))


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason='needs pip install ".[compile]"'
)
@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="needs qemu-aarch64")
def test_aarch64(tmp_path: Path) -> None:
    options = ["-O1", "-target", "aarch64-linux-musl", "-mcpu=cortex_a72", "-static"]
    command = compilers._zig()
    assert right("qemu-aarch64", str(driver(tmp_path, command, "TK_HELPERS=1", options=options)))
