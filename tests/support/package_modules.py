"""The modules of the package, without those that need an extra."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import tinygrad_kr

OF_EXTRAS = {"tinygrad_kr.interop.sklearn"}
"""Modules that import a library which may be missing."""


def package_modules() -> Iterator[ModuleType]:
    """Each module of the package, imported."""
    for module in pkgutil.walk_packages(tinygrad_kr.__path__, "tinygrad_kr."):
        if module.name not in OF_EXTRAS:
            yield importlib.import_module(module.name)
