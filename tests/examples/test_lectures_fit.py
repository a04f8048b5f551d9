"""examples/lectures/fit.py: the Keras labs' recipes, by `tk.fit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lecture_programs import large_digits, program

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import data, nn, optim

pytestmark = pytest.mark.trains

fit = program("fit")


@pytest.fixture
def digits_as_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "mnist", large_digits)


@pytest.mark.usefixtures("digits_as_mnist")
def test_the_best_of_the_validation_is_kept(tmp_path: Path) -> None:
    fit.main(["--lab", "10-2", "--epochs", "3", "--out", str(tmp_path)])
    net = fit.LABS["10-2"].net()
    best = tk.load(tmp_path / "fit_10-2.npz", model=net)
    validation = fit.load("10-2", 60_000, 10_000)[1]
    found = tk.evaluate(net, validation, F.cross_entropy, metrics=["accuracy"])
    assert found["loss"] == pytest.approx(best["val_loss"], rel=1e-4)
    assert found["accuracy"] == pytest.approx(best["val_accuracy"])


def test_recipes_are_those_of_the_keras_labs() -> None:
    settings = {name: (lab.batch_size, lab.epochs) for name, lab in fit.LABS.items()}
    assert settings == {"10-1": (100, 15), "10-2": (128, 12), "13-2": (128, 12)}
    sizes = {name: sum(p.size for p in lab.net().parameters()) for name, lab in fit.LABS.items()}
    assert sizes == {"10-1": 7_850, "10-2": 400_906, "13-2": 600_810}  # as Keras counts them
    dropped = {
        name: [m.p for m in lab.net().modules() if isinstance(m, nn.Dropout)]
        for name, lab in fit.LABS.items()
    }
    assert dropped == {"10-1": [], "10-2": [0.3] * 4, "13-2": [0.25, 0.5]}
    tk.manual_seed(0)
    first = fit.LABS["10-1"].net()[0]
    assert first.weight.data.std() == pytest.approx(0.01, rel=0.05)
    assert not first.bias.data.any()
    bound = (6 / (784 + 256)) ** 0.5
    assert np.abs(fit.LABS["10-2"].net()[0].weight.data).max() == pytest.approx(bound, rel=1e-3)
    assert isinstance(fit.LABS["13-2"].optimizer(first), optim.Adadelta)


@pytest.mark.usefixtures("digits_as_mnist")
def test_what_each_lab_trains_validates_and_tests_on() -> None:
    train, validation, test = fit.load("10-1", 60_000, 10_000)
    assert (train[0].shape, validation, test[0].shape) == ((1_437, 784), None, (360, 784))
    train, validation, test = fit.load("10-2", 1_000, 100)
    assert [pair[0].shape for pair in (train, validation, test)] == [
        (800, 784), (200, 784), (100, 784),
    ]  # fmt: skip
    labels = data.digits("train")[1]
    np.testing.assert_array_equal(validation[1], labels[800:1_000])
    train, validation, test = fit.load("13-2", 60_000, 50)
    assert train[0].shape == (1_437, 1, 28, 28)
    assert validation is test


@pytest.mark.usefixtures("digits_as_mnist")
@pytest.mark.parametrize(("lab", "least"), [("10-1", 0.75), ("10-2", 0.85), ("13-2", 0.6)])
def test_every_lab_learns_and_its_result_is_saved(lab: str, least: float, tmp_path: Path) -> None:
    epochs = {"10-1": 4, "10-2": 8, "13-2": 2}[lab]
    images = 512 if lab == "13-2" else 60_000
    figures = fit.run(lab, 3, epochs=epochs, train_images=images, results=tmp_path)
    assert figures[f"lab Keras {lab} accuracy"] > least
    result = fit.saved(lab, 3, tmp_path)
    assert result["figures"] == figures
    assert result["published"] == {"10-1": 0.9268, "10-2": 0.9811, "13-2": 0.9894}[lab]
    assert result["versions"]["tinygrad_kr"] == tk.__version__
    assert result["settings"]["epochs"] == epochs == len(result["by epoch"]["loss"])
    assert fit.saved(lab, 4, tmp_path) is None
    fit.run(lab, 1, epochs=1, train_images=128, results=tmp_path)
    assert list(json.loads((tmp_path / f"keras_{lab}.json").read_text(encoding="utf-8"))) == [
        "1",
        "3",
    ]
    assert fit.saved(lab, 3, tmp_path) == result


def test_another_lab_is_refused() -> None:
    with pytest.raises(ValueError, match=r"10-1, 10-2, 13-2, not '10-3'"):
        fit.run("10-3")


@pytest.mark.parametrize(
    ("options", "kept"),
    [("", fit.RESULTS), ("--epochs 2", None), ("--lab 10-2 --patience 1", None)],
)
def test_only_the_labs_own_recipe_is_kept(
    options: str, kept: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path | None] = []

    def run(*_: Any, results: Path | None, **__: Any) -> None:
        asked.append(results)
        raise data.DatasetNotFoundError

    monkeypatch.setattr(fit, "run", run)
    with pytest.raises(SystemExit):
        fit.main(options.split())
    assert asked == [kept]


def test_patience_needs_images_to_stop_by(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fit.main(["--patience", "1"])
    assert "--patience is for lab 10-2" in capsys.readouterr().err
