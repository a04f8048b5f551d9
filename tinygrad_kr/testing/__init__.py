"""Checks of derivatives: against central differences, and by the slope of the Taylor remainder.

Hypothesis strategies draw the arrays, shapes and indices to check at.
"""

from tinygrad_kr.testing.grads import GradientError, check_grads
from tinygrad_kr.testing.layouts import layouts
from tinygrad_kr.testing.strategies import arrays, axes, broadcastable_shapes, indices, shapes
from tinygrad_kr.testing.taylor import check_taylor, taylor_slope


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "GradientError",
    "arrays",
    "axes",
    "broadcastable_shapes",
    "check_grads",
    "check_taylor",
    "indices",
    "layouts",
    "shapes",
    "taylor_slope",
]
