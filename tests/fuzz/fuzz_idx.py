"""Fuzz target: `data.read_idx`. It reads an array, or raises IdxError with the offset."""

from __future__ import annotations

from driver import fuzz, instrumented, scratch

with instrumented():
    from tinygrad_kr.data import IdxError, read_idx, write_idx

import numpy as np

LIMIT = 1 << 16


def target(data: bytes) -> None:
    path, copy = scratch("idx"), scratch("idx-copy")
    path.write_bytes(data)
    try:
        values = read_idx(path, max_bytes=LIMIT)
    except IdxError as error:
        assert str(path) in str(error)
        return
    assert values.nbytes <= LIMIT
    write_idx(copy, values)
    again = read_idx(copy)
    assert again.dtype == values.dtype
    np.testing.assert_array_equal(again, values)


if __name__ == "__main__":
    fuzz(target, "idx")
