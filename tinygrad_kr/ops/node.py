"""The nodes of the graph, the mode in which they are recorded, and their source lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from itertools import count
from types import CodeType, FrameType
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.tracing import tracers, tracing

OFF, ON, ANOMALY, CAPTURE, NAMED = 0, 1, 2, 3, 4


class Scope(int):
    """A grad mode in force while its `holder` is alive. Only the `with` block refers to the holder.

    An interrupt may end the block inside `__exit__`, before the reset. Then the holder is gone, and
    `current_mode()` goes back to the outer mode.

    ended: the block was reset; only tasks started inside it still have the mode.
    anomaly: anomaly detection is on. transforming: a transformation records.
    names: those of the `name_scope` blocks around, the outermost first.
    """

    outer: int
    holder: Callable[[], Any]
    ended: bool
    anomaly: bool
    transforming: bool
    names: tuple[str, ...]

    def __new__(
        cls,
        mode: int,
        outer: int,
        holder: Callable[[], Any],
        anomaly: bool = False,
        transforming: bool = False,
        names: tuple[str, ...] = (),
    ) -> Scope:
        """Nested scopes inherit the flags and the names."""
        self = super().__new__(cls, mode)
        self.outer, self.holder, self.ended = outer, holder, False
        self.anomaly, self.transforming, self.names = anomaly, transforming, names
        if isinstance(outer, Scope):
            self.anomaly, self.transforming = (
                anomaly or outer.anomaly,
                transforming or outer.transforming,
            )
            self.names = outer.names + names
        return self


grad_mode: ContextVar[int] = ContextVar("grad_mode", default=ON)


def current_mode() -> int:
    """The mode of this thread and task; scopes that an interrupt left behind are dropped."""
    mode = grad_mode.get()
    while type(mode) is Scope and mode.holder() is None and not mode.ended:
        mode = mode.outer
        grad_mode.set(mode)
    return mode


def is_anomaly_on() -> bool:
    """Whether anomaly detection is on, also where ops are not recorded."""
    mode = current_mode()
    return isinstance(mode, Scope) and mode.anomaly


tick = count(1).__next__
"""Clock: orders operations and writes in time."""

# As the import system spells `co_filename`, not the absolute path: both may contain "..".
PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_NUMPY = os.path.dirname(np.__file__) + os.sep


class Node:
    """A node of the graph: an array and the op that computed it. `Tensor` adds the methods.

    `_op`, `_inputs`, `_values` (the inputs' arrays) and `_params` are the recorded call. `_op` is
    None for a leaf, `_inputs` for a node whose graph was freed; `_values` then is what the walk
    that freed it knows of its leaves (`autodiff.Freed`). `_made` is the time of the call, `_code`
    and `_instruction` are its source line. `_notes` is what explanations call it (`Notes`); most
    nodes have none. `_call` is, of the result of a module, the innermost call that it ended: the
    module, the time at which the call began (in a Sequential those at which its modules began), and
    the call inside it that it ended too, or None; of another result of an op it is None.
    """

    __slots__ = (
        "__weakref__",
        "_call",
        "_code",
        "_data",
        "_grad",
        "_hooks",
        "_identity",
        "_inputs",
        "_instruction",
        "_made",
        "_notes",
        "_op",
        "_params",
        "_requires_grad",
        "_values",
    )
    _data: ndarray
    _grad: Any
    _hooks: dict[int, Callable[[Any], Any]] | None
    _identity: object
    _requires_grad: bool
    _op: Any
    _inputs: tuple[Any, ...] | None
    _values: Sequence[Any]
    _params: dict[str, Any]
    _made: int
    _call: tuple[Any, int | list[int], Any] | None
    _code: CodeType
    _instruction: int
    _notes: Notes


class Notes:
    """What explanations call a node. Nothing that computes reads it.

    name: given by the user. scope: the names of the `name_scope` blocks in which it was computed.
    """

    __slots__ = ("name", "scope")

    def __init__(self) -> None:
        self.name: str | None = None
        self.scope: tuple[str, ...] = ()


_NO_NOTES = Notes()


def notes_of(node: Node) -> Notes:
    """The notes of a node, to be read."""
    return getattr(node, "_notes", _NO_NOTES)


def own_notes(node: Node) -> Notes:
    """The notes of a node, to be written."""
    notes = getattr(node, "_notes", None)
    if notes is None:
        notes = node._notes = Notes()
    return notes


def replace_gradient(node: Node, before: Any, after: Any) -> bool:
    """Compare and swap: store `after` as the `.grad` of a node if that is still `before`.

    Returns whether it was. The comparison and the store are one statement without a call or a loop.
    With the GIL, CPython switches threads only at calls and at the ends of loops. So this needs no
    lock, which an interrupt could leave held.
    """
    node._grad = after if (stored := node._grad is before) else node._grad
    return stored


class NodeType:
    """Class of the results of ops: `Tensor`, once it is defined."""

    cls: type[Node] = Node


_new = object.__new__


def constant(array: ndarray) -> Any:
    """A node of `array` (not copied) that requires no gradient."""
    out = _new(NodeType.cls)
    out._data = array
    out._grad = out._hooks = out._op = None
    out._requires_grad = False
    if tracers:
        note_created(out)
    return out


def constant_lines(name: str, array: str) -> list[str]:
    """`constant` as lines of a generated function that no tracer sees: a third less time.

    They read `new`, which is `object.__new__`, and `result_type`, which is `NodeType`.
    """
    return [
        f"{name} = new(result_type.cls)",
        f"{name}._data = {array}",
        f"{name}._grad = {name}._hooks = {name}._op = None",
        f"{name}._requires_grad = False",
    ]


def note_created(node: Node) -> None:
    """Report a new Tensor without a history to the tracer."""
    if tracer := tracing():
        tracer.created(node)


class _PassedOver(dict[str, bool]):
    """Whether the search for an op's source line passes over frames of a file.

    It passes over files of NumPy (its `errstate` decorates rules) and of this package, except
    layers. From a layer the user's line is several frames away, and each costs more than the
    arithmetic of a small op.
    """

    def __missing__(self, filename: str) -> bool:
        layer = filename.startswith(f"{PACKAGE}nn{os.sep}")
        self[filename] = passed_over = filename.startswith((PACKAGE, _NUMPY)) and not layer
        return passed_over


passed_over = _PassedOver()


def source_line_of(node: Node) -> str:
    """The source line at which the node was recorded, as `file:line (in function)`."""
    place = _source_line(node._code, node._instruction)
    if node._code.co_filename.startswith(PACKAGE):
        return f"{place} (`with tk.detect_anomaly():` names your own line)"
    return place


def user_frame() -> FrameType | None:
    """The innermost frame outside this package and NumPy (whose decorators are in use here)."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not frame.f_code.co_filename.startswith((PACKAGE, _NUMPY)):
            return frame
        frame = frame.f_back
    return None


def _source_line(code: CodeType, instruction: int) -> str:
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= instruction < end and number is not None:
            line = number
    return f"{code.co_filename}:{line} (in {code.co_name})"
