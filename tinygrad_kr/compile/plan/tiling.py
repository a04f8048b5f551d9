"""How a convolution that is wholly C is divided, and the memory that it takes meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinygrad_kr.compile.ir.program import Value
from tinygrad_kr.compile.plan.steps import (
    Array,
    ConvolutionGroup,
    Division,
    Geometry,
    TiledConvolution,
    panels,
)
from tinygrad_kr.native import cpu, kernels
from tinygrad_kr.ops import window as w
from tinygrad_kr.ops.reduction import sum_

PIECES = 32
"""Into how many parts of its samples a convolution is divided at most."""
PIECE_WORK = 100_000
"""Multiplications, some microseconds, of a piece that is worth another core's taking it."""
SUMS_BYTES = 2**21
"""Memory for the pieces' gradients of the weight."""
BLOCK_BYTES = 2**18
"""Columns, and products, that are there at once: both lie in a core's own cache."""
LEAST_WINDOWS = 128
"""Of which columns are there at once: all filters are read for them, and all sums written."""


def tiled(group: ConvolutionGroup, numbers: Iterator[int]) -> TiledConvolution | None:
    """A convolution wholly in C, where that is better than BLAS."""
    if group.instructions[0].output.dtype != np.float32 or not kernels.has_wide_vectors():
        return None
    divided = division(group.geometry)
    arrays, size = scratch(group, divided)
    memory = Value(next(numbers), (size,), np.dtype(np.float32), (4,))
    return TiledConvolution(
        group.instructions, group.inside, group.geometry, divided, arrays, memory
    )


def division(s: Geometry) -> Division:
    """What suits the caches, whatever the number of cores: a piece has sums of its own, and these
    are added in order, so that results do not depend on who took what."""
    few = max(cpu.MOST_HELPERS + 1, SUMS_BYTES // (4 * s.features * s.outputs))
    work = s.samples * s.n_windows * s.features * s.outputs
    pieces = max(1, min(PIECES, few, work // PIECE_WORK, s.samples))
    windows = max(LEAST_WINDOWS, BLOCK_BYTES // (4 * s.outputs))
    samples = min(_divided(s.samples, pieces), _divided(windows, s.n_windows))
    windows = max(LEAST_WINDOWS, BLOCK_BYTES // (4 * s.features))
    together = samples * s.counts[0]
    lines = _divided(together, _divided(together, _divided(windows, s.counts[1])))
    return Division(pieces, samples, lines)


def scratch(group: ConvolutionGroup, divided: Division) -> tuple[dict[str, Array], int]:
    """The arrays of a convolution, each from a cache line on, and how many float32 they take."""
    s, ops = group.geometry, {instruction.op for instruction in group.instructions}
    pieces, samples, lines = divided
    arrays: dict[str, Array] = {}
    end = 0

    def add(name: str, size: int, each: str = "0", times: int = 1) -> None:
        nonlocal end
        arrays[name] = Array(end, 16 * _divided(size, 16), each)
        end += times * arrays[name].apart

    if w.convolve in ops or w.convolve_transposed in ops:
        depth, across = panels(s, w.convolve in ops)
        add("filters", s.features * s.outputs)
        add("panels", _divided(across, kernels.COLUMNS) * kernels.COLUMNS * depth)
    if w.convolve_weight in ops:
        add("whole", s.features * s.outputs, "piece", pieces)
    if w.convolve not in ops and sum_ in ops:
        add("total", 2 * s.outputs, "piece", pieces)
    beyond = kernels.ROWS - 1
    each = ("tk_self", cpu.helpers() + 1)
    add("columns", (lines * s.counts[1] + beyond) * s.features, *each)
    add("rows", (samples * s.n_windows + beyond) * s.outputs + kernels.COLUMNS, *each)
    return arrays, end


def _divided(a: int, b: int) -> int:
    return -(-a // b)
