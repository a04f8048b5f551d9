"""Running without our C, in a process that has it; and what a test has left so for later ones."""

from __future__ import annotations

import os
import sys
from functools import cache

import pytest

from tinygrad_kr.ops import kernels, products

CACHES = ("_library", "_convolutions_f64", "_kernels", "_kernels_f64")
"""Of `ops.products`: what each process finds once."""


def leave_all_to_numpy(patch: pytest.MonkeyPatch) -> None:
    """As `$TINYGRAD_KR_PRODUCTS=numpy` from the start of the process, until the patch is undone."""
    from tinygrad_kr.native import choice

    patch.setenv(choice.VARIABLE, "numpy")
    find_anew(patch)


def multiply_by_blas(patch: pytest.MonkeyPatch, dtype: str) -> None:
    """As on a machine whose BLAS was measured to be faster, until the patch is undone."""
    from tinygrad_kr.native import choice

    find_anew(patch)
    patch.setitem(choice._made, dtype, choice.BLAS)


def without_our_products(patch: pytest.MonkeyPatch) -> None:
    """As on a system for which we have no kernels of products, until the patch is undone."""
    from tinygrad_kr.native import kernels as native

    real = native.has_kernels
    for module in list(sys.modules.values()):  # some import it by its name
        if vars(module).get("has_kernels") is real:
            patch.setattr(module, "has_kernels", lambda: False)
    find_anew(patch)


def find_anew(patch: pytest.MonkeyPatch) -> None:
    """What a process chooses and builds once is found again, until the patch is undone."""
    from tinygrad_kr.native import choice

    patch.setattr(choice, "_made", {})
    patch.setattr(kernels, "_built", {})
    for name in CACHES:
        patch.setattr(products, name, cache(getattr(products, name).__wrapped__))


def left_to_numpy() -> list[str]:
    """What this process computes without C from here on, though all is pinned to C."""
    choice = sys.modules.get("tinygrad_kr.native.choice")
    if choice is None or os.environ.get(choice.VARIABLE) != "c":
        return []
    found = [dtype for dtype, made in choice._made.items() if made != choice.OURS]
    for name in CACHES:
        known = getattr(products, name)
        if known.cache_info().currsize:
            given = known()
            library, *_, made = given if type(given) is tuple else (given, choice.OURS)
            found += [name] * (library is None or made != choice.OURS)
    return found if found and _has_c() else []


def _has_c() -> bool:
    from tinygrad_kr.native.build import find_compiler
    from tinygrad_kr.native.kernels import has_kernels

    return find_compiler() is not None and has_kernels()
