"""How generated C finds its arrays: in the tuple that it is called with.

A C function gets one Python tuple of arrays and looks up their addresses itself. So no address is
ever stored in Python: an array that C reads or writes is held by the tuple, and the tuple by the
call. An interrupt between two bytecodes can leave neither a wrong address nor one of freed memory.

The layout that C relies on is public: a tuple's items begin at `tuple.__basicsize__`, and NumPy's
`PyArrayObject_fields` has the address of the elements right after the object's header.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable, Mapping
from functools import cache

import numpy as np

from tinygrad_kr.ops.writes import address

ITEMS, ELEMENTS = tuple.__basicsize__, object.__basicsize__
"""Bytes from the start of a tuple to its first item, and of an array to its elements' address."""

LOOK_UP = f"""
/* The elements of array i of the tuple that a function is called with. */
static inline void *tk_elements(const void *call, int64_t i) {{
  const char *array = *(char **)((const char *)call + {ITEMS} + i * (int64_t)sizeof(void *));
  return *(void **)(array + {ELEMENTS});
}}
"""


@cache
def are_found() -> bool:
    """Whether this Python and this NumPy lay out tuples and arrays as `LOOK_UP` reads them."""
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


class Arguments:
    """The arrays of one C function: `roots` are those of the tuple, in order, and the arena is the
    last item where any other root lies in it.

    starts: where the roots that lie in the arena begin there, in bytes.
    """

    def __init__(self, roots: Iterable[int], starts: Mapping[int, int]) -> None:
        used = sorted(roots)
        self.roots = [root for root in used if root not in starts]
        self._in_arena = {root: starts[root] for root in used if root in starts}

    @property
    def uses_arena(self) -> bool:
        """Whether the tuple ends with the arena."""
        return bool(self._in_arena)

    def found(self, size: int) -> str:
        """C that makes the table `memory` of `size` addresses, from the tuple `call`."""
        lines = [f"void *memory[{max(size, 1)}];"]
        lines += [f"memory[{r}] = tk_elements(call, {i});" for i, r in enumerate(self.roots)]
        if self._in_arena:
            lines.append(f"char *arena = tk_elements(call, {len(self.roots)});")
            lines += [f"memory[{r}] = arena + {start};" for r, start in self._in_arena.items()]
        return "".join(f"  {line}\n" for line in lines)

    def entry(self, name: str, size: int) -> str:
        """The exported C function that calls `name_(memory)`."""
        return (
            f"EXPORT void {name}(const void *call) {{\n{self.found(size)}  {name}_(memory);\n}}\n"
        )


__all__ = ["LOOK_UP", "Arguments", "are_found"]
