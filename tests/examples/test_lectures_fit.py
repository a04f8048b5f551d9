"""examples/lectures/fit.py: the loop, its evaluation and callbacks, and the Keras labs' recipes."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lecture_programs import large_digits, program

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, data, nn, no_grad, optim

pytestmark = pytest.mark.trains

fit = program("fit")


def small_digits(split: Any) -> tuple[np.ndarray, np.ndarray]:
    images, labels = data.digits(split)
    return images.reshape(len(images), -1), labels


@pytest.fixture
def digits_as_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "mnist", large_digits)


def make_net(*more: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 20), *more, nn.ReLU(), nn.Linear(20, 10))


def test_fit_learns_and_records_what_evaluate_measures() -> None:
    train, test = small_digits("train"), small_digits("test")
    net = make_net()
    history = fit.fit(
        net, train, optim.Adam(net.parameters(), lr=0.01), epochs=4, batch_size=50, validation=test
    )
    assert [set(record) for record in history] == [
        {"loss", "accuracy", "val_loss", "val_accuracy"}
    ] * 4
    assert history[-1]["accuracy"] > 0.95 > 0.6 > history[0]["accuracy"]
    measured = fit.evaluate(net, test)
    assert history[-1]["val_loss"] == measured["loss"]
    assert history[-1]["val_accuracy"] == measured["accuracy"] > 0.85


def test_evaluate_is_the_mean_over_all_samples_without_dropout() -> None:
    images, labels = small_digits("test")
    net = make_net(nn.Dropout(0.9))
    with no_grad():
        logits = net.eval()(Tensor(images))
    net.train()
    measured = fit.evaluate(net, (images, labels), batch_size=100)  # the last batch has 60
    assert measured["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert measured["accuracy"] == (logits.data.argmax(axis=1) == labels).mean()


def test_an_epoch_is_one_pass_in_batches_with_dropout_on() -> None:
    images, labels = small_digits("test")
    seen: list[int] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            self.linear = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Any:
            if self.training:
                seen.append(len(x))
            return self.linear(x)

    net = Watched()
    before = net.linear.weight.data.copy()
    optimizer = optim.SGD(net.parameters(), lr=0.0)
    pair = images, labels
    history = fit.fit(net, pair, optimizer, epochs=2, batch_size=150, validation=pair)
    assert seen == [150, 150, 60] * 2
    np.testing.assert_array_equal(net.linear.weight.data, before)
    measured = fit.evaluate(net, pair)
    assert history[1]["loss"] == pytest.approx(measured["loss"], rel=1e-5)
    assert history[1]["accuracy"] == pytest.approx(measured["accuracy"])


def test_callbacks_are_called_after_every_epoch_and_may_stop() -> None:
    pair = small_digits("test")
    net = make_net()
    lengths: list[int] = []

    def stop_after_three(net: nn.Module, history: list[dict[str, float]]) -> bool:
        return len(history) == 3

    def count(net: nn.Module, history: list[dict[str, float]]) -> None:
        lengths.append(len(history))

    history = fit.fit(
        net, pair, optim.SGD(net.parameters(), lr=0.1), epochs=9, batch_size=90,
        callbacks=[stop_after_three, count],
    )  # fmt: skip
    assert len(history) == 3
    assert lengths == [1, 2, 3]


@pytest.mark.parametrize(
    ("losses", "stops"),
    [([3, 2, 1], False), ([3, 1, 2], False), ([3, 1, 2, 1.5], True), ([1, 2, 3], True)],
)
def test_early_stopping_has_patience(losses: list[float], stops: bool) -> None:
    history = [{"val_loss": loss} for loss in losses]
    assert fit.early_stopping(2)(make_net(), history) == stops


def test_the_best_parameters_are_kept_and_load(tmp_path: Path) -> None:
    net, path = make_net(), tmp_path / "a/best.npz"
    keep = fit.keep_best(path)
    states = []
    for losses in ([3.0], [3.0, 1.0], [3.0, 1.0, 2.0]):
        with no_grad():
            for parameter in net.parameters():
                parameter.copy_(parameter.data + 1)
        states.append(net.state_dict())
        keep(net, [{"val_loss": loss} for loss in losses])
    with np.load(path, allow_pickle=False) as best:
        net.load_state_dict(dict(best))
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, states[1][name])


def test_the_loop_is_short_enough_to_be_read() -> None:
    lines = [
        line for part in (fit.fit, fit.evaluate) for line in inspect.getsource(part).split("\n")
    ]
    assert len([line for line in lines if line.strip()]) <= 45


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
