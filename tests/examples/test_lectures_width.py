"""examples/lectures/width.py: wide nets learn the noise; what keeps them from it."""

from __future__ import annotations

import numpy as np
import pytest
from lecture_programs import figures_of, program

pytestmark = pytest.mark.trains

width = program("width")
figures = figures_of(width, widths=(2, 32), nets=20, steps=3_000)


def test_a_sample_is_a_sine_with_noise() -> None:
    x, y = width.sample(4_000, 0)
    assert x.shape == y.shape == (4_000, 1)
    assert x.dtype == y.dtype == np.float32
    assert (np.diff(x[:, 0]) >= 0).all()
    noise = y - np.sin(np.pi * x)
    assert noise.std() == pytest.approx(0.3, rel=0.05)
    assert not np.array_equal(y, width.sample(4_000, 1)[1])


def test_a_wide_net_fits_better_and_is_farther_from_the_sine(figures: dict[str, float]) -> None:
    narrow, wide = "15 points, 2 wide", "15 points, 32 wide"
    assert figures[f"{wide}: training error"] < 0.6 * figures[f"{narrow}: training error"]
    assert figures[f"{wide}: error"] > 1.3 * figures[f"{narrow}: error"]
    assert figures[f"{wide}: error"] > 5 * figures[f"{wide}: training error"]


def test_three_things_help(figures: dict[str, float]) -> None:
    wide = figures["15 points, 32 wide: error"]
    assert figures["150 points, 32 wide: error"] < 0.2 * wide
    assert figures["15 points, penalty, 32 wide: error"] < 0.5 * wide
    assert figures["15 points, 32 wide: least error on the way"] < 0.5 * wide


def test_the_least_error_is_that_of_a_moment_on_the_way() -> None:
    fit = width.train(8, 15, 3, 200, 0.0, 5)
    assert (fit.least <= fit.error).all()
    assert fit.curves.shape == (3, 200)
    expected = ((fit.curves - np.sin(np.pi * width.GRID[:, 0])) ** 2).mean(axis=1)
    np.testing.assert_allclose(fit.error, expected, rtol=1e-6)


def test_the_nets_of_a_width_do_not_touch_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another second sample changes the second net only."""
    before = width.train(4, 15, 2, 30, 0.001, 0)
    sample = width.sample
    monkeypatch.setattr(width, "sample", lambda points, seed: sample(points, 7 * seed))
    after = width.train(4, 15, 2, 30, 0.001, 0)
    assert after.training[0] == pytest.approx(before.training[0], rel=1e-4)
    assert abs(after.training[1] / before.training[1] - 1) > 0.01
