"""Mutation testing: how many drawn faults of the package turn a test red.

    python tests/mutation.py measure                      # which test runs which line; once
    python tests/mutation.py --seed 1 --mutants 500

Mutants come from `tests/support/mutants.py`. The tests of a mutant are those that run its line:
one of each test function first, quick ones first. One pytest process collects the tests. For each
mutant it forks a process, which changes the live functions and runs the tests until one fails.

The results are in `out/mutation/`: `SEED.json`, a line for each mutant. Survivors that are argued
stand in `tests/mutation_survivors.toml`. Exit status 1: fewer than `--least` percent are caught.
Needs `os.fork` and `pip install -e ".[test,proof]"`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import pytest  # noqa: E402
from mutants import Mutant, changes_of, draw, mutated  # noqa: E402

FOLDER = ROOT / "out" / "mutation"
ARGUED = ROOT / "tests" / "mutation_survivors.toml"
PARTS = ("ops", "tensor", "autodiff", "optim", "functional", "arrays")
SUITE = ("ops", "arrays", "tensor", "functional", "optim", "autodiff", "nn", "compile", "data")
LEFT_OUT = ("test_mutations.py", "test_interrupts.py", "test_native")
"""Tests that change the package themselves, or end their own process."""
UNMEASURED = "tests/compile/test_compile_injection.py"
"""Names files so that coverage.py cannot open them."""
CPU_SECONDS = 30
"""Limit of one test, on top of ten times what it took when it was measured."""
MEMORY = 8 << 30
"""Limit of a process's address space, in bytes."""


# ------------------------------------------------------------------ which test runs which line


def measure(workers: str) -> None:
    """Run the suite under coverage.py, with a context for each test."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("coverage*"):
        old.unlink()
    paths = ":".join([str(ROOT), str(ROOT / "tests/support"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "CI": "1"}
    data = f"--data-file={FOLDER / 'coverage'}"
    coverage = [sys.executable, "-m", "coverage"]
    options = ["-p", "coverage_contexts", f"--durations-file={FOLDER / 'durations.json'}"]
    ignored = f"--ignore={UNMEASURED}"
    command = [*coverage, "run", data, "-m", "pytest", *options, "-n", workers, ignored, "tests"]
    subprocess.run(command, cwd=ROOT, env=environment, check=False)
    subprocess.run([*coverage, "combine", data, str(FOLDER)], cwd=ROOT, check=True)


def tests_of_lines() -> dict[str, dict[int, list[str]]]:
    """For each file and line the tests that run it. A branch counts for both of its ends."""
    found: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    with sqlite3.connect(FOLDER / "coverage") as data:
        rows = data.execute(
            "select distinct path, context, fromno, tono from arc join file on file.id = file_id"
            " join context on context.id = context_id where context != ''"
        )
        for path, context, start, end in rows:
            lines = found[Path(path).as_posix()]
            for line in {abs(start), abs(end)}:
                if not lines[line] or lines[line][-1] != context:
                    lines[line].append(context)
    return found


def order(tests: set[str], seconds: dict[str, float], budget: float) -> list[str]:
    """One case of each test function, then a second, ...: quick ones first, within the budget."""
    groups: dict[str, list[str]] = defaultdict(list)
    for test in sorted(tests, key=lambda name: (seconds.get(name, 1.0), name)):
        groups[test.partition("[")[0]].append(test)
    ranked = sorted(
        (i, seconds.get(test, 1.0), test)
        for group in groups.values()
        for i, test in enumerate(group)
    )
    chosen = []
    for _, duration, test in ranked:
        budget -= duration
        if budget < 0 and chosen:
            break
        chosen.append(test)
    return chosen


# ------------------------------------------------------------------ one mutant, in a process


def run_tests(items: list[Any], seconds: dict[str, float], pipe: int) -> None:
    """Run tests until one fails, whose name goes to the pipe. Does not return."""
    from _pytest.runner import runtestprotocol

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)
    for item, following in zip(items, [*items[1:], None], strict=True):
        os.write(pipe, f"{item.nodeid}\n".encode())
        limit = CPU_SECONDS + 10 * seconds.get(item.nodeid, 1.0)
        signal.setitimer(signal.ITIMER_PROF, limit)
        reports = runtestprotocol(item, nextitem=following, log=False)
        if any(report.failed for report in reports):
            os._exit(1)
    os._exit(0)


class Child:
    """A forked process that runs tests, with a mutant or without."""

    def __init__(
        self, items: list[Any], seconds: dict[str, float], mutant: Mutant | None, wall: float
    ) -> None:
        self.mutant, self.deadline = mutant, time.monotonic() + wall
        self.items = items
        self.read, write = os.pipe()
        os.set_inheritable(write, True)
        self.pid = os.fork()
        if self.pid:
            os.close(write)
            return
        code = 3
        try:
            if mutant is None:
                run_tests(items, seconds, write)
            else:
                with mutated(mutant) as touched:
                    if touched:
                        run_tests(items, seconds, write)
        except BaseException:
            code = 4
        os._exit(code)

    def finished(self) -> tuple[str, str] | None:
        """What became of it and the last test it began; None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        late = time.monotonic() > self.deadline
        if not pid and late:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            pid, status = os.waitpid(self.pid, 0)
        if not pid:
            return None
        with os.fdopen(self.read, encoding="utf-8") as pipe:
            names = pipe.read().split("\n")
        last = names[-2] if len(names) > 1 else ""
        if os.WIFSIGNALED(status):
            ended = os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGKILL)
            return ("timeout" if ended else "crash"), last
        code = os.WEXITSTATUS(status)
        return {0: "survived", 1: "caught", 3: "unapplied"}.get(code, "crash"), last


class Server:
    """A pytest plugin that tests mutants in place of running the collected tests."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.results: list[dict[str, Any]] = []
        self.sound: dict[str, bool] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        self.seconds = json.loads((FOLDER / "durations.json").read_text(encoding="utf-8"))
        self.lines = tests_of_lines()
        waiting = iter(self.chosen())
        running: list[tuple[Child, dict[str, Any], list[Any]]] = []
        while True:
            while len(running) < self.options.workers and (row := next(waiting, None)):
                tests = self.tests_for(row["mutant"])
                row["chosen"] = len(tests)
                if not tests:
                    self.report({**row, "verdict": "survived", "test": ""})
                    continue
                running.append((self.child(row["mutant"], tests), row, tests))
            if not running:
                return True
            for entry in list(running):
                child, row, tests = entry
                ended = child.finished()
                if ended is None:
                    continue
                running.remove(entry)
                verdict, last = ended
                if verdict in ("caught", "timeout", "crash") and last and not self.is_sound(last):
                    rest = tests[[t.nodeid for t in tests].index(last) + 1 :]
                    if rest:
                        running.append((self.child(row["mutant"], rest), row, rest))
                        continue
                    verdict = "survived"
                self.report({**row, "verdict": verdict, "test": last})
            time.sleep(0.02)

    def child(self, mutant: Mutant | None, tests: list[Any]) -> Child:
        return Child(tests, self.seconds, mutant, self.options.wall)

    def chosen(self) -> Iterator[dict[str, Any]]:
        only = self.options.only
        drawn = draw(self.options.seed, self.options.mutants, PARTS)
        for i, mutant in enumerate(drawn):
            if (not only or i in only) and i >= self.options.start:
                yield {"number": i, "mutant": mutant}

    def tests_for(self, mutant: Mutant) -> list[Any]:
        changes = changes_of(mutant)
        assert changes is not None
        lines = self.lines.get(mutant.file, {})
        tests = {test for line in changes.lines for test in lines.get(line, [])}
        known = {test for test in tests if test in self.items}
        if not known:  # the line runs when the module is imported: its constants serve the others
            known = {test for found in lines.values() for test in found if test in self.items}
        return [self.items[test] for test in order(known, self.seconds, self.options.seconds)]

    def is_sound(self, test: str) -> bool:
        """Whether a test that failed with a mutant passes by itself without one."""
        if test not in self.sound:
            child = self.child(None, [self.items[test]])
            while (ended := child.finished()) is None:
                time.sleep(0.02)
            self.sound[test] = ended[0] == "survived"
        return self.sound[test]

    def report(self, row: dict[str, Any]) -> None:
        mutant = row["mutant"]
        self.results.append(row)
        shown = (
            "\n    ".join(["", *mutant.diff]) if row["verdict"] in ("survived", "unapplied") else ""
        )
        print(
            f"{row['number']:4d} {row['verdict']:9} {mutant.file}:{mutant.line} {mutant.kind} "
            f"({row['chosen']} tests) {row['test'] if not shown else ''}{shown}",
            flush=True,
        )


# ------------------------------------------------------------------ the command


def argued_rows() -> list[dict[str, str]]:
    """The survivors that are argued: file, the lines of the diff, and why no test can tell."""
    if not ARGUED.exists():
        return []
    return list(tomllib.loads(ARGUED.read_text(encoding="utf-8"))["survivor"])


def is_argued(mutant: Mutant, rows: list[dict[str, str]]) -> bool:
    diff = [line[:1] + line[1:].strip() for line in mutant.diff]
    return any(row["file"] == mutant.file and row["diff"].split("\n") == diff for row in rows)


def summary(results: list[dict[str, Any]], least: float) -> int:
    rows = argued_rows()
    survivors = [row for row in results if row["verdict"] == "survived"]
    open_rows = [row for row in survivors if not is_argued(row["mutant"], rows)]
    caught = [row for row in results if row["verdict"] not in ("survived", "unapplied")]
    share = 100 * len(caught) / max(1, len(results))
    print(
        f"{len(results)} mutants, {len(caught)} caught ({share:.1f} %), {len(survivors)} survived"
    )
    print(
        f"of the survivors {len(survivors) - len(open_rows)} are argued, {len(open_rows)} are not:"
    )
    for row in open_rows:
        print(f"  {row['number']} {row['mutant'].file}:{row['mutant'].line}")
        print("\n".join(f"    {line}" for line in row["mutant"].diff))
    return int(share < least or bool(open_rows))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("task", nargs="?", choices=["measure", "test"], default="test")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutants", type=int, default=500)
    parser.add_argument("--start", type=int, default=0, help="number of the first that is tested")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of those that are tested")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=120, help="of measured tests per mutant")
    parser.add_argument("--wall", type=float, default=1800, help="limit for a mutant, in seconds")
    parser.add_argument("--least", type=float, default=95, help="percent to be caught")
    options = parser.parse_args()
    if options.task == "measure" or not (FOLDER / "durations.json").exists():
        measure(str(options.workers))
        if options.task == "measure":
            return 0
    os.environ["CI"] = "1"  # Hypothesis draws the same examples each time and stores none
    os.chdir(ROOT)
    server = Server(options)
    ignored = [f"--ignore-glob=**/{name}*" for name in LEFT_OUT]
    suite = [f"tests/{name}" for name in SUITE]
    pytest.main(
        ["-p", "no:cacheprovider", "-p", "no:xdist", "-s", *ignored, *suite], plugins=[server]
    )
    results = sorted(server.results, key=lambda row: row["number"])
    shown = [{**row, "mutant": asdict(row["mutant"])} for row in results]
    (FOLDER / f"{options.seed}.json").write_text(json.dumps(shown, indent=1), encoding="utf-8")
    return summary(results, options.least)


if __name__ == "__main__":
    sys.exit(main())
