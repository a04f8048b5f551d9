"""Operations of networks that lose accuracy or speed as compositions of others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops import kernels
from tinygrad_kr.ops.elementwise import exp, log, log1p, logistic, maximum, softplus, subtract
from tinygrad_kr.ops.linalg import ones
from tinygrad_kr.ops.op import Op, in_float32, op
from tinygrad_kr.ops.reduction import mean_, var_
from tinygrad_kr.ops.tracing import tracing

# ------------------------------------------------------------------ probabilities


def _floats(x: ndarray) -> None:
    if x.dtype.kind != "f":
        raise TypeError(f"expected floats, got {x.dtype}. Convert with .astype(np.float32)")


def _shifted(x: ndarray, axis: int) -> Any:
    """`x` minus its largest element along `axis`, so that exp cannot overflow."""
    _floats(x)
    with np.errstate(invalid="ignore"):
        return x - np.maximum.reduce(x, axis=axis, keepdims=True) if x.size else x - 0


@in_float32
def _softmax(x: ndarray, *, axis: int) -> Any:
    """exp(x) / sum(exp(x)) along `axis`, without overflow; NaN where every element is -inf."""
    e = np.exp(_shifted(x, axis))
    e /= np.add.reduce(e, axis=axis, keepdims=True)
    return e


@in_float32
@np.errstate(divide="ignore")
def _log_softmax(x: ndarray, *, axis: int) -> Any:
    """x - log(sum(exp(x))) along `axis`, exact where the softmax underflows."""
    shifted = _shifted(x, axis)
    shifted -= np.log(np.add.reduce(np.exp(shifted), axis=axis, keepdims=True))
    return shifted


# fmt: off
softmax     = op(_softmax,     lambda g, y, x, axis:
                 y * (g - (g * y).sum(axis=axis, keepdims=True)))
log_softmax = op(_log_softmax, lambda g, y, x, axis:
                 g - exp(y) * g.sum(axis=axis, keepdims=True))
# fmt: on

# ------------------------------------------------------------------ losses of labels


@in_float32
def _cross_entropy(x: ndarray, labels: ndarray, *, axis: int) -> Any:
    """log(sum(exp(x))) - x[label]: the cross-entropy of softmax(x) along `axis`, for each label."""
    shifted = _shifted(x, axis)
    total = np.log(np.add.reduce(np.exp(shifted), axis=axis))
    return total - _gather_labels(shifted, labels, axis=axis)


def _gather_labels(x: ndarray, labels: ndarray, *, axis: int) -> Any:
    """x[label] along `axis`, for each label."""
    return x[_label_index(labels, axis)]


def _scatter_labels(g: ndarray, labels: ndarray, *, axis: int, classes: int) -> Any:
    """Zeros with an axis of `classes` and `g` at the labels."""
    out = np.zeros((*g.shape[:axis], classes, *g.shape[axis:]), g.dtype)
    out[_label_index(labels, axis)] = g
    return out


def _label_index(labels: ndarray, axis: int) -> tuple[Any, ...]:
    """The index, for an array with classes on `axis`, of each sample's label."""
    places: list[Any] = [
        np.arange(n).reshape(n, *[1] * (labels.ndim - i - 1)) for i, n in enumerate(labels.shape)
    ]
    places.insert(axis, labels)
    return tuple(places)


def _cross_entropy_in_c(x: ndarray, labels: ndarray, *, axis: int) -> ndarray | None:
    if not _are_rows(x, labels, axis):
        return None
    y = np.empty(len(x), x.dtype)
    arrays = {"x": kernels.dense(x), "labels": kernels.dense(labels), "y": y}
    step = kernels.row_step(len(x))
    return y if kernels.rows("cross_entropy", len(x), x.shape[1], step, arrays) else None


def _cross_entropy_vjp_in_c(g: ndarray, x: ndarray, labels: ndarray, axis: int) -> ndarray | None:
    if type(g) is not ndarray or not _are_rows(x, labels, axis) or g.shape != labels.shape:
        return None
    y, named = np.empty(x.shape, x.dtype), {"x": x, "labels": labels, "g": g}
    arrays = {name: kernels.dense(array) for name, array in named.items()} | {"y": y}
    step = kernels.row_step(len(x))
    return y if kernels.rows("cross_entropy_vjp", len(x), x.shape[1], step, arrays) else None


def _are_rows(x: Any, labels: Any, axis: int) -> bool:
    """Whether the classes are the second of two axes, of arrays."""
    if type(x) is not ndarray or type(labels) is not ndarray or x.ndim != 2:
        return False
    return axis in (1, -1) and labels.dtype == np.int64 and labels.shape == x.shape[:1]


def _cross_entropy_vjp(g: Any, x: Any, labels: Any, axis: int) -> Any:
    """g (softmax(x) - one_hot(label))."""
    if (found := _cross_entropy_vjp_in_c(g, x, labels, axis)) is not None:
        return found
    along = g.reshape(*g.shape[:axis], 1, *g.shape[axis:])
    return along * softmax(x, axis=axis) - scatter_labels(
        g, labels, axis=axis, classes=x.shape[axis]
    )


# fmt: off
cross_entropy = op(_cross_entropy,
                   lambda g, y, x, labels, axis: _cross_entropy_vjp(g, x, labels, axis),
                   kernel=_cross_entropy_in_c)
gather_labels: Op = op(_gather_labels, lambda g, y, x, labels, axis:
                       scatter_labels(g, labels, axis=axis, classes=x.shape[axis]))
scatter_labels: Op = op(_scatter_labels, lambda g, y, c, labels, axis, classes:
                        gather_labels(g, labels, axis=axis))
# fmt: on

# ------------------------------------------------------------------ losses of a probability

EMPTY_MEAN = (
    "expected at least one element for a mean, got an empty batch. Leave it out "
    '(DataLoader(..., drop_last=True), or `if len(x):`), or use reduction="sum", which is 0'
)


def _bce(p: ndarray, t: ndarray) -> Any:
    """-(t log p + (1 - t) log(1 - p)), each logarithm at least -100 (PyTorch's bound)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        y = (t - 1) * np.maximum(np.log1p(-p), -100) - t * np.maximum(np.log(p), -100)
    if np.isnan(y).any():
        refuse_improbable(p)
    return y


def refuse_improbable(p: ndarray, called: str = "") -> None:
    """Raise ValueError for a number outside [0, 1]. called: what the message begins with."""
    if ((p < 0) | (p > 1)).any():
        raise ValueError(
            f"{called}expected probabilities in [0, 1], got {np.nanmin(p)} to {np.nanmax(p)}. "
            "Apply sigmoid first, or use binary_cross_entropy_with_logits"
        )


def _bce_vjp(p: Any, t: Any) -> Any:
    """(p - t) / (p (1 - p)), its divisor at least 1e-12."""
    return (p - t) / maximum(p * (1 - p), 1e-12)


@np.errstate(invalid="ignore")
def _bce_with_logits(
    x: ndarray, a: ndarray, b: ndarray | None = None, *, reduction: str = "none"
) -> Any:
    """a softplus(-x) + b softplus(x), b = 1 - a if not given; both tails keep their last bit.

    A weight of 0 counts nothing, also for an infinite score.
    """
    if b is None and reduction != "none" and _in_c(x):
        total = kernels.sum_of("logistic_sum", x, a)
        if total is not None:
            return x.dtype.type(total / x.size if reduction == "mean" else total)
    x, a, dtype = x.astype(np.float64), a.astype(np.float64), x.dtype
    if dtype.kind != "f":
        raise TypeError(f"expected floats, got scores of {dtype}. Use .astype(np.float32)")
    tail = np.log1p(np.exp(np.copysign(x, _MINUS_ONE)))
    if b is None:
        y = np.maximum(x, _ZERO)
        y -= x * a
        y += tail
    else:
        y = (a + b) * tail + np.where(np.signbit(x), -a, b) * x
    if reduction == "none":
        return (_with_limits(y, x, a, b, tail) if np.isnan(y).any() else y).astype(dtype)
    n = y.size
    total = _total_of(y)
    if total != total:
        total = _total_of(_with_limits(y, x, a, b, tail))
    if reduction == "sum":
        return dtype.type(total)
    if not n:
        raise ValueError(EMPTY_MEAN)
    return dtype.type(total / n)


def _in_c(x: ndarray) -> bool:
    """Whether to ask for a kernel. A program has C of its own, so a trace builds none."""
    return x.size >= kernels.MIN_ELEMENTS and tracing() is None


def _total_of(y: ndarray) -> Any:
    return ones(y.size, y.dtype).dot(y.ravel()) if y.size <= 4096 else np.add.reduce(y, axis=None)


def _with_limits(y: ndarray, x: ndarray, a: ndarray, b: ndarray | None, tail: ndarray) -> ndarray:
    """`y` with the limits at infinite scores: 0 for a weight of 0, else inf."""
    weight = np.where(np.signbit(x), -a, 1 - a if b is None else b)
    return np.where(np.isinf(x), np.where(weight == 0, 0, weight * x) + tail, y)


def _share(g: Any, x: Any, reduction: str) -> Any:
    """The share of one element in the cotangent of a reduced loss."""
    return g / x.size if reduction == "mean" else g


def _bce_with_logits_vjp(x: ndarray, a: ndarray, b: ndarray | None = None) -> Any:
    """b sigmoid(x) - a sigmoid(-x), the derivative of the logistic loss, without cancellation."""
    if b is None and _in_c(x):
        found = kernels.elementwise("logistic_slope", x, a)
        if found is not None:
            return found
    x, a, dtype = x.astype(np.float64) + _ZERO, a.astype(np.float64), x.dtype
    e = np.exp(np.copysign(x, _MINUS_ONE))
    flat = np.copysign(e / (e + _ONE), x)
    if b is None:
        return (np.heaviside(x, _ONE) - a - flat).astype(dtype)
    return (np.where(np.signbit(x), -a, b) - (a + b) * flat).astype(dtype)


_ZERO, _ONE, _MINUS_ONE = np.zeros(()), np.ones(()), np.array(-1.0)


def _total(a: Any, b: Any = None) -> Any:
    return 1.0 if b is None else a + b


def _slope_of_logits(x: Any) -> Any:
    """The derivative by the logits: on arrays the function, on Tensors the op."""
    return _bce_with_logits_vjp if type(x) is ndarray else bce_with_logits_vjp


# fmt: off
bce = op(_bce,
         lambda g, y, p, t: g * _bce_vjp(p, t),
         lambda g, y, p, t: g * subtract(maximum(log1p(-p), -100), maximum(log(p), -100)),
         name="binary_cross_entropy", variable="bce")
bce_with_logits = op(_bce_with_logits,
                     lambda g, y, x, a, *b, reduction="none":
                     _share(g, x, reduction) * _slope_of_logits(x)(x, a, *b),
                     lambda g, y, x, a, *b, reduction="none":
                     _share(g, x, reduction) * (softplus(-x) if b else -x),
                     lambda g, y, x, a, b, reduction="none":
                     _share(g, x, reduction) * softplus(x),
                     name="binary_cross_entropy_with_logits", variable="bce_with_logits")
bce_with_logits_vjp: Op = op(_bce_with_logits_vjp,
                             lambda g, y, x, a, *b: g * _total(a, *b) * logistic(x) * logistic(-x),
                             lambda g, y, x, a, *b: -g * logistic(-x) if b else -g,
                             lambda g, y, x, a, b: g * logistic(x))
# fmt: on

# ------------------------------------------------------------------ normalisation


def _normalize(x: ndarray, *, axis: tuple[int, ...], eps: float) -> Any:
    """(x - mean) / sqrt(var + eps) over `axis`, with the variance that divides by n."""
    y = x - mean_(x, axis=axis, keepdims=True)
    y *= (mean_(np.square(y), axis=axis, keepdims=True) + eps) ** -0.5
    return y


def _normalize_vjp(g: Any, y: Any, x: Any, axis: tuple[int, ...], eps: float) -> Any:
    """The part of g / sqrt(var + eps) that changes neither the mean nor the variance."""
    scale = (var_(x, axis=axis, keepdims=True) + eps) ** -0.5
    along = mean_(g * y, axis=axis, keepdims=True)
    return scale * (g - mean_(g, axis=axis, keepdims=True) - y * along)


normalize = op(_normalize, lambda g, y, x, axis, eps: _normalize_vjp(g, y, x, axis=axis, eps=eps))


@in_float32
def _layer_norm(x: ndarray, weight: ndarray, bias: ndarray, *, axes: int, eps: float) -> Any:
    """(x - mean) / sqrt(var + eps) weight + bias over the last `axes` axes, those of `weight`."""
    y = _normalize(x, axis=tuple(range(-axes, 0)), eps=eps)
    y = y * weight
    y += bias
    return y


def _layer_norm_in_c(x: Any, weight: Any, bias: Any, *, axes: int, eps: float) -> ndarray | None:
    arrays = {"x": x, "weight": weight, "bias": bias}
    if not _fits_layer(axes, **arrays):
        return None
    y = np.empty(x.shape, x.dtype)
    dense = {name: kernels.dense(array) for name, array in arrays.items()} | {"y": y}
    n = x.size // weight.size
    done = kernels.rows("layer_norm", n, weight.size, kernels.row_step(n), dense, eps)
    return y if done else None


def _fits_layer(axes: int, x: Any, weight: Any, bias: Any, g: Any = None) -> bool:
    """Whether these are arrays of elements of one dtype, and of shapes that fit."""
    given = (x, weight, bias) if g is None else (x, weight, bias, g)
    if not all(type(array) is ndarray and array.dtype == x.dtype for array in given):
        return False
    fits = weight.shape == bias.shape == x.shape[-axes:] and weight.ndim == axes
    return bool(fits and x.size and (g is None or g.shape == x.shape))


def _layer_norm_vjp_in_c(
    g: Any, x: Any, weight: Any, bias: Any, axes: int, eps: float
) -> list[Any] | None:
    arrays = {"x": x, "weight": weight, "bias": bias, "g": g}
    if not _fits_layer(axes, **arrays):
        return None
    n = x.size // weight.size
    step = kernels.row_step(n)
    dx, sums = np.empty(x.shape, x.dtype), np.zeros((2, -(-n // step), weight.size), x.dtype)
    dense = {name: kernels.dense(array) for name, array in arrays.items()}
    dense |= {"y": dx, "dweight": sums[0], "dbias": sums[1]}
    if not kernels.rows("layer_norm_vjp", n, weight.size, step, dense, eps):
        return None
    dweight, dbias = sums.sum(axis=1)
    return [dx, dweight.reshape(weight.shape), dbias.reshape(weight.shape)]


def _layer_norm_vjp(
    g: Any, y: Any, x: Any, weight: Any, bias: Any, needs: tuple[bool, ...], axes: int, eps: float
) -> list[Any]:
    if (found := _layer_norm_vjp_in_c(g, x, weight, bias, axes, eps)) is not None:
        return found
    axis = tuple(range(-axes, 0))
    normal = normalize(x, axis=axis, eps=eps)
    return [_normalize_vjp(g * weight, normal, x, axis=axis, eps=eps), g * normal, g]


layer_norm = op(_layer_norm, _layer_norm_vjp, one_rule_for_all=True, kernel=_layer_norm_in_c)

# ------------------------------------------------------------------ dropout


def _dropout_mask(x: ndarray, *, p: float, generator: np.random.Generator) -> ndarray:
    """0 with probability `p`, else 1 / (1 - p), for each element of `x`."""
    _floats(x)
    if p == 1:
        return np.zeros(x.shape, x.dtype)
    kept = generator.random(x.shape, np.float64 if x.dtype == np.float64 else np.float32) >= p
    return np.multiply(kept, 1 / (1 - p), dtype=x.dtype)


dropout_mask = op(_dropout_mask)
