"""Ranges between Tensors and NumPy scalars: counted in float64, without a gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor

KINDS = [lambda x: x, Tensor, np.array, np.float32]


@pytest.mark.parametrize("kind", KINDS)
def test_linspace_counts_in_float64_whatever_its_ends_are(kind: Any) -> None:
    found = tk.linspace(4.3, kind(0), kind(50) if kind is not np.float32 else 50, dtype=np.float64)
    np.testing.assert_allclose(found.data, np.linspace(4.3, 0, 50), rtol=1e-14)
    assert not found.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_arange_takes_tensors_of_one_number(kind: Any) -> None:
    np.testing.assert_array_equal(
        tk.arange(kind(1.5), kind(4), kind(0.5)).data, [1.5, 2, 2.5, 3, 3.5]
    )
    assert tk.arange(Tensor(3)).tolist() == [0, 1, 2]
    assert tk.arange(Tensor(3)).dtype == np.int64


@pytest.mark.parametrize("function", [tk.arange, lambda x: tk.linspace(0, x, 3)])
def test_ranges_refuse_more_than_one_number(function: Any) -> None:
    for shape in ((1,), (2, 2)):
        with pytest.raises(ValueError, match="expected numbers, got shape"):
            function(tk.ones(*shape))


def test_a_range_between_tensors_is_never_stale() -> None:
    @tk.compile
    def ranges(end: Tensor) -> Tensor:
        return tk.linspace(0, end, 3)

    for end in (1.0, 2.0, 3.0):
        assert ranges(Tensor(end)).tolist() == [0, end / 2, end]


def test_numpys_linspace_of_tensors_counts_in_its_dtype() -> None:
    found: Any = np.linspace(Tensor(4.3), Tensor(np.int64(-3)), 50, dtype=np.float64)
    assert isinstance(found, Tensor) and found.dtype == np.float64
    np.testing.assert_allclose(found.data, np.linspace(float(np.float32(4.3)), -3, 50), atol=1e-14)
    for numbers in (Tensor(-3.0), np.array(-3.0)):
        whole: Any = np.linspace(0, numbers, 5, dtype=np.int64)
        assert whole.tolist() == np.linspace(0, -3, 5, dtype=np.int64).tolist()
