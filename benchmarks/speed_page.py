"""The tables of docs/speed.md and README.md in both languages, from what the suite measured.

python benchmarks/suite.py --json benchmarks/results/suite.json
python benchmarks/suite.py --vectors avx2 --json benchmarks/results/suite_avx2.json
python benchmarks/speed_page.py                       # writes the pages
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import suite
import workloads

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
DOCS = HERE.parent / "docs"
PAGES = {
    "en": [DOCS / "speed.md", HERE.parent / "README.md"],
    "ko": [DOCS / "speed.ko.md", HERE.parent / "README.ko.md"],
}
FEW = ["xor", "mnist", "cnn", "gpt", "lstm", "gp", "kalman"]
"""Rows that the README shows."""

KOREAN = {
    "xor": "XOR 2-10-1 시그모이드, SGD, 배치 4",
    "deep": "깊은 신경망 2-(5 x 10)-1 ReLU, 배치 4",
    "mnist": "MNIST MLP 784-256-256-10, 배치 100",
    "wide": "넓은 MLP 784-1024-1024-10, 배치 512",
    "cnn": "CNN 32-64, 1x28x28, 배치 100",
    "resnet": "ResNet 16-32-64, 배치 정규화, 3x32x32, 배치 32",
    "separable": "깊이별 분리 합성곱 CNN, 3x32x32, 배치 32",
    "vae": "VAE 784-400-20, 배치 100",
    "autoencoder": "오토인코더 784-128-64-12, 배치 100",
    "gpt": "GPT 4 x 64, 헤드 4, T 32, 배치 32",
    "lstm": "LSTM 2 x 128, T 32, 배치 32",
    "gru": "GRU 2 x 128, T 32, 배치 32",
    "skipgram": "스킵그램, 단어 10,000개 x 100, 배치 512",
    "rbm": "RBM 784-128, CD-1, 배치 100",
    "gradient": "로젠브록 100차원, 기울기",
    "hessian": "로젠브록 100차원, 헤시안",
    "gp": "가우스 과정, n = 100",
    "logistic": "로지스틱 회귀의 헤시안 2000 x 8",
    "pinn": "u''이 있는 PINN, 점 100개",
    "sinkhorn": "싱크혼 60 x 60, 30회",
    "kalman": "칼만 필터의 가능도, 50스텝",
    "samples": "표본 64개 각각의 기울기, MLP 20-64-64-2",
    "xor-repeat": "XOR, repeat(10_000), 한 스텝",
}
"""Titles of the rows in Korean."""
PARTS = {
    "eager / PyTorch": ("eager / PyTorch", "즉시 실행 / PyTorch"),
    "compiled / best": ("compiled / best peer", "컴파일 / 가장 빠른 상대"),
    "first / JAX": ("first call / JAX", "첫 호출 / JAX"),
    "memory / PyTorch": ("memory / PyTorch", "메모리 / PyTorch"),
}
BLOCK = re.compile(r"<!-- (\w+) (\w+) -->\n.*?<!-- end -->", re.S)
Rows = Mapping[str, Any]


def titles(lang: str) -> Mapping[str, str]:
    return workloads.TITLES if lang == "en" else KOREAN


def table(head: list[str], lines: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *lines))


def ratio(key: str, name: str, figures: Any) -> str:
    """A ratio, bold where it misses its aim."""
    found = suite.ratios(figures).get(name)
    if found is None:
        return ""
    text = f"{found:.2f}" if found >= 0.1 else f"{found:.3f}"
    missed = any(line.startswith(f"{name} ") for line in suite.missed(key, figures))
    return f"**{text}**" if missed else text


def steps(rows: Rows, lang: str) -> str:
    """Microseconds of a step in each framework, and two ratios."""
    columns = ["eager", "compiled", *suite.PEERS]
    ratios = list(suite.AIMS)[:2]
    lines = []
    for key, figures in rows.items():
        cells = [
            suite.microseconds(figures["steps"][name]) if name in figures["steps"] else ""
            for name in columns
        ]
        lines.append([titles(lang)[key], *cells, *(ratio(key, name, figures) for name in ratios)])
    head = [suite.COLUMNS[name] for name in columns]
    head[0] = ("eager", "즉시 실행")[lang == "ko"]
    return table(["", *head, *(PARTS[name][lang == "ko"] for name in ratios)], lines)


def few(rows: Rows, lang: str) -> str:
    """Microseconds of a step: some rows, without ratios."""
    columns = ["eager", "compiled", "torch", "jax"]
    head = [("eager", "즉시 실행")[lang == "ko"], *(suite.COLUMNS[name] for name in columns[1:])]
    lines = [
        [titles(lang)[key], *(suite.microseconds(rows[key]["steps"][name]) for name in columns)]
        for key in FEW
    ]
    return table(["", *head], lines)


def costs(rows: Rows, lang: str) -> str:
    """Seconds of first calls, and the memory of a step in MB."""
    words = {
        "en": ["", "first call, s", "JAX", "ratio", "memory, MB", "PyTorch", "ratio"],
        "ko": ["", "첫 호출, 초", "JAX", "비율", "메모리, MB", "PyTorch", "비율"],
    }
    lines = []
    for key, figures in rows.items():
        first, memory = figures.get("first call", {}), figures.get("memory", {})
        ours = [memory[name] for name in suite.OURS if name in memory]
        cells = [
            *(f"{first[name]:.2f}" if name in first else "" for name in ("compiled", "jax")),
            ratio(key, "first / JAX", figures),
            f"{max(ours) / 1e6:.1f}" if ours else "",
            f"{memory['torch'] / 1e6:.1f}" if "torch" in memory else "",
            ratio(key, "memory / PyTorch", figures),
        ]
        if any(cells):
            lines.append([titles(lang)[key], *cells])
    return table(words[lang], lines)


def means(rows: Rows, lang: str) -> str:
    """Geometric means, the worst row of each ratio, and what both are to reach."""
    words = {
        "en": ["", "geometric mean", "at most", "worst row", "at most", "rows that miss it"],
        "ko": ["", "기하 평균", "목표", "가장 나쁜 줄", "목표", "목표에 못 미친 줄"],
    }
    lines = []
    for name, mean in suite.means(rows).items():
        every = {key: found for key in rows if (found := suite.ratios(rows[key]).get(name))}
        missed = [
            key
            for key in every
            if any(line.startswith(f"{name} ") for line in suite.missed(key, rows[key]))
        ]
        row, whole = suite.AIMS[name]
        shown = f"**{mean:.2f}**" if mean > whole else f"{mean:.2f}"
        worst = max(every, key=lambda key: every[key])
        cells = [shown, f"{whole}", f"{every[worst]:.2f} ({worst})", f"{row}", f"{len(missed)}"]
        lines.append([PARTS[name][lang == "ko"], *cells])
    return table(words[lang], lines)


TABLES: dict[str, Callable[[Rows, str], str]] = {
    "steps": steps,
    "few": few,
    "costs": costs,
    "means": means,
}


def with_tables(text: str, lang: str) -> str:
    """The page with the tables of the results that its comments name."""

    def shown(found: re.Match[str]) -> str:
        file = RESULTS / f"{found[2]}.json"
        rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
        able = {key: row for key, row in rows.items() if "error" not in row}
        return f"<!-- {found[1]} {found[2]} -->\n{TABLES[found[1]](able, lang)}\n<!-- end -->"

    return BLOCK.sub(shown, text)


if __name__ == "__main__":
    for lang, pages in PAGES.items():
        for page in pages:
            page.write_text(with_tables(page.read_text(encoding="utf-8"), lang), encoding="utf-8")
