"""Nets that are exported as a whole: the lectures' CNN, an LSTM, a small GPT of our ops."""

from __future__ import annotations

from typing import Any

import numpy as np
from lecture_programs import program

import tinygrad_kr as tk
from tinygrad_kr import nn


class Classifier(nn.Module):
    """The label of a sequence, from the last state of a recurrent net of two layers both ways."""

    def __init__(self, kind: str) -> None:
        self.net = getattr(nn, kind)(3, 8, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Any) -> Any:
        return self.head(self.net(x)[0][:, -1])


class Block(nn.Module):
    """Causal self-attention and a net of two layers, each with a residual."""

    def __init__(self, width: int, heads: int) -> None:
        self.heads = heads
        self.before_attention, self.before_net = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.net = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Any) -> Any:
        return self.fed(x + self.attended(self.before_attention(x)))

    def fed(self, x: Any) -> Any:
        return x + self.net(self.before_net(x))

    def attended(self, x: Any) -> Any:
        batch, steps, width = x.shape
        parts = self.qkv(x).reshape(batch, steps, 3, self.heads, width // self.heads)
        q, k, v = (parts[:, :, i].transpose(1, 2) for i in range(3))
        scores = q @ k.mT / np.sqrt(width // self.heads)
        later = np.triu(np.ones((steps, steps), bool), 1)
        weights = tk.softmax(scores.masked_fill(later, -np.inf), -1)
        return self.joined((weights @ v).transpose(1, 2).reshape(batch, steps, width))


class GPT(nn.Module):
    """Logits of the next character: token and position embeddings, two blocks."""

    def __init__(self, tokens: int = 11, steps: int = 6, width: int = 16, heads: int = 2) -> None:
        self.token, self.position = nn.Embedding(tokens, width), nn.Embedding(steps, width)
        self.dropout = nn.Dropout(0.2)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(2)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, tokens, bias=False)

    def forward(self, tokens: Any) -> Any:
        x = self.dropout(self.token(tokens) + self.position(np.arange(tokens.shape[1])))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def lecture_cnn() -> Any:
    """Lab 11-2, with fewer filters."""
    lab = program("mnist_cnn")
    return lab.make_net(lab.RECIPES["11-2"]._replace(filters=(4, 8, 8), dense=20))


def norm_cnn() -> Any:
    """A CNN with batch norm that has seen batches."""
    windows = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2)]
    net = nn.Sequential(*windows, nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 14 * 14, 10))
    for _ in range(3):
        net(tk.randn(5, 1, 28, 28))
    return net


IMAGES = np.random.default_rng(0).standard_normal((2, 1, 28, 28)).astype(np.float32)
NETS = {
    "the lectures' CNN": (lecture_cnn, IMAGES),
    "a split and merged CNN": (
        lambda: program("lego").image_net("split"),
        IMAGES[:, :, :8, :8].copy(),
    ),
    "a CNN with batch norm": (norm_cnn, IMAGES),
    "an LSTM": (lambda: Classifier("LSTM"), IMAGES[:, 0, :7, :3].copy()),
    "a GRU": (lambda: Classifier("GRU"), IMAGES[:, 0, :7, :3].copy()),
    "a GPT": (GPT, np.array([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])),
}
"""Nets and examples by name."""
