"""The generated program calls things by the names that they have in the user's code."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import pytest
from harness import needs_compiler

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn, optim
from tinygrad_kr.compile.codegen.naming import assigned_name, leaf_names
from tinygrad_kr.compile.trace.tracer import argument_names


def source_of(function: Any, *args: Any) -> str:
    compiled = tk.compile(function)
    for _ in range(3):
        compiled(*args)
    assert compiled.programs, compiled.explain()
    return compiled.source


@needs_compiler
def test_arguments_parameters_gradients_options_and_variables() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    optimizer = optim.Adam(model.parameters())

    def step(image: Tensor, wanted: Tensor) -> Tensor:
        optimizer.zero_grad()
        guess = model(image)
        loss = ((guess - wanted) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    source = source_of(step, tk.ones(4, 3), tk.zeros(4, 2))
    for name in ("image", "wanted", "model_0_weight", "model_0_bias", "guess", "loss", "exp_avg",
                 "grad_of_model_0_weight", "lr", "betas"):  # fmt: skip
        assert f" {name}_" in source or f"restrict {name}_" in source, name


@needs_compiler
@pytest.mark.parametrize("name", ["double", "i", "row", "sum", "memory", "part0", "step", "값"])
def test_names_that_mean_something_in_the_program(name: str) -> None:
    """Keywords of C, its loops' variables and functions, Python's names, letters beyond ASCII."""
    scope: dict[str, Any] = {"np": np}
    exec(f"def f({name}):\n    {name} = np.tanh({name}) * 2\n    return ({name} ** 2).sum()", scope)
    x = np.linspace(-1.0, 1.0, 7)
    compiled = tk.compile(tk.value_and_grad(scope["f"]))
    for _ in range(3):
        value, slope = compiled(x)
        np.testing.assert_allclose(value, ((np.tanh(x) * 2) ** 2).sum(), 1e-12)
        np.testing.assert_allclose(slope, 8 * np.tanh(x) * (1 - np.tanh(x) ** 2), 1e-12)
    assert compiled.programs, compiled.explain()


@needs_compiler
def test_layers_that_share_a_function_in_c_keep_its_own_names() -> None:
    net = nn.Sequential(*(layer for _ in range(6) for layer in (nn.Linear(5, 5), nn.Tanh())))
    x = tk.ones(2, 5)
    compiled = tk.compile(lambda x: net(x))
    with tk.no_grad():
        for _ in range(4):
            np.testing.assert_allclose(compiled(x).data, net(x).data, 1e-5)
    assert "_repeated0(" in compiled.source
    assert "net_10_weight_" in compiled.source
    own = re.search(r"_repeated0\(.*?^}$", compiled.source, re.DOTALL | re.MULTILINE)
    assert own is not None
    assert "m0[" in own[0] and "net_" not in own[0]


def test_of_arguments() -> None:
    def f(x: Any, pair: Any, *more: Any, flag: bool = False) -> None: ...

    assert argument_names(f, (1, (2, 3)), {}) == ["x", "pair_0", "pair_1"]
    assert argument_names(f, (1, 2, 3), {"flag": True}) == ["x", "pair", "argument_2", "flag"]
    assert argument_names(functools.partial(f, 0), (1,), {}) == ["pair"]
    assert argument_names(np.add, (1, 2), {}) in (["x1", "x2"], ["argument_0", "argument_1"])
    assert argument_names(tk.grad(f), (1, 2), {}) == ["x", "pair"]


class Trainer:
    def __init__(self) -> None:
        self.net = nn.BatchNorm1d(2)
        self.scale = tk.ones(2)

    def step(self, x: Tensor) -> Tensor:
        return self.net(x) * self.scale


def test_of_what_a_method_reads() -> None:
    trainer = Trainer()
    names = leaf_names(trainer.step)
    assert names[id(trainer.net.weight)] == "net_weight"
    assert names[id(trainer.net.running_mean)] == "net_running_mean"
    assert names[id(trainer.scale)] == "scale"


def test_an_empty_variable_around_the_function_has_no_name() -> None:
    def f() -> Any:
        return later

    assert leaf_names(f) == {}
    later = tk.ones(1)
    assert leaf_names(f) == {id(later): "later"}


def test_of_the_variable_that_a_line_assigns_to(tmp_path: Any) -> None:
    file = tmp_path / "program.py"
    lines = {
        "loss = f(x)": "loss",
        "    y: Tensor = f(x)": "y",
        "a, b = f(x)": None,
        "if a == b:": None,
        "x += 1": None,
        "self.x = 1": None,
        "f(x=1)": None,
        "f(a, b)": None,
    }
    file.write_text("\n".join(lines), encoding="utf-8")
    found = [assigned_name(f"{file}:{i + 1}") for i in range(len(lines))]
    assert found == list(lines.values())
    assert assigned_name("an unknown place") is None


def test_attributes_and_keys_without_a_name() -> None:
    class Model:
        def __init__(self) -> None:
            self.weight = Tensor(np.ones(3))
            vars(self)[5] = Tensor(np.ones(3))
            vars(self)[10**5000] = 2.0

        def step(self, x: Tensor) -> Tensor:
            return (self.weight * x).sum()

    rates = {10**5000: 2.0, 1: 3.0}
    model = Model()
    step = tk.compile(model.step)
    scaled = tk.compile(lambda x: x * rates[1])
    x = Tensor(np.ones(3))
    for _ in range(4):
        assert step(x).item() == 3
        assert scaled(x).data.tolist() == [3, 3, 3]
    assert step.last_runner is not None
    assert scaled.last_runner is not None
