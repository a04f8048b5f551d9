"""The C of matrices times vectors, by themselves or in a stack."""

from __future__ import annotations

from tinygrad_kr.compile.codegen.text import Writer
from tinygrad_kr.compile.ir.c_ops import C_TYPES
from tinygrad_kr.compile.ir.layout import broadcast_strides, extent, loops
from tinygrad_kr.compile.ir.program import Instruction
from tinygrad_kr.compile.plan.plan import Plan

MIN_LANES = 8
"""Fewest elements side by side that are worth vectors."""
MIN_MULTIPLICATIONS = 1_000
"""Fewest multiplications that are worth them; a compiler unrolls shorter loops."""
CHUNK = 256
"""Most sums that a function keeps at once; elements."""


def thin_product(plan: Plan, write: Writer, instruction: Instruction) -> bool:
    """Write a product of one row or one column; False if the memory layout does not suit it.

    y_i = sum_k A_ik x_k, where A is the left factor, or the right one transposed. Rows of A that
    lie side by side are dot products; columns that do are added, each times an element of x.
    """
    (a, b), out = instruction.inputs, instruction.output
    views = [plan.views[value] for value in (out, a, b)]
    *batch, rows, columns = out.shape
    if columns == 1:
        matrix, vector, count = 1, 2, rows
        down, along = views[1].strides[-2:]
        apart, stored = views[2].strides[-2], views[0].strides[-2]
    elif rows == 1:
        matrix, vector, count = 2, 1, columns
        along, down = views[2].strides[-2:]
        apart, stored = views[1].strides[-1], views[0].strides[-1]
    else:
        return False
    depth = a.shape[-1]
    if extent(out.shape) * depth < MIN_MULTIPLICATIONS:
        return False
    is_dot = along == 1 == apart and depth >= MIN_LANES
    if not is_dot and not (down == 1 == stored and count >= MIN_LANES):
        return False
    over = [
        broadcast_strides(view.strides[:-2], value.shape[:-2], tuple(batch))
        for view, value in zip(views, (out, a, b), strict=True)
    ]
    sizes, steps = loops(tuple(batch), *over)
    names = [f"n{k}" for k in range(len(sizes))]
    write.computes(instruction)
    for name, size in zip(names, sizes, strict=True):
        write.loop(name, size)
    begin = [
        " + ".join([str(view.offset), *(f"{n} * {s}" for n, s in zip(names, own, strict=True))])
        for view, own in zip(views, steps, strict=True)
    ]
    y, left, x = ((f"m{views[which].root}", begin[which]) for which in (0, matrix, vector))
    kind = C_TYPES[out.dtype]
    if is_dot:
        single = "f" if kind == "float" else ""
        write.loop("i", count)
        given = f"{depth}, {left[0]} + {left[1]} + i * {down}, {x[0]} + {x[1]}"
        write(f"{y[0]}[{y[1]} + i * {stored}] = tk_dot{single}({given});")
    else:
        write.loop("c", count, step=CHUNK)
        write(f"int64_t n = {count} - c < {CHUNK} ? {count} - c : {CHUNK};")
        write(f"{kind} row[{CHUNK}] = {{0}};")
        write.loop("k", depth)
        write(f"{kind} factor = {x[0]}[{x[1]} + k * {apart}];")
        element = f"{left[0]}[{left[1]} + k * {along} + c + i]"
        write(f"for (int64_t i = 0; i < n; i++) row[i] += factor * {element};")
        write.close()
        write(f"for (int64_t i = 0; i < n; i++) {y[0]}[{y[1]} + c + i] = row[i];")
    write.close(1 + len(names))
    return True
