"""What the tests of ONNX files share: ONNX Runtime's outputs, and examples of another size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tinygrad_kr import Tensor, tree


def run_onnx(path: Any, *inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs of a file, by ONNX Runtime."""
    runtime = pytest.importorskip("onnxruntime")
    runtime.set_default_logger_severity(3)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [info.name for info in session.get_inputs()]
    found: list[np.ndarray] = session.run(None, dict(zip(names, inputs, strict=True)))
    return found


def arrays_of(result: Any) -> list[np.ndarray]:
    """The arrays in what a model returns."""
    leaves = tree.flatten(result)[0]
    return [x.detach().numpy() if isinstance(x, Tensor) else np.asarray(x) for x in leaves]


def resized(example: Any, axis: Any, batch: int) -> Any:
    """An example with another size of the batch, and floats that are moved a little."""
    leaves, rebuild = tree.flatten(example)
    found = []
    for x in leaves:
        rows = x if axis is None else np.take(x, np.arange(batch) % x.shape[axis], axis)
        found.append(rows * x.dtype.type(0.99) if x.dtype.kind == "f" else rows)
    return rebuild(found)


def assert_close(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """The same arrays, with the same dtypes and shapes."""
    assert [(x.dtype, x.shape) for x in found] == [(x.dtype, x.shape) for x in expected]
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)
