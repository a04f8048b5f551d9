"""Every public name of version 0.1.0 is still where it was; one that moved says where to."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path

import pytest

from tinygrad_kr.moved import MOVED

TEXT = Path(__file__).with_name("names_of_0_1_0.txt").read_text(encoding="utf-8")
NAMES = {
    module: names.split()
    for module, _, names in (
        entry.partition(":") for entry in TEXT.replace("\n    ", " ").splitlines()
    )
}
RENAMED = {("tinygrad_kr.nn.init", "variance_scaling")}


@pytest.mark.parametrize("module", NAMES)
def test_old_names_are_there(module: str) -> None:
    home = importlib.import_module(module)
    for name in NAMES[module]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert getattr(home, name) is not None
        moved = name in MOVED.get(module, {}) or (module, name) in RENAMED
        assert [w.category for w in caught] == [DeprecationWarning] * moved
        assert all(w.filename == __file__ for w in caught)


def test_a_name_that_never_was_is_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nome'"):
        importlib.import_module("tinygrad_kr.arrays").nome  # noqa: B018
