"""ctypes, with which C is called; and why no C can be called here, where that is so.

A browser's Python (Pyodide) starts no compiler. A Python that was built without libffi has no
ctypes: the names below then stand for its types, so that what is never called can be defined.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

__all__ = ["ctypes", "why_never"]

BROWSERS = ("emscripten", "wasi")
"""Values of `sys.platform` where no program can be started."""


class _Absent:
    """Any type of ctypes, where there is no ctypes."""

    _func_flags_ = 0


class _NoCtypes:
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent


if TYPE_CHECKING:
    import ctypes as ctypes
else:
    try:
        import _ctypes  # noqa: F401
        import ctypes
    except ImportError:
        ctypes = _NoCtypes()


def why_never() -> str | None:
    """Why no C compiler can be used here, whatever is installed; None where one can."""
    if sys.platform in BROWSERS:
        return "Python in WebAssembly, as in a browser, cannot start one"
    if isinstance(ctypes, _NoCtypes):
        return "this Python was built without ctypes, so it cannot call C"
    return None
