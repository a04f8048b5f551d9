"""Every layer and loss against PyTorch's, from PyTorch's own state_dict as NumPy arrays."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest
from layer_samples import LAYERS, LOSSES, SEVERAL

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import nn
from tinygrad_kr.nn import init

torch = pytest.importorskip("torch")

RANDOM = np.random.default_rng(30)
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-10}
TORCH_DTYPE = {np.float32: torch.float32, np.float64: torch.float64}

RECURRENT = {"RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"}
"""Compared in test_parity_recurrent.py."""
PEERS = [name for name, layer in LAYERS.items() if layer.peer]
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


@pytest.fixture(autouse=True)
def _own_numbers() -> None:
    """Each test draws the same numbers, whichever run before it."""
    RANDOM.bit_generator.state = np.random.default_rng(30).bit_generator.state


def close(found: Any, expected: Any, dtype: Any) -> None:
    """Equal up to the tolerance, relative to the norm."""
    found = np.asarray(found.data if isinstance(found, tk.Tensor) else found)
    expected = expected.detach().numpy() if torch.is_tensor(expected) else np.asarray(expected)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    difference = np.linalg.norm(np.float64(found) - expected)
    assert difference <= TOLERANCE[dtype] * np.linalg.norm(expected)


def state_of(theirs: Any) -> dict[str, np.ndarray]:
    return {key: value.numpy().copy() for key, value in theirs.state_dict().items()}


def pair(name: str, args: Any, kwargs: Any, dtype: Any) -> tuple[nn.Module, Any]:
    """Our module and PyTorch's, with the same random parameters."""
    theirs = getattr(torch.nn, name)(*args, **kwargs).to(TORCH_DTYPE[dtype])
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.from_numpy(RANDOM.standard_normal(tuple(parameter.shape))))
    ours = getattr(nn, name)(*args, **kwargs).to(dtype)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(state_of(theirs))
    return ours, theirs


def compare_step(ours: nn.Module, theirs: Any, array: np.ndarray, dtype: Any) -> None:
    """Output, gradients of input and parameters, buffers after the step."""
    x = tk.Tensor(array.copy(), requires_grad=True)
    their_x = torch.from_numpy(array.copy()).requires_grad_()
    y, their_y = ours(x), theirs(their_x)
    close(y, their_y, dtype)
    cotangent = RANDOM.standard_normal(y.shape).astype(dtype)
    if y.requires_grad:
        y.backward(cotangent)
        their_y.backward(torch.from_numpy(cotangent))
        assert x.grad is not None
        close(x.grad, their_x.grad, dtype)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        close(p.grad, q.grad, dtype)
    for b, c in zip(ours.buffers(), theirs.buffers(), strict=True):
        close(b, c, dtype)


@DTYPES
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", PEERS)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_layer(name: str, training: bool, dtype: Any) -> None:
    kind, args, settings, shape, *_ = LAYERS[name]
    ours, theirs = (net.train(training) for net in pair(kind, args, settings, dtype))
    compare_step(ours, theirs, RANDOM.standard_normal(shape).astype(dtype), dtype)


@pytest.mark.parametrize("name", PEERS)
def test_repr(name: str) -> None:
    """PyTorch's but for quotes; some that differ between its versions or leave settings out."""
    kind, args, settings, *_ = LAYERS[name]
    versions = ("AvgPool", "BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm")
    if name.startswith((*versions, "Softplus", "Transformer")):
        return
    mine, expected = LAYERS[name].make(), getattr(torch.nn, kind)(*args, **settings)
    assert repr(mine).replace("'", "") == repr(expected).replace("'", "")


def test_every_layer_that_pytorch_has_is_compared() -> None:
    ours = {name for name in nn.__all__ if isinstance(getattr(nn, name), type)}
    containers = {"Module", "ModuleDict", "ModuleList", "Parameter", "ParameterDict"}
    containers |= {"ParameterList", "Sequential"}
    losses = {name for name in ours if name.endswith("Loss")}
    compared = {LAYERS[name].kind for name in PEERS}
    compared |= {"Embedding", "Dropout", "Maxout", "RBM", "DBN"}
    compared |= {name.partition(",")[0] for name in SEVERAL}
    compared |= {"EmbeddingBag", "Dropout1d", "Dropout2d"}
    compared |= {"Hardsigmoid"}  # PyTorch has 1 / 6 in float32, also for float64
    assert ours - containers - losses - RECURRENT == compared
    assert losses == {loss.kind for loss in LOSSES.values()}


@DTYPES
@pytest.mark.parametrize("name", ["BatchNorm1d", "BatchNorm2d"])
@pytest.mark.parametrize("momentum", [0.1, 1.0, None])
def test_running_statistics_over_several_batches(name: str, momentum: Any, dtype: Any) -> None:
    ours, theirs = pair(name, (3,), {"momentum": momentum}, dtype)
    for n in (4, 7, 5):
        shape = (n, 3, 4, 5) if name == "BatchNorm2d" else (n, 3)
        compare_step(ours, theirs, 3 + RANDOM.standard_normal(shape).astype(dtype), dtype)
        ours.zero_grad()
        theirs.zero_grad()
    compare_step(ours.eval(), theirs.eval(), RANDOM.standard_normal(shape).astype(dtype), dtype)


@DTYPES
@pytest.mark.parametrize("padding_idx", [None, 0, -1])
def test_embedding(padding_idx: int | None, dtype: Any) -> None:
    ours, theirs = pair("Embedding", (7, 3), {"padding_idx": padding_idx}, dtype)
    indices = RANDOM.integers(0, 7, (4, 5))
    y, their_y = ours(tk.Tensor(indices)), theirs(torch.from_numpy(indices))
    close(y, their_y, dtype)
    cotangent = RANDOM.standard_normal(y.shape).astype(dtype)
    y.backward(cotangent)
    their_y.backward(torch.from_numpy(cotangent))
    close(ours.get_parameter("weight").grad, theirs.weight.grad, dtype)


@DTYPES
@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
def test_layer_of_several_inputs(name: str, dtype: Any) -> None:
    make, shapes = SEVERAL[name]
    ours, theirs = make(nn).to(dtype), make(torch.nn).to(TORCH_DTYPE[dtype])
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for parameter in theirs.parameters():
        parameter.data.copy_(torch.from_numpy(RANDOM.standard_normal(tuple(parameter.shape))))
    ours.load_state_dict(state_of(theirs))
    given = [RANDOM.standard_normal(shape).astype(dtype) for shape in shapes]
    xs = [tk.Tensor(x, requires_grad=True) for x in given]
    their_xs = [torch.from_numpy(x).requires_grad_() for x in given]
    results = ours(*xs), theirs(*their_xs)
    found, expected = (y if isinstance(y, tuple) else (y,) for y in results)
    for y, their_y in zip(found, expected, strict=True):
        close(y, their_y, dtype)
    cotangent = RANDOM.standard_normal(found[0].shape).astype(dtype)
    found[0].backward(cotangent)
    expected[0].backward(torch.from_numpy(cotangent))
    pairs = [*zip([*xs, *ours.parameters()], [*their_xs, *theirs.parameters()], strict=True)]
    scale = max(float(abs(q.grad).max()) for _, q in pairs)
    for p, q in pairs:
        difference = np.abs(np.float64(p.grad.data) - q.grad.numpy()).max()
        assert difference <= TOLERANCE[dtype] * scale


def test_pool_indices() -> None:
    x = RANDOM.standard_normal((2, 3, 7, 8))
    largest, places = nn.MaxPool2d(3, 2, 1, return_indices=True)(tk.Tensor(x))
    their_largest, their_places = torch.nn.MaxPool2d(3, 2, 1, return_indices=True)(
        torch.from_numpy(x)
    )
    np.testing.assert_array_equal(largest.data, their_largest.numpy())
    np.testing.assert_array_equal(places.data, their_places.numpy())


# ------------------------------------------------------------------ losses


@DTYPES
@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "batchmean"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
def test_loss(name: str, reduction: str, dtype: Any) -> None:
    kind, array, target, settings, *_ = LOSSES[name]
    if reduction == "batchmean" and kind != "KLDivLoss":
        with pytest.raises(ValueError, match="batchmean"):
            getattr(nn, kind)(reduction=reduction)
        return
    arrays = {k: v.astype(dtype) for k, v in settings.items() if isinstance(v, np.ndarray)}
    changes = {"reduction": reduction} | {k: torch.from_numpy(v) for k, v in arrays.items()}
    theirs = getattr(torch.nn, kind)(**settings | changes)
    ours = getattr(nn, kind)(**settings | arrays | {"reduction": reduction})
    assert list(ours.state_dict()) == list(theirs.state_dict())
    array = array.astype(dtype)
    target = target if target.dtype.kind == "i" else target.astype(dtype)
    leaf = x = tk.Tensor(array, requires_grad=True)
    their_leaf = their_x = torch.from_numpy(array.copy()).requires_grad_()
    others = LOSSES[name].others(dtype)
    their_others = [torch.from_numpy(other.numpy()) for other in others]
    if kind == "CTCLoss":  # PyTorch's gradient is right behind a log_softmax
        x, their_x = F.log_softmax(x, 2), their_x.log_softmax(2)
    y = ours(x, tk.Tensor(target), *others)
    their_y = theirs(their_x, torch.from_numpy(target), *their_others)
    close(y, their_y, dtype)
    cotangent = RANDOM.standard_normal(y.shape).astype(dtype)
    y.backward(cotangent)
    their_y.backward(torch.tensor(cotangent))
    close(leaf.grad, their_leaf.grad, dtype)


# ------------------------------------------------------------------ names and starts


class TorchNet(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3, padding=1, bias=False), torch.nn.BatchNorm2d(4),
            torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        )  # fmt: skip
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(2))
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.register_buffer("shift", torch.zeros(1))
        self.heads = torch.nn.ModuleDict({"a": torch.nn.Linear(16, 3)})

    def forward(self, x: Any) -> Any:
        x = self.features(x).flatten(1)
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return self.heads["a"](x) * self.scale + self.shift


class Net(nn.Module):
    def __init__(self) -> None:
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.blocks = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))
        self.scale = nn.Parameter(np.ones(1, np.float32))
        self.register_buffer("shift", tk.zeros(1))
        self.heads = nn.ModuleDict({"a": nn.Linear(16, 3)})

    def forward(self, x: Any) -> Any:
        x = self.features(x).flatten(1)
        for block in self.blocks:
            x = x + block(x).tanh()
        return self.heads["a"](x) * self.scale + self.shift


@DTYPES
def test_a_whole_net_loads_and_steps_alike(dtype: Any) -> None:
    theirs, ours = TorchNet().to(TORCH_DTYPE[dtype]), Net().to(dtype)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [name for name, _ in ours.named_parameters()] == [
        name for name, _ in theirs.named_parameters()
    ]
    assert [name for name, _ in ours.named_modules()] == [
        name for name, _ in theirs.named_modules()
    ]
    ours.load_state_dict(theirs.state_dict())
    compare_step(ours, theirs, RANDOM.standard_normal((5, 1, 4, 4)).astype(dtype), dtype)


def test_our_state_loads_into_pytorch() -> None:
    theirs, ours = TorchNet(), Net()
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    np.testing.assert_equal(state_of(theirs), ours.state_dict())


@pytest.mark.parametrize("name", [n for n in nn.__all__ if hasattr(torch.nn, n)])
def test_constructors_take_pytorchs_arguments(name: str) -> None:
    """Positional ones in PyTorch's order and with its defaults; what is left out is listed."""
    ours, theirs = getattr(nn, name), getattr(torch.nn, name)
    if not isinstance(ours, type) or name in ("Parameter", "Sequential"):
        return
    if name in ("RNN", "LSTM", "GRU"):
        return  # PyTorch's are (*args, **kwargs); test_parity_recurrent.py passes them by place
    bias = {"bias"} if name.startswith("BatchNorm") else set()  # not in every version
    left_out = {
        "device", "dtype", "size_average", "reduce", "max_norm", "norm_type", "sparse", "self",
        "scale_grad_by_freq", "_weight", "_freeze", "min_value", "max_value", "padding_mode",
    }  # fmt: skip
    mine = inspect.signature(ours.__init__).parameters
    expected = inspect.signature(theirs.__init__).parameters
    assert [n for n in expected if n not in left_out | bias] == [
        n for n in mine if n not in left_out | bias | {"generator", "keep", "axis", "keepdims"}
    ]
    for key in expected.keys() & mine.keys() - {
        "dtype",
        "modules",
        "parameters",
        "values",
        "p",
        "activation",
    }:
        if (name, key) not in {("Softmax", "dim"), ("LogSoftmax", "dim"), ("Softmin", "dim")}:
            assert mine[key].default == expected[key].default


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("Linear", (200, 100)), ("Conv1d", (8, 32, 5)), ("Conv2d", (8, 32, 5, 1, 0, 1, 2)),
        ("ConvTranspose2d", (16, 32, 5)), ("Embedding", (100, 50)), ("LayerNorm", (100,)),
        ("BatchNorm2d", (100,)),
    ],
)  # fmt: skip
def test_starts_are_distributed_as_pytorchs(name: str, args: Any) -> None:
    theirs = state_of(getattr(torch.nn, name)(*args))
    ours = getattr(nn, name)(*args).state_dict()
    for key, value in theirs.items():
        assert ours[key].shape == value.shape and ours[key].dtype == value.dtype
        if not value.std() or not ours[key].std():
            np.testing.assert_array_equal(ours[key], value)
            continue
        spread = 5 / math.sqrt(value.size)
        assert abs(ours[key].mean() - value.mean()) < 2 * spread * value.std()
        assert abs(ours[key].std() / value.std() - 1) < 2 * spread
        if name != "Embedding":
            assert abs(np.abs(ours[key]).max() / np.abs(value).max() - 1) < 10 / value.size + 0.05


@pytest.mark.parametrize(
    "name",
    ["linear", "conv1d", "conv_transpose2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"],
)
@pytest.mark.parametrize("param", [None, 0.3])
def test_gains(name: str, param: float | None) -> None:
    expected = torch.nn.init.calculate_gain(name, param)
    assert init.calculate_gain(name, param) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shape", [(40, 60), (20, 10, 3), (20, 10, 3, 4)])
@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("xavier_uniform_", {"gain": 1.5}), ("xavier_normal_", {"gain": 1.5}),
        ("kaiming_uniform_", {"a": 0.3}), ("kaiming_uniform_", {"mode": "fan_out"}),
        ("kaiming_normal_", {"nonlinearity": "relu"}), ("trunc_normal_", {"std": 2.0, "b": 1.0}),
        ("normal_", {"mean": 1.0, "std": 2.0}), ("uniform_", {"a": -1.0, "b": 3.0}),
    ],
)  # fmt: skip
def test_initialisers_have_pytorchs_scale(name: str, kwargs: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    theirs = torch.empty(50, *shape)
    for part in theirs:
        getattr(torch.nn.init, name)(part, **kwargs)
    random = np.random.default_rng(0)
    ours = np.stack(
        [getattr(init, name)(tk.empty(shape), generator=random, **kwargs).data for _ in range(50)]
    )
    spread = 5 / math.sqrt(ours.size)
    assert abs(ours.mean() - theirs.mean().item()) < 2 * spread * ours.std()
    assert abs(ours.std() / theirs.std().item() - 1) < 2 * spread
