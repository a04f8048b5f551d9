"""How Python hands arrays to C: all in the tuple with which a function is called.

C looks up their addresses itself. So no address is ever stored in Python: an array that C reads or
writes is held by the tuple, and the tuple by the call. An interrupt between two bytecodes can leave
neither a wrong address nor one of freed memory.

The layout that C relies on is public: a tuple's items begin at `tuple.__basicsize__`, and NumPy's
`PyArrayObject_fields` has the address of the elements right after the object's header.
"""

from __future__ import annotations

import sys
from functools import cache

import numpy as np

from tinygrad_kr.native.foreign import ctypes
from tinygrad_kr.ops.writes import address

ITEMS, ELEMENTS = tuple.__basicsize__, object.__basicsize__
"""Bytes from the start of a tuple to its first item, and of an array to its elements' address."""


@cache
def are_found() -> bool:
    """Whether this Python and this NumPy lay out tuples and arrays as C reads them."""
    if sys.implementation.name != "cpython":
        return False
    whole = np.arange(8.0)
    for array in (whole, whole[2:], np.array(1.0), np.zeros((0, 3), np.int64)):
        call = (None, array)
        item = ctypes.c_void_p.from_address(id(call) + ITEMS + ctypes.sizeof(ctypes.c_void_p))
        elements = ctypes.c_void_p.from_address(id(array) + ELEMENTS)
        if item.value != id(array) or elements.value != address(array):
            return False
    return True
