"""Values, gradients and second derivatives of `tk.linalg` beside those of `torch.linalg`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy import ndarray

import tinygrad_kr as tk

torch = pytest.importorskip("torch")
RANDOM = np.random.default_rng(4)
Call = Callable[..., Any]


def normal(*sizes: int) -> ndarray:
    return np.asarray(RANDOM.normal(size=sizes))


def regular(*sizes: int) -> ndarray:
    return normal(*sizes) + 3 * np.eye(sizes[-1])


def signless(parts: Any) -> Any:
    """One number of factors whose columns have no certain sign."""
    return sum((part * part * (part * part + 1)).sum() for part in parts)


CASES: dict[str, tuple[Call, list[tuple[ndarray, ...]]]] = {
    "lstsq": (
        lambda la, a, b: (la.lstsq(a, b).solution ** 2).sum(),
        [(normal(5, 3), normal(5, 2)), (normal(2, 5, 3), normal(2, 5, 1))],
    ),
    "qr": (lambda la, a: signless(la.qr(a)), [(normal(*s),) for s in ((4, 2), (3, 3), (2, 4))]),
    **{
        f"solve_triangular {upper} {left} {unit}": (
            lambda la, a, b, u=upper, left=left, n=unit: (
                la.solve_triangular(a, b, upper=u, left=left, unitriangular=n) ** 2
            ).sum(),
            [(regular(3, 3), normal(3, 3)), (regular(2, 3, 3), normal(3, 3))],
        )
        for upper in (True, False)
        for left in (True, False)
        for unit in (True, False)
    },
    "pinv": (
        lambda la, a: (la.pinv(a, atol=0.2, rtol=0.1) ** 2).sum(),
        [(normal(4, 2),), (normal(2, 2, 3),)],
    ),
    "pinv of a symmetric matrix": (
        lambda la, a: (la.pinv((a + a.mT) / 2, hermitian=True) ** 2).sum(),
        [(regular(3, 3),)],
    ),
    "svd": (
        lambda la, a: signless(la.svd(a, full_matrices=False)),
        [(normal(*s),) for s in ((4, 2), (3, 3), (2, 4))],
    ),
    "eigh": (lambda la, a: signless(la.eigh((a + a.mT) / 2)), [(regular(3, 3),)]),
    **{
        f"{order}-norm": (lambda la, a, p=order: la.vector_norm(a, p), [(normal(3, 2),)])
        for order in (0.5, 1, 1.5, 2, 3, -1, -2.5, float("inf"), float("-inf"))
    },
    **{
        f"{order} norm": (lambda la, a, p=order: la.matrix_norm(a, p), [(normal(3, 2),)])
        for order in ("fro", "nuc", 1, -1, 2, -2, float("inf"))
    },
    "det": (lambda la, a: la.det(a), [(regular(3, 3),), (np.outer([1.0, 2, 3], [1.0, 1, 2]),)]),
}
ALL = [
    pytest.param(f, args, id=f"{k}-{i}")
    for k, (f, all_) in CASES.items()
    for i, args in enumerate(all_)
]


def of_torch(f: Call, args: tuple[ndarray, ...]) -> tuple[Any, list[Any], list[Any]]:
    inputs = [torch.tensor(x, requires_grad=True) for x in args]
    value = f(torch.linalg, *inputs)
    first = torch.autograd.grad(value, inputs, create_graph=True)
    weighted = sum(
        (g * torch.linspace(1, 2, g.numel(), dtype=g.dtype).reshape(g.shape)).sum() for g in first
    )
    second = torch.autograd.grad(weighted, inputs, materialize_grads=True)
    return value.item(), [g.detach().numpy() for g in first], [g.numpy(force=True) for g in second]


def of_ours(f: Call, args: tuple[ndarray, ...]) -> tuple[Any, list[Any], list[Any]]:
    inputs = [tk.Tensor(x, requires_grad=True) for x in args]
    value = f(tk.linalg, *inputs)
    first = tk.autograd.grad(value, inputs, create_graph=True)
    weighted: Any = sum((g * np.linspace(1, 2, g.size).reshape(g.shape)).sum() for g in first)
    weighted = weighted + sum(0.0 * x.sum() for x in inputs)  # of linear pieces nothing is recorded
    second = tk.autograd.grad(weighted, inputs, materialize_grads=True)
    return value.item(), [g.data for g in first], [g.data for g in second]


@pytest.mark.parametrize(("f", "args"), ALL)
def test_values_and_derivatives_of_both_orders(f: Call, args: tuple[ndarray, ...]) -> None:
    value, first, second = of_torch(f, args)
    found, slopes, curvatures = of_ours(f, args)
    np.testing.assert_allclose(found, value, rtol=1e-10, atol=1e-12)
    for mine, theirs in zip([*slopes, *curvatures], [*first, *second], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-7, atol=1e-9)


def test_ranks_and_tolerances() -> None:
    a = np.diag([1.0, 0.1, 0.001])
    b = np.stack([a, a])
    for options in ({}, {"rtol": 0.01}, {"atol": 0.05}, {"atol": 0.05, "rtol": 0.5}):
        given: dict[str, Any] = options
        for hermitian in (False, True):
            found = tk.linalg.matrix_rank(tk.Tensor(a), hermitian=hermitian, **given)
            theirs = torch.linalg.matrix_rank(torch.tensor(a), hermitian=hermitian, **given)
            assert found.item() == theirs.item()
        np.testing.assert_allclose(
            tk.linalg.pinv(tk.Tensor(b), **given).data,
            torch.linalg.pinv(torch.tensor(b), **given).numpy(),
            atol=1e-12,
        )
