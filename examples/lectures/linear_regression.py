"""Labs 04-1 and 04-3: the final exam from three tests, one plane through a table of scores.

The lecture: several variables need nothing new, y = X W + b. On five students' scores (lab 04-1)
and on 25 from a csv file (lab 04-3) gradient descent with rate 1e-5 runs for 2,001 steps and stops
at costs of 4.89449 and 24.7225.

    python examples/lectures/linear_regression.py

What really happens: neither has arrived. The best plane has a cost of 5.738 on the 25 students, as
least squares finds in one go, and where 2,001 steps end depends on the start: half of 100 starts
N(0, 1) end below 13.9, and 14 of them as high as the lab's or higher. The three tests say nearly
the same, so the valley is a million times as steep across as along; the rate must suit the steep
side and is then far too small for the flat one. With scores scaled to mean 0 and standard
deviation 1, rate 0.1 is within 0.1% of the best plane after 186 steps, from every start.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from common import (
    BLUE,
    GREEN,
    INITIAL,
    ORANGE,
    STARTS,
    STEP,
    Starts,
    bar,
    heading,
    in_words,
    label,
    launch,
    left,
    new_figure,
    options,
    save,
    table,
    whole,
)

import tinygrad_kr as tk
from tinygrad_kr import Tensor, data, no_grad, optim
from tinygrad_kr.language import Text

WORDS = (
    Text("share of starts that end as high as the lab's", "비용이 실습만큼 높은 초깃값의 비율"),
    Text("cost of the best plane", "가장 좋은 평면의 비용"),
    Text("steepest over flattest", "가장 가파른 방향 / 가장 완만한 방향"),
    Text("cost after scaling", "표준화한 뒤의 비용"),
    Text("steps after scaling", "표준화한 뒤의 스텝 수"),
    Text("scores as they are", "점수 그대로"),
    Text("scores scaled", "표준화한 점수"),
)
PUBLISHED = {"lab 04-1 cost": 4.89449, "lab 04-3 cost": 24.722485}
PUBLISHED_STEPS = {0: 21027.0, 10: 95.976326, 1990: 24.863274, 2000: 24.722485}  # lab 04-3


def train(x: Tensor, y: Tensor, net: Starts, steps: int, rate: float) -> np.ndarray:
    """Gradient descent from many starts at once; their costs before each step, (steps, starts)."""
    optimizer = optim.SGD(net.parameters(), lr=rate)
    history = []
    for _ in bar(steps):
        costs = ((net(x) - y) ** 2).mean(axis=(1, 2))
        optimizer.zero_grad()
        costs.sum().backward()
        optimizer.step()
        history.append(costs.detach().numpy())
    return np.array(history)


def best_plane(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Its cost, and the curvatures of the cost from flat to steep, float64."""
    columns = np.column_stack([x, np.ones(len(x))]).astype(np.float64)
    residuals = y - columns @ np.linalg.lstsq(columns, y.astype(np.float64))[0]
    return float((residuals**2).mean()), np.linalg.eigvalsh(2 * columns.T @ columns / len(x))


def standardised(x: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = (x - x.mean(axis=0)) / x.std(axis=0)
    return scaled


def run(*, starts: int = 100, steps: int = 2_001, rate: float = 1e-5, seed: int = 0,
        histories: dict[str, np.ndarray] | None = None, out: Path | None = None,
        ) -> dict[str, float]:  # fmt: skip
    """Costs of the labs over many starts, of the best plane, and of the scaled training.

    histories: is given the costs of lab 04-3 by step, for the picture.
    out: a csv file for the predictions of the scaled net beside the true scores.

    Raises DatasetNotFoundError where the lectures' tables are not to be found.
    """
    scores = table("data-01-test-score.csv")
    x, y = Tensor(scores[:, :3]), Tensor(scores[:, 3:])
    tk.manual_seed(seed)
    few = train(x[:5], y[:5], Starts(starts, 3, 1), steps, rate)[-1]
    history = train(x, y, Starts(starts, 3, 1), steps, rate)
    scaled_x, net = Tensor(standardised(scores[:, :3])), Starts(starts, 3, 1)
    scaled = train(scaled_x, y, net, steps, 0.1)
    least, curvatures = best_plane(scores[:, :3], scores[:, 3:])
    if histories is not None:
        histories |= {"as they are, rate 1e-5": history, "scaled, rate 0.1": scaled}
    if out is not None:
        with no_grad():
            predicted = net(scaled_x)[0].numpy()
        out.parent.mkdir(parents=True, exist_ok=True)
        columns = np.column_stack([scores, predicted])
        data.write_csv(out, columns, ["test 1", "test 2", "test 3", "final", "predicted"])
    figures = {f"lab 04-1 cost, {name}": value for name, value in spread(few).items()}
    figures |= {f"lab 04-3 cost, {name}": value for name, value in spread(history[-1]).items()}
    worse = float((history[-1] >= PUBLISHED["lab 04-3 cost"]).mean())
    return figures | {
        "lab 04-3 share of starts that end as high as the lab's": worse,
        "lab 04-3 cost of the best plane": least,
        "lab 04-3 steepest over flattest": float(curvatures[-1] / curvatures[0]),
        "lab 04-3 cost after scaling, highest": float(scaled[-1].max()),
        "lab 04-3 steps after scaling": first_within(scaled, least * 1.001),
    }


def spread(costs: np.ndarray) -> dict[str, float]:
    return {"lowest": float(costs.min()), "median": float(np.median(costs)),
            "highest": float(costs.max())}  # fmt: skip


def first_within(history: np.ndarray, bound: float) -> float:
    """The first step at which every start is below the bound; infinity if there is none."""
    below = np.flatnonzero(history.max(axis=1) < bound)
    return float(below[0]) if below.size else float("inf")


def save_picture(histories: dict[str, np.ndarray], least: float, path: Path) -> None:
    """The costs over the steps, as the lab trains and with scaled scores."""
    figure = new_figure(8, 3.8)
    if figure is None:
        return
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, history) in zip(panels, histories.items(), strict=True):
        axes.loglog(np.arange(1, len(history) + 1), history, color=BLUE, linewidth=0.5, alpha=0.4)
        axes.plot([], [], color=BLUE, label=label(STARTS, starts=history.shape[1]))
        best = label(
            Text("the best plane, {least:.2f}", "가장 좋은 평면, {least:.2f}"), least=least
        )
        axes.axhline(least, color=GREEN, linestyle="--", label=best)
        axes.set(xlabel=label(STEP), title=label(f"scores {name}", WORDS))
        axes.grid(alpha=0.3)
    steps = np.array(list(PUBLISHED_STEPS)) + 1
    panels[0].plot(
        steps, list(PUBLISHED_STEPS.values()), "D", color=ORANGE,
        label=label(Text("published, lab 04-3", "공개된 값, 실습 04-3")),
    )  # fmt: skip
    panels[0].set(ylabel=label(Text("mean squared error", "평균 제곱 오차")))
    for axes in panels:
        axes.legend(fontsize=8, loc="upper right")
    save(figure, path)


KOREAN = """
실습 04-1과 04-3: 시험 점수 세 개로 기말 점수를, 점수 표를 지나는 평면 하나로.

강의: 변수가 여럿이어도 새로운 것은 없습니다. y = X W + b. 학생 다섯 명의 점수(실습 04-1)와 csv
파일의 25명(실습 04-3)에서 학습률 1e-5로 2,001스텝을 밟으면 비용 4.89449와 24.7225에서 멈춥니다.

    python examples/lectures/linear_regression.py

실제로는: 어느 쪽도 도착하지 못했습니다. 학생 25명에 대한 가장 좋은 평면의 비용은 최소제곱법으로
단번에 구한 5.738이고, 2,001스텝 뒤의 위치는 초깃값에 달려 있습니다. N(0, 1)에서 뽑은 초깃값 100개
중 절반은 13.9 아래에서 끝나고, 14개는 실습만큼 높거나 더 높습니다. 세 시험이 거의 같은 것을
말하므로 골짜기는 가로지르는 방향이 따라가는 방향보다 백만 배 가파릅니다. 가파른 쪽에 맞춘
학습률은 완만한 쪽에는 너무 작습니다. 점수를 평균 0, 표준편차 1로 표준화하면 학습률 0.1로 어느
초깃값에서든 186스텝 만에 가장 좋은 평면에 0.1% 이내로 다가갑니다.
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    parser.add_argument("--starts", type=whole(1), default=100, help=INITIAL.say(default="100"))
    args = parser.parse_args(argv)
    histories: dict[str, np.ndarray] = {}
    predictions = args.out / "linear_regression.csv"
    figures = run(starts=args.starts, histories=histories, out=predictions)
    print(heading(58, 10))
    for name, value in figures.items():
        published = PUBLISHED.get(name.split(",")[0])
        shown = f"   {published:g}" if published and "median" in name else ""
        print(f"{left(in_words(name, WORDS), 58)} {value:10.5g}{shown}")
    line = Text(
        "\nThe scores and what the net says, as csv: {path}", "\n점수와 신경망의 답, csv: {path}"
    )
    print(line.say(path=predictions))
    least = figures["lab 04-3 cost of the best plane"]
    save_picture(histories, least, args.out / "linear_regression.png")


if __name__ == "__main__":
    launch(main)
