"""Writes the pages of the public names that the course uses: docs/names.md and docs/names.ko.md.

    python docs/names_page.py

English summaries and all examples are those of the docstrings. The Korean summaries and formulas
stand in `names_korean.txt`, with examples of methods whose docstrings have none. The names are read
from the programs by their syntax.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_kr as tk

DOCS = Path(__file__).parent
EXAMPLES = DOCS.parent / "examples"
PROGRAMS = sorted(EXAMPLES.rglob("*.py"))
SHORT = {"tinygrad_kr.functional": "F", "tinygrad_kr.nn": "nn", "tinygrad_kr.optim": "optim",
         "tinygrad_kr.data": "data", "tinygrad_kr": "tk"}  # fmt: skip
"""Modules as the programs call them; the first that fits."""
CLASSES = (tk.Tensor, tk.nn.Module, tk.optim.Optimizer, tk.data.DataLoader, tk.nn.RBM, tk.nn.DBN,
           tk.Monitor, tk.SummaryWriter)  # fmt: skip
"""Whose methods and properties the programs use by name alone."""
OTHERS = {"scatter", "state", "unflatten", "close", "log_likelihood", "DBN.sample",
          "Monitor.step"}  # fmt: skip
"""Of panels of matplotlib, of the programs' own classes, of problems for SciPy, of files."""
TITLES = {
    "en": ("# Names that the course uses", "[한국어](names.ko.md)",
           "The public functions, classes and methods in the programs of [the course]"
           "(../examples/README.md),\nwith what they compute and an example."),
    "ko": ("# 강좌에 나오는 이름", "[English](names.md)",
           "[강좌](../examples/README.ko.md)의 프로그램에 나오는 함수, 클래스, 메서드를 "
           "설명합니다. 무엇을 계산하는지,\n공식과 예를 적었습니다. 예에서 `tk`는 tinygrad_kr, "
           "`F`는 tinygrad_kr.functional, `np`는 NumPy입니다."),
}  # fmt: skip


# ------------------------------------------------------------------ names


def names_in(program: Path) -> Iterator[str]:
    """The dotted names of the package in a program, and `Class.name` of methods it may use."""
    tree = ast.parse(program.read_text(encoding="utf-8"))
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {a.asname or a.name: a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            known |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    for node in ast.walk(tree):
        path = dotted(node, known)
        if path is not None and path.startswith("tinygrad_kr."):
            yield path
        elif isinstance(node, ast.Attribute) and path is None:
            yield from (f"{cls.__name__}.{node.attr}" for cls in CLASSES if owns(cls, node.attr))


def dotted(node: ast.AST, known: dict[str, str]) -> str | None:
    """`F.relu` as tinygrad_kr.functional.relu, with the imports of a program."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        base = dotted(node.value, known)
        return None if base is None else f"{base}.{node.attr}"
    return None


def owns(cls: type, name: str) -> bool:
    """Whether a class has this public name, and other objects of the programs do not."""
    others = (np.ndarray, dict, str, Path, np.random.Generator)
    if name.startswith("_") or {name, f"{cls.__name__}.{name}"} & OTHERS:
        return False
    if any(hasattr(other, name) for other in others):
        return False
    own = getattr(cls, name, None)
    bases = (base for base in CLASSES if base is not cls and issubclass(cls, base))
    if any(getattr(base, name, None) is own for base in bases):
        return False
    return getattr(getattr(cls, name, None), "__doc__", None) is not None


def value_of(name: str) -> Any:
    """What a name stands for."""
    if name.startswith(tuple(f"{cls.__name__}." for cls in CLASSES)):
        cls, _, inner = name.partition(".")
        return getattr(next(one for one in CLASSES if one.__name__ == cls), inner)
    value: Any = tk
    for part in name.split(".")[1:]:
        if not hasattr(value, part):
            importlib.import_module(f"{value.__name__}.{part}")
        value = getattr(value, part)
    return value


def shown(name: str) -> str:
    """A name as the programs write it."""
    for module, short in SHORT.items():
        if name.startswith(f"{module}."):
            inner = name.removeprefix(f"{module}.")
            return f"tk.{inner}" if short == "tk" else f"{short}.{inner}"
    return name


def is_public(name: str) -> bool:
    """A function, class, method or property with a docstring, in a public module."""
    if name.split(".")[1] in ("language", "files", "command_line"):
        return False  # of the programs' own machinery
    value = value_of(name)
    return (callable(value) or isinstance(value, property)) and bool(value.__doc__)


def course_names() -> dict[str, Any]:
    """The public names of the package that the course uses, as written there, and their values."""
    found = {name for program in PROGRAMS for name in names_in(program)}
    return {shown(name): value_of(name) for name in sorted(found) if is_public(name)}


# ------------------------------------------------------------------ the pages


def korean() -> dict[str, tuple[str, str]]:
    """The Korean summary and formula of each name; an example, "" where the docstring has one."""
    text = (DOCS / "names_korean.txt").read_text(encoding="utf-8")
    entries = (entry.partition("\n") for entry in text.strip().split("\n\n"))
    parts = ((name, *said.partition(">>> ")) for name, _, said in entries)
    return {name: (said.strip(), mark + code) for name, said, mark, code in parts}


def summary(value: Any) -> str:
    """The first paragraph of a docstring."""
    return docstring(value).split("\n\n")[0]


def example(value: Any, other: str) -> str:
    """The first example of a docstring, or else another, as a block."""
    found = re.search(r"^>>> .*?(?=\n\n|\Z)", docstring(value), re.M | re.S)
    return f"\n```pycon\n{(found[0] if found else other).rstrip()}\n```\n"


def docstring(value: Any) -> str:
    """Of a module that is called, that of its function, if it has one."""
    own = type(value).__call__.__doc__ if inspect.ismodule(value) else None
    return inspect.cleandoc(own or value.__doc__)


def page(lang: str) -> str:
    """The text of a page."""
    title, other, intro = TITLES[lang]
    said = korean()
    parts = [f"{title}\n\n{other}\n\n{intro}\n"]
    for name, value in course_names().items():
        korean_text, other = said[name]
        text = korean_text if lang == "ko" else summary(value)
        parts.append(f"\n## `{name}`\n\n{text}\n{example(value, other)}")
    return "".join(parts)


def main() -> None:
    for lang, suffix in (("en", ""), ("ko", ".ko")):
        (DOCS / f"names{suffix}.md").write_text(page(lang), encoding="utf-8")


if __name__ == "__main__":
    main()
