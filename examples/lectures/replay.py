"""Every lab of the lectures in one table: what was published, what we get, how long it takes.

    python examples/lectures/replay.py                  # short labs are run, long ones looked up
    python examples/lectures/replay.py --lab 10-3       # one lab, run anew, long or not
    python examples/lectures/replay.py --lab 07 --lab 09-2     # all labs 07-x, and 09-2
    python examples/lectures/replay.py --all            # everything anew: an hour or more

Long labs (all of MNIST) show the results that earlier runs have left in benchmarks/results: the
mean and the range of their seeds, marked "saved" with the version of tinygrad_kr that made them.
A lab that fails is shown as failed and the rest goes on; the exit status is then 1. Ctrl-C stops
and shows what is done. A picture of ours against the published figures is saved in out/lectures.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from common import BLUE, ORANGE, launch, new_figure, options, progress_bar, save

HERE = Path(__file__).resolve().parent
Figures = dict[str, float]


class Lab(NamedTuple):
    """A row: what the lecture published, and which figures of which program stand beside it."""

    name: str
    what: str
    published: str
    program: str
    shown: tuple[tuple[str, str], ...]  # (a figure's key, how it is written)
    arguments: dict[str, Any] = {}  # for the program's run()  # noqa: RUF012
    long: bool = False
    compared: tuple[str, float] | None = None  # a share of right answers, ours and the published


def mnist(name: str, what: str, published: float, *, key: str = "") -> Lab:
    """A row of mnist_ladder.py or mnist_cnn.py, all of which have the same form."""
    key = key or name.removeprefix("0")
    program = "mnist_cnn" if name.startswith("11") else "mnist_ladder"
    accuracy = f"lab {key} accuracy"
    shown = ((accuracy, "accuracy {:.4f}"),)
    text = f"accuracy {published}" if published else "-"
    compared = (accuracy, published) if published else None
    return Lab(name, what, text, program, shown, {"lab": key}, True, compared)


def keras(name: str, what: str, published: float) -> Lab:
    accuracy = f"lab Keras {name} accuracy"
    shown = ((accuracy, "accuracy {:.4f}"),)
    compared = (accuracy, published)
    text = f"accuracy {published}"
    return Lab(f"Keras {name}", what, text, "fit", shown, {"lab": name}, True, compared)


LABS = (
    Lab("activations", "every activation and its slope", "sigmoid's at most 0.25", "activations",
        (("sigmoid: highest slope", "{:.2f}"),)),
    Lab("gates", "AND, OR, XOR by one line", "AND, OR yes, XOR no", "gates",
        (("best line, AND", "best line: AND {:g},"), ("best line, OR", "OR {:g},"),
         ("best line, XOR", "XOR {:g}"))),
    Lab("by hand", "hand-set XOR weights", "0.0112 0.9949 0.9949 0.0244", "by_hand",
        tuple((f"hand-set XOR of {pair}", "{:.4f}") for pair in ("00", "01", "10", "11"))),
    Lab("by hand", "dW and db derived by hand", "-", "by_hand",
        (("largest gradient difference", "off autodiff's by {:.1e}"),)),
    Lab("linear layers", "1 = 10 = 100 layers", "equal", "linear_collapse",
        (("10 linear layers: difference to one layer", "10: off by {:.0e},"),
         ("100 linear layers: difference to one layer", "100: {:.0e}"))),
    Lab("vanishing", "0.5 through 4 layers", "0.000025", "vanishing",
        (("0.5 through 4 layers", "{:g}"),)),
    Lab("vanishing", "XOR, 10 hidden: first gradient / last", "7.6e-7", "vanishing",
        (("XOR, 10 hidden: first over last", "{:.1e}"),)),
    Lab("dying ReLU", "XOR, 10 x 5 ReLU: dead at the start", "15%", "dying_relu",
        (("XOR, 10 hidden, 5 wide: dead at the start", "{:.1%}"),), {"seeds": 1, "epochs": 1}),
    Lab("Xavier, He", "standard deviations, 784 -> 256", "0.0357, 0.0439, 0.0472", "initialisation",
        (("xavier_2010: standard deviation", "{:.4f},"),
         ("xavier_init: standard deviation", "{:.4f},"),
         ("xavier_init, normal: standard deviation", "{:.4f};"),
         ("he_2015: standard deviation", "He {:.4f}")), {"steps": 60, "data_name": "digits"}),
    Lab("zeros", "a ReLU net started with zeros", "all gradients 0", "initialisation",
        (("ReLU, zeros: first gradient of 0.weight", "first weights {:g},"),
         ("ReLU, zeros: first gradient of 4.bias", "last bias {:.3f}")),
        {"steps": 60, "data_name": "digits"}),
    Lab("derivative", "x^2 at 1, changed by 0.01", "slope 2", "small_change",
        (("f = x^2, by x, at 1: small change", "{:g},"),
         ("f = x^2, by x, at 1: backward", "by backward() {:g}"))),
    Lab("deep XOR", "ten hidden sigmoid layers", "accuracy 0.5", "deep_xor",
        (("sigmoid: learned", "learned by {:.0%} of 100 starts,"),
         ("sigmoid: median cost", "cost {:.4f}"))),
    Lab("deep XOR", "the same with ReLU", "accuracy 1.0", "deep_xor",
        (("ReLU: learned", "1.0 from {:.0%} of 100 starts"),)),
    Lab("over-fitting", "15 points, tanh nets 2 and 64 wide", "-", "width",
        (("15 points, 2 wide: error", "2 wide: off by {:.2f},"),
         ("15 points, 64 wide: error", "64: {:.2f}")),
        {"widths": (2, 64), "nets": 10, "steps": 2_000}),
    Lab("pre-training", "autoencoders, small digits", "-", "autoencoder",
        (("sigmoid, N(0, 0.01^2), all labels: accuracy", "no {:.2f},"),
         ("the same, pre-trained, all labels: accuracy", "yes {:.2f}")), {"seeds": 1}),
    Lab("02-1", "a line, from the lab's first step", "W 1.00403607, b -0.00917497",
        "deterministic", (("lab 02-1 W", "W {:.9g},"), ("lab 02-1 b", "b {:.6g}"))),
    Lab("02-3", "a line through four points", "W -0.9999969, b 0.9999908", "deterministic",
        (("lab 02-3 W", "W {:.7f},"), ("lab 02-3 b", "b {:.7f}"))),
    Lab("03-3", "one weight by hand-set steps", "W 5.0, 1.26667, 1.01778", "deterministic",
        (("lab 03-3 W at step 0", "W {:.1f},"), ("lab 03-3 W at step 1", "{:.5f},"),
         ("lab 03-3 W at step 2", "{:.5f}"))),
    Lab("03-X", "its gradient, steps 0 to 100", "37.3333 to 0.0020739", "deterministic",
        (("lab 03-X gradient at step 0", "{:.4f} to"),
         ("lab 03-X gradient at step 100", "{:.7f}"))),
    Lab("04-1", "three scores, five students", "cost 4.89449", "linear_regression",
        (("lab 04-1 cost, median", "median {:.2f},"), ("lab 04-1 cost, lowest", "{:.2f} to"),
         ("lab 04-1 cost, highest", "{:.1f}"))),
    Lab("04-3", "25 students from a csv", "cost 24.7225", "linear_regression",
        (("lab 04-3 cost, median", "median {:.1f},"), ("lab 04-3 cost, lowest", "{:.2f} to"),
         ("lab 04-3 cost, highest", "{:.1f};"),
         ("lab 04-3 cost of the best plane", "best {:.2f}"))),
    Lab("05-1", "logistic regression, six points", "accuracy 1.0", "logistic_regression",
        (("lab 05-1 accuracy, mean", "accuracy {:.1f}"),),
        compared=("lab 05-1 accuracy, mean", 1.0)),
    Lab("05-2", "diabetes csv", "accuracy 0.762846", "logistic_regression",
        (("lab 05-2 accuracy, mean", "accuracy {:.4f},"),
         ("lab 05-2 accuracy, lowest", "{:.4f} to"),
         ("lab 05-2 accuracy, highest", "{:.4f}")),
        compared=("lab 05-2 accuracy, mean", 0.762846)),
    Lab("06-1", "softmax, eight points", "cost 0.15216", "softmax_regression",
        (("lab 06-1 cost, median", "median {:.4f},"), ("lab 06-1 cost, lowest", "{:.4f} to"),
         ("lab 06-1 cost, highest", "{:.4f}"))),
    Lab("06-2", "zoo csv", "100%", "softmax_regression",
        (("lab 06-2 accuracy, mean", "{:.0%},"),
         ("lab 06-2 accuracy on animals left out", "left out {:.0%}")),
        compared=("lab 06-2 accuracy, mean", 1.0)),
    Lab("07-1", "learning rate 1.5", "NaN, accuracy 0", "learning_rate",
        (("lab 07-1 rate 1.5 cost 200", "cost {},"),
         ("lab 07-1 rate 1.5 test accuracy", "accuracy {:g}")),
        compared=("lab 07-1 rate 1.5 test accuracy", 0.0)),
    Lab("07-1", "learning rate 1e-10", "cost stays 5.73203", "learning_rate",
        (("lab 07-1 rate 1e-10 cost 0", "{:.5f} to"), ("lab 07-1 rate 1e-10 cost 200", "{:.5f}"))),
    Lab("07-1", "learning rate 0.1", "cost 0.670909, accuracy 1", "learning_rate",
        (("lab 07-1 rate 0.1 cost 200", "cost {:.6f},"),
         ("lab 07-1 rate 0.1 test accuracy", "accuracy {:g}")),
        compared=("lab 07-1 rate 0.1 test accuracy", 1.0)),
    Lab("07-2", "stock prices as they are", "diverges", "learning_rate",
        (("lab 07-2 unscaled: steps until infinity or NaN", "infinite after {:g} steps"),)),
    Lab("07-3", "scaled to 0..1, rate 1e-5, 101 steps", "cost 0.15231 to 0.15225", "learning_rate",
        (("lab 07-3 scaled, rate 1e-5: share of the cost left", "{:.1%} of the cost left;"),
         ("lab 07-3 scaled, rate 0.1: cost 100, median", "rate 0.1: {:.3f}"))),
    mnist("07-4", "MNIST, softmax regression, SGD", 0.8951),
    Lab("09-1", "XOR by one unit", "accuracy 0.5", "xor_labs",
        (("lab 09-1 best accuracy", "accuracy {:.1f} at best"),),
        compared=("lab 09-1 best accuracy", 0.5)),
    Lab("09-2", "XOR by 2-2-1", "accuracy 1.0", "xor_labs",
        (("lab 09-2 solved", "1.0 from {:.0%} of 100 starts"),)),
    Lab("09-3", "XOR by 2-10-10-10-1", "accuracy 1.0", "xor_labs",
        (("lab 09-3 solved", "1.0 from {:.0%} of 100 starts"),)),
    Lab("09-4", "XOR by Adam (1 start in 2 learns it)", "accuracy 1.0", "event_files",
        (("lab 09-4 accuracy", "accuracy {:g},"),
         ("lab 09-4 largest error", "off by {:.0e} at most")),
        compared=("lab 09-4 accuracy", 1.0)),
    mnist("10-1", "softmax regression, Adam", 0.9194),
    mnist("10-1", "the same from N(0, 1)", 0.9194, key="10-1-normal"),
    mnist("10-2", "256-256 ReLU, N(0, 1)", 0.9455),
    mnist("10-2", "the same, softmax as activation", 0.85, key="10-2-softmax"),
    mnist("10-3", "256-256 ReLU, Xavier", 0.9783),
    mnist("10-4", "five layers of 512", 0.9742),
    mnist("10-5", "with dropout, keep 0.7 (rate 0.3)", 0.9804),
    mnist("10-6", "32-32 without batch norm", 0.9513, key="10-6-none"),
    mnist("10-6", "32-32 with batch norm", 0.9737),
    Lab("11-0", "CNN basics: a convolution, SAME", "12 16 9, 24 28 15, 15 17 9", "deterministic",
        tuple((f"CNN basics {i} {j}", "{:g}" + ("," if j == 2 and i < 2 else ""))
              for i in range(3) for j in range(3))),
    mnist("11-1", "CNN, the lab's N(0, 0.01^2) start", 0.9885, key="11-1-normal"),
    mnist("11-1", "CNN, Xavier start", 0.9885),
    mnist("11-2", "deep CNN", 0.9938),
    mnist("11-5", "ensemble of three deep CNNs (the lab: seven)", 0.9952),
    Lab("12-1", "LSTM: hihell to ihello, step 10", "loss 0.676005", "characters",
        (("lab 12-1 loss at step 10", "median {:.3f},"),
         ("lab 12-1 loss at step 10, best tenth", "{:.3f} to"),
         ("lab 12-1 loss at step 10, worst tenth", "{:.3f}"))),
    Lab("12-2", "LSTM: if you want you, step 12", "loss 0.208561", "characters",
        (("lab 12-2 loss at step 12", "median {:.3f},"),
         ("lab 12-2 loss at step 12, best tenth", "{:.3f} to"),
         ("lab 12-2 loss at step 12, worst tenth", "{:.3f}"))),
    Lab("12-3", "the same without memory", "loss 0.277323", "characters",
        (("lab 12-3 loss", "loss {:.6f},"), ("lab 12-3 floor", "none below {:.6f}"))),
    Lab("12-4", "two LSTMs, a sentence of 180", "loss 0.229616", "characters",
        (("lab 12-4 loss", "loss {:.6f},"), ("lab 12-4 floor", "none below {:.6f}"))),
    Lab("12-5", "sequence loss of three steps", "0.596759, 0.513015, 0.371101", "sequences",
        (("sequence loss, unsure", "{:.6f},"), ("sequence loss, 0.7", "{:.6f},"),
         ("sequence loss, 0.9", "{:.6f}")), {"walks": 2}),
    Lab("12-5", "stock prices (made up), LSTM", "follows the price", "sequences",
        (("walk, lab's scaling: RMSE over naive RMSE", "error {:.2f} of today's price's,"),
         ("wave, lab's scaling: RMSE over naive RMSE", "with a wave {:.2f}")), {"walks": 2}),
    keras("10-1", "fit: softmax regression", 0.9268),
    keras("10-2", "fit: four layers of 256, dropout", 0.9811),
    keras("13-2", "fit: CNN", 0.9894),
    Lab("RBM", "small digits, error per pixel", "-", "rbm",
        (("CD-1 reconstruction error", "CD-1 {:.4f},"),
         ("persistent reconstruction error", "persistent chains {:.4f}")), {"name": "digits"}),
    Lab("DBN", "six sigmoid layers, pre-trained or not", "-", "dbn",
        (("sigmoid, N(0, 0.01^2) accuracy", "no {:.3f},"),
         ("the same, pre-trained accuracy", "yes {:.3f}")), long=True),
    Lab("lego", "XOR, 10 x 5 sigmoid, with skips", "-", "lego",
        (("XOR, ten sigmoid layers, plain: learned", "learned by {:.0%} of starts,"),
         ("XOR, ten sigmoid layers, skips: learned", "with skips {:.0%}")),
        {"starts": 30, "depths": (10,), "seeds": 1, "epochs": 2}),
)  # fmt: skip
NOT_LABS = {"common", "replay"}


# ------------------------------------------------------------------ running


@cache
def program(name: str) -> ModuleType:
    """One of the programs beside this one, as a module."""
    spec = importlib.util.spec_from_file_location(f"lectures_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Row(NamedTuple):
    """What came of a lab: its figures, their text, the seconds it took (None: not run now)."""

    lab: Lab
    ours: str
    seconds: float | None = None
    figures: Figures = {}  # noqa: RUF012
    failed: bool = False


def saved_runs(lab: Lab) -> list[dict[str, Any]]:
    """What earlier runs of seeds 0 to 9 have left; empty where there is none."""
    module = program(lab.program)
    found = (module.saved(**lab.arguments, seed=seed) for seed in range(10))
    return [result for result in found if result is not None]


def written(lab: Lab, figures: Figures) -> str:
    """The figures of a row in the way the row wants them."""
    return " ".join(form.format(figures[key]) for key, form in lab.shown).replace(" ,", ",")


class Replay:
    """Runs labs; labs that share a program and its settings share a run."""

    def __init__(self, anew: bool) -> None:
        self.anew = anew
        self.done: dict[tuple[str, str], Figures] = {}

    def row(self, lab: Lab) -> Row:
        """The row of a lab; one that fails says why."""
        try:
            if lab.long and not self.anew:
                return self.looked_up(lab)
            return self.run(lab)
        except Exception as error:
            reason = str(error).partition("\n")[0]
            return Row(lab, f"FAILED: {type(error).__name__}: {reason}", failed=True)

    def looked_up(self, lab: Lab) -> Row:
        runs = saved_runs(lab)
        if not runs:
            return Row(lab, f"not run yet: --lab {lab.name.split()[-1]}")
        figures = runs[0]["figures"]
        versions = runs[0]["versions"]
        text = written(lab, figures)
        if len(runs) > 1 and lab.compared:
            values = [run["figures"][lab.compared[0]] for run in runs]
            figures = figures | {lab.compared[0]: sum(values) / len(values)}
            text = written(lab, figures) + f", {min(values):.4f} to {max(values):.4f}"
            text += f", {len(values)} seeds"
        return Row(lab, f"{text} (saved, {versions['tinygrad_kr']})", None, figures)

    def run(self, lab: Lab) -> Row:
        key = lab.program, repr(lab.arguments)
        seconds = None
        if key not in self.done:
            module = program(lab.program)
            start = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                self.done[key] = module.run(**lab.arguments)
            seconds = time.perf_counter() - start
        figures = self.done[key]
        return Row(lab, written(lab, figures), seconds, figures)


def chosen(patterns: list[str]) -> list[Lab]:
    """The labs whose name is, or begins like, one of the patterns; all of them without one."""
    if not patterns:
        return list(LABS)
    return [lab for lab in LABS if any(matches(lab.name, pattern) for pattern in patterns)]


def matches(name: str, pattern: str) -> bool:
    return name == pattern or name.startswith((f"{pattern}-", f"{pattern} "))


def table_line(row: Row) -> str:
    lab = row.lab
    seconds = "" if row.seconds is None else f"{row.seconds:7.1f}"
    return f"{lab.name:14} {lab.what:38} {lab.published:28} {row.ours:58} {seconds}".rstrip()


HEAD = f"{'lab':14} {'what':38} {'published':28} {'ours':58} seconds"


def replay(labs: list[Lab], anew: bool, say: Callable[[str], object] = print) -> list[Row]:
    """A line for each lab as soon as it is done; after Ctrl-C, the rows that are."""
    rows: list[Row] = []
    runner, bar = Replay(anew), progress_bar(len(labs), "", unit="lab")
    if not bar.disable:
        say = bar.write
    say(HEAD)
    try:
        for lab in labs:
            bar.set_description(f"{lab.name}, {lab.what}")
            rows.append(runner.row(lab))
            say(table_line(rows[-1]))
            bar.update()
    finally:
        bar.close()
        print_sum(rows, len(labs))
    return rows


def print_sum(rows: list[Row], wanted: int) -> None:
    failed = [row.lab.name for row in rows if row.failed]
    seconds = sum(row.seconds or 0.0 for row in rows)
    print(f"\n{len(rows)} of {wanted} rows in {seconds:.0f} s", end="")
    print(f"; FAILED: {', '.join(failed)}" if failed else "")


# ------------------------------------------------------------------ picture


def save_picture(rows: list[Row], path: Path) -> None:
    """Shares of right answers, ours beside the published: MNIST by errors, the rest as they are."""
    shown = [(row, row.lab.compared) for row in rows if row.lab.compared and row.figures]
    groups = {
        "MNIST: test images wrong, % (log scale)": [r for r in shown if r[0].lab.long],
        "other labs: share of right answers": [r for r in shown if not r[0].lab.long],
    }
    groups = {title: group for title, group in groups.items() if group}
    figure = new_figure(8, 0.3 + len(groups) + 0.2 * len(shown)) if groups else None
    if figure is None:
        return
    heights = [len(group) + 3 for group in groups.values()]
    panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, group) in zip(panels, groups.items(), strict=True):
        wrong = "wrong" in title
        for place, (row, (key, published)) in enumerate(group):
            pair = [row.figures[key], published]
            ours, theirs = (100 * (1 - share) for share in pair) if wrong else pair
            axes.plot([ours, theirs], [place, place], color="0.7", zorder=1)
            axes.plot(theirs, place, "D", color=ORANGE, fillstyle="none", ms=8)
            axes.plot(ours, place, "o", color=BLUE, ms=5)
        names = [f"{row.lab.name}  {row.lab.what}" for row, _ in group]
        axes.set_yticks(range(len(group)), names, fontsize=8)
        axes.set(xlabel=title, ylim=(len(group) - 0.5, -0.5))
        if wrong:
            axes.set_xscale("log")
            axes.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
            axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].plot([], [], "o", color=BLUE, label="ours (mean of the saved seeds)")
    panels[0].plot([], [], "D", color=ORANGE, fillstyle="none", ms=8, label="published")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    save(figure, path)


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__)
    add = parser.add_argument
    add("--lab", action="append", default=[], help="only this lab, or all that begin so; run anew")
    add("--all", action="store_true", help="run the long labs too")
    args = parser.parse_args(argv)
    labs = chosen(args.lab)
    if not labs:
        names = ", ".join(dict.fromkeys(lab.name for lab in LABS))
        parser.error(f"no lab {', '.join(args.lab)!r}; there are {names}")
    rows = replay(labs, anew=args.all or bool(args.lab))
    save_picture(rows, args.out / "replay.png")
    if any(row.failed for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    launch(main)
