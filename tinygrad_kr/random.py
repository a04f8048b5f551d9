"""Random Tensors. Every function takes `generator=`, a `np.random.Generator`; without one, the
default generator that `manual_seed` seeds."""

from __future__ import annotations

from functools import cache
from operator import index
from typing import Any, TypeAlias

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.op import Op, op
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.tensor import Tensor

__all__ = [
    "bernoulli", "default_generator", "manual_seed", "rand", "randint", "randn", "randperm",
]  # fmt: skip

Generator: TypeAlias = "np.random.Generator"  # in quotes: importing numpy.random takes 10 ms


@cache
def default_generator() -> Generator:
    """The generator behind everything random that was given none."""
    return np.random.default_rng()


def manual_seed(seed: int) -> Generator:
    """Start the default generator anew from `seed`, and return it."""
    if tracer := tracing():
        tracer.give_up("manual_seed()")
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


# ------------------------------------------------------------------ what is drawn, as ops


def _uniform(*, shape: tuple[int, ...], dtype: Any, generator: Generator) -> ndarray:
    kind = np.float64 if dtype == np.float64 else np.float32
    return np.asarray(generator.random(shape, kind), dtype)


def _normal(*, shape: tuple[int, ...], dtype: Any, generator: Generator) -> ndarray:
    kind = np.float64 if dtype == np.float64 else np.float32
    return np.asarray(generator.standard_normal(shape, kind), dtype)


def _integers(*, low: int, high: int, shape: tuple[int, ...], generator: Generator) -> ndarray:
    return np.asarray(generator.integers(low, high, shape), np.int64)


def _permutation(*, n: int, generator: Generator) -> ndarray:
    return generator.permutation(n)


def _heads(p: ndarray, *, generator: Generator) -> ndarray:
    return np.asarray(generator.random(p.shape) < p, p.dtype)


_rand = op(_uniform, name="rand", promote=False)
_randn = op(_normal, name="randn", promote=False)
_randint = op(_integers, name="randint", promote=False)
_randperm = op(_permutation, name="randperm", promote=False)
_bernoulli = op(_heads, name="bernoulli", promote=False)


def _drawn(record: Op, requires_grad: bool = False, **params: Any) -> Tensor:
    """A Tensor of what an op draws; where `compile` records, it is drawn anew at each call."""
    out = Tensor(record(**params), requires_grad=requires_grad)
    if tracer := tracing():
        tracer.note(record, (), params, out)
    return out


# ------------------------------------------------------------------ functions


def rand(
    *sizes: Any, generator: Generator | None = None, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Uniform on [0, 1)."""
    drawn = {"shape": _shape(sizes), "dtype": _float(dtype), "generator": resolve(generator)}
    return _drawn(_rand, requires_grad, **drawn)


def randn(
    *sizes: Any, generator: Generator | None = None, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Normal with mean 0 and standard deviation 1."""
    drawn = {"shape": _shape(sizes), "dtype": _float(dtype), "generator": resolve(generator)}
    return _drawn(_randn, requires_grad, **drawn)


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
    shape = _shape((size,) if isinstance(size, int) else tuple(size))
    return _drawn(_randint, low=low, high=high, shape=shape, generator=resolve(generator))


def randperm(n: int, *, generator: Generator | None = None) -> Tensor:
    """The integers 0 ... n - 1 in random order."""
    return _drawn(_randperm, n=n, generator=resolve(generator))


def bernoulli(p: Any, *, generator: Generator | None = None) -> Tensor:
    """1 with probability `p` elementwise, else 0, in the dtype of `p`; detached."""
    given = p if isinstance(p, Tensor) else Tensor(np.asarray(p, np.float32))
    if given.dtype.kind != "f":
        raise TypeError(f"bernoulli: probabilities are floats, not {given.dtype}")
    _check_probabilities(given._data)
    drawn: Tensor = _bernoulli(given, generator=resolve(generator))
    return drawn


def _check_probabilities(p: ndarray) -> None:
    """ValueError for what is no probability; at each call, where `compile` records."""
    if tracer := tracing():
        tracer.check(_check_probabilities, p)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("bernoulli: a probability is outside [0, 1]")
