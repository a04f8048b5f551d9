"""examples/lectures/linear_collapse.py: a stack of linear layers is one, whatever its depth."""

from __future__ import annotations

import numpy as np
import pytest
from lecture_programs import figures_of, program

from tinygrad_kr import nn

pytestmark = pytest.mark.trains

linear_collapse = program("linear_collapse")


def with_biases(depth: int) -> nn.Sequential:
    net: nn.Sequential = linear_collapse.make_net(depth, depth)
    for layer in net:
        nn.init.normal_(layer.bias)
    return net


figures = figures_of(linear_collapse, steps=700)


@pytest.mark.parametrize("depth", [1, 2, 10, 100])
def test_a_stack_is_the_layer_that_it_collapses_to(depth: int) -> None:
    net = with_biases(depth)
    assert len(net) == depth
    one = linear_collapse.collapsed(net)
    points = np.random.default_rng(0).uniform(-3, 3, (50, 2))
    by_hand = points
    for layer in net:
        by_hand = by_hand @ layer.weight.data.T + layer.bias.data
    assert np.ptp(by_hand) > 1
    np.testing.assert_allclose(
        linear_collapse.logits_of(net, points), by_hand[:, 0], rtol=0, atol=1e-11
    )
    np.testing.assert_allclose(
        linear_collapse.logits_of(one, points), by_hand[:, 0], rtol=0, atol=1e-11
    )


def test_the_slope_is_the_product_of_all_weights_everywhere() -> None:
    net = with_biases(10)
    points = np.random.default_rng(0).uniform(-3, 3, (50, 2))
    product = np.linalg.multi_dot([layer.weight.data for layer in reversed(list(net))])
    expected = np.broadcast_to(product, (50, 2))
    np.testing.assert_allclose(linear_collapse.slopes_of(net, points), expected, rtol=1e-12)


def test_only_the_tanh_net_has_another_slope_elsewhere(figures: dict[str, float]) -> None:
    spreads = {
        name: figures[f"{name}: spread of the slope"]
        for name in map(linear_collapse.name_of, (1, 10, 100))
    }
    assert max(spreads.values()) < 1e-12
    assert figures[f"{linear_collapse.TANH}: spread of the slope"] > 0.1


def test_1_is_10_is_100_layers(figures: dict[str, float]) -> None:
    for depth in (1, 10, 100):
        assert figures[f"{linear_collapse.name_of(depth)}: difference to one layer"] < 1e-12


def least_logistic_loss(points: np.ndarray, answers: np.ndarray) -> float:
    """By Newton's method, which knows nothing of layers."""
    X, w = np.column_stack([points, np.ones(len(points))]), np.zeros(3)
    for _ in range(20):
        p = 1 / (1 + np.exp(-X @ w))
        w -= np.linalg.solve((X.T * (p * (1 - p))) @ X, X.T @ (p - answers))
    return float(-np.mean(np.log(np.where(answers > 0.5, p, 1 - p))))


def test_every_linear_net_ends_at_the_best_lines_loss_and_tanh_below(
    figures: dict[str, float],
) -> None:
    points, moon = linear_collapse.two_moons(200, 0)
    floor = least_logistic_loss(points, moon[:, 0])
    for depth in (1, 10, 100):
        name = linear_collapse.name_of(depth)
        assert figures[f"{name}: loss"] == pytest.approx(floor, abs=1e-6)
        assert figures[f"{name}: accuracy"] == 0.905
    assert figures[f"{linear_collapse.TANH}: loss"] < 0.01
    assert figures[f"{linear_collapse.TANH}: accuracy"] == 1
