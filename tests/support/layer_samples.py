"""A row for every setting of a layer or loss: its arguments, an input, what it is by functions.

Used for derivatives, dtypes, copies, repr, compiled calls and PyTorch's answers. A new layer needs
a row here, and nothing else, to be tested so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import nn


class Layer(NamedTuple):
    """A layer and the shape of an input."""

    kind: str
    args: tuple[Any, ...] = ()
    settings: dict[str, Any] = {}  # noqa: RUF012
    shape: tuple[int, ...] = (3, 4)
    function: Callable[..., Any] | None = None
    """The same of the input and the parameters."""
    text: str = ""
    """Its repr, where it is looked at."""
    evaluates: bool = False
    """In eval mode from the start."""
    peer: bool = True
    """Whether PyTorch's layer of these arguments is compared."""

    def make(self) -> Any:
        layer = getattr(nn, self.kind)(*self.args, **self.settings)
        return layer.eval() if self.evaluates else layer

    def example(self, random: np.random.Generator) -> np.ndarray:
        """Distinct values, away from kinks; indices for a table."""
        if self.kind.startswith("Embedding"):
            return random.integers(0, self.args[0], self.shape)
        size = math.prod(self.shape)
        return ((random.permutation(size) + 0.5) / size * 4 - 2.03).reshape(self.shape)


LAYERS = {
    "Linear": Layer("Linear", (3, 2), {}, (4, 3)),
    "Linear, no bias": Layer(
        "Linear", (3, 2), {"bias": False}, (2, 2, 3),
        text="Linear(in_features=3, out_features=2, bias=False)",
    ),
    "Linear, no batch": Layer("Linear", (3, 2), {}, (3,)),
    "Identity": Layer("Identity", (1,), {"anything": 2}, (3,)),
    "Conv1d": Layer(
        "Conv1d", (2, 4, 3, 2, 1, 2, 2), {}, (2, 2, 9),
        lambda x, w, b: F.conv1d(x, w, b, stride=2, padding=1, dilation=2, groups=2),
    ),
    "Conv1d, replicate": Layer("Conv1d", (1, 2, 3, 1, 2), {"padding_mode": "replicate"}, (2, 1, 4)),
    "Conv1d, reflect": Layer(
        "Conv1d", (2, 2, 3, 2, 1, 2, 2, False), {"padding_mode": "reflect"}, (1, 2, 9),
        text="Conv1d(2, 2, kernel_size=(3,), stride=(2,), padding=(1,), dilation=(2,), groups=2, "
        "bias=False, padding_mode='reflect')",
    ),
    "Conv1d, same, no batch": Layer("Conv1d", (2, 3, 4), {"padding": "same"}, (2, 5)),
    "Conv2d": Layer(
        "Conv2d", (2, 3, 3), {}, (1, 2, 4, 5),
        text="Conv2d(2, 3, kernel_size=(3, 3), stride=(1, 1))",
    ),
    "Conv2d, groups": Layer(
        "Conv2d", (2, 4, (2, 3), (2, 1), (1, 2), (1, 2), 2), {}, (2, 2, 4, 5),
        lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 2), (1, 2), 2),
    ),
    "Conv2d, no bias": Layer(
        "Conv2d", (4, 2, 2), {"dilation": 2, "groups": 2, "bias": False}, (1, 4, 4, 4)
    ),
    "Conv2d, same": Layer(
        "Conv2d", (1, 1, 2), {"padding": "same"}, (1, 1, 3, 3),
        text="Conv2d(1, 1, kernel_size=(2, 2), stride=(1, 1), padding='same')",
    ),
    "Conv2d, same, dilation": Layer(
        "Conv2d", (1, 2, 3), {"padding": "same", "dilation": 2}, (1, 1, 4, 5)
    ),
    "Conv2d, circular": Layer(
        "Conv2d", (1, 2, 2), {"padding": (1, 0), "padding_mode": "circular"}, (1, 1, 3, 4),
        lambda x, w, b: F.conv2d(F.pad(x, (0, 0, 1, 1), mode="circular"), w, b),
    ),
    "Conv2d, same, circular": Layer(
        "Conv2d", (1, 1, 4), {"padding": "same", "padding_mode": "circular"}, (1, 1, 4, 5)
    ),
    "Conv2d, replicate": Layer(
        "Conv2d", (1, 2, (4, 1)), {"padding": "same", "padding_mode": "replicate"}, (1, 1, 3, 4),
        lambda x, w, b: F.conv2d(F.pad(x, (0, 0, 1, 2), mode="replicate"), w, b),
    ),
    "Conv2d, reflect, no batch": Layer(
        "Conv2d", (1, 2, 3), {"padding": (2, 1), "padding_mode": "reflect"}, (1, 4, 5)
    ),
    "Conv2d, valid": Layer("Conv2d", (1, 2, 3), {"padding": "valid"}, (1, 1, 4, 5)),
    "Conv2d, gaps": Layer("Conv2d", (2, 2, 3, 4), {}, (1, 2, 8, 7)),
    "ConvTranspose2d": Layer(
        "ConvTranspose2d", (2, 2, 3, 2, 1, 1, 2), {}, (1, 2, 2, 3),
        text="ConvTranspose2d(2, 2, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), "
        "output_padding=(1, 1), groups=2)",
    ),
    "ConvTranspose2d, plain": Layer("ConvTranspose2d", (3, 2, 3), {}, (1, 3, 2, 3)),
    "ConvTranspose2d, dilation": Layer(
        "ConvTranspose2d", (4, 2, (2, 3), (3, 2), (0, 1), (2, 1), 2, True, (1, 2)), {},
        (1, 4, 3, 2),
        lambda x, w, b: F.conv_transpose2d(x, w, b, (3, 2), (0, 1), (2, 1), 2, (1, 2)),
    ),
    "MaxPool1d": Layer(
        "MaxPool1d", (3, 2, 1, 1), {"ceil_mode": True}, (2, 2, 8),
        lambda x: F.max_pool1d(x, 3, 2, 1, 1, True),
    ),
    "MaxPool1d, dilation": Layer(
        "MaxPool1d", (2,), {"dilation": 2}, (1, 1, 8), lambda x: F.max_pool1d(x, 2, dilation=2)
    ),
    "MaxPool2d": Layer(
        "MaxPool2d", (2,), {}, (1, 2, 3, 5),
        text="MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)",
    ),
    "MaxPool2d, ceil": Layer("MaxPool2d", (2,), {"ceil_mode": True}, (1, 2, 3, 5)),
    "MaxPool2d, padding": Layer(
        "MaxPool2d", ((3, 2), 2, 1, (1, 2)), {"ceil_mode": True}, (1, 2, 6, 7),
        lambda x: F.max_pool2d(x, (3, 2), 2, 1, (1, 2), True),
    ),
    "AvgPool1d": Layer(
        "AvgPool1d", (3, 2, 1, True, False), {}, (2, 2, 6),
        lambda x: F.avg_pool1d(x, 3, 2, 1, True, False),
    ),
    "AvgPool1d, stride": Layer(
        "AvgPool1d", (3, 1), {}, (2, 6), text="AvgPool1d(kernel_size=3, stride=1, padding=0)"
    ),
    "AvgPool2d": Layer(
        "AvgPool2d", ((3, 2), 2, (1, 0), True, False), {}, (1, 1, 6, 5),
        lambda x: F.avg_pool2d(x, (3, 2), 2, (1, 0), True, False),
    ),
    "AvgPool2d, padding": Layer("AvgPool2d", (3,), {"stride": 2, "padding": 1}, (1, 2, 5, 6)),
    "AvgPool2d, divisor": Layer("AvgPool2d", (2, 1), {"divisor_override": 3}, (1, 2, 3, 4)),
    "ConvTranspose1d": Layer(
        "ConvTranspose1d", (2, 4, 3, 2, 1, 1, 2), {}, (2, 2, 4),
        lambda x, w, b: F.conv_transpose1d(x, w, b, 2, 1, 1, 2),
    ),
    "Conv3d": Layer(
        "Conv3d", (2, 2, (1, 2, 2), (1, 2, 1), (0, 1, 0)), {}, (1, 2, 2, 3, 3),
        lambda x, w, b: F.conv3d(x, w, b, (1, 2, 1), (0, 1, 0)),
    ),
    "MaxPool3d": Layer(
        "MaxPool3d", (2, 1), {}, (1, 1, 3, 2, 3), lambda x: F.max_pool3d(x, 2, 1)
    ),
    "AdaptiveAvgPool1d": Layer(
        "AdaptiveAvgPool1d", (3,), {}, (2, 2, 5), lambda x: F.adaptive_avg_pool1d(x, 3)
    ),
    "AdaptiveAvgPool2d": Layer(
        "AdaptiveAvgPool2d", ((2, None),), {}, (1, 2, 3, 4),
        lambda x: F.adaptive_avg_pool2d(x, (2, None)),
        text="AdaptiveAvgPool2d(output_size=(2, None))",
    ),
    "AdaptiveMaxPool2d": Layer(
        "AdaptiveMaxPool2d", ((2, 3),), {}, (1, 2, 3, 4),
        lambda x: F.adaptive_max_pool2d(x, (2, 3)),
    ),
    "AdaptiveMaxPool2d, even": Layer("AdaptiveMaxPool2d", (2,), {}, (1, 1, 4, 2)),
    "ConstantPad1d": Layer("ConstantPad1d", ((1, 2), 0.5), {}, (2, 1, 3)),
    "ConstantPad2d": Layer(
        "ConstantPad2d", ((1, 0, -1, 2), -1.5), {}, (1, 2, 3, 2),
        lambda x: F.pad(x, (1, 0, -1, 2), value=-1.5),
        text="ConstantPad2d(padding=(1, 0, -1, 2), value=-1.5)",
    ),
    "ConstantPad3d": Layer("ConstantPad3d", (1, 2.0), {}, (1, 1, 2, 1, 2)),
    "ZeroPad1d": Layer("ZeroPad1d", (2,), {}, (2, 1, 3)),
    "ZeroPad2d": Layer(
        "ZeroPad2d", (1,), {}, (1, 2, 2, 2), text="ZeroPad2d((1, 1, 1, 1))"
    ),
    "ZeroPad3d": Layer("ZeroPad3d", ((0, 1, 0, 2, 1, 0),), {}, (1, 1, 2, 1, 2)),
    "ReflectionPad1d": Layer("ReflectionPad1d", (2,), {}, (2, 1, 3)),
    "ReflectionPad2d": Layer(
        "ReflectionPad2d", ((1, 0, 2, 1),), {}, (1, 2, 3, 2),
        lambda x: F.pad(x, (1, 0, 2, 1), "reflect"),
    ),
    "ReflectionPad3d": Layer("ReflectionPad3d", (1,), {}, (1, 1, 2, 2, 2)),
    "ReplicationPad1d": Layer("ReplicationPad1d", (2,), {}, (2, 1, 3)),
    "ReplicationPad2d": Layer(
        "ReplicationPad2d", ((1, 0, 2, 1),), {}, (1, 2, 3, 2),
        lambda x: F.pad(x, (1, 0, 2, 1), "replicate"),
    ),
    "ReplicationPad3d": Layer("ReplicationPad3d", (1,), {}, (1, 1, 2, 1, 2)),
    "CircularPad1d": Layer("CircularPad1d", (2,), {}, (2, 1, 3)),
    "CircularPad2d": Layer(
        "CircularPad2d", ((1, 0, 2, 1),), {}, (1, 2, 3, 2),
        lambda x: F.pad(x, (1, 0, 2, 1), "circular"),
    ),
    "CircularPad3d": Layer("CircularPad3d", (1,), {}, (1, 1, 2, 1, 2)),
    "Unfold": Layer(
        "Unfold", ((2, 3), 1, 1, 2), {}, (1, 2, 4, 3), lambda x: F.unfold(x, (2, 3), 1, 1, 2),
        text="Unfold(kernel_size=(2, 3), dilation=1, padding=1, stride=2)",
    ),
    "Fold": Layer(
        "Fold", ((4, 3), (2, 3), 1, 1, 2), {}, (1, 12, 6),
        lambda x: F.fold(x, (4, 3), (2, 3), 1, 1, 2),
    ),
    "PixelShuffle": Layer("PixelShuffle", (2,), {}, (2, 4, 1, 2), lambda x: F.pixel_shuffle(x, 2)),
    "PixelUnshuffle": Layer(
        "PixelUnshuffle", (2,), {}, (2, 1, 2, 4), lambda x: F.pixel_unshuffle(x, 2)
    ),
    "Upsample": Layer("Upsample", (), {"scale_factor": 2}, (2, 1, 3)),
    "Upsample, bilinear": Layer(
        "Upsample", ((3, 5), None, "bilinear", True), {}, (1, 2, 2, 3),
        lambda x: F.interpolate(x, (3, 5), None, "bilinear", True),
    ),
    "Flatten": Layer("Flatten", (), {}, (2, 3, 2), text="Flatten(start_dim=1, end_dim=-1)"),
    "Flatten, axes": Layer("Flatten", (0, 1), {}, (2, 3, 4)),
    "Unflatten": Layer("Unflatten", (1, (2, 3)), {}, (2, 6, 2)),
    "Unflatten, rest": Layer(
        "Unflatten", (1, [2, -1]), {}, (2, 6), text="Unflatten(dim=1, unflattened_size=(2, -1))",
        peer=False,
    ),
    "Dropout": Layer(
        "Dropout", (), {"keep": 0.7}, (3, 2), text="Dropout(p=0.3)", evaluates=True, peer=False
    ),
    "BatchNorm1d": Layer("BatchNorm1d", (3,), {}, (4, 3)),
    "BatchNorm1d, 3 axes": Layer("BatchNorm1d", (2,), {"affine": False}, (3, 2, 3)),
    "BatchNorm1d, all batches": Layer("BatchNorm1d", (2, 1e-3, None), {}, (3, 2, 3)),
    "BatchNorm1d, all batches, eval": Layer(
        "BatchNorm1d", (2, 1e-3, None), {}, (3, 2, 3), evaluates=True, peer=False
    ),
    "BatchNorm1d, no statistics": Layer(
        "BatchNorm1d", (3,), {"affine": False, "track_running_stats": False}, (4, 3)
    ),
    "BatchNorm1d, no bias": Layer("BatchNorm1d", (3,), {"bias": False}, (4, 3), peer=False),
    "BatchNorm1d, eval": Layer("BatchNorm1d", (3,), {}, (4, 3), evaluates=True, peer=False),
    "BatchNorm2d": Layer("BatchNorm2d", (2,), {"momentum": 0.3}, (2, 2, 2, 3)),
    "LayerNorm": Layer(
        "LayerNorm", (4,), {}, (3, 4), text="LayerNorm((4,), eps=1e-05, elementwise_affine=True)"
    ),
    "LayerNorm, 2 axes": Layer("LayerNorm", ([2, 3],), {"bias": False, "eps": 1e-2}, (2, 2, 3)),
    "LayerNorm, not affine": Layer("LayerNorm", (4,), {"elementwise_affine": False}, (3, 4)),
    "Dropout1d": Layer("Dropout1d", (), {"keep": 0.7}, (2, 3, 2), evaluates=True, peer=False),
    "Dropout2d": Layer(
        "Dropout2d", (0.3,), {}, (2, 3, 2, 1), text="Dropout2d(p=0.3)", evaluates=True, peer=False
    ),
    "GroupNorm": Layer(
        "GroupNorm", (2, 4), {}, (2, 4, 3), lambda x, w, b: F.group_norm(x, 2, w, b)
    ),
    "GroupNorm, not affine": Layer("GroupNorm", (1, 3, 1e-3, False), {}, (2, 3, 2, 2)),
    "InstanceNorm1d": Layer(
        "InstanceNorm1d", (3,), {}, (2, 3, 4), lambda x: F.instance_norm(x)
    ),
    "InstanceNorm1d, statistics, no batch": Layer(
        "InstanceNorm1d", (3, 1e-5, 0.3, True, True), {}, (3, 4)
    ),
    "InstanceNorm1d, eval": Layer(
        "InstanceNorm1d", (3,), {"track_running_stats": True}, (2, 3, 4), evaluates=True, peer=False
    ),
    "InstanceNorm2d": Layer("InstanceNorm2d", (2,), {"affine": True}, (2, 2, 2, 3)),
    "RMSNorm": Layer(
        "RMSNorm", (4,), {}, (3, 4), lambda x, w: F.rms_norm(x, 4, w),
        text="RMSNorm((4,), eps=None, elementwise_affine=True)",
    ),
    "RMSNorm, 2 axes": Layer("RMSNorm", ([2, 3], 1e-2, False), {}, (2, 2, 3)),
    "Embedding": Layer("Embedding", (5, 3), {}, (2, 3), peer=False),
    "EmbeddingBag": Layer("EmbeddingBag", (5, 3), {}, (2, 3), peer=False),
    "EmbeddingBag, padding": Layer(
        "EmbeddingBag", (5, 3), {"mode": "max", "padding_idx": 1}, (2, 3), peer=False,
        text="EmbeddingBag(5, 3, mode='max', padding_idx=1)",
    ),
    "ReLU6": Layer("ReLU6", (), {}, (3, 4), lambda x: F.relu6(x), "ReLU6()"),
    "Hardsigmoid": Layer("Hardsigmoid", function=F.hardsigmoid, peer=False),
    "Hardswish": Layer("Hardswish", function=F.hardswish),
    "Mish": Layer("Mish", function=F.mish),
    "LogSigmoid": Layer("LogSigmoid", function=F.logsigmoid),
    "Softsign": Layer("Softsign", function=F.softsign),
    "PReLU": Layer("PReLU", (), {"init": 0.1}, text="PReLU(num_parameters=1)"),
    "PReLU, channels": Layer("PReLU", (4,), function=F.prelu),
    "GLU": Layer("GLU", (1,), {}, (2, 4, 3), lambda x: F.glu(x, 1), "GLU(dim=1)"),
    "Softmin": Layer("Softmin", (1,), function=lambda x: F.softmin(x, 1)),
    "Sigmoid": Layer("Sigmoid", function=F.sigmoid),
    "Tanh": Layer("Tanh", function=F.tanh),
    "ReLU": Layer("ReLU", function=F.relu, text="ReLU()"),
    "ReLU, inplace": Layer("ReLU", (), {"inplace": True}, peer=False),
    "LeakyReLU": Layer("LeakyReLU", function=lambda x: F.leaky_relu(x, 0.01)),
    "LeakyReLU, slope": Layer("LeakyReLU", (0.1,), function=lambda x: F.leaky_relu(x, 0.1)),
    "ELU": Layer("ELU", (0.7,), function=lambda x: F.elu(x, 0.7)),
    # PyTorch rounds 1 / alpha of the gradient to float32: 1 / 0.5 is exact.
    "CELU": Layer("CELU", (0.5,), function=lambda x: F.celu(x, 0.5)),
    "SELU": Layer("SELU", function=F.selu),
    "GELU": Layer("GELU", function=F.gelu),
    "GELU, tanh": Layer("GELU", ("tanh",), function=lambda x: F.gelu(x, "tanh")),
    "SiLU": Layer("SiLU", function=F.silu),
    "Softplus": Layer("Softplus", function=F.softplus),
    "Softplus, beta": Layer("Softplus", (3.0, 2.0), function=lambda x: F.softplus(x, 3.0, 2.0)),
    "Hardtanh": Layer("Hardtanh", (-0.5, 0.7), function=lambda x: F.hardtanh(x, -0.5, 0.7)),
    "Softmax": Layer("Softmax", (), {"dim": 1}, text="Softmax(dim=1)"),
    "Softmax, first axis": Layer("Softmax", (0,), function=lambda x: F.softmax(x, 0)),
    "LogSoftmax": Layer("LogSoftmax", (), {"dim": -1}),
    "LogSoftmax, middle axis": Layer(
        "LogSoftmax", (1,), {}, (2, 3, 4), lambda x: F.log_softmax(x, 1)
    ),
    "Maxout": Layer("Maxout", (2,), peer=False),
    "Maxout, first axis": Layer(
        "Maxout", (3,), {"dim": 0}, function=lambda x: F.maxout(x, 3, 0), peer=False
    ),
}  # fmt: skip

SEVERAL: dict[str, tuple[Callable[[Any], Any], tuple[tuple[int, ...], ...]]] = {
    "MultiheadAttention": (
        lambda nn: nn.MultiheadAttention(4, 2), ((3, 2, 4), (2, 2, 4), (2, 2, 4))
    ),
    "MultiheadAttention, separate": (
        lambda nn: nn.MultiheadAttention(
            4, 2, 0.0, False, True, True, kdim=3, vdim=2, batch_first=True
        ),
        ((2, 3, 4), (2, 2, 3), (2, 2, 2)),
    ),
    "TransformerEncoderLayer": (
        lambda nn: nn.TransformerEncoderLayer(4, 2, 3, 0.0, activation="gelu"), ((3, 2, 4),)
    ),
    "TransformerEncoderLayer, norm first": (
        lambda nn: nn.TransformerEncoderLayer(
            4, 2, 3, 0.0, batch_first=True, norm_first=True
        ),
        ((2, 3, 4),),
    ),
    "TransformerDecoderLayer": (
        lambda nn: nn.TransformerDecoderLayer(4, 2, 3, 0.0), ((3, 2, 4), (2, 2, 4))
    ),
    "TransformerDecoderLayer, norm first": (
        lambda nn: nn.TransformerDecoderLayer(
            4, 2, 3, 0.0, "gelu", batch_first=True, norm_first=True, bias=False
        ),
        ((2, 3, 4), (2, 2, 4)),
    ),
    "TransformerEncoder": (
        lambda nn: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(4, 2, 3, 0.0, batch_first=True), 2, nn.LayerNorm(4)
        ),
        ((2, 3, 4),),
    ),
    "TransformerDecoder": (
        lambda nn: nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 3, 0.0), 2),
        ((3, 2, 4), (2, 2, 4)),
    ),
    "Transformer": (
        lambda nn: nn.Transformer(4, 2, 1, 1, 3, 0.0), ((2, 2, 4), (3, 2, 4))
    ),
    "Bilinear": (lambda nn: nn.Bilinear(3, 2, 4), ((2, 3), (2, 2))),
    "CosineSimilarity": (lambda nn: nn.CosineSimilarity(), ((2, 3), (2, 3))),
    "PairwiseDistance": (lambda nn: nn.PairwiseDistance(3.0, keepdim=True), ((2, 3), (2, 3))),
}  # fmt: skip
"""Layers of several inputs, or made of layers, of a library's `nn`; and the inputs' shapes."""


class Loss(NamedTuple):
    """A loss, and an input and a target for it."""

    kind: str
    input: np.ndarray
    target: np.ndarray
    settings: dict[str, Any] = {}  # noqa: RUF012
    function: Callable[..., Any] | None = None
    """The same of the input and the target."""
    targets_differ: bool = True
    """Whether the target has a derivative that is to be checked."""
    more: tuple[np.ndarray, ...] = ()
    """What it is called with after the target."""

    def others(self, dtype: Any = np.float64) -> list[Any]:
        """`more` as Tensors, floats in this dtype."""
        return [tk.Tensor(x if x.dtype.kind == "i" else x.astype(dtype)) for x in self.more]

    def make(self, **more: Any) -> Any:
        return getattr(nn, self.kind)(**self.settings | more)


_random = np.random.default_rng(21)
REAL, OTHER = _random.standard_normal((2, 5, 3))
SHARES = np.exp(OTHER) / np.exp(OTHER).sum(1, keepdims=True)
HITS = (OTHER > 0).astype(np.float64)
LABELS = np.array([0, 2, 1, 2, 0])
PIXELS = _random.integers(0, 3, (5, 2, 3))
WEIGHT = np.array([0.5, 1.0, 2.0])
_logits = _random.standard_normal((6, 2, 4))
STEPS = _logits - np.log(np.exp(_logits).sum(2, keepdims=True))
_W = {"weight": WEIGHT}

LOSSES = {
    "MSELoss": Loss(
        "MSELoss", REAL, OTHER, {"reduction": "sum"},
        lambda x, t: F.mse_loss(x, t, reduction="sum"),
    ),
    "MSELoss, none": Loss("MSELoss", REAL, OTHER, {"reduction": "none"}),
    "L1Loss": Loss("L1Loss", REAL, OTHER, {}, F.l1_loss),
    "L1Loss, sum": Loss("L1Loss", REAL, OTHER, {"reduction": "sum"}),
    "SmoothL1Loss": Loss("SmoothL1Loss", REAL, OTHER),
    "SmoothL1Loss, 0.3": Loss(
        "SmoothL1Loss", REAL, OTHER, {"beta": 0.3}, lambda x, t: F.smooth_l1_loss(x, t, beta=0.3)
    ),
    "SmoothL1Loss, 0": Loss("SmoothL1Loss", REAL, OTHER, {"beta": 0.0}),
    "HuberLoss": Loss(
        "HuberLoss", REAL, OTHER, {"delta": 0.4}, lambda x, t: F.huber_loss(x, t, delta=0.4)
    ),
    "BCELoss": Loss(
        "BCELoss", SHARES, SHARES[::-1].copy(), {**_W, "reduction": "none"},
        lambda x, t: F.binary_cross_entropy(x, t, tk.Tensor(WEIGHT), "none"),
    ),
    "BCELoss, hits": Loss("BCELoss", SHARES, HITS, targets_differ=False),
    "BCEWithLogitsLoss": Loss(
        "BCEWithLogitsLoss", REAL, SHARES, {**_W, "pos_weight": WEIGHT + 1, "reduction": "sum"},
        lambda x, t: F.binary_cross_entropy_with_logits(
            x, t, tk.Tensor(WEIGHT), "sum", tk.Tensor(WEIGHT + 1)
        ),
    ),
    "BCEWithLogitsLoss, tails": Loss("BCEWithLogitsLoss", REAL * 30, HITS, targets_differ=False),
    "CrossEntropyLoss": Loss(
        "CrossEntropyLoss", REAL, LABELS, {**_W, "ignore_index": 1, "label_smoothing": 0.1},
        lambda x, t: F.cross_entropy(x, t, tk.Tensor(WEIGHT), 1, "mean", 0.1),
    ),
    "CrossEntropyLoss, tails": Loss("CrossEntropyLoss", REAL * 30, LABELS),
    "CrossEntropyLoss, ignore": Loss("CrossEntropyLoss", REAL, LABELS, {**_W, "ignore_index": 2}),
    "CrossEntropyLoss, smooth": Loss("CrossEntropyLoss", REAL, LABELS, {"label_smoothing": 0.1}),
    "CrossEntropyLoss, shares": Loss(
        "CrossEntropyLoss", REAL, SHARES, {"reduction": "sum"}, targets_differ=False
    ),
    "CrossEntropyLoss, weighted shares": Loss(
        "CrossEntropyLoss", REAL, SHARES, {**_W, "label_smoothing": 0.2}, targets_differ=False
    ),
    "CrossEntropyLoss, pixels": Loss(
        "CrossEntropyLoss", _random.standard_normal((5, 3, 2, 3)), PIXELS, _W
    ),
    "CrossEntropyLoss, no batch": Loss("CrossEntropyLoss", REAL[0], np.array(2)),
    "NLLLoss": Loss("NLLLoss", np.log(SHARES), LABELS),
    "NLLLoss, ignore": Loss(
        "NLLLoss", np.log(SHARES), LABELS, {**_W, "ignore_index": 2, "reduction": "none"},
        lambda x, t: F.nll_loss(x, t, tk.Tensor(WEIGHT), 2, "none"),
    ),
    "KLDivLoss": Loss("KLDivLoss", np.log(SHARES), SHARES[::-1].copy(), {"reduction": "batchmean"}),
    "KLDivLoss, log": Loss(
        "KLDivLoss", np.log(SHARES), np.log(SHARES[::-1]), {"reduction": "sum", "log_target": True},
        lambda x, t: F.kl_div(x, t, "sum", True),
    ),
    "GaussianNLLLoss": Loss(
        "GaussianNLLLoss", REAL, OTHER, {"full": True}, more=(SHARES,),
        function=lambda x, t: F.gaussian_nll_loss(x, t, tk.Tensor(SHARES), full=True),
    ),
    "GaussianNLLLoss, one each": Loss(
        "GaussianNLLLoss", REAL, OTHER, {"reduction": "none", "eps": 0.2}, more=(SHARES[:, :1],)
    ),
    "PoissonNLLLoss": Loss(
        "PoissonNLLLoss", REAL, 4 * SHARES, {"full": True}, targets_differ=False,
        function=lambda x, t: F.poisson_nll_loss(x, t, full=True),
    ),
    "PoissonNLLLoss, mean": Loss(
        "PoissonNLLLoss", SHARES, 4 * SHARES[::-1].copy(), {"log_input": False, "eps": 1e-3},
        function=lambda x, t: F.poisson_nll_loss(x, t, False, eps=1e-3),
    ),
    "CTCLoss": Loss(
        "CTCLoss", STEPS, np.array([[1, 1, 2], [3, -7, 99]]), {"reduction": "sum"},
        targets_differ=False, more=(np.array([6, 4]), np.array([3, 1])),
        function=lambda x, t: F.ctc_loss(x, t, [6, 4], [3, 1], reduction="sum"),
    ),
    "CTCLoss, blank": Loss(
        "CTCLoss", STEPS, np.array([[1, 1, 2, 0, 0], [3, 0, 3, 1, 3]]),
        {"blank": 2, "zero_infinity": True}, targets_differ=False,
        more=(np.array([6, 5]), np.array([0, 5])),
    ),
    "TripletMarginLoss": Loss(
        "TripletMarginLoss", REAL, OTHER, {"margin": 0.7, "p": 3.0, "eps": 1e-3, "swap": True},
        more=(REAL[::-1] + 0.1,),
        function=lambda x, t: F.triplet_margin_loss(
            x, t, tk.Tensor(REAL[::-1] + 0.1), 0.7, 3.0, 1e-3, True
        ),
    ),
    "TripletMarginLoss, plain": Loss(
        "TripletMarginLoss", REAL, OTHER, more=(REAL[::-1] + 0.1,)
    ),
    "MarginRankingLoss": Loss(
        "MarginRankingLoss", REAL, OTHER, {"margin": 0.5}, more=(1 - 2 * HITS,),
        function=lambda x, t: F.margin_ranking_loss(x, t, tk.Tensor(1 - 2 * HITS), 0.5),
    ),
    "HingeEmbeddingLoss": Loss(
        "HingeEmbeddingLoss", REAL, 1 - 2 * HITS, {"margin": 0.3}, targets_differ=False,
        function=lambda x, t: F.hinge_embedding_loss(x, t, 0.3),
    ),
    "CosineEmbeddingLoss": Loss(
        "CosineEmbeddingLoss", REAL, OTHER, {"margin": 0.1}, more=(np.array([1, -1, -1, 1, -1]),),
        function=lambda x, t: F.cosine_embedding_loss(x, t, np.array([1, -1, -1, 1, -1]), 0.1),
    ),
    "MultiLabelSoftMarginLoss": Loss(
        "MultiLabelSoftMarginLoss", REAL, HITS, _W, targets_differ=False,
        function=lambda x, t: F.multilabel_soft_margin_loss(x, t, tk.Tensor(WEIGHT)),
    ),
}  # fmt: skip
