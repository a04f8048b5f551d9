"""examples/lectures/activations.py: every activation is shown, with slopes that are right."""

from __future__ import annotations

import re
from types import FunctionType
from typing import Any

import numpy as np
import pytest
from lecture_programs import program

from tinygrad_kr.functional import activations as all_activations

shown_activations = program("activations")
ACTIVATIONS: dict[str, Any] = shown_activations.ACTIVATIONS


def test_every_activation_of_the_package_is_shown() -> None:
    functions = {
        name.replace("_", "")
        for name, value in vars(all_activations).items()
        if isinstance(value, FunctionType)
        and value.__module__ == all_activations.__name__
        and not name.startswith("_")
    }
    shown = [re.sub(r" (of|0|\().*|,.*", "", name) for name in ACTIVATIONS]
    assert len(functions) >= 15
    functions -= {"glu", "prelu"}  # which are functions of more than x
    assert {name.replace(" ", "").lower() for name in shown} == functions | {
        "linear", "sigmoid", "tanh", "relu",
    }  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_are_those_of_difference_quotients(name: str) -> None:
    x, step = np.array([-4.1, -1.7, -0.9, -0.2, 0.3, 0.8, 2.2, 4.4]), 1e-6
    values, slopes = shown_activations.value_and_slope(ACTIVATIONS[name], x)
    above = shown_activations.value_and_slope(ACTIVATIONS[name], x + step)[0]
    below = shown_activations.value_and_slope(ACTIVATIONS[name], x - step)[0]
    assert values.shape == slopes.shape == x.shape
    np.testing.assert_allclose(slopes, (above - below) / (2 * step), atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_slope_of_sigmoid_is_never_above_one_quarter(dtype: Any) -> None:
    grid = np.linspace(-50, 50, 100_001)
    near_zero = np.random.default_rng(0).normal(0, 1e-3, 10_000)
    x = np.concatenate([grid, near_zero, [0.0, 1e30, -1e30]]).astype(dtype)
    y, slope = shown_activations.value_and_slope(ACTIVATIONS["sigmoid"], x)
    assert slope.dtype == dtype
    assert slope.max() == 0.25 == slope[x == 0].max()
    assert slope.min() >= 0
    np.testing.assert_allclose(slope, y * (1 - y), rtol=1e-6, atol=0)


def test_figures() -> None:
    figures = shown_activations.run(width=10.0, points=20_001)
    highest = {
        "sigmoid": 0.25, "tanh": 1, "ReLU": 1, "Leaky ReLU 0.01": 1, "ELU": 1, "GELU": 1.1289,
        "SiLU (swish)": 1.0998, "Mish": 1.0885, "hard sigmoid": 1 / 6, "hard swish": 1.4997,
        "softmax of (x, 0)": 0.25, "SELU": 1.0507 * 1.6733,
    }  # fmt: skip
    for name, slope in highest.items():
        assert figures[f"{name}: highest slope"] == pytest.approx(slope, abs=1e-4)
    lowest = {"ReLU": 0, "Leaky ReLU 0.01": 0.01, "Maxout of 2 lines": -1, "GELU": -0.1289}
    for name, slope in lowest.items():
        assert figures[f"{name}: lowest slope"] == pytest.approx(slope, abs=1e-4)
    assert figures["sigmoid: highest slope, ten layers"] == 2.0**-20
