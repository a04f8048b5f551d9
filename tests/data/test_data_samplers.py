"""Samplers, batch samplers, data sets one after the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tinygrad_kr.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

LABELS = np.arange(10)


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def labels_of(batches: Any) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


class Uneven:
    """A batch sampler of one's own: batches of 1, 2, 3 ... of a permutation."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator

    def __iter__(self) -> Iterator[list[int]]:
        order = self.generator.permutation(10).tolist()
        return iter([order[:1], order[1:3], order[3:6], order[6:]])

    def __len__(self) -> int:
        return 4


SAMPLERS: dict[str, Callable[[int], Any]] = {
    "sequential": lambda seed: SequentialSampler(LABELS),
    "random": lambda seed: RandomSampler(LABELS, generator=seeded(seed)),
    "replacement": lambda seed: RandomSampler(LABELS, True, 7, seeded(seed)),
    "several permutations": lambda seed: RandomSampler(LABELS, False, 23, seeded(seed)),
    "subset": lambda seed: SubsetRandomSampler([1, 4, 4, 9], seeded(seed)),
    "weighted": lambda seed: WeightedRandomSampler(LABELS, 12, generator=seeded(seed)),
    "each once": lambda seed: WeightedRandomSampler(LABELS, 9, False, seeded(seed)),
    "a list": lambda seed: [3, 1, 2],
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_loader_takes_what_the_sampler_gives(name: str) -> None:
    indices = list(SAMPLERS[name](1))
    assert all(type(i) is int and 0 <= i < 10 for i in indices)
    loader = DataLoader(LABELS, 3, sampler=SAMPLERS[name](1))
    assert len(indices) == len(SAMPLERS[name](1))
    batches = labels_of(loader)
    assert [index for batch in batches for index in batch] == indices
    assert len(batches) == len(loader) == -(-len(indices) // 3)
    in_batches = DataLoader(LABELS, batch_sampler=BatchSampler(SAMPLERS[name](1), 3, True))
    assert labels_of(in_batches) == [batch for batch in batches if len(batch) == 3]
    assert len(in_batches) == len(indices) // 3


def test_what_is_drawn() -> None:
    drawn = list(RandomSampler(LABELS, num_samples=23, generator=seeded()))
    assert sorted(drawn[:10]) == sorted(drawn[10:20]) == list(range(10)) and len(drawn) == 23
    assert len(set(drawn[20:])) == 3
    assert list(RandomSampler(LABELS, generator=seeded(3))) == seeded(3).permutation(10).tolist()
    assert sorted(SubsetRandomSampler([5, 5, 2], seeded())) == [2, 5, 5]
    weighted = list(WeightedRandomSampler([0, 1, 3], 4000, generator=seeded()))
    counts = np.bincount(weighted, minlength=3)
    assert counts[0] == 0 and 2.6 < counts[2] / counts[1] < 3.4
    once = list(WeightedRandomSampler([1, 0, 1e300, 2], 3, False, seeded()))
    assert sorted(once) == [0, 2, 3] and once[0] == 2
    assert list(RandomSampler([])) == []


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("name", [*SAMPLERS, "uneven", "batches"])
def test_a_pass_is_resumed_and_so_are_the_passes_after(name: str, prefetch: int) -> None:
    def fresh(seed: int) -> DataLoader:
        if name == "uneven":
            return DataLoader(LABELS, batch_sampler=Uneven(seeded(seed)), prefetch=prefetch)
        if name == "batches":
            sampler = BatchSampler(RandomSampler(LABELS, generator=seeded(seed)), 3, False)
            return DataLoader(LABELS, batch_sampler=sampler, prefetch=prefetch)
        return DataLoader(LABELS, 3, sampler=SAMPLERS[name](seed), prefetch=prefetch)

    for taken in range(len(fresh(1)) + 1):
        first = fresh(1)
        labels_of(first)
        batches = iter(first)
        for _ in range(taken):
            next(batches)
        state = first.state_dict()
        state["generator"] = json.loads(json.dumps(state["generator"]))
        expected = [labels_of(batches), labels_of(first), labels_of(first)]
        second = fresh(2)
        second.load_state_dict(state)
        assert [labels_of(second) for _ in range(3)] == expected
        assert len(expected[0]) == len(first) - taken


@pytest.mark.parametrize("ends", [[1, 3, 6, 9], [3, 1, 10], [], [1.5, 10]])
def test_ends_of_batches_that_do_not_fit(ends: list[float]) -> None:
    loader = DataLoader(LABELS, batch_sampler=Uneven(seeded()))
    next(iter(loader))
    state = loader.state_dict() | {"ends": ends}
    with pytest.raises((ValueError, TypeError), match="load_state_dict"):
        DataLoader(LABELS, batch_sampler=Uneven(seeded())).load_state_dict(state)
    plain = DataLoader(LABELS, generator=seeded())
    with pytest.raises(ValueError, match="expected the keys"):
        plain.load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({"sampler": [1], "shuffle": True}, "sampler alone, got shuffle as well"),
        ({"sampler": [1], "generator": seeded()}, "sampler alone, got generator as well"),
        ({"batch_sampler": [[1]], "batch_size": 2}, "batch_sampler alone, got batch_size as well"),
        ({"batch_sampler": [[1]], "sampler": [1], "drop_last": True}, "got sampler, drop_last as"),
    ],
)
def test_options_that_exclude_each_other(options: dict[str, Any], more: str) -> None:
    with pytest.raises(ValueError, match=f"^DataLoader: expected .*{more}"):
        DataLoader(LABELS, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomSampler(LABELS, num_samples=0), "RandomSampler: .*num_samples >= 1, got 0"),
        (lambda: RandomSampler(LABELS, generator=7), "RandomSampler"),  # type: ignore[arg-type]
        (lambda: SubsetRandomSampler([1], 7), "SubsetRandomSampler"),  # type: ignore[arg-type]
        (lambda: WeightedRandomSampler([1, -1], 2), "weights >= 0, not all 0, got"),
        (lambda: WeightedRandomSampler([0, 0], 2), "weights >= 0, not all 0, got"),
        (lambda: WeightedRandomSampler([np.nan], 2), "finite weights"),
        (lambda: WeightedRandomSampler([[1]], 2), "a row of finite weights"),
        (lambda: WeightedRandomSampler([1, 0], 2, False), "up to 1, .* without replacement, got 2"),
        (lambda: BatchSampler([1], 1.5, False), "an integer batch_size, got"),  # type: ignore
        (lambda: list(Sampler()), "Sampler defines no __iter__"),
        (lambda: list(DataLoader(LABELS, sampler=[10])), "sampler: expected indices of 10 samples"),
        (lambda: ConcatDataset([]), "ConcatDataset: expected at least one data set, got none"),
        (lambda: ConcatDataset([7]), "ConcatDataset: expected a data set"),  # type: ignore
        (lambda: ConcatDataset([[1]])[1], "expected an index of 1 samples, got 1"),
        (lambda: DataLoader(LABELS, prefetch=-1), "an integer prefetch >= 1, got -1"),
    ],
)
def test_what_does_not_fit_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError, IndexError, NotImplementedError), match=message):
        make()


def test_a_sampler_without_a_length() -> None:
    loader = DataLoader(LABELS, 2, sampler=(i for i in (5, 1, 3)))
    assert repr(loader).startswith("DataLoader(batches of 2 from ")
    assert labels_of(loader) == [[5, 1], [3]]


def test_data_sets_one_after_the_other() -> None:
    parts = [TensorDataset(np.eye(3)), [(7,)], TensorDataset(np.zeros((0, 3))), [(8,), (9,)]]
    joined = ConcatDataset(parts)
    assert joined.cumulative_sizes == [3, 4, 4, 6] and len(joined) == 6
    assert joined[1][0].tolist() == [0, 1, 0]
    assert [joined[i][0] for i in (3, 4, 5, -1)] == [7, 8, 9, 9]
    images = ConcatDataset([(LABELS,), (LABELS + 10,)])
    batches = [batch.tolist() for (batch,) in DataLoader(images, 8, drop_last=True)]
    assert batches == [list(range(8)), list(range(8, 16))]
