"""docs/guides/: every block of code runs, and gives the values that it shows."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
PAGES = sorted(path.stem for path in GUIDES.glob("*.md"))
BLOCK = re.compile(r"^(?:<!-- needs: (\w+) -->\n)?```(\w*)\n(.*?)^```$", re.M | re.S)
"""A block of code, its language, and the package that it needs besides NumPy."""
SHOWN = re.compile(r"^(\S.*?)  # -> (.+)$", re.M)
"""An expression, and the `repr` that the page shows for it."""


def page(name: str) -> str:
    return (GUIDES / f"{name}.md").read_text(encoding="utf-8")


def program_of(name: str, needs: str = "") -> str:
    """The Python of a page that needs NumPy, and that package, alone."""
    return "\n".join(
        code
        for need, language, code in BLOCK.findall(page(name))
        if language == "python" and need in ("", needs)
    )


def run(code: str, name: str) -> list[tuple[str, str]]:
    """Run a program; the values that it shows, each with what the page says."""
    found: list[tuple[str, str]] = []

    def compared(value: Any, expected: str) -> None:
        found.append((repr(value), expected))

    checked = SHOWN.sub(lambda m: f"compared_(({m[1]}), {m[2]!r})", code)
    with np.printoptions(legacy=False), tk.enable_grad():
        exec(compile(checked, name, "exec"), {"__name__": name, "compared_": compared})
    return found


@pytest.mark.parametrize("name", PAGES)
def test_the_code_of_a_page_runs_and_gives_what_it_shows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program = program_of(name)
    found = run(program, name)
    assert len(found) == len(SHOWN.findall(program)) > 0
    assert [value for value, _ in found] == [expected for _, expected in found]


NEEDS = [(name, need) for name in PAGES for need, _, _ in BLOCK.findall(page(name)) if need]


@pytest.mark.parametrize(("name", "need"), NEEDS)
def test_the_code_that_needs_another_package_gives_what_it_shows(
    name: str, need: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    pytest.importorskip(need)
    monkeypatch.chdir(tmp_path)
    found = run(program_of(name, need), name)
    assert len(found) > len(SHOWN.findall(program_of(name)))
    assert [value for value, _ in found] == [expected for _, expected in found]


RUN_BY = {
    "README.md": "project/test_readme.py",
    "CONTRIBUTING.md": "project/test_readme.py",
    "docs/tour.md": "project/test_readme.py",
    "docs/tensorflow1.md": "project/test_tensorflow1_page.py",
    "docs/names.md": "project/test_names_page.py",
    "docs/diagnose.md": "explain/test_diagnose_page.py",
    "docs/onnx.md": "export/test_onnx_page.py",
    "docs/scale.md": "distributed/test_scale_page.py",
    "tinygrad_kr/compile/README.md": "compile/test_compile_page.py",
}
"""The pages with programs beside the guides, and the tests that run these."""


def test_every_other_page_with_a_program_has_a_test_that_runs_it() -> None:
    root = GUIDES.parents[1]
    pages = [*root.glob("*.md"), *GUIDES.parent.glob("*.md"), *(root / "tinygrad_kr").rglob("*.md")]
    found = {
        path.relative_to(root).as_posix().replace(".ko.md", ".md")
        for path in pages
        if re.search(r"^```py", path.read_text(encoding="utf-8"), re.M)
    }
    assert found == RUN_BY.keys()
    for test in RUN_BY.values():
        source = (root / "tests" / test).read_text(encoding="utf-8")
        assert re.search(r"\bexec\(|\boutputs\(|doctest", source)


def test_a_value_that_is_not_the_one_shown_is_found() -> None:
    assert run("x = 2\nx + 1  # -> 3\nx * 2  # -> 5", "example") == [("3", "3"), ("4", "5")]


@pytest.mark.parametrize("name", PAGES)
def test_every_block_is_python_that_is_run_or_text(name: str) -> None:
    blocks = BLOCK.findall(page(name))
    assert len(blocks) == page(name).count("\n```") / 2
    assert {language for _, language, _ in blocks} <= {"python", "text"}
    for _, language, code in blocks:
        if language == "python":
            ast.parse(code)


PRINTED = [name for name in PAGES if re.search(r"^print\(.*\n```\n```text$", page(name), re.M)]


def without_rounding(text: str) -> str:
    """The error of a difference is rounding, which differs by processor."""
    return re.sub(r"(error|오차) \S+", r"\1", text)


@pytest.mark.parametrize("name", PRINTED)
def test_text_is_what_the_block_before_prints(name: str, capsys: Any) -> None:
    names: dict[str, Any] = {"__name__": name}
    printed, compared = "", 0
    for need, language, code in BLOCK.findall(page(name)):
        if language == "text":
            assert without_rounding(code) == without_rounding(printed)
            compared += 1
        elif not need:
            exec(compile(code, name, "exec"), names)
            printed = capsys.readouterr().out
    assert compared >= 3


def test_text_that_is_printed_is_found() -> None:
    assert {"explain", "explain.ko"} <= set(PRINTED)


@pytest.mark.parametrize("name", PAGES)
def test_every_row_of_a_table_has_as_many_cells_as_its_head(name: str) -> None:
    for table in re.findall(r"(?:^\|.*\|\n)+", page(name), re.M):
        rows = [len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()]
        assert set(rows) == {rows[0]}


NAMES = {"tk": tk, "np": np, "F": F, "nn": tk.nn, "optim": tk.optim, "data": tk.data}
OURS = re.compile(r"\b(tk|np|F|nn|optim|data)\.(\w+(?:\.\w+)*)")


def names_in_tables(text: str) -> set[tuple[str, str]]:
    """The names of ours in the right column of the page's tables."""
    cells = re.findall(r"^\|.*\| (.*) \|$", text, re.M)
    return {
        found
        for cell in cells
        for code in re.findall(r"`([^`]+)`", cell)
        for found in OURS.findall(code)
    }


@pytest.mark.parametrize("name", PAGES)
def test_the_names_in_tables_are_there(name: str) -> None:
    for module, path in names_in_tables(page(name)):
        value: Any = NAMES[module]
        for part in path.split("."):
            value = getattr(value, part)


def test_the_tables_name_many() -> None:
    assert len(names_in_tables(page("from_keras"))) > 15
    assert ("optim", "lr_scheduler.StepLR") in names_in_tables(page("from_pytorch"))
