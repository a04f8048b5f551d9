"""Layers that only rearrange."""

from __future__ import annotations

import math
from typing import Any

from tinygrad_kr.arrays.operands import either_name
from tinygrad_kr.nn.module import Module


class Flatten(Module):
    """Merge the axes from `start_dim` to `end_dim`: by default (N, C, H, W) -> (N, C H W).

    >>> nn.Flatten()(tk.ones(2, 3, 4, 4)).shape
    (2, 48)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Any) -> Any:
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Split one axis into several, the inverse of `Flatten`: (N, 12) -> (N, 3, 2, 2).

    dim: the axis. unflattened_size: its new sizes, one of which may be -1.

    >>> nn.Unflatten(1, (3, 2, 2))(tk.ones(5, 12)).shape
    (5, 3, 2, 2)
    """

    @either_name
    def __init__(
        self,
        dim: int,
        unflattened_size: tuple[int, ...] | list[int],
        *,
        axis: int | None = None,
    ) -> None:
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Any) -> Any:
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"

    def wanted_input(self) -> str:
        if -1 in self.unflattened_size:
            return ""
        return f"{math.prod(self.unflattened_size)} elements on axis {self.dim}"
