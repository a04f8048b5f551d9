"""The sdist holds what its tests need, and the wheel what the package reads."""

from __future__ import annotations

import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "MANIFEST.in"
ALWAYS = {"LICENSE", "MANIFEST.in", "README.md", "pyproject.toml"}
"""What setuptools puts into every sdist, beside the modules of the package and their data."""
FROM_A_BUILD = {"PKG-INFO", "setup.cfg", "tinygrad_kr.egg-info"}


def kept(manifest: str) -> tuple[set[str], set[str], list[str]]:
    """The grafted folders, the included files, and the patterns that are left out everywhere."""
    lines = [line.split() for line in manifest.splitlines() if line and not line.startswith("#")]
    found: dict[str, list[str]] = {"graft": [], "include": [], "global-exclude": []}
    for command, *names in lines:
        found[command] += names
    return set(found["graft"]), set(found["include"]), found["global-exclude"]


def ours() -> list[str]:
    """The files of the repository; in an unpacked sdist, which has no history, those that lie
    there."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, encoding="utf-8"
        )
        return [name for name in listed.stdout.split("\0") if name]
    names = (path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file())
    caches = re.compile(r"(^|/)(__pycache__|\.[a-z]+_cache|\.hypothesis|\.venv|build|dist)(/|$)")
    return [n for n in names if not caches.search(n) and n.split("/")[0] not in FROM_A_BUILD]


def left_out(names: list[str], manifest: str) -> list[str]:
    grafted, included, excluded = kept(manifest)
    found = []
    for name in names:
        top = name.split("/")[0]
        is_kept = top in grafted | {"tinygrad_kr"} or name in included | ALWAYS
        if not is_kept or any(fnmatch(name.split("/")[-1], pattern) for pattern in excluded):
            found.append(name)
    return found


def test_the_sdist_holds_every_file_of_the_repository() -> None:
    names = ours()
    assert {"tests/conftest.py", "examples/xor.py", ".ci/run", "CHANGELOG.md"} <= set(names)
    assert left_out(names, MANIFEST.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("line", MANIFEST.read_text(encoding="utf-8").splitlines()[1:])
def test_no_line_of_the_manifest_is_idle(line: str) -> None:
    if not line.startswith("global-exclude"):
        without = MANIFEST.read_text(encoding="utf-8").replace(line, "")
        assert left_out(ours(), without)


def test_the_package_data_hold_every_file_that_is_no_module() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    data = project["tool"]["setuptools"]["package-data"]
    patterns = [
        f"{package.replace('.', '/')}/{pattern}"
        for package, names in data.items()
        for pattern in names
    ]
    others = [n for n in ours() if n.startswith("tinygrad_kr/") and not n.endswith(".py")]
    assert "tinygrad_kr/data/files/digits-images-idx3-ubyte.gz" in others
    assert [n for n in others if not any(fnmatch(n, pattern) for pattern in patterns)] == []
