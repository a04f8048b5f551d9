"""docs/tensorflow1.md: its program descends, its lines run, both languages have the same code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    name: (DOCS / f"{name}.md").read_text(encoding="utf-8")
    for name in ("tensorflow1", "tensorflow1.ko")
}
PROGRAM = re.compile(r"```python\n(.*?)```", re.S)
ROWS = re.compile(r"^\| (`.*`) \| (.*) \|$", re.M)
CODE = re.compile(r"`([^`]+)`")
CELLS = [CODE.findall(ours) for _, ours in ROWS.findall(PAGES["tensorflow1"])]
RUN = [lines for lines in CELLS if lines and lines[0][:5] not in ("self.", "event")]


def names(code: str) -> dict[str, Any]:
    """What the lines of the table are about: shapes that fit the line."""
    window = "2d(" in code
    x = tk.randn(1, 1, 4, 4) if window else tk.randn(3, 4)
    net = nn.Linear(4, 2)
    loss = net(tk.randn(3, 4)).sum()
    found = {
        "tk": tk, "F": F, "nn": nn, "optim": optim, "Tensor": Tensor, "np": np,
        "x": x, "y": Tensor([1, 0, 2]), "t": (x > 0).float(), "b": tk.zeros(2),
        "W": tk.randn(1, 1, 2, 2) if window else tk.randn(4, 2), "value": [1.0, 2.0],
        "net": net, "optimizer": optim.SGD(net.parameters(), lr=0.1), "loss": loss,
        "f": lambda W: (W * W).sum(), "train": lambda x, y: None,
    }  # fmt: skip
    if "F.cross_entropy" in code:
        found["t"] = found["y"]
    return found


@pytest.mark.parametrize("lines", RUN, ids=lambda lines: lines[0])
def test_lines_of_ours_run(
    lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = names(lines[0]) | {"path": "net.npz"}
    if "SummaryWriter" in lines[0]:
        pytest.importorskip("tensorboardX")
    for line in lines:
        if line != "event_files.py":
            eval(line, found)


def test_the_lines_are_those_of_the_table() -> None:
    assert len(RUN) > 25
    assert ["x @ W + b"] in RUN


def test_every_line_of_the_other_side_is_tensorflows() -> None:
    for theirs, _ in ROWS.findall(PAGES["tensorflow1"]):
        for code in CODE.findall(theirs):
            assert re.match(r"tf\.|sess\.run\(|optimizer\.minimize|W\.eval", code), code


def test_both_languages_have_the_same_code() -> None:
    english, korean = (PROGRAM.findall(page) for page in PAGES.values())
    assert english == korean
    assert len(english) == 2
    rows, translated = (ROWS.findall(page) for page in PAGES.values())
    for (theirs, ours), (same, korean_ours) in zip(rows, translated, strict=True):
        assert theirs == same
        assert CODE.findall(ours) == CODE.findall(korean_ours)
    assert len(re.findall(r"^- ", PAGES["tensorflow1"], re.M)) == len(
        re.findall(r"^- ", PAGES["tensorflow1.ko"], re.M)
    )


@pytest.mark.trains
def test_the_program_descends() -> None:
    tk.manual_seed(0)
    program = PROGRAM.findall(PAGES["tensorflow1"])[1]
    assert "range(10001)" in program
    found: dict[str, Any] = {}
    exec(program.replace("range(10001)", "range(2)"), found)
    first = found["value"].item()
    for _ in range(3_000):
        last = found["train"]()
    assert last.item() < min(first, 0.6931)


def test_links_lead_to_files() -> None:
    for page in PAGES.values():
        for target in re.findall(r"\]\((.*?)\)", page):
            assert (DOCS / target).is_file()
