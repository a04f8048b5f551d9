"""Losses: the distance of predictions from targets. Both have one shape; nothing broadcasts.

Every `reduction` is "mean", "sum" or "none" (one loss per element, or per sample for labels). Any
other raises ValueError. The mean of an empty batch raises ValueError as well; its sum is 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_kr.arrays.indexing import detach
from tinygrad_kr.functional.checks import integers, refuse_outside
from tinygrad_kr.ops import network
from tinygrad_kr.ops.elementwise import (
    absolute,
    exp,
    log,
    maximum,
    square,
    where,
    where_or_zero,
)
from tinygrad_kr.ops.node import Node, constant
from tinygrad_kr.ops.op import astype, refuse_masked
from tinygrad_kr.ops.reduction import mean_, sum_
from tinygrad_kr.ops.tracing import tracing

# ------------------------------------------------------------------ shapes and reductions


def _reduced(name: str, loss: Any, reduction: str) -> Any:
    if reduction == "mean":
        if not loss.size:
            raise ValueError(f"{name}: {network.EMPTY_MEAN}")
        return mean_(loss)
    if reduction == "sum":
        return sum_(loss)
    if reduction == "none":
        return loss
    raise ValueError(_unknown(name, reduction))


def _known(name: str, reduction: str) -> str:
    if reduction not in {"mean", "sum", "none"}:
        raise ValueError(_unknown(name, reduction))
    return reduction


def _unknown(name: str, reduction: str, more: str = "") -> str:
    return f'{name}: expected reduction "mean", "sum"{more} or "none", got {reduction!r}.'


def _shape(x: Any) -> tuple[int, ...]:
    return x._data.shape if isinstance(x, Node) else np.shape(x)


def _check(name: str, input: Any, target: Any) -> None:
    """Raise TypeError for an input of integers, ValueError for two shapes."""
    if isinstance(input, Node) and isinstance(target, Node):
        x = input._data
        if x.shape == target._data.shape and x.dtype.kind == "f":
            return
    _floats(name, input)
    _one_shape(name, input, target)


def _check_broadcast(name: str, input: Any, target: Any) -> None:
    """As `_check`, but shapes may broadcast, unless one has more axes and both become larger."""
    _floats(name, input)
    shapes = _shape(input), _shape(target)
    if shapes[0] == shapes[1]:
        return
    try:
        both = np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(_mismatch(name, *shapes)) from None
    if both not in shapes and len(shapes[0]) != len(shapes[1]):
        raise ValueError(_mismatch(name, *shapes))


def _one_shape(name: str, input: Any, *others: Any) -> None:
    for other in others:
        if _shape(input) != _shape(other):
            raise ValueError(_mismatch(name, _shape(input), _shape(other)))


def _mismatch(name: str, input: tuple[int, ...], target: tuple[int, ...]) -> str:
    message = f"{name}: expected input and target of one shape, got {input} and {target}"
    try:
        both = np.broadcast_shapes(input, target)
    except ValueError:
        return f"{message}."
    message += f" (which would broadcast to {both})"
    if math.prod(input) == math.prod(target):
        return f"{message}. Write target.reshape{input} if their elements correspond."
    axis = next(a for a in range(-1, -len(both) - 1, -1) if input[a:][:1] != target[a:][:1])
    sizes = [shape[axis] if len(shape) >= -axis else "no" for shape in (input, target)]
    return (
        f"{message}. Axis {axis} has {sizes[0]} entries in the input and {sizes[1]} in the target: "
        "check the number of outputs, and biases that widen them."
    )


def _like(constant: Any, input: Any) -> Any:
    """A constant in the input's dtype: a float64 target does not widen a float32 loss."""
    dtype = input._data.dtype if isinstance(input, Node) else input.dtype
    if isinstance(constant, Node) and constant._data.dtype is dtype:
        return constant
    if constant is None or dtype.kind != "f":
        return constant
    if isinstance(constant, Node):
        same = constant._requires_grad or constant._data.dtype == dtype
        return constant if same else astype(constant, dtype=input.dtype)
    refuse_masked(constant, "loss")
    return np.asarray(constant).astype(input.dtype, copy=False)


# ------------------------------------------------------------------ regression


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """The mean squared error: the mean of (input - target)^2.

    input, target: one shape. reduction: "mean" over all elements, "sum", or "none" for the input's
    shape. The result has the input's dtype; its gradient is 2 (input - target) / n for "mean".

    Raises TypeError for an input of integers, ValueError for different shapes, an unknown
    reduction, or the mean of no elements.

    >>> F.mse_loss(tk.tensor([1.0, 2.0]), tk.tensor([1.0, 4.0]))
    Tensor(2.)
    """
    _check("mse_loss", input, target)
    return _reduced("mse_loss", square(input - _like(target, input)), reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """The mean absolute error: the mean of |input - target|.

    input, target: one shape. reduction: "mean" over all elements, "sum", or "none" for the input's
    shape. The result has the input's dtype. The slope at input = target is 0.

    Raises TypeError for an input of integers, ValueError for different shapes, an unknown
    reduction, or the mean of no elements.

    >>> F.l1_loss(tk.tensor([1.0, 2.0]), tk.tensor([1.0, 4.0]))
    Tensor(1.)
    """
    _check("l1_loss", input, target)
    return _reduced("l1_loss", absolute(input - _like(target, input)), reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Any:
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), for d = input - target.

    input, target: one shape. delta: above 0. reduction: "mean" over all elements, "sum", or "none"
    for the input's shape. The slope is d, clipped to [-delta, delta].

    Raises TypeError for an input of integers, ValueError for different shapes, delta <= 0, an
    unknown reduction, or the mean of no elements.
    Source: Huber, Robust estimation of a location parameter (1964).

    >>> F.huber_loss(tk.tensor([0.5, 3.0]), tk.tensor([0.0, 0.0]), reduction="none")
    Tensor([0.125, 2.5  ])
    """
    _check("huber_loss", input, target)
    if not delta > 0:
        raise ValueError(f"huber_loss: expected delta > 0, got {delta}.")
    return _reduced("huber_loss", _huber(input - _like(target, input), delta), reduction)


def _huber(difference: Any, delta: float) -> Any:
    size = absolute(difference)
    near = size <= delta
    return where(near, 0.5 * square(where(near, difference, 0.0)), delta * (size - 0.5 * delta))


def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Any:
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, for d = input - target.

    The Huber loss divided by beta. beta 0 is the l1 loss.
    input, target: one shape. reduction: "mean" over all elements, "sum", or "none" for the input's
    shape.

    Raises TypeError for an input of integers, ValueError for different shapes, beta < 0, an unknown
    reduction, or the mean of no elements.
    Source: Girshick, Fast R-CNN (2015).

    >>> F.smooth_l1_loss(tk.tensor([0.5, 3.0]), tk.tensor([0.0, 0.0]), reduction="none")
    Tensor([0.125, 2.5  ])
    """
    _check("smooth_l1_loss", input, target)
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: expected beta >= 0, got {beta}.")
    difference = input - _like(target, input)
    return _reduced(
        "smooth_l1_loss",
        _huber(difference, beta) / beta if beta else absolute(difference),
        reduction,
    )


def poisson_nll_loss(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Any:
    """exp(x) - t x: -log of the Poisson probability of counts t with mean exp(x), without log t!.

    input, target: one shape. log_input: False takes the mean x itself: x - t log(x + eps).
    full: add Stirling's approximation of log t!, t log t - t + log(2 pi t) / 2, where t > 1.
    reduction: "mean" over all elements, "sum", or "none" for the input's shape.

    Raises ValueError for different shapes, an unknown reduction, or the mean of no elements.
    Source: PyTorch, `torch.nn.functional.poisson_nll_loss`.

    >>> F.poisson_nll_loss(tk.tensor([0.0, 0.0]), tk.tensor([1.0, 3.0]), reduction="none")
    Tensor([1., 1.])
    """
    _one_shape("poisson_nll_loss", input, target)
    target = _like(target, input)
    loss = exp(input) - target * input if log_input else input - target * log(input + eps)
    if full:
        counts = where(target > 1, target, 1.0)
        stirling = counts * log(counts) - counts + 0.5 * log(2 * math.pi * counts)
        loss = loss + where(target > 1, stirling, 0.0)
    return _reduced("poisson_nll_loss", loss, reduction)


def gaussian_nll_loss(
    input: Any,
    target: Any,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Any:
    """-log of a normal density: (log v + (input - target)^2 / v) / 2 for v = max(var, eps).

    input, target: one shape. var: the input's shape, that shape with one axis of size 1 or without
    the last one, or a number; at least 0. full: add log(2 pi) / 2.
    reduction: "mean" over all elements, "sum", or "none" for the input's shape.

    The derivative by `var` is taken at v, also where var < eps, so that such a variance can grow.

    Raises TypeError for an input of integers; ValueError for a negative variance, shapes that do
    not fit, an unknown reduction, or the mean of no elements.
    Source: Nix and Weigend, Estimating the mean and variance of the target probability
    distribution (1994).

    >>> mean, t, var = tk.tensor([0.0, 0.0]), tk.tensor([2.0, 2.0]), tk.tensor([1.0, 4.0])
    >>> F.gaussian_nll_loss(mean, t, var, reduction="none").numpy().round(4)
    array([2.    , 1.1931], dtype=float32)
    """
    _check("gaussian_nll_loss", input, target)
    var = _variances(var, input)
    raised = detach(maximum(var, eps) - var)
    v = var + raised
    loss = 0.5 * (log(v) + square(input - _like(target, input)) / v)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return _reduced("gaussian_nll_loss", loss, reduction)


def _variances(var: Any, input: Any) -> Any:
    """Checked variances in a shape that broadcasts to that of `input`."""
    if isinstance(var, int | float):
        var = np.asarray(var, input.dtype)
    var = _like(var, input)
    _refuse_negative(var._data if isinstance(var, Node) else var)
    shape, given = input.shape, var.shape
    if given == shape[:-1] and shape:
        return var.reshape((*given, 1))
    unequal = [size for size, own in zip(given, shape, strict=False) if size != own]
    if given and given != shape and (len(given) != len(shape) or unequal != [1]):
        raise ValueError(
            f"gaussian_nll_loss: expected var of shape {shape}, of {shape[:-1]}, or with one axis "
            f"of size 1, got {given}."
        )
    return var


def _refuse_negative(var: Any) -> None:
    if tracer := tracing():
        tracer.check(_refuse_negative, var)
    if (var < 0).any():
        raise ValueError(f"gaussian_nll_loss: expected var >= 0, got {np.nanmin(var)}.")


# ------------------------------------------------------------------ probabilities of two outcomes


def binary_cross_entropy(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean"
) -> Any:
    """-(t log p + (1 - t) log(1 - p)) for probabilities p and targets t.

    Each logarithm is at least -100, as in PyTorch.
    input, target: one shape, p and t in it. weight: a factor per element, or a shape that
        broadcasts.
    reduction: "mean" over all elements, "sum", or "none" for the input's shape.

    Raises ValueError for p outside [0, 1] (use `binary_cross_entropy_with_logits` for logits), and
    for different shapes, an unknown reduction, or the mean of no elements. Raises TypeError for an
    input of integers.

    >>> F.binary_cross_entropy(tk.tensor([0.5, 0.5]), tk.tensor([1.0, 0.0])).item()
    0.693...
    """
    _check("binary_cross_entropy", input, target)
    loss = network.bce(input, _like(target, input))
    return _reduced(
        "binary_cross_entropy", loss if weight is None else loss * _like(weight, loss), reduction
    )


def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: Any = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Any:
    """-(w t log p + (1 - t) log(1 - p)) for p = sigmoid(x), exact in both tails.

    Computed as w t softplus(-x) + (1 - t) softplus(x), in which nothing cancels. For w = 1 the
    gradient is p - t.
    input, target: one shape. weight: a factor per element.
    pos_weight: w, the weight of positive targets, per class.
    reduction: "mean" over all elements, "sum", or "none" for the input's shape.

    Raises TypeError for an input of integers, ValueError for different shapes, an unknown
    reduction, or the mean of no elements.

    >>> x, t = tk.tensor([0.0, 20.0]), tk.tensor([1.0, 0.0])
    >>> F.binary_cross_entropy_with_logits(x, t, reduction="none").numpy().round(4)
    array([ 0.6931, 20.    ], dtype=float32)
    """
    _check("binary_cross_entropy_with_logits", input, target)
    target = _like(target, input)
    logits: tuple[Any, ...] = (input, target)
    if pos_weight is not None:
        logits = (input, target * _like(pos_weight, input), 1 - target)
    if weight is None:
        return network.bce_with_logits(
            *logits, reduction=_known("binary_cross_entropy_with_logits", reduction)
        )
    loss = network.bce_with_logits(*logits)
    return _reduced("binary_cross_entropy_with_logits", loss * _like(weight, loss), reduction)


def multilabel_soft_margin_loss(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean"
) -> Any:
    """-(t log p + (1 - t) log(1 - p)), p = sigmoid(x), averaged over the classes of a sample.

    input, target: logits (N, C) or (C,), and targets of that shape: each class is a question of its
        own. weight: a factor per class, or per element.
    reduction: "mean" over the samples, "sum", or "none" for (N,) or a number.

    Raises TypeError for an input of integers; ValueError for different shapes, a number, an unknown
    reduction, or the mean of no samples.
    Source: PyTorch, `torch.nn.functional.multilabel_soft_margin_loss`.

    >>> x, t = tk.tensor([[0.0, 20.0]]), tk.tensor([[1.0, 1.0]])
    >>> F.multilabel_soft_margin_loss(x, t).item()
    0.346...
    """
    _check("multilabel_soft_margin_loss", input, target)
    if not input.ndim:
        raise ValueError(
            "multilabel_soft_margin_loss: expected input with an axis of classes, got a number."
        )
    loss = network.bce_with_logits(input, _like(target, input))
    if weight is not None:
        loss = loss * _like(weight, loss)
    return _reduced("multilabel_soft_margin_loss", mean_(loss, axis=-1), reduction)


# ------------------------------------------------------------------ classes


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """-log softmax(input)[target], from logits. The gradient is softmax(input) - one_hot(target).

    input: logits (N, C), (N, C, d1, ...) or (C,): the classes are axis 1, or axis 0 of a vector.
    target: integer labels, of the input's shape without the classes; or probabilities, of its
        shape.
    weight: a factor per class.
    ignore_index: a label whose sample does not count, whatever its logits hold.
    reduction: "mean", "sum" or "none". The mean divides by the sum of the labels' weights (for
        probabilities by the number of samples).
    label_smoothing: the share of each label that is spread evenly over all classes, in [0, 1].

    A class with the target probability 0 and the logit -inf adds 0.

    Raises IndexError for a label out of range, TypeError for labels that are floats, ValueError for
    shapes or options that do not fit.

    >>> F.cross_entropy(tk.tensor([[0.0, 0.0], [5.0, -5.0]]), np.array([1, 0])).item()
    0.346...
    """
    axis = _class_axis("cross_entropy", input)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(
            f"cross_entropy: expected label_smoothing in [0, 1], got {label_smoothing}."
        )
    weight = _like(weight, input)
    factors = _per_class("cross_entropy", weight, input, axis)
    if _shape(target) == input.shape:
        return _soft_labels(input, target, axis, factors, reduction, label_smoothing)
    labels, ignored = _labels("cross_entropy", input, target, axis, ignore_index)
    if ignored is not None:  # 0 * NaN is NaN: a cotangent of 0 does not hold out a row
        input = where_or_zero(input, ~_with_classes(ignored, axis))
    counts = None if weight is None else _of_classes(weight, labels)
    loss = network.cross_entropy(input, labels, axis=axis)
    loss = _over_labels("cross_entropy", loss, counts, ignored, reduction, weighted=True)
    if not label_smoothing:
        return loss
    log_p = network.log_softmax(input, axis=axis)
    spread = -(log_p if factors is None else log_p * factors).sum(axis=axis)
    spread = _over_labels("cross_entropy", spread, counts, ignored, reduction)
    return (1 - label_smoothing) * loss + (label_smoothing / input.shape[axis]) * spread


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Any:
    """-input[target] for log-probabilities `input`: `cross_entropy` after `log_softmax`.

    input: (N, C), (N, C, d1, ...) or (C,). target: integer labels, of its shape without the
        classes.
    weight, ignore_index, reduction, errors: as in `cross_entropy`.

    >>> F.nll_loss(tk.tensor([[-0.5, -1.0], [-2.0, -0.25]]), np.array([0, 1]), reduction="none")
    Tensor([0.5 , 0.25])
    """
    axis = _class_axis("nll_loss", input)
    weight = _like(weight, input)
    _per_class("nll_loss", weight, input, axis)
    labels, ignored = _labels("nll_loss", input, target, axis, ignore_index)
    counts = None if weight is None else _of_classes(weight, labels)
    loss = -network.gather_labels(input, labels, axis=axis)
    return _over_labels("nll_loss", loss, counts, ignored, reduction, weighted=True)


def _floats(name: str, input: Any) -> None:
    if input.dtype.kind != "f":
        raise TypeError(
            f"{name}: expected floats, got {input.dtype}{input.shape}. "
            "Convert with .astype(np.float32)"
        )


def _class_axis(name: str, input: Any) -> int:
    _floats(name, input)
    if not input.ndim or not input.shape[min(input.ndim - 1, 1)]:
        raise ValueError(f"{name}: expected input (C,), (N, C) or (N, C, ...), got {input.shape}.")
    return 0 if input.ndim == 1 else 1


def _per_class(name: str, weight: Any, input: Any, axis: int) -> Any:
    """The class weights in a shape that broadcasts to `input`."""
    if weight is None:
        return None
    if _shape(weight) != (input.shape[axis],):
        raise ValueError(
            f"{name}: expected weight of shape {(input.shape[axis],)}, one factor per class, got "
            f"{_shape(weight)}."
        )
    return weight.reshape(-1, *[1] * (input.ndim - axis - 1))


def _with_classes(labels: Any, axis: int) -> Any:
    """Labels, or a mask of them, with an axis of size 1 for the classes."""
    shape = labels.shape
    return labels.reshape((*shape[:axis], 1, *shape[axis:]))


def _soft_labels(
    input: Any, target: Any, axis: int, factors: Any, reduction: str, smoothing: float
) -> Any:
    """The cross-entropy of target probabilities."""
    if target.dtype.kind != "f":
        raise TypeError(
            f"cross_entropy: expected probabilities in a target of the input's shape "
            f"{input.shape}, got {target.dtype}. Convert with .astype(np.float32), or give labels "
            f"of shape {input.shape[:axis] + input.shape[axis + 1 :]}"
        )
    target = _like(target, input)
    if smoothing:
        target = target * (1 - smoothing) + smoothing / input.shape[axis]
    if factors is not None:
        target = target * factors
    log_p = network.log_softmax(input, axis=axis)
    loss = -(target * _beside_zeros(log_p, target == 0)).sum(axis=axis)
    return _reduced("cross_entropy", loss, reduction)


def _beside_zeros(x: Any, zero: Any) -> Any:
    """`x` with 0 for the -inf beside a target of 0, whose product counts as 0."""
    return where_or_zero(x, (x != -math.inf) | ~zero)


def _labels(name: str, input: Any, target: Any, axis: int, ignore_index: int) -> tuple[Any, Any]:
    """Checked labels with 0 for ignored ones, and the mask of these (None if there are none)."""
    expected = input.shape[:axis] + input.shape[axis + 1 :]
    if _shape(target) != expected:
        soft = f" or probabilities of shape {input.shape}" if name == "cross_entropy" else ""
        raise ValueError(
            f"{name}: expected integer labels of shape {expected}{soft} for input {input.shape}, "
            f"got shape {_shape(target)}."
        )
    labels = integers(target, f"{name}: labels")
    classes = input.shape[axis]
    if not isinstance(target, Node):
        target = labels if tracing() is None else constant(labels)
    outside = bool(labels.size) and not 0 <= labels.min() <= labels.max() < classes
    if not outside and not 0 <= ignore_index < classes and tracing() is None:
        return target, None
    ignored = target == ignore_index
    refuse_outside(labels, classes, f"{name}: label", ignore_index)
    return where(ignored, 0, target), ignored


def _of_classes(weight: Any, labels: Any) -> Any:
    """The weight of each label's class."""
    if isinstance(labels, Node) and not isinstance(weight, Node):
        weight = constant(np.asarray(weight))
    return weight[labels]


def _over_labels(
    name: str, loss: Any, counts: Any, ignored: Any, reduction: str, weighted: bool = False
) -> Any:
    """The reduction over labels that are not ignored; the mean divides by their weights' sum.

    weighted: multiply the losses by the weights `counts` first.
    """
    if ignored is not None:
        loss = where(ignored, 0.0, loss)
        counts = None if counts is None else where(ignored, 0.0, counts)
    if weighted and counts is not None:
        loss = loss * counts
    if reduction != "mean" or (counts is None and ignored is None) or not loss.size:
        return _reduced(name, loss, reduction)
    if counts is None:
        counts = astype(~ignored, dtype=loss.dtype)
    with np.errstate(invalid="ignore", divide="ignore"):
        return loss.sum() / counts.sum()


# ------------------------------------------------------------------ distributions


def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Any:
    """The Kullback-Leibler divergence t (log t - x) of log-probabilities x from probabilities t.

    input, target: shapes that broadcast, such as (N, C) and (C,). A term with t = 0 is 0, also for
        x = -inf.
    log_target: `target` holds logarithms as well.
    reduction: "mean" over all elements, "batchmean" (the sum divided by the size of `input`'s first
        axis, the divergence by its definition; the sum itself for a number), "sum" or "none".

    Raises TypeError for an input of integers, ValueError for shapes that do not broadcast or that
    do as a column and a flat array, (N, 1) and (N,); for an unknown reduction, or the mean of no
    elements.

    >>> p = tk.tensor([[0.5, 0.5]])
    >>> F.kl_div(p.log(), p, reduction="batchmean")
    Tensor(0.)
    """
    _check_broadcast("kl_div", input, target)
    target = _like(target, input)
    if log_target:
        zero = target == -math.inf
        loss = exp(target) * (where_or_zero(target, ~zero) - _beside_zeros(input, zero))
    else:
        zero = target == 0
        loss = target * (log(where(zero, 1.0, target)) - _beside_zeros(input, zero))
    if reduction == "batchmean":
        if not loss.size:
            raise ValueError(f"kl_div: {network.EMPTY_MEAN}")
        return loss.sum() / input.shape[0] if input.ndim else loss.sum()
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(_unknown("kl_div", reduction, ', "batchmean"'))
    return _reduced("kl_div", loss, reduction)
