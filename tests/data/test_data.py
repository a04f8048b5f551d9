"""The package as a whole: what it offers, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import tinygrad_kr.data

PROGRAM = """
import sys
import numpy, numpy.random
before = set(sys.modules)
import tinygrad_kr.data
print(*(set(sys.modules) - before))
"""


def test_every_public_name_is_there_and_documented() -> None:
    assert tinygrad_kr.data.__all__ == sorted(tinygrad_kr.data.__all__)
    for name in tinygrad_kr.data.__all__:
        assert getattr(tinygrad_kr.data, name).__doc__


def test_importing_it_imports_nothing_that_only_some_calls_need() -> None:
    run = [sys.executable, "-c", PROGRAM]
    imported = subprocess.run(
        run, capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout.split()
    assert "tinygrad_kr.data.download" in imported
    heavy = {"urllib.request", "http.client", "ssl", "socket", "csv", "gzip", "hashlib", "tqdm"}
    assert not heavy & set(imported)
