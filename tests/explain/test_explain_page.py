"""docs/guides/explain.md: what it shows is what is printed."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


def without_rounding(text: str) -> str:
    """The error of a difference is rounding, which differs by processor."""
    return re.sub(r"(error|오차) \S+", r"\1", text)


@pytest.mark.parametrize("page", ["explain.md", "explain.ko.md"])
def test_the_text_is_what_the_block_before_prints(page: str) -> None:
    text = (GUIDES / page).read_text(encoding="utf-8")
    names = {"__name__": page}
    printed, compared = "", 0
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S):
        if language == "text":
            assert without_rounding(code) == without_rounding(printed)
            compared += 1
        else:
            stream = io.StringIO()
            with contextlib.redirect_stdout(stream):
                exec(compile(code, page, "exec"), names)
            printed = stream.getvalue()
    assert compared == 4
