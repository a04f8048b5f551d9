"""Which compiler is found, what it is asked, and how it is run; the compilers are shell scripts."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from compile_fakes import (
    LIBRARY,
    OTHER_LIBRARY,
    TOOLS,
    Fakes,
    entries,
    new_process,
    the_library,
)
from compile_fakes import fakes as fakes
from compile_fakes import own_cache as own_cache

from tinygrad_kr.native import cache as caching
from tinygrad_kr.native import compiler as compilers
from tinygrad_kr.native import cpu as machines
from tinygrad_kr.native.build import (
    BuildError,
    Compiler,
    NoCompilerError,
    build,
    cache_folder,
    find_compiler,
    skipped_compilers,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the fakes are shell scripts")


@pytest.mark.parametrize("first", range(5))
def test_compilers_are_looked_for_in_order(
    first: int, fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = ["$CC", "cc", "gcc", "clang", "ziglang"]
    for place in places[first:]:
        if place == "$CC":
            monkeypatch.setenv("CC", str(fakes.make(path=tmp_path / "named")))
        elif place == "ziglang":
            package = tmp_path / "site" / "ziglang"
            package.mkdir(parents=True)
            (package / "__init__.py").touch()
            fakes.make("zig", path=package / "zig")
            monkeypatch.delitem(sys.modules, "ziglang")
            monkeypatch.syspath_prepend(package.parent)
        else:
            fakes.make(place)
    compiler = find_compiler()
    expected = {
        "$CC": [str(tmp_path / "named")],
        "ziglang": [str(tmp_path / "site" / "ziglang" / "zig"), "cc"],
    }
    assert compiler is not None
    place = places[first]
    assert list(compiler.command) == expected.get(place, [str(fakes.folder / place)])
    before = places[1:first]  # an unset $CC is no place
    assert [reason.split(":")[0] for reason in skipped_compilers()] == before


def test_a_ziglang_without_its_program_is_run_as_a_module(
    fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "ziglang"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "ziglang")
    monkeypatch.syspath_prepend(package.parent)
    assert compilers._zig() == (sys.executable, "-m", "ziglang", "cc")


def test_cc_may_hold_arguments_and_spaces(
    fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.make("gcc")
    monkeypatch.setenv("CC", "gcc -m64 'two words'")
    compiler = find_compiler()
    assert compiler is not None
    assert compiler.command == (str(fakes.folder / "gcc"), "-m64", "two words")
    assert fakes.runs()[0].startswith("gcc -m64 two words -shared")
    spaced = fakes.make(path=tmp_path / "my compiler")
    monkeypatch.setenv("CC", str(spaced))
    compiler = find_compiler()
    assert compiler is not None
    assert compiler.command == (str(spaced),)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("'open", '$CC: "\'open" cannot be read as a command: No closing quotation'),
        ("nowhere -m64", "$CC: nowhere is not on the PATH"),
        ("./nowhere", "$CC: ./nowhere is not on the PATH"),
        ("''", "$CC:  is not on the PATH"),
    ],
)
def test_a_wrong_cc_is_passed_over_with_its_reason(
    value: str, reason: str, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.make("cc")
    monkeypatch.setenv("CC", value)
    compiler = find_compiler()
    assert compiler is not None
    assert compiler.command == (str(fakes.folder / "cc"),)
    assert skipped_compilers() == (reason,)


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_cc_is_none(value: str, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.make("cc")
    monkeypatch.setenv("CC", value)
    assert find_compiler() is not None
    assert skipped_compilers() == ()


BROKEN: dict[str, tuple[dict[str, object], str]] = {
    "fails": (
        {"body": "echo 'no such header' >&2; exit 3"},
        "the C compiler failed (exit 3): no such header",
    ),
    "tells on standard output": (
        {"body": "echo 'licence expired'; exit 1"},
        "the C compiler failed (exit 1): licence expired",
    ),
    "writes nothing": ({"body": "exit 0"}, "the C compiler wrote no library"),
    "writes an empty file": ({"library": Path("/dev/null")}, "the C compiler wrote no library"),
    "writes for another machine": ({"library": Path(__file__)}, "does not load"),
    "leaves the function out": ({"library": OTHER_LIBRARY}, "lacks the function"),
    "dies": ({"body": "kill -9 $$"}, "the C compiler failed (exit -9)"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_compiler_is_passed_over_with_its_reason(what: str, fakes: Fakes) -> None:
    settings, reason = BROKEN[what]
    fakes.make("cc", **settings)  # type: ignore[arg-type]
    assert find_compiler() is None
    found, *others = skipped_compilers()
    assert found.startswith("cc: ")
    assert reason in found
    assert others == [
        "gcc: gcc is not on the PATH",
        "clang: clang is not on the PATH",
        "ziglang: the package is not installed",
    ]
    assert not entries(cache_folder(), ".compiler")
    fakes.make("gcc")
    new_process()
    compiler = find_compiler()
    assert compiler is not None
    assert compiler.command == (str(fakes.folder / "gcc"),)


def test_a_file_that_cannot_be_run_is_no_compiler(fakes: Fakes) -> None:
    (fakes.folder / "cc").write_bytes(b"\x7fELF nothing")
    (fakes.folder / "cc").chmod(0o700)
    fakes.make("gcc").chmod(0o600)
    (fakes.folder / "clang").mkdir()
    assert find_compiler() is None
    reasons = skipped_compilers()
    assert reasons[0].startswith("cc: cannot be run: ")
    assert reasons[1:3] == ("gcc: gcc is not on the PATH", "clang: clang is not on the PATH")


def dead(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{process}/stat")  # nobody may be there to bury it
    return (
        status.exists() and status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    )


def test_a_compiler_that_hangs_is_ended_with_all_that_it_started(
    fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilers, "TIMEOUT_SECONDS", 0.2)
    numbers = tmp_path / "numbers"
    fakes.make("cc", body=f"{TOOLS['sleep']} 60 & echo $! $$ > {numbers}; wait")
    monkeypatch.setattr(compilers, "usable_cache", lambda: None)
    start = time.monotonic()
    assert find_compiler() is None
    assert time.monotonic() - start < 30
    assert "cc: took longer than 0.2 s" in skipped_compilers()
    processes = [int(word) for word in numbers.read_text(encoding="utf-8").split()]
    assert len(processes) == 2
    deadline = time.monotonic() + 5
    while not all(map(dead, processes)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert all(map(dead, processes))


def test_a_compiler_is_verified_once_in_a_process(fakes: Fakes) -> None:
    fakes.make("cc")
    assert find_compiler() is find_compiler()
    assert len(fakes.runs()) == fakes.compilations() == 1


def test_a_changed_environment_is_looked_at_anew(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_compiler() is None
    monkeypatch.setenv("CC", str(fakes.make("mine")))
    assert find_compiler() is not None
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(fakes.folder))
    assert find_compiler() is None


def test_the_next_process_starts_no_compiler_at_all(fakes: Fakes) -> None:
    fakes.make("cc")
    compiler = find_compiler()
    build("one")
    before = fakes.runs()
    new_process()
    assert find_compiler() == compiler
    build("one")
    assert fakes.runs() == before


def test_the_next_process_starts_no_process_at_all(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.make("cc")
    compiler = find_compiler()
    new_process()

    def run(*_: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(compilers, "run", run)
    assert find_compiler() == compiler


@pytest.mark.parametrize("name", ["LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "ASAN_OPTIONS"])
def test_what_decides_over_loading_is_tried_anew(
    name: str, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sanitizer's libraries load in a process that has the sanitizer, and end any other."""
    fakes.make("cc")
    find_compiler()
    monkeypatch.setenv(name, "")
    new_process()
    find_compiler()
    assert fakes.compilations() == 2


def test_exchanged_notes_on_compilers_are_not_believed(fakes: Fakes) -> None:
    first, second = fakes.make("cc"), fakes.make("gcc", rejects="-O3")
    for program in (first, second):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CC", str(program))
            find_compiler()
    notes = entries(cache_folder(), ".compiler")
    texts = [note.read_bytes() for note in notes]
    for note, text in zip(notes, reversed(texts), strict=True):
        note.write_bytes(text)
    new_process()
    compiler = find_compiler()
    assert compiler is not None
    assert compiler.command == (str(first),)
    assert "-O3" in compiler.flags


def test_a_changed_compiler_is_verified_anew(fakes: Fakes) -> None:
    program = fakes.make("cc")
    find_compiler()
    later = program.stat().st_mtime_ns + 1_000_000
    os.utime(program, ns=(later, later))
    new_process()
    find_compiler()
    assert fakes.compilations() == 2


def test_a_compiler_behind_a_wrapper_is_watched_too(
    fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.make("ccache")
    wrapped, script = fakes.make("gcc"), tmp_path / "script"
    script.write_text("1", encoding="utf-8")
    monkeypatch.setenv("CC", f"ccache gcc {script}")
    for changed in (wrapped, script):
        find_compiler()
        runs = len(fakes.runs())
        os.utime(changed, ns=(1, 1))
        new_process()
        find_compiler()
        assert len(fakes.runs()) == runs + 1


def test_a_damaged_note_on_a_compiler_is_not_believed(fakes: Fakes) -> None:
    fakes.make("cc")
    compiler = find_compiler()
    (note,) = entries(cache_folder(), ".compiler")
    good = note.read_bytes()
    assert b"-O3" in good
    for damaged in (good.replace(b"-O3", b"-O2"), good[:-1], b"", good[:64], b"\xff" + good[1:]):
        note.write_bytes(damaged)
        new_process()
        runs = len(fakes.runs())
        assert find_compiler() == compiler
        assert len(fakes.runs()) == runs + 1
        assert note.read_bytes() == good


@pytest.mark.parametrize(
    ("rejects", "portable"),
    [
        *(("", False), ("-march=native", True), ("-O3", True), ("-fno-tree-slp-vectorize", True)),
        ("-O3|-march=*|-fno-*|-W*", True),
    ],
)
def test_a_compiler_is_asked_for_less_where_it_does_not_take_all(
    rejects: str, portable: bool, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilers, "is_arm", lambda: False)
    fakes.make("cc", rejects=rejects)
    compiler = find_compiler()
    assert compiler is not None
    assert compiler.flags == compilers.flags(portable)
    new_process()
    assert find_compiler() == compiler
    assert build("one") is not None


IS_TRIAL = """
trial=
while read -r line; do case "$line" in *tinygrad_kr_trial*) trial=1;; esac; done < program.c
"""
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere it waits")


@linux
def test_the_first_program_is_built_beside_the_trial(fakes: Fakes, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    wait = f"until [ -e {begun} ] || [ $n = 99 ]; do {TOOLS['sleep']} 0.1; n=$((n + 1)); done"
    fakes.make("cc", f"{IS_TRIAL}\n[ $trial ] || : > {begun}\nn=0; {wait}; [ $n = 99 ] && exit 1")
    ahead = compilers.likely()
    assert build("one") is not None
    assert begun.exists()
    assert find_compiler() == ahead == compilers.likely()
    assert len(fakes.runs()) == 2


@linux
@pytest.mark.parametrize("other", [True, False])
def test_nothing_is_loaded_from_a_compiler_that_fails_its_trial(
    other: bool, fakes: Fakes, own_cache: Path
) -> None:
    fakes.make("cc", library=OTHER_LIBRARY)
    if other:
        fakes.make("gcc")
        library = build("one")
        assert the_library(own_cache).read_bytes() == LIBRARY.read_bytes()
        assert library is build("one")
    else:
        with pytest.raises(NoCompilerError):
            build("one")
        assert not entries(own_cache, caching.SUFFIX)


@pytest.mark.parametrize(
    ("name", "rejects", "quick", "level"),
    [
        ("x86_64-linux-gnu-gcc-12", "", True, "-O2"),
        ("x86_64-linux-gnu-gcc-12", "--param*", False, ""),
        ("clang-15", "", False, ""),
    ],
)
def test_gcc_is_asked_for_fewer_passes(
    name: str, rejects: str, quick: bool, level: str, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other compilers are asked for -O3, which no level lowers."""
    monkeypatch.setattr(sys, "platform", "linux")
    (fakes.folder / "cc").symlink_to(fakes.make(name, rejects=rejects))
    compiler = find_compiler()
    assert compiler is not None
    assert compiler.flags == compilers.flags(quick=quick)
    assert build("one", level=("-O2",)) is not None
    levels = [word for word in fakes.runs()[-1].split() if word.startswith("-O")]
    assert levels == (["-O1", "-O2"] if level else ["-O3"])


@pytest.mark.parametrize(
    ("rejects", "cores", "size", "in_halves"),
    [
        ("", 2, 300, [True]),
        ("-flto*", 2, 300, [True, False]),
        ("", 1, 300, [False]),
        ("", 2, 99, [False]),
    ],
)
def test_a_large_text_is_optimised_in_halves_where_the_compiler_can(
    rejects: str,
    cores: int,
    size: int,
    in_halves: list[bool],
    fakes: Fakes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compilers, "LARGE_TEXT", 100)
    monkeypatch.setattr(compilers, "helpers", lambda: cores - 1)
    fakes.make("cc", rejects=rejects)
    assert find_compiler() is not None
    before = len(fakes.runs())
    assert build("x" * size) is not None
    asked = [set(compilers.IN_HALVES) <= set(line.split()) for line in fakes.runs()[before:]]
    assert asked == in_halves


def test_a_compiler_that_makes_no_shared_library_is_none(fakes: Fakes) -> None:
    fakes.make("cc", rejects="-shared")
    assert find_compiler() is None
    assert "unknown option '-shared'" in skipped_compilers()[0]


def test_arm_is_asked_for_its_own_word_first(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilers, "is_arm", lambda: True)
    fakes.make("cc")
    compiler = find_compiler()
    assert compiler is not None
    assert "-mcpu=native" in compiler.flags
    assert "-march=native" not in compiler.flags


def test_no_flag_changes_what_nan_and_infinity_give() -> None:
    breaking = {"-ffast-math", "-Ofast", "-ffinite-math-only", "-fno-signed-zeros"}
    breaking |= {"-funsafe-math-optimizations", "-fassociative-math"}
    for portable in (False, True):
        assert not breaking & set(compilers.flags(portable))
        assert "-ffp-contract=off" in compilers.flags(portable)


def test_windows_is_not_asked_for_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    for portable in (False, True):
        assert not {"-fPIC", "-lm"} & set(compilers.flags(portable))


def test_libraries_come_after_what_needs_them() -> None:
    line = Compiler(("cc", "-m64"), ("-O3", "-lm", "-fPIC")).line("a.c", "a.so")
    assert line == ["cc", "-m64", "-O3", "-fPIC", "-o", "a.so", "a.c", "-lm"]


@pytest.mark.parametrize("installed", [True, False])
def test_apples_stub_of_a_compiler_is_not_started(
    installed: bool, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def run(line: list[str], folder: Path) -> tuple[int, str, str]:
        asked.append(line)
        return (0 if installed else 2), "", ""

    monkeypatch.setattr(compilers, "run", run)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        compilers._refuse_stub("/opt/homebrew/bin/gcc")
        assert asked == []
        if installed:
            compilers._refuse_stub("/usr/bin/cc")
        else:
            with pytest.raises(BuildError, match="command line tools are not installed"):
                compilers._refuse_stub("/usr/bin/cc")
    assert asked == [["/usr/bin/xcode-select", "-p"]]


@pytest.fixture
def waiting_input() -> Iterator[None]:
    """Something to read on standard input, which is not for a compiler to take."""
    reader, writer = os.pipe()
    os.write(writer, b"for the user's program\n")
    os.close(writer)
    before = os.dup(0)
    os.dup2(reader, 0)
    yield
    os.dup2(before, 0)
    for descriptor in (reader, before):
        os.close(descriptor)


@pytest.mark.usefixtures("waiting_input")
def test_messages_are_english_and_input_is_none(
    fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "ko_KR.UTF-8")
    fakes.make("cc", body=f'read -r x; echo "$LC_ALL,$x" >> {tmp_path / "seen"}')
    build("one")
    assert (tmp_path / "seen").read_text(encoding="utf-8") == "C,\nC,\n"


@pytest.mark.parametrize(
    ("home", "named", "expected"),
    [
        (True, None, ""),
        (False, None, "the temporary folder's"),
        (False, "/named", "/named"),
        (True, "/named", "/named"),
    ],
)
def test_zig_has_a_cache_where_there_is_no_home(
    home: bool, named: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path if home else tmp_path / "nowhere"))
    monkeypatch.delenv("ZIG_GLOBAL_CACHE_DIR", raising=False)
    if named:
        monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", named)
    seen = compilers._environment(None).get("ZIG_GLOBAL_CACHE_DIR", "")
    assert seen == expected.replace("the temporary folder's", str(caching.private_folder() / "zig"))


CPUINFO = """\
processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC
microcode\t: 0x1
cpu MHz\t\t: 2596.096
flags\t\t: fpu avx2
bogomips\t: 5192.19

processor\t: 1
flags\t\t: other
"""


def test_the_processor_is_told_without_its_clock() -> None:
    told = machines.first_processor(CPUINFO)
    assert told == "vendor_id: AuthenticAMD\nmodel name: AMD EPYC\nflags: fpu avx2"
    assert machines.first_processor(CPUINFO.replace("2596", "1000")) == told
    assert machines.first_processor(CPUINFO.replace("avx2", "avx512f")) != told
    arm = "processor : 0\nBogoMIPS : 48\nFeatures : fp asimd sve\nCPU part : 0xd40\n"
    assert machines.first_processor(arm) == "features: fp asimd sve\ncpu part: 0xd40"


def test_this_machine_is_told_the_same_each_time() -> None:
    told = machines.machine()
    assert sys.platform in told
    machines.machine.cache_clear()
    assert machines.machine() == told
