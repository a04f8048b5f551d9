"""Writes docs/layers.md and docs/layers.ko.md: the layers of `nn`, the functions of `functional`.

    python docs/layers_page.py

The names are those of the running package, by the file that defines them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tinygrad_kr as tk

DOCS = Path(__file__).parent
TOPICS = {
    "linear": ("affine maps, dropout, tables", "아핀 변환, 드롭아웃, 표"),
    "activations": ("activations", "활성화 함수"),
    "convolution": ("convolutions, windows, padding", "합성곱, 창, 패딩"),
    "pooling": ("pooling", "풀링"),
    "normalization": ("normalisation, distances", "정규화, 거리"),
    "attention": ("attention, transformers", "어텐션, 트랜스포머"),
    "recurrent": ("recurrent nets", "순환 신경망"),
    "interpolation": ("resampling, shapes", "크기와 모양 바꾸기"),
    "losses": ("losses", "손실"),
    "containers": ("containers", "모듈을 담는 모듈"),
    "rbm": ("Boltzmann machines", "볼츠만 머신"),
    "elsewhere": ("others", "그 밖에"),
}  # fmt: skip
"""Titles of the rows in English and Korean."""
ROWS = {
    "activation": "activations", "bags": "linear", "distance": "normalization",
    "dropout": "linear", "embedding": "linear", "loss": "losses", "multi_head": "attention",
    "padding": "convolution", "shape": "interpolation", "transformer": "attention",
    "elementwise": "activations", "margin_losses": "losses", "ctc": "losses",
}  # fmt: skip
"""The row of a file that is not called so itself."""
HEADS = {
    "en": (
        "# Layers and functions of nets\n\n[한국어](layers.ko.md)\n\n"
        "Names, parameters and formulas are PyTorch's. Each has a docstring:\n"
        "`help(nn.GroupNorm)`. `nn.init` has the initialisers. `nn.utils` has clipping, vectors\n"
        "of all parameters and weight normalisation. [What each layer is in ONNX](onnx.md)\n\n"
        "| | layers: `tk.nn` | functions: `tk.functional` |\n|---|---|---|\n"
    ),
    "ko": (
        "# 신경망의 층과 함수\n\n[English](layers.md)\n\n"
        "이름, 파라미터, 공식은 PyTorch와 같습니다. 설명은 `help(nn.GroupNorm)`처럼 봅니다.\n"
        "`nn.init`에는 초기화가, `nn.utils`에는 기울기 자르기, 파라미터 벡터, 가중치 정규화가\n"
        "있습니다. [ONNX에서 각 층의 모습](onnx.ko.md)\n\n"
        "| | 층: `tk.nn` | 함수: `tk.functional` |\n|---|---|---|\n"
    ),
}


def row_of(value: Any) -> str:
    """The row of a layer or function."""
    file = str(getattr(value, "__module__", "")).rpartition(".")[2]
    row = ROWS.get(file, file)
    return row if row in TOPICS else "elsewhere"


def names_in(module: Any, row: str) -> str:
    """The public names of a module in a row."""
    values = ((name, getattr(module, name)) for name in module.__all__)
    found = [name for name, value in values if callable(value) and row_of(value) == row]
    return ", ".join(f"`{name}`" for name in sorted(found, key=str.lower))


def page(lang: str) -> str:
    """The text of a page."""
    rows = (
        f"| {titles[lang == 'ko']} | {names_in(tk.nn, row)} | {names_in(tk.functional, row)} |\n"
        for row, titles in TOPICS.items()
    )
    return HEADS[lang] + "".join(rows)


if __name__ == "__main__":
    for lang, suffix in (("en", ""), ("ko", ".ko")):
        (DOCS / f"layers{suffix}.md").write_text(page(lang), encoding="utf-8")
