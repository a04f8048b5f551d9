"""Fuzz target: reading and writing at an index. NumPy's elements and errors; a sum as gradient.

An input is text: parts between commas. `2`, `-1`, `1:`, `::-2`, `None`, `...`, `True`, and lists of
numbers or truth values between brackets, `[0 1 0]`, `[t f]`.
"""

from __future__ import annotations

import re
from typing import Any

from driver import fuzz, instrumented

with instrumented():
    import tinygrad_kr as tk

import numpy as np

START = np.arange(24.0).reshape(2, 3, 4)
NAMED: dict[str, Any] = {"None": None, "...": ..., "True": True, "False": False, "": slice(None)}


def number(text: str) -> int:
    return int(text) if re.fullmatch(r"-?[0-9]{1,3}", text) else 0


def part(text: str) -> Any:
    text = text.strip()
    if text in NAMED:
        return NAMED[text]
    if text.startswith("["):
        words = text.strip("[]").split()
        if any(word in ("t", "f") for word in words):
            return np.array([word == "t" for word in words])
        found = [number(word) for word in words]
        return found if text.endswith("]") else np.array(found, np.int64)
    if ":" in text:
        return slice(*(number(word) if word else None for word in text.split(":")[:3]))
    return number(text)


def outcome(function: Any) -> Any:
    try:
        return function()
    except (IndexError, ValueError, TypeError) as error:
        return error


def target(data: bytes) -> None:
    parts = [part(text) for text in data.decode("utf-8", "replace").split(",")[:6]]
    key = parts[0] if len(parts) == 1 else tuple(parts)
    expected = outcome(lambda: START[key])
    x = tk.tensor(START, requires_grad=True)
    found = outcome(lambda: x[key])
    if isinstance(expected, Exception):
        assert isinstance(found, Exception), (key, expected, found)
        return
    assert not isinstance(found, Exception), (key, found)
    np.testing.assert_array_equal(found.data, expected)
    weights = 1.0 + np.arange(expected.size).reshape(expected.shape)
    (found * weights).sum().backward()
    total = np.zeros_like(START)
    np.add.at(total, key, weights)
    gradient = np.zeros_like(START) if x.grad is None else x.grad.data
    np.testing.assert_array_equal(gradient, total)
    written, copy = tk.tensor(START), START.copy()
    written[key] = 7.0
    copy[key] = 7.0
    np.testing.assert_array_equal(written.data, copy)


if __name__ == "__main__":
    fuzz(target, "index")
