"""`import tinygrad_kr` loads nothing but itself and NumPy; the contracts in pyproject.toml say who
may import whom (`lint-imports`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from statistics import median

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


def printed(code: str, environment: dict[str, str] | None = None) -> str:
    """What a fresh interpreter prints."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
        env=environment,
    )
    return result.stdout


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after `statement`, beyond those of NumPy."""
    code = (
        "import sys, numpy; before = set(sys.modules)\n"
        f"{statement}\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    return set(printed(code).split())


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


LIGHT = {
    *("threading", "_weakrefset", "_threading_local", "weakref", "contextvars", "_contextvars"),
    *("functools", "itertools", "operator", "collections", "collections.abc", "types", "typing"),
    *("math", "numbers", "warnings", "contextlib", "abc", "os", "sys", "time", "__future__"),
    *("importlib", "importlib._bootstrap", "importlib._bootstrap_external"),
    *("opcode", "_opcode", "_opcode_metadata"),
}
"""Modules of Python's library that are loaded in about a millisecond."""


def test_the_import_adds_no_module_that_takes_time() -> None:
    """No `ast`, `ctypes`, `dataclasses`, `inspect`, `zipfile`: each is imported where it is used.

    NumPy may load some of these; then they cost nothing more.
    """
    loaded = loaded_by("import tinygrad_kr")
    others = {name for name in loaded if not name.startswith("tinygrad_kr")}
    assert others <= LIGHT
    assert len(loaded - others) <= 45


CLOCK = """
from time import process_time
import numpy
start = process_time()
import tinygrad_kr
print(process_time() - start)
"""


@pytest.mark.slow
def test_the_import_takes_at_most_40_ms_beyond_numpys(tmp_path: Path) -> None:
    """The median of 20 processes, with bytecode cached; measured: 9 ms beside NumPy's 43.

    Time on a core, so that waiting for one does not count.
    """
    own = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONPATH": str(ROOT.parent)}
    environment = {**os.environ, **own}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    seconds = [float(printed(CLOCK, environment)) for _ in range(21)]  # the first writes bytecode
    assert list(tmp_path.rglob("tensor.*.pyc"))
    assert median(seconds[1:]) < 0.04
