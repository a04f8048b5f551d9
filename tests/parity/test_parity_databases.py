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

REASONS: dict[str, str] = {}
"""What differs and why, at most 20 rows: an operator, or one with what is compared of it.

A row that no longer differs fails.
"""


def check(name: str, differences: Iterable[tuple[str, str]]) -> None:
    """Every difference has a row, and every row of this name a difference."""
    rows = {row for row in REASONS if row.split()[0] == name}
    used, unknown = set(), []
    for where, words in differences:
        what = where.split()[1]
        matching = rows & {name, f"{name} {what}"}
        used |= matching
        if not matching:
            unknown.append(f"{where}: {words}")
    assert not unknown, f"{len(unknown)} differ:\n" + "\n".join(unknown[:8])
    assert rows == used, f"no longer differ: {rows - used}"


def test_there_are_few_reasons() -> None:
    assert len(REASONS) <= 20 and all(REASONS.values())
    names = {*databases.operators(), *database_nets.modules(), *database_nets.optimizers()}
    assert {row.split()[0] for row in REASONS} <= names


ENTRIES = databases.operators() | database_nets.modules()


@pytest.mark.parametrize("name", ENTRIES)
def test_samples(name: str) -> None:
    report = databases.report_on(ENTRIES[name])
    check(name, report.differences.items())
    assert report.agree or name in REASONS, report.unsupported
    assert set(report.unsupported) <= databases.KINDS


@pytest.mark.parametrize("name", database_nets.optimizers())
def test_optimizer(name: str) -> None:
    check(name, database_nets.optimizer_differences(name))
