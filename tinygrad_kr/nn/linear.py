"""Affine layers, and the identity."""

from __future__ import annotations

import math
from typing import Any

import tinygrad_kr.functional as F
from tinygrad_kr.nn import init
from tinygrad_kr.nn.init import uniform_by_fan_in
from tinygrad_kr.nn.module import Module
from tinygrad_kr.nn.parameter import parameter, size
from tinygrad_kr.random import Generator


class Linear(Module):
    """x W^T + b: weighted sums of all inputs, (..., in_features) -> (..., out_features).

    Parameters: `weight` (out_features, in_features) and `bias` (out_features,). Both start as
    U(+-1 / sqrt(in_features)).
    bias: False for none.
    dtype: of the parameters, default float32. generator: for the initial values.

    Raises ValueError for sizes below 1, and in a call for another number of features.

    >>> nn.Linear(3, 2)(tk.ones(4, 3)).shape
    (4, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        self.in_features = size("in_features", in_features)
        self.out_features = size("out_features", out_features)
        self.weight = parameter((out_features, in_features), dtype)
        self.bias = parameter((out_features,), dtype) if bias else None
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the initial values again."""
        uniform_by_fan_in(self.weight, self.bias, generator)

    def forward(self, input: Any) -> Any:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )

    def wanted_input(self) -> str:
        return f"(..., {self.in_features})"


class Bilinear(Module):
    """x1^T W x2 + b for each output: (..., in1_features), (..., in2_features) -> (..., out).

    Parameters: `weight` (out_features, in1_features, in2_features) and `bias` (out_features,).
    Both start as U(+-1 / sqrt(in1_features)).
    bias: False for none. dtype: of the parameters, default float32.
    generator: for the initial values.

    Raises ValueError for sizes below 1, and in a call for shapes that do not agree.

    >>> nn.Bilinear(3, 2, 4)(tk.ones(5, 3), tk.ones(5, 2)).shape
    (5, 4)
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        self.in1_features = size("in1_features", in1_features)
        self.in2_features = size("in2_features", in2_features)
        self.out_features = size("out_features", out_features)
        self.weight = parameter((out_features, in1_features, in2_features), dtype)
        self.bias = parameter((out_features,), dtype) if bias else None
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the initial values again."""
        bound = 1 / math.sqrt(self.in1_features)
        for each in self.parameters():
            init.uniform_(each, -bound, bound, generator)

    def forward(self, input1: Any, input2: Any) -> Any:
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )

    def wanted_input(self) -> str:
        return f"(..., {self.in1_features}) and (..., {self.in2_features})"


class Identity(Module):
    """Returns its input. Takes the place of a layer that is left out; arguments are ignored.

    >>> nn.Identity()(tk.tensor([1.0]))
    Tensor([1.])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def forward(self, input: Any) -> Any:
        return input
