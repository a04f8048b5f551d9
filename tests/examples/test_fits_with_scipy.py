"""The fits with SciPy: their estimates and standard errors against other ways to compute them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from lecture_programs import check_picture, module

import tinygrad_kr as tk

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = ["predator_prey", "gaussian_process"]


def program(name: str) -> ModuleType:
    return module(EXAMPLES / f"{name}.py")


def run(name: str, folder: Path, patch: pytest.MonkeyPatch, *options: str) -> None:
    patch.setattr(sys, "argv", [f"{name}.py", "--out", str(folder), *options])
    program(name).main()


@pytest.mark.parametrize("name", PROGRAMS)
def test_without_scipy_it_says_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for missing in ("scipy", "scipy.optimize"):
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit, match=r"SciPy is missing \(pip install \"tinygrad_kr\[scipy\]"):
        run(name, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_picture_is_saved(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("scipy")
    pytest.importorskip("matplotlib")
    run(name, tmp_path, monkeypatch)
    check_picture(capsys.readouterr().out, tmp_path / f"{name}.png")


# ------------------------------------------------------------------ the differential equation


def test_the_solution_is_that_of_scipy() -> None:
    integrate = pytest.importorskip("scipy.integrate")
    lynx = program("predator_prey")
    ours = np.exp(lynx.solution(lynx.logarithms(lynx.START), 20))[:: lynx.STEPS]
    a, b, c, d = (lynx.START[name] for name in "abcd")

    def slope(_: float, state: np.ndarray) -> list[float]:
        u, v = state
        return [a * u - b * u * v, d * u * v - c * v]

    start = lynx.START["counts of 1900"]
    options: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-10, "t_eval": np.arange(21)}
    expected = integrate.solve_ivp(slope, (0, 20), start, **options).y.T
    np.testing.assert_allclose(ours, expected, rtol=2e-4)


def test_rates_and_errors_are_those_of_a_fit_by_differences() -> None:
    """SciPy's curve_fit differentiates by differences."""
    optimize = pytest.importorskip("scipy.optimize")
    lynx = program("predator_prey")
    found = lynx.fit(1920)
    _, rebuild = tk.tree.flatten(lynx.START)

    def flat(parameters: Any) -> np.ndarray:
        return np.hstack(tk.tree.flatten(parameters)[0])

    def model(_: Any, *x: float) -> np.ndarray:
        tree = rebuild([*x[:4], np.array(x[4:])])
        log_counts = lynx.solution(lynx.logarithms(tree), 20)[:: lynx.STEPS]
        return np.asarray(log_counts).ravel()

    observed = np.log(lynx.COUNTS).ravel()
    x, covariance = optimize.curve_fit(model, None, observed, flat(found.parameters) * 1.02)
    np.testing.assert_allclose(flat(found.parameters), x, rtol=1e-3)
    np.testing.assert_allclose(flat(found.errors), np.sqrt(np.diag(covariance)), rtol=1e-2)


@pytest.mark.parametrize("language", ["README.md", "README.ko.md"])
def test_the_course_has_the_figures(language: str) -> None:
    pytest.importorskip("scipy")
    text = (EXAMPLES / language).read_text(encoding="utf-8")
    text = text[text.index("[`predator_prey.py`]") :]
    rates = program("predator_prey").fit(1920)
    for name, form in zip("abcd", (".3f", ".4f", ".3f", ".4f"), strict=True):
        assert f"{rates.parameters[name]:{form}}" in text
        assert f"{rates.errors[name]:.4f}" in text
    process = program("gaussian_process")
    found = process.fit(*process.draw(60, 0))
    for name, form in zip(found.parameters, (".2f", ".2f", ".3f"), strict=True):
        assert f"{found.parameters[name]:{form}}" in text
        distance = abs(np.log(found.parameters[name] / process.TRUTH[name]))
        assert distance < found.log_errors[name]


# ------------------------------------------------------------------ the Gaussian process


def test_the_likelihood_is_that_of_a_normal_vector() -> None:
    process = program("gaussian_process")
    x, y = process.draw(7, 1)
    k = process.covariance(process.TRUTH, x)
    expected = -(y @ np.linalg.inv(k) @ y + np.log(np.linalg.det(2 * np.pi * k))) / 2
    logs = tk.tree.tree_map(np.log, process.TRUTH)
    assert -float(process.minus_log_likelihood(logs, x, y)) == pytest.approx(expected, rel=1e-9)


def test_errors_are_those_of_the_hessian_by_differences() -> None:
    pytest.importorskip("scipy")
    process = program("gaussian_process")
    x, y = process.draw(30, 2)
    found = process.fit(x, y)
    at = np.log(np.array([*found.parameters.values()]))
    problem = tk.interop.scipy.objective(process.minus_log_likelihood, process.FIRST_GUESS)
    assert np.abs(problem.jac(at, x, y)).max() < 1e-3
    h = 1e-5
    rows = [
        (problem.jac(at + h * e, x, y) - problem.jac(at - h * e, x, y)) / h / 2 for e in np.eye(3)
    ]
    errors = np.sqrt(np.diag(np.linalg.inv(rows)))
    np.testing.assert_allclose([*found.log_errors.values()], errors, rtol=1e-5)


def test_predictions_are_conditional_means_and_deviations() -> None:
    """Without noise the mean goes through the points; far away nothing is known."""
    process = program("gaussian_process")
    x, y = np.array([0.0, 1.0, 3.0]), np.array([1.0, -1.0, 2.0])
    mean, deviation = process.predict(
        process.TRUTH | {"noise": 0.0}, x, y, np.array([0.0, 3.0, 99.0])
    )
    np.testing.assert_allclose(mean, [1, 2, 0], atol=1e-9)
    np.testing.assert_allclose(deviation, [0, 0, 1.5], atol=1e-6)
