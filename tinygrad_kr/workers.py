"""Work in other processes of this machine, with errors that name the call that failed."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future, ProcessPoolExecutor


MOST_ON_WINDOWS = 61
"""Limit of `concurrent.futures` on Windows; processes."""


class WorkerDiedError(RuntimeError):
    """A process ended in the middle of its work, so there is no result and no traceback.

    lost: the indices of the calls without a result. done: the results that were finished.

    >>> tk.sweep.WorkerDiedError("a process died", lost=[3]).lost
    [3]
    """

    def __init__(self, message: str, lost: Sequence[int] = (), done: Any = None) -> None:
        super().__init__(message)
        self.lost, self.done = lost, done


def finished(
    function: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
    *,
    executor: Executor | None = None,
    jobs: int = 1,
    name: Callable[[int], str] = "call {}".format,
) -> Generator[tuple[int, Any], None, None]:
    """(index, function(*calls[index])) for every call, as each is finished.

    jobs: 1 runs the calls here, in order. More start that many processes with one BLAS thread each.
    executor: does the work instead, and is left open. name: the name of a call in errors.

    Closing the iterator, or an exception while it waits (Ctrl-C), cancels calls that have not
    started and ends the processes. Use it in `with contextlib.closing(finished(...)) as results:`.

    Raises WorkerDiedError, after all that was finished, if a process ends before its work does.
    """
    if executor is None and jobs == 1:
        for index, arguments in enumerate(calls):
            yield index, function(*arguments)
        return
    left = set(range(len(calls)))
    if executor is not None:
        futures = _submitted(executor, function, calls)
        try:
            yield from _as_completed(futures, left)
        finally:
            for future in futures:
                future.cancel()
        if left:
            raise _died(sorted(left), name)
        return
    _check_sendable(function, *(calls[0] if calls else ()))
    with _processes(min(jobs, max(len(calls), 1))) as pool:
        futures = _submitted(pool, function, calls)
        processes = list(pool._processes.values())
        yield from _as_completed(futures, left)
    if left:
        # Calls start in order, so each process was at one of the first that are left.
        raise _died(sorted(left), name, [p.exitcode for p in processes], len(processes))


def _submitted(
    executor: Executor, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]
) -> dict[Future[Any], int]:
    from concurrent.futures import BrokenExecutor

    futures: dict[Future[Any], int] = {}
    with _one_blas_thread(), suppress(BrokenExecutor):
        for index, call in enumerate(calls):
            futures[executor.submit(function, *call)] = index
    return futures


def _as_completed(futures: dict[Future[Any], int], left: set[int]) -> Iterator[tuple[int, Any]]:
    """The finished calls, which are removed from `left`. The calls of a dead process stay there."""
    from concurrent.futures import BrokenExecutor, as_completed

    for future in as_completed(futures):
        try:
            result = future.result()
        except BrokenExecutor:
            continue
        left.remove(futures[future])
        yield futures[future], result


def _died(
    lost: list[int],
    name: Callable[[int], str],
    codes: Sequence[int | None] = (),
    processes: int | None = None,
) -> WorkerDiedError:
    """The error, with the exit of the process that died by itself: the others got our SIGTERM."""
    ends = sorted((code for code in codes if code), key=lambda code: code == -signal.SIGTERM)
    code = ends[0] if ends else None
    how = "" if code is None else f" (exit code {code})" if code > 0 else f" (signal {-code})"
    fix = "its output, if any, is above; jobs=1 runs without processes"
    if code == -9:
        fix = "most often memory was short: use fewer jobs or smaller chunks"
    elif code == 1:
        fix += '; a script must guard its start with `if __name__ == "__main__":`'
    at = " or ".join(name(index) for index in lost[:processes])
    return WorkerDiedError(
        f"a process died{how} at {at}: {fix}. The finished results are in `done` of this error",
        lost,
    )


@contextmanager
def _processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes that ignore Ctrl-C, and are ended at once by an exception here."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    if sys.platform == "win32":
        jobs = min(jobs, MOST_ON_WINDOWS)
    pool = ProcessPoolExecutor(
        jobs, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)
    )
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown()


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """One BLAS thread for processes that start now: several processes already share the cores.

    They multiply by the kernels that this process has chosen, so results have the same bits.
    """
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    wanted = dict.fromkeys(names, "1")
    if (choice := sys.modules.get("tinygrad_kr.native.choice")) and (said := choice.settled()):
        wanted[choice.VARIABLE] = said
    ours = [name for name in wanted if name not in os.environ]
    os.environ.update({name: wanted[name] for name in ours})
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def _check_sendable(*values: Any) -> None:
    """Refuse values that cannot be pickled, before a process is started."""
    how = (
        "define functions at the top level of a file, or use jobs=1, or give an executor of "
        "threads (concurrent.futures.ThreadPoolExecutor)"
    )
    for value in values:
        try:
            pickle.dumps(value)
        except Exception as error:
            raise ValueError(
                f"workers: expected what can be pickled for another process, got {value!r}: {how}"
            ) from error
        if getattr(value, "__module__", "") == "__main__" and not hasattr(
            sys.modules["__main__"], "__file__"
        ):
            raise ValueError(
                f"workers: expected a function of a file, which other processes can import, got "
                f"{value!r}: {how}"
            )
