"""2장. 뉴런 하나, 그리고 한 층 더. Chapter 2. One neuron, and one layer more.

`...`을 지우고 빈칸을 채운 다음 확인하세요. Fill in each blank in place of `...`, then check:

    python examples/exercises/check.py 2
"""

from __future__ import annotations

import numpy as np


def and_neuron():
    """2.1 sigmoid(wa a + wb b + bias)가 AND를 계산하도록 (wa, wb, bias)를 정하세요.

    Three numbers with which a sigmoid neuron computes AND of a and b, each 0 or 1.
    """
    return ...  # 빈칸


def output_delta(z, t):
    """2.2 L = mean(-t log a - (1 - t) log(1 - a)), a = sigmoid(z)일 때 dL/dz를 구하세요.

    The gradient of the mean log loss by z, of shape (n,), where a = sigmoid(z).
    """
    a = 1 / (1 + np.exp(-z))
    dz = ...  # 빈칸
    return {"z": dz}


def backpropagation(W1, b1, W2, b2, X, Y):
    """2.3 은닉층이 tanh인 신경망의 역전파를 완성하세요(by_hand.py와 같은 신경망).

    Complete the backpropagation of the net of by_hand.py: tanh, then sigmoid and log loss.
    """
    A1 = np.tanh(X @ W1 + b1)
    A2 = 1 / (1 + np.exp(-(A1 @ W2 + b2)))
    dZ2 = (A2 - Y) / len(X)
    dZ1 = ...  # 빈칸
    return {"W1": X.T @ dZ1, "b1": dZ1.sum(axis=0), "W2": A1.T @ dZ2, "b2": dZ2.sum(axis=0)}
