"""The tables of docs/onnx.md are what the code says, and its examples run."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")
DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    sys.path.insert(0, str(DOCS))
    import onnx_page

    yield onnx_page
    sys.path.remove(str(DOCS))


@pytest.mark.parametrize("name", ["onnx.md", "onnx.ko.md"])
def test_the_tables_are_generated(page: Any, name: str) -> None:
    shown = (DOCS / name).read_text(encoding="utf-8")
    assert shown == page.generated(DOCS / name), "run: python docs/onnx_page.py"


@pytest.mark.parametrize("name", ["onnx.md", "onnx.ko.md"])
def test_the_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    shown = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.S)
    for block in shown:
        for line in block.splitlines():
            code, _, result = line.partition("# ")
            if result:
                assert repr(eval(code, space)) == result
            else:
                exec(code, space)
    assert len(shown) == 2
