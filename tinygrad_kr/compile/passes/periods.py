"""Where a sequence repeats itself: the turns of the loops that a program was recorded in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray

MIN_TURNS = 6
"""Fewest turns of a loop."""
_WINDOW = 4
"""Symbols in a row by which places are compared."""
_CANDIDATES = 12
"""Distances that are tried: those at which most windows come again."""


class Turns(NamedTuple):
    """`times` turns of `length` symbols each, the first of which begins at `start`."""

    start: int
    length: int
    times: int

    @property
    def stop(self) -> int:
        """Where the last turn ends."""
        return self.start + self.length * self.times


def periods(symbols: ndarray, fewest: int) -> list[Turns]:
    """The stretches of at least `fewest` symbols that are equal turns, in order: first the one
    that covers most, then those on both sides of it."""
    found: list[Turns] = []
    waiting = [(0, len(symbols))]
    while waiting:
        first, last = waiting.pop()
        best = _best(symbols[first:last], fewest)
        if best is not None:
            turns = best._replace(start=best.start + first)
            found.append(turns)
            waiting += [(first, turns.start), (turns.stop, last)]
    return sorted(found)


def _best(symbols: ndarray, fewest: int) -> Turns | None:
    """The turns that cover most; of almost equal coverage, the shortest ones."""
    if len(symbols) < max(fewest, MIN_TURNS + _WINDOW):
        return None
    found = [turns for length in _distances(symbols) for turns in _longest_run(symbols, length)]
    covering = [turns for turns in found if turns.times * turns.length >= fewest]
    if not covering:
        return None
    most = max(turns.times * turns.length for turns in covering)
    return min(
        (turns for turns in covering if turns.times * turns.length >= 0.9 * most),
        key=lambda turns: turns.length,
    )


def _distances(symbols: ndarray) -> list[int]:
    """The distances at which most windows of symbols come again."""
    hashes = np.zeros(len(symbols) - _WINDOW + 1, np.uint64)
    for k in range(_WINDOW):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15)
        hashes += symbols[k : k + len(hashes)].astype(np.uint64) + np.uint64(1)
    order = np.argsort(hashes, kind="stable")
    same = hashes[order][1:] == hashes[order][:-1]
    counts = np.bincount(np.diff(order)[same], minlength=1)
    likely = np.argsort(-counts, kind="stable")[:_CANDIDATES]
    return [int(distance) for distance in likely if counts[distance]]


def _longest_run(symbols: ndarray, length: int) -> list[Turns]:
    """The longest stretch in which each symbol comes again after `length`."""
    same = np.concatenate(([False], symbols[length:] == symbols[:-length], [False]))
    edges = np.flatnonzero(same[1:] != same[:-1])
    starts, stops = edges[::2], edges[1::2]
    if not len(starts):
        return []
    k = int(np.argmax(stops - starts))
    times = int(stops[k] - starts[k]) // length + 1
    return [Turns(int(starts[k]), length, times)] if times >= MIN_TURNS else []


__all__ = ["MIN_TURNS", "Turns", "periods"]
