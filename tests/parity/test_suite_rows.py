"""The rows of `benchmarks/suite.py` compute the same in PyTorch and here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import suite

    return suite


KEYS = [
    "xor", "deep", "mnist", "wide", "cnn", "resnet", "separable", "vae", "autoencoder", "gpt",
    "lstm", "gru", "skipgram", "rbm", "gradient", "hessian", "gp", "logistic", "pinn", "sinkhorn",
    "kalman", "samples",
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_loss_and_gradients_are_those_of_pytorch(suite: Any, key: str) -> None:
    found = {name: suite.workloads.make(name, key).results() for name in ("torch", "eager")}
    assert len(found["torch"]) > 1 or key in ("hessian", "logistic")
    assert suite.agree(found) == ""
