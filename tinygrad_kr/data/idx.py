"""IDX, the format of the MNIST files: a header of sizes, then one block of big-endian numbers.

    byte 0-1   zero
    byte 2     element type: 08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64
    byte 3     number of dimensions
    byte 4-    one big-endian uint32 per dimension, then the elements, last index fastest

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import errno
import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from tinygrad_kr.files import replacing
from tinygrad_kr.ops.op import refuse_masked

if TYPE_CHECKING:
    import numpy.typing as npt

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CODES = {np.dtype(name).newbyteorder("="): code for code, name in _DTYPES.items()}
_MAX_RANK = 64
_CHUNK = 1 << 20


class IdxError(ValueError):
    """A malformed IDX file: the path, the byte, what was expected and found, and a hint.

    `offset` counts decompressed bytes. A subclass of ValueError.

    >>> raise tk.data.IdxError("labels", 4, "10 bytes", "the end of the file")
    Traceback (most recent call last):
        ...
    tinygrad_kr.data.idx.IdxError: labels: byte 4: expected 10 bytes, got the end of the file
    """

    def __init__(self, path: str, offset: int, wanted: str, found: str, hint: str = "") -> None:
        super().__init__(path, offset, wanted, found, hint)
        self.path, self.offset, self.wanted, self.found, self.hint = self.args

    def __str__(self) -> str:
        problem = f"{self.path}: byte {self.offset}: expected {self.wanted}, got {self.found}"
        return f"{problem}. {self.hint}" if self.hint else problem


def read_idx(path: str | os.PathLike[str], *, max_bytes: int = 1 << 30) -> npt.NDArray[Any]:
    """Read an IDX file, the format of MNIST, gzipped or not.

    Returns an array of the shape and element type in the header, in native byte order, that owns
    its memory. Compression is detected from the content, not from the name.
    max_bytes: the largest size that is accepted (decompressed, header included). Nothing beyond it
        is decompressed, which bounds the memory.

    Raises IdxError for a wrong magic number, element type, rank or length, a file larger than
    `max_bytes`, and damaged gzip data; FileNotFoundError if there is no such file.

    >>> import os, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "labels.gz")
    >>> tk.data.write_idx(path, np.array([5, 0, 4], np.uint8))
    >>> tk.data.read_idx(path)
    array([5, 0, 4], dtype=uint8)
    >>> folder.cleanup()
    """
    name = os.fspath(path)
    with _open(name) as file, decompressed(file) as stream:
        reader = _Reader(name, stream)
        dtype, shape = _read_header(reader, max_bytes)
        payload = reader.take(math.prod(shape) * dtype.itemsize, f"{shape} of {dtype.name}")
        reader.expect_end()
    values = np.frombuffer(payload, dtype).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def write_idx(path: str | os.PathLike[str], values: npt.ArrayLike) -> None:
    """Write an array as an IDX file, gzipped if the name ends in .gz, atomically.

    The same array always gives the same bytes: the gzip header holds neither time nor name.

    Raises TypeError for an element type that IDX lacks (int64, bool, ...), ValueError for a rank
    outside 1 to 64 or a dimension of 2**32 or more.

    >>> import os, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "images")
    >>> tk.data.write_idx(path, np.zeros((2, 28, 28), np.uint8))
    >>> tk.data.read_idx(path).shape
    (2, 28, 28)
    >>> folder.cleanup()
    """
    refuse_masked(values, "write_idx")
    array = np.asarray(values)
    code = _CODES.get(array.dtype.newbyteorder("="))
    if code is None:
        known = ", ".join(str(dtype) for dtype in _CODES)
        raise TypeError(f"write_idx: expected an element type among {known}, got {array.dtype}.")
    if not 1 <= array.ndim <= _MAX_RANK or max(array.shape) >= 1 << 32:
        raise ValueError(
            f"write_idx: expected 1 to {_MAX_RANK} dimensions below 2**32, got {array.shape}."
        )
    header = bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    with replacing(path) as stream:
        _write(stream, header + array.astype(_DTYPES[code]).tobytes(), os.fspath(path))


def _write(stream: BinaryIO, content: bytes, name: str) -> None:
    if not name.endswith(".gz"):
        stream.write(content)
        return
    import gzip

    with gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as packed:
        packed.write(content)


def _open(name: str) -> io.BufferedReader:
    try:
        return open(name, "rb")
    except FileNotFoundError:
        advice = "no such IDX file; check the path, or let tinygrad_kr.data.mnist() fetch MNIST"
        raise FileNotFoundError(errno.ENOENT, advice, name) from None


@contextmanager
def decompressed(file: io.BufferedIOBase) -> Iterator[io.BufferedIOBase]:
    """The plain bytes of an open file; gzip is detected from its first two bytes."""
    gzipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if not gzipped:
        yield file
        return
    import gzip

    with gzip.GzipFile(fileobj=file, mode="rb") as stream:
        yield stream


class _Reader:
    """Exact reads that track the offset, for the error messages."""

    def __init__(self, name: str, stream: io.BufferedIOBase) -> None:
        self.name, self.stream, self.offset = name, stream, 0

    def error(self, wanted: str, found: str, offset: int | None = None) -> IdxError:
        return IdxError(self.name, self.offset if offset is None else offset, wanted, found)

    def take(self, count: int, what: str) -> bytearray:
        taken = bytearray()
        while len(taken) < count:
            chunk = self._read(min(_CHUNK, count - len(taken)))
            if not chunk:
                wanted = f"{count} bytes from byte {self.offset - len(taken)} on ({what})"
                raise self.error(wanted, f"the end of the file after {len(taken)} of them")
            taken += chunk
        return taken

    def expect_end(self) -> None:
        start = self.offset
        if self._read(1):
            raise self.error("the end of the file", "more bytes", start)

    def _read(self, count: int) -> bytes:
        import zlib

        try:
            chunk = self.stream.read(count)
        except (EOFError, zlib.error) as error:
            raise self.error("whole gzip data from here on", str(error)) from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise self.error("whole gzip data from here on", str(error)) from error
        self.offset += len(chunk)
        return chunk


def _read_header(reader: _Reader, max_bytes: int) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = reader.take(4, "the magic number")
    if magic[:2] != b"\0\0":
        raise reader.error("two zero bytes, the start of an IDX file", repr(bytes(magic[:2])), 0)
    if magic[2] not in _DTYPES:
        known = ", ".join(f"{code:02X}" for code in _DTYPES)
        raise reader.error(f"an element type among {known}", f"{magic[2]:02X}", 2)
    rank = magic[3]
    if not 1 <= rank <= _MAX_RANK:
        raise reader.error(f"1 to {_MAX_RANK} dimensions", str(rank), 3)
    shape = tuple(np.frombuffer(reader.take(4 * rank, "the dimensions"), ">u4").tolist())
    dtype = np.dtype(_DTYPES[magic[2]])
    size = reader.offset + math.prod(max(length, 1) for length in shape) * dtype.itemsize
    if size > max_bytes:
        found = f"dimensions {shape} of {dtype.name}, {size} bytes"
        raise reader.error(f"at most max_bytes={max_bytes} bytes", found, 4)
    return dtype, shape
