"""2장의 정답. Solutions of chapter 2."""

from __future__ import annotations

import numpy as np


def and_neuron():
    return 10, 10, -15  # 0.5가 되는 직선 a + b = 1.5: (1, 1)만 그 위에 있습니다


def output_delta(z, t):
    a = 1 / (1 + np.exp(-z))
    dz = (a - t) / len(z)
    return {"z": dz}


def backpropagation(W1, b1, W2, b2, X, Y):
    A1 = np.tanh(X @ W1 + b1)
    A2 = 1 / (1 + np.exp(-(A1 @ W2 + b2)))
    dZ2 = (A2 - Y) / len(X)
    dZ1 = dZ2 @ W2.T * (1 - A1**2)
    return {"W1": X.T @ dZ1, "b1": dZ1.sum(axis=0), "W2": A1.T @ dZ2, "b2": dZ2.sum(axis=0)}
