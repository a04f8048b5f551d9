"""Writes the tables of figures into docs/scale.md and docs/scale.ko.md, each between two marks.

    python docs/scale_page.py

They are read from what `benchmarks/data_parallel.py` and `benchmarks/scaling_model.py` left.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "benchmarks" / "results"
PAGES = {"en": DOCS / "scale.md", "ko": DOCS / "scale.ko.md"}
HEADERS = {
    "en": {
        "measured": "net | by | examples/s, 1 rank | 2 ranks | ms a step | communication | bytes",
        "network": "alpha, us | beta, ns a byte",
        "predicted": "net | 8 ranks | 64 | 1,024 | 10 Gbit/s: 8 ranks | 64 | 1,024",
        "checked": "net | 2 ranks | 4 | 8",
    },
    "ko": {
        "measured": "신경망 | 실행 | 초당 표본, 1 랭크 | 2 랭크 | 스텝 ms | 통신 | 바이트",
        "network": "alpha, us | beta, 바이트당 ns",
        "predicted": "신경망 | 8 랭크 | 64 | 1,024 | 10 Gbit/s: 8 랭크 | 64 | 1,024",
        "checked": "신경망 | 2 랭크 | 4 | 8",
    },
}
KINDS = {
    "en": {"eager": "eager", "compiled": "compiled", "torch": "PyTorch"},
    "ko": {"eager": "즉시 실행", "compiled": "컴파일", "torch": "PyTorch"},
}


def rows_of(results: dict[str, Any], model: dict[str, Any], kinds: dict[str, str]) -> Any:
    """The rows of each table."""
    nets = list(results["nets"])
    measured = []
    for net in nets:
        for kind, name in kinds.items():
            one, two = results[kind]["1"][net], results[kind]["2"][net]
            speeds = f"{one['examples_per_second']:,.0f} | {two['examples_per_second']:,.0f}"
            share = f"{two['share_in_communication']:.0%} | {two['bytes_per_step']:,}"
            measured.append(f"{net} | {name} | {speeds} | {two['ms']:.1f} | {share}")
    chosen = [model["ranks"].index(p) for p in (8, 64, 1024)]
    shares = {
        net: [f"{model[key][net][i]:.0%}" for key in ("here", "ethernet") for i in chosen]
        for net in nets
    }
    ratios = {
        net: [f"{c['ratio']:.2f}" for c in model["checks"] if c["net"] == net] for net in nets
    }
    return {
        "measured": measured,
        "network": [f"{model['alpha_us']} | {model['beta_ns_per_byte']}"],
        "predicted": [" | ".join([net, *shares[net]]) for net in nets],
        "checked": [" | ".join([net, *ratios[net]]) for net in nets],
    }


def page(language: str) -> str:
    """The whole page with the present figures."""
    results = json.loads((RESULTS / "data_parallel.json").read_text(encoding="utf-8"))
    model = json.loads((RESULTS / "scaling_model.json").read_text(encoding="utf-8"))
    text = PAGES[language].read_text(encoding="utf-8")
    for name, rows in rows_of(results, model, KINDS[language]).items():
        header = HEADERS[language][name]
        lines = [header, "|".join("---" for _ in header.split("|")), *rows]
        table = "\n".join(f"| {line} |" for line in lines)
        marks = f"<!-- {name} -->\n", "\n<!-- end -->"
        found = re.compile(re.escape(marks[0]) + ".*?" + re.escape(marks[1]), re.S)
        text, count = found.subn(lambda _, new=marks[0] + table + marks[1]: new, text)
        assert count == 1, name
    return text


if __name__ == "__main__":
    for language, path in PAGES.items():
        path.write_text(page(language), encoding="utf-8")
