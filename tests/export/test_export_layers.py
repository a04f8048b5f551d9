"""Every layer and loss, exported: onnx's checker, ONNX Runtime at another batch, and read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_checks import arrays_of, assert_close, resized, run_onnx
from onnx_samples import REFUSED, SAMPLES, layers

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn, tree

onnx = pytest.importorskip("onnx")


def exported(name: str, path: Path) -> tuple[Any, Any]:
    """A layer whose file is at `path`, and an example of another size of the batch."""
    sample = SAMPLES[name]
    model = sample.make()
    tk.export.onnx(model, sample.example, path, batch_axis=sample.batch_axis)
    return model.eval(), resized(sample.example, sample.batch_axis, 4)


@pytest.mark.parametrize("name", SAMPLES)
def test_onnx_runtime_computes_what_eager_does(name: str, tmp_path: Path) -> None:
    path = tmp_path / "layer.onnx"
    model, example = exported(name, path)
    onnx.checker.check_model(str(path), full_check=True)
    expected = arrays_of(model(*map(tensors, example)))
    assert_close(run_onnx(path, *tree.flatten(example)[0]), expected)


def tensors(x: Any) -> Any:
    leaves, rebuild = tree.flatten(x)
    return rebuild([Tensor(leaf) for leaf in leaves])


@pytest.mark.parametrize("name", SAMPLES)
def test_it_is_read_again_with_its_state(name: str, tmp_path: Path) -> None:
    path = tmp_path / "layer.onnx"
    model, example = exported(name, path)
    loaded = tk.load_onnx(path)
    expected = arrays_of(model(*map(tensors, example)))
    assert_close(arrays_of(loaded(*tree.flatten(example)[0])), expected)
    state = model.state_dict()
    assert {key: x.tolist() for key, x in loaded.state_dict().items()} == {
        key: state[key].tolist() for key in loaded.state_dict()
    }
    trained = {key for key, _ in model.named_parameters()}
    assert {key for key, _ in loaded.named_parameters()} == trained & {*loaded.state_dict()}


@pytest.mark.parametrize("name", SAMPLES)
def test_float64_is_written_too(name: str, tmp_path: Path) -> None:
    sample = SAMPLES[name]
    model = sample.make().double()
    leaves, rebuild = tree.flatten(sample.example)
    example = rebuild([x.astype(np.float64) if x.dtype.kind == "f" else x for x in leaves])
    path = tmp_path / "layer.onnx"
    tk.export.onnx(model, example, path, batch_axis=sample.batch_axis)
    onnx.checker.check_model(str(path), full_check=True)
    more = resized(example, sample.batch_axis, 4)
    expected = arrays_of(model.eval()(*map(tensors, more)))
    assert_close(arrays_of(tk.load_onnx(path)(*tree.flatten(more)[0])), expected, 1e-12)


def test_at_least_nine_of_ten_layers_are_exported() -> None:
    kinds = {sample.kind for sample in SAMPLES.values()}
    assert {*layers()} == kinds | {*REFUSED}
    assert len(kinds) >= 0.9 * len(layers())


@pytest.mark.parametrize("name", REFUSED)
def test_a_layer_that_is_not_in_the_table_is_refused(name: str, tmp_path: Path) -> None:
    make, example = REFUSED[name]
    with pytest.raises(tk.export.ExportError, match=r"export\.onnx: .*(\.data|got fold in)"):
        tk.export.onnx(make(), example, tmp_path / "layer.onnx")
    assert not [*tmp_path.iterdir()]


def test_the_equivalent_net_of_a_dbn_is_exported(tmp_path: Path) -> None:
    net = nn.DBN([4, 3, 2], n_classes=3).network()
    tk.export.onnx(net, tk.zeros(1, 4), tmp_path / "net.onnx")
    x = np.random.default_rng(0).random((7, 4), np.float32)
    assert_close(run_onnx(tmp_path / "net.onnx", x), arrays_of(net(Tensor(x))))
