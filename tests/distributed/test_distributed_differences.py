"""Ranks that come to differ in the midst of training: an error on each, and no wrong result."""

from __future__ import annotations

import re
from pathlib import Path

import distributed_differences
import pytest
from mpi_jobs import needs_mpi, run

PROGRAM = Path(distributed_differences.__file__)
pytestmark = needs_mpi

OTHER_HEAD = "in a compiled step, other parameters have a gradient on some rank than when"
NAMED = {
    "heads": rf"\d failed: {OTHER_HEAD}",
    "paused_heads": rf"\d failed: {OTHER_HEAD}",
    "reduction": r"1 failed: in all_reduce, it has mean of float64\(3,\), rank 0 has mean of "
    r"float64\(4000000,\)",
    "skipped": r"1 failed: in the gradients of SGD, it has parameter 0: "
    r"float32\(300, 600\), rank 0 has parameter 0: float32\(600, 600\)",
    "options": "1 failed: in the gradients of SGD, it has group 0, lr: 0.25, rank 0 has group 0, "
    "lr: 0.5. Let every rank step the same optimizers, with the same options",
    "values": r"1 failed: in the values of SGD, it has parameter 0, .* float32\(3, 5\): values "
    r"with the digest \w+, rank 0 has parameter 0, .*. Call group.broadcast\(net\)",
    "state": r"1 failed: in the values of Adam, it has no state 0, step of weight, "
    r"float32\(3, 5\), rank 0 has state 0, step of weight",
    "state_later": r"1 failed: in the values of Adam, it has state 0, step of weight, "
    r"float32\(3, 5\): 6, rank 0 has state 0, step of weight, float32\(3, 5\): 3",
    "state_once": "1 failed: it is in the values of Adam, rank 0 is in the gradients of Adam. Let "
    "every rank make the same exchanges in the same order, and load a state on every rank",
    "fewer_groups": r"1 failed: in the gradients of SGD, it has no parameter 1, rank 0 has "
    r"parameter 1: float32\(3,\)",
    "swapped": "1 failed: in the gradients of SGD, it has number of the optimizer: 2, rank 0 has "
    "number of the optimizer: 1. Let every rank step the same optimizers",
    "caught": "0 failed: KeyboardInterrupt",
    "caught_as_written": "0 failed: KeyboardInterrupt",
    "raised": "1 failed: ZeroDivisionError: division by zero",
    "infinities": r"0 failed: an infinity in the gradient of weight, float32\(1, 2\), whose mean "
    "with the opposite one of rank 1 is a NaN",
    "overflow": r"0 failed: the sum over the ranks of the gradient of a parameter float64\(3,\) "
    "overflows",
}


@pytest.mark.parametrize("case", NAMED)
def test_ranks_that_differ_end_with_the_same_error(case: str) -> None:
    result = run(2, PROGRAM, case, timeout=60)
    assert result.code != 0, result.text
    assert len(re.findall(f"RankError: rank {NAMED[case]}", result.text)) == 2, result.text
    assert "trained" not in result.text
    assert "AssertionError" not in result.text
    assert "egmentation" not in result.text
    assert "NBC" not in result.text
