"""Compilers that are shell scripts, so that building is tested where there is none.

A script "compiles" by copying an extension module of NumPy, which any machine here can load.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy.random._mt19937
import numpy.random._pcg64
import pytest

from tinygrad_kr.native import build as building
from tinygrad_kr.native import cache as caching
from tinygrad_kr.native import compiler as compilers
from tinygrad_kr.native import kernels

OTHER_LIBRARY = Path(numpy.random._mt19937.__file__)
LIBRARY, FUNCTION = Path(numpy.random._pcg64.__file__), "PyInit__pcg64"
PATH = os.pathsep.join([os.environ.get("PATH", ""), os.defpath])
TOOLS = {name: shutil.which(name, path=PATH) for name in ("cp", "sleep")}


def new_process() -> None:
    """Forget what a process knows, as a later process would begin."""
    building._loaded.clear()
    kernels._pools.clear()
    compilers.forget_searches()
    caching._warned.clear()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TINYGRAD_KR_CACHE", str(tmp_path / "cache"))
    new_process()
    yield tmp_path / "cache" / "compile"
    new_process()


class Fakes:
    """Compilers that are shell scripts, in a folder that is the whole PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.log = folder / "log"

    def make(
        self,
        name: str = "cc",
        body: str = "",
        rejects: str = "",
        library: Path = LIBRARY,
        path: Path | None = None,
    ) -> Path:
        """A compiler that runs `body` before it "compiles" to `library`."""
        program = path or self.folder / name
        rejecting = f"{rejects}) echo \"unknown option '$word'\" >&2; exit 1;;" * bool(rejects)
        program.write_text(
            f"""#!/bin/sh
echo "{name} $*" >> {self.log}
for word; do case "$word" in
  {rejecting}
esac; done
{body}
while [ "$1" != -o ]; do shift; done
{TOOLS["cp"]} {shlex.quote(str(library))} "$2"
""",
            encoding="utf-8",
        )
        program.chmod(0o700)
        return program

    def runs(self) -> list[str]:
        """What was started, a line each: name and arguments."""
        return self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []

    def compilations(self) -> int:
        return sum("-o program" in line for line in self.runs())


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    """No compiler but those that the test makes."""
    made = Fakes(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(made.folder))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setitem(sys.modules, "ziglang", None)  # type: ignore[arg-type]
    monkeypatch.setattr(compilers, "TRIAL_NAME", FUNCTION)
    return made


def entries(folder: Path, suffix: str = "") -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix == suffix)


def the_library(folder: Path) -> Path:
    (library,) = entries(folder, caching.SUFFIX)
    return library


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    begin = f"""
import os, sys, time, warnings
from pathlib import Path
from tinygrad_kr.native import build as building, cache as caching, compiler as compilers
compilers.TRIAL_NAME = {FUNCTION!r}
"""
    command = [sys.executable, "-W", "ignore", "-c", begin + code, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
