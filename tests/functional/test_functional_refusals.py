"""Bags by offsets, statistics of instances, and what functions of nets refuse, with their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor

TABLE = np.arange(12.0).reshape(4, 3)
X = np.random.default_rng(0).standard_normal((2, 3, 4))

REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: F.prelu(X, np.ones(2)), ValueError, r"prelu: .* \(1,\) or \(3,\) for .* got \(2,\)"),
    (lambda: F.glu(X, 1), ValueError, r"glu: expected an even size on axis 1, got shape"),
    (lambda: F.rms_norm(X, 3), ValueError, r"rms_norm: expected input \(\.\.\., 3\), got \(2, 3"),
    (lambda: F.rms_norm(X, 4, np.ones(3)), ValueError, r"rms_norm: expected weight of shape \(4,"),
    (lambda: F.instance_norm(X[..., :1]), ValueError, "instance_norm: .* more than one value per"),
    (lambda: F.instance_norm(X, weight=np.ones(2)), ValueError, "instance_norm: expected weight"),
    (
        lambda: F.instance_norm(X, use_input_stats=False),
        ValueError,
        "instance_norm: expected running_mean and running_var with use_input_stats=False",
    ),
    (lambda: F.dropout1d(X[..., None]), ValueError, r"dropout1d: expected 2 or 3 axes, got \(2,"),
    (lambda: F.dropout2d(X, 1.5), ValueError, r"dropout2d: expected p, .* in \[0, 1\], got 1\.5"),
    (lambda: F.bilinear(X, X, np.ones((2, 4, 3))), ValueError, "bilinear: expected inputs"),
    (lambda: F.pixel_shuffle(X, 2), ValueError, "pixel_shuffle: expected a multiple of 4 channels"),
    (lambda: F.pixel_unshuffle(X, 3), ValueError, "pixel_unshuffle: expected multiples of 3"),
    (lambda: F.pixel_shuffle(X[0], 2), ValueError, r"pixel_shuffle: expected input \(\.\.\., C,"),
    (lambda: F.pixel_shuffle(X, 0), ValueError, "pixel_shuffle: factor: expected an integer"),
    (lambda: F.adaptive_max_pool2d(X, (1, 2, 3)), ValueError, "adaptive_max_pool2d: expected inp"),
    (lambda: F.adaptive_max_pool2d(X, 0), ValueError, "adaptive_max_pool2d: output_size"),
    (lambda: F.conv3d(X, X), ValueError, r"conv3d: expected input \(N, C, D, H, W\) and weight"),
    (lambda: F.max_pool3d(X, 2), ValueError, r"max_pool3d: expected input \(N, C, D, H, W\) or"),
    (
        lambda: F.embedding_bag(np.ones((1, 2)), TABLE),
        TypeError,
        "embedding_bag: indices: expected",
    ),
    (
        lambda: F.embedding_bag(np.array([[4]]), TABLE),
        IndexError,
        r"embedding_bag: index.*\[0, 4\)",
    ),
    (lambda: F.embedding_bag(np.array([1]), TABLE), ValueError, r"\(n,\) with offsets, got \(1,\)"),
    (
        lambda: F.embedding_bag(np.array([1, 2]), TABLE, np.array([1])),
        ValueError,
        r"embedding_bag: expected offsets that rise from 0 to at most 2, got \[1\]",
    ),
    (
        lambda: F.embedding_bag(np.array([[1]]), TABLE, mode="median"),
        ValueError,
        "embedding_bag: expected mode sum, mean, max, got 'median'",
    ),
    (
        lambda: F.embedding_bag(np.array([[1]]), TABLE, per_sample_weights=np.ones((1, 1))),
        ValueError,
        r'embedding_bag: expected mode "sum" and per_sample_weights \(1, 1\), got .mean.',
    ),
    (
        lambda: F.embedding_bag(np.array([[1]]), TABLE, padding_idx=4),
        IndexError,
        "embedding_bag: expected padding_idx in a table of 4 rows, got 4",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED)
def test_it_is_refused_by_name(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_by_offsets_are_those_of_rows(mode: str) -> None:
    indices = np.array([0, 3, 1, 2, 2, 1])
    by_rows = F.embedding_bag(indices.reshape(2, 3), Tensor(TABLE), mode=mode)
    for offsets, last in (([0, 3], False), ([0, 3, 6], True)):
        by_offsets = F.embedding_bag(
            indices, Tensor(TABLE), np.array(offsets), mode=mode, include_last_offset=last
        )
        np.testing.assert_allclose(by_offsets.data, by_rows.data, rtol=1e-12)
    uneven = F.embedding_bag(indices, Tensor(TABLE), np.array([0, 0, 1, 6]), mode=mode).data
    reduced = {"sum": np.sum, "mean": np.mean, "max": np.max}[mode]
    expected = [np.zeros(3), TABLE[0], reduced(TABLE[indices[1:]], axis=0), np.zeros(3)]
    np.testing.assert_allclose(uneven, expected, rtol=1e-12)


def test_no_indices_give_empty_bags() -> None:
    nothing = np.array([], np.int64)
    assert F.embedding_bag(nothing, Tensor(TABLE), np.array([0, 0])).tolist() == [[0] * 3] * 2
    assert F.embedding_bag(nothing.reshape(2, 0), Tensor(TABLE), mode="max").shape == (2, 3)


def test_a_padding_row_follows_the_indices_when_compiled() -> None:
    table = Tensor(TABLE, requires_grad=True)

    def step(indices: Tensor) -> Any:
        table.grad = None
        bags = F.embedding_bag(indices, table, padding_idx=1)
        (bags.sum() + F.embedding(indices, table, 2).sum()).backward()
        return bags.detach(), table.grad

    compiled = tk.compile(step)
    for seed in (0, 0, 0, 1, 2):
        indices = Tensor(np.random.default_rng(seed).integers(0, 4, (3, 2)))
        expected = [x.data.copy() for x in step(indices)]
        for found, wanted in zip(compiled(indices), expected, strict=True):
            np.testing.assert_allclose(found.data, wanted, rtol=1e-12)
    assert compiled.explain() == "every call is compiled"


def test_statistics_of_instances_are_the_mean_over_the_batch() -> None:
    mean, var = tk.zeros(3, dtype=np.float64), tk.ones(3, dtype=np.float64)
    F.instance_norm(Tensor(X), mean, var, momentum=0.25)
    np.testing.assert_allclose(mean.data, 0.25 * X.mean((0, 2)), rtol=1e-12)
    np.testing.assert_allclose(var.data, 0.75 + 0.25 * X.var(2, ddof=1).mean(0), rtol=1e-12)
