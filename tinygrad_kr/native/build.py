"""Builds generated C once, keeps the library in the user's cache, and loads it."""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from weakref import WeakValueDictionary

from tinygrad_kr import files
from tinygrad_kr.native.cache import (
    cache_folder,
    digest,
    keep_library,
    kept_library,
    prune,
    remove_entries,
    usable_cache,
    work_folder,
)
from tinygrad_kr.native.compiler import (
    SOURCE,
    BuildError,
    Compiler,
    NoCompilerError,
    compiled,
    find_compiler,
    forget_searches,
    in_some_folder,
    load,
    search,
    searched,
    skipped_compilers,
)

__all__ = [
    "BuildError",
    "Compiler",
    "NoCompilerError",
    "build",
    "cache_folder",
    "clear_cache",
    "find_compiler",
    "included",
    "skipped_compilers",
]

_HEADER = re.compile(r"[a-z][a-z0-9_]*\.h")
_INCLUDED = re.compile(rf'^#include "({_HEADER.pattern})"', re.MULTILINE)


def included(source: str) -> dict[str, str]:
    """The headers of this package that `source` includes, for `build`."""
    from importlib import resources

    here = resources.files("tinygrad_kr.native") / "include"
    return {name: (here / name).read_text(encoding="utf-8") for name in _INCLUDED.findall(source)}


def build(source: str, headers: Mapping[str, str] | None = None) -> ctypes.CDLL:
    """Compile C99 `source` to a shared library, or find it compiled, and load it.

    `headers` are texts by file name ("kernels.h") that `source` may `#include "..."`. What was
    built before, by any process of this user with the same compiler, flags, processor and version
    of this package, is loaded from `cache_folder()` without starting the compiler. Functions are
    to be exported, which Windows wants said (`__declspec(dllexport)`), and are not to keep state
    of a caller in static variables: the same text gives the same library to all in a process.

    The library is unloaded when nothing refers to it or to a function of it. `library["name"]`
    gives a function; `library.name` keeps it in the library, which then waits for the garbage
    collector. A library with threads of its own (`threads.h`) stays loaded.

    Raises NoCompilerError where there is no compiler, BuildError (its parent) where the compiler
    fails, ValueError for the name of a header that is not of the form `name.h` in small letters.
    """
    headers = headers or {}
    if wrong := [name for name in headers if not _HEADER.fullmatch(name)]:
        raise ValueError(f"build: {wrong[0]!r} names no header; a name is like 'kernels.h'")
    texts = {SOURCE: source, **headers}
    compiler, skipped = searched()
    if compiler is None:
        raise NoCompilerError("there is no C compiler here", output="\n".join(skipped))
    try:
        return _library(texts, compiler)
    except BuildError:
        now = search(afresh=True).compiler
        if now is None or now == compiler:
            raise
        return _library(texts, now)


def clear_cache() -> int:
    """Remove every built library and every note on a compiler; returns the number of files.

    They are in `$TINYGRAD_KR_CACHE/compile`, else in `tinygrad_kr/compile` of the user's cache
    folder. Loaded programs keep working; the next compiled function is built again.

    >>> tk.compile.clear_cache() >= 0
    True
    """
    _loaded.clear()
    forget_searches()
    return remove_entries(cache_folder())


class _Lock:
    """A lock that is forgotten when no thread holds or awaits it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


_THREADS = "threads.h"
_loaded: WeakValueDictionary[str, ctypes.CDLL] = WeakValueDictionary()
_staying: list[ctypes.CDLL] = []
"""Libraries whose threads never end, and which a fork calls."""
_locks: WeakValueDictionary[str, _Lock] = WeakValueDictionary()


def _library(texts: Mapping[str, str], compiler: Compiler) -> ctypes.CDLL:
    """The loaded library of `texts`: from this process, from the cache, or built."""
    key = _key(texts, compiler)
    lock = _locks.setdefault(key, _Lock())
    with lock.lock:
        library = _loaded.get(key)
        if library is None:
            library = _loaded[key] = _from_cache(key) or _built(texts, compiler, key)
            if _THREADS in texts:
                _staying.append(library)
        return library


def _key(texts: Mapping[str, str], compiler: Compiler) -> str:
    """All that machine code depends on, as a name."""
    named = [part for name in sorted(texts) for part in (name, texts[name])]
    return digest(map(digest, (named, [compiler.identity], compiler.flags)))


def _from_cache(key: str) -> ctypes.CDLL | None:
    """The library of `key` if it is in the cache, whole and loadable."""
    folder = usable_cache()
    library = None if folder is None else kept_library(folder, key)
    if library is None:
        return None
    try:
        return load(library)
    except BuildError:  # made against a C library that is gone
        files.remove(library)
        return None


def _built(texts: Mapping[str, str], compiler: Compiler, key: str) -> ctypes.CDLL:
    def attempt(folder: Path) -> ctypes.CDLL:
        with work_folder(folder) as work:
            loaded = load(keep_library(compiled(texts, compiler, work), folder, key))
        prune(folder)
        return loaded

    return in_some_folder(attempt)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_locks.clear)
