"""A file is written whole or not at all."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import pytest

from tinygrad_kr import files
from tinygrad_kr.files import replacing

posix = pytest.mark.skipif(os.name != "posix", reason="file modes and links are POSIX here")


def write(path: Path, content: bytes) -> None:
    with replacing(path) as stream:
        stream.write(content)


def test_writes_a_new_file_and_replaces_an_old_one(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write(target, b"first")
    assert target.read_bytes() == b"first"
    write(target, b"2")
    assert target.read_bytes() == b"2"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt(), ValueError()])
def test_a_failure_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, failure: BaseException
) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(type(failure)), replacing(target) as stream:
        stream.write(b"half of the n")
        raise failure
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_is_at_the_path_before_the_end(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with replacing(target) as stream:
        stream.write(b"content")
        stream.flush()
        assert not target.exists()
        (temporary,) = tmp_path.iterdir()
        assert temporary.read_bytes() == b"content"
    assert target.read_bytes() == b"content"


@posix
def test_the_mode_of_an_old_file_is_kept_and_a_new_one_follows_the_umask(tmp_path: Path) -> None:
    plain, new, old = tmp_path / "plain", tmp_path / "new", tmp_path / "old"
    plain.write_bytes(b"")
    write(new, b"")
    assert stat.S_IMODE(new.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    old.write_bytes(b"")
    old.chmod(0o604)
    write(old, b"")
    assert stat.S_IMODE(old.stat().st_mode) == 0o604


@posix
def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "file", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


@posix
def test_the_file_reaches_the_disk_before_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    flush, rename = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        size = os.fstat(descriptor).st_size
        events.append("folder" if is_folder else f"file of {size}")
        flush(descriptor)

    def replace(source: Path, target: Path) -> None:
        events.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write(tmp_path / "file", b"12345")
    assert events == ["file of 5", "rename", "folder"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such folder.*absent"):
        write(tmp_path / "absent" / "file", b"")


# ------------------------------------------------------------------ as Windows has it


class Windows:
    """`os.replace` and `Path.unlink` with Windows' refusals, and no folder that can be opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refusals, self.paused = 0, 0.0
        self._replace, self._unlink = os.replace, Path.unlink
        monkeypatch.setattr(files, "WINDOWS", True)
        monkeypatch.setattr(os, "replace", self.replace)
        monkeypatch.setattr(os, "open", self.open)
        monkeypatch.setattr(Path, "unlink", lambda path: self.unlink(path))
        monkeypatch.setattr(files, "time", SimpleNamespace(sleep=self.sleep))  # not for all threads

    def sleep(self, seconds: float) -> None:
        self.paused += seconds

    def open(self, path: object, *_: object) -> int:
        raise PermissionError(f"a folder cannot be opened: {path}")

    def replace(self, source: Path, target: Path) -> None:
        if self.refusals:
            self.refusals -= 1
            raise PermissionError("[WinError 32] another process has it open")
        if target.exists() and not target.stat().st_mode & stat.S_IWRITE:
            raise PermissionError("[WinError 5] Access is denied")
        self._replace(source, target)

    def unlink(self, path: Path) -> None:
        if not path.stat().st_mode & stat.S_IWRITE:
            raise PermissionError("[WinError 5] Access is denied")
        self._unlink(path)


@pytest.mark.parametrize("refusals", [0, 1, 6])
def test_a_file_that_a_scanner_has_open_is_replaced_when_it_lets_go(
    refusals: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    windows = Windows(monkeypatch)
    windows.refusals = refusals
    write(target, b"new")
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]
    assert windows.paused == pytest.approx(sum(files.PAUSES[:refusals]))


def test_a_file_that_stays_open_is_left_and_the_error_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    windows = Windows(monkeypatch)
    windows.refusals = 100
    with pytest.raises(PermissionError, match="another process"):
        write(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
    assert 0.5 < windows.paused < 2


@pytest.mark.parametrize("refusals", [0, 100])
def test_a_read_only_file_is_replaced_and_its_temporary_never_stays(
    refusals: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on POSIX, where the folder's mode decides. The new file is read-only too."""
    target = tmp_path / "file"
    target.write_bytes(b"old")
    target.chmod(0o444)
    windows = Windows(monkeypatch)
    windows.refusals = refusals
    if refusals:
        with pytest.raises(PermissionError):
            write(target, b"new")
    else:
        write(target, b"new")
    assert target.read_bytes() == (b"old" if refusals else b"new")
    assert not target.stat().st_mode & stat.S_IWRITE or refusals
    assert list(tmp_path.iterdir()) == [target]


def test_elsewhere_a_refusal_is_an_error_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = Windows(monkeypatch)
    monkeypatch.setattr(files, "WINDOWS", False)
    windows.refusals = 1
    with pytest.raises(PermissionError):
        write(tmp_path / "file", b"new")
    assert windows.paused == 0
    assert list(tmp_path.iterdir()) == []


def test_no_other_module_renames_flushes_or_looks_for_the_cache() -> None:
    """What differs between systems is in one module."""
    package = Path(files.__file__).parent
    words = ("os.replace", "os.rename", "os.fsync", ".rename(", "LOCALAPPDATA", "Library/Caches")
    found = {
        (path.relative_to(package).as_posix(), word)
        for path in package.rglob("*.py")
        for word in words
        if word in path.read_text(encoding="utf-8") and path.name != "files.py"
    }
    assert found == set()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_a_sweep_leaves_a_file_that_has_the_name_of_a_swept_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer found the first one swept before it was locked, and made it again."""
    path, lock = tmp_path / f"{files.PREFIX}0{files.SUFFIX}", files._lock
    path.write_bytes(b"first")

    def lock_after_another_sweep(stream: BinaryIO, wait: bool) -> bool:
        path.unlink()
        path.write_bytes(b"second")
        return lock(stream, wait)

    monkeypatch.setattr(files, "_lock", lock_after_another_sweep)
    files._remove_unlocked(path)
    assert path.read_bytes() == b"second"
