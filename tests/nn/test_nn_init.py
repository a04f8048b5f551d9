"""Initial values: their distributions, by tests of fixed seeds, and their formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import nn
from tinygrad_kr.nn import init

Cdf = Callable[[np.ndarray], np.ndarray]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def weight(*shape: int) -> tk.Tensor:
    return tk.full(shape, np.nan, dtype=np.float64)


def normal_cdf(z: np.ndarray) -> np.ndarray:
    return np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in z])


def truncated_cdf(low: float, high: float) -> Cdf:
    start, end = normal_cdf(np.array([low, high]))
    return lambda z: (normal_cdf(z) - start) / (end - start)


def uniform_cdf(low: float, high: float) -> Cdf:
    return lambda z: (z - low) / (high - low)


def assert_distributed(values: np.ndarray, cdf: Cdf) -> None:
    """Kolmogorov and Smirnov: sup |F_n - F| < 1.95 / sqrt(n) with probability 0.999."""
    z = np.sort(values.ravel())
    n = z.size
    expected = cdf(z)
    steps = np.arange(n + 1) / n
    gap = max(np.abs(steps[1:] - expected).max(), np.abs(steps[:-1] - expected).max())
    assert gap < 1.95 / math.sqrt(n)


def test_the_distribution_check_sees_a_wrong_scale_and_clipping() -> None:
    values = generator().standard_normal(20_000)
    assert_distributed(values, normal_cdf)
    with pytest.raises(AssertionError):
        assert_distributed(values * 1.1, normal_cdf)
    with pytest.raises(AssertionError):
        assert_distributed(np.clip(values, -2, 2), truncated_cdf(-2, 2))


# ------------------------------------------------------------------ all of them

SEEDED: dict[str, Callable[..., Any]] = {
    "uniform_": init.uniform_,
    "normal_": init.normal_,
    "trunc_normal_": init.trunc_normal_,
    "orthogonal_": init.orthogonal_,
    "variance_scaling_": init.variance_scaling_,
    "xavier_uniform_": init.xavier_uniform_,
    "xavier_normal_": init.xavier_normal_,
    "kaiming_uniform_": init.kaiming_uniform_,
    "kaiming_normal_": init.kaiming_normal_,
    "lecun_uniform_": init.lecun_uniform_,
    "lecun_normal_": init.lecun_normal_,
    "xavier_2010": init.xavier_2010(20),
    "he_2015": init.he_2015(20),
    "xavier_init": init.xavier_init(20, 30),
    "xavier_init, normal": init.xavier_init(20, 30, uniform=False),
}


@pytest.mark.parametrize("name", SEEDED)
def test_in_place_by_seed_and_alike_in_both_dtypes(name: str) -> None:
    initialize = SEEDED[name]
    p = nn.Parameter(np.zeros((30, 20)))
    array = p.data
    assert initialize(p, generator=generator(3)) is p
    assert p.data is array and p.requires_grad and p.is_leaf and np.isfinite(array).all()
    single = initialize(nn.Parameter(np.zeros((30, 20), np.float32)), generator=generator(3))
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single.data, array.astype(np.float32))
    other = initialize(weight(30, 20), generator=generator(4))
    assert not np.array_equal(other.data, array)
    tk.manual_seed(7)
    by_default = initialize(weight(30, 20)).data
    tk.manual_seed(7)
    np.testing.assert_array_equal(initialize(weight(30, 20)).data, by_default)


@pytest.mark.parametrize("name", SEEDED)
def test_a_layout_other_than_contiguous(name: str) -> None:
    whole = np.zeros((20, 30, 2))
    view = tk.Tensor(whole[:, :, 0].T)
    SEEDED[name](view, generator=generator(3))
    straight = SEEDED[name](weight(30, 20), generator=generator(3))
    np.testing.assert_array_equal(whole[:, :, 0].T, straight.data)
    assert not whole[:, :, 1].any()


def test_only_tensors_are_filled() -> None:
    with pytest.raises(TypeError, match=r"expected a Tensor to write into, got ndarray\."):
        init.zeros_(np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="part of a graph"):
        init.zeros_(nn.Parameter([1.0]) * 2)


# ------------------------------------------------------------------ distributions


def test_constants() -> None:
    assert init.zeros_(weight(2)).tolist() == [0, 0]
    assert init.ones_(weight(2)).tolist() == [1, 1]
    assert init.constant_(weight(2), 0.3).tolist() == [0.3, 0.3]
    assert init.eye_(weight(2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]
    with pytest.raises(ValueError, match="2 axes"):
        init.eye_(weight(2))


def test_uniform() -> None:
    values = init.uniform_(weight(4000), -0.5, 2.0, generator()).data
    assert values.min() >= -0.5 and values.max() < 2
    assert_distributed(values, uniform_cdf(-0.5, 2))


def test_normal() -> None:
    values = init.normal_(weight(4000), 3.0, 0.5, generator()).data
    assert_distributed((values - 3) / 0.5, normal_cdf)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (-2.0, 2.0), (-1.0, 3.0), (0.0, math.inf), (-0.1, 0.1), (0.0, 0.3), (0.6, 5.0),
        (3.0, 4.0), (6.0, math.inf), (-7.0, -5.0), (-math.inf, -1.0), (2.0, 2.0001), (30.0, 31.0),
    ],
)  # fmt: skip
def test_truncation_is_true_wherever_the_bounds_are(a: float, b: float) -> None:
    """Bounds in standard deviations; mean and std are applied to them."""
    mean, std = 1.5, 0.2
    values = init.trunc_normal_(
        weight(20_000), mean, std, mean + std * a, mean + std * b, generator()
    ).data
    z = (values - mean) / std
    assert z.min() >= a - 1e-9 and z.max() <= b + 1e-9
    assert np.unique(values).size == values.size
    flip = -1 if b < 0 else 1
    low, high = sorted((flip * a, flip * b))
    assert_distributed(flip * z, tail_cdf(low, high) if low > 0 else truncated_cdf(low, high))


def tail_cdf(low: float, high: float) -> Cdf:
    """By erfc, which keeps its digits in the upper tail."""

    def beyond(z: float) -> float:
        return math.erfc(z / math.sqrt(2))

    return lambda z: np.array([beyond(low) - beyond(v) for v in z]) / (beyond(low) - beyond(high))


def test_truncation_defaults_and_degenerate_std() -> None:
    values = init.trunc_normal_(weight(20_000), generator=generator()).data
    assert_distributed(values, truncated_cdf(-2, 2))
    assert init.trunc_normal_(weight(2), 5.0, 0.0).tolist() == [2, 2]
    assert init.trunc_normal_(weight(2), 1.0, 0.0).tolist() == [1, 1]
    assert init.trunc_normal_(weight(0)).shape == (0,)


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (4, 2, 3), (6, 2, 2)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    q = init.orthogonal_(weight(*shape), gain=2.0, generator=generator()).data
    flat = q.reshape(shape[0], -1)
    product = flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat
    np.testing.assert_allclose(product, 4 * np.eye(min(flat.shape)), atol=1e-12)


def test_orthogonal_is_uniform_over_rotations() -> None:
    """The first column of a uniform 2 x 2 orthogonal matrix is at a uniform angle."""
    g = generator()
    angles = []
    for _ in range(2000):
        q = init.orthogonal_(weight(2, 2), generator=g).data
        angles.append(math.atan2(q[1, 0], q[0, 0]))
    assert_distributed(np.array(angles), uniform_cdf(-math.pi, math.pi))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: init.uniform_(weight(2), 1.0, 0.0), r"expected a <= b, got a=1\.0 and b=0\.0\."),
        (lambda: init.normal_(weight(2), 0.0, -1.0), r"normal_: expected std >= 0, got -1\.0\."),
        (lambda: init.trunc_normal_(weight(2), std=-1.0), r"expected std >= 0, got -1\.0\."),
        (lambda: init.trunc_normal_(weight(2), a=1.0, b=1.0), r"a < b, got a=1\.0 and b=1\.0\."),
        (lambda: init.orthogonal_(weight(2)), r"expected at least 2 axes, got shape \(2,\)\."),
        (lambda: init.xavier_uniform_(weight(2)), r"\(out, in, \*kernel\), got shape \(2,\)\."),
        (lambda: init.kaiming_normal_(weight(2, 2), nonlinearity="swish"), r"got 'swish'\."),
        (lambda: init.variance_scaling_(weight(2, 2), mode="fan"), r"fan_avg, got 'fan'\."),  # type: ignore[arg-type]
        (lambda: init.variance_scaling_(weight(2, 2), distribution="t"), r"got 't'\."),  # type: ignore[arg-type]
        (lambda: init.variance_scaling_(weight(2, 2), scale=0.0), r"scale > 0, got 0\.0\."),
        (lambda: init.xavier_init(0, 3), "at least 1"),
    ],
)
def test_bad_settings(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# ------------------------------------------------------------------ scaled to the layer


def test_the_old_name_of_variance_scaling_warns() -> None:
    with pytest.warns(DeprecationWarning, match="variance_scaling_"):
        assert init.variance_scaling is init.variance_scaling_
    with pytest.raises(AttributeError, match="no attribute 'variance'"):
        init.variance  # noqa: B018
    assert "variance_scaling" not in dir(init)


def test_fans() -> None:
    assert init.fan_in_and_fan_out(weight(256, 784)) == (784, 256)
    assert init.fan_in_and_fan_out(weight(32, 16, 3, 5)) == (240, 480)


@pytest.mark.parametrize(
    ("name", "param", "gain"),
    [
        ("linear", None, 1), ("conv2d", None, 1), ("conv_transpose2d", None, 1),
        ("sigmoid", None, 1), ("tanh", None, 5 / 3), ("relu", None, math.sqrt(2)),
        ("selu", None, 0.75),
        ("leaky_relu", None, math.sqrt(2 / 1.0001)), ("leaky_relu", 1.0, 1),
    ],
)  # fmt: skip
def test_gains(name: str, param: float | None, gain: float) -> None:
    assert init.calculate_gain(name, param) == pytest.approx(gain)


SHAPE = (40, 20, 5)  # fan in 100, fan out 200
SCALED: dict[str, tuple[Callable[..., Any], float, str]] = {
    "xavier_uniform_": (lambda t, g: init.xavier_uniform_(t, 2.0, g), 4 / 150, "uniform"),
    "xavier_normal_": (lambda t, g: init.xavier_normal_(t, 2.0, g), 4 / 150, "normal"),
    "kaiming_uniform_": (
        lambda t, g: init.kaiming_uniform_(t, nonlinearity="relu", generator=g), 2 / 100, "uniform"
    ),
    "kaiming_normal_": (
        lambda t, g: init.kaiming_normal_(t, mode="fan_out", generator=g), 2 / 200, "normal"
    ),
    "kaiming_normal_, leaky": (
        lambda t, g: init.kaiming_normal_(t, a=1.0, generator=g), 1 / 100, "normal"
    ),
    "lecun_uniform_": (init.lecun_uniform_, 1 / 100, "uniform"),
    "lecun_normal_": (init.lecun_normal_, 1 / 100, "truncated_normal"),
    "variance_scaling_": (
        lambda t, g: init.variance_scaling_(t, 3.0, "fan_avg", generator=g),
        3 / 150,
        "truncated_normal",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SCALED)
def test_variance_and_shape_of_the_distribution(name: str) -> None:
    initialize, variance, distribution = SCALED[name]
    z = initialize(weight(*SHAPE), generator()).data.ravel() / math.sqrt(variance)
    kurtosis = {"uniform": 1.8, "normal": 3.0, "truncated_normal": 2.37}[distribution]
    assert abs(z.mean()) < 4 / math.sqrt(z.size)
    assert abs(z.var() - 1) < 4 * math.sqrt((kurtosis - 1) / z.size)
    if distribution == "uniform":
        assert_distributed(z, uniform_cdf(-math.sqrt(3), math.sqrt(3)))
    elif distribution == "normal":
        assert_distributed(z, normal_cdf)
    else:
        std = 0.8796256610342398
        assert_distributed(z * std, truncated_cdf(-2, 2))
        assert np.abs(z).max() <= 2 / std and np.unique(z).size == z.size


# ------------------------------------------------------------------ the lectures' own


def test_the_lectures_formulas_to_the_last_bit() -> None:
    drawn = generator(1).standard_normal((784, 256))
    xavier = init.xavier_2010(784)((784, 256), generator(1), np.float64)
    np.testing.assert_array_equal(xavier.data, drawn / np.sqrt(784))
    he = init.he_2015(784)((784, 256), generator(1), np.float64)
    np.testing.assert_array_equal(he.data, drawn / np.sqrt(784 / 2))
    bound = np.sqrt(6.0 / (784 + 256))
    uniform = init.xavier_init(784, 256)((784, 256), generator(1), np.float64)
    np.testing.assert_array_equal(uniform.data, generator(1).uniform(-bound, bound, (784, 256)))


@pytest.mark.parametrize(
    ("initialize", "std"),
    [
        (init.xavier_2010(784), 0.0357),
        (init.he_2015(784), 0.0505),
        (init.xavier_init(784, 256), 0.0439),
        (init.xavier_init(784, 256, uniform=False), 0.0472),
    ],
    ids=["1 / sqrt(fan_in)", "He", "Glorot uniform", "truncated"],
)
def test_standard_deviations_of_the_three_xaviers(initialize: Any, std: float) -> None:
    values = initialize((784, 256), generator=generator()).data
    assert values.dtype == np.float32
    assert abs(values.mean()) < 4 * std / math.sqrt(values.size)
    assert values.std() == pytest.approx(std, abs=0.0002)


def test_the_truncated_xavier_is_cut_at_two_nominal_deviations() -> None:
    """sqrt(3 / (784 + 256)) = 0.0537 before truncation."""
    sigma = math.sqrt(3 / 1040)
    assert sigma == pytest.approx(0.0537, abs=5e-5)
    values = init.xavier_init(784, 256, uniform=False)((20_000,), generator(), np.float64).data
    assert_distributed(values / sigma, truncated_cdf(-2, 2))
    assert np.abs(values).max() <= 2 * sigma


def test_the_three_named_alike_differ() -> None:
    stds = [
        initialize((784, 256), generator=generator()).data.std()
        for initialize in (
            init.xavier_2010(784),
            init.xavier_init(784, 256),
            init.xavier_init(784, 256, uniform=False),
        )
    ]
    assert all(b / a > 1.05 for a, b in pairwise(stds))


def test_the_lectures_initialisers_fill_a_layers_weight() -> None:
    layer = nn.Linear(784, 256)
    assert init.xavier_init(784, 256)(layer.weight, generator()) is layer.weight
    assert layer.weight.shape == (256, 784)
    assert layer.weight.data.std() == pytest.approx(0.0439, abs=0.0002)
