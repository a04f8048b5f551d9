"""Sequence loss, sequences of unlike length, and lab 12-5: can an LSTM foretell a share's price?

1. The sequence loss of three steps by hand, as in the lab: 0.596759, 0.513015 and 0.371101. In the
   last, 0.9 stands for the right class each time, yet the loss is not -log 0.9 = 0.105: the lab
   passes what look like probabilities where logits belong, and their softmax is never sure.
2. Three words of 5, 3 and 4 letters in one batch (`lengths=`): outputs are 0 beyond each end, and
   the last states are those of each word alone.
3. Lab 12-5: from 7 days of (open, high, low, volume, close), scaled by their minima and maxima, an
   LSTM of 10 units says the next day's close; Adam 0.01, 500 steps, 70% of 732 days to train on.
   The lab plots a prediction that hugs the price. So does "the same as today".

No stock prices come with this package. The prices here are MADE UP: a seeded random walk, whose
next step nothing can foretell, and, for comparison, a price with a 20-day wave in it, which can be.

Of ten walks, "the same as today" beats the LSTM on all ten: the LSTM's error is 1.19 times as large
(median), and what it says is nearer to today's price than to tomorrow's. With the wave it has 0.39
of the naive error, and wins all ten. The lab scales by minima and maxima of all days, those to be
foretold among them; with those of the training days alone the ratios are 1.20 and about 0.38.

    python examples/lectures/sequences.py

The picture is saved as out/lectures/sequences.png (needs matplotlib).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import (
    BLUE,
    GREEN,
    ORANGE,
    bar,
    in_words,
    label,
    launch,
    left,
    new_figure,
    options,
    right,
    save,
    whole,
)

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, no_grad, optim
from tinygrad_kr.language import Text

DAYS, WINDOW, HIDDEN = 732, 7, 10
CLOSE = 4
PUBLISHED = {
    "sequence loss, unsure": 0.596759,
    "sequence loss, 0.7": 0.513015,
    "sequence loss, 0.9": 0.371101,
}
WORDS = (
    Text("sequence loss of log 0.9", "시퀀스 손실, log 0.9"),
    Text("sequence loss", "시퀀스 손실"),
    Text("unsure", "확신 없음"),
    Text("lengths: last states apart", "길이: 마지막 상태의 차이"),
    Text("walk", "무작위 행보"),
    Text("wave", "물결"),
    Text("lab's scaling", "실습의 정규화"),
    Text("honest scaling", "정직한 정규화"),
    Text("RMSE over naive RMSE", "RMSE / 단순 예측의 RMSE"),
    Text("beats naive", "단순 예측을 이긴 비율"),
    Text("nearer to today than to tomorrow", "내일보다 오늘에 가까운 비율"),
)
PREDICTIONS = {
    "sequence loss, unsure": [[[0.2, 0.7], [0.6, 0.2], [0.2, 0.9]]],
    "sequence loss, 0.7": [[[0.3, 0.7], [0.3, 0.7], [0.3, 0.7]]],
    "sequence loss, 0.9": [[[0.1, 0.9], [0.1, 0.9], [0.1, 0.9]]],
}


# ------------------------------------------------------------------ 1 and 2: losses and lengths


def losses_by_hand() -> dict[str, float]:
    """Of three steps whose right class is 1; then of logarithms, as logits should be."""
    targets = np.array([[1, 1, 1]])
    found = {
        name: F.sequence_loss(Tensor(scores), targets).item()
        for name, scores in PREDICTIONS.items()
    }
    logits = Tensor(PREDICTIONS["sequence loss, 0.9"]).log()
    return found | {"sequence loss of log 0.9": F.sequence_loss(logits, targets).item()}


def words_of_unlike_length(seed: int) -> tuple[np.ndarray, float]:
    """The norm of each output (words, steps), and how far the last states are from each alone."""
    words, letters = ["hello", "lol", "hole"], "hielo"
    padded = [[letters.index(letter) for letter in word.ljust(5, "h")] for word in words]
    x = F.one_hot(Tensor(padded), len(letters)).float()
    tk.manual_seed(seed)
    net = nn.LSTM(len(letters), 4, batch_first=True)
    with no_grad():
        output, (last, _) = net(x, lengths=[len(word) for word in words])
        alone = [net(x[n, : len(word)])[1][0] for n, word in enumerate(words)]
    apart = max(np.abs(last.numpy()[:, n] - state.numpy()).max() for n, state in enumerate(alone))
    return np.linalg.norm(output.numpy(), axis=2), float(apart)


# ------------------------------------------------------------------ 3: made-up prices


def made_up_prices(kind: str, days: int, seed: int) -> np.ndarray:
    """(days, 5): open, high, low, volume, close, as in the lab's table.

    walk: each close is the one before times exp(N(0, 0.015)).
    wave: the same walk, a tenth as restless, on a wave of 20 days and 4%.
    """
    random = np.random.default_rng(seed)
    restless = 0.015 if kind == "walk" else 0.0015
    path = 600 * np.exp(np.cumsum(random.normal(0, restless, days + 1)))
    if kind == "wave":
        path *= 1 + 0.04 * np.sin(2 * np.pi * np.arange(days + 1) / 20)
    close = path[1:]
    opened = path[:-1] * np.exp(random.normal(0, 0.003, days))
    high = np.maximum(opened, close) * np.exp(np.abs(random.normal(0, 0.005, days)))
    low = np.minimum(opened, close) * np.exp(-np.abs(random.normal(0, 0.005, days)))
    return np.column_stack([opened, high, low, np.exp(random.normal(14, 0.3, days)), close])


def scaled(table: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The lab's MinMaxScaler: (x - min) / (max - min + 1e-7), with the bounds of `known` days."""
    low, high = known.min(axis=0), known.max(axis=0)
    return (table - low) / (high - low + 1e-7)


class Share(NamedTuple):
    """What an LSTM makes of a price: closes (test days,), all in the price's own units."""

    truth: np.ndarray
    today: np.ndarray
    predicted: np.ndarray

    @property
    def error(self) -> float:
        return rmse(self.predicted, self.truth)

    @property
    def naive_error(self) -> float:
        """Of "tomorrow's close is today's"."""
        return rmse(self.today, self.truth)


def rmse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


def foretell(table: np.ndarray, steps: int, seed: int, honest: bool, show: bool = False) -> Share:
    """Train on the first 70% of the windows, predict the rest.

    honest: scale by the minima and maxima of the training days; the lab takes those of all days,
        and so knows beforehand how far the price will go.
    """
    count = len(table) - WINDOW
    train = int(count * 0.7)
    data = scaled(table, table[: train + WINDOW] if honest else table).astype(np.float32)
    windows = np.stack([data[i : i + WINDOW] for i in range(count)])
    x, y = Tensor(windows[:train]), Tensor(data[WINDOW : WINDOW + train, CLOSE:])
    tk.manual_seed(seed)
    lstm, head = nn.LSTM(data.shape[1], HIDDEN, batch_first=True), nn.Linear(HIDDEN, 1)
    optimizer = optim.Adam([*lstm.parameters(), *head.parameters()], lr=0.01)
    for _ in bar(steps) if show else range(steps):
        loss = F.mse_loss(head(lstm(x)[0][:, -1]), y, reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with no_grad():
        predicted = head(lstm(Tensor(windows[train:]))[0][:, -1]).numpy()[:, 0]
    known = (table[: train + WINDOW] if honest else table)[:, CLOSE]
    predicted = predicted * (known.max() - known.min() + 1e-7) + known.min()
    close = table[:, CLOSE]
    return Share(close[WINDOW + train :], close[WINDOW + train - 1 : -1], predicted)


def run(
    walks: int = 10, steps: int = 500, seed: int = 0, keep: dict[str, Any] | None = None
) -> dict[str, float]:
    """All three parts; `keep` receives the shares for the picture."""
    keep = {} if keep is None else keep
    figures = losses_by_hand()
    keep["norms"], figures["lengths: last states apart"] = words_of_unlike_length(seed)
    for kind in ("walk", "wave"):
        for name, honest in (("lab's scaling", False), ("honest scaling", True)):
            shares = [
                foretell(made_up_prices(kind, DAYS, seed + i), steps, seed + i, honest)
                for i in bar(walks)
            ]
            ratios = [share.error / share.naive_error for share in shares]
            copies = [rmse(s.predicted, s.today) < s.error for s in shares]
            figures[f"{kind}, {name}: RMSE over naive RMSE"] = float(np.median(ratios))
            figures[f"{kind}, {name}: beats naive"] = float(np.mean(np.array(ratios) < 1))
            figures[f"{kind}, {name}: nearer to today than to tomorrow"] = float(np.mean(copies))
            keep[f"{kind}, {name}"] = shares
    return figures


# ------------------------------------------------------------------ the picture


def draw(keep: dict[str, Any], path: Path) -> None:
    """Above: the lab's plot and a close look at it. Below: error over the naive one, by series."""
    figure = new_figure(8, 5.5)
    if figure is None:
        return
    (whole, near), (wave, ratios) = figure.subplots(2, 2)
    walk, waves = keep["walk, lab's scaling"][0], keep["wave, honest scaling"][0]
    for axes, share, days, title in (
        (
            whole,
            walk,
            len(walk.truth),
            Text("random walk: looks foretold", "무작위 행보: 맞힌 듯 보인다"),
        ),
        (near, walk, 30, Text("the same, 30 days: one day late", "같은 것, 30일: 하루 늦다")),
        (wave, waves, 60, Text("with a wave in it: foretold", "물결이 있을 때: 맞힌다")),
    ):
        truth = label(Text("made-up price", "지어낸 가격"))
        ahead = label(Text("LSTM, a day ahead", "LSTM, 하루 앞"))
        axes.plot(share.truth[:days], color="black", linewidth=1.2, label=truth)
        axes.plot(share.predicted[:days], color=ORANGE, linewidth=1.2, label=ahead)
        axes.set(
            title=label(title),
            xlabel=label(Text("test day", "테스트 날")),
            ylabel=label(Text("close", "종가")),
        )
        axes.legend(fontsize=8)
    same = label(Text("same as today", "오늘과 같음"))
    near.plot(walk.today[:30], color=BLUE, linewidth=1, linestyle=":", label=same)
    near.legend(fontsize=8)
    wave.set_ylim(top=wave.get_ylim()[1] + 15)
    wave.legend(fontsize=8, loc="upper center", ncols=2)
    names = [name for name in keep if "scaling" in name]
    for place, name in enumerate(names):
        values = [share.error / share.naive_error for share in keep[name]]
        colour = ORANGE if name.startswith("walk") else GREEN
        ratios.plot([place] * len(values), values, "o", color=colour, alpha=0.6)
    ratios.axhline(1, color="0.4", linestyle="--")
    ratios.set(
        yscale="log",
        ylabel=label(Text("RMSE over the naive one", "RMSE / 단순 예측의 RMSE")),
        title=label(Text("every series", "모든 시계열")),
    )
    ratios.set_yticks([0.3, 0.5, 1, 2], ["0.3", "0.5", "1", "2"])
    ratios.minorticks_off()
    shown = [label(name, WORDS).replace(", ", "\n") for name in names]
    ratios.set_xticks(range(len(names)), [text.replace(" s", "\ns") for text in shown])
    ratios.set_xlim(-0.5, len(names) - 0.5)
    for axes in (whole, near, wave, ratios):
        axes.grid(alpha=0.3)
    save(figure, path)


KOREAN = """
시퀀스 손실, 길이가 다른 시퀀스, 그리고 실습 12-5: LSTM은 주가를 내다볼 수 있는가?

1. 세 스텝의 시퀀스 손실을 실습처럼 손으로 계산합니다. 0.596759, 0.513015, 0.371101. 마지막 것은
   정답 클래스가 번번이 0.9인데도 손실이 -log 0.9 = 0.105가 아닙니다. 실습은 로짓 자리에 확률처럼
   보이는 값을 넣었고, 그 소프트맥스는 결코 확신하지 못합니다.
2. 글자 5개, 3개, 4개인 세 낱말을 한 배치에(`lengths=`): 끝을 지난 출력은 0이고, 마지막 상태는
   낱말을 하나씩 넣었을 때와 같습니다.
3. 실습 12-5: 7일의 (시가, 고가, 저가, 거래량, 종가)를 최솟값과 최댓값으로 정규화하고, 유닛 10개인
   LSTM이 다음 날의 종가를 말합니다. Adam 0.01, 500스텝, 732일의 70%로 학습합니다. 실습의 그림에서
   예측은 가격에 바짝 붙어 있습니다. "오늘과 같다"도 그렇습니다.

이 패키지에 주가는 들어 있지 않습니다. 여기의 가격은 지어낸 것입니다. 다음 걸음을 아무도 내다볼 수
없는 무작위 행보와, 비교를 위해 내다볼 수 있는 20일 주기의 물결이 든 가격입니다.

무작위 행보 열 개에서 "오늘과 같다"가 모두 LSTM을 이깁니다. LSTM의 오차가 1.19배(중앙값)이고, 그
예측은 내일보다 오늘의 가격에 가깝습니다. 물결이 있으면 오차가 0.39배가 되어 열 개 모두 LSTM이
이깁니다. 실습은 내다볼 날까지 포함한 모든 날의 최솟값과 최댓값으로 정규화합니다. 학습할 날만으로
정규화하면 1.20과 약 0.38입니다.

    python examples/lectures/sequences.py

그림은 out/lectures/sequences.png에 저장합니다 (matplotlib 필요).
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    parser.add_argument(
        "--walks",
        type=whole(1),
        default=10,
        help=Text("made-up series of each kind", "종류마다 지어낸 시계열의 수").say(),
    )
    parser.add_argument(
        "--steps", type=whole(1), default=500, help=Text("of training", "학습 스텝 수").say()
    )
    parser.add_argument(
        "--seed",
        type=whole(0),
        default=0,
        help=Text("of series and starts", "시계열과 초깃값의 시드").say(),
    )
    args = parser.parse_args(argv)

    keep: dict[str, Any] = {}
    figures = run(args.walks, args.steps, args.seed, keep)
    line = Text(
        'norm of the output at each step of "hello", "lol", "hole":',
        '스텝마다 출력의 크기, "hello", "lol", "hole":',
    )
    print(line.say())
    print(np.array2string(keep["norms"], precision=3), "\n")
    lecture, here = Text("lecture", "강의").say(), Text("here", "우리 값").say()
    print(f"{'':<58}{right(lecture, 9)}{right(here, 10)}")
    for name, value in figures.items():
        published = f"{PUBLISHED[name]:.6f}" if name in PUBLISHED else ""
        print(f"{left(in_words(name, WORDS), 58)}{published:>9}{value:>10.6f}")
    draw(keep, args.out / "sequences.png")


if __name__ == "__main__":
    launch(main)
