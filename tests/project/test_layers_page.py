"""docs/layers.md has every layer and every function of nets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tinygrad_kr as tk

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    sys.path.insert(0, str(DOCS))
    import layers_page

    yield layers_page
    sys.path.remove(str(DOCS))


@pytest.mark.parametrize(("lang", "name"), [("en", "layers.md"), ("ko", "layers.ko.md")])
def test_the_lists_are_generated_and_whole(page: Any, lang: str, name: str) -> None:
    shown = (DOCS / name).read_text(encoding="utf-8")
    assert shown == page.page(lang), "run: python docs/layers_page.py"
    for module in (tk.nn, tk.functional):
        public = (n for n in module.__all__ if callable(getattr(module, n)))
        assert not [n for n in public if f"`{n}`" not in shown]
