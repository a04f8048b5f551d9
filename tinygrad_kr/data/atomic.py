"""Files that are whole or not there: what a reader finds is never half of a write."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a stream to write; its bytes become `path` at the end of the block, all or none.

    The stream is a temporary file in the same directory. When the block ends it is flushed to
    the disk and renamed over `path` (a symbolic link is followed, an existing file's mode is
    kept), and the directory is flushed too. When the block raises, or is interrupted, the
    temporary is removed and what was at `path` before is still there, untouched.

    Raises OSError when the directory cannot be written or the disk is full.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder to write into", str(target.parent))
    temporary = target.with_name(f".{os.urandom(8).hex()}.part")
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _flush_directory(target.parent)


def _flush_directory(folder: Path) -> None:
    """Make the rename itself survive a power cut; Windows has no such call."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
