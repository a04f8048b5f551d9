"""examples/lectures/characters.py: letters learned, and the losses that no net can go below."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from lecture_programs import program

import tinygrad_kr as tk

pytestmark = pytest.mark.trains

characters = program("characters")


@pytest.fixture(scope="module")
def results() -> tuple[dict[str, float], dict[str, Any]]:
    keep: dict[str, Any] = {}
    figures = characters.run(seeds=15, steps=25, softmax_steps=400, sentence_steps=150, keep=keep)
    return figures, keep


def test_windows_are_what_stands_in_the_text() -> None:
    text = characters.windows_of("hihello", 6)
    assert text.letters == "hielo"
    np.testing.assert_array_equal(text.inputs, [[0, 1, 0, 2, 3, 3]])
    np.testing.assert_array_equal(text.targets, [[1, 0, 2, 3, 3, 4]])
    long = characters.windows_of(characters.SENTENCE, 10)
    assert long.inputs.shape == (170, 10) and len(long.letters) == 25
    assert (
        characters.sentence_of([long.read(row) for row in long.targets])
        == (characters.SENTENCE[1:])
    )


def test_the_floor_is_the_entropy_of_what_follows() -> None:
    short = characters.windows_of(characters.WANT, 15)
    after_a_blank = -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))
    assert characters.floor(short, memory=1) == pytest.approx(4 / 15 * after_a_blank, rel=1e-12)
    assert characters.floor(short, memory=2) == 0.0
    assert characters.floor(characters.windows_of("aabab", 2), memory=1) == pytest.approx(
        4 / 6 * -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)), rel=1e-12
    )


def test_the_lab_s_start() -> None:
    tk.manual_seed(0)
    net = characters.CharacterNet(10, 10, 2, "lab")
    biases = net.lstm.bias_ih_l1.data.reshape(4, 10)
    np.testing.assert_array_equal(biases, np.repeat([[0.0], [1.0], [0.0], [0.0]], 10, axis=1))
    assert not net.lstm.bias_hh_l0.data.any() and not net.lstm.bias_hh_l0.requires_grad
    limit = math.sqrt(6 / (10 + 10 + 40))
    for weight in (net.lstm.weight_ih_l0, net.lstm.weight_hh_l1):
        assert 0.97 * limit < np.abs(weight.data).max() <= limit


def test_the_short_labs_reach_the_lecture_s_losses(results: Any) -> None:
    figures, keep = results
    assert figures["lab 12-1 loss at step 10"] == pytest.approx(0.56, abs=0.12)
    assert figures["lab 12-2 loss at step 12"] == pytest.approx(0.205, abs=0.05)
    assert figures["lab 12-1 starts that learn every letter"] == 1.0
    assert figures["lab 12-2 starts that learn every letter"] == 1.0
    losses = keep["12-2"]
    assert losses.shape == (15, 25)
    assert figures["lab 12-2 loss at step 12"] == np.median(losses[:, 12])
    assert figures["lab 12-2 starts as good as the lecture's"] == (losses[:, 12] <= 0.208561).mean()
    assert losses[:, 0] == pytest.approx(np.full(15, math.log(10)), abs=0.15)


def test_without_memory_the_entropy_is_left(results: Any) -> None:
    figures, keep = results
    assert keep["12-3 answer"] == "yf you yant you"
    assert figures["lab 12-3 floor"] == pytest.approx(0.27726, abs=1e-5)
    assert figures["lab 12-3 floor"] < figures["lab 12-3 loss"] < figures["lab 12-3 floor"] + 0.01


def test_the_sentence_is_learned_but_for_its_first_letter(results: Any) -> None:
    figures, keep = results
    assert keep["12-4 answer"][1:] == characters.SENTENCE[2:]
    assert figures["lab 12-4 wrong letters"] <= 1
    assert figures["lab 12-4 floor"] == pytest.approx(0.2285, abs=1e-4)
    assert figures["lab 12-4 floor"] < figures["lab 12-4 loss"] < figures["lab 12-4 floor"] + 0.05
    assert keep["12-4 alone"].startswith("if you want to build a ship")
    assert figures["lab 12-4 letters right when it writes alone"] >= 100
