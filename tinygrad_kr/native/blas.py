"""NumPy's OpenBLAS: its functions, and one thread for a while.

With another number of threads OpenBLAS divides the depth of some products differently, and rounds
differently.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_kr.native.foreign import ctypes, why_never

_PREFIXES, _SUFFIXES = ("scipy_openblas_", "openblas_"), ("64_", "", "_64")
_LOCK = threading.RLock()


@cache
def function(name: str) -> Any:
    """A C function of NumPy's OpenBLAS, such as "get_num_threads"; None for another BLAS."""
    if why_never() is not None:
        return None
    core: Any = importlib.import_module("numpy._core._multiarray_umath")
    beside = Path(np.__file__).parent.parent / "numpy.libs"
    for path in (core.__file__, *map(str, beside.glob("*openblas*"))):
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        for symbol in (f"{start}{name}{end}" for start in _PREFIXES for end in _SUFFIXES):
            if (found := getattr(library, symbol, None)) is not None:
                return found
    return None


def kernel() -> str | None:
    """The processor whose kernels OpenBLAS uses; None for another BLAS."""
    if (get := function("get_corename")) is None:
        return None
    get.restype = ctypes.c_char_p
    text: bytes = get()
    return text.decode()


def threads() -> int | None:
    """The number of threads that OpenBLAS may use; None for another BLAS."""
    get = function("get_num_threads")
    return None if get is None else int(get())


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for OpenBLAS in this process. Threads that enter take turns."""
    with _LOCK:
        before, change = threads(), function("set_num_threads")
        if before in (None, 1) or change is None:
            yield
            return
        change(1)
        try:
            yield
        finally:
            change(before)
