"""Tables of numbers as CSV, in and out, because that is how the lectures' data comes."""

from __future__ import annotations

import io
import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TextIO

import numpy as np

from tinygrad_kr.files import replacing

if TYPE_CHECKING:
    import numpy.typing as npt


class Table(NamedTuple):
    """A table of numbers: `values` (rows, columns), and the `names` in its header, () if none."""

    values: npt.NDArray[Any]
    names: tuple[str, ...]


class TableError(ValueError):
    """A CSV file that is not a table of numbers: which file, line and column (both from 1)."""

    def __init__(self, path: str, line: int, column: int | None, problem: str) -> None:
        super().__init__(path, line, column, problem)
        self.path, self.line, self.column, self.problem = path, line, column, problem

    def __str__(self) -> str:
        column = "" if self.column is None else f", column {self.column}"
        return f"{self.path}: line {self.line}{column}: {self.problem}"


def read_csv(
    path: str | os.PathLike[str],
    *,
    delimiter: str = ",",
    header: bool | Literal["auto"] = "auto",
    comments: str | None = "#",
    dtype: npt.DTypeLike = np.float32,
    encoding: str = "utf-8-sig",
) -> Table:
    """Read a table of numbers: `values, names = read_csv(path)`, or `read_csv(path).values`.

    Blank lines, and lines that begin with `comments`, are skipped. The first line left is the
    header when `header` is True, data when it is False; "auto" takes it for a header when none
    of its fields is a number. Fields may be quoted; "nan", "inf" and "-inf" are numbers. The
    values are (rows, columns) of `dtype`, float32 unless told otherwise.

    Raises TableError, naming line and column, for a field that is not a number or is beyond the
    range of `dtype`, rows of different lengths, broken quotes, text in another encoding, and a
    file without a row of numbers; FileNotFoundError when there is no such file; TypeError when
    `dtype` is not float16, float32 or float64.
    """
    name, target = os.fspath(path), _floating(dtype)
    numbers = array("d")
    with open(name, encoding=encoding, newline="") as stream:
        rows = _rows(name, stream, delimiter, comments)
        first_line, first = next(rows, (1, []))
        if header != "auto" and not isinstance(header, bool):
            raise ValueError(f'header is True, False or "auto", not {header!r}')
        headed = _is_header(name, first_line, first) if header == "auto" else header
        for line, fields in rows if headed else chain([(first_line, first)], rows):
            if len(fields) != len(first):
                wanted = f"{len(first)} columns, as in line {first_line}"
                raise TableError(name, line, None, f"wanted {wanted}, found {len(fields)}")
            numbers.extend(_parse(name, line, fields, target))
    if not numbers:
        raise TableError(name, first_line, None, "wanted rows of numbers, found none")
    names = tuple(field.strip() for field in first) if headed else ()
    return Table(np.array(numbers, target).reshape(-1, len(first)), names)


def write_csv(
    path: str | os.PathLike[str],
    values: npt.ArrayLike,
    header: Sequence[str] | None = None,
    *,
    delimiter: str = ",",
) -> None:
    """Write a table of numbers (rows, columns), all of it or nothing, with an optional header.

    A number gets the fewest digits from which `read_csv` with the same dtype makes exactly that
    number again; integers are written in full.

    Raises ValueError when `values` is not two-dimensional or is empty, or when `header` does not
    give every column a name; TypeError when the values are not real numbers.
    """
    import csv

    table = np.asarray(values)
    _check_writable(table, header)
    with replacing(path) as stream:
        text = io.TextIOWrapper(stream, "utf-8", newline="")
        if header is not None:
            mode: Literal[0, 1] = csv.QUOTE_ALL if header[0].startswith("#") else csv.QUOTE_MINIMAL
            csv.writer(text, "unix", delimiter=delimiter, quoting=mode).writerow(header)
        rows = csv.writer(text, "unix", delimiter=delimiter, quoting=csv.QUOTE_MINIMAL)
        rows.writerows(map(_spell, table))
        text.detach()


def _floating(dtype: npt.DTypeLike) -> np.dtype[Any]:
    target = np.dtype(dtype)
    if target.kind != "f" or target.itemsize > 8:
        advice = f"read_csv(path).values.astype(np.{target})"
        raise TypeError(f"read_csv reads float16, float32 or float64; for {target}: {advice}")
    return target


def _rows(
    name: str, stream: TextIO, delimiter: str, comments: str | None
) -> Iterator[tuple[int, list[str]]]:
    """The fields of every line that is neither blank nor a comment, with its line number."""
    import csv

    line = 0

    def kept() -> Iterator[str]:
        nonlocal line
        for text in stream:
            line += 1
            if text.strip() and not (comments and text.lstrip().startswith(comments)):
                yield text

    try:
        for fields in csv.reader(kept(), delimiter=delimiter, skipinitialspace=True, strict=True):
            yield line, fields
    except csv.Error as error:
        raise TableError(name, line, None, str(error)) from error
    except UnicodeDecodeError as error:
        raise _undecodable(name, error.encoding) from error


def _undecodable(name: str, encoding: str) -> TableError:
    """The text comes in blocks, so the line of a bad byte is found by going through them again."""
    with open(name, "rb") as stream:
        for line, content in enumerate(stream, 1):
            try:
                content.decode(encoding)
            except UnicodeDecodeError as error:
                bad = content[error.start : error.start + 1]
                advice = "pass encoding=, for example encoding='cp949' for Korean Excel"
                return TableError(name, line, None, f"{bad!r} is not {encoding} text; {advice}")
    return TableError(name, 1, None, f"this is not {encoding} text")


def _is_header(name: str, line: int, fields: list[str]) -> bool:
    numeric = [_number(field) is not None for field in fields]
    if any(numeric) and not all(numeric):
        place = numeric.index(False)
        advice = "if this line names the columns, pass header=True"
        raise _not_a_number(name, line, place + 1, fields[place], f"; {advice}")
    return bool(fields) and not any(numeric)


def _number(text: str) -> float | None:
    with suppress(ValueError):
        return None if "_" in text else float(text)
    return None


def _not_a_number(name: str, line: int, column: int, text: str, advice: str = "") -> TableError:
    shown = text if len(text) <= 40 else text[:40] + "..."
    return TableError(name, line, column, f"wanted a number, found {shown!r}{advice}")


def _parse(name: str, line: int, fields: list[str], target: np.dtype[Any]) -> list[float]:
    """A row as float64, all at once if it is plain, else field by field to find what is wrong."""
    largest = float(np.finfo(target).max)
    with suppress(ValueError):
        numbers = list(map(float, fields))
        if -largest <= min(numbers) and max(numbers) <= largest and "_" not in "".join(fields):
            return numbers
    return [_parse_field(name, line, column, text, target) for column, text in enumerate(fields, 1)]


def _parse_field(name: str, line: int, column: int, text: str, target: np.dtype[Any]) -> float:
    number = _number(text)
    if number is None:
        raise _not_a_number(name, line, column, text)
    with np.errstate(over="ignore"):
        overflows = bool(np.isinf(target.type(number))) and "inf" not in text.lower()
    if overflows:
        raise TableError(name, line, column, f"{text.strip()} is beyond the range of {target}")
    return number


def _check_writable(table: npt.NDArray[Any], header: Sequence[str] | None) -> None:
    if table.dtype.kind not in "biuf" or table.dtype.itemsize > 8:
        raise TypeError(f"write_csv writes numbers of at most 64 bits, not {table.dtype}")
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"write_csv wants (rows, columns) with one number or more, {table.shape}")
    if header is None:
        return
    if isinstance(header, str) or len(header) != table.shape[1]:
        raise ValueError(f"wanted {table.shape[1]} names for the header, got {header!r}")
    for name in header:
        if not name or name != name.strip() or not name.isprintable():
            raise ValueError(f"a name is printable text without blanks around it, not {name!r}")


def _spell(row: npt.NDArray[Any]) -> list[str]:
    """The shortest text of each number that reads back as that number by way of float64.

    Of all float32 one, 7.038531e-26, has a shortest text that fails that: rounded twice it becomes
    its neighbour. A number that fails is written as the float64 it is equal to.
    """
    if row.dtype.kind != "f":
        return [str(int(number)) for number in row.tolist()]
    texts = row.astype(str)
    again = texts.astype(np.float64).astype(row.dtype)
    return [
        text if same else repr(float(number))
        for text, same, number in zip(texts.tolist(), again == row, row, strict=True)
    ]
