"""A compiled step goes through the stages in order, and enters each once."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from harness import needs_compiler
from training import training_step

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim
from tinygrad_kr.compile import Compiled
from tinygrad_kr.compile.plan import classify

FOLDER = Path(tk.__file__).parent / "compile"
STAGES = ["trace", "passes", "plan", "codegen", "run"]
DATA = {("plan", "steps.py")}
"""What a plan consists of, which later stages read. `ir` is data too."""


def xor() -> tuple[Callable[..., Any], tuple[Tensor, ...]]:
    net = nn.Sequential(nn.Linear(2, 10), nn.Sigmoid(), nn.Linear(10, 1))
    x = Tensor(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32))
    y = Tensor(np.array([[0], [1], [1], [0]], np.float32))
    optimizer = optim.Adam(net.parameters())
    return training_step(net, optimizer, F.binary_cross_entropy_with_logits), (x, y)


def convolutional() -> tuple[Callable[..., Any], tuple[Tensor, ...]]:
    net = nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5))
    ).to(np.float64)  # for which BLAS multiplies
    x, y = tk.ones(3, 1, 8, 8, dtype=np.float64), Tensor(np.arange(3))
    return training_step(net, optim.SGD(net.parameters(), momentum=0.9)), (x, y)


@needs_compiler
@pytest.mark.parametrize("make", [xor, convolutional])
def test_a_step_enters_each_stage_once(make: Callable[[], Any]) -> None:
    step, batch = make()
    compiled = Compiled(step)
    entered: list[str] = []

    def watch(frame: FrameType, event: str, _: Any) -> None:
        file = Path(frame.f_code.co_filename)
        if event != "call" or not file.is_relative_to(FOLDER):
            return
        parts = file.relative_to(FOLDER).parts
        if parts[0] in STAGES and parts not in DATA and entered[-1:] != [parts[0]]:
            entered.append(parts[0])

    for _ in range(4):
        entered.clear()
        sys.setprofile(watch)
        try:
            compiled(*batch)
        finally:
            sys.setprofile(None)
        if compiled.programs:
            break
    assert compiled.programs, compiled.explain()
    assert entered == STAGES


@needs_compiler
@pytest.mark.parametrize("make", [xor, convolutional])
def test_what_c_can_do_with_an_op_is_asked_once(
    make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = ["expression", "part_keys", "is_pooling", "geometry"]
    asked: dict[str, list[int]] = {name: [] for name in questions}
    for name in questions:
        question = getattr(classify, name)

        def counted(instruction: Any, name: str = name, question: Any = question) -> Any:
            asked[name].append(instruction.output.number)
            return question(instruction)

        monkeypatch.setattr(classify, name, counted)
    step, batch = make()
    compiled = Compiled(step)
    for _ in range(4):
        compiled(*batch)
    (program,) = compiled.programs
    made = {instruction.output.number for instruction in program.instructions}
    assert made <= set(asked["expression"])
    for name in questions:
        assert len(asked[name]) == len(set(asked[name])), name
    texts = {p.name: p.read_text(encoding="utf-8") for p in FOLDER.glob("*/*.py")}
    assert [name for name, text in texts.items() if "= expression(" in text] == ["classify.py"]


def imported(path: Path) -> Iterator[str]:
    """The stages from which a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            if name.startswith("tinygrad_kr.compile."):
                yield name.split(".")[2]


ALLOWED: dict[str, set[str]] = {
    "ir": set(),
    "trace": {"ir"},
    "passes": {"ir"},
    "plan": {"ir"},
    "codegen": {"ir", "plan"},
}
"""From which other stages each imports. `run` and what is above it import from any."""


@pytest.mark.parametrize("stage", ALLOWED)
def test_no_stage_imports_a_later_one(stage: str) -> None:
    files = list((FOLDER / stage).glob("*.py"))
    assert len(files) > 3
    for path in files:
        assert set(imported(path)) - {stage} <= ALLOWED[stage], path


@pytest.mark.parametrize("path", sorted((FOLDER / "codegen").glob("*.py")), ids=lambda p: p.name)
def test_what_writes_c_asks_nothing_of_the_plan_but_its_data(path: Path) -> None:
    """Of `classify`, `tiling` and the like: what was decided is in the steps."""
    parsed = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(parsed):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "tinygrad_kr.compile.plan"
        ):
            names = {alias.name for alias in node.names}
            assert node.module == "tinygrad_kr.compile.plan.steps" or names == {"Plan"}
