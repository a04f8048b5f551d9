"""A compiler whose libraries end or hang the process that loads them is refused by one that does
not; and what a compiler says about foreign files is not repeated."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from compile_fakes import LIBRARY, Fakes, new_process
from compile_fakes import fakes as fakes
from compile_fakes import own_cache as own_cache

from tinygrad_kr.native import compiler as compilers
from tinygrad_kr.native.build import BuildError, Compiler, find_compiler
from tinygrad_kr.native.compiler import SOURCE, compiled, load_apart, said

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the compilers are shell scripts")

COMPILERS = {name: [name] for name in ("cc", "gcc", "clang") if shutil.which(name)}
if importlib.util.find_spec("ziglang") is not None:
    COMPILERS["zig"] = [sys.executable, "-m", "ziglang", "cc"]
needs_compiler = pytest.mark.skipif(not COMPILERS, reason="no C compiler is installed")

TRY = """
import sys
from tinygrad_kr.native import compiler as compilers
compilers.LOADING_SECONDS = 2
found = compilers.find_compiler()
print("found", found.command if found else None)
print(*compilers.skipped_compilers(), sep="\\n")
"""


def tried(compiler: str, cache: Path, **environment: str) -> str:
    """What a process finds out about `$CC`, the only compiler."""
    own = {"CC": compiler, "PATH": "/nowhere", "TINYGRAD_KR_CACHE": str(cache)}
    process = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['ziglang'] = None\n" + TRY],
        env={**os.environ, **own, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        encoding="utf-8",
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


CONSTRUCTORS = {
    "abort": ("abort();", "cannot be used (exit -6)"),
    "fault": ("raise(SIGSEGV);", "cannot be used (exit -11)"),
    "end": ("exit(0);", "the process that loads it ends"),
    "end at once": ('puts("loaded"); fflush(0); _exit(0);', "the process that loads it ends"),
    "hang": ("for (;;) pause();", "took longer than 2 s"),
}


def starting(code: str, folder: Path) -> str:
    """A compiler whose libraries run `code` when they are loaded."""
    first = next(iter(COMPILERS.values()))
    real = [shutil.which(first[0]) or first[0], *first[1:]]
    header, program = folder / "first.h", folder / "compiler"
    header.write_text(
        "#define _GNU_SOURCE\n#include <signal.h>\n#include <stdio.h>\n#include <stdlib.h>\n"
        f"#include <unistd.h>\n__attribute__((constructor)) static void first(void) {{ {code} }}\n",
        encoding="utf-8",
    )
    path = os.environ.get("PATH", os.defpath)
    program.write_text(
        f'#!/bin/sh\nPATH={shlex.quote(path)} exec {shlex.join(real)} -include {header} "$@"\n',
        encoding="utf-8",
    )
    program.chmod(0o700)
    return str(program)


@needs_compiler
@pytest.mark.one_in(8)
@pytest.mark.parametrize("kind", CONSTRUCTORS)
def test_a_library_that_ends_what_loads_it_is_refused(kind: str, tmp_path: Path) -> None:
    code, reason = CONSTRUCTORS[kind]
    answer = tried(starting(code, tmp_path), tmp_path / "cache")
    assert answer.startswith("found None\n")
    assert reason in answer


@needs_compiler
def test_a_library_that_only_prints_is_none_the_worse(tmp_path: Path) -> None:
    compiler = starting('puts("hello");', tmp_path)
    assert tried(compiler, tmp_path / "cache").startswith(f"found ('{compiler}',)\n")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.one_in(2)
@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_a_sanitizer_that_python_has_not_is_refused(sanitizer: str, tmp_path: Path) -> None:
    gcc, path = shutil.which("gcc"), os.environ["PATH"]
    line = [gcc, f"-fsanitize={sanitizer}", "-shared", "-xc", "/dev/null", "-o", tmp_path / "x.so"]
    if subprocess.run(line, capture_output=True).returncode:
        pytest.skip("the sanitizer is not installed")
    answer = tried(f"{gcc} -fsanitize={sanitizer}", tmp_path / "cache", PATH=path)
    assert answer.splitlines()[1].startswith("$CC: what it builds cannot be used")
    library = subprocess.run(
        [str(gcc), f"-print-file-name=lib{sanitizer[0]}san.so"],
        capture_output=True,
        text=True,
        encoding="utf-8",
    ).stdout.strip()
    if sanitizer == "address" and "/" in library:
        # Python with the sanitizer can load them; the next one, without it, must not believe so.
        having = {"LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0", "PATH": path}
        assert "-fsanitize" in tried(f"{gcc} -fsanitize=address", tmp_path / "cache", **having)
        again = tried(f"{gcc} -fsanitize={sanitizer}", tmp_path / "cache", PATH=path)
        assert re.sub(r"\d+", "", again) == re.sub(r"\d+", "", answer)


@pytest.mark.parametrize("executable", ["", None, "/bin/sh", "/nowhere/python3"])
def test_a_program_that_is_no_python_is_not_started(
    executable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    assert compilers.python() is None


def test_a_python_that_needs_its_home_is_told_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", f"{sys.base_prefix}:{sys.base_exec_prefix}")
    monkeypatch.setattr(compilers, "TRIAL_NAME", "PyInit__pcg64")
    load_apart(LIBRARY)


def test_files_of_the_user_do_not_stand_in_for_the_library(
    fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.make("cc", body="echo 'raise SystemExit(3)' > ctypes.py; cp() { :; }")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ctypes.py").write_text("raise SystemExit(3)", encoding="utf-8")
    assert find_compiler() is not None


def test_without_a_python_to_start_it_is_loaded_here(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilers, "python", lambda: None)
    fakes.make("cc")
    assert find_compiler() is not None
    new_process()
    monkeypatch.setattr(compilers, "TRIAL_NAME", "not_there")
    fakes.make("cc", body="true")
    assert find_compiler() is None


def test_a_library_of_another_kind_says_why(fakes: Fakes, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no library", encoding="utf-8")
    fakes.make("cc", library=text)
    assert find_compiler() is None
    assert "it does not load" in compilers.skipped_compilers()[0]


# ------------------------------------------------------------------ what is said of files

SECRET = """\
root:x:0:0:Hunter2:/root:/bin/bash
int Hunter2 = "Hunter2;
  | Hunter2 |
error: Hunter2
Hunter2: note: Hunter2
#error Hunter2
#define Hunter2 1
static inline int f(void){ return Hunter3; } struct Hunter2 x;
"""
OWN = {"own.h": "int own_variable = not_declared;\n"}


@pytest.mark.parametrize("options", [[], ["-fdiagnostics-color=always"], ["-include", "SECRET"]])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == "zig" else [])  # slow to start
        for name in COMPILERS
    ],
)
def test_no_line_of_a_foreign_file_is_repeated(
    name: str, options: Sequence[str], tmp_path: Path
) -> None:
    secret = tmp_path / "a (strange) file:3.h"
    secret.write_text(SECRET, encoding="utf-8")
    command = [*COMPILERS[name], *(str(secret) if o == "SECRET" else o for o in options)]
    compiler = Compiler(tuple(command), ("-shared", "-fPIC"))
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(BuildError) as caught:
        compiled({SOURCE: f'#include "{secret}"\n#include "own.h"\n', **OWN}, compiler, work)
    shown = f"{caught.value}\n{caught.value.output}\n{caught.value.briefly()}"
    assert "Hunter" not in shown
    assert "/bin/bash" not in shown
    assert f"{secret}:1: error" in caught.value.output
    assert "own_variable" in caught.value.output or "not_declared" in caught.value.output
    assert "\x1b" not in caught.value.output


SAID = {
    "C:\\b d\\program.c:3:4: error: own": "C:\\b d\\program.c:3:4: error: own",
    "program.c(3,4): error: own": "program.c(3,4): error: own",
    "./own.h:12:3: note: own": "./own.h:12:3: note: own",
    "program.c: In function 'part0':": "program.c: In function 'part0':",
    "C:/Program Files (x86)/inc.h:3:4: error: secret": "C:/Program Files (x86)/inc.h:3: error",
    "C:\\inc.h(3,4): warning: secret": "C:\\inc.h:3: warning",
    "/etc/shadow:1:1: fatal error: secret\nsecret\n 1 | secret": "/etc/shadow:1: fatal error",
    "/x.h:1:1: error: s\nsecret\nprogram.c:1:1: error: own\nown": (
        "/x.h:1: error\nprogram.c:1:1: error: own\nown"
    ),
    "/x.h:1:1: error: s\nsecret\n/usr/bin/ld: cannot find -lm\ncollect2: error: ld returned 1": (
        "/x.h:1: error\n/usr/bin/ld: cannot find -lm\ncollect2: error: ld returned 1"
    ),
    "\x1b[1m/x.h:1:1: \x1b[31merror: \x1b[0msecret": "/x.h:1: error",
    '[{"kind": "error", "message": "secret"}]': "",
    "the licence has expired": "the licence has expired",
    "program.c:1:1: error: own\nf(12, m0) + g(3)": "program.c:1:1: error: own\nf(12, m0) + g(3)",
}


@pytest.mark.parametrize("output", SAID)
def test_what_is_said_of_which_file(output: str) -> None:
    assert said(output, {SOURCE, *OWN}) == SAID[output]


def test_a_long_line_is_cut_and_control_characters_are_spaces() -> None:
    error = BuildError("it failed", ["cc"], "x" * 100_000 + "\n\x1b[2Jown\x07")
    shown = str(error).splitlines()
    assert max(map(len, shown)) < 400
    assert "\x1b" not in str(error) and "\x07" not in str(error)
    assert len(error.briefly()) < 400


def test_reading_a_long_message_takes_no_time() -> None:
    start = time.process_time()
    said("\n".join(["a" * 200_000, ":" * 200_000, " from " * 40_000, "\x1b]" * 50_000]), {SOURCE})
    assert time.process_time() - start < 5
