"""A variational autoencoder on small digits: it learns a plane on which every point is a digit.

The encoder gives each image a normal distribution on the plane, the decoder makes an image of a
point drawn from it. The cost is that of the image, and how far the distribution is from N(0, 1):

    cost = cross-entropy(x, decoder(z)) + KL(N(mean, variance), N(0, 1))
    z = mean + deviation * noise

(Kingma and Welling 2014). No labels are used; they colour the picture alone.

    python examples/vae.py                  # half a minute
    python examples/vae.py --compile        # each step as one generated program
    python examples/vae.py --epochs 20      # a quick look

The plane is saved as a picture in out/ (needs matplotlib). Ctrl-C stops the training and shows what
was reached.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lectures.common import (
    DEFAULT,
    RATE,
    SEED,
    digit_rows,
    label,
    launch,
    new_figure,
    options,
    positive,
    progress_bar,
    save,
    whole,
)

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, data, nn, no_grad, optim
from tinygrad_kr.language import Text

SIDE = 8
"""Pixels of a row of an image."""


class VAE(nn.Module):
    """Encoder and decoder, each with a hidden layer; the plane is between them."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(SIDE * SIDE, hidden)
        self.mean, self.log_variance = nn.Linear(hidden, 2), nn.Linear(hidden, 2)
        self.wide, self.pixels = nn.Linear(2, hidden), nn.Linear(hidden, SIDE * SIDE)

    def encode(self, x: Any) -> tuple[Any, Any]:
        """Mean and logarithm of the variance on the plane: (n, 64) to (n, 2), twice."""
        h = F.relu(self.hidden(x))
        return self.mean(h), self.log_variance(h)

    def decode(self, z: Any) -> Any:
        """Logits of the pixels: (n, 2) to (n, 64)."""
        return self.pixels(F.relu(self.wide(z)))


class Cost(NamedTuple):
    """Per image, in nats: of its pixels, and of its place on the plane."""

    pixels: float
    place: float


def costs(net: VAE, x: Any, noise: Any) -> tuple[Any, Any]:
    """Both parts of the cost, means over the images."""
    mean, log_variance = net.encode(x)
    z = mean + noise * (0.5 * log_variance).exp()
    pixels = F.binary_cross_entropy_with_logits(net.decode(z), x, reduction="sum")
    place = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
    return pixels / len(x), place / len(x)


def train(net: VAE, images: np.ndarray, args: Any) -> list[Cost]:
    """Adam on shuffled batches; the costs of each epoch, and a line every tenth one."""
    loader = data.DataLoader(images, batch_size=args.batch, shuffle=True)
    optimizer = optim.Adam(net.parameters(), lr=args.lr)

    def step(x: Any) -> tuple[Any, Any]:
        pixels, place = costs(net, x, tk.randn(len(x), 2))
        optimizer.zero_grad()
        (pixels + place).backward()
        optimizer.step()
        return pixels.detach(), place.detach()

    update = tk.compile(step) if args.compile else step
    history: list[Cost] = []
    bar = progress_bar(args.epochs, unit="epoch")
    try:
        for epoch in range(1, args.epochs + 1):
            found = [[part.item() for part in update(batch)] for batch in loader]
            history.append(Cost(*np.mean(found, axis=0)))
            bar.update()
            if epoch % 10 == 0 or epoch == args.epochs:
                bar.write(LINE.say(epoch=epoch, epochs=args.epochs, **history[-1]._asdict()))
    except KeyboardInterrupt:
        print(STOPPED.say(epoch=len(history), epochs=args.epochs))
    finally:
        bar.close()
    return history


# ------------------------------------------------------------------ the picture


def manifold(net: VAE, reach: float, count: int) -> np.ndarray:
    """Images of the points of a grid of the plane, from -reach to reach, as one image."""
    line = np.linspace(-reach, reach, count, dtype=np.float32)
    points = np.stack(np.meshgrid(line, line[::-1]), axis=-1).reshape(-1, 2)
    with no_grad():
        images = net.decode(Tensor(points)).sigmoid().numpy()
    framed = np.pad(images.reshape(count, count, SIDE, SIDE), ((0, 0), (0, 0), (1, 1), (1, 1)))
    return framed.transpose(0, 2, 1, 3).reshape(2 * [count * (SIDE + 2)])


def save_picture(net: VAE, path: Path) -> None:
    """Where test images lie on the plane, by label; what the decoder makes of the plane."""
    figure = new_figure(9.5, 4.6)
    if figure is None:
        return
    images, labels = digit_rows("test")
    with no_grad():
        places = net.encode(Tensor(images))[0].numpy()
    reach = 2.5
    left, right = figure.subplots(1, 2)
    points = left.scatter(*places.T, c=labels, cmap="tab10", vmin=-0.5, vmax=9.5, s=10)
    figure.colorbar(points, ax=left, ticks=range(10), label=label(LABEL))
    left.set(title=label(PLACES), aspect="equal")
    left.grid(alpha=0.3)
    image = manifold(net, reach, 11)
    right.imshow(image, cmap="Greys", vmin=0, vmax=1, extent=(-reach, reach, -reach, reach))
    right.set_title(label(DECODED))
    for axes in (left, right):
        axes.set(xlabel="z[0]", ylabel="z[1]")
    save(figure, path)


LINE = Text(
    "epoch {epoch:>3}/{epochs}   pixels {pixels:6.2f}   place {place:5.2f}",
    "에포크 {epoch:>3}/{epochs}   픽셀 {pixels:6.2f}   위치 {place:5.2f}",
)
STOPPED = Text(
    "\nstopped after {epoch} of {epochs} epochs",
    "\n{epochs} 에포크 중 {epoch} 에포크에서 중단했습니다",
)
LABEL = Text("label", "레이블")
PLACES = Text("test images on the plane", "평면 위의 테스트 이미지")
DECODED = Text("what the decoder makes of the plane", "디코더가 평면에서 만든 이미지")
RECIPE = Text(
    "{images:,} images, {parameters:,} parameters\n"
    "Adam, rate {rate:g}, {epochs} epochs, batches of {batch}, seed {seed}\n",
    "이미지 {images:,}장, 파라미터 {parameters:,}개\n"
    "Adam, 학습률 {rate:g}, {epochs} 에포크, 배치 {batch}, 시드 {seed}\n",
)
BATCH = Text("images a step (default: {default})", "스텝마다 이미지 수 (기본값: {default})")
UNITS = Text("units of the hidden layers (default: {default})", "은닉층의 폭 (기본값: {default})")
KOREAN = """
작은 숫자 이미지의 변분 오토인코더: 모든 점이 숫자 하나인 평면을 배웁니다.

인코더는 이미지마다 평면 위의 정규 분포를 정하고, 디코더는 거기서 뽑은 점으로 이미지를 만듭니다.
비용은 이미지의 비용과, 분포가 N(0, 1)에서 떨어진 정도의 합입니다.

    비용 = 교차 엔트로피(x, 디코더(z)) + KL(N(평균, 분산), N(0, 1))
    z = 평균 + 표준편차 * 잡음

(Kingma and Welling 2014). 레이블은 쓰지 않습니다. 그림의 색에만 씁니다.

    python examples/vae.py                  # 30초
    python examples/vae.py --compile        # 스텝마다 컴파일한 프로그램 하나로
    python examples/vae.py --epochs 20      # 잠깐 보기

평면은 out/에 그림으로 저장합니다 (matplotlib 필요). Ctrl-C를 누르면 학습을 멈추고 그때까지의 결과를
보여 줍니다.
"""


def main() -> None:
    parser = options(__doc__, KOREAN, out="out")
    add = parser.add_argument
    add("--epochs", type=whole(1), default=100, help=DEFAULT.say(default=100))
    batch = Text("images a step (default: {default})", "스텝마다 이미지 수 (기본값: {default})")
    add("--batch", type=whole(1), default=50, help=batch.say(default=50))
    hidden = Text(
        "units of the hidden layers (default: {default})", "은닉층의 폭 (기본값: {default})"
    )
    add("--hidden", type=whole(1), default=128, help=hidden.say(default=128))
    add("--lr", type=positive, default=0.002, help=RATE.say(default="0.002"))
    add("--seed", type=whole(0), default=0, help=SEED.say(default=0))
    replay = Text("record a step once and replay it as C", "스텝을 한 번 기록하고 C로 되풀이합니다")
    add("--compile", action="store_true", help=replay.say())
    args = parser.parse_args()
    tk.manual_seed(args.seed)
    images, _ = digit_rows("train")
    net = VAE(args.hidden)
    print(
        RECIPE.say(
            images=len(images), parameters=sum(parameter.size for parameter in net.parameters()),
            rate=args.lr, epochs=args.epochs, batch=args.batch, seed=args.seed,
        )
    )  # fmt: skip
    start = time.perf_counter()
    train(net, images, args)
    line = Text("trained in {seconds:.1f} s", "학습 시간 {seconds:.1f}초")
    print(line.say(seconds=time.perf_counter() - start))
    save_picture(net, args.out / "vae.png")


if __name__ == "__main__":
    launch(main)
