"""Tests, benchmarks and examples import a public name by its public module."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("tests", "benchmarks", "docs", "examples")
PUBLIC = [
    import_module(f"tinygrad_kr{part}")
    for part in (
        *("", ".autograd", ".compile", ".data", ".functional", ".linalg", ".nn", ".nn.init"),
        *(".optim", ".optim.lr_scheduler", ".optim.rules", ".random", ".testing", ".tree"),
        *(".interop", ".interop.scipy"),
    )
]
HOMES = {
    id(value): module.__name__
    for module in reversed(PUBLIC)
    for name in getattr(module, "__all__", ())
    if callable(value := getattr(module, name))
}
"""Where a public function or class is to be imported from."""


def imported(text: str) -> Iterator[tuple[str, str]]:
    """Modules of the package and the names that a file takes from them."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tinygrad_kr."):
            assert node.module is not None
            yield from ((node.module, alias.name) for alias in node.names)


def from_elsewhere(text: str) -> list[str]:
    """Imports of public names from modules that users do not know."""
    known = {module.__name__ for module in PUBLIC}
    found = [
        (name, module, HOMES.get(id(getattr(import_module(module), name, None))))
        for module, name in imported(text)
        if module not in known
    ]
    return [f"{name} is in {home}, not in {module}" for name, module, home in found if home]


@pytest.mark.parametrize("folder", FOLDERS)
def test_public_names_are_imported_from_public_modules(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    wrong = {f.name: w for f in files if (w := from_elsewhere(f.read_text(encoding="utf-8")))}
    assert not wrong


def test_an_import_from_elsewhere_is_found() -> None:
    text = "from tinygrad_kr.tensor import Tensor\nfrom tinygrad_kr.nn import Linear\n"
    assert from_elsewhere(text) == ["Tensor is in tinygrad_kr, not in tinygrad_kr.tensor"]


# ------------------------------------------------------------------ names of scripts


def required() -> set[str]:
    """Names of the packages that the extras install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    return {re.split(r"[^\w-]", line)[0].lower().replace("-", "_") for line in extras}


@pytest.mark.parametrize("folder", ["benchmarks", "examples"])
def test_no_script_has_the_name_of_a_package(folder: str) -> None:
    """A script's folder comes first in `sys.path`: `distributed.py` would hide Dask's package."""
    packages = required() | sys.stdlib_module_names
    assert {"distributed", "torch", "scikit_learn"} <= packages
    assert not packages & {path.stem for path in (ROOT / folder).iterdir()}
