"""`python -m tinygrad_kr doctor` reports, whatever is broken, and ends."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from tinygrad_kr import doctor
from tinygrad_kr.__main__ import main
from tinygrad_kr.data import download
from tinygrad_kr.data import mnist as mnist_function
from tinygrad_kr.native import cache, compiler

ROOT = Path(__file__).parents[2]
SUBJECTS = ["Python", "NumPy", "derivatives", "BLAS", "processor", "C compiler", "cache", "MNIST"]
needs_compiler = pytest.mark.skipif(compiler.find_compiler() is None, reason="needs a C compiler")
posix = pytest.mark.skipif(os.name != "posix", reason="a compiler that is a shell script")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    for name in ("TINYGRAD_KR_CACHE", "TINYGRAD_KR_DATA", "CC"):
        monkeypatch.delenv(name, raising=False)
    compiler.forget_searches()
    cache._warned.clear()
    yield
    compiler.forget_searches()
    cache._warned.clear()


def report(capsys: pytest.CaptureFixture[str], lang: str = "en") -> tuple[int, str]:
    code = main(["doctor", "--lang", lang])
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, captured.out


def lines_of(subject: str, text: str) -> str:
    """The lines of one subject, with what to do."""
    found = re.search(rf"^(?:ok|--|!!)  {subject}: .*(?:\n      .*)*", text, re.MULTILINE)
    assert found, text
    return found[0]


# ------------------------------------------------------------------ a machine that is whole


@needs_compiler
def test_a_whole_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, text = report(capsys)
    assert code == 0
    assert all(lines_of(subject, text) for subject in SUBJECTS)
    assert not re.search("^!!", text, re.MULTILINE)
    assert np.__version__ in lines_of("NumPy", text)
    assert sys.executable in lines_of("Python", text)
    assert "which ran" in lines_of("C compiler", text)
    assert str(tmp_path / "caches") in lines_of("cache", text)
    assert "t10k-labels" in lines_of("MNIST", text)
    assert "tk.data.mnist() downloads them" in lines_of("MNIST", text)
    assert "Nothing is broken." in text
    assert text.isascii()


@needs_compiler
def test_in_korean(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = report(capsys, "ko")
    assert code == 0
    for subject in ("파이썬", "미분", "프로세서", "C 컴파일러", "캐시", "추가 기능"):
        assert lines_of(subject, text)
    assert "고장 난 것이 없습니다." in text


def test_every_text_is_in_both_languages() -> None:
    """A Korean text that differs from the English one has Korean letters, and the English none."""
    source = Path(doctor.__file__).read_text(encoding="utf-8")
    assert source.count("Text(") > 20
    for finding in doctor.findings(doctor.CHECKS):
        for text in (finding.subject, finding.found, finding.advice):
            if text is not None and text.en != text.ko:
                assert re.search("[가-힣]", text.ko), text
                assert not re.search("[가-힣]", text.en), text


def test_blas_tells_threads_and_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    config = np.show_config(mode="dicts")
    assert isinstance(config, dict)
    name = config["Build Dependencies"]["blas"]["name"]
    found = lines_of("BLAS", report(capsys)[1])
    assert name in found
    if "openblas" in name:
        threads = re.search(r"threads: (\d+)", found)
        assert threads and 1 <= int(threads[1]) <= (os.cpu_count() or 1)
        assert re.search(r"kernel: \w+", found)


# ------------------------------------------------------------------ a machine that is not


def test_an_error_of_a_check_is_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    def check() -> Iterator[doctor.Finding]:
        raise ZeroDivisionError("what?")
        yield

    (finding,) = doctor.findings([(doctor.BLAS, check)])
    assert finding.lines("en") == ["!!  BLAS: ZeroDivisionError: what?"]


def test_no_home(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(Path, "home", home)
    code, text = report(capsys)
    assert code == 1
    assert lines_of("cache", text).startswith("!!")
    for subject in ("cache", "MNIST"):
        assert "-> set HOME" in lines_of(subject, text)


def test_a_cache_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TINYGRAD_KR_CACHE", str(tmp_path / "file"))
    code, text = report(capsys)
    assert code == 1
    assert "cannot be used" in lines_of("cache", text)
    assert "TINYGRAD_KR_CACHE" in lines_of("cache", text)


def test_a_cache_that_is_read_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root writes anywhere, so the system's answer is given."""

    def refuse(_: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(cache, "work_folder", refuse)
    code, text = report(capsys)
    assert code == 1
    assert "Read-only file system" in lines_of("cache", text)


def test_no_compiler_is_not_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ziglang", None)  # type: ignore[arg-type]
    code, text = report(capsys)
    assert code == 0
    assert lines_of("C compiler", text).startswith("--  C compiler: none; compiled steps run")
    assert "tinygrad_kr[compile]" in lines_of("C compiler", text)


def test_a_compiler_that_is_named_and_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CC", "/nowhere/cc")
    code, text = report(capsys)
    assert code == 1
    assert "$CC: /nowhere/cc is not on the PATH" in text
    assert "set CC to another" in text


def script(folder: Path, body: str) -> str:
    program = folder / "broken-cc"
    program.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    program.chmod(0o700)
    return str(program)


@posix
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("exit 1", "failed (exit 1)"),
        ("exit 0", "wrote no library"),
        ("echo cannot find libc.h >&2; exit 4", "cannot find libc.h"),
        ("kill -SEGV $$", "failed (exit -11)"),
        (r"printf '\377\376\033[31m' >&2; exit 1", "failed (exit 1)"),
    ],
)
def test_a_compiler_that_fails(
    body: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("CC", script(tmp_path, body))
    code, text = report(capsys)
    assert code == 1
    assert words in lines_of("C compiler", text)


@posix
def test_a_compiler_that_hangs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "COMPILER_SECONDS", 0.5)
    monkeypatch.setattr(doctor, "ZIG_SECONDS", 0.5)
    sleep = shutil.which("sleep")
    monkeypatch.setenv("CC", script(tmp_path, f"{sleep} 600"))
    start = perf_counter()
    code, text = report(capsys)
    assert perf_counter() - start < 60
    assert code == 1
    assert "$CC: no answer after 0.5 s" in text


WRONG = """\
#include <math.h>
double tinygrad_kr_trial(double x) { return 2 * x; }
"""


@posix
@needs_compiler
def test_a_compiler_whose_code_computes_nonsense(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = compiler.find_compiler()
    assert found is not None
    (tmp_path / "wrong.c").write_text(WRONG, encoding="utf-8")
    words = " ".join(found.command)
    body = f'for word; do if [ "$word" = -o ]; then exec {words} -shared -fPIC -o program.so '
    body += f"{tmp_path}/wrong.c -lm; fi; done; exit 0"
    monkeypatch.setenv("CC", script(tmp_path, body.replace("program.so", f"program{cache.SUFFIX}")))
    code, text = report(capsys)
    assert code == 1
    assert "what it builds computes nothing (exit 0)" in lines_of("C compiler", text)


@pytest.mark.parametrize(
    ("name", "value", "subject"),
    [
        ("CC", '"', "C compiler"),
        ("CC", "/", "C compiler"),
        ("TINYGRAD_KR_CACHE", "a" * 5000, "cache"),
        ("TINYGRAD_KR_CACHE", "~no-such-user/cache", "cache"),
        ("TINYGRAD_KR_DATA", "b" * 5000, "MNIST"),
    ],
)
def test_a_setting_that_makes_no_sense(
    name: str,
    value: str,
    subject: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    code, text = report(capsys)
    assert code == 1
    assert lines_of(subject, text).startswith("!!")
    assert text.splitlines()[-1].startswith("Broken: 1.")


# ------------------------------------------------------------------ data and extras


def test_mnist_that_is_damaged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "mnist"
    folder.mkdir()
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"\0" * 10_008)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"\x1f\x8b\x08")
    monkeypatch.setenv("TINYGRAD_KR_DATA", str(tmp_path))
    code, text = report(capsys)
    assert code == 1
    found = lines_of("MNIST", text)
    assert "t10k-labels-idx1-ubyte: expected SHA-256" in found
    assert "train-labels-idx1-ubyte.gz: expected whole gzip data" in found
    assert "-> delete what is damaged" in found


def test_mnist_that_is_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "mnist"
    folder.mkdir()
    published = download.Published(
        "file", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    (folder / "file").write_bytes(b"abc")
    monkeypatch.setattr(doctor, "mnist_files", lambda: [(published, folder / "file")])
    assert lines_of("MNIST", report(capsys)[1]) == f"ok  MNIST: whole, in {folder}"


def test_a_data_folder_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("TINYGRAD_KR_DATA", str(tmp_path / "nowhere"))
    code, text = report(capsys)
    assert code == 1
    assert "nowhere is no folder" in text


def test_the_files_that_doctor_looks_for_are_those_that_mnist_reads(tmp_path: Path) -> None:
    assert len(doctor.mnist_files()) == 4
    assert doctor.mnist_files() == [(published, None) for published, _ in doctor.mnist_files()]
    with pytest.raises(FileNotFoundError) as caught:
        mnist_function(root=tmp_path, download=False)
    assert all(published.name in str(caught.value) for published, _ in doctor.mnist_files())


def test_extras(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    required = ["numpy>=2", 'numpy>=1; extra == "plot"', 'absent-thing>=3; extra == "progress"']
    required += ['other-absent-thing; extra == "test"', "third_absent; extra == 'compile'"]
    monkeypatch.setattr(metadata, "requires", lambda _: required)
    found = lines_of("extras", report(capsys)[1])
    assert f"numpy {np.__version__}" in found
    assert 'absent-thing: pip install "tinygrad_kr[progress]"' in found
    assert 'third_absent: pip install "tinygrad_kr[compile]"' in found
    assert "other-absent-thing" not in found


def test_extras_that_are_not_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def requires(_: str) -> None:
        raise metadata.PackageNotFoundError("tinygrad_kr")

    monkeypatch.setattr(metadata, "requires", requires)
    assert lines_of("extras", report(capsys)[1]).startswith("--  extras: not known")


# ------------------------------------------------------------------ the command


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "tinygrad_kr", *arguments],
        capture_output=True,
        timeout=300,
        cwd=ROOT,
        env={**os.environ, **variables},
    )


def test_alone_it_prints_the_commands() -> None:
    done = command()
    assert done.returncode == 0
    assert b"doctor" in done.stdout
    assert command("surgeon").returncode == 2


def test_letters_that_the_output_lacks() -> None:
    done = command("doctor", "--lang", "ko", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode in (0, 1)
    assert done.stderr == b""
    assert rb"\ud30c\uc774\uc36c" in done.stdout


@pytest.mark.parametrize("words", [("explain", "w*x", "w=1", "x=2"), ("explain", "--help")])
def test_letters_that_the_output_of_another_command_lacks(words: tuple[str, ...]) -> None:
    done = command(*words, "--lang", "ko", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\uc5f0\uc1c4" in done.stdout


@pytest.mark.parametrize("first", [["--lang", "ko"], ["--lang=ko"]])
def test_a_language_may_stand_before_the_command(
    first: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main([*first, "explain", "-x**2", "x=3"])
    assert "순전파: 값" in capsys.readouterr().out


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device")])
def test_an_output_that_takes_nothing(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    monkeypatch.setattr(sys, "stdout", Closed())
    doctor._print("one")
    doctor._print("two")
    sys.stdout.close()


def test_where_there_can_be_no_compiler(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "emscripten")
    code, text = report(capsys)
    assert code == 0
    found = lines_of("C compiler", text)
    assert "Python in WebAssembly" in found
    assert "->" not in found
    assert "pyodide.http.pyfetch" in lines_of("MNIST", text)
    assert "downloads" not in lines_of("MNIST", text)


def test_the_doctor_does_not_load_what_it_may_find_broken() -> None:
    code = "import sys, tinygrad_kr.__main__; print('tinygrad_kr.explain' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "False"
