"""Samplers: which samples a pass of a `DataLoader` takes, and in which order. PyTorch's names."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from tinygrad_kr.random import resolve

if TYPE_CHECKING:
    import numpy.typing as npt

Indices: TypeAlias = "npt.NDArray[np.int64]"


_AT_ONCE = 4096
"""Indices that a loop over a `BlockOrder` makes at once."""


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


class BlockOrder(Sampler):
    """The indices of a pass over rows that lie in blocks, made as they are needed.

    A permutation of a table larger than memory may itself be larger than memory. This one is a
    function of a seed, an epoch and a group's number, so it needs the memory of one group.

    edges: where each block begins, and where the last ends: increasing from 0, (blocks + 1,).
    buffer: the most blocks whose rows are shuffled together, a group. Groups are of equal size, to
        one block. If one group has all blocks, the order is a permutation of all rows.
    seed: None is the order of the table.
    advise: is told which blocks are needed soon and which are done with.
    """

    def __init__(
        self,
        edges: npt.ArrayLike,
        buffer: int,
        seed: int | None,
        epoch: int = 0,
        advise: Callable[[Indices, bool], None] | None = None,
    ) -> None:
        self.edges, self.buffer = np.asarray(edges, np.int64), buffer
        self.seed, self.epoch, self._advise = seed, epoch, advise
        count = len(self.edges) - 1
        blocks = np.arange(count) if seed is None else self._generator(0).permutation(count)
        self._groups = np.array_split(blocks, max(1, -(-count // buffer)))
        sizes = [int(np.diff(self.edges)[group].sum()) for group in self._groups]
        self._ends = np.cumsum(sizes, dtype=np.int64)
        self._made: tuple[int, Indices] | None = None
        self._announced = 0
        self._done: list[int] = []

    def __len__(self) -> int:
        return int(self.edges[-1])

    def __iter__(self) -> Iterator[int]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self[start : start + _AT_ONCE].tolist()

    def __getitem__(self, places: slice, /) -> Indices:
        """The indices at these places of the pass, a slice without a step."""
        start, stop, _ = places.indices(len(self))
        pieces = [np.zeros(0, np.int64)]
        self._let_go()
        number = int(np.searchsorted(self._ends, start, "right"))
        while start < stop:
            rows, end = self._rows_of(number), int(self._ends[number])
            first = end - len(rows)
            pieces.append(rows[start - first : stop - first])
            self._announce(number, (min(stop, end) - first) / len(rows))
            start, number = end, number + 1
        return np.concatenate(pieces)

    def state(self) -> dict[str, Any]:
        """What determines the order, in values that JSON holds."""
        return {
            "seed": self.seed,
            "epoch": self.epoch,
            "rows": len(self),
            "blocks": len(self.edges) - 1,
            "buffer": self.buffer,
        }

    def resumed(self, state: Any, name: str) -> BlockOrder:
        """The order with this state; ValueError for one of other rows, blocks or buffers."""
        given = dict(state) if isinstance(state, Mapping) else {}
        seed, epoch = given.get("seed"), given.get("epoch", -1)
        fits = given == self.state() | {"seed": seed, "epoch": epoch}
        if not (fits and is_count(epoch) and (seed is None or is_count(seed))):
            raise ValueError(
                f"{name}: expected the order of a pass over {len(self)} rows in "
                f"{len(self.edges) - 1} blocks, shuffled {self.buffer} at a time, got "
                f"{given or state!r:.200}. Open the same files with the same rows, rank, size, "
                "block and buffer"
            )
        return BlockOrder(self.edges, self.buffer, seed, epoch, self._advise)

    def _generator(self, number: int) -> np.random.Generator:
        """The generator of the blocks (0) or of the rows of a group (its number + 1)."""
        seeds = np.random.SeedSequence(self.seed, spawn_key=(self.epoch, number))
        return np.random.Generator(np.random.PCG64(seeds))

    def _rows_of(self, number: int) -> Indices:
        """The rows of a group in the order of the pass."""
        made = self._made
        if made is not None and made[0] == number:
            return made[1]
        blocks = self._groups[number]
        edges = zip(self.edges[blocks].tolist(), self.edges[blocks + 1].tolist(), strict=True)
        rows = np.concatenate([np.arange(*both) for both in edges])
        if self.seed is not None:
            self._generator(number + 1).shuffle(rows)
        if made is not None:
            self._done.append(made[0])
        if self._advise is not None and (made is None or made[0] != number - 1):
            self._advise(blocks, True)
        self._made, self._announced = (number, rows), 0
        return rows

    def _let_go(self) -> None:
        """Let go of the groups before, whose rows have been read by the time of the next batch."""
        done, self._done = self._done, []
        if self._advise is not None:
            for number in done:
                self._advise(self._groups[number], False)

    def _announce(self, number: int, share: float) -> None:
        """Have a share of the next group read, by the time that this share of a group is needed."""
        if self._advise is not None and number + 1 < len(self._groups):
            blocks = self._groups[number + 1]
            until = math.ceil(share * len(blocks))
            if until > self._announced:
                self._advise(blocks[self._announced : until], True)
                self._announced = until


def is_count(number: Any) -> bool:
    return type(number) is int and number >= 0


@runtime_checkable
class Blocked(Protocol):
    """A data set whose passes go block by block; arrays of indices give batches."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...

    def block_order(self, seed: int | None = None, epoch: int = 0) -> BlockOrder: ...


@runtime_checkable
class Stateful(Protocol):
    """A sampler with a state of its own, which that of a `DataLoader` holds: an epoch, say."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> None: ...


@runtime_checkable
class Sharded(Protocol):
    """A sampler that gives each rank its share of an order, which seed and epoch determine."""

    size: int
    seed: int
    epoch: int

    def indices(self, seed: int, epoch: int) -> list[int]: ...


def checked_count(function: str, name: str, count: Any) -> int:
    """An integer from 1 up. Raises TypeError or ValueError for anything else."""
    try:
        number = 0 if isinstance(count, bool) else operator.index(count)
    except TypeError:
        raise TypeError(f"{function}: expected an integer {name}, got {count!r}.") from None
    if number < 1:
        raise ValueError(f"{function}: expected an integer {name} >= 1, got {count!r}.")
    return number
