"""Data sets and the loader that yields batches, with PyTorch's names and meanings."""

from __future__ import annotations

import copy
import dataclasses
import math
import operator
import warnings
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import closing
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, cast, runtime_checkable

import numpy as np

from tinygrad_kr.arrays import stack
from tinygrad_kr.changes import Change, make_all
from tinygrad_kr.data.prefetch import fetched_ahead
from tinygrad_kr.data.samplers import (
    BatchSampler,
    Blocked,
    BlockOrder,
    Indices,
    SequentialSampler,
    Sharded,
    Stateful,
    checked_count,
    is_count,
)
from tinygrad_kr.data.tables import Table
from tinygrad_kr.files import refuse_torch_file
from tinygrad_kr.ops.op import refuse_masked
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.random import fitting_state, generator_state, resolve, setting_state
from tinygrad_kr.tensor import Tensor

if TYPE_CHECKING:
    import numpy.typing as npt

Sample_co = TypeVar("Sample_co", covariant=True)


@runtime_checkable
class Dataset(Protocol[Sample_co]):
    """Anything with a length and samples numbered from 0: the input of a `DataLoader`.

    A protocol: a class with `__len__` and `__getitem__` need not inherit from it.

    >>> isinstance([10, 20, 30], tk.data.Dataset)
    True
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample_co: ...


class TensorDataset:
    """Arrays side by side: sample i is row i of each.

    tensors: arrays or Tensors with equal first dimensions. Nothing is copied, dtypes are kept.
    `dataset[i]` is a tuple of Tensors without that dimension. A slice or an array of indices gives
    a tuple of Tensors with it. Samples are constants: no gradient flows to `tensors`.

    Raises ValueError for different first dimensions, a scalar, or no array at all.

    >>> dataset = tk.data.TensorDataset(np.eye(3), np.array([7, 8, 9]))
    >>> dataset[1]
    (Tensor([0., 1., 0.], dtype=float64), Tensor(8))
    """

    def __init__(self, *tensors: npt.ArrayLike | Tensor) -> None:
        self.tensors = tuple(map(Tensor, tensors))
        shapes = [tensor.shape for tensor in self.tensors]
        if not shapes or () in shapes or len({shape[0] for shape in shapes}) > 1:
            listed = ", ".join(map(str, shapes)) or "nothing"
            raise ValueError(
                f"TensorDataset: expected arrays with equal first dimensions, got {listed}."
            )

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __repr__(self) -> str:
        return f"TensorDataset({', '.join(f'{t.dtype}{t.shape}' for t in self.tensors)})"

    def __getitem__(self, index: Any, /) -> tuple[Tensor, ...]:
        return tuple(Tensor(tensor.data[index]) for tensor in self.tensors)


DatasetLike: TypeAlias = "Dataset[Any] | Table | tuple[npt.ArrayLike | Tensor, ...]"


class Subset:
    """Some samples of a data set, by indices that may repeat.

    A slice or an array of indices gives what it gives of arrays (a tuple of Tensors for
    `TensorDataset`), and a list of samples for other data sets.
    Raises IndexError for an index outside the data set, TypeError for indices that are not a 1-D
    array of integers (a boolean mask included).

    >>> subset = tk.data.Subset([10, 20, 30], [2, 0])
    >>> [subset[i] for i in range(len(subset))]
    [30, 10]
    >>> subset[:1]
    [30]
    """

    def __init__(self, dataset: DatasetLike, indices: npt.ArrayLike) -> None:
        self.dataset = _as_dataset(dataset)
        self.indices = _checked_indices(indices, len(self.dataset))

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"Subset({len(self)} of {self.dataset!r})"

    def __getitem__(self, index: Any, /) -> Any:
        chosen = self.indices[index]
        if chosen.ndim == 0:
            return self.dataset[int(chosen)]
        if _takes_arrays(self.dataset):
            return self.dataset[chosen]
        return [self.dataset[i] for i in chosen.tolist()]


def random_split(
    dataset: DatasetLike,
    lengths: Sequence[int] | Sequence[float],
    generator: np.random.Generator | None = None,
) -> list[Subset]:
    """Split a data set at random into disjoint parts that cover all of it.

    lengths: integers that sum to `len(dataset)`, or fractions that sum to 1. With fractions each
        part gets its share rounded down; the samples left over go to the parts in turn.
    generator: determines the parts; None is the one that `tk.manual_seed` seeds.

    Warns of a fraction so small that its part is empty. Raises ValueError for lengths that are
    negative or have another sum, TypeError for another type of generator.

    >>> train, test = tk.data.random_split(range(10), [0.8, 0.2])
    >>> len(train), len(test)
    (8, 2)
    """
    source = _as_dataset(dataset)
    counts = _counts(lengths, len(source))
    order = resolve(generator, "random_split").permutation(len(source))
    ends = np.cumsum([0, *counts])
    return [Subset(source, order[start:end]) for start, end in pairwise(ends)]


class ConcatDataset:
    """Data sets one after the other: the samples of the first, then those of the second, and so on.

    datasets: anything that a `DataLoader` takes, at least one.
    `cumulative_sizes` lists where each of them ends.

    Raises ValueError for none, TypeError for what is no data set, IndexError for an index outside.

    >>> dataset = tk.data.ConcatDataset([[10, 20], [30]])
    >>> len(dataset), dataset[2], dataset[-3]
    (3, 30, 10)
    """

    def __init__(self, datasets: Iterable[DatasetLike]) -> None:
        self.datasets = [_as_dataset(dataset, "ConcatDataset") for dataset in datasets]
        if not self.datasets:
            raise ValueError("ConcatDataset: expected at least one data set, got none.")
        self.cumulative_sizes = np.cumsum([len(d) for d in self.datasets]).tolist()

    def __len__(self) -> int:
        return int(self.cumulative_sizes[-1])

    def __repr__(self) -> str:
        return f"ConcatDataset({', '.join(map(repr, self.datasets))})"

    def __getitem__(self, index: int, /) -> Any:
        place = operator.index(index)
        place += len(self) if place < 0 else 0
        if not 0 <= place < len(self):
            raise IndexError(
                f"ConcatDataset: expected an index of {len(self)} samples, got {index}."
            )
        number = bisect_right(self.cumulative_sizes, place)
        start = self.cumulative_sizes[number - 1] if number else 0
        return self.datasets[number][place - start]


class DataLoader:
    """The batches of a data set, one pass per `for` loop.

    A batch has the structure of a sample: for `TensorDataset`, or a tuple of arrays in its place, a
    tuple of Tensors (batch, ...) of the arrays' dtypes. Data sets of arrays, and `Subset`s of them,
    are indexed once per batch. A batch is a copy: to write to it leaves the data unchanged.
    `MemoryMapped` files are shuffled by blocks, in an order that needs little memory.

    dataset: a `Dataset`, a `Table` (its samples are the rows of `values`), or a tuple of arrays.
    batch_size: samples per batch, at least 1.
    shuffle: draw a new order for each pass.
    sampler: yields the indices of a pass, in place of `shuffle`: a `Sampler`, or any iterable.
    batch_sampler: yields a list of indices for each batch, in place of the options for both.
    drop_last: omit a last batch that is not full.
    generator: determines the orders; None is the one that `tk.manual_seed` seeds. A sampler has its
        own.
    collate_fn: makes a batch of a list of samples; None is `default_collate`.
    prefetch: how many batches a thread makes ahead, while the caller works with the one before. 0
        makes each when it is needed. Order, errors and `state_dict` are the same; data sets that
        draw random numbers need a generator of their own.

    Passes may overlap: each has its own order and position.
    Raises TypeError or ValueError for a batch size that is no integer from 1 up, TypeError for
    another type of generator or data set, ValueError for options that exclude each other.

    >>> loader = tk.data.DataLoader((np.eye(5), np.arange(5)), batch_size=2)
    >>> [tuple(x.shape) for x, label in loader]
    [(2, 5), (2, 5), (1, 5)]
    """

    def __init__(
        self,
        dataset: DatasetLike,
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Sequence[Any]] | None = None,
        *,
        drop_last: bool = False,
        generator: np.random.Generator | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        prefetch: int = 0,
    ) -> None:
        resolve(generator, "DataLoader")
        self.dataset = _as_dataset(dataset)
        self.batch_size = checked_count("DataLoader", "batch_size", batch_size)
        self.shuffle, self.drop_last = shuffle, drop_last
        self.sampler, self.batch_sampler = sampler, batch_sampler
        self._refuse_both(generator)
        if type(batch_sampler) is BatchSampler:
            self.sampler, self.batch_sampler = batch_sampler.sampler, None
            self.batch_size, self.drop_last = batch_sampler.batch_size, batch_sampler.drop_last
        drawn_by = self.batch_sampler if self.sampler is None else self.sampler
        own = getattr(drawn_by, "generator", None)
        self.generator = own if isinstance(own, np.random.Generator) else generator
        self.collate_fn = collate_fn
        self.prefetch = checked_count("DataLoader", "prefetch", prefetch) if prefetch else 0
        self._pass: _Pass | None = None
        self._resumed: _Pass | None = None

    def _refuse_both(self, generator: np.random.Generator | None) -> None:
        given = {
            "shuffle": self.shuffle,
            "sampler": self.sampler is not None,
            "generator": generator is not None,
        }
        if self.batch_sampler is not None:
            what, given = "batch_sampler", given | {
                "batch_size": self.batch_size != 1, "drop_last": self.drop_last
            }  # fmt: skip
        elif self.sampler is not None:
            what, given = "sampler", given | {"sampler": False}
        else:
            return
        if more := [name for name, is_given in given.items() if is_given]:
            raise ValueError(
                f"DataLoader: expected {what} alone, got {', '.join(more)} as well. A {what} "
                "decides that itself"
            )

    def __len__(self) -> int:
        if self.batch_sampler is not None:
            return len(self.batch_sampler)  # type: ignore[arg-type]
        return len(self._starts(0, self._count()))

    def _keeps_order(self) -> bool:
        """Whether a pass has every sample once, in the order of the data set."""
        if self.shuffle or self.batch_sampler is not None:
            return False
        return self.sampler is None or type(self.sampler) is SequentialSampler

    def _count(self) -> int:
        """The number of samples of a pass."""
        return len(self.dataset if self.sampler is None else self.sampler)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        drawn_by = self.batch_sampler if self.sampler is None else self.sampler
        if drawn_by is not None and not isinstance(drawn_by, Sized):
            return f"DataLoader(batches of {self.batch_size} from {self.dataset!r})"
        if self.batch_sampler is not None:
            return f"DataLoader({len(self)} batches from {self.dataset!r})"
        return f"DataLoader({len(self)} batches of {self.batch_size} from {self.dataset!r})"

    def __iter__(self) -> Iterator[Any]:
        self._pass, self._resumed = self._resumed or self._new_pass(), None
        return self._batches(self._pass)

    def state_dict(self) -> dict[str, Any]:
        """The position in the last pass, to resume a run in the middle of an epoch.

        The last pass is the one that last started or yielded a batch. `order` is its order of
        samples, int64 (N,), or None between passes; of `MemoryMapped` files what determines the
        order, a few numbers; of `tk.distributed.DistributedSampler` likewise, so that each of any
        number of ranks resumes its own share. `position` is the number of samples yielded.
        `sampler` is the state of a sampler that has `state_dict` and `load_state_dict`.
        `generator` is the state of the loader's own generator, or of the sampler's, or None. With a
        `batch_sampler`, `ends` lists where each batch ends.
        """
        run = self._pass
        ends = {} if self.batch_sampler is None else {"ends": None if run is None else run.ends}
        drawn_by = self._stateful()
        own = {} if drawn_by is None else {"sampler": drawn_by.state_dict()}
        return {
            **ends,
            **own,
            "order": None if run is None else run.described(),
            "position": 0 if run is None else run.position,
            "generator": None if self.generator is None else generator_state(self.generator),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from `state_dict`: the next `for` loop yields the remaining batches.

        Raises ValueError, and changes nothing, for a state that does not fit: other keys, another
        number of samples, or a state of another generator.
        """
        make_all(self._loading(state))

    def _loading(self, state: Mapping[str, Any]) -> Iterator[Change]:
        """The changes that load a state, after all its checks."""
        resumed = self._checked_state(state)
        before = self._pass, self._resumed
        turn = self._turn_to
        changes: list[Change] = [(partial(turn, resumed, resumed), partial(turn, *before))]
        if (drawn_by := self._stateful()) is not None:
            old, set_state = copy.deepcopy(drawn_by.state_dict()), drawn_by.load_state_dict
            changes.append((partial(set_state, state["sampler"]), partial(set_state, old)))
        if self.generator is not None:
            fitting = fitting_state(self.generator, state["generator"], "DataLoader")
            changes.append(setting_state(self.generator, fitting))
        return iter(changes)

    def _stateful(self) -> Stateful | None:
        """The sampler, if it has a state."""
        drawn_by = self.batch_sampler if self.sampler is None else self.sampler
        return drawn_by if isinstance(drawn_by, Stateful) else None

    def _turn_to(self, run: _Pass | None, resumed: _Pass | None) -> None:
        self._pass, self._resumed = run, resumed

    def _checked_state(self, state: Mapping[str, Any]) -> _Pass | None:
        refuse_torch_file("DataLoader.load_state_dict", state)
        keys, drawn_by = {"order", "position", "generator"}, self.sampler
        if self.batch_sampler is not None:
            keys, drawn_by = keys | {"ends"}, self.batch_sampler
        if self._stateful() is not None:
            keys = keys | {"sampler"}
        if set(state) != keys:
            raise ValueError(
                f"DataLoader.load_state_dict: expected the keys {sorted(keys)}, got "
                f"{sorted(state)}."
            )
        if (state["generator"] is None) != (self.generator is None):
            raise ValueError(
                "DataLoader.load_state_dict: expected a generator in both state and loader, or in "
                "neither, got one."
            )
        if state["order"] is None:
            return None
        position = -1 if isinstance(state["position"], bool) else operator.index(state["position"])
        if isinstance(self.sampler, Sharded):
            return self._resumed_share(self.sampler, state["order"], position)
        order = self._given_order(state["order"])
        size = len(order) if isinstance(order, BlockOrder) else np.size(order)
        sized = self.batch_sampler is None and (drawn_by is None or isinstance(drawn_by, Sized))
        count = self._count() if sized else size
        if size != count or not 0 <= position <= count:
            raise ValueError(
                f"DataLoader.load_state_dict: expected {count} samples, got position {position} of "
                f"{size}."
            )
        if not isinstance(order, BlockOrder):
            order = _checked_indices(order, len(self.dataset), "DataLoader.load_state_dict")
        ends = None
        if self.batch_sampler is not None:
            ends = _checked_indices(state["ends"], size + 1, "DataLoader.load_state_dict: ends")
            if (np.diff(ends, prepend=0) < 0).any() or (ends[-1] if len(ends) else 0) != size:
                raise ValueError(
                    f"DataLoader.load_state_dict: expected ends of batches up to {size}, got "
                    f"{ends.tolist()}."
                )
        return _Pass(order, position, ends)

    def _resumed_share(self, sampler: Sharded, given: Any, position: int) -> _Pass:
        """The rest of this rank's pass. position: how many samples each rank has had before."""
        numbers, count = dict(given) if isinstance(given, Mapping) else {}, len(self.dataset)
        fits = set(numbers) == {"seed", "epoch", "size", "samples"} and numbers["samples"] == count
        if not (fits and all(map(is_count, numbers.values()))):
            raise ValueError(
                "DataLoader.load_state_dict: expected as order seed, epoch and size of a pass over "
                f"{count} samples on several ranks, got {given!r:.200}. Save a loader with such a "
                "sampler"
            )
        done = position * numbers["size"]
        if position < 0 or done >= count + numbers["size"]:
            raise ValueError(
                f"DataLoader.load_state_dict: expected {count} samples on {numbers['size']} ranks, "
                f"got position {position} on each."
            )
        if done < count and done % sampler.size:
            raise ValueError(
                f"DataLoader.load_state_dict: expected a number of ranks that divides the {done} "
                f"samples of the epoch so far, got {sampler.size}."
            )
        mine = sampler.indices(numbers["seed"], numbers["epoch"])
        order = _checked_indices(mine, count, "DataLoader: sampler")
        source = numbers | {"size": sampler.size}
        return _Pass(order, len(order) if done >= count else done // sampler.size, source=source)

    def _given_order(self, order: Any) -> Any:
        """The order of a state: a `BlockOrder`, or as given where passes are not by blocks."""
        blocks = self._block_order()
        if blocks is not None:
            return blocks.resumed(order, "DataLoader.load_state_dict")
        if isinstance(order, Mapping):
            raise ValueError(
                "DataLoader.load_state_dict: expected the indices of a pass as order, got "
                f"{dict(order)!r:.200}, a pass over MemoryMapped files."
            )
        return order

    def _block_order(self) -> BlockOrder | None:
        """An order of a pass that goes block by block; None for other passes."""
        if isinstance(self.sampler, BlockOrder):
            return self.sampler
        is_own = self.batch_sampler is None and self.sampler is None
        return self.dataset.block_order() if is_own and isinstance(self.dataset, Blocked) else None

    def _new_pass(self) -> _Pass:
        """A pass whose order is drawn."""
        count = len(self.dataset)
        if isinstance(self.sampler, BlockOrder) and len(self.sampler) != count:
            raise ValueError(
                f"DataLoader: expected the order of {count} samples as sampler, got that of "
                f"{len(self.sampler)}. Make it with block_order() of the same data set"
            )
        if self.batch_sampler is not None:
            batches = [list(batch) for batch in self.batch_sampler]
            ends = np.cumsum([len(batch) for batch in batches], dtype=np.int64)
            order = _checked_indices([i for b in batches for i in b], count, "DataLoader: sampler")
            return _Pass(order, 0, ends)
        if isinstance(self.sampler, BlockOrder):
            return _Pass(self.sampler)
        if self.sampler is not None:
            source = _source(self.sampler, count)
            order = _checked_indices(list(self.sampler), count, "DataLoader: sampler")
            return _Pass(order, source=source)
        generator = resolve(self.generator, "DataLoader") if self.shuffle else None
        if isinstance(self.dataset, Blocked):
            seed = None if generator is None else int(generator.integers(2**63))
            return _Pass(self.dataset.block_order(seed))
        return _Pass(np.arange(count) if generator is None else generator.permutation(count))

    def _starts(self, position: int, count: int) -> range:
        end = count - self.batch_size + 1 if self.drop_last else count
        return range(position, end, self.batch_size)

    def _batches(self, run: _Pass) -> Iterator[Any]:
        with closing(self._fetched(run)) as fetched:
            for indices, batch in fetched:
                run.position += len(indices)
                self._pass = run
                yield batch
        if self._pass is run:
            self._pass = None

    def _fetched(self, run: _Pass) -> Generator[tuple[Indices, Any]]:
        """The indices that are left, batch by batch, each with its batch."""
        if self.prefetch and tracing() is None:
            yield from fetched_ahead(self._fetch, self._left(run), self.prefetch)
            return
        for indices in self._left(run):
            yield indices, self._fetch(indices)

    def _left(self, run: _Pass) -> Iterator[Indices]:
        """The indices of the batches that are left."""
        if run.ends is None:
            for start in self._starts(run.position, len(run.order)):
                yield run.order[start : start + self.batch_size]
            return
        position = run.position
        for start, end in pairwise([0, *run.ends.tolist()]):
            if start >= position:
                yield run.order[start:end]

    def _fetch(self, indices: Indices) -> Any:
        if self.collate_fn is None and (batch := _gather(self.dataset, indices)) is not None:
            return batch
        collate = self.collate_fn or default_collate
        return collate([self.dataset[index] for index in indices.tolist()])


class _Pass:
    """One pass through the data: the order of the samples, and how many were yielded.

    ends: where each batch ends, if a batch sampler has decided it. source: the numbers of which
    any rank can make its own order.
    """

    __slots__ = ("ends", "order", "position", "source")

    def __init__(
        self,
        order: Indices | BlockOrder,
        position: int = 0,
        ends: Indices | None = None,
        source: dict[str, int] | None = None,
    ) -> None:
        self.order, self.position, self.ends, self.source = order, position, ends, source

    def described(self) -> Indices | dict[str, Any]:
        """The order for a state."""
        if self.source is not None:
            return self.source
        return self.order.state() if isinstance(self.order, BlockOrder) else self.order


def _source(sampler: Any, count: int) -> dict[str, int] | None:
    """Of what the order of the next pass is made; None where its indices are all that is known."""
    if not isinstance(sampler, Sharded):
        return None
    numbers = {"seed": sampler.seed, "epoch": sampler.epoch}
    return numbers | {"size": sampler.size, "samples": count}


def default_collate(samples: Sequence[Any]) -> Any:
    """Stack samples into one batch of the same structure, with the batch as first dimension.

    Arrays, Tensors and numbers become a Tensor. Text and bytes become a list. Tuples and lists
    become a tuple of batches, dicts a dict of batches, named tuples and dataclasses one of their
    own type. The gradient flows to samples that require it.

    Raises ValueError for samples that cannot be stacked: other shapes, lengths or keys. Raises
    TypeError for None, other objects, and samples of several kinds. Both name the field.
    Source: torch.utils.data.default_collate.

    >>> tk.data.default_collate([(1.0, {"label": 3}), (2.0, {"label": 4})])
    (Tensor([1., 2.]), {'label': Tensor([3, 4])})
    """
    return _collate(list(samples), "")


def _collate(samples: list[Any], field: str) -> Any:
    """The batch of one field. field: how a sample is indexed for it, as in `["image"][0]`."""
    kinds = {_kind(sample) for sample in samples}
    if len(kinds) != 1 or None in kinds:
        types = ", ".join(sorted({type(sample).__name__ for sample in samples})) or "no samples"
        problem = f"arrays, numbers, text or structures of them, of one kind, got {types}"
        raise TypeError(_uncollated(field, problem))
    first, kind = samples[0], kinds.pop()
    if kind == "text":
        return samples
    if kind == "array":
        return _stacked(samples, field)
    columns = [_columns(sample) for sample in samples]
    names = list(columns[0])
    for column in columns:
        if column.keys() != columns[0].keys():
            unequal = [names, list(column)] if kind == "mapping" else [len(names), len(column)]
            what = "set of keys" if kind == "mapping" else "length"
            problem = f"samples of one {what}, got {unequal[0]} and {unequal[1]}"
            raise ValueError(_uncollated(field, problem))
    batch = {
        name: _collate([column[name] for column in columns], f"{field}{_subscript(first, name)}")
        for name in names
    }
    return _rebuilt(first, batch)


def _uncollated(field: str, problem: str) -> str:
    where = f" in sample{field}" if field else ""
    return f"default_collate: expected {problem}{where}. Pass a collate_fn"


def _kind(sample: Any) -> str | None:
    """What is collated alike: "array", "text" or a structure; None for anything else."""
    if isinstance(sample, Tensor | np.ndarray | np.number | np.bool_ | bool | int | float):
        return "array"
    if isinstance(sample, str | bytes):
        return "text"
    if isinstance(sample, Mapping):
        return "mapping"
    if _is_named_tuple(sample) or (
        dataclasses.is_dataclass(sample) and not isinstance(sample, type)
    ):
        return f"{type(sample).__module__}.{type(sample).__qualname__}"
    if isinstance(sample, tuple | list):
        return "sequence"
    return "array" if hasattr(sample, "__array__") else None


def _is_named_tuple(sample: Any) -> bool:
    return isinstance(sample, tuple) and hasattr(sample, "_fields")


def _columns(sample: Any) -> dict[Any, Any]:
    """The fields of a structure, by key, name or position."""
    if isinstance(sample, Mapping):
        return dict(sample)
    if _is_named_tuple(sample):
        return dict(zip(sample._fields, sample, strict=True))
    if isinstance(sample, tuple | list):
        return dict(enumerate(sample))
    return {field.name: getattr(sample, field.name) for field in dataclasses.fields(sample)}


def _subscript(sample: Any, name: Any) -> str:
    is_named = _is_named_tuple(sample) or not isinstance(sample, Mapping | tuple | list)
    return f".{name}" if is_named else f"[{name!r}]"


def _rebuilt(sample: Any, batch: dict[Any, Any]) -> Any:
    """The structure of a sample, with batches as its fields."""
    if isinstance(sample, Mapping):
        return batch
    if _is_named_tuple(sample):
        return type(sample)._make(batch.values())
    if isinstance(sample, tuple | list):
        return tuple(batch.values())
    whole = copy.copy(sample)
    for name, value in batch.items():
        object.__setattr__(whole, name, value)  # also in a frozen one; no __post_init__
    return whole


def _stacked(samples: list[Any], field: str) -> Tensor:
    if all(type(sample) in (bool, int, float) for sample in samples):
        return Tensor(samples)
    try:
        rows = (x if isinstance(x, Tensor | np.ndarray) else np.asarray(x) for x in samples)
        arrays = [x if isinstance(x, Tensor) else Tensor(x) for x in rows]
    except TypeError as error:  # text, objects, a mask
        raise TypeError(f"default_collate: sample{field}: {error}") from error
    if len(shapes := {array.shape for array in arrays}) > 1:
        listed = ", ".join(map(str, sorted(shapes)))
        raise ValueError(_uncollated(field, f"samples of one shape, got {listed}"))
    if any(array.requires_grad for array in arrays):
        return stack(arrays)  # type: ignore[no-any-return]
    return Tensor(np.stack([array.data for array in arrays]))


def _gather(dataset: Dataset[Any], indices: Indices) -> Tensor | tuple[Tensor, ...] | None:
    """A batch by one indexing per array, or None for samples that are made one by one."""
    while type(dataset) is Subset:
        indices, dataset = dataset.indices[indices], dataset.dataset
    if type(dataset) is TensorDataset:
        return tuple(_take(tensor, indices) for tensor in dataset.tensors)
    if type(dataset) in (Tensor, np.ndarray):
        return _take(dataset, indices)
    batch: Any = cast("Any", dataset)[indices] if _takes_arrays(dataset) else None
    return batch  # type: ignore[no-any-return]


def _takes_arrays(dataset: Any) -> bool:
    """Whether an array of indices gives what it gives of an array.

    Exact types, because a subclass may make its samples differently.
    """
    kind = type(dataset)
    return kind in (Subset, TensorDataset, Tensor, np.ndarray) or "block_order" in vars(kind)


def _take(array: Any, indices: Indices) -> Tensor:
    """`take` is faster, but it first copies the whole of a non-contiguous array."""
    if isinstance(array, Tensor) and array.requires_grad:
        return array[indices]
    values = array.data if isinstance(array, Tensor) else array
    contiguous = values.flags.c_contiguous
    return Tensor(values.take(indices, axis=0) if contiguous else values[indices])


def _as_dataset(dataset: DatasetLike, name: str = "DataLoader") -> Dataset[Any]:
    if isinstance(dataset, Table):
        return Tensor(dataset.values)
    if isinstance(dataset, tuple):
        return TensorDataset(*dataset)
    if not isinstance(dataset, Dataset):
        raise TypeError(
            f"{name}: expected a data set with len() and [index], a Table or a tuple of arrays, "
            f"got {type(dataset).__name__}."
        )
    return dataset


def _checked_indices(indices: npt.ArrayLike, count: int, name: str = "Subset") -> Indices:
    refuse_masked(indices, name)
    rows = np.asarray(indices)
    if rows.size == 0:
        return np.zeros(0, np.int64)
    if rows.dtype == np.bool_:
        raise TypeError(
            f"{name}: expected integer indices, got a boolean mask. Use np.flatnonzero(mask)"
        )
    if rows.dtype.kind not in "iu" or rows.ndim != 1:
        raise TypeError(f"{name}: expected 1-D integer indices, got {rows.dtype}{rows.shape}.")
    outside = rows[(rows < -count) | (rows >= count)]
    if outside.size:
        raise IndexError(f"{name}: expected indices of {count} samples, got {outside[0]}.")
    return rows.astype(np.int64) % count


def _counts(lengths: Sequence[int] | Sequence[float], total: int) -> list[int]:
    if any(length < 0 for length in lengths):
        raise ValueError(f"random_split: expected lengths >= 0, got {list(lengths)}.")
    if sum(lengths) == total and all(float(length).is_integer() for length in lengths):
        return [int(length) for length in lengths]
    if not math.isclose(math.fsum(lengths), 1.0):
        raise ValueError(
            f"random_split: expected lengths that sum to {total} samples or to 1, got "
            f"{list(lengths)}."
        )
    counts = [math.floor(total * fraction) for fraction in lengths]
    for i in range(total - sum(counts)):
        counts[i % len(counts)] += 1
    if any(fraction and not count for fraction, count in zip(lengths, counts, strict=True)):
        message = f"random_split: fractions {list(lengths)} of {total} samples leave a part empty"
        warnings.warn(message, stacklevel=3)
    return counts
