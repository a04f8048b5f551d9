"""What native code uses on this machine, for people and their reports."""

from __future__ import annotations

from typing import Any, Literal, cast, overload

import numpy as np

from tinygrad_kr._version import __version__
from tinygrad_kr.native import cache, choice, cpu
from tinygrad_kr.native.compiler import find_compiler


@overload
def show_config(mode: Literal["stdout"] = ...) -> None: ...


@overload
def show_config(mode: Literal["dicts"]) -> dict[str, str]: ...


def show_config(mode: str = "stdout") -> dict[str, str] | None:
    """Print what computes here: versions, compiler, vectors, threads, and what multiplies matrices.

    A product is computed by our C kernel or by NumPy's BLAS. The first large one measures both,
    once on each machine, and `products float32` says which. The environment pins it:
    `TINYGRAD_KR_PRODUCTS` is `numpy` for BLAS, `c` for C, or what this function prints.

    mode: `"stdout"` prints; `"dicts"` returns the same by name.

    Raises ValueError for another mode, and for an environment variable that cannot be read.
    Source: the name and `mode` are NumPy's.

    >>> tk.show_config("dicts")["tinygrad_kr"] == tk.__version__
    True
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"show_config: expected mode 'stdout' or 'dicts', got {mode!r}. Use one.")
    found = _config()
    if mode == "dicts":
        return found
    width = max(map(len, found))
    print("\n".join(f"{name:{width}}  {value}" for name, value in found.items()))
    return None


def _config() -> dict[str, str]:
    compiler = find_compiler()
    numpy_config = cast(dict[str, Any], np.show_config(mode="dicts") or {})
    blas = numpy_config.get("Build Dependencies", {}).get("blas", {})
    return {
        "tinygrad_kr": __version__,
        "NumPy": np.__version__,
        "BLAS": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
        "compiler": "none" if compiler is None else " ".join(compiler.command),
        "cache": _cache(),
        "vectors of C": cpu.vectors(),
        "threads of C": str(cpu.helpers() + 1),
        **{f"products {dtype}": choice.described(dtype) for dtype in choice.DTYPES},
    }


def _cache() -> str:
    try:
        return str(cache.cache_folder())
    except RuntimeError as error:
        return f"none: {error}"
