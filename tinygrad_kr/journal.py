"""A file of results, a line of JSON for each, from which an interrupted run is resumed.

The first line says what made the results. Each line is flushed to the disk before the next result
is awaited, and ends with a checksum, so a run that is killed leaves whole lines and at most one
torn one, which the next run removes. Results are dicts of arrays; they come back with the same
bits.

    {"tinygrad_kr": "journal", "format": 1, "made_by": {"train": "..."}, "crc32": 2840511021}
    {"key": 7, "results": {"loss": 0.25}, "types": {"loss": "float32()"}, "crc32": 1217842463}
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr import files

FORMAT = 1
_MARK = {"tinygrad_kr": "journal", "format": FORMAT}
_TYPE = re.compile(
    r"(bool|u?int(?:8|16|32|64)|float(?:16|32|64)|<U\d{1,4})\((\d{1,9}(?:, \d{1,9})*)?\)"
)
"""Dtype and shape, as "float64(3, 2)"."""

Results = dict[str, ndarray]


class Journal:
    """The results in a file, and a place for more.

    made_by: what gives the results, as texts by name. name: of the function that errors are from.
    done: the results by key; keys are integers, strings or tuples of them.

    Raises ValueError if the file is of something else, was made by something else, or is damaged
    before its last line; BlockingIOError if another process writes to it; OSError if it cannot be
    written.
    """

    def __init__(self, path: str | os.PathLike[str], made_by: Mapping[str, str], name: str) -> None:
        self.path, self.name = Path(path), name
        self.done: dict[Any, Results] = {}
        self._is_missed = False
        head = _line({**_MARK, "made_by": dict(made_by)})
        files.refuse_special(self.path)
        if not self.path.parent.is_dir():
            missing = f"{name}: no such folder to write into: create it first"
            raise FileNotFoundError(errno.ENOENT, missing, str(self.path.parent))
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            if not files.claim(self._file):
                raise BlockingIOError(
                    errno.EAGAIN, f"{name}: another run writes to this file", str(self.path)
                )
            data = _whole(self._file)
            if head.startswith(data):  # empty, or its first line is torn
                os.ftruncate(self._file, 0)
                files.append(self._file, head)
                files.flush_directory(self.path.resolve().parent)
            else:
                self._read(data, dict(made_by))
        except BaseException:
            self.close()
            raise

    def add(self, results: Mapping[Any, Results]) -> None:
        """Write results by their keys, all or none, and flush them to the disk.

        Raises TypeError for arrays of objects, complex numbers or dates, OSError on a full disk.
        """
        lines = []
        for key, arrays in results.items():
            types = {name: self._type(name, array) for name, array in arrays.items()}
            values = {name: _plain(array.tolist()) for name, array in arrays.items()}
            lines.append(_line({"key": key, "results": values, "types": types}))
        try:
            files.append(self._file, b"".join(lines))
        except OSError as error:
            told = f"{self.name}: {error.strerror}. What was done before is in the file"
            raise type(error)(error.errno, told, str(self.path)) from error
        self.done.update(results)
        if not os.fstat(self._file).st_nlink and not self._is_missed:
            self._is_missed = True
            warnings.warn(
                f"{self.name}: {self.path} was removed or replaced while results are written to "
                "it. They are in the result of this call alone: save them from there",
                stacklevel=4,
            )

    def close(self) -> None:
        """Close the file, which ends the lock on it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    # ------------------------------------------------------------------ writing

    def _type(self, name: str, array: ndarray) -> str:
        dtype = array.dtype.str if array.dtype.kind == "U" else array.dtype.name
        found = f"{dtype}({', '.join(map(str, array.shape))})"
        if not isinstance(name, str):
            raise TypeError(
                f"{self.name}: expected results by names, to write to {self.path}, got the key "
                f"{name!r}. Write {str(name)!r} as its name"
            )
        if _TYPE.fullmatch(found) is None:
            raise TypeError(
                f"{self.name}: expected results that are numbers, booleans or text, by names, to "
                f"write to {self.path}, got {name!r} of {array.dtype}. Return {name!r} as numbers"
            )
        return found

    # ------------------------------------------------------------------ reading

    def _read(self, data: bytes, made_by: dict[str, str]) -> None:
        """The results of whole lines. A last line that is torn is removed from the file."""
        *lines, rest = data.split(b"\n")
        self._check_head(lines[0] if lines else data, made_by)
        whole = len(lines[0]) + 1
        for number, line in enumerate(lines[1:], 2):
            try:
                key, arrays = _entry(_record(line))
            except _DamageError as error:
                if number == len(lines) and not rest:
                    break
                raise ValueError(
                    f"{self.name}: {self.path}, line {number}: {error}. Remove the line, and its "
                    "results are computed again"
                ) from None
            self.done[key] = arrays
            whole += len(line) + 1
        if whole < len(data):
            os.ftruncate(self._file, whole)

    def _check_head(self, line: bytes, made_by: dict[str, str]) -> None:
        """Raise ValueError unless the file was made by the same."""
        try:
            record = _record(line)
        except _DamageError:
            record = {}
        there = record.get("made_by")
        if {name: record.get(name) for name in _MARK} != _MARK or not isinstance(there, dict):
            raise ValueError(
                f"{self.name}: {self.path} is not a file of results, or its first line is damaged. "
                "Give another path"
            )
        other = [
            f"{name}: {made_by.get(name, 'none')} here, {there.get(name, 'none')} in the file"
            for name in {**made_by, **there}
            if made_by.get(name) != there.get(name)
        ]
        if other:
            more = f"; and {len(other) - 3} more" if len(other) > 3 else ""
            raise ValueError(
                f"{self.name}: expected {self.path} to be of this run, got another one's. "
                f"{'; '.join(other[:3])}{more}. Give another path, or remove the file to start anew"
            )


class _DamageError(Exception):
    """A line that is not as it was written."""


def _line(record: dict[str, Any]) -> bytes:
    text = json.dumps(record, allow_nan=False)
    return f'{text[:-1]}, "crc32": {zlib.crc32(text.encode())}}}\n'.encode()


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
        checksum = record.pop("crc32")
        text = json.dumps(record, allow_nan=False)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise _DamageError("it is not a line of JSON with a checksum") from None
    if checksum != zlib.crc32(text.encode()):
        raise _DamageError("its checksum is wrong")
    return dict(record)


def _whole(file: int) -> bytes:
    pieces = iter(lambda: os.read(file, 2**20), b"")
    return b"".join(pieces)


def _key(key: Any) -> Any:
    return tuple(map(_key, key)) if isinstance(key, list) else key


def _plain(values: Any) -> Any:
    """JSON has no NaN and no infinity: they are written as text."""
    if isinstance(values, list):
        return [_plain(value) for value in values]
    if not isinstance(values, float) or math.isfinite(values):
        return values
    sign = "-" if math.copysign(1, values) < 0 else ""
    return sign + ("NaN" if math.isnan(values) else "Infinity")


def _numbers(values: Any) -> Iterator[float]:
    if isinstance(values, list):
        for value in values:
            yield from _numbers(value)
    else:
        yield float(values)


def _entry(record: dict[str, Any]) -> tuple[Any, Results]:
    """The key and the arrays of a line, as they were given to `add`."""
    try:
        results, types, key = record["results"], record["types"], _key(record["key"])
        hash(key)
        return key, {name: _array(values, types[name]) for name, values in results.items()}
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise _DamageError(f"its results cannot be read ({error})") from None


def _array(values: Any, text: str) -> ndarray:
    matched = _TYPE.fullmatch(text)
    if matched is None:
        raise ValueError(f"unknown type {text!r}")
    dtype = np.dtype(matched[1])
    shape = tuple(map(int, matched[2].split(", "))) if matched[2] else ()
    if dtype.kind == "f":
        return np.array([*_numbers(values)], dtype).reshape(shape)
    return np.array(values, dtype).reshape(shape)
