"""What the two file formats share: the forms of arrays, and damage."""

from __future__ import annotations

import errno
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy import ndarray

METADATA = "__metadata__"
"""The name of the text beside the arrays, which no array may have."""
_OUT_OF_RANGE = {"EINVAL", "EOVERFLOW"}
"""Errors of a seek to a place that a damaged file names."""


class DamagedFileError(ValueError):
    """A file that is not as it was written: cut, changed or not in its format.

    path: the file. offset: the byte at which it is damaged, or None.

    >>> issubclass(tk.DamagedFileError, ValueError)
    True
    """

    def __init__(self, message: str, path: str = "", offset: int | None = None) -> None:
        super().__init__(message)
        self.path, self.offset = path, offset

    def __reduce__(self) -> Any:
        return type(self), (*self.args, self.path, self.offset)


class Form(NamedTuple):
    """Dtype and shape of an array in a file. dtype: a name for one that is none of NumPy's."""

    dtype: np.dtype[Any] | str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """The size of the array; 0 for a dtype that is none of NumPy's."""
        return 0 if isinstance(self.dtype, str) else math.prod(self.shape) * self.dtype.itemsize

    def stand_in(self) -> Any:
        """An array of this form without memory of its own, to check it before it is read."""
        if isinstance(self.dtype, str):
            return _Unreadable(self.dtype)
        return np.broadcast_to(np.zeros((), self.dtype), self.shape)


class _Unreadable:
    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def __array__(self, dtype: Any = None, copy: Any = None) -> ndarray:
        fix = " (tk.interop.from_torch_state_dict converts it)" if self.dtype == "BF16" else ""
        raise TypeError(f"expected real numbers in a dtype of NumPy's, got {self.dtype}{fix}")


class Reader(Protocol):
    """An open file: its text, the forms of its arrays, and the arrays.

    Every method raises DamagedFileError for a file that is not as it was written.
    """

    text: str | None
    forms: dict[str, Form]

    def read(self, names: Collection[str]) -> dict[str, ndarray]:
        """The arrays of these names, checked."""
        ...

    def verify(self) -> None:
        """Check all that the file holds, and keep nothing in memory."""
        ...


@contextmanager
def damage(path: str, offset: int | None = None) -> Iterator[None]:
    """Turn what a reader raises into a DamagedFileError. Failures of the system stay."""
    try:
        yield
    except (DamagedFileError, MemoryError, ImportError):
        raise
    except Exception as error:
        name = errno.errorcode.get(getattr(error, "errno", None) or 0)
        if isinstance(error, OSError) and name not in _OUT_OF_RANGE:
            raise
        raise damaged(path, f"{type(error).__name__}: {error}", offset) from error


def damaged(path: str, problem: str, offset: int | None = None) -> DamagedFileError:
    """The error for a damaged file."""
    where = "" if offset is None else f" at byte {offset:,}"
    message = f"load: expected {path} as it was written, got {problem.rstrip('.')}{where}."
    return DamagedFileError(message, path, offset)


def refuse_other_format(path: str, beginning: bytes, own: str) -> None:
    """Raise DamagedFileError for a file that begins as one of another format does.

    beginning: at least 9 bytes, or all that there are. own: the suffix of the format that is read.
    """
    found = ""
    if beginning.startswith(b"PK\3\4"):
        found = ".npz"
    elif beginning.startswith(b"\x93NUMPY"):
        raise damaged(path, "one array without a name, as np.save writes it. Write it by np.savez")
    elif beginning[4:9] == b"\0\0\0\0{":
        found = ".safetensors"
    if found not in ("", own):
        raise damaged(path, f"a file of the format {found}. Let its name end so")


def native(array: ndarray) -> ndarray:
    """The array in C order and this machine's byte order, 0-d arrays too."""
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")
