"""With `--lang ko` the programs of the course speak Korean, on the console and in pictures."""

from __future__ import annotations

import importlib.util
import re
import shlex
import string
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from korean import english_sentences
from lecture_programs import FOLDER, module, program
from lecture_programs import made_up_tables as made_up_tables

import tinygrad_kr as tk
from tinygrad_kr import data
from tinygrad_kr.language import Text, cells

common = program("common")
table = module(Path(__file__).with_name("test_lectures_table.py"))
NAMES = set(
    re.findall(
        r"\w+",
        "AND OR XOR ReLU Leaky tanh ELU Maxout SELU CELU alpha GELU SiLU swish Mish softplus "
        "softsign hard log softmax softmin Adam MNIST NaN inf nan He Xavier xavier init backward "
        "sigmoid sqrt float data mnist python VALID SAME CNN NumPy act csv matplotlib "
        "LSTM RMSE hello lol hole Keras SGD explain diagnose Monitor maximum sum mean axis "
        "overfitting",
    )
)
"""What has no Korean name: functions, people, data, numbers, and words of code."""
ENGLISH_LINE = re.compile(r"^에포크 \d+/|Error: |Sequential$|^\d+ +\w+ +\(|^ {9}(?! *#)")
"""Of errors, which are in English, with names of layers and of values of a history, and of a
remedy's code."""
OF_THEIR_OWN = {"dbn", "replay"}
"""Programs with tests of their own."""
TRANSLATED = [
    "activations", "autoencoder", "by_hand", "characters", "deep_xor", "deterministic",
    "dying_relu", "event_files", "fit", "gates", "initialisation", "learning_rate", "lego",
    "linear_collapse", "linear_regression", "logistic_regression", "mnist_cnn", "mnist_ladder",
    "rbm", "sequences", "small_change", "softmax_regression", "vanishing", "width", "xor_labs",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _own_language() -> Iterator[None]:
    yield
    tk.set_language(None)


def english_in(shown: str) -> set[str]:
    """The English words of a text that have a Korean name."""
    own = "\n".join(line for line in shown.splitlines() if not ENGLISH_LINE.search(line))
    without_paths = re.sub(
        r"\S*[/\\]\S*|--\w+|pip install \S+|\d+-\d+-\w+|'[^']*'|\"[^\"]*\"|[a-z]+_\w+", " ", own
    )
    return set(re.findall(r"(?<![\w.])[A-Za-z]{3,}", without_paths)) - NAMES


def test_english_words_are_found() -> None:
    assert english_in("ReLU 학습률 0.1: loss 0.5, 그림 저장: /tmp/some/where.png") == {"loss"}


@pytest.fixture
def labels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The labels of the pictures that are saved; a font with Hangul is there."""
    found: list[str] = []
    if importlib.util.find_spec("matplotlib") is None:
        return found
    from matplotlib import text

    def note(figure: Any, path: Path) -> None:
        found.extend(part.get_text() for part in figure.findobj(text.Text))

    monkeypatch.setattr(common, "save", note)
    monkeypatch.setattr(common, "hangul_font", lambda: "DejaVu Sans")
    return found


def quick(name: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The quick run of a program in test_lectures_table.py, in Korean."""
    monkeypatch.setitem(sys.modules, "common", common)
    row, lecture = table.ROWS[name], program(name)
    monkeypatch.setattr(data, "mnist", row.mnist)
    for constant, value in row.changes.items():
        monkeypatch.setattr(lecture, constant, value)
    if "events" in row.saves:
        pytest.importorskip("tensorboardX")
    if row.shorter:
        monkeypatch.setattr(lecture, "run", partial(lecture.run, **row.shorter))
    options = [*shlex.split(row.options), "--lang", "ko", "--out", str(out)]
    return partial(lecture.main, options)


def test_every_program_is_looked_at() -> None:
    assert set(table.PROGRAMS) == {*TRANSLATED, *OF_THEIR_OWN}


@pytest.mark.one_in(3)
@pytest.mark.usefixtures("made_up_tables")
@pytest.mark.parametrize("name", TRANSLATED)
def test_a_program_says_nothing_in_english(
    name: str,
    labels: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick(name, tmp_path, monkeypatch)()
    shown = capsys.readouterr()
    assert re.search("[가-힣]", shown.out)
    assert not english_in(shown.out + shown.err)
    assert not english_in("\n".join(labels))
    assert not labels or any(re.search("[가-힣]", text) for text in labels)


@pytest.mark.parametrize(
    ("name", "options", "shown"),
    [
        ("xor", "--steps 3 --hidden 2", "2-2-1 시그모이드 신경망, 파라미터 9개, 시드 0"),
        ("xor", "--steps 3 --hidden 2 --seeds 2", "초깃값 2개씩, 시드 0부터 1까지:"),
        ("mnist", "--data digits --epochs 1 --hidden 8", "digits: 학습 이미지 1,437장"),
        ("predator_prey", "--until 1910", "모델을 계산한 횟수: "),
        ("gaussian_process", "--points 12", "로그 가능도 "),
    ],
)
def test_a_program_beside_the_lectures_speaks_korean(
    name: str,
    options: str,
    shown: str,
    labels: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if name in ("predator_prey", "gaussian_process"):
        pytest.importorskip("scipy")
    example: ModuleType = module(FOLDER.parent / f"{name}.py")
    command = [f"{name}.py", *options.split(), "--lang", "ko", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    example.main()
    said = capsys.readouterr().out
    assert shown in said
    assert not english_in(said) - {"digits", "relu"}


def test_pre_training_speaks_korean(
    labels: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "common", common)
    dbn = program("dbn")
    dbn.main(["--show", "--lang", "ko", "--out", str(tmp_path)])
    assert not english_in("\n".join([capsys.readouterr().out, *labels]))


# ------------------------------------------------------------------ the table of all labs

replay = program("replay")


@pytest.mark.parametrize("lab", replay.LABS, ids=lambda lab: f"{lab.name}, {lab.what}")
def test_every_row_of_the_table_is_in_korean(lab: Any) -> None:
    figures = defaultdict(lambda: 0.5)
    english = replay.table_line(replay.Row(lab, replay.written(lab, figures)))
    tk.set_language("ko")
    korean = replay.table_line(replay.Row(lab, replay.written(lab, figures)))
    assert not english_in(korean) - {"hihell", "ihello", "you", "want", "fit", "RBM", "DBN"}
    assert re.search("[가-힣]", korean) and not re.search("[가-힣]", english)
    numbers = [sorted(re.findall(r"\d+\.\d+|NaN", text)) for text in (english, korean)]
    assert numbers[0] == numbers[1]


def test_no_text_of_the_table_is_left_over() -> None:
    used = {text for lab in replay.LABS for text in (lab.name, lab.what, lab.published)}
    used |= {replay.form_of(lab) for lab in replay.LABS}
    assert set(replay.TEXTS) <= used
    for english, text in replay.TEXTS.items():
        forms = [
            [part[2] for part in string.Formatter().parse(each) if part[1] is not None]
            for each in text
        ]
        assert forms[0] == forms[1], english


def test_the_table_speaks_korean(
    labels: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "common", common)
    own = program("replay")
    monkeypatch.setattr(own, "LABS", [lab for lab in own.LABS if lab.program == "activations"])
    own.main(["--lab", "활성화 함수", "--lang", "ko", "--out", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "모든 활성화 함수와 그 미분" in shown and "1줄 가운데 1줄" in shown
    assert not english_in("\n".join([shown, *labels]))
    failed = own.Replay(anew=True).row(own.Lab("07-1", "x", "-", "nothing", ()))
    assert failed.failed and failed.ours.startswith("실패: ")
    unknown = own.Lab("9-9", "x", "-", "mnist_cnn", (), {"lab": "none"}, long=True)
    monkeypatch.setattr(own, "saved_runs", lambda lab: [])
    assert own.Replay(anew=False).row(unknown).ours == "아직 실행하지 않음: --lab 9-9"


# ------------------------------------------------------------------ a film, and the depth


def test_a_film_speaks_korean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    film = module(FOLDER.parent / "film.py")
    saved: list[Path] = []
    monkeypatch.setattr(tk.Monitor, "save_html", lambda _, path, beside: saved.append(path))
    film.main(["--steps", "10", "--lang", "ko", "--out", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "첫 층 / 마지막 층의 기울기" in shown and len(saved) == 1
    assert not english_in(shown) - {"Sigmoid"}


def test_the_experiment_of_depths_speaks_korean(
    labels: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    depth = module(DEPTH)
    options = "--depths 1 2 --activations sigmoid relu --seeds 2 --steps 3 --jobs 1 --lang ko"
    depth.main([*options.split(), "--out", str(tmp_path)])
    depth.main(["--rerun", str(tmp_path / "depth.json"), "--jobs", "1", "--lang", "ko"])
    dead = depth.Reference("ReLU, zeros", depth.Recipe(1, "relu", "zeros", steps=2), 0.5, 0.5)
    results, _ = depth.agree([dead], range(5), jobs=1)
    print(*depth.notes_on_the_end(results), *depth.notes_on_the_start(10), sep="\n")
    shown = capsys.readouterr()
    assert "첫 층 / 마지막 층" in shown.out and "다름" in shown.out
    assert not english_in(shown.out + shown.err) - {"relu", "uniform", "sgd"}


# ------------------------------------------------------------------ --help

DEPTH = FOLDER.parents[1] / "benchmarks" / "sigmoid_vs_relu_depth.py"
HELPED = [
    *(FOLDER / f"{name}.py" for name in table.PROGRAMS),
    *(FOLDER.parent / f"{name}.py" for name in (
        "xor", "mnist", "film", "predator_prey", "gaussian_process", "larger_than_memory",
        "exercises/check",
    )),
    DEPTH,
]  # fmt: skip


@pytest.mark.parametrize("path", HELPED, ids=lambda path: path.stem)
def test_help_is_in_the_language_that_is_named(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "common", common)
    monkeypatch.syspath_prepend(str(path.parent))
    shown = {}
    for lang in ("en", "ko"):
        tk.set_language(None)
        monkeypatch.setattr(sys, "argv", [path.name, "--help", "--lang", lang])
        with pytest.raises(SystemExit) as stop:
            module(path).main()
        assert stop.value.code == 0
        shown[lang] = capsys.readouterr().out
    assert english_sentences(shown["en"])
    assert not english_sentences(shown["ko"])
    assert shown["en"].startswith("usage: ") and shown["ko"].startswith("사용법: ")
    commands = [re.findall(r"^ {4}(python .*?)(?: +#.*)?$", text, re.M) for text in shown.values()]
    assert commands[0] == commands[1] != []
    options = [re.findall(r"^  (-[-\w, ]+?)(?:  |$)", text, re.M) for text in shown.values()]
    assert options[0] == options[1]


def test_a_help_that_leaves_a_sentence_in_english_is_found() -> None:
    assert english_sentences("학습 스텝 수\nof the weights and so on") == [
        "of the weights and so on"
    ]
    assert not english_sentences("    python examples/xor.py  # `a b c d` He, Xavier, Adam")


# ------------------------------------------------------------------ the parts


def test_a_language_is_chosen_on_the_command_line() -> None:
    parser = common.options("")
    assert not hasattr(parser.parse_args([]), "lang")
    parser.parse_args(["--lang", "ko"])
    assert tk.language.language() == "ko"
    with pytest.raises(SystemExit):
        parser.parse_args(["--lang", "fr"])


def test_hangul_takes_two_columns() -> None:
    assert cells("가중치 w") == 8
    assert common.left("기울기", 8) + "|" == "기울기  |"
    assert common.right("기울기", 8) == "  기울기"
    assert common.left("slope", 8) == f"{'slope':8}"


def test_names_of_figures_are_put_into_words_longest_first() -> None:
    more = (Text("cost left", "남은 비용"), Text("share of the cost left", "남은 비율"))
    name = "lab 07-1, rate 0.1: share of the cost left, costly"
    assert common.in_words(name, more, "ko") == "실습 07-1, 학습률 0.1: 남은 비율, costly"
    assert common.in_words(name, more, "en") == name


def test_without_a_korean_font_pictures_are_in_english_and_a_line_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(common, "HANGUL_FONTS", ("No Such Gothic",))
    tk.set_language("ko")
    common.new_figure(1, 1)
    assert common.label(Text("step", "스텝")) == "step"
    assert "한글 글꼴을 찾지 못했습니다: No Such Gothic" in capsys.readouterr().out


def test_with_one_hangul_and_minus_signs_are_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """matplotlib warns of a letter that no font has, and warnings are errors."""
    matplotlib = pytest.importorskip("matplotlib")
    if common.hangul_font() is None:
        pytest.skip("a font with Hangul is needed")
    tk.set_language("ko")
    with matplotlib.rc_context():
        figure = common.new_figure(2, 2)
        axes = figure.subplots()
        axes.set(title=common.label(Text("slope", "기울기")), ylim=(-1, 1))
        common.save(figure, tmp_path / "picture.png")
        assert matplotlib.rcParams["axes.unicode_minus"]
        assert axes.get_title() == "기울기"
    assert (tmp_path / "picture.png").exists()
