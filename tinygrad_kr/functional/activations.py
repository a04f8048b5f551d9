"""Activation functions, with PyTorch's slopes at kinks; none overflows where it is flat."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_kr.ops import elementwise, network, reduction
from tinygrad_kr.ops.elementwise import absolute, erf, expm1, where, where_or_zero
from tinygrad_kr.ops.op import astype

relu, sigmoid, tanh = elementwise.relu, elementwise.sigmoid, elementwise.tanh


def leaky_relu(input: Any, negative_slope: float = 0.01) -> Any:
    """x where x > 0, else negative_slope x: a unit that cannot die (Maas et al., 2013)."""
    return relu(input) + negative_slope * where_or_zero(input, input <= 0)


def elu(input: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, else alpha (exp(x) - 1) (Clevert et al., 2015)."""
    return relu(input) + alpha * expm1(where_or_zero(input, input <= 0))


def selu(input: Any) -> Any:
    """scale elu(x, alpha), the two constants of self-normalising nets (Klambauer et al., 2017)."""
    return 1.0507009873554804934193349852946 * elu(input, 1.6732632423543772848170429916717)


def celu(input: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, else alpha (exp(x / alpha) - 1), smooth for every alpha (Barron, 2017)."""
    return relu(input) + alpha * expm1(where_or_zero(input, input <= 0) / alpha)


def gelu(input: Any, approximate: str = "none") -> Any:
    """x Phi(x), Phi the standard normal's distribution function (Hendrycks and Gimpel, 2016).

    approximate: "none" for Phi(x) = (1 + erf(x / sqrt 2)) / 2; "tanh" for
        (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2. ValueError for anything else.
    """
    if approximate == "none":
        return input * (0.5 * (1 + erf(input * math.sqrt(0.5))))
    if approximate == "tanh":
        inner = math.sqrt(2 / math.pi) * (input + 0.044715 * input * input * input)
        return input * (0.5 * (1 + tanh(inner)))
    raise ValueError(f'gelu: approximate is "none" or "tanh", not {approximate!r}')


def silu(input: Any) -> Any:
    """x sigmoid(x), also called swish (Elfwing et al., 2017)."""
    return input * sigmoid(input)


def mish(input: Any) -> Any:
    """x tanh(softplus(x)) (Misra, 2019)."""
    return input * tanh(elementwise.softplus(input))


def softsign(input: Any) -> Any:
    """x / (1 + |x|)."""
    return input / (1 + absolute(input))


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """log(1 + exp(beta x)) / beta, a smooth relu; x itself where beta x > threshold."""
    scaled = input * beta
    return where(scaled > threshold, input, elementwise.softplus(scaled) / beta)


def logsigmoid(input: Any) -> Any:
    """log(sigmoid(x)) = -softplus(-x), exact where the sigmoid underflows."""
    return -elementwise.softplus(-input)


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """x held between `min_val` and `max_val`; slope 0 at both and beyond.

    ValueError if min_val is above max_val.
    """
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val {min_val} is above max_val {max_val}")
    return where(input <= min_val, min_val, where(input >= max_val, max_val, input))


def relu6(input: Any) -> Any:
    """relu that stops at 6."""
    return hardtanh(input, 0.0, 6.0)


def hardsigmoid(input: Any) -> Any:
    """x / 6 + 1 / 2 held between 0 and 1: a sigmoid without exp."""
    return hardtanh(input + 3.0, 0.0, 6.0) / 6.0


def softmax(input: Any, dim: int, dtype: Any = None) -> Any:
    """exp(x) / sum(exp(x)) along `dim`: probabilities that add up to 1, without overflow.

    dtype: cast to it first. NaN along a `dim` that is -inf throughout (0 / 0), as in PyTorch.
    """
    return network.softmax(_cast(input, dtype), axis=dim)


def log_softmax(input: Any, dim: int, dtype: Any = None) -> Any:
    """log(softmax(x)) along `dim`, finite where the softmax underflows."""
    return network.log_softmax(_cast(input, dtype), axis=dim)


def softmin(input: Any, dim: int, dtype: Any = None) -> Any:
    """softmax(-x) along `dim`."""
    return softmax(-input, dim, dtype)


def _cast(x: Any, dtype: Any) -> Any:
    if dtype is None:
        return x
    if np.dtype(dtype).kind != "f":
        raise TypeError(f"probabilities have a floating dtype, not {np.dtype(dtype)}")
    return astype(x, dtype=np.dtype(dtype))


def maxout(input: Any, pieces: int, dim: int = -1) -> Any:
    """The largest of every `pieces` neighbours along `dim` (Goodfellow et al., 2013).

    A unit that learns its own convex, piecewise linear activation: (..., units x pieces) becomes
    (..., units). Ties share the gradient evenly. ValueError if the size is no multiple of `pieces`.
    """
    size = input.shape[dim]
    if pieces < 1 or size % pieces:
        raise ValueError(
            f"maxout: axis {dim} of shape {input.shape} does not divide into groups of {pieces}"
        )
    dim %= input.ndim
    grouped = (*input.shape[:dim], size // pieces, pieces, *input.shape[dim + 1 :])
    return reduction.max_(input.reshape(grouped), axis=dim + 1)
