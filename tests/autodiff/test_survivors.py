"""What only a mutant showed to be untested: see `tests/mutation.py`. One test for each survivor."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, optim
from tinygrad_kr.ops import network, reduction


def test_the_series_of_sinc_meets_the_formula_at_its_last_bit() -> None:
    x = np.array([0.00999, -0.00999, 0.005])
    t = (np.pi * x) ** 2
    terms = [(-1) ** k * 2 * k * t ** (k - 1) / math.factorial(2 * k + 1) for k in range(1, 9)]
    expected = np.pi**2 * x * sum(terms[::-1])
    np.testing.assert_allclose(tk.grad(lambda x: tk.sinc(x).sum())(x), expected, rtol=1e-15)


def test_bce_with_logits_of_float32_is_computed_in_float64() -> None:
    x = np.linspace(-20, 20, 999).astype(np.float32)
    a = np.linspace(0, 1, 999).astype(np.float32)
    exact = network.bce_with_logits(x.astype(np.float64), a.astype(np.float64))
    np.testing.assert_array_equal(network.bce_with_logits(x, a), exact.astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "axis"), [((3,), r"on the last axis of \(3,\)"), ((3, 2), "on the last axis but one")]
)
def test_matmul_names_the_axis_of_the_second_input(shape: tuple[int, ...], axis: str) -> None:
    with pytest.raises(ValueError, match=axis):
        tk.ones(2, 4) @ tk.ones(*shape)


def test_maxout_of_one_piece_is_its_input() -> None:
    np.testing.assert_array_equal(F.maxout(tk.arange(3.0), 1).data, [0, 1, 2])


@pytest.mark.parametrize(("weight", "advised"), [((5, 12), True), ((12, 5), False)])
def test_linear_advises_to_flatten_where_that_fits(weight: tuple[int, int], advised: bool) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        F.linear(tk.ones(2, 3, 4), tk.ones(*weight))
    assert ("Flatten it first" in str(caught.value)) == advised


def test_scatter_add_takes_a_list() -> None:
    found = tk.scatter_add(tk.zeros(3), 0, [0, 2, 2], [1, 2, 3])
    np.testing.assert_array_equal(found.data, [1, 0, 5])
    assert found.dtype == np.float32


@pytest.mark.parametrize("end", ["prepend", "append"])
def test_diff_with_one_end(end: str) -> None:
    x, more = np.array([1.0, 4.0, 9.0]), np.array([5.0])
    np.testing.assert_array_equal(tk.diff(Tensor(x), **{end: more}).data, np.diff(x, **{end: more}))


def test_an_op_shows_its_options() -> None:
    def scaled(x: Any, *, factor: float = 2.0) -> Any:
        return x * factor

    assert list(inspect.signature(tk.op(scaled)).parameters) == ["x", "factor"]
    assert list(inspect.signature(tk.op(lambda x, **options: x)).parameters) == ["x", "options"]


def test_one_hot_is_of_integers() -> None:
    assert F.one_hot(tk.tensor([0, 2]), 3).dtype == np.int64


def test_plateau_has_pytorchs_eps_and_takes_a_metric_of_0() -> None:
    optimizer = optim.SGD([tk.ones(1, requires_grad=True)], lr=0.1)
    schedule = optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    assert schedule.eps == 1e-8
    schedule.step(0.0)
    assert schedule.best == 0.0


@pytest.mark.parametrize("extreme", [reduction.max_, reduction.min_])
def test_the_rule_of_an_extreme_has_the_default_of_its_op(extreme: Any) -> None:
    x = Tensor(np.array([[1.0, 2.0, 0.0], [5.0, 4.0, 7.0]]), requires_grad=True)
    extreme(x, axis=1).backward(Tensor(np.array([10.0, 20.0])))
    assert x.grad is not None
    column = np.argmax(x.data, 1) if extreme is reduction.max_ else np.argmin(x.data, 1)
    expected = np.zeros((2, 3))
    expected[[0, 1], column] = 10.0, 20.0
    np.testing.assert_array_equal(x.grad.data, expected)


def test_a_float64_number_beside_float32_counts_as_float32() -> None:
    x = np.linspace(1, 2, 99, dtype=np.float32)
    found = Tensor(x) * np.float64(0.1)
    np.testing.assert_array_equal(found.data, x * np.float32(0.1))


def test_running_statistics_of_float16_stay_float16() -> None:
    mean, var = np.zeros(2, np.float16), np.ones(2, np.float16)
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    F.batch_norm(Tensor(x), tensors := Tensor(mean), Tensor(var), training=True)
    assert tensors.dtype == np.float16
    np.testing.assert_allclose(tensors.data, 0.1 * x.mean(0), rtol=1e-3)


def test_adaptive_pooling_keeps_a_size_of_none() -> None:
    x = tk.arange(24.0).reshape(1, 4, 6)
    found = F.adaptive_avg_pool2d(x, (None, 2))
    np.testing.assert_allclose(found.data, x.data.reshape(1, 4, 2, 3).mean(-1))


@pytest.mark.parametrize("widths", [(0, -1), (-1, 0), (-1, -2), (1, -1), (0, -1, -1, 0)])
def test_negative_padding_crops(widths: tuple[int, ...]) -> None:
    x = np.arange(20.0).reshape(4, 5)
    pairs = [(0, 0), *zip(widths[::2], widths[1::2], strict=True)][-2:]
    pairs = pairs if len(widths) == 2 else [widths[2:], widths[:2]]  # type: ignore[list-item]
    cropped = x[
        tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, pairs, strict=True))
    ]
    expected = np.pad(cropped, [(max(a, 0), max(b, 0)) for a, b in pairs])
    np.testing.assert_array_equal(F.pad(Tensor(x), widths).data, expected)


def test_indices_of_pooled_maxima_without_a_batch() -> None:
    x = np.random.default_rng(0).permutation(60).reshape(3, 4, 5).astype(np.float64)
    y, index = F.max_pool2d(Tensor(x), (2, 2), return_indices=True)
    whole = F.max_pool2d(Tensor(x[None]), (2, 2), return_indices=True)
    np.testing.assert_array_equal(index.data, whole[1].data[0])
    np.testing.assert_array_equal(
        np.take_along_axis(x.reshape(3, -1), index.data.reshape(3, -1), 1), y.data.reshape(3, -1)
    )


@pytest.mark.parametrize(("loss", "said"), [(F.cross_entropy, True), (F.nll_loss, False)])
def test_only_cross_entropy_offers_probabilities(loss: Any, said: bool) -> None:
    with pytest.raises(ValueError, match="labels") as caught:
        loss(tk.zeros(2, 3), tk.tensor([0, 1, 2]))
    assert ("or probabilities" in str(caught.value)) == said
