"""Tables in Parquet files: columns, row groups, what is kept in memory, files that are wrong."""

from __future__ import annotations

import decimal
import os
import pickle
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygrad_kr.data import DataLoader, MemoryMapped, parquet_files

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = 100
X = np.random.default_rng(0).standard_normal((ROWS, 3)).astype(np.float32)
Y = np.arange(ROWS)


def columns(rows: slice = slice(None)) -> dict[str, Any]:
    x, y = X[rows], Y[rows]
    return {
        "a": x[:, 0],
        "b": x[:, 1],
        "count": y,
        "half": y.astype(np.float16),
        "even": y % 2 == 0,
        "list": pa.array(list(x), pa.list_(pa.float32())),
        "large": pa.array(list(x), pa.large_list(pa.float32())),
        "fixed": pa.array(list(x), pa.list_(pa.float32(), 3)),
        "image": pa.array([[[i, i], [i, 0]] for i in y], pa.list_(pa.list_(pa.uint8(), 2))),
    }


def write(path: Path, table: dict[str, Any], group: int = 7) -> Path:
    pq.write_table(pa.table(table), path, row_group_size=group)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "t.parquet", columns())


IMAGES = np.stack([np.stack([Y, Y], 1), np.stack([Y, 0 * Y], 1)], 1).astype(np.uint8)
ARRAYS = [X[:, 0], X[:, 1], Y, Y.astype(np.float16), Y % 2 == 0, X, X, X, IMAGES]


@pytest.mark.parametrize(
    "index", [0, -1, slice(3, 40, 5), [99, 0, 0, 50], [], Y % 9 == 1], ids=repr
)
def test_columns_are_arrays(index: Any, path: Path) -> None:
    table = MemoryMapped(path)
    assert len(table) == ROWS and "uint8(100, 2, 2)" in repr(table)
    for found, array in zip(table[index], ARRAYS, strict=True):
        np.testing.assert_array_equal(found.numpy(), array[index], strict=True)


def test_columns_are_chosen_and_joined(path: Path) -> None:
    both, labels, mixed = MemoryMapped(path, columns=[("b", "a"), "count", ["half", "count"]])[9:12]
    np.testing.assert_array_equal(both.numpy(), X[9:12, [1, 0]], strict=True)
    assert labels.numpy().tolist() == [9, 10, 11]
    assert mixed.dtype == np.float64 and mixed.numpy().tolist() == [[9, 9], [10, 10], [11, 11]]


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("buffer", [1, 3, 50, None])
@pytest.mark.parametrize("rank", [0, 2])
def test_a_pass_has_every_row_once(
    rank: int, buffer: int | None, prefetch: int, tmp_path: Path
) -> None:
    cuts = [slice(0, 33), slice(33, 33), slice(33, 100)]
    files = [write(tmp_path / f"{i}.parquet", columns(cut)) for i, cut in enumerate(cuts)]
    table = MemoryMapped(
        files, columns=["list", "count"], rows=slice(4, None), rank=rank, size=3, buffer=buffer
    )
    assert len(table) == 32
    for shuffle in (False, True):
        batches = list(DataLoader(table, 5, shuffle, prefetch=prefetch))
        rows = np.concatenate([y.numpy() for _, y in batches])
        assert sorted(rows.tolist()) == list(range(4 + 32 * rank, 36 + 32 * rank))
        assert (rows.tolist() == sorted(rows.tolist())) != shuffle
        np.testing.assert_array_equal(np.concatenate([x.numpy() for x, _ in batches]), X[rows])


def test_a_row_group_is_decoded_once_a_pass_and_few_are_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = MemoryMapped(path, columns=["count"], buffer=3)
    (files,) = table._files
    assert isinstance(files, parquet_files.ParquetFiles)
    decoded: list[int] = []
    kept: list[int] = []
    decode = files._decode

    def counted(part: int) -> Any:
        decoded.append(part)
        kept.append(len(files._kept) + 1)
        return decode(part)

    monkeypatch.setattr(files, "_decode", counted)
    for shuffle in (True, False):
        for _ in DataLoader(table, 4, shuffle=shuffle):
            pass
        assert sorted(decoded) == list(range(15)) and max(kept) <= 6
        files.close()
        decoded.clear()


def test_a_block_is_a_row_group(path: Path, tmp_path: Path) -> None:
    assert MemoryMapped(path)._edges.tolist() == [*range(0, 100, 7), 100]
    assert MemoryMapped(path, rows=slice(5, 20))._edges.tolist() == [0, 2, 9, 15]
    with pytest.raises(ValueError, match=r"expected no block for Parquet .* row_group_size=5"):
        MemoryMapped(path, block=5)


def test_a_pickle_and_threads(path: Path) -> None:
    table = MemoryMapped(path, columns=["list", "count"], buffer=2)
    table[5]
    kept = pickle.dumps(table)
    assert len(kept) < 4000
    again = pickle.loads(kept)
    assert again[99][1].item() == 99
    wrong: list[Any] = []

    def read(seed: int) -> None:
        for x, y in DataLoader(again, 9, sampler=again.block_order(seed)):
            if not np.array_equal(x.numpy(), X[y.numpy()]):
                wrong.append(y)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    with again:
        again[0]
    table.close()
    path.unlink()  # also on Windows


def test_a_pass_is_resumed_where_it_was(path: Path) -> None:
    def make(seed: int) -> DataLoader:
        table = MemoryMapped(path, columns=["count"], buffer=4)
        return DataLoader(table, 6, True, generator=np.random.default_rng(seed))

    def rows(loader: Any) -> list[int]:
        return [n for (y,) in loader for n in y.numpy().tolist()]

    loader = make(0)
    whole = rows(loader)
    loader = make(0)
    batches = iter(loader)
    seen = rows([next(batches) for _ in range(7)])
    other = make(1)
    other.load_state_dict(loader.state_dict())
    assert seen + rows(other) == whole


# ------------------------------------------------------------------ files that are wrong

TEXT = pa.array(["x"] * ROWS)
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "nulls": (
        lambda: pa.array([None, *range(1, ROWS)]),
        r"column 'c': expected a number in every row, got 1 nulls in row group 0\. Fill them with "
        r"pyarrow\.compute\.fill_null\(column, 0\)",
    ),
    "later nulls": (
        lambda: pa.array([*range(ROWS - 2), None, None]),
        r"column 'c': expected a number in every row, got 2 nulls in row group 14\.",
    ),
    "null lists": (
        lambda: pa.array([None, *[[1.0]] * (ROWS - 1)]),
        "column 'c': expected a number in every row, got 1 nulls in row group 0. Pad them",
    ),
    "nulls in lists": (
        lambda: pa.array([[1.0, None]] * ROWS),
        "column 'c': expected a number in every row, got 1 nulls in row group 0. Fill them with "
        r"pyarrow\.compute\.fill_null\(column, float\('nan'\)\)",
    ),
    "uneven lists": (
        lambda: pa.array([[1.0], *[[1.0, 2.0]] * (ROWS - 1)]),
        "column 'c': expected lists of one length, got 1 and 2 in row group 0. Pad them",
    ),
    "lists longer later": (
        lambda: pa.array([*[[1.0]] * (ROWS - 3), *[[1.0, 2.0]] * 3]),
        "column 'c': expected lists of one length, got 1 and 2 in row group 13",
    ),
    "other lists later": (
        lambda: pa.array([*[[1.0]] * (ROWS - 2), *[[1.0, 2.0]] * 2]),
        r"column 'c': expected lists of one length, got \(1,\) and \(2,\) in row group 14",
    ),
    "text": (lambda: TEXT, "column 'c': expected numbers, got string. Write integer codes"),
    "categories": (
        lambda: TEXT.dictionary_encode(),
        "column 'c': expected numbers, got dictionary.* or choose from columns=\\['good'\\]",
    ),
    "decimals": (
        lambda: pa.array([decimal.Decimal("1.50")] * ROWS),
        r"column 'c': expected numbers, got decimal128.* Write it as column.cast\(pyarrow.float64",
    ),
    "dates": (
        lambda: pa.array(np.full(ROWS, "2026-01-01", "M8[s]")),
        r"column 'c': expected numbers, got timestamp.* Write it as column.cast\(pyarrow.int64",
    ),
    "lists of text": (lambda: pa.array([["x"]] * ROWS), "column 'c': expected numbers, got list"),
    "structs": (lambda: pa.array([{"x": 1}] * ROWS), "column 'c': expected numbers, got struct"),
}


@pytest.mark.parametrize("case", WRONG)
def test_columns_that_are_no_numbers(case: str, tmp_path: Path) -> None:
    make, error = WRONG[case]
    path = write(tmp_path / "wrong.parquet", {"good": Y, "c": make()})
    with pytest.raises(ValueError, match=r"MemoryMapped: .*wrong\.parquet: " + error):
        list(DataLoader(MemoryMapped(path), 10))
    assert len(list(DataLoader(MemoryMapped(path, columns=["good"]), 10))) == 10


def test_columns_that_are_missing_or_differ(path: Path, tmp_path: Path) -> None:
    for chosen, error in {
        ("none",): r"t\.parquet: expected a column 'none', got the columns 'a', 'b', 'count'",
        (("list", "a"),): "expected columns of numbers in a list of columns, got arrays in 'list'",
    }.items():
        with pytest.raises(ValueError, match=error):
            MemoryMapped(path, columns=chosen)
    fewer = write(tmp_path / "fewer.parquet", {"a": X[:, 0]})
    other = write(tmp_path / "other.parquet", {"a": X[:, 0], "b": X[:, 1].astype("f8")})
    with pytest.raises(ValueError, match=r"fewer\.parquet: expected a column 'b', got the columns"):
        MemoryMapped([path, fewer], columns=["a", "b"])
    with pytest.raises(ValueError, match=r"other\.parquet: column 'b': expected float as in .*t\."):
        MemoryMapped([path, other], columns=["a", "b"])
    assert len(MemoryMapped([path, fewer, other], columns=["a"])) == 3 * ROWS


def test_files_that_are_no_parquet(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    for content in (b"", b"PAR1", b"a,b\n1,2\n", whole[:-1], whole[: len(whole) // 2]):
        (tmp_path / "cut.parquet").write_bytes(content)
        with pytest.raises(ValueError, match=r"cut\.parquet: expected a Parquet file: "):
            MemoryMapped(tmp_path / "cut.parquet")
    np.save(tmp_path / "x.npy", X)
    for files in ((path, path), (path, tmp_path / "x.npy"), ([path, tmp_path / "x.npy"],)):
        with pytest.raises(ValueError, match=r"expected \.npy files, or one Parquet file or list"):
            MemoryMapped(*files)


def test_a_damaged_row_group_is_named(tmp_path: Path) -> None:
    path = tmp_path / "damaged.parquet"
    pq.write_table(pa.table({"a": np.arange(5000)}), path, compression="gzip", row_group_size=1000)
    content = bytearray(path.read_bytes())
    for group in (3, 0):
        middle = pq.read_metadata(path).row_group(group).column(0).data_page_offset
        content[middle : middle + 200] = bytes(200)
        path.write_bytes(content)
        named = rf"(?s)damaged\.parquet: row group {group}: .*Write the file"
        with pytest.raises(ValueError, match=named):
            list(DataLoader(MemoryMapped(path), 100))


def test_columns_of_one_name_and_tables_without_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table([pa.array([1]), pa.array([2]), pa.array([3])], ["a", "a", "b"]), path)
    with pytest.raises(
        ValueError, match=r"t\.parquet: column 'a': expected it once, got it 2 times"
    ):
        MemoryMapped(path)
    assert MemoryMapped(path, columns=["b"])[0][0].item() == 3
    pq.write_table(pa.table({}), path)
    with pytest.raises(ValueError, match=r"t\.parquet: expected columns, got none"):
        MemoryMapped(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows changes no file that is open")
def test_files_that_change_are_noticed(path: Path) -> None:
    table = MemoryMapped(path, columns=["count"], buffer=1)
    batches = iter(DataLoader(table, 6, shuffle=True))
    next(batches)
    write(path, {"count": Y}, group=50)
    with pytest.raises(RuntimeError, match=r"t\.parquet: expected the file as it was opened"):
        list(batches)


def test_tables_without_rows(tmp_path: Path) -> None:
    none = write(tmp_path / "none.parquet", columns(slice(0, 0)))
    table = MemoryMapped(none)
    assert len(table) == 0 and list(DataLoader(table, 5, shuffle=True)) == []
    assert table[:][7].shape == (0, 3)


def test_many_files_keep_few_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_files, "_MOST_OPEN", 2)
    paths = [write(tmp_path / f"{i}.parquet", {"count": Y[5 * i :][:5]}) for i in range(8)]
    table = MemoryMapped(paths, buffer=3)
    rows = [n for (y,) in DataLoader(table, 4, shuffle=True) for n in y.numpy().tolist()]
    assert sorted(rows) == list(range(40))
    (files,) = table._files
    assert len(files._open) <= 2  # type: ignore[attr-defined]


def test_without_pyarrow_the_error_says_what_to_install(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "tinygrad_kr\[parquet\]"'):
        MemoryMapped(path)
