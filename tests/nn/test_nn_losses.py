"""Losses as modules: their settings, buffers and derivatives."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
from layer_samples import LOSSES

import tinygrad_kr as tk
from tinygrad_kr import nn
from tinygrad_kr.testing import check_grads


def test_every_loss_is_in_the_table() -> None:
    losses = {name for name in nn.__all__ if name.endswith("Loss")}
    assert {loss.kind for loss in LOSSES.values()} == losses


@pytest.mark.parametrize("name", LOSSES)
def test_derivatives(name: str) -> None:
    sample = LOSSES[name]
    loss, x, t = sample.make(), sample.input, sample.target
    others = sample.others()
    if sample.targets_differ:
        check_grads(lambda x, t: loss(x, t, *others), (x, t), order=2)
    else:
        check_grads(lambda x: loss(x, tk.Tensor(t), *others), (x,), order=2)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(name: str, dtype: Any) -> None:
    _, x, t, *_ = LOSSES[name]
    target = tk.Tensor(t if t.dtype.kind == "i" else t.astype(dtype))
    loss = LOSSES[name].make().to(dtype)
    assert loss(tk.Tensor(x.astype(dtype)), target, *LOSSES[name].others(dtype)).dtype == dtype


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.function])
def test_settings_reach_the_function(name: str) -> None:
    loss, function = LOSSES[name], LOSSES[name].function
    assert function is not None
    x, t = tk.Tensor(loss.input), tk.Tensor(loss.target)
    found = loss.make()(x, t, *loss.others())
    np.testing.assert_array_equal(found.data, function(x, t).data)


@pytest.mark.parametrize("name", LOSSES)
def test_copies_behave_alike(name: str) -> None:
    sample = LOSSES[name]
    loss, loaded = sample.make(), sample.make()
    loaded.load_state_dict(loss.state_dict())
    x, t = tk.Tensor(sample.input), tk.Tensor(sample.target)
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)), loaded):
        found, expected = twin(x, t, *sample.others()), loss(x, t, *sample.others())
        np.testing.assert_array_equal(found.data, expected.data)


@pytest.mark.parametrize("name", LOSSES)
def test_the_reduction_is_shown(name: str) -> None:
    loss = LOSSES[name]
    reduction = loss.settings.get("reduction", "mean")
    assert repr(loss.make()).startswith(loss.kind + "(")
    assert f"reduction={reduction!r}" in repr(loss.make())


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
