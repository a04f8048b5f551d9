"""Grad modes: whether operations are recorded, per thread and per async task."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial, wraps
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar

from tinygrad_kr.ops.node import ANOMALY, CAPTURE, NAMED, OFF, ON, Scope, current_mode, grad_mode
from tinygrad_kr.ops.tracing import tracing

__all__ = [
    "detect_anomaly", "enable_grad", "is_grad_enabled", "name_scope", "no_grad",
    "set_grad_enabled",
]  # fmt: skip


class _Exit:
    """`__exit__` of a mode: a new object for each `with` block, referred to by the block alone.

    It dies with the block, even if a variable holds the mode, or a traceback holds the frame in
    which an interrupt came.
    """

    def __get__(self, mode: Any, owner: Any = None) -> Any:
        if mode is None:
            return owner._leave_latest
        block: list[Any] = []
        leave = partial(mode._leave, block)  # unlike a function of Python, in no frame of its own
        mode._next = get_ident(), weakref.ref(leave), block
        return leave


class _Mode:
    """A context manager and decorator that sets the mode of this thread and async task."""

    anomaly: ClassVar[bool] = False
    transforming: ClassVar[bool] = False
    _next: tuple[int, Callable[[], Any], list[Any]] | None = None
    """The next block: its thread, its liveness test, and the list for its entry."""

    def __new__(cls, *function: Any) -> Any:
        """The mode; or, as a decorator without brackets (`@no_grad`), the function in it."""
        mode = super().__new__(cls)
        if function and callable(function[0]):
            mode.__init__()  # type: ignore[misc]
            return mode(function[0])
        return mode

    def __init__(self) -> None:
        self._entered: list[tuple[Any, Scope]] = []

    def _mode(self) -> int:
        raise NotImplementedError

    def __enter__(self) -> None:
        holder, entries = self._begin()
        scope = self._scope(current_mode(), holder)
        entries.append((grad_mode.set(scope), scope))

    def _begin(self) -> tuple[Callable[[], Any], list[Any]]:
        """The liveness test of the block that begins now, and the list for its entry.

        Outside of a block both are those of the mode itself.
        """
        coming, self._next = self._next, None
        if coming is None or coming[0] != get_ident() or coming[1]() is None:
            return weakref.ref(self), self._entered
        return coming[1], coming[2]

    def _scope(self, outer: int, holder: Callable[[], Any]) -> Scope:
        return Scope(self._mode(), outer, holder, self.anomaly, self.transforming)

    def _leave(self, block: list[Any], *exception: Any) -> None:
        entries = block or self._entered
        for entry in reversed(entries.copy()):
            token, scope = entry
            try:
                grad_mode.reset(token)
            except (ValueError, RuntimeError):  # of another thread or task; left before
                continue
            scope.ended = True
            entries.remove(entry)
            return

    def _leave_latest(self, *exception: Any) -> None:
        self._leave([])

    if TYPE_CHECKING:

        def __exit__(self, *exception: Any) -> None: ...

    else:
        __exit__ = _Exit()

    def _again(self) -> _Mode:
        return type(self)()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import inspect  # as slow as a quarter of the package

        if inspect.isgeneratorfunction(function):

            @wraps(function)
            def generator(*args: Any, **kwargs: Any) -> Any:
                return _stepwise(function(*args, **kwargs), self._again)

            return generator
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def coroutine(*args: Any, **kwargs: Any) -> Any:
                with self._again():
                    return await function(*args, **kwargs)

            return coroutine

        @wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return wrapped


def _stepwise(generator: Any, mode: Callable[[], _Mode]) -> Any:
    """Run a generator with the mode set only while it computes, not while it waits."""
    sent: Any = None
    resume = generator.send
    while True:
        try:
            with mode():
                value = resume(sent)
        except StopIteration as stop:
            return stop.value
        try:
            sent = yield value
            resume = generator.send
        except GeneratorExit:
            with mode():
                generator.close()
            raise
        except BaseException as error:
            sent, resume = error, generator.throw


def recording_mode() -> int:
    """The mode in which ops are recorded: with anomaly detection or tracing where it is on."""
    mode = current_mode()
    if getattr(mode, "anomaly", False):
        return ANOMALY
    if tracing() is not None:
        return CAPTURE
    return NAMED if getattr(mode, "names", ()) else ON


class no_grad(_Mode):
    """Record nothing: results require no gradient. A context manager and a decorator.

    The mode belongs to this thread and async task. Source: torch.no_grad.

    >>> x = tk.tensor([1.0], requires_grad=True)
    >>> with tk.no_grad():
    ...     y = 2 * x
    >>> y
    Tensor([2.])
    """

    def _mode(self) -> int:
        return OFF


class enable_grad(_Mode):
    """Record again, inside `no_grad`. A context manager and a decorator.

    The mode belongs to this thread and async task. Source: torch.enable_grad.

    >>> x = tk.tensor([1.0], requires_grad=True)
    >>> with tk.no_grad(), tk.enable_grad():
    ...     y = 2 * x
    >>> y.requires_grad
    True
    """

    def _mode(self) -> int:
        return recording_mode()


def recorded_if(wanted: bool) -> AbstractContextManager[None]:
    """`enable_grad()` or `no_grad()`, for a block that sets no mode itself; nothing if it is on."""
    if current_mode() == (recording_mode() if wanted else OFF):
        return nullcontext()
    return enable_grad() if wanted else no_grad()


class traced(enable_grad):
    """Record a function for a transformation."""

    transforming = True


class recorded_in_rule(enable_grad):
    """Record the ops of a derivative rule. Anomaly detection looks at its result alone."""

    def _mode(self) -> int:
        return ON


class name_scope(_Mode):
    """Name the part of a computation, for `tk.explain`, `tk.draw` and TensorBoard.

    name: shown with the names of the scopes around it, as "block/layer1". It changes no result.
    A context manager and a decorator.
    The mode belongs to this thread and async task. Source: tf.name_scope.

    >>> x = tk.tensor(2.0, requires_grad=True)
    >>> with tk.name_scope("layer1"):
    ...     y = x * x
    """

    def __new__(cls, name: str) -> Any:
        """The scope of this name."""
        if not isinstance(name, str) or not name:
            raise TypeError(f"name_scope: expected a name, got {name!r:.60}. Pass a string")
        return super().__new__(cls)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def _mode(self) -> int:
        mode = current_mode()
        return NAMED if mode == ON else int(mode)

    def _scope(self, outer: int, holder: Callable[[], Any]) -> Scope:
        return Scope(self._mode(), outer, holder, names=(self.name,))

    def _again(self) -> _Mode:
        mode: _Mode = name_scope(self.name)
        return mode


class set_grad_enabled(_Mode):
    """Record or not, as `mode` says: from this call on, or within a `with` block or a function.

    The mode belongs to this thread and async task. Source: torch.set_grad_enabled.

    >>> with tk.set_grad_enabled(False):
    ...     tk.is_grad_enabled()
    False
    """

    def __init__(self, mode: bool) -> None:
        super().__init__()
        self.mode, self._in_force = mode, True
        self._outer = current_mode()
        scope = self._scope(self._outer, _for_good)
        scope.outer = ON  # never read; the outer mode would make a chain that grows at each call
        self._entered.append((grad_mode.set(scope), scope))

    def __enter__(self) -> None:
        if self._in_force:
            holder, entries = self._begin()
            scope = self._scope(self._outer, holder)
            grad_mode.set(scope)
            entries.append((self._entered.pop()[0], scope))
        else:
            super().__enter__()
        self._in_force = False

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if self._in_force:
            self._in_force = False
            self.__exit__()
        return super().__call__(function)

    def _mode(self) -> int:
        return recording_mode() if self.mode else OFF

    def _again(self) -> _Mode:
        return set_grad_enabled(self.mode)


class detect_anomaly(_Mode):
    """Find a NaN or an overwritten array where it appears, at the cost of speed.

    Raises AnomalyError at the first op that makes a NaN: forward, in `backward`, or in `grad` and
    the other transformations. So does a sum of cotangents that makes one. The message has the op,
    the shapes and the line. Arrays that backward will read are read-only until then, so that a
    write through the ndarray raises ValueError at its own line.
    Ctrl-C while Python frees a graph is printed, not raised: press it again.
    Source: torch.autograd.set_detect_anomaly.

    >>> with tk.detect_anomaly(), np.errstate(invalid="ignore"):
    ...     tk.log(tk.tensor([-1.0], requires_grad=True))
    Traceback (most recent call last):
    ...
    tinygrad_kr.ops.anomaly.AnomalyError: log: expected no new NaN, got one from float32(1,) at ...
    """

    anomaly = True

    def _mode(self) -> int:
        return OFF if current_mode() == OFF else ANOMALY


def is_grad_enabled() -> bool:
    """Whether operations are recorded in this thread and async task.

    Source: torch.is_grad_enabled.

    >>> tk.is_grad_enabled()
    True
    """
    return current_mode() != OFF


def is_transforming() -> bool:
    """Whether ops are recorded on behalf of `grad` or another transformation."""
    mode = current_mode()
    return mode != OFF and getattr(mode, "transforming", False)


def _for_good() -> bool:
    """The holder of a mode that no block ends."""
    return True


def __dir__() -> list[str]:
    return __all__
