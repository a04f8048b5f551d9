"""Labs 05-1 and 05-2: yes or no, by a line through a sigmoid; six points, then 759 patients.

The lecture: sigmoid(X W + b) is a probability, its cost the cross-entropy, and gradient descent
(rate 0.01, 10,001 steps) classifies six points without a mistake and the diabetes table with an
accuracy of 0.762846 at a cost of 0.490767.

    python examples/lectures/logistic_regression.py

What really happens: the six points come out right from every start. The diabetes figure depends on
the start, for 10,001 steps end before the lowest cost, 0.47167, is reached; there the accuracy is
0.7694. To know what such a figure is worth: whoever always says yes is right in 0.6535 of the
cases, and the lab measures on the patients it learned from. On the last fifth of the table, left
out of the training, the accuracy is 0.750.

The cost is computed from logits, not from sigmoid's output. Who applies both, a common slip, gets a
line from `tk.diagnose`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import (
    BLUE,
    CROSS_ENTROPY,
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
    print_diagnosis,
    save,
    table,
    whole,
)

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, no_grad, optim
from tinygrad_kr.language import Text

SIX_POINTS = Tensor([[1.0, 2.0], [2.0, 3.0], [3.0, 1.0], [4.0, 3.0], [5.0, 3.0], [6.0, 2.0]])
SIX_ANSWERS = Tensor([[0.0], [0.0], [0.0], [1.0], [1.0], [1.0]])
WORDS = (
    Text("lowest cost there is", "있을 수 있는 최소 비용"),
    Text("accuracy at the lowest cost", "최소 비용에서의 정확도"),
    Text("accuracy on the fifth left out", "학습에서 뺀 5분의 1의 정확도"),
    Text("accuracy of always yes", "무조건 예라고 할 때의 정확도"),
    Text("six points", "점 여섯 개"),
    Text("759 patients", "환자 759명"),
)
PUBLISHED = {
    "lab 05-1 accuracy": 1.0, "lab 05-1 cost": 0.149496,
    "lab 05-2 accuracy": 0.762846, "lab 05-2 cost": 0.490767,
}  # fmt: skip


def train(net: Starts, x: Tensor, y: Tensor, steps: int, rate: float) -> np.ndarray:
    """Gradient descent from many starts at once; the costs before each step, (steps, starts)."""
    optimizer = optim.SGD(net.parameters(), lr=rate)
    history = []
    for _ in bar(steps):
        logits = net(x)
        answers = y.broadcast_to(logits.shape)
        losses = F.binary_cross_entropy_with_logits(logits, answers, reduction="none")
        costs = losses.mean(axis=(1, 2))
        optimizer.zero_grad()
        costs.sum().backward()
        optimizer.step()
        history.append(costs.detach().numpy())
    return np.array(history)


def accuracies(net: Starts, x: Tensor, y: Tensor) -> np.ndarray:
    """The share of right answers of each start: yes is a probability above 0.5, a logit above 0."""
    with no_grad():
        shares: np.ndarray = ((net(x).numpy() > 0) == (y.numpy() > 0.5)).mean(axis=(1, 2))
    return shares


def run(*, starts: int = 20, steps: int = 10_001, rate: float = 0.01, seed: int = 0,
        histories: dict[str, np.ndarray] | None = None) -> dict[str, float]:  # fmt: skip
    """Accuracies and costs of both labs over several starts, and what to compare them with.

    histories: is given the costs of both labs by step, for the picture.

    Raises DatasetNotFoundError where the lectures' tables are not to be found.
    """
    patients = table("data-03-diabetes.csv")
    x, y = Tensor(patients[:, :-1]), Tensor(patients[:, -1:])
    cut = len(patients) * 4 // 5
    tk.manual_seed(seed)
    figures = {}
    for lab, points, answers in (("05-1", SIX_POINTS, SIX_ANSWERS), ("05-2", x, y)):
        net = Starts(starts, points.shape[1], 1)
        history = train(net, points, answers, steps, rate)
        right = accuracies(net, points, answers)
        for name, values in (("accuracy", right), ("cost", history[-1])):
            figures[f"lab {lab} {name}, lowest"] = float(values.min())
            figures[f"lab {lab} {name}, mean"] = float(values.mean())
            figures[f"lab {lab} {name}, highest"] = float(values.max())
        if histories is not None:
            histories[f"lab {lab}"] = history
    best, held_out = Starts(1, 8, 1), Starts(1, 8, 1)
    figures["lab 05-2 lowest cost there is"] = float(train(best, x, y, steps, 1.0)[-1, 0])
    figures["lab 05-2 accuracy at the lowest cost"] = float(accuracies(best, x, y)[0])
    train(held_out, x[:cut], y[:cut], steps, 1.0)
    figures["lab 05-2 accuracy on the fifth left out"] = float(
        accuracies(held_out, x[cut:], y[cut:])[0]
    )
    figures["lab 05-2 accuracy of always yes"] = float(y.numpy().mean())
    return figures


def sigmoid_twice() -> Any:
    """`tk.diagnose` of a slip: a sigmoid, and a cost that applies sigmoid itself."""
    net = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())
    points = (SIX_POINTS.numpy(), SIX_ANSWERS.numpy())
    return tk.diagnose(net, F.binary_cross_entropy_with_logits, points)


def save_picture(histories: dict[str, np.ndarray], figures: dict[str, float], path: Path) -> None:
    """The costs of both labs over the steps."""
    figure = new_figure(8, 3.8)
    if figure is None:
        return
    panels = figure.subplots(1, 2)
    titles = ("lab 05-1, six points", "lab 05-2, 759 patients")
    for axes, title, (lab, history) in zip(panels, titles, histories.items(), strict=True):
        axes.semilogx(np.arange(1, len(history) + 1), history, color=BLUE, linewidth=0.7, alpha=0.6)
        axes.plot([], [], color=BLUE, label=label(STARTS, starts=history.shape[1]))
        published = PUBLISHED[f"{lab} cost"]
        axes.plot(
            10_001,
            published,
            "D",
            color=ORANGE,
            label=label(Text("published, {value:.4f}", "공개된 값, {value:.4f}"), value=published),
        )
        axes.set(xlabel=label(STEP), ylabel=label(CROSS_ENTROPY), ylim=(0, 2))
        axes.set_title(label(title, WORDS))
        axes.grid(alpha=0.3)
    least = figures["lab 05-2 lowest cost there is"]
    name = label(Text("lowest there is, {least:.4f}", "가능한 최솟값, {least:.4f}"), least=least)
    panels[1].axhline(least, color=GREEN, linestyle="--", label=name)
    for axes in panels:
        axes.legend(fontsize=8)
    save(figure, path)


KOREAN = """
실습 05-1과 05-2: 직선과 시그모이드로 예와 아니요를. 점 여섯 개, 그다음 환자 759명.

강의: sigmoid(X W + b)는 확률이고 비용은 교차 엔트로피입니다. 경사 하강법(학습률 0.01,
10,001스텝)은 점 여섯 개를 모두 맞히고, 당뇨병 표에서는 정확도 0.762846, 비용 0.490767입니다.

    python examples/lectures/logistic_regression.py

실제로는: 점 여섯 개는 어느 초깃값에서든 맞습니다. 당뇨병의 수치는 초깃값에 달려 있습니다.
10,001스텝은 가장 낮은 비용 0.47167에 이르기 전에 끝나기 때문입니다. 거기서 정확도는 0.7694입니다.
이런 수치가 어느 정도인지 알려면: 무조건 "예"라고만 해도 0.6535를 맞히고, 실습은 학습에 쓴
환자들로 쟀습니다. 표의 마지막 5분의 1을 학습에서 빼고 재면 0.750입니다.
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    parser.add_argument("--starts", type=whole(1), default=20, help=INITIAL.say(default="20"))
    args = parser.parse_args(argv)
    histories: dict[str, np.ndarray] = {}
    figures = run(starts=args.starts, histories=histories)
    print(heading(44, 9))
    for name, value in figures.items():
        published = PUBLISHED.get(name.split(",")[0])
        shown = f"   {published:g}" if published and "mean" in name else ""
        print(f"{left(in_words(name, WORDS), 44)} {value:9.6f}{shown}")
    slip = Text("a sigmoid before the cost from logits", "로짓에서 계산하는 비용 앞에 시그모이드")
    print_diagnosis(slip, sigmoid_twice())
    print()
    save_picture(histories, figures, args.out / "logistic_regression.png")


if __name__ == "__main__":
    launch(main)
