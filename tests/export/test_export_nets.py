"""Whole nets as ONNX files: ONNX Runtime agrees, and what is read back is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_checks import arrays_of, assert_close, resized, run_onnx
from onnx_nets import NETS

import tinygrad_kr as tk
from tinygrad_kr import Tensor, optim

onnx = pytest.importorskip("onnx")


@pytest.fixture(params=NETS)
def net(request: Any, tmp_path: Path) -> Any:
    """A net, its example and its file."""
    make, example = NETS[request.param]
    model = make()
    tk.export.onnx(model, example, tmp_path / "net.onnx")
    return model, example, tmp_path / "net.onnx"


def loss_of(model: Any, x: np.ndarray) -> Any:
    return (model(Tensor(x)) ** 2).mean()


@pytest.mark.parametrize("batch", [1, 4])
def test_onnx_runtime_agrees_at_other_batch_sizes(net: Any, batch: int) -> None:
    model, example, path = net
    onnx.checker.check_model(str(path), full_check=True)
    x = resized(example, 0, batch)
    with tk.no_grad():
        assert_close(run_onnx(path, x), arrays_of(model.eval()(Tensor(x))))


def test_it_is_exported_in_eval_mode_and_keeps_its_modes(net: Any) -> None:
    model = net[0]
    assert all(module.training for module in model.modules())
    model.eval()
    inner = [*model.modules()][1].train()
    tk.export.onnx(model, net[1], net[2])
    assert [module for module in model.modules() if module.training] == [*inner.modules()]


def test_initializers_are_the_state_dict(net: Any) -> None:
    model, _, path = net
    state = model.state_dict()
    names = {each.name for each in onnx.load(path).graph.initializer}
    counters = {name for name in state if name.endswith("num_batches_tracked")}
    assert names == {*state} - counters
    for each in onnx.load(path).graph.initializer:
        assert np.array_equal(onnx.numpy_helper.to_array(each), state[each.name])


def test_what_is_read_has_the_same_gradients(net: Any) -> None:
    model, example, path = net
    loaded = tk.load_onnx(path)
    x = resized(example, 0, 3)
    for each in (model.eval(), loaded):
        loss_of(each, x).backward()
    for name, parameter in loaded.named_parameters():
        expected = model.get_parameter(name).grad.numpy()
        np.testing.assert_allclose(parameter.grad.numpy(), expected, rtol=2e-4, atol=1e-6)
    assert {name for name, _ in loaded.named_parameters()} == {
        name for name, _ in model.named_parameters()
    }


def test_what_is_read_is_trained_compiled_saved_and_exported_again(
    net: Any, tmp_path: Path
) -> None:
    _, example, path = net
    twins = [tk.load_onnx(path), tk.load_onnx(path)]
    optimizers = [optim.SGD(each.parameters(), lr=0.05) for each in twins]
    x = Tensor(resized(example, 0, 3))

    def step(model: Any, optimizer: Any) -> Any:
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    compiled = tk.compile(lambda: step(twins[1], optimizers[1]))
    losses = [(step(twins[0], optimizers[0]).item(), compiled().item()) for _ in range(6)]
    assert "run as written" not in str(compiled.explain())
    assert compiled.programs
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=1e-4)
    assert losses[-1][0] < losses[0][0]
    third = tk.load_onnx(path)
    third.load_state_dict(twins[0].state_dict())
    assert_close(arrays_of(third(x)), arrays_of(twins[0](x)), 0)
    tk.export.onnx(twins[0], example, tmp_path / "again.onnx")
    assert_close(run_onnx(tmp_path / "again.onnx", x.numpy()), arrays_of(twins[0](x)))
    assert {*tk.load_onnx(tmp_path / "again.onnx").state_dict()} == {*third.state_dict()}
