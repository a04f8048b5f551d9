"""The folder of built libraries: nobody else's to change, bounded, and dispensable."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from compile_fakes import (
    FUNCTION,
    LIBRARY,
    Fakes,
    entries,
    new_process,
    python,
    the_library,
)
from compile_fakes import fakes as fakes
from compile_fakes import own_cache as own_cache
from platforms import needs_fork

from tinygrad_kr.compile import clear_cache
from tinygrad_kr.native import build as building
from tinygrad_kr.native import cache as caching
from tinygrad_kr.native import compiler as compilers
from tinygrad_kr.native.build import BuildError, build, cache_folder, find_compiler

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the fakes are shell scripts")


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_the_cache_is_the_users_alone(umask: int, fakes: Fakes, own_cache: Path) -> None:
    fakes.make("cc")
    before = os.umask(umask)
    try:
        build("one")
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in own_cache.rglob("*")}
    assert modes == {
        entries(own_cache, ".compiler")[0]: 0o666 & ~umask,
        the_library(own_cache): 0o700,
    }
    for folder in (own_cache, own_cache.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_others_may_read_is_closed(fakes: Fakes, own_cache: Path) -> None:
    fakes.make("cc")
    own_cache.mkdir(parents=True)
    own_cache.chmod(0o755)
    build("one")
    assert stat.S_IMODE(own_cache.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722, 0o1777])
def test_a_cache_that_others_may_write_is_not_used(
    mode: int, fakes: Fakes, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.make("cc")
    build("one")
    own_cache.chmod(mode)
    before = {path: path.stat().st_mtime_ns for path in own_cache.iterdir()}
    loaded = []
    real = compilers.load
    for module in (building, compilers):
        monkeypatch.setattr(module, "load", lambda path: loaded.append(path) or real(path))
    new_process()
    with pytest.warns(RuntimeWarning, match=rf"mode {mode:04o}.*chmod go-w.*TINYGRAD_KR_CACHE"):
        assert build("one") is not None
    assert build("two") is not None  # told once
    assert {path: path.stat().st_mtime_ns for path in own_cache.iterdir()} == before
    assert len(loaded) == 2  # the trial is loaded by another process
    assert not [path for path in loaded if path.is_relative_to(own_cache)]
    assert stat.S_IMODE(own_cache.stat().st_mode) == mode


@pytest.mark.parametrize("exists", [False, True])
def test_a_cache_of_somebody_else_is_not_used(
    exists: bool, fakes: Fakes, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is one made in the home of somebody else, who could not use it."""
    fakes.make("cc")
    (own_cache if exists else own_cache.parent).mkdir(parents=True)
    me = os.geteuid()
    status = os.stat_result

    def others(path: Path, **named: object) -> os.stat_result:
        found = real(path, **named)
        return status((*found[:4], me + 1, *found[5:])) if own_cache.parent in (
            path, *path.parents) else found  # fmt: skip

    real = Path.stat
    monkeypatch.setattr(Path, "stat", others)
    with pytest.warns(RuntimeWarning, match=f"belongs to user {me + 1}"):
        assert build("one") is not None
    assert own_cache.exists() == exists
    assert not exists or not list(own_cache.iterdir())


@pytest.mark.parametrize(("chown", "refused"), [(True, True), (False, False)])
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may chown")
def test_root_does_not_use_the_cache_in_a_users_home(
    chown: bool, refused: bool, fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.make("cc")
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    if chown:
        os.chown(home, 12345, 12345)
    monkeypatch.delenv("TINYGRAD_KR_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(home))
    if refused:
        with pytest.warns(RuntimeWarning, match="belongs to user 12345"):
            build("one")
        assert list(home.iterdir()) == []
    else:
        build("one")
        assert [path.name for path in home.rglob("compile")] == ["compile"]


def test_a_link_to_a_folder_is_followed_to_the_folder(
    fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.make("cc")
    disk, link = tmp_path / "disk", tmp_path / "link"
    disk.mkdir()
    link.symlink_to(disk)
    monkeypatch.setenv("TINYGRAD_KR_CACHE", str(link))
    build("one")
    assert the_library(disk / "compile")


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"HOME": "/h"}, "/h/.cache/tinygrad_kr/compile"),
        ("linux", {"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/x/tinygrad_kr/compile"),
        ("linux", {"HOME": "/h", "XDG_CACHE_HOME": "x"}, "/h/.cache/tinygrad_kr/compile"),
        ("darwin", {"HOME": "/h"}, "/h/Library/Caches/tinygrad_kr/compile"),
        ("win32", {"HOME": "/h", "LOCALAPPDATA": "/l"}, "/l/tinygrad_kr/compile"),
        ("win32", {"HOME": "/h"}, "/h/AppData/Local/tinygrad_kr/compile"),
        ("linux", {"HOME": "/h", "TINYGRAD_KR_CACHE": "/t"}, "/t/compile"),
        ("linux", {"HOME": "/h", "TINYGRAD_KR_CACHE": "~/t"}, "/h/t/compile"),
        ("linux", {"HOME": "/h", "TINYGRAD_KR_CACHE": ""}, "/h/.cache/tinygrad_kr/compile"),
    ],
)
def test_the_cache_lies_where_the_platform_keeps_such(
    platform: str, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "TINYGRAD_KR_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", platform)
        found = cache_folder()
    assert found == Path(expected)


def test_a_relative_cache_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINYGRAD_KR_CACHE", "here")
    assert cache_folder() == tmp_path / "here" / "compile"


def homeless() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_no_home_is_no_hindrance(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.make("cc")
    monkeypatch.delenv("TINYGRAD_KR_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.warns(RuntimeWarning, match="determine home"):
        assert build("one") is not None


def test_a_cache_that_cannot_be_made_is_no_hindrance(
    fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.make("cc")
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("TINYGRAD_KR_CACHE", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="the cache is not used") as caught:
        first = build("one")
    assert len(caught) == 1
    assert build("one") is first
    assert build("two") is not None
    assert fakes.compilations() == 3


def test_a_file_in_place_of_the_cache_is_named(fakes: Fakes, own_cache: Path) -> None:
    fakes.make("cc")
    own_cache.parent.mkdir()
    own_cache.write_text("in the way", encoding="utf-8")
    with pytest.warns(RuntimeWarning, match="compile is not a folder: remove it"):
        assert build("one") is not None


def test_a_compiler_that_finds_the_disk_full_writes_elsewhere(
    fakes: Fakes, own_cache: Path
) -> None:
    full = f'case "$PWD" in {own_cache}*) echo "No space left on device" >&2; exit 1;; esac'
    fakes.make("cc", body=full)
    with pytest.warns(RuntimeWarning, match=r"No space left on device.*temporary") as caught:
        assert build("one") is not None
    assert len(caught) == 1
    assert build("two") is not None
    assert entries(own_cache, caching.SUFFIX) == []
    assert [path for path in own_cache.iterdir() if path.suffix != ".compiler"] == []


@pytest.mark.parametrize("call", ["replace", "mkdtemp", "chmod"])
def test_a_full_or_read_only_cache_is_no_hindrance(
    call: str, fakes: Fakes, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.make("cc")
    find_compiler()
    before = set(own_cache.iterdir())
    owner, name = {
        "replace": (os, "replace"),
        "mkdtemp": (tempfile, "mkdtemp"),
        "chmod": (Path, "chmod"),
    }[call]
    real = getattr(owner, name)

    def full(*arguments: object, **named: object) -> object:
        if str(own_cache) in repr((arguments, named)):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, full)
    with pytest.warns(RuntimeWarning, match="No space left on device"):
        assert build("one") is not None
    left = {path for path in own_cache.iterdir() if path.suffix != caching.SUFFIX} - before
    assert left == set()
    monkeypatch.undo()


def test_a_library_that_loads_from_no_cache_loads_from_elsewhere(
    fakes: Fakes, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home mounted noexec."""
    fakes.make("cc")
    real = compilers.Library

    def noexec(name: str) -> ctypes.CDLL:
        if name.startswith(str(own_cache)):
            raise OSError("failed to map segment from shared object")
        return real(name)

    monkeypatch.setattr(compilers, "Library", noexec)
    with pytest.warns(RuntimeWarning, match="failed to map segment"):
        assert build("one") is not None


def test_nowhere_to_build_is_said(
    fakes: Fakes, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.make("cc")
    find_compiler()

    def none(*_: object, **__: object) -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "mkdtemp", none)
    monkeypatch.setattr(caching, "_private_folders", {})
    with pytest.raises(BuildError, match=r"no folder to build in.*No usable temporary"):
        build("one")


def test_two_threads_have_one_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where both make one: a build and the trial of its compiler."""
    real, both = tempfile.mkdtemp, threading.Barrier(2)

    def together(prefix: str) -> str:
        made = real(prefix=prefix, dir=tmp_path)
        both.wait(30)
        return made

    monkeypatch.setattr(tempfile, "mkdtemp", together)
    monkeypatch.setattr(caching, "_private_folders", {})
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: caching.private_folder(), range(2))
    assert one == other
    assert [*tmp_path.iterdir()] == [one]


@needs_fork
def test_the_temporary_folder_goes_with_its_process(
    fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.make("cc")
    monkeypatch.setenv("TINYGRAD_KR_CACHE", "/dev/null")
    code = """
building.build("one")
folder = caching.private_folder()
assert oct(folder.stat().st_mode & 0o777) == "0o700"
if (child := os.fork()) == 0:
    assert caching.private_folder() != folder
    sys.exit()  # runs what is to be done at the end, as the fork that it is
assert os.waitpid(child, 0)[1] == 0
assert folder.is_dir() and list(folder.iterdir())
print(folder)
"""
    process = python(code)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert not Path(output.strip()).exists()


def test_a_bit_flipped_anywhere_in_a_note_is_found(tmp_path: Path) -> None:
    note = tmp_path / "note"
    caching.write_note(note, ["some text", "", "한국어"])
    assert caching.read_note(note) == ["some text", "", "한국어"]
    good = note.read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        note.write_bytes(bad)
        with pytest.raises(ValueError, match="damaged"):
            caching.read_note(note)


def test_the_cache_does_not_grow_for_ever(
    fakes: Fakes, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.make("cc")
    libraries: dict[str, Path] = {}
    for age, source in enumerate("abcd"):
        library = fakes.folder / f"made-{source}"
        shutil.copy(LIBRARY, library)
        with library.open("ab") as stream:
            stream.write(source.encode())  # so that each is another
        before = set(own_cache.iterdir()) if own_cache.exists() else set()
        stamp = (fakes.folder / "cc").stat().st_mtime_ns
        fakes.make("cc", library=library)
        os.utime(fakes.folder / "cc", ns=(stamp, stamp))
        build(source)
        new = set(own_cache.iterdir()) - before
        for path in new:
            os.utime(path, (1000 + age, 1000 + age))
        (libraries[source],) = (path for path in new if path.suffix == caching.SUFFIX)
    foreign = own_cache / "notes.txt"
    foreign.write_bytes(bytes(1 << 20))
    new_process()
    build("a")  # used just now, so no longer the oldest
    size = -(-libraries["d"].stat().st_size // 4096) * 4096
    monkeypatch.setattr(caching, "LIMIT_BYTES", 2 * size + 2 * 4096)
    caching.prune(own_cache)
    assert [source for source in "abcd" if libraries[source].exists()] == ["a", "d"]
    assert foreign.exists()
    monkeypatch.setattr(caching, "LIMIT_BYTES", 0)
    assert build("e") is not None  # removed at once, and loaded before
    assert list(own_cache.iterdir()) == [foreign]


def test_the_bound_is_kept_by_every_build(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.make("cc")
    pruned = []
    monkeypatch.setattr(building, "prune", pruned.append)
    build("one")
    new_process()
    build("one")  # from the cache: nothing came to it
    assert pruned == [cache_folder()]


def test_what_killed_builds_left_is_removed_after_a_day(tmp_path: Path) -> None:
    old, new, file = tmp_path / ".build-old", tmp_path / ".build-new", tmp_path / ".build-file"
    for folder in (old, new):
        folder.mkdir()
        (folder / "program.c").touch()
    file.touch()
    day_ago = time.time() - 25 * 3600
    os.utime(old, (day_ago, day_ago))
    os.utime(file, (day_ago, day_ago))
    caching.prune(tmp_path)
    assert list(tmp_path.iterdir()) == [new]


def test_clearing_removes_what_is_ours_only(fakes: Fakes, own_cache: Path) -> None:
    fakes.make("cc")
    assert clear_cache() == 0
    assert not own_cache.exists()
    library = build("one")
    (own_cache / "notes.txt").touch()
    assert clear_cache() == 2  # the library and the note on the compiler
    assert [path.name for path in own_cache.iterdir()] == ["notes.txt"]
    assert getattr(library, FUNCTION)
    runs = len(fakes.runs())
    build("one")
    assert len(fakes.runs()) == runs + 2


def test_windows_may_refuse_to_replace_what_is_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "in use")

    built = tmp_path / "built"
    built.write_bytes(b"code")
    library = caching.keep_library(built, tmp_path, "key")
    built.write_bytes(b"code")
    monkeypatch.setattr(os, "replace", refuse)
    assert caching.keep_library(built, tmp_path, "key") == library
    library.write_bytes(b"other")
    with pytest.raises(PermissionError):
        caching.keep_library(built, tmp_path, "key")


def test_an_entry_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    built = tmp_path / "built.so"
    built.write_bytes(b"machine code")
    folder = tmp_path / "cache"
    folder.mkdir(0o700)
    library = caching.keep_library(built, folder, "key")
    for name in ("key-0", "key-f", "key-zz"):
        (folder / f"{name}{library.suffix}").mkdir()
    assert caching.kept_library(folder, "key") == library
