"""Character nets, labs 12-1 to 12-4: predict the next letter from the letters so far.

- 12-1: an LSTM of 5 units turns "hihell" into "ihello". 12-2: one of 10 units turns
  " if you want yo" into "if you want you", with a published loss of 0.2086 at step 12. Both:
  one-hot letters, a dense layer behind, sequence loss, Adam 0.1, 50 steps. One run proves little,
  so 100 starts of each are trained. For 12-2 the median is 0.2050 (the middle 80% lie between
  0.135 and 0.265), so the lecture's figure is the ordinary one; every start learns every letter.
- 12-3: the same without memory, one softmax layer on each letter, ends at 0.2773 with "yf you yant
  you" after 3,000 steps. That is no failure to train: after a blank stand y (twice), i and w, and
  who sees nothing but the blank cannot know. The entropy of these letters is the loss.
- 12-4: two LSTMs, one on the other, learn a sentence of 180 letters from its 170 windows of 10.
  The lecture prints it with one wrong letter, the first, at a loss of 0.2296; we are at 0.2290 to
  0.2294, by processor, with that letter wrong in most cases.
  A floor again: the first letter of a window is read without any past. The entropy of all the
  windows' letters, given what stands before them in the window, is 0.2285; no net goes below. And
  after "if you wan" the net writes the rest by itself, without a mistake.

The lab's cell starts by Glorot's rule with a forget bias of 1; `--start pytorch` takes this
package's default, U(+-1 / sqrt(hidden)), with two biases per gate, as PyTorch has them: a median of
0.1638, since under Adam two biases learn twice as fast as one.

    python examples/lectures/characters.py
    python examples/lectures/characters.py --start pytorch --seeds 20

The picture is saved as out/lectures/characters.png (needs matplotlib).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import common
import numpy as np
from common import (
    BLUE,
    ORANGE,
    STEP,
    bar,
    in_words,
    label,
    launch,
    new_figure,
    options,
    save,
    whole,
)

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, language, nn, no_grad, optim

HELLO, WANT = "hihello", " if you want you"
SENTENCE = (
    "if you want to build a ship, don't drum up people together to collect wood and don't assign "
    "them tasks and work, but rather teach them to long for the endless immensity of the sea."
)
WINDOW = 10
PUBLISHED = {
    "lab 12-1 loss at step 10": 0.676005,
    "lab 12-2 loss at step 12": 0.208561,
    "lab 12-3 loss": 0.277323,
    "lab 12-4 loss": 0.229616,
}

WORDS = (
    language.Text("loss at step 10", "스텝 10의 손실"),
    language.Text("loss at step 12", "스텝 12의 손실"),
    language.Text("best tenth", "가장 좋은 10분의 1"),
    language.Text("worst tenth", "가장 나쁜 10분의 1"),
    language.Text("starts as good as the lecture's", "강의만큼 좋은 초깃값의 비율"),
    language.Text("starts that learn every letter", "모든 글자를 배운 초깃값의 비율"),
    language.Text("floor", "바닥"),
    language.Text("wrong letters", "틀린 글자"),
    language.Text("letters right when it writes alone", "혼자 쓸 때 맞힌 글자"),
)


# ------------------------------------------------------------------ letters


class Text(NamedTuple):
    """Windows of a text as numbers: inputs and the letters that follow them, (windows, steps)."""

    letters: str
    inputs: np.ndarray
    targets: np.ndarray

    def one_hot(self) -> Tensor:
        return F.one_hot(Tensor(self.inputs), len(self.letters)).float()

    def read(self, numbers: np.ndarray) -> str:
        return "".join(self.letters[number] for number in numbers)


def windows_of(text: str, steps: int) -> Text:
    """Every window of so many steps, and the same window one letter later."""
    letters = "".join(dict.fromkeys(text))
    numbers = np.array([letters.index(letter) for letter in text])
    starts = range(len(text) - steps)
    inputs = np.array([numbers[i : i + steps] for i in starts])
    return Text(letters, inputs, np.array([numbers[i + 1 : i + steps + 1] for i in starts]))


def floor(text: Text, memory: int) -> float:
    """The least loss of anything that sees the last `memory` letters of its window: the entropy
    of the next letter, given those, in nats a letter."""
    follows: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for inputs, targets in zip(text.inputs.tolist(), text.targets.tolist(), strict=True):
        for step, target in enumerate(targets):
            follows[tuple(inputs[max(0, step + 1 - memory) : step + 1])][target] += 1
    total = 0.0
    for counts in follows.values():
        total -= sum(n * math.log(n / counts.total()) for n in counts.values())
    return total / text.targets.size


# ------------------------------------------------------------------ nets


class CharacterNet(nn.Module):
    """LSTMs over one-hot letters, and a dense layer that scores the next letter at every step."""

    def __init__(self, letters: int, hidden: int, layers: int, start: str) -> None:
        self.lstm = nn.LSTM(letters, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, letters)
        if start == "lab":
            start_as_in_the_lab(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0])


def start_as_in_the_lab(net: CharacterNet) -> None:
    """Glorot's uniform start, biases 0 but 1 at the forget gates, and a single bias per gate."""
    for name, parameter in net.lstm.named_parameters():
        hidden = net.lstm.hidden_size
        if name.startswith("weight_ih"):
            limit = math.sqrt(6 / (parameter.shape[1] + hidden + 4 * hidden))
        if name.startswith("weight"):
            nn.init.uniform_(parameter, -limit, limit)
        else:
            nn.init.zeros_(parameter)
        if name.startswith("bias_ih"):
            with no_grad():
                parameter[hidden : 2 * hidden] = 1.0
        if name.startswith("bias_hh"):
            parameter.requires_grad_(False)
    nn.init.xavier_uniform_(net.head.weight)
    nn.init.zeros_(net.head.bias)


def train(net: nn.Module, text: Text, steps: Iterable[int], rate: float = 0.1) -> list[float]:
    """Adam on all windows at once; gives the loss before each step."""
    x, losses = text.one_hot(), []
    optimizer = optim.Adam([p for p in net.parameters() if p.requires_grad], lr=rate)
    for _ in steps:
        loss = F.sequence_loss(net(x), text.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def answers(net: nn.Module, text: Text) -> list[str]:
    """The likeliest next letters, window by window."""
    with no_grad():
        return [text.read(row) for row in net(text.one_hot()).argmax(axis=2).numpy()]


def sentence_of(windows: list[str]) -> str:
    """As the lab prints it: the first window whole, then the last letter of each."""
    return windows[0] + "".join(window[-1] for window in windows[1:])


def write_on(net: nn.Module, text: Text, begin: str, count: int) -> str:
    """Let the net go on by itself: it reads its own letters, at most `WINDOW` back."""
    written = begin
    with no_grad():
        for _ in range(count):
            numbers = [[text.letters.index(letter) for letter in written[-WINDOW:]]]
            one = Text(text.letters, np.array(numbers), np.array(numbers))
            written += answers(net, one)[0][-1]
    return written


# ------------------------------------------------------------------ the labs


def many_starts(name: str, hidden: int, steps: int, start: str, seeds: int) -> tuple[Any, int]:
    """The losses (seeds, steps) of a short text, and how many nets ended with the right letters."""
    text, losses, right = windows_of(name, len(name) - 1), [], 0
    for seed in bar(seeds):
        tk.manual_seed(seed)
        net = CharacterNet(len(text.letters), hidden, 1, start)
        losses.append(train(net, text, range(steps)))
        right += answers(net, text)[0] == name[1:]
    return np.array(losses), right


def watch_hihello(start: str, seed: int) -> None:
    """Lab 12-1 once, and what the net answers on the way."""
    tk.manual_seed(seed)
    text = windows_of(HELLO, len(HELLO) - 1)
    net = CharacterNet(len(text.letters), 5, 1, start)

    def watched(steps: int) -> Iterator[int]:
        for step in range(steps):
            if step % 3 == 0:
                line = language.Text("  step {step:>2}   {said!r}", "  스텝 {step:>2}   {said!r}")
                print(line.say(step=step, said=answers(net, text)[0]))
            yield step

    title = language.Text("lab 12-1, {some!r} to {other!r}:", "실습 12-1, {some!r} -> {other!r}:")
    print(title.say(some=HELLO[:-1], other=HELLO[1:]))
    train(net, text, watched(16))


def run(
    start: str = "lab",
    seeds: int = 100,
    steps: int = 50,
    softmax_steps: int = 3_000,
    sentence_steps: int = 500,
    seed: int = 0,
    keep: dict[str, Any] | None = None,
) -> dict[str, float]:
    """All four labs; `keep` receives curves and texts for the picture and the printed lines."""
    keep = {} if keep is None else keep
    figures: dict[str, float] = {}
    for lab, name, hidden, step in (("12-1", HELLO, 5, 10), ("12-2", WANT, 10, 12)):
        losses, right = many_starts(name, hidden, max(steps, step + 1), start, seeds)
        at, published = losses[:, step], PUBLISHED[f"lab {lab} loss at step {step}"]
        figures[f"lab {lab} loss at step {step}"] = float(np.median(at))
        figures[f"lab {lab} loss at step {step}, best tenth"] = float(np.quantile(at, 0.1))
        figures[f"lab {lab} loss at step {step}, worst tenth"] = float(np.quantile(at, 0.9))
        figures[f"lab {lab} starts as good as the lecture's"] = float((at <= published).mean())
        figures[f"lab {lab} starts that learn every letter"] = right / seeds
        keep[lab] = losses

    tk.manual_seed(seed)
    short = windows_of(WANT, len(WANT) - 1)
    softmax = nn.Linear(len(short.letters), len(short.letters))
    keep["12-3"] = train(softmax, short, bar(softmax_steps))
    keep["12-3 answer"] = answers(softmax, short)[0]
    figures["lab 12-3 loss"] = keep["12-3"][-1]
    figures["lab 12-3 floor"] = floor(short, memory=1)

    tk.manual_seed(seed)
    long = windows_of(SENTENCE, WINDOW)
    net = CharacterNet(len(long.letters), len(long.letters), 2, start)
    keep["12-4"] = train(net, long, bar(sentence_steps))
    keep["12-4 answer"] = sentence_of(answers(net, long))
    keep["12-4 alone"] = write_on(net, long, SENTENCE[:WINDOW], len(SENTENCE) - WINDOW)
    wrong = sum(a != b for a, b in zip(keep["12-4 answer"], SENTENCE[1:], strict=True))
    alone = sum(a == b for a, b in zip(keep["12-4 alone"], SENTENCE, strict=True))
    figures["lab 12-4 loss"] = keep["12-4"][-1]
    figures["lab 12-4 floor"] = floor(long, memory=WINDOW)
    figures["lab 12-4 wrong letters"] = float(wrong)
    figures["lab 12-4 letters right when it writes alone"] = float(alone - WINDOW)
    return figures


# ------------------------------------------------------------------ the picture


NATS = language.Text("loss (nats a letter)", "손실 (글자당 내트)")


def draw(keep: dict[str, Any], figures: dict[str, float], path: Path) -> None:
    """Left: every start of lab 12-2. Right: with and without memory, and the floors."""
    figure = new_figure(8, 3.8)
    if figure is None:
        return
    left, right = figure.subplots(1, 2)
    losses = keep["12-2"]
    left.plot(losses.T, color=BLUE, linewidth=0.5, alpha=0.25)
    left.plot(
        np.median(losses, axis=0),
        color=BLUE,
        linewidth=2,
        label=label(language.Text("median of {count}", "{count}개의 중앙값"), count=len(losses)),
    )
    published = label(language.Text("the lecture's run", "강의의 실행"))
    left.plot(12, PUBLISHED["lab 12-2 loss at step 12"], "*", color=ORANGE, markersize=14,
              markeredgecolor="black", label=published)  # fmt: skip
    left.set(xlabel=label(STEP), ylabel=label(NATS), yscale="log")
    title = language.Text(
        'lab 12-2: LSTM, " if you want you"', '실습 12-2: LSTM, " if you want you"'
    )
    left.set(title=label(title), xlim=(0, losses.shape[1] - 1))
    for key, colour, name in (
        ("12-3", ORANGE, language.Text("no memory (12-3)", "기억 없음 (12-3)")),
        ("12-4", BLUE, language.Text("two LSTMs (12-4)", "LSTM 두 층 (12-4)")),
    ):
        right.plot(range(1, len(keep[key]) + 1), keep[key], color=colour, label=label(name))
        right.axhline(figures[f"lab {key} floor"], color=colour, linewidth=1, linestyle=":")
    right.plot(
        [],
        [],
        color="0.4",
        linestyle=":",
        label=label(language.Text("the least that is possible", "가능한 최솟값")),
    )
    right.set(xlabel=label(STEP), ylabel=label(NATS), xscale="log", yscale="log")
    title = language.Text("what cannot be known stays", "알 수 없는 것은 남는다")
    right.set(title=label(title), yticks=[0.2, 0.5, 1, 2, 3])
    right.set_yticklabels(["0.2", "0.5", "1", "2", "3"])
    right.set_ylim(0.2, 10)
    right.minorticks_off()
    left.legend(fontsize=9)
    right.legend(fontsize=9, loc="upper right")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    save(figure, path)


KOREAN = """
글자 신경망, 실습 12-1에서 12-4까지: 지금까지의 글자로 다음 글자를 맞힙니다.

- 12-1: 유닛 5개인 LSTM이 "hihell"에서 "ihello"를 만듭니다. 12-2: 유닛 10개인 LSTM이 " if you want
  yo"에서 "if you want you"를 만들고, 공개된 손실은 스텝 12에서 0.2086입니다. 둘 다 원-핫 글자,
  뒤에 완전 연결 층, 시퀀스 손실, Adam 0.1, 50스텝. 한 번의 실행은 증거가 되지 못하므로 초깃값
  100개씩 학습합니다. 12-2의 중앙값은 0.2050이고 가운데 80%가 0.135에서 0.265 사이이므로 강의의
  값은 평범합니다. 모든 초깃값이 모든 글자를 배웁니다.
- 12-3: 기억이 없는 소프트맥스 층 하나는 3,000스텝 뒤에 "yf you yant you"와 0.2773으로 끝납니다.
  학습이 실패한 것이 아닙니다. 빈칸 뒤에는 y(두 번), i, w가 오는데 빈칸만 보아서는 알 수 없습니다.
  이 글자들의 엔트로피가 곧 손실입니다.
- 12-4: LSTM 두 층이 180글자짜리 문장을 길이 10인 창 170개로 배웁니다. 강의의 출력은 첫 글자
  하나가 틀리고 손실은 0.2296입니다. 우리는 프로세서에 따라 0.2290에서 0.2294이고 대개 같은 글자가
  틀립니다. 이것도 바닥입니다. 창의 첫 글자는 앞을 보지 못하고 읽습니다. 모든 창의 글자를 그 앞의
  글자들로 조건을 건 엔트로피는 0.2285이고, 어떤 신경망도 그 아래로 가지 못합니다. "if you wan"
  뒤는 신경망이 혼자서 틀리지 않고 씁니다.

실습의 셀은 Glorot 방식으로 초기화하고 망각 편향은 1입니다. `--start pytorch`는 이 패키지의 기본값
U(+-1 / sqrt(hidden))을 쓰고, PyTorch처럼 게이트마다 편향이 둘입니다. 이때 중앙값은 0.1638입니다.
Adam에서 편향 둘은 하나보다 두 배 빨리 배우기 때문입니다.

    python examples/lectures/characters.py
    python examples/lectures/characters.py --start pytorch --seeds 20

그림은 out/lectures/characters.png에 저장합니다 (matplotlib 필요).
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    parser.add_argument("--start", choices=["lab", "pytorch"], default="lab")
    parser.add_argument(
        "--seeds",
        type=whole(1),
        default=100,
        help=language.Text("starts of the short labs", "짧은 실습의 초깃값 수").say(),
    )
    parser.add_argument(
        "--seed",
        type=whole(0),
        default=0,
        help=language.Text("of the long sentence", "긴 문장의 시드").say(),
    )
    args = parser.parse_args(argv)

    watch_hihello(args.start, args.seed)
    keep: dict[str, Any] = {}
    figures = run(args.start, args.seeds, seed=args.seed, keep=keep)
    line = language.Text("lab {lab} answers {said!r}", "실습 {lab}의 답 {said!r}")
    print("\n" + line.say(lab="12-3", said=keep["12-3 answer"]))
    print(line.say(lab="12-4", said=keep["12-4 answer"]))
    line = language.Text("alone, from {start!r}: {said!r}\n", "혼자서, 처음 {start!r}: {said!r}\n")
    print(line.say(start=SENTENCE[:WINDOW], said=keep["12-4 alone"]))
    lecture, here = language.Text("lecture", "강의"), language.Text("here", "우리 값")
    print(" " * 52 + common.right(lecture.say(), 9) + common.right(here.say(), 9))
    for name, value in figures.items():
        published = f"{PUBLISHED[name]:.4f}" if name in PUBLISHED else ""
        print(f"{common.left(in_words(name, WORDS), 52)}{published:>9}{value:>9.4f}")
    draw(keep, figures, args.out / "characters.png")


if __name__ == "__main__":
    launch(main)
