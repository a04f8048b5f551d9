"""examples/lectures/learning_rate.py: labs 07-1 to 07-3, and what their NaN and their 1.0 are."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from lecture_programs import figures_of, program

from tinygrad_kr import Tensor

pytestmark = pytest.mark.trains

learning_rate = program("learning_rate")
figures = figures_of(learning_rate, starts=40)


@pytest.mark.parametrize(
    ("rate", "step", "published"),
    [(rate, step, cost) for rate, costs in learning_rate.PUBLISHED.items()
     for step, cost in costs.items()],
)  # fmt: skip
def test_costs_of_lab_07_1_from_its_own_start(
    rate: float, step: int, published: float, figures: dict[str, float]
) -> None:
    """To 4e-6: the biases are known from six printed digits only.

    At rate 1.5 the cost grows to 27 and falls again: at step 4 a last bit of the weights is 1e-5 of
    the cost.
    """
    ours = figures[f"lab 07-1 rate {rate:g} cost {step}"]
    tolerance = 4e-5 if (rate, step) == (1.5, 4) else 4e-6
    assert ours == pytest.approx(published, rel=tolerance, nan_ok=True)


def test_weights_of_lab_07_1_at_rate_0_1() -> None:
    """What the lab prints at steps 199 and 200 are the weights after that step."""
    net = learning_rate.the_labs_start()
    learning_rate.train(net, learning_rate.as_the_lab_computes_it, 0.1, 201)
    printed = [
        [-1.15885413, 0.28058422, 1.14229572], [0.37609792, 0.19073224, 0.33304682],
        [-0.35536593, -0.44033223, -1.2561723],
    ]  # fmt: skip
    np.testing.assert_allclose(net.weight.data[0], printed, rtol=0, atol=6e-6)


def test_what_the_rates_do(figures: dict[str, float]) -> None:
    accuracies = [
        figures[f"lab 07-1 rate {rate} test accuracy"] for rate in ("1.5", "1e-10", "0.1")
    ]
    assert accuracies == [0, 0, 1]
    assert np.isnan(figures["lab 07-1 rate 1.5 cost 200"])
    ours = "many starts, from logits, rate"
    assert figures["many starts, the lab's cost, rate 1.5: NaN"] > 0.9
    assert [figures[f"{ours} {rate}: NaN"] for rate in ("1.5", "1e-10", "0.1")] == [0, 0, 0]
    assert figures[f"{ours} 1.5: test accuracy 1.0"] > 0.9
    assert figures[f"{ours} 0.1: test accuracy 1.0"] > 0.8
    low, high = (figures[f"{ours} {rate}: training accuracy"] for rate in ("1.5", "0.1"))
    assert low < 0.68 < high


def test_the_nan_begins_where_a_probability_is_too_small_to_be_a_normal_number() -> None:
    net = learning_rate.the_labs_start()
    history = learning_rate.train(net, learning_rate.as_the_lab_computes_it, 1.5, 5)
    logits = net(learning_rate.POINTS).detach().numpy()[0].astype(np.float64)
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = exponents / exponents.sum(axis=1, keepdims=True)
    right = p[np.arange(8), learning_rate.LABELS]
    assert np.isfinite(history).all()
    assert 2e-39 < right.min() < np.finfo(np.float32).tiny
    logits_too = Tensor(logits[None].astype(np.float32))
    with np.errstate(divide="ignore"):
        assert learning_rate.as_the_lab_computes_it(logits_too).item() == np.inf
    assert learning_rate.from_logits(logits_too).item() == pytest.approx(25.6, abs=0.2)


def test_scaling(figures: dict[str, float]) -> None:
    assert figures["lab 07-2 unscaled: NaN"] == 1
    assert figures["lab 07-2 unscaled: steps until infinity or NaN"] <= 3
    assert 0.98 < figures["lab 07-3 scaled, rate 1e-5: share of the cost left"] < 1
    assert figures["lab 07-3 scaled, rate 0.1: cost 1000, highest"] < 0.05
    scaled = learning_rate.min_max(learning_rate.PRICES)
    assert (scaled.min(axis=0) == 0).all()
    assert (scaled.max(axis=0) == 1).all()
    np.testing.assert_allclose(
        scaled[1], [0.70548491, 0.70439552, 1, 0.71881782, 0.83755791], atol=1e-6
    )


def test_the_monitor_names_the_line_of_the_first_infinity() -> None:
    (warning,) = learning_rate.first_infinity()
    assert warning["step"] == 5 and warning["kind"] == "nan_or_infinity"
    lines = inspect.getsource(learning_rate).splitlines()
    line = next(n for n, text in enumerate(lines, 1) if "tk.log(p * normal)" in text)
    assert f"from log in as_the_lab_computes_it, learning_rate.py:{line}" in warning["message"]
    assert not learning_rate.first_infinity(0.1)


def test_rates_and_prices_are_judged_before_training() -> None:
    for rate, kind in ((1.5, "learning_rate_too_high"), (1e-10, "learning_rate_too_low")):
        report = learning_rate.diagnose_rate(rate)
        assert report.kinds == {kind}
    assert not learning_rate.diagnose_rate(0.1).findings
    (finding,) = learning_rate.diagnose_prices(learning_rate.PRICES, 1e-5)
    names = {"np": np, "data": (learning_rate.PRICES[:, :-1], learning_rate.PRICES[:, -1:])}
    exec(finding.remedy(), names)
    scaled = np.column_stack(names["data"])
    assert finding.kind == "unscaled_inputs"
    assert not learning_rate.diagnose_prices(scaled, 1e-5).findings
