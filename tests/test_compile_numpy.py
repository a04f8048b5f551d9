"""Compiled functions without a compiler: what NumPy calls on buffers could get wrong, and the one
warning. `test_compile_ops` and `test_compile_layers` compare every op and layer."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from training import training_step

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, compile, nn, optim
from tinygrad_kr.compile import NoCompilerWarning, function
from tinygrad_kr.compile.run.numpy_runner import NumPyRunner, OptimizerStep

Step = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function, "find_compiler", lambda: None)


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
        things += [p._data.copy(), None if p.grad is None else p.grad.numpy().copy()]
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
    twins = []
    for compiled in (False, True):
        net, optimizer = net_and_optimizer(**options)
        step = make(net, optimizer)
        twins.append((net, optimizer, compile(step) if compiled else step))
    for i in range(7):
        found = []
        for net, optimizer, step in twins:
            if between is not None:
                between(optimizer, i)
            result = step(X, Y)
            found.append([result._data.copy(), *left(net, optimizer)])
        same(*found)
    step = twins[1][2]
    assert step.explain() == "every call is compiled"
    assert any(type(entry.runner) is NumPyRunner for entry in step._entries())
    return step


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


def test_gradients_that_add_up() -> None:
    def make(net: Any, optimizer: Any) -> Step:
        def step(x: Any, y: Any) -> Any:
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
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
        assert not any(isinstance(e, OptimizerStep) for e in step.programs[0].effects)
    step = compared(two)
    assert sum(isinstance(e, OptimizerStep) for e in step.programs[0].effects) == 2


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


def test_what_a_call_returns_and_leaves_is_not_overwritten_by_the_next() -> None:
    net, optimizer = net_and_optimizer()
    step = compile(training_step(net, optimizer))
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(7):
        loss = step(X, Y)
        kept += [(array, array.copy()) for array in (loss.numpy(), *arrays_of(net))]
    for array, then in kept:
        np.testing.assert_array_equal(array, then)
    for i, (array, _) in enumerate(kept):
        assert not any(np.may_share_memory(array, other) for other, _ in kept[i + 1 :])


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


def test_a_buffer_is_used_again_only_when_no_view_of_it_is_read_any_more() -> None:
    @compile
    def f(x: Any) -> Any:
        first = x * 2
        turned, flat = first.T, (x - 3).reshape(16)
        for i in range(5):
            x = (x + i) * x
            x = x / (1 + x * x)
        return turned @ x + flat[5], F.relu(first[::-1] - x), flat.reshape(4, 4).T[1:]

    x = Tensor(draw(4, 4))
    for _ in range(4):
        found = f(x)
    assert f.programs
    same([a.numpy() for a in found], [b.numpy() for b in f.function(x)])


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


def test_a_copied_tensor_that_is_another_array_now_is_seen() -> None:
    w, shadow = Tensor(draw(3)), Tensor(draw(3))

    @compile
    def step(x: Any) -> Any:
        with tk.no_grad():
            shadow.copy_(w)
        return x + w

    x = Tensor(draw(3))
    for i in range(6):
        if i > 3:
            w.data = draw(3) * i
        np.testing.assert_allclose(step(x).numpy(), (x + w).numpy(), 1e-12)
        same([shadow.numpy()], [w.numpy()])
    assert step.programs


def test_the_same_array_twice_and_a_parameter_as_argument() -> None:
    w = Tensor(draw(3, 3))

    @compile
    def step(x: Any, y: Any) -> Any:
        made = x @ y + w
        with tk.no_grad():
            w.copy_(w - x)
        return made + w

    other = Tensor(draw(3, 3) + 1)
    for given in ((other, other),) * 4 + ((other, w), (w, w)) * 2:
        before = w.numpy().copy()
        x, y = (before if t is w else t.numpy() for t in given)
        found = step(*given).numpy()
        np.testing.assert_allclose(found, x @ y + before + (before - x), 1e-12)
        np.testing.assert_allclose(w.numpy(), before - x, 1e-12)
        with tk.no_grad():
            w.copy_(Tensor(draw(3, 3)))
        assert step.explain() == "every call is compiled"
    assert step.programs


def test_arguments_of_every_layout() -> None:
    @compile
    def f(x: Any) -> Any:
        hidden = (x.T @ x).reshape(4, 4, 1).transpose(2, 0, 1).reshape(2, 8)
        return (hidden[:, ::-1] * 2).sum(0) + x.reshape(-1)[:8]

    base = draw(6, 8)
    for x in (base[:, :4], base[:, ::2], base[::-1, :4], draw(4, 6).T, draw(6, 4)) * 2:
        np.testing.assert_allclose(f(Tensor(x)).numpy(), f.function(Tensor(x)).numpy(), 1e-12)
    assert f.programs


def test_parameters_that_are_other_arrays_now() -> None:
    net, optimizer = net_and_optimizer(optim.SGD)
    eager_net, eager_optimizer = net_and_optimizer(optim.SGD)
    step, eager = compile(training_step(net, optimizer)), training_step(eager_net, eager_optimizer)
    for i in range(9):
        for each in (net, eager_net):
            if i == 4:
                each[0].weight.data = np.asfortranarray(draw(5, 3))
            if i == 6:
                each.load_state_dict({k: v * 2 for k, v in each.state_dict().items()})
        same([step(X, Y)._data], [eager(X, Y)._data])
        same(left(net, optimizer), left(eager_net, eager_optimizer))
    assert step.programs


# ------------------------------------------------------------------ what fails leaves all as it was


def test_an_error_leaves_state_as_before_the_call() -> None:
    net, optimizer = net_and_optimizer()
    step = compile(training_step(net, optimizer))
    for _ in range(4):
        step(X, Y)
    before = left(net, optimizer)
    with pytest.raises(IndexError, match=r"label: expected one in \[0, 2\), got 2"):
        step(X, Tensor(np.array([0, 1, 2, 0, 0, 0])))
    same(left(net, optimizer), before)
    assert step.programs


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


def test_a_read_only_parameter_is_refused() -> None:
    net, optimizer = net_and_optimizer()
    step = compile(training_step(net, optimizer))
    for _ in range(4):
        step(X, Y)
    before = left(net, optimizer)
    net[2].bias._data.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        step(X, Y)
    same(left(net, optimizer), before)


def test_a_frozen_read_only_parameter_does_not_matter() -> None:
    net, optimizer = net_and_optimizer()
    net[2].bias.requires_grad_(False)
    net[2].bias._data.flags.writeable = False
    step = compile(training_step(net, optimizer))
    for _ in range(4):
        step(X, Y)
    (runner,) = (entry.runner for entry in step._entries())
    step(X, Y)
    assert [entry.runner for entry in step._entries()] == [runner]
    assert runner is not None


# ------------------------------------------------------------------ numbers


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinities_and_nans_come_out_as_in_eager_mode(dtype: Any) -> None:
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 800.0, -800.0, 1e-30], dtype)
    a, b = (Tensor(x.ravel()) for x in np.meshgrid(special, special))

    def every(a: Any, b: Any) -> Any:
        return (
            F.sigmoid(a), F.relu(a), a + b, a * b, a / b, a**2, a**0.5, a**-1, a**1.5,
            F.binary_cross_entropy_with_logits(a, b, reduction="none"), tk.where(a > b, a, b),
            tk.maximum(a, b), a.reshape(10, 10).sum(0), a.sum(), a.reshape(10, 10).max(1),
            F.softmax(a.reshape(10, 10), 1), a == b, tk.logical_not(a), 1 - a, a - 1e300 / 3,
            F.linear(a.reshape(10, 10), b.reshape(10, 10)), (a > 0) * b, a.mean(),
        )  # fmt: skip

    def slopes(a: Any, b: Any) -> Any:
        def total(a: Any, b: Any) -> Any:
            relus = F.relu(a) * b
            loss = F.binary_cross_entropy_with_logits(a, b, reduction="none")
            return (relus + loss + tk.maximum(a, b) + F.sigmoid(b)).sum()

        return tk.grad(total, (0, 1))(a, b)

    for f in (every, slopes):
        compiled = compile(f)
        with np.errstate(all="ignore"):
            expected = f(a, b)
            for _ in range(4):
                found = compiled(a, b)
        assert compiled.programs, compiled.explain()
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert one.dtype == other.dtype
            rounding = 1e-12 if dtype is np.float64 else 1e-5
            np.testing.assert_allclose(one.numpy(), other.numpy(), rounding, err_msg=str(i))


@pytest.mark.parametrize("window", [
    {}, {"padding": 1}, {"padding": (0, 2)}, {"padding": 3}, {"stride": 2, "padding": 1},
    {"dilation": 2}, {"groups": 2, "padding": 1},
])  # fmt: skip
def test_convolutions_and_their_gradients(window: Any) -> None:
    x, w = Tensor(draw(3, 4, 7, 8)), Tensor(draw(6, 4 // window.get("groups", 1), 2, 3))

    def f(x: Any, w: Any) -> Any:
        return tk.grad(lambda x, w: F.conv2d(x, w, **window).sin().sum(), (0, 1))(x, w)

    compiled = compile(f)
    for _ in range(4):
        found = compiled(x, w)
    assert compiled.programs
    same([t.numpy() for t in found], [t.numpy() for t in f(x, w)])


@pytest.mark.parametrize("stride", [2, 1])
def test_relus_and_maxima_of_windows(stride: int) -> None:
    """The gradient goes through the relu first; ties, zeros, infinities and NaNs as before."""
    pixels = np.random.default_rng(0).integers(-2, 3, (3, 2, 6, 6)).astype(float)
    pixels[0, 0, 1, 2], pixels[1, 1, 3, 3], pixels[2, 0, 0, 0] = np.nan, np.inf, -0.0
    x = Tensor(pixels)

    def f(x: Any) -> Any:
        def total(x: Any) -> Any:
            maxima = F.max_pool2d(F.relu(x), 2, stride)
            return (maxima * maxima.exp().clip(0, 3)).sum()

        return tk.grad(total)(x)

    compiled = compile(f)
    with np.errstate(all="ignore"):
        for _ in range(4):
            found = compiled(x).numpy()
        expected = f(x).numpy()
    assert compiled.programs and np.isnan(expected).any()
    np.testing.assert_allclose(found, expected, 1e-12)


def test_maxima_of_what_a_relu_was_added_to() -> None:
    """Where the relu gave 0, the maximum did not."""
    x = Tensor(draw(3, 2, 6, 6))

    def f(x: Any) -> Any:
        return tk.grad(lambda x: F.max_pool2d(F.relu(x - 1) + 1, 2).sum())(x)

    compiled = compile(f)
    for _ in range(4):
        found = compiled(x).numpy()
    assert compiled.programs
    np.testing.assert_array_equal(found, f(x).numpy())


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


def test_no_warning_of_overflow() -> None:
    compiled = compile(lambda x: F.sigmoid(x * 1e300).exp() / (x - x))
    for _ in range(2):
        with np.errstate(all="ignore"):
            compiled(X)
    compiled(X)
    assert compiled.programs


def test_arrays_in_and_out() -> None:
    def f(x: Any) -> Any:
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    x = draw(30)
    slope, value = compile(tk.grad(f)), compile(f)
    for _ in range(4):
        found, number = slope(x), value(x)
    assert slope.programs and value.programs
    assert type(found) is np.ndarray and type(number) is np.float64
    np.testing.assert_allclose(found, tk.grad(f)(x), 1e-12)


def test_sums_along_every_axis() -> None:
    def f(x: Any, y: Any) -> Any:
        big = x * y
        return (
            big.sum((0, 2, 3)), big.sum((1, 2)), big.sum(), big.sum(0),
            big.sum((2, 3), keepdims=True), big.transpose(0, 2, 3, 1).sum((0, 1, 2)),
            big.mean((0, 3)), big[0].sum((0, 1, 2)),
            big[0, 0].sum(0, keepdims=True), big[0, 0].sum(-1), big[0, 0].max(0), big.min(),
        )  # fmt: skip

    x, y = Tensor(draw(5, 4, 16, 15)), Tensor(draw(4, 1, 15))
    compiled = compile(f)
    for _ in range(4):
        found = compiled(x, y)
    assert compiled.programs
    same([a.numpy() for a in found], [b.numpy() for b in f(x, y)])


# ------------------------------------------------------------------ threads


def test_two_threads_call_two_steps_and_one_function() -> None:
    shared = compile(lambda x: F.softmax(x @ x.T, 1) * 3 - x.sum())
    steps = []
    for _ in range(2):
        net, optimizer = net_and_optimizer()
        steps.append((compile(training_step(net, optimizer)), net, optimizer))
    found: list[Any] = [[], []]
    inputs = [Tensor(draw(6, 6) * (i + 1)) for i in range(2)]
    for x in inputs:
        for _ in range(3):
            shared(x)

    def work(i: int) -> None:
        for _ in range(200):
            steps[i][0](X, Y)
            found[i].append(shared(inputs[i]).numpy())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(left(*steps[0][1:]), left(*steps[1][1:]))
    for i, x in enumerate(inputs):
        expected = shared.function(x).numpy()
        assert len(found[i]) == 200
        for array in found[i]:
            np.testing.assert_allclose(array, expected, 1e-12)


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
