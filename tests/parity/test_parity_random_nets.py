"""Loss and gradients of 200 random nets equal PyTorch's from the same weights.

Every net is determined by its seed, which is the test's number: `-k "net137"` replays one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import nn

torch = pytest.importorskip("torch")

NETS = 200
Step = dict[str, Any]
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-10}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """PyTorch's threads cost more than these small nets, many times so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class TorchMaxout(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, pieces: int, dim: int = -1) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Any) -> Any:
        return x.unflatten(-1, (-1, self.pieces)).amax(-1)


@dataclass(eq=False)
class Net:
    """A random net: layers as (class name, arguments, keywords), data and loss."""

    seed: int
    depth: int
    random: np.random.Generator
    layers: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    shape: tuple[int, ...] = ()

    def add(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.layers.append((name, args, kwargs))

    def choice(self, *values: Any) -> Any:
        return values[int(self.random.integers(len(values)))]

    # ---------------------------------------------------------------- what it is made of

    def activation(self) -> None:
        name = self.choice(
            "Sigmoid", "Tanh", "ReLU", "LeakyReLU", "ELU", "SELU", "GELU", "SiLU", "Softplus",
            "Hardtanh", "Softmax", "LogSoftmax", "Maxout", "Identity",
        )  # fmt: skip
        if name in ("Softmax", "LogSoftmax"):
            self.add(name, dim=self.choice(1, -1))
        elif name == "Maxout":
            if self.shape[-1] % 2 == 0:
                self.add(name, 2)
                self.shape = (*self.shape[:-1], self.shape[-1] // 2)
        elif name == "GELU":
            self.add(name, approximate=self.choice("none", "tanh"))
        elif name in ("LeakyReLU", "ELU"):
            self.add(name, self.choice(0.01, 0.3, 1.0))
        else:
            self.add(name)

    def norm(self) -> None:
        """Batch or layer norm; a bias before the former would have gradient 0 up to rounding."""
        if len(self.shape) == 4:
            self.add("BatchNorm2d", self.shape[1], momentum=self.choice(0.1, 0.5, None))
        elif self.choice(True, False):
            self.add("BatchNorm1d", self.shape[1], affine=self.choice(True, True, False))
        else:
            self.add("LayerNorm", self.shape[-1], bias=self.choice(True, False))

    def linear(self, bias: bool) -> None:
        out = int(self.random.integers(4, 13))
        self.add("Linear", self.shape[-1], out, bias=bias)
        self.shape = (*self.shape[:-1], out)

    def convolution(self, bias: bool) -> None:
        n, channels, *sizes = self.shape
        groups = self.choice(1, 1, 2) if channels % 2 == 0 else 1
        out = 2 * int(self.random.integers(1, 4))
        kernel, stride = self.choice(1, 2, 3), self.choice(1, 1, 2)
        padding, dilation = self.choice(0, 1, 2), self.choice(1, 1, 2)
        mode = self.choice("zeros", "zeros", "reflect", "replicate", "circular")
        spread = [(s + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for s in sizes]
        if min(spread) < 3 or min(sizes) <= padding:
            kernel, stride, padding, dilation, spread = 3, 1, 1, 1, list(sizes)
            mode = "zeros"
        self.add(
            "Conv2d" if len(sizes) == 2 else "Conv1d",
            channels, out, kernel, stride, padding, dilation, groups, bias,
            padding_mode=mode,
        )  # fmt: skip
        self.shape = (n, out, *spread)

    def transposed(self, bias: bool) -> None:
        n, channels, h, w = self.shape
        out, kernel = int(self.random.integers(2, 5)), self.choice(2, 3)
        stride = self.choice(1, 2) if min(h, w) > 3 else 2
        extra = self.choice(0, stride - 1)
        self.add("ConvTranspose2d", channels, out, kernel, stride, 1, extra, bias=bias)
        self.shape = (n, out, *((s - 1) * stride - 2 + kernel + extra for s in (h, w)))

    def pool(self) -> None:
        spatial = len(self.shape) - 2
        if min(self.shape[2:]) < 6:
            return
        name, stride = self.choice("MaxPool", "AvgPool"), self.choice(None, 1)
        self.add(f"{name}{spatial}d", 2, stride)
        step = stride or 2
        self.shape = (*self.shape[:2], *((s - 2) // step + 1 for s in self.shape[2:]))

    def block(self) -> None:
        """A layer with weights, sometimes a norm, an activation, dropout that is off."""
        normed = self.random.random() < 0.35
        if len(self.shape) >= 4 and self.random.random() < 0.2 and max(self.shape[2:]) < 9:
            self.transposed(bias=not normed)
        elif self.spatial:
            self.convolution(bias=not normed)
        else:
            self.linear(bias=not normed)
        if normed:
            self.norm()
        self.activation()
        if self.random.random() < 0.3:
            self.add("Dropout", 0.4)
        if self.spatial and self.random.random() < 0.4:
            self.pool()

    @property
    def spatial(self) -> bool:
        return self.kind in ("image", "signal") and len(self.shape) > 2

    # ---------------------------------------------------------------- the whole

    def make(self) -> Net:
        self.kind = self.choice("vector", "vector", "image", "signal", "words")
        n = int(self.random.integers(5, 9))
        if self.kind == "vector":
            self.shape = (n, int(self.random.integers(3, 10)))
            self.input = self.random.standard_normal(self.shape)
        elif self.kind == "image":
            self.shape = (n, self.choice(1, 2, 3), *self.random.integers(7, 11, 2).tolist())
            self.input = self.random.standard_normal(self.shape)
        elif self.kind == "signal":
            self.shape = (n, self.choice(1, 2, 4), int(self.random.integers(9, 16)))
            self.input = self.random.standard_normal(self.shape)
        else:
            words, features = int(self.random.integers(6, 20)), int(self.random.integers(4, 9))
            self.shape = (n, int(self.random.integers(3, 6)), features)
            self.input = self.random.integers(0, words, self.shape[:2])
            self.add("Embedding", words, features, padding_idx=self.choice(None, 0))
        flatten_at = int(self.random.integers(0, self.depth)) if len(self.shape) > 2 else -1
        for number in range(self.depth - 1):
            if number == flatten_at:
                self.flatten()
            self.block()
        self.flatten()
        self.classes = int(self.random.integers(2, 6))
        self.add("Linear", self.shape[-1], self.classes)
        self.head()
        return self

    def flatten(self) -> None:
        if len(self.shape) > 2:
            self.add("Flatten")
            self.shape = (self.shape[0], int(np.prod(self.shape[1:])))

    def head(self) -> None:
        """The loss, chosen in turn so that all of them come up, and targets for it."""
        losses = (
            "MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCELoss", "BCEWithLogitsLoss",
            "CrossEntropyLoss", "CrossEntropyLoss", "NLLLoss", "KLDivLoss",
        )  # fmt: skip
        self.loss = losses[self.seed % len(losses)]
        random, n, classes = self.random, self.shape[0], self.classes
        self.target: np.ndarray = random.standard_normal((n, classes))
        self.weights: dict[str, np.ndarray] = {}
        self.options: dict[str, Any] = {"reduction": self.choice("mean", "sum")}
        if self.loss == "SmoothL1Loss":
            self.options["beta"] = self.choice(1.0, 0.5)
        elif self.loss == "HuberLoss":
            self.options["delta"] = self.choice(1.0, 0.3)
        elif self.loss in ("BCELoss", "BCEWithLogitsLoss"):
            self.target = self.choice(random.random((n, classes)), self.target > 0)
            if self.choice(True, False):
                self.weights["weight"] = random.random(classes) + 0.5
            if self.loss == "BCELoss":
                self.add("Sigmoid")
            elif self.choice(True, False):
                self.weights["pos_weight"] = random.random(classes) + 0.5
        elif self.loss in ("CrossEntropyLoss", "NLLLoss"):
            self.target = random.integers(0, classes, n)
            if self.choice(True, False):
                self.weights["weight"] = random.random(classes) + 0.5
            if self.choice(True, False):
                self.target[0] = self.options["ignore_index"] = self.choice(-100, -1)
            if self.loss == "NLLLoss":
                self.add("LogSoftmax", dim=1)
            elif self.choice(True, False):
                self.options["label_smoothing"] = 0.1
        elif self.loss == "KLDivLoss":
            self.add("LogSoftmax", dim=1)
            exp = np.exp(self.target)
            self.target = exp / exp.sum(1, keepdims=True)
            self.options["reduction"] = self.choice("sum", "batchmean")
            self.options["log_target"] = self.choice(True, False)
            if self.options["log_target"]:
                self.target = np.log(self.target)
        if self.target.dtype == bool:
            self.target = self.target.astype(np.float64)


def cast(array: np.ndarray, dtype: Any) -> np.ndarray:
    return array.astype(dtype) if array.dtype.kind == "f" else array


@cache
def weights_of(net: Net) -> dict[str, np.ndarray]:
    """Weights that keep the size of signals about constant, so that depth alone loses no digits."""
    random = np.random.default_rng((net.seed, 1))
    state = torch_model(net).state_dict()
    found = {}
    for key, value in state.items():
        drawn = random.standard_normal(tuple(value.shape))
        if "running" in key or "num_batches" in key:
            found[key] = value.numpy().copy()
        elif value.ndim > 1 and net.layers[int(key.split(".")[0])][0] != "Embedding":
            found[key] = drawn * 1.5 / np.sqrt(np.prod(value.shape[1:]))
        elif key.endswith("weight") and value.ndim == 1:
            found[key] = 1 + 0.2 * drawn
        else:
            found[key] = drawn
    return found


def torch_model(net: Net) -> Any:
    classes = vars(torch.nn) | {"Maxout": TorchMaxout}
    return torch.nn.Sequential(*[classes[name](*a, **k) for name, a, k in net.layers])


def theirs(net: Net, dtype: Any) -> Step:
    """PyTorch's loss, gradients and buffers."""
    model = torch_model(net).to(torch.float64 if dtype == np.float64 else torch.float32)
    state = weights_of(net)
    model.load_state_dict({key: torch.tensor(cast(v, dtype)) for key, v in state.items()})
    for module in model:
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    weights = {k: torch.from_numpy(cast(v, dtype)) for k, v in net.weights.items()}
    loss = getattr(torch.nn, net.loss)(**net.options, **weights)
    value = loss(
        model(torch.from_numpy(cast(net.input, dtype))), torch.from_numpy(cast(net.target, dtype))
    )
    value.backward()
    grads = {f"grad {key}": p.grad.numpy() for key, p in model.named_parameters()}
    buffers = {f"buffer {key}": b.numpy() for key, b in model.named_buffers()}
    return {"loss": value.detach().numpy(), **grads, **buffers}


def ours(net: Net, dtype: Any) -> Step:
    layers = [getattr(nn, name)(*args, **kwargs) for name, args, kwargs in net.layers]
    model = nn.Sequential(*layers).to(dtype)
    model.load_state_dict({key: cast(v, dtype) for key, v in weights_of(net).items()})
    for module in model:
        if isinstance(module, nn.Dropout):
            module.eval()
    weights = {k: cast(v, dtype) for k, v in net.weights.items()}
    loss = getattr(nn, net.loss)(**net.options, **weights)
    value = loss(model(tk.Tensor(cast(net.input, dtype))), tk.Tensor(cast(net.target, dtype)))
    value.backward()
    assert value.dtype == dtype
    step = {"loss": value.data}
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.dtype == dtype
        step[f"grad {key}"] = parameter.grad.data
    return step | {f"buffer {key}": b.data for key, b in model.named_buffers()}


def distance(found: Any, expected: Any) -> float:
    """||found - expected|| / ||expected||; 0 where both are the same."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    difference, norm = np.linalg.norm(found - expected), np.linalg.norm(expected)
    return float(difference / norm) if norm else math.inf if difference else 0.0


def distances(found: Step, expected: Step) -> dict[str, float]:
    assert found.keys() == expected.keys()
    return {key: distance(found[key], expected[key]) for key in expected}


@cache
def random_net(seed: int) -> tuple[Net, list[Net]]:
    """The first net of this seed that float32 can resolve, and those before it that it cannot.

    Of a gradient that is the small difference of large numbers (a bias that a later norm subtracts
    again) float32 keeps no digits, in PyTorch either. So a net counts if PyTorch's own float32 step
    is within 1e-6 of its float64 step, a tenth of the tolerance; the others have a test below.
    """
    hard: list[Net] = []
    for attempt in count():
        net = Net(seed, 1 + seed % 12, np.random.default_rng((seed, attempt))).make()
        coarse, fine = theirs(net, np.float32), theirs(net, np.float64)
        if max(distances(coarse, fine).values()) <= 1e-6:
            return net, hard
        hard.append(net)
    raise AssertionError


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("seed", range(NETS), ids=[f"net{seed}" for seed in range(NETS)])
def test_net_equals_pytorch(seed: int, dtype: Any) -> None:
    net, _ = random_net(seed)
    found = distances(ours(net, dtype), theirs(net, dtype))
    worst = max(found, key=lambda key: found[key])
    assert found[worst] <= TOLERANCE[dtype], (
        f"seed {seed}, {np.dtype(dtype)}: {worst} is {found[worst]:.1e} away, in\n"
        + "\n".join(f"  {number}: {layer}" for number, layer in enumerate(net.layers))
    )


def test_where_float32_loses_digits_we_lose_no_more_than_pytorch() -> None:
    """Over the nets that float32 cannot resolve: our distance from float64 over PyTorch's."""
    ratios = []
    for seed in range(NETS):
        for net in random_net(seed)[1][:1]:
            fine = theirs(net, np.float64)
            mine = max(distances(ours(net, np.float32), fine).values())
            ratios.append(mine / max(distances(theirs(net, np.float32), fine).values()))
    assert len(ratios) > 50
    assert np.exp(np.mean(np.log(ratios))) < 1.5


def test_the_nets_are_mixed() -> None:
    """Every layer and every loss comes up, at every depth from 1 to 12."""
    nets = [random_net(seed)[0] for seed in range(NETS)]
    assert {net.depth for net in nets} == set(range(1, 13))
    layers = {name for net in nets for name, _, _ in net.layers}
    assert layers >= {
        "Linear", "Conv1d", "Conv2d", "ConvTranspose2d", "MaxPool1d", "MaxPool2d", "AvgPool1d",
        "AvgPool2d", "BatchNorm1d", "BatchNorm2d", "LayerNorm", "Embedding", "Dropout", "Flatten",
        "Sigmoid", "Tanh", "ReLU", "LeakyReLU", "ELU", "SELU", "GELU", "SiLU", "Softplus",
        "Hardtanh", "Softmax", "LogSoftmax", "Maxout", "Identity",
    }  # fmt: skip
    assert {net.loss for net in nets} == {
        "MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCELoss", "BCEWithLogitsLoss",
        "CrossEntropyLoss", "NLLLoss", "KLDivLoss",
    }  # fmt: skip
