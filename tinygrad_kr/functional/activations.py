"""Activation functions, with PyTorch's slopes at kinks. None overflows where its value is finite.

All are elementwise unless they have a `dim`: the result has the shape and floating dtype of the
input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.arrays.operands import cast_floating, either_name, number_as_vector
from tinygrad_kr.autodiff import walk
from tinygrad_kr.grad_mode import enable_grad
from tinygrad_kr.ops import elementwise, kernels, network, reduction
from tinygrad_kr.ops.axes import axis_index
from tinygrad_kr.ops.elementwise import absolute, expm1, positive, where, where_or_zero
from tinygrad_kr.ops.op import Op, op
from tinygrad_kr.tensor import Tensor

relu, sigmoid, tanh = elementwise.relu, elementwise.sigmoid, elementwise.tanh

# ------------------------------------------------------------------ in one pass of C

Function = Callable[..., Any]


def _in_one_pass(function: Function) -> Function:
    """A composed function, of which C computes value and cotangent of large arrays in one pass.

    function: of an input and of numbers. `composed.h` has a function of its name and a `_vjp`. A
    call in eager mode records one op then. A derivative of the derivative, small arrays, traces and
    machines without a compiler take the composition.
    """
    names = function.__code__.co_varnames[1 : function.__code__.co_argcount]
    usual = (*(None for _ in names), *(function.__defaults__ or ()))[-len(names) :] if names else ()
    record = _record_of(function)

    @wraps(function)
    def called(input: Any, *args: Any, **options: Any) -> Any:
        if type(input) is not Tensor or not kernels.is_composed_in_c(input._data):
            return function(input, *args, **options)
        numbers = usual
        if args or options:
            given = {
                **dict(zip(names, usual, strict=True)),
                **dict(zip(names, args, strict=False)),
                **options,
            }
            numbers = tuple(given.values())
        for number in numbers:
            if type(number) is not float and type(number) is not int:
                return function(input, *args, **options)
        if len(numbers) != len(names) or len(args) > len(names):
            return function(input, *args, **options)
        return record(input, numbers=numbers) if numbers else record(input)

    return called


def _record_of(function: Function) -> Op:
    """The op of a composed function."""
    name = function.__name__.strip("_")

    def forward(x: ndarray, *, numbers: tuple[float, ...] = ()) -> Any:
        return np.asarray(function(x, *numbers))

    def kernel(x: ndarray, *, numbers: tuple[float, ...] = ()) -> ndarray | None:
        return _in_c(name, x, numbers=numbers)

    def rule(g: Any, y: Any, x: Any, *, numbers: tuple[float, ...] = ()) -> Any:
        if type(g) is ndarray is type(x):
            found = _in_c(f"{name}_vjp", g, x, numbers=numbers)
            if found is not None:
                return found
        return _vjp_of_composition(function, g, x, numbers)

    return op(forward, rule, name=name, kernel=kernel)


def _in_c(name: str, *arrays: ndarray, numbers: tuple[float, ...]) -> ndarray | None:
    a, b = (*numbers, 0.0, 0.0)[:2]
    return kernels.elementwise(name, *arrays, header="composed", numbers=(a, b))


def _vjp_of_composition(function: Function, g: Any, x: Any, numbers: tuple[float, ...]) -> Any:
    """The cotangent of the input by the rules of the ops that the function calls."""
    nested = isinstance(g, Tensor) or isinstance(x, Tensor)
    with enable_grad():
        recorded = isinstance(x, Tensor) and x._requires_grad
        leaf = positive(x) if recorded else Tensor(x, requires_grad=True)
        y = function(leaf, *numbers)
    ends = walk({y: g}, {leaf}, create_graph=nested, retain_graph=nested, stop={leaf})
    return ends[leaf]


# ------------------------------------------------------------------ functions


@_in_one_pass
def leaky_relu(input: Any, negative_slope: float = 0.01) -> Any:
    """x where x > 0, else negative_slope x: a unit with a gradient on both sides.

    input: any shape; the result has its shape and dtype. The slope at 0 is `negative_slope`.
    Source: Maas et al., Rectifier nonlinearities improve neural network acoustic models (2013).

    >>> F.leaky_relu(tk.tensor([-2.0, 0.0, 3.0]))
    Tensor([-0.02,  0.  ,  3.  ])
    """
    return relu(input) + negative_slope * where_or_zero(input, input <= 0)


def prelu(input: Any, weight: Any) -> Any:
    """x where x > 0, else weight x: `leaky_relu` with slopes that are learned.

    input: (N, C, ...), any shape for one slope. weight: (C,), one slope per channel (axis 1), or
        (1,) or (), one for all. The result has the input's shape.

    The slope at 0 is `weight`. Raises ValueError for another number of slopes.
    Source: He et al., Delving deep into rectifiers (2015).

    >>> F.prelu(tk.tensor([[-2.0, -2.0]]), tk.tensor([0.5, 0.25]))
    Tensor([[-1. , -0.5]])
    """
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.ndim > 1 or weight.size not in (1, channels):
        raise ValueError(
            f"prelu: expected weight of shape (1,) or {(channels,)} for input {input.shape}, got "
            f"{weight.shape}."
        )
    slopes = weight.reshape(-1, *(1,) * (input.ndim - 2)) if weight.size > 1 else weight.reshape(())
    return relu(input) + slopes * where_or_zero(input, input <= 0)


@_in_one_pass
def elu(input: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, else alpha (exp(x) - 1).

    input: any shape; the result has its shape and dtype. The slope at 0 is alpha.
    Source: Clevert et al., Fast and accurate deep network learning by exponential linear units
    (2015).

    >>> F.elu(tk.tensor([-1.0, 0.0, 2.0])).numpy().round(4)
    array([-0.6321,  0.    ,  2.    ], dtype=float32)
    """
    return relu(input) + alpha * expm1(where_or_zero(input, input <= 0))


def selu(input: Any) -> Any:
    """scale elu(x, alpha), with the two constants of self-normalising nets.

    scale = 1.0507..., alpha = 1.6732...: activations keep mean 0 and variance 1 from layer to layer
    if the weights start as `nn.init.lecun_normal_`.
    input: any shape; the result has its shape and dtype. The slope at 0 is scale alpha.
    Source: Klambauer et al., Self-normalizing neural networks (2017).

    >>> F.selu(tk.tensor([-1.0, 0.0, 1.0])).numpy().round(4)
    array([-1.1113,  0.    ,  1.0507], dtype=float32)
    """
    return 1.0507009873554804934193349852946 * elu(input, 1.6732632423543772848170429916717)


def celu(input: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, else alpha (exp(x / alpha) - 1): smooth for every alpha.

    input: any shape; the result has its shape and dtype. The slope at 0 is 1.
    Raises ValueError for an alpha of 0.
    Source: Barron, Continuously differentiable exponential linear units (2017).

    >>> F.celu(tk.tensor([-1.0, 0.0, 2.0]), alpha=2.0).numpy().round(4)
    array([-0.7869,  0.    ,  2.    ], dtype=float32)
    """
    if alpha == 0:
        raise ValueError("celu: expected alpha other than 0, got 0. Use relu")
    return _celu(input, alpha)


@_in_one_pass
def _celu(input: Any, alpha: float) -> Any:
    return relu(input) + alpha * expm1(where_or_zero(input, input <= 0) / alpha)


def gelu(input: Any, approximate: str = "none") -> Any:
    """x Phi(x), where Phi is the distribution function of the standard normal.

    approximate: "none" for Phi(x) = (1 + erf(x / sqrt 2)) / 2, "tanh" for
        (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.
    input: any shape; the result has its shape and dtype.

    Raises ValueError for another `approximate`.
    Source: Hendrycks and Gimpel, Gaussian error linear units (2016).

    >>> F.gelu(tk.tensor([-1.0, 0.0, 1.0])).numpy().round(4)
    array([-0.1587,  0.    ,  0.8413], dtype=float32)
    """
    if approximate == "none":
        return elementwise.gelu(input)
    if approximate == "tanh":
        inner = math.sqrt(2 / math.pi) * (input + 0.044715 * input * input * input)
        return input * (0.5 * (1 + tanh(inner)))
    raise ValueError(f'gelu: expected approximate "none" or "tanh", got {approximate!r}.')


@_in_one_pass
def silu(input: Any) -> Any:
    """x sigmoid(x), also called swish.

    input: any shape; the result has its shape and dtype.
    Source: Elfwing et al., Sigmoid-weighted linear units (2017).

    >>> F.silu(tk.tensor([-1.0, 0.0, 1.0])).numpy().round(4)
    array([-0.2689,  0.    ,  0.7311], dtype=float32)
    """
    return input * sigmoid(input)


@_in_one_pass
def mish(input: Any) -> Any:
    """x tanh(softplus(x)).

    input: any shape; the result has its shape and dtype.
    Source: Misra, Mish: a self regularized non-monotonic activation function (2019).

    >>> F.mish(tk.tensor([-1.0, 0.0, 1.0])).numpy().round(4)
    array([-0.3034,  0.    ,  0.8651], dtype=float32)
    """
    return input * tanh(elementwise.softplus(input))


def softsign(input: Any) -> Any:
    """x / (1 + |x|): between -1 and 1, with slower tails than tanh.

    input: any shape; the result has its shape and dtype. The slope at 0 is 1.

    >>> F.softsign(tk.tensor([-1.0, 0.0, 3.0]))
    Tensor([-0.5 ,  0.  ,  0.75])
    """
    return input / (1 + absolute(input))


@_in_one_pass
def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """log(1 + exp(beta x)) / beta, a smooth relu.

    threshold: where beta x > threshold the result is x itself, which is equal to rounding.
    input: any shape; the result has its shape and dtype. Its slope is sigmoid(beta x).

    >>> F.softplus(tk.tensor([-1.0, 0.0, 100.0])).numpy().round(4)
    array([  0.3133,   0.6931, 100.    ], dtype=float32)
    """
    scaled = input * beta
    return where(scaled > threshold, input, elementwise.softplus(scaled) / beta)


@_in_one_pass
def logsigmoid(input: Any) -> Any:
    """log(sigmoid(x)) = -softplus(-x), exact where the sigmoid underflows.

    input: any shape; the result has its shape and dtype.

    >>> F.logsigmoid(tk.tensor([-200.0, 0.0])).numpy().round(4)
    array([-200.    ,   -0.6931], dtype=float32)
    """
    return -elementwise.softplus(-input)


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """x, clipped to [min_val, max_val].

    input: any shape; the result has its shape and dtype. The slope is 0 at both bounds and beyond.
    Raises ValueError for min_val > max_val.

    >>> F.hardtanh(tk.tensor([-2.0, 0.5, 1.0]))
    Tensor([-1. ,  0.5,  1. ])
    """
    if min_val > max_val:
        raise ValueError(f"hardtanh: expected min_val <= max_val, got {min_val} and {max_val}.")
    if input.dtype.kind in "iu":
        min_val, max_val = int(min_val), int(max_val)
    return _hardtanh(input, min_val, max_val)


@_in_one_pass
def _hardtanh(input: Any, min_val: float, max_val: float) -> Any:
    return where(input <= min_val, min_val, where(input >= max_val, max_val, input))


def relu6(input: Any) -> Any:
    """min(max(x, 0), 6).

    input: any shape; the result has its shape and dtype. The slope is 0 at 0 and at 6.
    Source: Krizhevsky, Convolutional deep belief networks on CIFAR-10 (2010).

    >>> F.relu6(tk.tensor([-1.0, 3.0, 8.0]))
    Tensor([0., 3., 6.])
    """
    return hardtanh(input, 0.0, 6.0)


@_in_one_pass
def hardsigmoid(input: Any) -> Any:
    """x / 6 + 1 / 2, clipped to [0, 1]: a sigmoid without exp.

    input: any shape; the result has its shape and dtype. The slope is 0 at -3 and 3 and beyond.

    >>> F.hardsigmoid(tk.tensor([-4.0, 0.0, 1.5]))
    Tensor([0.  , 0.5 , 0.75])
    """
    return hardtanh(input + 3.0, 0.0, 6.0) / 6.0


@_in_one_pass
def hardswish(input: Any) -> Any:
    """x hardsigmoid(x): `silu` without exp.

    input: any shape; the result has its shape and dtype. The slope is 0 at -3 and below, 1 at 3
        and above.
    Source: Howard et al., Searching for MobileNetV3 (2019).

    >>> F.hardswish(tk.tensor([-4.0, 1.5, 4.0]))
    Tensor([-0.   ,  1.125,  4.   ])
    """
    return input * hardtanh(input + 3.0, 0.0, 6.0) / 6.0


@either_name
def glu(input: Any, dim: int = -1, *, axis: int | None = None) -> Any:
    """a sigmoid(b), where a and b are the two halves of the input along `dim`.

    input: (..., 2 n, ...), the result (..., n, ...): a linear unit and its gate.
    Raises ValueError for an odd size.
    Source: Dauphin et al., Language modeling with gated convolutional networks (2017).

    >>> F.glu(tk.tensor([2.0, 3.0, 0.0, 1000.0]))
    Tensor([1., 3.])
    """
    axis = axis_index(dim, input.ndim, "glu") if input.ndim else 0
    size = input.shape[axis] if input.ndim else 1
    if size % 2:
        raise ValueError(f"glu: expected an even size on axis {dim}, got shape {input.shape}.")
    before = (slice(None),) * axis
    a, gate = input[(*before, slice(size // 2))], input[(*before, slice(size // 2, None))]
    return a * sigmoid(gate)


_softmax = number_as_vector(network.softmax)
_log_softmax = number_as_vector(network.log_softmax)


@either_name
def softmax(input: Any, dim: int, dtype: Any = None, *, axis: int | None = None) -> Any:
    """exp(x) / sum(exp(x)) along `dim`: probabilities that sum to 1, without overflow.

    input: floats of any shape; the result has the same shape.
    dtype: a floating dtype to convert to first, integers too.

    NaN along a `dim` that is -inf throughout (0 / 0), as in PyTorch.
    Raises TypeError for integers without a `dtype`, or for another `dtype`.

    >>> F.softmax(tk.tensor([[0.0, 0.0], [1000.0, 0.0]]), dim=1)
    Tensor([[0.5, 0.5],
            [1. , 0. ]])
    """
    return _softmax(cast_floating(input, dtype, "softmax"), axis=dim)


@either_name
def log_softmax(input: Any, dim: int, dtype: Any = None, *, axis: int | None = None) -> Any:
    """log(softmax(x)) along `dim`, finite where the softmax underflows.

    input: floats of any shape; the result has the same shape.
    dtype: a floating dtype to convert to first, integers too.

    Raises TypeError for integers without a `dtype`, or for another `dtype`.

    >>> F.log_softmax(tk.tensor([1000.0, 0.0]), dim=0)
    Tensor([    0., -1000.])
    """
    return _log_softmax(cast_floating(input, dtype, "log_softmax"), axis=dim)


@either_name
def softmin(input: Any, dim: int, dtype: Any = None, *, axis: int | None = None) -> Any:
    """softmax(-x) along `dim`: the smallest element gets the largest probability.

    input: floats of any shape; the result has the same shape.
    dtype: a floating dtype to convert to first, integers too.

    Raises TypeError for integers without a `dtype`, or for another `dtype`.

    >>> F.softmin(tk.tensor([0.0, 1000.0]), dim=0)
    Tensor([1., 0.])
    """
    dim = dim if not input.ndim else axis_index(dim, input.ndim, "softmin")
    return softmax(-cast_floating(input, dtype, "softmin"), dim)


@either_name
def maxout(input: Any, pieces: int, dim: int = -1, *, axis: int | None = None) -> Any:
    """The largest of every `pieces` neighbours along `dim`.

    input: (..., units x pieces, ...), the result (..., units, ...). A unit on top of a linear layer
    thus learns a convex, piecewise linear activation. Ties share the gradient evenly.
    Raises ValueError if the size is no multiple of `pieces`.
    Source: Goodfellow et al., Maxout networks (2013).

    >>> F.maxout(tk.tensor([[1.0, 5.0, -2.0, -3.0]]), pieces=2)
    Tensor([[ 5., -2.]])
    """
    axis = axis_index(dim, input.ndim, "maxout")
    size = input.shape[axis]
    if pieces < 1 or size % pieces:
        raise ValueError(
            f"maxout: expected a multiple of pieces={pieces} on axis {dim}, got shape "
            f"{input.shape}."
        )
    grouped = (*input.shape[:axis], size // pieces, pieces, *input.shape[axis + 1 :])
    return reduction.max_(input.reshape(grouped), axis=axis + 1)
