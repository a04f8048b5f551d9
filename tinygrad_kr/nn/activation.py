"""Activation functions as modules; formulas and sources are with the functions in `functional`."""

from __future__ import annotations

from typing import Any

import tinygrad_kr.functional as F
from tinygrad_kr.nn.module import Module


class Sigmoid(Module):
    """1 / (1 + exp(-x)), between 0 and 1."""

    def forward(self, input: Any) -> Any:
        return F.sigmoid(input)


class Tanh(Module):
    """The hyperbolic tangent, between -1 and 1."""

    def forward(self, input: Any) -> Any:
        return F.tanh(input)


class ReLU(Module):
    """max(x, 0), with slope 0 at 0.

    inplace: accepted for the sake of code written for PyTorch; no array is overwritten.
    """

    def __init__(self, inplace: bool = False) -> None:
        pass

    def forward(self, input: Any) -> Any:
        return F.relu(input)


class LeakyReLU(Module):
    """x where x > 0, else negative_slope x. inplace: see `ReLU`."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope = negative_slope

    def forward(self, input: Any) -> Any:
        return F.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """x where x > 0, else alpha (exp(x) - 1). inplace: see `ReLU`."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha = alpha

    def forward(self, input: Any) -> Any:
        return F.elu(input, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class SELU(Module):
    """scale x where x > 0, else scale alpha (exp(x) - 1): self-normalising nets.

    Goes with `init.lecun_normal_`. inplace: see `ReLU`.
    """

    def __init__(self, inplace: bool = False) -> None:
        pass

    def forward(self, input: Any) -> Any:
        return F.selu(input)


class GELU(Module):
    """x Phi(x), Phi the standard normal's distribution function; approximate: "none" or "tanh"."""

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f'GELU: approximate is "none" or "tanh", not {approximate!r}')
        self.approximate = approximate

    def forward(self, input: Any) -> Any:
        return F.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x sigmoid(x), also called swish. inplace: see `ReLU`."""

    def __init__(self, inplace: bool = False) -> None:
        pass

    def forward(self, input: Any) -> Any:
        return F.silu(input)


class Softplus(Module):
    """log(1 + exp(beta x)) / beta, a smooth ReLU; x itself where beta x > threshold."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = beta, threshold

    def forward(self, input: Any) -> Any:
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Hardtanh(Module):
    """x held between min_val and max_val. inplace: see `ReLU`."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        if not min_val <= max_val:
            raise ValueError(f"Hardtanh: min_val {min_val} is above max_val {max_val}")
        self.min_val, self.max_val = min_val, max_val

    def forward(self, input: Any) -> Any:
        return F.hardtanh(input, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}"


class Softmax(Module):
    """exp(x) / sum(exp(x)) along the axis `dim`, which has to be named."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, input: Any) -> Any:
        return F.softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """log(softmax(x)) along the axis `dim`: for `NLLLoss`."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, input: Any) -> Any:
        return F.log_softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Maxout(Module):
    """The largest of every `pieces` neighbours along `dim`: (..., units x pieces) -> (..., units).

    With `Linear(n, units * pieces)` before it, each unit is max over k of (w_k x + b_k), a convex,
    piecewise linear activation that it learns (Goodfellow et al., 2013).
    """

    def __init__(self, pieces: int = 2, dim: int = -1) -> None:
        if pieces < 1:
            raise ValueError(f"Maxout: pieces must be at least 1, not {pieces}")
        self.pieces, self.dim = pieces, dim

    def forward(self, input: Any) -> Any:
        return F.maxout(input, self.pieces, self.dim)

    def extra_repr(self) -> str:
        return f"pieces={self.pieces}, dim={self.dim}"
