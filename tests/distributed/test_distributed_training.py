"""n ranks with batch b / n end with the parameters of one process with batch b."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import distributed_recipes as recipes
import numpy as np
import pytest
from mpi_jobs import needs_mpi, run_well

PROGRAM = Path(recipes.__file__)
JOBS = {
    "float64": recipes.EAGER,
    "compiled": recipes.COMPILED,
    "float32": recipes.SINGLE,
    "others": [*recipes.OTHERS],
}


@cache
def alone(name: str) -> dict[str, Any]:
    return recipes.run(name)


def check(folder: Path, ranks: int, name: str) -> None:
    tolerance = 1e-4 if "float32" in name else 1e-9
    states = [dict(np.load(folder / f"{name}-{rank}.npz")) for rank in range(ranks)]
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        for key, array in state.items():
            assert array.tobytes() == states[0][key].tobytes(), key
    expected = alone(name)
    assert states[0].keys() == expected.keys()
    for key, array in expected.items():
        assert array.dtype == states[0][key].dtype
        np.testing.assert_allclose(states[0][key], array, rtol=0, atol=tolerance, err_msg=key)


@needs_mpi
@pytest.mark.exact
@pytest.mark.parametrize("job", JOBS)
def test_two_ranks_train_as_one_process(tmp_path: Path, job: str) -> None:
    run_well(2, PROGRAM, tmp_path, *JOBS[job])
    for name in JOBS[job]:
        check(tmp_path, 2, name)


@needs_mpi
@pytest.mark.slow
@pytest.mark.exact
@pytest.mark.parametrize("job", ["float64", "compiled"])
def test_three_ranks_train_as_one_process(tmp_path: Path, job: str) -> None:
    run_well(3, PROGRAM, tmp_path, *JOBS[job])
    for name in JOBS[job]:
        check(tmp_path, 3, name)
