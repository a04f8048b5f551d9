"""What is done several times is one function in C: equal steps only, with the same results."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from harness import needs_compiler

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim
from tinygrad_kr.compile.codegen.outline import Snippet, outline
from tinygrad_kr.compile.codegen.text import Function, Line, shown, written
from tinygrad_kr.compile.ir.program import Instruction, Value
from tinygrad_kr.ops import elementwise as e

DOUBLE, FLOAT = np.dtype(np.float64), np.dtype(np.float32)


def plan(*dtypes: np.dtype[Any]) -> Any:
    return SimpleNamespace(roots=[Value(i, (4,), dtype, (1,)) for i, dtype in enumerate(dtypes)])


def instruction(place: str) -> Instruction:
    return Instruction(e.add, (), {}, Value(0, (), DOUBLE, ()), place)


def adding(a: int, b: int, out: int, v: int = 0, place: str = "f.py:1", sign: str = "+") -> Snippet:
    lines = [
        Line(f"  m{out}[i] = (double)m{a}[i] {sign} m{b}[i];", (instruction(place),)),
        Line(f"  double v{v} = m{out}[0];"),
    ]
    return Snippet(lines, {out: True, a: False, b: False})


def code(snippet: Snippet) -> str:
    (line,) = snippet.lines
    return line.code


def test_equal_steps_become_calls_of_one_function() -> None:
    texts = [adding(0, 1, 2, v=7), adding(3, 1, 4, v=12), adding(1, 4, 0, v=0)]
    functions, calls = outline(plan(*[DOUBLE] * 5), texts, "part0")
    assert written(functions) == (
        "static APART void part0_repeated0("
        "double *restrict m0, const double *restrict m1, const double *restrict m2) {\n"
        "  m0[i] = (double)m1[i] + m2[i];\n  double v0 = m0[0];\n}\n"
    )
    assert [code(call) for call in calls] == [
        f"  part0_repeated0({given});" for given in ("m2, m0, m1", "m4, m3, m1", "m0, m1, m4")
    ]
    assert [call.roots for call in calls] == [text.roots for text in texts]


def test_what_comes_twice_stays_where_it_is() -> None:
    texts = [adding(0, 1, 2), adding(3, 1, 4)]
    assert outline(plan(*[DOUBLE] * 5), texts, "part0") == ([], texts)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(adding(0, 0, 2), id="the same memory twice"),
        pytest.param(adding(2, 1, 2), id="written over what is read"),
        pytest.param(adding(5, 1, 2), id="another type"),
        pytest.param(adding(0, 1, 2, sign="-"), id="another op"),
    ],
)
def test_what_is_not_the_same_stays_apart(other: Snippet) -> None:
    texts = [adding(0, 1, 2), adding(3, 1, 4), adding(1, 4, 0), other]
    functions, calls = outline(plan(*[DOUBLE] * 5, FLOAT), texts, "part0")
    assert len(functions) == 1
    assert calls[-1] is other


def test_steps_of_several_lines_are_one_function_which_names_them() -> None:
    places = ["m9/v8.py:3", "f.py:1", "f.py:2", "f.py:3", "f.py:4"]
    texts = [adding(0, 1, 2, place=place) for place in places]
    (function,), calls = outline(plan(*[DOUBLE] * 3), texts, "part0")
    assert "v8" not in written([function])
    assert "m2[i];  /* add, m9/v8.py:3, f.py:1, f.py:2, 2 more */" in shown([function], str)
    assert [shown([Function(call.lines)], str) for call in calls] == [
        f"  part0_repeated0(m2, m0, m1);  /* add, {place} */" for place in places
    ]


@pytest.mark.one_in(2)
@needs_compiler
@pytest.mark.parametrize("rule", [optim.SGD, optim.Adam])
def test_the_layers_of_a_deep_net_are_written_once(rule: Any) -> None:
    def losses_of(depth: int, compiled: bool) -> tuple[Any, Any, Any]:
        layers: list[nn.Module] = []
        generator = np.random.default_rng(depth)
        for _ in range(depth):
            layers += [nn.Linear(5, 5, dtype=np.float64, generator=generator), nn.Tanh()]
        net = nn.Sequential(*layers)
        optimizer = rule(net.parameters(), lr=0.01)

        def step(x: Tensor) -> Tensor:
            optimizer.zero_grad()
            loss = F.mse_loss(net(x), -x)
            loss.backward()
            optimizer.step()
            return loss

        taken = tk.compile(step) if compiled else step
        x = Tensor(np.random.default_rng(1).standard_normal((4, 5)))
        losses = [taken(x).item() for _ in range(20)]
        return losses, [p.data for p in net.parameters()], getattr(taken, "source", "")

    losses, parameters, source = losses_of(12, compiled=True)
    expected, their_parameters, _ = losses_of(12, compiled=False)
    np.testing.assert_allclose(losses, expected, 1e-12)
    for own, their in zip(parameters, their_parameters, strict=True):
        np.testing.assert_allclose(own, their, 1e-11)
    _, _, shallower = losses_of(8, compiled=True)
    tanhs = [len(re.findall("= tk_tanh\\(", text)) for text in (source, shallower)]
    assert tanhs[0] == tanhs[1] < 8
