"""Randomness: reproducible, per generator, and of the distributions it names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor

DRAWS: list[Callable[..., Any]] = [
    lambda **kw: tk.rand(3, **kw),
    lambda **kw: tk.randn(3, **kw),
    lambda **kw: tk.randint(0, 1000, (3,), **kw),
    lambda **kw: tk.randperm(20, **kw),
    lambda **kw: tk.bernoulli(tk.full((40,), 0.5), **kw),
    lambda **kw: tk.multinomial(tk.ones(1000), 3, **kw),
    lambda **kw: tk.multinomial(tk.ones(2, 50), 9, True, **kw),
    lambda **kw: tk.rand_like(tk.zeros(3), **kw),
    lambda **kw: tk.randn_like(tk.zeros(3), **kw),
]


@pytest.mark.parametrize("draw", DRAWS)
def test_manual_seed_repeats_the_draw(draw: Any) -> None:
    tk.manual_seed(5)
    first, second = draw().tolist(), draw().tolist()
    assert first != second
    tk.manual_seed(5)
    assert draw().tolist() == first
    tk.manual_seed(6)
    assert draw().tolist() != first


@pytest.mark.parametrize("draw", DRAWS)
def test_a_generator_of_ones_own_leaves_the_default_alone(draw: Any) -> None:
    state = tk.default_generator().bit_generator.state
    mine = np.random.default_rng(0)
    first, second = draw(generator=mine).tolist(), draw(generator=mine).tolist()
    assert first != second
    assert draw(generator=np.random.default_rng(0)).tolist() == first
    assert tk.default_generator().bit_generator.state == state


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("wrong", [0, np.random.RandomState(0), np.random, "seed"])
def test_other_generators_are_refused(draw: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"np\.random\.Generator.*default_rng\(seed\)"):
        draw(generator=wrong)


def test_manual_seed_keeps_the_generator_itself() -> None:
    generator = tk.default_generator()
    assert tk.manual_seed(1) is generator
    assert tk.default_generator() is generator


def test_numpys_global_state_is_not_touched() -> None:
    before = np.random.get_state(legacy=False)  # noqa: NPY002
    tk.manual_seed(0)
    for draw in DRAWS:
        draw()
    after = np.random.get_state(legacy=False)  # noqa: NPY002
    np.testing.assert_equal(after, before)


def test_dtypes_and_shapes() -> None:
    for make in (tk.rand, tk.randn):
        assert make(2, 3).shape == make((2, 3)).shape == (2, 3)
        assert make().shape == ()
        assert make(2).dtype == np.float32
        assert make(2, dtype=np.float64).dtype == np.float64
        assert make(2, dtype=np.float16).dtype == np.float16
        with pytest.raises(TypeError, match="expected floats, got int64"):
            make(2, dtype=np.int64)
    assert tk.randint(3).shape == ()
    assert tk.randint(3, size=4).shape == tk.randint(0, 3, (4,)).shape == (4,)
    assert tk.randint(3, (4,)).shape == (4,)
    assert tk.randint(3).dtype == tk.randperm(3).dtype == np.int64
    assert sorted(tk.randperm(5).tolist()) == [0, 1, 2, 3, 4]
    assert tk.randperm(0).shape == (0,)
    assert tk.bernoulli(Tensor(np.array([0.0, 1.0]))).dtype == np.float64
    assert not tk.bernoulli(Tensor([0.5], requires_grad=True)).requires_grad


def test_ranges() -> None:
    drawn = tk.randint(-2, 3, (500,)).data
    assert set(drawn.tolist()) == {-2, -1, 0, 1, 2}
    u = tk.rand(10_000).data
    assert u.min() >= 0
    assert u.max() < 1
    assert tk.bernoulli(Tensor([0.0, 1.0])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_within_five_standard_errors(dtype: Any) -> None:
    n = 40_000
    u, z = tk.rand(n, dtype=dtype).data, tk.randn(n, dtype=dtype).data
    b = tk.bernoulli(np.full(n, 0.3)).data
    assert abs(u.mean() - 0.5) < 5 * (1 / 12 / n) ** 0.5
    assert abs(u.var() - 1 / 12) < 5 * (1 / 180 / n) ** 0.5
    assert abs(z.mean()) < 5 / n**0.5
    assert abs(z.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((z**3).mean()) < 5 * (15 / n) ** 0.5
    assert abs(b.mean() - 0.3) < 5 * (0.3 * 0.7 / n) ** 0.5


def test_bad_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="expected low < high, got 3 and 3"):
        tk.randint(3, 3)
    with pytest.raises(ValueError, match="expected low < high, got 0 and 0"):
        tk.randint(0)
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"probabilit.*\[0, 1\]"):
            tk.bernoulli(Tensor([0.5, p]))
    with pytest.raises(TypeError, match="float"):
        tk.bernoulli(Tensor([0, 1]))


@pytest.mark.parametrize("replacement", [True, False])
def test_multinomial_draws_in_proportion(replacement: bool) -> None:
    p = tk.tensor([[1.0, 0.0, 3.0], [2.0, 2.0, 0.0]])
    generator = np.random.default_rng(0)
    drawn = [tk.multinomial(p, 2, replacement, generator=generator).numpy() for _ in range(2000)]
    drawn = np.stack(drawn)
    assert drawn.shape == (2000, 2, 2) and drawn.dtype == np.int64
    share = np.bincount(drawn[:, 0, 0], minlength=3) / 2000
    assert np.abs(share - [0.25, 0, 0.75]).max() < 0.05
    assert (drawn[:, 1] < 2).all()
    equal = (drawn[..., 0] == drawn[..., 1]).mean(0)
    assert np.abs(equal - ([0.625, 0.5] if replacement else [0, 0])).max() < 0.05
    assert tk.multinomial(p[0], 5, replacement=True).shape == (5,)


@pytest.mark.parametrize(
    ("weights", "count", "said"),
    [
        ([0.5, -0.1], 1, "expected finite weights of at least 0"),
        ([np.inf, 1.0], 1, "expected finite weights"),
        ([0.0, 0.0], 1, "expected at least 1 nonzero weights in each row, got 0"),
        ([1.0, 0.0], 2, "expected at least 2 nonzero weights in each row, got 1"),
        (
            [[[1.0]]],
            1,
            r"expected a vector or a matrix and at least 1 sample, got shape \(1, 1, 1\)",
        ),
        ([1.0], 0, "expected a vector or a matrix and at least 1 sample"),
    ],
)
def test_multinomial_refuses_what_is_no_distribution(weights: Any, count: int, said: str) -> None:
    with pytest.raises(ValueError, match=f"multinomial: {said}"):
        tk.multinomial(tk.tensor(weights), count)
