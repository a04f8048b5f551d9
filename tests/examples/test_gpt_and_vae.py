"""`examples/gpt.py` and `examples/vae.py`: what they compute, print, save and refuse."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from lecture_programs import check_picture, module

import tinygrad_kr as tk
from tinygrad_kr import Tensor

FOLDER = Path(__file__).parents[2] / "examples"
QUICK = {
    "gpt": (
        "--steps 4 --every 2 --layers 1 --width 8 --heads 2 --length 8 --batch 2 --sample 5",
        2,
    ),
    "vae": ("--epochs 1 --hidden 4", 1),
}
"""Options of a short run, and how many lines of progress it prints."""


@pytest.fixture(scope="module")
def gpt() -> ModuleType:
    return module(FOLDER / "gpt.py")


@pytest.fixture(scope="module")
def vae() -> ModuleType:
    return module(FOLDER / "vae.py")


def run(program: ModuleType, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr("sys.argv", [program.__name__, *options])
    try:
        program.main()
    finally:
        tk.set_language(None)


@pytest.mark.parametrize("compiled", [[], ["--compile"]], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", QUICK)
def test_it_prints_its_progress_and_saves_its_picture(
    name: str, compiled: list[str], tmp_path: Path, request: Any, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    program = request.getfixturevalue(name)
    options, lines = QUICK[name]
    run(program, monkeypatch, *options.split(), *compiled, "--out", str(tmp_path), "--lang", "en")
    shown = capsys.readouterr().out
    assert shown.count("step " if name == "gpt" else "epoch ") == lines
    assert "trained in" in shown
    check_picture(shown, tmp_path / f"{name}.png")


# ------------------------------------------------------------------ gpt


def test_a_batch_is_text_and_what_follows_it(gpt: ModuleType) -> None:
    known = gpt.corpus("abcdefgh" * 20, 4)
    tokens, following = gpt.batch_of(known.training, 5, 4, np.random.default_rng(0))
    assert tokens.shape == following.shape == (5, 4)
    np.testing.assert_array_equal(following, (tokens + 1) % 8)
    assert known.characters == "abcdefgh"
    assert len(known.held_out) == 16


def test_a_character_sees_none_after_it(gpt: ModuleType) -> None:
    tk.manual_seed(0)
    net = gpt.GPT(10, 6, 8, 2, 2)
    tokens = np.arange(6)[None]
    changed = tokens.copy()
    changed[0, 4] = 9
    before, after = (net(Tensor(t)).detach().numpy() for t in (tokens, changed))
    np.testing.assert_allclose(before[0, :4], after[0, :4], rtol=1e-5)
    assert np.abs(before[0, 4:] - after[0, 4:]).min() > 1e-4


def test_a_text_of_one_pattern_is_learned(gpt: ModuleType) -> None:
    known = gpt.corpus("abcd" * 100, 8)
    tk.manual_seed(0)
    net = gpt.GPT(4, 8, 16, 1, 2)
    settings = {"steps": 60, "every": 60, "batch": 8, "length": 8, "lr": 0.01, "seed": 0}
    args = Namespace(**settings, compile=False, prompt="ab", sample=6, heat=0.1)
    history = gpt.train(net, known, args)
    assert len(history.training) == 60
    assert history.held_out[60] < 0.3 < history.training[0]
    assert gpt.write(net, known, "ab", 6, 0.1, 0) == "abcdabcd"


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("too short", [], "expected at least 91 characters, got 9"),
        ("abcdefgh" * 50, ["--prompt", "xyz"], "expected characters of the text, got 'xyz'"),
        ("abcdefgh" * 50, ["--prompt", ""], "expected characters of the text, got ''"),
        ("abcdefgh" * 50, ["--heads", "3"], "expected a multiple of --heads, 3, got 8"),
    ],
)
def test_what_it_cannot_learn_from_is_refused(
    gpt: ModuleType, text: str, options: list[str], message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = tmp_path / "text.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        run(gpt, monkeypatch, *QUICK["gpt"][0].split(), "--text", str(file), *options)
    assert message in f"{stopped.value.code}{capsys.readouterr().err}"


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_is_no_text_is_named(
    gpt: ModuleType, content: bytes | None, tmp_path: Path
) -> None:
    file = tmp_path / "text.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SystemExit, match=r"text\.txt: expected a text file in UTF-8, got"):
        gpt.read(file)


def test_the_default_text_is_the_projects_pages(gpt: ModuleType) -> None:
    text = gpt.read(None)
    assert "tinygrad_kr" in text
    assert "기울기" in text


def test_ctrl_c_keeps_what_was_reached(
    gpt: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = gpt.corpus("abcd" * 100, 8)
    settings = {"steps": 9, "every": 9, "batch": 2, "length": 8, "lr": 0.01, "seed": 0}
    args = Namespace(**settings, compile=False, prompt="a", sample=1, heat=1.0)
    batches = iter([gpt.batch_of(known.training, 2, 8, np.random.default_rng(0))] * 2)

    def interrupted(*_: Any) -> Any:
        try:
            return next(batches)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(gpt, "batch_of", interrupted)
    history = gpt.train(gpt.GPT(4, 8, 8, 1, 2), known, args)
    assert len(history.training) == 2
    assert "stopped after 2 of 9 steps" in capsys.readouterr().out


# ------------------------------------------------------------------ vae


def test_the_cost_of_a_place_is_the_divergence_from_the_normal(vae: ModuleType) -> None:
    """Estimated from draws: the mean of log q(z) - log p(z)."""
    tk.manual_seed(0)
    net = vae.VAE(8)
    x = np.random.default_rng(0).random((1, 64), np.float32)
    _, place = vae.costs(net, Tensor(x), tk.zeros(1, 2))
    mean, log_variance = (v.detach().numpy()[0].astype(float) for v in net.encode(Tensor(x)))
    noise = np.random.default_rng(1).standard_normal((200_000, 2))
    z = mean + noise * np.exp(0.5 * log_variance)
    difference = 0.5 * (z**2 - noise**2 - log_variance).sum(1)
    error = difference.std() / len(z) ** 0.5
    np.testing.assert_allclose(place.item(), difference.mean(), atol=4 * error + 1e-6)


def test_the_cost_falls_and_the_plane_is_used(vae: ModuleType) -> None:
    tk.manual_seed(0)
    net = vae.VAE(16)
    images, _ = vae.digit_rows("train")
    settings = {"epochs": 4, "batch": 50, "lr": 0.005, "compile": False}
    history = vae.train(net, images[:500], Namespace(**settings))
    assert history[-1].pixels < 0.8 * history[0].pixels
    assert history[-1].place > 0.1
    image = vae.manifold(net, 2.0, 3)
    assert image.shape == (30, 30)
    assert np.ptp(image) > 0.1
