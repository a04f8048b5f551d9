"""Losses: what they refuse, exact tails, labels, reductions and empty batches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from harness import close
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor
from tinygrad_kr.testing import check_grads

OF_ONE_SHAPE = ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"]
ELEMENTWISE = [*OF_ONE_SHAPE, "kl_div"]
OF_PROBABILITIES = ["binary_cross_entropy", "binary_cross_entropy_with_logits"]
OF_LABELS = ["cross_entropy", "nll_loss"]


# ------------------------------------------------------------------ shapes


@pytest.mark.parametrize("name", ELEMENTWISE + OF_PROBABILITIES)
def test_a_flat_target_beside_a_column_is_refused_with_the_fix(name: str) -> None:
    with pytest.raises(ValueError) as caught:
        getattr(F, name)(Tensor(np.full((4, 1), 0.5)), Tensor(np.full(4, 0.5)))
    message = str(caught.value)
    assert message.startswith(f"{name}: expected input and target of one shape")
    assert "(4, 4)" in message and "target.reshape(4, 1)" in message


@pytest.mark.parametrize("name", OF_ONE_SHAPE + OF_PROBABILITIES)
@pytest.mark.parametrize(
    ("input", "target"),
    [((4,), (4, 1)), ((4, 1), ()), ((2, 3), (3,)), ((2, 3), (3, 2)), ((3,), (4,))],
)
def test_other_losses_than_kl_div_do_not_broadcast(
    name: str, input: tuple[int, ...], target: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"expected input and target of one shape, got \("):
        getattr(F, name)(Tensor(np.full(input, 0.5)), Tensor(np.full(target, 0.5)))


@pytest.mark.parametrize("name", OF_ONE_SHAPE + OF_PROBABILITIES)
def test_an_output_widened_by_its_bias_is_explained(name: str) -> None:
    """The lecture's slip: a bias of 5 on the one output makes (4, 5) of (4, 1)."""
    with pytest.raises(ValueError, match=r"5 entries in the input and 1 in the target.*bias"):
        getattr(F, name)(Tensor(np.full((4, 5), 0.5)), Tensor(np.full((4, 1), 0.5)))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize(
    ("input", "target"),
    [((2, 3), (3,)), ((3,), (2, 3)), ((4, 1), ()), ((), (4, 2)), ((1, 2, 3), (2, 1, 3))],
)
def test_kl_div_broadcasts(
    input: tuple[int, ...], target: tuple[int, ...], log_target: bool, reduction: str
) -> None:
    random = np.random.default_rng(0)
    x, t = np.asarray(-random.random(input)), np.asarray(0.3 + random.random(target))
    t.flat[0] = 0.0
    terms = np.exp(t) * (t - x) if log_target else np.where(t, t * (np.log(t + (t == 0)) - x), 0)
    divisor = {"mean": terms.size, "batchmean": input[0] if input else 1}.get(reduction, 1)
    want = terms if reduction == "none" else terms.sum() / divisor
    arguments = Tensor(x, requires_grad=True), Tensor(t, requires_grad=True)

    def divergence(x: Any, t: Any) -> Any:
        return F.kl_div(x, t, reduction=reduction, log_target=log_target)

    close(divergence(*arguments).detach().numpy(), want)
    t.flat[0] = 0.5
    check_grads(divergence, (x, t))
    compiled = tk.compile(divergence)
    for _ in range(3):
        close(compiled(x, t), divergence(x, t))


@pytest.mark.parametrize(("input", "target"), [((4, 1), (4,)), ((2, 3), (2,)), ((3,), (4,))])
def test_kl_div_refuses_what_is_a_slip(input: tuple[int, ...], target: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"kl_div: expected input and target of one shape, got \("):
        F.kl_div(Tensor(np.full(input, 0.5)), Tensor(np.full(target, 0.5)))


@pytest.mark.parametrize("name", OF_LABELS)
@pytest.mark.parametrize("target", [(4, 1), (3,), (), (4, 3, 1)])
def test_labels_of_another_shape_are_refused(name: str, target: tuple[int, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        getattr(F, name)(tk.zeros(4, 3), Tensor(np.zeros(target, np.int64)))
    assert "expected integer labels of shape (4,)" in str(caught.value)
    assert f"for input (4, 3), got shape {target}." in str(caught.value)


def test_classes_must_exist() -> None:
    for shape in ((), (0,), (2, 0)):
        with pytest.raises(ValueError, match=r"input \(C,\), \(N, C\)"):
            F.cross_entropy(tk.zeros(*shape), Tensor(np.zeros(shape[:1], np.int64)))


@pytest.mark.parametrize("name", OF_LABELS)
def test_class_weights_of_another_shape_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"of shape \(3,\), one factor per class, got \(4,\)\."):
        getattr(F, name)(tk.zeros(2, 3), Tensor([0, 1]), weight=tk.ones(4))


# ------------------------------------------------------------------ reductions


@pytest.mark.parametrize("name", ELEMENTWISE + OF_PROBABILITIES + OF_LABELS)
@pytest.mark.parametrize("reduction", ["average", "", None, "Mean"])
def test_an_unknown_reduction_lists_the_known_ones(name: str, reduction: Any) -> None:
    x = tk.full((2, 3), 0.5)
    target = Tensor([0, 1]) if name in OF_LABELS else x
    with pytest.raises(ValueError) as caught:
        getattr(F, name)(x, target, reduction=reduction)
    for known in ('"mean"', '"sum"', '"none"', repr(reduction)):
        assert known in str(caught.value)


def test_only_kl_div_knows_batchmean() -> None:
    x, t = tk.full((2, 3), -1.0), tk.full((2, 3), 0.25)
    total = F.kl_div(x, t, reduction="sum").item()
    assert F.kl_div(x, t, reduction="batchmean").item() == pytest.approx(total / 2)
    with pytest.raises(ValueError, match='"batchmean"'):
        F.kl_div(x, t, reduction="median")
    with pytest.raises(ValueError, match="reduction"):
        F.mse_loss(x, t, reduction="batchmean")


@pytest.mark.parametrize("name", ELEMENTWISE + OF_PROBABILITIES + OF_LABELS)
def test_an_empty_batch_has_sum_0_and_no_mean(name: str) -> None:
    x = tk.zeros(0, 3, requires_grad=True)
    target = Tensor(np.zeros(0, np.int64)) if name in OF_LABELS else tk.zeros(0, 3)
    loss = getattr(F, name)
    total = loss(x, target, reduction="sum")
    assert total.item() == 0
    total.backward()
    assert x.grad is not None and x.grad.shape == (0, 3)
    assert loss(x, target, reduction="none").shape == ((0,) if name in OF_LABELS else (0, 3))
    with pytest.raises(ValueError, match="got an empty batch"):
        loss(x, target)


# ------------------------------------------------------------------ two outcomes


def exact(function: Any, x: np.ndarray) -> np.ndarray:
    """A float64 formula rounded to float32, once."""
    return function(x.astype(np.float64)).astype(np.float32)


TAILS = np.float32(
    [-103, -100, -88, -50, -20, -16, -5, -1, -1e-3, -0.0, 0, 1e-3, 1, 5, 16, 20, 50, 88, 100, 103]
)


@pytest.mark.parametrize("label", [0, 1])
def test_logits_keep_both_tails_to_the_last_bit(label: int) -> None:
    """For z = x or -x: the loss log(1 + exp(-z)), the slope -1 / (1 + exp(z)); nothing cancels."""
    x = Tensor(TAILS, requires_grad=True)
    sign = 1 if label else -1
    target = np.full(TAILS.shape, label, np.float32)
    loss = F.binary_cross_entropy_with_logits(x, target, reduction="none")
    loss.sum().backward()
    np.testing.assert_array_equal(
        loss.data, exact(lambda v: np.logaddexp(0, -sign * v), TAILS), strict=True
    )
    assert x.grad is not None
    np.testing.assert_array_equal(
        x.grad.data, exact(lambda v: -sign / (1 + np.exp(sign * v)), TAILS), strict=True
    )
    assert (loss.data > 0).all() and (x.grad.data != 0).all()


@given(st.floats(-80, 80, width=32), st.floats(0, 1, width=32))
def test_logits_equal_the_formula_for_every_target(x: float, t: float) -> None:
    logit = Tensor(np.float64([x]), requires_grad=True)
    loss = F.binary_cross_entropy_with_logits(logit, np.float64([t]), reduction="none")
    loss.sum().backward()
    wanted = t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x)
    np.testing.assert_allclose(loss.data, [wanted], rtol=1e-14)
    slope = (1 - t) / (1 + np.exp(-x)) - t / (1 + np.exp(x))
    assert logit.grad is not None
    np.testing.assert_allclose(logit.grad.data, [slope], rtol=1e-13, atol=1e-16)


def test_certain_probabilities_cost_at_most_100() -> None:
    p = Tensor([0.0, 1.0, 0.0, 1.0], requires_grad=True)
    loss = F.binary_cross_entropy(p, Tensor([0.0, 1.0, 1.0, 0.0]), reduction="none")
    np.testing.assert_array_equal(loss.data, [0, 0, 100, 100])
    loss.sum().backward()
    assert p.grad is not None and np.isfinite(p.grad.data).all()


@pytest.mark.parametrize("outside", [-0.25, 1.5])
def test_what_is_no_probability_is_refused(outside: float) -> None:
    with pytest.raises(ValueError, match=r"expected probabilities in \[0, 1\].*with_logits"):
        F.binary_cross_entropy(Tensor([0.5, outside]), Tensor([0.0, 1.0]))


def test_a_nan_probability_is_not_called_out_of_range() -> None:
    assert np.isnan(F.binary_cross_entropy(Tensor([np.nan, 0.5]), Tensor([0.0, 1.0])).data)


@pytest.mark.parametrize("name", OF_PROBABILITIES)
@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.float64])
def test_targets_of_any_dtype_keep_a_float32_loss(name: str, dtype: Any) -> None:
    target = np.array([0, 1, 1]).astype(dtype)
    x = Tensor([0.2, 0.3, 0.9], requires_grad=True)
    loss = getattr(F, name)(x, target)
    assert loss.dtype == np.float32
    assert loss.item() == pytest.approx(getattr(F, name)(x, target.astype(np.float32)).item())


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss"])
def test_a_float64_target_does_not_widen_a_float32_loss(name: str) -> None:
    assert getattr(F, name)(tk.ones(2), np.zeros(2)).dtype == np.float32
    assert getattr(F, name)(tk.ones(2), Tensor(np.zeros(2))).dtype == np.float32


def test_a_target_that_requires_grad_gets_one() -> None:
    target = Tensor([0.2, 0.7], requires_grad=True)
    F.binary_cross_entropy_with_logits(Tensor([1.5, -2.0]), target, reduction="sum").backward()
    assert target.grad is not None
    np.testing.assert_allclose(target.grad.data, [-1.5, 2.0], rtol=1e-6)


def test_pos_weight_is_what_a_positive_answer_counts() -> None:
    x, t = Tensor([[2.0, -1.0], [0.5, 3.0]]), Tensor([[1.0, 0.0], [0.0, 1.0]])
    plain = F.binary_cross_entropy_with_logits(x, t, reduction="none").data
    weighted = F.binary_cross_entropy_with_logits(
        x, t, reduction="none", pos_weight=Tensor([3.0, 5.0])
    ).data
    np.testing.assert_allclose(weighted, plain * [[3, 1], [1, 5]], rtol=1e-6)


# ------------------------------------------------------------------ labels


@pytest.mark.parametrize("name", OF_LABELS)
@pytest.mark.parametrize("label", [-1, 3, 300])
def test_a_label_out_of_range_is_named_with_its_place(name: str, label: int) -> None:
    with pytest.raises(
        IndexError, match=rf"label: expected one in \[0, 3\), got {label} at \(1,\)"
    ):
        getattr(F, name)(tk.zeros(3, 3), Tensor([0, label, 2]))


@pytest.mark.parametrize("name", OF_LABELS)
@pytest.mark.parametrize("dtype", [np.float32, np.bool_])
def test_labels_must_be_integers(name: str, dtype: Any) -> None:
    with pytest.raises(TypeError, match=rf"{name}: labels: expected integers, got .*astype"):
        getattr(F, name)(tk.zeros(2, 3), Tensor(np.zeros(2, dtype)))


def test_one_hot_integers_as_probabilities_are_explained() -> None:
    with pytest.raises(TypeError, match=r"a target of the input's shape \(2, 3\), got int64\."):
        F.cross_entropy(tk.zeros(2, 3), Tensor(np.eye(3, dtype=np.int64)[:2]))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_labels_of_every_integer_dtype(dtype: Any) -> None:
    x = Tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]])
    wanted = F.cross_entropy(x, Tensor([2, 0])).item()
    assert F.cross_entropy(x, np.array([2, 0], dtype)).item() == wanted
    assert F.cross_entropy(x, [2, 0]).item() == wanted


def test_gradient_of_cross_entropy_is_softmax_minus_one_hot() -> None:
    x = Tensor(np.array([[1.0, -2.0, 0.5], [3.0, 3.0, 0.0]]), requires_grad=True)
    F.cross_entropy(x, Tensor([2, 0]), reduction="sum").backward()
    assert x.grad is not None
    wanted = F.softmax(x.detach(), dim=1).data - np.eye(3)[[2, 0]]
    np.testing.assert_allclose(x.grad.data, wanted, rtol=1e-12)


def test_impossible_classes_cost_nothing_and_have_no_gradient() -> None:
    x = Tensor([[0.0, -np.inf, 0.0]], requires_grad=True)
    loss = F.cross_entropy(x, Tensor([0]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.data, [[-0.5, 0, 0.5]])


@pytest.mark.parametrize("name", OF_LABELS)
def test_ignored_samples_neither_count_nor_learn(name: str) -> None:
    loss = getattr(F, name)
    rows = np.float32([[1, 2, 3], [5, 0, 9], [0, 1, 0]])
    x, kept = Tensor(rows, requires_grad=True), Tensor(rows[[0, 2]], requires_grad=True)
    found, wanted = loss(x, Tensor([2, -100, 1])), loss(kept, Tensor([2, 1]))
    assert found.item() == pytest.approx(wanted.item())
    assert loss(x, Tensor([2, 1, 0]), ignore_index=1).item() != found.item()
    assert loss(x, Tensor([2, 7, 1]), ignore_index=7).item() == found.item()
    found.backward()
    wanted.backward()
    assert x.grad is not None and kept.grad is not None
    np.testing.assert_array_equal(x.grad.data[1], 0)
    np.testing.assert_allclose(x.grad.data[[0, 2]], kept.grad.data, rtol=1e-6)


@pytest.mark.parametrize("name", OF_LABELS)
def test_everything_ignored_is_nan_with_gradient_0(name: str) -> None:
    x = tk.ones(2, 3, requires_grad=True)
    loss = getattr(F, name)(x, Tensor([-100, -100]))
    assert math.isnan(loss.item())
    loss.backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.data, np.zeros((2, 3)))


def test_smoothed_labels_are_the_probabilities_they_stand_for() -> None:
    x = Tensor(np.array([[1.0, -2.0, 0.5], [3.0, 3.0, 0.0]]))
    soft = 0.7 * np.eye(3)[[2, 0]] + 0.3 / 3
    smoothed = F.cross_entropy(x, Tensor([2, 0]), label_smoothing=0.3)
    assert smoothed.item() == pytest.approx(F.cross_entropy(x, Tensor(soft)).item())
    with pytest.raises(ValueError, match=r"expected label_smoothing in \[0, 1\], got 1\.5\."):
        F.cross_entropy(x, Tensor([2, 0]), label_smoothing=1.5)


def test_the_mean_is_weighted_by_the_labels_that_count() -> None:
    x = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.25, 0.5, 0.25], [0.5, 0.3, 0.2]]))
    weight, labels = np.array([1.0, 2.0, 5.0]), np.array([0, 2, 1, 1])
    total = -(math.log(0.7) + 5 * math.log(0.8) + 2 * math.log(0.5) + 2 * math.log(0.3))
    for loss in (F.cross_entropy, F.nll_loss):
        assert loss(x, labels, weight) == pytest.approx(total / 10)
        assert loss(x, labels, weight, reduction="sum") == pytest.approx(total)
        kept = -(math.log(0.7) + 5 * math.log(0.8))
        assert loss(x, labels, weight, ignore_index=1) == pytest.approx(kept / 6)
        assert loss(x, labels, ignore_index=1) == pytest.approx(-math.log(0.7 * 0.8) / 2)


# ------------------------------------------------------------------ parameters


ERRORS = np.array([-3.0, -1.0, -0.5, 0.0, 0.25, 1.0, 2.5])
SIZES = np.abs(ERRORS)


@pytest.mark.parametrize(
    ("name", "words", "wanted"),
    [
        ("mse_loss", {}, SIZES**2),
        ("l1_loss", {}, SIZES),
        ("huber_loss", {}, np.where(SIZES <= 1, SIZES**2 / 2, SIZES - 0.5)),
        ("huber_loss", {"delta": 2.0}, np.where(SIZES <= 2, SIZES**2 / 2, 2 * (SIZES - 1))),
        ("smooth_l1_loss", {"beta": 2.0}, np.where(SIZES < 2, SIZES**2 / 4, SIZES - 1)),
        ("smooth_l1_loss", {"beta": 0.5}, np.where(SIZES < 0.5, SIZES**2, SIZES - 0.25)),
    ],
)
def test_a_regression_loss_is_its_formula(name: str, words: Any, wanted: np.ndarray) -> None:
    loss = getattr(F, name)
    zeros = np.zeros(7)
    np.testing.assert_allclose(loss(ERRORS, zeros, reduction="none", **words), wanted)
    assert loss(ERRORS, zeros, **words) == pytest.approx(wanted.mean())
    assert loss(ERRORS, zeros, reduction="sum", **words) == pytest.approx(wanted.sum())


@pytest.mark.parametrize("delta", [0.0, -1.0, math.nan])
def test_huber_needs_a_positive_delta(delta: float) -> None:
    with pytest.raises(ValueError, match="huber_loss: expected delta > 0, got"):
        F.huber_loss(tk.ones(2), tk.zeros(2), delta=delta)


def test_smooth_l1_refuses_a_negative_beta_and_is_l1_at_0() -> None:
    x, t = Tensor([1.0, -3.0]), tk.zeros(2)
    assert F.smooth_l1_loss(x, t, beta=0.0).item() == F.l1_loss(x, t).item()
    with pytest.raises(ValueError, match=r"smooth_l1_loss: expected beta >= 0, got -1\.0\."):
        F.smooth_l1_loss(x, t, beta=-1.0)


def test_huge_errors_do_not_overflow_where_the_loss_is_linear() -> None:
    x = Tensor([1e30, -1e30], requires_grad=True)
    loss = F.huber_loss(x, tk.zeros(2), reduction="sum")
    loss.backward()
    assert x.grad is not None and np.isfinite(loss.data)
    np.testing.assert_array_equal(x.grad.data, [1, -1])


def test_kl_of_impossible_outcomes_is_0_where_the_target_is_0() -> None:
    p = Tensor([0.5, 0.5, 0.0])
    x = Tensor(np.log(np.float32([0.5, 0.25, 0.25])), requires_grad=True)
    loss = F.kl_div(x, p, reduction="sum")
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * math.log(2))
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.data, [-0.5, -0.5, 0])


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        (F.cross_entropy, [0, 1]),
        (F.nll_loss, [0, 1]),
        (F.binary_cross_entropy_with_logits, [[0, 1], [1, 0]]),
    ],
)
def test_integers_as_scores_are_refused(loss: Any, target: Any) -> None:
    with pytest.raises(TypeError, match="floats"):
        loss(Tensor([[1, 2], [3, 4]]), Tensor(target))


# ------------------------------------------------------------------ what does not count


@pytest.mark.parametrize("name", [*ELEMENTWISE, *OF_PROBABILITIES])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "bool"])
def test_predictions_of_integers_are_refused_with_the_fix(name: str, dtype: str) -> None:
    """Their differences would wrap around: 0 - 200 is 56 in uint8."""
    x = np.array([0, 1]).astype(dtype)
    message = rf"{name}: expected floats, got {dtype}\(2,\)\. Convert with \.astype\(np\.float32\)"
    for target in (x, x.astype(np.float32)):
        for input in (x, Tensor(x)):
            with pytest.raises(TypeError, match=message):
                getattr(F, name)(input, Tensor(target))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_targets_of_integers_count_as_floats(name: str) -> None:
    x, t = Tensor([0.5, 1.0]), np.array([200, 100], np.uint8)
    expected = getattr(F, name)(x, Tensor(t.astype(np.float32)))
    assert getattr(F, name)(x, Tensor(t)).item() == getattr(F, name)(x, t).item() == expected.item()


FILLS = [-np.inf, np.inf, np.nan]
IGNORING: dict[str, Any] = {
    "plain": lambda x, t, w: F.cross_entropy(x, t),
    "sum": lambda x, t, w: F.cross_entropy(x, t, reduction="sum"),
    "none": lambda x, t, w: F.cross_entropy(x, t, reduction="none").sum(),
    "smoothed": lambda x, t, w: F.cross_entropy(x, t, label_smoothing=0.25),
    "weighted": lambda x, t, w: F.cross_entropy(x, t, w),
    "weighted, smoothed": lambda x, t, w: F.cross_entropy(x, t, w, label_smoothing=0.25),
    "nll": lambda x, t, w: F.nll_loss(x, t),
    "nll, weighted": lambda x, t, w: F.nll_loss(x, t, w),
}


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("loss", IGNORING)
def test_an_ignored_row_touches_no_gradient(loss: str, fill: float) -> None:
    """Value and gradients are those of a zero row, for logits and for class weights."""
    labels = Tensor([0, -100])
    found = []
    for last in (0.0, fill):
        x = Tensor(np.array([[1.0, 2.0, 3.0], [last] * 3]), requires_grad=True)
        w = Tensor(np.array([1.0, 2.0, 0.5]), requires_grad=True)
        y = IGNORING[loss](x, labels, w)
        y.backward()
        assert x.grad is not None
        np.testing.assert_array_equal(x.grad.data[1], 0)
        found.append([y.data, x.grad.data, w.grad.data if w.grad is not None else None])
    for expected, computed in zip(*found, strict=True):
        np.testing.assert_array_equal(computed, expected)


@pytest.mark.parametrize("fill", FILLS)
def test_an_ignored_row_with_more_axes_or_none(fill: float) -> None:
    x = np.ones((2, 3, 4))
    x[1, :, 2] = fill
    labels = np.zeros((2, 4), np.int64)
    labels[1, 2] = 7
    leaf = Tensor(x, requires_grad=True)
    F.cross_entropy(leaf, Tensor(labels), ignore_index=7).backward()
    assert leaf.grad is not None and np.isfinite(leaf.grad.data).all()
    vector = Tensor(np.full(3, fill), requires_grad=True)
    assert F.cross_entropy(vector, Tensor(1), ignore_index=1, reduction="sum").item() == 0
    F.cross_entropy(vector, Tensor(1), ignore_index=1, reduction="sum").backward()
    assert vector.grad is not None and vector.grad.tolist() == [0, 0, 0]


@pytest.mark.parametrize("loss", IGNORING)
def test_an_ignored_row_touches_no_gradient_compiled(loss: str) -> None:
    def step(x: Any, labels: Any, w: Any) -> Any:
        return tk.value_and_grad(lambda x, w: IGNORING[loss](x, labels, w), (0, 1))(x, w)

    compiled = tk.compile(step)
    x = np.random.default_rng(0).normal(size=(4, 3))
    w = Tensor(np.array([1.0, 2.0, 0.5]))
    for fill in (0.0, *FILLS, 0.0):
        x[1] = fill
        for labels in ([0, -100, 2, 1], [-100, -100, 1, 1]):
            arguments = Tensor(x), Tensor(labels), w
            close(step(*arguments), compiled(*arguments))
    assert compiled.programs, compiled.explain()


# ------------------------------------------------------------------ targets of 0


def test_a_target_of_0_beside_minus_infinity_adds_0() -> None:
    """As a class that is masked out by its logit has."""
    log_p = np.array([[np.log(0.25), np.log(0.75), -np.inf]])
    t = np.array([[0.5, 0.5, 0.0]])
    expected = -0.5 * (np.log(0.25) + np.log(0.75))
    x = Tensor(log_p, requires_grad=True)
    y = F.cross_entropy(x, Tensor(t))
    y.backward()
    assert y.item() == pytest.approx(expected, rel=1e-12)
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.data, [[-0.25, 0.25, 0]], atol=1e-15)
    weights = Tensor(np.array([2.0, 2.0, 1.0]))
    assert F.cross_entropy(x, Tensor(t), weights).item() == pytest.approx(2 * expected, rel=1e-12)
    entropy = np.log(0.5)
    x = Tensor(log_p, requires_grad=True)
    y = F.kl_div(x, Tensor(t), reduction="sum")
    y.backward()
    assert y.item() == pytest.approx(entropy + expected, rel=1e-12)
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.data, [[-0.5, -0.5, 0]])
    with np.errstate(divide="ignore"):
        log_t = Tensor(np.log(t), requires_grad=True)
    x = Tensor(log_p, requires_grad=True)
    y = F.kl_div(x, log_t, reduction="sum", log_target=True)
    y.backward()
    assert y.item() == pytest.approx(entropy + expected, rel=1e-12)
    assert x.grad is not None and log_t.grad is not None
    np.testing.assert_allclose(x.grad.data, [[-0.5, -0.5, 0]], atol=1e-15)
    assert np.isfinite(log_t.grad.data).all()


def test_a_target_above_0_beside_minus_infinity_costs_infinity() -> None:
    x, t = Tensor(np.array([[0.0, -np.inf]])), Tensor(np.array([[0.5, 0.5]]))
    assert F.cross_entropy(x, t).item() == F.kl_div(x, t).item() == np.inf


def test_probabilities_of_0_and_1_beside_their_targets() -> None:
    p = Tensor(np.array([0.0, 1.0]), requires_grad=True)
    y = F.binary_cross_entropy(p, Tensor(np.array([0.0, 1.0])), reduction="sum")
    y.backward()
    assert y.item() == 0
    assert p.grad is not None and p.grad.tolist() == [0, 0]


def test_targets_that_are_trained_keep_their_gradient() -> None:
    x = Tensor(np.array([[1.0, 2.0, 3.0]]))
    t = Tensor(np.array([[0.0, 0.5, 0.5]]), requires_grad=True)
    F.cross_entropy(x, t).backward()
    assert t.grad is not None
    np.testing.assert_allclose(t.grad.data, -F.log_softmax(x, 1).data, rtol=1e-14)


# ------------------------------------------------------------------ numbers


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", [*ELEMENTWISE, *OF_PROBABILITIES])
def test_a_loss_of_numbers(name: str, reduction: str) -> None:
    x, t = Tensor(np.array(0.25), requires_grad=True), Tensor(np.array(0.75))
    y = getattr(F, name)(x, t, reduction=reduction)
    vector = Tensor(np.array([0.25]), requires_grad=True)
    expected = getattr(F, name)(vector, Tensor(np.array([0.75])), reduction=reduction).sum()
    y.backward()
    expected.backward()
    assert y.shape == () and y.item() == expected.item()
    assert x.grad is not None and vector.grad is not None
    assert x.grad.shape == () and x.grad.item() == vector.grad.item()


def test_batchmean_of_numbers_divides_by_nothing() -> None:
    x, t = Tensor(np.array(0.3)), Tensor(np.array(0.2))
    y = F.kl_div(x, t, reduction="batchmean")
    assert y.shape == () and y.item() == pytest.approx(0.2 * (np.log(0.2) - 0.3), rel=1e-14)


# ------------------------------------------------------------------ sequences


@pytest.mark.parametrize("fill", FILLS)
def test_padding_of_a_sequence_touches_no_gradient(fill: float) -> None:
    logits = np.random.default_rng(0).normal(size=(1, 3, 4))
    logits[0, 2] = fill
    weights = np.array([[1.0, 2.0, 0.0]])
    for words in ({"weights": weights}, {"lengths": np.array([2])}):
        x = Tensor(logits, requires_grad=True)
        F.sequence_loss(x, np.array([[0, 3, 99]]), **words).backward()
        assert x.grad is not None and np.isfinite(x.grad.data).all()
        assert not x.grad.data[0, 2].any()


def test_weights_that_are_trained_have_the_loss_as_gradient() -> None:
    logits = np.random.default_rng(0).normal(size=(1, 3, 4))
    labels = np.array([[0, 3, 1]])
    w = Tensor(np.array([[1.0, 2.0, 0.0]]), requires_grad=True)
    F.sequence_loss(Tensor(logits), labels, w, reduction="sum").backward()
    expected = F.cross_entropy(Tensor(logits[0]), Tensor(labels[0]), reduction="none").data
    assert w.grad is not None
    np.testing.assert_allclose(w.grad.data[0], expected, rtol=1e-14)
