"""What the page `tinygrad_kr/compile/README.md` shows of the generator, as it is now.

    python docs/compile_page.py      # draws docs/pictures/compile.png, puts step.source in the page

The picture follows one small training step through the passes; an op has the colour of the loop in
which it ends. The source is that of the program on the page itself.
"""

from __future__ import annotations

import os
import re
import runpy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

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
PAGE = ROOT / "tinygrad_kr" / "compile" / "README.md"
PICTURE = ROOT / "docs" / "pictures" / "compile.png"
OKABE_ITO = ["#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00"]
COLUMNS, LINE = 138, 9.8
"""Characters across the picture, points between its lines."""
NOTES = """
What is recorded (4 x 3 numbers, 3 weights):

    optimizer.zero_grad()
    loss = mse_loss((x @ w).sigmoid(), y)
    loss.backward()
    optimizer.step()

An op has the colour of the loop in which it ends.
White: a view or a constant, no work is left.
Grey: goes. v11 is a constant's quotient; v19 was only
copied, so the product is written where the copy was.

Expanded: mean is a sum and a quotient.

Fused: v5 to v17 are one loop. Only v7 and v17 are
stored, which other loops read; the rest stays in
registers. Forward and backward meet there.

In place: v24, the new weights, is written over v2,
since nothing reads the old ones after that.
"""

# ------------------------------------------------------------------ the page's program


def _block(page: str, marker: str) -> re.Match[str]:
    found = re.search(rf"<!-- {re.escape(marker)} -->\s*```\w*\n(.*?)```", page, re.DOTALL)
    if found is None:
        raise ValueError(f"there is no fenced block after <!-- {marker} -->")
    return found


def block(page: str, marker: str) -> str:
    """The fenced text after `<!-- marker -->`."""
    return _block(page, marker)[1]


def generated(page: str) -> str:
    """`step.source` of the page's program, which calls its file xor.py."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "xor.py"
        file.write_text(block(page, "xor.py"), encoding="utf-8")
        step = runpy.run_path(str(file))["step"]
        source: str = step.source
    return source.replace(f"{folder}{os.sep}", "").strip("\n") + "\n"


def with_source(page: str) -> str:
    """The page with what is generated now."""
    start, end = _block(page, "step.source").span(1)
    return page[:start] + generated(page) + page[end:]


# ------------------------------------------------------------------ the picture


def example() -> Program:
    """What is recorded of a step of logistic regression, four rows of three numbers."""
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
    for step, colour in zip(plan.steps, OKABE_ITO, strict=False):
        for instruction in instructions_of(step):
            found[instruction.output.number] = colour
    return found


def c_lines(plan: Plan, step: Any) -> list[str]:
    """The C of one step, without the head of the function around it."""
    body = shown([Function(snippet(plan, step).lines)], str)
    body = re.sub(r"(/\* \w+), \S*:(\d+) \*/", r"\1 */", body)
    return re.sub(r"0x1\.0+p([+-]\d+)f?", lambda m: f"{2.0 ** int(m[1]):g}", body).split("\n")


def draw(path: Path) -> None:
    """The picture."""
    import matplotlib.pyplot as plt
    from PIL import Image

    recorded = example()
    whole = expanded(recorded)
    simple = simplified(whole)
    plan = Plan(simple)
    by_number = colours(plan)
    blocks = [(colour, c_lines(plan, s)) for s, colour in zip(plan.steps, OKABE_ITO, strict=False)]
    rows = sum(len(lines) + 1 for _, lines in blocks) + 1
    figure, axes = plt.subplots(figsize=(8, rows * LINE / 72))
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.99)
    axes.set(xlim=(0, COLUMNS), ylim=(rows, 0))
    axes.axis("off")

    def text(x: float, y: float, words: str, colour: str | None = None, **style: Any) -> None:
        box = {"facecolor": colour, "edgecolor": "none", "pad": 1.2, "alpha": 0.45}
        axes.text(
            x, y, words, family="monospace", fontsize=6.6, va="center",
            bbox=box if colour else None, **style,
        )  # fmt: skip

    programs = [recorded, whole, simple]
    titles = ["1 recorded", "2 expanded", "3 simplified"]
    for i, (program, title) in enumerate(zip(programs, titles, strict=True)):
        later = {s.output for p in programs[i + 1 :] for s in p.instructions}
        later |= set(simple.inputs)
        x = i * 25
        text(x, 0.5, f"{title}: {len(program.instructions)} ops", fontweight="bold")
        for y, instruction in enumerate(program.instructions):
            colour = by_number.get(instruction.output.number)
            dropped = colour is None and instruction.output not in {
                v for s in simple.instructions for v in values_in(s.inputs)
            }
            words = written(instruction)
            text(x, y + 2, words, colour, color="#999999" if dropped else "black")
    for y, words in enumerate(NOTES.strip("\n").split("\n"), start=26):
        text(0, y, words)
    text(76, 0.5, f"4 fused into {len(plan.steps)} loops   5 generated C", fontweight="bold")
    y = 2.0
    for colour, lines in blocks:
        size = COLUMNS - 75, len(lines) + 0.3
        axes.add_patch(plt.Rectangle((75, y - 0.65), *size, color=colour, alpha=0.45, lw=0))
        for line in lines:
            text(76, y, line.removeprefix("  ").replace("int64_t", "int"))
            y += 1
        y += 1
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    with Image.open(path) as full:
        few_colours = full.convert("RGB").quantize(64)
    few_colours.save(path, optimize=True)


def main() -> None:
    PAGE.write_text(with_source(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    draw(PICTURE)


if __name__ == "__main__":
    main()
