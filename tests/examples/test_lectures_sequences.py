"""examples/lectures/sequences.py: losses of sequences, lengths, and prices nobody can foretell."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from lecture_programs import program

pytestmark = pytest.mark.trains

sequences = program("sequences")


@pytest.fixture(scope="module")
def results() -> tuple[dict[str, float], dict[str, Any]]:
    keep: dict[str, Any] = {}
    return sequences.run(walks=3, steps=200, keep=keep), keep


@pytest.fixture(scope="module")
def without_training() -> tuple[dict[str, float], dict[str, Any]]:
    """What no price has a part in."""
    keep: dict[str, Any] = {}
    return sequences.run(walks=1, steps=2, keep=keep), keep


def test_the_lab_s_losses_to_the_last_printed_digit(without_training: Any) -> None:
    figures, _ = without_training
    for name, published in sequences.PUBLISHED.items():
        assert f"{figures[name]:.6f}" == f"{published:.6f}"
    assert figures["sequence loss of log 0.9"] == pytest.approx(-math.log(0.9), rel=1e-6)


def test_outputs_end_where_the_words_do(without_training: Any) -> None:
    figures, keep = without_training
    ends = np.arange(5) < np.array([[5], [3], [4]])
    np.testing.assert_array_equal(keep["norms"] > 0, ends)
    assert figures["lengths: last states apart"] < 1e-6


def test_made_up_prices_are_possible_prices() -> None:
    table = sequences.made_up_prices("walk", 400, 3)
    opened, high, low, volume, close = table.T
    assert table.shape == (400, 5)
    assert (high >= np.maximum(opened, close)).all() and (low <= np.minimum(opened, close)).all()
    assert (low > 0).all() and (volume > 0).all()
    returns = np.diff(np.log(close))
    assert returns.std() == pytest.approx(0.015, rel=0.1)
    assert abs(np.corrcoef(returns[1:], returns[:-1])[0, 1]) < 0.15
    np.testing.assert_array_equal(table, sequences.made_up_prices("walk", 400, 3))
    wave = np.log(sequences.made_up_prices("wave", 400, 3)[:, 4])
    steps = np.diff(wave)
    assert np.corrcoef(steps[20:], steps[:-20])[0, 1] > 0.9


def test_scaling_takes_the_bounds_of_the_days_that_are_known() -> None:
    table = np.array([[1.0, 10.0], [3.0, 30.0], [5.0, 20.0]])
    np.testing.assert_allclose(sequences.scaled(table, table).max(axis=0), [1, 1], rtol=1e-6)
    known = sequences.scaled(table, table[:2])
    np.testing.assert_allclose(known, [[0, 0], [1, 1], [2, 0.5]], rtol=1e-6)


def test_truth_and_naive_guess_are_the_right_days() -> None:
    table = sequences.made_up_prices("walk", 60, 0)
    share = sequences.foretell(table, 1, 0, honest=True)
    train = int((60 - 7) * 0.7)
    np.testing.assert_array_equal(share.truth, table[7 + train :, 4])
    np.testing.assert_array_equal(share.today[1:], share.truth[:-1])
    assert share.today[0] == table[6 + train, 4]
    assert share.predicted.shape == share.truth.shape


def test_the_last_window_reads_no_day_after_its_own() -> None:
    """What is said of a day does not change when that day and those after it do."""
    table = sequences.made_up_prices("walk", 80, 1)
    changed = table.copy()
    changed[-3:] *= 0.9
    one = sequences.foretell(table, 3, 0, honest=True)
    other = sequences.foretell(changed, 3, 0, honest=True)
    np.testing.assert_array_equal(one.predicted[:-2], other.predicted[:-2])
    assert (one.predicted[-2:] != other.predicted[-2:]).all()


@pytest.mark.slow
def test_a_random_walk_is_not_foretold_and_a_wave_is(results: Any) -> None:
    figures, keep = results
    for scaling in ("lab's scaling", "honest scaling"):
        assert figures[f"walk, {scaling}: RMSE over naive RMSE"] > 1.02
        assert figures[f"walk, {scaling}: beats naive"] < 0.4
        assert figures[f"walk, {scaling}: nearer to today than to tomorrow"] > 0.6
        assert figures[f"wave, {scaling}: RMSE over naive RMSE"] < 0.8
        assert figures[f"wave, {scaling}: beats naive"] > 0.6
    first = keep["walk, lab's scaling"][0]
    assert first.naive_error == pytest.approx(0.015 * first.truth.mean(), rel=0.25)
