"""A restricted Boltzmann machine looks at handwritten digits, without being told which is which.

The lecture: visible units are the pixels, hidden units are drawn 0 or 1 from what is seen, the
pixels are drawn from those in turn, and learning (contrastive divergence, CD-1) makes this
reconstruction resemble what was seen. So it does, and the filters, what each hidden unit looks
for, are strokes.

What the lecture leaves out: a machine stands for a probability of every picture, and good
reconstructions do not make it a good one. Left with nothing but its own pictures for a thousand
Gibbs steps, CD-1's machine ends as blank paper in 81 to 89% of 64 chains, by processor. CD-1 never
goes farther than a step from the data. The same net with the same rates, taught by chains that are
never sent back to the data (persistent contrastive divergence), keeps to digits and never ends as
blank paper. Its reconstructions are the worse ones (mean square error 0.0105 a pixel, CD-1's
0.0091).

    python examples/lectures/rbm.py                  # 784-256, 12 epochs each, about a minute
    python examples/lectures/rbm.py --data digits    # 1,797 small digits, no download, seconds

The picture is saved as out/lectures/rbm.png (needs matplotlib).
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import (
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
from tinygrad_kr import data, nn, no_grad
from tinygrad_kr.language import Text

FALLING = (0.05,) * 4 + (0.02,) * 3 + (0.005,) * 3 + (0.001,) * 2
"""The rate of each epoch. Persistent chains need it to fall: they must keep up with the weights."""
RECIPES: dict[str, dict[str, Any]] = {
    "mnist": {"hidden": 256, "rates": FALLING, "batch": 100},
    "digits": {"hidden": 64, "rates": (0.1,) * 30 + (0.02,) * 10, "batch": 20},
}
CHAINS = {"CD-1": 0, "persistent": 100}
GIBBS_STEPS = 1000
BLANK = 0.01
"""A picture with less ink than this, where a digit has 0.13 on average, is blank."""

WORDS = (
    Text("persistent", "지속적 사슬"),
    Text("ink in digits", "숫자의 잉크"),
    Text("blank digits", "백지인 숫자"),
    Text("reconstruction error", "재구성 오차"),
    Text("digits told from their shuffled pixels", "픽셀을 섞은 것과 구별한 숫자"),
    Text("ink in samples", "표본의 잉크"),
    Text("blank samples", "백지인 표본"),
)


class Machine(NamedTuple):
    """One that has learned."""

    rbm: nn.RBM
    errors: list[float]
    """Of its reconstructions of what it learns from, after each epoch."""
    samples: np.ndarray
    """What it makes of 64 test images in a thousand Gibbs steps, (64, pixels)."""


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images to learn from and to be tested on, (N, pixels), from 0, paper, to 1, ink."""
    read = data.mnist if name == "mnist" else data.digits
    images, test_images = (read(split)[0] for split in ("train", "test"))
    pixels = images[0].size
    return images[:55_000].reshape(-1, pixels), test_images.reshape(-1, pixels)


def learn(
    images: np.ndarray,
    test_images: np.ndarray,
    kind: str,
    seed: int,
    *,
    hidden: int,
    rates: tuple[float, ...],
    batch: int,
) -> Machine:
    """An epoch at each of the rates, then samples."""
    tk.manual_seed(seed)
    rbm = nn.RBM(images.shape[1], hidden, chains=CHAINS[kind])
    bar, errors = (
        progress_bar(len(rates) * math.ceil(len(images) / batch), in_words(kind, WORDS)),
        [],
    )
    for rate in rates:
        errors += rbm.fit(images, 1, lr=rate, batch_size=batch, progress=lambda _: bar.update())
    bar.close()
    samples = rbm.sample(64, GIBBS_STEPS, start=test_images[:64])
    with no_grad():
        return Machine(rbm, errors, rbm.reconstruct(samples).numpy())


def figures_of(machine: Machine, test_images: np.ndarray) -> dict[str, float]:
    """How well a machine reconstructs, what it takes for a digit, and what it sees by itself."""
    rbm = machine.rbm
    shuffled = np.random.default_rng(0).permuted(test_images, axis=1)
    with no_grad():
        lower = rbm.free_energy(test_images).numpy() < rbm.free_energy(shuffled).numpy()
    ink = machine.samples.mean(axis=1)
    return {
        "reconstruction error": rbm.reconstruction_error(test_images),
        "digits told from their shuffled pixels": float(lower.mean()),
        "ink in samples": float(ink.mean()),
        "blank samples": float((ink < BLANK).mean()),
    }


def measure(
    name: str = "mnist", seed: int = 0, **recipe: Any
) -> tuple[dict[str, Machine], dict[str, float]]:
    """Both machines, from one start, and their figures on the test images."""
    images, test_images = load(name)
    machines = {kind: learn(images, test_images, kind, seed, **recipe) for kind in CHAINS}
    figures = {
        "ink in digits": float(test_images.mean()),
        "blank digits": float((test_images.mean(axis=1) < BLANK).mean()),
    }
    for kind, machine in machines.items():
        found = figures_of(machine, test_images)
        figures |= {f"{kind} {what}": figure for what, figure in found.items()}
    return machines, figures


def run(name: str = "mnist", seed: int = 0, **changes: Any) -> dict[str, float]:
    """Let both machines learn and return their figures, such as "CD-1 reconstruction error".

    name: "mnist" or "digits". changes: of that recipe in `RECIPES`.
    Raises DatasetNotFoundError where MNIST is not to be had.
    """
    return measure(name, seed, **(RECIPES[name] | changes))[1]


# ------------------------------------------------------------------ picture


def save_picture(
    machines: dict[str, Machine], test_images: np.ndarray, title: str, path: Path
) -> None:
    """Digits and their reconstructions in rows; below, filters, and samples of both machines."""
    figure = new_figure(8, 5)
    if figure is None:
        return
    digits = test_images[:16]
    rows = {"digits": digits}
    with no_grad():
        for kind, machine in machines.items():
            rows[kind] = machine.rbm.reconstruct(digits).numpy()
    weights = machines["CD-1"].rbm.weight.detach().numpy()
    filters = weights[np.argsort(-np.linalg.norm(weights, axis=1))[:36]]

    figure.suptitle(title, fontsize=11)
    top, *below = figure.subplot_mosaic(
        [["rows"] * 3, ["filters", *machines]], height_ratios=[3, 4.6]
    ).values()
    wall = tiled(np.concatenate(list(rows.values())), len(digits))
    top.imshow(wall, cmap="Greys", vmin=0, vmax=1)
    text = Text(
        "images not learned from, and their reconstructions", "학습에 쓰지 않은 이미지와 그 재구성"
    )
    top.set_title(label(text), fontsize=10)
    largest = np.abs(filters).max(axis=1, keepdims=True)
    below[0].imshow(tiled(filters / largest, 6), cmap="PuOr_r", vmin=-1, vmax=1)
    below[0].set_title(label(Text("36 filters of CD-1", "CD-1의 필터 36개")), fontsize=10)
    for axes, (kind, machine) in zip(below[1:], machines.items(), strict=True):
        axes.imshow(tiled(machine.samples[:36], 6), cmap="Greys", vmin=0, vmax=1)
        later = Text("{kind}: {steps:,} steps later", "{kind}: {steps:,}스텝 뒤")
        axes.set_title(label(later, kind=label(kind, WORDS), steps=GIBBS_STEPS), fontsize=10)
    for axes in (top, *below):
        axes.set(xticks=[], yticks=[])
        axes.tick_params(length=0)
        axes.spines[:].set_color("lightgray")
    top.set_yticks(
        (np.arange(len(rows)) + 0.5) * len(wall) / len(rows),
        [label(name, WORDS) for name in rows],
        fontsize=10,
    )
    save(figure, path)


def tiled(pictures: np.ndarray, columns: int) -> np.ndarray:
    """Square pictures (N, pixels) side by side in rows of `columns`, a gap around each."""
    side = math.isqrt(pictures.shape[1])
    squares = pictures.reshape(-1, columns, side, side)
    gap = max(1, side // 14)
    framed = np.pad(squares, ((0, 0), (0, 0), (gap, gap), (gap, gap)), constant_values=np.nan)
    return framed.swapaxes(1, 2).reshape(-1, columns * (side + 2 * gap))


KOREAN = """
제한 볼츠만 머신이 어느 숫자인지 듣지 않고 손글씨를 바라봅니다.

강의: 보이는 유닛은 픽셀이고, 은닉 유닛은 본 것에서 0이나 1로 뽑고, 픽셀은 다시 그것에서 뽑습니다.
대조 발산(CD-1)으로 배우면 이 재구성이 본 것과 닮아 갑니다. 그렇게 됩니다. 은닉 유닛이 저마다 찾는
필터는 획입니다.

강의가 말하지 않은 것: 이 머신은 모든 그림에 확률을 주는데, 재구성이 좋다고 확률까지 좋은 것은
아닙니다. 자기가 그린 그림만 보며 깁스 스텝을 천 번 밟으면 CD-1로 배운 머신은 사슬 64개의 81에서
89%(프로세서에 따라)가 백지로 끝납니다. CD-1은 데이터에서 한 스텝 넘게 멀어지는 일이 없습니다.
같은 신경망을 같은 학습률로, 데이터로 되돌아가지 않는 사슬(지속적 대조 발산)로 가르치면 숫자를
잊지 않고 백지로 끝나지도 않습니다. 대신 재구성이 못합니다(픽셀당 제곱 오차의 평균이 0.0105,
CD-1은 0.0091).

    python examples/lectures/rbm.py                  # 784-256, 12 에포크씩, 약 1분
    python examples/lectures/rbm.py --data digits    # 작은 숫자 1,797개, 내려받지 않음, 몇 초

그림은 out/lectures/rbm.png에 저장합니다 (matplotlib 필요).
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
            "of the start and all that is drawn (default: 0)",
            "초깃값과 모든 추출의 시드 (기본값: 0)",
        ).say(),
    )
    args = parser.parse_args(argv)
    recipe = RECIPES[args.data]
    try:
        machines, figures = measure(args.data, args.seed, **recipe)
    except data.DatasetNotFoundError as error:
        sys.exit(f"error: {error}\nor try --data digits")
    print(Text("error of the reconstructions after each epoch", "에포크마다 재구성의 오차").say())
    for kind, machine in machines.items():
        print(left(in_words(kind, WORDS), 12), *(f"{error:.4f}" for error in machine.errors))
    line = Text(
        "\non the test images (the lecture gives no figures)",
        "\n테스트 이미지에서 (강의에 수치는 없습니다)",
    )
    print(line.say())
    for name, figure in figures.items():
        print(f"{left(in_words(name, WORDS), 52)}{figure:>8.4f}")
    sizes = f"{machines['CD-1'].rbm.n_visible}-{recipe['hidden']}"
    title = Text(
        "Restricted Boltzmann machines, {sizes}, on {images}", "제한 볼츠만 머신, {sizes}, {images}"
    )
    images = (
        "MNIST" if args.data == "mnist" else label(Text("the small digits", "작은 숫자 이미지"))
    )
    text = label(title, sizes=sizes, images=images)
    save_picture(machines, load(args.data)[1], text, args.out / "rbm.png")


if __name__ == "__main__":
    launch(main)
