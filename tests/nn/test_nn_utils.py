"""`nn.utils`: one vector of all parameters, weight normalisation; and `+=`, `ParameterDict`."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn, optim
from tinygrad_kr.nn import utils
from tinygrad_kr.testing import check_grads

X = Tensor(np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32))


def test_clipping_is_that_of_the_optimizers() -> None:
    assert utils.clip_grad_norm_ is optim.clip_grad_norm_
    assert utils.clip_grad_value_ is optim.clip_grad_value_


def test_parameters_as_a_vector_and_back() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    parameters = list(net.parameters())
    vector = utils.parameters_to_vector(parameters)
    np.testing.assert_array_equal(vector.data, np.concatenate([p.data.ravel() for p in parameters]))
    (vector * vector).sum().backward()
    np.testing.assert_allclose(net[0].weight.grad.data, 2 * net[0].weight.data, rtol=1e-6)
    utils.vector_to_parameters(vector * 2, parameters)
    assert [*map(id, parameters)] == [*map(id, net.parameters())]
    assert all(p.requires_grad for p in parameters)
    np.testing.assert_array_equal(utils.parameters_to_vector(parameters).data, 2 * vector.data)
    before = net.state_dict()
    with pytest.raises(ValueError, match=r"^vector_to_parameters: expected shape \(11,\), got"):
        utils.vector_to_parameters(tk.ones(10), parameters)
    np.testing.assert_equal(net.state_dict(), before)
    with pytest.raises(ValueError, match=r"^parameters_to_vector: expected at least one"):
        utils.parameters_to_vector([])


@pytest.mark.parametrize("dim", [0, 1, None])
def test_a_weight_is_its_length_and_direction(dim: int | None) -> None:
    layer = nn.Linear(3, 2).double()
    weight, x = layer.weight.data.copy(), X.data.astype(np.float64)
    expected = layer(Tensor(x)).data
    assert utils.weight_norm(layer, dim=dim) is layer
    axes = {0: (1,), 1: (0,), None: (0, 1)}[dim]
    np.testing.assert_allclose(
        layer.weight_g.data, np.linalg.norm(weight, axis=axes, keepdims=dim is not None)
        if dim is not None else np.linalg.norm(weight), rtol=1e-12,
    )  # fmt: skip
    np.testing.assert_allclose(layer(Tensor(x)).data, expected, rtol=1e-12)
    with tk.no_grad():
        layer.weight_v.copy_(layer.weight_v * 7)
    np.testing.assert_allclose(layer.weight.data, weight, rtol=1e-12)
    state = {key: p.data for key, p in layer.named_parameters()}
    assert list(state) == ["bias", "weight_g", "weight_v"]
    check_grads(lambda p: nn.functional_call(layer, p, (x,)), (state,), order=2)


def normalised() -> nn.Sequential:
    random = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(3, 4, generator=random), nn.Conv1d(5, 2, 3, generator=random))
    utils.weight_norm(utils.weight_norm(net[0], dim=1), "bias")
    utils.weight_norm(net[1])
    return net


def test_copies_and_states_of_a_normalised_net() -> None:
    net = normalised()
    y = net(X).data
    loaded = normalised()
    utils.vector_to_parameters(utils.parameters_to_vector(net.parameters()), loaded.parameters())
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), loaded):
        np.testing.assert_array_equal(twin(X).data, y)
        assert repr(twin) == repr(net) and type(twin[0]) is type(net[0])
        assert list(twin.state_dict()) == list(net.state_dict())
    assert isinstance(net[0], nn.Linear) and repr(net[0]) == repr(nn.Linear(3, 4))


def test_a_normalised_net_is_compiled() -> None:
    losses = []
    for compiled in (False, True):
        net = normalised()
        optimizer = optim.SGD(net.parameters(), lr=0.1)

        def step(x: Any, net: Any = net, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = (net(x) ** 2).mean()
            loss.backward()
            utils.clip_grad_norm_(net.parameters(), 0.5)
            optimizer.step()
            return loss.detach()

        run = tk.compile(step) if compiled else step
        losses.append([run(X).item() for _ in range(6)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert losses[0][-1] < losses[0][0]
    assert run.explain() == "every call is compiled"


def test_weight_norm_is_removed_with_the_weight_as_it_is() -> None:
    net = normalised()
    y = net(X).data
    utils.remove_weight_norm(net[0])
    assert [name for name, _ in net[0].named_parameters()] == ["bias_g", "bias_v", "weight"]
    utils.remove_weight_norm(net[0], "bias")
    utils.remove_weight_norm(net[1])
    assert type(net[0]) is nn.Linear and type(net[1]) is nn.Conv1d
    np.testing.assert_allclose(net(X).data, y, rtol=1e-6)
    with pytest.raises(ValueError, match=r"^remove_weight_norm: .* of Linear, got|in Linear, got"):
        utils.remove_weight_norm(net[0])
    with pytest.raises(ValueError, match=r"^weight_norm: expected the name of a parameter of Lin"):
        utils.weight_norm(net[0], "length")
    with pytest.raises(ValueError, match=r"^weight_norm: expected dim of shape \(4, 3\), .* got 2"):
        utils.weight_norm(net[0], dim=2)
    with pytest.raises(ValueError, match=r"^weight_norm: expected the name of a parameter of Con"):
        utils.weight_norm(utils.weight_norm(net[1]))


# ------------------------------------------------------------------ containers


def test_lists_are_extended_and_added() -> None:
    net = nn.Module()
    net.layers = nn.ModuleList([nn.Linear(2, 2)])
    layers = net.layers
    net.layers += [nn.Tanh(), nn.Linear(2, 1)]
    assert net.layers is layers and len(layers) == 3
    assert [name for name, _ in net.named_parameters()][-1] == "layers.2.bias"
    both = layers + nn.ModuleList([nn.ReLU()])
    assert isinstance(both, nn.ModuleList) and len(both) == 4 and both[0] is layers[0]
    assert len(layers) == 3
    weights = nn.ParameterList([nn.Parameter(tk.ones(1))])
    weights += [nn.Parameter(tk.zeros(1))]
    assert [p.item() for p in weights] == [1, 0]
    with pytest.raises(TypeError, match="expected a Module, got Tensor"):
        layers += [tk.ones(1)]
    assert len(layers) == 3


def test_a_dict_of_parameters() -> None:
    scales = nn.ParameterDict({"left": tk.ones(2), "right": nn.Parameter(tk.zeros(3))})
    assert scales["left"].requires_grad and scales["left"].shape == (2,)
    assert list(scales) == list(scales.state_dict()) == ["left", "right"]
    assert "left" in scales and "up" not in scales and len(scales) == 2
    assert scales.get("up") is None and scales.get("left") is scales["left"]
    scales["up"] = np.ones(1, np.float32)
    scales.update([("left", tk.zeros(1))])
    assert [value.shape for value in scales.values()] == [(1,), (3,), (1,)]
    assert [name for name, _ in scales.items()] == ["left", "right", "up"]
    assert scales.pop("right").shape == (3,)
    del scales["up"]
    assert repr(scales) == "ParameterDict((left): Parameter of float32(1,))"
    twin = pickle.loads(pickle.dumps(scales))
    np.testing.assert_equal(twin.state_dict(), scales.state_dict())
    with pytest.raises(KeyError, match=r"expected one of \['left'\], got 'right'"):
        scales["right"]
    with pytest.raises(TypeError, match="expected a Parameter, Tensor or array, got list"):
        scales["right"] = [1.0]
    with pytest.raises(KeyError, match="without a dot"):
        scales["a.b"] = tk.ones(1)
