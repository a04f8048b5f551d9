"""`Module` and `Parameter`: what is registered, saved, loaded, copied and switched."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import nn
from tinygrad_kr.autograd import MutationError
from tinygrad_kr.nn import Module


class Block(nn.Module):
    def __init__(self) -> None:
        self.linear = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Any) -> Any:
        return self.norm(self.linear(x)).relu()


class Net(nn.Module):
    """Parameters, a buffer, a nested module and a plain Tensor, assigned in mixed order."""

    def __init__(self) -> None:
        self.block = Block()
        self.scale = nn.Parameter([2.0])
        self.register_buffer("offset", tk.tensor([1.0, 2.0, 3.0]))
        self.register_buffer("scratch", tk.zeros(2), persistent=False)
        self.plain = tk.zeros(4)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.block(x) * self.scale + self.offset)


# ------------------------------------------------------------------ Parameter


def test_a_parameter_is_a_leaf_that_requires_grad() -> None:
    p = nn.Parameter([1.0, 2.0])
    assert p.requires_grad and p.is_leaf and p.dtype == np.float32
    assert not nn.Parameter([1.0], requires_grad=False).requires_grad
    assert type(p * 2) is tk.Tensor
    assert not hasattr(p, "__dict__")


def test_a_parameter_shares_memory_with_its_data() -> None:
    array = np.zeros(3)
    nn.Parameter(array).data[0] = 1
    nn.Parameter(tk.Tensor(array)).data[1] = 2
    assert array.tolist() == [1, 2, 0]


def test_integers_are_no_parameter() -> None:
    with pytest.raises(TypeError, match="expected floats"):
        nn.Parameter([1, 2])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
@pytest.mark.parametrize("requires_grad", [True, False])
def test_a_copied_parameter_is_its_own(duplicate: Any, requires_grad: bool) -> None:
    p = nn.Parameter(np.array([1.0, 2.0]), requires_grad)
    q = duplicate(p)
    assert type(q) is nn.Parameter and q.requires_grad is requires_grad
    assert q.dtype == np.float64
    q.data[0] = 5
    assert p.data.tolist() == [1, 2]


def test_a_parameter_looks_like_one() -> None:
    assert repr(nn.Parameter([1.0, 2.0])) == "Parameter([1., 2.])"
    matrix = repr(nn.Parameter(np.eye(2, dtype=np.float32)))
    assert matrix == "Parameter([[1., 0.],\n           [0., 1.]])"


# ------------------------------------------------------------------ what is registered


def test_names_are_paths_in_order_of_assignment() -> None:
    net = Net()
    assert [name for name, _ in net.named_parameters()] == [
        "scale", "block.linear.weight", "block.linear.bias", "block.norm.weight",
        "block.norm.bias", "head.weight", "head.bias",
    ]  # fmt: skip
    assert [name for name, _ in net.named_buffers()] == [
        "offset", "scratch", "block.norm.running_mean", "block.norm.running_var",
        "block.norm.num_batches_tracked",
    ]  # fmt: skip
    assert [name for name, _ in net.named_modules()] == [
        "", "block", "block.linear", "block.norm", "head",
    ]  # fmt: skip
    assert [name for name, _ in net.named_children()] == ["block", "head"]
    assert list(net.children()) == [net.block, net.head]
    assert next(net.parameters()) is net.scale
    assert next(net.buffers()) is net.offset
    assert [name for name, _ in net.named_parameters(recurse=False)] == ["scale"]
    assert [name for name, _ in net.named_parameters("net", recurse=False)] == ["net.scale"]
    assert [name for name, _ in net.block.named_modules("b")] == ["b", "b.linear", "b.norm"]


def test_what_is_shared_comes_once() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    net.append(net[0])
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert [name for name, _ in net.named_parameters(remove_duplicate=False)] == [
        "0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias",
    ]  # fmt: skip
    assert len(list(net.modules())) == 3
    assert len(list(net.children())) == 2
    assert list(net.state_dict()) == [
        "0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias",
    ]  # fmt: skip


def test_a_shared_buffer_comes_once() -> None:
    net = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2))
    net[1].running_mean = net[0].running_mean
    assert len(list(net.buffers())) == 5
    assert len(list(net.named_buffers(remove_duplicate=False))) == 6


def test_no_init_has_to_be_called_first() -> None:
    class Early(nn.Module):
        def __init__(self) -> None:
            self.w = nn.Parameter([1.0])
            self.register_buffer("b", tk.zeros(1))
            super().__init__()

    early = Early()
    assert list(early.state_dict()) == ["w", "b"]
    assert early.training and not early.eval().training


def test_a_registered_name_keeps_its_kind() -> None:
    net = Net()
    with pytest.raises(TypeError, match=r"expected a Parameter, as is registered, got Tensor\."):
        net.scale = tk.zeros(1)  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"expected a Module, as is registered, got function\."):
        net.head = lambda x: x  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"expected a Tensor, as is registered, got ndarray\."):
        net.offset = np.zeros(3)
    net.scale = nn.Parameter([3.0])
    net.head = None  # type: ignore[assignment]
    net.offset = tk.zeros(3)
    assert "offset" in net.state_dict() and "head.weight" not in net.state_dict()
    net.plain = 3  # type: ignore[assignment]
    del net.scale
    net.scale = 4  # type: ignore[assignment]
    assert "scale" not in dict(net.named_parameters())


def test_a_deleted_buffer_is_forgotten() -> None:
    net = Net()
    del net.offset
    net.offset = tk.zeros(3)
    assert "offset" not in net.state_dict()
    assert [name for name, _ in net.named_buffers(recurse=False)] == ["scratch"]


def test_registration_by_name() -> None:
    net = nn.Module()
    net.add_module("a", nn.Linear(1, 1))
    net.register_module("none", None)
    net.register_parameter("p", nn.Parameter([1.0]))
    net.register_parameter("q", None)
    net.register_buffer("b", None)
    assert list(net.state_dict()) == ["p", "a.weight", "a.bias"]
    net.register_buffer("b", tk.zeros(1))
    assert list(net.state_dict()) == ["p", "b", "a.weight", "a.bias"]


@pytest.mark.parametrize("name", ["", "a.b", "forward", "training"])
def test_a_name_must_be_free_and_without_dots(name: str) -> None:
    net = nn.Module()
    for register in (net.add_module, net.register_parameter, net.register_buffer):
        with pytest.raises(KeyError, match=name or "empty"):
            register(name, None)


def test_a_name_is_a_string() -> None:
    with pytest.raises(TypeError, match=r"Module: expected a string as name, got int\."):
        nn.Module().add_module(0, nn.Identity())  # type: ignore[arg-type]


def test_only_the_right_kind_is_registered() -> None:
    net = nn.Module()
    with pytest.raises(TypeError, match=r"expected a Parameter or None for 'p', got Tensor\."):
        net.register_parameter("p", tk.zeros(1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"expected a Module or None for 'm', got function\."):
        net.add_module("m", lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"expected a Tensor or None for 'b', got ndarray\."):
        net.register_buffer("b", np.zeros(1))


def test_lookup_by_path() -> None:
    net = Net()
    assert net.get_submodule("") is net
    assert net.get_submodule("block.norm") is net.block.norm
    assert net.get_parameter("block.linear.bias") is net.block.linear.bias
    assert net.get_buffer("block.norm.running_var") is net.block.norm.running_var
    with pytest.raises(AttributeError, match=r"a module of Block \(linear, norm\), got 'conv'\."):
        net.get_submodule("block.conv")
    with pytest.raises(AttributeError, match=r"head\.weight, head\.bias\), got 'offset'\."):
        net.get_parameter("offset")
    with pytest.raises(AttributeError, match=r"got 'scale'\."):
        net.get_buffer("scale")


def test_a_module_inside_itself_is_refused_where_it_would_not_end() -> None:
    net = Net()
    net.block.parent = net
    assert len(list(net.modules())) == 5
    with pytest.raises(RuntimeError, match=r"of modules, got 'block\.parent' inside itself\."):
        net.state_dict()


# ------------------------------------------------------------------ settings


def test_train_and_eval_reach_all() -> None:
    net = Net()
    assert all(module.training for module in net.modules())
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    assert net.train() is net and net.block.norm.training
    with pytest.raises(TypeError, match="bool"):
        net.train("yes")  # type: ignore[arg-type]


def test_freezing() -> None:
    net = Net()
    assert net.requires_grad_(False) is net
    assert not any(p.requires_grad for p in net.parameters())
    net.head.requires_grad_()
    net(tk.randn(4, 3)).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is not None] == [
        "head.weight", "head.bias",
    ]  # fmt: skip


def test_zero_grad() -> None:
    layer = nn.Linear(2, 2)
    layer(tk.ones(1, 2)).sum().backward()
    assert layer.weight.grad is not None
    kept = layer.weight.grad.data
    layer.zero_grad(set_to_none=False)
    assert layer.weight.grad.data is kept and not kept.any()
    layer.zero_grad()
    assert layer.weight.grad is None
    layer.zero_grad(set_to_none=False)
    assert layer.weight.grad is None


def test_zero_grad_of_a_gradient_with_a_graph() -> None:
    layer = nn.Linear(2, 1, bias=False)
    (layer(tk.ones(1, 2)) ** 2).sum().backward(create_graph=True)
    layer.zero_grad(set_to_none=False)
    assert layer.weight.grad is not None
    assert layer.weight.grad.is_leaf and not layer.weight.grad.data.any()


def test_apply_goes_from_the_inside_out() -> None:
    net = Net()
    seen: list[Module] = []
    assert net.apply(seen.append) is net
    assert seen == [net.block.linear, net.block.norm, net.block, net.head, net]


def test_modules_in_a_plain_list_are_warned_of() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.first = nn.Linear(2, 2)
            self.known = [self.first, self.first.weight]
            self.left_out = (nn.Linear(2, 2),)
            self.layers: list[Any] = []

    net = Net()
    assert len(list(net.parameters())) == 2
    net.layers.append(nn.Linear(2, 2))
    with pytest.warns(UserWarning, match=r"Net\.layers is a plain list.*nn\.ModuleList") as caught:
        nn.Sequential(net).parameters()
    assert caught[0].filename == __file__
    net.layers = [nn.Parameter(tk.zeros(2))]
    with pytest.warns(UserWarning, match=r"nn\.ParameterList"):
        net.parameters()


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0", "mps"])
def test_there_are_no_devices_to_go_to(device: str) -> None:
    for thing in (nn.Linear(2, 3), tk.ones(2)):
        with pytest.raises(
            TypeError, match=rf"expected a dtype, got the device '{device}'.*Leave it"
        ):
            thing.to(device)


def test_change_of_dtype_keeps_the_parameters() -> None:
    net = Net()
    net(tk.randn(4, 3)).sum().backward()
    weight, gradient = net.head.weight, net.head.weight.grad
    assert gradient is not None
    assert net.double() is net
    assert net.head.weight is weight
    assert {t.dtype for t in (*net.parameters(), net.offset)} == {np.dtype(np.float64)}
    assert weight.grad is not None and weight.grad.dtype == np.float64
    np.testing.assert_array_equal(weight.grad.data, gradient.data)
    assert net.block.norm.num_batches_tracked.dtype == np.int64
    assert net(tk.randn(4, 3, dtype=np.float64)).dtype == np.float64
    assert net.float().head.weight.dtype == np.float32
    assert net.to("float64").head.weight.dtype == np.float64
    with pytest.raises(TypeError, match="int64"):
        net.to(np.int64)


# ------------------------------------------------------------------ state


def test_state_is_plain_arrays_that_are_copies() -> None:
    net = Net()
    state = net.state_dict()
    assert list(state) == [
        "scale", "offset", "block.linear.weight", "block.linear.bias", "block.norm.weight",
        "block.norm.bias", "block.norm.running_mean", "block.norm.running_var",
        "block.norm.num_batches_tracked", "head.weight", "head.bias",
    ]  # fmt: skip
    assert {type(value) for value in state.values()} == {np.ndarray}
    state["scale"][0] = 9
    assert net.scale.data.tolist() == [2]


def test_what_is_saved_is_loaded() -> None:
    net, other = Net(), Net()
    net(tk.randn(8, 3))
    parameters = list(other.parameters())
    assert other.load_state_dict(net.state_dict()) == ([], [])
    assert all(p is q for p, q in zip(parameters, other.parameters(), strict=True))
    x = tk.randn(5, 3)
    np.testing.assert_array_equal(net.eval()(x).data, other.eval()(x).data)
    other.scale.data[0] = 7
    assert net.scale.data.tolist() == [2]


class Foreign:
    """An array of another library."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array


def test_tensors_parameters_and_foreign_arrays_are_loaded() -> None:
    layer = nn.Linear(1, 1)
    layer.load_state_dict({"weight": nn.Parameter([[2.0]]), "bias": Foreign(np.float32([3]))})
    assert (layer.weight.item(), layer.bias.item()) == (2, 3)  # type: ignore[union-attr]


def test_loading_lists_everything_that_is_wrong_and_changes_nothing() -> None:
    net = Net()
    before = net.state_dict()
    state: dict[str, Any] = {key: value + 1 for key, value in before.items()}
    del state["head.bias"], state["block.linear.weight"]
    state["extra"] = np.zeros(1)
    state["offset"] = np.zeros(4, np.float32)
    state["scale"] = np.zeros(1, np.float64)
    state["head.weight"] = np.zeros((2, 3), complex)
    with pytest.raises(RuntimeError) as raised:
        net.load_state_dict(state)
    message = str(raised.value)
    assert message.startswith("Net.load_state_dict: changed nothing:\n")
    for line in (
        "missing: head.bias float32(2,)",
        "missing: block.linear.weight float32(3, 3)",
        "unexpected: extra",
        "offset: expected float32(3,), got float32(4,)",
        "scale: expected float32(1,), got float64(1,) (module.to(dtype) changes a module's dtype)",
        "head.weight: Tensor: expected real numbers, got complex",
    ):
        assert f"\n  {line}" in message
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


def test_loading_not_strictly() -> None:
    layer = nn.Linear(2, 1)
    result = layer.load_state_dict({"weight": np.float32([[1, 2]]), "more": 0}, strict=False)
    assert result.missing_keys == ["bias"] and result.unexpected_keys == ["more"]
    assert layer.weight.tolist() == [[1, 2]]
    with pytest.raises(
        RuntimeError, match=r"weight: expected float32\(1, 2\), got float32\(2, 1\)"
    ):
        layer.load_state_dict({"weight": np.float32([[1], [2]])}, strict=False)


def test_loading_needs_writable_leaves() -> None:
    layer = nn.Linear(2, 1)
    state = {key: value + 1 for key, value in layer.state_dict().items()}
    before = layer.weight.tolist()
    assert layer.bias is not None
    layer.bias.data.flags.writeable = False
    with pytest.raises(RuntimeError, match="bias: expected writable memory"):
        layer.load_state_dict(state)
    assert layer.weight.tolist() == before
    module = nn.Module()
    module.register_buffer("b", nn.Parameter([1.0]) * 2)
    with pytest.raises(RuntimeError, match="b: expected a leaf, got a computed Tensor"):
        module.load_state_dict({"b": np.float32([1])})


def test_values_that_alias_the_parameters_are_read_before_any_is_written() -> None:
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    first, second = net[0].weight.item(), net[1].weight.item()
    net.load_state_dict({"0.weight": net[1].weight.data, "1.weight": net[0].weight.data})
    assert (net[0].weight.item(), net[1].weight.item()) == (second, first)


def test_a_state_is_a_mapping() -> None:
    with pytest.raises(TypeError, match=r"expected a dict of arrays, got list\."):
        nn.Linear(1, 1).load_state_dict([])  # type: ignore[arg-type]


def test_backward_through_a_graph_older_than_the_load_raises() -> None:
    layer = nn.Linear(2, 1)
    loss = (layer(tk.ones(1, 2, requires_grad=True)) ** 2).sum()
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(MutationError, match="load_state_dict"):
        loss.backward()


# ------------------------------------------------------------------ copies


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_is_whole_and_its_own(duplicate: Any) -> None:
    net = Net()
    net.tied = net.head
    net.block.linear.bias = net.offset_bias = nn.Parameter([1.0, 2.0, 3.0])
    twin = duplicate(net.eval())
    assert twin.tied is twin.head and twin.block.linear.bias is twin.offset_bias
    assert not twin.block.norm.training
    x = tk.randn(4, 3)
    np.testing.assert_array_equal(twin(x).data, net(x).data)
    twin.head.weight.data[...] = 0
    assert net.head.weight.data.any()
    assert list(twin.state_dict()) == list(net.state_dict())


# ------------------------------------------------------------------ calls and hooks


def test_call_passes_everything_to_forward() -> None:
    class Sum(nn.Module):
        def forward(self, *args: int, **kwargs: int) -> int:
            return sum(args) + sum(kwargs.values())

    assert Sum()(1, 2, a=3) == 6
    with pytest.raises(NotImplementedError, match=r"Module defines no forward\(\)"):
        nn.Module()(1)


def test_forward_hooks_see_and_replace() -> None:
    layer = nn.Identity()
    seen: list[Any] = []
    look = layer.register_forward_hook(lambda m, args, y: seen.append((m, args, y)))
    assert layer(1) == 1
    assert seen == [(layer, (1,), 1)]
    with layer.register_forward_hook(lambda m, args, y: y + 10):
        with layer.register_forward_pre_hook(lambda m, args: args[0] * 2):
            assert layer(1) == 12
        with layer.register_forward_pre_hook(lambda m, args: (args[0] * 3,)):
            assert layer(1) == 13
        assert seen[-1] == (layer, (3,), 3)
    look.remove()
    look.remove()
    assert layer(1) == 1 and len(seen) == 3


def test_hooks_run_in_order_and_may_remove_themselves() -> None:
    layer = nn.Identity()
    order: list[int] = []
    first = layer.register_forward_pre_hook(lambda *_: (order.append(0), first.remove())[0])
    once = layer.register_forward_hook(lambda *_: (order.append(1), once.remove())[0])
    layer.register_forward_hook(lambda *_: order.append(2))
    layer(0)
    layer(0)
    assert order == [0, 1, 2, 2]


def test_hooks_survive_a_deepcopy_apart() -> None:
    layer = nn.Identity()
    handle = layer.register_forward_hook(lambda m, args, y: y + 1)
    twin = copy.deepcopy(layer)
    handle.remove()
    assert (layer(0), twin(0)) == (0, 1)


# ------------------------------------------------------------------ what it looks like


def test_repr_is_indented() -> None:
    assert repr(Net()) == (
        "Net(\n"
        "  (block): Block(\n"
        "    (linear): Linear(in_features=3, out_features=3, bias=True)\n"
        "    (norm): BatchNorm1d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, "
        "track_running_stats=True)\n"
        "  )\n"
        "  (head): Linear(in_features=3, out_features=2, bias=True)\n"
        ")"
    )

    class Extra(Net):
        def extra_repr(self) -> str:
            return "depth=2"

    assert repr(Extra()).startswith("Extra(\n  depth=2\n  (block): Block(\n    (linear)")


# ------------------------------------------------------------------ what cannot be copied


class Holding(nn.Module):
    """A layer and one more attribute, called `held`."""

    def __init__(self, held: Any) -> None:
        self.layer = nn.Linear(2, 2)
        self.held = held


def refused(kind: str) -> Any:
    x = tk.ones(2, requires_grad=True)
    return {"lock": threading.Lock(), "lambda": lambda x: x, "computed": 2 * x, "list": [2 * x]}[
        kind
    ]


@pytest.mark.parametrize("kind", ["lock", "computed", "list"])
@pytest.mark.parametrize("within", [False, True])
def test_an_attribute_that_cannot_be_copied_is_named(kind: str, within: bool) -> None:
    net: nn.Module = Holding(refused(kind))
    if within:
        net = nn.Sequential(nn.Linear(2, 2), nn.ModuleList([net]))
    error = TypeError if kind == "lock" else RuntimeError
    with pytest.raises(error, match=r"copy: expected attributes .* got Holding\.held, a \w+: \w+"):
        copy.deepcopy(net)
    assert isinstance(copy.copy(net), type(net))


@pytest.mark.parametrize("kind", ["lock", "computed", "list", "lambda"])
@pytest.mark.parametrize("within", [False, True])
def test_an_attribute_that_cannot_be_pickled_is_named(kind: str, within: bool) -> None:
    net: nn.Module = Holding(refused(kind))
    if within:
        net = nn.Sequential(nn.Linear(2, 2), nn.ModuleList([net]))
    for protocol in (2, pickle.HIGHEST_PROTOCOL):
        with pytest.raises(Exception, match=r"pickle: expected attributes .* got Holding\.held, a"):
            pickle.dumps(net, protocol)


def test_a_module_that_holds_itself_is_copied_and_pickled() -> None:
    net = Holding(None)
    net.held = [net, {"self": net}]
    for duplicate in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert duplicate.held[0] is duplicate.held[1]["self"] is duplicate is not net
    assert copy.copy(net).held is net.held


def test_a_richer_pickler_decides_itself() -> None:
    namespace: dict[str, Any] = {"__name__": "cloudpickle.cloudpickle", "net": Holding(lambda x: x)}
    exec("state = net.__reduce_ex__(4)[2]", namespace)
    assert "held" in namespace["state"]


class Reduced(nn.Module):
    """A module with a state of its own making."""

    __slots__ = ("kept",)

    def __init__(self) -> None:
        self.weight = nn.Parameter(tk.ones(2))
        self.lock = threading.Lock()
        self.kept = 3

    def __getstate__(self) -> Any:
        return {name: value for name, value in vars(self).items() if name != "lock"}, {"kept": 3}


def test_a_state_of_its_own_is_kept_and_a_slot_too() -> None:
    net = Reduced()
    for duplicate in (copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert (duplicate.kept, hasattr(duplicate, "lock")) == (3, False)
        assert duplicate.weight.tolist() == [1, 1]
