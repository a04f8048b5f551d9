"""The folder of built libraries: private to the user, bounded, and consistent at every moment.

A library in the cache is code that this process runs. So the folder has mode 0700 and belongs to
the user. Files are renamed into it, and a checksum shows damage: the name of a library ends with
that of its key and bytes, a note begins with that of its name and lines.
There are no lock files, because a killed process would leave one.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tinygrad_kr import files

LIMIT_BYTES = 64 << 20

SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
_ENTRY = re.compile(r"[0-9a-f]{64}(-[0-9a-f]{64})?(\.[a-z]+)?")
_WORK = ".build-"
_BLOCK_BYTES = 4096
_ABANDONED_SECONDS = 24 * 3600


def cache_folder() -> Path:
    """Where libraries are kept: `$TINYGRAD_KR_CACHE/compile`, else in the user's cache folder.

    That is `tinygrad_kr/compile` in the folder that `files.user_caches` names.

    Raises RuntimeError where there is no home.
    """
    if named := os.environ.get("TINYGRAD_KR_CACHE"):
        return Path(named).expanduser().absolute() / "compile"
    return files.user_caches() / "tinygrad_kr" / "compile"


def trusted_cache() -> Path:
    """The cache's folder, created if missing; OSError or RuntimeError if it cannot be trusted."""
    folder = Path(os.path.realpath(cache_folder()))
    _make_private(folder)
    return folder


def usable_cache() -> Path | None:
    """`trusted_cache()`, or None after one warning."""
    try:
        return trusted_cache()
    except (OSError, RuntimeError) as error:
        warn_once("the cache is not used", str(error))
        return None


def private_folder() -> Path:
    """A temporary folder (0700) of this process, removed when it ends."""
    import atexit
    import tempfile

    process = os.getpid()
    known = _private_folders.get(process)
    if known is not None and known.is_dir():
        return known
    made = Path(tempfile.mkdtemp(prefix="tinygrad_kr-"))
    if known is not None and _private_folders.get(process) is known:  # somebody removed it
        del _private_folders[process]
    folder = _private_folders.setdefault(process, made)
    if folder is made:
        atexit.register(_remove, folder, process)
    else:  # another thread was quicker
        made.rmdir()
    return folder


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """A folder (0700) for one build, inside `folder` so that a rename moves what was built.

    It is removed afterwards; when the process ends, where a second Ctrl-C stops that.
    """
    import atexit
    import tempfile

    work = Path(tempfile.mkdtemp(prefix=_WORK, dir=folder))
    remove = partial(_remove, work, os.getpid())
    atexit.register(remove)
    try:
        yield work
    finally:
        remove()
        atexit.unregister(remove)


def write_note(path: Path, lines: Sequence[str]) -> None:
    """Write lines with their checksum, atomically."""
    note = "\n".join([digest([path.name, *lines]), *lines])
    with files.replacing(path) as stream:
        stream.write(note.encode("utf-8", "surrogateescape"))


def read_note(path: Path) -> list[str]:
    """The lines of a note. Raises ValueError if the checksum of name and lines differs."""
    checksum, *lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    if checksum != digest([path.name, *lines]):
        raise ValueError(f"{path} is damaged")
    return lines


def kept_library(folder: Path, key: str) -> Path | None:
    """The undamaged library of `key`, or None. Sets its time of last use."""
    with suppress(OSError), os.scandir(folder) as found:
        named = [folder / file.name for file in found if file.name.startswith(key)]
        for library in named:
            with suppress(OSError):  # skip one that cannot be read
                if library == _path_of(folder, key, library):
                    os.utime(library)
                    return library
    return None


def keep_library(built: Path, folder: Path, key: str) -> Path:
    """Rename a library (0700) into the cache, over a damaged one if there is one."""
    library = _path_of(folder, key, built)
    if kept_library(folder, key) != library:  # Windows does not replace a loaded library
        built.chmod(0o700)
        files.replace(built, library)
    return library


def _path_of(folder: Path, key: str, library: Path) -> Path:
    checksum = hashlib.sha256(key.encode() + library.read_bytes()).hexdigest()
    return folder / f"{key}-{checksum}{SUFFIX}"


def usage(folder: Path) -> tuple[int, int]:
    """The number of the cache's files in `folder`, and their bytes on disk."""
    entries = _entries(folder)
    return len(entries), sum(entry.size for entry in entries)


def remove_entries(folder: Path) -> int:
    """Remove the cache's files from `folder`, and no others; returns their number."""
    removed = 0
    for entry in _entries(folder):
        with suppress(OSError):
            entry.path.unlink()
            removed += 1
    return removed


def prune(folder: Path) -> None:
    """Remove the least recently used files until the rest fits, and remains of killed builds."""
    import shutil

    entries = _entries(folder)
    total = sum(entry.size for entry in entries)
    for entry in entries:
        if total <= LIMIT_BYTES:
            break
        with suppress(OSError):
            entry.path.unlink()
        total -= entry.size
    for left in (*folder.glob(f"{_WORK}*"), *folder.glob(".*.part")):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def warn_once(problem: str, reason: str) -> None:
    """Warn once in a process that programs are not kept, with the fix."""
    if problem not in _warned:
        _warned.add(problem)
        warnings.warn(
            f"tinygrad_kr: {problem} ({reason}); programs are compiled in a temporary folder, anew "
            "in each process, unless $TINYGRAD_KR_CACHE names a folder that can be used",
            RuntimeWarning,
            stacklevel=2,
        )


def digest(parts: Iterable[str]) -> str:
    """SHA-256 of several texts with their lengths: different lists have different digests."""
    hashed = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        hashed.update(len(encoded).to_bytes(8, "big"))
        hashed.update(encoded)
    return hashed.hexdigest()


_warned: set[str] = set()
_private_folders: dict[int, Path] = {}


def _make_private(folder: Path) -> None:
    """Create `folder` (0700) and its missing parents; OSError if others can write into it.

    The mode of a folder that others can write into is not corrected: its files may be theirs.
    """
    missing = [level for level in (folder, *folder.parents) if not level.exists()]
    if missing:
        _check_owner(missing[-1].parent, also=0)
    for level in reversed(missing):
        level.mkdir(mode=0o700, exist_ok=True)
    _check_owner(folder)
    mode = stat.S_IMODE(folder.stat().st_mode)
    if os.name == "posix" and mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(
            f"{folder} is writable by others (mode {mode:04o}): empty it, and chmod go-w it"
        )
    if os.name == "posix" and mode & 0o077:
        folder.chmod(0o700)


def _check_owner(folder: Path, also: int | None = None) -> None:
    """Raise OSError unless `folder` is a folder that belongs to the user or to the user `also`."""
    status = folder.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{folder} is not a folder: remove it")
    user = getattr(os, "geteuid", None)  # Windows and browsers have none
    if user is not None and status.st_uid not in (user(), also):
        raise PermissionError(f"{folder} belongs to user {status.st_uid}")


def _remove(folder: Path, process: int) -> None:
    """Remove a temporary folder, in the process that made it but not in a fork of it."""
    import shutil

    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


class _Entry(NamedTuple):
    used: float
    size: int
    path: Path


def _entries(folder: Path) -> list[_Entry]:
    """The cache's files in `folder`, least recently used first, with their size on disk."""
    entries = []
    with suppress(OSError), os.scandir(folder) as found:
        for file in found:
            if _ENTRY.fullmatch(file.name):
                status = file.stat(follow_symlinks=False)
                blocks = -(-status.st_size // _BLOCK_BYTES)
                entries.append(_Entry(status.st_mtime, blocks * _BLOCK_BYTES, Path(file.path)))
    return sorted(entries)
