"""examples/lectures/by_hand.py: the lecture's formulas are autodiff's numbers, and right."""

from __future__ import annotations

import numpy as np
import pytest
from lecture_programs import program

from tinygrad_kr import Tensor, nn

pytestmark = pytest.mark.trains

XOR = {"00": 0.0112, "01": 0.9949, "10": 0.9949, "11": 0.0244}


by_hand = program("by_hand")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("hidden", "scale"), [(1, 1.0), (4, 1.0), (7, 3.0), (50, 0.3)])
def test_gradients_by_hand_are_those_of_autodiff(hidden: int, scale: float, seed: int) -> None:
    X, Y = by_hand.petals(40 + seed, seed)
    p = {name: scale * (array + 0.1) for name, array in by_hand.start(hidden, seed).items()}
    tensors = {name: Tensor(array, requires_grad=True) for name, array in p.items()}
    loss, theirs = by_hand.gradients_by_autodiff(tensors, Tensor(X), Tensor(Y))
    mine = by_hand.gradients_by_hand(p, X, Y)
    assert mine.keys() == theirs.keys() == {"W1", "b1", "W2", "b2", "Z2"}
    for name, array in mine.items():
        assert array.dtype == theirs[name].dtype == np.float64
        assert array.shape == theirs[name].shape
        assert np.abs(array).max() > 1e-4
        np.testing.assert_allclose(array, theirs[name], rtol=0, atol=1e-12)
    assert by_hand.loss_by_hand(by_hand.forward_by_hand(p, X)[1], Y) == pytest.approx(loss)


@pytest.mark.parametrize("name", ["W1", "b1", "W2", "b2"])
def test_gradients_by_hand_are_difference_quotients(name: str) -> None:
    X, Y = by_hand.petals(30, 3)
    p = by_hand.start(3, 1)
    gradient = by_hand.gradients_by_hand(p, X, Y)[name]

    def loss_with(place: tuple[int, ...], change: float) -> float:
        moved = {**p, name: p[name].copy()}
        moved[name][place] += change
        return float(by_hand.loss_by_hand(by_hand.forward_by_hand(moved, X)[1], Y))

    for place in np.ndindex(gradient.shape):
        quotient = (loss_with(place, 1e-6) - loss_with(place, -1e-6)) / 2e-6
        assert gradient[place] == pytest.approx(quotient, abs=1e-8)


def test_the_outputs_delta_is_that_of_logistic_regression() -> None:
    X, Y = by_hand.petals(30, 3)
    p = by_hand.start(3, 1)
    tensors = {name: Tensor(array, requires_grad=True) for name, array in p.items()}
    delta = by_hand.gradients_by_autodiff(tensors, Tensor(X), Tensor(Y))[1]["Z2"]
    answers = by_hand.forward_by_hand(p, X)[1]
    np.testing.assert_allclose(delta, (answers - Y) / 30, rtol=0, atol=1e-15)


def test_both_trainings_stay_together_and_learn() -> None:
    figures = by_hand.run()
    assert 0 < figures["largest gradient difference"] < 1e-12
    assert figures["largest output delta difference"] < 1e-12
    assert 0 < figures["largest parameter difference at the end"] < 1e-12
    assert figures["loss at the start"] > 0.6
    assert figures["loss at the end, by hand"] < 0.1
    assert figures["accuracy at the end"] > 0.95


def test_the_hand_set_weights_compute_xor_to_the_lectures_digits() -> None:
    outputs = by_hand.xor_outputs()
    assert {pair: round(output, 4) for pair, output in outputs.items()} == XOR


def test_the_hand_set_weights_in_ordinary_layers_say_the_same() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1), nn.Sigmoid()).double()
    weights = {
        "0.weight": np.array([[5.0, 5.0], [-7.0, -7.0]]),
        "0.bias": np.array([-8.0, 3.0]),
        "2.weight": np.array([[-11.0, -11.0]]),
        "2.bias": np.array([6.0]),
    }
    net.load_state_dict(weights)
    inputs = np.array([[float(digit) for digit in pair] for pair in XOR])
    np.testing.assert_allclose(
        net(Tensor(inputs)).detach().numpy().ravel(),
        list(by_hand.xor_outputs().values()),
        rtol=1e-12,
    )


def test_the_derivation_is_explained_and_judged() -> None:
    X, Y = by_hand.petals(30, 3)
    p = by_hand.start(3, 1)
    right, slip = by_hand.gradients_by_hand(p, X, Y), by_hand.without_tanh_slope(p, X, Y)
    explanation, (first, second) = by_hand.explained(p, Tensor(X), Tensor(Y), right, slip)
    for name, found in zip(("W1", "b1", "W2", "b2"), explanation.gradient, strict=True):
        np.testing.assert_allclose(found, right[name], rtol=0, atol=1e-15)
    assert "dL/dW1 = X^T @ dL/d" in explanation.text("en")
    assert first.ok and not second.ok
    assert second.text("en").count("the derivative of tanh is missing (A1)") == 2
