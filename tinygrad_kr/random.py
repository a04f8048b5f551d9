"""Random Tensors. `generator=` is a `np.random.Generator`, by default the one that `manual_seed`
seeds."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import Any, TypeAlias

import numpy as np
from numpy import ndarray

from tinygrad_kr.arrays.operands import without_device
from tinygrad_kr.arrays.shape import sizes_of
from tinygrad_kr.changes import Change
from tinygrad_kr.ops.op import Op, op
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.tensor import Tensor

__all__ = [
    "bernoulli", "default_generator", "manual_seed", "multinomial", "rand", "randint", "randn",
    "randperm",
]  # fmt: skip

Generator: TypeAlias = "np.random.Generator"  # in quotes: importing numpy.random takes 10 ms


@cache
def default_generator() -> Generator:
    """The np.random.Generator of every random function that is given none.

    >>> tk.default_generator() is tk.default_generator()
    True
    """
    return np.random.default_rng()


def manual_seed(seed: int) -> Generator:
    """Restart the default generator from `seed`, and return it.

    Source: torch.manual_seed.

    >>> generator = tk.manual_seed(0)
    >>> a = tk.rand(3)
    >>> generator = tk.manual_seed(0)
    >>> tk.equal(tk.rand(3), a).all()
    Tensor(True)
    """
    if tracer := tracing():
        tracer.give_up("manual_seed()")
    generator = default_generator()
    generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    return generator


def resolve(generator: Generator | None, name: str) -> Generator:
    """`generator`, or the default one for None; TypeError for anything else."""
    if generator is None:
        generator = default_generator()
    elif not isinstance(generator, np.random.Generator):
        raise TypeError(
            f"{name}: expected a np.random.Generator, got {type(generator).__name__}. Use "
            "np.random.default_rng(seed)"
        )
    if tracer := tracing():
        tracer.about_to_draw(generator)
    return generator


# ------------------------------------------------------------------ states of generators

_POSITIONS = {"pos": 624, "buffer_pos": 4}
"""Limits: positions in the buffers of MT19937 and Philox, which NumPy does not check."""


def generator_state(generator: Generator) -> dict[str, Any]:
    """The state of a generator in values that JSON holds."""
    state: dict[str, Any] = _listed(generator.bit_generator.state)
    return state


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _listed(x) for name, x in value.items()}
    return value.tolist() if isinstance(value, ndarray | np.generic) else value


def fitting_state(generator: Generator, state: Any, name: str) -> dict[str, Any]:
    """A state as `generator_state` gives it, for `generator.bit_generator.state`.

    Raises ValueError for a state that is not one of a generator of this kind.
    """
    kind = type(generator.bit_generator)
    try:
        fitting: dict[str, Any] = _like(generator.bit_generator.state, state, "state")
        trial = kind(0)
        trial.state = fitting
        if _listed(trial.state) != _listed(fitting):
            raise ValueError("expected numbers in range, got others")
    except (ValueError, TypeError, OverflowError, KeyError) as error:
        raise ValueError(f"{name}: expected a state of a {kind.__name__}: {error}.") from error
    return fitting


def _like(own: Any, given: Any, name: str) -> Any:
    """`given` in the structure and types of the present state."""
    if isinstance(own, dict):
        if not isinstance(given, Mapping) or set(given) != set(own):
            raise ValueError(f"expected {sorted(own)} in {name}, got {given!r:.60}")
        return {key: _like(own[key], given[key], key) for key in own}
    if isinstance(own, ndarray):
        array = np.array(given, own.dtype)
        if array.shape != own.shape:
            raise ValueError(f"expected {own.shape} numbers in {name}, got {array.shape}")
        return array
    if isinstance(own, str):
        if given != own:
            raise ValueError(f"expected {own!r} in {name}, got {given!r:.60}")
        return given
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 0:
        raise ValueError(f"expected an integer from 0 up in {name}, got {given!r:.60}")
    if given > _POSITIONS.get(name, given):
        raise ValueError(f"expected at most {_POSITIONS[name]} in {name}, got {given}")
    return int(given)


def setting_state(generator: Generator, state: dict[str, Any]) -> Change:
    """The change that puts a generator into a state, one that `fitting_state` gives."""
    write = partial(setattr, generator.bit_generator, "state")
    return partial(write, state), partial(write, generator.bit_generator.state)


def _float(dtype: Any, name: str) -> Any:
    dtype = np.dtype(np.float32 if dtype is None else dtype)
    if dtype.kind != "f":
        raise TypeError(f"{name}: expected floats, got {dtype}. Use tk.randint for integers")
    return dtype


# ------------------------------------------------------------------ distributions, as ops


def _uniform(*, shape: tuple[int, ...], dtype: Any, generator: Generator) -> ndarray:
    kind = np.float64 if dtype == np.float64 else np.float32
    return np.asarray(generator.random(shape, kind), dtype)


def _normal(*, shape: tuple[int, ...], dtype: Any, generator: Generator) -> ndarray:
    kind = np.float64 if dtype == np.float64 else np.float32
    return np.asarray(generator.standard_normal(shape, kind), dtype)


def _integers(
    *, low: int, high: int, shape: tuple[int, ...], dtype: Any, generator: Generator
) -> ndarray:
    return np.asarray(generator.integers(low, high, shape), dtype)


def _permutation(*, n: int, dtype: Any, generator: Generator) -> ndarray:
    return np.asarray(generator.permutation(n), dtype)


def _heads(p: ndarray, *, generator: Generator) -> ndarray:
    return np.asarray(generator.random(p.shape) < p, p.dtype)


def _choose(p: ndarray, *, count: int, replacement: bool, generator: Generator) -> ndarray:
    """Indices along the last axis, each drawn with a probability in proportion to `p`."""
    rows = np.asarray(p.reshape(-1, p.shape[-1]), np.float64)
    if replacement:
        below = np.cumsum(rows, axis=-1)
        drawn = generator.random((len(rows), count)) * below[:, -1:]
        drawn = np.minimum(drawn, np.nextafter(below[:, -1:], 0))  # the product may round up
        found = [np.searchsorted(a, b, "right") for a, b in zip(below, drawn, strict=True)]
    else:  # the first of exponential waiting times with these rates
        waiting = generator.standard_exponential(rows.shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = [np.argsort(row, kind="stable")[:count] for row in waiting / rows]
    return np.array(found, np.int64).reshape((*p.shape[:-1], count))


_rand = op(_uniform, name="rand", variable="_rand", promote=False)
_randn = op(_normal, name="randn", variable="_randn", promote=False)
_randint = op(_integers, name="randint", variable="_randint", promote=False)
_randperm = op(_permutation, name="randperm", variable="_randperm", promote=False)
_bernoulli = op(_heads, name="bernoulli", variable="_bernoulli", promote=False)
_multinomial = op(_choose, name="multinomial", variable="_multinomial", promote=False)


def _drawn(record: Op, requires_grad: bool = False, **params: Any) -> Tensor:
    """A Tensor drawn by an op; a compiled function draws anew at each call."""
    out = Tensor(record(**params), requires_grad=requires_grad)
    if tracer := tracing():
        tracer.note(record, (), params, out)
    return out


# ------------------------------------------------------------------ functions


@without_device
def rand(
    *sizes: Any, generator: Generator | None = None, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Uniform random numbers on [0, 1).

    sizes: integers one by one, or one tuple. dtype: a floating one, float32 by default.
    generator: a np.random.Generator, the default one if none is given.
    Raises TypeError for another dtype or generator, ValueError for a negative size.
    Source: torch.rand.

    >>> tk.rand(2, 3).shape
    (2, 3)
    """
    drawn = {
        "shape": sizes_of(sizes),
        "dtype": _float(dtype, "rand"),
        "generator": resolve(generator, "rand"),
    }
    return _drawn(_rand, requires_grad, **drawn)


@without_device
def randn(
    *sizes: Any, generator: Generator | None = None, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Normal random numbers with mean 0 and standard deviation 1.

    sizes: integers one by one, or one tuple. dtype: a floating one, float32 by default.
    generator: a np.random.Generator, the default one if none is given.
    Raises TypeError for another dtype or generator, ValueError for a negative size.
    Source: torch.randn.

    >>> tk.randn(2, 3).shape
    (2, 3)
    """
    drawn = {
        "shape": sizes_of(sizes),
        "dtype": _float(dtype, "randn"),
        "generator": resolve(generator, "randn"),
    }
    return _drawn(_randn, requires_grad, **drawn)


@without_device
def randint(
    low: int,
    high: Any = None,
    size: Any = (),
    *,
    generator: Generator | None = None,
    dtype: Any = np.int64,
    requires_grad: bool = False,
) -> Tensor:
    """Random integers from `low` up to `high`, exclusive; int64 by default.

    With one bound, `low` is 0. `randint(high, size)`, PyTorch's form, works too.
    dtype: one of real numbers. requires_grad: record computations with it. Floats only.
    generator: a np.random.Generator, the default one if none is given.
    Raises ValueError if no integer lies between the bounds, TypeError for another generator.
    Source: torch.randint.

    >>> tk.randint(0, 10, (2, 3)).shape
    (2, 3)
    """
    if isinstance(high, tuple | list):
        high, size = None, high
    low, high = (0, low) if high is None else (low, high)
    if high <= low:
        raise ValueError(f"randint: expected low < high, got {low} and {high}.")
    shape = sizes_of((size,) if isinstance(size, int) else tuple(size))
    dtype = np.dtype(np.int64 if dtype is None else dtype)
    drawn = {"low": low, "high": high, "shape": shape, "generator": resolve(generator, "randint")}
    return _drawn(_randint, requires_grad, dtype=dtype, **drawn)


@without_device
def randperm(n: int, *, generator: Generator | None = None, dtype: Any = np.int64) -> Tensor:
    """The integers 0 ... n - 1 in random order; int64 by default.

    dtype: one of real numbers.
    generator: a np.random.Generator, the default one if none is given.
    Raises TypeError for another generator. Source: torch.randperm.

    >>> tk.randperm(4).sort().values
    Tensor([0, 1, 2, 3])
    """
    dtype = np.dtype(np.int64 if dtype is None else dtype)
    return _drawn(_randperm, n=n, dtype=dtype, generator=resolve(generator, "randperm"))


def bernoulli(p: Any, *, generator: Generator | None = None) -> Tensor:
    """1 with probability `p`, else 0, elementwise: a constant of the shape and dtype of `p`.

    p: probabilities, floats in [0, 1].
    generator: a np.random.Generator, the default one if none is given.
    Raises ValueError for numbers outside [0, 1], TypeError for integers or another generator.
    Source: torch.bernoulli.

    >>> tk.bernoulli(tk.tensor([0.0, 1.0]))
    Tensor([0., 1.])
    """
    given = p if isinstance(p, Tensor) else Tensor(p, np.float32)
    if given.dtype.kind != "f":
        raise TypeError(f"bernoulli: expected floats, got {given.dtype}. Use .float()")
    _check_probabilities(given._data)
    drawn: Tensor = _bernoulli(given, generator=resolve(generator, "bernoulli"))
    return drawn


def multinomial(
    p: Any, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Random indices of `p`, each with a probability in proportion to `p`; int64.

    p: weights that are not negative, a vector or a matrix with a distribution in each row. They
        need not add up to 1.
    num_samples: indices to draw from each. replacement: whether an index may come twice.
    generator: a np.random.Generator, the default one if none is given.
    Result: (num_samples,), or (rows, num_samples). No gradient.
    Raises ValueError for other axes, for weights that are negative, not finite or all 0, and for
        fewer nonzero weights than samples without replacement; TypeError for another generator.
    Source: torch.multinomial.

    >>> tk.multinomial(tk.tensor([0.0, 2.0, 0.0]), 2, replacement=True)
    Tensor([1, 1])
    """
    given = p if isinstance(p, Tensor) else Tensor(np.asarray(p, np.float32))
    if given.ndim not in {1, 2} or num_samples < 1:
        raise ValueError(
            "multinomial: expected a vector or a matrix and at least 1 sample, got "
            f"shape {given.shape} and {num_samples}."
        )
    _check_weights(given._data, 1 if replacement else num_samples)
    drawn: Tensor = _multinomial(
        given,
        count=num_samples,
        replacement=replacement,
        generator=resolve(generator, "multinomial"),
    )
    return drawn


def _check_weights(p: ndarray, least: int) -> None:
    """ValueError for weights that are no distribution; repeated at each call of a compiled one."""
    if tracer := tracing():
        tracer.check(_check_weights, p, least)
    if not (np.isfinite(p) & (p >= 0)).all():
        raise ValueError("multinomial: expected finite weights of at least 0, got others.")
    most = np.count_nonzero(p, axis=-1)
    if (most < least).any():
        raise ValueError(
            f"multinomial: expected at least {least} nonzero weights in each row, got {most.min()}."
        )


def _check_probabilities(p: ndarray) -> None:
    """ValueError for a number outside [0, 1]; repeated at each call of a compiled function."""
    if tracer := tracing():
        tracer.check(_check_probabilities, p)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("bernoulli: expected probabilities in [0, 1], got one outside.")


def __dir__() -> list[str]:
    return __all__


# ------------------------------------------------------------------ methods


def uniform_(self: Tensor, low: float = 0.0, high: float = 1.0, *, generator: Any = None) -> Tensor:
    """Overwrite with uniform random numbers on [low, high), and return the Tensor.

    generator: a np.random.Generator, the default one if none is given.
    Raises RuntimeError for a computed Tensor, and for a leaf that requires grad outside
        `no_grad()`; TypeError for integers. Source: torch.Tensor.uniform_.

    >>> tk.zeros(2, 3).uniform_(-1, 1).shape
    (2, 3)
    """
    drawn = rand(self.shape, generator=resolve(generator, "uniform_"), dtype=self.dtype)
    self._overwrite(..., drawn * (high - low) + low, "uniform_")
    return self


def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
    """Overwrite with normal random numbers of a mean and standard deviation; return the Tensor.

    generator: a np.random.Generator, the default one if none is given.
    Raises RuntimeError for a computed Tensor, and for a leaf that requires grad outside
        `no_grad()`; TypeError for integers. Source: torch.Tensor.normal_.

    >>> tk.zeros(2, 3).normal_(0, 0.01).shape
    (2, 3)
    """
    drawn = randn(self.shape, generator=resolve(generator, "normal_"), dtype=self.dtype)
    self._overwrite(..., drawn * std + mean, "normal_")
    return self


Tensor.uniform_ = uniform_  # type: ignore[attr-defined]
Tensor.normal_ = normal_  # type: ignore[attr-defined]
