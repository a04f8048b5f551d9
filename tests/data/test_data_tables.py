"""Tables of numbers as CSV: numbers come back exactly, errors say where."""

from __future__ import annotations

import gzip
import os
import pickle
import re
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_kr.data import Table, TableError, read_csv, write_csv

SHARED = os.environ.get("TINYGRAD_KR_DATA", "")
NAME = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=5)

# The start of the UCI zoo file as the lectures have it: notes with stray quotes, CRLF line ends,
# no line end after the last row.
ZOO = (
    '# zoo.data,,,\r\n#   2. hair     Boolean",,,\r\n'
    '#  14. legs     Numeric (set of values: {0",2,4}),\r\n'
    "1,0,0,1\r\n0,0,1,0"
)


def save(folder: Path, text: str | bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def error_of(path: Path, **options: Any) -> TableError:
    with pytest.raises(TableError) as caught:
        read_csv(path, **options)
    assert str(caught.value).startswith(f"{path}: line {caught.value.line}")
    return caught.value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def test_values_are_float32_rows_and_columns(tmp_path: Path) -> None:
    table = read_csv(save(tmp_path, "73,80.5\n-1e-3,0\n"))
    assert isinstance(table, Table)
    wanted = np.array([[73, 80.5], [-0.001, 0]], np.float32)
    np.testing.assert_array_equal(table.values, wanted, strict=True)
    assert table.names == ()


def test_notes_stray_quotes_and_line_ends_of_the_zoo_file(tmp_path: Path) -> None:
    values, names = read_csv(save(tmp_path, ZOO))
    np.testing.assert_array_equal(values, [[1, 0, 0, 1], [0, 0, 1, 0]])
    assert names == ()


@pytest.mark.skipif(
    not SHARED, reason="the lectures' files are needed: set TINYGRAD_KR_DATA to the folder above"
)
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("data-01-test-score.csv", (25, 4)),
        ("data-03-diabetes.csv", (759, 9)),
        ("data-04-zoo.csv", (101, 17)),
    ],
)
def test_the_lectures_files(name: str, shape: tuple[int, int]) -> None:
    path = Path(SHARED, "lectures", name)
    values, names = read_csv(path)
    wanted = np.loadtxt(path, np.float32, delimiter=",")
    np.testing.assert_array_equal(values, wanted, strict=True)
    assert values.shape == shape
    assert names == ()


@pytest.mark.parametrize(
    ("text", "header", "names"),
    [
        ("a,b\n1,2\n", "auto", ("a", "b")),
        ('"a, really", b \n1,2\n', "auto", ("a, really", "b")),
        (",b\n1,2\n", "auto", ("", "b")),
        ("2020,2021\n1,2\n", True, ("2020", "2021")),
        ("a,2021\n1,2\n", True, ("a", "2021")),
        ("# note\n\na,b\n1,2\n", "auto", ("a", "b")),
        ("키,몸무게\n1,2\n", "auto", ("키", "몸무게")),
        ("\ufeffa,b\n1,2\n", "auto", ("a", "b")),
        ("\ufeff1,2\n", "auto", ()),
        ("1,2\n", False, ()),
    ],
)
def test_the_header(tmp_path: Path, text: str, header: Any, names: tuple[str, ...]) -> None:
    table = read_csv(save(tmp_path, text), header=header)
    assert table.names == names
    np.testing.assert_array_equal(table.values, [[1, 2]])


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("1;2\n3;4", {"delimiter": ";"}),
        ("1\t2\n3\t4", {"delimiter": "\t"}),
        ("1  2\n3 4\n", {"delimiter": " "}),
        ("% note\n1,2\n  % note\n3,4", {"comments": "%"}),
        ("\n1,2\n \n\n3,4\n\n", {}),
        ("1,2\r3,4\r", {}),
        ('"1","2"\n" 3 ",4\n', {}),
        ("a,b\n1,2\n3,4\n".encode("utf-16"), {"encoding": "utf-16"}),
        ("가,b\n1,2\n3,4\n".encode("cp949"), {"encoding": "cp949"}),
    ],
)
def test_spellings_of_one_table(tmp_path: Path, text: Any, options: dict[str, Any]) -> None:
    values = read_csv(save(tmp_path, text), **options).values
    np.testing.assert_array_equal(values, [[1, 2], [3, 4]])


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    values = read_csv(save(tmp_path, "1,nan,inf\nnan,-inf,-Infinity\n")).values
    np.testing.assert_array_equal(values, [[1, np.nan, np.inf], [np.nan, -np.inf, -np.inf]])


@pytest.mark.parametrize(
    ("text", "line", "column", "problem"),
    [
        ("1,2\n3,x7\n", 2, 2, "expected a number, got 'x7'"),
        ("# note\n\n1,2\n3,4\n,6\n", 5, 1, "got ''"),
        ("a,b\n1,2\n1_000,4\n", 3, 1, "got '1_000'"),
        ("1,2\n3,4,5\n", 2, None, "expected 2 columns, as in line 1, got 3"),
        ("a,b\n1\n", 2, None, "expected 2 columns, as in line 1, got 1"),
        ("1,b\n3,4\n", 1, 2, "pass header=True"),
        ("a,2\n3,4\n", 1, 1, "pass header=True"),
        ("", 1, None, "expected rows of numbers, got none"),
        ("# note\n\n", 1, None, "expected rows of numbers, got none"),
        ("# note\na,b\n", 2, None, "expected rows of numbers, got none"),
        ("1,2\n1e39,2\n", 2, 1, "in the range of float32, got 1e39"),
        ("1,2\n3,-1e39\n", 2, 2, "in the range of float32, got -1e39"),
        ("1,2\nnan,-1e400\n", 2, 2, "in the range of float32, got -1e400"),
        ("1,2\n3," + "9" * 50 + "x", 2, 2, f"got '{'9' * 40}...'"),
        ('1,2\n3,"4\n5,6\n', 3, None, "unexpected end of data"),
        ('1,2\n3,"4"5\n', 2, None, "expected after"),
        (b"1,2\n" * 5000 + b"3,\xb0\xa1\n", 5001, None, r"expected utf-8 text, got b'\xb0'"),
    ],
)
def test_errors_name_line_and_column(
    tmp_path: Path, text: str | bytes, line: int, column: int | None, problem: str
) -> None:
    error = error_of(save(tmp_path, text))
    assert (error.line, error.column) == (line, column)
    assert problem in error.problem
    assert ("column" in str(error).partition("expected")[0]) == (column is not None)


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("a;b\n1;2\n3;4\n", ";"),
        ("1\t2\n3\t4\n", "\t"),
        ("1 2\n3 4\n", " "),
        ("1|2\n3|4\n", "|"),
        ("1;2\n", ";"),
        ("1,5;2,5\n3,5;4,5\n", ";"),
    ],
)
def test_the_delimiter_that_fits_is_named(tmp_path: Path, text: str, delimiter: str) -> None:
    path = save(tmp_path, text)
    assert error_of(path).problem.endswith(f". Pass delimiter={delimiter!r}")
    if "," not in text:
        assert read_csv(path, delimiter=delimiter).values.shape[1] == 2


@pytest.mark.parametrize("text", ["a b,c\n12 kg,1\n", "a\n1;x\n", "x;y\n"])
def test_no_delimiter_is_named_that_does_not_fit(tmp_path: Path, text: str) -> None:
    assert "delimiter" not in error_of(save(tmp_path, text)).problem


@pytest.mark.parametrize(
    ("content", "encoding", "advice"),
    [
        ("키,몸무게\n170,60\n".encode(), "cp949", "Pass encoding='utf-8'"),
        ("키,몸무게\n170,60\n".encode("cp949"), "utf-8", "encoding='cp949' for Korean Excel"),
        ("키,b\n1,2\n".encode("latin-1", "replace") + b"\xff", "utf-8", "Pass encoding="),
        (gzip.compress(b"1,2\n", mtime=0), "utf-8-sig", "got gzip. Decompress it first"),
        (b"PK\x03\x04\xff\xff", "utf-8-sig", "got a zip file. Save a workbook as CSV first"),
        ("a,b\n1,2\n".encode("utf-16"), "utf-8-sig", "got UTF-16. Pass encoding='utf-16'"),
        ("1,2\n".encode("utf-16-le"), "utf-8", "Pass encoding='utf-16-le' or 'utf-16-be'"),
        (b"1,2\n", "utf-16", "expected utf-16 text"),
    ],
)
def test_the_encoding_that_fits_is_named(
    tmp_path: Path, content: bytes, encoding: str, advice: str
) -> None:
    problem = error_of(save(tmp_path, content), encoding=encoding).problem
    assert advice in problem
    assert encoding == "utf-8" or "cp949' for Korean" not in problem


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('"speed\n# of laps",b\n1,2\n', ("speed\n# of laps", "b")),
        ('"speed\n\n  of laps",b\n1,2\n', ("speed\n\n  of laps", "b")),
        ('# note\n"a, # b",c\n# "note\n1,2\n#\n', ("a, # b", "c")),
    ],
)
def test_comments_and_blank_lines_in_quotes(
    tmp_path: Path, text: str, names: tuple[str, ...]
) -> None:
    table = read_csv(save(tmp_path, text))
    assert table.names == names
    np.testing.assert_array_equal(table.values, [[1, 2]])


def test_quoted_rows_go_over_lines(tmp_path: Path) -> None:
    path = save(tmp_path, 'a,b\n1,"\n2"\n3,x\n')
    assert (error_of(path).line, error_of(path).column) == (4, 2)


PEOPLE = "name,age,height\nMina,31,NA\nJoon,,1.75\n"


@pytest.mark.parametrize(
    ("options", "names", "values"),
    [
        ({"usecols": [1]}, ("age",), [[31], [np.nan]]),
        ({"usecols": ["height", "age"]}, ("height", "age"), [[np.nan, 31], [1.75, np.nan]]),
        ({"usecols": [-1, 1]}, ("height", "age"), [[np.nan, 31], [1.75, np.nan]]),
        (
            {"converters": {"name": len}},
            ("name", "age", "height"),
            [[4, 31, np.nan], [4, np.nan, 1.75]],
        ),
        (
            {"converters": {0: lambda text: text == "Joon"}, "usecols": (0, "height")},
            ("name", "height"),
            [[0, np.nan], [1, 1.75]],
        ),
    ],
)
def test_columns_converters_and_missing_values(
    tmp_path: Path, options: dict[str, Any], names: tuple[str, ...], values: Any
) -> None:
    table = read_csv(save(tmp_path, PEOPLE), missing=("", "NA"), **options)
    assert table.names == names
    np.testing.assert_array_equal(table.values, np.array(values, np.float32), strict=True)


def test_options_without_a_header(tmp_path: Path) -> None:
    path = save(tmp_path, "red,1,-\nblue,-,4\n")
    table = read_csv(path, converters={0: {"red": 5, "blue": 6}.__getitem__}, missing="-")
    np.testing.assert_array_equal(table.values, [[5, 1, np.nan], [6, np.nan, 4]])
    assert table.names == ()
    decimal = save(tmp_path, "1,5;2,5\n3,5;4\n")
    converters = dict.fromkeys((0, 1), lambda text: float(text.replace(",", ".")))
    values = read_csv(decimal, delimiter=";", header=False, converters=converters).values
    np.testing.assert_array_equal(values, [[1.5, 2.5], [3.5, 4]])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"missing": "NA"}, "line 2, column 1: expected a number, got 'Mina'"),
        ({"missing": "NA", "usecols": [1]}, "line 3, column 2: expected a number, got ''"),
        (
            {"converters": {"name": int}},
            "line 2, column 1: converter: ValueError: invalid literal .*, got 'Mina'",
        ),
        (
            {"converters": {"name": lambda text: None}},
            "line 2, column 1: converter: TypeError: .*, got 'Mina'",
        ),
    ],
)
def test_errors_of_fields_with_options(tmp_path: Path, options: Any, problem: str) -> None:
    with pytest.raises(TableError, match=problem):
        read_csv(save(tmp_path, PEOPLE), **options)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"usecols": [3]}, r"expected one of 3 columns \('name', 'age', 'height'\), got 3\."),
        ({"usecols": [-4]}, r"got -4\."),
        ({"usecols": ["weight"]}, r"got 'weight'\."),
        ({"converters": {"weight": float}}, r"got 'weight'\."),
        ({"delimiter": ", "}, r"expected one character as delimiter, got ', '\."),
        ({"delimiter": ""}, r"expected one character as delimiter, got ''\."),
        ({"delimiter": "\n"}, r"expected one character as delimiter, got '\\n'\."),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=rf"^read_csv: .*{problem}"):
        read_csv(save(tmp_path, PEOPLE), **options)


def test_a_row_of_another_length_is_found_also_with_columns(tmp_path: Path) -> None:
    error = error_of(save(tmp_path, "1,2,3\n4,5\n"), usecols=[0])
    assert (error.line, error.problem) == (2, "expected 3 columns, as in line 1, got 2")


ROWS = 20_000
TEXTS: dict[str, str] = {
    "plain": "".join(f"1.5,{i},{i},{i}\n" for i in range(ROWS)),
    "NaN": "".join(f"nan,{i},{i},{i}\n" for i in range(ROWS)),
    "names": "a,b\n" + "".join(f"{i},{i / 7}\n" for i in range(ROWS)),
    "one column": "0\n" * ROWS * 4,
    "wide": (",".join(["0.25"] * 4000) + "\n") * 100,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_it_is_as_fast_as_numpys_reader(tmp_path: Path, text: str) -> None:
    path = save(tmp_path, text)
    skipped = int(text.startswith("a"))

    def seconds(read: Any) -> float:
        start = time.process_time()
        read()
        return time.process_time() - start

    def theirs() -> Any:
        return np.loadtxt(path, np.float32, delimiter=",", skiprows=skipped, ndmin=2)

    np.testing.assert_array_equal(read_csv(path).values, theirs(), strict=True)
    times = [(seconds(lambda: read_csv(path)), seconds(theirs)) for _ in range(9)]
    ours, numpys = (min(column) for column in zip(*times, strict=True))
    assert ours <= 1.5 * numpys


COUNT = 1_000_000
HOSTILE: dict[str, tuple[str, str]] = {
    "a row of commas": ("," * 4 * COUNT, "line 1: expected at most 1,048,576 columns, got 4,000,"),
    "a second row of commas": ("1,2\n" + "," * 4 * COUNT, "line 2: expected 2 columns"),
    "a second row of numbers": ("1,2\n" + "1," * 2 * COUNT, "line 2: expected 2 columns"),
    "a quote without end": ('1,2\n"' + "," * 4 * COUNT, "line 2: field larger than field limit"),
    "a field without end": ("1" * 4 * COUNT, "line 1: field larger than field limit"),
    "blanks": (" " * 4 * COUNT, "expected rows of numbers, got none"),
    "a comment": ("#" * 4 * COUNT, "expected rows of numbers, got none"),
}


@pytest.mark.parametrize(("text", "problem"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_takes_little_memory(tmp_path: Path, text: str, problem: str) -> None:
    path = save(tmp_path, text)
    tracemalloc.start()
    with pytest.raises(TableError, match=problem):
        read_csv(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * len(text) + COUNT


def test_a_pipe_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path, "a,b\n1,2\n3,4\n")
    monkeypatch.setattr(os.path, "isfile", lambda name: False)
    monkeypatch.setattr(np, "loadtxt", None)  # which would open it again
    np.testing.assert_array_equal(read_csv(path).values, [[1, 2], [3, 4]])


@given(text=st.text('01.,-+eEnaif_ \t\r\n"#x\u0661\xa0', max_size=24))
@example(text="1,2\r3,4")
@example(text="\u0661,2\n")
@example(text="0x10\n")
@example(text="1\n \n2\n\t")
def test_numpys_reader_gives_what_the_rows_give(folder: Path, text: str) -> None:
    """The same table or the same error as row by row."""

    def result(**options: Any) -> Any:
        try:
            values, names = read_csv(path, **options)
        except TableError as error:
            return str(error)
        return values.tobytes(), values.shape, names

    path = save(folder, text)
    assert result() == result(missing="no such text")


def test_header_false_makes_names_an_error_and_header_true_takes_numbers(tmp_path: Path) -> None:
    path = save(tmp_path, "a,b\n1,2\n")
    assert error_of(path, header=False).column == 1
    path = save(tmp_path, "5,6\n1,2\n")
    np.testing.assert_array_equal(read_csv(path).values, [[5, 6], [1, 2]])
    np.testing.assert_array_equal(read_csv(path, header=True).values, [[1, 2]])


def test_the_range_is_that_of_the_dtype(tmp_path: Path) -> None:
    path = save(tmp_path, "1e39,2\n")
    np.testing.assert_array_equal(
        read_csv(path, dtype=np.float64).values, np.array([[1e39, 2]]), strict=True
    )
    assert "in the range of float16" in error_of(save(tmp_path, "70000"), dtype="f2").problem
    assert "in the range of float64" in error_of(save(tmp_path, "1e400"), dtype="f8").problem


@pytest.mark.parametrize("dtype", [np.int64, np.complex64, np.longdouble, np.bool_])
def test_other_dtypes_are_refused_with_what_to_do(tmp_path: Path, dtype: Any) -> None:
    with pytest.raises(TypeError, match=r"read_csv\(path\).values.astype"):
        read_csv(save(tmp_path, "1,2"), dtype=dtype)


@pytest.mark.parametrize("missing", [0, float("nan"), (0,), {"age": "0"}, None])
def test_missing_values_are_texts(tmp_path: Path, missing: Any) -> None:
    said = "read_csv: expected missing to be texts of fields that become NaN, got "
    with pytest.raises(TypeError, match=re.escape(f"{said}{missing!r}. Write missing=")):
        read_csv(save(tmp_path, "1,\n"), missing=missing)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.csv"):
        read_csv(tmp_path / "absent.csv")


def test_an_error_survives_being_sent_to_another_process() -> None:
    again = pickle.loads(pickle.dumps(TableError("file", 3, 2, "wrong")))
    assert str(again) == "file: line 3, column 2: wrong"


@given(
    values=st.sampled_from([np.float16, np.float32, np.float64]).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=2))
    ),
    delimiter=st.sampled_from(",;\t "),
)
def test_every_float_comes_back_exactly(
    folder: Path, values: npt.NDArray[Any], delimiter: str
) -> None:
    write_csv(folder / "table.csv", values, delimiter=delimiter)
    again = read_csv(folder / "table.csv", delimiter=delimiter, dtype=values.dtype).values
    np.testing.assert_array_equal(again, values, strict=True)
    is_number = ~np.isnan(values)
    np.testing.assert_array_equal(np.signbit(again[is_number]), np.signbit(values[is_number]))


def test_the_one_float32_whose_shortest_text_is_rounded_twice(tmp_path: Path) -> None:
    number = np.array([[0x15AE43FD]], np.uint32).view(np.float32)
    assert str(number[0, 0]) == "7.038531e-26"
    write_csv(tmp_path / "table.csv", number)
    again = read_csv(tmp_path / "table.csv").values
    assert again.view(np.uint32)[0, 0] == 0x15AE43FD


def test_the_text_is_short_and_plain(tmp_path: Path) -> None:
    values = np.array([[0.1, 1], [-0.0, 3e38]], np.float32)
    write_csv(tmp_path / "table.csv", values, header=["x", "a, b"])
    assert (tmp_path / "table.csv").read_bytes() == b'x,"a, b"\n0.1,1.0\n-0.0,3e+38\n'


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_integers_are_written_in_full(tmp_path: Path, dtype: Any) -> None:
    values = np.array([[0, 1], [np.iinfo(np.int64).max, 0]]).astype(dtype)
    write_csv(tmp_path / "table.csv", values)
    rows = (tmp_path / "table.csv").read_text(encoding="utf-8").split()
    assert rows == [f"{int(a)},{int(b)}" for a, b in values]


@given(names=st.lists(NAME, min_size=1, max_size=4))
@example(names=["#id", "b"])
@example(names=['a "quoted", name', "b"])
def test_names_come_back(folder: Path, names: list[str]) -> None:
    write_csv(folder / "table.csv", np.ones((1, len(names))), names)
    table = read_csv(folder / "table.csv", header=True)
    assert table.names == tuple(names)
    np.testing.assert_array_equal(table.values, np.ones((1, len(names))))


@pytest.mark.parametrize(
    ("values", "header", "kind"),
    [
        ([1.0, 2.0], None, ValueError),
        (np.zeros((2, 0)), None, ValueError),
        (np.zeros((0, 2)), None, ValueError),
        (np.zeros((1, 2)), ["a"], ValueError),
        (np.zeros((1, 2)), "ab", ValueError),
        (np.zeros((1, 2)), ["a", " b"], ValueError),
        (np.zeros((1, 2)), ["a", ""], ValueError),
        (np.zeros((1, 2)), ["a", "b\nc"], ValueError),
        (np.zeros((1, 2)), ["a", "b\0"], ValueError),
        (np.zeros((1, 2), complex), None, TypeError),
        ([["a", "b"]], None, TypeError),
        (np.zeros((1, 2), object), None, TypeError),
    ],
)
def test_what_could_not_be_read_back_is_not_written(
    tmp_path: Path, values: Any, header: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        write_csv(tmp_path / "table.csv", values, header)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, "1,2\n")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_csv(path, np.ones((3, 3)))
    assert path.read_bytes() == b"1,2\n"
    assert list(tmp_path.iterdir()) == [path]


@given(text=st.text('012.-e#," ainf_x\n\r', max_size=40))
def test_any_text_is_a_table_or_a_table_error(folder: Path, text: str) -> None:
    path = save(folder, text)
    try:
        values, names = read_csv(path)
    except TableError as error:
        assert error.line <= text.count("\n") + text.count("\r") + 1
    else:
        assert values.size > 0
        assert len(names) in (0, values.shape[1])


@given(content=st.binary(max_size=60))
def test_any_bytes_are_a_table_or_a_table_error(folder: Path, content: bytes) -> None:
    with suppress(TableError):
        assert read_csv(save(folder, content)).values.size > 0


def test_cut_off_at_every_byte_it_is_the_start_of_the_table_or_an_error(tmp_path: Path) -> None:
    content = b"a,b\n12,-3.5\n1e2,4\n"
    whole = read_csv(save(tmp_path, content)).values
    for length in range(len(content)):
        try:
            values = read_csv(save(tmp_path, content[:length])).values
        except TableError:
            continue
        rows = len(values) - 1  # the row that the cut may have shortened is the last
        np.testing.assert_array_equal(values[:rows], whole[:rows])


def test_a_header_that_is_neither_yes_nor_no_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("1,2\n3,4\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"expected header True, False or .auto., got 'yes'\."):
        read_csv(path, header="yes")  # type: ignore[arg-type]
