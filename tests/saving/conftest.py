"""Each test of saving leaves the generator of `tk.manual_seed` as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tinygrad_kr as tk


@pytest.fixture(autouse=True)
def _default_kept() -> Iterator[None]:
    generator = tk.default_generator()
    state = generator.bit_generator.state
    yield
    generator.bit_generator.state = state
