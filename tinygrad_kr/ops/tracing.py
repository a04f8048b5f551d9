"""The contract between the engine and the compiler.

`tk.compile` runs a function once under a `Tracer`, which records a program. `tracing()` is the
tracer of this thread. The engine reports to it everything besides calls of ops. It uses nothing
else of the compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

if TYPE_CHECKING:
    from tinygrad_kr.ops.node import Node


class Tracer(Protocol):
    """The reports of the engine to the compiler while a function is traced.

    keeps_tensors: the function's derivatives are Tensors, also where it was given arrays.
    composes: it wants the ops that a whole loss is made of, for files that have no such loss.
    expands: it wants ops that generated code knows, not one op that has their formula in NumPy.
    """

    keeps_tensors: bool
    composes: bool
    expands: bool

    def created(self, node: Any) -> None:
        """A Tensor without a history was made."""

    def note(self, record: Any, inputs: Sequence[Any], params: dict[str, Any], out: Node) -> None:
        """An op computed `out` from `inputs`."""

    def read(self, x: Any) -> Any:
        """An array's elements become a constant of the program, as those of an index."""

    def check(self, function: Callable[..., Any], array: Any, *rest: Any) -> None:
        """Each replay calls `function(array, *rest)` too, which raises for bad values."""

    def about_to_draw(self, generator: Any) -> None:
        """Random numbers will be drawn from a generator."""

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

    def copied(self, node: Node, data: Node) -> None:
        """`node` was made of the elements of `data` without an op, by `Tensor(data)` for one."""

    def gives_tensor(self, node: Node) -> None:
        """A function gives a Tensor whatever it was given: `autograd.grad` does."""

    def step(self, optimizer: Any) -> None:
        """An optimizer updates its parameters."""

    def refuse(self, what: str) -> NoReturn:
        """Stop: a value is needed that is not known while tracing. The function runs eagerly."""

    def remark(self, what: str) -> None:
        """What `explain()` says of a program that is compiled."""

    def give_up(self, what: str) -> None:
        """From here on the trace would be incomplete: the function is not compiled."""


class Fixed:
    """Base class of objects that a compiled function may use: a program need not compare them.

    They are this package's own, and their ops look at their state when the program runs.
    """


current_tracer: ContextVar[Tracer | None] = ContextVar("current_tracer", default=None)
"""The tracer of this context: set in a context of its own, so that no interrupt leaves it set."""
tracers: dict[int, Tracer] = {}
"""Tracers by thread. Fast path: while it is empty, `tracing()` returns None at once."""


def tracing() -> Tracer | None:
    """The tracer of this thread, or None."""
    if not tracers:
        return None
    thread, mine = get_ident(), current_tracer.get()
    if mine is None:
        tracers.pop(thread, None)  # left there by an interrupt
    return mine if tracers.get(thread) is mine else None


def is_expanding() -> bool:
    """Whether what is traced in this thread shall consist of ops that generated code knows."""
    tracer = tracing()
    return tracer is not None and tracer.expands
