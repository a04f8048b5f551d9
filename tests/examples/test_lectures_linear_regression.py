"""examples/lectures/linear_regression.py: labs 04-1 and 04-3 on the table of scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lecture_programs import made_up_tables as made_up_tables
from lecture_programs import needs_tables, program

import tinygrad_kr as tk
from tinygrad_kr import Tensor, data

pytestmark = pytest.mark.trains

linear_regression = program("linear_regression")


@needs_tables
def test_published_costs_are_ordinary_draws_far_from_the_best_plane() -> None:
    """The lab's start is not printed, so its cost is held against those of 60 other starts.

    Bounds: the range of the 60, a draw from the same distribution misses it once in 30 times.
    """
    figures = linear_regression.run(starts=60)
    for lab in ("04-1", "04-3"):
        published = linear_regression.PUBLISHED[f"lab {lab} cost"]
        assert figures[f"lab {lab} cost, lowest"] < published < figures[f"lab {lab} cost, highest"]
    assert figures["lab 04-3 cost of the best plane"] == pytest.approx(5.73781, abs=1e-5)
    assert figures["lab 04-3 cost, lowest"] > figures["lab 04-3 cost of the best plane"]
    assert 0.05 < figures["lab 04-3 share of starts that end as high as the lab's"] < 0.25
    assert figures["lab 04-3 cost after scaling, highest"] == pytest.approx(5.73781, abs=1e-4)
    assert figures["lab 04-3 steps after scaling"] < 250


def test_scaled_training_finds_the_best_plane(
    made_up_tables: dict[str, np.ndarray], tmp_path: Path
) -> None:
    made_up_scores = made_up_tables["data-01-test-score.csv"]
    figures = linear_regression.run(starts=5, steps=400, out=tmp_path / "predictions.csv")
    tests = np.column_stack([made_up_scores[:, :3], np.ones(25)])
    best = tests @ np.linalg.pinv(tests) @ made_up_scores[:, 3]
    least = ((best - made_up_scores[:, 3]) ** 2).mean()
    assert figures["lab 04-3 cost of the best plane"] == pytest.approx(least, rel=1e-9)
    assert figures["lab 04-3 cost after scaling, highest"] == pytest.approx(least, rel=1e-3)
    assert figures["lab 04-3 cost, lowest"] > 2 * least
    written = data.read_csv(tmp_path / "predictions.csv")
    assert written.names == ("test 1", "test 2", "test 3", "final", "predicted")
    np.testing.assert_array_equal(written.values[:, :4], made_up_scores.astype(np.float32))
    np.testing.assert_allclose(written.values[:, 4], best, atol=0.2)


def test_one_start_of_many_is_gradient_descent_by_hand() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(7, 3)).astype(np.float32), rng.normal(size=(7, 1)).astype(np.float32)
    tk.manual_seed(5)
    net = program("common").Starts(4, 3, 1)
    w, b = net.weight.data[3].astype(float), net.bias.data[3].astype(float)
    history = linear_regression.train(Tensor(x), Tensor(y), net, 20, 0.05)
    for cost in history[:, 3]:
        error = x @ w + b - y
        assert cost == pytest.approx((error**2).mean(), rel=1e-5)
        w, b = w - 0.05 * 2 * x.T @ error / 7, b - 0.05 * 2 * error.mean()
    np.testing.assert_allclose(net.weight.data[3], w, rtol=1e-5)


def test_first_within() -> None:
    history = np.array([[9.0, 9.0], [1.0, 5.0], [0.5, 0.9], [0.1, 0.2]])
    assert linear_regression.first_within(history, 1.0) == 2
    assert linear_regression.first_within(history, 0.15) == np.inf


def test_without_the_table_the_error_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYGRAD_KR_DATA", str(tmp_path))
    with pytest.raises(data.DatasetNotFoundError, match=r"test-score\.csv.*TINYGRAD_KR_DATA"):
        linear_regression.run()
