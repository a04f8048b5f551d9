"""The labs without chance: 02-1, 02-3, 03-3, 03-X and the CNN basics, to the last printed digit.

Gradient descent from a start that the lab prints is arithmetic, so a right engine must print what
the lab printed. In float32 it does, digit for digit, after up to 2,000 steps. Even the two
gradients of lab 03-X agree: by hand, mean((W x - y) x) * 2, the first one is 37.333332; by
autodiff it is 37.333336, because the chain rule multiplies in another order. Both are 112 / 3 to
float32's precision, and neither is wrong.

    python examples/lectures/deterministic.py

What to look at: lab 02-1 looks random, and its published W and b differ from run to run. But the
lab prints the state after its first step, and from there 2,000 steps lead to its last line. Lab
11-0 says that SAME pooling pads with zeros. It does not: a padded place never wins (it counts as
minus infinity), which shows as soon as all the numbers are negative.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import common
import numpy as np
from common import (
    BLUE,
    GREEN,
    ORANGE,
    OURS,
    STEP,
    in_words,
    label,
    launch,
    left,
    new_figure,
    options,
    save,
)

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, optim
from tinygrad_kr.language import Text

PUBLISHED = {
    "lab 02-1 W": "1.00403607", "lab 02-1 b": "-0.00917497", "lab 02-1 cost": "1.20761e-05",
    "lab 02-3 W": "-0.9999969", "lab 02-3 b": "0.9999908", "lab 02-3 loss": "5.69997e-11",
    "lab 03-3 W at step 0": "5.0", "lab 03-3 W at step 1": "1.26667",
    "lab 03-3 W at step 2": "1.01778", "lab 03-3 W at step 1, from -3": "0.733334",
    "lab 03-X gradient by hand at step 0": "37.333332", "lab 03-X gradient at step 0": "37.333336",
    "lab 03-X gradient at step 1": "33.84889", "lab 03-X gradient at step 2": "30.689657",
    "lab 03-X gradient at step 100": "0.0020739238", "lab 03-X W at step 100": "1.0002222",
}  # fmt: skip

WORDS = (
    Text("at step 0", "스텝 0"),
    Text("at step 1", "스텝 1"),
    Text("at step 2", "스텝 2"),
    Text("at step 100", "스텝 100"),
    Text("from -3", "-3에서 출발"),
    Text("gradient by hand", "손으로 구한 기울기"),
    Text("gradient", "기울기"),
    Text("convolution", "합성곱"),
    Text("max pooling", "최대 풀링"),
    Text("three filters", "필터 세 개"),
    Text("negated", "부호를 바꾼 입력"),
)
LINE = Tensor([1.0, 2.0, 3.0])  # x and y of labs 02-1, 03-3 and 03-X: W should become 1


def first_line() -> dict[str, float]:
    """Lab 02-1: y = W x + b, from the state that the lab prints after its first step."""
    w, b = Tensor([2.12867713], requires_grad=True), Tensor([-0.85235667], requires_grad=True)
    optimizer = optim.SGD([w, b], lr=0.01)
    for _ in range(2_000):
        optimizer.zero_grad()
        ((LINE * w + b - LINE) ** 2).mean().backward()
        optimizer.step()
    cost = ((LINE * w + b - LINE) ** 2).mean()
    return {"lab 02-1 W": w.item(), "lab 02-1 b": b.item(), "lab 02-1 cost": cost.item()}


def four_points() -> dict[str, float]:
    """Lab 02-3: the line through (1, 0), (2, -1), (3, -2), (4, -3), by the sum of squares."""
    x, y = Tensor([1.0, 2.0, 3.0, 4.0]), Tensor([0.0, -1.0, -2.0, -3.0])
    w, b = Tensor([0.3], requires_grad=True), Tensor([-0.3], requires_grad=True)
    optimizer = optim.SGD([w, b], lr=0.01)
    for _ in range(1_000):
        optimizer.zero_grad()
        ((x * w + b - y) ** 2).sum().backward()
        optimizer.step()
    loss = ((x * w + b - y) ** 2).sum()
    return {"lab 02-3 W": w.item(), "lab 02-3 b": b.item(), "lab 02-3 loss": loss.item()}


def descent(start: float, rate: float, steps: int) -> list[tuple[float, float, float]]:
    """Labs 03-3 and 03-X: (W, gradient by autodiff, gradient by hand) before each step."""
    w = Tensor(start, requires_grad=True)
    optimizer = optim.SGD([w], lr=rate)
    path = []
    for _ in range(steps):
        optimizer.zero_grad()
        ((LINE * w - LINE) ** 2).mean().backward()
        assert w.grad is not None
        by_hand = ((LINE * w.detach() - LINE) * LINE).mean() * 2
        path.append((w.item(), w.grad.item(), by_hand.item()))
        optimizer.step()
    return path


def windows() -> dict[str, np.ndarray]:
    """CNN basics: 2 x 2 windows over small images, with and without the padding called SAME.

    SAME keeps the size: the window begins at every pixel and may stick out below and to the right.
    """
    image = tk.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    filters = Tensor([1.0, 10.0, -1.0]).reshape(3, 1, 1, 1) * tk.ones(3, 1, 2, 2)
    small = Tensor([[[[4.0, 3.0], [2.0, 1.0]]]])
    results = {
        "convolution, VALID": F.conv2d(image, filters[:1]),
        "convolution, SAME": F.conv2d(image, filters[:1], padding="same"),
        "convolution, SAME, three filters": F.conv2d(image, filters, padding="same"),
        "max pooling, VALID": F.max_pool2d(small, 2, stride=1),
        "max pooling, SAME": pool_same(small),
        "max pooling, SAME, negated": pool_same(-small),
    }
    return {name: result.detach().numpy().squeeze() for name, result in results.items()}


def pool_same(image: Tensor) -> Any:
    """2 x 2 max pooling, stride 1, that keeps the size: what is added never wins."""
    return F.max_pool2d(F.pad(image, (0, 1, 0, 1), value=float("-inf")), 2, stride=1)


def run() -> dict[str, float]:
    """The labs' figures, in float32 as the labs computed them."""
    path, other, slow = descent(5.0, 0.1, 3), descent(-3.0, 0.1, 2), descent(5.0, 0.01, 101)
    same = windows()["convolution, SAME"]
    figures = first_line() | four_points()
    figures |= {f"lab 03-3 W at step {step}": path[step][0] for step in range(3)}
    figures["lab 03-3 W at step 1, from -3"] = other[1][0]
    figures["lab 03-X gradient by hand at step 0"] = slow[0][2]
    figures |= {f"lab 03-X gradient at step {step}": slow[step][1] for step in (0, 1, 2, 100)}
    figures["lab 03-X W at step 100"] = slow[100][0]
    figures |= {f"CNN basics {i} {j}": float(same[i, j]) for i in range(3) for j in range(3)}
    return figures


def in_the_digits_of(published: str, value: float) -> str:
    """`value` rounded to as many significant digits as were published."""
    digits = len(Decimal(published).as_tuple().digits)
    return f"{value:#.{digits}g}"


def save_picture(path: Path) -> None:
    """How far W is from 1 in lab 03-3, and the gradients of lab 03-X; published ones beside."""
    figure = new_figure(8, 3.6)
    if figure is None:
        return
    (distance, slope) = figure.subplots(1, 2)
    for start, colour, marker, known in ((5.0, BLUE, "o", 3), (-3.0, ORANGE, "s", 2)):
        away = np.array([step[0] for step in descent(start, 0.1, 4)]) - 1
        distance.plot(
            away,
            f"{marker}-",
            color=colour,
            label=label(Text("ours, from {start:g}", "우리 값, 출발 {start:g}"), start=start),
        )
        names = ["lab 03-3 W at step 0", "lab 03-3 W at step 1", "lab 03-3 W at step 2"]
        if start < 0:
            names = ["lab 03-3 W at step 1, from -3"]
        printed = [float(PUBLISHED[name]) - 1 for name in names]
        steps = range(known - len(printed), known)
        distance.plot(steps, printed, "D", color=GREEN, markersize=11, fillstyle="none")
    distance.plot([], [], "D", color=GREEN, fillstyle="none", label=label(common.PUBLISHED))
    distance.set_yscale("symlog", linthresh=1e-4, linscale=0.3)
    title = Text("lab 03-3: each step leaves a fifteenth", "실습 03-3: 스텝마다 15분의 1로")
    distance.set(xlabel=label(STEP), ylabel="W - 1", title=label(title))
    distance.set(xticks=range(4), yticks=[-1, -1e-2, 0, 1e-2, 1])
    distance.legend(fontsize=8, loc="center left")
    gradients = [step[1] for step in descent(5.0, 0.01, 101)]
    slope.semilogy(
        gradients,
        color=BLUE,
        linewidth=2,
        label=label(Text("ours, by autodiff", "우리 값, 자동 미분")),
    )
    places = [0, 1, 2, 100]
    printed = [float(PUBLISHED[f"lab 03-X gradient at step {place}"]) for place in places]
    slope.plot(places, printed, "D", color=GREEN, fillstyle="none", label=label(common.PUBLISHED))
    slope.set(
        xlabel=label(STEP),
        ylabel=label(Text("gradient of the cost", "비용의 기울기")),
        title=label(Text("lab 03-X, rate 0.01, from 5", "실습 03-X, 학습률 0.01, 출발 5")),
    )
    slope.legend(fontsize=8)
    for axes in (distance, slope):
        axes.grid(alpha=0.3)
    save(figure, path)


KOREAN = """
우연이 없는 실습: 02-1, 02-3, 03-3, 03-X, 그리고 CNN 기초. 출력된 마지막 자리까지.

실습이 출력한 출발점에서 시작하는 경사 하강법은 산수이므로, 엔진이 옳다면 실습과 같은 수를
출력해야 합니다. float32로 2,000스텝까지 한 자리도 다르지 않습니다. 실습 03-X의 두 기울기도
그렇습니다. 손으로 쓴 식 mean((W x - y) x) * 2로는 처음 값이 37.333332, 자동 미분으로는
37.333336입니다. 연쇄 법칙은 다른 순서로 곱하기 때문입니다. float32의 정밀도에서 둘 다 112 /
3이고, 어느 쪽도 틀리지 않습니다.

    python examples/lectures/deterministic.py

눈여겨볼 점: 실습 02-1은 무작위처럼 보이고 공개된 W와 b도 실행마다 다릅니다. 그러나 실습은 첫 스텝
뒤의 값을 출력하고, 거기서부터 2,000스텝을 밟으면 마지막 줄에 이릅니다. 실습 11-0은 SAME 풀링이
0으로 채운다고 말하지만 그렇지 않습니다. 채운 자리는 결코 최댓값이 되지 않습니다(음의 무한대로
칩니다). 수가 모두 음수이면 바로 드러납니다.
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    args = parser.parse_args(argv)
    figures = run()
    print(f"{'':36} {left(OURS.say(), 14)} {common.PUBLISHED.say()}")
    for name, published in PUBLISHED.items():
        ours = in_the_digits_of(published, figures[name])
        print(f"{left(in_words(name, WORDS), 36)} {ours:14} {published}")
    for name, array in windows().items():
        print(Text("\nCNN basics, {name}", "\nCNN 기초, {name}").say(name=in_words(name, WORDS)))
        print(np.array2string(array))
    print()
    save_picture(args.out / "deterministic.png")


if __name__ == "__main__":
    launch(main)
