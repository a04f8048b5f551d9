"""The CTC loss against the sum over all alignments, and what it refuses."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor
from tinygrad_kr.ops import ctc

LOGITS = np.random.default_rng(0).standard_normal((5, 3, 3))
LOG_PROBS = LOGITS - np.log(np.exp(LOGITS).sum(2, keepdims=True))


def by_alignments(log_probs: Any, labels: list[int], blank: int) -> float:
    """-log of the probability, by a sum over every path of the classes."""
    total = 0.0
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        runs = [c for c, _ in itertools.groupby(path) if c != blank]
        if runs == labels:
            total += math.exp(sum(log_probs[t, c] for t, c in enumerate(path)))
    return -math.log(total) if total else math.inf


@pytest.mark.parametrize("blank", [0, 1, 2])
def test_it_is_the_sum_over_all_alignments(blank: int) -> None:
    a, b = (c for c in range(3) if c != blank)
    labels = [[a, a, b], [b], []]
    lengths = [5, 4, 3]
    padded = np.array([[*row, *[-9] * (3 - len(row))] for row in labels])
    found = F.ctc_loss(Tensor(LOG_PROBS), padded, lengths, [3, 1, 0], blank, "none")
    expected = [
        by_alignments(LOG_PROBS[:n, i], row, blank)
        for i, (n, row) in enumerate(zip(lengths, labels, strict=True))
    ]
    np.testing.assert_allclose(found.data, expected, rtol=1e-12)
    joined = np.array([*labels[0], *labels[1]])
    apart = F.ctc_loss(Tensor(LOG_PROBS), joined, lengths, np.array([3, 1, 0]), blank, "none")
    np.testing.assert_array_equal(apart.data, found.data)
    mean = F.ctc_loss(Tensor(LOG_PROBS), padded, lengths, [3, 1, 0], blank)
    assert mean.item() == pytest.approx(np.mean(np.divide(expected, [3, 1, 1])))


def test_a_sequence_that_does_not_fit() -> None:
    """Two equal labels need three steps."""
    x = Tensor(LOG_PROBS[:2, :1], requires_grad=True)
    given = (np.array([[1, 1]]), [2], [2])
    assert F.ctc_loss(x, *given).item() == math.inf
    loss = F.ctc_loss(x, *given, zero_infinity=True)
    loss.backward()
    assert loss.item() == 0 and x.grad is not None and not x.grad.data.any()


def test_the_gradient_of_the_logits_is_softmax_less_the_expected_counts() -> None:
    x = Tensor(LOGITS, requires_grad=True)
    labels = np.array([[1, 2], [2, 2], [1, 0]])
    F.ctc_loss(F.log_softmax(x, 2), labels, [5, 5, 2], [2, 2, 1], reduction="sum").backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.data.sum(2), 0, atol=1e-12)
    assert not x.grad.data[2:, 2].any() and x.grad.data[:2, 2].any()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.ones((3, 2), int), [5, 5], [1, 1, 1]), ValueError, r"input_lengths of shape \(3,\)"),
        ((np.ones((3, 2), int), [6, 5, 5], [1, 1, 1]), ValueError, r"input_lengths in \[0, 5\]"),
        ((np.ones((3, 2), int), [5, 5, 5], [3, 1, 1]), ValueError, r"target_lengths in \[0, 2\]"),
        ((np.ones((2, 2), int), [5, 5, 5], [1, 1, 1]), ValueError, r"targets of shape \(3, S\)"),
        ((np.ones(4, int), [5, 5, 5], [1, 1, 1]), ValueError, "3 labels, .*, got 4"),
        (
            (np.full((3, 1), 3), [5, 5, 5], [1, 1, 1]),
            IndexError,
            r"label: expected one in \[0, 3",
        ),
        ((np.ones((3, 1)), [5, 5, 5], [1, 1, 1]), TypeError, "targets: expected integers"),
        ((np.ones((3, 1), int), [5.0, 5, 5], [1, 1, 1]), TypeError, "expected integers"),
        ((np.ones((3, 1), int), [5] * 3, [1] * 3, 3), ValueError, r"blank in \[0, 3\), got 3"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=f"^ctc_loss: .*{message}|^ctc_loss: {message}"):
        F.ctc_loss(Tensor(LOG_PROBS), *arguments)


def test_compiled_with_other_labels_and_lengths() -> None:
    def loss(x: Tensor, labels: Tensor, steps: Tensor, counts: Tensor) -> Any:
        return tk.grad(lambda x: F.ctc_loss(x, labels, steps, counts))(x)

    compiled = tk.compile(loss)
    random = np.random.default_rng(1)
    for _ in range(4):
        given = (random.integers(1, 3, (3, 2)), random.integers(3, 6, 3), random.integers(0, 3, 3))
        given = tuple(map(Tensor, given))
        x = Tensor(LOG_PROBS)
        np.testing.assert_allclose(compiled(x, *given).data, loss(x, *given).data, atol=1e-12)
    assert compiled.programs, compiled.explain()
    bad = (Tensor(np.full((3, 2), 3)), Tensor(np.array([5, 5, 5])), Tensor(np.array([2, 2, 2])))
    with pytest.raises(IndexError, match="ctc_loss: label"):
        compiled(Tensor(LOG_PROBS), *bad)


# ------------------------------------------------------------------ the record and its kernel


def batch_of(steps: int, batch: int, classes: int, most: int, dtype: Any = np.float64) -> Any:
    random = np.random.default_rng(steps)
    logits = random.standard_normal((steps, batch, classes))
    x = logits - np.log(np.exp(logits).sum(2, keepdims=True))
    x[random.random(x.shape) < 0.05] = -np.inf
    labels = random.integers(0, classes, (batch, most))
    lengths, counts = random.integers(0, steps + 1, batch), random.integers(0, most + 1, batch)
    return x.astype(dtype), labels, lengths, counts


def value_and_slope(x: Any, labels: Any, lengths: Any, counts: Any, blank: int) -> Any:
    tensor = Tensor(x, requires_grad=True)
    loss = F.ctc_loss(tensor, labels, lengths, counts, blank, "none")
    g = np.linspace(1, 2, len(counts)).astype(x.dtype)
    loss.backward(Tensor(g))
    assert tensor.grad is not None
    return loss.data, tensor.grad.data


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(30, 9, 5, 8), (7, 40, 3, 0), (1, 50, 4, 1), (60, 1, 2, 20)])
def test_the_kernel_gives_what_numpy_gives(
    sizes: tuple[int, ...], dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = batch_of(*sizes, dtype)
    exact = value_and_slope(given[0].astype(np.float64), *given[1:], blank=1)
    monkeypatch.setattr(ctc, "_MIN_WORK", 0)
    unit = 1e-4 if dtype == np.float32 else 1e-11
    for found, wanted in zip(value_and_slope(*given, blank=1), exact, strict=True):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, wanted, unit, unit)


def test_no_steps_and_no_labels() -> None:
    loss, slope = value_and_slope(
        LOG_PROBS, np.array([[1, 1], [1, 1], [1, 2]]), np.array([0, 0, 2]), np.array([0, 1, 2]), 0
    )
    assert loss[0] == 0 and loss[1] == math.inf and math.isfinite(loss[2])
    assert not slope[:, :2].any() and (slope[[0, 1], 2, [1, 2]] == -2).all()


def test_one_record_and_its_second_derivative() -> None:
    x = Tensor(LOG_PROBS, requires_grad=True)
    labels, steps, counts = np.array([[1, 2], [2, 2], [1, 0]]), [5, 4, 2], [2, 2, 1]
    loss = F.ctc_loss(x, labels, steps, counts, reduction="none")
    assert loss._op is ctc.ctc and loss._inputs[0] is x

    def slope(x: Any) -> Any:
        return tk.grad(lambda x: F.ctc_loss(x, labels, steps, counts, reduction="sum"))(x)

    direction = np.random.default_rng(2).standard_normal(LOG_PROBS.shape)
    found = tk.grad(lambda x: (slope(x) * direction).sum())(Tensor(LOG_PROBS)).data
    step = 1e-5 * direction
    numeric = (slope(Tensor(LOG_PROBS + step)).data - slope(Tensor(LOG_PROBS - step)).data) / 2e-5
    np.testing.assert_allclose(found, numeric, atol=1e-8)  # the Hessian is symmetric
