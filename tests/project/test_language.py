"""Every text that the package and the course say is there in English and in Korean."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

import tinygrad_kr as tk
from tinygrad_kr.language import Text, language

ROOT = Path(__file__).parents[2]
NAMES = ("Text", "language.Text")
"""How a program calls it; a program with another class of the name writes the second."""
FOLDERS = (Path(tk.__file__).parent, ROOT / "examples", ROOT / "benchmarks")
LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG", "TINYGRAD_KR_LANG")
PARTICLES = ("은", "는", "이", "가", "을", "를", "과", "와", "로", "으로", "이다", "입니다")


@pytest.fixture(autouse=True)
def _no_language(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in LOCALE:
        monkeypatch.delenv(name, raising=False)
    tk.set_language(None)
    yield
    tk.set_language(None)


@pytest.mark.parametrize(
    ("variables", "lang"),
    [
        ({"LANG": "ko_KR.UTF-8"}, "ko"),
        ({"LANG": "en_GB.UTF-8"}, "en"),
        ({"LANG": "ko_KR.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LC_MESSAGES": "ko_KR", "LANG": "C"}, "ko"),
        ({"LANG": "ko_KR.UTF-8", "TINYGRAD_KR_LANG": "en"}, "en"),
        ({"LANG": "C", "TINYGRAD_KR_LANG": "ko"}, "ko"),
    ],
)
def test_the_default(variables: dict[str, str], lang: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert language() == lang


def test_what_is_set_precedes_and_what_is_given_precedes_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TINYGRAD_KR_LANG", "en")
    tk.set_language("ko")
    assert language() == "ko"
    assert language("en") == "en"
    assert Text("{n} layers", "층 {n}개").say(n=3) == "층 3개"


def test_another_language_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match='set_language: expected "en" or "ko", got \'fr\''):
        tk.set_language("fr")
    assert language() == "en"
    monkeypatch.setenv("TINYGRAD_KR_LANG", "fr")
    with pytest.raises(ValueError, match="TINYGRAD_KR_LANG"):
        language()


# ------------------------------------------------------------------ all texts


def texts() -> Iterator[tuple[str, ast.expr, ast.expr]]:
    """Each `Text(english, korean)` of the package and the course, with its place."""
    for folder in FOLDERS:
        for path in folder.rglob("*.py"):
            source = path.read_text(encoding="utf-8")
            if "Text(" not in source or "language" not in source:
                continue
            own = "class Text(" in source and path.name != "language.py"
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in NAMES[own:]:
                    place = f"{path.relative_to(folder.parent)}:{node.lineno}"
                    yield place, *_pair(node)


def _pair(call: ast.Call) -> tuple[ast.expr, ast.expr]:
    assert len(call.args) == 2 and not call.keywords, "Text takes English and Korean by position"
    return call.args[0], call.args[1]


def placeholders(text: ast.expr) -> set[str]:
    """What a text fills in: the fields of a literal, the expressions of an f-string."""
    if isinstance(text, ast.Constant):
        return {field for _, field, _, _ in Formatter().parse(text.value) if field is not None}
    if isinstance(text, ast.JoinedStr):
        filled = (part for part in text.values if isinstance(part, ast.FormattedValue))
        return {ast.unparse(part.value).replace(".ko", ".en").replace("_ko", "") for part in filled}
    return set()


# ------------------------------------------------------------------ no text beside them

SHOWING = {
    "add", "add_argument", "add_parser", "annotate", "axhline", "axvline", "bar", "block",
    "colorbar", "curves", "folded", "hist", "legend", "line", "Line", "Parser", "plain", "plot",
    "print", "progress_bar", "say", "scatter", "Section", "set", "set_description", "set_title",
    "set_xlabel", "set_ylabel", "suptitle", "table", "text", "warn", "warn_user", "write",
}  # fmt: skip
"""Functions and methods whose arguments a reader sees."""
SHOWN = {"help", "label", "xlabel", "ylabel", "title", "description", "caption", "desc"}
"""Such arguments by name."""
ENGLISH = re.compile(r"[A-Za-z][a-z]{2,},? [a-z]{2,}")
SPEAKING = [
    *(ROOT / "examples").rglob("*.py"),
    ROOT / "benchmarks/sigmoid_vs_relu_depth.py",
    *(ROOT / "tinygrad_kr/explain").rglob("*.py"),
    *(ROOT / "tinygrad_kr" / name for name in (
        "__main__.py", "command_line.py", "data/download.py", "doctor.py", "html.py",
        "nn/summary.py", "sweep.py", "tensor.py", "training.py",
    )),
]  # fmt: skip
"""What says something in the chosen language."""


def literals(value: ast.expr) -> Iterator[str]:
    """The texts that are written where a value is given."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "1" for part in value.values)
        yield "".join(map(str, parts))
    elif isinstance(value, ast.BinOp | ast.IfExp | ast.List | ast.Tuple):
        for part in ast.iter_child_nodes(value):
            if isinstance(part, ast.expr):
                yield from literals(part)
    elif isinstance(value, ast.Call) and getattr(value.func, "attr", "") == "join":
        for part in value.args:
            yield from literals(part)


def english_in(source: str) -> list[str]:
    """Two or more English words that a program shows in every language."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = [*node.args] if name in SHOWING else []
            given += [keyword.value for keyword in node.keywords if keyword.arg in SHOWN]
            said = (text for value in given for text in literals(value))
            found += [f"{node.lineno}: {text}" for text in said if ENGLISH.search(text)]
    return found


def test_a_text_in_one_language_is_found() -> None:
    assert english_in('print(f"{x} steps of training")') == ["1: 1 steps of training"]
    assert english_in('axes.plot(x, label="the loss")') and english_in(
        'add("--a", help="many nets")'
    )
    assert english_in('print("a" + ("hidden layers" if x else "-"))')
    assert not english_in('print(Text("so many steps", "스텝").say(), "loss", f"{x:.3f}")')
    assert not english_in('raise ValueError("fit: expected epochs, got none")')


def test_no_program_shows_a_text_in_english_alone() -> None:
    found = {path.relative_to(ROOT).as_posix(): english_in(path.read_text(encoding="utf-8"))
             for path in SPEAKING}  # fmt: skip
    assert len(found) > 60
    assert not {path: said for path, said in found.items() if said}


# ------------------------------------------------------------------ pairs

ALL = sorted(texts(), key=lambda found: found[0])


def test_the_texts_are_found() -> None:
    assert {place.split("/")[0] for place, *_ in ALL} >= {"tinygrad_kr", "examples"}
    assert len(ALL) > 200


@pytest.mark.parametrize(("place", "english", "korean"), ALL, ids=[place for place, *_ in ALL])
def test_both_languages_have_the_same_placeholders(
    place: str, english: ast.expr, korean: ast.expr
) -> None:
    assert placeholders(english) == placeholders(korean), place
    if isinstance(english, ast.Constant) and isinstance(korean, ast.Constant):
        assert not re.search("[가-힣]", english.value), place
        assert re.search("[가-힣]", korean.value), f"{place}: use same(text)"
        for particle in PARTICLES:
            behind = rf"\}}{particle}(?![가-힣])"
            assert not re.search(behind, korean.value), f"{place}: {particle} behind a placeholder"
