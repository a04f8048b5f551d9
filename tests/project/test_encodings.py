"""Files and consoles that are not UTF-8, as those of Korean Windows (cp949) are not."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("tinygrad_kr", "examples", "benchmarks", "docs", "tests", ".ci")
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
CONSOLES = ["cp949", "cp1252", "ascii"]

# ------------------------------------------------------------------ every file has its encoding

TEXT_METHODS = {"read_text": 0, "write_text": 1}
"""Methods for text, and the place of their `encoding`."""
FILES = {"NamedTemporaryFile": (0, "w+b"), "TemporaryFile": (0, "w+b"), "fdopen": (1, "r")}
"""Functions that open a file: the place of `mode` among their arguments, and its default."""


def unnamed_encodings(source: str) -> Iterator[tuple[int, str]]:
    """Calls that leave the encoding of text to the system: the line and the call."""
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and _leaves_it_to_the_system(call):
            yield call.lineno, ast.unparse(call)


def _leaves_it_to_the_system(call: ast.Call) -> bool:
    method = isinstance(call.func, ast.Attribute)
    name = getattr(call.func, "attr", "") if method else getattr(call.func, "id", "")
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in keywords or None in keywords:
        return False
    if name in TEXT_METHODS:
        return len(call.args) <= TEXT_METHODS[name]
    if name in ("run", "Popen", "check_output"):
        return bool({"text", "universal_newlines"} & keywords.keys())
    if name == "open" and not _is_another_open(call):
        return "b" not in _mode(call, keywords, 0 if method else 1, "r")
    if name == "TextIOWrapper":
        return len(call.args) < 2
    return name in FILES and "b" not in _mode(call, keywords, *FILES[name])


def _is_another_open(call: ast.Call) -> bool:
    """`os.open`, `Image.open`, `director.open(url)`, `writer.open("for ...")`: not text files."""
    receiver = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    others = ("os", "self", "writer", "f", "director", "https_director()", "Image")
    return receiver in (*others, "archive", "self.archive")


def _mode(call: ast.Call, keywords: dict[str | None, ast.expr], place: int, default: str) -> str:
    given = keywords.get("mode", call.args[place] if len(call.args) > place else None)
    return str(given.value) if isinstance(given, ast.Constant) else default


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_text_has_a_named_encoding(path: Path) -> None:
    found = list(unnamed_encodings(path.read_text(encoding="utf-8")))
    assert not found, "\n".join(f"{path}:{line}: {call}" for line, call in found)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ("open(x)", False),
        ("open(x, 'w')", False),
        ("open(x, 'rb')", True),
        ("open(x, mode='wb')", True),
        ("open(x, encoding='utf-8')", True),
        ("path.open('a')", False),
        ("path.open('xb')", True),
        ("path.read_text()", False),
        ("path.read_text('utf-8')", True),
        ("path.write_text(x)", False),
        ("path.write_text(x, encoding='utf-8')", True),
        ("subprocess.run(x, text=True)", False),
        ("subprocess.Popen(x, text=True, encoding='utf-8')", True),
        ("tempfile.NamedTemporaryFile()", True),
        ("tempfile.NamedTemporaryFile('w')", False),
        ("os.fdopen(x)", False),
    ],
)
def test_the_check_sees_what_is_unnamed(call: str, named: bool) -> None:
    assert [line for line, _ in unnamed_encodings(call)] == ([] if named else [1])


# ------------------------------------------------------------------ whatever the system's is

SYSTEM = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A system whose own encoding is ASCII: text that leaves it to the system fails here."""
WITH_KOREAN = """
import locale, sys
assert sys.platform != "linux" or locale.getencoding() not in ("utf-8", "UTF-8")
import numpy as np
import tinygrad_kr as tk
from tinygrad_kr import Tensor, data

data.write_csv("table.csv", [[1.5, 2]], ["키", "몸무게"])
assert data.read_csv("table.csv").names == ("키", "몸무게")
data.write_idx("digits.gz", np.arange(3, dtype=np.uint8))
assert data.read_idx("digits.gz").tolist() == [0, 1, 2]
data.digits()
값 = Tensor(np.ones(3), requires_grad=True)

@tk.compile
def 단계(x):
    loss = (값 * x).square().sum()
    값.grad = None
    loss.backward()
    return loss

for _ in range(4):
    loss = 단계(Tensor(np.arange(3.0)))
assert loss.item() == 5, loss
assert 값.grad.data.tolist() == [0, 2, 8]
assert 단계.source and 단계.explain()
"""


def test_files_are_utf_8_whatever_the_system_says(tmp_path: Path) -> None:
    """Tables, IDX files, notes and generated C, with Korean names in all of them."""
    script = tmp_path / "모델.py"
    script.write_text(WITH_KOREAN, encoding="utf-8")
    words = ["-X", "warn_default_encoding", "-W", "error", str(script)]
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, capture_output=True, timeout=120,
        env=os.environ | SYSTEM | {"TINYGRAD_KR_CACHE": str(tmp_path / "캐시")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    assert (tmp_path / "table.csv").read_text(encoding="utf-8").startswith("키,몸무게\n")


# ------------------------------------------------------------------ consoles

QUICK = {
    "examples/xor.py": ["--steps", "3", "--hidden", "2"],
    "examples/mnist.py": ["--data", "digits", "--epochs", "1", "--hidden", "8"],
    "examples/lectures/activations.py": [],
    "benchmarks/sigmoid_vs_relu_depth.py": [
        *("--depths", "1", "--activations", "relu", "--seeds", "2", "--steps", "3", "--jobs", "1"),
    ],
}
LETTERS = "결과 αé😀"


@pytest.mark.one_in(5)
@pytest.mark.parametrize("encoding", CONSOLES)
@pytest.mark.parametrize("program", QUICK)
def test_a_letter_that_the_console_does_not_know_ends_no_program(
    program: str, encoding: str, tmp_path: Path
) -> None:
    """Its folder, and what a module that it imports prints, have letters of many alphabets."""
    absent = tmp_path / "absent"
    absent.mkdir()
    text = f"print({LETTERS!r}); raise ImportError"
    (absent / "matplotlib.py").write_text(text, encoding="utf-8")
    out = tmp_path / LETTERS
    words = ["-X", "warn_default_encoding", "-W", "error::EncodingWarning", str(ROOT / program)]
    done = subprocess.run(
        [sys.executable, *words, *QUICK[program], "--out", str(out)],
        cwd=tmp_path, capture_output=True, timeout=120,
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(absent)},
    )  # fmt: skip
    errors = done.stderr.decode(encoding, "replace")
    assert done.returncode == 0, errors
    assert "Error" not in errors
    assert "?" in done.stdout.decode(encoding)
