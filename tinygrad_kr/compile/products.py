"""Large matrix products in C, where a processor has vectors that BLAS may not know."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache

import numpy as np

from tinygrad_kr.compile import threads
from tinygrad_kr.compile.build import build, included
from tinygrad_kr.compile.compiler import stop
from tinygrad_kr.compile.layout import extent
from tinygrad_kr.compile.machine import machine
from tinygrad_kr.compile.program import Statement, Value
from tinygrad_kr.compile.spelling import PRELUDE

ROWS, COLUMNS = 14, 32
"""Of the tiles of `products.h`; those at the edges are computed whole."""
FEW = 500_000
"""Multiplications up to which idle parts of tiles cost less than a call of NumPy."""

PRODUCT = """
EXPORT void product(int64_t rows, int64_t depth, int64_t columns,
                    const float *a, int64_t a_down, int64_t a_across,
                    const float *b, int64_t b_down, int64_t b_across, float *c) {
  tk_product(rows, depth, columns, a, a_down, a_across, b, b_down, b_across, c);
}
"""
SHARE = """
EXPORT void share(tk_piece work, void **memory, int64_t size, int64_t step) {
  tk_share(work, memory, size, step);
}
EXPORT int64_t number(void) { return tk_self; }
"""
SHARE_POINTER = """
EXPORT void (*tk_share)(void (*work)(void **memory, int64_t start, int64_t stop), void **memory,
                        int64_t size, int64_t step);
EXPORT int64_t (*tk_number)(void);
#define tk_self tk_number()
"""
PRODUCT_POINTER = """
EXPORT void (*tk_product)(int64_t rows, int64_t depth, int64_t columns,
                          const float *a, int64_t a_down, int64_t a_across,
                          const float *b, int64_t b_down, int64_t b_across, float *c);
"""


@cache
def has_wide_vectors() -> bool:
    """Whether `products.h` is made for this processor."""
    return os.name == "posix" and "avx512f" in machine().split()


def is_tiled(statement: Statement) -> bool:
    """Whether a matrix product is one for `products.h`: of float32, and of few idle parts.

    Ten columns of 32 are enough: one call of BLAS between such products leaves its threads
    spinning, and takes a core from the next ones (a wide net's step took 25 ms, not 14).
    """
    a, b = statement.inputs
    if not isinstance(a, Value) or not isinstance(b, Value) or not has_wide_vectors():
        return False
    if len(a.shape) != 2 or len(b.shape) != 2 or not (a.size and b.size):
        return False
    if any(value.dtype != np.float32 for value in (a, b, statement.output)):
        return False
    rows, columns = statement.output.shape
    whole = -(-rows // ROWS) * ROWS * -(-columns // COLUMNS) * COLUMNS
    return 4 * rows * columns >= whole or extent((rows, columns, a.shape[1])) <= FEW


def call(places: list[tuple[str, tuple[int, ...]]], statement: Statement) -> str:
    """The call of the function in C: `places` are where a, b and the output begin, and strides."""
    rows, columns = statement.output.shape
    depth = statement.inputs[0].shape[1]
    (a, a_strides), (b, b_strides), (out, _) = places
    given = (rows, depth, columns, a, *a_strides, b, *b_strides, out)
    return f"tk_product({', '.join(map(str, given))});"


def includes() -> list[str]:
    """What C begins with that calls functions of `products.h`."""
    return [*threads.includes(), '#include "products.h"']


def pointers(tiles: bool = False) -> list[str]:
    """Declarations for a program that calls the shared library: its threads and, where there are
    wide vectors, its products. `tiles`: with the kernels of `products.h` too.

    The program has no threads of its own, so it can be unloaded. Every thread that obtains it
    stores the same pointers: how many threads share the work is a part of its text.
    """
    share = [f"#define TK_HELPERS {threads.helpers()}", SHARE_POINTER]
    if not has_wide_vectors():
        return share
    kernels = ["#define TK_TILES_ONLY", '#include "products.h"'] if tiles else []
    return [*share, PRODUCT_POINTER, *kernels]


def library() -> ctypes.CDLL:
    """The shared library: `share` and `number` of `threads.h`, and `product` of `products.h` where
    there are wide vectors."""
    kernels = [*includes(), PRODUCT] if has_wide_vectors() else threads.includes()
    source = "\n".join([PRELUDE, *kernels, SHARE])
    return build(source, included(source))


def connected(build_program: Callable[[], ctypes.CDLL]) -> ctypes.CDLL:
    """A program with `pointers()` to the shared library, which another core builds meanwhile."""
    beside = threading.Thread(target=_build_library, daemon=True)
    with suppress(RuntimeError):  # no thread: `library` builds it afterwards
        beside.start()
    try:
        program, kernels = build_program(), library()
    except BaseException:
        stop(beside)
        raise
    for name in ("share", "number", *["product"] * has_wide_vectors()):
        function = ctypes.cast(kernels[name], ctypes.c_void_p)
        ctypes.c_void_p.in_dll(program, f"tk_{name}").value = function.value
    return program


def _build_library() -> None:
    with suppress(Exception):  # who asks for it gets the error as well
        library()
