"""Values that PyTorch's operator database holds and NumPy's conventions leave open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor

INT = tk.tensor([[-5, 1], [2, 9]])
MATRICES = tk.tensor(np.array([[[2.0, 0.0], [0.0, 4.0]], [[1.0, 1.0], [0.0, 1.0]]]))
VECTORS = tk.tensor(np.array([[2.0, 4.0], [3.0, 1.0]]))

VALUES: dict[str, tuple[Callable[[], Any], Any]] = {
    "arange of whole bounds": (lambda: tk.arange(1.0, 5.000001, 2.0, dtype=np.int64), [1, 3]),
    "arange from a fraction": (lambda: tk.arange(-0.9, 2.1, 2.0, dtype=np.int64), [0]),
    "linspace of whole ends": (lambda: tk.linspace(4.3, -3, 3, dtype=np.int64), [4, 0, -3]),
    "gradient, no spacing": (
        lambda: tk.gradient(tk.tensor([0.0, 1.0]), spacing=None)[0],
        [1.0, 1.0],
    ),
    "hardtanh of integers": (lambda: F.hardtanh(INT, -1.5, 2.5), [[-1, 1], [2, 2]]),
    "relu6 of integers": (lambda: F.relu6(INT), [[0, 1], [2, 6]]),
    "masked_fill of booleans": (
        lambda: tk.masked_fill(tk.tensor([True, False]), [False, True], 10),
        [True, True],
    ),
    "masked_fill of integers": (lambda: INT.masked_fill(INT < 0, 1.5), [[1, 1], [2, 9]]),
    "meshgrid of a list": (
        lambda: tk.meshgrid([tk.tensor([1, 2]), tk.tensor([3, 4])])[1],
        [[3, 4], [3, 4]],
    ),
    "meshgrid of one vector": (lambda: tk.meshgrid(tk.tensor([1, 2]))[0], [1, 2]),
    "max_pool1d of integers": (lambda: F.max_pool1d(INT, 2, padding=1), [[-5, 1], [2, 9]]),
    "max_pool1d's indices": (
        lambda: F.max_pool1d(INT, 2, padding=1, return_indices=True)[1],
        [[0, 1], [0, 1]],
    ),
    "avg_pool1d, no stride": (lambda: F.avg_pool1d(tk.tensor([[1.0, 5.0]]), 2, ()), [[3.0]]),
    "repeat_interleave, its size": (
        lambda: tk.repeat_interleave(tk.tensor([1, 2]), tk.tensor([1, 2]), output_size=3),
        [1, 2, 2],
    ),
    "solve of one vector each": (
        lambda: tk.linalg.solve(MATRICES, VECTORS),
        [[1.0, 1.0], [2.0, 1.0]],
    ),
    "mH": (lambda: INT.mH, [[-5, 2], [1, 9]]),
}


@pytest.mark.parametrize("name", VALUES)
def test_value(name: str) -> None:
    call, expected = VALUES[name]
    found, wanted = call(), np.array(expected)
    assert isinstance(found, Tensor)
    assert (found.shape, found.dtype.kind) == (wanted.shape, wanted.dtype.kind)
    np.testing.assert_allclose(found.numpy(), wanted, 1e-6)


def test_least_integer_is_found_beside_the_padding() -> None:
    least = np.iinfo(np.int64).min
    values, indices = F.max_pool1d(tk.tensor([[least, least]]), 2, padding=1, return_indices=True)
    assert values.numpy().tolist() == [[least, least]] and indices.numpy().tolist() == [[0, 1]]


def test_numpy_solves_for_columns() -> None:
    """NumPy reads the same shapes as columns, for all matrices the same."""
    found = np.linalg.solve(MATRICES, VECTORS)
    np.testing.assert_allclose(
        found.numpy(), np.linalg.solve(MATRICES.numpy(), VECTORS.numpy()), 1e-6
    )


def test_gradients_of_one_vector_each() -> None:
    tk.testing.check_grads(tk.linalg.solve, (MATRICES.numpy(), VECTORS.numpy()))


def test_wrong_output_size() -> None:
    with pytest.raises(ValueError, match="as output_size, got 5"):
        tk.repeat_interleave(tk.tensor([1, 2]), 2, output_size=5)
