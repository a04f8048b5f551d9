"""The loader: every sample once per pass, batches of the right shape and dtype, passes apart."""

from __future__ import annotations

import gc
import json
import tracemalloc
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_kr import Tensor, no_grad
from tinygrad_kr.data import (
    DataLoader,
    Dataset,
    Subset,
    Table,
    TensorDataset,
    default_collate,
    random_split,
)
from tinygrad_kr.random import default_generator, manual_seed

COUNT = 10
IMAGES = np.arange(COUNT * 6, dtype=np.float32).reshape(COUNT, 2, 3)
LABELS = np.arange(COUNT)


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def order(loader: DataLoader) -> list[list[int]]:
    """The labels of each batch, after a check that the images are those of the labels."""
    batches = []
    for images, labels in loader:
        np.testing.assert_array_equal(images.data, IMAGES[labels.data], strict=True)
        batches.append(labels.data.tolist())
    return batches


def flat(batches: list[list[int]]) -> list[int]:
    return [label for batch in batches for label in batch]


@pytest.fixture
def default_kept() -> Iterator[None]:
    """Put the library's default generator back as it was."""
    state = default_generator().bit_generator.state
    yield
    default_generator().bit_generator.state = state


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass(frozen=True)
class Measured:
    value: Any
    unit: Any
    more: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        assert not isinstance(self.value, Tensor)


class Squares:
    """A data set that makes its samples one by one, and notes which."""

    def __init__(self, count: int = COUNT) -> None:
        self.count, self.asked = count, []

    asked: list[int]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> tuple[npt.NDArray[np.float32], int]:
        self.asked.append(index)
        return np.full(2, index * index, np.float32), index


# ------------------------------------------------------------------------------ data sets


def test_a_sample_is_a_row_of_each_array() -> None:
    images, label = TensorDataset(IMAGES, LABELS)[3]
    np.testing.assert_array_equal(images.data, IMAGES[3], strict=True)
    np.testing.assert_array_equal(label.data, np.array(3), strict=True)
    assert isinstance(images, Tensor)


def test_several_samples_at_once() -> None:
    dataset = TensorDataset(IMAGES, LABELS)
    for index in (slice(2, 5), [2, 3, 4], np.array([2, 3, 4])):
        images, labels = dataset[index]
        np.testing.assert_array_equal(images.data, IMAGES[2:5])
        np.testing.assert_array_equal(labels.data, [2, 3, 4])


def test_tensors_and_lists_are_taken_too_and_nothing_is_copied_or_tracked() -> None:
    weights = Tensor(IMAGES.copy(), requires_grad=True)
    dataset = TensorDataset(weights, IMAGES, list(range(COUNT)))
    assert np.shares_memory(dataset.tensors[0].data, weights.data)
    assert np.shares_memory(dataset.tensors[1].data, IMAGES)
    assert not dataset.tensors[0].requires_grad
    assert not dataset[0][0].requires_grad
    assert len(dataset) == COUNT


@pytest.mark.parametrize(
    ("arrays", "shapes"),
    [
        ((IMAGES, LABELS[:9]), r"\(10, 2, 3\), \(9,\)"),
        ((np.float32(1),), r"\(\)"),
        ((LABELS, np.float32(1)), r"\(10,\), \(\)"),
        ((), "nothing"),
    ],
)
def test_arrays_that_do_not_go_together_are_named_by_shape(arrays: Any, shapes: str) -> None:
    with pytest.raises(ValueError, match=f"equal first dimensions, got {shapes}"):
        TensorDataset(*arrays)
    with pytest.raises(ValueError, match="equal first dimensions"):
        DataLoader(arrays)


def test_what_they_look_like() -> None:
    dataset = TensorDataset(np.zeros((5, 3), np.float32), np.arange(5))
    assert repr(dataset) == "TensorDataset(float32(5, 3), int64(5,))"
    assert repr(Subset(dataset, [0, 1])) == f"Subset(2 of {dataset!r})"
    loader = DataLoader(dataset, batch_size=2)
    assert repr(loader) == f"DataLoader(3 batches of 2 from {dataset!r})"


def test_a_data_set_ends_where_it_ends() -> None:
    assert len(list(iter(TensorDataset(LABELS)))) == COUNT
    with pytest.raises(IndexError):
        TensorDataset(LABELS)[COUNT]


def test_a_subset_picks_by_index_from_either_end_and_may_repeat() -> None:
    subset = Subset((IMAGES, LABELS), [4, -1, 4])
    assert [subset[place][1].data.item() for place in range(len(subset))] == [4, 9, 4]
    assert flat(order(DataLoader(subset))) == [4, 9, 4]
    dataset = Squares()
    assert [Subset(dataset, [-1, 0])[place][1] for place in range(2)] == [9, 0]
    assert dataset.asked == [9, 0]


def test_a_subset_of_a_subset() -> None:
    inner = Subset(TensorDataset(IMAGES, LABELS), [9, 8, 7, 6])
    outer = Subset(inner, [3, 0])
    assert [outer[place][1].data.item() for place in range(2)] == [6, 9]
    assert order(DataLoader(outer, batch_size=2)) == [[6, 9]]


def test_a_subset_may_be_empty() -> None:
    assert len(Subset(Squares(), [])) == 0


@pytest.mark.parametrize("index", [COUNT, -COUNT - 1])
def test_an_index_outside_is_refused_at_once(index: int) -> None:
    with pytest.raises(IndexError, match=f"expected indices of 10 samples, got {index}"):
        Subset(Squares(), [0, index])


@pytest.mark.parametrize(
    ("indices", "advice"),
    [
        (LABELS > 3, "np.flatnonzero"),
        ([0.0, 1.0], "float64"),
        ([[0, 1]], r"\(1, 2\)"),
        (3, r"\(\)"),
    ],
)
def test_indices_that_are_not_a_row_of_integers_are_refused(indices: Any, advice: str) -> None:
    with pytest.raises(TypeError, match=advice):
        Subset(Squares(), indices)


# --------------------------------------------------------------------------- random_split


@pytest.mark.parametrize(
    ("lengths", "counts"),
    [
        ([7, 3], [7, 3]),
        ([10], [10]),
        ([0, 10, 0], [0, 10, 0]),
        ([0.5, 0.5], [5, 5]),
        ([1.0], [10]),
        ([1.0, 0.0], [10, 0]),
        ([0.25, 0.25, 0.5], [3, 2, 5]),
        ([0.33, 0.33, 0.34], [4, 3, 3]),
        ([0.1, 0.2, 0.7], [1, 2, 7]),
        ([0.7, 0.2, 0.1], [7, 2, 1]),
        (np.array([7, 3]), [7, 3]),
    ],
)
def test_the_parts_have_their_lengths_and_share_nothing(lengths: Any, counts: list[int]) -> None:
    parts = random_split((IMAGES, LABELS), lengths, seeded())
    assert [len(part) for part in parts] == counts
    everything = np.concatenate([part.indices for part in parts])
    assert sorted(everything.tolist()) == list(range(COUNT))
    assert everything.tolist() != list(range(COUNT))


def test_the_split_is_determined_by_the_generator() -> None:
    splits = [random_split(Squares(100), [50, 50], seeded(seed))[0].indices for seed in (1, 1, 2)]
    np.testing.assert_array_equal(splits[0], splits[1])
    assert (splits[0] != splits[2]).any()


def test_no_generator_means_the_one_that_manual_seed_seeds(default_kept: None) -> None:
    wanted = random_split(Squares(100), [50, 50], seeded(5))[0].indices
    manual_seed(5)
    np.testing.assert_array_equal(random_split(Squares(100), [50, 50])[0].indices, wanted)


@pytest.mark.parametrize(
    "lengths", [[7, 4], [9], [0.5, 0.4], [0.5, 0.6], [1.5, -0.5], [-1, 11], []]
)
def test_lengths_of_another_sum_are_refused(lengths: list[float]) -> None:
    with pytest.raises(ValueError, match=r"lengths .*, got \["):
        random_split(Squares(), lengths, seeded())


def test_a_fraction_too_small_for_a_sample_is_warned_about() -> None:
    with pytest.warns(UserWarning, match="of 10 samples leave a part empty") as caught:
        parts = random_split(Squares(), [0.99, 0.01], seeded())
    assert [len(part) for part in parts] == [10, 0]
    assert caught[0].filename == __file__


# ------------------------------------------------------------------------------ the loader


@pytest.mark.parametrize("dataset", [(IMAGES, LABELS), TensorDataset(IMAGES, LABELS)])
def test_batches_in_order(dataset: Any) -> None:
    loader = DataLoader(dataset, batch_size=4)
    assert order(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert order(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@given(count=st.integers(0, 12), size=st.integers(1, 14), shuffle=st.booleans(), drop=st.booleans())
def test_every_sample_once_and_as_many_batches_as_it_says(
    count: int, size: int, shuffle: bool, drop: bool
) -> None:
    rows = np.arange(count)
    loader = DataLoader((rows,), size, shuffle, drop_last=drop, generator=seeded())
    batches = [batch.data.tolist() for (batch,) in loader]
    assert len(batches) == len(loader)
    assert all(len(batch) == size for batch in batches[: None if drop else -1])
    seen = flat(batches)
    assert len(set(seen)) == len(seen) == (count - count % size if drop else count)
    assert set(seen) <= set(rows.tolist())


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint8, np.int64, bool])
@pytest.mark.parametrize("shuffle", [False, True])
def test_the_dtype_is_kept(dtype: Any, shuffle: bool) -> None:
    (batch,) = next(iter(DataLoader((IMAGES.astype(dtype),), 3, shuffle)))
    assert isinstance(batch, Tensor)
    assert batch.dtype == dtype
    assert not batch.requires_grad


def test_a_batch_is_a_copy() -> None:
    values = IMAGES.copy()
    for dataset in ((values,), values, Tensor(values)):
        for batch in DataLoader(dataset, batch_size=5):
            tensor = batch[0] if isinstance(batch, tuple) else batch
            assert not np.shares_memory(tensor.data, values)


def test_each_pass_has_a_new_order_determined_by_the_generator() -> None:
    loaders = [DataLoader((IMAGES, LABELS), 3, True, generator=seeded(seed)) for seed in (1, 1, 2)]
    first, again, other = [[order(loader) for _ in range(3)] for loader in loaders]
    assert first == again
    assert first != other
    assert len({tuple(flat(batches)) for batches in first}) == 3
    assert all(sorted(flat(batches)) == LABELS.tolist() for batches in first)


def test_without_a_generator_manual_seed_determines_the_orders(default_kept: None) -> None:
    loader = DataLoader((IMAGES, LABELS), 3, shuffle=True)
    for seed in (5, 6):
        manual_seed(seed)
        assert order(loader) == order(
            DataLoader((IMAGES, LABELS), 3, shuffle=True, generator=seeded(seed))
        )


def test_in_order_no_random_number_is_drawn() -> None:
    generator = seeded()
    list(DataLoader((LABELS,), generator=generator))
    assert generator.random() == seeded().random()


def test_two_passes_at_once_do_not_disturb_each_other() -> None:
    alone = DataLoader((LABELS,), 2, shuffle=True, generator=seeded())
    expected = [[batch.data.tolist() for (batch,) in alone] for _ in range(2)]
    loader = DataLoader((LABELS,), 2, shuffle=True, generator=seeded())
    together: list[list[list[int]]] = [[], []]
    for pair in zip(loader, loader, strict=True):
        for batches, (batch,) in zip(together, pair, strict=True):
            batches.append(batch.data.tolist())
    assert together == expected
    assert expected[0] != expected[1]


def test_a_pass_left_early_does_not_shorten_the_next() -> None:
    loader = DataLoader((IMAGES, LABELS), 2, shuffle=True)
    next(iter(loader))
    assert sorted(flat(order(loader))) == LABELS.tolist()


@pytest.mark.parametrize("shuffle", [False, True])
def test_arrays_are_indexed_once_per_batch(monkeypatch: pytest.MonkeyPatch, shuffle: bool) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("sample by sample")

    monkeypatch.setattr(TensorDataset, "__getitem__", refuse)
    monkeypatch.setattr(Subset, "__getitem__", refuse)
    dataset = Subset(Subset((IMAGES, LABELS), LABELS), LABELS)
    assert sorted(flat(order(DataLoader(dataset, 4, shuffle)))) == LABELS.tolist()


def test_a_batch_of_a_sliced_array_does_not_copy_the_whole_array() -> None:
    table = np.zeros((1000, 1001), np.float32)
    batches = iter(DataLoader((table[:, :-1],), 10, shuffle=True))
    next(batches)
    tracemalloc.start()
    try:
        next(batches)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < table.nbytes / 10


@pytest.mark.parametrize(
    "layout", [lambda a: a[::-1], np.asfortranarray, lambda a: np.broadcast_to(a[:1], a.shape)]
)
def test_any_layout(layout: Any) -> None:
    values = layout(IMAGES)
    (batch,) = next(iter(DataLoader((values,), 4)))
    np.testing.assert_array_equal(batch.data, values[:4], strict=True)


def test_a_data_set_of_ones_own() -> None:
    dataset = Squares()
    assert isinstance(dataset, Dataset)
    loader = DataLoader(dataset, batch_size=4)
    squares, indices = next(iter(loader))
    np.testing.assert_array_equal(
        squares.data, np.array([[0, 0], [1, 1], [4, 4], [9, 9]], np.float32), strict=True
    )
    np.testing.assert_array_equal(indices.data, np.arange(4), strict=True)
    assert dataset.asked == [0, 1, 2, 3]
    assert all(type(index) is int for index in dataset.asked)


def test_a_subclass_that_makes_its_own_samples_is_asked_for_them() -> None:
    class Doubled(TensorDataset):
        def __getitem__(self, index: Any, /) -> tuple[Tensor, ...]:
            return tuple(Tensor(tensor.data * 2) for tensor in super().__getitem__(index))

    (batch,) = next(iter(DataLoader(Doubled(LABELS), 4)))
    np.testing.assert_array_equal(batch.data, [0, 2, 4, 6])
    (batch,) = next(iter(DataLoader(Subset(Doubled(LABELS), [1, 2]), 4)))
    np.testing.assert_array_equal(batch.data, [2, 4])

    class Negated(Subset):
        def __getitem__(self, index: int, /) -> Any:
            return tuple(Tensor(-tensor.data) for tensor in super().__getitem__(index))

    (batch,) = next(iter(DataLoader(Negated((LABELS,), [1, 2]), 4)))
    np.testing.assert_array_equal(batch.data, [-1, -2])


@pytest.mark.parametrize("dataset", [IMAGES, Tensor(IMAGES), list(IMAGES)])
def test_a_bare_array_gives_bare_batches(dataset: Any) -> None:
    batches = list(DataLoader(dataset, 4))
    assert [batch.shape for batch in batches] == [(4, 2, 3), (4, 2, 3), (2, 2, 3)]
    np.testing.assert_array_equal(np.concatenate([batch.data for batch in batches]), IMAGES)


def test_collate_fn_is_given_the_samples_of_any_data_set() -> None:
    def collate(samples: list[Any]) -> list[int]:
        assert isinstance(samples, list)
        return [sample[1].data.item() for sample in samples]

    loader = DataLoader((IMAGES, LABELS), 4, collate_fn=collate)
    assert list(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_size_below_one_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size >= 1, got {size}"):
        DataLoader((LABELS,), size)


@pytest.mark.parametrize("size", [2.0, "2", None, True])
def test_a_batch_size_that_is_no_integer_is_refused(size: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"expected an integer batch_size.*{size!r}"):
        DataLoader((LABELS,), size)


def test_a_numpy_integer_is_a_batch_size() -> None:
    assert len(DataLoader((LABELS,), np.int32(3))) == 4  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [lambda g: DataLoader((LABELS,), generator=g), lambda g: random_split((LABELS,), [10], g)],
)
@pytest.mark.parametrize("generator", [7, np.random.RandomState(7), np.random])
def test_another_generator_is_refused_with_what_to_write(make: Any, generator: Any) -> None:
    with pytest.raises(TypeError, match=r"np\.random\.default_rng\(seed\)"):
        make(generator)


@pytest.mark.parametrize("dataset", [3, iter([1, 2]), None, {1, 2}])
def test_what_is_no_data_set_is_refused(dataset: Any) -> None:
    with pytest.raises(TypeError, match=f"expected a data set .*, got {type(dataset).__name__}"):
        DataLoader(dataset)


def test_nothing_is_left_to_the_garbage_collector() -> None:
    gc.disable()
    try:
        loader = DataLoader((IMAGES.copy(), LABELS), 3, shuffle=True)
        batches = iter(loader)
        images, _ = next(batches)
        left = [weakref.ref(thing) for thing in (loader, loader.dataset)]
        del loader, batches, images
        assert [reference() for reference in left] == [None, None]
    finally:
        gc.enable()


# -------------------------------------------------------------------- resuming in mid-pass


def labels_of(batches: Any) -> list[list[int]]:
    return [batch.data.tolist() for (batch,) in batches]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("taken", range(5))
def test_a_pass_is_resumed_with_the_batches_left_and_the_same_passes_after(
    shuffle: bool, taken: int
) -> None:
    def fresh(seed: int) -> DataLoader:
        return DataLoader((LABELS,), 3, shuffle, generator=seeded(seed))

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
    assert len(expected[0]) == 4 - taken


def test_between_passes_the_next_one_is_whole() -> None:
    first = DataLoader((LABELS,), 3, True, generator=seeded(1))
    labels_of(first)
    state = first.state_dict()
    assert (state["order"], state["position"]) == (None, 0)
    second = DataLoader((LABELS,), 3, True, generator=seeded(2))
    next(iter(second))
    second.load_state_dict(state)
    assert labels_of(second) == labels_of(first)


def test_loading_twice_and_saving_at_once_gives_the_same_state() -> None:
    loader = DataLoader((LABELS,), 3, True, generator=seeded(1))
    next(iter(loader))
    state = loader.state_dict()
    other = DataLoader((LABELS,), 3, True, generator=seeded(2))
    other.load_state_dict(state)
    again = other.state_dict()
    np.testing.assert_array_equal(again["order"], state["order"])
    assert (again["position"], again["generator"]) == (state["position"], state["generator"])


def test_a_whole_pass_inside_another_does_not_hide_the_outer_one() -> None:
    loader = DataLoader((LABELS,), 4, shuffle=True, generator=seeded(1))
    outer = iter(loader)
    next(outer)
    order_of_outer = loader.state_dict()["order"]
    labels_of(loader)
    assert loader.state_dict()["order"] is None
    next(outer)
    assert loader.state_dict()["position"] == 8
    assert loader.state_dict()["order"] is order_of_outer


def test_the_end_of_one_pass_does_not_hide_another() -> None:
    loader = DataLoader((LABELS,), 5, shuffle=True, generator=seeded(1))
    first, second = iter(loader), iter(loader)
    next(first), next(first), next(second)
    assert list(first) == []
    assert loader.state_dict()["position"] == 5


def test_a_generator_s_state_is_not_dropped_in_silence() -> None:
    state = DataLoader((LABELS,), generator=seeded(1)).state_dict()
    with pytest.raises(ValueError, match="expected a generator in both"):
        DataLoader((LABELS,)).load_state_dict(state)


def test_without_a_generator_of_its_own_it_saves_none() -> None:
    loader = DataLoader((LABELS,), 3, shuffle=True)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    assert state["generator"] is None
    other = DataLoader((LABELS,), 3, shuffle=True)
    other.load_state_dict(state)
    assert labels_of(other) == labels_of(batches)


@pytest.mark.parametrize("count", [9, 11])
def test_a_state_of_more_or_fewer_samples(count: int) -> None:
    state = DataLoader((LABELS,), 3).state_dict() | {"order": LABELS, "position": 3}
    with pytest.raises(ValueError, match=rf"expected {count} samples, got position 3 of 10\."):
        DataLoader((np.arange(count),), 3).load_state_dict(state)


@pytest.mark.parametrize(
    "change",
    [
        {"order": LABELS[:9]},
        {"order": np.arange(11)[1:]},
        {"position": 11},
        {"position": -1},
        {"position": 1.5},
        {"generator": None},
        {"generator": {"bit_generator": "MT19937"}},
        {"more": 1},
    ],
)
def test_a_state_of_another_loader_is_refused_and_changes_nothing(change: dict[str, Any]) -> None:
    loader, twin = (DataLoader((LABELS,), 3, True, generator=seeded(1)) for _ in range(2))
    state = DataLoader((LABELS,), 3, True, generator=seeded(2)).state_dict()
    state |= {"order": LABELS[::-1], "position": 3} | change
    with pytest.raises((ValueError, TypeError, IndexError)):
        loader.load_state_dict(state)
    assert labels_of(loader) == labels_of(twin)


# ------------------------------------------------------------------------------- collating


@pytest.mark.parametrize(
    ("samples", "batch"),
    [
        ([1, 2], np.array([1, 2])),
        ([1.5, 2.0], np.array([1.5, 2.0], np.float32)),
        ([True, False], np.array([True, False])),
        ([np.float64(1), np.float64(2)], np.array([1.0, 2.0])),
        ([np.float32(1), np.float32(2)], np.array([1, 2], np.float32)),
        ([np.zeros((1, 2)), np.ones((1, 2))], np.array([[[0.0, 0.0]], [[1.0, 1.0]]])),
        ([Tensor(np.uint8(3))], np.array([3], np.uint8)),
    ],
)
def test_samples_are_stacked_into_a_tensor(samples: Sequence[Any], batch: npt.NDArray[Any]) -> None:
    np.testing.assert_array_equal(default_collate(samples).data, batch, strict=True)


def test_the_structure_of_a_sample_is_the_structure_of_the_batch() -> None:
    sample = {"image": np.zeros(2, np.float32), "pair": [1, (2, 3)]}
    batch = default_collate([sample, sample])
    assert batch["image"].shape == (2, 2)
    ones, (twos, threes) = batch["pair"]
    assert [tensor.data.tolist() for tensor in (ones, twos, threes)] == [[1, 1], [2, 2], [3, 3]]


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        ([np.zeros(3), np.zeros(4)], r"samples of one shape, got \(3,\), \(4,\)"),
        ([(1, 2), (1,)], r"samples of one length, got 2 and 1\. Pass a collate_fn"),
        ([{"a": [1, (np.ones(2),)]}, {"a": [1, (0,)]}], r"\(2,\) in sample\['a'\]\[1\]\[0\]\."),
        ([{"a": 1, "b": 2}, {"a": 1}], r"one set of keys, got \['a', 'b'\] and \['a'\]\."),
        ([{"a": 1}, {"b": 1}], r"one set of keys, got \['a'\] and \['b'\]\."),
        ([Point(1, np.ones(2)), Point(1, np.ones(3))], r"\(2,\), \(3,\) in sample\.y\."),
    ],
)
def test_samples_that_make_no_batch_say_why(samples: list[Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        default_collate(samples)


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        ([None, None], r"of one kind, got NoneType\. Pass a collate_fn"),
        ([(1.0, {"name": None})] * 2, r"got NoneType in sample\[1\]\['name'\]\."),
        ([Point(1, "a"), Point(1, 2.0)], r"got float, str in sample\.y\."),
        ([Measured(1, None), Measured(1, 2)], r"got NoneType, int in sample\.unit\."),
        ([Measured(1, object()), Measured(1, object())], r"got object in sample\.unit\."),
        ([{"a": [1]}, {"a": 1}], r"got int, list in sample\['a'\]\."),
        ([Point(1, 2), (1, 2)], r"got Point, tuple\. Pass"),
        ([{1, 2}, {3}], r"got set\. Pass"),
        ([], r"got no samples\. Pass"),
    ],
)
def test_samples_that_nobody_can_stack_name_the_field(samples: list[Any], problem: str) -> None:
    with pytest.raises(TypeError, match=rf"default_collate: expected .*{problem}"):
        default_collate(samples)


@pytest.mark.parametrize("value", [np.array(["a"]), np.array([None]), np.array([1j])])
def test_arrays_of_no_numbers_name_the_field(value: Any) -> None:
    problem = r"default_collate: sample\['x'\]\[1\]: Tensor: expected real numbers, got "
    with pytest.raises(TypeError, match=problem):
        default_collate([{"x": (1.0, value)}] * 2)


@pytest.mark.parametrize(
    ("samples", "batch"),
    [
        (["a.png", "b.png"], ["a.png", "b.png"]),
        ([b"1", b"2"], [b"1", b"2"]),
        ([np.str_("x"), "y"], ["x", "y"]),
        ([{"x": 1.0, "name": "a"}] * 2, {"x": [1.0, 1.0], "name": ["a", "a"]}),
        ([(1, "a"), (2, "b")], ([1, 2], ["a", "b"])),
        ([[], []], ()),
        ([{}, {}], {}),
        ([1, 2.5], [1.0, 2.5]),
        ([1, np.float64(2)], [1.0, 2.0]),
        ([np.zeros(2), Tensor([1.0, 2.0])], [[0.0, 0.0], [1.0, 2.0]]),
    ],
)
def test_text_and_mixed_numbers(samples: list[Any], batch: Any) -> None:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, tuple):
            return tuple(map(plain, value))
        return value.data.tolist() if isinstance(value, Tensor) else value

    assert plain(default_collate(samples)) == batch
    (loaded,) = DataLoader(samples, len(samples))
    assert plain(loaded) == batch


def test_named_tuples_and_dataclasses_keep_their_type() -> None:
    point = next(iter(DataLoader([Point(1.0, 2), Point(3.0, 4)], 2)))
    assert type(point) is Point
    assert (point.x.data.tolist(), point.y.data.tolist()) == ([1.0, 3.0], [2, 4])
    samples = [Measured(1.0, "m", (1, Point(2, 3))), Measured(2.0, "s", (4, Point(5, 6)))]
    batch = next(iter(DataLoader(samples, 2)))
    assert type(batch) is Measured
    assert batch.value.data.tolist() == [1, 2]
    assert batch.unit == ["m", "s"]
    assert batch.more[1].y.data.tolist() == [3, 6]
    assert (samples[0].value, samples[0].unit) == (1.0, "m")


def test_gradients_flow_to_the_samples() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    batch = default_collate([(x * 2, 1), (Tensor([5.0, 6.0]), 2), (x, 3)])[0]
    assert batch.requires_grad
    (batch * Tensor([[1.0], [10.0], [100.0]])).sum().backward()
    assert x.grad is not None
    assert x.grad.data.tolist() == [102, 102]
    with no_grad():
        assert not default_collate([x, x]).requires_grad


def test_gradients_flow_to_a_tensor_that_is_the_data_set() -> None:
    x = Tensor([[1.0], [2.0], [3.0]], requires_grad=True)
    for dataset in (x, Subset(x, [0, 2])):
        x.grad = None
        next(iter(DataLoader(dataset, 2))).sum().backward()
        assert x.grad is not None
        assert x.grad.data.sum() == 2


# ------------------------------------------------------------------------------ slices, tables


def test_a_subset_is_sliced_as_its_data_set_is() -> None:
    subset = Subset((IMAGES, LABELS), [9, 8, 7, 6, 5])
    images, labels = subset[1:4]
    assert labels.data.tolist() == [8, 7, 6]
    np.testing.assert_array_equal(images.data, IMAGES[[8, 7, 6]], strict=True)
    assert subset[[0, -1]][1].data.tolist() == [9, 5]
    assert subset[np.arange(5) > 3][1].data.tolist() == [5]
    assert Subset(subset, [4, 3, 2])[::2][1].data.tolist() == [5, 7]
    assert Subset([10, 20, 30], [2, 0])[:] == [30, 10]
    assert [label for _, label in Subset(Squares(), [3, 1])[-1:]] == [1]
    np.testing.assert_array_equal(Subset(IMAGES, [3, 1])[0:2], IMAGES[[3, 1]])
    assert Subset(Tensor(LABELS), [3, 1])[0:2].data.tolist() == [3, 1]
    assert subset[2:2][1].shape == (0,)
    assert len(Subset(Squares(), [3, 1])[5:]) == 0


def test_a_table_is_a_data_set_of_its_rows() -> None:
    table = Table(np.arange(20, dtype=np.float32).reshape(10, 2), ("x", "y"))
    batches = list(DataLoader(table, 4))
    assert [batch.shape for batch in batches] == [(4, 2), (4, 2), (2, 2)]
    np.testing.assert_array_equal(batches[1].data, table.values[4:8], strict=True)
    train, test = random_split(table, [8, 2], seeded())
    rows = np.concatenate([train[:].data, test[:].data])
    np.testing.assert_array_equal(rows[rows[:, 0].argsort()], table.values)
    assert Subset(table, [3])[0].data.tolist() == [6, 7]
    values, names = table
    assert values is table.values and names == ("x", "y")
