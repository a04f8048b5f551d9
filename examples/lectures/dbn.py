"""Pre-training: how deep sigmoid nets were first made to learn, and what made it unnecessary.

The lecture: a deep net of sigmoid units started from small random weights does not learn; teach
each layer by itself, without labels, to model its input (a restricted Boltzmann machine each:
together a deep belief net), then train the whole by backpropagation. Later the initialisations of
Glorot ("Xavier") and He came with other activations, and pre-training was given up.

All of it here on one net, 784-256-256-256-256-256-256-10, 15 epochs of plain SGD with rate 0.1 and
batches of 100; accuracy on the 10,000 test images from two seeds:

    sigmoid, N(0, 0.01^2)     0.1135, 0.1135   one digit, whatever it sees
    the same, pre-trained     0.9646, 0.9653   3 epochs a layer, 21 s, before the descent of 28 s
    sigmoid, Xavier           0.1135, 0.1135   initialisation alone does not rescue sigmoid
    tanh, Xavier              0.9788, 0.9800   no pre-training, and better
    ReLU, He                  0.9832, 0.9761   likewise, but one epoch is worse by 0.05

The picture shows why: before the first step the gradient of the first layer is 1e-8 of the last
one's in the stuck net, and as large (ReLU) or larger in those that learn.

    python examples/lectures/dbn.py                  # about 3 minutes
    python examples/lectures/dbn.py --show           # table and picture of the saved run
    python examples/lectures/dbn.py --data digits    # 1,797 small digits, no download, seconds

The table goes to benchmarks/results/dbn.json, the picture to out/lectures/dbn.png (needs
matplotlib); each net is in the table as soon as it is trained. All five nets go down by the same
few lines; a `DBN` also has them as `fine_tune`.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import (
    RESULTS,
    in_words,
    label,
    launch,
    left,
    made_with,
    new_figure,
    options,
    progress_bar,
    read_json,
    right,
    rounded,
    save,
    whole,
    with_run,
    write_json,
)

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, data, nn, no_grad, optim
from tinygrad_kr.language import Text

TABLE = RESULTS / "dbn.json"
PLAIN, PRETRAINED = "sigmoid, N(0, 0.01^2)", "the same, pre-trained"
WORDS = (Text("the same, pre-trained", "같은 것, 사전 학습"),)
NETS: dict[str, tuple[type[nn.Module], Callable[[Tensor], Tensor]]] = {
    "sigmoid, Xavier": (nn.Sigmoid, nn.init.xavier_uniform_),
    "tanh, Xavier": (nn.Tanh, nn.init.xavier_uniform_),
    "ReLU, He": (nn.ReLU, nn.init.kaiming_uniform_),
}
RECIPES: dict[str, dict[str, Any]] = {
    "mnist": {"hidden": (256,) * 6, "pretrain_epochs": 3, "epochs": 15, "rate": 0.1, "batch": 100},
    "digits": {"hidden": (64,) * 4, "pretrain_epochs": 20, "epochs": 30, "rate": 0.2, "batch": 10},
}


class Digits(NamedTuple):
    """Images (N, pixels) from 0, paper, to 1, ink; labels (N,) from 0 to 9."""

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


class Result(NamedTuple):
    """What became of a net."""

    accuracies: list[float]
    """Of the test images, after each epoch."""
    gradient_norms: list[float]
    """Of the cost by each layer's weights, before the descent, from the first layer up."""
    pretraining_seconds: float
    seconds: float
    """Of the processor, all cores together."""


def load(name: str) -> Digits:
    """MNIST, the first 55,000 images to learn from as in the lectures; or the small digits."""
    train, test = (
        (data.mnist if name == "mnist" else data.digits)(split) for split in ("train", "test")
    )
    images, test_images = (part[0].reshape(len(part[0]), -1) for part in (train, test))
    return Digits(images[:55_000], train[1][:55_000], test_images, test[1])


def deep_belief_net(
    digits: Digits, hidden: tuple[int, ...], epochs: int, batch: int
) -> tuple[nn.Sequential, float]:
    """A deep sigmoid net after `epochs` of pre-training for each layer, and the seconds it took."""
    net = nn.DBN((digits.images.shape[1], *hidden), n_classes=10)
    start = time.process_time()
    if epochs:
        steps = len(hidden) * epochs * math.ceil(len(digits.images) / batch)
        bar = progress_bar(steps, in_words(PRETRAINED, WORDS))
        net.pretrain(digits.images, epochs, batch_size=batch, progress=lambda _: bar.update())
        bar.close()
    return net.network(), time.process_time() - start


def plain_net(
    pixels: int, hidden: tuple[int, ...], activation: type[nn.Module], init: Callable[..., Tensor]
) -> nn.Sequential:
    """The same net with another activation and start; biases 0."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((pixels, *hidden, 10)):
        layer = nn.Linear(inputs, outputs)
        weight, bias = layer.parameters()
        init(weight)
        nn.init.zeros_(bias)
        layers += [layer, activation()]
    return nn.Sequential(*layers[:-1])


def train(
    net: nn.Sequential, digits: Digits, epochs: int, rate: float, batch: int, name: str
) -> list[float]:
    """Plain SGD on the cross-entropy; the accuracy on the test images after each epoch."""
    optimizer = optim.SGD(net.parameters(), lr=rate)
    loader = data.DataLoader((digits.images, digits.labels), batch_size=batch, shuffle=True)
    bar, accuracies = progress_bar(epochs * len(loader), in_words(name, WORDS)), list[float]()
    for _ in range(epochs):
        for images, labels in loader:
            loss = F.cross_entropy(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            bar.update()
        accuracies.append(accuracy(net, digits))
    bar.close()
    return accuracies


def accuracy(net: nn.Sequential, digits: Digits) -> float:
    """The share of the test images that get their right digit."""
    with no_grad():
        answers = net(Tensor(digits.test_images)).numpy().argmax(axis=1)
    return float((answers == digits.test_labels).mean())


def gradient_norms(net: nn.Sequential, digits: Digits) -> list[float]:
    """|dC/dW| of each layer for the cost C of 1,000 images."""
    F.cross_entropy(net(Tensor(digits.images[:1000])), digits.labels[:1000]).backward()
    norms = [float(np.linalg.norm(layer.weight.grad.numpy())) for layer in net[::2]]
    net.zero_grad()
    return norms


def measure(
    name: str = "mnist",
    seed: int = 0,
    *,
    hidden: tuple[int, ...],
    pretrain_epochs: int,
    epochs: int,
    rate: float,
    batch: int,
    keep: Callable[[dict[str, Result]], object] = lambda results: None,
) -> dict[str, Result]:
    """All five nets, each from the seed's own start; a line of the table for each, then `keep`."""
    digits = load(name)
    results: dict[str, Result] = {}
    print(heading())
    for kind in (PLAIN, PRETRAINED, *NETS):
        tk.manual_seed(seed)
        pretraining = 0.0
        if kind in NETS:
            net = plain_net(digits.images.shape[1], hidden, *NETS[kind])
        else:
            rounds = pretrain_epochs if kind == PRETRAINED else 0
            net, pretraining = deep_belief_net(digits, hidden, rounds, batch)
        norms = gradient_norms(net, digits)
        start = time.process_time()
        reached = train(net, digits, epochs, rate, batch, kind)
        results[kind] = Result(reached, norms, pretraining, time.process_time() - start)
        print(row(kind, results[kind]))
        keep(results)
    return results


def heading() -> str:
    """Two lines above the table of nets."""
    over = (
        Text("first-layer", "첫 층의"),
        Text("test accuracy after", "테스트 정확도, 에포크"),
        Text("seconds", "초"),
    )
    under = (
        Text("gradient", "기울기"),
        Text("one epoch", "1번째"),
        Text("all", "전체"),
        Text("pre-tr.", "사전"),
        Text("tuning", "조정"),
    )
    first = "".join(
        right(text.say(), width) for text, width in zip(over, (12, 24, 16), strict=True)
    )
    widths = (12, 12, 12, 8, 8)
    second = "".join(right(text.say(), width) for text, width in zip(under, widths, strict=True))
    return f"{'':24}{first}\n{left(Text('net', '신경망').say(), 24)}{second}"


def row(kind: str, result: Result) -> str:
    first, last = result.accuracies[0], result.accuracies[-1]
    return (
        f"{left(in_words(kind, WORDS), 24)}"
        f"{result.gradient_norms[0]:>12.1e}{first:>12.4f}{last:>12.4f}"
        f"{result.pretraining_seconds:>8.1f}{result.seconds:>8.1f}"
    )


def run(name: str = "mnist", seed: int = 0, **changes: Any) -> dict[str, float]:
    """Train the five nets and return their test accuracies and first layers' gradients.

    name: "mnist" or "digits". changes: of that recipe in `RECIPES`, such as `epochs=5`.
    Raises DatasetNotFoundError where MNIST is not to be had.
    """
    return figures(measure(name, seed, **(RECIPES[name] | changes)))


def figures(results: dict[str, Result]) -> dict[str, float]:
    found = {f"{kind} accuracy": result.accuracies[-1] for kind, result in results.items()}
    for kind, result in results.items():
        found[f"{kind} first gradient"] = result.gradient_norms[0]
    found["pre-training seconds"] = results[PRETRAINED].pretraining_seconds
    return found


# ------------------------------------------------------------------ results


def write(results: dict[str, Result], seed: int, settings: dict[str, Any], path: Path) -> None:
    """Put nets beside those of other seeds, and of this one, with settings and versions."""
    about = {"settings": settings | {"hidden": list(settings["hidden"]), "optimizer": "SGD"}}
    runs = read_json(path)
    before = runs.get(str(seed), {})
    nets = before["nets"] if before.get("settings") == about["settings"] else {}
    for kind, result in results.items():
        nets[kind] = {
            name: [rounded(x) for x in value] if isinstance(value, list) else round(value, 1)
            for name, value in result._asdict().items()
        }
    write_json(path, with_run(runs, seed, about | {"nets": nets} | made_with()))


def read(seed: int, path: Path) -> dict[str, Result]:
    """The nets of a saved run; KeyError where there is none."""
    return {kind: Result(**values) for kind, values in read_json(path)[str(seed)]["nets"].items()}


def saved(seed: int = 0, path: Path | None = None) -> dict[str, Any] | None:
    """One saved run: figures, settings, versions; None before all five nets are there."""
    run = read_json(path or TABLE).get(str(seed))
    if run is None or len(run["nets"]) < 2 + len(NETS):
        return None
    return {"figures": figures(read(seed, path or TABLE)), **run}


def save_picture(results: dict[str, Result], title: str, path: Path) -> None:
    """Test error by epoch, and what arrives of the gradient at each layer."""
    figure = new_figure(8, 4.4)
    if figure is None:
        return
    error_axes, gradient_axes = figure.subplots(1, 2)
    for (kind, result), style in zip(results.items(), STYLES, strict=False):
        shown = {**style, "linewidth": 1.6, "markersize": 5, "fillstyle": "none"}
        epochs = range(1, len(result.accuracies) + 1)
        errors = [100 * (1 - accuracy) for accuracy in result.accuracies]
        error_axes.plot(epochs, errors, **shown, label=label(kind, WORDS))
        layers = range(1, len(result.gradient_norms) + 1)
        gradient_axes.plot(layers, result.gradient_norms, **shown)
    error_axes.set(
        xlabel=label(Text("epoch", "에포크")),
        ylabel=label(Text("test images wrong, %", "틀린 테스트 이미지, %")),
        title=label("error"),
        yscale="log",
    )
    error_axes.set_yticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
    error_axes.minorticks_off()
    gradient_axes.set(
        xlabel=label(Text("layer, from the images up", "층, 이미지에서 위로")),
        ylabel=label(Text("norm of the weights' gradient", "가중치 기울기의 크기")),
        yscale="log",
        title=label(Text("gradient before the first step", "첫 스텝 전의 기울기")),
    )
    for axes in (error_axes, gradient_axes):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(title, fontsize=11)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    save(figure, path)


STYLES: list[dict[str, str]] = [  # the colours are Okabe and Ito's
    {"color": "#000000", "marker": "x", "linestyle": "-"},
    {"color": "#D55E00", "marker": "o", "linestyle": "-"},
    {"color": "#E69F00", "marker": "v", "linestyle": "--"},
    {"color": "#0072B2", "marker": "s", "linestyle": "-."},
    {"color": "#009E73", "marker": "^", "linestyle": ":"},
]


KOREAN = """
사전 학습: 깊은 시그모이드 신경망을 처음으로 학습시킨 방법, 그리고 그것이 필요 없어진 까닭.

강의: 작은 무작위 가중치에서 출발한 깊은 시그모이드 신경망은 배우지 못합니다. 층마다 따로 레이블
없이 자기 입력을 본뜨도록 가르친 다음(층마다 제한 볼츠만 머신, 모두 모으면 심층 신뢰 신경망),
전체를 역전파로 학습합니다. 뒤에 Glorot("Xavier")와 He의 초기화가 다른 활성화 함수와 함께 나오면서
사전 학습은 쓰이지 않게 되었습니다.

모두 한 신경망 784-256-256-256-256-256-256-10으로 해 봅니다. SGD 15 에포크, 학습률 0.1, 배치 100.
테스트 이미지 10,000장의 정확도, 시드 두 개:

    시그모이드, N(0, 0.01^2)     0.1135, 0.1135   무엇을 보아도 한 숫자
    같은 신경망, 사전 학습       0.9646, 0.9653   층마다 3 에포크, 21초, 그 뒤의 하강 28초
    시그모이드, Xavier           0.1135, 0.1135   초기화만으로는 부족
    tanh, Xavier                 0.9788, 0.9800   사전 학습 없이, 더 좋음
    ReLU, He                     0.9832, 0.9761   마찬가지지만 한 에포크에서 0.05 떨어짐

그림이 까닭을 보여 줍니다. 첫 스텝 전에 첫 층의 기울기는 멈춰 있는 신경망에서 마지막 층의
1e-8배이고, 배우는 신경망에서는 같거나(ReLU) 더 큽니다.

    python examples/lectures/dbn.py                  # 약 3분
    python examples/lectures/dbn.py --show           # 저장된 실행의 표와 그림
    python examples/lectures/dbn.py --data digits    # 작은 숫자 1,797개, 내려받지 않음, 몇 초

표는 benchmarks/results/dbn.json에, 그림은 out/lectures/dbn.png에 저장합니다 (matplotlib 필요).
신경망마다 학습이 끝나는 대로 표에 적습니다. 다섯 신경망 모두 같은 몇 줄로 학습하며, `DBN`의
`fine_tune`도 같은 일을 합니다.
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    add = parser.add_argument
    add("--data", choices=list(RECIPES), default="mnist")
    add(
        "--seed",
        type=whole(0),
        default=0,
        help=Text(
            "of the starts and the shuffling (default: 0)", "초깃값과 섞기의 시드 (기본값: 0)"
        ).say(),
    )
    add(
        "--show",
        action="store_true",
        help=Text(
            "the saved run of this seed, without training",
            "학습하지 않고 이 시드의 저장된 실행을 보여 줍니다",
        ).say(),
    )
    args = parser.parse_args(argv)
    settings = RECIPES[args.data]

    def keep(results: dict[str, Result]) -> None:
        if args.data == "mnist":
            write(results, args.seed, settings, TABLE)

    try:
        if args.show:
            results = read(args.seed, TABLE)
            print(heading(), *(row(kind, result) for kind, result in results.items()), sep="\n")
        else:
            results = measure(args.data, args.seed, keep=keep, **settings)
    except data.DatasetNotFoundError as error:
        sys.exit(f"error: {error}\nor try --data digits")
    except KeyError:
        sys.exit(f"error: no run of seed {args.seed} is saved in {TABLE}")
    line = Text(
        "\nthe lecture gives no figures; it says: stuck, then pre-training helps, then Xavier, He",
        "\n강의에 수치는 없습니다. 막혔다가, 사전 학습이 돕고, 그다음이 Xavier와 He라고 합니다",
    )
    print(line.say())
    widths = "-".join(map(str, settings["hidden"]))
    small = label(Text("the small digits", "작은 숫자 이미지"))
    name = {"mnist": "MNIST", "digits": small}[args.data]
    title = Text("{name}, hidden layers {widths}, plain SGD", "{name}, 은닉층 {widths}, 평범한 SGD")
    text = label(title, name=name, widths=widths)
    save_picture(results, text, args.out / "dbn.png")


if __name__ == "__main__":
    launch(main)
