"""Files on every system: atomic writes, and the user's cache folder.

A reader never finds half of a write. The differences between POSIX and Windows are here.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

__all__ = [
    "append", "claim", "flush_directory", "refuse_path", "refuse_special", "refuse_torch_file",
    "remove", "replace", "replacing", "user_caches",
]  # fmt: skip

WINDOWS = os.name == "nt"
PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Pauses before another attempt to replace a file on Windows; seconds."""
PREFIX, SUFFIX = ".tinygrad_kr-", ".part"
"""Begin and end of the names of temporary files."""
_NO_FLUSH = {"EINVAL", "EBADF", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"}
"""Errors of file systems that do not flush directories."""


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """An atomic write: a stream whose bytes become `path` at the end of the block, all or none.

    The stream is a temporary file in the same directory. At the end of the block it is flushed to
    the disk and renamed over `path`, and the directory is flushed too. A symbolic link is followed,
    and an existing file keeps its mode. If the block raises or is interrupted, the temporary file
    is removed and `path` is unchanged. That of a process that was killed is removed by the next
    write into the directory.

    Raises FileNotFoundError without the folder, IsADirectoryError for a folder as `path`, OSError
        for a device, pipe or socket, which a rename would replace, or if `path` cannot be written
        or the disk is full.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        missing = f"no such folder to write into, {str(target.parent)!r}: create it first"
        raise FileNotFoundError(errno.ENOENT, missing, str(target))
    refuse_special(target)
    _sweep(target.parent)
    temporary = target.with_name(f"{PREFIX}{os.urandom(8).hex()}{SUFFIX}")
    try:
        with _locked(temporary) as stream:
            if target.exists():
                temporary.chmod(0o600)  # nobody else reads it before it has the old one's mode
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            if not WINDOWS:  # which renames no open file; elsewhere it stays locked until then
                _rename(temporary, target)
        if WINDOWS:
            _rename(temporary, target)
    except BaseException:
        remove(temporary)
        raise
    flush_directory(target.parent)


def refuse_special(path: str | os.PathLike[str]) -> None:
    """Raise OSError for a path that is there and no file: a folder, a device, a pipe, a socket."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # not there, or the call that opens it says why not
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "expected a file, got a folder", os.fspath(path))
    if not stat.S_ISREG(mode):
        found = "expected a file, got a device, pipe or socket"
        raise OSError(errno.EINVAL, found, os.fspath(path))


def _rename(temporary: Path, target: Path) -> None:
    with suppress(FileNotFoundError):
        temporary.chmod(stat.S_IMODE(target.stat().st_mode))
    replace(temporary, target)


def _locked(path: Path) -> BinaryIO:
    """A new file, locked as long as it is open: `_sweep` then leaves it alone."""
    while True:
        stream = path.open("xb")
        try:
            if _lock(stream, wait=True) and not os.fstat(stream.fileno()).st_nlink:
                stream.close()  # swept before it was locked
                continue
        except BaseException:
            stream.close()
            raise
        return stream


def _lock(stream: BinaryIO, wait: bool) -> bool:
    """Lock an open file against other processes; whether that could be done."""
    if sys.platform == "win32":
        return False
    try:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (ImportError, OSError):  # not here, not on this file system, or locked
        return False
    return True


def _sweep(folder: Path) -> None:
    """Remove the temporary files that no process writes any more."""
    with suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(PREFIX) and name.endswith(SUFFIX):
                _remove_unlocked(folder / name)


def _remove_unlocked(path: Path) -> None:
    if WINDOWS:  # which does not remove a file that is open
        remove(path)
        return
    with suppress(OSError), open(path, "rb", opener=_open_file) as stream:
        if _lock(stream, wait=False) and os.fstat(stream.fileno()).st_nlink:
            path.unlink()  # without a link it was swept, and the path may be another file's by now


def _open_file(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe, and follow no link."""
    if sys.platform != "win32":
        flags |= os.O_NONBLOCK | os.O_NOFOLLOW
    return os.open(path, flags)


def replace(source: Path, target: Path, pauses: Sequence[float] = PAUSES) -> None:
    """Rename `source` over `target` at once, as `os.replace` does on POSIX.

    Windows refuses while another program, such as a virus scanner, has one of them open. So there
    are more attempts after `pauses`. A read-only target is made writable first.

    Raises PermissionError if Windows refuses every attempt.
    """
    for pause in pauses if WINDOWS else ():
        try:
            os.replace(source, target)
            return
        except PermissionError:
            _make_writable(target)
            time.sleep(pause)
    os.replace(source, target)


def remove(path: Path) -> None:
    """Remove a file if it exists and can be removed now."""
    with suppress(OSError):
        if WINDOWS:
            _make_writable(path)
        path.unlink()


def _make_writable(path: Path) -> None:
    """Clear a file's read-only flag, with which Windows neither replaces nor removes it."""
    with suppress(OSError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if not mode & stat.S_IWRITE:
            path.chmod(mode | stat.S_IWRITE)


def user_caches() -> Path:
    """The user's cache folder: `$XDG_CACHE_HOME` if it is an absolute path, else the platform's.

    That is `~/.cache`, `~/Library/Caches` on macOS, `%LOCALAPPDATA%` on Windows.

    Raises RuntimeError if the user has no home folder.
    """
    named = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(named):
        return Path(named)
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", "")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def claim(file: int) -> bool:
    """Lock an open file against other processes; False if one of them has.

    The lock ends with this process, even where a process that it forked lives on. Where files
    cannot be locked nothing is, and True is returned.
    """
    if sys.platform == "win32":
        return True
    try:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError) as error:
        return getattr(error, "errno", None) not in (errno.EACCES, errno.EAGAIN)
    return True


def append(file: int, data: bytes) -> None:
    """Write at the end of an open file, all or nothing, and flush it to the disk.

    Raises OSError on a full disk; the file is then as it was.
    """
    start = os.lseek(file, 0, os.SEEK_END)
    try:
        while data:
            data = data[os.write(file, data) :]
        os.fsync(file)
    except BaseException:
        with suppress(OSError):
            os.ftruncate(file, start)
        raise


def flush_directory(folder: Path) -> None:
    """Flush a directory, so that a rename survives a power cut; Windows has no such call."""
    if WINDOWS:
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that may be written but not listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if errno.errorcode.get(error.errno or 0) not in _NO_FLUSH:
            raise
    finally:
        os.close(descriptor)


# ------------------------------------------------------------------ files that are not read

_OF_TORCH = {".pt", ".pth"}
"""Suffixes of the pickles that `torch.save` writes."""


def refuse_torch_file(name: str, given: Any) -> None:
    """Raise ValueError for the path of a pickle of PyTorch's, with the code that converts it.

    name: of the function that was called, which begins the message.
    """
    if not isinstance(given, str | os.PathLike):
        return
    path = Path(os.fsdecode(given))
    if path.suffix.lower() not in _OF_TORCH:
        return
    load = f"torch.load({str(path)!r}, map_location='cpu', weights_only=True)"
    raise ValueError(
        f"{name}: expected a file without a pickle, got {str(path)!r}; a pickle runs code when it "
        "is read. Run this in PyTorch, on a file with a state_dict:\n"
        f"    import torch, safetensors.torch\n"
        f"    state = {load}\n"
        f"    safetensors.torch.save_file(state, {str(path.with_suffix('.safetensors'))!r})\n"
        "or, without safetensors:\n"
        f"    import numpy, torch\n"
        f"    state = {load}\n"
        f"    state = {{key: value.numpy() for key, value in state.items()}}\n"
        f"    numpy.savez({str(path.with_suffix('.npz'))!r}, **state)"
    )


def refuse_path(name: str, given: Any, expected: str) -> None:
    """Raise for a path in place of what a file holds: ValueError for `.pt`, else TypeError."""
    refuse_torch_file(name, given)
    if isinstance(given, str | os.PathLike):
        raise TypeError(
            f"{name}: expected {expected}, got the path {os.fspath(given)!r}. Read an .npz with "
            "np.load(path)"
        )
