"""Builds generated C once, keeps the library in the user's cache, and loads it."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping, Sequence
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
    likely,
    load,
    search,
    searched,
    skipped_compilers,
)
from tinygrad_kr.native.foreign import ctypes

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
    """The headers of this package that `source` includes, and those that they do, for `build`."""
    from importlib import resources

    here = resources.files("tinygrad_kr.native") / "include"
    found: dict[str, str] = {}
    left = _INCLUDED.findall(source)
    while left:
        name = left.pop()
        if name not in found:
            found[name] = (here / name).read_text(encoding="utf-8")
            left += _INCLUDED.findall(found[name])
    return found


def build(
    source: str, headers: Mapping[str, str] | None = None, level: Sequence[str] = ()
) -> ctypes.CDLL:
    """Compile C99 `source` to a shared library, or take it from the cache, and load it.

    headers: texts by file name ("kernels.h") that `source` may `#include "..."`.
    level: optimisations for GCC in place of `compiler.QUICK`.
    A library in `cache_folder()` is loaded without starting the compiler. Its key is the text, the
    compiler, its flags, the processor and the version of this package.
    Functions must be exported (on Windows by `__declspec(dllexport)`). They must keep no caller's
    state in static variables: all callers in a process that build one text share one library.

    The library is unloaded when nothing refers to it or to a function of it. `library["name"]`
    gives a function. `library.name` makes a reference cycle, which the garbage collector must
    free. A library with threads of its own (`threads.h`) stays loaded.

    Raises NoCompilerError if there is no compiler, BuildError (its parent) if the compiler fails,
    ValueError for the name of a header that is not `name.h` in small letters.
    """
    headers = headers or {}
    if wrong := [name for name in headers if not _HEADER.fullmatch(name)]:
        raise ValueError(f"build: {wrong[0]!r} names no header; a name is like 'kernels.h'")
    texts = {SOURCE: source, **headers}
    compiler = likely()
    try:
        if compiler is not None:
            return _library(texts, compiler, level)
    except RejectedError:
        pass
    except BuildError:
        now = search(afresh=True).compiler
        if now is None or now == compiler:
            raise
    compiler, skipped = searched()
    if compiler is None:
        raise NoCompilerError("there is no C compiler here", output="\n".join(skipped))
    return _library(texts, compiler, level)


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
    """A lock that can be weakly referenced: freed when no thread holds or awaits it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


_THREADS = "threads.h"
_loaded: WeakValueDictionary[str, ctypes.CDLL] = WeakValueDictionary()
_staying: list[ctypes.CDLL] = []
"""Libraries with threads, which never end. Kept loaded, also for a fork that calls them."""
_locks: WeakValueDictionary[str, _Lock] = WeakValueDictionary()


class RejectedError(Exception):
    """A compiler that was at work has not stood its trial."""


def _library(texts: Mapping[str, str], compiler: Compiler, level: Sequence[str]) -> ctypes.CDLL:
    """The loaded library of `texts`: from this process, from the cache, or built."""
    key = _key(texts, compiler.at(level))
    lock = _locks.setdefault(key, _Lock())
    with lock.lock:
        library = _loaded.get(key)
        if library is None:
            library = _loaded[key] = _from_cache(key) or _built(texts, compiler, level, key)
            if _THREADS in texts:
                _staying.append(library)
        return library


def _key(texts: Mapping[str, str], compiler: Compiler) -> str:
    """The digest of all that the machine code depends on."""
    named = [part for name in sorted(texts) for part in (name, texts[name])]
    return digest(map(digest, (named, [compiler.identity], compiler.flags)))


def _from_cache(key: str) -> ctypes.CDLL | None:
    """The library of `key` if the cache has it, undamaged and loadable."""
    folder = usable_cache()
    library = None if folder is None else kept_library(folder, key)
    if library is None:
        return None
    try:
        return load(library)
    except BuildError:  # linked against a C library that is gone
        files.remove(library)
        return None


def _built(
    texts: Mapping[str, str], compiler: Compiler, level: Sequence[str], key: str
) -> ctypes.CDLL:
    def attempt(folder: Path) -> ctypes.CDLL:
        with work_folder(folder) as work:
            try:
                built = compiled(texts, compiler.at(level), work)
            except BuildError:
                _refuse_rejected(compiler)
                raise
            _refuse_rejected(compiler)
            loaded = load(keep_library(built, folder, key))
        prune(folder)
        return loaded

    return in_some_folder(attempt)


def _refuse_rejected(compiler: Compiler) -> None:
    """Wait for the trial of a compiler. What one builds that does not stand it is not loaded."""
    if searched().compiler != compiler:
        raise RejectedError


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_locks.clear)
