"""Shared by the lecture programs: many starts, tables, bars, pictures, results, command lines."""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import tinygrad_kr as tk
from tinygrad_kr import Tensor, data, nn
from tinygrad_kr.files import replacing

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
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


def progress_bar(total: int, name: str, done: int = 0, unit: str = "step") -> Any:
    """To `update()` and `close()`: a bar where tqdm is installed and someone looks, or nothing."""
    try:
        from tqdm import tqdm
    except ImportError:
        names = ("update", "close", "set_description", "set_postfix_str")
        nothing = dict.fromkeys(names, lambda *_, **__: None)
        return SimpleNamespace(disable=True, write=print, **nothing)
    return tqdm(total=total, initial=done, desc=name, unit=unit, disable=None, leave=False)


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


def made_with() -> dict[str, Any]:
    """The versions and the machine that a result belongs to."""
    versions = {
        "tinygrad_kr": tk.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    machine = f"{platform.machine()}, {os.cpu_count()} cores, shared with other work"
    return {"versions": versions, "machine": machine}


def rounded(value: float) -> float:
    """To six digits."""
    return float(f"{value:.6g}")


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote; empty before that."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def write_json(path: Path, everything: dict[str, Any]) -> None:
    """Whole or not at all; a line for each list, so that a new run is a few lines in a diff."""
    text = json.dumps(everything, indent=1)
    text = re.sub(r"\[[^][{}]*\]", lambda found: " ".join(found[0].split()), text) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as stream:
        stream.write(text.encode())


def with_run(runs: dict[str, Any], seed: int, run: dict[str, Any]) -> dict[str, Any]:
    """The runs, of which this is now that of `seed`, in the order of the seeds."""
    return dict(sorted({**runs, str(seed): run}.items(), key=lambda item: int(item[0])))


def options(text: str | None) -> argparse.ArgumentParser:
    """What every program understands: --help, which shows `text`, and --out."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    out = Path("out/lectures")
    parser.add_argument("--out", type=Path, default=out, help=f"for what is saved (default: {out})")
    return parser


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
    """Run a program: missing data, a folder that cannot be written and Ctrl-C end it in a line.

    A letter that the console does not know is shown as "?".
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        main()
    except data.DatasetNotFoundError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error}\n--out chooses another folder")
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
