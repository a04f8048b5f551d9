"""Keras's habits: fit, evaluate and callbacks, on labs 10-1, 10-2 and 13-2.

The lecture: once the loop is clear, let a library write it. `model.fit` is no magic, though: the
loop of `tk.fit` is one screen of tinygrad_kr/training.py, with `tk.evaluate` below it. A callback
is called after each epoch: here one keeps the best model, and one ends the training. (Lab 13-2's
callback for TensorBoard is `tk.tensorboard.TensorBoard`.)

    python examples/lectures/fit.py                # Keras 10-1, one softmax layer, published 0.9268
    python examples/lectures/fit.py --lab 10-2     # four layers of 256, dropout, published 0.9811
    python examples/lectures/fit.py --lab 13-2     # a CNN, about 20 minutes, published 0.9894
    python examples/lectures/fit.py --lab 10-2 --patience 2   # stop when two epochs improve nothing

What really happens: the labs print one run each, and the third digit is noise. Of ten seeds, 10-1
gives 0.9258 to 0.9291, and 10-2 0.9791 to 0.9811: the published 0.9811 is our best, not our usual
one. 13-2, trained once, gives 0.9891. 10-2 holds back the last fifth of the 60,000 training images
for validation. 13-2 validates on the test images themselves: harmless as long as nothing is chosen
by them, and the reason why --patience is refused there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from common import (
    BLUE,
    EPOCHS,
    ORANGE,
    RESULTS,
    in_words,
    label,
    launch,
    made_with,
    new_figure,
    options,
    read_json,
    rounded,
    save,
    whole,
    with_run,
    write_json,
)

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import data, nn, optim
from tinygrad_kr.language import Text
from tinygrad_kr.training import EarlyStopping, History, ModelCheckpoint, ProgressBar

PUBLISHED = {"10-1": 0.9268, "10-2": 0.9811, "13-2": 0.9894}

Pair = tuple[np.ndarray, np.ndarray]
Layer = TypeVar("Layer", bound=nn.Module)

# ------------------------------------------------------------------ labs


class Lab(NamedTuple):
    """A net, what optimizes it, and the settings of the Keras lab."""

    net: Callable[[], nn.Sequential]
    optimizer: Callable[[nn.Module], optim.Optimizer]
    batch_size: int
    epochs: int
    images: bool = False  # (1, 28, 28) rather than rows of 784 pixels
    validated: bool = False  # on the last fifth of the training images


def softmax_regression() -> nn.Sequential:
    layer = nn.Linear(784, 10)
    weight, bias = layer.parameters()
    nn.init.normal_(weight, std=0.01)
    nn.init.zeros_(bias)
    return nn.Sequential(layer)


def dense(inputs: int, outputs: int) -> nn.Linear:
    return as_keras_starts(nn.Linear(inputs, outputs))


def as_keras_starts(layer: Layer) -> Layer:
    """Glorot's uniform weights, zero biases."""
    weight, bias = layer.parameters()
    nn.init.xavier_uniform_(weight)
    nn.init.zeros_(bias)
    return layer


def deep() -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((784, 256, 256, 256, 256)):
        layers += [dense(inputs, outputs), nn.ReLU(), nn.Dropout(0.3)]
    return nn.Sequential(*layers, dense(256, 10))


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return as_keras_starts(nn.Conv2d(inputs, outputs, 3))


def cnn() -> nn.Sequential:
    windows = [convolution(1, 32), nn.ReLU(), convolution(32, 32), nn.ReLU(), nn.MaxPool2d(2)]
    top = [nn.Dropout(0.25), nn.Flatten(), dense(32 * 12 * 12, 128), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*windows, *top, dense(128, 10))


def adam(net: nn.Module) -> optim.Optimizer:
    return optim.Adam(net.parameters(), lr=0.001)


def adadelta(net: nn.Module) -> optim.Optimizer:
    return optim.Adadelta(net.parameters(), lr=1.0, rho=0.95, eps=1e-8)  # as in Keras 2


LABS = {
    "10-1": Lab(softmax_regression, adam, batch_size=100, epochs=15),
    "10-2": Lab(deep, adam, batch_size=128, epochs=12, validated=True),
    "13-2": Lab(cnn, adadelta, batch_size=128, epochs=12, images=True),
}


def load(lab: str, train_images: int, test_images: int) -> tuple[Pair, Pair | None, Pair]:
    """What the lab trains on, validates on (10-2: the last fifth; 13-2: the test set), tests on."""
    (images, labels), (test, test_labels) = data.mnist("train"), data.mnist("test")
    shape = (-1, 1, 28, 28) if LABS[lab].images else (-1, 784)
    images, labels = images[:train_images].reshape(shape), labels[:train_images]
    tested = test[:test_images].reshape(shape), test_labels[:test_images]
    if LABS[lab].validated:
        cut = len(labels) * 4 // 5
        return (images[:cut], labels[:cut]), (images[cut:], labels[cut:]), tested
    return (images, labels), (tested if lab == "13-2" else None), tested


def run(
    lab: str = "10-1",
    seed: int = 0,
    *,
    epochs: int | None = None,
    train_images: int = 60_000,
    test_images: int = 10_000,
    callbacks: Sequence[Any] = (),
    results: Path | None = None,
) -> dict[str, float]:
    """Train by a lab's recipe and return its figures; `results` is a folder to write them into.

    Raises DatasetNotFoundError where MNIST is not to be had, ValueError for another lab.
    """
    if lab not in LABS:
        raise ValueError(f"the labs here are {', '.join(LABS)}, not {lab!r}")
    make_net, make_optimizer, batch_size, usual_epochs, *_ = LABS[lab]
    train, validation, test = load(lab, train_images, test_images)
    tk.manual_seed(seed)
    net = make_net()
    start, began = time.perf_counter(), time.process_time()
    history = tk.fit(
        net, train, F.cross_entropy, make_optimizer(net), epochs or usual_epochs,
        validation=validation, metrics=["accuracy"], batch_size=batch_size,
        callbacks=[*callbacks, ProgressBar(seconds=0)], progress=False,
    )  # fmt: skip
    seconds, processor = time.perf_counter() - start, time.process_time() - began
    score = tk.evaluate(net, test, F.cross_entropy, metrics=["accuracy"], batch_size=200)
    figures = {f"lab Keras {lab} {name}": value for name, value in score.items()}
    if results is not None:
        result = {
            "published": PUBLISHED[lab],
            "figures": figures,
            "settings": {
                "epochs": len(history["loss"]), "batch": batch_size, "train images": len(train[1]),
                "optimizer": repr(make_optimizer(net)).split("(")[0].strip(), "net": repr(net),
            },
            **made_with(),
            "seconds": round(seconds, 1),
            "processor seconds": round(processor, 1),
            "by epoch": {name: list(map(rounded, values)) for name, values in history.items()},
        }  # fmt: skip
        path = file_of(lab, results)
        write_json(path, with_run(read_json(path), seed, result))
    return figures


def file_of(lab: str, results: Path) -> Path:
    return results / f"keras_{lab}.json"


def saved(lab: str, seed: int = 0, results: Path = RESULTS) -> dict[str, Any] | None:
    """What an earlier `run` wrote: figures, settings, versions; None where there is nothing."""
    return read_json(file_of(lab, results)).get(str(seed))


def save_picture(lab: str, history: History, path: Path) -> None:
    """Loss and accuracy over the epochs, in training and in validation."""
    figure = new_figure(8, 3.4)
    if figure is None:
        return
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        epochs = range(1, len(history["loss"]) + 1)
        during = Text("training, during the epoch", "학습, 에포크 도중")
        after = Text("validation, after it", "검증, 에포크 뒤")
        for key, colour, marker, text in (
            (name, BLUE, "o-", during),
            (f"val_{name}", ORANGE, "s--", after),
        ):
            if key in history:
                axes.plot(epochs, history[key], marker, color=colour, ms=4, label=label(text))
        title = f"Keras {lab}: {label(name)}"
        axes.set(xlabel=label(Text("epoch", "에포크")), ylabel=label(name), title=title)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    save(figure, path)


KOREAN = """
Keras처럼 쓰기: 실습 10-1, 10-2, 13-2를 fit, evaluate, 콜백으로.

강의: 반복문을 이해했으면 라이브러리에 맡깁니다. 그래도 `model.fit`은 마법이 아닙니다. `tk.fit`의
반복문은 tinygrad_kr/training.py의 한 화면이고, 그 아래에 `tk.evaluate`가 있습니다. 콜백은
에포크마다 불립니다. 여기서는 하나가 가장 좋은 모델을 저장하고, 하나가 학습을 끝냅니다. (실습
13-2의 TensorBoard 콜백은 `tk.tensorboard.TensorBoard`입니다.)

    python examples/lectures/fit.py                # Keras 10-1, 소프트맥스 한 층, 공개된 값 0.9268
    python examples/lectures/fit.py --lab 10-2     # 폭 256인 네 층, 드롭아웃, 공개된 값 0.9811
    python examples/lectures/fit.py --lab 13-2     # CNN, 약 20분, 공개된 값 0.9894
    python examples/lectures/fit.py --lab 10-2 --patience 2   # 두 에포크 동안 나아지지 않으면 멈춤

실제로는: 실습은 한 번의 실행을 출력하며 셋째 자리는 잡음입니다. 시드 열 개에서 10-1은 0.9258에서
0.9291, 10-2는 0.9791에서 0.9811입니다. 공개된 0.9811은 우리의 보통 값이 아니라 최고 기록입니다.
한 번 학습한 13-2는 0.9891입니다. 10-2는 학습 이미지 60,000장의 마지막 5분의 1을 검증에 씁니다.
13-2는 테스트 이미지로 검증합니다. 그것으로 아무것도 고르지 않으면 괜찮지만, 그래서 --patience는
받지 않습니다.
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    add = parser.add_argument
    add("--lab", choices=list(LABS), default="10-1")
    add(
        "--seed",
        type=whole(0),
        default=0,
        help=Text(
            "of the start and the shuffling (default: 0)", "초깃값과 섞기의 시드 (기본값: 0)"
        ).say(),
    )
    add(
        "--epochs",
        type=whole(1),
        help=EPOCHS.say(),
    )
    add(
        "--patience",
        type=whole(1),
        help=Text(
            "epochs without a lower val_loss, then stop (10-2)",
            "val_loss가 이만큼의 에포크 동안 낮아지지 않으면 멈춥니다 (10-2)",
        ).say(),
    )
    args = parser.parse_args(argv)
    histories: list[History] = []
    callbacks: list[Any] = [lambda training: histories.append(training.history)]
    if LABS[args.lab].validated:
        callbacks.append(ModelCheckpoint(args.out / f"fit_{args.lab}.npz"))
    if args.patience and args.lab == "10-2":
        callbacks.append(EarlyStopping(patience=args.patience))
    elif args.patience:
        parser.error("--patience is for lab 10-2, which has images of its own to stop by")
    results = None if args.epochs or args.patience else RESULTS
    try:
        figures = run(args.lab, args.seed, epochs=args.epochs, callbacks=callbacks, results=results)
    except data.DatasetNotFoundError as error:
        parser.exit(1, f"error: {error}\n")
    for name, value in figures.items():
        line = Text("   published {value}", "   공개된 값 {value}")
        published = line.say(value=PUBLISHED[args.lab]) if "accuracy" in name else ""
        print(f"{in_words(name)} {value:.4f}{published}")
    save_picture(args.lab, histories[-1], args.out / f"fit_{args.lab}.png")


if __name__ == "__main__":
    launch(main)
