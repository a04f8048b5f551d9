"""`tk.compile`: a whole training step traced once and replayed as one program.

    @tk.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

The module is the decorator itself: `tk.compile` is its name both ways.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from tinygrad_kr.compile.function import Compiled, LongProgramWarning, NoCompilerWarning
from tinygrad_kr.compile.function import compile as _compile
from tinygrad_kr.compile.trace.tracer import CaptureError
from tinygrad_kr.native.build import clear_cache


class _Decorator(ModuleType):
    def __call__(self, function: Callable[..., Any]) -> Compiled:
        return _compile(function)


sys.modules[__name__].__class__ = _Decorator

__all__ = ["CaptureError", "Compiled", "LongProgramWarning", "NoCompilerWarning", "clear_cache"]


def __dir__() -> list[str]:
    return __all__
