"""One piece of memory for all temporaries: those whose lifetimes do not overlap share memory."""

from __future__ import annotations

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.ir.program import Value
from tinygrad_kr.compile.plan.plan import Plan
from tinygrad_kr.ops.writes import address

LINE = 64
"""Bytes of a cache line, at which the arena begins."""


class Arena:
    """One array for the values that no call leaves behind."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.pieces, self.starts, self.nbytes = (
            plan.arena.pieces, plan.arena.starts, plan.arena.nbytes
        )  # fmt: skip
        raw = np.empty(self.nbytes + LINE, np.uint8)
        start = -address(raw) % LINE
        self.memory = raw[start : start + self.nbytes]

    def array(self, value: Value) -> ndarray:
        """The piece of a value that lies in the arena, as an array."""
        view = self.plan.views[value]
        strides = tuple(step * value.dtype.itemsize for step in view.strides)
        return np.ndarray(value.shape, value.dtype, self.memory, self.starts[view.root], strides)
