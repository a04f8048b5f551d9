"""examples/lectures/softmax_regression.py: labs 06-1 and 06-2."""

from __future__ import annotations

import numpy as np
import pytest
from lecture_programs import made_up_tables as made_up_tables
from lecture_programs import needs_tables, program

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor

pytestmark = pytest.mark.trains

softmax_regression = program("softmax_regression")
Starts = program("common").Starts


@needs_tables
def test_published_figures_are_ordinary_draws() -> None:
    """The lab's start is not printed: its cost must lie in the range of 40 others."""
    figures = softmax_regression.run(starts=40)
    published = softmax_regression.PUBLISHED["lab 06-1 cost"]
    low, high = (figures[f"lab 06-1 cost, {which}"] for which in ("lowest", "highest"))
    assert 0.13 < low < published < high < 0.19
    assert figures["lab 06-1 answers as the lab's, mean"] == 1
    assert figures["lab 06-2 accuracy, lowest"] == 1
    assert figures["lab 06-2 cost, mean"] == pytest.approx(0.054, abs=0.004)
    assert 0.9 < figures["lab 06-2 accuracy on animals left out"] < 1


def test_the_confusion_table_counts_the_animals(made_up_tables: dict[str, np.ndarray]) -> None:
    pictured: dict[str, np.ndarray] = {}
    softmax_regression.run(starts=4, steps=200, pictured=pictured)
    kinds = made_up_tables["data-04-zoo.csv"][:, -1].astype(int)
    confusion = pictured["confusion"]
    np.testing.assert_array_equal(confusion.sum(axis=1), np.bincount(kinds))
    assert confusion[0, 1] >= 1
    assert np.trace(confusion) > 20  # 7 by chance


def test_costs_are_the_cross_entropy_of_the_labels() -> None:
    tk.manual_seed(0)
    x, labels = softmax_regression.EIGHT_POINTS, softmax_regression.EIGHT_LABELS
    net = Starts(3, 4, 3)
    logits = net(x).detach()
    first = softmax_regression.train(net, x, labels, 1, 0.1)[0]
    expected = [F.cross_entropy(logits[start], labels).item() for start in range(3)]
    np.testing.assert_allclose(first, expected, rtol=1e-6)
    with tk.no_grad():
        net.weight.copy_(Tensor(np.zeros((3, 4, 3), np.float32)))
        net.bias.copy_(Tensor([[[0.0, 1.0, 0.0]], [[2.0, 1.0, 0.0]], [[0.0, 1.0, 5.0]]]))
    np.testing.assert_array_equal(softmax_regression.answers(net, x)[:, 0], [1, 0, 2])
