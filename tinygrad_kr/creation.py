"""Tensors made from nothing: floats are float32, integers int64, unless `dtype` says otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_kr.arrays.operands import as_array
from tinygrad_kr.random import _shape
from tinygrad_kr.tensor import Tensor

__all__ = [
    "arange", "empty", "empty_like", "eye", "full", "full_like", "linspace", "ones",
    "ones_like", "rand_like", "randn_like", "tensor", "zeros", "zeros_like",
]  # fmt: skip


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor with its own copy of `data`."""
    return Tensor(np.array(as_array(data, dtype)), requires_grad=requires_grad)


def zeros(*sizes: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """All 0."""
    return Tensor(np.zeros(_shape(sizes), dtype), requires_grad=requires_grad)


def ones(*sizes: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """All 1."""
    return Tensor(np.ones(_shape(sizes), dtype), requires_grad=requires_grad)


def empty(*sizes: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """Not initialised."""
    return Tensor(np.empty(_shape(sizes), dtype), requires_grad=requires_grad)


def full(size: Any, fill_value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """All `fill_value`."""
    value = as_array(fill_value, dtype)
    return Tensor(np.full(_shape((size,)), value), requires_grad=requires_grad)


def eye(
    n: int, m: int | None = None, dtype: Any = np.float32, requires_grad: bool = False
) -> Tensor:
    """1 on the diagonal, 0 elsewhere."""
    return Tensor(np.eye(n, m, dtype=dtype), requires_grad=requires_grad)


def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    dtype: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """From `start` (0, if only one bound is given) up to `end`, exclusive, by `step`."""
    start, end = (0, start) if end is None else (start, end)
    return Tensor(_default(np.arange(start, end, step), dtype), requires_grad=requires_grad)


def linspace(
    start: float, end: float, steps: int, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """`steps` evenly spaced numbers from `start` to `end`, both included."""
    return Tensor(_default(np.linspace(start, end, steps), dtype), requires_grad=requires_grad)


def _default(array: Any, dtype: Any) -> Any:
    if dtype is not None:
        return array.astype(dtype)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def zeros_like(x: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """All 0, of the shape and dtype of `x`."""
    return Tensor(np.zeros_like(as_array(x), dtype), requires_grad=requires_grad)


def ones_like(x: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """All 1, of the shape and dtype of `x`."""
    return Tensor(np.ones_like(as_array(x), dtype), requires_grad=requires_grad)


def empty_like(x: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Not initialised, of the shape and dtype of `x`."""
    return Tensor(np.empty_like(as_array(x), dtype), requires_grad=requires_grad)


def full_like(x: Any, fill_value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """All `fill_value`, of the shape and dtype of `x`."""
    return Tensor(np.full_like(as_array(x), fill_value, dtype), requires_grad=requires_grad)


def rand_like(x: Tensor, generator: Any = None) -> Tensor:
    """Uniform on [0, 1), of the shape and dtype of `x`."""
    from tinygrad_kr.random import rand

    return rand(x.shape, generator=generator, dtype=x.dtype)


def randn_like(x: Tensor, generator: Any = None) -> Tensor:
    """Standard normal, of the shape and dtype of `x`."""
    from tinygrad_kr.random import randn

    return randn(x.shape, generator=generator, dtype=x.dtype)
