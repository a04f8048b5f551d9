"""Labs 06-1 and 06-2: one of several classes by softmax; eight points, then the animals of a zoo.

The lecture: a row of logits becomes probabilities by softmax, the label a one-hot row, and the cost
is minus the logarithm of the right class's probability. Eight points come to a cost of 0.15216
after 2,001 steps of rate 0.1, and 101 animals with 16 traits are told apart with 100%.

    python examples/lectures/softmax_regression.py

What to look at: a one-hot row only picks one logarithm out, so integer labels give the same cost
without it (`cross_entropy` takes both), and from logits it has no log(0). What really happens: the
eight points end between 0.140 and 0.179 from 100 starts, so 0.15216 is ordinary; the 100% is of the
animals that were learned. Of animals left out, a fifth at a time, 96% are named right. Who hands
probabilities to `cross_entropy`, which takes logits, gets a line from `tk.diagnose`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import (
    BLUE,
    CROSS_ENTROPY,
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

EIGHT_POINTS = Tensor(
    [[1, 2, 1, 1], [2, 1, 3, 2], [3, 1, 3, 4], [4, 1, 5, 5],
     [1, 7, 5, 5], [1, 2, 5, 6], [1, 6, 6, 6], [1, 7, 7, 7]],
    dtype=np.float32,
)  # fmt: skip
EIGHT_LABELS = np.array([2, 2, 2, 1, 1, 1, 0, 0])
ASKED = Tensor([[1, 11, 7, 9], [1, 3, 4, 3], [1, 1, 0, 1]], dtype=np.float32)
PUBLISHED = {"lab 06-1 cost": 0.15216158, "lab 06-1 answers as the lab's": 1.0,
             "lab 06-2 accuracy": 1.0, "lab 06-2 cost": 0.054}  # fmt: skip
KINDS = (
    Text("mammal", "포유류"),
    Text("bird", "조류"),
    Text("reptile", "파충류"),
    Text("fish", "어류"),
    Text("amphibian", "양서류"),
    Text("insect", "곤충"),
    Text("other", "기타"),
)
WORDS = (
    Text("answers as the lab's", "실습과 같은 답의 비율"),
    Text("accuracy on animals left out", "학습에서 뺀 동물의 정확도"),
)


def train(net: Starts, x: Tensor, labels: np.ndarray, steps: int, rate: float) -> np.ndarray:
    """Gradient descent from many starts at once; the costs before each step, (steps, starts)."""
    optimizer = optim.SGD(net.parameters(), lr=rate)
    one_hot = F.one_hot(labels, net.weight.shape[2]).astype(np.float32)
    history = []
    for _ in bar(steps):
        costs = -(one_hot * F.log_softmax(net(x), dim=2)).sum(axis=2).mean(axis=1)
        optimizer.zero_grad()
        costs.sum().backward()
        optimizer.step()
        history.append(costs.detach().numpy())
    return np.array(history)


def answers(net: Starts, x: Tensor) -> np.ndarray:
    """The class with the largest logit, (starts, n)."""
    with no_grad():
        classes: np.ndarray = net(x).argmax(axis=2).numpy()
    return classes


def confusion_left_out(x: Tensor, labels: np.ndarray, steps: int, rate: float) -> np.ndarray:
    """How often each kind (row) was named each kind (column), every animal by a net that never
    saw it: five nets, each without every fifth animal."""
    table = np.zeros((7, 7), int)
    for fold in range(5):
        left_out = np.arange(len(labels)) % 5 == fold
        net = Starts(1, x.shape[1], 7)
        train(net, Tensor(x.numpy()[~left_out]), labels[~left_out], steps, rate)
        said = answers(net, Tensor(x.numpy()[left_out]))[0]
        np.add.at(table, (labels[left_out], said), 1)
    return table


def run(*, starts: int = 100, steps: int = 2_001, rate: float = 0.1, seed: int = 0,
        pictured: dict[str, np.ndarray] | None = None) -> dict[str, float]:  # fmt: skip
    """Costs and accuracies of both labs; a tenth as many starts for the zoo, which is larger.

    pictured: is given the costs of lab 06-1 by step and the zoo's confusion table.

    Raises DatasetNotFoundError where the lectures' tables are not to be found.
    """
    zoo = table("data-04-zoo.csv")
    x, labels = Tensor(zoo[:, :-1]), zoo[:, -1].astype(np.int64)
    tk.manual_seed(seed)
    net = Starts(starts, 4, 3)
    history = train(net, EIGHT_POINTS, EIGHT_LABELS, steps, rate)
    as_the_lab = (answers(net, ASKED) == [1, 0, 2]).all(axis=1)
    animals = Starts(max(1, starts // 10), 16, 7)
    costs = train(animals, x, labels, steps, rate)[-1]
    right = (answers(animals, x) == labels).mean(axis=1)
    confusion = confusion_left_out(x, labels, steps, rate)
    if pictured is not None:
        pictured |= {"costs": history, "confusion": confusion}
    return {
        "lab 06-1 cost, lowest": float(history[-1].min()),
        "lab 06-1 cost, median": float(np.median(history[-1])),
        "lab 06-1 cost, highest": float(history[-1].max()),
        "lab 06-1 answers as the lab's, mean": float(as_the_lab.mean()),
        "lab 06-2 cost, mean": float(costs.mean()),
        "lab 06-2 accuracy, lowest": float(right.min()),
        "lab 06-2 accuracy, mean": float(right.mean()),
        "lab 06-2 accuracy on animals left out": float(np.trace(confusion) / len(labels)),
    }


def softmax_twice() -> Any:
    """`tk.diagnose` of a slip: a softmax, and a cost that applies softmax itself."""
    net = nn.Sequential(nn.Linear(4, 3), nn.Softmax(1))
    return tk.diagnose(net, F.cross_entropy, (EIGHT_POINTS.numpy(), EIGHT_LABELS))


def save_picture(costs: np.ndarray, confusion: np.ndarray, path: Path) -> None:
    """The costs over the steps, and what animals that were left out were taken for."""
    figure = new_figure(8, 4.2)
    if figure is None:
        return
    curves, animals = figure.subplots(1, 2)
    curves.semilogx(np.arange(1, len(costs) + 1), costs, color=BLUE, linewidth=0.5, alpha=0.4)
    curves.plot([], [], color=BLUE, label=label(STARTS, starts=costs.shape[1]))
    published = PUBLISHED["lab 06-1 cost"]
    curves.plot(
        2_001,
        published,
        "D",
        color=ORANGE,
        label=label(Text("published, {value:.5f}", "공개된 값, {value:.5f}"), value=published),
    )
    curves.set(xlabel=label(STEP), ylabel=label(CROSS_ENTROPY))
    curves.set_title(label(Text("lab 06-1, eight points", "실습 06-1, 점 여덟 개")))
    curves.set_ylim(0, 8)
    curves.legend(fontsize=8)
    curves.grid(alpha=0.3)
    animals.imshow(confusion, cmap="Blues", vmax=50)
    for (truth, said), count in np.ndenumerate(confusion):
        if count:
            ink = "white" if count > 25 else "black" if truth == said else ORANGE
            weight = "normal" if truth == said else "bold"
            animals.text(said, truth, count, ha="center", va="center", color=ink, weight=weight)
    animals.set(
        xlabel=label(Text("the net says", "신경망의 답")),
        ylabel=label(Text("the animal is", "실제 동물")),
        title=label(Text("lab 06-2, animals left out", "실습 06-2, 학습에서 뺀 동물")),
    )
    kinds = [label(kind) for kind in KINDS]
    animals.set_xticks(range(7), kinds, rotation=45, ha="right")
    animals.set_yticks(range(7), kinds)
    save(figure, path)


KOREAN = """
실습 06-1과 06-2: 소프트맥스로 여러 클래스 중 하나를. 점 여덟 개, 그다음 동물원의 동물.

강의: 로짓 한 행이 소프트맥스를 지나 확률이 되고, 레이블은 원-핫 벡터이며, 비용은 정답 클래스의
로그 확률에 음의 부호를 붙인 것입니다. 점 여덟 개는 학습률 0.1로 2,001스텝 뒤에 비용 0.15216이
되고, 특징이 16개인 동물 101마리는 100% 맞힙니다.

    python examples/lectures/softmax_regression.py

눈여겨볼 점: 원-핫 벡터는 로그 확률 하나만 골라내므로 정수 레이블을 써도 비용이
같고(`cross_entropy`는 둘 다 받습니다), 로짓에서 계산하면 log(0)이 없습니다. 실제로는: 점 여덟
개는 초깃값 100개에서 0.140에서 0.179 사이로 끝나므로 0.15216은 평범합니다. 100%는 학습한 동물에
대한 것입니다. 5분의 1씩 빼고 재면 뺀 동물의 96%를 맞힙니다.
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    parser.add_argument("--starts", type=whole(1), default=100, help=INITIAL.say(default="100"))
    args = parser.parse_args(argv)
    line = Text("labels {labels} as one-hot rows:", "레이블 {labels}, 원-핫 벡터로:")
    print(line.say(labels=EIGHT_LABELS[:4]))
    print(f"{F.one_hot(EIGHT_LABELS[:4], 3)}\n")
    pictured: dict[str, np.ndarray] = {}
    figures = run(starts=args.starts, pictured=pictured)
    print(heading(40, 9))
    for name, value in figures.items():
        published = PUBLISHED.get(name.split(",")[0])
        middle = "mean" in name or "median" in name
        shown = f"   {published:g}" if published and middle else ""
        print(f"{left(in_words(name, WORDS), 40)} {value:9.5f}{shown}")
    slip = Text("probabilities where logits are meant", "로짓 자리에 확률")
    print_diagnosis(slip, softmax_twice())
    print()
    save_picture(pictured["costs"], pictured["confusion"], args.out / "softmax_regression.png")


if __name__ == "__main__":
    launch(main)
