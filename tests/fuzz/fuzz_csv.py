"""Fuzz target: `data.read_csv`. It reads a table, or raises TableError with the line."""

from __future__ import annotations

from driver import fuzz, instrumented, scratch

with instrumented():
    from tinygrad_kr.data import TableError, read_csv, write_csv

import numpy as np


def target(data: bytes) -> None:
    path, copy = scratch("csv"), scratch("csv-copy")
    path.write_bytes(data)
    try:
        table = read_csv(path, dtype=np.float64)
    except TableError as error:
        assert str(path) in str(error)
        return
    values, names = table
    assert values.ndim == 2
    assert not names or len(names) == values.shape[1]
    write_csv(copy, values)
    np.testing.assert_array_equal(read_csv(copy, header=False, dtype=np.float64).values, values)


if __name__ == "__main__":
    fuzz(target, "csv")
