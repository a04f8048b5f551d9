"""Width and over-fitting: a wide net learns the noise, and three things that help.

The lecture: a net with more units fits its data better, until it fits their noise, which new data
do not share. Against it: more data, fewer units, or a penalty on large weights.

15 points of a sine, y = sin(pi x) + N(0, 0.3^2), learned by 1-w-1 tanh nets of width w = 1 to 256:
5,000 steps of Adam 0.01 on the mean square error. 20 samples, each with its own net; medians. The
error that counts is the distance from the sine itself, between the points too.

- The training error goes on falling with the width, from 0.05 with two units to 0.013 with 64. The
  error that counts rises from 0.09 to 0.2, and no further from 16 units on: wider nets are not
  worse, they are as bad.
- More data: with 150 points the error is below 0.01 for every width from 4 on.
- A penalty on large weights, 0.001 times the sum of their squares: 0.04 for every width from 4 on.
- Stopping in time: on its way every net with 4 units or more is as near as 0.03 to the sine. What
  width adds is how much the rest of the training can spoil.

    python examples/lectures/width.py    # about half a minute

The picture is saved as out/lectures/width.png (needs matplotlib).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import (
    BLUE,
    GREEN,
    ORANGE,
    Starts,
    launch,
    new_figure,
    options,
    progress_bar,
    save,
    whole,
)

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn, no_grad, optim

WIDTHS = (1, 2, 4, 8, 16, 64, 256)
POINTS, MANY, NOISE = 15, 150, 0.3
PENALTY = 0.001
"""Times the sum of the squared weights, added to each cost."""
GRID = np.linspace(-1, 1, 200, dtype=np.float32)[:, None]
EVERY = 50
"""Steps between two looks at the distance from the sine."""


def sine(x: np.ndarray) -> np.ndarray:
    return np.sin(np.pi * x)


def sample(points: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y, each (points, 1): a sine with noise."""
    generator = np.random.default_rng(seed)
    x = np.sort(generator.uniform(-1, 1, points)).astype(np.float32)[:, None]
    return x, (sine(x) + generator.normal(0, NOISE, x.shape)).astype(np.float32)


def make_nets(width: int, nets: int) -> nn.Sequential:
    """So many 1-w-1 tanh nets side by side; the output's weights are N(0, 1 / w), its bias 0."""
    hidden, output = Starts(nets, 1, width), Starts(nets, width, 1)
    with no_grad():
        output.weight *= width**-0.5
    nn.init.zeros_(output.bias)
    return nn.Sequential(hidden, nn.Tanh(), output)


class Fit(NamedTuple):
    """What became of nets of one width, one on each sample: mean square errors, (nets,)."""

    training: np.ndarray
    error: np.ndarray
    """From the sine, at the end."""
    least: np.ndarray
    """From the sine, at the best moment on the way."""
    curves: np.ndarray
    """What the nets say on `GRID`, (nets, 200)."""


def train(width: int, points: int, nets: int, steps: int, penalty: float, seed: int) -> Fit:
    """Adam on all points of each sample at once."""
    tk.manual_seed(seed)
    samples = [sample(points, seed + number) for number in range(nets)]
    x, y = (Tensor(np.stack(part)) for part in zip(*samples, strict=True))
    net = make_nets(width, nets)
    optimizer = optim.Adam(net.parameters(), lr=0.01)

    @tk.compile
    def step() -> Any:
        errors = ((net(x) - y) ** 2).mean(axis=(1, 2))
        weights = sum((layer.weight**2).sum() for layer in net[::2])
        optimizer.zero_grad()
        (errors.sum() + penalty * weights).backward()
        optimizer.step()
        return errors

    least = np.full(nets, np.inf)
    for number in range(1, steps + 1):
        training = step()
        if number % EVERY == 0 or number == steps:
            with no_grad():
                curves = net(Tensor(GRID)).numpy()[..., 0]
            error = ((curves - sine(GRID)[:, 0]) ** 2).mean(axis=1)
            least = np.minimum(least, error)
    return Fit(training.numpy(), error, least, curves)


KINDS = {
    "15 points": (POINTS, 0.0),
    "15 points, penalty": (POINTS, PENALTY),
    "150 points": (MANY, 0.0),
}


def fit_all(widths: tuple[int, ...], nets: int, steps: int, seed: int) -> dict[str, dict[int, Fit]]:
    """For each kind of training and each width, what became of the nets."""
    shown = progress_bar(len(KINDS) * len(widths), "widths", unit="training")
    found: dict[str, dict[int, Fit]] = {kind: {} for kind in KINDS}
    for kind, (points, penalty) in KINDS.items():
        for width in widths:
            found[kind][width] = train(width, points, nets, steps, penalty, seed)
            shown.update()
    shown.close()
    return found


def run(
    *, widths: tuple[int, ...] = WIDTHS, nets: int = 20, steps: int = 5_000, seed: int = 0
) -> dict[str, float]:
    """Median errors by kind of training and width, such as "15 points, 64 wide: error"."""
    return figures_of(fit_all(widths, nets, steps, seed))


def figures_of(fits: dict[str, dict[int, Fit]]) -> dict[str, float]:
    figures = {}
    for kind, by_width in fits.items():
        for width, fit in by_width.items():
            name = f"{kind}, {width} wide"
            figures[f"{name}: training error"] = float(np.median(fit.training))
            figures[f"{name}: error"] = float(np.median(fit.error))
            figures[f"{name}: least error on the way"] = float(np.median(fit.least))
    return figures


def print_table(figures: dict[str, float], widths: tuple[int, ...]) -> None:
    print(f"{'':34}" + "".join(f"{f'{width} wide':>9}" for width in widths))
    rows = {
        f"{kind}: {what}": (kind, what) for kind in KINDS for what in ("training error", "error")
    }
    rows["15 points: least error on the way"] = ("15 points", "least error on the way")
    for title, (kind, what) in rows.items():
        cells = [figures[f"{kind}, {width} wide: {what}"] for width in widths]
        print(f"{title:34}" + "".join(f"{cell:9.3f}" for cell in cells))


def save_picture(fits: dict[str, dict[int, Fit]], seed: int, path: Path) -> None:
    """What nets of three widths make of the first sample; errors by width."""
    figure = new_figure(8, 3.9)
    if figure is None:
        return
    curves, errors = figure.subplots(1, 2)
    few = fits["15 points"]
    widths = list(few)
    curves.plot(GRID, sine(GRID), color="black", linewidth=1, linestyle=":", label="the sine")
    chosen = sorted({widths[0], widths[min(1, len(widths) - 1)], widths[-1]})
    looks = (("0.5", "--"), (BLUE, "-"), (ORANGE, "-"))
    for width, (colour, style) in zip(chosen, looks, strict=False):
        label = f"{width} wide"
        curves.plot(GRID, few[width].curves[0], color=colour, linestyle=style, label=label)
    curves.plot(*sample(POINTS, seed), "ko", markersize=4)
    curves.set(xlabel="x", ylabel="y", title="15 points, nets of three widths", ylim=(-2.2, 2.2))
    curves.legend(fontsize=8, loc="upper left")
    for kind, what, colour, style, label in (
        ("15 points", "training", "0.5", "o--", "on the 15 points"),
        ("15 points", "error", ORANGE, "s-", "from the sine"),
        ("15 points, penalty", "error", "#E69F00", "v-.", "with a penalty"),
        ("15 points", "least", GREEN, "^:", "at the best step"),
        ("150 points", "error", BLUE, "D-", "with 150 points"),
    ):
        medians = [np.median(getattr(fit, what)) for fit in fits[kind].values()]
        errors.plot(widths, medians, style, color=colour, markersize=5, label=label)
    errors.set(xscale="log", yscale="log", xlabel="width", ylabel="mean square error")
    errors.set(title="errors by width, medians", ylim=(0.003, 0.9))
    errors.set_xticks(widths, map(str, widths))
    errors.minorticks_off()
    errors.legend(fontsize=8, ncols=2, loc="upper right")
    for axes in (curves, errors):
        axes.grid(alpha=0.3)
    save(figure, path)


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__)
    add = parser.add_argument
    add("--widths", type=whole(1), nargs="+", default=WIDTHS, help="default: 1 2 4 8 16 64 256")
    add("--nets", type=whole(1), default=20, help="samples, a net for each (default: 20)")
    add("--steps", type=whole(1), default=5_000, help="default: 5000")
    add("--seed", type=whole(0), default=0, help="of samples and weights (default: 0)")
    args = parser.parse_args(argv)
    widths = tuple(sorted(set(args.widths)))
    fits = fit_all(widths, args.nets, args.steps, args.seed)
    print_table(figures_of(fits), widths)
    print("\nthe lecture gives no figures; it says: more units fit better, then they fit the noise")
    save_picture(fits, args.seed, args.out / "width.png")


if __name__ == "__main__":
    launch(main)
