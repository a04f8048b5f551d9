"""A rank fails: every rank says so, and nothing hangs."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import distributed_failures
import pytest
from mpi_jobs import Ended, ended, needs_mpi, run, start

PROGRAM = Path(distributed_failures.__file__)
pytestmark = needs_mpi

NAMED = {
    "raises": "ValueError: no such sample",
    "interrupted": "KeyboardInterrupt",
    "interrupted in fit": "KeyboardInterrupt",
    "unreadable": "UnreadableError: its message cannot be read .ValueError.",
    "leaves": "its program ended, while rank \\d is in the gradients of Adam .it made \\d+ "
    "exchanges, rank \\d is in number \\d+.. Let every rank make the same number of steps",
    "nan": "a NaN in the gradient of 0.weight, float32\\(5, 6\\)",
    "shape": "in broadcast of Sequential, it has 0.weight: float32\\(7, 6\\), rank 0 has "
    "0.weight: float32\\(5, 6\\). Build the same net on every rank",
    "asks": "it is in all_reduce, rank 0 is in the gradients of Adam. Let every rank make the same "
    "exchanges in the same order",
    "fewer steps": "it is in epoch 1 of a shuffled sampler .*, rank 0 is in the gradients of Adam",
    "peeks": "it is in epoch 1 of a shuffled sampler .each pass is one; let every rank make it, or "
    "call set_epoch before it., rank 0 is in the values of Adam",
    "another reduction": "in all_reduce, it has mean of float64\\(3,\\), rank 0 has mean of "
    "float64\\(4,\\). Give it values of one shape",
    "silent": "it has been silent for 5 s, while rank \\d waited in the gradients of Adam. If "
    "it was at work, raise init.timeout=.",
    "says": "SystemExit: no such file: train.csv",
    "thread": "its program ended after OSError: disk is gone .in reader., while rank \\d is in the "
    "gradients of Adam",
    "training thread": "OSError: disk is gone .in reader.",
    "caught": "KeyboardInterrupt",
}
"""What every rank says of the one that failed."""


def reports(result: Ended, bad: int, reason: str) -> int:
    """How many ranks name the rank and the reason."""
    return len(re.findall(f"RankError: rank {bad} failed: {reason}", result.text))


def check(ranks: int, failure: str, bad: int, mode: str = "eager") -> None:
    result = run(ranks, PROGRAM, failure, bad, mode, timeout=60)
    assert result.code != 0, result.text
    reason = NAMED[failure]
    # The rank itself shows its own error.
    own = failure in ("raises", "interrupted", "interrupted in fit", "unreadable")
    if own and failure != "unreadable":
        assert re.search(f"^{reason}", result.text, re.M), result.text
    survivors = ranks - 1 if own or failure.startswith("silent") else ranks
    assert reports(result, bad, reason) == survivors, result.text


@pytest.mark.parametrize(
    "failure", ["raises", "leaves", "nan", "shape", "peeks", "unreadable", "interrupted in fit"]
)
def test_every_rank_names_the_rank_that_failed_and_why(failure: str) -> None:
    check(2, failure, 1)


@pytest.mark.slow
@pytest.mark.parametrize("failure", NAMED)
def test_each_of_three_ranks_does(failure: str) -> None:
    check(3, failure, 1)


@pytest.mark.parametrize("mode", ["compiled", pytest.param("eager", marks=pytest.mark.slow)])
def test_ctrl_c_that_a_program_catches_in_an_exchange_ends_it(mode: str) -> None:
    check(2, "caught", 1, mode)


def test_a_text_of_sys_exit_and_an_error_of_a_thread_are_told() -> None:
    check(2, "says", 1)
    check(2, "thread", 1)


def test_a_rank_that_is_done_waits_for_one_that_saves(tmp_path: Path) -> None:
    """Longer than the timeout, and it says so."""
    result = run(2, PROGRAM, "works at the end", 0, "eager", tmp_path, timeout=60)
    assert result.code == 0, result.text
    assert (
        "rank 1: its program has ended, and it waits for the end of rank 0, for 1 s" in result.text
    )
    assert (tmp_path / "net.npz").exists()


def test_ranks_wait_longer_while_rank_0_measures_kernels() -> None:
    result = run(2, PROGRAM, "measures", 0, timeout=60)
    assert result.code == 0, result.text


def test_a_rank_that_ends_before_init_ends_the_job() -> None:
    result = run(2, PROGRAM, "never starts", 1, timeout=60)
    assert result.code != 0
    assert "is done" not in result.text


@pytest.mark.slow
@pytest.mark.parametrize("failure", ["raises", "nan", "leaves"])
def test_ranks_of_a_compiled_step_do(failure: str) -> None:
    check(2, failure, 1, "compiled")


@pytest.mark.slow
@pytest.mark.parametrize("failure", ["raises", "leaves"])
def test_rank_0_may_be_the_one(failure: str) -> None:
    check(2, failure, 0)


@pytest.mark.parametrize("failure", ["killed", "vanishes"])
def test_a_rank_that_dies_ends_the_job(failure: str) -> None:
    result = run(2, PROGRAM, failure, 1, timeout=60)
    assert result.code != 0
    assert "is done" not in result.text


def test_ctrl_c_ends_the_job(tmp_path: Path) -> None:
    job = start(2, PROGRAM, "waits", -1, "eager", tmp_path)
    end = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(job.pid, signal.SIGINT)
    result = ended(job, 30)
    assert result.code != 0
    assert "is done" not in result.text


def test_a_job_without_a_failure_ends_well() -> None:
    result = run(2, PROGRAM, "none", -1, timeout=60)
    assert result.code == 0, result.text
    assert result.text.count("is done") == 2
    assert "MPI_ABORT" not in result.text
