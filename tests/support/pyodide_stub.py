"""Makes this process lack what Pyodide's Python lacks, before the package is imported.

Observed in Pyodide 314 (Python 3.14, Emscripten) under Node: `os` has no `geteuid`, `getuid`,
`sched_getaffinity`; threads and processes do not start; there is no `resource` and no `pwd`.
Distributions before that also lack `ssl`. More is taken away here: a Python without libffi has no
`ctypes`, and other builds lack `mmap` and `fcntl`.
"""

from __future__ import annotations

import _thread
import errno
import os
import sys
import sysconfig
import threading
from typing import Any

import numpy  # noqa: F401  what NumPy loads for itself is there, and not for us

MISSING = {
    *("ssl", "_ssl", "subprocess", "_posixsubprocess", "multiprocessing", "_multiprocessing"),
    *("mmap", "fcntl", "resource", "pwd", "grp"),
}


class _Missing:
    """Finds no module of `MISSING`."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _no_thread(*_: Any, **__: Any) -> None:
    raise RuntimeError("can't start new thread")


def _no_process(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSYS, "emscripten does not support processes")


def pretend(*more: str) -> None:
    """Take it all away, and the modules `more`."""
    MISSING.update(more)
    sysconfig.get_config_vars()  # reads a file that is named after the platform
    for name in [name for name in sys.modules if name.partition(".")[0] in MISSING]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Missing())
    sys.platform = "emscripten"
    sys.executable = ""
    threading.Thread.start = _thread.start_new_thread = _no_thread  # type: ignore[assignment]
    for name in ("geteuid", "getuid", "sched_getaffinity", "posix_spawn", "fork", "system"):
        if hasattr(os, name):
            delattr(os, name)
    os.fork = os.system = _no_process
