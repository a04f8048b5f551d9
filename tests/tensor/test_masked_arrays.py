"""Masked arrays: a Tensor has no mask, so every door refuses them and says what to do."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor, data, nn, optim
from tinygrad_kr import functional as F

MASKED = np.ma.masked_array([1.0, 0.5, 3.0], mask=[0, 1, 0])
INTEGERS = np.ma.masked_array([0, 2, 1], mask=[0, 1, 0])
BOOLEANS = np.ma.masked_array([True, False, True], mask=[0, 1, 0])


def leaf() -> Tensor:
    return Tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)


def refused(call: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match=r"\.filled\(") as caught:
        call()
    assert "mask" in str(caught.value)


BINARY = [
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"),
    *("lt", "le", "gt", "ge", "eq", "ne"),
]


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("make", [leaf, lambda: Tensor([1.0, 2.0, 3.0])], ids=["leaf", "constant"])
def test_operators_from_both_sides(name: str, make: Callable[[], Tensor]) -> None:
    function = getattr(operator, name)
    refused(lambda: function(MASKED, make()))
    refused(lambda: function(make(), MASKED))


@pytest.mark.parametrize("name", ["iadd", "isub", "imul", "itruediv", "ifloordiv", "ipow"])
def test_operators_in_place(name: str) -> None:
    refused(lambda: getattr(operator, name)(MASKED.copy(), leaf()))
    refused(lambda: getattr(operator, name)(Tensor(np.ones(3)), MASKED))


@pytest.mark.parametrize("name", ["and_", "or_", "xor"])
def test_bitwise_operators(name: str) -> None:
    refused(lambda: getattr(operator, name)(INTEGERS, Tensor([1, 2, 3])))
    refused(lambda: getattr(operator, name)(Tensor([1, 2, 3]), INTEGERS))


DOORS: dict[str, Callable[[], Any]] = {
    "Tensor": lambda: Tensor(MASKED),
    "Tensor of a list": lambda: Tensor([MASKED, MASKED]),
    "Tensor of nested tuples": lambda: Tensor(((MASKED,), (MASKED,))),
    "Tensor of the masked constant": lambda: Tensor([1.0, np.ma.masked]),
    "tensor": lambda: tk.tensor(MASKED),
    "Parameter": lambda: nn.Parameter(MASKED),
    ".data": lambda: setattr(leaf(), "data", MASKED),
    ".grad": lambda: setattr(leaf(), "grad", MASKED),
    "t[...] = m": lambda: operator.setitem(Tensor(np.ones(3)), slice(None), MASKED),
    "t[integers]": lambda: leaf()[INTEGERS],
    "t[booleans]": lambda: leaf()[BOOLEANS],
    "backward": lambda: (leaf() * 1).backward(MASKED),
    "grad": lambda: tk.grad(lambda x: (x * x).sum())(MASKED),
    "vjp": lambda: tk.vjp(lambda x: x * x, MASKED),
    "jvp": lambda: tk.jvp(lambda x: x * x, (np.ones(3),), (MASKED,)),
    "full": lambda: tk.full((3,), MASKED),
    "zeros_like": lambda: tk.zeros_like(MASKED),
    "sum": lambda: tk.sum(MASKED),
    "mean": lambda: tk.mean(MASKED),
    "sort": lambda: tk.sort(MASKED),
    "where, condition": lambda: tk.where(BOOLEANS, leaf(), 0.0),
    "where, value": lambda: tk.where(np.array([True, False, True]), leaf(), MASKED),
    "cat": lambda: tk.cat([MASKED, leaf()]),
    "stack": lambda: tk.stack([leaf(), MASKED]),
    "gather": lambda: tk.gather(leaf(), 0, INTEGERS),
    "take": lambda: tk.take(leaf(), INTEGERS),
    "bernoulli": lambda: tk.bernoulli(MASKED / 3),
    "np.multiply, left": lambda: np.multiply(MASKED, leaf()),
    "np.multiply, right": lambda: np.multiply(leaf(), MASKED),
    "np.maximum": lambda: np.maximum(MASKED, leaf()),
    "np.dot": lambda: np.dot(MASKED, leaf()),  # type: ignore[arg-type]
    "np.einsum": lambda: np.einsum("i,i", MASKED, leaf()),
    "np.concatenate": lambda: np.concatenate([MASKED, leaf()]),  # type: ignore[arg-type]
    "np.where": lambda: np.where(BOOLEANS, leaf(), 0.0),
    "np.clip": lambda: np.clip(leaf(), MASKED, 4.0),
    "np.ma.multiply": lambda: np.ma.multiply(MASKED, leaf()),
    "mse_loss": lambda: F.mse_loss(leaf(), MASKED),
    "l1_loss": lambda: F.l1_loss(leaf(), MASKED),
    "bce": lambda: F.binary_cross_entropy_with_logits(leaf(), MASKED),
    "cross_entropy": lambda: F.cross_entropy(Tensor(np.ones((3, 4))), INTEGERS),
    "cross_entropy, weight": lambda: F.cross_entropy(
        Tensor(np.ones((2, 3))), np.array([0, 1]), weight=MASKED
    ),
    "embedding": lambda: F.embedding(INTEGERS, Tensor(np.ones((4, 2)))),
    "one_hot": lambda: F.one_hot(INTEGERS, 4),
    "TensorDataset": lambda: data.TensorDataset(MASKED),
    "DataLoader": lambda: next(iter(data.DataLoader(MASKED[None], 1))),
    "Subset": lambda: data.Subset(np.ones(3), INTEGERS),
    "default_collate": lambda: data.default_collate([MASKED, MASKED]),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_refused(door: Callable[[], Any]) -> None:
    refused(door)


def test_files(tmp_path: Path) -> None:
    refused(lambda: data.write_csv(tmp_path / "a.csv", MASKED[None]))
    refused(lambda: data.write_idx(tmp_path / "a.idx", INTEGERS.astype(np.uint8)))
    assert not list(tmp_path.iterdir())


def test_states() -> None:
    net = nn.Linear(3, 1)
    optimizer = optim.SGD(net.parameters(), momentum=0.9)
    net(Tensor([1.0, 2.0, 3.0])).sum().backward()
    optimizer.step()
    weights, state = net.state_dict(), optimizer.state_dict()
    before = net.weight.data.copy()
    weights["weight"] = np.ma.masked_array(weights["weight"], mask=True)
    with pytest.raises(TypeError, match=r"weight.*\.filled\("):
        net.load_state_dict(weights)
    np.testing.assert_array_equal(net.weight.data, before)
    buffer = state["state"][0]["momentum_buffer"]
    state["state"][0]["momentum_buffer"] = np.ma.masked_array(buffer, mask=True)
    refused(lambda: optimizer.load_state_dict(state))


def test_what_np_ma_makes_of_a_constant() -> None:
    """Only operators are refused: a masked array may be made of a Tensor without a gradient."""
    made = np.ma.masked_array(Tensor([1.0, 2.0]), mask=[0, 1])
    assert made.sum() == 1
    assert not hasattr(Tensor([1.0]), "_mask")
