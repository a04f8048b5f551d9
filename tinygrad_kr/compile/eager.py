"""The product of `products.h` for eager mode, which asks for no compiler and tells of none."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from importlib.resources import files

from tinygrad_kr.compile.build import build
from tinygrad_kr.compile.c_code import c_source
from tinygrad_kr.compile.cache import trusted_cache
from tinygrad_kr.compile.products import has_wide_vectors

_PRODUCT = """\
EXPORT void product(int64_t rows, int64_t depth, int64_t columns,
                    const float *a, int64_t a_down, int64_t a_across,
                    const float *b, int64_t b_down, int64_t b_across, float *c) {
  tk_product(rows, depth, columns, a, a_down, a_across, b, b_down, b_across, c);
}
"""
_HEADERS = ("mathematics.h", "threads.h", "products.h")
BRIEFLY, LONG = "look < 4000", "look < 40000"
"""How long threads look for work before they sleep: here a millisecond, for between two products
lie some 100 microseconds of Python. Helpers that slept were late for all products of the first 40
milliseconds after a pause (an MNIST step took 1.9 ms, not 0.95); BLAS's look for 25."""


def product_function() -> Callable[..., None] | None:
    """`tk_product` as a function of numbers and addresses; None where it is not to be had."""
    if not has_wide_vectors():
        return None
    here = files("tinygrad_kr.compile")
    try:
        trusted_cache()
        headers = {name: here.joinpath(name).read_text() for name in _HEADERS}
        headers["threads.h"] = headers["threads.h"].replace(BRIEFLY, LONG)
        library = build(c_source([_PRODUCT]), headers)
    except (OSError, RuntimeError):
        return None
    size, address = ctypes.c_int64, ctypes.c_void_p
    function = library.product
    function.restype = None
    matrix = (address, size, size)
    function.argtypes = (size, size, size, *matrix, *matrix, address)
    return function
