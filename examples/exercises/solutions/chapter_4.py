"""4장의 정답. Solutions of chapter 4."""

from __future__ import annotations

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def reconstruction(v, W, b, c):
    h = sigmoid(v @ W + c)
    return sigmoid(h @ W.T + b)


def contrastive_divergence(v0, h0, v1, h1):
    return (v0.T @ h0 - v1.T @ h1) / len(v0)
