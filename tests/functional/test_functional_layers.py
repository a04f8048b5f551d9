"""Linear maps, tables, dropout and normalisation: what they promise and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor

RANDOM = np.random.default_rng(0)


# ------------------------------------------------------------------ linear


@pytest.mark.parametrize("x", [(4, 7), (7,), (2, 4, 7)])
def test_linear_names_what_does_not_fit(x: tuple[int, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        F.linear(tk.zeros(*x), tk.zeros(3, 5), tk.zeros(3))
    assert str(caught.value) == (
        f"linear(float32{x}, float32(3, 5), float32(3,)): expected 5 features for the weight "
        f"(3, 5), got 7 in the input {x}"
    )


def test_linear_refuses_a_bias_that_would_widen_it() -> None:
    with pytest.raises(ValueError, match=r"expected a bias of 1 output features, got \(5,\)"):
        F.linear(tk.zeros(4, 2), tk.zeros(1, 2), tk.zeros(5))


# ------------------------------------------------------------------ dropout


def test_dropout_in_evaluation_is_the_input_itself() -> None:
    x = tk.ones(3)
    assert F.dropout(x, 0.7, training=False) is x
    assert F.dropout(x, 0.0) is x


def test_dropping_everything_is_finite() -> None:
    x = tk.randn(3, 4, requires_grad=True)
    y = F.dropout(x, 1.0)
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(y.data, 0)
    np.testing.assert_array_equal(x.grad.data, 0)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_the_share_p(p: float) -> None:
    y = F.dropout(tk.ones(200_000), p).data
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / (1 - p))}
    assert np.mean(y == 0) == pytest.approx(p, abs=0.005)
    assert y.mean(dtype=np.float64) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_backward_uses_the_mask_of_the_forward_pass(dtype: Any) -> None:
    x = Tensor(np.ones(1000, dtype), requires_grad=True)
    y = F.dropout(x, 0.5)
    F.dropout(x, 0.5)
    y.sum().backward()
    assert x.grad is not None and y.dtype == dtype
    np.testing.assert_array_equal(x.grad.data, y.data)


def test_dropout_is_reproducible_and_draws_anew() -> None:
    x = tk.ones(100)
    tk.manual_seed(3)
    first, second = F.dropout(x).data, F.dropout(x).data
    tk.manual_seed(3)
    np.testing.assert_array_equal(F.dropout(x).data, first)
    assert (first != second).any()
    mine = [F.dropout(x, generator=np.random.default_rng(5)).data for _ in range(2)]
    np.testing.assert_array_equal(*mine)


def test_a_generator_leaves_the_default_one_alone() -> None:
    tk.manual_seed(3)
    wanted = tk.rand(3).data
    tk.manual_seed(3)
    F.dropout(tk.ones(100), generator=np.random.default_rng(5))
    np.testing.assert_array_equal(tk.rand(3).data, wanted)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_dropout_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(ValueError, match=r"expected p, the share dropped, in \[0, 1\], got"):
        F.dropout(tk.ones(2), p)


def test_dropout_refuses_another_generator() -> None:
    with pytest.raises(TypeError, match=r"np\.random\.Generator, got int"):
        F.dropout(tk.ones(2), generator=3)  # type: ignore[arg-type]


# ------------------------------------------------------------------ tables


def test_an_entry_used_twice_collects_both_gradients() -> None:
    table = Tensor(np.zeros((4, 2)), requires_grad=True)
    F.embedding(Tensor([[1, 3], [3, 3]]), table).sum().backward()
    assert table.grad is not None
    np.testing.assert_array_equal(table.grad.data, [[0, 0], [1, 1], [0, 0], [3, 3]])


def test_the_padding_row_is_read_but_not_trained() -> None:
    table = Tensor(np.arange(8.0).reshape(4, 2), requires_grad=True)
    for padding_idx in (1, -3):
        table.grad = None
        y = F.embedding(Tensor([0, 1]), table, padding_idx)
        np.testing.assert_array_equal(y.data, [[0, 1], [2, 3]])
        y.sum().backward()
        assert table.grad is not None
        np.testing.assert_array_equal(table.grad.data, [[1, 1], [0, 0], [0, 0], [0, 0]])


@pytest.mark.parametrize("index", [-1, 4])
def test_embedding_names_an_index_outside_the_table(index: int) -> None:
    with pytest.raises(IndexError, match=rf"expected one in \[0, 4\), got {index} at \(0, 1\)"):
        F.embedding(Tensor([[0, index]]), tk.zeros(4, 2))
    with pytest.raises(IndexError, match=r"expected padding_idx in a table of 4 rows, got 9\."):
        F.embedding(Tensor([0]), tk.zeros(4, 2), padding_idx=9)


@pytest.mark.parametrize("function", [F.one_hot, lambda x: F.embedding(x, tk.zeros(4, 2))])
def test_indices_must_be_integers(function: Any) -> None:
    with pytest.raises(TypeError, match=r": expected integers, got float32\(2,\)\."):
        function(Tensor([0.0, 1.0]))


def test_one_hot() -> None:
    wanted = [[0, 0, 1], [1, 0, 0]]
    for given in (Tensor([2, 0]), np.array([2, 0]), [2, 0]):
        np.testing.assert_array_equal(np.asarray(F.one_hot(given)), wanted)
    assert F.one_hot(Tensor([2, 0]), 5).shape == (2, 5)
    assert F.one_hot(Tensor(np.zeros((0, 2), np.int64)), 3).shape == (0, 2, 3)
    with pytest.raises(IndexError, match=r"index: expected one in \[0, 2\), got 2 at \(0,\)\."):
        F.one_hot(Tensor([2, 0]), 2)
    with pytest.raises(ValueError, match=r"expected num_classes or some integers, got neither\."):
        F.one_hot(Tensor(np.zeros(0, np.int64)))


# ------------------------------------------------------------------ normalisation


def test_batch_norm_standardises_each_channel() -> None:
    x = Tensor(RANDOM.normal(5, 3, (64, 2, 4)))
    y = F.batch_norm(x, None, None, training=True).data
    np.testing.assert_allclose(y.mean(axis=(0, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=(0, 2)), 1, rtol=1e-5)


def test_running_statistics_move_in_training_only() -> None:
    x = RANDOM.normal(5, 3, (64, 2))
    mean, var = tk.zeros(2), tk.ones(2)
    F.batch_norm(Tensor(x), mean, var, training=False)
    np.testing.assert_array_equal([mean.data, var.data], [[0, 0], [1, 1]])
    F.batch_norm(Tensor(x), mean, var, training=True, momentum=0.25)
    assert mean.dtype == var.dtype == np.float32
    np.testing.assert_allclose(mean.data, 0.25 * x.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(var.data, 0.75 + 0.25 * x.var(axis=0, ddof=1), rtol=1e-6)


def test_moving_the_statistics_spoils_no_earlier_graph() -> None:
    x, mean, var = tk.ones(8, 2, requires_grad=True), tk.zeros(2), tk.ones(2)
    evaluated = F.batch_norm(x, mean, var, training=False, eps=0.0)
    F.batch_norm(tk.randn(8, 2) * 9, mean, var, training=True)
    assert (var.data > 1).all()
    evaluated.sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.data, 1)


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1), (1, 3, 1, 1)])
def test_batch_norm_of_one_value_raises_and_says_what_to_do(shape: tuple[int, ...]) -> None:
    x = tk.ones(*shape)
    with pytest.raises(ValueError) as caught:
        F.batch_norm(x, tk.zeros(3), tk.ones(3), training=True)
    assert str(shape) in str(caught.value)
    assert "eval()" in str(caught.value) and "drop_last" in str(caught.value)
    assert F.batch_norm(x, tk.zeros(3), tk.ones(3), training=False).shape == shape


def test_batch_norm_of_an_empty_batch_leaves_the_statistics() -> None:
    mean, var = tk.zeros(3), tk.ones(3)
    x = tk.zeros(0, 3, requires_grad=True)
    F.batch_norm(x, mean, var, training=True).sum().backward()
    np.testing.assert_array_equal([mean.data, var.data], [[0] * 3, [1] * 3])


def test_constant_channels_are_finite() -> None:
    x = Tensor(np.full((4, 2), 7.0), requires_grad=True)
    y = F.batch_norm(x, None, None, training=True)
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(y.data, 0)
    assert np.isfinite(x.grad.data).all()


def test_norms_say_what_they_wanted() -> None:
    with pytest.raises(ValueError, match=r"of shape \(3,\) for input \(2, 3\), got \(4,\)\."):
        F.batch_norm(tk.ones(2, 3), None, None, tk.ones(4), training=True)
    with pytest.raises(ValueError, match=r"expected input \(N, C, \.\.\.\), got shape \(3,\)\."):
        F.batch_norm(tk.ones(3), None, None, training=True)
    with pytest.raises(ValueError, match=r"expected input \(\.\.\., 2\), got \(2, 3\)\."):
        F.layer_norm(tk.ones(2, 3), 2)
    with pytest.raises(ValueError, match=r"expected bias of shape \(3,\), got \(2,\)\."):
        F.layer_norm(tk.ones(2, 3), 3, None, tk.ones(2))
    with pytest.raises(ValueError, match=r"1\) that divide into 2 groups, got input \(2, 3\)\."):
        F.group_norm(tk.ones(2, 3), 2)
    with pytest.raises(ValueError, match=r"expected a number as ord, got 'two'\."):
        F.normalize(tk.ones(2, 3), p="two")  # type: ignore[arg-type]


@pytest.mark.parametrize("p", [0.5, -1.0, 0, 3, np.inf])
def test_normalize_divides_by_any_norm(p: float) -> None:
    x = np.array([[1.0, -2.0, 4.0], [0.5, 0.25, -1.0]])
    np.testing.assert_allclose(
        F.normalize(Tensor(x), p).data, x / np.linalg.norm(x, p, axis=1, keepdims=True), rtol=1e-14
    )


def test_the_zero_vector_is_normalised_to_itself() -> None:
    x = tk.zeros(2, 3, requires_grad=True)
    y = F.normalize(x)
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(y.data, 0)
    assert np.isfinite(x.grad.data).all()
