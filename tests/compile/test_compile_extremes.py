"""Compiled values and gradients at zeros, infinities and far away are the eager ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import backend as backend
from harness import compare

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr import functional as F

INF, NAN = np.inf, np.nan
BASES, EXPONENTS = np.meshgrid([0.0, 2.0, 0.5, -2.0, NAN], [0.0, 1.0, 2.0, 3.0, 0.5, -1.0])
ENDS = np.array([0.0, -0.0, 1.0, -2.5, 40.0, -40.0, 1e4, -1e4, 3e20, -3e20, INF, -INF, NAN])
LEFT, RIGHT = np.meshgrid([INF, -INF, 1.0, NAN, 0.0], [INF, -INF, 1.0, 2.0])
PROBABILITIES = np.linspace(0, 1, len(ENDS))
ROWS = np.array([[INF, 1, INF], [0, 0, 0], [-INF, -INF, -INF], [INF, -INF, 2], [NAN, 1, INF]])

CASES: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "power": (lambda a, b: a**b, (BASES, EXPONENTS)),
    "logaddexp": (np.logaddexp, (LEFT, RIGHT)),
    "logaddexp2": (np.logaddexp2, (LEFT, RIGHT)),
    "logsumexp": (lambda x: x.logsumexp(axis=1), (ROWS,)),
    "softplus": (tk.softplus, (ENDS,)),
    "logsigmoid": (F.logsigmoid, (ENDS,)),
    "erf": (tk.erf, (ENDS,)),
    "arcsinh": (np.arcsinh, (ENDS,)),
    "arccosh": (np.arccosh, (ENDS,)),
    "arctan": (np.arctan, (ENDS,)),
    **{f"power {n}": (lambda x, n=n: x**n, (ENDS,)) for n in (3, 4, 5, -1, -2, -3, 0, 0.5)},
    "bce": (
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="none"),
        (ENDS, PROBABILITIES.round()),
    ),
    "bce of shares": (
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="none"),
        (ENDS, PROBABILITIES),
    ),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name: str, dtype: Any, backend: str) -> None:
    f, given = CASES[name]

    def both(*arrays: Any) -> Any:
        leaves = [x.detach().requires_grad_() for x in arrays]
        y = f(*leaves)
        y.backward(tk.ones(*y.shape, dtype=y.dtype))
        return y.detach(), *[leaf.grad for leaf in leaves]

    compare(both, *[Tensor(x.astype(dtype)) for x in given], scales=(1, 1, 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["power", "logaddexp", "logsumexp", "softplus", "bce"])
def test_second_derivatives(name: str, dtype: Any, backend: str) -> None:
    f, given = CASES[name]

    def twice(*arrays: Any) -> Any:
        leaves = [x.detach().requires_grad_() for x in arrays]
        y = f(*leaves)
        (g,) = tk.autograd.grad(y, leaves[0], tk.ones(*y.shape, dtype=y.dtype), create_graph=True)
        return tk.autograd.grad(g, leaves, tk.ones(*g.shape, dtype=g.dtype), allow_unused=True)

    compare(twice, *[Tensor(x.astype(dtype)) for x in given], scales=(1, 1, 1))
