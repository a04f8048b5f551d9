"""Labs 09-1 to 09-3: XOR by one unit, by 2-2-1, and by a wide and deep net; how often it works.

The lecture: one sigmoid unit stays at an accuracy of 0.5, a hidden layer of two reaches 1.0, and
2-10-10-10-1 reaches 1.0 with outputs nearer to 0 and 1. All sigmoid, weights and biases N(0, 1),
mean cross-entropy, gradient descent with rate 0.1, 10,001 steps.

    python examples/lectures/xor_labs.py
    python examples/lectures/xor_labs.py --starts 1000

What really happens: one unit ends at four outputs of 0.5 from every start, for there its cost,
0.6931, is lowest. 2-2-1 solves XOR from 65 of 100 starts; 27 end with half the points wrong, 8 with
one, all of them still after 10,001 steps. Width and depth cure that: 2-10-10-10-1 solves it from
all 100. examples/xor.py draws what such nets learn.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    BLUE,
    CROSS_ENTROPY,
    GREEN,
    INITIAL,
    ORANGE,
    STEP,
    STEPS,
    XOR_ANSWERS,
    XOR_POINTS,
    Starts,
    bar,
    label,
    launch,
    new_figure,
    options,
    save,
    whole,
)

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, no_grad, optim
from tinygrad_kr.language import Text

POINTS, ANSWERS = Tensor(XOR_POINTS), Tensor(XOR_ANSWERS)
LABS = {"09-1": (2, 1), "09-2": (2, 2, 1), "09-3": (2, 10, 10, 10, 1)}
PUBLISHED = {"09-1": 0.5, "09-2": 1.0, "09-3": 1.0}


def make_nets(sizes: tuple[int, ...], starts: int) -> nn.Sequential:
    """Sigmoid nets side by side, one from each start; the last layer gives logits."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [Starts(starts, inputs, outputs), nn.Sigmoid()]
    return nn.Sequential(*layers[:-1])


def train(nets: nn.Sequential, starts: int, steps: int, rate: float) -> Iterator[np.ndarray]:
    """Gradient descent; the costs of all starts before each step, each of shape (starts,)."""
    optimizer = optim.SGD(nets.parameters(), lr=rate)
    answers = ANSWERS.broadcast_to(starts, 4, 1)
    for _ in bar(steps):
        losses = F.binary_cross_entropy_with_logits(nets(POINTS), answers, reduction="none")
        costs = losses.mean(axis=(1, 2))
        optimizer.zero_grad()
        costs.sum().backward()
        optimizer.step()
        yield costs.detach().numpy()


def accuracies(nets: nn.Sequential) -> np.ndarray:
    """The share of the four points on the right side.

    An output says yes above 0.501: one unit's outputs end at 0.5, give or take a rounding error,
    and the sign of that error is no answer.
    """
    with no_grad():
        said = nets(POINTS).numpy() > np.log(0.501 / 0.499)
    shares: np.ndarray = (said == (ANSWERS.numpy() > 0.5)).mean(axis=(1, 2))
    return shares


def run(*, starts: int = 100, steps: int = 10_001, rate: float = 0.1, seed: int = 0,
        histories: dict[str, Any] | None = None) -> dict[str, float]:  # fmt: skip
    """For each lab the share of starts that solve XOR and that are stuck at 0.5 or below.

    histories: is given (costs by step, accuracies) of each lab, for the picture.
    """
    figures = {}
    for lab, sizes in LABS.items():
        tk.manual_seed(seed)
        nets = make_nets(sizes, starts)
        costs = np.array(list(train(nets, starts, steps, rate)))
        right = accuracies(nets)
        figures[f"lab {lab} solved"] = float((right == 1).mean())
        figures[f"lab {lab} stuck"] = float((right <= 0.5).mean())
        figures[f"lab {lab} best accuracy"] = float(right.max())
        figures[f"lab {lab} median cost"] = float(np.median(costs[-1]))
        figures[f"lab {lab} lowest cost"] = float(costs[-1].min())
        if histories is not None:
            histories[lab] = costs, right
    return figures


SOLVED = Text("{count} solved", "성공 {count}개")
THREE_RIGHT = Text("{count} with 3 of 4 right", "넷 중 셋만 맞힌 {count}개")
HALF_RIGHT = Text("{count} with half right or less", "절반 이하만 맞힌 {count}개")


def save_picture(histories: dict[str, Any], path: Path) -> None:
    """The costs of all starts over the steps, a colour for how well each ends."""
    figure = new_figure(8, 3.6)
    if figure is None:
        return
    panels = figure.subplots(1, 3, sharey=True)
    for axes, (lab, (costs, right)) in zip(panels, histories.items(), strict=True):
        kinds = ((SOLVED, right == 1, BLUE), (THREE_RIGHT, right == 0.75, GREEN),
                 (HALF_RIGHT, right <= 0.5, ORANGE))  # fmt: skip
        steps = np.unique(np.geomspace(1, len(costs), 300).astype(int))
        for name, chosen, colour in kinds:
            if chosen.any():
                axes.loglog(steps, costs[steps - 1][:, chosen], color=colour, lw=0.6, alpha=0.5)
                axes.plot([], [], color=colour, label=label(name, count=chosen.sum()))
        net = "-".join(map(str, LABS[lab]))
        axes.set(xlabel=label(STEP), title=label(f"lab {lab}, {net}"))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower left")
    panels[0].set_ylabel(label(CROSS_ENTROPY))
    save(figure, path)


KOREAN = """
실습 09-1에서 09-3까지: 유닛 하나, 2-2-1, 넓고 깊은 신경망으로 XOR를. 얼마나 자주 성공하는가.

강의: 시그모이드 유닛 하나는 정확도 0.5에 머물고, 유닛 두 개인 은닉층은 1.0, 2-10-10-10-1은 0과
1에 더 가까운 출력으로 1.0입니다. 모두 시그모이드, 가중치와 편향 N(0, 1), 교차 엔트로피의 평균,
경사 하강법 학습률 0.1, 10,001스텝.

    python examples/lectures/xor_labs.py
    python examples/lectures/xor_labs.py --starts 1000

실제로는: 유닛 하나는 어느 초깃값에서든 네 출력이 모두 0.5로 끝납니다. 거기서 비용 0.6931이 가장
낮기 때문입니다. 2-2-1은 초깃값 100개 중 65개에서 XOR를 배웁니다. 27개는 점의 절반을, 8개는 한
점을 틀리고, 10,001스텝 뒤에도 그대로입니다. 폭과 깊이가 이를 해결합니다. 2-10-10-10-1은 100개에서
모두 배웁니다. 이런 신경망이 배우는 것은 examples/xor.py가 그려 줍니다.
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    parser.add_argument("--starts", type=whole(1), default=100, help=INITIAL.say(default="100"))
    parser.add_argument("--steps", type=whole(1), default=10_001, help=STEPS.say(default="10001"))
    args = parser.parse_args(argv)
    histories: dict[str, Any] = {}
    figures = run(starts=args.starts, steps=args.steps, histories=histories)
    title = Text(
        "                         published   of {starts} starts",
        "                        공개된 값   초깃값 {starts}개 중",
    )
    line = Text(
        "lab {lab}  {sizes:15} {published:8}   {solved:.0%} solved, "
        "{stuck:.0%} at 0.5 or below, median cost {cost:.4f}",
        "실습 {lab}  {sizes:15} {published:7}   성공 {solved:.0%}, "
        "0.5 이하 {stuck:.0%}, 비용의 중앙값 {cost:.4f}",
    )
    print(title.say(starts=args.starts))
    for lab, sizes in LABS.items():
        solved, stuck = figures[f"lab {lab} solved"], figures[f"lab {lab} stuck"]
        cost = figures[f"lab {lab} median cost"]
        known = {"lab": lab, "sizes": "-".join(map(str, sizes)), "published": PUBLISHED[lab]}
        print(line.say(**known, solved=solved, stuck=stuck, cost=cost))
    print()
    save_picture(histories, args.out / "xor_labs.png")


if __name__ == "__main__":
    launch(main)
