"""Gradients derived by hand: the slip that was planted is the slip that is named."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy import ndarray

import tinygrad_kr as tk
from tinygrad_kr import Tensor

ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[ndarray, ndarray], ndarray]]] = {
    "sigmoid": (tk.sigmoid, lambda z, a: a * (1 - a)),
    "tanh": (tk.tanh, lambda z, a: 1 - a**2),
    "softplus": (tk.softplus, lambda z, a: 1 / (1 + np.exp(-z))),
}


class Net:
    """A random net with a skip connection, and its gradients derived by hand in NumPy."""

    def __init__(self, seed: int) -> None:
        draw = self.draw = np.random.default_rng(seed)
        self.rows, self.width = int(draw.integers(3, 8)), int(draw.integers(2, 6))
        depth, features = int(draw.integers(2, 5)), int(draw.integers(2, 6))
        self.names = [str(name) for name in draw.choice(list(ACTIVATIONS), depth)]
        sizes = [features, *[self.width] * depth]
        dtype = draw.choice([np.float32, np.float64])
        self.x = draw.normal(size=(self.rows, features)).astype(dtype)
        self.t = draw.normal(size=(self.rows, self.width)).astype(dtype)
        pairs = list(pairwise(sizes))
        self.weights = [draw.normal(size=pair).astype(dtype) for pair in pairs]
        self.biases = [draw.normal(size=pair[1]).astype(dtype) for pair in pairs]
        self.w = [tk.tensor(w, requires_grad=True) for w in self.weights]
        self.b = [tk.tensor(b, requires_grad=True) for b in self.biases]

    def loss(self) -> Tensor:
        """Mean squared error; from the second layer on, each adds its input: a skip."""
        a = Tensor(self.x)
        for i, name in enumerate(self.names):
            out = ACTIVATIONS[name][0](a @ self.w[i] + self.b[i])
            a = out + a if i else out
        return ((a - Tensor(self.t)) ** 2).mean()

    def by_hand(
        self,
        *,
        sign: float = 1.0,
        averaged: bool = True,
        without_derivative: int | None = None,
        wrong_axis: int | None = None,
        not_summed: int | None = None,
        without_skip: int | None = None,
    ) -> tuple[list[ndarray], list[ndarray]]:
        """dW and db of each layer, in float64, with a slip."""
        x, t = self.x.astype(np.float64), self.t.astype(np.float64)
        inputs, slopes, a = [], [], x
        for i, name in enumerate(self.names):
            inputs.append(a)
            z = a @ self.weights[i].astype(np.float64) + self.biases[i]
            out = np.asarray(ACTIVATIONS[name][0](z))
            slopes.append(ACTIVATIONS[name][1](z, out))
            a = out + a if i else out
        g = sign * 2 * (a - t) / (a.size if averaged else a.shape[1])
        dws: list[Any] = [None] * len(self.names)
        dbs: list[Any] = [None] * len(self.names)
        for i in reversed(range(len(self.names))):
            dz = g if without_derivative == i else g * slopes[i]
            dws[i] = inputs[i].T @ dz
            dbs[i] = dz.sum(axis=1 if wrong_axis == i else 0) if not_summed != i else dz
            below = dz @ self.weights[i].astype(np.float64).T
            g = below if without_skip == i or not i else below + g
        return dws, dbs


def kinds_of(net: Net, gradients: dict[Tensor, Any]) -> list[str | None]:
    return [checked.slip for checked in tk.check_derivation(net.loss(), gradients)]


SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_right_is_right(seed: int) -> None:
    net = Net(seed)
    dws, dbs = net.by_hand()
    report = tk.check_derivation(net.loss(), dict(zip([*net.w, *net.b], [*dws, *dbs], strict=True)))
    assert report.ok
    assert all(checked.message("en").endswith(": right") for checked in report)


def planted(kind: str, seed: int) -> tuple[str | None, str]:
    """The slip that is named in a net in which one of this kind was planted, and its text."""
    net = Net(seed)
    last = len(net.names) - 1
    i = int(net.draw.integers(0, last + 1))
    weight = True
    if kind == "transposed":
        given = net.by_hand()[0][i].T
    elif kind == "sign":
        given = net.by_hand(sign=-1.0)[0][i]
    elif kind == "not_averaged":
        given = net.by_hand(averaged=False)[0][i]
    elif kind == "missing_derivative":
        given = net.by_hand(without_derivative=int(net.draw.integers(i, last + 1)))[0][i]
    elif kind == "wrong_axis":
        weight, given = False, net.by_hand(wrong_axis=i)[1][i]
    elif kind == "not_summed":
        weight, given = False, net.by_hand(not_summed=i)[1][i]
    elif kind == "factor":
        given = 0.5 * net.by_hand()[0][i]
    else:
        i = int(net.draw.integers(0, last))
        given = net.by_hand(without_skip=int(net.draw.integers(i + 1, last + 1)))[0][i]
    x = net.w[i] if weight else net.b[i]
    (checked,) = tk.check_derivation(net.loss(), {x: given})
    return checked.slip, checked.message("en")


KINDS = (
    "transposed",
    "sign",
    "not_averaged",
    "missing_derivative",
    "wrong_axis",
    "not_summed",
    "factor",
    "forgotten_path",
)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", KINDS)
def test_nine_of_ten_slips_are_named(kind: str) -> None:
    found = [planted(kind, seed) for seed in SEEDS]
    wrong = [pair for pair in found if pair[0] != kind]
    assert len(wrong) <= len(SEEDS) // 10, wrong


# ------------------------------------------------------------------ texts and errors


def small() -> tuple[Tensor, Tensor, Tensor]:
    w = tk.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    b = tk.tensor([0.5, -0.5], requires_grad=True)
    x = tk.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, 3.0]])
    return ((x @ w + b) ** 2).mean(), w, b


def test_the_report_names_the_variable_the_factor_and_the_place() -> None:
    loss, w, b = small()
    right_w, right_b = tk.autograd.grad(loss, (w, b), retain_graph=True)
    wrong = np.array(right_w.data, np.float64)
    wrong[1, 0] += 1.0
    report = tk.check_derivation(loss, {w: wrong, b: 3 * right_b})
    assert [checked.name for checked in report] == ["w", "b"]
    assert report[0].slip == "other" and report[0].where == (1, 0)
    assert "in 1 of 4 elements, most in [1, 0]" in report[0].message("en")
    assert report[1].slips == ("not_averaged",) and report[1].factor == pytest.approx(3.0)
    assert report.text("ko").splitlines()[1].startswith("b: 틀렸습니다: 옳은 값의 3배입니다")
    assert not report.ok


def test_a_slip_with_a_wrong_sign_is_both() -> None:
    loss, w, _ = small()
    (right,) = tk.autograd.grad(loss, (w,), retain_graph=True)
    (checked,) = tk.check_derivation(loss, {w: -right.T})
    assert checked.slips == ("transposed", "sign")
    assert "transposed, and its sign" in checked.message("en")


def test_another_shape_is_said() -> None:
    loss, w, _ = small()
    (checked,) = tk.check_derivation(loss, {w: np.ones(3)})
    assert checked.slip == "wrong_shape" and checked.where is None
    assert "its shape is (3,), not (2, 2)" in checked.message("en")


def test_nothing_of_the_graph_changes() -> None:
    loss, w, b = small()
    calls: list[Any] = []
    w.register_hook(calls.append)
    tk.check_derivation(loss, {w: np.zeros((2, 2)), b: np.zeros(2)})
    assert w.grad is None and not calls
    loss.backward()
    assert w.grad is not None and len(calls) == 1


def test_nan_is_not_right() -> None:
    loss, w, _ = small()
    (checked,) = tk.check_derivation(loss, {w: np.full((2, 2), np.nan)})
    assert not checked.ok and checked.slip == "other"


def test_what_is_no_gradient_is_refused() -> None:
    loss, w, _ = small()
    with pytest.raises(TypeError, match=r"check_derivation: expected a dict .* got list"):
        tk.check_derivation(loss, [w])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"check_derivation: expected numbers for w"):
        tk.check_derivation(loss, {w: "3"})
    with pytest.raises(ValueError, match=r"expected an input on which y depends, got"):
        tk.check_derivation(loss, {tk.tensor(1.0): 1.0})
    with pytest.raises(ValueError, match=r"check_derivation: expected one number, got shape"):
        tk.check_derivation(w * 2, {w: 1.0})


# ------------------------------------------------------------------ what mutants survived


@pytest.mark.parametrize(
    ("dtype", "error", "ok"),
    [
        (np.float32, 5e-4, False),
        (np.float32, 2e-5, True),
        (np.float64, 1e-6, False),
        (np.float64, 1e-8, True),
    ],
)
def test_right_is_what_rounding_explains(dtype: Any, error: float, ok: bool) -> None:
    w = tk.tensor(np.array([1.0, 2.0], dtype), requires_grad=True)
    report = tk.check_derivation((w * w).sum(), {w: [2.0, 4.0 * (1 + error)]})
    assert report.ok is ok


def test_any_number_times_a_slip_is_no_slip() -> None:
    loss, w, _ = small()
    (right,) = tk.autograd.grad(loss, (w,), retain_graph=True)
    (checked,) = tk.check_derivation(loss, {w: 0.37 * right.data.T})
    assert checked.slips == ("other",)


def test_the_derivative_of_a_minus_is_a_sign() -> None:
    w = tk.tensor([0.3, -0.7], requires_grad=True)
    slope = 1 - np.tanh(w.data) ** 2
    (checked,) = tk.check_derivation((tk.tanh(-w) + w * w).sum(), {w: slope + 2 * w.data})
    assert checked.slips == ("sign",)
    assert "a sign is wrong" in checked.message("en") and "부호" in checked.message("ko")
    square = tk.tensor([[1.0, 2.0], [0.5, -1.0]], requires_grad=True)
    x = tk.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, 3.0]])
    v = tk.tensor([[0.2, 0.4], [-0.3, 1.0]], requires_grad=True)
    given = x.data.T @ (np.ones((3, 2)) @ square.data)  # not square.T
    (checked,) = tk.check_derivation(((x @ v) @ square).sum(), {v: given})
    assert checked.slips == ("transposed",)
    assert checked.message("en").endswith("square is to be transposed on the way back through h")
