"""MNIST, the lecture's net: 784-256-256-10, ReLU, on 55,000 handwritten digits.

The lecture's recipe: weights and biases N(0, 1), Adam with rate 0.001, 15 epochs of batches of
100, mean cross-entropy from logits. It reaches about 94.5% on the 10,000 test images; the same net
started by He's rule (--init he) reaches about 98%.

    python examples/mnist.py                       # the lecture's recipe
    python examples/mnist.py --init he             # a better start
    python examples/mnist.py --activation softmax  # the lecture's accident, about 85%
    python examples/mnist.py --compile             # each step as one generated program
    python examples/mnist.py --data digits         # 1,797 small digits, no download, seconds

MNIST is looked for on this computer and downloaded if need be. Where neither works, the program
says so and trains on the small digits (8 x 8 pixels) that come with tinygrad_kr. Curves and
digits are saved as a picture in out/ (needs matplotlib). Ctrl-C stops the training and shows what
was reached.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lectures.common import (
    BLUE,
    CROSS_ENTROPY,
    DEFAULT,
    ORANGE,
    RATE,
    label,
    launch,
    new_figure,
    options,
    positive,
    progress_bar,
    save,
    whole,
    widths,
)

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, data, nn, no_grad, optim
from tinygrad_kr.language import Text

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "softmax": partial(nn.Softmax, dim=1),
}
# What no option says otherwise. There are few small digits, so they get more steps an epoch and
# He's start: from N(0, 1) a net fits the 1,437 training images but not other people's handwriting.
RECIPES = {
    "mnist": {"init": "normal", "hidden": (256, 256), "epochs": 15, "batch": 100, "lr": 0.001},
    "digits": {"init": "he", "hidden": (256, 256), "epochs": 15, "batch": 20, "lr": 0.001},
}


class Data(NamedTuple):
    """Images (N, pixels) from 0, paper, to 1, ink; labels (N,) from 0 to 9."""

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load(name: str) -> Data:
    """The data asked for; "auto" is MNIST where it can be had, otherwise the small digits."""
    if name == "digits":
        return flattened("digits", *data.digits("train"), *data.digits("test"))
    try:
        images, labels = data.mnist("train")
        return flattened("mnist", images[:55_000], labels[:55_000], *data.mnist("test"))
    except data.DatasetNotFoundError as error:
        if name == "mnist":
            sys.exit(f"error: {error}")
        print(NO_MNIST.say())
        return load("digits")
    except data.IdxError as error:
        sys.exit(f"error: {error}")


def flattened(
    name: str, images: np.ndarray, labels: np.ndarray, test_images: np.ndarray, test: np.ndarray
) -> Data:
    """Each image as one row of pixels."""
    rows, test_rows = images.reshape(len(images), -1), test_images.reshape(len(test_images), -1)
    return Data(name, rows, labels, test_rows, test)


def make_net(sizes: tuple[int, ...], activation: str, init: str) -> nn.Sequential:
    """Linear layers with an activation between them; the last one gives a logit for each digit."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layer = nn.Linear(inputs, outputs)
        initialise(layer, init)
        layers += [layer, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def initialise(layer: nn.Linear, init: str) -> None:
    """normal: weights and biases N(0, 1), as in the lecture; he, xavier: scaled, biases 0."""
    weight, bias = layer.parameters()
    nn.init.zeros_(bias)
    if init == "normal":
        nn.init.normal_(weight)
        nn.init.normal_(bias)
    elif init == "he":
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
    else:
        nn.init.xavier_uniform_(weight)


class Epoch(NamedTuple):
    """Mean cost and accuracy on the training images during an epoch, on the test images after."""

    cost: float
    train_accuracy: float
    test_accuracy: float


def train(
    net: nn.Sequential, digits: Data, epochs: int, batch: int, rate: float, compiled: bool = False
) -> list[Epoch]:
    """Adam on shuffled batches; a line for every epoch, and a bar where tqdm is installed."""
    loader = data.DataLoader(
        (digits.train_images, digits.train_labels), batch_size=batch, shuffle=True
    )
    optimizer = optim.Adam(net.parameters(), lr=rate)

    def step(images: Any, labels: Any) -> tuple[Tensor, Tensor]:
        """One update; the cost, and how many of the images the net had got right."""
        logits = net(images)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach(), (logits.detach().argmax(axis=1) == labels).sum()

    update = tk.compile(step) if compiled else step
    history: list[Epoch] = []
    cost = Text("cost {cost:.4f}", "비용 {cost:.4f}")
    line = Text(
        "epoch {epoch:>3}/{epochs}   cost {cost:<9.4f}   {seconds:.1f} s",
        "에포크 {epoch:>3}/{epochs}   비용 {cost:<9.4f}   {seconds:.1f}초",
    )
    bar = progress_bar(epochs * len(loader))
    try:
        for epoch in range(1, epochs + 1):
            start, seen, total, right = time.perf_counter(), 0, 0.0, 0
            for images, labels in loader:
                loss, hits = update(images, labels)
                seen += len(labels)
                total += loss.item() * len(labels)
                right += hits.item()
                bar.set_postfix_str(cost.say(cost=total / seen), refresh=False)
                bar.update()
            seconds = time.perf_counter() - start
            history.append(Epoch(total / seen, right / seen, test_accuracy(net, digits)))
            known = {"epoch": epoch, "epochs": epochs, "cost": total / seen}
            bar.write(line.say(**known, seconds=seconds))
    except KeyboardInterrupt:
        stopped = Text(
            "\nstopped in epoch {epoch} of {epochs}",
            "\n{epochs} 에포크 중 {epoch}번째에서 중단했습니다",
        )
        print(stopped.say(epoch=len(history) + 1, epochs=epochs))
    finally:
        bar.close()
    return history


def predict(net: nn.Sequential, images: np.ndarray) -> np.ndarray:
    """The digit with the largest logit, for each image."""
    with no_grad():
        digits: np.ndarray = net(Tensor(images)).argmax(axis=1).numpy()
    return digits


def test_accuracy(net: nn.Sequential, digits: Data) -> float:
    """The share of the test images that get their right digit."""
    return float((predict(net, digits.test_images) == digits.test_labels).mean())


def print_digit(image: np.ndarray) -> None:
    """An image in characters, two for a pixel because they are twice as high as wide."""
    side = int(image.size**0.5)
    rows = (image.reshape(side, side) * 9.99).astype(int)
    lines = ["".join(" .:-=+*#%@"[ink] * 2 for ink in row).rstrip() for row in rows]
    print("\n".join(lines).strip("\n"))


def save_picture(
    history: list[Epoch], digits: Data, predictions: np.ndarray, shown: np.ndarray, path: Path
) -> None:
    """Cost and accuracy over the epochs, and some test images with what the net says they are."""
    figure = new_figure(8, 5.4)
    if figure is None:
        return
    figure.get_layout_engine().set(rect=(0, 0.03, 1, 0.97))  # room below the last row
    wrong = np.flatnonzero(predictions != digits.test_labels)
    mistakes = wrong[:: max(1, len(wrong) // 10)]
    panels: Any = figure.subfigures(2, 1, height_ratios=[3, 2])
    curves, images = panels
    cost_axes, accuracy_axes = curves.subplots(1, 2)
    costs, train_accuracies, test_accuracies = np.reshape(history, (-1, 3)).T
    epochs = range(1, len(history) + 1)
    cost_axes.plot(epochs, costs, "o-", color=BLUE, markersize=4)
    epoch = label(Text("epoch", "에포크"))
    cost_axes.set(xlabel=epoch, ylabel=label(CROSS_ENTROPY), yscale="log", title=label("cost"))
    accuracy_axes.plot(epochs, train_accuracies, "o-", color=BLUE, markersize=4)
    accuracy_axes.plot(epochs, test_accuracies, "s--", color=ORANGE, markersize=4)
    share = label(Text("share right", "맞힌 비율"))
    accuracy_axes.set(xlabel=epoch, ylabel=share, title=label("accuracy"))
    during = Text("training images, during the epoch", "학습 이미지, 에포크 도중")
    after = Text("test images, after it", "테스트 이미지, 에포크 뒤")
    accuracy_axes.legend([label(during), label(after)])
    for axes in (cost_axes, accuracy_axes):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    title = Text(
        "test images and what the net says they are; below, mistakes",
        "테스트 이미지와 신경망의 답. 아래는 틀린 것",
    )
    images.suptitle(label(title), fontsize=10)
    side = int(digits.test_images.shape[1] ** 0.5)
    for row, places in zip(images.subplots(2, 10), (shown, mistakes), strict=True):
        for axes in row:
            axes.set_axis_off()
        for axes, place in zip(row, places, strict=False):
            image = digits.test_images[place].reshape(side, side)
            axes.imshow(image, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
            guess, truth = predictions[place], digits.test_labels[place]
            mistake = Text("{guess}, not {truth}", "{guess} (정답 {truth})")
            said = f"{guess}" if guess == truth else label(mistake, guess=guess, truth=truth)
            axes.set_title(said, fontsize=9)
            axes.title.set_color("black" if guess == truth else ORANGE)
    save(figure, path)


NO_MNIST = Text(
    "MNIST is neither on this computer nor to be downloaded now, so this run trains on\n"
    "the 1,797 small digits that come with tinygrad_kr (--data mnist says what to do).\n",
    "이 컴퓨터에 MNIST가 없고 지금 내려받을 수도 없어서, tinygrad_kr에 든 작은 숫자 이미지\n"
    "1,797장으로 학습합니다 (--data mnist로 실행하면 어떻게 할지 알려 줍니다).\n",
)
RECIPE = Text(
    "{name}: {training:,} training images, {test:,} test images\n"
    "{sizes} {activation} net, {init} start, {parameters:,} parameters\n"
    "Adam, rate {rate:g}, {epochs} epochs, batches of {batch}, seed {seed}\n",
    "{name}: 학습 이미지 {training:,}장, 테스트 이미지 {test:,}장\n"
    "{sizes} {activation} 신경망, {init} 초기화, 파라미터 {parameters:,}개\n"
    "Adam, 학습률 {rate:g}, {epochs} 에포크, 배치 {batch}, 시드 {seed}\n",
)


KOREAN = """
MNIST: 강의의 신경망 784-256-256-10, ReLU, 손글씨 숫자 55,000장.

강의의 설정은 가중치와 편향 N(0, 1), Adam 학습률 0.001, 크기 100인 배치로 15 에포크, 로짓에서 구한
교차 엔트로피의 평균입니다. 테스트 이미지 10,000장의 약 94.5%를 맞힙니다. 같은 신경망을 He
방식으로 초기화하면(--init he) 약 98%입니다.

    python examples/mnist.py                       # 강의의 설정
    python examples/mnist.py --init he             # 더 나은 초기화
    python examples/mnist.py --activation softmax  # 강의의 실수, 약 85%
    python examples/mnist.py --compile             # 스텝마다 컴파일한 프로그램 하나로
    python examples/mnist.py --data digits         # 작은 숫자 1,797개, 내려받지 않음, 몇 초

MNIST를 이 컴퓨터에서 찾고, 없으면 내려받습니다. 둘 다 안 되면 그렇다고 알리고 tinygrad_kr에 들어
있는 작은 숫자(8 x 8 픽셀)로 학습합니다. 곡선과 숫자를 그린 그림은 out/에 저장합니다 (matplotlib
필요). Ctrl-C를 누르면 학습을 멈추고 그때까지의 결과를 보여 줍니다.
"""


def main() -> None:
    parser = options(__doc__, KOREAN, out="out")
    add = parser.add_argument
    add("--data", choices=["auto", "mnist", "digits"], default="auto")
    add(
        "--init",
        choices=["normal", "he", "xavier"],
        help=Text("default: normal; he for digits", "초기화 (기본값: normal, digits에는 he)").say(),
    )
    add(
        "--activation",
        choices=list(ACTIVATIONS),
        default="relu",
        help=Text("of the hidden layers", "은닉층의 활성화 함수").say(),
    )
    add(
        "--hidden",
        type=widths,
        help=Text(
            "widths, like 256,256 (the default), or none",
            "은닉층의 폭, 예: 256,256 (기본값). 없으면 none",
        ).say(),
    )
    add("--epochs", type=whole(1), help=DEFAULT.say(default="15"))
    add(
        "--batch",
        type=whole(1),
        help=Text(
            "images a step (default: 100; 20 for digits)",
            "스텝마다 이미지 수 (기본값: 100, digits에는 20)",
        ).say(),
    )
    add("--lr", type=positive, help=RATE.say(default="0.001"))
    add(
        "--seed",
        type=whole(0),
        default=0,
        help=Text(
            "of the start and the shuffling (default: 0)", "초깃값과 섞기의 시드 (기본값: 0)"
        ).say(),
    )
    add(
        "--compile",
        action="store_true",
        help=Text(
            "record a step once and replay it as C", "스텝을 한 번 기록하고 C로 되풀이합니다"
        ).say(),
    )
    args = parser.parse_args()
    digits = load(args.data)
    for option, value in RECIPES[digits.name].items():
        if getattr(args, option) is None:
            setattr(args, option, value)
    tk.manual_seed(args.seed)
    sizes = (digits.train_images.shape[1], *args.hidden, 10)
    net = make_net(sizes, args.activation, args.init)
    print(
        RECIPE.say(
            name=digits.name, training=len(digits.train_labels), test=len(digits.test_labels),
            sizes="-".join(map(str, sizes)), activation=args.activation, init=args.init,
            parameters=sum(parameter.size for parameter in net.parameters()),
            rate=args.lr, epochs=args.epochs, batch=args.batch, seed=args.seed,
        )
    )  # fmt: skip
    start = time.perf_counter()
    history = train(net, digits, args.epochs, args.batch, args.lr, args.compile)
    line = Text("\ntrained in {seconds:.1f} s", "\n학습 시간 {seconds:.1f}초")
    print(line.say(seconds=time.perf_counter() - start))
    predictions = predict(net, digits.test_images)
    right = int((predictions == digits.test_labels).sum())
    count = len(digits.test_labels)
    line = Text(
        "test accuracy {share:.4f} ({right:,} of {count:,} images)\n",
        "테스트 정확도 {share:.4f} (이미지 {count:,}장 중 {right:,}장)\n",
    )
    print(line.say(share=right / count, right=right, count=count))
    shown = np.random.default_rng(args.seed).choice(count, 10, replace=False)
    print_digit(digits.test_images[shown[0]])
    line = Text("label {truth}, the net says {said}\n", "레이블 {truth}, 신경망의 답 {said}\n")
    print(line.say(truth=digits.test_labels[shown[0]], said=predictions[shown[0]]))
    save_picture(history, digits, predictions, shown, args.out / f"{digits.name}.png")


if __name__ == "__main__":
    launch(main)
