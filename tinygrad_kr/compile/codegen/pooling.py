"""The text of C for maxima of windows."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from tinygrad_kr.compile.codegen.text import Writer
from tinygrad_kr.compile.ir.c_ops import C_TYPES
from tinygrad_kr.compile.ir.ops import _window_first
from tinygrad_kr.compile.ir.program import Instruction
from tinygrad_kr.compile.plan.plan import Plan
from tinygrad_kr.ops import window as w

TYPES = {**C_TYPES, np.dtype(np.int8): "int8_t"}


def _four(strides: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Strides over samples, channels and two axes."""
    if len(strides) == 3:
        return strides[0], strides[1], 0, strides[2]
    return strides[0], strides[1], strides[2], strides[3]


def _at(*terms: tuple[str, int]) -> str:
    """An index: names times strides."""
    parts = [name if step == 1 else f"{name} * {step}" for name, step in terms if step]
    return " + ".join(parts) or "0"


def pooling(plan: Plan, write: Writer, instruction: Instruction) -> None:
    """Loops over all windows, those over memory that lies side by side innermost."""
    out, window = instruction.output, instruction.params
    (x, *_), kernel = instruction.inputs, window["kernel"]
    put = instruction.op is w.max_unpool
    narrow, wide = (x, out) if put else (out, x)
    kept = len(wide.shape) - len(kernel)
    views = {value: plan.views[value] for value in (narrow, wide)}
    steps = views[wide].strides
    moves = (*steps[:kept], *(s * t for s, t in zip(steps[kept:], window["stride"], strict=True)))
    elements = [
        sum(o * d * s for o, d, s in zip(offset, window["dilation"], steps[kept:], strict=True))
        for offset in product(*map(range, kernel))
    ]
    axes = sorted(range(len(narrow.shape)), key=lambda a: (-steps[a], a))
    heads = [f"for (int64_t i{a} = 0; i{a} < {narrow.shape[a]}; i{a}++)" for a in axes]
    at = {
        value: f"m{views[value].root}["
        + _at(("1", views[value].offset), *((f"i{a}", strides[a]) for a in axes))
        for value, strides in ((narrow, views[narrow].strides), (wide, moves))
    }
    write.computes(instruction)
    if not put:
        write(" ".join(heads) + " {")
        _find(write, TYPES[x.dtype], [f"{at[wide]} + {element}]" for element in elements])
        write(f"  {at[narrow]}] = {'index' if instruction.op is _window_first else 'best'};")
        write("}")
        return
    index = window["index"]
    view = plan.views[index]
    chosen = f"m{view.root}[" + _at(("1", view.offset), *((f"i{a}", view.strides[a]) for a in axes))
    apart = all(s >= (k - 1) * d + 1 for s, k, d in zip(*_window(window), strict=True))
    write(f"memset(m{views[out].root}, 0, {out.size * out.dtype.itemsize});")
    for group in (
        [list(enumerate(elements))] if apart else [[(n, s)] for n, s in enumerate(elements)]
    ):
        # Read first: GCC 12 loads the wrong ones where what is compared is of another size.
        write(" ".join(heads) + " {")
        write(f"  {TYPES[x.dtype]} value = {at[narrow]}];")
        write(f"  int32_t index = {chosen}];")
        for number, element in group:
            to = f"  {at[wide]} + {element}]"
            write(f"{to} {'=' if apart else '+='} index == {number} ? value : 0;")
        write("}")


def _window(window: dict[str, Any]) -> tuple[Any, Any, Any]:
    return window["stride"], window["kernel"], window["dilation"]


_WIDE = {"float": "int32_t", "double": "int64_t"}
"""The whole numbers that are as wide as a float."""


def _find(write: Writer, kind: str, elements: list[str], indent: str = "  ") -> None:
    """`best` and `index`: the first largest of these expressions, or the first NaN.

    In the form that GCC makes vector code of: all of one width, truth as all bits.
    """
    wide = _WIDE[kind]
    write(f"{indent}{kind} best = {elements[0]};")
    write(f"{indent}{wide} index = 0;")
    for number, element in enumerate(elements[1:], 1):
        write(f"{indent}{kind} x{number} = {element};")
        write(f"{indent}{wide} t{number} = -!(x{number} <= best) & -(best == best);")
        write(f"{indent}best = t{number} ? x{number} : best;")
        write(f"{indent}index = t{number} ? {number} : index;")
