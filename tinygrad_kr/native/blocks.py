"""C kernels of whole blocks and sequences: attention, recurrent nets and others."""

from __future__ import annotations

from typing import Any

from tinygrad_kr.native.build import build, included
from tinygrad_kr.native.cache import trusted_cache
from tinygrad_kr.native.compiler import FULL, TILES
from tinygrad_kr.native.foreign import ctypes
from tinygrad_kr.native.kernels import PRELUDE

_NUMBERS, _SHARE, _SIZE = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64
_PARAMETERS: dict[str, dict[str, tuple[Any, ...]]] = {
    "recurrent": {
        "sequence": (_NUMBERS, _SHARE, _SIZE),
        "sequence_vjp": (_NUMBERS, _SHARE, _SIZE),
    },
    "attention": {
        "attention": (_NUMBERS, _SHARE, ctypes.c_double),
        "attention_vjp": (_NUMBERS, _SHARE, ctypes.c_double),
    },
    "activations": dict.fromkeys(
        [
            "erf_",
            "gelu",
            "gelu_vjp",
            "sigmoid",
            "sigmoid_vjp",
            "logistic_slope",
            "logistic_sum",
        ],
        (_NUMBERS, _SHARE),
    ),
    "composed": {
        f"{name}{vjp}": (_NUMBERS, _SHARE, ctypes.c_double, ctypes.c_double)
        for name in (
            "celu",
            "elu",
            "hardsigmoid",
            "hardswish",
            "hardtanh",
            "leaky_relu",
            "logsigmoid",
            "mish",
            "silu",
            "softplus",
        )
        for vjp in ("", "_vjp")
    },
    "rows": {
        "layer_norm": (_NUMBERS, _SHARE, ctypes.c_double),
        "layer_norm_vjp": (_NUMBERS, _SHARE, ctypes.c_double),
        "cross_entropy": (_NUMBERS, _SHARE),
        "cross_entropy_vjp": (_NUMBERS, _SHARE),
        "add_rows": (_NUMBERS, _SHARE),
    },
    "channels": dict.fromkeys(
        ["channel_moments", "channel_norm", "channel_norm_vjp"],
        (_NUMBERS, _SHARE, ctypes.c_double),
    ),
    "selection": {
        **dict.fromkeys(["relu", "relu_vjp"], (_NUMBERS, _SHARE)),
        "choose": (_NUMBERS, _SHARE, ctypes.c_double, ctypes.c_double),
    },
    "pooling": dict.fromkeys(
        ["max_pool", "max_pool_vjp", "sum_pool", "sum_pool_vjp"], (_NUMBERS, _SHARE)
    ),
    "resample": dict.fromkeys(["take_weighted", "add_weighted"], (_NUMBERS, _SHARE)),
    "orders": {"transpose": (_NUMBERS, _SHARE)},
    "ctc": dict.fromkeys(["ctc", "ctc_vjp"], (_NUMBERS, _SHARE)),
    "solving": dict.fromkeys(
        ["solve_", "solve_triangular_", "cholesky_", "cholesky_vjp_", "logabsdet_", "signdet_"],
        (_NUMBERS, _SHARE),
    ),
}
"""By header, its functions. They return 0; 1 without memory; 2 for what NumPy computes."""
_LEVELS = {"attention": TILES, "recurrent": TILES, "solving": FULL}
"""Optimisations that headers need, beside those of programs. Without, the steps of a GRU and of a
Gaussian process are slower by 5 and 17 %."""


def block_source(header: str, real: str) -> str:
    """C with the functions of `header.h` for elements of the type `real`."""
    function = "tk_##name##f" if real == "float" else "tk_##name"
    lines = [PRELUDE, f"#define TK_REAL {real}", f"#define TK_FUNCTION(name) {function}"]
    return "\n".join([*lines, '#include "block.h"', f'#include "{header}.h"', ""])


def block_kernels(header: str, real: str) -> ctypes.CDLL | None:
    """These functions, built or found built; None if the build fails."""
    source = block_source(header, real)
    try:
        trusted_cache()
        library = build(source, included(source), level=_LEVELS.get(header, ()))
    except (OSError, RuntimeError):
        return None
    return declared(header, library)


def with_parameters(library: ctypes.CDLL, name: str) -> Any:
    """A function of numbers and a way to share its work."""
    function = library[name]
    function.restype, function.argtypes = ctypes.c_int64, (_NUMBERS, _SHARE)
    return function


def declared(header: str, library: ctypes.CDLL) -> ctypes.CDLL:
    """A library whose functions of `header.h` know what they take."""
    for name, parameters in _PARAMETERS[header].items():
        function = getattr(library, name)
        function.restype, function.argtypes = ctypes.c_int64, parameters
    return library
