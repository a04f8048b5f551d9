"""Recurrent nets: one record for a whole sequence, so that its cost is linear in the steps.

The caller computes z = x W_ih^T + b, one product for all steps. The loop here adds h W_hh^T. Time
is
the first axis: z (steps, batch, gates x hidden), a state (batch, hidden), `weight` (gates x hidden,
hidden). A result holds, for every step, the states and the other arrays that the derivative reads,
as planes along a first axis.

mask: (steps, batch, 1) booleans. Where it is False, the sequence has ended or has not begun, and
    the state does not change.
reverse: run from the last step to the first.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.elementwise import tanh, where_or_zero
from tinygrad_kr.ops.op import Op, op
from tinygrad_kr.ops.reduction import concatenate
from tinygrad_kr.ops.shape import stack, unbind

# ------------------------------------------------------------------ shared helpers


def _order(steps: int, reverse: bool) -> range:
    """The steps in the order of the recurrence."""
    return range(steps)[:: -1 if reverse else 1]


def _moves(steps: int, reverse: bool) -> list[tuple[int, int | None]]:
    """Each step and its predecessor (None at the start), in reverse order of the recurrence."""
    order = _order(steps, reverse)
    return [(t, before) for before, t in pairwise([None, *order]) if t is not None][::-1]


def _held(x: ndarray, before: ndarray, mask: ndarray | None, t: int) -> Any:
    return x if mask is None else np.where(mask[t], x, before)


def _shares(g: Any, mask: ndarray | None, t: int) -> tuple[Any, Any]:
    """The parts of a state's cotangent that go through the cell and past it."""
    if mask is None:
        return g, 0.0
    return where_or_zero(g, mask[t]), where_or_zero(g, ~mask[t])


def _product_vjp(dz: Any, states: Any, first: Any, reverse: bool) -> Any:
    """The cotangent of `weight` in z_t + h_{t-1} weight^T, as one product over all steps."""
    parts = [states[1:], first[None]] if reverse else [first[None], states[:-1]]
    before = concatenate(*parts, axis=0)
    return dz.reshape(-1, dz.shape[-1]).mT @ before.reshape(-1, before.shape[-1])


def _by_gates(x: Any, gates: int) -> Any:
    """(batch, gates x hidden) as planes (gates, batch, hidden)."""
    return x.reshape(len(x), gates, x.shape[1] // gates).transpose(1, 0, 2)


# ------------------------------------------------------------------ one gate: Elman's net


def _rnn_scan(
    z: ndarray,
    h: ndarray,
    weight: ndarray,
    *,
    nonlinearity: str = "tanh",
    mask: ndarray | None = None,
    reverse: bool = False,
) -> ndarray:
    """h_t = tanh(z_t + h_{t-1} W^T), or relu: (steps, batch, hidden)."""
    y = np.empty((*z.shape[:2], len(weight)), z.dtype)
    for t in _order(len(z), reverse):
        new = h.dot(weight.T)
        new += z[t]
        if nonlinearity == "tanh":
            np.tanh(new, out=new)
        else:
            np.maximum(new, 0, out=new)
        y[t] = h = _held(new, h, mask, t)
    return y


def _rnn_vjp(
    g: Any,
    y: Any,
    z: Any,
    first: Any,
    weight: Any,
    needs: tuple[bool, ...],
    nonlinearity: str = "tanh",
    mask: ndarray | None = None,
    reverse: bool = False,
) -> list[Any]:
    """dz_t = (g_t + dz_{t+1} W) * f'(h_t), from the last step back to the first."""
    states, given = unbind(y), unbind(g)
    dh: Any = 0.0
    slopes = list(states)
    for t, _ in _moves(len(states), reverse):
        inside, past = _shares(dh + given[t], mask, t)
        h = states[t]
        slopes[t] = inside * (1 - h * h) if nonlinearity == "tanh" else where_or_zero(inside, h)
        dh = slopes[t] @ weight + past
    dz = stack(*slopes)
    return [dz, dh, _product_vjp(dz, y, first, reverse) if needs[2] else None]


# ------------------------------------------------------------------ four gates: LSTM

_SCALE = {np.dtype(t): np.array([0.5, 0.5, 1, 0.5], t)[:, None, None] for t in "efd"}
_SHIFT = {np.dtype(t): np.array([0.5, 0.5, 0, 0.5], t)[:, None, None] for t in "efd"}
_ONE_FOR_TANH = {np.dtype(t): np.array([0, 0, 1, 0], t)[:, None, None] for t in "efd"}


def _lstm_scan(
    z: ndarray,
    h: ndarray,
    c: ndarray,
    weight: ndarray,
    *,
    mask: ndarray | None = None,
    reverse: bool = False,
) -> ndarray:
    """c_t = f c_{t-1} + i a, h_t = o tanh(c_t); i, f, o = sigmoid and a = tanh of z_t + h W^T.

    The planes h, c, i, f, a, o: (6, steps, batch, hidden). All gates come from one tanh, since
    sigmoid(x) = tanh(x / 2) / 2 + 1 / 2.
    """
    scale, shift = _SCALE[z.dtype], _SHIFT[z.dtype]
    y = np.empty((6, *z.shape[:2], weight.shape[1]), z.dtype)
    for t in _order(len(z), reverse):
        new = h.dot(weight.T)
        new += z[t]
        gates = y[2:, t]
        np.multiply(_by_gates(new, 4), scale, out=gates)
        np.tanh(gates, out=gates)
        gates *= scale
        gates += shift
        i, f, a, o = gates
        cell = f * c
        cell += i * a
        c = _held(cell, c, mask, t)
        h = _held(o * np.tanh(cell), h, mask, t)
        y[0, t], y[1, t] = h, c
    return y


def _lstm_vjp(
    g: Any,
    y: Any,
    z: Any,
    h0: Any,
    c0: Any,
    weight: Any,
    needs: tuple[bool, ...],
    mask: ndarray | None = None,
    reverse: bool = False,
) -> list[Any]:
    """Back through time; sigmoid' = s (1 - s) and tanh' = (1 + a) (1 - a) are one expression."""
    h_given, c_given, given = unbind(g[0]), unbind(g[1]), unbind(g[2:], 1)
    cells, all_gates = unbind(y[1]), unbind(y[2:], 1)
    one = _ONE_FOR_TANH[z.dtype]
    dh: Any = 0.0
    dc: Any = 0.0
    slopes = list(cells)
    for t, before in _moves(len(cells), reverse):
        gates, squashed = all_gates[t], tanh(cells[t])
        i, f, a, o = unbind(gates)
        inside, past = _shares(dh + h_given[t], mask, t)
        c_inside, c_past = _shares(dc + c_given[t], mask, t)
        c_inside = c_inside + inside * o * (1 - squashed * squashed)
        c = c0 if before is None else cells[before]
        d = stack(c_inside * a, c_inside * c, c_inside * i, inside * squashed) + given[t]
        d = d * ((gates + one) * (1 - gates))
        slopes[t] = d.transpose(1, 0, 2).reshape(z.shape[1:])
        dh = slopes[t] @ weight + past
        dc = c_inside * f + c_past
    dz = stack(*slopes)
    return [dz, dh, dc, _product_vjp(dz, y[0], h0, reverse) if needs[3] else None]


# ------------------------------------------------------------------ three gates: GRU


def _gru_scan(
    z: ndarray,
    h: ndarray,
    weight: ndarray,
    bias: ndarray | None = None,
    *,
    mask: ndarray | None = None,
    reverse: bool = False,
) -> ndarray:
    """h_t = (1 - u) n + u h_{t-1}; r, u = sigmoid(z_t + m), n = tanh(z_t + r m), m = h W^T + b.

    The planes h, r, u, n and n's m: (5, steps, batch, hidden).
    """
    hidden = weight.shape[1]
    y = np.empty((5, *z.shape[:2], hidden), z.dtype)
    for t in _order(len(z), reverse):
        m = h.dot(weight.T)
        if bias is not None:
            m += bias
        y[4, t] = m[:, 2 * hidden :]
        gates, n = y[1:3, t], y[3, t]
        np.add(_by_gates(m[:, : 2 * hidden], 2), _by_gates(z[t, :, : 2 * hidden], 2), out=gates)
        gates *= 0.5
        np.tanh(gates, out=gates)
        gates *= 0.5
        gates += 0.5
        r, u = gates
        np.multiply(r, y[4, t], out=n)
        n += z[t, :, 2 * hidden :]
        np.tanh(n, out=n)
        y[0, t] = h = _held(n + u * (h - n), h, mask, t)
    return y


def _gru_vjp(
    g: Any,
    y: Any,
    z: Any,
    h0: Any,
    weight: Any,
    *bias: Any,
    needs: tuple[bool, ...],
    mask: ndarray | None = None,
    reverse: bool = False,
) -> list[Any]:
    """Back through time; z and m share the cotangents of r and u, and differ in that of n."""
    states, all_planes = unbind(y[0]), unbind(y[1:], 1)
    h_given, given = unbind(g[0]), unbind(g[1:], 1)
    dh: Any = 0.0
    of_z, of_m = list(states), list(states)
    for t, before in _moves(len(states), reverse):
        r, u, n, m = unbind(all_planes[t])
        gr, gu, gn, gm = unbind(given[t])
        h = h0 if before is None else states[before]
        inside, past = _shares(dh + h_given[t], mask, t)
        dn = (inside * (1 - u) + gn) * (1 - n * n)
        du = (inside * (h - n) + gu) * u * (1 - u)
        dr = (dn * m + gr) * r * (1 - r)
        of_z[t] = concatenate(dr, du, dn, axis=1)
        of_m[t] = concatenate(dr, du, dn * r + gm, axis=1)
        dh = inside * u + of_m[t] @ weight + past
    dm = stack(*of_m)
    slope = _product_vjp(dm, y[0], h0, reverse) if needs[2] else None
    found = [stack(*of_z), dh, slope]
    return [*found, dm.sum(axis=(0, 1))] if bias else found


# fmt: off
rnn_scan: Op  = op(_rnn_scan,  _rnn_vjp,  one_rule_for_all=True)
lstm_scan: Op = op(_lstm_scan, _lstm_vjp, one_rule_for_all=True)
gru_scan: Op  = op(_gru_scan,  _gru_vjp,  one_rule_for_all=True)
# fmt: on
