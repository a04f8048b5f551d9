"""Orders by blocks: each row once, how random, hints for the files, and little memory."""

from __future__ import annotations

import itertools
import tracemalloc
from collections import Counter
from typing import Any

import numpy as np
import pytest

from tinygrad_kr.data.prefetch import fetched_ahead
from tinygrad_kr.data.samplers import BlockOrder

EDGES = np.array([0, 3, 4, 9, 14, 20, 21])


@pytest.mark.parametrize("buffer", range(1, 8))
@pytest.mark.parametrize("seed", [None, 0, 2**63])
def test_every_row_comes_once_whatever_is_cut_out(buffer: int, seed: int | None) -> None:
    order = list(BlockOrder(EDGES, buffer, seed))
    assert sorted(order) == list(range(21))
    assert (order == sorted(order)) == (seed is None)
    for start, stop in itertools.combinations(range(22), 2):
        assert BlockOrder(EDGES, buffer, seed)[start:stop].tolist() == order[start:stop]


def test_groups_are_of_equal_size() -> None:
    """A last group of one block would be hardly shuffled."""
    order = BlockOrder(np.arange(0, 99, 10), 8, 0)
    assert [len(group) for group in order._groups] == [5, 4]


def test_a_buffer_for_all_gives_every_permutation_equally_often() -> None:
    counts = Counter(tuple(BlockOrder([0, 1, 3], 2, 0, epoch)) for epoch in range(1200))
    assert len(counts) == 6
    assert sum((n - 200) ** 2 / 200 for n in counts.values()) < 20.5  # chi squared, 1 in 1,000


def test_the_rows_of_blocks_far_apart_meet() -> None:
    order = BlockOrder(np.arange(0, 10_001, 10), 20, 0)
    blocks = np.asarray(order[0:200]) // 10
    assert len(set(blocks.tolist())) == 20 and np.ptp(blocks) > 500
    assert (np.diff(order[0:200]) != 1).mean() > 0.8


@pytest.mark.parametrize(("batch", "buffer"), [(50, 10), (50, 50), (10, 100)])
def test_the_variance_of_a_batch_of_a_sorted_table(batch: int, buffer: int) -> None:
    """v / b + t / K, as the docstring of MemoryMapped says, to the noise of 2,000 passes."""
    rows, block = 100_000, 100
    edges = np.arange(0, rows + 1, block)
    means = [BlockOrder(edges, buffer, 1, n)[0:batch].mean() / rows for n in range(2000)]
    expected = (1 / batch + 1 / buffer) / 12  # uniform values; v and t nearly the same
    assert np.var(means) == pytest.approx(expected, rel=0.15)


def test_blocks_are_announced_before_they_are_needed_and_let_go_after() -> None:
    told: list[tuple[int, bool]] = []
    order = BlockOrder(
        np.arange(0, 101, 5), 4, 0, advise=lambda b, on: told.extend((i, on) for i in b.tolist())
    )
    needed: list[set[int]] = []
    for start in range(0, 100, 5):
        used = set((order[start : start + 5] // 5).tolist())
        ready = {block for block, on in told if on} - {block for block, on in told if not on}
        assert used <= ready and len(ready) <= 9  # a group until its last batch is read
        needed.append(ready)
    assert len(needed[0]) == 5 and len(needed[3]) == 8  # the next group, one block a batch
    assert Counter(block for block, on in told if on) == Counter(range(20))
    assert len({block for block, on in told if not on}) == 16


def test_a_pass_that_is_resumed_announces_its_group() -> None:
    told: list[int] = []
    order = BlockOrder(np.arange(0, 101, 5), 4, 0, 0, lambda b, on: told.extend(b.tolist()))
    used = set((order[45:50] // 5).tolist())
    assert used <= set(told) and len(told) == 4 + 2


def test_the_order_of_a_large_table_takes_little_memory() -> None:
    edges = np.arange(0, 10**9 + 1, 4000)
    tracemalloc.start()
    order = BlockOrder(edges, 256, 0)
    rows = [order[start : start + 1000] for start in (0, 10**6, 10**9 - 1000)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(order) == 10**9 and all(len(set(r.tolist())) == 1000 for r in rows)
    assert peak < 60e6  # the permutation would take 8 GB


def test_keys_are_drawn_as_they_are_needed() -> None:
    drawn: list[int] = []

    def keys() -> Any:
        for number in itertools.count():
            drawn.append(number)
            yield number

    results = fetched_ahead(lambda key: key * key, keys(), 3)
    assert [next(results) for _ in range(5)] == [(n, n * n) for n in range(5)]
    results.close()
    assert len(drawn) < 15


def test_an_error_of_the_keys_comes_after_the_results_before_it() -> None:
    def keys() -> Any:
        yield from (1, 2)
        raise OSError("no more")

    results = fetched_ahead(lambda key: -key, keys(), 5)
    assert [next(results), next(results)] == [(1, -1), (2, -2)]
    with pytest.raises(OSError, match="no more"):
        next(results)
