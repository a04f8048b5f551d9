"""Affine layers, and the layer that does nothing."""

from __future__ import annotations

from typing import Any

import tinygrad_kr.functional as F
from tinygrad_kr.nn.init import uniform_by_fan_in
from tinygrad_kr.nn.module import Module
from tinygrad_kr.nn.parameter import parameter, size
from tinygrad_kr.random import Generator


class Linear(Module):
    """x W^T + b: each unit a weighted sum of all inputs, (..., in_features) -> (..., out_features).

    `weight` (out_features, in_features) and `bias` (out_features,) start as
    U(+-1 / sqrt(in_features)).
    dtype: of the parameters, float32 by default. generator: for the initial values.
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


class Identity(Module):
    """Returns its input: stands in for a layer that is left out. Any arguments are ignored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def forward(self, input: Any) -> Any:
        return input


# ------------------------------------------------------------------ what layers share
