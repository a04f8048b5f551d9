"""Compiled functions without a compiler: the optimizer's step, memory, dtypes, the one warning.

`test_compile_ops`, `_layers`, `_guards` and `_traps` compare both backends with eager mode.
"""

from __future__ import annotations

import copy
import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import together, twins, without_compiler
from training import training_step

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, compile, nn, optim
from tinygrad_kr.compile import NoCompilerWarning, function
from tinygrad_kr.compile.run.numpy_runner import NumPyRunner, OptimizerStep

Step = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    without_compiler(monkeypatch)


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def net_and_optimizer(kind: Any = optim.Adam, **options: Any) -> tuple[Any, Any]:
    tk.manual_seed(1)
    net = nn.Sequential(
        nn.Linear(3, 5, dtype=np.float64), nn.ReLU(), nn.Linear(5, 2, dtype=np.float64)
    )
    return net, kind(net.parameters(), **{"lr": 0.05, **options})


X, Y = Tensor(draw(6, 3)), Tensor(np.arange(6) % 2)


def left(net: Any, optimizer: Any) -> list[Any]:
    """What a step leaves: parameters, gradients, the optimizer's state."""
    things: list[Any] = []
    for p in net.parameters():
        things += [p.data.copy(), None if p.grad is None else p.grad.numpy().copy()]
        state = optimizer.state.get(p, {})
        things += [np.array(state[name]) for name in sorted(state)]
    return things


def same(a: Any, b: Any) -> None:
    for one, other in zip(a, b, strict=True):
        if one is None or other is None:
            assert one is other
        else:
            np.testing.assert_allclose(one, other, 1e-12, 1e-12)


def compared(make: Callable[[Any, Any], Step], between: Any = None, **options: Any) -> Any:
    """A step, eager and compiled, on two nets alike; `between(optimizer, i)` before each call."""
    a, b = twins(lambda made: make(made.net, made.optimizer), lambda: net_and_optimizer(**options))
    before = between or (lambda optimizer, i: None)
    together(a, b, [(X, Y)] * 7, lambda learner, i: before(learner.optimizer, i))
    assert b.step.explain() == "every call is compiled"
    assert any(type(entry.runner) is NumPyRunner for entry in b.step._specialisations())
    return b.step


# ------------------------------------------------------------------ the warning


def test_that_there_is_no_compiler_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function, "_said", False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            doubled = compile(lambda x: x * 2)
            for _ in range(4):
                doubled(X)
    (one,) = caught
    assert one.category is NoCompilerWarning
    assert 'pip install "tinygrad_kr[compile]"' in str(one.message) and "$CC" in str(one.message)
    assert one.filename == __file__
    assert 'pip install "tinygrad_kr[compile]"' in str(doubled)


def test_a_warning_that_is_an_error_leaves_state_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function, "_said", False)
    net, optimizer = net_and_optimizer()
    step = compile(training_step(net, optimizer))
    step(X, Y)
    before = left(net, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NoCompilerWarning, match="no C compiler"):
            step(X, Y)
        same(left(net, optimizer), before)
        step(X, Y)


def test_nothing_is_said_where_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function, "_said", False)
    sorts = compile(lambda x: Tensor(np.sort(x.data)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(4):
            sorts(X)


# ------------------------------------------------------------------ optimizers


def test_the_optimizer_makes_its_own_step() -> None:
    step = compared(training_step)
    assert "sqrt" not in step.source
    assert "net_0_weight" in step.source and "grad_of_net_2_bias" in step.source


def test_options_and_state_are_live() -> None:
    def between(optimizer: Any, i: int) -> None:
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + i)
        optimizer.param_groups[0]["weight_decay"] = 0.1 * (i > 3)
        if i == 5:
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    compared(training_step, between)
    compared(training_step, between, kind=optim.SGD, momentum=0.9)


def test_gradients_that_are_forgotten_after_the_step() -> None:
    def make(net: Any, optimizer: Any) -> Step:
        def step(x: Any, y: Any) -> Any:
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        return step

    compared(make)


def test_a_parameter_without_a_gradient_is_left_alone() -> None:
    def make(net: Any, optimizer: Any) -> Step:
        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = F.cross_entropy(F.linear(x, net[0].weight)[:, :2], y)
            loss.backward()
            optimizer.step()
            return loss

        return step

    def between(optimizer: Any, i: int) -> None:
        parameter = optimizer.param_groups[0]["params"][3]
        parameter.grad = Tensor(np.ones(parameter.shape))

    compared(make, between)


def test_what_reads_or_changes_the_new_parameters() -> None:
    def reads(net: Any, optimizer: Any) -> Step:
        plain = training_step(net, optimizer)

        def step(x: Any, y: Any) -> Any:
            plain(x, y)
            with tk.no_grad():
                return F.cross_entropy(net(x), y)

        return step

    def clips(net: Any, optimizer: Any) -> Step:
        plain = training_step(net, optimizer)

        def step(x: Any, y: Any) -> Any:
            loss = plain(x, y)
            with tk.no_grad():
                net[0].weight.copy_(net[0].weight.clip(-0.1, 0.1))
            return loss

        return step

    def twice(net: Any, optimizer: Any) -> Step:
        plain = training_step(net, optimizer)

        def step(x: Any, y: Any) -> Any:
            plain(x, y)
            return plain(x, y)

        return step

    def two(net: Any, optimizer: Any) -> Step:
        first = optim.SGD(net[0].parameters(), lr=0.1, momentum=0.5)
        second = optim.SGD(net[2].parameters(), lr=0.2)

        def step(x: Any, y: Any) -> Any:
            net.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            first.step()
            second.step()
            return loss

        return step

    def decays(net: Any, optimizer: Any) -> Step:
        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            with tk.no_grad():
                net[0].weight.copy_(net[0].weight * 0.9)
            optimizer.step()
            return loss

        return step

    for make in (reads, clips, twice, decays):
        step = compared(make)
        assert not any(isinstance(e, OptimizerStep) for e in step.programs[0].outputs)
    step = compared(two)
    assert sum(isinstance(e, OptimizerStep) for e in step.programs[0].outputs) == 2


def test_what_was_read_before_the_step_is_as_it_was_then() -> None:
    def make(net: Any, optimizer: Any) -> Step:
        shadow, turned = Tensor(draw(5, 3)), Tensor(draw(3, 5))
        plain = training_step(net, optimizer)

        def step(x: Any, y: Any) -> Any:
            last = shadow.sum() + turned[0, 1]
            with tk.no_grad():
                shadow.copy_(net[0].weight)
                turned.copy_(net[0].weight.T)
            plain(x, y)
            return last

        return step

    compared(make)


def test_a_step_by_hand_is_written_into_the_parameters() -> None:
    def make(net: Any, optimizer: Any) -> Step:
        def step(x: Any, y: Any) -> Any:
            net.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            with tk.no_grad():
                a, b = net[0].weight, net[2].bias
                a -= 0.1 * a.grad
                b.copy_(a.grad[:2, 0] + b)
            return loss

        return step

    compared(make)


def test_two_parameters_may_change_places() -> None:
    a, b = Tensor(draw(3)), Tensor(draw(3) + 5)

    @compile
    def swap() -> Any:
        old = a + 0
        a.copy_(b)
        b.copy_(old)
        return old

    for _ in range(3):
        swap()
    first, second = a.numpy().copy(), b.numpy().copy()
    assert swap.programs
    swap()
    same([a.numpy(), b.numpy()], [second, first])


# ------------------------------------------------------------------ memory


def arrays_of(net: Any) -> list[np.ndarray]:
    return [p.grad.numpy() for p in net.parameters()]


def test_results_share_no_memory() -> None:
    w = Tensor(draw(3, 3))

    @compile
    def several(x: Any) -> Any:
        y = x * 2
        moved = y.T
        turned = (x * 3).T
        return (
            y, moved, y[1:], x.reshape(9), w.T, y.sum(0), y + 0, moved.reshape(9), x + y,
            turned, turned[0], turned * 2, w.reshape(9)[2:],
        )  # fmt: skip

    x = Tensor(draw(3, 3))
    results = [several(x) for _ in range(5)]
    assert several.programs
    arrays = [result.numpy() for call in results[2:] for result in call]
    expected = several.function(x)
    for call in results:
        same([r.numpy() for r in call], [r.numpy() for r in expected])
    for i, array in enumerate(arrays):
        others = [*arrays[i + 1 :], x.numpy(), w.numpy()]
        assert not any(np.may_share_memory(array, other) for other in others)


def test_two_gradients_that_are_the_same_value_are_two_arrays() -> None:
    a, b = (Tensor(draw(4), requires_grad=True) for _ in range(2))

    @compile
    def step(x: Any) -> Any:
        a.grad = b.grad = None
        scaled = x * factor
        loss = ((a + b) * scaled).sum()
        loss.backward()
        return scaled, a.grad

    x = Tensor(draw(4) + 3)
    for factor in (1, 2):
        for _ in range(4):
            results = step(x)
        assert step.programs
        arrays = [t.numpy() for t in (a.grad, b.grad, *results)]
        same(arrays, [x.numpy() * factor] * 4)
        for i, array in enumerate(arrays):
            others = [*arrays[i + 1 :], x.numpy()]
            assert not any(np.may_share_memory(array, other) for other in others)


def test_older_graphs_notice_what_a_call_overwrites() -> None:
    w = Tensor(draw(3), requires_grad=True)

    @compile
    def step() -> None:
        with tk.no_grad():
            w.copy_(w * 2)

    for _ in range(3):
        step()
    assert step.programs
    older = (w * w).sum()
    step()
    with pytest.raises(RuntimeError, match="a compiled step"):
        older.backward()


def test_an_array_is_freed_after_its_last_use() -> None:
    def f(x: Any) -> Any:
        for i in range(20):
            x = (x + i) * 0.5
        return x

    compiled, x = compile(f), Tensor(np.ones(100_000))
    for _ in range(4):
        compiled(x)
    tracemalloc.start()
    try:
        compiled(x)
        assert tracemalloc.get_traced_memory()[1] < 3 * x.data.nbytes
    finally:
        tracemalloc.stop()
    assert compiled.programs


# ------------------------------------------------------------------ what fails leaves all as it was


def test_labels_are_checked_where_nothing_else_is_left_to_compute() -> None:
    checked = compile(lambda y: (F.cross_entropy(X[:, :2], y), None)[1])
    for _ in range(4):
        assert checked(Y) is None
    assert checked.programs[0].instructions == []
    with pytest.raises(IndexError, match=r"label: expected one in \[0, 2\), got 2"):
        checked(Tensor(np.array([0, 1, 2, 0, 0, 0])))


def test_an_error_in_the_optimizer_leaves_gradients_as_before_the_call() -> None:
    net, optimizer = net_and_optimizer()
    step = compile(training_step(net, optimizer))
    for _ in range(4):
        step(X, Y)
    before, gradients = left(net, optimizer), arrays_of(net)
    optimizer.param_groups[0]["eps"] = "a tenth"
    with pytest.raises(TypeError, match="eps"):
        step(X * 2, Y)
    assert all(a is b for a, b in zip(arrays_of(net), gradients, strict=True))
    optimizer.param_groups[0]["eps"] = 1e-8
    same(left(net, optimizer), before)


def test_of_two_tensors_neither_is_written_if_one_is_read_only() -> None:
    a, b = Tensor(draw(3)), Tensor(draw(3))

    @compile
    def step() -> None:
        with tk.no_grad():
            a.copy_(a * 2)
            b.copy_(b * 2)

    for _ in range(4):
        step()
    assert step.programs
    before = a.numpy().copy()
    b.data.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        step()
    same([a.numpy()], [before])


def test_a_frozen_read_only_parameter_does_not_matter() -> None:
    net, optimizer = net_and_optimizer()
    net[2].bias.requires_grad_(False)
    net[2].bias.data.flags.writeable = False
    step = compile(training_step(net, optimizer))
    for _ in range(4):
        step(X, Y)
    (runner,) = (entry.runner for entry in step._specialisations())
    step(X, Y)
    assert [entry.runner for entry in step._specialisations()] == [runner]
    assert runner is not None


# ------------------------------------------------------------------ numbers


def test_numbers_without_axes() -> None:
    def f(x: Any) -> Any:
        def total(x: Any) -> Any:
            return F.relu(x) * x + F.sigmoid(x).sum() + tk.where(x > 0, x, x**3)

        return tk.value_and_grad(total)(x)

    compiled = compile(f)
    for number in (1.5, -1.5, 0.0, 2.0, np.nan):
        x = Tensor(np.float64(number))
        same([t.numpy() for t in compiled(x)], [t.numpy() for t in f(x)])
    assert compiled.programs


def test_a_number_is_returned_where_arrays_were_given() -> None:
    value = compile(lambda x: (x * x).sum())
    for _ in range(4):
        found = value(draw(5))
    assert value.programs
    assert type(found) is np.float64


def test_no_warning_of_overflow() -> None:
    compiled = compile(lambda x: F.sigmoid(x * 1e300).exp() / (x - x))
    for _ in range(2):
        with np.errstate(all="ignore"):
            compiled(X)
    compiled(X)
    assert compiled.programs


def test_dtypes_are_those_of_eager_mode() -> None:
    """Also where `forward` alone gives another dtype."""
    widened = tk.op(lambda x: x.astype(np.float64) / 3, lambda g, y, x: g, name="widened")

    def f(x: Any, n: Any) -> Any:
        positive = x > 0
        return (
            *(widened(x), n * 0.1, n / 3, n + x, positive * x, positive.sum(), n.mean(), x.sum()),
            *(tk.exp(positive), x.sum() * 2, np.float64(2) * x, x + np.array(0.1)),
        )

    x, n = Tensor(draw(4).astype(np.float32)), Tensor(np.arange(4))
    compiled = compile(f)
    for _ in range(4):
        found = compiled(x, n)
    assert compiled.programs
    for one, other in zip(found, f(x, n), strict=True):
        assert type(one.data) is np.ndarray
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_tensor_of_another_shape_or_dtype_is_recorded_anew() -> None:
    """What is recorded depends on both: here a sum over the axis that `w` was broadcast along."""
    w, x = Tensor(draw(3), requires_grad=True), Tensor(draw(4, 3).astype(np.float32))

    def f(x: Any) -> Any:
        w.grad = None
        (x * w).square().sum().backward()
        return w.grad

    compiled = compile(f)
    for data in (draw(3), draw(4, 3), draw(4, 3).astype(np.float32), draw(3)):
        w.data = data
        for _ in range(4):
            found, expected = compiled(x), f(x)
            assert found.dtype == expected.dtype
            unit = np.finfo(found.dtype).eps  # eager mode sums over rows by a product
            np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=64 * unit)
        assert compiled.programs


def test_a_step_is_bit_for_bit_that_of_eager_mode() -> None:
    found = []
    for wrap in (compile, lambda step: step):
        net, optimizer = net_and_optimizer()
        step = wrap(training_step(net, optimizer))
        losses = [step(X, Y).data.copy() for _ in range(7)]
        found.append([*losses, *left(net, optimizer)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


# ------------------------------------------------------------------ groups


def test_a_group_that_is_added_later() -> None:
    """Its gradients are set to 0 as well from then on."""

    def run(compiled: bool) -> Any:
        a, b = (Tensor(np.ones(3), requires_grad=True) for _ in range(2))
        optimizer = optim.SGD([a], 0.1)

        def plain() -> Tensor:
            optimizer.zero_grad()
            loss = (a * b).square().sum()
            loss.backward()
            optimizer.step()
            return loss

        step = tk.compile(plain) if compiled else plain
        for i in range(8):
            if i == 4:
                optimizer.add_param_group({"params": [b], "lr": 0.01})
            step()
        return a.data, b.data

    np.testing.assert_allclose(run(compiled=True), run(compiled=False))
