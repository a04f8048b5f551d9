"""The random generators that a model, an optimizer, a schedule or a loader holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from types import FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

import numpy as np

from tinygrad_kr.tensor import Tensor

_LONG = 1000
"""Limit: a longer list, tuple or dict holds data, and is not searched."""
_CLOSED = (Tensor, np.ndarray, np.generic, str, bytes, int, float, ModuleType)
_OTHERS = {"builtins", "collections", "functools", "numpy", "types"}
"""Packages whose classes have no generators as attributes."""


def generators_in(part: Any) -> dict[str, np.random.Generator]:
    """The generators that can be reached from an object, by path (`"layers.0.generator"`).

    The way goes through attributes, also those of a class and in slots; lists, tuples, deques,
    dicts; bound methods, `functools.partial`, the defaults of a function, and the variables that it
    takes from the function around it. Global variables are not searched.
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
    if isinstance(value, dict | list | tuple | deque):
        if len(value) <= _LONG:
            yield from _items(value)
    elif isinstance(value, MethodType):
        yield "__self__", value.__self__
        yield "__func__", value.__func__
    elif isinstance(value, partial):
        yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
    elif isinstance(value, FunctionType):
        yield from _closure(value)
        yield from (("__defaults__", value.__defaults__), ("__kwdefaults__", value.__kwdefaults__))
    if isinstance(value, type):
        yield from _of_class(value)
    else:
        yield "__class__", type(value)
        yield from _slots(value)
        yield from getattr(value, "__dict__", {}).items()


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """The items of a container. A key that is neither text nor a number is named by its place."""
    named = value.items() if isinstance(value, dict) else enumerate(value)
    for place, (name, x) in enumerate(named):
        yield str(name) if isinstance(name, str | int) else f"[{place}]", x


def _of_class(kind: type) -> Iterator[tuple[str, Any]]:
    """The generators among a class's attributes, the lists, tuples and dicts there; its bases."""
    if kind.__module__.partition(".")[0] not in _OTHERS:
        for name, value in list(vars(kind).items()):
            if isinstance(value, np.random.Generator | dict | list | tuple):
                yield name, value
        yield "__bases__", kind.__bases__


def _slots(value: Any) -> Iterator[tuple[str, Any]]:
    for base in type(value).__mro__:
        if "__slots__" in vars(base):
            for name, member in vars(base).items():
                if isinstance(member, MemberDescriptorType):
                    with suppress(AttributeError):  # not assigned yet
                        yield name, member.__get__(value)


def _closure(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue
