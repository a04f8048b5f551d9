"""The loss of connectionist temporal classification: one record for all steps of all sequences.

Let l' be a sequence's labels with a blank before, between and after, and y_t the log-probabilities.
A state s = 0 ... 2S is a place in l'. In the logarithms of sums of probabilities,

    a_t(s) = y_t(l'_s) + logsumexp(a_{t-1}(s), a_{t-1}(s - 1), a_{t-1}(s - 2)),
    b_t(s) = logsumexp(y + b at t + 1 of the states s, s + 1, s + 2),
    loss = -logsumexp(a_T(2S), a_T(2S - 1)),
    dloss / dy_t(k) = -sum of exp(a_t(s) + b_t(s) + loss) over the states with l'_s = k,

where two states further counts only if that is no blank, and another label than this one. The
gradient of the gradient is that of these formulas, composed of ops.
Source: Graves et al., Connectionist temporal classification (2006).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops import kernels
from tinygrad_kr.ops.elementwise import exp, where
from tinygrad_kr.ops.indexing import take_along_axis
from tinygrad_kr.ops.linalg import matmul
from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.op import Op, astype, in_float32, op
from tinygrad_kr.ops.reduction import concatenate, logsumexp_
from tinygrad_kr.ops.shape import stack, swapaxes, unbind

# ------------------------------------------------------------------ sequences


def _spaced(labels: Any, blank: int) -> Any:
    """The labels (N, S) with blanks around them: (N, 2S + 1)."""
    batch, most = labels.shape
    pairs = stack(labels, labels * 0 + blank, axis=2).reshape((batch, 2 * most))
    return concatenate(np.full((batch, 1), blank, np.int64), pairs, axis=1)


def _skips(spaced: Any, blank: int) -> Any:
    """Whether each state may follow the one two before it."""
    batch, width = spaced.shape
    none = np.zeros((batch, min(width, 2)), bool)
    if width < 3:
        return none
    return concatenate(none, (spaced[:, 2:] != spaced[:, :-2]) & (spaced[:, 2:] != blank), axis=1)


def _scores(x: Any, spaced: Any) -> list[Any]:
    """The log-probabilities of the states at each step: (N, 2S + 1) each."""
    index = spaced[None] + np.zeros((x.shape[0], 1, 1), np.int64)
    indices = index._data if isinstance(index, Node) else index
    return list(unbind(take_along_axis(x, indices=indices, axis=2)))


def _is_end(counts: Any, width: int) -> Any:
    """Whether a sequence may end in each state: the last label and the blank after it."""
    ends = 2 * counts.reshape((counts.shape[0], 1))
    place = np.arange(width)
    return (place == ends) | (place == ends - 1)


def _paths(states: Any, skipped: Any) -> Any:
    """logsumexp of three states: each, its neighbour, and the one beyond where that counts."""
    return logsumexp_(stack(*states[:2], where(skipped, states[2], -math.inf), axis=0), axis=0)


def _forward(scores: list[Any], skips: Any, steps: Any) -> list[Any]:
    """a_t of each step; those of a sequence that has ended stay."""
    batch, width = scores[0].shape
    none = np.full((batch, 2), -math.inf, scores[0].dtype)
    found = [where(np.arange(width) < 2, scores[0], -math.inf)]
    for t in range(1, len(scores)):
        before = concatenate(none, found[-1], axis=1)
        new = scores[t] + _paths([before[:, 2:], before[:, 1:-1], before[:, :-2]], skips)
        found.append(where(steps.reshape((batch, 1)) > t, new, found[-1]))
    return found


def _backward(scores: list[Any], skips: Any, steps: Any, ends: Any) -> list[Any]:
    """b_t of each step; those from a sequence's last step on are those of its end."""
    batch, dtype = len(scores[0]), scores[0].dtype
    none = np.full((batch, 2), -math.inf, dtype)
    skipped = concatenate(skips, np.zeros((batch, 2), bool), axis=1)[:, 2:]
    found = [where(ends, np.zeros(scores[0].shape, dtype), -math.inf)]
    for t in range(len(scores) - 1, 0, -1):
        after = concatenate(scores[t] + found[-1], none, axis=1)
        new = _paths([after[:, :-2], after[:, 1:-1], after[:, 2:]], skipped)
        found.append(where(steps.reshape((batch, 1)) > t, new, found[-1]))
    return found[::-1]


def _loss(last: Any, ends: Any, steps: Any, counts: Any) -> Any:
    """The loss of each sequence. Without steps it is 0 if there are no labels, else infinite."""
    loss = -logsumexp_(where(ends, last, -math.inf), axis=1)
    return where(steps > 0, loss, where(counts > 0, math.inf, 0.0))


def _slopes(g: Any, x: Any, labels: Any, steps: Any, counts: Any, *, blank: int) -> Any:
    """-g times the shares of the states, by class. Impossible labels have a gradient of zero."""
    spaced = _spaced(labels, blank)
    skips, scores = _skips(spaced, blank), _scores(x, spaced)
    ends = _is_end(counts, spaced.shape[1])
    forward, backward = _forward(scores, skips, steps), _backward(scores, skips, steps, ends)
    loss = _loss(forward[-1], ends, steps, counts)
    finite = where(loss == math.inf, 0.0, loss).reshape((x.shape[1], 1))
    sums = [a + b + finite for a, b in zip(forward, backward, strict=True)]
    inside = np.arange(x.shape[0]).reshape(x.shape[0], 1, 1) < steps.reshape((x.shape[1], 1))
    shares = where(inside, exp(stack(*sums, axis=0)), 0.0) * -g.reshape((x.shape[1], 1))
    named = spaced.reshape((*spaced.shape, 1)) == np.arange(x.shape[2])
    by_class = matmul(swapaxes(shares, axis1=0, axis2=1), astype(named, dtype=x.dtype))
    return swapaxes(by_class, axis1=0, axis2=1)


def composed_ctc(x: Any, labels: Any, steps: Any, counts: Any, *, blank: int) -> Any:
    """What `ctc` computes, by other ops."""
    spaced = _spaced(labels, blank)
    states = _forward(_scores(x, spaced), _skips(spaced, blank), steps)
    return _loss(states[-1], _is_end(counts, spaced.shape[1]), steps, counts)


# ------------------------------------------------------------------ the record


@in_float32
def _ctc(x: ndarray, labels: ndarray, steps: ndarray, counts: ndarray, *, blank: int) -> Any:
    """-log of the probability of each sequence's labels: (N,).

    x: log-probabilities (steps, N, classes). labels: (N, S), padded with any class.
    steps, counts: the numbers of steps and of labels of each sequence, (N,).
    """
    return composed_ctc(x, labels, steps, counts, blank=blank).astype(x.dtype, copy=False)


@in_float32
def _ctc_slopes(
    g: ndarray, x: ndarray, labels: ndarray, steps: ndarray, counts: ndarray, *, blank: int
) -> Any:
    found: ndarray = _slopes(g, x, labels, steps, counts, blank=blank)
    return np.ascontiguousarray(found, x.dtype)


def _ctc_vjp(g: Any, x: Any, *sequences: Any, blank: int) -> Any:
    if kernels.is_composed(g, x):
        return _slopes(g, x, *sequences, blank=blank)
    return ctc_vjp(g, x, *sequences, blank=blank)


# ------------------------------------------------------------------ in C

_MIN_WORK = 2**16
"""Threshold: multiply-adds, or as costly steps, from which the kernel is built and called."""
_PER_STATE = 64
"""What a step of one state costs: three exponentials and a logarithm; multiply-adds."""


def _in_c(name: str, blank: int, arrays: tuple[Any, ...], y: Any) -> ndarray | None:
    """Fill `y()` by a function of `ctc.h`; None for NumPy."""
    x, labels, steps, counts, *g = arrays
    floats, integers = (x, *g), (labels, steps, counts)
    if any(type(n) is not ndarray for n in integers) or x.ndim != 3:
        return None
    most = labels.shape[1]
    work = x.shape[0] * x.shape[1] * (2 * most + 1) * _PER_STATE
    if work < _MIN_WORK or (found := kernels.kernels("ctc", *floats)) is None:
        return None
    whole = [kernels.dense(n.astype(np.int64, copy=False)) for n in integers]
    dense = [kernels.dense(a) for a in floats]
    out: ndarray = y()
    places = map(kernels.place, (dense[0], *whole, dense[1] if g else None, out))
    given = [*x.shape, most, blank, *places]
    return out if kernels.run(getattr(found, name), given, x.shape[1], work) else None


def _ctc_in_c(x: Any, labels: Any, steps: Any, counts: Any, *, blank: int) -> ndarray | None:
    arrays = (x, labels, steps, counts)
    return _in_c("ctc", blank, arrays, lambda: np.empty(x.shape[1], x.dtype))


def _ctc_vjp_in_c(
    g: Any, x: Any, labels: Any, steps: Any, counts: Any, *, blank: int
) -> ndarray | None:
    arrays = (x, labels, steps, counts, g)
    return _in_c("ctc_vjp", blank, arrays, lambda: np.zeros(x.shape, x.dtype))


# fmt: off
ctc: Op = op(_ctc, lambda g, y, x, *sequences, blank: _ctc_vjp(g, x, *sequences, blank=blank),
             kernel=_ctc_in_c)
ctc_vjp: Op = op(_ctc_slopes, name="ctc_vjp", kernel=_ctc_vjp_in_c)
# fmt: on
