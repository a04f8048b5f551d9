"""examples/lectures/small_change.py: derivatives as small changes, their errors, the chain rule."""

from __future__ import annotations

import numpy as np
import pytest
from lecture_programs import figures_of, program

small_change = program("small_change")
figures = figures_of(small_change)


@pytest.mark.parametrize("name", small_change.EXAMPLES)
def test_backward_finds_the_lectures_derivatives(name: str, figures: dict[str, float]) -> None:
    published = small_change.EXAMPLES[name][2]
    assert figures[f"{name}: backward"] == published
    curved = "x^2" in name
    assert figures[f"{name}: small change"] == pytest.approx(
        published + 0.01 * curved, rel=1e-12, abs=1e-12
    )


def test_half_the_change_halves_the_error_one_way_and_quarters_it_both_ways() -> None:
    slope = small_change.exact_slope(0.7)
    for way, factor in ((small_change.one_way, 2), (small_change.both_ways, 4)):
        large, small = (abs(way(small_change.chain, (0.7,), dx) - slope) for dx in (2e-3, 1e-3))
        assert large / small == pytest.approx(factor, rel=0.01)


def test_the_changes_of_a_chain_multiply(figures: dict[str, float]) -> None:
    product = figures["chain: df/dg times dg/dx, small changes"]
    assert product == pytest.approx(figures["chain: df/dx, backward"], rel=0.005)
    assert figures["chain: error of backward"] < 1e-15


def test_no_change_is_small_enough(figures: dict[str, float]) -> None:
    """Rounding takes over from about the square root of its size, 1e-8, or its cube root."""
    assert 1e-9 < figures["one way: its dx"] < 1e-7
    assert 1e-7 < figures["both ways: its dx"] < 1e-4
    assert 1e-6 < figures["one way, float32: its dx"] < 1e-2
    assert figures["both ways: least error"] < 1e-10 < figures["one way: least error"] < 1e-6
    slope = small_change.exact_slope(small_change.POINT)
    assert figures["one way: error at 1e-17"] == pytest.approx(slope)


def test_the_errors_of_float32_are_those_of_float32() -> None:
    errors = small_change.errors(np.float32, small_change.one_way)
    assert errors.min() > 1e-6
    assert errors.shape == small_change.STEPS.shape


def test_the_explanation_has_the_chain_rules_factors_and_product(
    figures: dict[str, float],
) -> None:
    explanation = small_change.explained()
    (path,) = explanation.paths
    assert [node.name for node in path.nodes] == ["f", "g", "h", "x"]
    assert path.product == pytest.approx(figures["chain: df/dx, backward"], rel=1e-12)
    assert path.factors[1:] == [1.0, 3.0]
