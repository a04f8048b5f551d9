"""examples/lectures/dying_relu.py: which units are silent, which come back, which nets are dead."""

from __future__ import annotations

import numpy as np
import pytest
from lecture_programs import figures_of, program

from tinygrad_kr import nn

pytestmark = pytest.mark.trains

dying = program("dying_relu")
figures = figures_of(dying, rates=(0.03,), epochs=4, seeds=2, draws=4_000)


def test_silent_is_what_is_at_or_below_zero_for_every_image() -> None:
    net = nn.Sequential(
        nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)
    ).double()
    images = np.array([[1.0, 0.0], [2.0, 3.0]])
    state = net.state_dict() | {
        "0.weight": np.array([[1.0, 0], [-1, 0], [0, 0], [0, 1]]),  # sums 1 2, -1 -2, 0 0, -3 0
        "0.bias": np.array([0.0, 0, 0, -3]),
        "2.weight": np.array([[-1.0, 0, 0, 9], [1, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]]),
        "2.bias": np.array([0, -1.5, 0, 1]),
    }
    net.load_state_dict(state)
    expected = [[False, True, True, True], [True, False, True, False]]
    np.testing.assert_array_equal(dying.silent_units(net, images), expected)


def test_returns_are_counted_by_layer() -> None:
    silent = np.zeros((4, 2, 3), bool)
    silent[[0, 2], 0, 1] = True  # silent, back, silent, back
    silent[1:, 1, 0] = True  # silent for good
    assert dying.History(silent, 0.0, 0.0).returned.tolist() == [2, 0]


def test_relu_dies_for_good_in_the_first_layer_and_leaky_relu_does_not(
    figures: dict[str, float],
) -> None:
    relu, leaky = "ReLU, 0.03", "Leaky ReLU, 0.03"
    assert figures[f"{relu}: silent at the start"] < 0.06
    assert figures[f"{relu}: silent at the end"] > 0.35
    assert 0.15 < figures[f"{leaky}: silent at the end"] < figures[f"{relu}: silent at the end"]
    assert figures[f"{relu}: returned in layer 1"] == 0
    assert figures[f"{relu}: returned further on"] > 0
    assert figures[f"{leaky}: returned in layer 1"] > 0
    assert figures[f"{relu}: largest gradient of the silent"] == 0
    assert figures[f"{leaky}: largest gradient of the silent"] > 1e-6
    assert min(figures[f"{name}: accuracy"] for name in (relu, leaky)) > 0.7


def test_a_small_rate_kills_few() -> None:
    silent = dying.train("ReLU", 0.001, 2, 0).silent
    assert silent.shape == (3, 3, 100)
    assert 0.01 < silent[0].mean() < 0.1
    assert silent[-1].mean() < 0.2


def test_dead_xor_nets_are_as_frequent_as_in_the_reference(figures: dict[str, float]) -> None:
    """15% of 2,000: 99% of such samples lie within 0.13 and 0.18."""
    assert 0.13 < figures["XOR, 10 hidden, 5 wide: dead at the start"] < 0.18
    assert figures["XOR, 10 hidden, 3 wide: dead at the start"] > 0.6
    assert figures["XOR, 10 hidden, 10 wide: dead at the start"] < 0.01


def test_the_share_of_dead_xor_nets_is_that_of_ordinary_nets() -> None:
    nets = [dying.make_xor_net(10, seed) for seed in range(400)]
    dead = np.mean([not net(dying.XOR_POINTS.astype(float)).data.any() for net in nets])
    assert dead == pytest.approx(dying.dead_from_start(5, 4_000, 1)[10], abs=0.055)


def test_shares_grow_with_depth() -> None:
    shares = dying.dead_from_start(5, 500, 3)
    assert list(shares) == list(range(1, dying.DEEPEST + 1))
    assert sorted(shares.values()) == list(shares.values())


def test_no_gradient_reaches_a_dead_net(figures: dict[str, float]) -> None:
    assert figures["XOR, a dead net: largest weight gradient"] == 0
    assert figures["XOR, a dead net: largest bias gradient"] < 1e-15


def test_a_dead_net_is_named_before_its_first_step_and_its_remedy_trains() -> None:
    net = dying.a_dead_net(10)
    report = dying.diagnose(net)
    assert report.kinds == {"dead_units"}
    mended = report.findings[0].apply(net)
    assert not dying.diagnose(mended).findings
    assert mended(dying.XOR_POINTS.astype(float)).data.any()
