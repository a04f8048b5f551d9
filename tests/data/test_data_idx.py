"""IDX files: what is written is read back, and what is damaged says so and where."""

from __future__ import annotations

import gzip
import pickle
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_kr.data import IdxError, read_idx, write_idx

DTYPES = [np.dtype(name) for name in ("u1", "i1", "i2", "i4", "f4", "f8")]

# The array [[1, -2, 3], [256, 5, 6]] of int16, spelled out from the format's description.
SAMPLE = bytes.fromhex("00000b02 00000002 00000003 0001fffe0003 010000050006")
SAMPLE_VALUES = np.array([[1, -2, 3], [256, 5, 6]], np.int16)
HEADER = 12

arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0))
)


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    """Fail when the block, at its worst, holds more bytes than `limit`."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit


def save(folder: Path, content: bytes | bytearray, name: str = "file") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def header(code: int, *shape: int) -> bytes:
    return bytes([0, 0, code, len(shape)]) + np.array(shape, ">u4").tobytes()


def error_of(path: Path, **options: Any) -> IdxError:
    with pytest.raises(IdxError) as caught:
        read_idx(path, **options)
    assert caught.value.path == str(path)
    assert str(caught.value).startswith(f"{path}: byte {caught.value.offset}: expected ")
    return caught.value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idx")


def test_reads_the_bytes_of_the_format(tmp_path: Path) -> None:
    values = read_idx(save(tmp_path, SAMPLE))
    np.testing.assert_array_equal(values, SAMPLE_VALUES, strict=True)
    assert values.dtype.isnative
    assert values.flags.writeable


def test_writes_the_bytes_of_the_format(tmp_path: Path) -> None:
    write_idx(tmp_path / "file", SAMPLE_VALUES)
    assert (tmp_path / "file").read_bytes() == SAMPLE


@pytest.mark.parametrize("name", ["file", "file.gz"])
@given(values=arrays)
def test_round_trip(folder: Path, name: str, values: npt.NDArray[Any]) -> None:
    write_idx(folder / name, values)
    again = read_idx(folder / name)
    np.testing.assert_array_equal(again, values, strict=True)
    assert again.tobytes() == values.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_either_byte_order_and_any_layout_is_written(tmp_path: Path, dtype: np.dtype[Any]) -> None:
    values = np.arange(12).reshape(3, 4).astype(dtype.newbyteorder("S"))[::-1].T
    write_idx(tmp_path / "file", values)
    np.testing.assert_array_equal(read_idx(tmp_path / "file"), values.astype(dtype), strict=True)


def test_the_content_says_whether_it_is_gzip_not_the_name(tmp_path: Path) -> None:
    for content, name in [(SAMPLE, "raw.gz"), (gzip.compress(SAMPLE), "packed")]:
        np.testing.assert_array_equal(read_idx(save(tmp_path, content, name)), SAMPLE_VALUES)


def test_the_same_array_gives_the_same_gzip_bytes(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        write_idx(tmp_path / name, SAMPLE_VALUES)
    content = (tmp_path / "a.gz").read_bytes()
    assert content == (tmp_path / "b.gz").read_bytes()
    assert content[4:8] == bytes(4)  # no time of writing


@pytest.mark.parametrize(
    ("content", "offset", "found"),
    [
        (b"", 0, "the end of the file after 0 of them"),
        (b"\0\0\x08", 3, "the end of the file after 3 of them"),
        (b"PK\x03\x04" + SAMPLE, 0, "b'PK'"),
        (b"\0\x01" + SAMPLE[2:], 0, r"b'\x00\x01'"),
        (b"\0\0\x0a\x01" + SAMPLE[4:], 2, "0A"),
        (b"\0\0\x08\x00" + SAMPLE[4:], 3, "0"),
        (b"\0\0\x08\x41" + bytes(4 * 65), 3, "65"),
        (SAMPLE[:-1], len(SAMPLE) - 1, "the end of the file after 11 of them"),
        (SAMPLE + b"\0", len(SAMPLE), "more bytes"),
        (header(0x08, 5) + b"1234", 12, "the end of the file after 4 of them"),
        (header(0x08, 0, 7) + b"1", 12, "more bytes"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_wrong_file_is_an_error_that_says_where(
    tmp_path: Path, pack: Any, content: bytes, offset: int, found: str
) -> None:
    error = error_of(save(tmp_path, pack(content)))
    assert (error.offset, error.found) == (offset, found)


def test_cut_off_at_every_byte(tmp_path: Path) -> None:
    packed = gzip.compress(SAMPLE)
    for content in (SAMPLE, packed):
        for length in range(len(content)):
            error = error_of(save(tmp_path, content[:length]))
            assert error.offset <= length if content is SAMPLE else error.offset <= len(SAMPLE)


def test_every_flipped_bit_of_a_raw_file(tmp_path: Path) -> None:
    for bit in range(8 * len(SAMPLE)):
        content = bytearray(SAMPLE)
        content[bit // 8] ^= 1 << bit % 8
        path = save(tmp_path, content)
        if bit < 8 * HEADER:
            error_of(path)
        else:
            values = read_idx(path)
            assert values.shape == SAMPLE_VALUES.shape
            assert values.dtype == SAMPLE_VALUES.dtype
            assert (values != SAMPLE_VALUES).sum() == 1


def test_a_flipped_bit_of_a_gzip_file_is_found_or_harmless(tmp_path: Path) -> None:
    packed = gzip.compress(SAMPLE)
    found = 0
    for bit in range(8 * len(packed)):
        content = bytearray(packed)
        content[bit // 8] ^= 1 << bit % 8
        path = save(tmp_path, content)
        try:
            values = read_idx(path)
        except IdxError:
            found += 1
        else:
            np.testing.assert_array_equal(values, SAMPLE_VALUES, strict=True)
    assert found > 6 * len(packed)


@given(content=st.binary(max_size=64), pack=st.booleans(), magic=st.booleans())
def test_any_bytes_are_an_array_or_an_idx_error(
    folder: Path, content: bytes, pack: bool, magic: bool
) -> None:
    content = b"\0\0" + content if magic else content
    path = save(folder, gzip.compress(content) if pack else content)
    try:
        values = read_idx(path)
    except IdxError as error:
        assert error.offset <= len(content)
    else:
        payload = values.astype(values.dtype.newbyteorder(">")).tobytes()
        assert content[4 + 4 * values.ndim :] == payload


def test_dimensions_beyond_the_cap_are_refused_before_reading(tmp_path: Path) -> None:
    path = save(tmp_path, header(0x0E, 2**32 - 1, 2**32 - 1, 2**32 - 1, 0))
    error = error_of(path)
    assert error.offset == 4
    assert "max_bytes=1073741824" in error.wanted


def test_the_cap_counts_header_and_payload(tmp_path: Path) -> None:
    path = save(tmp_path, SAMPLE)
    assert read_idx(path, max_bytes=len(SAMPLE)).shape == (2, 3)
    assert "24 bytes" in error_of(path, max_bytes=len(SAMPLE) - 1).found


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_header_that_promises_much_costs_little(tmp_path: Path, pack: Any) -> None:
    path = save(tmp_path, pack(header(0x08, 1 << 29) + b"few"))
    with memory_below(4_000_000):
        assert error_of(path).offset == 11


def test_a_gzip_bomb_is_not_decompressed(tmp_path: Path) -> None:
    bomb = gzip.compress(header(0x08, 8) + bytes(1 << 26))
    with memory_below(4_000_000):
        assert error_of(save(tmp_path, bomb)).found == "more bytes"
    bomb = gzip.compress(header(0x08, 1 << 26) + bytes(1 << 26))
    with memory_below(4_000_000):
        assert error_of(save(tmp_path, bomb), max_bytes=1 << 20).offset == 4


def test_a_second_gzip_member_is_not_passed_over(tmp_path: Path) -> None:
    path = save(tmp_path, gzip.compress(SAMPLE) + gzip.compress(b"more"))
    assert error_of(path).found == "more bytes"


def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "absent"
    with pytest.raises(FileNotFoundError, match=r"mnist\(\).*absent") as caught:
        read_idx(path)
    assert caught.value.filename == str(path)


def test_an_error_survives_being_sent_to_another_process() -> None:
    error = IdxError("file", 3, "this", "that", "do so")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "file: byte 3: expected this, got that. do so"
    assert again.offset == 3


@pytest.mark.parametrize("values", [np.zeros(2, np.int64), np.zeros(2, bool), np.zeros(2, "U1")])
def test_types_that_idx_does_not_have_are_refused(tmp_path: Path, values: npt.NDArray[Any]) -> None:
    with pytest.raises(TypeError, match="uint8, int8, int16, int32, float32, float64"):
        write_idx(tmp_path / "file", values)
    assert not list(tmp_path.iterdir())


def test_a_scalar_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 to 64 dimensions"):
        write_idx(tmp_path / "file", np.uint8(1))
