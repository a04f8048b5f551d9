"""examples/lectures/autoencoder.py: layers that learn to give their input back; fine-tuning."""

from __future__ import annotations

import numpy as np
import pytest
from lecture_programs import figures_of, program

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn

pytestmark = pytest.mark.trains

autoencoder = program("autoencoder")
figures = figures_of(autoencoder, seeds=2, pretrain_epochs=10, epochs=12)


def test_the_same_weights_encode_and_decode() -> None:
    tk.manual_seed(1)
    coder = autoencoder.Autoencoder(6, 3)
    assert {name for name, _ in coder.named_parameters()} == {"layer.weight", "layer.bias", "back"}
    x = np.random.default_rng(0).uniform(0, 1, (4, 6)).astype(np.float32)
    weight = coder.layer.weight.data
    h = 1 / (1 + np.exp(-(x @ weight.T)))
    np.testing.assert_allclose(coder.encode(Tensor(x)).data, h, rtol=1e-6)
    copy = 1 / (1 + np.exp(-(h @ weight)))
    np.testing.assert_allclose(coder.decode(Tensor(h)).data, copy, rtol=1e-6)
    np.testing.assert_allclose(autoencoder.up_and_down([coder], x), copy, rtol=1e-5)
    np.testing.assert_array_equal(autoencoder.up_and_down([], x), x)


def test_the_deep_sigmoid_net_learns_only_when_pre_trained(figures: dict[str, float]) -> None:
    assert figures[f"{autoencoder.PLAIN}, all labels: highest"] < 0.2
    assert figures[f"{autoencoder.PRETRAINED}, all labels: lowest"] > 0.8
    assert figures[f"{autoencoder.HE}, all labels: lowest"] > 0.8


def test_where_labels_are_few_pre_training_is_ahead(figures: dict[str, float]) -> None:
    pretrained = figures[f"{autoencoder.PRETRAINED}, few labels: accuracy"]
    assert pretrained > figures[f"{autoencoder.HE}, few labels: accuracy"] > 0.5


def test_a_digit_comes_back_through_all_layers(figures: dict[str, float]) -> None:
    errors = [figures[f"through {depth} layers and back: error"] for depth in (1, 2, 3, 4)]
    variance = autoencoder.digit_rows("test")[0].var(axis=0).mean()
    assert all(0 < error < 0.5 * variance for error in errors)


def test_the_net_has_the_encoders_as_its_layers() -> None:
    tk.manual_seed(0)
    images = autoencoder.digit_rows("train")[0][:50]
    epochs: list[None] = []
    coders = autoencoder.pretrained_layers(images, (5, 4), 2, lambda: epochs.append(None))
    net = autoencoder.classifier(coders)
    assert len(epochs) == 4
    assert net[0] is coders[0].layer and net[2] is coders[1].layer
    assert [type(layer) for layer in net] == [nn.Linear, nn.Sigmoid] * 2 + [nn.Linear]
    assert net[4].weight.shape == (10, 4)
