"""The C of linear systems and decompositions: calls of functions of `solving.h`."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from tinygrad_kr.compile.codegen.text import Writer
from tinygrad_kr.compile.ir.layout import broadcast_strides
from tinygrad_kr.compile.ir.program import Value
from tinygrad_kr.compile.plan.plan import Plan
from tinygrad_kr.compile.plan.steps import NO_MEMORY, Scan, Solution, Step
from tinygrad_kr.ops import linalg, solving


def pointer(step: Solution) -> str:
    """The name of the pointer to a step's function, of its dtype."""
    suffix = "f" if step.instruction.output.dtype == np.float32 else ""
    return f"tk_{step.function}{suffix}"


def pointers_of(steps: Iterable[Step]) -> dict[str, Solution]:
    """All that a program needs."""
    found: dict[str, Solution] = {}
    for step in steps:
        if isinstance(step, Solution):
            found[pointer(step)] = step
        elif isinstance(step, Scan):
            found |= pointers_of(step.body.plan.steps)
    return found


def solution(plan: Plan, writer: Writer, step: Solution) -> None:
    """Write a step: a call for each matrix of all but the last axis of the batch."""
    instruction = step.instruction
    op, output = instruction.op, instruction.output
    a, *rest = instruction.inputs
    n, batch = a.shape[-1], a.shape[:-2]
    numbers = step.function in ("logabsdet_", "signdet_")
    vector = bool(rest) and len(rest[0].shape) == 1
    if rest:
        batch = np.broadcast_shapes(batch, rest[0].shape[:-2])
    columns = 0 if numbers else 1 if vector else output.shape[-1]
    names = [f"i{k}" for k in range(len(batch))]
    writer.open("")
    for name, size in zip(names, batch, strict=True):
        writer.loop(name, size)
    first = _matrix(plan, a, batch, names, op is linalg.logabsdet_slope)
    second = _matrix(plan, rest[0], batch, names, False) if rest else ["0"] * 4
    view = plan.views[output]
    whole = output.shape if numbers else (*batch, n, columns)
    strides = [math.prod(whole[k + 1 :]) for k in range(len(batch))]
    target = _address(view.root, view.offset, strides, names)
    flags = 0
    if op is linalg.solve_triangular:
        params = instruction.params
        flags = solving.UPPER * params["upper"] + solving.UNIT * params["unit"]
    given = ["1", str(n), str(columns), str(flags), *first, *second, target, "0"]
    writer(f"int64_t given[] = {{{', '.join(given)}}};", instruction)
    if step.status is None:
        writer(f"{pointer(step)}(given, 0);")
    else:
        status = f"m{plan.views[step.status].root}[0]"
        writer(f"int64_t code = {pointer(step)}(given, 0);")
        writer(f"if (code && !{status}) {status} = code == 1 ? {NO_MEMORY} : {step.number};")
    writer.close(writer.depth - 1)


def _matrix(
    plan: Plan, x: Value, batch: tuple[int, ...], names: list[str], transposed: bool
) -> list[str]:
    """The address of a matrix of a batch, and its strides: apart, down and across."""
    view = plan.views[x]
    strides, shape = view.strides, x.shape
    if len(shape) == 1:
        strides, shape = (*strides, 0), (*shape, 1)
    *apart, down, across = broadcast_strides(strides, shape, (*batch, *shape[-2:]))
    if transposed:
        down, across = across, down
    return [_address(view.root, view.offset, apart, names), "0", str(down), str(across)]


def _address(root: int, offset: int, strides: Iterable[int], names: list[str]) -> str:
    terms = [f"{name} * {step}" for name, step in zip(names, strides, strict=True) if step]
    terms = [str(offset), *terms] if offset or not terms else terms
    return f"(int64_t)(intptr_t)&m{root}[{' + '.join(terms)}]"
