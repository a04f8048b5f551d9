"""The depth benchmark: its nets, its rates, its files, and that it agrees with other people's."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lecture_programs import STRICT

import tinygrad_kr.functional as F
from tinygrad_kr import nn, optim
from tinygrad_kr.workers import WorkerDiedError

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "benchmarks/sigmoid_vs_relu_depth.py"
RECORDS = ROOT / "benchmarks/results"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location(PROGRAM.stem, PROGRAM)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


depth = load()
Recipe: Any = depth.Recipe


@pytest.fixture(autouse=True)
def _without_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Neither matplotlib nor tqdm can be imported."""
    for name in ("matplotlib", "tqdm"):
        (tmp_path / "absent").mkdir(exist_ok=True)
        (tmp_path / f"absent/{name}.py").write_text(
            f'raise ImportError("no {name}")', encoding="utf-8"
        )
    return os.environ | {"PYTHONPATH": str(tmp_path / "absent"), "OPENBLAS_NUM_THREADS": "1"}


def run(*options: str, env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *STRICT, str(PROGRAM), *options],
        env=env, cwd=cwd, text=True, capture_output=True, timeout=120, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


# ------------------------------------------------------------------ the nets


def test_the_defaults_are_the_lectures() -> None:
    assert Recipe() == (10, "relu", "uniform", 5, "sgd", 0.1, 10_001)
    recipes = depth.recipes_of(depth.parse_arguments([]))
    assert {(r.init, r.width, r.optimizer, r.rate, r.steps) for r in recipes} == {
        ("uniform", 5, "sgd", 0.1, 10_001)
    }
    assert {r.activation for r in recipes} == {"sigmoid", "tanh", "relu", "leaky_relu", "elu"}
    assert {1, 9, 10, 20} <= {r.depth for r in recipes}
    assert len(recipes) == len(set(recipes)) == 75
    assert depth.parse_arguments([]).seeds == 100
    quick = depth.parse_arguments(["--quick", "--steps", "7"])
    assert (quick.steps, quick.seeds) == (7, 20)


def test_options_are_tried_in_every_combination() -> None:
    options = ["--depths", "2", "1", "1", "--activations", "relu", "elu", "--inits", "he", "zeros"]
    options += ["--widths", "3", "4", "--optimizers", "sgd", "adam", "--steps", "9"]
    recipes = depth.recipes_of(depth.parse_arguments(options))
    assert len(recipes) == len(set(recipes)) == 2**5
    assert {(r.optimizer, r.rate) for r in recipes} == {("sgd", 0.1), ("adam", 0.01)}
    rates = depth.parse_arguments(["--optimizers", "sgd", "adam", "--rates", "0.5", "2"])
    assert {(r.optimizer, r.rate) for r in depth.recipes_of(rates)} == {
        (name, rate) for name in ("sgd", "adam") for rate in (0.5, 2.0)
    }


def test_a_net_is_made_of_ordinary_layers() -> None:
    net = depth.build(Recipe(2, "leaky_relu", width=3), np.random.default_rng(0))
    kinds = [nn.Linear, nn.LeakyReLU, nn.Linear, nn.LeakyReLU, nn.Linear]
    assert [type(layer) for layer in net] == kinds
    assert [layer.weight.shape for layer in net[::2]] == [(3, 2), (3, 3), (1, 3)]
    (unit,) = depth.build(Recipe(0), np.random.default_rng(0))
    assert unit.weight.shape == (1, 2)


def test_a_seed_gives_every_activation_the_same_weights() -> None:
    nets = [
        depth.build(Recipe(2, activation), np.random.default_rng(4))
        for activation in depth.ACTIVATIONS
    ]
    for net in nets[1:]:
        for a, b in zip(net.parameters(), nets[0].parameters(), strict=True):
            np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.parametrize(
    ("init", "weight_std", "bias_std", "bounded"),
    [
        ("uniform", 3**-0.5, 0.0, True),
        ("normal", 1.0, 1.0, False),
        ("xavier", (2 / 800) ** 0.5, 0.0, True),
        ("he", (2 / 400) ** 0.5, 0.0, False),
        ("zeros", 0.0, 0.0, True),
    ],
)
def test_starts_have_the_right_spread(
    init: str, weight_std: float, bias_std: float, bounded: bool
) -> None:
    net = depth.build(Recipe(2, "relu", init, 400), np.random.default_rng(0))
    weight, bias = net[2].weight.data, net[2].bias.data
    assert weight.std() == pytest.approx(weight_std, rel=0.01)
    assert bias.std() == pytest.approx(bias_std, rel=0.15)
    assert weight.dtype == np.float64
    if weight_std:
        assert (np.abs(weight).max() <= weight_std * 3**0.5) == bounded


@pytest.mark.one_in(3)
@pytest.mark.trains
@pytest.mark.parametrize(
    "recipe",
    [
        *(Recipe(3, activation, steps=40) for activation in depth.ACTIVATIONS),
        *(Recipe(1, "tanh", "he", 4, name, 0.03, 40) for name in depth.OPTIMIZERS),
    ],
    ids=lambda recipe: f"{recipe.activation}-{recipe.optimizer}",
)
def test_nets_trained_together_are_as_if_trained_alone(recipe: Any) -> None:
    together = depth.measure(recipe, range(5, 8))
    rates = {"momentum": (optim.SGD, {"momentum": 0.9}), "sgd": (optim.SGD, {})}
    rates |= {"adam": (optim.Adam, {}), "rmsprop": (optim.RMSprop, {})}
    kind, options = rates[recipe.optimizer]
    for place, seed in enumerate(together.seeds):
        net = depth.build(recipe, np.random.default_rng(seed))
        optimizer = kind(net.parameters(), lr=recipe.rate, **options)
        for _ in range(recipe.steps):
            optimizer.zero_grad()
            nn.BCEWithLogitsLoss()(net(depth.POINTS), depth.ANSWERS).backward()
            optimizer.step()
        z = net(depth.POINTS)
        loss = nn.BCEWithLogitsLoss()(z, depth.ANSWERS).item()
        assert together.loss[place] == pytest.approx(loss, rel=1e-9)
        right = ((z.data > 0) == (depth.ANSWERS.data > 0.5)).sum()
        assert together.right[place] == right


def test_gradient_norms_are_those_of_each_net_at_the_first_and_the_last_step() -> None:
    recipe = Recipe(2, "tanh", steps=3)
    measured = depth.measure(recipe, range(1))
    net = depth.build(recipe, np.random.default_rng(0))
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    norms = []
    for _ in range(3):
        optimizer.zero_grad()
        p = F.sigmoid(net(depth.POINTS))
        F.binary_cross_entropy(p, depth.ANSWERS).backward()
        norms.append([np.linalg.norm(layer.weight.grad.numpy()) for layer in net[::2]])
        optimizer.step()
    for quartile in range(3):
        np.testing.assert_allclose(measured.first_norms[quartile], norms[0], rtol=1e-12)
        np.testing.assert_allclose(measured.last_norms[quartile], norms[2], rtol=1e-12)


def test_an_output_of_exactly_one_half_counts_as_no() -> None:
    """A net of dead ReLUs answers 0.5 to all four points and is right about two."""
    right, dead, wrong = [0.4, 0.6, 0.6, 0.5], [0.5] * 4, [0.6, 0.4, 0.5, 0.6]
    outputs = np.array([right, dead, wrong])[..., None]
    np.testing.assert_array_equal(depth.count_right(outputs), [4, 2, 0])


@pytest.mark.slow
@pytest.mark.trains
def test_zero_weights_are_dead_and_never_move() -> None:
    for activation in depth.ACTIVATIONS:
        result = depth.measure(Recipe(2, activation, "zeros", steps=30), range(3))
        assert result.rates["dead"].share == 1
        assert not result.first_norms.any()
        assert not result.last_norms.any()
        assert result.rates["stuck"].share == 1
        np.testing.assert_allclose(result.loss, np.log(2), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.trains
def test_a_seventh_of_deep_relu_nets_is_dead_at_the_start_and_no_sigmoid_net() -> None:
    dead = depth.measure(Recipe(steps=1), range(600))
    assert dead.rates["dead"].share == pytest.approx(0.15, abs=2.58 * (0.15 * 0.85 / 600) ** 0.5)
    untrained = depth.measure(Recipe(steps=20), range(100))
    np.testing.assert_array_equal(untrained.dead, dead.dead[dead.dead < 100])
    assert (untrained.right[untrained.dead] == 2).all()
    assert depth.measure(Recipe(20, "sigmoid", steps=1), range(100)).rates["dead"].share == 0


def test_the_gradient_vanishes_through_sigmoids_only() -> None:
    first = {
        activation: depth.measure(Recipe(10, activation, steps=1), range(100)).first_norms[1]
        for activation in depth.ACTIVATIONS
    }
    assert 1e-7 < first["sigmoid"][0] / first["sigmoid"][-1] < 1e-5
    assert (np.diff(first["sigmoid"]) > 0).all()
    for activation in ("tanh", "relu", "leaky_relu", "elu"):
        assert 0.3 < first[activation][0] / first[activation][-1] < 5


@pytest.mark.trains
def test_nets_that_diverge_are_counted_and_disturb_no_other() -> None:
    result = depth.measure(Recipe(14, "leaky_relu", rate=30.0, steps=60), range(12))
    diverged = ~np.isfinite(result.loss)
    assert 0 < diverged.sum() < 12
    assert result.rates["diverged"].successes == diverged.sum()
    assert np.isfinite(result.last_norms).all()
    survivor = int(np.flatnonzero(~diverged)[0])
    alone = depth.measure(result.recipe, range(survivor, survivor + 1))
    assert alone.loss[0] == result.loss[survivor]
    assert f"{diverged.mean():>8.0%}" in depth.line(result)


# ------------------------------------------------------------------ the sweep


SMALL = [Recipe(d, activation, steps=6) for d in (1, 2) for activation in ("relu", "elu")]


def outcome(results: list[Any]) -> list[Any]:
    return [(r.recipe, r.seeds, r.right.tolist(), r.loss.tolist()) for r in results]


class Immediate(Executor):
    """The least that an executor must be."""

    calls = 0

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.calls += 1
        future: Future[Any] = Future()
        future.set_result(function(*args, **kwargs))
        return future


def test_any_executor_does_the_work() -> None:
    executor = Immediate()
    expected = outcome(depth.measure_all(SMALL, range(3, 7)))
    assert outcome(depth.measure_all(SMALL, range(3, 7), executor=executor)) == expected
    assert executor.calls == len(SMALL)


def test_lines_are_printed_in_order_as_soon_as_they_can_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def backwards(function: Any, calls: Any, **options: Any) -> Any:
        for index in (1, 3, 0, 2):
            yield index, function(*calls[index])
            printed.append(capsys.readouterr().out.splitlines())

    printed: list[list[str]] = []
    monkeypatch.setattr(depth, "finished", backwards)
    results = depth.measure_all(SMALL, range(2), show=lambda r: str(SMALL.index(r.recipe)))
    assert printed == [[], [], ["0", "1"], ["2", "3"]]
    assert [result.recipe for result in results] == SMALL


@pytest.mark.parametrize("here", [True, False])
def test_the_bar_is_full_at_the_end(monkeypatch: pytest.MonkeyPatch, here: bool) -> None:
    bar = SimpleNamespace(done=0, updates=0, closed=False, write=print)

    def update(work: int) -> None:
        bar.done += work
        bar.updates += 1

    bar.update, bar.close = update, lambda: setattr(bar, "closed", True)
    totals: list[int] = []
    monkeypatch.setattr(depth, "progress_bar", lambda total, unit: totals.append(total) or bar)
    depth.measure_all(SMALL, range(3), executor=None if here else Immediate())
    assert totals == [bar.done]
    assert bar.closed
    assert bar.updates == (2 * len(SMALL) if here else len(SMALL))


def test_ctrl_c_keeps_what_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(function: Any, calls: Any, **options: Any) -> Any:
        yield 0, function(*calls[0])
        yield 2, function(*calls[2])
        raise KeyboardInterrupt

    monkeypatch.setattr(depth, "finished", interrupted)
    results = depth.measure_all(SMALL, range(2), show=lambda r: str(SMALL.index(r.recipe)))
    assert [result.recipe for result in results] == [SMALL[0], SMALL[2]]
    assert capsys.readouterr().out == "0\n2\n\nstopped: 2 of 4 recipes are done\n"


def test_a_process_that_dies_leaves_what_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def dying(function: Any, calls: Any, name: Any, **options: Any) -> Any:
        yield 0, function(*calls[0])
        yield 2, function(*calls[2])
        raise WorkerDiedError(f"a process died while it was at {name(1)}", [1, 3])

    monkeypatch.setattr(depth, "finished", dying)
    with pytest.raises(WorkerDiedError, match=r"at Recipe\(depth=1, activation='elu'") as caught:
        depth.measure_all(SMALL, range(2), show=lambda r: str(SMALL.index(r.recipe)))
    assert [result.recipe for result in caught.value.done] == [SMALL[0], SMALL[2]]
    assert capsys.readouterr().out == "0\n2\n\nstopped: 2 of 4 recipes are done\n"

    monkeypatch.setattr(depth, "save_picture", lambda *args: None)
    options = ["--depths", "1", "2", "--activations", "relu", "elu", "--seeds", "2", "--steps", "6"]
    with pytest.raises(SystemExit, match=r"a process died while it was at Recipe\(depth=2"):
        depth.main([*options, "--jobs", "1", "--out", str(tmp_path)])
    record = json.loads((tmp_path / "depth.json").read_text(encoding="utf-8"))
    assert record["partial"] is True
    assert [(row["activation"], row["depth"]) for row in record["results"]] == [
        ("relu", 1), ("elu", 1),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has another way to interrupt")
def test_ctrl_c_prints_and_saves_what_is_done(environment: dict[str, str], tmp_path: Path) -> None:
    options = ["--depths", "0", "20", "--activations", "relu", "--seeds", "3", "--jobs", "2"]
    program = subprocess.Popen(
        [sys.executable, *STRICT, "-u", str(PROGRAM), *options, "--steps", "300000"],
        env=environment, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        encoding="utf-8",
    )  # fmt: skip
    try:
        assert program.stdout is not None
        assert any(line.startswith("relu        0 x 5") for line in program.stdout)
        time.sleep(0.2)
        os.killpg(program.pid, signal.SIGINT)
        shown, errors = program.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.communicate()
    assert program.returncode == 0, errors
    assert "stopped: 1 of 2 recipes are done" in shown
    assert "3 nets trained" in shown
    assert errors == ""
    record = json.loads((tmp_path / "out/depth.json").read_text(encoding="utf-8"))
    assert record["partial"] is True
    assert [row["depth"] for row in record["results"]] == [0]


@pytest.mark.slow
@pytest.mark.trains
def test_deep_sigmoid_nets_are_stuck_where_shallow_and_relu_nets_learn(
    environment: dict[str, str], tmp_path: Path
) -> None:
    options = ["--quick", "--depths", "10", "1", "--activations", "sigmoid", "relu"]
    shown = run(*options, "--seeds", "10", "--steps", "3001", env=environment, cwd=tmp_path)
    assert "XOR, 10 seeds, 3,001 steps" in shown
    assert "fewer steps than the lecture's 10,001" in shown
    table = {}
    for line in shown.splitlines():
        shares = [float(share) / 100 for share in re.findall(r"(\d+)% \(", line)]
        if shares:
            activation, layers, *_ = line.split()
            table[activation, int(layers)] = shares
    assert list(table) == [("sigmoid", 1), ("sigmoid", 10), ("relu", 1), ("relu", 10)]
    assert table["sigmoid", 10][0] == 0
    assert table["sigmoid", 10][1] >= 0.8
    assert table["relu", 10][0] >= 0.2
    assert table["relu", 10][1] < table["sigmoid", 10][1]
    assert table["relu", 1][0] >= 0.5


# ------------------------------------------------------------------ files


@pytest.mark.trains
def test_a_run_can_be_repeated_from_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--depths", "1", "3", "--activations", "relu", "--inits", "he", "--widths", "4"]
    options += ["--optimizers", "adam", "--rates", "0.02", "--seeds", "6", "--seed", "40"]
    monkey = ["--steps", "60", "--jobs", "1", "--out", str(tmp_path)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(depth, "save_picture", lambda *args: None)
        depth.main([*options, *monkey])
    path = tmp_path / "depth.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["partial"] is False
    assert record["versions"] == depth.versions()
    assert set(record["versions"]) == {"tinygrad_kr", "numpy", "python", "machine"}
    row = record["results"][1]
    assert {name: row[name] for name in Recipe._fields} == {
        "depth": 3, "activation": "relu", "init": "he", "width": 4, "optimizer": "adam",
        "rate": 0.02, "steps": 60,
    }  # fmt: skip
    again = depth.measure(Recipe(3, "relu", "he", 4, "adam", 0.02, 60), range(40, 46))
    assert (row["first_seed"], row["seeds"]) == (40, 6)
    assert row["right_of_4_by_seed"] == again.right.tolist()
    assert row["solved"]["share"] == (again.right == 4).mean()
    assert row["stuck"]["share"] == (again.right <= 2).mean()
    assert row["loss_by_seed"] == pytest.approx(again.loss.tolist(), rel=1e-5)
    assert row["median_loss"] == pytest.approx(np.median(again.loss), rel=1e-5)
    lengths = row["gradient_norm_quartiles_by_layer"]
    assert np.shape(lengths["first_step"]) == np.shape(lengths["last_step"]) == (3, 4)

    capsys.readouterr()
    depth.main(["--rerun", str(path), "--jobs", "1"])
    assert f"2 of 2 recipes: every seed ended as in {path}" in capsys.readouterr().out
    row["right_of_4_by_seed"][2] ^= 1
    record["versions"]["numpy"] = "1.0"
    path.write_text(json.dumps(record), encoding="utf-8")
    depth.main(["--rerun", str(path), "--jobs", "1"])
    shown = capsys.readouterr().out
    assert "1 of 2 recipes: every seed ended as in" in shown
    assert "1 of 6 nets ended otherwise: Recipe(depth=3" in shown
    assert f"note: numpy {np.__version__} here, 1.0 in the file" in shown


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        depth.main(["--rerun", "nowhere.json"])
    assert "--rerun: there is no file nowhere.json" in capsys.readouterr().err


def test_numbers_that_json_has_not_are_null() -> None:
    written = depth.significant(np.array([[1 / 3, np.inf], [np.nan, 0.0]]))
    assert written == [[0.333333, None], [None, 0.0]]
    json.dumps(written, allow_nan=False)


def test_nets_of_several_kinds_get_a_row_each(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    recipes = [Recipe(d, "relu", init, steps=2) for init in ("uniform", "zeros") for d in (1, 2)]
    depth.save_picture(depth.measure_all(recipes, range(3)), tmp_path / "two.png")
    one = depth.measure_all(recipes[:2], range(3))
    depth.save_picture(one, tmp_path / "one.png")
    sizes = [
        int.from_bytes((tmp_path / f"{name}.png").read_bytes()[20:24], "big")
        for name in ("one", "two")
    ]
    assert 1.7 < sizes[1] / sizes[0] < 2


# ------------------------------------------------------------------ agreement


@pytest.mark.parametrize(
    ("successes", "trials", "share", "other", "expected"),
    [
        (43, 100, 0.43, 100, True),
        (61, 100, 0.43, 100, True),  # z = 2.546
        (62, 100, 0.43, 100, False),  # z = 2.690
        (0, 100, 0.0, 100, True),
        (100, 100, 1.0, 40, True),
        (0, 100, 0.06, 100, True),  # z = 2.487
        (0, 100, 0.07, 100, False),  # z = 2.693
        (0, 100, 1.0, 100, False),
    ],
)
def test_two_samples_agree_where_the_two_proportion_test_says_so(
    successes: int, trials: int, share: float, other: int, expected: bool
) -> None:
    rate = depth.Rate(successes, trials, 0.0, 1.0)
    assert depth.agrees(rate, share, other) is expected


FAST = [
    "ReLU, zeros",
    "2-2-1 sigmoid, zeros",
    "2-2-1 sigmoid, N(0, 1)",
    "2-2-1 sigmoid, N(0, 1), Adam 0.01",
    "one sigmoid unit",
]


@pytest.mark.slow
@pytest.mark.trains
def test_rates_agree_with_hand_written_numpy(capsys: pytest.CaptureFixture[str]) -> None:
    """The small nets of the table, with the lecture's 10,001 steps; `--agree` trains them all."""
    references = [r for r in depth.REFERENCES if r.name in FAST]
    references[0] = references[0]._replace(recipe=references[0].recipe._replace(steps=50))
    results, agreement = depth.agree(references, range(60), jobs=1)
    shown = capsys.readouterr().out
    assert agreement, shown
    assert "differs" not in shown
    notes = depth.notes_on_the_end(results)
    assert len(notes) == 3
    assert all(note.agrees for note in notes)


def test_a_rate_that_differs_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    dead = depth.Reference("half dead", Recipe(1, "relu", "zeros", steps=2), 0.5, 0.5, 40)
    results, agreement = depth.agree([dead], range(50), jobs=1)
    assert agreement is False
    assert len(results[0].seeds) == 20
    assert capsys.readouterr().out.count("differs") == 2


@pytest.mark.trains
def test_the_start_is_as_the_notes_say() -> None:
    notes = depth.notes_on_the_start(300)
    assert [note.reference for note in notes] == [0.15, 7.6e-7, 2.6e-6]
    assert all(note.agrees for note in notes)
    assert not notes[0]._replace(reference=0.3).agrees
    assert not notes[1]._replace(reference=2.6e-6).agrees


def test_the_whole_table_was_trained_and_agrees() -> None:
    """What is committed is a whole run of `--agree`, and its verdicts follow from its counts."""
    record = json.loads((RECORDS / "sigmoid_vs_relu_depth_agree.json").read_text(encoding="utf-8"))
    assert (record["partial"], record["agreement"]) == (False, True)
    rows = {
        tuple(row[name] for name in Recipe._fields): np.array(row["right_of_4_by_seed"])
        for row in record["results"]
    }
    assert len(depth.REFERENCES) == 18
    for reference in depth.REFERENCES:
        right = rows[reference.recipe]
        assert len(right) == reference.nets
        for happened, share in ((right == 4, reference.solved), (right <= 2, reference.stuck)):
            rate = depth.Rate(int(happened.sum()), len(right), 0.0, 1.0)
            assert depth.agrees(rate, share, reference.nets), reference.name
    assert [note["reference"] for note in record["notes"][:3]] == [0.15, 7.6e-7, 2.6e-6]


def test_the_default_sweep_is_on_record() -> None:
    record = json.loads((RECORDS / "sigmoid_vs_relu_depth.json").read_text(encoding="utf-8"))
    assert not record["partial"]
    recipes = [Recipe(*(row[name] for name in Recipe._fields)) for row in record["results"]]
    assert recipes == depth.recipes_of(depth.parse_arguments([]))
    solved = {(r.activation, r.depth): row["solved"]["share"] for r, row in zip(
        recipes, record["results"], strict=True
    )}  # fmt: skip
    assert solved["sigmoid", 4] <= 0.02 < 0.98 <= solved["sigmoid", 1]
    assert solved["tanh", 10] > solved["leaky_relu", 10] > solved["relu", 10] > 0.3
    assert solved["relu", 20] < 0.1
