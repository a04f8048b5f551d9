"""Tables in `.npy` files: what an index gives, ranks, epochs, resuming, files that are wrong."""

from __future__ import annotations

import json
import mmap
import os
import pickle
import subprocess
import sys
import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import data, nn, optim
from tinygrad_kr.data import DataLoader, MemoryMapped
from tinygrad_kr.data.npy_files import _MappedFile

ROWS = 50
X = np.random.default_rng(0).standard_normal((ROWS, 3)).astype(np.float32)
Y = np.arange(ROWS)


def written(folder: Path, **arrays: np.ndarray) -> list[Path]:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return [folder / f"{name}.npy" for name in arrays]


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return written(tmp_path, x=X, y=Y)


def labels(loader: Any) -> list[int]:
    return [label for batch in loader for label in batch[1].numpy().tolist()]


# ------------------------------------------------------------------ what an index gives

INDICES = [
    0, -1, np.int64(7), slice(None), slice(3, 9), slice(-5, None), slice(40, 3, -4), slice(9, 3),
    [4, 4, -1], np.array([49, 0, -50]), np.array([], np.int64), [], np.arange(ROWS) % 3 == 0,
    np.uint8([200 - 151]),
]  # fmt: skip


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_an_index_gives_what_it_gives_of_the_arrays(
    index: Any, shards: int, tmp_path: Path
) -> None:
    files: list[list[Path]] = [[], []]
    for i, (x, y) in enumerate(
        zip(np.array_split(X, shards), np.array_split(Y, shards), strict=True)
    ):
        for group, path in zip(files, written(tmp_path, **{f"x{i}": x, f"y{i}": y}), strict=True):
            group.append(path)
    table = MemoryMapped(*files)
    assert len(table) == ROWS
    for found, array in zip(table[index], (X, Y), strict=True):
        assert isinstance(found, tk.Tensor)
        np.testing.assert_array_equal(found.numpy(), array[index], strict=True)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "?"])
@pytest.mark.parametrize("order", ["<", ">", "F"])
def test_dtypes_and_layouts(dtype: str, order: str, tmp_path: Path) -> None:
    values = np.arange(60).reshape(20, 3).astype(dtype)
    stored = np.asfortranarray(values) if order == "F" else values.astype(order + dtype)
    table = MemoryMapped(*written(tmp_path, x=stored), block=3, buffer=2)
    (found,) = table[::2]
    np.testing.assert_array_equal(found.numpy(), values[::2], strict=True)
    batches = [x.numpy() for (x,) in DataLoader(table, 6, shuffle=True)]
    assert all(x.dtype == values.dtype and x.dtype.isnative for x in batches)
    assert sorted(np.concatenate(batches).tolist()) == sorted(values.tolist())


def test_samples_of_several_dimensions_and_of_none(tmp_path: Path) -> None:
    images = np.arange(5 * 2 * 3 * 4, dtype=np.uint8).reshape(5, 2, 3, 4)
    table = MemoryMapped(*written(tmp_path, images=images, y=Y[:5]))
    assert repr(table) == "MemoryMapped(uint8(5, 2, 3, 4), int64(5,))"
    image, label = table[3]
    assert image.shape == (2, 3, 4) and label.shape == () and label.item() == 3


def test_a_batch_is_a_copy(paths: list[Path]) -> None:
    table = MemoryMapped(*paths)
    for index in (2, slice(0, 5), [1, 2]):
        found = table[index][0].numpy()
        found[...] = -1
    np.testing.assert_array_equal(table[:][0].numpy(), X)
    np.testing.assert_array_equal(np.load(paths[0]), X)


@pytest.mark.parametrize("index", [50, -51, [3, 50], np.array([-51])])
def test_an_index_outside(index: Any, paths: list[Path]) -> None:
    with pytest.raises(IndexError, match=r"MemoryMapped: expected an index of 50 rows, got -?5"):
        MemoryMapped(*paths)[index]


@pytest.mark.parametrize("index", [1.0, "a", None, [[0]], [True, False], (0, 1, 2.5), ...])
def test_what_is_no_index(index: Any, paths: list[Path]) -> None:
    with pytest.raises(TypeError, match="MemoryMapped: expected an integer, a slice, a 1-D array"):
        MemoryMapped(*paths)[index]


@pytest.mark.filterwarnings("ignore:Stored array in format 3.0")
def test_fields_of_a_structured_array(tmp_path: Path) -> None:
    record = np.dtype([("키", "<f4"), ("tag", "S3"), ("b", ">f8"), ("image", "u1", (2,))])
    values = np.zeros(6, record)
    values["키"], values["b"] = np.arange(6), np.arange(6) * 2
    values["image"] = np.arange(12).reshape(6, 2)
    (path,) = written(tmp_path, records=values)
    table = MemoryMapped(path, columns=["image", ["b", "키"], "키"], block=2, buffer=2)
    image, both, single = table[[5, 0]]
    assert image.numpy().tolist() == [[10, 11], [0, 1]]
    np.testing.assert_array_equal(both.numpy(), np.array([[10.0, 5.0], [0.0, 0.0]]), strict=True)
    np.testing.assert_array_equal(single.numpy(), np.float32([5, 0]), strict=True)
    for columns, error in {
        None: r"records.npy: expected numbers, got a structured array with the fields '키', 'tag'",
        ("c",): r"records.npy: expected a column 'c', got the columns '키'",
        ("tag",): r"records.npy: expected numbers of at most 64 bits or booleans, got \|S3",
        (("키", "image"),): "records.npy: expected columns of numbers in a list of columns, got",
        ((),): "expected a list of names, and of lists of names",
        "키": "expected a list of names, and of lists of names",
    }.items():
        with pytest.raises(ValueError, match=error):
            MemoryMapped(path, columns=columns)


def test_many_fields(tmp_path: Path) -> None:
    names = [f"column_{i}" for i in range(2000)]
    values = np.zeros(3, np.dtype([(name, "f4") for name in names]))
    values["column_1999"] = [1, 2, 3]
    (path,) = written(tmp_path, wide=values)
    (wide,) = MemoryMapped(path, columns=[names])[:]
    assert wide.shape == (3, 2000) and wide[:, -1].numpy().tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="'column_9' and 1990 more"):
        MemoryMapped(path)


# ------------------------------------------------------------------ shares


@pytest.mark.parametrize("rows", [0, 1, 5, 12, 13])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_every_rank_has_equally_many_rows(rows: int, size: int, tmp_path: Path) -> None:
    (path,) = written(tmp_path, x=np.arange(20))
    for drop_last in (False, True):
        shares = [
            MemoryMapped(path, rows=slice(4, 4 + rows), rank=r, size=size, drop_last=drop_last)
            for r in range(size)
        ]
        assert {len(share) for share in shares} == {rows // size if drop_last else -(-rows // size)}
        seen = Counter(n for share in shares for n in share[:][0].numpy().tolist())
        assert set(seen) <= set(range(4, 4 + rows))
        if drop_last:
            assert rows - seen.total() == rows % size and max(seen.values(), default=1) == 1
        else:
            assert len(seen) == rows and seen.total() - rows < size


def test_rows_of_a_table(paths: list[Path]) -> None:
    assert labels([MemoryMapped(*paths, rows=slice(-3, None))[:]]) == [47, 48, 49]
    assert len(MemoryMapped(*paths, rows=slice(9, 3))) == 0
    for rows in (slice(0, 9, 2), 5, [1, 2]):
        with pytest.raises(ValueError, match="MemoryMapped: expected a slice without a step"):
            MemoryMapped(*paths, rows=rows)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"rank": 2, "size": 2}, r"expected a rank in \[0, 2\), got 2"),
        ({"rank": -1}, r"expected a rank in \[0, 1\), got -1"),
        ({"rank": 0.0}, r"expected a rank in \[0, 1\), got 0\.0"),
        ({"size": 0}, "expected an integer size >= 1, got 0"),
        ({"block": 0}, "expected an integer block >= 1, got 0"),
        ({"buffer": 0}, "expected an integer buffer >= 1, got 0"),
    ],
)
def test_options_out_of_range(options: Any, error: str, paths: list[Path]) -> None:
    with pytest.raises(ValueError, match=f"MemoryMapped: {error}"):
        MemoryMapped(*paths, **options)


def test_paths_are_text_bytes_or_paths(paths: list[Path]) -> None:
    assert len(MemoryMapped(os.fsencode(paths[0]))) == 50  # type: ignore[arg-type]
    for wrong in (3, [3], None):
        with pytest.raises(
            TypeError, match="MemoryMapped: expected a file or a list of files, got"
        ):
            MemoryMapped(wrong)  # type: ignore[arg-type]


# ------------------------------------------------------------------ passes


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize(("block", "buffer"), [(1, 1), (4, 3), (7, 100), (100, 1), (None, None)])
def test_a_pass_has_every_row_once(
    block: int | None, buffer: int | None, prefetch: int, paths: list[Path]
) -> None:
    table = MemoryMapped(*paths, block=block, buffer=buffer)
    loader = DataLoader(table, 8, True, generator=np.random.default_rng(0), prefetch=prefetch)
    assert len(loader) == 7
    passes = [labels(loader) for _ in range(3)]
    assert all(sorted(one) == list(range(ROWS)) for one in passes)
    assert passes[0] != passes[1] != passes[2] != list(range(ROWS))
    again = DataLoader(table, 8, True, generator=np.random.default_rng(0))
    assert [labels(again) for _ in range(3)] == passes
    for batch in DataLoader(table, 8, True, drop_last=True, prefetch=prefetch):
        np.testing.assert_array_equal(batch[0].numpy(), X[batch[1].numpy()])


def test_a_pass_in_order(paths: list[Path]) -> None:
    table = MemoryMapped(*paths, block=4, buffer=3)
    assert labels(DataLoader(table, 7)) == list(range(ROWS))
    net = nn.Linear(3, 1)
    np.testing.assert_allclose(
        tk.predict(net, DataLoader(table, 7)).numpy(), net(tk.Tensor(X)).detach().numpy(), rtol=1e-5
    )


def test_the_seed_and_the_epoch_give_the_order(paths: list[Path]) -> None:
    table = MemoryMapped(*paths, block=4, buffer=3)
    orders = {(s, e): list(table.block_order(s, e)) for s in range(3) for e in range(3)}
    assert len({tuple(order) for order in orders.values()}) == 9
    assert labels(DataLoader(table, 9, sampler=table.block_order(1, 2))) == orders[1, 2]
    again = MemoryMapped(*paths, block=4, buffer=3)
    assert list(again.block_order(1, 2)) == orders[1, 2]
    for seed, epoch in ((-1, 0), (0, -1), (0, None)):
        with pytest.raises(ValueError, match="expected a seed and an epoch from 0 up"):
            table.block_order(seed, epoch)  # type: ignore[arg-type]
    other = MemoryMapped(*paths, rows=slice(0, 20))
    with pytest.raises(ValueError, match="expected the order of 50 samples as sampler, got that"):
        iter(DataLoader(table, 9, sampler=other.block_order(1)))


def test_a_subclass_makes_its_samples_itself(paths: list[Path]) -> None:
    class Doubled(MemoryMapped):
        def __getitem__(self, index: Any, /) -> Any:
            x, y = super().__getitem__(int(index))
            return x * 2, y

    for dataset in (Doubled(*paths, block=4), data.Subset(Doubled(*paths), np.arange(ROWS))):
        for x, y in DataLoader(dataset, 16, shuffle=True):
            np.testing.assert_array_equal(x.numpy(), X[y.numpy()] * 2)


def test_with_the_other_data_sets_and_samplers(paths: list[Path]) -> None:
    table = MemoryMapped(*paths)
    subset = data.Subset(table, [9, 3, 5])
    assert labels(DataLoader(subset, 2)) == [9, 3, 5] and subset[1:][1].numpy().tolist() == [3, 5]
    train, rest = data.random_split(table, [40, 10])
    assert sorted(labels(DataLoader(train, 7)) + labels(DataLoader(rest, 7))) == Y.tolist()
    assert labels(DataLoader(data.ConcatDataset([table, table]), 30)) == [*Y, *Y]
    sampler = data.RandomSampler(table, generator=np.random.default_rng(0))
    assert sorted(labels(DataLoader(table, 7, sampler=sampler))) == Y.tolist()
    batches = data.BatchSampler(table.block_order(3), 8, drop_last=True)
    assert labels(DataLoader(table, batch_sampler=batches)) == list(table.block_order(3))[:48]
    sums = DataLoader(table, 10, collate_fn=lambda samples: sum(y.item() for _, y in samples))
    assert sum(sums) == Y.sum()


def test_fit_learns_from_files(paths: list[Path]) -> None:
    np.save(paths[1], X @ np.float32([[1], [2], [3]]))
    net = nn.Linear(3, 1)
    loader = DataLoader(MemoryMapped(*paths, block=4, buffer=4), 10, shuffle=True, prefetch=2)
    tk.fit(net, loader, nn.MSELoss(), optim.Adam(net.parameters(), lr=0.1), epochs=60)
    np.testing.assert_allclose(net.weight.detach().numpy(), [[1, 2, 3]], atol=0.05)


# ------------------------------------------------------------------ resuming


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_pass_is_resumed_where_it_was(
    shuffle: bool, prefetch: int, paths: list[Path], tmp_path: Path
) -> None:
    def make(seed: int) -> DataLoader:
        table = MemoryMapped(*paths, block=4, buffer=3)
        generator = np.random.default_rng(seed)
        return DataLoader(table, 6, shuffle, generator=generator, prefetch=prefetch)

    loader = make(0)
    whole = [labels(loader) for _ in range(2)]
    loader = make(0)
    batches = iter(loader)
    seen = labels([next(batches) for _ in range(4)])
    tk.save(tmp_path / "run.npz", loader=loader)
    state = json.loads(json.dumps(loader.state_dict()))
    for load in (
        lambda other: tk.load(tmp_path / "run.npz", loader=other),
        lambda other: other.load_state_dict(state),
    ):
        other = make(1)
        load(other)
        assert seen + labels(other) == whole[0]
        assert labels(other) == whole[1]


def test_a_state_is_small_and_belongs_to_its_blocks(paths: list[Path]) -> None:
    table = MemoryMapped(*paths, block=4, buffer=3)
    loader = DataLoader(table, 6, shuffle=True)
    next(iter(loader))
    state = loader.state_dict()
    assert set(state["order"]) == {"seed", "epoch", "rows", "blocks", "buffer"}
    in_memory = DataLoader(data.TensorDataset(X, Y), 6, shuffle=True)
    wrong: list[tuple[Any, Any]] = [
        (DataLoader(MemoryMapped(*paths, block=5, buffer=3), 6), state),
        (DataLoader(MemoryMapped(*paths, block=4, buffer=2), 6), state),
        (DataLoader(MemoryMapped(*paths, block=4, buffer=3, rows=slice(0, 49)), 6), state),
        (DataLoader(table, 6), state | {"order": np.arange(ROWS)}),
        (DataLoader(table, 6), state | {"order": state["order"] | {"seed": -1}}),
        (DataLoader(table, 6), state | {"order": state["order"] | {"epoch": None}}),
        (DataLoader(table, 6), state | {"order": state["order"] | {"more": 1}}),
        (DataLoader(table, 6), state | {"position": ROWS + 1}),
        (in_memory, state),
    ]
    for other, given in wrong:
        with pytest.raises(ValueError, match=r"DataLoader\.load_state_dict: expected"):
            other.load_state_dict(given)
        assert other.state_dict()["order"] is None
    sampled = DataLoader(table, 6, sampler=table.block_order(0))
    sampled.load_state_dict(state)
    assert len(labels(sampled)) == ROWS - 6


# ------------------------------------------------------------------ hints


class Memory:
    """Keeps the hints that a map is given, and refuses those that a system would."""

    def __init__(self, size: int) -> None:
        self.size, self.hints = size, list[tuple[int, int, int]]()

    def __len__(self) -> int:
        return self.size

    def madvise(self, option: int, start: int, length: int) -> None:
        assert start % mmap.PAGESIZE == 0 and 0 < length <= self.size - start
        self.hints.append((option, start, length))


class Mapped:
    """What a hint needs of an array of 1,000 rows of 400 bytes, after a header of 5,000."""

    nbytes, offset, flags = 400_000, 5_000, X.flags

    def __init__(self) -> None:
        start = self.offset - self.offset % mmap.ALLOCATIONGRANULARITY
        self.base, self.before = Memory(5_000 + 400_000 - start), 5_000 - start

    def __len__(self) -> int:
        return 1000


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="this system takes no hints")
@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 1000), (10, 400), (999, 1000), (5, 5)])
def test_hints_cover_the_rows_of_a_block(start: int, stop: int, paths: list[Path]) -> None:
    file = _MappedFile(str(paths[0]))
    mapped = Mapped()
    file._map = mapped  # type: ignore[assignment]
    for needed, option in ((True, mmap.MADV_WILLNEED), (False, mmap.MADV_DONTNEED)):
        mapped.base.hints.clear()
        file.advise(start, stop, needed)
        hints = mapped.base.hints
        first, last = mapped.before + 400 * start, mapped.before + 400 * stop
        assert {given for given, _, _ in hints} <= {option}
        if start < stop:
            assert first - mmap.PAGESIZE < hints[0][1] <= first
            assert hints[-1][1] + hints[-1][2] == last
        covered = [(begin, begin + length) for _, begin, length in hints]
        assert all(end == begin for (_, end), (begin, _) in pairwise(covered))
        assert not needed or all(length <= 1 << 17 for _, _, length in hints)


def test_a_pass_gives_hints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int, bool]] = []
    monkeypatch.setattr(
        _MappedFile, "advise", lambda self, start, stop, needed: given.append((start, stop, needed))
    )
    files = written(tmp_path, a=np.arange(10), b=np.arange(10, 25))
    table = MemoryMapped(files, rows=slice(2, None), block=6, buffer=1)
    assert len(list(DataLoader(table, 2))) == 12
    soon = [(start, stop) for start, stop, needed in given if needed]
    done = [(start, stop) for start, stop, needed in given if not needed]
    assert soon == [(2, 8), (8, 10), (0, 4), (4, 10), (10, 15)]
    assert done == soon[:-1]


# ------------------------------------------------------------------ files that are wrong


def refused(folder: Path, content: bytes | np.ndarray, error: str, **options: Any) -> None:
    path = folder / "wrong.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(ValueError, match=r"MemoryMapped: .*wrong\.npy: " + error):
        MemoryMapped(path, **options)


def test_files_that_are_no_tables_of_numbers(tmp_path: Path) -> None:
    whole = (written(tmp_path, x=X)[0]).read_bytes()
    refused(tmp_path, b"", "expected a .npy file, got an empty one. Write it again")
    refused(tmp_path, b"a,b\n1,2\n", "expected a .npy file: .*magic string")
    refused(tmp_path, whole[:-1], r"expected 728 bytes for float32\(50, 3\), got 727: the end is m")
    refused(tmp_path, whole[:150], "expected 728 bytes .*, got 150: the end is missing")
    refused(tmp_path, whole[:40], "expected a .npy file: .*Write it with np.save")
    refused(tmp_path, np.array(5), "expected rows, got a single number")
    refused(tmp_path, np.array(["a", "b"]), "expected numbers of at most 64 bits or booleans")
    refused(tmp_path, X.astype(complex), "expected numbers of at most 64 bits or booleans, got com")
    refused(tmp_path, Y.astype("M8[s]"), "expected numbers of at most 64 bits or booleans, got dat")
    refused(tmp_path, X, "expected a structured array for columns, got float32", columns=["a"])
    np.save(tmp_path / "wrong.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"wrong\.npy: expected numbers, got Python objects"):
        MemoryMapped(tmp_path / "wrong.npy")
    np.savez(tmp_path / "wrong.npz", x=X)
    with pytest.raises(ValueError, match=r"wrong\.npz: expected a \.npy file, got an \.npz"):
        MemoryMapped(tmp_path / "wrong.npz")


@pytest.mark.parametrize("cut", range(0, 728, 13))
def test_a_file_cut_anywhere_is_refused(cut: int, tmp_path: Path) -> None:
    (path,) = written(tmp_path, x=X)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"MemoryMapped: .*x\.npy: expected"):
        MemoryMapped(path)


def test_files_that_do_not_fit_together(tmp_path: Path, paths: list[Path]) -> None:
    others = written(tmp_path, wide=np.ones((2, 4), np.float32), double=np.ones((2, 3)), few=Y[:9])
    for other in others[:2]:
        with pytest.raises(ValueError, match=rf"expected rows of float32\(3,\) .*{other.name}"):
            MemoryMapped([paths[0], other])
    with pytest.raises(ValueError, match=r"equally many rows in each array, got 50 in .*x\.npy, 9"):
        MemoryMapped(paths[0], others[2])
    for files in ((), ([],)):
        with pytest.raises(ValueError, match=r"MemoryMapped: expected .*file"):
            MemoryMapped(*files)
    with pytest.raises(FileNotFoundError, match=r"expected a file, got none.*none\.npy"):
        MemoryMapped(tmp_path / "none.npy")
    with pytest.raises(IsADirectoryError, match="expected a file, got a folder"):
        MemoryMapped(tmp_path)


def test_files_without_rows(tmp_path: Path) -> None:
    none, some = written(tmp_path, none=X[:0], some=X)
    for files in ([none, some], [some, none], [none, some, none]):
        table = MemoryMapped(files, block=9, buffer=2)
        np.testing.assert_array_equal(table[:][0].numpy(), X)
        assert sum(len(x) for (x,) in DataLoader(table, 9, shuffle=True)) == ROWS
    empty = MemoryMapped(none)
    assert len(empty) == 0 and empty[:][0].shape == (0, 3) and empty[[]][0].shape == (0, 3)
    assert list(DataLoader(empty, 3, shuffle=True)) == [] and list(empty.block_order(0)) == []
    with pytest.raises(IndexError, match="expected an index of 0 rows, got 0"):
        empty[0]


# ------------------------------------------------------------------ files that change


@pytest.mark.skipif(os.name == "nt", reason="Windows changes no file that is mapped")
@pytest.mark.parametrize("change", ["cut", "longer", "rewritten"])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_file_that_changes_is_noticed(change: str, prefetch: int, paths: list[Path]) -> None:
    table = MemoryMapped(*paths, block=4, buffer=3)
    batches = iter(DataLoader(table, 6, shuffle=True, prefetch=prefetch))
    next(batches)
    if change == "rewritten":
        np.save(paths[1], Y[::-1])
        os.utime(paths[1], ns=(0, 0))
    else:
        size = paths[0].stat().st_size
        os.truncate(paths[0], 100 if change == "cut" else size + 5)
    with pytest.raises(RuntimeError, match=r"[xy]\.npy: expected the file as it was opened, "):
        list(batches)
    with pytest.raises(RuntimeError, match="make another MemoryMapped"):
        pickle.loads(pickle.dumps(table))[0]


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no file that is mapped")
def test_a_file_that_is_removed_is_read_to_the_end(paths: list[Path]) -> None:
    table = MemoryMapped(*paths)
    kept = pickle.dumps(table)
    for path in paths:
        path.unlink()
    np.testing.assert_array_equal(table[:][0].numpy(), X)
    for gone in (pickle.loads(kept), table):
        gone.close()
        with pytest.raises(FileNotFoundError, match=r"expected a file, got none.*x\.npy"):
            gone[0]


def test_closed_files_are_opened_again(paths: list[Path]) -> None:
    maps = Path("/proc/self/maps")

    def is_mapped() -> bool:
        return str(paths[0]) in maps.read_text(encoding="utf-8")

    with MemoryMapped(*paths) as table:
        first = table[3]
        assert not maps.exists() or is_mapped()
    assert not maps.exists() or not is_mapped()
    table.close()
    np.testing.assert_array_equal(table[3][0].numpy(), first[0].numpy())
    table.close()
    for path in paths:
        path.unlink()  # also on Windows


def test_a_pickle_holds_paths(tmp_path: Path) -> None:
    (path,) = written(tmp_path, x=np.arange(100_000))
    table = MemoryMapped(path, rank=1, size=2)
    kept = pickle.dumps(table)
    assert len(kept) < 3000
    program = "import pickle, sys; print(pickle.load(sys.stdin.buffer)[-1][0].item())"
    done = subprocess.run(
        [sys.executable, "-c", program], input=kept, capture_output=True, check=True
    )
    assert done.stdout.split() == [b"99999"]


def test_threads_share_a_table(paths: list[Path]) -> None:
    table = MemoryMapped(*paths, block=4, buffer=3)
    wrong: list[Any] = []

    def read(seed: int) -> None:
        for _ in range(5):
            for x, y in DataLoader(table, 7, sampler=table.block_order(seed)):
                if not np.array_equal(x.numpy(), X[y.numpy()]):
                    wrong.append(y)
            table.close()

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
