"""Shared by the examples: XOR, many starts, tables, progress, pictures, results, command lines.

Programs print, and label their pictures, in English or Korean: `Text(english, korean).say()` is for
the console, `label(Text(english, korean))` for pictures, which need a font with Hangul.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

import tinygrad_kr as tk
from tinygrad_kr import Tensor, data, nn, no_grad
from tinygrad_kr.command_line import LANG, Parser, named_language
from tinygrad_kr.files import replacing
from tinygrad_kr.language import LANGUAGES, Text, language, ljust, rjust

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"  # Okabe and Ito's
HANGUL_FONTS = ("Noto Sans KR", "Noto Sans CJK KR", "Noto Sans CJK JP", "NanumGothic",
                "NanumBarunGothic", "Malgun Gothic", "Apple SD Gothic Neo", "AppleGothic",
                "Gulim")  # fmt: skip
"""Looked for in this order. The file of Noto Sans CJK holds the fonts of four countries, each with
all letters; matplotlib names it by the first, JP."""
UNITS = {
    "step": Text("steps", "스텝"),
    "epoch": Text("epochs", "에포크"),
    "training": Text("trainings", "번 학습"),
    "net": Text("nets", "개 신경망"),
    "lab": Text("labs", "개 실습"),
}
"""What progress bars count."""
WORDS = (
    Text("sigmoid", "시그모이드"),
    Text("accuracy", "정확도"),
    Text("test accuracy", "테스트 정확도"),
    Text("training accuracy", "학습 정확도"),
    Text("cost", "비용"),
    Text("loss", "손실"),
    Text("error", "오차"),
    Text("lab", "실습"),
    Text("rate", "학습률"),
    Text("median", "중앙값"),
    Text("mean", "평균"),
    Text("highest", "최대"),
    Text("lowest", "최소"),
    Text("slope", "기울기"),
    Text("wide", "폭"),
    Text("hidden", "은닉층"),
    Text("weight", "가중치"),
    Text("bias", "편향"),
    Text("digits", "숫자"),
)
"""Of the names of figures and settings."""
STEP, STARTS = Text("step", "스텝"), Text("{starts} starts", "초깃값 {starts}개")
OURS, PUBLISHED = Text("ours", "우리 값"), Text("published", "공개된 값")
CROSS_ENTROPY = Text("mean cross-entropy", "교차 엔트로피의 평균")
XOR_POINTS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
XOR_ANSWERS = np.array([[0], [1], [1], [0]], np.float32)


class Starts(nn.Module):
    """`starts` linear layers side by side, N(0, 1) as in the labs: as many trainings in one.

    Input (n, inputs) or (starts, n, inputs), output (starts, n, outputs). None touches another, so
    the gradient of the sum of their costs is for each the gradient of its own.
    """

    def __init__(self, starts: int, inputs: int, outputs: int) -> None:
        self.weight = nn.Parameter(tk.randn(starts, inputs, outputs))
        self.bias = nn.Parameter(tk.randn(starts, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class UniformStarts(Starts):
    """The same as the lecture starts deep nets: weights U(-1, 1), biases 0."""

    def __init__(self, starts: int, inputs: int, outputs: int) -> None:
        super().__init__(starts, inputs, outputs)
        nn.init.uniform_(self.weight, -1, 1)
        nn.init.zeros_(self.bias)


def digit_rows(split: Literal["train", "test"]) -> tuple[np.ndarray, np.ndarray]:
    """Small digits as rows of 64 pixels from 0 to 1, and their labels."""
    images, labels = data.digits(split)
    return images.reshape(len(images), -1), labels


def table(name: str) -> Any:
    """A csv table of the lectures as an array; DatasetNotFoundError, with a remedy, without it."""
    path = Path(os.environ.get("TINYGRAD_KR_DATA", "."), "lectures", name)
    if path.is_file():
        return data.read_csv(path).values
    raise data.DatasetNotFoundError(
        f"{path} is not there. Put {name}, from the repository hunkim/DeepLearningZeroToAll on "
        "GitHub, into a folder `lectures`, and set TINYGRAD_KR_DATA to the folder above that."
    )


# ------------------------------------------------------------------ English and Korean


left, right = ljust, rjust
"""A text at the left or the right of a column, whose width is in `cells`."""


def heading(names: int, numbers: int) -> str:
    """Above a table of names, our figures, and published ones; the widths of the first two."""
    return f"{'':{names}} {right(OURS.say(), numbers)}   {PUBLISHED.say()}"


def in_words(name: str, more: Iterable[Text] = (), lang: str | None = None) -> str:
    """A figure's name in a language: each word in it that `WORDS` or `more` has is translated."""
    found = {word.en: word.say(lang) for word in (*WORDS, *more)}
    longest_first = "|".join(map(re.escape, sorted(found, key=len, reverse=True)))
    return re.sub(rf"(?<!\w)({longest_first})(?!\w)", lambda match: found[match[0]], name)


def hangul_font() -> str | None:
    """The first of `HANGUL_FONTS` that matplotlib finds; None without matplotlib."""
    try:
        from matplotlib import font_manager
    except ImportError:
        return None
    names = set(font_manager.get_font_names())
    return next((name for name in HANGUL_FONTS if name in names), None)


def picture_language() -> str:
    """The language of the labels in pictures: English where no font has Hangul."""
    return language() if language() == "en" or hangul_font() else "en"


def label(text: Text | str, more: Iterable[Text] = (), **values: Any) -> str:
    """A text, or the name of a figure, in the language of pictures."""
    if isinstance(text, Text):
        return text.say(picture_language(), **values)
    return in_words(text, more, picture_language())


NOTHING_WRONG = Text("nothing wrong", "이상 없음")
DIAGNOSIS = Text("\ntk.diagnose, {net}:", "\ntk.diagnose의 진단, {net}:")


def print_diagnosis(net: Text | str, report: Any, **values: Any) -> None:
    """What `tk.diagnose` finds in a net: the kinds, each with its message and its remedy."""
    print(DIAGNOSIS.say(net=net.say(**values) if isinstance(net, Text) else net))
    print(textwrap.indent(report.text(), "  "))


def kinds_of(report: Any) -> str:
    """The names of the kinds."""
    return ", ".join(sorted(report.kinds)) or NOTHING_WRONG.say()


# ------------------------------------------------------------------ progress


class Lines:
    """A progress bar for a pipe or a file: now and then a line on stderr."""

    seconds = 5.0
    """Time between two lines."""

    def __init__(self, total: int, name: str, done: int, unit: str) -> None:
        self.total, self.name, self.done, self.unit = total, name, done, unit
        self.disable, self.postfix = True, ""
        self.start = self.last = time.monotonic()

    def update(self, steps: int = 1) -> None:
        self.done += steps
        now = time.monotonic()
        if now - self.last >= self.seconds:
            self.last = now
            text = f"{self.name}: " if self.name else ""
            text += f"{self.done / self.total:.0%}"
            if self.unit:
                text += OF_UNITS.say(total=f"{self.total:,}", unit=unit_name(self.unit))
            text += AFTER.say(seconds=now - self.start, more=self.postfix).rstrip(", ")
            print(text, file=sys.stderr, flush=True)

    def set_description(self, name: str = "") -> None:
        self.name = name

    def set_postfix_str(self, text: str = "", refresh: bool = True) -> None:
        self.postfix = text

    def write(self, text: str) -> None:
        print(text, flush=True)

    def close(self) -> None:
        pass


OF_UNITS = Text(" of {total} {unit}", " (모두 {total}{unit})")
AFTER = Text(", {seconds:.0f} s, {more}", ", {seconds:.0f}초, {more}")
BAR = Text(
    "{percentage:3.0f}% |{bar}| {elapsed}, {remaining} left",
    "{percentage:3.0f}% |{bar}| {elapsed}, 남은 시간 {remaining}",
)


def unit_name(unit: str) -> str:
    """What is counted, in the chosen language."""
    return UNITS[unit].say()


def progress_bar(total: int, name: str = "", done: int = 0, unit: str = "step") -> Any:
    """To `update()` and `close()`: a tqdm bar on a terminal; in a pipe or without tqdm, `Lines`.

    unit: of what is counted; "" shows the share alone.
    """
    if sys.stderr is not None and sys.stderr.isatty():
        try:
            from tqdm import tqdm  # type: ignore[import-untyped]
        except ImportError:
            pass
        else:
            form = None if unit else BAR.say()
            unit = unit if language() == "en" else unit_name(unit)
            looks = {"unit": unit, "bar_format": form, "leave": False}
            return tqdm(total=total, initial=done, desc=name or None, **looks)
    return Lines(total, name, done, unit)


def bar(steps: int, name: str = "", unit: str = "step") -> Iterator[int]:
    """`range(steps)` with a progress bar."""
    shown = progress_bar(steps, name, unit=unit)
    try:
        for step in range(steps):
            yield step
            shown.update()
    finally:
        shown.close()


def new_figure(width: float, height: float) -> Any:
    """A matplotlib figure (inches); where matplotlib is missing, None and a line that says so."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print(NO_PICTURE.say())
        return None
    write_in_hangul()
    return Figure((width, height), layout="constrained")


NO_PICTURE = Text(
    'no picture: matplotlib is missing (pip install "tinygrad_kr[examples]")',
    '그림을 그리지 못했습니다. matplotlib가 필요합니다 (pip install "tinygrad_kr[examples]")',
)
NO_FONT = Text(
    "the labels of the picture are in English: none of these fonts was found: {fonts}",
    "그림의 글자는 영어로 씁니다. 한글 글꼴을 찾지 못했습니다: {fonts}",
)


def write_in_hangul() -> None:
    """Let pictures have Hangul: matplotlib's own font for Latin letters and minus signs, and a
    Korean one for what it lacks."""
    if language() != "ko":
        return
    import matplotlib

    font = hangul_font()
    if font is None:
        print(NO_FONT.say(fonts=", ".join(HANGUL_FONTS)))
    elif font not in matplotlib.rcParams["font.family"]:
        matplotlib.rcParams["font.family"] = [*matplotlib.rcParams["font.family"], font]


def save(figure: Any, path: Path) -> None:
    """Write a figure as a PNG and say where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(Text("picture saved: {path}", "그림 저장: {path}").say(path=path))


def save_planes(
    nets: dict[str, tuple[nn.Sequential, np.ndarray]], path: Path, columns: int, lines: bool = False
) -> None:
    """For each title a net's output over the plane, where it is 0.5, and the points of a gate.

    nets: each with its answers (4,), 0 or 1 for 00, 01, 10 and 11. lines: also those on which a
    unit of the first layer gives 0.5.
    """
    rows = -(-len(nets) // columns)
    figure = new_figure(3.7 * columns + 0.9 if rows == 1 else 8, 3.9 if rows == 1 else 2.5 * rows)
    if figure is None:
        return
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for (title, (net, answers)), axes in zip(nets.items(), panels.flat, strict=True):
        image = draw_plane(axes, net, answers, lines)
        axes.set_title(title, fontsize=10)
    for axes in panels[:, 0]:
        axes.set_ylabel("b")
    for axes in panels[-1]:
        axes.set_xlabel("a")
    figure.colorbar(
        image, ax=panels, label=label(Text("output", "출력")), ticks=[0, 0.5, 1], aspect=20 * rows
    )
    named = dict(zip(*panels[0, 0].get_legend_handles_labels()[::-1], strict=True))
    figure.legend(named.values(), named, loc="outside lower center", ncols=min(4, 2 * columns),
                  frameon=False)  # fmt: skip
    save(figure, path)


ANSWER = Text("the answer is {value}", "답: {value}")


def draw_plane(axes: Any, net: nn.Sequential, answers: np.ndarray, lines: bool) -> Any:
    """One panel of `save_planes`; returns the image that the colour bar explains."""
    from matplotlib.colors import LinearSegmentedColormap

    low, high = -0.5, 1.5
    a, b = np.meshgrid(*[np.linspace(low, high, 201, dtype=np.float32)] * 2)
    with no_grad():
        outputs = net(Tensor(np.column_stack([a.ravel(), b.ravel()]))).numpy().reshape(a.shape)
    image = axes.imshow(
        outputs, origin="lower", extent=(low, high, low, high), vmin=0, vmax=1,
        cmap=LinearSegmentedColormap.from_list("", ["#56B4E9", "white", "#E69F00"], N=63),
        interpolation="nearest",
    )  # fmt: skip
    if np.ptp(outputs) > 0.01:
        level = label(Text("output = 0.5", "출력 = 0.5"))
        draw_level(axes, a, b, outputs - 0.5, level, color="0.4", linewidth=3.5)
    else:
        flat = Text("0.5 everywhere:\nno line", "어디서나 0.5:\n직선 없음")
        axes.text(0.5, 0.5, label(flat), ha="center", va="center")
    unit = label(Text("a hidden unit's line", "은닉 유닛의 직선"))
    for (w_a, w_b), bias in zip(net[0].weight.data, net[0].bias.data, strict=True) if lines else ():
        look = {"color": "black", "linewidth": 0.8, "linestyle": "--"}
        draw_level(axes, a, b, w_a * a + w_b * b + bias, unit, **look)
    for value, marker, face in ((0, "o", "white"), (1, "s", "black")):
        look = {"color": face, "markeredgecolor": "black", "markersize": 8}
        points = XOR_POINTS[answers == value].T
        axes.plot(*points, marker, **look, label=label(ANSWER, value=value))
    axes.set(xticks=[0, 1], yticks=[0, 1])
    return image


def draw_level(
    axes: Any, a: np.ndarray, b: np.ndarray, height: np.ndarray, label: str, **style: Any
) -> None:
    """Where `height` is 0, if it is 0 anywhere in the picture: older matplotlibs warn if not."""
    if height.min() < 0 < height.max():
        axes.contour(a, b, height, [0], **{f"{name}s": value for name, value in style.items()})
    axes.plot([], [], **style, label=label)


def made_with() -> dict[str, Any]:
    """The versions and the machine that a result belongs to."""
    versions = {
        "tinygrad_kr": tk.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    machine = f"{platform.machine()}, {os.cpu_count()} cores, shared with other work"
    return {"versions": versions, "machine": machine}


def rounded(value: float) -> float:
    """To six digits."""
    return float(f"{value:.6g}")


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote; empty before that."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def write_json(path: Path, everything: dict[str, Any]) -> None:
    """Whole or not at all; a line for each list, so that a new run is a few lines in a diff."""
    text = json.dumps(everything, indent=1)
    text = re.sub(r"\[[^][{}]*\]", lambda found: " ".join(found[0].split()), text) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as stream:
        stream.write(text.encode())


def with_run(runs: dict[str, Any], seed: int, run: dict[str, Any]) -> dict[str, Any]:
    """The runs, of which this is now that of `seed`, in the order of the seeds."""
    return dict(sorted({**runs, str(seed): run}.items(), key=lambda item: int(item[0])))


class _Language(argparse.Action):
    """`--lang`: from here on the program speaks this language."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        tk.set_language(values)


FOLDER = Text("folder for what is saved (default: {out})", "저장할 폴더 (기본값: {out})")
DEFAULT = Text("default: {default}", "기본값: {default}")
STEPS = Text("steps of training (default: {default})", "학습 스텝 수 (기본값: {default})")
RATE = Text("learning rate (default: {default})", "학습률 (기본값: {default})")
SEED = Text("of the weights (default: {default})", "가중치의 시드 (기본값: {default})")
EPOCHS = Text("default: the lab's", "에포크 수 (기본값: 실습의 값)")
INITIAL = Text("initial weights (default: {default})", "초깃값의 개수 (기본값: {default})")
"""Of options that several programs have."""


def options(
    english: str | None,
    korean: str = "",
    argv: Sequence[str] | None = None,
    out: str = "out/lectures",
) -> Parser:
    """What every program understands: --help, which shows a text, --out and --lang.

    From here on the program speaks the language that the command line names.
    """
    if (lang := named_language(argv)) is not None:
        tk.set_language(lang)
    described = korean.strip() if korean and language() == "ko" else english
    parser = Parser(description=described)
    parser.add_argument("--out", type=Path, default=Path(out), help=FOLDER.say(out=out))
    parser.add_argument(
        "--lang", choices=LANGUAGES, action=_Language, default=argparse.SUPPRESS, help=LANG.say()
    )
    return parser


def whole(lowest: int) -> Callable[[str], int]:
    """For argparse: a whole number from `lowest` up."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = lowest - 1
        if number < lowest:
            raise argparse.ArgumentTypeError(f"a whole number from {lowest} up, not {text!r}")
        return number

    return read


def positive(text: str) -> float:
    """For argparse: a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"a number above 0, not {text!r}")
    return number


def widths(text: str) -> tuple[int, ...]:
    """For argparse: 10,10 as numbers; "none" is no hidden layer."""
    if text == "none":
        return ()
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"widths like 10 or 256,256 (or none), not {text!r}")
    return tuple(map(int, parts))


ELSEWHERE = Text("--out chooses another folder", "다른 폴더는 --out으로 고릅니다")


def launch(main: Callable[[], None]) -> None:
    """Run a program: missing data, a folder that cannot be written and Ctrl-C end it in a line.

    A letter that the console does not know is shown as "?". Lines are flushed, also into a pipe.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace", line_buffering=True)
    try:
        main()
    except data.DatasetNotFoundError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error}\n{ELSEWHERE.say()}")
    except KeyboardInterrupt:
        print(Text("\nstopped", "\n중단했습니다").say(), file=sys.stderr)
        sys.exit(130)
