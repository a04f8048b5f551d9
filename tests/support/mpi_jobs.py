"""Programs of several ranks: started by mpirun, ended by a time limit, their output kept."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
_BESIDE = Path(sys.executable).with_name("mpirun")
MPIRUN = str(_BESIDE) if _BESIDE.exists() else shutil.which("mpirun")

needs_mpi = pytest.mark.skipif(
    MPIRUN is None or importlib.util.find_spec("mpi4py") is None,
    reason='mpirun is needed: pip install ".[mpi]"',
)
_ANYWHERE = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
"""Open MPI's options for containers: root may start it, with more ranks than cores."""


class Ended(NamedTuple):
    """A job that has ended: mpirun's exit code, and what all ranks wrote to both streams."""

    code: int
    text: str


def start(ranks: int, program: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start a program of several ranks."""
    assert MPIRUN is not None
    given = os.environ | _ANYWHERE | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [MPIRUN, "-n", str(ranks), sys.executable, str(program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=given,
        start_new_session=True,
    )


def ended(job: subprocess.Popen[str], timeout: float = 120.0) -> Ended:
    """Wait for the end of a job; after `timeout` seconds it counts as hanging and is killed."""
    try:
        text, _ = job.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        text, _ = job.communicate()
        pytest.fail(f"the job hangs; it wrote:\n{text}")
    return Ended(job.returncode, text)


def run(ranks: int, program: Path, *arguments: object, timeout: float = 120.0) -> Ended:
    """Run a program of several ranks to its end."""
    return ended(start(ranks, program, *arguments), timeout)


def run_well(ranks: int, program: Path, *arguments: object) -> str:
    """The same for a program that must end without an error. Returns what it wrote."""
    result = run(ranks, program, *arguments)
    assert result.code == 0, result.text
    return result.text
