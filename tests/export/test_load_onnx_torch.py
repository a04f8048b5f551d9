"""Files that `torch.onnx.export` writes, by both of its exporters: read, run, trained, compiled."""

from __future__ import annotations

import functools
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_checks import arrays_of, assert_close

import tinygrad_kr as tk
from tinygrad_kr import Tensor, optim

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
tnn = torch.nn


class TorchClassifier(tnn.Module):
    """The label of a sequence, from the last state of a recurrent net."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.net = getattr(tnn, kind)(3, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.head = tnn.Linear(10, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.net(x)[0][:, -1])


class TorchGPT(tnn.Module):
    """One block with a causal mask, as in nanoGPT."""

    def __init__(self, tokens: int = 11, steps: int = 6, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.token, self.position = tnn.Embedding(tokens, width), tnn.Embedding(steps, width)
        self.norm1, self.norm2 = tnn.LayerNorm(width), tnn.LayerNorm(width)
        self.qkv, self.joined = tnn.Linear(width, 3 * width), tnn.Linear(width, width)
        self.net = tnn.Sequential(tnn.Linear(width, 32), tnn.GELU(), tnn.Linear(32, width))
        self.head = tnn.Linear(width, tokens, bias=False)
        self.register_buffer("mask", torch.tril(torch.ones(steps, steps)))

    def forward(self, tokens: Any) -> Any:
        batch, steps = tokens.shape
        x = self.token(tokens) + self.position(torch.arange(steps))
        parts = self.qkv(self.norm1(x)).split(self.width, 2)
        q, k, v = (p.view(batch, steps, self.heads, -1).transpose(1, 2) for p in parts)
        scores = q @ k.transpose(-2, -1) * 0.5
        scores = scores.masked_fill(self.mask[:steps, :steps] == 0, float("-inf"))
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).contiguous().view(batch, steps, -1)
        x = x + self.joined(mixed)
        return self.head(x + self.net(self.norm2(x)))


def mlp() -> Any:
    hidden = [tnn.Linear(3, 8), tnn.ReLU(), tnn.Dropout(), tnn.Linear(8, 6), tnn.GELU()]
    more = [tnn.LeakyReLU(0.1), tnn.ELU(0.5), tnn.Softplus(), tnn.Hardtanh(), tnn.SiLU()]
    return tnn.Sequential(*hidden, *more, tnn.LayerNorm(6), tnn.Linear(6, 2), tnn.LogSoftmax(-1))


def cnn() -> Any:
    first = [tnn.Conv2d(1, 4, 3, padding=1), tnn.BatchNorm2d(4), tnn.ReLU(), tnn.MaxPool2d(2)]
    more = [tnn.Conv2d(4, 4, 3, stride=2, groups=2), tnn.AvgPool2d(2, padding=1), tnn.Flatten()]
    net = tnn.Sequential(*first, *more, tnn.Linear(16, 3))
    net(torch.randn(4, 1, 12, 12))
    return net


def normed() -> Any:
    """Batch norm that cannot be folded into a convolution."""
    first = [tnn.BatchNorm2d(2), tnn.Tanh(), tnn.MaxPool2d(3, 2, 1, ceil_mode=True)]
    more = [tnn.ConvTranspose2d(2, 3, 3, 2, 1, 1), tnn.AdaptiveAvgPool2d(1), tnn.Flatten()]
    net = tnn.Sequential(*first, *more, tnn.Linear(3, 2))
    net(torch.randn(4, 2, 8, 8))
    return net


def encoder() -> Any:
    layer = tnn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return tnn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def images() -> Any:
    first = [tnn.Conv2d(2, 8, 3, padding=1), tnn.PixelShuffle(2), tnn.Upsample(scale_factor=2)]
    smooth = [tnn.Upsample((9, 7), mode="bilinear"), tnn.Upsample(None, 1.5, "bicubic", True)]
    return tnn.Sequential(*first, tnn.PixelUnshuffle(2), tnn.Conv2d(8, 2, 1), *smooth)


NETS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "MLP": (mlp, (3,)),
    "CNN": (cnn, (1, 12, 12)),
    "batch norm": (normed, (2, 8, 8)),
    "RNN": (functools.partial(TorchClassifier, "RNN"), (4, 3)),
    "LSTM": (functools.partial(TorchClassifier, "LSTM"), (4, 3)),
    "GRU": (functools.partial(TorchClassifier, "GRU"), (4, 3)),
    "GPT": (TorchGPT, (6,)),
    "encoder": (encoder, (5, 8)),
    "images": (images, (2, 3, 4)),
}


def rows(shape: tuple[int, ...], batch: int, kind: str, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    if kind == "GPT":
        return random.integers(0, 11, (batch, *shape))
    return random.standard_normal((batch, *shape)).astype(np.float32)


@functools.cache
def torch_file(
    name: str, dynamo: bool, folder: Path, moved: bool = True, opset: int | None = None
) -> tuple[Any, Path]:
    """A net in eval mode, and its file. moved: no two parameters are equal, as in a trained net."""
    torch.manual_seed(0)
    make, shape = NETS[name]
    net = make().eval()
    with torch.no_grad():
        for parameter in net.parameters() if moved else ():
            parameter += 0.1 * torch.randn_like(parameter)
    path = folder / f"{name}-{dynamo}-{moved}-{opset}.onnx"
    example = torch.from_numpy(rows(shape, 2, name, 0))
    axes: dict[str, Any] = {"dynamic_axes": {"x": {0: "batch"}}, "opset_version": opset}
    if dynamo:
        axes = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                net, (example,), path, input_names=["x"], dynamo=dynamo, verbose=False, **axes
            )
    finally:
        logging.disable(logging.NOTSET)
    return net, path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("torch")


@pytest.fixture(params=[(name, dynamo) for name in NETS for dynamo in (False, True)], ids=str)
def given(request: Any, folder: Path) -> Any:
    """The name, PyTorch's net, and the file."""
    name, dynamo = request.param
    if dynamo:
        pytest.importorskip("onnxscript")
    return (name, *torch_file(name, dynamo, folder))


def test_it_computes_what_pytorch_does(given: Any) -> None:
    name, net, path = given
    loaded = tk.load_onnx(path)
    for batch in (1, 5):
        x = rows(NETS[name][1], batch, name, 1)
        with torch.no_grad():
            expected = net(torch.from_numpy(x)).numpy()
        assert_close(arrays_of(loaded(x)), [expected])


def test_the_named_parameters_have_pytorchs_gradients(given: Any) -> None:
    name, net, path = given
    loaded = tk.load_onnx(path)
    x = rows(NETS[name][1], 3, name, 2)
    (loaded(x) ** 2).mean().backward()
    net.zero_grad()
    (net(torch.from_numpy(x)) ** 2).mean().backward()
    state = {key: x.detach().numpy() for key, x in net.named_parameters()}
    compared = 0
    for key, parameter in loaded.named_parameters():
        assert parameter.grad is not None
        if key in state and np.array_equal(state[key], parameter.detach().numpy()):  # not folded
            expected = net.get_parameter(key).grad.numpy()
            np.testing.assert_allclose(parameter.grad.numpy(), expected, rtol=1e-3, atol=1e-5)
            compared += 1
    assert compared >= 2


def test_it_is_trained_and_compiled(given: Any) -> None:
    name, _, path = given
    loaded = tk.load_onnx(path)
    optimizer = optim.SGD(loaded.parameters(), lr=0.02)
    x = Tensor(rows(NETS[name][1], 4, name, 3))

    @tk.compile
    def step() -> Any:
        optimizer.zero_grad()
        loss = (loaded(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    losses = [step().item() for _ in range(8)]
    assert step.programs
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", NETS)
def test_the_oldest_opset_is_read(name: str, folder: Path) -> None:
    oldest = 14 if name == "encoder" else 13  # that with which PyTorch writes its attention
    net, path = torch_file(name, False, folder, opset=oldest)
    assert onnx.load(path).opset_import[0].version == oldest
    x = rows(NETS[name][1], 3, name, 4)
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    assert_close(arrays_of(tk.load_onnx(path)(x)), [expected])


def test_statistics_and_masks_are_buffers(folder: Path) -> None:
    loaded = tk.load_onnx(torch_file("batch norm", False, folder)[1])
    buffers = {name for name, _ in loaded.named_buffers()}
    assert {"0.running_mean", "0.running_var"} <= buffers
    loaded = tk.load_onnx(torch_file("GPT", False, folder)[1])
    assert "mask" in {name for name, _ in loaded.named_buffers()}


def test_equal_tensors_are_not_tied(folder: Path) -> None:
    net, path = torch_file("encoder", False, folder, moved=False)
    norms = {name for name, _ in net.named_parameters() if ".norm" in name}
    loaded = tk.load_onnx(path)
    assert norms <= {name for name, _ in loaded.named_parameters()}
    assert len({id(loaded.get_parameter(name)) for name in norms}) == len(norms)
