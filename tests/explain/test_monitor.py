"""`tk.Monitor`: what it measures, what it warns of and where, and that it changes nothing."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, no_grad, optim
from tinygrad_kr.autodiff import before_backward
from tinygrad_kr.explain.monitoring import monitor as monitor_module
from tinygrad_kr.explain.monitoring.frames import MOST_POINTS, Curve, picture_of
from tinygrad_kr.explain.monitoring.monitor import MOST_SAMPLES

POINTS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
ANSWERS = np.array([[0], [1], [1], [0]], np.float32)


@pytest.fixture(autouse=True)
def _nothing_stays_attached() -> Iterator[None]:
    yield
    assert not before_backward


def deep(activation: Callable[[], nn.Module], depth: int, width: int, init: Any) -> nn.Sequential:
    """2 inputs, hidden layers, one logit; biases 0."""
    layers: list[nn.Module] = []
    inputs = 2
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), activation()]
        inputs = width
    net = nn.Sequential(*layers, nn.Linear(inputs, 1))
    for parameter in net.parameters():
        (init if parameter.ndim > 1 else nn.init.zeros_)(parameter)
    return net


def lecture_start(weight: Tensor) -> Tensor:
    return nn.init.uniform_(weight, -1, 1)


def train(
    net: nn.Module,
    *,
    steps: int = 30,
    lr: float = 0.1,
    x: np.ndarray = POINTS,
    y: np.ndarray = ANSWERS,
    clear: bool = True,
    **options: Any,
) -> tk.Monitor:
    """XOR by SGD in a `with` block; warnings are only recorded."""
    optimizer = optim.SGD(net.parameters(), lr=lr)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tk.MonitorWarning)
        with tk.Monitor(net, optimizer, every=5, **options) as monitor:
            for _ in range(steps):
                loss = F.binary_cross_entropy_with_logits(net(Tensor(x)), Tensor(y))
                if clear:
                    optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return monitor


def kinds(monitor: tk.Monitor) -> set[str]:
    return {told["kind"] for told in monitor.warnings}


# ------------------------------------------------------------------ nothing changes


class Plane(nn.Module):
    """Inputs of two numbers, functional activations, dropout, batch norm and a counter."""

    def __init__(self) -> None:
        self.first, self.second = nn.Linear(2, 16), nn.Linear(16, 1)
        self.norm, self.dropout = nn.BatchNorm1d(16), nn.Dropout(0.3)
        self.register_buffer("seen", tk.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.dropout(F.relu(self.norm(self.first(x)))))


def outcome(way: str) -> tuple[Any, ...]:
    """All that a training of 25 steps leaves behind; `way`: how a Monitor watches."""
    tk.manual_seed(3)
    net = Plane()
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    schedule = optim.lr_scheduler.StepLR(optimizer, 4, 0.5)
    x = np.random.default_rng(0).standard_normal((32, 2)).astype(np.float32)
    y = (x[:, :1] * x[:, 1:] > 0).astype(np.float32)
    losses = []

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = F.binary_cross_entropy_with_logits(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    def with_a_line(x: Tensor, y: Tensor) -> Tensor:
        loss = F.binary_cross_entropy_with_logits(net(x), y)
        monitor.step(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    run: Any = tk.compile(step) if "compiled" in way else step
    run = with_a_line if way == "called" else run
    monitor = tk.Monitor(net, optimizer, every=3)
    if "watched" in way:
        run = monitor.watch(run)
    if way == "block":
        monitor.__enter__()
    for i in range(25):
        rows = slice(0, 32) if i % 5 else slice(0, 20)
        losses.append(run(Tensor(x[rows]), Tensor(y[rows])).item())
        if i % 5 == 4:
            schedule.step()
    monitor.close()
    if way not in ("none", "compiled"):
        assert 7 <= len(monitor.history["step"]) <= 9, "it did look"
        assert monitor.frames.frames[-1].plane is not None
    if way == "compiled watched":
        assert run.explain() == "every call is compiled"
        assert run.last_runner is not None
    state = {**net.state_dict(), "x": x, "y": y}
    arrays = [state[name].tobytes() for name in sorted(state)]
    steps = optimizer.state_dict()
    moments = [value.tobytes() for _, entries in sorted(steps["state"].items()) for value in
               map(np.asarray, entries.values())]  # fmt: skip
    kept = [sorted(vars(module)) for module in net.modules()] + [sorted(vars(optimizer))]
    modes = [module.training for module in net.modules()]
    gradients = [p.grad.data.tobytes() for p in net.parameters() if p.grad is not None]
    bits = tk.default_generator().bit_generator.state
    rates = [group["lr"] for group in optimizer.param_groups]
    return losses, arrays, moments, kept, modes, gradients, bits, rates


@pytest.mark.parametrize("way", ["block", "called", "watched"])
def test_a_training_is_bitwise_the_same_with_a_monitor(way: str) -> None:
    assert outcome(way) == outcome("none")


def test_a_compiled_training_is_bitwise_the_same_and_stays_compiled() -> None:
    assert outcome("compiled watched") == outcome("compiled")


def test_gradients_that_add_up_are_bitwise_the_same() -> None:
    """A compiled step that clears none reads the gradient of the step before."""

    def weights(watch: bool) -> list[bytes]:
        tk.manual_seed(0)
        net = deep(nn.Tanh, 1, 4, nn.init.xavier_uniform_)
        optimizer = optim.SGD(net.parameters(), lr=0.01)

        @tk.compile
        def step(x: Tensor) -> Tensor:
            loss = net(x).pow(2).mean()
            loss.backward()
            optimizer.step()
            return loss.detach()

        run: Any = tk.Monitor(net, optimizer, every=2).watch(step) if watch else step
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", tk.MonitorWarning)
            for _ in range(12):
                run(Tensor(POINTS))
        gradients = [p.grad.data.tobytes() for p in net.parameters() if p.grad is not None]
        return gradients + [p.data.tobytes() for p in net.parameters()]

    assert weights(True) == weights(False)


def test_an_error_in_the_step_leaves_nothing_attached() -> None:
    net = deep(nn.Tanh, 1, 4, nn.init.xavier_uniform_)
    optimizer = optim.SGD(net.parameters(), lr=0.1)

    def step(x: Tensor) -> None:
        net(x).sum().backward()
        raise KeyboardInterrupt

    step_watched = tk.Monitor(net, optimizer, every=1).watch(step)
    with pytest.raises(KeyboardInterrupt):
        step_watched(Tensor(POINTS))
    assert "step" not in vars(optimizer) and "_hooks" not in vars(net)


def test_a_warning_may_be_an_error_and_training_goes_on() -> None:
    net = deep(nn.Sigmoid, 10, 5, lecture_start)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    with tk.Monitor(net, optimizer, every=1):
        loss = net(Tensor(POINTS)).mean()
        loss.backward()
        with pytest.raises(tk.MonitorWarning, match="vanishing"):
            optimizer.step()
        optimizer.zero_grad()
        net(Tensor(POINTS)).mean().backward()
        optimizer.step()


def test_a_monitor_that_is_dropped_observes_no_more() -> None:
    net = nn.Linear(2, 1)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    monitor = tk.Monitor(net, optimizer)
    monitor.step(net(Tensor(POINTS)).sum())
    assert len(before_backward) == 1
    del monitor
    gc.collect()
    net(Tensor(POINTS)).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_of_a_watched_optimizer_steps_itself(copied: Callable[[Any], Any]) -> None:
    net = nn.Linear(2, 1)
    optimizer = optim.SGD(net.parameters(), lr=0.5)
    monitor = tk.Monitor(net, optimizer)
    monitor.step()
    other = copied(optimizer)
    theirs = next(other._parameters())
    theirs.grad, before = tk.ones(theirs.shape), theirs.data.copy()
    mine = net.weight.data.copy()
    other.step()
    monitor.close()
    assert monitor.steps == 0
    assert (net.weight.data == mine).all()
    assert np.allclose(theirs.data, before - 0.5)


def test_two_monitors_and_a_wrapper_of_the_users_are_taken_off_in_any_order() -> None:
    net = nn.Linear(2, 1)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    calls = []
    one, two = tk.Monitor(net, optimizer), tk.Monitor(net, optimizer)
    one.step()
    two.step()
    plain, optimizer.step = optimizer.step, lambda: (calls.append(1), plain())[1]  # type: ignore[method-assign, assignment]
    one.close()
    net(Tensor(POINTS)).sum().backward()
    optimizer.step()
    two.close()
    optimizer.zero_grad()
    net(Tensor(POINTS)).sum().backward()
    optimizer.step()
    assert (one.steps, two.steps, len(calls)) == (0, 1, 2)


# ------------------------------------------------------------------ NaN, with its op and line


def run_into_nan(way: str, bad_step: int = 7) -> tuple[tk.Monitor, list[warnings.WarningMessage]]:
    """A loss whose logarithm is of a negative number from one step on."""
    tk.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    shift = [10.0] * bad_step + [-10.0] * 5

    def loss_of(x: Tensor, added: Tensor) -> Tensor:
        p = net(x)
        return tk.log(p + added).mean()  # HERE

    def step(x: Tensor, added: Tensor) -> Tensor:
        loss = loss_of(x, added)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    def with_a_line(x: Tensor, added: Tensor) -> None:
        loss = loss_of(x, added)
        if way == "called":
            monitor.step(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if way == "called after":
            monitor.step(loss)

    monitor = tk.Monitor(net, optimizer, every=5)
    run: Any = tk.compile(step) if "compiled" in way else step
    run = monitor.watch(run) if "watched" in way else run
    run = with_a_line if "called" in way else run
    with warnings.catch_warnings(record=True) as told, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        if way == "block":
            monitor.__enter__()
        for added in shift:
            run(Tensor(POINTS), Tensor(np.float32(added)))
        monitor.close()
    return monitor, told


def line_with(text: str) -> int:
    with open(__file__, encoding="utf-8") as file:
        return next(i for i, line in enumerate(file, 1) if text in line)


@pytest.mark.parametrize("way", ["block", "called", "called after", "watched", "compiled watched"])
@pytest.mark.parametrize("bad_step", [0, 7])
def test_a_nan_is_told_once_with_its_step_op_and_line(way: str, bad_step: int) -> None:
    monitor, told = run_into_nan(way, bad_step)
    place = f"test_monitor.py:{line_with('# ' + 'HERE')}"
    expected = f"NaN since step {bad_step}, from log in loss_of, {place}"
    if way == "called after" and not bad_step:
        expected = "NaN since step 0"  # nothing was attached while its graph was there
    assert [str(one.message) for one in told] == [expected]
    assert told[0].category is tk.MonitorWarning and told[0].filename == __file__
    assert monitor.warnings == [
        {"step": bad_step, "kind": "nan_or_infinity", "layers": [""], "message": expected}
    ]
    assert monitor.history["loss"]["value"][bad_step:] == [None] * 5
    json.dumps(monitor.history, allow_nan=False)


def test_the_op_is_found_in_a_compiled_step_with_batches_of_a_large_array() -> None:
    """Rows of one array are kept without new memory, though a batch has 2 MB."""
    rows = np.ones((4 * 65536, 2), np.float32)
    net = nn.Linear(2, 1)
    nn.init.constant_(net.weight, 1.0)
    optimizer = optim.SGD(net.parameters(), lr=0.3)

    def step(x: Tensor) -> Tensor:
        loss = tk.log(net(x)).mean()  # BECOMES NEGATIVE
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    monitor = tk.Monitor(net, optimizer, every=1000)
    run = monitor.watch(tk.compile(step))
    with warnings.catch_warnings(record=True) as told, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        for i in range(12):
            run(rows[65536 * (i % 4) : 65536 * (i % 4 + 1)])
        monitor.close()
    place = f"test_monitor.py:{line_with('# ' + 'BECOMES NEGATIVE')}"
    assert len(told) == 1 and str(told[0].message).endswith(f"from log in step, {place}")


def cause(net: nn.Module, loss_of: Callable[[Tensor], Tensor], x: np.ndarray = POINTS) -> str:
    """What one step on `x` is told of."""
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    with warnings.catch_warnings(record=True) as told, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        with tk.Monitor(net, optimizer):
            loss_of(net(Tensor(x))).backward()
    return str(told[0].message)


def test_the_cause_of_a_nan_is_where_the_infinity_arose() -> None:
    net = nn.Linear(2, 1)
    said = cause(net, lambda p: (tk.log(p * 0) * 0).sum())
    assert said.startswith("NaN since step 0, from log in <lambda>, test_monitor.py:")
    said = cause(net, lambda p: tk.exp(p.abs() * 0 + 1000).sum())
    assert said.startswith("infinite loss since step 0, from exp in <lambda>, ")


def test_an_infinite_mask_is_not_blamed() -> None:
    mask = np.array([0, -np.inf, 0, 0], np.float32).reshape(4, 1)
    said = cause(nn.Linear(2, 1), lambda p: tk.sqrt(F.softmax(p + mask, 0) - 2).sum())
    assert said.startswith("NaN since step 0, from sqrt in ")


def test_a_nan_in_the_data_or_in_a_parameter_is_named() -> None:
    x = POINTS.copy()
    x[1] = np.nan
    assert (
        cause(nn.Linear(2, 1), lambda p: p.sum(), x) == "NaN since step 0: the data are not finite"
    )
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    net[1].weight.data[0, 0] = np.inf
    assert cause(net, lambda p: p.sum()).endswith(
        ": the parameter 1.weight has not been finite since the update before"
    )


class Root(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.MSELoss()(tk.sqrt(x), tk.zeros(4, 1))


def test_an_op_of_a_layer_is_named_by_the_layer() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    net[0].weight.data[:] = 1e38
    said = cause(net, lambda p: p.sum(), 100 * POINTS)
    assert "from linear in layer 0, backward() in test_monitor.py:" in said


def test_the_loss_of_another_model_does_not_count() -> None:
    net, other = nn.Linear(2, 1), nn.Linear(2, 1)
    optimizer, others = (optim.SGD(one.parameters(), lr=0.1) for one in (net, other))
    with tk.Monitor(net, optimizer, every=1) as monitor, np.errstate(all="ignore"):
        for _ in range(3):
            (other(Tensor(POINTS)).sum() * np.float32("nan")).backward()
            others.step()
            optimizer.zero_grad()
            net(Tensor(POINTS)).sum().backward()
            optimizer.step()
    assert monitor.warnings == []
    assert len(monitor.history["step"]) == monitor.steps == 3
    assert None not in monitor.history["loss"]["value"]


# ------------------------------------------------------------------ what it warns of


@pytest.mark.parametrize("depth", [9, 10])
def test_it_names_the_vanishing_gradient_of_deep_sigmoid_nets(depth: int) -> None:
    monitor = train(deep(nn.Sigmoid, depth, 5, lecture_start))
    assert kinds(monitor) == {"vanishing_gradient"}
    told = monitor.warnings[0]
    assert told["step"] == 0 and "0" in told["layers"]


@pytest.mark.parametrize(
    "net",
    [
        lambda: deep(nn.Tanh, 10, 5, nn.init.xavier_uniform_),
        lambda: deep(nn.ReLU, 10, 32, nn.init.kaiming_normal_),
        lambda: deep(nn.Sigmoid, 3, 10, nn.init.normal_),
        lambda: deep(nn.LeakyReLU, 5, 5, nn.init.kaiming_normal_),
        lambda: deep(nn.ELU, 5, 5, nn.init.kaiming_normal_),
        lambda: deep(nn.SiLU, 3, 8, nn.init.kaiming_normal_),
    ],
    ids=["tanh", "relu", "sigmoid", "leaky", "elu", "silu"],
)
def test_it_is_silent_on_sound_nets(net: Callable[[], nn.Module]) -> None:
    assert kinds(train(net(), steps=60)) == set()


def test_it_names_dead_layers_once_and_not_what_follows_from_them() -> None:
    net = deep(nn.ReLU, 4, 5, nn.init.kaiming_normal_)
    net[2].get_parameter("bias").data[:] = -100
    monitor = train(net)
    assert kinds(monitor) == {"dead_units"} and len(monitor.warnings) == 1
    assert monitor.warnings[0]["layers"] == ["2", "4", "6"]
    assert monitor.history["dead"]["2"] == [1.0] * 6
    assert monitor.history["dead"]["0"][0] < 1


def test_units_are_dead_only_after_many_examples() -> None:
    """One example leaves half of the units of a sound net at 0."""
    x = np.random.default_rng(0).standard_normal((1, 2)).astype(np.float32)
    net = deep(nn.ReLU, 1, 40, nn.init.kaiming_normal_)
    monitor = train(net, steps=30, lr=1e-6, x=x, y=ANSWERS[:1])
    assert 0.2 < monitor.history["dead"]["0"][0] < 0.8
    assert kinds(monitor) == set()
    many = np.random.default_rng(0).standard_normal((64, 2)).astype(np.float32)
    net[0].get_parameter("bias").data[:36] = -100
    answers = (many[:, :1] > 0).astype(np.float32)
    assert kinds(train(net, lr=1e-6, x=many, y=answers)) == {"dead_units"}


def test_it_names_zero_gradients_saturation_and_a_rate_that_is_too_high() -> None:
    assert kinds(train(deep(nn.Sigmoid, 1, 2, nn.init.zeros_))) == {"zero_gradient"}
    saturated = train(deep(nn.Tanh, 2, 8, lambda w: nn.init.uniform_(w, 3, 4)), x=POINTS + 1)
    assert "saturated_units" in kinds(saturated)
    assert saturated.history["saturated"]["2"] == [1.0] * 6
    net = deep(nn.Tanh, 1, 8, nn.init.xavier_uniform_)
    assert "learning_rate_too_high" in kinds(train(net, lr=1e4))


def test_it_names_an_exploding_gradient() -> None:
    net = deep(nn.Tanh, 6, 8, lambda w: nn.init.normal_(w, std=1e-4))
    for layer in list(net)[2::2]:
        layer.get_parameter("weight").data[:] *= 2e5
    with no_grad():
        net[12].get_parameter("weight").data[:] *= 1e-5
    monitor = train(net, lr=1e-9, steps=3)
    assert "exploding_gradient" in kinds(monitor)


def test_a_saturated_output_is_no_finding() -> None:
    """A net that is sure of its answers is right to be."""
    net = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())
    net[0].weight.data[:] = 4
    optimizer = optim.SGD(net.parameters(), lr=1e-9)
    with tk.Monitor(net, optimizer) as monitor:
        F.mse_loss(net(Tensor(POINTS + 1)), Tensor(ANSWERS)).backward()
        optimizer.step()
    assert monitor.history["saturated"] == {"0": [1.0]}
    assert monitor.warnings == []


@pytest.mark.parametrize("way", ["block", "watched", "compiled watched"])
def test_it_notices_gradients_that_are_never_cleared(way: str) -> None:
    net = deep(nn.Tanh, 1, 4, nn.init.xavier_uniform_)
    optimizer = optim.SGD(net.parameters(), lr=0.01)

    def step(x: Tensor) -> Tensor:
        loss = net(x).pow(2).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    monitor = tk.Monitor(net, optimizer, every=5)
    run: Any = tk.compile(step) if "compiled" in way else step
    run = monitor.watch(run) if "watched" in way else run
    if way == "block":
        monitor.__enter__()
    with pytest.warns(tk.MonitorWarning, match="Call optimizer.zero_grad"):
        for _ in range(8):
            run(Tensor(POINTS))
    monitor.close()
    assert [told["kind"] for told in monitor.warnings] == ["gradients_not_cleared"]


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_of_several_batches_may_be_added(to_none: bool) -> None:
    net = deep(nn.Tanh, 1, 4, nn.init.xavier_uniform_)
    optimizer = optim.SGD(net.parameters(), lr=0.01)
    with tk.Monitor(net, optimizer, every=1) as monitor:
        for _ in range(4):
            optimizer.zero_grad(to_none)
            for _ in range(3):
                net(Tensor(POINTS)).pow(2).mean().backward()
            optimizer.step()
    assert monitor.warnings == [] and monitor.steps == 4


def test_korean_is_said_where_it_is_set() -> None:
    tk.set_language("ko")
    try:
        net = deep(nn.ReLU, 2, 5, nn.init.kaiming_normal_)
        net[0].get_parameter("bias").data[:] = -100
        monitor = train(net)
    finally:
        tk.set_language(None)
    assert monitor.warnings[0]["message"] == (
        "죽은 유닛, 0번째 스텝: 층 0, 2, 모든 예제에서 0인 ReLU 유닛 100%"
    )


def test_a_compiled_step_that_is_not_wrapped_is_noticed() -> None:
    net = deep(nn.Tanh, 1, 4, nn.init.xavier_uniform_)
    optimizer = optim.SGD(net.parameters(), lr=0.01)

    @tk.compile
    def step(x: Tensor) -> Tensor:
        loss = net(x).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    for _ in range(3):
        step(Tensor(POINTS))
    monitor = tk.Monitor(net, optimizer)
    with pytest.warns(tk.MonitorWarning, match=r"step = monitor.watch\(step\)"):
        for _ in range(6):
            monitor.step(step(Tensor(POINTS)))
    monitor.close()
    assert monitor.steps == 5 and len(monitor.history["loss"]["value"]) == 5


@pytest.mark.parametrize("compiled_before", [True, False])
def test_a_block_around_a_compiled_step_changes_nothing(compiled_before: bool) -> None:
    """A step that is compiled already is not seen, which is told; another runs as written there."""

    def weights(block: bool) -> bytes:
        tk.manual_seed(0)
        net = deep(nn.Tanh, 1, 4, nn.init.xavier_uniform_)
        optimizer = optim.SGD(net.parameters(), lr=0.01)

        @tk.compile
        def step(x: Tensor) -> Tensor:
            loss = net(x).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        for _ in range(4 * compiled_before):
            step(Tensor(POINTS))
        monitor = tk.Monitor(net, optimizer, every=2)
        if block:
            monitor.__enter__()
        for _ in range(6):
            step(Tensor(POINTS))
        if block and compiled_before:
            with pytest.warns(tk.MonitorWarning, match="nothing seen"):
                monitor.__exit__(None, None, None)
        elif block:
            monitor.__exit__(None, None, None)
            assert monitor.history["step"] == [0, 2, 4]
        for _ in range(6):
            step(Tensor(POINTS))
        assert step.last_runner is not None
        return net[0].get_parameter("weight").data.tobytes()

    assert weights(True) == weights(False)


def test_half_precision_is_measured() -> None:
    net = deep(nn.Tanh, 1, 64, nn.init.xavier_uniform_).to(np.float16)
    optimizer = optim.SGD(net.parameters(), lr=1e-3)
    with tk.Monitor(net, optimizer) as monitor:
        (net(Tensor(POINTS.astype(np.float16))) * 1000).sum().backward()
        optimizer.step()
    assert monitor.history["gradient_norm"]["2"][0] > 256  # whose square float16 does not hold


# ------------------------------------------------------------------ what it measures


def test_the_numbers_are_those_of_the_step() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    optimizer = optim.SGD(net.parameters(), lr=0.5)
    with tk.Monitor(net, optimizer, every=1) as monitor:
        loss = F.binary_cross_entropy_with_logits(net(Tensor(POINTS)), Tensor(ANSWERS))
        loss.backward()
        weights = [p.data.copy() for p in net.parameters()]
        optimizer.step()
    gradients = [p.grad.data for p in net.parameters() if p.grad is not None]

    def norm(arrays: list[np.ndarray]) -> float:
        return float(np.linalg.norm(np.concatenate([a.reshape(-1) for a in arrays])))

    history = monitor.history
    for path, some in {"0": slice(0, 2), "2": slice(2, 4)}.items():
        assert history["gradient_norm"][path] == [pytest.approx(norm(gradients[some]))]
        ratio = 0.5 * norm(gradients[some]) / norm(weights[some])
        assert history["update_ratio"][path] == [pytest.approx(ratio)]
    assert history["loss"] == {"step": [0], "value": [pytest.approx(loss.item())]}
    hidden = np.maximum(POINTS @ weights[0].T + weights[1], 0)
    assert history["dead"] == {"0": [pytest.approx((hidden == 0).all(axis=0).mean())]}
    logits = hidden @ weights[2].T + weights[3]
    right = float(((logits > 0) == ANSWERS).mean())
    assert history["accuracy"] == {"step": [0], "value": [right]}


class Functional(nn.Module):
    def __init__(self, net: nn.Sequential) -> None:
        self.a, self.b = net[0], net[2]

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.relu(x @ self.a.weight.T + self.a.bias), self.b.weight, self.b.bias)


def test_functions_are_judged_as_layers_are() -> None:
    layers = deep(nn.ReLU, 1, 6, nn.init.kaiming_normal_)
    functions = Functional(copy.deepcopy(layers))
    one, other = train(layers).history, train(functions).history
    for quantity in ("gradient_norm", "update_ratio", "dead"):
        assert list(other[quantity]) == (["a"] if quantity == "dead" else ["a", "b"])
        for mine, theirs in zip(one[quantity].values(), other[quantity].values(), strict=True):
            assert mine == pytest.approx(theirs, rel=1e-4)


def test_of_a_convolution_a_unit_is_a_channel() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    net[0].get_parameter("bias").data[:] = [-100, 100, -100, 100]
    optimizer = optim.SGD(net.parameters(), lr=1e-6)
    x, labels = tk.rand(6, 1, 8, 8), np.array([0, 1, 2, 0, 1, 2])
    with tk.Monitor(net, optimizer) as monitor:
        F.cross_entropy(net(x), labels).backward()
        optimizer.step()
    assert monitor.history["dead"] == {"0": [0.5]}
    assert list(monitor.history["gradient_norm"]) == ["0", "3"]
    assert monitor.history["accuracy"]["value"][0] in {i / 6 for i in range(7)}
    assert monitor.frames.frames[0].pictures["0"].pixels.shape == (7, 7)


@pytest.mark.parametrize(
    ("targets", "loss", "columns"),
    [
        (np.array([0, 1, 2, 1]), F.cross_entropy, 3),
        (np.eye(3, dtype=np.float32)[[0, 1, 2, 1]], F.cross_entropy, 3),
        (np.array([[0], [1], [1], [0]], np.float32), F.binary_cross_entropy_with_logits, 1),
        (np.array([[0.5], [1.5], [2.0], [0.0]], np.float32), F.mse_loss, 1),
    ],
    ids=["indices", "one-hot", "two classes", "regression"],
)
def test_accuracy_needs_no_line_where_the_targets_are_classes(
    targets: np.ndarray, loss: Any, columns: int
) -> None:
    net = nn.Linear(2, columns)
    optimizer = optim.SGD(net.parameters(), lr=1e-6)
    with tk.Monitor(net, optimizer) as monitor:
        output = net(Tensor(POINTS))
        loss(output, Tensor(targets)).backward()
        optimizer.step()
    if loss is F.mse_loss:
        assert "accuracy" not in monitor.history
        return
    two = columns == 1
    right = (output.data > 0) == targets if two else output.data.argmax(1) == [0, 1, 2, 1]
    assert monitor.history["accuracy"]["value"] == [float(right.mean())]


def test_metrics_may_be_given() -> None:
    net = nn.Linear(2, 1)
    monitor = tk.Monitor(net, optim.SGD(net.parameters(), lr=0.1))
    for i in range(3):
        monitor.step(float(i), accuracy=i / 4, f1=Tensor([0.5]))
    with pytest.warns(tk.MonitorWarning, match="nothing seen until step 3"):
        monitor.step()
    monitor.close()
    assert monitor.history["accuracy"] == {"step": [0, 1, 2], "value": [0.0, 0.25, 0.5]}
    assert monitor.history["f1"]["value"] == [0.5] * 3
    with pytest.raises(ValueError, match=r"Monitor.step: expected a new name, got 'dead'\."):
        monitor.step(1.0, dead=0.5)
    monitor.close()


# ------------------------------------------------------------------ bounds


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_module, "MOST_SAMPLES", 20)
    monitor = train(deep(nn.Tanh, 1, 4, nn.init.xavier_uniform_), steps=500)
    assert 10 <= len(monitor.history["step"]) <= 20 < MOST_SAMPLES
    gaps = set(np.diff(monitor.history["step"]))
    assert len(gaps) == 1
    assert len(monitor.frames.frames) <= 64
    curve = Curve()
    for i in range(3 * MOST_POINTS):
        curve.add(i, float(i))
    points = curve.points()
    assert MOST_POINTS / 2 <= len(points["step"]) <= MOST_POINTS + 1
    assert np.mean(points["value"][:1000]) == pytest.approx(np.mean(range(points["step"][1000])))
    assert picture_of(np.ones((1000, 1000), np.float32)).pixels.shape == (64, 64)
    assert picture_of(np.ones((256, 784), np.float32)).pixels.shape == (115, 115)
    broken = picture_of(np.array([[np.nan, 2.0], [-1.0, np.inf]], np.float32))
    assert broken.pixels.tolist() == [[0, 127], [-64, 0]] and broken.scale == 2


class Clock:
    """Time that passes only where a test lets it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("step_time", "share"), [(1e-3, 0.03), (1e-5, 1.2)])
def test_looking_keeps_to_its_budget(
    step_time: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of short steps the budget is 12 microseconds each."""
    clock = Clock()
    monkeypatch.setattr(monitor_module, "perf_counter", clock)
    net = nn.Linear(2, 1)
    optimizer = optim.SGD(net.parameters(), lr=1e-6)
    monitor = tk.Monitor(net, optimizer)
    take = monitor._take_sample
    looks = 0

    def slow(before: Any) -> None:
        nonlocal looks
        looks += 1
        clock.now += 2e-3
        take(before)

    monitor._take_sample = slow  # type: ignore[method-assign]
    with monitor:
        for _ in range(2000):
            clock.now += step_time
            net(Tensor(POINTS)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    working = 2000 * step_time
    assert monitor.spent == pytest.approx(looks * 2e-3)
    assert share * working - 4e-3 <= monitor.spent <= share * working + 2e-3


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((1, 2), TypeError, r"Monitor: expected a Module as model, got int\."),
        (("net", 2), TypeError, r"Monitor: expected an Optimizer as optimizer, got int\."),
        (("net", "optimizer", 0), ValueError, "expected a number of steps from 1 as every, got 0"),
        (("net", "optimizer", None, 0.0), ValueError, r"in \(0, 1\], got 0\.0"),
    ],
)
def test_wrong_arguments_are_named(arguments: Any, error: type[Exception], text: str) -> None:
    net = nn.Linear(2, 1)
    known = {"net": net, "optimizer": optim.SGD(net.parameters(), lr=0.1)}
    given = [known.get(x, x) if isinstance(x, str) else x for x in arguments]
    options = dict(zip(("every", "budget"), given[2:], strict=False))
    with pytest.raises(error, match=text):
        tk.Monitor(*given[:2], **options)


def test_a_watched_step_has_what_the_step_has() -> None:
    net = nn.Linear(2, 1)
    monitor = tk.Monitor(net, optim.SGD(net.parameters(), lr=0.1))

    def step(x: Tensor) -> Tensor:
        """Adds."""
        return x + 1

    watched: Any = monitor.watch(tk.compile(step))
    assert watched.__name__ == "step" and watched.__doc__ == "Adds."
    assert watched.repeat(2, tk.ones(1)).shape == (2, 1)
    with pytest.raises(AttributeError):
        watched.nothing  # noqa: B018
    with pytest.raises(TypeError, match=r"Monitor.watch: expected a function, got int\."):
        monitor.watch(3)  # type: ignore[arg-type]


# ------------------------------------------------------------------ the guide


@pytest.mark.parametrize(("lang", "name"), [("en", "monitor.md"), ("ko", "monitor.ko.md")])
def test_the_guide_shows_what_is_said(lang: str, name: str) -> None:
    page = (Path(__file__).parents[2] / "docs/guides" / name).read_text("utf-8")
    first, second = re.findall(r"```python\n(.*?)```", page, re.S)[:2]
    shown = [" ".join(text.split()) for text in re.findall(r"```text\n(.*?)```", page, re.S)]
    tk.set_language(lang)
    try:
        names: dict[str, Any] = {"__name__": "train"}
        exec(compile(first, "/home/you/train.py", "exec"), names)
        exec(compile(second, "/home/you/train.py", "exec"), names)
    finally:
        tk.set_language(None)
    said = [names[one].warnings[0]["message"] for one in ("sigmoid", "monitor")]
    for message, text in zip(said, shown, strict=True):
        number = re.compile(r"\de-\d\d")
        assert number.sub("", text).endswith(": " + number.sub("", message))
        assert re.match(r"train.py:\d+: MonitorWarning: ", text)


def test_each_warning_is_kept_in_both_languages() -> None:
    net = deep(nn.Sigmoid, 10, 5, nn.init.xavier_uniform_)
    monitor = train(net)
    (told,) = monitor.warnings
    english, korean = (monitor.warnings_in(lang)[0] for lang in ("en", "ko"))
    assert told == english and korean["kind"] == "vanishing_gradient"
    assert korean["message"].startswith("기울기 소실, 0번째 스텝: 층 ")
    assert "layer" in english["message"] and "layer" not in korean["message"]
