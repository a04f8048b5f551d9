"""What an exercise is, and how an answer is judged.

A typical wrong answer is recognised by making it: a `Slip` holds a function that makes it, and what
is said of it.
"""

from __future__ import annotations

import ast
import importlib.util
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.language import Text

FOLDER = Path(__file__).resolve().parent
CHAPTERS = range(1, 9)
Answer = Callable[..., Any]


class Slip(NamedTuple):
    """A typical wrong answer, and what is said of it."""

    answer: Answer
    said: Text


class Exercise(NamedTuple):
    """A function with blanks to fill.

    wrong: what is wrong with an answer, None for a right one; an answer may raise anything.
    """

    name: str
    title: Text
    wrong: Callable[[Answer], str | None]
    slips: tuple[Slip, ...]


class Verdict(NamedTuple):
    """right, wrong or blank, and why."""

    right: bool
    said: str


# ------------------------------------------------------------------ four ways to judge


def by_cases(
    name: str, title: Text, solution: Answer, cases: Iterable[tuple[Any, ...]], *slips: Slip
) -> Exercise:
    """An exercise whose answer gives the same values as a solution."""
    cases = tuple(cases)

    def wrong(answer: Answer) -> str | None:
        with np.errstate(all="ignore"):
            given = [(case, answer(*case), solution(*case)) for case in cases]
            if all(alike(got, right) for _, got, right in given):
                return None
            for slip in slips:
                if all(alike(got, slip.answer(*case)) for case, got, _ in given):
                    return slip.said.say()
        case, got, right = next(one for one in given if not alike(one[1], one[2]))
        shown = ", ".join(map(short, case))
        return OTHER.say(arguments=shown, got=short(got), right=short(right))

    return Exercise(name, title, wrong, slips)


def by_derivation(
    name: str,
    title: Text,
    loss: Callable[[dict[str, Tensor]], Tensor],
    inputs: Mapping[str, np.ndarray],
    *slips: Slip,
) -> Exercise:
    """An exercise whose answer is gradients, {name: array}, judged by `tk.check_derivation`.

    The answer is given the inputs, in their order.
    """

    def wrong(answer: Answer) -> str | None:
        given = answer(*(array.copy() for array in inputs.values()))
        if not isinstance(given, Mapping) or not given.keys() <= inputs.keys():
            return NOT_GRADIENTS.say(names=", ".join(inputs), got=short(given))
        tensors = {key: Tensor(array, requires_grad=True) for key, array in inputs.items()}
        for key, tensor in tensors.items():
            tensor.name = key
        report = tk.check_derivation(
            loss(tensors), {tensors[key]: array for key, array in given.items()}
        )
        return None if report.ok else report.text()

    return Exercise(name, title, wrong, slips)


def by_diagnosis(
    name: str,
    title: Text,
    diagnosed: Callable[[Any], tuple[Any, ...]],
    *slips: Slip,
    refused: Callable[[Any], str | None] = lambda given: None,
) -> Exercise:
    """An exercise whose answer is a net that learns, judged by `tk.diagnose` before any training.

    diagnosed: the arguments of `tk.diagnose`, from what the answer returns. refused: what else is
    wrong with it, or None. Judged from three starts: what is wrong must be found in two.
    """

    def wrong(answer: Answer) -> str | None:
        reports = []
        for seed in range(3):
            tk.manual_seed(seed)
            given = answer()
            if (said := refused(given)) is not None:
                return said
            reports.append(tk.diagnose(*diagnosed(given)))
        found = [report.findings[0] for report in reports if report.findings]
        return f"{found[0].kind}: {found[0].message()}" if len(found) > 1 else None

    return Exercise(name, title, wrong, slips)


OTHER = Text(
    "for {arguments} it gives {got}, not {right}",
    "입력 {arguments}: 나온 값 {got}, 옳은 값 {right}",
)
NOT_GRADIENTS = Text(
    "expected a dict of gradients of {names}, got {got}",
    "기울기의 딕셔너리를 돌려주어야 합니다 (이름: {names}). 나온 값: {got}",
)


def alike(some: Any, other: Any) -> bool:
    """Whether two numbers, arrays, or tuples of them have the same shapes and, nearly, values."""
    if isinstance(some, tuple) or isinstance(other, tuple):
        pair = isinstance(some, tuple) and isinstance(other, tuple) and len(some) == len(other)
        return pair and all(map(alike, some, other))
    try:
        left, right = np.asarray(some, float), np.asarray(other, float)
    except (TypeError, ValueError):
        return False
    return left.shape == right.shape and np.allclose(left, right, 1e-6, 1e-9, equal_nan=True)


def short(value: Any) -> str:
    """A value in at most 60 letters."""
    if callable(value):
        return getattr(value, "__name__", "f")
    if isinstance(value, tuple):
        return f"({', '.join(map(short, value))})"
    if isinstance(value, (np.ndarray, np.number)):
        value = np.round(value, 6).tolist()
    text = f"{value:.6g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# ------------------------------------------------------------------ chapters


def load(path: Path) -> ModuleType:
    """A file of Python as a module."""
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exercises(chapter: int) -> tuple[Exercise, ...]:
    """The exercises of a chapter of the course."""
    found: tuple[Exercise, ...] = load(FOLDER / f"checks/chapter_{chapter}.py").EXERCISES
    return found


def blanks(path: Path) -> dict[str, list[int]]:
    """The lines of each function of a file in which `...` is still to be filled in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        function.name: sorted(
            {
                node.lineno
                for node in ast.walk(function)
                if isinstance(node, ast.Constant) and node.value is ...
            }
        )
        for function in tree.body
        if isinstance(function, ast.FunctionDef)
    }


MISSING = Text("there is no function {name} in {file}", "함수 {name}: 파일 {file}에 없습니다")
BLANK = Text("still blank: line {lines}", "아직 빈칸입니다: {lines}번째 줄")
RAISED = Text("{error} in line {line}: {message}", "{error}, {line}번째 줄: {message}")
RIGHT = Text("right", "맞았습니다")


def judge(exercise: Exercise, module: ModuleType, path: Path) -> Verdict:
    """Whether a file's answer to an exercise is right, and if not, why."""
    answer = getattr(module, exercise.name, None)
    if answer is None:
        return Verdict(False, MISSING.say(name=exercise.name, file=path.name))
    if lines := blanks(path).get(exercise.name):
        return Verdict(False, BLANK.say(lines=", ".join(map(str, lines))))
    try:
        said = exercise.wrong(answer)
    except Exception as error:
        own = [at for at in traceback.extract_tb(error.__traceback__) if at.filename == str(path)]
        line = own[-1].lineno if own else "?"
        message = str(error).splitlines()[0] if str(error) else ""
        return Verdict(False, RAISED.say(error=type(error).__name__, line=line, message=message))
    return Verdict(said is None, RIGHT.say() if said is None else said)
