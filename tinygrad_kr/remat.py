"""`checkpoint`: values that are not kept for backward are computed again there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr import tree
from tinygrad_kr.autodiff import MutationError, topological_order, walk
from tinygrad_kr.grad_mode import enable_grad, is_grad_enabled, no_grad
from tinygrad_kr.ops.node import Node, tick
from tinygrad_kr.ops.op import record_result
from tinygrad_kr.ops.shape import concatenate
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.ops.writes import write_since
from tinygrad_kr.random import default_generator
from tinygrad_kr.tensor import Tensor
from tinygrad_kr.transformations import Function, _alias


def checkpoint(f: Function, *args: Any, **kwargs: Any) -> Any:
    """f(*args, **kwargs) without its intermediate values: backward computes them again.

    Trades time for memory. The default generator is replayed, so dropout draws the same mask.
    Gradients also reach Tensors that `f` uses without being passed them (the parameters of a
    module).
    f: returns a Tensor or a nested container of Tensors.

    Backward raises MutationError if a Tensor that `f` reads was overwritten in between.
    Source: Chen et al., Training deep nets with sublinear memory cost (2016).

    >>> x = tk.tensor([1.0, 2.0], requires_grad=True)
    >>> tk.checkpoint(lambda x: (x.exp() * x).sum(), x).backward()
    >>> x.grad.numpy().round(3)
    array([ 5.437, 22.167], dtype=float32)
    """
    if not is_grad_enabled() or tracing() is not None:  # `compile` plans memory by itself
        return f(*args, **kwargs)
    flat, rebuild_args = tree.flatten(args)
    chosen = [i for i, leaf in enumerate(flat) if isinstance(leaf, Tensor) and leaf._requires_grad]
    generator = default_generator().bit_generator
    state = generator.state
    start = tick()

    def run(tensors: Sequence[Any]) -> tuple[list[Any], Any]:
        leaves = list(flat)
        for i, tensor in zip(chosen, tensors, strict=True):
            leaves[i] = tensor
        return tree.flatten(f(*rebuild_args(leaves), **kwargs))

    mine: list[Tensor] = [flat[i] for i in chosen]
    traced = [Tensor(t._data, requires_grad=True) for t in mine]
    outputs, rebuild = run(traced)
    tracked = [i for i, o in enumerate(outputs) if isinstance(o, Tensor) and o._requires_grad]
    if not tracked:
        return rebuild(outputs)
    packed = _packed([outputs[i] for i in tracked])
    others = _entering(packed, set(traced), start)
    made = tick()

    def forward(*arrays: ndarray) -> ndarray:
        """The outputs at other inputs, which a central difference needs."""
        given, rest = arrays[: len(chosen)], arrays[len(chosen) :]
        if not all(np.array_equal(x, o._data) for x, o in zip(rest, others, strict=True)):
            raise RuntimeError(
                "checkpoint: expected the same Tensors around f as before, got changed ones. Pass "
                "them as arguments"
            )
        with no_grad():
            again = _drawing_from(generator, state, lambda: run([Tensor(x) for x in given])[0])
            return _packed([again[i] for i in tracked])._data

    def replay(g: Any, y: Any, *inputs: Any, needs: tuple[bool, ...]) -> list[Any]:
        nested = isinstance(g, Node)
        for x in (*flat, *others):
            if isinstance(x, Node) and (write := write_since(x, made)):
                raise MutationError(
                    f"checkpoint: expected {x._data.dtype}{x._data.shape}, read again in backward, "
                    f"unchanged, got it overwritten by {write.what} at {write.source_line}. Call "
                    "backward() before that"
                )
        with enable_grad():
            tensors = [
                _alias(x) if nested else Tensor(x, requires_grad=True)
                for x in inputs[: len(chosen)]
            ]
            computed = _drawing_from(generator, state, lambda: run(tensors)[0])
            again = _packed([computed[i] for i in tracked])
        needed = [t for t, need in zip([*tensors, *others], needs, strict=True) if need]
        ends = walk({again: g}, set(needed), create_graph=nested, retain_graph=nested, stop=others)
        zeros = [np.zeros(t.shape, t.dtype) for t in [*tensors, *others]]
        return [
            ends.get(t, zero) if need else None
            for t, need, zero in zip([*tensors, *others], needs, zeros, strict=True)
        ]

    value = packed._data
    record: Any = _Replayed(forward, replay)
    replayed = record_result(record, value, (*mine, *others), {}, True)
    for i, o in zip(tracked, _unpacked(replayed, [outputs[i] for i in tracked]), strict=True):
        outputs[i] = o
    return rebuild(outputs)


def _drawing_from(generator: Any, state: Any, compute: Callable[[], list[Any]]) -> list[Any]:
    """What `compute` returns with a generator in a state; afterwards it has its own again."""
    kept = generator.state
    try:
        generator.state = state
        return compute()
    finally:
        generator.state = kept


class _Replayed:
    """The record of one checkpoint.

    A record made by `op` refers to itself: it would keep the arrays alive until the garbage
    collector runs.
    """

    __slots__ = ("forward", "rules")
    __name__ = "checkpoint"
    variadic, one_rule_for_all, shared, promote = False, True, True, False

    def __init__(self, forward: Callable[..., Any], replay: Callable[..., Any]) -> None:
        self.forward = forward
        self.rules = (replay,)


def _entering(output: Tensor, mine: set[Any], start: int) -> list[Any]:
    """The Tensors from before `start` that the graph of `output` uses, except `mine`."""
    if output not in mine and (output._op is None or output._made < start):
        return [output]
    found: dict[Any, None] = {}
    for node in topological_order([output], wanted=()):
        if node._made < start:
            continue
        for x in node._inputs or ():
            outside = isinstance(x, Node) and (x._op is None or x._made < start)
            if outside and x._requires_grad and x not in mine:
                found[x] = None
    return list(found)


def _packed(outputs: list[Tensor]) -> Tensor:
    """One Tensor of several: an op has one result."""
    if len(outputs) == 1:
        return outputs[0]
    return concatenate(*[o.reshape(-1) for o in outputs])


def _unpacked(y: Tensor, like: list[Tensor]) -> list[Tensor]:
    if len(like) == 1:
        return [y]
    ends = np.cumsum([0, *(o.size for o in like)]).tolist()
    return [
        y[start:end].reshape(o.shape).to(o.dtype)
        for start, end, o in zip(ends[:-1], ends[1:], like, strict=True)
    ]
