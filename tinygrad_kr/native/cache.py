"""The folder of built libraries: nobody else's to change, bounded, and whole at every moment.

A library in the cache is code that this process will run. So the folder has mode 0700, belongs to
the user and lies below folders that nobody else can rename. Files come into it by a rename, and
each can tell whether it is damaged: a library is named by the SHA-256 of its bytes, a note begins
with that of its own name and its lines, so that exchanged notes are damaged too. Nothing waits for
a lock on a file, which a killed process would leave.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tinygrad_kr import files

LIMIT_BYTES = 64 << 20

_ENTRY = re.compile(r"[0-9a-f]{64}(\.[a-z]+)?")
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
    """The cache's folder, made if need be; OSError or RuntimeError where it cannot be trusted."""
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
    folder = _private_folders.get(process)
    if folder is None or not folder.is_dir():
        folder = Path(tempfile.mkdtemp(prefix="tinygrad_kr-"))
        _private_folders[process] = folder
        atexit.register(_remove, folder, process)
    return folder


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """A folder (0700) for one build, inside `folder` so that a rename moves what was built."""
    import shutil
    import tempfile

    work = Path(tempfile.mkdtemp(prefix=_WORK, dir=folder))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_note(path: Path, lines: Sequence[str]) -> None:
    """Write lines (0600) with their checksum, all or none; what a power cut spoils is rebuilt."""
    temporary = path.with_name(f"{_WORK}{os.urandom(8).hex()}")
    note = "\n".join([digest([path.name, *lines]), *lines])
    try:
        with open(temporary, "xb", opener=functools.partial(os.open, mode=0o600)) as stream:
            stream.write(note.encode("utf-8", "surrogateescape"))
        files.replace(temporary, path)
    except BaseException:
        files.remove(temporary)
        raise


def read_note(path: Path) -> list[str]:
    """The lines of a note. Raises ValueError where they were not written under this name."""
    checksum, *lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    if checksum != digest([path.name, *lines]):
        raise ValueError(f"{path} is damaged")
    return lines


def move_library(built: Path, library: Path) -> None:
    """Put a library (0700) in its place at once, over what may lie there damaged."""
    built.chmod(0o700)
    try:
        files.replace(built, library, pauses=())
    except PermissionError:  # Windows refuses for one that is in use
        if not library.is_file() or file_checksum(library) != file_checksum(built):
            files.replace(built, library)


def touch(path: Path) -> None:
    """Note that `path` was used now, so that it is not the next to be removed."""
    with suppress(OSError):
        os.utime(path)


def remove_entries(folder: Path) -> int:
    """Remove every file of ours from `folder`, and no other; how many."""
    removed = 0
    for entry in _entries(folder):
        with suppress(OSError):
            entry.path.unlink()
            removed += 1
    return removed


def prune(folder: Path) -> None:
    """Remove what was used longest ago until the rest fits, and what killed builds left behind."""
    import shutil

    entries = _entries(folder)
    total = sum(entry.size for entry in entries)
    for entry in entries:
        if total <= LIMIT_BYTES:
            break
        with suppress(OSError):
            entry.path.unlink()
        total -= entry.size
    for left in folder.glob(f"{_WORK}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def warn_once(problem: str, reason: str) -> None:
    """Say once in a process that programs are not kept, and what to do."""
    if problem not in _warned:
        _warned.add(problem)
        warnings.warn(
            f"tinygrad_kr: {problem} ({reason}); programs are compiled in a temporary folder, anew "
            "in each process, unless $TINYGRAD_KR_CACHE names a folder that can be used",
            RuntimeWarning,
            stacklevel=2,
        )


def digest(parts: Iterable[str]) -> str:
    """SHA-256 of several texts, such that no two lists of texts are taken for one another."""
    hashed = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        hashed.update(len(encoded).to_bytes(8, "big"))
        hashed.update(encoded)
    return hashed.hexdigest()


def file_checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


_warned: set[str] = set()
_private_folders: dict[int, Path] = {}


def _make_private(folder: Path) -> None:
    """Make `folder` (0700) and what is missing above it; OSError where others could change it.

    A folder that is ours but writable by others is refused, not mended: what lies in it may be
    theirs already. The folders above count too, for who may rename one of them may put another in
    its place between our look and the load.
    """
    missing: list[Path] = []
    existing = folder
    while not existing.exists():
        missing.append(existing)
        existing = existing.parent
    for above in (existing, *existing.parents):
        if above != folder and (reason := _replaceable(above)):
            raise PermissionError(f"{above} {reason}")
    for level in reversed(missing):
        level.mkdir(mode=0o700, exist_ok=True)
    if reason := _not_private(folder):
        raise PermissionError(f"{folder} {reason}")
    if os.name == "posix" and stat.S_IMODE(folder.stat().st_mode) & 0o077:
        folder.chmod(0o700)


def _not_private(folder: Path) -> str:
    """Why the cache cannot be in `folder`; empty where it can. Windows keeps users apart itself."""
    status = folder.stat()
    if not stat.S_ISDIR(status.st_mode):
        return "is not a folder: remove it"
    if sys.platform == "win32":
        return ""
    if status.st_uid != os.geteuid():
        return f"belongs to user {status.st_uid}, who could change the programs in it"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(status.st_mode)
        return f"is writable by others (mode {mode:04o}): empty it, and chmod go-w it"
    return ""


def _replaceable(folder: Path) -> str:
    """Why somebody else could rename what is in `folder`; empty where nobody can.

    Allowed are sticky folders (/tmp) and those writable by our own group, which on most systems
    has one member and is what a umask of 002 gives.
    """
    if sys.platform == "win32":
        return ""
    status = folder.stat()
    if status.st_uid not in (0, os.geteuid()) and not _outside(status.st_uid):
        return f"belongs to user {status.st_uid}, who could replace what is in it"
    if status.st_mode & stat.S_ISVTX:
        return ""
    foreign_group = status.st_mode & stat.S_IWGRP and status.st_gid != os.getegid()
    if status.st_mode & stat.S_IWOTH or foreign_group:
        return f"is writable by others (mode {stat.S_IMODE(status.st_mode):04o}): chmod go-w it"
    return ""


def _outside(owner: int) -> bool:
    """Whether `owner` stands for all users that a container without root does not know."""
    try:
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="utf-8"))
        known = Path("/proc/self/uid_map").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return False
    return owner == overflow and known != ["0", "0", "4294967295"]


def _remove(folder: Path, process: int) -> None:
    """Remove a temporary folder, but not from a fork of the process that made it."""
    import shutil

    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


class _Entry(NamedTuple):
    used: float
    size: int
    path: Path


def _entries(folder: Path) -> list[_Entry]:
    """The files of ours in `folder`, those used longest ago first, with the bytes they take."""
    entries = []
    with suppress(OSError), os.scandir(folder) as found:
        for file in found:
            if _ENTRY.fullmatch(file.name):
                status = file.stat(follow_symlinks=False)
                blocks = -(-status.st_size // _BLOCK_BYTES)
                entries.append(_Entry(status.st_mtime, blocks * _BLOCK_BYTES, Path(file.path)))
    return sorted(entries)
