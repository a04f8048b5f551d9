"""What an operation leaves behind: an array, how it was made, and whether it was overwritten."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from itertools import count
from threading import get_ident
from types import CodeType, FrameType
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

OFF, ON, ANOMALY, CAPTURE = 0, 1, 2, 3


class Scope(int):
    """A grad mode in force while its `holder` is alive. Only the `with` block refers to the holder.

    Where an interrupt has ended the block inside `__exit__` itself, so that nothing was reset, the
    holder is gone, and `current_mode()` goes back to the mode outside.
    """

    outer: int
    holder: Callable[[], Any]
    ended: bool
    anomaly: bool
    transforming: bool
    """Whether the block was ended by a reset, so that the mode is in force only in tasks that were
    started in it; whether anomaly detection is on; whether it is for a transformation."""

    def __new__(
        cls,
        mode: int,
        outer: int,
        holder: Callable[[], Any],
        anomaly: bool = False,
        transforming: bool = False,
    ) -> Scope:
        """The flags hold in what is nested too."""
        self = super().__new__(cls, mode)
        self.outer, self.holder, self.ended = outer, holder, False
        self.anomaly = anomaly or getattr(outer, "anomaly", False)
        self.transforming = transforming or getattr(outer, "transforming", False)
        return self


grad_mode: ContextVar[int] = ContextVar("grad_mode", default=ON)


def current_mode() -> int:
    """The mode of this thread and task, without scopes that an interrupt has left behind."""
    mode = grad_mode.get()
    while type(mode) is Scope and mode.holder() is None and not mode.ended:
        mode = mode.outer
        grad_mode.set(mode)
    return mode


tick = count(1).__next__
"""The one clock: it orders operations and writes in time."""

recording: ContextVar[Any] = ContextVar("recording", default=None)
"""The recorder of `compile`, which records every op of a function's first runs. It is set in a
context of its own, so no interrupt leaves it set."""
recorders: dict[int, Any] = {}
"""The same by thread: where there is none at all, no op looks for its own."""


def recorder() -> Any:
    """What records the ops of this thread, or None."""
    if not recorders:
        return None
    thread, mine = get_ident(), recording.get()
    if mine is None:
        recorders.pop(thread, None)  # left there by an interrupt
    return mine if recorders.get(thread) is mine else None


# Spelled as the import system spells `co_filename`, not as the absolute path: both may have "..".
PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
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

    The comparison and the store are one statement without a call or a loop. With the GIL,
    CPython switches threads only at calls and at the ends of loops. So no lock is needed, which
    an interrupt could leave held.
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
        layer = filename.startswith(f"{PACKAGE}nn{os.sep}")
        self[filename] = passed_over = filename.startswith(PACKAGE) and not layer
        return passed_over


passed_over = _PassedOver()


def place_made(node: Node) -> str:
    """Where in the source the node was recorded, as `file:line (function)`."""
    place = _place(node._code, node._instruction)
    if node._code.co_filename.startswith(PACKAGE):
        return f"{place} (`with tk.detect_anomaly():` names your own line)"
    return place


def user_frame() -> FrameType | None:
    """The innermost running frame outside this package and NumPy, whose decorators we use."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not frame.f_code.co_filename.startswith((PACKAGE, _NUMPY)):
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
        self.reference = weakref.ref(target, partial(_written.pop, key))  # no bytecode runs then


_written: dict[int, Written] = {}


class _LastWrite:
    """The last in-place write, and its time: nothing can have changed in a graph made later.

    read: replaced at each reading of a `.grad`, since the caller may keep that Tensor.
    """

    __slots__ = ("read", "time", "write")

    def __init__(self) -> None:
        self.time = 0
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
    recent = {key for key, written in _written.copy().items() if written.last.time > oldest}
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
        recording = recorder()
        if recording is not None:
            recording.note(node._op, node._inputs, node._params, node)
        return
    if current_mode() != ANOMALY:
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


class _Holder:
    """What a recorded node keeps for as long as it needs arrays unchanged."""

    __slots__ = ("__weakref__",)


class _Family:
    """Arrays that share memory, and the recorded nodes that need them unchanged."""

    def __init__(self, memory: ndarray) -> None:
        self.memory = memory
        self.arrays: list[ndarray] = []
        self.holders: dict[int, weakref.ref[_Holder]] = {}

    def is_held(self) -> bool:
        """Whether a node that needs the arrays is alive."""
        return any(reference() is not None for reference in self.holders.copy().values())

    def unlock(self) -> None:
        """The owner of the memory first: a view cannot be writeable before its base."""
        for array in sorted(self.arrays, key=lambda array: len(list(_bases(array)))):
            array.flags.writeable = True


_families: dict[int, _Family] = {}


def are_arrays_locked() -> bool:
    """Whether a recorded node keeps arrays read-only. Arrays that no node needs any more are
    unlocked first; an interrupt may have left them locked."""
    for key, family in _families.copy().items():
        if not family.is_held():
            family.unlock()
            _families.pop(key, None)
    return bool(_families)


class LockedInputs(tuple[Any, ...]):
    """The inputs of a node, whose arrays stay read-only for as long as this tuple lives."""

    keys: set[int] | frozenset[int] = frozenset()
    holder: _Holder | None = None

    def __new__(cls, inputs: Iterable[Any], arrays: Iterable[Any]) -> LockedInputs:
        self = super().__new__(cls, inputs)
        self.holder, self.keys = _Holder(), set()
        for array in arrays:
            if isinstance(array, ndarray):
                _lock(array, self.holder, self.keys)
        return self

    def __del__(self) -> None:
        for key in self.keys:
            family = _families.get(key)
            if family is not None:
                family.holders.pop(id(self.holder), None)
                if not family.holders:
                    family.unlock()
                    _families.pop(key, None)


def _lock(array: ndarray, holder: _Holder, keys: set[int]) -> None:
    memory = owner(array)
    keys.add(id(memory))
    family = _families.setdefault(id(memory), _Family(memory))
    family.holders[id(holder)] = weakref.ref(holder)
    for view in _bases(array):
        if view.flags.writeable:
            family.arrays.append(view)
            view.flags.writeable = False
