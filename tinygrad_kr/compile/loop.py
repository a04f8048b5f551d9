"""`repeat` and `scan`: many calls of a compiled function, in one loop of C where possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr import tree
from tinygrad_kr.ops.node import Node, constant


def repeat(compiled: Any, n: int, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The stacked results of n calls with the same arguments."""
    _check_number(n)
    return _gather(compiled, n, lambda i: (args, kwargs), {})


def scan(compiled: Any, batches: Sequence[Any]) -> Any:
    """The stacked results of a call for each index along the first axis of the arguments."""
    leaves, rebuild = tree.flatten(tuple(batches))
    arrays: list[Any] = [leaf for leaf in leaves if isinstance(leaf, Node | ndarray)]
    lengths = {array.shape[0] if len(array.shape) else None for array in arrays}
    if len(lengths) != 1 or None in lengths:
        shapes = ", ".join(str(tuple(array.shape)) for array in arrays) or "no arrays"
        raise ValueError(
            f"scan: expected stacked batches, of one length along their first axis, got {shapes}."
        )
    (n,) = lengths
    steps = {}
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, Node | ndarray):
            steps[i] = array_of(leaf).strides[0]

    def batch(i: int) -> tuple[Any, dict[str, Any]]:
        return rebuild([_at(leaf, i) for leaf in leaves]), {}

    return _gather(compiled, int(n or 0), batch, steps)


def _check_number(n: Any) -> None:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
        raise ValueError(f"repeat: expected a number of calls, got {n!r}.")


def _at(leaf: Any, i: int) -> Any:
    if isinstance(leaf, Node):
        return constant(leaf._data[i, ...])
    return leaf[i, ...] if isinstance(leaf, ndarray) else leaf


def _gather(
    compiled: Any,
    n: int,
    call_of: Callable[[int], tuple[Any, dict[str, Any]]],
    steps: dict[int, int],
) -> Any:
    """Call in Python until the function is compiled; then in C, if the step is one C function."""
    done: list[Any] = []
    while len(done) < n:
        args, kwargs = call_of(len(done))
        rest = compiled._loop(n - len(done), args, kwargs, steps) if done else None
        if rest is not None and len(rest) == n - len(done):
            first = np.stack([array_of(x) for x in done])
            results = np.concatenate([first, rest])
            return constant(results) if isinstance(done[0], Node) else results
        if rest is not None:  # the next call raises
            done += [constant(np.asarray(x)) if isinstance(done[0], Node) else x for x in rest]
            args, kwargs = call_of(len(done))
        done.append(compiled(*args, **kwargs))
    return _stacked(done)


def array_of(leaf: Any) -> Any:
    """The array of a Tensor; anything else unchanged."""
    return leaf._data if isinstance(leaf, Node) else leaf


def _stacked(results: list[Any]) -> Any:
    """Results of one structure, each leaf stacked along a new first axis."""
    if not results:
        return None
    flat = [tree.flatten(result)[0] for result in results]
    _, rebuild = tree.flatten(results[0])
    columns = []
    for column in zip(*flat, strict=True):
        arrays = [np.asarray(array_of(x)) for x in column]
        stacked = np.stack(arrays)
        columns.append(constant(stacked) if isinstance(column[0], Node) else stacked)
    return rebuild(columns)
