"""This machine's identity: all that native code depends on. And its number of threads."""

from __future__ import annotations

import functools
import os
import platform
import sys
from typing import Any, cast

import numpy as np

from tinygrad_kr.native.foreign import ctypes

_FIELDS = {
    "vendor_id", "cpu family", "model", "model name", "flags",
    "cpu implementer", "cpu architecture", "cpu variant", "cpu part", "features",
    "cpu", "machine", "isa", "uarch",
}  # fmt: skip


@functools.cache
def machine() -> str:
    """The processor and its features, the system and its C library, in a few lines.

    Code built with -march=native crashes on a processor that lacks a feature. Several machines may
    share one home folder.
    """
    features = cast(dict[str, Any], np.show_config(mode="dicts") or {})
    parts = [
        sys.platform,
        platform.machine(),
        str(sys.maxsize),
        _c_library(),
        _processor(),
        *features.get("SIMD Extensions", {}).get("found", []),
    ]
    return "\n".join(parts)


def is_arm() -> bool:
    return platform.machine().lower().startswith(("arm", "aarch"))


VECTORS = {
    "avx512": ({"avx512f", "avx512_skx", "x86_v4"}, ""),
    "avx2": ({"avx2", "x86_v3"}, "-march=haswell"),
    "none": (set[str](), "-march=nocona"),
}
"""Vectors of x86-64, widest first: names of the feature, and the flag that limits a compiler."""


def vectors() -> str:
    """The vectors that C uses: "avx512", "avx2", "neon", or "none" beyond the architecture's.

    `$TINYGRAD_KR_VECTORS` limits them on x86-64. Raises ValueError for a word that is not known.
    """
    if platform.machine().lower().startswith(("arm64", "aarch64")):
        return "neon"
    limit, known = vectors_limit(), [*VECTORS]
    has = set(machine().lower().split())
    allowed = known[known.index(limit or known[0]) :]
    return next((name for name in allowed if VECTORS[name][0] & has), "none")


def vectors_limit() -> str:
    """`$TINYGRAD_KR_VECTORS`: the widest vectors to use, or nothing."""
    limit = os.environ.get("TINYGRAD_KR_VECTORS", "")
    if limit and limit not in VECTORS:
        expected = ", ".join(map(repr, VECTORS))
        raise ValueError(
            f"$TINYGRAD_KR_VECTORS: expected {expected} or nothing, got {limit!r}. Unset it."
        )
    return limit


def architecture() -> str:
    """The compiler's flag for this processor, within the limit on the vectors of x86-64."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return "-march=native"
    return VECTORS[vectors_limit() or "avx512"][1] or "-march=native"


def _c_library() -> str:
    if sys.platform == "win32":
        return ""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, OSError, ValueError):
        return ""


def _processor() -> str:
    """Model and features of the processor, as the system reports them."""
    if sys.platform == "darwin":
        return "\n".join(map(_sysctl, ("machdep.cpu.brand_string", "machdep.cpu.features")))
    if sys.platform == "win32":
        return os.environ.get("PROCESSOR_IDENTIFIER", "")
    try:
        with open("/proc/cpuinfo", "rb", buffering=0) as stream:
            return first_processor(stream.read(1 << 14).decode("utf-8", "replace"))
    except OSError:
        return platform.processor()


def first_processor(text: str) -> str:
    """The first processor in Linux's /proc/cpuinfo, without clocks and counters."""
    lines = text.split("\n\n", 1)[0].splitlines()
    named = (line.partition(":") for line in lines)
    kept = [(name.strip().lower(), value.strip()) for name, _, value in named]
    return "\n".join(f"{name}: {value}" for name, value in kept if name in _FIELDS)


def _sysctl(name: str) -> str:
    value, size = ctypes.create_string_buffer(1024), ctypes.c_size_t(1024)
    failed = ctypes.CDLL(None).sysctlbyname(name.encode(), value, ctypes.byref(size), None, 0)
    return "" if failed else value.value.decode("utf-8", "replace")


MOST_HELPERS = 3


LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def helpers() -> int:
    """Number of helper threads: one per further core. Limits on the threads of BLAS apply."""
    if os.name != "posix":
        return 0
    affinity = getattr(os, "sched_getaffinity", None)
    cores = (os.cpu_count() or 1) if affinity is None else len(affinity(0))
    limits = [int(text) for name in LIMITS if (text := os.environ.get(name, "")).isdigit()]
    return max(0, min(cores - 1, MOST_HELPERS, *(limit - 1 for limit in limits if limit)))


def thread_includes() -> list[str]:
    """The first lines of C that calls `tk_parallel_for`."""
    return [f"#define TK_HELPERS {helpers()}", '#include "threads.h"']
