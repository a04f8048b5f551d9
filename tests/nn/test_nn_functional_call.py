"""A module as a function of its parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import nn


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()


X = np.random.default_rng(0).standard_normal((4, 2))


def test_values_and_gradients_are_those_of_the_module() -> None:
    model = net()
    parameters = {name: p.data.copy() for name, p in model.named_parameters()}

    def loss(parameters: dict[str, Any]) -> Any:
        return (nn.functional_call(model, parameters, tk.Tensor(X)) ** 2).sum()

    value, grads = tk.value_and_grad(loss)(parameters)
    expected = (model(tk.Tensor(X)) ** 2).sum()
    expected.backward()
    assert value == expected.item()
    for name, p in model.named_parameters():
        assert p.grad is not None
        np.testing.assert_array_equal(grads[name], p.grad.data)


def test_hessian_of_a_net_is_symmetric() -> None:
    model = nn.Linear(2, 1, bias=False).double()

    def loss(w: Any) -> Any:
        return (nn.functional_call(model, {"weight": w}, (tk.Tensor(X),)) ** 2).sum()

    found = tk.hessian(loss)(model.weight.data.copy()).reshape(2, 2)
    np.testing.assert_allclose(found, 2 * X.T @ X)


def test_others_stay_and_everything_is_put_back() -> None:
    model = net()
    originals = dict(model.named_parameters())
    before = model.state_dict()
    zero = {"2.weight": tk.zeros(1, 3, dtype=np.float64)}
    y = nn.functional_call(model, zero, (tk.Tensor(X),))
    assert model[2].bias is not None
    np.testing.assert_array_equal(y.data, np.broadcast_to(model[2].bias.data, (4, 1)))
    with pytest.raises(ValueError, match=r"^sequential\.0"):
        nn.functional_call(model, zero, (tk.zeros(3),))
    assert all(p is originals[name] for name, p in model.named_parameters())
    np.testing.assert_equal(model.state_dict(), before)


def test_what_is_shared_is_replaced_everywhere() -> None:
    layer = nn.Linear(1, 1, bias=False)
    model = nn.Sequential(layer, nn.Linear(1, 1, bias=False), layer)
    model[1].weight = layer.weight
    y = nn.functional_call(model, {"0.weight": tk.tensor([[3.0]])}, tk.ones(1, 1))
    assert y.item() == 27
    y = nn.functional_call(model, {"1.weight": tk.tensor([[2.0]])}, tk.ones(1, 1))
    assert y.item() == 8


def test_buffers_and_keywords() -> None:
    class Shift(nn.Module):
        def __init__(self) -> None:
            self.register_buffer("offset", tk.zeros(1))

        def forward(self, x: Any, times: int = 1) -> Any:
            return x + self.offset * times

    y = nn.functional_call(Shift(), {"offset": np.float32([2])}, tk.zeros(1), {"times": 3})
    assert y.tolist() == [6]


def test_bad_replacements() -> None:
    with pytest.raises(KeyError, match=r"a parameter or buffer of Sequential, got '0\.scale'\.."):
        nn.functional_call(net(), {"0.scale": np.zeros(1)}, tk.Tensor(X))
    with pytest.raises(ValueError, match=r"expected shape \(3,\) for 0\.bias, got \(2,\)\."):
        nn.functional_call(net(), {"0.bias": np.zeros(2)}, tk.Tensor(X))
