"""examples/lectures/vanishing.py: the chain rule in numbers, and gradients in deep nets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lecture_programs import program

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn

vanishing = program("vanishing")


@pytest.fixture(scope="module")
def nets() -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = vanishing.measure_all(20, 100, 0)
    return found


@pytest.fixture(scope="module")
def figures(nets: dict[tuple[str, str], Any]) -> dict[str, float]:
    found: dict[str, float] = vanishing.figures_of(nets, 0, 150)
    return found


def test_a_factor_of_one_hundredth_passes_on_a_hundredth() -> None:
    assert vanishing.gradient_through_a_product(0.01) == pytest.approx(0.01, rel=1e-12)
    assert vanishing.gradient_through_a_product(-3.0) == pytest.approx(-3.0, rel=1e-12)


def test_one_half_through_4_10_and_20_layers(figures: dict[str, float]) -> None:
    assert figures["0.5 through 4 layers"] == 0.0625
    assert figures["0.5 through 10 layers"] == 1 / 1024
    assert figures["0.5 through 20 layers"] == pytest.approx(9.54e-7, rel=1e-3)


def test_sigmoids_keep_the_value_and_lose_the_slope(figures: dict[str, float]) -> None:
    fixed_point = 0.6590460684
    for layers in (4, 10, 20):
        h, slope = 0.5, 1.0
        for _ in range(layers):
            h = 1 / (1 + np.exp(-h))
            slope *= h * (1 - h)
        assert figures[f"0.5 through {layers} sigmoids"] == pytest.approx(h, rel=1e-12)
        assert figures[f"slope of {layers} sigmoids"] == pytest.approx(slope, rel=1e-9)
        assert 0 < slope < 0.25**layers
    assert figures["0.5 through 20 sigmoids"] == pytest.approx(fixed_point, abs=1e-9)


@pytest.mark.parametrize("depth", [1, 2, 4, 12])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_the_product_of_the_factors_is_the_gradient(depth: int, target: float) -> None:
    weights = np.random.default_rng(depth).uniform(-2, 2, depth).tolist()
    chain = vanishing.chain_rule(weights, 0.7, target)
    assert len(chain.factors) == 2 * depth + 1
    assert chain.gradient != 0
    assert chain.product == pytest.approx(chain.gradient, rel=1e-13)


def test_the_factors_name_what_they_are() -> None:
    chain = vanishing.chain_rule([0.5, -2.0], 3.0, 0.0)
    h1 = 1 / (1 + np.exp(-1.5))
    h2 = 1 / (1 + np.exp(2 * h1))
    names = ["dL/dh2", "dh2/dz2", "dz2/dh1 = w2", "dh1/dz1", "dz1/dw1 = x"]
    assert all(
        given.startswith(name) for (given, _), name in zip(chain.factors, names, strict=True)
    )
    values = [1 / (1 - h2), h2 * (1 - h2), -2.0, h1 * (1 - h1), 3.0]
    np.testing.assert_allclose([value for _, value in chain.factors], values, rtol=1e-12)


def test_spread_and_gradient_by_layer_are_those_of_plain_numpy() -> None:
    layers = vanishing.measure("ReLU", "He", 3, 30, 5)
    tk.manual_seed(5)
    images, labels = vanishing.some_digits(200)
    sizes = [(30, 64), (30, 30), (30, 30), (10, 30)]
    weights = [
        nn.init.kaiming_normal_(Tensor(np.empty(size)), nonlinearity="relu").data for size in sizes
    ]
    outputs = [images]
    for weight in weights[:-1]:
        outputs.append(np.maximum(outputs[-1] @ weight.T, 0))
    logits = outputs[-1] @ weights[-1].T
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    g = (p - np.eye(10)[labels]) / 200 @ weights[-1]
    norms = [np.linalg.norm(g)]
    for weight, output in zip(weights[2:0:-1], outputs[3:1:-1], strict=True):
        g = (g * (output > 0)) @ weight
        norms.insert(0, np.linalg.norm(g))
    np.testing.assert_allclose(layers.gradient, norms, rtol=1e-10)
    np.testing.assert_allclose(layers.spread, [h.std(axis=0).mean() for h in outputs[1:]])
    np.testing.assert_allclose(layers.silent, [(h.max(axis=0) == 0).mean() for h in outputs[1:]])


@pytest.mark.parametrize(
    ("activation", "start", "low", "high", "name"),
    [
        ("sigmoid", "Xavier", 0.2, 0.25, "vanishing"),
        ("sigmoid", "U(-1, 1)", 0.6, 0.85, "vanishing"),
        ("sigmoid", "N(0, 0.01^2)", 0.02, 0.03, "vanishing"),
        ("sigmoid", "N(0, 1)", 0.9, 1.1, "steady"),
        ("tanh", "Xavier", 0.9, 1.0, "steady"),
        ("tanh", "N(0, 1)", 2.0, 3.0, "exploding"),
        ("tanh", "N(0, 0.01^2)", 0.095, 0.105, "vanishing"),
        ("ReLU", "N(0, 1)", 6.7, 7.5, "exploding"),  # in theory sqrt(100 / 2) = 7.07
        ("ReLU", "U(-1, 1)", 3.8, 4.4, "exploding"),  # sqrt(100 / 6) = 4.08
        ("ReLU", "He", 0.95, 1.06, "steady"),
        ("ReLU", "Xavier", 0.66, 0.75, "vanishing"),  # sqrt(1 / 2)
        ("ReLU", "N(0, 0.01^2)", 0.066, 0.075, "vanishing"),
    ],
)
def test_what_becomes_of_the_gradient(
    activation: str,
    start: str,
    low: float,
    high: float,
    name: str,
    nets: dict[tuple[str, str], Any],
    figures: dict[str, float],
) -> None:
    assert low <= figures[f"{activation}, {start}: gradient a layer"] <= high
    assert nets[activation, start].name == name


def test_the_size_of_the_weights_knocks_out_no_relu(figures: dict[str, float]) -> None:
    shares = [
        figures[f"ReLU, {start}: silent units"] for start in ("N(0, 1)", "He", "N(0, 0.01^2)")
    ]
    assert shares[0] == shares[1] == shares[2]
    assert 0.1 < shares[0] < 0.3
    assert figures["tanh, He: silent units"] == 0


@pytest.mark.parametrize(("depth", "reference"), [(9, 2.6e-6), (10, 7.6e-7)])
def test_the_lectures_xor_nets_pass_on_a_millionth(
    depth: int, reference: float, figures: dict[str, float]
) -> None:
    """99% of medians of 100 lie within a factor of 1.7 of the median."""
    ours = figures[f"XOR, {depth} hidden: first over last"]
    assert reference / 1.7 < ours < reference * 1.7


@pytest.mark.parametrize("seed", range(3))
def test_the_path_to_the_first_weight_is_its_gradient(seed: int) -> None:
    path = vanishing.example_path(seed)
    weights = np.random.default_rng(seed).uniform(-1, 1, 10)
    np.testing.assert_allclose(path.weights, [*weights[:0:-1], 1.0])  # from the last layer to x
    assert len(path.slopes) == 10 and 0 < min(path.slopes) <= max(path.slopes) <= 0.25
    assert np.prod(path.slopes) < 1e-6
    assert path.product == pytest.approx(path.gradient, rel=1e-12)
    assert path.product == pytest.approx(vanishing.chain_rule(weights.tolist()).product, rel=1e-12)
