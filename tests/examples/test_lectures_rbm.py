"""examples/lectures/rbm.py: a machine that reconstructs, repairs and recognises digits."""

from __future__ import annotations

import numpy as np
import pytest
from lecture_programs import figures_of, program

from tinygrad_kr import nn

pytestmark = pytest.mark.trains

rbm = program("rbm")
FEW = {"hidden": 5, "rates": (0.1,)}
figures = figures_of(rbm, "digits", rates=(0.1,) * 15 + (0.02,) * 3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", rbm.CHAINS)
def test_both_machines_reconstruct_recognise_and_dream_of_digits(
    figures: dict[str, float], kind: str
) -> None:
    assert figures[f"{kind} reconstruction error"] < 0.04
    assert figures[f"{kind} digits told from their shuffled pixels"] > 0.99
    assert figures[f"{kind} ink in samples"] == pytest.approx(figures["ink in digits"], abs=0.03)
    assert figures[f"{kind} blank samples"] == figures["blank digits"] == 0


def test_a_machine_that_has_learned_nothing_does_none_of_it() -> None:
    _, test_images = rbm.load("digits")
    nothing = rbm.Machine(nn.RBM(64, 20), [], np.array([[0.0] * 64] * 3 + [[0.02] * 64]))
    figures = rbm.figures_of(nothing, test_images)
    assert figures["reconstruction error"] == pytest.approx(0.18, abs=0.005)
    assert figures["digits told from their shuffled pixels"] < 0.8
    assert figures["ink in samples"] == pytest.approx(0.005)
    assert figures["blank samples"] == 0.75


def test_the_machines_differ_in_their_chains_alone() -> None:
    images, test_images = rbm.load("digits")
    recipe = {"hidden": 5, "batch": 50}
    starts = {kind: rbm.learn(images, test_images, kind, 1, rates=(), **recipe).rbm
              for kind in rbm.CHAINS}  # fmt: skip
    plain, persistent = starts["CD-1"].state_dict(), starts["persistent"].state_dict()
    assert persistent.pop("chains").shape == (100, 64)
    assert plain.keys() == persistent.keys()
    for key, value in plain.items():
        np.testing.assert_array_equal(value, persistent[key])


def test_one_seed_gives_one_result() -> None:
    assert rbm.run("digits", 3, **FEW) == rbm.run("digits", 3, **FEW)
    assert rbm.run("digits", 3, **FEW) != rbm.run("digits", 4, **FEW)


def test_pictures_are_put_in_their_places() -> None:
    squares = np.arange(1, 7)[:, None] * np.ones(256)
    wall = rbm.tiled(squares, 3)
    assert wall.shape == (36, 54)
    for row, column in np.ndindex(2, 3):
        tile = wall[18 * row : 18 * row + 18, 18 * column : 18 * column + 18]
        np.testing.assert_array_equal(tile[1:-1, 1:-1], 3 * row + column + 1)
        assert np.isnan(tile).sum() == 18**2 - 16**2
