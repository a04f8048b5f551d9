"""The C of rows at integers: an embedding and its adjoint."""

from __future__ import annotations

from tinygrad_kr.compile.codegen.text import Writer
from tinygrad_kr.compile.ir.layout import View, loops
from tinygrad_kr.compile.ir.program import Instruction, Value
from tinygrad_kr.compile.ir.rows import keys_of, table_of
from tinygrad_kr.compile.plan.plan import Plan
from tinygrad_kr.ops.indexing import getitem


def rows(plan: Plan, write: Writer, instruction: Instruction) -> None:
    """Copy the rows, or clear the table and add them in order."""
    out = instruction.output
    write.computes(instruction)
    if instruction.op is getitem:
        (x,) = instruction.inputs
        _each(plan, write, instruction, instruction.params["key"], x, out)
        return
    write(f"memset(m{plan.views[out].root}, 0, {out.size * out.dtype.itemsize});")
    for g, key in zip(instruction.inputs, keys_of(instruction), strict=True):
        _each(plan, write, instruction, key, out, g)


def _each(
    plan: Plan, write: Writer, instruction: Instruction, key: Value, table: Value, rows: Value
) -> None:
    """Loops over the key, and in them over the elements of a row."""
    along, inner = len(key.shape), rows.shape[len(key.shape) :]
    vt, vr, vk = (plan.views[value] for value in (table, rows, key))
    outer, (outer_steps, key_steps) = loops(key.shape, vr.strides[:along], vk.strides)
    sizes, (row_steps, table_steps) = loops(inner, vr.strides[along:], vt.strides[1:])
    names, within = [f"i{k}" for k in range(len(outer))], [f"j{k}" for k in range(len(sizes))]
    write.open("")
    for name, size in zip(names, outer, strict=True):
        write.loop(name, size)
    write(f"int64_t row = {_at(vk, key_steps, names)};")
    write(f"row += row < 0 ? {table_of(instruction).shape[0]} : 0;")
    for name, size in zip(within, sizes, strict=True):
        write.loop(name, size)
    own = _at(vr, (*outer_steps, *row_steps), [*names, *within])
    shared = _at(vt, (vt.strides[0], *table_steps), ["row", *within])
    write(f"{own} = {shared};" if instruction.op is getitem else f"{shared} += {own};")
    write.close(len(names) + len(within) + 1)


def _at(view: View, steps: tuple[int, ...], names: list[str]) -> str:
    terms = [f"{name} * {step}" for name, step in zip(names, steps, strict=True)]
    return f"m{view.root}[{' + '.join([str(view.offset), *terms])}]"
