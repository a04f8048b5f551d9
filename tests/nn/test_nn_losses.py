"""Losses as modules: their settings, buffers and derivatives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import nn
from tinygrad_kr.testing import check_grads

RANDOM = np.random.default_rng(21)
LABELS = np.array([0, 2, 1, 2, 0])
WEIGHTS = np.array([0.5, 1.0, 2.0])
REAL = RANDOM.standard_normal((5, 3))
SHARES = RANDOM.random((5, 3)) + 0.1
SHARES /= SHARES.sum(1, keepdims=True)

# A loss, an input and a target for each setting.
LOSSES: dict[str, tuple[Any, np.ndarray, np.ndarray]] = {
    "MSELoss": (nn.MSELoss(), REAL, SHARES),
    "MSELoss, none": (nn.MSELoss(reduction="none"), REAL, SHARES),
    "L1Loss": (nn.L1Loss(reduction="sum"), REAL, SHARES),
    "SmoothL1Loss": (nn.SmoothL1Loss(beta=0.3), REAL, SHARES),
    "HuberLoss": (nn.HuberLoss(delta=0.4), REAL, SHARES),
    "BCELoss": (nn.BCELoss(WEIGHTS), SHARES, SHARES[::-1].copy()),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss(WEIGHTS, pos_weight=WEIGHTS + 1), REAL, SHARES),
    "CrossEntropyLoss": (
        nn.CrossEntropyLoss(WEIGHTS, ignore_index=1, label_smoothing=0.1), REAL, LABELS
    ),
    "CrossEntropyLoss, shares": (nn.CrossEntropyLoss(reduction="sum"), REAL, SHARES),
    "NLLLoss": (nn.NLLLoss(WEIGHTS, ignore_index=2), REAL, LABELS),
    "KLDivLoss": (nn.KLDivLoss(reduction="batchmean"), REAL, SHARES),
    "KLDivLoss, log": (nn.KLDivLoss(reduction="sum", log_target=True), REAL, np.log(SHARES)),
}  # fmt: skip


def test_every_loss_is_in_the_table() -> None:
    losses = {name for name in nn.__all__ if name.endswith("Loss")}
    assert {name.split(",")[0] for name in LOSSES} == losses


@pytest.mark.parametrize("name", LOSSES)
def test_derivatives(name: str) -> None:
    loss, x, t = LOSSES[name]
    if name == "CrossEntropyLoss, shares":
        check_grads(lambda x: loss(x, tk.Tensor(t)), (x,), order=2)
    else:
        check_grads(loss, (x, t), order=2)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(name: str, dtype: Any) -> None:
    loss, x, t = LOSSES[name]
    target = tk.Tensor(t if t.dtype.kind == "i" else t.astype(dtype))
    assert loss.to(dtype)(tk.Tensor(x.astype(dtype)), target).dtype == dtype
    loss.to(np.float64)


@pytest.mark.parametrize(
    ("loss", "function", "target"),
    [
        (nn.MSELoss(reduction="sum"), lambda x, t: F.mse_loss(x, t, reduction="sum"), SHARES),
        (nn.L1Loss(), F.l1_loss, SHARES),
        (nn.SmoothL1Loss(beta=0.2), lambda x, t: F.smooth_l1_loss(x, t, beta=0.2), SHARES),
        (nn.HuberLoss(delta=0.2), lambda x, t: F.huber_loss(x, t, delta=0.2), SHARES),
        (
            nn.BCEWithLogitsLoss(WEIGHTS, reduction="sum", pos_weight=WEIGHTS + 2),
            lambda x, t: F.binary_cross_entropy_with_logits(
                x, t, WEIGHTS, "sum", tk.Tensor(WEIGHTS + 2)
            ),
            SHARES,
        ),
        (
            nn.CrossEntropyLoss(WEIGHTS, ignore_index=2, reduction="sum", label_smoothing=0.2),
            lambda x, t: F.cross_entropy(x, t, tk.Tensor(WEIGHTS), 2, "sum", 0.2),
            LABELS,
        ),
        (
            nn.NLLLoss(WEIGHTS, ignore_index=0, reduction="none"),
            lambda x, t: F.nll_loss(x, t, tk.Tensor(WEIGHTS), 0, "none"),
            LABELS,
        ),
        (
            nn.KLDivLoss(reduction="sum", log_target=True),
            lambda x, t: F.kl_div(x, t, "sum", True),
            np.log(SHARES),
        ),
    ],
    ids=lambda value: repr(value) if isinstance(value, nn.Module) else "",
)
def test_settings_reach_the_function(loss: nn.Module, function: Any, target: Any) -> None:
    x, t = tk.Tensor(REAL), tk.Tensor(target)
    np.testing.assert_array_equal(loss(x, t).data, function(x, t).data)


def test_settings_of_the_binary_loss_reach_the_function() -> None:
    p, t = tk.Tensor(SHARES), tk.Tensor(SHARES[::-1].copy())
    found = nn.BCELoss(WEIGHTS, reduction="none")(p, t).data
    wanted = -(t.data * np.log(p.data) + (1 - t.data) * np.log(1 - p.data)) * WEIGHTS
    np.testing.assert_allclose(found, wanted)


def test_uniform_predictions_cost_the_logarithm_of_the_classes() -> None:
    loss = nn.CrossEntropyLoss()(tk.zeros(4, 10), tk.tensor([0, 3, 5, 9]))
    assert loss.item() == pytest.approx(math.log(10))


@pytest.mark.parametrize(
    "make",
    [getattr(nn, name) for name in nn.__all__ if name.endswith("Loss")],
    ids=lambda make: make.__name__,
)
def test_an_unknown_reduction_is_refused_at_once(make: Any) -> None:
    with pytest.raises(ValueError, match=r"expected reduction in mean, .*, got 'average'\."):
        make(reduction="average")
    if make is not nn.KLDivLoss:
        with pytest.raises(ValueError, match="batchmean"):
            make(reduction="batchmean")


def test_label_smoothing_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"expected label_smoothing in \[0, 1\], got 1\.5\."):
        nn.CrossEntropyLoss(label_smoothing=1.5)


def test_weights_are_buffers() -> None:
    loss = nn.BCEWithLogitsLoss([1.0, 2.0], pos_weight=tk.tensor([3.0, 4.0]))
    assert {key: value.tolist() for key, value in loss.state_dict().items()} == {
        "weight": [1, 2], "pos_weight": [3, 4]
    }  # fmt: skip
    assert list(loss.parameters()) == []
    assert loss.double().weight.dtype == np.float64  # type: ignore[union-attr]
    assert nn.CrossEntropyLoss().state_dict() == {}


def test_a_shape_that_would_broadcast_is_refused() -> None:
    """The lectures' bias of shape (5,) on one output makes (4, 5) of (4, 1)."""
    with pytest.raises(ValueError, match=r"\(4, 5\).*\(4, 1\)"):
        nn.BCEWithLogitsLoss()(tk.zeros(4, 5), tk.zeros(4, 1))
