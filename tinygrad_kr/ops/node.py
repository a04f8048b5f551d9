"""What an operation leaves behind: an array, how it was made, and whether it was overwritten."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from itertools import count
from threading import get_ident
from types import CodeType, FrameType
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

OFF, ON, ANOMALY, CAPTURE = 0, 1, 2, 3
grad_mode: ContextVar[int] = ContextVar("grad_mode", default=ON)
tick = count(1).__next__
"""The one clock: it orders operations and writes in time."""

recorders: dict[int, Any] = {}
"""By thread, what `compile` has record every op while it runs a function for the first times."""


def recorder() -> Any:
    """What records the ops of this thread, or None."""
    return recorders.get(get_ident()) if recorders else None


# Spelled as the import system spells `co_filename`, not as the absolute path: both may have "..".
_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_NUMPY = os.path.dirname(np.__file__) + os.sep


class Node:
    """An array and how it was made; `Tensor` is this with methods.

    `_op`, `_inputs`, `_values` (the inputs' arrays) and `_params` are what a recorded node was
    computed by (`_op` is None for a leaf, `_inputs` for a node whose graph was freed), `_made`
    when, `_code` and `_instruction` where.
    """

    __slots__ = (
        "__weakref__",
        "_code",
        "_data",
        "_grad",
        "_hooks",
        "_inputs",
        "_instruction",
        "_made",
        "_op",
        "_params",
        "_requires_grad",
        "_values",
    )
    _data: ndarray
    _grad: Any
    _hooks: dict[int, Callable[[Any], Any]] | None
    _requires_grad: bool
    _op: Any
    _inputs: tuple[Any, ...] | None
    _values: Sequence[Any]
    _params: dict[str, Any]
    _made: int
    _code: CodeType
    _instruction: int


def replace_gradient(node: Node, before: Any, after: Any) -> bool:
    """Store `after` as the `.grad` of a node where that is still `before`; whether it was.

    The comparison and the store are one statement without a call or a loop. CPython switches
    threads only at calls and loops. So no lock is needed, which an interrupt could leave held.
    """
    node._grad = after if (stored := node._grad is before) else node._grad
    return stored


class NodeType:
    """The class of every op's results: `Tensor`, once it exists."""

    cls: type[Node] = Node


_new = object.__new__


def constant(array: ndarray) -> Any:
    """A node of `array` (not copied) that requires no gradient."""
    out = _new(NodeType.cls)
    out._data = array
    out._grad = out._hooks = out._op = None
    out._requires_grad = False
    if recorders:
        note_created(out)
    return out


def note_created(node: Node) -> None:
    """Tell what records this thread that a Tensor without a history was made."""
    recording = recorder()
    if recording is not None:
        recording.created(node)


class _PassedOver(dict[str, bool]):
    """Whether the place of an op is looked for above a frame of this source file.

    It is for files of this package, but for layers: above them it is several frames to the user's
    line, each of which costs more than a small op's arithmetic.
    """

    def __missing__(self, filename: str) -> bool:
        layer = filename.startswith(f"{_PACKAGE}nn{os.sep}")
        self[filename] = passed_over = filename.startswith(_PACKAGE) and not layer
        return passed_over


passed_over = _PassedOver()


def place_made(node: Node) -> str:
    """Where in the source the node was recorded, as `file:line (function)`."""
    place = _place(node._code, node._instruction)
    if node._code.co_filename.startswith(_PACKAGE):
        return f"{place} (`with tk.detect_anomaly():` names your own line)"
    return place


def user_frame() -> FrameType | None:
    """The innermost running frame outside this package and NumPy, whose decorators we use."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not frame.f_code.co_filename.startswith((_PACKAGE, _NUMPY)):
            return frame
        frame = frame.f_back
    return None


def _place(code: CodeType, instruction: int) -> str:
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= instruction < end and number is not None:
            line = number
    return f"{code.co_filename}:{line} (in {code.co_name})"


# ------------------------------------------------------------------ overwritten arrays


class Write:
    """An in-place write: when, by what, from where."""

    __slots__ = ("_frame", "time", "what")

    def __init__(self, what: str) -> None:
        self.what = what
        self.happens()

    def happens(self) -> None:
        """It is now that the arrays are overwritten."""
        last_write.time = self.time = tick()
        last_write.write = self
        frame = user_frame()
        self._frame = None if frame is None else (frame.f_code, frame.f_lasti)

    @property
    def place(self) -> str:
        """Where in the user's source, as `file:line (function)`."""
        return "an unknown place" if self._frame is None else _place(*self._frame)


class Written:
    """The last write to one array, for as long as the array lives."""

    __slots__ = ("last", "reference")
    last: Write

    def __init__(self, target: Any, key: int) -> None:
        self.reference = weakref.ref(target, lambda _: _written.pop(key, None))


_written: dict[int, Written] = {}


class _LastWrite:
    """When anything was last overwritten: older than a graph, nothing in it can have changed;
    when any Tensor last became one that a result must not be: with another array by `.data = ...`,
    another `requires_grad`, a `.grad` of its own; and `read`, another object whenever somebody
    reads a `.grad`, which he may then hold."""

    __slots__ = ("read", "rebound", "time", "write")

    def __init__(self) -> None:
        self.time = self.rebound = 0
        self.read = object()
        self.write: Write | None = None


last_write = _LastWrite()


class LastChange:
    """When an attribute or hook of a module, or a leaf's `requires_grad`, last became another."""

    time = 0


class Noted(NamedTuple):
    """A write and the arrays it was to."""

    write: Write
    written: list[Written]


def note_writes(targets: Iterable[Node], what: str, rebound: bool = False) -> Noted:
    """Remember that the arrays of `targets` were just overwritten by `what`.

    rebound: their `.data` was replaced by another array; the old array did not change.
    Returns what `note_again` takes, while the targets keep these arrays.
    """
    write = Write(what)
    if rebound:
        last_write.rebound = write.time
    noted = []
    for node in targets:
        target = node if rebound else owner(node._data)
        written = _written.get(id(target))
        if written is None:
            _written[id(target)] = written = Written(target, id(target))
        written.last = write
        noted.append(written)
    return Noted(write, noted)


def note_again(noted: Noted) -> None:
    """The same write to the same arrays once more, at a fraction of the cost of `note_writes`."""
    if last_write.write is not noted.write:
        for written in noted.written:
            written.last = noted.write
    noted.write.happens()


def written_in(order: list[Node]) -> bool:
    """Whether anything that a graph (its nodes, oldest first) reads was written to since."""
    if not order or last_write.time < order[0]._made:
        return False
    oldest = order[0]._made
    recent = {key for key, written in list(_written.items()) if written.last.time > oldest}
    return any(
        id(target) in recent
        for node in order
        for x in (node, *(node._inputs or ()))
        for target in _memory(x)
    )


def _memory(x: Any) -> tuple[Any, ...]:
    """What a write to the array of a node, or to a plain array, is noted under."""
    if isinstance(x, Node):
        return x, owner(x._data)
    return (owner(x),) if isinstance(x, ndarray) else ()


def written_since(x: Any, time: int) -> Write | None:
    """The write that changed a node's array, or a plain array, after `time`, if there was one."""
    for target in _memory(x):
        written = _written.get(id(target))
        if written is not None and written.last.time > time:
            return written.last
    return None


def address(array: ndarray) -> int:
    """Where the first element is in memory."""
    place: int = array.__array_interface__["data"][0]
    return place


def owner(array: ndarray) -> ndarray:
    """The array that holds the memory of a view."""
    *_, memory = _bases(array)
    return memory


def _bases(array: Any) -> Iterator[ndarray]:
    """An array and those it is a view of (`as_strided` puts another object between them)."""
    while array is not None:
        if isinstance(array, ndarray):
            yield array
        array = getattr(array, "base", None)


def _unreadable(*_: Any, **__: Any) -> Any:
    raise TypeError("the values of an overwritten array are gone")


class Overwritten:
    """Stands in for a saved array that has changed: its shape may still be read, its values not."""

    __slots__ = ("dtype", "ndim", "shape", "size")
    __array_ufunc__ = None
    __array__ = __bool__ = _unreadable
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _unreadable

    def __init__(self, array: ndarray) -> None:
        self.shape, self.ndim = array.shape, array.ndim
        self.dtype, self.size = array.dtype, array.size


# ------------------------------------------------------------------ anomaly mode


class AnomalyError(FloatingPointError):
    """A NaN appeared while `detect_anomaly()` was on."""


def inspect(node: Node, mode: int) -> None:
    """Look closely at a new node.

    In anomaly mode: find the user's line, refuse a new NaN, lock what backward will read.
    """
    if mode == CAPTURE:
        recorders[get_ident()].note(node._op, node._inputs, node._params, node)
        return
    frame = user_frame()
    if frame is not None:
        node._code, node._instruction = frame.f_code, frame.f_lasti
    arrays = [x._data if isinstance(x, Node) else x for x in node._inputs or ()]
    if has_nan(node._data) and not any(has_nan(array) for array in arrays):
        raise AnomalyError(
            f"{node._op.__name__} made a NaN from inputs without one, "
            f"{shapes_of(node._inputs or ())}, at {place_made(node)}"
        )
    node._inputs = LockedInputs(node._inputs or (), (*arrays, node._data))


def has_nan(array: Any) -> bool:
    """Whether a float array (or number) holds a NaN."""
    array = np.asarray(array)
    return array.dtype.kind == "f" and bool(np.isnan(array).any())


def shapes_of(inputs: Iterable[Any]) -> str:
    """The shapes and dtypes of an op's inputs, for messages."""
    return ", ".join(
        f"{x.dtype}{tuple(x.shape)}" if hasattr(x, "shape") else f"{type(x).__name__} {x!r:.40}"
        for x in inputs
    )


class _Family:
    """Arrays that share memory, and how many recorded nodes still need them unchanged."""

    def __init__(self, memory: ndarray) -> None:
        self.memory = memory
        self.arrays: list[ndarray] = []
        self.holders = 0

    def unlock(self) -> None:
        """The owner of the memory first: a view cannot be writeable before its base."""
        for array in sorted(self.arrays, key=lambda array: len(list(_bases(array)))):
            array.flags.writeable = True


_families: dict[int, _Family] = {}


class LockedInputs(tuple[Any, ...]):
    """The inputs of a node, whose arrays stay read-only for as long as this tuple lives."""

    keys: set[int]

    def __new__(cls, inputs: Iterable[Any], arrays: Iterable[Any]) -> LockedInputs:
        self = super().__new__(cls, inputs)
        self.keys = set()
        for array in arrays:
            if isinstance(array, ndarray):
                _lock(array, self.keys)
        return self

    def __del__(self) -> None:
        for key in self.keys:
            family = _families[key]
            family.holders -= 1
            if not family.holders:
                del _families[key]
                family.unlock()


def _lock(array: ndarray, keys: set[int]) -> None:
    memory = owner(array)
    family = _families.setdefault(id(memory), _Family(memory))
    if id(memory) not in keys:
        keys.add(id(memory))
        family.holders += 1
    for view in _bases(array):
        if view.flags.writeable:
            family.arrays.append(view)
            view.flags.writeable = False
