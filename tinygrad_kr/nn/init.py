"""Initial values of weights, written in place into Tensors.

The general function, `variance_scaling_`, comes first, its named children after it, then the
lectures' own. All take `generator=` (default: the one `tk.manual_seed` seeds), draw in float64 and
cast, so that one seed gives the same weights in float32 and float64 up to rounding, and return the
Tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy import ndarray

from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.nn.parameter import Parameter
from tinygrad_kr.random import Generator, resolve
from tinygrad_kr.tensor import Tensor

Mode = Literal["fan_in", "fan_out", "fan_avg"]
Distribution = Literal["uniform", "normal", "truncated_normal"]
Initializer = Callable[..., Tensor]

_TWO_SIGMA = 2.0
_STD_WITHIN_TWO_SIGMA = 0.87962566103423978
"""Standard deviation of a standard normal truncated to [-2, 2]."""


def _fill(tensor: Tensor, values: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"an initialiser writes into a Tensor, not a {type(tensor).__name__}")
    with no_grad():
        tensor[...] = values
    return tensor


# ------------------------------------------------------------------ distributions


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Every element `val`."""
    return _fill(tensor, val)


def zeros_(tensor: Tensor) -> Tensor:
    """Every element 0: fit for biases; as weights it leaves all units of a layer alike."""
    return _fill(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Every element 1."""
    return _fill(tensor, 1.0)


def eye_(tensor: Tensor) -> Tensor:
    """1 on the diagonal, 0 elsewhere: a linear layer that passes its input on. 2-D only."""
    if tensor.ndim != 2:
        raise ValueError(f"eye_ needs 2 axes, not shape {tensor.shape}")
    return _fill(tensor, np.eye(tensor.shape[0], tensor.shape[1]))


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform on [a, b): mean (a + b) / 2, standard deviation (b - a) / sqrt(12)."""
    if not a <= b:
        raise ValueError(f"uniform_: the lower bound {a} is above the upper bound {b}")
    return _fill(tensor, resolve(generator).uniform(a, b, tensor.shape))


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Normal with mean `mean` and standard deviation `std`."""
    _check_std("normal_", std)
    return _fill(tensor, mean + std * resolve(generator).standard_normal(tensor.shape))


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal, given that it lies in [a, b]: what falls outside is drawn again, not clipped.

    a, b: bounds of the values themselves, not in standard deviations (as in PyTorch). The standard
        deviation of the result is smaller than `std`: 0.880 std for bounds at 2 std.
    """
    _check_std("trunc_normal_", std)
    if not a < b:
        raise ValueError(f"trunc_normal_: the lower bound {a} is not below the upper bound {b}")
    if std == 0:
        return _fill(tensor, min(max(mean, a), b))
    z = _truncated(resolve(generator), (a - mean) / std, (b - mean) / std, tensor.size)
    return _fill(tensor, np.clip(mean + std * z, a, b).reshape(tensor.shape))


def _check_std(name: str, std: float) -> None:
    if not std >= 0:
        raise ValueError(f"{name}: a standard deviation is not negative, but std is {std}")


def _truncated(generator: Generator, low: float, high: float, count: int) -> ndarray:
    """`count` standard normal numbers, given that they lie in [low, high].

    Rejection sampling: from the normal itself where that succeeds often; else from an exponential
    that falls as the normal does at the near end of the interval (a uniform, if that end is 0 or
    inside). Source: Robert, Simulation of truncated normal variables (1995).
    """
    if high < 0:
        return -_truncated(generator, -high, -low, count)
    mass = (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2
    out = np.empty(count)
    filled = 0
    while filled < count:
        wanted = count - filled
        if mass > 0.3:
            z = generator.standard_normal(wanted)
            z = z[(z >= low) & (z <= high)]
        else:
            near = max(low, 0.0)
            z = _exponential(generator, low, high, near, wanted)
            z = z[generator.random(wanted) < np.exp(-0.5 * (z - near) ** 2)]
        out[filled : filled + z.size] = z
        filled += z.size
    return out


def _exponential(generator: Generator, low: float, high: float, rate: float, count: int) -> ndarray:
    """Density proportional to exp(-rate z) on [low, high]; uniform for rate 0."""
    u = generator.random(count)
    if rate == 0:
        return low + (high - low) * u
    return np.minimum(low - np.log1p(u * math.expm1(-rate * (high - low))) / rate, high)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Rows (or columns, if they are fewer) orthonormal, times `gain`; axes after the first are one.

    The Q of the QR factors of a normal matrix, signs fixed so that it is uniform over all such
    matrices. Source: Saxe et al., Exact solutions to the nonlinear dynamics of learning in deep
    linear neural networks (2014).
    """
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_ needs 2 axes or more, not shape {tensor.shape}")
    if not tensor.size:
        return tensor
    rows = tensor.shape[0]
    columns = tensor.size // rows
    drawn = resolve(generator).standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(drawn)
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return _fill(tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))


# ------------------------------------------------------------------ scaled to the layer


def fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """How many inputs feed one output of a layer, and how many outputs one input feeds.

    For a weight (out, in, *kernel): in x kernel size, out x kernel size. ValueError below 2 axes.
    """
    if tensor.ndim < 2:
        raise ValueError(
            f"fan in and fan out need a weight of 2 axes or more, (out, in, *kernel), not shape "
            f"{tensor.shape}"
        )
    kernel = math.prod(tensor.shape[2:])
    return tensor.shape[1] * kernel, tensor.shape[0] * kernel


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor on the weights' scale that keeps signals the same size through an activation.

    1 for linear, conv and sigmoid, 5/3 for tanh, sqrt(2) for relu, sqrt(2 / (1 + slope^2)) for
    leaky_relu (`param`, default 0.01), 3/4 for selu: PyTorch's table. ValueError for other names.
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2 / (1 + slope**2))
    gains = {"sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}
    gains |= dict.fromkeys(("linear", "conv1d", "conv2d", "conv_transpose2d"), 1.0)
    if nonlinearity not in gains:
        known = ", ".join([*gains, "leaky_relu"])
        raise ValueError(f"no gain is known for {nonlinearity!r}; known are {known}")
    return gains[nonlinearity]


def variance_scaling_(
    tensor: Tensor,
    scale: float = 1.0,
    mode: Mode = "fan_in",
    distribution: Distribution = "truncated_normal",
    generator: Generator | None = None,
) -> Tensor:
    """Mean 0 and variance scale / n, n the fan in, the fan out or the mean of both.

    "uniform" is U(+-sqrt(3 scale / n)); "normal" is N(0, scale / n); "truncated_normal" is cut at
    two standard deviations and widened so that the variance after cutting is scale / n.

    Source: JAX's `variance_scaling`; the named initialisers below are its special cases.
    """
    fan_in, fan_out = fan_in_and_fan_out(tensor)
    counts = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
    if mode not in counts:
        raise ValueError(f"mode is one of {', '.join(counts)}, not {mode!r}")
    if not scale > 0:
        raise ValueError(f"variance_scaling_: scale must be above 0, not {scale}")
    std = math.sqrt(scale / max(counts[mode], 1))
    if distribution == "uniform":
        bound = math.sqrt(3) * std
        return uniform_(tensor, -bound, bound, generator)
    if distribution == "normal":
        return normal_(tensor, 0.0, std, generator)
    if distribution == "truncated_normal":
        std /= _STD_WITHIN_TWO_SIGMA
        return trunc_normal_(tensor, 0.0, std, -_TWO_SIGMA * std, _TWO_SIGMA * std, generator)
    raise ValueError(f"distribution is uniform, normal or truncated_normal, not {distribution!r}")


variance_scaling = variance_scaling_


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """U(+-gain sqrt(6 / (fan_in + fan_out))) (Glorot and Bengio, 2010)."""
    return variance_scaling_(tensor, gain**2, "fan_avg", "uniform", generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """N(0, gain^2 2 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    return variance_scaling_(tensor, gain**2, "fan_avg", "normal", generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """U(+-gain sqrt(3 / fan)), gain that of the activation that follows (He et al., 2015).

    a: the slope of a leaky relu below 0. Layers start with a = sqrt(5): U(+-1 / sqrt(fan_in)).
    """
    return variance_scaling_(
        tensor, calculate_gain(nonlinearity, a) ** 2, mode, "uniform", generator
    )


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """N(0, gain^2 / fan), gain that of the activation that follows (He et al., 2015)."""
    return variance_scaling_(
        tensor, calculate_gain(nonlinearity, a) ** 2, mode, "normal", generator
    )


def lecun_uniform_(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """U(+-sqrt(3 / fan_in)) (LeCun et al., Efficient BackProp, 1998)."""
    return variance_scaling_(tensor, 1.0, "fan_in", "uniform", generator)


def lecun_normal_(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """Mean 0, variance 1 / fan_in, cut at two standard deviations (as in JAX): for SELU."""
    return variance_scaling_(tensor, 1.0, "fan_in", "truncated_normal", generator)


# ------------------------------------------------------------------ the lectures' own
# Three different "Xaviers" circulate; each has its own name. These take the numbers of inputs and
# outputs, since the lectures' W is (inputs, outputs) and a layer's weight (outputs, inputs).


def xavier_2010(fan_in: int) -> Initializer:
    """The lectures' Xavier: randn / sqrt(fan_in). 784 inputs: standard deviation 0.0357.

    Returns an initialiser: given a Tensor it writes into it, given a shape it makes a Tensor.

    >>> W = xavier_2010(784)((784, 256))
    >>> xavier_2010(784)(nn.Linear(784, 256).weight)
    """
    return _scaled_normal(math.sqrt(_count("xavier_2010", fan_in)))


def he_2015(fan_in: int) -> Initializer:
    """The lectures' He: randn / sqrt(fan_in / 2). 784 inputs: standard deviation 0.0505.

    Returns an initialiser, as `xavier_2010` does.
    """
    return _scaled_normal(math.sqrt(_count("he_2015", fan_in) / 2))


def xavier_init(n_inputs: int, n_outputs: int, uniform: bool = True) -> Initializer:
    """The lectures' `xavier_init`, with their formula.

    uniform: U(+-sqrt(6 / (n_inputs + n_outputs))), for 784 -> 256 of standard deviation 0.0439.
        Otherwise N(0, 3 / (n_inputs + n_outputs)) truncated at two standard deviations by drawing
        again (TensorFlow's `truncated_normal_initializer`): 0.0537, after truncation 0.0472.

    Returns an initialiser, as `xavier_2010` does.
    """
    total = _count("xavier_init", n_inputs) + _count("xavier_init", n_outputs)
    if uniform:
        bound = math.sqrt(6 / total)
        return _initializer(lambda tensor, generator: uniform_(tensor, -bound, bound, generator))
    std = math.sqrt(3 / total)
    return _initializer(
        lambda tensor, generator: trunc_normal_(
            tensor, 0.0, std, -_TWO_SIGMA * std, _TWO_SIGMA * std, generator
        )
    )


def _count(name: str, n: int) -> int:
    if n < 1:
        raise ValueError(f"{name}: a layer has at least 1 input and 1 output, not {n}")
    return n


def _scaled_normal(divisor: float) -> Initializer:
    return _initializer(
        lambda tensor, generator: _fill(
            tensor, resolve(generator).standard_normal(tensor.shape) / divisor
        )
    )


def _initializer(write: Callable[[Tensor, Generator | None], Tensor]) -> Initializer:
    def initialize(
        target: Tensor | tuple[int, ...],
        generator: Generator | None = None,
        dtype: Any = np.float32,
    ) -> Tensor:
        """Write into a Tensor, or make one of a shape and `dtype`."""
        tensor = target if isinstance(target, Tensor) else Tensor(np.empty(target, dtype))
        return write(tensor, generator)

    return initialize


def uniform_by_fan_in(
    weight: Parameter, bias: Parameter | None, generator: Generator | None
) -> None:
    """PyTorch's default for layers with a weight: both U(+-1 / sqrt(fan_in))."""
    kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
    if bias is not None:
        bound = 1 / math.sqrt(max(fan_in_and_fan_out(weight)[0], 1))
        uniform_(bias, -bound, bound, generator)
