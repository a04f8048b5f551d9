"""Finds English sentences in what a program says in Korean."""

from __future__ import annotations

import re

CODE = re.compile(
    r"`[^`]*`"  # names
    r"|'[^'\n]*'|\"[^\"\n]*\""
    r"|^ {4,}(?:python|pip|tensorboard|#).*$"  # commands
    r"|^ *[A-Za-z_][\w.\[\]]* = .*$"  # assignments
    r"|\[[^\]\n]*\]"  # options of a usage
    r"|\S*[/\\]\S*"  # paths
    r"|\w*(?:[_.=({]\w*)+[)}]?"  # code and file names
    r"|-{1,2}[a-z]\w*",
    re.M,
)
SENTENCE = re.compile(r"[A-Za-z][a-z]+(?:,? [A-Za-z]?[a-z]+){2,}")
NAMES = set(
    re.findall(
        r"\w+",
        "Leaky ReLU tanh ELU Maxout SELU GELU SiLU Mish He Xavier MNIST Adam SGD Keras XOR AND OR "
        "NumPy SciPy OpenBLAS Carpenter Stan if you want yo yf yant wan hihell ihello",
    )
)
"""Functions, people, data, libraries, and the sentences that the character nets learn."""


def english_sentences(shown: str) -> list[str]:
    """Three or more English words in a row that are neither code nor names."""
    found = SENTENCE.findall(CODE.sub(" | ", shown))
    return [text for text in found if set(re.findall(r"\w+", text)) - NAMES]
