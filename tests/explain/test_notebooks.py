"""examples/notebooks/: each runs from an empty kernel, in English and in Korean."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
ENGLISH = [name for name in NOTEBOOKS if not name.endswith(".ko.ipynb")]


def read(name: str) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return notebook


def cells(name: str, kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in read(name)["cells"] if cell["cell_type"] == kind]


def test_the_notebooks() -> None:
    assert ENGLISH == ["chain_rule.ipynb", "first_net.ipynb", "why_nets_fail.ipynb"]
    assert len(NOTEBOOKS) == 2 * len(ENGLISH)


@pytest.mark.parametrize("name", ENGLISH)
def test_both_languages_have_the_same_code(name: str) -> None:
    korean = name.replace(".ipynb", ".ko.ipynb")
    code = [text.replace('language("en")', 'language("ko")') for text in cells(name, "code")]
    assert code == cells(korean, "code")
    texts, others = cells(name, "markdown"), cells(korean, "markdown")
    assert len(texts) == len(others)
    assert [len(re.findall("^#+", text, re.M)) for text in texts] == [
        len(re.findall("^#+", text, re.M)) for text in others
    ]
    assert not any(re.search("[가-힣]", text) for text in texts)
    assert all(re.search("[가-힣]", text.replace("f = wx + b", "가")) for text in others)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_outputs_are_kept(name: str) -> None:
    code = [cell for cell in read(name)["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


def shown(cell: Any) -> str:
    """What a notebook shows of a cell's value: its HTML, else its text."""
    data = [output["data"] for output in cell["outputs"] if output["output_type"] != "stream"]
    return "".join(one.get("text/html", one["text/plain"]) for one in data)


WANTED = {
    "chain_rule": ["g = -10", "df/dg * dg/dw", "y = 0.7311", "dp/dx"],
    "first_net": [
        "<svg",
        "multiply-adds",
        "val_accuracy",
        ", 0.",
        "every call is compiled",
        "<svg",
        "<svg",
    ],
    "why_nets_fail": [
        "data-part",
        "sigmoid",
        "0.25",
        "model[i] = nn.Tanh()",
        "Nothing wrong",
        "ReLU",
        "tanh",
        "from 0 to 0",
    ],
}
"""What the values of the cells that have one show."""
KOREAN = {
    "multiply-adds": "곱셈-덧셈",
    "from 0 to 0": "0 ~ 0",
    "Nothing wrong": "이상을 찾지 못했습니다",
    "every call is compiled": "모든 호출이 컴파일되었습니다",
}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs_and_shows_itself(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("pygraphviz")
    nbformat = pytest.importorskip("nbformat")
    root = str(FOLDER.parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    notebook = nbformat.read(FOLDER / name, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    client.NotebookClient(notebook, timeout=120, resources=resources).execute()
    values = [shown(cell) for cell in notebook.cells if cell["cell_type"] == "code"]
    stem, korean = name.split(".")[0], ".ko" in name
    found = [value for value in values if value]
    assert len(found) == len(WANTED[stem])
    for value, wanted in zip(found, WANTED[stem], strict=True):
        assert (KOREAN.get(wanted, wanted) if korean else wanted) in value
