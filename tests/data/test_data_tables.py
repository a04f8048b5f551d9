"""Tables of numbers as CSV: numbers come back exactly, errors say where."""

from __future__ import annotations

import os
import pickle
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
