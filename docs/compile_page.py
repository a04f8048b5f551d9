"""What the page `tinygrad_kr/compile/README.md` shows of the compiler, as it is now.

    python docs/compile_page.py      # writes docs/xor_step.c and docs/pictures/compile.svg

The picture follows one small training step through the stages; an op has the colour of the loop in
which it ends. The listing is the generated program of docs/xor_step.py.
"""

from __future__ import annotations

import os
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
from drawing import WIDTH_OF_LETTER, Drawing

import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, optim
from tinygrad_kr.compile.codegen.loops import snippet
from tinygrad_kr.compile.codegen.text import Function, shown
from tinygrad_kr.compile.ir.bindings import tell_fixed
from tinygrad_kr.compile.ir.program import Instruction, Program, Value, values_in
from tinygrad_kr.compile.passes.expand import expanded
from tinygrad_kr.compile.passes.simplify import simplified
from tinygrad_kr.compile.plan.plan import Plan
from tinygrad_kr.compile.plan.steps import instructions_of
from tinygrad_kr.compile.trace.tracer import Tracer

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "docs" / "xor_step.py"
LISTING = ROOT / "docs" / "xor_step.c"
PICTURE = ROOT / "docs" / "pictures" / "compile.svg"
COLOURS = ["#f5d391", "#b3dcf5", "#8cd3bd", "#e8c4d9", "#f8f2a6", "#8cbfda", "#edb08c"]
"""Of the loops, in the order in which they run: Okabe and Ito's, paler."""
SIZE, LINE, MARGIN = 11, 16, 12
"""Of the letters, of a line and around the picture, in pixels."""
OPS, CODE = 26, 68
"""Letters across a column of ops and a column of C."""
NOTES = """
The step (4 x 3 numbers, 3 weights):

    optimizer.zero_grad()
    loss = mse_loss((x @ w).sigmoid(), y)
    loss.backward()
    optimizer.step()

Colour: the loop in which an op ends.
White: a view or a constant, nothing to compute.
Grey: removed. v9 is folded into the constant v10.
v17 was only copied: the product is written to v18.

Expanded: mean is a sum and a quotient.

Fused: v4 to v15 are one loop, where forward and
backward meet. Other loops read v6 and v15, which are
stored; the rest stays in registers.

In place: v22, the new weights, overwrites v2. No
later op reads the old weights.
"""

# ------------------------------------------------------------------ the listing


def generated() -> str:
    """`step.source` of docs/xor_step.py, with no path before the names of files."""
    step = runpy.run_path(str(PROGRAM))["step"]
    source: str = step.source
    return source.replace(f"{PROGRAM.parent}{os.sep}", "").strip("\n") + "\n"


# ------------------------------------------------------------------ the picture


def example() -> Program:
    """The trace of a step of logistic regression, four rows of three numbers."""
    w = Tensor(np.ones((3, 1), np.float32), requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1)

    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = F.mse_loss((x @ w).sigmoid(), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    batch = Tensor(np.ones((4, 3), np.float32)), Tensor(np.ones((4, 1), np.float32))
    before, now = Tracer(), Tracer()
    for tracer in (before, now):
        tracer.run(step, batch, {})
    tell_fixed(before.program.inputs.values(), now.program.inputs.values())
    return now.program


def written(instruction: Instruction) -> str:
    """An op in a few letters."""
    given = [
        f"v{x.number}" if isinstance(x, Value) else str(x)
        for x in instruction.inputs
        if isinstance(x, Value | int | float)
    ]
    return f"v{instruction.output.number:<3}{instruction.op.__name__} {' '.join(given)}"


def colours(plan: Plan) -> dict[int, str]:
    """By the number of a value, the colour of the step that computes it."""
    found = {}
    for step, colour in zip(plan.steps, COLOURS, strict=False):
        for instruction in instructions_of(step):
            found[instruction.output.number] = colour
    return found


def c_lines(plan: Plan, step: Any) -> list[str]:
    """The C of one step, without the head of the function around it."""
    body = shown([Function(snippet(plan, step).lines)], str)
    body = re.sub(r"(/\* \w+), \S*:(\d+) \*/", r"\1 */", body)
    return re.sub(r"0x1\.0+p([+-]\d+)f?", lambda m: f"{2.0 ** int(m[1]):g}", body).split("\n")


def in_columns(blocks: list[tuple[str, list[str]]]) -> list[list[tuple[str, list[str]]]]:
    """The blocks of C in two columns, as equal in height as their order allows."""

    def height(column: list[tuple[str, list[str]]]) -> int:
        return sum(len(lines) + 1 for _, lines in column)

    cuts = range(1, len(blocks))
    cut = min(cuts, key=lambda i: max(height(blocks[:i]), height(blocks[i:])))
    return [blocks[:cut], blocks[cut:]]


def draw(path: Path) -> None:
    """The picture."""
    recorded = example()
    whole = expanded(recorded)
    simple = simplified(whole)
    programs = {"1 traced": recorded, "2 expanded": whole, "3 simplified": simple}
    plan = Plan(simple)
    by_number = colours(plan)
    needed = {v for s in simple.instructions for v in values_in(s.inputs)}
    blocks = [(colour, c_lines(plan, s)) for s, colour in zip(plan.steps, COLOURS, strict=False)]
    columns = in_columns(blocks)
    notes = NOTES.strip("\n").split("\n")
    top = max(len(notes), *(len(p.instructions) for p in programs.values())) + 3
    rows = top + 2 + max(sum(len(lines) + 1 for _, lines in column) for column in columns)

    letter = SIZE * WIDTH_OF_LETTER
    size = 2 * MARGIN + 2 * CODE * letter, 2 * MARGIN + (rows - 1) * LINE
    picture = Drawing(*size, SIZE, "A small training step through the stages of tk.compile")

    def text(column: float, row: float, words: str, **style: Any) -> None:
        picture.text(MARGIN + column * letter, MARGIN + (row + 0.5) * LINE, words, **style)

    def box(column: float, row: float, width: float, height: float, colour: str) -> None:
        x, y = MARGIN + column * letter, MARGIN + row * LINE
        picture.box(x, y, width * letter, height * LINE, colour)

    for column, (title, program) in enumerate(programs.items()):
        text(column * OPS, 0, f"{title}: {len(program.instructions)} ops", bold=True)
        for row, instruction in enumerate(program.instructions, start=2):
            colour = by_number.get(instruction.output.number)
            words = written(instruction)
            if colour is not None:
                box(column * OPS - 0.4, row + 0.03, len(words) + 0.8, 0.94, colour)
            removed = colour is None and instruction.output not in needed
            text(column * OPS, row, words, fill="#777" if removed else "")
    for row, words in enumerate(notes):
        text(3 * OPS + 1, row, words)

    text(0, top - 0.5, f"4 fused into {len(plan.steps)} loops, 5 generated as C", bold=True)
    for column, pieces in enumerate(columns):
        row = top + 1
        for colour, lines in pieces:
            box(column * CODE - 0.4, row - 0.1, CODE - 1, len(lines) + 0.2, colour)
            for words in lines:
                text(column * CODE + 0.5, row, words.removeprefix("  ").replace("int64_t", "int"))
                row += 1
            row += 1
    picture.save(path)


def main() -> None:
    LISTING.write_text(generated(), encoding="utf-8", newline="\n")
    draw(PICTURE)


if __name__ == "__main__":
    main()
