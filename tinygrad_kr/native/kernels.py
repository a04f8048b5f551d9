"""C kernels for eager mode. If no compiler is found they are skipped silently."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache

from tinygrad_kr.native import cpu
from tinygrad_kr.native.build import build, included
from tinygrad_kr.native.cache import trusted_cache
from tinygrad_kr.native.compiler import stop
from tinygrad_kr.native.cpu import machine
from tinygrad_kr.native.foreign import ctypes

SPINS = 40_000
"""Spin iterations before a helper thread sleeps: about 1 ms.

Measured: some 100 us of Python lie between two products. Helpers that slept were late for the
first 40 ms after a pause (an MNIST step took 1.9 ms, not 0.95). OpenBLAS spins about 25 ms.
"""

_SIZE, _ADDRESS = ctypes.c_int64, ctypes.c_void_p
_MATRIX = (_ADDRESS, _SIZE, _SIZE)
_PARAMETERS = {
    "product": (_SIZE, _SIZE, _SIZE, *_MATRIX, *_MATRIX, _ADDRESS),
    "convolve": (_ADDRESS,) * 5,
    "convolve_transposed": (_ADDRESS,) * 4,
    "convolve_weight": (_ADDRESS,) * 4,
    "convolve_groups": (_ADDRESS, _SIZE, *(_ADDRESS,) * 4),
    "convolve_groups_transposed": (_ADDRESS, _SIZE, *(_ADDRESS,) * 3),
    "convolve_groups_weight": (_ADDRESS, _SIZE, *(_ADDRESS,) * 3),
}


def eager_kernels() -> ctypes.CDLL | None:
    """The functions of `_PARAMETERS`, of numbers and addresses, built or found built.

    None if the processor lacks AVX-512 or the build fails.
    """
    if not has_wide_vectors():
        return None
    lines = [PRELUDE, f"#define TK_SPINS {SPINS}", *includes()]
    lines += ['#include "convolution.h"', '#include "grouped.h"', PRODUCT, SHARE]
    try:
        trusted_cache()
        source = "\n".join(lines)
        library = build(source, included(source))
    except (OSError, RuntimeError):
        return None
    for name, parameters in _PARAMETERS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = None, parameters
    return library


PRELUDE = r"""
#include <math.h>
#include <stdint.h>
#include <string.h>
#include "mathematics.h"

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT
#endif
#if defined(__GNUC__)
#define APART __attribute__((noinline))
#else
#define APART
#endif

static inline float tk_absf(float x) { return fabsf(x); }
static inline double tk_abs(double x) { return fabs(x); }
static inline float tk_inverse_rootf(float x) {
  return x == -INFINITY ? 0 : fabsf(1 / tk_sqrtf(x));
}
static inline double tk_inverse_root(double x) {
  return x == -INFINITY ? 0 : fabs(1 / tk_sqrt(x));
}
static inline float tk_fourth_powerf(float x) { return x * x * (x * x); }
static inline double tk_fourth_power(double x) { return x * x * (x * x); }
static inline float tk_inverse_squaref(float x) { return 1 / x * (1 / x); }
static inline double tk_inverse_square(double x) { return 1 / x * (1 / x); }
static inline float tk_floorf(float x) { return floorf(x); }
static inline double tk_floor(double x) { return floor(x); }
static inline float tk_ceilf(float x) { return ceilf(x); }
static inline double tk_ceil(double x) { return ceil(x); }

static inline double tk_logistic_term(double x, double a) {
  double weight = x < 0 ? -a : 1 - a, tail = tk_log1p(tk_exp(-fabs(x)));
  double finite = tk_max(x, 0) - x * a, limit = weight == 0 ? 0 : weight * x;
  return (fabs(x) == INFINITY ? limit : finite) + tail;
}

static inline double tk_logistic_slope(double x, double a) {
  double e = tk_exp(-fabs(x)), flat = e / (e + 1);
  return x != x ? x : (x >= 0 ? 1 - a - flat : flat - a);
}
"""


ROWS, COLUMNS = 14, 32
"""The size of a tile of `gemm.h`. Tiles at the edges are computed whole."""


PRODUCT = """
EXPORT void product(int64_t rows, int64_t depth, int64_t columns,
                    const float *a, int64_t a_down, int64_t a_across,
                    const float *b, int64_t b_down, int64_t b_across, float *c) {
  tk_gemm(rows, depth, columns, a, a_down, a_across, b, b_down, b_across, c);
}
"""


SHARE = """
EXPORT void share(tk_piece work, void **memory, int64_t size, int64_t step) {
  tk_parallel_for(work, memory, size, step);
}
EXPORT int64_t number(void) { return tk_self; }
"""


SHARE_POINTER = """
EXPORT void (*tk_parallel_for)(void (*work)(void **memory, int64_t start, int64_t stop),
                               void **memory, int64_t size, int64_t step);
EXPORT int64_t (*tk_number)(void);
#define tk_self tk_number()
"""


PRODUCT_POINTER = """
EXPORT void (*tk_gemm)(int64_t rows, int64_t depth, int64_t columns,
                          const float *a, int64_t a_down, int64_t a_across,
                          const float *b, int64_t b_down, int64_t b_across, float *c);
"""


@cache
def has_wide_vectors() -> bool:
    """Whether the processor has AVX-512, which `gemm.h` needs."""
    return os.name == "posix" and "avx512f" in machine().split()


def includes() -> list[str]:
    """The first lines of C that calls functions of `gemm.h`."""
    return [*cpu.thread_includes(), '#include "gemm.h"']


def pointers(tiles: bool = False) -> list[str]:
    """Declarations of pointers into the shared library: its threads and, with AVX-512, its GEMM.

    tiles: include the kernels of `gemm.h` too.
    The program has no threads of its own, so it can be unloaded. The number of helpers is in its
    text, so every thread that loads it stores the same pointers.
    """
    share = [f"#define TK_HELPERS {cpu.helpers()}", SHARE_POINTER]
    if not has_wide_vectors():
        return share
    kernels = ["#define TK_TILES_ONLY", '#include "gemm.h"'] if tiles else []
    return [*share, PRODUCT_POINTER, *kernels]


def library() -> ctypes.CDLL:
    """The shared library: `share` and `number` of `threads.h` and, with AVX-512, `product`."""
    kernels = [*includes(), PRODUCT] if has_wide_vectors() else cpu.thread_includes()
    source = "\n".join([PRELUDE, *kernels, SHARE])
    return build(source, included(source))


def connected(build_program: Callable[[], ctypes.CDLL]) -> ctypes.CDLL:
    """A program with its `pointers()` set. Another thread builds the shared library meanwhile."""
    beside = threading.Thread(target=_build_library, daemon=True)
    with suppress(RuntimeError):  # no new thread: `library()` below builds it
        beside.start()
    try:
        program, kernels = build_program(), library()
    except BaseException:
        stop(beside)
        raise
    pointers = {"tk_parallel_for": "share", "tk_number": "number"}
    pointers |= {"tk_gemm": "product"} if has_wide_vectors() else {}
    for pointer, name in pointers.items():
        function = ctypes.cast(kernels[name], ctypes.c_void_p)
        ctypes.c_void_p.in_dll(program, pointer).value = function.value
    return program


def _build_library() -> None:
    with suppress(Exception):  # `library()` in `connected` raises it again
        library()
