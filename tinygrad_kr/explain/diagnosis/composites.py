"""Functions that are written as several ops, such as `1 / (1 + exp(-x))`: known by their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from tinygrad_kr.nn.parameter import Parameter
from tinygrad_kr.ops.node import Node

POINTWISE = {
    "absolute", "add", "astype", "clip", "divide", "exp", "expm1", "log", "log1p", "maximum",
    "minimum", "multiply", "negative", "positive", "power", "reciprocal", "relu", "sigmoid", "sign",
    "softplus", "sqrt", "square", "subtract", "tanh", "where", "where_or_zero",
    "celu", "elu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "logsigmoid", "mish",
    "silu",
}  # fmt: skip
"""Ops that compute each element from the elements in its place."""
MOST_PARTS = 16
"""Limit: ops of one function."""
SAMPLE = 4096
"""Limit: elements that are compared."""
WIDE = 0.05
"""Threshold: largest input from which a sigmoid or tanh differs from other smooth functions."""


def _sigmoid(x: ndarray) -> ndarray:
    y: ndarray = 1 / (1 + np.exp(-x))
    return y


BROKEN_LINES: dict[str, Callable[[ndarray], ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hardtanh": lambda x: np.clip(x, -1, 1),
}
CURVES: dict[str, Callable[[ndarray], ndarray]] = {"sigmoid": _sigmoid, "tanh": np.tanh}


class Composite(NamedTuple):
    """A function of one value. parts: its ops, the last one first."""

    name: str
    source: Node
    parts: list[Node]


def composites(nodes: list[Node], consumers: dict[int, list[Node]]) -> dict[int, Composite]:
    """The known functions that pointwise ops compute together, by the id of the last op."""
    found: dict[int, Composite] = {}
    inside: set[int] = set()
    for node in reversed(nodes):
        if node._op is None or node._op.__name__ not in POINTWISE or id(node) in inside:
            continue
        if node._op.__name__ in CURVES or node._op.__name__ == "relu":
            continue
        whole = _parts(node)
        if whole is None or _is_read_beside(whole, consumers):
            continue
        source, parts = whole
        name = _name(source._data, node._data)
        if name:
            found[id(node)] = Composite(name, source, parts)
            inside.update(map(id, parts))
    return found


def _parts(last: Node) -> tuple[Node, list[Node]] | None:
    """The one node that pointwise ops start from, and these ops; None where there are several."""
    source, parts = None, [last]
    for part in parts:  # grows during the loop
        for x in part._inputs or ():
            if not isinstance(x, Node) or (x._op is None and not isinstance(x, Parameter)):
                continue
            if isinstance(x, Parameter) and x._data.size > 1:
                return None
            if x._op is None or any(x is known for known in parts):
                continue
            if x._op.__name__ in POINTWISE and not _adds_a_bias(x):
                parts.append(x)
            elif source is None or source is x:
                source = x
            else:
                return None
        if len(parts) > MOST_PARTS:
            return None
    return None if source is None else (source, parts)


def _adds_a_bias(node: Node) -> bool:
    return any(isinstance(x, Parameter) and x._data.size > 1 for x in node._inputs or ())


def _is_read_beside(whole: tuple[Node, list[Node]], consumers: dict[int, list[Node]]) -> bool:
    """Whether another pointwise op reads the same value, as in `x * sigmoid(x)`."""
    source, parts = whole
    known = set(map(id, parts))
    return any(
        id(user) not in known and user._op.__name__ in POINTWISE
        for user in consumers.get(id(source), ())
    )


def _name(x: ndarray, y: ndarray) -> str:
    """The function that gives `y` from `x`; empty where it is none of the known ones."""
    if x.shape != y.shape or not x.size or x.dtype.kind != "f" or y.dtype.kind != "f":
        return ""
    step = -(-x.size // SAMPLE)
    a, b = x.ravel()[::step].astype(np.float64), y.ravel()[::step].astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return ""
    for name, line in BROKEN_LINES.items():
        if (a != b).any() and np.allclose(b, line(a), rtol=1e-6, atol=0):
            return name
    if np.abs(a).max() < WIDE:
        return ""
    eps = float(np.finfo(y.dtype).eps)
    curves = CURVES.items()
    return next((n for n, f in curves if np.allclose(b, f(a), rtol=8 * eps, atol=4 * eps)), "")
