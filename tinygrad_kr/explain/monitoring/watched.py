"""A step that a Monitor watches, and the function of a compiled step on copies."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from functools import update_wrapper
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from tinygrad_kr import tree
from tinygrad_kr.compile.function import Compiled
from tinygrad_kr.compile.trace.reads import reads_of
from tinygrad_kr.explain.monitoring.copies import State
from tinygrad_kr.explain.monitoring.observing import nothing
from tinygrad_kr.explain.monitoring.verdicts import UNKNOWN, MonitorWarning, number
from tinygrad_kr.language import Text
from tinygrad_kr.nn.module import Module
from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.optim.lr_scheduler import LRScheduler
from tinygrad_kr.optim.optimizer import Optimizer
from tinygrad_kr.random import default_generator
from tinygrad_kr.tensor import Tensor

if TYPE_CHECKING:
    from tinygrad_kr.explain.monitoring.monitor import Monitor

MOST_KEPT, MOST_CALLS = 1 << 20, 2000
"""Limits: arguments of compiled calls that are kept to find a NaN, in bytes, and such calls. More
memory would be new memory, which takes longer to write than a step's own."""

MOST_OWNERS = 32
"""Limit: arrays that are remembered, so that their rows are kept without counting."""


class Watched:
    """A step that a Monitor watches. What else the step has, such as `explain()`, it has too."""

    def __init__(self, monitor: Monitor, step: Callable[..., Any]) -> None:
        self._monitor, self._step = monitor, step
        self._copies = Copies(monitor, step) if isinstance(step, Compiled) else None
        update_wrapper(self, step, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        monitor = self._monitor
        if tracing() is not None:
            return self._step(*args, **kwargs)
        if not monitor.steps:
            monitor._pace.begin()
        if self._copies is None or self._copies.runs_as_written():
            with monitor.attached(armed=monitor._is_due()):
                result = self._step(*args, **kwargs)
        else:
            self._copies.before(args, kwargs)
            result = self._step(*args, **kwargs)
            self._copies.after(result, args, kwargs)
        monitor._end_step()
        return result

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_step" not in vars(self):
            raise AttributeError(name)
        return getattr(self._step, name)


class Copies:
    """Runs the function of a compiled step on copies of what it reads.

    The copies of the latest look are kept, with the arguments of the calls since then. So if the
    loss is not finite, these calls are run again, until the op is found. Where they are too large
    to be kept, the last call alone is run again, on the copies of that look. Batches that are views
    of one array, such as `x[i : i + 512]`, take no memory.
    """

    def __init__(self, monitor: Monitor, step: Compiled) -> None:
        self._monitor, self._step = monitor, step
        self._things: list[Any] | None = None
        self._runner: Any = None
        self._state: State | None = None
        self._since: list[Any] | None = []
        """The arguments of the calls since the latest look; None where they are too many."""
        self._kept = 0
        self._owners: dict[int, weakref.ref[ndarray]] = {}
        """The arrays in whose memory the latest arguments were, by their id."""
        self._failed = False
        """Whether the function cannot run on copies: then it is not looked at."""

    def runs_as_written(self) -> bool:
        """Whether the step is not compiled: then its calls themselves are looked at."""
        if self._step.last_runner is not None:
            return False
        reasons = [one.reason for one in self._step._specialisations()]
        reasons += [one.reason for one in self._step._signatures.values()]
        return bool(self._step._eager) or any(reasons)

    def before(self, args: Any, kwargs: Any) -> None:
        """A call begins: look at it if it is time, on copies; keep its arguments."""
        monitor, start = self._monitor, perf_counter()
        replays = self._step.last_runner is not None
        if self._failed:
            return
        if replays and (monitor._is_due() or not monitor._taken):
            self._look(args, kwargs)
            monitor._seconds = perf_counter() - start
            return
        if self._state is None:
            self._state = self._copied()
            monitor.spent += perf_counter() - start
        if self._since is not None:
            self._kept += sum(map(self._new_bytes, _leaves((*args, *kwargs.values()))))
            self._since.append((args, kwargs))
            calls = len(self._since)
            if (calls > 1 and self._kept > MOST_KEPT) or calls > MOST_CALLS:
                self._since = None

    def _new_bytes(self, leaf: Any) -> int:
        """The bytes that it takes to keep an argument: none for rows of an array known already."""
        array = leaf._data if isinstance(leaf, Node) else leaf
        if not isinstance(array, ndarray):
            return 0
        owner = array
        while isinstance(owner.base, ndarray):
            owner = owner.base
        known = self._owners.get(id(owner))
        if known is not None and known() is owner:
            return 0
        if len(self._owners) > MOST_OWNERS:
            self._owners.clear()
        self._owners[id(owner)] = weakref.ref(owner)
        return array.nbytes

    def _copied(self) -> State | None:
        """Copies of all that the step can change; None if that is not known."""
        runner = self._step.last_runner
        if self._things is None or runner is not self._runner:
            walk = reads_of([self._step.function])
            if walk.reason is not None:
                return None
            monitor = self._monitor
            found = [x for x in walk._seen.values() if isinstance(x, _CHANGEABLE)]
            owners = [x for x in (*found, monitor.model) if isinstance(x, Module)]
            modules = [m for x in owners for m in x.modules()]
            tensors = [t for m in modules for t in (*m.parameters(False), *m.buffers())]
            optimizers = [x for x in (*found, monitor.optimizer) if isinstance(x, Optimizer)]
            tensors += [p for one in optimizers for p in one._parameters()]
            self._things = [*found, *modules, *tensors, *optimizers, default_generator()]
            self._runner = runner
        return State(self._things)

    def _look(self, args: Any, kwargs: Any) -> None:
        self._state, self._since, self._kept = self._copied(), [], 0
        if self._state is None:
            self._failed = True
            return
        monitor = self._monitor
        with self._state.in_force(), monitor.attached(armed=True):
            g = monitor._probe._grad
            monitor._stepped_gradient = nothing if g is None else weakref.ref(g)
            self._run(args, kwargs)

    def _run(self, args: Any, kwargs: Any) -> None:
        """The function as written, on copies of the arguments. Its errors are the step's own."""
        try:
            with np.errstate(all="ignore"):
                copies = tree.tree_map(_copy_of, (args, kwargs))
                self._step.function(*copies[0], **copies[1])
        except MonitorWarning:
            raise
        except Exception:
            self._state, self._failed = None, True

    def after(self, result: Any, args: Any, kwargs: Any) -> None:
        """A call has ended: its loss is the first single number that it returned."""
        monitor = self._monitor
        numbers = (x for x in _leaves(result) if _is_number(x))
        monitor._loss = next(map(number, numbers), monitor._loss)
        told = ("nan_or_infinity", "") in monitor._told
        if monitor._loss is None or math.isfinite(monitor._loss) or told:
            return
        loss, cause = monitor._loss, self._cause((args, kwargs))
        monitor._loss = loss
        monitor._tell_nan(None, cause)

    def _cause(self, last: Any) -> Text:
        """Run the calls since the latest look again, on copies, until the loss is not finite."""
        monitor = self._monitor
        monitor._finding, monitor._cause = True, None
        try:
            for args, kwargs in [last] if self._since is None else self._since:
                if self._state is None or monitor._cause:
                    break
                with self._state.in_force(), monitor.attached(armed=False):
                    self._run(args, kwargs)
        finally:
            monitor._finding = False
        return monitor._cause or UNKNOWN


_CHANGEABLE = (Node, Module, Optimizer, LRScheduler, np.random.Generator)


def _copy_of(leaf: Any) -> Any:
    if isinstance(leaf, Node):
        copy = Tensor(leaf._data.copy())
        copy._requires_grad = leaf._requires_grad
        return copy
    return leaf.copy() if isinstance(leaf, ndarray) else leaf


def _leaves(x: Any) -> Any:
    """The leaves of a tree; those of plain Tensors and arrays without a walk."""
    if isinstance(x, _ARRAYS):
        return (x,)
    if type(x) is tuple and all(isinstance(member, _ARRAYS) for member in x):
        return x
    return tree.flatten(x)[0]


_ARRAYS = (Node, ndarray)


def _is_number(leaf: Any) -> bool:
    array = leaf._data if isinstance(leaf, Node) else leaf
    if isinstance(array, ndarray | np.generic):
        return array.size == 1 and array.dtype.kind == "f"
    return isinstance(array, float)
