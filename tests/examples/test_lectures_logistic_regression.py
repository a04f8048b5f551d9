"""examples/lectures/logistic_regression.py: labs 05-1 and 05-2."""

from __future__ import annotations

import numpy as np
import pytest
from lecture_programs import needs_tables, program

import tinygrad_kr as tk
from tinygrad_kr import Tensor

pytestmark = pytest.mark.trains

logistic_regression = program("logistic_regression")
Starts = program("common").Starts


@needs_tables
def test_published_figures_are_ordinary_draws() -> None:
    """A tenth of the steps at ten times the rate goes the same way; the lab's start is not known.

    Bounds: the lowest and the highest of 20 starts, widened for the accuracy by 0.005, that is
    four of the 759 patients.
    """
    figures = logistic_regression.run(steps=1_001, rate=0.1)
    published = logistic_regression.PUBLISHED
    assert figures["lab 05-1 accuracy, lowest"] == 1 == published["lab 05-1 accuracy"]
    for lab in ("05-1", "05-2"):
        cost = published[f"lab {lab} cost"]
        assert figures[f"lab {lab} cost, lowest"] < cost < figures[f"lab {lab} cost, highest"]
    low, high = (figures[f"lab 05-2 accuracy, {which}"] for which in ("lowest", "highest"))
    assert low - 0.005 < published["lab 05-2 accuracy"] < high + 0.005
    assert high - low < 0.03
    assert figures["lab 05-2 lowest cost there is"] < figures["lab 05-2 cost, lowest"]
    assert figures["lab 05-2 accuracy of always yes"] == pytest.approx(496 / 759)


def test_a_start_follows_its_own_gradient() -> None:
    """The gradient of the mean cross-entropy is X^T (sigmoid(z) - y) / n."""
    x, y = logistic_regression.SIX_POINTS, logistic_regression.SIX_ANSWERS
    tk.manual_seed(1)
    net = Starts(5, 2, 1)
    w, b = net.weight.data[4].astype(float), net.bias.data[4].astype(float)
    history = logistic_regression.train(net, x, y, 30, 0.3)
    for cost in history[:, 4]:
        p = 1 / (1 + np.exp(-(x.numpy() @ w + b)))
        loss = -np.mean(y.numpy() * np.log(p) + (1 - y.numpy()) * np.log(1 - p))
        assert cost == pytest.approx(loss, rel=1e-5)
        w, b = w - 0.3 * x.numpy().T @ (p - y.numpy()) / 6, b - 0.3 * (p - y.numpy()).mean()
    right = logistic_regression.accuracies(net, x, y)
    assert right.shape == (5,)
    logits = x.numpy() @ net.weight.data[2] + net.bias.data[2]
    assert right[2] == ((logits > 0) == (y.numpy() > 0.5)).mean()
    assert logistic_regression.accuracies(net, x, Tensor(1 - y.numpy()))[2] == pytest.approx(
        1 - right[2]
    )
