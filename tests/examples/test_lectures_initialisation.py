"""examples/lectures/initialisation.py: spreads beside formulas, zeros, and costs by start."""

from __future__ import annotations

import math

import numpy as np
import pytest
from lecture_programs import figures_of, program

from tinygrad_kr import data, nn

pytestmark = pytest.mark.trains

initialisation = program("initialisation")
STARTS = initialisation.STARTS
figures = figures_of(initialisation, data_name="digits", steps=60, batch=50)


@pytest.mark.parametrize(
    ("start", "std"),
    [
        ("zeros", 0.0), ("U(-1, 1)", 0.5774), ("N(0, 1)", 1.0), ("xavier_2010", 0.0357),
        ("xavier_init", 0.0439), ("xavier_init, normal", 0.0472), ("he_2015", 0.0505),
    ],
)  # fmt: skip
def test_samples_have_the_standard_deviation_of_the_formula(start: str, std: float) -> None:
    assert STARTS[start].std(784, 256) == pytest.approx(std, abs=5e-5)
    samples = [initialisation.sample_std(start, seed=seed) for seed in range(3)]
    assert samples == pytest.approx([std] * 3, rel=0.005)


@pytest.mark.parametrize("start", STARTS)
def test_the_formula_in_words_is_that_in_numbers(start: str) -> None:
    words = STARTS[start].formula.replace("0.8796 sqrt", "0.8796 * sqrt")
    value = eval(words, {"sqrt": math.sqrt, "n": 784, "m": 256, "__builtins__": {}})
    assert value == pytest.approx(STARTS[start].std(784, 256), rel=1e-4)


def test_zeros_give_a_relu_net_no_weight_gradient_at_all(figures: dict[str, float]) -> None:
    for name in ("0.weight", "0.bias", "2.weight", "2.bias", "4.weight"):
        assert figures[f"ReLU, zeros: first gradient of {name}"] == 0
    assert figures["ReLU, zeros: first gradient of 4.bias"] > 1e-3
    assert figures["ReLU, zeros: difference between units"] == 0
    assert figures["ReLU, zeros: first cost"] == pytest.approx(math.log(10), abs=1e-6)
    assert figures["ReLU, zeros: last cost"] == pytest.approx(math.log(10), abs=0.02)


def test_from_zeros_no_weight_of_a_relu_net_ever_moves() -> None:
    net = initialisation.make_net("ReLU", "zeros", (64, 256, 256, 10), 0)
    initialisation.train(net, initialisation.load("digits"), 5, 50, 0.001)
    assert not any(net[place].weight.data.any() for place in (0, 2, 4))
    assert not any(net[place].bias.data.any() for place in (0, 2))
    assert net[4].bias.data.all()


def test_zeros_leave_a_sigmoid_net_with_equal_units_up_to_rounding(
    figures: dict[str, float],
) -> None:
    for name in ("0.weight", "2.weight"):
        assert figures[f"sigmoid, zeros: first gradient of {name}"] == 0
    assert figures["sigmoid, zeros: first gradient of 4.weight"] > 1e-3
    assert figures["sigmoid, zeros: difference between units"] < 1e-4  # roundings
    assert figures["XOR, sigmoid 2-2-1, zeros: largest weight gradient"] == 0


def test_units_that_differ_are_seen() -> None:
    net = initialisation.make_net("ReLU", "N(0, 1)", (4, 6, 5, 2), 0)
    net[2].weight.data[:] = [1, 2, 3, -4, 0, 2]
    assert initialisation.difference_between_units(net) == 0
    net[2].weight.data[1, 2] = 4
    assert initialisation.difference_between_units(net) == 0.25
    assert initialisation.difference_between_units(net.double()) == 0.25


@pytest.mark.parametrize(
    ("gradients", "words"),
    [
        ({"0.weight": 0.0, "0.bias": 0.0, "2.weight": 0.0, "2.bias": 1.0}, "no weight learns"),
        ({"0.weight": 0.0, "2.weight": 0.1}, "1 of 2 weights have a gradient of exactly 0: 0.w"),
        ({"0.weight": 1e-30, "0.bias": 0.0, "2.weight": 0.1}, "every weight learns"),
    ],
)
def test_diagnosis(gradients: dict[str, float], words: str) -> None:
    assert initialisation.diagnosis(gradients).startswith(words)


def test_scaled_starts_learn_and_n_0_1_starts_far_away(figures: dict[str, float]) -> None:
    scaled = ("xavier_2010", "xavier_init", "xavier_init, normal", "he_2015")
    for start in scaled:
        assert figures[f"ReLU, {start}: first cost"] < 4
        assert figures[f"ReLU, {start}: accuracy"] > 0.8
        assert figures[f"sigmoid, {start}: last cost"] < 2.3 - 0.05
    worst = max(figures[f"ReLU, {start}: last cost"] for start in scaled)
    assert figures["ReLU, N(0, 1): first cost"] > 100
    assert figures["ReLU, N(0, 1): last cost"] > 10 * worst


def test_every_start_sees_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    images = initialisation.load("digits")
    seen: list[np.ndarray] = []
    cross_entropy = initialisation.F.cross_entropy

    def recorded(logits: object, labels: np.ndarray) -> object:
        seen.append(np.asarray(labels))
        return cross_entropy(logits, labels)

    monkeypatch.setattr(initialisation.F, "cross_entropy", recorded)
    initialisation.train_all(images, 2, 50, 0.001, 0)
    pairs = np.array(seen).reshape(2 * len(STARTS), 2, 50)
    assert (pairs == pairs[0]).all()
    assert not np.array_equal(pairs[0, 0], pairs[0, 1])


def test_without_mnist_the_small_digits_take_its_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(split: str, download: bool = True) -> None:
        raise data.DatasetNotFoundError("MNIST is not here")

    monkeypatch.setattr(data, "mnist", missing)
    assert initialisation.load("auto").name == "digits"
    assert "--data mnist" in capsys.readouterr().out


def test_the_net_is_made_of_ordinary_layers_with_biases_of_0() -> None:
    net = initialisation.make_net("sigmoid", "xavier_init", (784, 256, 256, 10), 0)
    assert [type(layer) for layer in net[:4]] == [nn.Linear, nn.Sigmoid] * 2
    assert net[0].weight.data.std() == pytest.approx(0.0439, abs=2e-4)
    assert net[4].weight.data.std() == pytest.approx(math.sqrt(2 / 266), rel=0.05)
    assert not any(net[place].bias.data.any() for place in (0, 2, 4))


@pytest.mark.parametrize("activation", ["ReLU", "sigmoid"])
def test_what_is_wrong_with_a_start_is_found_before_the_first_step(activation: str) -> None:
    images = initialisation.load("digits")
    far = {"ReLU": "exploding_gradient", "sigmoid": "saturated_units"}[activation]
    for start in initialisation.STARTS:
        expected = {"zeros": {"zero_initialization"}, "U(-1, 1)": {far}, "N(0, 1)": {far}}
        net = initialisation.make_net(activation, start, (64, 256, 256, 10), 1)
        assert initialisation.diagnose(net, images).kinds == expected.get(start, set()), start
