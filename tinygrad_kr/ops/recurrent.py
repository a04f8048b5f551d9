"""Recurrent nets: one record for a whole sequence, so that its cost is linear in the steps.

The caller computes z = x W_ih^T + b, one product for all steps. The loop here adds h W_hh^T. Time
is the first axis: z (steps, batch, gates x hidden), a state (batch, hidden), `weight`
(gates x hidden, hidden). A result holds, for every step, the states and the other arrays that the
derivative reads, as planes along a first axis.

mask: (steps, batch, 1) booleans. Where it is False, the sequence has ended or has not begun, and
    the state does not change.
reverse: run from the last step to the first.
"""

from __future__ import annotations

from functools import wraps
from itertools import pairwise
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops import kernels
from tinygrad_kr.ops.elementwise import tanh, where_or_zero
from tinygrad_kr.ops.op import Op, op
from tinygrad_kr.ops.products import gemm
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
    """The cotangent of `weight` in z_t + h_{t-1} weight^T: one product for all steps but one."""
    found = gemm((dz[-1] if reverse else dz[0]).mT, first)
    if len(dz) == 1:
        return found
    after, before = (dz[:-1], states[1:]) if reverse else (dz[1:], states[:-1])
    return found + gemm(_rows(after).mT, _rows(before))


def _rows(x: Any) -> Any:
    """(steps, batch, n) as (steps x batch, n)."""
    return x.reshape(x.shape[0] * x.shape[1], x.shape[2])


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


def _rnn_slopes(
    g: Any,
    y: Any,
    weight: Any,
    nonlinearity: str = "tanh",
    mask: ndarray | None = None,
    reverse: bool = False,
) -> list[Any]:
    """dz_t = (g_t + dz_{t+1} W) * f'(h_t), from the last step back to the first; dh."""
    states, given = unbind(y), unbind(g)
    dh: Any = 0.0
    slopes = list(states)
    for t, _ in _moves(len(states), reverse):
        inside, past = _shares(dh + given[t], mask, t)
        h = states[t]
        slopes[t] = inside * (1 - h * h) if nonlinearity == "tanh" else where_or_zero(inside, h)
        dh = slopes[t] @ weight + past
    return [stack(*slopes), dh]


def _rnn_vjp(
    g: Any,
    y: Any,
    z: Any,
    first: Any,
    weight: Any,
    needs: tuple[bool, ...],
    reverse: bool = False,
    **params: Any,
) -> list[Any]:
    dz, dh = _at_once(rnn_vjp, _rnn_slopes, g, y, weight, reverse=reverse, **params)
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
    projection: ndarray | None = None,
    *,
    mask: ndarray | None = None,
    reverse: bool = False,
) -> ndarray:
    """c_t = f c_{t-1} + i a, h_t = o tanh(c_t); i, f, o = sigmoid and a = tanh of z_t + h W^T.

    The planes h, c, i, f, a, o: (6, steps, batch, hidden). All gates come from one tanh, since
    sigmoid(x) = tanh(x / 2) / 2 + 1 / 2.
    projection: (state, hidden), state <= hidden: h_t = projection (o tanh(c_t)). `weight` has
        `state` columns then, and zeros follow h in its plane.
    """
    scale, shift = _SCALE[z.dtype], _SHIFT[z.dtype]
    y = np.empty((6, *z.shape[:2], c.shape[1]), z.dtype)
    state = weight.shape[1]
    y[0, :, :, state:] = 0
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
        new = o * np.tanh(cell)
        h = _held(new if projection is None else new.dot(projection.T), h, mask, t)
        y[0, t, :, :state], y[1, t] = h, c
    return y


def _lstm_slopes(
    g: Any,
    y: Any,
    c0: Any,
    weight: Any,
    projection: Any = None,
    mask: ndarray | None = None,
    reverse: bool = False,
) -> list[Any]:
    """Back through time; sigmoid' = s (1 - s) and tanh' = (1 + a) (1 - a) are one expression.

    dz, dh and dc; with a projection also the cotangents of its results, (steps, batch, state).
    """
    h_given, c_given = unbind(_states(g, weight, projection)), unbind(g[1])
    given = unbind(g[2:], 1)
    cells, all_gates = unbind(y[1]), unbind(y[2:], 1)
    one = _ONE_FOR_TANH[y.dtype]
    dh: Any = 0.0
    dc: Any = 0.0
    slopes, projected = list(cells), list(cells)
    for t, before in _moves(len(cells), reverse):
        gates, squashed = all_gates[t], tanh(cells[t])
        i, f, a, o = unbind(gates)
        inside, past = _shares(dh + h_given[t], mask, t)
        c_inside, c_past = _shares(dc + c_given[t], mask, t)
        projected[t] = inside
        if projection is not None:
            inside = inside @ projection
        c_inside = c_inside + inside * o * (1 - squashed * squashed)
        c = c0 if before is None else cells[before]
        d = stack(c_inside * a, c_inside * c, c_inside * i, inside * squashed) + given[t]
        d = d * ((gates + one) * (1 - gates))
        slopes[t] = d.transpose(1, 0, 2).reshape(d.shape[1], weight.shape[0])
        dh = slopes[t] @ weight + past
        dc = c_inside * f + c_past
    found = [stack(*slopes), dh, dc]
    return found if projection is None else [*found, stack(*projected)]


def _states(y: Any, weight: Any, projection: Any) -> Any:
    """The states h of all steps."""
    return y[0] if projection is None else y[0][:, :, : weight.shape[1]]


def _lstm_vjp(
    g: Any,
    y: Any,
    z: Any,
    h0: Any,
    c0: Any,
    weight: Any,
    projection: Any = None,
    *,
    needs: tuple[bool, ...],
    mask: ndarray | None = None,
    reverse: bool = False,
) -> list[Any]:
    inputs = [g, y, c0, weight]
    if projection is not None:
        inputs.append(projection)
    dz, dh, dc, *projected = _at_once(lstm_vjp, _lstm_slopes, *inputs, mask=mask, reverse=reverse)
    states = _states(y, weight, projection)
    found = [dz, dh, dc, _product_vjp(dz, states, h0, reverse) if needs[3] else None]
    if projected:
        unprojected = _rows(y[5] * tanh(y[1]))
        found.append(gemm(_rows(projected[0]).mT, unprojected) if needs[4] else None)
    return found


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


def _gru_slopes(
    g: Any,
    y: Any,
    h0: Any,
    weight: Any,
    mask: ndarray | None = None,
    reverse: bool = False,
) -> list[Any]:
    """Back through time; z and m share the cotangents of r and u, and differ in that of n.

    dz, dm and dh.
    """
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
    return [stack(*of_z), stack(*of_m), dh]


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
    dz, dm, dh = _at_once(gru_vjp, _gru_slopes, g, y, h0, weight, mask=mask, reverse=reverse)
    found = [dz, dh, _product_vjp(dm, y[0], h0, reverse) if needs[2] else None]
    return [*found, dm.sum(axis=(0, 1))] if bias else found


# ------------------------------------------------------------------ in C


def _at_once(whole: Op, slopes: Any, *inputs: Any, **params: Any) -> list[Any]:
    """The cotangents of `slopes`: by one op, but where they are differentiated themselves."""
    if kernels.is_composed(*inputs):
        found: list[Any] = slopes(*inputs, **params)
        return found
    return kernels.split(whole(*inputs, **params), slope_shapes(whole, *inputs))


def slope_shapes(whole: Op, *inputs: Any) -> list[tuple[int, ...]]:
    """The shapes of the cotangents that lie one after the other in the result of `rnn_vjp`, ...

    inputs: those of the op. After the cotangents of z, and of the gates' products of a GRU, come
    those of h, and of an LSTM c and what a projection gives.
    """
    steps, batch, hidden = inputs[1].shape[-3:]
    weight = inputs[2 if whole is rnn_vjp else 3]
    of_z, of_h = (steps, batch, weight.shape[0]), (batch, weight.shape[1])
    if whole is rnn_vjp:
        return [of_z, of_h]
    if whole is gru_vjp:
        return [of_z, of_z, of_h]
    projected = [(steps, *of_h)] * (len(inputs) > 4 and inputs[4] is not None)
    return [of_z, of_h, (batch, hidden), *projected]


def _flat(slopes: Any) -> Any:
    """A function that computes the cotangents of `slopes` as one array."""

    @wraps(slopes)
    def forward(*inputs: Any, **params: Any) -> ndarray:
        return kernels.flattened(slopes(*inputs, **params))

    return forward


_KINDS = {"tanh": 0, "relu": 1, "lstm": 2, "gru": 3}
_GATES = {"tanh": 1, "relu": 1, "lstm": 4, "gru": 3}
_PLANES: dict[str, tuple[int, ...]] = {"tanh": (), "relu": (), "lstm": (6,), "gru": (5,)}
_MIN_WORK = 2**16
"""Threshold: multiply-adds of all steps from which the kernel is built and called."""


class _Sequence:
    """The sizes and arrays of a whole sequence, for the kernels of `recurrent.h`.

    sizes: steps, batch, hidden, and columns of a state.
    """

    def __init__(
        self,
        kind: str,
        sizes: tuple[int, int, int, int],
        arrays: dict[str, ndarray],
        mask: ndarray | None,
        reverse: bool,
    ) -> None:
        self.kind = _KINDS[kind]
        self.steps, self.batch, self.hidden, self.state = sizes
        self.gates = _GATES[kind] * self.hidden
        self.arrays = {name: kernels.dense(x) for name, x in arrays.items()}
        self.mask = None if mask is None else kernels.dense(mask)
        self.reverse = int(reverse)

    def run(self, function: Any, **outputs: int) -> None:
        """Call a kernel, with the addresses of its results."""
        at = {**{name: kernels.place(x) for name, x in self.arrays.items()}, **outputs}
        given = [self.kind, self.steps, self.batch, self.hidden, self.state, self.reverse]
        given += [at.get(name, 0) for name in ("z", "h", "c", "weight", "projection", "bias", "g")]
        given.append(kernels.place(self.mask))
        given += [at.get(name, 0) for name in ("y", "dz", "dm", "dh", "dc", "projected")]
        work = self.steps * self.batch * self.gates * self.state
        step = max(_MIN_ROWS, -(-self.batch // kernels.threads()))
        kernels.run(function, given, -(-self.batch // step), work, step)


_MIN_ROWS = 4
"""Threshold: rows of the batch that are worth another thread's reading of the weights."""


def _fits(sizes: tuple[int, int, int, int], mask: Any, kind: str, arrays: dict[str, Any]) -> bool:
    """Whether the kernel computes arrays of these shapes."""
    steps, batch, hidden, state = sizes
    gates = _GATES[kind] * hidden
    shapes = {"weight": (gates, state), "h": (batch, state), "c": (batch, hidden)}
    shapes["projection"] = (state, hidden)
    if any(x.shape != shapes.get(name, x.shape) for name, x in arrays.items()):
        return False
    if ("projection" not in arrays and state != hidden) or state > hidden:
        return False
    if steps * batch * gates * state < _MIN_WORK:
        return False
    return mask is None or (
        type(mask) is ndarray and mask.dtype == bool and mask.shape == (steps, batch, 1)
    )


def _scan_in_c(kind: str, z: Any, mask: Any, reverse: bool, **given: Any) -> ndarray | None:
    """The states of all steps, or None for NumPy. given: the other arrays, by their names in C."""
    arrays = {"z": z} | {name: x for name, x in given.items() if x is not None}
    weight = given["weight"]
    hidden = len(weight) // _GATES[kind]
    if z.ndim != 3 or z.shape[2] != len(weight):
        return None
    sizes = (*z.shape[:2], hidden, weight.shape[1])
    if not _fits(sizes, mask, kind, arrays):
        return None
    found = kernels.kernels("recurrent", *arrays.values())
    if found is None:
        return None
    y = np.empty((*_PLANES[kind], *sizes[:3]), z.dtype)
    _Sequence(kind, sizes, arrays, mask, reverse).run(found.sequence, y=kernels.place(y))
    return y


def _slopes_in_c(
    kind: str, g: Any, y: Any, mask: Any, reverse: bool, **given: Any
) -> ndarray | None:
    """The cotangents of `_slopes` in one array, or None for NumPy."""
    arrays = {"g": g, "y": y} | {name: x for name, x in given.items() if x is not None}
    steps, batch, hidden = y.shape[-3:]
    sizes = (steps, batch, hidden, given["weight"].shape[1])
    if not _fits(sizes, mask, kind, arrays) or g.shape != y.shape:
        return None
    found = kernels.kernels("recurrent", *arrays.values())
    if found is None:
        return None
    s = _Sequence(kind, sizes, arrays, mask, reverse)
    lengths = {"dz": steps * batch * s.gates, "dm": 0, "dh": batch * s.state, "dc": 0}
    lengths["dm"] = lengths["dz"] * (kind == "gru")
    lengths["dc"] = batch * hidden * (kind == "lstm")
    lengths["projected"] = steps * batch * s.state * ("projection" in arrays)
    flat, at = np.empty(sum(lengths.values()), y.dtype), {}
    start = kernels.place(flat)
    for name, length in lengths.items():
        at[name] = start if length else 0
        start += length * flat.itemsize
    s.run(found.sequence_vjp, **at)
    return flat


def _rnn_scan_in_c(
    z: Any,
    h: Any,
    weight: Any,
    *,
    nonlinearity: str = "tanh",
    mask: Any = None,
    reverse: bool = False,
) -> ndarray | None:
    return _scan_in_c(nonlinearity, z, mask, reverse, h=h, weight=weight)


def _rnn_vjp_in_c(
    g: Any,
    y: Any,
    weight: Any,
    *,
    nonlinearity: str = "tanh",
    mask: Any = None,
    reverse: bool = False,
) -> ndarray | None:
    return _slopes_in_c(nonlinearity, g, y, mask, reverse, weight=weight)


def _lstm_scan_in_c(
    z: Any,
    h: Any,
    c: Any,
    weight: Any,
    projection: Any = None,
    *,
    mask: Any = None,
    reverse: bool = False,
) -> ndarray | None:
    return _scan_in_c("lstm", z, mask, reverse, h=h, c=c, weight=weight, projection=projection)


def _lstm_vjp_in_c(
    g: Any,
    y: Any,
    c0: Any,
    weight: Any,
    projection: Any = None,
    *,
    mask: Any = None,
    reverse: bool = False,
) -> ndarray | None:
    return _slopes_in_c("lstm", g, y, mask, reverse, c=c0, weight=weight, projection=projection)


def _gru_scan_in_c(
    z: Any, h: Any, weight: Any, bias: Any = None, *, mask: Any = None, reverse: bool = False
) -> ndarray | None:
    return _scan_in_c("gru", z, mask, reverse, h=h, weight=weight, bias=bias)


def _gru_vjp_in_c(
    g: Any, y: Any, h0: Any, weight: Any, *, mask: Any = None, reverse: bool = False
) -> ndarray | None:
    return _slopes_in_c("gru", g, y, mask, reverse, h=h0, weight=weight)


# fmt: off
rnn_scan: Op  = op(_rnn_scan,  _rnn_vjp,  one_rule_for_all=True, kernel=_rnn_scan_in_c)
lstm_scan: Op = op(_lstm_scan, _lstm_vjp, one_rule_for_all=True, kernel=_lstm_scan_in_c)
gru_scan: Op  = op(_gru_scan,  _gru_vjp,  one_rule_for_all=True, kernel=_gru_scan_in_c)
rnn_vjp: Op   = op(_flat(_rnn_slopes),  name="rnn_vjp",  kernel=_rnn_vjp_in_c)
lstm_vjp: Op  = op(_flat(_lstm_slopes), name="lstm_vjp", kernel=_lstm_vjp_in_c)
gru_vjp: Op   = op(_flat(_gru_slopes),  name="gru_vjp",  kernel=_gru_vjp_in_c)
# fmt: on
