"""What ranks share and what they have of their own: parameters, random numbers, kernels, files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import distributed_checks
import numpy as np
import pytest
from mpi_jobs import ROOT, needs_mpi, run_well

PROGRAM = Path(distributed_checks.__file__)
CHECKS = [
    *("randomness", "broadcast", "reductions", "overlap", "transparent", "second_order", "paused"),
    *(
        "statistics",
        "one_value",
        "half_precision",
        "reduced_kinds",
        "pickled",
        "schedule",
        "fitted",
    ),
    *("local_steps", "scalars", "forked", "communicators"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checks")


@pytest.fixture(scope="module")
def told(folder: Path) -> str:
    return run_well(2, PROGRAM, folder, *CHECKS)


@needs_mpi
@pytest.mark.parametrize("name", CHECKS)
def test_two_ranks(told: str, name: str) -> None:
    assert told.count(f"{name}: fine") == 2, told


@needs_mpi
def test_a_net_can_be_unpickled_before_init(told: str, folder: Path) -> None:
    run_well(2, PROGRAM, folder, "unpickled")
    net = pickle.loads((folder / "net.pickle").read_bytes())
    y = net(np.array([[0.0, 2.0], [4.0, 4.0]], np.float32))
    np.testing.assert_allclose(y.data, [[-1, -1], [1, 1]], atol=1e-4)


@needs_mpi
@pytest.mark.slow
def test_three_ranks(tmp_path: Path) -> None:
    names = [name for name in CHECKS if name not in ("statistics", "one_value", "half_precision")]
    told = run_well(3, PROGRAM, tmp_path, *names)
    assert told.count(": fine") == 3 * len(names), told


@needs_mpi
def test_every_rank_takes_rank_0s_choice_of_kernels(tmp_path: Path) -> None:
    chosen = tmp_path / "choice.py"
    text = "float32=c/numpy,float64=numpy/c"
    chosen.write_text(
        "import os, runpy, sys\n"
        "rank = os.environ.get('OMPI_COMM_WORLD_RANK', os.environ.get('PMI_RANK', '0'))\n"
        f"os.environ['TINYGRAD_KR_PRODUCTS'] = {text!r} if rank == '0' else ''\n"
        f"sys.path.insert(0, {str(PROGRAM.parent)!r})\n"
        f"sys.argv[0] = {str(PROGRAM)!r}\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n",
        encoding="utf-8",
    )
    run_well(2, chosen, tmp_path, "kernels")


@needs_mpi
@pytest.mark.parametrize("ranks", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_run_of_two_ranks_goes_on_with_another_number(tmp_path: Path, ranks: int) -> None:
    run_well(2, PROGRAM, tmp_path, "saved")
    run_well(2, PROGRAM, tmp_path, "resumed")
    run_well(ranks, PROGRAM, tmp_path, "resumed")
    expected = np.load(tmp_path / "resumed-2-0.npz")
    found = np.load(tmp_path / f"resumed-{ranks}-0.npz")
    for name in expected.files:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-12)


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["messages", "compiled"])
def test_the_benchmarks_ranks_run(kind: str) -> None:
    """Each gives a JSON object of figures."""
    told = run_well(2, ROOT / "benchmarks" / "data_parallel.py", "--rank", kind)
    found = json.loads(next(line for line in told.splitlines() if line.startswith("{")))
    assert len(found) >= 3
