"""Pre-training as the lecture tells it: encode, decode, compare; then the next layer.

The lecture: a layer encodes its input, h = sigmoid(W x + b), and the same weights decode it,
x' = sigmoid(W^T h + c). Change W until x' is near x, without any labels. Then do the same with h
for the next layer, and so on. The weights found so are a good start: fine-tune the whole net with
the labels. (The layers of 2006 were restricted Boltzmann machines, as in dbn.py; an autoencoder is
the same picture without chance.)

A net 64-64-64-64-64-10 of sigmoid layers on 1,437 small digits, all weights N(0, 0.01^2) at the
start; test accuracies from five seeds:

- Without pre-training it answers one digit to everything, 0.10, after 30 epochs of plain SGD.
- With it the same 30 epochs reach about 0.92. Each layer learned for 20 epochs to give its input
  back, and through all four layers and back again a digit is still that digit (the picture).
- ReLU from He's start reaches 0.94 without it. That made pre-training unnecessary.
- But not where labels are few. With 100 labels the pre-trained net is ahead, about 0.83 to 0.75:
  its layers have seen all 1,437 images, for which they needed no labels.

    python examples/lectures/autoencoder.py

The picture is saved as out/lectures/autoencoder.png (needs matplotlib).
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import (
    GREEN,
    ORANGE,
    digit_rows,
    in_words,
    label,
    launch,
    left,
    new_figure,
    options,
    progress_bar,
    right,
    save,
    whole,
)

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, data, nn, no_grad, optim
from tinygrad_kr.language import Text

HIDDEN = (64, 64, 64, 64)
PLAIN, PRETRAINED, HE = "sigmoid, N(0, 0.01^2)", "the same, pre-trained", "ReLU, He"
WORDS = (Text("the same, pre-trained", "같은 것, 사전 학습"), Text("autoencoders", "오토인코더"))


class Autoencoder(nn.Module):
    """One layer and its way back, with the same weights; both give logits."""

    def __init__(self, inputs: int, units: int) -> None:
        self.layer = nn.Linear(inputs, units)
        nn.init.normal_(self.layer.weight, std=0.01)
        nn.init.zeros_(self.layer.get_parameter("bias"))
        self.back = nn.Parameter(tk.zeros(inputs))

    def encode(self, x: Tensor) -> Any:
        return F.sigmoid(self.layer(x))

    def decode(self, h: Tensor) -> Any:
        return F.sigmoid(self.logits(h))

    def logits(self, h: Tensor) -> Any:
        return h @ self.layer.weight + self.back


def learn_to_copy(coder: Autoencoder, inputs: np.ndarray, epochs: int, advance: Any) -> None:
    """SGD 0.1 on the cross-entropy between each input and what comes back of it."""
    optimizer = optim.SGD(coder.parameters(), lr=0.1)

    @tk.compile
    def step(x: Any) -> Any:
        logits = coder.logits(coder.encode(x))
        loss = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(epochs):
        for batch in data.DataLoader(inputs, batch_size=10, shuffle=True):
            step(batch)
        advance()


def pretrained_layers(
    images: np.ndarray, hidden: tuple[int, ...], epochs: int, advance: Any = lambda: None
) -> list[Autoencoder]:
    """An autoencoder for each layer, which learns to copy the codes of the layer below."""
    coders, codes = [], images
    for inputs, units in pairwise((images.shape[1], *hidden)):
        coders.append(Autoencoder(inputs, units))
        learn_to_copy(coders[-1], codes, epochs, advance)
        with no_grad():
            codes = coders[-1].encode(Tensor(codes)).numpy()
    return coders


def up_and_down(coders: list[Autoencoder], images: np.ndarray) -> np.ndarray:
    """Images through all encoders and back through all decoders."""
    with no_grad():
        h = Tensor(images)
        for coder in coders:
            h = coder.encode(h)
        for coder in reversed(coders):
            h = coder.decode(h)
    return h.numpy()


def classifier(coders: list[Autoencoder]) -> nn.Sequential:
    """The encoders as the layers of a net, and 10 logits."""
    layers: list[nn.Module] = []
    for coder in coders:
        layers += [coder.layer, nn.Sigmoid()]
    last = Autoencoder(coders[-1].layer.weight.shape[0], 10).layer
    return nn.Sequential(*layers, last)


def relu_net(sizes: tuple[int, ...]) -> nn.Sequential:
    """The same net with ReLU, from He's start."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layer = nn.Linear(inputs, outputs)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.get_parameter("bias"))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def fine_tune(
    net: nn.Sequential, images: np.ndarray, labels: np.ndarray, epochs: int, advance: Any
) -> list[float]:
    """Plain SGD 0.2 on the labels; the accuracy on the test digits after each epoch."""
    optimizer = optim.SGD(net.parameters(), lr=0.2)
    test_images, test_labels = digit_rows("test")

    @tk.compile
    def step(x: Any, y: Any) -> Any:
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    accuracies = []
    for _ in range(epochs):
        for inputs, targets in data.DataLoader((images, labels), batch_size=10, shuffle=True):
            step(inputs, targets)
        with no_grad():
            right = net(Tensor(test_images)).data.argmax(axis=1) == test_labels
        accuracies.append(float(right.mean()))
        advance()
    return accuracies


class Result(NamedTuple):
    """What the nets reached, and what autoencoders make of test digits."""

    accuracies: dict[str, np.ndarray]
    """By net: (seeds, epochs)."""
    few: dict[str, np.ndarray]
    """The same with few labels."""
    errors: np.ndarray
    """Mean square error a pixel through 1, 2, ... layers and back: (seeds, layers)."""
    copies: np.ndarray
    """Of the first seed, digits through 0, 1, 2, ... layers and back: (layers + 1, 7, 64)."""


def measure(seeds: int, pretrain_epochs: int, epochs: int, labels: int, seed: int) -> Result:
    """The three nets from each seed with all labels; two of them with few, too."""
    images, classes = digit_rows("train")
    test_images = digit_rows("test")[0]
    total = seeds * (len(HIDDEN) * pretrain_epochs + 5 * epochs)
    bar = progress_bar(total, in_words("autoencoders", WORDS), unit="epoch")
    accuracies: dict[str, list[list[float]]] = {PLAIN: [], PRETRAINED: [], HE: []}
    few: dict[str, list[list[float]]] = {PRETRAINED: [], HE: []}
    errors, copies = [], []
    for number in range(seed, seed + seeds):
        for kind, found in accuracies.items():
            tk.manual_seed(number)
            if kind == HE:
                net = relu_net((64, *HIDDEN, 10))
            else:
                rounds = pretrain_epochs if kind == PRETRAINED else 0
                coders = pretrained_layers(images, HIDDEN, rounds, bar.update)
                net = classifier(coders)
            if kind == PRETRAINED:
                depths = range(len(HIDDEN) + 1)
                copies.append([up_and_down(coders[:depth], test_images) for depth in depths])
                errors.append([float(((c - test_images) ** 2).mean()) for c in copies[-1][1:]])
            start = {name: array.copy() for name, array in net.state_dict().items()}
            found.append(fine_tune(net, images, classes, epochs, bar.update))
            if kind in few:
                net.load_state_dict(start)
                some = images[:labels], classes[:labels]
                few[kind].append(fine_tune(net, *some, epochs, bar.update))
    bar.close()
    reached, with_few = (
        {kind: np.array(rows) for kind, rows in part.items()} for part in (accuracies, few)
    )
    return Result(reached, with_few, np.array(errors), np.array(copies[0])[:, :7])


# ------------------------------------------------------------------ the program


def run(
    *, seeds: int = 5, pretrain_epochs: int = 20, epochs: int = 30, labels: int = 100, seed: int = 0
) -> dict[str, float]:
    """Mean test accuracies by net, with all labels and with few, and the errors of copies."""
    return figures_of(measure(seeds, pretrain_epochs, epochs, labels, seed))


def figures_of(result: Result) -> dict[str, float]:
    figures = {}
    for what, part in (("all labels", result.accuracies), ("few labels", result.few)):
        for kind, accuracies in part.items():
            last = accuracies[:, -1]
            figures[f"{kind}, {what}: accuracy"] = float(last.mean())
            figures[f"{kind}, {what}: lowest"] = float(last.min())
            figures[f"{kind}, {what}: highest"] = float(last.max())
    for depth, error in enumerate(result.errors.mean(axis=0), 1):
        figures[f"through {depth} layers and back: error"] = float(error)
    return figures


def print_figures(result: Result, figures: dict[str, float], labels: int) -> None:
    title = Text("digits, 64-{hidden}-10, {seeds} seeds", "숫자, 64-{hidden}-10, 시드 {seeds}개")
    print(title.say(hidden="-".join(map(str, HIDDEN)), seeds=len(result.errors)))
    all_labels = Text("all labels", "모든 레이블").say()
    few_labels = Text("{labels} labels", "레이블 {labels}개").say(labels=labels)
    print(f"{left(in_words('test accuracy'), 24)} {right(all_labels, 24)} {right(few_labels, 24)}")
    cell = Text("{mean:.3f} ({low:.3f} to {high:.3f})", "평균 {mean:.3f} ({low:.3f}~{high:.3f})")
    for kind in result.accuracies:
        cells = []
        for what in ("all labels", "few labels"):
            name = f"{kind}, {what}"
            mean, low, high = (
                figures.get(f"{name}: {which}") for which in ("accuracy", "lowest", "highest")
            )
            cells.append("" if mean is None else cell.say(mean=mean, low=low, high=high))
        name = left(in_words(kind, WORDS), 24)
        print(f"{name} {right(cells[0], 24)} {right(cells[1], 24)}".rstrip())
    title = Text(
        "\nup through so many layers and back, error a pixel (variance {variance:.4f})",
        "\n그만큼의 층을 올라갔다가 되돌아올 때, 픽셀당 오차 (분산 {variance:.4f})",
    )
    print(title.say(variance=digit_rows("test")[0].var(axis=0).mean()))
    several, one = Text("{depth} layers", "{depth}개 층").say, Text("1 layer", "1개 층").say
    for depth in range(1, len(HIDDEN) + 1):
        error = figures[f"through {depth} layers and back: error"]
        print(f"  {left(several(depth=depth) if depth > 1 else one(), 8)}  {error:.4f}")
    line = Text(
        "the lecture gives no figures; it says: encode, decode, compare, then fine-tune",
        "강의에 수치는 없습니다. 부호화하고, 복원하고, 비교한 다음 미세 조정한다고 합니다",
    )
    print(line.say())


def save_picture(result: Result, path: Path) -> None:
    """Accuracies by epoch; digits and what comes back of them."""
    figure = new_figure(8, 3.7)
    if figure is None:
        return
    curves, copies = figure.subplots(1, 2, width_ratios=[1, 1.25])
    looks = {PLAIN: ("black", ":"), PRETRAINED: (ORANGE, "-"), HE: (GREEN, "--")}
    for kind, accuracies in result.accuracies.items():
        colour, style = looks[kind]
        epochs = range(1, accuracies.shape[1] + 1)
        curves.plot(epochs, accuracies.T, color=colour, linestyle=style, linewidth=0.6, alpha=0.6)
        curves.plot(
            epochs, accuracies.mean(axis=0), color=colour, linestyle=style, label=label(kind, WORDS)
        )
    curves.set(
        xlabel=label(Text("epoch", "에포크")),
        ylabel=label(Text("share of test digits right", "맞힌 테스트 숫자의 비율")),
        ylim=(0, 1),
    )
    curves.set_title(label(Text("fine-tuning with labels", "레이블로 미세 조정")), fontsize=10)
    curves.legend(fontsize=8, loc="center right")
    curves.grid(alpha=0.3)
    rows, count, _ = result.copies.shape
    squares = result.copies.reshape(rows, count, 8, 8)
    squares = np.pad(squares, [(0, 0)] * 2 + [(1, 1)] * 2, constant_values=np.nan)
    wall = squares.swapaxes(1, 2).reshape(rows * 10, count * 10)
    copies.imshow(wall, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    through = Text("through {depth}", "{depth}개 층")
    names = [label("digits"), *(label(through, depth=depth) for depth in range(1, rows))]
    copies.set_yticks(np.arange(rows) * 10 + 4.5, names, fontsize=9)
    copies.set_xticks([])
    copies.tick_params(length=0)
    copies.spines[:].set_color("lightgray")
    title = Text(
        "test digits, up through so many layers and back",
        "테스트 숫자, 그만큼의 층을 올라갔다가 되돌아온 것",
    )
    copies.set_title(label(title), fontsize=10)
    save(figure, path)


KOREAN = """
강의가 말하는 사전 학습: 부호화하고, 복원하고, 비교하고, 다음 층으로.

강의: 한 층이 입력을 h = sigmoid(W x + b)로 부호화하고, 같은 가중치로 x' = sigmoid(W^T h + c)를
복원합니다. 레이블 없이 x'이 x에 가까워지도록 W를 바꿉니다. 그다음 h를 입력으로 하여 다음 층에서
되풀이합니다. 이렇게 얻은 가중치는 좋은 초깃값입니다. 끝으로 신경망 전체를 레이블로 미세
조정합니다. (2006년의 층은 dbn.py의 제한 볼츠만 머신이었습니다. 오토인코더는 거기에서 우연을 뺀
것입니다.)

시그모이드 신경망 64-64-64-64-64-10이 작은 숫자 1,437개를 배웁니다. 모든 가중치는 N(0, 0.01^2)에서
출발합니다. 시드 다섯 개의 테스트 정확도:

- 사전 학습을 하지 않으면 SGD로 30 에포크를 돌아도 한 숫자로만 답합니다. 0.10.
- 사전 학습을 하면 같은 30 에포크로 약 0.92입니다. 층마다 20 에포크 동안 자기 입력을 되돌려 내도록
  배웠고, 네 층을 올라갔다가 되돌아와도 숫자는 그 숫자 그대로입니다(그림).
- He 초기화를 쓴 ReLU는 사전 학습 없이 0.94입니다. 그래서 사전 학습이 필요 없어졌습니다.
- 레이블이 적을 때는 다릅니다. 레이블이 100개이면 사전 학습한 쪽이 0.83 대 0.75로 앞섭니다. 층들이
  레이블 없이 이미지 1,437개를 모두 보았기 때문입니다.

    python examples/lectures/autoencoder.py

그림은 out/lectures/autoencoder.png에 저장합니다 (matplotlib 필요).
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    add = parser.add_argument
    add(
        "--seeds",
        type=whole(1),
        default=5,
        help=Text("nets of each kind (default: 5)", "종류마다 신경망의 수 (기본값: 5)").say(),
    )
    add(
        "--pretrain",
        type=whole(1),
        default=20,
        help=Text("epochs a layer (default: 20)", "층마다 에포크 수 (기본값: 20)").say(),
    )
    add(
        "--epochs",
        type=whole(1),
        default=30,
        help=Text("of fine-tuning (default: 30)", "미세 조정의 에포크 수 (기본값: 30)").say(),
    )
    add(
        "--labels",
        type=whole(10),
        default=100,
        help=Text(
            "of the nets with few (default: 100)", "레이블이 적은 신경망의 레이블 수 (기본값: 100)"
        ).say(),
    )
    add(
        "--seed",
        type=whole(0),
        default=0,
        help=Text("the first of them (default: 0)", "첫 시드 (기본값: 0)").say(),
    )
    args = parser.parse_args(argv)
    result = measure(args.seeds, args.pretrain, args.epochs, args.labels, args.seed)
    print_figures(result, figures_of(result), args.labels)
    save_picture(result, args.out / "autoencoder.png")


if __name__ == "__main__":
    launch(main)
