"""1장. 신경망 이전. Chapter 1. Before networks.

`...`을 지우고 빈칸을 채운 다음 확인하세요. Fill in each blank in place of `...`, then check:

    python examples/exercises/check.py 1
"""

from __future__ import annotations

import numpy as np


def slope_both_ways(f, x, dx):
    """1.1 x를 양쪽으로 dx씩 바꾸어 f의 기울기를 구하세요.

    The slope of f at x, from a change of x by dx both ways.
    """
    return ...  # 빈칸


def line_gradients(w, b, x, t):
    """1.2 비용은 mean((w x + b - t)^2)입니다. w와 b의 기울기를 손으로 유도하세요.

    The gradients of the cost mean((w x + b - t)^2), derived by hand. x and t have shape (n,).
    """
    error = w * x + b - t
    dw = ...  # 빈칸
    db = ...  # 빈칸
    return {"w": dw, "b": db}


def log_probability(z, label):
    """1.3 log(softmax(z))의 label번째 값을 구하세요. z가 1000이어도 NaN이 나오면 안 됩니다.

    The element `label` of log(softmax(z)), for logits z of shape (n,). No NaN, even for z = 1000.
    """
    z = z - np.max(z)
    return ...  # 빈칸
