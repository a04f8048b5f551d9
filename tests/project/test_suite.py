"""The suite's own options and markers: `--expected-skips`, `--rounding` and `one_in`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rounding

from tinygrad_kr.native.build import find_compiler
from tinygrad_kr.native.kernels import has_kernels

HERE = Path(__file__).parents[1]
SKIPPING = """
import pytest
def test_passes(): pass
@pytest.mark.skip(reason="no camel here")
def test_marked(): pass
def test_calls(): pytest.skip("no camel, and no water")
"""
IMPORTING = "import pytest\npytest.importorskip('camel')\ndef test(): pass"
CASES = """
import pytest
@pytest.mark.one_in(3)
@pytest.mark.parametrize("i", range(7))
def test_every(i): pass
@pytest.mark.slow
def test_slow(): pass
def test_ordinary(): pass
"""

LEAVING = """
import numpy as np
from tinygrad_kr.native import choice
from tinygrad_kr.ops import products

def test_leaves():
    a = np.ones((80, 80))
    choice._made["float64"] = choice.BLAS
    products.gemm(a, a)
    choice._made["float64"] = choice.OURS

def test_is_not_blamed(): pass
"""


def run(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The suite's settings for tests of ours."""
    for name in ("conftest.py", "support/rounding.py", "support/numpy_alone.py"):
        shutil.copy(HERE / name, folder)
    settings = (HERE.parent / "pyproject.toml").read_text(encoding="utf-8")
    own = settings[settings.index("[tool.pytest.ini_options]") :].partition("\n[tool.ruff]")[0]
    (folder / "pyproject.toml").write_text(
        own.replace('testpaths = ["tests"]', ""), encoding="utf-8"
    )
    (folder / "test_some.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, encoding="utf-8")


@pytest.mark.one_in(9)
@pytest.mark.parametrize("workers", [["-p", "no:xdist"], ["-n", "1"]], ids=["here", "xdist"])
@pytest.mark.parametrize(
    ("text", "expected", "unexpected"),
    [
        (SKIPPING, "# of animals\nno camel\n", []),
        (SKIPPING, "no camel here\n", ["no camel, and no water"]),
        (SKIPPING, "# no camel\n\n", ["no camel here", "no camel, and no water"]),
        (IMPORTING, "could not import 'camel'", []),
        (IMPORTING, "could not import 'donkey'", ["could not import 'camel': No module"]),
    ],
)
def test_a_skip_that_is_not_expected_fails_the_run(
    text: str, expected: str, unexpected: list[str], workers: list[str], tmp_path: Path
) -> None:
    (tmp_path / "skips.txt").write_text(expected, encoding="utf-8")
    done = run(tmp_path, text, *workers, "--expected-skips", "skips.txt")
    assert done.returncode == (1 if unexpected else 5 * (text == IMPORTING)), done.stdout
    found = re.findall(r"^test_some.py\S*: (.*)$", done.stdout, re.M)
    assert len(found) == len(unexpected)
    assert all(map(str.startswith, sorted(found), unexpected))


@pytest.mark.slow
def test_without_a_list_any_skip_will_do(tmp_path: Path) -> None:
    assert run(tmp_path, SKIPPING).returncode == 0


@pytest.mark.skipif(find_compiler() is None or not has_kernels(), reason="C computes nothing here")
def test_a_test_that_leaves_later_ones_without_c_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, LEAVING, "-p", "no:xdist")
    assert done.returncode == 1
    assert "this test leaked what C computes" in done.stdout
    assert "2 passed, 1 error" in done.stdout


@pytest.mark.slow
def test_of_many_cases_one_in_n_is_ordinary_and_all_are_somewhere(tmp_path: Path) -> None:
    ordinary = run(tmp_path, CASES, "-vv").stdout
    slow = run(tmp_path, CASES, "-vv", "-m", "slow").stdout
    cases = [re.findall(r"(\d)\] PASSED", shown) for shown in (ordinary, slow)]
    assert cases == [list("036"), list("1245")]
    assert "test_ordinary PASSED" in ordinary and "test_slow PASSED" in slow
    assert "test_slow" not in ordinary and "test_ordinary" not in slow


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rounding_moves_by_a_last_bit_and_equal_numbers_alike(dtype: type) -> None:
    x = np.random.default_rng(0).uniform(-3, 3, 3_000).round(2).astype(dtype)
    one, other = rounding.moved(x, 1), rounding.moved(x, 2)
    assert one.dtype == dtype
    for moved in (one, other):
        assert 0.5 < (moved != x).mean() < 0.8
        np.testing.assert_array_less(np.abs(moved - x), 2.1 * np.spacing(np.abs(x)))
    assert (one != other).any()
    np.testing.assert_array_equal(rounding.moved(x[::-3], 1), one[::-3])


@pytest.mark.slow
def test_with_rounding_a_step_ends_elsewhere(tmp_path: Path) -> None:
    text = """
import numpy as np
from tinygrad_kr import Tensor, optim
def test_step():
    p = Tensor(np.linspace(1, 2, 50), requires_grad=True)
    still = Tensor(np.ones(3), requires_grad=True)
    before = p.data.copy()
    (p.sum() + 0 * still.sum()).backward()
    optim.SGD([p, still], lr=0.5).step()
    assert np.abs(p.data - (before - 0.5)).max() < 1e-15
    assert (still.data == 1).all()
    assert (p.data == before - 0.5).all()
"""
    assert run(tmp_path, text).returncode == 0
    rounded = run(tmp_path, text, "--rounding", "1")
    assert rounded.returncode == 1
    assert "assert (p.data == before - 0.5).all()" in rounded.stdout
