"""Shared by the lecture programs: many starts, tables, a progress bar, pictures, command lines."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tinygrad_kr as tk
from tinygrad_kr import Tensor, data, nn

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"  # Okabe and Ito's


class Starts(nn.Module):
    """`starts` linear layers side by side, N(0, 1) as in the labs: as many trainings in one.

    Input (n, inputs) or (starts, n, inputs), output (starts, n, outputs). None touches another, so
    the gradient of the sum of their costs is for each the gradient of its own.
    """

    def __init__(self, starts: int, inputs: int, outputs: int) -> None:
        self.weight = nn.Parameter(tk.randn(starts, inputs, outputs))
        self.bias = nn.Parameter(tk.randn(starts, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


def table(name: str) -> Any:
    """A csv table of the lectures as an array; DatasetNotFoundError, with a remedy, without it."""
    path = Path(os.environ.get("TINYGRAD_KR_DATA", "."), "lectures", name)
    if path.is_file():
        return data.read_csv(path).values
    raise data.DatasetNotFoundError(
        f"{path} is not there. Put {name}, from the repository hunkim/DeepLearningZeroToAll on "
        "GitHub, into a folder `lectures`, and set TINYGRAD_KR_DATA to the folder above that."
    )


def bar(steps: int) -> Any:
    """`range(steps)`, with a progress bar where tqdm is installed and someone looks."""
    try:
        from tqdm import tqdm  # type: ignore[import-untyped]
    except ImportError:
        return range(steps)
    return tqdm(range(steps), disable=None, leave=False)


def new_figure(width: float, height: float) -> Any:
    """A matplotlib figure (inches); where matplotlib is missing, None and a line that says so."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print('no picture: matplotlib is missing (pip install "tinygrad_kr[examples]")')
        return None
    return Figure((width, height), layout="constrained")


def save(figure: Any, path: Path) -> None:
    """Write a figure as a PNG and say where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"picture saved: {path}")


def whole(lowest: int) -> Callable[[str], int]:
    """For argparse: a whole number from `lowest` up."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = lowest - 1
        if number < lowest:
            raise argparse.ArgumentTypeError(f"a whole number from {lowest} up, not {text!r}")
        return number

    return read


def positive(text: str) -> float:
    """For argparse: a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"a number above 0, not {text!r}")
    return number


def launch(main: Callable[[], None]) -> None:
    """Run a program: missing data, a folder that cannot be written and Ctrl-C end it in a line."""
    try:
        main()
    except data.DatasetNotFoundError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error}\n--out chooses another folder")
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
