"""Constructors of Tensors: float32 and int64 by default."""

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
    """A Tensor with its own copy of `data`: numbers, nested lists, an array or a Tensor.

    dtype: by default float32 for Python floats, int64 for ints, and that of an array or Tensor.
    requires_grad: record computations with it. Floats only.
    Raises TypeError for anything but real numbers. Source: torch.tensor.

    >>> tk.tensor([[1.0, 2.0], [3.0, 4.0]])
    Tensor([[1., 2.],
            [3., 4.]])
    """
    return Tensor(np.array(as_array(data, dtype)), requires_grad=requires_grad)


def zeros(*sizes: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """A Tensor of the given shape, all 0.

    sizes: integers one by one, or one tuple. dtype: float32 by default.
    Raises ValueError for a negative size. Source: torch.zeros.

    >>> tk.zeros(2, 3)
    Tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """
    return Tensor(np.zeros(_shape(sizes), dtype), requires_grad=requires_grad)


def ones(*sizes: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """A Tensor of the given shape, all 1.

    sizes: integers one by one, or one tuple. dtype: float32 by default.
    Raises ValueError for a negative size. Source: torch.ones.

    >>> tk.ones(3)
    Tensor([1., 1., 1.])
    """
    return Tensor(np.ones(_shape(sizes), dtype), requires_grad=requires_grad)


def empty(*sizes: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """A Tensor of the given shape whose elements are not initialised: any numbers.

    sizes: integers one by one, or one tuple. dtype: float32 by default.
    Raises ValueError for a negative size. Source: torch.empty.

    >>> tk.empty(2, 3).shape
    (2, 3)
    """
    return Tensor(np.empty(_shape(sizes), dtype), requires_grad=requires_grad)


def full(size: Any, fill_value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor of shape `size`, all `fill_value`.

    size: an integer or a tuple. dtype: that of `fill_value` by default, float32 for a Python float.
    Raises ValueError for a negative size. Source: torch.full.

    >>> tk.full((2, 2), 7.0)
    Tensor([[7., 7.],
            [7., 7.]])
    """
    value = as_array(fill_value, dtype)
    return Tensor(np.full(_shape((size,)), value), requires_grad=requires_grad)


def eye(
    n: int, m: int | None = None, dtype: Any = np.float32, requires_grad: bool = False
) -> Tensor:
    """The identity matrix: an (n, m) Tensor, 1 on the diagonal and 0 elsewhere.

    m: `n` by default. dtype: float32 by default.
    Raises ValueError for a negative size. Source: np.eye, torch.eye.

    >>> tk.eye(2)
    Tensor([[1., 0.],
            [0., 1.]])
    """
    return Tensor(np.eye(n, m, dtype=dtype), requires_grad=requires_grad)


def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    dtype: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The numbers from `start` up to `end`, exclusive, in steps of `step`.

    With one bound, `start` is 0. dtype: int64 for integers, else float32. With an integer dtype
    the bounds and the step lose their fractions first.
    Raises ZeroDivisionError for a step of 0. Source: np.arange, torch.arange.

    >>> tk.arange(3)
    Tensor([0, 1, 2])
    """
    start, end = (0, start) if end is None else (start, end)
    if _is_integer(dtype):
        start, end, step = int(start), int(end), int(step)
    return Tensor(_default(np.arange(start, end, step), dtype), requires_grad=requires_grad)


def linspace(
    start: float, end: float, steps: int, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """`steps` evenly spaced numbers from `start` to `end`, both included.

    dtype: float32 by default. With an integer dtype the ends lose their fractions first, the
    numbers between them afterwards. Raises ValueError if `steps` is negative.
    Source: torch.linspace.

    >>> tk.linspace(0, 1, 3)
    Tensor([0. , 0.5, 1. ])
    """
    if _is_integer(dtype):
        start, end = int(start), int(end)
    return Tensor(_default(np.linspace(start, end, steps), dtype), requires_grad=requires_grad)


def _is_integer(dtype: Any) -> bool:
    return dtype is not None and np.dtype(dtype).kind in "iu"


def _default(array: Any, dtype: Any) -> Any:
    if dtype is not None:
        return array.astype(dtype)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def zeros_like(x: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor of the shape of `x`, all 0.

    dtype: that of `x` by default. Source: torch.zeros_like.

    >>> tk.zeros_like(tk.tensor([1, 2]))
    Tensor([0, 0])
    """
    return Tensor(np.zeros_like(as_array(x), dtype), requires_grad=requires_grad)


def ones_like(x: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor of the shape of `x`, all 1.

    dtype: that of `x` by default. Source: torch.ones_like.

    >>> tk.ones_like(tk.tensor([1, 2]))
    Tensor([1, 1])
    """
    return Tensor(np.ones_like(as_array(x), dtype), requires_grad=requires_grad)


def empty_like(x: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor of the shape of `x` whose elements are not initialised: any numbers.

    dtype: that of `x` by default. Source: torch.empty_like.

    >>> tk.empty_like(tk.tensor([1, 2])).shape
    (2,)
    """
    return Tensor(np.empty_like(as_array(x), dtype), requires_grad=requires_grad)


def full_like(x: Any, fill_value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor of the shape of `x`, all `fill_value`.

    dtype: that of `x` by default. Source: torch.full_like.

    >>> tk.full_like(tk.tensor([1, 2]), 7)
    Tensor([7, 7])
    """
    return Tensor(np.full_like(as_array(x), fill_value, dtype), requires_grad=requires_grad)


def rand_like(x: Tensor, generator: Any = None) -> Tensor:
    """Uniform random numbers on [0, 1), of the shape and dtype of `x`.

    generator: a np.random.Generator, the default one if none is given.
    Raises TypeError if `x` is not of floats. Source: torch.rand_like.

    >>> tk.rand_like(tk.zeros(2, 3)).shape
    (2, 3)
    """
    from tinygrad_kr.random import rand

    return rand(x.shape, generator=generator, dtype=x.dtype)


def randn_like(x: Tensor, generator: Any = None) -> Tensor:
    """Standard normal random numbers, of the shape and dtype of `x`.

    generator: a np.random.Generator, the default one if none is given.
    Raises TypeError if `x` is not of floats. Source: torch.randn_like.

    >>> tk.randn_like(tk.zeros(2, 3)).shape
    (2, 3)
    """
    from tinygrad_kr.random import randn

    return randn(x.shape, generator=generator, dtype=x.dtype)


def __dir__() -> list[str]:
    return __all__
