"""Update rules against their formulas, and the optimizer that runs them over all parameters."""

from __future__ import annotations

import copy
import json
import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tinygrad_kr import Tensor, detect_anomaly, no_grad, optim
from tinygrad_kr.autograd import MutationError
from tinygrad_kr.optim import Optimizer, blocks, rules

ALL: dict[str, Callable[..., Optimizer]] = {
    "sgd": lambda p, **o: optim.SGD(p, **{"lr": 0.1} | o),
    "momentum": lambda p, **o: optim.SGD(p, **{"lr": 0.05, "momentum": 0.9} | o),
    "nesterov": lambda p, **o: optim.SGD(p, **{"lr": 0.05, "momentum": 0.9, "nesterov": True} | o),
    "adagrad": lambda p, **o: optim.Adagrad(p, **{"lr": 0.5} | o),
    "rmsprop": lambda p, **o: optim.RMSprop(p, **{"lr": 0.02} | o),
    "rmsprop-all": lambda p, **o: optim.RMSprop(p, **{"centered": True, "momentum": 0.5} | o),
    "adadelta": lambda p, **o: optim.Adadelta(p, **{"lr": 0.3, "eps": 0.1} | o),
    "adam": lambda p, **o: optim.Adam(p, **{"lr": 0.1} | o),
    "amsgrad": lambda p, **o: optim.Adam(p, **{"lr": 0.1, "amsgrad": True} | o),
    "adamw": lambda p, **o: optim.AdamW(p, **{"lr": 0.1} | o),
    "nadam": lambda p, **o: optim.NAdam(p, **{"lr": 0.1} | o),
}
every = pytest.mark.parametrize("make", ALL.values(), ids=ALL)


def leaf(array: Any, dtype: Any = np.float64) -> Tensor:
    return Tensor(np.asarray(array, dtype), requires_grad=True)


def with_gradients(*arrays: Any, seed: int = 0) -> list[Tensor]:
    """Leaves with random gradients."""
    leaves = [leaf(array) for array in arrays]
    renew(leaves, np.random.default_rng(seed))
    return leaves


def renew(leaves: list[Tensor], generator: np.random.Generator) -> None:
    for p in leaves:
        p.grad = Tensor(generator.standard_normal(p.shape).astype(p.dtype))


# ------------------------------------------------------------------ formulas, as in the papers


def sgd_by_hand(
    g: list[float], lr: float, momentum: float, dampening: float, nesterov: bool
) -> float:
    x, b = 1.0, None
    for gradient in g:
        b = gradient if b is None else momentum * b + (1 - dampening) * gradient
        x -= lr * (gradient + momentum * b if nesterov else b)
    return x


def adagrad_by_hand(g: list[float], lr: float, decay: float, start: float) -> float:
    x, s = 1.0, start
    for t, gradient in enumerate(g, 1):
        s += gradient**2
        x -= lr / (1 + (t - 1) * decay) * gradient / (math.sqrt(s) + 1e-10)
    return x


def rmsprop_by_hand(
    g: list[float], lr: float, alpha: float, momentum: float, centered: bool
) -> float:
    x, v, m, b = 1.0, 0.0, 0.0, 0.0
    for gradient in g:
        v = alpha * v + (1 - alpha) * gradient**2
        m = alpha * m + (1 - alpha) * gradient
        b = momentum * b + gradient / (math.sqrt(v - m**2 if centered else v) + 1e-8)
        x -= lr * b
    return x


def adadelta_by_hand(g: list[float], lr: float, rho: float, eps: float) -> float:
    x, v, u = 1.0, 0.0, 0.0
    for gradient in g:
        v = rho * v + (1 - rho) * gradient**2
        d = math.sqrt(u + eps) / math.sqrt(v + eps) * gradient
        u = rho * u + (1 - rho) * d**2
        x -= lr * d
    return x


def adam_by_hand(
    g: list[float], lr: float, decay: float = 0.0, amsgrad: bool = False, decoupled: bool = False
) -> float:
    x, m, v, largest = 1.0, 0.0, 0.0, 0.0
    for t, gradient in enumerate(g, 1):
        if decoupled:
            x -= lr * decay * x
        else:
            gradient += decay * x
        m = 0.9 * m + 0.1 * gradient
        v = 0.99 * v + 0.01 * gradient**2
        largest = max(largest, v)
        v_hat = (largest if amsgrad else v) / (1 - 0.99**t)
        x -= lr * (m / (1 - 0.9**t)) / (math.sqrt(v_hat) + 1e-3)
    return x


def nadam_by_hand(g: list[float], lr: float, decay: float) -> float:
    def mu(t: int) -> float:
        return 0.9 * (1 - 0.5 * 0.96 ** (t * decay))

    x, m, v = 1.0, 0.0, 0.0
    for t, gradient in enumerate(g, 1):
        m = 0.9 * m + 0.1 * gradient
        v = 0.99 * v + 0.01 * gradient**2
        product = math.prod(mu(i) for i in range(1, t + 1))
        look_ahead = mu(t + 1) * m / (1 - product * mu(t + 1)) + (1 - mu(t)) * gradient / (
            1 - product
        )
        x -= lr * look_ahead / (math.sqrt(v / (1 - 0.99**t)) + 1e-3)
    return x


BETAS = {"betas": (0.9, 0.99), "eps": 1e-3}
BY_HAND: list[tuple[Any, dict[str, Any], Callable[[list[float]], float]]] = [
    (optim.SGD, {"lr": 0.1}, lambda g: sgd_by_hand(g, 0.1, 0, 0, False)),
    (
        optim.SGD,
        {"lr": 0.1, "momentum": 0.8, "dampening": 0.3},
        lambda g: sgd_by_hand(g, 0.1, 0.8, 0.3, False),
    ),
    (
        optim.SGD,
        {"lr": 0.1, "momentum": 0.8, "nesterov": True},
        lambda g: sgd_by_hand(g, 0.1, 0.8, 0, True),
    ),
    (
        optim.SGD,
        {"lr": 0.1, "maximize": True},
        lambda g: sgd_by_hand([-x for x in g], 0.1, 0, 0, False),
    ),
    (optim.Adagrad, {"lr": 0.1}, lambda g: adagrad_by_hand(g, 0.1, 0, 0)),
    (
        optim.Adagrad,
        {"lr": 0.1, "lr_decay": 0.2, "initial_accumulator_value": 0.3},
        lambda g: adagrad_by_hand(g, 0.1, 0.2, 0.3),
    ),
    (optim.RMSprop, {"lr": 0.1, "alpha": 0.8}, lambda g: rmsprop_by_hand(g, 0.1, 0.8, 0, False)),
    (
        optim.RMSprop,
        {"lr": 0.1, "alpha": 0.8, "momentum": 0.7, "centered": True},
        lambda g: rmsprop_by_hand(g, 0.1, 0.8, 0.7, True),
    ),
    (
        optim.Adadelta,
        {"lr": 0.9, "rho": 0.8, "eps": 1e-2},
        lambda g: adadelta_by_hand(g, 0.9, 0.8, 1e-2),
    ),
    (optim.Adam, {"lr": 0.1, **BETAS}, lambda g: adam_by_hand(g, 0.1)),
    (
        optim.Adam,
        {"lr": 0.1, **BETAS, "amsgrad": True, "weight_decay": 0.2},
        lambda g: adam_by_hand(g, 0.1, 0.2, amsgrad=True),
    ),
    (
        optim.AdamW,
        {"lr": 0.1, **BETAS, "weight_decay": 0.2},
        lambda g: adam_by_hand(g, 0.1, 0.2, decoupled=True),
    ),
    (
        optim.AdamW,
        {"lr": 0.1, **BETAS, "weight_decay": 0.2, "maximize": True},
        lambda g: adam_by_hand([-x for x in g], 0.1, 0.2, decoupled=True),
    ),
    (
        optim.NAdam,
        {"lr": 0.1, **BETAS, "momentum_decay": 0.3},
        lambda g: nadam_by_hand(g, 0.1, 0.3),
    ),
]


@pytest.mark.parametrize(
    ("kind", "options", "by_hand"),
    BY_HAND,
    ids=[f"{kind.__name__}-{'-'.join(options)}" for kind, options, _ in BY_HAND],
)
def test_formula(
    kind: Any, options: dict[str, Any], by_hand: Callable[[list[float]], float]
) -> None:
    gradients = np.random.default_rng(0).standard_normal(50).tolist()
    p = leaf(1.0)
    optimizer = kind([p], **options)
    for g in gradients:
        p.grad = Tensor(np.asarray(g))
        optimizer.step()
    assert p.item() == pytest.approx(by_hand(gradients), rel=1e-12)


# ------------------------------------------------------------------ learning


@pytest.mark.trains
@every
def test_finds_the_minimum_of_a_quadratic(make: Any) -> None:
    x, y = leaf([3.0, -2.0]), leaf([[0.5]])
    optimizer = make([x, y])
    for _ in range(400):
        optimizer.zero_grad()
        loss = ((x - 1) ** 2).sum() + 2 * (y + 0.5).square().sum() + (x.sum() * y).sum()
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(x.data, [5 / 3, 5 / 3], atol=0.1)
    np.testing.assert_allclose(y.data, [[-4 / 3]], atol=0.1)


def test_step_with_a_closure() -> None:
    x = leaf([3.0])
    optimizer = optim.SGD([x], lr=0.25)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (x * x).sum()
        loss.backward()
        return loss

    with no_grad():
        assert optimizer.step(closure).item() == 9.0
    assert x.data.tolist() == [1.5]


def test_maximize_climbs() -> None:
    (x,) = with_gradients(np.zeros(2))
    x.grad = Tensor(np.array([1.0, -2.0]))
    optim.SGD([x], lr=0.5, maximize=True).step()
    assert x.data.tolist() == [0.5, -1.0]


# ------------------------------------------------------------------ one rule, any layout


def layouts() -> dict[str, list[np.ndarray]]:
    """Parameters of every size and memory layout, with the same elements every time."""
    generator = np.random.default_rng(5)

    def draw(*shape: int, dtype: Any = np.float64) -> np.ndarray:
        return generator.standard_normal(shape).astype(dtype)

    return {
        "0-d": [draw(), draw()],
        "empty": [draw(0, 3), draw(2), draw(0)],
        "only empty": [draw(0, 3)],
        "small": [draw(3, 4), draw(4), draw(2, 2, 2)],
        "large": [draw(50, 40), draw(7), draw(3000)],
        "fortran": [np.asfortranarray(draw(3, 4)), draw(3)],
        "large fortran": [np.asfortranarray(draw(50, 40)), draw(3)],
        "sliced": [draw(6, 8)[::2, 1::3], draw(20)[::-2], draw(4)],
        "large sliced": [draw(120, 80)[::2, ::-2]],
        "mixed": [draw(3), draw(3, dtype=np.float32), draw(60, 60, dtype=np.float32), draw(2)],
    }


@every
@pytest.mark.parametrize("layout", layouts())
@pytest.mark.parametrize("order", ["C", "F"])
def test_equals_the_rule_applied_to_each_parameter(
    make: Any, layout: str, order: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "CHUNK", 1 << 12)
    monkeypatch.setattr(blocks, "SMALL", 1 << 9)
    arrays = layouts()[layout]
    params = [Tensor(array, requires_grad=True) for array in arrays]
    optimizer = make(params, weight_decay=0.01)
    options = {name: optimizer.param_groups[0][name] for name in optimizer.defaults}
    expected = [(np.array(array), {}) for array in arrays]
    generator = np.random.default_rng(6)
    for _ in range(4):
        gradients = [generator.standard_normal(a.shape).astype(a.dtype) for a in arrays]
        for p, g in zip(params, gradients, strict=True):
            p.grad = Tensor(np.asarray(g, order=order))
        optimizer.step()
        for i, g in enumerate(gradients):
            x, state = expected[i]
            x, new = type(optimizer).rule(x, g, state, **options)
            expected[i] = (np.asarray(x), {**state, **new})
    for p, array, (x, state) in zip(params, arrays, expected, strict=True):
        assert p.data is array
        assert x.dtype == array.dtype
        tolerance = 1e-5 if array.dtype == np.float32 else 1e-12
        np.testing.assert_allclose(array, x, rtol=tolerance, atol=tolerance)
        kept = optimizer.state.get(p, {})
        assert set(kept) == set(state)
        for name in state:
            np.testing.assert_allclose(kept[name], state[name], rtol=tolerance, atol=tolerance)
            assert np.shape(kept[name]) == np.shape(state[name])


def test_rules_run_on_tensors() -> None:
    x = leaf([1.0, 2.0])
    updated, state = rules.adam(x, x * x, {}, lr=0.1)
    assert isinstance(updated, Tensor)
    assert state["step"] == 1
    expected, _ = rules.adam(x.data, x.data**2, {}, lr=0.1)
    np.testing.assert_allclose(updated.detach().numpy(), expected)
    updated.sum().backward()
    assert x.grad is not None


def test_parameters_that_share_memory_are_updated_one_after_the_other() -> None:
    memory = np.array([1.0, 2.0, 3.0])
    first, second = Tensor(memory, requires_grad=True), Tensor(memory[1:], requires_grad=True)
    first.grad, second.grad = Tensor(np.ones(3)), Tensor(np.ones(2))
    optim.SGD([first, second], lr=0.5).step()
    assert memory.tolist() == [0.5, 1.0, 2.0]


def test_nonfinite_gradients_are_applied_without_a_warning() -> None:
    (x,) = with_gradients(np.zeros(3))
    x.grad = Tensor(np.array([np.inf, np.nan, 1e200]))
    optim.Adam([x], lr=0.1).step()
    assert np.isnan(x.data[:2]).all()
    y = leaf([1.0, 2.0], np.float32)
    y.grad = Tensor(np.array([3e38, -3e38], np.float32))
    optim.Adagrad([y], lr=1e300, eps=0).step()
    z = leaf([1.0, 2.0])
    z.grad = Tensor(np.array([np.inf, -np.inf]))
    optim.SGD([z], lr=0.1).step()
    assert z.data.tolist() == [-np.inf, np.inf]


# ------------------------------------------------------------------ which parameters, and when


@every
def test_a_parameter_without_gradient_is_left_alone(make: Any) -> None:
    a, b, c = with_gradients(np.ones(3), np.ones(2), np.ones((2, 2)))
    alone = with_gradients(np.ones(2))[0]
    optimizer, other = make([a, b, c]), make([alone])
    generator = np.random.default_rng(1)
    for step in range(12):
        renew([a, b, c], generator)
        if step in (0, 1, 4, 5, 9):
            b.grad = None
            before = b.data.copy(), copy.deepcopy(optimizer.state.get(b))
        else:
            assert b.grad is not None
            alone.grad = Tensor(b.grad.data.copy())
            other.step()
        optimizer.step()
        if b.grad is None:
            assert b.data.tolist() == before[0].tolist()
            assert str(optimizer.state.get(b)) == str(before[1])
    np.testing.assert_allclose(b.data, alone.data, rtol=1e-13)


def test_frozen_parameters_are_left_alone() -> None:
    frozen = Tensor(np.ones(2))
    x = leaf(np.ones(2))
    optimizer = optim.Adam([frozen, x])
    (frozen * x).sum().backward()
    optimizer.step()
    assert frozen.data.tolist() == [1, 1]
    assert x.data.tolist() != [1, 1]
    assert list(optimizer.state_dict()["state"]) == [1]


def test_replaced_data_is_followed() -> None:
    a, b = with_gradients(np.ones(3), np.ones(2))
    optimizer = optim.SGD([a, b], lr=1.0, momentum=0.5)
    for scale in (1.0, 1.0, 1.0, 0.0):
        old = a.data
        if scale == 0:
            a.data = np.full(3, 7.0)
        a.grad, b.grad = Tensor(np.full(3, scale)), Tensor(np.full(2, scale))
        optimizer.step()
    moved = 1 + 1.5 + 1.75
    assert old.tolist() == [1 - moved] * 3
    assert a.data.tolist() == [7 - 1.75 / 2] * 3
    assert b.data.tolist() == [1 - moved - 1.75 / 2] * 2


def test_another_dtype_is_followed() -> None:
    a = leaf([1.0, 2.0], np.float32)
    optimizer = optim.SGD([a], lr=1.0, momentum=0.5)
    a.grad = Tensor(np.zeros(2, np.float32))
    optimizer.step()
    a.grad = Tensor(np.zeros(2, np.float32))
    optimizer.step()
    a.grad = Tensor(np.ones(2, np.float32))
    optimizer.step()
    a.grad = None
    a.data = a.data.astype(np.float64)
    a.grad = Tensor(np.zeros(2))
    optimizer.step()
    assert a.dtype == np.float64
    assert a.data.tolist() == [-0.5, 0.5]
    assert optimizer.state[a]["momentum_buffer"].dtype == np.float64


def test_learning_rate_and_options_may_change_at_any_time() -> None:
    (x,) = with_gradients(np.zeros(2))
    optimizer = optim.SGD([x], lr=1.0)
    moves = []
    for lr, momentum in ((1.0, 0.0), (0.5, 0.0), (0.0, 0.0), (0.25, 0.5), (0.25, 0.5)):
        optimizer.param_groups[0].update(lr=lr, momentum=momentum)
        x.grad = Tensor(np.ones(2))
        before = x.data.copy()
        optimizer.step()
        moves.append((before - x.data)[0])
    assert moves == [1.0, 0.5, 0.0, 0.25, 0.25 * 1.5]
    optimizer.param_groups[0]["lr"] = "fast"
    with pytest.raises(TypeError, match=r"SGD: expected a number for lr, got 'fast'\."):
        optimizer.step()


def test_groups() -> None:
    a, b, c = with_gradients(np.zeros(2), np.zeros(2), np.zeros(2))
    optimizer = optim.SGD([{"params": a, "lr": 1.0}, {"params": [b], "name": "slow"}], lr=0.1)
    optimizer.add_param_group({"params": (p for p in [c]), "lr": 10.0, "maximize": True})
    for p in (a, b, c):
        p.grad = Tensor(np.ones(2))
    optimizer.step()
    assert [p.data[0] for p in (a, b, c)] == [-1.0, -0.1, 10.0]
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.1, 10.0]
    assert optimizer.param_groups[1]["name"] == "slow"
    assert "Parameter Group 2" in repr(optimizer)
    assert "lr: 10.0" in repr(optimizer)


def test_a_group_may_be_added_between_steps() -> None:
    a, b = with_gradients(np.zeros(2), np.zeros(3))
    optimizer = optim.Adam([a], lr=0.1)
    for seed in range(3):
        optimizer.step()
        renew([a], np.random.default_rng(seed))
    optimizer.add_param_group({"params": [b]})
    optimizer.step()
    assert [optimizer.state[p]["step"] for p in (a, b)] == [4, 1]


def test_zero_grad() -> None:
    a, b = with_gradients(np.ones(2), np.ones((2, 3)))
    b.grad = None
    held = a.grad
    assert held is not None
    optimizer = optim.SGD([a, b])
    optimizer.zero_grad(set_to_none=False)
    assert a.grad is not None
    assert a.grad.data.tolist() == [0, 0]
    assert b.grad is None
    assert held.data.any()
    optimizer.zero_grad()
    assert a.grad is None


# ------------------------------------------------------------------ state


def trained(make: Any, steps: int = 3) -> tuple[list[Tensor], Optimizer]:
    params = with_gradients(np.ones((2, 3)), np.ones(()), np.ones((30, 40)), np.ones(4))
    optimizer = make([{"params": params[:2], "lr": 0.03}, {"params": params[2:]}])
    generator = np.random.default_rng(2)
    for step in range(steps):
        renew(params, generator)
        if step % 2:
            params[1].grad = None
        params[3].grad = None
        optimizer.step()
    return params, optimizer


@every
def test_goes_on_from_its_state_bitwise(make: Any) -> None:
    params, optimizer = trained(make)
    copies = [leaf(p.data.copy()) for p in params]
    through_files = pickle.loads(pickle.dumps(optimizer.state_dict()))
    resumed = make([{"params": copies[:2]}, {"params": copies[2:], "lr": 5.0}])
    resumed.load_state_dict(through_files)
    generator = np.random.default_rng(3)
    for _ in range(5):
        renew(params, generator)
        for p, q in zip(params, copies, strict=True):
            q.grad = None if p.grad is None else Tensor(p.grad.data.copy())
        optimizer.step()
        resumed.step()
    for p, q in zip(params, copies, strict=True):
        assert p.data.tobytes() == q.data.tobytes()
    assert str(optimizer.state_dict()) == str(resumed.state_dict())


@every
def test_the_state_dict_is_a_copy_of_arrays_and_plain_values(make: Any) -> None:
    params, optimizer = trained(make)
    saved = optimizer.state_dict()
    kept = copy.deepcopy(saved)
    renew(params, np.random.default_rng(4))
    optimizer.step()
    assert str(saved) == str(kept)
    plain = {
        i: {k: v for k, v in entries.items() if not isinstance(v, np.ndarray)}
        for i, entries in saved["state"].items()
    }
    json.dumps([plain, saved["param_groups"]], allow_nan=False)
    assert [group["params"] for group in saved["param_groups"]] == [[0, 1], [2, 3]]
    for i, entries in saved["state"].items():
        for value in entries.values():
            if isinstance(value, np.ndarray):
                assert (value.shape, value.dtype) == (params[i].shape, params[i].dtype)
    assert 3 not in saved["state"]


def test_a_state_that_went_through_json() -> None:
    _, optimizer = trained(ALL["adam"])
    saved = optimizer.state_dict()
    groups = json.loads(json.dumps(saved["param_groups"]))
    state = {str(i): entries for i, entries in saved["state"].items()}
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)
    assert str(optimizer.state_dict()) == str(saved)


@every
def test_going_back_to_a_state(make: Any) -> None:
    params, optimizer = trained(make)
    saved, arrays = optimizer.state_dict(), [p.data.copy() for p in params]
    ends = []
    for _ in range(2):
        optimizer.load_state_dict(saved)
        assert str(optimizer.state_dict()) == str(saved)
        for p, array in zip(params, arrays, strict=True):
            p.data[...] = array
        generator = np.random.default_rng(5)
        for _ in range(4):
            renew(params, generator)
            optimizer.step()
        ends.append(b"".join(p.data.tobytes() for p in params))
    assert ends[0] == ends[1]


def test_loading_copies_and_casts() -> None:
    params, optimizer = trained(ALL["adam"])
    saved = optimizer.state_dict()
    optimizer.load_state_dict(saved)
    kept = optimizer.state[params[2]]["exp_avg"]
    assert not np.shares_memory(kept, saved["state"][2]["exp_avg"])
    singles = [leaf(np.ones(s), np.float32) for s in ((2, 3), (), (30, 40), (4,))]
    other = optim.Adam([{"params": singles[:2]}, {"params": singles[2:]}])
    other.load_state_dict(saved)
    before = saved["state"][0]["exp_avg"].copy()
    assert other.state[singles[0]]["exp_avg"].dtype == np.float32
    renew(singles, np.random.default_rng(0))
    other.step()
    assert saved["state"][0]["exp_avg"].tolist() == before.tolist()


OPTIONS_OFF: dict[str, dict[str, Any]] = {
    "SGD": {"nesterov": False, "maximize": False},
    "RMSprop": {"momentum": 0, "centered": False, "maximize": False},
    "Adagrad": {"maximize": False},
    "Adadelta": {"maximize": False},
    "Adam": {"amsgrad": False, "maximize": False, "decoupled_weight_decay": False},
    "AdamW": {"amsgrad": False, "maximize": False, "decoupled_weight_decay": True},
    "NAdam": {"maximize": False, "decoupled_weight_decay": False},
}


def broken(saved: dict[str, Any], how: str) -> dict[str, Any]:
    """A state dict with one thing wrong."""
    saved = copy.deepcopy(saved)
    state, groups = saved["state"], saved["param_groups"]
    if how == "missing entry":
        del state[2]["exp_avg"]
    elif how == "unexpected entry":
        state[0]["square_avg"] = np.ones((2, 3))
    elif how == "shape":
        state[2]["exp_avg"] = np.ones((40, 30))
    elif how == "number for an array":
        state[0]["exp_avg"] = 1.0
    elif how == "array for a number":
        state[0]["step"] = np.ones(3)
    elif how == "text":
        state[0]["exp_avg"] = np.full((2, 3), "a")
    elif how == "unknown parameter":
        state[7] = state[0]
    elif how == "fewer groups":
        groups.pop()
    elif how == "other groups":
        groups[0]["params"], groups[1]["params"] = [0], [1, 2, 3]
    elif how == "missing option":
        del groups[1]["eps"]
    elif how == "bad option":
        groups[1]["lr"] = -1.0
    elif how == "no state":
        del saved["state"]
    return saved


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing entry", r"shape \(30, 40\), got others: missing \['exp_avg'\], unexpected n"),
        (
            "unexpected entry",
            r"missing nothing, unexpected \['square_avg'\]\. Load it into the kind",
        ),
        ("shape", r"expected numbers of shape \(30, 40\) for exp_avg, got float64\(40, 30\)\."),
        ("number for an array", r"numbers of shape \(2, 3\) for exp_avg, got float64\(\)\."),
        ("array for a number", r"expected numbers of shape \(\) for step, got float64\(3,\)\."),
        ("text", r"expected numbers of shape \(2, 3\) for exp_avg, got <U1\(2, 3\)\."),
        ("unknown parameter", r"expected state for 4 parameters, got some for \[7\] as well\."),
        ("fewer groups", r"expected groups of \[2, 2\] parameters, got \[2\]\."),
        ("other groups", r"expected groups of \[2, 2\] parameters, got \[1, 3\]\."),
        ("missing option", r"Adam\.load_state_dict: expected eps in group 1, got none\. Load it"),
        ("bad option", r"Adam: expected lr in \[0, inf\), got -1\.0\."),
        ("no state", r'expected the keys "state" and "param_groups", got .param_groups.\.'),
    ],
)
def test_loading_is_all_or_nothing(how: str, message: str) -> None:
    _, optimizer = trained(ALL["adam"])
    before = str(optimizer.state_dict())
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(broken(optimizer.state_dict(), how))
    assert str(optimizer.state_dict()) == before


@pytest.mark.parametrize("name", list(OPTIONS_OFF))
def test_a_state_of_an_older_version_lacks_options(name: str) -> None:
    """Each is then as PyTorch has it: off, but for AdamW's own."""
    params = with_gradients(np.ones(3))
    optimizer = getattr(optim, name)(params, lr=0.25, maximize=True)
    optimizer.step()
    saved = optimizer.state_dict()
    for option in OPTIONS_OFF[name]:
        del saved["param_groups"][0][option]
    optimizer.load_state_dict(saved)
    group = optimizer.param_groups[0]
    assert {option: group[option] for option in OPTIONS_OFF[name]} == OPTIONS_OFF[name]
    assert group["lr"] == 0.25
    optimizer.step()
    del saved["param_groups"][0]["lr"]
    with pytest.raises(ValueError, match=rf"{name}\.load_state_dict: expected lr in group 0, got"):
        optimizer.load_state_dict(saved)


@pytest.mark.parametrize(
    "number",
    [
        np.float32(0.25),
        np.float64(0.25),
        np.float16(0.25),
        np.array(0.25),
        np.logspace(-2, 0, 3, base=4)[1],
        Tensor(0.25),
        Tensor(np.float64(0.25), requires_grad=True),
    ],
    ids=lambda number: f"{type(number).__name__}-{number.dtype}",
)
def test_numbers_are_kept_as_pythons(number: Any) -> None:
    (a,) = with_gradients(np.ones(2))
    optimizer = optim.Adam([a], lr=number, betas=(number, np.float64(0.5)), amsgrad=np.bool_(True))
    assert optimizer.defaults["lr"] == 0.25
    b = leaf(np.ones(3))
    optimizer.add_param_group({"params": [b], "weight_decay": number})
    for group in optimizer.param_groups:
        assert type(group["lr"]) is type(group["betas"][0]) is float
    assert optimizer.param_groups[1]["weight_decay"] == 0.25
    groups = optimizer.state_dict()["param_groups"]
    assert json.loads(json.dumps(groups))[0]["betas"] == [0.25, 0.5]
    optimizer.param_groups[0]["lr"] = number / 2
    optimizer.step()
    assert np.abs(a.data - 1) == pytest.approx([0.125, 0.125], rel=1e-4)
    saved = optimizer.state_dict()
    assert json.loads(json.dumps(saved["param_groups"]))[0]["lr"] == 0.125
    saved["param_groups"][0]["lr"] = number
    optimizer.load_state_dict(saved)
    assert type(optimizer.param_groups[0]["lr"]) is float


def test_a_learning_rate_of_several_numbers_is_refused() -> None:
    (a,) = with_gradients(np.ones(2))
    with pytest.raises(TypeError, match=r"SGD: expected a number for lr, got array\(\[0\.1"):
        optim.SGD([a], lr=np.array([0.1, 0.2]))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"SGD: expected a number for lr, got True\."):
        optim.SGD([a], lr=np.bool_(True))


@pytest.mark.parametrize(
    "count", [-1, -0.5, 2.5, math.inf, math.nan, True, 1e300, 2**53, 10**400, "3", 1j]
)
@pytest.mark.parametrize("name", ["Adam", "NAdam", "Adagrad"])
def test_a_step_that_is_no_count_is_refused(name: str, count: Any) -> None:
    (a,) = with_gradients(np.ones(2))
    optimizer = getattr(optim, name)([a])
    optimizer.step()
    saved = optimizer.state_dict()
    broken_state = copy.deepcopy(saved)
    broken_state["state"][0]["step"] = count
    with pytest.raises(ValueError, match=r"load_state_dict: expected .* step, got"):
        optimizer.load_state_dict(broken_state)
    assert str(optimizer.state_dict()) == str(saved)


@pytest.mark.parametrize("product", [-0.5, math.inf, math.nan])
def test_another_number_out_of_range_is_refused(product: float) -> None:
    (a,) = with_gradients(np.ones(2))
    optimizer = optim.NAdam([a])
    optimizer.step()
    saved = optimizer.state_dict()
    saved["state"][0]["mu_product"] = product
    with pytest.raises(ValueError, match=r"a number in \[0, 2\^53\) for mu_product, got"):
        optimizer.load_state_dict(saved)


@pytest.mark.parametrize("count", [0, 7, 7.0, np.float32(7), np.array(7.0), 2**53 - 1])
def test_a_step_that_is_a_count_is_taken(count: Any) -> None:
    (a,) = with_gradients(np.ones(2))
    optimizer = optim.Adam([a])
    optimizer.step()
    saved = optimizer.state_dict()
    saved["state"][0]["step"] = count
    optimizer.load_state_dict(saved)
    optimizer.step()
    assert optimizer.state[a]["step"] == count + 1


@every
def test_copies_are_independent(make: Any) -> None:
    params, optimizer = trained(make)
    other = copy.deepcopy(optimizer)
    again = pickle.loads(pickle.dumps(optimizer))
    for twin in (other, again):
        theirs = [p for group in twin.param_groups for p in group["params"]]
        assert not any(p is q for p, q in zip(params, theirs, strict=True))
        renew(theirs, np.random.default_rng(7))
        twin.step()
    before = [p.data.copy() for p in params]
    renew(params, np.random.default_rng(7))
    optimizer.step()
    assert all((p.data != old).any() for p, old in zip(params, before, strict=True))
    for twin in (other, again):
        theirs = [p for group in twin.param_groups for p in group["params"]]
        for p, q in zip(params, theirs, strict=True):
            assert p.data.tobytes() == q.data.tobytes()
        assert str(twin.state_dict()) == str(optimizer.state_dict())


def test_looking_at_the_state_changes_nothing() -> None:
    params, optimizer = trained(ALL["adam"])
    twins, other = trained(ALL["adam"])
    for seed in range(4):
        renew(params, np.random.default_rng(seed))
        renew(twins, np.random.default_rng(seed))
        optimizer.step()
        other.step()
        assert optimizer.state[params[0]]["exp_avg"].any()
    assert [p.data.tobytes() for p in params] == [p.data.tobytes() for p in twins]


# ------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.SGD(p, lr=-0.1), r"SGD: expected lr in \[0, inf\), got -0\.1\."),
        (lambda p: optim.SGD(p, lr=math.nan), r"SGD: expected lr in \[0, inf\), got nan\."),
        (lambda p: optim.SGD(p, momentum=-1), r"SGD: expected momentum in \[0, inf\), got -1\."),
        (lambda p: optim.SGD(p, weight_decay=-1), r"weight_decay in \[0, inf\), got -1\."),
        (lambda p: optim.SGD(p, dampening=math.inf), r"dampening in \(-inf, inf\), got inf\."),
        (lambda p: optim.SGD(p, nesterov=True), r"nesterov, got momentum=0\.0, dampening=0\.0\."),
        (
            lambda p: optim.SGD(p, nesterov=True, momentum=0.9, dampening=0.1),
            r"momentum > 0 and dampening=0 with nesterov, got momentum=0\.9, dampening=0\.1\.",
        ),
        (
            lambda p: optim.Adam(p, betas=(0.9, 1.0)),
            r"Adam: expected betas in \[0, 1\), got \(0\.9, 1\.0\)\.",
        ),
        (lambda p: optim.Adam(p, eps=-1e-8), r"Adam: expected eps in \[0, inf\), got -1e-08\."),
        (lambda p: optim.AdamW(p, weight_decay=-1), r"weight_decay in \[0, inf\), got -1\."),
        (lambda p: optim.NAdam(p, momentum_decay=-1), r"momentum_decay in \[0, inf\), got -1\."),
        (lambda p: optim.RMSprop(p, alpha=-1), r"expected alpha in \[0, inf\), got -1\."),
        (lambda p: optim.RMSprop(p, momentum=-1), r"expected momentum in \[0, inf\), got -1\."),
        (lambda p: optim.Adadelta(p, rho=1.5), r"Adadelta: expected rho in \[0, 1\], got 1\.5\."),
        (lambda p: optim.Adagrad(p, lr_decay=-1), r"expected lr_decay in \[0, inf\), got -1\."),
        (
            lambda p: optim.Adagrad(p, initial_accumulator_value=-1),
            r"Adagrad: expected initial_accumulator_value in \[0, inf\), got -1\.",
        ),
        (lambda p: optim.SGD([{"params": p, "lr": -1}], lr=1), r"lr in \[0, inf\), got -1\."),
        (lambda p: optim.SGD([]), r"SGD: expected parameters, got none\."),
        (lambda p: optim.SGD([*p, *p]), r"once, got parameter 1 of shape \(2,\) twice\."),
        (lambda p: optim.SGD([{"params": p}, {"params": p}]), r"0 of shape \(2,\) twice\."),
        (lambda p: optim.SGD([p[0] * 2]), r"0, got a computed Tensor of shape \(2,\)\."),
    ],
)
def test_refused_values(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make([leaf([1.0, 2.0])])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.SGD(p, lr="0.1"), r"SGD: expected a number for lr, got '0\.1'\."),
        (lambda p: optim.SGD(p, lr=True), r"SGD: expected a number for lr, got True\."),
        (
            lambda p: optim.SGD(p[0]),
            r"SGD: expected a list of Tensors, or of dicts for groups, got Tensor\.",
        ),
        (lambda p: optim.SGD(3), r"a list of Tensors, or of dicts for groups, got int\."),
        (
            lambda p: optim.SGD([1.0]),
            r"SGD: expected a Tensor for parameter 0, got float\.",
        ),
        (lambda p: optim.SGD([{"params": set(p)}]), r"parameters in a list, got a set\."),
        (lambda p: optim.SGD([{"parameters": p}]), 'a dict with "params"'),
        (lambda p: optim.SGD([Tensor([1, 2])]), r"floats for parameter 0, got int64\(2,\)\."),
    ],
)
def test_refused_types(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make([leaf([1.0, 2.0])])


def test_a_refused_group_leaves_the_optimizer_as_it_was() -> None:
    a, b = with_gradients(np.ones(2), np.ones(2))
    optimizer = optim.SGD([a])
    given = {"params": [b], "lr": -1.0}
    with pytest.raises(ValueError, match="lr"):
        optimizer.add_param_group(given)
    assert len(optimizer.param_groups) == 1
    assert given == {"params": [b], "lr": -1.0}
    optimizer.add_param_group({"params": [b]})


def test_step_without_gradients_warns_once() -> None:
    x = leaf([1.0])
    optimizer = optim.Adam([x])
    with pytest.warns(
        UserWarning, match=r"Adam.step\(\): no parameter has a gradient.*backward\(\)"
    ) as w:
        optimizer.step()
    assert w[0].filename == __file__
    optimizer.step()
    assert x.data.tolist() == [1.0]
    assert optimizer.state_dict()["state"] == {}


@every
def test_step_with_the_gradients_of_the_first_warns_once(make: Any) -> None:
    x = leaf([1.0])
    optimizer = make([x])
    x.square().sum().backward()
    optimizer.step()
    with pytest.warns(UserWarning, match="applied the gradients of the step before again") as w:
        optimizer.step()
    assert w[0].filename == __file__
    optimizer.step()


def test_no_warning_in_a_proper_loop() -> None:
    x, y = leaf([1.0]), leaf([2.0])
    optimizer = optim.SGD([x, y], lr=0.1)
    for step in range(4):
        loss = (x * (y if step % 2 else 1)).sum()
        loss.backward()
        optimizer.step()
        if step % 2:
            optimizer.zero_grad()


def test_a_graph_older_than_the_step_is_not_differentiated() -> None:
    w = leaf([1.0, 2.0])
    loss = (w * w).sum()
    loss.backward(retain_graph=True)
    optimizer = optim.SGD([w], lr=0.1)
    for seed in range(3):
        step_here(optimizer)
        renew([w], np.random.default_rng(seed))
        with pytest.raises(
            MutationError, match=r"SGD\.step\(\) at .*test_optim\.py:\d+ \(in step_here"
        ):
            loss.backward(retain_graph=True)


def step_here(optimizer: Optimizer) -> None:
    optimizer.step()


def test_a_graph_made_after_the_step_is_differentiated() -> None:
    w = leaf([1.0, 2.0])
    optimizer = optim.SGD([w], lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        (w * w).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(w.data, np.array([1, 2]) * 0.8**4)


def test_a_step_after_a_write_by_hand_is_still_noted() -> None:
    w = leaf([1.0, 2.0])
    optimizer = optim.SGD([w], lr=0.1)
    for _ in range(3):
        renew([w], np.random.default_rng(0))
        optimizer.step()
        with no_grad():
            w.copy_([3.0, 4.0])
        loss = (w * w).sum()
        renew([w], np.random.default_rng(0))
        optimizer.step()
        with pytest.raises(MutationError, match=r"SGD\.step\(\)"):
            loss.backward()


SPOILT: list[tuple[Callable[[Any], Any], str]] = [
    (
        lambda p: p.data.setflags(write=False),
        r"expected for parameter 1 writable memory, got a read-only array of shape \(2, 2\)\.",
    ),
    (
        lambda p: setattr(p.grad, "data", np.ones(3)),
        r"expected for parameter 1 shape \(3,\), as its gradient has, got \(2, 2\)\.",
    ),
    (
        lambda p: (setattr(p, "data", np.ones(3)), setattr(p, "grad", Tensor(np.ones(3)))),
        r"expected for parameter 1 shape \(2, 2\), as its state has, got \(3,\)\.",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_a_step_that_cannot_be_made_changes_nothing(spoil: Any, message: str) -> None:
    a, b = with_gradients(np.ones(3), np.ones((2, 2)))
    optimizer = optim.Adam([a, b])
    optimizer.step()
    renew([a, b], np.random.default_rng(3))
    before = a.data.copy(), str(optimizer.state_dict())
    spoil(b)
    with pytest.raises(ValueError, match=message):
        optimizer.step()
    assert a.data.tolist() == before[0].tolist()
    assert str(optimizer.state_dict()) == before[1]


@pytest.mark.parametrize(("spoil", "message"), SPOILT[1:])
def test_a_later_step_that_cannot_be_made_says_why(spoil: Any, message: str) -> None:
    a, b = with_gradients(np.ones(3), np.ones((2, 2)))
    optimizer = optim.Adam([a, b])
    for seed in range(3):
        renew([a, b], np.random.default_rng(seed))
        optimizer.step()
    spoil(b)
    with pytest.raises(ValueError, match=message):
        optimizer.step()


def test_anomaly_mode_names_the_parameter_that_a_graph_still_needs() -> None:
    w, v = leaf([1.0, 2.0]), leaf([1.0])
    optimizer = optim.SGD([v, w], lr=0.1)
    for _ in range(3):
        renew([v, w], np.random.default_rng(0))
        optimizer.zero_grad()
        (w * w).sum().backward()
        optimizer.step()
    before = w.data.copy()
    with detect_anomaly():
        loss = (w * w).sum()
        with pytest.raises(ValueError, match=r"parameter 1 .*read-only.*anomaly mode"):
            optimizer.step()
    assert w.data.tolist() == before.tolist()
    loss.backward()
    optimizer.step()


@pytest.mark.parametrize(("option", "wrong"), [("lr", -1.0), ("weight_decay", -1.0), ("lr", "1")])
def test_an_option_that_is_set_to_something_wrong_is_refused_until_it_is_right(
    option: str, wrong: Any
) -> None:
    (x,) = with_gradients(np.ones(3))
    optimizer = optim.SGD([x], lr=0.5)
    optimizer.step()
    renew([x], np.random.default_rng(1))
    before, right = x.data.copy(), optimizer.param_groups[0][option]
    for _ in range(3):
        optimizer.param_groups[0][option] = wrong
        with pytest.raises((ValueError, TypeError), match=f"SGD: expected .*{option}"):
            optimizer.step()
        np.testing.assert_array_equal(x.data, before)
    optimizer.param_groups[0][option] = right
    optimizer.step()
    assert not np.array_equal(x.data, before)


# ------------------------------------------------------------------ rules of one's own


def lion(p: Any, g: Any, state: dict[str, Any], *, lr: float, betas: tuple[float, float]) -> Any:
    """Chen et al., Symbolic discovery of optimization algorithms, 2023."""
    m = state.get("m", 0.0)
    direction = np.sign(betas[0] * m + (1 - betas[0]) * g)
    return p - lr * direction, {"m": betas[1] * m + (1 - betas[1]) * g}


class Lion(Optimizer):
    rule = staticmethod(lion)
    intervals = {"lr": "[0, inf)"}  # noqa: RUF012

    def __init__(self, params: Any, lr: float = 1e-4) -> None:
        super().__init__(params, {"lr": lr, "betas": (0.9, 0.99)})


def test_a_rule_of_ones_own() -> None:
    (x,) = with_gradients(np.zeros(3))
    optimizer = Lion([x], lr=0.5)
    x.grad = Tensor(np.array([1.0, -2.0, 0.0]))
    optimizer.step()
    assert x.data.tolist() == [-0.5, 0.5, 0.0]
    x.grad = Tensor(np.array([-0.01, 4.0, 1.0]))
    optimizer.step()
    assert x.data.tolist() == [-1.0, 0.0, -0.5]
    np.testing.assert_allclose(optimizer.state[x]["m"], [0.0098, 0.0202, 0.01])


def test_many_parameters_cost_little_more_than_few() -> None:
    """Small parameters are updated together, in as many calls as one of them would take."""
    params = with_gradients(*np.ones((300, 5)))
    optimizer = optim.Adam(params)
    optimizer.step()
    renew(params, np.random.default_rng(1))
    optimizer.step()
    assert optimizer._plan is not None
    (block,) = optimizer._plan.blocks
    calls = [len(part.calls) for part in block.parts]
    assert calls == [1]


def test_warnings_are_not_left_filtered() -> None:
    (x,) = with_gradients(np.zeros(3))
    x.grad = Tensor(np.full(3, 1e300))
    optim.Adam([x]).step()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        np.array([1.0]) / np.array([0.0])
    assert len(seen) == 1


def test_adadelta_is_its_formula_over_several_steps() -> None:
    p, g = Tensor(np.array([1.0, -2.0]), requires_grad=True), np.array([0.5, 3.0])
    optimizer = optim.Adadelta([p], lr=0.7, rho=0.8, eps=1e-3)
    x, u, v = p.data.copy(), np.zeros(2), np.zeros(2)
    for _ in range(4):
        p.grad = Tensor(g)
        optimizer.step()
        v = 0.8 * v + 0.2 * g**2
        d = np.sqrt(u + 1e-3) / np.sqrt(v + 1e-3) * g
        u = 0.8 * u + 0.2 * d**2
        x = x - 0.7 * d
        np.testing.assert_allclose(p.data, x, rtol=1e-12)
