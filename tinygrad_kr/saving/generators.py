"""The random generators that a model, an optimizer, a schedule or a loader holds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from tinygrad_kr.tensor import Tensor

_LONG = 1000
"""Limit: a longer list, tuple or dict holds data, and is not searched."""
_CLOSED = (Tensor, np.ndarray, type, ModuleType)


def generators_in(part: Any) -> dict[str, np.random.Generator]:
    """The generators that can be reached from an object, by path (`"layers.0.generator"`).

    The way goes through attributes, lists, tuples, dicts, bound methods, `functools.partial`, and
    the variables that a function takes from the function around it. Global variables are not
    searched.
    """
    found: dict[str, np.random.Generator] = {}
    seen: set[int] = set()
    waiting = [("", part)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, np.random.Generator):
            found[path] = value
        elif id(value) not in seen and not isinstance(value, _CLOSED):
            seen.add(id(value))
            waiting += [(f"{path}.{name}" if path else name, x) for name, x in _members(value)]
    return dict(sorted(found.items()))


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list | tuple):
        if len(value) <= _LONG:
            named = value.items() if isinstance(value, dict) else enumerate(value)
            yield from ((str(name), x) for name, x in named if isinstance(name, str | int))
    elif isinstance(value, MethodType):
        yield "__self__", value.__self__
        yield "__func__", value.__func__
    elif isinstance(value, partial):
        yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
    elif isinstance(value, FunctionType):
        yield from _closure(value)
    yield from getattr(value, "__dict__", {}).items()


def _closure(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue
