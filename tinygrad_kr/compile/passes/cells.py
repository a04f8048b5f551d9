"""Recurrent nets of a single step, such as the cells of a Python loop, expanded to simpler ops.

The formulas are those of `ops/recurrent.py` for one step without a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinygrad_kr.compile.ir.builder import Builder
from tinygrad_kr.compile.ir.program import Instruction, Value
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops import linalg, recurrent, shape
from tinygrad_kr.ops.indexing import getitem
from tinygrad_kr.ops.reduction import concatenate


def _plane(b: Builder, x: Value, k: int) -> Value:
    """Plane k of (planes, 1, batch, hidden)."""
    return b(getitem, x, key=(k, 0))


def _planes(b: Builder, parts: Sequence[Value]) -> Value:
    """Arrays (batch, hidden) as (planes, 1, batch, hidden)."""
    stacked = b(shape.stack, *parts, axis=0)
    return b(shape.reshape, stacked, shape=(len(parts), 1, *parts[0].shape))


def _flat(b: Builder, *parts: Value) -> Value:
    """All elements of the arrays in one axis."""
    rows = [b(shape.reshape, part, shape=(part.size,)) for part in parts]
    return b(concatenate, *rows, axis=0)


def _gate(b: Builder, x: Value, k: int, hidden: int) -> Value:
    """Gate k of (batch, gates x hidden)."""
    return b(getitem, x, key=(slice(None), slice(k * hidden, (k + 1) * hidden)))


def _sums(b: Builder, z: Value, h: Value, weight: Value) -> tuple[Value, Value]:
    """z of the step and h W^T: (batch, gates x hidden)."""
    step = b(shape.reshape, z, shape=z.shape[1:])
    return step, b(linalg.matmul, h, b(shape.swapaxes, weight, axis1=-1, axis2=-2))


def _times_rest(b: Builder, x: Value, y: Value, *, of_tanh: bool = False) -> Value:
    """x times the derivative of a sigmoid, y (1 - y), or of a tanh, (1 + y) (1 - y)."""
    scale = b(e.add, y, 1.0) if of_tanh else y
    return b(e.multiply, x, b(e.multiply, scale, b(e.subtract, 1.0, y)))


def _rnn(
    b: Builder, z: Value, h: Value, weight: Value, *, nonlinearity: str = "tanh", **_: Any
) -> Value:
    step, product = _sums(b, z, h, weight)
    squash = e.tanh if nonlinearity == "tanh" else e.relu
    y = b(squash, b(e.add, product, step))
    return b(shape.reshape, y, shape=(1, *y.shape))


def _rnn_vjp(
    b: Builder, g: Value, y: Value, weight: Value, *, nonlinearity: str = "tanh", **_: Any
) -> Value:
    given, state = (b(shape.reshape, x, shape=x.shape[1:]) for x in (g, y))
    if nonlinearity == "tanh":
        slope = b(e.multiply, given, b(e.subtract, 1.0, b(e.multiply, state, state)))
    else:
        slope = b(e.where_or_zero, given, state)
    return _flat(b, slope, b(linalg.matmul, slope, weight))


def _lstm(b: Builder, z: Value, h: Value, c: Value, weight: Value, **_: Any) -> Value:
    total = b(e.add, *_sums(b, z, h, weight)[::-1])
    kinds = (e.sigmoid, e.sigmoid, e.tanh, e.sigmoid)
    gates = [b(kind, _gate(b, total, k, c.shape[1])) for k, kind in enumerate(kinds)]
    i, f, a, o = gates
    cell = b(e.add, b(e.multiply, f, c), b(e.multiply, i, a))
    return _planes(b, [b(e.multiply, o, b(e.tanh, cell)), cell, *gates])


def _lstm_vjp(b: Builder, g: Value, y: Value, c0: Value, weight: Value, **_: Any) -> Value:
    inside, of_cell, *given = (_plane(b, g, k) for k in range(6))
    cell, i, f, a, o = (_plane(b, y, k) for k in range(1, 6))
    squashed = b(e.tanh, cell)
    rest = b(e.subtract, 1.0, b(e.multiply, squashed, squashed))
    dc = b(e.add, of_cell, b(e.multiply, b(e.multiply, inside, o), rest))
    pairs = [(dc, a), (dc, c0), (dc, i), (inside, squashed)]
    slopes = [
        _times_rest(b, b(e.add, b(e.multiply, *pair), own), gate, of_tanh=gate is a)
        for pair, own, gate in zip(pairs, given, (i, f, a, o), strict=True)
    ]
    dz = b(concatenate, *slopes, axis=1)
    return _flat(b, dz, b(linalg.matmul, dz, weight), b(e.multiply, dc, f))


def _gru(
    b: Builder, z: Value, h: Value, weight: Value, bias: Value | None = None, **_: Any
) -> Value:
    step, m = _sums(b, z, h, weight)
    m = m if bias is None else b(e.add, m, bias)
    of_z, of_m = ([_gate(b, x, k, h.shape[1]) for k in range(3)] for x in (step, m))
    r, u = (b(e.sigmoid, b(e.add, of_m[k], of_z[k])) for k in range(2))
    n = b(e.tanh, b(e.add, b(e.multiply, r, of_m[2]), of_z[2]))
    state = b(e.add, n, b(e.multiply, u, b(e.subtract, h, n)))
    return _planes(b, [state, r, u, n, of_m[2]])


def _gru_vjp(b: Builder, g: Value, y: Value, h0: Value, weight: Value, **_: Any) -> Value:
    inside, gr, gu, gn, gm = (_plane(b, g, k) for k in range(5))
    r, u, n, m = (_plane(b, y, k) for k in range(1, 5))
    passed = b(e.multiply, inside, b(e.subtract, 1.0, u))
    rest = b(e.subtract, 1.0, b(e.multiply, n, n))
    dn = b(e.multiply, b(e.add, passed, gn), rest)
    apart = b(e.multiply, inside, b(e.subtract, h0, n))
    du = _times_rest(b, b(e.add, apart, gu), u)
    dr = _times_rest(b, b(e.add, b(e.multiply, dn, m), gr), r)
    dz = b(concatenate, dr, du, dn, axis=1)
    dm = b(concatenate, dr, du, b(e.add, b(e.multiply, dn, r), gm), axis=1)
    dh = b(e.add, b(e.multiply, inside, u), b(linalg.matmul, dm, weight))
    return _flat(b, dz, dm, dh)


CELLS: dict[Any, Callable[..., Value]] = {
    recurrent.rnn_scan: _rnn,
    recurrent.rnn_vjp: _rnn_vjp,
    recurrent.lstm_scan: _lstm,
    recurrent.lstm_vjp: _lstm_vjp,
    recurrent.gru_scan: _gru,
    recurrent.gru_vjp: _gru_vjp,
}


def is_cell(instruction: Instruction) -> bool:
    """Whether a recurrent op is a single step, without a mask or a projection."""
    op, first = instruction.op, instruction.inputs[0]
    if op not in CELLS or instruction.params.get("mask") is not None:
        return False
    if op in (recurrent.lstm_scan, recurrent.lstm_vjp) and len(instruction.inputs) > 4:
        return False
    steps = first.shape[-3] if isinstance(first, Value) else 0
    dtypes = {x.dtype for x in instruction.inputs if isinstance(x, Value)}
    return steps == 1 and len(dtypes) == 1
