"""examples/lectures/replay.py: the table of all labs, which is complete and never gives up."""

from __future__ import annotations

import string
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lecture_programs import FOLDER, check_picture, program

replay = program("replay")
Lab = replay.Lab


def keys_of(text: str) -> list[str | None]:
    return [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]


# ------------------------------------------------------------------ the registry


def test_every_program_is_in_the_table_and_every_row_has_a_program() -> None:
    programs = {path.stem for path in FOLDER.glob("*.py")} - replay.NOT_LABS
    assert {lab.program for lab in replay.LABS} == programs


@pytest.mark.parametrize("lab", replay.LABS, ids=lambda lab: f"{lab.name}, {lab.what}")
def test_every_row_says_what_was_published_or_that_nothing_was(lab: Any) -> None:
    assert lab.published == "-" or len(lab.published) > 1
    assert lab.what
    assert lab.shown
    for _, form in lab.shown:
        assert keys_of(form) == [""]
    if lab.compared:
        key, published = lab.compared
        assert key in dict(lab.shown)
        assert 0 <= published <= 1


def test_the_labs_of_the_lectures_are_there() -> None:
    names = {lab.name for lab in replay.LABS}
    numbered = "02-1 02-3 03-3 03-X 04-1 04-3 05-1 05-2 06-1 06-2 07-1 07-2 07-3 07-4 09-1 09-2"
    numbered += " 09-3 09-4 10-1 10-2 10-3 10-4 10-5 10-6 11-0 11-1 11-2 11-5 12-1 12-2"
    assert set(numbered.split()) < names
    assert {"Keras 10-1", "Keras 10-2", "Keras 13-2", "RBM", "DBN"} < names


@pytest.mark.exact
@pytest.mark.trains
def test_deterministic_rows_are_what_was_published() -> None:
    runner = replay.Replay(anew=False)
    rows = {lab.name: runner.row(lab) for lab in replay.LABS if lab.program == "deterministic"}
    assert set(rows) == {"02-1", "02-3", "03-3", "03-X", "11-0"}
    for row in rows.values():
        assert row.ours == row.lab.published
    assert rows["02-1"].seconds > 0  # one run for all of them
    assert [row.seconds for name, row in rows.items() if name != "02-1"] == [None] * 4


def test_long_rows_have_figures_in_what_is_saved() -> None:
    for lab in replay.LABS:
        for run in replay.saved_runs(lab) if lab.long else []:
            for key, _ in lab.shown:
                assert 0 <= run["figures"][key] <= 1
            assert run["versions"]["tinygrad_kr"]


# ------------------------------------------------------------------ the program


@pytest.fixture
def labs(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Three short labs of two programs, the middle one broken, and a long one."""
    called: list[str] = []

    def good(**settings: Any) -> dict[str, float]:
        print("noise")
        called.append("good")
        return {"right": 0.75, "b": float(settings.get("extra", 2))}

    def bad() -> dict[str, float]:
        called.append("bad")
        raise ValueError("no such thing\nand more")

    def long(lab: str) -> dict[str, float]:
        called.append(f"long {lab}")
        return {"right": 0.5}

    runs = {seed: {"figures": {"right": 0.9 + seed / 100}, "versions": {"tinygrad_kr": "7.7"}}
            for seed in (0, 2)}  # fmt: skip
    modules = {
        "good": SimpleNamespace(run=good),
        "bad": SimpleNamespace(run=bad),
        "long": SimpleNamespace(run=long, saved=lambda lab, seed: runs.get(seed)),
    }
    monkeypatch.setattr(replay, "program", modules.__getitem__)
    shown = (("right", "share {:.2f}"),)
    table = (
        Lab("1-1", "first", "0.8", "good", shown, compared=("right", 0.8)),
        Lab("1-2", "second", "-", "bad", shown),
        Lab("2-1", "third", "2", "good", (("b", "b {:g}"),)),
        Lab("2-2", "other settings", "5", "good", (("b", "b {:g}"),), {"extra": 5}),
        Lab("3-1", "long", "0.9", "long", shown, {"lab": "x"}, True, ("right", 0.9)),
    )
    monkeypatch.setattr(replay, "LABS", table)
    return SimpleNamespace(called=called, runs=runs, modules=modules)


def test_a_lab_that_fails_is_shown_and_the_rest_goes_on(
    labs: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        replay.main(["--out", str(tmp_path)])
    assert stop.value.code == 1
    shown = capsys.readouterr().out
    lines = {line.split()[0]: line for line in shown.splitlines() if line}
    assert "share 0.75" in lines["1-1"]
    assert lines["1-2"].endswith("FAILED: ValueError: no such thing")
    assert "b 2" in lines["2-1"]
    assert "b 5" in lines["2-2"]
    assert "share 0.91, 0.9000 to 0.9200, 2 seeds (saved, 7.7)" in lines["3-1"]
    assert "5 of 5 rows" in shown
    assert "FAILED: 1-2" in shown
    assert "noise" not in shown
    assert labs.called == ["good", "bad", "good"]
    check_picture(shown, tmp_path / "replay.png")


def test_one_lab_is_run_anew_even_if_it_is_long(
    labs: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replay.main(["--lab", "3", "--lab", "2-1", "--out", str(tmp_path)])
    assert labs.called == ["good", "long x"]
    assert "share 0.50" in capsys.readouterr().out


def test_all_runs_the_long_ones_too(
    labs: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        replay.main(["--all", "--out", str(tmp_path)])
    assert labs.called == ["good", "bad", "good", "long x"]
    assert "saved" not in capsys.readouterr().out.replace("picture saved", "")


def test_a_long_lab_without_a_result_says_how_to_run_it(
    labs: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    labs.runs.clear()
    rows = replay.replay([replay.LABS[-1]], anew=False)
    assert "not run yet: --lab 3-1" in capsys.readouterr().out
    assert not rows[0].failed
    assert not rows[0].figures


def test_ctrl_c_leaves_what_is_done(
    labs: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    labs.modules["bad"].run = interrupted
    with pytest.raises(KeyboardInterrupt):
        replay.main(["--out", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "share 0.75" in shown
    assert "1 of 5 rows" in shown


@pytest.mark.usefixtures("labs")
def test_an_unknown_lab_is_refused_with_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        replay.main(["--lab", "4"])
    assert stop.value.code == 2
    assert "there are 1-1, 1-2, 2-1, 2-2, 3-1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "pattern", "matches"),
    [("10-3", "10-3", True), ("10-3", "10", True), ("10-3", "1", False), ("02-3", "2", False),
     ("Keras 10-1", "Keras", True), ("Keras 10-1", "10-1", False), ("11-5", "11-", False)],
)  # fmt: skip
def test_which_labs_a_pattern_names(name: str, pattern: str, matches: bool) -> None:
    assert replay.matches(name, pattern) is matches
