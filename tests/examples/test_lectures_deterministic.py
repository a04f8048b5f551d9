"""examples/lectures/deterministic.py: the labs without chance, to the last printed digit."""

from __future__ import annotations

import numpy as np
import pytest
from lecture_programs import figures_of, program

from tinygrad_kr import Tensor

pytestmark = [pytest.mark.trains, pytest.mark.exact]

deterministic = program("deterministic")
SAME = [[12, 16, 9], [24, 28, 15], [15, 17, 9]]
figures = figures_of(deterministic)


@pytest.mark.parametrize("name", deterministic.PUBLISHED)
def test_every_published_digit(name: str, figures: dict[str, float]) -> None:
    published = deterministic.PUBLISHED[name]
    ours = deterministic.in_the_digits_of(published, figures[name])
    assert float(ours) == float(published)
    assert len(ours.replace("-", "")) >= len(published.replace("-", ""))


def test_what_the_lectures_checklist_names_is_published() -> None:
    """LECTURES.md, and that the comparison above is not of rounded numbers."""
    published = deterministic.PUBLISHED
    assert published["lab 02-3 W"] == "-0.9999969"
    assert published["lab 02-3 b"] == "0.9999908"
    steps = [published[f"lab 03-3 W at step {step}"] for step in range(3)]
    assert steps == ["5.0", "1.26667", "1.01778"]
    assert published["lab 03-X gradient at step 100"].startswith("0.0020739")
    assert deterministic.in_the_digits_of("0.0020739238", 0.00207392379) == "0.0020739238"
    assert deterministic.in_the_digits_of("5.0", 5.04) == "5.0"
    assert deterministic.in_the_digits_of("5.0", 5.06) == "5.1"


def test_path_of_lab_03_x_line_by_line() -> None:
    """(gradient by hand, by autodiff, W) before each step, as the lab's notebook prints them."""
    printed = {
        0: ("37.333332", "37.333336", "5.0"), 1: ("33.848888", "33.848888", "4.6266665"),
        2: ("30.689657", "30.689657", "4.2881775"), 3: ("27.825287", "27.825287", "3.9812808"),
        4: ("25.228262", "25.228264", "3.703028"), 5: ("22.873621", "22.873623", "3.4507453"),
        48: ("0.33851996", "0.33851999", "1.03627"),
        75: ("0.024025917", "0.024025917", "1.0025742"),
        90: ("0.0055252709", "0.0055252714", "1.000592"),
        98: ("0.0025234222", "0.0025234222", "1.0002704"),
    }  # fmt: skip
    path = deterministic.descent(5.0, 0.01, 101)
    for step, (by_hand, by_autodiff, w) in printed.items():
        assert np.float32(path[step][2]) == np.float32(by_hand)
        assert np.float32(path[step][1]) == np.float32(by_autodiff)
        assert np.float32(path[step][0]) == np.float32(w)


def test_the_other_start_of_lab_03_3() -> None:
    path = [step[0] for step in deterministic.descent(-3.0, 0.1, 7)]
    rounded = [float(f"{w:.6g}") for w in path]
    assert rounded == [-3.0, 0.733334, 0.982222, 0.998815, 0.999921, 0.999995, 1.0]


def test_convolutions_and_pooling_of_the_cnn_basics(figures: dict[str, float]) -> None:
    windows = deterministic.windows()
    np.testing.assert_array_equal(windows["convolution, VALID"], [[12, 16], [24, 28]])
    np.testing.assert_array_equal(windows["convolution, SAME"], SAME)
    three = np.array(SAME)
    np.testing.assert_array_equal(
        windows["convolution, SAME, three filters"], [three, 10 * three, -three]
    )
    assert windows["max pooling, VALID"] == 4
    np.testing.assert_array_equal(windows["max pooling, SAME"], [[4, 3], [2, 1]])
    assert [[figures[f"CNN basics {i} {j}"] for j in range(3)] for i in range(3)] == SAME
    assert all(array.dtype == np.float32 for array in windows.values())


def test_same_pooling_does_not_pad_with_zeros() -> None:
    negative = Tensor([[[[-4.0, -3.0], [-2.0, -1.0]]]])
    pooled = deterministic.pool_same(negative).numpy()[0, 0]
    np.testing.assert_array_equal(pooled, [[-1, -1], [-1, -1]])
