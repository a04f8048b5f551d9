"""6장의 정답. Solutions of chapter 6."""

from __future__ import annotations

import numpy as np


def skip_gradient(slope, layers):
    return (1 + slope) ** layers


def floor_of_the_loss(counts):
    p = np.array([count for count in counts if count > 0]) / sum(counts)
    return -np.sum(p * np.log(p))


def naive_error(prices):
    return np.mean((prices[1:] - prices[:-1]) ** 2)
