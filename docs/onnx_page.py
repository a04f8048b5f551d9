"""The tables of docs/onnx.md and docs/onnx.ko.md.

    python docs/onnx_page.py      # writes both; needs the package onnx

What each layer is in ONNX is read from files that `export.onnx` writes.
"""

from __future__ import annotations

import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import tinygrad_kr as tk

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

import onnx_samples  # noqa: E402

PAGES = {
    ROOT / "docs" / "onnx.md": ("| layer | in ONNX |", "no"),
    ROOT / "docs" / "onnx.ko.md": ("| 층 | ONNX에서는 |", "안 됨"),
}
"""The pages, with the head of the table and the words for what is not exported."""
PLUMBING = {"Constant", "Identity", "Shape", "Cast"}
"""Operators that the table leaves out, but where there is no other."""


def operators_of(sample: Any) -> set[str]:
    """The operators of one sample's file."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.onnx"
        tk.export.onnx(sample.make(), sample.example, path, batch_axis=sample.batch_axis)
        kinds = {node.op_type for node in onnx.load(path).graph.node}
    return kinds - PLUMBING or {"Identity"}


def layer_rows(refused: str) -> list[str]:
    """A row for each layer."""
    rows = []
    for name in sorted(onnx_samples.layers(), key=str.lower):
        samples = [s for s in onnx_samples.SAMPLES.values() if s.kind == name]
        kinds = sorted(set().union(*map(operators_of, samples))) if samples else []
        rows.append(f"| `{name}` | {', '.join(kinds) or refused} |")
    return rows


def tables() -> dict[str, str]:
    """The lists that both pages have, by the name of their marks."""
    from tinygrad_kr.export.layers import LAYERS
    from tinygrad_kr.export.operators import WRITERS

    ops = sorted({record.__name__ for record in WRITERS}, key=str.lower)
    return {
        "ops": textwrap.fill(", ".join(f"`{name}`" for name in ops), 118),
        "operators": textwrap.fill(", ".join(sorted(LAYERS)), 118),
    }


def generated(page: Path) -> str:
    """The text of a page with its tables as they are now."""
    head, refused = PAGES[page]
    text = page.read_text(encoding="utf-8")
    found = {**tables(), "layers": "\n".join([head, "|---|---|", *layer_rows(refused)])}
    for name, table in found.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, after = text.split(start)
        text = f"{before}{start}{table}\n{end}{after.split(end)[1]}"
    return text


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(generated(page), encoding="utf-8")
