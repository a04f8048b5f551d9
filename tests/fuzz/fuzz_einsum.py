"""Fuzz target: `einsum` strings. NumPy's values where NumPy takes them; multilinear gradients.

An input is subscripts, `;`, and the shapes of the operands: `ij,jk->ik;23;34`.
"""

from __future__ import annotations

from typing import Any

from driver import fuzz, instrumented

with instrumented():
    import tinygrad_kr as tk

import numpy as np


def operands(texts: list[str]) -> list[Any]:
    shapes = [tuple(int(c) % 4 for c in text if c in "0123456789")[:4] for text in texts[:3]]
    return [
        np.cos(1.0 + k + np.arange(int(np.prod(shape)))).reshape(shape)
        for k, shape in enumerate(shapes)
    ]


def reference(subscripts: str, arrays: list[Any]) -> Any:
    """NumPy's result. Axes of `...` that the result lacks are summed over, as in PyTorch."""
    inputs, arrow, result = subscripts.partition("->")
    if not arrow or "..." not in inputs or "..." in result:
        return np.einsum(subscripts, *arrays)
    found = np.einsum(f"{inputs}->...{result}", *arrays)
    return found.sum(tuple(range(found.ndim - len(result.replace(" ", "")))))


def target(data: bytes) -> None:
    subscripts, *texts = data.decode("utf-8", "replace").split(";")
    arrays = operands(texts)
    if not arrays or "\0" in subscripts or len(set(subscripts)) > 12:  # the sums stay small
        return
    try:
        expected = reference(subscripts, arrays)
    except (ValueError, TypeError, IndexError):
        expected = None
    tensors = [tk.tensor(x, requires_grad=True) for x in arrays]
    try:
        found = tk.einsum(subscripts, *tensors)
    except ValueError as error:
        # NumPy takes 2 for the size of an axis that is 0 elsewhere.
        assert expected is None or not all(x.size for x in arrays), (subscripts, error)
        return
    assert expected is not None, (subscripts, found)
    np.testing.assert_allclose(found.data, expected, rtol=1e-12, atol=1e-12)
    found.sum().backward()
    for k, (t, x) in enumerate(zip(tensors, arrays, strict=True)):
        direction = np.sin(2.0 + np.arange(x.size)).reshape(x.shape)
        changed = [direction if i == k else other for i, other in enumerate(arrays)]
        slope = reference(subscripts, changed).sum()
        gradient = np.zeros_like(x) if t.grad is None else t.grad.data
        assert gradient.shape == x.shape
        np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-10, atol=1e-10)


if __name__ == "__main__":
    fuzz(target, "einsum")
