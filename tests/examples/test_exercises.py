"""examples/exercises: blanks are named, solutions are right, typical slips are recognised."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lecture_programs import FOLDER, module

import tinygrad_kr as tk
from tinygrad_kr import nn

EXERCISES = FOLDER.parent / "exercises"
ROOT = FOLDER.parents[1]


def together(name: str) -> ModuleType:
    """A file of the folder, which its checks import by its name."""
    sys.modules[name] = module(EXERCISES / f"{name}.py")
    return sys.modules[name]


exercise, check = together("exercise"), together("check")
CHAPTERS = list(exercise.CHAPTERS)
ALL = [(chapter, one) for chapter in CHAPTERS for one in exercise.exercises(chapter)]
SLIPS = [
    pytest.param(one, slip, id=f"{chapter}.{one.name}-{number}")
    for chapter, one in ALL
    for number, slip in enumerate(one.slips, 1)
]


@pytest.fixture(autouse=True)
def _own_language() -> Iterator[None]:
    yield
    tk.set_language(None)


def checked(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """The exit status of check.py and what it prints."""
    status = check.main(list(options))
    return status, capsys.readouterr().out


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_blank_is_named_with_its_line(
    chapter: int, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (EXERCISES / f"chapter_{chapter}.py").read_text(encoding="utf-8").splitlines()
    expected = [number for number, line in enumerate(lines, 1) if "# 빈칸" in line]
    count = len(exercise.exercises(chapter))
    for lang, words, score in (
        ("en", r"still blank: line ([\d, ]+)", f"0 of {count} are right"),
        ("ko", r"아직 빈칸입니다: ([\d, ]+)번째 줄", f"{count}문제 가운데 0문제를"),
    ):
        status, shown = checked(capsys, str(chapter), "--lang", lang)
        said = [int(line) for found in re.findall(words, shown) for line in found.split(", ")]
        assert status == 1
        assert said == expected
        assert score in shown
        assert len(re.findall(words, shown)) == count in (2, 3)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_solutions_are_right(chapter: int, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(EXERCISES / f"solutions/chapter_{chapter}.py")
    status, shown = checked(capsys, str(chapter), "--lang", "ko", "--file", path)
    assert status == 0, shown
    assert shown.count("맞았습니다") == len(exercise.exercises(chapter))


@pytest.mark.parametrize("lang", ["en", "ko"])
@pytest.mark.parametrize(("one", "slip"), SLIPS)
def test_a_typical_wrong_answer_is_named(one: Any, slip: Any, lang: str) -> None:
    tk.set_language(lang)
    said = one.wrong(slip.answer)
    assert said is not None
    assert slip.said.say().partition("{")[0] in said


def right_answers() -> Iterator[Any]:
    """Answers beside the solutions, for the exercises that leave a choice."""
    net_of = exercise.load(EXERCISES / "checks/chapter_3.py").net_of
    recipe_of = exercise.load(EXERCISES / "checks/chapter_7.py").recipe_of
    deep = exercise.exercises(3)[2], [
        net_of(nn.Tanh, nn.init.xavier_normal_), net_of(nn.Tanh, nn.init.orthogonal_),
        net_of(nn.ReLU, nn.init.kaiming_uniform_), net_of(nn.LeakyReLU, nn.init.kaiming_normal_),
        net_of(nn.ELU, nn.init.xavier_uniform_),
    ]  # fmt: skip
    recipe = exercise.exercises(7)[2], [recipe_of(nn.Identity, rate) for rate in (0.03, 0.3, 1.0)]
    for one, answers in (deep, recipe):
        for number, answer in enumerate(answers):
            yield pytest.param(one, answer, id=f"{one.name}-{number}")


@pytest.mark.parametrize(("one", "answer"), list(right_answers()))
def test_another_right_answer_is_right(one: Any, answer: Any) -> None:
    assert one.wrong(answer) is None


def test_a_net_that_lost_its_depth_is_refused() -> None:
    tk.set_language("en")
    one = exercise.exercises(3)[2]
    said = one.wrong(lambda: nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1)))
    assert said == "the net must keep its 11 layers of weights; it has 2"


def test_every_exercise_knows_a_typical_wrong_answer() -> None:
    assert all(one.slips for _, one in ALL)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_solution_and_checks_belong_together(chapter: int) -> None:
    """The same functions with the same arguments; Korean first in every text."""
    blank = exercise.load(EXERCISES / f"chapter_{chapter}.py")
    solved = exercise.load(EXERCISES / f"solutions/chapter_{chapter}.py")
    names = [one.name for one in exercise.exercises(chapter)]
    for number, name in enumerate(names, 1):
        own = getattr(blank, name)
        assert inspect.signature(own) == inspect.signature(getattr(solved, name))
        korean, english = own.__doc__.split("\n\n")
        assert korean.startswith(f"{chapter}.{number} ")
        assert re.search("[가-힣]", korean) and re.search("[a-z]{3}", english)
    tree = ast.parse((EXERCISES / f"chapter_{chapter}.py").read_text(encoding="utf-8"))
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert [name for name in functions if name != "sigmoid"] == names


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ("def slope_both_ways(f, x, dx):\n    return f(x) / 0\n",
         "X 1.1 the slope from a small change (slope_both_ways)\n"
         "    ZeroDivisionError in line 2: float division by zero"),
        ("def slope_both_ways(f, x, dx):\n    return 'seven'\n",
         "for square, 3, 0.01 it gives 'seven', not 6"),
        ("x = 1\n", "there is no function slope_both_ways in answers.py"),
        ("def line_gradients(w, b, x, t):\n    return 3\n",
         "expected a dict of gradients of w, b, x, t, got 3"),
    ],
)  # fmt: skip
def test_other_answers_are_told_what_is_wrong(
    answers: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "answers.py"
    path.write_text(answers, encoding="utf-8")
    status, shown = checked(capsys, "1", "--lang", "en", "--file", str(path))
    assert status == 1
    assert said in shown


def test_a_file_that_is_no_python_ends_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "answers.py").write_text("def f(:\n", encoding="utf-8")
    for name in ("answers.py", "nowhere.py"):
        with pytest.raises(SystemExit) as ending:
            check.main(["1", "--file", str(tmp_path / name)])
        assert ending.value.code == 2
        assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("language", ["", ".ko"])
def test_the_course_names_the_exercises_at_the_end_of_each_chapter(language: str) -> None:
    text = (ROOT / f"examples/README{language}.md").read_text(encoding="utf-8")
    chapters = re.split(r"^## ", text, flags=re.M)[1:]
    assert len(chapters) == len(CHAPTERS)
    for number, chapter in zip(CHAPTERS, chapters, strict=True):
        last = chapter.split("\n### ")[-1]
        assert last.startswith(("Exercises", "연습 문제"))
        assert f"python examples/exercises/check.py {number}\n" in last
        assert f"(exercises/chapter_{number}.py)" in last
