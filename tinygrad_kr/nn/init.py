"""Initialisers of weights, written in place into Tensors.

`variance_scaling_` is the general one, and the named ones are its special cases. The lectures' own
come last. All take `generator=`, by default the one that `tk.manual_seed` seeds. They draw in
float64 and convert, so one seed gives the same weights in float32 and float64 up to rounding. They
return the Tensor.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy import ndarray

from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.nn.parameter import Parameter
from tinygrad_kr.random import Generator, resolve
from tinygrad_kr.tensor import Tensor

__all__ = [
    "calculate_gain",
    "constant_",
    "eye_",
    "fan_in_and_fan_out",
    "he_2015",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "trunc_normal_",
    "uniform_",
    "variance_scaling_",
    "xavier_2010",
    "xavier_init",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


def __dir__() -> list[str]:
    return __all__


Mode = Literal["fan_in", "fan_out", "fan_avg"]
Distribution = Literal["uniform", "normal", "truncated_normal"]
Initializer = Callable[..., Tensor]

_TWO_SIGMA = 2.0
_STD_WITHIN_TWO_SIGMA = 0.87962566103423978
"""Standard deviation of the standard normal truncated to [-2, 2]."""


def _fill(name: str, tensor: Tensor, values: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a Tensor to write into, got {type(tensor).__name__}.")
    with no_grad():
        tensor[...] = values
    return tensor


# ------------------------------------------------------------------ distributions


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Set every element to `val`.

    >>> nn.init.constant_(tk.zeros(2), 0.5)
    Tensor([0.5, 0.5])
    """
    return _fill("constant_", tensor, val)


def zeros_(tensor: Tensor) -> Tensor:
    """Set every element to 0: for biases. Weights of 0 leave all units of a layer alike.

    >>> nn.init.zeros_(tk.ones(2))
    Tensor([0., 0.])
    """
    return _fill("zeros_", tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Set every element to 1.

    >>> nn.init.ones_(tk.zeros(2))
    Tensor([1., 1.])
    """
    return _fill("ones_", tensor, 1.0)


def eye_(tensor: Tensor) -> Tensor:
    """Set the diagonal to 1 and the rest to 0: a linear layer that passes its input on.

    tensor: (m, n). Raises ValueError for another number of axes.

    >>> nn.init.eye_(tk.zeros(2, 3))
    Tensor([[1., 0., 0.],
            [0., 1., 0.]])
    """
    if tensor.ndim != 2:
        raise ValueError(f"eye_: expected 2 axes, got shape {tensor.shape}.")
    return _fill("eye_", tensor, np.eye(tensor.shape[0], tensor.shape[1]))


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Draw from the uniform distribution on [a, b).

    Mean (a + b) / 2, standard deviation (b - a) / sqrt(12). Raises ValueError for a > b.

    >>> nn.init.uniform_(tk.zeros(1000), -1.0, 1.0).abs().max().item() <= 1.0
    True
    """
    if not a <= b:
        raise ValueError(f"uniform_: expected a <= b, got a={a} and b={b}.")
    return _uniform("uniform_", tensor, a, b, generator)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Draw from the normal distribution with mean `mean` and standard deviation `std`.

    Raises ValueError for std < 0.

    >>> bool(abs(nn.init.normal_(tk.zeros(10000), std=2.0).std().item() - 2.0) < 0.2)
    True
    """
    _check_std("normal_", std)
    return _normal("normal_", tensor, mean, std, generator)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Draw from the normal distribution truncated to [a, b]: values outside are drawn again.

    a, b: bounds of the values themselves, not in standard deviations, as in PyTorch. The standard
        deviation of the result is smaller than `std`: 0.880 std for bounds at 2 std.

    Raises ValueError for std < 0 or a >= b.

    >>> nn.init.trunc_normal_(tk.zeros(1000)).abs().max().item() <= 2.0
    True
    """
    _check_std("trunc_normal_", std)
    if not a < b:
        raise ValueError(f"trunc_normal_: expected a < b, got a={a} and b={b}.")
    if std == 0:
        return _fill("trunc_normal_", tensor, min(max(mean, a), b))
    return _trunc_normal("trunc_normal_", tensor, mean, std, a, b, generator)


def _uniform(name: str, tensor: Tensor, a: float, b: float, generator: Generator | None) -> Tensor:
    return _fill(name, tensor, resolve(generator, name).uniform(a, b, tensor.shape))


def _normal(
    name: str, tensor: Tensor, mean: float, std: float, generator: Generator | None
) -> Tensor:
    drawn = resolve(generator, name).standard_normal(tensor.shape)
    return _fill(name, tensor, mean + std * drawn)


def _trunc_normal(
    name: str,
    tensor: Tensor,
    mean: float,
    std: float,
    a: float,
    b: float,
    generator: Generator | None,
) -> Tensor:
    z = _truncated(resolve(generator, name), (a - mean) / std, (b - mean) / std, tensor.size)
    return _fill(name, tensor, np.clip(mean + std * z, a, b).reshape(tensor.shape))


def _check_std(name: str, std: float) -> None:
    if not std >= 0:
        raise ValueError(f"{name}: expected std >= 0, got {std}.")


def _truncated(generator: Generator, low: float, high: float, count: int) -> ndarray:
    """`count` standard normal numbers, truncated to [low, high].

    Rejection sampling: from the normal itself where that succeeds often. Otherwise from an
    exponential that falls as the normal does at the near end of the interval (a uniform, if that
    end is 0 or inside). Source: Robert, Simulation of truncated normal variables (1995).
    """
    if high < 0:
        return -_truncated(generator, -high, -low, count)
    mass = (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2
    out = np.empty(count)
    filled = 0
    while filled < count:
        missing = count - filled
        if mass > 0.3:
            z = generator.standard_normal(missing)
            z = z[(z >= low) & (z <= high)]
        else:
            near = max(low, 0.0)
            z = _exponential(generator, low, high, near, missing)
            z = z[generator.random(missing) < np.exp(-0.5 * (z - near) ** 2)]
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
    """Make the rows (or columns, if they are fewer) orthonormal, times `gain`.

    tensor: (rows, ...), the other axes taken as one. Q of the QR decomposition of a normal matrix,
    its signs fixed so that it is uniform over all orthogonal matrices.
    Raises ValueError for fewer than 2 axes.
    Source: Saxe et al., Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks (2014).

    >>> w = nn.init.orthogonal_(tk.zeros(2, 5))
    >>> np.allclose((w @ w.T).numpy(), np.eye(2), atol=1e-6)
    True
    """
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_: expected at least 2 axes, got shape {tensor.shape}.")
    if not tensor.size:
        return tensor
    rows = tensor.shape[0]
    columns = tensor.size // rows
    sizes = max(rows, columns), min(rows, columns)
    drawn = resolve(generator, "orthogonal_").standard_normal(sizes)
    q, r = np.linalg.qr(drawn)
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return _fill(
        "orthogonal_", tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape)
    )


# ------------------------------------------------------------------ scaled to the layer


def fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """The number of inputs of one output of a layer, and of outputs of one input.

    For a weight (out, in, *kernel): in x kernel size, and out x kernel size.
    Raises ValueError for fewer than 2 axes.

    >>> nn.init.fan_in_and_fan_out(tk.zeros(8, 3, 5, 5))
    (75, 200)
    """
    return _fans("fan_in_and_fan_out", tensor)


def _fans(name: str, tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ValueError(f"{name}: expected a weight (out, in, *kernel), got shape {tensor.shape}.")
    kernel = math.prod(tensor.shape[2:])
    return tensor.shape[1] * kernel, tensor.shape[0] * kernel


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor on the weights that keeps the size of signals through an activation.

    1 for linear, conv and sigmoid, 5/3 for tanh, sqrt(2) for relu, sqrt(2 / (1 + slope^2)) for
    leaky_relu, 3/4 for selu: PyTorch's table.
    param: the slope of leaky_relu, default 0.01.

    Raises ValueError for other names.

    >>> nn.init.calculate_gain("tanh")
    1.6666666666666667
    """
    return _gain("calculate_gain", nonlinearity, param)


def _gain(name: str, nonlinearity: str, param: float | None) -> float:
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2 / (1 + slope**2))
    gains = {"sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}
    gains |= dict.fromkeys(("linear", "conv1d", "conv2d", "conv_transpose2d"), 1.0)
    if nonlinearity not in gains:
        known = ", ".join([*gains, "leaky_relu"])
        raise ValueError(f"{name}: expected one of {known}, got {nonlinearity!r}.")
    return gains[nonlinearity]


def variance_scaling_(
    tensor: Tensor,
    scale: float = 1.0,
    mode: Mode = "fan_in",
    distribution: Distribution = "truncated_normal",
    generator: Generator | None = None,
) -> Tensor:
    """Draw with mean 0 and variance scale / n.

    mode: n is "fan_in", "fan_out", or their mean "fan_avg".
    distribution: "uniform" is U(+-sqrt(3 scale / n)), "normal" is N(0, scale / n).
        "truncated_normal" is truncated at two standard deviations and widened so that its variance
        is scale / n.

    Raises ValueError for another mode or distribution, scale <= 0, or fewer than 2 axes.
    Source: JAX's `variance_scaling`. The named initialisers below are its special cases.

    >>> w = nn.init.variance_scaling_(tk.zeros(4, 300), 3.0, "fan_in", "uniform")
    >>> w.abs().max().item() <= 0.1732051
    True
    """
    return _scaled("variance_scaling_", tensor, scale, mode, distribution, generator)


def _scaled(
    name: str,
    tensor: Tensor,
    scale: float,
    mode: Mode,
    distribution: Distribution,
    generator: Generator | None,
) -> Tensor:
    fan_in, fan_out = _fans(name, tensor)
    counts = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
    if mode not in counts:
        raise ValueError(f"{name}: expected mode in {', '.join(counts)}, got {mode!r}.")
    if not scale > 0:
        raise ValueError(f"{name}: expected scale > 0, got {scale}.")
    std = math.sqrt(scale / max(counts[mode], 1))
    if distribution == "uniform":
        bound = math.sqrt(3) * std
        return _uniform(name, tensor, -bound, bound, generator)
    if distribution == "normal":
        return _normal(name, tensor, 0.0, std, generator)
    if distribution == "truncated_normal":
        std /= _STD_WITHIN_TWO_SIGMA
        limit = _TWO_SIGMA * std
        return _trunc_normal(name, tensor, 0.0, std, -limit, limit, generator)
    raise ValueError(
        f'{name}: expected distribution "uniform", "normal" or "truncated_normal", got '
        f"{distribution!r}."
    )


def __getattr__(name: str) -> Any:
    if name == "variance_scaling":
        warnings.warn(
            "nn.init.variance_scaling is now nn.init.variance_scaling_",
            DeprecationWarning,
            stacklevel=2,
        )
        return variance_scaling_
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Draw from U(+-gain sqrt(6 / (fan_in + fan_out))).

    Raises ValueError for fewer than 2 axes.
    Source: Glorot and Bengio, Understanding the difficulty of training deep feedforward neural
    networks (2010).

    >>> nn.init.xavier_uniform_(tk.zeros(2, 4)).abs().max().item() <= 1.0
    True
    """
    return _scaled("xavier_uniform_", tensor, gain**2, "fan_avg", "uniform", generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Draw from N(0, gain^2 2 / (fan_in + fan_out)).

    Raises ValueError for fewer than 2 axes. Source: Glorot and Bengio (2010).

    >>> nn.init.xavier_normal_(tk.zeros(2, 4)).shape
    (2, 4)
    """
    return _scaled("xavier_normal_", tensor, gain**2, "fan_avg", "normal", generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Draw from U(+-gain sqrt(3 / fan)), with the gain of the activation that follows.

    a: the slope of a leaky relu below 0. Layers start with a = sqrt(5): U(+-1 / sqrt(fan_in)).
    mode: "fan_in" or "fan_out". nonlinearity: see `calculate_gain`.

    Raises ValueError for fewer than 2 axes or an unknown name.
    Source: He et al., Delving deep into rectifiers (2015).

    >>> nn.init.kaiming_uniform_(tk.zeros(2, 6), nonlinearity="relu").abs().max().item() <= 1.0
    True
    """
    return _scaled(
        "kaiming_uniform_",
        tensor,
        _gain("kaiming_uniform_", nonlinearity, a) ** 2,
        mode,
        "uniform",
        generator,
    )


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Draw from N(0, gain^2 / fan), with the gain of the activation that follows.

    a, mode, nonlinearity, errors, source: see `kaiming_uniform_`.

    >>> nn.init.kaiming_normal_(tk.zeros(2, 6), nonlinearity="relu").shape
    (2, 6)
    """
    return _scaled(
        "kaiming_normal_",
        tensor,
        _gain("kaiming_normal_", nonlinearity, a) ** 2,
        mode,
        "normal",
        generator,
    )


def lecun_uniform_(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """Draw from U(+-sqrt(3 / fan_in)).

    Raises ValueError for fewer than 2 axes. Source: LeCun et al., Efficient BackProp (1998).

    >>> nn.init.lecun_uniform_(tk.zeros(2, 3)).abs().max().item() <= 1.0
    True
    """
    return _scaled("lecun_uniform_", tensor, 1.0, "fan_in", "uniform", generator)


def lecun_normal_(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """Draw with mean 0 and variance 1 / fan_in, truncated at two standard deviations: for SELU.

    Raises ValueError for fewer than 2 axes. Sources: LeCun et al. (1998), truncated as in JAX.

    >>> nn.init.lecun_normal_(tk.zeros(2, 3)).shape
    (2, 3)
    """
    return _scaled("lecun_normal_", tensor, 1.0, "fan_in", "truncated_normal", generator)


# ------------------------------------------------------------------ the lectures' own
# Three different "Xaviers" circulate; each has its own name. These take the numbers of inputs and
# outputs, since the lectures' W is (inputs, outputs) and a layer's weight (outputs, inputs).


def xavier_2010(fan_in: int) -> Initializer:
    """The lectures' Xavier: randn / sqrt(fan_in). For 784 inputs the standard deviation is 0.0357.

    Returns an initialiser: given a Tensor it writes into it, given a shape it makes a Tensor.
    Raises ValueError for fan_in < 1.

    >>> nn.init.xavier_2010(784)((784, 256)).shape
    (784, 256)
    >>> nn.init.xavier_2010(784)(nn.Linear(784, 256).weight).shape
    (256, 784)
    """
    return _scaled_normal("xavier_2010", math.sqrt(_count("xavier_2010", fan_in)))


def he_2015(fan_in: int) -> Initializer:
    """The lectures' He: randn / sqrt(fan_in / 2). For 784 inputs the standard deviation is 0.0505.

    Returns an initialiser, as `xavier_2010` does. Raises ValueError for fan_in < 1.

    >>> nn.init.he_2015(784)((784, 256)).shape
    (784, 256)
    """
    return _scaled_normal("he_2015", math.sqrt(_count("he_2015", fan_in) / 2))


def xavier_init(n_inputs: int, n_outputs: int, uniform: bool = True) -> Initializer:
    """The lectures' `xavier_init`, with their formula.

    uniform: U(+-sqrt(6 / (n_inputs + n_outputs))). For 784 -> 256 the standard deviation is 0.0439.
        False: N(0, 3 / (n_inputs + n_outputs)), truncated at two standard deviations (TensorFlow's
        `truncated_normal_initializer`): 0.0537, after truncation 0.0472.

    Returns an initialiser, as `xavier_2010` does. Raises ValueError for numbers below 1.

    >>> nn.init.xavier_init(784, 256)((784, 256)).shape
    (784, 256)
    """
    total = _count("xavier_init", n_inputs) + _count("xavier_init", n_outputs)
    if uniform:
        bound = math.sqrt(6 / total)
        return _initializer(
            lambda tensor, generator: _uniform("xavier_init", tensor, -bound, bound, generator)
        )
    std = math.sqrt(3 / total)
    limit = _TWO_SIGMA * std
    return _initializer(
        lambda tensor, generator: _trunc_normal(
            "xavier_init", tensor, 0.0, std, -limit, limit, generator
        )
    )


def _count(name: str, n: int) -> int:
    if n < 1:
        raise ValueError(f"{name}: expected at least 1 input and 1 output, got {n}.")
    return n


def _scaled_normal(name: str, divisor: float) -> Initializer:
    return _initializer(
        lambda tensor, generator: _fill(
            name, tensor, resolve(generator, name).standard_normal(tensor.shape) / divisor
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
    """PyTorch's default for layers with a weight: weight and bias from U(+-1 / sqrt(fan_in))."""
    kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
    if bias is not None:
        bound = 1 / math.sqrt(max(fan_in_and_fan_out(weight)[0], 1))
        uniform_(bias, -bound, bound, generator)
