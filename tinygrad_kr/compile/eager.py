"""C for eager mode, which asks for no compiler and tells of none."""

from __future__ import annotations

import ctypes

from tinygrad_kr.compile import products
from tinygrad_kr.compile.build import build, included
from tinygrad_kr.compile.cache import trusted_cache
from tinygrad_kr.compile.spelling import PRELUDE

LOOKS = 40_000
"""How long threads look for work before they sleep: here a millisecond, for between two products
lie some 100 microseconds of Python. Helpers that slept were late for all products of the first 40
milliseconds after a pause (an MNIST step took 1.9 ms, not 0.95); BLAS's look for 25."""

_SIZE, _ADDRESS = ctypes.c_int64, ctypes.c_void_p
_MATRIX = (_ADDRESS, _SIZE, _SIZE)
_PARAMETERS = {
    "product": (_SIZE, _SIZE, _SIZE, *_MATRIX, *_MATRIX, _ADDRESS),
    "convolve": (_ADDRESS,) * 5,
    "convolve_transposed": (_ADDRESS,) * 4,
    "convolve_weight": (_ADDRESS,) * 4,
}


def kernels() -> ctypes.CDLL | None:
    """The functions `product`, `convolve`, `convolve_transposed` and `convolve_weight`, of numbers
    and addresses, built or found built; None where they are not to be had."""
    if not products.has_wide_vectors():
        return None
    lines = [PRELUDE, f"#define TK_LOOKS {LOOKS}", *products.includes()]
    lines += ['#include "convolutions.h"', products.PRODUCT, products.SHARE]
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
