"""examples/lectures/lego.py: skips keep deep nets trainable; branches are joined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lecture_programs import program

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn

pytestmark = pytest.mark.trains

lego = program("lego")


@pytest.fixture(scope="module")
def results() -> tuple[dict[str, float], dict[str, Any]]:
    keep: dict[str, Any] = {}
    figures = lego.run(starts=10, steps=3_000, depths=(1, 20), seeds=2, epochs=6, keep=keep)
    return figures, keep


def test_a_skip_adds_its_input() -> None:
    linear = nn.Linear(4, 4)
    x = Tensor(np.arange(8.0).reshape(2, 4))
    skipped = lego.Skip(linear, nn.Tanh())(x)
    np.testing.assert_allclose(skipped.data, x.data + np.tanh(linear(x).data), rtol=1e-6)


def test_branches_see_the_same_input_and_are_joined_in_order() -> None:
    x = Tensor(np.arange(12.0).reshape(1, 3, 2, 2), requires_grad=True)
    merged = lego.SplitMerge(nn.Identity(), nn.Conv2d(3, 2, 1), nn.Identity())(x)
    assert merged.shape == (1, 8, 2, 2)
    np.testing.assert_array_equal(merged.data[:, :3], x.data)
    np.testing.assert_array_equal(merged.data[:, 5:], x.data)
    merged[:, [0, 5]].sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.data[0, 0], np.full((2, 2), 2.0))


def test_many_xor_nets_in_one_are_each_their_own() -> None:
    tk.manual_seed(0)
    nets = lego.xor_nets("skips", 3)
    x = Tensor(np.array([[0.0, 1.0], [1.0, 1.0]]))
    whole = nets(x).data
    for n in range(3):
        alone = lego.xor_nets("skips", 1)
        state = {key: array[n : n + 1] for key, array in nets.state_dict().items()}
        alone.load_state_dict(state)
        np.testing.assert_allclose(alone(x).data[0], whole[n], rtol=1e-5)
    assert whole.shape == (3, 2, 1) and len(list(nets.parameters())) == 22


@pytest.mark.slow
def test_only_nets_with_skips_learn_xor_ten_sigmoid_layers_deep(results: Any) -> None:
    figures, keep = results
    assert figures["XOR, ten sigmoid layers, plain: learned"] == 0
    assert figures["XOR, ten sigmoid layers, skips: learned"] >= 0.7
    np.testing.assert_allclose(keep["xor plain"][-1], np.log(2), atol=0.01)
    assert np.median(keep["xor skips"][-1]) < 0.05


@pytest.mark.slow
def test_skips_keep_accuracy_and_gradient_at_depth(results: Any) -> None:
    figures, keep = results
    assert figures["digits, 1 tanh layers, plain: accuracy"] > 0.8
    assert figures["digits, 20 tanh layers, plain: accuracy"] < 0.3
    assert figures["digits, 20 tanh layers, skips: accuracy"] > 0.8
    assert figures["digits, 20 layers, plain: first gradient over last"] < 1e-3
    assert 0.2 < figures["digits, 20 layers, skips: first gradient over last"] < 5
    assert len(keep["digits skips 20"][1]) == 20


def test_he_s_start_and_skips_do_not_go_together() -> None:
    images = np.random.default_rng(0).random((50, 64), np.float32)
    norms = {}
    for start in ("default", "he"):
        tk.manual_seed(0)
        net = lego.deep_net("skips", 40, nn.ReLU, start)
        norms[start] = np.linalg.norm(net(Tensor(images)).data)
    assert norms["he"] > 1e4 * norms["default"]


@pytest.mark.slow
def test_both_image_nets_have_as_many_parameters(results: Any) -> None:
    figures, keep = results
    assert figures["digits, one convolution: parameters"] == 6418
    assert figures["digits, four branches: parameters"] == 6418
    assert min(keep["one"] + keep["split"]) > 0.6
