"""JAX's transformations of functions: `grad`, `vjp`, `jvp`, `jacobian`, `hessian`, `hvp`.

`vmap` is in `batching.py`.

They nest to any order: the derivative is recorded like every other computation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import wraps
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr import tree
from tinygrad_kr.arrays.operands import as_array
from tinygrad_kr.autodiff import Graph, graph_of, topological_order, walk
from tinygrad_kr.batching import keeps_tensors, vmap
from tinygrad_kr.grad_mode import enable_grad, is_grad_enabled, recorded_if
from tinygrad_kr.grad_mode import traced as traced_calls
from tinygrad_kr.ops.node import Node, constant, is_anomaly_on, tick
from tinygrad_kr.ops.op import op
from tinygrad_kr.ops.reduction import concatenate
from tinygrad_kr.ops.shape import stack
from tinygrad_kr.ops.tracing import tracers
from tinygrad_kr.tensor import Tensor

__all__ = [
    "grad", "hessian", "hvp", "jacfwd", "jacobian", "jacrev", "jvp", "value_and_grad", "vjp",
    "vmap",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__


Function = Callable[..., Any]
Argnums = int | Sequence[int]

_alias = op(lambda x: x, lambda g, y, x: g, name="alias", variable="_alias")


class _Traced:
    """The arguments of a function, with Tensors that record in place of those to differentiate."""

    def __init__(self, name: str, args: Sequence[Any], argnums: Argnums) -> None:
        single = isinstance(argnums, int)
        numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        for n in numbers:
            if not -len(args) <= n < len(args):
                raise ValueError(
                    f"{name}: expected argnums among {len(args)} positional arguments, got "
                    f"{argnums}."
                )
        if not single and len({n % len(args) for n in numbers}) < len(numbers):
            raise ValueError(f"{name}: expected each of argnums once, got {argnums}.")
        chosen = args[numbers[0]] if single else tuple(args[n] for n in numbers)
        self.given, self.rebuild = tree.flatten(chosen)
        self.nested = is_grad_enabled()
        self.tensors = [self._trace(name, leaf) for leaf in self.given]
        self.start = tick()
        traced = self.rebuild(self.tensors)
        self.given_args = args
        self.args = list(args)
        for n, arg in zip(numbers, (traced,) if single else traced, strict=True):
            self.args[n] = arg
        self.fresh = {t for t in self.tensors if t._op is None}

    @staticmethod
    def _trace(name: str, leaf: Any) -> Tensor:
        if isinstance(leaf, Tensor) and leaf._requires_grad:
            with enable_grad():
                return _alias(leaf)
        array = as_array(np.float64(leaf) if type(leaf) is float else leaf)
        if array.dtype.kind != "f":
            raise TypeError(
                f"{name}: expected floats to differentiate with respect to, got "
                f"{array.dtype}{array.shape}. Use floats (1.0, not 1)"
            )
        return _timed_leaf(array)

    def create_graph(self, outputs: Iterable[Tensor], graph: Graph | None = None) -> bool:
        """Whether the derivative must be recorded too: the outputs use a Tensor from outside."""
        if not self.nested:
            return False
        if len(self.fresh) < len(self.tensors):
            return True
        _, leaves = graph or graph_of(outputs)
        return any(x not in self.fresh and getattr(x, "_made", 0) < self.start for x in leaves)

    def gradients(
        self,
        starts: Mapping[Any, Any],
        create_graph: bool,
        retain: bool = False,
        graph: Graph | None = None,
    ) -> list[Any]:
        """Cotangents of the chosen arguments, zeros where the outputs do not depend on them.

        graph: that of the outputs, for one walk.
        """
        starts = {node: g for node, g in starts.items() if node._requires_grad}
        with recorded_if(create_graph) if create_graph or tracers else nullcontext():
            ends = walk(
                starts,
                set(self.tensors),
                create_graph=create_graph,
                retain_graph=retain or create_graph,
                graph=graph,
            )
        found = []
        for t in self.tensors:
            g = ends.get(t)
            if g is None:
                g = np.zeros(t.shape, t.dtype)
            elif isinstance(g, Node) and g._requires_grad and not create_graph:
                g = constant(g._data)  # of a rule that uses a Tensor from outside
            elif t._op is not None and not isinstance(g, Node):
                g = np.array(g)  # of a leaf it is its own
            found.append(g if isinstance(g, Node) else constant(np.asarray(g)))
        return found

    def result(self, tensors: Sequence[Any]) -> Any:
        """Gradients in the structure of the arguments: arrays for arrays, Tensors for Tensors."""
        return self.rebuild(
            [self.outward(t, isinstance(x, Node)) for t, x in zip(tensors, self.given, strict=True)]
        )

    def outward(self, value: Any, as_tensor: bool | None = None) -> Any:
        """The result for the caller: an array, unless Tensors were passed or it requires grad."""
        if not isinstance(value, Node) or keeps_tensors():
            return value
        if value._requires_grad or (
            tree.holds(self.given_args, Node) if as_tensor is None else as_tensor
        ):
            return value
        return value._data if value._data.ndim else value._data[()]


def _timed_leaf(array: ndarray) -> Tensor:
    """A leaf with its creation time, which marks it as inside this transformation."""
    leaf = Tensor(array, requires_grad=True)
    leaf._made = tick()
    return leaf


def _scalar(value: Any, name: str) -> Tensor:
    if not isinstance(value, Node) and isinstance(value, np.generic | ndarray | float):
        value = Tensor(value)
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name}: expected a function that returns a Tensor, got {type(value).__name__}."
        )
    if value.size != 1 or value.dtype.kind != "f":
        raise TypeError(
            f"{name}: expected a function with one float result, got {value.dtype}{value.shape}. "
            "Sum it, or use jacobian or vjp"
        )
    return value


def value_and_grad(f: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """A function that returns f(*args) and its gradient with respect to the arguments `argnums`.

    f: returns one floating-point element, a Tensor or an array. Arguments are arrays, Tensors,
        numbers, or nested tuples, lists and dicts of them. A Python float counts as float64.
    argnums: one position, or several. The gradient has the structure of the arguments: arrays for
        arrays, Tensors for Tensors.
    has_aux: `f` returns (value, aux), and the result is ((value, aux), gradient).

    Where `f` also uses Tensors that require grad, the gradient is itself recorded (not under
    `no_grad()`).
    Raises TypeError for a result of another size or dtype, or an argument that is not floating;
    ValueError for `argnums` out of range.

    >>> tk.value_and_grad(lambda x: (x**2).sum())(np.array([1.0, 3.0]))
    (np.float64(10.0), array([2., 6.]))
    """

    return wraps(f)(_value_and_grad("value_and_grad", f, argnums, has_aux))


def _value_and_grad(name: str, f: Function, argnums: Argnums, has_aux: bool) -> Function:
    def both(*args: Any, **kwargs: Any) -> Any:
        traced = _Traced(name, args, argnums)
        with traced_calls():
            value = f(*traced.args, **kwargs)
            value, aux = value if has_aux else (value, None)
            value = _scalar(value, name)
        graph = graph_of([value])
        create_graph = traced.create_graph([value], graph)
        data = value._data
        start = np.ones(data.shape, data.dtype) if data.ndim else np.array(1, data.dtype)
        starts = {value: constant(start) if create_graph else start}
        found = traced.gradients(starts, create_graph, graph=graph)
        if not create_graph:
            value = constant(value._data)
        if has_aux:
            return (traced.outward(value), _aux(traced, aux, create_graph)), traced.result(found)
        return traced.outward(value), traced.result(found)

    return both


def grad(f: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """The gradient of a function with one result, as a function of the same arguments.

    argnums, has_aux, errors: as in `value_and_grad`. With `has_aux` the result is (gradient, aux).

    >>> tk.grad(lambda x: (x**3).sum())(np.array([1.0, 2.0]))
    array([ 3., 12.])
    """
    return _grad("grad", f, argnums, has_aux)


def _grad(name: str, f: Function, argnums: Argnums, has_aux: bool = False) -> Function:
    both = _value_and_grad(name, f, argnums, has_aux)

    @wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, found = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def _outputs(f: Function, traced: _Traced, kwargs: dict[str, Any]) -> tuple[list[Tensor], Any]:
    with traced_calls():
        flat, rebuild = tree.flatten(f(*traced.args, **kwargs))
    return [value if isinstance(value, Tensor) else Tensor(value) for value in flat], rebuild


def _checked(leaves: Sequence[Any], like: Sequence[Tensor], name: str) -> list[Tensor]:
    """Tangents or cotangents as Tensors of the shapes and dtypes of `like`."""
    found = []
    for leaf, t in zip(leaves, like, strict=True):
        leaf = leaf if isinstance(leaf, Tensor) else Tensor(leaf)
        if leaf.shape != t.shape:
            raise ValueError(f"{name}: expected shape {t.shape}, got {leaf.shape}.")
        found.append(leaf.to(t.dtype))
    return found


def _summed(nodes: Sequence[Node], cotangents: Sequence[Any]) -> dict[Node, Any]:
    """The cotangent of each node; a node that occurs twice has the sum of both."""
    found: dict[Node, Any] = {}
    for node, g in zip(nodes, cotangents, strict=True):
        found[node] = found[node] + g if node in found else g
    return found


def vjp(f: Function, *primals: Any) -> tuple[Any, Function]:
    """f(*primals), and the function v -> v^T J from a cotangent of it to those of `primals`.

    The cotangents are a tuple. Each call is one backward pass; it may be called repeatedly.
    Raises TypeError for primals that are not floating, ValueError for a cotangent of another shape.

    >>> y, pull_back = tk.vjp(lambda x: x**2, np.array([1.0, 3.0]))
    >>> pull_back(np.array([1.0, 10.0]))
    (array([ 2., 60.]),)
    """
    return _vjp("vjp", f, primals)


def _vjp(name: str, f: Function, primals: Sequence[Any]) -> tuple[Any, Function]:
    traced = _Traced(name, primals, tuple(range(len(primals))))
    outputs, rebuild = _outputs(f, traced, {})
    create_graph = traced.create_graph(outputs)

    def pull_back(cotangent: Any) -> Any:
        given = tree.leaves_like(rebuild(outputs), cotangent, name)
        cotangents = _checked(given, outputs, name)
        keep = create_graph or any(c._requires_grad for c in cotangents)
        starts = _summed(outputs, cotangents if keep else [c._data for c in cotangents])
        return traced.result(traced.gradients(starts, keep, retain=True))

    return rebuild([_shown(traced, o, create_graph) for o in outputs]), pull_back


def _shown(traced: _Traced, output: Any, create_graph: bool) -> Any:
    return traced.outward(output if create_graph else constant(output._data))


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """f(*primals) and its directional derivative J v along `tangents`.

    primals, tangents: tuples of one structure. Computed as the VJP of the VJP: u -> u^T J is linear
    in u, and its transpose is v -> J v. The derivative of integers is 0.
    Raises TypeError for no tuples, ValueError for tangents of another shape.

    >>> tk.jvp(lambda x: x**2, (np.array([1.0, 3.0]),), (np.array([1.0, 1.0]),))
    (array([1., 9.]), array([2., 6.]))
    """
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        raise TypeError(
            "jvp: expected a tuple of primals and a tuple of tangents, got "
            f"{type(primals).__name__} and {type(tangents).__name__}."
        )
    traced = _Traced("jvp", tuple(primals), tuple(range(len(primals))))
    outputs, rebuild = _outputs(f, traced, {})
    create_graph = traced.create_graph(outputs) or any(
        isinstance(t, Node) and t._requires_grad for t in tree.flatten(tangents)[0]
    )
    given = tree.leaves_like(tuple(primals), tuple(tangents), "jvp")
    directions = _checked(given, traced.tensors, "jvp")
    found = _push_forward(traced, outputs, create_graph)(directions)
    return (
        rebuild([_shown(traced, o, create_graph) for o in outputs]),
        rebuild([_shown(traced, t, create_graph) for t in found]),
    )


def _push_forward(
    traced: _Traced, outputs: Sequence[Tensor], create_graph: bool, retain: bool = False
) -> Callable[[Sequence[Any]], list[Any]]:
    """The function of tangents of the arguments that gives those of the outputs.

    retain: it may be called repeatedly.
    """
    zeros = [np.zeros(o.shape, o.dtype) for o in outputs]
    dummies = [_timed_leaf(z) if z.dtype.kind == "f" else constant(z) for z in zeros]
    with enable_grad():
        pulled = traced.gradients(_summed(outputs, dummies), create_graph=True)

    def push(directions: Sequence[Any]) -> list[Any]:
        bare = not create_graph and not retain
        starts = _summed(pulled, [d._data for d in directions] if bare else directions)
        starts = {p: d for p, d in starts.items() if p._requires_grad}
        with recorded_if(create_graph):
            ends = walk(
                starts,
                set(dummies),
                create_graph=create_graph,
                retain_graph=create_graph or retain,
            )
        found = []
        for dummy in dummies:
            g = ends.get(dummy)
            g = np.zeros(dummy.shape, dummy.dtype) if g is None else g
            found.append(g if isinstance(g, Node) else constant(np.array(g, copy=True)))
        return found

    return push


def jacobian(f: Function, argnums: Argnums = 0) -> Function:
    """A function that returns d f / d argument, of shape (*output, *input).

    One array per output and chosen argument, in the structure of both. Computes the cotangents of
    all elements of the output at once (`vmap`), of few ones after the other.
    argnums: as in `value_and_grad`. Other names: `jacrev`; `jacfwd` goes forward.

    >>> tk.jacobian(lambda x: x**2)(np.array([1.0, 3.0]))
    array([[2., 0.],
           [0., 6.]])
    """

    return _jacobian("jacobian", f, argnums)


def jacrev(f: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """`jacobian` by JAX's name: backward, one pass for each element of the output.

    It suits functions with more inputs than outputs.
    argnums, has_aux: as in `value_and_grad`. With `has_aux` the result is (Jacobian, aux).
    Source: jax.jacrev.

    >>> tk.jacrev(lambda x: x[:1] * x)(np.array([1.0, 3.0]))
    array([[2., 0.],
           [3., 1.]])
    """
    return _jacobian("jacrev", f, argnums, has_aux)


def jacfwd(f: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """A function that returns d f / d argument, as `jacobian` does, by forward mode.

    One tangent for each element of the arguments, all of them at once (`vmap`). It suits functions
    with more outputs than inputs.
    argnums, has_aux: as in `value_and_grad`. With `has_aux` the result is (Jacobian, aux).
    Source: jax.jacfwd.

    >>> tk.jacfwd(lambda x: x[:1] * x)(np.array([1.0, 3.0]))
    array([[2., 0.],
           [3., 1.]])
    """
    return _jacobian("jacfwd", f, argnums, has_aux, _columns)


def _jacobian(
    name: str, f: Function, argnums: Argnums, has_aux: bool = False, way: Function | None = None
) -> Function:
    @wraps(f)
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        traced = _Traced(name, args, argnums)
        aux: list[Any] = []

        def first(*given: Any, **more: Any) -> Any:
            result, rest = f(*given, **more)
            aux.append(rest)
            return result

        outputs, rebuild = _outputs(first if has_aux else f, traced, kwargs)
        create_graph = traced.create_graph(outputs)
        blocks = (way or _by_rows)(traced, outputs, create_graph)
        found = rebuild([traced.result(block) for block in blocks])
        return (found, _aux(traced, aux[0], create_graph)) if has_aux else found

    return jacobian_of


def _aux(traced: _Traced, aux: Any, create_graph: bool) -> Any:
    flat, rebuild = tree.flatten(aux)
    return rebuild([_shown(traced, a, create_graph) if isinstance(a, Node) else a for a in flat])


def _by_rows(traced: _Traced, outputs: Sequence[Tensor], create_graph: bool) -> list[list[Any]]:
    return [_rows(traced, output, create_graph) for output in outputs]


def _columns(traced: _Traced, outputs: Sequence[Tensor], create_graph: bool) -> list[list[Any]]:
    """For each output the derivatives by each argument, from the tangents of all its elements."""
    push = _push_forward(traced, outputs, create_graph, retain=True)
    zeros = [constant(np.zeros(t.shape, t.dtype)) for t in traced.tensors]
    found: list[list[Any]] = [[] for _ in outputs]
    for i, t in enumerate(traced.tensors):
        units = constant(np.eye(t.size, dtype=t.dtype).reshape(t.size, *t.shape))
        tangents = vmap(lambda unit, i=i: push([*zeros[:i], unit, *zeros[i + 1 :]]), out_axes=-1)
        with recorded_if(create_graph):
            for block, output, columns in zip(found, outputs, tangents(units), strict=True):
                block.append(columns.reshape(output.shape + t.shape))
    return found


_MIN_ROWS = 8
"""Threshold: fewest rows of a Jacobian that are computed at once."""
_MOST_BYTES = 1 << 28
"""Limit: size of the cotangents of all rows that are computed at once; bytes."""


def _rows(traced: _Traced, output: Tensor, create_graph: bool) -> list[Any]:
    """The derivatives of every element of one output, stacked for each argument."""

    def pulled(start: Any) -> list[Any]:
        return traced.gradients({output: start}, create_graph, retain=True)

    if not output.size:
        return [constant(np.zeros(output.shape + t.shape, t.dtype)) for t in traced.tensors]
    units = np.eye(output.size, dtype=output.dtype).reshape(output.size, *output.shape)
    most = _most_rows(output)
    blocks: list[Sequence[Any]] = []
    if most < _MIN_ROWS:
        starts = [units[i, ...] for i in range(output.size)]
        rows = [pulled(constant(start) if create_graph else start) for start in starts]
        blocks = [[stack(*column, axis=0) for column in zip(*rows, strict=True)]]
    else:
        with recorded_if(create_graph):
            for start in range(0, output.size, most):
                blocks.append(vmap(pulled)(constant(units[start : start + most])))
    joined = blocks[0] if len(blocks) == 1 else [concatenate(*b) for b in zip(*blocks, strict=True)]
    return [
        columns if output.ndim == 1 else columns.reshape(output.shape + t.shape)
        for t, columns in zip(traced.tensors, joined, strict=True)
    ]


def _most_rows(output: Tensor) -> int:
    """How many rows of a Jacobian are computed at once; 1 where that takes longer."""
    if output.size < _MIN_ROWS or is_anomaly_on():
        return 1
    sizes = sum(node._data.nbytes for node in topological_order([output], wanted=()))
    return min(_MOST_BYTES // max(sizes, 1), output.size)


def hessian(f: Function, argnums: Argnums = 0) -> Function:
    """A function that returns the second derivatives of a function with one result.

    Shape (*input, *input). argnums: as in `value_and_grad`.

    >>> tk.hessian(lambda x: (x**3).sum())(np.array([1.0, 2.0]))
    array([[ 6.,  0.],
           [ 0., 12.]])
    """
    return _jacobian("hessian", _grad("hessian", f, argnums), argnums)


def hvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The Hessian-vector product H v at `primals` along `tangents`, without forming H.

    H is symmetric, so this is the VJP of the gradient: two backward passes, a few times the cost of
    `f`.
    primals, tangents: tuples of one structure. Raises as `jvp` does.

    >>> tk.hvp(lambda x: (x**3).sum(), (np.array([1.0, 2.0]),), (np.array([1.0, 0.0]),))
    (array([6., 0.]),)
    """
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        raise TypeError(
            "hvp: expected a tuple of primals and a tuple of tangents, got "
            f"{type(primals).__name__} and {type(tangents).__name__}."
        )
    _, pull_back = _vjp("hvp", _grad("hvp", f, tuple(range(len(primals)))), primals)
    return pull_back(tuple(tangents))
