"""The contract between the engine and the compiler.

`tk.compile` runs a function once under a `Tracer`, which writes a program of what happens. The
engine tells the tracer of this thread, which `tracing()` finds, what it does besides calling ops.
Nothing else of the compiler is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

if TYPE_CHECKING:
    from tinygrad_kr.ops.node import Node


class Tracer(Protocol):
    """What the engine tells the compiler while a function is traced."""

    def created(self, node: Any) -> None:
        """A Tensor without a history was made."""

    def note(self, record: Any, inputs: Sequence[Any], params: dict[str, Any], out: Node) -> None:
        """An op computed `out` from `inputs`."""

    def read(self, x: Any) -> Any:
        """An array's elements become a part of the program, as an index does."""

    def check(self, function: Callable[..., Any], array: Any, *rest: Any) -> None:
        """Each replay is to call `function(array, *rest)` too, which raises for bad values."""

    def about_to_write(self, node: Any) -> None:
        """A Tensor's elements will be overwritten."""

    def written(self, node: Any, key: Any, value: Any, what: str) -> None:
        """`node[key] = value` was done, by the statement `what`."""

    def touch_gradient(self, leaf: Any) -> None:
        """A `.grad` is replaced."""

    def touch_gradients(self, leaves: Iterable[Any], set_to_none: bool) -> None:
        """`zero_grad` resets the `.grad` of each."""

    def read_gradient(self, leaf: Any) -> None:
        """A `.grad` is read."""

    def add_gradient(self, leaf: Any, g: Any) -> None:
        """`backward` adds `g` to a `.grad`."""

    def step(self, optimizer: Any) -> None:
        """An optimizer updates its parameters."""

    def refuse(self, what: str) -> NoReturn:
        """Values are needed that are not known while tracing: the function runs as written."""

    def give_up(self, what: str) -> None:
        """From here on the trace would miss something: the function is not compiled."""


current_tracer: ContextVar[Tracer | None] = ContextVar("current_tracer", default=None)
"""Set in a context of its own while a function is traced, so that no interrupt leaves it set."""
tracers: dict[int, Tracer] = {}
"""The same by thread: while it is empty, no op looks any further."""


def tracing() -> Tracer | None:
    """The tracer of this thread, or None."""
    if not tracers:
        return None
    thread, mine = get_ident(), current_tracer.get()
    if mine is None:
        tracers.pop(thread, None)  # left there by an interrupt
    return mine if tracers.get(thread) is mine else None
