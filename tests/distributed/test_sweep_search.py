"""The search of a recipe: Optuna's pruner is fed by the history of `tk.fit`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "examples/search_recipe.py"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("optuna")
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import search_recipe

    return search_recipe


def outcomes(study: Any) -> list[Any]:
    return [(t.state.name, t.params, t.intermediate_values, t.value) for t in study.trials]


def test_trials_that_lag_behind_are_pruned(program: Any) -> None:
    study = program.search(trials=12, epochs=4, seed=1)
    states = [trial.state.name for trial in study.trials]
    assert len(states) == 12
    assert {*states} == {"COMPLETE", "PRUNED"}
    for trial in study.trials:
        epochs = [*trial.intermediate_values]
        assert epochs == [*range(1, len(epochs) + 1)]
        assert (len(epochs) == 4) >= (trial.state.name == "COMPLETE")
    best = study.best_trial
    assert (
        best.value
        == best.intermediate_values[4]
        == max(trial.value for trial in study.trials if trial.state.name == "COMPLETE")
    )
    assert outcomes(program.search(trials=12, epochs=4, seed=1)) == outcomes(study)


def test_a_trial_reports_its_history(program: Any) -> None:
    study = program.search(trials=1, epochs=3, seed=2)
    (trial,) = study.trials
    _, history = program.train(trial.params, 3, 2)
    assert [*trial.intermediate_values.values()] == history["val_accuracy"]


def test_a_search_goes_on_from_its_file(program: Any, tmp_path: Path) -> None:
    file = tmp_path / "search.log"
    first = outcomes(program.search(trials=2, epochs=1, seed=0, storage=file))
    both = outcomes(program.search(trials=1, epochs=1, seed=0, storage=file))
    assert len(both) == 3
    assert both[:2] == first


def test_the_program_says_what_it_found(program: Any, tmp_path: Path) -> None:
    for lang, words in (("en", "3 trials, "), ("ko", "시도 3번, ")):
        done = subprocess.run(
            [sys.executable, "-W", "error", str(PROGRAM), "--trials", "3", "--epochs", "2",
             "--lang", lang],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, encoding="utf-8",
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(words)
        assert "optimizer " in done.stdout


def test_without_optuna_the_program_says_what_to_install(
    tmp_path: Path,
) -> None:
    (tmp_path / "optuna.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'optuna'\")", encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--trials", "1", "--lang", "en"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, encoding="utf-8",
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
    )  # fmt: skip
    assert done.returncode == 1
    assert 'this needs Optuna: pip install "tinygrad_kr[search]"' in done.stderr
