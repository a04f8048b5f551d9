"""Every pass for a program that C computes, in order."""

from __future__ import annotations

from tinygrad_kr.compile.ir.program import Program
from tinygrad_kr.compile.passes.expand import expanded
from tinygrad_kr.compile.passes.pooling import with_pooling_rewritten
from tinygrad_kr.compile.passes.simplify import simplified


def lowered(program: Program) -> Program:
    """The program in ops that C can compute, and as few of them as can be."""
    return with_pooling_rewritten(simplified(expanded(simplified(program))))
