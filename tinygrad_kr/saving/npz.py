"""The format `.npz`: a ZIP archive of arrays, as `np.savez` writes it. Nothing is unpickled.

The text is one more array: its UTF-8, in uint8. Members are not compressed. A CRC-32 protects each.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, BinaryIO

import numpy as np
from numpy import ndarray

from tinygrad_kr.saving.formats import METADATA, Form, damage, damaged, native, refuse_other_format

_SUFFIX = ".npy"
_CHUNK = 1 << 20
"""Bytes that are read at a time where none are kept."""
_END = 1 << 17
"""The record at the end of an archive is within so many bytes."""
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""What NumPy writes. Deflated members are inflated piece by piece."""
_LONGEST = 60_000
"""Limit: a name in a ZIP archive has 65,535 bytes; bytes of UTF-8."""


def write(stream: BinaryIO, arrays: Mapping[str, ndarray], text: str | None) -> None:
    """Write an archive of arrays, and a text beside them.

    Raises ValueError for a name that an archive cannot hold.
    """
    for name in arrays:
        _check_name(name)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            _write_member(archive, name, native(array))
        if text is not None:
            _write_member(archive, METADATA, np.frombuffer(text.encode(), np.uint8))


def _write_member(archive: zipfile.ZipFile, name: str, array: ndarray) -> None:
    member = zipfile.ZipInfo()
    member.filename = name + _SUFFIX  # as it is: the constructor exchanges separators
    with archive.open(member, "w", force_zip64=True) as stream:
        np.lib.format.write_array(stream, array, (1, 0), allow_pickle=False)


def _check_name(name: str) -> None:
    size = len(name.encode("utf-8", "surrogatepass"))
    if "\0" in name or size > _LONGEST or not _is_utf_8(name):
        raise ValueError(
            f"save: expected names in UTF-8 without NUL, up to {_LONGEST:,} bytes, got "
            f"{name!r:.60} of {size:,}."
        )


def _is_utf_8(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


@contextmanager
def opened(path: str) -> Iterator[_Reader]:
    """An archive whose members' sizes and headers are right."""
    with open(path, "rb") as stream:
        refuse_other_format(path, stream.read(9), ".npz")
        with damage(path):
            archive = zipfile.ZipFile(stream)
            size = os.fstat(stream.fileno()).st_size
            reader = _Reader(path, archive, size)
            _check_count(stream, size, len(reader.members))
        with archive:
            yield reader


def _check_count(stream: BinaryIO, size: int, count: int) -> None:
    """Compare the members found with their number at the end: `zipfile` ignores it."""
    stream.seek(max(0, size - _END))
    end = stream.read()
    (expected,) = struct.unpack_from("<H", end, end.rfind(b"PK\5\6") + 10)
    if expected == 0xFFFF and (long := end.rfind(b"PK\6\6")) >= 0:
        (expected,) = struct.unpack_from("<Q", end, long + 32)
    if count != expected:
        raise ValueError(f"{count:,} members where {expected:,} are announced")


class _Reader:
    """An open archive."""

    def __init__(self, path: str, archive: zipfile.ZipFile, size: int) -> None:
        self.path, self.archive = path, archive
        self.members: dict[str, zipfile.ZipInfo] = {}
        self.forms: dict[str, Form] = {}
        for member in archive.infolist():
            self._add(member, size)
        stored = [m.compress_size for m in self.members.values()]
        if sum(stored) > size:
            raise damaged(path, f"{sum(stored):,} bytes of members in {size:,} bytes")
        self.text = self._text() if METADATA in self.members else None

    def _add(self, member: zipfile.ZipInfo, size: int) -> None:
        name, start = member.orig_filename, member.header_offset
        if name.endswith("data.pkl"):
            of_torch = "a pickle, as torch.save writes it. Name it .pt to read how it is converted"
            raise damaged(self.path, of_torch)
        if not name.endswith(_SUFFIX):
            raise damaged(self.path, f"{name!r:.60}, which is no array,", start)
        name = name.removesuffix(_SUFFIX)
        if name in self.members:
            raise damaged(self.path, f"{name!r:.60} twice", start)
        if member.compress_type not in _METHODS:  # zipfile inflates the others whole
            raise damaged(self.path, f"{name!r:.60} compressed by {member.compress_type}", start)
        if _is_stored(member) and member.compress_size != member.file_size:
            raise damaged(self.path, f"two sizes of {name!r:.60}", start)
        with damage(self.path, start), self.archive.open(member) as stream:
            form = _form(stream)
            if not isinstance(form.dtype, str) and stream.tell() + form.nbytes != member.file_size:
                raise ValueError(f"{form.nbytes:,} bytes of numbers in {member.file_size:,} bytes")
            form.stand_in()
        self.members[name], self.forms[name] = member, form

    def _text(self) -> str:
        if not all(map(_is_stored, self.members.values())):
            raise damaged(self.path, "compressed members beside a text")
        form, start = self.forms.pop(METADATA), self.members[METADATA].header_offset
        if form.dtype != np.uint8 or len(form.shape) != 1:
            raise damaged(self.path, f"a text of {form.dtype}{form.shape}", start)
        with damage(self.path, start):
            return self._array(METADATA).tobytes().decode()

    def _array(self, name: str) -> ndarray:
        member = self.members[name]
        with damage(self.path, member.header_offset), self.archive.open(member) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    def read(self, names: Collection[str]) -> dict[str, ndarray]:
        """The arrays of these names, checked."""
        return {name: self._array(name) for name in names}

    def verify(self) -> None:
        """Check every member that is not compressed, and keep nothing in memory."""
        for member in filter(_is_stored, self.members.values()):
            with damage(self.path, member.header_offset), self.archive.open(member) as stream:
                while stream.read(_CHUNK):
                    pass


def _is_stored(member: zipfile.ZipInfo) -> bool:
    return member.compress_type == zipfile.ZIP_STORED


def _form(stream: IO[bytes]) -> Form:
    """The form that the header of an array says."""
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):  # a later one has a header of up to 4 GB
        raise ValueError(f"a header of version {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    kept: np.dtype[Any] = dtype.newbyteorder("=")
    return Form(kept if kept.kind in "biuf" else str(kept), shape)
