"""`Monitor.save_html`: the data of the film, and the page in a browser without a network."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lecture_programs import STRICT

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim
from tinygrad_kr.explain.monitoring.film import TEXTS, data_of

POINTS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
ANSWERS = np.array([[0], [1], [1], [0]], np.float32)


def trained(activation: Any, steps: int = 60, name: str | None = None) -> tk.Monitor:
    """XOR with two hidden layers of 8, a frame every 10 steps."""
    tk.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(2, 8), activation(), nn.Linear(8, 8), activation(), nn.Linear(8, 1)
    )
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    with tk.Monitor(net, optimizer, every=10, name=name) as monitor:
        for _ in range(steps):
            loss = F.binary_cross_entropy_with_logits(net(Tensor(POINTS)), Tensor(ANSWERS))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return monitor


@pytest.fixture(scope="module", name="pair")
def _pair() -> tuple[tk.Monitor, tk.Monitor]:
    return trained(nn.Sigmoid), trained(nn.ReLU, 45, name="</script><b>'\"&")


# ------------------------------------------------------------------ without plotly


def test_the_data_are_those_of_the_frames(pair: tuple[tk.Monitor, tk.Monitor]) -> None:
    data = json.loads(json.dumps(data_of(pair, "en"), allow_nan=False))
    sigmoid, relu = data["runs"]
    assert sigmoid["name"] == "sigmoid" and relu["name"] == pair[1].name
    assert [frame["step"] for frame in sigmoid["frames"]] == [0, 10, 20, 30, 40, 50]
    assert [frame["step"] for frame in relu["frames"]] == [0, 10, 20, 30, 40]
    assert sigmoid["layers"] == ["0", "2", "4"] and sigmoid["activations"] == ["0", "2"]
    assert set(sigmoid["metrics"]) == {"loss", "accuracy"}
    history = pair[0].history
    for at, frame in enumerate(sigmoid["frames"]):
        assert frame["norms"] == {k: v[at] for k, v in history["gradient_norm"].items()}
        low, high, counts = frame["histograms"]["0"]
        assert 0 < low <= high < 1 and sum(counts) == 4 * 8
    assert sigmoid["kind"] == "probability" and sigmoid["points"]["classes"] == [0, 1, 1, 0]
    weight = np.array(sigmoid["frames"][-1]["pictures"][0]["pixels"])
    scale = sigmoid["frames"][-1]["pictures"][0]["scale"] / 127
    matrix = pair[0].frames.frames[-1].pictures["0"]
    assert weight.shape == (8, 2) and np.allclose(weight * scale, matrix.pixels * scale)
    lowest, highest = data["norms"]
    norms = [x for run in data["runs"] for frame in run["frames"] for x in frame["norms"].values()]
    assert all(10**lowest <= x <= 10**highest for x in norms)


def test_the_plane_is_the_output_of_the_net() -> None:
    monitor = trained(nn.ReLU, 11)
    frame, box = monitor.frames.frames[-1], monitor.frames.box
    assert frame.plane is not None and box == pytest.approx([-0.15, 1.15, -0.15, 1.15])
    net, size = monitor.model, len(frame.plane)
    row, column = 5, 40
    point = np.array([np.linspace(*box[:2], size)[column], np.linspace(*box[2:], size)[row]])
    expected = net(Tensor(point[None].astype(np.float32))).sigmoid().item()
    assert frame.plane[row, column] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("columns", "kind"), [(3, "class"), (1, "value")])
def test_a_plane_of_classes_or_of_values(columns: int, kind: str) -> None:
    net = nn.Linear(2, columns)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    targets = np.array([0, 1, 2, 1]) if columns > 1 else POINTS[:, :1] * 2.5
    with tk.Monitor(net, optimizer) as monitor:
        output = net(Tensor(POINTS))
        loss = F.cross_entropy(output, targets) if columns > 1 else F.mse_loss(output, targets)
        loss.backward()
        optimizer.step()
    run = data_of([monitor], "en")["runs"][0]
    assert run["kind"] == kind and run["classes"] == (3 if columns > 1 else 1)
    plane = np.array(run["frames"][0]["plane"])
    assert plane.shape == (48, 48)
    if kind == "value":
        assert run["range"] == pytest.approx([plane.min(), plane.max()], abs=0.01)


def test_runs_of_the_same_function_have_different_names() -> None:
    one, other = trained(nn.Tanh, 11), trained(nn.Tanh, 11)
    assert [run["name"] for run in data_of([one, other], "ko")["runs"]] == ["tanh (1)", "tanh (2)"]


def test_a_film_of_what_is_not_finite() -> None:
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = optim.SGD(net.parameters(), lr=1e30)
    monitor = tk.Monitor(net, optimizer, every=1)
    with monitor, np.errstate(all="ignore"), pytest.warns(tk.MonitorWarning):
        for _ in range(6):
            optimizer.zero_grad()
            F.mse_loss(net(Tensor(POINTS)), Tensor(ANSWERS)).backward()
            optimizer.step()
    json.dumps(data_of([monitor], "en"), allow_nan=False)


def test_without_plotly_the_error_names_the_extra(
    pair: tuple[tk.Monitor, tk.Monitor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ImportError, match=r'pip install "tinygrad_kr\[film\]"'):
        pair[0].save_html(tmp_path / "film.html")
    assert not list(tmp_path.iterdir())


def test_before_the_first_step_there_is_no_film(tmp_path: Path) -> None:
    net = nn.Linear(2, 1)
    monitor = tk.Monitor(net, optim.SGD(net.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="expected a step that was looked at, got none"):
        monitor.save_html(tmp_path / "film.html")


# ------------------------------------------------------------------ with plotly


def test_the_example_writes_its_film(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    program = Path(__file__).parents[2] / "examples" / "film.py"
    options = ["--steps", "60", "--lang", "ko", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, *STRICT, str(program), *options],
        capture_output=True,
        encoding="utf-8",
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    sigmoid, told, relu, *_ = done.stdout.splitlines()
    assert sigmoid.startswith("Sigmoid  손실 0.") and relu.startswith("ReLU     손실 0.")
    assert "기울기 소실" in told
    assert (tmp_path / "out" / "film.html").stat().st_size < 2_600_000


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_the_file_holds_all_that_it_needs(
    lang: str, pair: tuple[tk.Monitor, tk.Monitor], tmp_path: Path
) -> None:
    pytest.importorskip("plotly")
    path = tmp_path / "film.html"
    pair[0].save_html(path, beside=pair[1], lang=lang)
    page = path.read_text("utf-8")
    assert len(page) < 2_600_000
    assert f'<html lang="{lang}">' in page and html.escape(TEXTS["title"].say(lang)) in page
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)=|url\(|https?://|@[A-Z]+@""", page)
    assert [entry.name for entry in tmp_path.iterdir()] == ["film.html"]


CHECK = """
<script>
const found = {errors: []};
addEventListener("error", event => found.errors.push(event.message));
addEventListener("unhandledrejection", event => found.errors.push(String(event.reason)));
addEventListener("securitypolicyviolation", event => found.errors.push(event.blockedURI));
const all = selector => [...document.querySelectorAll(selector)];
const first = one => one.firstChild.textContent;
const seen = () => all("#plane .plot, #gradients .plot, #activations .plot, #weights .plot")
  .map(plot => JSON.stringify(plot.data.map(trace => [trace.y, trace.z])));
const wait = setInterval(() => {
  if (!window.film) return;
  clearInterval(wait);
  const slider = document.getElementById("step"), before = seen();
  found.plots = before.length;
  found.steps = film.steps;
  slider.value = slider.max;
  slider.dispatchEvent(new Event("input"));
  const after = seen();
  found.moved = before.filter((plot, i) => plot !== after[i]).length;
  found.label = document.getElementById("label").textContent;
  found.names = all("#plane .name").map(first);
  found.titles = all("h2").map(title => first(title).trim());
  document.getElementById("play").click();
  found.playing = document.getElementById("play").textContent;
  setTimeout(() => {
    found.played = film.at;
    found.width = document.documentElement.scrollWidth <= innerWidth;
    found.resources = performance.getEntriesByType("resource").length;
    found.traces = document.querySelectorAll(".plot svg").length;
    document.title = "found " + JSON.stringify(found);
  }, 900);
}, 20);
</script>
"""


@pytest.mark.parametrize(("lang", "width"), [("en", 1180), ("ko", 500)])
def test_in_a_browser_the_slider_moves_the_pictures(
    lang: str, width: int, pair: tuple[tk.Monitor, tk.Monitor], tmp_path: Path
) -> None:
    pytest.importorskip("plotly")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium")
    path = tmp_path / "film.html"
    pair[0].save_html(path, beside=pair[1], lang=lang)
    page = path.read_text("utf-8").replace("<title>", CHECK + "<title>", 1)
    path.write_text(page, "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=60000"]
    options += ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run(
        [browser, *options, path.as_uri()],
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    title = re.search("<title>found (.*?)</title>", done.stdout)
    assert title is not None, done.stdout[-2000:]
    found = json.loads(html.unescape(title[1]))
    assert found["errors"] == [] and found["resources"] == 0
    assert found["steps"] == [0, 10, 20, 30, 40, 50]
    assert found["plots"] == found["moved"] == 8 and found["traces"] >= 10
    assert found["label"] == {"en": "step 50", "ko": "스텝 50"}[lang]
    assert found["names"] == ["sigmoid ", "</script><b>'\"& "]
    parts = ("curves", "plane", "gradients", "activations", "weights")
    assert found["titles"] == [TEXTS[part].say(lang) for part in parts]
    assert found["playing"] == TEXTS["pause"].say(lang) and found["played"] > 0
    assert found["width"], "no scrolling sideways"
