"""PyTorch's operator, module, optimizer and schedule databases: nothing differs but what is listed.

`databases.py` and `database_nets.py` compare; run as programs they print tables.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="the databases import it")

import database_nets  # noqa: E402
import databases  # noqa: E402

ORDER = "PyTorch leaves the order of equal elements open; ours is the one they had."
MEANS = "PyTorch cuts off the fraction of a mean of integers."
BASIS = "Of further singular vectors, any that complete a basis, PyTorch takes the derivative as 0."
DENOMINATOR = "PyTorch adds 1e-12 to the denominator of the second derivative."
REASONS: dict[str, tuple[str, str]] = {
    "__rpow__ int64 value": (
        "negative integer powers",
        "PyTorch gives 0 for a negative power of an integer; NumPy and we raise.",
    ),
    "argsort bool value": ("", ORDER),
    "sort bool value": ("", ORDER),
    "topk int64 value": ("", ORDER),
    "kthvalue int64 value": ("", ORDER),
    "mode value": ("", ORDER),
    "cat value": ("(0,)", "PyTorch leaves out arrays of shape (0,), for its oldest programs."),
    "gather value": ("uint8(2, 0)", "PyTorch takes an empty index of any shape."),
    "nn.functional.avg_pool1d int64 value": ("dtype", MEANS),
    "nn.functional.avg_pool2d int64 value": ("dtype", MEANS),
    "nn.functional.batch_norm value": ("got shape (0,)", "PyTorch takes an empty vector."),
    "BCELoss float64 second": ("", DENOMINATOR),
    "nn.functional.binary_cross_entropy float64 second": ("", DENOMINATOR),
    "nn.functional.hardsigmoid first": ("", "PyTorch has 1 / 6 in float32, also for float64."),
    "linalg.norm.subgradients_at_zero first": (
        "",
        "Of a singular matrix PyTorch takes any singular vectors; ours is the least subgradient.",
    ),
    "linalg.norm.subgradients_at_zero second": (
        "nan for 0.0",
        "A norm has no second derivative at 0: NaN. PyTorch gives 0.",
    ),
    "linalg.svd value": ("derivative of full matrices", BASIS),
    "tensordot value": (
        "expected equal sizes",
        "PyTorch repeats an axis of size 1; NumPy and we refuse sizes that differ.",
    ),
}
"""What differs: an operator and where, a part of the words, and why. At most 20 rows.

Where is what is compared, a dtype, or both. A row that no longer differs fails.
"""


def check(name: str, differences: Iterable[tuple[str, str]]) -> None:
    """Every difference has a row, and every row of this name a difference."""
    used, unknown = set(), []
    for where, words in differences:
        dtype, what = where.split()[:2]
        rows = {f"{name} {what}", f"{name} {dtype}", f"{name} {dtype} {what}"} & REASONS.keys()
        fitting = {row for row in rows if REASONS[row][0] in words}
        used |= fitting
        if not fitting:
            unknown.append(f"{where}: {words}")
    assert not unknown, f"{len(unknown)} differ:\n" + "\n".join(unknown[:8])
    unused = {row for row in REASONS if row.split()[0] == name} - used
    assert not unused, f"no longer differ: {unused}"


def test_there_are_few_reasons() -> None:
    assert len(REASONS) <= 20 and all(reason for _, reason in REASONS.values())
    names = {*databases.operators(), *database_nets.modules(), *database_nets.optimizers()}
    assert {row.split()[0] for row in REASONS} <= names


ENTRIES = databases.operators() | database_nets.modules()


@pytest.mark.parametrize("name", ENTRIES)
def test_samples(name: str) -> None:
    report = databases.report_on(ENTRIES[name])
    check(name, report.differences.items())
    assert report.agree or report.samples == report.unsupported.total(), report.unsupported
    assert set(report.unsupported) <= databases.KINDS


@pytest.mark.parametrize("name", database_nets.optimizers())
def test_optimizer(name: str) -> None:
    check(name, database_nets.optimizer_differences(name))
