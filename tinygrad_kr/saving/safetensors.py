"""The format `.safetensors`, by the library of that name.

`__metadata__` holds the text and a SHA-256. It covers, for each array in the order of names, the
JSON of [name, dtype, shape] and the bytes; then the text.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy import ndarray

from tinygrad_kr.saving.formats import Form, damage, damaged, native

_TEXT, _DIGEST = "tinygrad_kr", "tinygrad_kr.sha256"
"""The entries of `__metadata__`."""
_DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "F16": "float16",
    "U32": "uint32", "I32": "int32", "F32": "float32", "U64": "uint64", "I64": "int64",
    "F64": "float64",
}  # fmt: skip
"""NumPy's names of the dtypes."""
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def _library(function: str) -> Any:
    try:
        importlib.import_module("safetensors.numpy")
        return importlib.import_module("safetensors")
    except ImportError as error:
        raise ImportError(
            f"{function}: expected the library safetensors, got none. "
            'pip install "tinygrad_kr[safetensors]"'
        ) from error


class _Sum:
    """The SHA-256 of arrays that come in the order of their names."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()

    def add(self, name: str, array: ndarray) -> None:
        form = [name, _NAMES[array.dtype.name], array.shape]
        self._sum.update(json.dumps(form).encode())
        contents: Any = array.reshape(-1).view(np.uint8)
        self._sum.update(contents)

    def of(self, text: str | None) -> str:
        self._sum.update((text or "").encode("utf-8", "surrogatepass"))
        return self._sum.hexdigest()


def write(stream: BinaryIO, arrays: Mapping[str, ndarray], text: str | None) -> None:
    """Write arrays, and a text beside them, into the file of an open stream.

    Raises TypeError for a dtype that the format lacks, ValueError for a name that is not UTF-8,
        ImportError without the library.
    """
    library, total = _library("save"), _Sum()
    kept = {name: native(arrays[name]) for name in sorted(arrays)}
    for name, array in kept.items():
        if array.dtype.name not in _NAMES:
            raise TypeError(f"save: expected real numbers in {name}, got {array.dtype}.")
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise ValueError(f"save: expected names in UTF-8, got {name!r:.60}.")
        total.add(name, array)
    metadata = {_DIGEST: total.of(text)} | ({} if text is None else {_TEXT: text})
    try:
        library.numpy.save_file(kept, stream.name, metadata)
    except library.SafetensorError as error:
        raise _system_error(error) from error


def _system_error(error: Exception) -> OSError:
    """The error of the system that the library reports in words."""
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]) if number else errno.EIO, str(error))


@contextmanager
def opened(path: str) -> Iterator[_Reader]:
    """A file whose header the library has checked."""
    library = _library("load")
    with open(path, "rb") as stream:
        start = 8 + int.from_bytes(stream.read(8), "little")
        size = os.fstat(stream.fileno()).st_size
    with damage(path, 0 if start > size else 8):
        file = library.safe_open(path, framework="numpy")
    with file as entered:
        with damage(path, start):
            reader = _Reader(path, entered, start)
        yield reader


class _Reader:
    """An open file. start: the first byte of its arrays."""

    def __init__(self, path: str, file: Any, start: int) -> None:
        self.path, self.file, self.start = path, file, start
        self.forms = {name: _form(file.get_slice(name)) for name in sorted(file.keys())}
        metadata = file.metadata() or {}
        self.text, self.digest = metadata.get(_TEXT), metadata.get(_DIGEST)
        if self.text is not None and self.digest is None:
            raise damaged(path, f"{_TEXT} without {_DIGEST}", 8)

    def read(self, names: Collection[str]) -> dict[str, ndarray]:
        """The arrays of these names, after a check of all."""
        found, total = {}, _Sum()
        with damage(self.path, self.start):
            for name in names if self.digest is None else self.forms:
                array = self.file.get_tensor(name)
                if name in names:
                    found[name] = array
                if self.digest is not None:
                    total.add(name, array)
            if self.digest not in (None, total.of(self.text)):
                raise damaged(self.path, "arrays with another SHA-256", self.start)
        return found

    def verify(self) -> None:
        """Check all arrays if there is a sum, and keep nothing in memory."""
        if self.digest is not None:
            self.read(())


def _form(tensor: Any) -> Form:
    dtype, shape = tensor.get_dtype(), tuple(tensor.get_shape())
    return Form(np.dtype(_DTYPES[dtype]) if dtype in _DTYPES else str(dtype), shape)
