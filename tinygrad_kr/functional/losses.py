"""Losses: how far predictions are from targets, of one shape with them; nothing broadcasts.

Every `reduction` is "mean", "sum" or "none" (a loss per element, or per sample for class labels);
anything else raises ValueError. The mean of an empty batch raises
ValueError too; its sum is 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_kr.functional.checks import integers, refuse_outside
from tinygrad_kr.ops import network
from tinygrad_kr.ops.elementwise import absolute, exp, log, square, where
from tinygrad_kr.ops.node import Node
from tinygrad_kr.ops.op import astype
from tinygrad_kr.ops.reduction import mean_, sum_
from tinygrad_kr.ops.tracing import tracing

# ------------------------------------------------------------------ what all losses share


def _reduced(loss: Any, reduction: str) -> Any:
    if reduction == "mean":
        if not loss.size:
            raise ValueError(network.EMPTY_MEAN)
        return mean_(loss)
    if reduction == "sum":
        return sum_(loss)
    if reduction == "none":
        return loss
    raise ValueError(_unknown(reduction))


def _known(reduction: str) -> str:
    if reduction not in {"mean", "sum", "none"}:
        raise ValueError(_unknown(reduction))
    return reduction


def _unknown(reduction: str, more: str = "") -> str:
    return f'reduction is "mean", "sum"{more} or "none", not {reduction!r}'


def _shape(x: Any) -> tuple[int, ...]:
    return x._data.shape if isinstance(x, Node) else np.shape(x)


def _same_shape(name: str, input: Any, target: Any) -> None:
    nodes = isinstance(input, Node) and isinstance(target, Node)
    if nodes and input._data.shape == target._data.shape:
        return
    if _shape(input) != _shape(target):
        raise ValueError(_mismatch(name, _shape(input), _shape(target)))


def _mismatch(name: str, input: tuple[int, ...], target: tuple[int, ...]) -> str:
    message = f"{name}: input {input} and target {target} must have one shape"
    try:
        both = np.broadcast_shapes(input, target)
    except ValueError:
        return f"{message}."
    message += f" (as they are, they would be broadcast to {both})"
    if math.prod(input) == math.prod(target):
        return f"{message}. Write target.reshape{input} if they belong together one to one."
    axis = next(a for a in range(-1, -len(both) - 1, -1) if input[a:][:1] != target[a:][:1])
    sizes = [shape[axis] if len(shape) >= -axis else "no" for shape in (input, target)]
    return (
        f"{message}. Axis {axis} has {sizes[0]} entries in the input and {sizes[1]} in the target: "
        "look for a wrong number of outputs, or a bias that widened them."
    )


def _like(constant: Any, input: Any) -> Any:
    """A constant in the input's dtype: a float64 target does not widen a float32 net's loss."""
    dtype = input._data.dtype if isinstance(input, Node) else input.dtype
    if isinstance(constant, Node) and constant._data.dtype is dtype:
        return constant
    if constant is None or dtype.kind != "f":
        return constant
    if isinstance(constant, Node):
        same = constant._requires_grad or constant._data.dtype == dtype
        return constant if same else astype(constant, dtype=input.dtype)
    return np.asarray(constant).astype(input.dtype, copy=False)


# ------------------------------------------------------------------ regression


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """(input - target)^2."""
    _same_shape("mse_loss", input, target)
    return _reduced(square(input - _like(target, input)), reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """|input - target|, with slope 0 at 0."""
    _same_shape("l1_loss", input, target)
    return _reduced(absolute(input - _like(target, input)), reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Any:
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), of d = input - target.

    Source: Huber, Robust estimation of a location parameter (1964).
    """
    _same_shape("huber_loss", input, target)
    if not delta > 0:
        raise ValueError(f"huber_loss: delta must be above 0, not {delta}")
    return _reduced(_huber(input - _like(target, input), delta), reduction)


def _huber(difference: Any, delta: float) -> Any:
    size = absolute(difference)
    near = size <= delta
    return where(near, 0.5 * square(where(near, difference, 0.0)), delta * (size - 0.5 * delta))


def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Any:
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2: the Huber loss over beta.

    beta 0 is the l1 loss.
    """
    _same_shape("smooth_l1_loss", input, target)
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative, but is {beta}")
    difference = input - _like(target, input)
    return _reduced(_huber(difference, beta) / beta if beta else absolute(difference), reduction)


# ------------------------------------------------------------------ probabilities of two outcomes


def binary_cross_entropy(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean"
) -> Any:
    """-(t log p + (1 - t) log(1 - p)) for probabilities p, each log at least -100 (as in PyTorch).

    weight: a factor per element, or of a shape that broadcasts to it. ValueError for a p outside
    [0, 1]: of a linear output take `binary_cross_entropy_with_logits`.
    """
    _same_shape("binary_cross_entropy", input, target)
    loss = network.bce(input, _like(target, input))
    return _reduced(loss if weight is None else loss * _like(weight, loss), reduction)


def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: Any = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Any:
    """The cross-entropy of p = sigmoid(x): -(w t log p + (1 - t) log(1 - p)), exact in both tails.

    weight: a factor per element. pos_weight: w, what a positive answer counts, per class.
    Computed as w t softplus(-x) + (1 - t) softplus(x), in which nothing cancels.
    """
    _same_shape("binary_cross_entropy_with_logits", input, target)
    target = _like(target, input)
    logits: tuple[Any, ...] = (input, target)
    if pos_weight is not None:
        logits = (input, target * _like(pos_weight, input), 1 - target)
    if weight is None:
        return network.bce_with_logits(*logits, reduction=_known(reduction))
    loss = network.bce_with_logits(*logits)
    return _reduced(loss * _like(weight, loss), reduction)


# ------------------------------------------------------------------ classes


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """-log softmax(input)[target]: classes on axis 1 of `input`, (N, C), (N, C, d1, ...) or (C,).

    target: integer labels, of `input`'s shape without the classes, or probabilities, of its shape.
    weight: a factor per class. "mean" divides by the sum of the labels' weights (for probabilities
        by the number of samples).
    ignore_index: a label that counts for nothing.
    label_smoothing: the share of each label that is spread evenly over all classes, in [0, 1].

    Raises IndexError for a label out of range, TypeError for labels that are floats, ValueError for
    shapes that do not fit.
    """
    axis = _class_axis("cross_entropy", input)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing lies in [0, 1], not {label_smoothing}")
    weight = _like(weight, input)
    factors = _per_class("cross_entropy", weight, input, axis)
    if _shape(target) == input.shape:
        return _soft_labels(input, target, axis, factors, reduction, label_smoothing)
    labels, ignored = _labels("cross_entropy", input, target, axis, ignore_index)
    counts = None if weight is None else weight[labels]
    loss = network.cross_entropy(input, labels, axis=axis)
    loss = _over_labels(loss if counts is None else loss * counts, counts, ignored, reduction)
    if not label_smoothing:
        return loss
    log_p = network.log_softmax(input, axis=axis)
    spread = -(log_p if factors is None else log_p * factors).sum(axis=axis)
    spread = _over_labels(spread, counts, ignored, reduction)
    return (1 - label_smoothing) * loss + (label_smoothing / input.shape[axis]) * spread


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Any:
    """-input[target] for log-probabilities `input`: `cross_entropy` after `log_softmax`.

    Shapes, weight, ignore_index and errors as in `cross_entropy`; targets are labels only.
    """
    axis = _class_axis("nll_loss", input)
    weight = _like(weight, input)
    _per_class("nll_loss", weight, input, axis)
    labels, ignored = _labels("nll_loss", input, target, axis, ignore_index)
    counts = None if weight is None else weight[labels]
    loss = -network.gather_labels(input, labels, axis=axis)
    return _over_labels(loss if counts is None else loss * counts, counts, ignored, reduction)


def _floats(name: str, input: Any) -> None:
    if input.dtype.kind != "f":
        raise TypeError(f"{name}: input of {input.dtype}{input.shape}, but {network.FLOAT_SCORES}")


def _class_axis(name: str, input: Any) -> int:
    _floats(name, input)
    if not input.ndim or not input.shape[min(input.ndim - 1, 1)]:
        raise ValueError(f"{name}: input (C,), (N, C) or (N, C, ...) wanted, not {input.shape}")
    return 0 if input.ndim == 1 else 1


def _per_class(name: str, weight: Any, input: Any, axis: int) -> Any:
    """The weights of the classes, to multiply `input` by."""
    if weight is None:
        return None
    if _shape(weight) != (input.shape[axis],):
        raise ValueError(
            f"{name}: weight has one factor for each of {input.shape[axis]} classes, not shape "
            f"{_shape(weight)}"
        )
    return weight.reshape(-1, *[1] * (input.ndim - axis - 1))


def _soft_labels(
    input: Any, target: Any, axis: int, factors: Any, reduction: str, smoothing: float
) -> Any:
    """The cross-entropy of target probabilities."""
    if target.dtype.kind != "f":
        raise TypeError(
            f"cross_entropy: a target of the input's shape {input.shape} holds probabilities, "
            f"which are floats, not {target.dtype}; convert with .astype(np.float32), or give "
            f"labels of shape {input.shape[:axis] + input.shape[axis + 1 :]}"
        )
    target = _like(target, input)
    if smoothing:
        target = target * (1 - smoothing) + smoothing / input.shape[axis]
    if factors is not None:
        target = target * factors
    loss = -(network.log_softmax(input, axis=axis) * target).sum(axis=axis)
    return _reduced(loss, reduction)


def _labels(name: str, input: Any, target: Any, axis: int, ignore_index: int) -> tuple[Any, Any]:
    """Checked labels, 0 for those ignored, and where these are (None for nowhere)."""
    wanted = input.shape[:axis] + input.shape[axis + 1 :]
    if _shape(target) != wanted:
        soft = f" or probabilities of shape {input.shape}" if name == "cross_entropy" else ""
        raise ValueError(
            f"{name}: labels of shape {_shape(target)} for input {input.shape}; give integers of "
            f"shape {wanted}{soft}"
        )
    labels = integers(target, f"{name}: labels")
    classes = input.shape[axis]
    target = target if isinstance(target, Node) else labels
    outside = bool(labels.size) and not 0 <= labels.min() <= labels.max() < classes
    if not outside and not 0 <= ignore_index < classes and tracing() is None:
        return target, None
    ignored = target == ignore_index
    refuse_outside(labels, classes, f"{name}: label", ignore_index)
    return where(ignored, 0, target), ignored


def _over_labels(loss: Any, counts: Any, ignored: Any, reduction: str) -> Any:
    """Reduced, without what is ignored; the mean is over what the labels count."""
    if ignored is not None:
        loss = where(ignored, 0.0, loss)
    if reduction != "mean" or (counts is None and ignored is None) or not loss.size:
        return _reduced(loss, reduction)
    if counts is None:
        counts = astype(~ignored, dtype=loss.dtype)
    elif ignored is not None:
        counts = where(ignored, 0.0, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return loss.sum() / counts.sum()


# ------------------------------------------------------------------ distributions


def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Any:
    """Kullback-Leibler divergence t (log t - x) of log-probabilities x from probabilities t.

    log_target: `target` holds logarithms too. reduction: also "batchmean", the sum divided by the
    size of the first axis, which is the divergence as defined; "mean" averages over elements.
    """
    _same_shape("kl_div", input, target)
    target = _like(target, input)
    if log_target:
        loss = exp(target) * (target - input)
    else:
        loss = target * (log(where(target == 0, 1.0, target)) - input)
    if reduction == "batchmean":
        if not loss.size:
            raise ValueError(network.EMPTY_MEAN)
        return loss.sum() / loss.shape[0]
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(_unknown(reduction, ', "batchmean"'))
    return _reduced(loss, reduction)
