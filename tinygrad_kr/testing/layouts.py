"""An array in every memory layout."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray


def _locked(value: ndarray) -> ndarray:
    value = value.copy()
    value.flags.writeable = False
    return value


def _fortran(x: ndarray) -> ndarray:
    return x.copy(order="F")


def _backward(x: ndarray) -> ndarray:
    everywhere: Any = (..., *(slice(None, None, -1),) * x.ndim)
    return np.asarray(x[everywhere].copy()[everywhere])


def _stepped(x: ndarray) -> ndarray:
    wide = np.full([2 * n + 1 for n in x.shape], np.nan if x.dtype.kind == "f" else 1, x.dtype)
    every_other: Any = (..., *(slice(1, None, 2) for _ in x.shape))
    wide[every_other] = x
    return np.asarray(wide[every_other])


def layouts(x: ndarray) -> dict[str, ndarray]:
    """`x` in every memory layout that a Tensor's array may have, by name.

    The same values: "fortran" (first axis fastest), "backward" (negative strides), "stepped"
    (sliced out of a larger array that holds NaN elsewhere), "read-only", "offset" (not at the start
    of its memory).
    The first row repeated: "broadcast" (stride 0 on axis 0).

    >>> sorted(tk.testing.layouts(np.eye(2)))
    ['backward', 'broadcast', 'fortran', 'offset', 'read-only', 'stepped']
    """
    found = {"fortran": _fortran(x), "backward": _backward(x), "stepped": _stepped(x)}
    found["read-only"] = _locked(x)
    room = np.zeros(x.size + 3, x.dtype)
    room[3:] = x.ravel()
    found["offset"] = room[3:].reshape(x.shape)
    if x.ndim and len(x):
        found["broadcast"] = np.broadcast_to(x[:1].copy(), x.shape)
    return found
