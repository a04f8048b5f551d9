"""The README's Python runs as it stands, in both languages, and the two languages show the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygrad_kr import Tensor

pytestmark = pytest.mark.trains

ROOT = Path(__file__).parent.parent
LANGUAGES = ["README.md", "README.ko.md"]


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.S)


def without_comments(code: str) -> str:
    return re.sub(r" *#.*", "", code)


@pytest.fixture(scope="module", params=LANGUAGES)
def names(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for code in blocks(request.param, "python"):
        exec(compile(code, request.param, "exec"), found)
    return found


def test_the_first_net_learns_xor(names: dict[str, Any]) -> None:
    assert names["loss"].item() < 0.1
    outputs = names["net"](Tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]]))
    assert (outputs.sigmoid() > 0.5).tolist() == [[False], [True], [True], [False]]


def test_the_derivatives_are_those_of_the_function(names: dict[str, Any]) -> None:
    x, f, tk = names["x"], names["rosenbrock"], names["tk"]
    assert isinstance(x, np.ndarray)
    numeric = [(f(x + e) - f(x - e)) / 2e-6 for e in 1e-6 * np.eye(3)]
    np.testing.assert_allclose(tk.grad(f)(x), numeric, rtol=1e-6)
    np.testing.assert_allclose(tk.hvp(f, (x,), (x,))[0], tk.hessian(f)(x) @ x, rtol=1e-12)


def test_both_languages_show_the_same_programs_commands_and_pictures() -> None:
    english, korean = (
        [
            *map(without_comments, blocks(name, "python")),
            *blocks(name, "sh"),
            *blocks(name, "text"),
            *re.findall(r"\]\((docs/[^)]*)\)", (ROOT / name).read_text(encoding="utf-8")),
        ]
        for name in LANGUAGES
    )
    assert english == korean
    for picture in english[-3:]:
        assert (ROOT / picture).is_file()
