"""examples/lectures/softmax_regression.py: labs 06-1 and 06-2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lecture_programs import check_picture, needs_tables, program

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, data

pytestmark = pytest.mark.trains

softmax_regression = program("softmax_regression")
Starts = program("common").Starts


@needs_tables
def test_published_figures_are_ordinary_draws() -> None:
    """The lab's start is not printed: its cost must lie in the range of 40 others."""
    figures = softmax_regression.run(starts=40)
    published = softmax_regression.PUBLISHED["lab 06-1 cost"]
    low, high = (figures[f"lab 06-1 cost, {which}"] for which in ("lowest", "highest"))
    assert 0.13 < low < published < high < 0.19
    assert figures["lab 06-1 answers as the lab's, mean"] == 1
    assert figures["lab 06-2 accuracy, lowest"] == 1
    assert figures["lab 06-2 cost, mean"] == pytest.approx(0.054, abs=0.004)
    assert 0.9 < figures["lab 06-2 accuracy on animals left out"] < 1


@pytest.fixture
def made_up_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """50 animals of seven kinds with 16 traits, two of which tell the kinds apart but for one."""
    rng = np.random.default_rng(0)
    kinds = np.arange(50) % 7
    traits = rng.integers(0, 2, (50, 16)).astype(float)
    traits[:, 0], traits[:, 1] = 3 * np.cos(kinds), 3 * np.sin(kinds)
    traits[0, :2] = traits[1, :2]
    (tmp_path / "lectures").mkdir()
    data.write_csv(tmp_path / "lectures/data-04-zoo.csv", np.column_stack([traits, kinds]))
    monkeypatch.setenv("TINYGRAD_KR_DATA", str(tmp_path))
    return kinds


def test_the_program(
    made_up_zoo: np.ndarray,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, found = softmax_regression.run, {}

    def shorter(**settings: Any) -> dict[str, float]:
        found.update(settings)
        result: dict[str, float] = run(steps=200, **settings)
        return result

    monkeypatch.setattr(softmax_regression, "run", shorter)
    softmax_regression.main(["--starts", "4", "--out", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "[[0 0 1]\n [0 0 1]\n [0 0 1]\n [0 1 0]]" in shown
    line = next(line for line in shown.splitlines() if line.startswith("lab 06-1 cost, median"))
    assert line.split()[-1] == "0.152162"
    confusion = found["pictured"]["confusion"]
    np.testing.assert_array_equal(confusion.sum(axis=1), np.bincount(made_up_zoo))
    assert confusion[0, 1] >= 1
    assert np.trace(confusion) > 20  # 7 by chance
    check_picture(shown, tmp_path / "softmax_regression.png")


def test_costs_are_the_cross_entropy_of_the_labels() -> None:
    tk.manual_seed(0)
    x, labels = softmax_regression.EIGHT_POINTS, softmax_regression.EIGHT_LABELS
    net = Starts(3, 4, 3)
    logits = net(x).detach()
    first = softmax_regression.train(net, x, labels, 1, 0.1)[0]
    expected = [F.cross_entropy(logits[start], labels).item() for start in range(3)]
    np.testing.assert_allclose(first, expected, rtol=1e-6)
    with tk.no_grad():
        net.weight.copy_(Tensor(np.zeros((3, 4, 3), np.float32)))
        net.bias.copy_(Tensor([[[0.0, 1.0, 0.0]], [[2.0, 1.0, 0.0]], [[0.0, 1.0, 5.0]]]))
    np.testing.assert_array_equal(softmax_regression.answers(net, x)[:, 0], [1, 0, 2])
