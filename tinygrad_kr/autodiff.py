"""Reverse-mode differentiation: one walk over the recorded graph, with PyTorch's interface."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.arrays.operands import as_array
from tinygrad_kr.grad_mode import enable_grad, no_grad, recorded_if
from tinygrad_kr.ops.anomaly import AnomalyError, has_nan
from tinygrad_kr.ops.indexing import getitem, is_basic
from tinygrad_kr.ops.node import (
    ANOMALY,
    OFF,
    Node,
    constant,
    current_mode,
    place_made,
    replace_gradient,
    tick,
)
from tinygrad_kr.ops.shape import broadcast_to
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.ops.writes import Overwritten, write_since, written_in
from tinygrad_kr.tensor import Tensor

# ------------------------------------------------------------------ the graph


def topological_order(outputs: Iterable[Node], stop: Collection[Node] = ()) -> list[Node]:
    """Every recorded operation that `outputs` were computed by, in the order in which they ran.

    stop: nodes to be taken for leaves.
    Raises RuntimeError where a graph was freed by an earlier backward.
    """
    seen = set(stop)
    order = [node for node in outputs if node._op is not None and node not in seen]
    seen.update(order)
    for node in order:  # which grows as it goes
        inputs = node._inputs
        if inputs is None:
            raise _freed(node)
        for x in inputs:
            if isinstance(x, Node) and x._op is not None and x not in seen:
                seen.add(x)
                order.append(x)
    order.sort(key=_when_made)
    return order


_when_made = attrgetter("_made")


def _freed(node: Node) -> RuntimeError:
    return RuntimeError(
        f"the graph through {node._op.__name__}, recorded at {place_made(node)}, was freed "
        "by an earlier backward: compute the loss again in each step, or pass "
        "retain_graph=True to that backward to walk the same graph twice"
    )


def _leading_to(wanted: set[Node], order: list[Node]) -> set[Node]:
    """The nodes through which a gradient must flow to reach `wanted`."""
    needed = set(wanted)
    for node in order:
        if any(isinstance(x, Node) and x in needed for x in node._inputs or ()):
            needed.add(node)
    return needed


# ------------------------------------------------------------------ the walk


def walk(
    cotangents: dict[Node, Any],
    wanted: set[Node] | None = None,
    *,
    create_graph: bool = False,
    retain_graph: bool = False,
    stop: Collection[Node] = (),
) -> dict[Node, Any]:
    """Carry the cotangents of outputs back to the leaves (or to `wanted`), and not beyond `stop`.

    Each node is reached once, newest first, when its cotangent is complete. With `create_graph`
    the rules see Tensors, so that what they compute is itself recorded; else plain arrays.

    Returns the cotangent of every node it ends at: for a leaf an array that nothing else refers to,
    with `create_graph` a Tensor. Without `wanted` those of `retain_grad` are among them; with it,
    they are added to `.grad` at the end.
    """
    if not create_graph and tracing():
        return _walk_on_tensors(cotangents, wanted, retain_graph, stop)
    order = topological_order(cotangents, stop)
    needed = None if wanted is None else _leading_to(wanted, order)
    careful = current_mode() == ANOMALY or written_in(order)
    grads = dict(cotangents)
    ends: dict[Node, Any] = {}
    owned: set[int] = set()
    retained = ends if wanted is None else {}
    while order:
        node = order.pop()
        g = grads.pop(node, None)
        if g is None:
            continue
        if node._hooks:
            g = _call_hooks(node, g, create_graph, retained)
        if wanted is not None and node in wanted:
            ends[node] = g
        record, inputs, params, values = node._op, node._inputs, node._params, node._values
        if inputs is None:  # by another thread, since `topological_order` looked
            raise _freed(node)
        y: Any = node._data
        if create_graph:
            y, values = node, inputs
        rules, given = record.rules, values
        if careful or record.shared:
            rules, given = _special_rules(node, values, needed, careful)
        elif record is getitem and not create_graph and is_basic(params["key"]):
            rules = ()
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
                if gx.shape != value.shape:
                    gx = unbroadcast(gx, value.shape)
                if gx.dtype is not value.dtype:
                    gx = _in_dtype(gx, value.dtype)
            except Exception as error:
                gx = _rescued(node, x, gx, error)
                if gx is None:
                    raise
            before = grads.get(x)
            if before is not None:
                gx = _added(before, gx)
            elif (
                x._op is None
                and not create_graph
                and (
                    gx is g
                    or type(gx) is not ndarray
                    or gx.base is not None
                    or _is_any_of(gx, y, values)
                )
            ):
                gx = np.array(gx)
            grads[x] = gx
        if not retain_graph:
            node._inputs = node._values = None  # type: ignore[assignment]
    for leaf, g in grads.items():
        if leaf._hooks:
            grads[leaf] = _call_hooks(leaf, g, create_graph, retained)
    for leaf in cotangents:
        if leaf in grads and not create_graph:
            grads[leaf] = np.array(grads[leaf])
    if wanted is not None and retained:
        _accumulate(retained)
    return ends | grads if ends else grads


def _walk_on_tensors(
    cotangents: dict[Node, Any], wanted: set[Node] | None, retain: bool, stop: Collection[Node]
) -> dict[Node, Any]:
    """The walk for a tracer, which sees what is computed with Tensors: it gives Tensors too."""
    with no_grad():
        starts = {
            node: g if isinstance(g, Node) else constant(np.asarray(g))
            for node, g in cotangents.items()
        }
        ends = walk(starts, wanted, create_graph=True, retain_graph=retain, stop=stop)
        return {node: g.clone() for node, g in ends.items()}


@np.errstate(all="ignore")
def _added(a: Any, b: Any) -> Any:
    return a + b


@np.errstate(all="ignore")
def _add_at(x: Node, key: Any, g: Any, grads: dict[Node, Any], owned: set[int]) -> None:
    """Add the cotangent of `x[key]` to that of `x` in place, where `key` names nothing twice.

    An array of x's size for each of n slices would make a loop over them cost n squared.
    owned: the ids of nodes whose cotangent nothing else refers to.
    """
    total = grads.get(x)
    if total is None:
        total = np.zeros(x._data.shape, x._data.dtype)
    elif id(x) not in owned or type(total) is not ndarray:
        total = np.array(total)
    owned.add(id(x))
    total[key] += g
    grads[x] = total


@np.errstate(all="ignore")
def _in_dtype(gx: Any, dtype: np.dtype[Any]) -> Any:
    return gx.astype(dtype)


@np.errstate(all="ignore")
def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """A cotangent in its input's shape: summed over what was broadcast, expanded where constant."""
    if not g.ndim:
        return broadcast_to(g, shape=shape)
    extra = g.ndim - len(shape)
    if extra > 0:
        g = g.sum(axis=0) if extra == 1 else g.sum(axis=tuple(range(extra)))
        extra = 0
    if not extra:
        axes = tuple(i for i, n in enumerate(shape) if n == 1 != g.shape[i])
        if axes:
            g = g.sum(axis=axes, keepdims=True)
    return g if g.shape == shape else broadcast_to(g, shape=shape)


def _is_any_of(gx: Any, y: Any, values: Sequence[Any]) -> bool:
    """Whether a rule's result is the output or an input itself."""
    if gx is y:
        return True
    for value in values:  # noqa: SIM110 (any() costs three times as much)
        if gx is value:
            return True
    return False


def _special_rules(
    node: Node, values: Sequence[Any], needed: set[Node] | None, careful: bool
) -> tuple[list[Callable[..., Any]], Sequence[Any]]:
    """One rule for each input of an op whose rules are shared, or that must be watched; and what
    to give them of the inputs: nothing where one call has done the work for all."""
    record, inputs = node._op, node._inputs or ()
    rules = list(record.rules)
    if record.variadic:
        rules = [partial(rules[0], index=i) for i in range(len(inputs))]
    elif record.one_rule_for_all:
        needs = tuple(
            isinstance(x, Node) and x._requires_grad and (needed is None or x in needed)
            for x in inputs
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
    """A rule that returns every input's cotangent, as one rule for each; it runs once."""
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
    """An array that backward needs was overwritten after the forward pass had saved it."""


def _careful(node: Node, i: int, rule: Any, g: Any, y: Any, *values: Any, **params: Any) -> Any:
    """Apply a rule where something was written after the graph was made, or in anomaly mode.

    What has been overwritten is replaced by a stand-in that only knows its shape: a rule that reads
    more of it would give a wrong gradient, so that is the error.
    """
    inputs = node._inputs or ()
    write_y = write_since(node, node._made)
    writes = [write_since(x, node._made) for x in inputs]
    write = write_y or next((w for w in writes if w), None)
    if writes[i]:
        _refuse_replaced(node, i, writes[i])
    if write is None:
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
                f"{node._op.__name__}, recorded at {place_made(node)}, needs {which} as it was, "
                f"but {write.what} at {write.source_line} has overwritten it. Call backward() "
                "before that, or write to a .detach().clone()"
            ) from error
    if current_mode() == ANOMALY:
        _refuse_nan(node, i, gx, g)
    return gx


def _refuse_replaced(node: Node, i: int, write: Any) -> None:
    """The gradient of what was read does not fit an array of another shape or dtype."""
    then, now = node._values[i], node._inputs[i]._data  # type: ignore[index]
    if (then.shape, then.dtype) != (now.shape, now.dtype):
        raise MutationError(
            f"{node._op.__name__}, recorded at {place_made(node)}, read {then.dtype}{then.shape}, "
            f"but {write.what} at {write.source_line} has put {now.dtype}{now.shape} in its place"
        )


def _rescued(node: Node, x: Node, gx: Any, error: Exception) -> Any:
    """A rule may return a plain number; anything else that went wrong names the forward call.

    Returns None for an error to be raised on: a frame of ours that held it would hold the graph.
    """
    if isinstance(error, MutationError | AnomalyError | Warning):
        return None
    if isinstance(gx, int | float):
        return np.full(x._data.shape, gx, x._data.dtype)
    where = f"in the backward of {node._op.__name__}, recorded at {place_made(node)}"
    if hasattr(gx, "shape"):
        raise ValueError(
            f"{where}: a rule gave shape {gx.shape} for an input of shape {x._data.shape}"
        ) from error
    if gx is not None or "'NoneType' object has no attribute 'shape'" in str(error):
        raise TypeError(f"{where}: a rule gave {type(gx).__name__}, not an array") from error
    error.add_note(where)
    return None


def _refuse_nan(node: Node, i: int, gx: Any, g: Any) -> None:
    after, before = (value._data if isinstance(value, Node) else value for value in (gx, g))
    if has_nan(after) and not has_nan(before):
        raise AnomalyError(
            f"the backward of {node._op.__name__} made a NaN for input {i}, {after.dtype}"
            f"{after.shape}; recorded at {place_made(node)}"
        )


def _call_hooks(node: Node, g: Any, create_graph: bool, retained: dict[Node, Any]) -> Any:
    """The cotangent after the hooks of a node; with `retain_grad` a copy goes to `retained`."""
    hooks = dict(node._hooks or {})
    keep = hooks.pop(_KEEP, None)
    for hook in hooks.values():
        given = hook(g if isinstance(g, Node) else constant(np.array(g)))
        if given is not None:
            given = given if isinstance(given, Tensor) else Tensor(as_array(given))
            if given.shape != node._data.shape:
                shape = node._data.shape
                raise ValueError(f"a hook gave shape {given.shape} for a Tensor of {shape}")
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

    gradient: cotangent of `output`, of its shape; 1 for a single element.
    retain_graph: keep the graph for another backward (default: `create_graph`).
    create_graph: record the backward pass, so that gradients can be differentiated. `.grad` then
        holds the graph, and the graph the leaf: set `.grad = None` when done, or use
        `autograd.grad`, which leaves no such cycle.

    Raises RuntimeError if nothing requires grad, or the graph was freed. On any error every `.grad`
    is as before.
    """
    start = _start(output, gradient, create_graph)
    retain_graph = create_graph if retain_graph is None else retain_graph
    if create_graph:
        with enable_grad():
            _accumulate_sums(walk({output: start}, create_graph=True, retain_graph=retain_graph))
        return
    ends = walk({output: start}, retain_graph=retain_graph)
    if tracer := tracing():
        for leaf, g in ends.items():
            tracer.add_gradient(leaf, g)
        return
    _accumulate(ends)


def _accumulate(gradients: dict[Node, Any]) -> None:
    """Add to the `.grad` of several nodes, all or none, while other threads may do the same.

    Every sum is computed before the first is stored. A store happens only where `.grad` is still
    the one that the sum was computed from; else the sum is computed again from the new one.
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
    """The Tensor of `g` added to a gradient, or of `g` alone where there is none."""
    if isinstance(g, Node):
        return g.clone() if before is None else before + g  # type: ignore[attr-defined]
    if before is not None:
        g = before._data + g
    return constant(g if type(g) is ndarray else np.asarray(g))


def _start(output: Any, gradient: Any, create_graph: bool) -> Any:
    if not isinstance(output, Tensor):
        raise TypeError(f"only a Tensor has gradients, not {type(output).__name__}")
    if not output._requires_grad:
        raise RuntimeError(
            "nothing here requires grad: no input had requires_grad=True, or it was computed under "
            "no_grad() or from .detach()"
        )
    if gradient is None:
        if output.size != 1:
            raise RuntimeError(
                f"backward of shape {output.shape} needs `gradient=` of that shape; "
                "only a single element has the default 1. Did you mean .sum() or .mean()?"
            )
        data = output._data
        if create_graph or data.ndim:
            start = np.ones(data.shape, data.dtype)
            return constant(start) if create_graph else start
        return data.dtype.type(1)
    if not isinstance(gradient, Node):
        gradient = Tensor(as_array(gradient))
    if gradient._data.shape != output.shape:
        raise ValueError(
            f"gradient of shape {gradient._data.shape} for an output of {output.shape}"
        )
    if gradient._data.dtype != output.dtype:
        gradient = gradient.astype(output.dtype)
    return gradient if create_graph else gradient._data


def retain_grad(tensor: Tensor) -> None:
    """Add the gradient of a computed Tensor, after its hooks, to its `.grad` as well."""
    if not tensor._requires_grad:
        raise RuntimeError("retain_grad() on a Tensor that does not require grad")
    if tensor._op is None or (tensor._hooks and _KEEP in tensor._hooks):
        return

    _hooks_of(tensor)[_KEEP] = _keep


_KEEP = 0
"""The key of `retain_grad` among the hooks; those of the user are times, which start at 1."""


def _keep(_: Any) -> None:
    """Stands for `retain_grad`: the walk itself keeps the cotangent."""


def _hooks_of(tensor: Tensor) -> dict[int, Any]:
    if tensor._hooks is None:
        tensor._hooks = {}
    return tensor._hooks


class HookHandle:
    """Takes a hook out again: `handle.remove()`."""

    def __init__(self, hooks: dict[int, Any], key: int) -> None:
        self._hooks, self._key = hooks, key

    def remove(self) -> None:
        """Take the hook out; a second time does nothing."""
        self._hooks.pop(self._key, None)


def register_hook(tensor: Tensor, hook: Callable[[Tensor], Any]) -> HookHandle:
    """Call `hook(gradient)` when the gradient of `tensor` is complete; returns its removal."""
    if not tensor._requires_grad:
        raise RuntimeError("a hook on a Tensor that does not require grad would never be called")
    hooks = _hooks_of(tensor)
    key = tick()
    hooks[key] = hook
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
    """The gradients of `outputs` with respect to `inputs`, `.grad` untouched (`tk.autograd.grad`).

    allow_unused: give None for an input that the outputs do not depend on, rather than raise.
    materialize_grads: give zeros for it.
    """
    outputs = _as_tuple(outputs)
    inputs = _as_tuple(inputs)
    grad_outputs = (None,) * len(outputs) if grad_outputs is None else _as_tuple(grad_outputs)
    if len(grad_outputs) != len(outputs):
        raise ValueError(f"{len(grad_outputs)} grad_outputs for {len(outputs)} outputs")
    for i, x in enumerate(inputs):
        if not (isinstance(x, Tensor) and x._requires_grad):
            raise RuntimeError(f"input {i} does not require grad")
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
    return tuple(
        _end(ends.get(x), i, x, allow_unused, materialize_grads) for i, x in enumerate(inputs)
    )


def _end(g: Any, i: int, x: Tensor, allow_unused: bool, zeros: bool) -> Any:
    if g is not None:
        return g if isinstance(g, Node) else constant(np.array(g, copy=True))
    if zeros:
        return constant(np.zeros(x.shape, x.dtype))
    if allow_unused:
        return None
    raise RuntimeError(
        f"the outputs do not depend on input {i} (shape {x.shape}); pass materialize_grads=True "
        "for zeros or allow_unused=True for None"
    )


def _as_tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, tuple | list) else (x,)
