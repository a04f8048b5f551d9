"""The format `.safetensors`, read by the library of that name.

It is written here, and the library then checks the header. Measured with 200 MB of arrays: its
`save` takes 400 MB at the peak (600 before 0.8), the code here 3. Its `save_file` does not flush to
the disk; that of 0.8 renames a file of its own, of mode 0600, which a kill leaves behind.

`__metadata__` holds the text and a SHA-256: of the JSON of [name, dtype, shape, SHA-256 of the
bytes] for each array in the order of names, and of the text.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy import ndarray

from tinygrad_kr.saving.formats import Form, damage, damaged, refuse_other_format

_TEXT, _DIGEST = "tinygrad_kr", "tinygrad_kr.sha256"
"""The entries of `__metadata__`."""
_CHUNK = 1 << 20
"""Bytes that are written at a time."""
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
    """The SHA-256 of arrays and a text."""

    def __init__(self) -> None:
        self._described: dict[str, Any] = {}

    def add(self, name: str, array: ndarray, stream: BinaryIO | None = None) -> None:
        """Take an array in, and write it if a stream is given: the bytes of which the sum is."""
        contents, total = _contents(array), hashlib.sha256()
        for start in range(0, contents.size, _CHUNK):
            piece = contents[start : start + _CHUNK].tobytes()
            total.update(piece)
            if stream is not None:
                stream.write(piece)
        form = [_NAMES[array.dtype.name], array.shape, total.hexdigest()]
        self._described[name] = form

    def of(self, text: str | None) -> str:
        """The sum of what was taken in, and of the text."""
        described = json.dumps(sorted(self._described.items()))
        return hashlib.sha256((described + (text or "")).encode("utf-8", "replace")).hexdigest()


def write(stream: BinaryIO, arrays: Mapping[str, ndarray], text: str | None) -> None:
    """Write arrays, and a text beside them, into the file of an open stream.

    Raises TypeError for a dtype that the format lacks, ValueError for a name that is not UTF-8,
        or a header that the library would not read, ImportError without the library.
    """
    library, total = _library("save"), _Sum()
    for name, array in arrays.items():
        if array.dtype.name not in _NAMES:
            raise TypeError(
                f"save: expected a dtype that .safetensors has in {name}, got {array.dtype}. "
                "Write .npz"
            )
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise ValueError(f"save: expected names in UTF-8, got {name!r:.60}.")
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))  # so all align
    header = _header(arrays, order, text, "0" * len(total.of(text)))
    stream.write(header)
    for name in order:
        total.add(name, arrays[name], stream)
    stream.seek(0)
    stream.write(_header(arrays, order, text, total.of(text)))
    stream.flush()
    try:
        with _open(library, stream.name):
            pass
    except library.SafetensorError as error:
        raise ValueError(
            f"save: expected a header that safetensors reads, got {error}. Write .npz"
        ) from error


def _header(
    arrays: Mapping[str, ndarray], order: list[str], text: str | None, digest: str
) -> bytes:
    metadata = {_DIGEST: digest} | ({} if text is None else {_TEXT: text})
    described: dict[str, Any] = {"__metadata__": metadata}
    start = 0
    for name in order:
        array = arrays[name]
        end = start + array.nbytes
        form = {"dtype": _NAMES[array.dtype.name], "shape": array.shape}
        described[name] = form | {"data_offsets": [start, end]}
        start = end
    header = json.dumps(described).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


def _contents(array: ndarray) -> ndarray:
    """The bytes of an array: in C order, little-endian."""
    ordered = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    return ordered.reshape(-1).view(np.uint8)


@contextmanager
def opened(path: str) -> Iterator[_Reader]:
    """A file whose header the library has checked."""
    library = _library("load")
    with open(path, "rb") as stream:
        beginning = stream.read(9)
        refuse_other_format(path, beginning, ".safetensors")
        start = 8 + int.from_bytes(beginning[:8], "little")
        size = os.fstat(stream.fileno()).st_size
    with damage(path, 0 if start > size else 8):
        file = _open(library, path)
    with file as entered:
        with damage(path, start):
            reader = _Reader(path, entered, start)
        yield reader


def _open(library: Any, path: str) -> Any:
    """The file, not mapped where the library can do so: a mapping counts as memory."""
    try:
        return library.safe_open(path, framework="numpy", backend="pread")
    except TypeError:  # a version before 0.8
        return library.safe_open(path, framework="numpy")


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
                array: ndarray = self.file.get_tensor(name)
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
