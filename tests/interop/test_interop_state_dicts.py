"""State dicts of PyTorch's without PyTorch: arrays in their place, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor, data, interop, nn, optim


class Tensorlike:
    """What `from_torch_state_dict` calls of a tensor of PyTorch's."""

    def __init__(self, array: Any, dtype: str = "torch.float32") -> None:
        self.array, self.dtype, self.steps = np.asarray(array), dtype, ""

    def detach(self) -> Tensorlike:
        self.steps += "d"
        return self

    def cpu(self) -> Tensorlike:
        self.steps += "c"
        return self

    def float(self) -> Tensorlike:
        assert self.dtype == "torch.bfloat16"
        self.steps += "f"
        return self

    def numpy(self) -> np.ndarray:
        self.steps += "n"
        return self.array


def filled(net: nn.Module, value: float) -> dict[str, np.ndarray]:
    return {key: np.full_like(array, value) for key, array in net.state_dict().items()}


def test_tensors_on_devices_with_history_and_in_bfloat16_are_read() -> None:
    net = nn.Linear(2, 1)
    weight = Tensorlike(np.float32([[3, 4]]), "torch.bfloat16")
    bias = Tensorlike(np.float32([5]))
    found = interop.from_torch_state_dict(net, {"weight": weight, "bias": bias})
    assert found == ([], [])
    assert (weight.steps, bias.steps) == ("dcfn", "dcn")
    assert net(tk.tensor([1.0, 1.0])).item() == 12


@pytest.mark.parametrize(("given", "model"), [("f2", "f4"), ("f2", "f8"), ("f4", "f8")])
def test_narrower_floats_are_widened(given: str, model: str) -> None:
    net = nn.Linear(2, 1).to(model)
    interop.from_torch_state_dict(net, {k: v.astype(given) for k, v in filled(net, 0.1).items()})
    assert net.weight.dtype == model
    assert net.bias.item() == np.array(0.1, given)


@pytest.mark.parametrize("dtype", ["f8", "i8", "?"])
def test_other_dtypes_are_refused_and_nothing_is_written(dtype: str) -> None:
    net = nn.Linear(2, 1)
    before = net.state_dict()
    state = filled(net, 1) | {"bias": np.ones(1, dtype)}
    with pytest.raises(RuntimeError, match=r"bias: expected float32\(1,\), got"):
        interop.from_torch_state_dict(net, state)
    assert all(np.array_equal(v, before[k]) for k, v in net.state_dict().items())


def test_keys_that_do_not_fit_are_listed_or_returned() -> None:
    net = nn.Linear(2, 1)
    state = {"weight": np.ones((1, 2), np.float32), "scale": np.ones(1, np.float16)}
    with pytest.raises(RuntimeError, match=r"missing: bias.*\n.*unexpected: scale"):
        interop.from_torch_state_dict(net, state)
    assert interop.from_torch_state_dict(net, state, strict=False) == (["bias"], ["scale"])
    assert net.weight.tolist() == [[1, 1]]


THEIRS = {
    "0.weight_g": "0.parametrizations.weight.original0",
    "0.weight_v": "0.parametrizations.weight.original1",
}


@pytest.mark.parametrize("source", ["dict", "open file", "file"])
def test_the_keys_of_pytorchs_parametrized_weight_norm_are_read(
    source: str, tmp_path: Path
) -> None:
    net, other = (nn.Sequential(nn.utils.weight_norm(nn.Linear(2, 3))) for _ in range(2))
    state = {THEIRS.get(key, key): value for key, value in net.state_dict().items()}
    assert len(state.keys() - net.state_dict().keys()) == 2
    np.savez(tmp_path / "net.npz", **state)
    if source == "dict":
        assert interop.from_torch_state_dict(other, state) == ([], [])
    elif source == "open file":
        with np.load(tmp_path / "net.npz") as file:
            assert other.load_state_dict(file) == ([], [])
    else:
        tk.load(tmp_path / "net.npz", model=other)
    assert other[0].weight.tolist() == net[0].weight.tolist()


def test_other_keys_of_parametrizations_are_unexpected() -> None:
    plain, normed = nn.Linear(2, 3), nn.utils.weight_norm(nn.Linear(2, 3))
    theirs = {"parametrizations.weight.original0": np.ones((3, 1), np.float32)}
    with pytest.raises(RuntimeError, match=r"unexpected: parametrizations\.weight\.original0"):
        plain.load_state_dict({**plain.state_dict(), **theirs})
    with pytest.raises(RuntimeError, match=r"unexpected: parametrizations\.weight\.original0"):
        normed.load_state_dict({**normed.state_dict(), **theirs})


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "net.body."])
def test_keys_with_the_name_of_a_wrapper_say_so(prefix: str) -> None:
    """Those of DataParallel and of `torch.compile`."""
    net = nn.Linear(2, 1)
    state = {prefix + key: value for key, value in net.state_dict().items()}
    with pytest.raises(RuntimeError, match=f"Every key begins with '{re.escape(prefix)}': load"):
        net.load_state_dict(state)
    outer = nn.Sequential(net)
    with pytest.raises(RuntimeError, match=r"Load it into the module '0' inside of this one"):
        outer.load_state_dict(net.state_dict())
    for wrong in ({**state, "x": 1.0}, {}, {prefix + "weight": state[f"{prefix}weight"]}):
        with pytest.raises(RuntimeError) as caught:
            net.load_state_dict(wrong)
        assert "Every key" not in str(caught.value)


def test_the_values_are_copied() -> None:
    net = nn.Linear(2, 1)
    state = filled(net, 1)
    interop.from_torch_state_dict(net, state)
    state["weight"][:] = 7
    assert net.weight.tolist() == [[1, 1]]


def test_what_is_no_model_or_no_state_dict_is_refused() -> None:
    with pytest.raises(TypeError, match=r"from_torch_state_dict: expected a Module, got di.*Give"):
        interop.from_torch_state_dict({}, {})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got Linear\. Call its \.state_dict\(\)"):
        interop.from_torch_state_dict(nn.Linear(1, 1), nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got the path 'net.npz'. Read an .npz with np.load"):
        interop.from_torch_state_dict(nn.Linear(1, 1), "net.npz")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="to_torch_state_dict: expected a Module, got Tensor"):
        interop.to_torch_state_dict(Tensor([1.0]))  # type: ignore[arg-type]


def schedule() -> optim.lr_scheduler.StepLR:
    return optim.lr_scheduler.StepLR(optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1), 1)


LOADERS: dict[str, Callable[[], Callable[[Any], Any]]] = {
    "from_torch_state_dict": lambda: lambda p: interop.from_torch_state_dict(nn.Linear(1, 1), p),
    "load_state_dict": lambda: nn.Linear(1, 1).load_state_dict,
    "Adam.load_state_dict": lambda: optim.Adam(nn.Linear(1, 1).parameters()).load_state_dict,
    "StepLR.load_state_dict": lambda: schedule().load_state_dict,
    "DataLoader.load_state_dict": lambda: (
        data.DataLoader(data.TensorDataset(Tensor([1.0]))).load_state_dict
    ),
}


@pytest.mark.parametrize("path", ["run/net.pt", "net.PTH", Path("net.pth")], ids=str)
@pytest.mark.parametrize("name", LOADERS)
def test_a_pickle_of_pytorchs_is_refused_with_what_to_run_there(name: str, path: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected a file without a pickle") as caught:
        LOADERS[name]()(path)
    stem = str(Path(path).with_suffix(""))
    said = str(caught.value)
    assert f"torch.load({str(path)!r}, map_location='cpu', weights_only=True)" in said
    assert f"safetensors.torch.save_file(state, '{stem}.safetensors')" in said
    assert f"numpy.savez('{stem}.npz', **state)" in said


def test_the_path_of_another_file_says_how_to_read_it() -> None:
    with pytest.raises(TypeError, match=r"^load_state_dict: expected a dict of arrays, got the pa"):
        nn.Linear(1, 1).load_state_dict("net.npz")  # type: ignore[arg-type]
