"""What a function computes, as short texts by name: a resumed run names what has changed.

`parts("train", train)` covers the function's code, defaults, closure and globals, and those of the
functions that it reads, the files of modules that it imports, and the arrays of data sets and
loaders. Python's library, this package and installed packages count as fixed, as their versions do.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import operator
import os
import re
import sys
import sysconfig
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from fractions import Fraction
from importlib.util import find_spec, resolve_name
from pathlib import PurePath
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tinygrad_kr.nn import Module
from tinygrad_kr.tensor import Tensor

_PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, bytearray, range, slice, type(...)),
    *(np.generic, np.dtype, Decimal, Fraction, PurePath, date, time, timedelta),
    *(operator.attrgetter, operator.itemgetter, operator.methodcaller),
)
_LONGEST = 60
"""Longest text that is kept in full; characters."""
_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")
_PASSING = {
    *("_pass", "_resumed", "generator", "epoch", "_is_set"),
    *("_map", "found", "_found", "_open", "_kept", "_lock"),
}
"""Attributes of data sets and loaders that change while they are used, or when a file is copied."""


@dataclass(frozen=True)
class _Import:
    """A module that a function imports when it is called, and its file."""

    name: str
    file: str | None


def parts(name: str, value: Any) -> dict[str, str]:
    """A text for the value and one for each thing that it is made of, by names as "train.RATE".

    Equal values have equal texts, in another process too. Of an object of C, or of an installed
    package, only the type counts.
    """
    return dict(_parts(name, value, set()))


def _parts(name: str, value: Any, seen: set[int]) -> Iterator[tuple[str, str]]:
    if _is_plain(value):
        yield name, _short(_text(value))
    elif isinstance(value, Tensor | np.ndarray):
        yield name, _array(np.asarray(value.data if isinstance(value, Tensor) else value))
    elif id(value) not in seen:
        seen.add(id(value))
        yield name, _own(value)
        for part, inner in _inner(value):
            yield from _parts(name + part, inner, seen)


# ------------------------------------------------------------------ texts


def _is_plain(value: Any, depth: int = 3) -> bool:
    """Whether it is a number, a string or the like, or a shallow container of them."""
    if isinstance(value, _PLAIN):
        return True
    if not depth or not isinstance(value, tuple | list | set | frozenset | dict):
        return False
    items = [*value, *value.values()] if isinstance(value, dict) else value
    return all(_is_plain(item, depth - 1) for item in items)


def _text(value: Any) -> str:
    """The order of a set differs from process to process, so it is sorted."""
    return repr(sorted(map(repr, value)) if isinstance(value, set | frozenset) else value)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:20]}... {_digest(text.encode())}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _array(array: np.ndarray) -> str:
    data = repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()
    return f"{array.dtype}{array.shape} {_digest(data)}"


def _own(value: Any) -> str:
    """The value itself, without what it holds."""
    if isinstance(value, _Import):
        is_fixed = _is_installed(value.file)
        return value.name if is_fixed else f"{value.name} {_of_file(value.file)}"
    if isinstance(value, ModuleType):
        return (
            value.__name__ if _is_fixed(value) else f"{value.__name__} {_of_file(value.__file__)}"
        )
    if isinstance(value, FunctionType) and not _is_fixed(value):
        return f"{_title(value)} {_digest(_code(value.__code__, value.__doc__))}"
    return _title(value if hasattr(value, "__qualname__") else type(value))


def _title(value: Any) -> str:
    """`module.name`. A script is "__main__" in each of its processes."""
    module = getattr(value, "__module__", None) or "builtins"
    return f"{module.replace('__mp_main__', '__main__')}.{value.__qualname__}"


def _of_file(path: str | None) -> str:
    try:
        with open(str(path), "rb") as stream:
            return _digest(stream.read())
    except OSError:
        return ""


def _code(code: CodeType, doc: str | None = None) -> bytes:
    """Instructions, names and constants, without line numbers, docstring and comments."""
    constants = [
        _code(constant).decode() if isinstance(constant, CodeType) else _text(constant)
        for constant in (None if constant is doc else constant for constant in code.co_consts)
    ]
    return repr((code.co_code, code.co_names, code.co_varnames, constants)).encode()


# ------------------------------------------------------------------ what a value holds


def _inner(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value holds, by the ends of names."""
    if isinstance(value, functools.partial):
        yield "", value.func
        yield from ((f"({i})", item) for i, item in enumerate(value.args))
        yield from ((f"({key})", item) for key, item in sorted(value.keywords.items()))
    elif isinstance(value, _Import):
        return
    elif isinstance(value, tuple | list | set | frozenset | deque):
        yield from ((f"[{i}]", item) for i, item in enumerate(value))
    elif isinstance(value, Mapping):
        yield from ((f"[{_key(key)}]", item) for key, item in value.items())
    elif isinstance(value, MethodType):
        yield from ((".__func__", value.__func__), (".__self__", value.__self__))
    elif isinstance(value, re.Pattern):
        yield from ((".pattern", value.pattern), (".flags", value.flags))
    elif isinstance(value, Module | SimpleNamespace) or not _is_fixed(value) or _is_data(value):
        yield from _members(value)
    elif hasattr(value, "__wrapped__"):  # by functools, say
        yield ".__wrapped__", value.__wrapped__


def _is_data(value: Any) -> bool:
    """Whether it is a data set, a sampler or a loader of this package."""
    return type(value).__module__.startswith("tinygrad_kr.data.")


def _key(key: Any) -> str:
    return (
        repr(key) if _is_plain(key) else _title(key if hasattr(key, "__qualname__") else type(key))
    )


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, FunctionType):
        yield from _read(value)
    elif isinstance(value, type):
        yield from ((f".{base.__name__}", base) for base in value.__bases__)
        yield ".__class__", type(value)
        yield from _of_class(value)
    elif not isinstance(value, ModuleType):
        yield ".__class__", type(value)
        slots = [key for kind in type(value).__mro__ for key in getattr(kind, "__slots__", ())]
        named = {key: getattr(value, key) for key in slots if hasattr(value, key)}
        named |= getattr(value, "__dict__", {})
        passing = _PASSING if _is_data(value) else ()
        yield from ((f".{key}", own) for key, own in named.items() if key not in passing)


def _read(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Defaults, closure and globals of a function."""
    for index, default in enumerate(function.__defaults__ or ()):
        yield f"(default {index})", default
    for key, default in sorted((function.__kwdefaults__ or {}).items()):
        yield f"({key})", default
    for key, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f".{key}", cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for key in sorted(set(_globals(function.__code__))):
        if key in function.__globals__:
            yield f".{key}", function.__globals__[key]
    package = str(function.__globals__.get("__package__") or "")
    found = {one.name: one for one in _imports(function.__code__, package)}
    yield from ((f".{name}", found[name]) for name in sorted(found))


def _imports(code: CodeType, package: str) -> Iterator[_Import]:
    """The modules that code imports, without importing them."""
    given = [one for one in dis.get_instructions(code) if one.opname != "EXTENDED_ARG"]
    for level, _, instruction in zip(given, given[1:], given[2:], strict=False):
        if instruction.opname == "IMPORT_NAME":
            dots = level.argval if isinstance(level.argval, int) else 0
            yield _found_import("." * dots + str(instruction.argval), package)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _imports(constant, package)


def _found_import(name: str, package: str) -> _Import:
    try:
        full = resolve_name(name, package)
        loaded = sys.modules.get(full)
        spec = find_spec(full) if loaded is None else None
        file = getattr(loaded, "__file__", None) if spec is None else spec.origin
    except (ImportError, ValueError):
        return _Import(name, None)
    return _Import(full, file if file and os.path.isfile(file) else None)


def _globals(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in _GLOBAL:
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals(constant)


def _of_class(kind: type) -> Iterator[tuple[str, Any]]:
    """Methods and constants of a class, without what Python adds."""
    for key, own in vars(kind).items():
        if isinstance(own, property):
            yield from ((f".{key}.{name}", getattr(own, name)) for name in ("fset", "fdel"))
        inner = getattr(own, "__func__", own)
        inner = getattr(own, "fget" if isinstance(own, property) else "func", inner)
        if isinstance(inner, FunctionType) or not key.startswith("__"):
            yield f".{key}", inner


# ------------------------------------------------------------------ what counts as fixed


def _is_fixed(value: Any) -> bool:
    """Whether its code is Python's, this package's or an installed package's."""
    if isinstance(value, FunctionType):
        return _is_installed(value.__code__.co_filename)
    module = value
    if not isinstance(value, ModuleType):
        kind = value if isinstance(value, type) else type(value)
        module = sys.modules.get(kind.__module__)
    if module is None or module.__name__ == "__main__":
        return False
    return _is_installed(getattr(module, "__file__", None))


def _is_installed(file: str | None) -> bool:
    if file is None or file.startswith("<frozen"):
        return True
    return os.path.normcase(os.path.abspath(file)).startswith(_folders())


@functools.cache
def _folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    named = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    named.append(os.path.dirname(os.path.abspath(__file__)))
    return tuple(os.path.normcase(folder) + os.sep for folder in named)
