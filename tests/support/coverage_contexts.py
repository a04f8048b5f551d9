"""A pytest plugin: coverage.py knows which test ran a line, and a file how long each test took.

`python -m coverage run -m pytest -p coverage_contexts --durations-file FILE`
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

seconds: dict[str, float] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--durations-file", type=Path, help="write the seconds of each test to it")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    measured = coverage.Coverage.current()
    tracer = sys.gettrace()
    if measured is not None:
        measured.switch_context(item.nodeid)
    try:
        return (yield)
    finally:
        if tracer is not None and sys.gettrace() is not tracer:
            sys.settrace(tracer)  # a test that traces lines itself has put it aside
        if measured is not None:
            measured.switch_context("")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    seconds[report.nodeid] = seconds.get(report.nodeid, 0.0) + report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    file = session.config.getoption("durations_file")
    if file is not None and not hasattr(session.config, "workerinput"):
        file.write_text(json.dumps(seconds), encoding="utf-8")
