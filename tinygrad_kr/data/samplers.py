"""Samplers: which samples a pass of a `DataLoader` takes, and in which order. PyTorch's names."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

import numpy as np

from tinygrad_kr.random import resolve


class Sampler:
    """Base class of the samplers: `__iter__` yields the indices of one pass.

    A subclass defines `__iter__` and, so that the loader has a length, `__len__`. A loader draws
    all indices of a pass at its start. It saves and resumes the state of the attribute `generator`.

    >>> class EvenSampler(tk.data.Sampler):
    ...     def __iter__(self):
    ...         return iter([0, 2])
    ...     def __len__(self):
    ...         return 2
    >>> [batch.tolist() for batch in tk.data.DataLoader(np.arange(4), sampler=EvenSampler())]
    [[0], [2]]
    """

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} defines no __iter__()")


class SequentialSampler(Sampler):
    """0, 1, ..., in the order of the data set.

    data_source: anything with a length.

    >>> list(tk.data.SequentialSampler("abc"))
    [0, 1, 2]
    """

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler):
    """Indices at random: a new permutation in each pass, or draws with replacement.

    data_source: anything with a length. replacement: draw each index from all of them.
    num_samples: how many to draw, at least 1; None draws `len(data_source)`. Without replacement,
        more than that many come as one permutation after another.
    generator: determines the order; None is the one that `tk.manual_seed` seeds.

    Raises TypeError for another type of generator, ValueError for another num_samples.

    >>> sampler = tk.data.RandomSampler(range(5), generator=np.random.default_rng(0))
    >>> sorted(sampler) == [0, 1, 2, 3, 4]
    True
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: np.random.Generator | None = None,
    ) -> None:
        resolve(generator, "RandomSampler")
        self.data_source, self.replacement, self.generator = data_source, replacement, generator
        self._num_samples = (
            None
            if num_samples is None
            else checked_count("RandomSampler", "num_samples", num_samples)
        )

    @property
    def num_samples(self) -> int:
        """How many indices a pass has."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        generator, count = resolve(self.generator, "RandomSampler"), len(self.data_source)
        if self.replacement:
            yield from generator.integers(0, count, self.num_samples).tolist()
            return
        left = self.num_samples
        while left > 0 and count:
            yield from generator.permutation(count)[:left].tolist()
            left -= count

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler):
    """The given indices, in a new random order in each pass.

    indices: integers. generator: determines the order; None is the one that `tk.manual_seed` seeds.

    Raises TypeError for another type of generator.

    >>> sorted(tk.data.SubsetRandomSampler([7, 2, 5]))
    [2, 5, 7]
    """

    def __init__(
        self, indices: Sequence[int], generator: np.random.Generator | None = None
    ) -> None:
        resolve(generator, "SubsetRandomSampler")
        self.indices, self.generator = indices, generator

    def __iter__(self) -> Iterator[Any]:
        order = resolve(self.generator, "SubsetRandomSampler").permutation(len(self.indices))
        return iter([self.indices[i] for i in order.tolist()])

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler):
    """Indices drawn with probabilities proportional to weights: rare classes as often as others.

    weights: one number per sample, at least 0; they need not sum to 1.
    num_samples: how many to draw, at least 1. replacement: False draws each index at most once.
    generator: determines the draws; None is the one that `tk.manual_seed` seeds.

    Raises ValueError for weights that are not a row of finite numbers from 0 up, or all 0; for
    num_samples below 1, or more than there are weights above 0 without replacement. Raises
    TypeError for another type of generator.

    >>> labels = np.array([0, 0, 0, 1])
    >>> weights = 1 / np.bincount(labels)[labels]
    >>> drawn = list(tk.data.WeightedRandomSampler(weights, 1000))
    >>> 400 < labels[drawn].sum() < 600
    np.True_
    """

    def __init__(
        self,
        weights: Any,
        num_samples: int,
        replacement: bool = True,
        generator: np.random.Generator | None = None,
    ) -> None:
        resolve(generator, "WeightedRandomSampler")
        self.weights = np.array(weights, np.float64)
        self.num_samples = checked_count("WeightedRandomSampler", "num_samples", num_samples)
        self.replacement, self.generator = replacement, generator
        fits = self.weights.ndim == 1 and np.isfinite(self.weights).all()
        if not fits or (self.weights < 0).any() or not self.weights.any():
            raise ValueError(
                "WeightedRandomSampler: expected a row of finite weights >= 0, not all 0, got "
                f"{self.weights!r:.60}."
            )
        positive = int(np.count_nonzero(self.weights))
        if not replacement and self.num_samples > positive:
            raise ValueError(
                f"WeightedRandomSampler: expected num_samples up to {positive}, the number of "
                f"weights above 0, without replacement, got {self.num_samples}."
            )

    def __iter__(self) -> Iterator[int]:
        generator = resolve(self.generator, "WeightedRandomSampler")
        shares = self.weights / self.weights.max()
        drawn = generator.choice(
            len(shares), self.num_samples, self.replacement, shares / shares.sum()
        )
        return iter(drawn.tolist())

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler):
    """The indices of a sampler in lists of `batch_size`: for `DataLoader(batch_sampler=...)`.

    sampler: a sampler, or any iterable of indices. batch_size: at least 1.
    drop_last: omit a last list that is not full.

    Raises TypeError or ValueError for a batch size that is no integer from 1 up.

    >>> list(tk.data.BatchSampler(range(5), 2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[Any], batch_size: int, drop_last: bool) -> None:
        self.sampler, self.drop_last = sampler, drop_last
        self.batch_size = checked_count("BatchSampler", "batch_size", batch_size)

    @property
    def generator(self) -> np.random.Generator | None:
        """That of the sampler."""
        return getattr(self.sampler, "generator", None)

    def __iter__(self) -> Iterator[list[Any]]:
        batch: list[Any] = []
        for index in self.sampler:
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch

    def __len__(self) -> int:
        count = len(self.sampler)  # type: ignore[arg-type]
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)


def checked_count(function: str, name: str, count: Any) -> int:
    """An integer from 1 up. Raises TypeError or ValueError for anything else."""
    try:
        number = 0 if isinstance(count, bool) else operator.index(count)
    except TypeError:
        raise TypeError(f"{function}: expected an integer {name}, got {count!r}.") from None
    if number < 1:
        raise ValueError(f"{function}: expected an integer {name} >= 1, got {count!r}.")
    return number
