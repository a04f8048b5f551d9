"""Arrays from outside of more elements than are compared: read anew by ops, or run as written."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import backend as backend

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor

A = np.ones((3, 300), np.float32)
B = np.ones((3, 300), np.float32)
PAIR = (A, B)
TABLE = {"a": A}


class Holder:
    def __init__(self) -> None:
        self.weights = A
        self.batch = PAIR

    def product(self, x: Any) -> Any:
        return x @ self.weights

    def and_a_mean(self, x: Any) -> Any:
        return x @ self.weights * float(np.mean(self.weights))

    def unpacked(self, x: Any) -> Any:
        a, b = self.batch
        return x @ a + x @ b

    def unpacked_with_an_element(self, x: Any) -> Any:
        a, b = self.batch
        return x @ a + x @ b + float(b[0, 0])


HOLDER = Holder()


def mean(a: Any) -> float:
    return float(a.mean())


def product(x: Any, a: Any) -> Any:
    return x @ a


def product_and_mean(x: Any, a: Any) -> Any:
    return x @ a * float(a.mean())


def another_name(x: Any, a: Any) -> Any:
    b = a
    return x @ a + np.float32(b.max())


def one_to_an_op(x: Any, a: Any, b: Any) -> Any:
    return x @ a * float(b.mean())


def a_loop(x: Any) -> Any:
    for a in PAIR:
        x = x + (x @ a).sum()
    return x


def an_import(x: Any) -> Any:
    from test_compile_large_arrays import A as again

    return product(x, A) * float(again.mean())


def a_pattern(x: Any) -> Any:
    match HOLDER:
        case Holder(weights=w):
            return product(x, HOLDER.weights) * float(w.mean())


def assigned_in_an_expression(x: Any) -> Any:
    return x @ (w := A) * float(w.mean())


def by_name(x: Any) -> Any:
    return x @ HOLDER.weights * float(np.mean(getattr(HOLDER, "weights")))  # noqa: B009


def a_branch(x: Any) -> Any:
    return x @ A if mean(A) > 0.5 else -x @ A


def an_element_in_a_branch(x: Any) -> Any:
    return x @ A if A[0, 0] > 0 else -x @ A


READ_ANEW: dict[str, Callable[..., Any]] = {
    "an operand": lambda x: x @ A,
    "an argument of NumPy's function, which is ours for a Tensor": lambda x: np.matmul(x, A),
    "in a helper": lambda x: product(x, A),
    "an attribute": HOLDER.product,
    "unpacked": HOLDER.unpacked,
    "an item": lambda x: x @ PAIR[0],
    "two items": lambda x: x @ PAIR[0] + x @ PAIR[1],
    "of a dict": lambda x: x @ TABLE["a"],
    "a view": lambda x: x @ A[:, :10],
    "transposed": lambda x: x @ A.T.T,
    "a default": lambda x, w=A: x @ w,
    "of a partial": functools.partial(product, a=A),
    "a loop": a_loop,
    "its length": lambda x: x * len(A),
    "its shape": lambda x: x @ A / A.shape[1],
    "a target": lambda x: F.mse_loss(x @ A, B[:2]),
}
COMPUTED: dict[str, Callable[..., Any]] = {
    "a helper's mean": lambda x: x @ A * mean(A),
    "a helper of both": lambda x: product_and_mean(x, A),
    "another name": lambda x: another_name(x, A),
    "an attribute": HOLDER.and_a_mean,
    "unpacked": HOLDER.unpacked_with_an_element,
    "an item": lambda x: x @ PAIR[0] * PAIR[0].mean(),
    "two items": lambda x: one_to_an_op(x, PAIR[0], PAIR[1]),
    "of a dict": lambda x: x @ TABLE["a"] * float(np.sum(TABLE["a"])),
    "a default": lambda x, w=A: x @ w * float(w.min()),
    "of a partial": functools.partial(product_and_mean, a=A),
    "in an expression": assigned_in_an_expression,
    "an import": an_import,
    "a pattern": a_pattern,
    "by name": by_name,
    "a branch": a_branch,
    "an element in a branch": an_element_in_a_branch,
    "a comparison": lambda x: tk.where(A > 0.5, x.sum(), 0.0),
    "without source": eval("lambda x: x @ A * helper(A)", {"A": A, "helper": mean}),
}


@pytest.mark.parametrize("backend", ["numpy"], indirect=True)
@pytest.mark.parametrize(
    ("function", "is_read_anew"),
    [
        pytest.param(function, cases is READ_ANEW, id=f"{number}-{name}")
        for number, cases in enumerate([COMPUTED, READ_ANEW])
        for name, function in cases.items()
    ],
)
def test_large_arrays_are_never_stale(
    backend: str, function: Callable[..., Any], is_read_anew: bool
) -> None:
    A.fill(1)
    B.fill(1)
    x = Tensor(np.array([[1, 2, 3], [-1, 0, 1]], np.float32))
    step = tk.compile(function)
    for number in (1, 1, 1, 2, -1, -2, 3, 0):
        A[0], A[1:], B[...] = number, 2 - number, number * number + 1
        np.testing.assert_allclose(np.asarray(step(x)), np.asarray(function(x)), rtol=1e-5)
    assert bool(step.programs) == is_read_anew, step.explain()
