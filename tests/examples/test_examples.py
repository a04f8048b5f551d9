"""The programs, run as a user runs them: what they print, what they save, what they refuse."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lecture_programs import STRICT, check_picture, module

import tinygrad_kr as tk
import tinygrad_kr.functional as functional
from tinygrad_kr import Tensor, data, nn

ROOT = Path(__file__).parents[2]
XOR, MNIST = ROOT / "examples/xor.py", ROOT / "examples/mnist.py"
DEPTH = ROOT / "benchmarks/sigmoid_vs_relu_depth.py"
PROGRAMS = [XOR, MNIST, DEPTH]
QUICK_OPTIONS = {
    XOR: ["--steps", "20"],
    MNIST: ["--data", "digits", "--epochs", "1"],
    DEPTH: ["--quick", "--depths", "1", "--seeds", "2", "--steps", "5"],
}
PICTURES = {XOR: "xor.png", MNIST: "digits.png", DEPTH: "depth.png"}
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="session")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where matplotlib keeps its list of fonts, made once."""
    return str(tmp_path_factory.mktemp("matplotlib"))


@pytest.fixture
def with_extras(tmp_path: Path, fonts: str) -> dict[str, str]:
    """A stranger's environment: no MNIST, an empty cache, no network; the extras that are here."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TINYGRAD_KR_")}
    proxies = dict.fromkeys(("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"), NOWHERE)
    own = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "MPLCONFIGDIR": fonts}
    own["TINYGRAD_KR_LANG"] = "en"
    return kept | proxies | own | {"no_proxy": "", "NO_PROXY": "", "OPENBLAS_NUM_THREADS": "1"}


@pytest.fixture
def environment(tmp_path: Path, with_extras: dict[str, str]) -> dict[str, str]:
    """The same where neither matplotlib nor tqdm can be imported."""
    for name in ("matplotlib", "tqdm"):
        (tmp_path / "absent").mkdir(exist_ok=True)
        (tmp_path / f"absent/{name}.py").write_text(
            f'raise ImportError("no {name}")', encoding="utf-8"
        )
    return with_extras | {"PYTHONPATH": str(tmp_path / "absent")}


def run(
    program: Path, *options: str, env: dict[str, str], cwd: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *STRICT, str(program), *options],
        env=env, cwd=cwd, text=True, capture_output=True, timeout=120, encoding="utf-8",
    )  # fmt: skip


def output_of(program: Path, *options: str, env: dict[str, str], cwd: Path) -> str:
    done = run(program, *options, env=env, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ------------------------------------------------------------------ all three


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_help_says_what_it_shows_and_how_to_run_it(
    program: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    shown = output_of(program, "--help", env=environment, cwd=tmp_path)
    assert f"python {program.parent.name}/{program.name}" in shown
    assert "--out" in shown


@pytest.mark.one_in(3)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_without_matplotlib_and_tqdm_it_says_so_and_goes_on(
    program: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    shown = output_of(program, *QUICK_OPTIONS[program], env=environment, cwd=tmp_path)
    assert 'pip install "tinygrad_kr[examples]"' in shown
    assert "picture saved" not in shown
    assert not (tmp_path / "out" / PICTURES[program]).exists()


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_the_picture_is_saved_where_it_says(
    program: Path, with_extras: dict[str, str], tmp_path: Path
) -> None:
    picture = tmp_path / "some/folder" / PICTURES[program]
    options = [*QUICK_OPTIONS[program], "--out", str(picture.parent)]
    check_picture(output_of(program, *options, env=with_extras, cwd=tmp_path), picture)


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    ("program", "options", "complaint"),
    [
        (XOR, ["--hidden", "2,x"], "widths like 10 or 256,256 (or none), not '2,x'"),
        (XOR, ["--rate", "0"], "a number above 0, not '0'"),
        (XOR, ["--steps", "0"], "a whole number from 1 up, not '0'"),
        (MNIST, ["--hidden", "256,-1"], "widths like 10 or 256,256 (or none), not '256,-1'"),
        (MNIST, ["--activation", "swish"], "invalid choice: 'swish'"),
        (MNIST, ["--init", "ones"], "invalid choice: 'ones'"),
        (MNIST, ["--epochs", "0"], "a whole number from 1 up, not '0'"),
        (MNIST, ["--batch", "2.5"], "a whole number from 1 up, not '2.5'"),
        (MNIST, ["--lr", "nan"], "a number above 0, not 'nan'"),
        (MNIST, ["--seed", "-1"], "a whole number from 0 up, not '-1'"),
        (DEPTH, ["--widths", "0"], "a whole number from 1 up, not '0'"),
    ],
)
def test_a_wrong_option_is_named(
    program: Path, options: list[str], complaint: str, environment: dict[str, str], tmp_path: Path
) -> None:
    done = run(program, *options, env=environment, cwd=tmp_path)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert options[0] in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------ xor


@pytest.mark.trains
def test_xor_is_learned_by_both_nets(environment: dict[str, str], tmp_path: Path) -> None:
    shown = output_of(XOR, env=environment, cwd=tmp_path)
    for net, parameters in (("2-2-1", 9), ("2-10-1", 41)):
        block = shown.split(f"{net} sigmoid net, {parameters} parameters, seed 0\n")[1]
        losses = [float(x) for x in re.findall(r"loss (\S+)", block.split("accuracy")[0])]
        assert len(losses) == 6
        assert losses[0] > 0.5
        assert losses[-1] < 0.05
        rows = re.findall(r"^ +([01])  ([01]) +([01]) +(0\.\d+) +([01]) right$", block, re.M)[:4]
        assert [(int(a) ^ int(b), int(answer)) for a, b, _, _, answer in rows] == [
            (0, 0),
            (1, 1),
            (1, 1),
            (0, 0),
        ]
        assert all(abs(float(output) - int(xor)) < 0.1 for _, _, xor, output, _ in rows)
        assert "accuracy 1.00" in block.split("\n\n")[0]


def test_xor_says_which_answers_are_wrong(environment: dict[str, str], tmp_path: Path) -> None:
    shown = output_of(XOR, "--hidden", "2", "--steps", "1", env=environment, cwd=tmp_path)
    wrong = shown.count("WRONG")
    assert wrong > 0
    assert f"accuracy {1 - wrong / 4:.2f}" in shown


@pytest.mark.slow
@pytest.mark.trains
def test_xor_counts_the_starts_that_get_stuck(environment: dict[str, str], tmp_path: Path) -> None:
    """61 of the seeds 0 to 99 learn, half of the first eight."""
    options = ["--seeds", "8", "--hidden", "2"]
    shown = output_of(XOR, *options, env=environment, cwd=tmp_path)
    rates = shown.split("8 starts each, seeds 0 to 7:\n")[1].splitlines()
    found = re.fullmatch(r"2-2-1 ([-+]+) (\d) of 8 solved \((\d+)%\)", " ".join(rates[0].split()))
    assert found is not None
    solved = found[1].count("+")
    assert len(found[1]) == 8 and int(found[2]) == solved
    assert 1 <= solved <= 7
    assert int(found[3]) == round(solved / 8 * 100)


def test_xor_takes_deeper_nets(environment: dict[str, str], tmp_path: Path) -> None:
    options = ["--hidden", "3,4", "--steps", "3"]
    shown = output_of(XOR, *options, env=environment, cwd=tmp_path)
    assert "2-3-4-1 sigmoid net, 30 parameters" in shown


# ------------------------------------------------------------------ mnist


def accuracy(shown: str) -> float:
    found = re.search(r"test accuracy (\S+)", shown)
    assert found is not None, shown
    return float(found[1])


@pytest.mark.trains
def test_without_mnist_it_says_so_and_learns_the_small_digits(
    environment: dict[str, str], tmp_path: Path
) -> None:
    shown = output_of(MNIST, env=environment, cwd=tmp_path)
    assert shown.startswith("MNIST is neither on this computer nor to be downloaded")
    assert "digits: 1,437 training images, 360 test images" in shown
    assert "64-256-256-10 relu net, he start, 85,002 parameters" in shown
    assert len(re.findall(r"^epoch +\d+/15 +cost", shown, re.M)) == 15
    assert accuracy(shown) >= 0.9
    drawn = [line for line in shown.splitlines() if line and set(line) <= set(" .:-=+*#%@")]
    assert len(drawn) == 8
    assert re.search(r"label \d, the net says \d", shown)


def test_mnist_that_is_not_there_is_an_error_that_says_what_to_do(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = run(MNIST, "--data", "mnist", env=environment, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: MNIST is not on this computer.") or (
        "\nerror: MNIST is not on this computer." in done.stderr
    )
    assert "train-images-idx3-ubyte.gz" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_mnist_is_an_error_even_where_digits_would_do(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "mnist").mkdir()
    for stem in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / f"mnist/{stem}-ubyte").write_bytes(b"not IDX at all")
    env = environment | {"TINYGRAD_KR_DATA": str(tmp_path)}
    done = run(MNIST, env=env, cwd=tmp_path)
    assert done.returncode == 1
    assert "train-images-idx3-ubyte: byte 0" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.one_in(5)
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "leaky_relu", "elu", "softmax"])
def test_options_reach_the_net(
    activation: str, environment: dict[str, str], tmp_path: Path
) -> None:
    options = ["--data", "digits", "--init", "xavier", "--activation", activation]
    options += [
        "--hidden",
        "30,20",
        "--epochs",
        "2",
        "--batch",
        "50",
        "--lr",
        "0.01",
        "--seed",
        "3",
    ]
    shown = output_of(MNIST, *options, env=environment, cwd=tmp_path)
    assert f"64-30-20-10 {activation} net, xavier start, 2,780 parameters" in shown
    assert "Adam, rate 0.01, 2 epochs, batches of 50, seed 3" in shown
    costs = [float(cost) for cost in re.findall(r"cost (\S+)", shown)]
    assert len(costs) == 2
    assert costs[1] < costs[0]


@pytest.mark.trains
def test_one_seed_gives_one_result(environment: dict[str, str], tmp_path: Path) -> None:
    options = [*QUICK_OPTIONS[MNIST], "--hidden", "none", "--seed"]

    def results(seed: str) -> list[str]:
        shown = output_of(MNIST, *options, seed, env=environment, cwd=tmp_path)
        return re.findall(r"(?:cost|accuracy) (\S+)", shown)

    assert results("5") == results("5") != results("6")


def heed_interrupts() -> None:
    """A shell starts what runs in its background deaf to Ctrl-C, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has another way to interrupt")
def test_ctrl_c_shows_what_was_reached(environment: dict[str, str], tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, *STRICT, "-u", str(MNIST), "--data", "digits", "--epochs", "100000"],
        env=environment, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts, encoding="utf-8",
    )  # fmt: skip
    try:
        assert program.stdout is not None
        assert any(line.startswith("epoch") for line in program.stdout)
        program.send_signal(signal.SIGINT)
        shown, errors = program.communicate(timeout=60)
    finally:
        program.kill()
        program.communicate()
    assert program.returncode == 0, errors
    assert re.search(r"stopped in epoch \d+ of 100000", shown)
    assert re.search(r"test accuracy 0\.\d+ \(\d+ of 360 images\)", shown)
    assert "Traceback" not in errors


def test_ctrl_c_in_the_first_epoch_still_ends_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    program = module(MNIST)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program.F, "cross_entropy", interrupted)
    monkeypatch.setattr(sys, "argv", ["mnist.py", "--data", "digits", "--out", str(tmp_path)])
    program.main()
    shown = capsys.readouterr().out
    assert "stopped in epoch 1 of 15" in shown
    assert accuracy(shown) < 0.5
    assert ("picture saved" in shown) == (tmp_path / "digits.png").exists()


@pytest.fixture
def small_mnist(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """60,000 and 10,000 images of 2 x 2, each the number of its place."""

    def mnist(split: str) -> tuple[np.ndarray, np.ndarray]:
        count = {"train": 60_000, "test": 10_000}[split]
        places = np.arange(count)
        images = np.broadcast_to(places[:, None, None], (count, 2, 2)).astype(np.float32)
        return images / 2**16, places % 10

    monkeypatch.setattr(data, "mnist", mnist)
    yield


@pytest.mark.usefixtures("small_mnist")
def test_the_lecture_trains_on_the_first_55_000_images() -> None:
    loaded = module(MNIST).load("auto")
    assert loaded.train_images.shape == (55_000, 4)
    assert loaded.train_images.dtype == np.float32
    np.testing.assert_array_equal(loaded.train_images[:, 0] * 2**16, np.arange(55_000))
    np.testing.assert_array_equal(loaded.train_labels, np.arange(55_000) % 10)
    assert loaded.test_images.shape == (10_000, 4)


@pytest.mark.usefixtures("small_mnist")
def test_the_recipe_is_the_lectures_where_no_option_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    program = module(MNIST)
    trained: list[Any] = []
    monkeypatch.setattr(program, "train", lambda *args: trained.extend(args) or [])
    monkeypatch.setattr(program, "save_picture", lambda *args: None)
    monkeypatch.setattr(sys, "argv", ["mnist.py"])
    program.main()
    net, _, epochs, batch, rate, compiled = trained
    assert (epochs, batch, rate, compiled) == (15, 100, 0.001, False)
    assert [type(layer) for layer in net] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [layer.weight.shape for layer in net[::2]] == [(256, 4), (256, 256), (10, 256)]
    assert "4-256-256-10 relu net, normal start" in capsys.readouterr().out


@pytest.mark.trains
def test_compiled_training_takes_the_same_course() -> None:
    program = module(MNIST)
    digits = program.load("digits")
    histories = []
    for compiled in (False, True):
        tk.manual_seed(0)
        net = program.make_net((64, 16, 10), "relu", "he")
        histories.append(program.train(net, digits, 2, 20, 0.001, compiled))
    np.testing.assert_allclose(*histories, rtol=1e-3)


@pytest.mark.parametrize(
    ("init", "weight_std", "bias_std"),
    [("normal", 1.0, 1.0), ("he", (2 / 784) ** 0.5, 0.0), ("xavier", (2 / 1040) ** 0.5, 0.0)],
)
def test_starts_have_the_right_spread(init: str, weight_std: float, bias_std: float) -> None:
    weight, bias = module(MNIST).make_net((784, 256, 256, 10), "relu", init)[0].parameters()
    assert weight.data.std() == pytest.approx(weight_std, rel=0.02)
    assert bias.data.std() == pytest.approx(bias_std, rel=0.15)
    bound = np.abs(weight.data).max() / weight_std
    assert bound == pytest.approx(3**0.5, rel=0.01) if init == "xavier" else bound > 3


def test_the_bar_counts_every_step_and_is_closed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = module(MNIST)
    bar = SimpleNamespace(steps=0, postfixes=[], closed=False, write=print)
    bar.update = lambda: setattr(bar, "steps", bar.steps + 1)
    bar.set_postfix_str = lambda text, refresh: bar.postfixes.append(text)
    bar.close = lambda: setattr(bar, "closed", True)
    totals: list[int] = []
    monkeypatch.setattr(program, "progress_bar", lambda total: totals.append(total) or bar)
    loaded = program.load("digits")
    history = program.train(program.make_net((64, 10), "relu", "he"), loaded, 2, 500, 0.01)
    assert (totals, bar.steps, bar.closed) == ([6], 6, True)
    assert [bar.postfixes[2], bar.postfixes[5]] == [f"cost {e.cost:.4f}" for e in history]
    assert len(set(bar.postfixes)) == 6
    assert capsys.readouterr().out.count("epoch") == len(history) == 2


@pytest.mark.trains
def test_every_epoch_sees_every_image_in_a_new_order_and_reports_the_means(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = module(MNIST)
    loaded = program.load("digits")
    seen: list[np.ndarray] = []
    losses: list[float] = []
    cross_entropy = functional.cross_entropy

    def recorded(logits: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = cross_entropy(logits, labels)
        seen.append(labels.numpy())
        losses.append(float(loss) * len(labels))
        return loss

    monkeypatch.setattr(program.F, "cross_entropy", recorded)
    net = program.make_net((64, 10), "relu", "he")
    first, second = program.train(net, loaded, 2, 1_000, 0.01)
    orders = [np.concatenate(seen[:2]), np.concatenate(seen[2:])]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.sort(loaded.train_labels))
    assert not np.array_equal(*orders)
    assert not np.array_equal(orders[0], loaded.train_labels)
    assert first.cost == pytest.approx(sum(losses[:2]) / 1_437)
    assert second.cost == pytest.approx(sum(losses[2:]) / 1_437)
    right = (net(Tensor(loaded.test_images)).data.argmax(axis=1) == loaded.test_labels).mean()
    assert second.test_accuracy == pytest.approx(right)
    assert 0 < first.train_accuracy < second.train_accuracy < 1
