"""Columns of a table in Parquet files, read by row groups."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygrad_kr.data.npy_files import (
    Array,
    Column,
    check_unchanged,
    flat,
    found,
    missing,
    not_single,
)


class ParquetFiles:
    """Rows of arrays in the row groups of files, one file after the other.

    A row group is decoded whole and kept until `room` others have been used since.
    columns: names; several in a list become one array. None takes each column as an array.
    `ends` lists where each row group ends, `kinds` has the dtype and shape of a row of each array.

    Raises ValueError, with the file and the column, for columns that are missing, are no numbers,
    have nulls or differ from those of the first file; ModuleNotFoundError without pyarrow.
    """

    def __init__(self, paths: Sequence[str], columns: Sequence[Column] | None) -> None:
        self._parquet = _pyarrow()
        self.paths, self._found = list(paths), [found(path) for path in paths]
        self._open: dict[int, Any] = {}
        self._lock, self._kept = threading.RLock(), OrderedDict[int, list[Array]]()
        self.room = 1
        first = self._file(0).schema_arrow
        self._columns: Sequence[Column] = first.names if columns is None else columns
        self._names = flat(self._columns)
        if not self._names:
            raise ValueError(f"MemoryMapped: {paths[0]}: expected columns, got none. Write some")
        self._groups: list[tuple[int, int]] = []
        rows: list[int] = []
        for number in range(len(paths)):
            self._check_schema(number, first)
            metadata = self._file(number).metadata
            groups = [(number, group) for group in range(metadata.num_row_groups)]
            self._groups += groups
            rows += [metadata.row_group(group).num_rows for _, group in groups]
        self.ends = np.cumsum(rows, dtype=np.int64)
        self.kinds = [(a.dtype, a.shape[1:]) for a in self._arranged(self._first_rows(), 0)]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_parquet": None, "_open": {}, "_kept": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._parquet = _pyarrow()
        self._lock, self._kept = threading.RLock(), OrderedDict()

    def take(self, part: int, rows: Array) -> list[Array]:
        """Copies of rows of a row group."""
        return [array.take(rows, axis=0) for array in self._decoded(part)]

    def advise(self, part: int, start: int, stop: int, needed: bool) -> None:
        """Decode a row group that is needed soon, if there is room; drop one that is done with."""
        with self._lock:
            if not needed:
                self._kept.pop(part, None)
            elif len(self._kept) < self.room:
                self._decoded(part)

    def close(self) -> None:
        """Close the files. The next reader opens them again."""
        with self._lock:
            self._kept.clear()
            for file in self._open.values():
                file.close()
            self._open.clear()

    # ------------------------------------------------------------------ files

    def _file(self, number: int) -> Any:
        """The open file. A table of many files keeps few of them open."""
        path = self.paths[number]
        check_unchanged(path, self._found[number], number in self._open)
        if number not in self._open:
            while len(self._open) >= _MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
            try:
                self._open[number] = self._parquet.ParquetFile(path)
            except (ValueError, OSError) as error:  # ArrowInvalid is a ValueError
                raise ValueError(
                    f"MemoryMapped: {path}: expected a Parquet file: {error}. Write it again"
                ) from error
        return self._open[number]

    def _check_schema(self, number: int, first: Any) -> None:
        """Raise ValueError for columns that are missing or are no numbers."""
        path, schema = self.paths[number], self._file(number).schema_arrow
        for name in self._names:
            if name not in schema.names:
                raise missing(path, name, schema.names)
            if (times := schema.names.count(name)) > 1:
                raise ValueError(
                    f"MemoryMapped: {path}: column {name!r}: expected it once, got it {times} "
                    "times. Rename all but one with table.rename_columns, and write the file again"
                )
            kind, expected = schema.field(name).type, first.field(name).type
            if kind != expected:
                raise ValueError(
                    f"MemoryMapped: {path}: column {name!r}: expected {expected} as in "
                    f"{self.paths[0]}, got {kind}. Write both files with one schema"
                )
            if advice := _refusal(kind):
                others = [field.name for field in schema if not _refusal(field.type)]
                choice = f" or choose from columns={others[:10]}" if others else ""
                raise ValueError(
                    f"MemoryMapped: {path}: column {name!r}: expected numbers, got {kind}. "
                    f"{advice}{choice}"
                )

    # ------------------------------------------------------------------ rows

    def _first_rows(self) -> Any:
        """The first row, which tells how long lists are; without one, no row."""
        for part, (number, group) in enumerate(self._groups):
            file = self._file(number)
            with self._naming(part):
                for batch in file.iter_batches(1, [group], self._names, use_threads=False):
                    if len(batch):
                        return batch
        return self._file(0).schema_arrow.empty_table()

    def _decoded(self, part: int) -> list[Array]:
        with self._lock:
            arrays = self._kept.pop(part, None)
            if arrays is None:
                while len(self._kept) >= self.room:
                    self._kept.popitem(last=False)
                arrays = self._decode(part)
            self._kept[part] = arrays
        return arrays

    def _decode(self, part: int) -> list[Array]:
        number, group = self._groups[part]
        file = self._file(number)
        with self._naming(part):
            table = file.read_row_group(group, self._names, use_threads=False)
        arrays = self._arranged(table, part)
        for column, array, (_, shape) in zip(self._columns, arrays, self.kinds, strict=True):
            if array.shape[1:] != shape:
                raise self._uneven(part, str(column), shape, array.shape[1:])
        return arrays

    @contextmanager
    def _naming(self, part: int) -> Iterator[None]:
        """Around the reading of a row group: an error names the file."""
        number, group = self._groups[part]
        try:
            yield
        except (ValueError, OSError) as error:
            raise ValueError(
                f"MemoryMapped: {self.paths[number]}: row group {group}: {error}. Write the file "
                "again"
            ) from error

    def _arranged(self, table: Any, part: int) -> list[Array]:
        """The columns as arrays; those of a list side by side in one."""
        arrays = []
        for column in self._columns:
            if isinstance(column, str):
                arrays.append(self._column(table, column, part))
                continue
            singles = [self._column(table, name, part) for name in column]
            for name, array in zip(column, singles, strict=True):
                if array.ndim != 1:
                    raise not_single(self.paths[0], name)
            arrays.append(np.stack(singles, axis=1))
        return arrays

    def _column(self, table: Any, name: str, part: int) -> Array:
        """A column as an array (rows,), of lists (rows, length)."""
        column = table.column(name)
        if hasattr(column, "combine_chunks"):  # of a table, not of a batch
            column = column.combine_chunks()
        shape = [len(column)]
        self._refuse_nulls(column, name, part)
        while hasattr(column, "value_lengths"):  # of lists
            shape.append(self._length(column, name, part))
            column = column.flatten()
            self._refuse_nulls(column, name, part)
        array: Array = column.to_numpy(zero_copy_only=False)
        return array.reshape(shape)

    def _length(self, column: Any, name: str, part: int) -> int:
        """The length of all lists of a column."""
        lengths = column.value_lengths().to_numpy(zero_copy_only=False)
        if len(lengths) and (lengths != lengths[0]).any():
            raise self._uneven(part, name, lengths.min(), lengths.max())
        return int(lengths[0]) if len(lengths) else max(0, getattr(column.type, "list_size", 0))

    def _refuse_nulls(self, column: Any, name: str, part: int) -> None:
        if column.null_count:
            number, group = self._groups[part]
            is_real = _pyarrow_types().is_floating(column.type)
            fix = f"Fill them with pyarrow.compute.fill_null(column, {_FILLS[is_real]})"
            raise ValueError(
                f"MemoryMapped: {self.paths[number]}: column {name!r}: expected a number in every "
                f"row, got {column.null_count:,} nulls in row group {group}. "
                f"{'Pad them' if hasattr(column, 'value_lengths') else fix}, or leave out these "
                "rows"
            )

    def _uneven(self, part: int, name: str, expected: Any, got: Any) -> ValueError:
        number, group = self._groups[part]
        return ValueError(
            f"MemoryMapped: {self.paths[number]}: column {name!r}: expected lists of one length, "
            f"got {expected} and {got} in row group {group}. Pad them"
        )


_FILLS = {False: "0", True: "float('nan')"}
"""What may take the place of a null, of numbers without and with a NaN."""
_MOST_OPEN = 64
"""Limit: files that are open at once."""


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ModuleNotFoundError(
            "MemoryMapped: expected pyarrow to read Parquet, got none. Write pip install "
            '"tinygrad_kr[parquet]"'
        ) from error
    return pyarrow.parquet


def _pyarrow_types() -> Any:
    from pyarrow import types

    return types


def _refusal(kind: Any) -> str:
    """What to do with a column of a type that is no number; empty for numbers and lists of them."""
    types = _pyarrow_types()
    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind = kind.value_type
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind):
        return ""
    if types.is_decimal(kind):
        return "Write it as column.cast(pyarrow.float64())"
    if types.is_dictionary(kind) or types.is_string(kind) or types.is_large_string(kind):
        return "Write integer codes, such as column.dictionary_encode().indices"
    if types.is_temporal(kind):
        return "Write it as column.cast(pyarrow.int64())"
    return "Convert it"
