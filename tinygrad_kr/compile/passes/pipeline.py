"""Every pass for a program that C computes, in order."""

from __future__ import annotations

from tinygrad_kr.compile.ir.program import Program
from tinygrad_kr.compile.passes.expand import expanded
from tinygrad_kr.compile.passes.pooling import with_pooling_rewritten
from tinygrad_kr.compile.passes.rows import (
    with_keys_as_constants,
    with_sums_of_rows_joined,
)
from tinygrad_kr.compile.passes.simplify import simplified
from tinygrad_kr.compile.passes.slices import with_rows_side_by_side
from tinygrad_kr.compile.passes.thin import with_thin_products


def lowered(program: Program) -> Program:
    """The program in ops that C can compute, and as few of them as can be."""
    program = with_rows_side_by_side(simplified(program))
    whole = simplified(with_thin_products(expanded(program)))
    whole = with_keys_as_constants(with_pooling_rewritten(whole))
    return with_sums_of_rows_joined(whole)
