"""In-place writes: when, by what and where. Backward checks them before it reads an array."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.node import Node, _source_line, tick, user_frame


class WriteEvent:
    """An in-place write: when, by what, from where."""

    __slots__ = ("_frame", "time", "what")

    def __init__(self, what: str) -> None:
        self.what = what
        self.happens()

    def happens(self) -> None:
        """Set the time and the source line of the write to now."""
        last_write.time = self.time = tick()
        last_write.write = self
        frame = user_frame()
        self._frame = None if frame is None else (frame.f_code, frame.f_lasti)

    @property
    def source_line(self) -> str:
        """The user's source line, as `file:line (in function)`."""
        return "an unknown place" if self._frame is None else _source_line(*self._frame)


class Version:
    """The last write to one array, for as long as the array lives."""

    __slots__ = ("last", "reference")
    last: WriteEvent

    def __init__(self, target: Any, key: int) -> None:
        self.reference = weakref.ref(target, partial(_versions.pop, key))  # no bytecode runs then


_versions: dict[int, Version] = {}


class _LastWrite:
    """Global version counter: the last in-place write and its time. A later graph is intact.

    read: replaced each time a `.grad` is read, because the caller may keep the Tensor.
    """

    __slots__ = ("read", "time", "write")

    def __init__(self) -> None:
        self.time = 0
        self.read = object()
        self.write: WriteEvent | None = None


last_write = _LastWrite()


class _LastChange:
    """Time of the last change of a module's attribute or hook, or of a leaf's `requires_grad`."""

    __slots__ = ("time",)

    def __init__(self) -> None:
        self.time = 0


last_change = _LastChange()


class Bumped(NamedTuple):
    """A write and the arrays that it changed."""

    write: WriteEvent
    written: list[Version]


def bump_versions(targets: Iterable[Node], what: str, rebound: bool = False) -> Bumped:
    """Record that `what` has just overwritten the arrays of `targets`.

    rebound: their `.data` was replaced by another array; the old array did not change.
    Returns the argument of `bump_again`, valid while the targets keep these arrays.
    """
    write = WriteEvent(what)
    noted = []
    for node in targets:
        target = node if rebound else owner(node._data)
        written = _versions.get(id(target))
        if written is None:
            _versions[id(target)] = written = Version(target, id(target))
        written.last = write
        noted.append(written)
    return Bumped(write, noted)


def bump_again(noted: Bumped) -> None:
    """Record the same write to the same arrays again; cheaper than `bump_versions`."""
    if last_write.write is not noted.write:
        for written in noted.written:
            written.last = noted.write
    noted.write.happens()


def written_in(order: list[Node]) -> bool:
    """Whether an array of a graph was written to since. `order`: its nodes, oldest first."""
    if not order or last_write.time < order[0]._made:
        return False
    oldest = order[0]._made
    recent = {key for key, written in _versions.copy().items() if written.last.time > oldest}
    return any(
        id(target) in recent
        for node in order
        for x in (node, *(node._inputs or ()))
        for target in _memory(x)
    )


def _memory(x: Any) -> tuple[Any, ...]:
    """The keys under which a write to a node's array, or to a plain array, is recorded."""
    if isinstance(x, Node):
        return x, owner(x._data)
    return (owner(x),) if isinstance(x, ndarray) else ()


def write_since(x: Any, time: int) -> WriteEvent | None:
    """The write to a node's array, or to a plain array, after `time`; None if there was none."""
    for target in _memory(x):
        written = _versions.get(id(target))
        if written is not None and written.last.time > time:
            return written.last
    return None


def _interface_address(array: ndarray) -> int:
    place: int = array.__array_interface__["data"][0]
    return place


def _address_function() -> Callable[[ndarray], int]:
    """`address`: read from the array object, ten times as fast as from its interface.

    NumPy's ABI fixes the pointer to the data as the first field behind CPython's object head.
    Where it is not found there, the interface gives it.
    """
    if sys.implementation.name != "cpython":
        return _interface_address
    try:
        from ctypes import c_void_p
    except ImportError:  # a Python without libffi
        return _interface_address
    pointer_at, head = c_void_p.from_address, object.__basicsize__

    def address(array: ndarray) -> int:
        """Memory address of the first element."""
        if not isinstance(array, ndarray):
            return _interface_address(array)
        return pointer_at(id(array) + head).value or 0

    samples: list[ndarray] = [np.zeros(3), np.zeros((2, 3), np.int8)[1:, ::-1]]
    agree = all(address(x) == _interface_address(x) for x in samples)
    return address if agree else _interface_address


address = _address_function()


def owner(array: ndarray) -> ndarray:
    """The array that holds the memory of a view."""
    *_, memory = _bases(array)
    return memory


def _bases(array: Any) -> Iterator[ndarray]:
    """An array and its bases (`as_strided` puts another object between them)."""
    while array is not None:
        if isinstance(array, ndarray):
            yield array
        array = getattr(array, "base", None)


def _unreadable(*_: Any, **__: Any) -> Any:
    raise TypeError(
        "backward: expected the saved array, got an overwritten one. Write to a .clone()"
    )


class Overwritten:
    """Placeholder of a saved array that was overwritten: it has a shape, but no values."""

    __slots__ = ("dtype", "ndim", "shape", "size")
    __array_ufunc__ = None
    __array__ = __bool__ = _unreadable
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _unreadable

    def __init__(self, array: ndarray) -> None:
        self.shape, self.ndim = array.shape, array.ndim
        self.dtype, self.size = array.dtype, array.size
