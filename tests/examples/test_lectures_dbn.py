"""examples/lectures/dbn.py: a deep sigmoid net that stands still, and what makes it learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lecture_programs import check_picture, program

import tinygrad_kr as tk
from tinygrad_kr import data, nn

pytestmark = pytest.mark.trains

dbn = program("dbn")
TINY = {"hidden": (8, 8), "pretrain_epochs": 1, "epochs": 2, "rate": 0.1, "batch": 200}


@pytest.fixture(scope="module")
def figures() -> dict[str, float]:
    """Medians of three seeds."""
    runs = [dbn.run("digits", seed, epochs=12, pretrain_epochs=10) for seed in range(3)]
    return {name: float(np.median([run[name] for run in runs])) for name in runs[0]}


@pytest.mark.slow
def test_pretraining_brings_the_stuck_net_to_learn(figures: dict[str, float]) -> None:
    assert figures[f"{dbn.PLAIN} accuracy"] < 0.13
    assert figures[f"{dbn.PRETRAINED} accuracy"] > 0.7


@pytest.mark.slow
def test_xavier_alone_does_not_rescue_sigmoid_but_other_activations_learn(
    figures: dict[str, float],
) -> None:
    assert figures["sigmoid, Xavier accuracy"] < 0.13
    assert figures["tanh, Xavier accuracy"] > 0.8
    assert figures["ReLU, He accuracy"] > 0.6


@pytest.mark.slow
def test_the_gradient_reaches_the_first_layer_only_of_nets_that_learn(
    figures: dict[str, float],
) -> None:
    assert figures[f"{dbn.PLAIN} first gradient"] < 1e-6
    assert 1e-6 < figures["sigmoid, Xavier first gradient"] < 0.02
    for kind in (dbn.PRETRAINED, "tanh, Xavier", "ReLU, He"):
        assert figures[f"{kind} first gradient"] > 0.1
    assert figures["pre-training seconds"] > 0


def test_the_recipe_is_the_one_that_the_table_names() -> None:
    recipe = dbn.RECIPES["mnist"]
    assert len(recipe["hidden"]) >= 6
    assert (recipe["rate"], recipe["batch"]) == (0.1, 100)


def test_both_sigmoid_nets_have_one_start() -> None:
    digits = dbn.load("digits")
    tk.manual_seed(3)
    plain, seconds = dbn.deep_belief_net(digits, (30, 20), 0, 100)
    tk.manual_seed(3)
    machines = nn.DBN((64, 30, 20), 10)
    for key, value in machines.network().state_dict().items():
        np.testing.assert_array_equal(plain.state_dict()[key], value)
    assert plain[0].weight.data.std() == pytest.approx(0.01, rel=0.1)
    assert seconds < 0.5
    tk.manual_seed(3)
    taught, _ = dbn.deep_belief_net(digits, (30, 20), 1, 100)
    assert [type(layer) for layer in taught] == [type(layer) for layer in plain]
    assert not np.array_equal(taught[0].weight.data, plain[0].weight.data)
    np.testing.assert_array_equal(taught[4].weight.data, plain[4].weight.data)


def test_runs_are_saved_by_seed_with_settings_and_versions(tmp_path: Path) -> None:
    path = tmp_path / "results/dbn.json"
    results = dbn.measure("digits", 5, **TINY)
    for seed in (10, 5):
        dbn.write(results, seed, TINY, path)
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert list(saved) == ["5", "10"]
    assert saved["5"]["settings"] == TINY | {"hidden": [8, 8], "optimizer": "SGD"}
    assert saved["5"]["versions"]["numpy"] == np.__version__
    again = dbn.read(5, path)
    assert list(again) == list(results)
    for kind, result in results.items():
        assert again[kind].accuracies == pytest.approx(result.accuracies, rel=1e-3)
        assert again[kind].gradient_norms == pytest.approx(result.gradient_norms, rel=1e-3)


def test_the_program_prints_draws_and_shows_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dbn, "TABLE", tmp_path / "dbn.json")
    monkeypatch.setitem(dbn.RECIPES, "digits", TINY)
    monkeypatch.setitem(dbn.RECIPES, "mnist", TINY)
    monkeypatch.setattr(data, "mnist", data.digits)
    tables = []
    for options in (["--data", "digits"], ["--data", "mnist"], ["--show"]):
        dbn.main([*options, "--out", str(tmp_path / "a/b")])
        shown = capsys.readouterr().out
        tables.append([line[:60] for line in shown.splitlines()[2:7]])
        assert [row[:24].strip() for row in tables[-1]] == [dbn.PLAIN, dbn.PRETRAINED, *dbn.NETS]
        check_picture(shown, tmp_path / "a/b/dbn.png")
    assert tables[0] == tables[1] == tables[2]
    with pytest.raises(SystemExit, match="no run of seed 7 is saved"):
        dbn.main(["--show", "--seed", "7"])


def test_a_run_that_is_stopped_keeps_the_nets_that_are_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dbn, "TABLE", tmp_path / "dbn.json")
    monkeypatch.setitem(dbn.RECIPES, "mnist", TINY)
    monkeypatch.setattr(data, "mnist", data.digits)
    train, allowed = dbn.train, [2]

    def stopped(*given: Any) -> Any:
        if not allowed[0]:
            raise KeyboardInterrupt
        allowed[0] -= 1
        return train(*given)

    monkeypatch.setattr(dbn, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        dbn.main([])
    kinds = [dbn.PLAIN, dbn.PRETRAINED]
    assert list(dbn.read(0, dbn.TABLE)) == kinds
    assert dbn.saved(0) is None
    dbn.main(["--show", "--out", str(tmp_path)])
    check_picture(capsys.readouterr().out, tmp_path / "dbn.png")
    before = dbn.read(0, dbn.TABLE)
    allowed[0] = 5
    dbn.main(["--out", str(tmp_path)])
    allowed[0] = 1
    with pytest.raises(KeyboardInterrupt):
        dbn.main([])
    after = dbn.read(0, dbn.TABLE)
    assert list(after) == [*kinds, *dbn.NETS]
    assert after[dbn.PLAIN].accuracies == before[dbn.PLAIN].accuracies
    assert dbn.saved(0)["figures"][f"{dbn.PLAIN} accuracy"] == after[dbn.PLAIN].accuracies[-1]
