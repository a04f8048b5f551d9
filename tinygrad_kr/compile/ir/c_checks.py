"""The C of checks: of an element `{0}`, the condition under which a check refuses it.

A check that is not here, or of elements of another type, is called in Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinygrad_kr import random
from tinygrad_kr.arrays import indexing
from tinygrad_kr.compile.ir.c_ops import C_TYPES
from tinygrad_kr.compile.ir.program import Check
from tinygrad_kr.functional import ctc, losses
from tinygrad_kr.functional.checks import refuse_outside, refuse_rows
from tinygrad_kr.ops import network
from tinygrad_kr.optim import clip


def _outside(count: int, _: str, ignored: int | None = None) -> str:
    counted = "" if ignored is None else f" & ({{0}} != {ignored})"
    return f"({{0}} < 0 | {{0}} >= {count}){counted}"


def _outside_both_ways(count: int, *_: str) -> str:
    return f"{{0}} < {-count} | {{0}} >= {count}"


def _outside_lengths(_: str, most: int | None) -> str:
    return "{0} < 0" if most is None else f"{{0}} < 0 | {{0}} > {most}"


OF_INTEGERS: dict[Any, Callable[..., str]] = {
    refuse_outside: _outside,
    refuse_rows: _outside_both_ways,
    indexing._refuse_outside: _outside_both_ways,
    ctc._refuse_lengths: _outside_lengths,
}
"""By the function of a check, its condition, given what is passed beside the array."""

OF_FLOATS: dict[Any, Callable[..., str]] = {
    network.refuse_improbable: lambda *_: "{0} < 0 | {0} > 1",
    losses._refuse_negative: lambda: "{0} < 0",
    random._check_probabilities: lambda: "!({0} >= 0 & {0} <= 1)",
    clip._check_finite: lambda _: "!({0} - {0} == 0)",
}


def condition(check: Check) -> str | None:
    """The condition in C under which a check refuses an element; None for a check in Python."""
    kind = check.value.dtype.kind
    table = {"i": OF_INTEGERS, "f": OF_FLOATS}.get(kind, {})
    refused = table.get(check.function)
    if refused is None or check.value.dtype not in C_TYPES:
        return None
    return refused(*check.rest)
