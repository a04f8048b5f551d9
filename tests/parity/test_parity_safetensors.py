"""`.safetensors` goes to PyTorch and back through the library itself, for every layer of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="the databases import it")
pytest.importorskip("safetensors")

from safetensors.torch import load_file, save_file, save_model  # noqa: E402
from test_parity_state_dicts import LAYERS, samples  # noqa: E402

import tinygrad_kr as tk  # noqa: E402
from tinygrad_kr import nn  # noqa: E402


def same(ours: nn.Module, theirs: Any) -> bool:
    found, expected = ours.state_dict(), theirs.state_dict()
    return list(found) == list(expected) and all(
        np.array_equal(found[key], value.numpy(), equal_nan=True) for key, value in expected.items()
    )


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")  # PyTorch's
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_goes_both_ways(name: str, dtype: Any, tmp_path: Path) -> None:
    path, seen = tmp_path / "layer.safetensors", set()
    for ours, theirs, _, _ in samples(name, dtype):
        forms = tuple((key, array.shape) for key, array in ours.state_dict().items())
        if forms in seen:
            continue
        seen.add(forms)
        save_file({key: value.clone() for key, value in theirs.state_dict().items()}, path)
        assert tk.load(path, model=ours) is None
        assert same(ours, theirs)
        for tensor in (*ours.parameters(), *ours.buffers()):
            tensor.data[...] = 3
        tk.save(path, model=ours)
        theirs.load_state_dict(load_file(path))
        assert same(ours, theirs)
    assert seen


def test_a_tied_weight_that_save_model_writes_once(tmp_path: Path) -> None:
    def net(library: Any) -> Any:
        made = library.Sequential(library.Embedding(5, 3), library.Linear(3, 5, bias=False))
        made[1].weight = made[0].weight
        return made

    ours, theirs = net(nn), net(torch.nn)
    save_model(theirs, tmp_path / "net.safetensors")
    assert len(load_file(tmp_path / "net.safetensors")) == 1
    tk.load(tmp_path / "net.safetensors", model=ours)
    assert same(ours, theirs)
    assert ours[0].weight is ours[1].weight


def test_bfloat16_names_what_converts_it(tmp_path: Path) -> None:
    theirs, ours = torch.nn.Linear(2, 1).bfloat16(), nn.Linear(2, 1)
    save_file(theirs.state_dict(), tmp_path / "net.safetensors")
    with pytest.raises(RuntimeError, match=r"got BF16 \(tk\.interop\.from_torch_state_dict "):
        tk.load(tmp_path / "net.safetensors", model=ours)
    tk.interop.from_torch_state_dict(ours, load_file(tmp_path / "net.safetensors"))
    np.testing.assert_array_equal(ours.weight.data, theirs.weight.detach().float().numpy())
