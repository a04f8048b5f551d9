"""Fuzz target: a net's `load_state_dict` of an `.npz` file. All is loaded, or nothing."""

from __future__ import annotations

from driver import fuzz, instrumented, scratch

with instrumented():
    from tinygrad_kr import nn

import numpy as np

NET = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
BEFORE = {name: np.array(x) for name, x in NET.state_dict().items()}


def target(data: bytes) -> None:
    path = scratch("npz")
    path.write_bytes(data)
    NET.load_state_dict(BEFORE)
    with path.open("rb") as stream:
        try:
            file = np.load(stream, allow_pickle=False)
        except Exception:
            return  # NumPy's own refusal
        try:
            NET.load_state_dict(file)
        except (RuntimeError, TypeError):
            for name, x in NET.state_dict().items():
                np.testing.assert_array_equal(x, BEFORE[name])
    for name, x in NET.state_dict().items():
        assert (x.shape, x.dtype) == (BEFORE[name].shape, BEFORE[name].dtype)


if __name__ == "__main__":
    fuzz(target, "npz")
