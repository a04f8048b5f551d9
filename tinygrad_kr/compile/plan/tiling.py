"""Tiling: the division of a convolution among cores and caches, and its scratch memory."""

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

MAX_PIECES = 32
"""Most parts into which the samples of a convolution are divided."""
MIN_PIECE_WORK = 100_000
"""Minimum work per piece that justifies handing it to another core; multiply-adds."""
MAX_SUMS_BYTES = 2**21
"""Most memory for the pieces' gradients of the weight."""
BLOCK_BYTES = 2**18
"""Size of a block of columns, and of one of products: both fit a core's own cache."""
MIN_WINDOWS = 128
"""Minimum windows per block, to amortise reading the filters and writing the sums."""


def tiled(group: ConvolutionGroup, numbers: Iterator[int]) -> TiledConvolution:
    """A convolution in C."""
    divided = division(group.geometry, group.dtype.itemsize)
    arrays, size = scratch(group, divided)
    memory = Value(next(numbers), (size,), np.dtype(np.float32), (4,))
    return TiledConvolution(
        group.instructions, group.inside, group.geometry, divided, arrays, memory
    )


def division(s: Geometry, itemsize: int = 4) -> Division:
    """The division that suits the caches, whatever the number of cores.

    Each piece has sums of its own, which are added in order. So results do not depend on which
    core took which piece.
    """
    few = max(cpu.MOST_HELPERS + 1, MAX_SUMS_BYTES // (itemsize * s.features * s.outputs))
    work = s.samples * s.n_windows * s.features * s.outputs
    pieces = max(1, min(MAX_PIECES, few, work // MIN_PIECE_WORK, s.samples))
    windows = max(MIN_WINDOWS, BLOCK_BYTES // (itemsize * s.outputs))
    samples = min(_divided(s.samples, pieces), _divided(windows, s.n_windows))
    windows = max(MIN_WINDOWS, BLOCK_BYTES // (itemsize * s.features))
    together = samples * s.counts[0]
    lines = _divided(together, _divided(together, _divided(windows, s.counts[1])))
    return Division(pieces, samples, lines)


def scratch(group: ConvolutionGroup, divided: Division) -> tuple[dict[str, Array], int]:
    """The arrays of a convolution, each from a cache line on, and how many float32 they take."""
    s, ops = group.geometry, {instruction.op for instruction in group.instructions}
    pieces, samples, lines = divided
    itemsize = group.dtype.itemsize
    tile_rows, tile_columns = kernels.tile(itemsize)
    arrays: dict[str, Array] = {}
    end = 0

    def add(name: str, size: int, each: str = "0", times: int = 1, width: int = itemsize) -> None:
        nonlocal end
        arrays[name] = Array(end, 16 * _divided(size * width, 64), each)
        end += times * arrays[name].apart

    if w.convolve in ops or w.convolve_transposed in ops:
        depth, across = panels(s, w.convolve in ops)
        add("filters", s.features * s.outputs)
        add("panels", _divided(across, tile_columns) * tile_columns * depth)
    if w.convolve_weight in ops:
        add("whole", s.features * s.outputs, "piece", pieces)
    if w.convolve not in ops and sum_ in ops:
        add("total", s.outputs, "piece", pieces, 8)
    beyond = tile_rows - 1
    each = ("tk_self", cpu.helpers() + 1)
    add("columns", (lines * s.counts[1] + beyond) * s.features, *each)
    add("rows", (samples * s.n_windows + beyond) * s.outputs + tile_columns, *each)
    return arrays, end


def _divided(a: int, b: int) -> int:
    return -(-a // b)
