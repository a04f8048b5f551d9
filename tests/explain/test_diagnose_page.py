"""docs/diagnose.md and docs/diagnose.ko.md: what they show is what their code prints."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tinygrad_kr.explain.diagnosis.report import CERTAIN, LEFT_OVER

DOCS = Path(__file__).parents[2] / "docs"
NUMBER = re.compile(r"\d+\.?\d*(?:e[-+]\d+)?")


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("diagnose_page", DOCS / "diagnose_page.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


program = load()


@pytest.mark.parametrize("lang", program.PAGES)
def test_the_code_prints_what_the_page_shows(lang: str) -> None:
    """Numbers to 5 %: processors round differently."""
    text = program.PAGES[lang].read_text(encoding="utf-8")
    shown = [output for _, output in program.BLOCK.findall(text)]
    printed = program.outputs(text)
    assert len(printed) == 5
    for one, other in zip(printed, shown, strict=True):
        assert NUMBER.sub("#", one) == NUMBER.sub("#", other)
        values = [[float(x) for x in NUMBER.findall(x)] for x in (one, other)]
        np.testing.assert_allclose(*values, rtol=0.05)


@pytest.mark.parametrize("lang", program.PAGES)
def test_every_kind_has_a_row(lang: str) -> None:
    text = program.PAGES[lang].read_text(encoding="utf-8")
    missing = [kind.name for kind in CERTAIN + LEFT_OVER if f"`{kind.name}`" not in text]
    assert not missing


def test_the_table_of_figures() -> None:
    text = "a\n<!-- figures -->\n| old |\n<!-- end of figures -->\nb"
    together = dict.fromkeys(program.ROWS, 0.98765)
    table = program.with_figures(text, {"figures": {"together": together}}, "en")
    assert "| precision | 0.988 |" in table and "old" not in table
    assert table.startswith("a\n") and table.endswith("-->\nb")
