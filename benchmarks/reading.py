"""Rows per second that a loader reads from files, in block order and naively, and from memory.

    python benchmarks/reading.py --gigabytes 20 --out /large/disk

The table is that of examples/larger_than_memory.py. "cold": the files were dropped from the page
cache before (Linux). Nothing is trained. Each measurement ends after --seconds. The cases take
turns, and the best of the turns counts: others use disk and processor as well. The result is
written to benchmarks/results/reading.json.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))

import larger_than_memory as example  # noqa: E402
from lectures.common import (  # noqa: E402
    launch,
    made_with,
    options,
    positive,
    read_json,
    rounded,
    write_json,
)

from tinygrad_kr import data  # noqa: E402

BATCH = 1000
TURNS = 2
IN_MEMORY = 4_000_000
"""Rows of the array in memory: 1 GB."""
RESULT = ROOT / "benchmarks" / "results" / "reading.json"


def drop(paths: list[Path]) -> None:
    """Drop files from the page cache."""
    for path in paths:
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def blocks(paths: list[Path], shuffle: bool) -> Iterator[Any]:
    """The batches of a pass."""
    with data.MemoryMapped(*paths) as table:
        yield from data.DataLoader(table, BATCH, shuffle=shuffle)


def naive(paths: list[Path]) -> Iterator[Any]:
    """Batches of a mapped file in full random order."""
    arrays = [np.load(path, mmap_mode="r") for path in paths]
    draw = np.random.default_rng(0)
    for _ in range(len(arrays[0]) // BATCH):
        rows = draw.integers(0, len(arrays[0]), BATCH)
        yield [array[rows] for array in arrays]


def alone(paths: list[Path]) -> Iterator[Any]:
    """The bytes of batches, one after the other, as the disk gives them."""
    with paths[0].open("rb", buffering=0) as stream:
        while stream.read(BATCH * example.ROW):
            yield None


def in_memory(paths: list[Path]) -> Iterator[Any]:
    """Batches of the first rows, read into memory before."""
    arrays = [np.load(path, mmap_mode="r")[:IN_MEMORY].copy() for path in paths]
    yield None  # from here on it is measured
    yield from data.DataLoader(tuple(arrays), BATCH, shuffle=True)


def measure(batches: Iterator[Any], seconds: float) -> dict[str, float]:
    """Rows per second, and per second of the processor, after the first batch."""
    next(batches)
    count, start, worked = 0, time.perf_counter(), time.process_time()
    for _ in batches:
        count += BATCH
        if time.perf_counter() - start > seconds:
            break
    taken, worked = time.perf_counter() - start, time.process_time() - worked
    return {"rows_per_second": rounded(count / taken), "per_cpu_second": rounded(count / worked)}


def main() -> None:
    parser = options(__doc__, out="out")
    parser.add_argument("--gigabytes", type=positive, default=1.0, help="of the table")
    parser.add_argument("--seconds", type=positive, default=20.0, help="of each measurement")
    args = parser.parse_args()
    rows = round(args.gigabytes * 1e9 / example.ROW)
    folder = args.out / "reading"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        npy = example.write_npy(folder, rows, 0)
        parquet = example.write_parquet(folder, min(rows, IN_MEMORY), 0)
        cases: dict[str, tuple[list[Path], Callable[[], Iterator[Any]]]] = {
            "npy, blocks shuffled, cold": (npy, lambda: blocks(npy, True)),
            "npy, in order, cold": (npy, lambda: blocks(npy, False)),
            "the disk alone, cold": (npy, lambda: alone(npy)),
            "npy, full random order, cold": (npy, lambda: naive(npy)),
            "parquet, row groups shuffled, cold": (parquet, lambda: blocks(parquet, True)),
            "an array in memory, shuffled": ([], lambda: in_memory(npy)),
        }
        best = {name: {"rows_per_second": 0.0} for name in cases}
        for name, (paths, make) in [*cases.items()] * TURNS:
            drop(paths)
            figures = measure(make(), args.seconds)
            print(f"{name:36} {figures['rows_per_second']:12,.0f} rows/s", flush=True)
            best[name] = max(best[name], figures, key=lambda each: each["rows_per_second"])
        record = {f"{args.gigabytes:g} GB": {**made_with(), "cases": best}}
        write_json(RESULT, read_json(RESULT) | record)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    launch(main)
