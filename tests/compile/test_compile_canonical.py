"""The C that is built does not depend on lines, files and names, which `source` shows."""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import needs_compiler

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn
from tinygrad_kr.compile.run import c_runner
from tinygrad_kr.native import build as building
from tinygrad_kr.native.build import BuildError

pytestmark = needs_compiler
STEP = """
def step(image):
    hidden = np.tanh(image * 1.71875)
    return (hidden ** 2).sum()
"""
X = tk.tensor(np.linspace(-1.0, 1.0, 7))


def defined(text: str, file: str) -> Callable[..., Any]:
    """The function `step` of a text that is in `file`."""
    linecache.cache[file] = len(text), None, text.splitlines(True), file
    scope: dict[str, Any] = {"np": np}
    exec(compile(text, file, "exec"), scope)
    function: Callable[..., Any] = scope["step"]
    return function


def compiled(function: Callable[..., Any], *args: Any) -> Any:
    made = tk.compile(function)
    for _ in range(3):
        made(*args)
    assert made.programs, made.explain()
    return made


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What compilers were started for, with an empty cache."""
    texts: list[str] = []
    start = building.compiled

    def counted(given: Any, *rest: Any) -> Any:
        texts.append(next(iter(given.values())))
        return start(given, *rest)

    monkeypatch.setenv("TINYGRAD_KR_CACHE", str(tmp_path))
    monkeypatch.setattr(building, "compiled", counted)
    building._loaded.clear()
    yield texts
    building._loaded.clear()


def test_a_step_one_line_lower_is_not_compiled_again(started: list[str]) -> None:
    first = compiled(defined(STEP, "a.py"), X)
    assert len(started) == 1
    renamed = STEP.replace("hidden", "layer").replace("image", "picture")
    for text, file in ((f"\n{STEP}", "a.py"), (STEP, "b.py"), (renamed, "a.py")):
        building._loaded.clear()  # so it comes from the folder
        again = compiled(defined(text, file), X)
        assert again(X).item() == first(X).item()
        assert len(started) == 1


def test_another_step_is_compiled(started: list[str]) -> None:
    compiled(defined(STEP, "a.py"), X)
    compiled(defined(STEP.replace("** 2", "** 3"), "a.py"), X)
    assert len(started) == 2


def test_source_shows_names_and_lines() -> None:
    native = (step := compiled(defined(STEP, "a.py"), X)).last_runner
    assert re.search(r"double hidden_\d+_i = .*;  /\* tanh, a.py:3 \*/", step.source)
    assert "image_0[i0]" in step.source
    assert "/* sum, a.py:4 */" in step.source
    for text in ("image", "hidden", "a.py"):
        assert text not in native.code.text


class Layers(nn.Module):
    """Equal layers, each on a line of its own."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self.first, self.second, self.third = (
            nn.Linear(4, 4, generator=generator) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).tanh()
        x = self.second(x).tanh()
        return self.third(x).tanh()


def test_equal_layers_on_different_lines_are_one_function() -> None:
    net, x = Layers(), tk.ones(2, 4)
    with tk.no_grad():
        expected = net(x).data
        step = compiled(net, x)
        np.testing.assert_allclose(step(x).data, expected, 1e-6)
    text = step.last_runner.code.text
    assert text.count("= tk_tanhf(") == 1
    (comment,) = re.findall(r"= tk_tanhf\(.*/\* tanh, (.*) \*/", step.source)
    lines = re.findall(r"\.py:(\d+)", comment)
    assert len(lines) == 3 and len(set(lines)) == 3
    calls = re.findall(r"_repeated\d\(.*\);  /\* (\S.*) \*/", step.source)
    assert all(any(f".py:{line}" in call for call in calls) for line in lines)


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("= tk_tanh(", "= @ tk_tanh(", "tanh, a.py:3"),
        ("sum += ", "sum @ ", "sum, a.py:4"),
        ("#define EXPORT", "#error wrong //", None),
    ],
)
def test_an_error_of_the_compiler_names_the_line_of_the_user(
    right: str, wrong: str, said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYGRAD_KR_CACHE", str(tmp_path))
    build = c_runner.build

    def changed(text: str, headers: Any) -> Any:
        assert right in text
        return build(text.replace(right, wrong), headers)

    monkeypatch.setattr(c_runner, "build", changed)
    with pytest.raises(BuildError) as caught:
        compiled(defined(STEP, "a.py"), X)
    notes = getattr(caught.value, "__notes__", [])
    numbers = re.compile(r"line \d+ of program\.c computes /\* (.*) \*/")
    found = {match[1] for note in notes if (match := numbers.fullmatch(note))}
    assert len(found) == len(notes)
    assert found == ({said} if said else set()), str(caught.value)
