"""1장의 정답. Solutions of chapter 1."""

from __future__ import annotations

import numpy as np


def slope_both_ways(f, x, dx):
    return (f(x + dx) - f(x - dx)) / (2 * dx)


def line_gradients(w, b, x, t):
    error = w * x + b - t
    dw = np.mean(2 * error * x)
    db = np.mean(2 * error)
    return {"w": dw, "b": db}


def log_probability(z, label):
    z = z - np.max(z)
    return z[label] - np.log(np.sum(np.exp(z)))
