"""The traps of recording a function and replaying it: each is named, and none is fallen into."""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import harness
import numpy as np
import pytest
from harness import Learner, Make, alike, close, replayed, settled
from harness import backend as backend

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, compile, nn, optim
from tinygrad_kr.compile import CaptureError, Compiled

pytestmark = pytest.mark.usefixtures("backend")

RANDOM = np.random.default_rng(0)


def batch(n: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, 4)).astype(np.float32)
    return Tensor(x), Tensor(random.integers(0, 3, n))


def plain(
    learner: Learner,
    forward: Any = None,
    forget: Callable[[], None] | None = None,
    clip: Callable[[], Any] = lambda: None,
) -> Any:
    optimizer = learner.optimizer
    forward, forget = forward or learner.net, forget or optimizer.zero_grad

    def step(x: Tensor, y: Tensor) -> Any:
        forget()
        loss = F.cross_entropy(forward(x), y)
        loss.backward()
        clip()
        optimizer.step()
        return loss

    return step


def twins(make: Make = plain, **options: Any) -> tuple[Learner, Learner]:
    """Two of one kind and one start: as it is, and compiled."""

    def build() -> tuple[nn.Module, optim.Optimizer]:
        net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        return net, optim.SGD(net.parameters(), **{"lr": 0.1, "momentum": 0.9} | options)

    return harness.twins(make, build)


def together(a: Learner, b: Learner, calls: int = 4, first: int = 0) -> None:
    """Both make the same steps and come to the same."""
    harness.together(a, b, [batch(seed=i // 3) for i in range(first, first + calls)])


# ------------------------------------------------------------------ other arguments


def test_another_shape_and_dtype_are_recorded_anew() -> None:
    a, b = twins()
    for n in (6, 6, 6, 3, 3, 3, 6, 1, 3):
        close(a.step(*batch(n)), b.step(*batch(n)))
        alike(a, b)
    f = compile(lambda x: x * 2 + 1)
    for dtype in (np.float32, np.float64, np.int64, np.float32, np.float64, np.int64):
        x = np.arange(3).astype(dtype)
        for _ in range(3):
            close((Tensor(x) * 2 + 1), f(Tensor(x)))
    assert len(f.programs) == 3


def test_a_structure_of_arguments_is_part_of_the_call() -> None:
    def f(pair: Any, *, scale: float = 1.0, more: Any = None) -> Any:
        total = pair[0] - pair[1] if isinstance(pair, tuple) else pair["a"] * 2
        return {"total": total * scale, "more": None if more is None else more + 1}

    g = compile(f)
    x, y = Tensor([1.0, 2.0]), Tensor([5.0, 7.0])
    for _ in range(4):
        close(f((x, y)), g((x, y)))
        close(f((y, x)), g((y, x)))
        close(f({"a": x}), g({"a": x}))
        close(f((x, y), scale=2.0), g((x, y), scale=2.0))
        close(f((x, y), scale=3.0), g((x, y), scale=3.0))
        close(f((x, y), more=x), g((x, y), more=x))
        close(f((x, y), more=y, scale=2.0), g((x, y), more=y, scale=2.0))
        close(f((x, y), scale=2, more=y), g((x, y), scale=2, more=y))
    assert g.explain() == "every call is compiled"


def test_arguments_laid_out_otherwise() -> None:
    f = compile(lambda x: (x * 2).sum(axis=0) + x[0])
    x = RANDOM.random((4, 6))
    whole = RANDOM.random((8, 12))
    settled(f, Tensor(x))
    locked = x.copy()
    locked.flags.writeable = False
    views = [
        x,
        np.asfortranarray(x),
        whole[::2, ::2],
        whole[::-2, 6:],
        x[::-1, ::-1],
        locked,
        np.broadcast_to(x[0], (4, 6)),
        np.zeros(25)[1:].reshape(4, 6),
    ]
    for _ in range(2):
        for view in views:
            close(Tensor((view * 2).sum(axis=0) + view[0]), f(Tensor(view)))
    assert len(f.programs) == 1


def test_the_same_array_twice() -> None:
    f = compile(lambda x, y: x * 2 + y)
    x, y = Tensor([1.0, 2.0]), Tensor([5.0, 7.0])
    assert settled(f, x, x).tolist() == [3, 6]
    assert f(x, y).tolist() == [7, 11]
    assert f(y, x).tolist() == [11, 16]
    g = compile(lambda x, y: x * 2 + y)
    assert settled(g, x, y).tolist() == [7, 11]
    assert g(y, y).tolist() == [15, 21]


def test_an_argument_that_is_known_from_elsewhere_too() -> None:
    x, y = Tensor([1.0, 2.0]), Tensor([5.0, 7.0])
    f = compile(lambda given: given * 2 + x)
    assert settled(f, x).tolist() == [3, 6]
    assert f(y).tolist() == [11, 16]
    weight = nn.Parameter(np.array([1.0, 2.0]))
    optimizer = optim.SGD([weight], lr=0.5)

    def step(given: Tensor) -> Any:
        optimizer.zero_grad()
        loss = (weight * given).sum()
        loss.backward()
        optimizer.step()
        return loss

    g = compile(step)
    for _ in range(4):
        before = weight.data.copy()
        close(Tensor((before**2).sum()), g(weight.detach()))
        np.testing.assert_allclose(weight.data, before * 0.5)


def test_arrays_in_arrays_out() -> None:
    def f(x: Any) -> Any:
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    x, v = RANDOM.random(6), RANDOM.random(6)
    for made in (
        tk.grad(f),
        tk.value_and_grad(f),
        tk.hessian(f),
        lambda x: tk.jvp(f, (x,), (v,)),
        lambda x: tk.vjp(f, x)[1](np.ones(())),
        lambda x: tk.hvp(f, (x,), (v,)),
        tk.jacobian(lambda x: x[1:] * x[:-1]),
        f,
    ):
        compiled = compile(made)
        for i in range(4):
            expected, found = made(x + i), compiled(x + i)
            close(expected, found)
        assert compiled.programs, compiled.explain()


def test_an_argument_that_requires_grad_is_run_as_written() -> None:
    f = compile(lambda x: (x * x).sum())
    x = Tensor([1.0, 2.0], requires_grad=True)
    for _ in range(3):
        x.grad = None
        f(x).backward()
        assert x.grad is not None
        assert x.grad.tolist() == [2, 4]
    assert "requires grad" in f.explain()
    with tk.no_grad():
        assert settled(f, x).tolist() == 5


def test_writing_to_an_argument_is_run_as_written() -> None:
    def f(x: Tensor) -> Tensor:
        x += 1
        return x * 2

    compiled = compile(f)
    x = Tensor([1.0])
    assert [compiled(x).item() for _ in range(4)] == [4, 6, 8, 10]
    assert x.item() == 5
    assert "writes to an argument" in compiled.explain()


# ------------------------------------------------------------------ live numbers


def scheduled(kind: str) -> None:
    a, b = twins()
    schedules = [
        optim.lr_scheduler.StepLR(learner.optimizer, 2, 0.5)
        if kind == "step"
        else optim.lr_scheduler.CosineAnnealingLR(learner.optimizer, 9)
        for learner in (a, b)
    ]
    for i in range(9):
        close(a.step(*batch(seed=i)), b.step(*batch(seed=i)))
        alike(a, b)
        for schedule in schedules:
            schedule.step()
    assert len(b.step.programs) == 1
    assert next(iter(b.step._signatures.values())).replays >= 6


@pytest.mark.parametrize("kind", ["step", "cosine"])
def test_a_learning_rate_by_schedule_is_live(kind: str) -> None:
    scheduled(kind)


def test_options_of_the_groups_are_live() -> None:
    a, b = twins()
    together(a, b)
    for options in (
        {"lr": 0.01},
        {"lr": 0.5, "momentum": 0.5},
        {"weight_decay": 0.1},
        {"lr": 0.0},
        {"momentum": 0.0},
        {"momentum": 0.9, "nesterov": True},
        {"maximize": True},
    ):
        for learner in (a, b):
            learner.optimizer.param_groups[0].update(options)
        together(a, b)
    for learner in (a, b):
        learner.optimizer.param_groups[0]["lr"] = -1.0
    with pytest.raises(ValueError, match=r"SGD: expected lr in \[0, inf\), got -1\.0\."):
        b.step(*batch())


def test_the_rate_read_from_the_groups_is_live() -> None:
    def made(learner: Learner) -> Any:
        net, optimizer = learner.net, learner.optimizer

        def step(x: Tensor, y: Tensor) -> Any:
            net.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            with tk.no_grad():
                for p in net.parameters():
                    p -= optimizer.param_groups[0]["lr"] * p.grad
            return loss

        return step

    a, b = twins(made)
    together(a, b)
    for learner in (a, b):
        learner.optimizer.param_groups[0]["lr"] = 0.01
    together(a, b)
    assert b.step.explain() == "every call is compiled"


def test_a_scheduler_inside_is_run_as_written() -> None:
    net = nn.Linear(4, 3)
    optimizer = optim.SGD(net.parameters(), lr=1.0)
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    @compile
    def step(x: Tensor, y: Tensor) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss

    for _ in range(5):
        step(*batch())
    assert schedule.get_last_lr() == [0.5**5]
    assert "call it outside" in step.explain()


def test_a_parameter_of_another_shape_or_dtype_is_seen() -> None:
    draw = RANDOM.standard_normal
    w = Tensor(draw(3))
    f = compile(lambda x: x * w + w.max())
    x = Tensor(draw((4, 3)))
    for data in (draw(3), draw((4, 3)), draw((4, 3)).astype("f4"), np.arange(3), draw(3)):
        w.data = data
        for _ in range(4):
            found, expected = f(x), f.function(x)
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found.numpy(), expected.numpy(), 1e-12)
        assert f.programs


def test_another_parameter_group_is_noticed() -> None:
    a, b = twins()
    together(a, b)
    extra = [nn.Parameter(np.ones(3, np.float32)) for _ in range(2)]
    for learner, p in zip((a, b), extra, strict=True):
        learner.optimizer.add_param_group({"params": [p], "lr": 0.5})
        learner.net[2].bias = p
    together(a, b, 5)
    assert not np.allclose(extra[0].data, 1)


# ------------------------------------------------------------------ randomness


def dropping(learner: Learner) -> Any:
    net, optimizer = learner.net, learner.optimizer

    def step(x: Tensor, y: Tensor) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(F.dropout(x, 0.5)), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def test_dropout_is_drawn_anew_and_follows_the_seed() -> None:
    a, b = twins(dropping)
    for i in range(6):
        tk.manual_seed(i // 2)
        expected = a.step(*batch())
        drawn = tk.rand(2)
        tk.manual_seed(i // 2)
        close(expected, b.step(*batch()))
        close(drawn, tk.rand(2))
        alike(a, b)
    f = compile(lambda x: F.dropout(x, 0.5))
    x = Tensor(np.ones(64, np.float32))
    assert len({tuple(f(x).tolist()) for _ in range(6)}) == 6


def test_what_is_drawn_in_a_step_is_drawn_anew() -> None:
    own = np.random.default_rng(5)
    p = Tensor(np.full(4, 0.5))
    draws: list[Callable[[Tensor], Tensor]] = [
        lambda x: x + tk.rand(4),
        lambda x: x + tk.rand(4, dtype=np.float64),
        lambda x: x + tk.randn(4) * tk.rand(4),
        lambda x: x[tk.randperm(4)],
        lambda x: x + tk.randint(0, 9, (4,)),
        lambda x: x * tk.bernoulli(p),
        lambda x: x * tk.bernoulli(x / 5),
        lambda x: x + tk.multinomial(x, 4),
        lambda x: x + tk.multinomial(p, 4, replacement=True),
        lambda x: x + tk.rand(4, generator=own),
        lambda x: F.dropout(x, 0.5, generator=own),
    ]
    x = Tensor(np.array([1.0, 2.0, 3.0, 4.0]))
    for draw in draws:
        compiled = compile(draw)
        tk.manual_seed(7)
        own.bit_generator.state = np.random.default_rng(7).bit_generator.state
        expected = [draw(x) for _ in range(6)]
        tk.manual_seed(7)
        own.bit_generator.state = np.random.default_rng(7).bit_generator.state
        close(expected, [compiled(x) for _ in range(6)])
        assert compiled.programs, compiled.explain()


def test_a_bad_probability_is_refused_at_each_call() -> None:
    compiled = compile(lambda p: tk.bernoulli(p))
    settled(compiled, Tensor([0.5]))
    with pytest.raises(ValueError, match="outside"):
        compiled(Tensor([1.5]))
    compiled = compile(lambda p: tk.multinomial(p, 1))
    settled(compiled, Tensor([0.5]))
    with pytest.raises(ValueError, match="expected finite weights of at least 0"):
        compiled(Tensor([-1.5]))


def test_a_seed_set_inside_is_set_at_each_call() -> None:
    def f(x: Tensor) -> Tensor:
        tk.manual_seed(1)
        return x + tk.rand(2)

    compiled = compile(f)
    results = [tuple(compiled(Tensor([1.0, 2.0])).tolist()) for _ in range(5)]
    assert len(set(results)) == 1
    assert "manual_seed" in compiled.explain()


def test_rows_shuffled_and_noise_inside_a_step() -> None:
    def made(learner: Learner) -> Any:
        net, optimizer = learner.net, learner.optimizer

        def step(x: Tensor, y: Tensor) -> Any:
            order = tk.randperm(len(x))[:4]
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x[order] + 0.1 * tk.randn(4, 4)), y[order])
            loss.backward()
            optimizer.step()
            return loss, order

        return step

    a, b = twins(made)
    for i in range(6):
        tk.manual_seed(i)
        expected = a.step(*batch(seed=i))
        tk.manual_seed(i)
        close(expected, b.step(*batch(seed=i)))
        alike(a, b)
    assert b.step.programs, b.step.explain()


# ------------------------------------------------------------------ memory of results


def test_results_and_gradients_of_earlier_calls_stay() -> None:
    a, b = twins()
    kept: list[Any] = []
    for i in range(8):
        given = batch(seed=i)
        expected = a.step(*given)
        loss = b.step(*given)
        p, q = a.net[0].weight, b.net[0].weight
        kept.append((expected.detach().clone(), loss, p.grad.clone(), q.grad, q.grad.numpy()))
        for row in kept:
            close(row[0], row[1])
            close(row[2], row[3])
            np.testing.assert_allclose(row[4], row[2].numpy(), 1e-5, 1e-6)


def test_views_of_results_stay() -> None:
    compiled = compile(lambda x: (x * 2, x.T + 1))
    kept = []
    for i in range(6):
        a, b = compiled(Tensor(np.full((2, 3), float(i))))
        kept.append((i, a.numpy()[0], b[1:].detach(), a.data[:, 1], b.T))
        for j, *views in kept:
            for view, value in zip(views, (2 * j, j + 1, 2 * j, j + 1), strict=True):
                np.testing.assert_array_equal(np.asarray(view), value)


def test_results_may_be_written_to() -> None:
    ones = tk.ones(3)
    compiled = compile(lambda x: (x + ones, tk.zeros(2) + 1, tk.zeros(2)))
    for _ in range(6):
        for result, expected in zip(compiled(ones), (2, 1, 0), strict=True):
            assert set(result.tolist()) == {expected}
            result += 7
    assert ones.tolist() == [1, 1, 1]


def test_gradients_may_be_written_to_and_replaced() -> None:
    a, b = twins()
    for i in range(6):
        given = batch(seed=i)
        close(a.step(*given), b.step(*given))
        for learner in (a, b):
            weight = learner.net[0].weight
            weight.grad.fill_(0.0) if i % 2 else setattr(weight, "grad", None)
    together(a, b)


def test_an_argument_returned_is_not_shared_with_the_next_call() -> None:
    compiled = compile(lambda x: (x, x.detach(), x[1:]))
    kept = [compiled(Tensor([float(i), 1.0])) for i in range(5)]
    for i, (x, y, z) in enumerate(kept):
        assert (x.tolist(), y.tolist(), z.tolist()) == ([i, 1], [i, 1], [1])


def test_views_of_parameters_that_are_returned() -> None:
    def made(learner: Learner) -> Any:
        net, step = learner.net, plain(learner)

        def with_views(x: Tensor, y: Tensor) -> Any:
            step(x, y)
            weight = net[0].weight
            return weight, weight.detach(), weight[0].detach(), weight.grad, net[0].bias.grad * 1

        return with_views

    a, b = twins(made)
    for i in range(6):
        expected, found = a.step(*batch(seed=i)), b.step(*batch(seed=i))
        close(list(expected), list(found))
        assert found[0] is b.net[0].weight
    b.net[0].weight.data = np.zeros((5, 4), np.float32)
    expected, found = a.step(*batch()), b.step(*batch())
    close(b.net[0].weight.detach(), found[1])


def test_what_is_no_array_is_returned_as_it_is() -> None:
    compiled = compile(
        lambda x: {"loss": x.sum(), "none": None, "n": len(x), "s": "a", "t": (1, [x])}
    )
    for i in range(4):
        found = compiled(Tensor([float(i), 2.0]))
        assert list(found) == ["loss", "none", "n", "s", "t"]
        close(
            {"loss": Tensor(i + 2.0), "none": None, "n": 2, "s": "a"},
            {key: found[key] for key in ("loss", "none", "n", "s")},
        )
        assert found["t"][0] == 1
        assert found["t"][1][0].tolist() == [i, 2]
    nothing = compile(lambda x: None)
    assert [nothing(Tensor([1.0])) for _ in range(4)] == [None] * 4


# ------------------------------------------------------------------ state that is replaced


def test_a_loaded_model_and_optimizer() -> None:
    a, b = twins()
    saved = [copy.deepcopy((le.net.state_dict(), le.optimizer.state_dict())) for le in (a, b)]
    together(a, b)
    middle = [copy.deepcopy((le.net.state_dict(), le.optimizer.state_dict())) for le in (a, b)]
    together(a, b)
    for states in (middle, saved, middle):
        for learner, (model, optimizer) in zip((a, b), states, strict=True):
            learner.net.load_state_dict(model)
            learner.optimizer.load_state_dict(optimizer)
        alike(a, b)
        together(a, b)


def test_parameters_bound_anew() -> None:
    a, b = twins()
    together(a, b)
    for learner in (a, b):
        learner.net[2] = nn.Linear(5, 3)
        with tk.no_grad():
            learner.net[2].weight.fill_(0.1)
            learner.net[2].bias.fill_(0.2)
    together(a, b)
    for learner in (a, b):
        learner.net[0].weight.data = learner.net[0].weight.data * 0.5
    together(a, b)
    for learner in (a, b):
        learner.net[0].bias.data[...] = 0.25
    together(a, b)
    for learner in (a, b):
        weight = learner.net[0].weight
        weight.data = np.asfortranarray(weight.data)
    together(a, b)
    for learner in (a, b):
        learner.net.to(np.float64)
        learner.optimizer = optim.SGD(learner.net.parameters(), lr=0.1)


def test_an_optimizer_bound_anew() -> None:
    net = nn.Linear(4, 3)
    twin = copy.deepcopy(net)
    optimizers = {"net": optim.SGD(net.parameters(), lr=0.1)}

    def step(x: Tensor, y: Tensor) -> Any:
        net.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizers["net"].step()
        return loss

    compiled = compile(step)
    settled(compiled, *batch())
    optimizers["net"] = optim.Adam(net.parameters(), lr=0.5)
    twin.load_state_dict(net.state_dict())
    other = optim.Adam(twin.parameters(), lr=0.5)
    for _ in range(4):
        compiled(*batch())
        twin.zero_grad()
        F.cross_entropy(twin(batch()[0]), batch()[1]).backward()
        other.step()
    close(twin.weight, net.weight)


def test_frozen_parameters_stay() -> None:
    a, b = twins()
    for learner in (a, b):
        learner.net[0].requires_grad_(False)
    together(a, b)
    before = b.net[0].weight.data.copy()
    together(a, b)
    np.testing.assert_array_equal(b.net[0].weight.data, before)
    for learner in (a, b):
        learner.net[0].requires_grad_(True)
    together(a, b)
    assert not np.array_equal(b.net[0].weight.data, before)


# ------------------------------------------------------------------ back and forth with eager


def test_eager_steps_between_compiled_ones() -> None:
    a, b = twins()
    eager = plain(b)
    for i in range(12):
        given = batch(seed=i)
        close(a.step(*given), (eager if i % 4 == 3 else b.step)(*given))
        alike(a, b)
        if i % 5 == 4:
            for learner in (a, b):
                learner.optimizer.zero_grad(set_to_none=i % 2 == 0)
    assert len(b.step.programs) == 1


def accumulating(learner: Learner) -> Any:
    net = learner.net

    def step(x: Tensor, y: Tensor) -> Any:
        loss = F.cross_entropy(net(x), y) / 2
        loss.backward()
        return loss

    return step


@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("forgets", ["001001001001", "111110001", "000001110"])
def test_gradients_accumulate(to_none: bool, forgets: str) -> None:
    a, b = twins(accumulating)
    for i, forget in enumerate(forgets * 2):
        given = batch(seed=i)
        close(a.step(*given), b.step(*given))
        alike(a, b)
        if forget == "1":
            for learner in (a, b):
                learner.optimizer.step()
                learner.optimizer.zero_grad(set_to_none=to_none)
    assert b.step.explain() == "every call is compiled"
    assert sum(one.replays for one in b.step._signatures.values()) >= 2 * len(forgets) - 6


@pytest.mark.parametrize("part", ["clip", "step"])
def test_a_step_of_gradients_from_elsewhere(part: str) -> None:
    def made(learner: Learner) -> Any:
        net, optimizer = learner.net, learner.optimizer

        def clip() -> Any:
            return optim.clip_grad_norm_(net.parameters(), 0.5)

        return clip if part == "clip" else optimizer.step

    a, b = twins(made)
    extra = [nn.Parameter(np.ones(3, np.float32)) for _ in range(2)]

    def derive(i: int, *absent: str) -> None:
        for learner in (a, b):
            learner.net.zero_grad()
            F.cross_entropy(learner.net(batch(seed=i)[0]), batch(seed=i)[1]).backward()
            for name in absent:
                learner.net.get_parameter(name).grad = None

    for i, absent in enumerate([("0.weight",)] * 4 + [()] * 4 + [("2.bias",)] * 4 + [()] * 3):
        derive(i, *absent)
        close(a.step(), b.step())
        alike(a, b)
    for learner, p in zip((a, b), extra, strict=True):
        learner.optimizer.add_param_group({"params": [p], "lr": 0.5})
        p.grad = tk.ones(3)
    for i in range(4):
        derive(i)
        close(a.step(), b.step())
        alike(a, b)
        close(*extra)
    assert np.allclose(extra[1].data, 1) == (part == "clip")
    assert b.step.explain() == "every call is compiled"


def test_a_gradient_from_elsewhere_that_is_returned() -> None:
    weight = nn.Parameter(np.array([1.0, 2.0]))
    compiled = compile(lambda x: (x * 1, weight.grad))
    for i in range(6):
        weight.grad = Tensor(np.array([float(i), 1.0]))
        assert compiled(Tensor([1.0]))[1].tolist() == [i, 1]
    assert compiled.programs, compiled.explain()


@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("of", ["net", "optimizer"])
def test_every_way_to_forget_gradients_inside(to_none: bool, of: str) -> None:
    def made(learner: Learner) -> Any:
        owner = getattr(learner, of)
        return plain(learner, forget=lambda: owner.zero_grad(set_to_none=to_none))

    a, b = twins(made)
    together(a, b, 6)
    assert b.step.programs, b.step.explain()


@pytest.mark.one_in(4)
@pytest.mark.one_in(3)
@pytest.mark.parametrize("how", ["norm", "inf", "one", "value"])
def test_clipped_gradients(how: str) -> None:
    def made(learner: Learner) -> Any:
        net, optimizer = learner.net, learner.optimizer

        def step(x: Tensor, y: Tensor) -> Any:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            norm = None
            if how == "value":
                optim.clip_grad_value_(net.parameters(), 0.01)
            else:
                order = {"norm": 2.0, "inf": np.inf, "one": 1.0}[how]
                norm = optim.clip_grad_norm_(net.parameters(), limit, order)
            optimizer.step()
            return loss, norm

        return step

    for limit in (0.1, 100.0):  # noqa: B007 (read by the step)
        a, b = twins(made)
        together(a, b, 6)
        assert b.step.programs, b.step.explain()


def test_a_gradient_that_cannot_be_scaled_leaves_all_as_it_was() -> None:
    def made(learner: Learner) -> Any:
        def clip() -> Any:
            return optim.clip_grad_norm_(learner.net.parameters(), 1.0, error_if_nonfinite=True)

        return plain(learner, clip=clip)

    a, b = twins(made)
    together(a, b)
    bad = Tensor(np.full((6, 4), np.nan, np.float32))
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"a finite norm to scale to 1\.0, got nan\."):
            b.step(bad, batch()[1])
        alike(a, b)
    together(a, b)


# ------------------------------------------------------------------ what cannot be recorded


REFUSED: dict[str, Callable[[Tensor], Any]] = {
    ".item()": lambda x: x.sum().item(),
    "float()": lambda x: float(x.sum()),
    "int()": lambda x: int(x.sum()),
    "bool() or `if`": lambda x: 1 if x.sum() > 0 else 2,
    ".tolist()": lambda x: x.tolist(),
    "np.asarray()": lambda x: np.asarray(x),
    ".numpy()": lambda x: x.numpy(),
    "an index": lambda x: [1, 2, 3][x.sum()],  # type: ignore[call-overload]
    "repr() or print()": lambda x: f"{x}",
    "`in`": lambda x: 1 in x,
}


@pytest.mark.parametrize("what", REFUSED)
def test_asking_for_elements_names_the_line(what: str) -> None:
    f = REFUSED[what]
    compiled = compile(f)
    x = Tensor(np.array([1, 0]))
    f(x)
    for _ in range(3):
        with pytest.raises(CaptureError, match=re.escape(what)) as caught:
            compiled(x)
        line = f.__code__.co_firstlineno
        assert f"{__file__}:{line}" in str(caught.value)
        assert "tk.where" in str(caught.value)
    f(x)


def test_a_branch_on_a_loss_leaves_the_net_as_it_was() -> None:
    def made(learner: Learner) -> Any:
        step = plain(learner)

        def branching(x: Tensor, y: Tensor) -> Any:
            loss = step(x, y)
            return 1 if loss < 0 else 2

        return branching

    _, b = twins(made)
    before = copy.deepcopy(b.net.state_dict())
    for _ in range(3):
        with pytest.raises(CaptureError):
            b.step(*batch())
        close(before, b.net.state_dict())
        assert all(p.grad is None for p in b.net.parameters())
        assert not b.optimizer.state


@pytest.mark.parametrize("own", [False, True])
def test_a_refused_trace_leaves_generators_as_they_were(own: bool) -> None:
    generator = np.random.default_rng(3) if own else tk.manual_seed(3)

    @compile
    def step(x: Tensor) -> Any:
        noisy = F.dropout(x + tk.randn(4, generator=generator), 0.5, generator=generator)
        return 1 if noisy.sum() < 0 else 2

    before = generator.bit_generator.state
    for _ in range(3):
        with pytest.raises(CaptureError):
            step(tk.ones(4))
        assert generator.bit_generator.state == before


def test_what_is_run_as_written_says_why() -> None:
    weight = nn.Parameter(np.array([1.0, 2.0]))
    plain_array = np.arange(3.0)

    def data(x: Tensor) -> Any:
        return Tensor(weight.data.sum()) * x

    def history(x: Tensor) -> Any:
        return weight * x

    def sorts(x: Tensor) -> Any:
        return tk.sort(x).values

    def part(x: Tensor) -> Any:
        with tk.no_grad():
            weight[0] = x[0]
        return x * 1

    def found(x: Tensor) -> Any:
        return plain_array

    for f, reason in (
        (data, ".data"),
        (history, "history"),
        (sorts, "sorts"),
        (part, "with an index"),
        (found, "no op has made"),
    ):
        compiled = compile(f)
        for i in range(4):
            x = Tensor([float(3 - i), float(i)])
            close(f(x), compiled(x))
        assert not compiled.programs
        assert reason in compiled.explain()
        if f is not history and f is not found:
            assert f"{__file__}:" in compiled.explain()


def test_functions_of_numpy_that_look_at_elements_are_not_frozen() -> None:
    for f in (
        lambda x: x.argsort() + 0,
        lambda x: tk.topk(x, 2).values,
        lambda x: tk.nonzero(x > 1).sum() + x.sum(),
        lambda x: np.partition(x, 1),
        lambda x: F.one_hot(x.astype(np.int64)).sum() + 0,
        lambda x: np.where(x > 1, x, -x),
        lambda x: tk.take_along_axis(x, (x * 0).astype(np.int64), 0),
        lambda x: tk.max(x, 0),
        lambda x: x.min(0, keepdim=True),
        lambda x: x.median() * x + x.median(axis=0),
        lambda x: (x.median(0), x.mode(0), x.kthvalue(2), x.cummax(0), x.cummin(axis=0)),
        lambda x: F.max_pool1d(x.reshape(1, 1, -1), 2, return_indices=True),
    ):
        compiled = compile(f)
        rows = [Tensor(np.array(row)) for row in ([1.0, 2, 3, 0], [3.0, 1, 0, 2], [0.0, 4, 1, 2])]
        for row in (0, 0, 0, 1, 2, 0):
            close(tuple(tk_leaves(f(rows[row]))), tuple(tk_leaves(compiled(rows[row]))))


def tk_leaves(result: Any) -> Iterator[Any]:
    if isinstance(result, tuple):
        for part in result:
            yield from tk_leaves(part)
    else:
        yield result


# ------------------------------------------------------------------ errors


def test_a_label_out_of_range_in_any_call_leaves_all_as_it_was() -> None:
    for good in range(5):
        a, b = twins(net_with_statistics)
        together(a, b, good)
        before = copy.deepcopy(b.net.state_dict())
        bad = Tensor(np.array([0, 1, 2, 3, 0, 0]))
        for _ in range(2):
            with pytest.raises(IndexError, match=r"label: expected one in \[0, 3\), got 3 at \("):
                b.step(batch()[0], bad)
            alike(a, b)
            close(before, b.net.state_dict())
        together(a, b, 4, first=good)


def net_with_statistics(learner: Learner) -> Any:
    learner.net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    with tk.no_grad():
        for i, p in enumerate(learner.net.parameters()):
            p.copy_(np.cos(np.arange(p.size) + i).reshape(p.shape))
    learner.optimizer = optim.SGD(learner.net.parameters(), lr=0.1, momentum=0.9)
    return plain(learner)


def test_a_parameter_that_is_read_only_is_not_written_to() -> None:
    a, b = twins()
    together(a, b)
    weight = b.net[2].weight
    for _ in range(2):
        weight.data = weight.data.copy()
        weight.data.flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            b.step(*batch())
        alike(a, b)
    weight.data = weight.data.copy()
    together(a, b)
    with tk.detect_anomaly():
        loss = F.cross_entropy(b.net(batch()[0]), batch()[1])
    with pytest.raises(ValueError, match="read-only"):
        b.step(*batch())
    del loss
    together(a, b)


@pytest.mark.parametrize("adam", [False, True])
def test_two_updates_of_which_the_second_fails(adam: bool) -> None:
    def made(learner: Learner) -> Any:
        step = plain(learner)

        def two(x: Tensor, y: Tensor, z: Tensor) -> Any:
            return step(x, y), step(x, z)

        return two

    a, b = twins(made)
    for learner in (a, b) if adam else ():
        learner.optimizer = optim.Adam(learner.net.parameters(), lr=0.01)
        learner.step = made(learner) if learner is a else compile(made(learner))
    x, y = batch()
    for i in range(6):
        if i in (1, 3, 5):
            with pytest.raises(IndexError, match=r"label: expected one in \[0, 3\), got 3 at \("):
                b.step(x, y, y + 3 - y)
            alike(a, b)
        close(list(a.step(x, y, y)), list(b.step(x, y, y)))
        alike(a, b)


def test_an_error_of_the_function_itself() -> None:
    def made(learner: Learner) -> Any:
        step = plain(learner)

        def failing(x: Tensor, y: Tensor, fail: bool) -> Any:
            loss = step(x, y)
            if fail:
                raise KeyError("enough")
            return loss

        return failing

    a, b = twins(made)
    for calls in range(6):
        if calls % 2:
            with pytest.raises(KeyError, match="enough"):
                b.step(*batch(), True)
            alike(a, b)
        close(a.step(*batch(), False), b.step(*batch(), False))
        alike(a, b)
    assert tk.is_grad_enabled()


def test_labels_to_ignore_first_absent_then_present() -> None:
    a, b = twins()
    x, y = batch()
    for ignored in (0, 0, 0, 3, 6, 0, 1):
        labels = y.numpy().copy()
        labels[:ignored] = -100
        expected, found = a.step(x, Tensor(labels)), b.step(x, Tensor(labels))
        close(expected, found)
        alike(a, b)
    assert len(b.step.programs) == 1


# ------------------------------------------------------------------ modes, threads, nesting


def test_called_under_no_grad_and_anomaly_mode() -> None:
    net = nn.Linear(4, 3)
    f = compile(lambda x: net(x).detach())
    x = batch()[0]
    contexts: list[Callable[[], AbstractContextManager[Any]]] = [
        nullcontext,
        tk.no_grad,
        tk.detect_anomaly,
        tk.enable_grad,
    ]
    for _ in range(4):
        for context in contexts:
            with context():
                close(net(x).detach(), f(x))
    assert "detect_anomaly" in f.explain()
    a, b = twins()
    for i in range(8):
        with tk.detect_anomaly() if i % 3 == 2 else nullcontext():
            together(a, b, 1, first=i)
    bad = Tensor(np.full((6, 4), np.inf, np.float32))
    settled(b.step, bad, batch()[1])
    with pytest.raises(FloatingPointError), tk.detect_anomaly():
        b.step(bad, batch()[1])


def test_compiled_functions_in_compiled_functions() -> None:
    a, b = twins()
    inner = compile(lambda x: x * 2)

    def made(learner: Learner) -> Any:
        step = plain(learner)
        compiled = compile(step)

        def outer(x: Tensor, y: Tensor) -> Any:
            return compiled(inner(x), y)

        return outer

    a, b = twins(made)
    together(a, b, 6)
    assert b.step.programs, b.step.explain()


def test_the_same_function_from_two_threads() -> None:
    f = compile(lambda x: ((x * 2 + 1) @ x.T).sum(axis=0))
    g = compile(lambda x: (tk.exp(-x) * x).sum(axis=0))
    xs = [Tensor(RANDOM.random((30, 30))) for _ in range(4)]
    expected = [(f.function(x), g.function(x)) for x in xs]
    errors: list[BaseException] = []

    def work(i: int) -> None:
        try:
            for _ in range(60):
                close(expected[i], (f(xs[i]), g(xs[i])))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]
    assert len(f.programs) == len(g.programs) == 1


def test_two_steps_in_two_threads() -> None:
    pairs = [twins(dropping if i % 2 else plain) for i in range(2)]
    errors: list[BaseException] = []

    def work(a: Learner, b: Learner) -> None:
        try:
            for i in range(40):
                b.step(*batch(seed=i))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]
    a, b = pairs[0]
    for i in range(40):
        a.step(*batch(seed=i))
    alike(a, b)
    assert pairs[1][1].step.programs, pairs[1][1].step.explain()


def test_checkpoints_inside() -> None:
    a, b = twins(lambda learner: plain(learner, lambda x: tk.checkpoint(learner.net, x)))
    together(a, b, 6)
    assert b.step.programs, b.step.explain()


def test_a_leaf_made_inside() -> None:
    net = nn.Linear(4, 1)

    def sensitivity(x: Tensor) -> Any:
        x = x.detach().requires_grad_()
        net(x).sum().backward()
        net.zero_grad()
        return x.grad

    compiled = compile(sensitivity)
    for i in range(5):
        close(sensitivity(batch(seed=i)[0]), compiled(batch(seed=i)[0]))
    assert compiled.programs, compiled.explain()


def test_tensors_made_and_written_inside() -> None:
    def f(x: Tensor) -> Any:
        total = tk.zeros(2)
        for i in range(3):
            total += x * i
        mean = Tensor(np.array([1.0, 2.0], np.float32))
        mean.copy_(total / 3)
        return total, mean, tk.ones(2)

    compiled = compile(f)
    for i in range(5):
        x = Tensor(np.array([i, 2], np.float32))
        close(f(x), compiled(x))
    assert compiled.programs, compiled.explain()


def test_tensors_that_share_memory() -> None:
    memory = np.arange(4.0)
    whole, first = Tensor(memory), Tensor(memory[:2])
    rest = Tensor(memory[2:])

    def writes(x: Tensor) -> Any:
        before = whole * 1
        first.copy_(first * 2 + x)
        return before, whole * 1, first * 1

    def later(x: Tensor) -> Any:
        first.copy_(first * 2 + x)
        return whole * 1

    def before(x: Tensor) -> Any:
        total = whole * 2
        first.copy_(total[2:] + x)
        return total

    def apart(x: Tensor) -> Any:
        first.copy_(rest + x)
        return first * rest

    x = Tensor([1.0, 1.0])
    for f in (writes, later, before, apart):
        compiled = compile(f)
        for i in range(5):
            memory[...] = np.arange(4.0) + i
            expected = copy.deepcopy(f(x))
            memory[...] = np.arange(4.0) + i
            close(expected, compiled(x))
        assert bool(compiled.programs) == (f is apart), compiled.explain()


def test_graphs_from_before_a_compiled_step_notice_it() -> None:
    _, b = twins()
    b.step(*batch())
    settled(b.step, *batch())
    loss = F.cross_entropy(b.net(batch()[0]), batch()[1])
    replayed(b.step, *batch())
    with pytest.raises(RuntimeError, match="compiled step"):
        loss.backward()


def test_constants_found_outside_are_read_at_each_call() -> None:
    table, mask = Tensor(np.arange(6.0).reshape(3, 2)), np.array([True, False, True])
    index = np.array([2, 0])
    rows = Tensor(np.array([1, 1]))

    def f(x: Tensor) -> Any:
        return table[index] + x, table[rows] * x, x * np.float64(2), tk.where(mask, x[0], 1.0)

    compiled = compile(f)
    x = Tensor(np.array([1.0, 2.0]))
    for change in (
        lambda: None,
        lambda: None,
        lambda: None,
        lambda: table.fill_(3.0),
        lambda: index.__setitem__(0, 1),
        lambda: rows.__setitem__(0, 2),
        lambda: mask.__setitem__(0, False),
        lambda: setattr(rows, "data", np.array([0, 0])),
        lambda: setattr(table, "data", np.arange(6.0).reshape(3, 2) ** 2),
    ):
        change()
        close(f(x), compiled(x))
    assert compiled.programs, compiled.explain()


def test_a_compiled_function_is_one() -> None:
    assert isinstance(compile(lambda x: x), Compiled)


def gradient_of(function: Callable[[Tensor], Any], x: Any) -> Any:
    leaf = tk.tensor(x, requires_grad=True)
    function(leaf).backward()
    return leaf.grad


MADE_OF_AN_ARRAY: dict[str, Callable[[Any], Any]] = {
    "tensor": tk.tensor,
    "tensor, computed with": lambda x: tk.tensor(x) * 2,
    "tensor, another dtype": lambda x: tk.tensor(x, dtype=np.float32),
    "tensor of a bool": lambda x: tk.tensor(x > 2),
    "Tensor": Tensor,
    "Tensor, beside the array": lambda x: (Tensor(x), x * 1),
    "Tensor, computed with": lambda x: Tensor(x) * x,
    "Tensor, another dtype": lambda x: Tensor(x, dtype=np.float32) + 1,
    "Tensor of what is computed": lambda x: Tensor(x * 2),
    "a leaf, detached": lambda x: tk.tensor(x, requires_grad=True).detach(),
    "full": lambda x: tk.full((2,), tk.tensor(x).sum()),
    "clone of a bool": lambda x: (tk.tensor(x) > 2).clone(),
    "zeros_like": lambda x: tk.zeros_like(tk.tensor(x)),
    "a gradient that is constant": lambda x: gradient_of(lambda leaf: leaf.sum(), x),
    "a gradient of the array": lambda x: gradient_of(lambda leaf: (leaf * x).sum(), x),
    "twice a gradient": lambda x: gradient_of(lambda leaf: (leaf * x).sum(), x) * 2,
    "autograd.grad": lambda x: tk.autograd.grad((y := tk.tensor(x, requires_grad=True)).sum(), y),
    "grad of a Tensor": lambda x: tk.grad(lambda y: (y * y).sum())(tk.tensor(x)),
    "checkpoint": lambda x: tk.checkpoint(np.sin, x),
    "grad of an array": lambda x: tk.grad(lambda y: (y * y).sum())(x),
}


@pytest.mark.parametrize("name", MADE_OF_AN_ARRAY)
def test_what_is_made_of_an_argument_follows_it_and_is_of_its_kind(name: str, backend: str) -> None:
    """A Tensor made without an op, and a gradient: stale, or an array, where it was not watched."""
    function = MADE_OF_AN_ARRAY[name]
    compiled = Compiled(function)
    for scale in (1.0, 1.0, 2.0, 3.0):
        x = np.array([1.0, 2.0]) * scale
        close(function(x), compiled(x), f"scale {scale}")


def test_a_write_to_a_tensor_of_an_argument_reaches_the_argument(backend: str) -> None:
    def function(x: Any) -> Any:
        made = Tensor(x)
        made.zero_()
        return made + 1

    compiled = Compiled(function)
    for _ in range(3):
        x = np.ones(2)
        close(Tensor(np.ones(2)), compiled(x))
        assert not x.any()
