"""Recurrent layers over whole sequences, and the loss of a sequence of labels.

A layer function computes one direction of one layer. Shapes: input (steps, batch, features), states
(batch, hidden), weights as in PyTorch with the gates stacked along axis 0. It returns the states of
all steps (steps, batch, hidden), then the last of each state.

mask: (steps, batch, 1) booleans, False after the end of a sequence, where its state is kept.
reverse: run from the last step to the first; the last state is then that of step 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_kr.arrays.indexing import array_of, peek
from tinygrad_kr.functional.checks import integers, refuse_outside
from tinygrad_kr.ops import network
from tinygrad_kr.ops.elementwise import where, where_or_zero
from tinygrad_kr.ops.linalg import linear
from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.recurrent import gru_scan, lstm_scan, rnn_scan

# ------------------------------------------------------------------ layers


def rnn(
    input: Any,
    h: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    *,
    nonlinearity: str = "tanh",
    mask: Any = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), or relu. Source: Elman (1990)."""
    bias = None if bias_ih is None else bias_ih + bias_hh
    states = rnn_scan(
        _projected(input, weight_ih, bias),
        h,
        weight_hh,
        nonlinearity=nonlinearity,
        mask=mask,
        reverse=reverse,
    )
    return states, states[_last(reverse)]


def lstm(
    input: Any,
    h: Any,
    c: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    projection: Any = None,
    *,
    mask: Any = None,
    reverse: bool = False,
) -> tuple[Any, Any, Any]:
    """c_t = f c_{t-1} + i a and h_t = o tanh(c_t): a memory cell with three gates.

    i, f, o = sigmoid and a = tanh of W_ih x_t + b_ih + W_hh h_{t-1} + b_hh, gates in PyTorch's
    order
    i, f, a, o. Sources: Hochreiter and Schmidhuber (1997), Gers et al. (2000).
    projection: (state, hidden), h_t = projection (o tanh(c_t)): Sak et al. (2014).
    """
    bias = None if bias_ih is None else bias_ih + bias_hh
    inputs = [_projected(input, weight_ih, bias), h, c, weight_hh]
    if projection is not None:
        inputs.append(projection)
    planes = lstm_scan(*inputs, mask=mask, reverse=reverse)
    states, last = planes[0], _last(reverse)
    if projection is not None:
        states = states[:, :, : len(projection)]
    return states, states[last], planes[1, last]


def gru(
    input: Any,
    h: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    *,
    mask: Any = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """h_t = (1 - u) n + u h_{t-1}: one state with a reset and an update gate.

    r, u = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh) and
    n = tanh(W_in x_t + b_in + r (W_hn h_{t-1} + b_hn)), in PyTorch's order r, u, n.
    Source: Cho et al. (2014), with the reset gate after the product, as in PyTorch.
    """
    hidden_bias = () if bias_hh is None else (bias_hh,)
    z = _projected(input, weight_ih, bias_ih)
    states = gru_scan(z, h, weight_hh, *hidden_bias, mask=mask, reverse=reverse)[0]
    return states, states[_last(reverse)]


def _projected(input: Any, weight: Any, bias: Any) -> Any:
    """W x + b of every step, in one product."""
    steps, batch, features = input.shape
    rows = linear(
        input.reshape(steps * batch, features), weight, *(() if bias is None else (bias,))
    )
    return rows.reshape(steps, batch, weight.shape[0])


def _last(reverse: bool) -> int:
    return 0 if reverse else -1


def hold_out(input: Any, mask: Any) -> Any:
    """Exact zeros where `mask` is False, whatever the input holds there (NaN too)."""
    return where_or_zero(input, mask)


def length_mask(lengths: Any, steps: int, batch: int, name: str) -> np.ndarray:
    """(steps, batch) booleans: True for the first `lengths[n]` steps of sequence n.

    Raises TypeError for lengths that are not integers, ValueError unless there is one length in
    [1, steps] per sequence.
    """
    numbers = integers(peek(lengths), f"{name}: lengths")
    if numbers.shape != (batch,):
        raise ValueError(
            f"{name}: expected lengths of shape {(batch,)}, one per sequence, got {numbers.shape}."
        )
    if numbers.size and not 1 <= numbers.min() <= numbers.max() <= steps:
        wrong = numbers[(numbers < 1) | (numbers > steps)][0]
        raise ValueError(
            f"{name}: expected lengths in [1, {steps}], the number of steps, got {wrong}."
        )
    mask: np.ndarray = np.arange(steps)[:, None] < numbers
    return mask


# ------------------------------------------------------------------ the loss of a sequence


def sequence_loss(
    logits: Any,
    targets: Any,
    weights: Any = None,
    *,
    lengths: Any = None,
    batch_first: bool = True,
    reduction: str = "mean",
) -> Any:
    """Cross-entropy at every step, averaged with weights: sum(w loss) / sum(w).

    logits: (batch, steps, classes). targets: integer labels (batch, steps).
    weights: (batch, steps), the weight w of each step. Default: 1. A step of weight 0 is padding:
        it may hold any logits and target, unless the weights require grad.
    lengths: instead of weights: how many steps of each sequence count, (batch,). Targets beyond may
        have any value.
    batch_first: False for (steps, batch, ...), the default output of an RNN.
    reduction: "mean", "sum" (of w loss) or "none" (w loss, of the targets' shape).

    Raises ValueError for shapes that do not fit or weights that are all 0, IndexError for a label
    out
    of range. Source: `sequence_loss` of TensorFlow's seq2seq, used in the lectures.

    >>> F.sequence_loss(tk.zeros(1, 3, 2), np.array([[1, 0, 1]]), lengths=np.array([2])).item()
    0.693...
    """
    labels = integers(targets, "sequence_loss: targets")
    if logits.ndim != 3 or logits.shape[:2] != labels.shape:
        raise ValueError(
            "sequence_loss: expected logits (batch, steps, classes) and targets (batch, steps), "
            f"got {logits.shape} and {labels.shape}."
        )
    counted = _step_weights(weights, lengths, labels.shape, batch_first, logits.dtype)
    counts_at_all = peek(counted) != 0
    trained = isinstance(weights, Node) and weights._requires_grad  # its gradient is the loss
    if not trained and not counts_at_all.all():
        targets = where(counts_at_all, targets if isinstance(targets, Node) else labels, 0)
        logits = where_or_zero(logits, counts_at_all[:, :, None])
        labels = array_of(targets)
    refuse_outside(labels, logits.shape[2], "sequence_loss: label")
    chosen = targets if isinstance(targets, Node) else labels
    loss = network.cross_entropy(logits, chosen, axis=2) * counted
    if reduction == "none":
        return loss
    if reduction not in ("mean", "sum"):
        raise ValueError(
            f'sequence_loss: expected reduction "mean", "sum" or "none", got {reduction!r}.'
        )
    if reduction == "sum":
        return loss.sum()
    if not counts_at_all.any():
        raise ValueError("sequence_loss: expected a step with a weight for the mean, got none.")
    return loss.sum() / counted.sum()


def _step_weights(
    weights: Any, lengths: Any, shape: tuple[int, ...], batch_first: bool, dtype: Any
) -> Any:
    if weights is not None and lengths is not None:
        raise ValueError("sequence_loss: expected weights or lengths, got both.")
    if lengths is not None:
        batch, steps = shape if batch_first else shape[::-1]
        mask = length_mask(lengths, steps, batch, "sequence_loss")
        return (mask.T if batch_first else mask).astype(dtype)
    if weights is None:
        return np.ones(shape, dtype)
    if np.shape(weights._data if isinstance(weights, Node) else weights) != shape:
        raise ValueError(
            f"sequence_loss: expected weights of shape {shape}, one per target, got "
            f"{np.shape(weights)}."
        )
    return weights if isinstance(weights, Node) else np.asarray(weights, dtype)
