"""Columns of a table in `.npy` files, mapped into memory."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, TypeAlias

import numpy as np

from tinygrad_kr.files import refuse_special

Array: TypeAlias = "np.ndarray[Any, Any]"
Kind: TypeAlias = "tuple[np.dtype[Any], tuple[int, ...]]"
"""The dtype and the shape of a row."""
Column: TypeAlias = "str | list[str]"

_LONGEST_HEADER = 1 << 17
"""Limit: bytes of a header; that of a structured array names every field."""
_PIECE = 1 << 17
"""Bytes that one hint covers: a system may read no more for one."""
_NEEDED = getattr(mmap, "MADV_WILLNEED", None)
_DONE = getattr(mmap, "MADV_DONTNEED", None)


class NpyFiles:
    """Rows of arrays in files, one file after the other, mapped in each process for itself.

    columns: fields of structured arrays, each an array of its own; several become one array.
    `ends` lists where each file ends, `kinds` has the dtype and shape of a row of each array.

    Raises ValueError, with the file, for other contents, dtypes and shapes.
    """

    def __init__(self, paths: Sequence[str], columns: Sequence[Column] | None) -> None:
        self._files = [_MappedFile(path) for path in paths]
        with ExitStack() as stack:
            stack.callback(self.close)
            self._columns = self._checked(columns)
            stack.pop_all()
        first = self._files[0].empty()
        self.ends = np.cumsum([file.shape[0] for file in self._files], dtype=np.int64)
        self.kinds = [(a.dtype.newbyteorder("="), a.shape[1:]) for a in self._fields(first)]

    def _checked(self, columns: Sequence[Column] | None) -> Sequence[Column] | None:
        """The columns; ValueError for files that have none of these, other rows or no numbers."""
        first = self._files[0]
        for file in self._files[1:]:
            if (file.dtype, file.shape[1:]) != (first.dtype, first.shape[1:]):
                raise ValueError(
                    f"MemoryMapped: expected rows of {first.dtype}{first.shape[1:]} as in "
                    f"{first.path}, got {file.dtype}{file.shape[1:]} in {file.path}. Convert it "
                    "with .astype, or leave it out"
                )
        chosen = _checked_fields(first, columns)
        names = None if chosen is None else flat(chosen)
        for dtype in [first.dtype] if names is None else [first.dtype[n].base for n in names]:
            if dtype.kind not in "biuf" or dtype.itemsize > 8:
                raise ValueError(
                    f"MemoryMapped: {first.path}: expected numbers of at most 64 bits or booleans, "
                    f"got {dtype}. Convert it with .astype"
                )
        return chosen

    @property
    def paths(self) -> list[str]:
        """The files."""
        return [file.path for file in self._files]

    def take(self, part: int, rows: Array) -> list[Array]:
        """Copies of rows of a file."""
        values = self._files[part].values()
        plain = values.flags.c_contiguous and values.flags.aligned
        return self._fields(values.take(rows, axis=0) if plain else values[rows])

    def _fields(self, rows: Array) -> list[Array]:
        if self._columns is None:
            return [rows]
        return [
            np.stack([rows[name] for name in column], axis=1)
            if isinstance(column, list)
            else rows[column]
            for column in self._columns
        ]

    def advise(self, part: int, start: int, stop: int, needed: bool) -> None:
        """Hint that rows of a file are needed soon, or done with."""
        self._files[part].advise(start, stop, needed)

    def close(self) -> None:
        """Unmap the files. The next reader maps them again."""
        for file in self._files:
            file.close()


def _checked_fields(file: _MappedFile, columns: Sequence[Column] | None) -> Sequence[Column] | None:
    names = file.dtype.names
    if columns is None:
        if names is not None:
            raise ValueError(
                f"MemoryMapped: {file.path}: expected numbers, got a structured array with the "
                f"fields {_listed(names)}. Choose with columns=[{names[0]!r}, ...]"
            )
        return None
    if names is None:
        raise ValueError(
            f"MemoryMapped: {file.path}: expected a structured array for columns, got "
            f"{file.dtype}. Leave out columns"
        )
    for name in flat(columns):
        if name not in names:
            raise missing(file.path, name, names)
    for column in columns:
        for name in column if isinstance(column, list) else []:
            if file.dtype[name].shape:
                raise not_single(file.path, name)
    return columns


def flat(columns: Sequence[Column]) -> list[str]:
    """The names of all columns, one by one."""
    return [n for column in columns for n in (column if isinstance(column, list) else [column])]


def missing(path: str, name: str, names: Sequence[str]) -> ValueError:
    """The error for a column that a file lacks."""
    return ValueError(
        f"MemoryMapped: {path}: expected a column {name!r}, got the columns {_listed(names)}."
    )


def not_single(path: str, name: str) -> ValueError:
    """The error for a column of arrays among those that become one array."""
    return ValueError(
        f"MemoryMapped: {path}: expected columns of numbers in a list of columns, got arrays in "
        f"{name!r}. Give it an entry of its own"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(map(repr, names[:10])) + more


# ------------------------------------------------------------------ one file


class _MappedFile:
    """A file with its dtype and shape. After `close` or in another process it is mapped again."""

    def __init__(self, path: str) -> None:
        self.path, self.found = path, found(path)
        self._map: np.memmap[Any, Any] | None = self._mapped()
        self.dtype, self.shape = self._map.dtype, self._map.shape

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_map": None}

    def empty(self) -> Array:
        """No row of the file, with its dtype."""
        return np.empty((0, *self.shape[1:]), self.dtype)

    def values(self) -> Array:
        """The array in the file."""
        check_unchanged(self.path, self.found, self._map is not None)
        mapped = self._map
        if mapped is None:
            mapped = self._map = self._mapped()
        return np.asarray(mapped)

    def _mapped(self) -> np.memmap[Any, Any]:
        try:
            mapped = np.lib.format.open_memmap(self.path, mode="r", max_header_size=_LONGEST_HEADER)
        except (ValueError, EOFError) as error:
            raise ValueError(f"MemoryMapped: {self.path}: {_problem(self.path, error)}") from error
        if mapped.ndim == 0:
            raise ValueError(f"MemoryMapped: {self.path}: expected rows, got a single number.")
        return mapped

    def advise(self, start: int, stop: int, needed: bool) -> None:
        """Hint that rows are needed soon, or done with, where the system takes hints."""
        mapped, option = self._map, _NEEDED if needed else _DONE
        if mapped is None or option is None or not mapped.flags.c_contiguous:
            return
        memory: Any = mapped.base
        row = mapped.nbytes // max(1, len(mapped))
        offset = mapped.offset % mmap.ALLOCATIONGRANULARITY
        first, end = offset + start * row, min(offset + stop * row, len(memory))
        for begin in range(first - first % mmap.PAGESIZE, end, _PIECE if needed else end):
            memory.madvise(option, begin, min(_PIECE if needed else end, end - begin))

    def close(self) -> None:
        """Let go of the map, which ends with its last reader."""
        self._map = None


def found(path: str) -> tuple[int, int]:
    """The size and time of a file, by which a change is noticed."""
    refuse_special(path)
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        problem = "expected a file, got none. Check the path, or wait until it is written"
        raise FileNotFoundError(error.errno, f"MemoryMapped: {problem}", path) from error
    return status.st_size, status.st_mtime_ns


def check_unchanged(path: str, before: tuple[int, int], is_open: bool) -> None:
    """Raise RuntimeError if a file has changed since it was opened first.

    A file that was removed while it is open is still whole. To read beyond the end of a map whose
    file was cut would end the process.
    """
    try:
        now = found(path)
    except FileNotFoundError:
        if is_open:
            return
        raise
    if now != before:
        raise RuntimeError(
            f"MemoryMapped: {path}: expected the file as it was opened, {before[0]:,} bytes, got "
            f"another one of {now[0]:,} bytes. Write files to the end before they are read, then "
            "make another MemoryMapped"
        )


def _problem(path: str, error: Exception) -> str:
    """Why a file is no `.npy` file that can be mapped."""
    size = os.path.getsize(path)
    if size == 0:
        return "expected a .npy file, got an empty one. Write it again with np.save"
    try:
        with open(path, "rb") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else _read_header
            shape, _, dtype = read(stream)
            expected = stream.tell() + dtype.itemsize * int(np.prod(shape, dtype=object))
    except ValueError as problem:
        return f"expected a .npy file: {problem}. Write it with np.save"
    if dtype.hasobject:
        return "expected numbers, got Python objects. Convert them with .astype and save them again"
    if size < expected:
        return (
            f"expected {expected:,} bytes for {dtype}{shape}, got {size:,}: the end is missing. "
            "Write it again"
        )
    return str(error)


def _read_header(stream: Any) -> Any:
    return np.lib.format.read_array_header_2_0(stream)
