"""What a release says of itself: dependencies, CITATION.cff, SECURITY.md."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import tinygrad_kr as tk

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]


def citation() -> dict[str, Any]:
    """CITATION.cff, of YAML as plain as it is: `name: text`, and lists below a name."""
    fields: dict[str, Any] = {}
    name = ""
    for line in (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines():
        if item := re.fullmatch(r"  - (?:name: )?(.+)", line):
            fields.setdefault(name, []).append(item[1])
        else:
            name, colon, text = line.partition(":")
            assert colon and re.fullmatch("[a-z-]+", name), line
            if text:
                fields[name] = text.strip().strip('"')
    return fields


def test_numpy_is_the_only_dependency() -> None:
    assert PROJECT["dependencies"] == ["numpy>=2"]


def test_the_version_is_the_same_everywhere() -> None:
    assert tk.__version__ == PROJECT["version"] == citation()["version"]


def test_the_citation_says_what_the_project_says() -> None:
    found = citation()
    assert found["cff-version"] == "1.2.0"
    assert found["type"] == "software"
    assert found["message"]
    assert found["title"] == PROJECT["name"]
    assert found["abstract"] == PROJECT["description"]
    assert found["license"] == PROJECT["license"]
    assert found["keywords"] == PROJECT["keywords"]
    assert found["authors"] == ["The tinygrad_kr authors"]
    assert "the tinygrad_kr authors" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_security_says_what_is_promised_what_is_not_and_whom_to_tell() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    titles = re.findall("^## (.*)", text, re.MULTILINE)
    assert titles == ["Report a vulnerability", "What is promised", "What is not promised"]
    assert "private advisories" in text


UNPICKLING = {"load", "loads", "Unpickler"}
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def unpickles(source: str) -> list[int]:
    """Lines that unpickle, or that let NumPy do so."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in MODULES and node.attr in UNPICKLING:
                found.append(node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            found += [node.lineno for name in node.names if name.name in UNPICKLING]
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                found.append(node.value.lineno)
        elif isinstance(node, ast.Name) and node.id in ("marshal", "shelve"):
            found.append(node.lineno)
    return found


OF_WORKERS = "tinygrad_kr/workers.py"
"""The errors of a sweep's own workers, whose results come as pickles too."""


def test_nothing_is_unpickled() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tinygrad_kr").rglob("*.py")
        if unpickles(path.read_text(encoding="utf-8"))
    }
    assert found == {OF_WORKERS}


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("pickle.load(file)", 1),
        ("from pickle import loads", 1),
        ("np.load(path, allow_pickle=True)", 1),
        ("np.load(path, allow_pickle=flag)", 1),
        ("marshal.loads(text)", 2),
        ("np.load(path, allow_pickle=False); pickle.dumps(1); json.load(file)", 0),
    ],
)
def test_unpickling_is_noticed(code: str, count: int) -> None:
    assert len(unpickles(code)) == count
