"""Tables of numbers as CSV, the format of the lectures' data."""

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
from tinygrad_kr.ops.op import refuse_masked

if TYPE_CHECKING:
    import numpy.typing as npt


class Table(NamedTuple):
    """A table of numbers: `values` (rows, columns), and the `names` in its header, () if none.

    >>> values, names = tk.data.Table(np.eye(2), ("x", "y"))
    >>> names
    ('x', 'y')
    """

    values: npt.NDArray[Any]
    names: tuple[str, ...]


class TableError(ValueError):
    """A CSV file that is not a table of numbers: the path, line and column (both from 1).

    A subclass of ValueError.

    >>> raise tk.data.TableError("scores.csv", 3, 2, "expected a number, got 'x'")
    Traceback (most recent call last):
        ...
    tinygrad_kr.data.tables.TableError: scores.csv: line 3, column 2: expected a number, got 'x'
    """

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

    delimiter: between fields. Fields may be quoted; "nan", "inf" and "-inf" are numbers.
    header: True if the first line names the columns, False if not. "auto": it does if none of its
        fields is a number.
    comments: lines that start with it are skipped, as are blank lines.
    dtype: of the values: float16, float32 or float64. encoding: of the text.

    Raises TableError, with line and column, for a field that is not a number or exceeds the range
    of `dtype`, rows of different lengths, broken quotes, another encoding, and no rows of numbers;
    FileNotFoundError if there is no such file; TypeError for another dtype.

    >>> import os, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "scores.csv")
    >>> tk.data.write_csv(path, [[1.5, 2.0], [3.0, 4.0]], header=["x", "y"])
    >>> tk.data.read_csv(path)
    Table(values=array([[1.5, 2. ],
           [3. , 4. ]], dtype=float32), names=('x', 'y'))
    >>> folder.cleanup()
    """
    name, target = os.fspath(path), _floating(dtype)
    numbers = array("d")
    with open(name, encoding=encoding, newline="") as stream:
        rows = _rows(name, stream, delimiter, comments)
        first_line, first = next(rows, (1, []))
        if header != "auto" and not isinstance(header, bool):
            raise ValueError(f'read_csv: expected header True, False or "auto", got {header!r}.')
        headed = _is_header(name, first_line, first) if header == "auto" else header
        for line, fields in rows if headed else chain([(first_line, first)], rows):
            if len(fields) != len(first):
                expected = f"{len(first)} columns, as in line {first_line}"
                raise TableError(name, line, None, f"expected {expected}, got {len(fields)}")
            numbers.extend(_parse(name, line, fields, target))
    if not numbers:
        raise TableError(name, first_line, None, "expected rows of numbers, got none")
    names = tuple(field.strip() for field in first) if headed else ()
    return Table(np.array(numbers, target).reshape(-1, len(first)), names)


def write_csv(
    path: str | os.PathLike[str],
    values: npt.ArrayLike,
    header: Sequence[str] | None = None,
    *,
    delimiter: str = ",",
) -> None:
    """Write a table of numbers (rows, columns), atomically, with an optional header.

    A number gets the fewest digits from which `read_csv` with the same dtype restores it exactly.
    Integers are written in full.

    Raises ValueError for `values` that are not two-dimensional or are empty, or a `header` that
    does not name every column; TypeError for values that are not real numbers.

    >>> import os, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "scores.csv")
    >>> tk.data.write_csv(path, np.array([[0.1, 2.0]], np.float32))
    >>> with open(path) as file:
    ...     print(file.read().strip())
    0.1,2.0
    >>> folder.cleanup()
    """
    import csv

    refuse_masked(values, "write_csv")
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
        raise TypeError(
            f"read_csv: expected float16, float32 or float64, got {target}. Use "
            f"read_csv(path).values.astype(np.{target})"
        )
    return target


def _rows(
    name: str, stream: TextIO, delimiter: str, comments: str | None
) -> Iterator[tuple[int, list[str]]]:
    """The fields and the line number of every line that is neither blank nor a comment."""
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
    """Find the line of a bad byte: the text was decoded in blocks."""
    with open(name, "rb") as stream:
        for line, content in enumerate(stream, 1):
            try:
                content.decode(encoding)
            except UnicodeDecodeError as error:
                bad = content[error.start : error.start + 1]
                advice = "Pass encoding=, for example encoding='cp949' for Korean Excel"
                problem = f"expected {encoding} text, got {bad!r}. {advice}"
                return TableError(name, line, None, problem)
    return TableError(name, 1, None, f"expected {encoding} text")


def _is_header(name: str, line: int, fields: list[str]) -> bool:
    numeric = [_number(field) is not None for field in fields]
    if any(numeric) and not all(numeric):
        first = numeric.index(False)
        advice = "If this line names the columns, pass header=True"
        raise _not_a_number(name, line, first + 1, fields[first], f". {advice}")
    return bool(fields) and not any(numeric)


def _number(text: str) -> float | None:
    with suppress(ValueError):
        return None if "_" in text else float(text)
    return None


def _not_a_number(name: str, line: int, column: int, text: str, advice: str = "") -> TableError:
    shown = text if len(text) <= 40 else text[:40] + "..."
    return TableError(name, line, column, f"expected a number, got {shown!r}{advice}")


def _parse(name: str, line: int, fields: list[str], target: np.dtype[Any]) -> list[float]:
    """A row as float64: all at once if it is plain, else field by field to find the error."""
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
        problem = f"expected a number in the range of {target}, got {text.strip()}"
        raise TableError(name, line, column, problem)
    return number


def _check_writable(table: npt.NDArray[Any], header: Sequence[str] | None) -> None:
    if table.dtype.kind not in "biuf" or table.dtype.itemsize > 8:
        raise TypeError(f"write_csv: expected numbers of at most 64 bits, got {table.dtype}.")
    if table.ndim != 2 or table.size == 0:
        raise ValueError(
            f"write_csv: expected (rows, columns) with at least one number, got {table.shape}."
        )
    if header is None:
        return
    if isinstance(header, str) or len(header) != table.shape[1]:
        raise ValueError(f"write_csv: expected {table.shape[1]} names in header, got {header!r}.")
    for name in header:
        if not name or name != name.strip() or not name.isprintable():
            raise ValueError(
                f"write_csv: expected names of printable text without blanks around, got {name!r}."
            )


def _spell(row: npt.NDArray[Any]) -> list[str]:
    """The shortest text of each number that reads back as that number by way of float64.

    One float32, 7.038531e-26, has a shortest text that fails: rounded twice it becomes its
    neighbour. A number that fails is written as the float64 it is equal to.
    """
    if row.dtype.kind != "f":
        return [str(int(number)) for number in row.tolist()]
    texts = row.astype(str)
    again = texts.astype(np.float64).astype(row.dtype)
    return [
        text if same else repr(float(number))
        for text, same, number in zip(texts.tolist(), again == row, row, strict=True)
    ]
