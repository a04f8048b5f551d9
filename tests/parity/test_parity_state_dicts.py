"""Parameters go to PyTorch and back, for every layer of its database that we have; and DLPack."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="the databases import it")

import database_nets  # noqa: E402
import databases  # noqa: E402
from torch.testing._internal.common_modules import module_db  # noqa: E402

import tinygrad_kr as tk  # noqa: E402
from tinygrad_kr import Tensor, interop, nn  # noqa: E402

LAYERS = {info.module_cls.__name__: info for info in module_db}
LAYERS = {name: LAYERS[name] for name in database_nets.modules()}


def samples(name: str, dtype: torch.dtype) -> Iterator[tuple[nn.Module, Any, list[Any], Any]]:
    """Our layer, PyTorch's, and the arguments of a call for us and for PyTorch."""
    info = LAYERS[name]
    for training in (True, False):
        torch.manual_seed(0)
        every = info.module_inputs_func(
            info, device="cpu", dtype=dtype, requires_grad=False, training=training
        )
        for given in every[:: database_nets.FEWER.get(name, 1)]:
            made, called = given.constructor_input, given.forward_input
            theirs = LAYERS[name].module_cls(*made.args, **made.kwargs).to(dtype)
            parts = (made.args, made.kwargs), (called.args, called.kwargs)
            try:
                (args, kwargs), call = databases.rebuilt(
                    parts, lambda t: Tensor(databases.array_of(t)), database_nets.ours_of
                )
                ours = getattr(nn, name)(*args, **kwargs).to(databases.DTYPES[dtype])
            except databases.Unsupported:
                continue
            yield ours.train(training), theirs.train(training), call, (called.args, called.kwargs)


def differing(ours: Any, theirs: Any, call: Any, their_call: Any, seed: int) -> str:
    """In words, how the outputs and the states after a call differ."""
    tk.manual_seed(seed)
    torch.manual_seed(seed)
    args, kwargs = call
    their_args, their_kwargs = their_call
    with np.errstate(invalid="ignore", divide="ignore"):  # of samples outside the domain
        found = leaves(ours(*args, **kwargs)) + list(ours.state_dict().values())
    expected = leaves(theirs(*their_args, **their_kwargs)) + list(theirs.state_dict().values())
    expected = [databases.numbers_of(value.detach()) for value in expected]
    found = [databases.numbers_of(value) for value in found]
    return next(filter(None, map(difference, found, expected)), "")


def difference(found: Any, expected: Any) -> str:
    """In words, how results of the same weights differ by more than rounding."""
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return f"{found.dtype}{found.shape} for {expected.dtype}{expected.shape}"
    if found.dtype.kind != "f":
        return "" if np.array_equal(found, expected) else f"{found} for {expected}"
    size = max(databases.largest(expected), 1.0)  # of the gates of a recurrent layer
    allowed = 64 * np.finfo(found.dtype).eps * size
    return "" if np.allclose(found, expected, 0, allowed, True) else f"{found} for {expected}"


def leaves(value: Any) -> list[Any]:
    """The tensors of a result, without what is None."""
    return tk.tree.flatten(value)[0]


DRAWS = {"Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "RReLU"}


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")  # PyTorch's
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", LAYERS)
def test_forward_agrees_after_the_exchange_both_ways(name: str, dtype: torch.dtype) -> None:
    count = 0
    for ours, theirs, call, their_call in samples(name, dtype):
        if name in DRAWS and ours.training:
            continue
        interop.from_torch_state_dict(ours, theirs.state_dict())
        assert differing(ours, theirs, call, their_call, 0) == ""
        for i, (_, tensor) in enumerate([*ours.named_parameters(), *ours.named_buffers()]):
            numbers = 0.3 * databases.random_like(tensor, 7, i)
            if isinstance(tensor, nn.Parameter):
                tensor.data[...] = numbers
            elif tensor.dtype.kind == "f":  # a variance is positive
                tensor.data[...] = np.abs(numbers) + 0.1
        theirs.load_state_dict(interop.to_torch_state_dict(ours))
        assert differing(ours, theirs, call, their_call, 1) == ""
        count += 1
    assert count


def test_nets_keep_their_paths_and_shared_parameters() -> None:
    def net(library: Any) -> Any:
        made = library.Sequential(
            library.Embedding(5, 4),
            library.LSTM(4, 3, num_layers=2, bidirectional=True, batch_first=True),
        )
        made.head = library.Linear(4, 5, bias=False)
        made.head.weight = made[0].weight
        return made

    ours, theirs = net(nn), net(torch.nn)
    interop.from_torch_state_dict(ours, theirs.state_dict())
    state = interop.to_torch_state_dict(ours)
    assert list(state) == list(theirs.state_dict())
    assert all(torch.equal(state[key], value) for key, value in theirs.state_dict().items())
    assert ours.head.weight is ours[0].weight


def test_what_goes_to_pytorch_has_its_own_memory() -> None:
    net = nn.Linear(2, 1)
    interop.to_torch_state_dict(net)["weight"].fill_(7)
    assert (net.weight.data != 7).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_becomes_float32(dtype: torch.dtype) -> None:
    theirs, ours = torch.nn.Linear(3, 2).to(dtype), nn.Linear(3, 2)
    interop.from_torch_state_dict(ours, theirs.state_dict(keep_vars=True))
    np.testing.assert_array_equal(ours.weight.data, theirs.weight.detach().float().numpy())


def test_a_tensor_that_numpy_cannot_hold_is_named_and_nothing_is_written() -> None:
    ours = nn.Linear(2, 2)
    before = ours.weight.tolist()
    state = {"weight": torch.eye(2), "bias": torch.zeros(2).to_sparse()}
    with pytest.raises(TypeError, match=r"from_torch_state_dict: bias: .*to_dense"):
        interop.from_torch_state_dict(ours, state)
    assert ours.weight.tolist() == before


@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm_goes_both_ways(dim: int | None) -> None:
    theirs = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 2), dim=dim)
    ours = nn.utils.weight_norm(nn.Linear(3, 2), dim=dim)
    assert interop.from_torch_state_dict(ours, theirs.state_dict()) == ([], [])
    np.testing.assert_allclose(ours.weight.detach(), theirs.weight.detach(), rtol=1e-6)
    with tk.no_grad():
        ours.weight_g.mul_(3)
    theirs.load_state_dict(interop.to_torch_state_dict(ours))
    np.testing.assert_allclose(ours.weight.detach(), theirs.weight.detach(), rtol=1e-6)


def test_a_flipped_tensor_goes_to_pytorch_as_a_copy() -> None:
    """Negative strides would end the process."""
    t = tk.tensor([1.0, 2.0, 3.0])
    for flipped in (t.flip(0), t.flip(0).clone(), t[::-1]):
        assert torch.from_dlpack(flipped).tolist() == [3.0, 2.0, 1.0]
    assert torch.from_dlpack(t[::2]).data_ptr() == t.data.ctypes.data


@pytest.mark.parametrize("library", ["safetensors", "npz"])
def test_the_code_in_the_refusal_of_a_pickle_runs(library: str, tmp_path: Path) -> None:
    theirs = torch.nn.Linear(3, 2)
    path = tmp_path / "a net.pt"
    torch.save(theirs.state_dict(), path)
    with pytest.raises(ValueError, match="pickle") as caught:
        nn.Linear(3, 2).load_state_dict(path)  # type: ignore[arg-type]
    blocks = re.findall(r"(?:^    .*\n?)+", str(caught.value), re.M)
    assert len(blocks) == 2
    if library == "safetensors":
        pytest.importorskip("safetensors")
    exec(re.sub("^    ", "", blocks[library == "npz"], flags=re.M), {})
    assert os.path.exists(path.with_suffix(f".{library}"))
    if library == "npz":
        ours = nn.Linear(3, 2)
        with np.load(path.with_suffix(".npz")) as state:
            ours.load_state_dict(state)
        np.testing.assert_array_equal(ours.weight.data, theirs.weight.detach().numpy())


# ------------------------------------------------------------------ DLPack

SHARED = [torch.float16, torch.float32, torch.float64, torch.int8, torch.int16, torch.int32,
          torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64,
          torch.bool]  # fmt: skip


@pytest.mark.parametrize("dtype", SHARED, ids=str)
def test_dlpack_shares_memory_both_ways(dtype: torch.dtype) -> None:
    theirs = torch.tensor([[1, 0, 1], [0, 1, 0]], dtype=torch.int64).to(dtype)
    ours = tk.from_dlpack(theirs)
    assert ours.shape == (2, 3)
    assert ours.data.ctypes.data == theirs.data_ptr()
    back = torch.from_dlpack(ours)
    assert (back.dtype, back.data_ptr()) == (dtype, theirs.data_ptr())
    ours[0, 0] = 0
    assert not back[0, 0] and not theirs[0, 0]
    back[0, 1] = 1
    assert ours[0, 1]


def test_dlpack_keeps_strides_and_starts() -> None:
    theirs = torch.arange(12.0).reshape(3, 4).T[1:, ::2]
    ours = tk.from_dlpack(theirs)
    np.testing.assert_array_equal(ours.data, theirs.numpy())
    assert ours.data.strides == theirs.numpy().strides
    assert torch.equal(torch.from_dlpack(ours), theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_dtypes_that_numpy_lacks_are_buffer_errors(dtype: torch.dtype) -> None:
    with pytest.raises(BufferError, match=re.escape(f"got {dtype}")):
        tk.from_dlpack(torch.ones(2).to(dtype))


def test_complex_numbers_are_refused() -> None:
    with pytest.raises(TypeError, match="real numbers"):
        tk.from_dlpack(torch.ones(2, dtype=torch.complex64))


def test_a_history_does_not_cross() -> None:
    with pytest.raises(BufferError, match="detach"):
        torch.from_dlpack(tk.tensor([1.0], requires_grad=True) * 2)
    with pytest.raises(BufferError, match="detach"):
        tk.from_dlpack(torch.ones(1, requires_grad=True))
