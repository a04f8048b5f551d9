"""A row for every lecture program: its quick run, what it prints, its picture, its refusals."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from lecture_programs import FOLDER, check_picture, large_digits, needs_tables, program
from lecture_programs import made_up_tables as made_up_tables

from tinygrad_kr import Tensor, data

PROGRAMS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "common")
replay = program("replay")


class Row(NamedTuple):
    """How a program is run quickly, and what holds then."""

    options: str = ""
    """Of the command line, but for `--out`."""
    shows: tuple[str | tuple[str, int], ...] = ()
    """Patterns of lines of the output; with a number, how often each is there."""
    more: Callable[[ModuleType], Iterable[str]] = lambda _: ()
    """Patterns that depend on the program's constants."""
    also: Callable[[str], bool] = lambda _: True
    """Another condition on the output."""
    saves: tuple[str, ...] = ()
    """What is in the folder afterwards, but for the picture."""
    picture: str = ""
    """Its name where it is not the program's."""
    zero: str = ""
    """An option that does not take 0."""
    shorter: dict[str, Any] = {}  # noqa: RUF012
    """Arguments of `run` that the command line does not have."""
    changes: dict[str, Any] = {}  # noqa: RUF012
    """Constants of the program."""
    smallest: dict[str, Any] | None = None
    """Arguments of `run` for which it returns all its figures at once; None: a long lab."""
    mnist: Callable[..., Any] = large_digits


def gates_by_hand(_: ModuleType) -> list[str]:
    outputs = " ".join(f"{float(Tensor(z).sigmoid()):.4f}" for z in (-8.0, -3.0, -3.0, 2.0))
    return [rf"{name} +{re.escape(outputs)}$" for name in ("NumPy", "layers")]


def saved_by_cnn(cnn: ModuleType) -> list[str]:
    figures = [
        result["figures"][f"lab {lab} accuracy"]
        for lab in cnn.RECIPES
        for result in cnn.all_saved(lab)
    ]
    return [re.escape(f"{accuracy:.4f}") for accuracy in figures]


def saved_by_ladder(ladder: ModuleType) -> list[str]:
    return [
        rf"^{lab} .*{recipe.published}.*{np.mean(ladder.accuracies(lab)):.4f}"
        for lab, recipe in ladder.RECIPES.items()
    ]


def errors_fall(shown: str) -> bool:
    """Of both of rbm.py's machines."""
    found = re.findall(r"^(?:CD-1|persistent) +(0\.\d{4}) 0\.\d{4} (0\.\d{4})$", shown, re.M)
    return len(found) == 2 and all(last < first for first, last in found)


ROWS = {
    "activations": Row(
        shows=(
            r"sigmoid +0\.2689 +0\.5000 +0\.7311 +0\.0000 +0\.2500",
            r"sigmoid's highest slope +0\.25 +0\.25",
        ),
        smallest={},
    ),
    "autoencoder": Row(
        "--seeds 1 --pretrain 1 --epochs 1 --labels 20",
        (
            "digits, 64-64-64-64-64-10, 1 seeds",
            r"^the same, pre-trained +0\.\d{3} \(.*\) +0\.\d{3} \(.*\)$",
            (r"^  \d layers? +0\.\d{4}$", 4),
        ),
        zero="--seeds",
        smallest={"seeds": 1, "pretrain_epochs": 1, "epochs": 1, "labels": 20},
    ),
    "by_hand": Row(
        "--steps 50 --hidden 3",
        (
            r"^dW1 +(-?0\.\d{12})\d+ +\1\d+ ",
            r"^    dL/dZ1 = dL/dA1 \* \(1 - A1\*\*2\) ",
            r"the lecture's formulas\n  W1: right\n  b1: right\n  W2: right\n  b2: right$",
            r"dZ1 = dZ2 W2\^T\n  W1: wrong: the derivative of tanh is missing \(A1\)$",
            r"hand-set XOR of 00 +0\.0112 +0\.0112$",
            r"hand-set XOR of 01 +0\.9949 +0\.9949$",
            r"hand-set XOR of 10 +0\.9949 +0\.9949$",
            r"hand-set XOR of 11 +0\.0244 +0\.0244$",
        ),
        zero="--steps",
        smallest={"steps": 2},
    ),
    "characters": Row(
        "--seeds 2 --start lab",
        (r"lab 12-2 loss at step 12 +0\.2086 +0\.\d{4}", r"step +\d+   'ihello'"),
        zero="--seeds",
        shorter={"steps": 14, "softmax_steps": 20, "sentence_steps": 2},
        smallest={"seeds": 2, "steps": 2, "softmax_steps": 2, "sentence_steps": 2},
    ),
    "deep_xor": Row(
        "--starts 3 --steps 50 --hidden 9",
        (
            *(rf"^ +{step}(?: +\d\.\d{{6}}){{3}}$" for step in (0, 10, 20, 30, 40, 49)),
            (r"^ +\d+(?: +\d\.\d{6}){3}$", 6),
            r"^accuracy +0\.50( +[01]\.\d\d){2}$",
            r"^sigmoid +0\.5 +0% learned XOR, 100% at 0\.5 or below$",
            r"^  sigmoid +vanishing_gradient 3$",
            r"^tk\.diagnose, sigmoid, start 0:\n  1\. vanishing_gradient$",
        ),
        zero="--starts",
        smallest={"starts": 2, "steps": 2},
    ),
    "deterministic": Row(
        more=lambda module: [
            rf"^{re.escape(name)} +{re.escape(published)} +{re.escape(published)}$"
            for name, published in module.PUBLISHED.items()
        ],
        smallest={},
    ),
    "dying_relu": Row(
        "--rates 0.03 --epochs 1 --seeds 1",
        (
            "digits, 3 x 100 units, Adam, 1 epochs, 1 seeds",
            r"^ReLU +rate 0\.03 .* 0\.0e\+00 +0\.\d+$",
            r"5 wide +0\.1\d+ +0\.15$",
            r"^tk\.diagnose, the dead XOR net, ten ReLU layers:\n  1\. dead_units$",
        ),
        zero="--epochs",
        smallest={"rates": (0.01,), "epochs": 1, "seeds": 1, "draws": 20},
    ),
    "event_files": Row(
        "--steps 50",
        (r"^event files: .*events.xor_seed1$",),
        saves=("events",),
        zero="--steps",
        smallest={"steps": 2},
    ),
    "fit": Row(
        "--epochs 2 --lab 10-2 --patience 1",
        (("val_accuracy", 2), r"published 0\.9811"),
        saves=("fit_10-2.npz",),
        picture="fit_10-2.png",
        zero="--epochs",
    ),
    "gates": Row(
        "--steps 30",
        (
            *(rf"parameters: {n} \({n} trained, 0 frozen\)" for n in (3, 9, 261)),
            r"best of 100,000 lines +1\.00 +1\.00 +0\.75$",
            r"ValueError: binary_cross_entropy: expected input and target of one shape",
        ),
        gates_by_hand,
        zero="--rate",
        smallest={"steps": 2},
    ),
    "initialisation": Row(
        "--data digits --steps 3",
        (
            r"= 0\.0537 before it is cut",
            "no weight learns: their gradients are exactly 0",
            r"2 of 3 weights have a gradient of exactly 0: 0\.weight, 2\.weight",
            r"^  zeros +zero_initialization +zero_initialization$",
            r"^  N\(0, 1\) +exploding_gradient +saturated_units$",
            (r"^  (?:xavier|he)_.* nothing wrong +nothing wrong$", 4),
            r"^tk\.diagnose, ReLU from zeros:\n  1\. zero_initialization$",
        ),
        lambda module: [
            rf"^{re.escape(start)} .* 0\.\d+ +{published:.4f} +{published:.4f}$"
            for start, published in module.PUBLISHED_STD.items()
        ],
        zero="--steps",
        smallest={"steps": 2, "data_name": "digits"},
    ),
    "learning_rate": Row(
        "--starts 5",
        (
            r"rate 0\.1 cost 200 +0\.670909 +0\.670909$",
            r"^  infinite loss since step 5, from log in as_the_lab_computes_it, learning_rate",
            r"^  lab 07-1 rate 1\.5 +learning_rate_too_high$",
            r"^  lab 07-1 rate 1e-10 +learning_rate_too_low$",
            r"^  lab 07-1 rate 0\.1 +nothing wrong$",
            r"^  lab 07-2 unscaled, rate 1e-5 +unscaled_inputs$",
            r"^  lab 07-3 scaled, rate 1e-5 +learning_rate_too_low$",
            r"^  lab 07-3 scaled, rate 0\.1 +nothing wrong$",
        ),
        zero="--starts",
        smallest={"starts": 2},
    ),
    "lego": Row(
        "--starts 2 --steps 3 --seeds 1 --epochs 1",
        ("digits, 2 ReLU layers, he start, skips: accuracy",),
        zero="--starts",
        changes={"DEPTHS": (1, 2)},
        smallest={"starts": 2, "steps": 2, "depths": (2,), "seeds": 1, "epochs": 1},
    ),
    "linear_collapse": Row(
        "--steps 20",
        (
            (r"^1?0?0?[01] linear layers? +\d\.\de[-+]\d\d", 3),
            r"^10 tanh layers +- ",
            (r"^  100? linear layers +no_nonlinearity$", 2),
            (r"^  (?:1 linear layer|10 tanh layers) +nothing wrong$", 2),
            r"so 10 layers compute what one linear layer can\.$",
        ),
        zero="--rate",
        smallest={"steps": 2},
    ),
    "linear_regression": Row(
        "--starts 3",
        (r"^lab 04-3 cost, median .* 24\.7225$",),
        saves=("linear_regression.csv",),
        zero="--starts",
        smallest={"starts": 2, "steps": 2},
    ),
    "logistic_regression": Row(
        "--starts 3",
        (
            r"^lab 05-2 accuracy, mean +(?:0\.[7-9]\d+|1\.0+) +0\.762846$",
            r"^  1\. sigmoid_before_bce_with_logits$",
        ),
        zero="--starts",
        shorter={"steps": 300, "rate": 0.5},
        smallest={"starts": 2, "steps": 2},
    ),
    "mnist_cnn": Row(
        "--show",
        more=saved_by_cnn,
        zero="--epochs",
        mnist=lambda split: (
            np.random.default_rng(0).random((10_000, 28, 28), np.float32) > 0.9,
            np.zeros(10_000, np.int64),
        ),
    ),
    "mnist_ladder": Row("--show", (r"rate 0\.3",), saved_by_ladder, zero="--epochs"),
    "rbm": Row(
        "--data digits",
        ((r"^[-A-Za-z1 ]+ +\d\.\d{4}$", 10),),
        also=errors_fall,
        changes={
            "GIBBS_STEPS": 10,
            "RECIPES": {"digits": {"hidden": 64, "rates": (0.1, 0.2, 0.3), "batch": 10}},
        },
        smallest={"name": "digits", "hidden": 4, "rates": (0.1,)},
    ),
    "sequences": Row(
        "--walks 1 --steps 5",
        (r"sequence loss, 0\.9 +0\.371101 +0\.371101", "walk, honest scaling: beats naive"),
        zero="--walks",
        smallest={"walks": 1, "steps": 2},
    ),
    "small_change": Row(
        "--dx 0.1",
        (
            r"changed by 0\.1",
            r"^f = x\^2, by x, at 1 +2\.1 +2 +2$",
            r"^    df/dx = df/dg \* dg/dh \* dh/dx = .* = 0\.18737 \* 1 \* 3 = 0\.56211$",
        ),
        zero="--dx",
        smallest={},
    ),
    "softmax_regression": Row(
        "--starts 4",
        (
            r"\[\[0 0 1\]\n \[0 0 1\]\n \[0 0 1\]\n \[0 1 0\]\]",
            r"^lab 06-1 cost, median .* 0\.152162$",
            r"^  1\. softmax_before_cross_entropy$",
        ),
        zero="--starts",
        shorter={"steps": 200},
        smallest={"starts": 2, "steps": 2},
    ),
    "vanishing": Row(
        "--depth 8 --width 20",
        (
            r"with y = 0\.01, df/dx is 0\.01 df/dg",
            r"the note says 0\.000025 for 4 layers: it is 0\.0625",
            r"dz1/dw1 = x +1\.00000 +(\S+)\n +dL/dw1 by backward\(\) +\1$",
            r"^   slopes sigmoid'  (?: +0\.2\d\d){10}   +7\.4e-07$",
            r"times dL/dh10: (\S+)\. dL/dw1 by backward\(\): \1$",
            r"ReLU +N\(0, 1\) .* exploding +\d+\.\d%",
        ),
        zero="--depth",
        smallest={"depth": 4, "width": 10, "xor_seeds": 1},
    ),
    "width": Row(
        "--widths 1 3 5 --nets 2 --steps 60",
        (
            r"^ +1 wide +3 wide +5 wide$",
            (r"^1\d* points.*: .*(?: +\d\.\d{3}){3}$", 7),
            r"^tk\.diagnose, 64 wide, 15 points, 500 steps:\n  1\. overfitting$",
            r"^tk\.diagnose, 64 wide, 150 points, 500 steps:\n  Nothing wrong ",
        ),
        zero="--nets",
        smallest={"widths": (2, 64), "nets": 2, "steps": 2},
    ),
    "xor_labs": Row(
        "--starts 3 --steps 50",
        ("lab 09-3  2-10-10-10-1", "of 3 starts"),
        zero="--steps",
        smallest={"starts": 2, "steps": 2},
    ),
}
OWN = {"dbn", "replay"}
"""Whose files run them several times, and look at what they print."""
TABLES = ("linear_regression", "logistic_regression", "softmax_regression")
"""They read the lectures' tables."""


def test_every_program_has_a_row() -> None:
    assert ROWS.keys() | OWN == set(PROGRAMS)
    short = {lab.program for lab in replay.LABS if not lab.long}
    assert short == {name for name, row in ROWS.items() if row.smallest is not None}


@pytest.mark.one_in(3)
@pytest.mark.trains
@pytest.mark.usefixtures("made_up_tables")
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.exact if n == "deterministic" else ()) for n in ROWS],
)
def test_a_quick_run_prints_its_figures_and_saves_its_picture(
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row, module, out = ROWS[name], program(name), tmp_path / "a/b"
    if "events" in row.saves:
        pytest.importorskip("tensorboardX")
    monkeypatch.setattr(data, "mnist", row.mnist)
    for constant, value in row.changes.items():
        monkeypatch.setattr(module, constant, value)
    if row.shorter:
        monkeypatch.setattr(module, "run", partial(module.run, **row.shorter))
    module.main([*shlex.split(row.options), "--out", str(out)])
    shown = capsys.readouterr().out
    for pattern in (*row.shows, *row.more(module)):
        if isinstance(pattern, tuple):
            assert len(re.findall(pattern[0], shown, re.M)) == pattern[1], pattern
        else:
            assert re.search(pattern, shown, re.M), pattern
    assert row.also(shown)
    picture = out / (row.picture or f"{name}.png")
    check_picture(shown, picture)
    saved = {path.name for path in out.iterdir()} if out.exists() else set()
    assert saved - {picture.name} == set(row.saves)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=needs_tables if name in TABLES else ())
        for name, row in ROWS.items()
        if row.smallest is not None
    ],
)
def test_the_replay_shows_figures_that_the_program_has(name: str) -> None:
    module = replay.program(name)
    figures = module.run(**ROWS[name].smallest or {})
    for lab in replay.LABS:
        if lab.program == name:
            assert replay.written(lab, figures)
            assert set(lab.arguments) <= set(inspect.signature(module.run).parameters)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.zero])
def test_nothing_is_trained_for_nought(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    option = ROWS[name].zero
    with pytest.raises(SystemExit) as ending:
        program(name).main([option, "0"])
    assert ending.value.code == 2
    assert f"argument {option}: a " in capsys.readouterr().err


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_says_how_to_run_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (FOLDER / f"{name}.py").read_text(encoding="utf-8").endswith("    launch(main)\n")
    with pytest.raises(SystemExit) as ending:
        program(name).main(["--help"])
    assert ending.value.code == 0
    shown = capsys.readouterr().out
    assert f"python examples/lectures/{name}.py" in shown
    assert "--out" in shown


# ------------------------------------------------------------------ MNIST


@pytest.mark.parametrize(
    ("name", "options", "remedy"),
    [
        ("dbn", "", "\nor try --data digits"), ("rbm", "", "\nor try --data digits"),
        ("fit", "", ""), ("initialisation", "--data mnist", ""), ("mnist_cnn", "", ""),
        ("mnist_ladder", "--lab 10-3", ""),
    ],
)  # fmt: skip
def test_without_mnist_it_says_what_to_do(
    name: str,
    options: str,
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def missing(split: str, download: bool = True) -> None:
        raise data.DatasetNotFoundError("put the files there")

    monkeypatch.setattr(data, "mnist", missing)
    with pytest.raises(SystemExit) as ending:
        program(name).main([*shlex.split(options), "--out", str(tmp_path)])
    said = f"{ending.value.code}{capsys.readouterr().err}"
    assert f"error: put the files there{remedy}" in said
    assert ending.value.code


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dbn", [(55_000, 4), (55_000,), (10_000, 4), (10_000,)]),
        ("rbm", [(55_000, 4), (10_000, 4)]),
    ],
)
def test_it_learns_from_the_lectures_55_000_images(
    name: str, expected: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"train": 60_000, "test": 10_000}
    monkeypatch.setattr(
        data, "mnist", lambda split: (np.zeros((counts[split], 2, 2)), np.zeros(counts[split]))
    )
    assert [part.shape for part in program(name).load("mnist")] == expected
