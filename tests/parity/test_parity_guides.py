"""The PyTorch code of docs/guides/save_and_exchange.md runs in PyTorch, and its file loads here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "save_and_exchange.md"


def test_a_net_goes_to_pytorch_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.M | re.S)
    ours: dict[str, Any] = {}
    exec(next(code for language, code in blocks if language == "python"), ours)
    before = dict(ours["net"].state_dict())
    theirs: dict[str, Any] = {"torch": torch, "np": np}
    (code,) = (code for language, code in blocks if "torch" in code and language == "text")
    exec(code.replace("tensor.numpy()", "(tensor + 1).numpy()"), theirs)
    with np.load("net.npz") as arrays:
        ours["net"].load_state_dict(arrays)
    assert len(before) == 4
    for name, array in ours["net"].state_dict().items():
        np.testing.assert_array_equal(array, before[name] + np.float32(1))
