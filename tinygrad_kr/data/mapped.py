"""Tables larger than memory, in files."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Protocol, TypeAlias

import numpy as np

from tinygrad_kr.data.npy_files import Array, Column, Kind, NpyFiles, found
from tinygrad_kr.data.parquet_files import ParquetFiles
from tinygrad_kr.data.samplers import BlockOrder, checked_count
from tinygrad_kr.tensor import Tensor

Path: TypeAlias = "str | os.PathLike[str]"

BLOCK_BYTES = 1 << 20
"""Bytes of a block of `.npy` files. A disk reads so many at once nearly as fast as any more."""
BUFFER = 256
"""Blocks of `.npy` files that are shuffled together."""
PARQUET_BYTES = 1 << 27
"""Bytes of the row groups of Parquet files that are shuffled together."""


class _Files(Protocol):
    """Arrays side by side whose rows lie in parts, one part after the other."""

    ends: Array
    kinds: list[Kind]

    @property
    def paths(self) -> list[str]: ...

    def take(self, part: int, rows: Array) -> list[Array]: ...

    def advise(self, part: int, start: int, stop: int, needed: bool) -> None: ...

    def close(self) -> None: ...


class MemoryMapped:
    """A table larger than memory, in `.npy` or Parquet files: sample i is row i of each array.

    As a `TensorDataset` of the files' arrays: `dataset[i]` is a tuple of Tensors, a slice or an
    array of indices gives a tuple of Tensors with the first dimension. Each is a copy. What is not
    read takes no memory. `.npy` files are mapped: their pages are the system's, which drops them
    when it needs memory. Parquet files are decoded by row groups.

    files: for each array a `.npy` file, or a list of files whose rows follow each other; or one
        Parquet file, or one list of them.
    columns: of Parquet files and structured arrays: a name gives an array, a list of names one
        array (rows, names). None takes each Parquet column as an array. A Parquet column of lists
        of one length is an array (rows, length).
    rows: a slice of the table, such as `slice(-10_000, None)` for validation.
    rank, size: take one of `size` shares of these rows, one after the other: all have equally many.
        At most `size - 1` rows are in two shares, those at the borders.
    drop_last: leave out fewer than `size` rows instead.
    block: rows that a shuffled pass reads at once; by default those of 1 MiB. Of Parquet files a
        block is a row group.
    buffer: blocks whose rows a shuffled pass mixes; by default 256, of Parquet files as many as
        have 128 MiB, at least 1.

    `DataLoader(dataset, batch_size, shuffle=True)` shuffles by blocks. It takes the blocks in
    random order and shuffles all rows of `buffer` of them together. Each row comes once in a pass,
    and the disk reads whole blocks. How random is a batch of b rows, out of K = `buffer` blocks?
    The variance of its mean is about v / b + t / K, where v is the variance of a value and t that
    of the blocks' means. A full shuffle has v / b. So rows that lie in random order are shuffled as
    well as can be (t is nearly 0). A batch of a sorted table (t is nearly v) is as good as one of
    b K / (b + K) rows. A table that fits the buffer is shuffled fully.

    `dataset[indices]` in full random order reads a page or a row group for each row.

    Threads may share a data set. A pickle, as for a process, holds paths; the files are opened
    again there. `close`, or the end of a `with` block, lets go of the files, so that Windows can
    delete them. The next reader opens them again.

    Raises ValueError, with the file, the column and what to do, for what is no such file, is cut
    off, has no numbers, other dtypes or shapes, nulls or lists of several lengths; RuntimeError for
    a file that changes while it is read; FileNotFoundError; IndexError for an index outside;
    ModuleNotFoundError for Parquet without pyarrow.

    >>> import os, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> paths = [os.path.join(folder.name, name) for name in ("x.npy", "y.npy")]
    >>> np.save(paths[0], np.eye(4, dtype=np.float32)); np.save(paths[1], np.arange(4))
    >>> with tk.data.MemoryMapped(*paths) as dataset:
    ...     print(dataset, dataset[-1])
    ...     loader = tk.data.DataLoader(dataset, 2, shuffle=True, prefetch=2)
    ...     print(sorted(label.item() for _, labels in loader for label in labels))
    MemoryMapped(float32(4, 4), int64(4,)) (Tensor([0., 0., 0., 1.]), Tensor(3))
    [0, 1, 2, 3]
    >>> folder.cleanup()
    """

    def __init__(
        self,
        *files: Path | Sequence[Path],
        columns: Sequence[str | Sequence[str]] | None = None,
        rows: slice | None = None,
        rank: int = 0,
        size: int = 1,
        drop_last: bool = False,
        block: int | None = None,
        buffer: int | None = None,
    ) -> None:
        self._files = _opened([_paths(group) for group in files], _checked_columns(columns))
        with ExitStack() as stack:
            stack.callback(self.close)  # of files that do not fit
            start, stop = _range_of(rows, _equal_length(self._files))
            self._start, self._count = _share(start, stop, rank, size, drop_last)
            self._kinds = [kind for files in self._files for kind in files.kinds]
            self._edges, self.buffer = self._blocks(block, buffer)
            stack.pop_all()

    def _blocks(self, block: int | None, buffer: int | None) -> tuple[Array, int]:
        """Where the blocks lie among the rows, and how many are shuffled together."""
        row = max(1, sum(dtype.itemsize * math.prod(shape) for dtype, shape in self._kinds))
        most = None if buffer is None else checked_count("MemoryMapped", "buffer", buffer)
        first = self._files[0]
        if not isinstance(first, ParquetFiles):
            length = block if block is not None else max(1, BLOCK_BYTES // row)
            step = checked_count("MemoryMapped", "block", length)
            return np.append(np.arange(0, self._count, step), self._count), most or BUFFER
        if block is not None:
            raise ValueError(
                f"MemoryMapped: expected no block for Parquet files, whose blocks are row groups, "
                f"got {block}. Write them with row_group_size={block}"
            )
        inner = np.clip(first.ends - self._start, 0, self._count)
        edges = np.unique(np.concatenate([[0], inner]))
        largest = int(np.diff(edges).max(initial=1)) * row
        most = most or max(1, PARQUET_BYTES // largest)
        first.room = 2 * most
        return edges, most

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        arrays = ", ".join(f"{dtype}{(self._count, *shape)}" for dtype, shape in self._kinds)
        return f"MemoryMapped({arrays})"

    def __getitem__(self, index: Any, /) -> tuple[Tensor, ...]:
        rows = self._rows(index)
        arrays = self._taken(np.atleast_1d(rows) + self._start)
        return tuple(Tensor(array[0] if rows.ndim == 0 else array) for array in arrays)

    def _rows(self, index: Any) -> Array:
        """The rows that an index means, from 0 up."""
        if isinstance(index, slice):
            return np.arange(*index.indices(self._count))
        rows = np.asarray(index)
        if rows.dtype == np.bool_ and rows.shape == (self._count,):
            return np.flatnonzero(rows)
        if rows.size == 0 and rows.ndim == 1:
            return np.zeros(0, np.int64)
        if rows.dtype.kind not in "iu" or rows.ndim > 1:
            raise TypeError(
                f"MemoryMapped: expected an integer, a slice, a 1-D array of integers or one of "
                f"{self._count} booleans as index, got {index!r:.60}."
            )
        if (outside := (rows < -self._count) | (rows >= self._count)).any():
            wrong = rows[outside].flat[0]
            raise IndexError(f"MemoryMapped: expected an index of {self._count} rows, got {wrong}.")
        return rows.astype(np.int64) % max(1, self._count)

    def _taken(self, rows: Array) -> Iterator[Array]:
        """Copies of rows, one array after the other."""
        for files in self._files:
            parts = np.searchsorted(files.ends, rows, "right")
            for array, (dtype, _) in zip(_gathered(files, parts, rows), files.kinds, strict=True):
                yield array if array.dtype == dtype else array.astype(dtype)

    def block_order(self, seed: int | None = None, epoch: int = 0) -> BlockOrder:
        """The order of a pass: a sampler for `DataLoader(dataset, batch_size, sampler=...)`.

        seed: an integer from 0 up: the order is shuffled by blocks, the same one for the same seed
            and epoch. None: the order of the table.

        With `shuffle=True` a `DataLoader` draws a seed for each pass.

        Raises ValueError or TypeError for other seeds and epochs.

        >>> import os, tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = os.path.join(folder.name, "x.npy")
        >>> np.save(path, np.arange(6))
        >>> dataset = tk.data.MemoryMapped(path, block=2, buffer=1)
        >>> order = list(dataset.block_order(seed=0, epoch=3))
        >>> order == list(dataset.block_order(seed=0, epoch=3)), sorted(order)
        (True, [0, 1, 2, 3, 4, 5])
        >>> dataset.close(); folder.cleanup()
        """
        seeds = [None if n is None else operator.index(n) for n in (seed, epoch)]
        if seeds[1] is None or any(n is not None and n < 0 for n in seeds):
            raise ValueError(
                "MemoryMapped.block_order: expected a seed and an epoch from 0 up, got "
                f"{seed} and {epoch}."
            )
        return BlockOrder(self._edges, self.buffer, seeds[0], seeds[1], self._advise)

    def _advise(self, blocks: Array, needed: bool) -> None:
        """Have blocks read in the background, or let go of them."""
        for block in blocks.tolist():
            start, stop = self._edges[block : block + 2] + self._start
            for files in self._files:
                first, last = np.searchsorted(files.ends, (start, stop - 1), "right")
                for part in range(first, last + 1):
                    before = int(files.ends[part - 1]) if part else 0
                    end = min(stop, files.ends[part])
                    files.advise(part, max(start - before, 0), end - before, needed)

    def close(self) -> None:
        """Let go of the files. The next reader opens them again."""
        for files in self._files:
            files.close()

    def __enter__(self) -> MemoryMapped:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _gathered(files: _Files, parts: Array, rows: Array) -> list[Array]:
    """Copies of rows that lie in several parts. Each part is read once."""
    if not len(rows):
        return [np.empty((0, *shape), dtype) for dtype, shape in files.kinds]
    before = np.concatenate([[0], files.ends])[parts]
    inside = rows - before
    if (parts == parts[0]).all():
        return files.take(int(parts[0]), inside)
    gathered = [np.empty((len(rows), *shape), dtype) for dtype, shape in files.kinds]
    order = np.argsort(parts, kind="stable")
    used, firsts = np.unique(parts[order], return_index=True)
    for part, where in zip(used.tolist(), np.split(order, firsts[1:]), strict=True):
        for whole, some in zip(gathered, files.take(part, inside[where]), strict=True):
            whole[where] = some
    return gathered


# ------------------------------------------------------------------ arguments


def _paths(group: Path | Sequence[Path]) -> list[str]:
    several = [group] if isinstance(group, str | bytes | os.PathLike) else group
    try:
        paths = [os.fsdecode(path) for path in several]
    except TypeError:
        raise TypeError(
            f"MemoryMapped: expected a file or a list of files, got {group!r:.60}."
        ) from None
    if not paths:
        raise ValueError("MemoryMapped: expected a file or a list of files, got an empty list.")
    return paths


def _checked_columns(columns: Sequence[str | Sequence[str]] | None) -> list[Column] | None:
    if columns is None:
        return None
    chosen: list[Column] = [c if isinstance(c, str) else list(c) for c in columns]
    is_named = all(isinstance(n, str) for c in chosen for n in ([c] if isinstance(c, str) else c))
    if isinstance(columns, str) or not chosen or [] in chosen or not is_named:
        raise ValueError(
            f"MemoryMapped: expected a list of names, and of lists of names, as columns, got "
            f"{columns!r:.60}."
        )
    return chosen


_MAGIC = {b"\x93NUMPY": "npy", b"PAR1": "parquet", b"PK\x03\x04": "npz"}


def _format(path: str) -> str:
    """The format of a file by its first bytes, or "npy", whose reader says what is wrong."""
    found(path)
    with open(path, "rb") as stream:
        start = stream.read(8)
    for magic, name in _MAGIC.items():
        if start.startswith(magic):
            return name
    return "parquet" if path.endswith((".parquet", ".pq")) else "npy"


def _opened(groups: list[list[str]], columns: list[Column] | None) -> list[_Files]:
    formats = {path: _format(path) for group in groups for path in group}
    for path, kind in formats.items():
        if kind == "npz":
            raise ValueError(
                f"MemoryMapped: {path}: expected a .npy file, got an .npz, which cannot be mapped. "
                "Save each of its arrays with np.save"
            )
    kinds = set(formats.values())
    if kinds == {"npy"}:
        return [NpyFiles(group, columns) for group in groups]
    if kinds == {"parquet"} and len(groups) == 1:
        return [ParquetFiles(groups[0], columns)]
    got = "no file" if not groups else f"{len(groups)} arguments of the formats {sorted(kinds)}"
    raise ValueError(
        f"MemoryMapped: expected .npy files, or one Parquet file or list of them, got {got}."
    )


def _equal_length(columns: list[_Files]) -> int:
    lengths = [int(files.ends[-1]) if len(files.ends) else 0 for files in columns]
    if len(set(lengths)) > 1:
        listed = ", ".join(
            f"{n:,} in {c.paths[0]}" + (f" and {len(c.paths) - 1} more" if c.paths[1:] else "")
            for n, c in zip(lengths, columns, strict=True)
        )
        raise ValueError(f"MemoryMapped: expected equally many rows in each array, got {listed}.")
    return lengths[0]


def _range_of(rows: slice | None, total: int) -> tuple[int, int]:
    if rows is None:
        return 0, total
    if not isinstance(rows, slice) or rows.step not in (None, 1):
        raise ValueError(f"MemoryMapped: expected a slice without a step as rows, got {rows!r}.")
    start, stop, _ = rows.indices(total)
    return start, max(start, stop)


def _share(start: int, stop: int, rank: int, size: int, drop_last: bool) -> tuple[int, int]:
    """Where the rows of a rank begin, and how many they are."""
    ranks = checked_count("MemoryMapped", "size", size)
    if isinstance(rank, bool) or not hasattr(rank, "__index__") or not 0 <= rank < ranks:
        raise ValueError(f"MemoryMapped: expected a rank in [0, {ranks}), got {rank!r}.")
    total = stop - start
    count = total // ranks if drop_last else -(-total // ranks)
    return start + rank * total // ranks, count
