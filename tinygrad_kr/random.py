"""Random Tensors. Every function takes `generator=`, a `np.random.Generator`; without one, the
default generator that `manual_seed` seeds."""

from __future__ import annotations

from functools import cache
from operator import index
from typing import Any, TypeAlias

import numpy as np

from tinygrad_kr.tensor import Tensor

Generator: TypeAlias = "np.random.Generator"  # in quotes: importing numpy.random takes 10 ms


@cache
def default_generator() -> Generator:
    """The generator behind everything random that was given none."""
    return np.random.default_rng()


def manual_seed(seed: int) -> Generator:
    """Start the default generator anew from `seed`, and return it."""
    generator = default_generator()
    generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    return generator


def resolve(generator: Generator | None) -> Generator:
    """`generator`, or the default one; raises TypeError for anything else."""
    if generator is None:
        return default_generator()
    if not isinstance(generator, np.random.Generator):
        raise TypeError(
            f"generator= takes a np.random.Generator, not {type(generator).__name__}; "
            "use np.random.default_rng(seed)"
        )
    return generator


def _shape(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = tuple(sizes[0])
    return tuple(map(index, sizes))


def _float(dtype: Any) -> Any:
    dtype = np.dtype(np.float32 if dtype is None else dtype)
    if dtype.kind != "f":
        raise TypeError(f"random floats have a floating dtype, not {dtype}")
    return dtype


def rand(
    *sizes: Any, generator: Generator | None = None, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Uniform on [0, 1)."""
    dtype = _float(dtype)
    drawn = resolve(generator).random(
        _shape(sizes), np.float64 if dtype == np.float64 else np.float32
    )
    return Tensor(np.asarray(drawn, dtype), requires_grad=requires_grad)


def randn(
    *sizes: Any, generator: Generator | None = None, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Normal with mean 0 and standard deviation 1."""
    dtype = _float(dtype)
    kind = np.float64 if dtype == np.float64 else np.float32
    drawn = resolve(generator).standard_normal(_shape(sizes), kind)
    return Tensor(np.asarray(drawn, dtype), requires_grad=requires_grad)


def randint(
    low: int, high: Any = None, size: Any = (), *, generator: Generator | None = None
) -> Tensor:
    """Integers from `low` (0, if only one bound is given) up to `high`, exclusive; int64.

    PyTorch's `randint(high, size)` is understood too.
    """
    if isinstance(high, tuple | list):
        high, size = None, high
    low, high = (0, low) if high is None else (low, high)
    if high <= low:
        raise ValueError(f"randint: no integer in [{low}, {high})")
    sizes = _shape((size,) if isinstance(size, int) else tuple(size))
    return Tensor(np.asarray(resolve(generator).integers(low, high, sizes), np.int64))


def randperm(n: int, *, generator: Generator | None = None) -> Tensor:
    """The integers 0 ... n - 1 in random order."""
    return Tensor(resolve(generator).permutation(n))


def bernoulli(p: Any, *, generator: Generator | None = None) -> Tensor:
    """1 with probability `p` elementwise, else 0, in the dtype of `p`; detached."""
    probability = p._data if isinstance(p, Tensor) else np.asarray(p, np.float32)
    if probability.dtype.kind != "f":
        raise TypeError(f"bernoulli: probabilities are floats, not {probability.dtype}")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("bernoulli: a probability is outside [0, 1]")
    drawn = resolve(generator).random(probability.shape) < probability
    return Tensor(np.asarray(drawn, probability.dtype))
