"""What every test gets: a seed, and a check that it left the library's global state as it was.

Also the options `--rounding SEED`, `--vectors NAME` and `--expected-skips FILE`, and the marker
`one_in`.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads spin where a neighbour is busy
os.environ.setdefault("PYTHONIOENCODING", "utf-8")  # of child processes, whose output tests read
os.environ.setdefault("TINYGRAD_KR_LANG", "en")
os.environ.setdefault(
    "TINYGRAD_KR_PRODUCTS", "c"
)  # tests of the kernels want these on each machine

import numpy as np
import pytest
import rounding
from hypothesis import HealthCheck, settings
from numpy_alone import left_to_numpy

from tinygrad_kr import numpy_protocol as numpy_protocol  # its table fills when first used
from tinygrad_kr.native import deadline
from tinygrad_kr.ops.node import NodeType, grad_mode
from tinygrad_kr.ops.op import numpy_table
from tinygrad_kr.random import default_generator, manual_seed

deadline.SECONDS = 300.0  # machines that run tests are busy; test_compile_limits sets its own
settings.register_profile(
    "default",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def global_state() -> dict[str, Any]:
    """Everything that a test may change for the tests after it, by name."""
    return {
        "grad mode": grad_mode.get(),
        "NumPy's error state": (np.geterr(), np.geterrcall()),
        "NumPy's print options": np.get_printoptions(),
        "the class of results": NodeType.cls,
        "the default generator": id(default_generator()),
        "the table of NumPy functions": dict(numpy_table),
        "what C computes": left_to_numpy(),
    }


def leaks(before: dict[str, Any]) -> list[str]:
    """The names of what is no longer as it was."""
    after = global_state()
    return [name for name, value in before.items() if after[name] != value]


@pytest.fixture(autouse=True)
def _global_state_kept() -> Iterator[None]:
    manual_seed(0)
    before = global_state()
    yield
    left = leaks(before)
    assert not left, f"this test leaked {', '.join(left)}"


@pytest.fixture
def own_numpy_table() -> Iterator[None]:
    """For tests that define ops on NumPy's own functions: puts the table back."""
    before = dict(numpy_table)
    yield
    numpy_table.clear()
    numpy_table.update(before)


# ------------------------------------------------------------------ the suite as a whole


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tinygrad_kr")
    group.addoption(
        "--rounding",
        type=int,
        metavar="SEED",
        help="round every optimizer step differently, as another processor may",
    )
    group.addoption(
        "--vectors",
        choices=["avx512", "avx2", "none"],
        help="the widest vectors that C uses on x86-64 ($TINYGRAD_KR_VECTORS)",
    )
    group.addoption(
        "--expected-skips",
        type=Path,
        metavar="FILE",
        help="fail if a test is skipped for a reason that begins with no line of FILE",
    )


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # A shell starts what runs in its background deaf to Ctrl-C, and children inherit that.
        with suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if (vectors := config.getoption("vectors")) is not None:
        os.environ["TINYGRAD_KR_VECTORS"] = vectors
    seed = config.getoption("rounding")
    if seed is not None:
        rounding.perturb(seed)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the cases of a test marked `one_in(n)`, the first of every n is ordinary."""
    seen: Counter[str] = Counter()
    for item in items:
        mark = item.get_closest_marker("one_in")
        if mark is not None:
            test = item.nodeid.partition("[")[0]
            if seen[test] % mark.args[0]:
                item.add_marker(pytest.mark.slow)
            seen[test] += 1


def expected_reasons(file: Path) -> list[str]:
    """The beginnings of reasons that a file lists; empty lines and `#` lines are comments."""
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def reason_of(report: Any) -> str:
    """Why a test, or a file, was skipped."""
    place_and_reason = report.longrepr
    said = place_and_reason[-1] if isinstance(place_and_reason, tuple) else str(place_and_reason)
    return str(said).removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    unexpected = unexpected_skips(terminalreporter, config)
    if unexpected:
        terminalreporter.section("unexpected skips", red=True)
        for node, reason in unexpected:
            terminalreporter.line(f"{node}: {reason}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    fine = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    if reporter is None or session.exitstatus not in fine:
        return
    if unexpected_skips(reporter, session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def unexpected_skips(reporter: Any, config: pytest.Config) -> list[tuple[str, str]]:
    """Tests that were skipped for no reason listed in `--expected-skips`; none without a list."""
    file = config.getoption("expected_skips")
    if file is None or hasattr(config, "workerinput"):
        return []
    expected = tuple(expected_reasons(file))
    skips = [(report.nodeid, reason_of(report)) for report in reporter.stats.get("skipped", [])]
    return [(node, reason) for node, reason in skips if not reason.startswith(expected)]
