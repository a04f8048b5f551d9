"""Every activation function f and its slope f', in one figure.

The lecture draws sigmoid, tanh, ReLU, Leaky ReLU, ELU and Maxout, and says that four of them cover
99.9% of nets. Here are all that tinygrad_kr has; the slopes come from `backward()`, not from a
second formula. What to look at: a layer multiplies the gradient by its slope, and sigmoid's is at
most 0.25, at x = 0 (it is y (1 - y) with y between 0 and 1). Ten such layers leave 9.5e-7 of a
gradient at best. tanh and ReLU reach 1; SELU, GELU, SiLU and Mish go a little above it.

    python examples/lectures/activations.py

The picture is saved as out/lectures/activations.png (needs matplotlib).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import in_words, label, launch, left, new_figure, options, right, save

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor
from tinygrad_kr.language import Text, same

Activation = Callable[[Tensor], Any]


def beside_zero(function: Callable[..., Any], x: Tensor) -> Any:
    """The first output for the two scores (x, 0), for functions of all the units of a layer."""
    return function(tk.stack([x, tk.zeros_like(x)], axis=1), dim=1)[:, 0]


def largest_of_two_lines(x: Tensor) -> Any:
    """Maxout over 0.5 x + 0.5 and -x: it learns its lines, so these are only an example."""
    return F.maxout(tk.stack([0.5 * x + 0.5, -x], axis=1), pieces=2)[:, 0]


ACTIVATIONS: dict[str, Activation] = {
    "linear": lambda x: 1.0 * x,
    "sigmoid": F.sigmoid,
    "tanh": F.tanh,
    "ReLU": F.relu,
    "Leaky ReLU 0.01": F.leaky_relu,
    "ELU": F.elu,
    "Maxout of 2 lines": largest_of_two_lines,
    "SELU": F.selu,
    "CELU, alpha 2": partial(F.celu, alpha=2.0),
    "GELU": F.gelu,
    "SiLU (swish)": F.silu,
    "Mish": F.mish,
    "softplus": F.softplus,
    "log sigmoid": F.logsigmoid,
    "softsign": F.softsign,
    "hard tanh": F.hardtanh,
    "ReLU6": F.relu6,
    "hard sigmoid": F.hardsigmoid,
    "hard swish": F.hardswish,
    "softmax of (x, 0)": partial(beside_zero, F.softmax),
    "softmin of (x, 0)": partial(beside_zero, F.softmin),
    "log softmax of (x, 0)": partial(beside_zero, F.log_softmax),
}


PUBLISHED = [
    (
        Text("sigmoid's highest slope", "시그모이드의 최대 기울기"),
        "sigmoid: highest slope",
        same("0.25"),
    ),
    (
        Text("ten sigmoid layers keep, at best", "시그모이드 열 층에 남는 최댓값"),
        "sigmoid: highest slope, ten layers",
        Text("vanishes", "사라진다"),
    ),
    (Text("tanh's highest slope", "tanh의 최대 기울기"), "tanh: highest slope", same("1")),
    (Text("ReLU's highest slope", "ReLU의 최대 기울기"), "ReLU: highest slope", same("1")),
    (
        Text("Leaky ReLU's lowest slope", "Leaky ReLU의 최소 기울기"),
        "Leaky ReLU 0.01: lowest slope",
        same("0.01"),
    ),
]
WORDS = (
    Text("linear", "선형"),
    Text("Maxout of 2 lines", "직선 2개의 Maxout"),
    Text("softmax of (x, 0)", "(x, 0)의 softmax"),
    Text("softmin of (x, 0)", "(x, 0)의 softmin"),
    Text("log softmax of (x, 0)", "(x, 0)의 log softmax"),
)


def value_and_slope(activation: Activation, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """f and f' at each of the points, of shape (n,)."""
    x = Tensor(points, requires_grad=True)
    y = activation(x)
    y.sum().backward()  # each f(x) depends on its own x only, so the sum's gradient is f'
    assert x.grad is not None
    return y.detach().numpy(), x.grad.numpy()


def run(*, width: float = 40.0, points: int = 80_001) -> dict[str, float]:
    """The lowest and the highest slope of each activation on [-width, width] (float64)."""
    x = np.linspace(-width, width, points)
    figures = {}
    for name, activation in ACTIVATIONS.items():
        slopes = value_and_slope(activation, x)[1]
        figures[f"{name}: lowest slope"] = float(slopes.min())
        figures[f"{name}: highest slope"] = float(slopes.max())
    highest = figures["sigmoid: highest slope"]
    figures["sigmoid: highest slope, ten layers"] = highest**10
    return figures


def print_table(figures: dict[str, float]) -> None:
    low = right(Text("slopes from", "기울기 최소").say(), 12)
    high = right(Text("to", "최대").say(), 7)
    print(f"{'':22} {'f(-1)':>8} {'f(0)':>8} {'f(1)':>8} {low} {high}")
    for name, activation in ACTIVATIONS.items():
        values = value_and_slope(activation, np.array([-1.0, 0.0, 1.0]))[0]
        lowest, highest = (figures[f"{name}: {which} slope"] for which in ("lowest", "highest"))
        cells = " ".join(f"{value:8.4f}" for value in values)
        print(f"{left(in_words(name, WORDS), 22)} {cells} {lowest:12.4f} {highest:7.4f}")


def save_picture(path: Path) -> None:
    """f and f' of each activation between -4 and 4."""
    figure = new_figure(8, 10)
    if figure is None:
        return
    x = np.linspace(-4, 4, 801)
    grid = figure.subplots(7, 3, sharex=True, sharey=True)
    drawn = [name for name in ACTIVATIONS if name != "softmin of (x, 0)"]  # softmax's mirror image
    for axes, name in zip(grid.flat, drawn, strict=True):
        y, slope = value_and_slope(ACTIVATIONS[name], x)
        axes.plot(x, y, color="#0072B2", linewidth=2, label="f(x)")
        draw_slope(axes, x, slope)
        axes.set(ylim=(-2.1, 3.1), yticks=[-2, -1, 0, 1, 2, 3], xticks=[-4, -2, 0, 2, 4])
        axes.set_title(label(name, WORDS), fontsize=10)
        axes.grid(alpha=0.3)
    sigmoid = grid.flat[drawn.index("sigmoid")]
    sigmoid.axhline(0.25, color="black", linewidth=0.8, linestyle=":")
    sigmoid.annotate("0.25", (0, 0.25), (0.6, -1.1), arrowprops={"arrowstyle": "->"}, fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("x")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=11, frameon=False)
    save(figure, path)


def draw_slope(axes: Any, x: np.ndarray, slope: np.ndarray) -> None:
    """f' with a gap where it jumps, at a kink of f."""
    jumps = np.flatnonzero(np.abs(np.diff(slope)) > 0.1)
    broken = np.insert(slope, jumps + 1, np.nan)
    axes.plot(
        np.insert(x, jumps + 1, x[jumps]), broken,
        color="#D55E00", linewidth=2, linestyle=(0, (4, 1.5)),
        label=label(Text("slope f'(x)", "기울기 f'(x)")),
    )  # fmt: skip


KOREAN = """
모든 활성화 함수 f와 그 미분 f'을 그림 한 장에.

강의는 시그모이드, tanh, ReLU, Leaky ReLU, ELU, Maxout을 그리고, 그중 넷이면 신경망의 99.9%에
충분하다고 합니다. 여기에는 tinygrad_kr의 활성화 함수가 모두 있습니다. 미분값은 따로 쓴 식이
아니라 `backward()`에서 나옵니다. 눈여겨볼 점: 층은 기울기에 자기 미분값을 곱하는데, 시그모이드의
미분은 x = 0에서 0.25가 최대입니다(y가 0과 1 사이일 때 y (1 - y)). 그런 층 열 개를 지나면 기울기는
아무리 많아야 9.5e-7이 남습니다. tanh와 ReLU는 1까지 올라가고, SELU, GELU, SiLU, Mish는 1을 조금
넘습니다.

    python examples/lectures/activations.py

그림은 out/lectures/activations.png에 저장합니다 (matplotlib 필요).
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    args = parser.parse_args(argv)
    figures = run()
    print_table(figures)
    ours, lecture = Text("ours", "우리 값").say(), Text("the lecture", "강의").say()
    print(f"\n{'':34} {left(ours, 10)} {lecture}")
    for name, key, published in PUBLISHED:
        print(f"{left(name.say(), 34)} {figures[key]:<10.3g} {published.say()}")
    save_picture(args.out / "activations.png")


if __name__ == "__main__":
    launch(main)
