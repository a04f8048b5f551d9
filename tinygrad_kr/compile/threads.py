"""How many threads share what is long: `threads.h` hands out its pieces."""

from __future__ import annotations

import os

MOST_HELPERS = 3
_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def helpers() -> int:
    """Threads beside the calling one: those of BLAS may be limited, then these are too."""
    if os.name != "posix":
        return 0
    affinity = getattr(os, "sched_getaffinity", None)
    cores = (os.cpu_count() or 1) if affinity is None else len(affinity(0))
    limits = [int(text) for name in _LIMITS if (text := os.environ.get(name, "")).isdigit()]
    return max(0, min(cores - 1, MOST_HELPERS, *(limit - 1 for limit in limits if limit)))


def includes() -> list[str]:
    """What C begins with that calls `tk_share`."""
    return [f"#define TK_HELPERS {helpers()}", '#include "threads.h"']
