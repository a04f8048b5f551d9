"""Tables of numbers as CSV, the format of the lectures' data."""

from __future__ import annotations

import io
import math
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TextIO

import numpy as np

from tinygrad_kr.files import replacing
from tinygrad_kr.ops.op import refuse_masked

if TYPE_CHECKING:
    import numpy.typing as npt


_BLOCK = 1 << 18
"""Characters that are read at once."""
_LONG = 1 << 16
"""Threshold: the fields of a line of more characters are counted before it is split."""
_MOST_COLUMNS = 1 << 20
"""Limit: columns of a file."""


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
    usecols: Sequence[int | str] | None = None,
    converters: Mapping[int | str, Callable[[str], float]] | None = None,
    missing: str | Sequence[str] = (),
) -> Table:
    """Read a table of numbers: `values, names = read_csv(path)`, or `read_csv(path).values`.

    delimiter: between fields, one character. Fields may be quoted; "nan", "inf" and "-inf" are
        numbers.
    header: True if the first line names the columns, False if not. "auto": it does if none of its
        fields is a number.
    comments: lines that start with it are skipped, as are blank lines.
    dtype: of the values: float16, float32 or float64. encoding: of the text.
    usecols: the columns to read, in this order, by number from 0 or by name; None for all.
    converters: functions of a field's text that give its number, by column.
    missing: texts of fields that become NaN: `missing=("", "NA")`.

    Raises TableError, with line and column, for a field that is not a number or exceeds the range
    of `dtype`, rows of different lengths, broken quotes, another encoding, and no rows of numbers;
    it names the delimiter or encoding that fits. Raises FileNotFoundError if there is no such file;
    TypeError for another dtype, or where `missing` is no text; ValueError for a column that is not
    there.

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
    if header != "auto" and not isinstance(header, bool):
        raise ValueError(f'read_csv: expected header True, False or "auto", got {header!r}.')
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '\r\n"':
        raise ValueError(f"read_csv: expected one character as delimiter, got {delimiter!r}.")
    try:
        with open(name, encoding=encoding, newline="") as stream:
            rows = _rows(name, stream, delimiter, comments)
            first_line, first = next(rows, (1, []))
            columns = _Columns(name, first_line, first, target, missing)
            headed = columns.choose(header, usecols, converters)
            values = None
            if not (columns.are_plain and os.path.isfile(name)):
                values = columns.parse(rows if headed else chain([(first_line, first)], rows))
            elif _is_plain(stream, comments, delimiter, len(first)):
                skipped = first_line if headed else first_line - 1
                values = _loaded(name, skipped, delimiter, target, encoding, len(first))
        if values is None:
            with open(name, encoding=encoding, newline="") as stream:
                rows = _rows(name, stream, delimiter, comments)
                values = columns.parse(islice(rows, int(headed), None))
    except UnicodeError as error:
        raise _undecodable(name, getattr(error, "encoding", encoding)) from error
    if not len(values):
        problem = "expected rows of numbers, got none" + _advice(first[0] if first else "")
        raise TableError(name, first_line, None, problem)
    return Table(values, columns.names if headed else ())


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
    """The line number and the fields of every row; blank lines and comments are left out.

    A long line is refused before it is split, if it has more fields than the first row.
    """
    import csv

    line, is_start = 0, True
    first_line, count = 0, _MOST_COLUMNS

    def check(found: int) -> None:
        if first_line and found != count:
            problem = f"expected {count} columns, as in line {first_line}, got {found}"
            raise TableError(name, line, None, problem)
        if found > count:
            raise TableError(name, line, None, f"expected at most {count:,} columns, got {found:,}")

    def kept() -> Iterator[str]:
        nonlocal line, is_start
        for text in stream:
            line += 1
            if is_start and (not text.strip() or (comments and text.lstrip().startswith(comments))):
                continue
            is_start = False  # of a row: quotes may go on over the next line
            if "\0" in text:
                problem = "expected text, got NUL. Pass encoding='utf-16-le' or 'utf-16-be'"
                raise TableError(name, line, None, problem)
            if len(text) > _LONG and delimiter != " " and '"' not in text:
                check(text.count(delimiter) + 1)
            yield text

    try:
        for fields in csv.reader(kept(), delimiter=delimiter, skipinitialspace=True, strict=True):
            check(len(fields))
            if not first_line:
                first_line, count = line, len(fields)
            yield line, fields
            is_start = True
    except csv.Error as error:
        raise TableError(name, line, None, str(error)) from error


def _is_plain(stream: TextIO, comments: str | None, delimiter: str, columns: int) -> bool:
    """Whether `np.loadtxt` reads the rest of a text alike: no quotes, comments or endless lines."""
    has_rows = False
    while block := stream.read(_BLOCK):
        if '"' in block or (comments and comments in block):
            return False
        if "\n" not in block and "\r" not in block and block.count(delimiter) > columns:
            return False
        has_rows = has_rows or not block.isspace()
    return has_rows


def _loaded(
    name: str, skipped: int, delimiter: str, target: np.dtype[Any], encoding: str, columns: int
) -> npt.NDArray[Any] | None:
    """The table by NumPy's reader; None where the rows must be read one by one, for the error."""
    options: dict[str, Any] = {"delimiter": delimiter, "skiprows": skipped, "ndmin": 2}
    with suppress(ValueError):
        values = np.loadtxt(name, target, comments=None, encoding=encoding, **options)
        if values.shape[1] == columns and not np.isinf(values).any():
            return values
    return None


def _texts(missing: Any) -> set[str]:
    """What `missing` lists; TypeError for a number, or for numbers by column."""
    texts = [missing] if isinstance(missing, str) else missing
    is_list = isinstance(texts, Iterable) and not isinstance(texts, Mapping)
    if not is_list or not all(isinstance(text, str) for text in texts):
        raise TypeError(
            f"read_csv: expected missing to be texts of fields that become NaN, got {missing!r}. "
            'Write missing="" for empty fields, and np.nan_to_num(values, nan=0) for another number'
        )
    return set(texts)


class _Columns:
    """The columns of a file, from its first row: which are read, and how."""

    def __init__(
        self,
        name: str,
        first_line: int,
        first: list[str],
        target: np.dtype[Any],
        missing: str | Sequence[str],
    ) -> None:
        self.name, self.first_line, self.first, self.target = name, first_line, first, target
        self.missing = _texts(missing)
        self.names = tuple(field.strip() for field in first)
        self.chosen = list(range(len(first)))
        self.converters: dict[int, Callable[[str], float]] = {}

    def choose(
        self,
        header: bool | Literal["auto"],
        usecols: Sequence[int | str] | None,
        converters: Mapping[int | str, Callable[[str], float]] | None,
    ) -> bool:
        """Whether the first row names the columns. Keeps those that are to be read."""
        if usecols is not None:
            self.chosen = [self._number(column) for column in usecols]
        self.converters = {self._number(c): f for c, f in (converters or {}).items()}
        headed = self._is_header() if header == "auto" else header
        self.are_plain = usecols is None and not self.converters and not self.missing
        self.names = tuple(self.names[column] for column in self.chosen)
        return headed

    def _number(self, column: int | str) -> int:
        if isinstance(column, str) and column in self.names:
            return self.names.index(column)
        count = len(self.first)
        if isinstance(column, str) or not -count <= column < count:
            raise ValueError(
                f"read_csv: expected one of {count} columns {self.names!r:.200}, got {column!r}."
            )
        return column % count

    def _is_header(self) -> bool:
        asked = [column for column in self.chosen if column not in self.converters]
        with suppress(ValueError):
            if list(map(float, self.first)) and "_" not in "".join(self.first):
                return False
        numeric = [
            self.first[column].strip() in self.missing or _number(self.first[column]) is not None
            for column in asked
        ]
        if any(numeric) and not all(numeric):
            column = asked[numeric.index(False)]
            text = self.first[column]
            advice = _advice(text) or ". If this line names the columns, pass header=True"
            raise _not_a_number(self.name, self.first_line, column + 1, text, advice)
        return bool(numeric) and not any(numeric)

    def parse(self, rows: Iterable[tuple[int, list[str]]]) -> npt.NDArray[Any]:
        """The rows, one by one."""
        numbers = array("d")
        for line, fields in rows:
            numbers.extend(self._parsed(line, fields))
        return np.array(numbers, self.target).reshape(-1, len(self.chosen) or 1)

    def _parsed(self, line: int, fields: list[str]) -> list[float]:
        """A row as float64: all at once if it is plain, else field by field to find the error."""
        if self.are_plain:
            largest = float(np.finfo(self.target).max)
            with suppress(ValueError):
                numbers = list(map(float, fields))
                if "_" not in "".join(fields) and all(
                    -largest <= x <= largest or x != x for x in numbers
                ):
                    return numbers
        return [self._parse_field(line, column, fields[column]) for column in self.chosen]

    def _parse_field(self, line: int, column: int, text: str) -> float:
        if text.strip() in self.missing:
            return math.nan
        if column in self.converters:
            try:
                number: float | None = float(self.converters[column](text))
            except Exception as error:
                problem = f"converter: {type(error).__name__}: {error}, got {text!r}"
                raise TableError(self.name, line, column + 1, problem) from error
        else:
            number = _number(text)
        if number is None:
            raise _not_a_number(self.name, line, column + 1, text, _advice(text))
        with np.errstate(over="ignore"):
            overflows = bool(np.isinf(self.target.type(number))) and "inf" not in text.lower()
        if overflows:
            problem = f"expected a number in the range of {self.target}, got {text.strip()}"
            raise TableError(self.name, line, column + 1, problem)
        return number


def _number(text: str) -> float | None:
    with suppress(ValueError):
        return None if "_" in text else float(text)
    return None


def _not_a_number(name: str, line: int, column: int, text: str, advice: str) -> TableError:
    shown = text if len(text) <= 40 else text[:40] + "..."
    return TableError(name, line, column, f"expected a number, got {shown!r}{advice}")


def _advice(text: str) -> str:
    """The delimiter that cuts a field into numbers."""
    for delimiter in ";\t|: ,":
        parts = text.split(delimiter) if len(text) < _LONG else []
        if len(parts) > 1 and all(_number(part.replace(",", ".")) is not None for part in parts):
            return f". Pass delimiter={delimiter!r}"
    return ""


def _undecodable(name: str, encoding: str) -> TableError:
    """Find the line of a bad byte, and the encoding that fits."""
    with open(name, "rb") as stream:
        start = stream.read(4)
    if start.startswith(b"\x1f\x8b"):
        return TableError(name, 1, None, f"expected {encoding} text, got gzip. Decompress it first")
    if start.startswith(b"PK"):
        problem = f"expected {encoding} text, got a zip file. Save a workbook as CSV first"
        return TableError(name, 1, None, problem)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        problem = f"expected {encoding} text, got UTF-16. Pass encoding='utf-16'"
        return TableError(name, 1, None, problem)
    fitting = [e for e in ("utf-8", "cp949") if e != encoding and _decodes(name, e)]
    korean = " for Korean Excel" if fitting[:1] == ["cp949"] else ""
    advice = f"Pass encoding={fitting[0]!r}{korean}" if fitting else "Pass encoding="
    with open(name, "rb") as stream:
        for line, content in enumerate(stream, 1):
            try:
                content.decode(encoding)
            except UnicodeDecodeError as error:
                bad = content[error.start : error.start + 1]
                problem = f"expected {encoding} text, got {bad!r}. {advice}"
                return TableError(name, line, None, problem)
    return TableError(name, 1, None, f"expected {encoding} text. {advice}")


def _decodes(name: str, encoding: str) -> bool:
    with suppress(UnicodeError), open(name, encoding=encoding, newline="") as stream:
        while stream.read(_BLOCK):
            pass
        return True
    return False


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
