"""Reverse-mode differentiation: one walk over the recorded graph, with PyTorch's interface."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import nullcontext, suppress
from contextvars import Context, copy_context
from functools import partial
from operator import attrgetter
from typing import Any, Protocol

import numpy as np
from numpy import ndarray

from tinygrad_kr.arrays.operands import as_array
from tinygrad_kr.grad_mode import enable_grad, no_grad, recorded_if, recorded_in_rule
from tinygrad_kr.ops.anomaly import AnomalyError, has_nan
from tinygrad_kr.ops.indexing import getitem, index_add, is_basic
from tinygrad_kr.ops.kernels import keep_freed_memory
from tinygrad_kr.ops.linalg import column_sums
from tinygrad_kr.ops.node import (
    OFF,
    Node,
    constant,
    current_mode,
    is_anomaly_on,
    replace_gradient,
    source_line_of,
    tick,
)
from tinygrad_kr.ops.op import FLOAT16, widened
from tinygrad_kr.ops.shape import broadcast_to
from tinygrad_kr.ops.tracing import tracers, tracing
from tinygrad_kr.ops.writes import Overwritten, last_change, write_since, written_in
from tinygrad_kr.tensor import Tensor

before_backward: list[Callable[[Tensor], None]] = []
"""What `backward` calls with its output first: observers, such as a Monitor."""


class Exchange(Protocol):
    """What replaces the gradients of a backward pass before they are stored.

    `tk.distributed` averages them over processes so. `begins` is called before the walk with the
    leaves of the graph, then `propose`. `complete` is called as soon as the gradient of a leaf is
    known, so that its transfer overlaps with the rest of the walk. `gather` and `finish` are called
    after the walk. A recorded backward pass calls `begins` and `replace` alone.
    """

    def begins(self, leaves: Collection[Node]) -> bool:
        """Whether it takes part in a backward pass that reaches these leaves."""

    def propose(self) -> None:
        """The walk begins."""

    def complete(self, leaf: Node, g: Any) -> None:
        """The walk has found the gradient of a leaf."""

    def gather(self, gradients: dict[Node, Any]) -> None:
        """The walk has ended: take over what `complete` has not told."""

    def finish(self, gradients: dict[Node, Any]) -> dict[Node, Any]:
        """The whole new `.grad` of its leaves, as arrays. They may lie in those of `gradients`."""

    def abandon(self) -> None:
        """The walk has raised."""

    def replace(self) -> None:
        """Replace the `.grad` of its leaves by ops on Tensors, which are recorded."""


exchanges: list[Exchange] = []
"""Those that take part in `backward`, in the order in which they were made."""

# ------------------------------------------------------------------ gradients of few rows


class RowGradient(Tensor):
    """The gradient of a table of which few rows were read: these rows and their values.

    `F.embedding(sparse=True)` gives it to a leaf. It is read as any Tensor; then the whole array is
    made, once, and it is read-only. Sums of such gradients, products with a number, `detach()`,
    `clone()` and `zero_()` keep the rows; other results are dense.
    `optim.SGD`, `Adagrad` and `SparseAdam` update the rows that it names.

    rows: (n,) integers in [0, len(table)); one may be named twice. values: (n, ...). shape: the
    table's. Writing to it raises RuntimeError. Source: PyTorch's sparse gradients.

    >>> table = tk.tensor([[1.0], [2.0], [3.0]], requires_grad=True)
    >>> F.embedding(np.array([2, 0, 2]), table, sparse=True).sum().backward()
    >>> table.grad.is_sparse, table.grad
    (True, Tensor([[1.],
            [0.],
            [2.]]))
    >>> table.grad.coalesce().indices(), table.grad.coalesce().values().ravel()
    (array([[0, 2]]), array([1., 2.], dtype=float32))
    """

    __slots__ = ("_dense", "_row_values", "_rows", "_table")

    def __init__(self, rows: ndarray, values: ndarray, shape: tuple[int, ...]) -> None:
        self._rows, self._row_values, self._table = rows, values, tuple(shape)
        self._dense: ndarray | None = None
        self._grad = self._hooks = self._op = None
        self._requires_grad = False

    @property
    def _data(self) -> ndarray:  # type: ignore[override]
        """The whole array, which is read-only."""
        if self._dense is None:
            dense: ndarray = index_add.forward(self._row_values, key=self._rows, shape=self._table)
            dense.flags.writeable = False
            self._dense = dense
        return self._dense

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the table."""
        return self._table

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        return self._row_values.dtype

    @property
    def is_sparse(self) -> bool:
        """True."""
        return True

    def to_dense(self) -> Tensor:
        """The gradient as a Tensor of the table's shape."""
        dense: Tensor = constant(self._data.copy())
        return dense

    def indices(self) -> ndarray:
        """The rows, as PyTorch has them: (1, n)."""
        return self._rows[None]

    def values(self) -> ndarray:
        """The values of the rows, (n, ...)."""
        return self._row_values

    def summed(self) -> tuple[ndarray, ndarray]:
        """The rows, each once, and the sums of their values."""
        rows, each = self._rows, np.arange(len(self._rows))
        number = np.empty(self._table[0], np.intp)  # read where it was written alone
        number[rows] = each
        chosen = rows[number[rows] == each]
        if len(chosen) == len(rows):
            return rows, self._row_values
        number[chosen] = each[: len(chosen)]
        shape = (len(chosen), *self._table[1:])
        values: ndarray = index_add.forward(self._row_values, key=number[rows], shape=shape)
        return chosen, values

    def coalesce(self) -> RowGradient:
        """The same with each row once, in order."""
        rows, values = self.summed()
        order = np.argsort(rows)
        return RowGradient(rows[order], values[order], self._table)

    def mapped(self, change: Callable[[ndarray], Any]) -> RowGradient:
        """`change`, which keeps 0, of the sums of the values."""
        rows, values = self.summed()
        return RowGradient(rows, np.asarray(change(values), values.dtype), self._table)

    def detach(self) -> RowGradient:
        """Itself: no gradient flows through it."""
        return self

    def clone(self) -> RowGradient:
        """A copy."""
        return RowGradient(self._rows.copy(), self._row_values.copy(), self._table)

    def owned(self) -> RowGradient:
        """Itself, or a copy where the values may be a part of another array."""
        return self if self._row_values.base is None else self.clone()

    def __deepcopy__(self, memo: dict[int, Any]) -> RowGradient:
        return self.clone()

    def __reduce__(self) -> Any:
        return RowGradient, (self._rows, self._row_values, self._table)

    def __add__(self, other: Any) -> Any:  # type: ignore[override]
        if type(other) is not RowGradient or other._table != self._table:
            return super().__add__(other)
        rows = np.concatenate([self._rows, other._rows])
        both = RowGradient(rows, np.concatenate([self._row_values, other._row_values]), self._table)
        return both.coalesce() if len(rows) > self._table[0] else both

    def __mul__(self, other: Any) -> Any:  # type: ignore[override]
        factor = other._data if isinstance(other, Node) else other
        if np.ndim(factor) or (isinstance(other, Node) and other._requires_grad) or tracing():
            return super().__mul__(other)
        values = np.asarray(self._row_values * factor, self.dtype)
        return RowGradient(self._rows, values, self._table)

    __rmul__ = __mul__

    def _overwrite(self, key: Any, value: Any, what: str) -> None:
        if key is not ... or isinstance(value, Node) or np.ndim(value) or value != 0:
            raise RuntimeError(
                f"{what}: expected a dense gradient to write to, got a sparse one. Set .grad to a "
                "new one, such as 0.5 * .grad or .grad.to_dense()"
            )
        self._rows, self._row_values, self._dense = self._rows[:0], self._row_values[:0], None


# ------------------------------------------------------------------ the graph


class Freed:
    """What a walk knows of the nodes that it freed: which depended on which.

    edges: pairs (node, input), a node by its time, a leaf by its identity; None until the walk
        ends. earlier: those of inputs that another walk had freed.
    """

    edges: list[tuple[int, Any]] | None = None
    earlier: Sequence[Freed] = ()

    def may_lead(self, node: Node, x: Node) -> bool:
        """Whether a freed node depends on `x`; True if that is not known."""
        wanted = _key_of(x)
        inputs: dict[int, list[Any]] = {}
        walks = [self]
        for walk in walks:  # grows during the loop
            if walk.edges is None:
                return True
            for output, key in walk.edges:
                inputs.setdefault(output, []).append(key)
            walks.extend(earlier for earlier in walk.earlier if earlier not in walks)
        met = {node._made}
        reached: list[Any] = [node._made]
        for key in reached:  # grows during the loop
            if key == wanted and key != node._made:
                return True
            further = [k for k in inputs.get(key, ()) if k not in met]
            met.update(further)
            reached.extend(further)
        return False


def _key_of(x: Node) -> Any:
    """What stands for a node among edges, and keeps nothing alive."""
    return identity_of(x) if x._op is None else x._made


def identity_of(leaf: Node) -> object:
    """An object that belongs to one leaf and does not keep it alive."""
    identity: object = getattr(leaf, "_identity", None)
    if identity is None:
        leaf._identity = identity = object()
    return identity


def topological_order(
    outputs: Iterable[Node],
    stop: Collection[Node] = (),
    wanted: Collection[Node] | None = None,
    leaves: list[Node] | None = None,
) -> list[Node]:
    """Every recorded op that `outputs` depend on, in order of execution.

    stop: nodes to treat as leaves.
    wanted: a node whose graph was freed is a leaf if it depends on none of these.
    leaves: a list to which the leaves that require grad are added, each perhaps several times.
    Raises RuntimeError where a graph was freed by an earlier backward.
    """
    seen = set(stop)
    order = [node for node in outputs if node._op is not None and node not in seen]
    seen.update(order)
    freed: list[Node] = []
    leaves = [] if leaves is None else leaves
    for node in order:  # grows during the loop
        inputs = node._inputs
        if inputs is None:
            if wanted is None or any(node._values.may_lead(node, x) for x in wanted):  # type: ignore[attr-defined]
                raise _freed(node)
            freed.append(node)
            continue
        for x in inputs:
            if isinstance(x, Node):
                if x._op is None:
                    if x._requires_grad:
                        leaves.append(x)
                elif x not in seen:
                    seen.add(x)
                    order.append(x)
    if freed:
        leaves += freed
        order = sorted(set(order).difference(freed), key=_when_made)
    order.sort(key=_when_made)
    return order


_when_made = attrgetter("_made")


class Completions:
    """When the gradient of each leaf is complete during a walk: once its oldest reader is done.

    report: called with the leaf and its gradient. Leaves with hooks, whose gradients change at the
        end of the walk, and those that the oldest op reads are left to the end.
    """

    def __init__(self, order: list[Node], report: Callable[[Node, Any], None]) -> None:
        self._report = report
        self._leaves: dict[Node, list[Node]] = {}
        seen: set[Node] = set()
        older: Node | None = None
        for node in order:  # oldest first
            for x in node._inputs or ():
                if isinstance(x, Node) and x._op is None and x._requires_grad and x not in seen:
                    seen.add(x)
                    if older is not None and not x._hooks:
                        self._leaves.setdefault(older, []).append(x)
            older = node

    def before(self, node: Node, grads: dict[Node, Any]) -> None:
        """The walk comes to `node`: all younger ones are done."""
        for leaf in self._leaves.pop(node, ()):
            if leaf in grads:
                self._report(leaf, grads[leaf])


Graph = tuple[list[Node], list[Node]]
"""The recorded ops in order of execution, and the leaves that require grad."""


def graph_of(
    outputs: Iterable[Node],
    stop: Collection[Node] = (),
    wanted: Collection[Node] | None = (),
) -> Graph:
    """The graph behind `outputs`; arguments as of `topological_order`."""
    leaves: list[Node] = []
    return topological_order(outputs, stop, wanted, leaves), leaves


def _freed(node: Node) -> RuntimeError:
    return RuntimeError(
        f"backward: expected the graph through {node._op.__name__}, recorded at "
        f"{source_line_of(node)}, got one freed by an earlier backward. Compute the loss again in "
        "each step, or pass retain_graph=True to the earlier backward"
    )


def _has_freed(leaves: list[Node]) -> bool:
    """Whether some are results of ops, whose graph was freed."""
    for x in leaves:  # noqa: SIM110 (any() costs three times as much)
        if x._op is not None:
            return True
    return False


def _edges(order: list[Node]) -> list[tuple[int, Any]]:
    """The pairs (node, input) of a whole graph."""
    return [
        (node._made, identity_of(x) if x._op is None else x._made)
        for node in order
        for x in node._inputs or ()
        if isinstance(x, Node) and x._requires_grad
    ]


def _leading_to(wanted: set[Node], order: list[Node]) -> set[Node]:
    """The nodes through which a gradient must flow to reach `wanted`."""
    needed = set(wanted)
    for node in order:
        for x in node._inputs or ():  # any() costs twice as much
            if isinstance(x, Node) and x in needed:
                needed.add(node)
                break
    return needed


# ------------------------------------------------------------------ the walk


MIN_SUMMED_IN_PLACE = 2**12
"""Threshold: a cotangent to which another is added in place, if nothing else refers to it."""
MANY_WALKS = 16
"""Threshold: eager walks after which freed memory is kept for the next. A trace makes fewer."""
_first_walks: list[Callable[[], Any]] = [keep_freed_memory] + [bool] * (MANY_WALKS - 1)
"""What the first walks call, the last item first."""


def _note_walk() -> None:
    with suppress(IndexError):  # another thread has taken the last
        _first_walks.pop()()


def walk(
    cotangents: dict[Node, Any],
    wanted: set[Node] | None = None,
    *,
    create_graph: bool = False,
    retain_graph: bool = False,
    stop: Collection[Node] = (),
    graph: Graph | None = None,
    completions: Completions | None = None,
) -> dict[Node, Any]:
    """Propagate the cotangents of outputs back to the leaves (or to `wanted`), not beyond `stop`.

    Each node is reached once, newest first, when its cotangent is complete. The cotangents of
    float16 arrays are carried in float32 until the walk ends. With `create_graph` the
    rules receive Tensors, so their results are recorded; otherwise they receive arrays.

    Returns the cotangent of every node it ends at. For a leaf it is an array that nothing else
    refers to, with `create_graph` a Tensor. Without `wanted` those of `retain_grad` are included;
    with it they are added to `.grad` at the end.

    graph: what `graph_of` gave, which this uses up. completions: told of each node before it.
    NumPy does not warn where a derivative is infinite or undefined; in hooks it does.
    """
    if tracers and not create_graph and tracing():
        return _walk_on_tensors(cotangents, wanted, retain_graph, stop, graph)
    if _first_walks and not create_graph:
        _note_walk()
    outside = copy_context()
    return _walk(cotangents, wanted, create_graph, retain_graph, stop, graph, outside, completions)


@np.errstate(all="ignore")
def _walk(
    cotangents: dict[Node, Any],
    wanted: set[Node] | None,
    create_graph: bool,
    retain_graph: bool,
    stop: Collection[Node],
    graph: Graph | None,
    outside: Context,
    completions: Completions | None,
) -> dict[Node, Any]:
    if graph is None or _has_freed(graph[1]):
        graph = graph_of(cotangents, stop, wanted)
    order, leaves = graph
    needed = wanted
    if wanted is not None:  # every node leads to them if they are all the leaves
        needed = None if not stop and wanted.issuperset(leaves) else _leading_to(wanted, order)
    anomaly = is_anomaly_on()
    careful = anomaly or written_in(order)
    freed = Freed()
    known = None if needed is None or retain_graph else _edges(order)
    if known is not None:
        freed.earlier = [x._values for x in leaves if x._op is not None]  # type: ignore[misc]
    edges: list[tuple[int, Any]] = []
    note = edges.append
    grads = dict(cotangents)
    take, find = grads.pop, grads.get
    ends: dict[Node, Any] = {}
    owned: set[int] = set()
    mixed = False
    retained = ends if wanted is None else {}
    inner = None if wanted is None else {x for x in wanted if x._op is not None}
    while order:
        node = order.pop()
        if completions is not None:
            completions.before(node, grads)
        g = take(node, None)
        if g is None:
            continue
        y: Any = node._data
        if node._hooks:
            g = _in_dtype(g, y.dtype)
            g = outside.run(_call_hooks, node, g, create_graph, retained)
        if inner and node in inner:
            ends[node] = _in_dtype(g, y.dtype)
        record, inputs, params, values = node._op, node._inputs, node._params, node._values
        if inputs is None:  # freed by another thread meanwhile
            raise _freed(node)
        given: Sequence[Any] = values
        if create_graph:
            y, given = node, inputs
        if node._data.dtype is FLOAT16:
            mixed = True
            g, y, given = widened(g), widened(y), [widened(value) for value in given]
        rules = record.rules
        if careful or record.shared:
            rules, given = _special_rules(node, given, needed, careful)
        elif record is getitem and not create_graph and is_basic(params["key"]):
            rules = ()
            note((node._made, _key_of(inputs[0])))
            if needed is None or inputs[0] in needed:
                _add_at(inputs[0], params["key"], g, grads, owned)
        for rule, x, value in zip(rules, inputs, values):  # noqa: B905
            if not isinstance(x, Node) or not x._requires_grad:
                continue
            if rule is None or (needed is not None and x not in needed):
                continue
            gx = None
            try:
                gx = rule(g, y, *given, **params) if params else rule(g, y, *given)
                if create_graph and isinstance(gx, Node):  # without the properties of Tensors
                    shape, dtype = gx._data.shape, gx._data.dtype
                else:
                    shape, dtype = gx.shape, gx.dtype
                if shape != value.shape:
                    gx = unbroadcast(gx, value.shape)
                if dtype is not value.dtype:
                    gx = _carried(gx, value.dtype)
                    mixed = True
            except Exception as error:
                gx = _rescued(node, x, gx, error)
                if gx is None:
                    raise
            before = find(x)
            if x._op is not None:
                note((node._made, x._made))
            else:
                note((node._made, getattr(x, "_identity", None) or identity_of(x)))
                if before is None and not create_graph and _is_shared(gx, g, y, values):
                    gx = gx if type(gx) is RowGradient else np.array(gx)
            if before is not None:
                if anomaly:
                    _refuse_nan_of_sum(x, before, gx, node)
                large = type(gx) is ndarray is type(before) and gx.size >= MIN_SUMMED_IN_PLACE
                if large and not create_graph and not _is_shared(gx, g, y, values):
                    gx += before
                else:
                    gx = before + gx
            grads[x] = gx
        if not retain_graph:
            node._inputs, node._values = None, freed  # type: ignore[assignment]
    freed.edges = edges if known is None else known
    if mixed:
        for leaf, g in grads.items():
            grads[leaf] = _in_dtype(g, leaf._data.dtype)
    for leaf, g in grads.items():
        if leaf._hooks:
            grads[leaf] = outside.run(_call_hooks, leaf, g, create_graph, retained)
    for leaf in cotangents:
        if leaf in grads and not create_graph:
            grads[leaf] = np.array(grads[leaf])
    if wanted is not None and retained:
        _accumulate(retained)
    return ends | grads if ends else grads


def _walk_on_tensors(
    cotangents: dict[Node, Any],
    wanted: set[Node] | None,
    retain: bool,
    stop: Collection[Node],
    graph: Graph | None,
) -> dict[Node, Any]:
    """The walk under a tracer, which sees Tensors only: returns Tensors."""
    with no_grad():
        starts = {node: _as_tensor(g) for node, g in cotangents.items()}
        ends = walk(starts, wanted, create_graph=True, retain_graph=retain, stop=stop, graph=graph)
        return {node: _as_tensor(ends.pop(node)).clone() for node in [*ends]}


def _as_tensor(g: Any) -> Any:
    """A rule may give an array that depends on nothing."""
    return g if isinstance(g, Node) else constant(np.asarray(g))


def _refuse_nan_of_sum(x: Node, before: Any, gx: Any, node: Node) -> None:
    """AnomalyError if the sum of two cotangents of `x`, the second from `node`, makes a NaN."""
    before, gx = (value._data if isinstance(value, Node) else value for value in (before, gx))
    if _is_new_nan(before + gx, before, gx):
        of = "an input" if x._op is None else "the output"
        made = node if x._op is None else x
        raise AnomalyError(
            f"backward: expected numbers as the sum of the cotangents of {of} of "
            f"{made._op.__name__}, recorded at {source_line_of(made)}, got a NaN in "
            f"{x._data.dtype}{x._data.shape}."
        )


def _add_at(x: Node, key: Any, g: Any, grads: dict[Node, Any], owned: set[int]) -> None:
    """Add the cotangent of `x[key]` to that of `x` in place, for a `key` that repeats no element.

    An array of x's size for each of n slices would make a loop over them cost n squared.
    owned: the ids of nodes whose cotangent nothing else refers to.
    """
    total = grads.get(x)
    if total is None:
        dtype = x._data.dtype
        grads[x] = total = np.zeros(x._data.shape, _FLOAT32 if dtype is FLOAT16 else dtype)
        total[key] = g
    else:
        if id(x) not in owned or type(total) is not ndarray:
            grads[x] = total = np.array(total)
        total[key] += g
    owned.add(id(x))


def _in_dtype(gx: Any, dtype: np.dtype[Any]) -> Any:
    return gx if gx.dtype == dtype else gx.astype(dtype)


def _carried(gx: Any, dtype: np.dtype[Any]) -> Any:
    """A cotangent of an array of this dtype, as the walk carries it."""
    return _in_dtype(gx, _FLOAT32 if dtype == FLOAT16 else dtype)


_FLOAT32 = np.dtype(np.float32)


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """A cotangent in its input's shape: summed over broadcast axes, expanded if constant."""
    if not g.ndim:
        return broadcast_to(g, shape=shape)
    extra = g.ndim - len(shape)
    if type(g) is ndarray and g.ndim == 2 and extra == 1:  # of rows: a bias, most often
        g, extra = column_sums(g), 0
    if extra > 0:
        g = g.sum(axis=0) if extra == 1 else g.sum(axis=tuple(range(extra)))
        extra = 0
    if not extra and g.shape != shape:
        axes = tuple(i for i, n in enumerate(shape) if n == 1 != g.shape[i])
        if axes:
            g = g.sum(axis=axes, keepdims=True)
    return g if g.shape == shape else broadcast_to(g, shape=shape)


def _is_shared(gx: Any, g: Any, y: Any, values: Sequence[Any]) -> bool:
    """Whether the result of a rule may share memory: with `g`, the output or an input."""
    if gx is g or gx is y or type(gx) is not ndarray or gx.base is not None:
        return True
    for value in values:  # noqa: SIM110 (any() costs three times as much)
        if gx is value:
            return True
    return False


def _special_rules(
    node: Node, values: Sequence[Any], needed: set[Node] | None, careful: bool
) -> tuple[list[Callable[..., Any]], Sequence[Any]]:
    """One rule per input of an op with shared or checked rules, and their input values.

    The values are empty where one call has computed all cotangents.
    """
    record, inputs = node._op, node._inputs or ()
    rules = list(record.rules)
    if record.variadic:
        rules = [partial(rules[0], index=i) for i in range(len(inputs))]
    elif record.one_rule_for_all:
        needs = tuple(  # of a list: a generator takes twice as long
            [
                isinstance(x, Node) and x._requires_grad and (needed is None or x in needed)
                for x in inputs
            ]
        )
        rules = _split(rules[0], needs, values)
        if not careful:
            return rules, ()
    if careful:
        rules = [rule and partial(_careful, node, i, rule) for i, rule in enumerate(rules)]
    return rules, values


def _split(
    joint: Callable[..., Any], needs: tuple[bool, ...], values: Sequence[Any]
) -> list[Callable[..., Any]]:
    """A rule that returns the cotangents of all inputs, as one rule per input; it runs once."""
    found: list[Any] = []

    def rule(g: Any, y: Any, *seen: Any, index: int, **params: Any) -> Any:
        if not found:
            found.extend(joint(g, y, *(seen or values), needs=needs, **params))
            met = set()
            for i, gx in enumerate(found):
                if isinstance(gx, ndarray) and id(gx) in met:
                    found[i] = gx.copy()
                met.add(id(gx))
        gx = found[index]
        return np.zeros(values[index].shape, values[index].dtype) if gx is None else gx

    return [partial(rule, index=i) for i in range(len(needs))]


class MutationError(RuntimeError):
    """An array that backward needs was overwritten after the forward pass.

    The message names the op, the write, and the lines of both. A subclass of RuntimeError.

    >>> x = tk.tensor([1.0], requires_grad=True)
    >>> y = (x * x).sum()
    >>> with tk.no_grad():
    ...     x[0] = 5.0
    >>> y.backward()
    Traceback (most recent call last):
        ...
    tinygrad_kr.autodiff.MutationError: ...
    """


def _careful(node: Node, i: int, rule: Any, g: Any, y: Any, *values: Any, **params: Any) -> Any:
    """Apply a rule after a write to its arrays, or in anomaly mode.

    An overwritten array is replaced by a stand-in that knows only its shape. A rule that reads its
    values would give a wrong gradient, so that raises.
    """
    inputs = node._inputs or ()
    write_y = write_since(node, node._made)
    writes = [write_since(x, node._made) for x in inputs]
    write = write_y or next((w for w in writes if w), None)
    if writes[i]:
        _refuse_replaced(node, i, writes[i])
    anomaly = is_anomaly_on()
    if write is None:
        with recorded_in_rule() if anomaly and isinstance(g, Node) else nullcontext():
            gx = rule(g, y, *values, **params)
    else:
        seen = [
            Overwritten(x._data if isinstance(x, Node) else x) if w else v
            for x, w, v in zip(inputs, writes, values, strict=True)
        ]
        try:
            gx = rule(g, Overwritten(node._data) if write_y else y, *seen, **params)
        except Exception as error:
            which = "its output" if write_y else f"its input {writes.index(write)}"
            raise MutationError(
                f"{node._op.__name__}, recorded at {source_line_of(node)}: expected {which} "
                f"unchanged, got it overwritten by {write.what} at {write.source_line}. Call "
                "backward() before that, or write to a .detach().clone()"
            ) from error
    if anomaly:
        _refuse_nan(node, i, gx, g)
        if getattr(gx, "shape", node._values[i].shape) != node._values[i].shape:
            gx = unbroadcast(gx, node._values[i].shape)
            _refuse_nan(node, i, gx, g)
    return gx


def _refuse_replaced(node: Node, i: int, write: Any) -> None:
    """Refuse a gradient for an input that was replaced by an array of another shape or dtype."""
    then, now = node._values[i], node._inputs[i]._data  # type: ignore[index]
    if (then.shape, then.dtype) != (now.shape, now.dtype):
        raise MutationError(
            f"{node._op.__name__}, recorded at {source_line_of(node)}: expected "
            f"{then.dtype}{then.shape}, as it read, got {now.dtype}{now.shape} from {write.what} "
            f"at {write.source_line}."
        )


def _rescued(node: Node, x: Node, gx: Any, error: Exception) -> Any:
    """The cotangent for a rule that returned a plain number; other errors name the forward call.

    Returns None for an error to be raised again: a frame that held it would hold the graph.
    """
    if isinstance(error, MutationError | AnomalyError | Warning):
        return None
    if isinstance(gx, int | float):
        return np.full(x._data.shape, gx, x._data.dtype)
    where = f"in the backward of {node._op.__name__}, recorded at {source_line_of(node)}"
    if hasattr(gx, "shape"):
        raise ValueError(
            f"{where}: expected a cotangent of shape {x._data.shape}, got {gx.shape}."
        ) from error
    if gx is not None or "'NoneType' object has no attribute 'shape'" in str(error):
        raise TypeError(
            f"{where}: expected an array from the rule, got {type(gx).__name__}."
        ) from error
    error.add_note(where)
    return None


def _refuse_nan(node: Node, i: int, gx: Any, g: Any) -> None:
    if _is_new_nan(gx, g):
        after = gx._data if isinstance(gx, Node) else np.asarray(gx)
        raise AnomalyError(
            f"backward of {node._op.__name__}, recorded at {source_line_of(node)}: expected "
            f"numbers for input {i}, {after.dtype}{after.shape}, got a NaN."
        )


def _is_new_nan(after: Any, *before: Any) -> bool:
    """Whether there is a NaN in `after`, and none in what it was computed from."""
    arrays = [value._data if isinstance(value, Node) else value for value in (after, *before)]
    return has_nan(arrays[0]) and not any(map(has_nan, arrays[1:]))


def _call_hooks(node: Node, g: Any, create_graph: bool, retained: dict[Node, Any]) -> Any:
    """The cotangent after the hooks of a node. With `retain_grad` a copy goes to `retained`."""
    hooks = dict(node._hooks or {})
    keep = hooks.pop(_KEEP, None)
    for hook in hooks.values():
        given = hook(g if isinstance(g, Node) else constant(np.array(g)))
        if given is not None:
            given = given if isinstance(given, Tensor) else Tensor(as_array(given))
            if given.shape != node._data.shape:
                shape = node._data.shape
                raise ValueError(f"hook: expected a gradient of shape {shape}, got {given.shape}.")
            if type(given) is RowGradient:
                g = given
                continue
            given = given.to(node._data.dtype)
            g = given if create_graph else np.array(given._data)
    if keep is not None:
        retained[node] = g if isinstance(g, Node) else np.array(g)
    return g


# ------------------------------------------------------------------ PyTorch's interface


def backward(
    output: Tensor,
    gradient: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Add d output / d leaf to `.grad` of every leaf that requires grad.

    output: a Tensor, most often a loss of one element.
    gradient: the cotangent of `output`, of its shape; default 1 for a single element.
    retain_graph: keep the graph for another backward (default: `create_graph`).
    create_graph: record the backward pass, so that gradients can be differentiated. `.grad` then
        holds the graph, and the graph holds the leaf. Set `.grad = None` when done, or use
        `autograd.grad`, which makes no such cycle.

    Raises RuntimeError if nothing requires grad, or the graph was freed; ValueError for a gradient
    of another shape; MutationError if a needed array was overwritten. On an error no `.grad`
    changes.

    >>> w = tk.tensor([1.0, 2.0], requires_grad=True)
    >>> tk.autograd.backward((w * w).sum())
    >>> w.grad
    Tensor([2., 4.])
    """
    start = _start(output, gradient, create_graph)
    for observe in before_backward.copy() if before_backward else ():
        observe(output)
    retain_graph = create_graph if retain_graph is None else retain_graph
    if exchanges:
        graph = graph_of([output], wanted=None)
        taking_part = [one for one in exchanges.copy() if one.begins(graph[1])]
        if taking_part:
            _backward_exchanged(output, start, retain_graph, create_graph, graph, taking_part)
            return
    if create_graph:
        with enable_grad():
            _accumulate_sums(walk({output: start}, create_graph=True, retain_graph=retain_graph))
        return
    ends = walk({output: start}, retain_graph=retain_graph)
    if tracers and (tracer := tracing()):
        for leaf, g in ends.items():
            tracer.add_gradient(leaf, g)
        return
    _accumulate(ends)


def _backward_exchanged(
    output: Tensor,
    start: Any,
    retain_graph: bool,
    create_graph: bool,
    graph: Graph,
    taking_part: list[Exchange],
) -> None:
    """`backward` whose gradients are exchanged before they are stored.

    A traced walk, and one that is recorded, store them first; ops then replace them.
    """
    tracer = tracing()
    if tracer is not None or create_graph:
        with enable_grad() if create_graph else nullcontext():
            ends = walk(
                {output: start}, create_graph=create_graph, retain_graph=retain_graph, graph=graph
            )
            if tracer is None:
                _accumulate_sums(ends)
            else:
                for leaf, g in ends.items():
                    tracer.add_gradient(leaf, g)
            for one in taking_part:
                one.replace()
        return

    def complete(leaf: Node, g: Any) -> None:
        for one in taking_part:
            one.complete(leaf, g)

    totals: dict[Node, Any] = {}
    try:
        for one in taking_part:
            one.propose()
        completions = Completions(graph[0], complete)
        ends = walk(
            {output: start}, retain_graph=retain_graph, graph=graph, completions=completions
        )
        for one in taking_part:  # a leaf may be one of several exchanges
            one.gather(ends)
        for one in taking_part:
            totals |= one.finish(ends)
    except BaseException:
        for one in taking_part:
            one.abandon()
        raise
    for leaf, total in totals.items():
        ends.pop(leaf, None)
        replace_gradient(leaf, leaf._grad, total if isinstance(total, Node) else constant(total))
    _accumulate(ends)


def _accumulate(gradients: dict[Node, Any]) -> None:
    """Add to the `.grad` of several nodes, all or none, while other threads may do the same.

    Every sum is computed before the first is stored. A sum is stored only where `.grad` is still
    the one it was computed from; otherwise it is computed again from the new one.
    """
    for node in gradients:
        if node._grad is not None:
            _accumulate_sums(gradients)
            return
    for node, g in gradients.items():
        after = constant(g) if type(g) is ndarray else _sum(None, g)
        node._grad = after if (stored := node._grad is None) else node._grad  # replace_gradient
        if not stored:
            _accumulate_sums({node: g})


@np.errstate(all="ignore")
def _accumulate_sums(gradients: dict[Node, Any]) -> None:
    befores = [node._grad for node in gradients]
    afters = list(map(_sum, befores, gradients.values()))
    for node, before, after in zip(gradients, befores, afters, strict=True):
        while not replace_gradient(node, before, after):
            before = node._grad
            after = _sum(before, gradients[node])


def _sum(before: Any, g: Any) -> Any:
    """The Tensor of a gradient plus `g`, or of `g` alone if there is none."""
    if type(g) is RowGradient and before is None:
        return g.owned()
    if isinstance(g, Node):
        return g.clone() if before is None else before + g  # type: ignore[attr-defined]
    if before is not None:
        total = before._data + g
        if is_anomaly_on() and _is_new_nan(total, before, g):
            raise AnomalyError(
                f"backward: expected numbers as the sum of `.grad` and the new gradient, got a NaN "
                f"in {total.dtype}{total.shape}."
            )
        g = total
    return constant(g if type(g) is ndarray else np.asarray(g))


def _start(output: Any, gradient: Any, create_graph: bool) -> Any:
    if not isinstance(output, Tensor):
        raise TypeError(f"backward: expected a Tensor, got {type(output).__name__}.")
    if not output._requires_grad:
        raise RuntimeError(
            "backward: expected a Tensor that requires grad, got one that does not. No input had "
            "requires_grad=True, or it was computed under no_grad() or from .detach()"
        )
    if gradient is None:
        data = output._data
        if data.size != 1:
            raise RuntimeError(
                f"backward: expected `gradient=` of shape {output.shape}, got none; only a single "
                "element has the default 1. Did you mean .sum() or .mean()?"
            )
        if create_graph or data.ndim:
            start = np.ones(data.shape, data.dtype)
            return constant(start) if create_graph else start
        return data.dtype.type(1)
    if not isinstance(gradient, Node):
        gradient = Tensor(as_array(gradient))
    if gradient._data.shape != output.shape:
        raise ValueError(
            f"backward: expected a gradient of shape {output.shape}, got {gradient._data.shape}."
        )
    if gradient._data.dtype != output.dtype:
        gradient = gradient.astype(output.dtype)
    return gradient if create_graph else gradient._data


def retain_grad(tensor: Tensor) -> None:
    """Also add the gradient of a computed Tensor, after its hooks, to its `.grad`.

    Does nothing for a leaf. Raises RuntimeError for a Tensor that does not require grad.

    >>> x = tk.tensor([3.0], requires_grad=True)
    >>> y = x * x
    >>> y.retain_grad()
    >>> (2 * y).sum().backward()
    >>> y.grad
    Tensor([2.])
    """
    if not tensor._requires_grad:
        raise RuntimeError("retain_grad: expected a Tensor that requires grad, got one without.")
    if tensor._op is None or (tensor._hooks and _KEEP in tensor._hooks):
        return

    _hooks_of(tensor)[_KEEP] = _keep


_KEEP = 0
"""The key of `retain_grad` among the hooks; the user's hooks have times from 1 as keys."""


def _keep(_: Any) -> None:
    """Placeholder for `retain_grad`: the walk itself keeps the cotangent."""


def _hooks_of(tensor: Tensor) -> dict[int, Any]:
    if tensor._hooks is None:
        tensor._hooks = {}
    return tensor._hooks


class HookHandle:
    """Removes a hook: `handle.remove()`.

    >>> x = tk.tensor([3.0], requires_grad=True)
    >>> handle = x.register_hook(lambda gradient: 2 * gradient)
    >>> handle.remove()
    """

    def __init__(self, hooks: dict[int, Any], key: int) -> None:
        self._hooks, self._key = hooks, key

    def remove(self) -> None:
        """Remove the hook; a second call does nothing."""
        self._hooks.pop(self._key, None)
        last_change.time = tick()


def register_hook(tensor: Tensor, hook: Callable[[Tensor], Any]) -> HookHandle:
    """Call `hook(gradient)` when the gradient of `tensor` is complete.

    hook: may return a replacement of the same shape. Returns a handle that removes the hook.
    Raises RuntimeError for a Tensor that does not require grad.

    >>> x = tk.tensor([3.0], requires_grad=True)
    >>> handle = x.register_hook(lambda gradient: 10 * gradient)
    >>> x.sum().backward()
    >>> x.grad
    Tensor([10.])
    """
    if not tensor._requires_grad:
        raise RuntimeError("register_hook: expected a Tensor that requires grad, got one without.")
    hooks = _hooks_of(tensor)
    key = tick()
    hooks[key] = hook
    if tensor._op is None:
        last_change.time = key
    return HookHandle(hooks, key)


Tensor.backward = backward  # type: ignore[method-assign, assignment]
Tensor.retain_grad = retain_grad  # type: ignore[method-assign, assignment]
Tensor.register_hook = register_hook  # type: ignore[method-assign, assignment]


def gradients(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of `outputs` with respect to `inputs`, without touching `.grad`.

    outputs, inputs: Tensors, or tuples of Tensors.
    grad_outputs: the cotangents of the outputs; default 1 for single elements.
    retain_graph, create_graph: as in `backward`.
    allow_unused: return None for an input that the outputs do not depend on, rather than raise.
    materialize_grads: return zeros for it.

    Returns a tuple with one gradient per input. Raises RuntimeError for an input that does not
    require grad or is unused, or if the graph was freed; ValueError for cotangents that do not fit.

    >>> x = tk.tensor([1.0, 2.0], requires_grad=True)
    >>> tk.autograd.grad((x**3).sum(), x)
    (Tensor([ 3., 12.]),)
    """
    outputs = _as_tuple(outputs)
    inputs = _as_tuple(inputs)
    grad_outputs = (None,) * len(outputs) if grad_outputs is None else _as_tuple(grad_outputs)
    if len(grad_outputs) != len(outputs):
        raise ValueError(
            f"autograd.grad: expected {len(outputs)} grad_outputs, got {len(grad_outputs)}."
        )
    for i, x in enumerate(inputs):
        if not (isinstance(x, Tensor) and x._requires_grad):
            raise RuntimeError(
                f"autograd.grad: expected input {i} to require grad, got one without."
            )
    with recorded_if(create_graph or current_mode() != OFF):
        starts: dict[Node, Any] = {}
        for output, gradient in zip(outputs, grad_outputs, strict=True):
            start = _start(output, gradient, create_graph)
            starts[output] = starts[output] + start if output in starts else start
        ends = walk(
            starts,
            set(inputs),
            create_graph=create_graph,
            retain_graph=create_graph if retain_graph is None else retain_graph,
        )
    if tracer := tracing():
        for g in ends.values():
            tracer.gives_tensor(g)
    return tuple(
        _end(ends.get(x), i, x, allow_unused, materialize_grads) for i, x in enumerate(inputs)
    )


def _end(g: Any, i: int, x: Tensor, allow_unused: bool, zeros: bool) -> Any:
    if type(g) is RowGradient:
        return g.owned()
    if g is not None:
        return g if isinstance(g, Node) else constant(np.array(g, copy=True))
    if zeros:
        return constant(np.zeros(x.shape, x.dtype))
    if allow_unused:
        return None
    raise RuntimeError(
        f"autograd.grad: expected outputs that depend on input {i} of shape {x.shape}, got none. "
        "Pass materialize_grads=True for zeros or allow_unused=True for None"
    )


def _as_tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, tuple | list) else (x,)
