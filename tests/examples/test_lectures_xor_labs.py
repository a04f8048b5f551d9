"""examples/lectures/xor_labs.py: XOR by one unit, by 2-2-1, and by a wide and deep net."""

from __future__ import annotations

import numpy as np
import pytest
from lecture_programs import program

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim

pytestmark = pytest.mark.trains

xor_labs = program("xor_labs")


@pytest.mark.slow
def test_rates_over_starts() -> None:
    """The published 0.5, 1.0 and 1.0, and how often; LECTURES.md has 70% of 100 for 2-2-1."""
    figures = xor_labs.run(starts=30, steps=6_001, rate=0.2)
    assert figures["lab 09-1 best accuracy"] == 0.5
    assert figures["lab 09-1 stuck"] == 1
    assert figures["lab 09-1 median cost"] == pytest.approx(np.log(2), abs=1e-6)
    assert figures["lab 09-2 best accuracy"] == 1
    assert 0.35 <= figures["lab 09-2 solved"] <= 0.9
    assert figures["lab 09-3 solved"] == 1
    assert figures["lab 09-3 median cost"] < 0.01


def test_solved_is_all_four_and_stuck_is_two_or_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = np.array([1, 0.75, 0.5, 0.25, 0])
    monkeypatch.setattr(xor_labs, "accuracies", lambda nets: shares)
    figures = xor_labs.run(starts=5, steps=2)
    assert (figures["lab 09-2 solved"], figures["lab 09-2 stuck"]) == (0.2, 0.6)


def test_starts_side_by_side_are_as_if_trained_alone() -> None:
    tk.manual_seed(3)
    nets = xor_labs.make_nets((2, 3, 1), 4)
    alone = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 1))
    for mine, theirs in zip(alone[::2], nets[::2], strict=True):
        mine.load_state_dict(
            {"weight": theirs.weight.data[2].T.copy(), "bias": theirs.bias.data[2, 0].copy()}
        )
    costs = [cost[2] for cost in xor_labs.train(nets, 4, 50, 0.5)]
    optimizer = optim.SGD(alone.parameters(), lr=0.5)
    for expected in costs:
        loss = F.binary_cross_entropy_with_logits(alone(xor_labs.POINTS), xor_labs.ANSWERS)
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_an_output_of_one_half_give_or_take_a_rounding_error_says_no() -> None:
    outputs = np.array([[-9, 9, 9, -9], [1e-7, -1e-7, 1e-7, 1e-7], [9, -9, -9, 9], [-9, 9, 9, 9]])
    logits = Tensor(outputs[..., None])
    np.testing.assert_array_equal(xor_labs.accuracies(lambda _: logits), [1, 0.5, 0, 0.75])
