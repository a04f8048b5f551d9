"""What docs/diagnose.md and docs/diagnose.ko.md show below their code, and their table of figures.

python docs/diagnose_page.py out/diagnose.json      # writes both; the file is the benchmark's
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGES = {"en": HERE / "diagnose.md", "ko": HERE / "diagnose.ko.md"}
BLOCK = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.S)
ROWS = {
    "precision": ("precision", "정밀도"),
    "recall": ("recall", "재현율"),
    "silent_on_sound": (
        "sound nets on which it is silent, of 115",
        "아무 말이 없는 정상 신경망, 115개 중",
    ),
    "remedied_nets_that_train": ("remedied nets that train", "처방 뒤에 학습되는 신경망의 비율"),
    "seconds_each": ("seconds for a net, one core", "신경망 하나에 걸린 시간(초), 코어 하나"),
}  # fmt: skip


def outputs(text: str) -> list[str]:
    """What each block of Python on a page prints, run in order."""
    names: dict[str, Any] = {}
    printed = []
    for code, _ in BLOCK.findall(text):
        with contextlib.redirect_stdout(io.StringIO()) as stream:
            exec(compile(code, "diagnose.md", "exec"), names)
        printed.append(stream.getvalue())
    return printed


def with_outputs(text: str) -> str:
    """The page with what its blocks print now."""
    printed = iter(outputs(text))
    return BLOCK.sub(lambda found: f"```python\n{found[1]}```\n\n```text\n{next(printed)}```", text)


def with_figures(text: str, figures: dict[str, Any], lang: str) -> str:
    """The page with the table of the benchmark's second half."""
    together = figures["figures"]["together"]
    rows = [f"| {names[lang == 'ko']} | {together[key]:.3g} |" for key, names in ROWS.items()]
    head = "| | |\n|---|---|\n"
    start, end = "<!-- figures -->\n", "<!-- end of figures -->"
    before, after = text.split(start)
    table = head + "\n".join(rows)
    return f"{before}{start}{table}\n{end}{after.split(end)[1]}"


if __name__ == "__main__":
    for lang, page in PAGES.items():
        shown = with_outputs(page.read_text(encoding="utf-8"))
        if len(sys.argv) > 1:
            measured = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
            shown = with_figures(shown, measured, lang)
        page.write_text(shown, encoding="utf-8")
