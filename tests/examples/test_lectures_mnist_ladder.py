"""Labs 07-4 to 10-6: each recipe is the lab's and learns; what is saved reaches the issue."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lecture_programs import large_digits, program

from tinygrad_kr import Tensor, data, nn, no_grad

pytestmark = pytest.mark.trains

ladder = program("mnist_ladder")


@pytest.fixture
def without_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "mnist", large_digits)


# ------------------------------------------------------------------ recipes


def test_softmax_regression_is_one_layer() -> None:
    for lab in ("7-4", "10-1", "10-1-normal"):
        net = ladder.make_net(ladder.RECIPES[lab])
        assert [type(layer) for layer in net] == [nn.Linear]
        assert net[0].weight.shape == (10, 784)


@pytest.mark.parametrize("lab", ["10-2", "10-2-softmax", "10-3"])
def test_two_hidden_layers_differ_by_one_word(lab: str) -> None:
    net = ladder.make_net(ladder.RECIPES[lab])
    activation = nn.Softmax if lab == "10-2-softmax" else nn.ReLU
    assert [type(layer) for layer in net] == [
        nn.Linear, activation, nn.Linear, activation, nn.Linear,
    ]  # fmt: skip
    spread = float(net[0].weight.detach().numpy().std())
    assert spread == pytest.approx(math.sqrt(2 / (784 + 256)) if lab == "10-3" else 1, rel=0.01)
    assert float(net[2].bias.detach().numpy().std()) == pytest.approx(1, rel=0.15)


def test_five_layers_with_and_without_dropout() -> None:
    plain, dropped = (ladder.make_net(ladder.RECIPES[lab]) for lab in ("10-4", "10-5"))
    sizes = [(512, 784), (512, 512), (512, 512), (512, 512), (10, 512)]
    for net in (plain, dropped):
        assert [layer.weight.shape for layer in net if isinstance(layer, nn.Linear)] == sizes
    assert not any(isinstance(layer, nn.Dropout) for layer in plain)
    rates = [layer.p for layer in dropped if isinstance(layer, nn.Dropout)]
    assert rates == [pytest.approx(0.3)] * 4


def test_batch_norm_comes_before_the_activation() -> None:
    with_, without = (ladder.make_net(ladder.RECIPES[lab]) for lab in ("10-6", "10-6-none"))
    block = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert [type(layer) for layer in with_] == [*block, *block, nn.Linear]
    assert [type(layer) for layer in without] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]


def test_dropout_has_two_spellings() -> None:
    assert ladder.recipe_of("10-5", drop=0.4) == ladder.recipe_of("10-5", keep=0.6)
    assert ladder.recipe_of("10-5", drop=0.4)[1].keep == 0.6
    with pytest.raises(ValueError, match="keep, the share kept, or drop, the share dropped"):
        ladder.recipe_of("10-5", drop=0.3, keep=0.7)


def test_the_lectures_number_and_an_unknown_one() -> None:
    assert ladder.recipe_of("07-4") == ("7-4", ladder.RECIPES["7-4"])
    with pytest.raises(ValueError, match=r"10-3.*not '10-9'"):
        ladder.run("10-9")


# ------------------------------------------------------------------ training

# On 1,437 large digits, tested on other people's, 12 epochs: what seed 0 reaches, less 0.03.
NARROW = {"hidden": (128, 128, 128, 128)}
REACHED: dict[str, tuple[float, dict[str, Any]]] = {
    "7-4": (0.842, {"batch": 20}),
    "10-1": (0.864, {"batch": 20}),
    "10-2": (0.756, {}),
    "10-3": (0.875, {}),
    "10-4": (0.875, NARROW),
    "10-5": (0.861, NARROW),
    "10-6": (0.825, {}),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("lab", REACHED)
def test_a_lab_learns(lab: str, without_mnist: None) -> None:
    reached, changes = REACHED[lab]
    figures = ladder.run(lab, epochs=12, **changes)
    assert figures[f"lab {lab} accuracy"] > reached
    assert math.isfinite(figures[f"lab {lab} cost"])


def test_the_seed_decides(without_mnist: None) -> None:
    settings: dict[str, Any] = {"epochs": 1, "train_images": 300, **NARROW}
    first, again, other = (ladder.run("10-5", seed, **settings) for seed in (3, 3, 4))
    assert first == again
    assert first["lab 10-5 cost"] != other["lab 10-5 cost"]


def test_dropout_drops_while_training_and_only_then(without_mnist: None) -> None:
    settings: dict[str, Any] = {"epochs": 4, "train_images": 600, **NARROW}
    dropped, kept = (ladder.run("10-5", 0, keep=keep, **settings) for keep in (0.3, 1.0))
    assert dropped["lab 10-5 cost"] > kept["lab 10-5 cost"] + 0.5


def test_the_first_gradient_is_that_of_softmax_regression(without_mnist: None) -> None:
    digits = ladder.load(1000)
    net = ladder.make_net(ladder.RECIPES["10-1"])
    weight, bias = (parameter.detach().numpy() for parameter in net.parameters())
    scores = np.exp(digits.images @ weight.T + bias)
    delta = scores / scores.sum(axis=1, keepdims=True) - np.eye(10)[digits.labels]
    by_hand = np.linalg.norm(delta.T @ digits.images / 1000)
    assert ladder.first_gradient_norm(net, digits) == pytest.approx(by_hand, rel=1e-5)
    assert all(parameter.grad is None for parameter in net.parameters())


# ------------------------------------------------------------------ softmax as hidden activation


def test_shares_of_equal_and_of_greedy_units(without_mnist: None) -> None:
    digits = ladder.load(100)
    net = ladder.make_net(ladder.RECIPES["10-2-softmax"])
    with no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    equal = ladder.shares(net, digits)
    assert equal["layer 1 units an image"] == pytest.approx(256, rel=1e-4)
    with no_grad():
        net[0].bias[7] = 100.0
        net[2].weight[:3, 7] = 100.0
    greedy = ladder.shares(net, digits)
    assert greedy["layer 1 units an image"] == pytest.approx(1)
    assert greedy["layer 1 units that ever win"] == 1
    assert greedy["layer 2 units an image"] == pytest.approx(3, rel=1e-5)


def test_units_that_win_for_different_images_are_counted() -> None:
    images = np.zeros((10, 784), np.float32)
    images[:4, 0] = images[4:, 1] = 1.0
    digits = ladder.Digits(images, np.zeros(10, np.int64), images, np.zeros(10, np.int64))
    net = ladder.make_net(ladder.RECIPES["10-2-softmax"])
    with no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net[0].weight[3, 0] = net[0].weight[5, 1] = 50.0
    assert ladder.shares(net, digits)["layer 1 units that ever win"] == 2


def test_softmax_gives_its_first_weights_almost_no_gradient(without_mnist: None) -> None:
    digits = ladder.load(1000)
    norms = {}
    for lab in ("10-2", "10-2-softmax"):
        norms[lab] = ladder.first_gradient_norm(ladder.make_net(ladder.RECIPES[lab]), digits)
    assert norms["10-2-softmax"] < norms["10-2"] / 1000


def test_saved_runs_show_a_digit_that_waits_for_its_turn() -> None:
    """Where a seed ends below 0.88, one digit is wrong most of the time, and that is the loss."""
    runs = ladder.read_json(ladder.TABLE)["10-2-softmax"]["runs"]
    low = [run for run in runs.values() if run["accuracy by epoch"][-1] < 0.88]
    assert len(runs) >= 8
    assert low
    for run in low:
        last = np.array(run["accuracy by epoch and digit"][-1])
        assert (last < 0.6).sum() == 1
        assert np.sort(last)[1] > 0.8
    for run in runs.values():
        figures = {k.removeprefix("lab 10-2-softmax "): v for k, v in run["figures"].items()}
        assert figures["layer 1 units an image, end"] < 1.5
        assert figures["layer 1 units that ever win, end"] < 100


# ------------------------------------------------------------------ what is saved


def test_a_result_is_kept_beside_the_others(tmp_path: Path, without_mnist: None) -> None:
    path = tmp_path / "results" / "ladder.json"
    assert ladder.saved("10-1", path=path) is None
    recipe = ladder.RECIPES["10-1"]
    short = ladder.run_lab("10-1", 10, recipe._replace(epochs=1))
    ladder.write("10-1", 10, short, path)
    ladder.write("10-1", 9, short, path)
    ladder.write("7-4", 0, short, path)
    assert list(ladder.read_json(path)["10-1"]["runs"]) == ["9", "10"]
    found = ladder.saved("10-1", 10, path)
    assert found is not None
    assert (found["lab"], found["seed"], found["published"]) == ("10-1", 10, 0.9194)
    assert found["settings"]["rate"] == 0.001
    accuracy = found["figures"]["lab 10-1 accuracy"]
    assert accuracy == pytest.approx(short.figures["lab 10-1 accuracy"], rel=1e-5)
    assert found["versions"]["numpy"] == np.__version__
    lists = [line for line in path.read_text(encoding="utf-8").splitlines() if "by epoch" in line]
    assert len(lists) == 6
    assert all(line.rstrip(",").endswith("]") for line in lists)


# Of the issue; where it names none, the published figure is only shown beside ours.
TARGETS = {"10-1": 0.915, "10-2": 0.94, "10-3": 0.978, "10-4": 0.974, "10-5": 0.980}


@pytest.mark.parametrize("lab", TARGETS)
def test_the_saved_mean_reaches_the_lab(lab: str) -> None:
    found = ladder.accuracies(lab)
    assert len(found) >= 3
    assert sum(found) / len(found) >= TARGETS[lab]


def test_saved_batch_norm_is_better_with_every_seed() -> None:
    assert min(ladder.accuracies("10-6")) > max(ladder.accuracies("10-6-none")) + 0.01


def test_what_is_saved_was_made_by_the_recipes_of_today() -> None:
    everything = ladder.read_json(ladder.TABLE)
    assert set(everything) == set(ladder.RECIPES)
    for lab, entry in everything.items():
        now = ladder.RECIPES[lab]._asdict() | {"hidden": list(ladder.RECIPES[lab].hidden)}
        assert entry["settings"] == now


# ------------------------------------------------------------------ command line


def test_another_recipe_is_not_kept(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    without_mnist: None,
) -> None:
    written: list[str] = []
    monkeypatch.setattr(ladder, "write", lambda lab, *rest: written.append(lab))
    ladder.train_and_tell("10-1", 0, {"epochs": 1})
    assert "the recipe is not the lab's" in capsys.readouterr().out
    assert not written
    monkeypatch.setitem(ladder.RECIPES, "10-1", ladder.RECIPES["10-1"]._replace(epochs=1))
    ladder.train_and_tell("10-1", 0, {})
    assert written == ["10-1"]


def test_outputs_do_not_depend_on_the_batch() -> None:
    net = ladder.make_net(ladder.RECIPES["10-5"])
    images = np.random.default_rng(0).random((7, 784), np.float32)
    in_parts, whole = ladder.outputs_of(net, images, 3), ladder.outputs_of(net, images, 7)
    np.testing.assert_allclose(in_parts, whole, rtol=1e-4, atol=1e-5)
    assert isinstance(net(Tensor(images)), Tensor)
