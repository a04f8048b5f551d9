"""Imports run one way, and `import tinygrad_kr` loads nothing but itself and NumPy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tinygrad_kr as tk

ROOT = Path(tk.__file__).parent

ORDER = [
    {"_version", "tree", "escape", "files"},
    {"native"},
    {"ops"},
    {"grad_mode"},
    {"tensor"},
    {"random", "arrays", "autodiff"},
    {"creation", "linalg", "transformations", "autograd"},
    {"functional", "numpy_protocol"},
    {"optim", "data"},
    {"nn", "testing"},
    {"checkpoint", "explain", "compile", "sweep"},
]
"""Each may import what stands above it. `__init__` stands below all."""

RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}

WHEN_USED = {
    ("tensor", "arrays"),
    ("tensor", "functional"),
    ("tensor", "numpy_protocol"),
    ("arrays", "linalg"),
}
"""Imports against the order that happen inside a function, when it is called."""

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


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """What a file imports of this package, and whether at its top level."""
    parsed = ast.parse(path.read_text(encoding="utf-8"))
    parsed.body = [node for node in parsed.body if not _for_types_only(node)]
    top = set(map(id, parsed.body))
    for node in ast.walk(parsed):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            module = node.module or ""
            names = (
                [f"{module}.{a.name}" for a in node.names] if module == "tinygrad_kr" else [module]
            )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("tinygrad_kr."):
                yield name.split(".")[1], id(node) in top


def _for_types_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def edges() -> Iterator[tuple[str, str, bool, Path]]:
    for path in ROOT.rglob("*.py"):
        unit = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for other, top in imports(path):
            if other != unit:
                yield unit, other, top, path


def test_every_module_has_its_place_in_the_order() -> None:
    units = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in ROOT.rglob("*.py")}
    assert units - RANK.keys() - {"__init__"} == set()


def test_imports_run_one_way() -> None:
    for unit, other, top, path in edges():
        if unit == "__init__" or (not top and (unit, other) in WHEN_USED):
            continue
        assert RANK[other] < RANK[unit], f"{path}: {unit} imports {other}"


def test_exceptions_are_needed() -> None:
    inner = {(unit, other) for unit, other, top, _ in edges() if not top}
    assert inner >= WHEN_USED


def test_nn_never_imports_ops() -> None:
    assert not [path for unit, other, _, path in edges() if (unit, other) == ("nn", "ops")]


def test_the_core_never_imports_what_explains_or_compiles_it() -> None:
    assert not [path for _, other, _, path in edges() if other in ("explain", "compile")]


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
    assert (tk.neg, tk.clamp, tk.abs) == (tk.negative, tk.clip, tk.absolute)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tk.nothing  # noqa: B018
