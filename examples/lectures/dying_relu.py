"""ReLU units that are knocked out, counted, and whether Leaky ReLU helps.

A ReLU that is 0 for every example has slope 0 for every example: no gradient reaches its weights.
The lecture says that such units are dead, and that Leaky ReLU (slope 0.01 below 0) cures it.

Three hidden layers of 100 units learn 1,437 small digits, from He's start, by Adam at three rates.
After each epoch we count the silent units: those that are at or below 0 for all of the digits.

- It is the learning rate that kills, and in the first epoch: from 5% of the units at the start to
  10% at Adam's usual 0.001, about 20% at 0.01 and 47 to 49% at 0.03 (means of five seeds; the
  spread is that of processors, which round differently).
- Dead is for ever in the first layer only: not one unit came back there. Further on, the layers
  below go on learning, so a unit's inputs change, and silent units fired again 64 to 800 times.
- Leaky ReLU has fewer silent units, about 28% at the highest rate, and they fire again in the first
  layer too, because their gradient is small, not 0. But the accuracy on other people's handwriting
  is no better, 0.88 to 0.92 against 0.90 to 0.93: 100 units a layer are more than the digits need.

In a narrow net it is different. The lecture's XOR net, ten ReLU layers of 5 units, U(-1, 1): in 16%
of the starts some layer is silent altogether. All gradients of such a net are exactly 0, and it
answers 0.5 for ever. With 3 units a layer these are 65%, with 10 less than 1%. `tk.diagnose` names
such a net before its first step, and offers tanh with Xavier's weights.

    python examples/lectures/dying_relu.py

The picture is saved as out/lectures/dying_relu.png (needs matplotlib).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import (
    DEFAULT,
    XOR_ANSWERS,
    XOR_POINTS,
    bar,
    digit_rows,
    in_words,
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
from tinygrad_kr import Tensor, data, nn, no_grad, optim
from tinygrad_kr.language import Text

ACTIVATIONS: dict[str, type[nn.Module]] = {"ReLU": nn.ReLU, "Leaky ReLU": nn.LeakyReLU}
RATES = (0.001, 0.01, 0.03)
WIDTHS, DEEPEST = (3, 5, 10), 15
PUBLISHED_DEAD = 0.15
WIDE = Text("{width} wide", "폭 {width}")


def make_net(activation: str, seed: int, layers: int = 3, width: int = 100) -> nn.Sequential:
    """64 inputs, hidden layers, 10 logits; weights by He's rule, biases 0."""
    tk.manual_seed(seed)
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise([64, *[width] * layers, 10]):
        layer = nn.Linear(inputs, outputs)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.get_parameter("bias"))
        parts += [layer, ACTIVATIONS[activation]()]
    return nn.Sequential(*parts[:-1])


def silent_units(net: nn.Sequential, images: np.ndarray) -> np.ndarray:
    """Which hidden units are at or below 0 for every image: (layers, width)."""
    h, silent = Tensor(images), []
    with no_grad():
        for layer in list(net)[:-1]:
            h = layer(h)
            if isinstance(layer, nn.Linear):
                silent.append((h.data <= 0).all(axis=0))
    return np.array(silent)


def gradient_of_silent(net: nn.Sequential, images: np.ndarray, labels: np.ndarray) -> float:
    """The largest gradient, in size, of a weight that leads into a silent unit."""
    net.zero_grad()
    F.cross_entropy(net(Tensor(images)), labels).backward()
    hidden = [layer for layer in list(net)[:-1] if isinstance(layer, nn.Linear)]
    rows = [
        layer.weight.grad.data[silent]
        for layer, silent in zip(hidden, silent_units(net, images), strict=True)
        if layer.weight.grad is not None
    ]
    return float(max((np.abs(row).max() for row in rows if row.size), default=np.nan))


class History(NamedTuple):
    """silent: (epochs + 1, layers, width). Then the gradient of the silent, and the accuracy."""

    silent: np.ndarray
    gradient: float
    accuracy: float

    @property
    def returned(self) -> np.ndarray:
        """How many times a silent unit fired again after the next epoch, by layer."""
        again: np.ndarray = (self.silent[:-1] & ~self.silent[1:]).sum(axis=(0, 2))
        return again


def train(activation: str, rate: float, epochs: int, seed: int) -> History:
    """Adam on batches of 50, counting silent units before and after each epoch."""
    net = make_net(activation, seed)
    images, labels = digit_rows("train")
    loader = data.DataLoader((images, labels), batch_size=50, shuffle=True)
    optimizer = optim.Adam(net.parameters(), lr=rate)
    silent = [silent_units(net, images)]
    for _ in range(epochs):
        for inputs, targets in loader:
            loss = F.cross_entropy(net(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        silent.append(silent_units(net, images))
    test_images, test_labels = digit_rows("test")
    with no_grad():
        right = net(Tensor(test_images)).data.argmax(axis=1) == test_labels
    gradient = gradient_of_silent(net, images, labels)
    return History(np.array(silent), gradient, float(right.mean()))


# ------------------------------------------------------------------ narrow nets, at their start


def dead_from_start(width: int, draws: int, seed: int) -> dict[int, float]:
    """The share of XOR nets, by depth, in which some layer is 0 for all four points.

    `draws` nets side by side, weights U(-1, 1), biases 0: once a layer is 0, all later ones are.
    """
    generator = np.random.default_rng(seed)
    h = Tensor(np.tile(XOR_POINTS.astype(float), (draws, 1, 1)))
    shares = {}
    for depth in range(1, DEEPEST + 1):
        weights = generator.uniform(-1, 1, (draws, width, h.shape[-1]))
        h = F.relu(F.linear(h, Tensor(weights)))
        shares[depth] = float((h.data == 0).all(axis=(1, 2)).mean())
    return shares


def a_dead_net(depth: int) -> nn.Sequential:
    """The first XOR net whose output is 0 for all four points."""
    nets = (make_xor_net(depth, seed) for seed in range(1_000))
    return next(net for net in nets if not net(Tensor(XOR_POINTS.astype(float))).data.any())


def diagnose(net: nn.Sequential) -> Any:
    """`tk.diagnose` of an XOR net, with the lecture's optimizer."""
    points = (XOR_POINTS.astype(float), XOR_ANSWERS.astype(float))
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    return tk.diagnose(net, F.binary_cross_entropy_with_logits, points, optimizer)


def gradients_of_a_dead_net(depth: int) -> tuple[float, float]:
    """The largest gradient, in size, of a weight and of a bias in a net whose output is 0."""
    net = a_dead_net(depth)
    logits = net(Tensor(XOR_POINTS.astype(float)))
    F.binary_cross_entropy_with_logits(logits, Tensor(XOR_ANSWERS.astype(float))).backward()
    largest = {"weight": 0.0, "bias": 0.0}
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        kind = name.split(".")[1]
        largest[kind] = max(largest[kind], float(np.abs(parameter.grad.data).max()))
    return largest["weight"], largest["bias"]


def make_xor_net(depth: int, seed: int) -> nn.Sequential:
    """The lecture's: hidden ReLU layers 5 wide, weights U(-1, 1), biases 0, a logit."""
    generator = np.random.default_rng(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([2, *[5] * depth, 1]):
        layer = nn.Linear(inputs, outputs, dtype=np.float64)
        nn.init.uniform_(layer.weight, -1, 1, generator)
        nn.init.zeros_(layer.get_parameter("bias"))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


# ------------------------------------------------------------------ the program


class Result(NamedTuple):
    """Histories by activation and rate, one a seed; shares of dead XOR nets by width and depth."""

    histories: dict[tuple[str, float], list[History]]
    dead: dict[int, dict[int, float]]


def measure(rates: Iterable[float], epochs: int, seeds: int, draws: int) -> Result:
    pairs = [(activation, rate) for rate in rates for activation in ACTIVATIONS]
    histories = {
        (activation, rate): [train(activation, rate, epochs, seed) for seed in range(seeds)]
        for _, (activation, rate) in zip(bar(len(pairs)), pairs, strict=True)
    }
    return Result(histories, {width: dead_from_start(width, draws, 0) for width in WIDTHS})


def run(
    *, rates: tuple[float, ...] = RATES, epochs: int = 20, seeds: int = 5, draws: int = 20_000
) -> dict[str, float]:
    """Shares of silent units at the start and at the end, returns, and XOR nets dead at birth."""
    return figures_of(measure(rates, epochs, seeds, draws))


def figures_of(result: Result) -> dict[str, float]:
    figures = {}
    for (activation, rate), histories in result.histories.items():
        name = f"{activation}, {rate:g}"
        silent = np.array([history.silent for history in histories])
        returned = np.array([history.returned for history in histories]).sum(axis=0)
        figures[f"{name}: silent at the start"] = float(silent[:, 0].mean())
        figures[f"{name}: silent at the end"] = float(silent[:, -1].mean())
        figures[f"{name}: returned in layer 1"] = float(returned[0])
        figures[f"{name}: returned further on"] = float(returned[1:].sum())
        gradients = [history.gradient for history in histories]
        figures[f"{name}: largest gradient of the silent"] = float(np.nanmax(gradients))
        accuracies = [history.accuracy for history in histories]
        figures[f"{name}: accuracy"] = float(np.mean(accuracies))
    for width, shares in result.dead.items():
        figures[f"XOR, 10 hidden, {width} wide: dead at the start"] = shares[10]
    weight, bias = gradients_of_a_dead_net(10)
    figures["XOR, a dead net: largest weight gradient"] = weight
    figures["XOR, a dead net: largest bias gradient"] = bias
    return figures


def print_figures(result: Result, figures: dict[str, float]) -> None:
    epochs = len(next(iter(result.histories.values()))[0].silent) - 1
    seeds = len(next(iter(result.histories.values())))
    title = Text(
        "digits, 3 x 100 units, Adam, {epochs} epochs, {seeds} seeds",
        "숫자, 유닛 3 x 100개, Adam, {epochs} 에포크, 시드 {seeds}개",
    )
    print(title.say(epochs=epochs, seeds=seeds))
    over = (Text("silent units", "죽은 유닛"), Text("fired again", "되살아난 횟수"),
            Text("gradient of", "죽은 유닛의"), Text("test", "테스트"))  # fmt: skip
    under = (Text("start", "처음"), Text("end", "끝"), Text("layer 1", "첫 층"),
             Text("later", "그 뒤"), Text("the silent", "기울기"),
             Text("accuracy", "정확도"))  # fmt: skip
    for texts, widths in ((over, (14, 20, 12, 9)), (under, (6, 7, 10, 9, 12, 9))):
        columns = (right(text.say(), width) for text, width in zip(texts, widths, strict=True))
        print(f"{'':30} " + " ".join(columns))
    for activation, rate in result.histories:
        name = f"{activation}, {rate:g}"
        print(
            f"{activation:12} {left(in_words(f'rate {rate:g}'), 17)} "
            f"{figures[f'{name}: silent at the start']:6.1%} "
            f"{figures[f'{name}: silent at the end']:7.1%} "
            f"{figures[f'{name}: returned in layer 1']:10.0f} "
            f"{figures[f'{name}: returned further on']:9.0f} "
            f"{figures[f'{name}: largest gradient of the silent']:12.1e} "
            f"{figures[f'{name}: accuracy']:9.3f}"
        )
    title = Text(
        "\nXOR, ten ReLU layers, dead before the first step    ours   reference",
        "\nXOR, ReLU 열 층, 첫 스텝 전에 이미 죽은 비율     우리 값   기준 측정값",
    )
    print(title.say())
    for width in result.dead:
        share = figures[f"XOR, 10 hidden, {width} wide: dead at the start"]
        published = f"{PUBLISHED_DEAD:11.2f}" if width == 5 else ""
        print(f"{right(WIDE.say(width=width), 9)} {share:47.3f}{published}")
    line = Text(
        "largest {kind} gradient of a dead net, in size {size:.3g}",
        "죽은 신경망의 {kind} 기울기, 크기의 최댓값 {size:.3g}",
    )
    for kind in ("weight", "bias"):
        size = figures[f"XOR, a dead net: largest {kind} gradient"]
        print(line.say(kind=in_words(kind), size=size))


def save_picture(result: Result, path: Path) -> None:
    """Silent units over the epochs; dead XOR nets by depth."""
    figure = new_figure(8, 3.6)
    if figure is None:
        return
    counts, dead = figure.subplots(1, 2)
    colours = dict(zip(RATES, ("#0072B2", "#009E73", "#D55E00"), strict=True))
    markers = dict(zip(RATES, "osD", strict=True))
    for (activation, rate), histories in result.histories.items():
        silent = np.array([history.silent for history in histories])
        counts.plot(
            100 * silent.mean(axis=(0, 2, 3)), color=colours.get(rate, "black"),
            linestyle="-" if activation == "ReLU" else "--", marker=markers.get(rate, "."),
            markersize=4, label=f"{activation}, {rate:g}",
        )  # fmt: skip
    counts.set(
        xlabel=label(Text("epoch", "에포크")),
        ylabel=label(Text("silent hidden units, %", "죽은 은닉 유닛, %")),
        title=label(Text("digits, Adam at three rates", "숫자, 세 학습률의 Adam")),
    )
    counts.set_ylim(0, 79)
    counts.xaxis.get_major_locator().set_params(integer=True)
    counts.legend(fontsize=8, ncols=2, loc="upper center")
    for (width, shares), style in zip(result.dead.items(), ("s:", "o-", "D--"), strict=True):
        percent = [100 * share for share in shares.values()]
        dead.plot(
            list(shares), percent, style, color="#D55E00", markersize=4,
            label=label(WIDE, width=width),
        )  # fmt: skip
    dead.set(
        xlabel=label(Text("hidden ReLU layers, U(-1, 1)", "ReLU 은닉층의 수, U(-1, 1)")),
        ylabel=label(Text("XOR nets with a dead layer, %", "층 하나가 죽은 XOR 신경망, %")),
        title=label(Text("XOR, before the first step", "XOR, 첫 스텝 전")),
    )
    dead.legend(fontsize=8)
    for axes in (counts, dead):
        axes.grid(alpha=0.3)
    save(figure, path)


KOREAN = """
죽은 ReLU 유닛을 세어 보고, Leaky ReLU가 도움이 되는지 봅니다.

모든 예제에 0을 내는 ReLU는 모든 예제에서 미분이 0이므로 그 가중치에는 기울기가 오지 않습니다.
강의는 그런 유닛은 죽은 것이고, Leaky ReLU(0 아래의 기울기 0.01)가 해결해 준다고 합니다.

유닛 100개인 은닉층 세 개가 작은 숫자 1,437개를 배웁니다. He 초기화, Adam, 학습률 세 가지.
에포크마다 모든 숫자에 0만 내는 유닛을 셉니다.

- 죽이는 것은 학습률이고, 그것도 첫 에포크입니다. 처음의 5%가 Adam의 흔한 학습률 0.001에서 10%,
  0.01에서 약 20%, 0.03에서 47에서 49%가 됩니다(시드 다섯 개의 평균. 범위는 프로세서의 반올림
  차이).
- 영영 죽는 것은 첫 층뿐입니다. 거기서는 한 유닛도 되살아나지 않았습니다. 그 뒤의 층에서는 앞 층이
  계속 배워서 입력이 바뀌므로 64번에서 800번 되살아났습니다.
- Leaky ReLU에는 죽은 유닛이 적고(가장 높은 학습률에서 약 28%), 기울기가 0이 아니라 작을 뿐이어서
  첫 층에서도 되살아납니다. 그러나 다른 사람이 쓴 숫자에 대한 정확도는 나아지지 않습니다. 0.88에서
  0.92 대 0.90에서 0.93입니다. 층마다 유닛 100개는 이 숫자에 넉넉합니다.

좁은 신경망에서는 다릅니다. 강의의 XOR 신경망, 폭 5인 ReLU 층 열 개, U(-1, 1)에서는 초깃값의
16%에서 어느 한 층이 모두 죽어 있습니다. 그런 신경망의 기울기는 모두 정확히 0이고 언제까지나
0.5라고 답합니다. 폭 3이면 65%, 폭 10이면 1%도 되지 않습니다.

    python examples/lectures/dying_relu.py

그림은 out/lectures/dying_relu.png에 저장합니다 (matplotlib 필요).
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    add = parser.add_argument
    add(
        "--rates",
        type=positive,
        nargs="+",
        default=RATES,
        help=DEFAULT.say(default="0.001 0.01 0.03"),
    )
    add("--epochs", type=whole(1), default=20, help=DEFAULT.say(default="20"))
    add(
        "--seeds",
        type=whole(1),
        default=5,
        help=Text("nets for each setting (default: 5)", "설정마다 신경망의 수 (기본값: 5)").say(),
    )
    args = parser.parse_args(argv)
    result = measure(args.rates, args.epochs, args.seeds, 20_000)
    print_figures(result, figures_of(result))
    dead = Text("the dead XOR net, ten ReLU layers", "죽은 XOR 신경망, ReLU 열 층")
    print_diagnosis(dead, diagnose(a_dead_net(10)))
    save_picture(result, args.out / "dying_relu.png")


if __name__ == "__main__":
    launch(main)
