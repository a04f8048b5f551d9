"""Rounds what optimizers write otherwise, to see which tests hang on the path of one training run.

Another processor, another BLAS or another number of threads sums in another order. After thousands
of steps the last bits decide where a run ends. Here each weight that a step has changed moves by
a last bit up, down or not at all. Which, follows from the weight itself and a seed, so that equal
runs remain equal, and nets side by side remain as if alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.optim import Optimizer

_MIXED = np.uint64(0x9E3779B97F4A7C15)


def moved(x: ndarray, seed: int) -> ndarray:
    """x, each number one unit in its last place away from it, or none."""
    kind = {2: np.uint16, 4: np.uint32, 8: np.uint64}[x.itemsize]
    bits = np.abs(x).view(kind).astype(np.uint64)
    way = ((bits + np.uint64(seed)) * _MIXED >> np.uint64(40)) % np.uint64(3)
    return x * (1 + np.finfo(x.dtype).eps * (way.astype(x.dtype) - 1))


def perturb(seed: int) -> None:
    """Every optimizer of this process rounds its steps otherwise from now on.

    A step that `tk.compile` records or replays is left as it is.
    """
    step = Optimizer.step

    def rounded(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        if tracing() is not None:
            return step(self, *args, **kwargs)
        before = [(p, p.data.copy()) for p in self._parameters()]
        result = step(self, *args, **kwargs)
        for p, old in before:
            new = p.data
            if new.shape == old.shape and new.flags.writeable:
                np.copyto(new, moved(new, seed), where=new != old)
        return result

    Optimizer.step = rounded  # type: ignore[method-assign]
