"""Timing by turns: each framework in a process of its own, so that no two thread pools meet."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import frameworks


class Worker:
    """A process that does one kind of work when told to."""

    def __init__(self, framework: str, key: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, framework, key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.length = 1
        self.turns: list[float] = []

    def able(self) -> bool:
        """Whether the framework can do such work; waits until it is warm."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip() == "ready"

    def run(self, steps: int) -> float:
        """Seconds that a step took, over so many of them."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline()) / steps

    def turn(self) -> None:
        """One more measurement, of about 50 ms."""
        time.sleep(0.1)  # until the idle threads of the others have stopped spinning
        self.run(1)
        self.turns.append(self.run(self.length))

    def close(self) -> None:
        self.process.communicate("")


def work(framework: str, key: str) -> None:
    """The other end of a `Worker`: reads numbers of steps, writes the seconds they took."""
    step = frameworks.make(framework, key)
    for _ in range(5 if step else 0):
        step()  # type: ignore[misc]
    print("ready" if step else "unable", flush=True)
    for line in sys.stdin:
        steps = range(int(line))
        start = time.perf_counter()
        for _ in steps:
            step()  # type: ignore[misc]
        print(time.perf_counter() - start, flush=True)


def time_in_turn(names: list[str], key: str, seconds: float) -> dict[str, float]:
    """Median seconds of one step for each framework that can do it, seven turns at least."""
    started = {name: Worker(name, key) for name in names}
    workers = {name: worker for name, worker in started.items() if worker.able()}
    for worker in workers.values():
        worker.length = max(1, int(0.05 / worker.run(5)))
    end = time.perf_counter() + seconds
    while workers and (time.perf_counter() < end or len(worker.turns) < 7):
        for worker in workers.values():
            worker.turn()
    for worker in started.values():
        worker.close()
    return {name: statistics.median(worker.turns) for name, worker in workers.items()}


# ------------------------------------------------------------------ once in a process of its own


def in_new_process(code: str, environment: dict[str, str] | None = None) -> str | None:
    """What a program prints that finds the modules of this folder; None where it fails."""
    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {folder!r})\n{code}"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        encoding="utf-8",
    )
    return done.stdout if done.returncode == 0 else None


if __name__ == "__main__":
    work(*sys.argv[1:3])
