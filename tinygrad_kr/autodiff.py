"""Reverse-mode differentiation: one walk over the recorded graph, and what is built on it.

`grad`, `vjp`, `jvp`, `hessian` and their relatives have JAX's names and meaning; `backward`, `no_grad`
and `autograd.grad` PyTorch's.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from functools import wraps
from operator import attrgetter
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr import tree
from tinygrad_kr.ops.node import (
    ANOMALY,
    OFF,
    ON,
    AnomalyError,
    LastWrite,
    Node,
    Overwritten,
    constant,
    grad_mode,
    has_nan,
    place_made,
    written_since,
)
from tinygrad_kr.ops.op import op
from tinygrad_kr.ops.shape import broadcast_to, concatenate, stack
from tinygrad_kr.random import default_generator
from tinygrad_kr.tensor import Tensor, as_array

# ------------------------------------------------------------------ the graph


def recorded(outputs: Iterable[Node]) -> list[Node]:
    """Every recorded operation that `outputs` were computed by, in the order in which they ran.

    Raises RuntimeError where a graph was freed by an earlier backward.
    """
    seen: set[Node] = set()
    stack = [node for node in outputs if node._requires_grad and node._op is not None]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node._inputs is None:
            raise RuntimeError(
                f"the graph through {node._op.__name__}, recorded at {place_made(node)}, was freed by "
                "an earlier backward; pass retain_graph=True to the first one to walk it again"
            )
        for x in node._inputs:
            if isinstance(x, Node) and x._requires_grad and x._op is not None:
                stack.append(x)
    return sorted(seen, key=attrgetter("_made"))


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
) -> dict[Node, Any]:
    """Carry the cotangents of outputs back to the leaves (or to `wanted`).

    Each node is reached once, newest first, when its cotangent is complete. With `create_graph` the
    rules see Tensors, so that what they compute is itself recorded; else plain arrays.

    Returns the cotangent of every node it ends at, an array that nothing else refers to (a Tensor with
    `create_graph`).
    """
    order = recorded(cotangents)
    needed = None if wanted is None else _leading_to(wanted, order)
    changed = bool(order) and LastWrite.time > order[0]._made
    anomaly = grad_mode.get() == ANOMALY
    grads: dict[Node, Any] = {}
    ends: dict[Node, Any] = {}
    for node, g in cotangents.items():
        grads[node] = g
    while order:
        node = order.pop()
        g = grads.pop(node, None)
        if g is None:
            continue
        if node._hooks:
            g = _call_hooks(node, g, create_graph)
        if wanted is not None and node in wanted:
            ends[node] = g
        record, inputs, params = node._op, node._inputs, node._params
        assert inputs is not None
        if create_graph:
            y: Any = node
            values: list[Any] = list(inputs)
        else:
            y = node._data
            values = [x._data if isinstance(x, Node) else x for x in inputs]
        slopes = _joint(node, g, y, values, needed, changed) if record.joint else None
        rules = record.rules * len(inputs) if record.variadic or record.joint else record.rules
        for i, x in enumerate(inputs):
            if not (isinstance(x, Node) and x._requires_grad) or i >= len(rules):
                continue
            if needed is not None and x not in needed:
                continue
            rule = rules[i]
            if rule is None:
                continue
            gx = None
            try:
                if slopes is not None:
                    gx = slopes[i]
                    if gx is None:
                        continue
                elif changed:
                    gx = _careful(node, i, rule, g, y, values)
                elif record.variadic:
                    gx = rule(g, y, *values, index=i, **params)
                else:
                    gx = rule(g, y, *values, **params)
                data = x._data
                if gx.shape != data.shape:
                    gx = unbroadcast(gx, data.shape)
                if gx.dtype is not data.dtype:
                    gx = gx.astype(data.dtype)
            except MutationError:
                raise
            except Exception as error:
                gx = _rescued(node, i, x, gx, error)
            if anomaly:
                _refuse_nan(node, i, gx, g)
            if x in grads:
                grads[x] = grads[x] + gx
            elif x._op is None and not create_graph and _borrowed(gx, g, y, values):
                grads[x] = gx.copy()
            else:
                grads[x] = gx
        if not retain_graph:
            node._inputs = None
            del inputs, values, y, node
    for leaf, g in grads.items():
        if leaf._hooks:
            g = _call_hooks(leaf, g, create_graph)
        if leaf in cotangents and not create_graph:
            g = np.array(g, copy=True)
        ends[leaf] = g
    return ends


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """A cotangent in the shape of its input: summed over what was broadcast, expanded where constant."""
    extra = g.ndim - len(shape)
    if extra > 0:
        g = g.sum(axis=0) if extra == 1 else g.sum(axis=tuple(range(extra)))
    axes = tuple(i for i, n in enumerate(shape[-g.ndim :] if g.ndim else ()) if n == 1 < g.shape[i])
    if extra >= 0 and axes:
        g = g.sum(axis=axes, keepdims=True)
    return g if g.shape == shape else broadcast_to(g, shape=shape)


def _borrowed(gx: Any, g: Any, y: Any, values: list[Any]) -> bool:
    """Whether a rule's result may share memory with anything else."""
    if type(gx) is not ndarray:
        return False
    return gx is g or gx.base is not None or gx is y or any(gx is value for value in values)


def _joint(
    node: Node, g: Any, y: Any, values: list[Any], needed: set[Node] | None, changed: bool
) -> Any:
    """Every input's cotangent from an op that computes them together."""
    assert node._inputs is not None
    if changed:
        _careful(node, 0, lambda *_, **__: None, g, y, values, reads_all=True)
    flags = tuple(
        isinstance(x, Node) and x._requires_grad and (needed is None or x in needed)
        for x in node._inputs
    )
    return node._op.rules[0](g, y, *values, needs=flags, **node._params)


class MutationError(RuntimeError):
    """An array that backward needs was overwritten after the forward pass had saved it."""


def _careful(
    node: Node, i: int, rule: Any, g: Any, y: Any, values: list[Any], reads_all: bool = False
) -> Any:
    """Apply a rule where something was written after the graph was made.

    What has changed is replaced by a stand-in that only knows its shape; a rule that reads more of it
    would give a wrong gradient, so that is the error.
    """
    inputs = node._inputs or ()
    writes = [written_since(x, node._made) if isinstance(x, Node) else None for x in inputs]
    write_y = written_since(node, node._made)
    index = {"index": i} if node._op.variadic else {}
    if not any(writes) and not write_y:
        return rule(g, y, *values, **index, **node._params)
    stand_ins = [
        Overwritten(inputs[j]._data) if write else values[j] for j, write in enumerate(writes)
    ]
    try:
        if reads_all:
            raise TypeError("a joint rule reads every input")
        return rule(
            g, Overwritten(node._data) if write_y else y, *stand_ins, **index, **node._params
        )
    except Exception as error:
        write = write_y or next(write for write in writes if write)
        position = "its output" if write_y else f"input {writes.index(write)}"
        raise MutationError(
            f"{node._op.__name__}, recorded at {place_made(node)}, needs {position} as it was, but it "
            f"was overwritten by {write.what} at {write.place}. Call backward() before the write, or "
            "write to a .detach().clone()"
        ) from error


def _rescued(node: Node, i: int, x: Node, gx: Any, error: Exception) -> Any:
    """A rule may return a plain number; anything else that went wrong names the forward call."""
    if isinstance(gx, int | float):
        return np.full(x._data.shape, gx, x._data.dtype)
    where = f"in the backward of {node._op.__name__}, recorded at {place_made(node)}"
    if gx is not None and hasattr(gx, "shape"):
        raise ValueError(
            f"{where}: rule {i} gave shape {gx.shape} for an input of shape {x._data.shape}"
        ) from error
    if gx is not None or isinstance(error, AttributeError) and "NoneType" in str(error):
        raise TypeError(f"{where}: rule {i} gave {type(gx).__name__}, not an array") from error
    error.add_note(where)
    raise error


def _refuse_nan(node: Node, i: int, gx: Any, g: Any) -> None:
    raw = [value._data if isinstance(value, Node) else value for value in (gx, g)]
    if has_nan(raw[0]) and not has_nan(raw[1]):
        raise AnomalyError(
            f"the backward of {node._op.__name__} made a NaN for input {i} of shape {raw[0].shape}, "
            f"{raw[0].dtype}; recorded at {place_made(node)}"
        )


def _call_hooks(node: Node, g: Any, create_graph: bool) -> Any:
    for hook in list((node._hooks or {}).values()):
        seen = g if isinstance(g, Node) else constant(np.asarray(g))
        given = hook(seen)
        if given is not None:
            given = given if isinstance(given, Node) else constant(as_array(given))
            if given._data.shape != node._data.shape:
                raise ValueError(
                    f"a hook gave shape {given._data.shape} for a Tensor of {node._data.shape}"
                )
            g = given if create_graph else given._data
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
    create_graph: record the backward pass, so that gradients can be differentiated.

    Raises RuntimeError if nothing requires grad, or the graph was freed. On any error every `.grad` is
    as before.
    """
    start = _start(output, gradient, create_graph)
    with set_grad_enabled(create_graph or grad_mode.get() != OFF), np.errstate(all="ignore"):
        ends = walk(
            {output: start},
            create_graph=create_graph,
            retain_graph=create_graph if retain_graph is None else retain_graph,
        )
        for leaf, g in ends.items():
            total = g if leaf._grad is None else (leaf._grad if create_graph else leaf._grad._data) + g
            leaf._grad = total if isinstance(total, Node) else constant(np.asarray(total))


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
        start = np.ones(output.shape, output.dtype)
        return constant(start) if create_graph else start
    if not isinstance(gradient, Node):
        gradient = Tensor(as_array(gradient))
    if gradient._data.shape != output.shape:
        raise ValueError(f"gradient of shape {gradient._data.shape} for an output of {output.shape}")
    if gradient._data.dtype != output.dtype:
        gradient = gradient.astype(output.dtype)
    return gradient if create_graph else gradient._data


def retain_grad(tensor: Tensor) -> None:
    """Keep the gradient of a computed Tensor in its `.grad`."""
    if not tensor._requires_grad:
        raise RuntimeError("retain_grad() on a Tensor that does not require grad")
    if tensor._op is None or (tensor._hooks and -1 in tensor._hooks):
        return

    reference = weakref.ref(tensor)

    def keep(g: Any) -> None:
        node = reference()
        if node is not None:
            node._grad = g if g._requires_grad else constant(g._data.copy())

    tensor._hooks = {**(tensor._hooks or {}), -1: keep}


def register_hook(tensor: Tensor, hook: Callable[[Tensor], Any]) -> Callable[[], None]:
    """Call `hook(gradient)` when the gradient of `tensor` is complete; returns its removal."""
    if not tensor._requires_grad:
        raise RuntimeError("a hook on a Tensor that does not require grad would never be called")
    if tensor._hooks is None:
        tensor._hooks = {}
    hooks = tensor._hooks
    key = max(hooks, default=0) + 1
    hooks[key] = hook
    return lambda: hooks.pop(key, None) and None


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
    with set_grad_enabled(create_graph or grad_mode.get() != OFF), np.errstate(all="ignore"):
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
    return tuple(_end(ends.get(x), i, x, allow_unused, materialize_grads) for i, x in enumerate(inputs))


def _end(g: Any, i: int, x: Tensor, allow_unused: bool, zeros: bool) -> Any:
    if g is not None:
        return g if isinstance(g, Node) else constant(np.array(g, copy=True))
    if zeros:
        return constant(np.zeros(x.shape, x.dtype))
    if allow_unused:
        return None
    raise RuntimeError(
        f"the outputs do not depend on input {i} (shape {x.shape}); pass materialize_grads=True for "
        "zeros or allow_unused=True for None"
    )


def _as_tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, tuple | list) else (x,)


# ------------------------------------------------------------------ grad mode

_anomaly: ContextVar[bool] = ContextVar("anomaly", default=False)


class _Mode:
    """A context manager and decorator that sets the recording mode of this thread and async task."""

    def __init__(self) -> None:
        self._tokens: list[Any] = []

    def _mode(self) -> int:
        raise NotImplementedError

    def __enter__(self) -> None:
        self._tokens.append(grad_mode.set(self._mode()))

    def __exit__(self, *exception: Any) -> None:
        grad_mode.reset(self._tokens.pop())

    def _again(self) -> _Mode:
        return type(self)()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
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


def recording() -> int:
    """The mode that records, with anomaly detection where that is on."""
    return ANOMALY if _anomaly.get() else ON


class no_grad(_Mode):
    """Record nothing: results require no gradient. `with no_grad():` or `@no_grad()`."""

    def _mode(self) -> int:
        return OFF


class enable_grad(_Mode):
    """Record again, inside `no_grad`."""

    def _mode(self) -> int:
        return recording()


class set_grad_enabled(_Mode):
    """Record or not, as `mode` says."""

    def __init__(self, mode: bool) -> None:
        super().__init__()
        self.mode = mode

    def _mode(self) -> int:
        return recording() if self.mode else OFF

    def _again(self) -> _Mode:
        return set_grad_enabled(self.mode)


class detect_anomaly(_Mode):
    """Find trouble where it starts, at the cost of speed.

    Raises AnomalyError at the first op, forward or backward, that makes a NaN, naming the op, shapes and
    the user's line; makes saved arrays read-only until backward, so that a write through the ndarray
    raises where it happens.
    """

    def __enter__(self) -> None:
        self._anomaly_token = _anomaly.set(True)
        super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__()
        _anomaly.reset(self._anomaly_token)

    def _mode(self) -> int:
        return OFF if grad_mode.get() == OFF else ANOMALY


def is_grad_enabled() -> bool:
    """Whether operations are recorded in this thread and async task."""
    return grad_mode.get() != OFF


# ------------------------------------------------------------------ JAX's transformations

Function = Callable[..., Any]
Argnums = int | Sequence[int]

_alias = op(lambda x: x, lambda g, y, x: g, name="alias")


class _Traced:
    """The arguments of a function, those to differentiate replaced by Tensors that record."""

    def __init__(self, args: Sequence[Any], argnums: Argnums) -> None:
        numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        for n in numbers:
            if not -len(args) <= n < len(args):
                raise ValueError(f"argnums {argnums} for {len(args)} positional arguments")
        chosen = tuple(args[n] for n in numbers)
        self.given, self.rebuild = tree.flatten(chosen[0] if isinstance(argnums, int) else chosen)
        self.nested = grad_mode.get() != OFF
        with enable_grad():
            self.tensors = [self._trace(leaf) for leaf in self.given]
        leaves = iter(self.tensors)
        self.args = list(args)
        for n in numbers:
            flat, rebuild = tree.flatten(args[n])
            self.args[n] = rebuild([next(leaves) for _ in flat])
        self.fresh = {t for t in self.tensors if t._op is None}
        self.arrays_only = not any(isinstance(leaf, Node) for leaf in tree.flatten(args)[0])

    @staticmethod
    def _trace(leaf: Any) -> Tensor:
        if isinstance(leaf, Tensor) and leaf._requires_grad:
            return _alias(leaf)  # type: ignore[no-any-return]
        tensor = Tensor(leaf)
        if tensor.dtype.kind != "f":
            raise TypeError(
                f"cannot differentiate with respect to {tensor.dtype} (shape {tensor.shape}); "
                "use floats (1.0, not 1)"
            )
        return tensor.requires_grad_()

    def create_graph(self, outputs: Iterable[Tensor]) -> bool:
        """Whether the derivative itself may be differentiated: something outside is being recorded."""
        if not self.nested:
            return False
        if len(self.fresh) < len(self.tensors):
            return True
        return any(
            isinstance(x, Node) and x._requires_grad and x._op is None and x not in self.fresh
            for node in recorded(outputs)
            for x in node._inputs or ()
        )

    def gradients(self, starts: dict[Node, Any], create_graph: bool, retain: bool = False) -> list[Any]:
        """Cotangents of the chosen arguments, zeros where nothing depends on them."""
        starts = {node: g for node, g in starts.items() if node._requires_grad}
        with set_grad_enabled(create_graph), np.errstate(all="ignore"):
            ends = walk(
                starts,
                set(self.tensors),
                create_graph=create_graph,
                retain_graph=retain or create_graph,
            )
        found = []
        for t in self.tensors:
            g = ends.get(t)
            if g is None:
                g = np.zeros(t.shape, t.dtype)
            found.append(g if isinstance(g, Node) else constant(np.array(g, copy=True)))
        return found

    def result(self, tensors: Sequence[Any]) -> Any:
        """Gradients in the structure of the arguments, arrays where arrays were given."""
        return self.rebuild(
            [self.outward(t, isinstance(x, Node)) for t, x in zip(tensors, self.given, strict=True)]
        )

    def outward(self, value: Any, as_tensor: bool | None = None) -> Any:
        """A Tensor as the caller should see it."""
        if not isinstance(value, Node):
            return value
        if value._requires_grad and not self._outlives(value):
            value = constant(value._data)
        if value._requires_grad or (as_tensor if as_tensor is not None else not self.arrays_only):
            return value
        return value._data if value._data.ndim else value._data[()]

    def _outlives(self, value: Any) -> bool:
        return self.nested and (value._inputs is not None if value._op is not None else True) and (
            self.create_graph([value])
        )


def _is_single(argnums: Argnums) -> bool:
    return isinstance(argnums, int)


def _scalar(value: Any, name: str) -> Tensor:
    if isinstance(value, np.generic | ndarray | float):
        value = Tensor(value)
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} needs a function that returns a Tensor, not {type(value).__name__}")
    if value.size != 1 or value.dtype.kind != "f":
        raise TypeError(
            f"{name} needs a function with one floating-point result, not {value.dtype}{value.shape}; "
            "sum it, or use jacobian or vjp"
        )
    return value


def value_and_grad(f: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """The function that returns f(*args) and its gradient with respect to the arguments `argnums`.

    Arguments may be arrays, Tensors, numbers, or nested tuples, lists and dicts of them; the gradient
    has the same structure, arrays for arrays and Tensors for Tensors.
    has_aux: `f` returns (value, anything), and so does the result: ((value, anything), gradient).
    """

    @wraps(f)
    def both(*args: Any, **kwargs: Any) -> Any:
        traced = _Traced(args, argnums)
        with enable_grad():
            value = f(*traced.args, **kwargs)
            value, aux = value if has_aux else (value, None)
            value = _scalar(value, "grad")
        create_graph = traced.create_graph([value])
        start = np.ones(value.shape, value.dtype)
        found = traced.gradients({value: constant(start) if create_graph else start}, create_graph)
        if not create_graph:
            value = constant(value._data)
        if has_aux:
            flat, rebuild = tree.flatten(aux)
            outward = (traced.outward(value), rebuild([traced.outward(leaf) for leaf in flat]))
            return outward, traced.result(found)
        return traced.outward(value), traced.result(found)

    return both


def grad(f: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """The gradient of a function with one result, as a function of the same arguments.

    >>> grad(lambda x: (x**3).sum())(np.array([1.0, 2.0]))
    array([ 3., 12.])
    """
    both = value_and_grad(f, argnums, has_aux)

    @wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, found = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def _outputs(f: Function, traced: _Traced, kwargs: dict[str, Any]) -> tuple[list[Tensor], Any]:
    with enable_grad():
        flat, rebuild = tree.flatten(f(*traced.args, **kwargs))
    return [value if isinstance(value, Tensor) else Tensor(value) for value in flat], rebuild


def _checked(leaves: Sequence[Any], like: Sequence[Tensor], name: str) -> list[Tensor]:
    """Tangents or cotangents as Tensors of the shapes and dtypes of `like`."""
    if len(leaves) != len(like):
        raise ValueError(f"{name}: {len(leaves)} arrays for {len(like)}")
    found = []
    for leaf, t in zip(leaves, like, strict=True):
        leaf = leaf if isinstance(leaf, Tensor) else Tensor(leaf)
        if leaf.shape != t.shape:
            raise ValueError(f"{name}: shape {leaf.shape} for {t.shape}")
        found.append(leaf.to(t.dtype))
    return found


def vjp(f: Function, *primals: Any) -> tuple[Any, Function]:
    """f(*primals), and the function that takes a cotangent of it to a tuple of cotangents of `primals`.

    vjp(v) = v^T J, in one backward pass; it may be called repeatedly.
    """
    traced = _Traced(primals, tuple(range(len(primals))))
    outputs, rebuild = _outputs(f, traced, {})
    create_graph = traced.create_graph(outputs)

    def pull_back(cotangent: Any) -> Any:
        cotangents = _checked(tree.flatten(cotangent)[0], outputs, "vjp")
        keep = create_graph or any(c._requires_grad for c in cotangents)
        starts = {o: c if keep else c._data for o, c in zip(outputs, cotangents, strict=True)}
        return traced.result(traced.gradients(starts, keep, retain=True))

    return rebuild([_shown(traced, o, create_graph) for o in outputs]), pull_back


def _shown(traced: _Traced, output: Tensor, create_graph: bool) -> Any:
    return traced.outward(output if create_graph else constant(output._data))


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """f(*primals) and its directional derivative J v along `tangents`.

    The derivative is the VJP of the VJP: u -> u^T J is linear in u, and its transpose is v -> J v.
    """
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        raise TypeError("jvp takes a tuple of primals and a tuple of tangents")
    traced = _Traced(tuple(primals), tuple(range(len(primals))))
    outputs, rebuild = _outputs(f, traced, {})
    create_graph = traced.create_graph(outputs) or any(
        isinstance(t, Node) and t._requires_grad for t in tree.flatten(tangents)[0]
    )
    directions = _checked(tree.flatten(tuple(tangents))[0], traced.tensors, "jvp")
    dummies = [Tensor(np.zeros(o.shape, o.dtype), requires_grad=True) for o in outputs]
    with enable_grad():
        pulled = traced.gradients(dict(zip(outputs, dummies, strict=True)), create_graph=True)
    starts = {
        p: d if create_graph else d._data
        for p, d in zip(pulled, directions, strict=True)
        if p._requires_grad
    }
    with set_grad_enabled(create_graph), np.errstate(all="ignore"):
        ends = walk(starts, set(dummies), create_graph=create_graph, retain_graph=create_graph)
    found = []
    for dummy in dummies:
        g = ends.get(dummy)
        g = np.zeros(dummy.shape, dummy.dtype) if g is None else g
        found.append(g if isinstance(g, Node) else constant(np.array(g, copy=True)))
    return (
        rebuild([_shown(traced, o, create_graph) for o in outputs]),
        rebuild([_shown(traced, t, create_graph) for t in found]),
    )


def jacobian(f: Function, argnums: Argnums = 0) -> Function:
    """The function that returns d f / d argument, of shape (*output, *input), for every output and
    chosen argument; one backward pass for each element of the output."""

    @wraps(f)
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        traced = _Traced(args, argnums)
        outputs, rebuild = _outputs(f, traced, kwargs)
        create_graph = traced.create_graph(outputs)
        blocks = []
        for output in outputs:
            rows = []
            for i in range(output.size):
                unit = np.zeros(output.size, output.dtype)
                unit[i] = 1
                start: Any = unit.reshape(output.shape)
                start = constant(start) if create_graph else start
                rows.append(traced.gradients({output: start}, create_graph, retain=True))
            blocks.append(
                traced.result(
                    [
                        stack(*column, axis=0).reshape(output.shape + t.shape)
                        if rows
                        else constant(np.zeros(output.shape + t.shape, t.dtype))
                        for t, column in zip(
                            traced.tensors, zip(*rows, strict=True) if rows else traced.tensors, strict=True
                        )
                    ]
                )
            )
        return rebuild(blocks)

    return jacobian_of


def hessian(f: Function, argnums: Argnums = 0) -> Function:
    """The function that returns the second derivatives of a function with one result."""
    return jacobian(grad(f, argnums), argnums)


def hvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """Hessian-vector product H v at `primals` along `tangents`, without forming H.

    H is symmetric, so this is the VJP of the gradient: two walks, at a few times the cost of `f`.
    """
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        raise TypeError("hvp takes a tuple of primals and a tuple of tangents")
    _, pull_back = vjp(grad(f, tuple(range(len(primals)))), *primals)
    return pull_back(tuple(tangents))


# ------------------------------------------------------------------ checkpointing


def checkpoint(f: Function, *args: Any, **kwargs: Any) -> Any:
    """f(*args), keeping nothing of how it was computed: backward computes it again.

    Trades time for memory (Chen et al., Training deep nets with sublinear memory cost, 2016). The
    default generator is replayed, so dropout draws the same mask. Gradients also reach Tensors that `f`
    uses without being passed them (the parameters of a module).
    """
    if grad_mode.get() == OFF:
        return f(*args, **kwargs)
    flat, rebuild_args = tree.flatten(args)
    places = [i for i, leaf in enumerate(flat) if isinstance(leaf, Tensor) and leaf._requires_grad]
    generator = default_generator().bit_generator
    state = generator.state

    def run(tensors: Sequence[Any]) -> tuple[Any, Any]:
        leaves = list(flat)
        for place, tensor in zip(places, tensors, strict=True):
            leaves[place] = tensor
        outputs, rebuild = tree.flatten(f(*rebuild_args(leaves), **kwargs))
        shapes = [o.shape for o in outputs]
        packed = outputs[0] if len(outputs) == 1 else concatenate(*[o.reshape(-1) for o in outputs])
        return packed, lambda y: rebuild(_unpacked(y, shapes))

    mine = [flat[place] for place in places]
    traced = [Tensor(t._data, requires_grad=True) for t in mine]
    packed, unpack = run(traced)
    if not isinstance(packed, Tensor) or not packed._requires_grad:
        return unpack(packed)
    others = _others(packed, set(traced))

    def replay(g: Any, y: Any, *inputs: Any, needs: tuple[bool, ...]) -> list[Any]:
        nested = isinstance(g, Node)
        kept = generator.state
        try:
            generator.state = state
            with enable_grad():
                tensors = [
                    _alias(x) if nested else Tensor(x, requires_grad=True)
                    for x in inputs[: len(places)]
                ]
                again, _ = run(tensors)
        finally:
            generator.state = kept
        wanted = [t for t, need in zip([*tensors, *others], needs, strict=True) if need]
        ends = walk({again: g}, set(wanted), create_graph=nested, retain_graph=nested)
        zeros = [np.zeros(t.shape, t.dtype) for t in [*tensors, *others]]
        return [
            ends.get(t, zero) if need else None
            for t, need, zero in zip([*tensors, *others], needs, zeros, strict=True)
        ]

    value = packed._data
    node = op(lambda *arrays: value, replay, name="checkpoint", joint=True)
    return unpack(node(*mine, *others))


def _others(output: Node, mine: set[Node]) -> list[Node]:
    """The leaves that require grad under `output` and are not `mine`."""
    found: dict[Node, None] = {}
    for node in recorded([output]):
        for x in node._inputs or ():
            if isinstance(x, Node) and x._requires_grad and x._op is None and x not in mine:
                found[x] = None
    return list(found)


def _unpacked(y: Any, shapes: list[tuple[int, ...]]) -> list[Any]:
    if len(shapes) == 1:
        return [y]
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    return [
        y[int(start) : int(end)].reshape(shape)
        for start, end, shape in zip(ends[:-1], ends[1:], shapes, strict=True)
    ]
