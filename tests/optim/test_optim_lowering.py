"""Rules written in place: the numbers of the pure rule, whatever is read, kept and overwritten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_kr.optim import rules
from tinygrad_kr.optim.lowering import UpdateProgram, lower, structure_of

State = dict[str, Any]


def program_of(rule: Any, options: State, state: State) -> UpdateProgram:
    names = tuple(options)
    numbers = tuple(name for name, value in state.items() if not isinstance(value, np.ndarray))
    arrays = tuple(name for name, value in state.items() if isinstance(value, np.ndarray))
    return lower(rule, structure_of(names, tuple(options.values())), numbers, arrays)


def run(rule: Any, p: np.ndarray, g: np.ndarray, state: State, **options: Any) -> State:
    """One step in place; the new state. What the update has no business to read is NaN."""
    program = program_of(rule, options, state)
    given_numbers = [value for value in state.values() if not isinstance(value, np.ndarray)]
    constants, numbers = program.numbers(*options.values(), *given_numbers)
    arrays = [state.get(name, np.full_like(p, np.nan)) for name in program.array_state]
    scratch = [np.full_like(p, np.nan) for _ in range(program.scratch)]
    program.update(p, g, *arrays, *map(np.array, constants), *scratch)
    new: State = dict(zip(program.number_state, numbers, strict=True))
    return new | dict(zip(program.array_state, arrays, strict=True))


def check(rule: Any, steps: int = 3, **options: Any) -> None:
    """The rule in place equals the rule as it is written, and leaves the gradient alone."""
    generator = np.random.default_rng(0)
    p = generator.standard_normal(6)
    pure, pure_state, state = p.copy(), {}, {}
    for _ in range(steps):
        g = generator.standard_normal(6)
        kept = g.copy()
        state = run(rule, p, g, state, **options)
        pure, new = rule(pure, g, dict(pure_state), **options)
        pure_state = pure_state | dict(new)
        assert g.tobytes() == kept.tobytes()
        np.testing.assert_allclose(p, pure, rtol=1e-14)
        assert set(state) == set(pure_state)
        for name, value in pure_state.items():
            np.testing.assert_allclose(state[name], value, rtol=1e-14, err_msg=name)


def swaps(p: Any, g: Any, state: State, *, lr: float) -> Any:
    a, b = state.get("a", 1.0 * g), state.get("b", p)
    return p - lr * a * b, {"a": b + 0 * g, "b": a}


def keeps_the_past(p: Any, g: Any, state: State, *, lr: float) -> Any:
    return p - lr * g, {"p_before": p, "g_before": g, "older": state.get("p_before", p)}


def two_names_for_one_value(p: Any, g: Any, state: State, *, lr: float) -> Any:
    x = p - lr * g
    return x, {"copy": x, "another": x, "count": state.get("count", 0) + 1}


def leaves_the_parameter_alone(p: Any, g: Any, state: State, *, lr: float) -> Any:
    m = state.get("m", 0.0) + lr * g
    return p, {"m": m}


def exchanges_parameter_and_state(p: Any, g: Any, state: State, *, lr: float) -> Any:
    q = state.get("q", 2.0 * g)
    return q, {"q": p}


def reads_late(p: Any, g: Any, state: State, *, lr: float) -> Any:
    m = state.get("m", 0.0)
    new = 0.5 * m + g
    difference = new - m
    return p - lr * new + difference * m - p * p, {"m": new}


def with_functions(p: Any, g: Any, state: State, *, lr: float) -> Any:
    t = state.get("t", 0) + 1
    rate = np.minimum(lr, 1 / np.sqrt(t)) * np.float64(-2.0) + np.minimum(np.inf, (-0.5) ** t)
    return p - rate * np.tanh(np.maximum(g, -g)) ** 2 / np.exp(-np.abs(p)), {"t": t}


@pytest.mark.parametrize(
    "rule",
    [
        swaps,
        keeps_the_past,
        two_names_for_one_value,
        leaves_the_parameter_alone,
        exchanges_parameter_and_state,
        reads_late,
        with_functions,
    ],
)
def test_every_way_of_reading_and_keeping(rule: Any) -> None:
    check(rule, lr=0.1)


BOTH = [False, True]


@pytest.mark.parametrize("maximize", BOTH)
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("flag", BOTH)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(
    "rule", [rules.sgd, rules.rmsprop, rules.adam, rules.nadam, rules.adadelta]
)
def test_the_rules_in_place(
    rule: Callable[..., Any], momentum: float, flag: bool, decay: float, maximize: bool
) -> None:
    options: State = {"lr": 0.1, "weight_decay": decay, "maximize": maximize}
    if rule is rules.sgd:
        options |= {"momentum": momentum, "nesterov": flag, "dampening": 0.0 if flag else 0.2}
    elif rule is rules.rmsprop:
        options |= {"momentum": momentum, "centered": flag}
    elif rule is rules.adam:
        options |= {"betas": (momentum, 0.99), "amsgrad": flag, "decoupled_weight_decay": flag}
    elif rule is rules.nadam:
        options |= {"betas": (momentum, 0.99), "decoupled_weight_decay": flag}
    check(rule, **options)


@st.composite
def random_rules(draw: Any) -> Any:
    """A rule of random arithmetic on everything it is given, with results in random places."""
    steps = draw(
        st.lists(
            st.tuples(st.sampled_from("+-*m"), st.integers(0, 40), st.integers(0, 40)),
            min_size=1,
            max_size=12,
        )
    )
    results = draw(st.lists(st.integers(0, 40), min_size=3, max_size=3))

    def rule(p: Any, g: Any, state: State, *, lr: float) -> Any:
        values = [p, g, state.get("a", p), state.get("b", g), lr * p, 0.5 * g]
        for sign, i, j in steps:
            x, y = values[i % len(values)], values[j % len(values)]
            new = {
                "+": lambda x=x, y=y: 0.5 * x + y,
                "-": lambda x=x, y=y: x - 0.5 * y,
                "*": lambda x=x, y=y: lr * x * y,
                "m": lambda x=x, y=y: np.maximum(x, y),
            }[sign]()
            values.append(new)
        p, a, b = (values[-1 - k % len(values)] for k in results)
        return p, {"a": a, "b": b}

    return rule


@given(random_rules())
def test_random_rules(rule: Any) -> None:
    check(rule, lr=0.25)


def test_adam_is_what_one_would_write_by_hand() -> None:
    options = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8}
    state = {"step": 1, "exp_avg": np.zeros(1), "exp_avg_sq": np.zeros(1)}
    program = program_of(rules.adam, options, state)
    assert program.scratch == 1
    update = program.source.split("def update")[1].splitlines()[1:]
    assert [line.split("(")[0].strip() for line in update] == [
        *("subtract", "multiply", "add"),
        *("multiply", "multiply", "multiply", "add"),
        *("sqrt", "add", "divide", "multiply", "subtract"),
    ]
    assert update[2].strip() == "add(exp_avg_5, s0, out=exp_avg_5)"


def test_an_option_that_is_zero_costs_nothing() -> None:
    plain, decayed = (
        program_of(rules.sgd, {"lr": 0.1, "momentum": 0.0, "weight_decay": decay}, {})
        for decay in (0, 0.5)
    )
    assert plain.source.count("out=") == 2
    assert decayed.source.count("out=") == 4
    rolling = {"lr": 0.1, "momentum": 0.9, "dampening": 0.0}
    assert program_of(rules.sgd, rolling, {"momentum_buffer": np.ones(1)}).source.count("out=") == 4


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda p, g, state, *, lr: (p - lr * np.sum(g), {}), r"arithmetic on floats, got add\."),
        (lambda p, g, state, *, lr: (p - lr * (g > 0), {}), r"on floats, got greater\."),
        (lambda p, g, state, *, lr: (p if g else g, {}), r"a branch on a number or an array\."),
        (
            lambda p, g, state, *, lr: (p, {"t": 1} if state.get("t", 0) + lr else {}),
            r"on an option that is True, None or 0, got a branch on a number or an array\.",
        ),
    ],
)
def test_what_cannot_be_lowered(rule: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        program_of(rule, {"lr": 0.1}, {})


def test_options_are_numbers_or_choices() -> None:
    assert structure_of(("a", "b", "c"), (True, None, "x")) == (
        ("a", True),
        ("b", None),
        ("c", "x"),
    )
    with pytest.raises(TypeError, match=r"Optimizer: expected a number for lr, got ndarray\."):
        structure_of(("lr",), (np.ones(3),))
