"""Axes of an array: checked, and counted from the first. The errors name the user's call."""

from __future__ import annotations

from typing import Any

from numpy.exceptions import AxisError
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

__all__ = ["AxisError", "axis_index", "axis_indices", "reason"]


def axis_index(axis: Any, ndim: int, name: str) -> int:
    """`axis` in [0, ndim). Raises AxisError for one outside, TypeError for no integer."""
    try:
        return normalize_axis_index(axis, ndim)
    except (AxisError, TypeError) as error:
        raise type(error)(f"{name}: {reason(error)}") from None


def axis_indices(axes: Any, ndim: int, name: str, repeated: bool = False) -> tuple[int, ...]:
    """One axis or several in [0, ndim), as a tuple.

    Raises AxisError for one outside, TypeError for no integer, ValueError for one named twice
    without `repeated`.
    """
    try:
        return normalize_axis_tuple(axes, ndim, allow_duplicate=repeated)
    except (AxisError, TypeError) as error:
        raise type(error)(f"{name}: {reason(error)}") from None
    except ValueError:
        raise ValueError(f"{name}: expected each axis once, got {axes}.") from None


def reason(error: Exception) -> str:
    """What an error says. For an axis outside the array: those that it has."""
    if isinstance(error, AxisError) and error.ndim is not None:
        return f"expected axis in [{-error.ndim}, {error.ndim}), got {error.axis}."
    return str(error)
