"""`vmap`: a function of one row as a function of a batch of rows.

The function runs once, on the first row, and its ops are recorded, those of derivatives in it too.
Then each op is done for all rows: `ops/batch_rules.py`. The results have a history like any other,
so the whole is differentiated, nested and compiled. A function that looks at the elements of its
arguments runs for each row instead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from functools import wraps
from threading import get_ident
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy import ndarray

from tinygrad_kr import tree
from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.ops import shape
from tinygrad_kr.ops.batch_rules import (
    Call,
    Rows,
    batched,
    holds_rows,
    node_of,
    plain,
    row,
    rows_in,
)
from tinygrad_kr.ops.elementwise import positive
from tinygrad_kr.ops.node import (
    CAPTURE,
    NAMED,
    ON,
    Node,
    Scope,
    constant,
    current_mode,
    grad_mode,
    is_anomaly_on,
)
from tinygrad_kr.ops.op import astype
from tinygrad_kr.ops.tracing import current_tracer, is_expanding, tracers, tracing
from tinygrad_kr.tensor import Tensor

__all__ = ["vmap"]


def __dir__() -> list[str]:
    return __all__


Function = Callable[..., Any]
_SEQUENCES = (tuple, list)


class Refused(Exception):
    """The function needs the elements of a Tensor."""


class Seen:
    """A Tensor of the recording. detached: without its history."""

    __slots__ = ("detached", "node")

    def __init__(self, node: Node, detached: bool = False) -> None:
        self.node, self.detached = node, detached


class Step(NamedTuple):
    """A recorded op; `Seen` stands for what depends on the recording."""

    record: Any
    inputs: tuple[Any, ...]
    params: dict[str, Any]
    out: Node


class Check(NamedTuple):
    """A check of an array's elements, which raises."""

    function: Callable[..., Any]
    array: Any
    rest: tuple[Any, ...]


class Recorder:
    """The tracer of `vmap` and `scan`: it records the ops of a function on one row."""

    keeps_tensors = True
    composes = False

    def __init__(
        self, rows: Iterable[Node], name: str = "vmap", in_full: bool = False, expands: bool = True
    ) -> None:
        """name: of the transformation. in_full: record histories under `no_grad` too."""
        self.name, self.in_full, self.expands = name, in_full, expands
        self.steps: list[Step | Check] = []
        self.reason: str | None = None
        """Why the recording is not complete; None if it is."""
        self.remarks: dict[str, None] = {}
        self.constants: dict[int, Node] = {}
        """By id, Tensors that the function made without an op on the row."""
        self._known: dict[int, Seen] = {}
        self._by_array: dict[int, Node] = {}
        self._created: dict[int, Node] = {}
        for node in rows:
            self._define(node)

    def run(self, function: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """function(*args, **kwargs), recorded."""
        context = copy_context()  # which ends with the call, whatever interrupts it
        context.run(current_tracer.set, self)
        mode = current_mode()
        if self.in_full or mode in (ON, NAMED):
            context.run(grad_mode.set, Scope(CAPTURE, mode, lambda: True))
        thread = get_ident()
        outer = tracers.get(thread)
        tracers[thread] = self
        try:
            return context.run(function, *args, **kwargs)
        finally:
            if outer is None:
                tracers.pop(thread, None)
            else:
                tracers[thread] = outer

    # -------------------------------------------------------------- values

    def _define(self, node: Node) -> None:
        self._known[id(node)] = Seen(node)
        self._by_array[id(node._data)] = node

    def seen(self, x: Any) -> Any:
        """A Tensor or array of the recording as `Seen`, also in containers; all else as it is."""
        known = self._known.get(id(x))  # which keeps its Tensor alive: no other has the id
        if known is not None:
            return known
        if isinstance(x, Node):
            if id(x) not in self._created:
                return x
            made = self._by_array.get(id(x._data))
            if made is not None:
                return Seen(made, detached=True)
            self.constants[id(x)] = x
            return x
        if isinstance(x, ndarray):
            made = self._by_array.get(id(x))
            return x if made is None else Seen(made, detached=True)
        if isinstance(x, _SEQUENCES) and not hasattr(x, "_fields"):
            return type(x)(map(self.seen, x))
        return x

    # -------------------------------------------------------------- the contract of a tracer

    def created(self, node: Any) -> None:
        """A Tensor was made."""
        self._created[id(node)] = node

    def note(self, record: Any, inputs: Sequence[Any], params: dict[str, Any], out: Node) -> None:
        """An op has computed `out`."""
        seen = self.seen
        if params:
            params = {name: seen(param) for name, param in params.items()}
        self.steps.append(Step(record, tuple([seen(x) for x in inputs]), params, out))
        self._created[id(out)] = out
        self._define(out)

    def copied(self, node: Any, data: Any) -> None:
        """A Tensor was made of another's elements without an op."""
        if node._data is not data._data:
            source = constant(data._data)
            self.note(astype, (source,), {"dtype": node._data.dtype}, node)

    def read(self, x: Any) -> Any:
        """An array's elements are in a parameter, where they are found."""
        return x

    def check(self, function: Callable[..., Any], array: Any, *rest: Any) -> None:
        """The elements of an array were checked; those of all rows will be."""
        self.steps.append(Check(function, self.seen(array), rest))

    def gives_tensor(self, node: Node) -> None:
        """A Tensor in any case, as all of them are here."""

    def refuse(self, what: str) -> NoReturn:
        """The function needs the elements of a Tensor."""
        self.give_up(f"{what} needs the elements of a Tensor")
        raise Refused(what)

    def give_up(self, what: str) -> None:
        """The recording is not complete from here on."""
        self.reason = self.reason or what

    def about_to_draw(self, generator: Any) -> None:
        """Random numbers would be drawn."""
        raise RuntimeError(
            f"{self.name}: expected a function without random numbers, got one that draws some. "
            "Draw them for all rows outside, and pass them as an argument"
        )

    def about_to_write(self, node: Any) -> None:
        """A Tensor's elements would be overwritten."""
        raise RuntimeError(
            f"{self.name}: expected a function that writes to no Tensor, got a write. Make a new "
            "Tensor with tk.where, tk.stack or tk.concatenate"
        )

    def written(self, node: Any, key: Any, value: Any, what: str) -> None:
        """A Tensor was written to, which `about_to_write` refuses."""

    def _refuse_outside(self, node: Any, what: str) -> None:
        if id(node) not in self._created:
            raise RuntimeError(
                f"{self.name}: expected a function without side effects, got {what}. Return the "
                "values instead"
            )

    def touch_gradient(self, leaf: Any) -> None:
        """A `.grad` would be replaced."""
        self._refuse_outside(leaf, "a change of the .grad of a Tensor from outside")

    def touch_gradients(self, leaves: Iterable[Any], set_to_none: bool) -> None:
        """The same for many leaves."""
        for leaf in leaves:
            self.touch_gradient(leaf)

    def read_gradient(self, leaf: Any) -> None:
        """A `.grad` is a Tensor like others."""

    def add_gradient(self, leaf: Any, g: Any) -> None:
        """`backward` adds to a `.grad`."""
        self.touch_gradient(leaf)
        with no_grad():
            leaf._grad = g if leaf._grad is None else leaf._grad + g

    def step(self, optimizer: Any) -> None:
        """An optimizer would update its parameters."""
        self._refuse_outside(None, "a step of an optimizer")

    def remark(self, what: str) -> None:
        """A remark on an inner `vmap`."""
        self.remarks[what] = None


# ------------------------------------------------------------------ all rows


class _Replay:
    """The recorded ops, done for all rows."""

    def __init__(self, n: int, rows: dict[int, Rows]) -> None:
        """rows: for the id of a Tensor of the recording, what it is for all rows."""
        self.n = n
        self.by_rows: dict[str, None] = {}
        """The ops that ran row by row."""
        self._given = frozenset(rows)
        self._found: dict[int, Any] = dict(rows)
        self._uses: defaultdict[int, int] = defaultdict(int)
        """How often each Tensor of the recording will be read."""

    def run(self, steps: Sequence[Step | Check], results: Sequence[Any]) -> list[Any]:
        """Do the steps that the results need, and return these."""
        for result in results:
            self._count(result)
        for step in self._needed(steps):
            if isinstance(step, Check):
                self._check(step)
            else:
                self._found[id(step.out)] = self._result(step)
        return [self.value(result) for result in results]

    def _needed(self, steps: Sequence[Step | Check]) -> list[Step | Check]:
        """The steps on which what is read depends, and the checks with what they read."""
        kept = []
        for step in reversed(steps):
            if isinstance(step, Check):
                self._count(step.array)
            elif id(step.out) in self._uses:
                for x in (*step.inputs, *step.params.values()) if step.params else step.inputs:
                    if type(x) is Seen:
                        self._uses[id(x.node)] += 1
                    else:
                        self._count(x)
            else:
                continue
            kept.append(step)
        return kept[::-1]

    def _count(self, x: Any) -> None:
        """Count the Tensors of the recording in an input or parameter."""
        if type(x) is Seen:
            self._uses[id(x.node)] += 1
        elif isinstance(x, _SEQUENCES):
            for part in x:
                self._count(part)

    def value(self, x: Any) -> Any:
        """For all rows, what the recording saw: Rows, or what is the same for each."""
        if type(x) is Seen:
            key = id(x.node)
            self._uses[key] -= 1
            found = self._found[key] if self._uses[key] else self._found.pop(key)
            return _detached(found) if x.detached else found
        if isinstance(x, _SEQUENCES) and not hasattr(x, "_fields"):
            return type(x)(map(self.value, x))
        return x

    def _result(self, step: Step) -> Any:
        if step.record is positive and self._is_own(step.inputs[0]):
            return self.value(step.inputs[0])
        inputs = tuple([self.value(x) for x in step.inputs])
        params = step.params
        if params:
            params = {name: self.value(param) for name, param in params.items()}
        if not holds_rows(inputs) and not (params and holds_rows(params.values())):
            found = step.record(*inputs, **{key: plain(param) for key, param in params.items()})
            found = node_of(found)
            return found if step.out._requires_grad else _detached(found)
        y, at_once = batched(Call(step.record, inputs, params, self.n, step.out._data))
        if not at_once:
            self.by_rows[step.record.__name__] = None
        found = Rows(y)
        return found if step.out._requires_grad else _detached(found)

    def _is_own(self, x: Any) -> bool:
        """Whether a value is read once alone, and in memory of its own: it needs no copy."""
        if not isinstance(x, Seen) or self._uses[id(x.node)] > 1 or id(x.node) in self._given:
            return False
        found = self._found[id(x.node)]
        node = found.tensor if isinstance(found, Rows) else found
        return isinstance(found, Rows) and node._data.base is None and not node._requires_grad

    def _check(self, check: Check) -> None:
        found = self.value(check.array)
        array = found.tensor if isinstance(found, Rows) else found
        array = array._data if isinstance(array, Node) else array
        if tracer := tracing():
            tracer.check(check.function, array, *check.rest)
        check.function(array, *check.rest)


def _detached(found: Any) -> Any:
    node = found.tensor if isinstance(found, Rows) else found
    if not node._requires_grad:
        return found
    return Rows(constant(node._data)) if isinstance(found, Rows) else constant(node._data)


# ------------------------------------------------------------------ the batch


class _Batch:
    """The arguments of a call of `vmap`: which differ by row, and how many rows there are."""

    def __init__(self, args: Any, kwargs: dict[str, Any], in_axes: Any) -> None:
        axes = tuple(in_axes) if isinstance(in_axes, list) else in_axes
        if isinstance(axes, tuple) and len(axes) != len(args):
            raise ValueError(
                f"vmap: expected in_axes for {len(args)} positional arguments, got {len(axes)}."
            )
        numbers = [*spread(args, axes, "in_axes"), *spread(kwargs, 0, "in_axes")]
        leaves, self._rebuild = tree.flatten((tuple(args), kwargs))
        self.plain = not any(isinstance(leaf, Node) for leaf in leaves)
        self.leaves = [
            _shared(leaf) if axis is None else Rows(_axis_first(leaf, axis))
            for leaf, axis in zip(leaves, numbers, strict=True)
        ]
        sizes = {rows.tensor.shape[0] for rows in rows_in(self.leaves)}
        if len(sizes) != 1:
            found = f"sizes {sorted(sizes)}" if sizes else "no argument that is mapped"
            raise ValueError(f"vmap: expected one size along the mapped axes, got {found}.")
        (self.n,) = sizes

    def given(self, leaves: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments with these leaves."""
        args, kwargs = self._rebuild(leaves)
        return args, kwargs

    def first_row(self) -> tuple[list[Any], dict[int, Rows]]:
        """The leaves for the first row, new Tensors for what is mapped, and that by their ids."""
        leaves, rows = [], {}
        for leaf in self.leaves:
            if isinstance(leaf, Rows):
                data = leaf.tensor._data
                node = constant(data[0, ...] if self.n else np.zeros(data.shape[1:], data.dtype))
                node._requires_grad = leaf.tensor._requires_grad
                rows[id(node)] = leaf
                leaves.append(node)
            else:
                leaves.append(leaf)
        return leaves, rows


def _shared(leaf: Any) -> Any:
    """An argument that is not mapped; an array becomes a Tensor, whose use is recorded."""
    return constant(leaf) if type(leaf) is ndarray and leaf.dtype.kind in "fiub" else leaf


def _axis_first(leaf: Any, axis: int) -> Any:
    x: Any = leaf if isinstance(leaf, Node) else None
    if isinstance(leaf, ndarray | np.generic):
        x = Tensor(leaf)
    if x is None:
        raise TypeError(
            f"vmap: expected arrays to map over, got a {type(leaf).__name__}. Use None in in_axes"
        )
    axes = x._data.ndim
    if not -axes <= axis < axes:
        raise ValueError(
            f"vmap: expected in_axes that the arguments have, got {axis} for the shape {x.shape}. "
            "Use None in in_axes for what is the same for each row"
        )
    return x if axis % axes == 0 else _moved(x, axis % axes, 0)


def _moved(x: Any, source: int, target: int) -> Any:
    order = list(range(x._data.ndim))
    order.insert(target, order.pop(source))
    return shape.transpose(x, axes=tuple(order))


def spread(given: Any, axes: Any, name: str) -> list[int | None]:
    """An axis or None for each leaf of `given`; `axes` is one for all, or nested as `given` is."""
    if axes is None or (isinstance(axes, int | np.integer) and not isinstance(axes, bool)):
        return [None if axes is None else int(axes)] * len(tree.flatten(given)[0])
    if isinstance(axes, dict) and isinstance(given, dict) and axes.keys() == given.keys():
        return [axis for key in given for axis in spread(given[key], axes[key], name)]
    alike = isinstance(axes, tuple | list) and isinstance(given, tuple | list)
    if alike and len(axes) == len(given):
        return [
            axis for part, own in zip(given, axes, strict=True) for axis in spread(part, own, name)
        ]
    raise ValueError(
        f"vmap: expected {name} of ints and None, nested as the values are, got {axes!r:.60} for "
        f"a {type(given).__name__}."
    )


# ------------------------------------------------------------------ vmap


def vmap(f: Function, in_axes: Any = 0, out_axes: Any = 0) -> Function:
    """`f` of one row as a function of a batch of rows, which computes all of them at once.

    vmap(f)(x)[i] = f(x[i])

    f: takes and returns Tensors, arrays and nested tuples, lists and dicts of them.
    in_axes: the axis of each positional argument that counts the rows; None for an argument that
        is the same for each row. One for all, or nested as the arguments are. Keyword arguments
        have the rows on their first axis.
    out_axes: where the rows are in the results; None for a result that is the same for each row.

    The results are arrays where all arguments are, else Tensors. Gradients flow through them. It
    nests with itself and with `grad`, `jacobian`, `jvp` and `tk.compile`.
    `f` is recorded on the first row, and each of its ops is done for all rows. A few ops run row by
    row, which is slower; so does all of an `f` that looks at the elements of its arguments, in an
    `if` for one. `explain()` of a compiled function says so.
    Raises ValueError for axes that the arguments lack or of several sizes, TypeError for arguments
    that are no arrays, RuntimeError where `f` draws random numbers, writes to a Tensor or has side
    effects.
    Source: jax.vmap; randomness="error" of torch.func.vmap.

    >>> w = np.array([1.0, 2.0])
    >>> loss = lambda w, x: (w * x).sum() ** 2
    >>> tk.vmap(tk.grad(loss), in_axes=(None, 0))(w, np.array([[1.0, 0.0], [1.0, 1.0]]))
    array([[2., 0.],
           [6., 6.]])
    """

    @wraps(f)
    def vmapped(*args: Any, **kwargs: Any) -> Any:
        batch = _Batch(args, kwargs, in_axes)
        found, rebuild, said = _all_rows(f, batch)
        if tracer := tracing():
            for remark in said:
                tracer.remark(remark)
        axes = spread(rebuild(found), out_axes, "out_axes")
        as_arrays = batch.plain and not keeps_tensors()
        return rebuild(
            [_outward(x, axis, batch.n, as_arrays) for x, axis in zip(found, axes, strict=True)]
        )

    return vmapped


def keeps_tensors() -> bool:
    """Whether a transformation returns Tensors in any case, inside the function of a `vmap`."""
    return getattr(tracing(), "keeps_tensors", False)


def _all_rows(f: Function, batch: _Batch) -> tuple[list[Any], Any, list[str]]:
    """The leaves of the results, `Rows` or the same for each row; how to nest them; remarks."""
    if is_anomaly_on():
        return _row_by_row(f, batch, "detect_anomaly() is on")
    leaves, rows = batch.first_row()
    recorder = Recorder([leaf for leaf in leaves if id(leaf) in rows], expands=is_expanding())
    args, kwargs = batch.given(leaves)
    try:
        result = recorder.run(f, args, kwargs)
    except Refused:
        return _row_by_row(f, batch, str(recorder.reason))
    if recorder.reason is not None:
        return _row_by_row(f, batch, recorder.reason)
    returned, rebuild = tree.flatten(result)
    seen = [recorder.seen(leaf) for leaf in returned]
    if tracer := tracing():
        for node in recorder.constants.values():
            tracer.created(node)
    replay = _Replay(batch.n, rows)
    found = replay.run(recorder.steps, seen)
    said = [*recorder.remarks, *(f"vmap: {name} runs row by row" for name in replay.by_rows)]
    return found, rebuild, said


def _row_by_row(f: Function, batch: _Batch, reason: str) -> tuple[list[Any], Any, list[str]]:
    """The function called for each row, and its results stacked."""
    if not batch.n:
        raise ValueError(f"vmap: expected at least one row, as the function runs on each: {reason}")
    found = []
    for i in range(batch.n):
        args, kwargs = batch.given([row(leaf, i) for leaf in batch.leaves])
        leaves, rebuild = tree.flatten(f(*args, **kwargs))
        found.append(leaves)
    if len({len(leaves) for leaves in found}) > 1:
        raise ValueError("vmap: expected results of one structure for all rows, got several.")
    stacked = [
        Rows(shape.stack(*map(_tensor, column), axis=0)) for column in zip(*found, strict=True)
    ]
    return stacked, rebuild, [f"vmap: the function runs row by row: {reason}"]


def _tensor(leaf: Any) -> Any:
    if isinstance(leaf, Node):
        return leaf
    if isinstance(leaf, ndarray | np.generic | int | float):
        return Tensor(leaf)
    raise TypeError(f"vmap: expected a function that returns arrays, got a {type(leaf).__name__}.")


def _outward(found: Any, axis: int | None, n: int, as_arrays: bool) -> Any:
    """A result for the caller, with its rows on `axis`."""
    if axis is None:
        if isinstance(found, Rows):
            raise ValueError(
                "vmap: expected a result that is the same for each row where out_axes is None, got "
                "one that differs. Give the axis for its rows"
            )
        y = _tensor(found)
    else:
        y = found.tensor if isinstance(found, Rows) else _tensor(found)
        if not isinstance(found, Rows):
            y = shape.broadcast_to(y, shape=(n, *y._data.shape))
        axes = y._data.ndim
        if not -axes <= axis < axes:
            raise ValueError(
                f"vmap: expected out_axes in [{-axes}, {axes}) for results of {axes - 1} axes, got "
                f"{axis}."
            )
        y = y if axis % axes == 0 else _moved(y, 0, axis % axes)
    if not as_arrays or y._requires_grad:
        return y
    return y._data if y._data.ndim else y._data[()]
