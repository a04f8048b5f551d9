"""A character GPT: a small transformer that learns to write like the text that it is given.

Each character is a vector, to which the vector of its place is added. Four blocks follow. In each,
attention adds a weighted mean over the characters before, and two linear layers change each
character by itself. The last layer gives a logit for each character that may come next (Radford et
al. 2018).

Without --text it reads this project's own pages, in English and in Korean.

    python examples/gpt.py                            # a few minutes
    python examples/gpt.py --compile                  # each step as one generated program
    python examples/gpt.py --text poems.txt --prompt "The "
    python examples/gpt.py --steps 300 --layers 2     # a quick look

Every so often it writes a sample. The loss curve is saved as a picture in out/ (needs matplotlib).
Ctrl-C stops the training and shows what was reached.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lectures.common import (
    BLUE,
    CROSS_ENTROPY,
    DEFAULT,
    ORANGE,
    RATE,
    SEED,
    STEP,
    STEPS,
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
from tinygrad_kr import Tensor, nn, no_grad, optim
from tinygrad_kr.language import Text

PAGES = Path(__file__).resolve().parents[1]
HELD_OUT = 0.1
"""Share of the text, its end, that the net is not trained on."""


class Corpus(NamedTuple):
    """A text as numbers: each is a position in `characters`."""

    characters: str
    training: np.ndarray
    held_out: np.ndarray


def read(path: Path | None) -> str:
    """The text of a file; None: of the project's pages."""
    if path is None:
        files = [*PAGES.glob("*.md"), *PAGES.glob("docs/*.md"), *PAGES.glob("examples/*.md")]
        return "\n".join(page.read_text(encoding="utf-8") for page in sorted(files))
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"error: --text {path}: expected a text file in UTF-8, got {error}")


def corpus(text: str, length: int) -> Corpus:
    """Numbers for a text; SystemExit if it is too short to cut sequences from."""
    characters = "".join(sorted(set(text)))
    numbers = {character: i for i, character in enumerate(characters)}
    tokens = np.array([numbers[character] for character in text])
    end = int(len(tokens) * (1 - HELD_OUT))
    if len(tokens) - end <= length:
        least = int((length + 1) / HELD_OUT) + 1
        sys.exit(
            f"error: --text: expected at least {least:,} characters, got {len(tokens):,}. "
            "Take a longer text or a smaller --length"
        )
    return Corpus(characters, tokens[:end], tokens[end:])


def batch_of(
    tokens: np.ndarray, batch: int, length: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Sequences from random places, and what follows each of their characters: (batch, length)."""
    starts = generator.integers(0, len(tokens) - length, batch)
    rows = tokens[starts[:, None] + np.arange(length + 1)]
    return np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, 1:])


# ------------------------------------------------------------------ the net


class Block(nn.Module):
    """Attention, then two linear layers; each adds to what was there."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        x = x + self.attend(self.norm1(x))
        return x + self.narrow(F.gelu(self.wide(self.norm2(x))))

    def attend(self, x: Any) -> Any:
        """For each character the mean of v over those so far, weighted by softmax(q . k)."""
        batch, length, width = x.shape
        split = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.permute(0, 2, 1, 3).reshape(batch, length, width))


class GPT(nn.Module):
    """Logits for the next character at every place: (batch, length) to (batch, length, count)."""

    def __init__(self, count: int, length: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.length = length
        self.token, self.place = nn.Embedding(count, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm, self.output = nn.LayerNorm(width), nn.Linear(width, count)
        for embedding in (self.token, self.place):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens: Any) -> Any:
        x = self.token(tokens) + self.place.weight[: tokens.shape[1]]
        return self.output(self.norm(self.blocks(x)))


def loss_of(net: GPT, tokens: Any, following: Any) -> Any:
    logits = net(tokens)
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), following.reshape(-1))


def write(net: GPT, known: Corpus, prompt: str, count: int, heat: float, seed: int) -> str:
    """`prompt` and `count` more characters, each drawn from softmax(logits / heat)."""
    generator = np.random.default_rng(seed)
    tokens = [known.characters.index(character) for character in prompt]
    for _ in range(count):
        with no_grad():
            logits = net(Tensor(np.array([tokens[-net.length :]])))[0, -1]
            chances = F.softmax(logits / heat, dim=0).numpy().astype(np.float64)
        tokens.append(int(generator.choice(len(chances), p=chances / chances.sum())))
    return "".join(known.characters[token] for token in tokens)


# ------------------------------------------------------------------ training


class History(NamedTuple):
    """The loss of each step, and at some steps that of held-out text."""

    training: list[float]
    held_out: dict[int, float]


def train(net: GPT, known: Corpus, args: Any) -> History:
    """AdamW on random sequences; a sample and the loss of held-out text every so often."""
    generator = np.random.default_rng(args.seed)
    optimizer = optim.AdamW(net.parameters(), lr=args.lr)

    def step(tokens: Any, following: Any) -> Any:
        loss = loss_of(net, tokens, following)
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    update = tk.compile(step) if args.compile else step
    history = History([], {})
    bar = progress_bar(args.steps)
    try:
        for number in range(1, args.steps + 1):
            loss = update(*batch_of(known.training, args.batch, args.length, generator)).item()
            history.training.append(loss)
            bar.set_postfix_str(LOSS.say(loss=loss), refresh=False)
            bar.update()
            if number % args.every == 0 or number == args.steps:
                history.held_out[number] = held_out_loss(net, known, args)
                sample = write(net, known, args.prompt, args.sample, args.heat, args.seed)
                line = AFTER.say(step=number, loss=loss, held_out=history.held_out[number])
                bar.write(f"{line}\n{sample}\n")
    except KeyboardInterrupt:
        print(STOPPED.say(step=len(history.training), steps=args.steps))
    finally:
        bar.close()
    return history


def held_out_loss(net: GPT, known: Corpus, args: Any) -> float:
    """The mean loss of ten batches of text that the net was not trained on."""
    generator = np.random.default_rng(args.seed + 1)
    with no_grad():
        losses = [
            loss_of(net, *batch_of(known.held_out, args.batch, args.length, generator)).item()
            for _ in range(10)
        ]
    return float(np.mean(losses))


def save_picture(history: History, uniform: float, path: Path) -> None:
    """Both losses over the steps; a line where every character is as likely as any other."""
    figure = new_figure(7, 4)
    if figure is None:
        return
    axes = figure.subplots()
    axes.plot(history.training, color=BLUE, alpha=0.5, linewidth=0.8, label=label(TRAINING))
    steps, losses = list(history.held_out), list(history.held_out.values())
    axes.plot(steps, losses, "o-", color=ORANGE, markersize=4, label=label(HELD))
    axes.axhline(uniform, color="0.5", linestyle="--", linewidth=0.8, label=label(UNIFORM))
    axes.set(xlabel=label(STEP), ylabel=label(CROSS_ENTROPY), ylim=(0, None))
    axes.legend()
    axes.grid(alpha=0.3)
    save(figure, path)


LOSS = Text("loss {loss:.3f}", "손실 {loss:.3f}")
AFTER = Text(
    "step {step:,}: loss {loss:.3f}, held-out text {held_out:.3f}",
    "{step:,} 스텝: 손실 {loss:.3f}, 떼어 둔 글 {held_out:.3f}",
)
STOPPED = Text(
    "\nstopped after {step:,} of {steps:,} steps",
    "\n{steps:,} 스텝 중 {step:,} 스텝에서 중단했습니다",
)
TRAINING = Text("training text", "학습한 글")
HELD = Text("held-out text", "떼어 둔 글")
UNIFORM = Text("every character as likely", "모든 글자의 확률이 같을 때")
RECIPE = Text(
    "{length:,} characters, {count:,} of them different\n"
    "{layers} layers x {width}, {heads} heads, {parameters:,} parameters\n"
    "AdamW, rate {rate:g}, {steps:,} steps, {batch} sequences of {context}, seed {seed}\n",
    "글자 {length:,}개, 종류 {count:,}가지\n"
    "{layers}층 x {width}, 헤드 {heads}개, 파라미터 {parameters:,}개\n"
    "AdamW, 학습률 {rate:g}, {steps:,} 스텝, 길이 {context}인 글 {batch}개씩, 시드 {seed}\n",
)
WHOLE_NUMBERS = {
    "steps": (2000, STEPS),
    "layers": (4, Text("blocks", "블록 수")),
    "width": (64, Text("of each vector", "벡터의 폭")),
    "heads": (4, Text("of attention", "어텐션 헤드 수")),
    "length": (64, Text("characters of a sequence", "글의 길이")),
    "batch": (32, Text("sequences a step", "스텝마다 글 수")),
    "every": (500, Text("steps between samples", "글을 써 보는 간격")),
    "sample": (200, Text("characters of a sample", "써 보는 글자 수")),
}
"""Options: default, and what they are."""
KOREAN = """
글자 단위 GPT: 주어진 글처럼 쓰는 법을 배우는 작은 트랜스포머.

글자마다 벡터가 있고, 위치의 벡터를 더합니다. 그다음은 블록 네 개입니다. 블록마다 어텐션이 앞의
글자들의 가중 평균을 더하고, 선형층 두 개가 글자를 하나씩 따로 바꿉니다. 마지막 층은 다음에 올 수
있는 글자마다 로짓을 냅니다 (Radford et al. 2018).

--text가 없으면 이 프로젝트의 영어와 한국어 문서를 읽습니다.

    python examples/gpt.py                            # 몇 분
    python examples/gpt.py --compile                  # 스텝마다 컴파일한 프로그램 하나로
    python examples/gpt.py --text 시.txt --prompt "나는 "
    python examples/gpt.py --steps 300 --layers 2     # 잠깐 보기

가끔 글을 써 보입니다. 손실 곡선은 out/에 그림으로 저장합니다 (matplotlib 필요). Ctrl-C를 누르면
학습을 멈추고 그때까지의 결과를 보여 줍니다.
"""


def main() -> None:
    parser = options(__doc__, KOREAN, out="out")
    add = parser.add_argument
    for name, (default, text) in WHOLE_NUMBERS.items():
        shown = text.say(default=default)
        shown = shown if text is STEPS else f"{shown} ({DEFAULT.say(default=default)})"
        add(f"--{name}", type=whole(1), default=default, help=shown)
    add("--text", type=Path, help=Text("file to learn from", "배울 글이 든 파일").say())
    add("--prompt", help=Text("how samples begin", "써 보는 글의 첫머리").say())
    add("--lr", type=positive, default=0.003, help=RATE.say(default="0.003"))
    heat = Text(
        "below 1: likelier characters (default: {default})",
        "1보다 작으면 더 흔한 글자 (기본값: {default})",
    )
    add("--heat", type=positive, default=0.8, help=heat.say(default=0.8))
    add("--seed", type=whole(0), default=0, help=SEED.say(default=0))
    replay = Text("record a step once and replay it as C", "스텝을 한 번 기록하고 C로 되풀이합니다")
    add("--compile", action="store_true", help=replay.say())
    args = parser.parse_args()
    if args.width % args.heads:
        parser.error(f"--width: expected a multiple of --heads, {args.heads}, got {args.width}")
    known = corpus(read(args.text), args.length)
    args.prompt = known.characters[known.training[0]] if args.prompt is None else args.prompt
    if not args.prompt or set(args.prompt) - set(known.characters):
        parser.error(f"--prompt: expected characters of the text, got {args.prompt!r}")
    tk.manual_seed(args.seed)
    net = GPT(len(known.characters), args.length, args.width, args.layers, args.heads)
    print(
        RECIPE.say(
            length=len(known.training) + len(known.held_out), count=len(known.characters),
            layers=args.layers, width=args.width, heads=args.heads, rate=args.lr,
            parameters=sum(parameter.size for parameter in net.parameters()),
            steps=args.steps, batch=args.batch, context=args.length, seed=args.seed,
        )
    )  # fmt: skip
    start = time.perf_counter()
    history = train(net, known, args)
    line = Text("trained in {seconds:.1f} s", "학습 시간 {seconds:.1f}초")
    print(line.say(seconds=time.perf_counter() - start))
    save_picture(history, float(np.log(len(known.characters))), args.out / "gpt.png")


if __name__ == "__main__":
    launch(main)
