"""Traps of the graph (TRAPS.md, "Graph"): one section a row."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import operator
import sys
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy import ndarray
from op_samples import SAMPLES
from test_ops import OPS, cotangent, every_differentiable_case, leaves_of, tensors

import tinygrad_kr as tk
from tinygrad_kr import Tensor, op
from tinygrad_kr.autodiff import topological_order
from tinygrad_kr.autograd import AnomalyError, MutationError
from tinygrad_kr.ops.node import grad_mode, source_line_of
from tinygrad_kr.random import default_generator
from tinygrad_kr.testing import check_grads

HERE = __file__


def leaf(*values: float) -> Tensor:
    return Tensor(np.array(values), requires_grad=True)


def grad_of(x: Tensor) -> ndarray:
    assert x.grad is not None
    return x.grad.data


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# ------------------------------------------------------------------ diamond, reuse


def test_diamond_accumulates_fully_before_passing_on() -> None:
    a = leaf(3.0)
    b = a + a
    c = b + b
    c.sum().backward()
    assert grad_of(a).tolist() == [4.0]


def test_diamond_visits_each_node_once() -> None:
    """A chain of 60 diamonds has 2^60 paths."""
    calls = []

    def counted(g: Any, y: Any, x: Any) -> Any:
        calls.append(1)
        return g

    count = op(lambda x: x + 0, counted, name="count")
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = count(y)
        y = y * 0.5 + y * 0.5
    y.sum().backward()
    assert grad_of(x).tolist() == [1.0]
    assert len(calls) == 60


def test_reuse_at_unequal_depths() -> None:
    """The short way must wait for the long one."""

    def f(x: Any) -> Any:
        long = x
        for _ in range(4):
            long = np.sin(long) * x
        return long + x * long

    check_grads(f, np.array([0.3, 0.8]), order=3)


def test_two_outputs_into_one_backward() -> None:
    x = leaf(2.0)
    y = x * x
    (dx,) = tk.autograd.grad([y, y, 3 * y], x, [np.ones(1), np.ones(1), np.ones(1)])
    assert dx.tolist() == [20.0]


# ------------------------------------------------------------------ repeated backward


def test_repeated_backward_adds_the_same_again() -> None:
    x = leaf(2.0)
    y = x * x
    z = (y * y).sum()
    z.backward(retain_graph=True)
    assert grad_of(x).tolist() == [32.0]
    z.backward(retain_graph=True)
    assert grad_of(x).tolist() == [64.0]
    z.backward()
    assert grad_of(x).tolist() == [96.0]
    assert y.grad is None


def test_backward_of_a_shared_part_from_two_losses() -> None:
    x = leaf(2.0)
    y = x * x
    y.sum().backward(retain_graph=True)
    (y * 10).sum().backward()
    assert grad_of(x).tolist() == [44.0]


# ------------------------------------------------------------------ aliased gradients


def test_aliased_gradients_of_a_sum() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    g = np.array([5.0, 6.0])
    (x + y).backward(g)
    assert not np.shares_memory(grad_of(x), grad_of(y))
    assert not np.shares_memory(grad_of(x), g)
    grad_of(x)[...] = 0
    assert grad_of(y).tolist() == [5.0, 6.0]
    assert g.tolist() == [5.0, 6.0]


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: x + y,
        lambda x, y: x.reshape(2, 2).T.reshape(4) - (-y),
        lambda x, y: x[:] + y[::-1],
        lambda x, y: tk.tensor(0.0) + x + y,
        lambda x, y: np.stack([x, y]).sum(axis=0) + x * 1.0,
    ],
    ids=["add", "views", "slices", "constant", "stack"],
)
def test_aliased_gradients_never_share(f: Callable[..., Any], create_graph: bool) -> None:
    x, y = leaf(1.0, 2.0, 3.0, 4.0), leaf(5.0, 6.0, 7.0, 8.0)
    g = Tensor(np.ones(4))
    f(x, y).backward(g, create_graph=create_graph)
    arrays = [grad_of(x), grad_of(y), g.data, x.data, y.data]
    for i, a in enumerate(arrays):
        assert not any(np.shares_memory(a, b) for b in arrays[:i])
    x.grad = y.grad = None


def test_aliased_gradient_of_an_output_that_is_a_leaf() -> None:
    x = leaf(1.0, 2.0)
    g = np.ones(2)
    x.backward(g)
    assert grad_of(x).tolist() == [1.0, 1.0]
    assert not np.shares_memory(grad_of(x), g)


def test_the_default_gradient_of_1_is_not_written_through() -> None:
    for _ in range(2):
        x, y = leaf(2.0), leaf(3.0)
        x.backward()
        (y * 1).backward()
        assert grad_of(x).tolist() == grad_of(y).tolist() == [1.0]
        grad_of(x)[...] = 5
        grad_of(y)[...] = 5


def test_gradients_returned_to_the_caller_are_his_own() -> None:
    x, y = leaf(1.0), leaf(2.0)
    g = np.ones(1)
    dx, dy = tk.autograd.grad(x + y, [x, y], g)
    assert not np.shares_memory(dx.data, dy.data)
    assert not np.shares_memory(dx.data, g)
    a, b = tk.grad(lambda x, y: (x + y).sum(), (0, 1))(np.ones(2), np.ones(2))
    assert not np.shares_memory(a, b)
    v = np.ones(2)
    _, pull_back = tk.vjp(lambda x, y: x + y, np.ones(2), np.ones(2))
    a, b = pull_back(v)
    assert not np.shares_memory(a, b)
    assert not np.shares_memory(a, v)
    x0, v = np.ones(2), np.ones(2)
    _, pushed = tk.jvp(lambda x: x, (x0,), (v,))
    assert not np.shares_memory(pushed, v)


def test_accumulating_into_a_gradient_the_user_has_set() -> None:
    x = leaf(1.0)
    mine = Tensor(np.array([5.0]))
    x.grad = mine
    (2 * x).sum().backward()
    assert grad_of(x).tolist() == [7.0]
    assert mine.tolist() == [5.0]


def test_a_gradient_kept_by_a_hook_is_not_changed_later() -> None:
    x, y = leaf(1.0), leaf(1.0)
    kept: list[Tensor] = []
    x.register_hook(lambda g: kept.append(g))
    (x + y).sum().backward()
    grad_of(x)[...] = 100
    grad_of(y)[...] = 100
    assert kept[0].tolist() == [1.0]


def test_a_hook_that_writes_into_what_it_sees_reaches_no_other_branch() -> None:
    x, y = leaf(1.0), leaf(1.0)
    a, b = x * 1, y * 1

    def erase(g: Tensor) -> None:
        g.data[...] = 0

    a.register_hook(erase)
    (a + b).sum().backward()
    assert grad_of(y).tolist() == [1.0]


# ------------------------------------------------------------------ mutation of a saved array


def changed_in_place(x: Tensor) -> None:
    with tk.no_grad():
        x += 1


def changed_by_item(x: Tensor) -> None:
    with tk.no_grad():
        x[0] = 7.0


def changed_by_data(x: Tensor) -> None:
    x.data = x.data + 1


def changed_by_fill(x: Tensor) -> None:
    with tk.no_grad():
        x.fill_(3.0)


def changed_by_copy(x: Tensor) -> None:
    with tk.no_grad():
        x.copy_(np.zeros(x.shape))


def changed_through_detach(x: Tensor) -> None:
    x.detach()[0] = 5.0


def changed_through_a_view(x: Tensor) -> None:
    x.detach()[1:].zero_()


def changed_through_a_reshaped_view(x: Tensor) -> None:
    x.detach().reshape(1, -1).T.fill_(2.0)


WRITES = [
    changed_in_place,
    changed_by_item,
    changed_by_data,
    changed_by_fill,
    changed_by_copy,
    changed_through_detach,
    changed_through_a_view,
    changed_through_a_reshaped_view,
]


@pytest.mark.parametrize("write", WRITES)
def test_mutation_of_a_saved_input_raises_and_names_both_places(write: Any) -> None:
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    write(x)
    with pytest.raises(MutationError) as caught:
        y.backward()
    message = str(caught.value)
    assert "multiply" in message
    assert "input 0" in message
    assert message.count(HERE) == 2
    assert f"in {write.__name__})" in message
    assert ".detach().clone()" in message
    assert x.grad is None


@pytest.mark.parametrize("write", WRITES)
def test_mutation_under_create_graph_raises_as_well(write: Any) -> None:
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    write(x)
    with pytest.raises(MutationError):
        y.backward(create_graph=True)


@pytest.mark.parametrize("write", WRITES)
def test_mutation_of_what_backward_does_not_read_is_allowed(write: Any) -> None:
    x = leaf(1.0, 2.0)
    y = (2 * x + 1).sum()
    write(x)
    y.backward()
    assert grad_of(x).tolist() == [2.0, 2.0]


def test_mutation_before_the_forward_pass_or_after_backward_is_allowed() -> None:
    x = leaf(1.0, 2.0)
    for _ in range(3):
        changed_in_place(x)
        x.grad = None
        y = (x * x).sum()
        y.backward()
        np.testing.assert_array_equal(grad_of(x), 2 * x.data)
        changed_in_place(x)


def test_mutation_of_another_array_is_allowed() -> None:
    x, other = leaf(1.0, 2.0), leaf(1.0)
    y = (x * x).sum()
    changed_in_place(other)
    y.backward()
    assert grad_of(x).tolist() == [2.0, 4.0]


def test_mutation_of_a_constant_raises() -> None:
    x, c = leaf(1.0, 2.0), Tensor(np.array([3.0, 4.0]))
    y = (x * c).sum()
    c[0] = 0.0
    with pytest.raises(MutationError, match="input 1"):
        y.backward()


def test_mutation_of_a_slice_of_the_saved_array_raises() -> None:
    base = Tensor(np.arange(6.0))
    x = leaf(1.0, 2.0)
    y = (x * base[2:4]).sum()
    base[0] = 9.0  # not even in the slice: memory is told apart by its owner
    with pytest.raises(MutationError):
        y.backward()


def test_mutation_of_the_memory_under_a_leaf_through_another_tensor_raises() -> None:
    memory = np.arange(3.0)
    x, other = Tensor(memory, requires_grad=True), Tensor(memory[1:])
    y = (x * x).sum()
    other.zero_()
    with pytest.raises(MutationError):
        y.backward()


def test_mutation_of_a_saved_output_raises() -> None:
    x = leaf(1.0, 2.0)
    y = x.exp()
    y.detach().zero_()
    with pytest.raises(MutationError, match=r"exp.*its output"):
        y.sum().backward()


def test_mutation_of_a_computed_tensor_raises_at_once() -> None:
    x = leaf(1.0, 2.0)
    y = x * x
    with pytest.raises(RuntimeError, match=r"result of multiply.*\.detach\(\)\.clone\(\)"):
        y[0] = 1.0
    with tk.no_grad(), pytest.raises(RuntimeError, match="result of multiply"):
        y += 1
    with pytest.raises(RuntimeError, match="data: expected a leaf"):
        y.data = np.zeros(2)


def test_mutation_of_a_leaf_outside_no_grad_raises_at_once() -> None:
    x = leaf(1.0, 2.0)
    writes: list[Any] = [
        operator.iadd,
        operator.isub,
        operator.imul,
        operator.itruediv,
        operator.ipow,
    ]
    for write in writes:
        with pytest.raises(RuntimeError, match=r"leaf that requires grad.*no_grad"):
            write(x, 2)
    for name, value in (("fill_", 1.0), ("copy_", x)):
        with pytest.raises(RuntimeError, match=r"leaf that requires grad.*no_grad"):
            getattr(x, name)(value)
    with pytest.raises(RuntimeError, match=r"leaf that requires grad.*no_grad"):
        x.zero_()
    assert x.tolist() == [1.0, 2.0]


def test_augmented_assignment_of_a_computed_tensor_makes_a_new_one() -> None:
    x = leaf(2.0)
    y = x * x
    before = y
    y += x
    assert y is not before
    y.sum().backward()
    assert grad_of(x).tolist() == [5.0]


def test_assigning_a_tracked_tensor_into_a_constant_explains_itself() -> None:
    buffer, x = tk.zeros(3), Tensor([1.0], requires_grad=True)
    with pytest.raises(RuntimeError, match=r"got a Tensor that requires grad.*stack"):
        buffer[0] = x[0]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("target", ["input", "output"])
@every_differentiable_case
def test_mutation_gives_the_right_gradient_or_an_error_for_every_op(
    name: str, i: int, target: str
) -> None:
    """Whatever a rule reads, a write to it is never a wrong gradient."""
    case = SAMPLES[name][i]

    def forward() -> tuple[list[Any], Any]:
        given = tensors(name, [x.copy() if isinstance(x, ndarray) else x for x in case.inputs])
        return given, OPS[name](*given, **case.params)

    given, y = forward()
    if not y.requires_grad or not y.size:
        return
    y.backward(cotangent(y.data))
    expected = [grad_of(x) for x in leaves_of(given)]
    given, y = forward()
    g = cotangent(y.data)
    written = [x for x in given if isinstance(x, Tensor)] if target == "input" else [y]
    for x in written:
        if not x.data.flags.writeable:
            return
        with tk.no_grad():
            detached = x.detach()
            detached[...] = ~x.data if x.dtype.kind == "b" else x.data + 1
    try:
        y.backward(g)
    except MutationError:
        return
    for x, right in zip(leaves_of(given), expected, strict=True):
        np.testing.assert_allclose(grad_of(x), right, rtol=1e-12, atol=1e-12)


@pytest.mark.one_in(3)
@every_differentiable_case
def test_mutation_under_a_view_is_noticed_for_every_op(name: str, i: int) -> None:
    """The result of an op may be a view of its input; a write to the input changes it too."""
    case = SAMPLES[name][i]
    given = tensors(name, [x.copy() if isinstance(x, ndarray) else x for x in case.inputs])
    y = OPS[name](*given, **case.params)
    views = [x for x in leaves_of(given) if np.shares_memory(x.data, y.data)]
    if not views:
        return
    z = (y * y).sum()
    with tk.no_grad():
        for x in views:
            x += 1
    with pytest.raises(MutationError):
        z.backward()


def test_raw_writes_are_caught_in_anomaly_mode() -> None:
    memory = np.array([1.0, 2.0])
    constant = np.array([3.0, 4.0])
    x = Tensor(memory, requires_grad=True)
    with tk.detect_anomaly():
        y = (x * constant).sum()
        for array in (memory, constant, memory[1:], x.data):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
        y.backward()
    memory[0] = 5.0
    constant[0] = 5.0
    del y


def test_anomaly_mode_unlocks_when_the_graph_goes() -> None:
    memory = np.array([1.0, 2.0])
    x = Tensor(memory, requires_grad=True)
    with tk.detect_anomaly():
        y = x * x
        z = np.exp(x)
    assert not memory.flags.writeable
    del y
    assert not memory.flags.writeable
    del z
    memory[0] = 5.0


def test_anomaly_mode_unlocks_views_made_before_it() -> None:
    memory = np.arange(4.0)
    head, tail = memory[:2], memory[2:]
    with tk.detect_anomaly():
        y = (Tensor(memory, requires_grad=True)[:2] * Tensor(head) * Tensor(tail)).sum()
        z = tk.functional.avg_pool1d(Tensor(memory[None, None], requires_grad=True), 2).sum()
    assert not any(array.flags.writeable for array in (memory, head, tail))
    y.backward()
    z.backward()
    del y, z
    assert all(array.flags.writeable for array in (memory, head, tail))
    head[0] = 7.0
    assert memory[0] == 7.0


def test_anomaly_mode_leaves_read_only_arrays_read_only() -> None:
    memory = np.array([1.0, 2.0])
    memory.flags.writeable = False
    with tk.detect_anomaly():
        y = Tensor(memory, requires_grad=True) * 2
    y.sum().backward()
    del y
    assert not memory.flags.writeable


def test_anomaly_mode_names_the_op_that_made_a_nan() -> None:
    x = leaf(-1.0)
    with (
        tk.detect_anomaly(),
        np.errstate(invalid="ignore"),
        pytest.raises(AnomalyError, match=r"log: expected .*float64\(1,\).*test_traps_graph"),
    ):
        np.log(x)


def test_anomaly_mode_names_the_backward_that_made_a_nan() -> None:
    bad = op(lambda x: x * 1, lambda g, y, x: g * np.nan, name="bad")
    x = leaf(1.0)
    with (
        tk.detect_anomaly(),
        pytest.raises(AnomalyError, match=r"numbers for input 0, float64\(1,\), got a NaN\."),
    ):
        bad(x).sum().backward()


def test_anomaly_mode_passes_a_nan_of_the_user_on() -> None:
    x = leaf(float("nan"))
    with tk.detect_anomaly():
        (x * 2).sum().backward()
    assert grad_of(x).tolist() == [2.0]


def root_of_0(x: Any) -> Any:
    return np.sqrt(x * x)


TRANSFORMED: dict[str, Callable[[], Any]] = {
    "grad": lambda: tk.grad(root_of_0)(0.0),
    "value_and_grad": lambda: tk.value_and_grad(root_of_0)(0.0),
    "vjp": lambda: tk.vjp(root_of_0, 0.0)[1](1.0),
    "jvp": lambda: tk.jvp(root_of_0, (0.0,), (1.0,)),
    "jacobian": lambda: tk.jacobian(root_of_0)(np.zeros(2)),
    "hessian": lambda: tk.hessian(lambda x: (x**1.5).sum())(np.zeros(2)),
    "hvp": lambda: tk.hvp(lambda x: (x**1.5 * x).sum(), (np.zeros(2),), (np.zeros(2),)),
    "grad of grad": lambda: tk.grad(tk.grad(lambda x: x**1.5 * x))(0.0),
    "autograd.grad": lambda: tk.autograd.grad(root_of_0(x := leaf(0.0)).sum(), x),
    "backward": lambda: root_of_0(leaf(0.0)).sum().backward(),
    "backward(create_graph)": lambda: root_of_0(leaf(0.0)).sum().backward(create_graph=True),
    "checkpoint": lambda: tk.checkpoint(root_of_0, leaf(0.0)).sum().backward(),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_anomaly_mode_looks_at_every_transformation(name: str) -> None:
    """inf * 0 in a rule; the message has a line of this file, and none of NumPy's or ours."""
    with tk.detect_anomaly(), pytest.raises(AnomalyError, match=r"test_traps_graph\.py:\d+ ") as e:
        TRANSFORMED[name]()
    assert "got a NaN" in str(e.value) or "got one" in str(e.value)
    assert str(e.value).count(".py:") == 1
    with np.errstate(all="ignore"):
        TRANSFORMED[name]()  # as before, without


def test_anomaly_mode_looks_at_sums_of_cotangents() -> None:
    """inf - inf, where the walk adds: at a leaf, at an op, in `.grad`."""
    x = leaf(0.0)
    with tk.detect_anomaly():
        y = np.sqrt(x) - np.sqrt(x * 1.0)
        with pytest.raises(AnomalyError, match=r"an input of (sqrt|multiply), recorded at .*graph"):
            tk.autograd.grad(y.sum(), x)
        z = x * 1.0
        with pytest.raises(AnomalyError, match=r"the output of multiply, recorded at .*_graph"):
            (np.sqrt(z) - np.sqrt(z)).sum().backward()
        assert x.grad is None
        x.sum().backward(np.array(np.inf))
        with pytest.raises(AnomalyError, match=r"`\.grad` and the new gradient"):
            x.sum().backward(np.array(-np.inf))
        assert grad_of(x).tolist() == [np.inf]


def test_anomaly_mode_looks_at_unbroadcasting_and_index_adjoints() -> None:
    x, signs = leaf(0.0), np.array([np.inf, -np.inf])
    with tk.detect_anomaly():
        with pytest.raises(AnomalyError, match=r"backward of add, .* input 0, float64\(1,\)"):
            (x + np.zeros(2)).backward(signs)
        for key in (np.array([0, 0]), [0, 0]):
            with pytest.raises(AnomalyError, match=r"backward of (getitem|take).*_graph"):
                x[key].backward(signs)
        with pytest.raises(AnomalyError, match=r"backward of take_along_axis.*_graph"):
            np.take_along_axis(x, np.array([0, 0]), 0).backward(signs)
        y = x[0:1] * 1.0
        with pytest.raises(AnomalyError, match=r"an input of getitem"):
            (np.sqrt(x[:1]) - np.sqrt(x[0:])).backward()
        assert y.requires_grad


def test_anomaly_mode_passes_over_a_nan_that_a_rule_selects_away() -> None:
    """inf - inf in the rule of logaddexp, whose result is (1, 0)."""
    with tk.detect_anomaly():
        assert tk.hessian(lambda p: np.logaddexp(p[0], p[1]))(np.array([np.inf] * 2)).tolist() == [
            [0.0, 0.0],
            [0.0, 0.0],
        ]


@pytest.mark.parametrize("outside", ["warn", "raise", "ignore"])
def test_hooks_run_under_the_error_state_outside(outside: Any) -> None:
    """The walk itself does not warn: the derivative of sqrt at 0 is infinite."""
    x, seen = leaf(0.0), []
    y = np.sqrt(x)
    for node in (x, y):
        node.register_hook(lambda g: seen.append(np.geterr()["divide"]))
    with np.errstate(divide=outside):
        y.sum().backward()
    assert seen == [outside] * 2
    assert grad_of(x).tolist() == [np.inf]


def test_ops_of_rules_have_a_line_of_the_users() -> None:
    """NumPy's `errstate` decorates the walk: its file is passed over."""
    x = leaf(2.0)
    (g,) = tk.autograd.grad(np.exp(x) * x, x, np.ones(1), create_graph=True)
    nodes = topological_order([g])
    assert len(nodes) > 3
    assert all("test_traps_graph.py" in source_line_of(node) for node in nodes)


# ------------------------------------------------------------------ second backward


def test_second_backward_names_the_freed_op_and_the_fix() -> None:
    x = leaf(2.0)
    y = np.exp(x)
    z = y.sum()
    z.backward()
    with pytest.raises(
        RuntimeError, match=r"through (sum|exp), recorded at .*test_traps_graph"
    ) as e:
        z.backward()
    assert "retain_graph=True" in str(e.value)
    with pytest.raises(RuntimeError, match=r"through exp.*retain_graph=True"):
        (y * 2).sum().backward()
    assert grad_of(x).tolist() == [np.exp(2.0)]


def test_a_freed_graph_that_the_input_does_not_need_is_no_error() -> None:
    """PyTorch's answer; also where the input is older, or was in the same backward."""
    w, x, v = leaf(2.0), leaf(3.0), leaf(5.0)
    h = w * w
    (h * x).sum().backward()
    later = leaf(7.0)
    product = (h * x * v * later).sum()
    for asked, expected in ((later, 60.0), (v, 84.0), (x, 140.0)):
        (g,) = tk.autograd.grad(product, asked, retain_graph=True)
        assert g.tolist() == [expected]
    (g,) = tk.autograd.grad((h * x).sum(), h)
    assert g.tolist() == [3.0]
    used_before = x * x
    other = w * w
    (used_before * other).sum().backward()
    (g,) = tk.autograd.grad((x * other).sum(), x)
    assert g.tolist() == [4.0]
    assert float(tk.grad(lambda x: (x * h).sum())(Tensor([3.0])).item()) == 4.0
    assert tk.checkpoint(lambda x: x * h, later).requires_grad


@pytest.mark.parametrize("walk", ["backward", "grad", "grad of another"])
def test_a_freed_graph_that_the_input_needs_is_an_error(walk: str) -> None:
    w, x = leaf(2.0), leaf(3.0)
    u = x * x
    h = w * u
    if walk == "backward":
        h.sum().backward()
    else:
        tk.autograd.grad(h.sum(), w)
    asked = {"backward": w, "grad": x, "grad of another": u}[walk]
    for options in ({}, {"allow_unused": True}, {"materialize_grads": True}):
        with pytest.raises(RuntimeError, match=r"through multiply.*retain_graph=True"):
            tk.autograd.grad((h * 2).sum(), asked, **options)
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        (h * x).sum().backward()


def test_a_freed_graph_is_an_error_after_a_backward_that_failed() -> None:
    """What was freed before the error might lead to any leaf."""
    stop = op(lambda x: x * 1, lambda g, y, x: g.nothing, name="stop")
    w, x = leaf(2.0), leaf(3.0)
    h = stop(w) * 2
    with pytest.raises(AttributeError):
        h.sum().backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        tk.autograd.grad((h * x).sum(), x)


def test_a_freed_graph_is_known_through_several_backwards() -> None:
    """The second walk meets what the first freed, and stops there; its own nodes remember."""
    w, x, v = leaf(2.0), leaf(3.0), leaf(5.0)
    h = w[:1] * w
    h.sum().backward()
    k = h * x
    tk.autograd.grad(k.sum(), x)
    (g,) = tk.autograd.grad((k * v).sum(), v)
    assert g.tolist() == [12.0]
    for asked in (w, x, h):
        with pytest.raises(RuntimeError, match="retain_graph=True"):
            tk.autograd.grad((k * v).sum(), asked)


def test_a_freed_graph_keeps_no_leaf_alive() -> None:
    x = leaf(2.0)
    gone = weakref.ref(x)
    y = x * x
    y.sum().backward()
    del x
    assert gone() is None
    z = leaf(3.0)
    (g,) = tk.autograd.grad((y * z).sum(), z)
    assert g.tolist() == [4.0]


def test_create_graph_retains() -> None:
    x = leaf(2.0)
    z = (x**3).sum()
    (dx,) = tk.autograd.grad(z, x, create_graph=True)
    (again,) = tk.autograd.grad(z, x)
    assert dx.tolist() == again.tolist() == [12.0]


# ------------------------------------------------------------------ depth


def chain(x: Tensor, depth: int) -> Tensor:
    y = x
    for _ in range(depth):
        y = y + 1e-9
    return y


@pytest.mark.parametrize("depth", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_depth_builds_walks_and_frees_without_recursion(depth: int) -> None:
    x = leaf(1.0)
    limit = sys.getrecursionlimit()
    start = time.process_time()
    sys.setrecursionlimit(200)
    try:
        y = chain(x, depth)
        y.sum().backward()
        assert grad_of(x).tolist() == [1.0]
        y = chain(x, depth)
        del y
    finally:
        sys.setrecursionlimit(limit)
    assert time.process_time() - start < 5


def test_depth_with_create_graph() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(30_000):
        y = y * 1.00001
    (dx,) = tk.autograd.grad(y, x, create_graph=True)
    assert dx.item() == pytest.approx(1.00001**30_000)
    del y, dx


@pytest.mark.parametrize("largest", [10_000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_depth_costs_linear_time(largest: int) -> None:
    def seconds(depth: int) -> float:
        best = float("inf")
        for _ in range(3):
            x = leaf(1.0)
            start = time.process_time()
            chain(x, depth).sum().backward()
            best = min(best, time.process_time() - start)
        return best

    assert seconds(largest) < 40 * seconds(largest // 10)


# ------------------------------------------------------------------ memory


def everything(x: Tensor) -> Any:
    """A graph of many kinds of nodes."""
    y = x.exp() * x.sum() / (1 + x * x)
    z: Any = np.stack([y, x]) @ x
    return (z.reshape(-1)[0] + y[::2].sum() + tk.checkpoint(lambda a: (a * a).sum(), x)) * 2


@pytest.mark.usefixtures("no_collector")
def test_memory_returns_without_the_collector() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = everything(x)
    watched = [weakref.ref(x), weakref.ref(y), weakref.ref(x.data)]
    del x, y
    assert all(reference() is None for reference in watched)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("retain", [False, True])
def test_memory_returns_after_backward(retain: bool) -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = everything(x)
    y.backward(retain_graph=retain)
    watched = [weakref.ref(x), weakref.ref(y), weakref.ref(grad_of(x))]
    del x, y
    assert all(reference() is None for reference in watched)


@pytest.mark.usefixtures("no_collector")
def test_memory_returns_with_create_graph() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = everything(x)
    (dx,) = tk.autograd.grad(y, x, create_graph=True)
    (dxx,) = tk.autograd.grad((dx * dx).sum(), x, create_graph=True)
    watched = [weakref.ref(t) for t in (x, y, dx, dxx)]
    del x, y, dx, dxx
    assert all(reference() is None for reference in watched)


@pytest.mark.usefixtures("no_collector")
def test_memory_returns_from_the_transformations() -> None:
    def f(x: Any) -> Any:
        return (np.sin(x) * x).sum()

    def use_all() -> None:
        x = np.ones(3)
        tk.grad(f)(x)
        tk.hessian(f)(x)
        tk.hvp(f, (x,), (x,))
        tk.jvp(f, (x,), (x,))
        tk.vjp(f, x)[1](1.0)
        tk.jacobian(tk.grad(f))(x)
        everything(leaf(1.0, 2.0, 3.0)).backward()

    use_all()
    gc.collect()
    use_all()
    assert gc.collect() == 0


@pytest.mark.usefixtures("no_collector")
def test_memory_returns_with_hooks_and_retained_gradients() -> None:
    x = leaf(1.0, 2.0)
    y = x * x
    y.retain_grad()
    remove = y.register_hook(lambda g: g * 2)
    y.sum().backward()
    watched = [weakref.ref(x), weakref.ref(y)]
    del x, y, remove
    assert all(reference() is None for reference in watched)


@pytest.mark.usefixtures("no_collector")
def test_memory_returns_after_an_error_in_a_rule() -> None:
    def fails(g: Any, y: Any, x: Any) -> Any:
        raise ValueError("no")

    bad = op(lambda x: x * 1, fails, name="bad")
    x = leaf(1.0)
    reference = weakref.ref(x)
    with contextlib.suppress(ValueError):
        bad(x).sum().backward()
    del x
    gc.collect()
    assert reference() is None


def test_of_the_terms_of_a_cotangent_at_most_one_outlives_the_sum() -> None:
    """Of a table of embeddings that is used twice each term is as large as the table."""
    made: list[Any] = []
    alive: list[int] = []

    def rule(g: Any, y: Any, x: Any) -> Any:
        alive.append(sum(term() is not None for term in made))
        gx = 2 * g
        made.append(weakref.ref(gx))
        return gx

    double = tk.op(lambda x: 2 * x, rule, name="double")
    y = double(leaf(1.0, 2.0))
    (double(y) + double(y)).sum().backward()
    assert len(alive) == 3
    assert alive[-1] <= 1


def test_memory_of_backward_is_let_go_as_it_walks() -> None:
    """What the walk has used is freed before the next: the peak is that of the forward pass."""
    size = 200_000

    def peak(backward: bool) -> int:
        x = Tensor(np.ones(size, np.float32), requires_grad=True)
        tracemalloc.start()
        y = x
        for _ in range(20):
            y = y.exp() * 1e-3
        if backward:
            y.sum().backward()
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    assert peak(True) < 1.25 * peak(False)


# ------------------------------------------------------------------ exception mid-op


def test_exception_in_forward_leaves_everything_as_it_was() -> None:
    x = leaf(1.0, 2.0)
    x.grad = Tensor(np.array([5.0, 5.0]))
    mode, state = grad_mode.get(), default_generator().bit_generator.state
    with pytest.raises(ValueError, match=r"add\(float64\(2,\), float64\(3,\)\)"):
        x + leaf(1.0, 2.0, 3.0)
    with pytest.raises(ZeroDivisionError):
        tk.grad(lambda x: 1 / 0)(np.ones(2))
    assert grad_mode.get() == mode
    assert default_generator().bit_generator.state == state
    assert grad_of(x).tolist() == [5.0, 5.0]


def test_exception_in_backward_leaves_every_gradient_as_it_was() -> None:
    def fails(g: Any, y: Any, x: Any) -> Any:
        raise ZeroDivisionError("mine")

    bad = op(lambda x: x * 1, fails, name="bad")
    x, y = leaf(1.0), leaf(1.0)
    x.grad = Tensor(np.array([5.0]))
    before = np.geterr()
    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        (bad(x) + y * 2).sum().backward()
    assert any("backward of bad" in note and HERE in note for note in caught.value.__notes__)
    assert grad_of(x).tolist() == [5.0]
    assert y.grad is None
    assert np.geterr() == before
    assert grad_mode.get() == 1
    with pytest.raises(ZeroDivisionError):
        (bad(x) + y).sum().backward(create_graph=True)
    assert grad_mode.get() == 1


def test_exception_in_checkpoint_restores_the_generator() -> None:
    x = leaf(1.0)
    calls = []

    def f(a: Any) -> Any:
        calls.append(1)
        noise = tk.rand(1)
        if len(calls) > 1:
            raise KeyError("second time")
        return a * noise

    y = tk.checkpoint(f, x)
    state = default_generator().bit_generator.state
    with pytest.raises(KeyError, match="second time"):
        y.sum().backward()
    assert default_generator().bit_generator.state == state
    assert x.grad is None


# ------------------------------------------------------------------ unconnected input


def test_unconnected_input_is_a_named_error_and_zeros_on_request() -> None:
    x, z = leaf(1.0), Tensor(np.ones((2, 3)), requires_grad=True)
    y = x * 2
    with pytest.raises(RuntimeError, match=r"depend on input 1 of shape \(2, 3\), got none\."):
        tk.autograd.grad(y, [x, z], retain_graph=True)
    dx, dz = tk.autograd.grad(y, [x, z], allow_unused=True, retain_graph=True)
    assert dx.tolist() == [2.0]
    assert dz is None
    _, dz = tk.autograd.grad(y, [x, z], materialize_grads=True)
    assert dz.shape == (2, 3)
    assert not dz.data.any()


def test_unconnected_argument_of_a_function_has_a_gradient_of_zeros() -> None:
    da, db = tk.grad(lambda a, b: (a * a).sum(), (0, 1))(np.ones(2), np.ones((3, 1)))
    assert da.tolist() == [2.0, 2.0]
    assert db.shape == (3, 1)
    assert not db.any()
    assert tk.jacobian(lambda x: Tensor(np.ones(2)))(np.ones(3)).shape == (2, 3)


def test_inputs_that_cannot_have_a_gradient_are_named() -> None:
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match=r"input 1 to require grad, got one without\."):
        tk.autograd.grad(x * 2, [x, Tensor(1.0)])
    with pytest.raises(RuntimeError, match=r"Tensor that requires grad, got one that does not\."):
        tk.autograd.grad(Tensor(1.0), x)
    with pytest.raises(RuntimeError, match=r"Tensor that requires grad, got one that does not\."):
        Tensor(1.0).backward()
    with tk.no_grad():
        y = x * 2
    with pytest.raises(RuntimeError, match=r"Tensor that requires grad, got one that does not\."):
        y.backward()
    with pytest.raises(TypeError, match=r"backward: expected a Tensor, got float\."):
        tk.autograd.grad(2.0, x)


def test_backward_of_many_elements_needs_a_gradient() -> None:
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    with pytest.raises(RuntimeError, match=r"none; only a single element has the default 1\."):
        (x * 2).backward()
    with pytest.raises(ValueError, match=r"expected a gradient of shape \(2, 3\), got \(3,\)\."):
        (x * 2).backward(np.ones(3))
    (x * 2).backward(np.ones((2, 3), np.float32))
    assert grad_of(x).dtype == np.float64


# ------------------------------------------------------------------ grad mode


def test_grad_mode_is_restored_after_an_exception() -> None:
    with pytest.raises(KeyError), tk.no_grad():
        raise KeyError
    assert tk.is_grad_enabled()
    with pytest.raises(KeyError), tk.detect_anomaly():
        raise KeyError
    assert grad_mode.get() == 1

    @tk.no_grad()
    def fails() -> None:
        assert not tk.is_grad_enabled()
        raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert tk.is_grad_enabled()


def test_grad_mode_nests() -> None:
    guard = tk.no_grad()
    with guard:
        assert not tk.is_grad_enabled()
        with tk.enable_grad():
            assert tk.is_grad_enabled()
            with guard:
                assert not tk.is_grad_enabled()
            assert tk.is_grad_enabled()
        assert not tk.is_grad_enabled()
        with tk.set_grad_enabled(True):
            assert tk.is_grad_enabled()
    with tk.set_grad_enabled(False):
        assert not (leaf(1.0) * 2).requires_grad
    assert tk.is_grad_enabled()


def test_grad_mode_is_per_thread() -> None:
    seen = {}

    def look(name: str) -> None:
        seen[name] = tk.is_grad_enabled()

    with tk.no_grad():
        thread = threading.Thread(target=look, args=("inside",))
        thread.start()
        thread.join()
    assert seen == {"inside": True}

    def switch_off(ready: threading.Barrier) -> None:
        with tk.no_grad():
            ready.wait()
            ready.wait()

    barrier = threading.Barrier(2)
    thread = threading.Thread(target=switch_off, args=(barrier,))
    thread.start()
    barrier.wait()
    assert tk.is_grad_enabled()
    barrier.wait()
    thread.join()


def test_grad_mode_is_per_async_task() -> None:
    seen: list[tuple[str, bool]] = []

    async def off() -> None:
        with tk.no_grad():
            await asyncio.sleep(0)
            seen.append(("off", tk.is_grad_enabled()))
            await asyncio.sleep(0)

    async def on() -> None:
        await asyncio.sleep(0)
        seen.append(("on", tk.is_grad_enabled()))

    async def main() -> None:
        await asyncio.gather(off(), on(), off())

    asyncio.run(main())
    assert sorted(seen) == [("off", False), ("off", False), ("on", True)]


def test_grad_mode_decorates_coroutines() -> None:
    @tk.no_grad()
    async def quiet() -> bool:
        await asyncio.sleep(0)
        return tk.is_grad_enabled()

    assert asyncio.run(quiet()) is False


def test_grad_mode_decorates_generators() -> None:
    """The mode holds while the generator computes, not while it waits."""
    closed = []

    @tk.no_grad()
    def numbers() -> Any:
        try:
            for i in range(3):
                assert not tk.is_grad_enabled()
                got = yield i
                assert not tk.is_grad_enabled()
                if got is not None:
                    yield got
        except KeyError:
            assert not tk.is_grad_enabled()
            yield "caught"
        finally:
            closed.append(tk.is_grad_enabled())
        return "done"

    run = numbers()
    assert next(run) == 0
    assert tk.is_grad_enabled()
    assert run.send("echo") == "echo"
    assert tk.is_grad_enabled()
    assert run.throw(KeyError) == "caught"
    with pytest.raises(StopIteration) as stop:
        next(run)
    assert stop.value.value == "done"
    run = numbers()
    next(run)
    run.close()
    assert closed == [False, False]
    assert tk.is_grad_enabled()
    assert list(numbers()) == [0, 1, 2]


@pytest.mark.parametrize("mode", [tk.no_grad, tk.enable_grad, tk.detect_anomaly])
def test_grad_mode_decorates_without_brackets(mode: Any) -> None:
    @mode
    def enabled() -> bool:
        """Asks."""
        return tk.is_grad_enabled()

    assert enabled() is (mode is not tk.no_grad)
    assert (enabled.__name__, enabled.__doc__) == ("enabled", "Asks.")
    with tk.no_grad():
        assert enabled() is (mode is tk.enable_grad)


def test_grad_mode_decorator_keeps_name_and_recurses() -> None:
    @tk.no_grad()
    def factorial(n: int) -> int:
        """n!"""
        assert not tk.is_grad_enabled()
        return n * factorial(n - 1) if n else 1

    assert factorial(4) == 24
    assert factorial.__name__ == "factorial"
    assert factorial.__doc__ == "n!"
    assert tk.is_grad_enabled()


def test_grad_mode_does_not_stop_backward() -> None:
    x = leaf(2.0)
    y = x * x
    with tk.no_grad():
        y.backward()
        assert grad_of(x).tolist() == [4.0]
        assert tk.grad(lambda x: x * x)(3.0) == 6.0


def test_results_under_no_grad_are_detached() -> None:
    x = leaf(2.0)
    with tk.no_grad():
        y = x.exp() @ np.ones(1)
    assert not y.requires_grad
    assert y.is_leaf


# ------------------------------------------------------------------ custom op


def test_custom_op_has_a_double_backward() -> None:
    cube = op(lambda x: x**3, lambda g, y, x: g * 3 * x**2, name="cube")
    check_grads(cube, np.array([1.0, -2.0]), order=4)
    x = leaf(2.0)
    assert cube(x).requires_grad
    assert "cube" in repr(cube(x))


def test_custom_op_whose_rule_leaves_numpy_refuses_a_double_backward() -> None:
    """math.exp cannot see a Tensor's history: an error, never a silent constant."""
    import math

    blind = op(
        lambda x: np.vectorize(math.exp)(x),
        lambda g, y, x: g * np.asarray(np.vectorize(math.exp)(x)),
        name="blind",
    )
    x = leaf(1.0)
    blind(x).sum().backward()
    assert grad_of(x)[0] == pytest.approx(math.e)
    with pytest.raises((RuntimeError, TypeError)):
        tk.autograd.grad(blind(x).sum(), x, create_graph=True)


def test_custom_op_without_a_rule_for_an_input_stops_there() -> None:
    scale = op(lambda x, s: x * s, lambda g, y, x, s: g * s, name="scale")
    x, s = leaf(2.0), leaf(3.0)
    scale(x, s).sum().backward()
    assert grad_of(x).tolist() == [3.0]
    assert s.grad is None


def test_custom_op_rule_of_the_wrong_kind_is_named() -> None:
    x = leaf(1.0, 2.0)
    nothing = op(lambda x: x * 1, lambda g, y, x: None, name="nothing")
    with pytest.raises(TypeError, match=r"expected an array from the rule, got NoneType\."):
        nothing(x).sum().backward()
    wide = op(lambda x: x * 1, lambda g, y, x: np.ones((3, 2, 5)), name="wide")
    with pytest.raises(ValueError, match=r"a cotangent of shape \(2,\), got \(3, 2, 5\)\."):
        wide(x).sum().backward()
    number = op(lambda x: x * 1, lambda g, y, x: 7.0, name="number")
    number(x).sum().backward()
    assert grad_of(x).tolist() == [7.0, 7.0]


@pytest.mark.usefixtures("own_numpy_table")
def test_custom_op_on_a_numpy_function_serves_numpys_name() -> None:
    fast_sinc = op(np.spacing, lambda g, y, x: 0 * g, name="spacing")
    x = leaf(1.0)
    assert np.spacing(x).tolist() == fast_sinc(x).tolist()


def test_backward_errors_name_the_forward_call() -> None:
    broken = op(lambda x: x * 1, lambda g, y, x: g @ np.ones((3, 3)), name="broken")
    x = leaf(1.0, 2.0)
    with pytest.raises(ValueError) as caught:
        broken(x).sum().backward()
    assert any("backward of broken" in note for note in caught.value.__notes__)
    assert any(HERE in note for note in caught.value.__notes__)


def test_one_no_grad_in_two_threads_at_once() -> None:
    mode, inside = tk.no_grad(), threading.Barrier(2, timeout=10)
    seen: list[Any] = []

    def run(first_out: threading.Event | None, out: threading.Event) -> None:
        with mode:
            inside.wait()
            if first_out is not None:
                first_out.wait(10)
        seen.append(tk.is_grad_enabled())
        out.set()

    one, other = threading.Event(), threading.Event()
    threads = [
        threading.Thread(target=run, args=(None, one)),
        threading.Thread(target=run, args=(one, other)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert seen == [True, True]


@pytest.mark.parametrize("written", ["parameter", "argument", "constant"])
def test_checkpoint_refuses_to_compute_again_from_what_was_overwritten(written: str) -> None:
    w, x = (Tensor(np.array([2.0]), requires_grad=True) for _ in range(2))
    c = Tensor(np.array([3.0]))
    y = tk.checkpoint(lambda x, c: x * w * w * c, x, c)
    with tk.no_grad():
        {"parameter": w, "argument": x, "constant": c}[written].fill_(5.0)
    with pytest.raises(RuntimeError, match=r"fill_ at .*test_traps_graph"):
        y.sum().backward()
    assert w.grad is None and x.grad is None


@pytest.mark.parametrize("f", [tk.concatenate, tk.stack])
def test_wide_joins_take_linear_time(f: Any) -> None:
    leaves = [Tensor(np.ones(1), requires_grad=True) for _ in range(20_000)]
    y = f(leaves).sum()
    started = time.process_time()
    y.backward()
    assert time.process_time() - started < 1.5
    assert all(x.grad is not None and x.grad.shape == (1,) for x in leaves)


def _stepped(p: Tensor) -> None:
    p.grad = Tensor(np.ones(2))
    tk.optim.SGD([p], lr=1.0).step()


@pytest.mark.parametrize("write", [_stepped, lambda p: p.detach().fill_(0.0)])
def test_a_plain_array_that_a_write_of_ours_reached(write: Any) -> None:
    """`w * p.data` reads the parameter's own array."""
    w, p = (Tensor(np.ones(2), requires_grad=True) for _ in range(2))
    y = (w * p.data[::-1]).sum()
    write(p)
    with pytest.raises(MutationError, match="input 1"):
        y.backward()


def test_a_joint_rule_may_give_two_inputs_one_array() -> None:
    def both(g: Any, y: Any, a: Any, b: Any, needs: Any) -> Any:
        return [h := g * 2, h]

    add2 = op(lambda a, b: 2 * (a + b), both, name="add2", one_rule_for_all=True)
    a, b = (Tensor(np.ones(2), requires_grad=True) for _ in range(2))
    add2(a, b).sum().backward()
    assert a.grad is not None and b.grad is not None
    assert not np.shares_memory(a.grad.data, b.grad.data)


def test_a_rule_may_give_a_tensor_in_a_plain_backward() -> None:
    twice = op(lambda a: 2 * a, lambda g, y, a: Tensor(np.full(2, 2.0)), name="twice")
    x = Tensor(np.ones(2), requires_grad=True)
    twice(x).sum().backward()
    assert x.grad is not None and type(x.grad.data) is ndarray
    np.testing.assert_array_equal(x.grad.data, [2, 2])


def test_memory_returns_after_an_error_in_backward() -> None:
    gc.collect()
    gc.disable()
    try:
        for kind in ("overwritten", "rule"):
            x = Tensor(np.ones(2), requires_grad=True)
            w = Tensor(np.ones(2), requires_grad=True)
            fails = op(lambda a: 2 * a, lambda g, y, a: 1 / 0, name="fails")
            y = x * w if kind == "overwritten" else fails(x * w)
            watched = weakref.ref(y)
            with tk.no_grad():
                w += 1
            with contextlib.suppress(MutationError, ZeroDivisionError):
                y.sum().backward()
            del y, x, w, fails
            assert watched() is None, kind
    finally:
        gc.enable()
