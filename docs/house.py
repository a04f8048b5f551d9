"""The picture of the package in docs/reading.md: imports go down, or to the left.

python docs/house.py      # writes docs/pictures/house.svg
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from drawing import Drawing

PICTURE = Path(__file__).resolve().parent / "pictures" / "house.svg"


class Room(NamedTuple):
    """Files or folders of the package, by their paths in it, and what they are for."""

    paths: tuple[str, ...]
    purpose: str


FLOORS: list[tuple[str, list[Room]]] = [
    (
        "#f7d9c4",
        [
            Room(("compile/function.py", "compile/loop.py"), "which program a call replays"),
            Room(("compile/scan.py", "compile/body.py"), "a loop, its derivative"),
        ],
    ),
    (
        "#f7d9c4",
        [
            Room(("compile/trace/",), "function -> program"),
            Room(("compile/passes/",), "program -> program"),
            Room(("compile/plan/",), "program -> steps"),
            Room(("compile/codegen/",), "steps -> C"),
            Room(("compile/run/",), "C -> a callable"),
        ],
    ),
    ("#f7d9c4", [Room(("compile/ir/",), "what a program is")]),
    ("#cfe8d5", [Room(("nn/",), "layers and modules, with PyTorch's names")]),
    (
        "#cfe8d5",
        [
            Room(("functional/",), "activations, losses, layers"),
            Room(("optim/",), "update rules, schedules"),
            Room(("data/",), "digits, tables, batches"),
        ],
    ),
    (
        "#cde3f3",
        [
            Room(("autodiff.py", "autograd.py"), "the walk, backward()"),
            Room(("transformations.py", "remat.py"), "grad, vjp, jvp, hessian"),
            Room(("creation.py", "random.py"), "zeros, arange, randn"),
        ],
    ),
    (
        "#cde3f3",
        [
            Room(("tensor.py",), "the class: data, grad, methods, writing"),
            Room(("batching.py",), "vmap: one row, all rows"),
        ],
    ),
    (
        "#cde3f3",
        [
            Room(("grad_mode.py",), "no_grad, enable_grad"),
            Room(("linalg.py",), "decompositions, norms"),
            Room(("numpy_protocol.py",), "np.sum(t), np.dot(t, u)"),
        ],
    ),
    ("#cde3f3", [Room(("arrays/",), "tk.*: functions of arrays, composed of ops")]),
    ("#f6ecb5", [Room(("ops/",), "one record each: a NumPy function, one rule per input")]),
    (
        "#dddddd",
        [Room(("native/",), "C on this machine"), Room(("native/include/",), "its kernels")],
    ),
    (
        "#eeeeee",
        [
            Room(("tree.py", "dtypes.py"), "containers, tk.float32"),
            Room(("escape.py", "language.py"), "generated names, texts"),
            Room(("moved.py",), "old names, for a release"),
            Room(("files.py", "changes.py"), "all or nothing"),
            Room(("html.py",), "tables, curves"),
        ],
    ),
]
"""The floors from the roof down, each with its colour."""
YARD = [
    Room(("explain/",), "why a gradient is what it is"),
    Room(("export/",), "ONNX files, both ways"),
    Room(("testing/",), "gradient checks"),
    Room(("sweep.py", "workers.py"), "many seeds at once"),
    Room(("journal.py", "fingerprint.py"), "sweeps that resume"),
    Room(("distributed/",), "one net on many ranks"),
    Room(("training.py",), "fit, evaluate, predict"),
    Room(("tensorboard.py",), "event files"),
    Room(("saving/",), "save and resume"),
    Room(("interop/",), "PyTorch, sklearn, SciPy"),
    Room(("doctor.py",), "this machine"),
    Room(("command_line.py",), "help of the commands"),
]
"""What stands beside the house."""

WIDTH, MARGIN, HEIGHT, GAP, YARD_WIDTH = 920, 14, 46, 5, 168
SIZE, SMALL = 12, 11


def draw(path: Path) -> None:
    """The picture."""
    roof = 64
    bottom = roof + len(FLOORS) * (HEIGHT + GAP)
    picture = Drawing(WIDTH, bottom + 46, SIZE, "The package as a house of floors")
    right = WIDTH - 2 * MARGIN - YARD_WIDTH

    def middle(x: float, width: float, y: float, words: str, size: float, bold: bool) -> None:
        picture.text(x + (width - 0.6 * size * len(words)) / 2, y, words, bold=bold, size=size)

    def room(x: float, y: float, width: float, height: float, room: Room, colour: str) -> None:
        picture.box(x, y, width, height, colour, "#888")
        middle(x, width, y + height / 2 - 9, "  ".join(room.paths), SIZE, True)
        middle(x, width, y + height / 2 + 9, room.purpose, SMALL, False)

    picture.roof(MARGIN, roof - GAP, right - MARGIN, roof - 14, "#e7b8a0", "#888")
    middle(MARGIN, right - MARGIN, roof - 24, "import tinygrad_kr as tk", SIZE, True)
    y = roof
    for colour, rooms in FLOORS:
        width = (right - MARGIN - GAP * (len(rooms) - 1)) / len(rooms)
        for i, one in enumerate(rooms):
            room(MARGIN + i * (width + GAP), y, width, HEIGHT, one, colour)
        y += HEIGHT + GAP
    height = min(72, (bottom - roof) // len(YARD) - GAP)
    for i, one in enumerate(reversed(YARD), start=1):
        top = bottom - GAP - i * height - (i - 1) * GAP
        room(right + MARGIN, top, YARD_WIDTH, height, one, "#e6dcf0")
    picture.line(MARGIN, bottom, WIDTH - MARGIN, bottom, "#888")
    words = "Imports go down or to the left, never up or to the right."
    middle(MARGIN, WIDTH - 2 * MARGIN, bottom + 20, words, SIZE, False)
    picture.save(path)


if __name__ == "__main__":
    draw(PICTURE)
