"""Nets like lego: bricks that pass their input on beside their work, bricks that split and merge.

Skip: x + f(x). The gradient comes back through the `x` undiminished, however deep the net.
Split and merge: several layers read the same input side by side, and their outputs are joined.

1. The lecture's XOR net, ten hidden sigmoid layers of 5, U(-1, 1), SGD 0.1, 10,001 steps: of 100
   starts none learns XOR, and with skips, otherwise the same, all 100 do.
2. Digits (8 x 8) through tanh layers of 32: without skips the accuracy falls from 0.88 with one
   layer to 0.63 with 10, 0.1 to 0.2 with 20 and to guessing, 0.10, with 40, where the first layer's
   gradient is 1e-9 of the last's. With skips the ratio is 0.92, and 40 layers reach about 0.9.
3. Skips need a start of their own. He's, which keeps plain ReLU layers steady (0.6 with 40), makes
   those with skips explode (0.2), since each block adds as much again to what it passes on; with
   the smaller default start they reach 0.84.
4. Splitting is no miracle: four branches (convolutions of 1, 3 and 5 pixels, and a max-pool) reach
   0.87, one convolution of 3 with exactly as many parameters 0.89 (medians of 5 starts; figures
   with one or two digits differ a little by processor).

    python examples/lectures/lego.py

The picture is saved as out/lectures/lego.png (needs matplotlib).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    BLUE,
    GREEN,
    ORANGE,
    STEP,
    XOR_ANSWERS,
    XOR_POINTS,
    UniformStarts,
    bar,
    digit_rows,
    in_words,
    label,
    launch,
    left,
    new_figure,
    options,
    progress_bar,
    save,
    whole,
)

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, data, nn, no_grad, optim
from tinygrad_kr.language import Text

DEPTHS = (1, 2, 5, 10, 20, 40)
PLAIN, SKIP = "plain", "skips"
WORDS = (
    Text("plain", "건너뛰기 없음"),
    Text("skips", "건너뛰기"),
    Text("ten sigmoid layers", "시그모이드 열 층"),
    Text("learned", "배운 비율"),
    Text("tanh layers", "tanh 층"),
    Text("ReLU layers", "ReLU 층"),
    Text("layers", "층"),
    Text("first gradient over last", "첫 기울기 / 마지막 기울기"),
    Text("default start", "기본 초기화"),
    Text("he start", "He 초기화"),
    Text("four branches", "네 갈래"),
    Text("one convolution", "합성곱 하나"),
    Text("parameters", "파라미터 수"),
)


# ------------------------------------------------------------------ the two bricks


class Skip(nn.Module):
    """x + f(x), f being the layers in a row; they keep the shape."""

    def __init__(self, *layers: nn.Module) -> None:
        self.inner = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class SplitMerge(nn.Module):
    """The same input through every branch; the outputs joined along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return tk.cat([branch(x) for branch in self.branches], dim=1)


# ------------------------------------------------------------------ 1: XOR, ten layers deep


def xor_nets(kind: str, starts: int, hidden: int = 10, width: int = 5) -> nn.Sequential:
    """So many nets in one: 2 inputs, `hidden` sigmoid layers, one score."""
    layers: list[nn.Module] = [UniformStarts(starts, 2, width), nn.Sigmoid()]
    for _ in range(hidden - 1):
        block = (UniformStarts(starts, width, width), nn.Sigmoid())
        layers += [Skip(*block)] if kind == SKIP else block
    return nn.Sequential(*layers, UniformStarts(starts, width, 1))


def learn_xor(kind: str, starts: int, steps: int, seed: int) -> tuple[np.ndarray, float]:
    """Every start's loss at every step, (steps, starts), and the share that learned XOR."""
    tk.manual_seed(seed)
    x, target = Tensor(XOR_POINTS), np.broadcast_to(XOR_ANSWERS, (starts, 4, 1))
    nets = xor_nets(kind, starts)
    optimizer = optim.SGD(nets.parameters(), lr=0.1)
    losses = np.empty((steps, starts), np.float32)
    for step in bar(steps, in_words(f"XOR, {kind}", WORDS)):
        each = F.binary_cross_entropy_with_logits(nets(x), target, reduction="none")
        each = each.mean(axis=(1, 2))
        losses[step] = each.data
        optimizer.zero_grad()
        each.sum().backward()
        optimizer.step()
    with no_grad():
        right = (nets(x).numpy() > 0) == (target > 0.5)
    return losses, float(right.all(axis=(1, 2)).mean())


# ------------------------------------------------------------------ 2 and 3: digits, 40 layers deep


def deep_net(kind: str, depth: int, activation: type[nn.Module], start: str) -> nn.Sequential:
    """64 pixels, `depth` blocks of 32 units, 10 scores; start: "default" or "he"."""
    layers: list[nn.Module] = [nn.Linear(64, 32)]
    for _ in range(depth):
        linear = nn.Linear(32, 32)
        if start == "he":
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
        layers += [Skip(linear, activation())] if kind == SKIP else [linear, activation()]
    return nn.Sequential(*layers, nn.Linear(32, 10))


def train(net: nn.Module, images: np.ndarray, labels: np.ndarray, epochs: int, rate: float) -> None:
    loader = data.DataLoader((images, labels), batch_size=50, shuffle=True)
    optimizer = optim.Adam(net.parameters(), lr=rate)
    for _ in range(epochs):
        for batch, answers in loader:
            loss = F.cross_entropy(net(batch), answers)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def accuracy(net: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    with no_grad():
        return float((net(Tensor(images)).argmax(axis=1).numpy() == labels).mean())


def gradient_norms(net: nn.Sequential, images: np.ndarray, labels: np.ndarray) -> list[float]:
    """Of each block's weights, from the input on, before any training."""
    F.cross_entropy(net(Tensor(images)), labels).backward()
    blocks = [p for name, p in net.named_parameters() if p.shape == (32, 32)]
    norms = [float(np.linalg.norm(p.grad.data)) for p in blocks if p.grad is not None]
    net.zero_grad()
    return norms


def deep_accuracies(
    kind: str,
    depth: int,
    activation: type[nn.Module],
    start: str,
    seeds: int,
    epochs: int,
    seed: int,
    advance: Callable[[], object] = lambda: None,
) -> tuple[list[float], list[float]]:
    """Test accuracies of several starts, and the first start's gradient norms by block."""
    (rows, labels), (test_rows, test_labels) = digit_rows("train"), digit_rows("test")
    found, norms = [], []
    for number in range(seeds):
        tk.manual_seed(seed + number)
        net = deep_net(kind, depth, activation, start)
        if not number:
            norms = gradient_norms(net, rows, labels)
        train(net, rows, labels, epochs, rate=0.001)
        found.append(accuracy(net, test_rows, test_labels))
        advance()
    return found, norms


# ------------------------------------------------------------------ 4: split and merge


def split(inputs: int, outputs: int) -> SplitMerge:
    """An inception block: four branches with a quarter of the channels each."""
    quarter = outputs // 4
    return SplitMerge(
        nn.Conv2d(inputs, quarter, 1),
        nn.Conv2d(inputs, quarter, 3, padding=1),
        nn.Conv2d(inputs, quarter, 5, padding=2),
        nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), nn.Conv2d(inputs, quarter, 1)),
    )


def image_net(kind: str) -> nn.Sequential:
    """Two blocks with 24 channels: one convolution of 3 each, or four branches."""

    def block(inputs: int) -> nn.Module:
        return split(inputs, 24) if kind == "split" else nn.Conv2d(inputs, 24, 3, padding=1)

    return nn.Sequential(
        block(1), nn.ReLU(), nn.MaxPool2d(2),
        block(24), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(24 * 2 * 2, 10),
    )  # fmt: skip


def image_accuracies(
    kind: str, seeds: int, epochs: int, seed: int, advance: Callable[[], object] = lambda: None
) -> list[float]:
    """Test accuracies of several starts."""
    (images, labels), (test_images, test_labels) = data.digits("train"), data.digits("test")
    found = []
    for number in range(seeds):
        tk.manual_seed(seed + number)
        net = image_net(kind)
        train(net, images[:, None], labels, epochs, rate=0.002)
        found.append(accuracy(net, test_images[:, None], test_labels))
        advance()
    return found


def run(
    starts: int = 100,
    steps: int = 10_001,
    depths: tuple[int, ...] = DEPTHS,
    seeds: int = 5,
    epochs: int = 20,
    seed: int = 0,
    keep: dict[str, Any] | None = None,
) -> dict[str, float]:
    """All four parts; `keep` receives curves and accuracies for the picture."""
    keep = {} if keep is None else keep
    figures: dict[str, float] = {}
    for kind in (PLAIN, SKIP):
        keep[f"xor {kind}"], learned = learn_xor(kind, starts, steps, seed)
        figures[f"XOR, ten sigmoid layers, {kind}: learned"] = learned
    shown = progress_bar((2 * len(depths) + 6) * seeds, in_words("digits"), unit="net")
    settings = seeds, epochs, seed, shown.update
    for kind in (PLAIN, SKIP):
        for depth in depths:
            found, norms = deep_accuracies(kind, depth, nn.Tanh, "default", *settings)
            keep[f"digits {kind} {depth}"] = found, norms
            figures[f"digits, {depth} tanh layers, {kind}: accuracy"] = float(np.median(found))
        figures[f"digits, {depths[-1]} layers, {kind}: first gradient over last"] = (
            norms[0] / norms[-1]
        )
    for start in ("default", "he"):
        for kind in (PLAIN, SKIP):
            found, _ = deep_accuracies(kind, depths[-1], nn.ReLU, start, *settings)
            figures[f"digits, {depths[-1]} ReLU layers, {start} start, {kind}: accuracy"] = float(
                np.median(found)
            )
    for kind in ("one", "split"):
        keep[kind] = image_accuracies(kind, seeds, epochs // 2 or 1, seed, shown.update)
        name = "four branches" if kind == "split" else "one convolution"
        figures[f"digits, {name}: accuracy"] = float(np.median(keep[kind]))
        figures[f"digits, {name}: parameters"] = float(
            sum(p.size for p in image_net(kind).parameters())
        )
    shown.close()
    return figures


# ------------------------------------------------------------------ the picture


def draw(keep: dict[str, Any], depths: tuple[int, ...], path: Path) -> None:
    """XOR's losses, digits by depth, the gradient by layer, branches against none."""
    figure = new_figure(8, 5.5)
    if figure is None:
        return
    (xor, digits), (gradient, images) = figure.subplots(2, 2)
    for kind, colour, marker in ((PLAIN, ORANGE, "s"), (SKIP, BLUE, "o")):
        losses = keep[f"xor {kind}"]
        low, middle, high = np.quantile(losses, [0.1, 0.5, 0.9], axis=1)
        steps = np.arange(1, len(losses) + 1)
        xor.fill_between(steps, low, high, color=colour, alpha=0.25, linewidth=0)
        xor.plot(steps, middle, color=colour, label=label(kind, WORDS))
        found = np.array([keep[f"digits {kind} {depth}"][0] for depth in depths])
        digits.plot(depths, np.median(found, axis=1), color=colour, label=label(kind, WORDS))
        digits.plot(depths, found, marker, color=colour, markersize=4, alpha=0.5)
        norms = keep[f"digits {kind} {depths[-1]}"][1]
        gradient.plot(
            range(1, len(norms) + 1),
            norms,
            marker,
            color=colour,
            markersize=3,
            label=label(kind, WORDS),
        )
    xor.set(xscale="log", yscale="log", xlabel=label(STEP), ylabel=label("loss"))
    title = Text(
        "XOR, ten sigmoid layers, {starts} starts", "XOR, 시그모이드 열 층, 초깃값 {starts}개"
    )
    xor.set(title=label(title, starts=losses.shape[1]))
    guessing = label(Text("guessing", "찍기"))
    digits.axhline(0.1, color="0.4", linestyle=":", label=guessing)
    digits.set(
        xscale="log",
        xlabel=label(Text("tanh layers", "tanh 층의 수")),
        ylabel=label("test accuracy"),
        title=label(Text("digits, by depth", "숫자, 깊이에 따라")),
    )
    digits.set_xticks(depths, [str(depth) for depth in depths])
    digits.minorticks_off()
    gradient.set(
        yscale="log",
        xlabel=label(Text("layer", "층")),
        ylabel=label(Text("norm of the gradient", "기울기의 크기")),
    )
    title = Text("{depth} layers, before training", "{depth}층, 학습하기 전")
    gradient.set(title=label(title, depth=depths[-1]))
    for place, (kind, colour) in enumerate((("one", GREEN), ("split", BLUE))):
        images.plot([place] * len(keep[kind]), keep[kind], "o", color=colour, alpha=0.6)
        images.plot(place, np.median(keep[kind]), "_", color="black", markersize=24)
    one = Text("one 3 x 3\nconvolution", "3 x 3 합성곱\n하나")
    four = Text("four branches,\nmerged", "네 갈래를\n합친 것")
    images.set_xticks([0, 1], [label(one), label(four)])
    title = label(Text("digits, same parameters", "숫자, 같은 파라미터 수"))
    images.set(xlim=(-0.6, 1.6), ylabel=label("test accuracy"), title=title)
    for axes in (xor, digits, gradient):
        axes.legend(fontsize=8, loc="lower right" if axes is gradient else "lower left")
    for axes in (xor, digits, gradient, images):
        axes.grid(alpha=0.3)
    save(figure, path)


KOREAN = """
레고 같은 신경망: 입력을 그대로 곁으로 넘기는 블록, 나누었다가 합치는 블록.

건너뛰기: x + f(x). 아무리 깊어도 기울기가 `x`를 타고 줄지 않은 채 돌아옵니다. 나누고 합치기: 여러
층이 같은 입력을 나란히 읽고, 그 출력을 이어 붙입니다.

1. 강의의 XOR 신경망, 폭 5인 시그모이드 은닉층 열 개, U(-1, 1), SGD 0.1, 10,001스텝: 초깃값 100개
   중 하나도 XOR를 배우지 못하고, 건너뛰기만 더하면 100개가 모두 배웁니다.
2. 폭 32인 tanh 층으로 배우는 숫자(8 x 8): 건너뛰기가 없으면 정확도가 한 층의 0.88에서 10층 0.63,
   20층 0.1에서 0.2, 40층 0.10(찍기)으로 떨어지고, 40층에서 첫 층의 기울기는 마지막 층의
   1e-9배입니다. 건너뛰기가 있으면 그 비율이 0.92이고 40층에서도 약 0.9입니다.
3. 건너뛰기에는 알맞은 초기화가 따로 있습니다. 보통의 ReLU 층을 안정시키는 He 초기화(40층에서
   0.6)를 건너뛰기와 함께 쓰면 폭발합니다(0.2). 블록마다 자기가 넘기는 것만큼을 더하기 때문입니다.
   더 작은 기본 초기화로는 0.84입니다.
4. 나누기는 기적이 아닙니다. 네 갈래(1, 3, 5픽셀 합성곱과 최대 풀링)는 0.87, 파라미터 수가 정확히
   같은 3픽셀 합성곱 하나는 0.89입니다(초깃값 5개의 중앙값. 한두 자리 수치는 프로세서에 따라 조금
   다릅니다).

    python examples/lectures/lego.py

그림은 out/lectures/lego.png에 저장합니다 (matplotlib 필요).
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    parser.add_argument(
        "--starts",
        type=whole(1),
        default=100,
        help=Text("XOR nets of each kind", "종류마다 XOR 신경망의 수").say(),
    )
    parser.add_argument(
        "--steps",
        type=whole(1),
        default=10_001,
        help=Text("of the XOR nets", "XOR 신경망의 스텝 수").say(),
    )
    parser.add_argument(
        "--seeds",
        type=whole(1),
        default=5,
        help=Text("digit nets of each kind", "종류마다 숫자 신경망의 수").say(),
    )
    parser.add_argument(
        "--epochs",
        type=whole(1),
        default=20,
        help=Text("of the digit nets", "숫자 신경망의 에포크 수").say(),
    )
    parser.add_argument("--seed", type=whole(0), default=0)
    args = parser.parse_args(argv)

    keep: dict[str, Any] = {}
    figures = run(args.starts, args.steps, DEPTHS, args.seeds, args.epochs, args.seed, keep)
    line = Text(
        "the lecture shows no figures of its own here", "강의에는 여기에 해당하는 수치가 없습니다"
    )
    print(line.say())
    for name, value in figures.items():
        print(f"{left(in_words(name, WORDS), 62)}{value:>10.4g}")
    draw(keep, DEPTHS, args.out / "lego.png")


if __name__ == "__main__":
    launch(main)
