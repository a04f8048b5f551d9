"""C kernels for eager mode. If no compiler is found they are skipped silently."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

from tinygrad_kr.native import cpu
from tinygrad_kr.native.build import build, included
from tinygrad_kr.native.cache import trusted_cache
from tinygrad_kr.native.compiler import FULL, TILES, stop
from tinygrad_kr.native.foreign import ctypes

SPINS = 40_000
"""Spin iterations before a helper thread sleeps: about 1 ms.

Measured: some 100 us of Python lie between two products. Helpers that slept were late for the
first 40 ms after a pause (an MNIST step took 1.9 ms, not 0.95). OpenBLAS spins 25 to 110 ms.
"""

_PRODUCT_LEVEL = (*TILES, "-fno-tree-loop-vectorize")
"""For products of compiled programs: their loops are vectors already."""

_SIZE, _ADDRESS = ctypes.c_int64, ctypes.c_void_p
_MATRIX = (_ADDRESS, _SIZE, _SIZE)
_PRODUCTS: dict[str, tuple[Any, ...]] = {
    "product": (_SIZE, _SIZE, _SIZE, *_MATRIX, *_MATRIX, _ADDRESS),
    "products": (_ADDRESS,) * 4,
}
_CONVOLUTIONS: dict[str, tuple[Any, ...]] = {
    "convolve": (_ADDRESS,) * 5,
    "convolve_transposed": (_ADDRESS,) * 4,
    "convolve_weight": (_ADDRESS,) * 4,
    "convolve_depthwise": (_ADDRESS,) * 5,
    "convolve_depthwise_transposed": (_ADDRESS,) * 4,
    "convolve_depthwise_weight": (_ADDRESS,) * 4,
    "convolve_groups": (_ADDRESS, _SIZE, *(_ADDRESS,) * 4),
    "convolve_groups_transposed": (_ADDRESS, _SIZE, *(_ADDRESS,) * 3),
    "convolve_groups_weight": (_ADDRESS, _SIZE, *(_ADDRESS,) * 3),
}
_PARAMETERS = {**_PRODUCTS, **_CONVOLUTIONS}


def eager_kernels() -> ctypes.CDLL | None:
    """The functions of `_PARAMETERS` for float32, of numbers and addresses, built or found built.

    None if the system has none of our threads or the build fails.
    """
    return _eager([*includes(), *_convolutions("float", "name"), product_text("")], _PARAMETERS)


def eager_products_f64() -> ctypes.CDLL | None:
    """`product_f64` and `products_f64`, as `eager_kernels` gives them for float32."""
    parameters = {f"{name}{F64}": given for name, given in _PRODUCTS.items()}
    return _eager([*includes(f64=True), product_text(F64)], parameters)


def eager_convolutions_f64() -> ctypes.CDLL | None:
    """The convolutions of `eager_kernels` for float64: apart, as few need them."""
    lines = [*includes(f64=True), *_convolutions("double", f"name##{F64}")]
    return _eager(lines, _CONVOLUTIONS)


def _convolutions(real: str, name: str) -> list[str]:
    """The headers of convolutions of a type. name: that of a function of `gemm.h` for the type."""
    headers = [f'#include "{header}.h"' for header in ("convolution", "depthwise", "grouped")]
    return [f"#define TK_REAL {real}", f"#define TK_NAME(name) {name}", *headers]


def _eager(lines: list[str], parameters: dict[str, tuple[Any, ...]]) -> ctypes.CDLL | None:
    if not has_kernels():
        return None
    try:
        trusted_cache()
        source = "\n".join([PRELUDE, f"#define TK_SPINS {SPINS}", *lines, SHARE])
        library = build(source, included(source), FULL)
    except (OSError, RuntimeError):
        return None
    return _typed(library, parameters)


def _typed(library: ctypes.CDLL, parameters: dict[str, tuple[Any, ...]]) -> ctypes.CDLL:
    for name, given in parameters.items():
        function = getattr(library, name)
        function.restype, function.argtypes = None, given
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
#if defined(__GNUC__) && !defined(__clang__)
#define QUICK __attribute__((optimize("O1"))) /* runs briefly: compiled soon */
#else
#define QUICK
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


F64 = "_f64"
"""What the names of functions of float64 end with."""

_TILES = {"avx512": (14, 2, 64), "avx2": (6, 2, 32), "neon": (8, 3, 16), "none": (6, 2, 16)}
"""Tiles of `gemm.h`: rows, vectors, and bytes of a vector."""


def tile(itemsize: int = 4) -> tuple[int, int]:
    """The rows and columns of a tile of `gemm.h`. Tiles at the edges are computed whole."""
    rows, count, nbytes = _TILES[_vectors()]
    return rows, count * nbytes // itemsize


_PRODUCT = """
EXPORT void product@(int64_t rows, int64_t depth, int64_t columns,
                     const REAL *a, int64_t a_down, int64_t a_across,
                     const REAL *b, int64_t b_down, int64_t b_across, REAL *c) {
  tk_gemm@(rows, depth, columns, a, a_down, a_across, b, b_down, b_across, c);
}
EXPORT void products@(const tk_stack *stack, const REAL *a, const REAL *b, REAL *c) {
  tk_gemm_stack@(stack, a, b, c);
}
"""


def product_text(suffix: str) -> str:
    """The functions of products that a library exports: `""` for float32, `F64` for float64."""
    return _of_type(_PRODUCT, suffix)


def _of_type(text: str, suffix: str) -> str:
    return text.replace("@", suffix).replace("REAL", "double" if suffix else "float")


SHARE = """
EXPORT void share(tk_piece work, void **memory, int64_t size, int64_t step) {
  tk_parallel_for(work, memory, size, step);
}
EXPORT int64_t number(void) { return tk_self; }
"""


_POOL = """
EXPORT void (*tk_pool)(tk_piece work, void **memory, int64_t size, int64_t step) = tk_parallel_for;
EXPORT int64_t (*tk_pool_number)(void) = number;
#define tk_parallel_for tk_pool
#define tk_self tk_pool_number()
"""
"""Threads of another library for what follows. Without any they are its own."""

SHARE_POINTER = """
EXPORT void (*tk_parallel_for)(void (*work)(void **memory, int64_t start, int64_t stop),
                               void **memory, int64_t size, int64_t step);
EXPORT int64_t (*tk_number)(void);
#define tk_self tk_number()
"""


_PRODUCT_POINTER = """
EXPORT void (*tk_gemm@)(int64_t rows, int64_t depth, int64_t columns,
                        const REAL *a, int64_t a_down, int64_t a_across,
                        const REAL *b, int64_t b_down, int64_t b_across, REAL *c);
EXPORT void (*tk_gemm_stack@)(const tk_stack *stack, const REAL *a, const REAL *b, REAL *c);
"""

_STACK = """
typedef struct {
  int64_t outer, inner, rows, depth, columns;
  int64_t a[4], b[4];
} tk_stack;
"""


def has_kernels() -> bool:
    """Whether the system has what `gemm.h` needs: Windows has none of our threads."""
    return os.name == "posix"


def includes(f64: bool = False) -> list[str]:
    """The first lines of C that calls functions of `gemm.h`. f64: those of float64 too."""
    return [*cpu.thread_includes(), *_gemm(f64)]


def _gemm(f64: bool) -> list[str]:
    more = ["#define TK_F64"] if f64 else []
    return [*_target(), *more, '#include "gemm.h"']


def _target() -> list[str]:
    vectors = _vectors()
    return [f"#define TK_{vectors.upper()}"] if vectors in ("avx512", "avx2") else []


def _vectors() -> str:
    """The vectors of tiles: on Windows of at most 16 bytes, to which GCC aligns the stack there."""
    found = cpu.vectors()
    return found if has_kernels() or found == "neon" else "none"


def pointers(tiles: bool = False, f64: bool = False, products: Collection[str] = ()) -> list[str]:
    """Declarations of pointers into the shared libraries: threads, and GEMM of some types.

    tiles: include the kernels of `gemm.h` too. f64: those of float64 too. products: the types of
    GEMM, `""` or `F64`.
    The program has no threads of its own, so it can be unloaded. The number of helpers is in its
    text, so every thread that loads it stores the same pointers.
    """
    share = [f"#define TK_HELPERS {cpu.helpers()}", SHARE_POINTER]
    headers = ["#define TK_TILES_ONLY", *_gemm(f64)] if tiles else [_STACK] if products else []
    return [*share, *headers, *(_of_type(_PRODUCT_POINTER, suffix) for suffix in products)]


def library(products: str | None = None) -> ctypes.CDLL:
    """A shared library: `share` and `number` of `threads.h`; with `products`, which is `""` or
    `F64`, also `product` and `products` of that type.

    All of a process use the threads of the one that is loaded first. So they never compete.
    """
    threads = "\n".join(cpu.thread_includes())
    if products is None and threads in _pools:
        return _pools[threads]
    lines = [PRELUDE, threads, SHARE]
    if products is not None:
        only = ["#define TK_F64_ONLY"] if products else []
        lines += [_POOL, *_target(), *only, '#include "gemm.h"', product_text(products)]
    source = "\n".join(lines)
    built = build(source, included(source), () if products is None else _PRODUCT_LEVEL)
    pool = _pools.setdefault(threads, built)
    if products is not None:
        _connect(built, {"tk_pool": pool["share"], "tk_pool_number": pool["number"]})
    return built


_pools: dict[str, ctypes.CDLL] = {}
"""The library whose threads work, by the text with the number of its helpers."""


def begin_library(products: str | None, again: bool = False) -> None:
    """Build a shared library in another thread. again: also where that was done before."""
    known = _begun.get(products)
    if known is None or (again and not known.is_alive()):
        with suppress(RuntimeError):  # no new thread: what needs it builds it
            thread = threading.Thread(target=_build_library, args=(products,), daemon=True)
            thread.start()
            _begun[products] = thread


_begun: dict[str | None, threading.Thread] = {}


def _connect(library: ctypes.CDLL, functions: Mapping[str, Any]) -> None:
    """Store functions of another library in the pointers of this one."""
    for pointer, function in functions.items():
        address = ctypes.cast(function, ctypes.c_void_p).value
        ctypes.c_void_p.in_dll(library, pointer).value = address


def products_of(library: ctypes.CDLL, suffix: str) -> ctypes.CDLL:
    """The shared library with the parameters of its products of one type known."""
    return _typed(library, {f"{name}{suffix}": given for name, given in _PRODUCTS.items()})


def connected(
    build_program: Callable[[], ctypes.CDLL], products: Collection[str] = ()
) -> ctypes.CDLL:
    """A program with its `pointers()` set. Other threads build the shared libraries meanwhile."""
    wanted: list[str | None] = [*products] or [None]
    try:
        for each in wanted:
            begin_library(each, again=True)
        program = build_program()
        libraries = {each: library(each) for each in wanted}
        pool = library()
    except BaseException:
        for each in wanted:
            if (thread := _begun.get(each)) is not None:
                stop(thread)
        raise
    functions = {"tk_parallel_for": pool["share"], "tk_number": pool["number"]}
    for suffix in products:
        functions[f"tk_gemm{suffix}"] = libraries[suffix][f"product{suffix}"]
        functions[f"tk_gemm_stack{suffix}"] = libraries[suffix][f"products{suffix}"]
    _connect(program, functions)
    return program


def _build_library(products: str | None) -> None:
    with suppress(Exception):  # `library()` in `connected` raises it again
        library(products)
