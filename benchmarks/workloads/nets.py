"""The nets, written for PyTorch's interface: once for ours and for PyTorch itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from workloads.work import OPTIMIZERS, Work, starting_weights

__all__ = ["NETS", "Framework", "Net", "Training", "ours", "pytorch"]

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Framework:
    """The modules of a framework that has PyTorch's interface."""

    nn: Any
    functional: Any
    optim: Any
    tensor: Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class Net:
    """A net, its loss and update rule, and one batch of its data.

    build makes the module. loss is a function of framework, module and batch.
    """

    key: str
    title: str
    data: Callable[[np.random.Generator], Arrays]
    build: Callable[[Framework], Any]
    loss: Callable[..., Any]
    optimizer: str = "Adam"


# ------------------------------------------------------------------ multi-layer perceptrons

XOR = (np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32),
       np.array([[0], [1], [1], [0]], np.float32))  # fmt: skip


def perceptron(sizes: tuple[int, ...], activation: str, framework: Framework) -> Any:
    nn = framework.nn
    layers = []
    for wide, narrow in pairwise(sizes[:-1]):
        layers += [nn.Linear(wide, narrow), getattr(nn, activation)()]
    return nn.Sequential(*layers, nn.Linear(*sizes[-2:]))


def images(batch: int, shape: tuple[int, ...], generator: np.random.Generator) -> Arrays:
    x = generator.random((batch, *shape), np.float32)
    return x, generator.integers(0, 10, batch)


def classify(framework: Framework, net: Any, x: Any, y: Any) -> Any:
    return framework.functional.cross_entropy(net(x), y)


def decide(framework: Framework, net: Any, x: Any, y: Any) -> Any:
    return framework.functional.binary_cross_entropy_with_logits(net(x), y)


def reconstruct(framework: Framework, net: Any, x: Any) -> Any:
    return framework.functional.mse_loss(net(x), x)


# ------------------------------------------------------------------ convolutions


def cnn(framework: Framework) -> Any:
    nn = framework.nn
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64 * 7 * 7, 10)),
    )


def resnet(framework: Framework) -> Any:
    """Three residual blocks of 16, 32 and 64 channels, as He et al. (2016) for CIFAR-10."""
    nn, relu = framework.nn, framework.functional.relu

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, narrow: int, wide: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(narrow, wide, 3, stride=stride, padding=1, bias=False)
            self.norm1 = nn.BatchNorm2d(wide)
            self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
            self.norm2 = nn.BatchNorm2d(wide)
            self.shortcut = None
            if stride > 1:
                shortcut = nn.Conv2d(narrow, wide, 1, stride=stride, bias=False)
                self.shortcut = nn.Sequential(shortcut, nn.BatchNorm2d(wide))

        def forward(self, x: Any) -> Any:
            h = relu(self.norm1(self.conv1(x)))
            h = self.norm2(self.conv2(h))
            return relu(h + (x if self.shortcut is None else self.shortcut(x)))

    class ResNet(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(16)
            self.block1, self.block2 = Block(16, 16, 1), Block(16, 32, 2)
            self.block3, self.output = Block(32, 64, 2), nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            h = relu(self.norm(self.conv(x)))
            h = self.block3(self.block2(self.block1(h)))
            return self.output(h.mean((2, 3)))

    return ResNet()


SEPARABLE = ((32, 64, 1), (64, 128, 2), (128, 128, 1))
"""Channels in, channels out and stride of each depthwise-separable block."""


def separable(framework: Framework) -> Any:
    """Depthwise-separable blocks, as in MobileNet (Howard et al. 2017)."""
    nn = framework.nn

    def unit(*convolution: Any, **options: Any) -> list[Any]:
        layer = nn.Conv2d(*convolution, bias=False, **options)
        return [layer, nn.BatchNorm2d(convolution[1]), nn.ReLU()]

    layers = unit(3, 32, 3, stride=2, padding=1)
    for narrow, wide, stride in SEPARABLE:
        layers += unit(narrow, narrow, 3, stride=stride, padding=1, groups=narrow)
        layers += unit(narrow, wide, 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


# ------------------------------------------------------------------ generative nets


def vae(framework: Framework) -> Any:
    nn, relu = framework.nn, framework.functional.relu

    class VAE(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.mean, self.log_variance = (
                nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
            )  # fmt: skip
            self.wide, self.output = nn.Linear(20, 400), nn.Linear(400, 784)

        def forward(self, x: Any, noise: Any) -> Any:
            h = relu(self.hidden(x))
            mean, log_variance = self.mean(h), self.log_variance(h)
            z = mean + noise * (0.5 * log_variance).exp()
            return self.output(relu(self.wide(z))), mean, log_variance

    return VAE()


def evidence(framework: Framework, net: Any, x: Any, noise: Any) -> Any:
    """Minus the evidence lower bound of Kingma and Welling (2014), a mean over the batch."""
    logits, mean, log_variance = net(x, noise)
    fit = framework.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
    return (fit + divergence) / len(x)


def rbm(framework: Framework) -> Any:
    nn, linear = framework.nn, framework.functional.linear

    class RBM(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            layer = nn.Linear(784, 128)
            self.weight, self.hidden_bias = layer.weight, layer.bias
            self.visible_bias = nn.Linear(1, 784).bias

        def free_energy(self, v: Any) -> Any:
            inner = linear(v, self.weight, self.hidden_bias)
            return -(v @ self.visible_bias) - framework.functional.softplus(inner).sum(1)

        def reconstruct(self, v: Any, uniform: Any, uniform_of_visible: Any) -> Any:
            chance = linear(v, self.weight, self.hidden_bias).sigmoid()
            h = (uniform < chance).to(v.dtype)
            chance = linear(h, self.weight.T, self.visible_bias).sigmoid()
            return (uniform_of_visible < chance).to(v.dtype)

    return RBM()


def contrastive_divergence(framework: Framework, net: Any, v: Any, *uniforms: Any) -> Any:
    """CD-1 of Hinton (2002), as a loss whose gradient is the update."""
    sample = net.reconstruct(v, *uniforms).detach()
    return (net.free_energy(v) - net.free_energy(sample)).mean()


# ------------------------------------------------------------------ sequences

VOCABULARY, LENGTH, WIDTH, HEADS, LAYERS = 65, 32, 64, 4, 4


def gpt(framework: Framework) -> Any:
    """A character GPT: 4 layers x 64, 4 heads, 32 characters."""
    nn, functional = framework.nn, framework.functional

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x: Any) -> Any:
            rows, length, _ = x.shape
            split = self.qkv(self.norm1(x)).reshape(rows, length, 3, HEADS, WIDTH // HEADS)
            q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.proj(mixed.permute(0, 2, 1, 3).reshape(rows, length, WIDTH))
            return x + self.narrow(functional.gelu(self.wide(self.norm2(x))))

    class GPT(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.token, self.position = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LENGTH, WIDTH)
            self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
            self.norm, self.output = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY)

        def forward(self, tokens: Any) -> Any:
            return self.output(self.norm(self.blocks(self.token(tokens) + self.position.weight)))

    return GPT()


def next_token(framework: Framework, net: Any, tokens: Any, following: Any) -> Any:
    logits = net(tokens).reshape(-1, VOCABULARY)
    return framework.functional.cross_entropy(logits, following.reshape(-1))


def texts(generator: np.random.Generator) -> Arrays:
    tokens = generator.integers(0, VOCABULARY, (32, LENGTH + 1))
    return np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:])


def recurrent(kind: str, framework: Framework) -> Any:
    """Two recurrent layers of 128 units, and a linear layer on the last time step."""
    nn = framework.nn

    class Classifier(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layers = getattr(nn, kind)(64, 128, num_layers=2, batch_first=True)
            self.output = nn.Linear(128, 10)

        def forward(self, x: Any) -> Any:
            return self.output(self.layers(x)[0][:, -1])

    return Classifier()


WORDS, PAIRS, NEGATIVES = 10_000, 512, 5


def skip_gram(framework: Framework) -> Any:
    nn = framework.nn

    class SkipGram(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.words, self.contexts = nn.Embedding(WORDS, 100), nn.Embedding(WORDS, 100)

        def forward(self, word: Any, context: Any, negatives: Any) -> Any:
            vectors = self.words(word)
            near = (vectors * self.contexts(context)).sum(1)
            far = (self.contexts(negatives) @ vectors.unsqueeze(2)).squeeze(2)
            return near, far

    return SkipGram()


def negative_sampling(framework: Framework, net: Any, *words: Any) -> Any:
    """The loss of Mikolov et al. (2013), section 2.2."""
    softplus = framework.functional.softplus
    near, far = net(*words)
    return (softplus(-near) + softplus(far).sum(1)).mean()


def word_pairs(generator: np.random.Generator) -> Arrays:
    shapes = (PAIRS, PAIRS, (PAIRS, NEGATIVES))
    return tuple(generator.integers(0, WORDS, shape) for shape in shapes)


# ------------------------------------------------------------------ all of them


def _mlp(key: str, title: str, sizes: tuple[int, ...], batch: int) -> Net:
    build = partial(perceptron, sizes, "ReLU")
    return Net(key, title, partial(images, batch, (sizes[0],)), build, classify)


NETS = {
    net.key: net
    for net in (
        Net(
            "xor", "XOR 2-10-1 sigmoid, SGD, batch 4",
            lambda _: XOR, partial(perceptron, (2, 10, 1), "Sigmoid"), decide, "SGD",
        ),
        Net(
            "deep", "deep 2-(5 x 10)-1 ReLU, batch 4",
            lambda _: XOR, partial(perceptron, (2, *[5] * 10, 1), "ReLU"), decide,
        ),
        _mlp("mnist", "MNIST MLP 784-256-256-10, batch 100", (784, 256, 256, 10), 100),
        _mlp("wide", "wide MLP 784-1024-1024-10, batch 512", (784, 1024, 1024, 10), 512),
        Net(
            "cnn", "CNN 32-64, 1x28x28, batch 100",
            partial(images, 100, (1, 28, 28)), cnn, classify,
        ),
        Net(
            "resnet", "ResNet 16-32-64, batch norm, 3x32x32, batch 32",
            partial(images, 32, (3, 32, 32)), resnet, classify, "momentum",
        ),
        Net(
            "separable", "depthwise-separable CNN, 3x32x32, batch 32",
            partial(images, 32, (3, 32, 32)), separable, classify,
        ),
        Net(
            "vae", "VAE 784-400-20, batch 100",
            lambda g: (g.random((100, 784), np.float32), g.standard_normal((100, 20), np.float32)),
            vae, evidence,
        ),
        Net(
            "autoencoder", "autoencoder 784-128-64-12, batch 100",
            lambda g: (g.random((100, 784), np.float32),),
            partial(perceptron, (784, 128, 64, 12, 64, 128, 784), "ReLU"), reconstruct,
        ),
        Net("gpt", "GPT 4 x 64, 4 heads, T 32, batch 32", texts, gpt, next_token, "AdamW"),
        Net(
            "lstm", "LSTM 2 x 128, T 32, batch 32",
            partial(images, 32, (32, 64)), partial(recurrent, "LSTM"), classify,
        ),
        Net(
            "gru", "GRU 2 x 128, T 32, batch 32",
            partial(images, 32, (32, 64)), partial(recurrent, "GRU"), classify,
        ),
        Net(
            "skipgram", "skip-gram, 10,000 words x 100, batch 512",
            word_pairs, skip_gram, negative_sampling, "SGD",
        ),
        Net(
            "rbm", "RBM 784-128, CD-1, batch 100",
            lambda g: (
                (g.random((100, 784)) < 0.2).astype(np.float32),
                g.random((100, 128), np.float32), g.random((100, 784), np.float32),
            ),
            rbm, contrastive_divergence, "SGD",
        ),
    )
}  # fmt: skip


# ------------------------------------------------------------------ ours and PyTorch


class Training:
    """A net in training in one framework, from the weights that all frameworks start with."""

    def __init__(self, net: Net, framework: Framework) -> None:
        self.module = net.build(framework)
        self._loss = partial(net.loss, framework)
        named = dict(self.module.named_parameters())
        start = starting_weights({name: tuple(p.shape) for name, p in named.items()})
        for name, parameter in named.items():
            parameter.data = framework.tensor(start[name]).data
        kind = "SGD" if net.optimizer == "momentum" else net.optimizer
        rule = getattr(framework.optim, kind)
        self.optimizer = rule(self.module.parameters(), **OPTIMIZERS[net.optimizer])
        self.batch = [framework.tensor(a) for a in net.data(np.random.default_rng(0))]

    def loss(self, *batch: Any) -> Any:
        return self._loss(self.module, *batch)

    def step(self, *batch: Any) -> Any:
        self.optimizer.zero_grad()
        loss = self.loss(*batch)
        loss.backward()
        self.optimizer.step()
        return loss

    def results(self) -> dict[str, np.ndarray]:
        """The loss in float32; loss and gradients by name in float64, where a unit next to a kink
        of ReLU is on the same side in every framework. The net stays in float64."""
        found = {"loss in float32": self.loss(*self.batch).detach().numpy()}
        self.module.double()
        loss = self.loss(*(a.double() if "float" in str(a.dtype) else a for a in self.batch))
        loss.backward()
        found["loss"] = loss.detach().numpy()
        for name, parameter in self.module.named_parameters():
            found[f"gradient of {name}"] = parameter.grad.numpy().copy()
        return found


def _our_framework() -> Framework:
    from tinygrad_kr import Tensor, functional, nn, optim

    return Framework(nn, functional, optim, Tensor)


def ours(key: str, compiled: bool = False) -> Work:
    import tinygrad_kr as tk

    own = Training(NETS[key], _our_framework())
    step = tk.compile(own.step) if compiled else own.step
    return Work(partial(step, *own.batch), own.results)


REPEATS = 10_000


def ours_repeated(key: str) -> Work:
    """`REPEATS` steps on one batch in one call."""
    import tinygrad_kr as tk

    own = Training(NETS[key], _our_framework())
    step = tk.compile(own.step)
    return Work(partial(step.repeat, REPEATS, *own.batch), own.results)


def shapes_of(key: str) -> dict[str, tuple[int, ...]]:
    """The shapes of a net's parameters, by PyTorch's names."""
    module = NETS[key].build(_our_framework())
    return {name: tuple(p.shape) for name, p in module.named_parameters()}


def pytorch(key: str) -> Work:
    own = Training(NETS[key], _pytorch_framework())
    return Work(partial(own.step, *own.batch), own.results)


def pytorch_compiled(key: str) -> Work:
    """Loss and update are compiled each by itself. As one, the small steps take twice as long, and
    compiling them three times."""
    import torch

    torch._logging.set_logs(all=logging.ERROR)
    own = Training(NETS[key], _pytorch_framework())
    own._loss = torch.compile(own._loss)
    own.optimizer.step = torch.compile(own.optimizer.step)
    return Work(partial(own.step, *own.batch), own.results)


def _pytorch_framework() -> Framework:
    import torch

    return Framework(torch.nn, torch.nn.functional, torch.optim, torch.from_numpy)
