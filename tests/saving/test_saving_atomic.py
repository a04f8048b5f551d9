"""After a kill, a full disk or an interrupt, the old file or the new one is there, whole."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from saved_runs import SUFFIXES

import tinygrad_kr as tk
from tinygrad_kr import files, nn

posix = pytest.mark.skipif(os.name != "posix", reason="limits, links and signals are POSIX here")
ROOT = str(Path(tk.__file__).parents[1])

SAVER = """
import os, sys, numpy as np, tinygrad_kr as tk
from tinygrad_kr import nn, optim
path, first = sys.argv[1], int(sys.argv[2])
if len(sys.argv) > 3:
    tk.save(path, model=nn.Linear(1, 1))  # which imports all that saving needs
    while sys.stdin.readline():
        if not (child := os.fork()):
            break
        os.waitpid(child, 0)
        print("ended", flush=True)
    else:
        sys.exit()
    print(os.getpid(), flush=True)
net = nn.Sequential(nn.Linear(60, 60), nn.Linear(60, 60), nn.Linear(60, 60))
optimizer = optim.Adam(net.parameters())
tk.save(path, model=net, optimizer=optimizer, extra=[[0] * 3000, -1])
print("ready", flush=True)
n = first
while True:
    with tk.no_grad():
        for p in net.parameters():
            p.fill_(float(n))
    tk.save(path, model=net, optimizer=optimizer, extra=[[0] * 3000, n])
    n += 2
"""
"""Saves a net full of one number again and again.

With a third argument a child does, a new one for each line that is read.
"""


def net(value: float = 0.0, size: int = 60) -> nn.Module:
    made = nn.Sequential(*(nn.Linear(size, size) for _ in range(3)))
    with tk.no_grad():
        for p in made.parameters():
            p.fill_(value)
    return made


def number(path: Path) -> float:
    """The one number that a net in a file is full of."""
    loaded = net(np.nan)
    _, saved = tk.load(path, model=loaded)
    values = {x for p in loaded.parameters() for x in np.unique(p.data).tolist()}
    assert len(values) == 1 or saved == -1
    assert saved in (-1, *values)
    return float(saved)


def started(*arguments: str) -> subprocess.Popen[bytes]:
    kept = os.environ.get("PYTHONPATH", "")
    return subprocess.Popen(
        [sys.executable, "-c", SAVER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, kept])},
    )


def saver(path: Path, first: int = 1) -> subprocess.Popen[bytes]:
    process = started(str(path), str(first))
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def check_kills(path: Path, kills: int) -> None:
    generator = np.random.default_rng(0)
    temporaries = 0
    with started(str(path), "1", "forks") as process:
        assert process.stdin is not None and process.stdout is not None
        for _ in range(kills):
            process.stdin.write(b"another\n")
            process.stdin.flush()
            child, said = (process.stdout.readline() for _ in range(2))
            time.sleep(float(generator.uniform(0, 0.03)))
            os.kill(int(child), signal.SIGKILL)
            assert [said, process.stdout.readline()] == [b"ready\n", b"ended\n"]
            number(path)
            temporaries += len(list(path.parent.iterdir())) - 1
    tk.save(path, model=net())
    assert list(path.parent.iterdir()) == [path]
    if kills >= 100:
        assert temporaries, "no kill came while a file was written"


@posix
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_killed_while_it_saves(tmp_path: Path, suffix: str) -> None:
    check_kills(tmp_path / f"net{suffix}", 5)


@posix
@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_killed_200_times(tmp_path: Path, suffix: str) -> None:
    check_kills(tmp_path / f"net{suffix}", 200)


@posix
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_two_processes_save_to_one_path(tmp_path: Path, suffix: str) -> None:
    """One of the two wins whole, and neither sweeps the other's temporary file."""
    path = tmp_path / f"net{suffix}"
    savers = [saver(path, first) for first in (1, 2)]
    try:
        seen = {number(path) % 2 for _ in range(100)}
        assert [process.poll() for process in savers] == [None, None]
    finally:
        for process in savers:
            process.kill()
            process.communicate()
    assert seen <= {0, 1}


def test_two_threads_save_to_one_path(tmp_path: Path) -> None:
    path, wrong = tmp_path / "net.npz", []

    def work(value: float) -> None:
        model = net(value, 4)
        try:
            for _ in range(20):
                tk.save(path, model=model)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(float(i),)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert list(tmp_path.iterdir()) == [path]
    tk.load(path, model=net(size=4))


# ------------------------------------------------------------------ failing writes


class Old:
    """A file, and a check that nothing has touched it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        tk.save(path, model=net(1.0, 8), extra=1)
        self.content = path.read_bytes()

    def check(self) -> None:
        assert self.path.read_bytes() == self.content
        assert list(self.path.parent.iterdir()) == [self.path]

    @contextmanager
    def stays(self) -> Iterator[None]:
        """The block raises an OSError that names the file, and the file stays."""
        with pytest.raises(OSError) as caught:
            yield
        assert self.path.name in str(caught.value)
        assert ".part" not in str(caught.value)
        self.check()

    def save(self) -> None:
        tk.save(self.path, model=net(2.0, 8), extra=2)


@posix
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_limit_at_every_block(tmp_path: Path, suffix: str) -> None:
    import resource

    old = Old(tmp_path / f"net{suffix}")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in [*range(0, len(old.content), 64), len(old.content) - 1]:
        with old.stays():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            try:
                old.save()
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    old.save()
    assert tk.load(old.path) == 2


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt()])
def test_every_write_fails_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    old, opened, calls = Old(tmp_path / "net.npz"), files._locked, [0]

    class Failing:
        """A stream whose write number `at` fails."""

        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def __getattr__(self, name: str) -> Any:
            return getattr(self.stream, name)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: Any) -> None:
            self.stream.close()

        def write(self, content: Any) -> Any:
            calls[0] += 1
            if calls[0] == at:
                raise failure
            return self.stream.write(content)

    monkeypatch.setattr(files, "_locked", lambda path: Failing(opened(path)))
    at = 0
    while True:
        at, calls[0] = at + 1, 0
        try:
            old.save()
        except type(failure):
            old.check()
        else:
            break
    assert at > 20
    assert tk.load(old.path) == 2


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_flush_and_the_rename_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, suffix: str
) -> None:
    old = Old(tmp_path / f"net{suffix}")

    def fails(*_: Any) -> None:
        raise OSError(errno.EIO, "input/output error", "temporary.part")

    with old.stays(), monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        old.save()


def test_an_error_without_number_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Old(tmp_path / "net.npz")

    def fails(*_: Any) -> None:
        raise OSError("out of space")

    with old.stays(), monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        old.save()


@posix
def test_a_folder_that_cannot_be_flushed_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = os.fsync

    def refuses(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "invalid argument")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", refuses)
    tk.save(tmp_path / "net.npz", model=net(3.0))
    tk.load(tmp_path / "net.npz", model=net())


# ------------------------------------------------------------------ paths


def test_a_folder_as_path(tmp_path: Path) -> None:
    (tmp_path / "net.npz").mkdir()
    for call in (tk.save, tk.load):
        with pytest.raises(OSError, match=r"net\.npz"):
            call(tmp_path / "net.npz", model=net())
    assert [x.name for x in tmp_path.iterdir()] == ["net.npz"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_folder_and_no_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "absent" / f"net{suffix}"
    for call in (tk.save, tk.load):
        with pytest.raises(FileNotFoundError, match="absent") as caught:
            call(path, model=net())
        assert caught.value.filename == str(path)
        assert "None" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"no such folder .*absent'?: create it first"):
        tk.save(path, model=net())


@posix
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_file_is_neither_replaced_nor_read(tmp_path: Path, suffix: str) -> None:
    """A rename would put a file in place of `/dev/null`, and a pipe is waited for."""
    pipe, link, name = tmp_path / f"pipe{suffix}", tmp_path / f"link{suffix}", f"socket{suffix}"
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    before = os.stat("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(tmp_path):
        listening.bind(name)
        for path in (pipe, link, tmp_path / name):
            for call in (tk.save, tk.load):
                with pytest.raises(OSError, match=r"got a device, pipe or socket: ") as caught:
                    call(path, model=net())
                assert caught.value.filename == str(path)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert os.path.samestat(os.stat("/dev/zero"), before)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """As root there is none, so it is simulated."""

    def refuses(path: Path, *_: Any) -> Any:
        raise PermissionError(errno.EACCES, "permission denied", str(path))

    old = Old(tmp_path / f"net{suffix}")
    with old.stays(), monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuses)
        old.save()


@posix
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_modes_and_links(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / f"net{suffix}", tmp_path / f"link{suffix}"
    link.symlink_to(target)
    before = os.umask(0o027)
    try:
        tk.save(link, model=net(1.0))
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    target.chmod(0o604)
    tk.save(link, model=net(2.0))
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o604
    tk.load(link, model=net())


@posix
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nobody_else_reads_what_replaces_a_private_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path, flush, modes = tmp_path / f"net{suffix}", os.fsync, []

    def note(descriptor: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        flush(descriptor)

    tk.save(path, model=net())
    path.chmod(0o600)
    monkeypatch.setattr(os, "fsync", note)
    tk.save(path, model=net())
    assert modes[0] == 0o600
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@posix
def test_pipes_and_links_with_names_of_temporaries(tmp_path: Path) -> None:
    """In a folder of many users anyone can create them. Neither is waited for or followed."""
    pipe, link = (tmp_path / f"{files.PREFIX}{i}{files.SUFFIX}" for i in range(2))
    (tmp_path / "target").write_bytes(b"x")
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "target")
    tk.save(tmp_path / "net.npz", model=net())
    assert {"net.npz", "target"} <= {x.name for x in tmp_path.iterdir()}


@posix
def test_stale_temporaries_are_swept_and_others_stay(tmp_path: Path) -> None:
    stale = tmp_path / f"{files.PREFIX}0123{files.SUFFIX}"
    for name in (stale.name, ".0123.part", "notes.part", ".tinygrad_kr-notes"):
        (tmp_path / name).write_bytes(b"x")
    with files.replacing(tmp_path / "other") as stream:
        stream.write(b"now")
        tk.save(tmp_path / "net.npz", model=net())
        living = list(tmp_path.glob(f"{files.PREFIX}*{files.SUFFIX}"))
        assert len(living) == 1, "the one that is being written, not the stale one"
    names = {x.name for x in tmp_path.iterdir()}
    assert names == {"net.npz", "other", ".0123.part", "notes.part", ".tinygrad_kr-notes"}


@posix
def test_a_temporary_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, calls = files._lock, [0]

    def late(stream: Any, wait: bool) -> bool:
        calls[0] += 1
        if wait and calls[0] == 1:
            os.unlink(stream.name)
        return lock(stream, wait)

    monkeypatch.setattr(files, "_lock", late)
    tk.save(tmp_path / "net.npz", model=net(5.0), extra=[0, 5])
    assert number(tmp_path / "net.npz") == 5
    assert calls[0] == 2
