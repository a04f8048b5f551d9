"""Building generated C, finding it built, and noticing what is damaged."""

from __future__ import annotations

import ctypes
import importlib.util
import math
import os
import pickle
import shlex
import shutil
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from compile_fakes import (
    FUNCTION,
    LIBRARY,
    OTHER_LIBRARY,
    TOOLS,
    Fakes,
    entries,
    new_process,
    python,
    the_library,
)
from compile_fakes import fakes as fakes
from compile_fakes import own_cache as own_cache
from platforms import needs_fork

from tinygrad_kr.native import build as building
from tinygrad_kr.native import cache as caching
from tinygrad_kr.native import compiler as compilers
from tinygrad_kr.native.build import (
    BuildError,
    Compiler,
    NoCompilerError,
    build,
    cache_folder,
    find_compiler,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the fakes are shell scripts")

COPY_OTHER = f'while [ "$1" != -o ]; do shift; done; {TOOLS["cp"]} {OTHER_LIBRARY} "$2"; exit 0'
ON_PATH = [name for name in ("cc", "gcc", "clang") if shutil.which(name)]
needs_compiler = pytest.mark.skipif(not ON_PATH, reason="no cc, gcc or clang on the PATH")
needs_zig = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="the package ziglang is not installed"
)


def test_no_compiler_says_what_to_install_and_what_was_tried(fakes: Fakes) -> None:
    fakes.make("gcc", body="echo 'cannot find crt1.o' >&2; exit 1")
    with pytest.raises(NoCompilerError) as caught:
        build("one")
    message = str(caught.value)
    assert 'pip install "tinygrad_kr[compile]"' in message
    assert "cc: cc is not on the PATH" in message
    assert "gcc: the C compiler failed (exit 1): cannot find crt1.o" in message
    assert "ziglang: the package is not installed" in message
    assert isinstance(caught.value, BuildError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == message


def test_a_program_that_does_not_compile_says_how_it_was_tried(fakes: Fakes) -> None:
    fakes.make("cc")
    compiler = find_compiler()
    assert compiler is not None
    failing = "i=1; while [ $i -le 30 ]; do echo line $i >&2; i=$((i+1)); done; exit 1"
    body = f'read -r text < program.c; case "$text" in *wrong*) {failing};; esac'
    fakes.make("cc", body=body)
    with pytest.raises(BuildError) as caught:
        build("wrong")
    message = str(caught.value)
    assert message.splitlines()[0] == "the C compiler failed (exit 1)"
    line = shlex.join(compiler.line("program.c", f"program{caching.SUFFIX}"))
    assert f"command: {line}" in message
    assert "line 12\n" in message
    assert "line 13" not in message
    assert "... and 18 lines more" in message
    assert "step.source" in message
    assert "$CC" in message
    assert caught.value.output.splitlines()[-1] == "line 30"
    assert str(pickle.loads(pickle.dumps(caught.value))) == message
    assert not isinstance(caught.value, NoCompilerError)
    assert build("right") is not None


def test_commands_hold_nothing_of_the_user(
    fakes: Fakes, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, marker = tmp_path / "kept", tmp_path / "marker"
    fakes.make("cc", body=f"{TOOLS['cp']} -R . {kept}; echo $TMPDIR > {kept}/where")
    evil = f"/* $(touch {marker}); `touch {marker}` 한국어 \udc80 */\r\nint x;\n"
    find_compiler()
    build(evil, {"kernels.h": "// header\n"})
    compiler = find_compiler()
    assert compiler is not None
    line = compiler.line("program.c", f"program{caching.SUFFIX}")
    assert fakes.runs()[-1] == f"cc {' '.join(line[1:])}"
    written = evil.replace("\udc80", "\\udc80").encode()
    assert (kept / "program.c").read_bytes() == written
    assert (kept / "kernels.h").read_bytes() == b"// header\n"
    assert not marker.exists()
    work = Path((kept / "where").read_text(encoding="utf-8").strip())
    assert work.parent == own_cache
    assert work.name.startswith(".build-")
    assert not work.exists()


@pytest.mark.parametrize(
    "name", ["../up.h", "/etc/x.h", "a b.h", "-o.h", "x.c", "program.c", "", "A.h", "a.h\n", "ä.h"]
)
def test_a_header_has_a_plain_name(name: str, fakes: Fakes) -> None:
    fakes.make("cc")
    with pytest.raises(ValueError, match="names no header"):
        build("one", {name: ""})
    assert fakes.runs() == []


def test_a_compiler_that_stopped_working_is_replaced(fakes: Fakes) -> None:
    program = fakes.make("cc")
    find_compiler()
    stamp = program.stat()
    program.write_text("#!/bin/sh\nexit 1\n".ljust(stamp.st_size, "#"), encoding="utf-8")
    os.utime(program, ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    fakes.make("gcc")
    new_process()
    old = find_compiler()
    assert old is not None  # the note has no reason to doubt
    assert old.command == (str(program),)
    assert build("one") is not None
    new = find_compiler()
    assert new is not None
    assert new.command == (str(fakes.folder / "gcc"),)


def test_a_compiler_that_was_removed_is_replaced(fakes: Fakes) -> None:
    program = fakes.make("cc")
    fakes.make("gcc")
    find_compiler()
    program.unlink()
    assert build("one") is not None
    assert fakes.runs()[-1].startswith("gcc ")


def test_the_same_text_is_the_same_library(fakes: Fakes) -> None:
    fakes.make("cc")
    first = build("one", {"a.h": "x"})
    assert build("one", {"a.h": "x"}) is first
    assert getattr(first, FUNCTION)
    assert fakes.compilations() == 2


MINE = Compiler(("cc",), ("-O3",), "cc as it is")


@pytest.mark.parametrize(
    ("texts", "compiler"),
    [
        ({"program.c": "two"}, MINE),
        ({"program.c": "one", "a.h": ""}, MINE),
        ({"program.c": "one"}, MINE._replace(identity="another cc")),
        ({"program.c": "one"}, MINE._replace(flags=("-O2",))),
        ({"program.c": "one"}, MINE._replace(flags=("-O", "3"))),
    ],
    ids=["source", "header", "compiler", "flags", "split"],
)
def test_all_that_code_depends_on_is_in_its_key(texts: dict[str, str], compiler: Compiler) -> None:
    plain = building._key({"program.c": "one"}, MINE)
    assert building._key({"program.c": "one"}, MINE) == plain
    assert building._key(texts, compiler) != plain


@pytest.mark.parametrize("what", ["machine", "__version__", "is_arm"])
def test_a_compiler_is_another_one_for_another(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = compilers._identity(("cc",))
    assert compilers._identity(("cc",)) == before
    assert compilers._identity(("cc", "-m32")) != before
    was = getattr(compilers, what)
    monkeypatch.setattr(compilers, what, "0.0" if what == "__version__" else lambda: f"no {was()}")
    if what == "is_arm":
        monkeypatch.setattr(compilers, what, lambda: not was())
    assert compilers._identity(("cc",)) != before


def test_headers_are_told_apart_by_name_and_text() -> None:
    texts = [{"a.h": "x", "b.h": "y"}, {"a.h": "y", "b.h": "x"}, {"a.h": "xb.hy"}, {"b.h": "x"}]
    keys = {building._key({"program.c": "", **headers}, MINE) for headers in texts}
    assert len(keys) == len(texts)
    turned = {"b.h": "y", "a.h": "x", "program.c": ""}
    assert building._key(turned, MINE) == building._key({"program.c": "", **texts[0]}, MINE)


def test_another_processor_builds_anew(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.make("cc")
    build("one")
    new_process()
    monkeypatch.setattr(compilers, "machine", lambda: "a processor without AVX-512")
    build("one")
    assert fakes.compilations() == 4  # the compiler's flags are tried anew too


def flipped(good: bytes, place: int) -> bytes:
    place %= len(good)
    return good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    **{f"bit at {place}": lambda good, place=place: flipped(good, place) for place in (0, 70, -1)},
    "bit in the middle": lambda good: flipped(good, len(good) // 2),
    "truncated": lambda good: good[: len(good) // 2],
    "short by a byte": lambda good: good[:-1],
    "longer": lambda good: good + b"\0",
    "empty": lambda good: b"",
    "zeros": lambda good: bytes(len(good)),
    "of something else": lambda good: b"# Lorem ipsum\n",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_library_is_never_loaded_and_is_built_anew(
    damage: str, fakes: Fakes, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.make("cc")
    build("one")
    damaged = the_library(own_cache)
    good = damaged.read_bytes()
    damaged.unlink()  # this process has the library in memory: only another file may be damaged
    damaged.write_bytes(DAMAGE[damage](good))
    assert damaged.read_bytes() != good

    def load(path: Path) -> ctypes.CDLL:
        assert path.read_bytes() == LIBRARY.read_bytes()
        return compilers.load(path)

    monkeypatch.setattr(building, "load", load)
    building._loaded.clear()
    before = fakes.compilations()
    assert build("one") is not None
    assert fakes.compilations() == before + 1
    assert damaged.read_bytes() == good
    building._loaded.clear()
    assert build("one") is not None
    assert fakes.compilations() == before + 1


def test_a_library_that_no_longer_loads_is_built_anew(
    fakes: Fakes, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, but made against a C library that this machine has no more."""
    made = fakes.folder / "made"
    shutil.copy(LIBRARY, made)
    fakes.make("cc", library=made)
    build("one")
    old = the_library(own_cache)
    with made.open("ab") as stream:  # the compiler gives another library now
        stream.write(b"\0")
    failures = [OSError("version `GLIBC_2.99' not found")]
    real = compilers.Library

    def once(name: str) -> ctypes.CDLL:
        if failures:
            raise failures.pop()
        return real(name)

    monkeypatch.setattr(compilers, "Library", once)
    new_process()
    assert build("one") is not None
    assert fakes.compilations() == 3
    assert failures == []
    assert the_library(own_cache) != old


@pytest.mark.parametrize("renamed", [False, True])
def test_exchanged_libraries_are_found_out(renamed: bool, fakes: Fakes, own_cache: Path) -> None:
    """A backup restored to the wrong names: each program still gets its own library.

    renamed: the names have the checksums of what the files hold.
    """
    fakes.make("cc", body=f'read -r text < program.c; case "$text" in other) {COPY_OTHER};; esac')
    build("one")
    build("other")
    one, other = entries(own_cache, caching.SUFFIX)
    texts = one.read_bytes(), other.read_bytes()
    new_process()
    names = one.name, other.name
    if renamed:
        names = tuple(f"{mine[:64]}{its[64:]}" for mine, its in (names, names[::-1]))  # type: ignore[assignment]
    for file, name, text in zip((one, other), names, reversed(texts), strict=True):
        file.unlink()
        (own_cache / name).write_bytes(text)
    for source in ("one", "other"):
        new_process()
        before = fakes.compilations()
        library = build(source)
        assert fakes.compilations() == before + 1
        assert hasattr(library, FUNCTION) == (source == "one")
    assert (one.read_bytes(), other.read_bytes()) == texts
    new_process()
    assert hasattr(build("one"), FUNCTION)
    assert fakes.compilations() == before + 1


def test_a_folder_in_place_of_a_library_is_no_hindrance(fakes: Fakes, own_cache: Path) -> None:
    fakes.make("cc")
    build("one")
    library = the_library(own_cache)
    library.unlink()
    library.mkdir()
    new_process()
    with pytest.warns(RuntimeWarning, match="nothing can be built in the cache"):
        assert build("one") is not None


def test_an_interrupted_build_leaves_nothing(
    fakes: Fakes, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.make("cc")
    find_compiler()
    before = set(own_cache.iterdir())

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("compiled", "keep_library", "load"):
        with monkeypatch.context() as patch:
            patch.setattr(building, name, interrupt)
            with pytest.raises(KeyboardInterrupt):
                build("one")
        left = {path for path in own_cache.iterdir() if path.suffix != caching.SUFFIX}
        assert left == before
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            caching.write_note(own_cache / "note", ["x"])
    assert not (own_cache / "note").exists()
    build("one")
    assert not list(own_cache.glob(".build-*"))


def test_threads_that_want_the_same_compile_it_once(fakes: Fakes) -> None:
    fakes.make("cc", body=f"{TOOLS['sleep']} 0.1")
    start = threading.Barrier(6)
    got: list[object] = []

    def work(source: str) -> None:
        start.wait()
        got.append(build(source))

    threads = [threading.Thread(target=work, args=(f"{i % 2}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 6
    assert len(set(map(id, got))) == 2
    assert fakes.compilations() == 3


def test_processes_may_build_the_same_at_once(
    fakes: Fakes, own_cache: Path, tmp_path: Path
) -> None:
    fakes.make("cc", body=f"{TOOLS['sleep']} 0.05")
    code = """
mine, go = map(Path, sys.argv[1:])
mine.touch()
while not go.exists():
    time.sleep(0.001)
warnings.simplefilter("error")
for source in "abc":
    building.build(source)
"""
    ready, go = [tmp_path / "0", tmp_path / "1"], tmp_path / "go"
    processes = [python(code, str(path), str(go)) for path in ready]
    deadline = time.monotonic() + 60
    while not all(path.exists() for path in ready) and time.monotonic() < deadline:
        time.sleep(0.005)
    go.touch()
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert 4 <= fakes.compilations() <= 8
    assert len(entries(own_cache, caching.SUFFIX)) == 3
    assert not list(own_cache.glob(".build-*"))
    before = fakes.runs()
    for source in "abc":
        build(source)
    assert fakes.runs() == before


@needs_fork
def test_a_fork_does_not_wait_for_threads_that_it_has_not(fakes: Fakes) -> None:
    fakes.make("cc")
    code = """
import signal, threading
compiler = compilers.find_compiler()
key = building._key({"program.c": "one"}, compiler)
held = threading.Event()

def hold():
    with compilers._searching, building._locks.setdefault(key, threading.Lock()):
        held.set()
        time.sleep(60)

threading.Thread(target=hold, daemon=True).start()
held.wait()
if (child := os.fork()) == 0:
    signal.alarm(20)
    building.build("one")
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
os._exit(0)
"""
    process = python(code)
    output, errors = process.communicate(timeout=60)
    assert output.strip() == "7", errors


def test_loading_from_the_cache_takes_under_five_milliseconds(fakes: Fakes) -> None:
    fakes.make("cc")
    build("one")
    times = []
    for _ in range(10):
        new_process()
        start = time.perf_counter()
        build("one")
        times.append(time.perf_counter() - start)
    assert min(times) < 5e-3
    assert fakes.compilations() == 2


EXPORT = """\
#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT
#endif
"""


def function(library: ctypes.CDLL, name: str, arguments: int) -> Callable[..., float]:
    found = library[name]
    found.restype, found.argtypes = ctypes.c_double, [ctypes.c_double] * arguments
    return found  # type: ignore[no-any-return]


@needs_compiler
def test_c_becomes_a_function() -> None:
    headers = {"constants.h": "#define THREE 3.0\n"}
    source = f"""{EXPORT}
#include <math.h>
#include "constants.h"
EXPORT double cube_root_of_exp(double x) {{ return exp(x / THREE); }}
"""
    cube_root = function(build(source, headers), "cube_root_of_exp", 1)
    assert cube_root(3.0) == math.e
    new_process()
    again = function(build(source, headers), "cube_root_of_exp", 1)
    assert again(6.0) == math.exp(2)
    headers["constants.h"] = "#define THREE 6.0\n"
    other = function(build(source, headers), "cube_root_of_exp", 1)
    assert other(6.0) == math.e


@needs_compiler
def test_arithmetic_is_that_of_the_standard() -> None:
    """No flag may let the compiler suppose that there is no NaN, or fuse a product with a sum."""
    source = f"""{EXPORT}
EXPORT double itself(double x, double y) {{ return x == x; }}
EXPORT double zero_times(double x, double y) {{ return x * 0.0; }}
EXPORT double plus_zero(double x, double y) {{ return x + 0.0; }}
EXPORT double product_less_one(double x, double y) {{ return x * y - 1.0; }}
EXPORT double back_and_forth(double x, double y) {{ return (x + y) - y; }}
"""
    library = build(source)
    names = ("itself", "zero_times", "plus_zero", "product_less_one", "back_and_forth")
    itself, times, plus, product, back = (function(library, name, 2) for name in names)
    assert itself(math.nan, 0.0) == 0.0
    assert math.isnan(times(math.inf, 0.0))
    assert math.copysign(1.0, times(-1.0, 0.0)) == -1.0
    assert math.copysign(1.0, plus(-0.0, 0.0)) == 1.0
    assert product(1 + 2**-27, 1 - 2**-27) == 0.0
    assert back(1.0, 1e17) == 0.0


@needs_compiler
@pytest.mark.parametrize(
    ("source", "said"),
    [("double f(double x) { return x + ; }", "error"), ("int f(void) { return g(); }", "g")],
)
def test_c_that_is_wrong_is_an_error(source: str, said: str) -> None:
    with warnings.catch_warnings(), pytest.raises(BuildError, match=r"failed \(exit 1\)") as caught:
        warnings.simplefilter("error")
        build(source)
    assert said in caught.value.output
    assert "program.c" in str(caught.value)
    assert [path.suffix for path in cache_folder().iterdir()] == [".compiler"]


@needs_compiler
def test_another_process_finds_it_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "double f(double x) { return x; }"
    compiler = find_compiler()
    assert compiler is not None
    log, wrapper = tmp_path / "log", tmp_path / "wrapper"
    wrapper.write_text(
        f'#!/bin/sh\necho "$*" >> {log}\nexec {shlex.join(compiler.command)} "$@"\n',
        encoding="utf-8",
    )
    wrapper.chmod(0o700)
    monkeypatch.setenv("CC", str(wrapper))
    build(source)
    before = log.read_text(encoding="utf-8")
    assert before
    process = python(f"compilers.TRIAL_NAME = ''\nprint(building.build({source!r}).f is not None)")
    output, errors = process.communicate(timeout=60)
    assert output.strip() == "True", errors
    assert log.read_text(encoding="utf-8") == before


@needs_compiler
def test_the_compiler_of_this_machine_takes_every_flag() -> None:
    compiler = find_compiler()
    assert compiler is not None
    assert {"-fno-math-errno", "-ffp-contract=off"} <= set(compiler.flags)
    assert "-O3" in compiler.flags or set(compilers.QUICK) <= set(compiler.flags)
    assert {"-march=native", "-mcpu=native"} & set(compiler.flags)


@needs_compiler
def test_a_large_text_gives_the_same_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not the compiler can optimise it in halves."""
    lines = "".join(
        f"static __attribute__((noinline)) double f{k}(double x) {{ return x * {k} + {k}.5; }}\n"
        for k in range(200)
    )
    calls = "".join(f"  x = f{k}(x) / {k + 1};\n" for k in range(200))
    source = f"{EXPORT}{lines}EXPORT double all_of_them(double x) {{\n{calls}  return x; }}"
    found = []
    for limit in (1, 10**9):
        monkeypatch.setattr(compilers, "LARGE_TEXT", limit)
        monkeypatch.setattr(compilers, "helpers", lambda: 1)
        text = f"{source}\n/* {limit} */"
        found.append([function(build(text), "all_of_them", 1)(x) for x in (0.3, -7.0, 1e300)])
    assert found[0] == found[1]


@needs_zig
def test_zig_builds_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    source = f"{EXPORT}EXPORT double twice(double x) {{ return 2 * x; }}"
    assert function(build(source), "twice", 1)(21.0) == 42.0
    compiler = find_compiler()
    assert compiler is not None
    assert compiler.command[-1] == "cc"
    assert "zig" in compiler.command[0]
    assert "-march=native" in compiler.flags or "-mcpu=native" in compiler.flags
