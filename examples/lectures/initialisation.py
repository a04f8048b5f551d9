"""Where the weights start: zeros, U(-1, 1), N(0, 1), three "Xaviers" and He, with ReLU and sigmoid.

Three different rules are called Xavier in the lectures. For 784 -> 256 inputs and outputs:

    xavier_2010(784)                       randn / sqrt(784)            standard deviation 0.0357
    xavier_init(784, 256)                  U(+-sqrt(6 / (784 + 256)))                      0.0439
    xavier_init(784, 256, uniform=False)   N(0, 3 / (784 + 256)), cut at two of its 0.0537: 0.0472
    he_2015(784)                           randn / sqrt(784 / 2)                           0.0505

A net 784-256-256-10 learns MNIST from each of them, two epochs of Adam 0.001, batches of 100. Only
the weights differ: all biases start at 0.

- Zeros, ReLU: every weight's gradient is exactly 0, at every step, as the lecture says. Only the
  output's bias learns, how frequent each digit is: cost 2.30 = log 10, 11% right.
- Zeros, sigmoid: the hidden outputs are 0.5, so the last layer's weights do move, and then the
  others; but all units of a layer get the same gradient. Only rounding can part them, if it differs
  in different places of a matrix product. Whether it does depends on the processor's kernels: in
  four runs of this program the units never parted (0.25 right after 1,100 steps), or differed by
  0.6 of the largest weight (0.28), or had parted early enough for 0.57 or 0.82.
- With ReLU the three Xaviers and He can hardly be told apart, all about 0.97. U(-1, 1) and N(0, 1)
  start at costs of 311 and 2,469 and are at 0.91 and 0.90 when the scaled ones have 0.97.
- With sigmoid they are alike too (0.942 to 0.944), and U(-1, 1) is little worse, 0.936: two hidden
  layers are not deep enough for sigmoid to fail (vanishing.py). All of this with one seed, 0.

    python examples/lectures/initialisation.py
    python examples/lectures/initialisation.py --data digits    # seconds, no download

The picture is saved as out/lectures/initialisation.png (needs matplotlib).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import (
    XOR_ANSWERS,
    XOR_POINTS,
    bar,
    in_words,
    kinds_of,
    label,
    launch,
    left,
    new_figure,
    options,
    print_diagnosis,
    right,
    save,
    whole,
)

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, data, nn, no_grad, optim
from tinygrad_kr.language import Text
from tinygrad_kr.nn import init

ACTIVATIONS: dict[str, type[nn.Module]] = {"ReLU": nn.ReLU, "sigmoid": nn.Sigmoid}


class Start(NamedTuple):
    """How a layer's weight (outputs, inputs) is filled, and the standard deviation that it gets."""

    fill: Callable[[Tensor, int, int], Tensor]
    formula: str
    std: Callable[[int, int], float]


STARTS = {
    "zeros": Start(lambda w, n, m: init.zeros_(w), "0", lambda n, m: 0.0),
    "U(-1, 1)": Start(
        lambda w, n, m: init.uniform_(w, -1, 1), "1 / sqrt(3)", lambda n, m: 1 / math.sqrt(3)
    ),
    "N(0, 1)": Start(lambda w, n, m: init.normal_(w), "1", lambda n, m: 1.0),
    "xavier_2010": Start(
        lambda w, n, m: init.xavier_2010(n)(w), "1 / sqrt(n)", lambda n, m: 1 / math.sqrt(n)
    ),
    "xavier_init": Start(
        lambda w, n, m: init.xavier_init(n, m)(w),
        "sqrt(2 / (n + m))",
        lambda n, m: math.sqrt(2 / (n + m)),
    ),
    "xavier_init, normal": Start(
        lambda w, n, m: init.xavier_init(n, m, uniform=False)(w),
        "0.8796 sqrt(3 / (n + m))",  # what is left of a normal's deviation between -2 and 2
        lambda n, m: 0.8796256610342398 * math.sqrt(3 / (n + m)),
    ),
    "he_2015": Start(
        lambda w, n, m: init.he_2015(n)(w), "sqrt(2 / n)", lambda n, m: math.sqrt(2 / n)
    ),
}
WORDS = (Text("zeros", "모두 0"), Text("normal", "정규 분포"))
PUBLISHED_STD = {"xavier_2010": 0.0357, "xavier_init": 0.0439, "xavier_init, normal": 0.0472}


# ------------------------------------------------------------------ nets


class Images(NamedTuple):
    """Rows of pixels from 0 to 1, and labels."""

    name: str
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def load(name: str) -> Images:
    """MNIST, the first 55,000, or the 1,437 small digits; "auto": MNIST where it is here."""
    if name != "digits":
        try:
            pairs = [data.mnist(split, download=name == "mnist") for split in ("train", "test")]
            return rows("mnist", pairs[0][0][:55_000], pairs[0][1][:55_000], *pairs[1])
        except data.DatasetNotFoundError as error:
            if name == "mnist":
                sys.exit(f"error: {error}")
            line = Text(
                "MNIST is not on this computer: the small digits take its place (--data mnist)",
                "이 컴퓨터에 MNIST가 없어 작은 숫자 이미지로 대신합니다 (--data mnist)",
            )
            print(line.say())
    return rows("digits", *data.digits("train"), *data.digits("test"))


def rows(name: str, images: Any, labels: Any, test_images: Any, test_labels: Any) -> Images:
    flat, test_flat = (each.reshape(len(each), -1) for each in (images, test_images))
    return Images(name, (flat, labels), (test_flat, test_labels))


def make_net(activation: str, start: str, sizes: tuple[int, ...], seed: int) -> nn.Sequential:
    """Linear layers with an activation between them; biases 0."""
    tk.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layer = nn.Linear(inputs, outputs)
        STARTS[start].fill(layer.weight, inputs, outputs)
        init.zeros_(layer.get_parameter("bias"))
        layers += [layer, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


class Run(NamedTuple):
    """The cost of every batch, the share of the test images that are right, and the net."""

    costs: np.ndarray
    accuracy: float
    net: nn.Sequential


def train(net: nn.Sequential, images: Images, steps: int, batch: int, rate: float) -> Run:
    """Adam on shuffled batches."""
    loader = data.DataLoader(images.train, batch_size=batch, shuffle=True)
    optimizer = optim.Adam(net.parameters(), lr=rate)
    costs: list[float] = []
    while len(costs) < steps:
        for inputs, labels in loader:
            cost = F.cross_entropy(net(inputs), labels)
            optimizer.zero_grad()
            cost.backward()
            optimizer.step()
            costs.append(cost.item())
            if len(costs) == steps:
                break
    with no_grad():
        right = net(Tensor(images.test[0])).data.argmax(axis=1) == images.test[1]
    return Run(np.array(costs), float(right.mean()), net)


def train_all(
    images: Images, steps: int, batch: int, rate: float, seed: int
) -> dict[tuple[str, str], Run]:
    """Every activation from every start, on the same batches."""
    sizes = (images.train[0].shape[1], 256, 256, 10)
    pairs = [(activation, start) for activation in ACTIVATIONS for start in STARTS]
    runs = {}
    for _, (activation, start) in zip(bar(len(pairs)), pairs, strict=True):
        net = make_net(activation, start, sizes, seed)
        tk.manual_seed(seed)
        runs[activation, start] = train(net, images, steps, batch, rate)
    return runs


# ------------------------------------------------------------------ what zeros do


def first_gradients(net: nn.Sequential, inputs: Any, labels: Any) -> dict[str, float]:
    """The largest gradient, in size, of each parameter, before any step."""
    net.zero_grad()
    F.cross_entropy(net(Tensor(inputs)), labels).backward()
    return {
        name: 0.0 if p.grad is None else float(np.abs(p.grad.data).max())
        for name, p in net.named_parameters()
    }


def diagnosis(gradients: dict[str, float]) -> str:
    """What a look at the gradients of one step says about a start."""
    still = [name for name, size in gradients.items() if name.endswith("weight") and size == 0]
    weights = [name for name in gradients if name.endswith("weight")]
    if not still:
        return Text("every weight learns", "모든 가중치가 배웁니다").say()
    if len(still) == len(weights):
        line = Text(
            "no weight learns: their gradients are exactly 0",
            "아무 가중치도 배우지 못합니다. 기울기가 정확히 0입니다",
        )
        return line.say()
    line = Text(
        "{still} of {all} weights have a gradient of exactly 0: {names}",
        "가중치 {all}개 중 {still}개의 기울기가 정확히 0: {names}",
    )
    return line.say(still=len(still), all=len(weights), names=", ".join(still))


def diagnose(net: nn.Sequential, images: Images) -> Any:
    """`tk.diagnose` on 200 images, with the optimizer of the training."""
    inputs, labels = (np.ascontiguousarray(part[:200]) for part in images.train)
    optimizer = optim.Adam(net.parameters(), lr=0.001)
    return tk.diagnose(net, F.cross_entropy, (inputs, labels), optimizer)


def difference_between_units(net: nn.Sequential) -> float:
    """How far apart the second hidden layer's units are, over the size of its largest weight."""
    weight = net[2].weight.data
    return float(np.ptp(weight, axis=0).max() / max(np.abs(weight).max(), np.finfo(float).tiny))


def zero_xor_gradient() -> float:
    """The largest weight gradient, in size, of the sigmoid net 2-2-1 on XOR from zeros."""
    points, answers = Tensor(XOR_POINTS.astype(float)), Tensor(XOR_ANSWERS.astype(float))
    net = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1), nn.Sigmoid()).double()
    for parameter in net.parameters():
        init.zeros_(parameter)
    F.binary_cross_entropy(net(points), answers).backward()
    return float(max(np.abs(net[place].weight.grad.data).max() for place in (0, 2)))


# ------------------------------------------------------------------ the program


def sample_std(start: str, inputs: int = 784, outputs: int = 256, seed: int = 0) -> float:
    """The standard deviation of a weight (outputs, inputs) that was drawn."""
    tk.manual_seed(seed)
    weight = STARTS[start].fill(Tensor(np.empty((outputs, inputs))), inputs, outputs)
    return float(weight.data.std())


def run(
    *,
    steps: int = 1_100,
    batch: int = 100,
    rate: float = 0.001,
    seed: int = 0,
    data_name: str = "auto",
) -> dict[str, float]:
    """Standard deviations, first gradients from zeros, costs and accuracies by start."""
    images = load(data_name)
    return figures_of(train_all(images, steps, batch, rate, seed), images)


def figures_of(runs: dict[tuple[str, str], Run], images: Images) -> dict[str, float]:
    figures = {f"{start}: standard deviation": sample_std(start) for start in STARTS}
    inputs, labels = images.train[0][:1_000], images.train[1][:1_000]
    sizes = (inputs.shape[1], 256, 256, 10)
    for activation in ACTIVATIONS:
        fresh = first_gradients(make_net(activation, "zeros", sizes, 0), inputs, labels)
        for name, size in fresh.items():
            figures[f"{activation}, zeros: first gradient of {name}"] = size
        difference = difference_between_units(runs[activation, "zeros"].net)
        figures[f"{activation}, zeros: difference between units"] = difference
    figures["XOR, sigmoid 2-2-1, zeros: largest weight gradient"] = zero_xor_gradient()
    for (activation, start), one in runs.items():
        figures[f"{activation}, {start}: first cost"] = float(one.costs[0])
        figures[f"{activation}, {start}: last cost"] = float(one.costs[-50:].mean())
        figures[f"{activation}, {start}: accuracy"] = one.accuracy
    return figures


def print_stds() -> None:
    title = Text(
        "784 -> 256 (n = 784, m = 256)   standard deviation   sample   formula   published",
        "784 -> 256 (n = 784, m = 256)             표준편차     표본      공식   공개된 값",
    )
    print(title.say())
    for name, start in STARTS.items():
        published = PUBLISHED_STD.get(name)
        print(
            f"{left(in_words(name, WORDS), 22)} {start.formula:>27} "
            f"{sample_std(name):8.4f} {start.std(784, 256):9.4f}   "
            f"{'' if published is None else f'{published:.4f}'}".rstrip()
        )
    line = Text(
        "xavier_init, normal, is sqrt(3 / (n + m)) = {std:.4f} before it is cut\n",
        "정규 분포 xavier_init의 표준편차는 자르기 전에는 sqrt(3 / (n + m)) = {std:.4f}\n",
    )
    print(line.say(std=math.sqrt(3 / 1040)))


def print_zeros(images: Images) -> None:
    sizes = (images.train[0].shape[1], 256, 256, 10)
    title = Text(
        "zeros: the largest gradient of each parameter at the first step, on 1,000 images",
        "0으로 초기화: 첫 스텝에서 파라미터별 기울기의 최댓값, 이미지 1,000장",
    )
    print(title.say())
    for activation in ACTIVATIONS:
        net = make_net(activation, "zeros", sizes, 0)
        gradients = first_gradients(net, images.train[0][:1_000], images.train[1][:1_000])
        cells = "  ".join(f"{name} {size:.2g}" for name, size in gradients.items())
        name = left(in_words(activation), 10)
        print(f"  {name} {cells}\n             {diagnosis(gradients)}")
    line = Text(
        "  XOR, sigmoid 2-2-1: largest weight gradient {size:g}\n",
        "  XOR, 시그모이드 2-2-1: 가중치 기울기의 최댓값 {size:g}\n",
    )
    print(line.say(size=zero_xor_gradient()))


def print_diagnoses(images: Images, seed: int) -> None:
    """What `tk.diagnose` finds at each start; its remedy for zeros."""
    sizes = (images.train[0].shape[1], 256, 256, 10)
    title = Text("tk.diagnose, before the first step", "tk.diagnose, 첫 스텝 전")
    print(
        f"{left(title.say(), 40)} " + "".join(left(in_words(a), 24) for a in ACTIVATIONS).rstrip()
    )
    for start in STARTS:
        reports = [diagnose(make_net(a, start, sizes, seed), images) for a in ACTIVATIONS]
        kinds = "".join(left(kinds_of(report), 24) for report in reports).rstrip()
        print(f"  {left(in_words(start, WORDS), 38)} {kinds}")
    net = Text("ReLU from zeros", "모두 0인 ReLU 신경망")
    print_diagnosis(net, diagnose(make_net("ReLU", "zeros", sizes, seed), images))
    print()


def print_runs(figures: dict[str, float], images: Images, steps: int) -> None:
    title = Text(
        "{name}, {inputs}-256-256-10, {steps:,} steps of Adam",
        "{name}, {inputs}-256-256-10, Adam {steps:,}스텝",
    )
    name = in_words(images.name, WORDS)
    print(title.say(name=name, inputs=images.train[0].shape[1], steps=steps))
    names = [left(" " * 12 + in_words(name), 31) for name in ACTIVATIONS]
    print(f"{'':22} " + "   ".join(names).rstrip())
    first, last = Text("first cost", "첫 비용").say(), Text("last", "마지막").say()
    columns = f"{right(first, 11)} {right(last, 8)} {right(in_words('accuracy'), 10)}"
    print(f"{'':22} " + "   ".join([columns] * 2))
    for start in STARTS:
        cells = [
            f"{figures[f'{activation}, {start}: first cost']:11.4f} "
            f"{figures[f'{activation}, {start}: last cost']:8.4f} "
            f"{figures[f'{activation}, {start}: accuracy']:10.4f}"
            for activation in ACTIVATIONS
        ]
        print(f"{left(in_words(start, WORDS), 22)} " + "   ".join(cells))
    line = Text(
        "zeros, {activation}: units differ by {difference:.1e} of the largest weight",
        "모두 0, {activation}: 유닛끼리의 차이는 가장 큰 가중치의 {difference:.1e}",
    )
    for activation in ACTIVATIONS:
        difference = figures[f"{activation}, zeros: difference between units"]
        print(line.say(activation=in_words(activation), difference=difference))
    line = Text(
        "after 15 epochs (labs 10-2, 10-3) the lecture has N(0, 1) 0.9455, Xavier 0.9783",
        "강의의 15 에포크 뒤 값(실습 10-2, 10-3): N(0, 1) 0.9455, Xavier 0.9783",
    )
    print(line.say())


def save_picture(runs: dict[tuple[str, str], Run], path: Path) -> None:
    """Smoothed cost curves, a panel for each activation."""
    figure = new_figure(8, 4)
    if figure is None:
        return
    panels = figure.subplots(1, len(ACTIVATIONS), sharey=True)
    colours = ["black", "#E69F00", "#D55E00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7"]
    styles = [":", "-", "-", "-", "--", "-.", (0, (5, 1, 1, 1, 1, 1))]
    for axes, activation in zip(panels, ACTIVATIONS, strict=True):
        for start, colour, style in zip(STARTS, colours, styles, strict=True):
            costs = runs[activation, start].costs
            window = min(25, len(costs))
            means = np.convolve(costs, np.ones(window) / window, "valid")
            places = np.arange(window, len(costs) + 1)
            axes.plot(
                places,
                means,
                color=colour,
                linestyle=style,
                linewidth=1.8,
                label=label(start, WORDS),
            )
        axes.set(yscale="log", xlabel=label(Text("step", "스텝")), title=label(activation))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(label(Text("cost, mean of 25 batches", "비용, 25개 배치의 평균")))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    save(figure, path)


KOREAN = """
가중치는 어디에서 출발하는가: 0, U(-1, 1), N(0, 1), 세 가지 "Xavier", He. ReLU와 시그모이드로.

강의에서는 서로 다른 세 규칙을 Xavier라고 부릅니다. 입력 784개, 출력 256개일 때:

    xavier_2010(784)                       randn / sqrt(784)               표준편차 0.0357
    xavier_init(784, 256)                  U(+-sqrt(6 / (784 + 256)))               0.0439
    xavier_init(784, 256, uniform=False)   N(0, 3 / (784 + 256)), 0.0537의 두 배에서 자름: 0.0472
    he_2015(784)                           randn / sqrt(784 / 2)                    0.0505

신경망 784-256-256-10이 저마다에서 출발하여 MNIST를 배웁니다. 2 에포크, Adam 0.001, 배치 100. 다른
것은 가중치뿐이고, 편향은 모두 0에서 출발합니다.

- 0, ReLU: 강의가 말하듯 가중치의 기울기가 모든 스텝에서 정확히 0입니다. 출력층의 편향만 각 숫자가
  얼마나 자주 나오는지를 배웁니다. 비용 2.30 = log 10, 정확도 11%.
- 0, 시그모이드: 은닉층의 출력이 0.5이므로 마지막 층의 가중치가 움직이고, 그다음 다른 층도
  움직입니다. 그러나 한 층의 유닛은 모두 같은 기울기를 받습니다. 유닛들이 서로 달라지는지는 행렬
  곱의 자리마다 반올림이 다른지, 곧 프로세서의 커널에 달려 있습니다. 네 번 실행하니 끝까지
  같거나(1,100스텝 뒤에 0.25), 가장 큰 가중치의 0.6배만큼 다르거나(0.28), 일찍 갈라져 0.57이나
  0.82가 되었습니다.
- ReLU에서는 세 Xavier와 He가 모두 약 0.97로 거의 같습니다. U(-1, 1)과 N(0, 1)은 비용 311과
  2,469에서 출발하여, 나머지가 0.97일 때 0.91과 0.90입니다.
- 시그모이드에서도 비슷합니다(0.942에서 0.944). U(-1, 1)도 0.936으로 조금 못할 뿐입니다. 은닉층 두
  개는 시그모이드가 실패할 만큼 깊지 않습니다(vanishing.py). 모두 시드 0 하나의 결과입니다.

    python examples/lectures/initialisation.py
    python examples/lectures/initialisation.py --data digits    # 몇 초, 내려받지 않음

그림은 out/lectures/initialisation.png에 저장합니다 (matplotlib 필요).
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    add = parser.add_argument
    add(
        "--data",
        choices=["auto", "mnist", "digits"],
        default="auto",
        help=Text("auto: MNIST if it is here", "auto: MNIST가 있으면 MNIST").say(),
    )
    add(
        "--steps",
        type=whole(1),
        default=1_100,
        help=Text(
            "default: 1100, two epochs of MNIST", "학습 스텝 수 (기본값: 1100, MNIST 2 에포크)"
        ).say(),
    )
    add(
        "--seed",
        type=whole(0),
        default=0,
        help=Text(
            "of the weights and the batches (default: 0)", "가중치와 배치의 시드 (기본값: 0)"
        ).say(),
    )
    args = parser.parse_args(argv)
    print_stds()
    images = load(args.data)
    print_zeros(images)
    print_diagnoses(images, args.seed)
    runs = train_all(images, args.steps, 100, 0.001, args.seed)
    print_runs(figures_of(runs, images), images, args.steps)
    save_picture(runs, args.out / "initialisation.png")


if __name__ == "__main__":
    launch(main)
