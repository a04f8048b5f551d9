"""Sequential, ModuleList, ModuleDict, ParameterList."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import nn


def three() -> list[nn.Linear]:
    return [nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(4, 1)]


def test_sequential_runs_in_order() -> None:
    a, b, c = three()
    x = tk.randn(5, 2)
    net = nn.Sequential(a, b, c)
    np.testing.assert_array_equal(net(x).data, c(b(a(x))).data)
    assert nn.Sequential()(x) is x
    assert list(net.state_dict()) == [f"{i}.{k}" for i in range(3) for k in ("weight", "bias")]


def test_sequential_by_name() -> None:
    a, b, _ = three()
    net = nn.Sequential(OrderedDict([("first", a), ("second", b)]))
    assert [name for name, _ in net.named_children()] == ["first", "second"]
    assert net.first is a and net[1] is b
    assert net(tk.zeros(1, 2)).shape == (1, 4)
    assert [name for name, _ in net[1:].named_children()] == ["second"]
    assert nn.Sequential({"only": a})[0] is a
    with pytest.raises(KeyError, match="forward"):
        nn.Sequential({"forward": a})


@pytest.mark.parametrize("kind", [nn.Sequential, lambda *m: nn.ModuleList(m)])
def test_as_a_list(kind: Any) -> None:
    a, b, c = three()
    net = kind(a, b)
    assert net.append(c) is net
    assert (len(net), list(net)) == (3, [a, b, c])
    assert (net[0], net[-1], net[np.int64(1)]) == (a, c, b)
    assert b in net and nn.Identity() not in net
    part = net[1:]
    assert type(part) is type(net) and list(part) == [b, c] and net[::-2][0] is c
    d = nn.Identity()
    net[1] = d
    assert list(net) == [a, d, c]
    net.insert(1, b)
    assert list(net) == [a, b, d, c]
    assert [name for name, _ in net.named_children()] == ["0", "1", "2", "3"]
    assert net.pop(2) is d and net.pop() is c
    net.extend([c, d])
    del net[0]
    assert list(net) == [b, c, d] and net[0] is b
    del net[1:]
    assert list(net) == [b] and list(net.state_dict()) == ["0.weight", "0.bias"]


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_out_of_range(index: int) -> None:
    net = nn.Sequential(*three())
    with pytest.raises(IndexError, match=f"expected an index of 3 members, got {index}"):
        net[index]
    with pytest.raises(IndexError):
        net[index] = nn.Identity()
    with pytest.raises(IndexError):
        del net[index]


def test_only_modules() -> None:
    with pytest.raises(TypeError, match=r"expected a Module, got builtin_function_or_method\."):
        nn.Sequential(nn.Linear(1, 1), abs)
    layers = nn.ModuleList(three())
    with pytest.raises(TypeError, match=r"ModuleList: expected a Module, got int\."):
        layers.extend([nn.Identity(), 3])
    with pytest.raises(TypeError, match=r"ModuleList: expected a Module, got int\."):
        layers[0] = 3
    with pytest.raises(TypeError, match=r"ModuleList: expected a Module, got int\."):
        layers.insert(0, 3)
    assert len(layers) == 3
    with pytest.raises(TypeError, match=r"ParameterList: expected a Parameter, got Tensor\."):
        nn.ParameterList([tk.zeros(1)])  # type: ignore[list-item]


def test_a_module_may_come_twice() -> None:
    double = nn.Linear(1, 1, bias=False)
    double.load_state_dict({"weight": np.float32([[2]])})
    net = nn.Sequential(double, double)
    assert net(tk.ones(1, 1)).item() == 4
    assert len(net) == 2 and len(list(net.parameters())) == 1


def test_a_named_member_is_not_overwritten_by_a_number() -> None:
    net = nn.Sequential({"1": nn.Identity()})
    with pytest.raises(KeyError, match=r".Sequential: expected a new name, got '1' again\.."):
        net.append(nn.Identity())


def test_module_list_has_no_forward() -> None:
    with pytest.raises(NotImplementedError, match=r"ModuleList defines no forward"):
        nn.ModuleList(three())(1)


def test_module_dict() -> None:
    a, b, c = three()
    table = nn.ModuleDict({"a": a, "b": b})
    table["c"] = c
    table.update([("a", b)])
    assert list(table) == ["a", "b", "c"] == list(table.keys())
    assert list(table.values()) == [b, b, c]
    assert dict(table.items())["c"] is c and len(table) == 3
    assert "a" in table and "z" not in table and 3 not in table
    assert table["b"] is b and table.pop("b") is b
    del table["a"]
    assert list(table.state_dict()) == ["c.weight", "c.bias"]
    with pytest.raises(KeyError, match=r".ModuleDict: expected one of \['c'\], got 'x'\.."):
        table["x"]
    with pytest.raises(KeyError, match="keys"):
        table["keys"] = a


def test_parameter_list() -> None:
    class Polynomial(nn.Module):
        def __init__(self) -> None:
            self.c = nn.ParameterList(nn.Parameter([float(i)]) for i in range(3))

        def forward(self, x: Any) -> Any:
            return sum((c * x**i for i, c in enumerate(self.c)), tk.zeros(1))

    net = Polynomial()
    net(tk.tensor([2.0])).backward()
    assert [p.grad.item() for p in net.parameters() if p.grad is not None] == [1, 2, 4]
    assert list(net.state_dict()) == ["c.0", "c.1", "c.2"]
    assert len(net.c) == 3 and net.c[-1] is net.c[2] and len(net.c[:2]) == 2
    assert "(2): Parameter of float32(1,)" in repr(net)
