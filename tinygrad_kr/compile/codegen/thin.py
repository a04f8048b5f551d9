"""The C of matrices times vectors, by themselves or in a stack."""

from __future__ import annotations

from typing import NamedTuple

from tinygrad_kr.compile.codegen.text import Writer
from tinygrad_kr.compile.ir.c_ops import C_TYPES
from tinygrad_kr.compile.ir.layout import View, broadcast_strides, extent, loops
from tinygrad_kr.compile.ir.program import Instruction
from tinygrad_kr.compile.plan.plan import Plan

MIN_LANES = 8
"""Fewest elements side by side that are worth vectors."""
MIN_MULTIPLICATIONS = 1_000
"""Fewest multiplications that are worth them; a compiler unrolls shorter loops."""
CHUNK = 256
"""Most sums that a function keeps at once; elements."""


class _Thin(NamedTuple):
    """y_i = sum_k A_ik x_k for i < length, k < depth. A is the left factor, or the right one
    transposed. down, along: strides of A; apart, stored: those of x and y."""

    length: int
    depth: int
    down: int
    along: int
    apart: int
    stored: int
    is_column: bool

    @property
    def is_dot(self) -> bool:
        """Whether the rows of A and x lie in order."""
        return self.along == 1 == self.apart and self.depth >= MIN_LANES

    @property
    def is_sum_of_columns(self) -> bool:
        """Whether the columns of A and y lie in order."""
        return self.down == 1 == self.stored and self.length >= MIN_LANES


def thin_product(plan: Plan, writer: Writer, instruction: Instruction) -> bool:
    """Write a product of one row or one column; False if its size or layout does not suit it.

    Rows of A that lie in order are dot products. Columns that do are added, each times an element
    of x.
    """
    (a, b), out = instruction.inputs, instruction.output
    *batch, rows, columns = out.shape
    if 1 not in (rows, columns) or extent(out.shape) * a.shape[-1] < MIN_MULTIPLICATIONS:
        return False
    views = [plan.views[value] for value in (out, a, b)]
    thin = _thin(rows, columns, a.shape[-1], *(view.strides for view in views))
    if not (thin.is_dot or thin.is_sum_of_columns):
        return False
    over = [
        broadcast_strides(view.strides[:-2], value.shape[:-2], tuple(batch))
        for view, value in zip(views, (out, a, b), strict=True)
    ]
    sizes, steps = loops(tuple(batch), *over)
    names = [f"n{k}" for k in range(len(sizes))]
    writer.computes(instruction)
    for name, size in zip(names, sizes, strict=True):
        writer.loop(name, size)
    y, left, right = (_begin(view, own, names) for view, own in zip(views, steps, strict=True))
    matrix, x = (left, right) if thin.is_column else (right, left)
    write = _dots if thin.is_dot else _sum_of_columns
    write(writer, thin, C_TYPES[out.dtype], y, matrix, x)
    writer.close(len(names))
    return True


def _thin(
    rows: int,
    columns: int,
    depth: int,
    out: tuple[int, ...],
    a: tuple[int, ...],
    b: tuple[int, ...],
) -> _Thin:
    """The sizes and strides of a product, whose arrays have these strides."""
    if columns == 1:
        return _Thin(rows, depth, a[-2], a[-1], b[-2], out[-2], True)
    return _Thin(columns, depth, b[-1], b[-2], a[-1], out[-1], False)


def _begin(view: View, steps: tuple[int, ...], names: list[str]) -> str:
    """Where a matrix or vector of the stack begins."""
    terms = [f"{name} * {step}" for name, step in zip(names, steps, strict=True)]
    return " + ".join([f"m{view.root}", str(view.offset), *terms])


def _dots(writer: Writer, s: _Thin, kind: str, y: str, matrix: str, x: str) -> None:
    dot = "tk_dotf" if kind == "float" else "tk_dot"
    writer.loop("i", s.length)
    writer(f"({y})[i * {s.stored}] = {dot}({s.depth}, {matrix} + i * {s.down}, {x});")
    writer.close()


def _sum_of_columns(writer: Writer, s: _Thin, kind: str, y: str, matrix: str, x: str) -> None:
    writer.loop("c", s.length, step=CHUNK)
    writer(f"int64_t n = {s.length} - c < {CHUNK} ? {s.length} - c : {CHUNK};")
    writer(f"{kind} row[{CHUNK}] = {{0}};")
    writer.loop("k", s.depth)
    writer(f"{kind} factor = ({x})[k * {s.apart}];")
    element = f"({matrix})[k * {s.along} + c + i]"
    writer(f"for (int64_t i = 0; i < n; i++) row[i] += factor * {element};")
    writer.close()
    writer(f"for (int64_t i = 0; i < n; i++) ({y})[c + i] = row[i];")
    writer.close()
