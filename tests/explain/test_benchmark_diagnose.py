"""`benchmarks/diagnose.py`: a part of its nets, or all of them; and its table."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "diagnose.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_of_diagnose", PROGRAM)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


bench = load()
QUICK = (
    "vanishing_gradient", "exploding_gradient", "dead_units", "saturated_units",
    "zero_initialization", "learning_rate_too_low", "unscaled_inputs", "shape_broadcast",
    "softmax_before_cross_entropy", "parameter_not_in_optimizer", "output_range", "nan_or_infinity",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.trains
def test_of_twenty_nets_nearly_all_are_judged_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "STEPS", 120)
    judged = [bench.judge(kind, 4 * 10**9 + 7 + i, cure=False) for i, kind in enumerate(QUICK)]
    judged += [bench.judge(None, 4 * 10**9 + 1_000_001 + i) for i in range(8)]
    wrong = [one for one in judged if one.said != ([one.fault] if one.fault else [])]
    assert len(wrong) <= 2, wrong


@pytest.mark.slow
def test_precision_recall_and_remedies() -> None:
    result = bench.figures(bench.judge_half(1, 115))
    together = result["together"]
    assert together["broken"] >= 115 and together["sound"] >= 115
    assert together["precision"] >= 0.95 and together["recall"] >= 0.95
    assert together["remedied_nets_that_train"] >= 0.9
    for kind, row in result["kinds"].items():
        assert row["right"] >= 4, kind
        assert kind in bench.NO_CURE or row["cured"] >= row["remedied"] - 1, kind


def judged(fault: str | None, *said: str, trains: bool | None = None) -> Any:
    return bench.Judged(fault, list(said), trains, "a net", 0.5)


def test_the_figures() -> None:
    result = bench.figures(
        [
            judged("dead_units", "dead_units", trains=True),
            judged("dead_units", "dead_units", "wrong_mode", trains=False),
            judged("wrong_mode"),
            judged(None),
            judged(None, "dead_units"),
        ]
    )
    together = result["together"]
    assert together["broken"] == 3 and together["sound"] == 2 and together["silent_on_sound"] == 1
    assert together["precision"] == 2 / 4 and together["recall"] == 2 / 3
    assert together["remedied_nets_that_train"] == 0.5
    assert result["kinds"]["dead_units"]["in_vain"] == 1
    assert "dead_units                          2     2       1     1/2" in bench.shown("", result)


def test_the_program_writes_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        bench, "judge_half", lambda half, nets: [judged("dead_units"), judged(None)]
    )
    bench.main(["--misses", "--out", str(tmp_path)])
    assert "dead_units: silent; a net" in capsys.readouterr().out
    written = json.loads((tmp_path / "diagnose.json").read_text(encoding="utf-8"))
    assert written["figures"]["together"]["recall"] == 0


def test_a_sound_net_is_one_that_trains() -> None:
    case = bench.base(3, (bench.blobs,))
    assert bench.trains(case)
    for group in case.optimizer.param_groups:
        group["lr"] = 1e-9
    assert not bench.trains(case)
