"""How every lecture program starts: bad arguments, no data, no folder and Ctrl-C end in a line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
from lecture_programs import program

from tinygrad_kr import data

common = program("common")


@pytest.mark.parametrize("text", ["0", "-3", "2.5", "many", "--5", ""])
def test_a_count_is_a_whole_number_from_one_up(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"from 1 up, not '{text}'"):
        common.whole(1)(text)
    assert common.whole(1)("1") == 1
    assert common.whole(0)("0") == 0


@pytest.mark.parametrize("text", ["0", "-0.1", "nan", "inf", "fast"])
def test_a_rate_is_above_zero(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"a number above 0, not '{text}'"):
        common.positive(text)
    assert common.positive("1e-3") == 0.001


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (data.DatasetNotFoundError("put it there"), "error: put it there"),
        (
            PermissionError(13, "Permission denied", "/out"),
            "error: [Errno 13] Permission denied: '/out'\n--out chooses another folder",
        ),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_ends_a_program_in_a_line(error: BaseException, status: object) -> None:
    def main() -> NoReturn:
        raise error

    with pytest.raises(SystemExit) as ending:
        common.launch(main)
    assert ending.value.code == status


def test_mistakes_in_a_program_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        common.launch(lambda: 1 / 0)


def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("", encoding="utf-8")

    def main() -> None:
        common.save(common.new_figure(1, 1), tmp_path / "file" / "picture.png")

    with pytest.raises(SystemExit, match="--out chooses another folder"):
        common.launch(main)


def test_a_line_outside_the_picture_is_not_drawn() -> None:
    """Older versions of matplotlib warn when they are told to."""
    drawn: list[tuple[Any, ...]] = []
    axes = SimpleNamespace(
        contour=lambda *args, **style: drawn.append(args), plot=lambda *args, **style: None
    )
    a, b = np.meshgrid([0.0, 1.0], [0.0, 1.0])
    common.draw_level(axes, a, b, a + b + 0.5, "outside")
    assert drawn == []
    common.draw_level(axes, a, b, a + b - 0.5, "inside", color="black")
    assert len(drawn) == 1


def test_in_a_pipe_progress_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(common.time, "monotonic", lambda: clock[0])
    for step in common.bar(60, "training"):
        clock[0] = step * 0.5
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training: 18% of 60 steps, 5 s"
    assert [line.split(", ")[1] for line in lines] == [f"{n} s" for n in (5, 10, 15, 20, 25)]
    shown = common.progress_bar(8_000, unit="")
    shown.set_postfix_str("cost 0.5")
    clock[0] += 7
    shown.update(2_000)
    assert capsys.readouterr().err == "25%, 7 s, cost 0.5\n"


def test_short_programs_show_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(common.bar(5)) == [0, 1, 2, 3, 4]
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_progress_is_a_bar_where_tqdm_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []
    tqdm = SimpleNamespace(tqdm=lambda **options: asked.append(options) or "the bar")
    monkeypatch.setitem(sys.modules, "tqdm", tqdm)
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: True))
    assert common.progress_bar(10, "lab", done=2) == "the bar"
    assert (asked[0]["total"], asked[0]["initial"], asked[0]["desc"]) == (10, 2, "lab")
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert isinstance(common.progress_bar(10), common.Lines)
    monkeypatch.setitem(sys.modules, "tqdm", tqdm)
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: False))
    assert isinstance(common.progress_bar(10), common.Lines)


@pytest.mark.parametrize(
    ("text", "numbers"), [("2", (2,)), ("10,3", (10, 3)), ("none", ()), ("4, 5", (4, 5))]
)
def test_widths_are_numbers_between_commas(text: str, numbers: tuple[int, ...]) -> None:
    assert common.widths(text) == numbers


@pytest.mark.parametrize("text", ["", "2,x", "0", "3,-1", "2.5"])
def test_other_widths_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"not '{text}'"):
        common.widths(text)
