"""Activation functions as modules; more is said at the functions in `functional`."""

from __future__ import annotations

from typing import Any

import tinygrad_kr.functional as F
from tinygrad_kr.arrays.operands import either_name
from tinygrad_kr.nn import init
from tinygrad_kr.nn.module import Module
from tinygrad_kr.nn.parameter import parameter, size


class Sigmoid(Module):
    """1 / (1 + exp(-x)), between 0 and 1, elementwise.

    >>> nn.Sigmoid()(tk.tensor([-1000.0, 0.0]))
    Tensor([0. , 0.5])
    """

    def forward(self, input: Any) -> Any:
        return F.sigmoid(input)


class Tanh(Module):
    """The hyperbolic tangent, between -1 and 1, elementwise.

    >>> nn.Tanh()(tk.tensor([0.0, 1000.0]))
    Tensor([0., 1.])
    """

    def forward(self, input: Any) -> Any:
        return F.tanh(input)


class ReLU(Module):
    """max(x, 0), elementwise. The slope at 0 is 0.

    inplace: accepted for PyTorch's sake; no array is overwritten.

    >>> nn.ReLU()(tk.tensor([-1.0, 2.0]))
    Tensor([0., 2.])
    """

    def __init__(self, inplace: bool = False) -> None:
        pass

    def forward(self, input: Any) -> Any:
        return F.relu(input)


class LeakyReLU(Module):
    """x where x > 0, else negative_slope x, elementwise. The slope at 0 is `negative_slope`.

    inplace: see `ReLU`. Source: Maas et al. (2013).

    >>> nn.LeakyReLU(0.1)(tk.tensor([-1.0, 2.0]))
    Tensor([-0.1,  2. ])
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope = negative_slope

    def forward(self, input: Any) -> Any:
        return F.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """x where x > 0, else alpha (exp(x) - 1), elementwise. The slope at 0 is alpha.

    inplace: see `ReLU`. Source: Clevert et al. (2015).

    >>> nn.ELU()(tk.tensor([-1000.0, 2.0]))
    Tensor([-1.,  2.])
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha = alpha

    def forward(self, input: Any) -> Any:
        return F.elu(input, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class CELU(Module):
    """x where x > 0, else alpha (exp(x / alpha) - 1), elementwise. The slope at 0 is 1.

    inplace: see `ReLU`. Raises ValueError for an alpha of 0. Source: Barron (2017).

    >>> nn.CELU(2.0)(tk.tensor([-1000.0, 2.0]))
    Tensor([-2.,  2.])
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        if alpha == 0:
            raise ValueError("CELU: expected an alpha other than 0, got 0.")
        self.alpha = alpha

    def forward(self, input: Any) -> Any:
        return F.celu(input, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class SELU(Module):
    """scale x where x > 0, else scale alpha (exp(x) - 1): for self-normalising nets.

    Initialise the weights with `init.lecun_normal_`. The constants are with `functional.selu`.
    inplace: see `ReLU`. Source: Klambauer et al. (2017).

    >>> nn.SELU()(tk.tensor([0.0, 1.0])).numpy().round(4)
    array([0.    , 1.0507], dtype=float32)
    """

    def __init__(self, inplace: bool = False) -> None:
        pass

    def forward(self, input: Any) -> Any:
        return F.selu(input)


class GELU(Module):
    """x Phi(x), where Phi is the distribution function of the standard normal, elementwise.

    approximate: "none" or "tanh" (else ValueError): see `functional.gelu`.
    Source: Hendrycks and Gimpel (2016).

    >>> nn.GELU()(tk.tensor([0.0, 1.0])).numpy().round(4)
    array([0.    , 0.8413], dtype=float32)
    """

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f'GELU: expected approximate "none" or "tanh", got {approximate!r}.')
        self.approximate = approximate

    def forward(self, input: Any) -> Any:
        return F.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x sigmoid(x), also called swish, elementwise.

    inplace: see `ReLU`. Source: Elfwing et al. (2017).

    >>> nn.SiLU()(tk.tensor([0.0, 1.0])).numpy().round(4)
    array([0.    , 0.7311], dtype=float32)
    """

    def __init__(self, inplace: bool = False) -> None:
        pass

    def forward(self, input: Any) -> Any:
        return F.silu(input)


class Softplus(Module):
    """log(1 + exp(beta x)) / beta, a smooth ReLU, elementwise.

    threshold: where beta x > threshold the result is x itself.

    >>> nn.Softplus()(tk.tensor([0.0, 100.0])).numpy().round(4)
    array([  0.6931, 100.    ], dtype=float32)
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = beta, threshold

    def forward(self, input: Any) -> Any:
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Hardtanh(Module):
    """x, clipped to [min_val, max_val]. The slope is 0 at both bounds and beyond.

    inplace: see `ReLU`. Raises ValueError for min_val > max_val.

    >>> nn.Hardtanh()(tk.tensor([-3.0, 0.5]))
    Tensor([-1. ,  0.5])
    """

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        if not min_val <= max_val:
            raise ValueError(f"Hardtanh: expected min_val <= max_val, got {min_val} and {max_val}.")
        self.min_val, self.max_val = min_val, max_val

    def forward(self, input: Any) -> Any:
        return F.hardtanh(input, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}"


class ReLU6(Module):
    """min(max(x, 0), 6), elementwise. The slope is 0 at 0 and at 6.

    inplace: see `ReLU`. Source: Krizhevsky (2010).

    >>> nn.ReLU6()(tk.tensor([-1.0, 3.0, 8.0]))
    Tensor([0., 3., 6.])
    """

    def __init__(self, inplace: bool = False) -> None:
        pass

    def forward(self, input: Any) -> Any:
        return F.relu6(input)


class Hardsigmoid(Module):
    """x / 6 + 1 / 2, clipped to [0, 1], elementwise. The slope is 0 at -3 and 3 and beyond.

    inplace: see `ReLU`.

    >>> nn.Hardsigmoid()(tk.tensor([-4.0, 0.0, 1.5]))
    Tensor([0.  , 0.5 , 0.75])
    """

    def __init__(self, inplace: bool = False) -> None:
        pass

    def forward(self, input: Any) -> Any:
        return F.hardsigmoid(input)


class Hardswish(Module):
    """x hardsigmoid(x), elementwise. The slope is 0 at -3 and below, 1 at 3 and above.

    inplace: see `ReLU`. Source: Howard et al. (2019).

    >>> nn.Hardswish()(tk.tensor([0.0, 1.5, 4.0]))
    Tensor([0.   , 1.125, 4.   ])
    """

    def __init__(self, inplace: bool = False) -> None:
        pass

    def forward(self, input: Any) -> Any:
        return F.hardswish(input)


class Mish(Module):
    """x tanh(softplus(x)), elementwise.

    inplace: see `ReLU`. Source: Misra (2019).

    >>> nn.Mish()(tk.tensor([0.0, 1.0])).numpy().round(4)
    array([0.    , 0.8651], dtype=float32)
    """

    def __init__(self, inplace: bool = False) -> None:
        pass

    def forward(self, input: Any) -> Any:
        return F.mish(input)


class LogSigmoid(Module):
    """log(sigmoid(x)), exact where the sigmoid underflows, elementwise.

    >>> nn.LogSigmoid()(tk.tensor([-200.0, 0.0])).numpy().round(4)
    array([-200.    ,   -0.6931], dtype=float32)
    """

    def forward(self, input: Any) -> Any:
        return F.logsigmoid(input)


class Softsign(Module):
    """x / (1 + |x|), elementwise. The slope at 0 is 1.

    >>> nn.Softsign()(tk.tensor([-1.0, 0.0, 3.0]))
    Tensor([-0.5 ,  0.  ,  0.75])
    """

    def forward(self, input: Any) -> Any:
        return F.softsign(input)


class PReLU(Module):
    """x where x > 0, else weight x, with slopes that are learned. The slope at 0 is `weight`.

    Parameter: `weight` (num_parameters,), starts as `init`.
    num_parameters: 1, or the number of channels (axis 1) for a slope of each.
    dtype: of the weight, default float32.

    A call raises ValueError for another number of channels. Source: He et al. (2015).

    >>> nn.PReLU()(tk.tensor([-2.0, 3.0])).tolist()
    [-0.5, 3.0]
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, *, dtype: Any = None) -> None:
        self.num_parameters, self.init = size("num_parameters", num_parameters), init
        self.weight = parameter((num_parameters,), dtype, init)

    def reset_parameters(self) -> None:
        """Set the slopes to `init`."""
        init.constant_(self.weight, self.init)

    def forward(self, input: Any) -> Any:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class GLU(Module):
    """a sigmoid(b), where a and b are the halves of the input along `dim`: (2 n) -> (n).

    A call raises ValueError for an odd size. Source: Dauphin et al. (2017).

    >>> nn.GLU()(tk.tensor([2.0, 3.0, 0.0, 1000.0]))
    Tensor([1., 3.])
    """

    @either_name
    def __init__(self, dim: int = -1, *, axis: int | None = None) -> None:
        self.dim = dim

    def forward(self, input: Any) -> Any:
        return F.glu(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmin(Module):
    """softmax(-x) along the axis `dim`: the smallest element gets the largest probability.

    >>> nn.Softmin(dim=-1)(tk.tensor([0.0, 1000.0]))
    Tensor([1., 0.])
    """

    @either_name
    def __init__(self, dim: int, *, axis: int | None = None) -> None:
        self.dim = dim

    def forward(self, input: Any) -> Any:
        return F.softmin(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(Module):
    """exp(x) / sum(exp(x)) along the axis `dim`: probabilities that sum to 1.

    >>> nn.Softmax(dim=-1)(tk.tensor([0.0, 0.0]))
    Tensor([0.5, 0.5])
    """

    @either_name
    def __init__(self, dim: int, *, axis: int | None = None) -> None:
        self.dim = dim

    def forward(self, input: Any) -> Any:
        return F.softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """log(softmax(x)) along the axis `dim`: the input of `NLLLoss`.

    >>> nn.LogSoftmax(dim=-1)(tk.tensor([1000.0, 0.0]))
    Tensor([    0., -1000.])
    """

    @either_name
    def __init__(self, dim: int, *, axis: int | None = None) -> None:
        self.dim = dim

    def forward(self, input: Any) -> Any:
        return F.log_softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Maxout(Module):
    """The largest of every `pieces` neighbours along `dim`: (..., units x pieces) -> (..., units).

    After `Linear(n, units * pieces)` each unit is max over k of (w_k x + b_k): a convex, piecewise
    linear activation that is learned. Ties share the gradient evenly.
    Raises ValueError for pieces < 1. Source: Goodfellow et al. (2013).

    >>> nn.Maxout(2)(tk.tensor([[1.0, 5.0, -2.0, -3.0]]))
    Tensor([[ 5., -2.]])
    """

    @either_name
    def __init__(self, pieces: int = 2, dim: int = -1, *, axis: int | None = None) -> None:
        if pieces < 1:
            raise ValueError(f"Maxout: expected pieces >= 1, got {pieces}.")
        self.pieces, self.dim = pieces, dim

    def forward(self, input: Any) -> Any:
        return F.maxout(input, self.pieces, self.dim)

    def extra_repr(self) -> str:
        return f"pieces={self.pieces}, dim={self.dim}"
