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

`tk.diagnose` names over-fitting where it gets data that were left out, as `validation=`.

    python examples/lectures/width.py    # about half a minute

The picture is saved as out/lectures/width.png (needs matplotlib).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import (
    BLUE,
    DEFAULT,
    GREEN,
    ORANGE,
    STEPS,
    Starts,
    in_words,
    label,
    launch,
    left,
    new_figure,
    options,
    print_diagnosis,
    progress_bar,
    right,
    save,
    whole,
)

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, no_grad, optim
from tinygrad_kr.language import Text

WIDTHS = (1, 2, 4, 8, 16, 64, 256)
POINTS, MANY, NOISE = 15, 150, 0.3
PENALTY = 0.001
"""Times the sum of the squared weights, added to each cost."""
GRID = np.linspace(-1, 1, 200, dtype=np.float32)[:, None]
WORDS = (
    Text("15 points", "점 15개"),
    Text("150 points", "점 150개"),
    Text("penalty", "벌점"),
    Text("training error", "학습 오차"),
    Text("least error on the way", "도중의 최소 오차"),
    Text("widths", "폭마다"),
)
WIDE = Text("{width} wide", "폭 {width}")
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


def diagnose(width: int, points: int, steps: int = 500) -> Any:
    """`tk.diagnose` of one net on one sample, with 150 other points as validation data."""
    tk.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1))
    for parameter in net[0].parameters():
        nn.init.normal_(parameter)
    nn.init.normal_(net[2].weight, 0, width**-0.5)
    nn.init.zeros_(net[2].bias)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    held_out = sample(MANY, 1)
    return tk.diagnose(
        net, F.mse_loss, sample(points, 0), optimizer, validation=held_out, steps=steps
    )


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
    shown = progress_bar(len(KINDS) * len(widths), in_words("widths", WORDS), unit="training")
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
    print(f"{'':34}" + "".join(right(WIDE.say(width=width), 9) for width in widths))
    rows = {
        f"{kind}: {what}": (kind, what) for kind in KINDS for what in ("training error", "error")
    }
    rows["15 points: least error on the way"] = ("15 points", "least error on the way")
    for title, (kind, what) in rows.items():
        cells = [figures[f"{kind}, {width} wide: {what}"] for width in widths]
        print(left(in_words(title, WORDS), 34) + "".join(f"{cell:9.3f}" for cell in cells))


def save_picture(fits: dict[str, dict[int, Fit]], seed: int, path: Path) -> None:
    """What nets of three widths make of the first sample; errors by width."""
    figure = new_figure(8, 3.9)
    if figure is None:
        return
    curves, errors = figure.subplots(1, 2)
    few = fits["15 points"]
    widths = list(few)
    curves.plot(
        GRID,
        sine(GRID),
        color="black",
        linewidth=1,
        linestyle=":",
        label=label(Text("the sine", "사인 곡선")),
    )
    chosen = sorted({widths[0], widths[min(1, len(widths) - 1)], widths[-1]})
    looks = (("0.5", "--"), (BLUE, "-"), (ORANGE, "-"))
    for width, (colour, style) in zip(chosen, looks, strict=False):
        name = label(WIDE, width=width)
        curves.plot(GRID, few[width].curves[0], color=colour, linestyle=style, label=name)
    curves.plot(*sample(POINTS, seed), "ko", markersize=4)
    title = label(Text("15 points, nets of three widths", "점 15개, 폭이 다른 세 신경망"))
    curves.set(xlabel="x", ylabel="y", title=title, ylim=(-2.2, 2.2))
    curves.legend(fontsize=8, loc="upper left")
    for kind, what, colour, style, text in (
        ("15 points", "training", "0.5", "o--", Text("on the 15 points", "점 15개에서")),
        ("15 points", "error", ORANGE, "s-", Text("from the sine", "사인 곡선과의 오차")),
        ("15 points, penalty", "error", "#E69F00", "v-.", Text("with a penalty", "벌점을 줄 때")),
        ("15 points", "least", GREEN, "^:", Text("at the best step", "가장 좋은 스텝에서")),
        ("150 points", "error", BLUE, "D-", Text("with 150 points", "점이 150개일 때")),
    ):
        medians = [np.median(getattr(fit, what)) for fit in fits[kind].values()]
        errors.plot(widths, medians, style, color=colour, markersize=5, label=label(text))
    errors.set(
        xscale="log",
        yscale="log",
        xlabel=label(Text("width", "폭")),
        ylabel=label(Text("mean square error", "평균 제곱 오차")),
        title=label(Text("errors by width, medians", "폭에 따른 오차, 중앙값")),
        ylim=(0.003, 0.9),
    )
    errors.set_xticks(widths, map(str, widths))
    errors.minorticks_off()
    errors.legend(fontsize=8, ncols=2, loc="upper right")
    for axes in (curves, errors):
        axes.grid(alpha=0.3)
    save(figure, path)


KOREAN = """
폭과 과적합: 넓은 신경망은 잡음까지 배우고, 세 가지가 도움이 됩니다.

강의: 유닛이 많을수록 데이터에 잘 맞다가, 새 데이터에는 없는 잡음에까지 맞추게 됩니다. 데이터를
늘리거나, 유닛을 줄이거나, 큰 가중치에 벌점을 주면 나아집니다.

사인 곡선 위의 점 15개, y = sin(pi x) + N(0, 0.3^2)을 폭 w가 1에서 256까지인 tanh 신경망 1-w-1로
배웁니다. 제곱 오차의 평균에 Adam 0.01로 5,000스텝. 표본 20개에 신경망 하나씩, 중앙값. 중요한
오차는 점과 점 사이도 포함한 사인 곡선과의 거리입니다.

- 학습 오차는 폭이 넓을수록 줄어듭니다. 유닛 두 개의 0.05에서 64개의 0.013으로. 중요한 오차는
  0.09에서 0.2로 커지고, 유닛 16개부터는 더 커지지 않습니다. 더 넓다고 더 나쁘지는 않고 그만큼
  나쁩니다.
- 더 많은 데이터: 점 150개이면 폭이 4 이상일 때 오차가 0.01보다 작습니다.
- 큰 가중치에 주는 벌점, 제곱합의 0.001배: 폭이 4 이상일 때 0.04.
- 제때 멈추기: 유닛이 4개 이상인 신경망은 모두 도중에 사인 곡선에 0.03까지 다가갑니다. 폭이 더하는
  것은 나머지 학습이 망칠 수 있는 정도입니다.

    python examples/lectures/width.py    # 약 30초

그림은 out/lectures/width.png에 저장합니다 (matplotlib 필요).
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    add = parser.add_argument
    add(
        "--widths",
        type=whole(1),
        nargs="+",
        default=WIDTHS,
        help=DEFAULT.say(default="1 2 4 8 16 64 256"),
    )
    add(
        "--nets",
        type=whole(1),
        default=20,
        help=Text(
            "samples, a net for each (default: 20)", "표본의 수, 표본마다 신경망 하나 (기본값: 20)"
        ).say(),
    )
    add("--steps", type=whole(1), default=5_000, help=STEPS.say(default="5000"))
    add(
        "--seed",
        type=whole(0),
        default=0,
        help=Text("of samples and weights (default: 0)", "표본과 가중치의 시드 (기본값: 0)").say(),
    )
    args = parser.parse_args(argv)
    widths = tuple(sorted(set(args.widths)))
    fits = fit_all(widths, args.nets, args.steps, args.seed)
    print_table(figures_of(fits), widths)
    line = Text(
        "\nthe lecture gives no figures; it says: more units fit better, then they fit the noise",
        "\n강의에 수치는 없습니다. 유닛이 많을수록 데이터에 잘 맞다가 잡음에까지 맞춘다고 합니다",
    )
    print(line.say())
    for points in (POINTS, MANY):
        net = Text("64 wide, {points} points, 500 steps", "폭 64, 점 {points}개, 500스텝")
        print_diagnosis(net, diagnose(64, points), points=points)
    save_picture(fits, args.seed, args.out / "width.png")


if __name__ == "__main__":
    launch(main)
