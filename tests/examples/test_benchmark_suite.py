"""`benchmarks/suite.py`: its rows compute what they say, its verdicts follow from its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
NETS = [
    "xor", "deep", "mnist", "wide", "cnn", "resnet", "separable", "vae", "autoencoder", "gpt",
    "lstm", "gru", "skipgram", "rbm",
]  # fmt: skip
FUNCTIONS = ["gradient", "hessian", "gp", "logistic", "pinn", "sinkhorn", "kalman", "samples"]
QUICK = ["xor", "deep", "autoencoder", "rbm", *FUNCTIONS]


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import suite

    return suite


def test_the_rows_are_those_of_the_table(suite: Any) -> None:
    assert list(suite.workloads.TITLES) == [*NETS, *FUNCTIONS, "xor-repeat"]
    assert suite.parse_arguments([]).rows == list(suite.workloads.TITLES)


@pytest.mark.parametrize("key", QUICK)
def test_results_of_both_of_ours_are_finite_and_agree(suite: Any, key: str) -> None:
    found = {name: suite.workloads.make(name, key).results() for name in ("eager", "compiled")}
    assert suite.agree(found) == ""
    assert all(np.isfinite(array).all() for array in found["eager"].values())
    assert any(array.any() for array in found["eager"].values())


@pytest.mark.slow
@pytest.mark.parametrize("key", NETS)
def test_compiled_steps_take_the_steps_of_eager_ones(suite: Any, key: str) -> None:
    losses = []
    for name in ("eager", "compiled"):
        step = suite.workloads.make(name, key).step
        losses.append([step().item() for _ in range(4)])
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_the_gradient_and_hessian_are_those_of_the_formula(suite: Any) -> None:
    (x,) = suite.workloads.science.arguments_of("gradient")
    inner = 200 * (x[1:] - x[:-1] ** 2)
    expected = np.zeros(100)
    expected[1:] += inner
    expected[:-1] -= 2 * x[:-1] * inner + 2 * (1 - x[:-1])
    _, gradient = suite.workloads.make("eager", "gradient").step()
    np.testing.assert_allclose(gradient, expected, 1e-12, 1e-10)
    hessian = suite.workloads.make("eager", "hessian").step()
    np.testing.assert_allclose(np.diagonal(hessian, 1), -400 * x[:-1], 1e-12)


def test_the_kalman_likelihood_is_that_of_the_joint_normal(suite: Any) -> None:
    """Of all measurements at once, whose covariance is written out: an independent formula."""
    science = suite.workloads.science
    logs, track = science.arguments_of("kalman")
    a, h = science.TRANSITION, science.OBSERVED
    q, r = np.exp(2 * logs[0]) * np.eye(4), np.exp(2 * logs[1]) * np.eye(2)
    n = len(track)
    state = np.zeros((4 * n, 4 * n))
    covariance = np.eye(4)
    for i in range(n):
        covariance = a @ covariance @ a.T + q
        block = covariance
        for j in range(i, n):
            state[4 * j : 4 * j + 4, 4 * i : 4 * i + 4] = block
            state[4 * i : 4 * i + 4, 4 * j : 4 * j + 4] = block.T
            block = a @ block
    wide = np.kron(np.eye(n), h)
    joint = wide @ state @ wide.T + np.kron(np.eye(n), r)
    y = track.ravel()
    expected = 0.5 * (y @ np.linalg.solve(joint, y) + np.linalg.slogdet(joint)[1])
    value, _ = suite.workloads.make("eager", "kalman").step()
    np.testing.assert_allclose(value, expected, 1e-9)


# ------------------------------------------------------------------ verdicts

ROW = {
    "steps": {"eager": 4e-4, "compiled": 2e-4, "torch": 8e-4, "jax": 4e-4},
    "first call": {"compiled": 0.6, "jax": 0.3},
    "memory": {"eager": 20 << 20, "compiled": 5 << 20, "torch": 40 << 20},
}


def test_ratios_are_to_the_best_peer(suite: Any) -> None:
    assert suite.ratios(ROW) == {
        "eager / PyTorch": 0.5,
        "compiled / best": 0.5,
        "first / JAX": 2.0,
        "memory / PyTorch": 0.5,
    }
    small = ROW | {"memory": {"eager": 7 << 20, "torch": 1 << 20}}
    assert "memory / PyTorch" not in suite.ratios(small)


def test_a_row_says_what_it_misses(suite: Any) -> None:
    assert suite.missed("gpt", ROW) == []  # its first call is short, if longer than JAX's
    late = ROW | {"first call": {"compiled": 1.2, "jax": 0.6}}
    assert suite.missed("gpt", late) == ["first / JAX 2.00, to reach 1.3"]
    assert suite.missed("mnist", ROW) == []
    assert suite.missed("cnn", ROW) == []
    assert suite.missed("xor", ROW) == ["compiled / JAX jit 0.500, to reach 0.1"]
    slow = ROW | {"steps": ROW["steps"] | {"eager": 1.0}}
    assert "missed: eager / PyTorch" in suite.line("gpt", ["eager", "torch"], slow)


def test_means_are_geometric(suite: Any) -> None:
    other = ROW | {"steps": ROW["steps"] | {"eager": 1e-4}}
    assert suite.means({"gpt": ROW, "vae": other})["eager / PyTorch"] == pytest.approx(0.25)
    assert "geometric mean of eager / PyTorch, 2 rows: 0.250 (at most 0.5: reached)" in (
        suite.summary({"gpt": ROW, "vae": other})
    )


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"loss": np.float32([1.0, 2.05])}, "loss: jax and eager differ by 2.2e-02"),
        ({"loss": np.float32([1.0, np.nan])}, "loss: jax and eager differ by nan"),
        ({"cost": np.float32([1.0, 2.0])}, "jax and eager have different results"),
        ({"loss": np.float32([1.0, 2.00001])}, ""),
    ],
)
def test_results_that_differ_are_found(suite: Any, other: Any, message: str) -> None:
    assert suite.agree({"eager": {"loss": np.float32([1.0, 2.0])}, "jax": other}) == message


def test_a_row_whose_frameworks_disagree_is_not_timed(
    suite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"eager": {"loss": np.array([1.0])}, "torch": {"loss": np.array([2.0])}}
    monkeypatch.setattr(suite.processes, "results", lambda name, key, environment: found[name])
    options = Namespace(threads=1, vectors=None, seconds=0.0, parts=[])
    figures = suite.measure("gpt", ["eager", "compiled", "torch"], options)
    assert figures == {"error": "loss: torch and eager differ by 1.0e+00"}
    assert "not timed: loss" in suite.line("gpt", ["eager"], figures)


def test_limits_reach_every_framework(suite: Any) -> None:
    environment = suite.processes.limits(1, "avx2")
    assert environment["OPENBLAS_NUM_THREADS"] == "1"
    assert {"ATEN_CPU_CAPABILITY", "XLA_FLAGS", "ONEDNN_MAX_CPU_ISA"} <= environment.keys()
    assert environment["OPENBLAS_CORETYPE"] == "Haswell"


def test_an_unknown_row_is_named(suite: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        suite.parse_arguments(["--only", "xor,chess"])
    assert "no such row: chess. Rows: xor, deep" in capsys.readouterr().err


@pytest.mark.slow
def test_it_runs_without_peers(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    options = ["--peers", "none", "--only", "xor,xor-repeat", "--seconds", "0", "--json", file]
    done = subprocess.run(
        [sys.executable, FOLDER / "suite.py", *map(str, options)],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    assert "XOR 2-10-1" in done.stdout
    figures = json.loads(file.read_text(encoding="utf-8"))
    xor = figures["rows"]["xor"]
    assert xor["steps"].keys() == xor["memory"].keys() == {"eager", "compiled"}
    assert xor["first call"]["compiled"] > 0
    repeated = figures["rows"]["xor-repeat"]["steps"]["compiled"]
    assert 0 < repeated < xor["steps"]["compiled"]
    assert figures["machine"]["threads"] >= 1


# ------------------------------------------------------------------ the page


@pytest.fixture
def page(suite: Any) -> Any:
    import speed_page

    return speed_page


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_the_page_shows_what_was_measured(page: Any, lang: str) -> None:
    blocks = []
    for file in page.PAGES[lang]:
        text = file.read_text(encoding="utf-8")
        assert page.with_tables(text, lang) == text
        blocks.append(len(page.BLOCK.findall(text)))
    assert blocks == [5, 1]


def test_every_row_has_a_korean_title(page: Any, suite: Any) -> None:
    assert page.KOREAN.keys() == suite.workloads.TITLES.keys()


@pytest.mark.parametrize(
    ("lang", "section"),
    [("en", "## Where a peer is faster"), ("ko", "## 상대보다 느린 곳")],
)
def test_the_page_gives_a_reason_for_every_miss(
    page: Any, suite: Any, lang: str, section: str
) -> None:
    text = page.PAGES[lang][0].read_text(encoding="utf-8")
    reasons = text.split(section)[1].split("\n## ")[0]
    for name in {found[1] for found in page.BLOCK.findall(text)}:
        rows = json.loads((page.RESULTS / f"{name}.json").read_text(encoding="utf-8"))["rows"]
        for key, figures in rows.items():
            if suite.missed(key, figures):
                assert f"`{key}`" in reasons, (name, key, suite.missed(key, figures))
