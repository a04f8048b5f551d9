"""examples/lectures/gates.py: one line, two lines, and an output bias of shape (5,)."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from lecture_programs import figures_of, program

from tinygrad_kr import nn

pytestmark = pytest.mark.trains

gates = program("gates")
figures = figures_of(gates, steps=1_200, rate=2.0, nets=("perceptron 2-1", "shallow 2-2-1"))


def test_the_tables_are_those_of_the_gates() -> None:
    for place, (a, b) in enumerate(product((0, 1), repeat=2)):
        assert gates.XOR_POINTS[place].tolist() == [a, b]
        assert [gates.GATES[gate][place] for gate in ("AND", "OR", "XOR")] == [a & b, a | b, a ^ b]


def test_one_neuron_learns_and_and_or_but_answers_one_half_to_xor(
    figures: dict[str, float],
) -> None:
    for gate in ("AND", "OR"):
        assert figures[f"perceptron 2-1, {gate}: accuracy"] == 1
        assert figures[f"perceptron 2-1, {gate}: loss"] < 0.05
        assert figures[f"largest distance from 0.5 where XW + b = 0, {gate}"] < 1e-5
    assert figures["perceptron 2-1, XOR: loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert figures["lab 09-1 accuracy"] == 0.5


def test_a_hidden_layer_learns_all_three(figures: dict[str, float]) -> None:
    for gate in gates.GATES:
        assert figures[f"shallow 2-2-1, {gate}: accuracy"] == 1
        assert figures[f"shallow 2-2-1, {gate}: loss"] < 0.1
    assert figures["lab 09-2 accuracy"] == 1


def test_the_deep_net_learns_xor_too() -> None:
    net = gates.make_net((2, 10, 10, 10, 1), 0)
    assert gates.train(net, "XOR", 1_000, 1.0) < 0.1
    assert gates.accuracy(net, "XOR") == 1


def test_no_line_separates_xor(figures: dict[str, float]) -> None:
    assert [figures[f"best line, {gate}"] for gate in gates.GATES] == [1, 1, 0.75]


def test_an_output_of_exactly_one_half_is_a_no() -> None:
    neuron = gates.make_net((2, 1), 0)
    for parameter in neuron.parameters():
        nn.init.zeros_(parameter)
    assert [gates.accuracy(neuron, gate) for gate in gates.GATES] == [0.75, 0.25, 0.5]


def test_the_output_is_one_half_on_the_neurons_own_line_only() -> None:
    neuron = gates.make_net((2, 1), 3)
    assert gates.output_on_line(neuron) < 1e-6
    weight, bias = neuron.parameters()
    off_by_one = -(weight.data[0, 0] * 0.5 + bias.data[0] + 1) / weight.data[0, 1]
    outputs = gates.outputs_of(neuron, np.array([[0.5, off_by_one]]))
    assert outputs[0] == pytest.approx(1 / (1 + np.e))


def test_the_bias_of_five_is_refused_with_both_shapes_and_the_cause() -> None:
    complaint, figures = gates.bias_of_five()
    for part in ("got (4, 5) and (4, 1)", "broadcast", "biases that widen them"):
        assert part in complaint
    assert figures["outputs with a bias of shape (5,)"] == 5
    assert figures["bias gradient, (5,) over (1,)"] == pytest.approx(0.2, abs=1e-12)
    assert figures["weight gradient, (5,) over (1,)"] == pytest.approx(1, abs=1e-12)
    assert figures["loss, (5,) minus (1,)"] == pytest.approx(0, abs=1e-12)
