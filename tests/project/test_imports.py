"""`import tinygrad_kr` loads nothing but itself and NumPy; the contracts in pyproject.toml say who
may import whom (`lint-imports`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tinygrad_kr as tk

ROOT = Path(tk.__file__).parent

HEAVY = [
    "matplotlib",
    "tqdm",
    "torch",
    "jax",
    "autograd",
    "scipy",
    "sklearn",
    "pandas",
    "hypothesis",
    "pytest",
    "unittest",
    "urllib.request",
    "http",
    "ssl",
    "socket",
    "asyncio",
    "multiprocessing",
    "tkinter",
    "PIL",
    "cffi",
    "ctypes.util",
]


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after `statement`, beyond those of NumPy."""
    code = (
        "import sys, numpy; before = set(sys.modules)\n"
        f"{statement}\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import tinygrad_kr",
        "import tinygrad_kr.nn, tinygrad_kr.optim, tinygrad_kr.data, tinygrad_kr.functional",
        "import tinygrad_kr.testing, tinygrad_kr.numpy_protocol",
        "import tinygrad_kr as tk\n"
        "x = tk.tensor([1.0], requires_grad=True); (x * x).sum().backward(); tk.nn.Linear(2, 1)",
    ],
)
def test_import_loads_nothing_heavy(statement: str) -> None:
    loaded = loaded_by(statement)
    assert "tinygrad_kr" in loaded
    assert not [name for name in HEAVY if name in loaded]


def test_import_loads_submodules_when_they_are_used() -> None:
    loaded = loaded_by("import tinygrad_kr")
    ours = {name.split(".")[1] for name in loaded if name.startswith("tinygrad_kr.")}
    assert not ours & {"nn", "optim", "data", "testing", "functional", "numpy_protocol"}
    assert "tinygrad_kr.nn" in loaded_by("import tinygrad_kr as tk; tk.nn")


def test_every_public_name_is_there() -> None:
    assert len(set(tk.__all__)) == len(tk.__all__)
    for name in tk.__all__:
        assert getattr(tk, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tk.nothing  # noqa: B018


def test_a_large_product_loads_the_compiler_of_c_and_little_else() -> None:
    code = "import tinygrad_kr as tk, numpy as np; a = np.ones((256, 256), np.float32)"
    product = f"{code}; tk.matmul(tk.tensor(a), a)"
    added = {name for name in loaded_by(product) - loaded_by(code) if name.startswith("tinygrad")}
    assert len(added) <= 12
    assert all(name.startswith(("tinygrad_kr.native", "tinygrad_kr.files")) for name in added)


def test_an_import_allocates_no_large_array() -> None:
    """Nothing is tuned or set aside before it is used."""
    code = (
        "import tracemalloc, numpy; tracemalloc.start()\n"
        "import tinygrad_kr, tinygrad_kr.nn, tinygrad_kr.optim, tinygrad_kr.compile\n"
        "print(tracemalloc.get_traced_memory()[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert int(done.stdout) < 2**24
