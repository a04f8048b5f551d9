"""Without an activation, 10 layers are one layer, and so are 100.

W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2): however many linear layers follow each other, the
lecture says, they are a single one. Three pieces of evidence, in float64:

- the one layer found by multiplying the weights out answers as the stack does, up to rounding;
- the output's slope is the product of all weights, the same at every point; a tanh net's is not;
- trained on two moons, which no line separates, nets of 1, 10 and 100 linear layers end at the same
  loss to nine digits and at the same line. Ten tanh layers get every point right.

What the lecture leaves out: the nets are equal, the ways there are not, since each layer's gradient
is multiplied by all the other layers' weights. With Adam's rate 0.003 the stacks of 10 and 100 are
there within 1,500 steps while a single layer is at loss 0.304, so that it gets 0.1 here. And with
0.01 two of five stacks of 100 layers, having arrived, answer 0.5 to everything after 2,500 steps.

No training is needed to see it: `tk.diagnose` finds nothing nonlinear in the stacks.

    python examples/lectures/linear_collapse.py

The picture is saved as out/lectures/linear_collapse.png (needs matplotlib).
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import (
    SEED,
    STEP,
    STEPS,
    bar,
    in_words,
    kinds_of,
    label,
    launch,
    left,
    new_figure,
    options,
    positive,
    print_diagnosis,
    right,
    save,
    whole,
)

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, no_grad, optim
from tinygrad_kr.language import Text

DEPTHS = (1, 10, 100)
TANH = "10 tanh layers"
WORDS = (
    Text("1 linear layer", "선형 층 1개"),
    Text("10 linear layers", "선형 층 10개"),
    Text("100 linear layers", "선형 층 100개"),
    Text("10 tanh layers", "tanh 층 10개"),
)
SINGLE_LAYER_RATE = 0.1


def two_moons(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (count, 2) on two interleaved half circles, and which of the two, (count, 1)."""
    generator = np.random.default_rng(seed)
    angle = generator.uniform(0, np.pi, count)
    upper = np.arange(count) % 2 == 1
    circles = np.where(
        upper, (np.cos(angle), np.sin(angle)), (1 - np.cos(angle), 0.5 - np.sin(angle))
    )
    return circles.T + generator.normal(0, 0.12, (count, 2)), upper.astype(float)[:, None]


def make_net(depth: int, seed: int, activation: type[nn.Module] | None = None) -> nn.Sequential:
    """2 inputs, 5 units a layer, 1 logit; orthogonal weights, so that signals pass 100 layers."""
    tk.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([2, *[5] * (depth - 1), 1]):
        layer = nn.Linear(inputs, outputs, dtype=np.float64)
        nn.init.orthogonal_(layer.weight, 1.0 if activation is None else 5 / 3)
        layer.bias = nn.Parameter(np.zeros(outputs))
        layers += [layer] if activation is None else [layer, activation()]
    return nn.Sequential(*(layers if activation is None else layers[:-1]))


def collapsed(net: nn.Sequential) -> nn.Linear:
    """The one linear layer that a stack of them is."""
    weight, bias = net[0].weight.data, net[0].bias.data
    for layer in net[1:]:
        weight, bias = layer.weight.data @ weight, layer.weight.data @ bias + layer.bias.data
    one = nn.Linear(weight.shape[1], weight.shape[0], dtype=np.float64)
    one.load_state_dict({"weight": weight, "bias": bias})
    return one


def logits_of(net: nn.Module, points: np.ndarray) -> np.ndarray:
    with no_grad():
        logits: np.ndarray = net(Tensor(points)).numpy()
    return logits[:, 0]


def slopes_of(net: nn.Module, points: np.ndarray) -> np.ndarray:
    """How the logit changes with each of the two inputs, at each of the points: (n, 2)."""
    x = Tensor(points, requires_grad=True)
    net(x).sum().backward()
    assert x.grad is not None
    return x.grad.numpy()


def relative_difference(some: np.ndarray, others: np.ndarray) -> float:
    return float(np.abs(some - others).max() / np.abs(others).max())


class Trained(NamedTuple):
    """A net, its loss after every step, and the share of the points that it gets right."""

    net: nn.Sequential
    losses: list[float]
    accuracy: float


def train(net: nn.Sequential, steps: int, rate: float) -> Trained:
    """Adam on all points at once."""
    points, moon = two_moons(200, 0)
    inputs, targets = Tensor(points), Tensor(moon)
    optimizer = optim.Adam(net.parameters(), lr=rate)
    losses = []
    for _ in bar(steps):
        loss = F.binary_cross_entropy_with_logits(net(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    right = (logits_of(net, points) > 0) == (moon[:, 0] > 0.5)
    return Trained(net, losses, float(right.mean()))


def train_all(steps: int, rate: float, seed: int) -> dict[str, Trained]:
    """1, 10 and 100 linear layers and 10 tanh layers; `rate` is for all but the single layer."""
    nets = {name_of(depth): make_net(depth, seed) for depth in DEPTHS}
    nets[TANH] = make_net(10, seed, nn.Tanh)
    return {
        name: train(net, steps, SINGLE_LAYER_RATE if name == name_of(1) else rate)
        for name, net in nets.items()
    }


def name_of(depth: int) -> str:
    return f"{depth} linear layer{'s' if depth > 1 else ''}"


def run(*, steps: int = 1_500, rate: float = 0.003, seed: int = 0) -> dict[str, float]:
    """Differences to one layer, and what each net reaches on the two moons."""
    return figures_of(train_all(steps, rate, seed), seed)


def figures_of(trained: dict[str, Trained], seed: int) -> dict[str, float]:
    points = np.random.default_rng(seed).uniform(-3, 3, (1_000, 2))
    figures = {}
    for name, (net, losses, accuracy) in trained.items():
        slopes = slopes_of(net, points)
        if name != TANH:
            one = collapsed(net)
            difference = relative_difference(logits_of(net, points), logits_of(one, points))
            figures[f"{name}: difference to one layer"] = difference
        figures[f"{name}: spread of the slope"] = relative_difference(slopes[:1], slopes)
        figures[f"{name}: loss"] = losses[-1]
        figures[f"{name}: accuracy"] = accuracy
    return figures


def print_table(figures: dict[str, float], names: list[str]) -> None:
    over = (Text("difference to", "한 층과의"), Text("slope differs", "기울기의"))
    under = (Text("one layer", "차이"), Text("over plane by", "변화"))
    more = f"{right(in_words('loss'), 13)} {right(in_words('accuracy'), 9)}"
    print(f"{'':18} {' '.join(right(text.say(), 14) for text in over)} {more}")
    print(f"{'':18} {' '.join(right(text.say(), 14) for text in under)}")
    for name in names:
        difference = figures.get(f"{name}: difference to one layer")
        shown = "-" if difference is None else f"{difference:.1e}"
        spread, loss = figures[f"{name}: spread of the slope"], figures[f"{name}: loss"]
        accuracy = figures[f"{name}: accuracy"]
        title = left(in_words(name, WORDS), 18)
        print(f"{title} {shown:>14} {spread:14.1e} {loss:13.10f} {accuracy:9.3f}")
    line = Text(
        "\nthe lecture: 1 = 10 = 100 layers. (Differences are relative; a rounding is 1.1e-16.)",
        "\n강의: 1 = 10 = 100층. (차이는 상대 오차이고, 반올림 한 번은 1.1e-16입니다.)",
    )
    print(line.say())


def diagnose(net: nn.Sequential) -> Any:
    """`tk.diagnose` on the two moons."""
    optimizer = optim.Adam(net.parameters(), lr=0.003)
    loss = F.binary_cross_entropy_with_logits
    return tk.diagnose(net, loss, two_moons(200, 0), optimizer)


def print_diagnoses(seed: int) -> None:
    """The kinds for each net before its training, and all of it for ten linear layers."""
    nets = {name_of(depth): make_net(depth, seed) for depth in DEPTHS}
    reports = {name: diagnose(net) for name, net in nets.items()}
    reports[TANH] = diagnose(make_net(10, seed, nn.Tanh))
    print("\ntk.diagnose")
    for name, report in reports.items():
        print(f"  {left(in_words(name, WORDS), 18)} {kinds_of(report)}")
    ten = name_of(10)
    print_diagnosis(next(word for word in WORDS if word.en == ten), reports[ten])


def save_picture(trained: dict[str, Trained], path: Path) -> None:
    """The boundary of each net, with that of its one layer over it, and the losses."""
    figure = new_figure(8, 4.6)
    if figure is None:
        return
    grid = figure.add_gridspec(2, 4, width_ratios=[1, 1, 0.15, 1.5])
    for place, (name, (net, _, accuracy)) in enumerate(trained.items()):
        axes = figure.add_subplot(grid[place // 2, place % 2])
        draw_boundary(axes, net)
        axes.set_title(f"{label(name, WORDS)}: {accuracy:.1%}", fontsize=10)
        axes.set_xlabel("$x_1$" if place > 1 else "")
        axes.set_ylabel("" if place % 2 else "$x_2$")
    axes = figure.add_subplot(grid[:, 3])
    styles = [("#0072B2", "-"), ("#E69F00", "--"), ("#009E73", "-."), ("#D55E00", ":")]
    for (name, one), (colour, style) in zip(trained.items(), styles, strict=True):
        steps = np.arange(1, len(one.losses) + 1)
        axes.plot(
            steps, one.losses, color=colour, linestyle=style, linewidth=2, label=label(name, WORDS)
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=label(STEP),
        ylabel=label(Text("log loss", "로그 손실")),
        title=label(Text("one floor for all lines", "모든 직선의 같은 바닥")),
    )
    axes.legend(fontsize=9)
    axes.grid(alpha=0.3)
    save(figure, path)


def draw_boundary(axes: Any, net: nn.Sequential) -> None:
    """Both sides of a net's boundary; dashed over it, that of the layer it collapses to."""
    a, b = np.meshgrid(np.linspace(-1.5, 2.5, 201), np.linspace(-1, 1.5, 201))
    plane = np.column_stack([a.ravel(), b.ravel()])
    heights = logits_of(net, plane).reshape(a.shape)
    limits = [-np.inf, 0, np.inf]
    axes.contourf(a, b, heights, limits, colors=["#56B4E9", "#E69F00"], alpha=0.6)
    axes.contour(a, b, heights, [0], colors="black", linewidths=1.5)
    if all(isinstance(layer, nn.Linear) for layer in net):
        one = logits_of(collapsed(net), plane).reshape(a.shape)
        axes.contour(a, b, one, [0], colors="white", linewidths=1.5, linestyles="dashed")
    points, moon = two_moons(200, 0)
    for value, marker, colour in ((0, "o", "white"), (1, "s", "black")):
        chosen = points[moon[:, 0] == value]
        axes.plot(*chosen.T, marker, color=colour, markeredgecolor="black", markersize=2.5)


KOREAN = """
활성화 함수가 없으면 10층도 한 층이고, 100층도 한 층입니다.

W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2): 선형 층은 아무리 이어 붙여도 하나라고 강의는
말합니다. float64로 확인한 세 가지 증거:

- 가중치를 곱해서 만든 한 층은 반올림 오차 안에서 여러 층과 같은 답을 냅니다.
- 출력의 기울기는 모든 가중치의 곱이고 어느 점에서나 같습니다. tanh 신경망은 그렇지 않습니다.
- 직선으로 가를 수 없는 두 반달을 배우면 선형 층 1개, 10개, 100개인 신경망이 아홉 자리까지 같은
  손실과 같은 직선으로 끝납니다. tanh 층 열 개는 모든 점을 맞힙니다.

강의가 말하지 않은 것: 신경망은 같아도 거기까지 가는 길은 다릅니다. 층마다 기울기에 다른 모든 층의
가중치가 곱해지기 때문입니다. Adam의 학습률 0.003으로 10층과 100층은 1,500스텝 안에 도착하지만 한
층은 손실 0.304에 머무르므로 여기서는 0.1을 씁니다. 학습률 0.01에서는 100층 다섯 개 중 두 개가
도착했다가 2,500스텝 뒤에 무엇을 물어도 0.5라고 답합니다.

    python examples/lectures/linear_collapse.py

그림은 out/lectures/linear_collapse.png에 저장합니다 (matplotlib 필요).
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    add = parser.add_argument
    add("--steps", type=whole(1), default=1_500, help=STEPS.say(default="1500"))
    add(
        "--rate",
        type=positive,
        default=0.003,
        help=Text(
            "of the deep nets (default: 0.003)", "깊은 신경망의 학습률 (기본값: 0.003)"
        ).say(),
    )
    add("--seed", type=whole(0), default=0, help=SEED.say(default="0"))
    args = parser.parse_args(argv)
    trained = train_all(args.steps, args.rate, args.seed)
    print_table(figures_of(trained, args.seed), list(trained))
    print_diagnoses(args.seed)
    save_picture(trained, args.out / "linear_collapse.png")


if __name__ == "__main__":
    launch(main)
